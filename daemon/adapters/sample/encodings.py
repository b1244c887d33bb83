"""What the bytes of messages look like: JSON, or one of the encodings and wrappings that people send.

``find_decoding`` looks at some records and says how they are to be decoded (the ``decode`` of ``input``), and in
words what they look like, for an operator who has never seen them.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from daemon.domain import Record
from daemon.mapping import DecodeRule
from daemon.stream.decode import Schema, SchemaId, decode_with
from daemon.stream.decode.framing import framed
from daemon.stream.decode.json_text import json_tree
from daemon.stream.rejection import RejectedError

LOOKED_AT: Final = 100
"""Records, at most, that are looked at."""
_LINE_PROTOCOL: Final = re.compile(rb"(?:[^\s,\\]|\\.)+(?:,(?:[^\s\\]|\\.)+)? [^\s=]+=\S.*")
_GRAPHITE: Final = re.compile(
    rb"[^\s,;{}\"']+ [+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)? [0-9]{10}(?:\.[0-9]+)?\s*"
)
"""A line of Graphite: path, value, seconds since 1970."""
_PROMETHEUS: Final = re.compile(rb"[A-Za-z_:][A-Za-z0-9_:]*\{[^{}]*\} \S+(?: [0-9]{13})?\s*")
"""A sample of Prometheus' text format."""
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{8,}={0,2}")
_PLAIN_NUMBER: Final = re.compile(rb"\s*[+-]?[0-9]+(?:[.,][0-9]+)?\s*")

_GUID_END: Final = 17
"""Bytes of Confluent's framing that names a schema by its GUID."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How records are decoded, and what they look like.

    ``rule`` is the ``decode`` of ``input``; None: as JSON, which needs no key. ``written`` is what the configuration
    says where that is not all of the rule, because a registry has the schemas that the rule holds.
    """

    looks: str
    rule: dict[str, Any] | str | None
    written: str | None = None


_JSON: Final = Decoding("JSON", None)
_NAMED: Final = {
    "json": _JSON,
    "lines": Decoding("several JSON texts in a record, one a line", "json-lines"),
    "gzip": Decoding("JSON that is gzipped", {"kind": "json", "unwrap": ["gzip"]}),
    "zlib": Decoding("JSON that is compressed by zlib", {"kind": "json", "unwrap": ["zlib"]}),
    "base64": Decoding("JSON that is in base64", {"kind": "json", "unwrap": ["base64"]}),
    "base64 gzip": Decoding(
        "JSON that is gzipped and in base64", {"kind": "json", "unwrap": ["base64", "gzip"]}
    ),
    "framed json": Decoding(
        "JSON after Confluent's framing of five bytes", {"kind": "json", "unwrap": ["confluent"]}
    ),
    "framed": Decoding(
        "Avro or Protobuf after Confluent's framing, whose schemas are in a registry: of a topic,"
        " --schema-registry http://HOST:8081 names it",
        None,
    ),
    "glue": Decoding(
        "Avro or Protobuf after AWS Glue's framing; write in the stream input: {decode: {kind: avro, framing: glue,"
        " schema: FILE}, asset: PATH, time: PATH, leaves: .}",
        None,
    ),
    "msgpack": Decoding("MessagePack", "msgpack"),
    "cbor": Decoding("CBOR", "cbor"),
    "influx": Decoding("Influx line protocol", "influx"),
    "number": Decoding("plain numbers, which name neither a sensor nor a time", {"kind": "text"}),
    "graphite": Decoding(
        "Graphite's lines of path, value and time",
        {"kind": "csv", "delimiter": " ", "columns": ["path", "value", "time"]},
    ),
    "prometheus": Decoding(
        "samples of Prometheus' text format; one a record, write input: {decode: text, asset: {from: value, match:"
        " 'instance=\"([^\"]+)\"'}, sensor: {from: value, match: '^([^{ ]+)'}, value: 'values[-2]', time: 'values[-1]'},"
        " or without a time in them value: 'values[-1]', time: $timestamp",
        None,
    ),
    "csv": Decoding("lines of comma-separated cells", "csv"),
    "blank": Decoding("nothing: the records have no value", None),
    "text": Decoding("a text that is no JSON", None),
    "binary": Decoding("binary data that is no JSON", None),
}


