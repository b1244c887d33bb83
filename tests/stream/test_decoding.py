"""Every record becomes a reading or a reason; every output one message."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Contributor,
    DeadLetter,
    DriftRecord,
    FieldNames,
    FilledCell,
    FilledRow,
    Format,
    InputPartition,
    PartScore,
    Phase,
    Reading,
    Reason,
    Record,
    Rejected,
    ScoredRow,
    Severity,
    StreamSpec,
    iso,
)
from daemon.errors import ConfigError
from daemon.stream.decoding import OTHER, Decoder
from daemon.stream.encoding import DEAD_LETTER_BYTES, WHOLE_LETTER_BYTES, encode

SENSORS = ("Pressure", "Current", "Flow Rate")
WIDE = StreamSpec("pumps", SENSORS)
LONG = replace(WIDE, format=Format.JSON_LONG)
NOW_NS = 1_704_070_800 * SECOND_NS  # 2024-01-01T01:00:00Z
NOW = datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
PUMPS_0 = InputPartition("sensors.pumps", 0)


def record(value: bytes, key: bytes | None = None, timestamp_ns: int = NOW_NS) -> Record:
    return Record(7, key, value, timestamp_ns)


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def wide(values: Any, asset: Any = "p1", ts: Any = "2024-01-01T00:00:00Z", **more: Any) -> bytes:
    return line(asset=asset, ts=ts, values=values, **more)


def long(value: Any, sensor: Any = "Current", ts: Any = "2024-01-01T00:00:00Z", **more: Any) -> bytes:
    return line(asset="p1", sensor=sensor, ts=ts, value=value, **more)


def accepted(result: Reading | Rejected) -> Reading:
    assert isinstance(result, Reading), result
    return result


def refused(result: Reading | Rejected) -> tuple[Reason, str]:
    assert isinstance(result, Rejected), result
    return result.reason, result.detail


def shown(reading: Reading) -> tuple[object, ...]:
    """A reading as a value that can be compared (NaN equals itself in ``repr``)."""
    return (
        reading.offset,
        reading.asset,
        reading.time_ns,
        repr(reading.values),
        reading.sensor,
        repr(reading.value),
        reading.condition,
    )


# ------------------------------------------------------------------ what is read
def test_wide_record_gives_one_number_per_sensor_of_the_stream() -> None:
    reading = accepted(Decoder(WIDE).decode(record(wide({"Flow Rate": 3, "Pressure": 1.5}))))
    assert (reading.offset, reading.asset, reading.sensor) == (7, "p1", -1)
    assert reading.time_ns == 1_704_067_200 * SECOND_NS
    assert reading.values is not None
    assert reading.values[0] == 1.5
    assert math.isnan(reading.values[1])
    assert reading.values[2] == 3.0
    assert all(type(cell) is float for cell in reading.values)


def test_long_record_speaks_of_one_sensor() -> None:
    reading = accepted(Decoder(LONG).decode(record(long(2.25))))
    assert (reading.values, reading.sensor, reading.value) == (None, 1, 2.25)


CORRUPT = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"NaN"', '"error"', '""', '"12,34"', '"12.5"']
CORRUPT += ["true", "false", "[]", "[1]", "{}", "9" * 5000, '"\\ud800"']


@pytest.mark.parametrize("token", CORRUPT)
def test_corrupt_cell_is_missing_and_counted_and_its_neighbours_stay(token: str) -> None:
    decoder = Decoder(WIDE)
    text = wide({"Pressure": "?", "Current": 2}).decode().replace('"?"', token)
    reading = accepted(decoder.decode(record(text.encode())))
    assert repr(reading.values) == "[nan, 2.0, nan]"
    assert decoder.corrupt_cells == {"Pressure": 1}

    decoder = Decoder(LONG)
    text = long("?").decode().replace('"?"', token)
    reading = accepted(decoder.decode(record(text.encode())))
    assert (reading.sensor, repr(reading.value)) == (1, "nan")
    assert decoder.corrupt_cells == {"Current": 1}


def test_null_is_how_a_producer_says_that_it_has_no_value() -> None:
    decoder = Decoder(WIDE)
    assert repr(accepted(decoder.decode(record(wide({"Pressure": None})))).values) == "[nan, nan, nan]"
    assert repr(accepted(decoder.decode(record(wide({})))).values) == "[nan, nan, nan]"
    corrupt_too = wide({"Pressure": None, "Current": "x"})
    assert repr(accepted(decoder.decode(record(corrupt_too))).values) == "[nan, nan, nan]"
    assert decoder.corrupt_cells == {"Current": 1}


@pytest.mark.parametrize(
    ("asset", "expected"), [("Pumpe 1/ä", "Pumpe 1/ä"), (17, "17"), ("漢" * 85, "漢" * 85)]
)
def test_asset_is_text_and_a_whole_number_is_its_text(asset: object, expected: str) -> None:
    assert accepted(Decoder(WIDE).decode(record(wide({}, asset=asset)))).asset == expected


def test_repeated_key_counts_as_json_has_it_the_last_one() -> None:
    text = b'{"asset":"a","asset":"b","ts":1,"values":{"Current":1},"values":{"Current":2,"Current":3%s}}'
    for tail in (b"", b',"Pressure":NaN'):  # the fast way and the lenient one
        reading = accepted(Decoder(WIDE).decode(record(text % tail)))
        assert reading.asset == "b"
        assert repr(reading.values) == "[nan, 3.0, nan]"


def test_byte_order_mark_and_surrounding_white_space_are_skipped() -> None:
    text = b"\xef\xbb\xbf  " + wide({"Current": 1}) + b"\r\n"
    assert repr(accepted(Decoder(WIDE).decode(record(text))).values) == "[nan, 1.0, nan]"


def test_fields_can_be_renamed_and_taken_from_the_kafka_record() -> None:
    named = replace(WIDE, fields=FieldNames(asset="device.id", timestamp="t", values="data"))
    text = line(**{"device.id": "a", "t": 5, "data": {"Current": 1}})
    reading = accepted(Decoder(named).decode(record(text)))
    assert (reading.asset, reading.time_ns) == ("a", 5 * SECOND_NS)

    carried = replace(WIDE, fields=FieldNames(asset="$key", timestamp="$timestamp"))
    reading = accepted(Decoder(carried).decode(record(line(values={"Current": 1}), key="ä".encode())))
    assert (reading.asset, reading.time_ns) == ("ä", NOW_NS)

    keyed = replace(LONG, fields=FieldNames(sensor="$key"))
    text = line(asset="a", ts=5, value=1)
    assert accepted(Decoder(keyed).decode(record(text, key=b"Pressure"))).sensor == 0


@pytest.mark.parametrize(
    "fields",
    [
        FieldNames(values="$key"),
        FieldNames(timestamp="$key"),
        FieldNames(asset="$timestamp"),
        FieldNames(asset="id", timestamp="id"),
        FieldNames(asset="$kye"),
    ],
)
def test_field_names_that_cannot_work_are_refused_at_once(fields: FieldNames) -> None:
    with pytest.raises(ConfigError, match=r"^stream pumps: .*field"):
        Decoder(replace(WIDE, fields=fields))
    with pytest.raises(ConfigError, match="one name"):
        Decoder(replace(LONG, fields=FieldNames(asset="$key", sensor="$key")))


# ------------------------------------------------------------------ time
DAY = 1_704_067_200  # 2024-01-01T00:00:00Z


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
def test_what_is_not_a_time_is_refused(ts: object) -> None:
    reason, detail = refused(Decoder(WIDE).decode(record(wide({}, ts=ts))))
    assert reason is Reason.BAD_TIMESTAMP
    assert detail.isprintable()


@pytest.mark.parametrize("token", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 5000])
def test_number_tokens_that_are_not_a_time_are_refused(token: str) -> None:
    text = wide({}, ts="?").decode().replace('"?"', token).encode()
    assert refused(Decoder(WIDE).decode(record(text)))[0] is Reason.BAD_TIMESTAMP


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        ("2024-01-01T02:00:00Z", None),
        ("2024-01-01T02:00:00.000000001Z", Reason.FUTURE),
        ("9999-12-31T23:59:59-23:59", Reason.FUTURE),
        (10**11 - 1, Reason.FUTURE),
        (2**63 - 1, Reason.FUTURE),
    ],
)
def test_event_time_over_an_hour_ahead_of_its_record_is_future(ts: object, expected: Reason | None) -> None:
    result = Decoder(WIDE).decode(record(wide({}, ts=ts)))
    assert (result.reason if isinstance(result, Rejected) else None) is expected


def test_record_without_a_timestamp_cannot_say_what_the_future_is() -> None:
    decoder = Decoder(WIDE)
    assert accepted(decoder.decode(record(wide({}, ts=DAY), timestamp_ns=-1_000_000)))
    far = record(wide({}, ts="2999-01-01"), timestamp_ns=-1)
    assert refused(decoder.decode(far))[0] is Reason.BAD_TIMESTAMP
    carried = Decoder(replace(WIDE, fields=FieldNames(timestamp="$timestamp")))
    assert refused(carried.decode(record(wide({}), timestamp_ns=-1)))[0] is Reason.NO_TIMESTAMP
    absurd = record(wide({}), timestamp_ns=10**25)
    assert refused(carried.decode(absurd))[0] is Reason.BAD_TIMESTAMP
    assert (
        refused(decoder.decode(record(wide({}, ts=10**40), timestamp_ns=10**25)))[0] is Reason.BAD_TIMESTAMP
    )


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


def test_assets_to_forget_are_refused_by_name() -> None:
    decoder = Decoder(replace(WIDE, forget=frozenset({"pump-09"})))
    for asset, wanted in (("pump-09", Reason.FORGOTTEN), ("pump-08", None)):
        message = json.dumps({"asset": asset, "ts": 1, "values": {}}).encode()
        found = decoder.decode(Record(0, None, message, -1))
        assert (found.reason if isinstance(found, Rejected) else None) is wanted


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


# ------------------------------------------------------------------ what is refused
GOOD = wide({"Current": 1.0})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", Reason.BLANK),
        (b" ", Reason.BLANK),
        (b"\r\n\t ", Reason.BLANK),
        (b"\xef\xbb\xbf \n", Reason.BLANK),
        (b"x" * (10 << 20), Reason.TOO_LARGE),
        (wide({}, filler="x" * (10 << 20)), Reason.TOO_LARGE),
        (b'\xff\xfe\x00{"asset": "pump-01",', Reason.NOT_UTF8),
        (GOOD.decode().encode("utf-16"), Reason.NOT_UTF8),
        (GOOD.replace(b"p1", b"p\xe4"), Reason.NOT_UTF8),
        (GOOD.replace(b"{", b'{"skipped": "\xe4", ', 1), Reason.NOT_UTF8),
        (GOOD.replace(b"p1", b"\xed\xa0\x80"), Reason.NOT_UTF8),  # a surrogate, encoded
        (GOOD[:-1], Reason.NOT_JSON),
        (GOOD[:20], Reason.NOT_JSON),
        (GOOD + GOOD, Reason.NOT_JSON),
        (b"ERROR [sensor-gw] connection reset by peer", Reason.NOT_JSON),
        (b"{'asset': 'a'}", Reason.NOT_JSON),
        (b'{"a": \x00}', Reason.NOT_JSON),
        (b"[" * 100_000, Reason.TOO_DEEP),
        (b'{"a":' * 100_000, Reason.TOO_DEEP),
        (b'{"asset":"a","ts":1,"values":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.TOO_DEEP),
        (b"[1, 2, 3]", Reason.NOT_AN_OBJECT),
        (b"42", Reason.NOT_AN_OBJECT),
        (b'"text"', Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b"true", Reason.NOT_AN_OBJECT),
        (b"NaN", Reason.NOT_AN_OBJECT),
        (b"{}", Reason.NO_ASSET),
        (line(ts=1, values={}), Reason.NO_ASSET),
        (wide({}, asset=None), Reason.NO_ASSET),
        (wide({}, asset=""), Reason.BAD_ASSET),
        (wide({}, asset="  "), Reason.BAD_ASSET),
        (wide({}, asset=1.5), Reason.BAD_ASSET),
        (wide({}, asset=True), Reason.BAD_ASSET),
        (wide({}, asset=["a"]), Reason.BAD_ASSET),
        (wide({}, asset="a" * 10_000), Reason.BAD_ASSET),
        (wide({}, asset="漢" * 86), Reason.BAD_ASSET),
        (wide({}, asset="a\nb"), Reason.BAD_ASSET),
        (wide({}, asset="a\x1b[31m"), Reason.BAD_ASSET),
        (wide({}, asset="a\u2028b"), Reason.BAD_ASSET),
        (wide({}, asset="a\u202eb"), Reason.BAD_ASSET),
        (wide({}, asset="\ud800"), Reason.BAD_ASSET),
        (line(asset="a", values={}), Reason.NO_TIMESTAMP),
        (wide({}, ts=None), Reason.NO_TIMESTAMP),
        (wide({}, ts="tomorrow"), Reason.BAD_TIMESTAMP),
        (wide({}, ts="2031-01-01T00:00:00Z"), Reason.FUTURE),
        (line(asset="a", ts=1), Reason.NO_VALUES),
        (wide(None), Reason.NO_VALUES),
        (wide([1, 2]), Reason.NO_VALUES),
        (wide(3), Reason.NO_VALUES),
        (wide({"pressure": 1}), Reason.UNKNOWN_SENSOR),
        (wide({"\ud800": 1}), Reason.UNKNOWN_SENSOR),
    ],
)
def test_bad_wide_record_has_its_reason(value: bytes, expected: Reason) -> None:
    source = record(value)
    found = Decoder(WIDE).decode(source)
    reason, detail = refused(found)
    assert reason is expected
    assert isinstance(found, Rejected)
    assert found.record is source
    assert 0 < len(detail) <= 200
    assert detail.isascii()
    assert detail.isprintable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (line(asset="p1", ts=1, value=1), Reason.NO_SENSOR),
        (long(1, sensor=None), Reason.NO_SENSOR),
        (long(1, sensor="pressure"), Reason.UNKNOWN_SENSOR),
        (long(1, sensor=3), Reason.UNKNOWN_SENSOR),
        (long(1, sensor=1.5), Reason.UNKNOWN_SENSOR),
        (long(1, sensor=["Current"]), Reason.UNKNOWN_SENSOR),
        (line(asset="p1", ts=1, sensor="Current"), Reason.NO_VALUES),
        (line(asset="p1", ts=1, sensor="Current", values={"Current": 1}), Reason.NO_VALUES),
    ],
)
def test_bad_long_record_has_its_reason(value: bytes, expected: Reason) -> None:
    assert refused(Decoder(LONG).decode(record(value)))[0] is expected


def test_bad_or_missing_record_key_has_its_reason() -> None:
    carried = Decoder(replace(WIDE, fields=FieldNames(asset="$key")))
    assert refused(carried.decode(record(GOOD))) == (Reason.NO_ASSET, "no record key")
    assert refused(carried.decode(record(GOOD, key=b"\xff")))[0] is Reason.BAD_ASSET
    assert refused(carried.decode(record(GOOD, key=b"")))[0] is Reason.BAD_ASSET
    keyed = Decoder(replace(LONG, fields=FieldNames(sensor="$key")))
    assert refused(keyed.decode(record(line(asset="a", ts=1, value=1)))) == (
        Reason.NO_SENSOR,
        "no record key",
    )
    assert refused(keyed.decode(record(long(1), key=b"\xff")))[0] is Reason.UNKNOWN_SENSOR


def test_unknown_sensor_is_told_with_the_nearest_known() -> None:
    for decoder, value in ((Decoder(WIDE), wide({"Presure": 1})), (Decoder(LONG), long(1, sensor="Presure"))):
        for _ in range(2):
            _, detail = refused(decoder.decode(record(value)))
            assert detail == "unknown sensor 'Presure'; the nearest known is 'Pressure'"
        assert decoder.unknown_sensors == {"Presure": 2}
    assert refused(Decoder(WIDE).decode(record(wide({"zzz": 1}))))[1] == "unknown sensor 'zzz'"


def test_unknown_sensor_beside_known_ones_is_counted_and_ignored() -> None:
    decoder = Decoder(WIDE)
    assert (
        repr(accepted(decoder.decode(record(wide({"Current": 1, "extra": 2})))).values) == "[nan, 1.0, nan]"
    )
    assert (
        repr(accepted(decoder.decode(record(wide({"Current": None, "extra": "x"})))).values)
        == "[nan, nan, nan]"
    )
    assert decoder.unknown_sensors == {"extra": 2}
    assert not decoder.corrupt_cells


def test_ever_new_sensor_names_take_bounded_memory() -> None:
    decoder = Decoder(WIDE)
    for i in range(1000):
        refused(decoder.decode(record(wide({f"s{i}": 1}))))
    refused(decoder.decode(record(wide({"x" * 100_000: 1}))))
    assert decoder.unknown_sensors.total() == 1001
    assert decoder.unknown_sensors[OTHER] > 500
    assert len(decoder.unknown_sensors) <= 257
    assert max(map(len, decoder.unknown_sensors)) <= 256


# ------------------------------------------------------------------ condition
MODED = replace(
    WIDE, condition=("mode", "load"), assets={"p1": {"mode": "A", "load": "50"}, "p2": {"load": "9"}}
)


@pytest.mark.parametrize(
    ("asset", "told", "expected"),
    [
        ("p1", None, "mode=A,load=50"),
        ("p1", {"mode": "B"}, "mode=B,load=50"),
        ("p1", {"load": 3, "mode": True, "other": []}, "mode=true,load=3"),
        ("p1", {"load": 3.0, "mode": False}, "mode=false,load=3"),
        ("p1", {"load": 3.5, "mode": 1e300}, "mode=1e+300,load=3.5"),
        ("p2", {}, "mode=?,load=9"),
        ("p3", {"mode": None}, "mode=?,load=?"),
    ],
)
def test_condition_label(asset: str, told: object, expected: str) -> None:
    more = {} if told is None else {"condition": told}
    assert accepted(Decoder(MODED).decode(record(wide({}, asset=asset, **more)))).condition == expected


def test_the_calendars_fields_are_no_business_of_messages() -> None:
    both = replace(MODED, condition=("$hour", "mode", "$weekday", "load"))
    told = wide({}, condition={"mode": "B", "$hour": "99"})
    assert accepted(Decoder(both).decode(record(told))).condition == "mode=B,load=50"
    alone = replace(MODED, condition=("$hour",))
    assert accepted(Decoder(alone).decode(record(wide({}, condition=["whatever"])))).condition == ""


@pytest.mark.parametrize(
    "told", ["A", 1, ["A"], {"mode": []}, {"mode": {}}, {"mode": "a\nb"}, {"mode": "x" * 257}]
)
def test_bad_condition_is_refused(told: object) -> None:
    value = record(wide({}, condition=told))
    assert refused(Decoder(MODED).decode(value))[0] is Reason.BAD_CONDITION
    assert accepted(Decoder(WIDE).decode(value)).condition == ""  # a stream without conditions looks at none


def test_condition_that_is_no_number_is_refused_and_a_printable_oddity_is_not() -> None:
    text = wide({}, condition={"mode": "?"}).replace(b'"?"', b"NaN")
    assert refused(Decoder(MODED).decode(record(text)))[0] is Reason.BAD_CONDITION
    odd = wide({}, asset="a\u00a0b", condition={"mode": "x\u00a0y"})  # no-break space: harmless
    assert accepted(Decoder(MODED).decode(record(odd))).condition == "mode=x\u00a0y,load=?"


# ------------------------------------------------------------------ any input at all
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=8)
    | st.sampled_from(["2024-01-01T00:00:00Z", "p1", "Current", DAY, DAY * 1000, 1e999]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SENSORS, "x", "mode"]) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "asset": JSON | st.just("p1"),
        "ts": JSON | st.just(DAY),
        "values": st.dictionaries(st.sampled_from(SENSORS), JSON) | JSON,
        "sensor": JSON | st.just("Current"),
        "value": JSON,
        "condition": st.dictionaries(st.sampled_from(["mode", "load"]), JSON) | JSON,
    },
)
SPECS = [WIDE, LONG, MODED, replace(WIDE, fields=FieldNames(asset="$key", timestamp="$timestamp"))]
DECODERS = [Decoder(spec) for spec in SPECS]


def check(value: bytes, key: bytes | None, timestamp_ns: int) -> None:
    for decoder in DECODERS:
        source = record(value, key, timestamp_ns)
        found = decoder.decode(source)
        if isinstance(found, Rejected):
            assert found.record is source
            assert len(found.detail) <= 200
            assert found.detail.isprintable()
        else:
            assert 0 <= found.time_ns < 2**63
            assert 0 < len(found.asset.encode()) <= 256
            cells = [found.value] if found.values is None else found.values
            assert all(type(cell) is float and not math.isinf(cell) for cell in cells)
            assert (found.sensor >= 0) == (found.values is None)
            if found.values is not None:
                assert len(found.values) == len(SENSORS)


@given(st.binary(), st.none() | st.binary(), st.integers(-(2**63), 2**63))
def test_no_bytes_raise(value: bytes, key: bytes | None, timestamp_ns: int) -> None:
    check(value, key, timestamp_ns)


@given(MESSAGES | JSON, st.none() | st.binary(max_size=4))
def test_no_json_raises(message: Any, key: bytes | None) -> None:
    check(json.dumps(message).encode(), key, NOW_NS)


@given(MESSAGES, st.integers(0, 300), st.binary(min_size=1, max_size=3))
def test_no_damaged_json_raises(message: Any, at: int, damage: bytes) -> None:
    text = json.dumps(message, ensure_ascii=True).encode()
    check(text[:at] + damage + text[at + 1 :], None, NOW_NS)


@given(MESSAGES)
def test_fast_and_lenient_way_agree(message: Any) -> None:
    value = json.dumps(message).encode()
    for spec in SPECS[:3]:
        fast = Decoder(spec).decode(record(value))
        # A leading byte order mark is refused by msgspec, so that json reads the same message.
        slow = Decoder(spec).decode(record(b"\xef\xbb\xbf" + value))
        if isinstance(fast, Reading):
            assert shown(fast) == shown(accepted(slow))
        else:
            assert refused(fast) == refused(slow)


@given(
    st.dictionaries(st.sampled_from(SENSORS), st.floats(allow_nan=False, allow_infinity=False)),
    st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=64),
)
def test_round_trip(values: dict[str, float], asset: str) -> None:
    reading = accepted(Decoder(WIDE).decode(record(wide(values, asset=asset))))
    assert reading.asset == asset
    assert reading.values is not None
    assert {s: v for s, v in zip(SENSORS, reading.values, strict=True) if v == v} == values
    for sensor, value in values.items():
        one = accepted(Decoder(LONG).decode(record(long(value, sensor=sensor))))
        assert (SENSORS[one.sensor], one.value) == (sensor, value)


# ------------------------------------------------------------------ outputs
ROW_NS = DAY * SECOND_NS + 15 * SECOND_NS


def alert(**changes: Any) -> AlertEvent:
    opened = AlertEvent(
        stream="pumps",
        asset="pump-01",
        kind=AlertKind.ANOMALY,
        phase=Phase.OPENED,
        severity=Severity.WARNING,
        fingerprint="f00",
        id="f00-opened",
        row_ns=ROW_NS,
        onset_ns=ROW_NS - SECOND_NS,
        opened_ns=ROW_NS,
        model="5f3a9c1e",
        calibration="full",
        summary="Pressure is high",
        scores={"kl": PartScore(9.5, 3.25, 1e-5), "combined": PartScore(7.5, 5.5)},
        contributors=[
            Contributor("Pressure", 0.91, 0.38, 0.61),
            Contributor("Current", None, math.nan, 0.39),
        ],
        window_start_ns=DAY * SECOND_NS,
        window_steps=16,
        imputed_share=0.25,
        partition=PUMPS_0,
        first_offset=10,
        last_offset=73,
    )
    return replace(opened, **changes)


def body(message: bytes) -> Any:
    def impossible(token: str) -> None:
        raise AssertionError(token)

    return json.loads(message, parse_constant=impossible)


def test_alert_is_a_structured_cloud_event() -> None:
    message = encode(alert(), NOW)
    assert (message.topic, message.key) == ("alerts", b"pump-01")
    assert dict(message.headers)["content-type"].startswith(b"application/cloudevents+json")
    event = body(message.value)
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": "f00-opened",
        "type": "io.anomalyd.episode.opened.v1",
        "source": "/anomalyd/pumps",
        "subject": "pump-01",
        "time": "2024-05-01T12:00:00.250Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:anomalyd:schema:anomaly-event:1",
    }
    assert data == {
        "fingerprint": "f00",
        "status": "firing",
        "severity": "warning",
        "kind": "anomaly",
        "scores": {
            "kl": {"value": 9.5, "threshold": 3.25, "p": 1e-5},
            "combined": {"value": 7.5, "threshold": 5.5},
        },
        "model": {"version": "5f3a9c1e", "calibration": "full"},
        "window": {
            "start": "2024-01-01T00:00:00Z",
            "end": "2024-01-01T00:00:15Z",
            "steps": 16,
            "imputed_share": 0.25,
        },
        "contributors": [
            {"sensor": "Pressure", "observed": 0.91, "expected": 0.38, "share": 0.61},
            {"sensor": "Current", "observed": None, "expected": None, "share": 0.39},
        ],
        "row": "2024-01-01T00:00:15Z",
        "onset": "2024-01-01T00:00:14Z",
        "opened": "2024-01-01T00:00:15Z",
        "origin": {"topic": "sensors.pumps", "partition": 0, "first_offset": 10, "last_offset": 73},
        "labels": {"stream": "pumps", "asset": "pump-01", "kind": "anomaly"},
        "annotations": {"summary": "Pressure is high"},
    }


def test_closing_alert_without_a_window_leaves_out_what_it_does_not_know() -> None:
    changes: dict[str, Any] = {"kind": AlertKind.SENSOR_SILENT, "sensor": "Pressure", "phase": Phase.CLOSED}
    changes |= {"window_start_ns": None, "partition": None, "scores": {}, "contributors": ()}
    event = body(encode(alert(**changes), NOW).value)
    assert event["type"] == "io.anomalyd.episode.closed.v1"
    data = event["data"]
    assert (data["status"], data["sensor"], data["labels"]["sensor"]) == ("resolved", "Pressure", "Pressure")
    assert data.keys().isdisjoint({"window", "origin"})


def test_filled_and_scored_rows_have_the_documented_shape() -> None:
    filled = FilledRow("pumps", "ä", ROW_NS, {"Current": FilledCell(1.0, 0.5, 1.5)}, "vae", "m1")
    message = encode(filled, NOW)
    assert (message.topic, message.key) == ("imputed", "ä".encode())
    assert body(message.value) == {
        "asset": "ä",
        "timestamp": "2024-01-01T00:00:15Z",
        "values": {"Current": {"value": 1.0, "low": 0.5, "high": 1.5}},
        "method": "vae",
        "model": "m1",
    }
    scored = ScoredRow("pumps", "a", ROW_NS, math.nan, 1.0, math.inf, 3.0, -4.0, False, "m1", 0.5)
    message = encode(scored, NOW)
    assert (message.topic, message.key) == ("scores", b"a")
    assert dict(message.headers)["stream"] == b"pumps"
    assert body(message.value) == {
        "asset": "a",
        "timestamp": "2024-01-01T00:00:15Z",
        "score": None,
        "reconstruction": 1.0,
        "kl": None,
        "point": 3.0,
        "elbo": -4.0,
        "alarm": False,
        "model": "m1",
        "static_score": 0.5,
    }


def test_drift_record_has_sums_divergences_and_a_verdict() -> None:
    sums: dict[str, Any] = {"latent_sum": (1.0,), "latent_square_sum": (2.0,), "residual_count": (3, 0)}
    sums |= {"residual_sum": (1.0, 0.0), "residual_square_sum": (1.0, 0.0), "kl_sum": 4.5}
    found = DriftRecord(
        "pumps",
        PUMPS_0,
        DAY * SECOND_NS,
        (DAY + 3600) * SECOND_NS,
        "m1",
        windows=3,
        latent_kl=(0.5,),
        residual_kl=(0.25, math.nan),
        latent_threshold=1.0,
        residual_threshold=2.0,
        verdict="ok",
        **sums,
    )
    message = encode(found, NOW)
    assert (message.topic, message.key) == ("drift", b"pumps")
    told = body(message.value)
    assert (told["start"], told["end"]) == ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z")
    assert (told["verdict"], told["windows"], told["kl_nats_sum"]) == ("ok", 3, 4.5)
    assert told["latent"] == {
        "kl_nats": [0.5],
        "kl_nats_total": 0.5,
        "threshold_nats": 1.0,
        "sum": [1.0],
        "square_sum": [2.0],
    }
    assert told["residual"]["kl_nats"] == [0.25, None]
    assert told["residual"]["kl_nats_total"] == 0.25
    assert told["residual"]["count"] == [3, 0]


def dead_letter(value: bytes, key: bytes | None = b"k", timestamp_ns: int = NOW_NS) -> DeadLetter:
    rejected = Rejected(record(value, key, timestamp_ns), Reason.NOT_JSON, "Expecting value at character 0")
    return DeadLetter("pumps", PUMPS_0, rejected)


def test_dead_letter_keeps_bytes_and_key_and_says_where_and_why() -> None:
    message = encode(dead_letter(b"\xff\x00 garbage"), NOW)
    assert (message.topic, message.key, message.value) == ("dead-letter", b"k", b"\xff\x00 garbage")
    assert dict(message.headers) == {
        "reason": b"not_json",
        "detail": b"Expecting value at character 0",
        "stream": b"pumps",
        "origin-topic": b"sensors.pumps",
        "origin-partition": b"0",
        "origin-offset": b"7",
        "origin-timestamp": b"2024-01-01T01:00:00Z",
        "length": b"10",
    }
    assert encode(dead_letter(b"", None), NOW).key is None
    assert dict(encode(dead_letter(b"", timestamp_ns=-1), NOW).headers)["origin-timestamp"] == b""
    assert (
        dict(encode(dead_letter(b"", timestamp_ns=10**25), NOW).headers)["origin-timestamp"]
        == b"1" + b"0" * 25
    )


def test_long_dead_letter_is_cut_and_vouched_for() -> None:
    whole = bytes(range(256)) * 4_000
    message = encode(dead_letter(whole, key=whole), NOW)
    headers = dict(message.headers)
    assert message.value == message.key == whole[:DEAD_LETTER_BYTES]
    assert headers["length"] == headers["key-length"] == str(len(whole)).encode()
    assert headers["sha256"] == headers["key-sha256"] == hashlib.sha256(whole).hexdigest().encode()
    longest = whole[:WHOLE_LETTER_BYTES]
    exact = encode(dead_letter(longest), NOW)
    assert exact.value == longest
    assert "sha256" not in dict(exact.headers)
    # With its headers it fits what Kafka takes by default.
    assert len(exact.value) + sum(len(k) + len(v) for k, v in exact.headers) < 1_048_588 - 1_000


OUTPUTS: list[Callable[[], Any]] = [alert, lambda: dead_letter(b"x")]


@pytest.mark.parametrize("output", OUTPUTS)
def test_wall_clock_is_told_nowhere_but_in_time(output: Callable[[], Any]) -> None:
    first, second = encode(output(), NOW), encode(output(), NOW + timedelta(days=1))
    assert first.headers == second.headers
    assert first.value.replace(b"2024-05-01T12", b"2024-05-02T12") == second.value


# ------------------------------------------------------------------ many lines at once
def odd_lines() -> list[tuple[bytes, int]]:
    """One line of each kind that is not as usual, with its record's timestamp; None is Kafka's own."""
    good = {"Pressure": 1.5, "Current": 2, "Flow Rate": None}
    stamps = [-1, NOW_NS, 0, NOW_NS - 2 * 3600 * SECOND_NS, 2**62]
    times: list[Any] = ["1969-12-31T23:59:59Z", "2300-01-01T00:00:00Z", "soon", 5, 1.7e9, None, [], "x" * 300]
    texts = [
        *(wide(good, ts=ts) for ts in times),
        *(wide(good, asset=asset) for asset in (3, None, "", "\u00e9t\u00e9", "a\tb", "p" * 300, ["p1"])),
        *(
            wide(values)
            for values in ({}, None, 3, {"Pressure": "NaN"}, {"Elsewhere": 1}, good | {"more": 1})
        ),
        *(b"", b"{", b"null", b"[1]", b"\xff", b'{"asset":"p1"}', wide({"Pressure": 1e999}), b"x" * 3000),
        wide({"Pressure": 10**400}),
        wide(good, note="x" * 3000),
        wide(good)[:-1] + b', "note": "\xff"}',
        wide(good, note="\u00fc"),
        *(wide(good, asset=f"pump {i}", ts=f"2024-01-01T00:00:{i:02}Z") for i in range(5)),
    ]
    return [(text, NOW_NS) for text in texts] + [(wide(good), stamp) for stamp in stamps]


ODD = odd_lines()
USUAL = [(wide({"Pressure": 0.5 * i, "Current": -i, "Flow Rate": 1e-9}), NOW_NS) for i in range(8)]


@pytest.mark.parametrize("odd", range(len(ODD)))
def test_one_odd_line_among_usual_ones_is_decoded_as_it_is_alone(odd: int) -> None:
    lines = [USUAL[i % len(USUAL)] for i in range(300)]
    assert_decoded_alike([*lines[:150], ODD[odd], *lines[150:]])


@given(st.integers(0, 300), st.lists(st.tuples(st.integers(0, 300), st.sampled_from(ODD)), max_size=4))
def test_lines_are_decoded_at_once_as_they_are_alone(
    count: int, odd: list[tuple[int, tuple[bytes, int]]]
) -> None:
    lines = [USUAL[i % len(USUAL)] for i in range(count)]
    for place, one in odd:
        lines.insert(place, one)
    assert_decoded_alike(lines)


def assert_decoded_alike(lines: list[tuple[bytes, int]]) -> None:
    records = [Record(i, None, value, stamp) for i, (value, stamp) in enumerate(lines)]
    alone, together = Decoder(WIDE, max_bytes=2000), Decoder(WIDE, max_bytes=2000)
    expected = [alone.decode(item) for item in records]
    found, rejected = together.decode_lines(records)
    readings = [item for item in expected if isinstance(item, Reading)]
    assert [(r.record.offset, r.reason, r.detail) for r in rejected] == [
        (r.record.offset, r.reason, r.detail) for r in expected if isinstance(r, Rejected)
    ]
    assert len(found) == len(readings)
    for i, reading in enumerate(readings):
        assert shown(replace_values(found.reading(i))) == shown(replace_values(reading))
    assert found.values.shape == (len(readings), len(SENSORS))
    assert together.corrupt_cells == alone.corrupt_cells
    assert together.unknown_sensors == alone.unknown_sensors


def replace_values(reading: Reading) -> Reading:
    """The same with a list of floats for whatever sequence of numbers it has."""
    assert reading.values is not None
    values = [float(cell) for cell in reading.values]
    return Reading(reading.offset, reading.asset, reading.time_ns, values, condition=reading.condition)


def test_readings_pass_through_in_their_places() -> None:
    reading = Reading(1, "p2", 5, [1.0, 2.0, 3.0])
    found, _ = Decoder(WIDE).decode_lines([record(USUAL[0][0]), reading, record(USUAL[1][0])])
    assert found.assets == ["p1", "p2", "p1"]
    assert found.values[1].tolist() == [1.0, 2.0, 3.0]


class Noting(Decoder):
    """Counts the lines that are looked at alone."""

    alone = 0

    def decode(self, record: Record) -> Reading | Rejected:
        self.alone += 1
        return super().decode(record)


def test_lines_of_a_large_fleet_are_taken_together_and_name_each_asset_by_one_string() -> None:
    records = [record(wide(dict.fromkeys(SENSORS, 1.0), asset=f"pump-{i:05}")) for i in range(20_000)]
    decoder = Noting(WIDE)
    first, _ = decoder.decode_lines(records)
    decoder.alone = 0
    again, _ = decoder.decode_lines(records)
    assert decoder.alone == 0
    assert all(one is other for one, other in zip(first.assets, again.assets, strict=True))


def test_ever_new_assets_make_a_decoder_forget_and_nothing_else() -> None:
    decoder = Decoder(WIDE, assets_kept=50)
    for i in range(500):
        lines, _ = decoder.decode_lines([record(wide(dict.fromkeys(SENSORS, 1.0), asset=f"p{i}"))])
        assert lines.assets == [f"p{i}"]
        assert len(decoder._sound) <= 50
