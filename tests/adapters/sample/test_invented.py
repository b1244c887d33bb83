"""Messages of makers whose formats are none of the presets: what ``init`` makes of them by their names and shapes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from daemon.adapters.sample import derive, derive_of_topic
from daemon.adapters.sample.survey import Candidate, survey
from daemon.domain import Record
from daemon.errors import InputError

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
    assert found.written.input["quality"] == {"from": "qualityCode", "good": ["0"]}
    assert "'0' is said of most, and taken for good" in found.written.why["input.quality"]


def test_short_arrays_are_sensors_and_blocks_of_samples_are_said_to_be_left_out() -> None:
    found = derived(
        lambda i: {"gateway": "g", "ts": BEGIN + i, "load": i % 5, "registers": [200 + i % 7, 40]}
    )
    assert found.spec.sensors == ("load", "registers.0", "registers.1")
    found = derived(lambda i: {"gateway": "g", "ts": BEGIN + i, "load": i % 5, "signal": [i % 7, *range(40)]})
    assert found.spec.sensors == ("load",)
    assert "signal[0]" in found.written.why["input.leaves"]


def test_lines_of_graphite_are_readings() -> None:
    lines = [
        f"hall.p{i % 2}.{name} {value} {BEGIN + i // 2}"
        for i in range(120)
        for name, value in zip(("flow", "level"), waves(i), strict=True)
    ]
    found = derive([line.encode() for line in lines], name="s")
    assert set(found.spec.sensors) == {"flow", "level"}
    assert found.written.input is not None
    assert found.written.input["asset"] == {"from": "path", "match": r"^(?<asset>.+)\."}


def test_a_time_that_cannot_be_read_is_named_with_what_helps() -> None:
    with pytest.raises(
        InputError, match=r"when holds '8h05 on day 3', which is no time .* \{from: when, format:"
    ):
        derive(
            [
                json.dumps({"pump": "p", "when": f"8h{i:02d} on day 3", "flow": i % 7}).encode()
                for i in range(5, 60)
            ],
            name="s",
        )


def waves(i: int) -> tuple[float, float]:
    """A flow and a level; the flow of each tenth message is told as 0, by a sensor that is broken."""
    return (0.0 if i % 10 == 3 else 200 + i % 7, 40 + i % 5)


def clock(i: int) -> dict[str, Any]:
    when = datetime.fromtimestamp(BEGIN + i, UTC)
    flow, level = waves(i)
    return {
        "dev": "d-1",
        "datum": when.strftime("%d.%m.%Y"),
        "uhr": when.strftime("%H:%M:%S"),
        "flow": flow,
        "level": level,
    }


def nanos(i: int) -> dict[str, Any]:
    flow, level = waves(i)
    return {
        "pump": "p",
        "stamp": {"seconds": str(BEGIN + i), "nanos": 500_000_000},
        "flow": flow,
        "level": level,
    }


def american(i: int) -> dict[str, Any]:
    when = datetime.fromtimestamp(BEGIN + i, UTC)
    flow, level = waves(i)
    return {"pump": "p", "when": when.strftime("%m/%d/%Y %I:%M:%S %p"), "flow": flow, "level": level}


@pytest.mark.parametrize(
    ("message", "time"),
    [
        (clock, {"join": ["datum", "uhr"], "with": " "}),
        (nanos, {"seconds": "stamp.seconds", "nanos": "stamp.nanos"}),
        (american, {"from": "when", "day_first": False}),
    ],
)
def test_a_time_may_be_two_fields_or_need_the_order_of_its_numbers(message: Message, time: Any) -> None:
    found = derived(message)
    assert found.written.input["time"] == time
    assert set(found.spec.sensors) == {"flow", "level"}
    assert found.spec.period_ns == 10**9


def test_what_nothing_decides_of_a_date_is_said() -> None:
    def slashes(i: int) -> dict[str, Any]:
        return {"pump": "p", "when": f"03/04/2026 08:{i // 60:02d}:{i % 60:02d}", "flow": i % 7}

    found = derived(slashes)
    assert found.written.input["time"] == {"from": "when", "day_first": False}
    assert "which nothing in the sample decides" in found.written.why["input.time"]


def test_numbers_tell_registers_apart_and_topics_end_in_state() -> None:
    def registers(i: int) -> dict[str, Any]:
        flow, level = waves(i)
        return {
            "plc": f"m{i % 2}",
            "ts": BEGIN + i // 2,
            "regs": [{"addr": 30001, "val": flow}, {"addr": 30003, "val": level}],
        }

    def states(i: int) -> dict[str, Any]:
        at, which = divmod(i, 4)
        name = ("flow", "level")[which % 2]
        return {
            "topic": f"hall/p{which // 2}/{name}/state",
            "payload": str(waves(at)[which % 2]),
            "ts": BEGIN + at,
        }

    found = derived(registers)
    assert set(found.spec.sensors) == {"30001", "30003"}
    assert found.written.input["sensor"] == "addr"
    found = derived(states)
    assert set(found.spec.sensors) == {"flow", "level"}
    assert found.written.input["asset"] == {"from": "topic", "match": "^(?<asset>.+)/[^/]+/state$"}


def test_json_in_base64_within_a_message_is_opened() -> None:
    def wrapped(i: int) -> dict[str, Any]:
        inner = json.dumps(dict(zip(("flow", "level"), waves(i), strict=True))).encode()
        return {
            "msg": {
                "data": base64.b64encode(inner).decode(),
                "attributes": {"deviceId": "p"},
                "publishTime": at(i),
            }
        }

    found = derived(wrapped)
    assert found.written.input["inner"] == [{"path": "msg.data", "kind": "json", "unwrap": ["base64"]}]
    assert set(found.spec.sensors) == {"flow", "level"}


def values_read(message: Message) -> dict[str, list[float]]:
    """What is read of each sensor by the mapping that is written, the missing left out."""
    records = [Record(i, None, json.dumps(message(i)).encode(), -1) for i in range(120)]
    written = derived(message).written
    assert written.input is not None
    found = survey(Candidate(written.format, written.input), records)
    return {
        sensor: [n for n in found.numbers[found.sensor == at].tolist() if n == n]
        for at, sensor in enumerate(found.sensors)
    }


@pytest.mark.parametrize(
    "marked",
    [
        lambda i, good: {"quality": "GOOD" if good else "BAD"},
        lambda i, good: {"quality": 192 if good else 4},
        lambda i, good: {"qc": 3 if good else 0},  # a code of another convention: what most say is good
    ],
)
def test_a_quality_beside_the_values_of_a_row_masks_them(
    marked: Callable[[int, bool], dict[str, Any]],
) -> None:
    def flat(i: int) -> dict[str, Any]:
        flow, level = waves(i)
        return {"pump": "p", "ts": at(i), "flow": flow, "level": level} | marked(i, flow > 0)

    def below(i: int) -> dict[str, Any]:
        flow, level = waves(i)
        return {"deviceId": "p", "ts": at(i), "values": {"flow": flow, "level": level}} | marked(i, flow > 0)

    for message in (flat, below):
        read = values_read(message)
        assert set(read) == {"flow", "level"}
        assert len(read["level"]) == 108
        assert min(read["flow"]) >= 200


def test_each_value_of_an_object_has_its_own_status() -> None:
    def objects(i: int) -> dict[str, Any]:
        flow, level = waves(i)
        return {
            "pump": "p",
            "ts": at(i),
            "flow": {"value": flow, "status": "OK" if flow else "FAULT"},
            "level": {"value": level, "status": "OK"},
        }

    read = values_read(objects)
    assert set(read) == {"flow", "level"}
    assert len(read["level"]) == 120
    assert min(read["flow"]) >= 200


def test_a_status_object_in_place_of_a_number_is_no_other_sensor() -> None:
    def archive(i: int) -> dict[str, Any]:
        flow, level = waves(i)
        odd = {"Name": "No Data", "Value": 248, "IsSystem": True}
        items = [("flow", flow if flow else odd, flow > 0), ("level", level, True)]
        return {
            "Items": [
                {"Name": f"P1.{name}", "Items": [{"Timestamp": at(i), "Value": value, "Good": good}]}
                for name, value, good in items
            ]
        }

    read = values_read(archive)
    assert set(read) == {"flow", "level"}
    assert (len(read["flow"]), len(read["level"])) == (108, 120)


def archive(i: int) -> dict[str, Any]:
    """Rows of time, value and a code, below the names of the sensors."""
    rows = [waves(2 * i + k) for k in (0, 1)]
    return {
        "data": {
            name: [[at(2 * i + k), row[which], 192 if row[which] else 0] for k, row in enumerate(rows)]
            for which, name in enumerate(("flow", "level"))
        }
    }


def bodies(i: int) -> dict[str, Any]:
    """The same in one array per sensor, with a code whose 3 is good."""
    return {
        "body": [
            {
                "name": name,
                "attributes": {"machine": "p"},
                "points": [[1000 * (BEGIN + i), value, 3 if value else 0]],
            }
            for name, value in zip(("flow", "level"), waves(i), strict=True)
        ]
    }


def rendered(i: int) -> list[dict[str, Any]]:
    """Value first, then time."""
    return [
        {"target": f"p1.{name}", "datapoints": [[value or None, BEGIN + i]]}
        for name, value in zip(("flow", "level"), waves(i), strict=True)
    ]


def queried(i: int) -> dict[str, Any]:
    """Rows below the names of their columns."""
    flow, level = waves(i)
    series = {
        "tags": {"asset": "p"},
        "columns": ["time", "flow", "level"],
        "values": [[at(i), flow or None, level]],
    }
    return {"results": [{"series": [series]}]}


@pytest.mark.parametrize(
    ("message", "each"),
    [
        (archive, {"under": "data.*", "rows": ".", "columns": ["time", "value", "quality"]}),
        (bodies, {"under": "body[]", "rows": "points", "columns": ["time", "value", "quality"]}),
        (rendered, {"under": "[]", "rows": "datapoints", "columns": ["value", "time"]}),
        (queried, {"under": "results[].series[]", "rows": "values", "columns": "columns"}),
    ],
)
def test_arrays_of_arrays_are_rows(message: Message, each: Any) -> None:
    assert derived(message).written.input["each"] == each
    read = values_read(message)
    assert set(read) == {"flow", "level"}
    assert min(read["flow"]) >= 200
    assert len(read["level"]) in (120, 240)


def test_arrays_of_arrays_without_times_are_no_rows() -> None:
    found = derived(lambda i: {"p": "p", "ts": BEGIN + i, "flow": i % 7, "matrix": [[1, 2, 3], [4, 5, 6]]})
    assert found.spec.sensors == ("flow",)


def test_versions_are_no_dates_and_a_flow_is_no_quality() -> None:
    def pump(i: int) -> dict[str, Any]:
        return {"pump": "p", "fw": f"1.2.{10 + i // 60}", "at": BEGIN + i, "level": i % 5}

    assert derived(pump).written.input["time"] == "at"
    records = [
        Record(
            i,
            None,
            json.dumps({"pump": "p", "fw": "1.2.10", "flow": i % 7}).encode(),
            BEGIN * 10**9 + i * 10**9,
        )
        for i in range(60)
    ]
    found = derive_of_topic(records, True, (), "pumps", "hall.pumps")
    assert found.written.input is not None
    assert found.written.input.get("time", "$timestamp") == "$timestamp"
    read = values_read(lambda i: {"pump": "p", "ts": at(i), "q": i % 3, "level": i % 5})
    assert len(read["level"]) == 120


def test_codes_of_a_sensor_that_is_not_connected_are_not_taken_for_good() -> None:
    def broken(i: int) -> dict[str, Any]:
        quality = 24 if i % 9 else 8
        return {"asset": "a", "ts": at(i), "sensor": "tp"[i % 2], "value": 20 + i % 7, "quality": quality}

    assert "quality" not in (derived(broken).written.input or {})


@pytest.mark.parametrize(
    "marks",
    [
        lambda i: {"status": "ok" if i % 9 else "error"},
        lambda i: {"state": "normal" if i % 9 else "fault"},
        lambda i: {"q": 190 + i % 5},
    ],
)
def test_what_a_machine_says_of_itself_is_no_quality_of_its_readings(
    marks: Callable[[int], dict[str, Any]],
) -> None:
    found = derived(lambda i: {"asset": "a", "ts": at(i), "temperature": 20 + i % 7, **marks(i)})
    assert "quality" not in (found.written.input or {})


def test_a_whole_time_goes_before_a_date_and_a_time_of_day_which_is_no_begin_of_a_shift() -> None:
    def local(i: int) -> dict[str, Any]:
        time = datetime.fromtimestamp(BEGIN + 3600 + i, UTC)
        return {"date": f"{time:%Y-%m-%d}", "shift_start": "06:00", "time": f"{time:%H:%M:%S}"}

    def both(i: int) -> dict[str, Any]:
        return {"d": {"dev": "a", "ts": at(i), **local(i), "m": {"temperature": 20 + i % 7, "flow": i % 5}}}

    assert derived(both).written.input["time"] == "d.ts"
    alone = derived(lambda i: {"machine": "a", **local(i), "temperature": 20 + i % 7})
    assert alone.written.input["time"] == {"join": ["date", "time"], "with": " "}
