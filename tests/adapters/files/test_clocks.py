"""Rows and assets of a table whose clock is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.files import TableSource, read_table
from daemon.adapters.files.clocks import dated_ahead, skewed_clocks
from daemon.domain import SECOND_NS, Reason, StreamSpec
from tests.adapters.files.tables import NOW, START, csv_file


def times(*seconds: int) -> np.ndarray:
    return np.array(seconds, np.int64)


def test_one_row_that_makes_many_late_is_found() -> None:
    assert dated_ahead(times(1, 2, 900, 3, 4, 5, 6, 7), 1).tolist() == [2]
    assert dated_ahead(times(900, 1, 2, 3, 4, 5, 6, 7), 1).tolist() == [0]
    assert dated_ahead(times(1, 900, 901, 2, 3, 4, 5, 6, 7, 8, 9), 1).tolist() == [1, 2]


def test_rows_that_are_late_are_left_to_the_stream() -> None:
    assert dated_ahead(times(1, 2, 3, 4, 1, 5, 6, 7), 1).tolist() == []
    assert dated_ahead(times(1, 2, 3, 2, 3, 4, 3, 4, 5), 1).tolist() == []
    assert dated_ahead(times(10, 11, 12, 13, 1, 2, 3, 4), 1).tolist() == []  # either half may be right
    assert dated_ahead(times(), 1).tolist() == []


@given(st.lists(st.integers(0, 60), max_size=40), st.integers(0, 5))
def test_what_is_refused_is_less_than_half_of_what_would_be_lost(seconds: list[int], lateness: int) -> None:
    def late(kept: list[int]) -> int:
        return sum(time < max(kept[: i + 1]) - lateness for i, time in enumerate(kept))

    ahead = dated_ahead(times(*seconds), lateness).tolist()
    left = [time for i, time in enumerate(seconds) if i not in ahead]
    assert not ahead or 2 * (len(ahead) + late(left)) < late(seconds)


def test_a_fast_clock_is_known_among_three() -> None:
    asset = np.tile([0, 1, 2], 100)
    at = np.repeat(np.arange(100) * 60, 3)
    found = skewed_clocks(asset, at + np.where(asset == 1, 1800, 0), 600)
    assert list(found) == [1]
    assert 1700 < found[1] < 1900
    assert skewed_clocks(asset, at + np.where(asset == 1, -1800, 0), 600)[1] < -1700
    assert skewed_clocks(asset, at, 600) == {}
    assert skewed_clocks(asset[asset < 2], at[asset < 2], 600) == {}
    assert skewed_clocks(np.sort(asset), np.tile(np.arange(100) * 60, 3), 600) == {}


def test_the_source_refuses_the_row_and_says_whose_clock_is_wrong(tmp_path: Path) -> None:
    text = "time,asset,x\n"
    for i in range(60):
        for k in range(3):
            ahead = 9000 if (i, k) == (20, 0) else 1800 if k == 2 else 0
            text += f"{START // SECOND_NS + i + ahead},m{k},{i}\n"
    source = TableSource(read_table(csv_file(tmp_path / "a.csv", text)), StreamSpec("s", ("x",)), NOW)
    assert [(r.record.offset, r.reason) for r in source.rejected] == [(60, Reason.FUTURE)]
    assert "is ahead of the rows after it" in source.rejected[0].detail
    assert list(source.skewed) == ["m2"]
