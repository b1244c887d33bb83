"""Tables and JSON Lines as sources, rows on the grid, and what a run leaves behind."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.adapters import files
from daemon.adapters.files import (
    KEPT_BYTES,
    NO_TIME,
    ImputedFile,
    JsonLines,
    LinesSource,
    Oversized,
    Table,
    TableSource,
    dead_letter,
    first_lines,
    is_lines,
    place,
    read_table,
    replacing,
    segments,
    write_filled_table,
    write_imputed,
    write_scores,
    write_summary,
)
from daemon.adapters.sample import derive_spec
from daemon.domain import (
    SECOND_NS,
    Assigned,
    FilledCell,
    FilledRow,
    InputPartition,
    PolledRecords,
    Reading,
    Reason,
    Record,
    Rejected,
    StreamSpec,
)
from daemon.errors import DaemonError, InputError
from daemon.stream.decoding import Decoder
from daemon.stream.encoding import DEAD_LETTER_BYTES
from tests import contract, naive

START = 1_704_067_200 * SECOND_NS  # 2024-01-01T00:00:00Z
NOW = START + 86_400 * SECOND_NS
NAN = float("nan")


def csv_file(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def parquet_file(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def stamps(*seconds: float | None, unit: str = "ms", zone: str | None = "UTC") -> pa.Array:
    times = [None if s is None else START + round(s * SECOND_NS) for s in seconds]
    return (
        pa.array(times, pa.int64())
        .cast(pa.timestamp("ns"))
        .cast(pa.timestamp(unit))
        .cast(pa.timestamp(unit, zone))
    )


def seconds(table: Table) -> list[float | None]:
    return [None if t == NO_TIME else (t - START) / SECOND_NS for t in table.time_ns.tolist()]


# ------------------------------------------------------------------ reading
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Vienna"])
def test_every_arrow_timestamp(tmp_path: Path, unit: str, zone: str | None) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1, 7, unit=unit, zone=zone), x=[1.0, 2.0, 3.0])
    assert seconds(read_table(path)) == [0, 1, 7]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-01", 0),
        ("2024-01-01T00:00:01", 1),
        ("2024-01-01 00:00:01.5", 1.5),
        ("2024-01-01T00:00:01Z", 1),
        ("2024-01-01T01:00:01+01:00", 1),
        ("2024-01-01T00:00:00.000000001Z", 1e-9),
        ("1704067201", 1),
        ("1704067201.1", 1.1),
        ("1704067201000", 1),
        ("1704067201000000", 1),
        ("1704067201000000000", 1),
        (" 1704067201 ", 1),
    ],
)
def test_every_notation_of_time_in_a_csv(tmp_path: Path, text: str, expected: float) -> None:
    """Alone, and beside a row of another notation, which takes the slow way."""
    table = read_table(csv_file(tmp_path / "a.csv", f"time,x\n{text},1\n"))
    assert table.time_ns[0] - START == round(expected * SECOND_NS)
    table = read_table(
        csv_file(tmp_path / "a.csv", f"time,x\n{text},1\n2024-01-01T00:00:05Z,2\n1704067206,3\n")
    )
    assert [t - START for t in table.time_ns.tolist()] == [
        round(expected * SECOND_NS),
        5 * SECOND_NS,
        6 * SECOND_NS,
    ]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1_704_067_200, 1_704_067_201]), 1.0),
        (pa.array([1_704_067_200_000, 1_704_067_200_500], pa.uint64()), 0.5),
        (pa.array([1_704_067_200.0, 1_704_067_200.1]), 0.1),
        (pa.array(["2024-01-01", "2024-01-01T00:00:00.1"], pa.large_string()), 0.1),
        (pa.array(["2024-01-01", "2024-01-02"]).dictionary_encode(), 86_400),
        (
            pa.array([datetime(2024, 1, 1, tzinfo=UTC).date(), datetime(2024, 1, 2, tzinfo=UTC).date()]),
            86_400,
        ),
    ],
    ids=["int s", "uint ms", "float s", "text", "dictionary", "date"],
)
def test_every_column_of_times_in_parquet(tmp_path: Path, column: pa.Array, expected: float) -> None:
    table = read_table(parquet_file(tmp_path / "a.parquet", ts=column, x=[1, 2]))
    assert seconds(table) == [0, expected]
    assert not table.refused


def test_columns_become_sensors_or_are_named(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "a.parquet",
        **{
            "PM2.5": pa.array([1, 2], pa.float32()),
            "on": [True, False],
            "time": [7.0, 8.0],
            "timestamp": stamps(0, 1),
            "asset": pa.array(["b", "a"]).dictionary_encode(),
            "count": [3, None],
            "none": pa.nulls(2),
            "note": ["x", "y"],
            "nested": [{"a": 1}, {"a": 2}],
            "label": [0, 1],
            "__index_level_0__": [0, 1],
            "price": pa.array([1, 2]).cast(pa.decimal128(21, 2)),
        },
    )
    table = read_table(path, exclude=["label"])
    assert table.sensors == ("PM2.5", "time", "count", "none", "price")
    np.testing.assert_array_equal(table.values, [[1, 7, 3, NAN, 1], [2, 8, NAN, NAN, 2]])
    assert table.assets.tolist() == ["b", "a"]
    assert table.asset_names == ("b", "a")
    assert table.notes[0] == "sensor 'none' holds no number at all"
    assert set(table.notes[1].removeprefix("not numeric, left out: ").split(", ")) == {
        "on",
        "note",
        "nested",
        "__index_level_0__",
    }


def test_a_table_without_assets_has_one(tmp_path: Path) -> None:
    table = read_table(parquet_file(tmp_path / "a.parquet", Timestamp=stamps(0, 1), x=[1, 2]))
    assert table.assets.tolist() == ["asset-0", "asset-0"]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
def test_csv_cells_are_numbers_or_missing(tmp_path: Path, name: str) -> None:
    text = "\ufefftime;x;y;flag;dead\n2024-01-01;1.5;nan;true;\n2024-01-02; +2;1e3;false;\n2024-01-03;err;-4;true;\n"
    table = read_table(csv_file(tmp_path / name, text))
    assert table.sensors == ("x", "y", "dead")
    np.testing.assert_array_equal(table.values, [[1.5, NAN, NAN], [2, 1000, NAN], [NAN, -4, NAN]])
    assert "sensor 'x': 1 cells are no numbers and count as missing" in table.notes
    assert "not numeric, left out: flag" in table.notes


def test_parquet_may_be_gzipped_and_infinities_are_missing(tmp_path: Path) -> None:
    plain = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1), x=[math.inf, 2.0])
    packed = tmp_path / "a.parquet.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read_table(packed).values, [[NAN], [2]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", None, "no such file"),
        ("a.csv", b"", "is empty"),
        ("a.csv.gz", gzip.compress(b""), "is empty"),
        ("a.parquet", b"PAR1 and no more", "not a readable Parquet file"),
        ("a.parquet", b"ts,x\n1,2\n", "does not begin with PAR1"),
        ("a.csv.gz", gzip.compress(b"ts,x\n" + b"1,2\n" * 9999)[:60], "damaged gzip data"),
        ("a.csv", b"ts,x\n1,2,3\n", "not a readable CSV file: .*Expected 2 columns, got 3"),
        ("a.csv", b"ts,x\n1,2,\x1b[2J\n", r"got 3: 1,2,\?\[2J"),
        ("a.csv", b"ts,x\n1,\xff\n", "not a readable CSV file"),
        ("a.csv", b"ts,x,x\n1,2,3\n", "column 'x' appears twice"),
        ("a.csv", b"ts,x\n", "has no rows"),
        ("a.csv", b"ts,x", "has no rows"),
        ("a.csv", b"when,x\n1,2\n", "no time column .* found: when, x"),
        ("a.csv", b"ts,x\n1,on\n", "no numeric column beside 'ts'; found: ts, x"),
        (
            "a.csv",
            b"ts,x\n,1\nsoon,2\n",
            "no time can be read; row 1 .the first is 0.: 'soon' is neither ISO 8601",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_table(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


def test_an_error_of_arrows_never_ends_the_process(tmp_path: Path) -> None:
    """A reading thread that outlives the error must not need the interpreter, which is ending."""
    path = csv_file(tmp_path / "a.csv", "ts,x\n" + "1,2\n" * 200_000 + "1,2,3\n" + "1,2\n" * 200_000)
    script = (
        "import sys; from pathlib import Path; from daemon.adapters import files\n"
        "try: files.read_table(Path(sys.argv[1]))\n"
        "except files.InputError: pass\n"
    )
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, b"")


def test_arrow_holds_nothing_of_pythons() -> None:
    data = b"ts,x\n1,2\n" * 100
    before = sys.getrefcount(data)
    reader = files._arrow_memory(data)
    assert sys.getrefcount(data) == before
    assert reader.read() == data


def test_one_time_that_cannot_be_read_costs_its_row_alone(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", "ts,x\n2024-01-01,1\nsoon,2\n,3\n2024-01-02,4\n"))
    assert table.usable.tolist() == [True, False, False, True]
    assert table.refused[1].reason is Reason.BAD_TIMESTAMP
    assert table.refused[1].detail.startswith("'soon' is neither ISO 8601")
    assert table.refused[1].time == "soon"
    texts = pa.array(["2024-01-01", "never"])
    assert sorted(read_table(parquet_file(tmp_path / "a.parquet", ts=texts, x=[1, 2])).refused) == [1]


def test_infinities_are_counted(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1, 2), x=[math.inf, -math.inf, 1.0])
    assert read_table(path).notes == ("sensor 'x': 2 cells are infinite and count as missing",)


def test_the_asset_column_is_found_as_the_time_column_is(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", TS=stamps(0, 1), Asset=["a", "b"], x=[1, 2])
    table = read_table(path)
    assert (table.assets.tolist(), table.sensors, table.notes) == (["a", "b"], ("x",), ())


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.parquet.gz"])
def test_the_names_of_a_files_columns(tmp_path: Path, name: str) -> None:
    if "csv" in name:
        path = csv_file(tmp_path / name, "\ufeffts;x;y\n1;2;3\n")
    else:
        path = parquet_file(tmp_path / name, ts=[1], x=[2], y=[3])
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert files.column_names(path) == ["ts", "x", "y"]


def test_neither_a_directory_nor_a_boolean_time(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        read_table(tmp_path)
    with pytest.raises(InputError, match="of type bool, is neither"):
        read_table(parquet_file(tmp_path / "a.parquet", ts=[True], x=[1]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1], [2]]),
        pa.array([{"x": 1}, {"x": 2}]),
        pa.array([b"a", b"\xff"]),
        pa.array([b"a", b"\xff"], pa.large_binary()),
        pa.array([b"a", b"\xff"]).dictionary_encode(),
    ],
)
def test_an_asset_or_a_condition_is_what_a_text_can_say(tmp_path: Path, column: pa.Array) -> None:
    for name in ("asset", "mode"):
        path = parquet_file(tmp_path / "t.parquet", ts=stamps(0, 1), x=[1.0, 2.0], **{name: column})
        with pytest.raises(InputError, match=rf"column '{name}', of type .*, is neither a text nor a number"):
            read_table(path, condition=["mode"])


def test_neither_a_pipe_nor_a_device_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        for read in (read_table, lambda path: LinesSource(path, 0)):
            with pytest.raises(InputError, match="is a pipe or a device, not a file"):
                read(path)


@pytest.mark.parametrize(
    "column", [pa.array([{"x": 1}, {"x": 2}]), pa.array([b"a", b"\xff"]), stamps(0, 1, zone="Mars/Phobos")]
)
def test_a_column_that_no_csv_can_hold(tmp_path: Path, column: pa.Array) -> None:
    table = read_table(parquet_file(tmp_path / "t.parquet", ts=stamps(0, 1), x=[1.0, None], other=column))
    filled = np.array([[1.0], [2.0]])
    with pytest.raises(InputError, match="cannot be written as CSV"):
        write_filled_table(table, filled, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert write_filled_table(table, filled, tmp_path / "out.parquet") == 1


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"\n\xf4ts,a", "its first line is not the header|can't decode"),
        (b"\nts,a", "its first line is not the header|no time column"),
        (b'ts,"a\nb"', "its first line is not the header"),
        (b"ts,a\rb,c", "new-line character"),
        (b"ts,\xff", "can't decode"),
    ],
)
def test_a_header_that_arrow_reads_otherwise(tmp_path: Path, header: bytes, says: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(header + b"\n1767225600,1\n1767225601,2\n")
    with pytest.raises(InputError, match=says):
        read_table(path)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One good file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    text = "timestamp,asset,a,b\n" + "".join(f"2026-01-01T00:00:{i:02d}Z,p,{i},{i * 2}\n" for i in range(30))
    lines = "".join(f'{{"asset":"p","ts":{1767225600 + i},"values":{{"a":{i}}}}}\n' for i in range(30))
    parquet = parquet_file(
        folder / "t.parquet",
        timestamp=stamps(*range(30)),
        asset=pa.array(["p", "q"] * 15).dictionary_encode(),
        a=[float(i) for i in range(30)],
        b=list(range(30)),
    ).read_bytes()
    found = {"t.csv": text.encode(), "t.jsonl": lines.encode(), "t.parquet": parquet}
    return found | {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in found.items()}


ODD_BYTES = [b"\0", b"\n", b"\r", b'"', b",", b"\xff\xfe", b"\x1f\x8b", b"PAR1", b"9" * 5000, b"[" * 20_000]


@given(st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, whole_files: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(whole_files)))
    content = bytearray(whole_files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        kind = data.draw(st.sampled_from(["cut", "flip", "insert", "drop"]))
        if kind == "cut":
            del content[at:]
        elif kind == "flip" and at < len(content):
            content[at] ^= data.draw(st.integers(1, 255))
        elif kind == "insert":
            content[at:at] = data.draw(st.sampled_from(ODD_BYTES) | st.binary(max_size=8))
        else:
            del content[at : at + data.draw(st.integers(1, 50))]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    try:
        spec, notes = derive_spec(path)
        if not files.is_lines(path):
            place(read_table(path), spec)
    except InputError as error:
        said = [str(error)]
    else:
        said = notes
    assert all("\n" not in line and len(line) < 1000 for line in said)


def test_rows_without_time_or_asset_are_refused_one_by_one(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "a.parquet",
        ts=stamps(0, None, -3e9, 3, 4, 5),
        asset=["a", "a", "a", None, "", "x" * 300],
        x=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    )
    table = read_table(path)
    assert table.usable.tolist() == [True, False, False, False, False, False]
    assert [table.refused[i].reason for i in range(1, 6)] == [
        Reason.BAD_TIMESTAMP,
        Reason.BAD_TIMESTAMP,
        Reason.NO_ASSET,
        Reason.BAD_ASSET,
        Reason.BAD_ASSET,
    ]
    assert table.refused[2].detail.endswith("is before 1970")
    late = pa.array([START // SECOND_NS, 10**15], pa.int64()).cast(pa.timestamp("s"))
    far = read_table(parquet_file(tmp_path / "b.parquet", ts=late, x=[1, 2]))
    assert far.refused[1].detail.endswith("is beyond the year 2262")
    odd = read_table(parquet_file(tmp_path / "c.parquet", ts=[1.5, NAN, -1.5], x=[1, 2, 3]))
    assert {row: why.reason for row, why in odd.refused.items()} == {
        1: Reason.BAD_TIMESTAMP,
        2: Reason.BAD_TIMESTAMP,
    }


def test_asset_numbers_are_names(tmp_path: Path) -> None:
    table = read_table(
        parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1, 2), asset=[2.0, 10.0, NAN], x=[1, 2, 3])
    )
    assert table.assets.tolist() == ["2", "10", None]


def test_conditions_are_labels(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "a.parquet",
        ts=stamps(0, 1, 2),
        mode=["on", None, "off"],
        gear=[1.0, 2.5, 3.0],
        x=[1, 2, 3],
    )
    spec = StreamSpec(
        "s", ("x",), condition=("mode", "gear", "site"), assets={"asset-0": {"mode": "idle", "site": "A"}}
    )
    table = read_table(path, condition=spec.condition)
    assert table.sensors == ("x",)
    assert [table.label(i, spec) for i in range(3)] == [
        "mode=on,gear=1,site=A",
        "mode=idle,gear=2.5,site=A",
        "mode=off,gear=3,site=A",
    ]
    (segment,) = segments(table, spec)
    assert segment.condition == tuple(table.label(i, spec) for i in range(3))


def test_the_calendar_speaks_of_every_row_of_a_file(tmp_path: Path) -> None:
    """Rows that nobody spoke of too, and in a compressed gap those at its begin: as on the stream."""
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 2, 5_000), mode=["on", "off", "on"], x=[1, 2, 3])
    spec = StreamSpec("s", ("x",), condition=("$hour", "mode"), timezone="Asia/Tokyo")
    table = read_table(path, condition=spec.condition)
    hour, later = 9, 10
    first, last = segments(table, spec)
    assert first.condition == (f"mode=on,$hour={hour:02d}",) * 2 + (f"mode=off,$hour={hour:02d}",)
    assert last.condition == (f"mode=on,$hour={later:02d}",)
    (whole,) = place(table, spec, compress_gaps=True).segments
    assert whole.condition[:3] == first.condition
    assert whole.condition[-1] == last.condition[0]
    only = replace(spec, condition=("$hour",))
    assert segments(table, only)[0].condition == (f"$hour={hour:02d}",) * 3


def test_a_condition_that_is_no_column_is_noted(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1), x=[1, 2])
    assert read_table(path, condition=["mode", "$hour"]).notes == (
        "condition 'mode' is no column: what the config says of an asset counts, else ?",
    )


def test_the_head_of_a_table(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "a.parquet", ts=stamps(0, None, 2, None), asset=["a", "b", "c", "d"], x=[1, 2, 3, 4]
    )
    head = read_table(path).head(3)
    assert (len(head), head.asset_names, sorted(head.refused)) == (3, ("a", "b", "c"), [1])
    assert head.head(99) is head


@pytest.mark.parametrize(
    ("name", "lines"), [("a.jsonl", True), ("a.JSON.GZ", True), ("a.csv.gz", False), ("a", False)]
)
def test_what_holds_lines(name: str, lines: bool) -> None:
    assert is_lines(Path(name)) == lines


# ------------------------------------------------------------------ a table as source
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
async def test_rows_in_no_order_of_time_come_by_their_time(
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


@given(st.lists(st.floats(width=32), min_size=1))
def test_single_precision_is_widened_to_what_was_written(values: list[float]) -> None:
    single = np.array(values, np.float32)
    with np.errstate(all="raise"):
        found = files.widened(single)
    expected = np.array([float(str(value)) for value in single])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found.astype(np.float32), single)


def test_a_value_of_a_single_precision_column_is_published_as_it_came(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1), x=pa.array([0.4, None], pa.float32()))
    np.testing.assert_array_equal(read_table(path).values, [[0.4], [NAN]])


@pytest.mark.parametrize("naive", ["csv", "parquet", "mixed"])
def test_times_without_a_zone_are_of_the_streams_zone(tmp_path: Path, naive: str) -> None:
    texts = ["2026-01-01 12:00:00", "2026-07-01 12:00:00", "2026-10-25 02:30:00"]  # the last comes twice
    wanted = ["2026-01-01T11:00", "2026-07-01T10:00", "2026-10-25T00:30"]
    if naive == "mixed":  # one by one
        texts, wanted = [*texts, "2026-01-01T12:00:00Z"], [*wanted, "2026-01-01T12:00"]
    if naive == "parquet":
        moments = np.array([np.datetime64(text.replace(" ", "T"), "ms") for text in texts])
        path = parquet_file(tmp_path / "a.parquet", ts=pa.array(moments), x=[1.0] * len(texts))
    else:
        path = csv_file(tmp_path / "a.csv", "ts,x\n" + "".join(f"{text},1\n" for text in texts))
    table = read_table(path, timezone="Europe/Berlin")
    assert [str(np.datetime64(int(t), "ns").astype("datetime64[m]")) for t in table.time_ns] == wanted
    assert table.zoneless == 3


async def test_rows_become_readings_in_the_streams_order(tmp_path: Path) -> None:
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
        said = decoder.decode(Record(i, None, json.dumps(message).encode(), NOW))
        assert isinstance(said, Reading)
        found[i].stamp_ns = NOW  # a table's rows are no records, and have no time but their own
        assert repr(said) == repr(found[i])


def test_a_table_with_none_of_the_sensors(tmp_path: Path) -> None:
    table = read_table(parquet_file(tmp_path / "a.parquet", ts=stamps(0), x=[1]))
    with pytest.raises(InputError, match=r"none of the stream's sensors \(y\); found: x"):
        TableSource(table, StreamSpec("s", ("y",)), NOW)


# ------------------------------------------------------------------ lines as source
async def records(source: LinesSource) -> list[Record]:
    found: list[Record] = []
    async for event in source.events():
        if isinstance(event, PolledRecords):
            found += [item for item in event.items if isinstance(item, Record)]
            assert sum(len(item.value) for item in found[-len(event.items) :] if event.items) < 8 * KEPT_BYTES
    return found


async def test_lines_source_passes_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n" * 25)
    await contract.check_finite(
        lambda: LinesSource(path, NOW, chunk_lines=10), {InputPartition("a.jsonl", 0): range(25)}
    )


@given(
    st.lists(
        st.one_of(st.binary(max_size=12), st.sampled_from([b"\r", "\u2028".encode(), b"\x0b", b"\x00"])),
        max_size=30,
    ),
    st.booleans(),
    st.booleans(),
    st.integers(1, 20),
)
@settings(deadline=None)
async def test_lines_end_at_newlines_and_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], closed: bool, packed: bool, keep: int
) -> None:
    content = b"\n".join(pieces) + (b"\n" if closed else b"")
    expected = content.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    if not content or content[:2] == b"\x1f\x8b":
        return
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(gzip.compress(content) if packed else content)
    source = LinesSource(path, NOW, chunk_lines=4, keep_bytes=keep)
    found = await records(source)
    assert [(r.offset, r.value, r.timestamp_ns) for r in found] == [
        (i, line[:keep], NOW) for i, line in enumerate(expected)
    ]
    assert source.oversized == {
        i: Oversized(len(line), hashlib.sha256(line).hexdigest())
        for i, line in enumerate(expected)
        if len(line) > keep
    }
    assert source.read == source.total == path.stat().st_size
    assert source.lines == len(expected)
    assert first_lines(path, 3) == (expected[:3], len(expected) <= 3)


async def test_a_giant_line_is_one_short_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    giant = b"x" * 5_000_000
    path.write_bytes(gzip.compress(b"{}\n" + giant + b"\n[]"))
    source = LinesSource(path, NOW)
    found = await records(source)
    assert [len(record.value) for record in found] == [2, KEPT_BYTES, 2]
    assert source.oversized[1] == Oversized(5_000_000, hashlib.sha256(giant).hexdigest())
    said = Decoder(StreamSpec("s", ("x",))).decode(found[1])
    assert isinstance(said, Rejected)
    assert said.reason is Reason.TOO_LARGE
    letter = dead_letter(said, source.oversized)
    assert (letter["line"], letter["length"]) == (1, 5_000_000)
    assert letter["sha256"] == hashlib.sha256(giant).hexdigest()
    assert base64.b64decode(letter["original"]) == giant[:DEAD_LETTER_BYTES]


async def test_a_line_too_long_is_said_with_its_whole_length(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 5_000_000)
    source = LinesSource(path, NOW)
    (record,) = await records(source)
    rejected = Decoder(StreamSpec("s", ("x",))).decode(record)
    assert isinstance(rejected, Rejected)
    assert dead_letter(rejected, source.oversized)["detail"] == "5000000 bytes; at most 1048576"


async def test_a_file_of_lines_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        LinesSource(tmp_path / "none.jsonl", NOW)
    path = tmp_path / "a.jsonl"
    path.touch()
    with pytest.raises(InputError, match="is empty"):
        LinesSource(path, NOW)
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(10_000))[:5000])
    with pytest.raises(InputError, match="damaged gzip data after line"):
        await records(LinesSource(path, NOW))


# ------------------------------------------------------------------ the grid
GRID = StreamSpec("s", ("x", "gone", "y"), period_ns=SECOND_NS, window=3, max_gap_ns=4 * SECOND_NS)
Row = tuple[str, float | None, float | None, float | None]


def table_of(path: Path, rows: Sequence[Row]) -> Table:
    return read_table(
        parquet_file(
            path,
            ts=stamps(*(r[1] for r in rows)),
            asset=[r[0] for r in rows],
            y=pa.array([r[2] for r in rows], pa.float64()),
            x=pa.array([r[3] for r in rows], pa.float64()),
        )
    )


def test_rows_on_the_grid(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("b", 10.9, 1, None),
        ("a", 3.0, 2, 20),
        ("b", 10.0, 3, 30),  # the same row: only what is missing comes from here
        ("b", 14.0, 4, 40),  # a gap of max_gap is bridged ...
        ("b", 19.0, 5, 50),  # ... a longer one is not
        ("b", 18.9, 6, None),  # out of order
        ("b", None, 7, 70),
    ]
    placed = place(table_of(tmp_path / "a.parquet", rows), GRID)
    assert [(s.asset, s.first_row - START // SECOND_NS) for s in placed.segments] == [("b", 10), ("a", 3)]
    np.testing.assert_array_equal(
        placed.segments[0].values,
        [[30, NAN, 1], *[[NAN] * 3] * 3, [40, NAN, 4], *[[NAN] * 3] * 3, [NAN, NAN, 6], [50, NAN, 5]],
    )
    np.testing.assert_array_equal(placed.segments[1].values, [[20, NAN, 2]])
    assert placed.segment.tolist() == [0, 1, 0, 0, 0, 0, -1]
    assert placed.row.tolist() == [0, 0, 0, 4, 9, 8, -1]
    assert placed.segments[0].condition == ()


cells = st.one_of(st.none(), st.integers(0, 9).map(float))
drawn = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 400).map(lambda t: t / 10)), cells, cells
    ),
    min_size=1,
    max_size=40,
)


@given(drawn)
@settings(deadline=None)
def test_the_grid_agrees_with_the_obvious(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    table = table_of(tmp_path_factory.mktemp("grid") / "a.parquet", rows)
    placed = place(table, GRID)
    expected = naive.gridded(
        [
            (a, None if t is None else START // SECOND_NS + int(t // 1), {"x": x, "y": y})
            for a, t, y, x in rows
        ],
        GRID.sensors,
        GRID.max_gap_ns // GRID.period_ns,
    )
    found = [(s.asset, s.first_row, s.values.tolist()) for s in placed.segments]
    assert repr(found) == repr([(asset, first, values) for asset, first, values in expected])
    for i, (asset, t, _, _) in enumerate(rows):
        if t is None:
            assert placed.segment[i] == placed.row[i] == -1
        else:
            segment = placed.segments[placed.segment[i]]
            assert (segment.asset, segment.first_row + placed.row[i]) == (
                asset,
                START // SECOND_NS + int(t // 1),
            )


@given(drawn)
@settings(deadline=None)
def test_compressed_gaps_lose_no_row(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> None:
    table = table_of(tmp_path_factory.mktemp("grid") / "a.parquet", rows)
    split, whole = place(table, GRID), place(table, GRID, compress_gaps=True)
    assert [s.asset for s in whole.segments] == list(dict.fromkeys(s.asset for s in split.segments))
    for i in np.flatnonzero(table.usable).tolist():
        here, there = split.segments[split.segment[i]], whole.segments[whole.segment[i]]
        np.testing.assert_array_equal(here.values[split.row[i]], there.values[whole.row[i]])
    for segment in whole.segments:
        empty = "".join("." if gone else "x" for gone in np.isnan(segment.values).all(1))
        spoken = {int(r) for i, r in enumerate(whole.row) if whole.segments[whole.segment[i]] is segment}
        runs = "".join("x" if t in spoken else "." for t in range(len(empty))).split("x")
        assert max(map(len, runs)) <= 2 * GRID.window


def test_a_gap_of_years_costs_nothing(tmp_path: Path) -> None:
    table = table_of(tmp_path / "a.parquet", [("a", 0, 1, 1), ("a", 1e8, 2, 2)])
    (segment,) = place(table, GRID, compress_gaps=True).segments
    assert len(segment.values) == 2 * GRID.window + 2


def test_a_period_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path / "a.parquet", [("a", 300 * i, 1, 1) for i in range(20)])
    tiny = StreamSpec("s", ("x",), period_ns=1000, max_gap_ns=300 * SECOND_NS)
    with pytest.raises(InputError, match="the period is too short for this file"):
        place(table, tiny)


def test_no_usable_row_is_no_segment(tmp_path: Path) -> None:
    placed = place(table_of(tmp_path / "a.parquet", [("a", None, 1, 1)]), GRID)
    assert (placed.segments, placed.segment.tolist()) == ([], [-1])


# ------------------------------------------------------------------ writing
def test_scores_have_exactly_the_contracts_columns(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    numbers = np.array([1.0, NAN])
    write_scores(
        path,
        asset=["a", None],
        time_ns=np.array([START + 1, NO_TIME]),
        score=numbers,
        reconstruction=numbers,
        kl=numbers,
        point=numbers,
        elbo=numbers,
        alarm=np.array([True, False]),
        model=["m", ""],
    )
    table = pq.read_table(path)
    assert table.column_names == [
        "asset",
        "timestamp",
        "score",
        "reconstruction",
        "kl",
        "point",
        "elbo",
        "alarm",
        "model",
    ]
    assert table.schema.field("timestamp").type == pa.timestamp("ns", "UTC")
    assert table.schema.field("alarm").type == pa.bool_()
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [START + 1, None]
    assert str(table["score"].to_pylist()) == "[1.0, nan]"


def test_imputed_cells(tmp_path: Path) -> None:
    path = tmp_path / "imputed.parquet"
    rows = [
        FilledRow("s", "a", START, {"x": FilledCell(1, 0, 2), "y": FilledCell(3, 2, 4)}, "mlp", "m1"),
        FilledRow("s", "b", START + 1, {"x": FilledCell(5, 4, 6)}, "mlp", "m1"),
    ]
    assert write_imputed(path, rows) == 3
    table = pq.read_table(path)
    assert table.column_names == ["asset", "timestamp", "sensor", "value", "low", "high", "method", "model"]
    assert table["sensor"].to_pylist() == ["x", "y", "x"]
    assert table["timestamp"].cast(pa.int64()).to_pylist() == [START, START, START + 1]
    with ImputedFile(path) as file:
        file.add(rows[1])
        file.add_cells(
            asset=["c"],
            time_ns=np.array([START]),
            sensor=["y"],
            value=np.array([1.0]),
            low=np.array([0.5]),
            high=np.array([1.5]),
            method=["batch"],
            model=["m2"],
        )
    assert file.cells == 2
    assert pq.read_table(path)["asset"].to_pylist() == ["b", "c"]


def test_empty_files_have_their_columns(tmp_path: Path) -> None:
    write_imputed(tmp_path / "i.parquet", [])
    none = np.empty(0)
    write_scores(
        tmp_path / "s.parquet",
        asset=[],
        time_ns=np.empty(0, np.int64),
        score=none,
        reconstruction=none,
        kl=none,
        point=none,
        elbo=none,
        alarm=np.empty(0, bool),
        model=[],
    )
    for name, types in (("i", 8), ("s", 9)):
        table = pq.read_table(tmp_path / f"{name}.parquet")
        assert (table.num_rows, table.num_columns) == (0, types)
        assert table.schema.field("timestamp").type == pa.timestamp("ns", "UTC")
    with JsonLines(tmp_path / "a.jsonl"):
        pass
    assert (tmp_path / "a.jsonl").read_bytes() == b""


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rejected = Rejected(Record(4, None, b"\xff\x00", NOW), Reason.NOT_UTF8, "byte 0 is not UTF-8")
    with JsonLines(path) as file:
        file.write(b'{"a":1}')
        file.write({"x": NAN, "name": "ü\n"})
        file.write(dead_letter(rejected))
    assert file.lines == 3
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == [
        {"a": 1},
        {"x": None, "name": "ü\n"},
        {"line": 4, "reason": "not_utf8", "detail": "byte 0 is not UTF-8", "original": "/wA="},
    ]
    long = dead_letter(Rejected(Record(0, None, b"y" * 1_000_000, NOW), Reason.NOT_JSON, ""))
    assert (long["length"], long["sha256"]) == (1_000_000, hashlib.sha256(b"y" * 1_000_000).hexdigest())


def test_what_is_not_whole_never_appears(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("before")

    def broken(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError

    def interrupted(lines: JsonLines) -> None:
        lines.write(b"{}")
        raise RuntimeError

    with pytest.raises(RuntimeError), replacing(path) as temporary:
        broken(temporary)
    with pytest.raises(RuntimeError), JsonLines(path) as lines:
        interrupted(lines)
    with pytest.raises(RuntimeError), ImputedFile(path):
        raise RuntimeError
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    for make in (JsonLines, ImputedFile, lambda path: write_summary(path, {})):
        with pytest.raises(DaemonError, match="there is no directory"):
            make(tmp_path / "none" / "a")
    (tmp_path / "a").mkdir()
    with pytest.raises(DaemonError, match=r"a: cannot be written: "):
        write_summary(tmp_path / "a", {})


def test_summary(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_summary(
        path, {"records": {"read": np.int64(3)}, "x": NAN, "y": np.array([1.5]), "file": Path("a.csv")}
    )
    assert json.loads(path.read_text()) == {"records": {"read": 3}, "x": None, "y": [1.5], "file": "a.csv"}
    assert path.read_text().startswith('{\n  "records"')


# ------------------------------------------------------------------ filling a table
def gap_filled(table: Table, value: float) -> Any:
    return np.where(
        np.isnan(table.values), value, -1.0
    )  # -1 would show wherever an observed cell is replaced


def test_a_filled_parquet_keeps_rows_columns_types_and_bits(tmp_path: Path) -> None:
    columns = {
        "note": pa.array(["p", None]),
        "f32": pa.array([0.1, None], pa.float32()),
        "ts": stamps(1, 0),
        "f64": pa.array([NAN, math.nextafter(1, 2)]),
        "whole": pa.array([2**60 + 1, 3]),
        "gappy": pa.array([None, 7], pa.int32()),
        "label": pa.array([None, 1], pa.int8()),
        "never": pa.nulls(2),
    }
    path = parquet_file(tmp_path / "a.parquet", **columns)
    table = read_table(path, exclude=["label"])
    out = tmp_path / "out.parquet"
    assert write_filled_table(table, gap_filled(table, 4.5), out) == 5
    filled = pq.read_table(out)
    assert filled.column_names == list(columns)
    for same in ("note", "ts", "whole", "label"):
        assert filled[same].combine_chunks().equals(columns[same])
    assert [filled.schema.field(name).type for name in ("f32", "f64", "gappy", "never")] == [
        pa.float32(),
        *[pa.float64()] * 3,
    ]
    assert filled["f32"].to_pylist() == [np.float32(0.1), 4.5]
    assert filled["f64"].to_pylist() == [4.5, math.nextafter(1, 2)]
    assert filled["gappy"].to_pylist() == [4.5, 7.0]
    assert filled["never"].to_pylist() == [4.5, 4.5]


def test_cells_without_a_fill_stay_as_they_are(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1), x=pa.array([None, NAN]))
    assert write_filled_table(read_table(path), np.full((2, 1), NAN), tmp_path / "out.parquet") == 0
    assert str(pq.read_table(tmp_path / "out.parquet")["x"].to_pylist()) == "[None, nan]"


TEXT = 'time,asset,x,y,"n,ote"\n2024-01-01 00:00,a,1.50,,"p,q"\n2024-01-01 00:01,a, +2,err,r\n2024-01-01 00:02,a,nan,3,s\n'


def test_a_filled_csv_keeps_every_letter(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", TEXT))
    out = tmp_path / "out.csv"
    assert write_filled_table(table, gap_filled(table, 0.1), out) == 3
    read = pacsv.read_csv(
        out,
        convert_options=pacsv.ConvertOptions(column_types={name: pa.string() for name in ("time", "x", "y")}),
    )
    assert read["n,ote"].to_pylist() == ["p,q", "r", "s"]
    assert read["time"].to_pylist() == ["2024-01-01 00:00", "2024-01-01 00:01", "2024-01-01 00:02"]
    assert read["x"].to_pylist() == ["1.50", " +2", "0.1"]
    assert read["y"].to_pylist() == ["0.1", "0.1", "3"]


def test_a_csv_without_need_has_no_quotes(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", "time,x\n2024-01-01,\n2024-01-02,1\n"))
    write_filled_table(table, gap_filled(table, 0.5), tmp_path / "out.csv.gz")
    assert (
        gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == b"time,x\n2024-01-01,0.5\n2024-01-02,1\n"
    )


def test_only_cells_that_need_quotes_have_them(tmp_path: Path) -> None:
    text = 'time,n,x\n2024-01-01,plain,\n2024-01-02,"a,b",1\n2024-01-03,"say ""a""",2.50\n2024-01-04,,3\n'
    table = read_table(csv_file(tmp_path / "a.csv", text))
    write_filled_table(table, gap_filled(table, 0.5), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == text.replace("plain,", "plain,0.5")


def test_a_csv_may_become_parquet_and_back(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", TEXT))
    write_filled_table(table, gap_filled(table, 9), tmp_path / "out.parquet")
    filled = pq.read_table(tmp_path / "out.parquet")
    assert filled["x"].to_pylist() == [1.5, 2.0, 9.0]
    assert filled["time"].cast(pa.int64()).to_pylist() == table.time_ns.tolist()
    again = read_table(tmp_path / "out.parquet")
    write_filled_table(again, again.values, tmp_path / "back.csv")
    back = read_table(tmp_path / "back.csv")
    np.testing.assert_array_equal(back.values, again.values)
    np.testing.assert_array_equal(back.time_ns, again.time_ns)


def test_an_output_of_no_known_format(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", TEXT))
    with pytest.raises(InputError, match=r"must end in \.parquet or \.csv"):
        write_filled_table(table, table.values, tmp_path / "out.xlsx")
    csv_file(tmp_path / "a.csv", "time,x\n1,2\n")
    with pytest.raises(InputError, match="has changed while it was read"):
        write_filled_table(table, table.values, tmp_path / "out.csv")
