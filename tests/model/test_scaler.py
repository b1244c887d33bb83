from __future__ import annotations

import numpy as np
import pytest

from daemon.model.scaler import Scaler


def test_mean_and_spread_come_from_observed_cells_only() -> None:
    values = np.array([[1.0, np.nan], [3.0, 10.0], [np.nan, 30.0]])
    scaler = Scaler.fit([values])
    np.testing.assert_allclose(scaler.mean, [2.0, 20.0])
    np.testing.assert_allclose(scaler.scale, [1.0, 10.0])


def test_a_constant_sensor_alerts_at_two_percent_and_not_at_jitter() -> None:
    scaler = Scaler.fit([np.full((50, 2), [7.0, 0.0])])
    moved = scaler.scaled(np.array([[7.0 + 1e-6, 1e-6], [7.14, 0.02]]))
    assert np.abs(moved[0]).max() < 1e-4
    np.testing.assert_allclose(moved[1], 1.0, rtol=1e-4)


def test_the_engineering_range_sets_the_floor() -> None:
    values = 50.0 + 1e-3 * np.sin(np.arange(100.0))[:, None]
    assert Scaler.fit([values], [(0.0, 100.0)]).scale[0] == pytest.approx(2.0)
    assert Scaler.fit([values]).scale[0] == pytest.approx(values.std(), rel=1e-6)


def test_rare_spikes_do_not_shrink_below_the_floor() -> None:
    values = np.zeros((10_000, 1))
    values[17] = 100.0  # std 1, range 100
    assert Scaler.fit([values]).scale[0] == pytest.approx(2.0)


def test_large_offsets_keep_their_spread() -> None:
    values = 1e9 + np.sin(np.arange(1000.0))[:, None]
    assert Scaler.fit([values]).scale[0] == pytest.approx(np.sin(np.arange(1000.0)).std(), rel=1e-5)


def test_scaled_values_are_clipped_and_non_finite_is_missing() -> None:
    scaler = Scaler.fit([np.array([[0.0], [2.0]])])
    scaled = scaler.scaled(np.array([[1e300], [-1e300], [np.nan], [np.inf]]))
    np.testing.assert_array_equal(scaled[:, 0], np.array([10, -10, np.nan, np.nan], np.float32))


def test_a_sensor_that_training_never_saw_is_no_evidence() -> None:
    scaler = Scaler.fit([np.array([[1.0, np.nan], [2.0, np.nan]])])
    assert np.isnan(scaler.scaled(np.array([[1.5, 99.0]]))[0, 1])
    assert scaler.scaling.of(np.array([[1.5, 99.0]]))[0, 1] == 99.0  # kept for a model that may know it
    assert np.isnan(scaler.raw(np.zeros((1, 2)))[0, 1])


def test_raw_is_the_inverse_and_arrays_round_trip() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, (40, 3))
    scaler = Scaler.of(Scaler.fit([values]).arrays())
    np.testing.assert_allclose(scaler.raw(scaler.scaled(values).astype(float)), values, rtol=1e-5)
    np.testing.assert_allclose(scaler.scaling.of(values), scaler.scaled(values), atol=1e-5)
