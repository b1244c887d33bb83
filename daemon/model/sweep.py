"""The effect of beta: the same model trained at several weights of the KL term, measured on held-out windows.

``beta`` weighs the KL term of the loss against the likelihood (Higgins et al. 2017). Below 1 latents cost
little, so little stops the model from copying its input; above 1 they cost more, so fewer are used, and
each is expected to represent one factor. At 1 the loss is the evidence lower bound.

Purity is the mutual information gap (MIG, Chen et al. 2018): for each factor, the difference between the
largest and the second largest mutual information of a latent with it, as a share of the factor's entropy.
Factors are the condition labels where the history has them, else each sensor's mean over the window. The
models of a sweep do not read the condition: a model that reads it needs no latent for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daemon.domain import (
    NO_CONDITION,
    Floats,
    Ints,
    ModelSettings,
    Segment,
    StreamSpec,
)
from daemon.errors import NotEnoughData
from daemon.model.latent import encode
from daemon.model.segments import complement, fitting_length, folds, sample_windows
from daemon.model.soundness import active_units, likelihood
from daemon.model.training import Architecture, fit_models
from daemon.model.vae import FREE_BITS

BETAS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Powers of two to both sides of 1, further up: that is where the literature looks for separated factors."""
HELD_OUT = 2
"""The block of cross-fitting's five that is held back: the middle one, with training on both sides."""
OTHER_SEEDS = (1, 2)
"""Trainings at beta 1 with other seeds, to tell the effect of beta from that of the seed. Measured
spreads of the held-out bound over three seeds: .01 nats per reading on skab, .02 on a simulated pump, .06 on
hydraulic, .29 on lbnl_ahu."""
MOST_HELD_OUT = 2_000
INFORMATIVE = 2 * FREE_BITS
"""Nats from which a latent counts as informative. The loss leaves the first 0.05 of each free, which
keeps every latent active by its variance at any beta; twice that exceeds the free part."""
LATENT_BINS, FACTOR_BINS = 20, 10
"""Bins for mutual information: 20 for latents (as Locatello et al. 2019), 10 equally full ones for a sensor."""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """The measurements of one training at one beta."""

    beta: float
    seed: int
    active_units: int  # of all latents
    telling_units: int  # of all latents: those whose mean held-out KL is above twice the free bits
    reconstruction: float  # RMS residual of held-out observed cells, in sd of their sensors
    kl: float  # mean over held-out windows, nats
    elbo: float  # nats per observed held-out cell, at beta 1 for any beta of the training
    purity: float  # MIG, 0 to 1; NaN if no factor varies


@dataclass(frozen=True, slots=True)
class Sweep:
    """The result of a sweep: a point per beta, and points at beta 1 with other seeds."""

    points: tuple[SweepPoint, ...]
    again: tuple[SweepPoint, ...]  # at beta 1 with other seeds
    factors: str  # ``condition`` or ``sensors``
    latents: int


def sweep(
    history: Sequence[Segment],
    spec: StreamSpec,
    settings: ModelSettings,
    betas: Sequence[float] = BETAS,
    progress: Callable[[float, str], None] | None = None,
) -> Sweep:
    """Train at each beta on four fifths of a history and measure on the fifth between them.

    Args:
        history: normal segments.
        spec: sensors, ranges and window.
        settings: all but ``beta``.
        betas: the weights.
        progress: called with the share done and what is being done.

    Raises:
        NotEnoughData: too few rows for a window in each block.
    """
    history = [segment for segment in history if len(segment.values)]
    window = fitting_length(history, spec.window)
    if not window:
        raise NotEnoughData(f"stream {spec.name}: too few rows for a sweep over beta")
    blocks = folds(history, window)
    held = blocks[min(HELD_OUT, len(blocks) - 1)]
    pieces = complement(history, held)
    windows, labels = sample_windows(history, held, window, MOST_HELD_OUT)
    if not len(windows):
        raise NotEnoughData(f"stream {spec.name}: no run of rows is long enough to hold windows back")
    known = sorted(set(labels) - {NO_CONDITION})
    factors = "condition" if len(known) > 1 else "sensors"
    points = []
    runs = [*((beta, settings.seed) for beta in betas), *((1.0, settings.seed + n) for n in OTHER_SEEDS)]
    for i, (beta, seed) in enumerate(runs):

        def tell(share: float, at: int = i, beta: float = beta) -> None:
            if progress is not None:
                progress((at + share) / len(runs), f"sweeping beta: {beta:g}")

        tell(0.0)
        changed = replace(settings, beta=beta, seed=seed)
        models = fit_models(history, pieces, spec, Architecture(changed, (window,)), tell)
        seen = encode(models, windows, labels)
        points.append(
            SweepPoint(
                beta=beta,
                seed=seed,
                active_units=active_units(seen.mean),
                telling_units=int((seen.kl.mean(0) > INFORMATIVE).sum()),
                reconstruction=float(np.sqrt(seen.squares.sum() / max(seen.cells.sum(), 1.0))),
                kl=float(seen.kl.sum(1).mean()),
                elbo=likelihood(models, windows, labels, settings.seed).per_cell,
                purity=mutual_information_gap(seen.mean, factors_of(seen.level, labels, factors)),
            )
        )
        latents = models.latents
    return Sweep(tuple(points[: len(betas)]), tuple(points[len(betas) :]), factors, latents)


def factors_of(level: Floats, labels: Sequence[str], what: str) -> list[Ints]:
    """Each factor's value per window as small numbers, (N,) each; those that do not vary are left out."""
    if what == "condition":
        return [np.unique(np.array(labels), return_inverse=True)[1]]
    found = []
    for c in range(level.shape[1]):
        column = level[:, c]
        if not np.isfinite(column).all():
            column = np.where(
                np.isfinite(column), column, np.nanmean(column) if np.isfinite(column).any() else 0
            )
        edges = np.unique(np.quantile(column, np.linspace(0, 1, FACTOR_BINS + 1)[1:-1]))
        codes = np.searchsorted(edges, column, side="right")
        if len(np.unique(codes)) > 1:
            found.append(codes)
    return found


def mutual_information_gap(mean: Floats, factors: Sequence[Ints]) -> float:
    """MIG of latents (N, Z) over factors; NaN of none."""
    codes = [binned(mean[:, d]) for d in range(mean.shape[1])]
    gaps = []
    for factor in factors:
        entropy = mutual_information(factor, factor)
        if entropy <= 0.0:
            continue
        shared = sorted((mutual_information(code, factor) for code in codes), reverse=True)
        first, second = (*shared, 0.0, 0.0)[:2]
        gaps.append((first - second) / entropy)
    return float(np.mean(gaps)) if gaps else float("nan")


def binned(values: Floats) -> Ints:
    """(N,) numbers in ``LATENT_BINS`` equally wide bins of their range."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(len(values), np.int64)
    at = ((values - low) / (high - low) * LATENT_BINS).astype(np.int64)
    return np.minimum(at, LATENT_BINS - 1)


def mutual_information(a: Ints, b: Ints) -> float:
    """Of two codes (N,), in nats."""
    joint = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(joint, (a, b), 1.0)
    joint /= joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    some = joint > 0
    return float((joint[some] * np.log(joint[some] / apart[some])).sum())
