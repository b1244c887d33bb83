"""Quantiles of imputation errors."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import Segment
from daemon.model.draws import (
    DEVIATES,
    calibrate,
)
from daemon.model.imputation import BATCH_BUCKETS, ImputationParameters
from tests.model.draws.conftest import CLOCK, drawn, table


def test_without_anything_to_hide_the_errors_are_normal_with_the_margin(
    parameters: ImputationParameters,
) -> None:
    nothing = np.full((40, 3), np.nan)
    marginals = calibrate(parameters, [Segment("a", 0, nothing)], CLOCK, np.random.default_rng(0))
    assert marginals.quantiles.shape == (3, BATCH_BUCKETS, len(DEVIATES))
    at = marginals.of(np.array([[-1.6448536, 0.0, 1.6448536]]), np.array([1]), np.array([3]))
    assert at[0] == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)
    values = table(drawn(parameters, nothing), nothing.shape)
    assert np.isfinite(values).all()
