"""Weights and intervals of the mixture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from daemon.domain import Floats, Segment
from daemon.model.imputation import (
    BUCKETS,
    NEVER,
    ImputationParameters,
    fill_newest,
    fit,
)
from tests.model.imputation.conftest import SPEC, C, L, only, windows


def test_the_interval_never_narrows_with_distance(parameters: ImputationParameters) -> None:
    for mixture in (parameters.live, parameters.batch):
        halves = mixture.margin.reshape(C, -1, BUCKETS)[:, :, :NEVER]
        assert (np.diff(halves, axis=2) >= 0).all()
        assert (halves > 0).all()
    assert parameters.live.margin[2, 8] > 2 * parameters.live.margin[2, 0]


def test_a_long_silence_widens_the_interval_up_to_the_spread_of_training(
    parameters: ImputationParameters,
) -> None:
    narrow = replace(parameters.live, margin=np.full((C, BUCKETS), 0.1))
    x, ages = np.full((4, L, C), np.nan), np.repeat(np.array([[20], [2**10], [2**12], [10**9]]), C, 1)
    fill = fill_newest(replace(parameters, live=narrow), x, None, np.zeros((4, C)), ages)
    # As a random walk: sqrt 2 per doubling, from the last distance that has a bucket of its own.
    np.testing.assert_allclose((fill.high - fill.low)[:, 2] / 2, [0.1, 0.1, 0.2, 1.645])


def test_no_estimate_strays_further_from_the_last_value_than_readings_did(
    parameters: ImputationParameters,
) -> None:
    # Sensor 2 changes slowly; an extreme fault of its neighbours may not change its estimate further.
    trusting = replace(only(parameters, 2).live, step=parameters.live.step)
    x = np.zeros((1, L, C))
    x[0, -1] = [9.0, 9.0, np.nan, 9.0]
    filled = fill_newest(replace(parameters, live=trusting), x, np.full((1, L, C), 9.0)).value[0, 2]
    assert filled == parameters.live.step[2, 0] < 0.2


def test_a_better_window_model_gets_the_weight() -> None:
    # The second sensor is the square of the first: no covariance shows it.
    g = np.random.default_rng(0)
    first = g.standard_normal(3000)
    series = np.stack([first, first**2 - 1.0], 1)

    def model(x: np.ndarray) -> Floats:
        mean = np.nan_to_num(np.asarray(x, np.float64))
        mean[..., 1] = np.where(np.isfinite(x[..., 0]), np.nan_to_num(x[..., 0]) ** 2 - 1.0, 0.0)
        return mean

    fitted = fit([Segment("a", 0, series)], np.zeros(2), np.ones(2), SPEC, model)
    x = windows(series, np.arange(L, 300))
    truth = x[:, -1, 1].copy()
    x[:, -1, 1] = np.nan
    value = fill_newest(fitted, x, model(x)).value[:, 1]
    blind = fill_newest(fit([Segment("a", 0, series)], np.zeros(2), np.ones(2), SPEC), x, None).value[:, 1]
    assert np.abs(value - truth).mean() < 0.3 * np.abs(blind - truth).mean()
