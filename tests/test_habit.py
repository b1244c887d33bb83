"""When a silence is unusual, against an oracle that walks through the minutes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import DAY_NS, SECOND_NS, Mask
from daemon.habit import DAY_SLOTS, SLOT_NS, SLOTS, WEEK_NS, SilenceHabit
from tests.naive import silence_due

MINUTE_NS, HOUR_NS = 60 * SECOND_NS, 3_600 * SECOND_NS
NIGHT = np.tile((np.arange(DAY_SLOTS) < 6 * 4) | (np.arange(DAY_SLOTS) >= 20 * 4), 7)


def habit(usual: Mask, longest_ns: int = 10 * HOUR_NS, any_hour_ns: int = 0) -> SilenceHabit:
    return SilenceHabit(usual[None], np.array([longest_ns]), np.array([any_hour_ns]))


def due(of: SilenceHabit, begin_ns: int, patience_ns: int = 10 * MINUTE_NS) -> int:
    return int(of.due_ns(0, np.array([begin_ns]), patience_ns)[0])


RUNS = st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(1, SLOTS)), max_size=3)


@settings(max_examples=150, deadline=None)
@given(
    RUNS,
    st.integers(0, 20 * 60),
    st.one_of(st.just(0), st.integers(1, 20 * 60)),
    st.integers(0, 3 * 7 * 24 * 60),
    st.integers(1, 180),
)
def test_a_silence_is_unusual_from_the_minute_that_the_oracle_names(
    runs: list[tuple[int, int]], longest: int, any_hour: int, begin: int, patience: int
) -> None:
    usual = np.zeros(SLOTS, bool)
    for first, count in runs:
        usual[np.arange(first, first + count) % SLOTS] = True
    longest_ns, any_hour_ns, begin_ns, patience_ns = (
        n * MINUTE_NS for n in (longest, any_hour, begin, patience)
    )
    found = due(habit(usual, longest_ns, any_hour_ns), begin_ns, patience_ns)
    assert -(-found // MINUTE_NS) * MINUTE_NS == silence_due(
        usual, longest_ns, any_hour_ns, begin_ns, patience_ns
    )


def test_without_habits_a_silence_is_unusual_after_the_patience() -> None:
    plain = habit(np.zeros(SLOTS, bool), 0)
    assert not plain.has(0)
    assert due(plain, 5 * DAY_NS, 3 * HOUR_NS) == 5 * DAY_NS + 3 * HOUR_NS


@pytest.mark.parametrize(
    ("began", "unusual"),
    [
        (11.0, 11 + 1 / 6),  # at an unusual hour
        (18.75, 18.75 + 1 / 6),
        (19.5, 24 + 7),  # dusk: half an hour early is within the margin, and so is an hour after dawn
        (22.0, 24 + 7),
    ],
)
def test_a_night_is_usual_and_what_lasts_beyond_it_is_not(began: float, unusual: float) -> None:
    found = due(habit(NIGHT), 7 * DAY_NS + round(began * HOUR_NS))
    assert abs(found - 7 * DAY_NS - unusual * HOUR_NS) <= 1


def test_a_silence_longer_than_any_of_training_is_unusual_at_every_hour() -> None:
    always = habit(np.ones(SLOTS, bool), 6 * HOUR_NS)
    assert due(always, DAY_NS) == DAY_NS + 8 * HOUR_NS


def test_habits_are_put_in_words() -> None:
    sunday = np.arange(SLOTS) // DAY_SLOTS == 3
    usual = np.stack([NIGHT, NIGHT | sunday, np.zeros(SLOTS, bool), sunday, np.ones(SLOTS, bool)])
    of = SilenceHabit(usual, np.array([1, 1, 1, 1, 1]), np.array([0, 0, 2 * HOUR_NS, 0, 0]))
    assert of.described(("a", "b", "c", "d")) == [
        "a: silent every day from 20:00 to 06:00 UTC",
        "b: silent every day from 20:00 to 06:00 UTC",
        "b: silent from Sun 06:00 to Sun 20:00 UTC",
        "c: silent for up to 2 h at any hour",
        "d: silent from Sun 00:00 to Mon 00:00 UTC",
        "the whole asset: silent at all hours UTC",
    ]


def test_a_bundle_keeps_all_of_it_in_few_bytes() -> None:
    of = SilenceHabit(np.stack([NIGHT, ~NIGHT]), np.array([3, 4]), np.array([0, 5]))
    again = SilenceHabit.of(of.arrays())
    assert sum(array.nbytes for array in of.arrays().values()) == 2 * (SLOTS // 8 + 16)
    begin = np.arange(0, WEEK_NS, 7 * SLOT_NS)
    for place in (0, 1):
        np.testing.assert_array_equal(again.due_ns(place, begin, 1), of.due_ns(place, begin, 1))
