"""The rows that this process released."""

from __future__ import annotations

from daemon.domain import (
    SECOND_NS,
)
from daemon.runtime.history import ReleasedHistory, TrainingHistory
from tests.runtime.histories import SPEC, block


def test_rows_after_the_end_of_a_history_are_excluded() -> None:
    recent = TrainingHistory(SPEC, 1_000)
    recent.add(block("a", range(60)))
    recent.add(block("b", range(50, 60)))
    (learned,) = recent.segments(until_row=50)
    assert (learned.asset, len(learned.values)) == ("a", 50)
    released = ReleasedHistory(SPEC, 1_000)
    released.add(block("a", range(60)))
    assert [len(s.values) for s in released.newest(40 * SECOND_NS)] == [40]
    assert [len(s.values) for s in released.first(60, 60)] == [60]


def test_beyond_the_capacity_the_oldest_blocks_are_dropped() -> None:
    recent = TrainingHistory(SPEC, 35)
    for first in range(0, 100, 10):
        recent.add(block("a", range(first, first + 10)))
    (kept,) = recent.segments()
    assert (kept.first_row, len(kept.values)) == (60, 40)
