from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from dateutil.rrule import _iterinfo, rrulestr
from hypothesis import given
from hypothesis import strategies as st

from daemon.control import MaintenanceOrder, RetrainRequest, written
from daemon.domain import EPOCH
from daemon.maintenance import MaintenanceWindow, ns_of, read_checked

HOUR = 3_600_000_000_000
START = datetime(2026, 3, 1, 6, tzinfo=UTC)  # a Sunday


def window(
    rule: str = "", timezone: str = "", *, start: datetime = START, hours: int = 2
) -> MaintenanceWindow:
    return MaintenanceWindow("w", ns_of(start), ns_of(start) + hours * HOUR, rule=rule, timezone=timezone)


def test_a_window_is_half_open() -> None:
    one = window()
    begin = ns_of(START)
    assert one.at(begin - 1) is None
    assert one.at(begin) == one.at(begin + 2 * HOUR - 1) == (begin, begin + 2 * HOUR)
    assert one.at(begin + 2 * HOUR) is None
    assert not one.is_over(begin + 2 * HOUR - 1)
    assert one.is_over(begin + 2 * HOUR)


def test_it_is_of_its_assets_or_of_all() -> None:
    mine = MaintenanceWindow("w", 0, HOUR, frozenset({"pump-01"}))
    assert mine.covers("pump-01", 1)
    assert not mine.covers("pump-02", 1)
    assert MaintenanceWindow("w", 0, HOUR).covers("pump-02", 1)


def test_every_sunday_at_six_stays_at_six_when_the_clocks_change() -> None:
    zone = ZoneInfo("Europe/Berlin")
    one = window("FREQ=WEEKLY;BYDAY=SU", "Europe/Berlin", start=datetime(2026, 3, 22, 6, tzinfo=zone))
    for sunday in (
        datetime(2026, 3, 22, tzinfo=zone),
        datetime(2026, 3, 29, tzinfo=zone),
        datetime(2026, 10, 25, tzinfo=zone),
    ):
        six = ns_of(sunday.replace(hour=6))
        assert one.at(six) == (six, six + 2 * HOUR)
        assert one.at(six - 1) is None
    assert one.at(ns_of(datetime(2026, 3, 24, 7, tzinfo=zone))) is None
    assert not one.is_over(ns_of(datetime(2036, 1, 1, tzinfo=UTC)))


def test_a_rule_that_ends_is_over() -> None:
    one = window("FREQ=DAILY;COUNT=3")
    last = ns_of(START + timedelta(days=2))
    assert one.at(last + HOUR) == (last, last + 2 * HOUR)
    assert one.at(last + 24 * HOUR) is None
    assert one.is_over(last + 2 * HOUR)
    assert not one.is_over(last)


@given(
    st.integers(-50, 400),
    st.integers(0, 300),
    st.sampled_from(["", "FREQ=DAILY;COUNT=4", "RRULE:FREQ=DAILY;BYHOUR=1,6,11"]),
)
def test_the_occurrences_of_a_span_are_those_that_one_of_its_hours_lies_in(
    first: int, lasts: int, rule: str
) -> None:
    begin = ns_of(START)
    asked = window(rule).between(begin + first * HOUR, begin + (first + lasts) * HOUR)
    hours = [window(rule).at(begin + hour * HOUR) for hour in range(first, first + lasts)]
    assert asked == sorted({one for one in hours if one is not None})
    beginning = [span for span in asked if span[0] > begin + first * HOUR]
    following = window(rule).after(begin + first * HOUR)
    assert not beginning or following == beginning[0]
    assert following is None or beginning or following[0] >= begin + (first + lasts) * HOUR


@given(st.lists(st.integers(-100, 2_000), min_size=1, max_size=30))
def test_the_answer_does_not_depend_on_what_was_asked_before(hours: list[int]) -> None:
    asked = window("FREQ=DAILY;INTERVAL=3")
    for hour in hours:
        time_ns = ns_of(START) + hour * HOUR
        expected = hour >= 0 and hour % 72 < 2
        assert (asked.at(time_ns) is not None) is expected
        assert asked.at(time_ns) == window("FREQ=DAILY;INTERVAL=3").at(time_ns)


