"""What a condition says of a window before any sensor has spoken.

A machine at half load has other usual values than one at full load. The nonlinear path of the VAE is
shown the condition, but most of the model is its linear skip, which is not: without help it spends its
latents on the difference between the modes, and takes a window that is usual in the wrong mode for a
usual one. So each condition has moments of its own:

    p(x | z, c) = N(m_c + xhat(z, c), diag (sigma exp s_c)^2)       m_c (L, C), s_c (C,), scaled units

The models see x - m_c, in training and ever after. Both moments are estimates from few rows, pulled
towards the pooled ones, which are m = 0 and s = 0:

* by rows: n windows of a condition count n / (n + 2 L), two windows' worth of doubt, because
  neighbouring windows share rows;
* by what they are worth: a share lambda_c in [0, 1] per sensor, the least-squares slope of windows on
  the offsets that were learned from the *other* fifths of their condition's windows (stacking, Breiman
  1996). Where a label says nothing of a sensor, or its difference was a drift that does not come back,
  the slope is near zero and the sensor is left alone.

**Unknown.** A label that training never saw has the code K behind the K known ones, with m = 0. One
training window in ten is shown as unknown: to pPCA as to the VAE. The between-mode directions so keep
a tenth of their variance, and a window of an unknown condition has latents to be explained with.

**Rare.** A label with fewer rows than two windows (2 L) has nothing to learn from: it gets no code, and
counts as unknown, in the model as in the alert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.domain import NO_CONDITION, Segment
from daemon.model.pca import NOISE_FLOOR, WindowPCA
from daemon.model.segments import BLOCKS, Piece

WINDOWS_OF_DOUBT = 2
"""Windows' worth of rows that an estimate is pulled by, and below which a label is rare."""
UNKNOWN_EVERY = 10
"""Every tenth training window is shown as unknown: the share that the VAE's condition dropout has."""
SPREAD_LIMIT = 1.5
"""A condition's spread differs from the pooled one by at most this, nats: a factor of 4.5, as its
calibrated levels may."""
JUDGED_ON = 4_000
"""Windows that the spreads are estimated on, at most about."""


def learned_labels(history: Sequence[Segment], pieces: Sequence[Piece], length: int) -> tuple[str, ...]:
    """The labels that have rows enough to learn from in these pieces, in order of their names."""
    rows: Counter[str] = Counter()
    for piece in pieces:
        rows.update(history[piece.segment].condition[piece.start : piece.stop])
    return tuple(
        sorted(
            label
            for label, count in rows.items()
            if label != NO_CONDITION and count >= WINDOWS_OF_DOUBT * length
        )
    )


