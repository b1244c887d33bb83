"""Mapped messages read together give what each gives alone, whatever is odd about some of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.config.sections import StreamSection
from daemon.domain import Reading, Record, Rejected, Skipped, StreamSpec
from daemon.stream.decoding import Decoder
from daemon.stream.extract import MappedColumns
from tests.stream.mapped import ARRIVED_NS, stream

T = 1_798_790_400  # seconds
SENSORS = {"temp": {}, "flow": {}, "rpm": {}}
RULED = {
    "temp": {"scale": 0.1, "offset": 5.0, "missing": [-99]},
    "flow": {"source": "Flow"},
    "rpm": {"states": {"RUN": 1, "5": 7}},
}
KEPWARE = {
    "timestamp": T * 1000,
    "values": [
        {"id": "p1.temp", "v": 1.5, "q": True, "t": T * 1000},
        {"id": "p1.flow", "v": 2, "q": True, "t": T * 1000},
        {"id": "p2.rpm", "v": None, "q": True, "t": T * 1000 + 1},
        {"id": "p1.rpm", "v": 3.5, "q": False, "t": T * 1000 - 1000},
    ],
}
OPCUA = {
    "MessageType": "ua-data",
    "PublisherId": "line1",
    "Messages": [
        {
            "DataSetWriterId": "p1",
            "Timestamp": "2026-12-31T23:00:00Z",
            "Payload": {
                "temp": {"Value": {"Type": 11, "Body": 1.5}, "SourceTimestamp": "2026-12-31T23:00:00.5Z"},
                "flow": {"Value": {"Type": 11, "Body": 7}, "StatusCode": {"Code": 0}},
            },
        },
        {"DataSetWriterId": 5, "Payload": {"rpm": {"Value": {"Body": 0.5}, "Status": "Good"}}},
    ],
}
TELEGRAF = {
    "fields": {"temp": 1.5, "flow": 2, "rpm": 0.25, "mode": "auto"},
    "tags": {"asset": "p1", "host": "edge"},
    "timestamp": T,
}
FLAT = {"asset": "p1", "ts": T, "temp": 1.5, "flow": 2.5, "rpm": 1}
SHAPES: Final[dict[str, tuple[StreamSection, Any]]] = {
    "kepware": (stream(SENSORS, format="kepware"), KEPWARE),
    "kepware, of states and scales": (stream({"temp": {"scale": 0.1}, "flow": {}, "rpm": {"states": {"RUN": 1, "5": 7}}}, format="kepware"), KEPWARE),
    "opcua-pubsub": (stream(SENSORS, format="opcua-pubsub"), OPCUA),
    "opcua-pubsub, scalars": (
        stream(SENSORS, format="opcua-pubsub"),
        {"MessageType": "ua-data", "Messages": {"DataSetWriterName": "p1", "Payload": {"temp": 1.5, "flow": 7}}},
    ),
    "telegraf": (stream(SENSORS, format="telegraf"), TELEGRAF),
    "telegraf, a batch": (stream(SENSORS, format="telegraf"), {"metrics": [TELEGRAF, {**TELEGRAF, "timestamp": T - 1}]}),
    "telegraf, of the host": (stream(SENSORS, format="telegraf"), {**TELEGRAF, "tags": {"host": "edge"}}),
    "telegraf, renamed": (
        stream(SENSORS, {"rename": {"Temp": "temp", "t2": "temp"}}, format="telegraf"),
        {**TELEGRAF, "fields": {"Temp": 1.5, "rpm": 4}},
    ),
    "flat": (stream(SENSORS, format="flat"), FLAT),
    "flat, of rules": (stream(RULED, format="flat"), {**FLAT, "Flow": 2, "flow": "x", "rpm": "RUN"}),
    "flat, an array": (stream(SENSORS, format="flat"), [FLAT, {**FLAT, "asset": "p2"}]),
    "flat, with words": (stream(SENSORS, {"missing": [-1, "n/a"]}, format="flat"), {**FLAT, "temp": -1, "flow": 1.5}),
    "flat, conditions": (
        stream(
            SENSORS,
            {"condition": {"mode": ["state.mode", "mode"], "line": {"constant": "l1"}}},
            format="flat",
            condition=["mode", "line"],
            assets={"p1": {"mode": "idle"}},
        ),
        {**FLAT, "state": {"mode": "run"}},
    ),
    "flat, words that are states": (
        stream({"temp": {}, "flow": {}, "rpm": {"states": {"OFF": 0, "RUN": 1}}}, {"missing": ["OFF", "5"]}, format="flat"),
        {**FLAT, "rpm": "RUN"},
    ),
    "flat, with a skipped kind": (
        stream(SENSORS, {"skip": [{"path": "kind", "in": ["ping"]}]}, format="flat"),
        {**FLAT, "kind": "data"},
    ),
    "flat, a time of many places": (
        stream(SENSORS, {"time": ["ts", "meta[0].ts", "$timestamp"]}, format="flat"),
        {**FLAT, "meta": [{"ts": T - 5}]},
    ),
    "leaves above the items": (
        stream(SENSORS, {"each": "items", "asset": "id", "time": "ts", "leaves": "^.v", "rows": "gather"}),
        {"v": {"temp": 1.5, "mode": "x"}, "items": [{"id": "p1", "ts": T}, {"id": "p2", "ts": T}]},
    ),
    "wide": (stream(SENSORS, format="wide"), {"device": "p1", "time": T * 1000, "readings": {"temp": 1.5, "flow": 2}}),
    "chirpstack": (
        stream(SENSORS, format="chirpstack"),
        {"deviceInfo": {"devEui": "p1"}, "time": "2026-12-31T23:00:00Z", "object": {"temp": 1.5, "flow": 2}},
    ),
    "ngsi-ld": (
        stream(SENSORS, format="ngsi-ld"),
        {
            "data": [
                {"id": "urn:p1", "type": "Pump", "temp": {"type": "Property", "value": 1.5, "observedAt": "2026-12-31T23:00:00Z"}}
            ]
        },
    ),
    "home-assistant": (
        stream({"temp": {}, "state": {}}, format="home-assistant"),
        {"entity_id": "sensor.p1_temp", "state": "21.5", "last_updated": "2026-12-31T23:00:00+00:00"},
    ),
    "home-assistant, in units": (
        stream({"temp": {"unit": "°C"}, "state": {"unit": "°C"}}, format="home-assistant"),
        {
            "entity_id": "sensor.p1_temp",
            "state": "21.5",
            "attributes": {"unit_of_measurement": "°C"},
            "last_updated": "2026-12-31T23:00:00+00:00",
        },
    ),
    "debezium": (
        stream(SENSORS, format="debezium"),
        {"payload": {"op": "u", "after": {**FLAT}, "source": {"ts_ms": T * 1000}}},
    ),
    "fields": (
        stream(
            SENSORS,
            {
                "asset": ["who.id", "$key"],
                "time": {"from": ["at", "$timestamp"], "unit": "ms"},
                "fields": {"temp": "m.t", "flow": ["m.f", "m.g"], "rpm": "n"},
                "quality": {"from": "m.ok", "good": ["yes"]},
                "skip": [{"path": "kind", "in": ["ping", 3]}],
                "rows": "gather",
            },
        ),
        {"who": {"id": "p1"}, "at": T * 1000, "m": {"t": 1.5, "f": 2, "ok": "yes"}, "n": 3, "kind": "data"},
    ),
    "one value of the key": (
        stream(
            SENSORS,
            {
                "asset": {"constant": "plant"},
                "sensor": ["$key"],
                "value": ["v", "value"],
                "time": ["t", "$timestamp"],
                "skip": [{"path": "v", "absent": True}],
            },
        ),
        {"v": 1.5, "t": T},
    ),
}  # fmt: skip
ALONE = frozenset({"ngsi-ld"})
"""Whose items have sensors and other properties side by side."""
KEYS: list[bytes | None] = [b"p1", b"temp", b"flow", b"\xff", None, b""]
STAMPS = [ARRIVED_NS, ARRIVED_NS, ARRIVED_NS, -1, (T - 9000) * 10**9]
VALUES: list[Any] = [
    *("0001-01-01T00:00:00Z", "1601-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "1e00005", "9" * 70, "OFF"),
    *("°F", "kPa"),
    *(
        None,
        True,
        False,
        0,
        -0.0,
        7,
        1.25,
        10**400,
        -1,
        -99,
        float("nan"),
        float("inf"),
        2**63,
        "",
        "p2",
        "temp",
    ),
    *(
        "1.5",
        "-0",
        "1,5",
        "nan",
        "RUN",
        "5",
        "x" * 70,
        "n/a",
        "Good",
        "Bad",
        "yes",
        "2026-12-31T23:00:00Z",
        "ping",
    ),
    *(
        [],
        {},
        [1],
        {"Body": 1},
        {"value": 2},
        {"id": "p3"},
        T,
        T * 1000,
        T + 0.5,
        str(T),
        12,
        3,
        "ua-keepalive",
    ),
]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every object or array with each of its keys or places."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(inner):
        yield tree, key
        yield from places(value)


@st.composite
def messages(draw: st.DrawFn, plain: Any) -> bytes:
    """A message like another one, but for some changes."""
    message = copy.deepcopy(plain)
    for _ in range(draw(st.integers(0, 2))):
        found = list(places(message))
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        change = draw(st.sampled_from(["value", "value", "remove", "add", "again"]))
        if change == "remove":
            del holder[key]
        elif change == "value":
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            name = draw(st.sampled_from(["temp", "Flow", "other", "metrics", "quality", "v", "Status", "ä"]))
            holder[name] = (
                copy.deepcopy(holder[key])
                if change == "again"
                else copy.deepcopy(draw(st.sampled_from(VALUES)))
            )
    return json.dumps(message, ensure_ascii=draw(st.booleans())).encode()


@st.composite
def polls(draw: st.DrawFn, plain: Any) -> list[list[Record]]:
    """Polls of messages, most of which are alike."""
    usual = json.dumps(plain).encode()
    odd = st.one_of(
        messages(plain),
        messages(plain),
        st.sampled_from([b"", b"{", b"[]", b"null", b'{"\xff":1}', b"\xef\xbb\xbf{}"]),
    )
    made = []
    offset = 0
    for _ in range(draw(st.integers(1, 3))):
        lines = [usual] * draw(st.integers(0, 12))
        for line in draw(st.lists(odd, max_size=5)):
            lines.insert(draw(st.integers(0, len(lines))), line)
        poll = []
        for line in lines:
            key, stamp = draw(st.sampled_from([KEYS[1], *KEYS])), draw(st.sampled_from(STAMPS))
            poll.append(Record(offset, key, line, stamp))
            offset += 1
        made.append(poll)
    return made  # fmt: skip


def results(found: Sequence[Reading | Rejected | Skipped], decoder: Decoder) -> Any:
    readings = [each for each in found if isinstance(each, Reading)]
    others = [each for each in found if not isinstance(each, Reading)]
    return (
        [
            (r.offset, r.asset, r.time_ns, repr(list(map(float, r.values or ()))), r.condition, r.stamp_ns, r.reported, r.counted,
             sorted(r.corrupt), tuple(r.displaced))
            for r in readings
        ],
        [(e.record.offset, e.rule if isinstance(e, Skipped) else (e.reason, e.detail)) for e in others],
        (decoder.corrupt_by_fault, decoder.corrupt_examples.keys(), decoder.converted_units, decoder.unknown_sensors, decoder.unknown_cells, decoder.zoneless),
        (decoder.refused_items, decoder.skipped_items),
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_messages_give_the_same_together_and_alone(name: str) -> None:
    section, plain = SHAPES[name]
    spec = section.spec()

    @settings(max_examples=80)
    @given(polls(plain))
    def check(found: list[list[Record]]) -> None:
        alone, together = Decoder(spec, max_bytes=1200), Decoder(spec, max_bytes=1200)
        for poll in found:
            batch, left_out = together.decode_batch(poll)
            readings = [batch.reading(i) for i in range(len(batch))]
            assert results([*readings, *left_out], together) == results(alone.decode_all(poll), alone)

    check()


def columns(spec: StreamSpec, line: bytes) -> MappedColumns:
    """The columns of a stream, as its decoder has them after a message."""
    decoder = Decoder(spec)
    decoder.decode_batch([Record(0, b"temp", line, ARRIVED_NS)])
    found = decoder.columns
    assert found is not None
    return found


@pytest.mark.parametrize("name", [name for name in SHAPES if name not in ALONE])
def test_usual_messages_are_read_together(name: str) -> None:
    section, plain = SHAPES[name]
    lines, stamps = [json.dumps(plain, ensure_ascii=False).encode()] * 40, np.full(40, ARRIVED_NS)
    found = columns(section.spec(), lines[0]).decode([b"temp"] * 40, lines, stamps, 1 << 20)
    assert found is not None
    assert found.odd(40) == []


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "1601-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("name", ["opcua-pubsub", "chirpstack"])
def test_times_beyond_what_nanoseconds_can_hold_are_odd(name: str, text: str) -> None:
    section, plain = SHAPES[name]
    line = json.dumps(plain)
    poll = [Record(i, b"p1", line.encode(), ARRIVED_NS) for i in range(10)]
    odd = line.replace("2026-12-31T23:00:00.5Z", text).replace("2026-12-31T23:00:00Z", text)
    poll.insert(5, Record(10, b"p1", odd.encode(), ARRIVED_NS))
    alone, together = Decoder(section.spec()), Decoder(section.spec())
    batch, left_out = together.decode_batch(poll)
    readings = [batch.reading(i) for i in range(len(batch))]
    assert results([*readings, *left_out], together) == results(alone.decode_all(poll), alone)