@pytest.mark.parametrize(
    ("rule", "zone", "why"),
    [
        ("EVERY SUNDAY", "", "cannot be understood"),
        ("FREQ=OFTEN", "", "cannot be understood"),
        ("FREQ=WEEKLY;BYDAY=XX", "", "cannot be understood"),
        ("FREQ=MONTHLY;BYDAY=99MO", "", "cannot be understood"),
        ("FREQ=DAILY;INTERVAL=0;BYMONTH=2", "", "cannot be understood"),
        ("FREQ=DAILY;INTERVAL=00", "", "cannot be understood"),
        ("FREQ=DAILY;INTERVAL=-1", "", "cannot be understood"),
        ("FREQ=DAILY;COUNT=0", "", "cannot be understood"),
        ("FREQ=DAILY;COUNT=x", "", "cannot be understood"),
        ("FREQ=HOURLY", "", "more often than daily"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "", "never occurs"),
        ("FREQ=DAILY;BYMONTH=4,6;BYMONTHDAY=31,-31", "", "never occurs"),
        ("FREQ=DAILY;COUNT=2;BYMONTH=2;BYMONTHDAY=30", "", "never occurs"),
        ("FREQ=WEEKLY;BYDAY=SU;BYSETPOS=2", "Europe/Berlin", "never occurs"),
        ("FREQ=MONTHLY;BYDAY=5MO;BYMONTHDAY=1", "", "never occurs"),
        ("FREQ=YEARLY;BYEASTER=1", "", "BYEASTER is not of RFC 5545"),
        ("FREQ=DAILY;BYHOUR=1;BYSETPOS=2,3,4,5,6", "", "more than 4 positions"),
        ("FREQ=DAILY;UNTIL=20250101T000000Z", "", "over before its start"),
        ("DTSTART:20260101T000000\nRRULE:FREQ=DAILY", "", "cannot be understood"),
        ("RRULE:FREQ=DAILY\nRRULE:FREQ=WEEKLY", "", "cannot be understood"),
        ("FREQ=DAILY", "Mars/Olympus", "no time zone"),
        ("", "Mars/Olympus", "no time zone"),
        ("FREQ=DAILY;UNTIL=20260401T000000", "", "UTC"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused(rule: str, zone: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        window(rule, zone)


@pytest.mark.parametrize("rule", ["FREQ=DAILY;BYHOUR=1;BYSETPOS=2", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"])
def test_a_rule_that_never_occurs_costs_some_hundred_years_of_days(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the eight thousand up to the year 9999, which take seconds in which nothing else is done."""
    days, each = 0, _iterinfo.ddayset

    def counted(info: _iterinfo, *day: int) -> Any:
        nonlocal days
        days += 1
        return each(info, *day)

    monkeypatch.setattr(_iterinfo, "ddayset", counted)
    with pytest.raises(ValueError, match="never occurs: none of its days and times fit together"):
        window(rule)
    assert 0 < days < 400 * 366


@given(
    st.sampled_from(
        [
            "FREQ=DAILY;INTERVAL=5",
            "FREQ=DAILY;BYDAY=MO,TH;BYHOUR=6,14",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=SA,SU;WKST=SU",
            "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
            "FREQ=MONTHLY;INTERVAL=7;BYDAY=2FR",
            "FREQ=MONTHLY;BYMONTHDAY=31",
            "FREQ=YEARLY;BYWEEKNO=53",
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
            "FREQ=YEARLY;BYYEARDAY=60,366",
        ]
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    st.integers(366, 43_800),
    st.sampled_from(["", ";COUNT=3", ";UNTIL=20410611T000000Z"]),
)
def test_it_recurs_as_the_library_says(rule: str, zone: str, day: int, end: str) -> None:
    first = (EPOCH + timedelta(days=day, hours=6)).astimezone(ZoneInfo(zone))
    expected = [ns_of(each) for each in islice(rrulestr(rule + end, dtstart=first), 20)]
    if not expected:
        with pytest.raises(ValueError, match="never occurs"):
            window(rule + end, zone, start=first)
        return
    one = window(rule + end, zone, start=first)
    found = one.between(ns_of(first), expected[-1] + 1)
    assert [begin for begin, _ in found] == expected


def test_a_leap_day_occurs_and_so_does_one_of_several_days() -> None:
    for rule in ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30,-1"):
        assert window(rule).between(
            ns_of(datetime(2028, 2, 29, tzinfo=UTC)), ns_of(datetime(2028, 3, 1, tzinfo=UTC))
        )


@pytest.mark.parametrize(
    ("rule", "last_day"),
    [
        ("", 0.0),
        ("FREQ=DAILY", math.inf),
        ("FREQ=DAILY;UNTIL=20260311T060000Z", 10.0),
        ("UNTIL=20260311T060000Z;FREQ=WEEKLY", 10.0),  # an upper bound: the last one is on the eighth
        ("FREQ=DAILY;COUNT=3", math.inf),
    ],
)
def test_a_window_lasts_until_its_rule_ends(rule: str, last_day: float) -> None:
    assert window(rule).lasts_until_ns == ns_of(START) + last_day * 24 * HOUR + 2 * HOUR


@pytest.mark.parametrize("rule", ["FREQ=DAILY;COUNT=3", "FREQ=DAILY;UNTIL=20260303T120000Z"])
def test_one_that_is_over_lasted_until_the_end_of_its_last_occurrence(rule: str) -> None:
    one = window(rule)
    assert one.is_over(ns_of(START) + 72 * HOUR)
    assert one.lasts_until_ns == ns_of(START) + 50 * HOUR


def test_a_control_message_is_a_window() -> None:
    order = MaintenanceOrder(
        "overhaul", START, START + timedelta(hours=2), ("a",), rrule="FREQ=DAILY;COUNT=2"
    )
    one = MaintenanceWindow.ordered(order)
    assert one.covers("a", ns_of(START + timedelta(days=1)))
    assert not one.covers("b", ns_of(START))


def test_an_order_whose_rule_or_zone_cannot_be_used_is_refused_as_a_message_by_its_name() -> None:
    order = MaintenanceOrder("overhaul", START, START + timedelta(hours=2), rrule="FREQ=DAILY")
    assert read_checked(written(order)) == order
    for wrong, why in (
        ({"rrule": "FREQ=HOURLY"}, "more often"),
        ({"timezone": "Mars/Olympus"}, "no time zone"),
    ):
        with pytest.raises(ValueError, match=f"maintenance 'overhaul': .*{why}"):
            read_checked(written(msgspec.structs.replace(order, **wrong)))
    assert read_checked(b'{"retrain":"pumps"}') == RetrainRequest("pumps")
