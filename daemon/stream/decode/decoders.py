"""The decoders by name, and the wrappings that are taken off before.

A decoder is made by a function of its options. To add one: a module here, and a line in ``_DECODERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode.framed import framed_decoder
from daemon.stream.decode.framing import unframed
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
    unwrap = unwrapping(rule.unwrap)
    return lambda value: decode(unwrap(value))


def unwrapping(names: Sequence[str], most_bytes: int = MOST_BYTES) -> Callable[[bytes], bytes]:
    """The function that takes wrappings off, in order.

    Args:
        names: of the wrappings.
        most_bytes: of a decompressed record.
    """
    wrappers = [_WRAPPERS[name] for name in names]

    def unwrapped(value: bytes) -> bytes:
        for each in wrappers:
            value = each(value)
        return value

    return unwrapped


def inner_bytes(found: object, path: str) -> bytes:
    """The text (or bytes) within a tree as bytes, to be decoded itself."""
    if isinstance(found, str):
        return found.encode(errors="surrogatepass")
    if isinstance(found, bytes):
        return found
    raise RejectedError(Reason.NOT_JSON, f"{path} holds no text that could be decoded")
