"""What the numbers of a sensor show of its nature."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.sample import facts
from daemon.adapters.sample.facts import Series
from daemon.domain import SECOND_NS, Floats, Ints

START = 1_750_000_000 * SECOND_NS


def series(numbers: Sequence[float] | Floats, name: str = "x", step: int = 60) -> Series:
    """One asset's numbers, a minute apart."""
    values = np.array(numbers, np.float64)
    return Series(name, [START + step * SECOND_NS * np.arange(len(values))], [values])


def noise(rows: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0, 1, rows)


# ------------------------------------------------------------------ units
def test_the_unit_of_most_values_is_written_where_all_others_become_it() -> None:
    found = facts.unit({"°C": 9, "°F": 2, "degc": 1})
    assert found is not None
    assert (found.value, found.certain) == ("°C", True)
    assert "°F, degc, which are converted" in found.why
    assert facts.unit({}) is None


def test_a_unit_is_only_proposed_where_another_cannot_become_it() -> None:
    found = facts.unit({"%": 9, "percent": 3, "ppm": 2})
    assert found is not None
    assert (found.value, found.certain) == ("%", False)
    assert found.why == "its messages say so; also in ppm, which cannot be converted and would be masked"


# ------------------------------------------------------------------ sentinels
@pytest.mark.parametrize("code", [-999.9, -9999, 65535, 32767, -32768, 6553.5, 9999, 99999, -127, 1e30])
def test_a_number_that_people_choose_for_no_value_is_missing(code: float) -> None:
    numbers = 20 + noise(300)
    numbers[[5, 100, 200]] = code
    fact = facts.sentinels(series(numbers))
    assert fact is not None
    assert (fact.key, fact.value, fact.certain) == ("missing", [code], True)
    assert "3 times" in fact.why


def test_two_sentinels_at_both_ends_are_both_found() -> None:
    numbers = 20 + noise(300)
    numbers[[5, 6]], numbers[[100, 101, 102]] = -999, 65535
    fact = facts.sentinels(series(numbers))
    assert fact is not None
    assert sorted(fact.value) == [-999, 65535]


@pytest.mark.parametrize(
    ("number", "times"),
    [(-999.9, 1), (21.0, 5), (28.123, 1), (999, 200)],
    ids=["once", "inside", "a peak", "mostly"],
)
def test_what_is_no_sentinel(number: float, times: int) -> None:
    numbers = 20 + noise(300)
    numbers[:times] = number
    assert facts.sentinels(series(numbers)) is None


def test_a_number_within_reach_of_the_others_is_a_measurement() -> None:
    numbers = np.linspace(0, 9000, 300)
    numbers[[3, 4]] = 9999
    assert facts.sentinels(series(numbers)) is None


def test_zeros_far_below_the_rest_are_asked_about() -> None:
    numbers = 5000 + noise(300)
    numbers[50:60] = 0
    fact = facts.sentinels(series(numbers))
    assert fact is not None
    assert (fact.value, fact.certain) == ([0], False)


# ------------------------------------------------------------------ counters and angles
def test_a_number_that_only_rises_is_a_counter() -> None:
    rising = np.cumsum(np.abs(noise(200)))
    assert facts.counter(series(rising, "energy_kwh")) == facts.Fact(
        "counter", True, "it only rises: its rate is watched"
    )
    assert facts.counter(series(rising, "level")) is None  # it may drift upwards
    whole = facts.counter(series(np.rint(10 * rising), "level"))
    assert whole is not None
    assert whole.key == "counter"


def test_a_counter_may_be_reset_to_near_nothing() -> None:
    day = np.cumsum(np.abs(noise(100)) + 0.1)
    fact = facts.counter(series([*day, *day, *day], "energyToday"))
    assert fact is not None
    assert "2 resets" in fact.why
    assert facts.counter(series([*day, *(day + 50), *day], "energyToday")) is None  # it fell by half


def test_a_level_a_set_point_and_a_message_number_are_no_counters() -> None:
    assert facts.counter(series(50 + noise(300), "count")) is None
    assert facts.counter(series([50.0] * 150 + [51.0] * 150, "count")) is None
    numbered = facts.counter(series(np.arange(500.0), "n"))
    assert numbered is not None
    assert numbered.key == ""
    assert "leave it out" in numbered.why


@given(st.lists(st.floats(0, 1e6), min_size=30, max_size=120))
def test_no_counter_falls_anywhere_but_at_a_reset(numbers: list[float]) -> None:
    if (fact := facts.counter(series(numbers, "total"))) is not None and fact.key:
        for before, after in itertools.pairwise(numbers):
            assert after >= before or after <= 0.1 * before


def test_angles_jump_between_their_ends() -> None:
    turning = np.arange(0, 3600, 7.0) % 360
    fact = facts.angle(series(turning))
    assert fact is not None
    assert (fact.key, fact.value, fact.certain) == ("angle", 360, False)
    assert facts.angle(series(180 + 40 * np.sin(np.arange(300) / 9), "x")) is None
    assert facts.angle(series(180 + 120 * np.sin(np.arange(300) / 9), "wind_direction")) is not None


