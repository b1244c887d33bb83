"""JSON files that are one document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import LinesSource, first_lines
from daemon.adapters.files.json_documents import document_records
from daemon.domain import PolledRecords
from daemon.errors import InputError

RECORDS = [{"ts": i, "asset": "p", "values": {"a": i}} for i in range(4)]


def records_of(content: str | bytes) -> list[Any] | None:
    found = document_records(Path("a.json"), content.encode() if isinstance(content, str) else content)
    return None if found is None else [json.loads(each) for each in found]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_objects_is_its_records(indent: int | None) -> None:
    assert records_of(json.dumps(RECORDS, indent=indent)) == RECORDS
    assert records_of("\ufeff\n" + json.dumps({"status": "ok", "data": RECORDS}, indent=indent)) == RECORDS
    assert records_of(json.dumps({"channel": {"id": 7}, "feeds": RECORDS}, indent=indent)) == RECORDS


@pytest.mark.parametrize(
    "message",
    [
        {"timestamp": 1, "values": [{"id": "a", "v": 1}, {"id": "b", "v": 2}]},
        {"timestamp": 1, "data": RECORDS},
        {"resourceMetrics": RECORDS},
        [{"bn": "urn:dev:1:", "bt": 5, "n": "t", "v": 1}, {"n": "h", "v": 2}],
        [1, 2],
        {"data": [1, 2, 3]},
        {},
    ],
)
def test_a_message_stays_one_record(message: Any) -> None:
    assert records_of(json.dumps(message, indent=1)) == [message]


def test_lines_stay_lines_and_objects_may_stand_over_several() -> None:
    assert records_of("\n".join(map(json.dumps, RECORDS))) is None
    assert records_of("[1]\n[2]\n") is None
    assert records_of('{"a": 1}\nbroken\n') is None
    assert records_of("plain text") is None
    assert records_of("\n".join(json.dumps(each, indent=2) for each in RECORDS)) == RECORDS


@pytest.mark.parametrize("content", ['[{"a": 1},\n {"b"', '{"a": 1,\n"b": }', "[" * 50_000 + "\n]"])
def test_a_damaged_document_is_one_line(content: str) -> None:
    with pytest.raises(InputError, match=r"a\.json: not a readable JSON file: ") as raised:
        records_of(content)
    assert "\n" not in str(raised.value)


@given(st.binary(max_size=80) | st.text('[]{}":,1a \n\\', max_size=60).map(str.encode))
def test_any_bytes_are_records_or_refused(content: bytes) -> None:
    try:
        document_records(Path("a.json"), content)
    except InputError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


async def lines_of(source: LinesSource) -> list[tuple[int, Any]]:
    found = []
    async for event in source.events():
        if isinstance(event, PolledRecords):
            found += [(source.line_of(r.offset), json.loads(r.value)) for r in event.items]
    return found


async def test_a_source_of_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(RECORDS, indent=1))
    assert await lines_of(LinesSource(path, 0)) == list(enumerate(RECORDS))
    assert first_lines(path, 2)[1] is False
    source = LinesSource(path, 0, keep_bytes=5)
    assert [len(line) for line in source.split()] == [5] * 4
    assert source.oversized[0].length > 5


async def test_lines_from_the_last_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, RECORDS)) + "\n")
    source = LinesSource(path, 0, newest_first=True)
    assert await lines_of(source) == list(enumerate(RECORDS))[::-1]
    assert source.lines == 4
