"""Avro: what each type becomes, what schemas are refused, and that hostile bytes end in a rejection."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.stream.decode.avro import avro_reader
from daemon.stream.decode.schemas import Schema, UnusableSchemaError
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import event_time_ns
from tests.stream.decode.framings import PUMP, avro, reason_of, text_of


def read(schema: Any, value: bytes, *references: Any) -> Any:
    """The tree of a message."""
    return avro_reader(Schema("AVRO", text_of(schema), tuple(map(text_of, references))))(value)


def field(type: Any) -> dict[str, Any]:
    """A record of one field."""
    return {"type": "record", "name": "R", "fields": [{"name": "x", "type": type}]}


def logical(base: str, kind: str, **more: Any) -> dict[str, Any]:
    """A logical type."""
    return {"type": base, "logicalType": kind, **more}


@pytest.mark.parametrize(
    ("type", "sent", "tree"),
    [
        ("long", 2**63 - 1, 2**63 - 1),
        ("double", 81.4, 81.4),
        (["null", "double"], None, None),
        (["null", "double"], 4.02, 4.02),
        (["null", "double", "string"], "n/a", "n/a"),
        ({"type": "enum", "name": "S", "symbols": ["RUN", "STOP"]}, "STOP", "STOP"),
        ("bytes", b"\x00\xff", b"\x00\xff"),
        ({"type": "fixed", "name": "F", "size": 2}, b"\x01\x02", b"\x01\x02"),
        ({"type": "map", "values": "int"}, {"a b": 1}, {"a b": 1}),
        ({"type": "array", "items": ["null", "float"]}, [1.5, None], [1.5, None]),
        (logical("long", "timestamp-millis"), 1764397200123, 1764397200123),
        (logical("long", "timestamp-micros"), 1764397200123456, 1764397200123456),
        (logical("long", "timestamp-nanos"), 1764397200123456789, 1764397200123456789),
        (logical("long", "local-timestamp-millis"), 1764397200123, "2025-11-29T06:20:00.123"),
        (logical("long", "local-timestamp-micros"), -1, "1969-12-31T23:59:59.999999"),
        (logical("long", "local-timestamp-nanos"), 1764397200123456789, "2025-11-29T06:20:00.123456789"),
        (logical("long", "local-timestamp-millis"), 2**62, 2**62),
        (logical("int", "date"), 20421, "2025-11-29"),
        (logical("int", "date"), 2**31 - 1, 2**31 - 1),
        (logical("int", "time-millis"), 22_800_123, "06:20:00.123000"),
        (logical("long", "time-micros"), 22_800_000_001, "06:20:00.000001"),
        (logical("long", "time-micros"), 86_400_000_000, 86_400_000_000),
        (logical("string", "uuid"), "some text", "some text"),
        (
            logical("fixed", "uuid", name="U", size=16),
            bytes(15) + b"\x07",
            "00000000-0000-0000-0000-000000000007",
        ),
        (logical("bytes", "decimal", precision=9, scale=2), b"\x01\x92", 4.02),
        (logical("bytes", "decimal", precision=9), b"\xff", -1),
        (logical("fixed", "decimal", name="D", size=2, precision=4, scale=1), b"\xff\x85", -12.3),
        (logical("long", "of-another-world"), 5, 5),
    ],
)
def test_a_type_becomes_what_the_layers_above_read(type: Any, sent: object, tree: object) -> None:
    assert read(field(type), avro(field(type), {"x": sent})) == {"x": tree}


def test_a_nested_record_with_named_types_is_a_tree() -> None:
    schema = {
        "type": "record",
        "name": "Line",
        "namespace": "plant",
        "fields": [
            {"name": "at", "type": logical("long", "timestamp-micros")},
            {
                "name": "motor",
                "type": {"type": "record", "name": "Motor", "fields": [{"name": "rpm", "type": "int"}]},
            },
            {"name": "others", "type": {"type": "array", "items": "plant.Motor"}},
        ],
    }
    tree = {"at": 1764397200123456, "motor": {"rpm": 1480}, "others": [{"rpm": 7}, {"rpm": 8}]}
    assert read(schema, avro(schema, tree)) == tree


def test_a_schema_may_refer_to_others() -> None:
    motor = {
        "type": "record",
        "name": "Motor",
        "namespace": "plant",
        "fields": [{"name": "rpm", "type": "int"}],
    }
    line = {"type": "record", "name": "Line", "fields": [{"name": "motor", "type": "plant.Motor"}]}
    assert read(line, b"\x0e", motor) == {"motor": {"rpm": 7}}
    with pytest.raises(UnusableSchemaError, match=r"'plant.Motor' is no type"):
        read(line, b"\x0e")


@given(st.integers(100_000_001, 4_000_000_000), st.integers(0, 999_999))
def test_times_are_read_exactly(seconds: int, micros: int) -> None:
    """An epoch number of any unit gives the same instant, from March 1973 on."""
    for name, units in (("millis", 10**3), ("micros", 10**6), ("nanos", 10**9)):
        sent = seconds * units + micros * units // 10**6
        schema = field(logical("long", f"timestamp-{name}"))
        found = read(schema, avro(schema, {"x": sent}))["x"]
        assert event_time_ns(found) == sent * (10**9 // units)
        local = field(logical("long", f"local-timestamp-{name}"))
        assert event_time_ns(read(local, avro(local, {"x": sent}))["x"]) == sent * (10**9 // units)


@given(st.decimals(-(10**12), 10**12, places=4))
def test_a_decimal_is_the_nearest_number(number: Decimal) -> None:
    unscaled = int(number.scaleb(4))
    sent = unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
    schema = field(logical("bytes", "decimal", precision=20, scale=4))
    assert read(schema, avro(schema, {"x": sent})) == {"x": float(number)}


def test_a_decimal_beyond_every_number_is_infinite() -> None:
    schema = field(logical("bytes", "decimal", precision=400, scale=2))
    for sign, sent in ((1, b"\x7f" + bytes(200)), (-1, b"\x80" + bytes(200))):
        found = read(schema, avro(schema, {"x": sent}))["x"]
        assert math.isinf(found)
        assert found * sign > 0


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ("no JSON", "not JSON"),
        ('{"type": "record"}', "no Avro schema"),
        ('{"type": "recordd", "name": "R"}', "'recordd' is no type"),
        ('{"type": "enum", "name": "E"}', "no Avro schema"),
        ("3", "3 is no type"),
        (
            '{"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}',
            "'N' contains itself",
        ),
        (
            '{"type": "record", "name": "N", "namespace": "p", "fields": [{"name": "n", "type": {"type": "array",'
            ' "items": "p.N"}}]}',
            "'p.N' contains itself",
        ),
        ('{"type": "array", "items": "null"}', "take no bytes"),
        ('{"type": "array", "items": {"type": "record", "name": "E", "fields": []}}', "take no bytes"),
        ('{"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}', "take no bytes"),
        ('{"type": "bytes", "logicalType": "decimal", "scale": 100000}', "a decimal of scale 100000"),
        ('{"type": "bytes", "logicalType": "decimal", "scale": "2"}', "a decimal of scale '2'"),
        ("[" * 100 + '"null"' + "]" * 100, "nested over 64 deep"),
        ("[" * 100_000, "not JSON"),
        ('["int"' + ', "int"' * 30_000 + "]", "over 20000 parts"),
    ],
)
def test_a_schema_that_is_none_or_that_cannot_be_survived_is_refused(schema: str, says: str) -> None:
    with pytest.raises(UnusableSchemaError, match=says):
        avro_reader(Schema("AVRO", schema))


def test_a_primitive_may_stand_alone() -> None:
    assert avro_reader(Schema("AVRO", '"double"'))(struct.pack("<d", 4.5)) == 4.5
    assert avro_reader(Schema("AVRO", " double "))(struct.pack("<d", 4.5)) == 4.5


BODY = avro(PUMP, {"asset": "pump-1", "ts": 1764397200000, "temperature": 81.5, "pressure": None})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"", "it ends too early"),
        (BODY[:-3], "it ends too early"),
        (BODY + b"\x00", "1 bytes are left"),
        (b"\x02\xff", "no Avro of this schema"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "it ends too early"),
        (b"\xff" * 30, "no Avro of this schema"),
    ],
)
def test_bytes_of_another_schema_are_refused(value: bytes, says: str) -> None:
    with pytest.raises(RejectedError, match=says) as refused:
        read(PUMP, value)
    assert refused.value.reason is Reason.UNDECODABLE


@given(
    st.binary(max_size=60)
    | st.builds(lambda at, more: BODY[:at] + more, st.integers(0, 30), st.binary(max_size=9))
)
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    everything = field(
        [
            "null",
            "boolean",
            {"type": "map", "values": {"type": "array", "items": ["string", "bytes"]}},
            {"type": "enum", "name": "E", "symbols": ["A"]},
            logical("int", "date"),
            logical("bytes", "decimal", precision=9, scale=2),
        ]
    )
    for reader in (PUMP_READER, avro_reader(Schema("AVRO", text_of(everything)))):
        assert reason_of(reader, value) in (None, Reason.UNDECODABLE)


PUMP_READER = avro_reader(Schema("AVRO", text_of(PUMP)))


@given(
    st.recursive(
        st.sampled_from(["null", "int", "N", "nope", 3, None, "array", "record"]),
        lambda inner: (
            st.dictionaries(
                st.sampled_from(
                    ["type", "items", "values", "name", "fields", "size", "symbols", "logicalType", "scale"]
                ),
                inner
                | st.lists(inner, max_size=3)
                | st.sampled_from(["decimal", "fixed", "enum", "map", "date"]),
                max_size=5,
            )
            | st.lists(inner, max_size=3)
        ),
        max_leaves=12,
    )
)
def test_any_document_is_a_schema_or_refused(document: Any) -> None:
    try:
        reader = avro_reader(Schema("AVRO", text_of(document)))
    except UnusableSchemaError:
        return
    assert reason_of(reader, b"\x02\x04\x06\x00") in (None, Reason.UNDECODABLE)


def test_own_readers_are_under_names_of_their_own() -> None:
    """fastavro's table of logical types is one for the whole process: what others read by it stays."""
    import fastavro.read

    before = {
        name: reader for name, reader in fastavro.read.LOGICAL_READERS.items() if "anomalyd" not in name
    }
    avro_reader(Schema("AVRO", "null"))
    after = {name: reader for name, reader in fastavro.read.LOGICAL_READERS.items() if "anomalyd" not in name}
    assert before == after
