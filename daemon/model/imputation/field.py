"""A stationary Gaussian field over sensors and time, and conditional means in it (simple cokriging).

Scaled readings are modelled by the lagged covariances of training, Gamma[h]_ij = E x_i(t) x_j(t + h). A
missing cell is then a linear problem of a dozen or two unknowns: choose the observed cells that are most
informative (``filling`` does that), and take the conditional mean given these. One formula covers single
drops, bursts, outages, trailing gaps and dead sensors, because only the neighbours differ.

Two regularisers: ``NUGGET``, a noise variance on every reading, and a *level* variance tau per sensor, a
common offset of all its readings. The normal state drifts; with tau > 0 the differences between a sensor's
own readings count, rather than their distance from the training mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Floats,
    Ints,
    Mask,
)

REACH = 48
"""Rows to either side from which a neighbour is taken."""
NUGGET = 0.01
"""Noise variance of a reading, in squared scaled units."""
PARTNERS = 10
CELLS_AT_ONCE = 1024
NO_ROW = -(10**9)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """The field's lagged covariances, and per sensor the sensors that are most correlated with it."""

    covariance: Floats  # (4 * REACH + 1, C, C) Gamma at lags -2 * REACH .. 2 * REACH
    partners: Ints  # (C, P) most correlated first

    def conditional(
        self, x: Floats, channel: Ints, row: Ints, near: tuple[Ints, Ints, Mask], levels: Sequence[float]
    ) -> Floats:
        """(n, M) conditional means of cells (row, channel) given their neighbours, one per tau.

        Args:
            x: (T, C) scaled, NaN where missing.
            channel, row: (n,) the cells.
            near: channels, rows (n, K) of the neighbours, and which of them exist.
            levels: M level variances tau.
        """
        channels, rows, exists = near
        sensors = self.covariance.shape[1]
        lag = np.where(exists, rows - row[:, None], 0)
        # Gamma[row_j - row_i, channel_i, channel_j] by one flat index that is a sum of two.
        of_i = (2 * REACH - lag) * sensors**2 + channels * sensors
        of_j = lag * sensors**2 + channels
        flat = self.covariance.reshape(-1)
        between = flat[of_i[:, :, None] + of_j[:, None, :]]  # (n, K, K)
        towards = flat[of_i + channel[:, None]]  # (n, K)
        # A neighbour that does not exist becomes an unrelated unit: its weight is exactly zero.
        both = exists[:, :, None] & exists[:, None, :]
        between *= both
        known = np.where(exists, x[np.where(exists, rows, 0), channels], 0.0)
        own = exists & (channels == channel[:, None])
        same = both & (channels[:, :, None] == channels[:, None, :]) if any(levels) else both
        variance = flat[2 * REACH * sensors**2 + channel * (sensors + 1)]
        result = np.empty((len(row), len(levels)))
        for m, level in enumerate(levels):
            system = between + level * same if level else between
            right = towards * exists + level * own
            weights = _weights(system, right, exists, variance + level)
            result[:, m] = (weights * known).sum(1)
        return result


def _weights(system: Floats, right: Floats, exists: Mask, variance: Floats) -> Floats:
    """(n, K) solutions of (system + nugget) w = right, with the smallest nugget that gives a consistent solution.

    Where training has gaps each covariance is estimated from different pairs of readings, and together
    they may be inconsistent: the system may be indefinite, its solution absurd. With a true covariance
    w explains at most the whole variance, and at least the noise that passes through it,
    nugget |w|^2. Where that fails, the nugget is raised tenfold; in the end the weights are zero.
    """
    result = np.zeros(right.shape)
    open_ = np.arange(len(right))
    diagonal = np.arange(right.shape[1])
    for nugget in (NUGGET, 10 * NUGGET, 100 * NUGGET):
        lhs = system[open_]
        lhs[:, diagonal, diagonal] += np.where(exists[open_], nugget, 1.0)
        try:
            w = np.linalg.solve(lhs, right[open_, :, None])[:, :, 0]
        except np.linalg.LinAlgError:  # exactly singular, one of the batch
            continue
        explained = (w * right[open_]).sum(1)
        slack = 1e-6 + 1e-6 * variance[open_]
        sound = explained <= variance[open_] + slack
        sound &= nugget * (w * w).sum(1) <= explained + slack
        result[open_[sound]] = w[sound]
        open_ = open_[~sound]
        if not len(open_):
            break
    return result


def lagged_sums(blocks: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Sums of products and their counts at lags 0 .. 2 * REACH, (2 * REACH + 1, C, C) each."""
    channels = blocks[0].shape[1]
    lags = 2 * REACH + 1
    sums, counts = np.zeros((2, channels, lags * channels))
    for block in blocks:
        observed = np.isfinite(block)
        x = np.where(observed, block, 0.0)
        sums += _against_later(x, lags)
        if not observed.all():
            counts += _against_later(observed, lags)
        else:
            counts += np.repeat(np.maximum(len(block) - np.arange(lags), 0), channels)
    shape = (channels, lags, channels)
    return sums.reshape(shape).transpose(1, 0, 2), counts.reshape(shape).transpose(1, 0, 2)


def _against_later(x: Floats | Mask, lags: int) -> Floats:
    """(C, lags * C) sum over t of x(t) x(t + h)', for all h at once: one large product."""
    rows, channels = x.shape
    ahead = np.zeros((rows + lags, channels), np.float32)
    ahead[:rows] = x
    later = np.lib.stride_tricks.sliding_window_view(ahead.reshape(-1), lags * channels)[::channels]
    result = np.zeros((channels, lags * channels))
    for start in range(0, rows, 512):
        stop = min(start + 512, rows)
        result += ahead[start:stop].T @ later[start:stop]
    return result


def fit_field(sums: Floats, counts: Floats) -> Field:
    gamma = (sums / np.maximum(counts, 1.0)).astype(np.float32).astype(np.float64)
    variance = np.maximum(np.diag(gamma[0]), NUGGET)
    likeness = np.abs(gamma[0]) / np.sqrt(np.outer(variance, variance))
    np.fill_diagonal(likeness, -1.0)
    partners = np.argsort(-likeness, axis=1, kind="stable")[:, : min(PARTNERS, len(variance) - 1)]
    return Field(mirrored(gamma), partners)


def mirrored(gamma: NDArray[Any]) -> Floats:
    """Lags 0 .. 2 * REACH to -2 * REACH .. 2 * REACH: Gamma[-h] is Gamma[h] transposed."""
    both = np.concatenate([gamma[:0:-1].transpose(0, 2, 1), gamma]).astype(np.float64)
    return np.ascontiguousarray(both)


def last_observed(observed: Mask) -> Ints:
    """(T, C) the latest observed row at or before each; far negative if none."""
    rows = np.arange(len(observed))[:, None]
    return np.maximum.accumulate(np.where(observed, rows, NO_ROW), axis=0)


def next_observed(observed: Mask) -> Ints:
    """(T, C) the earliest observed row at or after each; far positive if none."""
    result: Ints = len(observed) - 1 - last_observed(observed[::-1])[::-1]
    return result


def chunks(index: Ints) -> Iterator[Ints]:
    for start in range(0, len(index), CELLS_AT_ONCE):
        yield index[start : start + CELLS_AT_ONCE]
