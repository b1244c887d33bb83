"""What drift is measured against: reference moments, and thresholds from held-out data.

Drift of an interval is the Kullback-Leibler divergence, in nats, of the Gaussian with the interval's mean
and variance from the reference Gaussian, summed over dimensions: of posterior means, and of newest-row
residuals. The threshold of each is the 99 % quantile over held-out chunks of as many rows as an interval
has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.asset_drift import LIMIT, VARIANCE_FLOOR, diagonal_kl
from daemon.detector import DriftReference
from daemon.domain import (
    Floats,
)


def moments(values: Floats) -> tuple[Floats, Floats]:
    """Mean and variance (Q,) over the rows of (N, Q); NaN cells left out; 0 and 1 where none."""
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, values, 0.0).sum(0) / count
    variance = (np.where(seen, values - mean, 0.0) ** 2).sum(0) / count
    return mean, np.where(seen.any(0), variance, 1.0)


def drift_reference(
    posterior: Floats, latent_kl: Floats, residuals: Sequence[Floats], drift_rows: int
) -> DriftReference:
    """What drift is measured against, and the 99 % quantiles of the null distributions.

    Latent axes differ from fold to fold, so each fold's held-out chunks are compared with that
    fold's own training windows (``chunk_kl``), and only the total KL is kept. Residuals keep their
    axes: all held-out chunks are compared with all held-out rows, as those of the stream are.

    Args:
        posterior: (N, Z) the deployed model's posterior means on training windows.
        latent_kl: the null distribution of the latents: total KL per held-out chunk, nats.
        residuals: of each held-out piece the newest rows' residuals (B, C), in calibration rms.
        drift_rows: rows of one drift interval.
    """
    latent_mean, latent_variance = moments(posterior)
    residuals = [np.clip(one, -LIMIT, LIMIT) for one in residuals]
    residual_mean, residual_variance = moments(np.concatenate(residuals))
    null = chunk_kl(residuals, (residual_mean, residual_variance), drift_rows)

    def edge(values: Floats) -> float:
        return float(np.quantile(values, 0.99)) if len(values) else np.inf

    return DriftReference(
        latent_mean=latent_mean,
        latent_variance=np.maximum(latent_variance, VARIANCE_FLOOR),
        residual_mean=residual_mean,
        residual_variance=np.maximum(residual_variance, VARIANCE_FLOOR),
        latent_threshold=edge(latent_kl),
        residual_threshold=edge(np.array(null)),
    )


def chunk_kl(series: Sequence[Floats], reference: tuple[Floats, Floats], drift_rows: int) -> list[float]:
    """Total KL of every chunk of the series (B_i, Q) against a mean and a variance (Q,), nats."""
    return [
        float(diagonal_kl(*moments(one[part]), *reference).sum())
        for one in series
        for part in chunks(len(one), drift_rows)
    ]


def chunks(rows: int, size: int) -> list[slice]:
    """Overlapping chunks of ``size`` rows, at most half of the rows each."""
    size = min(size, max(rows // 2, 1))
    return [slice(at, at + size) for at in range(0, rows - size + 1, max(size // 4, 1))]
