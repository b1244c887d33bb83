"""The convex mixture of the members' estimates, and its interval, per sensor and distance bucket.

A cell's distance is that to the readings of its sensor, in rows, in buckets that double; in batch it also matters
on which sides these are, and whether other sensors have readings beside it (``GapPlaces``).
``fit_mixture`` chooses, from cells that were hidden on purpose, the weights with the least absolute error;
the interval is the split-conformal 90 % quantile of the mixture's error on the same cells, and never
narrows as the distance grows. Live, the mixture may not differ from the last value by more than the sensor
itself did in 99 % of those cells: when a fault moves the partner sensors abruptly, a temperature still
changes slowly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Mask,
)
from daemon.model.imputation.field import chunks

COVERAGE = 0.90
BUCKETS = 12
"""Distances 1, 2, 3-4, 5-8, ... rows; the last but one is open, the last means never."""
BATCH_BUCKETS = 4 * BUCKETS
"""See ``GapPlaces``."""
NEVER = BUCKETS - 1
OPEN = BUCKETS - 2
_PRIOR = 20.0  # hidden cells that the average over a distance and its neighbours counts for
_FEW = 20  # below this many errors a quantile is not one
_STRAY = 0.99  # quantile of |reading - member 0| that no estimate may exceed
_CAUTION = np.array([0.0, 0.02, 0.04])  # required relative gain of the other members
_MARGINAL = 1.645  # 90 % of a standard normal


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Per sensor and distance bucket: the weights of the members, and the half width of the interval.

    Member 0 is the estimate from the sensor's own readings: the last one, or the line between two.
    """

    weights: Floats  # (C, D, 3) convex
    step: Floats  # (C, D) the largest distance of an estimate from member 0
    margin: Floats  # (C, D) half width of the interval

    def estimate(self, members: Floats, channel: Ints, bucket: Ints) -> Floats:
        """(n,) mixtures of (n, 3) members."""
        mixed = (self.weights[channel, bucket] * members).sum(1)
        step = self.step[channel, bucket]
        result: Floats = np.clip(mixed, members[:, 0] - step, members[:, 0] + step)
        return result

    def half_width(self, channel: Ints, distance: Ints, bucket: Ints) -> Floats:
        """(n,) half the interval; in the open bucket it grows on, up to the spread of training."""
        margin = self.margin[channel, bucket]
        last = bucket // BUCKETS * BUCKETS + OPEN
        growth = _growth(self.margin[channel, last], self.margin[channel, last - 1])
        doublings = np.log2(np.maximum(distance, 1)) - OPEN
        grown = np.minimum(margin * growth ** np.maximum(doublings, 0.0), np.maximum(margin, _MARGINAL))
        result: Floats = np.where(bucket == last, grown, margin)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class HiddenCells:
    """n observed cells that were hidden on purpose, with what each member estimated for them."""

    members: Floats  # (n, 3) scaled
    truth: Floats  # (n,) scaled
    channel: Ints  # (n,)
    bucket: Ints  # (n,)

    def take(self, which: Ints) -> HiddenCells:
        """Some of the cells."""
        return HiddenCells(self.members[which], self.truth[which], self.channel[which], self.bucket[which])

    @staticmethod
    def joined(parts: Sequence[HiddenCells]) -> HiddenCells:
        """The cells of all parts, in their order; no cells for no parts."""
        if not parts:
            return HiddenCells(np.empty((0, 3)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
        return HiddenCells(
            np.concatenate([p.members for p in parts]),
            np.concatenate([p.truth for p in parts]),
            np.concatenate([p.channel for p in parts]),
            np.concatenate([p.bucket for p in parts]),
        )


def _growth(now: Floats, before: Floats) -> Floats:
    """Growth per doubling of the distance: a random walk's sqrt 2 to a ramp's 2."""
    growth: Floats = np.clip(now / np.maximum(before, 1e-12), np.sqrt(2.0), 2.0)
    return growth


def distance_bucket(distance: Ints) -> Ints:
    """Distance in rows to its bucket; 0 means that there is no reading."""
    bits = np.ceil(np.log2(np.maximum(distance, 1))).astype(np.int64)
    return np.where(distance > 0, np.minimum(bits, OPEN), NEVER)


@dataclass(frozen=True, slots=True, eq=False)
class GapPlaces:
    """Where missing cells are in their gaps, in batch.

    The first ``BUCKETS`` of the ``BATCH_BUCKETS`` are of cells with readings on both sides, the next of those with
    a reading on one side or none; then come the same again for cells at whose rows no partner of the sensor has a
    reading, as in an outage: there all that is known is what the sensors showed before and after.
    """

    distance: (
        Ints  # rows to the sensor's readings: the harmonic mean of both sides, or to the only one; 0: none
    )
    bucket: Ints  # of the distance
    gap: Ints  # of the gap's rows; with a reading on one side alone, of the distance

    def at(self, row: Ints, channel: Ints) -> GapPlaces:
        """(n,) of some cells, where these are (T, C)."""
        return GapPlaces(self.distance[row, channel], self.bucket[row, channel], self.gap[row, channel])


def gap_places(row: Ints, before: Ints, after: Ints, length: int, alone: Mask) -> GapPlaces:
    """The places of missing cells in their gaps; the arrays broadcast against one another.

    Args:
        row: of each cell.
        before: the row of the last reading before it, negative if there is none.
        after: the row of the next reading, ``length`` or more if there is none.
        length: rows of the segment.
        alone: whether no partner has a reading at its row.
    """
    has_before, has_after = before >= 0, after < length
    inside = has_before & has_after
    back, ahead = np.where(has_before, row - before, 0), np.where(has_after, after - row, 0)
    # A random walk between two readings strays as far as one that is so far from a single reading.
    mean = np.ceil(2.0 * back * ahead / np.maximum(back + ahead, 1)).astype(np.int64)
    distance = np.where(inside, mean, back + ahead)
    rows = np.where(inside, after - before - 1, distance)
    first = BUCKETS * ~inside + 2 * BUCKETS * alone
    return GapPlaces(distance, distance_bucket(distance) + first, distance_bucket(rows) + first)


def _simplex(members: int, steps: int = 10) -> Floats:
    """(G, members) all weights that are multiples of 1/steps and sum to 1."""
    grid = np.stack(np.meshgrid(*[np.arange(steps + 1)] * members, indexing="ij"), -1).reshape(-1, members)
    result: Floats = grid[grid.sum(1) == steps] / steps
    return result


def fit_mixture(
    hidden: HiddenCells,
    channels: int,
    buckets: int,
    usable: tuple[int, ...],
    bounded: bool,
) -> Mixture:
    """The mixture with the least absolute error on hidden cells.

    Args:
        hidden: cells that were hidden on purpose.
        channels: C.
        buckets: a whole number of ``BUCKETS``.
        bounded: whether no estimate may lie further from member 0 than readings ever did.
        usable: members that may have weight; the first never where there is no reading.
    """
    members, truth, channel, bucket = hidden.members, hidden.truth, hidden.channel, hidden.bucket
    grid = _simplex(members.shape[1])
    group = channel * buckets + bucket
    losses = np.zeros((channels * buckets, len(grid)))
    for some in chunks(np.arange(len(truth))):
        np.add.at(losses, group[some], np.abs(members[some] @ grid.T - truth[some, None]))
    losses = losses.reshape(channels, buckets, -1) * (1.0 + grid @ _CAUTION)
    count = np.bincount(group, minlength=channels * buckets).reshape(channels, buckets)
    weights = np.zeros((channels, buckets, members.shape[1]))
    for b in range(buckets):
        first = b // BUCKETS * BUCKETS
        never = b - first == NEVER
        alike = [b] if never else list(range(first, first + NEVER))
        excluded = [m for m in range(grid.shape[1]) if m not in usable or (never and m == 0)]
        barred = (grid[:, excluded] > 0).any(1)
        near = [b] if never else [k for k in (b - 1, b, b + 1) if k in alike]
        # Errors grow with the distance: those of other distances would outvote the few of a short one.
        prior = losses[:, alike].sum((0, 1)) / max(count[:, alike].sum(), 1)  # (G,) of all sensors
        for places in (alike, near):
            n = count[:, places].sum(1)[:, None]
            prior = np.where(n > 0, losses[:, places].sum(1) / np.maximum(n, 1), prior)  # (C, G)
        total = losses[:, b] + _PRIOR * prior
        weights[:, b] = grid[np.where(barred, np.inf, total).argmin(1)]
        if not never and b > first:  # too long for training to hide: as the longest that was not
            unknown = count[:, b] == 0
            weights[unknown, b] = weights[unknown, b - 1]
    stray = np.where(bucket % BUCKETS == NEVER, 0.0, np.abs(members[:, 0] - truth))
    step = np.full((channels, buckets), np.inf)
    if bounded:
        quantiles = _quantiles(stray, group, channels, buckets, _STRAY)
        step = np.where(np.arange(buckets) % BUCKETS == NEVER, np.inf, quantiles)
    mixture = Mixture(weights, step, np.zeros_like(step))
    error = np.abs(mixture.estimate(members, channel, bucket) - truth)
    return Mixture(weights, step, _quantiles(error, group, channels, buckets, COVERAGE))


def _quantiles(error: Floats, group: Ints, channels: int, buckets: int, share: float) -> Floats:
    """(C, D) conformal quantiles of the absolute errors, growing with the distance."""
    order = np.lexsort((error, group))
    error, group = error[order], group[order]
    edges = np.searchsorted(group, np.arange(channels * buckets + 1))
    flat = np.full(channels * buckets, np.nan)
    for g in range(len(flat)):
        n = int(edges[g + 1] - edges[g])
        if n >= _FEW:
            rank = min(int(np.ceil((n + 1) * share)), n)
            flat[g] = error[edges[g] + rank - 1]
    result = flat.reshape(channels, buckets // BUCKETS, BUCKETS)
    for half in result.reshape(-1, BUCKETS):
        if np.isnan(half[NEVER]):  # only the spread of training is known
            half[NEVER] = _MARGINAL
        known = np.flatnonzero(np.isfinite(half[:NEVER]))
        if not len(known):
            half[:NEVER] = half[NEVER]
            continue
        half[: known[0]] = half[known[0]]
        growth = float(np.sqrt(2.0))
        for b in range(int(known[0]) + 1, NEVER):
            if np.isnan(half[b]):
                # Too far for training to hide: no reading is less informative than none.
                half[b] = min(half[b - 1] * growth, max(half[b - 1], _MARGINAL))
            else:
                growth = float(_growth(half[b], half[b - 1]))
            half[b] = max(half[b], half[b - 1])
    return flat.reshape(channels, buckets)
