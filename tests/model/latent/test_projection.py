"""The map of the latent space."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.model import latent
from daemon.model.bundle import Bundle
from tests.model.latent.conftest import windows_of


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
