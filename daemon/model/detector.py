"""The detector: models and calibration as one immutable value; implements ``daemon.detector.Detector``.

``infer`` measures each window on its own (most of the cost, see ``reconstruction``); ``judge`` calibrates
in event order and moves each asset's slow baseline on (see ``baseline`` and ``calibration``).

What is published of a window:

* ``reconstruction``: mean over the window lengths of the mean of the k largest standardised channel errors
  (after the baseline); its p is calibrated on that very number.
* ``kl``: sum of KL_d over the latents of the longest window's model, nats, uncorrected (its p is that of
  the value after the slow baseline). For a linear model the squared norm of z.
* ``point``: largest |residual| of the newest row, in calibration rms (after the baseline).
* ``p_*``: exp(-g) of that part alone. ``part_thresholds`` are the values whose g equals the threshold of
  the combined score: what a part must reach if all parts agree.

Here P is ``Calibration.states``. A baseline, (P,) in ``daemon.detector``, has 2P numbers: the excess over what is
usual, and the asset's own level. Q numbers follow: 2C of the last row (``jumps``), and where deviations are looked
for the state of the sensors' sustained evidence (``sustained``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from daemon.detector import (
    CorrectedWindows,
    DriftReference,
    Evidence,
    Explanation,
    Offset,
    OwnedWindow,
    Scaling,
    SlowTrends,
    SustainedVerdicts,
    Verdicts,
    Windows,
)
from daemon.domain import (
    NO_CONDITION,
    Floats,
    Ints,
    Mask,
)
from daemon.habit import SilenceHabit
from daemon.model import correction, imputation, jumps
from daemon.model.baseline import CONTINUES, follow
from daemon.model.calibration import Calibration, Parts
from daemon.model.explanation import explain
from daemon.model.reconstruction import Measured, Models
from daemon.model.repair import LiveWindow, live_verdict
from daemon.model.sustained import SustainedLimits
from daemon.model.trend import TrendLimits

CARRY = 0.8
"""Autocorrelation assumed of a residual from row to row when a gap is filled."""
NINETY = 1.645
"""Half width of a 90 % interval, in standard deviations."""


@dataclass(frozen=True, slots=True, eq=False)
class BundleDetector:
    """The ``Detector`` of a bundle; see ``daemon.detector.Detector`` for its guarantees."""

    version: str
    sensors: tuple[str, ...]
    conditions: tuple[str, ...]
    models: Models
    calibrated: Calibration
    longest_constant: Ints
    drift: DriftReference
    imputation: imputation.ImputationParameters | None
    sustained: SustainedLimits | None = None
    silence: SilenceHabit | None = None
    trend: TrendLimits | None = None
    part_thresholds: Mapping[str, float] = field(init=False)
    _places: Mapping[str, int] = field(init=False)  # of the condition labels
    _condition_levels: Floats = field(init=False)  # (K + 1, P), the last row for unknown labels

    def __post_init__(self) -> None:
        c = self.calibrated
        object.__setattr__(self, "_places", {label: i for i, label in enumerate(self.conditions)})
        nothing = np.zeros(c.states)
        levels = [c.condition_levels.get(label, nothing) for label in self.conditions]
        unknown = c.condition_levels.get(NO_CONDITION, nothing)
        object.__setattr__(self, "_condition_levels", np.stack([*levels, unknown]))
        thresholds = {
            "reconstruction": c.reconstruction.inverse(c.threshold),
            "kl": c.latent[-1][0].inverse(c.threshold),
            "point": c.point.inverse(c.threshold),
        }
        object.__setattr__(self, "part_thresholds", thresholds)

    @property
    def kind(self) -> str:
        """The model of the long windows: a VAE's path (``mlp``, ``conv``, ``gru``) or ``ppca``."""
        return self.models.kind

    @property
    def window(self) -> int:
        """L."""
        return self.models.window

    @property
    def threshold(self) -> float:
        """An episode opens at score > threshold."""
        return self.calibrated.threshold

    @property
    def closing(self) -> float:
        """An episode closes at score <= closing."""
        return self.calibrated.closing

    @property
    def calibration(self) -> str:
        """``full`` or ``provisional`` (fewer days of data than one false episode takes)."""
        return "provisional" if self.calibrated.provisional else "full"

    @property
    def calibrated_assets(self) -> int:
        """How many assets it was calibrated on."""
        return self.calibrated.assets

    @property
    def scaling(self) -> Scaling:
        """The units of windows: distances from the training mean, in training sd."""
        return self.models.scaler.scaling

    def infer(self, windows: Windows) -> Evidence:
        """Measure each window on its own; pure, and independent of the batch."""
        newest = windows.values[:, -1]
        holed = np.asarray(~np.isfinite(newest).all(axis=1))
        scaler, scaled, levels = self.models.scaler, windows.scaled, self.models.levels
        level: NDArray[np.float32] | None = None
        if levels is None:
            units = scaler.scaled(windows.values) if scaled is None else scaled
        else:
            units = scaler.scaling.of(windows.values) if scaled is None else scaled
            if scaled is None:
                units[~np.isfinite(windows.values)] = np.nan
            level = levels.of(windows.asset, units)
        measured = self.models.measure_scaled(units, windows.condition, holed, level)
        expected = measured.newest if level is None else measured.newest + level
        filled, low, high = newest.copy(), newest.copy(), newest.copy()
        if holed.any():
            filled[holed], low[holed], high[holed] = self._fill(windows, measured, newest, holed, level)
        return Evidence(
            channel_error=measured.channel_error,
            latent=measured.latent,
            residual=measured.residual / self.calibrated.residual_rms,
            elbo=measured.elbo,
            posterior=measured.posterior,
            expected=scaler.raw(expected),
            filled=filled,
            low=low,
            high=high,
            scorable=windows.full & measured.observed,
            condition=self._codes(windows.condition),
        )

    def _codes(self, labels: Sequence[str]) -> Ints:
        """(B,) places of condition labels, -1 for what training has not seen."""
        if not self.conditions:
            return np.full(len(labels), -1)
        return np.array([self._places.get(label, -1) for label in labels], np.int64)

    def _fill(
        self,
        windows: Windows,
        measured: Measured,
        newest: Floats,
        holed: Mask,
        level: NDArray[np.float32] | None,
    ) -> tuple[Floats, Floats, Floats]:
        """The newest rows of the ``holed`` windows, with their gaps filled: value, low, high; ``level`` is (B, C)."""
        scaler = self.models.scaler
        mine = np.zeros(1) if level is None else level[holed].astype(np.float64)
        if self.imputation is not None:
            last_value, last_age = None, None
            if windows.last_value is not None and windows.last_age is not None:
                last = scaler.scaling.of(windows.last_value[holed]) - mine
                last_value = scaler.clipped(last.astype(np.float32)).astype(np.float64)
                last_age = windows.last_age[holed].astype(np.int64)
            fill = imputation.fill_newest(
                self.imputation, measured.scaled, measured.decoded, last_value, last_age
            )
            scaled = (fill.value, fill.low, fill.high)
        else:  # the model's value plus its last residual, decaying with distance
            distance = measured.distance[holed]
            value = measured.newest[holed] + CARRY**distance * measured.carried[holed]
            half = NINETY * self.models.sigma * np.sqrt(1.0 + distance / 4.0)
            scaled = (value, value - half, value + half)
        given = newest[holed]
        ends = [scaler.raw(cells + mine) for cells in scaled]
        if self.imputation is not None:
            row, channel = np.nonzero(~np.isfinite(given))
            shown = self._shown(windows, measured.scaled + mine[:, None], holed, (row, channel))
            for cells in ends:
                cells[row, channel] = self.imputation.limits.applied(cells[row, channel], channel, shown)
        value, low, high = (np.where(np.isfinite(given), given, cells) for cells in ends)
        return value, low, high

    def _shown(
        self, windows: Windows, scaled: Floats, holed: Mask, cells: tuple[Ints, Ints]
    ) -> tuple[Floats, Floats]:
        """(n,) the smallest and the largest reading of late of the sensors of some ``cells`` of ``holed`` windows.

        ``scaled`` (H, L, C) are these windows.
        """
        row, channel = cells
        scaler = self.models.scaler
        of_late = scaled[row, :, channel] * scaler.scale[channel, None] + scaler.mean[channel, None]
        least, most = np.fmin.reduce(of_late, axis=1), np.fmax.reduce(of_late, axis=1)
        if windows.last_value is not None:
            last = windows.last_value[holed][row, channel]
            least, most = np.fmin(least, last), np.fmax(most, last)
        return least, most

    def slow_trends(self, days: Ints, means: Floats) -> SlowTrends | None:
        """See ``daemon.detector.Detector`` and ``trend``."""
        return None if self.trend is None else self.trend.trends(days, means, self.models.rules)

    @property
    def _sustained_from(self) -> int:
        """Where the state of the sustained evidence begins in a baseline: after both levels and the last row."""
        return 2 * self.calibrated.states + 2 * len(self.sensors)

    def offsets(self, baseline: Floats, condition: str) -> Floats:
        """(P,) the log divisors that ``judge`` would use for a window at ``baseline`` (2P + Q,)."""
        P = self.calibrated.states
        excess, own = baseline[:P], baseline[P : 2 * P]
        c, place = self.calibrated, self._places.get(condition, -1)
        return np.asarray(excess + own + (self._condition_levels[place] if c.condition_levels else 0.0))

    def parts(self, measured: Measured, offsets: Floats) -> Parts:
        """The calibrated parts of windows with the same ``offsets`` (P,): variants of one window."""
        residual = measured.residual / self.calibrated.residual_rms
        every = np.broadcast_to(offsets, (len(residual), len(offsets)))
        return self.calibrated.parts(measured.channel_error, measured.latent, residual, every)

    def fresh_baseline(self, asset: str) -> Floats:
        """(2P + Q,) zeros, for the excess over what is usual, the asset's own level, and no evidence yet."""
        sustained = np.zeros(0) if self.sustained is None else self.sustained.statistics.fresh()
        return self._begin(asset, np.zeros(self.calibrated.states), sustained)

    def _begin(self, asset: str, excess: Floats, sustained: Floats) -> Floats:
        own = self.calibrated.own([asset], None)[0]
        return np.concatenate([excess, own, jumps.fresh(len(self.sensors)), sustained])

    def carried_baseline(self, asset: str, row: int) -> Floats | None:
        """(2P + Q,) the state that calibration left, if ``row`` is at most 10 periods after its end."""
        if asset not in self.calibrated.carried:
            return None
        after, state = self.calibrated.carried[asset]
        if not after <= row < after + CONTINUES:
            return None
        limits = self.sustained
        return self._begin(asset, state, np.zeros(0) if limits is None else limits.end_of_training(asset))

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        """Calibrate in order; moves ``baseline[slots]`` on, by scorable windows only."""
        c = self.calibrated
        error, latent, residual = evidence.channel_error, evidence.latent, evidence.residual
        if not evidence.scorable.all():
            error, latent, residual = (
                np.where(evidence.scorable[:, None], part, np.nan) for part in (error, latent, residual)
            )
        P = c.states
        excess, own = baseline[:, :P], baseline[:, P : 2 * P]  # views: the excess moves on, levels stay
        level = own[slots]
        if c.condition_levels:
            level = level + self._condition_levels[evidence.condition]
        offsets = follow(c.excess(error, latent) - level, excess, slots, c.step) + level
        parts = c.parts(error, latent, residual, offsets)
        nats = c.nats(parts)
        reconstruction = parts.reconstruction
        return Verdicts(
            score=c.combined(nats),
            reconstruction=reconstruction,
            kl=latent[-1, :, 0],
            point=parts.point,
            elbo=np.where(evidence.scorable, evidence.elbo, np.nan),
            p_reconstruction=np.exp(-c.reconstruction(reconstruction)),
            p_kl=np.exp(-nats[-2]),  # of the longest window
            p_point=np.exp(-nats[len(c.top)]),
            static_score=c.combined(c.nats(c.parts(error, latent, residual, level)))
            if static
            else np.full(len(error[0]), np.nan),
            error=parts.standardised,
            offsets=offsets,
            sustained=self._sustained(evidence, baseline[:, self._sustained_from :], slots),
            jump=jumps.advance(residual, baseline[:, 2 * P : self._sustained_from], slots) / c.jump_limit,
        )

    def _sustained(self, evidence: Evidence, state: Floats, slots: Ints) -> SustainedVerdicts | None:
        """What the residuals of late amount to; moves ``state[slots]`` (N, Q) on."""
        limits, which, residual = self.sustained, evidence.scorable, evidence.residual
        if limits is None:
            return None
        if which.all():
            opening, closing = limits.ratios(*limits.statistics.advance(residual, state, slots))
        else:
            opening, closing = np.full((2, *residual.shape), np.nan)
            found = limits.statistics.advance(residual[which], state, slots[which])
            opening[which], closing[which] = limits.ratios(*found)
        opening = np.where(np.isfinite(residual), opening, np.nan)
        return SustainedVerdicts(opening, closing, "provisional" if limits.provisional else "full")

    def accept(self, evidence: Evidence, baseline: Floats, slots: Ints, sensors: Mask) -> None:
        """Let the levels of the sensors' errors, and of what the latents show, be at least the window's own.

        The sustained evidence of the sensors begins anew, from where they are.
        """
        c = self.calibrated
        own = baseline[slots, c.states : 2 * c.states]
        level = own + self._condition_levels[evidence.condition] if c.condition_levels else own
        found = (c.excess(evidence.channel_error, evidence.latent) - level)[0]
        lengths = len(evidence.channel_error)
        which = np.concatenate([np.tile(sensors, lengths), np.ones(2 * lengths, bool)]) & np.isfinite(found)
        excess = baseline[slots[0], : c.states]  # a view
        excess[which] = np.maximum(excess[which], found[which])
        if self.sustained is not None:
            state = baseline[slots[0], self._sustained_from :]
            self.sustained.statistics.accept(evidence.residual[0], state, sensors)

    def begin_anew(self, baseline: Floats, slot: int, sensors: Mask) -> None:
        """See ``daemon.detector.Detector``. No change since the row before is known of any sensor."""
        lengths, P = len(self.models.lengths), self.calibrated.states
        baseline[slot, :P][np.concatenate([np.tile(sensors, lengths), np.ones(2 * lengths, bool)])] = 0.0
        baseline[slot, 2 * P : self._sustained_from] = jumps.fresh(len(self.sensors))
        if self.sustained is not None:
            self.sustained.statistics.begin_anew(baseline[slot, self._sustained_from :], sensors)

    def corrected(self, windows: Windows, least: Floats, most: Floats, taken: Mask) -> CorrectedWindows:
        """See ``daemon.detector.Detector`` and ``correction``."""
        return correction.corrected(self, windows, least, most, taken)

    def sensors_off(self, window: OwnedWindow, sensors: Mask) -> list[Offset]:
        """See ``daemon.detector.Detector`` and ``correction``."""
        return correction.sensors_off(self, window, sensors)

    def verdict(
        self,
        window: OwnedWindow,
        offsets: Floats,
        before: Floats,
        shares: Floats,
    ) -> str | None:
        """See ``daemon.detector.Detector`` and ``repair.live_verdict``."""
        level = self.level_of(window)
        live = LiveWindow(window.values - level, window.condition, offsets, before - level, shares)
        cause = live_verdict(self, live)
        return None if cause is None else cause.value

    def explain(self, window: OwnedWindow, shares: Floats) -> Explanation | None:
        """See ``daemon.detector.Detector`` and ``explanation``."""
        level = self.level_of(window)
        found = explain(self, window.values - level, window.condition, shares)
        if found is None or self.models.levels is None:
            return found
        return replace(found, expected=found.expected + level * self.models.scaler.scale)

    def explained_by(self, window: OwnedWindow, sensors: Mask) -> Mask:
        """See ``daemon.detector.Detector`` and ``correction``."""
        return correction.explained_by(self, window, sensors)

    def level_of(self, window: OwnedWindow) -> NDArray[np.float32]:
        """See ``daemon.detector.Detector``."""
        levels = self.models.levels
        if levels is None:
            return np.zeros(len(self.sensors), np.float32)
        return np.asarray(levels.of([window.asset], window.values[None])[0])
