"""Attribution: which sensors an anomaly episode is blamed on, and in what shares.

Why: one row is little evidence. An incident shows in one sensor now and in another later, and a spike has
left the window's newest row before the episode is over. Therefore ``PeakEvidence`` keeps, per sensor, the
maximum of each of four kinds of evidence since the episode's onset, and ``shares`` combines them.

Input: ``SensorEvidence`` of each scored row of the episode. Output: (C,) shares that sum to 1. Shapes: C
sensors, L steps of a window; NaN where nothing is known of a sensor.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace

import numpy as np

from daemon.detector import Explanation
from daemon.domain import Floats, Mask

SCORED = -1.0
"""In the place of a jump: a score above the threshold has been seen, and tells more."""
MOST_OF_IT = 0.9
"""The share of an episode that the sensors it is blamed on have together. Nearly every sensor has some share."""
LEADS = 0.5
"""A sensor leads an episode with a share of at least so much of the largest one."""
AS_FAR = 0.5
"""Of what a sensor was off by: it is off still where it is so far off."""


@dataclass(frozen=True, slots=True, eq=False)
class SensorEvidence:
    """The evidence of one scored row for each sensor: all (C,), NaN where unknown."""

    error: Floats  # standardised, over the whole window
    residual: Floats  # of the newest row, standardised
    deviation: Floats  # of the newest row, signed, from the training mean in training sd
    before: Floats  # the same, median over the window
    observed: Floats
    expected: Floats
    jump: Floats  # share of its limit where that alone opens an anomaly, else 0; ``SCORED``: the score does

    @staticmethod
    def read(
        error: Floats,
        residual: Floats,
        deviation: Floats,
        observed: Floats,
        expected: Floats,
        jump: Floats | None = None,
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
            jump: (C,) shares of their limits, of ``Verdicts``; None where the score is above the threshold.
        """
        error, residual, observed, expected = (
            np.asarray(values, np.float64) for values in (error, residual, observed, expected)
        )
        deviation = np.where(np.isnan(expected), np.nan, deviation.astype(np.float64))
        deviation[-1, residual == 0.0] = np.nan  # just as expected, or excused by a rule
        count = np.isfinite(deviation).sum(0)
        middle = (np.maximum(count, 1) - 1) // 2  # sorting puts NaN last
        before = np.sort(deviation, axis=0)[middle, np.arange(len(middle))]
        jumped = np.full(len(error), SCORED) if jump is None else np.where(jump > 1.0, jump, 0.0)
        return SensorEvidence(error, residual, deviation[-1], before, observed, expected, jumped)


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
    jump: Floats  # ``SCORED`` from the first score above the threshold on
    rows: Floats  # with a value
    apart: Floats  # sum of observed less expected over these

    @staticmethod
    def since(row: SensorEvidence) -> PeakEvidence:
        """The peaks of an episode whose first row this is."""
        nothing = np.full(len(row.error), np.nan)
        zero = np.zeros(len(row.error))
        return PeakEvidence(
            nothing, nothing, nothing, nothing, row.before, nothing, nothing, zero, zero, zero
        ).grown(row)

    def grown(self, row: SensorEvidence) -> PeakEvidence:
        """The peaks with one more row; a sensor that is missing in it keeps its own.

        Residuals count to the side on which the sensor is on the whole: the row in which it returns is as far from what
        a window of others like it leads to expect, to the other side.
        """
        before = np.where(np.isnan(self.before), row.before, self.before)
        size, off = np.abs(row.residual), np.nan_to_num(row.observed - row.expected)
        apart = self.apart + off
        beyond = (size > self.residual) & (off * apart >= 0.0) | np.isnan(self.residual)
        return PeakEvidence(
            np.fmax(self.error, row.error),
            np.where(beyond, size, self.residual),
            np.fmax(self.change, np.abs(row.deviation - before)),
            np.fmax(self.deviation, np.abs(row.deviation)),
            before,
            np.where(beyond, row.observed, self.observed),
            np.where(beyond, row.expected, self.expected),
            np.where(np.minimum(self.jump, row.jump) < 0, SCORED, np.maximum(self.jump, row.jump)),
            self.rows + np.isfinite(row.observed - row.expected),
            apart,
        )

    def only(self, sensors: Mask, before: PeakEvidence) -> PeakEvidence:
        """These peaks for some sensors (C,), and those of ``before`` for the others."""
        pairs = zip(astuple(self), astuple(before), strict=True)
        return PeakEvidence(*(np.where(sensors, mine, other) for mine, other in pairs))

    def joined(self, earlier: PeakEvidence | None) -> PeakEvidence:
        """With the peaks of an earlier run of the same episode."""
        if earlier is None:
            return self
        apart = self.apart + earlier.apart
        mine, its = ((one.observed - one.expected) * apart >= 0.0 for one in (self, earlier))
        larger = np.where(mine == its, ~(earlier.residual > self.residual), mine)
        larger = (larger & ~np.isnan(self.residual)) | np.isnan(earlier.residual)
        return replace(
            self,
            error=np.fmax(self.error, earlier.error),
            residual=np.where(larger, self.residual, earlier.residual),
            change=np.fmax(self.change, earlier.change),
            deviation=np.fmax(self.deviation, earlier.deviation),
            before=np.where(np.isnan(earlier.before), self.before, earlier.before),
            observed=np.where(larger, self.observed, earlier.observed),
            expected=np.where(larger, self.expected, earlier.expected),
            jump=np.where(np.minimum(self.jump, earlier.jump) < 0, SCORED, np.fmax(self.jump, earlier.jump)),
            rows=self.rows + earlier.rows,
            apart=apart,
        )

    @property
    def mean(self) -> Floats:
        """(C,) how far each sensor was from what was expected, on average of all rows, to its side; 0 where unknown."""
        return self.apart / np.maximum(self.rows, 1.0)

    @property
    def width(self) -> Floats:
        """(C,) the width of each sensor's noise in its own unit; infinite where unknown."""
        with np.errstate(divide="ignore", invalid="ignore"):
            width = np.abs(self.observed - self.expected) / self.residual
        return np.where(np.isfinite(width) & (width > 0), width, np.inf)

    def stacked(self) -> Floats:
        """(10, C) as numbers."""
        return np.stack(astuple(self))

    @staticmethod
    def unstacked(numbers: Floats) -> PeakEvidence:
        """The inverse of ``stacked``, of (10 * C,) or (10, C)."""
        return PeakEvidence(*numbers.reshape(len(fields(PeakEvidence)), -1))

    def explained(self, by: Explanation, row: SensorEvidence) -> PeakEvidence:
        """The peaks, where an explanation of the newest row says which sensors are at fault.

        The evidence against the others is what is left of it without those, and their values are those of the row. Of
        the sensors at fault it stays, with the explained value of the row if they are still as far off as at
        the peak: a spike may be over.
        """
        least = np.where(by.blamed | np.isnan(by.residual), np.inf, by.residual)
        far = self.observed - self.expected
        off = (row.observed - by.expected) * np.sign(far) >= AS_FAR * np.abs(far)
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

        While only jumps have opened the episode, the sensors that jumped have ``MOST_OF_IT``, by their jumps.
        """
        evidence = np.stack([self.error, self.residual, self.change, self.deviation])
        size = np.expm1(np.log1p(np.fmax(evidence, 0.0)).mean(0))
        total = size.sum()
        share = size / total if total > 0 else size
        if self.jump.max(initial=0.0) > 0:
            share = MOST_OF_IT * self.jump / self.jump.sum() + (1.0 - MOST_OF_IT) * share
        return np.asarray(share)

    def blamed(self) -> Mask:
        """(C,) the fewest sensors whose shares add up to ``MOST_OF_IT``."""
        share = self.shares()
        order = np.argsort(-share, kind="stable")
        before = np.concatenate([[0.0], np.cumsum(share[order])[:-1]])
        blamed = np.zeros(len(share), bool)
        blamed[order] = (before < MOST_OF_IT) & (share[order] > 0)
        return blamed

    def leading(self) -> list[int]:
        """The sensors that a person would name, largest share first: those with at least half of the largest."""
        share = self.shares()
        order = np.argsort(-share, kind="stable").tolist()
        return [c for c in order if share[c] > 0 and share[c] >= LEADS * share[order[0]]]


def extended(peaks: PeakEvidence | None, row: SensorEvidence | None) -> PeakEvidence | None:
    """The peaks with one more row; a row without evidence changes nothing."""
    if row is None:
        return peaks
    return PeakEvidence.since(row) if peaks is None else peaks.grown(row)
