"""A CSV written again to the letter, but for filled cells."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from daemon.adapters.files import TableReading, read_table, write_filled_table
from daemon.adapters.files.csv_filling import filled_csv
from daemon.adapters.files.csv_form import CsvForm
from daemon.mapping import SensorRule

TOA5 = (
    '"TOA5","st","CR9"\r\n"TIMESTAMP","a","n"\r\n"TS","V",""\r\n"2024-01-01 00:00:00",1.50,"p,q"\r\n'
    '"2024-01-01 00:00:01","NAN","say ""x"""\r\n\r\n"2024-01-01 00:00:02",3,\r\nend of file\r\n'
)


@pytest.mark.parametrize("name", ["a.csv", "a.dat", "a.csv.gz"])
@pytest.mark.parametrize(
    ("text", "encoding", "old", "new"),
    [
        (TOA5, "utf-8", '"NAN"', "2.5"),
        ("time;a;b\n2024-01-01;1,5;x\n2024-01-02;;y\n2024-01-03;2,5;z", "utf-8", "02;;", "02;2,5;"),
        ("time\ta °C\n2024-01-01\t1.5\n2024-01-02\t\n", "cp1252", "02\t", "02\t2.5"),
        ("time,a °C\n2024-01-01,1.5\n2024-01-02,\n", "utf-16", "02,", "02,2.5"),
        ('time,a\n2024-01-01,"1,5"\n2024-01-02,""\n', "utf-8-sig", '02,""', '02,"2,5"'),
        ('time,n,a\n2024-01-01,"two\nlines",1\n2024-01-02,x,\n', "utf-8", "x,", "x,2.5"),
    ],
)
def test_all_other_characters_stay(
    tmp_path: Path, name: str, text: str, encoding: str, old: str, new: str
) -> None:
    path = tmp_path / name
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    out = tmp_path / f"out{''.join(path.suffixes)}"
    table = read_table(path)
    assert write_filled_table(table, np.where(np.isnan(table.values), 2.5, np.nan), out) == 1
    written = out.read_bytes()
    written = gzip.decompress(written) if name.endswith(".gz") else written
    assert written == text.replace(old, new).encode(encoding)


def test_a_filled_cell_is_in_the_units_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,raw\n2024-01-01,100\n2024-01-02,999\n")
    rule = SensorRule(source="raw", scale=0.1, offset=-5, missing=frozenset({999.0}))
    table = read_table(path, reading=TableReading(sensors={"warm": rule}))
    write_filled_table(table, np.array([[np.nan], [7.0]]), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "time,raw\n2024-01-01,100\n2024-01-02,120.0\n"


def test_the_cells_of_a_long_table_that_have_a_row_are_filled(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "time,sensor,value\n2024-01-01,a,1\n2024-01-01,b,\n2024-01-02,a,NaN\n"
    path.write_text(text)
    table = read_table(path)
    filled = np.where(np.isnan(table.values), [[10.0, 20.0], [30.0, 40.0]], np.nan)
    assert write_filled_table(table, filled, tmp_path / "out.csv") == 2
    assert (tmp_path / "out.csv").read_text() == text.replace("b,", "b,20.0").replace("NaN", "30.0")


def test_a_comma_file_with_decimal_commas_becomes_numbers_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time;a;b\n01.02.2024 00:00;1,5;4\n01.02.2024 00:01;;5 %\n")
    table = read_table(path)
    write_filled_table(table, np.where(np.isnan(table.values), 2.5, np.nan), tmp_path / "out.parquet")
    again = read_table(tmp_path / "out.parquet")
    assert again.values.tolist() == [[1.5, 4], [2.5, 5]]
    assert again.time_ns.tolist() == table.time_ns.tolist()


def test_rows_that_cannot_be_told_apart_are_left_to_another_way() -> None:
    form = CsvForm(",", ("a", "b"), 4, 1)
    assert filled_csv(b'a,b\n1,2\n3,"4\n', form, 3, {}) is None
    assert filled_csv(b"a,b\n1\n", form, 1, {0: {1: "5"}}) is None
    assert filled_csv(b"a,b\n1,\n", form, 1, {0: {1: "5"}}) == b"a,b\n1,5\n"
