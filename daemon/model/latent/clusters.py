"""Regimes: clusters of latents, their number by the silhouette, and what is typical of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.domain import Floats, Ints, Mask
from daemon.model.latent.encoding import Encoded
from daemon.model.latent.projection import Plane, principal

MOST_REGIMES = 8
"""More states than a person keeps apart on one map."""
SMALLEST_REGIME = 0.02
"""A state of less than half an hour a day is an event, not a regime."""
STRUCTURE = 0.25
"""Silhouette under which clusters are none (Kaufman & Rousseeuw 1990, "no substantial structure")."""
FIT_ON, SILHOUETTE_ON = 4_000, 800
"""Windows that regimes are fitted and counted on, evenly spread: the silhouette costs their square."""
ALIKE = 0.01
"""Silhouettes so near each other are alike: the standard error of a mean over 800 windows. Of them the
fewest regimes are taken, so that a cycle, which has no natural boundaries, is not split into the most allowed."""
KEPT_VARIANCE, MOST_COMPONENTS = 0.9, 8
"""Principal components that regimes are sought in: in many dimensions all distances are alike."""
STARTS = 4
"""Starts of k-means; the best is kept."""
NOTABLE = 0.5
"""A typical value at least this many sd from the overall mean is reported."""


@dataclass(frozen=True, slots=True, eq=False)
class Regimes:
    """Clusters of latents, as states of the machine; the largest is number 0."""

    centres: Floats  # (K, Z) latents
    of: Ints  # (N,) the cluster of each window
    silhouette: float  # of the choice, -1 to 1; NaN where there is one cluster
    radius: Floats  # (K,) RMS distance of its windows from the centre, weighted
    typical: Ints  # (K,) the window nearest to each centre

    @property
    def count(self) -> int:
        """K."""
        return len(self.centres)


def regimes(mean: Floats, usable: Mask, flat: Plane, least: int = 1) -> Regimes:
    """Cluster latents.

    Args:
        mean: (N, Z), at least one.
        usable: (N,) windows to learn from: those without an episode. The others are only assigned.
        flat: whose weights make distances.
        least: windows that a regime has; windows overlap, and fewer than their length are one moment.
    """
    x = flat.weighted(mean)
    learn = np.flatnonzero(usable)
    if len(learn) < 2 * MOST_REGIMES:
        learn = np.arange(len(x))
    variance, axes = principal(x[learn] - x[learn].mean(0))
    kept = int((np.cumsum(variance) < KEPT_VARIANCE * variance.sum()).sum()) + 1
    y = x @ axes[:, : min(kept, MOST_COMPONENTS)]
    fit = y[learn[:: -(-len(learn) // FIT_ON)]]
    judged = fit[:: -(-len(fit) // SILHOUETTE_ON)]
    tried: list[tuple[float, Floats]] = []
    for k in range(2, min(MOST_REGIMES, len(judged) // 2) + 1):
        candidate = k_means(fit, k)
        sizes = np.bincount(nearest(y[learn], candidate), minlength=k)
        if sizes.min() >= max(SMALLEST_REGIME * len(learn), least):
            tried.append((silhouette(judged, nearest(judged, candidate)), candidate))
    best = max((found for found, _ in tried), default=-1.0)
    score, centres = float("nan"), fit.mean(0)[None]
    if best > STRUCTURE:
        score, centres = next((found, c) for found, c in tried if found >= best - ALIKE)
    of = nearest(y, centres)
    order = np.argsort(-np.bincount(of, minlength=len(centres)), kind="stable")
    rank: Ints = np.argsort(order)
    of, centres = rank[of], centres[order]
    distance = np.square(y - centres[of]).sum(1)
    radius, typical, middle = [], [], []
    for k in range(len(centres)):
        members = np.flatnonzero(of == k)
        calm = members[usable[members]] if usable[members].any() else members
        radius.append(float(np.sqrt(distance[calm].mean())))
        typical.append(int(calm[distance[calm].argmin()]))
        middle.append(mean[calm].mean(0))
    return Regimes(np.array(middle), of, score, np.array(radius), np.array(typical))


def k_means(points: Floats, k: int) -> Floats:
    """(k, D) centres of points (N, D) by Lloyd's algorithm from k-means++ starts; deterministic."""
    best, found = np.inf, points[:k]
    for start in range(STARTS):
        rng = np.random.default_rng(start)
        centres = points[[int(rng.integers(len(points)))]]
        while len(centres) < k:
            far = np.square(points[:, None] - centres[None]).sum(2).min(1)
            total = far.sum()
            pick = rng.choice(len(points), p=far / total) if total > 0 else len(centres) % len(points)
            centres = np.concatenate([centres, points[[pick]]])
        for _ in range(100):
            of = nearest(points, centres)
            moved = np.stack([points[of == j].mean(0) if (of == j).any() else centres[j] for j in range(k)])
            if np.array_equal(moved, centres):
                break
            centres = moved
        inertia = float(np.square(points - centres[nearest(points, centres)]).sum())
        if inertia < best - 1e-9:
            best, found = inertia, centres
    return found


