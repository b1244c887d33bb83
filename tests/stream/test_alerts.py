"""Whom an episode blames: both rankings, and the farthest each sensor went since the onset."""

from __future__ import annotations

import numpy as np

from daemon.domain import AlarmPolicy, AlertEvent, Floats, InputPartition, Phase, StreamSpec
from daemon.stream.alerts import Episodes, Finding, blame, farthest

SENSORS = ("Pressure", "Current", "Flow")
NAN = float("nan")


def finding(row: int, score: float, error: list[float], observed: list[float] | None = None) -> Finding:
    seen = np.array(observed or error)
    sensors = np.stack([np.array(error), np.abs(seen), seen, np.zeros(len(error))])
    return Finding(row, score, {}, sensors, 0.0, row, row)


def play(*findings: Finding, policy: AlarmPolicy | None = None) -> list[AlertEvent]:
    """Every message that these rows cause, at a threshold of 3."""
    episodes = Episodes(StreamSpec("pumps", SENSORS), InputPartition("t", 0), policy or AlarmPolicy())
    said: list[AlertEvent] = []
    for one in findings:
        if not episodes.quiet("p", one.score, 3.0):
            said += episodes.scored("p", one, 3.0, "m", "full")[1]
    return said


def blamed(event: AlertEvent) -> list[tuple[str, float | None]]:
    return [(c.sensor, c.observed) for c in event.contributors]


def test_shares_sum_to_one_over_the_observed() -> None:
    shares = blame(np.array([[3.0, NAN, 1.0], [NAN] * 3]), np.array([[5.0, NAN, 0.1], [NAN] * 3]))
    np.testing.assert_allclose(shares.sum(1), [1.0, 0.0])
    assert shares[0, 0] > shares[0, 2] > shares[0, 1] == 0.0


def test_two_rankings_outvote_one() -> None:
    error, deviation = np.array([3.0, 2.0, 1.0]), np.array([0.0, 5.0, 1.0])
    assert blame(error, deviation).argmax() == 1


def test_an_episode_blames_by_the_farthest_since_its_onset() -> None:
    policy = AlarmPolicy(refractory=0)
    opened, closed = play(
        finding(1, 0.0, [9.0, 0.0, 0.0]),  # before: nobody's business
        finding(2, 4.0, [2.0, 8.0, 1.0]),
        finding(3, 4.0, [7.0, 1.0, 1.5]),
        finding(4, 0.0, [0.1, 0.1, 0.1]),
        policy=policy,
    )
    assert (opened.phase, closed.phase) == (Phase.OPENED, Phase.CLOSED)
    assert blamed(opened) == [("Current", 8.0), ("Pressure", 2.0), ("Flow", 1.0)]
    assert blamed(closed) == [("Current", 8.0), ("Pressure", 7.0), ("Flow", 1.5)]


def test_the_next_episode_begins_anew() -> None:
    policy = AlarmPolicy(refractory=0)
    said = play(
        finding(1, 4.0, [9.0, 0.0, 0.0]),
        finding(2, 0.0, [0.0, 0.0, 0.0]),
        finding(3, 4.0, [0.0, 0.0, 5.0]),
        policy=policy,
    )
    assert [(e.phase, e.contributors[0].sensor) for e in said] == [
        (Phase.OPENED, "Pressure"),
        (Phase.CLOSED, "Pressure"),
        (Phase.OPENED, "Flow"),
    ]


def test_rows_before_persistence_count_from_the_onset_on() -> None:
    policy = AlarmPolicy(needed=2, of=2)
    (opened,) = play(finding(1, 4.0, [0.0, 6.0, 0.0]), finding(2, 4.0, [0.0, 0.0, 4.0]), policy=policy)
    assert blamed(opened)[:2] == [("Current", 6.0), ("Flow", 4.0)]


def test_a_sensor_that_is_missing_keeps_its_peak() -> None:
    a: Floats = np.array([[2.0, NAN], [1.0, NAN], [2.0, NAN], [0.0, 0.0]])
    b: Floats = np.array([[NAN, 3.0], [NAN, 1.0], [NAN, 3.0], [0.0, 0.0]])
    peaks = farthest(farthest(None, a), b)
    assert peaks is not None
    np.testing.assert_array_equal(peaks[:3], [[2.0, 3.0], [1.0, 1.0], [2.0, 3.0]])
