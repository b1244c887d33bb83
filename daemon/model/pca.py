"""Window pPCA: the linear special case of a VAE whose decoder variance is learned.

A window of L steps and C sensors is one vector x of d = L*C numbers. Tipping & Bishop (1999):

    x = mean + W z + noise,   z ~ N(0, I_k),   noise ~ N(0, s2 I),
    W = U (Lambda - s2)^(1/2),   s2 = mean of the discarded eigenvalues,

with the leading k eigenvectors U and eigenvalues Lambda of the covariance (90 % of variance).

**Missing cells.** The noise is independent between cells, so the conditional mean of the
missing cells given the observed ones is W_m E[z | x_o], exactly. We put that into the gaps and
then project as usual: z = Lambda^(-1/2) U'(x - mean). A window without gaps is therefore plain
PCA, and a gap shifts the result only as far as the observed cells imply. With
V = U (1 - s2/Lambda)^(1/2) and r = V_o' x_o the fill is

    x_m = (I - V_m V_m')^-1 V_m r  =  V_m (I - V_m' V_m)^-1 r,

one small positive definite system per window: as large as the gaps are many, or k x k where
that is less. It is solved in float64, because s2/Lambda is small where the model is sure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from daemon.domain import Ints

SHARE = 0.90
"""Share of the variance that the latents keep."""
NOISE_FLOOR = 1e-4
"""Smallest noise variance, in scaled units: a hundredth of a standard deviation."""
REFILLS = 2
"""Rounds of "fit, then refill the gaps by the model" when training windows have gaps."""
DENSE = 1024
"""Up to this many dimensions the eigenproblem is solved whole, above by subspace iteration."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowPCA:
    """pPCA of flattened windows, in scaled units.

    ``mean`` (d,), ``basis`` (d, k) orthonormal columns, ``variance`` (k,) the kept
    eigenvalues, ``noise`` the mean discarded one. k may be 0: a stream that never moves.
    """

    mean: Tensor
    basis: Tensor
    variance: Tensor
    noise: float
    _sd: Tensor = field(init=False, repr=False)
    _shrunk: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_sd", self.variance.sqrt())
        gain = (1.0 - self.noise / self.variance.double()).clamp(min=0.0)
        object.__setattr__(self, "_shrunk", self.basis.double() * gain.sqrt())

    @property
    def latents(self) -> int:
        """k."""
        return self.basis.shape[1]

    @property
    def sd(self) -> Tensor:
        """(k,) standard deviation of each latent direction."""
        return self._sd

    @staticmethod
    def fit(start: NDArray[np.float32], observed: NDArray[np.bool_]) -> tuple[WindowPCA, Tensor]:
        """Fit on windows with gaps.

        Args:
            start: (n, d) scaled windows whose gaps contain a starting value (bridged in time).
            observed: (n, d).

        Returns:
            The model and (n, d) the windows with their gaps filled by it.
        """
        filled = torch.from_numpy(np.ascontiguousarray(start))
        gaps = torch.from_numpy(~observed)
        holed = gaps.any(1).nonzero().squeeze(1)
        model = _decompose(filled)
        if len(holed):
            filled = filled.clone()
            for _ in range(REFILLS):
                filled[holed] = model.fill(filled[holed], gaps[holed])
                model = _decompose(filled)
        return model, filled

    def fill(self, x: Tensor, gaps: Tensor) -> Tensor:
        """Put the conditional mean given the observed cells into the gaps.

        Args:
            x: (B, d) scaled windows; values in the gaps are ignored (NaN is fine).
            gaps: (B, d) bool, True where missing.

        Returns:
            (B, d), observed cells unchanged. A window is filled alike in any batch.
        """
        result = torch.where(gaps, self.mean, x)
        count = gaps.sum(1).numpy()
        rows = np.flatnonzero(count)
        if not len(rows) or not self.latents:
            return result
        centred = result - self.mean  # zero in the gaps
        right = centred.double() @ self._shrunk  # (B, k)
        # Windows with about equally many gaps share one batched solve, padded with zero rows to
        # a size that depends on the window's own count only: its result does not depend on its neighbours.
        bucket = np.floor(np.log2(2 * count[rows] - 1)).astype(np.int64)
        d = len(self.mean)
        for size in sorted(set(bucket.tolist())):
            members = rows[bucket == size]
            most, least = min(1 << size, d), (1 << size >> 1) + 1  # gaps of a window in this bucket
            step = max(1, 4_000_000 // (most * max(self.latents, 1)))
            for begin in range(0, len(members), step):
                self._fill_alike(result, gaps, right, members[begin : begin + step], most, least)
        return result

    def _fill_alike(
        self, result: Tensor, gaps: Tensor, right: Tensor, part: Ints, most_gaps: int, least_gaps: int
    ) -> None:
        d, k = self.basis.shape
        holes = gaps[part]
        r = right[part].unsqueeze(2)  # (b, k, 1)
        few_observed = d - most_gaps < min(most_gaps, k)
        chosen = (~holes if few_observed else holes).numpy()
        most = d - least_gaps if few_observed else most_gaps
        index = np.zeros((len(part), most), np.int64)  # the chosen cells of each window, in order
        present = np.zeros((len(part), most, 1))
        row, cell = np.nonzero(chosen)
        per_row = chosen.sum(1)
        place = np.arange(len(row)) - np.repeat(per_row.cumsum() - per_row, per_row)
        index[row, place], present[row, place] = cell, 1.0
        v = self._shrunk[index] * torch.from_numpy(present)  # (b, most, k), zero rows for padding
        if not few_observed and most <= k:
            system = -torch.bmm(v, v.transpose(1, 2))
            system.diagonal(dim1=1, dim2=2).add_(1.0)
            solved = _solve(system, torch.bmm(v, r)).squeeze(2).float().numpy()  # (b, most)
            result.numpy()[part[row], cell] = solved[row, place] + self.mean.numpy()[cell]
            return
        if few_observed:  # I - V_m'V_m = I - V'V + V_o'V_o, without the cancellation
            system = torch.bmm(v.transpose(1, 2), v)
            system.diagonal(dim1=1, dim2=2).add_((self.noise / self.variance.double()).clamp(max=1.0))
        else:
            system = -torch.bmm(v.transpose(1, 2), v)
            system.diagonal(dim1=1, dim2=2).add_(1.0)
        values = (_solve(system, r).squeeze(2) @ self._shrunk.T).float() + self.mean
        some = torch.from_numpy(part)
        result[some] = torch.where(holes, values, result[some])

    def project(self, filled: Tensor) -> Tensor:
        """(B, d) without gaps to (B, k) whitened latents."""
        return (filled - self.mean) @ self.basis / self._sd

    def decode(self, z: Tensor) -> Tensor:
        """(B, k) whitened latents to (B, d)."""
        return torch.addmm(self.mean, z * self._sd, self.basis.T)

    def arrays(self) -> dict[str, np.ndarray]:
        """What a bundle stores."""
        return {
            "mean": self.mean.numpy(),
            "basis": self.basis.numpy(),
            "variance": self.variance.numpy(),
            "noise": np.array([self.noise]),
        }

    @staticmethod
    def of(arrays: dict[str, np.ndarray]) -> WindowPCA:
        """The inverse of ``arrays``."""
        return WindowPCA(
            torch.from_numpy(arrays["mean"]),
            torch.from_numpy(arrays["basis"]),
            torch.from_numpy(arrays["variance"]),
            float(arrays["noise"][0]),
        )


def _decompose(x: Tensor) -> WindowPCA:
    """pPCA of windows (n, d) without gaps."""
    n, d = x.shape
    mean = x.mean(0)
    centred = x - mean
    total = float(centred.double().square().sum()) / n
    if total <= d * 1e-12:
        return WindowPCA(mean, x.new_zeros(d, 0), x.new_zeros(0), NOISE_FLOOR)
    covariance = (centred.T @ centred).double() / n  # (d, d)
    if d <= DENSE:
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(0).clamp(min=0.0), vectors.flip(1)
    else:
        values, vectors = _leading(covariance, min(d, 320))
    kept = values.cumsum(0) / total
    k = int((kept < SHARE).sum()) + 1
    k = max(min(k, len(values), d - 1, n - 1), 0)
    values, vectors = values[:k], vectors[:, :k]
    noise = max((total - float(values.sum())) / (d - k), NOISE_FLOOR)
    # A direction below the noise floor is noise, however large its share of (almost) nothing.
    k = int((values > noise).sum())
    return WindowPCA(mean, vectors[:, :k].float().contiguous(), values[:k].float(), noise)


def _solve(system: Tensor, right: Tensor) -> Tensor:
    """Solve (b, m, m) positive definite systems for (b, m, 1), one by one independent."""
    return torch.cholesky_solve(right, torch.linalg.cholesky(system))


def _leading(covariance: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The leading eigenpairs of a large covariance by subspace iteration, deterministic."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(len(covariance), rank, generator=generator, dtype=covariance.dtype)
    for _ in range(6):
        q, _ = torch.linalg.qr(covariance @ q)
    values, vectors = torch.linalg.eigh(q.T @ covariance @ q)
    return values.flip(0).clamp(min=0.0), (q @ vectors).flip(1)
