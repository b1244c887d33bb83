"""Thinning: no peak is lost, no gap is closed, and spans are the runs."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from daemon.adapters.report import (
    extremes,
    spans,
)
from daemon.domain import (
    Floats,
)

series = hnp.arrays(
    np.float64, st.integers(0, 400), elements=st.floats(-1e6, 1e6) | st.just(math.nan), fill=st.nothing()
)


@given(series, st.integers(2, 60))
def test_thinning_keeps_the_peaks_and_the_order(values: Floats, most: int) -> None:
    rows = extremes(values, most)
    assert len(rows) <= max(most, 0)
    assert (np.diff(rows) > 0).all()
    kept = values[rows]
    if np.isfinite(values).any():
        assert np.nanmax(kept) == np.nanmax(values)
        assert np.nanmin(kept) == np.nanmin(values)
    elif len(values):
        assert len(kept)


def test_thinning_leaves_a_gap_a_gap() -> None:
    values = np.ones(10_000)
    values[4_000:6_000] = np.nan
    rows = extremes(values, 100)
    inside = values[rows[(rows >= 4_200) & (rows < 5_800)]]
    assert len(inside)
    assert np.isnan(inside).all()


@given(st.lists(st.booleans(), max_size=60))
def test_spans_are_the_runs(marks: list[bool]) -> None:
    mask, times = np.array(marks, bool), np.arange(len(marks)) * 10
    expected: list[tuple[int, int]] = []
    for row, mark in enumerate(marks):
        if mark and row and marks[row - 1]:
            expected[-1] = (expected[-1][0], row * 10)
        elif mark:
            expected.append((row * 10, row * 10))
    assert spans(mask, times) == expected
    joined = spans(mask, times, most=3)
    assert len(joined) <= 3
    assert all(any(a <= t <= b for a, b in joined) for t in times[mask])  # none is lost


def test_many_spans_join_where_they_are_nearest() -> None:
    mask = np.zeros(100, bool)
    mask[[0, 2, 50, 52, 90]] = True
    assert spans(mask, np.arange(100), most=3) == [(0, 2), (50, 52), (90, 90)]
    assert spans(mask, np.arange(100), most=1) == [(0, 90)]
