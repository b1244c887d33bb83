"""Verdicts: what a false alarm, a planned change and a confirmed incident do to what comes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from daemon.control import Feedback, Received, Verdict
from daemon.detector import Detector
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Output,
    Phase,
    Reading,
    StreamSpec,
)
from daemon.stream.alerts import Episodes
from daemon.stream.dismissal import MARGIN, MOST_DISMISSED, REMEMBERED, Effect, Standing
from daemon.stream.encoding import encode
from daemon.stream.pipeline import Pipeline
from daemon.stream.snapshot import key
from daemon.stream.steps import Step
from tests.fakes import CentreDetector
from tests.stream.conversation import EPISODES, Conversation, opened
from tests.stream.evidence import SENSORS, scored_row
from tests.stream.pipelines import (
    CENTRE,
    PUMPS_0,
    SPEC,
    make,
    numbered,
    of_kind,
    plain,
    polls,
    snapshots_at_once,
    steps,
    wide,
)
from tests.stream.test_recovery import Log

LASTS = 6
"""Rows of an event."""
DEVIATING = replace(CENTRE, pace=0.5, threshold=100.0)


def rows(events: dict[int, tuple[float, float]], until: int, lasts: int = LASTS) -> list[Reading]:
    """Steady rows of ``p1`` with events that begin at a second: by how much both sensors are off."""
    made = []
    for second in range(until):
        off = next((size for begin, size in events.items() if begin <= second < begin + lasts), (0.0, 0.0))
        made.append(wide(second, 0.1 * (second % 2) + off[0], 0.1 * (second % 3) + off[1]))
    return numbered(made)


class Told(Conversation):
    """A pipeline whose alerts are given verdicts."""

    def __init__(self, readings: Sequence[Reading], detector: Detector = CENTRE, **more: Any) -> None:
        super().__init__(readings, detector, **more)

    def say(self, verdict: Verdict, number: int = -1, **more: str) -> tuple[Effect, list[Output]]:
        """Give a verdict on one of the alerts so far; the newest, unless said."""
        result = self.judged(verdict, number, **more)
        assert result.changed == {"p1"}
        return result.effect, result.outputs

    @property
    def suppressed(self) -> int:
        return self.pipeline.episodes.dismissals.suppressed


# ------------------------------------------------------------------ false alarms
def test_the_like_of_a_false_alarm_opens_no_alert_unless_it_is_higher() -> None:
    events = {
        20: (4.0, 0.0),
        50: (4.3, 0.0),  # like it
        80: (MARGIN * 4.0 + 0.5, 0.0),  # higher by more than the margin
        110: (-4.0, 0.0),  # to the other side
        140: (0.0, 4.0),  # another sensor
        170: (3.8, 0.0),
    }
    told = Told(rows(events, 200))
    told.until(40)
    assert told.say(Verdict.FALSE_ALARM) == (Effect.DISMISSED, [])
    later = of_kind(told.until(200), *EPISODES)
    assert [second // 30 for second in opened(later)] == [2, 3, 4]
    assert told.suppressed == 2
    first = of_kind(told.outputs, *EPISODES)[0]
    standing = told.pipeline.episodes.dismissals.standing("p1", first.fingerprint)
    assert standing == Standing(Feedback(first.fingerprint, Verdict.FALSE_ALARM), dismissed=True, held_back=2)
    assert told.pipeline.episodes.dismissals.standing("p1", later[0].fingerprint) is None
    assert told.pipeline.episodes.dismissals.standing("p2", first.fingerprint) is None
    assert {e.dismissed_like for e in later if e.row_ns < 100 * 10**9} == {first.fingerprint}
    assert {e.dismissed_like for e in later if e.row_ns > 100 * 10**9} == {None}
    message = json.loads(encode(later[0], datetime.now(UTC)).value)
    assert message["data"]["dismissed_like"] == first.fingerprint


@pytest.mark.parametrize("verdict", [Verdict.CONFIRMED, Verdict.PLANNED])
def test_another_verdict_takes_it_back(verdict: Verdict) -> None:
    told = Told(rows({20: (4.0, 0.0), 50: (4.0, 0.0), 80: (4.0, 0.0)}, 110))
    told.until(40)
    told.say(Verdict.FALSE_ALARM)
    assert told.say(Verdict.FALSE_ALARM) == (Effect.NOTED, [])  # it is known
    assert not opened(told.until(70))
    assert told.say(verdict) == (Effect.RESTORED, [])
    assert len(opened(told.until(110))) == 1


def test_planned_of_an_alert_that_is_over_changes_nothing_and_says_so() -> None:
    events = {20: (4.0, 0.0), 50: (4.0, 0.0)}
    told, untold = Told(rows(events, 80)), Told(rows(events, 80))
    told.until(40)
    for _ in range(2):
        assert told.say(Verdict.PLANNED) == (Effect.TOO_LATE, [])
    untold.until(40)
    assert opened(told.until(80)) == opened(untold.until(80)) != []


def test_a_second_false_alarm_that_differs_is_dismissed_beside_the_first() -> None:
    events = {20: (4.0, 0.0), 50: (0.0, -4.0), 80: (0.0, -4.0), 110: (4.0, 0.0)}
    told = Told(rows(events, 140))
    for until in (40, 70):
        assert len(opened(told.until(until))) == 1
        told.say(Verdict.FALSE_ALARM)
    assert not opened(told.until(140))


def test_an_open_false_alarm_is_closed_with_the_reason_and_stays_so() -> None:
    told = Told(rows({20: (4.0, 0.0)}, 90, lasts=40))
    told.until(40)
    effect, outputs = told.say(Verdict.FALSE_ALARM, by="kim", note="lid was open")
    (closed,) = outputs
    assert isinstance(closed, AlertEvent)
    assert (effect, closed.phase, closed.row_ns) == (Effect.DISMISSED, Phase.CLOSED, 39 * 10**9)
    assert closed.summary.endswith("(over; false alarm, by kim)")
    message = json.loads(encode(closed, datetime.now(UTC)).value)
    assert message["data"]["feedback"] == {"verdict": "false_alarm", "by": "kim", "note": "lid was open"}
    assert not opened(told.until(90))
    assert not told.pipeline.episodes.assets


def test_what_an_alert_says_after_it_was_confirmed_names_who_said_so() -> None:
    told = Told(rows({20: (4.0, 0.0)}, 90, lasts=40))
    told.until(40)
    assert told.say(Verdict.CONFIRMED, by="kim") == (Effect.NOTED, [])
    later = of_kind(told.until(90), AlertKind.ANOMALY)
    assert later[-1].phase is Phase.CLOSED
    assert {None if e.feedback is None else e.feedback.by for e in later} == {"kim"}


def test_a_verdict_on_an_unknown_episode_is_counted() -> None:
    told = Told(rows({}, 20))
    result = told.pipeline.parts.take_feedback(Feedback("nothing", Verdict.FALSE_ALARM))
    assert (result.outputs, result.changed, result.effect) == ([], set(), Effect.UNKNOWN)
    assert told.pipeline.episodes.dismissals.effects == {Effect.UNKNOWN: 1}


def test_the_last_episodes_are_remembered_and_the_last_dismissed_ones_raise_the_bar() -> None:
    many = REMEMBERED + 3
    told = Told(rows({20 + 30 * i: (4.0, 0.0) for i in range(many)}, 20 + 30 * many))
    told.until(20 + 30 * many)
    alerts = of_kind(told.outputs, AlertKind.ANOMALY)
    newest = [e.fingerprint for e in alerts if e.phase is Phase.OPENED]
    known = [told.pipeline.episodes.dismissals.asset_of(one) for one in newest]
    assert known == [None] * 3 + ["p1"] * REMEMBERED
    told = Told(rows({20 + 30 * i: (4.0 * 1.7**i, 0.0) for i in range(MOST_DISMISSED + 2)}, 1_200))
    for i in range(MOST_DISMISSED + 2):
        assert len(opened(told.until(50 + 30 * i))) == 1
        told.say(Verdict.FALSE_ALARM)
    state = told.pipeline.episodes.dismissals.snapshot("p1")
    assert state is not None
    assert len(state.dismissed) == MOST_DISMISSED


def test_a_deviation_is_held_back_to_its_side_up_to_the_margin() -> None:
    events = {20: (3.0, 0.0), 80: (3.2, 0.0), 140: (-3.0, 0.0), 200: (5.0, 0.0), 260: (0.0, 3.0)}
    told = Told(rows(events, 320, lasts=20), DEVIATING)
    told.until(70)
    assert told.say(Verdict.FALSE_ALARM)[0] is Effect.DISMISSED
    later = told.until(320)
    assert [second // 60 for second in opened(later)] == [2, 3, 4]
    assert told.suppressed == 1
    first = of_kind(told.outputs, *EPISODES)[0].fingerprint
    standing = told.pipeline.episodes.dismissals.standing("p1", first)
    assert standing is not None
    assert standing.held_back == 1
    told.say(Verdict.CONFIRMED, 0)
    told.say(Verdict.FALSE_ALARM, 0)  # told anew, it is counted anew
    standing = told.pipeline.episodes.dismissals.standing("p1", first)
    assert standing == Standing(Feedback(first, Verdict.FALSE_ALARM), dismissed=True)


def test_what_a_dismissed_anomaly_leaves_in_the_means_is_held_back_and_what_lasts_longer_is_not() -> None:
    detector = CentreDetector(SPEC.sensors, pace=0.06, threshold=3.5)
    readings = rows({20: (4.0, 0.0), 150: (4.0, 0.0)}, 280, lasts=12)
    told = Told(readings, detector)
    told.until(100)
    assert [e.phase for e in of_kind(told.outputs, AlertKind.DEVIATION)] == []
    told.say(Verdict.FALSE_ALARM)
    assert not opened(told.until(280))
    longer = numbered([*readings[:150], *rows({150: (4.0, 0.0)}, 280, lasts=100)[150:]])
    told = Told(longer, detector)
    told.until(100)
    told.say(Verdict.FALSE_ALARM)
    alerts = of_kind(told.until(280), *EPISODES)
    assert [e.kind for e in alerts if e.phase is Phase.OPENED] == [AlertKind.DEVIATION]


@pytest.mark.parametrize(
    ("other", "before", "found"),
    [
        (
            (152, 6),
            0.0,
            False,
        ),  # rows from this second on in which the other sensor is off: in the wake alone
        ((152, 6), 1.5, False),  # ... by more than the margin over what it was the first time
        ((152, 100), 0.0, True),  # beyond the wake
        ((110, 30), 0.0, True),  # before the event
        ((200, 30), 0.0, True),  # long after it
    ],
)
def test_what_begins_in_another_sensor_while_a_false_alarm_is_held_back_is_held_back_until_it_lasts(
    other: tuple[int, int], before: float, found: bool
) -> None:
    detector = CentreDetector(SPEC.sensors, pace=0.3, threshold=3.5)
    begin, lasts = other
    quiet = rows({20: (8.0, before), 150: (8.0, 0.0)}, 280, lasts=12)
    off = rows({begin: (0.0, 3.0)}, 280, lasts=lasts)
    readings = [
        wide(second, one.values[0], one.values[1] if second < 100 else another.values[1])
        for second, (one, another) in enumerate(zip(quiet, off, strict=True))
    ]
    told = Told(numbered(readings), detector)
    told.until(100)
    told.say(Verdict.FALSE_ALARM)
    alerts = of_kind(told.until(280), *EPISODES)
    opening = [e for e in alerts if e.phase is Phase.OPENED]
    assert [e.kind for e in opening] == [AlertKind.DEVIATION] * found


def test_what_settles_lower_after_a_high_start_is_found_all_the_same() -> None:
    readings = rows({20: (8.0, 0.0), 150: (8.0, 0.0)}, 400, lasts=12)
    other = [2.4 * (second >= 152) + 1.2 * (152 <= second < 160) for second in range(400)]
    readings = numbered(
        wide(s, one.values[0], one.values[1] + other[s]) for s, one in enumerate(readings) if one.values
    )
    told = Told(readings, CentreDetector(SPEC.sensors, pace=0.3, threshold=3.5))
    told.until(100)
    told.say(Verdict.FALSE_ALARM)
    (found,) = opened(told.until(400))
    assert found < 150 + 12 + 5 * SPEC.window


def test_a_verdict_that_is_taken_back_holds_nothing_back_any_more() -> None:
    readings = rows({20: (8.0, 0.0), 60: (0.0, 8.0), 150: (8.0, 0.0)}, 400, lasts=12)
    lasts = [2.4 * (second >= 162) for second in range(400)]
    readings = numbered(
        wide(s, one.values[0] + lasts[s], one.values[1]) for s, one in enumerate(readings) if one.values
    )
    told = Told(readings, CentreDetector(SPEC.sensors, pace=0.3, threshold=3.5))
    told.until(50)
    told.say(Verdict.FALSE_ALARM)
    told.until(100)
    told.say(Verdict.FALSE_ALARM)
    assert opened(told.until(160)) == []
    told.say(Verdict.CONFIRMED, 0)
    assert len(opened(told.until(400))) == 2  # what was held back so far, and what lasts of it


class Runs:
    """The alarm of one asset whose high rows lie where a test says in the model's latent space."""

    def __init__(self, refractory: int = 0) -> None:
        policy = AlarmPolicy(refractory=refractory)
        self.episodes = Episodes(StreamSpec("pumps", SENSORS), PUMPS_0, policy)
        self.row = 0

    def run(self, *latents: float, pressure: float = 4.0, model: str = "m", rest: int = 50) -> str | None:
        """A run of high rows, and rows of rest; the fingerprint of the alert that it opens."""
        opened = None
        for latent in (*latents, *[None] * rest):
            self.row += 1
            high = latent is not None
            row = scored_row(self.row, 4.0 if high else 0.0, [pressure if high else 0.1, 0.1, 0.1])
            if high:
                row = replace(row, latent=np.array([latent], np.float32))
            if not self.episodes.cannot_change("p", row.score, 2.7):
                for event in self.episodes.scored("p", row, 3.0, 2.7, model, "full")[1]:
                    opened = event.fingerprint if event.phase is Phase.OPENED else opened
        return opened

    def say(self, fingerprint: str | None, verdict: Verdict) -> None:
        assert fingerprint is not None
        self.episodes.take("p", Feedback(fingerprint, verdict), self.row, "m")


