"""Draws of gaps: against the exact Gaussian conditional, and what a draw must never do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import Floats, Mask, Segment
from daemon.model.draws import (
    AUXILIARY,
    DEVIATES,
    Drawn,
    DrawSettings,
    ErrorPaths,
    GappedSegment,
    calibrate,
    draw,
)
from daemon.model.imputation import BUCKETS, REACH, ImputationParameters, fit, impute_segments
from tests.naive import conditional_covariance

PHI = 0.9


def walk(rows: int, seed: int, sensors: int = 3) -> Floats:
    """Sensors that follow one AR(1) state, with a little AR(1) of their own: Markov, all together."""
    g = np.random.default_rng(seed)
    state, own = np.zeros(rows), np.zeros((rows, sensors))
    for t in range(1, rows):
        state[t] = PHI * state[t - 1] + np.sqrt(1 - PHI**2) * g.standard_normal()
        own[t] = PHI * own[t - 1] + np.sqrt(1 - PHI**2) * g.standard_normal(sensors)
    return state[:, None] + 0.5 * own


@pytest.fixture(scope="module")
def parameters() -> ImputationParameters:
    return fit([Segment("a", 0, walk(4000, 0))], np.zeros(3), np.ones(3), 16)


def exact(sensors: int = 3) -> Floats:
    """(4 * REACH + 1, C, C) the covariances of ``walk``."""
    lags = np.abs(np.arange(-2 * REACH, 2 * REACH + 1))
    return PHI ** lags[:, None, None] * (1.0 + 0.25 * np.eye(sensors))


def holed(x: Floats, *gaps: tuple[slice, int | slice]) -> tuple[Floats, Mask]:
    result = x.copy()
    for gap in gaps:
        result[gap] = np.nan
    return result, np.isnan(result)


def drawn(parameters: ImputationParameters, x: Floats, count: int = 20, **more) -> list[Drawn]:
    segments = [Segment("a", 0, x)]
    fills = impute_segments(parameters, segments)
    gapped = [GappedSegment(segments[0], fills[0], np.isnan(x))]
    return list(draw(parameters, gapped, DrawSettings(count, **more)))


def table(found: list[Drawn], shape: tuple[int, int], count: int = 20) -> Floats:
    """(T, C, D)"""
    result = np.full((*shape, count), np.nan)
    for d in found:
        result[d.rows, d.channels] = d.values
    return result


# ------------------------------------------------------------------ the field
GAPS = {
    "one sensor": [(slice(10, 18), 0)],
    "all at once": [(slice(10, 16), slice(None))],
    "overlapping": [(slice(8, 14), 0), (slice(11, 18), 1)],
    "the end": [(slice(24, 30), slice(0, 2))],
    "adjacent": [(slice(8, 11), 0), (slice(12, 15), 0), (slice(8, 15), 2)],
}


@pytest.mark.parametrize("gap", GAPS)
def test_paths_have_the_exact_conditional_covariance(parameters: ImputationParameters, gap: str) -> None:
    known = replace(parameters, covariance=exact())
    _, missing = holed(np.zeros((30, 3)), *GAPS[gap])
    paths = ErrorPaths(known, ~missing, missing, 20_000, np.random.default_rng(0), level=0.0)
    found = list(paths.rows())
    cells = [(row, c) for row, channels, _ in found for c in channels.tolist()]
    simulated = np.cov(np.concatenate([path for _, _, path in found]))
    gamma = exact()

    def covariance(a: tuple[int, int], b: tuple[int, int]) -> float:
        return float(gamma[b[0] - a[0] + 2 * REACH, a[1], b[1]])

    observed = [(r, c) for r in range(30) for c in range(3) if not missing[r, c]]
    wanted = conditional_covariance(covariance, observed, cells)
    assert np.abs(simulated - wanted).max() < 0.06 * np.abs(wanted).max()


def test_paths_end_where_readings_are(parameters: ImputationParameters) -> None:
    """The further from a reading, the less is known; next to it, about one step's noise."""
    _, missing = holed(np.zeros((60, 3)), (slice(20, 40), slice(None)))
    paths = ErrorPaths(parameters, ~missing, missing, 4000, np.random.default_rng(0))
    spread = np.array([path.std(1) for _, _, path in paths.rows()])
    assert (spread[[0, -1]] < 0.65 * spread[9]).all()


def test_a_gap_longer_than_the_field_reaches_has_no_seam(parameters: ImputationParameters) -> None:
    x, _ = holed(walk(700, 3), (slice(100, 600), slice(None)))
    values = table(drawn(parameters, x, 60), x.shape, 60)[100:600]
    steps = np.abs(np.diff(values, axis=0)).mean((1, 2))
    truth = np.abs(np.diff(walk(700, 3), axis=0)).mean()
    assert 0.7 * truth < steps.mean() < 1.4 * truth
    assert steps.max() < 1.5 * np.median(steps)
    edges = np.abs(values[0] - walk(700, 3)[99][:, None]).mean()
    assert edges < 2 * truth


