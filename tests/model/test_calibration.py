from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.alarm import episodes, firing
from daemon.domain import (
    NO_CONDITION,
    SECOND_NS,
    AlarmPolicy,
    Budget,
    Floats,
    Segment,
)
from daemon.model.baseline import SHRINK, follow, levels_by_key
from daemon.model.bundle import Bundle
from daemon.model.calibration import lowest_threshold, top_count, top_mean
from daemon.model.drift import chunks, diagonal_kl
from daemon.model.promotion import scores_of
from daemon.model.reconstruction import Measured, Models
from daemon.model.segments import sliding
from daemon.model.tails import TAIL, Tail
from daemon.model.training import CalibrationTarget, train
from tests.model.conftest import QUICK, SPEC, dropped, machine, trained
from tests.naive import replayed_episodes, slow_baseline


# ------------------------------------------------------------------ p-values
def test_the_tail_is_the_empirical_rank_and_then_exponential() -> None:
    v = np.random.default_rng(0).exponential(2.0, 5_000)
    tail = Tail.fit(v)
    u = np.sort(v)[int(0.98 * len(v))]
    for x in np.quantile(v, [0.1, 0.5, 0.9, 0.97]):
        exact = (len(v) - np.searchsorted(np.sort(v), x) + 0.5) / (len(v) + 1)
        assert math.exp(-tail(np.array([x]))[0]) == pytest.approx(exact, rel=0.03)
    assert tail(np.array([u]))[0] == pytest.approx(-math.log(TAIL), rel=0.02)
    # beyond, an exponential sample's tail is -log p = x / 2
    assert tail(np.array([30.0]))[0] == pytest.approx(15.0, rel=0.15)


@given(
    st.lists(st.integers(-400, 400).map(lambda i: i / 8.0), min_size=1, max_size=200),
    st.lists(st.floats(-100, 100), min_size=2, max_size=20),
)
def test_the_tail_rises_and_inverts(values: list[float], points: list[float]) -> None:
    tail = Tail.fit(np.array(values))
    x = np.sort(points)
    g = tail(x)
    assert (np.diff(g) >= -1e-12).all()  # interpolation rounds
    assert (g >= 0).all()
    for nats in (0.7, 3.0, 8.0):
        if nats > tail.nats[0]:
            assert tail(np.array([tail.inverse(nats)]))[0] >= nats - 1e-6


def test_no_evidence_stays_none() -> None:
    assert np.isnan(Tail.fit(np.array([1.0, np.nan, 2.0]))(np.array([np.nan]))[0])
    assert Tail.fit(np.array([np.nan]))(np.array([5.0]))[0] == 0.0


# ------------------------------------------------------------------ top k
def test_top_k_counts_observed_cells_only() -> None:
    values = np.array([[3.0, 1.0, np.nan, 2.0], [np.nan, np.nan, np.nan, 4.0], [np.nan] * 4])
    np.testing.assert_array_equal(top_mean(values, 2), [2.5, 4.0, np.nan])
    np.testing.assert_array_equal(top_mean(values[:1, :2], 1), [3.0])
    assert [top_count(c) for c in (1, 6, 7, 18, 38)] == [1, 1, 2, 3, 3]


