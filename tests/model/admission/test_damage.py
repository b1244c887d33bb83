"""Bundles that are damaged at random are rejected, or work."""

from __future__ import annotations

import contextlib
import math
import random
import resource
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_tensors

from daemon.domain import Segment
from daemon.errors import BundleError
from daemon.model.bundle import MANIFEST, WEIGHTS, Bundle
from tests.model.admission.conftest import GROWTH, parts, put_together
from tests.model.conftest import machine, trained
from tests.mutations import bytewise, structured

MUTATIONS = 40
"""Per example of a property."""


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
