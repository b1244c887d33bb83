"""Presets whose messages are no JSON, or hold texts that are messages themselves."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.stream.mapped import Cell, read, stream

pytest.importorskip("daemon.stream.decode.inner", reason="the decoders are not there yet")

T, NS = 1_772_352_000, 10**9  # 2026-03-01T08:00:00Z

CASES: dict[str, tuple[str, Any, dict[str, Any], list[Cell]]] = {
    "influx": (
        "influx",
        f'mill,asset=w1,site=A force=7.5,stroke=8i,state="RUN" {T * NS + 5}\nmill,host=w2 force=9'.encode(),
        {},
        [
            ("w1", "force", T * NS + 5, 7.5),
            ("w1", "stroke", T * NS + 5, 8.0),
            ("w2", "force", 1_798_800_000 * NS, 9.0),
        ],
    ),
    "senml": (
        "senml",
        [{"bn": "urn:dev:mac:0a:", "bt": T + 0.25, "n": "force", "v": 7.5}, {"n": "stroke", "t": 1, "vb": True}],
        {},
        [
            ("urn:dev:mac:0a", "force", T * NS + NS // 4, 7.5),
            ("urn:dev:mac:0a", "stroke", (T + 1) * NS + NS // 4, 1.0),
        ],
    ),
    "sparkplug-json": (
        "sparkplug-json",
        {
            "timestamp": T * 1000, "seq": 3,
            "metrics": [
                {"name": "force", "timestamp": T * 1000 + 5, "dataType": "Double", "value": 7.5},
                {
                    "name": "stroke", "dataType": "Double", "value": 1.5,
                    "properties": {"Quality": {"type": "Int32", "value": 0}},
                },
            ],
        },
        {"key": b"spBv1.0/ulm/DDATA/edge4/saw2"},
        [("ulm/edge4/saw2", "stroke", T * NS, None), ("ulm/edge4/saw2", "force", T * NS + 5 * 10**6, 7.5)],
    ),
    "mqtt-json": (
        "mqtt-json",
        {"topic": "ulm/saw2/telemetry", "timestamp": T * 1000, "payload": '{"force": 7.5, "axis": {"x": 1}}'},
        {},
        [("saw2", "force", T * NS, 7.5), ("saw2", "axis.x", T * NS, 1.0)],
    ),
    "azure-iot-hub": (
        "azure-iot-hub",
        {
            "EnqueuedTimeUtc": "2026-03-01T08:00:00Z", "SystemProperties": {"connectionDeviceId": "oven-2"},
            "Body": base64.b64encode(json.dumps({"force": 7.5}).encode()).decode(),
        },
        {},
        [("oven-2", "force", T * NS, 7.5)],
    ),
    "cloudevents": (
        "cloudevents",
        {
            "specversion": "1.0", "id": "1", "source": "/oven-2", "type": "t", "time": "2026-03-01T08:00:00Z",
            "data_base64": base64.b64encode(json.dumps({"force": 7.5}).encode()).decode(),
        },
        {},
        [("oven-2", "force", T * NS, 7.5)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_message_of_the_format_gives_the_readings_in_it(name: str) -> None:
    preset, message, record, expected = CASES[name]
    section = stream(list(dict.fromkeys(cell[1] for cell in expected)), {}, format=preset)
    assert read(section, message, **record) == expected