# ------------------------------------------------------------------ the slow baseline
@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 5), st.integers(0, 40))
def test_the_baseline_is_the_obvious_loop(seed: int, rows: int, assets: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    excess = rng.normal(0, 4, (rows, 3))
    excess[rng.random(excess.shape) < 0.2] = np.nan
    slots = rng.integers(0, assets, rows)
    expected_state = np.abs(rng.normal(0, 1, (assets, 3)))
    state = expected_state.copy()
    expected = slow_baseline(excess, expected_state, slots.tolist(), 0.3)
    cut = min(cut, rows)
    got = np.concatenate(
        [follow(excess[:cut], state, slots[:cut], 0.3), follow(excess[cut:], state, slots[cut:], 0.3)]
    )
    np.testing.assert_allclose(got, expected, atol=1e-12)
    np.testing.assert_allclose(state, expected_state, atol=1e-12)


def test_the_baseline_moves_at_most_its_rate_and_never_below_calibration() -> None:
    state = np.zeros((1, 2))
    follow(np.tile([[100.0, -100.0]], (50, 1)), state, np.zeros(50, np.int64), 0.01)
    np.testing.assert_allclose(state[0], [0.5, 0.0])


# ------------------------------------------------------------------ the threshold
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(1.0, 20.0), st.sampled_from([(1, 1), (2, 3)]))
def test_the_threshold_keeps_the_budget_and_a_lower_one_breaks_it(
    seed: int, allowed: float, persistence: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    policy = AlarmPolicy(needed=persistence[0], of=persistence[1])
    series = [np.convolve(rng.standard_normal(120), np.ones(3) / 3, "same") for _ in range(4)]
    series[1][30:40] = np.nan
    threshold = lowest_threshold(series, allowed, policy)
    assert replayed_episodes(series, threshold, policy) <= allowed
    everything = np.concatenate(series)
    everything = everything[np.isfinite(everything)]
    if threshold > np.quantile(everything, 0.9):  # the search stops at the first violation below
        lower = np.sort(everything[everything < threshold])[::-1][: len(everything) // 10]
        assert any(replayed_episodes(series, float(t), policy) > allowed for t in lower)


def test_less_than_one_episode_allowed_takes_the_maximum_and_says_so() -> None:
    scores = np.array([1.0, 9.0, 2.0])
    assert lowest_threshold([scores], 0.9, AlarmPolicy()) == 9.0
    short = trained([Segment("a", 0, machine(400))], period_ns=SECOND_NS)
    assert short.detector().calibration == "provisional"


def test_one_incident_in_training_costs_one_episode_not_the_threshold() -> None:
    calm = np.abs(np.random.default_rng(0).standard_normal(2_000))
    incident = calm.copy()
    incident[900:1_000] = 50.0
    policy = AlarmPolicy()
    assert lowest_threshold([incident], 6.0, policy) < 1.3 * lowest_threshold([calm], 5.0, policy)


def test_calibration_scores_the_held_out_rows_within_budget(bundle: Bundle) -> None:
    calibration = bundle.calibration
    assert not calibration.provisional
    assert calibration.days == pytest.approx((1_500 - 15) / 1_440, rel=0.02)
    assert 1.5 < calibration.threshold < 12.0


# ------------------------------------------------------------------ drift
def test_kl_of_gaussians_in_nats() -> None:
    one, zero = np.ones(1), np.zeros(1)
    assert diagonal_kl(zero, one, zero, one)[0] == 0.0
    assert diagonal_kl(2 * one, one, zero, one)[0] == pytest.approx(2.0)
    assert diagonal_kl(zero, 4 * one, zero, one)[0] == pytest.approx(0.5 * (4 - 1 - math.log(4)))


def test_chunks_are_capped_to_what_there_is() -> None:
    assert all(c.stop - c.start == 50 for c in chunks(100, 400))
    assert chunks(100, 10)[-1].stop == 100
    assert chunks(1, 10) == [slice(0, 1)]


def test_the_drift_reference_sees_a_shift_and_not_its_own_data(bundle: Bundle) -> None:
    drift = bundle.drift
    assert 0 < drift.latent_threshold < np.inf
    assert 0 < drift.residual_threshold < np.inf
    moved = drift.residual_mean + 3.0 * np.sqrt(drift.residual_variance)
    shifted = diagonal_kl(moved, drift.residual_variance, drift.residual_mean, drift.residual_variance)
    assert shifted.sum() > drift.residual_threshold


# ------------------------------------------------------------------ own levels
def noisy(rows: int, seed: int, factor: float) -> Floats:
    """The machine with noise of its own on every moving sensor, ``factor`` times as much."""
    values = machine(rows, seed)
    rng = np.random.default_rng(seed + 100)
    values[:, :3] += factor * rng.standard_normal((rows, 3)) * [2.0, 0.1, 60.0]
    return values


def calm_scores(bundle: Bundle, asset: str, values: Floats, label: str = "") -> Floats:
    """Scores of calm rows, read as that asset's in that condition."""
    labels = (label,) * len(values) if label else ()
    scores = scores_of(bundle.detector(), Segment(asset, 0, values, labels))
    return scores[np.isfinite(scores)]


def test_a_noisy_and_a_quiet_asset_are_each_read_against_their_own_level() -> None:
    history = [
        Segment("quiet", 0, noisy(1_500, 1, 0.5)),
        Segment("loud", 0, noisy(1_500, 2, 4.0)),
        Segment("short", 0, noisy(100, 3, 4.0)),
    ]
    bundle = trained(history, replace(QUICK, kind="ppca"))
    assert set(bundle.calibration.asset_levels) == {"quiet", "loud"}  # the third has too few rows
    quiet = np.median(calm_scores(bundle, "quiet", noisy(600, 4, 0.5)))
    loud = np.median(calm_scores(bundle, "loud", noisy(600, 5, 4.0)))
    pooled = np.median(calm_scores(bundle, "new", noisy(600, 5, 4.0)))
    assert 0.75 < loud / quiet < 1.33
    assert pooled > 1.5 * loud
    detector = bundle.detector()
    np.testing.assert_array_equal(detector.fresh_baseline("new"), detector.fresh_baseline("short"))
    again = Bundle.from_bytes(bundle.to_bytes()).detector()
    np.testing.assert_array_equal(again.fresh_baseline("loud"), detector.fresh_baseline("loud"))


def test_operating_modes_have_levels_of_their_own_and_an_unknown_one_the_pooled() -> None:
    values = np.concatenate([noisy(300, seed, 4.0 if seed % 2 else 0.5) for seed in range(10)])
    labels = tuple("loud" if (i // 300) % 2 else "quiet" for i in range(len(values)))
    bundle = trained([Segment("pump-1", 0, values, labels)], replace(QUICK, kind="ppca"))
    assert set(bundle.calibration.condition_levels) == {NO_CONDITION, "quiet", "loud"}  # and of the unknown
    assert not bundle.calibration.asset_levels
    loud = np.median(calm_scores(bundle, "pump-1", noisy(600, 5, 4.0), "loud"))
    quiet = np.median(calm_scores(bundle, "pump-1", noisy(600, 4, 0.5), "quiet"))
    unknown = np.median(calm_scores(bundle, "pump-1", noisy(600, 5, 4.0), "new"))
    assert 0.75 < loud / quiet < 1.33
    assert unknown > 1.5 * loud


@pytest.mark.parametrize("hop", [1, 8])
def test_held_out_normal_rows_realise_about_the_budget_at_any_hop(hop: int) -> None:
    day = 1_440  # rows
    budget = Budget(6.0)  # a day
    history = [Segment(f"p{i}", 3, machine(3 * day, 30 + i)) for i in range(3)]
    spec = replace(SPEC, hop=hop)
    bundle = train(history, spec, replace(QUICK, kind="ppca"), CalibrationTarget(AlarmPolicy(), budget, 60))
    detector = bundle.detector()
    fresh = [Segment(f"p{i}", 7, machine(6 * day, 60 + i)) for i in range(3)]
    scores = [scores_of(detector, segment, hop) for segment in fresh]
    opened = sum(episodes(firing(one, detector.threshold, AlarmPolicy())) for one in scores)
    allowed = budget.episodes_per_day * sum(np.isfinite(one).sum() for one in scores) * hop / day
    assert allowed == pytest.approx(6 * 6 * 3, rel=0.02)
    assert 0.5 < opened / allowed < 1.5


# ------------------------------------------------------------------ fleets
class Named(str):
    """An asset's name that counts its comparisons."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Named.compared += 1
        return super().__eq__(other)

    __hash__ = str.__hash__


def test_own_levels_take_each_row_once_however_many_assets_there_are() -> None:
    rng = np.random.default_rng(0)
    keys = np.array([Named(f"a{i % 40}") for i in range(40 * 30 + 400)], object)
    keys[-400:] = [Named("long") for _ in range(400)]
    Named.compared = 0
    excess = rng.standard_normal((len(keys), 3)) + (keys == "long")[:, None]
    Named.compared = 0
    levels = levels_by_key(keys, excess)
    assert Named.compared <= 2 * len(keys)
    assert set(levels) == {"long"}
    np.testing.assert_allclose(
        levels["long"], np.median(excess[-400:], axis=0) * 400 / (400 + SHRINK), rtol=1e-12
    )


def test_parts_that_are_measured_together_measure_as_each_alone(bundle: Bundle) -> None:
    window = bundle.window
    sizes = [1, 3, 0, 40, 2_500, 7, 7]
    values = dropped(machine(sum(sizes) + window), 0.1)
    windows = sliding(values, window)
    ends = np.cumsum(sizes)
    parts = [(windows[b - n : b], [""] * n) for n, b in zip(sizes, ends.tolist(), strict=True)]
    for (some, labels), together in zip(parts, bundle.models.measure_each(parts), strict=True):
        alone = bundle.models.measure(some, labels)
        for name in Measured.__slots__:
            np.testing.assert_array_equal(getattr(together, name), getattr(alone, name), err_msg=name)


def test_a_fleet_of_short_histories_is_measured_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    measure = Models.measure

    def counted(self: Models, *arguments: Any) -> Measured:
        calls.append(len(arguments[0]))
        return measure(self, *arguments)

    monkeypatch.setattr(Models, "measure", counted)
    fleet = [Segment(f"a{i}", 0, machine(24, seed=i)) for i in range(200)]
    trained(fleet, replace(QUICK, kind="ppca"), window=8)
    assert sum(calls) > 200
    assert len(calls) < 20  # one for each fold's held-out assets, and those that sample
