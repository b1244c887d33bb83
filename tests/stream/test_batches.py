"""Rows that wait for their windows: none is lost, doubled or walked over again and again."""

from __future__ import annotations

import gc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.stream.batches import ReadingBatch, RowBatch, RowQueue
from daemon.stream.grid import ReleasedRow


def released(index: int, *, empty: bool = False) -> ReleasedRow:
    return ReleasedRow(f"p{index % 3}", index, [float(index)], empty, False, index, index, "")


SLOTS = {"p0": 0, "p1": 1, "p2": 2}


@given(
    st.lists(st.tuples(st.sampled_from(["add", "append", "take", "look"]), st.integers(0, 7)), max_size=40)
)
def test_rows_leave_the_queue_as_they_entered_it(moves: list[tuple[str, int]]) -> None:
    waiting = RowQueue(1)
    came, went = 0, 0
    for move, n in moves:
        some = [released(i, empty=i % 4 == 0) for i in range(came, came + n)]
        if move == "add":
            waiting.add(some)
            came += n
        elif move == "append":
            waiting.append(RowBatch.of(some, SLOTS, 1), SLOTS)
            came += n
        elif went < came and n:
            waiting.gather(SLOTS)
            rows = waiting.first(n)
            assert rows.rows.tolist() == list(range(went, min(went + n, came)))
            assert rows.values[:, 0].tolist() == rows.rows.tolist()
            if move == "take":
                went += len(waiting.take(rows))
        assert (waiting.begin, waiting.end, len(waiting)) == (went, came, came - went)
        assert waiting.observed == sum(i % 4 != 0 for i in range(went, came))


class Counted(list[str]):
    """Counts what is copied out of it."""

    copied = 0

    def __getitem__(self, some):  # type: ignore[no-untyped-def]
        found = super().__getitem__(some)
        if isinstance(some, slice):
            Counted.copied += len(found)
            return Counted(found)
        return found


def test_taking_many_rows_in_small_chunks_copies_each_once() -> None:
    n = 20_000
    index = np.arange(n)
    never = np.zeros(n, bool)
    waiting = RowQueue(1)
    waiting.append(
        RowBatch(
            Counted(["p0"] * n), 0 * index, index, index[:, None] * 1.0, never, never, index, index, [""] * n
        ),
        SLOTS,
    )
    Counted.copied = 0
    while waiting:
        waiting.take(waiting.first(10))
    assert Counted.copied <= n


def test_a_waiting_reading_is_not_tracked_by_the_garbage_collector() -> None:
    """A hundred thousand assets wait with ten rows each: as lists, a full pass over them took .4 s."""
    index = np.arange(3)
    reading = ReadingBatch(["p0"] * 3, index, index, np.ones((3, 2)), [""] * 3, index).reading(1)
    gc.collect()
    assert not gc.is_tracked(reading.values)


@given(st.lists(st.sampled_from(["kept", "left out", "inserted"]), max_size=12))
def test_rows_that_were_released_alone_take_their_places_among_the_others(drawn: list[str]) -> None:
    rows = [released(i, empty=i % 4 == 0) for i in range(len(drawn))]
    together = RowBatch.of([row for row, how in zip(rows, drawn, strict=True) if how != "inserted"], SLOTS, 1)
    out = np.flatnonzero([how == "left out" for how in drawn if how != "inserted"])
    alone = RowBatch.of([row for row, how in zip(rows, drawn, strict=True) if how == "inserted"], SLOTS, 1)
    made = together.exchanged(out, alone, np.searchsorted(together.rows, alone.rows))
    expected = RowBatch.of([row for row, how in zip(rows, drawn, strict=True) if how != "left out"], SLOTS, 1)
    assert made.assets == expected.assets
    assert made.values.tolist() == expected.values.tolist()
    assert made.empty.tolist() == expected.empty.tolist()
    assert made.last_offsets.tolist() == expected.last_offsets.tolist()
