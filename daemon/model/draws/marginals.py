"""How large imputation errors are: their quantiles per sensor and distance, from cells of the same table.

Known cells are hidden in the shape of the table's own gaps (the mask of what is missing, shifted by random
offsets), filled and compared: errors over the bundle's margin, as quantiles, each shrunk towards those
pooled over it. The shape so comes from real errors (peaked, skewed, exactly zero where a sensor stands
still), the scale from the split-conformal margin, so that bundles of any age will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Segment,
)
from daemon.model.imputation.field import REACH
from daemon.model.imputation.filling import BatchRows, batch_estimate
from daemon.model.imputation.habit import WeekClock
from daemon.model.imputation.limits import ValueLimits
from daemon.model.imputation.mixture import BATCH_BUCKETS, BUCKETS, NEVER, OPEN, GapPlaces, Mixture
from daemon.model.imputation.parameters import ImputationParameters

HIDDEN = 20_000
"""Known cells that are hidden to learn the errors' quantiles, about."""
MOST_SHIFTS = 32
PRIOR = 50.0
"""Hidden cells that the pooled quantiles count for: the 5 % quantile of fewer is a guess."""
DEVIATES = np.linspace(-3.0, 3.0, 49)
"""Positions of the quantiles, in standard deviations of a normal; no draw lies beyond the outermost."""
NINETY = 1.6448536269514722


@dataclass(frozen=True, slots=True, eq=False)
class Marginals:
    """Per sensor and distance the quantiles of an error, as multiples of the margin, and the sensor's range."""

    quantiles: Floats  # (C, BATCH_BUCKETS, len(DEVIATES)) ascending
    limits: ValueLimits

    def of(self, deviates: Floats, channel: Ints, bucket: Ints) -> Floats:
        """(n, D) errors over the margin, at standard normal deviates (n, D)."""
        table = self.quantiles[channel, bucket]  # (n, Q)
        step = DEVIATES[1] - DEVIATES[0]
        place = np.clip((deviates - DEVIATES[0]) / step, 0.0, len(DEVIATES) - 1)
        left = np.minimum(place.astype(np.int64), len(DEVIATES) - 2)
        share = place - left
        below = np.take_along_axis(table, left, 1)
        result: Floats = below + share * (np.take_along_axis(table, left + 1, 1) - below)
        return result

    def plausible(self, values: Floats, centre: Floats, channel: int) -> Floats:
        """Values (n, ...) of one sensor, within its range or, with ``centre`` (n,), beyond it; of few the nearest."""
        centre = centre.reshape(len(centre), *[1] * (values.ndim - 1))
        lowest, highest = self.limits.lowest[channel], self.limits.highest[channel]
        result: Floats = np.clip(values, np.minimum(lowest, centre), np.maximum(highest, centre))
        few = self.limits.of_sensor(channel)
        if few is not None:
            middle = (few[1:] + few[:-1]) / 2
            result = few[np.searchsorted(middle, result)]
        return result


