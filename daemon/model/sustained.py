"""Sustained evidence: by how much each sensor's residuals have shifted or widened of late.

A mild fault (a leak, a loss of flow, an offset) may last for hours without any row that is unusual alone. Per
sensor two exponentially weighted means (Roberts 1959) of the newest rows' residuals collect what lasts:

    u      = clip((r - centre) / scale, -6, 6)           centre and scale: median and deviation in calibration
    level  follows u, width follows log(|u - level| + .1), both slowly: what moves for days is no deviation
    w      = (u - level) exp(-width)
    shift  = |mean of w|, spread = mean of |w|            over about four windows of rows

The robust scale and the clipping keep short transitions (a start, a stop), which have large residuals each time,
from hiding a small shift that lasts; so each row counts for little, and many in a row for much.

**Limits.** Each statistic of each sensor becomes -log p against calibration (``tails``); their largest, over both
statistics and all sensors, is replayed like the score (``calibration``), by held-out and by deployed models, with a
budget of its own. What is kept are the values at which each statistic opens and closes: comparing a row with them
costs less than its p-values.

The state of an asset is (4C,): level, width, mean of w, mean of |w|. A missing value leaves its sensor's state
as it is. The statistics of a row include that row; level and width are those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import DAY_NS, AlarmPolicy, Budget, Floats, Ints
from daemon.grouping import by_slot
from daemon.model.baseline import CONTINUES
from daemon.model.calibration import closing_level, lowest_threshold, usual_level
from daemon.model.crossfit import HeldOutPiece
from daemon.model.tails import Tail

SPAN = 4
"""Windows that a mean reaches back, about: an exponential of span ``SPAN * window`` rows."""
CLIP = 6.0
LEAST_SCALE = 0.1
"""The least scale of a sensor, as a share of the standard deviation of its residuals."""
RATE = 2.0
"""How far a level moves in a day at most, in units of ``scale``; a width moves half as far, in nats."""
PULL = 2.0
"""The distance at which a level moves as fast as it can."""
WIDTH_OFFSET = 0.1
WIDTH_CENTRE = float(np.log(0.77))
"""Of log(|u| + .1) for a Gaussian u, about."""
CLOSES = 0.8
"""A deviation closes at this share of the threshold, or where 1 % of calibration is above, if that is lower."""
USUAL_SPREAD = 0.8
"""The mean of |u| for a Gaussian u: where a spread begins."""


@dataclass(frozen=True, slots=True, eq=False)
class SensorStatistics:
    """How residuals become a shift and a spread per sensor. Shapes: C sensors, B rows, N slots."""

    centre: Floats  # (C,) in units of ``Evidence.residual``
    scale: Floats  # (C,)
    weight: float  # of the newest row in a mean
    step: float  # largest move of a level per row

    @staticmethod
    def fit(residual: Floats, window: int, period_ns: int) -> SensorStatistics:
        """Of calibration residuals (n, C), NaN where missing.

        Args:
            residual: of the newest rows, measured by models that were not fitted on them.
            window: L, in measured rows.
            period_ns: from one measured row to the next.
        """
        seen = np.isfinite(residual).any(0)
        values = np.where(seen, residual, 0.0)
        centre = np.nanmedian(values, 0)
        scale = 1.4826 * np.nanmedian(np.abs(values - centre), 0)
        scale = np.maximum(scale, LEAST_SCALE * np.nanstd(values, 0))
        return SensorStatistics(
            centre,
            np.where(scale > 0, scale, 1.0),
            2.0 / (SPAN * window + 1.0),
            RATE * period_ns / DAY_NS,
        )

    @property
    def states(self) -> int:
        """The numbers of one asset's state, 4C."""
        return 4 * len(self.centre)

    def fresh(self) -> Floats:
        """(4C,) the state of an asset of which nothing is known."""
        nothing = np.zeros(len(self.centre))
        return np.concatenate([nothing, nothing, nothing, np.full(len(self.centre), USUAL_SPREAD)])

    def advance(self, residual: Floats, state: Floats, slots: Ints) -> tuple[Floats, Floats]:
        """Take rows into the states, each asset's in its order.

        Args:
            residual: (B, C), NaN where missing.
            state: (N, 4C), moved on in place.
            slots: (B,) row of ``state`` of each row.

        Returns:
            (B, C) shift and spread after each row.
        """
        count, sensors = residual.shape
        shift, spread = np.empty((2, count, sensors))
        seen = np.isfinite(residual)
        every = bool(seen.all())  # nearly always
        u = (residual - self.centre) / self.scale
        u = np.clip(u if every else np.where(seen, u, 0.0), -CLIP, CLIP)
        weights = np.broadcast_to(self.weight, (count, 1)) if every else seen * self.weight
        steps = np.broadcast_to(self.step, (count, 1)) if every else seen * self.step
        # Rounds: the i-th row of every slot at once.
        rounds = by_slot(slots).occurrence
        order = np.argsort(rounds, kind="stable")
        start = 0
        for stop in np.cumsum(np.bincount(rounds)).tolist():
            some = order[start:stop]
            start = stop
            level, width, mean, size = np.split(state[slots[some]], 4, axis=1)
            distance = u[some] - level
            far = np.abs(distance)
            shrink = np.exp(-width)
            mean += weights[some] * (distance * shrink - mean)
            size += weights[some] * (far * shrink - size)
            level += steps[some] * np.clip(distance / PULL, -1.0, 1.0)
            excess = np.log(far + WIDTH_OFFSET) - WIDTH_CENTRE - width
            width += steps[some] / 2.0 * np.clip(excess / PULL, -1.0, 1.0)
            np.maximum(width, 0.0, out=width)
            state[slots[some]] = np.concatenate([level, width, mean, size], axis=1)
            shift[some], spread[some] = np.abs(mean), size
        return shift, spread

    def replay(self, pieces: Sequence[HeldOutPiece], residual_rms: Floats) -> tuple[Floats, Floats]:
        """(B, C) shift and spread of measured pieces, in their order; a piece continues its block's last one."""
        states: dict[tuple[int, str], int] = {}
        last_row: dict[tuple[int, str], int] = {}
        slots: list[Ints] = []
        count = 0
        for piece in pieces:
            key = piece.block, piece.asset
            if key not in states or piece.first_row - last_row[key] > CONTINUES:
                states[key] = count
                count += 1
            slots.append(np.full(len(piece.measured.observed), states[key], np.int64))
            last_row[key] = piece.end_row
        residual = np.concatenate([piece.measured.residual for piece in pieces]) / residual_rms
        return self.advance(residual, np.tile(self.fresh(), (count, 1)), np.concatenate(slots))


