"""Times that are not ISO 8601: months and zones by name, AM and PM, arrays, numbers of 14 digits."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reading, Record, iso
from daemon.stream.dates import ZONES, date_ns, plain_iso
from daemon.stream.decoding import Decoder
from daemon.stream.rejection import RejectedError
from tests.stream.records import WIDE, wide

APRIL = "2026-04-09T17:05:30Z"


@pytest.mark.parametrize(
    ("text", "expected", "named"),
    [
        ("Thu Apr 09 17:05:30 UTC 2026", APRIL, True),
        ("Thu Apr  9 17:05:30 2026", APRIL, False),
        ("Thu, 09 Apr 2026 17:05:30 GMT", APRIL, True),
        ("Thu, 9 Apr 2026 19:05:30 +0200", APRIL, True),
        ("Thu Apr 09 2026 19:05:30 GMT+0200 (CEST)", APRIL, True),
        ("09/Apr/2026:17:05:30 +0000", APRIL, True),
        ("09-Apr-26 17:05:30", APRIL, False),
        ("Apr-09-26 17:05:30", APRIL, False),
        ("Apr 9, 2026 5:05:30 PM", APRIL, False),
        ("9. Okt. 2026 8:00", "2026-10-09T08:00:00Z", False),
        ("April 9, 2026", "2026-04-09T00:00:00Z", False),
        ("09.04.2026 18:05:30 MEZ", APRIL, True),
        ("9.4.26 5:05p", "2026-04-09T17:05:00Z", False),
        ("2026/04/09 12:05:30 EST", APRIL, True),
        ("/Date(1775754330000+0200)/", APRIL, True),
    ],
)
def test_dates_as_people_and_libraries_write_them(text: str, expected: str, named: bool) -> None:
    found = date_ns(text, UTC, None)
    assert found is not None
    assert (iso(found[0]), found[1]) == (expected, named)


@pytest.mark.parametrize(
    "text",
    [
        "09.04.2026 17:05 (CET)",  # whether that is its zone is not said
        "Apr 09 17:05:30",  # of which year?
        "Thu Apr 09 17:05:30 CST 2026",  # China, Cuba and Chicago have a CST each
        "09-Foo-26 17:05:30",
        "Thu Apr 09 2026 at noon",
        "/Date(soon)/",
    ],
)
def test_what_says_no_instant_is_none(text: str) -> None:
    assert date_ns(text, UTC, None) is None


def test_a_day_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RejectedError):
        date_ns("31-Apr-26 08:00", UTC, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-04-09 19:05:30 CEST", "2026-04-09 19:05:30+02:00"),
        ("2026-04-09T17:05:30.5UTC", "2026-04-09T17:05:30.5Z"),
        ("2026-04-09 09:05:30 PST", "2026-04-09 09:05:30-08:00"),
        ("2026-04-09 09:05:30 XCET", "2026-04-09 09:05:30 XCET"),
    ],
)
def test_a_zone_by_name_is_its_offset(text: str, expected: str) -> None:
    assert plain_iso(text) == expected


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)), st.sampled_from(sorted(ZONES)))  # noqa: DTZ001
def test_a_named_zone_says_the_same_in_each_notation(time: datetime, zone: str) -> None:
    time = time.replace(microsecond=0)
    written = date_ns(time.strftime("%a %b %d %H:%M:%S ") + f"{zone} {time.year:04d}", UTC, None)
    assert written is not None
    plain = datetime.fromisoformat(plain_iso(f"{time} {zone}"))
    assert written[0] == int(plain.timestamp()) * 10**9


@given(st.text(max_size=80))
def test_any_text_is_a_time_or_none(text: str) -> None:
    with suppress(RejectedError):
        date_ns(text, UTC, day_first=True)
    plain_iso(text)


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        ("Thu Apr 09 17:05:30 UTC 2026", APRIL),
        ("2026-04-09 19:05:30 CEST", APRIL),
        (20260409170530, APRIL),
        ("20260409170530", APRIL),
        ([2026, 4, 9, 17, 5], "2026-04-09T17:05:00Z"),
        ([2026, 4, 9, 17, 5, 30], APRIL),
        ([2026, 4, 9, 17, 5, 30, 123456789], "2026-04-09T17:05:30.123456789Z"),
    ],
)
def test_the_own_formats_read_them_too(ts: Any, expected: str) -> None:
    found = Decoder(WIDE).decode(Record(0, None, wide({}, ts=ts), -1))
    assert isinstance(found, Reading)
    assert iso(found.time_ns) == expected


@pytest.mark.parametrize(
    "ts",
    [20261309170530, [2026, 4], [2026, 13, 9, 1, 1], [2026, 4, 9, 1, 1, 1, 10**9], [1.0] * 6, [True] * 6],
)
def test_what_only_looks_like_one_is_refused(ts: Any) -> None:
    assert not isinstance(Decoder(WIDE).decode(Record(0, None, wide({}, ts=ts), -1)), Reading)


def test_times_without_a_zone_are_counted() -> None:
    decoder = Decoder(WIDE)
    for ts in (20260409170530, "20260409170531", "Apr 9, 2026 5:05:30 PM", "Thu Apr 09 17:05:30 UTC 2026"):
        decoder.decode(Record(0, None, wide({}, ts=ts), -1))
    assert decoder.zoneless == 2
