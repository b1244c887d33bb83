"""Windows to latents and back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import (
    Segment,
)
from daemon.model import latent
from daemon.model.bundle import Bundle
from daemon.model.segments import sliding
from daemon.model.training import train
from tests.model.conftest import KINDS, QUICK, SPEC, TARGET, dropped, machine
from tests.model.latent.conftest import windows_of


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


def test_the_explained_share_lies_between_that_of_noise_and_one(bundle: Bundle) -> None:
    windows = windows_of(bundle)
    explained = latent.encode(bundle.models, windows, [""] * len(windows)).explained
    assert (explained[:3] > 0.5).all()  # two cycles seen by three sensors
    assert np.isnan(explained[3])  # it stands still
    noise = np.random.default_rng(0).permuted(windows, axis=1)  # the same values, in no order
    assert latent.encode(bundle.models, noise, [""] * len(noise)).explained[0] < explained[0] - 0.2
