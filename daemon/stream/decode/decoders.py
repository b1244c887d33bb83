"""The decoders by name, and the wrappings that are taken off before.

A decoder is made by a function of its options. To add one: a module here, and a line in ``_DECODERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode.json_text import json_tree
from daemon.stream.rejection import RejectedError

TreeDecoder = Callable[[bytes], Any]
"""Bytes to a tree; raises ``RejectedError``."""

_DECODERS: Final[Mapping[str, Callable[[Mapping[str, object]], TreeDecoder]]] = {
    "json": lambda options: json_tree,
}
_WRAPPERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {}


def decode_with(rule: DecodeRule) -> TreeDecoder:
    """The function that decodes as the rule says.

    Raises:
        ConfigError: an option is wrong, or the decoder's library is not installed.
    """
    if rule.kind not in _DECODERS:
        raise ConfigError(f"decode: {rule.kind!r} is none of {', '.join(_DECODERS)}")
    decode = _DECODERS[rule.kind](rule.options)
    unwrap = [_WRAPPERS[name] for name in rule.unwrap]
    if not unwrap:
        return decode

    def unwrapped(value: bytes) -> Any:
        for each in unwrap:
            value = each(value)
        return decode(value)

    return unwrapped


def inner_bytes(found: object, path: str) -> bytes:
    """The text (or bytes) within a tree as bytes, to be decoded itself."""
    if isinstance(found, str):
        return found.encode(errors="surrogatepass")
    if isinstance(found, bytes):
        return found
    raise RejectedError(Reason.NOT_JSON, f"{path} holds no text that could be decoded")
