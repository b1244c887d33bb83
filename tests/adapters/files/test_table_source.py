"""A table as a finite source of readings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.adapters.files import TableSource, read_table
from daemon.domain import (
    SECOND_NS,
    Assigned,
    InputPartition,
    PolledRecords,
    Reading,
    Reason,
    Record,
    StreamSpec,
)
from daemon.errors import InputError
from daemon.stream.decoding import Decoder
from tests import contract
from tests.adapters.files.tables import NOW, START, csv_file, parquet_file, stamps


async def test_table_source_passes_the_contract(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(*range(25)), x=list(range(25)))
    table = read_table(path)
    spec = StreamSpec("s", ("x",))
    await contract.check_finite(
        lambda: TableSource(table, spec, NOW, chunk_rows=10), {InputPartition("a.parquet", 0): range(25)}
    )


async def readings(source: TableSource) -> list[Reading]:
    events = [event async for event in source.events()]
    assert events[0] == Assigned(source.partition, 0, 0)
    assert isinstance(events[-1], PolledRecords)
    assert events[-1].ended
    found = [item for event in events[1:] if isinstance(event, PolledRecords) for item in event.items]
    return [item for item in found if isinstance(item, Reading)]


@pytest.mark.parametrize(
    ("rows", "reordered"),
    [
        ("a5 a4 a3 a2 a1", ["a"]),
        ("a1 a2 a3 a4 a5", []),
        ("a1 a2 a4 a3 a5 a6 a7", []),  # a late row is a late row
        ("a3 a1 a4 a2 a5", ["a"]),  # shuffled
        ("a1 b9 a2 b8 a3 b7 c1", ["b"]),  # each asset by itself
        ("a1 a2 a3 b1 b2 b3", []),
        ("a1", []),
    ],
)
async def test_rows_in_no_order_of_time_are_emitted_by_event_time(
    tmp_path: Path, rows: str, reordered: list[str]
) -> None:
    cells = [(cell[0], int(cell[1:])) for cell in rows.split()]
    text = "".join(f"{asset},{1_700_000_000 + s},{s}\n" for asset, s in cells)
    table = read_table(csv_file(tmp_path / "a.csv", "asset,ts,x\n" + text))
    source = TableSource(table, StreamSpec("s", ("x",)), NOW)
    assert source.reordered == reordered
    found = await readings(source)
    assert [reading.offset for reading in found] == list(range(len(cells)))
    assert sorted(source.line_of(i) for i in range(len(cells))) == list(range(len(cells)))
    for reading in found:
        assert (reading.asset, int(reading.values[0])) == cells[source.line_of(reading.offset)]  # type: ignore[index]
    for asset in {asset for asset, _ in cells}:
        times = [reading.time_ns for reading in found if reading.asset == asset]
        assert (times == sorted(times)) or asset not in reordered


async def test_rows_become_readings_with_the_sensors_of_the_stream(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "a.parquet",
        ts=stamps(5, None, 1.5, 86_400 + 3601, 86_400 + 3600),
        asset=["a", "a", "b", "a", "a"],
        x=[1.0, 2.0, None, 4.0, 5.0],
        other=[9, 9, 9, 9, 9],
        y=[10, 20, 30, 40, 50],
    )
    source = TableSource(read_table(path), StreamSpec("s", ("y", "gone", "x")), NOW, chunk_rows=2)
    found = await readings(source)
    assert [(r.offset, r.asset, r.time_ns - START) for r in found] == [
        (0, "a", 5 * SECOND_NS),
        (2, "b", 3 * SECOND_NS // 2),
        (4, "a", 90_000 * SECOND_NS),
    ]
    assert [str(r.values) for r in found] == ["[10.0, nan, 1.0]", "[30.0, nan, nan]", "[50.0, nan, 5.0]"]
    assert [(r.record.offset, r.reason) for r in source.rejected] == [
        (1, Reason.BAD_TIMESTAMP),
        (3, Reason.FUTURE),
    ]
    assert json.loads(source.rejected[1].record.value) == {
        "asset": "a",
        "ts": "2024-01-02T01:00:01Z",
        "values": {"x": 4.0, "other": 9.0, "y": 40.0},
    }
    assert (
        source.rejected[1].detail
        == "2024-01-02T01:00:01Z is over 1 h ahead of the run (2024-01-02T00:00:00Z)"
    )
    assert (source.read, source.total, source.unit) == (5, 5, "rows")


async def test_a_row_and_its_json_are_the_same_reading(tmp_path: Path) -> None:
    """The two ways into the loop agree, conditions included."""
    spec = StreamSpec("s", ("x", "y"), condition=("mode",))
    rows = [("a", 1_704_067_200_123, 1.5, None, "on"), ("b", 1_704_067_201_000, -2.0, 7.25, None)]
    path = parquet_file(
        tmp_path / "a.parquet",
        ts=[r[1] for r in rows],
        asset=[r[0] for r in rows],
        x=[r[2] for r in rows],
        y=[r[3] for r in rows],
        mode=[r[4] for r in rows],
    )
    found = await readings(TableSource(read_table(path, condition=spec.condition), spec, NOW))
    decoder = Decoder(spec)
    for i, (asset, ts, x, y, mode) in enumerate(rows):
        message = {"asset": asset, "ts": ts, "values": {"x": x, "y": y}, "condition": {"mode": mode}}
        decoded = decoder.decode(Record(i, None, json.dumps(message).encode(), NOW))
        assert isinstance(decoded, Reading)
        found[i].stamp_ns = NOW  # a table's rows are no records, and have no time but their own
        assert repr(decoded) == repr(found[i])


def test_a_table_with_none_of_the_sensors_is_refused(tmp_path: Path) -> None:
    table = read_table(parquet_file(tmp_path / "a.parquet", ts=stamps(0), x=[1]))
    with pytest.raises(InputError, match=r"none of the stream's sensors \(y\); found: x"):
        TableSource(table, StreamSpec("s", ("y",)), NOW)
