"""What the numbers of a sensor show of its nature: sentinels, stray cells, counters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Floats
from daemon.nature import is_code, resets, strays


def wave(rows: int = 1_000, seed: int = 0) -> Floats:
    """A level of 20 that moves by some degrees with a little noise."""
    return 20 + 2 * np.sin(np.arange(rows) / 40) + np.random.default_rng(seed).normal(0, 0.1, rows)


@pytest.mark.parametrize("number", [-999.9, -9999, 9999, 65535, 32767, -32768, 6553.5, -127, 1e30, -1.7e308])
def test_numbers_that_people_choose_for_no_value(number: float) -> None:
    assert is_code(number)


@pytest.mark.parametrize("number", [0.0, 20.0, 99.0, 100.0, 850.0, -1.0, 127.0])
def test_numbers_that_are_measurements_like_any_other(number: float) -> None:
    assert not is_code(number)


@given(
    st.sampled_from([-999.9, 65535.0, -9999.0, 32767.0, 9999.0]),
    st.lists(st.integers(0, 333).map(lambda i: 3 * i), min_size=2, max_size=50, unique=True),
)
def test_a_sentinel_is_found_wherever_it_stands(number: float, at: list[int]) -> None:
    track = wave()
    track[at] = number
    found = strays([track])
    assert found.sentinels == (number,)
    assert set(np.flatnonzero(found.cells[0])) == set(at)


def test_sentinels_at_both_ends_do_not_hide_each_other() -> None:
    track = wave()
    track[5::100], track[7::100] = -9999.0, 9999.0
    assert sorted(strays([track]).sentinels) == [-9999.0, 9999.0]


def test_a_constant_sensor_may_have_sentinels() -> None:
    track = np.full(300, 2.0)
    track[[5, 100]] = 65535.0
    assert strays([track]).sentinels == (65535.0,)


@pytest.mark.parametrize("number", [850.0, 5_000.0, 0.0])
def test_a_number_that_comes_often_and_alone_may_be_a_sentinel_and_is_not_known_to_be(number: float) -> None:
    track = wave()
    track[10::100] = number
    found = strays([track])
    assert (found.sentinels, found.repeated) == ((), (number,))
    assert np.flatnonzero(found.cells[0]).tolist() == list(range(10, 1_000, 100))


def test_what_lasts_is_a_state() -> None:
    lasting = wave()
    lasting[500:510] = 850.0
    found = strays([lasting])
    assert (found.sentinels, found.repeated, found.cells[0].any()) == ((), (), False)


def test_positive_nines_that_last_again_and_again_are_measured() -> None:
    """A valve at 30 % that is opened to 99.9 % for two hours each day; a device without a value fails in between, too."""
    valve = 30 + np.random.default_rng(0).normal(0, 1, 10 * 144)
    opened = valve.copy().reshape(10, 144)
    opened[:, 60:72] = 99.9
    found = strays([opened.ravel()])
    assert (found.sentinels, found.cells[0].any()) == ((), False)
    failing = opened.ravel().copy()
    failing[7::100] = 99.9
    assert strays([failing]).sentinels == (99.9,)
    once = valve.copy()
    once[300:400] = 999.0
    assert strays([once]).sentinels == (999.0,)
    for code in (-99.9, 32767.0):
        opened[:, 60:72] = code
        assert strays([opened.ravel()]).sentinels == (code,)


def test_single_values_beyond_a_void_are_stray_and_no_sentinels() -> None:
    track = wave()
    track[[100, 300, 301, 700]] = [400.0, 900.0, 2_000.0, -1_000.0]
    found = strays([track, wave(seed=1)])
    assert found.sentinels == ()
    assert np.flatnonzero(found.cells[0]).tolist() == [100, 300, 301, 700]
    assert not found.cells[1].any()


def test_numbers_that_recur_much_alike_are_no_strays() -> None:
    rng = np.random.default_rng(5)
    track = rng.normal(20.0, 1.0, 3_000)
    flushed = track.copy()
    flushed[100::144] += rng.normal(60.0, 4.0, len(flushed[100::144]))
    assert not strays([flushed]).cells[0].any()
    wild = track.copy()
    wild[100::144] += rng.uniform(40.0, 400.0, len(wild[100::144]))
    assert strays([wild]).cells[0].sum() == len(wild[100::144])
    equal = track.copy()
    equal[100::144] = 5_000.5
    assert strays([equal]).repeated == (5_000.5,)


def test_what_belongs_to_a_change_of_level_is_not_stray() -> None:
    """A motor draws many times its current for one row when it starts."""
    current = np.tile(np.r_[np.zeros(50), 80.0, np.full(49, 10.0)], 10)
    current += np.random.default_rng(0).normal(0, 0.1, len(current))
    assert not strays([current]).cells[0].any()


@pytest.mark.parametrize(
    "track",
    [
        np.random.default_rng(0).lognormal(0, 1, 5_000),
        np.random.default_rng(0).exponential(1, 5_000),
        (np.random.default_rng(0).random(5_000) < 0.02) * 100.0,  # a valve that opens rarely
        np.where(np.arange(5_000) % 2 == 0, 0.0, 100.0),
        np.random.default_rng(0).standard_t(4, 5_000),
        np.random.default_rng(0).choice([31.0, 32.0, 33.0], 5_000, p=[0.02, 0.8, 0.18])
        + np.random.default_rng(1).normal(0, 1e-3, 5_000),
    ],
    ids=["lognormal", "exponential", "rarely on", "two states", "heavy tails", "few levels"],
)
def test_skewed_and_discrete_sensors_lose_hardly_a_cell(track: Floats) -> None:
    found = strays([track])
    assert found.sentinels == ()
    assert found.cells[0].sum() <= 1


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), max_size=80))
def test_at_most_half_of_any_numbers_are_set_aside(numbers: list[float]) -> None:
    track = np.array(numbers, np.float64)
    found = strays([track])
    assert found.cells[0].sum() <= 0.5 * max(np.isfinite(track).sum(), 1) + 1
    assert not found.cells[0][np.isnan(track)].any()


def test_a_counter_only_rises_but_for_resets() -> None:
    day = np.cumsum(np.abs(np.random.default_rng(0).normal(0, 1, 100)) + 0.1)
    gaps = np.where(np.arange(200) % 7 == 0, np.nan, np.r_[day, day])
    assert resets("energyToday", [gaps]) == 1
    assert resets("energyToday", [day, day]) == 0
    assert resets("level", [day]) is None
    assert resets("energyToday", [wave()]) is None
