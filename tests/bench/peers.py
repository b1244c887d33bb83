"""What a user could pick instead, each as small as it can be written honestly.

One rule for all: fit on the first 70 % of train, alarm above the 0.999 quantile of the scores on
its last 30 %. Nobody's threshold sees a test label, or a row that its model was fitted on. A
score at a row uses that row and earlier ones only; higher is more anomalous.

Inputs are scaled by the mean and spread of the fitted rows and clipped to +-10; a missing cell
repeats the one before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees
from sklearn.ensemble import IsolationForest
from torch import nn

from daemon.domain import Floats, Mask

L = 16
FITTED = 0.7
QUANTILE = 0.999
Scorer = Callable[[Floats], Floats]
"""(N, C) scaled rows in time order to (N,) scores, NaN before the first whole window."""
Peer = Callable[[Floats, int], Scorer]
"""Scaled rows to fit on, and a seed, to a scorer."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A detector on a series; times in seconds."""

    scores: Floats  # (N,)
    alarms: Mask  # (N,)
    fit_s: float
    rows_per_s: float


def judge(peer: Peer, train: Floats, test: Floats, seed: int) -> Judged:
    """Fit, calibrate and score by the rule above.

    Args:
        peer: what to fit.
        train: (N, C) raw.
        test: (M, C) raw, following train.
        seed: of the peer.
    """
    cut = int(FITTED * len(train))
    began = time.perf_counter()
    mean, spread = np.nanmean(train[:cut], 0), np.nanstd(train[:cut], 0)
    rows = np.concatenate([train, test])
    scaled = carried((rows - np.nan_to_num(mean)) / np.where(spread > 0, spread, 1.0)).clip(-10.0, 10.0)
    scorer = peer(scaled[:cut], seed)
    fitted = time.perf_counter()
    scores = scorer(scaled)
    done = time.perf_counter()
    threshold = float(np.nanquantile(scores[cut : len(train)], QUANTILE))
    return Judged(
        scores[len(train) :],
        scores[len(train) :] > threshold,
        fitted - began,
        len(rows) / (done - fitted),
    )


def carried(values: Floats) -> Floats:
    """(N, C) with each missing cell repeating the one before it; 0 where there is none."""
    seen = np.isfinite(values)
    last = np.maximum.accumulate(np.where(seen, np.arange(len(values))[:, None], -1), axis=0)
    filled = np.take_along_axis(values, np.maximum(last, 0), 0)
    return np.where(last >= 0, filled, 0.0)


def windows(rows: Floats) -> NDArray[np.float32]:
    """(N, C) to (N - L + 1, L*C)."""
    cut = np.lib.stride_tricks.sliding_window_view(rows, L, axis=0).transpose(0, 2, 1)
    return np.ascontiguousarray(cut.reshape(len(cut), -1), np.float32)


def by_window(score: Callable[[NDArray[np.float32]], Floats]) -> Scorer:
    """A scorer of rows from a scorer of windows that end there."""

    def scores(rows: Floats) -> Floats:
        cut = windows(rows)
        parts = [score(cut[at : at + 1024]) for at in range(0, len(cut), 1024)]
        return np.concatenate([np.full(L - 1, np.nan), *parts])

    return scores


def window_ppca(rows: Floats, seed: int) -> Scorer:
    """-log p under probabilistic PCA (Tipping & Bishop 1999) of windows, 90 % of the variance."""
    x = windows(rows).astype(float)
    mean = x.mean(0)
    values, vectors = np.linalg.eigh(np.cov(x - mean, rowvar=False))
    values, vectors = values[::-1].clip(0.0), vectors[:, ::-1]
    k = min(int(np.searchsorted(values.cumsum() / values.sum(), 0.9)) + 1, len(values) - 1)
    noise = max(float(values[k:].mean()), 1e-4)
    basis, variance = vectors[:, :k], np.maximum(values[:k], noise)

    def score(cut: NDArray[np.float32]) -> Floats:
        centred = cut - mean
        z = centred @ basis
        outside = (centred**2).sum(1) - (z**2).sum(1)
        return np.asarray((z**2 / variance).sum(1) + outside / noise)

    return by_window(score)


def isolation_forest(rows: Floats, seed: int) -> Scorer:
    """scikit-learn's, its own settings, one row at a time."""
    forest = IsolationForest(random_state=seed).fit(rows)
    return lambda some: np.asarray(-forest.score_samples(some))


def half_space_trees(rows: Floats, seed: int) -> Scorer:
    """river's, its own settings; it wants numbers between 0 and 1, and learns on as it scores."""
    trees = HalfSpaceTrees(seed=seed)
    low, span = rows.min(0), np.ptp(rows, axis=0)
    span[span == 0] = 1.0

    def cells(row: Floats) -> dict[int, float]:
        return dict(enumerate(((row - low) / span).tolist()))

    def scores(some: Floats) -> Floats:
        found = np.empty(len(some))
        for t, row in enumerate(some):
            x = cells(row)
            found[t] = trees.score_one(x)
            if t >= len(rows):  # what it was fitted on it has learned already
                trees.learn_one(x)
        return found

    for row in rows:
        trees.learn_one(cells(row))
    return scores


class _Plain(nn.Module):
    """The MLP VAE of the literature: 128, 64, 8 latents, one sigma; no skip."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(d, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 16)
        )
        self.decoder = nn.Sequential(
            nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, d)
        )
        self.log_sigma = nn.Parameter(torch.zeros(()))

    def loss(self, x: torch.Tensor) -> torch.Tensor:
        """(B, d) to the negative evidence lower bound, (B,) nats."""
        mean, log_variance = self.encoder(x).chunk(2, 1)  # (B, 8) each
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)
        squares = (x - self.decoder(z)).square().sum(1)
        s = self.log_sigma.clamp(-3.0, 2.0)
        return 0.5 * squares * (-2 * s).exp() + x.shape[1] * (s + 0.5 * math.log(2 * math.pi)) + kl


def plain_vae(rows: Floats, seed: int, steps: int = 1_500) -> Scorer:
    """Its reconstruction error at the posterior's mean; Adam, ``steps`` of 256 windows."""
    torch.manual_seed(seed)
    x = torch.from_numpy(windows(rows))
    model = _Plain(x.shape[1])
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        adam.zero_grad()
        loss = model.loss(x[torch.randint(len(x), (256,))]).mean()
        loss.backward()
        adam.step()

    def score(cut: NDArray[np.float32]) -> Floats:
        with torch.inference_mode():
            some = torch.from_numpy(cut)
            mean = model.encoder(some)[:, :8]
            return np.asarray((some - model.decoder(mean)).square().mean(1).double())

    return by_window(score)


PEERS: dict[str, Peer] = {
    "window pPCA": window_ppca,
    "IsolationForest": isolation_forest,
    "HalfSpaceTrees": half_space_trees,
    "plain VAE": plain_vae,
}
DETERMINISTIC = {"window pPCA"}
