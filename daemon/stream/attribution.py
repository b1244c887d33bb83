"""Attribution: which sensors an anomaly episode is blamed on, and in what shares.

Why: one row is little evidence. An incident shows in one sensor now and in another later, and a spike has
left the window's newest row before the episode is over. Therefore ``PeakEvidence`` keeps, per sensor, the
maximum of each of four kinds of evidence since the episode's onset, and ``shares`` combines them.

Input: ``SensorEvidence`` of each scored row of the episode. Output: (C,) shares that sum to 1. Shapes: C
sensors, L steps of a window; NaN where nothing is known of a sensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from daemon.detector import Explanation
from daemon.domain import Floats, Mask

MOST_OF_IT = 0.9
"""The share of an episode that the sensors it is blamed on have together. Nearly every sensor has some share."""
_AS_FAR = 0.5  # of what a sensor was off by at its peak


@dataclass(frozen=True, slots=True, eq=False)
class SensorEvidence:
    """The evidence of one scored row for each sensor: all (C,), NaN where unknown."""

    error: Floats  # standardised, over the whole window
    residual: Floats  # of the newest row, standardised
    deviation: Floats  # of the newest row, signed, from the training mean in training sd
    before: Floats  # the same, median over the window
    observed: Floats
    expected: Floats

    @staticmethod
    def read(
        error: Floats, residual: Floats, deviation: Floats, observed: Floats, expected: Floats
    ) -> SensorEvidence:
        """The evidence of a window's newest row.

        Everything is kept in double precision, whatever the model computes in: the peaks are part of the
        state, and a successor must continue with exactly these numbers.

        Args:
            error: (C,) standardised error over the whole window.
            residual: (C,) of the newest row, standardised.
            deviation: (L, C) of all rows, from the training mean in training sd.
            observed: (C,) the newest row, raw.
            expected: (C,) the same as decoded; NaN for a sensor that training never saw, which then has
                no deviation either.
        """
        error, residual, observed, expected = (
            np.asarray(values, np.float64) for values in (error, residual, observed, expected)
        )
        deviation = np.where(np.isnan(expected), np.nan, deviation.astype(np.float64))
        count = np.isfinite(deviation).sum(0)
        middle = (np.maximum(count, 1) - 1) // 2  # sorting puts NaN last
        before = np.take_along_axis(np.sort(deviation, axis=0), middle[None], 0)[0]
        return SensorEvidence(error, residual, deviation[-1], before, observed, expected)


@dataclass(frozen=True, slots=True, eq=False)
class PeakEvidence:
    """The maximum of each sensor's evidence since an episode's onset: all (C,), NaN where unknown."""

    error: Floats
    residual: Floats
    change: Floats  # from ``before``, training sd
    deviation: Floats
    before: Floats  # where it stood when the scores began to rise
    observed: Floats  # with ``expected``, where the residual was largest
    expected: Floats

    @staticmethod
    def since(row: SensorEvidence) -> PeakEvidence:
        """The peaks of an episode whose first row this is."""
        nothing = np.full(len(row.error), np.nan)
        return PeakEvidence(nothing, nothing, nothing, nothing, row.before, nothing, nothing).grown(row)

    def grown(self, row: SensorEvidence) -> PeakEvidence:
        """The peaks with one more row; a sensor that is missing in it keeps its own."""
        before = np.where(np.isnan(self.before), row.before, self.before)
        size = np.abs(row.residual)
        beyond = (size > self.residual) | np.isnan(self.residual)
        return PeakEvidence(
            np.fmax(self.error, row.error),
            np.fmax(self.residual, size),
            np.fmax(self.change, np.abs(row.deviation - before)),
            np.fmax(self.deviation, np.abs(row.deviation)),
            before,
            np.where(beyond, row.observed, self.observed),
            np.where(beyond, row.expected, self.expected),
        )

    def explained(self, by: Explanation, row: SensorEvidence) -> PeakEvidence:
        """The peaks, where an explanation of the newest row says which sensors are at fault.

        The evidence against the others is what is left of it without those, and their values are those of the row. Of
        the sensors at fault it stays, with the explained value of the row if they are still as far off as at
        the peak: a spike may be over.
        """
        least = np.where(by.blamed | np.isnan(by.residual), np.inf, by.residual)
        off = np.abs(row.observed - by.expected) >= _AS_FAR * np.abs(self.observed - self.expected)
        known = np.isfinite(row.observed) & np.isfinite(by.expected) & (~by.blamed | off)
        return replace(
            self,
            error=np.minimum(self.error, least),
            residual=np.minimum(self.residual, least),
            change=np.minimum(self.change, least),
            deviation=np.minimum(self.deviation, least),
            observed=np.where(known, row.observed, self.observed),
            expected=np.where(known, by.expected, self.expected),
        )

    def shares(self) -> Floats:
        """(C,) each sensor's share in an episode, summing to 1 (to 0 where nothing was observed).

        In proportion to the geometric mean of one plus each of: the window's error, the newest
        row's residual, the change since before the onset, the distance from the training mean,
        less one. Model and raw values must agree: a model's error leaks from the faulty sensor into
        sensors that correlate with it and whose values are normal, while many a sensor that is far
        from its mean is where the other sensors predict it. A product of magnitudes finds the faulty
        sensors better than an average of ranks, which loses the magnitudes (measured in
        ``tests/bench/attribution.py``).
        """
        evidence = np.stack([self.error, self.residual, self.change, self.deviation])
        size = np.expm1(np.log1p(np.fmax(evidence, 0.0)).mean(0))
        total = size.sum()
        return np.asarray(size / total if total > 0 else size)

    def blamed(self) -> Mask:
        """(C,) the fewest sensors whose shares add up to ``MOST_OF_IT``."""
        share = self.shares()
        order = np.argsort(-share, kind="stable")
        before = np.concatenate([[0.0], np.cumsum(share[order])[:-1]])
        blamed = np.zeros(len(share), bool)
        blamed[order] = (before < MOST_OF_IT) & (share[order] > 0)
        return blamed
