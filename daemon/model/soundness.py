"""Two checks of a trained VAE, active units and held-out likelihood, and the concerns that follow.

* **Active units**: latents whose posterior mean varies over the training windows (variance above 0.01;
  Burda et al. 2016). A collapsed posterior does not show in a ranking, because the reconstruction error
  still ranks; it shows here.
* **Held-out likelihood**: the evidence lower bound per observed cell, in nats, of cross-fitting's held-out
  windows, beside that of pPCA fitted on the same rows. Both with a spread per channel, more than pPCA
  itself has: the reference is the point at which the VAE's training started.

The bound is estimated with one draw of the posterior, not at its mean: at the mean a latent costs its KL
but nothing for its noise, and a model with more latents would look better than it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from daemon.domain import Floats
from daemon.model.conditions import condition_concerns
from daemon.model.reconstruction import LOG_2PI, Models
from daemon.model.vae import LOG_SIGMA

ACTIVE_VARIANCE = 0.01
"""Variance of a latent's posterior mean over the data, above which it is active."""
ACTIVE_UNITS = 2
"""Fewer active latents than this are a collapse, unless pPCA keeps fewer itself."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """A sum of log likelihood bounds, in nats, over so many observed cells."""

    nats: float
    cells: int

    def __add__(self, other: Likelihood) -> Likelihood:
        return Likelihood(self.nats + other.nats, self.cells + other.cells)

    @property
    def per_cell(self) -> float:
        """Nats per observed cell; NaN of none."""
        return self.nats / self.cells if self.cells else math.nan


def active_units(posterior: Floats) -> int:
    """How many latents vary over the data, of (N, Z) posterior means."""
    return int((posterior.var(0) > ACTIVE_VARIANCE).sum())


def linear_part(models: Models, windows: Floats, conditions: Sequence[str]) -> Models:
    """The pPCA that the VAE started from, as a model of its own.

    Args:
        models: with a VAE.
        windows: (B, L, C) raw training windows, which its spread per channel is taken from.
        conditions: B labels.
    """
    linear = dataclasses.replace(models, vae=None)
    measured = linear.measure(windows, conditions, keep=True)
    residual = (measured.scaled - measured.decoded).astype(float)  # (B, L, C), NaN where missing
    seen = np.isfinite(residual)
    squares = np.where(seen, residual, 0.0) ** 2
    variance = squares.sum((0, 1)) / np.maximum(seen.sum((0, 1)), 1)
    # The VAE's own bounds: on a constant sensor a model allowed a smaller spread would be favoured.
    return dataclasses.replace(linear, sigma=np.clip(np.sqrt(variance), *np.exp(LOG_SIGMA)))


def likelihood(models: Models, windows: Floats, conditions: Sequence[str], seed: int = 0) -> Likelihood:
    """The evidence lower bound of raw windows (B, L, C), NaN where missing, with their B labels."""
    scaled = models.scaler.scaled(windows)
    x = torch.from_numpy(np.ascontiguousarray(scaled)).flatten(1)  # (B, L*C)
    gaps = x.isnan()
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        _, posterior = models.encode(x, conditions)
        kl = posterior.kl().sum(1)
        decoded = models.decode(posterior.draw(generator), conditions)
        sigma = torch.from_numpy(models.sigma).float().repeat(models.window)  # (L*C,)
        cells = 0.5 * (((x - decoded) / sigma).square() + LOG_2PI) + sigma.log()
        observed = ~gaps
        anything = observed.any(1)
        nats = torch.where(anything, -torch.where(observed, cells, 0.0).sum(1) - kl, 0.0)
    return Likelihood(float(nats.double().sum()), int(observed.sum()))


def wanted_units(models: Models) -> int:
    """Active latents that a healthy model has: two, or as many as pPCA keeps if that is fewer."""
    return min(ACTIVE_UNITS, models.pcas[-1].latents)


def concerns(models: Models, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Weaknesses of a trained model that an operator should see, each in one line; empty without any.

    Args:
        models: the trained models; only a VAE can collapse.
        facts: the bundle's, with ``active_units``, ``likelihood`` and ``likelihood_ppca``.
    """
    found = condition_concerns(models.labels, facts)
    if models.vae is None:
        return tuple(found)
    active, wanted = int(facts.get("active_units", wanted_units(models))), wanted_units(models)
    if active < wanted:
        found.append(
            f"the posterior has collapsed: {active} of {models.latents} latents vary over the"
            f" training data, {wanted} must; its KL says nothing"
        )
    own, linear = facts.get("likelihood"), facts.get("likelihood_ppca")
    if own is not None and linear is not None and not own > linear:
        found.append(
            f"on held-out rows the {models.kind} does not beat pPCA fitted on the same data:"
            f" {own:.3f} against {linear:.3f} nats per reading; model.kind=ppca costs less"
        )
    return tuple(found)
