"""The anomaly machine, score by score: when an episode begins, lasts, ends and is taken up again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.alarm import Alarm, State, firing
from daemon.domain import AlarmPolicy

T = 4.0
LOW, HELD, HIGH = 2.0, 3.0, 5.0  # a closing level of LOW


@pytest.mark.parametrize(
    ("policy", "scores", "states"),
    [
        # above the threshold is above; at the closing level is below
        (AlarmPolicy(), [T, HIGH, T, HELD, LOW, HIGH], "I F F F I F"),
        # so many of the newest so many
        (AlarmPolicy(2, 2), [HIGH, HIGH, LOW], "P F I"),
        (AlarmPolicy(2, 2), [HIGH, LOW, HIGH, LOW], "P I P I"),
        (AlarmPolicy(2, 2), [HIGH, HELD, HIGH, HIGH], "P P P F"),
        (AlarmPolicy(2, 3), [HIGH, LOW, HIGH], "P I F"),
        (AlarmPolicy(2, 3), [HIGH, LOW, LOW, HIGH], "P I I P"),
        # an episode that is over may be taken up again within the refractory time, with as many as began it
        (AlarmPolicy(1, 1, refractory=3), [HIGH, LOW, LOW, LOW, LOW, HIGH], "F R R R I F"),
        (
            AlarmPolicy(1, 1, refractory=3),
            [HIGH, LOW, LOW, HIGH, LOW, LOW, LOW, LOW],
            "F R R F R R R I",
        ),
        # it is counted in rows, of which only each hop-th is scored
        (AlarmPolicy(1, 1, refractory=4, hop=2), [HIGH, LOW, LOW, LOW], "F R R I"),
        (AlarmPolicy(1, 1, refractory=2), [HIGH, LOW, HELD, HELD], "F R R I"),
        (AlarmPolicy(2, 2, refractory=3), [HIGH, HIGH, LOW, HIGH, HIGH], "P F R R F"),
        (AlarmPolicy(2, 2, refractory=2), [HIGH, HIGH, LOW, HIGH, LOW], "P F R R I"),
    ],
)
def test_states_follow_from_scores(policy: AlarmPolicy, scores: list[float], states: str) -> None:
    alarm = Alarm()
    assert " ".join(alarm.step(score, T, LOW, policy).name[0] for score in scores) == states


@pytest.mark.parametrize(
    ("policy", "jumps", "states"),
    [
        (AlarmPolicy(), [1.0, 1.1, 0.0], "I F I"),  # beyond its limit is beyond
        (AlarmPolicy(2, 3), [1.1, 0.0, 1.1], "P I F"),
        (AlarmPolicy(1, 1, refractory=2), [1.1, 0.0, 0.0, 0.0], "F R R I"),
        (AlarmPolicy(), [float("nan"), 1.1], "I F"),
    ],
)
def test_a_jump_opens_beside_a_low_score(policy: AlarmPolicy, jumps: list[float], states: str) -> None:
    alarm = Alarm()
    assert " ".join(alarm.step(LOW, T, LOW, policy, jump).name[0] for jump in jumps) == states


@given(st.integers(0, 2**31), st.sampled_from([(1, 1), (2, 3)]))
def test_a_whole_series_fires_where_the_machine_does(seed: int, persistence: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    policy = AlarmPolicy(*persistence)
    scores, jumps = rng.choice([LOW, HELD, HIGH, np.nan], 60), rng.choice([0.0, 0.0, 1.5, np.nan], 60)
    alarm = Alarm()
    states = [
        alarm.state if score != score else alarm.step(score, T, LOW, policy, jump)
        for score, jump in zip(scores.tolist(), jumps.tolist(), strict=True)
    ]
    fires = [state is State.FIRING for state in states]
    assert firing(scores, T, LOW, policy, jumps).tolist() == fires
