"""Inference equals the trained model up to rounding, and no window depends on its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from daemon.domain import ModelSettings
from daemon.model.inference import Gaps, Inference, Inferred
from daemon.model.pca import WindowPCA
from daemon.model.vae import VAE, TrainingWindows
from tests.model.conftest import VAES


def windows(n: int, d: int, causes: int, seed: int = 0) -> Tensor:
    """(n, d) with as many strong directions as ``causes``, off centre."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(causes, d, generator=g)
    noise = 0.1 * torch.randn(n, d, generator=g)
    return torch.randn(n, causes, generator=g) @ mix + noise + torch.randn(d, generator=g)


def pca_of(x: Tensor) -> WindowPCA:
    return WindowPCA.fit(x.numpy(), np.ones(x.shape, bool))[0]


X = windows(400, 12, 2)  # 4 steps of 3 sensors
LABELS = [("day", "night")[i % 2] for i in range(len(X))]


@pytest.fixture(scope="module", params=VAES)
def vae(request: pytest.FixtureRequest) -> VAE:
    settings = ModelSettings(kind=request.param, hidden=(24, 16), latent=4, steps=60)
    shown = TrainingWindows(X, torch.ones_like(X, dtype=torch.bool), LABELS, 4)
    fitted = VAE.fit(pca_of(X), shown, settings, ("day", "night"))
    # Far from where training starts, where half of the terms are zero.
    g = torch.Generator().manual_seed(1)
    fitted.weights = {k: w + 0.2 * torch.randn(w.shape, generator=g) for k, w in fitted.weights.items()}
    return fitted


@pytest.mark.parametrize("one_in", [0, 1, 7])
def test_a_vae_scores_as_it_encodes_and_decodes(vae: VAE, one_in: int) -> None:
    """Also where one window in so many has gaps."""
    mask = torch.rand(X.shape, generator=torch.Generator().manual_seed(2)) < 0.2
    if one_in:
        mask[torch.arange(len(X)) % one_in > 0] = False
    else:
        mask[:] = False
    windows = mask.any(1).nonzero().squeeze(1)
    gaps = Gaps.of(X.masked_fill(mask, torch.nan), None if one_in == 1 else windows, 416) if one_in else None
    filled = vae.pca.fill(X, mask)
    codes = vae.codes(LABELS)
    posterior = vae.encode(filled, mask, codes)
    found = Inference.of(vae.pca, vae)(filled.clone(), gaps, codes)
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(found.z, posterior.mean, **close)
    torch.testing.assert_close(found.score, posterior.kl().sum(1), **close)
    torch.testing.assert_close(found.residual, filled - vae.decode(posterior.mean, codes), **close)


def test_a_linear_model_scores_as_it_projects() -> None:
    pca = pca_of(X)
    found = Inference.of(pca)(X.clone(), None, None)
    torch.testing.assert_close(found.z, pca.project(X), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.residual, X - pca.decode(pca.project(X)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.score, pca.project(X).square().sum(1), rtol=1e-4, atol=1e-4)


def test_a_stream_that_never_moves_has_no_latents() -> None:
    still = torch.full((40, 12), 2.0)
    found = Inference.of(pca_of(still))(still.clone(), None, None)
    assert found.z.shape == (40, 0)
    assert not found.residual.any()
    assert not found.score.any()


@pytest.mark.parametrize("causes", [1, 2, 3, 5, 6, 7, 9, 16, 23])
@pytest.mark.parametrize("d", [32, 64, 256])
@pytest.mark.parametrize("kind", ["ppca", *VAES])
def test_a_window_scores_alike_to_the_last_bit_wherever_it_stands(kind: str, d: int, causes: int) -> None:
    x = windows(256, d, causes)
    pca, model = pca_of(x), None
    if kind != "ppca":
        seen = torch.ones_like(x, dtype=torch.bool)
        settings = ModelSettings(kind=kind, hidden=(24, 16), steps=2)
        model = VAE.fit(pca, TrainingWindows(x, seen, [""] * len(x), 8), settings)
    infer = Inference.of(pca, model)

    def row(found: Inferred, i: int) -> Tensor:
        return torch.cat([found.residual[i], found.z[i], found.score[i : i + 1], found.nats[i : i + 1]])

    with torch.inference_mode():
        crowd = infer(x.clone(), None, None)
        for i in range(0, 256, 17):
            for place in (0, i % 32):
                alone = torch.zeros(32, d)
                alone[place] = x[i]
                assert torch.equal(row(infer(alone, None, None), place), row(crowd, i))


def test_a_window_of_38_sensors_and_64_rows_scores_alike_among_few_and_many() -> None:
    x = windows(576, 64 * 38, 15)
    seen = torch.ones_like(x, dtype=torch.bool)
    model = VAE.fit(pca_of(x), TrainingWindows(x, seen, [""] * len(x), 64), ModelSettings(steps=2))
    infer = Inference.of(model.pca, model)
    with torch.inference_mode():
        crowd = infer(x.clone(), None, None)
        for begin, end in ((0, 32), (32, 96), (96, 384), (0, 288)):
            some = infer(x[begin:end].clone(), None, None)
            assert torch.equal(some.residual, crowd.residual[begin:end])
            assert torch.equal(some.z, crowd.z[begin:end])
