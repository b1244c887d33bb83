"""Imputation: against an exact conditional, against the simplest rivals, and its promises."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import Floats, Segment
from daemon.model.imputation import (
    BUCKETS,
    LEVELS,
    NEVER,
    NUGGET,
    ImputationParameters,
    Mixture,
    fill_newest,
    fit,
    fitting,
    impute_segments,
)
from tests.naive import conditional_mean

L, C = 16, 4
ZERO, ONE = np.zeros(C), np.ones(C)


def plant(rows: int, seed: int) -> Floats:
    """Four sensors: two noisy readings of one slow state, one slow of its own, one only noise."""
    g = np.random.default_rng(seed)
    state, own = np.zeros(rows), np.zeros(rows)
    for t in range(1, rows):
        state[t] = 0.95 * state[t - 1] + 0.3 * g.standard_normal()
        own[t] = 0.999 * own[t - 1] + 0.04 * g.standard_normal()
    noise = g.standard_normal((rows, C))
    return np.stack(
        [state + 0.2 * noise[:, 0], -state + 0.2 * noise[:, 1], own + 1e-3 * noise[:, 2], noise[:, 3]], 1
    )


@pytest.fixture(scope="module")
def parameters() -> ImputationParameters:
    return fit([Segment("pump-1", 0, plant(3000, 1))], ZERO, ONE, L)


@pytest.fixture(scope="module")
def future() -> Floats:
    return plant(2000, 2)


def windows(series: Floats, ends: np.ndarray) -> Floats:
    return np.stack([series[e - L + 1 : e + 1] for e in ends])


def only(parameters: ImputationParameters, member: int) -> ImputationParameters:
    """The same parameters with all weight on one member."""

    def pure(mixture: Mixture) -> Mixture:
        weights = np.zeros_like(mixture.weights)
        weights[..., member] = 1.0
        return replace(mixture, weights=weights, step=np.full_like(mixture.step, np.inf))

    return replace(parameters, live=pure(parameters.live), batch=pure(parameters.batch))


# ------------------------------------------------------------------ the field
@pytest.mark.parametrize(("member", "level"), [(1, LEVELS[0]), (2, LEVELS[1])])
def test_the_field_is_the_exact_conditional_where_everything_is_a_neighbour(
    parameters: ImputationParameters, member: int, level: float
) -> None:
    # Three rows and one hole: all other cells that count as neighbours, by the plain formula.
    x = plant(3, 5)
    x[1, 0] = np.nan
    fill = impute_segments(only(parameters, member), [Segment("a", 0, x)])[0]
    cells = [(r, c) for r in range(3) for c in range(C) if (r, c) != (1, 0)]
    zero = (len(parameters.covariance) - 1) // 2

    def covariance(a: tuple[int, int], b: tuple[int, int]) -> float:
        noise = (NUGGET if a == b else 0.0) + (level if a[1] == b[1] else 0.0)
        return float(parameters.covariance[b[0] - a[0] + zero, a[1], b[1]]) + noise

    expected = conditional_mean(covariance, cells, [float(x[cell]) for cell in cells], (1, 0))
    assert fill.value[1, 0] == pytest.approx(expected, abs=1e-9)


def test_covariances_are_those_of_the_data() -> None:
    x = plant(500, 3)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    gamma = fit([Segment("a", 0, x[:200]), Segment("b", 0, x[200:])], ZERO, ONE, L).covariance
    zero = (len(gamma) - 1) // 2
    for lag, i, j in [(0, 0, 1), (3, 0, 1), (3, 1, 0), (7, 2, 2)]:
        pairs = [x[t, i] * x[t + lag, j] for t in range(500 - lag) if (t < 200) == (t + lag < 200)]
        assert gamma[zero + lag, i, j] == pytest.approx(np.nanmean(pairs), rel=1e-5)
        assert gamma[zero - lag, j, i] == gamma[zero + lag, i, j]


def test_covariances_that_contradict_each_other_do_no_harm() -> None:
    # Three sensors, each pair observed at its own time: every pair says "opposite", which is
    # impossible for three, and the plain solution is many times the readings.
    g = np.random.default_rng(0)
    x = np.full((900, 3), np.nan)
    for part, (a, b) in enumerate([(0, 1), (1, 2), (0, 2)]):
        state = g.standard_normal(300)
        x[part * 300 : (part + 1) * 300, a] = state
        x[part * 300 : (part + 1) * 300, b] = -state
    fitted = only(fit([Segment("a", 0, x)], np.zeros(3), np.ones(3), L), 1)
    holed = np.full((200, 3), np.nan)
    holed[:, 1:] = g.standard_normal((200, 2))
    value = impute_segments(fitted, [Segment("a", 0, holed)])[0].value
    assert np.abs(value[:, 0]).max() < 1.5 * np.abs(holed[:, 1:]).sum(1).max()


# ------------------------------------------------------------------ live
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
    # Sensor 2 creeps; a fault of its neighbours beyond anything seen must not drag it along.
    believer = replace(only(parameters, 2).live, step=parameters.live.step)
    x = np.zeros((1, L, C))
    x[0, -1] = [9.0, 9.0, np.nan, 9.0]
    filled = fill_newest(replace(parameters, live=believer), x, np.full((1, L, C), 9.0)).value[0, 2]
    assert filled == parameters.live.step[2, 0] < 0.2


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
@settings(max_examples=25, deadline=None)
def test_a_window_is_filled_alike_in_any_company(seed: int, lost: float) -> None:
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


def test_a_window_model_that_knows_more_is_listened_to() -> None:
    # The second sensor is the square of the first: no covariance shows it.
    g = np.random.default_rng(0)
    first = g.standard_normal(3000)
    series = np.stack([first, first**2 - 1.0], 1)

    def model(x: np.ndarray) -> Floats:
        mean = np.nan_to_num(np.asarray(x, np.float64))
        mean[..., 1] = np.where(np.isfinite(x[..., 0]), np.nan_to_num(x[..., 0]) ** 2 - 1.0, 0.0)
        return mean

    fitted = fit([Segment("a", 0, series)], np.zeros(2), np.ones(2), L, model)
    x = windows(series, np.arange(L, 300))
    truth = x[:, -1, 1].copy()
    x[:, -1, 1] = np.nan
    value = fill_newest(fitted, x, model(x)).value[:, 1]
    blind = fill_newest(fit([Segment("a", 0, series)], np.zeros(2), np.ones(2), L), x, None).value[:, 1]
    assert np.abs(value - truth).mean() < 0.3 * np.abs(blind - truth).mean()


def test_a_carried_residual_decays_as_fitted(parameters: ImputationParameters) -> None:
    pure = replace(only(parameters, 2), rho=np.full(C, 0.5))
    x = np.zeros((1, L, C))
    x[0, -4, 0] = 2.0
    x[0, -3:, 0] = np.nan
    expected = np.zeros((1, L, C))
    expected[0, -1, 0] = 1.0
    assert fill_newest(pure, x, expected).value[0, 0] == pytest.approx(1.0 + 0.5**3 * 2.0)


# ------------------------------------------------------------------ batch
@pytest.mark.parametrize("gap", [1, 3, 20])
def test_gaps_are_filled_better_than_by_a_straight_line(
    parameters: ImputationParameters, future: Floats, gap: int
) -> None:
    x = future.copy()
    hidden = np.zeros(x.shape, bool)
    for start in range(30, len(x) - 30, 60):
        hidden[start : start + gap, (start // 60) % C] = True
    x[hidden] = np.nan
    fill = impute_segments(parameters, [Segment("a", 0, x)])[0]
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
    fill, _ = impute_segments(SMALL, [Segment("a", 0, x), Segment("b", 0, other)])
    observed = np.isfinite(x)
    np.testing.assert_array_equal(fill.value[observed], x[observed])
    assert np.isfinite(fill.value).all()
    assert (fill.low <= fill.value).all()
    assert (fill.value <= fill.high).all()
    # What another segment holds is nothing to this one.
    np.testing.assert_array_equal(fill.value, impute_segments(SMALL, [Segment("a", 7, x)])[0].value)


def test_units_do_not_matter() -> None:
    x = plant(1200, 4)
    unit, offset = np.array([1e3, 1.0, 1e-3, 50.0]), np.array([0.0, -5.0, 1.0, 1e4])
    plain = fit([Segment("a", 0, x[:900])], ZERO, ONE, L)
    other = fit([Segment("a", 0, x[:900] * unit + offset)], offset, unit, L)
    holed = x[900:].copy()
    holed[::7, 0] = holed[10:40, 2] = np.nan
    a = impute_segments(plain, [Segment("a", 0, holed)])[0]
    b = impute_segments(other, [Segment("a", 0, holed * unit + offset)])[0]
    np.testing.assert_allclose((b.value - offset) / unit, a.value, atol=1e-6)
    np.testing.assert_allclose((b.low - offset) / unit, a.low, atol=1e-6)


def test_a_sensor_that_training_never_saw() -> None:
    x = plant(600, 6)
    x[:, 1] = np.nan
    fitted = fit([Segment("a", 0, x)], ZERO, ONE, L)
    assert fitted.seen.tolist() == [True, False, True, True]
    assert np.isnan(fill_newest(fitted, x[None, :L], None).value[0, 1])
    later = plant(50, 8)
    later[10:20, 1] = np.nan
    value = impute_segments(fitted, [Segment("a", 0, later)])[0].value[:, 1]
    np.testing.assert_allclose(value[10:20], np.linspace(later[9, 1], later[20, 1], 12)[1:-1])
    later[:, 1] = np.nan
    assert np.isnan(impute_segments(fitted, [Segment("a", 0, later)])[0].value[:, 1]).all()


def test_a_sensor_that_never_moved_is_filled_with_its_value() -> None:
    x = plant(600, 6)
    x[:, 3] = 0.0
    fitted = fit([Segment("a", 0, x)], ZERO, ONE, L)
    holed = x[None, :L].copy()
    holed[:, -1, 3] = np.nan
    assert fill_newest(fitted, holed, None).value[0, 3] == 0.0


# ------------------------------------------------------------------ fitting
@pytest.mark.parametrize("rows", [2, 20, 150])
def test_a_short_history_still_fits(rows: int) -> None:
    fitted = fit([Segment("a", 0, plant(rows, 0)), Segment("b", 0, plant(rows, 1))], ZERO, ONE, L)
    x = np.full((1, L, C), np.nan)
    assert np.isfinite(fill_newest(fitted, x, None).value).all()


def test_a_history_of_gaps_alone_gives_no_value() -> None:
    fitted = fit([Segment("a", 0, np.full((300, C), np.nan))], ZERO, ONE, L)
    assert np.isnan(fill_newest(fitted, np.full((1, L, C), np.nan), None).value).all()


def test_the_same_data_and_seed_give_the_same_parameters_and_they_survive_storage() -> None:
    history = [Segment("a", 0, plant(700, 0)), Segment("b", 5, plant(300, 1))]
    first, second = (fit(history, ZERO, ONE, L, seed=3).arrays() for _ in range(2))
    again = ImputationParameters.of(first).arrays()
    assert first.keys() == second.keys() == again.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        np.testing.assert_array_equal(array, again[name])


def test_long_histories_are_thinned_to_pieces_that_do_not_join_what_was_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fitting, "FIT_ROWS", 2000)
    series = np.arange(12_000.0)[:, None]
    pieces = fitting.thinned([series[:7000], series[7000:]])
    assert sum(map(len, pieces)) <= 2000
    for piece in pieces:
        assert (np.diff(piece[:, 0]) == 1).all()
        assert not (piece[0, 0] < 7000 <= piece[-1, 0])


SMALL = fit([Segment("pump-1", 0, plant(600, 1))], ZERO, ONE, L, lambda x: np.nan_to_num(x).astype(float))
