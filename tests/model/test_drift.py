"""Reference and thresholds of drift."""

from __future__ import annotations

import math

import numpy as np
import pytest

from daemon.asset_drift import diagonal_kl
from daemon.model.bundle import Bundle
from daemon.model.drift import chunks


def test_kl_of_gaussians_in_nats() -> None:
    one, zero = np.ones(1), np.zeros(1)
    assert diagonal_kl(zero, one, zero, one)[0] == 0.0
    assert diagonal_kl(2 * one, one, zero, one)[0] == pytest.approx(2.0)
    assert diagonal_kl(zero, 4 * one, zero, one)[0] == pytest.approx(0.5 * (4 - 1 - math.log(4)))


def test_chunks_are_capped_to_what_there_is() -> None:
    assert all(c.stop - c.start == 50 for c in chunks(100, 400))
    assert chunks(100, 10)[-1].stop == 100
    assert chunks(1, 10) == [slice(0, 1)]


def test_the_drift_reference_sees_a_shift_and_not_its_own_data(bundle: Bundle) -> None:
    drift = bundle.drift
    assert 0 < drift.latent_threshold < np.inf
    assert 0 < drift.residual_threshold < np.inf
    moved = drift.residual_mean + 3.0 * np.sqrt(drift.residual_variance)
    shifted = diagonal_kl(moved, drift.residual_variance, drift.residual_mean, drift.residual_variance)
    assert shifted.sum() > drift.residual_threshold
