"""Which event times are believed, and whose silence and whose clock is said."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    DeadLetter,
    Disposition,
    Format,
    InputPartition,
    Output,
    PolledRecords,
    Reading,
    Reason,
    Record,
    Records,
    Severity,
    StreamSpec,
)
from daemon.stream import clock as clock_module
from daemon.stream.alerts import Episodes
from daemon.stream.clock import EventTimeGuard, HeldReading
from daemon.stream.decoding import Decoder
from daemon.stream.encoding import encode
from daemon.stream.ingest import as_record
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline

PARTITION = InputPartition("sensors.pumps", 0)
SPEC = StreamSpec("pumps", ("a", "b"), window=4)  # lateness 10 s, max_gap and silent_after 300 s
DAY = 86_400
T0 = 20_000 * DAY


def made(spec: StreamSpec = SPEC, *, publish_from: int = 0, **more: Any) -> Pipeline:
    settings = PipelineSettings(spec, AlarmPolicy(), 3_600 * SECOND_NS, trace=True, **more)
    pipeline = Pipeline(settings, PARTITION, Decoder(spec), publish_from=publish_from)
    pipeline.offset = 0
    return pipeline


def line(second: float, asset: str = "p1", stamp: float | None = None, value: float = 1.0) -> Reading:
    """One reading; ``stamp`` is its record's time in seconds, None for a file's row."""
    stamp_ns = -1 if stamp is None else round(stamp * 1e9)
    return Reading(0, asset, round(second * 1e9), [value, value], stamp_ns=stamp_ns)


def feed(pipeline: Pipeline, readings: Iterable[Reading], *, end: bool = True) -> list[Output]:
    """Feed readings as one log; what is said of them."""
    log = list(readings)
    for offset, reading in enumerate(log, pipeline.offset):
        reading.offset = offset
    said = [o for step in pipeline.feed(PolledRecords(PARTITION, log)) for o in step.outputs]
    if end:
        said += [o for step in pipeline.feed(PolledRecords(PARTITION, (), ended=True)) for o in step.outputs]
    return said


def alerts(outputs: Iterable[Output], kind: AlertKind) -> list[tuple[str, str]]:
    """(asset, phase) of the alerts of a kind."""
    return [(o.asset, str(o.phase)) for o in outputs if isinstance(o, AlertEvent) and o.kind is kind]


def refused(outputs: Iterable[Output]) -> list[int]:
    """Offsets of the records that were refused as of the future."""
    letters = [o.rejected for o in outputs if isinstance(o, DeadLetter)]
    assert all(letter.reason is Reason.FUTURE for letter in letters)
    return [letter.record.offset for letter in letters]


# ------------------------------------------------------------------ one asset
@pytest.mark.parametrize(
    ("seconds", "lost", "late"),
    [
        # one row far ahead is refused, and the others are judged as if it had never come
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
    assert refused(outputs) == lost
    assert pipeline.parts.ingest.trace is not None
    traced = {t.offset: t.disposition for t in pipeline.parts.ingest.trace}
    assert [o for o, d in sorted(traced.items()) if d is Disposition.REJECTED] == lost
    assert [o for o, d in sorted(traced.items()) if d is Disposition.LATE] == late
    assert sum(pipeline.counts.values()) == len(readings)
    assert pipeline.counts[Disposition.REJECTED] == pipeline.reasons["future"] == len(lost)


def test_a_file_whose_first_rows_are_all_wrong_goes_on_with_the_others() -> None:
    """No asset's only row may support another's."""
    pipeline = made()
    log = [line(T0 + 3 * DAY, asset) for asset in ("p1", "p2", "p3")]
    log += [line(T0 + i, asset) for i in range(30) for asset in ("p1", "p2", "p3")]
    assert refused(feed(pipeline, log)) == [0, 1, 2]
    assert pipeline.counts[Disposition.ACCEPTED] == 90


def test_a_live_message_of_a_fast_clock_harms_nobody() -> None:
    """The records' own time goes on by a second; one reading of p1 is 50 minutes ahead."""
    pipeline = made()
    log = []
    for i in range(400):
        log += [line(T0 + i, asset, T0 + i + 0.2) for asset in ("p1", "p2")]
        if i == 50:
            log.append(line(T0 + i + 3_000, "p1", T0 + i + 0.3))
    outputs = feed(pipeline, log)
    assert refused(outputs) == [102]
    assert not [o for o in outputs if isinstance(o, AlertEvent)]
    assert pipeline.counts[Disposition.ACCEPTED] == 800


