"""The smallest repair against trying every set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.detector import Windows
from daemon.domain import (
    SECOND_NS,
    Floats,
    Segment,
    StreamSpec,
)
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from daemon.model.repair import (
    SETS,
    Cause,
    View,
    score_without,
    sets_of,
    smallest_repair,
)
from daemon.model.track import Track
from daemon.model.training import train
from tests.model.conftest import QUICK, TARGET
from tests.model.repair.conftest import FAULT, ROWS, WIDE, many, shift, track_of, verdict, wide
from tests.naive import fewest_sensors, masked_score


def oracle(detector: BundleDetector, view: View) -> Callable[[Floats], float]:
    """The detector's score of one window by itself, by the way that the stream takes."""

    def score(window: Floats) -> float:
        evidence = detector.infer(Windows(window[None], np.ones(1, bool), (view.condition,)))
        return float(detector.judge(evidence, view.baseline[None].copy(), np.zeros(1, np.int64)).score[0])

    return score


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
@pytest.mark.parametrize("sensors", [(0,), (2,), (3,), (0, 1), (1, 2), (0, 1, 2)])
def test_the_smallest_repair_is_what_trying_everything_finds(
    kind: str, sensors: tuple[int, ...], bundles: Callable[[str], Bundle]
) -> None:
    detector = bundles(kind).detector()
    track = track_of(detector, shift(sensors, 5.0))
    view = track.view(track.index_from(track.first_row + FAULT + 8))
    blame = np.random.default_rng(3).dirichlet(np.ones(4))
    found = smallest_repair(detector, view, blame)
    level = detector.closing
    score = oracle(detector, view)
    expected = fewest_sensors(score, view.values, blame, level, 3)
    assert found.level == pytest.approx(level)
    assert found.before == pytest.approx(masked_score(score, view.values, ()), rel=1e-5)
    if expected is None:
        assert not found.enough
        return
    assert found.exact
    assert set(found.sensors) == set(expected)
    assert found.after == pytest.approx(masked_score(score, view.values, expected), rel=1e-5)


def test_one_broken_sensor_of_many_is_found() -> None:
    for c in range(WIDE):
        track = track_of(wide(), shift((c,), 4.0), many(ROWS, 7))
        index = track.index_from(track.first_row + FAULT + 20)
        view = track.view(index)
        found = smallest_repair(wide(), view, np.full(WIDE, 1.0 / WIDE))
        assert found.sensors == (c,)
        assert verdict(wide(), track, index, found).cause is Cause.BROKEN_SENSOR


@pytest.mark.parametrize("off", [(0, 2, 3, 5, 6, 8), (6, 4, 7, 8, 3), (5, 1, 2, 4, 8)])
def test_the_greedy_search_finds_many_sensors_and_no_superfluous_one(off: tuple[int, ...]) -> None:
    track = track_of(wide(), shift(off, 5.67), many(ROWS, 7))
    index = track.index_from(track.first_row + FAULT + 20)
    view = track.view(index)
    found = smallest_repair(wide(), view, np.full(WIDE, 1.0 / WIDE))
    score = oracle(wide(), view)
    assert fewest_sensors(score, view.values, np.ones(WIDE), found.level, 3) is None
    assert found.enough
    assert found.fewest == 4  # all smaller sets were tried
    assert 4 <= len(found.sensors) < WIDE
    assert found.after == pytest.approx(masked_score(score, view.values, found.sensors), rel=1e-5)
    for c in found.sensors:
        assert (
            masked_score(score, view.values, [other for other in found.sensors if other != c]) > found.level
        )
    assert verdict(wide(), track, index, found).cause is not Cause.BROKEN_SENSOR


def test_a_normal_window_needs_no_repair_and_has_no_cause(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = track_of(detector, lambda rows: None)
    quiet = int(np.argmin(track.verdicts.score))
    view = track.view(quiet)
    found = smallest_repair(detector, view, np.ones(4))
    assert found.sensors == ()
    assert found.enough
    assert found.before == found.after
    assert verdict(detector, track, quiet, found).cause is None


def test_of_two_that_contradict_each_other_the_more_blamed_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    wander = np.convolve(rng.standard_normal(1_549), np.ones(50) / 7.0, "valid")
    pair = np.stack([wander, wander], 1)
    spec = StreamSpec("pair", ("a", "b"), period_ns=60 * SECOND_NS)
    history = [Segment("a", 0, pair + 0.05 * rng.standard_normal(pair.shape))]
    detector = train(history, spec, replace(QUICK, kind="ppca"), TARGET).detector()
    values = pair[:ROWS] + 0.05 * rng.standard_normal((ROWS, 2))
    far = FAULT + 30 + int(np.argmin(np.abs(np.abs(pair[FAULT + 30 : ROWS, 0]) - 0.75)))
    values[FAULT:, 0] -= 1.5 * np.sign(pair[far, 0])  # either alone is in order
    track = Track.of(detector, "a", 0, values)
    view = track.view(track.index_from(far))
    for blamed in (0, 1):
        blame = np.array([0.3, 0.3])
        blame[blamed] = 0.7
        found = smallest_repair(detector, view, blame)
        assert found.sensors == (blamed,)
        assert found.others == 1


def test_sets_are_all_there_are_or_those_of_the_most_blamed() -> None:
    sets, whole = sets_of([4, 2, 0, 3], 2)
    assert whole
    assert sets[0] == (4, 2)
    assert len(sets) == 6
    sets, whole = sets_of(list(range(40)), 3)
    assert whole
    assert len(sets) == 9_880
    sets, whole = sets_of(list(range(60)), 3)
    assert not whole
    assert len(sets) <= SETS
    assert max(map(max, sets)) == 39


def test_sensors_without_a_value_are_not_taken_out(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = track_of(detector, shift((0, 1), 6.0))
    view = track.view(track.index_from(track.first_row + FAULT + 8))
    holed = replace(view, values=np.where(np.arange(4) == 1, np.nan, view.values))
    found = smallest_repair(detector, holed, np.array([0.1, 0.9, 0.1, 0.1]))
    assert 1 not in found.sensors
    assert np.isinf(score_without(detector, holed, [(0, 2, 3)])).all()
