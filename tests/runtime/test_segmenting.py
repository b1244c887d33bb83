"""Training segments: cut, selected and counted."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
)
from daemon.runtime.segmenting import cut, ends_at, near, newest_rows
from tests.runtime.histories import BASE_S, seconds_of, segment


@given(st.sets(st.integers(0, 60), min_size=1), st.data(), st.integers(0, 6))
def test_near_is_within_the_margin_of_an_alarm(rows: set[int], data: st.DataObject, margin: int) -> None:
    index = np.array(sorted(rows))
    firing = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    expected = [any(abs(row - alarm) <= margin for alarm in index[firing]) for row in index]
    assert near(index, firing, margin).tolist() == expected


@given(st.sets(st.integers(0, 30)))
def test_a_segment_has_every_row_between_its_first_and_its_last(rows: set[int]) -> None:
    index = np.array(sorted(rows), np.int64)
    taken = np.array([row for row in range(31) if row not in rows and row % 3 == 0], np.int64)
    segments = cut("a", index, index[:, None] * 1.0, [f"c{row}" for row in index], None, taken)
    found = [range(s.first_row, s.first_row + len(s.values)) for s in segments]
    assert [row for part in found for row in part] == index.tolist()
    assert all(b.start > a.stop for a, b in itertools.pairwise(found))
    for s, part in zip(segments, found, strict=True):
        assert s.values[:, 0].tolist() == list(part)
        assert s.condition == tuple(f"c{row}" for row in part)
    ends = [-1, *(part.stop - 1 for part in found)]
    assert [s.after_cut for s in segments] == [
        any(end < row < part.start for row in taken.tolist())
        for end, part in zip(ends[:-1], found, strict=True)
    ]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(1, 30)), max_size=5),
    st.integers(1, 80),
)
def test_the_newest_rows_begin_at_one_instant_for_all_assets(
    pieces: list[tuple[str, int, int]], wanted: int
) -> None:
    history = [segment(asset, rows, first) for asset, first, rows in pieces]
    every = sorted((row, asset) for asset in "ab" for row in seconds_of(history, asset))
    kept = sorted((row, asset) for asset in "ab" for row in seconds_of(newest_rows(history, wanted), asset))
    assert len(kept) <= wanted
    first = kept[0][0] if kept else 1_000
    assert kept == [one for one in every if one[0] >= first]
    if len(kept) < len(every):  # with the instant before there would be too many
        before = max(row for row, _ in every if row < first)
        assert sum(row >= before for row, _ in every) > wanted


def test_a_clock_that_is_ahead_does_not_end_a_history_later() -> None:
    history = [segment("a", 5000), segment("b", 3, first_s=90_000)]
    assert ends_at(history, SECOND_NS) == (BASE_S + 4998) * SECOND_NS
    assert ends_at([], SECOND_NS) is None
