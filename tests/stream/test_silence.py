"""Silent and stuck sensors, silent assets."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    AlertKind,
    Reading,
    Severity,
)
from daemon.habit import DAY_SLOTS, SilenceHabit
from daemon.mapping import SensorRule
from tests.stream.pipelines import (
    CENTRE,
    HOUR_NS,
    MINUTE_NS,
    NAN,
    SPEC,
    feed,
    make,
    numbered,
    of_kind,
    snapshots,
    steady,
    take_over,
    told,
    wide,
)

FIVE_MINUTES = replace(
    SPEC,
    period_ns=5 * MINUTE_NS,
    allowed_lateness_ns=5 * MINUTE_NS,
    max_gap_ns=30 * MINUTE_NS,
    silent_after_ns=40 * MINUTE_NS,
)
_HOUR = np.arange(7 * DAY_SLOTS) % DAY_SLOTS / 4
AT_NIGHT = SilenceHabit(
    np.stack([_HOUR < 0, (_HOUR < 6) | (_HOUR >= 20), (_HOUR < 6) | (_HOUR >= 20)]),
    np.array([0, 10, 10]) * HOUR_NS,
    np.zeros(3, np.int64),
)
"""Sensor b is usually silent at night, and so are whole assets."""
NIGHTLY = replace(CENTRE, silence=AT_NIGHT)


def hourly(alerts: list[AlertEvent]) -> list[tuple[float, str, str]]:
    """(hour, phase, sensor or asset), to the minute."""
    return [(round(e.row_ns / HOUR_NS, 2), str(e.phase), e.sensor or e.asset) for e in alerts]


def day(begin: float, end: float, gone: tuple[float, float] = (0, 0), asset: str = "p1") -> list[Reading]:
    """A reading every five minutes of these hours; between the hours ``gone`` it has no value of sensor b."""
    return [
        wide(300 * i, 0.01 * (i % 2), NAN if gone[0] <= i / 12 < gone[1] else 0.01 * (i % 3), asset=asset)
        for i in range(round(12 * begin), round(12 * end))
    ]


def test_a_silent_sensor_opens_one_episode_that_closes_when_it_reports() -> None:
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


def test_a_sensor_that_never_reported_is_silent_from_the_first_row_on() -> None:
    readings = [wide(i, 0.5 + 0.01 * (i % 2), NAN) for i in range(12)]
    outputs = feed(make(detector=None), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == [(8, "opened", "b")]
    assert {e.model for e in of_kind(outputs, AlertKind.SENSOR_SILENT)} == {"none"}


def test_two_sensors_that_fall_silent_together_are_one_alert_that_lasts_until_both_report() -> None:
    readings = [
        *steady(4),
        *(wide(4 + i, NAN, NAN if i > 1 else 1.0) for i in range(14)),
        *(wide(18 + i, NAN, 0.1 * i) for i in range(3)),
        *steady(2, start=21),
    ]
    outputs = feed(make(), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == [
        (11, "opened", "a"),
        (13, "updated", "a"),
        (21, "closed", "a"),
    ]
    said = of_kind(outputs, AlertKind.SENSOR_SILENT)
    assert [[part.sensor for part in event.parts] for event in said] == [["a"], ["a", "b"], []]
    assert [list(event.sensors) for event in said] == [["a"], ["a", "b"], ["a", "b"]]
    assert "a has sent no value since 1970-01-01T00:00:03Z; with b" in said[1].summary


def test_a_pause_of_the_whole_asset_is_no_silence_of_its_sensors() -> None:
    readings = [*steady(5), *steady(5, start=19)]
    outputs = feed(make(), numbered(readings), ended=True)
    assert told(outputs, AlertKind.SENSOR_SILENT) == []


def test_a_silent_asset_opens_one_episode_that_closes_when_it_is_back() -> None:
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


def test_a_sensor_that_is_silent_by_habit_is_none_and_alerts_at_an_unusual_hour() -> None:
    readings = [*day(8, 32, (20, 30)), *day(32, 50, (35, 37)), *day(50, 62, (43, 62))]
    outputs = feed(make(FIVE_MINUTES, NIGHTLY), numbered(readings), ended=True)
    assert hourly(of_kind(outputs, AlertKind.SENSOR_SILENT)) == [
        (35.58, "opened", "b"),  # at eleven: after 40 minutes, like a sensor without habits
        (37.0, "closed", "b"),
        (55.08, "opened", "b"),  # it began in the night, and lasts for an hour beyond it
    ]


def test_without_a_model_nothing_is_usual() -> None:
    outputs = feed(make(FIVE_MINUTES, None), numbered(day(8, 32, (20, 30))), ended=True)
    assert hourly(of_kind(outputs, AlertKind.SENSOR_SILENT)) == [
        (20.58, "opened", "b"),
        (30.0, "closed", "b"),
    ]


def test_a_held_sensor_is_silent_by_habit_from_the_end_of_its_hold_on() -> None:
    held = replace(FIVE_MINUTES, sensor_rules=(SensorRule(), SensorRule(hold_ns=3 * HOUR_NS)))
    outputs = feed(make(held, NIGHTLY), numbered(day(8, 40, (17, 32))), ended=True)
    assert hourly(of_kind(outputs, AlertKind.SENSOR_SILENT)) == [
        (31.08, "opened", "b"),
        (32.0, "closed", "b"),
    ]


def test_an_asset_that_is_silent_by_habit_is_none_until_the_habit_is_over() -> None:
    others = [r for name in ("p2", "p3") for r in day(8, 62, asset=name)]
    readings = [*others, *day(8, 20), *day(30, 35), *day(37, 44)]
    readings.sort(key=lambda reading: reading.time_ns)
    outputs = feed(make(FIVE_MINUTES, NIGHTLY), numbered(readings), ended=True)
    assert hourly(of_kind(outputs, AlertKind.ASSET_SILENT)) == [
        (35.58, "opened", "p1"),
        (37.0, "closed", "p1"),
        (55.08, "opened", "p1"),
    ]


@pytest.mark.parametrize(("kind", "place"), [(AlertKind.SENSOR_SILENT, 1), (AlertKind.ASSET_SILENT, 2)])
def test_a_habit_of_one_asset_excuses_no_other(kind: AlertKind, place: int) -> None:
    own = SilenceHabit(
        np.stack([*np.zeros_like(AT_NIGHT.usual), AT_NIGHT.usual[2]]),
        np.array([0, 0, 0, 10]) * HOUR_NS,
        np.zeros(4, np.int64),
        (("p1", place),),
    )
    names = ("p1", "p2", "p3", "p4")
    if kind is AlertKind.SENSOR_SILENT:
        readings = [r for name in names for r in day(8, 30, (20, 30) if name < "p3" else (0, 0), name)]
    else:
        readings = [r for name in names for r in day(8, 20 if name < "p3" else 30, asset=name)]
    readings.sort(key=lambda reading: reading.time_ns)
    outputs = feed(make(FIVE_MINUTES, replace(CENTRE, silence=own)), numbered(readings), ended=True)
    assert [(e.asset, str(e.phase)) for e in of_kind(outputs, kind)] == [("p2", "opened")]


def test_a_whole_partition_that_is_idle_by_habit_is_silent_once_the_habit_is_over() -> None:
    pipeline = make(FIVE_MINUTES, NIGHTLY)
    feed(pipeline, numbered(day(8, 20)))
    assert feed(pipeline, [], idle=timedelta(hours=11)) == []
    opened = of_kind(feed(pipeline, [], idle=timedelta(hours=11.2)), AlertKind.ASSET_SILENT)
    assert hourly(opened) == [(31.08, "opened", "p1")]
    at_noon = make(FIVE_MINUTES, NIGHTLY)
    feed(at_noon, numbered(day(8, 12)))
    assert len(of_kind(feed(at_noon, [], idle=timedelta(hours=1)), AlertKind.ASSET_SILENT)) == 1


def test_a_sensor_that_shows_at_dawn_what_it_showed_at_dusk_is_not_stuck() -> None:
    readings = numbered(day(8, 34, (20, 30)))
    for reading in readings:
        if 19.8 < reading.time_ns / HOUR_NS < 30.2 and not np.isnan(reading.values[1]):
            reading.values[1] = 0.5
    moving = replace(NIGHTLY, still=6)
    assert of_kind(feed(make(FIVE_MINUTES, moving), readings), AlertKind.SENSOR_STUCK) == []
    plain = feed(make(FIVE_MINUTES, replace(moving, silence=None)), readings)
    assert hourly(of_kind(plain, AlertKind.SENSOR_STUCK)) == [(30.0, "opened", "b"), (30.25, "closed", "b")]


def test_what_a_habit_excuses_is_state_that_only_judging_knows() -> None:
    pipeline = make(FIVE_MINUTES, NIGHTLY)
    readings = numbered(day(8, 31, (20, 30)))
    feed(pipeline, readings[:-12])
    assert pipeline.parts.needing_snapshot() == {"p1"}
    feed(pipeline, readings[-12:])
    assert pipeline.parts.needing_snapshot() == set()


def test_what_a_habit_excuses_is_unusual_to_the_next_model_after_a_restart_too() -> None:
    readings = numbered(day(8, 26, (20, 30)))
    one = make(FIVE_MINUTES, NIGHTLY)
    feed(one, readings[:200])
    other = replace(CENTRE, version="centre-2")
    one.use(other)
    successor = make(FIVE_MINUTES, other, publish_from=200)
    assert take_over(successor, snapshots(one))
    successor.offset = one.replay_from()
    assert feed(successor, readings[successor.offset : 200]) == []
    told_by = [of_kind(feed(p, readings[200:]), AlertKind.SENSOR_SILENT) for p in (one, successor)]
    assert hourly(told_by[0]) == hourly(told_by[1]) == [(24.67, "opened", "b")]


def test_nothing_is_silent_before_anything_came() -> None:
    assert feed(make(), [], idle=timedelta(days=1)) == []


def test_a_stuck_sensor_opens_one_episode_that_closes_when_it_moves() -> None:
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
