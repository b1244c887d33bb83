"""Event times: every notation of an instant is read to the nanosecond, anything else is rejected."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
    Reading,
    Reason,
    Record,
    iso,
)
from daemon.stream.decoding import Decoder
from tests.stream.records import (
    DAY,
    WIDE,
    accepted,
    record,
    refused,
    wide,
)


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        ("2024-01-01T00:00:00Z", DAY * SECOND_NS),
        ("2024-01-01t00:00:00z", DAY * SECOND_NS),
        ("2024-01-01 00:00:00", DAY * SECOND_NS),
        ("2024-01-01", DAY * SECOND_NS),
        ("20240101T000000Z", DAY * SECOND_NS),
        (" 2024-01-01T02:00:00+02:00 ", DAY * SECOND_NS),
        ("2023-12-31T19:30:00-0430", DAY * SECOND_NS),
        ("2024-01-01T00:00:00.5Z", DAY * SECOND_NS + 500_000_000),
        ("2024-01-01T00:00:00,123Z", DAY * SECOND_NS + 123_000_000),
        ("2024-01-01T00:00:00.000001+00:00", DAY * SECOND_NS + 1_000),
        ("2024-01-01T00:00:00.123456789Z", DAY * SECOND_NS + 123_456_789),
        ("2024-01-01T00:00:00.1234567+00:00", DAY * SECOND_NS + 123_456_700),
        ("2024-01-01T00:00:00.12345678901Z", DAY * SECOND_NS + 123_456_789),
        (DAY, DAY * SECOND_NS),
        (DAY * 1000 + 1, DAY * SECOND_NS + 1_000_000),
        (DAY * 1_000_000 + 1, DAY * SECOND_NS + 1_000),
        (DAY * SECOND_NS + 1, DAY * SECOND_NS + 1),
        (str(DAY * SECOND_NS + 1), DAY * SECOND_NS + 1),
        (DAY + 0.123, DAY * SECOND_NS + 123_000_000),
        (DAY * 1000 + 0.5, DAY * SECOND_NS + 500_000),
        (1.7040672e9, DAY * SECOND_NS),
        (f"{DAY}.123456789", DAY * SECOND_NS + 123_456_789),
        ("1.7040672e9", DAY * SECOND_NS),
        (0, 0),
    ],
)
def test_event_time(ts: object, expected: int) -> None:
    assert accepted(Decoder(WIDE).decode(record(wide({}, ts=ts)))).time_ns == expected


NOT_A_TIME = [
    "yesterday",
    "",
    " ",
    "2024-13-01T00:00:00Z",
    "2024-01-01x00:00:00Z",
    "2024-01-01T25:00:00Z",
    -1,
]


NOT_A_TIME += [
    -0.5,
    "-1",
    "1969-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z",
    2**63,
    10**30,
    1e300,
    "1e30",
    "1e999",
]


NOT_A_TIME += [
    True,
    [],
    {},
    "1" * 100,
    "9" * 5000,
    "nan",
    "inf",
    "١٢٣٤",
    "2024-01-01T00:00:00Z\x00",
    "\ud800",
]


@pytest.mark.parametrize("ts", NOT_A_TIME)
def test_values_that_are_not_a_time_are_rejected(ts: object) -> None:
    reason, detail = refused(Decoder(WIDE).decode(record(wide({}, ts=ts))))
    assert reason is Reason.BAD_TIMESTAMP
    assert detail.isprintable()


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 5000])
def test_number_tokens_that_are_not_a_time_are_rejected(token: str) -> None:
    text = wide({}, ts="?").decode().replace('"?"', token).encode()
    assert refused(Decoder(WIDE).decode(record(text)))[0] is Reason.BAD_TIMESTAMP


def test_times_without_a_zone_are_of_the_streams_zone_and_counted() -> None:
    decoder = Decoder(replace(WIDE, timezone="Europe/Berlin"))

    def time_of(ts: object) -> str:
        found = decoder.decode(
            Record(0, None, json.dumps({"asset": "a", "ts": ts, "values": {}}).encode(), -1)
        )
        assert isinstance(found, Reading)
        return iso(found.time_ns)

    assert time_of("2026-07-01T12:00:00") == "2026-07-01T10:00:00Z"
    assert time_of("2026-07-01 12:00:00.123456789") == "2026-07-01T10:00:00.123456789Z"
    assert time_of("2026-07-01") == "2026-06-30T22:00:00Z"
    assert decoder.zoneless == 3
    for zoned in ("2026-07-01T12:00:00Z", "2026-07-01T14:00:00+02:00", "2026-07-01T14:00+0200"):
        assert time_of(zoned) == "2026-07-01T12:00:00Z"
    assert time_of(1_782_907_200) == time_of("1782907200") == "2026-07-01T12:00:00Z"
    assert decoder.zoneless == 3


@given(st.integers(0, 2**63 - 1 - 3600 * SECOND_NS))
def test_every_nanosecond_survives_every_notation(time_ns: int) -> None:
    decoder = Decoder(WIDE)
    seconds, rest = divmod(time_ns, SECOND_NS)
    written = datetime(1970, 1, 1) + timedelta(seconds=seconds)  # noqa: DTZ001 - text for the test
    notations: list[object] = [f"{written.isoformat()}.{rest:09d}Z", f"{seconds}.{rest:09d}"]
    notations += [f"{(written + timedelta(hours=3)).isoformat()}.{rest:09d}+03:00"]
    if time_ns >= 10**17:
        notations.append(time_ns)
    for ts in notations:
        found = decoder.decode(record(wide({}, ts=ts), timestamp_ns=time_ns))
        assert accepted(found).time_ns == time_ns


@given(st.floats(0, 1e11, exclude_max=True))
def test_float_seconds_mean_their_shortest_text(seconds: float) -> None:
    found = Decoder(WIDE).decode(record(wide({}, ts=seconds), timestamp_ns=10**21))
    exact = int(Decimal(repr(seconds)) * SECOND_NS)
    if exact >= 2**63:
        assert refused(found)[0] is Reason.BAD_TIMESTAMP
    else:
        assert accepted(found).time_ns == exact


@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_iso_instants_agree_with_datetime(local: datetime, offset: int) -> None:
    time = local.replace(tzinfo=timezone(timedelta(minutes=offset)))
    micros = (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    found = Decoder(WIDE).decode(record(wide({}, ts=time.isoformat()), timestamp_ns=2**63))
    assert accepted(found).time_ns == micros * 1000
