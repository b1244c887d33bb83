"""Which event times are believed, which readings are held, and what becomes of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    DeadLetter,
    Disposition,
    Format,
    PolledRecords,
    Reading,
    Reason,
    Record,
    Records,
)
from daemon.mapping import Reduce, SensorRule
from daemon.stream import event_time
from daemon.stream.decoding import Decoder
from daemon.stream.event_time import EventTimeGuard, HeldReading
from daemon.stream.ingest import as_record
from tests.stream.clocks import DAY, PARTITION, SPEC, T0, feed, line, made, rejected
from tests.stream.pipelines import snapshots


@pytest.mark.parametrize(
    ("seconds", "lost", "late"),
    [
        # one row far ahead is rejected, and the others are judged as if it had never come
        ("0 1 2 9000 3 4 5", [3], []),
        ("0 1 2 9000 1 3 4", [3], []),
        ("0 1 2 9000 9000 3 4", [3, 4], []),  # sent twice: no second witness
        ("0 1 2 9000 3 9000 4 5", [3, 5], []),
        # ... also where it comes first or last
        ("9000 0 1 2 3", [0], []),
        ("9000 9000 0 1 2 3", [0, 1], []),
        ("0 1 2 9000", [3], []),
        # a second row confirms that time has moved on
        ("0 1 2 9000 9001 9002", [], []),
        ("0 1 2 9003 9001 9002", [], []),
        ("0 1 2 9000 2 9001 9002", [], []),  # a repetition contradicts nothing
        ("0 1 2 500 9000 20000 20001", [], []),  # irregular readings: each confirms the one before
        ("0 1 2 500", [], []),  # the last one may be as far as a gap
        ("0 1 2 9000 500 501", [3], []),  # the higher one is contradicted by the lower
        # up to the lateness and a period it needs no witness, and may come in any order
        ("0 11 1 2", [], []),
        ("0 11 0.5", [], [2]),
        ("0 11 1 22 3", [], [4]),  # what came late takes nothing back
        # at the end of a file a lone reading may be an hour ahead
        ("0 1 2 3602", [], []),
        ("0 1 2 3603", [3], []),
        # a first row that nothing supports is given up for two that contradict it, not for one
        ("9000 0 9001 9002", [], [1]),
    ],
)
def test_an_assets_time_moves_on_by_plausible_steps(
    seconds: str, lost: Sequence[int], late: Sequence[int]
) -> None:
    pipeline = made(replace(SPEC, max_gap_ns=300 * SECOND_NS))
    readings = [line(T0 + float(second)) for second in seconds.split()]
    outputs = feed(pipeline, readings)
    assert rejected(outputs) == lost
    assert pipeline.parts.ingest.trace is not None
    traced = {t.offset: t.disposition for t in pipeline.parts.ingest.trace}
    assert [o for o, d in sorted(traced.items()) if d is Disposition.REJECTED] == lost
    assert [o for o, d in sorted(traced.items()) if d is Disposition.LATE] == late
    assert sum(pipeline.counts.values()) == len(readings)
    assert pipeline.counts[Disposition.REJECTED] == pipeline.reasons["future"] == len(lost)


def test_wrong_first_rows_of_a_file_are_replaced_by_the_others() -> None:
    """No asset's only row may support another's."""
    pipeline = made()
    log = [line(T0 + 3 * DAY, asset) for asset in ("p1", "p2", "p3")]
    log += [line(T0 + i, asset) for i in range(30) for asset in ("p1", "p2", "p3")]
    assert rejected(feed(pipeline, log)) == [0, 1, 2]
    assert pipeline.counts[Disposition.ACCEPTED] == 90


def test_one_message_with_a_fast_clock_changes_nothing() -> None:
    """The records' own time goes on by a second; one reading of p1 is 50 minutes ahead."""
    pipeline = made()
    log = []
    for i in range(400):
        log += [line(T0 + i, asset, T0 + i + 0.2) for asset in ("p1", "p2")]
        if i == 50:
            log.append(line(T0 + i + 3_000, "p1", T0 + i + 0.3))
    outputs = feed(pipeline, log)
    assert rejected(outputs) == [102]
    assert not [o for o in outputs if isinstance(o, AlertEvent)]
    assert pipeline.counts[Disposition.ACCEPTED] == 800


