"""The slow baseline, and levels of assets and conditions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain import (
    NO_CONDITION,
    Floats,
    Segment,
)
from daemon.model.baseline import SHRINK, follow, levels_by_key
from daemon.model.bundle import Bundle
from daemon.model.promotion import scores_of
from tests.model.conftest import QUICK, machine, trained
from tests.naive import slow_baseline


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 5), st.integers(0, 40))
def test_the_baseline_equals_the_naive_loop(seed: int, rows: int, assets: int, cut: int) -> None:
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


def test_a_noisy_and_a_quiet_asset_have_levels_of_their_own() -> None:
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
