"""Which mapping is taken for messages, and what is said where none reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.adapters.sample import derive, derive_spec
from daemon.domain import SECOND_NS, FieldNames, Format, Reading, Record, Rejected
from daemon.errors import InputError
from daemon.stream.decoding import Decoder
from tests.adapters.sample.test_period import MS
from tests.running import SHARED, lines_of


def lines(*objects: Any) -> list[bytes]:
    return [each if isinstance(each, bytes) else json.dumps(each).encode() for each in objects]


def test_wide_lines() -> None:
    sample = lines(
        *(
            {"asset": f"p{i % 2}", "ts": 1_704_067_200_000 + 500 * (i // 2), "values": {"b": i, "a": None}}
            for i in range(200)
        ),
        {"asset": "p0", "ts": "2024-01-01T00:10:00Z", "values": {"a": 1.5, "text": "off", "flag": True}},
        b"garbage",
        b"",
        {"asset": "p0", "ts": "never", "values": {"a": 1}},
    )
    spec, notes = derive_spec(sample)
    assert spec.format is Format.JSON_WIDE
    assert spec.fields == FieldNames()
    assert spec.sensors == ("a", "b", "flag", "text")  # a boolean, and a word that is one
    assert (spec.period_ns, spec.window) == (500 * MS, 16)
    assert any(
        note.startswith("3 lines cannot be used: bad_timestamp 1, blank 1, not_json 1") for note in notes
    )


def test_long_lines_with_names_of_their_own() -> None:
    """The sensors report at different phases: only each one's own differences tell the period."""
    sample = lines(
        *(
            {"device": "d", "tag": tag, "time": 1_704_067_200 + i + phase, "reading": 1.0 + i}
            for i in range(300)
            for tag, phase in (("x", 0), ("y", 0.3))
        )
    )
    spec, _ = derive_spec(sample)
    assert spec.format is Format.JSON_LONG
    assert spec.fields == FieldNames(asset="device", timestamp="time", sensor="tag", value="reading")
    assert (spec.sensors, spec.period_ns, spec.window) == (("x", "y"), SECOND_NS, 16)


def test_an_object_of_numbers_is_the_values_whatever_its_name() -> None:
    spec, _ = derive_spec(lines(*({"id": 7, "ts": 10**9 + i, "payload": {"x": i}} for i in range(1, 60))))
    assert (spec.fields.asset, spec.fields.values, spec.sensors) == ("id", "payload", ("x",))


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ([b"x", b"[1]", b"[" * 100_000], "none of the first 3 lines is a JSON object"),
        (lines({"asset": "a", "x": 1.5}), r"no field is a time .*name it with input: \{time: FIELD"),
        (
            lines({"asset": "a", "ts": 10**9}),
            r"the first has asset \(a string\), ts \(a number\); the nearest format is [\w-]+: no_values",
        ),
        (lines({"asset": "a", "ts": 1, "sensor": "s", "value": None}), "no field holds numbers"),
        (lines({"asset": "a", "ts": "soon", "values": {"x": 1}}), "bad_timestamp"),
    ],
)
def test_lines_without_readings_are_refused_with_what_to_write(sample: list[bytes], message: str) -> None:
    with pytest.raises(InputError, match=message):
        derive_spec(sample)


