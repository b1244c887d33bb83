"""Which latent state follows which: training's windows as a path through clusters of decoded latents.

Fits parts 1 and 2 of the generator (see the package): stretches of usable windows, whitening, clusters with
their past, and the autoregression of the position within a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Segment,
)
from daemon.model.reconstruction import Models

MOST_WINDOWS = 6_000
"""Windows of the path: enough for 512 cells of a dozen visits, and a second of fitting."""
MOST_PHASES = 4
"""The path is walked this often, each time a part of a hop later: more visits of each state."""
RUN = 64
"""Hops that are taken in one piece where the history has to be thinned."""
SHARE = 0.95
"""Share of the decoded windows' variance that clusters are formed by."""
MOST_DIRECTIONS = 10
"""More would cluster noise: distances grow alike in many dimensions."""
MEMORIES = (2.0, 8.0)
"""Hops over which the two moving averages of the past forget: one window, and four."""
MEMORY_WEIGHT = 0.5
"""Weight of the past against the present when cells are formed."""
LASTING = 8
"""Hops after which a level that is still off counts as a level: four windows."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Consecutive windows, one hop apart: ``count`` of them, the first at ``start`` of a segment."""

    segment: int
    start: int
    count: int


def usable_runs(history: Sequence[Segment], models: Models, L: int, h: int) -> list[Run]:
    """Stretches of usable windows (half of their cells observed), phase by phase, thinned evenly if too many."""
    seen = models.scaler.seen
    good = []
    for segment in history:
        share = np.isfinite(segment.values[:, seen]).mean(1)
        sums = np.concatenate([[0.0], np.cumsum(share)])
        good.append((sums[L:] - sums[:-L]) / L >= 0.5 if len(share) >= L else np.zeros(0, bool))
    total = sum(len(usable) // h for usable in good)
    longest = RUN if total > MOST_WINDOWS else total + 1
    phases = int(np.clip(MOST_WINDOWS // max(total, 1), 1, min(MOST_PHASES, h)))
    runs = []
    for phase in range(phases):
        begin = phase * h // phases
        for i, usable in enumerate(good):
            picked = np.concatenate([[0], usable[begin::h].astype(int), [0]])
            edges = np.flatnonzero(np.diff(picked)).tolist()
            for a, b in zip(edges[::2], edges[1::2], strict=True):
                pieces = [(at, min(longest, b - at)) for at in range(a, b, longest)]
                runs += [Run(i, begin + at * h, count) for at, count in pieces if count > 1]
    every = sum(run.count for run in runs)
    if every > MOST_WINDOWS:
        wanted = max(len(runs) * MOST_WINDOWS // every, 1)
        runs = [runs[k] for k in np.unique(np.linspace(0, len(runs) - 1, wanted).astype(int)).tolist()]
    return runs


def whitened(mu: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, the map from whitened latents back, and the (n, Z) whitened latents."""
    mean = mu.mean(0)
    variance, basis = np.linalg.eigh(np.cov(mu.T).reshape(mu.shape[1], -1))
    kept = variance > 1e-6 * max(float(variance[-1]), 1e-12)
    kept[-1] = True  # the last direction of a stream that never moves
    sd = np.sqrt(np.maximum(variance[kept], 1e-12))
    return mean, (basis[:, kept] * sd).T, (mu - mean) @ basis[:, kept] / sd


def directions(decoded: Floats, rng: np.random.Generator) -> Floats:
    """(L*C, d) orthonormal: the leading directions of the decoded latents."""
    some = decoded[rng.permutation(len(decoded))[:1_500]]
    _, size, basis = np.linalg.svd(some - some.mean(0), full_matrices=False)
    share = np.cumsum(size**2) / max(float((size**2).sum()), 1e-12)
    return np.asarray(basis[: min(MOST_DIRECTIONS, int((share < SHARE).sum()) + 1)].T)


def with_past(seen: Floats, starts: Ints) -> Floats:
    """The present, beside moving averages of the past on the same run."""
    parts = [seen]
    first = np.zeros(len(seen), bool)
    first[starts[:-1]] = True
    for memory in MEMORIES:
        average, now = np.empty_like(seen), seen[0]
        for t in range(len(seen)):
            now = seen[t] if first[t] else now
            average[t] = now
            now = now + (seen[t] - now) / memory
        parts.append(MEMORY_WEIGHT * average)
    return np.concatenate(parts, 1)


def way_here(seen: Floats, starts: Ints) -> Floats:
    """Each window beside those before it on its run, ``LASTING`` in all; near in all: same phase of a cycle."""
    first = np.repeat(starts[:-1], np.diff(starts))
    at = np.arange(len(seen))
    return np.concatenate([seen[np.maximum(at - back, first)] for back in range(LASTING)], 1)


def kmeans(points: Floats, count: int, rng: np.random.Generator, rounds: int = 12) -> Ints:
    """(n,) clusters 0, 1, ... without empty ones; k-means++ starts (Arthur & Vassilvitskii 2007)."""
    x = points.astype(np.float32)
    centres = [x[int(rng.integers(len(x)))]]
    far = ((x - centres[0]) ** 2).sum(1)
    for _ in range(min(count, len(x)) - 1):
        total = np.cumsum(far.astype(float))
        if total[-1] <= 0:
            break
        at = min(int(np.searchsorted(total, rng.random() * total[-1])), len(x) - 1)
        centres.append(x[at])
        far = np.minimum(far, ((x - x[at]) ** 2).sum(1))
    c = np.stack(centres)
    nearest = np.zeros(len(x), np.int64)
    for _ in range(rounds):
        nearest = ((c**2).sum(1) - 2.0 * (x @ c.T)).argmin(1)
        count_of = np.bincount(nearest, minlength=len(c))
        c = np.where(
            count_of[:, None] > 0, group_sums(nearest, x, len(c)) / np.maximum(count_of, 1)[:, None], c
        )
        c = c.astype(np.float32)
    return np.unique(nearest, return_inverse=True)[1].reshape(-1)


def group_sums(group: Ints, values: NDArray[Any], groups: int) -> Floats:
    """Sums of values (n, ...) over each group, (groups, ...)."""
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(groups))
    padded = np.concatenate([values[order], np.zeros((1, *values.shape[1:]), values.dtype)])
    sums = np.add.reduceat(padded, edges).astype(float)
    sums[np.bincount(group, minlength=groups) == 0] = 0.0
    return sums


def within_cells(u: Floats, path: Ints, follows: Ints, K: int) -> tuple[Floats, Floats, Floats]:
    """Spread of each cell, and the autoregression of the position within it, by ridge regression."""
    Z = u.shape[1]
    visits = np.bincount(path, minlength=K)
    pooled = max(float((u**2).mean()), 1e-12)
    # A cell's own mean was taken off its visits: k of them have k - 1 degrees of freedom.
    own = group_sums(path, (u**2).sum(1), K) / Z
    spread = np.sqrt((own + 4 * pooled) / (np.maximum(visits - 1, 0) + 4))
    v = u / spread[path][:, None]
    a = np.flatnonzero(follows >= 0)
    b = follows[a]
    stays = path[a] == path[b]
    carry, push = np.zeros((2, Z, Z)), np.zeros((2, Z, Z))
    for which, some in enumerate((~stays, stays)):
        if some.sum() < 2:
            some = np.ones(len(a), bool)
        x, target = v[a[some]], v[b[some]]
        carry[which] = np.linalg.solve(x.T @ x + 0.3 * Z * np.eye(Z), x.T @ target)
        new = target - x @ carry[which]
        cov = new.T @ new / len(new)
        shrink = Z / (Z + len(new))
        cov = (1 - shrink) * cov + shrink * np.diag(np.diag(cov)) + 1e-6 * np.eye(Z)
        push[which] = np.linalg.cholesky(cov)
    return spread, carry, push


@dataclass(frozen=True, slots=True, eq=False)
class AssetTimes:
    """When windows were: first row and asset. Two are of different times if ``apart`` rows lie between."""

    time: Ints  # (n,)
    asset: Ints  # (n,)
    apart: int

    def alike(self, a: Floats, of: Ints, b: Floats, among: Ints, count: int) -> tuple[Ints, Mask]:
        """For each point of ``a`` (windows ``of``) the nearest points of ``b`` of different times.

        Returns:
            (len(a), count) places in ``b``, nearest first; and which of these really are of a
            different time (where there are too few, others fill the places).
        """
        square = (b**2).sum(1)
        count_there = min(count, len(b))
        nearest, apart = np.zeros((len(a), count), np.int64), np.zeros((len(a), count), bool)
        for at in range(0, len(a), 256):
            p = of[at : at + 256]
            distance = square - 2.0 * a[at : at + 256] @ b.T
            near = np.abs(self.time[p][:, None] - self.time[among]) < self.apart
            near &= self.asset[p][:, None] == self.asset[among]
            distance[near] += 1e18
            some = np.argpartition(distance, count_there - 1, 1)[:, :count_there]
            order = np.take_along_axis(distance, some, 1).argsort(1, kind="stable")
            some = np.take_along_axis(some, order, 1)[:, np.arange(count) % count_there]
            nearest[at : at + 256] = some
            apart[at : at + 256] = ~np.take_along_axis(near, some, 1)
        return nearest, apart
