"""The asset and the event time of each row."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from daemon.adapters.files import read_table
from daemon.domain import SECOND_NS, Reason
from tests.adapters.files.tables import NAN, START, csv_file, parquet_file, seconds, stamps


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


def test_an_unreadable_time_makes_only_its_row_unusable(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path / "a.csv", "ts,x\n2024-01-01,1\nsoon,2\n,3\n2024-01-02,4\n"))
    assert table.usable.tolist() == [True, False, False, True]
    assert table.refused[1].reason is Reason.BAD_TIMESTAMP
    assert table.refused[1].detail.startswith("'soon' is neither ISO 8601")
    assert table.refused[1].time == "soon"
    texts = pa.array(["2024-01-01", "never"])
    assert sorted(read_table(parquet_file(tmp_path / "a.parquet", ts=texts, x=[1, 2])).refused) == [1]


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


def test_numbers_in_the_asset_column_become_names(tmp_path: Path) -> None:
    table = read_table(
        parquet_file(tmp_path / "a.parquet", ts=stamps(0, 1, 2), asset=[2.0, 10.0, NAN], x=[1, 2, 3])
    )
    assert table.assets.tolist() == ["2", "10", None]


@pytest.mark.parametrize("naive", ["csv", "parquet", "mixed"])
def test_times_without_a_zone_are_in_the_zone_of_the_stream(tmp_path: Path, naive: str) -> None:
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