def test_a_constant_is_kept_with_a_remark() -> None:
    fact = facts.constant(series([3.5] * 40))
    assert fact is not None
    assert fact.key == ""
    assert "always 3.5" in fact.why
    assert facts.constant(series([3.5] * 39 + [4])) is None
    assert facts.constant(series([3.5] * 3)) is None


# ------------------------------------------------------------------ when a number comes
def on_times(times: Ints, numbers: Floats) -> Series:
    return Series("x", [START + times * SECOND_NS], [numbers])


def test_a_sensor_that_reports_on_change_is_held_over_its_usual_gaps() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.integers(2, 60, 200))
    rows = int(times[-1])
    fact = facts.seldom(on_times(times, noise(200)), rows, SECOND_NS, gathered=True)
    assert fact is not None
    assert (fact.key, fact.value, fact.certain) == ("hold", "1m", True)
    assert "on change" in fact.why
    proposed = facts.seldom(on_times(times, noise(200)), rows, SECOND_NS, gathered=False)
    assert proposed is not None
    assert not proposed.certain


def test_a_slower_sensor_is_held_until_it_sends_again() -> None:
    fact = facts.seldom(on_times(10 * np.arange(100), noise(100)), 1000, SECOND_NS, gathered=True)
    assert fact is not None
    assert fact.value == "15s"
    assert "every 10s" in fact.why


def test_a_sensor_of_every_row_is_not_held_nor_one_that_is_off_at_night() -> None:
    every = np.arange(300)
    assert facts.seldom(on_times(every, noise(300)), 300, SECOND_NS, gathered=True) is None
    by_day = every[every % 100 < 40]
    assert facts.seldom(on_times(by_day, noise(len(by_day))), 300, SECOND_NS, gathered=True) is None


def test_several_numbers_in_a_row_are_reduced() -> None:
    fast = series(noise(300), step=1)
    fact = facts.too_fast(fast, 5 * SECOND_NS, rising=False)
    assert fact is not None
    assert (fact.key, fact.value) == ("reduce", "mean")
    rising = facts.too_fast(fast, 5 * SECOND_NS, rising=True)
    assert rising is not None
    assert rising.value == "last"
    assert facts.too_fast(fast, SECOND_NS, rising=False) is None


@given(st.floats(1, 1e14))
def test_a_nice_span_is_long_enough_up_to_a_day(ns: float) -> None:
    from daemon.config import parse_duration

    lasts = parse_duration(facts.nice_span(ns)).total_seconds()
    assert lasts >= min(ns / 1e9, 86_400)


# ------------------------------------------------------------------ what is no number, and duplicates
def test_kinds_of_cells_are_told() -> None:
    found = facts.kinds_seen({"boolean": 3, "text": 10, "number": 5}, {"ERR": 2})
    assert [fact.why for fact in found[:2]] == [
        "true and false are read as 1 and 0",
        "its texts are read as numbers",
    ]
    assert (found[2].key, found[2].value, found[2].certain) == ("states", {"ERR": 0}, False)
    assert facts.kinds_seen({"number": 5, "null": 1}, {}) == []


def test_the_same_numbers_and_multiples_of_them_are_duplicates() -> None:
    a, b = 20 + noise(100), noise(100, 1)
    columns = np.stack([a, b, a, -2.5 * a, a + 1e-3], axis=1)
    found = facts.duplicates(["a", "b", "twin", "scaled", "near"], columns)
    assert set(found) == {"twin", "scaled"}
    assert "the same numbers as a" in found["twin"].why
    assert "2.5 times a" in found["scaled"].why


def test_constants_and_other_rows_are_no_duplicates() -> None:
    a = 20 + noise(100)
    gap = a.copy()
    gap[3] = np.nan
    columns = np.stack([a, gap, np.ones(100), np.ones(100)], axis=1)
    assert facts.duplicates(["a", "gap", "one", "uno"], columns) == {}


def test_a_number_that_is_the_time_itself_is_known() -> None:
    times = START + SECOND_NS * np.arange(10)
    assert facts.is_event_time(times / 1e6 - 3000, times)
    assert not facts.is_event_time(np.linspace(0, 1, 10), times)


# ------------------------------------------------------------------ several sensors
def test_sensors_that_are_zero_in_the_same_rows_for_long_are_of_a_machine_at_rest() -> None:
    works = np.arange(2_000) % 400 < 250
    speed, flow = (
        np.where(works, level + noise(2_000, seed), 0.0) for seed, level in enumerate((1_450.0, 9.0))
    )
    ambient = 12.0 + noise(2_000, 3)
    found = facts.resting([series(speed, "speed"), series(ambient, "ambient"), series(flow, "flow")])
    assert found == (["speed", "flow"], 750)
    assert facts.resting([series(speed, "speed"), series(ambient, "ambient")]) == (
        [],
        0,
    )  # one alone tells nothing
    late = np.where(np.roll(works, 1), flow, 0.0)
    assert facts.resting([series(speed, "speed"), series(late, "late")]) == ([], 0)  # at other times
    flickers = np.where(np.arange(2_000) % 4 > 0, speed, 0.0)
    assert facts.resting([series(flickers, "a"), series(flickers, "b")]) == ([], 0)  # no rest
    nothing = np.zeros(2_000)
    assert facts.resting([series(nothing, "a"), series(nothing, "b")]) == ([], 0)  # two constants
