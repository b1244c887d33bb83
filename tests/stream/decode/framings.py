"""Messages as the serializers of schema registries write them, and the schemas that they are of."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import fastavro

from daemon.domain import Reason, Record
from daemon.mapping import DecodeRule
from daemon.stream.decode import Arrival, MessageSchemas, Schemas, decode_with
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import arrival

PUMP = {
    "type": "record",
    "name": "Pump",
    "namespace": "plant",
    "fields": [
        {"name": "asset", "type": "string"},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "temperature", "type": ["null", "double"], "default": None},
        {"name": "pressure", "type": ["null", "double"], "default": None},
    ],
}
"""A record of readings, with its time in milliseconds."""

PUMP_PROTO = """
syntax = "proto3";
package plant;
import "google/protobuf/timestamp.proto";
message Site { string name = 1; message Line { string name = 1; } }
message Pump {
  string asset = 1;
  google.protobuf.Timestamp at = 2;
  double temperature = 3;
  optional double pressure = 4;
}
"""
"""The same as the second message of a Protobuf file."""


def avro(schema: Any, value: Any) -> bytes:
    """A value in Avro's binary encoding, logical types as they are sent."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(without_logical_types(schema)), value)
    return stream.getvalue()


def without_logical_types(schema: Any) -> Any:
    """The schema of what is sent."""
    if isinstance(schema, list):
        return [without_logical_types(each) for each in schema]
    if isinstance(schema, Mapping):
        return {key: without_logical_types(each) for key, each in schema.items() if key != "logicalType"}
    return schema


def confluent(id: int, body: bytes) -> bytes:
    """Confluent's framing."""
    return b"\x00" + id.to_bytes(4, "big") + body


def by_guid(guid: UUID) -> bytes:
    """What Confluent's serializers put into the header, or before the body, for a GUID."""
    return b"\x01" + guid.bytes


def glue(version: UUID, body: bytes, *, compressed: bool = False) -> bytes:
    """The framing of AWS Glue."""
    return (
        b"\x03"
        + (b"\x05" if compressed else b"\x00")
        + version.bytes
        + (zlib.compress(body) if compressed else body)
    )


def zigzag(number: int) -> bytes:
    """A zigzag varint."""
    raw, made = (number << 1) ^ (number >> 31), bytearray()
    while raw > 0x7F:
        made.append(raw & 0x7F | 0x80)
        raw >>= 7
    made.append(raw)
    return bytes(made)


def path(*indexes: int) -> bytes:
    """The way to a Protobuf message, in full."""
    return zigzag(len(indexes)) + b"".join(map(zigzag, indexes))


@cache
def descriptor_set(text: str, imports: Sequence[tuple[str, str]] = (), *, all: bool = True) -> bytes:
    """What protoc makes of the text of a file, with or without what it imports."""
    with TemporaryDirectory() as folder:
        for name, content in (("main.proto", text), *imports):
            (Path(folder) / name).parent.mkdir(exist_ok=True)
            (Path(folder) / name).write_text(content)
        out = Path(folder) / "out"
        arguments = [f"-I{folder}", f"--descriptor_set_out={out}", *(["--include_imports"] if all else [])]
        subprocess.run(
            [sys.executable, "-m", "grpc_tools.protoc", *arguments, "main.proto"], check=True, timeout=60
        )
        return out.read_bytes()


@cache
def message_class(descriptors: bytes, name: str) -> Any:
    """The class of a message, made by google.protobuf from descriptors."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def text_of(schema: Any) -> str:
    """A schema as its registry has it."""
    return json.dumps(schema)


def reason_of(read: Callable[[bytes], Any], value: bytes) -> Reason | None:
    """Why bytes are rejected; None if they are read."""
    try:
        read(value)
    except RejectedError as rejected:
        return rejected.reason
    return None


def decoder(rule: DecodeRule, schemas: Schemas | None = None) -> Callable[[bytes], Any]:
    """The function that decodes as a rule says, of records that are nothing but their bytes."""
    decode = decode_with(rule, schemas=schemas)
    return lambda value: decode(value, arrival())


def tree_of_record(schemas: MessageSchemas, record: Record) -> Any:
    """What a whole record holds, its headers counting, by the schemas that were fetched."""
    return decode_with(schemas.rule, schemas=schemas.known)(record.value, Arrival(record, []))
