"""No bundle that cannot judge gets in, whichever array, field or byte of it is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
import resource
import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from daemon.domain import Segment
from daemon.errors import BundleError
from daemon.model.admission import golden_windows
from daemon.model.bundle import MAGIC, MANIFEST, WEIGHTS, Bundle
from tests.model.conftest import KINDS, dropped, machine, trained
from tests.mutations import bytewise, structured

MUTATIONS = 40
"""Per example of a property."""
LIMITLESS = ("live_step", "batch_step", ".excess")
GROWTH = 256 << 10
"""KiB by which a property may raise the process's peak memory."""

Parts = tuple[dict[str, Any], dict[str, np.ndarray]]


def parts(bundle: Bundle) -> Parts:
    manifest, weights = bundle._parts()
    return json.loads(manifest), load_tensors(weights)


def put_together(manifest: Any, weights: bytes | Mapping[str, np.ndarray]) -> bytes:
    """Bytes of a bundle whose hash is right, however wrong the rest."""
    if not isinstance(weights, bytes):
        weights = save_tensors(dict(weights))
    if isinstance(manifest, dict) and isinstance(manifest.get("weights"), dict):
        manifest = {
            **manifest,
            "weights": {**manifest["weights"], "sha256": hashlib.sha256(weights).hexdigest()},
        }
    text = json.dumps(manifest).encode()
    return MAGIC + struct.pack(">I", len(text)) + text + weights