def test_a_false_alarm_is_held_back_in_its_state_and_after_two_states_in_any() -> None:
    runs = Runs()
    runs.say(runs.run(0.0, 2.0), Verdict.FALSE_ALARM)
    assert runs.run(0.5, 9.0) is None  # it begins where that began
    second = runs.run(5.0)
    runs.say(second, Verdict.FALSE_ALARM)
    assert runs.run(40.0) is None
    assert runs.run(40.0, pressure=-4.0) is not None
    runs.say(second, Verdict.CONFIRMED)
    assert runs.run(40.0) is not None
    assert runs.run(0.5) is None


def test_the_return_from_an_event_within_the_refractory_time_is_part_of_it() -> None:
    runs = Runs(refractory=8)
    first = runs.run(0.0, rest=5)
    assert runs.run(0.0, pressure=-3.5) is None  # its alert goes on
    runs.say(first, Verdict.FALSE_ALARM)
    assert runs.run(0.0, rest=5) is None
    assert runs.run(9.0, pressure=-4.0) is None
    assert runs.episodes.dismissals.suppressed == 1
    assert runs.run(0.0, pressure=-4.0) is not None


def test_a_new_model_knows_a_false_alarm_by_its_sensors_until_it_has_seen_one() -> None:
    runs = Runs()
    runs.say(runs.run(0.0), Verdict.FALSE_ALARM)
    assert runs.run(40.0, model="newer") is None
    assert runs.run(41.0, model="newer") is None
    assert runs.run(0.0, model="newer") is not None


