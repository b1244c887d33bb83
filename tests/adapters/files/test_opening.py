"""Input files that are missing, empty, foreign or damaged: one clear line, never a crash."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import LinesSource, is_lines, place, read_table
from daemon.adapters.sample import derive_spec
from daemon.errors import InputError
from tests.adapters.files.tables import parquet_file, stamps


@pytest.mark.parametrize(
    ("name", "lines"), [("a.jsonl", True), ("a.JSON.GZ", True), ("a.csv.gz", False), ("a", False)]
)
def test_json_lines_are_recognised_by_name(name: str, lines: bool) -> None:
    assert is_lines(Path(name)) == lines


def test_a_pipe_or_device_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        for read in (read_table, lambda path: LinesSource(path, 0)):
            with pytest.raises(InputError, match="is a pipe or a device, not a file"):
                read(path)


def test_a_directory_and_a_boolean_time_column_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory"):
        read_table(tmp_path)
    with pytest.raises(InputError, match="of type bool, is neither"):
        read_table(parquet_file(tmp_path / "a.parquet", ts=[True], x=[1]))


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", None, "no such file"),
        ("a.csv", b"", "is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.parquet", b"PAR1 and no more", "not a readable Parquet file"),
        ("a.parquet", b"ts,x\n1,2\n", "does not begin with PAR1"),
        ("a.csv.gz", gzip.compress(b"ts,x\n" + b"1,2\n" * 9999, mtime=0)[:60], "damaged gzip data"),
        ("a.csv", b"ts,x\n1,2,3\n", "its header names 2 columns, its rows have 3 cells"),
        ("a.csv", b"ts,x\n1,\xff\n", "no numeric column beside 'ts'"),
        ("a.csv", b"ts,ts,x\n1,2,3\n", "column 'ts' appears twice"),
        ("a.csv", b"ts,x\n", "has no rows"),
        ("a.csv", b"ts,x", "has no rows"),
        ("a.csv", b"moment,x\n1,2\n", "no time column .* found: moment, x"),
        ("a.csv", b"ts,x\n1,open\n", "no numeric column beside 'ts'; found: ts, x"),
        (
            "a.csv",
            b"ts,x\n,1\nsoon,2\n",
            "no time can be read; row 1 .the first is 0.: 'soon' is neither ISO 8601",
        ),
    ],
)
def test_an_unusable_file_is_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as raised:
        read_table(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("column", ["timestamp", "asset", "a", "b"])
def test_a_name_of_any_length_makes_no_long_note(column: str, tmp_path: Path) -> None:
    rows = "".join(f"2026-01-01T00:00:{i:02d}Z,p,{i},{'' if i else '?'}\n" for i in range(30))
    path = tmp_path / "a.csv"
    path.write_text("timestamp,asset,a,b\n".replace(column, column + "9" * 5000, 1) + rows)
    _, notes = derive_spec(path)
    assert notes
    assert max(map(len, [*notes, *read_table(path).notes])) < 1000


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
        if not is_lines(path):
            place(read_table(path), spec)
    except InputError as error:
        lines = [str(error)]
    else:
        lines = notes
    assert all("\n" not in line and len(line) < 1000 for line in lines)