@pytest.mark.parametrize("appended", [True, False])
def test_a_pause_that_the_brokers_timestamps_show_needs_no_confirmation(appended: bool) -> None:
    """A producer's time may be as wrong as the reading's: then another record must have passed the pause, too."""
    pipeline = made()
    for i, second in enumerate([*range(20), 5_000]):
        value = b'{"asset":"p1","ts":%d,"values":{"a":1,"b":2}}' % (T0 + second)
        stamps = np.array([(T0 + second) * SECOND_NS + 2 * 10**8])
        records = Records(np.array([i]), [None], [value], stamps, appended)
        list(pipeline.feed(PolledRecords(PARTITION, records)))
    assert pipeline.counts[Disposition.ACCEPTED] == 20 + appended
    assert pipeline.parts.ingest.guard.doubtful.any() == (not appended)


def test_a_record_time_that_repeats_the_event_time_is_no_support() -> None:
    pipeline = made()
    log = [line(T0 + i, asset, T0 + i) for i in range(60) for asset in ("p1", "p2", "p3")]
    log.insert(90, line(T0 + 9_000, "p1", T0 + 9_000))
    assert rejected(feed(pipeline, log)) == [90]


def test_a_gap_of_an_old_log_is_taken_when_the_log_is_idle() -> None:
    """Readings of last year are sent today: their records are no witness of a gap, and no future either."""
    pipeline = made()
    today = T0 + 300 * DAY
    feed(pipeline, [line(T0 + s, stamp=today) for s in (0, 1, 2, 200)], end=False)
    assert pipeline.counts[Disposition.ACCEPTED] == 3
    list(pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(seconds=11))))
    assert pipeline.counts[Disposition.ACCEPTED] == 4


def test_an_old_log_of_rare_readings_is_taken_as_a_file_is() -> None:
    """Their records say nothing of how long the gaps were: each reading confirms the one before."""
    pipeline, today = made(), T0 + 300 * DAY
    seconds = (0, 1, 2, 500, 9_000, 20_000, 20_001)
    assert rejected(feed(pipeline, [line(T0 + s, stamp=today + i) for i, s in enumerate(seconds)])) == []
    assert pipeline.counts[Disposition.ACCEPTED] == len(seconds)


@pytest.mark.parametrize(("behind", "lost"), [(290, []), (2_000, [0])])
def test_a_first_row_far_behind_its_record_is_replaced_by_two_that_contradict_it(
    behind: int, lost: list[int]
) -> None:
    """Where it is no more than ``silent_after`` behind, its own record supports it."""
    pipeline = made()
    log = [line(T0 - behind, stamp=T0)]
    log += [line(T0 - 5_000 + i, stamp=T0 + i) for i in range(1, 20)]
    assert rejected(feed(pipeline, log)) == lost
    assert pipeline.counts[Disposition.ACCEPTED] == (19 if lost else 1)


def test_a_reading_ahead_of_its_record_stays_held_however_idle_the_log_is() -> None:
    pipeline = made()
    feed(pipeline, [line(T0 + i, stamp=T0 + i + 0.2) for i in range(9)], end=False)
    feed(pipeline, [line(T0 + 3_000, stamp=T0 + 9)], end=False)
    list(pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(hours=1))))
    assert pipeline.counts[Disposition.ACCEPTED] == 9
    assert rejected(feed(pipeline, [line(T0 + 10, stamp=T0 + 10.2)])) == [9]


def test_the_cells_of_one_wrong_row_do_not_confirm_each_other() -> None:
    spec = replace(SPEC, format=Format.JSON_LONG)
    pipeline = made(spec)
    log = [
        Reading(0, "p1", round((T0 + s) * 1e9), None, sensor, 1.0)
        for s in (0, 1, 2, 9_000, 3, 4)
        for sensor in (0, 1)
    ]
    assert rejected(feed(pipeline, log)) == [6, 7]
    assert pipeline.counts[Disposition.ACCEPTED] == 10


