"""The collected fixtures of formats that lie outside the project, by presets and by mappings from the document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.running import SHARED
from tests.stream.mapped import Cell, read, stream

FORMATS = SHARED / "formats"
pytestmark = [pytest.mark.shared, pytest.mark.skipif(not FORMATS.is_dir(), reason=f"no {FORMATS}")]

T, NS, MS = 1_764_397_200, 10**9, 10**6  # 2025-11-29T06:20:00Z
ID = "sensorId"
SPLIT = {
    "asset": {"from": ID, "match": "^(.+)/"},
    "sensor": {"from": ID, "match": "([^/]+)$"},
    "time": "timestamp",
    "value": "value",
}
WAVE = {"asset": "asset", "time": "trigger_time", "leaves": "data", "wave": {"rate": "fs", "explode": True}}

FIXTURES: dict[str, tuple[dict[str, Any], dict[str, Any], list[Cell]]] = {
    "1-1": (
        {"format": "flat"},
        {},
        [("pump-7", "temperature", T * NS + 123 * MS, 81.4), ("pump-7", "pressure", T * NS + 123 * MS, 4.02)],
    ),
    "1-2": ({"input": SPLIT}, {}, [("pump-7", "temperature", T * NS + 123 * MS, 81.4)]),
    "1-3": (
        {"format": "thingsboard"},
        {"key": b"pump-7"},
        [
            ("pump-7", "temperature", T * NS, 81.4),
            ("pump-7", "humidity", T * NS, 41.0),
            ("pump-7", "temperature", (T + 1) * NS, 81.5),
        ],
    ),
    "1-4": (
        {"format": "kepware"},
        {},
        [
            ("Line1.Pump7", "Pressure", (T - 1) * NS, None),
            ("Line1.Pump7", "Temperature", T * NS + 100 * MS, 81.4),
        ],
    ),
    "1-6": (
        {"input": WAVE},
        {},
        [
            (asset, name, T * NS + (123 + at) * MS, value)
            for at, values in enumerate([(0.01, 0.0), (0.03, 0.01), (-0.02, 0.02)])
            for asset, name, value in (("motor-3", "ax", values[0]), ("motor-3", "ay", values[1]))
        ],
    ),
    "2-1": (
        {"format": "telegraf"},
        {},
        [("pump-7", "temperature", T * NS, 81.4), ("pump-7", "pressure", T * NS, 4.02)],
    ),
    "2-2": (
        {"format": "telegraf"},
        {},
        [("pump-7", "temperature", T * NS, 81.4), ("pump-8", "temperature", T * NS, 79.9)],
    ),
    "2-4": (
        {"format": "prometheus-kafka-adapter"},
        {},
        [("pump-7", "pump_temperature_celsius", T * NS, 81.4)],
    ),
    "2-5": ({"format": "otlp"}, {}, [("pump-7", "temperature", T * NS + 123_456_789, 81.4)]),
    "3-3": (
        {"format": "opcua-pubsub"},
        {},
        [
            ("pump-7", "Pressure", (T - 60) * NS, None),
            ("pump-7", "Temperature", T * NS + 100_123_400, 81.4),
            ("pump-7", "Rpm", T * NS + 123_456_700, 1480.0),
        ],
    ),
    "3-5": ({"format": "opc-publisher"}, {}, [("Pump7", "Temperature", T * NS + 123_456_700, 81.4)]),
    "3-8": (
        {"format": "umh"},
        {"key": b"umh.v1.acme.plantA.line1.pump7._historian.temperature"},
        [
            ("acme.plantA.line1.pump7", "temperature", T * NS + 123 * MS, 81.4),
            ("acme.plantA.line1.pump7", "axis.x", T * NS + 123 * MS, 1.2),
            ("acme.plantA.line1.pump7", "axis.y", T * NS + 123 * MS, 0.4),
        ],
    ),
    "4-2": (
        {"format": "aws-iot"},
        {},
        [("pump-7", "pressure", (T - 60) * NS, 4.02), ("pump-7", "temperature", T * NS, 81.4)],
    ),
    "4-3": (
        {"format": "azure-iot-hub"},
        {},
        [("pump-7", "temperature", T * NS + 187 * MS, 81.4), ("pump-7", "pressure", T * NS + 187 * MS, 4.02)],
    ),
    "4-4": ({"format": "kafka-connect"}, {}, [("pump-7", "temperature", T * NS + 123 * MS, 81.4)]),
    "4-5": (
        {"format": "debezium"},
        {},
        [
            ("pump-7", "temperature", T * NS + 123_456_000, 81.4),
            ("pump-7", "pressure", T * NS + 123_456_000, None),
        ],
    ),
    "4-6": (
        {"format": "cloudevents"},
        {},
        [("pump-7", "temperature", T * NS + 123 * MS, 81.4), ("pump-7", "pressure", T * NS + 123 * MS, 4.02)],
    ),
    "5-2": (
        {"format": "tasmota", "timezone": "Europe/Berlin"},
        {"key": b"tele/pump7/SENSOR"},
        [("pump7", "AM2301.Temperature", T * NS, 21.6), ("pump7", "AM2301.DewPoint", T * NS, None)],
    ),
    "5-3": (
        {"format": "the-things-stack"},
        {},
        [
            ("pump-7", "temperature", T * NS + 712_345_678, 21.6),
            ("pump-7", "battery", T * NS + 712_345_678, 3.58),
        ],
    ),
    "5-4": ({"format": "home-assistant"}, {}, [("pump7", "temperature", T * NS + 123_456_000, 81.4)]),
    "5-5": (
        {"format": "ngsi-ld"},
        {},
        [("urn:ngsi-ld:Device:pump-7", "temperature", T * NS + 708 * MS, 81.4)],
    ),
}
DECODED: dict[str, tuple[dict[str, Any], dict[str, Any], list[Cell]]] = {
    "3-1": (
        {"format": "sparkplug-json"},
        {"key": b"spBv1.0/plantA/DDATA/edge1/pump-7"},
        [
            ("plantA/edge1/pump-7", "Temperature", T * NS + 123 * MS, 81.4),
            ("plantA/edge1/pump-7", "Pressure", T * NS + 123 * MS, None),
        ],
    ),
    "5-1": (
        {"format": "mqtt-json"},
        {},
        [("pump-7", "temperature", T * NS + 123 * MS, 81.4), ("pump-7", "pressure", T * NS + 123 * MS, 4.02)],
    ),
    "5-6": (
        {"format": "senml"},
        {},
        [
            ("urn:dev:ow:10e2073a01080063", "temperature", T * NS + 250 * MS, 81.4),
            ("urn:dev:ow:10e2073a01080063", "pressure", T * NS + 250 * MS, 4.02),
            ("urn:dev:ow:10e2073a01080063", "running", T * NS + 250 * MS, 1.0),
            ("urn:dev:ow:10e2073a01080063", "temperature", (T + 1) * NS + 250 * MS, 81.5),
        ],
    ),
}


def check(number: str, case: tuple[dict[str, Any], dict[str, Any], list[Cell]]) -> None:
    given, record, expected = case
    (path,) = FORMATS.glob(f"{number}-*.json")
    message = json.loads(path.read_text())
    sensors = list(dict.fromkeys(cell[1] for cell in expected))
    section = stream(sensors, **{"input": {}} | given)
    assert read(section, message, **record) == expected


@pytest.mark.parametrize("number", FIXTURES)
def test_a_fixture_gives_the_readings_that_a_person_reads(number: str) -> None:
    check(number, FIXTURES[number])


@pytest.mark.parametrize("number", DECODED)
def test_a_fixture_that_needs_its_decoder_does_too(number: str) -> None:
    pytest.importorskip("daemon.stream.decode.inner", reason="the decoders are not there yet")
    check(number, DECODED[number])
