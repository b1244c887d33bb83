from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest

from daemon.detector import Evidence, Verdicts, Windows
from daemon.domain import Floats, Segment
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from daemon.model.promotion import scores_of
from daemon.model.segments import sliding
from tests.model.conftest import KINDS, dropped, machine


def windows(values: Floats, L: int = 16) -> Windows:
    cut = sliding(values, L)
    return Windows(cut, np.ones(len(cut), bool), ("",) * len(cut))


def judged(detector: BundleDetector, batch: Windows) -> Verdicts:
    state = detector.fresh_baseline("")[None]
    return detector.judge(detector.infer(batch), state, np.zeros(len(batch), np.int64))


@pytest.fixture(params=KINDS)
def detector(request: pytest.FixtureRequest, bundles: Callable[[str], Bundle]) -> BundleDetector:
    return bundles(request.param).detector()


def test_shapes_and_what_is_missing(detector: BundleDetector) -> None:
    values = dropped(machine(64, 5), 0.2)
    batch = windows(values)
    evidence = detector.infer(batch)
    B, C, Z = len(batch), 4, evidence.posterior.shape[1]
    assert evidence.channel_error.shape == (2, B, C)
    assert evidence.latent.shape == (2, B, 2)
    assert evidence.posterior.shape == (B, Z) == (B, len(detector.drift.latent_mean))
    newest = batch.values[:, -1]
    np.testing.assert_array_equal(np.isnan(evidence.residual), np.isnan(newest))
    far = (newest - detector.models.scaler.mean) / detector.models.scaler.scale
    np.testing.assert_allclose(detector.scaling.of(newest), far, rtol=1e-6)
    seen = np.isfinite(newest)
    np.testing.assert_array_equal(evidence.filled[seen], newest[seen])
    gaps = ~seen
    assert gaps.any()
    assert (evidence.low[gaps] <= evidence.filled[gaps]).all()
    assert (evidence.filled[gaps] <= evidence.high[gaps]).all()
    moving = gaps[:, :3]
    assert (evidence.low[:, :3][moving] < evidence.high[:, :3][moving]).all()
    assert np.isfinite(evidence.expected).all()
    assert evidence.scorable.all()


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_a_window_scores_alike_alone_and_among_256(detector: BundleDetector, share: float) -> None:
    batch = windows(dropped(machine(300, 6), share) if share else machine(300, 6))
    batch = Windows(batch.values[:256], batch.full[:256], batch.condition[:256])
    crowd = detector.infer(batch)
    for i in (0, 1, 31, 100, 255):
        alone = detector.infer(Windows(batch.values[i : i + 1], batch.full[i : i + 1], ("",)))
        for field in dataclasses.fields(Evidence):
            a, b = getattr(alone, field.name), getattr(crowd, field.name)
            b = b[:, i : i + 1] if field.name in ("channel_error", "latent") else b[i : i + 1]
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=field.name)
    state = detector.fresh_baseline("")[None]
    together = detector.judge(crowd, state, np.zeros(256, np.int64)).score
    state = detector.fresh_baseline("")[None]
    one_by_one = [
        detector.judge(
            detector.infer(Windows(batch.values[i : i + 1], batch.full[i : i + 1], ("",))),
            state,
            np.zeros(1, np.int64),
        ).score[0]
        for i in range(256)
    ]
    np.testing.assert_allclose(one_by_one, together, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("share", [0.005, 0.05, 0.3])
def test_a_window_is_the_same_to_the_last_bit_whatever_its_neighbours(
    detector: BundleDetector, share: float
) -> None:
    holed = windows(dropped(machine(300, 6), share)).values[:256]

    def evidence(values: Floats) -> Evidence:
        return detector.infer(Windows(values, np.ones(len(values), bool), ("",) * len(values)))

    crowd = evidence(holed)
    half = np.arange(0, 256, 2)
    apart = evidence(holed[half])
    alone = Evidence.joined([evidence(holed[i : i + 1]) for i in range(0, 256, 2)])
    for field in dataclasses.fields(Evidence):
        among = getattr(crowd.take(half), field.name)
        np.testing.assert_array_equal(among, getattr(apart, field.name), err_msg=field.name)
        np.testing.assert_array_equal(among, getattr(alone, field.name), err_msg=field.name)


def test_windows_of_several_chunks_score_as_those_of_one(detector: BundleDetector) -> None:
    values = np.tile(windows(dropped(machine(300, 6), 0.01)).values[:256], (9, 1, 1))  # a chunk has 2,048
    once = detector.infer(Windows(values[:256], np.ones(256, bool), ("",) * 256))
    crowd = detector.infer(Windows(values, np.ones(len(values), bool), ("",) * len(values)))
    for field in dataclasses.fields(Evidence):
        for begin in range(0, len(values), 256):
            part = crowd.take(np.arange(begin, begin + 256))
            np.testing.assert_array_equal(
                getattr(part, field.name), getattr(once, field.name), err_msg=field.name
            )


def test_scores_do_not_depend_on_later_rows(detector: BundleDetector) -> None:
    values = machine(100, 7)
    poisoned = values.copy()
    poisoned[60:] = np.nan
    clean = scores_of(detector, Segment("a", 0, values))
    np.testing.assert_allclose(scores_of(detector, Segment("a", 0, poisoned))[:60], clean[:60], rtol=1e-5)


def test_an_empty_window_is_no_evidence_and_moves_nothing(detector: BundleDetector) -> None:
    values = np.full((1, 16, 4), np.nan)
    evidence = detector.infer(Windows(values, np.ones(1, bool), ("",)))
    assert not evidence.scorable[0]
    state = np.full((1, len(detector.fresh_baseline(""))), 0.7)
    verdicts = detector.judge(evidence, state, np.zeros(1, np.int64))
    assert np.isnan(verdicts.score[0])
    assert np.isnan(verdicts.kl[0])
    assert np.isnan(verdicts.error[0]).all()
    P = detector.calibrated.states
    assert (np.delete(state, np.s_[2 * P : 2 * P + 8], 1) == 0.7).all()
    assert (state[:, 2 * P : 2 * P + 8] == 0.0).all()  # the next row is not adjacent to one that is known


def test_a_spike_that_scores_low_is_a_jump_of_its_sensor(detector: BundleDetector) -> None:
    values = machine(300, 8)
    values[200, 2] += 12 * 60.0  # sd of its noise
    base = detector.fresh_baseline("a")[None]
    batch = windows(values)
    slots = np.zeros(len(batch.values), np.int64)
    whole = detector.judge(detector.infer(batch), base.copy(), slots).jump
    assert whole is not None
    at = 200 - 15
    assert np.flatnonzero((whole > 1.0).any(1)).tolist() == [at, at + 1]
    assert whole[at].argmax() == 2
    state = base.copy()
    for i in range(len(slots)):  # row by row, as it arrives
        one = detector.judge(detector.infer(batch.take(np.array([i]))), state, slots[:1]).jump
        assert one is not None
        np.testing.assert_allclose(one[0], whole[i], rtol=1e-4, atol=1e-4)


def test_an_incomplete_window_is_filled_but_not_scored(detector: BundleDetector) -> None:
    values = np.full((1, 16, 4), np.nan)
    values[0, -3:] = machine(3)
    values[0, -1, 0] = np.nan
    evidence = detector.infer(Windows(values, np.zeros(1, bool), ("",)))
    assert not evidence.scorable[0]
    assert np.isfinite(evidence.filled[0]).all()
    state = detector.fresh_baseline("")[None]
    assert np.isnan(detector.judge(evidence, state, np.zeros(1, np.int64)).score[0])
    assert (state == detector.fresh_baseline("")).all()


def test_no_fill_exceeds_what_training_or_the_sensor_of_late_has_shown(detector: BundleDetector) -> None:
    assert detector.imputation is not None
    highest = np.array([205.0, 5.2, 1e4, 7.0])
    states = detector.imputation.limits.states.copy()
    states[0, :3] = [150.0, 180.0, 205.0]
    limits = dataclasses.replace(detector.imputation.limits, highest=highest, states=states)
    bounded = dataclasses.replace(
        detector, imputation=dataclasses.replace(detector.imputation, limits=limits)
    )
    some = windows(machine(200, 8))
    batch = dataclasses.replace(some, values=some.values.copy())
    batch.values[:, -1] = np.nan
    batch.values[::3, :, 0] = np.nan  # pressures of which nothing is known but the last value
    last = np.full((len(batch), 4), np.nan)
    last[::3, 0] = 180.0
    last[::6, 0] = 222.0
    evidence = bounded.infer(dataclasses.replace(batch, last_value=last, last_age=np.full(last.shape, 20.0)))
    most = np.fmax(np.fmax(np.fmax.reduce(batch.values, axis=1), last), highest)
    for ends in (evidence.low, evidence.filled, evidence.high):
        assert (ends <= most * (1 + 1e-6)).all()
        assert np.isin(ends[3::6, 0], states[0, :3]).all()
    assert not np.isin(
        evidence.filled[1::3, 0], [150.0, 180.0]
    ).any()  # it shows other values than its states
    assert (evidence.high[:, 1] > highest[1]).any()


def test_no_windows_at_all(detector: BundleDetector) -> None:
    none = Windows(np.empty((0, 16, 4)), np.empty(0, bool), ())
    verdicts = judged(detector, none)
    assert verdicts.score.shape == (0,)
    assert verdicts.error.shape == (0, 4)


@pytest.mark.parametrize(("sensor", "part"), [(0, "point"), (1, "point"), (2, "point")])
def test_a_spike_raises_the_score_and_its_sensors_error(
    detector: BundleDetector, sensor: int, part: str
) -> None:
    values = machine(40, 8)
    values[30, sensor] += 8.0 * machine(500)[:, sensor].std()
    verdicts = judged(detector, windows(values))
    at = 30 - 15
    assert verdicts.score[at] > detector.threshold > verdicts.score[: at - 1].max()
    assert verdicts.p_point[at] < 0.01
    assert getattr(verdicts, part)[at] > detector.part_thresholds[part]
    assert verdicts.error[at].argmax() == sensor


def test_a_constant_sensor_that_moves_is_detected_and_jitter_is_not(detector: BundleDetector) -> None:
    values = machine(40, 9)
    values[25:, 3] += 1.0
    assert judged(detector, windows(values)).score[12:].min() > detector.threshold
    values[25:, 3] = 7.0 + 1e-6
    assert judged(detector, windows(values)).score.max() < 1.5 * detector.threshold


def test_missing_cells_do_not_look_anomalous(detector: BundleDetector) -> None:
    values = machine(1_000, 10)
    whole = scores_of(detector, Segment("a", 0, values))
    rng = np.random.default_rng(0)
    holed = scores_of(detector, Segment("a", 0, np.where(rng.random(values.shape) < 0.3, np.nan, values)))
    edge = np.nanquantile(whole, 0.99)
    assert (holed > edge).mean() <= 0.02 + 0.005  # twice what whole windows have


def test_missing_cells_do_not_hide_an_anomaly(detector: BundleDetector) -> None:
    values = machine(60, 11)
    values[30:, 1] += 5.0
    values[np.random.default_rng(0).random(values.shape) < 0.3] = np.nan
    assert np.nanmax(scores_of(detector, Segment("a", 0, values))) > 2.0 * detector.threshold


def test_the_baseline_absorbs_slow_drift_and_the_static_score_does_not(detector: BundleDetector) -> None:
    rng = np.random.default_rng(3)
    day = 1_440  # rows
    values = machine(10 * day, 12)
    growth = np.linspace(0.0, 1.0, len(values))[:, None]
    values[:, :3] += (
        growth * rng.standard_normal((len(values), 3)) * [4.0, 0.2, 120.0]
    )  # noise grows threefold
    batch = windows(values)
    verdicts = judged(detector, batch)
    late = slice(-day, None)
    assert verdicts.static_score[late].mean() > 1.3 * verdicts.score[late].mean()


def test_the_carried_baseline_is_for_rows_that_continue(bundle: Bundle) -> None:
    detector = bundle.detector()
    end = 1_000 + 1_500
    assert detector.carried_baseline("pump-1", end) is not None
    assert detector.carried_baseline("pump-1", end + 9) is not None
    assert detector.carried_baseline("pump-1", end + 10) is None
    assert detector.carried_baseline("pump-1", end - 1) is None
    assert detector.carried_baseline("pump-2", end) is None


def test_batches_of_many_assets_are_judged_in_each_assets_order(detector: BundleDetector) -> None:
    a, b = windows(machine(60, 13)), windows(machine(60, 14) * 1.01)
    apart = [judged(detector, one).score for one in (a, b)]
    mixed = np.empty((90, *a.values.shape[1:]))
    slots = np.zeros(90, np.int64)
    slots[1::2] = 1
    mixed[0::2], mixed[1::2] = a.values, b.values
    state = np.zeros((2, len(detector.fresh_baseline(""))))
    batch = Windows(mixed, np.ones(90, bool), ("",) * 90)
    together = detector.judge(detector.infer(batch), state, slots).score
    np.testing.assert_allclose(together[0::2], apart[0], rtol=1e-5)
    np.testing.assert_allclose(together[1::2], apart[1], rtol=1e-5)


def test_what_is_accepted_scores_as_usual_from_then_on_and_the_other_sensors_are_judged_on(
    bundle: Bundle,
) -> None:
    detector = bundle.detector()
    values = machine(400, 7)
    values[:, 0] += 6.0 * values[:, 0].std()
    batch = windows(values)
    evidence, slots = detector.infer(batch), np.zeros(1, np.int64)
    before = judged(detector, batch).score
    state = np.stack([detector.fresh_baseline(""), detector.fresh_baseline("")])
    untouched = state[1].copy()
    detector.judge(evidence.take(np.arange(100)), state, np.zeros(100, np.int64))
    detector.accept(evidence.take(np.array([99])), state, slots, np.array([True, False, False, False]))
    every = np.zeros(len(batch) - 100, np.int64)
    verdicts = detector.judge(evidence.take(np.arange(100, len(batch))), state, every)
    assert np.median(verdicts.score) < 0.5 * np.median(before[100:])
    assert verdicts.sustained is not None
    assert (verdicts.sustained.opening[:, 0] < 1.0).all()
    np.testing.assert_array_equal(state[1], untouched)
