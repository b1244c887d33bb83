"""Every preset by a message of its format: the readings that a person would read out of it."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Any

import pytest

from daemon.config.presets import mapping_of, preset_names
from daemon.stream.decoding import Decoder
from daemon.stream.extract.numbers import FAULT_HINTS
from tests.stream.mapped import Cell, as_record, read, refusal, stream

T = 1_772_352_000  # 2026-03-01T08:00:00Z
NS = 10**9
MS = 10**6


def test_the_base_time_is_what_the_comments_say() -> None:
    assert datetime.fromisoformat("2026-03-01T08:00:00Z").timestamp() == T


Case = tuple[str, Any, dict[str, Any], list[Cell]]
"""A preset, a message, what its record has beside, and the cells that are expected."""

JSON = {"decode": "json"}  # the tree of a decoder that has tests of its own, written as JSON

OPC_UA = {
    "MessageId": "5f", "MessageType": "ua-data", "PublisherId": "hall-2",
    "Messages": [
        {
            "DataSetWriterId": "mill-04", "SequenceNumber": 9, "Timestamp": "2026-03-01T08:00:00.5Z",
            "Payload": {
                "Torque": {"Value": {"Type": 11, "Body": 12.25}, "SourceTimestamp": "2026-03-01T08:00:00.1234567Z"},
                "Load": {
                    "Value": {"Type": 11, "Body": 55.0}, "SourceTimestamp": "2026-03-01T08:00:00.1234567Z",
                    "StatusCode": {"Code": 2150694912, "Symbol": "BadNoCommunication"},
                },
                "Speed": 1490,
            },
        },
        {"DataSetWriterId": "mill-05", "SequenceNumber": 9},
    ],
}  # fmt: skip

CASES: dict[str, Case] = {
    "flat": (
        "flat",
        {"asset": "fan-3", "ts": T * 1000 + 250, "rpm": 900.5, "axis": {"x": 0.5}, "note": "ok", "tags": [1]},
        {},
        [("fan-3", "rpm", T * NS + 250 * MS, 900.5), ("fan-3", "axis.x", T * NS + 250 * MS, 0.5)],
    ),
    "flat: the key is the asset, the record's time the time": (
        "flat",
        {"rpm": "900,5", "axis": {"x": None}},
        {"key": b"fan-4"},
        [("fan-4", "rpm", 1_798_800_000 * NS, 900.5), ("fan-4", "axis.x", 1_798_800_000 * NS, None)],
    ),
    "wide": (
        "wide",
        {"machineId": 7, "eventTime": "2026-03-01T08:00:00Z", "readings": {"rpm": "900.5", "axis": {"x": 0.5}}},
        {},
        [("7", "rpm", T * NS, 900.5), ("7", "axis.x", T * NS, 0.5)],
    ),
    "long": (
        "long",
        {"device_id": "fan-3", "tagName": "rpm", "timestamp": T, "val": "900.5", "quality": "GOOD"},
        {},
        [("fan-3", "rpm", T * NS, 900.5)],
    ),
    "long: bad": (
        "long",
        {"device_id": "fan-3", "tagName": "rpm", "timestamp": T, "val": 0, "quality": 24},
        {},
        [("fan-3", "rpm", T * NS, None)],
    ),
    "json-wide": (
        "json-wide",
        {"asset": "fan-3", "ts": "2026-03-01T08:00:00Z", "values": {"rpm": 900.5, "level": None}},
        {},
        [("fan-3", "rpm", T * NS, 900.5), ("fan-3", "level", T * NS, None)],
    ),
    "json-long": (
        "json-long",
        {"asset": "fan-3", "ts": "2026-03-01T08:00:00Z", "sensor": "rpm", "value": 900.5},
        {},
        [("fan-3", "rpm", T * NS, 900.5)],
    ),
    "telegraf": (
        "telegraf",
        {
            "name": "opcua", "timestamp": T, "tags": {"host": "edge-9", "asset": "press-1"},
            "fields": {"force": 17.5, "stroke": 3, "Quality": "OK (0x0)"},
        },
        {},
        [("press-1", "force", T * NS, 17.5), ("press-1", "stroke", T * NS, 3.0)],
    ),
    "telegraf: a bad status repeats the last good value": (
        "telegraf",
        {
            "name": "opcua", "timestamp": T, "tags": {"host": "press-1"},
            "fields": {"force": 17.5, "Quality": "The node is unknown. StatusBadNodeIDUnknown (0x80340000)"},
        },
        {},
        [("press-1", "force", T * NS, None)],
    ),
    "telegraf: a batch of several machines": (
        "telegraf",
        {
            "metrics": [
                {"fields": {"force": 1.5}, "name": "m", "tags": {"name": "press-1"}, "timestamp": T + 1},
                {"fields": {"force": 2.5}, "name": "m", "tags": {"name": "press-2"}, "timestamp": T},
            ]
        },
        {},
        [("press-2", "force", T * NS, 2.5), ("press-1", "force", (T + 1) * NS, 1.5)],
    ),
    "influx": (
        "influx",
        [
            {"measurement": "m", "tags": {"asset": "w1"}, "timestamp": T * NS + 5, "fields": {"force": 7.0}},
            {"measurement": "m", "tags": {"asset": "w2"}, "fields": {"force": 8, "state": "RUN"}},
        ],
        {"input": JSON},
        [("w1", "force", T * NS + 5, 7.0), ("w2", "force", 1_798_800_000 * NS, 8.0)],
    ),
    "opcua-pubsub": (
        "opcua-pubsub",
        OPC_UA,
        {},
        [
            ("mill-04", "Torque", T * NS + 123_456_700, 12.25),
            ("mill-04", "Load", T * NS + 123_456_700, None),
            ("mill-04", "Speed", T * NS + NS // 2, 1490.0),
        ],
    ),
    "opcua-pubsub: status as number and text, uncertain kept, one message as an object": (
        "opcua-pubsub",
        {
            "MessageType": "ua-data",
            "Messages": {
                "DataSetWriterName": "mill-06", "DataSetWriterId": 6, "Timestamp": "2026-03-01T08:00:00Z",
                "Payload": {
                    "Torque": {"Value": 1.5, "Status": 1083441152},
                    "Load": {"Value": 2.5, "StatusCode": "0x80050000"},
                    "Speed": {"Value": {"Body": 3.5}, "StatusCode": "Good"},
                },
            },
        },
        {},
        [
            ("mill-06", "Torque", T * NS, 1.5),
            ("mill-06", "Load", T * NS, None),
            ("mill-06", "Speed", T * NS, 3.5),
        ],
    ),
    "opc-publisher": (
        "opc-publisher",
        [
            {
                "NodeId": "nsu=http://plc/;s=Saw2Force", "ApplicationUri": "urn:plc", "DisplayName": "Saw2.Force",
                "Value": {"Value": 4.5, "SourceTimestamp": "2026-03-01T08:00:00.1234567Z", "StatusCode": {"Code": 0}},
            },
            {
                "NodeId": "nsu=http://plc/;s=Saw2Stroke", "ApplicationUri": "urn:plc", "DisplayName": "Saw2.Stroke",
                "Value": {
                    "Value": 9, "SourceTimestamp": "2026-03-01T08:00:00.1234567Z",
                    "StatusCode": {"Code": 2147483648, "Symbol": "Bad"},
                },
            },
        ],
        {},
        [("Saw2", "Force", T * NS + 123_456_700, 4.5), ("Saw2", "Stroke", T * NS + 123_456_700, None)],
    ),
    "kepware": (
        "kepware",
        {
            "timestamp": T * 1000 + 900,
            "values": [
                {"id": "Hall1.Saw2.force", "v": 4.5, "q": True, "t": T * 1000},
                {"id": "Hall1.Saw2.stroke", "v": 0, "q": False, "t": T * 1000},
                {"id": "Hall1.Saw3.force", "v": 4.75, "q": True},
            ],
        },
        {},
        [
            ("Hall1.Saw2", "force", T * NS, 4.5),
            ("Hall1.Saw2", "stroke", T * NS, None),
            ("Hall1.Saw3", "force", T * NS + 900 * MS, 4.75),
        ],
    ),
    "sparkplug": (
        "sparkplug",
        {
            "asset": "g/e/d", "timestamp": T * 1000,
            "metrics": [
                {"asset": "g/e/d", "name": "force", "timestamp": T * 1000 + 1, "value": 5.5},
                {"asset": "g/e/d", "name": "stroke", "timestamp": T * 1000 + 1, "value": 1, "quality": 500},
            ],
        },
        {"input": JSON},
        [("g/e/d", "force", T * NS + MS, 5.5), ("g/e/d", "stroke", T * NS + MS, None)],
    ),
    "sparkplug-json": (
        "sparkplug-json",
        {"asset": "g/e", "timestamp": T * 1000, "metrics": [{"name": "force", "value": 5.5, "quality": 192}]},
        {"input": JSON},
        [("g/e", "force", T * NS, 5.5)],
    ),
    "aws-iot: a shadow, each sensor at its own time": (
        "aws-iot",
        {
            "state": {"reported": {"force": 3.5, "axis": {"x": 0.25}}},
            "metadata": {"reported": {"force": {"timestamp": T}, "axis": {"x": {"timestamp": T - 60}}}},
            "version": 3, "timestamp": T + 5, "clientToken": "lathe-8",
        },
        {},
        [("lathe-8", "axis.x", (T - 60) * NS, 0.25), ("lathe-8", "force", T * NS, 3.5)],
    ),
    "aws-iot: the payload of a rule": (
        "aws-iot",
        {"clientid": "lathe-8", "timestamp": T * 1000, "force": 3.5, "stroke": True},
        {},
        [("lathe-8", "force", T * NS, 3.5), ("lathe-8", "stroke", T * NS, 1.0)],
    ),
    "azure-iot-hub": (
        "azure-iot-hub",
        {
            "EnqueuedTimeUtc": "2026-03-01T08:00:00.1870000Z", "Properties": {},
            "SystemProperties": {"connectionDeviceId": "oven-2", "contentType": "application/json"},
            "Body": {"force": 1.25, "stroke": 2},
        },
        {},
        [("oven-2", "force", T * NS + 187 * MS, 1.25), ("oven-2", "stroke", T * NS + 187 * MS, 2.0)],
    ),
    "azure-iot-hub: a raw body, the device and the time in headers with AMQP types": (
        "azure-iot-hub",
        {"force": 1.25},
        {
            "headers": [
                ("iothub-connection-device-id", b"\xa1\x06oven-2"),
                ("iothub-enqueuedtime", b"\x83" + (T * 1000 + 5).to_bytes(8, "big")),
            ]
        },
        [("oven-2", "force", T * NS + 5 * MS, 1.25)],
    ),
    "kafka-connect": (
        "kafka-connect",
        {
            "schema": {"type": "struct", "fields": [{"field": "force", "type": "double"}]},
            "payload": {"machine": "oven-2", "ts": T * 1000, "force": 1.25, "stroke": None},
        },
        {},
        [("oven-2", "force", T * NS, 1.25), ("oven-2", "stroke", T * NS, None)],
    ),
    "debezium": (
        "debezium",
        {
            "payload": {
                "before": None, "op": "u", "ts_ms": T * 1000 + 900,
                "after": {"id": 77, "machine": "oven-2", "measured_at": T * 10**6 + 123456, "force": 1.25},
                "source": {"connector": "mysql", "ts_ms": T * 1000 + 100},
            }
        },
        {},
        [("oven-2", "force", T * NS + 123_456_000, 1.25)],
    ),
    "cloudevents": (
        "cloudevents",
        {
            "specversion": "1.0", "id": "e-7", "source": "/hall/oven-2", "type": "reading", "subject": "oven-2",
            "time": "2026-03-01T09:00:00.123+01:00", "datacontenttype": "application/json", "data": {"force": 1.25},
        },
        {},
        [("oven-2", "force", T * NS + 123 * MS, 1.25)],
    ),
    "cloudevents: binary, the attributes in headers": (
        "cloudevents",
        {"force": 1.25},
        {"headers": [("ce_source", b"/hall/oven-2"), ("ce_time", b"2026-03-01T08:00:00Z"), ("ce_id", b"e-8")]},
        [("oven-2", "force", T * NS, 1.25)],
    ),
    "ngsi-ld: a notification of normalized entities": (
        "ngsi-ld",
        {
            "id": "urn:ngsi-ld:Notification:9", "type": "Notification", "notifiedAt": "2026-03-01T08:00:01.000Z",
            "data": [
                {
                    "id": "urn:ngsi-ld:Fan:3", "type": "Fan", "@context": "x",
                    "force": {"type": "Property", "value": 6.5, "observedAt": "2026-03-01T08:00:00.250Z"},
                    "stroke": {"type": "Property", "value": 2},
                    "locatedIn": {"type": "Relationship", "object": "urn:ngsi-ld:Hall:1"},
                }
            ],
        },
        {},
        [
            ("urn:ngsi-ld:Fan:3", "force", T * NS + 250 * MS, 6.5),
            ("urn:ngsi-ld:Fan:3", "stroke", (T + 1) * NS, 2.0),
        ],
    ),
    "ngsi-ld: key values": (
        "ngsi-ld",
        {"id": "urn:ngsi-ld:Fan:3", "type": "Fan", "force": 6.5, "observedAt": "2026-03-01T08:00:00Z"},
        {},
        [("urn:ngsi-ld:Fan:3", "force", T * NS, 6.5)],
    ),
    "senml": (
        "senml",
        [
            {"name": "urn:dev:a:force", "asset": "urn:dev:a", "sensor": "force", "timestamp": T * NS, "value": 1.5},
            {"name": "urn:dev:a:stroke", "asset": "urn:dev:a", "sensor": "stroke", "timestamp": T * NS, "value": True},
        ],
        {"input": JSON},
        [("urn:dev:a", "force", T * NS, 1.5), ("urn:dev:a", "stroke", T * NS, 1.0)],
    ),
    "the-things-stack": (
        "the-things-stack",
        {
            "end_device_ids": {"device_id": "silo-1", "dev_eui": "00AA"},
            "received_at": "2026-03-01T08:00:00.987654321Z",
            "uplink_message": {
                "f_port": 1, "decoded_payload": {"force": 21.5, "axis": {"x": 3.5}},
                "rx_metadata": [{"rssi": -97}], "received_at": "2026-03-01T08:00:00.712345678Z",
            },
        },
        {},
        [("silo-1", "force", T * NS + 712_345_678, 21.5), ("silo-1", "axis.x", T * NS + 712_345_678, 3.5)],
    ),
    "chirpstack": (
        "chirpstack",
        {
            "time": "2026-03-01T08:00:00.5+00:00", "deviceInfo": {"devEui": "00bb", "deviceName": "silo"},
            "object": {"force": 21.5, "stroke": False}, "fCnt": 4,
        },
        {},
        [("00bb", "force", T * NS + NS // 2, 21.5), ("00bb", "stroke", T * NS + NS // 2, 0.0)],
    ),
    "home-assistant": (
        "home-assistant",
        {
            "entity_id": "sensor.boiler2_force", "state": "81.25", "attributes": {"unit_of_measurement": "N"},
            "last_changed": "2026-03-01T07:00:00+00:00", "last_updated": "2026-03-01T08:00:00.123456+00:00",
        },
        {},
        [("boiler2", "force", T * NS + 123_456_000, 81.25)],
    ),
    "home-assistant: unavailable": (
        "home-assistant",
        {"entity_id": "sensor.boiler2_force", "state": "unavailable", "last_updated": "2026-03-01T08:00:00+00:00"},
        {},
        [("boiler2", "force", T * NS, None)],
    ),
    "thingsboard: an array out of order": (
        "thingsboard",
        [{"ts": T * 1000 + 1000, "values": {"force": 2.5}}, {"ts": T * 1000, "values": {"force": 1.5, "stroke": 4}}],
        {"key": b"silo-1"},
        [
            ("silo-1", "force", T * NS, 1.5),
            ("silo-1", "stroke", T * NS, 4.0),
            ("silo-1", "force", (T + 1) * NS, 2.5),
        ],
    ),
    "thingsboard: one": (
        "thingsboard",
        {"ts": T * 1000, "values": {"force": 1.5}},
        {"headers": [("deviceName", b"silo-1")]},
        [("silo-1", "force", T * NS, 1.5)],
    ),
    "thingsboard: plain values": (
        "thingsboard",
        {"force": 1.5, "stroke": "7"},
        {"key": b"silo-1"},
        [("silo-1", "force", 1_798_800_000 * NS, 1.5), ("silo-1", "stroke", 1_798_800_000 * NS, 7.0)],
    ),
    "thingsboard: a gateway": (
        "thingsboard",
        {
            "silo-1": [{"ts": T * 1000, "values": {"force": 1.5}}],
            "silo-2": [{"ts": T * 1000, "values": {"force": 2.5}}],
        },
        {"key": b"gateway"},
        [("silo-1", "force", T * NS, 1.5), ("silo-2", "force", T * NS, 2.5)],
    ),
    "otlp": (
        "otlp",
        {
            "resourceMetrics": [
                {
                    "resource": {"attributes": [{"key": "asset.id", "value": {"stringValue": "vent-1"}}]},
                    "scopeMetrics": [
                        {
                            "metrics": [
                                {
                                    "name": "force", "unit": "N",
                                    "gauge": {"dataPoints": [{"timeUnixNano": f"{T * NS + 7}", "asDouble": 6.5}]},
                                },
                                {
                                    "name": "stroke",
                                    "sum": {"dataPoints": [{"timeUnixNano": f"{T * NS + 7}", "asInt": "12"}]},
                                },
                                {
                                    "name": "h",
                                    "histogram": {"dataPoints": [{"timeUnixNano": "1", "bucketCounts": ["1"]}]},
                                },
                            ]
                        }
                    ],
                }
            ]
        },
        {},
        [("vent-1", "force", T * NS + 7, 6.5), ("vent-1", "stroke", T * NS + 7, 12.0)],
    ),
    "prometheus-kafka-adapter": (
        "prometheus-kafka-adapter",
        {
            "timestamp": "2026-03-01T08:00:00Z", "value": "6.5", "name": "force",
            "labels": {"__name__": "force", "instance": "vent-1", "job": "plc"},
        },
        {},
        [("vent-1", "force", T * NS, 6.5)],
    ),
    "prometheus-kafka-adapter: no number": (
        "prometheus-kafka-adapter",
        {"timestamp": "2026-03-01T08:00:00Z", "value": "NaN", "name": "force", "labels": {"instance": "vent-1"}},
        {},
        [("vent-1", "force", T * NS, None)],
    ),
    "tasmota": (
        "tasmota",
        {"Time": "2026-03-01T09:00:00", "AM2301": {"Temperature": 20.5, "DewPoint": None}, "TempUnit": "C"},
        {"key": b"tele/attic/SENSOR", "timezone": "Europe/Berlin"},
        [("attic", "AM2301.Temperature", T * NS, 20.5), ("attic", "AM2301.DewPoint", T * NS, None)],
    ),
    "umh": (
        "umh",
        {"timestamp_ms": T * 1000 + 5, "force": 1.5, "axis": {"x": 2.5}},
        {"key": b"umh.v1.acme.bonn.line2.saw1._historian.force"},
        [
            ("acme.bonn.line2.saw1", "force", T * NS + 5 * MS, 1.5),
            ("acme.bonn.line2.saw1", "axis.x", T * NS + 5 * MS, 2.5),
        ],
    ),
    "ditto": (
        "ditto",
        {
            "topic": "org.acme/saw-1/things/twin/events/modified", "path": "/features", "revision": 7,
            "value": {"force": {"properties": {"value": 1.5}}, "axis": {"properties": {"x": 2.5}}},
            "timestamp": "2026-03-01T08:00:00.5Z",
        },
        {},
        [
            ("org.acme/saw-1", "force.properties.value", T * NS + 500 * MS, 1.5),
            ("org.acme/saw-1", "axis.properties.x", T * NS + 500 * MS, 2.5),
        ],
    ),
    "ditto: one property": (
        "ditto",
        {
            "topic": "org.acme/saw-1/things/twin/events/modified", "path": "/features/force/properties/value",
            "value": 1.5, "revision": 8, "timestamp": "2026-03-01T08:00:00Z",
        },
        {},
        [("org.acme/saw-1", "force/properties/value.value", T * NS, 1.5)],
    ),
    "ditto: normalized": (
        "ditto",
        {
            "thingId": "org.acme:saw-1", "_revision": 8, "_modified": "2026-03-01T08:00:00Z",
            "features": {"force": {"properties": {"value": 1.5}}},
        },
        {},
        [("org.acme:saw-1", "force.properties.value", T * NS, 1.5)],
    ),
    "mqtt-json": (
        "mqtt-json",
        {"topic": "bonn/line2/saw1/telemetry", "timestamp": T * 1000, "qos": 1, "payload": {"force": 1.5}},
        {},
        [("saw1", "force", T * NS, 1.5)],
    ),
    "sitewise": (
        "sitewise",
        {
            "propertyAlias": "/bonn/saw1/force",
            "propertyValues": [
                {
                    "value": {"doubleValue": 1.5}, "quality": "GOOD",
                    "timestamp": {"timeInSeconds": T, "offsetInNanos": 500},
                },
                {"value": {"integerValue": 9}, "quality": "BAD", "timestamp": {"timeInSeconds": T + 1}},
            ],
        },
        {},
        [("saw1", "force", T * NS + 500, 1.5), ("saw1", "force", (T + 1) * NS, None)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_message_of_the_format_gives_the_readings_in_it(name: str) -> None:
    preset, message, more, expected = CASES[name]
    given = dict(more)
    section = stream(
        list(dict.fromkeys(cell[1] for cell in expected)),
        given.pop("input", {}),
        format=preset,
        timezone=given.pop("timezone", None),
    )
    assert read(section, message, **given) == expected


def test_every_preset_has_a_message_here() -> None:
    assert {case[0] for case in CASES.values()} == set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_read(name: str) -> None:
    assert mapping_of(name, {}).preset == name


SKIPPED: dict[str, tuple[str, Any, str]] = {
    "opcua-pubsub: metadata": ("opcua-pubsub", {"MessageType": "ua-metadata", "MetaData": {}}, "MessageType"),
    "opcua-pubsub: keep-alive": (
        "opcua-pubsub",
        {"MessageType": "ua-data", "Messages": [{"DataSetWriterId": "mill-04", "SequenceNumber": 9}]},
        "no_items",
    ),
    "debezium: a deletion": (
        "debezium",
        {"payload": {"before": {"machine": "a"}, "after": None, "op": "d", "ts_ms": T}},
        "payload.op",
    ),
    "debezium: a tombstone": ("debezium", b"", "null_value"),
    "kafka-connect: a tombstone in its envelope": ("kafka-connect", {"schema": None, "payload": None}, "null_value"),
    "the-things-stack: a join": ("the-things-stack", {"end_device_ids": {}, "join_accept": {}}, "no_uplink"),
    "chirpstack: a state": ("chirpstack", {"deviceInfo": {}, "batteryLevel": 4.0}, "no_object"),
    "thingsboard: nothing in the array": ("thingsboard", [], "no_items"),
    "ditto: an attribute": (
        "ditto",
        {"topic": "a/b/things/twin/events/modified", "path": "/attributes/serial", "value": 5, "timestamp": 0},
        "not_a_feature",
    ),
    "ditto: a deletion": (
        "ditto",
        {"topic": "a/b/things/twin/events/deleted", "path": "/features/force", "timestamp": "2026-03-01T08:00:00Z"},
        "deleted",
    ),
    "ngsi-ld: relationships alone": (
        "ngsi-ld",
        {"id": "a", "type": "B", "in": {"type": "Relationship", "object": "c"}},
        "not_a_property",
    ),
    "otlp: a histogram alone": (
        "otlp",
        {
            "resourceMetrics": [
                {"scopeMetrics": [{"metrics": [{"name": "h", "histogram": {"dataPoints": [{"bucketCounts": []}]}}]}]}
            ]
        },
        "histogram",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SKIPPED)
def test_messages_that_are_no_readings_are_skipped(name: str) -> None:
    preset, message, rule = SKIPPED[name]
    assert refusal(stream(["force"], {}, format=preset), message) == ("skipped", rule)


def test_a_decimal_of_debezium_is_corrupt_with_a_hint() -> None:
    decoder = Decoder(stream(["force", "stroke"], {}, format="debezium").spec())
    row = {"machine": "oven-2", "ts": T, "force": base64.b64encode(b"\x01\x92").decode(), "stroke": 1}
    decoder.decode_all([as_record({"payload": {"after": row, "op": "c"}})])
    assert decoder.corrupt_by_fault == {("force", "base64"): 1}
    assert "decimal.handling.mode=double" in FAULT_HINTS["base64"]
