"""Slow wear: which sensor moves from day to day against what the other sensors imply, and how fast.

A bearing that warms by a tenth of a degree a day is within its noise on every day, and so slow that the baselines
follow it. What tells it from weather and load is its relation to the other sensors, over many days:

* **Relation.** Each sensor is regressed on the others (ridge, on hourly means, each asset about its own mean). What is
  left of a day's mean is the day's *residual*. A model's own residuals would not do: an autoencoder is shown the
  sensor itself and follows most of a slow change. Of two sensors that depend on each other, the one that moved
  has the larger residual, in units of its own spread.
* **Slope.** The median of the slopes of all pairs of days (Theil 1950, Sen 1968), over the newest 5, 9 and 14 days; so
  a day with a fault does not make one. Up to the slope that training itself had (a *habit*: the season) it does
  not count, whether it goes on or stops. In units of what days scatter, each span's is divided by its own standard
  error, and the largest counts. A span that one step fits better than a line does not count.
* **Limit.** Both replays of the training days (``calibration``) must stay below: as relations fitted on the other four
  fifths of the time leave them, and as the deployed one does. They hold few spans that do not overlap, so the limit
  lies half as high again as their largest value, and no lower than a quantile of Student's t.

Shapes: C sensors, D days. A day with less than three quarters of its rows, or without one of the sensors, is no day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daemon.detector import SlowTrends
from daemon.domain import DAY_NS, Floats, Ints, Mask, Segment, StreamSpec
from daemon.model.rules import AlertRules

HOUR_NS = DAY_NS // 24
SPANS = (5, 9, 14)
"""Days that a slope is taken over."""
FEWEST_DAYS = 7
"""Days of one asset that limits can be found on."""
WHOLE_DAY = 0.75
"""The share of its rows that makes a day's mean."""
MARGIN = 1.5
QUANTILE = 3.5
"""Of a Gaussian: exceeded on one day in two thousand, by either side of one sensor."""
OWN_PART = 0.5
"""Where few sensors depend on each other, each seems to move against the rest. The one to name is that whose readings
themselves move so, by this part of it at least."""
RIDGE = 1e-4
"""Of the variance of a sensor. More would leave what sensors share in the residual of one of them."""
CONSTANT_SHARE = 0.02
"""Of the level of a sensor that stands still: its scale, in whatever unit (``Scaler`` takes as much)."""
LEAST_SIGMA = 1e-3
"""Of a sensor that stands still, in units of its scale."""


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """What sensors imply of each other."""

    scale: Floats  # (C,) of an hour's mean
    weights: Floats  # (C, C) of the others, in units of their scales; zero on the diagonal

    @staticmethod
    def fit(hours: Floats, constant: Floats) -> Relation:
        """Of hourly means (H, C) without NaN, each asset's about its mean; ``constant`` (C,): scale without a spread."""
        spread = hours.std(0) if len(hours) else np.zeros(hours.shape[1])
        scale = np.where(spread > 0, spread, constant)
        z = hours / scale
        gram, C = z.T @ z, z.shape[1]
        weights = np.zeros((C, C))
        for c in range(C if C > 1 else 0):
            others = np.arange(C) != c
            of = gram[np.ix_(others, others)] + RIDGE * max(len(z), 1) * np.eye(C - 1)
            weights[c, others] = np.linalg.solve(of, gram[others, c])
        return Relation(scale, weights)

    def residual(self, means: Floats) -> Floats:
        """(N, C) what the others do not imply, in units of ``scale``, but for a constant; of means (N, C)."""
        z = means / self.scale
        return np.asarray(z - z @ self.weights.T)


