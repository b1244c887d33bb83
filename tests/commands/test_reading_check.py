"""What a stream's mapping makes of records."""

from __future__ import annotations

import json

from daemon.commands.reading_check import distinct, read_records, said_of
from daemon.domain import Record, StreamSpec

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
