from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from daemon.model.paths import Path, Weights, path_of
from tests.model.conftest import VAES

LABELS = 3


def built(
    kind: str, length: int, channels: int, hidden: tuple[int, ...], latent: int = 3
) -> tuple[Path, Weights]:
    """A path with weights that are nowhere zero."""
    g = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...], fan_in: int) -> Tensor:
        return torch.randn(shape, generator=g) / fan_in**0.5

    path = path_of(kind, length, channels, hidden, latent)
    w = path.reader(draw) | path.writer(draw) | path.conditions(draw, LABELS)
    return path, {name: torch.randn(tensor.shape, generator=g) * 0.3 for name, tensor in w.items()}


@pytest.mark.parametrize("kind", VAES)
@pytest.mark.parametrize("length", [1, 2, 5, 16])
@pytest.mark.parametrize("hidden", [(8,), (8, 5), (8, 6, 5)])
@pytest.mark.parametrize("channels", [1, 4])
def test_every_shape_goes_through_both_halves(
    kind: str, length: int, channels: int, hidden: tuple[int, ...]
) -> None:
    path, w = built(kind, length, channels, hidden)
    x, codes = torch.randn(7, length * channels), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    gaps = torch.rand(x.shape) < 0.3
    h = path.read(w, x.masked_fill(gaps, 0.0), gaps, codes)
    assert h.shape == (7, path.features)
    assert path.write(w, torch.randn(7, 3), codes).shape == x.shape
    whole = path.read(w, x, None, None)
    np.testing.assert_allclose(whole, path.read(w, x, torch.zeros_like(gaps), None), atol=1e-6)


@pytest.mark.parametrize("kind", VAES)
def test_every_cell_every_gap_and_the_condition_reach_the_features(kind: str) -> None:
    path, w = built(kind, 5, 2, (8, 5))
    x, none = torch.randn(1, 10), torch.zeros(1, 10, dtype=torch.bool)
    code = torch.tensor([0])
    plain = path.read(w, x, none, code)
    for cell in range(10):
        other, hole = x.clone(), none.clone()
        other[0, cell] += 1.0
        hole[0, cell] = True
        assert not torch.allclose(path.read(w, other, none, code), plain)
        assert not torch.allclose(path.read(w, x, hole, code), plain)
    assert not torch.allclose(path.read(w, x, none, torch.tensor([1])), plain)


@pytest.mark.parametrize("kind", VAES)
def test_every_latent_and_the_condition_reach_every_step(kind: str) -> None:
    path, w = built(kind, 5, 2, (8, 5))
    z, code = torch.randn(1, 3), torch.tensor([0])
    plain = path.write(w, z, code).view(5, 2)
    for changed in (
        *(path.write(w, z + torch.eye(3)[i], code) for i in range(3)),
        path.write(w, z, torch.tensor([1])),
    ):
        assert ((changed.view(5, 2) - plain).abs().amax(1) > 1e-6).all()


def test_a_convolution_is_torchs_convolution() -> None:
    path, w = built("conv", 7, 2, (4,))
    x = torch.randn(3, 14)
    kernel = w["encoder.0.values"].view(4, 3, 2).transpose(1, 2)  # (out, C, 3)
    series = x.view(3, 7, 2).transpose(1, 2)
    expected = torch.nn.functional.conv1d(series, kernel, w["encoder.0.bias"], stride=2, padding=1)
    found = path.read(w, x, None, None).view(3, 4, 4).transpose(1, 2)
    np.testing.assert_allclose(found, torch.nn.functional.silu(expected), atol=1e-6)


def test_a_recurrence_is_torchs_gru() -> None:
    path, w = built("gru", 6, 2, (5,))
    theirs = torch.nn.GRU(2, 5)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(w["encoder.0.values"])
        theirs.bias_ih_l0.copy_(w["encoder.0.bias"])
        theirs.weight_hh_l0.copy_(w["encoder.recurrent.weight"])
        theirs.bias_hh_l0.copy_(w["encoder.recurrent.bias"])
        x = torch.randn(3, 12)
        expected = theirs(x.view(3, 6, 2).transpose(0, 1))[1][0]
        np.testing.assert_allclose(path.read(w, x, None, None), expected, atol=1e-6)
