"""Measures of synthetic series, against what is obvious and slow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Floats
from daemon.model import fidelity
from tests import naive

VALUES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, 3.0]), min_size=1, max_size=12)


def waves(stretches: int = 6, rows: int = 200, seed: int = 0, noise: float = 0.1) -> list[Floats]:
    random = np.random.default_rng(seed)
    result = []
    for _ in range(stretches):
        t = np.arange(rows) + random.uniform(0, 100)
        base = np.sin(t / 7.0)
        result.append(
            np.stack([base, -2.0 * base, np.full(rows, 3.0)], 1)
            + noise * random.standard_normal((rows, 3)) * [1, 1, 0]
        )
    return result


@given(VALUES, VALUES)
def test_marginals_are_the_largest_distance_of_the_distribution_functions(
    a: list[float], b: list[float]
) -> None:
    found = fidelity.marginals([np.array([a]).T], [np.array([b]).T])
    assert found == pytest.approx([naive.ks_distance(a, b)])


def test_marginals_of_a_sensor_without_values_are_unknown() -> None:
    assert np.isnan(fidelity.marginals([np.full((3, 1), np.nan)], [np.zeros((3, 1))])).all()


@given(
    st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 2.0, math.nan]), min_size=6, max_size=9), min_size=1, max_size=3
    )
)
def test_autocorrelation_stays_within_stretches_and_leaves_gaps_out(stretches: list[list[float]]) -> None:
    known = {v for rows in stretches for v in rows if not math.isnan(v)}
    found = fidelity.autocorrelation([np.array([rows]).T for rows in stretches], [1, 3])
    for i, lag in enumerate((1, 3)):
        try:
            wanted = naive.pooled_autocorrelation(stretches, lag) if len(known) > 1 else math.nan
        except ZeroDivisionError:
            wanted = math.nan
        assert found[i, 0] == pytest.approx(wanted, nan_ok=True)


def test_series_of_one_kind_are_alike_and_shuffled_rows_are_not() -> None:
    real, made = waves(seed=1), waves(seed=2)
    shuffled = [np.random.default_rng(3).permutation(rows) for rows in made]
    assert fidelity.marginals(real, made)[:2].max() < 0.1
    assert fidelity.correlation_error(real, made) < 0.02
    assert fidelity.autocorrelation_error(real, made, [1, 8]).max() < 0.05
    assert fidelity.spectrum_error(real, made) < 0.03
    assert fidelity.marginals(real, shuffled)[:2].max() < 0.1
    assert fidelity.autocorrelation_error(real, shuffled, [1])[0] > 0.5
    assert fidelity.spectrum_error(real, shuffled) > 0.2


def test_correlation_error_is_the_mean_over_pairs() -> None:
    a = np.random.default_rng(0).standard_normal((400, 2))
    b = np.stack([a[:, 0], a[:, 0]], 1)
    expected = 1.0 - np.corrcoef(a.T)[0, 1]
    assert fidelity.correlation_error([a], [b]) == pytest.approx(expected)


def test_a_seam_shows_in_the_steps_where_windows_meet() -> None:
    random = np.random.default_rng(0)
    smooth = np.cumsum(random.standard_normal((4_000, 2)), 0)
    torn = smooth + np.repeat(random.standard_normal((500, 2)) * 5.0, 8, 0)
    assert fidelity.seam([smooth], 8) == pytest.approx(1.0, abs=0.2)
    assert fidelity.seam([torn], 8) > 2.0


def test_whole_windows_and_their_stretches() -> None:
    rows = np.arange(24.0).reshape(12, 2)
    rows[5, 0] = np.nan
    found, of = fidelity.windows([rows, rows[:3]], 4, 2)
    assert of.tolist() == [0, 0, 0]
    assert found[:, 0, 1].tolist() == [1.0, 13.0, 17.0]


def test_copies_of_training_are_detected_and_new_windows_are_not() -> None:
    train, held_out, fresh = waves(12, seed=1), waves(seed=2), waves(seed=3)
    honest = fidelity.memorisation(train, held_out, fresh, 16)
    copied = fidelity.memorisation(train, held_out, [x + 1e-3 for x in train], 16)
    assert honest is not None
    assert honest.passed
    assert copied is not None
    assert not copied.passed
    assert copied.nearer > 0.9


def test_nearest_distances_are_those_of_a_search_one_by_one() -> None:
    train, held_out, made = waves(2, 40, 1), waves(1, 40, 2), waves(1, 40, 3)
    found = fidelity.memorisation(train, held_out, made, 8)
    every = np.concatenate(train)
    sd = np.where(every.std(0) > 0, every.std(0), 1.0)
    known = [x / sd for rows in train for x in fidelity.windows([rows], 8, 1)[0]]
    # Weights follow the training windows' own spread, which overlapping windows shift a little.
    nearest = [naive.nearest_window(x / sd, known) for x in fidelity.windows(made, 8, 4)[0]]
    assert found is not None
    assert found.made == pytest.approx(np.median(nearest), rel=0.05)
