"""What latent dimensions do to sensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import (
    Floats,
    Segment,
)
from daemon.model import latent
from daemon.model.bundle import Bundle
from daemon.model.training import train
from tests.model.conftest import KINDS, QUICK, SPEC, TARGET
from tests.model.latent.conftest import windows_of


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
def test_a_pattern_names_the_largest_part_of_a_movement(curve: Floats, expected: str) -> None:
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
def test_no_lag_without_a_common_shape(leader: Floats, follower: Floats) -> None:
    assert latent.lag(leader, follower) is None


def test_two_straight_lines_have_no_lag_between_them() -> None:
    assert latent.lag(T - T.mean(), 3 * (T - T.mean())) == 0


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_a_following_sensor_has_the_lag_of_its_rows(kind: str) -> None:
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


def test_latents_are_moved_in_units_of_training_sd(bundle: Bundle) -> None:
    z = np.zeros(bundle.models.latents)
    after = latent.moved(z, [(1, 2.0), (0, -1.0), (1, 0.5)], bundle.drift)
    sd = np.sqrt(bundle.drift.latent_variance)
    assert after[1] == pytest.approx(2.5 * sd[1])
    assert after[0] == pytest.approx(-sd[0])
    assert not after[2:].any()
    assert not z.any()
