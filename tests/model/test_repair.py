"""The smallest repair against trying everything, the verdicts on known faults, twins, paths and tracks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from daemon.detector import Windows
from daemon.domain import (
    SECOND_NS,
    Floats,
    Segment,
    StreamSpec,
)
from daemon.model.bundle import Bundle
from daemon.model.detector import BundleDetector
from daemon.model.repair import (
    SETS,
    Cause,
    LiveWindow,
    Repair,
    Verdict,
    View,
    explained_share,
    latent_path,
    likeness,
    live_verdict,
    normal_twin,
    reconstructed,
    score_without,
    scored,
    sets_of,
    smallest_repair,
    verdict_of,
)
from daemon.model.track import Track
from daemon.model.training import train
from tests.model.conftest import QUICK, TARGET, machine
from tests.naive import fewest_sensors, masked_score

HYSTERESIS = 0.8
ROWS = 400
FAULT = 300
"""The row at which faults begin in the tests' tracks."""
WIDE = 9


def many(rows: int, seed: int = 0) -> Floats:
    """(rows, 9) raw: three causes, each seen by three sensors."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    causes = np.stack([np.sin(t / 9.0), np.sin(t / 31.0 + 1.0), np.sin(t / 17.0 + 2.0)], 1)
    return np.repeat(causes, 3, axis=1) * np.arange(1, WIDE + 1) + 0.1 * rng.standard_normal((rows, WIDE))


@cache
def wide() -> BundleDetector:
    spec = StreamSpec("wide", tuple(f"s{i}" for i in range(WIDE)), period_ns=60 * SECOND_NS)
    history = [Segment("a", 0, many(1_500))]
    return train(history, spec, replace(QUICK, kind="ppca"), TARGET).detector()


def track_of(detector: BundleDetector, spoil: Callable[[Floats], None], clean: Floats | None = None) -> Track:
    """A machine's rows, unseen by training, with a fault from ``FAULT`` on."""
    values = machine(ROWS, seed=7) if clean is None else clean.copy()
    spoil(values[FAULT:])
    return Track.of(detector, "pump-1", 5_000, values)


def oracle(detector: BundleDetector, view: View) -> Callable[[Floats], float]:
    """The detector's score of one window by itself, by the way that the stream takes."""

    def score(window: Floats) -> float:
        evidence = detector.infer(Windows(window[None], np.ones(1, bool), (view.condition,)))
        return float(detector.judge(evidence, view.baseline[None].copy(), np.zeros(1, np.int64)).score[0])

    return score


def verdict(detector: BundleDetector, track: Track, index: int, found: Repair) -> Verdict:
    """The verdict on a window, what came before its fault being windows of a hundred rows earlier."""
    before = np.stack([track.window(FAULT - 100 + i) for i in range(0, 60, 4)])
    view = track.view(index)
    return verdict_of(detector, found, view, explained_share(detector, view.values, view.condition, before))


def shift(sensors: tuple[int, ...], size: float) -> Callable[[Floats], None]:
    """A fault that moves sensors by so many of the spreads that they had in ``clean``, this way and that."""

    def spoil(rows: Floats) -> None:
        for i, c in enumerate(sensors):
            rows[:, c] += (-1) ** i * size * max(float(rows[:, c].std()), 0.1)

    return spoil


@pytest.mark.parametrize("kind", ["mlp", "ppca"])
@pytest.mark.parametrize("sensors", [(0,), (2,), (3,), (0, 1), (1, 2), (0, 1, 2)])
def test_the_smallest_repair_is_what_trying_everything_finds(
    kind: str, sensors: tuple[int, ...], bundles: Callable[[str], Bundle]
) -> None:
    detector = bundles(kind).detector()
    track = track_of(detector, shift(sensors, 5.0))
    view = track.view(track.index_from(track.first_row + FAULT + 8))
    blame = np.random.default_rng(3).dirichlet(np.ones(4))
    found = smallest_repair(detector, view, blame, HYSTERESIS)
    level = HYSTERESIS * detector.threshold
    score = oracle(detector, view)
    expected = fewest_sensors(score, view.values, blame, level, 3)
    assert found.level == pytest.approx(level)
    assert found.before == pytest.approx(masked_score(score, view.values, ()), rel=1e-5)
    if expected is None:
        assert not found.enough
        return
    assert found.exact
    assert set(found.sensors) == set(expected)
    assert found.after == pytest.approx(masked_score(score, view.values, expected), rel=1e-5)