@pytest.mark.parametrize("appended", [True, False])
def test_a_pause_that_the_brokers_own_time_shows_needs_no_witness(appended: bool) -> None:
    """A producer's time may be as wrong as the reading's: then another record must have passed the pause, too."""
    pipeline = made()
    for i, second in enumerate([*range(20), 5_000]):
        value = b'{"asset":"p1","ts":%d,"values":{"a":1,"b":2}}' % (T0 + second)
        records = Records([i], [None], [value], [(T0 + second) * SECOND_NS + 2 * 10**8], appended)
        list(pipeline.feed(PolledRecords(PARTITION, records)))
    assert pipeline.counts[Disposition.ACCEPTED] == 20 + appended
    assert pipeline.parts.ingest.guard.doubtful.any() == (not appended)


def test_a_record_time_that_repeats_the_event_time_proves_nothing() -> None:
    pipeline = made()
    log = [line(T0 + i, asset, T0 + i) for i in range(60) for asset in ("p1", "p2", "p3")]
    log.insert(90, line(T0 + 9_000, "p1", T0 + 9_000))
    assert refused(feed(pipeline, log)) == [90]


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
    assert refused(feed(pipeline, [line(T0 + s, stamp=today + i) for i, s in enumerate(seconds)])) == []
    assert pipeline.counts[Disposition.ACCEPTED] == len(seconds)


@pytest.mark.parametrize(("behind", "lost"), [(290, []), (2_000, [0])])
def test_a_first_row_far_behind_its_record_is_given_up_for_two_that_contradict_it(
    behind: int, lost: list[int]
) -> None:
    """Where it is no more than ``silent_after`` behind, its own record supports it."""
    pipeline = made()
    log = [line(T0 - behind, stamp=T0)]
    log += [line(T0 - 5_000 + i, stamp=T0 + i) for i in range(1, 20)]
    assert refused(feed(pipeline, log)) == lost
    assert pipeline.counts[Disposition.ACCEPTED] == (19 if lost else 1)


def test_what_is_ahead_of_its_record_waits_however_idle_the_log_is() -> None:
    pipeline = made()
    feed(pipeline, [line(T0 + i, stamp=T0 + i + 0.2) for i in range(9)], end=False)
    feed(pipeline, [line(T0 + 3_000, stamp=T0 + 9)], end=False)
    list(pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(hours=1))))
    assert pipeline.counts[Disposition.ACCEPTED] == 9
    assert refused(feed(pipeline, [line(T0 + 10, stamp=T0 + 10.2)])) == [9]


def test_the_cells_of_one_wrong_row_are_one_witness() -> None:
    spec = replace(SPEC, format=Format.JSON_LONG)
    pipeline = made(spec)
    log = [
        Reading(0, "p1", round((T0 + s) * 1e9), None, sensor, 1.0)
        for s in (0, 1, 2, 9_000, 3, 4)
        for sensor in (0, 1)
    ]
    assert refused(feed(pipeline, log)) == [6, 7]
    assert pipeline.counts[Disposition.ACCEPTED] == 10


def test_what_is_refused_comes_out_as_it_came_in() -> None:
    pipeline = made()
    texts = [b'{"asset":"p1","ts":%d,"values":{"a":1.5,"b":null}}' % (T0 + s) for s in (0, 1, 9_000, 2, 3)]
    log = [Record(i, b"key", text, (T0 + 10_000) * SECOND_NS) for i, text in enumerate(texts)]
    outputs = [o for step in pipeline.feed(PolledRecords(PARTITION, log)) for o in step.outputs]
    (letter,) = [o.rejected for o in outputs if isinstance(o, DeadLetter)]
    assert (letter.record, letter.reason) == (log[2], Reason.FUTURE)


