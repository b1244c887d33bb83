"""A table written again with its gaps filled."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from daemon.adapters.files import Table, read_table, write_filled_table
from daemon.errors import InputError
from tests.adapters.files.tables import NAN, csv_file, parquet_file, stamps


@pytest.mark.parametrize(
    "column", [pa.array([[1], [2]]), pa.array([b"a", b"\xff"]), stamps(0, 1, zone="Mars/Phobos")]
)
def test_a_column_without_csv_form_is_refused(tmp_path: Path, column: pa.Array) -> None:
    table = read_table(parquet_file(tmp_path / "t.parquet", ts=stamps(0, 1), x=[1.0, None], other=column))
    filled = np.array([[1.0], [2.0]])
    with pytest.raises(InputError, match="cannot be written as CSV"):
        write_filled_table(table, filled, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    assert write_filled_table(table, filled, tmp_path / "out.parquet") == 1


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


def test_a_filled_csv_keeps_every_other_character(tmp_path: Path) -> None:
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


def test_a_csv_has_no_quotes_where_none_are_needed(tmp_path: Path) -> None:
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


def test_an_output_of_an_unknown_format_is_refused(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", TEXT))
    with pytest.raises(InputError, match=r"must end in \.parquet or \.csv"):
        write_filled_table(table, table.values, tmp_path / "out.xlsx")
    csv_file(tmp_path / "a.csv", "time,x\n1,2\n")
    with pytest.raises(InputError, match="has changed while it was read"):
        write_filled_table(table, table.values, tmp_path / "out.csv")
