"""Incidents: what joins an alert that is open, what opens one of its own, and when it is over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.detector import REACH
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    InputPartition,
    Severity,
    StreamSpec,
)
from daemon.maintenance import MaintenanceWindow
from daemon.stream.alert_messages import ScoredEvidence
from daemon.stream.alerts import Episodes
from daemon.stream.deviation import SustainedRow
from daemon.stream.incident import ANOMALY, TOGETHER, AssetEpisodes, EpisodeStart, Incident, Part
from tests.stream.evidence import NAN, SENSORS, scored_row, sensors
from tests.stream.test_deviation import CALM, Asset, Shares

WINDOW = 4
REACHED = TOGETHER * WINDOW
STUCK, SILENT = AlertKind.SENSOR_STUCK, AlertKind.SENSOR_SILENT
Said = list[tuple[int, str, list[str], list[str]]]


def said(events: list[AlertEvent]) -> Said:
    """Row, phase, kinds and sensors of messages."""
    return [
        (e.row_ns // SECOND_NS, str(e.phase), [str(kind) for kind in e.kinds], list(e.sensors))
        for e in events
    ]


class Played:
    """One asset at a threshold of 3: scores by row, and parts that have none."""

    def __init__(self, refractory: int = 0, *, restarts: bool = False) -> None:
        spec = StreamSpec("pumps", SENSORS, window=WINDOW)
        self.episodes = Episodes(spec, InputPartition("t", 0), AlarmPolicy(refractory=refractory))
        self.events: list[AlertEvent] = []
        self.restarts = restarts

    def score(self, row: int, score: float, error: tuple[float, float, float]) -> Played:
        if not self.episodes.cannot_change("p", score, 2.7):
            one = scored_row(row, score, list(error))
            self.events += self.episodes.scored("p", one, 3.0, 2.7, "m", "full")[1]
        return self.restarted()

    def opens(self, kind: AlertKind, sensor: str | None, onset: int, row: int) -> Played:
        self.events += self.episodes.open_unscored("p", EpisodeStart(kind, onset, sensor), row, "m")
        return self.restarted()

    def closes(self, kind: AlertKind, sensor: str | None, row: int) -> Played:
        self.events += self.episodes.close_unscored("p", Part(kind, sensor), row, "m")
        return self.restarted()

    def restarted(self) -> Played:
        state = self.episodes.snapshot("p") if self.restarts else None
        if state is not None:
            self.episodes.assets["p"] = AssetEpisodes.restored(state)
        return self


def of_flow(stuck_at: int, refractory: int = 0, *, restarts: bool = False) -> Played:
    """An anomaly of Flow from row 10 on, and a stuck sensor Flow that is noticed later."""
    played = Played(refractory, restarts=restarts)
    for row in range(10, stuck_at):
        played.score(row, 4.0, (0.1, 0.1, 9.0))
    return played.opens(STUCK, "Flow", stuck_at - 8, stuck_at)


def test_a_part_of_the_same_sensor_joins_whenever_it_comes_and_the_alert_closes_with_its_last_part() -> None:
    played = of_flow(stuck_at=100).score(101, 0.0, (0.0, 0.0, 0.0)).closes(STUCK, "Flow", 110)
    joined = [one for one in said(played.events) if one[0] >= 100]
    assert joined == [
        (100, "updated", ["anomaly", "sensor_stuck"], ["Flow"]),
        (101, "updated", ["anomaly", "sensor_stuck"], ["Flow"]),  # no anomaly any more
        (110, "closed", ["anomaly", "sensor_stuck"], ["Flow"]),
    ]
    assert len({event.fingerprint for event in played.events}) == 1
    assert {event.kind for event in played.events} == {AlertKind.ANOMALY}
    assert [[str(part.kind) for part in event.parts] for event in played.events[-3:]] == [
        ["anomaly", "sensor_stuck"],
        ["sensor_stuck"],
        [],
    ]
    assert played.episodes.assets == {}
    assert "also sensor stuck" in played.events[-1].summary


def test_a_part_of_another_sensor_joins_if_it_began_at_about_the_same_time_and_else_is_an_alert() -> None:
    for onset, opened in ((10 + REACHED, False), (11 + REACHED, True)):
        played = Played()
        for row in range(10, 60):
            played.score(row, 4.0, (0.1, 0.1, 9.0))
        played.opens(STUCK, "Current", onset, 60)
        assert (str(played.events[-1].phase) == "opened") is opened
        assert list(played.events[-1].sensors) == (["Current"] if opened else ["Current", "Flow"])


def test_a_sentence_says_of_a_silent_sensor_what_is_true_of_it() -> None:
    played = Played().opens(SILENT, "Pressure", 300, 310)
    assert "Pressure has sent no value since 1970-01-01T00:05:00Z" in played.events[-1].summary
    played.opens(STUCK, "Pressure", 10, 320)  # joins, and began earlier
    assert played.events[-1].onset_ns == 10 * SECOND_NS
    assert "Pressure has sent no value since 1970-01-01T00:05:00Z" in played.events[-1].summary
    played.closes(SILENT, "Pressure", 330)
    assert "Pressure had sent no value; also" in played.events[-1].summary


def test_an_anomaly_that_joins_an_old_alert_is_told_as_often_as_a_new_one() -> None:
    played = Played(restarts=True).opens(STUCK, "Flow", 1, 9)
    for row in range(1_100, 1_100 + 5 * WINDOW):
        played.score(row, 4.0, (0.1, 0.1, 9.0))
    rows = [event.row_ns // SECOND_NS - 1_100 for event in played.events[1:]]
    assert rows == [0, WINDOW, 2 * WINDOW, 4 * WINDOW]
    assert {event.fingerprint for event in played.events} == {played.events[0].fingerprint}


def test_sensors_that_led_an_earlier_anomaly_of_the_alert_stay_named() -> None:
    played = Played().opens(STUCK, "Current", 1, 9)
    played.score(10, 4.0, (0.1, 0.1, 9.0)).score(11, 0.0, (0.0, 0.0, 0.0))
    played.score(12, 4.0, (9.0, 0.1, 0.1))
    assert set(played.events[-1].sensors) == {"Current", "Flow", "Pressure"}


def test_an_asset_that_is_silent_or_a_clock_that_is_off_is_an_alert_of_its_own() -> None:
    played = of_flow(12).opens(AlertKind.ASSET_SILENT, None, 12, 20).opens(AlertKind.CLOCK_SKEW, None, 12, 20)
    played.opens(SILENT, "Flow", 12, 20)
    assert [str(event.phase) for event in played.events[-3:]] == ["opened", "opened", "updated"]
    assert len({event.fingerprint for event in played.events}) == 3


def test_a_second_fault_of_another_sensor_is_an_alert_of_its_own_while_an_anomaly_is_open() -> None:
    first: Shares = (50.0, 0.1, 0.1)
    both: Shares = (50.0, 0.1, 50.0)
    asset = Asset()
    for row in range(1, 60):
        late = row > 40
        asset.row(row, (3.0, 0.1, 2.0 if late else 0.1), 9.0, both if late else first)
    opened = [e for e in asset.events if str(e.phase) == "opened"]
    assert said(opened) == [
        (1, "opened", ["anomaly"], ["Pressure"]),
        (41, "opened", ["deviation"], ["Flow"]),
    ]
    assert [c.sensor for c in opened[1].contributors] == ["Flow"]
    last = [e for e in asset.events if e.fingerprint == opened[0].fingerprint][-1]
    assert last.contributors[0].sensor == "Pressure"  # what Flow shows later is not blamed on it
    for row in range(60, 60 + 2 * REACHED):
        asset.row(row, CALM)
    assert [str(e.phase) for e in asset.events[-2:]] == ["closed", "closed"]
    assert asset.episodes.assets == {}


def test_an_anomaly_that_others_come_to_lead_late_is_another_alert() -> None:
    played = Played()
    for row in range(1, 60):
        played.score(row, 4.0, (9.0, 0.1, 0.1) if row < 40 else (0.1, 0.1, 20.0))
    played.score(60, 0.0, (0.0, 0.0, 0.0))
    ends = [event for event in played.events if str(event.phase) != "updated"]
    assert said(ends) == [
        (1, "opened", ["anomaly"], ["Pressure"]),
        (40, "closed", ["anomaly"], ["Pressure"]),
        (40, "opened", ["anomaly"], ["Flow"]),
        (60, "closed", ["anomaly"], ["Flow"]),
    ]
    assert [event.contributors[0].sensor for event in ends] == ["Pressure", "Pressure", "Flow", "Flow"]


def test_an_anomaly_goes_from_one_alert_to_another_once_a_window_at_most() -> None:
    played = Played().opens(STUCK, "Pressure", 1, 1).opens(STUCK, "Flow", 100, 100)
    for row in range(200, 240):
        played.score(row, 4.0, (9.0, 0.1, 0.1) if row % 2 else (0.1, 0.1, 9.0))
    ids = [event.id for event in played.events]
    assert len(set(ids)) == len(ids)
    per_row = [event.row_ns for event in played.events[2:]]
    assert len(per_row) <= 3 * (240 - 200) // WINDOW + 2


def test_an_anomaly_that_comes_again_late_and_led_by_others_is_another_alert() -> None:
    played = Played(refractory=8)
    for row in range(1, 40):
        played.score(row, 4.0, (50.0, 0.1, 0.1))
    for row in range(40, 45):
        played.score(row, 0.0, (0.0, 0.0, 0.0))
    played.score(45, 4.0, (0.1, 0.1, 9.0))
    assert said(played.events[-2:]) == [
        (45, "closed", ["anomaly"], ["Pressure"]),
        (45, "opened", ["anomaly"], ["Flow"]),
    ]


def test_an_opening_that_named_the_wrong_sensor_is_corrected_by_one_update() -> None:
    played = Played().score(1, 4.0, (2.0, 0.1, 1.0))
    for row in range(2, 9):
        played.score(row, 4.0, (2.0, 0.1, 1.0 + row))
    firsts = [(event.row_ns // SECOND_NS, event.contributors[0].sensor) for event in played.events]
    assert firsts == [
        (1, "Pressure"),
        (5, "Flow"),
    ]  # a window after the last message, at the first due update
    played = Played().score(1, 4.0, (2.0, 0.1, 1.0))
    for row in range(2, 8):
        played.score(row, 4.0, (2.0, 0.1, 1.0 if row < 7 else 9.0))
    firsts = [(event.row_ns // SECOND_NS, event.contributors[0].sensor) for event in played.events]
    assert firsts == [(1, "Pressure"), (5, "Pressure")]
    for row in range(8, 16):
        played.score(row, 4.0, (2.0 if row < 13 else 99.0, 0.1, 9.0))
    firsts = [(event.row_ns // SECOND_NS, event.contributors[0].sensor) for event in played.events[2:]]
    assert firsts == [(9, "Flow"), (13, "Pressure")]  # at most one a window


def test_updates_and_the_close_keep_the_peak() -> None:
    played = Played().score(1, 4.0, (2.0, 0.1, 1.0)).score(2, 9.0, (2.0, 0.1, 1.0))
    played.score(3, 5.0, (2.0, 0.1, 1.0)).score(4, 0.0, (0.0, 0.0, 0.0))
    peaks = [event.peak for event in played.events]
    assert [(p.row_ns // SECOND_NS, p.score, p.value, p.threshold) for p in peaks if p] == [
        (1, "combined", 4.0, 3.0),
        (2, "combined", 9.0, 3.0),
        (2, "combined", 9.0, 3.0),
    ]


def test_an_anomaly_that_comes_again_within_the_refractory_time_continues_its_alert() -> None:
    played = Played(refractory=4).score(1, 4.0, (2.0, 0.1, 1.0))
    for row in range(2, 6):
        played.score(row, 0.0, (0.0, 0.0, 0.0))
    played.score(6, 4.0, (0.1, 0.1, 9.0))
    for row in range(7, 12):
        played.score(row, 0.0, (0.0, 0.0, 0.0))
    assert [str(event.phase) for event in played.events] == ["opened", "updated", "closed"]
    assert [c.sensor for c in played.events[-1].contributors][:2] == ["Flow", "Pressure"]


def test_a_successor_continues_an_incident_of_several_parts() -> None:
    whole, cut = (
        of_flow(100, 2, restarts=restarts)
        .opens(SILENT, "Current", 14, 101)
        .score(102, 4.0, (0.1, 0.1, 20.0))
        .score(103, 0.0, (0.0, 0.0, 0.0))
        .score(104, 0.0, (0.0, 0.0, 0.0))
        .score(105, 0.0, (0.0, 0.0, 0.0))
        .score(106, 4.0, (9.0, 0.1, 0.1))
        .closes(STUCK, "Flow", 107)
        .closes(SILENT, "Current", 108)
        for restarts in (False, True)
    )
    assert [repr(event) for event in cut.events] == [repr(event) for event in whole.events]
    assert len(whole.events) >= 8


HOUR_NS = 3_600 * SECOND_NS
REGIME = 2 * REACH * WINDOW
"""Rows, of an hour each; more than a day."""


class Long:
    """One asset of rows of an hour; Pressure's sustained evidence is twice its limits, and it is off by so much."""

    def __init__(
        self,
        accept_rows: int = 0,
        learn_rows: int = 0,
        *,
        restarts: bool = False,
        maintenance: range = range(0),
        refractory: int = 2,
    ) -> None:
        spec = StreamSpec("pumps", SENSORS, window=WINDOW, period_ns=HOUR_NS)
        policy = AlarmPolicy(refractory=refractory, accept_rows=accept_rows, learn_rows=learn_rows)
        spans = [MaintenanceWindow("w", maintenance.start * HOUR_NS, maintenance.stop * HOUR_NS)]
        self.episodes = Episodes(spec, InputPartition("t", 0), policy, spans)
        self.events: list[AlertEvent] = []
        self.accepted: list[tuple[int, list[str]]] = []
        self.restarts = restarts
        self.row = 0

    def off(self, *by: float, share: float = 2.0, flow: float = 0.1, score: float = 0.0) -> Long:
        for far in by:
            self.row += 1
            shares = np.array([share, 0.1, flow])
            row = SustainedRow(self.row, shares, 2.0 * shares, np.array([far, 0.0, 5.0]), np.zeros(3))
            if (row.closing > 1.0).any() or self.episodes.deviates("p"):
                evidence = scored_row(self.row, score, [score, 0.0, 0.0])
                if not self.episodes.cannot_change("p", score, 2.7):
                    self.events += self.episodes.scored("p", evidence, 3.0, 2.7, "m", "full")[1]
                _, events, accepted = self.episodes.sustained("p", row, lambda one=evidence: one, "m", "full")  # type: ignore[misc]
                self.events += events
                names = [] if accepted is None else [SENSORS[c] for c in np.flatnonzero(accepted.sensors)]
                if names and all(
                    names != each for _, each in self.accepted
                ):  # no evidence follows from it here
                    self.accepted.append((self.row, names))
            state = self.episodes.snapshot("p") if self.restarts else None
            if state is not None:
                self.episodes.assets["p"] = AssetEpisodes.restored(state)
        return self

    @property
    def regimes(self) -> list[tuple[int, str, bool, bool]]:
        return [
            (e.row_ns // HOUR_NS, str(e.phase), e.regime.learned, e.regime.accepted)
            for e in self.events
            if e.regime is not None
        ]


def test_a_deviation_that_is_steady_for_long_enough_is_a_regime_of_the_same_alert() -> None:
    long = Long().off(*[3.0] * (REGIME + 40)).off(*[0.0] * 3, share=0.1)
    assert long.regimes[0] == (1 + REGIME, "updated", False, False)
    assert len({event.fingerprint for event in long.events}) == 1
    said = next(event for event in long.events if event.regime is not None)
    assert (said.kind, [*said.kinds]) == (AlertKind.DEVIATION, [AlertKind.DEVIATION, AlertKind.REGIME])
    assert said.summary.endswith("; steady since 1970-01-01T01:00:00Z: a new regime")
    assert long.events[-1].summary.endswith("(over)")
    assert long.accepted == []
    assert long.episodes.assets == {}


def test_what_moves_or_is_off_to_both_sides_is_no_regime() -> None:
    assert Long().off(*np.geomspace(3.0, 50.0, 100).tolist()).regimes == []
    assert Long().off(*[3.0, -3.0] * 50).regimes == []
    moved = Long().off(*[3.0] * 20, *[9.0] * 80)
    ((row, *_), *_) = moved.regimes
    assert row > 20 + REGIME


def test_a_stuck_sensor_is_no_regime() -> None:
    long = Long().off(3.0)
    long.episodes.open_unscored("p", EpisodeStart(STUCK, 1, "Pressure"), 1, "m")
    assert long.off(*[3.0] * 100).regimes == []


@pytest.mark.parametrize("restarts", [False, True])
def test_a_regime_is_learned_and_normal_once_it_has_lasted_so_long(restarts: bool) -> None:
    long = Long(accept_rows=REGIME + 20, learn_rows=REGIME + 10, restarts=restarts).off(
        *[3.0] * (REGIME + 30)
    )
    assert [one for one in long.regimes if one[1] == "closed" or one[0] == 11 + REGIME] == [
        (11 + REGIME, "updated", True, False),
        (21 + REGIME, "closed", True, True),
    ]
    assert long.accepted == [(21 + REGIME, ["Pressure"])]
    closed = next(event for event in long.events if str(event.phase) == "closed")
    assert closed.summary.endswith(": a new regime, which is normal from now on (accepted: Pressure +3)")


def test_no_regime_is_accepted_before_the_row_that_is_given_for_it() -> None:
    long = Long(accept_rows=50)
    due = long.episodes.changes_from("p", 1)
    assert due == 1 + 50
    while not long.accepted:
        long.off(3.0)
        assert long.episodes.changes_from("p", long.row + 1) >= due or long.accepted
    assert long.row == due


def test_another_incident_goes_on_when_a_regime_is_normal() -> None:
    long = Long(accept_rows=REGIME).off(*[3.0] * (REGIME - 4)).off(*[3.0] * 6, flow=1.5)
    assert long.accepted == [(1 + REGIME, ["Pressure"])]
    assert long.episodes.subjects("p", AlertKind.DEVIATION)[0] == "Flow"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_sensor_that_is_still_off_is_not_back_though_the_detector_has_got_used_to_it(
    restarts: bool,
) -> None:
    patience = REACH * WINDOW
    long = Long(restarts=restarts, refractory=patience).off(*[3.0] * 10).off(*[3.0] * 60, share=0.1)
    assert [one[:2] for one in long.regimes] == [(1 + REGIME, "closed")]
    assert str(long.events[-1].phase) == "closed"
    assert long.events[-1].absorbed
    assert long.events[-1].summary.endswith("a new regime; it is still so, and counts as usual by now")
    assert long.events[-1].ended_ns == long.events[-1].row_ns

    long = Long(restarts=restarts, refractory=patience).off(*[3.0] * 10).off(*[0.0] * 60, share=0.1)
    assert long.events[-1].summary.endswith("(over)")
    assert long.events[-1].row_ns == (10 + patience) * HOUR_NS
    assert not long.events[-1].absorbed

    both = Long(restarts=restarts, refractory=patience).off(*[3.0] * 10).off(*[3.0] * 10, share=0.1)
    both.off(*[3.0] * 40, share=0.1, score=4.0).off(*[3.0] * 20, share=0.1)
    assert str(both.events[-1].phase) == "closed"
    assert both.events[-1].absorbed  # though an anomaly was the last part that was open

    moving = [3.0 + 0.2 * row for row in range(2 * REGIME)]  # never a regime: a day more
    long = Long(restarts=restarts, refractory=patience).off(*moving[:10]).off(*moving[10:], share=0.1)
    assert [event.row_ns for event in long.events if event.absorbed] == [(10 + REGIME) * HOUR_NS]


def with_trend(long: Long, closes_after: int, per_day: float = -1.0) -> list[AlertEvent]:
    """What is said of Pressure's sustained deviation upwards, and of its slow trend, which closes while that is open."""
    start = EpisodeStart(AlertKind.DEVIATION, 1, "Pressure", per_day=per_day)
    long.events += long.episodes.open_unscored("p", start, 1, "m")
    long.off(*[3.0] * closes_after)
    long.events += long.episodes.close_unscored("p", start.part, long.row, "m")
    long.off(*[3.0] * 3).off(*[0.0] * 9, share=0.1)
    return long.events


def test_the_end_of_a_slow_trend_leaves_the_sustained_deviation_of_its_sensor_as_it_is() -> None:
    alone = Long().off(*[3.0] * 8).off(*[0.0] * 9, share=0.1).events
    beside = with_trend(Long(), 5)
    assert [repr(event) for event in beside if event.sensor is None] == [repr(event) for event in alone]
    assert said(alone)[-1][1] == "closed"


@pytest.mark.parametrize("restarts", [False, True])
def test_a_slow_trend_and_a_deviation_of_its_sensor_to_the_same_side_are_one_alert(restarts: bool) -> None:
    events = with_trend(Long(restarts=restarts), 5, per_day=1.0)
    assert len({event.fingerprint for event in events}) == 1
    assert [str(event.phase) for event in events if str(event.phase) != "updated"] == ["opened", "closed"]
    assert {event.per_day for event in events} == {1.0}
    assert len(events[1].parts) == 2
    assert "Pressure rises by 1 a day" in events[1].summary

    long = Long(restarts=restarts).off(*[3.0] * 5)
    start = EpisodeStart(AlertKind.DEVIATION, 1, "Pressure", per_day=1.0)
    long.events += long.episodes.open_unscored("p", start, long.row, "m")
    assert [str(event.phase) for event in long.events] == ["opened", "updated", "updated"]
    assert long.events[-1].summary.endswith("; it rises by 1 a day")
    assert long.episodes.trends("p") == ["Pressure"]
    assert long.episodes.has("p", AlertKind.DEVIATION)
    long.off(*[0.0] * 9, share=0.1)
    assert not long.episodes.has("p", AlertKind.DEVIATION)  # for weeks, whose rows may be learned
    long.events += long.episodes.close_unscored("p", start.part, long.row, "m")
    assert str(long.events[-1].phase) == "closed"
    assert len({event.fingerprint for event in long.events}) == 1
    assert long.episodes.assets == {}


def test_the_end_of_a_slow_trend_says_nothing_of_a_sustained_deviation() -> None:
    (closed,) = (e for e in with_trend(Long(), 5) if e.sensor is not None and str(e.phase) == "closed")
    assert closed.contributors == []


def test_what_opens_late_is_normal_no_earlier_than_the_row_that_is_given_and_not_at_its_opening() -> None:
    """It was beyond its closing limit, and steady, for long before."""
    long = Long(accept_rows=50).off(*[3.0] * 80, share=0.6)
    due = long.episodes.changes_from("p", 81)
    while not long.accepted:
        long.off(3.0)
    assert [(e.row_ns // HOUR_NS, str(e.phase)) for e in long.events if str(e.phase) != "updated"] == [
        (81, "opened"),
        (81 + 50, "closed"),
    ]
    assert due <= long.row


def test_a_stuck_sensor_that_is_over_lets_nothing_become_normal_earlier_than_the_row_that_is_given() -> None:
    long = Long(accept_rows=50).off(*[3.0] * 10)
    long.episodes.open_unscored("p", EpisodeStart(STUCK, 8, "Pressure"), 10, "m")
    long.off(*[3.0] * 100)
    due = long.episodes.changes_from("p", 111)
    long.episodes.close_unscored("p", Part(STUCK, "Pressure"), 110, "m")
    while not long.accepted:
        long.off(3.0)
    assert due <= long.row


def test_time_in_which_nothing_is_seen_does_not_count() -> None:
    missing = Long(accept_rows=REGIME).off(*[3.0] * 10, *[NAN] * 3, *[3.0] * (REGIME + 10))
    assert missing.accepted == [(1 + REGIME + 3, ["Pressure"])]
    long_missing = Long(accept_rows=REGIME).off(*[3.0] * 10, *[NAN] * 60, *[3.0] * (REGIME + 10))
    assert long_missing.accepted == [(71 + REGIME, ["Pressure"])]  # nothing of before is in a window
    worked_on = Long(accept_rows=REGIME, maintenance=range(11, 13)).off(*[3.0] * (REGIME + 20))
    assert worked_on.accepted == [(12 + REGIME, ["Pressure"])]
    assert Long(accept_rows=REGIME).off(*[3.0] * (REGIME - 1), *[NAN] * 60).regimes == []


def test_what_an_open_trend_names_becomes_normal_too() -> None:
    played = Played()
    played.episodes.policy = replace(played.episodes.policy, accept_rows=40)
    played.events += played.episodes.open_unscored(
        "p", EpisodeStart(AlertKind.DEVIATION, 1, "Pressure", per_day=1.0), 1, "m"
    )
    incident = Incident(
        AlertKind.ANOMALY, None, "f", 0, 0, Severity.WARNING, 9, 0, {ANOMALY: 0}, leading=["Pressure"]
    )
    known = played.episodes.of("p")
    known.incidents.append(incident)
    assert known.accepted_with(played.episodes.spec, incident).all()


def test_a_regime_at_a_row_at_which_an_update_is_due_is_a_message_with_an_id_of_its_own() -> None:
    long = Long().off(*[3.0] * (REGIME + 10), score=4.0)
    due = [event for event in long.events if event.row_ns == (1 + REGIME) * HOUR_NS]
    assert [event.regime is None for event in due] == [True, False]
    assert len({event.id for event in long.events}) == len(long.events)


def test_a_fault_of_what_is_learned_as_a_regime_is_not_learned() -> None:
    long = Long(learn_rows=REGIME + 2).off(*[3.0] * (REGIME + 10))
    assert long.events[-1].regime is not None
    assert long.events[-1].regime.learned
    long.off(*[3.0] * 6, score=9.0).off(*[3.0] * (2 * REGIME))
    learned = [one for one in long.regimes if one[0] > REGIME + 10]
    assert not any(is_learned for row, _, is_learned, _ in learned if row < 2 * REGIME + 12)
    assert learned[-1][2]
    assert long.events[-1].regime is not None
    assert long.events[-1].regime.since_ns >= (REGIME + 16) * HOUR_NS


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(("rows", "late"), [(WINDOW - 1, 0), (3 * WINDOW, WINDOW)])
def test_an_anomaly_ends_with_its_last_row_that_is_off_not_with_the_last_window_that_has_it(
    rows: int, late: int, restarts: bool
) -> None:
    played = Played(restarts=restarts)
    # One row is far off; those after it score as high, and for longer than a window because each is off by a little.
    for row, residual in enumerate([9.0, *[0.5] * rows, 0.0], 10):
        score, found = 4.0 if residual else 0.0, [0.1, 0.1, residual]
        one = ScoredEvidence(row, score, {}, sensors([0.1, 0.1, 9.0], found, found), 0.0, row, row)
        played.events += played.episodes.scored("p", one, 3.0, 2.7, "m", "full")[1]
        played.restarted()
    closed = played.events[-1]
    assert (str(closed.phase), closed.row_ns) == ("closed", (11 + rows) * SECOND_NS)
    assert closed.ended_ns is not None
    ended = closed.ended_ns // SECOND_NS
    assert ended == 10 if not late else 10 + rows - late < ended <= 10 + rows


@pytest.mark.parametrize("restarts", [False, True])
def test_a_deviation_ends_with_its_last_row_that_is_off_though_evidence_takes_longer_to_fade(
    restarts: bool,
) -> None:
    for after, ended in ((0.0, 10), (3.0, 15)):
        long = Long(restarts=restarts).off(*[3.0] * 10).off(*[after] * 5).off(*[0.0] * 20, share=0.1)
        assert str(long.events[-1].phase) == "closed"
        assert long.events[-1].ended_ns == ended * HOUR_NS
