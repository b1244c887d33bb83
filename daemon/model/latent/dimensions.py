"""What each latent dimension does to the sensors: shares, traversals, movements, patterns and lags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from daemon.detector import DriftReference
from daemon.domain import Floats, Ints, Mask
from daemon.model.latent.encoding import decode_scaled
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
"""A sensor whose movement is less than this share of the largest has no lag."""
MOVES_WITHIN = 0.5
"""A movement of which less than this is within the window (sd over RMS) is a level: it has no moment."""


@dataclass(frozen=True, slots=True)
class Movement:
    """The effect of one sd of a dimension on one sensor over the window."""

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
    share: float  # of the effect of all active dimensions, 0 to 1
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
    """(Z,) the mean squared change per decoded window if a dimension is set to its mean; see the package.

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
    whole = decode_scaled(models, sample, labels)
    for d in dimensions.tolist():
        without = sample.copy()
        without[:, d] = reference.latent_mean[d]
        change = whole - decode_scaled(models, without, labels)
        effects[d] = float(np.square(change).sum(2).mean())
    return effects


def directions(
    models: Models, reference: DriftReference, effects: Floats, at: Floats, condition: str = ""
) -> list[Direction]:
    """The active dimensions, by falling share.

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
        scaled = decode_scaled(models, z, [condition] * len(z))  # (7, L, C)
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
    """A change of the window (L, C), in scaled units, by sensor; without sensors that training never observed."""
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
    """The main shape of a curve (L,): a ``level``, a ``trend`` over the window, or another ``shape``.

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


def moved(z: Floats, changes: Iterable[tuple[int, float]], reference: DriftReference) -> Floats:
    """(Z,) the same latents with some dimensions moved by so many sd."""
    result = z.copy()
    for dimension, sd in changes:
        result[dimension] += sd * np.sqrt(reference.latent_variance[dimension])
    return result