# ------------------------------------------------------------------ planned changes
def lasting(size: float, begin: int, until: int) -> list[Reading]:
    return rows({begin: (size, 0.0)}, until, lasts=until)


@pytest.mark.parametrize("detector", [CENTRE, DEVIATING])
def test_a_planned_change_is_normal_from_the_next_row_on_until_that_is_taken_back(
    detector: CentreDetector,
) -> None:
    told = Told(lasting(4.0, 20, 120), detector)
    assert len(opened(told.until(40))) == 1
    assert told.say(Verdict.PLANNED, by="kim") == (Effect.ACCEPTING, [])
    (closed,) = of_kind(told.until(70), *EPISODES)
    assert (closed.phase, closed.row_ns // 10**9) == (Phase.CLOSED, 40)
    assert closed.feedback == Feedback(closed.fingerprint, Verdict.PLANNED, "kim")
    assert not opened(told.until(90))
    assert told.say(Verdict.CONFIRMED)[0] is Effect.RESTORED
    assert len(opened(told.until(120))) == 1  # it is judged as a new one


def test_a_planned_change_that_is_taken_back_before_the_next_row_stays_open() -> None:
    told = Told(lasting(4.0, 20, 60))
    told.until(40)
    told.say(Verdict.PLANNED)
    told.say(Verdict.CONFIRMED)
    assert all(e.phase is Phase.UPDATED for e in of_kind(told.until(60), AlertKind.ANOMALY))


def test_a_planned_silence_is_closed_at_once() -> None:
    readings = [r for r in rows({}, 60) if r.time_ns < 20 * 10**9 or r.time_ns > 50 * 10**9]
    readings += [wide(s, 0.1, 0.1 * (s % 3), asset="p2") for s in range(60)]
    told = Told(numbered(sorted(readings, key=lambda one: one.time_ns)))
    told.until(70)
    assert [e.kind for e in of_kind(told.outputs, *EPISODES)] == [AlertKind.ASSET_SILENT]
    effect, (closed,) = told.say(Verdict.PLANNED)
    assert isinstance(closed, AlertEvent)
    assert (effect, closed.phase) == (Effect.CLOSED, Phase.CLOSED)
    assert not of_kind(told.until(len(told.readings)), *EPISODES)


# ------------------------------------------------------------------ chunks, polls and restarts
class VerdictLog(Log):
    """A log with verdicts between its polls."""

    def feed(self, event: Any) -> Iterator[Step]:
        if not isinstance(event, Feedback):
            yield from super().feed(event)
            return
        result = self.pipeline.parts.take_feedback(event)
        self.pipeline.parts.ledger.mark(result.changed)
        yield Step(outputs=result.outputs)


SLOW = replace(CENTRE, memory=0.0005)
HISTORY = rows(
    {20: (4.0, 0.0), 50: (4.2, 0.0), 80: (0.0, -4.0), 110: (4.0, 0.0), 140: (0.0, -4.2), 170: (9.0, 0.0)}, 260
)


def fingerprints(detector: Detector) -> list[str]:
    told = Told(HISTORY, detector)
    told.until(len(HISTORY))
    return [e.fingerprint for e in of_kind(told.outputs, *EPISODES) if e.phase is Phase.OPENED]


def events_of(detector: Detector, size: int, cut: int) -> list[Any]:
    """The history in polls of ``size``, with verdicts at the same rows whatever that is."""
    first, _, third, *_ = fingerprints(detector)
    said = {
        40: Feedback(first, Verdict.FALSE_ALARM, "kim"),
        100: Feedback(third, Verdict.FALSE_ALARM),
        cut: Feedback(first, Verdict.CONFIRMED),
    }
    found: list[Any] = []
    for begin, end in zip([0, *sorted(said)], [*sorted(said), len(HISTORY)], strict=True):
        part = HISTORY[begin:end]
        found += polls(part, [(size, 0)] * (len(part) // size))[: -(-len(part) // size)]
        found += [said[end]] if end in said else []
    return found


@pytest.mark.parametrize("detector", [SLOW, replace(DEVIATING, pace=0.9)])
def test_polls_and_restarts_never_show(detector: CentreDetector) -> None:
    def one(**more: Any) -> Pipeline:
        return make(**more)

    whole = VerdictLog(one, events_of(detector, 1_000, 130), detector)
    whole.run(len(whole.events))
    assert whole.pipeline.episodes.dismissals.suppressed

    def standings(log: VerdictLog) -> list[Standing | None]:
        return [
            log.pipeline.episodes.dismissals.standing("p1", fingerprint)
            for fingerprint in fingerprints(detector)
        ]

    assert any(one is not None and one.held_back for one in standings(whole))
    for size in (1, 7):
        other = VerdictLog(one, events_of(detector, size, 130), detector)
        other.run(len(other.events))
        assert plain(other.published) == plain(whole.published)
        assert standings(other) == standings(whole)
    crashing = VerdictLog(one, events_of(detector, 3, 130), detector)
    for until in range(1, len(crashing.events) + 1):
        crashing.run(until)
        crashing.restart()
    assert plain(crashing.published) == plain(whole.published)
    assert standings(crashing) == standings(whole)


def test_a_verdict_comes_as_a_control_message_with_the_records_of_its_asset() -> None:
    told = Told(rows({20: (4.0, 0.0), 50: (4.2, 0.0)}, 80))
    told.until(40)
    list(told.pipeline.saving())
    (alert,) = [e for e in of_kind(told.outputs, *EPISODES) if e.phase is Phase.OPENED]
    for position in (0, 1):
        message = Received(position, 0, Feedback(alert.fingerprint, Verdict.FALSE_ALARM))
        told.pipeline.take_control(message)
    committable = [step for step in steps(told.pipeline, told.readings[40:41]) if step.committable]
    assert committable
    assert told.pipeline.episodes.dismissals.effects == {Effect.DISMISSED: 1, Effect.NOTED: 1}
    assert key("sensors.pumps", "p1") in [record.key for record in told.pipeline.saving()]
    told.done = 41
    assert not opened(told.until(80))


def test_a_planned_change_outlives_a_restart() -> None:
    readings = lasting(4.0, 20, 80)
    told = Told(readings)
    told.until(40)
    (alert,) = [e for e in of_kind(told.outputs, *EPISODES) if e.phase is Phase.OPENED]
    events = [
        *polls(readings[:40], [(40, 0)])[:1],
        Feedback(alert.fingerprint, Verdict.PLANNED),
        *polls(readings[40:], [(5, 0)] * 8)[:8],
    ]
    whole, crashing = VerdictLog(make, events, CENTRE), VerdictLog(make, events, CENTRE)
    whole.run(len(events))
    for until in range(1, len(events) + 1):
        crashing.run(until)
        crashing.restart()
    assert plain(crashing.published) == plain(whole.published)
    assert [e.phase for e in of_kind(whole.published, AlertKind.ANOMALY)][-1] is Phase.CLOSED


def test_a_run_that_was_held_back_before_another_model_took_over_is_remembered() -> None:
    """Among so many assets that its record is not written again meanwhile."""
    others = [wide(5, 0.1, 0.1, asset=f"q{i}") for i in range(40)]
    readings = numbered([*others, *copy.deepcopy(HISTORY[:80])])
    first = fingerprints(SLOW)[0]
    events: list[Any] = [
        *polls(readings[:80], [(80, 0)])[:1],
        Feedback(first, Verdict.FALSE_ALARM),
        *polls(readings[80:105], [(25, 0)])[:1],
        replace(SLOW, version="centre-2"),
        *polls(readings[105:], [(15, 0)])[:1],
    ]
    whole, crashing = VerdictLog(make, events, SLOW), VerdictLog(make, events, SLOW)
    with pytest.MonkeyPatch.context() as patch:
        snapshots_at_once(patch, 1)
        whole.run(len(events))
        for until in range(1, len(events) + 1):
            crashing.run(until)
            crashing.restart()
    assert plain(crashing.published) == plain(whole.published)
    mine, its = (one.pipeline.episodes.dismissals.snapshot("p1") for one in (whole, crashing))
    assert mine == its
    assert mine is not None
    assert len(mine.dismissed[0].onsets) == 2
