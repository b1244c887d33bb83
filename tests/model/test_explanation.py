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
