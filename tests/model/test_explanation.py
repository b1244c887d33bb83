"""Expected values of the sensors that are fine are what they show, whatever a faulty one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.detector import OwnedWindow
from daemon.domain import Floats
from daemon.mapping import AlertRule
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from daemon.model.rules import AlertRules
from tests.model.conftest import KINDS, machine

L = 16
SHARES = np.array([0.3, 0.2, 0.4, 0.1])


@pytest.fixture(params=KINDS)
def detector(request: pytest.FixtureRequest, bundles: Callable[[str], Bundle]) -> BundleDetector:
    return bundles(request.param).detector()


def shifted(start: int, sensor: int, by: float) -> Floats:
    """A window of the machine in which a sensor is off by so much."""
    values = machine(L, 3, start)
    values[:, sensor] += by
    return values


def owned(window: Floats) -> OwnedWindow:
    """A window in scaled units, of an asset that training did not have."""
    return OwnedWindow(window, "", "")


@pytest.mark.parametrize(("sensor", "by"), [(0, 80.0), (3, 5.0)])
def test_without_the_faulty_sensor_the_others_are_as_expected(
    detector: BundleDetector, sensor: int, by: float
) -> None:
    unit = detector.calibrated.residual_rms * detector.models.scaler.scale
    fine = np.arange(4) != sensor
    ratio, plain, right = [], [], []
    for start in range(0, 200, 10):
        values = shifted(start, sensor, by)
        scaled = detector.models.scaler.scaled(values)
        found = detector.explain(owned(scaled), SHARES)
        assert found is not None
        right.append(found.blamed.tolist() == [c == sensor for c in range(4)])
        ratio.append((np.abs(values[-1] - found.expected) / unit)[fine])
        measured = detector.models.measure_scaled(scaled[None], ("",))
        plain.append((np.abs(values[-1] - detector.models.scaler.raw(measured.newest)[0]) / unit)[fine])
    assert np.mean(right) > 0.8
    assert np.mean(ratio) < 2.0
    assert np.mean(ratio) < 1.1 * np.mean(plain)


def test_a_normal_window_and_one_that_shows_nothing_need_no_explanation(detector: BundleDetector) -> None:
    scaled = detector.models.scaler.scaled(machine(L, 3))
    assert detector.explain(owned(scaled), SHARES) is None
    assert detector.explain(owned(np.full_like(scaled, np.nan)), SHARES) is None


def test_two_sensors_at_fault_are_both_taken_out(detector: BundleDetector) -> None:
    values = shifted(40, 0, 90.0)
    values[:, 3] += 6.0
    found = detector.explain(owned(detector.models.scaler.scaled(values)), SHARES)
    assert found is not None
    assert found.blamed.tolist() == [True, False, False, True]


def test_an_ignored_sensor_is_neither_blamed_nor_read(detector: BundleDetector) -> None:
    rules = AlertRules.of([AlertRule(ignore=True), *[AlertRule()] * 3])
    ruled = replace(detector, models=replace(detector.models, rules=rules))
    scaled = [detector.models.scaler.scaled(shifted(40, 3, 6.0)) for _ in range(2)]
    scaled[1][:, 0] += 5.0
    quiet, loud = (ruled.explain(owned(one), SHARES) for one in scaled)
    assert quiet is not None
    assert loud is not None
    assert loud.blamed.tolist() == [False, False, False, True]
    np.testing.assert_array_equal(loud.expected, quiet.expected)


def only(*sensors: int) -> np.ndarray:
    return np.isin(np.arange(4), sensors)


def test_an_error_that_leaks_is_gone_without_the_faulty_sensor_and_one_of_its_own_is_not(
    detector: BundleDetector,
) -> None:
    scaler, unit = detector.models.scaler, detector.calibrated.residual_rms
    leaked, own = [], []
    for start in range(0, 200, 10):
        scaled = scaler.scaled(shifted(start, 0, 80.0))
        found = detector.models.measure_scaled(scaled[None].astype(np.float32), ("",), keep=True)
        off = np.sqrt(np.mean(np.square((scaled - found.decoded[0]) / unit), axis=0))
        left = detector.left_without(owned(scaled), only(0))
        assert left is not None
        assert np.isnan(left[0])
        leaked += [left[c] for c in (1, 2) if off[c] > 3.0]
        two = shifted(start, 0, 80.0)
        two[:, 2] += 6_000.0
        both = detector.left_without(owned(scaler.scaled(two)), only(0))
        assert both is not None
        own.append(both[2])
    if leaked:  # a model that has only linear relations may not be misled
        assert np.median(leaked) < 0.5
    assert np.median(own) > 0.5


def test_of_too_many_sensors_or_none_nothing_is_said(detector: BundleDetector) -> None:
    scaled = detector.models.scaler.scaled(machine(L, 3))
    assert detector.left_without(owned(scaled), only()) is None
    assert detector.left_without(owned(scaled), only(0, 1, 2)) is None
    hidden = scaled.copy()
    hidden[:, 1] = np.nan
    assert detector.left_without(owned(hidden), only(1)) is None  # it is out already
    left = detector.left_without(owned(hidden), only(0))
    assert left is not None
    assert np.isnan(left[:2]).all()
    assert np.isfinite(left[2:]).all()