@dataclass(frozen=True, slots=True, eq=False)
class SustainedLimits:
    """At which values the statistics of a sensor open a deviation, and down to which it stays open."""

    statistics: SensorStatistics
    shift_opens: Floats  # (C,)
    shift_closes: Floats
    spread_opens: Floats
    spread_closes: Floats
    provisional: bool  # fewer days of data than one false episode takes

    @staticmethod
    def fit(
        held: Sequence[HeldOutPiece],
        deployed: Sequence[HeldOutPiece],
        statistics: SensorStatistics,
        residual_rms: Floats,
        period_ns: int,
        budget: Budget,
    ) -> SustainedLimits:
        """The lowest limits at which both replays keep the budget.

        Args:
            held: rows measured by models that were not fitted on them.
            deployed: the same rows, measured by the deployed models; they can only raise the limits.
            statistics: fitted on ``held``.
            residual_rms: (C,) of ``Calibration``.
            period_ns: from one measured row to the next.
            budget: false deviations per asset and day.
        """
        found = statistics.replay(held, residual_rms)
        tails = [[Tail.fit(values) for values in one.T] for one in found]
        strengths = [_strength(found, tails)]
        series = [_by_piece(strengths[0], held)]
        if deployed:
            strengths.append(_strength(statistics.replay(deployed, residual_rms), tails))
            series.append(_by_piece(strengths[1], deployed))
        allowed = budget.episodes_per_day * len(strengths[0]) * period_ns / DAY_NS
        policy = AlarmPolicy(hysteresis=CLOSES)
        usual = usual_level(strengths[0])
        opens = max(lowest_threshold(one, allowed, policy, usual) for one in series)
        closes = closing_level(opens, usual, policy)
        shift, spread = (
            [np.array([tail.inverse(nats) for tail in one]) for nats in (opens, closes)] for one in tails
        )
        return SustainedLimits(
            statistics, shift[0], shift[1], spread[0], spread[1], provisional=allowed < 1.0
        )

    def ratios(self, shift: Floats, spread: Floats) -> tuple[Floats, Floats]:
        """(B, C) the statistics of each sensor over its limits: over 1 it opens, up to 1 it closes."""
        return (
            np.maximum(shift / self.shift_opens, spread / self.spread_opens),
            np.maximum(shift / self.shift_closes, spread / self.spread_closes),
        )


def _strength(found: Sequence[Floats], tails: Sequence[Sequence[Tail]]) -> Floats:
    """(B,) the largest -log p over statistics and sensors."""
    strength = np.zeros(len(found[0]))
    for one, own in zip(found, tails, strict=True):
        for values, tail in zip(one.T, own, strict=True):
            np.maximum(strength, tail(values), out=strength)
    return strength


def _by_piece(values: Floats, pieces: Sequence[HeldOutPiece]) -> list[Floats]:
    return np.split(values, np.cumsum([len(piece.measured.observed) for piece in pieces])[:-1])