@dataclass(frozen=True, slots=True, eq=False)
class TrendLimits:
    """When a slow change is an alert."""

    relation: Relation
    seen: Mask  # (C,) sensors that training observed on whole days, mostly
    habit: Floats  # (C,) slope of training, per day in units of scale
    usual: Floats  # (C,) slope of the readings themselves, per day
    sigma: Floats  # (C,) what a day's residual scatters, in units of scale
    limit: float  # of the largest slope in units of its standard error

    @staticmethod
    def fit(history: Sequence[Segment], spec: StreamSpec, rules: AlertRules | None) -> TrendLimits | None:
        """Of the training rows; None if they are too few days, or their numbers too large to be squared."""
        if spec.period_ns * 4 > DAY_NS:
            return None
        with np.errstate(all="ignore"):
            found = TrendLimits._fit(history, spec, rules)
        if found is None or not np.isfinite(found.limit):
            return None
        return found if all(np.isfinite(array).all() for array in found.arrays().values()) else None

    @staticmethod
    def _fit(history: Sequence[Segment], spec: StreamSpec, rules: AlertRules | None) -> TrendLimits | None:
        observed = [np.isfinite(one.values).any(0) for one in history]
        seen = _often_whole(history, spec, np.asarray(np.any(observed, axis=0)))
        days = _means(history, spec, DAY_NS, WHOLE_DAY, seen)
        if max((len(numbers) for numbers, _ in days.values()), default=0) < FEWEST_DAYS:
            return None
        hours = _means(history, spec, max(HOUR_NS, spec.period_ns), 0.5, seen)
        at = np.concatenate([numbers for numbers, _ in hours.values()])
        at_ns = at * max(HOUR_NS, spec.period_ns)
        centred = np.concatenate([means - means.mean(0) for _, means in hours.values()])
        constant = CONSTANT_SHARE * np.abs(np.mean([means.mean(0) for _, means in hours.values()], axis=0))
        constant = np.where(constant > 0, constant, 1.0)
        relation = Relation.fit(centred, constant)
        edges = np.quantile(at_ns, np.linspace(0.0, 1.0, 6)) // DAY_NS
        fifth_of_hour = np.searchsorted(edges[1:5], at_ns // DAY_NS, "right")
        folds = [Relation.fit(centred[fifth_of_hour != j], constant) for j in range(5)]
        deployed, held = [], []
        for numbers, means in days.values():
            means = means - means.mean(0)  # relations differ in what they make of a level
            mine = np.searchsorted(edges[1:5], numbers, "right")
            deployed.append(relation.residual(means))
            # In the units of the deployed relation, as its own residuals.
            each = [fold.residual(means) * fold.scale / relation.scale for fold in folds]
            held.append(np.stack([each[j][i] for i, j in enumerate(mine.tolist())]) if len(mine) else means)
        long = [i for i, (numbers, _) in enumerate(days.values()) if len(numbers) >= SPANS[0]]
        dates = [numbers.astype(float) for numbers, _ in days.values()]
        daily = [means for _, means in days.values()]
        levels = [means.mean(0) for means in daily]
        habit = np.median([_slope(dates[i], deployed[i]) for i in long], axis=0)
        usual = np.median([_slope(dates[i], daily[i]) for i in long], axis=0)
        left = np.concatenate([_detrended(dates[i], deployed[i], habit) for i in long])
        by_hour = relation.residual(centred)
        # What the mean of a day scatters because a quarter of its hours may be missing.
        partial = by_hour.std(0) * np.sqrt((1.0 - WHOLE_DAY) / WHOLE_DAY / 24.0)
        sigma = np.maximum(1.4826 * np.median(np.abs(left), 0), 0.5 * left.std(0))
        draft = TrendLimits(
            relation, seen, habit, usual, np.maximum(np.maximum(sigma, partial), LEAST_SIGMA), limit=1.0
        )
        largest = 0.0
        for replay in (held, deployed):
            for i in long:
                for stop in range(SPANS[0], len(dates[i]) + 1):
                    first = max(stop - SPANS[-1], 0)
                    found = draft.judged(dates[i][first:stop], replay[i][first:stop], rules, levels[i])
                    largest = max(largest, float(found.ratio.max()))
        free = max(len(left) - 2 * len(long), 1)
        student = QUANTILE + (QUANTILE**3 + QUANTILE) / (4.0 * free)
        return replace(draft, limit=max(MARGIN * largest, student))

    def trends(self, days: Ints, means: Floats, rules: AlertRules | None) -> SlowTrends | None:
        """How each sensor moves; None with too few days.

        Args:
            days: (D,) their numbers since the epoch, ascending.
            means: (D, C) of the sensors, NaN where there is none.
            rules: of the sensors.
        """
        whole: Mask = np.asarray(np.isfinite(means[:, self.seen]).all(1))
        if whole.sum() < SPANS[0] or not whole[-1]:
            return None
        known = np.where(self.seen, means[whole], 0.0)
        numbers = days[whole].astype(float)
        residual, level = self.relation.residual(known), known.mean(0)
        found = self._agreeing(self.judged(numbers, residual, rules, level), numbers, known)
        if rules is None:
            return found
        every = self._agreeing(self.judged(numbers, residual, None, level), numbers, known)
        excused = (every.ratio > 1.0) & every.agrees & (found.ratio <= 1.0)
        # What moves is excused: those that only seem to, against it, are no evidence either.
        return replace(found, ratio=np.where(found.agrees, found.ratio, 0.0)) if excused.any() else found

    def _agreeing(self, found: SlowTrends, numbers: Floats, known: Floats) -> SlowTrends:
        """With which of them the readings agree: of days ``numbers`` (D,) with means ``known`` (D, C)."""
        own = np.zeros(len(self.seen))
        for first in np.unique(found.since).tolist():
            which, mine = numbers >= first, found.since == first
            if which.sum() > 1:
                own[mine] = _slope(numbers[which], known[which])[mine]
        own -= self.usual
        return replace(found, agrees=own * np.sign(found.per_day) >= OWN_PART * np.abs(found.per_day))

    def judged(self, days: Floats, residual: Floats, rules: AlertRules | None, level: Floats) -> SlowTrends:
        """How each sensor moves over the newest days, of their numbers (D,) and residuals (D, C).

        ``level`` (C,) is the sensor's own, of which a rule may ask for a share.
        """
        C = residual.shape[1]
        ratio, per_day = np.zeros(C), np.zeros(C)
        since: Floats = np.full(C, days[-1])
        up, down = np.maximum(self.habit, 0.0), np.minimum(self.habit, 0.0)
        for span in SPANS:
            which = days > days[-1] - span
            if which.sum() < SPANS[0]:
                continue
            k, e = days[which], residual[which]
            slope = _slope(k, e)
            beyond = np.maximum(slope - up, 0.0) + np.minimum(slope - down, 0.0)
            beyond[is_step(k, e)] = 0.0
            change = slope * self.relation.scale
            if rules is not None:
                beyond[rules.ignored | (rules.above & (slope < 0)) | (rules.below & (slope > 0))] = 0.0
                least = np.maximum(rules.least, rules.share * np.abs(level))
                beyond[np.abs(change) * (k[-1] - k[0]) < least] = 0.0
            found = np.abs(beyond) / self.sigma * np.sqrt(((k - k.mean()) ** 2).sum()) / self.limit
            larger = found > ratio
            ratio = np.where(larger, found, ratio)
            per_day, since = np.where(larger, change, per_day), np.where(larger, k[0], since)
        return SlowTrends(ratio, per_day, since.astype(np.int64), np.ones(C, bool))

    def arrays(self) -> dict[str, np.ndarray]:
        """Its arrays in a bundle, beside ``facts``."""
        return {
            "scale": self.relation.scale,
            "weights": self.relation.weights,
            "seen": self.seen,
            "habit": self.habit,
            "usual": self.usual,
            "sigma": self.sigma,
        }

    def facts(self) -> dict[str, object]:
        """Its entries in a bundle's manifest."""
        return {"limit": self.limit}

    @staticmethod
    def of(arrays: Mapping[str, np.ndarray], facts: Mapping[str, object]) -> TrendLimits:
        """The inverse of ``arrays`` and ``facts``."""
        relation = Relation(arrays["scale"], arrays["weights"])
        limit = float(facts["limit"])  # type: ignore[arg-type]  # a number in the manifest
        return TrendLimits(relation, arrays["seen"], arrays["habit"], arrays["usual"], arrays["sigma"], limit)


def _slope(days: Floats, values: Floats) -> Floats:
    """(C,) median of the slopes of all pairs of days (D,) of values (D, C), per day."""
    i, j = np.triu_indices(len(days), 1)
    return np.asarray(np.median((values[j] - values[i]) / (days[j] - days[i])[:, None], axis=0))


def is_step(days: Floats, values: Floats) -> Mask:
    """(C,) whether two levels leave smaller squares of values (D, C) than a line does."""
    k, v = (days - days.mean())[:, None], values - values.mean(0)
    total = (v**2).sum(0)
    line = total - (k * v).sum(0) ** 2 / (k**2).sum()
    before = np.arange(1, len(days))[:, None]
    # A level's squares are what its own mean takes off; the sums of both levels are opposite.
    gained = v.cumsum(0)[:-1] ** 2 * (1.0 / before + 1.0 / (len(days) - before))
    return np.asarray(total - gained.max(0) < line)


def _detrended(days: Floats, values: Floats, slope: Floats) -> Floats:
    left = values - slope * (days - days.mean())[:, None]
    return np.asarray(left - np.median(left, 0))


def _often_whole(history: Sequence[Segment], spec: StreamSpec, seen: Mask) -> Mask:
    """(C,) the sensors that have a mean on at least half of the days on which any has one.

    One that is silent every night has hardly any: days without it would be left out for all.
    """
    counts = np.zeros(len(seen), np.int64)
    for c in np.flatnonzero(seen).tolist():
        alone = np.arange(len(seen)) == c
        counts[c] = sum(
            len(numbers) for numbers, _ in _means(history, spec, DAY_NS, WHOLE_DAY, alone).values()
        )
    return np.asarray(seen & (counts > 0) & (2 * counts >= counts.max(initial=0)))


def _means(
    history: Sequence[Segment], spec: StreamSpec, size_ns: int, least: float, seen: Mask
) -> dict[str, tuple[Ints, Floats]]:
    """By asset, the numbers of the intervals of this size that have enough rows, and their means (N, C)."""
    found: dict[str, tuple[Ints, Floats]] = {}
    needed = least * size_ns / spec.period_ns
    for asset in sorted({one.asset for one in history}):
        mine = [one for one in history if one.asset == asset]
        rows = np.concatenate([one.first_row + np.arange(len(one.values)) for one in mine])
        values = np.concatenate([one.values for one in mine])
        numbers, place = np.unique(rows * spec.period_ns // size_ns, return_inverse=True)
        present = np.isfinite(values)
        counts, sums = (np.zeros((len(numbers), values.shape[1])) for _ in range(2))
        np.add.at(counts, place, present)
        np.add.at(sums, place, np.where(present, values, 0.0))
        whole = (counts[:, seen] >= needed).all(1)
        if whole.any():
            found[asset] = numbers[whole], np.where(seen, sums[whole] / np.maximum(counts[whole], 1), 0.0)
    return found
