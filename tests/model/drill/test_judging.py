"""Verdicts on injected faults against those of a stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.detector import Detector
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Assigned,
    Floats,
    InputPartition,
    PolledRecords,
    Reading,
    Segment,
    StreamSpec,
)
from daemon.habit import SLOTS, SilenceHabit
from daemon.mapping import AlertRule, SensorRule
from daemon.model.bundle import Bundle
from daemon.model.drill import (
    DetectionChain,
    DrillPlan,
    Place,
    Trial,
    Verdict,
    drill,
    judge_all,
    judge_in_slices,
    places_in,
    trial,
    varying_sensors,
)
from daemon.model.faults import FaultKind, Injection, inject
from daemon.runtime.fire_drill import rules_of
from daemon.runtime.stream_run import StreamPlan, StreamRun
from tests.fakes import CentreDetector
from tests.model.conftest import dropped, machine
from tests.model.drill.conftest import STREAM

PART = InputPartition("pumps", 0)
KINDS = [
    (FaultKind.SPIKE, 0.75),
    (FaultKind.SHIFT, 0.5),
    (FaultKind.SHIFT, 3.0),
    (FaultKind.DRIFT, 1.0),
    (FaultKind.STUCK, 0.0),
    (FaultKind.NOISE, 0.75),
    (FaultKind.SWAP, 0.0),
    (FaultKind.LAG, 1.0),
    (FaultKind.DROP_OUT, 0.0),
]


def parts_begun(
    detector: Detector, spec: StreamSpec, policy: AlarmPolicy, asset: str, first: int, values: Floats
) -> list[tuple[int, AlertKind, str | None]]:
    """What a stream finds in these rows: row, kind and sensor of each part of an alert that opens or joins one."""
    run = StreamRun(StreamPlan(spec, policy=policy, retrain_every=None))
    run.detector = detector
    pipeline = run.open(Assigned(PART, 0, 0))
    readings = [Reading(i, asset, (first + i) * spec.period_ns, row) for i, row in enumerate(values.tolist())]
    steps = [
        *pipeline.feed(PolledRecords(PART, readings)),
        *pipeline.feed(PolledRecords(PART, (), ended=True)),
    ]
    begun = []
    known: dict[str, set[tuple[AlertKind, str | None]]] = {}
    for event in (o for step in steps for o in step.outputs if isinstance(o, AlertEvent)):
        now = {(part.kind, part.sensor) for part in event.parts}
        begun += [
            (event.row_ns // spec.period_ns, *part) for part in now - known.get(event.fingerprint, set())
        ]
        known[event.fingerprint] = now
    return begun


def stream_verdict(
    detector: Detector,
    spec: StreamSpec,
    policy: AlarmPolicy,
    history: Segment,
    place: Place,
    what: Trial,
    lasts: int,
) -> Verdict:
    """The verdict of a stream on rows with the fault, which lasts so many rows."""
    start = place.row - history.first_row
    scaling = detector.scaling
    end = min(start + lasts, len(history.values))
    broken = history.values.copy()
    short = inject(
        broken[: start + 2 * spec.window],
        Injection(what.kind, what.sensors, start, start + 2 * spec.window, what.size),
        scaling.scale,
        np.random.default_rng(what.seed),
        scaling.mean,
    )
    if lasts > 2 * spec.window:  # one that lasts until the rules find it
        broken = inject(
            broken,
            Injection(what.kind, what.sensors, start, end, what.size),
            scaling.scale,
            np.random.default_rng(what.seed),
            scaling.mean,
        )
    else:
        broken[: start + 2 * spec.window] = short
    names = [spec.sensors[c] for c in what.sensors]
    mine = [
        (row - place.row, kind)
        for row, kind, sensor in parts_begun(
            detector, spec, policy, history.asset, history.first_row, broken[:end]
        )
        if row >= place.row
        and (kind is AlertKind.ANOMALY or (kind is not AlertKind.DEVIATION and sensor in names))
    ]
    return Verdict(*min(mine)) if mine else Verdict(None, None)


@pytest.mark.parametrize(
    ("policy", "hop", "holed"),
    [
        (AlarmPolicy(), 1, False),
        (AlarmPolicy(2, 3, refractory=16), 1, True),
        (AlarmPolicy(refractory=5), 3, True),
    ],
)
def test_verdicts_equal_those_of_a_stream(bundle: Bundle, policy: AlarmPolicy, hop: int, holed: bool) -> None:
    """All of it: a VAE, the slow baseline, persistence, the hop, gaps, and the rules without a score."""
    detector = bundle.detector()
    spec = replace(STREAM, hop=hop)
    rows = machine(700, 31)
    history = Segment("pump-1", 9_000, dropped(rows, 0.02) if holed else rows)
    chain = DetectionChain(detector, policy, rules_of(detector, spec), hop)
    places = places_in(chain, [history], 6)
    assert len(places) == 6
    able = varying_sensors(detector)
    assert able == [0, 1, 2]
    tried = [
        (place, trial(kind, c, rung, (5, i), able))
        for i, place in enumerate(places)
        for kind, rung in KINDS
        for c in (i % 3,)
    ]
    found = 0
    for (place, what), (_, verdict) in zip(tried, judge_all(chain, tried), strict=True):
        lasts = 2 * spec.window
        if what.kind is FaultKind.STUCK:
            lasts = max(lasts, int(chain.rules.stuck_rows[what.sensors[0]])) + 8
        elif what.kind is FaultKind.DROP_OUT:
            lasts = max(lasts, int(chain.rules.silent_rows[what.sensors[0]])) + 8
        if place.row + lasts > 9_700:
            continue
        assert verdict == stream_verdict(detector, spec, policy, history, place, what, lasts), (
            place.row,
            what,
        )
        found += verdict is not None and verdict.found
    assert 20 <= found <= 50


def test_baseline_and_pending_alarms_before_the_fault_count() -> None:
    """A baseline above zero, and rows above the threshold that were too few for an alarm so far."""
    detector = CentreDetector(("a", "b"), window=2, memory=0.1, still=4)
    spec = replace(STREAM, sensors=("a", "b"), window=2)
    policy = AlarmPolicy(3, 5, refractory=3)
    rng = np.random.default_rng(2)
    values = rng.normal(0.0, 0.6, (300, 2))
    values[::7] += 5.0  # two windows in seven are above the threshold: one less than it takes
    history = Segment("a", 50, values)
    chain = DetectionChain(detector, policy, rules_of(detector, spec))
    places = places_in(chain, [history], 40)
    assert len(places) == 40
    assert len({place.alarm[1] for place in places}) >= 4
    tried = [
        (p, trial(FaultKind.SHIFT, 0, rung, (p.row,), [0, 1])) for p in places for rung in (3.0, 6.0, 8.0)
    ]
    found = 0
    for (place, what), (_, verdict) in zip(tried, judge_all(chain, tried), strict=True):
        assert verdict == stream_verdict(detector, spec, policy, history, place, what, 4), (place.row, what)
        found += verdict is not None and verdict.found
    assert 20 < found < 100


def test_a_sensor_swapped_with_an_inactive_one_looks_stuck() -> None:
    """... or silent, where the other one rarely has a value; found by the stream's rules alone."""
    detector = CentreDetector(("a", "b", "c"), window=8, threshold=1e9, still=5)
    spec = replace(STREAM, sensors=("a", "b", "c"), window=8, silent_after_ns=10 * STREAM.period_ns)
    rng = np.random.default_rng(2)
    values = rng.normal(0.0, 0.6, (400, 3))
    values[:, 1] = np.repeat(rng.normal(0.0, 0.6, 40), 10)[
        :400
    ]  # constant for ten rows, and sometimes for forty
    values[120:160, 1], values[260:300, 1] = 0.5, 0.25
    values[np.arange(400) % 19 > 0, 2] = np.nan
    history = Segment("a", 50, values)
    chain = DetectionChain(detector, AlarmPolicy(), rules_of(detector, spec))
    places = places_in(chain, [history], 120)
    tried = [
        (p, trial(kind, 0, rung, (p.row,), [0, 1, 2]))
        for p in places
        for kind, rung in ((FaultKind.SWAP, 0.0), (FaultKind.LAG, 6.0))
    ]
    seen = set()
    for (place, what), (_, verdict) in zip(tried, judge_all(chain, tried), strict=True):
        if verdict is not None:
            assert verdict == stream_verdict(detector, spec, AlarmPolicy(), history, place, what, 16), (
                place.row,
                what,
            )
        seen.add(None if verdict is None else (what.kind, verdict.alert))
    assert {(FaultKind.SWAP, AlertKind.SENSOR_STUCK), (FaultKind.SWAP, AlertKind.SENSOR_SILENT)} < seen


