"""The thresholds of the assets: the model's, or with the online correction a share of it that keeps the budget.

A model's threshold T is found on training rows. Where it is too high for what an asset does today, incidents are missed
while none of the false episodes that the budget allows come. The *online correction* (a setting) lowers it slowly for such
an asset, and raises it with each episode: adaptive conformal inference (Gibbs and Candes 2021), on a logarithmic scale.

    an asset's threshold is u T, with u from ``LOWEST`` to 1, and 1 at first
    u falls by the factor exp(-STEP b) with each scored row, b the episodes that the budget allows in the time of a row
    u rises by the factor exp(STEP) when an anomaly episode of the asset closes

so that it stays where it is when exactly as many episodes come as the budget allows. It is frozen while the episode goes
on (its refractory time included) and under maintenance: an incident says nothing of the rows around it, and the closing
level of an episode is the one at which it opened. Never above T: true incidents, however many, make nobody less sensitive than without it.

All anomalies count, those that a jump opened as well: the budget is for both. The limits of jumps and of deviations stay
what the model says. What u has become belongs to the threshold of one model, and begins anew with another: the next
training finds its own threshold on rows that include those of late.
"""

from __future__ import annotations

import math

import numpy as np

from daemon.budget import Budget
from daemon.detector import Detector
from daemon.domain import DAY_NS, Ints, StreamSpec
from daemon.stream.assets import AssetTable
from daemon.stream.snapshot import ThresholdState

STEP = 0.1
"""Nats by which an episode raises a threshold; as many are taken from it in the time for which one is allowed."""
LOWEST = 0.75
"""Share of the model's threshold below which none falls."""
LOWEST_LEVEL = math.log(LOWEST)


class Thresholds:
    """The thresholds of the assets of one input partition, under one model at a time.

    Args:
        spec: the stream.
        assets: those of the partition.
        hysteresis: an episode closes at this share of its threshold, or at the model's closing level if that is lower.
        budget: of anomalies, which the online correction keeps; None: there is no correction.
    """

    def __init__(
        self, spec: StreamSpec, assets: AssetTable, hysteresis: float, budget: Budget | None
    ) -> None:
        self.corrected = budget is not None
        self._spec = spec
        self._hysteresis = hysteresis
        self._budget = budget
        self._threshold = self._closing = math.inf
        self._fall = 0.0  # nats per scored row
        # log u after the last episode, and the scored rows since that count: sums of many small steps would depend on
        # where a snapshot was taken, a product does not.
        self._level = assets.column(np.float64, 0.0)
        self._rows = assets.column(np.int64, 0)
        self._assets = assets

    def leave(self) -> None:
        """The last call: nothing per asset is held any more."""
        self._assets.release(self._level, self._rows)

    def use(self, detector: Detector | None) -> None:
        """Take over this model's threshold; every correction begins anew."""
        self._level.values[:] = 0.0
        self._rows.values[:] = 0
        self._take(detector)

    def exchange(self, detector: Detector) -> None:
        """Take over the same model's threshold for another budget; the corrections go on."""
        self._settle()
        self._take(detector)

    def configure(self, hysteresis: float, budget: Budget | None, detector: Detector | None) -> None:
        """Another hysteresis and budget, from now on; whether there is a correction stays as it was."""
        self._settle()
        self._hysteresis = hysteresis
        if self.corrected and budget is not None:
            self._budget = budget
        self._take(detector)

    def _take(self, detector: Detector | None) -> None:
        if detector is None:
            return
        self._threshold, self._closing = detector.threshold, detector.closing
        if self._budget is not None:
            days = self._spec.hop * self._spec.period_ns / DAY_NS
            self._fall = STEP * self._budget.allowed(days, detector.calibrated_assets)

    def _settle(self) -> None:
        """Count the rows so far by the present budget."""
        fallen = self._level.values - self._fall * self._rows.values
        self._level.values[:] = np.maximum(fallen, LOWEST_LEVEL)
        self._rows.values[:] = 0

    @property
    def lowest_closing(self) -> float:
        """No asset's closing level is lower."""
        return self._closing_at(math.exp(LOWEST_LEVEL) if self.corrected else 1.0)

    def share(self, slot: int) -> float:
        """u of the asset's next scored row."""
        return math.exp(self._log(slot)) if self.corrected else 1.0

    def levels(self, slot: int) -> tuple[float, float]:
        """The threshold and the closing level of the asset's next scored row."""
        share = self.share(slot)
        return share * self._threshold, self._closing_at(share)

    def _closing_at(self, share: float) -> float:
        if share == 1.0:
            return self._closing
        return min(self._hysteresis * share * self._threshold, self._closing)

    def _log(self, slot: int) -> float:
        fallen = float(self._level.values[slot]) - self._fall * int(self._rows.values[slot])
        return max(fallen, LOWEST_LEVEL)

    def passed(self, slots: Ints) -> None:
        """These assets' rows, one entry each, were scored outside of episodes."""
        if self.corrected:
            np.add.at(self._rows.values, slots, 1)

    def closed(self, slot: int) -> None:
        """An anomaly episode of the asset is over."""
        if self.corrected:
            self._level.values[slot] = min(self._log(slot) + STEP, 0.0)
            self._rows.values[slot] = 0

    def snapshot(self, slot: int) -> ThresholdState:
        """The part of an asset's record of state."""
        return ThresholdState(float(self._level.values[slot]), int(self._rows.values[slot]))

    def restore(self, slot: int, state: ThresholdState) -> None:
        """Continue from a predecessor's, under the same model."""
        self._level.values[slot], self._rows.values[slot] = state
