"""What a stream's mapping makes of records."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from daemon.adapters.schemas import RegistryError
from daemon.commands.reading_check import ReadRecords, distinct, read_records, said_of, schemas_of
from daemon.config import load
from daemon.config.presets import mapping_of
from daemon.domain import SECOND_NS, Format, Record, StreamSpec
from tests.registry import Registry
from tests.stream.decode.framings import PUMP, avro, confluent, text_of

START = 1_750_000_000


def record(offset: int, value: object) -> Record:
    return Record(offset, None, json.dumps(value).encode(), -1)


def test_every_record_is_accepted_skipped_or_refused() -> None:
    wide = [record(i, {"asset": "a", "ts": START + i, "values": {"x": 1, "y": 2}}) for i in range(7)]
    metric = {"fields": {"x": 1}, "name": "m", "tags": {"host": "h"}, "timestamp": START}
    found = read_records(
        StreamSpec("s", ("x",)), [*wide, record(7, metric), record(8, metric), Record(9, None, b"{", -1)]
    )
    assert (found.read, found.accepted, found.readings, found.share) == (10, 7, 7, 0.7)
    assert {each.reason: each.count for each in found.worst} == {"no_asset": 2, "not_json": 1}
    assert found.unknown == {"y": 7}
    said = said_of(found)
    assert said.startswith("7 of the newest 10 records would be accepted (70%)")
    assert "no_asset 2: no field 'asset'" in said
    assert "format telegraf is the nearest" in said
    assert "does not list: y" in said


def test_nothing_is_said_of_no_records() -> None:
    assert said_of(read_records(StreamSpec("s", ("x",)), [])) == "empty: nothing can be said"


def test_the_parts_of_a_detail_are_said_once() -> None:
    assert (
        distinct("no field 'a' here; no field 'a' here; no field 'b'; no fie")
        == "no field 'a' here; no field 'b'"
    )
    assert distinct("one") == "one"


async def test_schemas_that_records_name_are_fetched_before() -> None:
    rule = {"decode": "avro", "asset": "asset", "time": "ts", "leaves": "."}
    stream = {"name": "s", "topics": ["t"], "sensors": ["temperature", "pressure"], "input": rule}
    with Registry() as registry:
        id = registry.register("pumps", text_of(PUMP))
        settings = load(None, (), {"streams": [stream], "schema_registry": {"url": registry.url}})
        spec = settings.streams[0].spec(settings.schema_registry.address())
        rows = [
            {"asset": "p", "ts": 1000 * (START + i), "temperature": 20.5 + i, "pressure": None}
            for i in range(5)
        ]
        records = [Record(i, None, confluent(id, avro(PUMP, row)), -1) for i, row in enumerate(rows)]
        schemas = await schemas_of(spec, records)
        assert read_records(spec, records, schemas).accepted == 5
        assert read_records(spec, records).refused["unknown_schema"].count == 5
    with pytest.raises(RegistryError):
        await schemas_of(spec, records)
    assert await schemas_of(StreamSpec("s", ("x",)), records) is None


def test_what_helps_with_values_that_are_no_numbers_is_said() -> None:
    spec = StreamSpec("s", ("flow", "level"), format=Format.JSON_WIDE)
    times = (f"2026-01-01T00:00:{second:02d}Z" for second in range(3))
    values = (
        b'{"flow": "AZI=", "level": 1}',
        b'{"flow": "AZI=", "level": "ERR"}',
        b'{"flow": 2, "level": 1}',
    )
    records = [
        Record(i, None, b'{"asset": "a", "ts": "%b", "values": %b}' % (time.encode(), each), -1)
        for i, (time, each) in enumerate(zip(times, values, strict=True))
    ]
    found = read_records(spec, records)
    assert [(each.sensor, each.fault, each.count, each.example) for each in found.corrupt] == [
        ("flow", "base64", 2, "'AZI='"),
        ("level", "text", 1, "'ERR'"),
    ]
    said = said_of(found)
    assert "flow: 2 values are no number, as 'AZI=': base64" in said
    assert "decimal.handling.mode=double" in said
    assert "level: 1 value is no number, as 'ERR'" in said


def test_a_probe_names_what_a_sensor_that_was_never_seen_may_be_called() -> None:
    found = ReadRecords(2, 2, unknown=Counter({"Pressure": 2}), unseen=["Presure", "Flow (source FL)"])
    assert "never seen: Presure (did you mean Pressure?), Flow (source FL)" in said_of(found)


def test_an_asset_in_several_partitions_is_named() -> None:
    def keyless(offset: int, asset: str, partition: int) -> Record:
        value = json.dumps({"asset": asset, "ts": START + offset, "values": {"x": 1}}).encode()
        return Record(offset, None, value, -1, topic="t", partition=partition)

    spec = StreamSpec("s", ("x",))
    apart = [keyless(i, f"Press0{1 + i % 2}", i % 2) for i in range(6)]
    assert read_records(spec, apart).split is None
    assert read_records(spec, [record(i, {"asset": "a", "ts": START + i}) for i in range(3)]).split is None
    assert read_records(spec, [*apart, keyless(6, "Press01", 1)]).split == (
        "asset Press01 comes in partitions 0 and 1: the rows of an asset must come in one"
        " (set the record key to the asset, or use one partition), else each part is judged alone"
    )
    said = read_records(spec, [keyless(i, f"Press0{1 + i % 4}", i % 3) for i in range(24)]).split
    assert said is not None
    assert said.startswith(
        "asset Press01 comes in partitions 0, 1 and 2, and 3 more assets in several: the rows"
    )


def test_the_nearest_format_is_said_of_the_shape_of_messages_alone() -> None:
    """A clock that is ahead is wrong in any format."""
    rule = mapping_of("custom", {"asset": "tags.host", "time": "timestamp", "leaves": "fields"})
    spec = StreamSpec("s", ("x",), format=Format.MAPPED, input=rule)

    def metric(offset: int, second: int) -> Record:
        value = {"fields": {"x": 1}, "name": "m", "tags": {"host": "h"}, "timestamp": second}
        return Record(offset, None, json.dumps(value).encode(), START * SECOND_NS)

    said = said_of(read_records(spec, [metric(i, START + 7200 + i) for i in range(3)]))
    assert "future 3: 2025-06-15T17:06:40Z is over 1 h ahead of the record (2025-06-15T15:06:40Z)" in said
    assert "nearest" not in said
    wide = StreamSpec("s", ("x",))
    assert "format telegraf is the nearest" in said_of(read_records(wide, [metric(0, START)]))
