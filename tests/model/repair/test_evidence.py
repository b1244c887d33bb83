"""Twins, paths of the latents, and likeness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import (
    Floats,
)
from daemon.model.bundle import Bundle
from daemon.model.repair import (
    latent_path,
    likeness,
    normal_twin,
    reconstructed,
)
from tests.model.conftest import machine
from tests.model.repair.conftest import FAULT, ROWS, WIDE, many, shift, track_of, wide


@pytest.mark.parametrize("imputation", [True, False])
def test_the_twin_of_a_broken_sensor_is_near_its_true_values(imputation: bool) -> None:
    detector = wide() if imputation else replace(wide(), imputation=None)
    clean = many(ROWS, 7)
    track = track_of(detector, shift((4,), 5.0), clean)
    twin = normal_twin(detector, track.values, track.condition, (4,), FAULT - 5)
    others = [c for c in range(WIDE) if c != 4]
    assert np.isnan(twin.value[:, others]).all()
    assert np.isnan(twin.value[: FAULT - 5]).all()
    off = np.abs(twin.value[FAULT:, 4] - clean[FAULT:, 4])
    fault = np.abs(track.values[FAULT:, 4] - clean[FAULT:, 4])
    assert off.mean() < 0.2 * fault.mean()
    assert (twin.low <= twin.value)[FAULT:, 4].all()
    assert (twin.value <= twin.high)[FAULT:, 4].all()
    at_first, later = (twin.high - twin.low)[[FAULT - 5, ROWS - 1], 4]
    assert at_first < later  # its last value is still fresh
    if imputation:
        inside = (twin.low <= clean) & (clean <= twin.high)
        assert inside[FAULT:, 4].mean() > 0.6


def test_a_twin_does_not_depend_on_later_rows_or_on_the_repaired_sensors() -> None:
    values = many(ROWS, 7)
    labels = ("",) * ROWS
    whole = normal_twin(wide(), values, labels, (4,), FAULT)
    later = values.copy()
    later[FAULT + 20 :] = 99.0
    later[FAULT:, 4] = -99.0
    early = normal_twin(wide(), later, labels, (4,), FAULT)
    np.testing.assert_array_equal(whole.value[: FAULT + 20], early.value[: FAULT + 20])
    assert not np.array_equal(whole.value[FAULT + 20 :], early.value[FAULT + 20 :], equal_nan=True)


def test_nothing_taken_out_has_no_twin(bundle: Bundle) -> None:
    values = machine(50)
    assert np.isnan(normal_twin(bundle.detector(), values, ("",) * 50, (), 10).value).all()


def test_a_window_is_reconstructed_in_raw_units(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = track_of(detector, lambda rows: None)
    view = track.view(50)
    found = reconstructed(detector, view)
    assert found.shape == view.values.shape
    np.testing.assert_allclose(found[-1], track.evidence.expected[50], rtol=1e-5)


def test_the_path_shows_the_dimension_that_moved() -> None:
    def regime(rows: Floats) -> None:
        rows[:, :3] *= 4.0

    track = track_of(wide(), regime, many(ROWS, 7))
    end = track.index_from(track.first_row + FAULT + 30)
    posterior = track.evidence.posterior[end - 60 : end + 1]
    path = latent_path(wide(), posterior, 30, most=2)
    sd = (posterior - wide().drift.latent_mean) / np.sqrt(wide().drift.latent_variance)
    moved = np.abs(sd[-1] - np.median(sd[:30], axis=0))
    assert path.dimensions[0] == int(np.argmax(moved))
    assert len(path.dimensions) == 2
    np.testing.assert_allclose(path.sd[:, 0], sd[:, path.dimensions[0]])


def test_inactive_dimensions_are_not_on_the_path() -> None:
    detector = wide()
    variance = detector.drift.latent_variance.copy()
    variance[0] = 1e-4
    detector = replace(detector, drift=replace(detector.drift, latent_variance=variance))
    posterior = np.zeros((10, len(variance)))
    posterior[-1, 0] = 5.0
    assert 0 not in latent_path(detector, posterior, 5).dimensions


def test_likeness_is_one_for_the_same_and_less_for_another() -> None:
    shares, moved = np.array([0.8, 0.2, 0.0]), np.array([1.0, -2.0])
    assert likeness(shares, moved, shares, moved) == pytest.approx(1.0)
    assert likeness(shares, moved, shares, None) == pytest.approx(1.0)
    assert likeness(shares, moved, shares, -moved) == pytest.approx(0.0)
    assert likeness(shares, moved, np.array([0.0, 0.0, 1.0]), None) == pytest.approx(0.0)
    assert likeness(shares, moved, np.zeros(3), None) == 0.0
