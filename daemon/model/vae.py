"""The variational autoencoder, with a linear skip and an optional condition.

    encoder   q(z | x, c) = N(mu, diag exp logvar)    path of [x*m, 1-m, c]  ->  8 latents
                                                      linear skip of filled x  ->  k latents
    decoder   p(x | z, c) = N(xhat, diag sigma_c^2)   mirrored path of [z, c]  +  linear skip
    loss      E_q[-log p(x | z, c)] + beta * KL(q(z | x, c) || N(0, I))       in nats, summed

Kingma & Welling (2014), with additions for sensor data:

* **Path.** The nonlinear part: an MLP, convolutions or a recurrence along time (see ``paths``).
* **Linear skip.** The k skip latents start as window pPCA (exactly: mu = Lambda^-1/2 U'(x - mean), xhat = U
  Lambda^1/2 z + mean) and learn at a tenth of the rate; the path ends in zeros, so that training starts at
  pPCA and can only add what is not linear. Without the skip an MLP of this size ranks anomalies worse than
  pPCA does.
* **Gaps.** The path reads the observed cells and where the gaps are (1 - m rather than m: the same affine
  family, and zero for a window without gaps, which then costs nothing). The skip reads the window with its
  gaps filled by pPCA's conditional mean.
* **Masked ELBO.** Cells that were never observed have no likelihood. Gaps *injected* in training are hidden
  from the encoder and still reconstructed, which teaches imputation.
* **Learned sigma** per channel, shared over time (sigma-VAE, Rybkin et al. 2021): the balance of the two
  terms needs no tuning.
* **No posterior collapse**: summed (not averaged) likelihood, KL warmed up over the first 30 % of steps,
  0.05 nats free per dimension.
* **Condition** (CVAE): a vector per label seen in training plus ``unknown``. One training window in ten is
  given ``unknown``, so that a new label has a learned fallback. The path reads the vector; path and skip
  alike read the window minus its condition's mean (see ``conditions``).

Every random number comes from one torch.Generator: the same data, settings and seed give the same weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from daemon.domain import ModelSettings
from daemon.model.conditions import ConditionMeans
from daemon.model.optimiser import Adam, one_cycle, steps_for
from daemon.model.paths import Draw, Path, path_of
from daemon.model.pca import WindowPCA

BATCH = 256
WARM_UP = 0.3
FREE_BITS = 0.05  # nats per dimension
LOG_SIGMA = (-3.0, 2.0)
CONDITION_DROPOUT = 0.1
GAP_POOL = 1024  # gap-injected windows are drawn and filled once, not at every step


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """q(z | x, c) of a batch: ``mean`` and ``log_variance`` (B, Z), the path's latents first."""

    mean: Tensor
    log_variance: Tensor

    def kl(self) -> Tensor:
        """(B, Z) KL(q || N(0, I)) per dimension, nats."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance)

    def draw(self, generator: torch.Generator) -> Tensor:
        """(B, Z) by reparameterisation: mean + sd * epsilon."""
        noise = torch.randn(self.mean.shape, generator=generator)
        return self.mean + (0.5 * self.log_variance).exp() * noise


@dataclass(frozen=True, slots=True, eq=False)
class TrainingWindows:
    """n windows that a VAE is fitted on."""

    filled: Tensor  # (n, d) scaled, cells that are truly missing filled by the pPCA
    observed: Tensor  # (n, d) bool; other cells are left out of the likelihood
    conditions: Sequence[str]  # n labels, ignored by a VAE without condition
    length: int  # L; d = L*C

    @property
    def channels(self) -> int:
        """C."""
        return self.filled.shape[1] // self.length


@dataclass(slots=True, eq=False)
class VAE:
    """Weights and shapes; immutable once trained.

    ``kind`` is that of the nonlinear path: ``mlp``, ``conv`` or ``gru``. ``labels`` are the condition
    labels seen in training; empty means no condition at all. ``means`` are the usual
    windows of these; None without condition, and for old bundles, where only the path reads it.
    """

    pca: WindowPCA
    length: int
    channels: int
    hidden: tuple[int, ...]
    latent: int
    labels: tuple[str, ...]
    weights: dict[str, Tensor]
    kind: str = "mlp"
    means: ConditionMeans | None = None
    path: Path = field(init=False, repr=False)
    _codes: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._codes = {label: i for i, label in enumerate(self.labels)}
        self.path = path_of(self.kind, self.length, self.channels, self.hidden, self.latent)

    # ------------------------------------------------------------------ condition
    @property
    def unknown(self) -> int:
        """Code of a label that training never saw."""
        return len(self.labels)

    def codes(self, labels: Sequence[str]) -> Tensor | None:
        """(B,) condition codes, or None for a model without condition."""
        if not self.labels:
            return None
        return torch.tensor([self._codes.get(label, self.unknown) for label in labels])

    # ------------------------------------------------------------------ the two halves
    def encode(self, filled: Tensor, gaps: Tensor | None, codes: Tensor | None) -> Posterior:
        """Posterior of windows.

        Args:
            filled: (B, d) scaled, gaps filled by the pPCA's conditional mean.
            gaps: (B, d) bool, or None where no cell of the batch is missing.
            codes: (B,) condition codes; None without condition.
        """
        w = self.weights
        centred = filled - self.pca.mean
        if (usual := self._usual(codes)) is not None:
            centred = centred - usual
        shown = centred if gaps is None else centred.masked_fill(gaps, 0.0)
        h = self.path.read(w, shown, gaps, codes)  # (B, H)
        return self.posterior(h, centred @ w["skip.encoder"])

    def posterior(self, h: Tensor, skip: Tensor) -> Posterior:
        """Posterior of windows by the path's features (B, H) and the skip's latents (B, k)."""
        w = self.weights
        mean = torch.cat([linear(h, w["mean.weight"], w["mean.bias"]), skip], 1)
        log_variance = torch.cat(
            [
                linear(h, w["log_variance.weight"], w["log_variance.bias"]).clamp(-8.0, 4.0),
                w["skip.log_variance"].clamp(-8.0, 2.0).expand_as(skip),
            ],
            1,
        )
        return Posterior(mean, log_variance)

    def decode(self, z: Tensor, codes: Tensor | None) -> Tensor:
        """(B, Z) latents to (B, d) scaled windows."""
        w = self.weights
        path = self.path.write(w, z[:, : self.latent], codes)
        windows = path + torch.addmm(self.pca.mean, z[:, self.latent :], w["skip.decoder"])
        usual = self._usual(codes)
        return windows if usual is None else windows + usual

    def _usual(self, codes: Tensor | None) -> Tensor | None:
        """(B, d) the conditions' usual windows over the pooled mean; None without conditions."""
        if self.means is None or codes is None:
            return None
        return self.means.of(codes, self.length * self.channels)

    def log_sigma(self) -> Tensor:
        """(C,) log of the decoder's standard deviation per channel, scaled units."""
        return self.weights["log_sigma"].clamp(*LOG_SIGMA)

    @staticmethod
    def fit(
        pca: WindowPCA,
        windows: TrainingWindows,
        settings: ModelSettings,
        labels: tuple[str, ...] = (),
        means: ConditionMeans | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> VAE:
        """Train by Adam on normal windows.

        Args:
            pca: fitted on the same windows.
            windows: what to train on.
            settings: kind, hidden, latent, beta, seed, steps (None: ``steps_for``).
            labels: the condition labels that get a code; none for a model without condition.
            means: of the labels; the pPCA was then fitted on windows minus their means.
            progress: called with the share done, now and then.

        Raises:
            ValueError: if there is no hidden layer, or no such kind.
        """
        filled, observed = windows.filled, windows.observed
        length, channels = windows.length, windows.channels
        n, d = filled.shape
        generator = torch.Generator().manual_seed(settings.seed)
        path = path_of(settings.kind, length, channels, settings.hidden, settings.latent)

        def draw(shape: tuple[int, ...], fan_in: int) -> Tensor:
            bound = 1.0 / math.sqrt(fan_in)
            return (2.0 * torch.rand(shape, generator=generator) - 1.0) * bound

        weights = _initial(pca, path, channels, settings.latent, len(labels), draw)
        centred = filled if means is None else filled - means.of(means.codes(windows.conditions), d)
        _start_sigma(weights, pca, centred, observed, length)
        model = VAE(
            pca,
            length,
            channels,
            settings.hidden,
            settings.latent,
            labels,
            weights,
            settings.kind,
            means,
        )
        codes = model.codes(windows.conditions)

        truly_missing = ~observed
        any_missing = bool(truly_missing.any())
        pool = torch.randint(n, (min(GAP_POOL, n),), generator=generator)
        hidden = injected_gaps(len(pool), length, channels, generator) | truly_missing[pool]
        pool_codes = None
        if codes is not None:  # the filling of a gap depends on the condition, so each is drawn once here
            pool_codes = _dropped(codes[pool], model.unknown, generator)
        pool_filled = filled_under(pca, filled[pool], hidden, means, pool_codes)

        steps = settings.steps if settings.steps is not None else steps_for(n)
        adam = Adam(
            weights,
            slow=("skip.encoder", "skip.decoder"),
            decayed=[name for name in weights if name.endswith(".condition")],
        )
        half = max(min(BATCH, 2 * n) // 2, 1)
        likelihood_weight = None
        for step in range(steps):
            whole = torch.randint(n, (half,), generator=generator)
            holed = torch.randint(len(pool), (half,), generator=generator)
            source = torch.cat([whole, pool[holed]])
            target = filled[source]
            shown = torch.cat([target[:half], pool_filled[holed]])
            if any_missing:
                gaps = torch.cat([truly_missing[whole], hidden[holed]])
                likelihood_weight = observed[source].float()
            else:
                gaps = torch.cat([torch.zeros(half, d, dtype=torch.bool), hidden[holed]])
            batch_codes = None
            if codes is not None and pool_codes is not None:
                batch_codes = torch.cat([_dropped(codes[whole], model.unknown, generator), pool_codes[holed]])
            posterior = model.encode(shown, gaps, batch_codes)
            decoded = model.decode(posterior.draw(generator), batch_codes)
            nll = negative_log_likelihood(target, decoded, model.log_sigma(), likelihood_weight, length)
            kl = posterior.kl().mean(0).clamp(min=FREE_BITS).sum()
            loss = nll.mean() + settings.beta * min(1.0, step / (WARM_UP * steps)) * kl
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            adam.step(one_cycle(step, steps))
            if progress is not None and step % 50 == 0:
                progress(step / steps)
        model.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        return model

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape that each weight must have, from kind, window, hidden layers, latents and labels."""
        with torch.device("meta"):  # shapes without memory
            fresh = _initial(
                self.pca,
                self.path,
                self.channels,
                self.latent,
                len(self.labels),
                lambda shape, fan_in: torch.empty(shape),
            )
        return {name: tuple(tensor.shape) for name, tensor in fresh.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights, as a bundle stores them."""
        return {name: tensor.numpy() for name, tensor in self.weights.items()}


def negative_log_likelihood(
    x: Tensor, decoded: Tensor, log_sigma: Tensor, weight: Tensor | None, length: int
) -> Tensor:
    """-log p(x | z) without its constant, summed over observed cells.

    Args:
        x: (B, d) targets.
        decoded: (B, d).
        log_sigma: (C,).
        weight: (B, d), 1 where the cell counts, 0 where never observed; None: all count.
        length: L.

    Returns:
        (B,) nats.
    """
    spread = log_sigma.repeat(length)  # (d,)
    cells = 0.5 * ((x - decoded) * (-spread).exp()).square() + spread
    if weight is not None:
        cells = cells * weight
    return cells.sum(1)


def filled_under(
    pca: WindowPCA, x: Tensor, gaps: Tensor, means: ConditionMeans | None, codes: Tensor | None
) -> Tensor:
    """Windows (B, d), gaps filled by the pPCA's conditional mean given what was observed and the condition."""
    if means is None or codes is None:
        return pca.fill(x, gaps)
    usual = means.of(codes, x.shape[1])
    return pca.fill(x - usual, gaps) + usual


def _dropped(codes: Tensor, unknown: int, generator: torch.Generator) -> Tensor:
    """Codes (B,), one in ten replaced by unknown."""
    hidden = torch.rand(len(codes), generator=generator) < CONDITION_DROPOUT
    return torch.where(hidden, unknown, codes)


def injected_gaps(count: int, length: int, channels: int, generator: torch.Generator) -> Tensor:
    """Gaps to hide from the encoder in training.

    Per window a share of cells drawn from U(0, .2); in one of twenty a whole channel; in one
    of twenty the last steps (a random number) of a random half of the channels.

    Returns:
        (count, L*C) bool, True where hidden; no window is hidden wholly.
    """
    share = 0.2 * torch.rand(count, 1, 1, generator=generator)
    gaps = torch.rand(count, length, channels, generator=generator) < share
    event = torch.rand(count, generator=generator)
    channel = torch.randint(channels, (count,), generator=generator)
    if channels > 1:
        dead = torch.arange(channels) == channel[:, None]  # (count, C)
        gaps |= ((event < 0.05)[:, None] & dead)[:, None, :]
    tail = torch.randint(1, max(length // 2, 1) + 1, (count,), generator=generator)
    late = torch.arange(length) >= (length - tail)[:, None]  # (count, L)
    lost = torch.rand(count, channels, generator=generator) < 0.5
    trailing = (event >= 0.05) & (event < 0.10)
    gaps |= trailing[:, None, None] & late[:, :, None] & lost[:, None, :]
    gaps &= ~gaps.flatten(1).all(1)[:, None, None]
    return gaps.reshape(count, length * channels)


def _initial(
    pca: WindowPCA, path: Path, channels: int, latent: int, labels: int, draw: Draw
) -> dict[str, Tensor]:
    weights = path.reader(draw)
    weights["mean.weight"] = torch.zeros(latent, path.features)
    weights["mean.bias"] = torch.zeros(latent)
    weights["log_variance.weight"] = draw((latent, path.features), path.features)
    weights["log_variance.bias"] = draw((latent,), path.features)
    weights |= path.writer(draw)
    if labels:
        weights |= path.conditions(draw, labels + 1)
    weights["skip.encoder"] = (pca.basis / pca.sd).contiguous()
    weights["skip.decoder"] = (pca.basis * pca.sd).T.contiguous()
    # The exact posterior variance of pPCA is s2/Lambda.
    weights["skip.log_variance"] = (pca.noise / pca.variance).clamp(math.exp(-8.0), 1.0).log()
    weights["log_sigma"] = torch.zeros(channels)
    return weights


def _start_sigma(
    weights: dict[str, Tensor], pca: WindowPCA, filled: Tensor, observed: Tensor, length: int
) -> None:
    """Start each channel's sigma at the pPCA's own residual there."""
    some = slice(None, None, max(len(filled) // 2_000, 1))
    residual = filled[some] - pca.decode(pca.project(filled[some]))
    counted = observed[some].float()
    squares = (residual.square() * counted).reshape(-1, length, weights["log_sigma"].shape[0]).sum((0, 1))
    cells = counted.reshape(-1, length, weights["log_sigma"].shape[0]).sum((0, 1)).clamp(min=1.0)
    weights["log_sigma"] = (squares / cells).clamp(min=1e-12).sqrt().log().clamp(*LOG_SIGMA)