def calibrate(
    parameters: ImputationParameters,
    segments: Sequence[Segment],
    clock: WeekClock,
    generator: np.random.Generator,
) -> Marginals:
    """Hide known cells in the shape of the segments' own gaps, and learn how far off their filling is.

    Args:
        parameters: that fill.
        segments: raw units, NaN where missing.
        clock: of their rows.
        generator: which cells are hidden.
    """
    C = len(parameters.mean)
    scaled = [BatchRows.of(parameters.of_asset(s.asset, s.values), s, clock) for s in segments]
    ratios: list[Floats] = []
    groups: list[Ints] = []
    missing = [np.isnan(rows.values) for rows in scaled]
    budget = HIDDEN
    for turn in range(MOST_SHIFTS if any(m.any() for m in missing) else 0):
        moved = _moved(missing, generator, by_segment=turn % 2 == 1 and len(missing) > 1)
        hidden = [h & ~m for h, m in zip(moved, missing, strict=True)]
        share = budget / max(sum(int(h.sum()) for h in hidden), 1)
        for rows, mine in zip(scaled, hidden, strict=True):
            if share < 1.0:  # whole runs of rows: a gap is hidden as a whole, or not at all
                piece = np.arange(len(mine)) // (2 * REACH)
                mine &= (generator.random(len(mine) // (2 * REACH) + 1) < share)[piece][:, None]
            row, channel = np.nonzero(mine)
            if not len(row):
                continue
            estimate, places = batch_estimate(parameters, rows.hidden(mine), row, channel)
            some = parameters.seen[channel]
            margin = margins(parameters, channel, places)
            error = rows.values[row, channel] - estimate
            ratios.append((error / np.maximum(margin, 1e-12))[some])
            groups.append((channel * BATCH_BUCKETS + places.bucket)[some])
            budget -= len(row)
        if budget <= 0:
            break
    ratio = np.concatenate(ratios) if ratios else np.empty(0)
    group = np.concatenate(groups) if groups else np.empty(0, np.int64)
    return Marginals(_quantiles(np.clip(ratio, -1e3, 1e3), group, C), parameters.limits.widened(segments))


def _moved(missing: Sequence[Mask], generator: np.random.Generator, *, by_segment: bool) -> list[Mask]:
    """The masks of missing cells, moved: all rows shifted by one offset, or each segment's mask to another.

    The latter keeps what the former cannot: gaps at a segment's end, and sensors that are silent throughout.
    """
    if by_segment:
        offset = int(generator.integers(1, len(missing)))
        result = []
        for s, mask in enumerate(missing):
            other = missing[(s + offset) % len(missing)]
            rows = np.arange(len(mask)) - len(mask) + len(other)  # aligned at their ends
            result.append(other[np.maximum(rows, 0)].copy() if len(other) else np.zeros_like(mask))
        return result
    every = np.concatenate(list(missing))
    moved = np.roll(every, int(generator.integers(1, max(len(every), 2))), axis=0)
    return np.split(moved, np.cumsum([len(m) for m in missing])[:-1])


def margins(parameters: ImputationParameters, channel: Ints, places: GapPlaces) -> Floats:
    """(n,) the 90 % margins, scaled, growing smoothly with the distance rather than from bucket to bucket."""
    margin = _smooth_margins(parameters.batch, channel, places.distance, places.bucket)
    habitual = parameters.habitual
    if habitual is None:
        return margin
    near = np.minimum(places.distance, 2**OPEN)
    around = _smooth_margins(habitual.mixture, channel, near, places.bucket)
    return np.where(habitual.used[channel, places.gap], around, margin)


def _smooth_margins(mixture: Mixture, channel: Ints, distance: Ints, bucket: Ints) -> Floats:
    """(n,) see ``margins``."""
    margin = mixture.half_width(channel, distance, bucket)
    place = bucket % BUCKETS
    before = mixture.margin[channel, np.maximum(bucket - 1, bucket // BUCKETS * BUCKETS)]
    # Bucket b has the distances above 2^(b-1) up to 2^b; its margin is about that of its far end.
    share = np.where((place > 0) & (place < NEVER - 1), np.log2(np.maximum(distance, 1)) - (place - 1), 1.0)
    share = np.clip(share, 0.0, 1.0)
    smooth = np.where(before > 0, before, margin) ** (1.0 - share) * np.maximum(margin, 1e-300) ** share
    return np.where(margin > 0, smooth, 0.0)


def _quantiles(ratio: Floats, group: Ints, channels: int) -> Floats:
    """(C, BATCH_BUCKETS, Q): quantiles of a group's own errors, shrunk to its sensor's, and these to all sensors'."""
    levels = _normal_cdf(DEVIATES)
    shape = DEVIATES / NINETY  # a normal error of which the margin is the 90 % half width

    def blend(errors: Floats, prior: Floats) -> Floats:
        if not len(errors):
            return prior
        own = np.quantile(errors, levels, method="weibull")
        result: Floats = (len(errors) * own + PRIOR * prior) / (len(errors) + PRIOR)
        return result

    everyone = blend(ratio, shape)
    result = np.empty((channels, BATCH_BUCKETS, len(DEVIATES)))
    order = np.argsort(group, kind="stable")
    ratio, group = ratio[order], group[order]
    edges = np.searchsorted(group, np.arange(channels * BATCH_BUCKETS + 1))
    for c in range(channels):
        first = c * BATCH_BUCKETS
        sensor = blend(ratio[edges[first] : edges[first + BATCH_BUCKETS]], everyone)
        for b in range(BATCH_BUCKETS):
            result[c, b] = blend(ratio[edges[first + b] : edges[first + b + 1]], sensor)
    return result


def _normal_cdf(deviates: Floats) -> Floats:
    from math import erf

    return np.array([0.5 * (1.0 + erf(z / np.sqrt(2.0))) for z in deviates.tolist()])
