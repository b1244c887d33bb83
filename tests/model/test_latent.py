"""What a dimension does is what decoding it does, and regimes are what the readings keep returning to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from daemon.domain import (
    Floats,
    Ints,
    Segment,
)
from daemon.model import latent
from daemon.model.bundle import Bundle
from daemon.model.segments import sliding
from daemon.model.training import train
from tests import naive
from tests.model.conftest import KINDS, QUICK, SPEC, TARGET, dropped, machine

NOTHING = np.zeros(0, np.int64)


def windows_of(bundle: Bundle, share: float = 0.0, rows: int = 200) -> Floats:
    values = machine(rows, seed=3, start=5_000)
    return sliding(dropped(values, share) if share else values, bundle.window)


# ------------------------------------------------------------------ both directions
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_latents_and_kl_are_those_that_windows_are_judged_by(
    bundles: Callable[[str], Bundle], kind: str, share: float
) -> None:
    bundle = bundles(kind)
    windows = windows_of(bundle, share)
    conditions = [""] * len(windows)
    seen = latent.encode(bundle.models, windows, conditions)
    measured = bundle.models.measure(windows, conditions, keep=True)
    known = measured.observed
    np.testing.assert_allclose(seen.mean[known], measured.posterior[known], rtol=1e-3, atol=2e-4)
    if kind != "ppca":  # whose published score is |z|^2
        np.testing.assert_allclose(seen.kl.sum(1)[known], measured.latent[-1, known, 0], rtol=1e-3, atol=2e-3)
    decoded = latent.decode(bundle.models, seen.mean)
    np.testing.assert_allclose(
        decoded[known], bundle.models.scaler.raw(measured.decoded[known]), rtol=1e-3, atol=0.5
    )


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_windows_are_encoded_and_decoded_under_their_conditions(kind: str) -> None:
    modes = tuple("high" if i // 300 % 2 else "low" for i in range(1_500))
    values = machine(1_500)
    values[:, 0] += np.where(np.array(modes) == "high", 200.0, 0.0)
    spec, settings = replace(SPEC, condition=("mode",)), replace(QUICK, kind=kind)
    bundle = train([Segment("pump-1", 0, values, modes)], spec, settings, TARGET)
    windows = sliding(dropped(values, 0.05), bundle.window)[::7]
    labels = [*modes[bundle.window - 1 :: 7][: len(windows) - 1], "never seen"]
    seen = latent.encode(bundle.models, windows, labels)
    measured = bundle.models.measure(windows, labels, keep=True)
    known = measured.observed
    np.testing.assert_allclose(seen.mean[known], measured.posterior[known], rtol=1e-3, atol=2e-3)
    shown = measured.decoded
    for label in ("low", "high", "never seen"):
        mine = known & (np.array(labels) == label)
        decoded = latent.decode(bundle.models, seen.mean[mine], label)
        np.testing.assert_allclose(decoded, bundle.models.scaler.raw(shown[mine]), rtol=1e-3, atol=1.0)


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_a_level_is_the_mean_of_what_was_observed_and_a_rise_is_last_minus_first(bundle: Bundle) -> None:
    windows = windows_of(bundle, 0.2, 60)
    seen = latent.encode(bundle.models, windows, [""] * len(windows))
    third = bundle.window // 3
    np.testing.assert_allclose(seen.level, np.nanmean(windows, 1))
    rise = np.nanmean(windows[:, -third:], 1) - np.nanmean(windows[:, :third], 1)
    np.testing.assert_allclose(seen.rise, rise)


def test_what_the_model_retraces_lies_between_noise_and_all(bundle: Bundle) -> None:
    windows = windows_of(bundle)
    explained = latent.encode(bundle.models, windows, [""] * len(windows)).explained
    assert (explained[:3] > 0.5).all()  # two cycles seen by three sensors
    assert np.isnan(explained[3])  # it stands still
    noise = np.random.default_rng(0).permuted(windows, axis=1)  # the same values, in no order
    assert latent.encode(bundle.models, noise, [""] * len(noise)).explained[0] < explained[0] - 0.2


# ------------------------------------------------------------------ dimensions
def test_the_share_of_a_linear_model_is_the_variance_that_a_dimension_explains(linear: Bundle) -> None:
    models, reference = linear.models, linear.drift
    windows = windows_of(linear, rows=1_000)
    mean = latent.encode(models, windows, [""] * len(windows)).mean
    sample = latent.sample_of(reference, mean)
    effects = latent.shares(models, sample, latent.active(reference), reference, "")
    pca = models.pcas[-1]
    away = np.square(sample - reference.latent_mean).mean(0)
    np.testing.assert_allclose(effects, away * pca.variance.numpy() / models.window, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_traversal_is_the_decoded_dimension_in_real_units(
    bundles: Callable[[str], Bundle], kind: str
) -> None:
    bundle = bundles(kind)
    models, reference = bundle.models, bundle.drift
    sample = latent.sample_of(reference, None)
    effects = latent.shares(models, sample, latent.active(reference), reference, "")
    found = latent.directions(models, reference, effects, reference.latent_mean)
    assert {d.dimension for d in found} == set(np.flatnonzero(reference.latent_variance > 0.01).tolist())
    assert [d.share for d in found] == sorted((d.share for d in found), reverse=True)
    assert sum(d.share for d in found) == pytest.approx(1.0)
    for direction in found:
        z = reference.latent_mean.copy()
        z[direction.dimension] += 2 * np.sqrt(reference.latent_variance[direction.dimension])
        np.testing.assert_allclose(
            direction.traversal[latent.STEPS.index(2)], latent.decode(models, z[None])[0], rtol=1e-4
        )
        up, down = (direction.traversal[latent.STEPS.index(step)] for step in (1, -1))
        for m in direction.movements:
            assert m.change == pytest.approx((up - down)[:, m.sensor].mean() / 2, rel=1e-3, abs=1e-3)
            assert m.last == pytest.approx((up - down)[-1, m.sensor] / 2, rel=1e-3, abs=1e-3)
        sizes = [m.unit_sd for m in direction.movements]
        assert sizes == sorted(sizes, reverse=True)


T = np.arange(32.0)
BUMP = np.exp(-((T - 12) ** 2) / 8)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (np.full(32, 2.0), "level"),
        (5 + 0.1 * np.sin(T), "level"),
        (0.2 * (T - 15.5), "trend"),
        (np.sin(T / 3), "shape"),
        (np.zeros(32), "level"),
    ],
)
def test_a_pattern_names_what_most_of_a_movement_is(curve: Floats, expected: str) -> None:
    assert latent.pattern(curve) == expected


@pytest.mark.parametrize("rows", [-5, -1, 0, 2, 6])
@pytest.mark.parametrize("sign", [1, -3])
def test_a_lag_is_by_how_much_one_sensor_follows(rows: int, sign: int) -> None:
    assert latent.lag(BUMP, sign * np.roll(BUMP, rows)) == rows


@pytest.mark.parametrize(
    ("leader", "follower"),
    [
        (np.full(32, 1.0), BUMP),  # a level has no moment
        (BUMP, np.full(32, 1.0)),
        (5 + 0.1 * BUMP, BUMP),
        (BUMP, np.zeros(32)),
        (BUMP, np.random.default_rng(0).standard_normal(32)),  # no common shape
    ],
)
def test_where_there_is_no_lag_none_is_told(leader: Floats, follower: Floats) -> None:
    assert latent.lag(leader, follower) is None


def test_two_straight_lines_have_no_lag_between_them() -> None:
    assert latent.lag(T - T.mean(), 3 * (T - T.mean())) == 0


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_a_sensor_that_follows_another_is_told_to_by_the_rows_it_does(kind: str) -> None:
    rng = np.random.default_rng(0)
    rows, late = 2_000, 2
    cause = np.convolve(rng.standard_normal(rows + late + 5), np.ones(6) / 6, "valid")
    values = np.stack([cause[late:], cause[:-late], 0.1 * rng.standard_normal(rows)], 1)
    spec = replace(SPEC, sensors=("first", "second", "noise"))
    settings = replace(QUICK, kind=kind, steps=200)
    bundle = train([Segment("pump-1", 0, values)], spec, settings, TARGET)
    reference = bundle.drift
    effects = latent.shares(
        bundle.models, latent.sample_of(reference, None), latent.active(reference), reference, ""
    )
    found = latent.directions(bundle.models, reference, effects, reference.latent_mean)
    told = [
        m.lag if (d.movements[0].sensor, m.sensor) == (0, 1) else -m.lag
        for d in found[:5]
        for m in d.movements[1:]
        if m.lag is not None and {d.movements[0].sensor, m.sensor} == {0, 1}
    ]
    assert len(told) >= 3  # a level has no lag to tell
    assert set(told) == {late}
    assert not any(m.lag for d in found[:5] for m in d.movements[1:] if m.sensor == 2)


# ------------------------------------------------------------------ the map
def test_a_distance_on_the_map_is_a_distance_between_what_sensors_show(linear: Bundle) -> None:
    models, reference = linear.models, linear.drift
    windows = windows_of(linear, rows=600)
    mean = latent.encode(models, windows, [""] * len(windows)).mean
    effects = latent.shares(
        models, latent.sample_of(reference, None), latent.active(reference), reference, ""
    )
    flat = latent.plane(mean, effects, reference)
    assert flat.dimensions == (0, 1)  # principal components are what a linear model's dimensions are
    assert flat.own_share <= flat.pca_share + 1e-9
    place = flat.weighted(mean)
    shown = latent.decode(models, mean) / models.scaler.scale
    far = np.linalg.norm(place[0] - place[1:], axis=1)
    real = np.sqrt(np.square(shown[0] - shown[1:]).sum((1, 2)) / models.window)
    assert np.corrcoef(far, real)[0, 1] > 0.99


def test_the_map_takes_the_best_plane_where_two_dimensions_show_less(linear: Bundle) -> None:
    reference = linear.drift
    Z = len(reference.latent_mean)
    rng = np.random.default_rng(0)
    common = rng.standard_normal((500, 1)) @ np.ones((1, Z)) + 0.05 * rng.standard_normal((500, Z))
    flat = latent.plane(common, np.ones(Z), reference)
    if Z > 2:
        assert flat.dimensions is None
        assert flat.pca_share > flat.own_share
    spread = np.square(flat.place(common)).sum(1).mean()
    whole = np.square(flat.weighted(common)).sum(1).mean()
    assert spread / whole == pytest.approx(flat.share, abs=1e-6)


# ------------------------------------------------------------------ regimes
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


def test_a_few_odd_moments_are_no_regime() -> None:
    assert found_in(groups(5, 500)).count == 1


def test_a_handful_of_overlapping_windows_is_one_moment() -> None:
    mean = groups(15, 40)
    assert found_in(mean).count == 2
    assert latent.regimes(mean, np.ones(55, bool), unweighted(mean), least=16).count == 1


def test_a_cycle_is_cut_into_no_more_regimes_than_tell_it_better() -> None:
    around = np.arange(4_000) / 9
    mean = np.stack([np.sin(around), np.cos(around)], 1)
    assert found_in(mean).count < latent.MOST_REGIMES


def test_episodes_make_no_regime_but_belong_to_one() -> None:
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


def test_a_regime_is_told_by_what_is_low_high_or_near_zero_in_it() -> None:
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


def test_a_regime_is_told_by_a_course_where_the_level_says_nothing() -> None:
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
def test_hours_are_told_of_a_regime_that_keeps_to_some(
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


def test_no_hours_are_told_of_less_than_a_day() -> None:
    hours = np.repeat(np.arange(10), 30)
    assert latent.usual_hours(hours, hours < 3) is None


# ------------------------------------------------------------------ what if
def test_a_what_if_moves_by_the_spread_of_training(bundle: Bundle) -> None:
    z = np.zeros(bundle.models.latents)
    after = latent.moved(z, [(1, 2.0), (0, -1.0), (1, 0.5)], bundle.drift)
    sd = np.sqrt(bundle.drift.latent_variance)
    assert after[1] == pytest.approx(2.5 * sd[1])
    assert after[0] == pytest.approx(-sd[0])
    assert not after[2:].any()
    assert not z.any()
