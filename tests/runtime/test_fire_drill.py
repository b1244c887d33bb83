"""The fire drill beside the stream: its places, its CPU time, its findings; it changes nothing of the stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.detector import Evidence, Windows
from daemon.domain import (
    AlarmPolicy,
    AlertKind,
    Assigned,
    InputPartition,
    PolledRecords,
    Record,
)
from daemon.mapping import SensorRule
from daemon.model.faults import FaultKind
from daemon.runtime.drill_report import settled
from daemon.runtime.fire_drill import FireDrill, rules_of
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.stream.pipeline import Pipeline
from tests.fakes import CentreDetector
from tests.runtime.scripted import PUMPS_0, SPEC, line

MOVES = 1 << 40
"""``longest_constant`` of a sensor that did move, but is never stuck within a day."""
DETECTOR = CentreDetector(SPEC.sensors, memory=0.1, still=MOVES)
PLAN = StreamPlan(SPEC, retrain_every=None, drill_share=0.01)


@dataclass
class Clock:
    """Wall time that a test moves on, and CPU time that goes on by ``step`` at every look."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    step_s: float = 0.001

    def wall(self) -> float:
        return self.wall_s

    def cpu(self) -> float:
        self.cpu_s += self.step_s
        return self.cpu_s


def noisy(n: int, assets: Sequence[str] = ("p1",), first: int = 0, seed: int = 0) -> list[Record]:
    rng = np.random.default_rng(seed)
    return [
        line(
            (first + i) * len(assets) + j, asset, float(first + i), *rng.normal(0.0, 0.3, 2).round(6).tolist()
        )
        for i in range(n)
        for j, asset in enumerate(assets)
    ]


def fed(pipeline: Pipeline, drill: FireDrill, records: Sequence[Record], at_once: int = 10) -> list[Any]:
    """The outputs of these records, of which the drill sees every chunk."""
    outputs = []
    for begin in range(0, len(records), at_once):
        for step in pipeline.feed(PolledRecords(PUMPS_0, records[begin : begin + at_once])):
            outputs += step.outputs
            drill.look(pipeline, step)
    return outputs


def begun(
    detector: CentreDetector = DETECTOR, clock: Clock | None = None, seed: int = 3
) -> tuple[StreamRun, Pipeline, FireDrill]:
    run = StreamRun(PLAN, scores=True)
    run.detector = detector
    pipeline = run.open(Assigned(PUMPS_0, 0, 0))
    clock = clock or Clock()
    drill = FireDrill(SPEC, PLAN.policy, 0.01, seed=seed, cpu=clock.cpu, clock=clock.wall)
    drill.use(detector)
    clock.wall_s += 1_000.0
    return run, pipeline, drill


def slices(drill: FireDrill, clock: Clock, most: int = 100_000) -> Iterator[None]:
    """Slices, each after as much time as it needs."""
    for _ in range(most):
        clock.wall_s += 1.0
        if not drill.slice():
            return
        yield


def test_a_place_is_a_copy_of_the_stream_s_rows_and_window() -> None:
    """Window, baseline and the rows that follow equal those of a pipeline that was fed no further."""
    _, pipeline, drill = begun()
    records = noisy(60)
    fed(pipeline, drill, records)
    assert drill.places
    for place in drill.places:
        _run, again, _ = begun()
        before = place.row - (1_700_000_000)
        steps = [s for s in again.feed(PolledRecords(PUMPS_0, records[: before + 10])) if s.block is not None]
        rows = np.concatenate([s.block.rows for s in steps if s.block])
        values = np.concatenate([s.block.values for s in steps if s.block])
        at = int(np.flatnonzero(rows == place.row)[0])
        np.testing.assert_allclose(place.values[: place.lead], values[at - 4 : at], atol=1e-6)
        np.testing.assert_array_equal(place.values[place.lead :], values[at : at + 8])
        assert place.asset == "p1"