def test_a_row_of_a_table_is_refused_as_the_message_that_would_have_said_it() -> None:
    row = line(T0 + 0.25, value=float("nan"))
    assert repr(Decoder(SPEC).decode(as_record(row, SPEC))) == repr(row)


def test_what_is_held_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "MOST_HELD", 10_000)
    pipeline = made()
    log = [line(T0, f"p{i}", T0 + 0.2) for i in range(200)]
    log += [line(T0 + 9_000, f"p{i}", T0 + 0.4) for i in range(200)]
    outputs = feed(pipeline, log, end=False)
    assert pipeline.parts.ingest.guard.doubtful.sum() == 200  # of those without room the time alone is kept
    assert 150 < len(refused(outputs)) < 190
    feed(pipeline, [line(T0 + 1, f"p{i}", T0 + 1.2) for i in range(200)], end=False)
    assert pipeline.parts.ingest.guard.doubtful.sum() == 0
    assert pipeline.parts.ingest.guard.held_bytes == 0


@pytest.mark.parametrize("size", [100, 9_000, 60_000, 65_200])
def test_what_is_held_of_one_asset_fits_into_a_message(size: int) -> None:
    """However long a producer's lines are, and however often it repeats a first row that nothing supports."""
    pipeline = made(SPEC)
    pad = "x" * size

    def padded(offset: int, second: int) -> Record:
        body = {"asset": "p1", "ts": T0 + second, "values": {"a": offset + 0.5, "b": 1.0}, "pad": pad}
        return Record(offset, b"p1", json.dumps(body).encode(), (T0 + 10**6) * SECOND_NS)

    log = [padded(i, 9_000) for i in range(20)] + [padded(20 + i, 0) for i in range(20)]
    list(pipeline.feed(PolledRecords(PARTITION, log)))
    assert pipeline.parts.ingest.guard.doubtful.any()
    assert max(len(saved.value or b"") for saved in pipeline.checkpoint()) < 600_000
    assert sum(pipeline.counts.values()) >= 20


def test_of_one_row_that_is_sent_again_and_again_eight_readings_are_held() -> None:
    log = [line(T0 + s, stamp=T0 + s + 0.2) for s in (0, 1, 2)]
    log += [line(T0 + 9_000, stamp=T0 + 3 + i / 100) for i in range(20)]
    pipeline = made()
    assert refused(feed(pipeline, log, end=False)) == list(range(11, 23))
    assert refused(feed(pipeline, [line(T0 + 4, stamp=T0 + 4.2)])) == list(range(3, 11))


def test_a_record_too_large_to_be_held_is_refused_at_once() -> None:
    guard = EventTimeGuard(SPEC)
    guard.grow(1)
    guard.clear(0)
    near = line(T0)
    guard.admit(0, HeldReading(near, as_record(near, SPEC)), -1, T0, released=False)
    far, large = line(T0 + 9_000), Record(1, None, b" " * 70_000, -1)
    admission = guard.admit(0, HeldReading(far, large), -1, T0, released=True)
    assert [held.record for held in admission.refused] == [large]
    # Its time is a witness: an asset of large records is not deaf behind its first gap.
    then = line(T0 + 9_001)
    admission = guard.admit(0, HeldReading(then, as_record(then, SPEC)), -1, T0, released=True)
    assert (admission.taken, admission.refused) == ([then], [])


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
    assert len(refused(outputs)) == odd
    assert pipeline.counts[Disposition.ACCEPTED] == clean.counts[Disposition.ACCEPTED] == len(seconds)
    assert pipeline.parts.chunker.rows == clean.parts.chunker.rows


