"""One partition from records to outputs: nothing depends on chunks, polls or restarts."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.detector import Detector, Evidence, Windows
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    DeadLetter,
    Disposition,
    DriftRecord,
    FilledRow,
    Format,
    InputPartition,
    Output,
    Phase,
    PolledRecords,
    Reading,
    Record,
    ScoredRow,
    Severity,
    StateRecord,
    StreamSpec,
)
from daemon.stream import chunker, ingest, ledger, recovery, snapshot
from daemon.stream import pipeline as pipeline_module
from daemon.stream.decoding import Decoder
from daemon.stream.drift import MOST_INTERVALS
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import Step, Traced
from tests.fakes import CentreDetector

NAN = math.nan
PUMPS_0 = InputPartition("sensors.pumps", 0)
SPEC = StreamSpec(
    "pumps",
    ("a", "b"),
    window=4,
    allowed_lateness_ns=2 * SECOND_NS,
    max_gap_ns=20 * SECOND_NS,
    silent_after_ns=8 * SECOND_NS,
)
LONG = replace(SPEC, format=Format.JSON_LONG)
CENTRE = CentreDetector(SPEC.sensors)
POLICY = AlarmPolicy()
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS


def make(
    spec: StreamSpec = SPEC, detector: Detector | None = CENTRE, policy: AlarmPolicy = POLICY, **more: Any
) -> Pipeline:
    publish_from = more.pop("publish_from", 0)
    settings = PipelineSettings(spec, policy, **{"drift_interval_ns": MINUTE_NS, "scores": True, **more})
    pipeline = Pipeline(settings, PUMPS_0, Decoder(spec, 1 << 20, 256), publish_from=publish_from)
    pipeline.offset = 0
    if detector is not None:
        pipeline.use(detector)
    return pipeline


def snapshots_at_once(patch: pytest.MonkeyPatch, most: int) -> None:
    """Let a commit write so many snapshots without need."""
    for module in (ledger, recovery, pipeline_module):
        patch.setattr(module, "SNAPSHOTS_AT_ONCE", most)


def wide(second: float, *values: float, asset: str = "p1", offset: int = 0) -> Reading:
    """A line of a live topic: its record is a little younger than the reading."""
    time_ns = round(second * SECOND_NS)
    return Reading(offset, asset, time_ns, list(values), stamp_ns=time_ns + SECOND_NS // 4)


def numbered(readings: Iterable[Reading], first: int = 0) -> list[Reading]:
    """The readings with the offsets of a log."""
    made = list(readings)
    for i, reading in enumerate(made, first):
        reading.offset = i
    return made


def steps(pipeline: Pipeline, items: Sequence[Record | Reading], **more: Any) -> list[Step]:
    return list(pipeline.feed(PolledRecords(PUMPS_0, items, **more)))


def feed(pipeline: Pipeline, items: Sequence[Record | Reading], **more: Any) -> list[Output]:
    return [output for step in steps(pipeline, items, **more) for output in step.outputs]


def plain(outputs: Iterable[Output]) -> list[str]:
    """Comparable, NaN and all, whatever order assets and kinds came in."""
    return sorted(map(repr, outputs))


def in_order(outputs: Iterable[Output]) -> dict[str, list[str]]:
    """Each asset's alerts as a reader of the topic gets them."""
    found: dict[str, list[str]] = {}
    for output in outputs:
        if isinstance(output, AlertEvent):
            found.setdefault(output.asset, []).append(repr(output))
    return found


def of_kind(outputs: Iterable[Output], *kinds: AlertKind) -> list[AlertEvent]:
    return [o for o in outputs if isinstance(o, AlertEvent) and o.kind in kinds]


