"""Single values that a library has wrapped into an object, as their type's name with the value.

``{"low": 2, "high": 0, "unsigned": true}`` is a 64-bit integer of JavaScript; ``{"double": 81.4}`` a union of Avro's JSON;
``{"doubleValue": 81.4}`` a wrapper of Protobuf's JSON; ``{"$numberLong": "17"}`` extended JSON.
"""

from __future__ import annotations

from typing import Any, Final

from daemon.stream.decode.json_text import long_of

_TYPES: Final = frozenset(
    {
        *("double", "float", "int", "long", "string", "boolean"),
        *(
            "doubleValue",
            "floatValue",
            "intValue",
            "integerValue",
            "longValue",
            "stringValue",
            "booleanValue",
        ),
        *("int32Value", "int64Value", "uint32Value", "uint64Value", "boolValue"),
        *("$numberDouble", "$numberInt", "$numberLong", "$numberDecimal", "$date"),
    }
)


def unwrapped(found: dict[Any, Any]) -> Any:
    """The value in such an object; the object itself where it is none of them."""
    inner: Any = found
    for _ in range(2):  # {"$date": {"$numberLong": ...}}
        if type(inner) is not dict:
            return inner
        if len(inner) == 1:
            ((name, value),) = inner.items()
            if name not in _TYPES:
                return inner
            inner = value
        elif len(inner) == 3:
            number = long_of(inner)
            return inner if number is None else number
        else:
            return inner
    return inner


def is_wrapped(found: dict[Any, Any]) -> bool:
    """Whether an object is such a single value, and no branch with leaves."""
    return len(found) <= 3 and type(unwrapped(found)) is not dict
