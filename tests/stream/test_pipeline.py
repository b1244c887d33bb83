"""One partition from records to outputs: nothing depends on chunks or polls, and nothing looks ahead."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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
    Phase,
    PolledRecords,
    Reading,
    Record,
    ScoredRow,
    Severity,
    StreamSpec,
)
from daemon.stream import batch_ingest, chunker
from daemon.stream import pipeline as pipeline_module
from daemon.stream.steps import Traced
from tests.stream.pipelines import (
    ARRIVALS,
    CENTRE,
    HOUR_NS,
    NAN,
    POLICIES,
    POLICY,
    PUMPS_0,
    QUICK,
    SPEC,
    SPECS,
    arrivals,
    feed,
    in_order,
    live,
    make,
    no_stamp,
    numbered,
    of_kind,
    plain,
    replace_values,
    snapshots,
    steady,
    steps,
    told,
    wide,
)


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


def test_an_alert_names_the_asset_the_sensors_and_the_onset() -> None:
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
    assert opened.summary.startswith(
        "p1: a 20 above what the other sensors imply, since 1970-01-01T00:00:06Z; score 1"
    )
    assert closed.ended_ns == 6 * SECOND_NS  # the windows after it have the row, but are not off
    assert closed.summary == "p1: a 20 above what the other sensors imply, since 1970-01-01T00:00:06Z (over)"


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


def test_unreadable_records_become_dead_letters_and_every_record_is_counted() -> None:
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


def test_a_takeover_leaves_no_row_unscored_and_none_between_two_models() -> None:
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


def test_without_a_model_rows_are_released_and_nothing_is_scored() -> None:
    made = steps(make(detector=None), numbered([*steady(5), wide(5, NAN, 0.0)]), ended=True)
    assert sum(len(step.block.rows) for step in made if step.block is not None) == 6
    assert [o for step in made for o in step.outputs] == []


@settings(max_examples=25, deadline=None)
@given(st.integers(8, 50), st.integers(0, 2**32 - 1))
def test_later_readings_change_no_earlier_output(cut: int, seed: int) -> None:
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


@pytest.mark.parametrize("form", [Format.JSON_WIDE, Format.JSON_LONG])
def test_the_outputs_of_a_poll_of_gaps_come_in_pieces(form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 200 records bridges 19 rows: neither what waits nor what was said grows with the poll."""
    monkeypatch.setattr(pipeline_module, "MOST_EMITTED", 100)
    monkeypatch.setattr(batch_ingest, "MOST_BRIDGED", 100)
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
            assert snapshots(pipeline)
            said, rests = 0, rests + 1
    assert rests > 10
    assert most < 200
    assert letters == 10