@pytest.mark.parametrize("at_once", [1, 3, 64])
def test_results_do_not_depend_on_the_rows_judged_at_once(at_once: int) -> None:
    detector = CentreDetector(("a", "b"), window=4, memory=0.2, still=100)
    rng = np.random.default_rng(0)
    history = Segment("a", 17, rng.normal(0.0, 0.4, (300, 2)))
    rules = rules_of(detector, replace(STREAM, sensors=("a", "b"), window=4))
    chain = DetectionChain(detector, AlarmPolicy(), rules)
    places = places_in(chain, [history], 20)
    tried = [
        (place, trial(kind, 0, rung, (i,), [0, 1])) for i, place in enumerate(places) for kind, rung in KINDS
    ]
    whole = [verdict for _, verdict in judge_all(chain, tried)]
    parts = []
    for one in tried:
        steps = judge_in_slices(chain, [one], rows_at_once=at_once)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                parts += ended.value
                break
    assert parts == whole
    assert 0.1 < np.mean([v is not None and v.found for v in whole]) < 0.9


def test_judging_changes_no_place() -> None:
    detector = CentreDetector(("a", "b"), window=4, memory=0.2, still=100)
    history = Segment("a", 0, np.random.default_rng(0).normal(0.0, 0.4, (60, 2)))
    rules = rules_of(detector, replace(STREAM, sensors=("a", "b"), window=4))
    chain = DetectionChain(detector, AlarmPolicy(), rules)
    (place,) = places_in(chain, [history], 1)
    before = place.baseline.copy(), place.values.copy(), place.alarm, history.values.copy()
    list(judge_all(chain, [(place, trial(k, 0, r, (1,), [0, 1])) for k, r in KINDS]))
    np.testing.assert_array_equal(place.baseline, before[0])
    np.testing.assert_array_equal(place.values, before[1])
    np.testing.assert_array_equal(history.values, before[3])
    assert place.alarm == before[2]


