from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.budget import Budget
from daemon.detector import Windows
from daemon.domain import AlarmPolicy, Floats, ModelSettings, Segment, StreamSpec
from daemon.errors import NotEnoughData
from daemon.mapping import AlertRule, SensorRule
from daemon.model.promotion import scores_of
from daemon.model.segments import sliding
from daemon.model.training import CalibrationTarget, train
from tests.model.conftest import KINDS, QUICK, TARGET, VAES, dropped, machine, trained

BRIEF = replace(QUICK, steps=10)


def wide(rows: int, channels: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 3)) @ rng.standard_normal((3, channels)) + rng.standard_normal(
        (rows, channels)
    )


def of(values: Floats, settings: ModelSettings = BRIEF) -> tuple[float, int]:
    spec = StreamSpec("s", tuple(f"c{i}" for i in range(values.shape[1])))
    bundle = train(
        [Segment("a", 0, values)], spec, settings, CalibrationTarget(AlarmPolicy(), Budget(1.0), 3600)
    )
    scores = scores_of(bundle.detector(), Segment("a", 0, values))
    assert np.isfinite(scores[bundle.window - 1 :]).all()
    return bundle.calibration.threshold, bundle.window


@pytest.mark.parametrize(
    ("rows", "channels", "window"), [(160, 1, 16), (500, 52, 16), (750, 1, 16), (90, 2, 9), (40, 1, 4)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_small_and_wide_histories_train(rows: int, channels: int, window: int, kind: str) -> None:
    threshold, fitted = of(wide(rows, channels), replace(QUICK, steps=10, kind=kind))
    assert np.isfinite(threshold)
    assert fitted == window


def test_too_few_rows_are_refused_in_one_line() -> None:
    with pytest.raises(NotEnoughData, match="has 39 rows; training needs 40"):
        of(wide(39, 2))
    with pytest.raises(NotEnoughData, match="has 0 rows"):
        trained([])
    rules = (*[SensorRule(alert=AlertRule(ignore=True))] * 3, SensorRule())
    values = machine(200)
    values[:, 3] = np.nan
    with pytest.raises(NotEnoughData, match="no sensor that is not ignored was observed in 200 rows"):
        trained([Segment("a", 0, values)], sensor_rules=rules)
    with pytest.raises(NotEnoughData, match="no value was observed"):
        of(np.full((200, 2), np.nan))


@pytest.mark.parametrize("kind", VAES)
def test_the_same_training_twice_is_one_version(kind: str) -> None:
    history = [Segment("a", 0, dropped(machine(300), 0.1))]
    settings = replace(BRIEF, kind=kind)
    assert trained(history, settings).version == trained(history, settings).version
    assert trained(history, settings).version != trained(history, replace(settings, seed=1)).version


def test_a_dead_and_a_constant_channel_can_be_trained_on() -> None:
    values = wide(300, 4)
    values[:, 1] = np.nan
    values[:, 2] = 3.0
    of(values)


def test_a_channel_that_appears_late_can_be_trained_on() -> None:
    values = wide(400, 3)
    values[:300, 1] = np.nan  # unseen by some folds
    of(values)


def test_constant_sensors_alone_can_be_trained_on() -> None:
    threshold, _ = of(np.full((200, 2), 4.0))
    assert np.isfinite(threshold)


def test_many_short_segments_and_a_fleet() -> None:
    pieces = [Segment("a", 100 * i, machine(60, i)) for i in range(8)]
    assert trained(pieces).window == 16
    fleet = [Segment(f"p{i}", 0, machine(60, i)) for i in range(8)]
    bundle = trained(fleet)
    assert bundle.window == 16
    assert bundle.detector().carried_baseline("p3", 60) is not None


def test_progress_rises_to_one() -> None:
    seen: list[float] = []
    train(
        [Segment("a", 0, wide(200, 2))],
        StreamSpec("s", ("x", "y")),
        replace(QUICK, steps=10),
        TARGET,
        lambda share, doing: seen.append(share),
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize("kind", VAES)
def test_conditions_reach_the_model_and_an_unseen_one_still_scores(kind: str) -> None:
    values = np.concatenate([machine(300, 0), machine(300, 1) + np.array([40.0, 0.0, 0.0, 0.0])])
    history = [Segment("a", 0, values, ("idle",) * 300 + ("load",) * 300)]
    bundle = trained(history, replace(QUICK, kind=kind))
    assert bundle.conditions == ("idle", "load")
    window = np.tile(values[None, 100:116], (3, 1, 1))
    evidence = bundle.detector().infer(Windows(window, np.ones(3, bool), ("idle", "load", "new")))
    assert np.isfinite(evidence.latent).all()
    assert len({round(float(v), 4) for v in evidence.elbo}) == 3
    assert np.isfinite(bundle.sample(5, "load")[:, :, :3]).all()
    scaled = bundle.models.scaler.scaled(sliding(values, 16))
    alike = bundle.models.reconstruct(scaled[:256])
    for count in (0, 1, 32, 96, 255):  # whole paddings and partial ones
        np.testing.assert_allclose(bundle.models.reconstruct(scaled[:count]), alike[:count], atol=1e-5)


def test_data_under_another_unit_changes_no_score() -> None:
    values = machine(300)
    a = trained([Segment("a", 0, values)], replace(QUICK, kind="ppca"))
    b = trained([Segment("a", 0, values * 1_000.0)], replace(QUICK, kind="ppca"))
    # the idle sensor's floor is absolute below 1: compare the moving ones
    fresh = machine(100, 5)
    one, other = (scores_of(x.detector(), Segment("a", 0, fresh * k)) for x, k in ((a, 1.0), (b, 1_000.0)))
    np.testing.assert_allclose(one[16:], other[16:], rtol=1e-3)
