"""A plain number, or several words: ``81.4``, ``81.4 4.02``, ``81.4,4.02``.

The tree is ``{"value": the whole text, "values": [its words]}``: a single number is at ``value``, the second of
several at ``values[1]``. Words are apart by white space, semicolons and commas; a comma is a decimal comma where
every word has one and nothing else (``81,4 4,02``). The option ``separator`` names the one that counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.stream.decode.wrappings import looks_like
from daemon.stream.rejection import RejectedError

_WORDS: Final = re.compile(r"[\s;]+")
_WORDS_AND_COMMAS: Final = re.compile(r"[\s;]*,[\s;]*|[\s;]+")
_DECIMAL_COMMA: Final = re.compile(r"[+-]?[0-9]+,[0-9]+")


def plain_text(options: Mapping[str, object]) -> Callable[[bytes], dict[str, Any]]:
    """The decoder of these options.

    Raises:
        ConfigError: ``separator`` is no text.
    """
    separator = options.get("separator")
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise ConfigError(f"decode: separator {separator!r} is no text")

    def text_tree(value: bytes) -> dict[str, Any]:
        """Raises RejectedError: it is blank, or no text."""
        try:
            text = value.decode("utf-8-sig").strip()
        except UnicodeDecodeError as error:
            detail = looks_like(value) or f"byte {error.start} is not UTF-8"
            raise RejectedError(Reason.NOT_UTF8, detail) from None
        if not text:
            raise RejectedError(Reason.BLANK, "nothing but white space")
        if separator is not None:
            words = [word.strip() for word in text.split(separator)]
        else:
            words = [word for word in _WORDS.split(text) if word]
            if not all(map(_DECIMAL_COMMA.fullmatch, words)):
                words = _WORDS_AND_COMMAS.split(text.strip(";"))
        if not any(words):
            raise RejectedError(Reason.BLANK, "nothing but separators")
        return {"value": text, "values": words}

    return text_tree
