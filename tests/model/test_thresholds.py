"""Another budget: the thresholds that training would have found with it, without a training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.budget import Budget
from daemon.domain import AlarmPolicy, Segment
from daemon.model.bundle import Bundle
from daemon.model.tails import Tail, TailTable
from daemon.model.thresholds import EpisodeCurve, closing_level, usual_level
from daemon.model.training import train
from tests.model.conftest import QUICK, SPEC, TARGET, machine
from tests.naive import replayed_episodes

SETTINGS = replace(QUICK, kind="ppca")
HISTORY = [Segment(f"pump-{i}", 1_000, machine(1_500, seed=i)) for i in range(2)]


def trained_for(budget: Budget, deviation_budget: Budget) -> Bundle:
    target = replace(TARGET, budget=budget, deviation_budget=deviation_budget)
    return Bundle.from_bytes(train(HISTORY, SPEC, SETTINGS, target).to_bytes())


def test_thresholds_for_another_budget_are_those_of_a_training_with_it_to_the_last_digit() -> None:
    rare = trained_for(Budget(0.1), Budget(0.1))
    often = trained_for(Budget(9.0, per_stream=True), Budget(6.0))
    assert rare.detector().calibration == "provisional"
    assert often.detector().calibration == "full"
    for one, other in ((rare, often), (often, rare)):
        budgets = other.calibration.search.budget, other.sustained.search.budget  # type: ignore[union-attr]
        found, expected = one.detector(*budgets), other.detector()
        assert found.version == one.version, "the model is the same"
        assert found.threshold == expected.threshold != one.detector().threshold
        assert (found.closing, found.calibration) == (expected.closing, expected.calibration)
        assert found.part_thresholds == expected.part_thresholds
        mine, theirs = found.calibrated.jump_limit, expected.calibrated.jump_limit
        np.testing.assert_array_equal(mine, theirs)
        assert (mine != one.calibration.jump_limit).any()
        assert found.sustained is not None
        assert expected.sustained is not None
        np.testing.assert_array_equal(found.sustained.opens, expected.sustained.opens)
        np.testing.assert_array_equal(found.sustained.closes, expected.sustained.closes)
        assert found.sustained.provisional == expected.sustained.provisional


def test_a_bundle_that_keeps_nothing_to_find_them_from_keeps_its_thresholds(linear: Bundle) -> None:
    fixed = replace(linear, calibration=replace(linear.calibration, search=None))
    again = Bundle.from_bytes(fixed.to_bytes())
    assert again.detector(Budget(50.0)).threshold == linear.calibration.threshold


def test_what_a_bundle_keeps_for_other_budgets_is_small(linear: Bundle) -> None:
    assert linear.calibration.search is not None
    assert linear.sustained is not None
    assert linear.sustained.search is not None
    kept = {**linear.calibration.search.arrays(), **linear.sustained.search.arrays()}
    assert sum(array.nbytes for array in kept.values()) < 8_000 + 3 * len(linear.sensors) * 600 * 16


@given(st.integers(0, 2**31), st.floats(1.0, 30.0), st.sampled_from([(1, 1), (2, 3)]))
def test_a_curve_counts_the_episodes_that_a_replay_opens(
    seed: int, allowed: float, persistence: tuple[int, int]
) -> None:
    policy = AlarmPolicy(*persistence)
    series = [np.random.default_rng([seed, i]).exponential(size=60) for i in range(3)]
    usual = usual_level(np.concatenate(series))
    curve = EpisodeCurve.of(series, policy, usual)
    opened = [replayed_episodes(series, T, closing_level(T, usual, policy), policy) for T in curve.candidates]
    assert curve.episodes.tolist() == opened
    assert curve.lowest(0.5) == max(one.max() for one in series)
    kept = curve.lowest(allowed)
    above = curve.candidates >= kept
    assert (curve.episodes[above][1:] <= allowed).all()


@given(st.integers(0, 2**31), st.floats(0.0, 30.0), st.floats(0.0, 5.0))
def test_the_upper_parts_of_tails_have_the_values_of_the_whole_ones(
    seed: int, level: float, least: float
) -> None:
    rng = np.random.default_rng(seed)
    tails = [Tail.fit(rng.exponential(size=n).round(2)) for n in (0, 1, 50, 3_000)]
    level = max(level, least)
    found = TailTable.of(tails, least).inverse(level)
    assert found.tolist() == [tail.inverse(level) for tail in tails]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(), "1 per week"),
        (Budget(2.0), "2 per day"),
        (Budget(3 / 7), "3 per week"),
        (Budget(1 / 30), "1 per month"),
        (Budget(10.0, per_stream=True), "10 per day per stream"),
    ],
)
def test_a_budget_is_written_as_the_configuration_writes_it(budget: Budget, expected: str) -> None:
    assert str(budget) == expected
