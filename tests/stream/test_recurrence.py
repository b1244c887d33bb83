"""Alerts that come back: one alert of what was not seen to be over, and its own of everything else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.control import Feedback, Verdict
from daemon.detector import REACH
from daemon.domain import SECOND_NS, AlarmPolicy, AlertEvent, AlertKind, InputPartition, Phase, StreamSpec
from daemon.maintenance import MaintenanceWindow
from daemon.runtime.exclusion import AlertedEpisodes
from daemon.stream.alert_decoding import read_alert_event
from daemon.stream.alerts import Episodes
from daemon.stream.deviation import SustainedRow
from daemon.stream.dismissal import Effect
from daemon.stream.encoding import encode
from daemon.stream.incident import AssetEpisodes, EpisodeStart, Part
from daemon.stream.recurrence import PATIENCE
from tests.stream.evidence import SENSORS, scored_row

HOUR_NS = 3_600 * SECOND_NS
WINDOW = 4
REGIME = 2 * REACH * WINDOW
"""Rows, of an hour each; more than a day."""
PATIENT = 3
"""Rows without anything bad, after which a part is over."""
WITHIN = 96
"""Rows: four days."""
NOTHING = (0.0, 0.0, 0.0)
WORK, REST = 18, 6
"""Rows of a day in which the machine runs, and in which it rests: then all sensors are expected to read ``AT_REST``."""
AT_REST = 100.0
STUCK = AlertKind.SENSOR_STUCK


class Machine:
    """One asset of rows of an hour, of which it is given per row how far its sensors are off, and the score."""

    def __init__(self, *, within: int = WITHIN, restarts: bool = False, **policy: int) -> None:
        self.spec = StreamSpec("pumps", SENSORS, window=WINDOW, period_ns=HOUR_NS)
        alarms = AlarmPolicy(refractory=PATIENT, recurs_rows=within, **policy)  # type: ignore[arg-type]
        self.episodes = Episodes(self.spec, InputPartition("t", 0), alarms)
        self.events: list[AlertEvent] = []
        self.restarts = restarts
        self.row = 0

    def runs(
        self, rows: int, *off: float, score: float = 0.0, expected: float = 0.0, shares: float = 2.0
    ) -> Machine:
        """So many rows with sensors off by this; where it is anything, with such a share of what opens a deviation."""
        far = np.array([*off, *NOTHING[len(off) :]])
        for _ in range(rows):
            self.row += 1
            share = np.where(far, shares, 0.1)
            row = SustainedRow(self.row, share, 2.0 * share, expected + far, np.full(3, expected))
            evidence = scored_row(self.row, score, np.abs(far).tolist(), far.tolist())
            if not self.episodes.cannot_change("p", score, 2.7):
                self.events += self.episodes.scored("p", evidence, 3.0, 2.7, "m", "full")[1]
            if (row.closing > 1.0).any() or self.episodes.deviates("p"):
                self.events += self.episodes.sustained("p", row, lambda one=evidence: one, "m", "full")[1]  # type: ignore[misc]
            self.restart()
        return self

    def rests(self, rows: int) -> Machine:
        """So many rows at rest."""
        return self.runs(rows, expected=AT_REST)

    def stuck(self, *, over: bool, sensor: str = "Flow", found_after: int = 0) -> Machine:
        """A sensor is stuck since so many rows, or not any more."""
        if over:
            self.events += self.episodes.close_unscored("p", Part(STUCK, sensor), self.row, "m")
        else:
            self.events += self.episodes.open_unscored(
                "p", EpisodeStart(STUCK, self.row, sensor), self.row, "m"
            )
        self.restart()
        return self

    def restart(self) -> None:
        """Go on as another process would."""
        state, memory = self.episodes.snapshot("p"), self.episodes.dismissals.snapshot("p")
        if self.restarts and state is not None:
            self.episodes.assets["p"] = AssetEpisodes.restored(state)
        if self.restarts and memory is not None:
            self.episodes.dismissals.restore("p", memory)

    def days(self, count: int, *off: float, score: float = 0.0) -> Machine:
        """So many days of work with sensors off by this, and rest."""
        for _ in range(count):
            self.runs(WORK, *off, score=score).rests(REST)
        return self

    def of(self, phase: Phase) -> list[AlertEvent]:
        return [one for one in self.events if one.phase is phase]

    def rows(self, phase: Phase) -> list[int]:
        return [one.row_ns // HOUR_NS for one in self.of(phase)]

    @property
    def quiet(self) -> list[int]:
        """The rows of messages of alerts of which nothing is open."""
        return [one.row_ns // HOUR_NS for one in self.events if one.quiet]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_rest_interrupts_is_one_alert(restarts: bool) -> None:
    machine = Machine(restarts=restarts).days(5, 3.0)
    assert machine.rows(Phase.OPENED) == [1]
    assert machine.rows(Phase.CLOSED) == []
    assert machine.quiet == [18 + 24 * i + PATIENT for i in range(5)]
    back = [one for one in machine.events if one.returned and AlertKind.DEVIATION in one.began]
    assert [(one.row_ns // HOUR_NS, one.returned) for one in back] == [(1 + 24 * i, i) for i in range(1, 5)]
    assert back[0].parts[0].onset_ns == 25 * HOUR_NS  # not when it first was
    assert back[0].onset_ns == HOUR_NS
    assert back[0].summary.endswith("; it has come back once")
    quiet = next(one for one in machine.events if one.quiet)
    assert quiet.summary.endswith("for 17 h; quiet since 1970-01-01T18:00:00Z")


def test_it_is_over_once_work_has_shown_so() -> None:
    machine = Machine().days(2, 3.0).runs(WORK)
    (closed,) = machine.of(Phase.CLOSED)
    assert closed.row_ns // HOUR_NS == 48 + WINDOW // 2
    assert closed.ended_ns == 42 * HOUR_NS
    assert closed.returned == 1
    first = closed.contributors[0]  # as of the rows at which it was off
    assert (first.sensor, first.observed, first.expected) == ("Pressure", 3.0, 0.0)
    assert closed.summary.endswith("(over)")
    assert machine.episodes.assets == {}


def test_a_machine_that_never_works_again_does_not_hold_it_open_for_ever() -> None:
    machine = Machine().days(1, 3.0).rests(100).runs(100, expected=-AT_REST)
    assert machine.rows(Phase.CLOSED) == [18 + WITHIN]
    assert machine.of(Phase.CLOSED)[0].ended_ns == 18 * HOUR_NS


def test_what_work_shows_to_be_over_closes_as_ever() -> None:
    machine = Machine().runs(WORK, 3.0).runs(30)
    as_ever = Machine(within=0).runs(WORK, 3.0).runs(30)
    assert [repr(one) for one in machine.events] == [repr(one) for one in as_ever.events]
    assert machine.rows(Phase.CLOSED) == [WORK + PATIENT]


def test_what_is_as_far_off_as_before_though_beyond_no_limit_is_not_over() -> None:
    machine = Machine().runs(WORK, 3.0).runs(30, 2.0, shares=0.1)  # as where slow levels have followed it
    assert machine.rows(Phase.CLOSED) == []
    machine.runs(WINDOW)
    assert machine.rows(Phase.CLOSED) == [WORK + 30 + WINDOW // 2]


def test_rows_that_say_the_opposite_as_often_end_nothing() -> None:
    machine = Machine().days(1, 3.0)
    for row in range(40):
        machine.runs(1, *([0.1] if row % 2 else [2.9]), shares=0.1)
    assert machine.rows(Phase.CLOSED) == []
    assert machine.rows(Phase.OPENED) == [1]
    machine.runs(WINDOW)
    assert len(machine.of(Phase.CLOSED)) == 1


def test_what_was_short_is_over_at_rest() -> None:
    machine = Machine().runs(REACH * WINDOW, 3.0).rests(30)
    assert machine.rows(Phase.CLOSED) == [REACH * WINDOW + PATIENT]
    assert machine.quiet == []


def test_without_the_setting_each_time_is_an_alert() -> None:
    machine = Machine(within=0).days(4, 3.0)
    assert machine.rows(Phase.OPENED) == [1, 25, 49, 73]
    assert machine.quiet == []


@pytest.mark.parametrize("other", [(-3.0, 0.0), (0.0, 3.0)], ids=["other side", "other sensor"])
def test_what_is_not_like_it_is_an_alert_of_its_own(other: tuple[float, ...]) -> None:
    machine = Machine().days(2, 3.0).days(1, *other)
    assert machine.rows(Phase.OPENED) == [1, 49]
    assert all(
        not one.returned
        for one in machine.events
        if one.fingerprint == machine.of(Phase.OPENED)[1].fingerprint
    )


def test_an_anomaly_comes_back_and_does_not_come_back_as_a_deviation() -> None:
    machine = Machine().days(3, 0.5, score=4.0)
    assert machine.rows(Phase.OPENED) == [1]
    assert machine.events[-1].returned == 2
    machine = Machine().days(1, 3.0).runs(4, 3.0, score=9.0)
    assert machine.rows(Phase.OPENED) == [1, 25]
    assert [one.kind for one in machine.of(Phase.OPENED)] == [AlertKind.DEVIATION, AlertKind.ANOMALY]


def test_a_sensor_that_is_stuck_every_night_is_one_alert_from_the_second_on() -> None:
    machine = Machine()
    for _ in range(5):
        machine.stuck(over=False).runs(6).stuck(over=True).runs(18)
    assert len(machine.of(Phase.OPENED)) == 2
    assert machine.events[-1].returned == 3
    machine.stuck(over=False, sensor="Current")
    assert len(machine.of(Phase.OPENED)) == 3
    machine.stuck(over=True, sensor="Current").runs(40)
    # It was over for 18 rows at most.
    assert machine.rows(Phase.CLOSED)[-1] == 96 + 6 + PATIENCE * 18
    machine = Machine(within=17)
    for _ in range(3):
        machine.stuck(over=False).runs(6).stuck(over=True).runs(18)
    assert len(machine.of(Phase.CLOSED)) == 3


@pytest.mark.parametrize(("pause", "found_after"), [(20, 8), (20, 18), (10, 9), (3, 2)])
def test_it_may_take_long_to_find_that_a_sensor_is_stuck(pause: int, found_after: int) -> None:
    machine = Machine()
    for _ in range(6):
        machine.runs(pause).stuck(over=False, found_after=found_after).runs(6).stuck(over=True)
    assert len(machine.of(Phase.OPENED)) == 2


def test_pauses_of_stuck_sensors_do_not_grow_without_bound() -> None:
    machine = Machine()
    pause = 20
    for _ in range(8):
        machine.stuck(over=False).runs(6).stuck(over=True).runs(pause)
        pause = int(pause * 1.4)
    assert len(machine.of(Phase.OPENED)) > 3
    assert machine.rows(Phase.CLOSED)[-1] - 6 <= machine.row


def test_what_is_stuck_again_in_a_planned_stop_is_not_announced() -> None:
    machine = Machine()
    for _ in range(2):
        machine.runs(20).stuck(over=False).runs(6).stuck(over=True)
    assert machine.events[-1].quiet
    stop = MaintenanceWindow("w", machine.row * HOUR_NS, (machine.row + 50) * HOUR_NS)
    machine.episodes.use_policy(machine.episodes.policy, [stop])
    machine.runs(5).stuck(over=False)
    assert machine.events[-1].phase is Phase.SUPPRESSED


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("score", [0.0, 4.0])
def test_what_is_so_for_a_day_in_all_is_a_regime(score: float, restarts: bool) -> None:
    machine = Machine(restarts=restarts, learn_rows=REGIME + 24).days(6, 3.0, score=score)
    first = next(one for one in machine.events if one.regime is not None)
    assert first.row_ns // HOUR_NS == 25 + REACH * WINDOW  # once the mean tells how far it is off this time
    assert first.regime is not None
    assert first.regime.since_ns == HOUR_NS
    learned = [one.regime.learned for one in machine.events if one.regime is not None]
    assert sorted(learned) == learned  # what is learned once stays so at night
    assert learned[-1]
    assert machine.rows(Phase.OPENED) == [1]


@pytest.mark.parametrize("moves", ["grows", "turns"])
def test_what_moves_is_no_regime_and_is_not_learned(moves: str) -> None:
    machine = Machine(learn_rows=REGIME + 10, accept_rows=REGIME + 10).days(1, 3.0)
    for row in range(100):
        machine.runs(1, 3.0 * 1.03**row if moves == "grows" else 3.0 * (-1) ** (row // 5))
    assert all(one.regime is None for one in machine.events)
    machine = Machine(learn_rows=REGIME + 10).days(4, 3.0)
    assert machine.events[-1].regime is not None
    assert machine.events[-1].regime.learned
    machine.runs(REACH * WINDOW + 4, 4.5)
    assert not machine.events[-1].regime.learned


def test_what_is_far_more_than_it_ever_was_is_an_alert_of_its_own_each_time() -> None:
    machine = Machine(learn_rows=REGIME + 24).days(6, 3.0)
    for day in range(2):
        machine.runs(WORK, 30.0, shares=10.0).rests(REST)
        assert len(machine.of(Phase.OPENED)) == 2
        large = machine.of(Phase.OPENED)[-1]
        assert machine.events[-1].fingerprint == large.fingerprint
        assert machine.events[-1].returned == day
    machine = Machine().days(1, 3.0).runs(WORK, 30.0, shares=10.0)  # at once one, and one alone
    assert machine.rows(Phase.OPENED) == [1, 25]


def test_two_alerts_of_a_sensor_are_told_with_what_it_showed_in_each() -> None:
    machine = Machine().days(1, 3.0).days(1, -3.0)
    assert "Pressure 3 below" in machine.of(Phase.OPENED)[1].summary
    machine.runs(WORK)
    closed = {one.fingerprint: one for one in machine.of(Phase.CLOSED)}
    apart = [closed[one.fingerprint].contributors[0] for one in machine.of(Phase.OPENED)]
    assert [(one.sensor, one.observed) for one in apart] == [("Pressure", 3.0), ("Pressure", -3.0)]


def test_acceptance_is_foreseen() -> None:
    machine = Machine(accept_rows=30).days(1, 3.0)
    while not machine.of(Phase.CLOSED):
        foreseen = machine.episodes.changes_from("p", machine.row + 1)
        machine.runs(1, 3.0)
    assert foreseen <= machine.row
    assert machine.events[-1].accepted


def test_a_slow_trend_makes_no_quiet_alert() -> None:
    machine = Machine().runs(WORK, 3.0)
    start = EpisodeStart(AlertKind.DEVIATION, 1, "Pressure", per_day=0.5)
    machine.events += machine.episodes.open_unscored("p", start, machine.row, "m")
    machine.rests(REST)
    machine.events += machine.episodes.close_unscored("p", start.part, machine.row, "m")
    assert machine.events[-1].phase is Phase.CLOSED


def test_a_gap_or_a_shorter_setting_ends_it() -> None:
    machine = Machine().days(1, 3.0)
    machine.row += 2 * WITHIN
    machine.runs(1, 3.0)
    assert len(machine.of(Phase.OPENED)) == 2
    machine = Machine().days(1, 3.0)
    machine.episodes.use_policy(AlarmPolicy(refractory=PATIENT), ())
    machine.rests(1)
    assert machine.events[-1].phase is Phase.CLOSED


def test_what_still_says_that_it_is_off_is_not_over_but_usual_by_now() -> None:
    machine = Machine().runs(WORK, 3.0).runs(WITHIN, 2.0, shares=0.1)
    assert machine.events[-1].phase is Phase.CLOSED
    assert machine.events[-1].absorbed


def test_a_quiet_alert_can_be_accepted_and_dismissed() -> None:
    for verdict, effect in ((Verdict.PLANNED, Effect.ACCEPTING), (Verdict.FALSE_ALARM, Effect.DISMISSED)):
        machine = Machine().days(1, 3.0)
        fingerprint = machine.of(Phase.OPENED)[-1].fingerprint
        taken, events = machine.episodes.take("p", Feedback(fingerprint, verdict), machine.row, "m")
        assert taken.effect is effect
        machine.rests(1)
        (closed,) = [*events, *machine.of(Phase.CLOSED)]
        accepted = [(one.sensor, one.change) for one in closed.accepted]
        assert accepted == ([("Pressure", 3.0)] if verdict is Verdict.PLANNED else [])
        assert machine.episodes.assets == {}


def test_what_people_called_normal_is_nothing_that_sticks_again() -> None:
    machine = Machine().stuck(over=False).runs(6)
    first = machine.of(Phase.OPENED)[0].fingerprint
    _, closed = machine.episodes.take("p", Feedback(first, Verdict.FALSE_ALARM), machine.row, "m")
    assert [one.phase for one in closed] == [Phase.CLOSED]
    machine.runs(18).stuck(over=False).runs(6).stuck(over=True)
    assert machine.events[-1].phase is Phase.CLOSED


def test_an_asset_that_is_dropped_closes_its_quiet_alert() -> None:
    machine = Machine().days(2, 3.0)
    (closed,) = machine.episodes.dismiss("p", machine.row, "m")
    assert closed.phase is Phase.CLOSED
    assert closed.ended_ns == 42 * HOUR_NS


def test_rows_of_its_pauses_are_learned() -> None:
    machine = Machine().days(3, 3.0)
    known = AlertedEpisodes("pumps")
    for one in machine.events:
        known.add(encode(one, datetime.now(UTC)).value)
    spans = [(one.onset_ns // HOUR_NS, one.row_ns // HOUR_NS) for one in known.episodes()]
    assert spans == [(1 + 24 * i, 18 + 24 * i + PATIENT) for i in range(3)]
    message = json.loads(encode(machine.events[-1], datetime.now(UTC)).value)["data"]
    assert (message["status"], message["open"], message["returned"]) == ("firing", [], 2)
    assert message["ended"] == "1970-01-03T18:00:00Z"
    assert read_alert_event(encode(machine.events[-1], datetime.now(UTC)).value).quiet


DAYS = st.lists(
    st.tuples(
        st.integers(1, 30),
        st.integers(1, 40),
        st.sampled_from([(3.0,), (-3.0,), (0.0, 3.0), (3.0, 2.0)]),
        st.sampled_from([0.0, 4.0]),
        st.sampled_from(["", "", "Flow", "Pressure"]),
        st.sampled_from([0.0, AT_REST]),
    ),
    max_size=8,
)


@given(DAYS)
def test_a_restart_at_any_row_changes_nothing_and_every_alert_ends(
    days: list[tuple[int, int, tuple[float, ...], float, str, float]],
) -> None:
    found = []
    for restarts in (False, True):
        machine = Machine(restarts=restarts)
        for hours, rest, off, score, sensor, expected in days:
            if sensor:
                machine.stuck(over=False, sensor=sensor)
            machine.runs(hours, *off, score=score)
            if sensor:
                machine.stuck(over=True, sensor=sensor)
            machine.runs(rest, expected=expected)
        machine.rests(int(PATIENCE * WITHIN) + REGIME + 2)
        found.append([repr(one) for one in machine.events])
    assert found[0] == found[1]
    opened, closed = machine.of(Phase.OPENED), machine.of(Phase.CLOSED)
    assert sorted(one.fingerprint for one in opened) == sorted(one.fingerprint for one in closed)
    assert machine.episodes.assets == {}
    for fingerprint in {one.fingerprint for one in opened}:
        mine = [one for one in machine.events if one.fingerprint == fingerprint]
        assert len({one.id for one in mine}) == len(mine)
        assert all(earlier.row_ns <= later.row_ns for earlier, later in pairwise(mine))
