"""Filling live and in batch: against simple rivals, and its guarantees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import Floats, Segment
from daemon.model.imputation import (
    ImputationParameters,
    fill_newest,
    fit,
    impute_segments,
)
from tests.model.imputation.conftest import CLOCK, ONE, SPEC, ZERO, C, L, only, plant, windows


def test_dropped_readings_are_filled_better_than_by_the_last_value(
    parameters: ImputationParameters, future: Floats
) -> None:
    ends = np.arange(L, len(future))
    x = windows(future, ends)
    for c in range(C):
        holed = x.copy()
        holed[:, -1, c] = np.nan
        fill = fill_newest(parameters, holed, None)
        truth, last = x[:, -1, c], x[:, -2, c]
        error = np.abs(fill.value[:, c] - truth).mean()
        assert error <= 1.02 * np.abs(last - truth).mean()
        if c == 3:  # pure noise: the mean is best, and the last value sqrt 2 worse
            assert error <= 0.8 * np.abs(last - truth).mean()
        inside = (fill.low[:, c] <= truth) & (truth <= fill.high[:, c])
        assert 0.80 <= inside.mean() <= 0.97


def test_a_dead_sensor_is_read_from_its_partner(parameters: ImputationParameters, future: Floats) -> None:
    x = windows(future, np.arange(L, len(future)))
    holed = x.copy()
    holed[:, :, 0] = np.nan
    fill = fill_newest(parameters, holed, None)
    assert np.abs(fill.value[:, 0] - x[:, -1, 0]).mean() < 0.35 * np.abs(x[:, -1, 0]).mean()


def test_what_the_window_does_not_show_comes_from_the_last_value(
    parameters: ImputationParameters, future: Floats
) -> None:
    x = windows(future, np.array([500, 600]))
    truth = x[:, -1, 2].copy()
    x[:, :, 2] = np.nan
    last, age = np.full((2, C), np.nan), np.zeros((2, C), np.int64)
    last[:, 2], age[:, 2] = [future[480, 2], future[580, 2]], 20
    near = fill_newest(parameters, x, None, last, age)
    blind = fill_newest(parameters, x, None)
    assert np.abs(near.value[:, 2] - truth).max() < 0.5
    assert ((near.high - near.low)[:, 2] < (blind.high - blind.low)[:, 2]).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
@settings(max_examples=25, deadline=None)
def test_a_window_is_filled_alike_in_any_batch(seed: int, lost: float) -> None:
    g = np.random.default_rng(seed)
    x = windows(plant(80, 7), g.integers(L, 80, 24))
    x[g.random(x.shape) < lost] = np.nan
    known = SMALL.seen
    together = fill_newest(SMALL, x, np.nan_to_num(x))
    for i in range(0, 24, 5):
        alone = fill_newest(SMALL, x[i : i + 1], np.nan_to_num(x[i : i + 1]))
        for a, b in ((alone.value, together.value), (alone.low, together.low), (alone.high, together.high)):
            np.testing.assert_allclose(a[0], b[i], atol=1e-9)
    assert np.isfinite(together.value[:, known]).all()
    assert (together.low <= together.value).all()
    assert (together.value <= together.high).all()
    observed = np.isfinite(x[:, -1])
    np.testing.assert_array_equal(together.value[observed], x[:, -1][observed])
    np.testing.assert_array_equal(together.low[observed], together.high[observed])


def test_a_carried_residual_decays_as_fitted(parameters: ImputationParameters) -> None:
    pure = replace(only(parameters, 2), rho=np.full(C, 0.5))
    x = np.zeros((1, L, C))
    x[0, -4, 0] = 2.0
    x[0, -3:, 0] = np.nan
    expected = np.zeros((1, L, C))
    expected[0, -1, 0] = 1.0
    assert fill_newest(pure, x, expected).value[0, 0] == pytest.approx(1.0 + 0.5**3 * 2.0)


@pytest.mark.parametrize("gap", [1, 3, 20])
def test_gaps_are_filled_better_than_by_a_straight_line(
    parameters: ImputationParameters, future: Floats, gap: int
) -> None:
    x = future.copy()
    hidden = np.zeros(x.shape, bool)
    for start in range(30, len(x) - 30, 60):
        hidden[start : start + gap, (start // 60) % C] = True
    x[hidden] = np.nan
    fill = impute_segments(parameters, [Segment("a", 0, x)], CLOCK)[0]
    index = np.arange(len(x))
    line = np.stack([np.interp(index, index[~hidden[:, c]], future[~hidden[:, c], c]) for c in range(C)], 1)
    assert np.abs(fill.value - future)[hidden].mean() < 0.9 * np.abs(line - future)[hidden].mean()
    inside = ((fill.low <= future) & (future <= fill.high))[hidden]
    assert 0.75 <= inside.mean() <= 1.0


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_everything_is_filled_and_nothing_observed_is_touched(seed: int, lost: float, rows: int) -> None:
    g = np.random.default_rng(seed)
    x = plant(rows, seed % 1000)
    x[g.random(x.shape) < lost] = np.nan
    other = plant(40, 9)
    fill, _ = impute_segments(SMALL, [Segment("a", 0, x), Segment("b", 0, other)], CLOCK)
    observed = np.isfinite(x)
    np.testing.assert_array_equal(fill.value[observed], x[observed])
    assert np.isfinite(fill.value).all()
    assert (fill.low <= fill.value).all()
    assert (fill.value <= fill.high).all()
    # Segments are independent of one another.
    np.testing.assert_array_equal(fill.value, impute_segments(SMALL, [Segment("a", 7, x)], CLOCK)[0].value)


def test_units_do_not_matter() -> None:
    x = plant(1200, 4)
    unit, offset = np.array([1e3, 1.0, 1e-3, 50.0]), np.array([0.0, -5.0, 1.0, 1e4])
    plain = fit([Segment("a", 0, x[:900])], ZERO, ONE, SPEC)
    other = fit([Segment("a", 0, x[:900] * unit + offset)], offset, unit, SPEC)
    holed = x[900:].copy()
    holed[::7, 0] = holed[10:40, 2] = np.nan
    a = impute_segments(plain, [Segment("a", 0, holed)], CLOCK)[0]
    b = impute_segments(other, [Segment("a", 0, holed * unit + offset)], CLOCK)[0]
    np.testing.assert_allclose((b.value - offset) / unit, a.value, atol=1e-6)
    np.testing.assert_allclose((b.low - offset) / unit, a.low, atol=1e-6)


def test_a_sensor_that_training_never_saw() -> None:
    x = plant(600, 6)
    x[:, 1] = np.nan
    fitted = fit([Segment("a", 0, x)], ZERO, ONE, SPEC)
    assert fitted.seen.tolist() == [True, False, True, True]
    assert np.isnan(fill_newest(fitted, x[None, :L], None).value[0, 1])
    later = plant(50, 8)
    later[10:20, 1] = np.nan
    value = impute_segments(fitted, [Segment("a", 0, later)], CLOCK)[0].value[:, 1]
    np.testing.assert_allclose(value[10:20], np.linspace(later[9, 1], later[20, 1], 12)[1:-1])
    later[:, 1] = np.nan
    assert np.isnan(impute_segments(fitted, [Segment("a", 0, later)], CLOCK)[0].value[:, 1]).all()


def test_a_sensor_that_never_moved_is_filled_with_its_value() -> None:
    x = plant(600, 6)
    x[:, 3] = 0.0
    fitted = fit([Segment("a", 0, x)], ZERO, ONE, SPEC)
    holed = x[None, :L].copy()
    holed[:, -1, 3] = np.nan
    assert fill_newest(fitted, holed, None).value[0, 3] == 0.0


SMALL = fit([Segment("pump-1", 0, plant(600, 1))], ZERO, ONE, SPEC, lambda x: np.nan_to_num(x).astype(float))
