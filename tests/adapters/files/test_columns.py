"""Decoding a Parquet or CSV file into columns."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.adapters.files import column_names, read_table
from daemon.adapters.files.columns import arrow_memory
from daemon.errors import InputError
from tests.adapters.files.tables import csv_file, parquet_file


def test_an_arrow_error_does_not_abort_the_process(tmp_path: Path) -> None:
    """A reading thread that outlives the error must not need the interpreter, which is ending."""
    path = csv_file(tmp_path / "a.csv", "ts,x\n" + "1,2\n" * 200_000 + "1,2,3\n" + "1,2\n" * 200_000)
    script = (
        "import sys; from pathlib import Path; from daemon.adapters import files; from daemon.errors import InputError\n"
        "try: files.read_table(Path(sys.argv[1]))\n"
        "except InputError: pass\n"
    )
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, b"")


def test_arrow_gets_a_copy_of_the_bytes() -> None:
    data = b"ts,x\n1,2\n" * 100
    before = sys.getrefcount(data)
    reader = arrow_memory(data)
    assert sys.getrefcount(data) == before
    assert reader.read() == data


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.parquet.gz"])
def test_column_names_without_reading_rows(tmp_path: Path, name: str) -> None:
    if "csv" in name:
        path = csv_file(tmp_path / name, "\ufeffts;x;y\n1;2;3\n")
    else:
        path = parquet_file(tmp_path / name, ts=[1], x=[2], y=[3])
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(path.read_bytes()))
    assert column_names(path) == ["ts", "x", "y"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\n\xf4ts,a", "no time column .*; found: \u00f4ts, a"),
        (b"ts,a\rb,c", "new-line character"),
        (b"ts,a\0b", "zero bytes"),
        (b"1767225600,1", "has no header"),
    ],
)
def test_a_header_that_cannot_be_one_is_refused(tmp_path: Path, header: bytes, expected: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(header + b"\n1767225600,1\n1767225601,2\n")
    with pytest.raises(InputError, match=expected):
        read_table(path)
