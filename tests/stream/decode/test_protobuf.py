"""Protobuf: what each field becomes, what descriptors are refused, and that hostile bytes end in a rejection."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.stream.decode.protobuf import ProtobufFiles, files_of_set
from daemon.stream.decode.schemas import UnusableSchemaError
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import event_time_ns
from tests.stream.decode.framings import PUMP_PROTO, descriptor_set, message_class, reason_of

ALL = """
syntax = "proto3";
package plant;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";
message All {
  enum State { STOPPED = 0; RUNNING = 1; }
  string text = 1;
  int64 big = 2;
  uint64 huge = 3;
  bool flag = 4;
  bytes raw = 5;
  State state = 6;
  optional double maybe = 7;
  repeated double many = 8;
  repeated State states = 9;
  map<int32, double> by_number = 10;
  map<string, All> by_name = 11;
  All inner = 12;
  oneof value { double as_double = 13; string as_text = 14; }
  google.protobuf.Timestamp at = 15;
  google.protobuf.Duration lasted = 16;
  google.protobuf.DoubleValue wrapped = 17;
  google.protobuf.Struct any = 18;
  google.protobuf.ListValue list = 19;
  map<bool, google.protobuf.Timestamp> by_flag = 20;
  string camelCase_name = 21;
}
"""
EMPTY = {
    "text": "",
    "big": 0,
    "huge": 0,
    "flag": False,
    "raw": b"",
    "state": "STOPPED",
    "many": [],
    "states": [],
    "by_number": {},
    "by_name": {},
    "by_flag": {},
    "camelCase_name": "",
}
"""A message in which nothing was sent: what has no presence says 0, what has one says nothing."""


@pytest.fixture(scope="module")
def files() -> ProtobufFiles:
    """The descriptors of ``ALL``."""
    return ProtobufFiles(files_of_set(descriptor_set(ALL)))


def message(**fields: Any) -> bytes:
    """A message of ``ALL``."""
    return bytes(message_class(descriptor_set(ALL), "plant.All")(**fields).SerializeToString())


@pytest.mark.parametrize(
    ("sent", "tree"),
    [
        ({}, {}),
        (
            {"text": "pump", "flag": True, "raw": b"\x00\xff"},
            {"text": "pump", "flag": True, "raw": b"\x00\xff"},
        ),
        ({"big": -(2**63), "huge": 2**64 - 1}, {"big": -(2**63), "huge": 2**64 - 1}),
        ({"state": 1, "states": [0, 1]}, {"state": "RUNNING", "states": ["STOPPED", "RUNNING"]}),
        ({"state": 9, "states": [9]}, {"state": 9, "states": [9]}),
        ({"maybe": 0.0}, {"maybe": 0.0}),
        ({"many": [1.5, 0.0]}, {"many": [1.5, 0.0]}),
        ({"by_number": {-3: 4.0}}, {"by_number": {"-3": 4.0}}),
        ({"by_name": {"a": {"text": "b"}}}, {"by_name": {"a": EMPTY | {"text": "b"}}}),
        ({"inner": {}}, {"inner": EMPTY}),
        ({"as_double": 0.0}, {"as_double": 0.0}),
        ({"as_text": ""}, {"as_text": ""}),
        ({"at": {"seconds": 1764397200}}, {"at": "2025-11-29T06:20:00Z"}),
        ({"at": {"seconds": 1764397200, "nanos": 123456789}}, {"at": "2025-11-29T06:20:00.123456789Z"}),
        ({"at": {"seconds": -1, "nanos": 5}}, {"at": "1969-12-31T23:59:59.000000005Z"}),
        ({"at": {"seconds": 2**62}}, {"at": 2**62}),
        ({"at": {"seconds": 1764397200, "nanos": -5}}, {"at": "2025-11-29T06:20:00.-5Z"}),
        ({"lasted": {"seconds": 90}}, {"lasted": 90}),
        ({"lasted": {"seconds": 1, "nanos": 500_000_000}}, {"lasted": 1.5}),
        ({"wrapped": {"value": 0.0}}, {"wrapped": 0.0}),
        ({"any": {"a": [1, None, {"b": True}, "x"]}}, {"any": {"a": [1.0, None, {"b": True}, "x"]}}),
        ({"list": [1.0, "x"]}, {"list": [1.0, "x"]}),
        ({"by_flag": {True: {"seconds": 1}}}, {"by_flag": {"true": "1970-01-01T00:00:01Z"}}),
        ({"camelCase_name": "x"}, {"camelCase_name": "x"}),
    ],
)
def test_a_field_becomes_what_the_layers_above_read(files: ProtobufFiles, sent: Any, tree: Any) -> None:
    assert files.named("plant.All")(message(**sent)) == EMPTY | tree


@given(st.integers(-62_135_596_800, 253_402_300_799), st.integers(0, 999_999_999))
def test_a_timestamp_is_read_exactly(seconds: int, nanos: int) -> None:
    files = ProtobufFiles(files_of_set(descriptor_set(ALL)))
    found = files.named("plant.All")(message(at={"seconds": seconds, "nanos": nanos}))["at"]
    assert event_time_ns(found) == seconds * 10**9 + nanos


def test_a_message_is_found_by_its_place_in_the_file() -> None:
    files = ProtobufFiles(files_of_set(descriptor_set(PUMP_PROTO)))
    pump = message_class(descriptor_set(PUMP_PROTO), "plant.Pump")(asset="p", temperature=1.5)
    assert files.at((1,))(pump.SerializeToString()) == {"asset": "p", "temperature": 1.5}
    assert files.at((0, 0))(b"\x0a\x01L") == {"name": "L"}
    for path in ((2,), (0, 1), (-1,), (0, 0, 0)):
        with pytest.raises(UnusableSchemaError, match="no message at"):
            files.at(path)


def test_a_name_that_the_file_does_not_have_is_refused_with_those_it_has(files: ProtobufFiles) -> None:
    with pytest.raises(UnusableSchemaError, match=r"no message 'plant.Some' in the descriptors; All"):
        files.named("plant.Some")


def test_what_every_compiler_has_need_not_be_among_the_files() -> None:
    """A registry sends the file alone; what it imports of google.protobuf is in no subject."""
    (alone,) = files_of_set(descriptor_set(PUMP_PROTO, all=False))
    pump = message_class(descriptor_set(PUMP_PROTO), "plant.Pump")(at={"seconds": 1})
    assert ProtobufFiles([alone]).at((1,))(pump.SerializeToString())["at"] == "1970-01-01T00:00:01Z"


def test_a_file_may_import_others() -> None:
    base = 'syntax = "proto3"; package base; message Value { double v = 1; }'
    main = 'syntax = "proto3"; import "base.proto"; message M { base.Value value = 1; }'
    found = files_of_set(descriptor_set(main, (("base.proto", base),)))
    assert ProtobufFiles(found).named("M")(b"\x0a\x00") == {"value": {"v": 0.0}}
    with pytest.raises(UnusableSchemaError, match="no descriptors"):
        ProtobufFiles(found[1:])


@pytest.mark.parametrize("content", [b"", b"\xff", b"syntax = 'proto3';"])
def test_a_file_that_is_no_descriptor_set_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableSchemaError, match="FileDescriptorSet"):
        files_of_set(content)


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\x01a\x22\x02\x0a\x00"])
def test_a_file_that_is_no_descriptor_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableSchemaError, match="no descriptors"):
        ProtobufFiles([content])


def test_descriptors_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.stream.decode.protobuf.MOST_BYTES", 100)
    with pytest.raises(UnusableSchemaError, match="over 100 bytes"):
        ProtobufFiles(files_of_set(descriptor_set(ALL)))


def test_a_message_within_itself_without_end_is_refused(files: ProtobufFiles) -> None:
    value = b""
    for _ in range(5000):
        size, varint = len(value), bytearray()
        while size > 0x7F:
            varint.append(size & 0x7F | 0x80)
            size >>= 7
        value = b"\x62" + bytes(varint) + bytes([size]) + value
    with pytest.raises(RejectedError) as refused:
        files.named("plant.All")(value)
    assert refused.value.reason is Reason.UNDECODABLE


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    files = ProtobufFiles(files_of_set(descriptor_set(ALL)))
    assert reason_of(files.named("plant.All"), value) in (None, Reason.UNDECODABLE)


@given(st.binary(max_size=200))
def test_any_bytes_are_descriptors_or_refused(content: bytes) -> None:
    for make in (lambda: ProtobufFiles([content]), lambda: ProtobufFiles(files_of_set(content))):
        try:
            make()
        except UnusableSchemaError:
            continue
