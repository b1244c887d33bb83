from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from daemon.budget import Budget
from daemon.domain import AlarmPolicy, Segment
from daemon.model.bundle import Bundle
from daemon.model.segments import sliding
from daemon.model.soundness import Likelihood, active_units, likelihood, linear_part
from daemon.runtime.trainer import TrainingJob, learn
from tests.model.conftest import QUICK, SPEC, VAES, dropped, machine, trained

FRESH = sliding(machine(600, 31), 16)
NO_LABELS = ("",) * len(FRESH)


def test_a_latent_that_does_not_vary_is_not_active() -> None:
    rng = np.random.default_rng(0)
    assert active_units(rng.standard_normal((500, 3)) * [1.0, 0.2, 0.05] + [0.0, 0.0, 9.0]) == 2


def test_the_bound_of_a_linear_model_is_just_below_its_exact_likelihood(linear: Bundle) -> None:
    pca = linear.models.pcas[-1]
    d = len(pca.mean)
    models = dataclasses.replace(linear.models, sigma=np.full(4, math.sqrt(pca.noise)))
    found = likelihood(models, FRESH, NO_LABELS)
    assert found.cells == FRESH.size
    U, x = pca.basis.double().numpy(), models.scaler.scaled(FRESH).reshape(-1, d) - pca.mean.numpy()
    covariance = U @ np.diag(pca.variance.double()) @ U.T + pca.noise * (np.eye(d) - U @ U.T)
    _, log_det = np.linalg.slogdet(covariance)
    squares = (x * np.linalg.solve(covariance, x.T).T).sum(1)
    exact = float(-0.5 * (squares + log_det + d * math.log(2 * math.pi)).mean() / d)
    assert exact - 0.05 < found.per_cell < exact + 0.001


def test_missing_cells_have_no_likelihood(bundle: Bundle) -> None:
    holed = sliding(dropped(machine(600, 31), 0.2), 16)
    some = likelihood(bundle.models, holed, NO_LABELS)
    assert some.cells == np.isfinite(holed).sum()
    assert some.per_cell == pytest.approx(likelihood(bundle.models, FRESH, NO_LABELS).per_cell, abs=0.3)
    nothing = likelihood(bundle.models, np.full((2, 16, 4), np.nan), ("", ""))
    assert nothing == Likelihood(0.0, 0)
    assert math.isnan(nothing.per_cell)


@pytest.mark.parametrize("kind", VAES)
def test_a_sound_vae_beats_its_linear_part_and_gives_no_concern(kind: str) -> None:
    sound = trained([Segment("a", 0, machine(1_500))], replace(QUICK, kind=kind, steps=200))
    assert sound.facts["likelihood"] > sound.facts["likelihood_ppca"]
    assert sound.facts["active_units"] > sound.facts["active_path_units"]
    assert sound.concerns == ()
    vae = sound.models.vae
    assert vae is not None
    spoilt = dataclasses.replace(
        vae, weights={**vae.weights, "output.bias": vae.weights["output.bias"] + 1.0}
    )
    worse = dataclasses.replace(sound.models, vae=spoilt)
    bar = likelihood(linear_part(worse, FRESH, NO_LABELS), FRESH, NO_LABELS)
    assert likelihood(sound.models, FRESH, NO_LABELS).per_cell > bar.per_cell
    assert likelihood(worse, FRESH, NO_LABELS).per_cell < bar.per_cell


def test_a_collapsed_posterior_is_a_concern(bundle: Bundle) -> None:
    vae = bundle.models.vae
    assert vae is not None
    blind = {name: torch.zeros_like(vae.weights[name]) for name in ("skip.encoder", "mean.weight")}
    models = dataclasses.replace(
        bundle.models, vae=dataclasses.replace(vae, weights={**vae.weights, **blind})
    )
    active = active_units(models.measure(FRESH, NO_LABELS).posterior)
    assert active == 0
    collapsed = dataclasses.replace(bundle, models=models, facts={**bundle.facts, "active_units": active})
    (said,) = collapsed.concerns
    assert said.startswith(f"the posterior has collapsed: 0 of {models.latents} latents vary")


def test_a_training_returns_its_concerns() -> None:
    # With so large a beta the latents carry no information.
    settings = replace(QUICK, beta=3_000.0, steps=200)
    outcome = learn(
        TrainingJob(SPEC, settings, AlarmPolicy(), Budget(1.0), 60, [Segment("a", 0, machine(400))])
    )
    assert outcome.bundle is not None
    assert outcome.concerns == Bundle.from_bytes(outcome.bundle).concerns
    assert "does not beat pPCA" in outcome.concerns[0]


def test_a_likelihood_below_ppcas_is_a_concern(bundle: Bundle, linear: Bundle) -> None:
    losing = dataclasses.replace(bundle, facts={**bundle.facts, "likelihood": 0.1, "likelihood_ppca": 0.2})
    assert losing.concerns == (
        "on held-out rows the mlp does not beat pPCA fitted on the same data:"
        " 0.100 against 0.200 nats per reading; model.kind=ppca costs less",
    )
    assert dataclasses.replace(bundle, facts={}).concerns == ()  # a bundle from before this was measured
    assert linear.concerns == ()
