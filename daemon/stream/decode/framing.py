"""The bytes before a message that name its schema, as serializers of schema registries write them.

    Confluent      00 | schema id, 4 bytes, big-endian | body
                   01 | schema GUID, 16 bytes | body
                   Protobuf: between id and body the way to the message in its file (``message_path``)
    Glue           03 | compression: 00 none, 05 zlib | schema version, 16 bytes of a UUID | body
                   Protobuf: the body begins with the message's number, in an order of Glue's own (``after_index``)
    single object  C3 01 | fingerprint of an Avro schema, 8 bytes | body

Newer Confluent serializers put what stands before the body into the record's header ``HEADER`` instead, in the
same layout: so ``framed`` puts it back in front, and one parser reads both.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from daemon.domain import Reason
from daemon.stream.rejection import RejectedError

SchemaId = int | str
"""Of a schema in its registry: Confluent's number, or the text of a GUID or of a Glue schema version."""
Headers = Sequence[tuple[str, bytes | None]]

HEADER: Final = "__value_schema_id"
FRAMINGS: Final = ("confluent", "glue", "single-object", "none")
LARGEST_ID: Final = 2**31 - 1
"""Ids are the positive integers of Java."""
_DEEPEST_PATH: Final = 32
_ID_END, _GUID_END, _GLUE_END, _SINGLE_END = 5, 17, 18, 10


def framed(value: bytes, headers: Headers) -> bytes:
    """The bytes of a record with what its header ``HEADER`` holds in front of them."""
    for name, content in headers:
        if name == HEADER and content:
            return content + value
    return value


def confluent_id(value: bytes) -> tuple[SchemaId, int]:
    """The schema id of a message in Confluent's framing, and where what follows it begins.

    Raises:
        RejectedError: it is not framed so.
    """
    first = value[:1]
    if first == b"\x00" and len(value) >= _ID_END:
        id = int.from_bytes(value[1:_ID_END], "big")
        if id > LARGEST_ID:
            raise RejectedError(Reason.UNDECODABLE, f"{id} is no schema id: is it Confluent's framing?")
        return id, _ID_END
    if first == b"\x01" and len(value) >= _GUID_END:
        return str(UUID(bytes=value[1:_GUID_END])), _GUID_END
    if first in (b"\x00", b"\x01"):
        raise RejectedError(
            Reason.UNDECODABLE, f"{len(value)} bytes are too few for Confluent's framing and a body"
        )
    raise RejectedError(Reason.UNDECODABLE, f"no Confluent magic byte: {_begins(value)}")


def glue_body(value: bytes, most_bytes: int) -> tuple[SchemaId, bytes]:
    """The schema version of a message in the framing of AWS Glue, and its body, decompressed.

    Args:
        value: the message.
        most_bytes: of the decompressed body.

    Raises:
        RejectedError: it is not framed so, or its body is damaged or too long.
    """
    if value[:1] != b"\x03" or len(value) < _GLUE_END or value[1] not in (0, 5):
        raise RejectedError(Reason.UNDECODABLE, f"no header of AWS Glue: {_begins(value)}")
    version, body = str(UUID(bytes=value[2:_GLUE_END])), value[_GLUE_END:]
    if value[1] == 0:
        return version, body
    decompressor = zlib.decompressobj()
    try:
        body = decompressor.decompress(body, most_bytes)
    except zlib.error:
        raise RejectedError(
            Reason.UNDECODABLE, "the body after the header of AWS Glue is no zlib data"
        ) from None
    if decompressor.unconsumed_tail:
        raise RejectedError(Reason.TOO_LARGE, f"over {most_bytes} bytes after decompression")
    return version, body


def single_object_body(value: bytes) -> bytes:
    """The body of a message in Avro's single-object encoding.

    Raises:
        RejectedError: it is not framed so.
    """
    if value[:2] != b"\xc3\x01" or len(value) < _SINGLE_END:
        raise RejectedError(
            Reason.UNDECODABLE, f"no C3 01 of Avro's single-object encoding: {_begins(value)}"
        )
    return value[_SINGLE_END:]


def message_path(value: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """The way to a Protobuf message in its file, as indexes from outside in, and where the body begins.

    It is written as zigzag varints, their number first; a single 0 stands for the first message.

    Raises:
        RejectedError: it is cut off, or longer than messages are nested.
    """
    count, at = _varint(value, at)
    if count == 0:
        return (0,), at
    if not 0 < count <= _DEEPEST_PATH:
        raise RejectedError(Reason.UNDECODABLE, f"a message path of {count} indexes")
    path = []
    for _ in range(count):
        index, at = _varint(value, at)
        path.append(index)
    return tuple(path), at


def after_index(body: bytes) -> bytes:
    """The Protobuf in a body of AWS Glue, which has the message's number in its file before it, a plain varint.

    Raises:
        RejectedError: it is cut off.
    """
    return body[_unsigned(body, 0)[1] :]


def _varint(value: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint of at most 35 bits, and where it ends."""
    raw, end = _unsigned(value, at)
    return (raw >> 1) ^ -(raw & 1), end


def _unsigned(value: bytes, at: int) -> tuple[int, int]:
    raw = shift = 0
    for end in range(at, min(at + 5, len(value))):
        raw |= (value[end] & 0x7F) << shift
        if value[end] < 0x80:
            return raw, end + 1
        shift += 7
    raise RejectedError(Reason.UNDECODABLE, "the message's number after the schema id is cut off")


def unframed(value: bytes) -> bytes:
    """What follows Confluent's schema id, whatever schema that is.

    Raises:
        RejectedError: it is not framed so.
    """
    return value[confluent_id(value)[1] :]


def looks_framed(value: bytes) -> str:
    """What to configure where a message that should begin with its body begins with a framing; else empty."""
    first = value[:1]
    if first in (b"\x00", b"\x01") and len(value) > _ID_END:
        return f"0x{first.hex()} may begin Confluent's framing: give framing: confluent"
    if first == b"\x03" and value[1:2] in (b"\x00", b"\x05") and len(value) >= _GLUE_END:
        return "0x03 may begin the framing of AWS Glue: give framing: glue"
    if value[:2] == b"\xc3\x01":
        return "C3 01 begins Avro's single-object encoding: give framing: single-object"
    return ""


def _begins(value: bytes) -> str:
    """What the first bytes look like, and what to configure then."""
    if not value:
        return "there are no bytes"
    found = f"the first byte is 0x{value[0]:02x}"
    if value[:4] == b"Obj\x01":
        return f"{found}, which begins an Avro container file"
    if value[:2] == b"\x1f\x8b":
        return f"{found}, which begins gzip: give unwrap: gzip"
    if value.lstrip()[:1] in (b"{", b"["):
        return f"{found}, which begins JSON: give decode: json"
    hint = looks_framed(value)
    return f"{found}; {hint or 'where nothing stands before the body, give framing: none and a schema'}"
