"""Why a record cannot be used, and how a found value is quoted in that reason.

Decoding raises ``RejectedError`` inside, and ``Decoder.decode`` turns it into a ``Rejected``. The details
end up in dead letters and log lines, and whoever can produce records chooses the values in them: so a
value is always quoted short and in ASCII, and no record can forge a log line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Final

from daemon.domain import Reason

DETAIL_LENGTH: Final = 200
"""Characters of a detail, at most."""
_BIDI_CONTROLS: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class RejectedError(Exception):
    """The record at hand cannot be used: a reason of the fixed set, and a detail in words.

    Args:
        reason: why.
        detail: the words, or a function that finds them: of a message with ever so many items that cannot be
            used, one is explained.
    """

    def __init__(self, reason: Reason, detail: str | Callable[[], str]) -> None:
        super().__init__(reason)
        self.reason = reason
        self._detail = detail

    @property
    def detail(self) -> str:
        """At most ``DETAIL_LENGTH`` characters."""
        if not isinstance(self._detail, str):
            self._detail = self._detail()
        return self._detail[:DETAIL_LENGTH]

    def __str__(self) -> str:
        return self.detail


class SkippedError(Exception):
    """The message is no reading and no fault: it is counted under ``rule``; ``detail`` says more, for people."""

    def __init__(self, rule: str, detail: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.detail = detail


def json_kind(value: object) -> str:
    """What JSON calls the type of a value."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return kinds.get(type(value), "an object")


def shown(value: object) -> str:
    """A found value, short and in plain ASCII."""
    text = ascii(value[:48] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def forbidden_character(text: str) -> str | None:
    """The first character that could forge a log line or cannot be encoded, as ``U+XXXX``; space is allowed."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS:
            return f"U+{ord(character):04X}"
    return None
