"""The decoders by name, and the wrappings that are taken off before.

A decoder is made by a function of its options. To add one: a module here, and a line in ``_PLAIN``, or in
``_OF_RECORDS`` where it needs more of a record than its bytes (``Arrival``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule, InputMapping
from daemon.stream.decode.arrival import TreeDecoder
from daemon.stream.decode.binary_json import cbor_decoder, msgpack_tree
from daemon.stream.decode.csv_lines import csv_lines
from daemon.stream.decode.framed import framed_decoder, reads_framing
from daemon.stream.decode.framing import framed, unframed
from daemon.stream.decode.json_lines import json_lines
from daemon.stream.decode.json_text import json_tree, with_longs
from daemon.stream.decode.line_protocol import line_protocol
from daemon.stream.decode.plain_text import plain_text
from daemon.stream.decode.schemas import Schemas
from daemon.stream.decode.senml import senml
from daemon.stream.decode.sparkplug import sparkplug, sparkplug_json
from daemon.stream.decode.wrappings import Unwrap, unwrap_base64, unwrap_compressed
from daemon.stream.rejection import RejectedError, json_kind

Options = Mapping[str, object]
MOST_BYTES: Final = 1 << 20
"""Of a decompressed record, where the stream says nothing else."""


def _json(options: Options) -> Callable[[bytes], Any]:
    """JSON; with ``longs: true`` the 64-bit integers of JavaScript's libraries become numbers."""
    longs = options.get("longs", False)
    if not isinstance(longs, bool):
        raise ConfigError(f"decode: longs {longs!r} is neither true nor false")
    return (lambda value: with_longs(json_tree(value))) if longs else json_tree


_PLAIN: Final[Mapping[str, Callable[[Options], Callable[[bytes], Any]]]] = {
    "json": _json,
    "text": plain_text,
    "msgpack": lambda options: msgpack_tree,
    "cbor": lambda options: cbor_decoder(),
}
_OF_RECORDS: Final[Mapping[str, Callable[[Options], TreeDecoder]]] = {
    "json-lines": lambda options: json_lines,
    "influx": line_protocol,
    "csv": csv_lines,
    "senml": lambda options: senml(),
    "sparkplug": lambda options: sparkplug(),
    "sparkplug-json": lambda options: sparkplug_json(),
}
_OF_SCHEMAS: Final = frozenset({"avro", "protobuf", "json-schema"})
"""Those whose messages are of a schema; see ``framed``."""
_WITH_MEMORY: Final = frozenset({"sparkplug", "sparkplug-json"})
_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "json": frozenset({"longs"}),
    "text": frozenset({"separator"}),
    "influx": frozenset({"precision"}),
    "csv": frozenset({"columns", "header", "delimiter"}),
    **dict.fromkeys(("json-lines", "msgpack", "cbor", "senml", *_WITH_MEMORY), frozenset[str]()),
}
"""The options of each decoder that takes no others."""


def decode_with(
    rule: DecodeRule, most_bytes: int = MOST_BYTES, schemas: Schemas | None = None
) -> TreeDecoder:
    """The function that decodes as the rule says.

    Args:
        rule: the decoder, its options, and what is taken off before.
        most_bytes: of a decompressed record.
        schemas: that messages name; see ``MessageSchemas``.

    Raises:
        ConfigError: an option is wrong, or the decoder's library is not installed.
    """
    known = _OPTIONS.get(rule.kind, rule.options.keys())
    for option in rule.options:
        if option not in known:
            has = f"has {', '.join(sorted(known))}" if known else "has none"
            raise ConfigError(f"decode: {rule.kind} knows no option {option!r}; it {has}")
    decode = _of_schema(rule, schemas, most_bytes) if rule.kind in _OF_SCHEMAS else _decoder(rule)
    if not rule.unwrap:
        return decode
    unwrap = unwrapping(rule.unwrap, most_bytes)
    return lambda value, arrival: decode(unwrap(value), arrival)


def unwrapping(names: Sequence[str], most_bytes: int = MOST_BYTES) -> Unwrap:
    """The function that takes wrappings off, in order.

    Args:
        names: of the wrappings.
        most_bytes: of a decompressed record.
    """
    unwraps = [_unwrap(name, most_bytes) for name in names]

    def unwrapped(value: bytes) -> bytes:
        for unwrap in unwraps:
            value = unwrap(value)
        return value

    return unwrapped


def _of_schema(rule: DecodeRule, schemas: Schemas | None, most_bytes: int) -> TreeDecoder:
    decode = framed_decoder(rule, schemas, most_bytes)
    if not reads_framing(rule):
        return lambda value, arrival: decode(value)
    # What a serializer put into the record's header stands before the value; nothing does within a message.
    return lambda value, arrival: decode(
        framed(value, arrival.record.headers) if arrival.around is None and arrival.record.headers else value
    )


def _decoder(rule: DecodeRule) -> TreeDecoder:
    if rule.kind in _OF_RECORDS:
        return _OF_RECORDS[rule.kind](rule.options)
    if rule.kind not in _PLAIN:
        raise ConfigError(
            f"decode: {rule.kind!r} is none of {', '.join(sorted({*_PLAIN, *_OF_RECORDS, *_OF_SCHEMAS}))}"
        )
    plain = _PLAIN[rule.kind](rule.options)
    return lambda value, arrival: plain(value)


def _unwrap(name: str, most_bytes: int) -> Unwrap:
    if name == "base64":
        return unwrap_base64
    if name in ("gzip", "zlib"):
        return unwrap_compressed(name, most_bytes)
    if name == "confluent":
        return unframed
    raise ConfigError(f"decode: unwrap {name!r} is none of base64, gzip, zlib, confluent")


def has_memory(mapping: InputMapping) -> bool:
    """Whether what a record means depends on records before it: then each partition has ``Births``."""
    return any(
        rule.kind in _WITH_MEMORY for rule in (mapping.decode, *(each.decode for each in mapping.inner))
    )


def inner_bytes(found: object, path: str) -> bytes:
    """The text (or bytes) within a tree as bytes, to be decoded itself."""
    if isinstance(found, str):
        return found.encode(errors="surrogatepass")
    if isinstance(found, bytes):
        return found
    raise RejectedError(Reason.UNDECODABLE, f"{path} is {json_kind(found)}, no text that could be decoded")
