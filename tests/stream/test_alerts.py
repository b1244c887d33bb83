"""Whom an episode blames: what must agree, and the farthest each sensor went since the onset."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import AlarmPolicy, AlertEvent, InputPartition, Phase, StreamSpec
from daemon.stream.alerts import Episodes, Finding, Peaks, Sensors

SENSORS = ("Pressure", "Current", "Flow")
NAN = float("nan")


def finding(row: int, score: float, error: list[float], observed: list[float] | None = None) -> Finding:
    seen = np.array(observed or error)
    return Finding(row, score, {}, sensors(error, error, seen), 0.0, row, row)


def sensors(error: object, residual: object, deviation: object, before: object = 0.0) -> Sensors:
    """One row's; observed is the deviation and 0 expected."""
    far = np.array(deviation, float)
    same = [np.broadcast_to(np.asarray(one, float), far.shape) for one in (error, residual, before, 0.0)]
    return Sensors(same[0], same[1], far, same[2], far, same[3])


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
    shares = Peaks.since(sensors([3.0, NAN, 1.0], [3.0, NAN, 1.0], [5.0, NAN, 0.1])).shares()
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > shares[2] > shares[1] == 0.0
    assert (Peaks.since(sensors(NAN, NAN, [NAN] * 3)).shares() == 0.0).all()


@pytest.mark.parametrize("alone", ["error", "residual", "deviation", "before"])
def test_no_evidence_convicts_alone(alone: str) -> None:
    row = {"error": [0.0, 2.0], "residual": [0.0, 2.0], "deviation": [0.0, 2.0], "before": [0.0, 0.0]}
    row[alone][0] = 7.0  # by far the largest of its kind
    assert Peaks.since(sensors(**row)).shares().argmax() == 1


def test_who_has_long_been_far_away_is_blamed_less_than_who_just_left() -> None:
    assert Peaks.since(sensors(2.0, 2.0, [4.0, 4.0], before=[4.0, 0.0])).shares().argmax() == 1


def test_change_is_measured_from_where_the_sensor_stood_at_the_onset() -> None:
    peaks = Peaks.since(sensors(1.0, 1.0, [1.0, NAN], before=[1.0, NAN]))
    peaks = peaks.grown(sensors(1.0, 1.0, [-2.0, 3.0], before=[0.0, 2.5]))
    peaks = peaks.grown(sensors(1.0, 1.0, [0.0, 2.0], before=[-2.0, 3.0]))
    np.testing.assert_array_equal(peaks.change, [3.0, 0.5])
    np.testing.assert_array_equal(peaks.deviation, [2.0, 3.0])


def test_what_stood_before_is_the_median_of_the_observed() -> None:
    window = np.array([[1.0, NAN, NAN], [9.0, 4.0, NAN], [2.0, 5.0, NAN], [3.0, NAN, NAN]])
    row = Sensors.read(window[0], window[0], window, window[-1], np.zeros(3))
    np.testing.assert_array_equal(row.before, [2.0, 4.0, NAN])
    np.testing.assert_array_equal(row.deviation, window[-1])


def test_a_sensor_that_training_never_saw_is_not_to_blame() -> None:
    nothing, window = np.array([1.0, NAN]), np.array([[0.0, 400.0], [3.0, 900.0]])
    row = Sensors.read(nothing, nothing, window, window[-1], np.array([0.0, NAN]))
    np.testing.assert_array_equal(row.deviation, [3.0, NAN])
    assert Peaks.since(row).shares()[1] == 0.0


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
    peaks = Peaks.since(sensors([2.0, NAN], [-2.0, NAN], [1.0, NAN]))
    peaks = peaks.grown(sensors([NAN, 3.0], [NAN, 3.0], [NAN, 1.0]))
    np.testing.assert_array_equal(peaks.error, [2.0, 3.0])
    np.testing.assert_array_equal(peaks.residual, [2.0, 3.0])
    np.testing.assert_array_equal(peaks.observed, [1.0, 1.0])
