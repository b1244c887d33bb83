"""MessagePack and CBOR: the trees of JSON as bytes.

What JSON has no type for becomes one of its own: times are ISO texts, keys of maps are texts, decimal numbers are
doubles. Bytes stay bytes. Hostile CBOR cannot grow: shared values, regular expressions and other things that a
tag may stand for are not made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import msgspec

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.stream.decode.wrappings import looks_like
from daemon.stream.rejection import RejectedError

_WIDEST_INTEGER: Final = 1024
"""Bits: beyond, it is no number that anybody uses."""
_LOOSE_KEYS: Final = 32_768
"""Bytes: in longer CBOR keys must be texts or bytes, for others can be chosen so that their hashes collide."""
_LEFT_ALONE: Final = frozenset({str, bool, float, bytes, type(None)})
_PLAIN_TAGS: Final = (28, 29, 35, 36, 37, 260, 261)
"""Tags of CBOR whose content is taken as it is: shared values, expressions, mail, UUIDs, addresses."""
_unpack = msgspec.msgpack.Decoder().decode


def msgpack_tree(value: bytes) -> Any:
    """The tree of a MessagePack value.

    Raises:
        RejectedError: it is none, or nested too deeply.
    """
    if not value:
        raise RejectedError(Reason.BLANK, "no bytes")
    try:
        return json_like(_unpack(value))
    except RecursionError:
        raise RejectedError(Reason.TOO_DEEP, "nested too deeply") from None
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError) as error:
        detail = _hint(value) or f"no MessagePack: {error}"
        raise RejectedError(Reason.UNDECODABLE, detail) from None


def cbor_decoder() -> Callable[[bytes], Any]:
    """The decoder of CBOR.

    Raises:
        ConfigError: its library is not installed.
    """
    try:
        import cbor2
    except ImportError:
        raise ConfigError("decode: cbor needs the extra: pip install 'anomalyd[cbor]'") from None
    loads = cbor2.loads
    as_it_is = {tag: (lambda value, immutable: value) for tag in _PLAIN_TAGS}

    def cbor_tree(value: bytes) -> Any:
        """Raises RejectedError: it is no CBOR, or nested too deeply."""
        if not value:
            raise RejectedError(Reason.BLANK, "no bytes")
        try:
            strict = len(value) > _LOOSE_KEYS
            return json_like(loads(value, semantic_decoders=as_it_is, strict_hashable_types=strict))
        except RecursionError:
            raise RejectedError(Reason.TOO_DEEP, "nested too deeply") from None
        except (cbor2.CBORError, ValueError, TypeError, ArithmeticError, LookupError) as error:
            deep = "nesting depth" in str(error)
            detail = _hint(value) or f"no CBOR: {error}"
            raise RejectedError(Reason.TOO_DEEP if deep else Reason.UNDECODABLE, detail) from None

    return cbor_tree


def _hint(value: bytes) -> str:
    """What the bytes seem to be, where that is no guess at another binary format."""
    return "" if value[:1] >= b"\x80" else looks_like(value)


def json_like(found: Any) -> Any:
    """The same value made of the types of JSON, and bytes."""
    kind = type(found)
    if kind in _LEFT_ALONE:
        return found
    if kind is int:
        if found.bit_length() <= _WIDEST_INTEGER:
            return found
        return math.inf if found > 0 else -math.inf
    if kind is dict or hasattr(found, "items"):
        return {_key(key): json_like(value) for key, value in found.items()}
    if isinstance(found, list | tuple | set | frozenset):
        return [json_like(value) for value in found]
    if isinstance(found, datetime | date):
        return found.isoformat()
    if isinstance(found, Decimal | Fraction):
        return _double(found)
    if hasattr(found, "tag") and hasattr(found, "value"):  # a tag that says nothing here
        return json_like(found.value)
    return None  # undefined, a simple value without meaning, an extension


def _double(found: Decimal | Fraction) -> float:
    try:
        return float(found)
    except (OverflowError, ValueError):
        return math.inf


def _key(found: Any) -> str:
    if type(found) is str:
        return found
    if type(found) is bytes:
        return found.decode(errors="replace")
    return str(json_like(found))
