"""Many lines of JSON parsed into msgspec structs: those that can be, and which they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

Parse = Callable[[bytes], Any]
_ODD_SIGN: Final = re.compile(rb'"-(?:[nN]|0")')
_LONG: Final = re.compile(rb'"[-+.0-9]+[eE][-+]?[0-9]{5}|"[-+.0-9eE]{65}')
_ALPHABET: Final = bytes(b"0e"[c in b"eE"] if c in b"-+.0123456789eE" else c for c in range(256))
_LOOKS_LONG: Final = (b"0e00000", b"0" * 32)
"""What a number that ``_LONG`` finds has of these, in ``_ALPHABET``: an exponent of five digits, or, as at most one of its 65
characters is an e, 32 others in a row. To look for these takes a tenth of the time."""


class LineParser:
    """Parses lines.

    Args:
        parse: makes a struct of one line, strictly.
        parse_texts: the same, where texts that are plain numbers are numbers; None: there is no such way.
    """

    def __init__(self, parse: Parse, parse_texts: Parse | None) -> None:
        self._parse, self._parse_texts = parse, parse_texts
        self._texts_came = False  # in the last lines: the next ones are tried with them first

    def parsed(self, lines: Sequence[bytes], max_bytes: int) -> tuple[list[int], list[Any]]:
        """Which of the lines can be parsed, and their messages; a line of over ``max_bytes`` is not."""
        joined = b"\n".join(lines)
        sound = len(joined) <= max_bytes or max(map(len, lines)) <= max_bytes
        if sound and not joined.isascii():  # msgspec does not look inside the strings that it skips
            sound = _is_utf8(joined)
        which: Sequence[int] = range(len(lines))
        if not sound:
            which = [i for i in which if len(lines[i]) <= max_bytes and _is_utf8(lines[i])]
            lines = [lines[i] for i in which]
        parse_texts = self._parse_texts
        if self._texts_came and parse_texts is not None and _alike(joined):
            try:
                return list(which), [parse_texts(line) for line in lines]
            except (ValueError, RecursionError):
                pass
        messages: list[Any] = []
        odd: set[int] = set()
        texts, rest = 0, iter(lines)
        while len(messages) + len(odd) < len(lines):
            try:
                messages.extend(map(self._parse, rest))  # those before a line that raises are kept
            except (ValueError, RecursionError):
                at = len(messages) + len(odd)
                message = self._with_texts(lines[at])
                texts += message is not None
                if message is None or not _alike(lines[at]):
                    odd.add(at)
                else:
                    messages.append(message)
        self._texts_came = 2 * texts > len(lines)
        usual = list(which)
        for at in sorted(odd, reverse=True):
            del usual[at]
        return usual, messages

    def _with_texts(self, line: bytes) -> Any:
        if self._parse_texts is None:
            return None
        try:
            return self._parse_texts(line)
        except (ValueError, RecursionError):
            return None


def _alike(line: bytes) -> bool:
    """Whether every text that msgspec takes for a number is the same one by ``numbers.number_of``.

    That one reads exponents of up to four digits and 64 characters, knows a negative zero, and no -nan. With an
    escape such a text may hide.
    """
    if b"\\" in line or _ODD_SIGN.search(line) is not None:
        return False
    classes = line.translate(_ALPHABET)
    return not any(each in classes for each in _LOOKS_LONG) or _LONG.search(line) is None


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