def test_all_cells_of_a_row_after_a_pause_are_taken_once_the_records_show_that_it_was_one() -> None:
    pipeline = made(replace(SPEC, format=Format.JSON_LONG))
    log = [
        Reading(0, "p1", (T0 + s) * SECOND_NS, None, sensor, 1.0, stamp_ns=(T0 + s) * SECOND_NS + 1)
        for s in (0, 60, 120, 180)
        for sensor in (0, 1)
    ]
    assert rejected(feed(pipeline, log)) == []
    assert pipeline.counts[Disposition.ACCEPTED] == 8


def test_all_values_that_are_reduced_to_one_are_held_together() -> None:
    pipeline = made(replace(SPEC, sensor_rules=(SensorRule(reduce=Reduce.MEAN), SensorRule())))
    log = [
        Reading(0, "p1", (T0 + s) * SECOND_NS + i, [1.0, 2.0]) for s in (0, 9_000, 9_001) for i in range(300)
    ]
    assert rejected(feed(pipeline, log)) == []
    assert pipeline.counts[Disposition.ACCEPTED] == 900


def test_a_rejected_record_is_dead_lettered_as_it_arrived() -> None:
    pipeline = made()
    texts = [b'{"asset":"p1","ts":%d,"values":{"a":1.5,"b":null}}' % (T0 + s) for s in (0, 1, 9_000, 2, 3)]
    log = [Record(i, b"key", text, (T0 + 10_000) * SECOND_NS) for i, text in enumerate(texts)]
    outputs = [o for step in pipeline.feed(PolledRecords(PARTITION, log)) for o in step.outputs]
    (letter,) = [o.rejected for o in outputs if isinstance(o, DeadLetter)]
    assert (letter.record, letter.reason) == (log[2], Reason.FUTURE)


def test_a_rejected_row_of_a_table_is_dead_lettered_as_an_equivalent_message() -> None:
    row = line(T0 + 0.25, value=float("nan"))
    assert repr(Decoder(SPEC).decode(as_record(row, SPEC))) == repr(row)


def test_the_bytes_held_in_a_partition_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_time, "MOST_HELD", 10_000)
    pipeline = made()
    feed(pipeline, [line(T0, f"p{i}", T0 + 0.2) for i in range(200)], end=False)
    counts = []
    for second in (0, 1):  # the bytes of readings that were decided on are free again
        ahead = [line(T0 + 9_000 + second, f"p{i}", T0 + second + 0.4) for i in range(200)]
        counts.append(len(rejected(feed(pipeline, ahead, end=False))))
        # Of a reading without room the time alone is kept.
        assert pipeline.parts.ingest.guard.doubtful.sum() == 200
        feed(pipeline, [line(T0 + second + 1, f"p{i}", T0 + second + 1.2) for i in range(200)], end=False)
        assert pipeline.parts.ingest.guard.doubtful.sum() == 0
    assert 150 < counts[0] < 190
    assert counts[1] == counts[0]


@pytest.mark.parametrize("size", [100, 9_000, 60_000, 65_200])
def test_the_held_records_of_one_asset_fit_into_a_message(size: int) -> None:
    """However long a producer's lines are, and however often it repeats a first row that nothing supports."""
    pipeline = made(SPEC)
    pad = "x" * size

    def padded(offset: int, second: int) -> Record:
        body = {"asset": "p1", "ts": T0 + second, "values": {"a": offset + 0.5, "b": 1.0}, "pad": pad}
        return Record(offset, b"p1", json.dumps(body).encode(), (T0 + 10**6) * SECOND_NS)

    log = [padded(i, 9_000) for i in range(20)] + [padded(20 + i, 0) for i in range(20)]
    list(pipeline.feed(PolledRecords(PARTITION, log)))
    assert pipeline.parts.ingest.guard.doubtful.any()
    assert max(len(saved.value or b"") for saved in snapshots(pipeline)) < 600_000
    assert sum(pipeline.counts.values()) >= 20


def test_of_a_row_that_is_repeated_eight_readings_are_held() -> None:
    log = [line(T0 + s, stamp=T0 + s + 0.2) for s in (0, 1, 2)]
    log += [line(T0 + 9_000, stamp=T0 + 3 + i / 100) for i in range(20)]
    pipeline = made()
    assert rejected(feed(pipeline, log, end=False)) == list(range(11, 23))
    assert rejected(feed(pipeline, [line(T0 + 4, stamp=T0 + 4.2)])) == list(range(3, 11))


