"""The map: a plane in latent space on which distances are distances between what the sensors show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.detector import DriftReference
from daemon.domain import Floats
from daemon.model.soundness import ACTIVE_VARIANCE

NEAR_PCA = 0.9
"""The axes are two dimensions of the model where these show this share of the variance of the best plane."""


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """Where latents lie on the map: ``(z - centre) * weight @ axes``."""

    centre: Floats  # (Z,)
    weight: Floats  # (Z,) the effect of one unit of the latent, in sd of sensors
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
    variance, axes = principal(x)
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


def principal(x: Floats) -> tuple[Floats, Floats]:
    """Variances, greatest first, and directions (columns) of centred points; each points where it is longest."""
    variance, axes = np.linalg.eigh(x.T @ x / max(len(x), 1))
    variance, axes = np.maximum(variance[::-1], 0.0), axes[:, ::-1]
    longest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] if axes.size else np.ones(0)
    return variance, axes * np.where(longest < 0, -1.0, 1.0)
