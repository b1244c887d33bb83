"""The latent space of a trained model, in the units of its sensors.

A latent dimension has no unit and no name. What it *does* can be shown: decode it at several places
and look at what the sensors do (a traversal). Everything here is a pure function of the models and of
windows; nothing is sampled but the starts of k-means, from a fixed seed.

* **Active**: the posterior mean of the dimension varies over the training windows by more than 0.01
  (Burda et al. 2016; the same rule as ``soundness``). A step of "one sd" is the standard deviation of
  that posterior mean over training, which every bundle carries as its drift reference.
* **Share**: how much of what the model shows would go if the dimension stood at its mean: the mean
  squared change of decoded windows, summed over cells in scaled units, as a share of the sum over all
  active dimensions. For a linear model it is exactly the variance that the dimension explains.
* **Movement**: half the difference between the window decoded one sd above and one sd below the reference.
* **Lag**: how many rows one sensor's movement follows another's, by their cross-correlation.
* **Map**: latents weighted by the square root of their share, so that a distance on it is a distance
  between what the sensors show and not between numbers without unit, then the two leading principal
  components, or the two leading dimensions themselves where they show nearly as much.
* **Regimes**: k-means of the weighted latents; how many is decided by the silhouette (Rousseeuw 1987).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from daemon.detector import DriftReference
from daemon.domain import Floats, Ints, Mask
from daemon.model.reconstruction import Models
from daemon.model.soundness import ACTIVE_VARIANCE

STEPS = (-3, -2, -1, 0, 1, 2, 3)
"""Where a traversal decodes a dimension, in sd from the reference: what is common, rare, and very rare."""
SAMPLE = 256
"""Latents that shares are measured on: the share of a dimension is then within a few percent of itself."""
SAME_SHAPE = 0.9
"""Correlation above which two movements are taken for one shape that may be shifted: four fifths of the variance."""
WORTH_A_LAG = 0.02
"""A lag must fit so much better than a smaller one: two straight lines fit each other at every lag."""
FOLLOWS = 0.1
"""A sensor that moves less than this share of what the most moved one does is not said to follow it."""
MOVES_WITHIN = 0.5
"""A movement of which less than this is within the window (sd over RMS) is a level: it has no moment."""
NEAR_PCA = 0.9
"""The map's axes are dimensions of the model where these two show this share of what the best plane shows."""
MOST_REGIMES = 8
"""More states than a person keeps apart on one map."""
SMALLEST_REGIME = 0.02
"""What a machine does for less than half an hour a day is an event, not a regime."""
STRUCTURE = 0.25
"""Silhouette under which clusters are none (Kaufman & Rousseeuw 1990, "no substantial structure")."""
FIT_ON, SILHOUETTE_ON = 4_000, 800
"""Windows that regimes are fitted and counted on, evenly spread: the silhouette costs their square."""
ALIKE = 0.01
"""Silhouettes so near each other are alike: the standard error of a mean over 800 windows. Of them the
fewest regimes are taken, so that a cycle, which has no corners to cut it at, is not cut into as many as may be."""
KEPT_VARIANCE, MOST_COMPONENTS = 0.9, 8
"""Principal components that regimes are sought in: in many dimensions all distances are alike."""
STARTS = 4
"""Starts of k-means; the best is kept."""
NOTABLE = 0.5
"""A typical value this many sd off the overall mean is worth a word."""


# ------------------------------------------------------------------ both directions
@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """What the long model makes of N windows."""

    mean: Floats  # (N, Z) posterior mean
    kl: Floats  # (N, Z) KL(q(z|x) || N(0, I)) per dimension, nats
    level: Floats  # (N, C) mean over the window, raw units; NaN where nothing was observed
    rise: Floats  # (N, C) mean of the window's last third of rows minus that of its first, likewise
    squares: Floats  # (C,) sum of squared residuals over observed cells, scaled units
    spread: Floats  # (C,) sum of squared distances from the training mean, likewise
    cells: Floats  # (C,) how many cells these are

    @property
    def explained(self) -> Floats:
        """(C,) share of each sensor's movement that the model reproduces, 0 to 1; NaN if it does not move.

        Movement is the distance from the training mean: a sensor that stands still elsewhere counts.
        """
        moved = self.spread > 1e-6 * np.maximum(self.cells, 1)
        share = 1.0 - self.squares / np.where(moved, self.spread, 1.0)
        result: Floats = np.where(moved, np.clip(share, 0.0, 1.0), np.nan)
        return result

    @staticmethod
    def joined(parts: Sequence[Encoded]) -> Encoded:
        """One after the other; at least one."""
        rows = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("mean", "kl", "level", "rise")
        ]
        sums = [sum(getattr(part, name) for part in parts) for name in ("squares", "spread", "cells")]
        return Encoded(*rows, *(np.asarray(total) for total in sums))


