"""The level of a counter where it was not read."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import SECOND_NS
from daemon.model.imputation import fill_counter

RATE, SPREAD = 2.0, 0.5


@pytest.mark.parametrize(
    ("second", "value", "low", "high"),
    [
        (15, 105.0, 100.0, 110.0),  # on the line between two readings, and between their values
        (18, 108.0, 100.0, 110.0),
        (25, 120.0, 110.0, 124.1),  # then it was reset: it went on as usual until who knows when
        (40, 25.0, 5.0, 33.2),  # after the last one
        (4, 88.0, 83.1, 100.0),  # before the first one
    ],
)
def test_a_counter_between_before_and_after_its_readings(
    second: int, value: float, low: float, high: float
) -> None:
    times, values = np.array([10, 20, 30]) * SECOND_NS, np.array([100.0, 110.0, 5.0])
    found = fill_counter(times, values, np.array([second]) * SECOND_NS, RATE, SPREAD)
    got = [float(part[0]) for part in (found.value, found.low, found.high)]
    assert got == pytest.approx([value, low, high], abs=0.05)


def test_without_a_reading_nothing_is_filled() -> None:
    none = np.empty(0)
    found = fill_counter(none.astype(np.int64), none, np.array([1, 2]), RATE, SPREAD)
    assert np.isnan(found.value).all()
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