# ------------------------------------------------------------------ the fleet
def fleet(seconds: int, clocks: dict[str, float], *, live: bool, begin: int = 0) -> list[Reading]:
    """A reading per second of assets whose clocks are ahead by so much."""
    return [
        line(T0 + s + ahead, asset, T0 + s + 0.3 if live else None)
        for s in range(begin, begin + seconds)
        for asset, ahead in clocks.items()
    ]


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("ahead", [400, -400, 3_000, 3_600, -3_600, -40 * 365 * DAY, 30 * DAY])
def test_a_clock_that_is_off_for_good_is_said_once_and_judged_like_the_others(ahead: int, live: bool) -> None:
    clocks = {"p1": 0.0, "p2": 0.0, "p3": float(ahead)}
    pipeline = made()
    outputs = feed(pipeline, fleet(1_500, clocks, live=live))
    assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p3", "opened")]
    assert alerts(outputs, AlertKind.ASSET_SILENT) == []
    assert pipeline.counts[Disposition.ACCEPTED] == 4_500
    (said,) = [o for o in outputs if isinstance(o, AlertEvent)]
    assert said.clock_offset_ns is not None
    assert abs(said.clock_offset_ns / SECOND_NS - ahead) <= 2
    assert ("ahead of" if ahead > 0 else "behind") in said.summary


def test_of_two_clocks_the_records_time_says_which_one_is_wrong() -> None:
    for ahead in (3_000.0, -3_000.0):
        outputs = feed(made(), fleet(1_500, {"p1": ahead, "p2": 0.0}, live=True))
        assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p1", "opened")]
        assert alerts(outputs, AlertKind.ASSET_SILENT) == []


def test_an_asset_with_a_wrong_clock_can_fall_silent_and_be_back() -> None:
    clocks = {"p1": 0.0, "p2": 0.0, "p3": 3_000.0}
    log = fleet(1_500, clocks, live=True)
    log += fleet(600, {"p1": 0.0, "p2": 0.0}, live=True, begin=1_500)
    log += fleet(30, clocks, live=True, begin=2_100)
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.ASSET_SILENT) == [("p3", "opened"), ("p3", "closed")]


@pytest.mark.parametrize("ahead", [200.0, -200.0])
def test_a_clock_that_is_off_by_less_than_silent_after_is_not_said(ahead: float) -> None:
    outputs = feed(made(), fleet(1_500, {"p1": 0.0, "p2": 0.0, "p3": ahead}, live=True))
    assert not [o for o in outputs if isinstance(o, AlertEvent)]


def test_a_clock_that_is_off_for_less_than_silent_after_is_not_said() -> None:
    log = fleet(280, {"p1": 0.0, "p2": 0.0, "p3": -3_000.0}, live=True)
    log += fleet(900, {"p1": 0.0, "p2": 0.0, "p3": 0.0}, live=True, begin=280)
    pipeline = made()
    assert alerts(feed(pipeline, log), AlertKind.CLOCK_SKEW) == []
    assert pipeline.counts[Disposition.ACCEPTED] == len(log)


def test_who_works_off_a_backlog_has_no_wrong_clock() -> None:
    """It comes nearer by two seconds in each, for as long as it takes to catch up."""
    log = []
    for i in range(2_000):
        log += [line(T0 + i, asset, T0 + i + 0.3) for asset in ("p1", "p2")]
        log += [line(T0 - 3_000 + 3 * i + j, "p3", T0 + i + 0.4) for j in range(3) if 3 * i + j <= 3_000 + i]
    pipeline = made()
    assert alerts(feed(pipeline, log), AlertKind.CLOCK_SKEW) == []
    assert pipeline.counts[Disposition.ACCEPTED] >= len(log) - pipeline.counts[Disposition.DUPLICATE]


def test_the_fleet_says_that_time_has_moved_on_for_who_was_away() -> None:
    """In a file, where records have no time: at once, or at the end where the fleet comes there later."""
    away = [line(T0 + i, asset) for i in range(11) for asset in ("p1", "p2", "p3")]
    others = [line(T0 + i, asset) for i in range(11, 20_000, 10) for asset in ("p1", "p2")]
    pipeline = made()
    feed(pipeline, [*away, *others, line(T0 + 19_000, "p3")], end=False)
    assert pipeline.counts[Disposition.ACCEPTED] == len(away) + len(others) + 1
    pipeline = made()
    assert refused(feed(pipeline, [*away, line(T0 + 19_000, "p3"), *others])) == []
    assert pipeline.counts[Disposition.ACCEPTED] == len(away) + len(others) + 1


