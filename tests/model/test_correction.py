"""What was accepted of a sensor is taken off its readings, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.detector import CorrectedWindows, OwnedWindow, Windows, accepted_part
from daemon.domain import Floats, Mask, Segment
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from tests.model.conftest import KINDS, QUICK, machine, trained

L, C = 16, 4
SENSOR, SIZE = 3, 5.0
STARTS = range(0, 200, 10)


@pytest.fixture(params=KINDS)
def detector(request: pytest.FixtureRequest, bundles: Callable[[str], Bundle]) -> BundleDetector:
    return bundles(request.param).detector()


def windows_of(detector: BundleDetector, values: Floats) -> Windows:
    """Windows (B, L, C) as the stream has them: in scaled units, with the newest rows."""
    units = detector.scaling.of(values)
    return Windows(values[:, -1:], np.ones(len(values), bool), ("",) * len(values), scaled=units)


def corrected(
    detector: BundleDetector, values: Floats, sizes: dict[int, float], taken_out: tuple[int, ...] = (SENSOR,)
) -> CorrectedWindows:
    least, most, taken = (
        np.zeros((len(values), C)),
        np.zeros((len(values), C)),
        np.zeros((len(values), C), bool),
    )
    for c, size in sizes.items():
        (most if size > 0 else least)[:, c] = size
    taken[:, list(taken_out)] = True
    return detector.corrected(windows_of(detector, values), least, most, taken)


def raw(detector: BundleDetector, found: CorrectedWindows) -> Floats:
    assert found.windows.scaled is not None
    return detector.scaling.raw(found.windows.scaled)


def changed(rows: Mask | slice, by: float, sensor: int = SENSOR) -> tuple[Floats, Floats]:
    """Windows of the machine (B, L, C), and with a sensor off by so much at some of their rows."""
    fine = np.stack([machine(L, 3, start) for start in STARTS])
    off = fine.copy()
    off[:, rows, sensor] += by
    return fine, off


def unit(detector: BundleDetector) -> Floats:
    return detector.calibrated.residual_rms * detector.models.scaler.scale


@pytest.mark.parametrize("rows", [slice(None), np.arange(L) >= 9, np.arange(L) % 5 > 1])
@pytest.mark.parametrize("by", [SIZE, -SIZE])
def test_a_window_is_as_it_was_before_the_change(
    detector: BundleDetector, rows: Mask | slice, by: float
) -> None:
    """Also where the machine shows the change at some rows only."""
    fine, off = changed(rows, by)
    found = corrected(detector, off, {SENSOR: by})
    left = np.abs(raw(detector, found) - fine)[..., SENSOR] / unit(detector)[SENSOR]
    without = np.abs(off - fine)[:, rows, SENSOR] / unit(detector)[SENSOR]
    assert np.median(left) < 1.5 < np.median(without)
    assert (
        np.median(np.abs(found.apart[:, SENSOR] - (off - fine)[:, -1, SENSOR])) < 1.5 * unit(detector)[SENSOR]
    )
    others = np.arange(C) != SENSOR
    assert np.isnan(found.apart[:, others]).all()
    np.testing.assert_allclose(raw(detector, found)[..., others], fine[..., others], rtol=1e-5, atol=1e-4)
    newest = off[:, -1] - raw(detector, found)[:, -1]
    np.testing.assert_allclose(found.removed, newest, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.windows.values[:, -1], raw(detector, found)[:, -1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("by", [-SIZE, 2.0 * SIZE, 4.0 * SIZE])
def test_a_fault_of_another_size_or_to_the_other_side_keeps_its_size(
    detector: BundleDetector, by: float
) -> None:
    fine, off = changed(slice(None), by)
    left = (raw(detector, corrected(detector, off, {SENSOR: SIZE})) - fine)[..., SENSOR]
    expected = by - SIZE if by > 0 else by
    assert np.median(np.abs(left - expected)) < 1.5 * unit(detector)[SENSOR]


def test_a_sensor_that_does_not_show_its_level_is_left_alone(detector: BundleDetector) -> None:
    """Unless it is to be taken out: a model may reproduce what it reads, with latents far from normal."""
    _, off = changed(slice(None), SIZE)
    sizes = {SENSOR: SIZE, 0: 90.0, 1: 6.0}
    found = corrected(detector, off, sizes)
    assert np.isnan(found.apart[:, :2]).mean() > 0.9
    off[..., 1] += 6.0
    assert np.isfinite(corrected(detector, off, sizes).apart[:, 1]).any()
    off[..., 0] += 90.0
    found = corrected(detector, off, sizes, taken_out=(0, 1, SENSOR))
    assert np.isfinite(found.apart[:, 0]).all()
    before, after = (detector.infer(one) for one in (windows_of(detector, off), found.windows))
    assert after.latent[-1, :, 0].max() < 0.5 * before.latent[-1, :, 0].min()


def test_missing_readings_stay_missing_and_windows_do_not_depend_on_their_batch(
    detector: BundleDetector,
) -> None:
    _, off = changed(slice(None), SIZE)
    off[:, 3:6, SENSOR] = off[::2, -1, 1] = np.nan
    whole = corrected(detector, off, {SENSOR: SIZE})
    np.testing.assert_array_equal(np.isnan(raw(detector, whole)), np.isnan(off))
    for i in range(0, len(off), 3):
        alone = corrected(detector, off[i : i + 1], {SENSOR: SIZE})
        np.testing.assert_allclose(raw(detector, alone)[0], raw(detector, whole)[i], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("sensor", "by", "within"), [(0, 80.0, 45.0), (3, 5.0, 0.05), (3, -5.0, 0.05)])
def test_which_sensor_a_change_is_of_and_by_how_much(
    detector: BundleDetector, sensor: int, by: float, within: float
) -> None:
    """Nothing tells of the first one but its own readings, which move by 30."""
    every, right = np.ones(C, bool), []
    _, off = changed(slice(None), by, sensor)
    for values in off:
        found = detector.sensors_off(OwnedWindow(detector.scaling.of(values), "", ""), every)
        assert found
        right.append(found[0].sensor == sensor)
        if right[-1]:
            assert abs(found[0].apart - by) < within
            assert found[0].observed == pytest.approx(values[:, sensor].mean(), rel=1e-4)
    assert np.mean(right) > 0.8


def test_a_normal_window_shows_none_off_nor_does_one_that_may_not_be(detector: BundleDetector) -> None:
    fine, off = changed(slice(None), SIZE)
    every = np.ones(C, bool)
    assert detector.sensors_off(OwnedWindow(detector.scaling.of(fine[0]), "", ""), every) == []
    found = detector.sensors_off(OwnedWindow(detector.scaling.of(off[0]), "", ""), np.arange(C) == 1)
    assert all(one.sensor == 1 for one in found)


def owned(detector: BundleDetector, values: Floats) -> OwnedWindow:
    return OwnedWindow(detector.scaling.of(values), "", "")


def only(*sensors: int) -> Mask:
    return np.isin(np.arange(C), sensors)


def test_a_sensor_with_an_error_of_its_own_is_not_explained_by_another_one(detector: BundleDetector) -> None:
    _, off = changed(slice(None), 5.0)
    off[..., 2] += 6_000.0
    found = [detector.explained_by(owned(detector, values), only(SENSOR)) for values in off]
    assert np.mean([one[2] for one in found]) < 0.2


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_an_error_that_leaks_is_explained_by_the_sensor_that_it_comes_from(kind: str) -> None:
    """Four sensors of one thing: what is expected of three of them follows the fourth one, by a part."""
    rng = np.random.default_rng(0)

    def alike(rows: int, start: int = 0) -> Floats:
        one = np.sin(np.arange(start, start + rows) / 9.0)[:, None]
        return np.asarray(50.0 + 10.0 * one + 0.3 * rng.standard_normal((rows, C)))

    settings = replace(QUICK, kind=kind, steps=300)
    detector = trained([Segment("pump-1", 1_000, alike(1_500))], settings).detector()
    leaked, explained, own, two = [], [], [], []
    for start in STARTS:
        values = alike(L, 5_000 + start)
        values[:, SENSOR] += 8.0
        scaled = detector.scaling.of(values).astype(np.float32)
        measured = detector.models.measure_scaled(scaled[None], ("",), keep=True)
        apart = (scaled - np.asarray(measured.decoded[0])) / detector.calibrated.residual_rms
        leaked.append(np.sqrt(np.square(apart).mean(0))[:SENSOR] > 2.0)
        explained.append(detector.explained_by(owned(detector, values), only(SENSOR))[:SENSOR])
        values[:, 0] -= 8.0
        own.append(detector.explained_by(owned(detector, values), only(SENSOR))[0])
        two.append(detector.explained_by(owned(detector, values), only(1, SENSOR))[0])
    assert np.mean(leaked) > 0.5
    assert np.mean(np.array(explained)[np.array(leaked)]) > 0.9
    assert np.mean(own) < 0.1
    assert np.mean(two) < 0.1


@pytest.mark.parametrize(("sensor", "by"), [(0, 150.0), (2, 6_000.0), (1, 5.0)])
def test_what_nothing_else_implies_is_not_explained(detector: BundleDetector, sensor: int, by: float) -> None:
    """Without the only others that tell of it a model follows it, wherever it is."""
    others = [c for c in (0, 1, 2) if c != sensor]
    _, off = changed(slice(None), by, sensor)
    for values in off[::4]:
        assert not detector.explained_by(owned(detector, values), only(*others))[sensor]


def test_nothing_is_explained_by_no_sensor_or_by_too_many(detector: BundleDetector) -> None:
    _, off = changed(slice(None), 5.0)
    hidden = off[0].copy()
    hidden[:, 1] = np.nan
    for values, sensors in ((off[0], only()), (off[0], only(0, 1, 2)), (hidden, only(1))):
        assert not detector.explained_by(owned(detector, values), sensors).any()


def test_what_is_normal_of_a_reading() -> None:
    apart = np.array([-9.0, -1.6, -1.5, 0.0, 3.0, 6.0, 6.1, 20.0, np.nan])
    part = accepted_part(apart, np.full(9, -1.0), np.full(9, 4.0))
    assert part == pytest.approx([-1.0, -1.4, -1.5, 0.0, 3.0, 6.0, 5.9, 4.0, 0.0])
    assert accepted_part(apart, np.zeros(9), np.zeros(9)).tolist() == [0.0] * 9
