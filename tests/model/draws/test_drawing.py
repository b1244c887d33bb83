"""Draws: calibrated, reproducible, within the range of the sensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import Floats, Segment
from daemon.model.draws import (
    AUXILIARY,
)
from daemon.model.imputation import ImputationParameters, fit, impute_segments
from tests.model.draws.conftest import CLOCK, SPEC, drawn, holed, table, walk


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


def test_draws_depend_on_the_seed(parameters: ImputationParameters) -> None:
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
    fitted = fit([Segment("a", 0, x)], x.mean(0), x.std(0), SPEC)
    y, missing = holed(x, *((slice(i, i + 15), slice(None)) for i in range(30, 1900, 90)))
    found = drawn(fitted, y)
    values = table(found, y.shape)
    assert set(np.unique(values[missing[:, 0], 0]).tolist()) == {0.0, 1.0}
    assert values[missing[:, 1], 1].min() >= 0.0
    assert values[missing[:, 1], 1].max() <= np.nanmax(y[:, 1])
    fill = impute_segments(fitted, [Segment("a", 0, y)], CLOCK)[0]
    for d in found:
        centre = fill.value[d.rows, d.channels]
        assert (d.low <= centre).all()
        assert (centre <= d.high).all()


def test_a_short_table_is_not_taken_as_all_values_of_a_sensor(parameters: ImputationParameters) -> None:
    """Its readings are few because the table is short; the spread of the draws comes from the bundle."""
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


def test_cells_without_an_imputed_value_have_no_draws(parameters: ImputationParameters) -> None:
    unseen = replace(parameters, seen=np.array([True, True, False]))
    x, missing = holed(walk(100, 7), (slice(20, 25), slice(None)))
    x[:, 2] = np.nan
    found = drawn(unseen, x)
    assert {c for d in found for c in d.channels.tolist()} == {0, 1}
    assert all(np.isfinite(d.values).all() for d in found)
    assert drawn(parameters, walk(50, 8)) == []  # no gap, no draw
    assert missing.sum() == 15


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.95))
def test_every_gap_is_drawn_in_order_for_any_mask(
    parameters: ImputationParameters, seed: int, share: float
) -> None:
    g = np.random.default_rng(seed)
    x = walk(60, seed % 1000)
    x[g.random(x.shape) < share] = np.nan
    if g.random() < 0.3:
        x[:, g.integers(0, 3)] = np.nan
    found = drawn(parameters, x, 4)
    cells = [(int(r), int(c)) for d in found for r, c in zip(d.rows, d.channels, strict=True)]
    value = impute_segments(parameters, [Segment("a", 0, x)], CLOCK)[0].value
    assert cells == list(zip(*map(list, np.nonzero(np.isnan(x) & np.isfinite(value))), strict=True))
    for d in found:
        assert np.isfinite(d.values).all()
        assert (d.low <= d.high).all()