def test_a_clock_that_is_set_right_closes_its_alert() -> None:
    log = fleet(1_500, {"p1": 0.0, "p2": 0.0, "p3": -3_000.0}, live=True)
    log += fleet(1_500, {"p1": 0.0, "p2": 0.0, "p3": 0.0}, live=True, begin=1_500)
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p3", "opened"), ("p3", "closed")]
    assert alerts(outputs, AlertKind.ASSET_SILENT) == []


def test_an_asset_that_is_to_be_forgotten_ends_with_the_next_start() -> None:
    clocks = {"p1": 0.0, "p2": 0.0}
    first = made()
    log = fleet(60, clocks, live=True) + fleet(600, {"p1": 0.0}, live=True, begin=60)
    assert alerts(feed(first, log, end=False), AlertKind.ASSET_SILENT) == [("p2", "opened")]
    spec = replace(SPEC, forget=frozenset({"p2"}))
    second = made(spec, publish_from=first.offset)
    assert second.restore(first.checkpoint())
    assert alerts(second.predecessor_outputs(), AlertKind.ASSET_SILENT) == [("p2", "closed")]
    assert second.names == {"p1"}
    assert [saved for saved in second.checkpoint() if saved.value is None and saved.key.endswith(b"p2")]


def test_drift_alerts_of_two_partitions_are_two() -> None:
    said = []
    for number in (0, 1):
        episodes = Episodes(SPEC, InputPartition("sensors.pumps", number), AlarmPolicy())
        said += episodes.open_unscored("pumps", AlertKind.DRIFT, None, 60, 0, Severity.WARNING, "m1")
        said += episodes.close_unscored("pumps", AlertKind.DRIFT, None, 90, "m1")
    assert len({event.fingerprint for event in said}) == 2
    assert len({event.id for event in said}) == 4
    sources = [json.loads(encode(event, datetime.now(UTC)).value)["source"] for event in said]
    assert sources == [f"/anomalyd/pumps/sensors.pumps/{number}" for number in (0, 0, 1, 1)]


def test_one_reading_of_1999_makes_no_silent_asset() -> None:
    log = fleet(600, {"p1": 0.0, "p2": 0.0}, live=True)
    log.insert(300, line(10_600 * DAY, "p9", T0 + 150.3))
    assert [o for o in feed(made(), log) if isinstance(o, AlertEvent)] == []


@pytest.mark.parametrize("stopped", [1, 6, 9])
def test_however_many_stop_the_others_say_so(stopped: int) -> None:
    clocks = {f"p{i}": 0.0 for i in range(10)}
    alive = dict.fromkeys(list(clocks)[stopped:], 0.0)
    log = fleet(60, clocks, live=False) + fleet(400, alive, live=False, begin=60)
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.ASSET_SILENT) == [(f"p{i}", "opened") for i in range(stopped)]
    assert {o.row_ns for o in outputs if isinstance(o, AlertEvent)} == {(T0 + 59 + 300) * SECOND_NS}


@pytest.mark.parametrize("live", [True, False])
def test_most_of_a_fleet_that_stops_has_no_say_after_a_few_turns(live: bool) -> None:
    """Nine of ten stop, and are silent after eight seconds: their own last rows may not hold the clock."""
    clocks = {f"p{i}": 0.0 for i in range(10)}
    log = fleet(60, clocks, live=live) + fleet(20, {"p0": 0.0}, live=live, begin=60)
    pipeline = made(replace(SPEC, silent_after_ns=8 * SECOND_NS))
    said = alerts(feed(pipeline, log, end=False), AlertKind.ASSET_SILENT)
    log = fleet(30, {"p0": 0.0}, live=live, begin=80)
    said += alerts(feed(pipeline, log, end=False), AlertKind.ASSET_SILENT)
    assert said == [(f"p{i}", "opened") for i in range(1, 10)]