def told(outputs: Iterable[Output], *kinds: AlertKind) -> list[tuple[int, str, str]]:
    """(second, phase, sensor or asset) of the alerts of these kinds."""
    return [(e.row_ns // SECOND_NS, str(e.phase), e.sensor or e.asset) for e in of_kind(outputs, *kinds)]


def steady(n: int, asset: str = "p1", start: int = 0, value: float = 0.5) -> list[Reading]:
    """Normal readings that never stand still."""
    return [wide(start + i, value + 0.01 * (i % 2), -value - 0.01 * (i % 3), asset=asset) for i in range(n)]


# ------------------------------------------------------------------ what comes out
def test_rows_are_scored_once_their_window_is_whole() -> None:
    outputs = feed(make(), numbered([wide(i, float(i), 0.0) for i in range(8)]), ended=True)
    scored = [o for o in outputs if isinstance(o, ScoredRow)]
    assert [o.row_ns // SECOND_NS for o in scored] == [3, 4, 5, 6, 7]
    rms = [math.sqrt(sum(x * x for x in range(i - 3, i + 1)) / 4) for i in range(3, 8)]
    assert [o.score for o in scored] == pytest.approx(rms)
    assert [o.alarm for o in scored] == [False, False, True, True, True]
    assert {o.model for o in scored} == {"centre-1"}


def test_missing_cells_are_filled_from_their_window_and_never_count_as_observed() -> None:
    readings = [wide(0, 1.0, 0.0), wide(1, 2.0, 0.0), wide(2, NAN, 0.0), wide(3, NAN, NAN), wide(5, 1.0, 0.0)]
    outputs = feed(make(), numbered(readings), ended=True)
    filled = {o.row_ns // SECOND_NS: o.cells for o in outputs if isinstance(o, FilledRow)}
    assert {row: set(cells) for row, cells in filled.items()} == {2: {"a"}, 3: {"a", "b"}, 4: {"a", "b"}}
    assert filled[2]["a"].value == 1.5  # before the window is whole, too
    assert filled[3]["a"].value == 1.5  # not 1.5 averaged in again
    assert filled[4]["a"].value == 2.0  # of row 1, the only one left in the window
    assert (filled[4]["a"].low, filled[4]["a"].high) == (1.0, 3.0)


def test_an_alert_says_what_where_and_since_when() -> None:
    readings = numbered([*steady(6), wide(6, 20.0, NAN), *steady(6, start=7)])
    opened, closed = of_kind(feed(make(), readings, ended=True), AlertKind.ANOMALY)
    assert (opened.phase, closed.phase) == (Phase.OPENED, Phase.CLOSED)
    assert opened.fingerprint == closed.fingerprint
    assert opened.severity is Severity.CRITICAL
    assert opened.row_ns == opened.onset_ns == opened.opened_ns == 6 * SECOND_NS
    assert closed.row_ns == 10 * SECOND_NS
    assert [c.sensor for c in opened.contributors] == ["a", "b"]
    assert (opened.contributors[0].observed, opened.contributors[0].expected) == (20.0, 0.0)
    assert opened.contributors[1].observed is None
    assert opened.scores["combined"].threshold == 3.0
    assert opened.scores["combined"].value == opened.scores["reconstruction"].value > 10.0
    assert opened.scores["point"].p == pytest.approx(math.exp(-20.0), rel=1e-6)  # in single precision
    assert opened.imputed_share == 1 / 8
    assert (opened.first_offset, opened.last_offset) == (3, 6)
    assert (opened.window_start_ns, opened.window_steps) == (3 * SECOND_NS, 4)
    assert opened.partition == PUMPS_0
    assert opened.summary.startswith("p1 is anomalous since 1970-01-01T00:00:06Z: score ")
    assert closed.summary.startswith("p1 was anomalous since 1970-01-01T00:00:06Z: a 20 (expected 0)")


def test_blame_is_measured_from_the_mean_of_training_however_far_that_is_from_zero() -> None:
    pipeline = make(detector=replace(CENTRE, centre=1000.0))
    calm = [wide(t, 1000.0 + 0.1 * (t % 2), 1000.0) for t in range(20)]
    opened, *_ = of_kind(
        feed(pipeline, numbered([*calm, wide(20, 1020.0, 1000.0)]), ended=True), AlertKind.ANOMALY
    )
    assert (opened.contributors[0].sensor, opened.contributors[0].share) == ("a", 1.0)


def test_a_hop_scores_every_so_many_rows_of_the_grid() -> None:
    outputs = feed(make(replace(SPEC, hop=3)), numbered(steady(14, start=1)), ended=True)
    assert [o.row_ns // SECOND_NS for o in outputs if isinstance(o, ScoredRow)] == [6, 9, 12]


def test_a_window_without_any_reading_scores_nan_and_freezes_the_episode() -> None:
    spec = replace(SPEC, silent_after_ns=100 * SECOND_NS)
    readings = [*steady(6), *(wide(6 + i, 5.95, 0.0) for i in range(3)), *steady(8, start=15)]
    made = steps(make(spec), numbered(readings), ended=True)
    outputs = [o for step in made for o in step.outputs]
    scored = {o.row_ns // SECOND_NS: o for o in outputs if isinstance(o, ScoredRow)}
    assert [row for row, o in scored.items() if math.isnan(o.score)] == [12, 13, 14]
    assert all(scored[row].alarm for row in (11, 12, 13, 14))
    assert told(outputs, AlertKind.ANOMALY) == [
        (6, "opened", "p1"),
        (10, "updated", "p1"),
        (15, "closed", "p1"),
    ]
    blocks = [step.block for step in made if step.block is not None]
    assert [row for b in blocks for row in b.rows[b.firing].tolist()] == [*range(6, 15)]


def test_windows_start_afresh_after_a_long_gap() -> None:
    outputs = feed(make(), numbered([*steady(6), *steady(6, start=40)]), ended=True)
    assert [o.row_ns // SECOND_NS for o in outputs if isinstance(o, ScoredRow)] == [3, 4, 5, 43, 44, 45]
    assert not any(isinstance(o, FilledRow) for o in outputs)


def test_what_cannot_be_read_is_a_dead_letter_and_everything_is_accounted_for() -> None:
    def record(offset: int, value: bytes) -> Record:
        return Record(offset, None, value, 10**6 * SECOND_NS)

    def line(offset: int, second: float, a: float | None) -> Record:
        body = {"asset": "p1", "ts": second, "values": {"a": a, "b": 0.0}}
        return record(offset, json.dumps(body).encode())

    items = [
        line(0, 1_700_000_000, 1.0),
        line(1, 1_700_000_000, 1.0),
        record(2, b""),
        record(3, b"{"),
        line(4, 1_700_000_001, None),
        line(5, 1_699_999_990, 1.0),
        line(6, 1_700_000_003, 1.0),
    ]
    # The record's own time is what the future is told from.
    items = [Record(r.offset, r.key, r.value, 1_700_000_010 * SECOND_NS) for r in items]
    pipeline = make(trace=True)
    outputs = feed(pipeline, items)
    letters = [o for o in outputs if isinstance(o, DeadLetter)]
    assert [letter.rejected.record.offset for letter in letters] == [2, 3]
    assert pipeline.counts == {
        Disposition.ACCEPTED: 3,
        Disposition.DUPLICATE: 1,
        Disposition.LATE: 1,
        Disposition.REJECTED: 2,
    }
    assert pipeline.reasons == {"blank": 1, "not_json": 1}
    assert pipeline.counts == Counter(accepted=3, duplicate=1, late=1, rejected=2)
    trace = pipeline.parts.ingest.trace
    assert trace is not None
    traced = sorted(trace, key=lambda one: one.offset)
    assert traced[2].disposition is Disposition.REJECTED
    assert traced[1] == Traced(1, "p1", 1_700_000_000, Disposition.DUPLICATE)
    assert pipeline.offset == 7


# ------------------------------------------------------------------ sensors, assets, conditions
def test_a_silent_sensor_is_said_once_and_closed_when_it_speaks() -> None:
    readings = [
        *steady(5),
        *(wide(5 + i, 0.5 + 0.01 * (i % 2), NAN) for i in range(20)),
        *steady(3, start=25),
    ]
    outputs = feed(make(), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == [(12, "opened", "b"), (25, "closed", "b")]
    opened, closed = of_kind(outputs, AlertKind.SENSOR_SILENT)
    assert opened.onset_ns == 4 * SECOND_NS
    assert opened.fingerprint == closed.fingerprint
    assert opened.id != closed.id


def test_a_sensor_that_never_spoke_is_silent_from_the_first_row_on() -> None:
    readings = [wide(i, 0.5 + 0.01 * (i % 2), NAN) for i in range(12)]
    outputs = feed(make(detector=None), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == [(8, "opened", "b")]
    assert {e.model for e in of_kind(outputs, AlertKind.SENSOR_SILENT)} == {"none"}


def test_two_silent_sensors_are_two_episodes() -> None:
    readings = [
        *steady(4),
        *(wide(4 + i, NAN, NAN if i > 1 else 1.0) for i in range(14)),
        *(wide(18 + i, NAN, 0.1 * i) for i in range(3)),
    ]
    outputs = feed(make(), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == [
        (11, "opened", "a"),
        (13, "opened", "b"),
        (18, "closed", "b"),
    ]


def test_a_pause_of_the_whole_asset_is_no_silence_of_its_sensors() -> None:
    readings = [*steady(5), *steady(5, start=19)]
    outputs = feed(make(), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == []


def test_a_silent_asset_is_said_once_and_closed_when_it_is_back() -> None:
    readings = [
        r for i in range(40) for r in steady(1, "p1", i) + (steady(1, "p2", i) if i < 10 or i > 29 else [])
    ]
    outputs = feed(make(), numbered(readings), ended=True)
    assert told(outputs, AlertKind.ASSET_SILENT) == [(17, "opened", "p2"), (30, "closed", "p2")]
    opened, _ = of_kind(outputs, AlertKind.ASSET_SILENT)
    assert opened.onset_ns == 9 * SECOND_NS
    assert opened.severity is Severity.CRITICAL


def test_alerts_of_an_asset_come_in_the_order_of_its_rows() -> None:
    readings = [*steady(8, "p2"), wide(8, 20.0, 0.0, asset="p2"), *steady(30, "p1")]
    outputs = feed(make(), numbered(readings))
    assert [(e.kind, e.row_ns // SECOND_NS) for e in outputs if isinstance(e, AlertEvent)] == [
        (AlertKind.ANOMALY, 8),
        (AlertKind.ASSET_SILENT, 16),
    ]


def test_an_asset_that_was_near_and_lags_behind_is_one_silence_until_it_has_caught_up() -> None:
    """It works off a backlog, faster than the others go on, and reads like a silent one while it is behind."""
    others = [r for i in range(60) for r in (*steady(1, "p1", i), *steady(1, "p3", i))]
    readings = numbered(
        [
            *(r for i in range(5) for r in steady(1, "p2", i)),
            *others[:60],
            *(r for i in range(30) for r in (*others[60 + 2 * i : 62 + 2 * i], *steady(2, "p2", 5 + 2 * i))),
        ]
    )
    outputs = feed(make(), readings, ended=True)
    assert told(outputs, AlertKind.ASSET_SILENT) == [(12, "opened", "p2"), (35, "closed", "p2")]
    assert told(outputs, AlertKind.CLOCK_SKEW) == []


def test_assets_one_after_the_other_in_a_file_are_not_silent() -> None:
    """The fleet's clock goes back with the second asset; nobody was heard together with another one."""
    readings = [*steady(50, "p1"), *steady(50, "p2"), *steady(20, "p3")]
    assert of_kind(feed(make(), numbered(readings), ended=True), AlertKind.ASSET_SILENT) == []


def test_a_whole_partition_that_is_idle_makes_its_assets_silent() -> None:
    pipeline = make()
    feed(pipeline, numbered(steady(10)))
    assert feed(pipeline, [], idle=timedelta(seconds=7)) == []
    assert told(feed(pipeline, [], idle=timedelta(seconds=8)), AlertKind.ASSET_SILENT) == [
        (17, "opened", "p1")
    ]
    assert feed(pipeline, [], idle=timedelta(days=1)) == []
    back = feed(pipeline, numbered(steady(3, start=30), 10))
    # Nothing but its own record says that time has passed: the second reading confirms the first.
    assert told(back, AlertKind.ASSET_SILENT) == [(31, "closed", "p1")]


def test_nothing_is_silent_before_anything_came() -> None:
    assert feed(make(), [], idle=timedelta(days=1)) == []


def test_a_stuck_sensor_is_said_once_and_closed_when_it_moves() -> None:
    readings = [
        *steady(5),
        *(wide(5 + i, 0.1 * (i % 5), 0.7) for i in range(20)),
        *steady(2, start=25),
    ]
    outputs = feed(make(detector=replace(CENTRE, still=5)), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_STUCK) == [(14, "opened", "b"), (25, "closed", "b")]
    assert of_kind(outputs, AlertKind.SENSOR_STUCK)[0].onset_ns == 5 * SECOND_NS


def test_a_sensor_is_never_stuck_before_two_windows_nor_where_training_saw_it_stand() -> None:
    readings = numbered([wide(i, 0.1 * (i % 5), 0.7) for i in range(40)])
    outputs = feed(make(detector=replace(CENTRE, still=1)), readings, ended=True)
    assert told(outputs, AlertKind.SENSOR_STUCK) == [(7, "opened", "b")]
    never = replace(CENTRE, still=np.iinfo(np.int64).max)
    assert told(feed(make(detector=never), readings, ended=True), AlertKind.SENSOR_STUCK) == []


def test_an_unknown_condition_is_said_once_each_and_closed_when_it_is_over() -> None:
    spec = replace(SPEC, condition=("mode",))
    detector = replace(CENTRE, conditions=("run",))
    readings = numbered(steady(30))
    for reading in readings:
        reading.condition = {0: "run", 1: "wash", 2: "rinse"}[reading.offset // 10]
    outputs = feed(make(spec, detector), readings, ended=True)
    assert told(outputs, AlertKind.UNKNOWN_CONDITION) == [
        (10, "opened", "wash"),
        (20, "closed", "wash"),
        (20, "opened", "rinse"),
    ]


def test_the_calendar_speaks_of_every_row_and_raises_nothing() -> None:
    """1970 began on a Thursday; in Kathmandu that ends before it does in Greenwich."""
    spec = replace(SPEC, condition=("$weekday", "mode"), timezone="Asia/Kathmandu")
    midnight = 66_600  # 18:30 UTC: it was 5 h 30 east in those days
    detector = replace(CENTRE, conditions=("mode=run,$weekday=thu",))
    readings = [
        r for r in steady(40, start=midnight - 20) if not 15 <= r.time_ns // SECOND_NS - midnight < 18
    ]
    for reading in readings:
        reading.condition = "mode=run"
    made = steps(make(spec, detector), numbered(readings), ended=True)
    found = [
        (row - midnight, label)
        for step in made
        if step.block
        for row, label in zip(step.block.rows, step.block.condition, strict=True)
    ]
    assert [row for row, _ in found] == list(range(-20, 20))  # the bridged rows too
    assert all(label == f"mode=run,$weekday={'thu' if row < 0 else 'fri'}" for row, label in found)
    # The model never saw a Friday: nobody at the machine can do anything about it.
    assert told([o for step in made for o in step.outputs], AlertKind.UNKNOWN_CONDITION) == []


def test_an_unknown_mode_is_said_once_however_often_the_hour_changes() -> None:
    spec = replace(SPEC, condition=("mode", "$hour"))
    detector = replace(CENTRE, conditions=("mode=run,$hour=00", "mode=run,$hour=01"))
    readings = numbered(steady(40, start=3_590))
    for reading in readings:
        reading.condition = "mode=wash" if 5 <= reading.offset < 30 else "mode=run"
    outputs = feed(make(spec, detector), readings, ended=True)
    assert told(outputs, AlertKind.UNKNOWN_CONDITION) == [
        (3_595, "opened", "mode=wash"),
        (3_620, "closed", "mode=wash"),
    ]


def test_an_unknown_condition_is_over_once_a_model_knows_it() -> None:
    spec = replace(SPEC, condition=("mode",))
    readings = numbered(steady(30))
    for reading in readings:
        reading.condition = "wash"
    pipeline = make(spec, replace(CENTRE, conditions=("run",)))
    outputs = feed(pipeline, readings[:15])
    pipeline.use_when_committable(replace(CENTRE, version="centre-2", conditions=("run", "wash")))
    outputs += feed(pipeline, readings[15:], ended=True)
    assert told(outputs, AlertKind.UNKNOWN_CONDITION) == [(0, "opened", "wash"), (15, "closed", "wash")]


def test_drift_is_published_per_interval_and_said_after_three() -> None:
    rng = np.random.default_rng(3)
    readings = numbered(wide(i, *rng.normal(3.0 if i < 300 else 0.0, 1.0, 2)) for i in range(540))
    outputs = feed_all(make(detector=replace(CENTRE, drift_threshold=2.0, threshold=99.0)), readings)
    records = [o for o in outputs if isinstance(o, DriftRecord)]
    assert [(r.start_ns // MINUTE_NS, r.windows) for r in records] == [
        (0, 57),
        *((i, 60) for i in range(1, 9)),
    ]
    assert [r.verdict for r in records] == ["drift"] * 5 + ["ok"] * 4
    assert told(outputs, AlertKind.DRIFT) == [(180, "opened", "pumps"), (360, "closed", "pumps")]
    assert of_kind(outputs, AlertKind.DRIFT)[0].onset_ns == 0


def test_a_changed_drift_interval_begins_anew_and_loses_no_sum() -> None:
    first = make()
    feed(first, numbered(steady(40)))
    second = make(drift_interval_ns=HOUR_NS, publish_from=40)
    assert second.restore(first.checkpoint())
    outputs = second.predecessor_outputs() + feed(second, numbered(steady(40, start=40), 40))
    outputs += feed(second, [], ended=True)
    records = [o for o in outputs if isinstance(o, DriftRecord)]
    assert [(r.end_ns - r.start_ns, r.windows) for r in records] == [(MINUTE_NS, 37), (HOUR_NS, 40)]


@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_a_clock_far_ahead_lets_no_interval_pile_up(size: int) -> None:
    """Event time stands still a day ahead, so no interval of the others ever ends by it."""
    readings = numbered(
        [*steady(1, "ahead", 86_400), *(wide(4 * i + j, 0.5, 0.5) for i in range(2_000) for j in range(4))]
    )
    pipeline = make(drift_interval_ns=20 * SECOND_NS)
    outputs: list[Output] = []
    for i in range(0, len(readings), size):
        outputs += feed(pipeline, readings[i : i + size])
        assert pipeline.parts.drift.drift is not None
        assert len(pipeline.parts.drift.drift.intervals) <= MOST_INTERVALS
    outputs += feed(pipeline, [], ended=True)
    records = [o for o in outputs if isinstance(o, DriftRecord)]
    assert [(r.start_ns // (20 * SECOND_NS), r.windows) for r in records] == [
        (0, 17),
        *((i, 20) for i in range(1, 400)),
    ]


def feed_all(pipeline: Pipeline, items: Sequence[Record | Reading]) -> list[Output]:
    return feed(pipeline, items) + feed(pipeline, [], ended=True)


# ------------------------------------------------------------------ chunks and polls never show
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["p1", "p2", "p3"]),
        st.integers(-3, 3),
        st.sampled_from([0, 0, 0, 1, 1, 2, 9, 40, -7]),
        st.sampled_from([0.5, 0.5, 0.7, 9.0, NAN]),
        st.sampled_from([0.5, 0.6, 8.0, NAN]),
        st.integers(0, 1),
        st.sampled_from(["run", "run", "run", "wash", ""]),
    ),
    min_size=1,
    max_size=90,
)


def no_stamp(_: int) -> int:
    return -1


def live(second: int) -> int:
    return second * SECOND_NS + SECOND_NS // 4


def arrivals(
    drawn: list[tuple[Any, ...]], form: Format, stamp_ns: Callable[[int], int] = no_stamp
) -> list[Reading]:
    readings, clock = [], 50
    for asset, beside, on, a, b, sensor, condition in drawn:
        clock += on
        time_ns = (clock + beside) * SECOND_NS
        if form is Format.JSON_WIDE:
            readings.append(Reading(0, asset, time_ns, [a, b], condition=condition))
        else:
            readings.append(Reading(0, asset, time_ns, None, sensor, a, condition))
        readings[-1].stamp_ns = stamp_ns(clock)
    return numbered(readings)


QUICK = replace(CENTRE, memory=0.1, still=2, conditions=("run",), carried={("p1", 53): 0.3}, threshold=4.0)
SPECS = st.builds(
    replace,
    st.sampled_from([SPEC, LONG]),
    hop=st.sampled_from([1, 2]),
    condition=st.sampled_from([("mode",), ("mode",), ("$month", "mode")]),
    silent_after_ns=st.sampled_from([4 * SECOND_NS, 8 * SECOND_NS]),
)
POLICIES = st.sampled_from([POLICY, AlarmPolicy(2, 3, 0.5, 4)])


RAN_ON = [*[("p2", 0, 1, 0.5, 0.5, 0, "run")] * 3, ("p2", 0, 1, 0.5, 0.5, 0, "")]
"""The last line says no condition, so that the one before it still holds."""


@settings(max_examples=200, deadline=None)
@given(
    SPECS,
    POLICIES,
    ARRIVALS,
    st.lists(st.integers(1, 30), max_size=20),
    st.sampled_from([2, 100]),
    st.sampled_from([no_stamp, live]),
)
@example(
    replace(SPEC, condition=("mode",)), POLICY, [("p1", 0, 0, 0.5, 0.5, 0, "run"), *RAN_ON], [], 100, live
)
def test_how_records_are_polled_never_shows(
    spec: StreamSpec,
    policy: AlarmPolicy,
    drawn: list[tuple[Any, ...]],
    sizes: list[int],
    max_assets: int,
    stamp_ns: Callable[[int], int],
) -> None:
    readings = arrivals(drawn, spec.format, stamp_ns)
    results = []
    for split in ([1] * len(readings), list(sizes), []):
        pipeline = make(spec, QUICK, policy, max_assets=max_assets)
        left, made = readings, []
        while left:
            size = split.pop(0) if split else len(left)
            made += steps(pipeline, left[:size])
            left = left[size:]
        made += steps(pipeline, [], ended=True)
        blocks = [step.block for step in made if step.block is not None]
        results.append(
            (
                plain(o for step in made for o in step.outputs),
                in_order(o for step in made for o in step.outputs),
                [
                    repr(row)
                    for b in blocks
                    for row in zip(
                        b.assets, b.rows, b.values.tolist(), b.scores, b.firing, b.condition, strict=True
                    )
                ],
                pipeline.counts,
                pipeline.dropped,
                sum(step.scored for step in made),
                pipeline.replay_from(),
            )
        )
    assert results[1] == results[0]
    assert results[2] == results[0]
    assert sum(results[0][3].values()) == len(readings)


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_chunk_bounds_never_show(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[list[str], list[DriftRecord], list[int]]:
        made = steps(make(detector=replace(QUICK, conditions=("",))), readings, ended=True)
        sizes = [len(step.block.rows) for step in made if step.block is not None]
        outputs = [o for step in made for o in step.outputs]
        drift = [o for o in outputs if isinstance(o, DriftRecord)]
        return [repr(o) for o in outputs if not isinstance(o, DriftRecord)], drift, sizes

    rng = np.random.default_rng(1)
    readings = [wide(i + 1, *rng.choice([0.5, 0.6, 9.0, NAN], 2), asset=p) for i in range(300) for p in "xyz"]
    readings = numbered(readings)
    reference, drift, _ = run()
    monkeypatch.setattr(chunker, "FEWEST_ROWS", chunk)
    monkeypatch.setattr(chunker, "MOST_ROWS", chunk)
    outputs, drift_too, sizes = run()
    assert max(sizes) <= chunk
    assert [o.windows for o in drift_too] == [o.windows for o in drift]
    for one, other in zip(drift, drift_too, strict=True):  # sums, but for the order of adding
        assert other.latent_kl == pytest.approx(one.latent_kl)
        assert other.residual_kl == pytest.approx(one.residual_kl)
    assert sorted(outputs) == sorted(reference)
    assert [o for o in outputs if "ScoredRow" in o] == [o for o in reference if "ScoredRow" in o]


def test_a_chunk_ends_exactly_where_a_model_is_to_be_trained() -> None:
    pipeline = make(detector=None)
    pipeline.training_cut = 7
    fed = iter(pipeline.feed(PolledRecords(PUMPS_0, numbered([*steady(4), *steady(40, start=6)]))))
    before = 0
    for step in fed:
        assert step.block is not None
        before += len(step.block.rows)
        if pipeline.observed_rows == 7:
            break
    assert before == 9  # two of them empty: nobody spoke of them
    pipeline.use(CENTRE)
    scored = [o for step in fed for o in step.outputs if isinstance(o, ScoredRow)]
    assert [o.row_ns // SECOND_NS for o in scored] == [*range(9, 46)]


def calls(work: Callable[[], object]) -> int:
    """How many functions some work calls, those of C included: the same on every machine."""
    count = 0

    def noted(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(noted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("spec", [SPEC, LONG])
def test_waiting_for_the_training_s_cut_costs_the_same_for_every_reading(spec: StreamSpec) -> None:
    """Assets one by one, so that each reading leaves a block of its own waiting."""

    def learn(n: int) -> int:
        pipeline = make(spec, None)
        pipeline.training_cut = 10 * n
        return calls(lambda: feed(pipeline, readings[:n]))

    readings = numbered(
        wide(i, 0.5, 0.5, asset=f"p{j}")
        if spec is SPEC
        else Reading(0, f"p{j}", i * SECOND_NS, None, sensor, 0.5 + i % 2)
        for j in range(40)
        for i in range(10)
        for sensor in (range(1) if spec is SPEC else range(2))
    )
    learn(50)
    few, many = learn(100), learn(400)
    assert many < 5 * few


def test_many_assets_that_start_afresh_in_one_chunk_are_looked_at_once() -> None:
    def begin(n: int) -> int:
        pipeline = make(replace(LONG, allowed_lateness_ns=0), None)
        pairs = [(Counted(f"p{i}"), sensor) for i in range(n) for sensor in range(2)]
        Counted.hashed = 0
        steps(pipeline, numbered(Reading(0, name, SECOND_NS, None, sensor, 0.5) for name, sensor in pairs))
        return Counted.hashed

    assert begin(400) < 5 * begin(100)


class Counted(str):
    """A name that counts how often it was looked up."""

    hashed = 0

    def __hash__(self) -> int:
        Counted.hashed += 1
        return super().__hash__()

    __eq__ = str.__eq__


# ------------------------------------------------------------------ swaps
def test_a_swap_leaves_no_row_unscored_and_none_between_two_models() -> None:
    other = replace(CENTRE, version="centre-2", centre=0.1)
    readings = numbered(steady(30))
    pipeline = make()
    outputs = feed(pipeline, readings[:11])
    left = pipeline.use(other)
    outputs += feed(pipeline, readings[11:], ended=True)
    scored = [o for o in outputs if isinstance(o, ScoredRow)]
    assert [o.row_ns // SECOND_NS for o in scored] == [*range(3, 30)]
    assert [o.model for o in scored] == ["centre-1"] * 8 + ["centre-2"] * 19
    alone = [o for o in feed(make(detector=other), readings, ended=True) if isinstance(o, ScoredRow)]
    assert [o.score for o in scored[8:]] == [o.score for o in alone[8:]]
    assert [(o.model, o.windows) for o in left if isinstance(o, DriftRecord)] == [("centre-1", 8)]


def test_training_s_baseline_carries_on_where_the_rows_do() -> None:
    detector = replace(CENTRE, carried={("p1", 3): 0.2}, memory=0.0)
    readings = numbered([*steady(6), *steady(6, start=100)])
    scored = [o for o in feed(make(detector=detector), readings, ended=True) if isinstance(o, ScoredRow)]
    assert [round(o.static_score - o.score, 6) for o in scored] == [0.2] * 3 + [0.0] * 3


def test_without_a_model_rows_are_released_and_nothing_is_scored() -> None:
    made = steps(make(detector=None), numbered([*steady(5), wide(5, NAN, 0.0)]), ended=True)
    assert sum(len(step.block.rows) for step in made if step.block is not None) == 6
    assert [o for step in made for o in step.outputs] == []


# ------------------------------------------------------------------ no look-ahead
@settings(max_examples=25, deadline=None)
@given(st.integers(8, 50), st.integers(0, 2**32 - 1))
def test_the_future_changes_nothing_that_was_said(cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    readings = numbered(wide(i, *rng.choice([0.5, 0.6, 9.0, NAN], 2)) for i in range(60))
    horizon_ns = cut * SECOND_NS
    poisoned = [replace_values(r, [NAN, NAN]) if r.time_ns >= horizon_ns else r for r in readings]

    def past(items: list[Reading]) -> list[str]:
        outputs = feed(make(detector=QUICK), items, ended=True)
        return plain(
            o for o in outputs if isinstance(o, (ScoredRow, FilledRow, AlertEvent)) and o.row_ns < horizon_ns
        )

    assert past(poisoned) == past(readings)


def replace_values(reading: Reading, values: list[float]) -> Reading:
    return Reading(reading.offset, reading.asset, reading.time_ns, values)


# ------------------------------------------------------------------ restarts
class Log:
    """A log with commits: what lies between a commit and a crash never happened.

    Among its events are detectors, which take over where they stand.
    """

    def __init__(
        self, make_one: Callable[..., Pipeline], events: Sequence[PolledRecords | Detector], first: Detector
    ) -> None:
        self.make_one, self.events = make_one, events
        self.readings = [item for event in events if isinstance(event, PolledRecords) for item in event.items]
        self.published: list[Output] = []
        self.state: dict[bytes, StateRecord] = {}
        self.position = (0, 0)  # offset, replay_from
        self.done = 0  # events that are committed
        self.replayed = 0
        self.most_saved = 0
        self.committed: Detector | None = first  # in force at the last commit
        self.wanted: Detector | None = None  # takes over when it can
        self.wanted_then: Detector | None = None  # ... as of the last commit
        self.pipeline = make_one(detector=first)

    def feed(self, event: PolledRecords | Detector) -> Iterator[Step]:
        if isinstance(event, PolledRecords):
            yield from self.pipeline.feed(event)
        else:
            self.wanted = event
            self.pipeline.use_when_committable(event)

    def run(self, until: int, *, commit: bool = True) -> None:
        """Handle events up to this one, and commit them or crash."""
        outputs = [
            o for event in self.events[self.done : until] for step in self.feed(event) for o in step.outputs
        ]
        if commit:
            self.commit(outputs)
            self.done = until
        else:
            self.wanted = self.wanted_then
            self.restart()

    def commit(self, outputs: Sequence[Output]) -> None:
        """What was said is published, and a successor goes on from here."""
        self.published += outputs
        saved = self.pipeline.checkpoint()
        self.most_saved = max(self.most_saved, len(saved))
        for record in saved:
            self.state[record.key] = record
        self.position = (self.pipeline.offset, self.pipeline.replay_from())
        self.wanted = self.wanted_then = self.wanted if self.pipeline.takeover_due else None
        self.committed = self.pipeline.detector

    def run_and_rest(self, crashes: Iterator[bool]) -> int:
        """Handle all events, committing at every rest, and perhaps crash right behind it; counts the rests."""
        rests = 0
        for event in self.events:
            if not isinstance(event, PolledRecords):
                list(self.feed(event))
                continue
            items = event.items
            while True:
                outputs: list[Output] = []
                crashed = False
                for step in self.pipeline.feed(replace(event, items=items)):
                    outputs += step.outputs
                    if step.committable:
                        rests += 1
                        self.commit(outputs)
                        outputs = []
                        if crashed := next(crashes, False):
                            break
                if not crashed:
                    break
                items = [item for item in items if item.offset >= self.pipeline.offset]
                self.restart()
            self.commit(outputs)
        return rests

    def restart(self) -> None:
        """A successor takes over at the last commit."""
        offset, replay_from = self.position
        assert 0 <= replay_from <= offset
        self.pipeline = self.make_one(detector=self.committed, publish_from=offset)
        self.pipeline.offset = replay_from
        assert self.pipeline.restore(list(self.state.values())) == bool(self.state)
        assert not self.pipeline.unusable
        again = self.readings[replay_from:offset]
        self.replayed += len(again)
        for i in range(0, len(again), 7):
            assert feed(self.pipeline, again[i : i + 7]) == []
        if self.wanted is not None:
            self.pipeline.use_when_committable(self.wanted)


def polls(readings: list[Reading], sizes: Sequence[tuple[int, int]]) -> list[PolledRecords]:
    """The readings in polls of these sizes, after each so many seconds of idleness; then the end."""
    left, events = readings, []
    for size, idle in sizes:
        events.append(PolledRecords(PUMPS_0, left[:size]))
        left = left[size:]
        if idle:
            events.append(PolledRecords(PUMPS_0, (), idle=timedelta(seconds=idle)))
    return [*events, PolledRecords(PUMPS_0, left), PolledRecords(PUMPS_0, (), ended=True)]


def test_an_unknown_condition_is_not_said_again_by_a_successor() -> None:
    spec = replace(SPEC, condition=("mode", "$hour"))
    first = replace(CENTRE, conditions=("mode=run,$hour=00",))
    readings = numbered(steady(40))
    for reading in readings:
        reading.condition = "mode=wash" if 10 <= reading.offset < 30 else "mode=run"
    log = Log(lambda **more: make(spec, more.pop("detector"), **more), polls(readings, [(5, 0)] * 7), first)
    for until in range(1, len(log.events) + 1):
        log.run(until, commit=False)  # it crashes behind each poll,
        log.run(until)
        log.restart()  # and again behind each commit
    assert told(log.published, AlertKind.UNKNOWN_CONDITION) == [
        (10, "opened", "mode=wash"),
        (30, "closed", "mode=wash"),
    ]


MODELS = [
    QUICK,
    replace(QUICK, version="centre-2", centre=0.1, threshold=2.0, carried={}),
    replace(QUICK, version="centre-3", centre=-3.7, threshold=6.0, memory=0.3, still=3),
]
SWAPS = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 2)), max_size=4)
"""Before which event, and to which model; not one that is in force already."""


def swapping(
    events: Sequence[PolledRecords], swaps: Sequence[tuple[int, int]]
) -> list[PolledRecords | Detector]:
    """The events, and models that take over between them."""
    found: list[PolledRecords | Detector] = []
    for i, event in enumerate(events):
        found += [MODELS[model] for before, model in swaps if before == i]
        found.append(event)
    return found


@settings(max_examples=400, deadline=None)
@given(
    SPECS,
    st.sampled_from([0, SECOND_NS, 3 * SECOND_NS, 11 * SECOND_NS]),
    POLICIES,
    ARRIVALS,
    st.lists(st.tuples(st.integers(1, 30), st.sampled_from([0, 0, 0, 1, 9])), max_size=12),
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12),
    st.sampled_from([2, 100]),
    SWAPS,
    st.sampled_from([1, 2, 1000]),
    st.sampled_from([no_stamp, live]),
)
@example(
    SPEC,
    0,
    POLICY,
    [("p1", 0, 0, 0.5, 0.5, 0, "run")] * 6,
    [(4, 9)],
    [(1, True), (0, False)],
    2,
    [(1, 1)],
    1,
    live,
)
def test_a_crash_never_shows(
    spec: StreamSpec,
    lateness_ns: int,
    policy: AlarmPolicy,
    drawn: list[tuple[Any, ...]],
    sizes: list[tuple[int, int]],
    fate: list[tuple[int, bool]],
    max_assets: int,
    swaps: list[tuple[int, int]],
    at_once: int,
    stamp_ns: Callable[[int], int],
) -> None:
    spec = replace(spec, allowed_lateness_ns=lateness_ns)
    events = swapping(polls(arrivals(drawn, spec.format, stamp_ns), sizes), swaps)

    def one(**more: Any) -> Pipeline:
        return make(spec, policy=policy, max_assets=max_assets, drift_interval_ns=7 * SECOND_NS, **more)

    undisturbed, crashing = Log(one, events, QUICK), Log(one, events, QUICK)
    with pytest.MonkeyPatch.context() as patch:
        snapshots_at_once(patch, at_once)
        undisturbed.run(len(events))
        for further, commit in fate:
            crashing.run(min(crashing.done + further, len(events)), commit=commit)
        crashing.run(len(events))
    assert plain(crashing.published) == plain(undisturbed.published)


@settings(max_examples=200, deadline=None)
@given(
    SPECS,
    st.sampled_from([0, 3 * SECOND_NS]),
    ARRIVALS,
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 0, 9])), max_size=4),
    st.lists(st.booleans(), max_size=12),
    st.sampled_from([2, 100]),
    SWAPS,
)
def test_a_crash_on_the_way_through_a_poll_never_shows(
    spec: StreamSpec,
    lateness_ns: int,
    drawn: list[tuple[Any, ...]],
    sizes: list[tuple[int, int]],
    crashes: list[bool],
    max_assets: int,
    swaps: list[tuple[int, int]],
) -> None:
    spec = replace(spec, allowed_lateness_ns=lateness_ns)
    events = swapping(polls(arrivals(drawn, spec.format), sizes), swaps)

    def one(**more: Any) -> Pipeline:
        return make(spec, max_assets=max_assets, drift_interval_ns=7 * SECOND_NS, **more)

    undisturbed, crashing = Log(one, events, QUICK), Log(one, events, QUICK)
    undisturbed.run(len(events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_module, "MOST_EMITTED", 3)
        patch.setattr(ingest, "MOST_BRIDGED", 3)
        snapshots_at_once(patch, 1)
        crashing.run_and_rest(iter(crashes))
    assert plain(crashing.published) == plain(undisturbed.published)
    assert in_order(crashing.published) == in_order(undisturbed.published)


@pytest.mark.parametrize("form", [Format.JSON_WIDE, Format.JSON_LONG])
def test_a_poll_of_gaps_is_said_in_pieces(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 200 records bridges 19 rows: neither what waits nor what was said grows with the poll."""
    monkeypatch.setattr(pipeline_module, "MOST_EMITTED", 100)
    monkeypatch.setattr(ingest, "MOST_BRIDGED", 100)
    monkeypatch.setattr(chunker, "FEWEST_ROWS", 16)
    monkeypatch.setattr(chunker, "MOST_ROWS", 16)
    spec = replace(SPEC, format=form, silent_after_ns=HOUR_NS)
    log: list[Record | Reading] = []
    for i in range(200):
        if i % 20 == 7:
            log.append(Record(len(log), None, b"{", 0))
        second = 20 * (i // 4) * SECOND_NS
        reading = Reading(len(log), f"p{i % 4}", second, [0.5, 0.5])
        if form is Format.JSON_LONG:
            reading = Reading(len(log), f"p{i % 4}", second, None, 0, 0.5)
        reading.stamp_ns = second + SECOND_NS // 4
        log.append(reading)
    pipeline = make(spec, drift_interval_ns=HOUR_NS)
    feed(pipeline, [Reading(0, f"p{i}", 0, [0.5, 0.5]) for i in range(4)])
    said, most, rests, letters = 0, 0, 0, 0
    for step in pipeline.feed(PolledRecords(PUMPS_0, log)):
        said += len(step.outputs)
        most = max(most, len(pipeline.parts.chunker))
        letters += sum(isinstance(o, DeadLetter) for o in step.outputs)
        if step.committable:
            assert said < 400
            assert letters == sum(isinstance(item, Record) for item in log[: pipeline.offset])
            assert pipeline.checkpoint()
            said, rests = 0, rests + 1
    assert rests > 10
    assert most < 200
    assert letters == 10


def test_the_slow_baseline_and_an_open_episode_outlive_a_crash() -> None:
    """What lies longer ago than any replay reaches."""
    readings = numbered([*steady(10), *(wide(10 + i, 9.0, 0.0) for i in range(400)), *steady(9, start=410)])
    slow = replace(CENTRE, memory=0.0005)
    events = polls(readings, [(1, 0)] * (len(readings) - 1))
    undisturbed = Log(make, events, slow)
    undisturbed.run(len(events))
    crashing = Log(make, events, slow)
    for i in range(1, len(events) + 1):
        crashing.run(i)
        crashing.restart()
    assert plain(crashing.published) == plain(undisturbed.published)
    (closed,) = [e for e in of_kind(crashing.published, AlertKind.ANOMALY) if e.phase is Phase.CLOSED]
    assert closed.opened_ns < 20 * SECOND_NS
    assert crashing.replayed <= 2 * SPEC.window * len(events)  # a replay is short, however long the past


def test_assets_that_are_quiet_hold_no_replay_back() -> None:
    pipeline = make()
    feed(pipeline, numbered([*steady(5, "gone"), *steady(100, "here")]))
    pipeline.checkpoint()
    assert pipeline.replay_from() >= 90


def test_a_state_is_as_small_as_the_rows_it_stands_for() -> None:
    pipeline = make(SPEC)
    written = 0
    readings = numbered([r for s in range(64) for i in range(50) for r in steady(1, f"p{i}", s)])
    for i in range(0, len(readings), 10):
        feed(pipeline, readings[i : i + 10])
        written += sum(len(saved.key) > len(PUMPS_0.topic) + 1 for saved in pipeline.checkpoint())
    assert written <= len(readings) / SPEC.window


@pytest.mark.parametrize(
    ("spec", "publish_from", "exact"),
    [
        (replace(SPEC, window=5), 40, True),  # another layout
        (replace(SPEC, sensors=("a", "c")), 40, True),
        (SPEC, 30, True),  # the offsets were set back by hand
        (SPEC, 41, False),  # the position is beyond the state
    ],
)
def test_a_state_of_another_stream_or_place_is_of_no_use_and_goes(
    spec: StreamSpec, publish_from: int, exact: bool
) -> None:
    first = make()
    feed(first, numbered(steady(40)))
    saved = first.checkpoint()
    second = make(spec, None, publish_from=publish_from)
    second.offset = publish_from
    assert not second.restore(saved, exact=exact)
    assert StateRecord(snapshot.key(PUMPS_0.topic, "p1"), None) in second.checkpoint()
    assert second.restore([StateRecord(snapshot.key(PUMPS_0.topic), b"garbage")]) is False


def test_a_state_written_before_its_position_says_nothing_again() -> None:
    readings = numbered(steady(40))
    first = make()
    feed(first, readings[:30])
    second = make(publish_from=20)
    second.offset = 10
    assert second.restore(first.checkpoint(), exact=False)
    assert feed(second, readings[10:30]) == []
    assert plain(feed(second, readings[30:])) == plain(feed(first, readings[30:]))


def test_a_model_that_came_meanwhile_judges_no_row_of_before() -> None:
    readings = numbered([*steady(10), *(wide(10 + i, 9.0, 0.0) for i in range(40))])
    first = make()
    feed(first, readings[:30])
    saved = first.checkpoint()
    other = make(detector=replace(CENTRE, version="centre-2", threshold=100.0), publish_from=30)
    other.offset = 10
    assert other.restore(saved)
    assert other.predecessor_outputs() == first.use(CENTRE)  # the sums that nobody else can go on with
    assert feed(other, readings[10:30]) == other.predecessor_outputs() == []
    outputs = feed(other, readings[30:32])
    assert told(outputs, AlertKind.ANOMALY) == [(30, "closed", "p1")]
    assert len([o for o in outputs if isinstance(o, ScoredRow)]) == 2  # the window was carried over
    assert len(other.checkpoint()) == 2  # a swap takes all state with it


def test_an_episode_that_opened_since_the_state_is_closed_by_another_model_too() -> None:
    readings = numbered([*steady(30), *(wide(30 + i, 50.0, 0.5) for i in range(3)), *steady(20, start=33)])
    first = make()
    feed(first, readings[:30])
    kept = {saved.key: saved for saved in first.checkpoint()}
    outputs = feed(first, readings[30:33])
    kept |= {saved.key: saved for saved in first.checkpoint()}
    other = make(detector=replace(CENTRE, version="centre-2"), publish_from=33)
    other.offset = first.replay_from()
    assert other.restore(list(kept.values()))
    outputs += feed(other, readings[other.offset : 33]) + feed(other, readings[33:])
    opened, *_, closed = of_kind(outputs, AlertKind.ANOMALY)
    assert (opened.phase, closed.phase) == (Phase.OPENED, Phase.CLOSED)
    assert opened.fingerprint == closed.fingerprint


def fleet(assets: int, second: int, first: int) -> list[Reading]:
    return numbered([r for i in range(assets) for r in steady(1, f"p{i:03}", second)], first)


def test_a_swap_writes_a_large_fleet_s_state_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit grows with the fleet, and the units that records are in are named once, not in each."""
    snapshots_at_once(monkeypatch, 10)
    pipeline = make()
    feed(pipeline, [r for t in range(6) for r in fleet(200, t, 200 * t)])
    kept = {saved.key: saved for _ in range(40) for saved in pipeline.checkpoint()}
    assert len(kept) == 201
    pipeline.use_when_committable(MODELS[1])
    assert pipeline.model == "centre-1"
    (step,) = steps(pipeline, [])
    assert (step.committable, pipeline.model) == (True, "centre-2")
    pieces = [pipeline.checkpoint() for _ in range(40)]
    assert max(map(len, pieces)) == 11
    assert {saved.key for piece in pieces for saved in piece} == kept.keys()
    assert [len(piece) for piece in pieces[-3:]] == [1, 1, 1]
    swaps = [snapshot.decode_partition(piece[-1].value, snapshot.layout(SPEC)).swaps for piece in pieces]  # type: ignore[union-attr]
    assert [len(one) for one in swaps[:2]] == [2, 2]
    assert [swap.model for swap in swaps[-1]] == ["centre-2"]


def test_what_only_judging_knows_is_written_before_a_swap_in_pieces_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshots_at_once(monkeypatch, 10)
    pipeline = make(policy=AlarmPolicy(3, 5, 0.5, 4))
    feed(pipeline, [r for t in range(6) for r in fleet(200, t, 200 * t)])
    while len(pipeline.checkpoint()) > 1:
        pass
    loud = numbered([wide(6, 50.0, 0.5, asset=f"p{i:03}") for i in range(200)], 1200)
    feed(pipeline, loud)
    assert len(pipeline.episodes.assets) == 200  # pending, so that nothing was said of them
    pipeline.use_when_committable(MODELS[1])
    sizes = []
    for step in pipeline.feed(PolledRecords(PUMPS_0, ())):
        assert step.committable
        sizes.append(len(pipeline.checkpoint()))
    assert pipeline.model == "centre-2"
    assert max(sizes) <= 21
    assert sum(sizes) >= 200


class Fragile(CentreDetector):
    """Fails on every window that holds 13."""

    def infer(self, windows: Windows) -> Evidence:
        if (windows.scaling == 13.0).any():
            raise FloatingPointError("thirteen")
        return super().infer(windows)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_window_that_the_model_fails_on_is_counted_and_takes_no_other_with_it(size: int) -> None:
    readings = numbered([r for s in range(30) for a in ("p1", "p2", "p3") for r in steady(1, a, s)])
    readings[40] = replace_values(readings[40], [13.0, 0.5])  # p2 at 13 s
    results = []
    for detector in (CENTRE, Fragile(SPEC.sensors)):
        pipeline = make(detector=detector)
        outputs = [o for i in range(0, 90, size) for o in feed(pipeline, readings[i : i + size])]
        results.append(
            {(o.asset, o.row_ns // SECOND_NS): repr(o) for o in outputs if isinstance(o, ScoredRow)}
        )
    lost = {("p2", second) for second in range(13, 17)}
    assert results[0].keys() - results[1].keys() == lost
    assert all(results[0][row] == said for row, said in results[1].items() if row[0] != "p2")
    assert pipeline.dropped == Counter(model_failed=4)


# ------------------------------------------------------------------ restarts without a state
def test_silent_records_count_for_nothing() -> None:
    readings = numbered(steady(20))
    bad: list[Record | Reading] = [Record(i, None, b"{", 0) for i in range(3)]
    pipeline = make(publish_from=23)
    pipeline.offset = 0
    assert feed(pipeline, [*bad, *numbered(steady(20), 3)]) == []
    assert pipeline.counts.total() == 0
    assert len(feed(pipeline, [readings[0], *numbered(steady(3, start=20), 23)])) == 3


def test_what_silent_records_raise_was_said_before_and_closes_once() -> None:
    readings = numbered([*steady(5, "p2"), *steady(30), *steady(1, "p2", 30), *steady(2, start=31)])
    pipeline = make(publish_from=35)
    assert feed(pipeline, readings[:35]) == []
    outputs = feed(pipeline, readings[35:], ended=True)
    assert told(outputs, AlertKind.ASSET_SILENT) == [(30, "closed", "p2")]


def test_a_silent_end_says_nothing() -> None:
    pipeline = make(publish_from=50)
    assert feed(pipeline, numbered(steady(20)), ended=True) == []


def test_nothing_fed_needs_nothing_replayed() -> None:
    assert make().replay_from() == 0


# ------------------------------------------------------------------ memory
def test_more_assets_than_fit_are_forgotten_longest_quiet_first_and_counted() -> None:
    pipeline = make(max_assets=50)
    readings = [r for i in range(120) for r in steady(6, f"p{i}", start=i)]
    feed(pipeline, numbered(readings))
    assert pipeline.assets == 50
    assert pipeline.dropped == Counter({"asset_evicted": 70})
    assert pipeline.names == {f"p{i}" for i in range(70, 120)}
    assert set(pipeline.episodes.assets) <= pipeline.names
    assert pipeline.parts.assets.capacity <= 64


def test_what_is_open_of_an_asset_ends_when_it_is_forgotten() -> None:
    pipeline = make(max_assets=2)
    readings = numbered(
        [*steady(6, "p1"), wide(6, 50.0, NAN, asset="p1"), *steady(20, "p2", 7), *steady(4, "p3", 20)]
    )
    outputs = feed(pipeline, readings)
    assert pipeline.names == {"p2", "p3"}
    for kind in (AlertKind.ANOMALY, AlertKind.ASSET_SILENT):
        assert [phase for _, phase, _ in told(outputs, kind)] == ["opened", "closed"]
    assert {event.row_ns for event in of_kind(outputs, AlertKind.ANOMALY)} == {6 * SECOND_NS}
    assert {event.row_ns for event in of_kind(outputs, AlertKind.ASSET_SILENT)} == {14 * SECOND_NS}


def test_a_forgotten_asset_holds_no_replay_back() -> None:
    pipeline = make(max_assets=200)
    readings = numbered(
        [*(r for i in range(199, -1, -1) for r in steady(1, f"p{i}")), *steady(3_000, "new", 1)]
    )
    for i in range(0, len(readings), 50):
        feed(pipeline, readings[i : i + 50])
        pipeline.checkpoint()
    assert pipeline.dropped["asset_evicted"] == 2  # and one place stays free
    assert pipeline.replay_from() > 2_000


def test_an_asset_that_comes_back_after_it_was_forgotten_starts_over() -> None:
    pipeline = make(max_assets=2)
    readings = [*steady(6, "p1"), *steady(6, "p2", 2), *steady(6, "p3", 4), *steady(6, "p1", 6)]
    outputs = feed(pipeline, numbered(readings), ended=True)
    scored = [(o.asset, o.row_ns // SECOND_NS) for o in outputs if isinstance(o, ScoredRow)]
    assert [row for asset, row in scored if asset == "p1"] == [3, 4, 5, 9, 10, 11]
    assert pipeline.dropped["asset_evicted"] == 2


def test_slots_grow_and_keep_their_assets() -> None:
    pipeline = make()
    readings = numbered([r for second in range(8) for i in range(40) for r in steady(1, f"p{i}", second)])
    outputs = feed(pipeline, readings, ended=True)
    assert pipeline.assets == 40
    assert Counter(o.asset for o in outputs if isinstance(o, ScoredRow)) == {f"p{i}": 5 for i in range(40)}
