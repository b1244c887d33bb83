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
from daemon.model.imputation.filling import batch_members
from daemon.model.imputation.mixture import BUCKETS, NEVER
from daemon.model.imputation.parameters import ImputationParameters

HIDDEN = 20_000
"""Known cells that are hidden to learn the errors' quantiles, about."""
MOST_SHIFTS = 32
PRIOR = 50.0
"""Hidden cells that the pooled quantiles count for: the 5 % quantile of fewer is a guess."""
DEVIATES = np.linspace(-3.0, 3.0, 49)
"""Positions of the quantiles, in standard deviations of a normal; no draw lies beyond the outermost."""
FEW_VALUES = 24
"""A sensor that was observed to take no more values than this is drawn from them."""
REPEATED = 4
"""Readings per different value that this needs, on average: a short table has few values of any sensor."""
ENOUGH = 100
"""Readings from which on draws stay within their range: the next one leaves it with a chance of 2 in n + 1."""
NINETY = 1.6448536269514722


@dataclass(frozen=True, slots=True, eq=False)
class Marginals:
    """Per sensor and distance the quantiles of an error, as multiples of the margin, and the sensor's range."""

    quantiles: Floats  # (C, 2 * BUCKETS, len(DEVIATES)) ascending
    lowest: Floats  # (C,) raw units, -inf where unknown
    highest: Floats
    values: tuple[Floats | None, ...]  # of each sensor, ascending: all its values, where these are few

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
        low, high = np.minimum(self.lowest[channel], centre), np.maximum(self.highest[channel], centre)
        result: Floats = np.clip(values, low, high)
        few = self.values[channel]
        if few is not None:
            middle = (few[1:] + few[:-1]) / 2
            result = few[np.searchsorted(middle, result)]
        return result


def calibrate(
    parameters: ImputationParameters, segments: Sequence[Segment], generator: np.random.Generator
) -> Marginals:
    """Hide known cells in the shape of the segments' own gaps, and learn how far off their filling is.

    Args:
        parameters: that fill.
        segments: raw units, NaN where missing.
        generator: which cells are hidden.
    """
    C = len(parameters.mean)
    scaled = [
        (np.where(np.isfinite(s.values), s.values, np.nan) - parameters.mean) / parameters.scale
        for s in segments
    ]
    ratios: list[Floats] = []
    groups: list[Ints] = []
    missing = [np.isnan(x) for x in scaled]
    budget = HIDDEN
    for turn in range(MOST_SHIFTS if any(m.any() for m in missing) else 0):
        moved = _moved(missing, generator, by_segment=turn % 2 == 1 and len(missing) > 1)
        hidden = [h & ~m for h, m in zip(moved, missing, strict=True)]
        share = budget / max(sum(int(h.sum()) for h in hidden), 1)
        for x, mine in zip(scaled, hidden, strict=True):
            if share < 1.0:  # whole runs of rows: a gap is hidden as a whole, or not at all
                piece = np.arange(len(mine)) // (2 * REACH)
                mine &= (generator.random(len(mine) // (2 * REACH) + 1) < share)[piece][:, None]
            row, channel = np.nonzero(mine)
            if not len(row):
                continue
            members, distance, bucket = batch_members(
                parameters.field, np.where(mine, np.nan, x), row, channel
            )
            some = parameters.seen[channel]
            estimate = parameters.batch.estimate(members, channel, bucket)
            margin = margins(parameters, channel, distance, bucket)
            error = x[row, channel] - estimate
            ratios.append((error / np.maximum(margin, 1e-12))[some])
            groups.append((channel * 2 * BUCKETS + bucket)[some])
            budget -= len(row)
        if budget <= 0:
            break
    ratio = np.concatenate(ratios) if ratios else np.empty(0)
    group = np.concatenate(groups) if groups else np.empty(0, np.int64)
    return Marginals(_quantiles(np.clip(ratio, -1e3, 1e3), group, C), *value_ranges(segments, C))


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


def margins(parameters: ImputationParameters, channel: Ints, distance: Ints, bucket: Ints) -> Floats:
    """(n,) the 90 % margins, scaled, growing smoothly with the distance rather than from bucket to bucket.

    They grow no further than that of a sensor without any reading, or the spread of training if that is
    more: a distant reading is at least as informative as none. (Training hides no gap as long as some real
    ones are, and its margins for these would grow without limit.)
    """
    margin = parameters.batch.half_width(channel, distance, bucket)
    place = bucket % BUCKETS
    before = parameters.batch.margin[channel, np.maximum(bucket - 1, bucket // BUCKETS * BUCKETS)]
    # Bucket b has the distances above 2^(b-1) up to 2^b; its margin is about that of its far end.
    share = np.where((place > 0) & (place < NEVER - 1), np.log2(np.maximum(distance, 1)) - (place - 1), 1.0)
    share = np.clip(share, 0.0, 1.0)
    smooth = np.where(before > 0, before, margin) ** (1.0 - share) * np.maximum(margin, 1e-300) ** share
    most = np.maximum(parameters.batch.margin[channel, bucket // BUCKETS * BUCKETS + NEVER], NINETY)
    result: Floats = np.where(margin > 0, np.minimum(smooth, most), 0.0)
    return result


def _quantiles(ratio: Floats, group: Ints, channels: int) -> Floats:
    """(C, 2 * BUCKETS, Q): quantiles of a group's own errors, shrunk to its sensor's, and these to all sensors'."""
    levels = _normal_cdf(DEVIATES)
    shape = DEVIATES / NINETY  # a normal error of which the margin is the 90 % half width

    def blend(errors: Floats, prior: Floats) -> Floats:
        if not len(errors):
            return prior
        own = np.quantile(errors, levels, method="weibull")
        result: Floats = (len(errors) * own + PRIOR * prior) / (len(errors) + PRIOR)
        return result

    everyone = blend(ratio, shape)
    result = np.empty((channels, 2 * BUCKETS, len(DEVIATES)))
    order = np.argsort(group, kind="stable")
    ratio, group = ratio[order], group[order]
    edges = np.searchsorted(group, np.arange(channels * 2 * BUCKETS + 1))
    for c in range(channels):
        first = c * 2 * BUCKETS
        sensor = blend(ratio[edges[first] : edges[first + 2 * BUCKETS]], everyone)
        for b in range(2 * BUCKETS):
            result[c, b] = blend(ratio[edges[first + b] : edges[first + b + 1]], sensor)
    return result


def _normal_cdf(deviates: Floats) -> Floats:
    from math import erf

    return np.array([0.5 * (1.0 + erf(z / np.sqrt(2.0))) for z in deviates.tolist()])


def value_ranges(
    segments: Sequence[Segment], channels: int
) -> tuple[Floats, Floats, tuple[Floats | None, ...]]:
    lowest, highest = np.full(channels, -np.inf), np.full(channels, np.inf)
    values: list[Floats | None] = [None] * channels
    for c in range(channels):
        seen: Floats = np.empty(0)
        few, readings = True, 0
        for segment in segments:
            known = segment.values[:, c]
            known = known[np.isfinite(known)]
            readings += len(known)
            if not few:
                known = np.array([known.min(), known.max()]) if len(known) else known
            seen = np.unique(np.concatenate([seen, known]))
            if len(seen) > FEW_VALUES:
                few, seen = False, seen[[0, -1]]
        few &= 0 < len(seen) * REPEATED <= readings
        if few:
            values[c] = seen
        if few or readings >= ENOUGH:
            lowest[c], highest[c] = seen[0], seen[-1]
    return lowest, highest, tuple(values)
