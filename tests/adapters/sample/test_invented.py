"""Messages of makers whose formats are none of the presets: what ``init`` makes of them by their names and shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.adapters.sample import derive

BEGIN = 1_764_397_200
Message = Callable[[int], dict[str, Any]]


def at(i: int) -> str:
    return datetime.fromtimestamp(BEGIN + i, UTC).isoformat()


def derived(message: Message) -> Any:
    return derive([json.dumps(message(i)).encode() for i in range(120)], name="s")


def uplink(i: int) -> dict[str, Any]:
    """The payload is decoded below a field that has the name of its bytes further out."""
    return {
        "dev_eui": f"00{i % 2}",
        "fcnt": i,
        "reported_at": (BEGIN + i) * 1000,
        "decoded": {"status": "success", "payload": {"temperature": 20 + i % 7, "humidity": 40 + i % 5}},
        "payload": "AQID",
        "hotspots": [{"name": "h", "rssi": -90, "snr": 5.1}],
    }


def historian(i: int) -> dict[str, Any]:
    """Streams with their samples, each with marks that are true or false."""
    marks = {"Questionable": False, "Substituted": False}
    return {
        "Items": [
            {
                "WebId": f"F{number}",
                "Name": name,
                "Items": [{"Timestamp": at(i), "Value": number + i % 7, "Good": i % 9 != number, **marks}],
            }
            for number, name in enumerate(("temperature", "pressure"))
        ]
    }


def points(i: int) -> dict[str, Any]:
    """Points by their ids, with a code of quality whose 0 is good."""
    values = [
        {"dataPointId": name, "value": str(4 + i % place), "qualityCode": "0"}
        for name, place in (("temp", 7), ("press", 3))
    ]
    return {"timeseries": [{"timestamp": at(i), "values": values}]}


def relay(i: int) -> dict[str, Any]:
    status = {"id": 0, "apower": 100 + i % 7, "temperature": {"tC": 40 + i % 5}}
    return {
        "src": f"relay-{i % 2}",
        "method": "NotifyStatus",
        "params": {"ts": BEGIN + i + 0.25, "switch:0": status},
    }


def room(i: int) -> dict[str, Any]:
    device = {"friendlyName": f"room-{i % 2}", "ieeeAddr": "0x00158d"}
    return {"humidity": 41 + i % 5, "last_seen": at(i), "temperature": 20 + i % 7, "device": device}


def flow(i: int) -> dict[str, Any]:
    return {
        "_msgid": f"a{i}",
        "topic": f"plant/line1/pump{i % 2}/level",
        "payload": 20 + i % 7,
        "ts": BEGIN + i,
    }


@pytest.mark.parametrize(
    ("message", "sensors", "asset"),
    [
        (uplink, {"decoded.payload.temperature", "decoded.payload.humidity"}, "dev_eui"),
        (historian, {"temperature", "pressure"}, {"constant": "asset-0"}),
        (points, {"temp", "press"}, {"constant": "asset-0"}),
        (relay, {"apower", "temperature.tC"}, "src"),
        (room, {"humidity", "temperature"}, "device.friendlyName"),
        (flow, {"level"}, {"from": "topic", "match": "^(?<asset>.+)/"}),
    ],
)
def test_sensors_and_assets_are_found_by_names_and_shapes(
    message: Message, sensors: set[str], asset: Any
) -> None:
    found = derived(message)
    assert set(found.spec.sensors) == sensors
    assert found.written.input["asset"] == asset


def test_marks_of_a_value_are_its_quality_or_nothing() -> None:
    assert derived(historian).written.input["quality"] == "Good"
    found = derived(points)
    assert "quality" not in found.written.input
    assert "qualityCode is no quality" in found.written.why["input.value"]


def test_arrays_of_numbers_are_said_to_be_left_out() -> None:
    found = derived(
        lambda i: {"gateway": "g", "ts": BEGIN + i, "load": i % 5, "registers": [200 + i % 7, 40]}
    )
    assert found.spec.sensors == ("load",)
    assert "registers[0]" in found.written.why["input.leaves"]
