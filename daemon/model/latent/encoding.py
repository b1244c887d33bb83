"""Windows to latents and back, with what the sensors show in each window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from daemon.domain import Floats, Mask
from daemon.model.reconstruction import Models


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """N windows encoded by the long model."""

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

        Movement is the distance from the training mean: a sensor that is constant at another level counts.
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


def encode(
    models: Models, windows: Floats, conditions: Sequence[str], assets: Sequence[str] | None = None
) -> Encoded:
    """Encode raw windows (N, L, C), NaN where missing, with their N condition labels.

    ``assets`` are their N assets; None: of none that training had.
    """
    scaled = models.units(windows, assets or ("",) * len(windows))
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
    return models.scaler.raw(decode_scaled(models, z, [condition] * len(z)))


def decode_scaled(models: Models, z: Floats, conditions: Sequence[str]) -> Floats:
    latents = torch.from_numpy(np.ascontiguousarray(z, np.float32))
    decoded = models.decode(latents, conditions)
    return np.asarray(decoded.view(len(z), models.window, -1).double().numpy())
