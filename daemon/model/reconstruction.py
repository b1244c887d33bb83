"""Measurement: how far windows are from the models' reconstruction, in one deterministic pass (z = mu).

Two window lengths are measured: a cheap pPCA over the newest 4 rows reacts to sudden changes, the model
over the whole window (the VAE, or pPCA where the settings say so) to slow ones. Everything here is a pure
function of a window; calibration and history come after (``calibration``).

**Gaps.** A channel's error over few cells scatters more than over many, so that gaps alone would raise
alarms (measured on ASD: 2.3 times as many with 30 % of cells lost). So a missing cell counts as one typical
squared residual: it neither raises nor hides. A channel without any observed cell has no error at all.

**Batch independence.** Windows are processed in chunks of at most 2048, padded to a multiple of 32, so that
a window meets the same matrix kernels alone and in a batch (narrow products need more care: ``inference``);
windows with gaps are filled and read apart from those without. So a window's measurements are the same to the last
bit, and a replay, a restart and a live run can be compared by equality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.domain import Floats, Ints, Mask, Segment
from daemon.model.conditions import ConditionMeans
from daemon.model.inference import Gaps, Inference
from daemon.model.levels import AssetLevels, levelled
from daemon.model.pca import WindowPCA
from daemon.model.rules import FOREIGN, GROSS, AlertRules
from daemon.model.scaler import Scaler
from daemon.model.vae import VAE, Posterior

CHUNK = 2048
CHUNK_CELLS = 720_896
"""Cells that are processed at once, at most: about the size of a core's cache."""
PAD = 32
SHORT = 4
"""The short window length."""
LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The measurements of B windows, in scaled units, before calibration."""

    channel_error: Floats  # (S, B, C) RMS residual, missing cells as typical; NaN where none observed
    latent: Floats  # (S, B, 2) KL in nats (pPCA: squared norm) and largest |z|; NaN if nothing observed
    residual: Floats  # (B, C) newest row, NaN where missing
    newest: Floats  # (B, C) the model's newest row
    carried: Floats  # (B, C) residual at the newest observed cell of the channel; 0 if none
    distance: Floats  # (B, C) rows since that cell; L if none
    posterior: Floats  # (B, Z)
    elbo: Floats  # (B,) nats
    observed: Mask  # (B,) whether any cell was observed
    scaled: NDArray[np.float32]  # (K, L, C) the windows that were to be kept
    decoded: NDArray[np.float32]  # (K, L, C) the same reconstructed by the long model

    def part(self, start: int, stop: int) -> Measured:
        """The measurements of windows ``start .. stop - 1``."""
        by_length = {"channel_error", "latent"}  # their first axis is S
        values = {name: getattr(self, name) for name in Measured.__slots__}
        return Measured(
            **{
                name: value[:, start:stop] if name in by_length else value[start:stop]
                for name, value in values.items()
            }
        )

    def replaced(self, which: Ints, without: Measured) -> Measured:
        """With what some windows show, and lead to expect, ``without`` sensors that are no context for the others."""
        by_length, by_window = ("channel_error", "latent"), ("residual", "newest", "posterior", "decoded")
        changed = {name: getattr(self, name).copy() for name in (*by_length, *by_window)}
        for name in by_length:
            changed[name][:, which] = getattr(without, name)
        for name in by_window:
            changed[name][which] = getattr(without, name)
        return replace(self, **changed)

    def cleared(self, which: Ints, innocent: Mask, without: Measured, sigma: Floats) -> Measured:
        """With what innocent sensors did to some windows taken off.

        They have at most a typical error and no residual. Of the others' errors and residuals, and of the latents, the
        smaller counts: with the innocent, or without.

        Args:
            which: (W,) the windows.
            innocent: (W, C) their sensors that a rule excuses.
            without: these windows, as if the innocent sensors were missing.
            sigma: (C,) typical residuals.
        """
        error, latent, residual = self.channel_error.copy(), self.latent.copy(), self.residual.copy()
        posterior = self.posterior.copy()
        least = np.where(innocent, sigma, np.inf)
        error[:, which] = np.minimum(np.fmin(error[:, which], without.channel_error), least)
        unmoved = np.nan_to_num(without.latent)  # where all sensors are innocent, nothing moves the latents
        smaller = unmoved[-1, :, 0] < latent[-1, which, 0]
        posterior[which[smaller]] = without.posterior[smaller]
        latent[:, which] = np.minimum(latent[:, which], unmoved)
        kept = np.where(innocent & np.isfinite(residual[which]), 0.0, residual[which])
        smaller = np.abs(without.residual) < np.abs(kept)
        residual[which] = np.where(smaller, without.residual, kept)
        return replace(self, channel_error=error, latent=latent, residual=residual, posterior=posterior)


@dataclass(frozen=True, slots=True, eq=False)
class _LengthMeasurement:
    """The measurements of B windows by the model of one window length."""

    squares: Floats  # (B, C) sum of squared residuals over the observed cells
    cells: Floats  # (B, C) how many these are
    residual: Floats  # (B, C) and so on: see ``Measured``
    newest: Floats
    carried: Floats
    distance: Floats
    z: Floats  # (B, Z)
    score: Floats  # (B,) KL in nats (pPCA: squared norm)
    nats: Floats  # (B,) KL for the ELBO
    scaled: NDArray[np.float32]
    decoded: NDArray[np.float32]

    def without(self, excused: Mask) -> tuple[Floats, Floats]:
        """``squares`` and ``residual`` of windows that were kept, with zero for the residuals of excused cells."""
        residual = (self.scaled - self.decoded).astype(float)
        counted = np.where(excused | np.isnan(residual), 0.0, residual)
        newest = np.where(excused[:, -1] & np.isfinite(self.residual), 0.0, self.residual)
        return np.asarray((counted**2).sum(1)), newest

    @staticmethod
    def joined(parts: Sequence[_LengthMeasurement]) -> _LengthMeasurement:
        """One after the other."""
        return _LengthMeasurement(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in _LengthMeasurement.__slots__
            }
        )


@dataclass(frozen=True, slots=True, eq=False)
class Models:
    """Scaler and models of one bundle: the uncalibrated half of a detector.

    ``lengths`` and ``pcas`` shortest first; ``vae`` reads the longest; ``sigma`` (C,) is the
    standard deviation of the long model's residuals in scaled units. ``means`` are what each
    condition contributes to a window, for all of the models; None without conditions, and for old bundles. ``rules``
    act on errors, residuals and latents, but not on the ELBO, nor on what gaps are filled from. ``levels`` are those of the
    assets; what is measured, encoded and decoded here has been taken off them (``levelled``, ``at_level``).
    """

    scaler: Scaler
    lengths: tuple[int, ...]
    pcas: tuple[WindowPCA, ...]
    vae: VAE | None
    sigma: Floats
    means: ConditionMeans | None = None
    rules: AlertRules | None = None  # what people excused
    levels: AssetLevels | None = None  # None: the assets are where the fleet is, and in old bundles
    _inferences: tuple[Inference, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        vaes = [None] * (len(self.lengths) - 1) + [self.vae]
        made = tuple(Inference.of(pca, vae) for pca, vae in zip(self.pcas, vaes, strict=True))
        object.__setattr__(self, "_inferences", made)

    @property
    def window(self) -> int:
        """The longest length, L."""
        return self.lengths[-1]

    @property
    def kind(self) -> str:
        """``mlp``, ``conv`` or ``gru`` if the long windows have a VAE, else ``ppca``."""
        return "ppca" if self.vae is None else self.vae.kind

    @property
    def latents(self) -> int:
        """Z of the long model."""
        return self.pcas[-1].latents + (self.vae.latent if self.vae else 0)

    @property
    def labels(self) -> tuple[str, ...]:
        """The condition labels that the models were trained with."""
        if self.means is not None:
            return self.means.labels
        return self.vae.labels if self.vae is not None else ()

    def levelled(self, history: Sequence[Segment]) -> Sequence[Segment]:
        """The same segments without the levels of their assets, as far as training had these."""
        return history if self.levels is None else levelled(history, self.levels, self.scaler.scale)

    def units(self, values: Floats, assets: Sequence[str]) -> NDArray[np.float32]:
        """Raw windows (B, L, C) of B assets in scaled units, without their levels."""
        if self.levels is None:
            return self.scaler.scaled(values)
        scaled = self.scaler.scaling.of(values)
        scaled[~np.isfinite(values)] = np.nan
        return self.scaler.clipped(scaled - self.levels.of(assets, scaled)[:, None])

    def at_level(self, asset: str, values: Floats) -> Models:
        """The same, for raw readings of one asset: without levels, and with the asset's in the scaler.

        ``values`` (T, C) are what the level of an asset is predicted from that training did not have.
        """
        if self.levels is None:
            return self
        level = self.levels.of([asset], self.scaler.scaling.of(values)[None])[0]
        scaler = replace(self.scaler, mean=self.scaler.mean + level * self.scaler.scale)
        return replace(self, scaler=scaler, levels=None)

    def encode(self, x: Tensor, conditions: Sequence[str]) -> tuple[Tensor, Posterior]:
        """Windows with their gaps filled, and q(z | x, c) of the long model (for ``ppca`` the exact one).

        For looking into the latents; scores use the faster ``measure``.

        Args:
            x: (B, L*C) scaled, NaN where missing.
            conditions: B labels.
        """
        pca, vae, gaps = self.pcas[-1], self.vae, x.isnan()
        with torch.inference_mode():
            usual = self.usual(conditions, x.shape[1])
            filled = pca.fill(x - usual, gaps) + usual
            if vae is not None:
                holed = gaps if bool(gaps.any()) else None
                return filled, vae.encode(filled, holed, vae.codes(conditions))
            log_variance = (pca.noise / pca.variance).clamp(max=1.0).log()
            mean = pca.project(filled - usual)
            return filled, Posterior(mean, log_variance.expand_as(mean))

    def decode(self, z: Tensor, conditions: Sequence[str]) -> Tensor:
        """(B, Z) latents of the long model to (B, L*C) scaled windows, under B condition labels."""
        with torch.inference_mode():
            if self.vae is not None:
                return self.vae.decode(z, self.vae.codes(conditions))
            decoded = self.pcas[-1].decode(z)
            return decoded + self.usual(conditions, decoded.shape[1])

    def usual(self, conditions: Sequence[str], cells: int) -> Tensor | float:
        """(B, cells) the conditions' usual windows; 0 without conditions."""
        return 0.0 if self.means is None else self.means.of(self.means.codes(conditions), cells)

    def measure(self, values: Floats, conditions: Sequence[str], keep: bool = False) -> Measured:
        """Measure raw windows (B, L, C), NaN where missing, with their B condition labels.

        ``keep`` keeps the windows themselves, scaled and decoded (imputation needs them).
        """
        return self.measure_scaled(self.scaler.scaled(values), conditions, keep)

    def measure_each(self, parts: Sequence[tuple[Floats, Sequence[str]]]) -> list[Measured]:
        """``measure`` of each part, raw windows with their labels; short parts go through together.

        A window's measurements do not depend on its batch, and a fleet of short histories has thousands of parts.
        """
        result: list[Measured] = []
        at = 0
        while at < len(parts):
            stop, count = at, 0
            while stop < len(parts) and (stop == at or count + len(parts[stop][0]) <= CHUNK):
                count += len(parts[stop][0])
                stop += 1
            some = parts[at:stop]
            if len(some) == 1:
                result.append(self.measure(*some[0]))
            else:
                together = self.measure(
                    np.concatenate([windows for windows, _ in some]),
                    [label for _, labels in some for label in labels],
                )
                ends = np.cumsum([len(windows) for windows, _ in some]).tolist()
                result += [together.part(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
            at = stop
        return result

    def measure_scaled(
        self,
        scaling: NDArray[np.float32],
        conditions: Sequence[str],
        keep: Mask | bool = False,
        level: NDArray[np.float32] | None = None,
    ) -> Measured:
        """``measure`` of windows that are in the scaler's units already, clipped or not.

        ``keep`` may be a mask (B,) of those to keep; ``level`` (B, C) is taken off the windows first.
        """
        rules, kept = self.rules, np.broadcast_to(keep, len(scaling))
        if rules is None:
            return self._measured(scaling, conditions, kept, level)
        if level is not None:
            scaling = scaling - level[:, None]
        whole = np.ones(len(scaling), bool)
        found = self._measured(scaling, conditions, whole)
        aside = rules.ignored & self._beyond(found, FOREIGN)  # (B, C)
        affected = np.flatnonzero(aside.any(1))
        if len(affected):
            found = found.replaced(affected, self._without(scaling, conditions, affected, aside))
        ruled = np.broadcast_to(rules.any, aside.shape)
        innocent = np.broadcast_to(rules.ignored, aside.shape).copy()
        for suspects in (ruled & self._beyond(found, GROSS), ruled):
            judged = np.flatnonzero((suspects & ~innocent).any(1))
            if len(judged):
                removed = suspects | rules.ignored
                without = self._without(scaling, conditions, judged, removed)
                innocent[judged] |= removed[judged] & self._innocent(found.scaled[judged], without.decoded)
        again = np.flatnonzero(innocent.any(1))
        if len(again):
            found = found.cleared(
                again, innocent[again], self._without(scaling, conditions, again, innocent), self.sigma
            )
        error, newest = found.channel_error, found.residual
        error[:, :, rules.ignored] = newest[:, rules.ignored] = np.nan
        return replace(
            found,
            observed=found.observed & np.isfinite(error).any((0, 2)),
            scaled=found.scaled[kept],
            decoded=found.decoded[kept],
        )

    def _beyond(self, found: Measured, times: float) -> Mask:
        """(B, C) the sensors that are farther off than so many typical residuals somewhere in a window that was kept."""
        off = np.abs(found.scaled - found.decoded) > times * self.sigma
        return np.asarray(off.any(1))

    def _innocent(self, scaled: NDArray[np.float32], expected: NDArray[np.float32]) -> Mask:
        """(W, C) the sensors whose largest distance from what the others let expect, in windows (W, L, C), is excused."""
        assert self.rules is not None
        excused = self._excused(scaled, expected)
        distance = np.nan_to_num(np.abs(scaled - expected), nan=-1.0)
        largest = distance.argmax(1)[:, None]
        return np.asarray(np.take_along_axis(excused, largest, 1)[:, 0] | self.rules.ignored)

    def _without(
        self, scaling: NDArray[np.float32], conditions: Sequence[str], which: Ints, removed: Mask
    ) -> Measured:
        """Some windows, as if their ``removed`` sensors (B, C) were missing."""
        windows = scaling[which].copy()
        windows[np.broadcast_to(removed[which][:, None], windows.shape)] = np.nan
        labels = [conditions[i] for i in which.tolist()]
        return self._measured(windows, labels, np.ones(len(which), bool))

    def _excused(self, scaled: NDArray[np.float32], decoded: NDArray[np.float32]) -> Mask:
        """(B, L, C) the cells of windows that rules excuse; there are rules."""
        assert self.rules is not None
        return self.rules.excused(scaled, decoded, self.scaler.mean, self.scaler.scale)

    def _measured(
        self,
        scaling: NDArray[np.float32],
        conditions: Sequence[str],
        kept: Mask,
        level: NDArray[np.float32] | None = None,
    ) -> Measured:
        """``measure_scaled`` of windows each by itself; with rules, the residuals of excused cells are zero."""
        none, whole = np.zeros(len(scaling), bool), np.ones(len(scaling), bool)
        if self.rules is not None:
            kept = none = whole  # cells are excused one by one
        # The longest length comes last; most measurements are of its model.
        seen = [
            self._measure_length(
                infer, scaling[:, -length:], conditions, kept if length == self.window else none, level
            )
            for length, infer in zip(self.lengths, self._inferences, strict=True)
        ]
        errors, latents = [], []
        for length, of in zip(self.lengths, seen, strict=True):
            missing = length - of.cells
            squares, residual = of.squares, of.residual
            if self.rules is not None:
                squares, residual = of.without(self._excused(of.scaled, of.decoded))
            total = squares + missing * self.sigma**2 if missing.any() else squares
            errors.append(np.where(of.cells > 0, np.sqrt(total / length), np.nan))
            largest = np.abs(of.z).max(1) if of.z.shape[1] else np.zeros(len(of.z))
            observed = np.asarray(of.cells.any(1))
            latents.append(np.where(observed[:, None], np.stack([of.score, largest], 1), np.nan))
        each = 0.5 * of.squares / self.sigma**2 + of.cells * (np.log(self.sigma) + 0.5 * LOG_2PI)
        return Measured(
            channel_error=np.stack(errors),
            latent=np.stack(latents),
            residual=residual,
            newest=of.newest,
            carried=of.carried,
            distance=of.distance,
            posterior=of.z,
            elbo=np.where(observed, -each.sum(1) - of.nats, np.nan),
            observed=observed,
            scaled=of.scaled,
            decoded=of.decoded,
        )

    def _measure_length(
        self,
        infer: Inference,
        scaling: NDArray[np.float32],
        conditions: Sequence[str],
        keep: Mask,
        level: NDArray[np.float32] | None,
    ) -> _LengthMeasurement:
        """The measurements of the newest rows of windows (B, length, C), less a ``level`` (B, C), by one of the models."""
        chunks = _chunks(scaling)
        # Clipped chunk by chunk into one buffer, so that the values are still in the cache when the model
        # reads them, and its residuals when they are summed.
        room = np.empty((_padded(min(chunks[0].stop, len(scaling))), *scaling.shape[1:]), np.float32)
        parts: list[_LengthMeasurement] = []
        for some in chunks:
            count, labels = len(scaling[some]), conditions[some]
            scaled = room[: _padded(count)]
            shown = scaling[some]
            if level is not None:
                # Repeated first: numpy subtracts long rows faster than many short ones.
                of_rows = np.tile(level[some], shown.shape[1]).reshape(shown.shape)
                shown = np.subtract(shown, of_rows, out=scaled[:count])
            self.scaler.clipped(shown, out=scaled[:count])
            scaled[count:] = 0.0
            cells = scaled.reshape(len(scaled), -1)[:count]
            sums = cells @ np.ones(cells.shape[1], cells.dtype)  # a NaN shows in the sum
            holed = np.flatnonzero(np.isnan(sums))
            parts.append(self._measure_chunk(infer, scaled, labels, np.flatnonzero(keep[some]), holed))
        return parts[0] if len(parts) == 1 else _LengthMeasurement.joined(parts)

    def _measure_chunk(
        self,
        infer: Inference,
        scaled: NDArray[np.float32],
        conditions: Sequence[str],
        keep: Ints,
        holed: Ints,
    ) -> _LengthMeasurement:
        """Measure the first ``len(conditions)`` windows of ``scaled``; the others are padding.

        ``holed`` are those that have gaps: they are filled and read apart from the others, and written with them.
        The windows of ``keep`` are kept. ``scaled`` is overwritten.
        """
        count, (_, length, channels) = len(conditions), scaled.shape
        kept = scaled[keep]
        with torch.inference_mode():
            x = torch.from_numpy(scaled).flatten(1)
            labels = [*conditions, *[conditions[-1] if count else ""] * (len(scaled) - count)]
            usual = None
            if self.means is not None:
                usual = self.means.of(self.means.codes(labels), x.shape[1])  # (B, d)
                x -= usual
            gaps: Gaps | None = None
            if len(holed):
                gaps = Gaps.of(
                    x, None if len(holed) == count else torch.from_numpy(holed), _padded(len(holed))
                )
                gaps.put(x, infer.pca.fill(gaps.pick(x), gaps.mask))
            before, shown = x[:count, -channels:].clone(), x[keep]
            found = infer(x, gaps, None if infer.vae is None else infer.vae.codes(labels))
            residual = found.residual
            decoded, shown = before - residual[:count, -channels:], shown - residual[keep]
            if usual is not None:
                decoded += usual[:count, -channels:]
                shown += usual if len(usual) == 1 else usual[keep]
            rows = residual.view(len(x), length, channels)
            newest = rows[:count, -1].double().numpy()  # a copy, before the squares take the place
            carried, distance = newest, np.zeros((count, channels))
            cells = np.full((count, channels), float(length))
            if gaps is not None:
                which = slice(count) if len(holed) == count else holed  # of all of them a view, no copy
                missing = gaps.mask[: len(holed)].view(-1, length, channels)
                mine = rows[which].masked_fill_(missing, 0.0)
                seen = ~missing.numpy()
                carried = newest.copy()
                newest[which] = np.where(seen[:, -1], newest[which], np.nan)
                cells[which] = seen.sum(1)
                carried[which], distance[which] = _newest_observed(mine.numpy(), seen)
                if len(holed) < count:
                    rows[holed] = mine
            squares = rows.square_().sum(1)
        return _LengthMeasurement(
            squares=squares[:count].double().numpy(),
            cells=cells,
            residual=newest,
            newest=decoded.double().numpy(),
            carried=carried,
            distance=distance,
            z=found.z[:count].double().numpy(),
            score=found.score[:count].double().numpy(),
            nats=found.nats[:count].double().numpy(),
            scaled=kept,
            decoded=shown.view(-1, length, channels).numpy(),
        )

    def reconstruct(self, scaled: NDArray[np.float32], conditions: Sequence[str] = ()) -> Floats:
        """Scaled windows (B, L, C), NaN where missing, reconstructed by the long model, all cells.

        For fitting imputation to the model; without B labels the condition counts as unknown.
        """
        decoded = []
        labels = conditions or ("",) * len(scaled)
        for some in _chunks(scaled):
            count = len(scaled[some])
            chunk = np.zeros((_padded(count), *scaled.shape[1:]), np.float32)
            chunk[:count] = scaled[some]
            every = np.arange(count)
            decoded.append(
                self._measure_chunk(self._inferences[-1], chunk, labels[some], every, every).decoded
            )
        return np.concatenate(decoded).astype(float)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a bundle stores."""
        result = {f"scaler.{k}": v for k, v in self.scaler.arrays().items()}
        for length, pca in zip(self.lengths, self.pcas, strict=True):
            result.update({f"pca.{length}.{k}": v for k, v in pca.arrays().items()})
        if self.vae is not None:
            result.update({f"vae.{k}": v for k, v in self.vae.arrays().items()})
        result["sigma"] = self.sigma
        return result


def _chunks(scaled: NDArray[np.float32]) -> list[slice]:
    """Slices of (B, L, C) windows that are processed at once; at least one, possibly empty."""
    cells = max(scaled.shape[1] * scaled.shape[2], 1)
    size = min(max(CHUNK_CELLS // cells // PAD, 1) * PAD, CHUNK)
    return [slice(at, at + size) for at in range(0, max(len(scaled), 1), size)]


def _padded(count: int) -> int:
    """The padded number of windows: a multiple of 32, at least 32."""
    return max(-(-count // PAD), 1) * PAD


def _newest_observed(residual: NDArray[np.float32], seen: Mask) -> tuple[Floats, Floats]:
    """Residual (B, C) of each channel's newest observed cell in (B, L, C), and its age in rows."""
    length = residual.shape[1]
    seen = seen[:, ::-1]
    age = np.where(seen.any(1), seen.argmax(1), length)  # (B, C)
    at = np.clip(length - 1 - age, 0, None)
    carried = np.take_along_axis(residual, at[:, None, :], 1)[:, 0]
    return np.where(age < length, carried, 0.0).astype(float), age.astype(float)
