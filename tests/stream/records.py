"""Records of messages, and what decoding them gives."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from daemon.domain import (
    SECOND_NS,
    Format,
    InputPartition,
    Reading,
    Reason,
    Record,
    Rejected,
    StreamSpec,
)

SENSORS = ("Pressure", "Current", "Flow Rate")
WIDE = StreamSpec("pumps", SENSORS)
LONG = replace(WIDE, format=Format.JSON_LONG)
NOW_NS = 1_704_070_800 * SECOND_NS  # 2024-01-01T01:00:00Z
NOW = datetime(2024, 5, 1, 12, 0, 0, 250_000, tzinfo=UTC)
PUMPS_0 = InputPartition("sensors.pumps", 0)
DAY = 1_704_067_200  # 2024-01-01T00:00:00Z
MODED = replace(
    WIDE, condition=("mode", "load"), assets={"p1": {"mode": "A", "load": "50"}, "p2": {"load": "9"}}
)


def record(value: bytes, key: bytes | None = None, timestamp_ns: int = NOW_NS) -> Record:
    return Record(7, key, value, timestamp_ns)


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def wide(values: Any, asset: Any = "p1", ts: Any = "2024-01-01T00:00:00Z", **more: Any) -> bytes:
    return line(asset=asset, ts=ts, values=values, **more)


def long(value: Any, sensor: Any = "Current", ts: Any = "2024-01-01T00:00:00Z", **more: Any) -> bytes:
    return line(asset="p1", sensor=sensor, ts=ts, value=value, **more)


def accepted(result: Reading | Rejected) -> Reading:
    assert isinstance(result, Reading), result
    return result


def refused(result: Reading | Rejected) -> tuple[Reason, str]:
    assert isinstance(result, Rejected), result
    return result.reason, result.detail


def shown(reading: Reading) -> tuple[object, ...]:
    """A reading as a value that can be compared (NaN equals itself in ``repr``)."""
    return (
        reading.offset,
        reading.asset,
        reading.time_ns,
        repr(reading.values),
        reading.sensor,
        repr(reading.value),
        reading.condition,
    )


GOOD = wide({"Current": 1.0})