def test_the_baseline_is_that_of_the_row_before() -> None:
    _, pipeline, drill = begun()
    fed(pipeline, drill, noisy(60), at_once=1)
    for place in drill.places:
        _, again, other = begun()
        fed(again, other, noisy(place.row - 1_700_000_000), at_once=1)
        standing = again.parts.judging_state("p1", place.row - 1)
        assert standing is not None
        np.testing.assert_array_equal(place.baseline, standing.baseline)
        assert place.alarm == standing.alarm
        assert (place.still == 1).all()
        assert (place.age == 0).all()


def test_the_drill_changes_neither_outputs_nor_state() -> None:
    """The same outputs and the same state, with a drill that does all it can and without one."""
    records = noisy(200, ("p1", "p2"))
    records[250] = line(250, "p1", 125.0, 9.0, 9.0)
    clock = Clock()
    _run, pipeline, drill = begun(clock=clock)
    outputs = []
    for begin in range(0, len(records), 10):
        outputs += fed(pipeline, drill, records[begin : begin + 10])
        for _ in slices(drill, clock, 5):
            pass
    assert drill.tally.drilled > 100
    _, alone, _ = begun()
    expected = [
        output
        for begin in range(0, len(records), 10)
        for step in alone.feed(PolledRecords(PUMPS_0, records[begin : begin + 10]))
        for output in step.outputs
    ]
    assert outputs == expected
    assert list(pipeline.saving()) == list(alone.saving())


def test_no_place_contains_an_episode() -> None:
    records = noisy(400)
    bad = {i for i in range(400) if i % 23 < 3}
    records = [line(i, "p1", float(i), 9.0, 9.0) if i in bad else r for i, r in enumerate(records)]
    _, pipeline, drill = begun()
    fed(pipeline, drill, records, at_once=1)
    assert drill.places
    for place in drill.places:
        assert np.abs(place.values[place.lead :]).max() < 3.0


def test_a_gap_ends_a_place_that_is_being_gathered() -> None:
    records = [r for i, r in enumerate(noisy(300)) if i % 11]
    spec = replace(SPEC, max_gap_ns=SPEC.period_ns)
    run = StreamRun(replace(PLAN, spec=spec))
    run.detector = DETECTOR
    pipeline = run.open(Assigned(PUMPS_0, 0, 0))
    drill = FireDrill(spec, PLAN.policy, 1e6)  # it may take all the time it needs
    drill.use(DETECTOR)
    fed(pipeline, drill, records, at_once=1)
    assert drill.places == []  # of eleven rows ten are there, and it takes four and eight


@pytest.mark.parametrize("first", [60, 0])
def test_incomplete_places_of_a_silent_or_revoked_partition_are_dropped(first: int) -> None:
    """Its assets fall silent, or another replica has them, while places are being gathered there."""
    run, pipeline, drill = begun()
    fed(pipeline, drill, noisy(16, [f"p{i}" for i in range(12)]), at_once=12)
    assert drill.gathering == 4
    assert drill.places == []
    if not first:
        drill.revoked(PUMPS_0)
        assert drill.gathering == 0
    other = run.open(Assigned(InputPartition("sensors.pumps", 1), 0, 0))
    fed(other, drill, noisy(60, ["q1"], first=first))
    assert "q1" in {place.asset for place in drill.places}


