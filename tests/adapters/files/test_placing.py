"""Rows of a table on the grid of each asset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.adapters.files import Table, place, read_table, segments
from daemon.domain import SECOND_NS, StreamSpec
from daemon.errors import InputError
from tests import naive
from tests.adapters.files.tables import NAN, START, parquet_file, stamps

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


cells = st.one_of(st.none(), st.integers(0, 9).map(float))
drawn = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 400).map(lambda t: t / 10)), cells, cells
    ),
    min_size=1,
    max_size=40,
)


def test_rows_on_the_grid(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("b", 10.9, 1, None),
        ("a", 3.0, 2, 20),
        ("b", 10.0, 3, 30),  # the same row: only what is missing comes from here
        ("b", 14.0, 4, 40),  # a gap of max_gap is bridged ...
        ("b", 19.0, 5, 50),  # ... a longer one is not
        ("b", 18.9, 6, None),  # out of order
        ("b", 20.0, None, None),
        ("b", 21.0, None, None),
        ("b", None, 7, 70),
    ]
    placed = place(table_of(tmp_path / "a.parquet", rows), GRID)
    assert [(s.asset, s.first_row - START // SECOND_NS) for s in placed.segments] == [("b", 10), ("a", 3)]
    np.testing.assert_array_equal(
        placed.segments[0].values,
        [
            [30, NAN, 1],
            *[[NAN] * 3] * 3,
            [40, NAN, 4],
            *[[NAN] * 3] * 3,
            [NAN, NAN, 6],
            [50, NAN, 5],
            [NAN] * 3,
            [NAN] * 3,
        ],
    )
    np.testing.assert_array_equal(placed.segments[1].values, [[20, NAN, 2]])
    assert placed.segment.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, -1]
    assert placed.row.tolist() == [0, 0, 0, 4, 9, 8, 10, 11, -1]
    assert placed.segments[0].condition == ()


def test_of_a_table_in_no_order_of_time_the_first_value_by_time_counts(tmp_path: Path) -> None:
    """As a replay takes it: both must judge the same rows."""
    rows: list[Row] = [("a", 12.0, 5, 5), ("a", 11.9, 4, None), ("a", 11.2, 3, None), ("a", 10.0, 1, 1)]
    (segment,) = place(table_of(tmp_path / "a.parquet", rows), GRID).segments
    np.testing.assert_array_equal(segment.values, [[1, NAN, 1], [NAN, NAN, 3], [5, NAN, 5]])


def arrived(rows: Sequence[Row]) -> list[Row]:
    """The rows as they arrive: by time for an asset that more than a third of the steps of lead back."""
    found = list(rows)
    for asset in {row[0] for row in rows}:
        places = [i for i, row in enumerate(rows) if row[0] == asset and row[1] is not None]
        times = [float(rows[i][1] or 0.0) for i in places]
        back = sum(b < a for a, b in pairwise(times))
        if 3 * back > max(len(times) - 1, 1):
            for i, j in zip(places, sorted(places, key=lambda i: float(rows[i][1] or 0.0)), strict=True):
                found[i] = rows[j]
    return found


@given(drawn)
@settings(deadline=None)
def test_placing_agrees_with_the_naive_grid(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row]
) -> None:
    table = table_of(tmp_path_factory.mktemp("grid") / "a.parquet", rows)
    placed = place(table, GRID)
    expected = naive.gridded(
        [
            (a, None if t is None else START // SECOND_NS + int(t // 1), {"x": x, "y": y})
            for a, t, y, x in arrived(rows)
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


def test_a_gap_of_years_is_cut_to_two_windows(tmp_path: Path) -> None:
    table = table_of(tmp_path / "a.parquet", [("a", 0, 1, 1), ("a", 1e8, 2, 2)])
    (segment,) = place(table, GRID, compress_gaps=True).segments
    assert len(segment.values) == 2 * GRID.window + 2


def test_a_period_too_short_for_the_file_is_refused(tmp_path: Path) -> None:
    table = table_of(tmp_path / "a.parquet", [("a", 300 * i, 1, 1) for i in range(20)])
    tiny = StreamSpec("s", ("x",), period_ns=1000, max_gap_ns=300 * SECOND_NS)
    with pytest.raises(InputError, match="the period is too short for this file"):
        place(table, tiny)


def test_a_table_without_usable_rows_has_no_segment(tmp_path: Path) -> None:
    placed = place(table_of(tmp_path / "a.parquet", [("a", None, 1, 1)]), GRID)
    assert (placed.segments, placed.segment.tolist()) == ([], [-1])


def test_calendar_conditions_label_every_grid_row(tmp_path: Path) -> None:
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