def test_a_fleet_that_rests_at_night_is_not_silent_in_the_morning() -> None:
    clocks = {f"p{i}": 0.0 for i in range(10)}
    log = [r for day in range(3) for r in fleet(200, clocks, live=False, begin=day * DAY)]
    pipeline = made()
    assert [o for o in feed(pipeline, log) if isinstance(o, AlertEvent)] == []
    assert pipeline.counts[Disposition.ACCEPTED] == 6_000


def test_an_asset_that_does_not_come_back_in_the_morning_is_silent() -> None:
    clocks = {f"p{i}": 0.0 for i in range(10)}
    log = fleet(200, clocks, live=False)
    log += fleet(200, {f"p{i}": 0.0 for i in range(9)}, live=False, begin=DAY)
    assert alerts(feed(made(), log), AlertKind.ASSET_SILENT) == [("p9", "opened")]


def test_partitions_dumped_one_after_the_other_are_not_silent() -> None:
    log = fleet(2_000, {"p1": 0.0, "p2": 0.0}, live=False) + fleet(2_000, {"p3": 0.0, "p4": 0.0}, live=False)
    pipeline = made()
    assert [o for o in feed(pipeline, log) if isinstance(o, AlertEvent)] == []
    assert pipeline.counts[Disposition.ACCEPTED] == 8_000


def test_a_slow_reporter_counts_for_the_clock_of_a_small_fleet() -> None:
    """p1 reports every second and turns out to be 50 minutes ahead; p2 is right and reports every minute."""
    log = []
    for s in range(6_000):
        log.append(line(T0 + s + (3_000 if s > 600 else 0), "p1", T0 + s + 0.3))
        if s % 60 == 0:
            log.append(line(T0 + s, "p2", T0 + s + 0.4))
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.ASSET_SILENT) == []
    assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p1", "opened")]


def test_an_asset_whose_rows_were_wrong_first_and_repeated_is_accounted_for() -> None:
    pipeline = made()
    log = [line(T0 + 9_000)] * 2 + [line(T0)] * 12 + [line(T0 + i) for i in range(1, 20)]
    log = [line(r.time_ns / 1e9) for r in log]
    outputs = feed(pipeline, log)
    assert pipeline.parts.ingest.trace is not None
    assert len({t.offset for t in pipeline.parts.ingest.trace}) == len(log) == sum(pipeline.counts.values())
    last = Counter({t.offset: t.disposition for t in pipeline.parts.ingest.trace}.values())
    assert Counter(pipeline.counts) == last
    assert refused(outputs) == [0, 1]


@pytest.mark.parametrize("ahead", [-3_600, -DAY])
def test_an_asset_whose_clock_is_set_back_is_judged_again(ahead: int) -> None:
    """All that it sends is late, for an hour or a day: after ``silent_after`` it begins anew."""
    log = fleet(600, {"p1": 0.0, "p2": 0.0, "p3": 0.0}, live=True)
    log += fleet(1_800, {"p1": 0.0, "p2": 0.0, "p3": float(ahead)}, live=True, begin=600)
    pipeline = made()
    outputs = feed(pipeline, log)
    assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p3", "opened")]
    late = pipeline.counts[Disposition.LATE]
    assert 300 <= late <= 700
    assert pipeline.counts[Disposition.ACCEPTED] == len(log) - late
    silences = alerts(outputs, AlertKind.ASSET_SILENT)
    assert silences in ([], [("p3", "opened"), ("p3", "closed")])


@pytest.mark.parametrize("others", [0, 1])
def test_a_small_fleet_need_not_wait_long_for_a_clock_that_was_set_right(others: int) -> None:
    """It was 50 minutes ahead for a while: most of those would be late."""
    clocks = {f"p{i}": 0.0 for i in range(others)}
    log = fleet(60, {**clocks, "solo": 3_000.0}, live=True)
    log += fleet(2_000, {**clocks, "solo": 0.0}, live=True, begin=60)
    pipeline = made(replace(SPEC, silent_after_ns=30 * SECOND_NS))
    feed(pipeline, log)
    assert pipeline.counts[Disposition.LATE] < 300


