from __future__ import annotations

import dataclasses
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from daemon.detector import Windows
from daemon.errors import BundleError
from daemon.model.bundle import MANIFEST, WEIGHTS, Bundle
from daemon.model.segments import sliding
from tests.model.conftest import KINDS, VAES, dropped, machine


def scores(bundle: Bundle) -> np.ndarray:
    detector = bundle.detector()
    cut = sliding(dropped(machine(120, 3), 0.05), detector.window)
    batch = Windows(cut, np.ones(len(cut), bool), ("",) * len(cut))
    state = detector.fresh_baseline("")[None]
    return detector.judge(detector.infer(batch), state, np.zeros(len(cut), np.int64)).score


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_comes_back_as_it_was(kind: str, bundles: Callable[[str], Bundle], tmp_path: Path) -> None:
    one = bundles(kind)
    path = one.save(tmp_path / "models" / kind)
    for again in (Bundle.load(path), Bundle.from_bytes(one.to_bytes())):
        assert again.version == one.version
        assert again.settings.kind == again.models.kind == kind
        assert again.detector().part_thresholds == one.detector().part_thresholds
        assert again.detector().threshold == one.detector().threshold
        assert again.detector().closing == one.detector().closing
        np.testing.assert_array_equal(scores(again), scores(one))
        np.testing.assert_array_equal(again.longest_constant, one.longest_constant)
        assert again.sustained is not None
        assert one.sustained is not None
        assert again.sustained.facts() == one.sustained.facts()
        for name, array in one.sustained.arrays().items():
            np.testing.assert_array_equal(again.sustained.arrays()[name], array)
        carried = again.detector().carried_baseline("pump-1", 2_500)
        np.testing.assert_array_equal(carried, one.detector().carried_baseline("pump-1", 2_500))


def test_the_version_is_of_the_content(bundle: Bundle) -> None:
    assert len(bundle.version) == 12
    assert bundle.version == Bundle.from_bytes(bundle.to_bytes()).version
    other = dataclasses.replace(bundle, extras={"other.rho": np.ones(3)})
    assert other.version != bundle.version
    np.testing.assert_array_equal(Bundle.from_bytes(other.to_bytes()).extras["other.rho"], np.ones(3))


def test_saving_again_replaces_and_leaves_nothing_behind(
    bundle: Bundle, linear: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    linear.save(path)
    bundle.save(path)
    assert Bundle.load(path).version == bundle.version
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert sorted(p.name for p in path.iterdir()) == [MANIFEST, WEIGHTS]


def test_a_full_disk_leaves_the_old_bundle_and_no_other_files(
    bundle: Bundle, linear: Bundle, tmp_path: Path
) -> None:
    path = linear.save(tmp_path / "model")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
    try:
        with pytest.raises(BundleError, match="cannot write the bundle: File too large"):
            bundle.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Bundle.load(path).version == linear.version
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_a_bundle_is_found_after_a_kill_between_two_renames(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "model")
    path.rename(tmp_path / ".model.former")
    assert Bundle.load(path).version == bundle.version


def test_a_pipe_is_no_bundle(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "model")
    (path / MANIFEST).unlink()
    os.mkfifo(path / MANIFEST)
    with pytest.raises(BundleError, match="is no file"):
        Bundle.load(path)


def test_what_is_no_bundle_is_not_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("precious")
    with pytest.raises(BundleError, match="no model bundle"):
        bundle.save(tmp_path)
    assert (tmp_path / "keep.txt").read_text() == "precious"


def test_damage_is_named_in_one_line(bundle: Bundle, linear: Bundle, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "model")
    manifest, weights = (path / MANIFEST).read_text(), (path / WEIGHTS).read_bytes()

    def refused(pattern: str) -> None:
        with pytest.raises(BundleError, match=pattern) as caught:
            Bundle.load(path)
        assert "\n" not in str(caught.value)
        (path / MANIFEST).write_text(manifest)
        (path / WEIGHTS).write_bytes(weights)

    (path / WEIGHTS).write_bytes(weights[:-1])
    refused("do not belong together")
    foreign = linear.save(tmp_path / "other")
    (path / WEIGHTS).write_bytes((foreign / WEIGHTS).read_bytes())
    refused("do not belong together")
    (path / MANIFEST).write_text("{")
    refused("damaged bundle")
    (path / MANIFEST).write_text(json.dumps({**json.loads(manifest), "format": 99}))
    refused("format 99")
    (path / MANIFEST).write_text(json.dumps({**json.loads(manifest), "facts": {}, "sensors": ["one"]}))
    refused(r"scaler.mean has shape \(4,\)")
    settings = json.loads(manifest)["settings"]
    (path / MANIFEST).write_text(json.dumps({**json.loads(manifest), "settings": {**settings, "kind": "x"}}))
    refused("no VAE of kind 'x'")
    (path / MANIFEST).write_text(
        json.dumps({**json.loads(manifest), "settings": {**settings, "kind": "gru"}})
    )
    refused("not those of a VAE of kind gru")
    about = {**json.loads(manifest)["vae"], "hidden": [16, 16]}
    (path / MANIFEST).write_text(json.dumps({**json.loads(manifest), "vae": about}))
    refused(r"vae\.\S+ has shape")
    (path / WEIGHTS).unlink()
    refused("no readable model bundle")


@pytest.mark.parametrize(
    "data", [b"", b"anomalyd-bundle\x00", b"x" * 100, b"anomalyd-bundle\x00\x00\x00\x00\x05{}"]
)
def test_bytes_that_are_no_bundle(data: bytes) -> None:
    with pytest.raises(BundleError):
        Bundle.from_bytes(data)


@pytest.mark.parametrize("kind", VAES)
def test_synthetic_windows_are_in_raw_units(
    kind: str, bundles: Callable[[str], Bundle], linear: Bundle
) -> None:
    bundle = bundles(kind)
    drawn = bundle.sample(300, seed=1)
    assert drawn.shape == (300, 16, 4)
    np.testing.assert_allclose(drawn.mean((0, 1))[:3], machine(1_500).mean(0)[:3], rtol=0.3, atol=0.5)
    np.testing.assert_array_equal(drawn, bundle.sample(300, seed=1))
    assert np.isfinite(linear.sample(1)).all()
