"""Messages of formats that have no preset, read by mappings as a person would write them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from daemon.documents import from_yaml
from daemon.domain import Reading, Reason, Rejected
from daemon.stream.decoding import Decoder
from daemon.stream.extract import extractor as extractor_module
from tests.stream.mapped import ARRIVED_NS, Cell, as_record, cells, decoded, read, refusal, stream

T = 1_772_352_000  # 2026-03-01T08:00:00Z
NS, MS = 10**9, 10**6

FORMATS: dict[str, tuple[str, Any, dict[str, Any], list[Cell]]] = {
    "one id of asset and sensor": (
        """
        asset: {from: sensorId, match: '^([^/]+)/'}
        sensor: {from: sensorId, match: '/([^/]+)$'}
        time: timestamp
        value: value
        """,
        {"sensorId": "saw-1/force", "timestamp": T * 1000, "value": 4.5},
        {},
        [("saw-1", "force", T * NS, 4.5)],
    ),
    "a block of samples, reduced": (
        """
        asset: asset
        time: trigger_time
        leaves: data
        wave: {rate: fs, reduce: [rms, peak]}
        """,
        {"asset": "m", "trigger_time": T + 0.125, "fs": 100, "data": {"ax": [3.0, -4.0], "ay": [0, None]}},
        {},
        [
            ("m", "ax.rms", T * NS + 125 * MS, 12.5**0.5),
            ("m", "ax.peak", T * NS + 125 * MS, 4.0),
            ("m", "ay.rms", T * NS + 125 * MS, 0.0),
        ],
    ),
    "a block of samples, each a reading": (
        """
        asset: asset
        time: trigger_time
        leaves: data
        wave: {rate: fs, explode: true}
        """,
        {"asset": "m", "trigger_time": T, "fs": 100, "data": {"ax": [3.0, -4.0], "ay": [0, None]}},
        {},
        [
            ("m", "ax", T * NS, 3.0),
            ("m", "ay", T * NS, 0.0),
            ("m", "ax", T * NS + 10 * MS, -4.0),
            ("m", "ay", T * NS + 10 * MS, None),
        ],
    ),
    "a block of samples of one sensor, reduced, and renamed": (
        """
        asset: asset
        time: at
        sensor: axis
        value: samples
        wave: {reduce: [rms, peak]}
        rename: {x.rms: level}
        """,
        {"asset": "m", "at": T, "axis": "x", "samples": [3, -4]},
        {},
        [("m", "level", T * NS, 12.5**0.5), ("m", "x.peak", T * NS, 4.0)],
    ),
    "PI Web API: stream sets with attribute paths and flags": (
        r"""
        each: "Items[].Items[]"
        asset: {from: ^.Path, match: '\\([^\\|]+)\|'}
        sensor: {from: ^.Path, match: '\|(.+)$'}
        time: Timestamp
        value: Value
        quality: Good
        """,
        {
            "Items": [
                {
                    "WebId": "F1", "Path": r"\\af\Plant\Saw1|Force",
                    "Items": [
                        {"Timestamp": "2026-03-01T08:00:00.1234567Z", "Value": 4.5, "Good": True},
                        {"Timestamp": "2026-03-01T08:00:01Z", "Value": {"Name": "No Data", "Value": 248}, "Good": False},
                    ],
                }
            ]
        },
        {},
        [("Saw1", "Force", T * NS + 123_456_700, 4.5), ("Saw1", "Force", (T + 1) * NS, None)],
    ),
    "extended JSON of a document store": (
        """
        asset: deviceId
        time: time
        leaves: data
        """,
        {"deviceId": "d1", "time": {"$date": {"$numberLong": str(T * 1000)}}, "data": {"v": {"$numberDouble": "2.5"}}},
        {},
        [("d1", "v", T * NS, 2.5)],
    ),
    "an event with its name and a text": (
        """
        asset: coreid
        sensor: event
        value: data
        time: published_at
        """,
        {"event": "force", "data": "4,5", "published_at": "2026-03-01T08:00:00.25Z", "coreid": "3f"},
        {},
        [("3f", "force", T * NS + 250 * MS, 4.5)],
    ),
    "MTConnect: devices, components, kinds of samples": (
        """
        each: "Streams[].ComponentStream[].Samples.*[]"
        asset: ^^^.name
        sensor: dataItemId
        value: [value, result]
        time: timestamp
        """,
        {
            "Streams": [
                {
                    "name": "VMC-1",
                    "ComponentStream": [
                        {
                            "component": "Axes",
                            "Samples": {
                                "Position": [
                                    {"dataItemId": "x1", "timestamp": "2026-03-01T08:00:00Z", "value": 1.5},
                                    {"dataItemId": "x2", "timestamp": "2026-03-01T08:00:00Z", "value": "UNAVAILABLE"},
                                ],
                                "Load": [{"dataItemId": "l1", "timestamp": "2026-03-01T08:00:00Z", "result": 7}],
                            },
                        }
                    ],
                }
            ]
        },
        {},
        [("VMC-1", "x1", T * NS, 1.5), ("VMC-1", "x2", T * NS, None), ("VMC-1", "l1", T * NS, 7.0)],
    ),
    "registers by place": (
        """
        asset: slave
        time: t
        fields: {force: "regs[0]", stroke: "regs[-1]"}
        """,
        {"slave": 3, "t": T, "regs": [814, 9, 402]},
        {},
        [("3", "force", T * NS, 814.0), ("3", "stroke", T * NS, 402.0)],
    ),
    "registers by place, all of them": (
        """
        asset: slave
        time: t
        leaves: {under: ., arrays: true}
        """,
        {"slave": 3, "t": T, "regs": [814, [9, 402]]},
        {},
        [("3", "regs.0", T * NS, 814.0), ("3", "regs.1.1", T * NS, 402.0)],
    ),
    "plant, line and machine as names of objects": (
        """
        each: "plants.*.*.*"
        asset: {join: [^^.$name, ^.$name, $name], with: "-"}
        time: ^^^.at
        leaves: .
        """,
        {"at": T, "plants": {"bonn": {"l1": {"saw": {"force": 1.5}, "mill": {"force": 2.5}}}, "ulm": {}}},
        {},
        [("bonn-l1-saw", "force", T * NS, 1.5), ("bonn-l1-mill", "force", T * NS, 2.5)],
    ),
    "times as names": (
        """
        each: "*.*"
        asset: ^.$name
        time: $name
        leaves: .
        """,
        {"saw": {str(T * 1000 + 5): {"force": 2}, str(T * 1000): {"force": 1}}},
        {},
        [("saw", "force", T * NS, 1.0), ("saw", "force", T * NS + 5 * MS, 2.0)],
    ),
    "columns beside each other": (
        """
        each: {zip: [timestamps, values]}
        asset: ^.asset
        sensor: ^.sensor
        time: timestamps
        value: values
        """,
        {"asset": "saw", "sensor": "force", "timestamps": [T, T + 1], "values": [1.5, None]},
        {},
        [("saw", "force", T * NS, 1.5), ("saw", "force", (T + 1) * NS, None)],
    ),
    "columns of sensors below an array, with offsets from a time": (
        """
        each: {under: "measurements[].series", zip: "*"}
        asset: ^^^.device.id
        time: {from: ^^.ts, plus: '"$_time"', plus_unit: ms}
        leaves: .
        """,
        {
            "device": {"id": "a7"},
            "measurements": [
                {"ts": "2026-03-01T08:00:00Z", "series": {"$_time": [0, 23], "force": [4.5, 4.75], "unit": "N"}}
            ],
        },
        {},
        [("a7", "force", T * NS, 4.5), ("a7", "force", T * NS + 23 * MS, 4.75)],
    ),
    "names and values beside each other": (
        """
        each: {zip: [names, values]}
        asset: ^.machine
        sensor: names
        value: values
        time: ^.at
        """,
        {"machine": "saw", "at": T, "names": ["force", "stroke"], "values": [1.5, 2]},
        {},
        [("saw", "force", T * NS, 1.5), ("saw", "stroke", T * NS, 2.0)],
    ),
    "rows below the names of their columns": (
        """
        each: {under: "results[].series[]", rows: values, columns: columns}
        asset: ^.tags.machine
        time: time
        leaves: .
        """,
        {
            "results": [
                {
                    "series": [
                        {
                            "tags": {"machine": "saw"}, "columns": ["time", "force", "stroke"],
                            "values": [["2026-03-01T08:00:00Z", 1.5, None], ["2026-03-01T08:00:01Z", 2.5, 3]],
                        }
                    ]
                }
            ]
        },
        {},
        [
            ("saw", "force", T * NS, 1.5),
            ("saw", "stroke", T * NS, None),
            ("saw", "force", (T + 1) * NS, 2.5),
            ("saw", "stroke", (T + 1) * NS, 3.0),
        ],
    ),
    "rows without names": (
        """
        each: {rows: data, columns: [at, force]}
        asset: ^.machine
        time: at
        leaves: .
        """,
        {"machine": "saw", "data": [[T, "1.5"], [T + 1, "2.5"]]},
        {},
        [("saw", "force", T * NS, 1.5), ("saw", "force", (T + 1) * NS, 2.5)],
    ),
    "pairs of time and value": (
        """
        each: "data.result[].values[]"
        asset: ^.metric.instance
        sensor: ^.metric.__name__
        time: "[0]"
        value: "[1]"
        """,
        {"data": {"result": [{"metric": {"__name__": "force", "instance": "saw"}, "values": [[T + 0.5, "1.5"]]}]}},
        {},
        [("saw", "force", T * NS + NS // 2, 1.5)],
    ),
    "quality and time in objects beside the values": (
        """
        asset: id
        time: "times[$name]"
        quality: {from: "quality[$name]", good: [3]}
        leaves: values
        """,
        {
            "id": "saw", "values": {"force": 1.5, "axis": {"x": 2.5}, "stroke": 9},
            "quality": {"force": 3, "axis": {"x": 3}, "stroke": 0},
            "times": {"force": T, "axis": {"x": T}, "stroke": T},
        },
        {},
        [("saw", "force", T * NS, 1.5), ("saw", "axis.x", T * NS, 2.5), ("saw", "stroke", T * NS, None)],
    ),
    "a quality beside each value": (
        """
        each: .
        asset: $key
        time: _time
        quality: {from: "[$name_qc]", good: [0]}
        leaves: .
        """,
        [{"_time": "2026-03-01T08:00:00Z", "force": 1.5, "force_qc": 0, "stroke": 9, "stroke_qc": 28}],
        {"key": b"saw"},
        [("saw", "force", T * NS, 1.5), ("saw", "stroke", T * NS, None)],
    ),
    "opaque tags of several machines": (
        """
        time: ts
        leaves: .
        rename: {T001: {asset: saw, sensor: force}, T002: {asset: mill, sensor: force}}
        """,
        {"ts": T, "T001": 1.5, "T002": 2.5, "T003": 9},
        {},
        [("saw", "force", T * NS, 1.5), ("mill", "force", T * NS, 2.5)],
    ),
    "renamed sensors": (
        """
        asset: id
        time: created_at
        leaves: .
        rename: {field1: force, field2: stroke}
        """,
        {"id": 9, "created_at": "2026-03-01T08:00:00Z", "field1": "1.5", "field2": ""},
        {},
        [("9", "force", T * NS, 1.5), ("9", "stroke", T * NS, None)],
    ),
    "asset from a topic, sensor from a header, time of the record": (
        """
        asset: {from: $topic, match: '^plant\\.(?<asset>[^.]+)\\.'}
        sensor: $header:tag
        time: $timestamp
        value: .
        """,
        b"4.5",
        {"topic": "plant.saw.raw", "headers": [("tag", b"old"), ("tag", b"force")]},
        [("saw", "force", ARRIVED_NS, 4.5)],
    ),
    "asset in the key's JSON, a constant sensor": (
        """
        asset: [$key.machine, $key]
        sensor: {constant: force}
        time: at
        value: v
        """,
        {"at": T, "v": 1.5},
        {"key": b'{"machine": "saw"}'},
        [("saw", "force", T * NS, 1.5)],
    ),
    "names with dots, spaces, signs and letters of any kind": (
        """
        asset: '"@iot.id"'
        time: '"a b"."c.d"'
        fields: {force: '"Kraft [N]"', stroke: Größe, blank: '""'}
        """,
        {"@iot.id": "s", "a b": {"c.d": T}, "Kraft [N]": 1.5, "Größe": 2.5, "": 3.5},
        {},
        [("s", "force", T * NS, 1.5), ("s", "stroke", T * NS, 2.5), ("s", "blank", T * NS, 3.5)],
    ),
    "left out by name, branch and pattern; a prefix": (
        """
        asset: id
        time: ts
        leaves: {under: v, except: [raw, "*_max", axis.y], separator: "/", prefix: kind}
        """,
        {
            "id": "s", "ts": T, "kind": "motor",
            "v": {"force": 1, "force_max": 2, "raw": {"a": 3}, "axis": {"x": 4, "raw": 5}},
        },
        {},
        [("s", "motor/force", T * NS, 1.0), ("s", "motor/axis/x", T * NS, 4.0)],
    ),
    "words and numbers that stand for nothing": (
        """
        asset: id
        time: ts
        leaves: .
        missing: [-9999, "I/O Timeout"]
        """,
        {"id": "s", "ts": T, "a": -9999, "b": "-9999.0", "c": "I/O Timeout", "d": 0},
        {},
        [("s", "a", T * NS, None), ("s", "b", T * NS, None), ("s", "c", T * NS, None), ("s", "d", T * NS, 0.0)],
    ),
    "an own format of time, the date beside the time of day": (
        """
        asset: id
        time: {from: {join: [date, time], with: " "}, format: ["%d.%m.%Y %H:%M:%S.%f", "%d.%m.%Y %H:%M"]}
        leaves: .
        """,
        [
            {"id": "s", "date": "01.03.2026", "time": "08:00:00.123456789", "force": 1},
            {"id": "s", "date": "01.03.2026", "time": "08:01", "force": 2},
        ],
        {},
        [("s", "force", T * NS + 123_456_789, 1.0), ("s", "force", (T + 60) * NS, 2.0)],
    ),
    "values at several places, the first that is no object": (
        """
        each: tags.*
        asset: ^.id
        sensor: $name
        time: ^.ts
        value: [v.num, v, .]
        """,
        {"id": "s", "ts": T, "tags": {"a": {"v": {"num": 1}}, "b": {"v": 2}, "c": 3}},
        {},
        [("s", "a", T * NS, 1.0), ("s", "b", T * NS, 2.0), ("s", "c", T * NS, 3.0)],
    ),
    "items that are of another kind are skipped": (
        """
        skip: [{item: kind, not_in: [sample]}, {path: $header:type, in: [heartbeat]}]
        each: list
        asset: id
        time: ts
        sensor: n
        value: v
        """,
        {"list": [{"kind": "event", "n": 1}, {"kind": "sample", "id": "s", "ts": T, "n": "a", "v": 1}]},
        {},
        [("s", "a", T * NS, 1.0)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_without_a_preset_is_read_by_a_mapping(name: str) -> None:
    text, message, record, expected = FORMATS[name]
    section = stream(list(dict.fromkeys(cell[1] for cell in expected)), from_yaml(text))
    assert read(section, message, **record) == expected


LIST = {"each": "list", "asset": "id", "time": "ts", "sensor": "n", "value": "v"}
REFUSED: dict[str, tuple[dict[str, Any], Any, str, str]] = {
    "no items": (LIST, {"lists": []}, "no_values", "no field 'list' in the message, which has lists"),
    "items of another kind": (LIST, {"list": 3}, "no_values", "list is a number"),
    "no asset": (
        LIST,
        {"list": [{"ts": T, "n": "a", "v": 1}]},
        "no_asset",
        "no field 'id' in the item, which has ts, n, v",
    ),
    "no asset in any of the places": (
        {"asset": ["tags.host", "tags.id", "id", "$key"], "time": "ts", "leaves": "."},
        {"tags": {"site": 1}, "ts": T},
        "no_asset",
        "no field 'host' or 'id' in tags, which has site; no field 'id' in the message, which has tags, ts;"
        " the record has no $key",
    ),
    "an expression that does not match": (
        {"asset": {"from": "id", "match": "^(.+)/"}, "time": "ts", "leaves": "."},
        {"id": "a", "ts": T, "b": 1},
        "no_asset",
        "id does not match ^(.+)/",
    ),
    "no time": (
        {"asset": "id", "time": "meta.ts", "leaves": "."},
        {"id": "a", "meta": [1, 2]},
        "no_timestamp",
        "meta.ts: meta is an array of 2",
    ),
    "a time in the future": (
        {"asset": "id", "time": "ts", "leaves": "."},
        {"id": "a", "ts": T * 10, "b": 1},
        "future",
        "over 1 h ahead",
    ),
    "a date of which the month cannot be told": (
        {"asset": "id", "time": "ts", "leaves": "."},
        {"id": "a", "ts": "03/04/2026 08:00", "b": 1},
        "bad_timestamp",
        "is the day first? Set day_first",
    ),
    "no sensor": (LIST, {"list": [{"id": "a", "ts": T, "v": 1}]}, "no_sensor", "no field 'n' in the item"),
    "no value": (
        LIST,
        {"list": [{"id": "a", "ts": T, "n": "force"}]},
        "no_values",
        "no field 'v' in the item",
    ),
    "no leaves": (
        {"asset": "id", "time": "ts", "leaves": "data"},
        {"id": "a", "ts": T},
        "no_values",
        "no number below: no field 'data' in the message, which has id, ts",
    ),
    "no fields": (
        {"asset": "id", "time": "ts", "fields": {"force": "x.y"}},
        {"id": "a", "ts": T, "x": None},
        "no_values",
        "none of the fields is there: x.y: x is null",
    ),
    "unknown sensors alone": (
        {"asset": "id", "time": "ts", "leaves": "."},
        {"id": "a", "ts": T, "forse": 1},
        "unknown_sensor",
        "unknown sensor 'forse'; the nearest known is 'force'",
    ),
    "no rate of a block": (
        {"asset": "id", "time": "ts", "leaves": ".", "wave": {"rate": "fs", "explode": True}},
        {"id": "a", "ts": T, "force": [1, 2]},
        "no_timestamp",
        "the rate of the samples: no field 'fs'",
    ),
    "a rate that is none": (
        {"asset": "id", "time": "ts", "leaves": ".", "wave": {"rate": "fs", "explode": True}},
        {"id": "a", "ts": T, "force": [1, 2], "fs": 0},
        "bad_timestamp",
        "a rate or step of 0",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_path_and_what_is_there(name: str) -> None:
    mapping, message, reason, detail = REFUSED[name]
    found_reason, found_detail = refusal(stream(["force"], mapping), message)
    assert found_reason == reason
    assert detail in found_detail
    assert found_detail.isprintable()


def test_a_refusal_quotes_names_of_a_message_in_ascii() -> None:
    _, detail = refusal(stream(["force"], {"asset": "id", "time": "ts", "leaves": "."}), {"a\n\u202e": 1})
    assert "a\\n\\u202e" in detail


def test_items_that_cannot_be_used_are_counted_where_others_can() -> None:
    section = stream(["a"], LIST | {"skip": [{"item": "v", "in": [7]}]})
    decoder = Decoder(section.spec())
    items = [
        {"ts": T, "n": "a", "v": 1},
        {"id": "s", "n": "a", "v": 1},
        {"id": "s", "ts": T, "n": "other", "v": 1},
        {"id": "s", "ts": T, "n": "a", "v": "x"},
        {"id": "s", "ts": T + 1, "n": "a", "v": 1},
        {"id": "s", "ts": T - 1, "n": "a", "v": 7},
    ]
    found = decoder.decode_all([as_record({"list": items})])
    assert cells(section, found) == [("s", "a", T * NS, None), ("s", "a", (T + 1) * NS, 1.0)]
    assert [reading.counted for reading in found if isinstance(reading, Reading)] == [False, True]
    assert decoder.refused_items == Counter({"no_asset": 1, "no_timestamp": 1})
    assert decoder.skipped_items == Counter({"v": 1})
    assert decoder.corrupt_by_fault == {("a", "text"): 1}
    assert decoder.unknown_sensors == {"other": 1}


@pytest.mark.parametrize(
    ("each", "message"),
    [
        ("a[].b", [{"b": [1, 2]}, {"B": [1]}, "x", {"b": None}, {"b": []}]),
        ("a[].*.b[]", [{"name": "n", "g": {"b": [1, 2]}}, {"name": "n", "g": {"B": [1]}}, 7, {}]),
        ("a[].b[].c", [{"b": [{"c": 1}, {"c": 2}, {"C": 1}]}, {"B": [1]}]),
        ("a[].*[]", [{"b": [1], "c": [2]}, {"b": [1], "c": 2}, 7]),
    ],
)
def test_elements_that_each_does_not_fit_are_refused_items(each: str, message: list[Any]) -> None:
    mapping = {"each": each, "asset": {"constant": "s"}, "time": "$timestamp", "sensor": {"constant": "a"}}
    decoder = Decoder(stream(["a"], mapping | {"value": "."}).spec())
    (reading,) = decoder.decode_all([as_record({"a": message})])
    assert isinstance(reading, Reading)
    assert decoder.refused_items == Counter({"no_values": 2})


def test_elements_that_each_does_not_fit_are_skipped_where_a_rule_says_so() -> None:
    decoder = Decoder(stream(["a"], {}, format="opcua-pubsub").spec())
    about = {"DataSetWriterId": 7, "Timestamp": "2026-03-01T08:00:00Z"}
    messages = [
        about | {"Payload": {"a": 1}},
        about | {"MessageType": "ua-keepalive"},
        about | {"payload": {}},
    ]
    found = decoder.decode_all([as_record({"MessageType": "ua-data", "Messages": messages})])
    assert [type(each) for each in found] == [Reading]
    assert decoder.skipped_items == Counter({"keep-alive": 1})
    assert decoder.refused_items == Counter({"no_values": 1})


def test_nothing_is_counted_of_the_items_of_a_message_that_is_refused() -> None:
    decoder = Decoder(stream(["a"], LIST | {"each": "list[].b"}).spec())
    found = decoder.decode_all([as_record({"list": [{"b": [{"n": "a"}]}, {"c": []}]})])
    assert [type(each) for each in found] == [Rejected]
    assert not decoder.refused_items


def test_an_object_with_an_array_among_its_fields_is_no_object_of_arrays() -> None:
    section = stream(["a"], {}, format="thingsboard")
    for parts in ([{"a": 5}], ["x"], []):
        message = {"ts": T, "values": {"a": 1}, "parts": parts}
        assert read(section, message, key=b"pump-7") == [("pump-7", "a", T * NS, 1.0)]


def test_a_long_text_matches_no_expression() -> None:
    mapping = LIST | {"asset": [{"from": "id", "match": "([^/]+)$"}, "spare"]}
    item = {"ts": T, "n": "a", "v": 1, "spare": "s"}
    for length in (200, 1001):
        ((asset, *_),) = read(stream(["a"], mapping), {"list": [item | {"id": "x" * length}]})
        assert asset == ("s" if length > 1000 else "x" * length)


def test_cells_with_keys_of_their_own_are_refused_alone() -> None:
    mapping = {"asset": "id", "time": "times[$name]", "leaves": "v"}
    section = stream(["a", "b"], mapping)
    decoder = Decoder(section.spec())
    message = {"id": "s", "v": {"a": 1, "b": 2, "c": 3}, "times": {"a": T, "b": "x", "c": T}}
    assert cells(section, decoder.decode_all([as_record(message)])) == [("s", "a", T * NS, 1.0)]
    assert decoder.refused_items == Counter({"bad_timestamp": 1})
    assert decoder.unknown_sensors == {"c": 1}
    assert refusal(section, {"id": "s", "v": {"c": 1}, "times": {"c": T}})[0] == "unknown_sensor"
    assert refusal(section, {"id": "s", "v": {"a": 1}})[0] == "no_timestamp"
    assert refusal(section, {"id": "s", "v": {}})[0] == "no_values"


def test_the_last_number_of_several_values_of_a_cell_counts() -> None:
    section = stream(["a"], LIST | {"quality": "q"})
    items = [{"id": "s", "ts": T, "n": "a", "v": v, "q": q} for v, q in ((1, True), (2, True), (3, False))]
    assert read(section, {"list": items[:2]}) == [("s", "a", T * NS, 2.0)]
    assert read(section, {"list": items}) == [("s", "a", T * NS, 2.0)]  # a bad one says nothing of it


def test_every_value_that_is_reduced_is_in_a_reading_as_if_it_had_come_in_a_message_of_its_own() -> None:
    sensors = {"a": {"reduce": "max"}, "b": {"reduce": "mean"}, "c": {}}
    section = stream(sensors, LIST)
    values = [("a", 1), ("b", 2), ("a", 9), ("c", 7), ("a", "?!"), ("b", 4), ("c", 8), ("a", None), ("a", 2)]
    items = [{"id": "s", "ts": T, "n": name, "v": value} for name, value in values]
    found = decoded(section, as_record({"list": [*items, {"id": "s", "ts": T - 1, "n": "a", "v": 5}]}))
    readings = [reading for reading in found if isinstance(reading, Reading)]
    at = T * NS
    assert cells(section, found) == [
        ("s", "a", at - NS, 5.0),
        ("s", "a", at, 1.0),
        ("s", "b", at, 2.0),
        ("s", "c", at, 8.0),
        ("s", "a", at, 9.0),
        ("s", "b", at, 4.0),
        ("s", "a", at, None),
        ("s", "a", at, None),
        ("s", "a", at, 2.0),
    ]
    assert [reading.counted for reading in readings] == [False] * 5 + [True]
    assert [list(reading.corrupt) for reading in readings] == [[], [], [], [(0, "text")], [], []]
    assert [list(reading.displaced) for reading in readings if reading.displaced] == [[("conflict", 2, "")]]


def test_readings_of_values_that_are_reduced_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor_module, "MOST_CELLS", 20)
    decoder = Decoder(stream({"a": {"reduce": "max"}, "b": {}}, LIST).spec())
    items = [{"id": "s", "ts": T, "n": "a", "v": at} for at in range(12)]
    assert len(decoder.decode_all([as_record({"list": items})])) == 10
    assert decoder.refused_items == Counter({"too_large": 2})


def test_a_message_of_too_many_readings_keeps_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractor_module, "MOST_CELLS", 20)
    section = stream(["a", "b"], LIST)
    decoder = Decoder(section.spec())
    items = [{"id": "s", "ts": T + at, "n": "a", "v": at} for at in range(12)]
    assert len(decoder.decode_all([as_record({"list": items})])) == 10
    assert decoder.refused_items == Counter({"too_large": 2})


def test_a_sensor_has_scale_offset_missing_and_states_whatever_the_format() -> None:
    sensors = {
        "force": {"source": "f", "scale": 0.5, "offset": 1, "missing": [999]},
        "mode": {"states": {"RUN": 2, "stop": 0}},
    }
    section = stream(sensors, {"asset": "id", "time": "ts", "leaves": "."})
    messages = [
        {"id": "s", "ts": T, "f": 8, "mode": "RUN"},
        {"id": "s", "ts": T + 1, "f": "999", "mode": "Stop"},
    ]
    assert read(section, messages) == [
        ("s", "force", T * NS, 5.0),
        ("s", "mode", T * NS, 2.0),
        ("s", "force", (T + 1) * NS, None),
        ("s", "mode", (T + 1) * NS, 0.0),
    ]


def test_condition_fields_come_from_anywhere_in_a_message() -> None:
    mapping = {
        "asset": "id",
        "time": "ts",
        "leaves": "v",
        "condition": {"mode": "meta.mode", "site": "$header:site"},
    }
    section = stream(["a"], mapping, condition=["mode", "site"])
    record = as_record({"id": "s", "ts": T, "v": {"a": 1}, "meta": {"mode": 3}}, headers=[("site", b"ulm")])
    (found,) = decoded(section, record)
    assert isinstance(found, Reading)
    assert found.condition == "mode=3,site=ulm"


def test_a_survey_has_the_cells_of_any_sensor() -> None:
    section = stream(["other", "alpha"], LIST | {"quality": "q", "rename": {"a": "alpha"}})
    items = [
        {"id": "s", "ts": T, "n": "a", "v": 1},
        {"id": "s", "n": "b"},
        {"id": "s", "ts": T, "n": "b", "q": "Bad"},
        {"id": "s", "ts": T, "n": "b"},
    ]
    decoder = Decoder(section.spec())
    found, faults = decoder.survey(as_record({"list": items}))
    assert [tuple(cell) for cell in found] == [
        ("s", T * NS, "alpha", 1, True, None),
        ("s", T * NS, "b", None, False, None),
    ]
    assert [(fault.reason, fault.detail) for fault in faults] == [
        (Reason.NO_TIMESTAMP, "no field 'ts' in the item, which has id, n"),
        (Reason.NO_VALUES, "no field 'v' in the item, which has id, ts, n"),
    ]
    wide = Decoder(
        replace(section.spec(), input=stream(["a"], {"asset": "id", "time": "ts", "leaves": "v"}).mapping)
    )
    assert wide.survey(as_record({"id": "s", "ts": T}))[1][0].reason is Reason.NO_VALUES


def test_rules_of_items_and_of_messages_look_in_their_own_place() -> None:
    items = [{"id": "s", "ts": T, "n": "a", "v": 1}, {"n": "a"}]
    of_items = stream(["a"], LIST | {"skip": [{"item": "id", "absent": True}]})
    assert read(of_items, {"list": items}) == [("s", "a", T * NS, 1.0)]
    assert refusal(of_items, {"list": items[1:]}) == ("skipped", "id")
    of_messages = stream(["a"], LIST | {"skip": [{"path": "id", "present": True}]})
    assert read(of_messages, {"list": items}) == [("s", "a", T * NS, 1.0)]
    assert refusal(of_messages, {"list": items, "id": 1}) == ("skipped", "id")
