"""What stands for a number: numbers, texts of numbers, booleans, words of states, and what says "no value".

One rule for messages and tables. A cell that is none of these is *corrupt*: it counts as missing, under its
sensor and one of ``FAULTS``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from daemon.stream.extract.wrapped import unwrapped

MISSING_WORDS: Final = frozenset(
    {
        *("", "-", "--", "---", "?", "*", "nan", "na", "n/a", "#n/a", "null", "none", "nil"),
        *("missing", "no data", "nodata", "unknown", "unavailable", "not available"),
    }
)
"""Texts, in lower case, that hold no value."""
BOOLEAN_WORDS: Final[Mapping[str, float]] = {
    "true": 1.0,
    "false": 0.0,
    "on": 1.0,
    "off": 0.0,
    "yes": 1.0,
    "no": 0.0,
}
"""Texts, in lower case, that are 1 or 0 wherever they stand."""
FAULTS: Final = ("text", "ambiguous", "hex", "base64", "array", "object", "infinite", "too_large", "unit")
"""Why a cell is corrupt; a fixed set, so that each can be a metric label."""
FAULT_HINTS: Final[Mapping[str, str]] = {
    "text": "a text that is no number: give the sensor states, or put the word under missing",
    "ambiguous": "12,345 is 12.345 or 12345, and nothing in it says which: send a number, or a point for the decimals",
    "hex": "a hexadecimal number: whether it is signed, and of how many bits, is not in it: send a decimal number, or give"
    " the sensor states",
    "base64": "base64, as Debezium and Kafka Connect write a DECIMAL: set decimal.handling.mode=double there"
    " (Connect: a Cast), for its scale is not in the message",
    "array": "an array: give wave, or a path to one element, as a[0]",
    "object": "an object: give a path into it",
    "infinite": "infinity",
    "too_large": "beyond what a number of 64 bits holds",
    "unit": "in a unit that is not the sensor's and cannot be converted to it: see unit of the sensor",
}
"""What each fault is, and what helps."""
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_DECIMAL_COMMA: Final = re.compile(
    r"([+-]?)([0-9]{1,3}(?:[. '\u00a0\u202f][0-9]{3})+|[0-9]*),([0-9]+)((?:[eE][+-]?[0-9]{1,4})?)"
)
_AMBIGUOUS: Final = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_GROUPED: Final = re.compile(r"[+-]?[0-9]{1,3}(?:(?:,[0-9]{3})+\.[0-9]*|(?:,[0-9]{3}){2,})")
_WITH_UNIT: Final = re.compile(r"([+-]?[0-9.,]+(?:[eE][+-]?[0-9]{1,4})?)(\s*)([^\s0-9.,+-].*|1/.*)")
_UNITS: Final = frozenset(
    [
        "%",
        "%rh",
        "%r.f.",
        "‰",
        "ppm",
        "ppb",
        "ppt",
        "°",
        "°c",
        "°f",
        "ºc",
        "ºf",
        "℃",
        "℉",
        "°k",
        "degc",
        "degf",
        "celsius",
        "kelvin",
        "deg",
        "rad",
        "mrad",
        "pa",
        "hpa",
        "kpa",
        "mpa",
        "bar",
        "mbar",
        "µbar",
        "bara",
        "barg",
        "psi",
        "psia",
        "psig",
        "atm",
        "torr",
        "mmhg",
        "inhg",
        "mmh2o",
        "inh2o",
        "mv",
        "kv",
        "ma",
        "µa",
        "ka",
        "va",
        "kva",
        "mva",
        "var",
        "kvar",
        "mvar",
        "mw",
        "kw",
        "gw",
        "wh",
        "kwh",
        "mwh",
        "gwh",
        "ah",
        "mah",
        "kj",
        "mj",
        "gj",
        "kcal",
        "cal",
        "ohm",
        "kohm",
        "mohm",
        "ω",
        "kω",
        "mω",
        "mf",
        "µf",
        "nf",
        "pf",
        "mh",
        "µh",
        "ms",
        "µs",
        "µv",
        "nv",
        "hz",
        "khz",
        "mhz",
        "ghz",
        "rpm",
        "u/min",
        "db",
        "dba",
        "db(a)",
        "dbm",
        "mm",
        "cm",
        "dm",
        "km",
        "µm",
        "nm",
        "in",
        "inch",
        "ft",
        "yd",
        "mi",
        "mg",
        "µg",
        "kg",
        "lb",
        "lbs",
        "oz",
        "to",
        "ton",
        "tons",
        "ml",
        "cl",
        "dl",
        "hl",
        "gal",
        "l",
        "cfm",
        "lpm",
        "gpm",
        "slpm",
        "sccm",
        "nl",
        "kn",
        "mn",
        "knm",
        "mnm",
        "ncm",
        "us",
        "ns",
        "sec",
        "min",
        "hr",
        "hrs",
        "std",
        "day",
        "days",
        "lx",
        "klx",
        "lm",
        "mol",
        "mmol",
        "ph",
        "ntu",
        "fnu",
        "pcs",
        "st",
        "stk",
        "cp",
        "cst",
        "mpas",
    ]
)
"""Units of more than one letter, in lower case: with a number they are that number, whatever their prefix."""
_LETTERS: Final = frozenset(
    ["C", "F", "K", "V", "A", "W", "N", "J", "S", "s", "h", "d", "m", "g", "t", "l", "L", "Ω", "Ω"]
)
"""Units of one letter, as they are written. ``k`` and ``M`` are none: 10k is 10,000."""
_HEX: Final = re.compile(r"(?!dB$)[A-Fa-f][0-9A-Fa-f]*")
"""Units that may be hexadecimal digits too: they need a space, for 00A and 5C are identifiers."""
_EXPONENT: Final = re.compile(r"\^?[-\u207b]?[123\u00b9\u00b2\u00b3]$")
_HEX_NUMBER: Final = re.compile(r"[+-]?(?:0[xX]|16#)[0-9A-Fa-f_]+")
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4}){0,12}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)")
_LONGEST: Final = 64
_NAN: Final = float("nan")


class NotANumberError(ValueError):
    """A cell is corrupt; ``fault`` is one of ``FAULTS``."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault


