"""Event times as messages write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config.input_notation import parse_mapping
from daemon.domain import SECOND_NS, Reason, Record
from daemon.stream.extract.times import compile_time
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import EventTimes

T, NS = 1_772_352_000, SECOND_NS  # 2026-03-01T08:00:00Z
RECORD = Record(0, None, b"", 99 * NS)
BERLIN = ZoneInfo("Europe/Berlin")


def time_of(rule: Any, message: Any, zone: Any = UTC, record: Record = RECORD) -> int:
    mapping = parse_mapping({"asset": "a", "leaves": ".", "time": rule}, "custom")
    return compile_time(mapping.time, EventTimes(zone))((message, None, None), record)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (T, T * NS),
        (T * 1000, T * NS),
        (T * 10**6 + 1, T * NS + 1000),
        (T * NS + 1, T * NS + 1),
        (f"{T * NS + 1}", T * NS + 1),
        (T + 0.25, T * NS + NS // 4),
        ("2026-03-01T08:00:00Z", T * NS),
        ("2026-03-01T08:00:00z", T * NS),
        ("2026-03-01 08:00:00+00:00", T * NS),
        ("2026-03-01T09:00:00+0100", T * NS),
        ("2026-03-01 09:00:00 +01:00", T * NS),
        ("2026-03-01 08:00:00 UTC", T * NS),
        ("2026-03-01 08:00:00.5 GMT", T * NS + NS // 2),
        ("2026-03-01T08:00:00.123Z", T * NS + 123_000_000),
        ("2026-03-01T08:00:00.1234567Z", T * NS + 123_456_700),
        ("2026-03-01T08:00:00.123456789Z", T * NS + 123_456_789),
        ("2026-03-01T08:00:00.123456789999Z", T * NS + 123_456_789),
        ("2026-03-01T08:00:00,5Z", T * NS + NS // 2),
        ("2026-03-01T08:00:00Z/2026-03-01T09:00:00Z", T * NS),
        ("2026-03-01T08:00Z", T * NS),
        ("20260301T080000Z", T * NS),
        ("2026/03/01 08:00:00", T * NS),
        ("01.03.2026 08:00", T * NS),
        ("1.3.26 8:00:00", T * NS),
        ("01.03.2026 09:00:00.25 +01:00", T * NS + NS // 4),
        ({"$date": T * 1000}, T * NS),
        ({"low": T * 1000 & 0xFFFFFFFF, "high": T * 1000 >> 32, "unsigned": True}, T * NS),
    ],
)
def test_a_time_is_read_as_it_is_written(written: Any, expected: int) -> None:
    assert time_of("t", {"t": written}) == expected


def test_a_time_without_a_zone_is_in_the_streams() -> None:
    for text in ("2026-03-01T09:00:00", "01.03.2026 09:00", "2026/03/01 09:00:00"):
        assert time_of("t", {"t": text}, BERLIN) == T * NS


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ({"from": "t", "day_first": True}, "01/03/2026 08:00:00", T * NS),
        ({"from": "t", "day_first": False}, "3/1/2026 8:00:00 AM", T * NS),
        ({"from": "t", "day_first": False}, "3/1/2026, 8:00 p.m.", (T + 12 * 3600) * NS),
        ({"from": "t", "day_first": False}, "3/1/2026 12:30 AM", (T - 7 * 3600 - 1800) * NS),
        ({"from": "t", "day_first": True}, "01-03-2026", (T - 8 * 3600) * NS),
        ({"from": "t", "format": "%Y%m%d%H%M%S"}, 20260301080000, T * NS),
        ({"from": "t", "format": ["%H", "%d %b %Y %H:%M:%S.%f %z"]}, "01 Mar 2026 09:00:00.1234567 +0100",
         T * NS + 123_456_700),
        ({"from": "t", "format": "%d.%m.%Y"}, "2026-03-01T08:00:00Z", T * NS),
        ({"from": "t", "unit": "s"}, 5, 5 * NS),
        ({"from": "t", "unit": "us"}, "5000000", 5 * NS),
        ({"from": "t", "unit": "s"}, "20260131", 20260131 * NS),
        ({"from": "t", "unit": "s"}, 0, 0),
        ("t", 10**8, 10**8 * NS),
        ("t", "100000000", 10**8 * NS),
        ({"from": "t", "unit": "ns"}, 7.0, 7),
        ({"from": "t", "unit": "ms"}, "2026-03-01T08:00:00Z", T * NS),
        ({"seconds": "t", "nanos": "n"}, T, T * NS + 5),
        ({"seconds": "t", "nanos": "none"}, str(T), T * NS),
        ({"from": "t", "plus": "n"}, "2026-03-01T08:00:00Z", T * NS + 5_000_000),
        (["none", "t", "$timestamp"], T, T * NS),
        (["none", "$timestamp"], T, 99 * NS),
        (["empty", "null", "t"], T, T * NS),
    ],
)  # fmt: skip
def test_a_rule_says_how_a_time_is_written(rule: Any, text: Any, expected: int) -> None:
    assert time_of(rule, {"t": text, "n": 5, "empty": "", "null": None}) == expected


@pytest.mark.parametrize(
    ("rule", "text", "detail"),
    [
        ("t", "03/04/2026 08:00", "is the day first? Set day_first: true or false in time"),
        ("t", "31.02.2026 08:00", "day is out of range"),
        ("t", "99.99.2026 25:00", "must be in"),
        ("t", 20260131, "20260131 is no time in seconds since 1970: give unit, or format, in time"),
        ("t", "20260131", "is no time in seconds"),
        ("t", " 20260131", "is no time in seconds"),
        ("t", 45990.26, "is no time in seconds"),
        ("t", "45990.26", "is no time in seconds"),
        ("t", 0, "is no time in seconds"),
        ({"from": "t", "plus": "m"}, 0, "is no time in seconds"),
        ("t", "yesterday", "is neither ISO 8601 nor a number"),
        ("t", True, "a boolean"),
        ("t", [1], "an array"),
        ("t", {"a": 1}, "an object"),
        ({"from": "t", "format": "%d.%m.%Y"}, "x", "is neither ISO 8601 nor %d.%m.%Y"),
        ({"from": "t", "unit": "s"}, 10**40, "beyond the year 2262"),
        ({"seconds": "t", "nanos": "n"}, T, "'x', added to a time, is a string"),
        ("t", "1" * 5000, "is neither ISO 8601 nor a number"),
    ],
)
def test_what_is_no_time_is_said(rule: Any, text: Any, detail: str) -> None:
    with pytest.raises(RejectedError) as error:
        time_of(rule, {"t": text, "n": "x"})
    assert error.value.reason is Reason.BAD_TIMESTAMP
    assert detail in error.value.detail


@pytest.mark.parametrize(
    "unset",
    ["0001-01-01T00:00:00Z", "1601-01-01T00:00:00Z", "01.01.0001", "01.01.0001 00:00:00", 0, "0", 45990.26],
)
def test_a_time_before_all_times_is_none_where_another_is_there(unset: Any) -> None:
    for _ in range(2):
        assert time_of(["a", "b", "c"], {"a": unset, "b": "", "c": T}) == T * NS
        assert time_of(["a", "$timestamp"], {"a": unset}) == 99 * NS
        if type(unset) is str and unset != "0":
            assert time_of(["a", "b"], {"a": unset, "b": None}) < 0
            assert time_of("a", {"a": unset}) < 0


def test_a_record_without_a_time_gives_none() -> None:
    with pytest.raises(RejectedError) as error:
        time_of(["t", "$timestamp"], {}, record=Record(0, None, b"", -1))
    assert error.value.reason is Reason.NO_TIMESTAMP
    assert "no field 't' in the message" in error.value.detail
    assert time_of(["t", "$timestamp"], {}, record=Record(0, None, b"", 5)) == 5


def test_texts_are_remembered_and_zones_counted() -> None:
    times = EventTimes(UTC)
    mapping = parse_mapping(
        {"asset": "a", "leaves": ".", "time": {"from": "t", "format": "%d.%m.%Y"}}, "custom"
    )
    read = compile_time(mapping.time, times)
    for _ in range(2):
        assert read(({"t": "01.03.2026"}, None, None), RECORD) == (T - 8 * 3600) * NS
    assert times.zoneless == 1


@given(
    st.integers(366 * 86_400 * 10**6, 7_258_000_000 * 10**6),
    st.sampled_from(["%d.%m.%Y %H:%M:%S.%f", "%Y/%m/%d %H:%M:%S.%f"]),
)
def test_dates_with_signs_are_those_that_were_written(micros: int, form: str) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    assert time_of("t", {"t": moment.strftime(form)}) == micros * 1000


@given(st.text(max_size=70))
def test_any_text_is_a_time_or_refused(text: str) -> None:
    reason = None
    try:
        time_of({"from": "t", "day_first": True, "format": "%d.%m.%Y"}, {"t": text})
    except RejectedError as error:
        reason = error.reason
    assert reason in (None, Reason.BAD_TIMESTAMP, Reason.NO_TIMESTAMP)
