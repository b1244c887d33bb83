"""Sparkplug B payloads that a bridge has decoded to JSON, in the spellings that there are.

``{"timestamp": ..., "metrics": [{"name": ..., "alias": 4, "dataType": "Double", "value": 81.4}], "seq": 12}``;
instead of ``value`` protobuf's own names (``doubleValue``, ``double_value``), ``isNull`` or ``is_null``, numbers as
texts and 64-bit integers as ``{"low", "high", "unsigned"}``; all of it at the top, or under ``payload``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from daemon.domain import Reason
from daemon.stream.decode.json_text import long_of
from daemon.stream.decode.sparkplug_values import DATATYPES, TEMPLATE, Metric, Payload
from daemon.stream.rejection import RejectedError, json_kind

_VALUES: Final = tuple(
    spelling
    for kind in ("int", "long", "float", "double", "boolean", "string")
    for spelling in (f"{kind}Value", f"{kind}_value")
)
_DEEPEST: Final = 20


def payload_of(tree: Any) -> Payload:
    """The payload that a JSON tree is.

    Raises:
        RejectedError: it has no metrics.
    """
    if type(tree) is not dict:
        raise RejectedError(Reason.NOT_AN_OBJECT, f"the payload is {json_kind(tree)}, not an object")
    inner = tree.get("payload")
    if "metrics" not in tree and type(inner) is dict:
        tree = inner
    metrics = tree.get("metrics", [])
    if type(metrics) is not list:
        raise RejectedError(Reason.NO_VALUES, f"metrics is {json_kind(metrics)}, not an array")
    sequence = _integer(tree.get("seq"))
    return Payload(
        _integer(tree.get("timestamp")),
        sequence if type(sequence) is int else None,
        list(_metrics(metrics)),
    )


def _metrics(
    found: list[Any], prefix: str = "", owner: int | None = None, depth: int = 0
) -> Iterator[Metric]:
    """The metrics of a message, or of a template; arguments as in ``sparkplug_protobuf``."""
    for each in found:
        if type(each) is not dict:
            continue
        given, alias = each.get("name"), _integer(each.get("alias"))
        name: str | None = prefix + given if type(given) is str and given else None
        alias = alias if type(alias) is int and 0 <= alias < 1 << 64 else None
        timestamp = _integer(each.get("timestamp"))
        datatype = _datatype(_first(each, "dataType", "datatype", "data_type", "type"))
        value = each.get("value")
        if value is None:
            value = next((_integer(each[key]) for key in _VALUES if key in each), None)
        if type(value) is dict:
            members = value.get("metrics")
            if type(members) is list:
                known = (name, alias) != (None, None)
                if not _first(value, "isDefinition", "is_definition") and depth < _DEEPEST and known:
                    if owner is None:
                        yield Metric(name, alias, timestamp, TEMPLATE, None)
                    inner = owner if name is not None else alias
                    yield from _metrics(members, f"{name or ''}/", inner, depth + 1)
                continue
            number = long_of(value)
            value = value if number is None else number
        if _first(each, "isNull", "is_null") is True:
            value = None
        quality = _quality(each.get("properties"))
        historical = _first(each, "isHistorical", "is_historical") is True
        member = ""
        if owner is not None and name is not None:
            member, name, alias = name, None, owner
        yield Metric(name, alias, timestamp, datatype, value, quality, historical, member)


def _quality(properties: Any) -> Any:
    """The property named quality: ``{"Quality": {"value": 192}}``, or of arrays ``keys`` and ``values``."""
    if type(properties) is not dict:
        return None
    keys, values = properties.get("keys"), properties.get("values")
    if type(keys) is list and type(values) is list:
        properties = {key: value for key, value in zip(keys, values, strict=False) if type(key) is str}
    for key, found in properties.items():
        if key.lower() == "quality":
            if type(found) is dict:
                return _integer(_first(found, "value", *_VALUES))
            return found
    return None


def _first(found: dict[str, Any], *names: str) -> Any:
    return next((found[name] for name in names if found.get(name) is not None), None)


def _integer(found: Any) -> Any:
    """A whole number, also as a text or as JavaScript's libraries print it; anything else as it is."""
    if type(found) is dict:
        number = long_of(found)
        return found if number is None else number
    if type(found) is str and len(found) <= 20 and found.removeprefix("-").isdecimal() and found.isascii():
        return int(found)
    return found


def _datatype(found: Any) -> int:
    if type(found) is str:
        return DATATYPES.get(found.lower(), 0)
    return found if type(found) is int and 0 <= found < len(DATATYPES) else 0