# ------------------------------------------------------------------ the draws
def test_draws_are_calibrated_and_better_than_independent_ones(parameters: ImputationParameters) -> None:
    truth = walk(3000, 4)
    g = np.random.default_rng(1)
    x = truth.copy()
    for begin in range(10, 2950, 40):
        x[begin : begin + int(g.integers(3, 20)), g.choice(3, 2, replace=False)] = np.nan
    joint, apart = (table(drawn(parameters, x, 40, joint=j), x.shape, 40) for j in (True, False))
    low, high = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    for d in drawn(parameters, x):
        low[d.rows, d.channels], high[d.rows, d.channels] = d.low, d.high
    gaps = np.isnan(x)
    assert 0.87 <= ((low <= truth) & (truth <= high))[gaps].mean() <= 0.95
    ranks = (joint[gaps] < truth[gaps][:, None]).mean(1)
    assert np.histogram(ranks, 5, (0, 1))[0] == pytest.approx(gaps.sum() / 5, rel=0.35)

    gap = [gaps & (np.arange(len(x)) // 40 == k)[:, None] for k in range(73)]

    def score(draws: Floats) -> float:
        total = 0.0
        for where in gap:
            d, y = draws[where], truth[where][:, None]
            near = np.linalg.norm(d - y, axis=0).mean()
            total += near - np.linalg.norm(d[:, :, None] - d[:, None], axis=0).sum() / (2 * 40 * 39)
        return total

    assert score(joint) < score(apart)

    def holds(draws: Floats) -> float:
        """How often the mean of a gap lies within 90 % of the draws' means."""
        means = np.array([np.quantile(draws[w].mean(0), [0.05, 0.95], method="weibull") for w in gap])
        of_truth = np.array([truth[w].mean() for w in gap])
        return float(((means[:, 0] <= of_truth) & (of_truth <= means[:, 1])).mean())

    assert 0.8 <= holds(joint) <= 0.98
    assert holds(apart) < 0.7


def test_the_same_seed_draws_the_same_and_another_another(parameters: ImputationParameters) -> None:
    x, _ = holed(walk(200, 5), (slice(50, 60), 0), (slice(55, 70), 2))
    a, b, c = (table(drawn(parameters, x, seed=s), x.shape) for s in (0, 0, 1))
    assert np.array_equal(a, b, equal_nan=True)
    assert not np.array_equal(a, c, equal_nan=True)
    few = table(drawn(parameters, x, 3), x.shape, 3)
    assert np.array_equal(few, a[:, :, :3], equal_nan=True)
    assert AUXILIARY > 20


def test_a_sensor_of_few_values_is_drawn_from_them_and_no_draw_leaves_the_range() -> None:
    g = np.random.default_rng(0)
    switch = np.repeat(g.integers(0, 2, 100), 20).astype(float)
    flow = np.maximum(walk(2000, 6)[:, 0], 0.0)
    x = np.stack([switch, flow], 1)
    fitted = fit([Segment("a", 0, x)], x.mean(0), x.std(0), 16)
    y, missing = holed(x, *((slice(i, i + 15), slice(None)) for i in range(30, 1900, 90)))
    found = drawn(fitted, y)
    values = table(found, y.shape)
    assert set(np.unique(values[missing[:, 0], 0]).tolist()) == {0.0, 1.0}
    assert values[missing[:, 1], 1].min() >= 0.0
    assert values[missing[:, 1], 1].max() <= np.nanmax(y[:, 1])
    fill = impute_segments(fitted, [Segment("a", 0, y)])[0]
    for d in found:
        centre = fill.value[d.rows, d.channels]
        assert (d.low <= centre).all()
        assert (centre <= d.high).all()


def test_a_short_table_is_no_list_of_all_that_a_sensor_says(parameters: ImputationParameters) -> None:
    """Its readings are few because it is short: the bundle knows the sensors, and says how wide draws are."""
    inside = cells = 0
    for seed in range(40):
        whole = walk(20, 100 + seed)
        x, missing = holed(whole, (slice(8, 13), slice(None)))
        for d in drawn(parameters, x):
            assert not np.isin(d.values, x[~missing]).any()
            truth = whole[d.rows, d.channels]
            inside += int(((d.low <= truth) & (truth <= d.high)).sum())
            cells += len(truth)
    assert cells == 40 * 15
    assert 0.8 < inside / cells < 0.95


def test_what_has_no_value_has_no_draws(parameters: ImputationParameters) -> None:
    unseen = replace(parameters, seen=np.array([True, True, False]))
    x, missing = holed(walk(100, 7), (slice(20, 25), slice(None)))
    x[:, 2] = np.nan
    found = drawn(unseen, x)
    assert {c for d in found for c in d.channels.tolist()} == {0, 1}
    assert all(np.isfinite(d.values).all() for d in found)
    assert drawn(parameters, walk(50, 8)) == []  # no gap, no draw
    assert missing.sum() == 15


def test_without_anything_to_hide_the_errors_are_normal_with_the_margin(
    parameters: ImputationParameters,
) -> None:
    nothing = np.full((40, 3), np.nan)
    marginals = calibrate(parameters, [Segment("a", 0, nothing)], np.random.default_rng(0))
    assert marginals.quantiles.shape == (3, 2 * BUCKETS, len(DEVIATES))
    at = marginals.of(np.array([[-1.6448536, 0.0, 1.6448536]]), np.array([1]), np.array([3]))
    assert at[0] == pytest.approx([-1.0, 0.0, 1.0], abs=1e-6)
    values = table(drawn(parameters, nothing), nothing.shape)
    assert np.isfinite(values).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.95))
def test_whatever_is_missing_every_gap_is_drawn_in_order(
    parameters: ImputationParameters, seed: int, share: float
) -> None:
    g = np.random.default_rng(seed)
    x = walk(60, seed % 1000)
    x[g.random(x.shape) < share] = np.nan
    if g.random() < 0.3:
        x[:, g.integers(0, 3)] = np.nan
    found = drawn(parameters, x, 4)
    cells = [(int(r), int(c)) for d in found for r, c in zip(d.rows, d.channels, strict=True)]
    value = impute_segments(parameters, [Segment("a", 0, x)])[0].value
    assert cells == list(zip(*map(list, np.nonzero(np.isnan(x) & np.isfinite(value))), strict=True))
    for d in found:
        assert np.isfinite(d.values).all()
        assert (d.low <= d.high).all()
