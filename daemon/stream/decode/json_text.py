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
from daemon.stream.rejection import RejectedError

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
        if value[:1] == b"\x00":
            detail = "a zero byte begins it: Confluent's framing? Give decode: {kind: ..., unwrap: confluent}"
            raise RejectedError(Reason.NOT_UTF8, detail) from None
        raise RejectedError(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8") from None
    if not text or text.isspace():
        raise RejectedError(Reason.BLANK, "nothing but white space")
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise RejectedError(Reason.TOO_DEEP, "nested too deeply") from None
    except json.JSONDecodeError as error:
        raise RejectedError(
            Reason.NOT_JSON, f"{error.msg.removesuffix(' at')} at character {error.pos}"
        ) from None


def _integer(digits: str) -> int | float:
    """An integer of JSON; infinity where it has more digits than any use for them."""
    return int(digits) if len(digits) < _LONGEST_NUMBER else math.copysign(math.inf, float(digits[:2]))
