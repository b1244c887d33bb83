"""Which sensors an episode blames: what must agree, and the maximum of each sensor since the onset."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
import pytest

from daemon.detector import Explanation
from daemon.stream.attribution import PeakEvidence, SensorEvidence
from tests.stream.evidence import NAN, sensors


def test_shares_sum_to_one_over_the_observed() -> None:
    shares = PeakEvidence.since(sensors([3.0, NAN, 1.0], [3.0, NAN, 1.0], [5.0, NAN, 0.1])).shares()
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > shares[2] > shares[1] == 0.0
    assert (PeakEvidence.since(sensors(NAN, NAN, [NAN] * 3)).shares() == 0.0).all()


@pytest.mark.parametrize("alone", ["error", "residual", "deviation", "before"])
def test_no_single_kind_of_evidence_suffices(alone: str) -> None:
    row = {"error": [0.0, 2.0], "residual": [0.0, 2.0], "deviation": [0.0, 2.0], "before": [0.0, 0.0]}
    row[alone][0] = 7.0  # by far the largest of its kind
    assert PeakEvidence.since(sensors(**row)).shares().argmax() == 1


def test_a_sensor_that_changed_is_blamed_more_than_one_that_was_far_away_before() -> None:
    assert PeakEvidence.since(sensors(2.0, 2.0, [4.0, 4.0], before=[4.0, 0.0])).shares().argmax() == 1


def test_change_is_measured_from_where_the_sensor_stood_at_the_onset() -> None:
    peaks = PeakEvidence.since(sensors(1.0, 1.0, [1.0, NAN], before=[1.0, NAN]))
    peaks = peaks.grown(sensors(1.0, 1.0, [-2.0, 3.0], before=[0.0, 2.5]))
    peaks = peaks.grown(sensors(1.0, 1.0, [0.0, 2.0], before=[-2.0, 3.0]))
    np.testing.assert_array_equal(peaks.change, [3.0, 0.5])
    np.testing.assert_array_equal(peaks.deviation, [2.0, 3.0])


def test_the_value_before_the_onset_is_the_median_of_the_observed() -> None:
    window = np.array([[1.0, NAN, NAN], [9.0, 4.0, NAN], [2.0, 5.0, NAN], [3.0, NAN, NAN]])
    row = SensorEvidence.read(window[0], window[0], window, window[-1], np.zeros(3))
    np.testing.assert_array_equal(row.before, [2.0, 4.0, NAN])
    np.testing.assert_array_equal(row.deviation, window[-1])


def test_a_sensor_that_training_never_saw_has_no_share() -> None:
    nothing, window = np.array([1.0, NAN]), np.array([[0.0, 400.0], [3.0, 900.0]])
    row = SensorEvidence.read(nothing, nothing, window, window[-1], np.array([0.0, NAN]))
    np.testing.assert_array_equal(row.deviation, [3.0, NAN])
    assert PeakEvidence.since(row).shares()[1] == 0.0


def test_a_sensor_that_is_missing_keeps_its_peak() -> None:
    peaks = PeakEvidence.since(sensors([2.0, NAN], [-2.0, NAN], [1.0, NAN]))
    peaks = peaks.grown(sensors([NAN, 3.0], [NAN, 3.0], [NAN, 1.0]))
    np.testing.assert_array_equal(peaks.error, [2.0, 3.0])
    np.testing.assert_array_equal(peaks.residual, [2.0, 3.0])
    np.testing.assert_array_equal(peaks.observed, [1.0, 1.0])


def test_the_sensor_that_jumped_is_blamed_until_a_score_tells_more() -> None:
    usual = [5.0, 1.0, 0.5]
    peaks = PeakEvidence.since(sensors(usual, usual, usual, jump=[0.0, 3.0, 1.0]))
    shares = peaks.shares()
    assert shares.sum() == pytest.approx(1.0)
    assert np.argsort(-shares).tolist() == [1, 2, 0]
    assert peaks.blamed().tolist() == [False, True, True]
    for row in (sensors(usual, usual, usual), sensors(0.0, 0.0, [0.0] * 3, jump=[0.0, 9.0, 0.0])):
        peaks = peaks.grown(row)
        assert peaks.shares().argmax() == 0
    window = np.zeros((4, 3))
    row = SensorEvidence.read(window[0], window[0], window, window[0], window[0], np.array([1.0, NAN, 1.5]))
    np.testing.assert_array_equal(row.jump, [0.0, 0.0, 1.5])  # up to its limit is none


def test_what_an_explanation_leaves_counts_of_the_sensors_that_are_fine() -> None:
    row = sensors([9.0, 6.0, 1.0], [9.0, 6.0, NAN], [8.0, 3.0, 1.0], before=[0.0, 0.0, 0.0])
    peaks = PeakEvidence.since(row)
    found = Explanation(np.array([True, False, False]), np.array([9.0, 0.5, NAN]), np.array([20.0, 4.0, NAN]))
    now = replace(row, observed=np.array([30.0, 4.5, NAN]))
    fine = peaks.explained(found, now)
    np.testing.assert_array_equal(fine.error, [9.0, 0.5, 1.0])
    np.testing.assert_array_equal(fine.change, [8.0, 0.5, 1.0])
    np.testing.assert_array_equal(fine.observed, [30.0, 4.5, peaks.observed[2]])
    np.testing.assert_array_equal(fine.expected, [20.0, 4.0, peaks.expected[2]])
    assert fine.shares()[0] > 0.8 > 0.7 > peaks.shares()[0]


def test_a_spike_that_is_over_keeps_the_values_of_its_peak() -> None:
    peaks = replace(
        PeakEvidence.since(sensors([9.0, 6.0], [9.0, 6.0], [8.0, 3.0])),
        observed=np.array([90.0, 4.0]),
        expected=np.array([10.0, 2.0]),
    )
    now = replace(sensors([1.0, 1.0], [1.0, 1.0], [0.0, 0.0]), observed=np.array([11.0, 4.0]))
    found = Explanation(np.array([True, False]), np.array([5.0, 0.5]), np.array([10.5, 4.1]))
    kept = peaks.explained(found, now)
    assert (kept.observed[0], kept.expected[0]) == (90.0, 10.0)
    assert (kept.observed[1], kept.expected[1]) == (4.0, 4.1)


@pytest.mark.parametrize("apart", [False, True])
def test_the_return_to_normal_does_not_turn_the_side(apart: bool) -> None:
    """Of rows before it the model expects more rows like them: it is farther off than any of them, to the other side."""
    fault = [sensors([4.0], [3.8], [-3.8], -0.1) for _ in range(4)]
    back = sensors([4.0], [4.8], [4.8], -0.1)
    if apart:  # the scores were low in between: two runs of one alert
        peaks = PeakEvidence.since(back).joined(
            reduce(PeakEvidence.grown, fault[1:], PeakEvidence.since(fault[0]))
        )
    else:
        peaks = reduce(PeakEvidence.grown, [*fault[1:], back], PeakEvidence.since(fault[0]))
    assert (peaks.observed.tolist(), peaks.residual.tolist()) == ([-3.8], [3.8])
    # A fault to the other side that lasts is one.
    peaks = reduce(PeakEvidence.grown, [back] * 6, peaks)
    assert (peaks.observed.tolist(), peaks.residual.tolist()) == ([4.8], [4.8])
