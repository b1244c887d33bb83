"""Synthetic series of a bundle without tables: windows from the prior that agree on their overlap."""

from __future__ import annotations

import numpy as np
import torch

from daemon.domain import (
    Floats,
    Ints,
)
from daemon.model.pca import WindowPCA
from daemon.model.reconstruction import Models
from daemon.model.synthesis.generator import CHUNK_ROWS
from daemon.model.synthesis.tables import decode_latents


class PriorSeries:
    """Series of a bundle without tables: from the prior, windows that agree on their overlap.

    The next window's first half is the last one's second half; its other half is drawn from pPCA's
    exact conditional (mean and covariance), goes through encoder and decoder once (one step of
    pseudo-Gibbs: z ~ q, decode), and gets the decoder's noise. No state, no level, no daily
    round: what lasts longer than a window is not in the prior.
    """

    def __init__(self, models: Models, assets: int, random: np.random.Generator, condition: str = "") -> None:
        self._models, self._random, self._label = models, random, condition
        self._L, self._C = models.window, len(models.sigma)
        self._h = max(self._L // 2, 1)
        pca = models.pcas[-1]
        self._gain, self._root = _conditional(pca, (self._L - self._h) * self._C)
        self._mean = (pca.mean + models.usual([condition], self._L * self._C)).double().numpy().reshape(-1)
        z = random.standard_normal((assets, models.latents))
        decoded = decode_latents(models, z, [condition] * assets).reshape(assets, self._L, self._C)
        self._last = decoded + models.sigma * random.standard_normal(decoded.shape)

    def rows(self) -> tuple[Floats, Ints]:
        """See ``Series``."""
        A = len(self._last)
        parts = [self._hop() for _ in range(max(CHUNK_ROWS // (A * self._h), 1))]
        scaled = np.clip(np.concatenate(parts, 1), -10.0, 10.0)
        return self._models.scaler.raw(scaled), np.full(scaled.shape[:2], -1)

    def _hop(self) -> Floats:
        models, A, shared = self._models, len(self._last), (self._L - self._h) * self._C
        mean = self._mean
        known = self._last[:, self._h :].reshape(A, -1)
        drawn = (known - mean[:shared]) @ self._gain.T + mean[shared:]
        drawn += self._random.standard_normal(drawn.shape) @ self._root.T
        x = np.concatenate([known, drawn], 1)
        vae = models.vae
        if vae is not None:
            with torch.inference_mode():
                codes = vae.codes([self._label] * A)
                posterior = vae.encode(torch.from_numpy(x.astype(np.float32)), None, codes)
                sd = (0.5 * posterior.log_variance).exp().double().numpy()
                z = posterior.mean.double().numpy() + sd * self._random.standard_normal(sd.shape)
            again = decode_latents(models, z, [self._label] * A)
            noise = np.tile(models.sigma, self._h) * self._random.standard_normal((A, x.shape[1] - shared))
            x[:, shared:] = again[:, shared:] + noise
        self._last = np.clip(x, -10.0, 10.0).reshape(A, self._L, self._C)
        return self._last[:, self._L - self._h :]


def _conditional(pca: WindowPCA, shared: int) -> tuple[Floats, Floats]:
    """Gain and root of the covariance of a window's last cells given its first ``shared``.

    With x = W z + e: z given the first is N(M^-1 W_o' r, s2 M^-1), M = W_o' W_o + s2 I.
    """
    variance = pca.variance.double().numpy()
    W = pca.basis.double().numpy() * np.sqrt(np.maximum(variance - pca.noise, 0.0))
    first, last = W[:shared], W[shared:]
    inverse = np.linalg.inv(first.T @ first + pca.noise * np.eye(W.shape[1]))
    covariance = pca.noise * (last @ inverse @ last.T + np.eye(len(last)))
    return last @ inverse @ first.T, np.linalg.cholesky(covariance)
