"""JSON: by msgspec, and where that refuses, by Python's ``json``, which real producers need.

``NaN``, ``Infinity`` and numbers beyond a double are no JSON, and are sent all the same. Integers keep every
digit. A byte order mark is passed over.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

import msgspec

from daemon.domain import Reason
from daemon.stream.decode.wrappings import looks_like
from daemon.stream.rejection import RejectedError, shown

_LONGEST_NUMBER: Final = 400  # digits; Python itself refuses integers of over 4300
_decode = msgspec.json.Decoder().decode


def json_tree(value: bytes) -> Any:
    """The tree of a JSON text.

    Raises:
        RejectedError: it is blank, not UTF-8, nested too deeply, or no JSON.
    """
    try:
        return _decode(value)
    except (ValueError, RecursionError):
        return lenient_json(value)


def lenient_json(value: bytes) -> Any:
    """The same by Python's ``json``.

    Raises:
        RejectedError: see ``json_tree``.
    """
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        detail = looks_like(value) or f"byte {error.start} is not UTF-8"
        raise RejectedError(Reason.NOT_UTF8, detail) from None
    if not text or text.isspace():
        raise RejectedError(Reason.BLANK, "nothing but white space" if text else "empty")
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise RejectedError(Reason.TOO_DEEP, "nested too deeply") from None
    except json.JSONDecodeError as error:
        hint = looks_like(value)
        if hint and value[:1] not in b"{[":
            raise RejectedError(Reason.NOT_JSON, hint) from None
        more = " (several JSON texts? Give decode: json-lines)" if error.msg == "Extra data" else ""
        found = (
            f", where {shown(text[error.pos : error.pos + 16])} is"
            if text[error.pos :].strip()
            else ", the end"
        )
        detail = f"{error.msg.removesuffix(' at')} at character {error.pos}{more or found}"
        raise RejectedError(Reason.NOT_JSON, detail) from None


def _integer(digits: str) -> int | float:
    """An integer of JSON; infinity where it has more digits than any use for them."""
    return int(digits) if len(digits) < _LONGEST_NUMBER else math.copysign(math.inf, float(digits[:2]))


def with_longs(found: Any) -> Any:
    """A tree in which 64-bit integers stand for what JavaScript libraries print for them.

    Those print ``{"low": 2, "high": 0, "unsigned": true}``; the tree is changed in place.
    """
    if type(found) is dict:
        if (number := long_of(found)) is not None:
            return number
        for name, value in found.items():
            if type(value) is dict or type(value) is list:
                found[name] = with_longs(value)
    elif type(found) is list:
        for at, value in enumerate(found):
            if type(value) is dict or type(value) is list:
                found[at] = with_longs(value)
    return found


def long_of(found: dict[Any, Any]) -> int | None:
    """The 64-bit integer that an object of JavaScript's stands for; None where it is another object.

    One without ``unsigned`` is another: ``{"low": 18, "high": 25}`` are two limits.
    """
    low, high = found.get("low"), found.get("high")
    unsigned = found.get("unsigned")
    if type(low) is not int or type(high) is not int or type(unsigned) is not bool or len(found) != 3:
        return None
    if not (-(1 << 31) <= low < 1 << 32 and -(1 << 31) <= high < 1 << 32):
        return None
    number = ((high & 0xFFFFFFFF) << 32) | (low & 0xFFFFFFFF)
    return number if unsigned or number < 1 << 63 else number - (1 << 64)
