"""The fleet's clock: which assets are silent, and whose clocks are skewed or were set back."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Disposition,
    PolledRecords,
)
from daemon.stream.fleet_clock import FleetClock
from tests.stream.clocks import DAY, PARTITION, SPEC, T0, alerts, feed, fleet, line, made, rejected
from tests.stream.pipelines import snapshots, take_over


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("ahead", [400, -400, 3_000, 3_600, -3_600, -40 * 365 * DAY, 30 * DAY])
def test_a_skewed_clock_causes_one_alert_and_its_asset_is_judged(ahead: int, live: bool) -> None:
    clocks = {"p1": 0.0, "p2": 0.0, "p3": float(ahead)}
    pipeline = made()
    outputs = feed(pipeline, fleet(1_500, clocks, live=live))
    assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p3", "opened")]
    assert alerts(outputs, AlertKind.ASSET_SILENT) == []
    assert pipeline.counts[Disposition.ACCEPTED] == 4_500
    (events,) = [o for o in outputs if isinstance(o, AlertEvent)]
    assert events.clock_offset_ns is not None
    assert abs(events.clock_offset_ns / SECOND_NS - ahead) <= 2
    assert ("ahead of" if ahead > 0 else "behind") in events.summary


def test_of_two_clocks_the_records_own_times_decide_which_is_wrong() -> None:
    for ahead in (3_000.0, -3_000.0):
        outputs = feed(made(), fleet(1_500, {"p1": ahead, "p2": 0.0}, live=True))
        assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p1", "opened")]
        assert alerts(outputs, AlertKind.ASSET_SILENT) == []


def test_an_asset_with_a_skewed_clock_can_fall_silent_and_return() -> None:
    clocks = {"p1": 0.0, "p2": 0.0, "p3": 3_000.0}
    log = fleet(1_500, clocks, live=True)
    log += fleet(600, {"p1": 0.0, "p2": 0.0}, live=True, begin=1_500)
    log += fleet(30, clocks, live=True, begin=2_100)
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.ASSET_SILENT) == [("p3", "opened"), ("p3", "closed")]


@pytest.mark.parametrize("ahead", [200.0, -200.0])
def test_a_clock_that_is_off_by_less_than_silent_after_causes_no_alert(ahead: float) -> None:
    outputs = feed(made(), fleet(1_500, {"p1": 0.0, "p2": 0.0, "p3": ahead}, live=True))
    assert not [o for o in outputs if isinstance(o, AlertEvent)]


def test_a_clock_that_is_off_for_less_than_silent_after_causes_no_alert() -> None:
    log = fleet(280, {"p1": 0.0, "p2": 0.0, "p3": -3_000.0}, live=True)
    log += fleet(900, {"p1": 0.0, "p2": 0.0, "p3": 0.0}, live=True, begin=280)
    pipeline = made()
    assert alerts(feed(pipeline, log), AlertKind.CLOCK_SKEW) == []
    assert pipeline.counts[Disposition.ACCEPTED] == len(log)


def test_an_asset_that_sends_its_backlog_has_no_skewed_clock() -> None:
    """It comes nearer by two seconds in each, for as long as it takes to catch up."""
    log = []
    for i in range(2_000):
        log += [line(T0 + i, asset, T0 + i + 0.3) for asset in ("p1", "p2")]
        log += [line(T0 - 3_000 + 3 * i + j, "p3", T0 + i + 0.4) for j in range(3) if 3 * i + j <= 3_000 + i]
    pipeline = made()
    assert alerts(feed(pipeline, log), AlertKind.CLOCK_SKEW) == []
    assert pipeline.counts[Disposition.ACCEPTED] >= len(log) - pipeline.counts[Disposition.DUPLICATE]


def test_the_fleets_clock_supports_the_time_of_an_asset_that_returns() -> None:
    """In a file, where records have no time: at once, or at the end where the fleet comes there later."""
    away = [line(T0 + i, asset) for i in range(11) for asset in ("p1", "p2", "p3")]
    others = [line(T0 + i, asset) for i in range(11, 20_000, 10) for asset in ("p1", "p2")]
    pipeline = made()
    feed(pipeline, [*away, *others, line(T0 + 19_000, "p3")], end=False)
    assert pipeline.counts[Disposition.ACCEPTED] == len(away) + len(others) + 1
    pipeline = made()
    assert rejected(feed(pipeline, [*away, line(T0 + 19_000, "p3"), *others])) == []
    assert pipeline.counts[Disposition.ACCEPTED] == len(away) + len(others) + 1


def test_a_clock_that_is_set_right_closes_its_alert() -> None:
    log = fleet(1_500, {"p1": 0.0, "p2": 0.0, "p3": -3_000.0}, live=True)
    log += fleet(1_500, {"p1": 0.0, "p2": 0.0, "p3": 0.0}, live=True, begin=1_500)
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.CLOCK_SKEW) == [("p3", "opened"), ("p3", "closed")]
    assert alerts(outputs, AlertKind.ASSET_SILENT) == []


def test_an_asset_to_forget_ends_with_the_next_start() -> None:
    clocks = {"p1": 0.0, "p2": 0.0}
    first = made()
    log = fleet(60, clocks, live=True) + fleet(600, {"p1": 0.0}, live=True, begin=60)
    assert alerts(feed(first, log, end=False), AlertKind.ASSET_SILENT) == [("p2", "opened")]
    spec = replace(SPEC, forget=frozenset({"p2"}))
    second = made(spec, publish_from=first.offset)
    assert take_over(second, snapshots(first))
    assert alerts(second.predecessor_outputs(), AlertKind.ASSET_SILENT) == [("p2", "closed")]
    assert second.names == {"p1"}
    assert [saved for saved in snapshots(second) if saved.value is None and saved.key.endswith(b"p2")]


def test_one_reading_of_1999_makes_no_silent_asset() -> None:
    log = fleet(600, {"p1": 0.0, "p2": 0.0}, live=True)
    log.insert(300, line(10_600 * DAY, "p9", T0 + 150.3))
    assert [o for o in feed(made(), log) if isinstance(o, AlertEvent)] == []


@pytest.mark.parametrize("stopped", [1, 6, 9])
def test_however_many_assets_stop_they_become_silent(stopped: int) -> None:
    clocks = {f"p{i}": 0.0 for i in range(10)}
    alive = dict.fromkeys(list(clocks)[stopped:], 0.0)
    log = fleet(60, clocks, live=False) + fleet(400, alive, live=False, begin=60)
    outputs = feed(made(), log)
    assert alerts(outputs, AlertKind.ASSET_SILENT) == [(f"p{i}", "opened") for i in range(stopped)]
    assert {o.row_ns for o in outputs if isinstance(o, AlertEvent)} == {(T0 + 59 + 300) * SECOND_NS}


@pytest.mark.parametrize("live", [True, False])
def test_assets_that_stop_do_not_count_for_the_clock_after_a_few_turns(live: bool) -> None:
    """Nine of ten stop, and are silent after eight seconds: their own last rows may not hold the clock."""
    clocks = {f"p{i}": 0.0 for i in range(10)}
    log = fleet(60, clocks, live=live) + fleet(20, {"p0": 0.0}, live=live, begin=60)
    pipeline = made(replace(SPEC, silent_after_ns=8 * SECOND_NS))
    events = alerts(feed(pipeline, log, end=False), AlertKind.ASSET_SILENT)
    log = fleet(30, {"p0": 0.0}, live=live, begin=80)
    events += alerts(feed(pipeline, log, end=False), AlertKind.ASSET_SILENT)
    assert events == [(f"p{i}", "opened") for i in range(1, 10)]


def test_a_fleet_that_pauses_at_night_is_not_silent_in_the_morning() -> None:
    clocks = {f"p{i}": 0.0 for i in range(10)}
    log = [r for day in range(3) for r in fleet(200, clocks, live=False, begin=day * DAY)]
    pipeline = made()
    assert [o for o in feed(pipeline, log) if isinstance(o, AlertEvent)] == []
    assert pipeline.counts[Disposition.ACCEPTED] == 6_000


def test_an_asset_that_does_not_return_in_the_morning_is_silent() -> None:
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
def test_a_gateway_whose_clock_jumps_for_one_message_does_not_move_the_fleets(late_ms: int) -> None:
    """It stamps reading and record alike."""
    log = []
    for i in range(600):
        log += [line(T0 + i, f"p{a}", T0 + i + late_ms / 1e3) for a in range(3)]
        if i == 50:
            log.append(line(T0 + i + 3_000, "p1", T0 + i + 3_000 + late_ms / 1e3))
    pipeline = made()
    assert rejected(feed(pipeline, log)) == [153]
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
    events = [o for step_ in pipeline.feed(PolledRecords(PARTITION, log)) for o in step_.outputs]
    assert [o for o in events if isinstance(o, AlertEvent)] == []


def test_an_asset_ahead_from_the_start_makes_no_other_silent() -> None:
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


def test_ids_that_were_used_once_do_not_delay_silence() -> None:
    log = [line(T0 + i // 100, f"gone{i}", T0 + i // 100 + 0.2) for i in range(2_000)]
    log += fleet(1_000, {f"p{i}": 0.0 for i in range(5)}, live=True, begin=100)
    log += fleet(340, {f"p{i}": 0.0 for i in range(4)}, live=True, begin=1_100)
    pipeline = made()
    events = alerts(feed(pipeline, log, end=False), AlertKind.ASSET_SILENT)
    assert ("p4", "opened") in events


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
    events = feed(pipeline, log, end=False)
    events += [
        o
        for step in pipeline.feed(PolledRecords(PARTITION, (), idle=timedelta(seconds=5)))
        for o in step.outputs
    ]
    assert alerts(events, AlertKind.ASSET_SILENT) == []


def test_looks_are_rare_in_a_healthy_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it costs a walk over all assets; so it may not be done with every reading."""
    looks = []
    look = FleetClock.update
    monkeypatch.setattr(FleetClock, "update", lambda *a: looks.append(0) or look(*a))
    feed(made(), fleet(900, {f"p{i}": 0.0 for i in range(50)}, live=True))
    assert len(looks) < 20


def test_looks_are_rare_while_many_assets_are_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look walks over all slots: one for each new asset would be quadratic."""
    looks = []
    look = FleetClock.update
    monkeypatch.setattr(FleetClock, "update", lambda *a: looks.append(0) or look(*a))
    feed(made(), [line(T0 + i // 1_000, f"p{i}") for i in range(8_000)], end=False)
    assert len(looks) < 400


def test_wrong_times_do_not_evict_live_assets() -> None:
    pipeline = made(max_assets=100)
    log = [line(T0 + 90 * DAY, f"wild{i}", T0 + 0.1) for i in range(100)]
    log += fleet(500, {f"p{i}": 0.0 for i in range(5)}, live=True)
    feed(pipeline, log, end=False)
    assert pipeline.names >= {f"p{i}" for i in range(5)}
    assert pipeline.dropped["asset_evicted"] == 5
    assert pipeline.parts.chunker.rows >= 5 * 489


@pytest.mark.parametrize("idle", [True, False])
def test_the_alerts_of_a_fleet_that_falls_silent_at_once_come_in_several_steps(idle: bool) -> None:
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
    events = [sum(isinstance(o, AlertEvent) for o in step.outputs) for step in steps]
    assert sum(events) >= 1_400
    assert max(events) <= 500
