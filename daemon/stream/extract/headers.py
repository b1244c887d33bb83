"""Values of record headers: bytes of a text, or of a value that AMQP has typed.

Azure Event Hubs hands the properties of an AMQP message on as headers, each with its AMQP type before the value.
The types read here begin with a byte that no UTF-8 text begins with, so that nothing is guessed.
"""

from __future__ import annotations

from typing import Any, Final

_SHORT_TEXTS: Final = (0xA1, 0xA3)  # str8, sym8: one byte of length
_LONG_TEXTS: Final = (0xB1, 0xB3)  # str32, sym32: four bytes of length
_WHOLE: Final = (0x80, 0x81, 0x83)  # ulong, long, timestamp (milliseconds)


def header_value(value: bytes) -> Any:
    """A text or a number that AMQP has typed; else the bytes as they are."""
    if not value or value[0] < 0x80:
        return value
    code, size = value[0], len(value)
    if code in _SHORT_TEXTS and size >= 2 and size == 2 + value[1]:
        return value[2:]
    if code in _LONG_TEXTS and size >= 5 and size == 5 + int.from_bytes(value[1:5], "big"):
        return value[5:]
    if code in _WHOLE and size == 9:
        return int.from_bytes(value[1:], "big", signed=code != 0x80)
    return value
