"""No array of a wrong type, shape or value is admitted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from daemon.domain import DAY_NS, Segment
from daemon.errors import BundleError
from daemon.model.bundle import Bundle
from tests.model.admission.conftest import parts, put_together
from tests.model.conftest import KINDS, machine, trained

LIMITLESS = ("live_step", "batch_step", ".excess")


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_with_numbers_that_are_not_finite_are_refused(
    kind: str, bundles: Callable[[str], Bundle]
) -> None:
    manifest, arrays = parts(bundles(kind))
    assert Bundle.from_bytes(put_together(manifest, arrays)).version == bundles(kind).version
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        for bad in (math.nan, math.inf, -math.inf):
            if bad == math.inf and name.endswith(LIMITLESS):
                continue
            spoiled = array.copy()
            spoiled.reshape(-1)[spoiled.size // 2] = bad
            with pytest.raises(BundleError, match=rf"^bundle: {name} holds"):
                Bundle.from_bytes(put_together(manifest, {**arrays, name: spoiled}))


@pytest.mark.parametrize(
    "name",
    [
        "scaler.scale",
        "sigma",
        "calibration.error_sd",
        "calibration.residual_rms",
        "calibration.point.excess",
        "pca.16.variance",
        "pca.4.noise",
        "drift.latent_variance",
        "drift.residual_variance",
        "extras.impute.scale",
        "sustained.scale",
        "sustained.opens",
        "sustained.closes",
    ],
)
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_divisors_must_be_positive(linear: Bundle, name: str, bad: float) -> None:
    manifest, arrays = parts(linear)
    spoiled = arrays[name].copy()
    spoiled[-1:] = bad
    with pytest.raises(BundleError, match=f"{name} holds {bad}, where more than 0 is needed"):
        Bundle.from_bytes(put_together(manifest, {**arrays, name: spoiled}))


def test_an_array_that_is_missing_of_another_type_or_shape_is_named(bundle: Bundle) -> None:
    manifest, arrays = parts(bundle)
    for name, array in arrays.items():
        rest = {n: a for n, a in arrays.items() if n != name}
        for changed in ({}, {name: array[..., None]}, {name: np.zeros(array.shape, "u1")}):
            with pytest.raises(BundleError):
                Bundle.from_bytes(put_together(manifest, rest | changed))


def test_a_training_with_infinite_scales_is_refused() -> None:
    with (
        np.errstate(all="ignore"),
        pytest.raises(BundleError, match=r"scaler\.scale holds numbers that are not"),
    ):
        trained([Segment("pump-1", 1_000, machine(600) * 1e300)])


def test_habits_of_silence_are_checked(linear: Bundle) -> None:
    manifest, arrays = parts(linear)
    count = len(linear.sensors) + 2
    manifest["silence"] = {"own": [["p1", len(linear.sensors)]]}
    habits = {
        "silence.usual": np.full((count, 84), 255, np.uint8),
        "silence.longest_ns": np.arange(count) * DAY_NS,
        "silence.any_hour_ns": np.zeros(count, np.int64),
    }
    found = Bundle.from_bytes(put_together(manifest, {**arrays, **habits}))
    assert found.silence is not None
    assert found.silence.usual.all()
    assert found.habits[-1] == "p1: the whole asset: silent at all hours UTC"
    for name, bad, said in (
        ("silence.usual", habits["silence.usual"][1:], "has shape"),
        ("silence.longest_ns", habits["silence.longest_ns"] - 1, "holds -1"),
        ("silence.longest_ns", habits["silence.longest_ns"] + 40_000 * DAY_NS, "of more than 36500 days"),
    ):
        with pytest.raises(BundleError, match=f"^bundle: {name} .*{said}"):
            Bundle.from_bytes(put_together(manifest, {**arrays, **habits, name: bad}))
    del habits["silence.any_hour_ns"]
    with pytest.raises(BundleError, match=r"silence.any_hour_ns is missing"):
        Bundle.from_bytes(put_together(manifest, {**arrays, **habits}))
