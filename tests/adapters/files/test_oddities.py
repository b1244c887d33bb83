"""Values and keys of a table that are odd."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files.oddities import contradicting, likely_sentinels, same_keys, telling_apart


def usual(count: int = 300) -> np.ndarray:
    return 20 + np.sin(np.arange(count) / 7)


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([], []),
        ([-999.9], [(-999.9, 1)]),
        ([-999.9] * 5, [(-999.9, 5)]),
        ([12345.6] * 4, [(12345.6, 4)]),
        ([12345.6], []),  # once, and no number that is in use: a measurement may be as odd
        ([22.0] * 4, []),
        ([-999.9] * 5 + [65535.0] * 3, [(-999.9, 5), (65535.0, 3)]),
        ([float("nan")] * 4, []),
    ],
)
def test_likely_sentinels(marks: list[float], expected: list[tuple[float, int]]) -> None:
    values = np.concatenate([usual(), marks])
    assert sorted(likely_sentinels(values)) == expected


def test_a_switch_and_a_constant_hold_no_sentinels() -> None:
    assert likely_sentinels(np.array([0.0] * 50 + [1.0] * 50)) == []
    assert likely_sentinels(np.array([0.0] * 98 + [1.0] * 2)) == []
    assert likely_sentinels(np.full(50, 9999.0)) == []
    assert likely_sentinels(np.full(5, np.nan)) == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), max_size=30))
def test_rows_with_the_keys_of_another(rows: list[tuple[int, int]]) -> None:
    asset, time = (np.array([row[k] for row in rows], np.int64) for k in range(2))
    again, before = same_keys(asset, time)
    expected = [(i, rows.index(row)) for i, row in enumerate(rows) if rows.index(row) < i]
    assert sorted(zip(again.tolist(), before.tolist(), strict=True)) == expected


def test_contradictions_and_what_tells_rows_apart() -> None:
    values = np.array([[1.0, 2.0], [1.0, np.nan], [3.0, 2.0]])
    assert contradicting(values, np.array([1, 2]), np.array([0, 0])) == 1
    asset, time = np.zeros(6, np.int64), np.array([0, 0, 1, 1, 2, 2])
    machine, batch = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 0, 0, 1, 1, 1])
    assert telling_apart([("machine", machine), ("batch", batch)], asset, time, 3) == ["machine"]
