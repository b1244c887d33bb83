"""``inspect``: what it says of messages and tables, by a configuration, a preset or what it derives itself."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.adapters.schemas import RegistryError
from daemon.commands.init import InitOptions, derive_configuration
from daemon.commands.inputs import TableReading
from daemon.commands.inspect import Inspection, InspectOptions, inspect_sample
from daemon.commands.topic_records import readings_in_topics
from daemon.config import load
from daemon.documents import from_yaml
from daemon.errors import ConfigError, InputError, UsageError
from tests.broker import create_topic, produce
from tests.registry import Registry
from tests.running import unique
from tests.stream.decode.framings import PUMP, avro, confluent, text_of

START = 1_750_000_000


def messages(path: Path, *rows: Any) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def metric(i: int, **fields: Any) -> dict[str, Any]:
    return {
        "name": "plc",
        "tags": {"host": f"h-{i % 2}"},
        "timestamp": START + i // 2,
        "fields": {"level": 3 + i % 7, "flow": i % 5} | fields,
    }


def inspected(path: Path, **options: Any) -> Inspection:
    return inspect_sample(InspectOptions(str(path), **options))


def test_the_derived_mapping_at_work(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.jsonl", *(metric(i) for i in range(100)), "{broken", {"tags": {}})
    found = inspected(path)
    assert "telegraf" in found.mapping
    assert found.found
    assert (found.totals["records"], found.totals["accepted"]) == (102, 100)
    assert found.totals["refused"] == {"not_json": 1, "no_asset": 1}
    assert (found.totals["readings"], found.totals["assets"], found.totals["sensors"]) == (200, 2, 2)
    assert len(found.examples) == 5
    cell = found.examples[1].cells[0]
    assert (cell.asset, cell.time, cell.time_from) == ("h-1", "2025-06-15T15:06:40Z", "timestamp")
    assert {c.sensor: c.value for c in found.examples[1].cells} == {"level": "4", "flow": "1"}
    by_reason = {each.reason: each for each in found.rejects}
    assert by_reason["not_json"].example == "{broken"
    assert "tags" in by_reason["no_asset"].detail
    json.dumps(found.document())


def test_marks_say_why_a_value_is_missing(tmp_path: Path) -> None:
    odd = metric(0, level=None, flow="3,5", text="open", Quality="BAD")
    path = messages(
        tmp_path / "a.jsonl", metric(1, level=None, flow="3,5", text="open"), odd, *map(metric, range(30))
    )
    found = inspected(path, format="telegraf")
    marks = {cell.sensor: cell.mark for cell in found.examples[0].cells}
    assert marks["level"] == "missing"
    assert marks["flow"] == "read as 3.5"
    assert marks["text"] == "no number: text"
    assert {c.mark for c in found.examples[1].cells if c.sensor == "flow"} == {"missing: bad quality"}


def test_what_helps_with_values_that_are_no_numbers(tmp_path: Path) -> None:
    rows = [metric(i, level="AZI=" if i % 3 else 2.5, old="AZI=", waves=[1, 2]) for i in range(60)]
    derived = inspected(messages(tmp_path / "a.jsonl", *rows))
    (level,) = derived.no_numbers
    assert (level.sensor, level.fault, level.count, level.example) == ("level", "base64", 40, "'AZI='")
    assert "decimal.handling.mode=double" in level.hint
    assert derived.document()["no_numbers"][0]["fault"] == "base64"
    notes = "\n".join(derived.notes)
    assert "sensor 'level': 40 values are no number, as 'AZI=': base64" in notes
    assert "old (no number, as 'AZI=': base64" in notes
    assert "waves (no number, as [1, 2]: an array: give wave" in notes
    (tmp_path / "a.csv").write_text(
        "time,level,flow\n" + "".join(f"{START + i},{'ERR' if i % 9 == 5 else i},1\n" for i in range(50))
    )
    (level,) = inspected(tmp_path / "a.csv").no_numbers
    assert (level.sensor, level.fault, level.count, level.example) == ("level", "text", 5, "")


def test_a_table_names_what_the_configuration_misses_and_words_of_quality(tmp_path: Path) -> None:
    rows = [f"{START + i},{i % 7},{'Gut' if i % 10 == 3 else 'Good'}\n" for i in range(50)]
    (tmp_path / "a.csv").write_text("time,level,Quality\n" + "".join(rows))
    stream = {"name": "s", "topics": ["t"], "sensors": {"level": {}, "flow": {}}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"streams": [stream]}))
    totals = inspected(tmp_path / "a.csv", config=tmp_path / "c.yaml").totals
    assert (totals["never_seen"], totals["unknown_quality"]) == (["flow"], {"Gut": 5})
    assert totals["good_quality"] == ["Good"]
    stream["input"] = {
        "asset": {"constant": "a"},
        "time": "time",
        "leaves": ".",
        "quality": {"from": "Quality", "good": ["Good", "Gut"]},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"streams": [stream]}))
    totals = inspected(tmp_path / "a.csv", config=tmp_path / "c.yaml").totals
    assert (totals["readings"], totals["unknown_quality"]) == (50, {})


def test_the_nearest_preset_is_named_where_it_could_be_the_right_one(tmp_path: Path) -> None:
    own = [{"who": "a", "at": START + i, "level": i} for i in range(20)]
    rule = {"asset": "who", "time": "at", "leaves": "."}
    stream = {"name": "s", "topics": ["t"], "sensors": ["level", "flow"], "input": rule}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"streams": [stream]}))
    most = inspected(
        messages(tmp_path / "a.jsonl", *own, *map(metric, range(10))), config=tmp_path / "c.yaml"
    )
    assert [each.nearest for each in most.rejects] == [None]
    few = inspected(messages(tmp_path / "a.jsonl", *own, *map(metric, range(30))), config=tmp_path / "c.yaml")
    assert [each.nearest for each in few.rejects] == ["telegraf"]
    same = inspected(
        messages(tmp_path / "a.jsonl", *map(metric, range(9)), metric(1, level=3) | {"tags": {}}),
        format="telegraf",
    )
    assert [each.nearest for each in same.rejects] == [None]


def test_a_message_without_items_says_where_it_looks_for_them(tmp_path: Path) -> None:
    path = messages(
        tmp_path / "a.jsonl", {"timestamp": START, "values": []}, {"timestamp": START, "values": []}
    )
    found = inspected(path, format="kepware")
    assert {each.became for each in found.examples} == {"skipped: no_items, nothing in values"}


def test_a_preset_that_does_not_fit_names_the_one_that_does(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.jsonl", *(metric(i) for i in range(30)))
    found = inspected(path, format="json-long")
    assert not found.found
    (reject,) = found.rejects
    assert (reject.reason, reject.count, reject.nearest) == ("no_asset", 30, "telegraf")
    with pytest.raises(ConfigError, match="did you mean 'telegraf'"):
        inspected(path, format="telegraff")


def test_the_configuration_counts_and_unlisted_sensors_are_named(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.jsonl", *(metric(i) for i in range(30)))
    stream = {"name": "s", "topics": ["t"], "format": "telegraf", "sensors": ["level"]}
    other = {"name": "o", "topics": ["u"], "sensors": ["level"], "fields": {"asset": "machine"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"streams": [stream, other]}))
    found = inspected(path, config=tmp_path / "c.yaml", stream="s")
    assert found.mapping == "format telegraf, of stream s"
    assert found.totals["unknown_sensors"] == ["flow"]
    assert {cell.mark for cell in found.examples[0].cells} == {"", "not listed"}
    refused = inspected(path, config=tmp_path / "c.yaml", stream="o")
    assert not refused.found
    assert "'machine'" in refused.rejects[0].detail
    with pytest.raises(ConfigError, match="2 streams: name one with --stream"):
        inspected(path, config=tmp_path / "c.yaml")
    with pytest.raises(UsageError, match="exclude each other"):
        inspected(path, config=tmp_path / "c.yaml", format="telegraf")


def test_a_table_shows_the_roles_of_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "timestamp,asset,level,what\n" + "".join(f"{START + i},d-{i % 2},{i % 7},x\n" for i in range(40))
    )
    found = inspected(path)
    assert found.columns == {"timestamp": "time", "asset": "asset", "level": "sensor", "what": "left out"}
    assert (found.totals["accepted"], found.totals["readings"], found.totals["assets"]) == (40, 40, 2)
    assert found.examples[0].cells[0].value == "0"
    with pytest.raises(UsageError, match="--format is for messages"):
        inspected(path, format="telegraf")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        inspected(tmp_path / "absent.jsonl")


PLANT = "machineID,quality,reading,moment,load\n" + "".join(
    f"m-{i % 2},{'GOOD' if i % 9 else 'BAD'},{i % 5 + 0.5},{i // 120 + 3:02d}/02/2025 {i % 120 // 60:02d}:{i % 60:02d},{i % 7}\n"
    for i in range(240)
)


def test_the_roles_are_those_by_which_the_table_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(PLANT)
    found = inspected(path, reading=TableReading(time=("moment",), timezone="Europe/Rome", day_first=True))
    assert found.columns == {
        "machineID": "asset",
        "quality": "quality",
        "reading": "sensor",
        "moment": "time",
        "load": "sensor",
    }
    assert found.examples[0].cells[0].time == "2025-02-02T23:00:00Z"
    assert found.mapping.endswith("and the options")
    assert inspected(path, reading=TableReading(asset="load", time=("moment",))).columns["load"] == "asset"
    config = {"streams": [{"name": "s", "topics": ["t"], "sensors": {"temp": {"source": "reading"}}}]}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    columns = inspected(path, config=tmp_path / "c.yaml", reading=TableReading(time=("moment",))).columns
    assert (columns["reading"], columns["load"]) == ("sensor", "number, but no sensor of the stream")


def test_a_long_table_has_names_and_values_of_sensors(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = "".join(f"{START + i // 2},{('level', 'flow')[i % 2]},{i % 7}\n" for i in range(80))
    path.write_text("time,tag,value\n" + rows)
    assert inspected(path).columns == {
        "time": "time",
        "tag": "names of sensors",
        "value": "values of sensors",
    }


def test_columns_are_named_of_tables_alone(tmp_path: Path) -> None:
    path = messages(tmp_path / "a.jsonl", *(metric(i) for i in range(30)))
    with pytest.raises(UsageError, match="name columns of a table"):
        inspected(path, reading=TableReading(asset="host"))


@pytest.mark.kafka
async def test_a_topic_of_avro_is_read_by_the_schemas_of_the_registry(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    topic = unique("framed")
    await create_topic(kafka_bootstrap, topic)
    rows = [
        {"asset": "p", "ts": 1000 * (START + i), "temperature": 20.5 + i, "pressure": None} for i in range(9)
    ]
    config = tmp_path / "c.yaml"
    with Registry() as registry:
        id = registry.register(topic, text_of(PUMP))
        await produce(kafka_bootstrap, topic, [(None, confluent(id, avro(PUMP, row))) for row in rows])
        rule = {"decode": "avro", "asset": "asset", "time": "ts", "leaves": "."}
        stream = {"name": "s", "topics": [topic], "sensors": ["temperature", "pressure"], "input": rule}
        document = {"streams": [stream], "schema_registry": {"url": registry.url, "timeout": "2s"}}
        document["kafka"] = {"bootstrap_servers": kafka_bootstrap}
        config.write_text(yaml.safe_dump(document))
        options = InspectOptions(topic, config)
        found = await asyncio.to_thread(inspect_sample, options)
        assert (found.totals["accepted"], found.totals["readings"], found.totals["without_value"]) == (
            9,
            9,
            9,
        )
        assert found.examples[0].cells[0].time_from == "ts"
        (probed,) = await readings_in_topics(load(config, ()))
        assert probed.ok
        assert probed.detail.startswith("9 of the newest 9 records would be accepted")
    (probed,) = await readings_in_topics(load(config, ()))
    assert not probed.ok
    assert probed.detail.startswith("cannot be decoded: ")
    with pytest.raises(RegistryError):
        await asyncio.to_thread(inspect_sample, options)
    bare = InspectOptions(topic, bootstrap_servers=kafka_bootstrap)
    with pytest.raises(InputError, match=r"Confluent's framing.* give --schema-registry http"):
        await asyncio.to_thread(inspect_sample, bare)


def test_the_rules_of_sensors_are_at_work_in_what_is_shown_and_counted(tmp_path: Path) -> None:
    rows = [
        {"asset": "a", "ts": START + i, "values": {"RUN": "RUN" if i % 2 else "STOP", "T_raw": 215, "p": -99}}
        for i in range(20)
    ]
    stream = {
        "name": "s",
        "topics": ["s"],
        "sensors": {
            "run": {"source": "RUN", "states": {"RUN": 1, "STOP": 0}},
            "temp": {"source": "T_raw", "scale": 0.1},
            "p": {"missing": [-99]},
            "flow": {"source": "F_raw"},
        },
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"streams": [stream]}))
    found = inspected(messages(tmp_path / "a.jsonl", *rows), config=tmp_path / "c.yaml")
    shown = [(cell.sensor, cell.value, cell.mark) for cell in found.examples[1].cells]
    assert shown == [
        ("run", '"RUN"', "source RUN, read as 1"),
        ("temp", "215", "source T_raw, read as 21.5"),
        ("p", "-99", "missing"),
    ]
    totals = found.totals
    assert (totals["readings"], totals["without_value"], totals["no_number"]) == (40, 20, 0)
    assert totals["never_seen"] == ["flow (source F_raw)", "p"]


def test_words_of_quality_that_nobody_knows_are_counted(tmp_path: Path) -> None:
    rows = [
        {"dev": "a", "at": START + i, "x": i % 5, "q": ("G", "good", "bad", None)[i % 4]} for i in range(40)
    ]
    rule = {"asset": "dev", "time": "at", "leaves": ".", "quality": "q"}
    stream = {"name": "s", "topics": ["s"], "sensors": {"x": {}}, "input": rule}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"streams": [stream]}))
    found = inspected(messages(tmp_path / "a.jsonl", *rows), config=tmp_path / "c.yaml")
    assert (found.totals["bad_quality"], found.totals["unknown_quality"]) == (20, {"G": 10})


@pytest.mark.kafka
async def test_an_asset_that_comes_in_two_partitions_of_a_topic_is_named(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    topic = unique("keyless")
    await create_topic(kafka_bootstrap, topic, 2)
    for partition in (0, 1):
        rows = [
            {"asset": "Press01", "ts": START + 2 * i + partition, "values": {"level": i % 7, "flow": i % 5}}
            for i in range(40)
        ]
        records = [(None, json.dumps(row).encode()) for row in rows]
        await produce(kafka_bootstrap, topic, records, partition=partition)
    expected = "asset Press01 comes in partitions 0 and 1: "
    looked = InspectOptions(topic, bootstrap_servers=kafka_bootstrap)
    found = await asyncio.to_thread(inspect_sample, looked)
    assert [note for note in found.notes if note.startswith(expected)]
    options = InitOptions(topic, tmp_path / "c.yaml", bootstrap_servers=kafka_bootstrap)
    made = await asyncio.to_thread(derive_configuration, options)
    assert [note for note in made.notes if note.startswith(expected)]
    assert f"# Note: {expected}" in made.text
    _, split = await readings_in_topics(load(None, (), from_yaml(made.text)))
    assert (split.what, split.ok) == (f"partitions of {topic}", False)
    assert split.detail.startswith(expected)