def test_a_backlog_that_comes_late_is_no_clock_that_was_set_back() -> None:
    log = fleet(600, {"p1": 0.0, "p2": 0.0}, live=True)
    for s in range(1_200):  # an hour of old readings, three a second, between those of now
        log += fleet(1, {"p1": 0.0, "p2": 0.0}, live=True, begin=600 + s)
        log += [line(T0 - 10_000 + 3 * s + i, "p1", T0 + 600.4 + s) for i in range(3)]
    pipeline = made()
    assert [o for o in feed(pipeline, log) if isinstance(o, AlertEvent)] == []
    assert pipeline.counts[Disposition.LATE] == 3_600


def test_an_asset_that_repeats_its_last_message_is_silent() -> None:
    log = fleet(600, {"p1": 0.0, "p2": 0.0, "p3": 0.0}, live=True)
    for s in range(600, 1_200):
        log += fleet(1, {"p1": 0.0, "p2": 0.0}, live=True, begin=s)
        log.append(line(T0 + 599, "p3", T0 + s + 0.3))
    assert alerts(feed(made(), log), AlertKind.ASSET_SILENT) == [("p3", "opened")]


@pytest.mark.parametrize("late_ms", [0, 3])
def test_a_gateway_whose_clock_jumps_for_one_message_moves_nothing(late_ms: int) -> None:
    """It stamps reading and record alike."""
    log = []
    for i in range(600):
        log += [line(T0 + i, f"p{a}", T0 + i + late_ms / 1e3) for a in range(3)]
        if i == 50:
            log.append(line(T0 + i + 3_000, "p1", T0 + i + 3_000 + late_ms / 1e3))
    pipeline = made()
    assert refused(feed(pipeline, log)) == [153]
    assert pipeline.counts[Disposition.ACCEPTED] == 1_800


def test_a_slow_reporter_has_its_turn_after_a_night() -> None:
    log = []
    for day in range(2):
        for i in range(1_800):
            log += fleet(1, {"p1": 0.0, "p2": 0.0}, live=False, begin=day * DAY + i)
            if i % 60 == 59:
                log += fleet(1, {"slow": 0.0}, live=False, begin=day * DAY + i)
    assert alerts(feed(made(), log), AlertKind.ASSET_SILENT) == []


@pytest.mark.parametrize("step", [1, 2, 7])
@pytest.mark.parametrize("gap", [0, 10**6])
def test_offsets_that_have_gaps_change_nothing(step: int, gap: int) -> None:
    """Transactions and compaction take up offsets; turns are counted in readings."""
    log, offset = [], 0
    for begin in (0, 9 * 3_600):
        for reading in fleet(400, {f"p{i}": 0.0 for i in range(20)}, live=True, begin=begin):
            reading.offset, offset = offset, offset + step
            log.append(reading)
        offset += gap
    pipeline = made()
    said = [o for step_ in pipeline.feed(PolledRecords(PARTITION, log)) for o in step_.outputs]
    assert [o for o in said if isinstance(o, AlertEvent)] == []


def test_who_is_ahead_from_the_start_makes_nobody_silent() -> None:
    log = fleet(900, {"p1": 3_600.0, "p2": 0.0, "p3": 0.0, "p4": 0.0}, live=True)
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.ASSET_SILENT) == []
    assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p1", "opened")]


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_a_short_silence_is_none_while_all_have_their_turn(rows: int) -> None:
    order = random.Random(3)
    log = []
    for i in range(300):
        names = [f"p{a}" for a in range(6)]
        order.shuffle(names)
        log += [line(T0 + i, name, T0 + i + 0.2) for name in names]
    outputs = feed(made(replace(SPEC, silent_after_ns=rows * SECOND_NS)), log)
    assert alerts(outputs, AlertKind.ASSET_SILENT) == []


