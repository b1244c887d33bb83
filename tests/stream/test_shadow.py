"""What a candidate would have alerted, counted beside the model in force, which says what it says without one."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from operator import add

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.alert import AlertKind, ShadowCounts
from daemon.budget import Budget
from daemon.control import Feedback, Verdict
from daemon.detector import Detector, Evidence, Windows
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    DriftRecord,
    Output,
    PolledRecords,
    Reading,
    StreamSpec,
)
from daemon.maintenance import MaintenanceWindow
from daemon.stream.assets import Column
from daemon.stream.encoding import encode, read_drift
from daemon.stream.judge import Judge
from tests.fakes import CentreDetector
from tests.stream.levels import Levels
from tests.stream.pipelines import (
    ARRIVALS,
    CENTRE,
    POLICIES,
    PUMPS_0,
    QUICK,
    SPEC,
    SPECS,
    arrivals,
    feed,
    feed_all,
    make,
    numbered,
    of_kind,
    plain,
    snapshots,
    wide,
)


class Refusing(CentreDetector):
    """A model that fails on windows that end with a high reading."""

    def infer(self, windows: Windows) -> Evidence:
        if (windows.values[:, -1] > 8.5).any():
            raise FloatingPointError
        return super().infer(windows)


BLIND = replace(CENTRE, version="blind", threshold=99.0)
OTHER = replace(QUICK, version="other", centre=0.2, threshold=2.0, sentinels=((0, 0.7),))
CANDIDATES = (
    OTHER,
    BLIND,
    replace(OTHER, pace=0.0, memory=0.0),
    Refusing(SPEC.sensors, version="refusing", threshold=1.0),
)


def rows(high: dict[int, tuple[float, float]], n: int, *, lasts: int = 6, asset: str = "p1") -> list[Reading]:
    """Readings about 0 that never stand still, off by this from these seconds on."""
    made = []
    for second in range(n):
        off = next((size for begin, size in high.items() if begin <= second < begin + lasts), (0.0, 0.0))
        made.append(wide(second, 0.1 * (second % 2) + off[0], 0.1 * (second % 3) + off[1], asset=asset))
    return numbered(made)


def total(outputs: Sequence[Output]) -> ShadowCounts:
    """Of all drift records."""
    counts = [o.shadow for o in outputs if isinstance(o, DriftRecord) and o.shadow is not None]
    return reduce(add, counts)


def without_counts(outputs: Sequence[Output]) -> list[Output]:
    return [replace(o, shadow=None) if isinstance(o, DriftRecord) else o for o in outputs]


def shadowed(readings: Sequence[Reading], candidate: Detector, detector: Detector = CENTRE) -> ShadowCounts:
    """The counts of a candidate that judges from the first row on."""
    pipeline = make(detector=detector)
    pipeline.parts.use_shadow(candidate)
    return total(feed_all(pipeline, readings))


@given(ARRIVALS, SPECS, POLICIES, st.sampled_from(CANDIDATES), st.booleans())
def test_nothing_but_the_counts_differs_from_a_stream_without_a_shadow(
    drawn: list[tuple[object, ...]], spec: StreamSpec, policy: AlarmPolicy, candidate: Detector, stop: bool
) -> None:
    readings = arrivals(drawn, spec.format)
    third = len(readings) // 3
    found = []
    for shadow in (None, candidate):
        pipeline = make(
            spec,
            QUICK,
            policy,
            max_assets=2,
            drift_interval_ns=7 * SECOND_NS,
            maintenance=[MaintenanceWindow("m", 60 * SECOND_NS, 70 * SECOND_NS)] if stop else (),
            online=Budget(1.0),
        )
        outputs = feed(pipeline, readings[:third])
        pipeline.parts.use_shadow(shadow)
        outputs += feed(pipeline, readings[third : 2 * third])
        alerts = of_kind(outputs, AlertKind.ANOMALY, AlertKind.DEVIATION)
        if alerts:
            verdict = Feedback(alerts[-1].fingerprint, Verdict.FALSE_ALARM)
            outputs += pipeline.parts.take_feedback(verdict).outputs
        outputs += feed(pipeline, readings[2 * third :])
        saved = snapshots(pipeline)
        outputs += feed(pipeline, [], ended=True)
        found.append((plain(without_counts(outputs)), saved, pipeline.dropped))
    assert found[0] == found[1]


@given(ARRIVALS, st.sampled_from(CANDIDATES), st.integers(1, 7))
def test_the_counts_do_not_depend_on_polls(
    drawn: list[tuple[object, ...]], candidate: Detector, size: int
) -> None:
    readings = arrivals(drawn, SPEC.format)
    found = []
    for each in (len(readings), size):
        pipeline = make(detector=QUICK, drift_interval_ns=7 * SECOND_NS)
        pipeline.parts.use_shadow(candidate)
        outputs: list[Output] = []
        for begin in range(0, len(readings), each):
            for step in pipeline.feed(PolledRecords(PUMPS_0, readings[begin : begin + each])):
                outputs += step.outputs
        outputs += feed(pipeline, [], ended=True)
        found.append([repr(o) for o in outputs if isinstance(o, DriftRecord)])
    assert found[0] == found[1]


@pytest.mark.parametrize("candidate", [replace(QUICK, version="other", threshold=2.0), OTHER])
def test_the_counts_are_the_episodes_of_a_stream_that_the_candidate_judges(candidate: CentreDetector) -> None:
    readings = rows({20: (3.0, 0.0), 60: (5.0, 0.0), 100: (0.0, 2.6), 140: (1.7, 0.0)}, 220, lasts=10)
    outputs = feed_all(make(detector=candidate), readings)
    began = [kind for o in outputs if isinstance(o, AlertEvent) for kind in o.began]
    counts = shadowed(readings, candidate, QUICK)
    assert counts.anomalies == began.count(AlertKind.ANOMALY) > 1
    assert counts.deviations == began.count(AlertKind.DEVIATION) > 0
    assert counts.windows == 217


def test_episodes_at_about_the_same_time_are_of_both() -> None:
    readings = rows({20: (5.0, 0.0), 60: (2.2, 0.0), 100: (5.0, 0.0)}, 160)
    keener = replace(CENTRE, version="keener", threshold=1.5)
    assert shadowed(readings, keener) == ShadowCounts("keener", 157, 3, 0, 3, 2, 2, 11)
    assert shadowed(readings, BLIND) == ShadowCounts("blind", 157, 0, 0, 0, 2, 0)
    # One begins a row after the other has ended: they are of one cause.
    late = replace(keener, version="late", threshold=2.9, hysteresis=0.2)
    counts = shadowed(rows({20: (4.0, 0.0), 27: (-4.0, 0.0)}, 80), late)
    assert (counts.episodes, counts.incumbent_episodes, counts.both) == (1, 1, 1)


def test_windows_are_in_the_units_of_the_candidate() -> None:
    far = replace(CENTRE, version="far", centre=5.0)
    assert shadowed(rows({}, 60), far) == ShadowCounts("far", 57, 1, 0, 1, 0, 0, 57)


def test_the_settings_of_the_alarms_may_change() -> None:
    pipeline = make()
    pipeline.parts.use_shadow(replace(CENTRE, version="twin"))
    readings = rows({20: (5.0, 0.0), 60: (5.0, 0.0)}, 100)
    outputs = feed(pipeline, readings[:40])
    pipeline.parts.use_policy(AlarmPolicy(50, 50), (), None)
    assert total(outputs + feed_all(pipeline, readings[40:])) == ShadowCounts("twin", 97, 1, 0, 1, 1, 1)


def test_what_is_held_of_an_asset_goes_with_it() -> None:
    pipeline = make(max_assets=1, detector=BLIND)
    pipeline.parts.use_shadow(replace(CENTRE, version="twin"))
    high = [wide(second, 9.0 + 0.1 * (second % 2), 0.1 * (second % 3)) for second in range(20)]
    other = [wide(20, 0.0, 0.1, asset="p2")]
    again = [wide(second, 9.0 + 0.1 * (second % 2), 0.1 * (second % 3)) for second in range(21, 41)]
    counts = total(feed_all(pipeline, numbered([*high, *other, *again])))
    assert (counts.anomalies, counts.episodes) == (2, 2)


def test_nothing_is_held_when_it_is_over() -> None:
    def owners() -> int:
        gc.collect()
        return sum(type(one) in (Judge, Column) for one in gc.get_objects())

    pipeline = make()
    before = owners()
    for candidate in (OTHER, BLIND):
        pipeline.parts.use_shadow(candidate)
        feed(pipeline, rows({}, 10))
        assert owners() == before + 4  # its baselines and thresholds
    pipeline.parts.use_shadow(None)
    assert owners() == before


def test_a_stop_is_left_out() -> None:
    readings = rows({20: (5.0, 0.0), 100: (5.0, 0.0)}, 160)
    pipeline = make(maintenance=[MaintenanceWindow("m", 10 * SECOND_NS, 50 * SECOND_NS)])
    pipeline.parts.use_shadow(replace(CENTRE, version="twin"))
    assert total(feed_all(pipeline, readings)) == ShadowCounts(
        "twin", 114, 1, 0, 1, 1, 1, planned=43
    )  # windows of four rows


@pytest.mark.parametrize("before", [True, False])
def test_the_like_of_a_false_alarm_is_none_of_the_candidate_either(before: bool) -> None:
    readings = rows({20: (4.0, 0.0), 60: (4.0, 0.0), 100: (9.0, 0.0)}, 160)
    pipeline = make()
    twin = replace(CENTRE, version="twin")
    outputs = feed(pipeline, readings[:35])
    if not before:
        pipeline.parts.use_shadow(twin)
    outputs += feed(pipeline, readings[35:40])
    fingerprint = of_kind(outputs, AlertKind.ANOMALY)[0].fingerprint
    pipeline.parts.take_feedback(Feedback(fingerprint, Verdict.FALSE_ALARM))
    if before:
        pipeline.parts.use_shadow(twin)
    counts = total(feed_all(pipeline, readings[40:]))
    assert (counts.anomalies, counts.both) == (1, 1)


@pytest.mark.parametrize("size", [1, 7, 300])
@pytest.mark.parametrize("back", [False, True])
def test_what_is_accepted_meanwhile_is_so_for_the_candidate_too(size: int, back: bool) -> None:
    """Until it is taken back, which it is for both."""
    first = Levels(SPEC.sensors)
    readings = rows({20: (4.0, 0.0)}, 300, lasts=300)
    pipeline = make(detector=first, drift_interval_ns=1000 * SECOND_NS)
    pipeline.parts.use_shadow(replace(first, version="twin"))
    outputs = feed(pipeline, readings[:40])
    fingerprint = of_kind(outputs, AlertKind.ANOMALY, AlertKind.DEVIATION)[0].fingerprint
    pipeline.parts.take_feedback(Feedback(fingerprint, Verdict.PLANNED))
    for at in range(40, 200, size):
        feed(pipeline, readings[at : min(at + size, 200)])
    if back:
        pipeline.parts.take_feedback(Feedback(fingerprint, Verdict.CONFIRMED))
    counts = total(feed_all(pipeline, readings[200:]))
    assert (counts.episodes, counts.incumbent_episodes, counts.both) == (1 + back,) * 3
    assert counts.alone <= 4  # until its window is full


def test_another_budget_goes_on_and_another_candidate_begins_anew() -> None:
    readings = rows({20: (4.0, 0.0), 40: (4.0, 0.0), 80: (4.0, 0.0)}, 100)
    pipeline = make(drift_interval_ns=1000 * SECOND_NS)
    pipeline.parts.use_shadow(BLIND)
    feed(pipeline, readings[:35])
    pipeline.parts.use_shadow(replace(BLIND, threshold=3.0))
    feed(pipeline, readings[35:70])
    assert total(feed_all(pipeline, [])) == ShadowCounts("blind", 67, 1, 0, 1, 2, 1)

    pipeline = make(drift_interval_ns=1000 * SECOND_NS)
    pipeline.parts.use_shadow(BLIND)
    feed(pipeline, readings[:70])
    pipeline.parts.use_shadow(replace(CENTRE, version="second"))
    assert total(feed_all(pipeline, readings[70:])) == ShadowCounts("second", 30, 1, 0, 1, 1, 1)

    pipeline.parts.use_shadow(None)
    outputs = feed_all(pipeline, numbered([wide(i, 0.0, 0.1) for i in range(200, 300)], 200))
    assert [o.shadow for o in outputs if isinstance(o, DriftRecord)] == [None]


def test_the_counts_are_in_the_drift_message_and_read_back() -> None:
    pipeline = make()
    pipeline.parts.use_shadow(replace(CENTRE, version="twin"))
    outputs = feed_all(pipeline, rows({20: (4.0, 0.0)}, 50))
    record = next(o for o in outputs if isinstance(o, DriftRecord))
    message = encode(record, datetime.now(UTC)).value
    assert json.loads(message)["shadow"] == {
        "model": "twin",
        "windows": 47,
        "anomalies": 1,
        "deviations": 0,
        "episodes": 1,
        "incumbent_episodes": 1,
        "both": 1,
        "alone": 0,
        "planned": 0,
    }
    read = read_drift(message)
    assert (read.shadow, read.windows + read.explained) == (record.shadow, 47)
    assert "shadow" not in json.loads(encode(replace(record, shadow=None), datetime.now(UTC)).value)
