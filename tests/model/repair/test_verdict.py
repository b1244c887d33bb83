"""The cause of an episode, after it and during it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import (
    SECOND_NS,
    Floats,
    Segment,
    StreamSpec,
)
from daemon.model.bundle import Bundle
from daemon.model.repair import (
    Cause,
    LiveWindow,
    explained_share,
    live_verdict,
    smallest_repair,
    verdict_of,
)
from daemon.model.track import Track
from daemon.model.training import train
from tests.model.conftest import QUICK, TARGET, machine
from tests.model.repair.conftest import FAULT, ROWS, WIDE, many, shift, track_of, verdict, wide


def test_sensors_that_no_longer_fit_together_are_a_fault_of_the_process() -> None:
    track = track_of(wide(), shift((0, 3, 4, 7), 5.0), many(ROWS, 7))
    index = track.index_from(track.first_row + FAULT + 20)
    found = smallest_repair(wide(), track.view(index), np.full(WIDE, 1.0 / WIDE))
    said = verdict(wide(), track, index, found)
    assert said.cause is Cause.PROCESS_FAULT
    assert said.explained < 0.6
    assert said.residual_nats > wide().threshold


def test_sensors_that_move_together_to_where_training_never_was_are_a_new_regime() -> None:
    def regime(rows: Floats) -> None:
        rows[:, :3] *= 4.0  # the first cause has a larger amplitude, in all of its sensors

    track = track_of(wide(), regime, many(ROWS, 7))
    index = track.index_from(track.first_row + FAULT + 60)
    found = smallest_repair(wide(), track.view(index), np.full(WIDE, 1.0 / WIDE))
    said = verdict(wide(), track, index, found)
    assert len(found.sensors) > 1
    assert said.cause is Cause.NEW_REGIME
    assert said.explained > 0.9
    assert said.latent_nats > said.residual_nats
    # Neither is enough alone: what is not reconstructed, or leaves more than it explains, is a fault.
    assert verdict_of(wide(), found, track.view(index), 0.7).cause is Cause.PROCESS_FAULT
    rough = track.index_from(track.first_row + FAULT + 40)
    said = verdict(wide(), track, rough, smallest_repair(wide(), track.view(rough), np.ones(WIDE)))
    assert said.explained > 0.9
    assert said.latent_nats < said.residual_nats
    assert said.cause is Cause.PROCESS_FAULT


def test_the_explained_share_is_of_the_change_from_before(bundle: Bundle) -> None:
    detector = bundle.detector()
    values = machine(ROWS, seed=7)
    still = np.repeat(values[100:101], detector.window, axis=0)
    assert explained_share(detector, still, "", np.repeat(still[None], 5, 0)) == 0.0
    alone = explained_share(detector, values[100 : 100 + detector.window], "", np.empty((0, *still.shape)))
    assert 0.5 < alone <= 1.0


def regime(rows: Floats) -> None:
    """The first cause has a larger amplitude, in all of its sensors."""
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
def test_live_verdicts_are_only_the_published_causes(
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
    )
    found = live_verdict(detector, live)
    assert found is cause
    view = track.view(index)
    np.testing.assert_allclose(offsets[index], detector.offsets(view.baseline, view.condition))


def test_a_single_sensor_is_never_taken_out_and_is_no_process_fault() -> None:
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
    found = smallest_repair(detector, track.view(index), np.ones(1))
    assert not found.enough
    assert found.sensors == ()
    assert verdict(detector, track, index, found).cause is Cause.BROKEN_SENSOR
    assert track.verdicts.offsets is not None
    window = detector.scaling.of(track.window(index))
    before = np.zeros(1)
    live = LiveWindow(window, "", track.verdicts.offsets[index], before, np.ones(1))
    assert live_verdict(detector, live) is None
