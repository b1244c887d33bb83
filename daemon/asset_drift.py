"""Drift of single assets: what an interval of an asset adds up to, and what that is measured against.

The divergence and the limits are those of the stream's drift, too. Both cores need it: ``model.asset_drift`` finds reference and thresholds on held-out rows of training by the same sums
that ``stream.asset_drift`` adds up.

**A day at a time.** An hour of a machine is not like its training: it is one hour of its daily cycle, and by far narrower.
An asset's sums therefore fade: from each interval that had enough windows to the next it keeps the share ``memory``, and they hold
about the last day.

The drift of an asset at the end of an interval is the KL divergence, in nats, of its posterior means and of its newest-row
residuals, each as diagonal Gaussians, from what they were for *this asset* in training, or for an asset that did not
train, from those of all. Latents and residuals have a threshold each. Readings are added up too: they say which sensors
carry a drift of the latents.

**From the first interval on** an asset is judged, for where models are trained daily, sums never get old. What holds a few
hours only is uncertain: so sums have thresholds by their age.

Shape letters: M intervals, B windows, Z latents, C sensors, K numbers of a sum, A assets, L ages of sums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from daemon.domain import Floats

FEWEST_WINDOWS = 32
"""Below this an interval says nothing."""
LIMIT = 10.0
"""Standard deviations beyond which a residual, a reading or a latent counts as this: one absurd reading is no drift."""
VARIANCE_FLOOR = 1e-6


def diagonal_kl(mean: Floats, variance: Floats, mean0: Floats, variance0: Floats) -> Floats:
    """KL(N(mean, variance) || N(mean0, variance0)) per dimension, nats; shapes as given, variances floored."""
    v, v0 = np.maximum(variance, VARIANCE_FLOOR), np.maximum(variance0, VARIANCE_FLOOR)
    nats: Floats = 0.5 * (np.log(v0 / v) + (v + (mean - mean0) ** 2) / v0 - 1.0)
    return nats


def fewest_windows(full: int) -> int:
    """The windows below which an interval of one asset, with ``full`` of them in all, says nothing of the present."""
    return max(FEWEST_WINDOWS, -(-full // 2))


def ages(memory: float) -> tuple[int, ...]:
    """L, the numbers of whole intervals from which on sums have thresholds of their own: 1, 2, 4 ..., and those of two days.

    Half a day is another part of the daily cycle than a day; from two days on the sums are as they stay. 1 alone without memory.
    """
    most = max(math.ceil(-2.0 / math.log(memory) - 1e-6), 1) if memory > 0.0 else 1
    return (*(1 << i for i in range((most - 1).bit_length())), most)


def weights(memory: float) -> Floats:
    """(L,) of sums of these ages the whole intervals, earlier ones as far as they still count; but for rounding."""
    return (1.0 - memory ** np.array(ages(memory), float)) / (1.0 - memory) - 1e-6


def width(latents: int, sensors: int) -> int:
    """K, how many numbers ``terms`` gives."""
    return 1 + 2 * latents + 5 * sensors


def terms(posterior: Floats, residual: Floats, readings: Floats) -> Floats:
    """(B, K) what windows add: 1; latents, squares; per sensor 1 where it was seen, residuals, squares, readings, squares.

    Args:
        posterior: (B, Z) posterior means.
        residual: (B, C) of the newest rows, standardised; NaN where missing.
        readings: (B, C) the newest rows, in training sd from the training mean.
    """
    seen = np.isfinite(residual)
    r, x = (np.where(seen, np.clip(np.nan_to_num(one), -LIMIT, LIMIT), 0.0) for one in (residual, readings))
    z, one = np.clip(np.nan_to_num(posterior), -LIMIT, LIMIT), np.ones((len(posterior), 1))
    return np.concatenate([one, z, z * z, seen, r, r * r, x, x * x], axis=1)


def moments(sums: Floats, latents: int) -> tuple[Floats, Floats, Floats]:
    """Count, mean and variance (M, Z + 2 C) of sums (M, K): of the latents, the residuals, the readings."""
    Z = latents
    seen, r, r_squares, x, x_squares = np.split(sums[:, 1 + 2 * Z :], 5, axis=1)
    windows = np.broadcast_to(sums[:, :1], (len(sums), Z))
    count = np.concatenate([windows, seen, seen], axis=1)
    n = np.maximum(count, 1.0)
    mean = np.concatenate([sums[:, 1 : 1 + Z], r, x], axis=1) / n
    squares = np.concatenate([sums[:, 1 + Z : 1 + 2 * Z], r_squares, x_squares], axis=1) / n
    return count, mean, squares - mean**2


@dataclass(frozen=True, slots=True, eq=False)
class AssetDriftReference:
    """What the drift of single assets is measured against: one row for each of training, and the last for all others."""

    names: tuple[str, ...]  # A
    mean: Floats  # (A + 1, Z + 2 C) of the posterior means, the residuals, the readings
    variance: Floats  # (A + 1, Z + 2 C)
    threshold: Floats  # (L, A + 1, 2) nats: of latents and of residuals, in total; infinite: not judged
    memory: float = 0.0  # the share of its sums that an asset keeps from an interval to the next


def divergence(count: Floats, mean: Floats, variance: Floats, mean0: Floats, variance0: Floats) -> Floats:
    """``diagonal_kl``; 0 where there are fewer than two values."""
    return np.where(count > 1, diagonal_kl(mean, variance, mean0, variance0), 0.0)


def totals(nats: Floats, latents: int) -> Floats:
    """(M, 2) of the KL (M, Z + 2 C) of intervals that of the latents and that of the residuals, in total."""
    stop = (nats.shape[1] + latents) // 2
    return np.stack([nats[:, :latents].sum(1), nats[:, latents:stop].sum(1)], axis=1)
