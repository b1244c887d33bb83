"""What a training sets aside: sentinels, stray cells, counters that are read as levels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from daemon.domain import Segment
from daemon.mapping import AlertRule, SensorRule
from daemon.model.bundle import Bundle
from daemon.model.cleaning import cleaned, cleaning_concerns
from daemon.model.promotion import scores_of
from tests.model.conftest import QUICK, SPEC, machine, trained


def test_a_dirty_history_trains_as_if_its_stray_cells_were_missing() -> None:
    clean, dirty = machine(800), machine(800)
    at = np.arange(13, 800, 90)
    dirty[at, 0], clean[at, 0] = -999.9, np.nan
    dirty[at + 7, 2], clean[at + 7, 2] = 1e6 * (1 + np.arange(len(at))), np.nan
    linear = replace(QUICK, kind="ppca")
    mine, theirs = (trained([Segment("a", 0, values)], linear) for values in (dirty, clean))
    for name, array in theirs.models.arrays().items():
        if "sentinel" not in name:
            np.testing.assert_array_equal(mine.models.arrays()[name], array, err_msg=name)
    assert mine.calibration.threshold == theirs.calibration.threshold
    assert mine.concerns[-2:] == (
        "sensor Flow: 9 values far outside of all others were not learned",
        "sensor Pressure: 9 values far outside of all others were not learned: -999.9 stands for no value,"
        " in training and later; {missing: [-999.9]} says it for good",
    )
    # Later a sentinel is missing, too; a stray value is evidence.
    again = Bundle.from_bytes(mine.to_bytes())
    scores = scores_of(again.detector(), Segment("a", 0, dirty))
    assert np.nanmax(scores[at + 1]) < again.calibration.threshold < scores[at + 7].max()


def test_sentinels_of_the_model_before_stay_known() -> None:
    history = [Segment("a", 0, machine(300))]
    history[0].values[7, 1] = 850.0
    found = cleaned(history, SPEC, ((1, 850.0), (3, -1.0)))
    assert found.sentinels == ((), (850.0,), (), (-1.0,))
    assert np.isnan(found.history[0].values[7, 1])
    assert history[0].values[7, 1] == 850.0


def test_known_sentinels_come_before_those_that_are_found() -> None:
    values = machine(900)
    for k, code in enumerate((-9999.0, 32767.0, 65535.0)):
        values[7 + 3 * k :: 300, 1] = code
    assert cleaned([Segment("a", 0, values)], SPEC, ((1, -1.0),)).sentinels[1][0] == -1.0


def test_a_repeated_number_is_set_aside_in_training_and_asked_about() -> None:
    values = machine(900)
    values[7::90, 1] = 5_000.0
    found = cleaned([Segment("a", 0, values)], SPEC)
    assert found.sentinels == ((), (), (), ())
    assert np.isnan(found.history[0].values[7::90, 1]).all()
    np.testing.assert_array_equal(found.shown[0].values, values)  # later it is a value, and no silence
    assert cleaning_concerns(found.facts, []) == [
        "sensor Current: 10 values far outside of all others were not learned:"
        " 5000 comes often and alone: if it stands for no value, {missing: [5000]} says so"
    ]


def test_a_sentinel_of_the_model_before_is_said_though_it_did_not_come_again() -> None:
    assert cleaning_concerns({}, [("Flow", -999.9)]) == [
        "sensor Flow: -999.9 stands for no value, in training and later; {missing: [-999.9]} says it for good"
    ]


def test_a_counter_without_its_setting_is_not_learned() -> None:
    values = machine(700)
    values[:, 3] = np.cumsum(np.abs(np.random.default_rng(0).normal(0, 1, 700)) + 0.01)
    history = [Segment("a", 0, values)]
    found = cleaned(history, SPEC)
    assert found.counters == ("Idle",)
    assert np.isnan(found.history[0].values[:, 3]).all()
    np.testing.assert_array_equal(found.history[0].values[:, :3], values[:, :3])
    rules = (*[SensorRule()] * 3, SensorRule(counter=True))
    assert cleaned(history, replace(SPEC, sensor_rules=rules)).counters == ()
    ignored = SensorRule(alert=AlertRule(ignore=True))
    context = replace(SPEC, sensor_rules=(*[ignored] * 3, SensorRule()))
    assert cleaned(history, context).counters == ()  # nothing else could raise an alert
    alone = replace(SPEC, sensors=("Idle",), ranges=())
    assert cleaned([Segment("a", 0, values[:, 3:])], alone).counters == ()