def test_ids_that_are_gone_hold_no_silence_back() -> None:
    log = [line(T0 + i // 100, f"gone{i}", T0 + i // 100 + 0.2) for i in range(2_000)]
    log += fleet(1_000, {f"p{i}": 0.0 for i in range(5)}, live=True, begin=100)
    log += fleet(340, {f"p{i}": 0.0 for i in range(4)}, live=True, begin=1_100)
    pipeline = made()
    said = alerts(feed(pipeline, log, end=False), AlertKind.ASSET_SILENT)
    assert ("p4", "opened") in said


@pytest.mark.parametrize("stamped", ["alike", "late"])
@pytest.mark.parametrize("assets", [2, 4])
def test_half_a_fleet_that_is_ahead_makes_the_other_half_not_silent(assets: int, stamped: str) -> None:
    """Records that repeat the event times say nothing of whose clock is right: nobody may be called silent."""
    log = []
    for i in range(3_000):
        for a in range(assets):
            second = T0 + i + (3_000 if a >= assets // 2 else 0)
            log.append(line(second, f"p{a}", second + (0.003 if stamped == "late" else 0)))
    pipeline = made()
    said = feed(pipeline, log, end=False)
    said += [
        o
        for step in pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(seconds=5)))
        for o in step.outputs
    ]
    assert alerts(said, AlertKind.ASSET_SILENT) == []


def test_a_first_row_that_nothing_supports_waits_however_idle_the_log_is() -> None:
    pipeline = made()
    feed(pipeline, [line(T0 + 3_000, stamp=T0)], end=False)
    list(pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(seconds=15))))
    outputs = feed(pipeline, [line(T0 + 20 + i, stamp=T0 + 20.2 + i) for i in range(30)])
    assert refused(outputs) == [0]
    assert pipeline.counts[Disposition.ACCEPTED] == 30


def test_the_clock_of_a_healthy_fleet_is_seldom_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it costs a walk over all assets; so it may not be done with every reading."""
    looks = []
    look = clock_module.FleetClock.look
    monkeypatch.setattr(clock_module.FleetClock, "look", lambda *a: looks.append(0) or look(*a))
    feed(made(), fleet(900, {f"p{i}": 0.0 for i in range(50)}, live=True))
    assert len(looks) < 20


def test_first_readings_that_nothing_supports_are_seldom_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look walks over all slots: one for each new asset would be quadratic."""
    looks = []
    look = clock_module.FleetClock.look
    monkeypatch.setattr(clock_module.FleetClock, "look", lambda *a: looks.append(0) or look(*a))
    feed(made(), [line(T0 + i // 1_000, f"p{i}") for i in range(8_000)], end=False)
    assert len(looks) < 400


def test_wrong_times_do_not_drive_out_who_is_alive() -> None:
    pipeline = made(max_assets=100)
    log = [line(T0 + 90 * DAY, f"wild{i}", T0 + 0.1) for i in range(100)]
    log += fleet(500, {f"p{i}": 0.0 for i in range(5)}, live=True)
    feed(pipeline, log, end=False)
    assert pipeline.names >= {f"p{i}" for i in range(5)}
    assert pipeline.dropped["asset_evicted"] == 5
    assert pipeline.parts.chunker.rows >= 5 * 489


@pytest.mark.parametrize("idle", [True, False])
def test_a_fleet_that_falls_silent_at_once_is_said_in_pieces(idle: bool) -> None:
    pipeline = made()
    clocks = {f"p{i:04}": 0.0 for i in range(1_500)}
    feed(pipeline, fleet(2, clocks, live=True), end=False)
    if idle:
        steps = list(pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(seconds=400))))
    else:
        log = fleet(400, {f"q{i}": 0.0 for i in range(20)}, live=True, begin=2)
        for offset, reading in enumerate(log, pipeline.offset):
            reading.offset = offset
        steps = list(pipeline.feed(PolledRecords(PARTITION, log)))
    said = [sum(isinstance(o, AlertEvent) for o in step.outputs) for step in steps]
    assert sum(said) >= 1_400
    assert max(said) <= 500


def test_what_is_held_of_one_asset_fits_a_record_of_state() -> None:
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
    assert max(len(saved.value or b"") for saved in pipeline.checkpoint()) < 300_000
    assert 100 < len(refused(outputs)) < 200  # what there was no room for
