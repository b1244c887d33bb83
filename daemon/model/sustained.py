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
costs less than its p-values. No limit is below what independent Gaussian rows of the sensor's scale reach as seldom: a
sensor that never moved in training (a set point, a firmware number) has no tail to go by, and its level, which has
followed a while of another value, would be a deviation for as long again. Nor has it a scale; ``least`` is that: of a
residual too small to count, as for jumps.

The state of an asset is (6C + 1,): level, width, mean of w, mean of |w|; level and width move only after every
``BLOCK`` rows, so the pulls on both since then are summed, and those rows counted. Between two moves a row costs
two numpy calls. A missing value leaves its sensor's state as it is. The statistics of a row include that row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from daemon.budget import Budget
from daemon.detector import REACH
from daemon.domain import DAY_NS, AlarmPolicy, Floats, Ints, Mask
from daemon.grouping import by_slot
from daemon.model.baseline import CONTINUES
from daemon.model.crossfit import HeldOutPiece, by_piece
from daemon.model.tails import Tail, TailTable
from daemon.model.thresholds import (
    Replays,
    beyond_nats,
    budget_facts,
    closing_level,
    finite_or_null,
    usual_level,
)

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
ARRIVED = 0.05
"""A mean is this share of the way short of a level, at most, that has lasted for as long as a regime."""
BLOCK = 16
"""Rows of an asset between two moves of its levels. They are counted for each asset in its state, so that neither
polls nor chunks show."""
CELLS_AT_ONCE = 8_192
"""Cells that are worked on at once: arrays of more leave the cache."""
LEAST_LIMIT = 1e-6
"""Limits are divided by."""
MOST_NATS = 700.0
"""exp of more is no number."""
SIZE_DEVIATION = math.sqrt(1.0 - 2.0 / math.pi)
"""The standard deviation of |u| for a Gaussian u."""


