"""The sampling period of event times with jitter and gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.adapters.sample import infer_period
from daemon.domain import SECOND_NS, Ints

START = 1_704_067_200 * SECOND_NS
MS = 10**6


def ticking(period: int, rows: int, seed: int, dropped: float = 0.0, jitter: float = 0.0) -> Ints:
    """Event times of a clock; ``jitter`` is the standard deviation in periods."""
    rng = np.random.default_rng(seed)
    times = START + period * np.arange(rows) + np.rint(rng.normal(0, jitter, rows) * period).astype(np.int64)
    kept = times[rng.random(rows) >= dropped]
    return rng.permutation(kept)


@given(
    period=st.sampled_from([10 * MS, 100 * MS, SECOND_NS, 5 * SECOND_NS, 60 * SECOND_NS, 3600 * SECOND_NS]),
    seed=st.integers(0, 999),
    dropped=st.floats(0, 0.4),
    jitter=st.floats(0, 0.06),
)
@settings(deadline=None, max_examples=60)
def test_a_round_period_is_found_through_drops_and_jitter(
    period: int, seed: int, dropped: float, jitter: float
) -> None:
    tracks = [ticking(period, 400, seed + i, dropped, jitter) for i in range(3)]
    assert infer_period(tracks) == period


@given(period=st.integers(1, 10**7), seed=st.integers(0, 99), dropped=st.floats(0, 0.4))
@settings(deadline=None, max_examples=60)
def test_the_period_of_an_exact_clock_is_exact(period: int, seed: int, dropped: float) -> None:
    assert infer_period([ticking(period * 1000, 300, seed, dropped)]) == period * 1000


@pytest.mark.parametrize(
    ("true_ns", "rounded_to_ns", "expected_ns"),
    [
        (1_003 * MS, 1, 1_003 * MS),  # exact: as it is, however near to a round one
        (1_000_700_000, 10 * MS, SECOND_NS),  # seldom a hundredth more: round
        (33_333_333, MS, 33_333_000),  # 30 Hz in whole milliseconds
        (7_300 * MS, MS, 7_300 * MS),
    ],
)
def test_rounded_times(true_ns: int, rounded_to_ns: int, expected_ns: int) -> None:
    times = START + np.arange(3000) * true_ns // rounded_to_ns * rounded_to_ns
    found = infer_period([times])
    assert found is not None
    assert found % 1000 == 0
    assert abs(found / expected_ns - 1) < 1e-4


def test_jitter_around_no_round_period_is_averaged_out() -> None:
    found = infer_period([ticking(7_300 * MS, 3000, 1, dropped=0.1, jitter=0.05)])
    assert found is not None
    assert abs(found / (7_300 * MS) - 1) < 0.005


def test_repeated_and_single_times_give_no_period() -> None:
    once = np.array([START], np.int64)
    assert infer_period([once, np.repeat(once, 5)]) is None
    assert infer_period([]) is None
    assert infer_period([once, np.array([START, START, START + SECOND_NS])]) == SECOND_NS


def test_one_long_pause_is_not_the_period() -> None:
    times = np.concatenate([START + SECOND_NS * np.arange(20), START + 10**15 + SECOND_NS * np.arange(3)])
    assert infer_period([times]) == SECOND_NS
