"""Sparkplug messages in both of their forms, and the records that they come in."""

from __future__ import annotations

import json
from typing import Any

from daemon.domain import Record
from daemon.stream.decode.sparkplug_protobuf import payload_class
from daemon.stream.decode.sparkplug_values import DATATYPES
from tests.stream.decode.arriving import NOW_NS

NOW_MS = NOW_NS // 1_000_000
PAYLOAD = payload_class()
FIELD_OF = {
    **dict.fromkeys(("Int8", "Int16", "Int32", "UInt8", "UInt16", "UInt32"), "int_value"),
    **dict.fromkeys(("Int64", "UInt64", "DateTime"), "long_value"),
    "Float": "float_value",
    "Double": "double_value",
    "Boolean": "boolean_value",
    "String": "string_value",
    "Bytes": "bytes_value",
    "FloatArray": "bytes_value",
}
Metric = dict[str, Any]
"""``name``, ``alias``, ``type`` (also where it is not written: ``untyped``), ``value``, ``time``, ``quality``."""


def protobuf(metrics: list[Metric], seq: int | None, timestamp: int | None = NOW_MS) -> bytes:
    payload = PAYLOAD()
    if timestamp is not None:
        payload.timestamp = timestamp
    if seq is not None:
        payload.seq = seq
    for each in metrics:
        made = payload.metrics.add()
        for key, field in (("name", "name"), ("alias", "alias"), ("time", "timestamp")):
            if key in each:
                setattr(made, field, each[key])
        kind = each.get("type", "Double")
        if not each.get("untyped"):
            made.datatype = DATATYPES[kind.lower()]
        if each.get("value") is None:
            made.is_null = True
        else:
            value = each["value"]
            if type(value) is int and value < 0:
                value += 1 << (64 if kind == "Int64" else 32 if kind == "Int32" else int(kind[3:]))
            setattr(made, FIELD_OF[kind], value)
        if each.get("historical"):
            made.is_historical = True
        if "quality" in each:
            made.properties.keys.append("Quality")
            made.properties.values.add(type=3, int_value=each["quality"])
    return bytes(payload.SerializeToString())


def as_json(metrics: list[Metric], seq: int | None, timestamp: int | None = NOW_MS) -> bytes:
    written = []
    for each in metrics:
        made: dict[str, Any] = {key: each[key] for key in ("name", "alias") if key in each}
        if "time" in each:
            made["timestamp"] = each["time"]
        if not each.get("untyped"):
            made["dataType"] = each.get("type", "Double")
        if each.get("value") is None:
            made["isNull"] = True
        else:
            made["value"] = each["value"]
        if each.get("historical"):
            made["isHistorical"] = True
        if "quality" in each:
            made["properties"] = {"Quality": {"type": "Int32", "value": each["quality"]}}
        written.append(made)
    payload: dict[str, Any] = {"metrics": written}
    if timestamp is not None:
        payload["timestamp"] = timestamp
    if seq is not None:
        payload["seq"] = seq
    return json.dumps(payload).encode()


FORMS = {"sparkplug": protobuf, "sparkplug-json": as_json}


def message(
    kind: str, offset: int, topic: str, metrics: list[Metric], seq: int | None = None, **more: Any
) -> Record:
    """The record of a message, its topic (without ``spBv1.0/``) in the key."""
    now_ns = more.pop("now_ns", NOW_NS)
    return Record(offset, f"spBv1.0/{topic}".encode(), FORMS[kind](metrics, seq, **more), now_ns)
