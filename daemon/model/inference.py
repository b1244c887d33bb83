"""Scoring inference: the model at z = mu, with as few passes over the window as possible.

A window is thousands of numbers and the latents are dozens, so the cost of a score is how often the whole
window is read or written. Training computes the model step by step (``vae``); here the same function has

* one product that reads the window: the linear skip and the first dense layer share it;
* one product that writes it: skip and last layer, and the mean and the bias as one more row, subtracted
  from the window at once. The result is the residual, which the scores are computed from.

A window's score is the same to the last bit at any position in a batch: products with few columns go
through kernels that round by the row's position (measured with MKL at 5 and 7 columns), so every product is
padded with columns of zeros up to a multiple of 16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from daemon.model.paths import Dense
from daemon.model.pca import WindowPCA
from daemon.model.vae import VAE, Posterior

COLUMNS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """The gaps of those windows of a batch that have any; these are read apart from the others.

    Gaps take another path through the arithmetic, equal but for the last digits: whether a window takes it may not
    depend on its neighbours.
    """

    windows: Tensor | None  # (H,) which of the batch; None: all
    size: int  # as many rows are computed with, the last ones padding
    mask: Tensor  # (size, d) bool

    @staticmethod
    def of(batch: Tensor, windows: Tensor | None, size: int) -> Gaps:
        """Those of windows (B, d), NaN where a cell is missing."""
        return Gaps(windows, size, _picked(batch, windows, size).isnan())

    def pick(self, batch: Tensor) -> Tensor:
        """(size, ...) their rows of an array of the batch, with zeros behind."""
        return _picked(batch, self.windows, self.size)

    def put(self, batch: Tensor, rows: Tensor) -> None:
        """Write their rows (size, ...) into an array of the batch."""
        if self.windows is None:
            batch[:] = rows
        else:
            batch[self.windows] = rows[: len(self.windows)]


def _picked(batch: Tensor, windows: Tensor | None, size: int) -> Tensor:
    if windows is None:
        return batch
    rows = batch.new_zeros(size, *batch.shape[1:])
    rows[: len(windows)] = batch[windows]
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """The results of B windows, after their gaps were filled."""

    residual: Tensor  # (B, d) window minus its reconstruction, scaled units; overwrites the window
    z: Tensor  # (B, Z) posterior mean
    score: Tensor  # (B,) KL, nats; of a linear model |z|^2
    nats: Tensor  # (B,) KL for the ELBO


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """One model, ready to score. ``of`` makes it.

    ``read`` (d, N) and ``bias`` (N,): columns ``first`` of the first layer, then k of the skip,
    then zeros. ``write`` (K, d): rows of the last layer, then k of the skip, zeros, and last what
    is added to every window.
    """

    pca: WindowPCA
    vae: VAE | None
    first: int
    read: Tensor
    bias: Tensor
    write: Tensor

    @staticmethod
    def of(pca: WindowPCA, vae: VAE | None = None) -> Inference:
        """The inference of window pPCA, or of a VAE with that pPCA as its start."""
        encoder, decoder = pca.basis / pca.sd, (pca.basis * pca.sd).T
        reads, writes = [encoder], [decoder]
        constant, first = pca.mean.clone(), 0
        bias = -(pca.mean.double() @ encoder.double()).float()
        if vae is not None:
            w = vae.weights
            reads, writes = [w["skip.encoder"]], [w["skip.decoder"]]
            bias = -(pca.mean.double() @ w["skip.encoder"].double()).float()
            if isinstance(vae.path, Dense):
                entry, exit_ = w["encoder.0.values"].T, w["output.weight"].T
                reads, writes = [entry, *reads], [exit_, *writes]
                shift = w["encoder.0.bias"].double() - pca.mean.double() @ entry.double()
                bias = torch.cat([shift.float(), bias])
                constant += w["output.bias"]
                first = entry.shape[1]
        read, write = torch.cat(reads, 1), torch.cat(writes)
        extra = -read.shape[1] % COLUMNS
        more = -(len(write) + 1) % COLUMNS
        return Inference(
            pca,
            vae,
            first,
            pad(read, (0, extra)).contiguous(),
            pad(bias, (0, extra)),
            torch.cat([pad(write, (0, 0, 0, more)), constant[None]]).contiguous(),
        )

    def __call__(self, filled: Tensor, gaps: Gaps | None, codes: Tensor | None) -> Inferred:
        """Score windows, deterministically.

        Args:
            filled: (B, d) scaled, gaps filled by the pPCA's conditional mean. Overwritten by the
                residuals: passes over windows are the main cost.
            gaps: None where no cell of the batch is missing.
            codes: (B,) condition codes; None without condition.
        """
        if self.vae is None:
            z = torch.addmm(self.bias, filled, self.read)[:, : self.pca.latents]
            squared = z.square().sum(1)
            variance = (self.pca.noise / self.pca.variance).clamp(max=1.0)
            nats = 0.5 * (squared + (variance - 1.0 - variance.log()).sum())
            return Inferred(self._residual(filled, z), z, squared, nats)
        w, path, latent = self.vae.weights, self.vae.path, self.vae.latent
        if gaps is None:
            posterior = self._posterior(self.vae, filled, None, codes)
        else:
            picked = None if codes is None else gaps.pick(codes)
            holed = self._posterior(self.vae, gaps.pick(filled), gaps.mask, picked)
            posterior = holed
            if gaps.windows is not None:
                posterior = self._posterior(self.vae, filled, None, codes)
                gaps.put(posterior.mean, holed.mean)
                gaps.put(posterior.log_variance, holed.log_variance)
        own, skip = posterior.mean[:, :latent], posterior.mean[:, latent:]
        if isinstance(path, Dense):
            residual = self._residual(filled, path.before_last(w, own, codes), skip)
        else:
            residual = self._residual(filled.sub_(path.write(w, own, codes)), skip)
        kl = posterior.kl().sum(1)
        return Inferred(residual, posterior.mean, kl, kl)

    def _posterior(self, vae: VAE, filled: Tensor, gaps: Tensor | None, codes: Tensor | None) -> Posterior:
        """As ``VAE.encode``: the path is shown the mean where a gap is, the skip what fills it."""
        w, path, first = vae.weights, vae.path, self.first
        shown = filled if gaps is None else torch.where(gaps, self.pca.mean, filled)
        if gaps is None or not first:
            product = torch.addmm(self.bias, filled, self.read)
            entered, skip = product[:, :first], product[:, first:]
        else:
            entered = torch.addmm(self.bias[:first], shown, self.read[:, :first])
            skip = torch.addmm(self.bias[first:], filled, self.read[:, first:])
        if isinstance(path, Dense):
            h = path.after_first(w, entered, gaps, codes)
        else:
            h = path.read(w, shown - self.pca.mean, gaps, codes)
        return vae.posterior(h, skip[:, : self.pca.latents])

    def _residual(self, windows: Tensor, *codes: Tensor) -> Tensor:
        """(B, d) windows minus the windows decoded from the codes, side by side; in place."""
        code = windows.new_zeros(len(windows), len(self.write))
        begin = 0
        for part in codes:
            code[:, begin : begin + part.shape[1]] = part
            begin += part.shape[1]
        code[:, -1] = 1.0
        return windows.addmm_(code, self.write, alpha=-1.0)