def test_one_broken_sensor_of_many_is_found_and_called_so() -> None:
    for c in range(WIDE):
        track = track_of(wide(), shift((c,), 4.0), many(ROWS, 7))
        index = track.index_from(track.first_row + FAULT + 20)
        view = track.view(index)
        found = smallest_repair(wide(), view, np.full(WIDE, 1.0 / WIDE), HYSTERESIS)
        assert found.sensors == (c,)
        assert verdict(wide(), track, index, found).cause is Cause.BROKEN_SENSOR


@pytest.mark.parametrize("off", [(0, 2, 3, 5, 6, 8), (6, 4, 7, 8, 3), (5, 1, 2, 4, 8)])
def test_many_sensors_are_found_step_by_step_and_none_of_them_is_too_many(off: tuple[int, ...]) -> None:
    track = track_of(wide(), shift(off, 5.67), many(ROWS, 7))
    index = track.index_from(track.first_row + FAULT + 20)
    view = track.view(index)
    found = smallest_repair(wide(), view, np.full(WIDE, 1.0 / WIDE), HYSTERESIS)
    score = oracle(wide(), view)
    assert fewest_sensors(score, view.values, np.ones(WIDE), found.level, 3) is None
    assert found.enough
    assert found.fewest == 4  # all smaller sets were tried
    assert 4 <= len(found.sensors) < WIDE
    assert found.after == pytest.approx(masked_score(score, view.values, found.sensors), rel=1e-5)
    for c in found.sensors:
        assert (
            masked_score(score, view.values, [other for other in found.sensors if other != c]) > found.level
        )
    assert verdict(wide(), track, index, found).cause is not Cause.BROKEN_SENSOR


def test_sensors_that_no_longer_fit_together_are_a_fault_of_the_process() -> None:
    track = track_of(wide(), shift((0, 3, 4, 7), 5.0), many(ROWS, 7))
    index = track.index_from(track.first_row + FAULT + 20)
    found = smallest_repair(wide(), track.view(index), np.full(WIDE, 1.0 / WIDE), HYSTERESIS)
    said = verdict(wide(), track, index, found)
    assert said.cause is Cause.PROCESS_FAULT
    assert said.explained < 0.6
    assert said.residual_nats > wide().threshold


def test_sensors_that_move_together_to_where_training_never_was_are_a_new_regime() -> None:
    def regime(rows: Floats) -> None:
        rows[:, :3] *= 4.0  # the first cause swings wider, and all that see it say so

    track = track_of(wide(), regime, many(ROWS, 7))
    index = track.index_from(track.first_row + FAULT + 60)
    found = smallest_repair(wide(), track.view(index), np.full(WIDE, 1.0 / WIDE), HYSTERESIS)
    said = verdict(wide(), track, index, found)
    assert len(found.sensors) > 1
    assert said.cause is Cause.NEW_REGIME
    assert said.explained > 0.9
    assert said.latent_nats > said.residual_nats
    # Neither is enough alone: what is not reconstructed, or leaves more than it explains, is a fault.
    assert verdict_of(wide(), found, track.view(index), 0.7).cause is Cause.PROCESS_FAULT
    rough = track.index_from(track.first_row + FAULT + 40)
    said = verdict(
        wide(), track, rough, smallest_repair(wide(), track.view(rough), np.ones(WIDE), HYSTERESIS)
    )
    assert said.explained > 0.9
    assert said.latent_nats < said.residual_nats
    assert said.cause is Cause.PROCESS_FAULT


