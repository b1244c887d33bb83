"""Calibration: from measured errors and latents to one score with a false-alarm budget.

**Parts of a score.** Per window length the mean of the largest k standardised channel errors; per length
the latent pair (KL and largest |z|); the newest row's largest standardised residual. Each becomes g = -log
p against held-out normal data (``tails``). The score is the root mean square of the g, the latent pair of a
length counted once. A part without evidence is left out.

**Threshold.** The lowest T whose replay through the alarm machine opens at most the episodes that the budget allows
for the held-out rows, and by so much more that as long a time to come is expected to open no more, either (``thresholds``,
which also finds it again for another budget). An unlabelled incident in the
training data then costs one episode instead of determining the tail. An episode closes at the smaller of ``hysteresis``
T and the score that 99 % of the held-out rows do not exceed, in the replay as on the stream. A part of the budget is kept
for the jumps of single sensors, which open an episode beside the score (``jumps``). A budget that all assets of a
stream share is not divided among them: one threshold, at which all of them together open no more than it allows,
lets each open as many as it needs, which is the division that finds most.

The same rows are replayed a second time as the deployed models measure them, and the larger T counts. What
recurs in the training data (a start each morning, the end of each batch) has nearly the same score each time,
so T often lies just above it; each fit gives it another score, that of the deployed models among them, and
without the second replay each later recurrence may be a false alarm. Rows that a model was fitted on score
low rather than high, so this replay alone would be too optimistic.

Inputs are the measurements of ``crossfit``; errors are divided by the slow baseline (``baseline``) first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.budget import Budget
from daemon.domain import DAY_NS, AlarmPolicy, Floats
from daemon.model import jumps
from daemon.model.baseline import BASELINE_RATE, own_levels, own_offsets, replay_baselines
from daemon.model.crossfit import CrossFit, HeldOutPiece, by_piece
from daemon.model.tails import Tail
from daemon.model.thresholds import Replays, ScoreSearch, ScoreThresholds, usual_level

ERROR_OFFSET = 0.02  # keeps log(error) finite
LATENT_OFFSET = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of B windows, adjusted by the baseline; NaN where there is no evidence."""

    top: Floats  # (S, B) mean of the largest k standardised channel errors
    latent: Floats  # (S, B, 2)
    point: Floats  # (B,)
    standardised: Floats  # (B, C) channel errors of the longest windows

    @property
    def reconstruction(self) -> Floats:
        """(B,) mean over the lengths that have evidence."""
        seen = np.isfinite(self.top)
        if seen.all():
            return np.asarray(self.top.sum(0) / len(self.top))
        count = seen.sum(0)
        total = np.where(seen, self.top, 0.0).sum(0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """The fitted values that turn ``Measured`` into scores. Shapes: S lengths, C sensors."""

    error_level: Floats  # (S, C) median of log(error + .02)
    error_mean: Floats  # (S, C)
    error_sd: Floats  # (S, C)
    latent_level: Floats  # (S, 2) median of log(latent + .5)
    residual_rms: Floats  # (C,) of the newest row, scaled units
    top: tuple[Tail, ...]  # S
    latent: tuple[tuple[Tail, Tail], ...]  # S pairs
    point: Tail
    reconstruction: Tail  # of the published mean over the lengths
    step: float  # largest move of the baseline per row, nats
    threshold: float  # an episode opens above it
    closing: float  # and closes at this score, see ``closing_level``
    jump_limit: Floats  # (C,) a change of a sensor's residual above it opens one, too; see ``jumps``
    provisional: bool  # the threshold is the largest score: fewer days than one false episode of scores takes
    days: float  # asset-days that were replayed ...
    assets: int  # ... of so many assets
    carried: Mapping[str, tuple[int, Floats]]  # asset -> the row after its last, its state (P,)
    asset_levels: Mapping[str, Floats] = field(default_factory=dict)  # (P,) nats over the medians
    condition_levels: Mapping[str, Floats] = field(default_factory=dict)  # likewise, on top
    search: ScoreSearch | None = None  # what the thresholds were found from; None: they stay as they are

    def for_budget(self, budget: Budget) -> Calibration:
        """The same with the thresholds that calibration would have found for this budget."""
        if self.search is None or self.search.budget == budget:
            return self
        found = self.search.found(budget, self.days, self.assets)
        if not 0.0 < found.threshold < np.inf:  # a budget of most rows, where most score nothing; or no curve
            return self
        changes = {name: getattr(found, name) for name in ScoreThresholds.__slots__}
        return _with(self, {**changes, "search": replace(self.search, budget=budget)})

    @property
    def states(self) -> int:
        """P = S*C + 2*S."""
        return self.error_level.size + self.latent_level.size

    def excess(self, error: Floats, latent: Floats) -> Floats:
        """(S, B, C) and (S, B, 2) to (B, P): log levels over the calibration medians."""
        count = error.shape[1]
        errors = np.log(error + ERROR_OFFSET) - self.error_level[:, None]
        latents = np.log(latent + LATENT_OFFSET) - self.latent_level[:, None]
        return np.concatenate(
            [
                errors.transpose(1, 0, 2).reshape(count, self.error_level.size),
                latents.transpose(1, 0, 2).reshape(count, self.latent_level.size),
            ],
            1,
        )

    def own(self, assets: Iterable[str], conditions: Iterable[str] | None) -> Floats:
        """(B, P) own offsets of windows with these assets and condition labels."""
        return own_offsets(self.asset_levels, self.condition_levels, assets, conditions, self.states)

    def parts(self, error: Floats, latent: Floats, residual: Floats, offsets: Floats | None) -> Parts:
        """Divide by the baseline and standardise.

        Args:
            error: (S, B, C).
            latent: (S, B, 2).
            residual: (B, C) in units of ``residual_rms``.
            offsets: (B, P), or None for the static score.
        """
        lengths, count, channels = error.shape
        if offsets is not None:
            shrink = np.exp(-offsets)
            cut = lengths * channels
            by_error = shrink[:, :cut].reshape(count, lengths, channels).transpose(1, 0, 2)
            by_latent = shrink[:, cut:].reshape(count, lengths, 2).transpose(1, 0, 2)
            error = error * by_error
            residual = residual * by_error[-1]
            latent = (latent + LATENT_OFFSET) * by_latent - LATENT_OFFSET
        scaling = (error - self.error_mean[:, None]) / self.error_sd[:, None]
        return Parts(
            top=np.stack([top_mean(one, top_count(channels)) for one in scaling]),
            latent=latent,
            point=_largest(np.abs(residual)),
            standardised=scaling[-1],
        )

    def nats(self, parts: Parts) -> Floats:
        """(S + 1 + 2S, B) -log p of each part: the errors by length, the point, the latents by length."""
        rows = [tail(values) for tail, values in zip(self.top, parts.top, strict=True)]
        rows.append(self.point(parts.point))
        for pair, values in zip(self.latent, parts.latent, strict=True):
            rows += [pair[0](values[:, 0]), pair[1](values[:, 1])]
        return np.stack(rows)

    def combined(self, nats: Floats) -> Floats:
        """(B,) root mean square of ``nats`` over the parts with evidence; NaN without any."""
        errors = len(self.top) + 1
        squares = nats * nats
        table = np.concatenate([squares[:errors], (squares[errors::2] + squares[errors + 1 :: 2]) / 2.0])
        seen = np.isfinite(table)
        if seen.all():
            return np.asarray(np.sqrt(table.sum(0) / len(table)))
        count = seen.sum(0)
        total = np.where(seen, table, 0.0).sum(0)
        return np.where(count > 0, np.sqrt(total / np.maximum(count, 1)), np.nan)

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays in a bundle, beside ``facts``."""
        result = {
            "error_level": self.error_level,
            "error_mean": self.error_mean,
            "error_sd": self.error_sd,
            "latent_level": self.latent_level,
            "residual_rms": self.residual_rms,
            "jump_limit": self.jump_limit,
            "carried": self._table([state for _, state in self.carried.values()]),
            "asset_levels": self._table(list(self.asset_levels.values())),
            "condition_levels": self._table(list(self.condition_levels.values())),
        }
        if self.search is not None:
            result |= {f"search.{name}": array for name, array in self.search.arrays().items()}
        for name, tail in self._tails():
            result[f"{name}.value"], result[f"{name}.nats"] = tail.value, tail.nats
            result[f"{name}.excess"] = np.array([tail.excess])
        return result

    def _table(self, rows: Sequence[Floats]) -> Floats:
        return np.stack(rows) if rows else np.zeros((0, self.states))

    def facts(self) -> dict[str, object]:
        """Its entries in a bundle's manifest."""
        return {
            "threshold": self.threshold,
            "closing": self.closing,
            "provisional": self.provisional,
            "baseline_step": self.step,
            "asset_days": self.days,
            "assets": self.assets,
            "carried": [[asset, row] for asset, (row, _) in self.carried.items()],
            "own_levels": {"assets": list(self.asset_levels), "conditions": list(self.condition_levels)},
            "search": None if self.search is None else self.search.facts(),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> Calibration:
        """The inverse of ``arrays`` and ``facts``."""

        def tail(name: str) -> Tail:
            return Tail(arrays[f"{name}.value"], arrays[f"{name}.nats"], float(arrays[f"{name}.excess"][0]))

        lengths = len(arrays["error_level"])
        carried, own, search = facts["carried"], facts["own_levels"], facts["search"]
        assert isinstance(carried, (list, tuple))
        assert isinstance(own, dict)
        assert search is None or isinstance(search, dict)
        searched = {k.removeprefix("search."): v for k, v in arrays.items() if k.startswith("search.")}
        return Calibration(
            error_level=arrays["error_level"],
            error_mean=arrays["error_mean"],
            error_sd=arrays["error_sd"],
            latent_level=arrays["latent_level"],
            residual_rms=arrays["residual_rms"],
            jump_limit=arrays["jump_limit"],
            top=tuple(tail(f"top.{i}") for i in range(lengths)),
            latent=tuple((tail(f"latent.{i}.0"), tail(f"latent.{i}.1")) for i in range(lengths)),
            point=tail("point"),
            reconstruction=tail("reconstruction"),
            step=float(facts["baseline_step"]),  # type: ignore[arg-type]  # a number in the manifest
            threshold=float(facts["threshold"]),  # type: ignore[arg-type]
            closing=float(facts["closing"]),  # type: ignore[arg-type]
            provisional=bool(facts["provisional"]),
            days=float(facts["asset_days"]),  # type: ignore[arg-type]
            assets=int(facts["assets"]),  # type: ignore[call-overload]
            carried={
                str(asset): (int(row), state)
                for (asset, row), state in zip(carried, arrays["carried"], strict=True)
            },
            asset_levels=dict(zip(own["assets"], arrays["asset_levels"], strict=True)),
            condition_levels=dict(zip(own["conditions"], arrays["condition_levels"], strict=True)),
            search=None if search is None else ScoreSearch.of(searched, search),
        )

    def _tails(self) -> list[tuple[str, Tail]]:
        named = [(f"top.{i}", tail) for i, tail in enumerate(self.top)]
        for i, pair in enumerate(self.latent):
            named += [(f"latent.{i}.0", pair[0]), (f"latent.{i}.1", pair[1])]
        return [*named, ("point", self.point), ("reconstruction", self.reconstruction)]


def top_count(channels: int) -> int:
    """k of the top-k: one sixth of the sensors, at least 1, at most 3."""
    return max(1, min(3, -(-channels // 6)))


def top_mean(values: Floats, k: int) -> Floats:
    """(B, C) to (B,): mean of the largest k observed values (of all, if fewer); NaN if none."""
    if not np.isnan(values).any():
        largest = values.max(1) if k == 1 else np.partition(values, -k, axis=1)[:, -k:].mean(1)
        return np.asarray(largest, float)
    lowered = np.where(np.isnan(values), -np.inf, values)
    largest = np.partition(lowered, -k, axis=1)[:, -k:]
    seen = np.isfinite(largest)
    count = seen.sum(1)
    return np.where(count > 0, np.where(seen, largest, 0.0).sum(1) / np.maximum(count, 1), np.nan)


def _largest(values: Floats) -> Floats:
    """(B, C) to (B,): the largest observed value; NaN if none."""
    largest = values.max(1)
    if not np.isnan(largest).any():
        return np.asarray(largest, float)
    largest = np.where(np.isnan(values), -np.inf, values).max(1)
    return np.where(np.isfinite(largest), largest, np.nan)


def calibrate(
    cross: CrossFit,
    period_ns: int,
    policy: AlarmPolicy,
    budget: Budget,
    deployed: Sequence[HeldOutPiece] = (),
) -> Calibration:
    """Baselines, p-values and threshold from cross-fitted measurements.

    Args:
        cross: the cross-fit.
        period_ns: from one measured window to the next: the grid's period times the hop.
        policy: the alarm machine's settings.
        budget: false episodes.
        deployed: the same rows as the deployed models measure them; they can only raise the threshold.
    """
    held = cross.held
    step = BASELINE_RATE * period_ns / DAY_NS
    error = np.concatenate([h.measured.channel_error for h in held], axis=1)
    latent = np.concatenate([h.measured.latent for h in held], axis=1)
    newest = np.concatenate([h.measured.residual for h in held])
    draft = Calibration(
        error_level=_median(np.log(error + ERROR_OFFSET)),
        error_mean=np.zeros(error.shape[::2]),
        error_sd=np.ones(error.shape[::2]),
        latent_level=_median(np.log(latent + LATENT_OFFSET)),
        residual_rms=_rms(newest) + ERROR_OFFSET,
        top=(),
        latent=(),
        point=Tail.fit(np.zeros(0)),
        reconstruction=Tail.fit(np.zeros(0)),
        step=step,
        threshold=np.inf,
        closing=np.inf,
        jump_limit=np.full(error.shape[2], np.inf),
        provisional=True,
        days=0.0,
        assets=0,
        carried={},
    )
    excess = [draft.excess(piece.measured.channel_error, piece.measured.latent) for piece in held]
    unknown = [draft.excess(measured.channel_error, measured.latent) for measured in cross.unknown]
    assets, conditions, own = own_levels(held, excess, np.concatenate(unknown) if unknown else None)
    offsets, carried = replay_baselines(held, excess, own, step)
    residual = newest / draft.residual_rms
    lengths, count, channels = error.shape
    adjusted = error * np.exp(
        -offsets[:, : lengths * channels].reshape(count, lengths, channels).transpose(1, 0, 2)
    )
    mean, sd = _moments(adjusted)
    scaling = _with(
        draft,
        {
            "error_mean": mean,
            "error_sd": sd + 0.01,
            "asset_levels": assets,
            "condition_levels": conditions,
        },
    )
    parts = scaling.parts(error, latent, residual, offsets)
    tails = _with(
        scaling,
        {
            "top": tuple(Tail.fit(values) for values in parts.top),
            "latent": tuple((Tail.fit(v[:, 0]), Tail.fit(v[:, 1])) for v in parts.latent),
            "point": Tail.fit(parts.point),
            "reconstruction": Tail.fit(parts.reconstruction),
            "carried": carried,
        },
    )
    scores = tails.combined(tails.nats(parts))
    days = float(np.isfinite(scores).sum()) * period_ns / DAY_NS
    fleet = len({piece.asset for piece in held})
    usual = usual_level(scores)
    series = [by_piece(scores, held)]
    if deployed:
        series.append(replayed_scores(tails, deployed))
    replays = [held, deployed] if deployed else [held]
    search = _search(series, usual, replays, draft.residual_rms, (policy, budget))
    found = search.found(budget, days, fleet)
    changes = {name: getattr(found, name) for name in ScoreThresholds.__slots__}
    return _with(tails, {**changes, "days": days, "assets": fleet, "search": search})


def replayed_scores(calibration: Calibration, pieces: Sequence[HeldOutPiece]) -> list[Floats]:
    """The scores of measured pieces under a calibration, one array per piece; each baseline starts at zero."""
    measured = [piece.measured for piece in pieces]
    error = np.concatenate([m.channel_error for m in measured], axis=1)
    latent = np.concatenate([m.latent for m in measured], axis=1)
    residual = np.concatenate([m.residual for m in measured]) / calibration.residual_rms
    own = [calibration.own([p.asset] * len(p.conditions), p.conditions) for p in pieces]
    excess = [calibration.excess(m.channel_error, m.latent) for m in measured]
    offsets, _ = replay_baselines(pieces, excess, own, calibration.step)
    scores = calibration.combined(calibration.nats(calibration.parts(error, latent, residual, offsets)))
    return by_piece(scores, pieces)


def _search(
    series: Sequence[Sequence[Floats]],
    usual: float,
    replays: Sequence[Sequence[HeldOutPiece]],
    residual_rms: Floats,
    target: tuple[AlarmPolicy, Budget],
) -> ScoreSearch:
    """What thresholds are found from, for the target's budget and others.

    Args:
        series: the scores of each replay, by piece.
        usual: of the held-out ones.
        replays: their pieces, of the same rows.
        residual_rms: of ``Calibration``.
        target: the alarm machine's settings, and the budget.
    """
    policy, budget = target
    changes = [jumps.changes_of(pieces, residual_rms) for pieces in replays]
    tails = jumps.JumpTails(changes[0], ERROR_OFFSET / residual_rms)
    # Each run of rows with a jump is an episode, whatever the scores in between.
    strengths = Replays.of(
        [by_piece(tails.strength(one), pieces) for one, pieces in zip(changes, replays, strict=True)],
        replace(policy, hysteresis=1.0),
        np.inf,
    )
    return ScoreSearch(
        budget,
        Replays.of(series, policy, usual),
        usual,
        policy.hysteresis,
        strengths,
        tails.limits(strengths.least),
        jumps.SHARE,
    )


def _with(calibration: Calibration, changes: Mapping[str, object]) -> Calibration:
    fields = {name: getattr(calibration, name) for name in Calibration.__slots__}
    return Calibration(**{**fields, **changes})


def _median(values: Floats) -> Floats:
    """(S, B, Q) to (S, Q) over the observed; 0 where none."""
    lengths, _, last = values.shape
    result = np.zeros((lengths, last))
    for s in range(lengths):
        for q in range(last):
            column = values[s, :, q]
            column = column[np.isfinite(column)]
            result[s, q] = np.median(column) if len(column) else 0.0
    return result


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """(S, B, C) to mean and sd (S, C) over the observed; 0 and 1 where none."""
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(1), 1)
    mean = np.where(seen, values, 0.0).sum(1) / count
    variance = (np.where(seen, values - mean[:, None], 0.0) ** 2).sum(1) / count
    return mean, np.where(seen.any(1), np.sqrt(variance), 1.0)


def _rms(residual: Floats) -> Floats:
    """(B, C) to (C,) over the observed; 1 where none."""
    seen = np.isfinite(residual)
    squares = (np.where(seen, residual, 0.0) ** 2).sum(0) / np.maximum(seen.sum(0), 1)
    return np.where(seen.any(0), np.sqrt(squares), 1.0)
