"""Every record becomes a reading or a rejection, one by one or as columns."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
    FieldNames,
    Reading,
    Reason,
    Record,
    Rejected,
)
from daemon.stream.decoding import Decoder
from tests.stream.records import (
    DAY,
    GOOD,
    LONG,
    MODED,
    NOW_NS,
    SENSORS,
    WIDE,
    accepted,
    line,
    long,
    record,
    refused,
    shown,
    wide,
)


def test_wide_record_gives_one_number_per_sensor_of_the_stream() -> None:
    reading = accepted(Decoder(WIDE).decode(record(wide({"Flow Rate": 3, "Pressure": 1.5}))))
    assert (reading.offset, reading.asset, reading.sensor) == (7, "p1", -1)
    assert reading.time_ns == 1_704_067_200 * SECOND_NS
    assert reading.values is not None
    assert reading.values[0] == 1.5
    assert math.isnan(reading.values[1])
    assert reading.values[2] == 3.0
    assert all(type(cell) is float for cell in reading.values)


def test_long_record_is_of_one_sensor() -> None:
    reading = accepted(Decoder(LONG).decode(record(long(2.25))))
    assert (reading.values, reading.sensor, reading.value) == (None, 1, 2.25)


CORRUPT = ["Infinity", "-Infinity", "1e999", "-1e999", '"error"', '"Infinity"', '"12:34"', '"1.2.3"']
CORRUPT += ["[]", "[1]", "{}", "9" * 5000, '"\\ud800"']


@pytest.mark.parametrize(
    ("token", "number"),
    [
        ('"12.5"', 12.5),
        ('"12,34"', 12.34),
        ('" 7 "', 7.0),
        ("true", 1.0),
        ("false", 0.0),
        ("NaN", None),
        ('"NaN"', None),
        ('""', None),
        ('"n/a"', None),
    ],
)
def test_what_stands_for_a_number_or_for_none_is_read_without_a_fault(
    token: str, number: float | None
) -> None:
    decoder = Decoder(WIDE)
    text = wide({"Pressure": "?", "Current": 2}).decode().replace('"?"', token)
    reading = accepted(decoder.decode(record(text.encode())))
    assert repr(reading.values) == repr([math.nan if number is None else number, 2.0, math.nan])
    assert not decoder.corrupt_cells


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


def test_null_is_missing_and_not_counted_as_corrupt() -> None:
    decoder = Decoder(WIDE)
    assert repr(accepted(decoder.decode(record(wide({"Pressure": None})))).values) == "[nan, nan, nan]"
    assert repr(accepted(decoder.decode(record(wide({})))).values) == "[nan, nan, nan]"
    corrupt_too = wide({"Pressure": None, "Current": "x"})
    assert repr(accepted(decoder.decode(record(corrupt_too))).values) == "[nan, nan, nan]"
    assert decoder.corrupt_cells == {"Current": 1}


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


def test_a_record_without_a_timestamp_allows_any_event_time() -> None:
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
def test_one_unusual_record_among_usual_ones_is_decoded_as_alone(odd: int) -> None:
    lines = [USUAL[i % len(USUAL)] for i in range(300)]
    assert_decoded_alike([*lines[:150], ODD[odd], *lines[150:]])


@given(st.integers(0, 300), st.lists(st.tuples(st.integers(0, 300), st.sampled_from(ODD)), max_size=4))
def test_records_are_decoded_together_as_they_are_alone(
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
    found, rejected = together.decode_batch(records)
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
    found, _ = Decoder(WIDE).decode_batch([record(USUAL[0][0]), reading, record(USUAL[1][0])])
    assert found.assets == ["p1", "p2", "p1"]
    assert found.values[1].tolist() == [1.0, 2.0, 3.0]


class Noting(Decoder):
    """Counts the lines that are looked at alone."""

    alone = 0

    def decode(self, record: Record) -> Reading | Rejected:
        self.alone += 1
        return super().decode(record)


def test_records_of_a_large_fleet_are_decoded_together_with_one_string_per_asset() -> None:
    records = [record(wide(dict.fromkeys(SENSORS, 1.0), asset=f"pump-{i:05}")) for i in range(20_000)]
    decoder = Noting(WIDE)
    first, _ = decoder.decode_batch(records)
    decoder.alone = 0
    again, _ = decoder.decode_batch(records)
    assert decoder.alone == 0
    assert all(one is other for one, other in zip(first.assets, again.assets, strict=True))