@dataclass(frozen=True, slots=True, eq=False)
class SensorStatistics:
    """How residuals become a shift and a spread per sensor. Shapes: C sensors, B rows, N slots."""

    centre: Floats  # (C,) in units of ``Evidence.residual``
    scale: Floats  # (C,)
    weight: float  # of the newest row in a mean
    step: float  # largest move of a level per row

    @staticmethod
    def fit(residual: Floats, window: int, period_ns: int, least: Floats | float = 0.0) -> SensorStatistics:
        """Of calibration residuals (n, C), NaN where missing.

        Args:
            residual: of the newest rows, measured by models that were not fitted on them.
            window: L, in measured rows.
            period_ns: from one measured row to the next.
            least: (C,) the least scale, in units of ``residual``: a sensor that stood still all along has none of its own.
        """
        seen = np.isfinite(residual).any(0)
        values = np.where(seen, residual, 0.0)
        centre = np.nanmedian(values, 0)
        scale = 1.4826 * np.nanmedian(np.abs(values - centre), 0)
        scale = np.maximum(np.maximum(scale, LEAST_SCALE * np.nanstd(values, 0)), least)
        return SensorStatistics(
            centre,
            np.where(scale > 0, scale, 1.0),
            2.0 / (REACH * window + 1.0),
            RATE * period_ns / DAY_NS,
        )

    def of_noise(self, nats: float) -> Floats:
        """(2, 1) the shift and spread that independent Gaussian rows of a sensor's scale exceed with -log p of ``nats``.

        A mean of rows deviates by sqrt(weight / (2 - weight)) of what a row does.
        """
        p = math.exp(-min(nats, MOST_NATS))
        both, above = (-NormalDist().inv_cdf(one) for one in (p / 2.0, min(p, 0.5)))
        late = math.sqrt(self.weight / (2.0 - self.weight))
        return np.array([[max(both * late, LEAST_LIMIT)], [USUAL_SPREAD + above * SIZE_DEVIATION * late]])

    @property
    def states(self) -> int:
        """The numbers of one asset's state, 6C + 1."""
        return 6 * len(self.centre) + 1

    def fresh(self) -> Floats:
        """(6C + 1,) the state of an asset of which nothing is known."""
        C = len(self.centre)
        state = np.zeros(6 * C + 1)
        state[3 * C : 4 * C] = USUAL_SPREAD
        return state

    def advance(self, residual: Floats, state: Floats, slots: Ints) -> tuple[Floats, Floats]:
        """Take rows into the states, each asset's in its order.

        Args:
            residual: (B, C), NaN where missing.
            state: (N, 6C + 1), moved on in place.
            slots: (B,) row of ``state`` of each row.

        Returns:
            (B, C) shift and spread after each row.
        """
        count, C = residual.shape
        found = np.empty((count, 2 * C))
        if not count:
            return found[:, :C], found[:, C:]
        seen = np.isfinite(residual)
        every = bool(seen.all())  # nearly always
        u = residual - self.centre
        u /= self.scale
        u = np.clip(u if every else np.where(seen, u, 0.0), -CLIP, CLIP)
        # Each row's place in the blocks of its asset. Rows of all assets at the same place are taken at once.
        place = by_slot(slots).occurrence + np.mod(state[slots, -1], BLOCK).astype(np.int64)
        alone = bool((slots == slots[0]).all())
        order = np.arange(count) if alone else np.argsort(place, kind="stable")
        slots, ends = slots[order], np.cumsum(np.bincount(place))
        state[slots, -1] = np.mod(place[order] + 1, BLOCK)
        taken = found if alone else np.empty_like(found)
        first = start = 0
        while first < len(ends):
            stops = ends[first : first + BLOCK - first % BLOCK].tolist()
            while len(stops) > 1 and (stops[-1] - start) * C > CELLS_AT_ONCE:
                stops = stops[: len(stops) // 2]
            first += len(stops)
            rows, mine = order[start : stops[-1]], slots[start : stops[-1]]
            add = self._evidence(u[rows], state[mine, : 2 * C])
            keep = np.broadcast_to(np.repeat([1.0 - self.weight, 1.0], 2 * C), add.shape)
            if not every:
                present = np.tile(seen[rows], 4)
                add *= present
                keep = np.where(present, keep, 1.0)
            if alone:
                _take(state[slots[0], 2 * C : -1], keep, add, taken[start : stops[-1]])
            else:
                begin = start
                for stop in stops:
                    some = slice(begin - start, stop - start)
                    sums = state[mine[some], 2 * C : -1]
                    sums *= keep[some]
                    sums += add[some]
                    state[mine[some], 2 * C : -1] = sums
                    taken[begin:stop] = sums[:, : 2 * C]
                    begin = stop
            if first % BLOCK == 0:
                self._move_levels(state, slots[ends[first - 2] : ends[first - 1]])
            start = stops[-1]
        if not alone:
            found[order] = taken
        return np.abs(found[:, :C]), found[:, C:]

    def _evidence(self, u: Floats, state: Floats) -> Floats:
        """(B, 4C) what rows add to the means of w and |w| and to the sums of pulls.

        Args:
            u: (B, C).
            state: (B, 2C) level and width of each row's asset.
        """
        count, C = u.shape
        level, width = state[:, :C], state[:, C:]
        add = np.empty((4, count, C))
        weight = np.exp(-width)
        weight *= self.weight
        distance = u - level
        far = np.abs(distance)
        np.multiply(weight, distance, out=add[0])
        np.multiply(weight, far, out=add[1])
        distance /= PULL
        np.clip(distance, -1.0, 1.0, out=add[2])
        far += WIDTH_OFFSET
        excess = np.log(far, out=far)
        excess -= width
        excess -= WIDTH_CENTRE
        excess /= PULL
        np.clip(excess, -1.0, 1.0, out=add[3])
        return add.transpose(1, 0, 2).reshape(count, 4 * C)

    def _move_levels(self, state: Floats, slots: Ints) -> None:
        """Move the levels and widths of assets (N,) by a block's pulls, which begin anew."""
        C = len(self.centre)
        mine = state[slots]
        mine[:, :C] += self.step * mine[:, 4 * C : 5 * C]
        mine[:, C : 2 * C] += self.step / 2.0 * mine[:, 5 * C : 6 * C]
        np.maximum(mine[:, C : 2 * C], 0.0, out=mine[:, C : 2 * C])
        mine[:, 4 * C : 6 * C] = 0.0
        state[slots] = mine

    def begin_anew(self, state: Floats, sensors: Mask) -> None:
        """Forget what is known of sensors (C,) in a state (6C + 1,)."""
        C = len(self.centre)
        state[:-1].reshape(6, C)[:, sensors] = self.fresh()[:-1].reshape(6, C)[:, sensors]

    def accept(self, residual: Floats, state: Floats, sensors: Mask) -> None:
        """Let the levels of sensors be where they have been of late.

        Args:
            residual: (C,) of the newest row. A mean never quite arrives, and lags behind levels that move. Where the
                row all but agrees with it, or is as far off as can be, the row is right: so a sensor that hardly moves
                is off by nothing from then on.
            state: (6C + 1,), moved in place.
            sensors: (C,) which.
        """
        C = len(self.centre)
        level, width, mean, spread = (state[i * C : (i + 1) * C] for i in range(4))  # views
        late = np.clip(level + mean * np.exp(width), -CLIP, CLIP)
        row = np.clip((residual - self.centre) / self.scale, -CLIP, CLIP)
        agrees = np.abs(row - late) <= ARRIVED * np.abs(late - level)
        late = np.where(agrees | (np.abs(row) >= CLIP), row, late)
        level[sensors] = late[sensors]
        mean[sensors] = 0.0
        spread[sensors] = USUAL_SPREAD
        for pulls in (state[4 * C : 5 * C], state[5 * C : 6 * C]):
            pulls[sensors] = 0.0

    def replay(
        self, pieces: Sequence[HeldOutPiece], residual_rms: Floats
    ) -> tuple[Floats, Floats, dict[str, Floats]]:
        """Shift and spread (B, C) of measured pieces, in their order, and each asset's state at the end of its rows.

        A piece continues the state of its block's last one.
        """
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
        state = np.tile(self.fresh(), (count, 1))
        shift, spread = self.advance(residual, state, np.concatenate(slots))
        carried = {key[1]: state[states[key]] for key in sorted(last_row, key=lambda key: last_row[key])}
        return shift, spread, carried


def _take(sums: Floats, keep: Floats, add: Floats, taken: Floats) -> None:
    """Rows (B, 4C) of one asset into its means and sums (4C,); ``taken`` (B, 2C) gets the means after each."""
    means = taken.shape[1]
    for i in range(len(add)):
        sums *= keep[i]
        sums += add[i]
        taken[i] = sums[:means]


@dataclass(frozen=True, slots=True, eq=False)
class LimitSearch:
    """What the limits of deviations are found from."""

    budget: Budget  # that the limits in use were found for
    replays: Replays  # of the largest -log p over statistics and sensors
    usual: float
    tails: TailTable  # of the C shifts, then of the C spreads
    days: float  # asset-days that were replayed ...
    assets: int  # ... of so many assets

    def found(self, budget: Budget, statistics: SensorStatistics) -> tuple[Floats, Floats, bool]:
        """(2, C) the limits at which deviations open and close with a budget, and whether they are provisional."""
        allowed = budget.allowed(self.days, self.assets)
        opens = self.replays.level(allowed) + beyond_nats(allowed)
        closes = closing_level(opens, self.usual, AlarmPolicy(hysteresis=CLOSES))
        limits = [
            np.maximum(self.tails.inverse(nats).reshape(2, -1), statistics.of_noise(nats))
            for nats in (opens, closes)
        ]
        closing = np.minimum(limits[1], limits[0])  # which a tail's rounding may exceed
        return limits[0], closing, allowed < 1.0

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays in a bundle, beside ``facts``."""
        return self.replays.arrays() | {f"tails.{name}": array for name, array in self.tails.arrays().items()}

    def facts(self) -> dict[str, object]:
        """Its entries in a bundle's manifest."""
        return {
            "budget": budget_facts(self.budget),
            "usual": finite_or_null(self.usual),
            "days": self.days,
            "assets": self.assets,
            "replays": len(self.replays.curves),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> LimitSearch:
        """The inverse of ``arrays`` and ``facts``."""
        return LimitSearch(
            Budget(**facts["budget"]),
            Replays.read(arrays, ""),
            np.inf if facts["usual"] is None else float(facts["usual"]),
            TailTable.read(arrays, "tails."),
            float(facts["days"]),
            int(facts["assets"]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SustainedLimits:
    """At which values the statistics of a sensor open a deviation, and down to which it stays open."""

    statistics: SensorStatistics
    opens: Floats  # (2, C) of shift and spread
    closes: Floats
    provisional: bool  # fewer days of data than one false episode takes
    carried: Mapping[str, Floats]  # asset -> its state (6C + 1,) after its last row of training
    search: LimitSearch | None = None  # what the limits were found from; None: they stay as they are

    def for_budget(self, budget: Budget) -> SustainedLimits:
        """The same with the limits that calibration would have found for this budget."""
        if self.search is None or self.search.budget == budget:
            return self
        opens, closes, provisional = self.search.found(budget, self.statistics)
        search = replace(self.search, budget=budget)
        return replace(self, opens=opens, closes=closes, provisional=provisional, search=search)

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
            budget: false deviations.
        """
        *found, carried = statistics.replay(held, residual_rms)
        tails = [[Tail.fit(values) for values in one.T] for one in found]
        strengths = [_strength(found, tails)]
        series = [by_piece(strengths[0], held)]
        if deployed:
            *again, _ = statistics.replay(deployed, residual_rms)
            strengths.append(_strength(again, tails))
            series.append(by_piece(strengths[1], deployed))
        policy, usual = AlarmPolicy(hysteresis=CLOSES), usual_level(strengths[0])
        replays = Replays.of(series, policy, usual)
        search = LimitSearch(
            budget,
            replays,
            usual,
            TailTable.of(
                [tail for one in tails for tail in one], closing_level(replays.least, usual, policy)
            ),
            len(strengths[0]) * period_ns / DAY_NS,
            len({piece.asset for piece in held}),
        )
        opens, closes, provisional = search.found(budget, statistics)
        return SustainedLimits(statistics, opens, closes, provisional, carried, search)

    def end_of_training(self, asset: str) -> Floats:
        """(6C + 1,) an asset's state after its last row of training; a fresh one if it has none."""
        known = self.carried.get(asset)
        return self.statistics.fresh() if known is None else known.copy()

    def ratios(self, shift: Floats, spread: Floats) -> tuple[Floats, Floats]:
        """(B, C) the statistics of each sensor over its limits: over 1 it opens, up to 1 it closes."""
        return (
            np.maximum(shift / self.opens[0], spread / self.opens[1]),
            np.maximum(shift / self.closes[0], spread / self.closes[1]),
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays in a bundle, beside ``facts``."""
        statistics, carried = self.statistics, list(self.carried.values())
        return {
            "centre": statistics.centre,
            "scale": statistics.scale,
            "opens": self.opens,
            "closes": self.closes,
            "carried": np.stack(carried) if carried else np.zeros((0, statistics.states)),
            **({} if self.search is None else {f"search.{k}": v for k, v in self.search.arrays().items()}),
        }

    def facts(self) -> dict[str, object]:
        """Its entries in a bundle's manifest."""
        return {
            "weight": self.statistics.weight,
            "step": self.statistics.step,
            "provisional": self.provisional,
            "carried": list(self.carried),
            "search": None if self.search is None else self.search.facts(),
        }

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> SustainedLimits:
        """The inverse of ``arrays`` and ``facts``."""
        carried, search = facts["carried"], facts["search"]
        assert isinstance(carried, (list, tuple))
        assert search is None or isinstance(search, dict)
        searched = {k.removeprefix("search."): v for k, v in arrays.items() if k.startswith("search.")}
        weight, step = (float(facts[name]) for name in ("weight", "step"))  # type: ignore[arg-type]  # numbers
        return SustainedLimits(
            SensorStatistics(arrays["centre"], arrays["scale"], weight, step),
            arrays["opens"],
            arrays["closes"],
            provisional=bool(facts["provisional"]),
            carried=dict(zip(carried, arrays["carried"], strict=True)),
            search=None if search is None else LimitSearch.of(searched, search),
        )


def _strength(found: Sequence[Floats], tails: Sequence[Sequence[Tail]]) -> Floats:
    """(B,) the largest -log p over statistics and sensors."""
    strength = np.zeros(len(found[0]))
    for one, own in zip(found, tails, strict=True):
        for values, tail in zip(one.T, own, strict=True):
            np.maximum(strength, tail(values), out=strength)
    return strength
