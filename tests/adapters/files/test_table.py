"""Columns as time, asset, conditions and sensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from daemon.adapters.files import TableReading, read_table, segments
from daemon.domain import StreamSpec
from daemon.errors import InputError
from daemon.mapping import PLAIN
from tests.adapters.files.tables import NAN, parquet_file, stamps


def test_columns_become_sensors_or_are_noted(tmp_path: Path) -> None:
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
    assert table.sensors == ("PM2.5", "on", "time", "count", "none", "nested.a", "price")
    np.testing.assert_array_equal(table.values, [[1, 1, 7, 3, NAN, 1, 1], [2, 0, 8, NAN, NAN, 2, 2]])
    assert table.assets.tolist() == ["b", "a"]
    assert table.asset_names == ("b", "a")
    assert table.notes[0] == "sensor 'none' holds no number at all"
    assert set(table.notes[1].removeprefix("not numeric, left out: ").split(", ")) == {
        "note",
        "__index_level_0__",
    }


def test_texts_of_parquet_are_sensors_if_all_of_them_are_numbers(tmp_path: Path) -> None:
    path = parquet_file(
        tmp_path / "a.parquet",
        ts=stamps(0, 1, 2),
        quoted=["1.5", "", "2"],
        code=["0", "0", "A"],
        known=["3", "4", "err"],
    )
    reading = TableReading(sensors={"known": PLAIN})
    assert read_table(path).sensors == ("quoted",)
    table = read_table(path, reading=reading)
    assert (table.sensors, table.corrupt) == (("quoted", "known"), {("known", "text"): 1})
    np.testing.assert_array_equal(table.values, [[1.5, 3], [NAN, 4], [2, NAN]])


def test_a_table_without_an_asset_column_has_one_asset(tmp_path: Path) -> None:
    table = read_table(parquet_file(tmp_path / "a.parquet", Timestamp=stamps(0, 1), x=[1, 2]))
    assert table.assets.tolist() == ["asset-0", "asset-0"]


def test_column_names_match_in_any_case(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", TS=stamps(0, 1), Asset=["a", "b"], x=[1, 2])
    table = read_table(path)
    assert (table.assets.tolist(), table.sensors, table.notes) == (["a", "b"], ("x",), ())


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1], [2]]),
        pa.array([b"a", b"\xff"]),
        pa.array([b"a", b"\xff"], pa.large_binary()),
        pa.array([b"a", b"\xff"]).dictionary_encode(),
    ],
)
def test_an_asset_or_condition_column_must_have_a_text_form(tmp_path: Path, column: pa.Array) -> None:
    for name in ("asset", "mode"):
        path = parquet_file(tmp_path / "t.parquet", ts=stamps(0, 1), x=[1.0, 2.0], **{name: column})
        with pytest.raises(InputError, match=rf"column '{name}', of type .*, is neither a text nor a number"):
            read_table(path, condition=["mode"])


def test_condition_columns_become_labels(tmp_path: Path) -> None:
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
