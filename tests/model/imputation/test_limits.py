"""Filled values are values that a sensor can have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import Floats, Segment
from daemon.model.imputation import FEW_VALUES, ImputationParameters, ValueLimits, fit, impute_segments
from tests.model.imputation.conftest import CLOCK, SPEC, plant


def humid(rows: int, seed: int) -> Floats:
    """A humidity that is often 100 %, a pump that is on or off by it, a step of four set points, a free sensor."""
    x = plant(rows, seed)
    humidity = np.minimum(95.0 + 10.0 * x[:, 0], 100.0)
    return np.stack([humidity, humidity > 95.0, np.clip(np.round(x[:, 1]), -1, 2) * 25.0, x[:, 3]], 1)


@pytest.fixture(scope="module")
def fitted() -> ImputationParameters:
    x = humid(1500, 0)
    return fit([Segment("a", 0, x)], x.mean(0), x.std(0), SPEC)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
@settings(max_examples=25, deadline=None)
def test_no_fill_leaves_the_range_or_lies_between_states(
    fitted: ImputationParameters, seed: int, lost: float
) -> None:
    g = np.random.default_rng(seed)
    x = humid(120, seed % 1000)
    x[g.random(x.shape) < lost] = np.nan
    x[40:90] = np.nan
    fill = impute_segments(fitted, [Segment("a", 0, x)], CLOCK)[0]
    for ends in (fill.value, fill.low, fill.high):
        assert ends[:, 0].max() <= 100.0
        assert set(np.unique(ends[:, 1]).tolist()) <= {0.0, 1.0}
        assert set(np.unique(ends[:, 2]).tolist()) <= {-25.0, 0.0, 25.0, 50.0}
    assert (fill.low <= fill.value).all()
    assert (fill.value <= fill.high).all()


def test_a_configured_range_bounds_what_few_readings_do_not_show_and_widens_what_they_do() -> None:
    few, many = humid(50, 1)[:, :1], humid(500, 1)[:, :1]
    assert ValueLimits.of([Segment("a", 0, few)], 1).highest[0] == np.inf
    assert ValueLimits.of([Segment("a", 0, few)], 1, [(0.0, 100.0)]).lowest[0] == 0.0
    assert ValueLimits.of([Segment("a", 0, many)], 1).lowest[0] == many.min()
    within = ValueLimits.of([Segment("a", 0, many)], 1, [(0.0, 99.0)])
    assert (within.lowest[0], within.highest[0]) == (0.0, 100.0)  # a value beyond the range is evidence


def test_a_sensor_has_states_where_few_values_come_again_and_again(fitted: ImputationParameters) -> None:
    limits = fitted.limits
    assert limits.of_sensor(0) is None
    states = limits.of_sensor(1)
    assert states is not None
    assert states.tolist() == [0.0, 1.0]
    several = ValueLimits.of([Segment("a", 0, np.arange(FEW_VALUES + 1.0).repeat(9)[:, None])], 1)
    assert several.of_sensor(0) is None
    assert ValueLimits.of([Segment("a", 0, np.arange(9.0)[:, None])], 1).of_sensor(0) is None


def test_what_a_table_shows_is_possible_too(fitted: ImputationParameters) -> None:
    shown = humid(60, 2)
    shown[7] = [120.0, 2.0, 30.0, 0.0]
    wide = fitted.limits.widened([Segment("a", 0, shown)])
    assert wide.highest[0] == 120.0
    states = [wide.of_sensor(c) for c in (1, 2)]
    assert [s.tolist() for s in states if s is not None] == [[0, 1, 2], [-25, 0, 25, 30, 50]]
    shown[:, 1] = np.linspace(0.0, 1.0, 60)
    assert fitted.limits.widened([Segment("a", 0, shown)]).of_sensor(1) is None


def test_what_a_sensor_has_just_shown_is_possible_and_may_show_that_it_is_not_discrete(
    fitted: ImputationParameters,
) -> None:
    channel, half = np.array([0, 1, 1]), np.array([150.0, 0.4, 0.4])
    now = np.array([130.0, 1.0, 0.3])
    result = fitted.limits.applied(half, channel, (now, now))
    assert result.tolist() == [130.0, 0.0, 0.4]
    nothing = np.full(3, np.nan)
    assert fitted.limits.applied(half, channel, (nothing, nothing)).tolist() == [100.0, 0.0, 0.0]
    assert np.isnan(fitted.limits.applied(nothing, channel)).all()


def test_limits_survive_storage(fitted: ImputationParameters) -> None:
    again = ImputationParameters.of(replace(fitted).arrays())
    for name, array in fitted.limits.arrays().items():
        np.testing.assert_array_equal(array, again.limits.arrays()[name])