def telegraf(i: int, tags: dict[str, str]) -> dict[str, Any]:
    fields = {"level": 3 + i % 7, "flow": i % 5}
    return {"fields": fields, "name": "modbus", "tags": tags, "timestamp": 1_750_000_000 + i // 2}


def test_a_preset_that_knows_its_envelope_comes_before_a_mapping_of_the_sample() -> None:
    derived = derive(lines(*(telegraf(i, {"host": f"h-{i % 2}"}) for i in range(100))))
    assert (derived.written.format, derived.written.input) == ("telegraf", None)
    assert derived.spec.sensors == ("flow", "level")
    assert "tags.host (2: h-0, h-1)" in derived.written.why["format"]
    assert "time: timestamp" in derived.written.why["format"]


def test_a_preset_lacks_its_asset_and_gets_another_place() -> None:
    derived = derive(lines(*(telegraf(i, {"turbine": f"t-{i % 2}"}) for i in range(100))))
    assert (derived.written.format, derived.written.input) == ("telegraf", {"asset": "tags.turbine"})
    assert "named like one" in derived.written.why["input.asset"]


def test_of_two_readings_that_are_close_both_are_said() -> None:
    rows = [
        {"sensorId": f"s-{i % 3}", "timestamp": 1_750_000_000 + i // 3, "value": i % 7} for i in range(300)
    ]
    derived = derive(lines(*rows))
    assert derived.spec.sensors == ("s-0", "s-1", "s-2")
    assert any("would read them too (asset sensorId" in note for note in derived.notes)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "assets", "sensors"),
    [
        ("01-flat-json/01-flat.jsonl", {"dev-0", "dev-1"}, {"temperature", "humidity"}),
        ("01-flat-json/flat-device.jsonl", {"dev-0", "dev-1"}, {"temperature", "humidity"}),
        ("02-telegraf-json/02-telegraf.jsonl", {"plc-0", "plc-1"}, {"temperature", "humidity"}),
        ("03-name-value-array/03-kep.jsonl", {"Ch.P1"}, {"Temp", "Hum"}),
        ("04-camelcase-ids/04-sensorid.jsonl", {"asset-0"}, {"sensor-0", "sensor-1"}),
        ("04-camelcase-ids/14-camel.jsonl", {"m0", "m1"}, {"Temp", "Hum"}),
        ("05-quoted-numbers/05-quoted-long.jsonl", {"dev-1"}, {"Temp", "Hum"}),
        ("05-quoted-numbers/05b-quoted-wide.jsonl", {"dev-1"}, {"Temp", "Hum"}),
        ("14-states/13b-states.jsonl", {"a"}, {"Temp", "Running"}),
    ],
)
def test_the_cases_are_read_as_a_person_would(file: str, assets: set[str], sensors: set[str]) -> None:
    path = SHARED / "cases" / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    derived = derive(path)
    assert set(derived.spec.sensors) == sensors
    assert derived.spec.period_ns == 60 * SECOND_NS
    values = lines_of(path)
    decoder = Decoder(derived.spec)
    read = decoder.decode_all([Record(i, None, value, -1) for i, value in enumerate(values)])
    assert {reading.asset for reading in read if isinstance(reading, Reading)} == assets
    assert not any(isinstance(each, Rejected) for each in read)


def test_a_single_pack_is_read_as_senml() -> None:
    pack = [
        {"bn": "urn:dev:mac:77:", "bt": 1.75e9 + 0.5, "n": "level", "v": 3.5},
        {"n": "flow", "v": 4},
        {"n": "open", "vb": True},
    ]
    derived = derive(lines(pack))
    assert (derived.written.format, derived.written.input) == ("senml", None)
    assert derived.spec.sensors == ("flow", "level", "open")


def test_a_preset_without_its_topic_is_known_by_its_own_names() -> None:
    rows = [
        {"Time": f"2025-06-15T15:{i:02d}:00", "SHT30": {"Temperature": 20 + i % 3}, "TempUnit": "C"}
        for i in range(40)
    ]
    derived = derive(lines(*rows))
    assert (derived.written.format, derived.written.input) == ("tasmota", {"asset": {"constant": "asset-0"}})
    assert derived.spec.sensors == ("SHT30.Temperature",)


def test_the_items_of_an_array_are_no_sign_of_a_decoder() -> None:
    rows = [
        [{"ts": 1_750_000_000_000 + 60_000 * i, "values": {"level": i % 5, "flow": i % 7}}] for i in range(40)
    ]
    assert derive(lines(*rows)).written.format == "thingsboard"


def test_aliases_stand_for_sensors_where_nothing_names_them() -> None:
    rows = [
        {
            "timestamp": 1_750_000_000_000 + 1000 * i,
            "metrics": [
                {"alias": 8, "timestamp": 1_750_000_000_000 + 1000 * i, "dataType": "Float", "value": i % 7},
                {"alias": 9, "timestamp": 1_750_000_000_000 + 1000 * i, "dataType": "Float", "isNull": True},
            ],
        }
        for i in range(40)
    ]
    derived = derive(lines(*rows))
    assert derived.spec.sensors == ("8",)
    assert derived.written.input is not None
    assert derived.written.input["sensor"] == "alias"
    assert any("format sparkplug-json" in note for note in derived.notes)
    # What is refused of messages that are read are parts of them.
    assert any(note.startswith("40 parts of lines cannot be used: no_values 40") for note in derived.notes)


def test_framed_messages_are_refused_with_the_lines_to_write() -> None:
    for framing in (b"\x00\x00\x00\x00\x05", b"\x01" + bytes(range(16))):
        with pytest.raises(InputError) as raised:
            derive_spec([framing + b"\x0epump-12\xff\xfe\x81"] * 5)
        for part in ("Confluent's framing", "--schema-registry http://HOST:8081"):
            assert part in str(raised.value)


def test_one_is_no_plural() -> None:
    derived = derive(lines({"asset": "a", "ts": 1_750_000_000, "values": {"x": 1}}))
    assert derived.written.why["format"] == "reads 1 of 1 line"
    assert "only 1 row of one asset: windows of 4 rows, not 16" in derived.notes