def test_a_record_too_large_to_be_held_is_rejected_at_once() -> None:
    guard = EventTimeGuard(SPEC)
    guard.grow(1)
    guard.clear(0)
    near = line(T0)
    guard.admit(0, HeldReading(near, as_record(near, SPEC)), -1, T0, released=False)
    far, large = line(T0 + 9_000), Record(1, None, b" " * 70_000, -1)
    admission = guard.admit(0, HeldReading(far, large), -1, T0, released=True)
    assert [held.record for held in admission.rejected] == [large]
    # Its time is a witness: an asset of large records is not deaf behind its first gap.
    then = line(T0 + 9_001)
    admission = guard.admit(0, HeldReading(then, as_record(then, SPEC)), -1, T0, released=True)
    assert (admission.taken, admission.rejected) == ([then], [])


@given(
    st.lists(st.integers(0, 11), min_size=1, max_size=60),
    st.lists(
        st.tuples(st.integers(2, 50), st.integers(400, 10**6)), max_size=4, unique_by=lambda x: x[0] // 4
    ),
)
def test_lone_outliers_change_nothing(steps: list[int], outliers: list[tuple[int, int]]) -> None:
    """Readings in order with rows far ahead among them, at least two of the others apart."""
    seconds, at = [], 0
    for step in steps:
        at += max(step, 1)
        seconds.append(T0 + at)
    clean = made()
    feed(clean, [line(s) for s in seconds])
    log, odd = [line(s) for s in seconds], 0
    for place, ahead in sorted(outliers, reverse=True):
        if place < len(log) - 2:
            log.insert(place - place % 4, line(T0 + at + ahead + 3_600))
            odd += 1
    pipeline = made()
    outputs = feed(pipeline, log)
    assert len(rejected(outputs)) == odd
    assert pipeline.counts[Disposition.ACCEPTED] == clean.counts[Disposition.ACCEPTED] == len(seconds)
    assert pipeline.parts.chunker.rows == clean.parts.chunker.rows


def test_an_unsupported_first_row_stays_held_however_idle_the_log_is() -> None:
    pipeline = made()
    feed(pipeline, [line(T0 + 3_000, stamp=T0)], end=False)
    list(pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(seconds=15))))
    outputs = feed(pipeline, [line(T0 + 20 + i, stamp=T0 + 20.2 + i) for i in range(30)])
    assert rejected(outputs) == [0]
    assert pipeline.counts[Disposition.ACCEPTED] == 30


def test_the_held_records_of_one_asset_fit_into_its_record_of_state() -> None:
    spec = replace(SPEC, format=Format.JSON_LONG, sensors=tuple(f"s{i}" for i in range(200)))
    pipeline = made(spec)
    log = []
    for second in (0, 9_000):
        for sensor in range(200):
            body = {
                "asset": "p1",
                "ts": T0 + second,
                "sensor": f"s{sensor}",
                "value": 1.0,
                "note": "x" * 15_000,
            }
            log.append(Record(len(log), None, json.dumps(body).encode(), (T0 + 20_000) * SECOND_NS))
    outputs = [o for step in pipeline.feed(PolledRecords(PARTITION, log)) for o in step.outputs]
    assert max(len(saved.value or b"") for saved in snapshots(pipeline)) < 300_000
    assert 100 < len(rejected(outputs)) < 200  # what there was no room for


def test_an_asset_whose_rows_were_wrong_first_and_repeated_is_accounted_for() -> None:
    pipeline = made()
    log = [line(T0 + 9_000)] * 2 + [line(T0)] * 12 + [line(T0 + i) for i in range(1, 20)]
    log = [line(r.time_ns / 1e9) for r in log]
    outputs = feed(pipeline, log)
    assert pipeline.parts.ingest.trace is not None
    assert len({t.offset for t in pipeline.parts.ingest.trace}) == len(log) == sum(pipeline.counts.values())
    last = Counter({t.offset: t.disposition for t in pipeline.parts.ingest.trace}.values())
    assert Counter(pipeline.counts) == last
    assert rejected(outputs) == [0, 1]
