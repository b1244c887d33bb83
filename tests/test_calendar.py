"""Condition labels from the calendar: any zone, over any change of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.calendar import FIELDS, VALUES, Calendar, check_fields, labels_of
from daemon.domain import StreamSpec, to_ns

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def row_of(text: str, period: timedelta = timedelta(minutes=1)) -> int:
    return to_ns(datetime.fromisoformat(text) - EPOCH) // to_ns(period)


def spec(
    *condition: str, timezone: str | None = None, period: timedelta = timedelta(minutes=1)
) -> StreamSpec:
    return StreamSpec("s", ("x",), condition=condition, timezone=timezone, period_ns=to_ns(period))


@pytest.mark.parametrize(
    ("instant", "timezone", "label"),
    [
        ("2024-03-04T00:00:00+00:00", None, "$weekday=mon,$weekend=no,$hour=00,$month=03"),
        ("2024-03-02T23:59:00+00:00", "UTC", "$weekday=sat,$weekend=yes,$hour=23,$month=03"),
        # a day ends earlier in the east, later in the west
        ("2024-02-29T20:30:00+00:00", "Asia/Kolkata", "$weekday=fri,$weekend=no,$hour=02,$month=03"),
        ("2024-03-01T03:00:00+00:00", "America/New_York", "$weekday=thu,$weekend=no,$hour=22,$month=02"),
        # Berlin's clock: 01:59 is followed by 03:00 in March, 02:59 by 02:00 in October
        ("2024-03-31T00:59:00+00:00", "Europe/Berlin", "$weekday=sun,$weekend=yes,$hour=01,$month=03"),
        ("2024-03-31T01:00:00+00:00", "Europe/Berlin", "$weekday=sun,$weekend=yes,$hour=03,$month=03"),
        ("2024-10-27T00:59:00+00:00", "Europe/Berlin", "$weekday=sun,$weekend=yes,$hour=02,$month=10"),
        ("2024-10-27T01:00:00+00:00", "Europe/Berlin", "$weekday=sun,$weekend=yes,$hour=02,$month=10"),
        ("2024-10-27T02:00:00+00:00", "Europe/Berlin", "$weekday=sun,$weekend=yes,$hour=03,$month=10"),
        # before the epoch too
        ("1969-12-31T23:59:00+00:00", None, "$weekday=wed,$weekend=no,$hour=23,$month=12"),
    ],
)
def test_labels_are_those_of_the_wall_clock(instant: str, timezone: str | None, label: str) -> None:
    calendar = Calendar(spec(*FIELDS, timezone=timezone))
    assert calendar.labels(["said before"], np.array([row_of(instant)])) == [label]
    assert calendar.message_part(label) == ""


def test_the_messages_part_comes_first_and_can_be_split_off() -> None:
    calendar = Calendar(spec("$hour", "mode", "$weekend", "site"))
    rows = np.array([row_of("2024-03-04T08:00:00+00:00"), row_of("2024-03-09T09:00:00+00:00")])
    of_messages = ["mode=a,b=$hour=1,site=?", "mode=low,site=x"]  # a value may hold anything
    labels = calendar.labels(of_messages, rows)
    assert labels == [f"{of_messages[0]},$hour=08,$weekend=no", f"{of_messages[1]},$hour=09,$weekend=yes"]
    assert [calendar.message_part(label) for label in labels] == of_messages
    without = Calendar(spec("mode"))
    assert without.labels(of_messages, rows) == of_messages
    assert without.message_part(of_messages[0]) == of_messages[0]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"]),
    st.lists(st.integers(2 * 365 * 1440, 90 * 365 * 1440), min_size=1, max_size=20),
    st.sampled_from([1, 7, 60, 600]),
)
def test_every_label_is_what_a_clock_there_shows(zone: str, minutes: list[int], seconds: int) -> None:
    period = timedelta(seconds=seconds)
    rows = np.array([minute * 60 // seconds for minute in minutes])
    labels = Calendar(spec("$hour", "$weekday", timezone=zone, period=period)).labels([""] * len(rows), rows)
    for row, label in zip(rows.tolist(), labels, strict=True):
        local = (EPOCH + row * period).astimezone(ZoneInfo(zone))
        assert label == f"$hour={local.hour:02d},$weekday={local.strftime('%a').lower()}"


def test_every_field_has_its_number_of_values() -> None:
    hours = np.arange(0, 400 * 24) * 60
    for field, count in VALUES.items():
        assert len(set(Calendar(spec(field)).labels([""] * len(hours), hours))) == count
    assert labels_of(("mode", "$weekday", "$hour")) == 168
    assert labels_of(("mode",)) == 1


def test_an_unknown_calendar_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'\$minute'.*\$weekday, \$weekend, \$hour, \$month"):
        check_fields(["mode", "$minute"])
    check_fields(["mode", *FIELDS])
