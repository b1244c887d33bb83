"""Cells of a table as numbers."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import read_table
from daemon.adapters.files.cells import widened
from tests.adapters.files.tables import NAN, csv_file, parquet_file, stamps


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
def test_csv_cells_are_numbers_or_missing(tmp_path: Path, name: str) -> None:
    text = "\ufefftime;x;y;flag;dead\n2024-01-01;1.5;nan;true;\n2024-01-02; +2;1e3;false;\n2024-01-03;err;-4;true;\n"
    table = read_table(csv_file(tmp_path / name, text))
    assert table.sensors == ("x", "y", "flag", "dead")
    np.testing.assert_array_equal(table.values, [[1.5, NAN, 1, NAN], [2, 1000, 0, NAN], [NAN, -4, 1, NAN]])
    assert any(
        note.startswith("sensor 'x': 1 cells are no numbers and count as missing: ") for note in table.notes
    )
    assert "read as 1 and 0: flag (true, false)" in table.notes
    assert table.corrupt == {("x", "text"): 1}


def test_parquet_may_be_gzipped_and_infinities_are_missing(tmp_path: Path) -> None:
    plain = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1), x=[math.inf, 2.0])
    packed = tmp_path / "a.parquet.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read_table(packed).values, [[NAN], [2]])


def test_infinities_are_counted(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1, 2), x=[math.inf, -math.inf, 1.0])
    assert read_table(path).notes == ("sensor 'x': 2 cells are infinite and count as missing",)


@given(st.lists(st.floats(width=32), min_size=1))
def test_single_precision_is_widened_to_the_shortest_decimal(values: list[float]) -> None:
    single = np.array(values, np.float32)
    with np.errstate(all="raise"):
        found = widened(single)
    expected = np.array([float(str(value)) for value in single])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found.astype(np.float32), single)


def test_a_single_precision_column_is_widened(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1), x=pa.array([0.4, None], pa.float32()))
    np.testing.assert_array_equal(read_table(path).values, [[0.4], [NAN]])
