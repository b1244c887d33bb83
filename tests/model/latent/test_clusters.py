"""Regimes: clusters of latents, and what is typical of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from daemon.domain import (
    Floats,
    Ints,
)
from daemon.model import latent
from tests import naive

NOTHING = np.zeros(0, np.int64)


def groups(*sizes: int, apart: float = 8.0, Z: int = 4) -> Floats:
    rng = np.random.default_rng(1)
    centres = apart * np.eye(len(sizes), Z)
    return np.concatenate([rng.standard_normal((n, Z)) + c for n, c in zip(sizes, centres, strict=True)])


def unweighted(mean: Floats) -> latent.Plane:
    Z = mean.shape[1]
    return latent.Plane(mean.mean(0), np.ones(Z), np.eye(Z)[:, :2], (0, 1), 1.0, 1.0, 1.0)


def found_in(mean: Floats, episode: Ints = NOTHING) -> latent.Regimes:
    usable = np.ones(len(mean), bool)
    usable[episode] = False
    return latent.regimes(mean, usable, unweighted(mean))


@pytest.mark.parametrize("sizes", [(300,), (100, 300), (60, 250, 120), (90, 80, 70, 60)])
def test_regimes_are_as_many_as_the_readings_have_the_largest_first(sizes: tuple[int, ...]) -> None:
    found = found_in(groups(*sizes))
    assert found.count == len(sizes)
    assert np.bincount(found.of).tolist() == sorted(sizes, reverse=True)
    again = found_in(groups(*sizes))
    np.testing.assert_array_equal(found.of, again.of)
    for k in range(found.count):
        assert found.of[found.typical[k]] == k


def test_a_few_outlying_windows_are_no_regime() -> None:
    assert found_in(groups(5, 500)).count == 1


def test_a_few_overlapping_windows_are_no_regime() -> None:
    mean = groups(15, 40)
    assert found_in(mean).count == 2
    assert latent.regimes(mean, np.ones(55, bool), unweighted(mean), least=16).count == 1


def test_a_cycle_is_not_cut_into_more_regimes_than_fit_better() -> None:
    around = np.arange(4_000) / 9
    mean = np.stack([np.sin(around), np.cos(around)], 1)
    assert found_in(mean).count < latent.MOST_REGIMES


def test_windows_in_episodes_are_assigned_but_form_no_regime() -> None:
    mean = groups(100, 300, 120)
    assert found_in(mean).count == 3
    calm = found_in(mean, np.arange(100))
    assert calm.count == 2
    assert len(calm.of) == len(mean)
    assert (calm.typical >= 100).all()


@given(
    hnp.arrays(float, st.tuples(st.integers(4, 20), st.integers(1, 3)), elements=st.floats(-10, 10)),
    st.data(),
)
def test_the_silhouette_is_rousseeuws(points: Floats, data: st.DataObject) -> None:
    of = data.draw(hnp.arrays(np.int64, len(points), elements=st.integers(0, 3)))
    if len(np.unique(of)) < 2:
        assert latent.silhouette(points, of) == -1.0
    else:
        assert latent.silhouette(points, of) == pytest.approx(naive.silhouette(points, of), abs=1e-6)


@given(
    hnp.arrays(float, st.tuples(st.integers(3, 30), st.just(2)), elements=st.floats(-100, 100)),
    st.integers(2, 3),
)
def test_centres_of_k_means_are_the_means_of_what_is_nearest(points: Floats, k: int) -> None:
    centres = latent.k_means(points, k)
    of = latent.nearest(points, centres)
    for j in range(k):
        if (of == j).any() and len(np.unique(centres, axis=0)) == k:
            np.testing.assert_allclose(centres[j], points[of == j].mean(0), atol=1e-9)


def seen_of(level: Floats, rise: Floats | None = None) -> latent.Encoded:
    nothing = np.zeros(level.shape[1])
    return latent.Encoded(level, level, level, np.zeros_like(level) if rise is None else rise, *[nothing] * 3)


def test_typical_values_name_low_high_and_near_zero_levels() -> None:
    #             power  flow  pressure  idle
    night = np.array([[2.0, 0.1, 9.0, 7.0]] * 30)
    day = np.array([[10.0, 50.0, 5.0, 7.0]] * 70)
    level = np.concatenate([night, day])
    level[3, 0] = np.nan  # a gap is no value
    of = np.repeat([1, 0], [30, 70])
    told = latent.typical_values(seen_of(level), of, 1, np.array([3.0, 20.0, 2.0, 1.0]))
    assert [(t.sensor, t.word) for t in told] == [(0, "low"), (1, "near 0"), (2, "high")]
    assert [t.value for t in told] == [2.0, 0.1, 9.0]
    assert told[1].overall == pytest.approx(35.03)


def test_typical_values_name_a_course_where_levels_do_not_differ() -> None:
    rise = np.repeat([4.0, 0.0], 50)[:, None]
    told = latent.typical_values(seen_of(np.ones((100, 1)), rise), np.repeat([0, 1], 50), 0, np.ones(1))
    assert [(t.word, t.value) for t in told] == [("rising", 4.0)]


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        (lambda h: (h >= 22) | (h < 6), (22, 6)),
        (lambda h: (h >= 9) & (h < 17), (9, 17)),
        (lambda h: h % 2 == 0, None),  # every other hour is no habit
        (lambda h: h >= 0, None),
        (lambda h: h < 0, None),
    ],
)
def test_usual_hours_of_a_regime_that_occurs_in_some_hours(
    inside: Callable[[Ints], np.ndarray], expected: tuple[int, int] | None
) -> None:
    hours = np.tile(np.arange(24), 10)
    found = latent.usual_hours(hours, inside(hours))
    if expected is None:
        assert found is None
    else:  # 80 % of its time, which may be an hour or so less than all of it
        assert found is not None
        first, last = found
        assert (first - expected[0]) % 24 <= 2
        assert (expected[1] - last) % 24 <= 2


def test_no_usual_hours_from_less_than_a_day() -> None:
    hours = np.repeat(np.arange(10), 30)
    assert latent.usual_hours(hours, hours < 3) is None