def nearest(points: Floats, centres: Floats) -> Ints:
    """(N,) the centre nearest to each point."""
    distance = np.stack([np.square(points - centre).sum(1) for centre in centres])
    result: Ints = distance.argmin(0)
    return result


def silhouette(points: Floats, of: Ints) -> float:
    """Mean silhouette of points (N, D) in their clusters (Rousseeuw 1987); -1 if fewer than two have points."""
    labels = np.unique(of)
    if len(labels) < 2:
        return -1.0
    apart = np.sqrt(sum(np.square(x[:, None] - x[None]) for x in points.T))  # (N, N)
    sums = np.stack([apart[:, of == k].sum(1) for k in labels], 1)  # (N, K)
    sizes = np.array([(of == k).sum() for k in labels])
    own = np.searchsorted(labels, of)
    rows = np.arange(len(of))
    within = sums[rows, own] / np.maximum(sizes[own] - 1, 1)
    others = sums / sizes
    others[rows, own] = np.inf
    between = others.min(1)
    each = (between - within) / np.maximum(np.maximum(between, within), 1e-12)
    return float(np.where(sizes[own] > 1, each, 0.0).mean())


@dataclass(frozen=True, slots=True)
class Typical:
    """A notable value of one sensor in one regime."""

    sensor: int
    value: float  # median over the regime's windows: of the window's mean, or of its rise; raw units
    overall: float  # mean over all windows, likewise
    unit_sd: float  # the distance of the two, in the sensor's sd
    word: str  # low | high | near 0, of the mean; rising | falling, of the rise

    @property
    def course(self) -> bool:
        """Whether it is the rise that is notable."""
        return self.word in ("rising", "falling")


def typical_values(seen: Encoded, of: Ints, cluster: int, scale: Floats) -> list[Typical]:
    """How a regime differs from the whole, largest difference first; per sensor its level or its course.

    Args:
        seen: N windows.
        of: (N,) the regime of each window.
        cluster: which regime.
        scale: (C,) the sensors' sd.
    """
    found = []
    for c in range(seen.level.shape[1]):
        each = []
        for values, course in ((seen.level[:, c], False), (seen.rise[:, c], True)):
            known = np.isfinite(values)
            mine = values[known & (of == cluster)]
            if not len(mine):
                continue
            value, overall = float(np.median(mine)), float(values[known].mean())
            away = float((value - overall) / scale[c])
            if course:
                word = "rising" if value > 0 else "falling"
                notable = abs(away) >= NOTABLE and abs(value) >= NOTABLE * scale[c]
            else:
                low, high = np.quantile(values[known], [0.01, 0.99])
                word = "near 0" if abs(value) <= 0.05 * (high - low) else "high" if away > 0 else "low"
                notable = abs(away) >= NOTABLE
            if notable:
                each.append(Typical(c, value, overall, away, word))
        found += sorted(each, key=lambda t: -abs(t.unit_sd))[:1]
    return sorted(found, key=lambda t: (-abs(t.unit_sd), t.sensor))


def usual_hours(hours: Ints, inside: Mask) -> tuple[int, int] | None:
    """The hours of the day in which a regime occurs, as (from, to), UTC; None if it occurs at any hour.

    Args:
        hours: (N,) hour of the day of each window.
        inside: (N,) the regime's windows.

    Returns:
        The shortest run of hours with 80 % of its windows, where that is at most half a day and
        nearly all hours of the day were observed.
    """
    every = np.bincount(hours, minlength=24)
    if not inside.any() or (every > 0).sum() < 20:  # less than a day was seen: no habit shows
        return None
    mine = np.bincount(hours[inside], minlength=24) / np.maximum(every, 1)  # share of that hour
    mine = mine / mine.sum()
    for length in range(1, 13):
        sums = [mine[np.arange(start, start + length) % 24].sum() for start in range(24)]
        if max(sums) >= 0.8:
            start = int(np.argmax(sums))
            return start, (start + length) % 24
    return None
