"""Which silences training finds usual."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import DAY_NS, SECOND_NS, Floats, Ints, Mask, Segment, StreamSpec
from daemon.habit import DAY_SLOTS, SLOTS, SilenceHabit
from daemon.mapping import SensorRule
from daemon.model.silence_habit import NEARLY, learn_silence, usual_gaps
from tests.naive import usual_hours

QUARTER_NS = 900 * SECOND_NS
PER_DAY = DAY_SLOTS
SPEC = StreamSpec(
    "inverters",
    ("dc", "temperature"),
    period_ns=QUARTER_NS,
    silent_after_ns=4 * QUARTER_NS,
    max_gap_ns=8 * QUARTER_NS,
)
WEEK = 7 * PER_DAY


def rows(
    days: int, dc_missing: Callable[[Ints, Ints], Mask], first_day: int = 0, asset: str = "a"
) -> Segment:
    """Days of quarters; ``dc_missing`` of the day and of the hour, in hundredths."""
    at = first_day * PER_DAY + np.arange(days * PER_DAY)
    values = np.stack([np.sin(at / 9.0), np.cos(at / 7.0)], 1)
    values[dc_missing(at // PER_DAY, at % PER_DAY * 25), 0] = np.nan
    return Segment(asset, first_day * PER_DAY, values)


def at_night(day: Ints, hour: Ints) -> Mask:
    return np.asarray((hour < 600) | (hour >= 2000))


def only_present(segment: Segment, present: Mask) -> list[Segment]:
    """The segment without the rows at which the whole asset is silent."""
    at = np.flatnonzero(present)
    parts = np.split(at, np.flatnonzero(np.diff(at) != 1) + 1)
    return [Segment(segment.asset, segment.first_row + int(p[0]), segment.values[p]) for p in parts]


def hours(habit: SilenceHabit) -> list[str]:
    return habit.described(("dc", "temperature"))


def alert_after(habit: SilenceHabit | None, place: int, day: int, hour: float) -> float:
    """Hours after which a silence since then is an alert; one hour without habits."""
    begin = np.array([day * DAY_NS + round(hour * 4) * QUARTER_NS])
    if habit is None:
        return 1.0
    return float(np.round((habit.due_ns(place, begin, 4 * QUARTER_NS) - begin)[0] / 4 / QUARTER_NS, 6))


def test_three_nights_are_a_habit_and_other_hours_are_not() -> None:
    habit = learn_silence([rows(3, at_night, first_day=4)], SPEC)
    assert habit is not None
    assert hours(habit) == ["dc: silent every day from 19:45 to 06:15 UTC"]
    assert alert_after(habit, 0, 50, 20.0) == 11.25  # an hour after dawn
    assert alert_after(habit, 0, 50, 11.0) == 1.0
    assert alert_after(habit, 1, 50, 20.0) == 1.0  # the other sensor, and the asset as a whole, have none
    assert alert_after(habit, 2, 50, 20.0) == 1.0


def test_an_asset_that_is_not_like_the_others_has_its_own_habit() -> None:
    always = rows(9, lambda day, hour: np.zeros(len(day), bool))
    day, hour = np.arange(9 * PER_DAY) // PER_DAY, np.arange(9 * PER_DAY) % PER_DAY * 25
    off = ~at_night(day, hour)

    def fleet(nightly: int, daily: int) -> list[Segment]:
        found = []
        for i in range(nightly + daily):
            named = replace(always, asset=f"a{i}")
            found += only_present(named, off) if i < nightly else [named]
        return found

    few, many = (learn_silence(fleet(*counts), SPEC) for counts in ((1, 9), (9, 1)))
    assert few is not None
    assert few.own == (("a0", 2),)
    assert hours(few) == ["a0: the whole asset: silent every day from 19:45 to 06:15 UTC"]
    assert [few.has(few.which(asset, 2)) for asset in ("a0", "a1", "new")] == [True, False, False]
    assert many is not None
    assert many.own == (("a9", 2),)
    assert hours(many) == [
        "the whole asset: silent every day from 19:45 to 06:15 UTC",
        "a9: the whole asset: never silent",
    ]
    assert [many.has(many.which(asset, 2)) for asset in ("a0", "a9", "new")] == [True, False, True]


def test_one_night_is_an_event() -> None:
    assert learn_silence([rows(4, lambda day, hour: (day == 2) & at_night(day, hour))], SPEC) is None


def test_one_outage_is_an_event_however_long_it_is() -> None:
    assert learn_silence([rows(30, lambda day, hour: (day >= 2) & (day < 28))], SPEC) is None
    every = rows(30, lambda day, hour: np.zeros(len(day), bool))
    day = np.arange(30 * PER_DAY) // PER_DAY
    assert learn_silence(only_present(every, (day < 2) | (day >= 28)), SPEC) is None


def test_a_clock_of_1970_costs_the_other_assets_nothing() -> None:
    fleet = [rows(3, at_night, first_day=20_000, asset=f"a{i}") for i in range(40)]
    wrong = rows(1, lambda day, hour: np.zeros(len(day), bool), asset="b")
    tracemalloc.start()
    habit = learn_silence([*fleet, wrong], SPEC)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert habit is not None
    assert hours(habit)[0].startswith("dc: silent every day from 19:45 to 06:15 UTC")
    assert peak < 20e6  # a week of an asset is 672 bytes; 55 years of one, with their counts, 2 MB and 16 MB


def test_an_outage_beside_the_nights_is_no_habit() -> None:
    habit = learn_silence(
        [rows(10, lambda day, hour: at_night(day, hour) | ((day == 5) & (hour >= 1000)))], SPEC
    )
    assert habit is not None
    assert hours(habit) == ["dc: silent every day from 19:45 to 06:15 UTC"]


def test_a_whole_asset_is_silent_at_night_and_on_sundays() -> None:
    every = rows(28, lambda day, hour: np.zeros(len(day), bool))
    day, hour = np.arange(28 * PER_DAY) // PER_DAY, np.arange(28 * PER_DAY) % PER_DAY * 25
    habit = learn_silence(only_present(every, ~(at_night(day, hour) | (day % 7 == 3))), SPEC)
    assert habit is not None
    assert hours(habit) == [
        "the whole asset: silent every day from 19:45 to 06:15 UTC",
        "the whole asset: silent from Sun 06:15 to Sun 19:45 UTC",
    ]
    assert alert_after(habit, 2, 37, 20.0) == 11 + 24 + 0.25  # Saturday evening to Monday morning
    assert alert_after(habit, 2, 35, 10.0) == 1.0  # a Thursday morning
    assert alert_after(habit, 2, 35, 20.0) == 11.25  # Friday is no Sunday
    assert alert_after(habit, 0, 35, 20.0) == 1.0  # a sensor of an asset that is there


def test_rows_that_were_taken_out_for_alarms_are_no_silence() -> None:
    every = rows(10, lambda day, hour: np.zeros(len(day), bool))
    hour = np.arange(10 * PER_DAY) % PER_DAY * 25
    parts = only_present(every, ~((hour >= 600) & (hour < 900)))
    assert learn_silence(parts, SPEC) is not None
    assert learn_silence([replace(part, after_cut=True) for part in parts], SPEC) is None


def test_two_weeks_show_that_a_sunday_is_none_of_the_other_days() -> None:
    """Silent in working hours on six days of seven: usual by the day's hour, but not by the week's."""
    working = learn_silence(
        [rows(21, lambda day, hour: (day % 7 != 3) & (hour >= 800) & (hour < 1600))], SPEC
    )
    assert working is not None
    assert alert_after(working, 0, 28, 8.0) > 8.0
    assert alert_after(working, 0, 31, 9.0) == 1.0


def test_dusk_that_moves_during_training_and_after_it() -> None:
    """By an hour in thirty days, and on."""

    def dusk(day: Ints) -> Floats:
        return np.asarray(2000.0 - 100.0 * day / 30.0)

    habit = learn_silence([rows(30, lambda day, hour: (hour < 600) | (hour >= dusk(day)))], SPEC)
    assert habit is not None
    for day in (0, 15, 30, 45, 55):
        assert alert_after(habit, 0, day, float(dusk(np.array(day))) / 100.0) > 10.0
    assert alert_after(habit, 0, 30, 16.0) == 1.0


def test_stops_at_no_hour_of_their_own_are_usual_up_to_twice_their_length() -> None:
    generator = np.random.default_rng(3)
    begins = generator.integers(0, PER_DAY - 10, 20)

    def stopped(day: Ints, hour: Ints) -> Mask:
        return np.asarray((hour // 25 >= begins[day]) & (hour // 25 < begins[day] + 8))

    habit = learn_silence([rows(20, stopped)], SPEC)
    assert habit is not None
    assert habit.any_hour_ns[0] == 2 * 9 * QUARTER_NS
    few = learn_silence([rows(20, lambda day, hour: stopped(day, hour) & (day % 3 == 0))], SPEC)
    assert few is None or few.any_hour_ns[0] == 0


def test_a_sensor_that_training_never_saw_is_missing_and_not_silent_by_habit() -> None:
    assert learn_silence([rows(5, lambda day, hour: np.ones(len(day), bool))], SPEC) is None


def test_a_short_or_rare_silence_is_none() -> None:
    assert learn_silence([rows(5, lambda day, hour: (hour >= 1000) & (hour < 1075))], SPEC) is None


def test_a_held_value_is_a_value_until_the_hold_ends() -> None:
    held = replace(SPEC, sensor_rules=(SensorRule(hold_ns=8 * QUARTER_NS), SensorRule()))
    segment = rows(
        6, lambda day, hour: (hour < 600) | (hour >= 2200)
    )  # silent since 20:00, held for two hours
    habit = learn_silence([segment], held)
    assert habit is not None
    assert hours(habit) == ["dc: silent every day from 21:45 to 06:15 UTC"]


def test_gaps_by_habit_are_those_of_its_hours() -> None:
    segment = rows(6, lambda day, hour: at_night(day, hour) | ((day == 3) & (hour >= 1200) & (hour < 1300)))
    habit = learn_silence([segment], SPEC)
    gaps = usual_gaps(habit, segment, SPEC)
    assert gaps is not None
    missing = ~segment.observed
    noon = np.arange(6 * PER_DAY) // PER_DAY == 3
    noon &= (np.arange(6 * PER_DAY) % PER_DAY >= 48) & (np.arange(6 * PER_DAY) % PER_DAY < 52)
    np.testing.assert_array_equal(gaps[:, 0], missing[:, 0] & ~noon)
    assert not gaps[:, 1].any()
    assert usual_gaps(None, segment, SPEC) is None


FLEETS = st.lists(
    st.lists(st.tuples(st.integers(0, PER_DAY - 1), st.integers(0, 40)), min_size=2, max_size=17),
    min_size=1,
    max_size=3,
)
"""Per asset and day, when its sensor falls silent, and for how many quarters."""


@settings(max_examples=30, deadline=None)
@given(FLEETS, st.integers(0, 8))
def test_usual_hours_are_those_that_counting_occasions_gives(
    fleet: Sequence[Sequence[tuple[int, int]]], first_day: int
) -> None:
    history, present, silent = [], [], []
    for number, days in enumerate(fleet):
        missing = np.zeros(len(days) * PER_DAY, bool)
        for day, (begin, count) in enumerate(days):
            missing[day * PER_DAY + begin : day * PER_DAY + begin + count] = True
        asset, first = f"a{number}", first_day * PER_DAY
        history.append(rows(len(days), lambda day, hour, gone=missing: gone, first_day, asset))  # type: ignore[misc]
        present += [(asset, first + at) for at in range(len(missing))]
        at = 0
        while at < len(missing):
            end = at
            while end < len(missing) and missing[end]:
                end += 1
            begin = max(at - 1, 0)
            if end > at and end - 1 - begin >= 4:
                last = min(end, len(missing) - 1)
                began = (first + begin) // PER_DAY
                silent += [(asset, first + row, began) for row in range(begin, last + 1)]
            at = end + 1
    wanted = usual_hours(present, sorted(set(silent)), NEARLY)
    found = learn_silence(history, SPEC)
    if found is None or not found.usual[0].any():
        return  # no silence of training keeps to the hours that there may be
    usual = set(np.flatnonzero(found.usual[0]).tolist())  # of all assets
    assert wanted <= usual
    sometimes = usual_hours(present, sorted(set(silent)), 0.2)
    for slot in usual - wanted:  # the edge of a habit
        assert slot in sometimes
        assert any((slot + by) % SLOTS in wanted for by in range(-8, 9))


def test_a_sample_of_what_was_long_ago_hides_no_habit() -> None:
    """Between its pieces nothing is known: neither that the asset was silent, nor that it was not."""
    whole = rows(100, lambda day, hour: np.zeros(len(day), bool))
    day, hour = np.arange(100 * PER_DAY) // PER_DAY, np.arange(100 * PER_DAY) % PER_DAY * 25
    by_day = ~at_night(day, hour)
    recent = only_present(whole, by_day & (day >= 93))
    pieces = [
        replace(part, after_cut=True)
        for piece in range(0, 90, 10)
        for part in only_present(whole, by_day & (day == piece) & (hour >= 1000) & (hour < 1100))
    ]
    sampled = [*pieces, replace(recent[0], after_cut=True), *recent[1:]]
    habit = learn_silence(sampled, SPEC)
    assert habit is not None
    assert hours(habit) == ["the whole asset: silent every day from 19:45 to 06:15 UTC"]