@dataclass(frozen=True, slots=True, eq=False)
class ConditionMoments:
    """Mean and spread of windows per condition, over the pooled ones; the last row is ``unknown``.

    ``labels`` K in the order of the codes; ``mean`` (K + 1, L*C) scaled units; ``log_sigma`` (K + 1, C).
    """

    labels: tuple[str, ...]
    mean: Tensor
    log_sigma: Tensor
    _codes: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codes", {label: i for i, label in enumerate(self.labels)})

    @property
    def unknown(self) -> int:
        """K, the code of a label that training did not learn."""
        return len(self.labels)

    @property
    def channels(self) -> int:
        """C."""
        return self.log_sigma.shape[1]

    def codes(self, labels: Sequence[str]) -> Tensor:
        """(B,) codes of labels."""
        return torch.tensor([self._codes.get(label, self.unknown) for label in labels], dtype=torch.long)

    def means(self, codes: Tensor, length: int) -> Tensor:
        """(B, length*C) what is usual in the newest ``length`` rows of windows under these codes."""
        return self.mean[:, -length * self.channels :][codes]

    # ------------------------------------------------------------------ fitting
    @staticmethod
    def fit(
        windows: NDArray[np.float32],
        observed: NDArray[np.bool_],
        labels_of: Sequence[str],
        labels: tuple[str, ...],
        length: int,
    ) -> ConditionMoments:
        """The means of windows by their conditions; ``spread_by`` adds the spreads.

        Args:
            windows: (n, L*C) scaled.
            observed: (n, L*C) which cells count.
            labels_of: n labels; those not in ``labels`` are unknown.
            labels: K that get a code.
            length: L.
        """
        d = windows.shape[1]
        channels = d // length
        blank = ConditionMoments(
            labels, torch.zeros(len(labels) + 1, d), torch.zeros(len(labels) + 1, channels)
        )
        codes = blank.codes(labels_of).numpy()
        total, seen = np.zeros((len(labels), BLOCKS, d)), np.zeros((len(labels), BLOCKS, d))
        for code in range(len(labels)):
            # In time order, so that the fifths of a condition lie apart.
            for block, rows in enumerate(np.array_split(np.flatnonzero(codes == code), BLOCKS)):
                cells = observed[rows]
                total[code, block] = np.where(cells, windows[rows], 0.0).sum(0, dtype=float)
                seen[code, block] = cells.sum(0)
        whole = np.where(observed, windows, 0.0).sum(0, dtype=float) / np.maximum(observed.sum(0), 1)  # (d,)
        count = seen.sum(1)
        offset = _offset(total.sum(1), count, whole, length)
        others = _offset(
            total.sum(1, keepdims=True) - total, count[:, None] - seen, whole, length
        )  # (K, BLOCKS, d), from the other fifths

        def by_channel(cells: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(cells.reshape(-1, channels).sum(0))

        along, size = by_channel((total - seen * whole) * others), by_channel(seen * others**2)
        worth = np.clip(along / np.maximum(size, 1e-12), 0.0, 1.0)  # (C,)
        mean = torch.zeros(len(labels) + 1, d)
        mean[:-1] = torch.from_numpy(offset * np.tile(worth, length)).float()
        return ConditionMoments(labels, mean, blank.log_sigma)

    def shown(self, labels_of: Sequence[str]) -> Tensor:
        """(n,) the codes that training windows are shown under: every tenth is unknown."""
        codes = self.codes(labels_of)
        codes[::UNKNOWN_EVERY] = self.unknown
        return codes

    def spread_by(
        self, pca: WindowPCA, windows: Tensor, observed: NDArray[np.bool_], labels_of: Sequence[str]
    ) -> ConditionMoments:
        """The same with the spreads of pPCA's residuals.

        Args:
            pca: fitted on the windows less their means.
            windows: (n, L*C) scaled, gaps filled.
            observed: (n, L*C).
            labels_of: n labels.
        """
        some = slice(None, None, max(len(windows) // JUDGED_ON, 1))
        x, known, codes = windows[some], observed[some], self.codes(labels_of[some])
        length = windows.shape[1] // self.channels

        def squares(under: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            """(n, C) sums of squared residuals over observed cells, and how many they are."""
            centred = x - self.means(under, length)
            residual = (centred - pca.decode(pca.project(centred))).numpy()
            shape = (len(x), length, self.channels)
            return (
                np.where(known, residual, 0.0).reshape(shape).astype(float).__pow__(2).sum(1),
                known.reshape(shape).sum(1).astype(float),
            )

        own, cells = squares(codes)
        blind, _ = squares(torch.full_like(codes, self.unknown))
        pooled = own.sum(0) / np.maximum(cells.sum(0), 1.0) + NOISE_FLOOR
        log_sigma = np.zeros((len(self.labels) + 1, self.channels))
        for code in range(len(self.labels) + 1):
            mine = np.flatnonzero(codes.numpy() == code) if code < len(self.labels) else np.arange(len(x))
            of = own if code < len(self.labels) else blind
            count = cells[mine].sum(0)
            variance = of[mine].sum(0) / np.maximum(count, 1.0) + NOISE_FLOOR
            rows = count / length * (some.step or 1)  # windows, before thinning
            log_sigma[code] = 0.5 * np.log(variance / pooled) * rows / (rows + WINDOWS_OF_DOUBT * length)
        clipped = torch.from_numpy(np.clip(log_sigma, -SPREAD_LIMIT, SPREAD_LIMIT)).float()
        return ConditionMoments(self.labels, self.mean, clipped)

    # ------------------------------------------------------------------ arrays
    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """What a bundle stores, beside the labels."""
        return {"mean": self.mean.numpy(), "log_sigma": self.log_sigma.numpy()}

    @staticmethod
    def of(labels: tuple[str, ...], arrays: Mapping[str, NDArray[np.float32]]) -> ConditionMoments:
        """The inverse of ``arrays``."""
        return ConditionMoments(
            labels, torch.from_numpy(arrays["mean"]), torch.from_numpy(arrays["log_sigma"])
        )


def _offset(
    total: NDArray[np.float64], count: NDArray[np.float64], whole: NDArray[np.float64], length: int
) -> NDArray[np.float64]:
    """Mean over the pooled mean, pulled towards it by rows; zero where nothing was seen."""
    mean = np.where(count > 0, total / np.maximum(count, 1.0) - whole, 0.0)
    return np.asarray(mean * count / (count + WINDOWS_OF_DOUBT * length))