def find_decoding(records: Sequence[Record]) -> Decoding:
    """What most of the records look like, those without a value left out."""
    step = max(len(records) // LOOKED_AT, 1)
    looks = Counter(look_of(record.value) for record in records[::step][:LOOKED_AT])
    if len(looks) > 1:
        looks.pop("blank", None)
    (look, _), *_ = looks.most_common(1) or [("blank", 0)]
    return _NAMED[look]


def names_schemas(records: Sequence[Record]) -> bool:
    """Whether most of the records are in Confluent's framing, and no JSON: a registry has the schemas that they name."""
    values = [
        framed(record.value, record.headers) for record in records[:: max(len(records) // LOOKED_AT, 1)]
    ]
    looks = Counter(look_of(value) for value in values if value)
    return bool(looks) and looks.most_common(1)[0][0] == "framed"


def decoding_of_schemas(kind: str, schemas: Mapping[SchemaId, Schema]) -> Decoding:
    """How records are decoded whose schemas are at hand.

    Args:
        kind: the decoder.
        schemas: by their ids.

    Raises:
        ConfigError: the decoder's library is not installed.
    """
    rule = {"kind": kind, "schemas": {str(id): schema for id, schema in schemas.items()}}
    decode_with(DecodeRule(kind, (), {"schemas": rule["schemas"]}))
    return Decoding(f"{kind.capitalize()} after Confluent's framing, of the registry's schemas", rule, kind)


def look_of(value: bytes) -> str:
    """The name (a key of ``_NAMED``) of what bytes look like."""
    if not value.strip():
        return "blank"
    if value[:1] == b"\x00" and len(value) > 5:
        return "framed json" if _is_json(value[5:]) else "framed"
    if (plain := _look_of_text(value)) is not None:
        return plain
    if value[:2] == b"\x1f\x8b":
        return "gzip"
    if value[:1] == b"\x01" and len(value) > _GUID_END:
        return "framed"
    if value[:2] in (b"\x03\x00", b"\x03\x05") and len(value) > 18:
        return "glue"
    if value[:1] == b"\x78" and _unzipped(value, zlib.MAX_WBITS):
        return "zlib"
    return _binary(value)


def _look_of_text(value: bytes) -> str | None:
    """The same for what is a text; None if it is none."""
    if _is_json(value):
        return "number" if _PLAIN_NUMBER.fullmatch(value) else "json"
    try:
        value.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    lines = [line for line in value.splitlines() if line.strip()]
    if len(lines) > 1 and all(_is_json(line) for line in lines[:20]):
        return "lines"
    if _PLAIN_NUMBER.fullmatch(value):
        return "number"
    if _BASE64.fullmatch(value.strip()):
        inner = _unbased(value.strip())
        if inner is not None and _is_json(inner):
            return "base64"
        if inner is not None and inner[:2] == b"\x1f\x8b":
            return "base64 gzip"
    if lines and all(_GRAPHITE.fullmatch(line) for line in lines[:20]):
        return "graphite"
    if lines and all(_PROMETHEUS.fullmatch(line) for line in lines[:20]):
        return "prometheus"
    if all(_LINE_PROTOCOL.fullmatch(line) for line in lines[:20]):
        return "influx"
    if len({line.count(b",") for line in lines}) == 1 and lines[0].count(b",") > 0:
        return "csv"
    return None if b"\x00" in value else "text"


def _binary(value: bytes) -> str:
    """The look of bytes that are no text: a map of MessagePack or CBOR begins with a byte of its own."""
    first = value[0]
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        return "msgpack"
    if 0xA1 <= first <= 0xBF or first == 0xD9:
        return "cbor"
    return "binary"


def _is_json(value: bytes) -> bool:
    try:
        json_tree(value)
    except RejectedError:
        return False
    return True


def _unbased(value: bytes) -> bytes | None:
    try:
        return base64.b64decode(value.translate(bytes.maketrans(b"-_", b"+/")), validate=True)
    except (binascii.Error, ValueError):
        return None


def _unzipped(value: bytes, window: int) -> bool:
    try:
        zlib.decompressobj(window).decompress(value[:4096], 4096)
    except zlib.error:
        return False
    return True
