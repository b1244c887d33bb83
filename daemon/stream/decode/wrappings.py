"""What is taken off a record's bytes before they are decoded: base64, gzip, zlib; and what bytes look like.

A decompressed text is bounded as a record is: a few kilobytes can hold gigabytes.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Callable
from typing import Final

from daemon.domain import Reason
from daemon.stream.rejection import RejectedError, shown

Unwrap = Callable[[bytes], bytes]
"""Raises ``RejectedError``."""
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_SPACE: Final = re.compile(rb"\s+")
_MSGPACK_OBJECT: Final = re.compile(rb"(?:[\x81-\x8f]|\xde..|\xdf....)(?:[\xa1-\xbf]|\xd9.)[ -~]", re.DOTALL)
_CBOR_OBJECT: Final = re.compile(rb"(?:[\xa1-\xb7]|\xb8.|\xb9..|\xbf)(?:[\x61-\x77]|\x78.)[ -~]", re.DOTALL)
"""An object whose first key is a text."""
_NO_BASE64: Final = re.compile(rb"[^A-Za-z0-9+/=]")


def unwrap_base64(value: bytes) -> bytes:
    """What a base64 text holds; of the standard alphabet or the one for URLs, padded or not.

    Raises:
        RejectedError: it is no base64.
    """
    text = _SPACE.sub(b"", value.strip().strip(b'"')).translate(_URL_SAFE)
    if not text:
        raise RejectedError(Reason.BLANK, "nothing but white space")
    if (other := _NO_BASE64.search(text)) is not None:
        hint = "; it looks like JSON: leave out unwrap" if text[:1] in (b"{", b"[") else ""
        detail = f"{shown(other[0].decode('latin-1'))} is no character of base64{hint}"
        raise RejectedError(Reason.UNDECODABLE, detail)
    text = text.rstrip(b"=")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4))
    except binascii.Error as error:
        raise RejectedError(Reason.UNDECODABLE, f"no base64: {error}") from None


def unwrap_compressed(kind: str, most_bytes: int) -> Unwrap:
    """The function that decompresses ``gzip`` (all members) or ``zlib``.

    Args:
        kind: which.
        most_bytes: a longer result is refused as ``too_large``, and never made.
    """
    window = zlib.MAX_WBITS | 16 if kind == "gzip" else zlib.MAX_WBITS

    def decompress(value: bytes) -> bytes:
        """Raises RejectedError: it is not compressed so, is cut off, or too large."""
        made, rest = b"", value
        while rest or not made:
            member = zlib.decompressobj(window)
            try:
                made += member.decompress(rest, most_bytes + 1 - len(made))
            except zlib.error as error:
                hint = looks_like(value)
                detail = f"no {kind}: {hint}" if hint else f"no {kind}: {str(error).partition(': ')[2]}"
                raise RejectedError(Reason.UNDECODABLE, detail) from None
            if len(made) > most_bytes:
                raise RejectedError(Reason.TOO_LARGE, f"over {most_bytes} bytes when decompressed")
            if not member.eof:
                raise RejectedError(Reason.UNDECODABLE, f"the {kind} ends too early")
            rest = member.unused_data
            if kind == "zlib" or rest.strip(b"\x00") == b"":
                break
        return made

    return decompress


def looks_like(value: bytes) -> str:
    """What bytes that cannot be decoded seem to be, and what to write for them; empty where nothing is known."""
    first, two = value[:1], value[:2]
    if two == b"\x1f\x8b":
        return "a gzip header begins it: give unwrap: gzip"
    if two in (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        return "a zlib header begins it: give unwrap: zlib"
    if value[:4] == b"\x28\xb5\x2f\xfd":
        return "a zstd header begins it: let the producer compress with Kafka's compression.type"
    if first == b"\x00":
        after = "json-schema" if value[5:6] in (b"{", b"[") else "avro or protobuf, with schema_registry.url"
        return f"a zero byte begins it, as Confluent's framing does: give decode: {after}"
    if value.lstrip()[:1] in (b"{", b"["):
        return "it looks like JSON: give decode: json"
    if value.lstrip(b' "')[:2] in (b"ey", b"W3", b"ew", b"Ww"):
        return "it looks like JSON in base64: give unwrap: base64"
    if _MSGPACK_OBJECT.match(value):
        return "it may be MessagePack: give decode: msgpack"
    if _CBOR_OBJECT.match(value):
        return "it may be CBOR: give decode: cbor"
    return ""
