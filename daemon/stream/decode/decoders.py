"""The decoders by name, and the wrappings that are taken off before.

A decoder is made by a function of its options. To add one: a module here, and a line in ``_DECODERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from daemon.domain import Reading, Reason, Record
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule, RegistryAddress
from daemon.stream.decode.framed import framed_decoder, needs_schemas, reads_framing
from daemon.stream.decode.framing import SchemaId, framed, unframed
from daemon.stream.decode.json_text import json_tree
from daemon.stream.decode.schemas import Schemas
from daemon.stream.rejection import RejectedError

TreeDecoder = Callable[[bytes], Any]
"""Bytes to a tree; raises ``RejectedError``."""

_DECODERS: Final[Mapping[str, Callable[[Mapping[str, object]], TreeDecoder]]] = {
    "json": lambda options: json_tree,
}
MOST_BYTES: Final = 1 << 20
"""Of a decompressed record, where the stream says nothing else."""
_FRAMED: Final = frozenset({"avro", "protobuf", "json-schema"})
"""Those whose messages are of a schema; see ``framed``."""
_WRAPPERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {"confluent": unframed}


def decode_with(
    rule: DecodeRule, most_bytes: int = MOST_BYTES, schemas: Schemas | None = None
) -> TreeDecoder:
    """The function that decodes as the rule says.

    Args:
        rule: of the mapping.
        most_bytes: of a decompressed record.
        schemas: that messages name; see ``MessageSchemas``.

    Raises:
        ConfigError: an option is wrong, or the decoder's library is not installed.
    """
    if rule.kind in _FRAMED:
        decode = framed_decoder(rule, schemas, most_bytes)
    elif rule.kind in _DECODERS:
        decode = _DECODERS[rule.kind](rule.options)
    else:
        raise ConfigError(f"decode: {rule.kind!r} is none of {', '.join([*_DECODERS, *sorted(_FRAMED)])}")
    if not rule.unwrap:
        return decode
    unwrap = _unwrap(rule.unwrap)
    return lambda value: decode(unwrap(value))


def _unwrap(names: Sequence[str]) -> Callable[[bytes], bytes]:
    wrappers = [_WRAPPERS[name] for name in names]

    def unwrapped(value: bytes) -> bytes:
        for each in wrappers:
            value = each(value)
        return value

    return unwrapped


class MessageSchemas:
    """The schemas that the messages of one stream name: what the shell must fetch before they are decoded.

    Args:
        rule: how the stream's messages are decoded.

    Attributes:
        rule: the same; its ``registry`` is who is asked.
        known: what the registry has answered; None where no schema is asked for, which is the case of most streams.
    """

    def __init__(self, rule: DecodeRule) -> None:
        self.rule = rule
        self.known = Schemas() if needs_schemas(rule) else None
        self._in_header = reads_framing(rule)
        self._unwrap = _unwrap(rule.unwrap) if rule.unwrap else None
        self._given = (
            frozenset(map(str, given)) if isinstance(given := rule.options.get("schemas"), Mapping) else ()
        )

    @property
    def registry(self) -> RegistryAddress | None:
        """Who is asked for schemas; None where nobody is."""
        return None if self.known is None else self.rule.registry

    def value_of(self, record: Record) -> bytes:
        """The bytes of a record that are decoded: its value, after what a serializer put into a header."""
        if self._in_header and record.headers:
            return framed(record.value, record.headers)
        return record.value

    def wanted(self, items: Sequence[Record | Reading]) -> list[SchemaId]:
        """The schemas that records name and of which nothing is known yet."""
        if self.known is None:
            return []
        return [id for id in self.known.wanted(items, self._unwrap) if str(id) not in self._given]


def inner_bytes(found: object, path: str) -> bytes:
    """The text (or bytes) within a tree as bytes, to be decoded itself."""
    if isinstance(found, str):
        return found.encode(errors="surrogatepass")
    if isinstance(found, bytes):
        return found
    raise RejectedError(Reason.NOT_JSON, f"{path} holds no text that could be decoded")
