"""What a Sparkplug B payload holds, however it was written: the form that both of its decoders give."""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple


class Metric(NamedTuple):
    """A metric as its message has it; what the message leaves out is None (datatype: 0).

    A template has no value of its own; its members are metrics, named ``TEMPLATE/MEMBER``. The members of one that
    the message names by its alias alone have that alias, and their own name in ``member``.
    """

    name: str | None
    alias: int | None
    timestamp: Any
    datatype: int
    value: Any  # None: null
    quality: Any = None
    historical: bool = False
    member: str = ""  # behind the name that the alias stands for


class Payload(NamedTuple):
    """The payload of a message."""

    timestamp: Any
    sequence: int | None
    metrics: list[Metric]


DATATYPES: Final = {
    name: number
    for number, name in enumerate(
        (
            *("unknown", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
            *("float", "double", "boolean", "string", "datetime", "text", "uuid", "dataset", "bytes", "file"),
            *("template", "propertyset", "propertysetlist", "int8array", "int16array", "int32array"),
            *("int64array", "uint8array", "uint16array", "uint32array", "uint64array", "floatarray"),
            *("doublearray", "booleanarray", "stringarray", "datetimearray"),
        )
    )
}
"""The numbers of the datatypes, by their names in lower case."""
TEMPLATE: Final = DATATYPES["template"]
_SIGNED_BITS: Final = {DATATYPES[f"int{bits}"]: bits for bits in (8, 16, 32, 64)}
_ARRAYS: Final = {
    DATATYPES[f"{name}array"]: code
    for name, code in {
        "int8": "b",
        "int16": "h",
        "int32": "i",
        "int64": "q",
        "datetime": "q",
        "uint8": "B",
        "uint16": "H",
        "uint32": "I",
        "uint64": "Q",
        "float": "f",
        "double": "d",
    }.items()
}


def typed(value: Any, datatype: int) -> Any:
    """A value by its datatype: on the wire signed integers are unsigned, and arrays of numbers are bytes."""
    if type(value) is int and datatype in _SIGNED_BITS:
        bits = _SIGNED_BITS[datatype]
        return value - (1 << bits) if 1 << (bits - 1) <= value < 1 << bits else value
    if type(value) is bytes and datatype in _ARRAYS:
        code = _ARRAYS[datatype]
        count = len(value) // struct.calcsize(f"<{code}")
        return list(struct.unpack_from(f"<{count}{code}", value))
    return value
