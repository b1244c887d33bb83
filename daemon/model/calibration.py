"""From residuals to scores that can be budgeted.

**Parts.** Per window length the mean of the largest k standardised channel errors; per length
the latent pair (KL and largest |z|); the newest row's largest standardised residual. Each
becomes g = -log p against held-out normal data: the empirical rank below the 98 % quantile u,
an exponential tail above it. The score is the root mean square of the g, the latent pair of a
length counted once. A part without evidence is left out.

**Slow baseline.** What is normal drifts, and a fixed threshold turns drift into alarms. In log
space each channel's error (and each latent score) has a level that follows at most .2 nats a
day and never falls below calibration's:

    o <- max(o + rate * period * clip((x - o) / 2, -1, 1), 0),      x = log(e + .02) - median

and errors are divided by exp(o). We keep the excess o rather than the level: a fresh asset is
all zeros. o at t uses rows before t only. It follows channels, not the combined score: an
incident moves other channels than drift does, so it is not absorbed.

**Own levels.** Assets and operating modes of one stream differ in how noisy they are. Where one
of them has enough held-out rows its medians stand beside the pooled ones, pulled towards these
by ``SHRINK`` rows' worth of doubt; who has fewer, or was never seen, is read against the pooled
medians. Rows whose condition a fold's models did not know were measured as of an unknown one, and
count as such; some of each fold's rows are measured so on purpose besides, and give the level of
whatever the deployed model will not know. They enter as offsets o_asset + o_condition that the slow baseline starts from, in every
block as on the stream, so that tails and threshold are found with them in place.

**Cross-fitting.** Five contiguous blocks, each measured by a scaler and models fitted on the
other four: every row calibrates, and none is measured by a model that saw it.

**Threshold.** Not a quantile: the lowest T whose replay through the alarm machine opens at
most ``budget x asset-days`` episodes on the calibration blocks. An unlabelled incident in the
training data then costs one episode instead of setting the tail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from daemon.alarm import episodes, firing
from daemon.detector import DriftReference
from daemon.domain import (
    NO_CONDITION,
    AlarmPolicy,
    Budget,
    Floats,
    Ints,
    Segment,
)
from daemon.grouping import by_slot
from daemon.model.reconstruction import Measured, Models
from daemon.model.segments import Piece, complement, folds, sliding

DAY_NS = 86_400_000_000_000
BASELINE_RATE = 0.2  # nats per day
BASELINE_WIDTH = 2.0  # nats, where the pull reaches its limit
ERROR_OFFSET = 0.02  # keeps log(error) finite
LATENT_OFFSET = 0.5
TAIL = 0.02
KNOTS = 600
CONTINUES = 10  # periods within which rows "follow at once"
VARIANCE_FLOOR = 1e-6
OWN_ROWS = 320
"""Held-out rows from which an asset or a condition has levels of its own."""
SHRINK = 32
"""Rows of doubt: an own level counts n / (n + SHRINK). Two windows' worth, because neighbouring
windows share rows."""
OWN_LIMIT = 1.5
"""Own levels differ from the pooled ones by at most this, nats: a factor of 4.5."""
UNKNOWN_ROWS = 500
"""Held-out rows of each fold that are measured a second time, as of an unknown condition."""
RESIDUAL_LIMIT = 10.0
"""Residuals beyond count as this in the drift metrics, here as on the stream: one absurd
reading is an anomaly, not drift."""


# ------------------------------------------------------------------ p-values
@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """-log p of one part against its calibration values.

    ``value`` and ``nats`` (K,) are knots of the empirical curve, ascending; beyond the last
    knot the curve goes on as a line of slope 1 / ``excess``.
    """

    value: Floats
    nats: Floats
    excess: float

    @staticmethod
    def fit(values: Floats) -> Tail:
        """Fit on calibration values; NaN are left out. Without any, every value has p = 1."""
        v = np.sort(values[np.isfinite(values)])
        n = len(v)
        if n == 0:
            return Tail(np.zeros(1), np.zeros(1), np.inf)
        top = int((1.0 - TAIL) * n)
        u = float(v[min(top, n - 1)])
        above = v[v > u] - u
        excess = max(float(above.mean()) if len(above) else 0.0, 0.02)
        # Ranks at equal steps of the value's rank and, towards the top, of its logarithm.
        ranks = np.concatenate(
            [np.linspace(0, top, KNOTS // 2), top - np.geomspace(1, top + 1, KNOTS // 2) + 1]
        )
        knots = np.unique(v[np.clip(ranks, 0, min(top, n - 1)).astype(int)])
        p = (n - np.searchsorted(v, knots, side="left") + 0.5) / (n + 1)
        nats = np.minimum(-np.log(p), -np.log(TAIL))
        nats[-1] = -np.log(TAIL) if len(knots) > 1 else nats[-1]
        return Tail(knots, nats, excess)

    def __call__(self, values: Floats) -> Floats:
        """-log p; NaN stays NaN."""
        beyond = np.maximum(values - self.value[-1], 0.0) / self.excess
        result: Floats = np.interp(values, self.value, self.nats) + beyond
        return result

    def inverse(self, nats: float) -> float:
        """The value whose -log p is ``nats``."""
        if nats >= self.nats[-1]:
            return float(self.value[-1] + (nats - self.nats[-1]) * min(self.excess, 1e300))
        return float(np.interp(nats, self.nats, self.value))


# ------------------------------------------------------------------ the slow baseline
def follow(excess: Floats, state: Floats, slots: Ints, step: float) -> Floats:
    """Run the slow baseline over a batch, asset by asset in the order of the rows.

    Args:
        excess: (B, P) log level over the calibration median; NaN is no evidence.
        state: (N, P), moved on in place.
        slots: (B,) row of ``state`` of each window.
        step: largest move per row, nats.

    Returns:
        (B, P) the state *before* each window.
    """
    count = len(excess)
    offsets = np.empty_like(excess)
    if not count:
        return offsets
    finite = np.isfinite(excess)
    every = bool(finite.all())  # nearly always, and two passes less
    target = excess if every else np.where(finite, excess, 0.0)
    steps = np.broadcast_to(step, (count, 1)) if every else finite * step
    pull = 1.0 / BASELINE_WIDTH
    if (slots == slots[0]).all():
        level = state[slots[0]].copy()
        move = np.empty_like(level)
        for i in range(count):
            offsets[i] = level
            np.subtract(target[i], level, out=move)
            move *= pull
            np.minimum(move, 1.0, out=move)
            np.maximum(move, -1.0, out=move)
            move *= steps[i]
            level += move
            np.maximum(level, 0.0, out=level)
        state[slots[0]] = level
        return offsets
    # Rounds: the i-th window of every slot at once.
    turns = by_slot(slots).occurrence
    by_turn = np.argsort(turns, kind="stable")
    ends = np.cumsum(np.bincount(turns)).tolist()
    mine, target, steps, before = slots[by_turn], target[by_turn], steps[by_turn], np.empty_like(excess)
    start = 0
    for stop in ends:
        who = mine[start:stop]
        levels = state[who]
        before[start:stop] = levels
        moves = target[start:stop]
        moves -= levels
        moves *= pull
        np.minimum(moves, 1.0, out=moves)
        np.maximum(moves, -1.0, out=moves)
        moves *= steps[start:stop]
        levels += moves
        np.maximum(levels, 0.0, out=levels)
        state[who] = levels
        start = stop
    offsets[by_turn] = before
    return offsets


# ------------------------------------------------------------------ the calibrated score
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
    """Everything that turns ``Measured`` into scores. Shapes: S lengths, C sensors."""

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
    threshold: float
    provisional: bool
    days: float  # asset-days that were replayed
    carried: Mapping[str, tuple[int, Floats]]  # asset -> the row after its last, its state (P,)
    asset_levels: Mapping[str, Floats] = field(default_factory=dict)  # (P,) nats over the medians
    condition_levels: Mapping[str, Floats] = field(default_factory=dict)  # likewise, on top

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
        nothing = np.zeros(self.states)
        level = np.stack([self.asset_levels.get(asset, nothing) for asset in assets])
        if conditions is not None and self.condition_levels:
            level = level + np.stack([self.condition_levels.get(label, nothing) for label in conditions])
        return np.asarray(level)

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
        """What a bundle stores of it, beside ``facts``."""
        result = {
            "error_level": self.error_level,
            "error_mean": self.error_mean,
            "error_sd": self.error_sd,
            "latent_level": self.latent_level,
            "residual_rms": self.residual_rms,
            "carried": self._table([state for _, state in self.carried.values()]),
            "asset_levels": self._table(list(self.asset_levels.values())),
            "condition_levels": self._table(list(self.condition_levels.values())),
        }
        for name, tail in self._tails():
            result[f"{name}.value"], result[f"{name}.nats"] = tail.value, tail.nats
            result[f"{name}.excess"] = np.array([tail.excess])
        return result

    def _table(self, rows: Sequence[Floats]) -> Floats:
        return np.stack(rows) if rows else np.zeros((0, self.states))

    def facts(self) -> dict[str, object]:
        """What a bundle's manifest says of it."""
        return {
            "threshold": self.threshold,
            "provisional": self.provisional,
            "baseline_step": self.step,
            "asset_days": self.days,
            "carried": [[asset, row] for asset, (row, _) in self.carried.items()],
            "own_levels": {"assets": list(self.asset_levels), "conditions": list(self.condition_levels)},
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> Calibration:
        """The inverse of ``arrays`` and ``facts``."""

        def tail(name: str) -> Tail:
            return Tail(arrays[f"{name}.value"], arrays[f"{name}.nats"], float(arrays[f"{name}.excess"][0]))

        lengths = len(arrays["error_level"])
        carried, own = facts["carried"], facts["own_levels"]
        assert isinstance(carried, (list, tuple))
        assert isinstance(own, dict)
        return Calibration(
            error_level=arrays["error_level"],
            error_mean=arrays["error_mean"],
            error_sd=arrays["error_sd"],
            latent_level=arrays["latent_level"],
            residual_rms=arrays["residual_rms"],
            top=tuple(tail(f"top.{i}") for i in range(lengths)),
            latent=tuple((tail(f"latent.{i}.0"), tail(f"latent.{i}.1")) for i in range(lengths)),
            point=tail("point"),
            reconstruction=tail("reconstruction"),
            step=float(facts["baseline_step"]),  # type: ignore[arg-type]  # a number in the manifest
            threshold=float(facts["threshold"]),  # type: ignore[arg-type]
            provisional=bool(facts["provisional"]),
            days=float(facts["asset_days"]),  # type: ignore[arg-type]
            carried={
                str(asset): (int(row), state)
                for (asset, row), state in zip(carried, arrays["carried"], strict=True)
            },
            asset_levels=dict(zip(own["assets"], arrays["asset_levels"], strict=True)),
            condition_levels=dict(zip(own["conditions"], arrays["condition_levels"], strict=True)),
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


# ------------------------------------------------------------------ cross-fitting
@dataclass(frozen=True, slots=True, eq=False)
class HeldOutPiece:
    """One held-out piece, measured: windows ending at rows ``start ..`` of its segment."""

    block: int
    asset: str
    first_row: int  # grid row of the first window's newest row
    end_row: int  # after the last window's
    conditions: Sequence[str]  # labels of the windows' newest rows, NO_CONDITION where not known
    measured: Measured


@dataclass(frozen=True, slots=True, eq=False)
class CrossFit:
    """Every row measured by models that did not see it, and what drift looks like to them."""

    held: tuple[HeldOutPiece, ...]
    latent_kl: Floats  # null distribution: total KL of held-out chunks against training, nats
    unknown: tuple[Measured, ...] = ()  # some of the rows again, as of an unknown condition


def crossfit(
    history: Sequence[Segment],
    fit: Callable[[Sequence[Piece]], Models],
    window: int,
    drift_rows: int,
    hop: int = 1,
) -> CrossFit:
    """Fit on four blocks, measure the fifth, five times.

    Args:
        history: what to learn from.
        fit: scaler and models of the given pieces.
        window: L.
        drift_rows: rows of one drift interval; chunks of that many held-out rows (fewer where
            the pieces are shorter) give the null distribution of the drift metrics.
        hop: only every hop-th grid row is measured, as on the stream.
    """
    chunk = max(drift_rows // hop, 1)
    held: list[HeldOutPiece] = []
    null: list[float] = []
    blind: list[Measured] = []
    blocks = folds(history, window)
    for j, block in enumerate(blocks):
        rest = complement(history, block)
        if max((len(piece) for piece in rest), default=0) < 2 * window:
            continue
        models = fit(rest)
        where: list[tuple[str, int]] = []
        parts: list[tuple[Floats, Sequence[str]]] = []
        for piece in block:
            segment = history[piece.segment]
            # The rows before the block are context of its first windows; they are not scored.
            start = max(piece.start, window - 1)
            start += -(segment.first_row + start) % hop
            if piece.stop <= start:
                continue
            windows = sliding(segment.values[start - window + 1 : piece.stop], window)[::hop]
            labels = segment.condition[start : piece.stop : hop] or (NO_CONDITION,) * len(windows)
            where.append((segment.asset, segment.first_row + start))
            parts.append((windows, labels))
        known = frozenset(models.labels)
        mine = [
            HeldOutPiece(
                j,
                asset,
                first,
                first + hop * len(windows),
                [label if label in known else NO_CONDITION for label in labels],
                measured,
            )
            for (asset, first), (windows, labels), measured in zip(
                where, parts, models.measure_each(parts), strict=True
            )
        ]
        held += mine
        if known and mine:
            some, _ = sample_windows(history, block, window, UNKNOWN_ROWS)
            blind.append(models.measure(some, [NO_CONDITION] * len(some)))
        null += _latent_null(history, rest, models, mine, chunk)
    return CrossFit(tuple(held), np.array(null), tuple(blind))


def calibrate(cross: CrossFit, period_ns: int, policy: AlarmPolicy, budget: Budget) -> Calibration:
    """Baselines, p-values and threshold from cross-fitted measurements.

    Args:
        cross: the cross-fit.
        period_ns: from one measured window to the next: the grid's period times the hop.
        policy: the alarm machine's settings.
        budget: false episodes per asset and day.
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
        provisional=True,
        days=0.0,
        carried={},
    )
    draft, own = _own_levels(held, cross.unknown, draft)
    offsets, carried = _replay_baselines(held, draft, own)
    residual = newest / draft.residual_rms
    lengths, count, channels = error.shape
    adjusted = error * np.exp(
        -offsets[:, : lengths * channels].reshape(count, lengths, channels).transpose(1, 0, 2)
    )
    mean, sd = _moments(adjusted)
    changes = {"error_mean": mean, "error_sd": sd + 0.01}
    scaling = _with(draft, changes)
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
    series = np.split(scores, np.cumsum([len(h.measured.observed) for h in held])[:-1])
    days = float(np.isfinite(scores).sum()) * period_ns / DAY_NS
    allowed = budget.episodes_per_day * days
    threshold = lowest_threshold(series, allowed, policy)
    return _with(tails, {"threshold": threshold, "provisional": allowed < 1.0, "days": days})


def lowest_threshold(series: Sequence[Floats], allowed: float, policy: AlarmPolicy) -> float:
    """The lowest threshold whose replay opens at most ``allowed`` episodes.

    Args:
        series: scores in time order, one array per asset and block; NaN where not scored.
        allowed: episodes; below one the largest score is the answer (it opens none).
        policy: the alarm machine's settings.
    """
    # Between two series the machine must come to rest and forget: rows far below any threshold.
    rest = np.full(max(policy.of, 1), -1e300)
    joined = np.concatenate([np.concatenate([one, rest]) for one in series])
    ranked = np.sort(joined[np.isfinite(joined) & (joined > -1e300)])
    if not len(ranked):
        return np.inf
    best = float(ranked[-1])
    if allowed < 1.0:
        return best
    n = len(ranked)
    for rank in np.unique(np.geomspace(1, max(n * 0.2, 1), 80).astype(int)):
        candidate = float(ranked[n - rank])
        if episodes(firing(joined, candidate, policy)) > allowed:
            break
        best = candidate
    return best


def _own_levels(
    held: Sequence[HeldOutPiece], unknown: Sequence[Measured], draft: Calibration
) -> tuple[Calibration, list[Floats]]:
    """The draft with the levels of those assets and conditions that have enough rows.

    Args:
        held: all rows.
        unknown: some of them as of an unknown condition, whose level they give.
        draft: the medians.

    Returns:
        The draft, and each held piece's own offsets (B, P).
    """
    excess = [draft.excess(h.measured.channel_error, h.measured.latent) for h in held]
    labels = [np.array(h.conditions, object) for h in held]
    levels = _levels_of(np.concatenate(labels), np.concatenate(excess))
    if unknown:
        blind = np.concatenate([draft.excess(m.channel_error, m.latent) for m in unknown])
        if len(blind) >= OWN_ROWS:
            levels[NO_CONDITION] = _level_of(blind)
    draft = _with(draft, {"condition_levels": dict(sorted(levels.items()))})
    # Conditions first: where they are types of assets, a new asset finds the level of its type.
    nobody = [np.full(len(e), "", object) for e in excess]
    left = [e - draft.own(n, c) for e, n, c in zip(excess, nobody, labels, strict=True)] if levels else excess
    assets = [np.full(len(e), h.asset, object) for h, e in zip(held, excess, strict=True)]
    draft = _with(draft, {"asset_levels": _levels_of(np.concatenate(assets), np.concatenate(left))})
    return draft, [draft.own(a, c) for a, c in zip(assets, labels, strict=True)]


def _levels_of(keys: NDArray[np.object_], excess: Floats) -> dict[str, Floats]:
    """Per key with enough rows the median excess (P,), shrunk and limited; none if there is one key."""
    rows: dict[str, list[int]] = {}
    for i, key in enumerate(keys.tolist()):
        rows.setdefault(key, []).append(i)
    levels: dict[str, Floats] = {}
    if len(rows) < 2:
        return levels
    for name in sorted(rows):
        if name == NO_CONDITION or len(rows[name]) < OWN_ROWS:
            continue
        mine = excess[rows[name]]
        if np.isfinite(mine).sum(0).max() >= OWN_ROWS:
            levels[name] = _level_of(mine)
    return levels


def _level_of(excess: Floats) -> Floats:
    """(P,) median of (B, P), shrunk and limited; 0 where there are too few."""
    count = np.isfinite(excess).sum(0)
    known = count >= OWN_ROWS
    level = np.zeros(excess.shape[1])
    level[known] = np.nanmedian(excess[:, known], axis=0)
    return np.asarray(np.clip(level * count / (count + SHRINK), -OWN_LIMIT, OWN_LIMIT))


def _replay_baselines(
    held: Sequence[HeldOutPiece], draft: Calibration, own: Sequence[Floats]
) -> tuple[Floats, dict[str, tuple[int, Floats]]]:
    """Baselines through every held-out piece, afresh per block; and what each asset ends with.

    Pieces run side by side (one slot each): a fleet costs no more rounds than one asset.

    Returns:
        (B, P) what each window's errors are divided by, log; and per asset the row after its
        last, and its state (P,) there.
    """
    states: dict[tuple[int, str], int] = {}
    last_row: dict[tuple[int, str], int] = {}
    slots: list[Ints] = []
    excess: list[Floats] = []
    for h, level in zip(held, own, strict=True):
        key = (h.block, h.asset)
        count = len(h.measured.observed)
        if key not in states or h.first_row - last_row[key] > CONTINUES:
            states[key] = len(slots)
        slots.append(np.full(count, states[key], np.int64))
        last_row[key] = h.end_row
        excess.append(draft.excess(h.measured.channel_error, h.measured.latent) - level)
    state = np.zeros((len(slots), draft.states))
    offsets = follow(np.concatenate(excess), state, np.concatenate(slots), draft.step)
    carried: dict[str, tuple[int, Floats]] = {}
    for key, slot in states.items():
        asset, row = key[1], last_row[key]
        if asset not in carried or row > carried[asset][0]:
            carried[asset] = (row, state[slot].copy())
    return offsets + np.concatenate(own), carried


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


# ------------------------------------------------------------------ drift
def moments(values: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (Q,) over the rows of (N, Q); NaN cells left out; 0 and 1 where none."""
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, values, 0.0).sum(0) / count
    variance = (np.where(seen, values - mean, 0.0) ** 2).sum(0) / count
    return mean, np.where(seen.any(0), variance, 1.0)


def diagonal_kl(mean: Floats, variance: Floats, mean0: Floats, variance0: Floats) -> Floats:
    """KL(N(mean, variance) || N(mean0, variance0)) per dimension, nats; variances floored."""
    v, v0 = np.maximum(variance, VARIANCE_FLOOR), np.maximum(variance0, VARIANCE_FLOOR)
    kl: Floats = 0.5 * (np.log(v0 / v) + (v + (mean - mean0) ** 2) / v0 - 1.0)
    return kl


def drift_reference(cross: CrossFit, posterior: Floats, rms: Floats, drift_rows: int) -> DriftReference:
    """What drift is measured against, and the 99 % quantiles of the null distributions.

    Latent axes differ from fold to fold, so a fold's held-out chunks are compared with that
    fold's own training windows, and only the total KL is kept. Residuals keep their axes: all
    held-out chunks are compared with all held-out rows, as the stream's will be.

    Args:
        cross: the cross-fit.
        posterior: (N, Z) the deployed model's posterior means on training windows.
        rms: (C,) the calibration's ``residual_rms``.
        drift_rows: rows of one drift interval.
    """
    latent_mean, latent_variance = moments(posterior)
    residuals = [np.clip(h.measured.residual / rms, -RESIDUAL_LIMIT, RESIDUAL_LIMIT) for h in cross.held]
    residual_mean, residual_variance = moments(np.concatenate(residuals))
    null = [
        float(diagonal_kl(*moments(one[part]), residual_mean, residual_variance).sum())
        for one in residuals
        for part in chunks(len(one), drift_rows)
    ]

    def edge(values: Floats) -> float:
        return float(np.quantile(values, 0.99)) if len(values) else np.inf

    return DriftReference(
        latent_mean=latent_mean,
        latent_variance=np.maximum(latent_variance, VARIANCE_FLOOR),
        residual_mean=residual_mean,
        residual_variance=np.maximum(residual_variance, VARIANCE_FLOOR),
        latent_threshold=edge(cross.latent_kl),
        residual_threshold=edge(np.array(null)),
    )


def chunks(rows: int, size: int) -> list[slice]:
    """Overlapping chunks of ``size`` rows, at most half of the rows each."""
    size = min(size, max(rows // 2, 1))
    return [slice(at, at + size) for at in range(0, rows - size + 1, max(size // 4, 1))]


def sample_windows(
    history: Sequence[Segment], pieces: Sequence[Piece], window: int, most: int
) -> tuple[Floats, list[str]]:
    """At most about ``most`` evenly spread windows of the pieces, with their condition labels."""
    total = sum(max(len(piece) - window + 1, 0) for piece in pieces)
    stride = max(total // most, 1)
    windows, labels = [], []
    for piece in pieces:
        segment = history[piece.segment]
        some = sliding(segment.values[piece.start : piece.stop], window)[::stride]
        windows.append(some)
        ends = np.arange(piece.start + window - 1, piece.start + window - 1 + stride * len(some), stride)
        labels += [segment.condition[i] if segment.condition else "" for i in ends]
    return np.concatenate(windows), labels


def _latent_null(
    history: Sequence[Segment],
    rest: Sequence[Piece],
    models: Models,
    held: Sequence[HeldOutPiece],
    drift_rows: int,
) -> list[float]:
    """KL of held-out chunks of posterior means against the fold's own training windows."""
    windows, labels = sample_windows(history, rest, models.window, 1_000)
    reference = moments(models.measure(windows, labels).posterior)
    return [
        float(diagonal_kl(*moments(h.measured.posterior[part]), *reference).sum())
        for h in held
        for part in chunks(len(h.measured.observed), drift_rows)
    ]
