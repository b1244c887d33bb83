"""No array of a wrong type, shape or value is admitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import DAY_NS, Segment
from daemon.errors import BundleError
from daemon.model.bundle import Bundle
from daemon.model.imputation import BATCH_BUCKETS
from daemon.model.imputation.habit import Habit
from daemon.model.imputation.parameters import HabitFill
from tests.model.admission.conftest import parts, put_together
from tests.model.conftest import KINDS, machine, trained

LIMITLESS = ("drift.asset.threshold", "live_step", "batch_step", ".excess", "jump_limit", "highest", "states")


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
            if bad == -math.inf and name.endswith("lowest"):
                continue
            spoiled = array.copy()
            spoiled.reshape(-1)[spoiled.size // 2] = bad
            with pytest.raises(BundleError, match=rf"^bundle: ({name} holds|extras.impute: limits)"):
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


def test_deviations_that_close_above_their_opening_are_refused(linear: Bundle) -> None:
    manifest, arrays = parts(linear)
    with pytest.raises(BundleError, match="deviations would close above"):
        Bundle.from_bytes(
            put_together(manifest, {**arrays, "sustained.closes": 2.0 * arrays["sustained.opens"]})
        )


def test_an_array_that_is_missing_of_another_type_or_shape_is_named(bundle: Bundle) -> None:
    manifest, arrays = parts(bundle)
    for name, array in arrays.items():
        rest = {n: a for n, a in arrays.items() if n != name}
        for changed in ({}, {name: array[..., None]}, {name: np.zeros(array.shape, "u1")}):
            with pytest.raises(BundleError):
                Bundle.from_bytes(put_together(manifest, rest | changed))


def test_deviations_that_would_close_above_what_opens_them_are_refused(linear: Bundle) -> None:
    manifest, arrays = parts(linear)
    high = 2.0 * arrays["sustained.opens"]
    with pytest.raises(BundleError, match=r"^bundle: sustained.closes: "):
        Bundle.from_bytes(put_together(manifest, {**arrays, "sustained.closes": high}))


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


def test_the_arrays_of_habits_are_checked_where_there_are_any(linear: Bundle) -> None:
    manifest, arrays = parts(linear)
    parameters = linear.imputation
    assert parameters is not None
    sensors = len(parameters.mean)
    habitual = HabitFill(
        Habit(np.zeros((672, sensors))),
        parameters.covariance,
        parameters.partners,
        np.ones((sensors, BATCH_BUCKETS), bool),
        parameters.batch,
    )
    mine = {f"extras.impute.{k}": v for k, v in replace(parameters, habitual=habitual).arrays().items()}
    loaded = Bundle.from_bytes(put_together(manifest, arrays | mine)).imputation
    assert loaded is not None
    assert loaded.habitual is not None
    added = mine.keys() - arrays.keys()
    assert len(added) == 7
    for name in added:
        for changed in (mine[name][..., None], mine[name][:-1]):
            if name.endswith("habit_level") and changed.ndim == 2:
                continue  # of another period
            with pytest.raises(BundleError):
                Bundle.from_bytes(put_together(manifest, arrays | mine | {name: changed}))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("lowest", np.inf),
        ("highest", -np.inf),
        ("lowest", 1e9),
        ("states", [3.0, 2.0]),
        ("states", [-np.inf, 2.0]),
    ],
)
def test_limits_that_no_value_can_keep_are_refused(
    linear: Bundle, name: str, bad: float | list[float]
) -> None:
    manifest, arrays = parts(linear)
    spoiled = arrays[f"extras.impute.{name}"].copy()
    spoiled[(0, slice(2)) if name == "states" else 0] = bad
    with pytest.raises(BundleError, match="limits of a sensor"):
        Bundle.from_bytes(put_together(manifest, arrays | {f"extras.impute.{name}": spoiled}))
