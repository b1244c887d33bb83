"""The variational autoencoder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from daemon.domain import ModelSettings
from daemon.model.pca import WindowPCA
from daemon.model.vae import VAE, Posterior, TrainingWindows, injected_gaps, negative_log_likelihood
from tests.model.conftest import VAES

L, C = 4, 3


def series(n: int = 600, seed: int = 0) -> Tensor:
    """(n, L*C) windows of a nonlinear curve: two sensors on a circle, one noisy."""
    g = torch.Generator().manual_seed(seed)
    t = torch.rand(n, 1, generator=g) * 2 * math.pi
    steps = t + 0.3 * torch.arange(L)
    x = torch.stack([steps.cos(), (2 * steps).cos(), 0.5 * torch.randn(n, L, generator=g)], 2)
    return (x + 0.05 * torch.randn(x.shape, generator=g)).flatten(1)


def fitted(x: Tensor, labels_of: list[str] | None = None, **settings: object) -> VAE:
    observed = torch.ones_like(x, dtype=torch.bool)
    pca, filled = WindowPCA.fit(x.numpy(), observed.numpy())
    chosen = ModelSettings(**{"hidden": (32, 16), "latent": 4, "steps": 300, **settings})  # type: ignore[arg-type]
    labels = tuple(sorted(set(labels_of or [])))
    return VAE.fit(pca, TrainingWindows(filled, observed, labels_of or [""] * len(x), L), chosen, labels)


X = series()


@pytest.fixture(scope="module", params=VAES)
def vae(request: pytest.FixtureRequest) -> VAE:
    return fitted(X, kind=request.param, steps=800)


def test_the_kl_is_the_gaussian_integral() -> None:
    q = Posterior(torch.tensor([[0.0, 1.0, -2.0]]), torch.tensor([[0.0, -1.0, 1.0]]))
    mean, sd = q.mean[0].double(), (0.5 * q.log_variance[0]).double().exp()
    z = torch.linspace(-30, 30, 200_001, dtype=torch.float64)[:, None]
    log_q = -0.5 * ((z - mean) / sd) ** 2 - sd.log() - 0.5 * math.log(2 * math.pi)
    log_p = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
    integral = torch.trapezoid(log_q.exp() * (log_q - log_p), z, dim=0)
    np.testing.assert_allclose(q.kl()[0], integral, atol=1e-4)


def test_draws_have_the_posteriors_moments() -> None:
    q = Posterior(torch.full((40_000, 1), 2.0), torch.full((40_000, 1), math.log(0.25)))
    z = q.draw(torch.Generator().manual_seed(0))
    assert float(z.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(z.std()) == pytest.approx(0.5, abs=0.01)


def test_the_likelihood_leaves_out_what_was_never_observed() -> None:
    x, decoded = torch.zeros(1, L * C), torch.ones(1, L * C)
    log_sigma = torch.tensor([0.0, 1.0, -1.0])
    seen = torch.zeros(1, L * C)
    seen[0, 1] = 1.0  # one cell of channel 1
    assert float(negative_log_likelihood(x, decoded, log_sigma, seen, L)) == pytest.approx(
        0.5 * math.exp(-2) + 1
    )
    whole = negative_log_likelihood(x, decoded, log_sigma, None, L)
    assert float(whole) == pytest.approx(L * sum(0.5 * math.exp(-2 * s) + s for s in (0.0, 1.0, -1.0)))


@pytest.mark.parametrize("kind", VAES)
def test_untrained_it_is_exactly_ppca(kind: str) -> None:
    vae = fitted(X, kind=kind, steps=0)
    posterior = vae.encode(X, None, None)
    z = posterior.mean
    assert (z[:, : vae.latent] == 0).all()
    np.testing.assert_allclose(z[:, vae.latent :], vae.pca.project(X), atol=1e-5)
    np.testing.assert_allclose(vae.decode(z, None), vae.pca.decode(vae.pca.project(X)), atol=1e-5)


def test_training_finds_nonlinear_structure(vae: VAE) -> None:
    fresh = series(400, 1)
    bent = slice(0, None, C)  # the cells of the sensor that runs twice round while another runs once
    linear = (fresh - vae.pca.decode(vae.pca.project(fresh))).square()[:, bent].mean()
    with torch.inference_mode():
        posterior = vae.encode(fresh, None, None)
        own = (fresh - vae.decode(posterior.mean, None)).square()[:, bent].mean()
    assert own < 0.5 * linear
    assert int((posterior.mean.var(0) > 0.01).sum()) >= 2  # no posterior collapse


def test_sigma_is_learned_per_channel(vae: VAE) -> None:
    sigma = vae.log_sigma().exp()
    assert sigma[2] > 1.1 * sigma[0] > 1.5 * sigma[1]


@pytest.mark.parametrize("kind", VAES)
def test_the_same_seed_gives_the_same_weights_whatever_came_before(kind: str) -> None:
    a = fitted(X, kind=kind, steps=20)
    torch.manual_seed(99)
    torch.rand(5)
    b = fitted(X, kind=kind, steps=20)
    c = fitted(X, kind=kind, steps=20, seed=1)
    assert all(torch.equal(a.weights[k], b.weights[k]) for k in a.weights)
    assert not torch.equal(a.weights["encoder.0.values"], c.weights["encoder.0.values"])


def test_values_in_a_gap_do_not_reach_the_encoder(vae: VAE) -> None:
    gaps = torch.zeros(5, L * C, dtype=torch.bool)
    gaps[:, 4] = True
    x = X[:5].clone()
    first = vae.encode(vae.pca.fill(x, gaps), gaps, None).mean
    x[:, 4] = 1e6
    assert torch.equal(vae.encode(vae.pca.fill(x, gaps), gaps, None).mean, first)
    assert not torch.allclose(
        vae.encode(vae.pca.fill(x, gaps), None, None).mean, first
    )  # the mask is an input


def test_a_window_is_read_alike_alone_and_among_256(vae: VAE) -> None:
    crowd = vae.encode(X[:256], None, None)
    decoded = vae.decode(crowd.mean, None)
    for i in (0, 17, 255):
        alone = vae.encode(X[i : i + 1], None, None)
        np.testing.assert_allclose(alone.mean[0], crowd.mean[i], atol=1e-5)
        np.testing.assert_allclose(alone.log_variance[0], crowd.log_variance[i], atol=1e-5)
        np.testing.assert_allclose(vae.decode(alone.mean, None)[0], decoded[i], atol=1e-5)


@pytest.mark.parametrize("kind", VAES)
def test_the_condition_is_read_and_an_unseen_one_falls_back(kind: str) -> None:
    x = torch.cat([series(300, 2), -series(300, 3)])
    vae = fitted(x, ["up"] * 300 + ["down"] * 300, kind=kind, steps=400)
    assert vae.labels == ("down", "up")
    codes = vae.codes(["up", "down", "sideways"])
    assert codes is not None
    assert codes.tolist() == [1, 0, vae.unknown]
    up, down, unknown = (
        vae.encode(x[:300], None, torch.full((300,), int(code))) for code in (1, 0, vae.unknown)
    )
    assert not torch.allclose(up.mean, down.mean)
    assert torch.isfinite(unknown.mean).all()
    with torch.inference_mode():
        right = (x[:300] - vae.decode(up.mean, torch.full((300,), 1))).square().mean()
        wrong = (x[:300] - vae.decode(up.mean, torch.full((300,), 0))).square().mean()
    assert right < wrong
    with torch.inference_mode():
        z = torch.randn(1_000, vae.latent + vae.pca.latents, generator=torch.Generator().manual_seed(0))
        means = [vae.decode(z, torch.full((1_000,), code)).mean() for code in (0, 1)]
    assert means[0] != means[1]


def test_injected_gaps_hide_some_cells_some_channels_some_tails_never_all() -> None:
    gaps = injected_gaps(4_000, 16, 5, torch.Generator().manual_seed(0)).reshape(-1, 16, 5)
    share = gaps.float().mean((1, 2))
    assert 0.10 < float(share.mean()) < 0.18
    assert 0.03 < float(gaps.all(1).any(1).float().mean()) < 0.08  # whole channels
    newest = gaps[:, -3:].all(1).any(1).float().mean()
    oldest = gaps[:, :3].all(1).any(1).float().mean()
    assert newest > oldest + 0.02  # trailing blocks
    assert not gaps.flatten(1).all(1).any()
    assert not injected_gaps(500, 1, 1, torch.Generator().manual_seed(0)).any()


def test_unobserved_cells_may_have_any_value_in_training() -> None:
    observed = torch.rand(X.shape, generator=torch.Generator().manual_seed(1)) > 0.1
    settings = ModelSettings(hidden=(16,), latent=2, steps=60)
    pca, filled = WindowPCA.fit(np.where(observed, X, 0.0).astype(np.float32), observed.numpy())
    vae = VAE.fit(pca, TrainingWindows(filled, observed, [""] * len(X), L), settings)
    assert all(torch.isfinite(w).all() for w in vae.weights.values())


@pytest.mark.parametrize("kind", VAES)
def test_no_hidden_layer_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="hidden layer"):
        fitted(X, kind=kind, hidden=())


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no VAE of kind 'ppca'; there are mlp, conv, gru"):
        fitted(X, kind="ppca")
