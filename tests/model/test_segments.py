from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Segment
from daemon.model.segments import (
    Piece,
    bridged,
    by_asset,
    complement,
    fitting_length,
    folds,
    longest_constant,
    sliding,
)


def history(*lengths: tuple[str, int]) -> list[Segment]:
    return [Segment(asset, 10_000 * i, np.zeros((n, 1))) for i, (asset, n) in enumerate(lengths)]


def test_windows_slide_by_one_row() -> None:
    values = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(sliding(values, 2)[3], values[3:5])
    assert sliding(values, 5).shape == (1, 5, 2)
    assert sliding(values, 6).shape == (0, 6, 2)


def test_gaps_are_bridged_linearly_and_held_at_the_edges() -> None:
    values = np.array(
        [[np.nan, np.nan], [1, np.nan], [np.nan, np.nan], [3, np.nan], [np.nan, np.nan]], np.float32
    )
    np.testing.assert_array_equal(bridged(values)[:, 0], [1, 1, 2, 3, 3])
    np.testing.assert_array_equal(bridged(values)[:, 1], 0)


@given(
    st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(1, 400)), min_size=1, max_size=12),
    st.sampled_from([2, 4, 16]),
)
def test_blocks_hold_every_row_once_and_the_complement_the_others(
    lengths: list[tuple[str, int]], L: int
) -> None:
    segments = history(*lengths)
    total = sum(n for _, n in lengths)
    blocks = folds(segments, L)
    seen: list[tuple[int, int]] = []
    for block in blocks:
        rows = [(p.segment, i) for p in block for i in range(p.start, p.stop)]
        rest = [(p.segment, i) for p in complement(segments, block) for i in range(p.start, p.stop)]
        assert len(rows) + len(rest) == len({*rows, *rest}) == total
        seen += rows
    assert len(seen) == len(set(seen)) == total


def test_short_histories_of_a_fleet_are_held_out_whole() -> None:
    fleet = history(*((f"a{i}", 60) for i in range(7)))
    assert by_asset(fleet, 16)
    for block in folds(fleet, 16):
        assert all(len(piece) == 60 for piece in block)
    assert not by_asset(history(("a", 60)), 16)


@pytest.mark.parametrize(
    ("lengths", "wanted", "expected"),
    [
        ([("a", 160)], 16, 16),
        ([("a", 159)], 16, 15),
        ([("a", 400)], 64, 40),
        ([("a", 40)], 16, 4),
        ([("a", 39)], 16, 0),
        ([("a", 32), ("b", 32)], 16, 16),  # two assets: whole assets are the blocks
        ([("a", 20)], 2, 2),
        ([], 16, 0),
    ],
)
def test_the_window_shrinks_to_what_the_rows_can_calibrate(
    lengths: list[tuple[str, int]], wanted: int, expected: int
) -> None:
    assert fitting_length(history(*lengths), wanted) == expected


def test_the_longest_constant_run_spans_missing_rows_and_never_if_there_is_one_value() -> None:
    never = 99
    values = np.array([[1, 5, np.nan], [np.nan, 5, np.nan], [1, 5, np.nan], [2, 5, np.nan], [2, 5, np.nan]])
    assert longest_constant([Segment("a", 0, values)], never).tolist() == [3, never, never]
    # constant within each segment, but not throughout
    two = [Segment("a", 0, np.full((4, 1), 1.0)), Segment("a", 50, np.full((6, 1), 2.0))]
    assert longest_constant(two, never).tolist() == [6]


class Counted(list[Piece]):
    """Pieces that count how often they are gone through."""

    passes = 0

    def __iter__(self) -> Iterator[Piece]:
        self.passes += 1
        return super().__iter__()


def test_the_complement_takes_one_pass_over_the_held_out_pieces() -> None:
    fleet = history(*((f"a{i}", 33) for i in range(50)))
    held = Counted(folds(fleet, 4)[0])
    assert {piece.segment for piece in complement(fleet, held)} == {i for i in range(50) if i % 5}
    assert held.passes == 1