def test_a_normal_window_needs_no_repair_and_has_no_cause(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = track_of(detector, lambda rows: None)
    quiet = int(np.argmin(track.verdicts.score))
    view = track.view(quiet)
    found = smallest_repair(detector, view, np.ones(4), HYSTERESIS)
    assert found.sensors == ()
    assert found.enough
    assert found.before == found.after
    assert verdict(detector, track, quiet, found).cause is None


def test_what_has_changed_is_measured_against_what_was_before(bundle: Bundle) -> None:
    detector = bundle.detector()
    values = machine(ROWS, seed=7)
    still = np.repeat(values[100:101], detector.window, axis=0)
    assert explained_share(detector, still, "", np.repeat(still[None], 5, 0)) == 0.0
    alone = explained_share(detector, values[100 : 100 + detector.window], "", np.empty((0, *still.shape)))
    assert 0.5 < alone <= 1.0


def test_of_two_that_contradict_each_other_the_more_blamed_is_taken_out() -> None:
    rng = np.random.default_rng(0)
    wander = np.convolve(rng.standard_normal(1_549), np.ones(50) / 7.0, "valid")
    pair = np.stack([wander, wander], 1)
    spec = StreamSpec("pair", ("a", "b"), period_ns=60 * SECOND_NS)
    history = [Segment("a", 0, pair + 0.05 * rng.standard_normal(pair.shape))]
    detector = train(history, spec, replace(QUICK, kind="ppca"), TARGET).detector()
    values = pair[:ROWS] + 0.05 * rng.standard_normal((ROWS, 2))
    far = FAULT + 30 + int(np.argmin(np.abs(np.abs(pair[FAULT + 30 : ROWS, 0]) - 0.75)))
    values[FAULT:, 0] -= 1.5 * np.sign(pair[far, 0])  # either alone is in order
    track = Track.of(detector, "a", 0, values)
    view = track.view(track.index_from(far))
    for blamed in (0, 1):
        blame = np.array([0.3, 0.3])
        blame[blamed] = 0.7
        found = smallest_repair(detector, view, blame, HYSTERESIS)
        assert found.sensors == (blamed,)
        assert found.others == 1


def test_sets_are_all_there_are_or_those_of_the_most_blamed() -> None:
    sets, whole = sets_of([4, 2, 0, 3], 2)
    assert whole
    assert sets[0] == (4, 2)
    assert len(sets) == 6
    sets, whole = sets_of(list(range(40)), 3)
    assert whole
    assert len(sets) == 9_880
    sets, whole = sets_of(list(range(60)), 3)
    assert not whole
    assert len(sets) <= SETS
    assert max(map(max, sets)) == 39


def test_sensors_without_a_value_are_not_taken_out(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = track_of(detector, shift((0, 1), 6.0))
    view = track.view(track.index_from(track.first_row + FAULT + 8))
    holed = replace(view, values=np.where(np.arange(4) == 1, np.nan, view.values))
    found = smallest_repair(detector, holed, np.array([0.1, 0.9, 0.1, 0.1]), HYSTERESIS)
    assert 1 not in found.sensors
    assert np.isinf(score_without(detector, holed, [(0, 2, 3)])).all()


# ------------------------------------------------------------------ tracks
@pytest.mark.parametrize("kind", ["mlp", "ppca"])
def test_a_view_scores_as_its_window_did(kind: str, bundles: Callable[[str], Bundle]) -> None:
    detector = bundles(kind).detector()
    track = track_of(detector, shift((0,), 3.0))
    assert len(track.at) == ROWS - detector.window + 1
    for row in (FAULT - 100, FAULT, FAULT + 7, ROWS - 1):
        index = track.index_at(track.first_row + row)
        assert index is not None
        view = track.view(index)
        again = scored(detector, view, view.values[None]).score[0]
        assert again == pytest.approx(track.verdicts.score[index], rel=1e-6)
        np.testing.assert_array_equal(view.values[-1], track.values[row])


def test_a_track_knows_which_rows_are_scored(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = Track.of(detector, "pump-1", 7, machine(100, seed=7), hop=4)
    assert all(track.row(i) % 4 == 0 for i in range(len(track.at)))
    assert track.index_at(track.row(3)) == 3
    assert track.index_at(track.row(3) + 1) is None
    assert track.index_from(track.row(3) + 1) == 4
    with pytest.raises(ValueError, match="hold no window"):
        Track.of(detector, "pump-1", 0, machine(detector.window - 1))


# ------------------------------------------------------------------ twins
@pytest.mark.parametrize("imputation", [True, False])
def test_the_twin_of_a_broken_sensor_is_what_it_would_have_read(imputation: bool) -> None:
    detector = wide() if imputation else replace(wide(), imputation=None)
    clean = many(ROWS, 7)
    track = track_of(detector, shift((4,), 5.0), clean)
    twin = normal_twin(detector, track.values, track.condition, (4,), FAULT - 5)
    others = [c for c in range(WIDE) if c != 4]
    assert np.isnan(twin.value[:, others]).all()
    assert np.isnan(twin.value[: FAULT - 5]).all()
    off = np.abs(twin.value[FAULT:, 4] - clean[FAULT:, 4])
    fault = np.abs(track.values[FAULT:, 4] - clean[FAULT:, 4])
    assert off.mean() < 0.2 * fault.mean()
    assert (twin.low <= twin.value)[FAULT:, 4].all()
    assert (twin.value <= twin.high)[FAULT:, 4].all()
    at_first, later = (twin.high - twin.low)[[FAULT - 5, ROWS - 1], 4]
    assert at_first < later  # its last value is still fresh
    if imputation:
        inside = (twin.low <= clean) & (clean <= twin.high)
        assert inside[FAULT:, 4].mean() > 0.6


def test_a_twin_knows_nothing_of_later_rows_and_of_what_was_taken_out() -> None:
    values = many(ROWS, 7)
    labels = ("",) * ROWS
    whole = normal_twin(wide(), values, labels, (4,), FAULT)
    later = values.copy()
    later[FAULT + 20 :] = 99.0
    later[FAULT:, 4] = -99.0
    early = normal_twin(wide(), later, labels, (4,), FAULT)
    np.testing.assert_array_equal(whole.value[: FAULT + 20], early.value[: FAULT + 20])
    assert not np.array_equal(whole.value[FAULT + 20 :], early.value[FAULT + 20 :], equal_nan=True)


def test_nothing_taken_out_has_no_twin(bundle: Bundle) -> None:
    values = machine(50)
    assert np.isnan(normal_twin(bundle.detector(), values, ("",) * 50, (), 10).value).all()


def test_a_window_is_reconstructed_in_raw_units(bundle: Bundle) -> None:
    detector = bundle.detector()
    track = track_of(detector, lambda rows: None)
    view = track.view(50)
    found = reconstructed(detector, view)
    assert found.shape == view.values.shape
    np.testing.assert_allclose(found[-1], track.evidence.expected[50], rtol=1e-5)


# ------------------------------------------------------------------ paths and likeness
def test_the_path_shows_the_dimension_that_moved() -> None:
    def regime(rows: Floats) -> None:
        rows[:, :3] *= 4.0

    track = track_of(wide(), regime, many(ROWS, 7))
    end = track.index_from(track.first_row + FAULT + 30)
    posterior = track.evidence.posterior[end - 60 : end + 1]
    path = latent_path(wide(), posterior, 30, most=2)
    sd = (posterior - wide().drift.latent_mean) / np.sqrt(wide().drift.latent_variance)
    moved = np.abs(sd[-1] - np.median(sd[:30], axis=0))
    assert path.dimensions[0] == int(np.argmax(moved))
    assert len(path.dimensions) == 2
    np.testing.assert_allclose(path.sd[:, 0], sd[:, path.dimensions[0]])


def test_a_dimension_that_training_left_idle_is_none() -> None:
    detector = wide()
    variance = detector.drift.latent_variance.copy()
    variance[0] = 1e-4
    detector = replace(detector, drift=replace(detector.drift, latent_variance=variance))
    posterior = np.zeros((10, len(variance)))
    posterior[-1, 0] = 5.0
    assert 0 not in latent_path(detector, posterior, 5).dimensions


def test_likeness_is_one_for_the_same_and_less_for_another() -> None:
    shares, moved = np.array([0.8, 0.2, 0.0]), np.array([1.0, -2.0])
    assert likeness(shares, moved, shares, moved) == pytest.approx(1.0)
    assert likeness(shares, moved, shares, None) == pytest.approx(1.0)
    assert likeness(shares, moved, shares, -moved) == pytest.approx(0.0)
    assert likeness(shares, moved, np.array([0.0, 0.0, 1.0]), None) == pytest.approx(0.0)
    assert likeness(shares, moved, np.zeros(3), None) == 0.0


# ------------------------------------------------------------------ what an alert may say
def regime(rows: Floats) -> None:
    """The first cause swings wider, and all that see it say so."""
    rows[:, :3] *= 5.0


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (shift((0, 3, 4, 7), 5.0), Cause.PROCESS_FAULT),
        (shift((4,), 4.0), None),  # one sensor: broken, or all that a fault shows
        (regime, None),
        (lambda rows: None, None),
    ],
)
def test_a_live_verdict_is_given_where_such_verdicts_are_right(
    spoil: Callable[[Floats], None], cause: Cause | None
) -> None:
    detector = wide()
    track = track_of(detector, spoil, many(ROWS, 7))
    index = track.index_from(track.first_row + FAULT + detector.window + 8)
    offsets = track.verdicts.offsets
    assert offsets is not None
    scaling = detector.scaling.of(track.values[FAULT - 16 : FAULT])
    live = LiveWindow(
        detector.scaling.of(track.window(index)),
        "",
        offsets[index],
        np.median(scaling, axis=0).astype(float),
        np.abs(track.verdicts.error[index]),
        HYSTERESIS * detector.threshold,
    )
    found = live_verdict(detector, live)
    assert found is cause
    view = track.view(index)
    np.testing.assert_allclose(offsets[index], detector.offsets(view.baseline, view.condition))


def test_of_a_single_sensor_nothing_is_taken_out_and_no_process_is_blamed() -> None:
    rng = np.random.default_rng(0)
    rows = np.sin(np.arange(1_500) / 9.0)[:, None] + 0.05 * rng.standard_normal((1_500, 1))
    spec = StreamSpec("one", ("a",), period_ns=60 * SECOND_NS)
    detector = train(
        [Segment("a", 0, rows)],
        spec,
        replace(QUICK, kind="ppca"),
        TARGET,
    ).detector()
    values = rows[:ROWS].copy()
    values[FAULT:] += 3.0 * rng.standard_normal((ROWS - FAULT, 1))
    track = Track.of(detector, "a", 0, values)
    index = track.index_from(FAULT + 8)
    found = smallest_repair(detector, track.view(index), np.ones(1), HYSTERESIS)
    assert not found.enough
    assert found.sensors == ()
    assert verdict(detector, track, index, found).cause is Cause.BROKEN_SENSOR
    assert track.verdicts.offsets is not None
    window = detector.scaling.of(track.window(index))
    level = HYSTERESIS * detector.threshold
    before = np.zeros(1)
    live = LiveWindow(window, "", track.verdicts.offsets[index], before, np.ones(1), level)
    assert live_verdict(detector, live) is None