def test_cpu_time_stays_within_the_share() -> None:
    """However much time there is to be had, and whatever a slice takes."""
    clock = Clock(step_s=0.02)
    _, pipeline, drill = begun(clock=clock)
    fed(pipeline, drill, noisy(200))
    began, spent = clock.wall_s, drill.spent_s
    done = 0
    for i in range(10_000):
        clock.wall_s += 0.1
        if i % 500 == 0:  # a place serves for so many faults and no more
            fed(pipeline, drill, noisy(200, first=200 + 2 * i // 5))
        while drill.slice():
            done += 1
    assert done > 100
    saved = 0.25  # CPU time that may have been saved up before
    assert drill.spent_s - spent <= 0.01 * (clock.wall_s - began) + saved
    assert drill.spent_s - spent > 0.008 * (clock.wall_s - began)


def test_the_faults_of_a_place_follow_from_seed_model_and_rows() -> None:
    found = []
    for seed, step_s in ((3, 0.001), (3, 0.004), (4, 0.001)):
        clock = Clock(step_s=step_s)
        _, pipeline, drill = begun(clock=clock, seed=seed)
        fed(pipeline, drill, noisy(60))
        for _ in slices(drill, clock):
            pass
        figures = drill.news()
        assert figures is not None
        found.append((figures.verdicts, drill.results))
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert len(found[0][0]) > 100


def test_large_faults_are_found_and_small_ones_are_not() -> None:
    clock = Clock()
    _, pipeline, drill = begun(clock=clock)
    for begin in range(0, 600, 100):
        fed(pipeline, drill, noisy(100, first=begin, seed=begin))
        for _ in slices(drill, clock):
            pass
    found = drill.results["a", FaultKind.SHIFT]
    assert settled(found)
    assert found.smallest is not None
    # A window that is full of an offset scores its size less the baseline: .3 of the noise, and a tenth of
    # the scores of the three rows before it, which is .2 of the size. The threshold is 3.
    assert found.smallest.rung.size == 6.0
    assert found.rungs[-3].size == 4.0
    assert 0.0 < found.rungs[-3].recall < 0.8
    assert found.rungs[0].recall == 0.0
    assert found.alert is AlertKind.ANOMALY
    drop_out = drill.results["a", FaultKind.DROP_OUT]
    assert drop_out.alert is AlertKind.SENSOR_SILENT
    assert drop_out.delay_rows == 7_999
    table = {(entry["sensor"], entry["kind"]): entry for entry in drill.table()}
    assert table["a", "shift"]["smallest"]["value"] == found.smallest.rung.size
    assert table["a", "drop_out"]["says"] == "a: a drop-out is found within 2.22 h"


def test_another_model_starts_over_and_a_failing_one_does_not_end_the_stream() -> None:
    broken = False

    class Breaking(CentreDetector):
        def infer(self, windows: Windows) -> Evidence:
            if broken:
                raise RuntimeError("no such weights")
            return super().infer(windows)

    clock = Clock()
    _, pipeline, drill = begun(clock=clock)
    fed(pipeline, drill, noisy(60))
    for _ in slices(drill, clock):
        pass
    metrics = Metrics(["pumps"], [])
    reporter = Reporter(metrics, Status(["pumps"]))

    def report() -> None:
        figures = drill.news()
        if figures is not None:
            reporter.drilled("pumps", figures)

    report()
    assert drill.results
    drill.use(replace(DETECTOR, version="centre-2"))
    assert (drill.results, drill.tally.drilled, drill.places, drill.table()) == ({}, 0, [], [])
    report()
    assert 'drill_recall{kind="shift",stream="pumps"} NaN' in metrics.exposition().decode()
    breaking = Breaking(SPEC.sensors, version="centre-3", still=MOVES)
    pipeline.use(breaking)
    drill.use(breaking)
    clock.wall_s += 1_000.0
    fed(pipeline, drill, noisy(43, first=60))
    broken = True
    for _ in slices(drill, clock):
        pass
    with capture_logs() as logs:
        report()
        report()
    assert [(entry["event"], entry["version"]) for entry in logs] == [("drill_failed", "centre-3")]
    assert not drill.slice()
    drill.use(None)
    assert not drill.slice()


def test_rules_are_the_streams() -> None:
    rules = rules_of(replace(DETECTOR, still=5), SPEC)
    assert rules.stuck_rows.tolist() == [10, 10]
    assert rules.silent_rows.tolist() == [8_000, 8_000]
    held = (SensorRule(hold_ns=9_000 * SPEC.period_ns), SensorRule())
    rules = rules_of(DETECTOR, replace(SPEC, sensor_rules=held))
    assert rules.silent_rows.tolist() == [9_000, 8_000]  # a sensor is not silent while its value is held
    assert rules.lasting_rows == 86_400
    assert rules_of(CentreDetector(SPEC.sensors), SPEC).stuck_rows.tolist() == [2 << 60, 2 << 60]


def test_a_stream_without_a_share_has_no_drill() -> None:
    assert StreamRun(replace(PLAN, drill_share=0.0), drills=True).drill is None
    assert StreamRun(PLAN).drill is None
    assert StreamRun(PLAN, drills=True).drill is not None
    assert AlarmPolicy() == PLAN.policy
