"""Sparkplug B with its state: aliases, deaths, lost messages; on the wire and as JSON of a bridge."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import struct
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason, Record
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode import Arrival, Births, decode_with
from daemon.stream.decode.sparkplug_protobuf import payload_class
from daemon.stream.rejection import RejectedError, SkippedError
from tests.stream.decode.arriving import NOW_NS, mapped, read
from tests.stream.decode.payloads import FORMS, NOW_MS, message

KINDS = sorted(FORMS)
BORN = [
    {"name": "Heat", "alias": 4, "value": 21.5, "time": NOW_MS - 5},
    {"name": "Count", "alias": 5, "type": "Int16", "value": -7},
    {"name": "Node Control/Rebirth", "alias": 6, "type": "Boolean", "value": False},
]


class Reader:
    """Decodes messages of one partition, one after the other."""

    def __init__(self, kind: str) -> None:
        self.kind, self.births, self.offset = kind, Births(), 0
        self._decode = decode_with(DecodeRule(kind))

    def record(self, record: Record) -> Any:
        return self.arriving(Arrival(record, [], self.births))

    def arriving(self, arrival: Arrival) -> Any:
        self.offset = arrival.record.offset + 1
        return self._decode(arrival.record.value, arrival)

    def __call__(self, topic: str, metrics: list[dict[str, Any]], seq: int | None = None, **more: Any) -> Any:
        return self.record(message(self.kind, self.offset, topic, metrics, seq, **more))

    def refusal(self, topic: str, metrics: list[dict[str, Any]]) -> tuple[Reason, str]:
        with pytest.raises(RejectedError) as error:
            self(topic, metrics)
        return error.value.reason, error.value.detail

    def skip(self, topic: str, metrics: list[dict[str, Any]], **more: Any) -> str:
        with pytest.raises(SkippedError) as error:
            self(topic, metrics, **more)
        return error.value.rule


@pytest.fixture(params=KINDS)
def reader(request: pytest.FixtureRequest) -> Reader:
    return Reader(request.param)


def values(tree: dict[str, Any]) -> dict[str, Any]:
    return {metric["name"]: metric["value"] for metric in tree["metrics"] if "name" in metric}


def test_a_birth_is_a_reading_and_names_what_follows(reader: Reader) -> None:
    birth = reader("works/DBIRTH/edge/fan", BORN, 3)
    assert birth == {
        "group": "works", "edge": "edge", "device": "fan", "type": "DBIRTH", "asset": "works/edge/fan",
        "timestamp": NOW_MS, "seq": 3,
        "metrics": [
            {"asset": "works/edge/fan", "name": "Heat", "alias": 4, "timestamp": NOW_MS - 5, "value": 21.5, "datatype": 10},
            {"asset": "works/edge/fan", "name": "Count", "alias": 5, "timestamp": NOW_MS, "value": -7, "datatype": 2},
        ],
    }  # fmt: skip
    data = reader(
        "works/DDATA/edge/fan",
        [
            {"alias": 4, "value": 22.5, "untyped": True, "quality": 192, "historical": True},
            {"alias": 5, "type": "Int16", "value": -9, "untyped": True},
            {"alias": 4, "value": None, "time": NOW_MS + 1},
        ],
        4,
    )
    first, second, third = data["metrics"]
    assert (first["name"], first["value"], first["quality"], first["historical"]) == ("Heat", 22.5, 192, True)
    assert (second["name"], second["value"], second["datatype"]) == ("Count", -9, 2)
    assert (third["name"], third["value"], third["timestamp"]) == ("Heat", None, NOW_MS + 1)


def test_an_edge_node_has_metrics_of_its_own(reader: Reader) -> None:
    tree = reader("works/NBIRTH/edge", [{"name": "Load", "alias": 1, "value": 0.5}], 0)
    assert (tree["asset"], "device" in tree) == ("works/edge", False)
    assert values(reader("works/NDATA/edge", [{"alias": 1, "value": 0.75}], 1)) == {"Load": 0.75}


def test_an_alias_without_a_name_is_refused_and_never_guessed(reader: Reader) -> None:
    data = [{"alias": 4, "value": 1.0}]
    expected = "metric 0: alias 4 of 'works/edge/fan' has no name: its birth came not in this partition (yet)"
    assert reader.refusal("works/DDATA/edge/fan", data) == (Reason.UNKNOWN_ALIAS, expected)
    reader("works/DBIRTH/edge/fan", BORN)
    reader("works/DBIRTH/edge/pump", [{"name": "Flow", "alias": 9, "value": 1.0}])
    assert values(reader("works/DDATA/edge/fan", data)) == {"Heat": 1.0}
    assert reader.refusal("works/DDATA/edge/fan", [{"alias": 9, "value": 1.0}])[1].endswith(
        "its last birth does not name it"
    )
    arriving = Arrival(
        message(reader.kind, reader.offset, "works/DDATA/edge/fan", [{"alias": 9, "value": 1.0}, *data]),
        [],
        reader.births,
    )
    both = reader.arriving(arriving)
    assert values(both) == {"Heat": 1.0}
    assert [error.detail for error in arriving.refused] == [
        "metric 0: alias 9 of 'works/edge/fan' has no name: its last birth does not name it"
    ]
    assert reader.refusal("works/DDATA/edge/fan", [{"value": 1.0}])[1].startswith(
        "metric 0: it has neither name nor alias"
    )


def test_metrics_with_names_need_no_birth_but_for_their_datatype(reader: Reader) -> None:
    assert values(reader("works/DDATA/edge/fan", [{"name": "Heat", "value": 1.0}])) == {"Heat": 1.0}
    reader("works/DBIRTH/edge/fan", BORN)
    count = reader("works/DDATA/edge/fan", [{"name": "Count", "type": "Int16", "value": -3, "untyped": True}])
    assert values(count) == {"Count": -3}


def test_a_message_without_metrics_has_none(reader: Reader) -> None:
    assert reader("works/DDATA/edge/fan", [])["metrics"] == []


def test_topics_that_are_many_are_forgotten(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.stream.decode.sparkplug.MOST_TOPICS", 2)
    for name in "abcab":
        assert reader(f"works/DDATA/edge/{name}", [])["device"] == name


def test_a_birth_replaces_the_one_before_and_that_of_a_node_those_of_its_devices(reader: Reader) -> None:
    data = [{"alias": 4, "value": 1.0}]
    reader("works/NBIRTH/edge", [{"name": "Load", "alias": 1, "value": 0.5}])
    reader("works/DBIRTH/edge/fan", BORN)
    reader("works/DBIRTH/edge/fan", [{"name": "Speed", "alias": 4, "value": 1.0}])
    assert values(reader("works/DDATA/edge/fan", data)) == {"Speed": 1.0}
    reader("works/NBIRTH/edge", [{"name": "Load", "alias": 1, "value": 0.5}])
    assert reader.refusal("works/DDATA/edge/fan", data)[0] is Reason.UNKNOWN_ALIAS
    reader("works/DBIRTH/edge/fan", BORN)
    assert values(reader("works/DDATA/edge/fan", data)) == {"Heat": 1.0}


def test_a_death_makes_every_sensor_missing_at_once(reader: Reader) -> None:
    reader(
        "works/NBIRTH/edge",
        [{"name": "bdSeq", "type": "Int64", "value": 7}, {"name": "Load", "alias": 1, "value": 0.5}],
    )
    reader("works/DBIRTH/edge/fan", BORN)
    reader("works/DBIRTH/edge/pump", [{"name": "Flow", "alias": 9, "value": 1.0}])
    tree = reader("works/DDEATH/edge/fan", [], timestamp=NOW_MS - 50)
    assert [(m["name"], m["value"], m["quality"], m["timestamp"]) for m in tree["metrics"]] == [
        ("Heat", None, 500, NOW_MS - 50),
        ("Count", None, 500, NOW_MS - 50),
    ]
    assert reader.refusal("works/DDATA/edge/fan", [{"alias": 4, "value": 1.0}])[0] is Reason.UNKNOWN_ALIAS
    assert reader.skip("works/DDEATH/edge/fan", []) == "DDEATH of what was not born"
    old = [{"name": "bdSeq", "type": "Int64", "value": 6}]
    assert reader.skip("works/NDEATH/edge", old) == "NDEATH of an earlier session"
    will = [{"name": "bdSeq", "type": "Int64", "value": 7}]
    tree = reader("works/NDEATH/edge", will, timestamp=NOW_MS - 99_999)  # as old as its session
    assert [(m["asset"], m["name"], m["timestamp"]) for m in tree["metrics"]] == [
        ("works/edge", "Load", NOW_MS),
        ("works/edge/pump", "Flow", NOW_MS),
    ]
    assert reader.skip("works/NDEATH/edge", will) == "NDEATH of what was not born"


def test_gaps_in_the_sequence_are_lost_messages(reader: Reader) -> None:
    lost = []
    for topic, seq in (
        ("NDATA/edge", 250), ("NDATA/edge", 251), ("NDATA/edge", 255), ("DDATA/edge/fan", 0), ("NDATA/edge", 0),
        ("NDATA/edge", 2), ("NBIRTH/edge", 0), ("DDATA/edge/fan", 1), ("NDATA/other", 9), ("NDATA/edge", 1 << 60),
    ):  # fmt: skip
        reader(f"works/{topic}", [{"name": "a", "value": 1.0}], seq)
        lost.append(reader.births.lost)
    # 252 to 254; a repetition; 1; a new sequence; another node; no sequence number, its last byte counts
    assert lost == [0, 0, 3, 3, 3, 4, 4, 4, 4, 258]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_reading_is_skipped_by_name_whatever_it_holds(kind: str) -> None:
    reader = Reader(kind)
    for topic, rule in (
        ("works/NCMD/edge", "NCMD"),
        ("works/DCMD/edge/fan", "DCMD"),
        ("STATE/host", "STATE"),
    ):
        with pytest.raises(SkippedError) as skipped:
            reader.record(Record(0, f"spBv1.0/{topic}".encode(), b"OFFLINE", NOW_NS))
        assert skipped.value.rule == rule
    with pytest.raises(SkippedError, match="STATE"):
        reader.record(Record(0, b"STATE/host", b"\xff", NOW_NS))


WHERE = [
    {"key": b"spBv1.0/works/DDATA/edge/fan"},
    {"key": b'"spBv1.0/works/DDATA/edge/fan"'},
    {"key": b'{"topic":"spBv1.0/works/DDATA/edge/fan","qos":0}'},
    {"key": b"fan", "headers": [("qos", None), ("mqtt.topic", b"spBv1.0/works/DDATA/edge/fan")]},
    {"topic": "spBv1.0.works.DDATA.edge.fan"},
    {"topic": "plant.spBv1.0.works.DDATA.edge.fan"},
]


@pytest.mark.parametrize("where", WHERE)
def test_the_topic_is_where_bridges_put_it(reader: Reader, where: dict[str, Any]) -> None:
    value = FORMS[reader.kind]([{"name": "Heat", "value": 1.0}], 1)
    record = Record(0, where.get("key"), value, NOW_NS, where.get("headers", ()), where.get("topic", ""))
    assert reader.record(record)["asset"] == "works/edge/fan"


def test_json_may_have_its_topic_beside_the_payload() -> None:
    reader = Reader("sparkplug-json")
    payload = json.loads(FORMS["sparkplug-json"]([{"name": "Heat", "value": 1.0}], 1))
    for tree in (
        {"topic": "spBv1.0/works/DDATA/edge/fan", "payload": payload},
        {**payload, "t": "spBv1.0/works/DDATA/edge/fan"},
    ):
        assert reader.record(Record(0, None, json.dumps(tree).encode(), NOW_NS))["asset"] == "works/edge/fan"


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"fan",
        b"spBv1.0/works/DDATA/edge",
        b"spBv1.0/" + b"g" * 300 + b"/NDATA/e",
        b"spBv1.0/g/NDATA/e" + b" " * 5_000,
    ],
)
def test_without_a_topic_nothing_can_be_read(reader: Reader, key: bytes | None) -> None:
    with pytest.raises(RejectedError, match="no Sparkplug topic") as error:
        reader.record(Record(0, key, FORMS[reader.kind]([], 1), NOW_NS))
    assert error.value.reason is Reason.NO_ASSET


def test_types_of_the_wire() -> None:
    reader = Reader("sparkplug")
    floats = struct.pack("<3f", 0.5, 1.5, -2.0)
    tree = reader(
        "works/DBIRTH/edge/fan",
        [
            {"name": "a", "type": "Int8", "value": -1},
            {"name": "b", "type": "Int64", "value": -5},
            {"name": "c", "type": "UInt64", "value": (1 << 64) - 1},
            {"name": "d", "type": "Float", "value": 0.5},
            {"name": "e", "type": "Boolean", "value": True},
            {"name": "f", "type": "String", "value": "on"},
            {"name": "g", "type": "FloatArray", "value": floats},
            {"name": "h", "type": "Double", "value": math.inf},
        ],
    )
    expected = {
        "a": -1,
        "b": -5,
        "c": (1 << 64) - 1,
        "d": 0.5,
        "e": True,
        "f": "on",
        "g": [0.5, 1.5, -2.0],
        "h": math.inf,
    }
    assert values(tree) == expected


def test_members_of_templates_are_metrics_and_data_sets_are_no_values() -> None:
    payload = payload_class()()
    motor = payload.metrics.add(name="Motor", datatype=19).template_value
    motor.metrics.add(name="Speed", datatype=10, double_value=900.0)
    motor.metrics.add(name="Bearing", datatype=19).template_value.metrics.add(name="Heat", float_value=2.5)
    definition = payload.metrics.add(name="_types_/Motor", datatype=19).template_value
    definition.is_definition = True
    definition.metrics.add(name="Speed", datatype=10)
    rated = payload.metrics.add(name="Rated", double_value=1.0)
    rated.properties.keys.append("engUnit")
    rated.properties.values.add(string_value="K")
    table = payload.metrics.add(name="Table", datatype=16).dataset_value
    table.columns.append("x")
    table.rows.add().elements.add(int_value=1)
    reader = Reader("sparkplug")
    tree = reader.record(Record(0, b"spBv1.0/w/DBIRTH/e/d", payload.SerializeToString(), NOW_NS))
    assert values(tree) == {
        "Motor/Speed": 900.0,
        "Motor/Bearing/Heat": 2.5,
        "Rated": 1.0,
        "Table": {"columns": ["x"], "rows": 1},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_that_is_named_by_its_alias(kind: str) -> None:
    def motor(named: bool, speed: float) -> bytes:
        if kind == "sparkplug-json":
            inner = {"metrics": [{"name": "Heat", "value": 2.5}]}
            members = [
                {"name": "Speed", "type": "Double", "value": speed},
                {"name": "Bearing", "value": inner},
            ]
            names = {"name": "Motor"} if named else {}
            template = {**names, "alias": 7, "dataType": "Template", "value": {"metrics": members}}
            return json.dumps({"metrics": [template, {"value": {"metrics": members}}]}).encode()
        payload = payload_class()()
        template = payload.metrics.add(alias=7, datatype=19)
        if named:
            template.name = "Motor"
        template.template_value.metrics.add(name="Speed", datatype=10, double_value=speed)
        bearing = template.template_value.metrics.add(name="Bearing", datatype=19).template_value
        bearing.metrics.add(name="Heat", float_value=2.5)
        return bytes(payload.SerializeToString())

    reader = Reader(kind)
    with pytest.raises(RejectedError, match="alias 7 of 'w/e/d' has no name"):
        reader.record(Record(0, b"spBv1.0/w/DDATA/e/d", motor(False, 1.0), NOW_NS))
    birth = reader.record(Record(1, b"spBv1.0/w/DBIRTH/e/d", motor(True, 1.0), NOW_NS))
    data = reader.record(Record(2, b"spBv1.0/w/DDATA/e/d", motor(False, 3.0), NOW_NS))
    assert values(birth) == {"Motor/Speed": 1.0, "Motor/Bearing/Heat": 2.5}
    assert values(data) == {"Motor/Speed": 3.0, "Motor/Bearing/Heat": 2.5}
    death = reader.record(Record(3, b"spBv1.0/w/DDEATH/e/d", FORMS[kind]([], None), NOW_NS))
    assert values(death) == {"Motor/Speed": None, "Motor/Bearing/Heat": None}


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ({"name": "a", "doubleValue": 1.5}, 1.5),
        ({"name": "a", "int_value": 4294967291, "datatype": 3}, -5),
        ({"name": "a", "longValue": "18446744073709551611", "datatype": 4}, -5),
        ({"name": "a", "type": "UInt64", "value": {"low": 2, "high": 1, "unsigned": True}}, (1 << 32) + 2),
        ({"name": "a", "value": 1.5, "is_null": True}, None),
        ({"name": "a", "value": "open"}, "open"),
        ({"name": "a", "value": {"x": 1}}, {"x": 1}),
    ],
)
def test_spellings_of_json(metric: dict[str, Any], expected: Any) -> None:
    record = Record(0, b"spBv1.0/w/DDATA/e/d", json.dumps({"metrics": [metric, 5]}).encode(), NOW_NS)
    assert values(Reader("sparkplug-json").record(record)) == {"a": expected}


def test_json_as_protobuf_prints_it() -> None:
    tree = {
        "timestamp": str(NOW_MS),
        "seq": {"low": 3, "high": 0, "unsigned": True},
        "metrics": [
            {
                "name": "M",
                "value": {"metrics": [{"name": "a", "alias": "4", "value": 1}], "isDefinition": False},
            },
            {
                "name": "T",
                "dataType": "Template",
                "value": {"isDefinition": True, "metrics": [{"name": "b"}]},
            },
            {
                "name": "q",
                "value": 1,
                "properties": {"keys": ["engUnit", "quality"], "values": [{}, {"intValue": 0}]},
            },
            {"name": "r", "value": 1, "properties": {"Quality": 500}},
            {"name": "s", "value": 1, "properties": {"engUnit": {"value": "K"}}},
        ],
    }
    found = Reader("sparkplug-json").record(
        Record(0, b"spBv1.0/w/DDATA/e/d", json.dumps(tree).encode(), NOW_NS)
    )
    assert (found["timestamp"], found["seq"], found["metrics"][0]["alias"]) == (NOW_MS, 3, 4)
    assert [(m["name"], m.get("quality")) for m in found["metrics"]] == [
        ("M/a", None),
        ("q", 0),
        ("r", 500),
        ("s", None),
    ]


def test_what_is_no_payload_is_refused() -> None:
    for kind, value, detail in (
        ("sparkplug", b'{"metrics": []}', "it looks like JSON: give decode: json"),
        ("sparkplug", b"\xff\xff\xff", "no Sparkplug payload: "),
        ("sparkplug-json", b"[]", "the payload is an array, not an object"),
        ("sparkplug-json", b'{"metrics": 5}', "metrics is a number, not an array"),
        ("sparkplug-json", b"nope", "Expecting value at character 0"),
    ):
        with pytest.raises(RejectedError) as error:
            Reader(kind).record(Record(0, b"spBv1.0/w/DDATA/e/d", value, NOW_NS))
        assert error.value.detail.startswith(detail)


def test_it_says_which_extra_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(
        ConfigError, match=r"decode: sparkplug needs the extra: pip install 'anomalyd\[sparkplug\]'"
    ):
        decode_with(DecodeRule("sparkplug"))
    decode_with(DecodeRule("sparkplug-json"))


TYPES = ("NBIRTH", "NDEATH", "NDATA", "DBIRTH", "DDEATH", "DDATA", "NCMD")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TYPES),
            st.binary(max_size=40)
            | st.dictionaries(
                st.sampled_from(["metrics", "seq", "timestamp", "payload"]),
                st.recursive(
                    st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.booleans(),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(
                        st.sampled_from(["name", "alias", "value", "metrics", "properties", "keys", "values", "type", "low", "high", "bdSeq"]),
                        inner,
                        max_size=4,
                    ),
                    max_leaves=8,
                ),
                max_size=4,
            ).map(lambda tree: json.dumps(tree).encode(errors="surrogatepass")),
        ),
        max_size=5,
    )
)  # fmt: skip
def test_anything_is_decoded_skipped_or_refused(messages: list[tuple[str, bytes]]) -> None:
    for kind in KINDS:
        reader = Reader(kind)
        for offset, (type_, value) in enumerate(messages):
            topic = f"spBv1.0/w/{type_}/e/d".encode()
            with contextlib.suppress(RejectedError, SkippedError):
                reader.record(Record(offset, topic, value, NOW_NS))


MAPPING = {
    "each": "metrics[]",
    "asset": "asset",
    "time": ["timestamp", "^.timestamp", "$timestamp"],
    "sensor": "name",
    "value": "value",
    "quality": {"from": "quality", "code": "sparkplug"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_readings_of_a_stream(kind: str) -> None:
    spec = mapped(("Heat", "Count"), decode=kind, **MAPPING)
    found = read(
        spec,
        message(kind, 0, "works/DBIRTH/edge/fan", BORN, 0),
        message(kind, 1, "works/DDATA/edge/fan", [{"alias": 4, "value": 3.0, "quality": 0}, {"alias": 5, "type": "Int16", "value": 2}], 1),
        message(kind, 2, "works/NCMD/edge", []),
        message(kind, 3, "works/DDATA/edge/pump", [{"alias": 4, "value": 3.0}], 2),
        message(kind, 4, "works/DDEATH/edge/fan", [], 3),
    )  # fmt: skip
    ms = 10**6
    assert found == [
        ("works/edge/fan", (NOW_MS - 5) * ms, {"Heat": 21.5}),
        ("works/edge/fan", NOW_MS * ms, {"Count": -7}),
        ("works/edge/fan", NOW_MS * ms, {"Count": 2}),
        "NCMD",
        (Reason.UNKNOWN_ALIAS, "metric 0: alias 4 of 'works/edge/pump' has no name: its birth came not in this partition (yet)"),
        ("works/edge/fan", NOW_MS * ms, {}),
    ]  # fmt: skip


def test_protobuf_in_the_json_of_a_bridge() -> None:
    spec = mapped(
        ("Heat", "Count"),
        **{key: value for key, value in MAPPING.items() if key not in ("each", "time")},
        each="body.metrics[]",
        time=["timestamp", "^.body.timestamp"],
        inner=[{"path": "body", "kind": "sparkplug", "unwrap": "base64"}],
    )
    records = []
    for offset, topic, metrics in (
        (0, "DBIRTH/edge/fan", BORN),
        (1, "DDATA/edge/fan", [{"alias": 4, "value": 8.0}]),
    ):
        inside = message("sparkplug", offset, f"works/{topic}", metrics)
        around = {"topic": f"spBv1.0/works/{topic}", "body": base64.b64encode(inside.value).decode()}
        records.append(replace_record(inside, json.dumps(around).encode()))
    assert [values for _, _, values in read(spec, *records)] == [
        {"Heat": 21.5},
        {"Count": -7.0},
        {"Heat": 8.0},
    ]


def replace_record(record: Record, value: bytes) -> Record:
    return Record(record.offset, None, value, record.timestamp_ns)