def encode(models: Models, windows: Floats, conditions: Sequence[str]) -> Encoded:
    """Encode raw windows (N, L, C), NaN where missing, with their N condition labels."""
    scaled = models.scaler.scaled(windows)
    x = torch.from_numpy(np.ascontiguousarray(scaled)).flatten(1)  # (N, L*C)
    gaps = x.isnan()
    with torch.inference_mode():
        _, posterior = models.encode(x, conditions)
        mean, kl = posterior.mean, posterior.kl()
        decoded = models.decode(mean, conditions)
        residual = torch.where(gaps, 0.0, x - decoded).view(scaled.shape).double()
        known = torch.where(gaps, 0.0, x).view(scaled.shape).double()
    observed = np.isfinite(scaled)
    third = max(models.window // 3, 1)
    return Encoded(
        mean=mean.double().numpy(),
        kl=kl.double().numpy(),
        level=_means(windows, observed),
        rise=_means(windows[:, -third:], observed[:, -third:])
        - _means(windows[:, :third], observed[:, :third]),
        squares=residual.square().sum((0, 1)).numpy(),
        spread=known.square().sum((0, 1)).numpy(),
        cells=observed.sum((0, 1)).astype(float),
    )


def _means(windows: Floats, observed: Mask) -> Floats:
    """(N, C) means over the rows that were observed; NaN of none."""
    count = observed.sum(1)
    total = np.where(observed, windows, 0.0).sum(1)
    result: Floats = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return result


def decode(models: Models, z: Floats, condition: str = "") -> Floats:
    """Latents (N, Z) to raw windows (N, L, C); NaN for a sensor that training never saw."""
    return models.scaler.raw(_decode_scaled(models, z, [condition] * len(z)))


def _decode_scaled(models: Models, z: Floats, conditions: Sequence[str]) -> Floats:
    latents = torch.from_numpy(np.ascontiguousarray(z, np.float32))
    decoded = models.decode(latents, conditions)
    return np.asarray(decoded.view(len(z), models.window, -1).double().numpy())


# ------------------------------------------------------------------ dimensions
@dataclass(frozen=True, slots=True)
class Movement:
    """What one sd of a dimension does to one sensor over the window."""

    sensor: int
    change: float  # mean over the window, raw units
    first: float  # at the oldest row, raw units
    last: float  # at the newest row, raw units
    unit_sd: float  # RMS over the window, in the sensor's own sd
    pattern: str  # level | trend | shape: what most of it is
    lag: int | None  # rows after the sensor that moves most; None where no lag can be seen


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """One active dimension."""

    dimension: int  # position in the latent vector, from 0
    share: float  # of what all active dimensions do, 0 to 1
    sd: float  # of its posterior mean over training
    movements: tuple[Movement, ...]  # of all sensors, the most moved first
    traversal: Floats  # (7, L, C) raw windows at ``STEPS``


def active(reference: DriftReference) -> Ints:
    """The dimensions whose posterior mean varies over training."""
    return np.flatnonzero(reference.latent_variance > ACTIVE_VARIANCE)


def sample_of(reference: DriftReference, mean: Floats | None) -> Floats:
    """(SAMPLE, Z) latents that are typical: some of those seen (N, Z), or drawn from training's moments."""
    if mean is not None and len(mean):
        return mean[:: -(-len(mean) // SAMPLE)]
    draws = np.random.default_rng(0).standard_normal((SAMPLE, len(reference.latent_mean)))
    drawn: Floats = reference.latent_mean + np.sqrt(reference.latent_variance) * draws
    return drawn


def shares(
    models: Models, sample: Floats, dimensions: Ints, reference: DriftReference, condition: str
) -> Floats:
    """(Z,) the mean squared change per decoded window if a dimension stood at its mean; see the module.

    Args:
        models: Z latents.
        sample: (N, Z) typical latents.
        dimensions: which ones; the others get 0.
        reference: for their means.
        condition: the label that is decoded under.

    Returns:
        In squared sd, summed over the sensors and averaged over the window's rows.
    """
    effects = np.zeros(sample.shape[1])
    labels = [condition] * len(sample)
    whole = _decode_scaled(models, sample, labels)
    for d in dimensions.tolist():
        without = sample.copy()
        without[:, d] = reference.latent_mean[d]
        change = whole - _decode_scaled(models, without, labels)
        effects[d] = float(np.square(change).sum(2).mean())
    return effects


def directions(
    models: Models, reference: DriftReference, effects: Floats, at: Floats, condition: str = ""
) -> list[Direction]:
    """The active dimensions, those that do most first.

    Args:
        models: the trained models.
        reference: training's moments of the latents.
        effects: (Z,) of ``shares``.
        at: (Z,) the latents that the traversals start from.
        condition: the label that is decoded under.
    """
    chosen = active(reference)
    total = float(effects[chosen].sum()) or 1.0
    found = []
    for d in sorted(chosen.tolist(), key=lambda d: (-effects[d], d)):
        sd = float(np.sqrt(reference.latent_variance[d]))
        z = np.repeat(at[None], len(STEPS), 0)
        z[:, d] += sd * np.array(STEPS)
        scaled = _decode_scaled(models, z, [condition] * len(z))  # (7, L, C)
        change = (scaled[STEPS.index(1)] - scaled[STEPS.index(-1)]) / 2
        found.append(
            Direction(
                dimension=d,
                share=float(effects[d]) / total,
                sd=sd,
                movements=movements(change, models.scaler.scale, models.scaler.seen),
                traversal=models.scaler.raw(scaled),
            )
        )
    return found


def movements(change: Floats, scale: Floats, seen: Mask) -> tuple[Movement, ...]:
    """What a change of the window (L, C), in scaled units, is for each sensor that training saw."""
    size = np.sqrt(np.square(change).mean(0))  # (C,)
    order = [c for c in np.argsort(-size, kind="stable").tolist() if seen[c]]
    return tuple(
        Movement(
            sensor=c,
            change=float(change[:, c].mean() * scale[c]),
            first=float(change[0, c] * scale[c]),
            last=float(change[-1, c] * scale[c]),
            unit_sd=float(size[c]),
            pattern=pattern(change[:, c]),
            lag=0
            if c == order[0]
            else lag(change[:, order[0]], change[:, c])
            if size[c] >= FOLLOWS * size[order[0]]
            else None,
        )
        for c in order
    )


def pattern(curve: Floats) -> str:
    """What most of a curve (L,) is: a ``level``, a ``trend`` over the window, or another ``shape``.

    Decided by the shares of its sum of squares that its mean and its straight line account for.
    """
    total = float(np.square(curve).sum())
    if total <= 0.0 or len(curve) < 3:
        return "level"
    level = len(curve) * float(curve.mean()) ** 2
    t = np.arange(len(curve)) - (len(curve) - 1) / 2
    trend = float(t @ curve) ** 2 / float(t @ t)
    rest = total - level - trend
    return ("level", "trend", "shape")[int(np.argmax([level, trend, rest]))]


def lag(leader: Floats, follower: Floats) -> int | None:
    """How many rows ``follower`` (L,) is behind ``leader``; negative if before it.

    The peak of the normalised cross-correlation of the overlapping parts, up to a quarter of the window
    either way: with less overlap chance makes peaks. Of lags that fit alike the smallest.

    Returns:
        None where the two have no common shape, or one of them hardly moves within the window.
    """
    n = len(leader)
    for curve in (leader, follower):
        if curve.std() < MOVES_WITHIN * np.sqrt(np.square(curve).mean()) or not curve.any():
            return None
    fits: dict[int, float] = {}
    for shift in range(-(n // 4), n // 4 + 1):
        a = leader[max(-shift, 0) : n - max(shift, 0)]
        b = follower[max(shift, 0) : n + min(shift, 0)]
        a, b = a - a.mean(), b - b.mean()
        norm = float(np.sqrt((a @ a) * (b @ b)))
        fits[shift] = abs(float(a @ b)) / norm if norm > 0.0 else 0.0
    best = max(fits.values())
    if best < SAME_SHAPE:
        return None
    return min((s for s, fit in fits.items() if fit >= best - WORTH_A_LAG), key=lambda s: (abs(s), s))


# ------------------------------------------------------------------ the map
@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Where latents lie on the map: ``(z - centre) * weight @ axes``."""

    centre: Floats  # (Z,)
    weight: Floats  # (Z,) what one unit of the latent does, in sd of sensors
    axes: Floats  # (Z, K) orthonormal columns, K >= 2 where the model has as many; the first two are drawn
    dimensions: tuple[int, int] | None  # the model's own two, if they are the axes drawn
    share: float  # of the weighted variance that the first two axes show
    pca_share: float  # what the best plane shows
    own_share: float  # what the model's own two leading dimensions show

    def place(self, mean: Floats) -> Floats:
        """(N, 2)."""
        flat = ((mean - self.centre) * self.weight) @ self.axes[:, :2]
        missing = 2 - flat.shape[1]
        return np.pad(flat, ((0, 0), (0, missing))) if missing > 0 else flat

    def weighted(self, mean: Floats) -> Floats:
        """(N, Z) latents as the map weighs them."""
        result: Floats = (mean - self.centre) * self.weight
        return result


def plane(mean: Floats, effects: Floats, reference: DriftReference) -> Plane:
    """The map of latents (N, Z), given what each dimension does."""
    sd = np.sqrt(np.maximum(reference.latent_variance, ACTIVE_VARIANCE))
    weight = np.sqrt(effects) / sd
    centre = mean.mean(0)
    x = (mean - centre) * weight
    variance, axes = _principal(x)
    total = float(variance.sum()) or 1.0
    own = x.var(0)
    leading = np.argsort(-own, kind="stable")[:2]
    pca_share, own_share = float(variance[:2].sum()) / total, float(own[leading].sum()) / total
    dimensions = None
    if len(leading) == 2 and own_share >= NEAR_PCA * pca_share:
        dimensions = (int(leading[0]), int(leading[1]))
        axes = np.eye(len(centre))[:, leading]
    return Plane(
        centre, weight, axes, dimensions, own_share if dimensions else pca_share, pca_share, own_share
    )


def _principal(x: Floats) -> tuple[Floats, Floats]:
    """Variances, greatest first, and directions (columns) of centred points; each points where it is longest."""
    variance, axes = np.linalg.eigh(x.T @ x / max(len(x), 1))
    variance, axes = np.maximum(variance[::-1], 0.0), axes[:, ::-1]
    longest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] if axes.size else np.ones(0)
    return variance, axes * np.where(longest < 0, -1.0, 1.0)


# ------------------------------------------------------------------ regimes
@dataclass(frozen=True, slots=True, eq=False)
class Regimes:
    """What the machine has been doing, as clusters; the largest is number 0."""

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
    variance, axes = _principal(x[learn] - x[learn].mean(0))
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
    """What is notable of one sensor in one regime."""

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
    """What tells a regime from the whole, the most telling first; of each sensor its level or its course.

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
    """The hours of the day that a regime keeps to, as (from, to), UTC; None if it keeps to none.

    Args:
        hours: (N,) hour of the day of each window.
        inside: (N,) the regime's windows.

    Returns:
        The shortest run of hours that holds 80 % of its windows, where that is at most half a day and
        the machine is not also seen in hardly any other hours.
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


# ------------------------------------------------------------------ what if
def moved(z: Floats, changes: Iterable[tuple[int, float]], reference: DriftReference) -> Floats:
    """(Z,) the same latents with some dimensions moved by so many sd."""
    result = z.copy()
    for dimension, sd in changes:
        result[dimension] += sd * np.sqrt(reference.latent_variance[dimension])
    return result