@pytest.mark.parametrize("kind", KINDS)
def test_no_array_may_hold_a_number_that_is_not_one(kind: str, bundles: Callable[[str], Bundle]) -> None:
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
    ],
)
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_what_divides_is_positive(linear: Bundle, name: str, bad: float) -> None:
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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"calibration": {"threshold": 0.0}}, "threshold"),
        ({"calibration": {"threshold": -3.0}}, "threshold"),
        ({"calibration": {"threshold": None}}, "threshold"),
        ({"calibration": {"threshold": math.nan}}, "JSON is malformed"),
        ({"calibration": {"threshold": math.inf}}, "JSON is malformed"),
        ({"calibration": {"baseline_step": -1.0}}, "baseline_step"),
        ({"drift": {"latent_threshold": -1.0}}, "latent_threshold"),
        ({"vae": {"hidden": [10**9]}}, "hidden"),
        ({"vae": {"latent": 10**9}}, "latent"),
        ({"vae": {"latent": 65_536, "hidden": [65_536] * 32}}, "shape"),
        ({"vae": {"labels": ["a"] * 10_001}}, "labels"),
        ({"window": 10**9}, "window"),
        ({"window": 17}, "window of 17"),
        ({"lengths": [16, 4]}, "lengths"),
        ({"sensors": ["a"] * 4}, "a sensor appears twice"),
        ({"conditions": ["a", "a"]}, "a condition appears twice"),
        ({"period_ns": 0}, "period_ns"),
        ({"facts": {"active_units": "many"}}, "damaged bundle"),
        ({"facts": {"anchor": {"version": "x", "mean": [1.0], "scale": [1.0], "seen": [True]}}}, "anchor"),
        ({"facts": {"anchor": 7}}, "damaged bundle"),
        ({"facts": {"condition": [5]}}, "condition"),
        ({"facts": {"condition": "mode"}}, "condition"),
        ({"facts": {"condition": ["$moon"]}}, "no field of the calendar"),
        ({"facts": {"condition": ["$hour"], "timezone": 5}}, "timezone"),
    ],
)
def test_a_manifest_beyond_its_limits_is_refused(bundle: Bundle, change: dict[str, Any], reason: str) -> None:
    manifest, arrays = parts(bundle)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for key, value in change.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    with pytest.raises(BundleError, match=reason):
        Bundle.from_bytes(put_together(manifest, arrays))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"format":2,"facts":' + b'{"a":' * 3_000, b"9" * 5_000])
def test_a_manifest_that_overflows_a_reader_is_refused(linear: Bundle, text: bytes) -> None:
    with pytest.raises(BundleError, match="damaged bundle"):
        Bundle.from_bytes(MAGIC + struct.pack(">I", len(text)) + text + linear._parts()[1])


def test_a_model_whose_finite_weights_overflow_fails_on_the_golden_batch(bundle: Bundle) -> None:
    manifest, arrays = parts(bundle)
    for name in ("vae.output.weight", "vae.encoder.0.values", "pca.4.basis", "pca.16.mean"):
        huge = np.full_like(arrays[name], 3e38)
        with pytest.raises(BundleError, match="fails on usual windows"):
            Bundle.from_bytes(put_together(manifest, {**arrays, name: huge}))


def test_the_golden_batch_meets_every_condition_and_what_was_never_seen(bundle: Bundle) -> None:
    values, labels, scorable = golden_windows(bundle.detector(), bundle.models.scaler.seen)
    assert set(bundle.conditions) < set(labels)
    assert np.isnan(values).any()
    assert np.isfinite(values).all((1, 2)).any()
    assert not scorable.all()


def test_legitimate_bundles_of_odd_rows_are_admitted() -> None:
    unseen, rare = machine(900), machine(900)
    unseen[:, 0] = np.nan
    rare[:, 1] = np.where(np.arange(900) % 100 == 0, 5.0, np.nan)
    modes = tuple("ab"[i // 300 % 2] for i in range(900))
    for values, changes, labels in [
        (unseen, {}, ()),
        (rare, {}, ()),
        (np.full((900, 4), 7.0), {}, ()),
        (machine(900) * 1e-300, {}, ()),
        (dropped(machine(900), 0.3), {}, ()),
        (machine(900)[:, :1], {"sensors": ("Pressure",)}, ()),
        (machine(900), {"condition": ("mode",)}, modes),
    ]:
        made = trained([Segment("pump-1", 1_000, values, labels)], **changes)
        assert Bundle.from_bytes(made.to_bytes()).version == made.version


def test_a_training_that_yields_infinite_scales_says_so() -> None:
    with (
        np.errstate(all="ignore"),
        pytest.raises(BundleError, match=r"scaler\.scale holds numbers that are not"),
    ):
        trained([Segment("pump-1", 1_000, machine(600) * 1e300)])


# ------------------------------------------------------------------ damage of every kind
def refused_or_usable(data: bytes) -> bool:
    """Whether these bytes are refused, by a BundleError of one line; else all of the bundle can be used."""
    try:
        made = Bundle.from_bytes(data)
    except BundleError as error:
        said = str(error)
    else:
        assert made.version
        assert isinstance(made.concerns, tuple)
        return False
    assert "\n" not in said
    assert len(said) < 1_000
    return True


@cache
def small() -> Bundle:
    """As few weights as there can be: what is mutated is where the meaning is."""
    history = [
        Segment("pump-1", 1_000, machine(600)[:, :2]),
        Segment("pump-2", 1_000, machine(600, 1)[:, :2]),
    ]
    return trained(history, sensors=("Pressure", "Current"))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_bytes_of_a_damaged_bundle_are_refused(seed: int) -> None:
    rng, whole = random.Random(seed), small().to_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MUTATIONS):
        damaged = bytewise(rng, whole)
        refused_or_usable(damaged)  # in the manifest's text a changed letter may be another name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_manifest_of_any_structure_is_refused_or_works(seed: int) -> None:
    rng, (manifest, arrays) = random.Random(seed), parts(small())
    weights = save_tensors(arrays)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(MUTATIONS):
        changed = structured(rng, manifest)
        refused_or_usable(put_together(changed, weights))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_arrays_of_any_content_are_refused_or_work(seed: int) -> None:
    rng, (manifest, arrays) = random.Random(seed), parts(small())
    names = sorted(arrays)
    for _ in range(MUTATIONS):
        name = rng.choice(names)
        array = arrays[name].copy()
        match rng.randrange(6):
            case 0:
                array = array.reshape(-1)[: rng.randrange(array.size + 1)]
            case 1:
                array = arrays[rng.choice(names)]
            case 2:
                with np.errstate(all="ignore"):
                    array = array.astype(rng.choice(["<f2", "<f4", "<f8", "<i8", "<i4", "|u1", "|b1"]))
            case 3:
                array = np.repeat(array, 2, axis=rng.randrange(array.ndim))
            case _ if array.size and array.dtype.kind == "f":
                kinds = [math.nan, math.inf, -math.inf, 0.0, -1.0, 1e-300, 3e38, -3e38]
                array.reshape(-1)[rng.randrange(array.size)] = rng.choice(kinds)
            case _:
                array = np.zeros_like(array)
        with np.errstate(all="ignore"):
            weights = save_tensors({**arrays, name: np.ascontiguousarray(array)})
        if rng.random() < 0.3:  # the header lies
            weights = bytewise(rng, weights[: rng.choice([8, 400, 4_000])]) + weights[400:]
        refused_or_usable(put_together(manifest, weights))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64))
def test_a_damaged_folder_is_refused(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng = random.Random(seed)
    path = small().save(tmp_path_factory.mktemp("bundle") / "model")
    manifest = (path / MANIFEST).read_bytes()
    for _ in range(MUTATIONS):
        name = rng.choice([MANIFEST, WEIGHTS])
        whole = (path / name).read_bytes()
        (path / name).write_bytes(bytewise(rng, whole))
        with contextlib.suppress(BundleError):  # in the manifest's text a changed letter may be another name
            assert Bundle.load(path).version
        (path / name).write_bytes(whole)
    assert (path / MANIFEST).read_bytes() == manifest
    assert Bundle.load(path).version == small().version