def number_of(found: Any, states: Mapping[str, float] | None = None) -> float:
    """The number that a cell stands for; NaN where it says that there is no value.

    Args:
        found: any value of a tree.
        states: texts that are numbers for this sensor.

    Raises:
        NotANumberError: it stands for none.
    """
    kind = type(found)
    if kind is float:
        if math.isfinite(found):
            return float(found)
        if found != found:
            return _NAN
        raise NotANumberError("infinite")
    if kind is bool or kind is int:
        try:
            return float(found)
        except OverflowError:
            raise NotANumberError("too_large") from None
    if found is None:
        return _NAN
    if kind is str:
        return _number_of_text(found, states or {})
    if kind is list:
        raise NotANumberError("array")
    if kind is dict and (inner := unwrapped(found)) is not found and type(inner) is not dict:
        return number_of(inner, states)
    if isinstance(found, Decimal):
        return _NAN if found.is_nan() else number_of(float(found), states)
    raise NotANumberError("object")


def _number_of_text(text: str, states: Mapping[str, float]) -> float:
    if text in states:
        return states[text]
    text = text.strip()
    if len(text) > _LONGEST:
        raise NotANumberError("text")
    if _NUMBER.fullmatch(text):
        number = float(text)
        if math.isfinite(number):
            return number
        raise NotANumberError("too_large")
    word = text.lower()
    if word in states:
        return states[word]
    if word in MISSING_WORDS:
        return _NAN
    if word in BOOLEAN_WORDS:
        return BOOLEAN_WORDS[word]
    if word.lstrip("+-") in ("inf", "infinity"):
        raise NotANumberError("infinite")
    if _AMBIGUOUS.fullmatch(text):
        raise NotANumberError("ambiguous")
    if (comma := _DECIMAL_COMMA.fullmatch(text)) is not None:
        whole = re.sub(r"[^0-9]", "", comma[2]) or "0"
        return float(f"{comma[1]}{whole}.{comma[3]}{comma[4]}")
    if _GROUPED.fullmatch(text):
        return float(text.replace(",", ""))
    if (unit := _WITH_UNIT.fullmatch(text)) is not None and _is_unit(unit[3], spaced=bool(unit[2])):
        return _number_of_text(unit[1], {})
    if _HEX_NUMBER.fullmatch(text):
        raise NotANumberError("hex")
    raise NotANumberError("base64" if _BASE64.fullmatch(text) else "text")


def _is_unit(text: str, *, spaced: bool) -> bool:
    """Whether a text is a unit, or some with ``/`` and the like between them (``m/s2``, ``Nm\u00b3/h``, ``1/min``).

    Args:
        text: what follows a number.
        spaced: whether there is white space between them.
    """
    if text.startswith("1/"):
        return spaced and _is_unit(text[2:], spaced=True)
    if not spaced and _HEX.fullmatch(text):
        return False
    if _is_single(text):
        return True
    parts = re.split(r"[/*\u00b7\u22c5]", text)
    return len(parts) <= 4 and all(_is_single(_EXPONENT.sub("", part)) for part in parts)


def _is_single(text: str) -> bool:
    if text.startswith(("%", "\u00b0")):
        text = text.replace(" ", "")
    text = text.replace("\u03bc", "\u00b5")
    return text in _LETTERS or text.lower() in _UNITS or (text[:1] == "N" and text[1:] in ("m", "l", "L"))
