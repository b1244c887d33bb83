"""Scores, thresholds and the alarm budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.alarm import episodes, firing
from daemon.budget import Budget
from daemon.domain import SECOND_NS, AlarmPolicy, Floats, Segment
from daemon.model.bundle import Bundle
from daemon.model.calibration import (
    calibrate,
    top_count,
    top_mean,
)
from daemon.model.crossfit import CrossFit, HeldOutPiece, crossfit
from daemon.model.promotion import judged
from daemon.model.thresholds import EpisodeCurve, beyond_nats, closing_level, usual_level
from daemon.model.training import Architecture, CalibrationTarget, fit_models, train
from tests.model.conftest import QUICK, SPEC, machine, trained
from tests.naive import replayed_episodes


def lowest_threshold(series: list[Floats], allowed: float, policy: AlarmPolicy, usual: float) -> float:
    """The threshold for so many episodes."""
    return EpisodeCurve.of(series, policy, usual).lowest(allowed)


def test_top_k_counts_observed_cells_only() -> None:
    values = np.array([[3.0, 1.0, np.nan, 2.0], [np.nan, np.nan, np.nan, 4.0], [np.nan] * 4])
    np.testing.assert_array_equal(top_mean(values, 2), [2.5, 4.0, np.nan])
    np.testing.assert_array_equal(top_mean(values[:1, :2], 1), [3.0])
    assert [top_count(c) for c in (1, 6, 7, 18, 38)] == [1, 1, 2, 3, 3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(1.0, 20.0), st.sampled_from([(1, 1), (2, 3)]))
def test_the_threshold_keeps_the_budget_and_a_lower_one_breaks_it(
    seed: int, allowed: float, persistence: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    policy = AlarmPolicy(needed=persistence[0], of=persistence[1])
    series = [np.convolve(rng.standard_normal(120), np.ones(3) / 3, "same") for _ in range(4)]
    series[1][30:40] = np.nan
    usual = usual_level(np.concatenate(series))
    threshold = lowest_threshold(series, allowed, policy, usual)

    def opened(at: float) -> int:
        return replayed_episodes(series, at, closing_level(at, usual, policy), policy)

    assert opened(threshold) <= allowed
    everything = np.concatenate(series)
    everything = everything[np.isfinite(everything)]
    if threshold > np.quantile(everything, 0.9):  # the search stops at the first violation below
        lower = np.sort(everything[everything < threshold])[::-1][: len(everything) // 10]
        assert any(opened(float(t)) > allowed for t in lower)


def test_less_than_one_allowed_episode_takes_the_maximum_and_is_provisional() -> None:
    scores = np.array([1.0, 9.0, 2.0])
    assert lowest_threshold([scores], 0.9, AlarmPolicy(), np.inf) == 9.0
    short = trained([Segment("a", 0, machine(400))], period_ns=SECOND_NS)
    assert short.detector().calibration == "provisional"


def test_one_incident_in_training_costs_one_episode_not_the_threshold() -> None:
    calm = np.abs(np.random.default_rng(0).standard_normal(2_000))
    incident = calm.copy()
    incident[900:1_000] = 50.0
    policy = AlarmPolicy()
    assert lowest_threshold([incident], 6.0, policy, 2.6) < 1.3 * lowest_threshold([calm], 5.0, policy, 2.6)


def measured(factor: float) -> tuple[CrossFit, list[HeldOutPiece]]:
    """A cross-fit, and the same pieces with errors that are larger by a factor, as deployed models may have."""
    history = [Segment("a", 0, machine(1_500))]
    architecture = Architecture(replace(QUICK, kind="ppca"), (4, 16))
    cross = crossfit(history, lambda some: fit_models(history, some, SPEC, architecture), 16, 60)
    return cross, [
        replace(piece, measured=replace(piece.measured, channel_error=factor * piece.measured.channel_error))
        for piece in cross.held
    ]


@pytest.mark.parametrize(("factor", "raised"), [(1.5, True), (0.5, False)])
def test_the_threshold_keeps_the_budget_for_the_deployed_models_too(factor: float, raised: bool) -> None:
    cross, deployed = measured(factor)
    arguments = cross, SPEC.period_ns, AlarmPolicy(), Budget(6.0)
    alone, both = calibrate(*arguments), calibrate(*arguments, deployed)
    assert (both.threshold > alone.threshold) == raised
    assert both.threshold >= alone.threshold
    np.testing.assert_array_equal(both.top[0].value, alone.top[0].value)  # only the threshold depends on it


@pytest.mark.parametrize(("episodes", "provisional"), [(0.9, True), (1.1, True), (1.3, False)])
def test_calibration_is_full_once_the_share_of_scores_is_an_episode(
    episodes: float, provisional: bool
) -> None:
    cross, _ = measured(1.0)
    days = calibrate(cross, SPEC.period_ns, AlarmPolicy(), Budget(1.0)).days
    found = calibrate(cross, SPEC.period_ns, AlarmPolicy(), Budget(episodes / days))
    assert found.provisional is provisional


def test_an_episode_closes_at_the_hysteresis_or_lower_where_scores_are_usual() -> None:
    """The 99 % quantile of the cross-fitted scores, whatever the deployed models score."""
    cross, deployed = measured(1.5)
    rare, often = Budget(1e-3), Budget(24.0)  # a high and a low threshold
    policy = AlarmPolicy(hysteresis=0.8)
    high = calibrate(cross, SPEC.period_ns, policy, rare, deployed)
    assert high.closing == calibrate(cross, SPEC.period_ns, policy, rare).closing < 0.8 * high.threshold
    low = calibrate(cross, SPEC.period_ns, AlarmPolicy(hysteresis=0.3), often, deployed)
    assert low.closing == 0.3 * low.threshold < high.closing
    assert usual_level(np.arange(101.0)) == 99.0
    assert usual_level(np.array([np.nan])) == np.inf


def test_a_long_incident_is_one_episode_however_high_the_threshold() -> None:
    scores = np.full(400, 1.0)
    scores[:4] = 2.0
    scores[100:200:2], scores[101:200:2] = np.linspace(9.1, 9.6, 50), 3.0  # 3 is not usual, but below 0.8 T
    usual = usual_level(scores[:100])
    assert episodes(firing(scores, 9.0, closing_level(9.0, usual, AlarmPolicy()), AlarmPolicy())) == 1
    assert episodes(firing(scores, 9.0, 0.8 * 9.0, AlarmPolicy())) == 50
    # The search replays each threshold with the closing level that it would have.
    assert lowest_threshold([scores], 1.0, AlarmPolicy(), usual) < 9.1
    assert lowest_threshold([scores], 1.0, AlarmPolicy(), np.inf) > 9.5


def test_calibration_scores_the_held_out_rows_within_budget(bundle: Bundle) -> None:
    calibration = bundle.calibration
    assert calibration.provisional  # of one episode, scores have a share
    assert calibration.days == pytest.approx((1_500 - 15) / 1_440, rel=0.02)
    assert 1.5 < calibration.threshold < 12.0
    assert 0.0 < calibration.closing <= 0.8 * calibration.threshold


@pytest.mark.parametrize("hop", [1, 8])
def test_held_out_normal_rows_realise_about_the_budget_at_any_hop(hop: int) -> None:
    day = 1_440  # rows
    budget = Budget(6.0)  # a day
    history = [Segment(f"p{i}", 3, machine(3 * day, 30 + i)) for i in range(3)]
    spec = replace(SPEC, hop=hop)
    bundle = train(history, spec, replace(QUICK, kind="ppca"), CalibrationTarget(AlarmPolicy(), budget, 60))
    detector = bundle.detector()
    fresh = [Segment(f"p{i}", 7, machine(6 * day, 60 + i)) for i in range(3)]
    rows = [judged(detector, segment, hop) for segment in fresh]
    opened = sum(
        episodes(firing(scores, detector.threshold, detector.closing, AlarmPolicy(), jumps))
        for scores, jumps in rows
    )
    allowed = budget.episodes_per_day * sum(np.isfinite(one).sum() for one, _ in rows) * hop / day
    assert allowed == pytest.approx(6 * 6 * 3, rel=0.02)
    assert 0.5 < opened / allowed < 1.5


def test_a_budget_that_assets_share_is_one_threshold_for_all_of_them() -> None:
    history = [Segment(f"p{i}", 0, machine(1_500, 40 + i)) for i in range(3)]
    architecture = Architecture(replace(QUICK, kind="ppca"), (4, 16))
    cross = crossfit(history, lambda some: fit_models(history, some, SPEC, architecture), 16, 60)
    each = calibrate(cross, SPEC.period_ns, AlarmPolicy(), Budget(4.0))
    shared = calibrate(cross, SPEC.period_ns, AlarmPolicy(), Budget(12.0, per_stream=True))
    assert each.assets == 3
    assert each.threshold == shared.threshold
    np.testing.assert_array_equal(each.jump_limit, shared.jump_limit)
    less = calibrate(cross, SPEC.period_ns, AlarmPolicy(), Budget(4.0, per_stream=True))
    assert less.threshold > each.threshold


@pytest.mark.parametrize("allowed", [0.2, 0.9, 1.0, 1.6, 4.5])
def test_as_long_a_time_as_calibration_s_reaches_a_level_as_often_as_allowed(allowed: float) -> None:
    """Exponential strengths, as -log p are, of which none is part of the episode of another one."""
    rng = np.random.default_rng(3)
    seen, policy = rng.exponential(size=(1_000, 200)), AlarmPolicy(hysteresis=1.0)
    levels = [
        lowest_threshold([one], allowed, policy, np.inf) for one in np.insert(seen, slice(None), 0.0, axis=1)
    ]
    reached = rng.exponential(size=(1_000, 200)) > np.array(levels)[:, None] + beyond_nats(allowed)
    assert reached.sum(1).mean() == pytest.approx(allowed, rel=0.25)


def test_the_margin_is_small_where_much_is_allowed_and_bounded_where_nothing_is() -> None:
    assert 0.0 < beyond_nats(40.0) < 0.03
    assert beyond_nats(0.0) == beyond_nats(0.01)
    assert beyond_nats(0.0, 0.1) == beyond_nats(0.1) < beyond_nats(0.0)
