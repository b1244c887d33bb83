from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.model.pca import DENSE, SHARE, WindowPCA
from tests.naive import ppca_fill


def correlated(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((3, d))
    x = rng.standard_normal((n, 3)) * [3.0, 2.0, 1.0] @ directions + 0.3 * rng.standard_normal((n, d)) + 1.0
    return x.astype(np.float32)


X = correlated(500, 12)
MODEL, _ = WindowPCA.fit(X, np.ones_like(X, bool))


def test_it_keeps_the_stated_share_of_variance_and_spreads_the_rest() -> None:
    values = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    k = MODEL.latents
    assert values[:k].sum() >= SHARE * values.sum() > values[: k - 1].sum()
    np.testing.assert_allclose(MODEL.variance.numpy(), values[:k], rtol=1e-3)
    assert MODEL.noise == pytest.approx(values[k:].mean(), rel=1e-3)


def test_without_gaps_it_is_plain_projection() -> None:
    x = torch.from_numpy(X[:5])
    filled = MODEL.fill(x, torch.zeros_like(x, dtype=torch.bool))
    assert torch.equal(filled, x)
    z = ((X[:5] - X.mean(0)) @ MODEL.basis.numpy()) / np.sqrt(MODEL.variance.numpy())
    np.testing.assert_allclose(MODEL.project(x).numpy(), z, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 1.0))
def test_gaps_hold_the_conditional_mean(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    x = correlated(7, 12, seed % 1000)
    gaps = rng.random(x.shape) < share
    filled = MODEL.fill(torch.from_numpy(np.where(gaps, np.nan, x)), torch.from_numpy(gaps)).numpy()
    for i in range(len(x)):
        expected = ppca_fill(
            x[i], gaps[i], MODEL.mean.numpy(), MODEL.basis.numpy(), MODEL.variance.numpy(), MODEL.noise
        )
        np.testing.assert_allclose(filled[i], expected, atol=2e-4)


def test_a_window_is_filled_alike_alone_and_in_a_batch() -> None:
    x = torch.from_numpy(correlated(64, 12, 5))
    gaps = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.4
    crowd = MODEL.fill(x, gaps)
    for i in range(0, 64, 7):
        np.testing.assert_allclose(MODEL.fill(x[i : i + 1], gaps[i : i + 1])[0], crowd[i], atol=1e-6)


def test_fitting_with_gaps_finds_nearly_the_same_space() -> None:
    rng = np.random.default_rng(2)
    observed = rng.random(X.shape) > 0.1
    model, filled = WindowPCA.fit(np.where(observed, X, 0.0).astype(np.float32), observed)
    overlap = np.linalg.svd(model.basis.numpy().T @ MODEL.basis.numpy())[1]
    assert overlap[: MODEL.latents].min() > 0.99
    gaps = ~observed
    assert np.abs(filled.numpy() - X)[gaps].mean() < 0.4 * np.abs(X - X.mean(0))[gaps].mean()
    assert torch.equal(filled[torch.from_numpy(observed)], torch.from_numpy(X)[torch.from_numpy(observed)])


def test_constant_windows_have_no_latents_and_are_reconstructed() -> None:
    still = np.full((50, 6), 2.0, np.float32)
    model, _ = WindowPCA.fit(still, np.ones_like(still, bool))
    assert model.latents == 0
    x = torch.full((2, 6), float("nan"))
    filled = model.fill(x, x.isnan())
    np.testing.assert_allclose(model.decode(model.project(filled)), 2.0)


def test_wide_windows_take_the_iterative_way_to_the_same_answer() -> None:
    wide = correlated(200, DENSE + 40)
    model, _ = WindowPCA.fit(wide, np.ones_like(wide, bool))
    values = np.linalg.svd(wide - wide.mean(0), compute_uv=False) ** 2 / len(wide)
    np.testing.assert_allclose(model.variance.numpy(), values[: model.latents], rtol=1e-3)


def test_arrays_round_trip() -> None:
    again = WindowPCA.of(MODEL.arrays())
    assert torch.equal(again.basis, MODEL.basis)
    assert again.noise == MODEL.noise
