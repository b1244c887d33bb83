r"""InfluxDB's line protocol: ``pump,asset=p7,site=A temperature=81.4,rpm=1480i 1764397200123456789``.

The tree is an array with an object per line::

    {"measurement": "pump", "tags": {"asset": "p7", "site": "A"}, "timestamp": 1764397200123456789,
     "fields": {"temperature": 81.4, "rpm": 1480}}

``timestamp`` is in nanoseconds, whatever ``precision`` the option names (``ns``, ``us``, ``ms``, ``s``), and is
absent where the line has none. Values are numbers (``i`` and ``u`` behind integers), booleans and texts. Commas,
spaces and equals signs in names are escaped with a backslash; a quoted text may contain all of them, and line
breaks. Lines that begin with ``#`` are comments. A line that cannot be decoded is refused alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.stream.decode.arrival import Arrival, Parts, TreeDecoder
from daemon.stream.decode.wrappings import looks_like
from daemon.stream.rejection import RejectedError, shown

PRECISIONS: Final = {"ns": 1, "us": 10**3, "u": 10**3, "ms": 10**6, "s": 10**9}

_NAME = r"(?:[^,= \n\\]++|\\.|\\)++"
_MEASUREMENT = re.compile(r"(?:[^, \n\\]++|\\.|\\)++")
_TAG = re.compile(rf",({_NAME})=({_NAME})")
_QUOTED = r'"(?:[^"\\]++|\\[\s\S])*+"'
_FIELD = re.compile(rf"({_NAME})=({_QUOTED}|[^, \n\"]++)")
_TIME = re.compile(r" +(-?[0-9]{1,19})")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_INTEGER = re.compile(r"([+-]?[0-9]{1,20})[iu]")
_HEAD = r"[ \t]*+(?:[^ \n\\]++|\\.|\\)*+"
_LINE = re.compile(rf"[ \t]*+#[^\n]*+|{_HEAD}(?:[^\n=]++|={_QUOTED}|=)*+")
"""A comment, or a line: measurement and tags, where a quote is a character as any other, and behind the first blank
that is not escaped the fields, of which a quoted value may go over several lines."""
_BOOLEANS: Final = {
    **dict.fromkeys(("t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("f", "F", "false", "False", "FALSE"), False),
}
_ESCAPED = re.compile(r"\\([,= \\])")
_ESCAPED_IN_QUOTES = re.compile(r'\\(["\\])')


def line_protocol(options: Mapping[str, object]) -> TreeDecoder:
    """The decoder of these options.

    Raises:
        ConfigError: ``precision`` is none.
    """
    precision = options.get("precision", "ns")
    if precision not in PRECISIONS:
        raise ConfigError(f"decode: precision {precision!r} is none of {', '.join(PRECISIONS)}")
    scale = PRECISIONS[str(precision)]

    return lambda value, arrival: _lines(value, arrival, scale)


def _lines(value: bytes, arrival: Arrival, scale: int) -> list[dict[str, Any]]:
    """The lines of a record; those that cannot be decoded are refused alone, if there are others."""
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        detail = looks_like(value) or f"byte {error.start} is not UTF-8"
        raise RejectedError(Reason.NOT_UTF8, detail) from None
    parts, number, counted = Parts(), 1, 0
    for match in _LINE.finditer(text):
        stripped = match[0].strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            parts.found.append(_line(stripped, scale))
        except RejectedError as error:
            number += text.count("\n", counted, match.start())
            counted = match.start()
            parts.refuse(f"line {number}", error)
    return parts.taken(arrival)


def _line(text: str, scale: int) -> dict[str, Any]:
    measurement = _MEASUREMENT.match(text)
    if measurement is None:
        raise _fault(text, 0, "where the measurement's name is due")
    at, tags, fields = measurement.end(), {}, {}
    while (tag := _TAG.match(text, at)) is not None:
        tags[_name(tag[1])] = _name(tag[2])
        at = tag.end()
    blank = len(text) - len(text[at:].lstrip(" "))
    if blank == at:
        raise _fault(text, at, "where a tag or the fields are due")
    at = blank
    while True:
        field = _FIELD.match(text, at)
        if field is None:
            raise _fault(text, at, "where a field is due, as temperature=81.4")
        fields[_name(field[1])] = _value(field[2])
        at = field.end()
        if text[at : at + 1] != ",":
            break
        at += 1
    point: dict[str, Any] = {"measurement": _name(measurement[0]), "tags": tags, "fields": fields}
    time = _TIME.match(text, at)
    if time is not None:
        point["timestamp"] = int(time[1]) * scale
        at = time.end()
    if text[at:].strip():
        raise _fault(text, at, "where the time or the end is due")
    return point


def _fault(text: str, at: int, what: str) -> RejectedError:
    hint = looks_like(text[:8].encode()) if at == 0 or text[0] in "{[" else ""
    return RejectedError(Reason.UNDECODABLE, hint or f"{shown(text[at : at + 20])} {what}")


def _name(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _value(text: str) -> int | float | bool | str:
    """A field's value; what is none of the known kinds stays a text, for the one rule of what is a number."""
    if text.startswith('"'):
        return _ESCAPED_IN_QUOTES.sub(r"\1", text[1:-1])
    if _NUMBER.fullmatch(text):
        return float(text)
    if (integer := _INTEGER.fullmatch(text)) is not None:
        return int(integer[1])
    return _BOOLEANS.get(text, text)