def test_a_silence_that_is_usual_is_found_when_the_stream_finds_it() -> None:
    usual = np.zeros((3, SLOTS), bool)
    usual[0, 8:16] = True  # of the sensor a, from two to four
    habit = SilenceHabit(usual, np.array([2 * 3_600 * SECOND_NS, 0, 0]), np.zeros(3, np.int64))
    detector = CentreDetector(("a", "b"), window=8, threshold=1e9, still=1 << 40, silence=habit)
    spec = replace(STREAM, sensors=("a", "b"), window=8, silent_after_ns=10 * STREAM.period_ns)
    values = np.random.default_rng(2).normal(0.0, 0.6, (900, 2))
    values[np.arange(900) % 19 > 0, 1] = np.nan
    history = Segment("a", 20, values)
    chain = DetectionChain(detector, AlarmPolicy(), rules_of(detector, spec))
    places = [place for place in places_in(chain, [history], 20) if place.row < 500]
    tried = [(p, trial(FaultKind.DROP_OUT, 0, 0.0, (p.row,), [0, 1])) for p in places]
    swapped = [(p, trial(FaultKind.SWAP, 0, 0.0, (p.row,), [0, 1])) for p in places]
    after = []
    for (place, what), (_, verdict) in zip(tried, judge_all(chain, tried), strict=True):
        assert verdict == stream_verdict(detector, spec, AlarmPolicy(), history, place, what, 400)
        assert verdict is not None
        after.append(verdict.rows)
    for (place, what), (_, verdict) in zip(swapped, judge_all(chain, swapped), strict=True):
        assert verdict == stream_verdict(detector, spec, AlarmPolicy(), history, place, what, 16)
    assert (
        min(row for row in after if row is not None) < 10 < 60 < max(row for row in after if row is not None)
    )


def test_no_fault_is_injected_into_an_ignored_sensor() -> None:
    detector = CentreDetector(("a", "b", "c"), window=8, threshold=1e9, still=1 << 40)
    rules = (SensorRule(), SensorRule(alert=AlertRule(ignore=True)), SensorRule())
    spec = replace(STREAM, sensors=("a", "b", "c"), window=8, sensor_rules=rules)
    history = Segment("a", 20, np.random.default_rng(2).normal(0.0, 0.6, (100, 3)))
    chain = DetectionChain(detector, AlarmPolicy(), rules_of(detector, spec))
    tally, _ = drill(chain, [history], DrillPlan((FaultKind.SWAP, FaultKind.SHIFT), places=3))
    assert {found.sensor for found in tally.results()} == {"a", "c"}
