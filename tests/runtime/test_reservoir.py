"""A sample of all of a history: which blocks it takes, and how they are put together with the newest rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import SECOND_NS, Segment, StreamSpec
from daemon.runtime.reservoir import (
    HOUR_NS,
    block_length,
    joined,
    ranked_blocks,
    spread_over_conditions,
)

MINUTELY = StreamSpec("pumps", ("a",), period_ns=60 * SECOND_NS, window=4)
HOUR = 60  # rows


def segment(asset: str, first: int, rows: int, condition: str = "") -> Segment:
    return Segment(asset, first, np.ones((rows, 1)), (condition,) * rows if condition else ())


@pytest.mark.parametrize(
    ("wanted", "rows_per_hour", "rows"),
    [
        (24 * 60, 60, 60),  # one asset: an hour each
        (24 * 60, 6, 60),  # that seldom has a row
        (24 * 60, 180, 20),  # three assets
        (24 * 60, 60 * 20, 16),  # four windows at least
        (24 * 60, 60 * 24, None),  # of 24 assets, three blocks would be a sample of nothing
        (24 * 600, 60, 60),  # no more than an hour
    ],
)
def test_blocks_are_as_long_as_a_share_of_the_sample_and_no_longer_than_an_hour(
    wanted: int, rows_per_hour: float, rows: int | None
) -> None:
    assert block_length(MINUTELY, wanted, rows_per_hour) == rows


def test_every_hour_of_the_week_comes_once_before_any_comes_twice() -> None:
    weeks = 5
    found = ranked_blocks(0, weeks * 168 * HOUR, HOUR, MINUTELY.period_ns, seed=0)
    assert len(found) == len(set(found)) == weeks * 168
    hours = [first // HOUR % 168 for first in found]
    for week in range(weeks):
        assert Counter(hours[168 * week : 168 * (week + 1)]) == Counter(range(168))
    assert found != sorted(found)
    assert ranked_blocks(0, weeks * 168 * HOUR, HOUR, MINUTELY.period_ns, seed=1) != found


def test_blocks_lie_wholly_in_the_history_and_of_a_short_one_there_may_be_none() -> None:
    found = ranked_blocks(50, 200, HOUR, MINUTELY.period_ns, seed=0)
    assert sorted(found) == [60, 120]
    assert ranked_blocks(50, 110, HOUR, MINUTELY.period_ns, seed=0) == []


def test_a_longer_history_takes_most_of_the_same_blocks() -> None:
    weeks = 168 * HOUR
    before = ranked_blocks(0, 8 * weeks, HOUR, MINUTELY.period_ns, seed=0)[:168]
    after = ranked_blocks(0, 9 * weeks, HOUR, MINUTELY.period_ns, seed=0)[:168]
    assert len(set(before) & set(after)) > 130  # of each hour one in nine gives way


def test_a_rare_condition_has_as_many_rows_as_the_common_one_while_there_are_any() -> None:
    common = [[segment("p", 100 * i, 60, "on")] for i in range(8)]
    rare = [[segment("p", 1_000 + 100 * i, 60, "off")] for i in range(2)]
    chosen = spread_over_conditions([*common, *rare], 300)
    assert Counter(block[0].condition[0] for block in chosen) == {"on": 3, "off": 2}
    assert chosen[0] is common[0]
    assert spread_over_conditions(common, 120) == common[:2]
    assert spread_over_conditions([], 120) == []


def test_what_lies_between_two_parts_is_no_silence() -> None:
    parts = [
        [segment("b", 10, 5), segment("b", 20, 5), segment("a", 10, 5)],
        [segment("a", 0, 5), segment("b", 40, 5)],
    ]
    found = [(s.asset, s.first_row, s.after_cut) for s in joined(parts)]
    assert found == [("a", 0, True), ("a", 10, True), ("b", 10, True), ("b", 20, False), ("b", 40, True)]


def test_hours_are_of_event_time() -> None:
    found = ranked_blocks(0, 3 * HOUR, HOUR // 2, MINUTELY.period_ns, seed=3)
    assert {first * MINUTELY.period_ns // HOUR_NS for first in found[:3]} == {0, 1, 2}
    assert replace(MINUTELY).period_ns * HOUR == HOUR_NS
