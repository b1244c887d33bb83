"""What was accepted as normal stays so under other models, and nothing else does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.control import Feedback, Verdict
from daemon.detector import Detector, Evidence, Explanation, OwnedWindow
from daemon.domain import AlarmPolicy, Floats, Phase, Reading, StreamSpec
from daemon.stream.acceptance import MOST_ACCEPTED, Acceptances
from daemon.stream.course_state import MEASURED, AcceptedLevel, AcceptedState
from daemon.stream.deviation import SustainedRow
from daemon.stream.dismissal import REMEMBERED, Effect
from daemon.stream.incident import TOGETHER, regime_rows
from tests.stream.conversation import EPISODES, Conversation, alerts, opened
from tests.stream.evidence import SENSORS
from tests.stream.levels import Levels
from tests.stream.pipelines import (
    SPEC,
    feed,
    make,
    numbered,
    of_kind,
    plain,
    polls,
    snapshots_at_once,
    wide,
)
from tests.stream.test_dismissal import VerdictLog

REACHES = TOGETHER * SPEC.window


@dataclass(frozen=True)
class Leaking(Levels):
    """What it expects of the second sensor follows the first one, whose error so leaks into the other."""

    def infer(self, windows: Any) -> Evidence:
        scaled = np.array(windows.scaled)
        leak = 0.9 * scaled[:, :, 0]
        scaled[:, :, 1] -= leak
        found = super().infer(replace(windows, scaled=scaled))
        found.expected[:, 1] += leak[:, -1] * self.scale
        return found

    def explain(self, window: OwnedWindow, shares: Floats) -> Explanation | None:
        if shares[0] <= 0 or shares[1] > 0:
            return None
        rms = np.sqrt(np.nanmean(np.square(window.values.astype(np.float64)), axis=0)) * self.scale
        return Explanation(np.array([True, False]), rms, self._centres)


FIRST = Levels(SPEC.sensors)
QUIET = replace(FIRST, threshold=100.0)  # deviations alone
OTHERS = [
    replace(FIRST, version="centre-2", centre=0.2, scale=3.0),
    replace(FIRST, version="centre-3", centre=-0.2, scale=0.5, pace=0.4),
    replace(FIRST, version="centre-4", threshold=2.5),
]
LEARNED = replace(FIRST, version="learned", learned=4.0)


def rows(*spans: tuple[int, float, float]) -> list[Reading]:
    """Rows of ``p1``: so many with both sensors off by this much."""
    made: list[Reading] = []
    for count, a, b in spans:
        for second in range(len(made), len(made) + count):
            made.append(wide(second, 0.1 * (second % 2) + a, 0.1 * (second % 3) + b))
    return numbered(made)


class Told(Conversation):
    """A pipeline whose first alert is called planned at a row, and whose models are exchanged."""

    def __init__(self, readings: Sequence[Reading], first: Detector = FIRST, **more: Any) -> None:
        super().__init__(readings, first, **more)

    def use(self, detector: Detector) -> None:
        self.pipeline.use(detector)

    def say(self, verdict: Verdict, number: int = -1) -> Effect:
        return self.judged(verdict, number).effect


def planned(readings: Sequence[Reading], first: Detector = FIRST, at: int = 40) -> Told:
    """With one alert by the row ``at``, which is called planned there."""
    told = Told(readings, first)
    assert len(opened(told.until(at))) == 1
    assert told.say(Verdict.PLANNED) is Effect.ACCEPTING
    return told


@pytest.mark.parametrize("first", [FIRST, QUIET])
def test_what_was_planned_stays_normal_under_other_models_and_the_one_before(first: Levels) -> None:
    told = planned(rows((20, 0.0, 0.0), (280, 4.0, 0.0)), first)
    told.until(80)
    for i, model in enumerate([*OTHERS, first, LEARNED, OTHERS[0]]):
        told.use(replace(model, threshold=max(model.threshold, first.threshold)))
        assert not opened(told.until(120 + 40 * i))
    assert not told.pipeline.episodes.assets


def accepted_by(told: Told) -> list[tuple[str, float | None]]:
    """What the messages that have closed alerts say of it, rounded."""
    return [
        (one.sensor, None if one.change is None else round(one.change, 1))
        for event in of_kind(told.outputs, *EPISODES)
        for one in event.accepted
        if event.phase is Phase.CLOSED
    ]


@pytest.mark.parametrize(("a", "b"), [(4.0, 0.0), (-4.0, 0.0), (4.0, -4.0)])
def test_the_message_that_closes_a_planned_alert_says_what_was_accepted(a: float, b: float) -> None:
    told = planned(rows((20, 0.0, 0.0), (60, a, b)))
    assert accepted_by(told) == []
    told.until(80)
    level = told.pipeline.episodes.acceptances.snapshot("p1")[0].levels
    assert accepted_by(told) == [(one.sensor, round(one.side * one.size, 1)) for one in level]
    found = dict(accepted_by(told))
    for name, off in zip(SPEC.sensors, (a, b), strict=True):
        assert name not in found if not off else found[name] == pytest.approx(off, abs=0.3)


def test_an_alert_without_levels_says_whose_baselines_have_moved() -> None:
    told = planned(rows((20, 0.0, 0.0), *((1, sign, 0.0) for sign in (4.0, -4.0) * 30)))
    told.until(80)
    assert not any(one.levels for one in told.pipeline.episodes.acceptances.snapshot("p1"))
    assert {change for _, change in accepted_by(told)} == {None}


def test_it_is_due_until_the_machine_is_seen_so_again() -> None:
    told = planned(rows((20, 0.0, 0.0), (40, 4.0, 0.0), (150, 0.0, 0.0), (60, 4.0, 0.0)))
    told.until(70)
    told.use(OTHERS[0])
    assert not opened(told.until(270))


def test_what_was_planned_while_the_machine_stood_still_is_due() -> None:
    told = Told(
        rows((20, 0.0, 0.0), (20, 4.0, 0.0), (20, 0.0, 0.0), (40, 4.0, 0.0)),
        policy=AlarmPolicy(refractory=15),
    )
    told.until(50)
    assert told.say(Verdict.PLANNED) is Effect.ACCEPTING
    assert not opened(told.until(100))


@pytest.mark.parametrize("fault", [(4.0, 4.0), (4.0, -4.0), (-4.0, 0.0), (9.0, 0.0), (0.0, 5.0)])
@pytest.mark.parametrize("begin", [70, 80, 100])
@pytest.mark.parametrize("first", [FIRST, QUIET])
def test_a_different_fault_opens_before_at_and_after_the_change_of_model(
    fault: tuple[float, float], begin: int, first: Levels
) -> None:
    told = planned(rows((20, 0.0, 0.0), (begin - 20, 4.0, 0.0), (30, *fault), (90, 4.0, 0.0)), first)
    told.until(80)
    told.use(replace(OTHERS[0], threshold=first.threshold))
    told.until(begin + 30)
    assert len(opened(told.outputs)) == 2
    ends = [e for e in of_kind(told.until(begin + 120), *EPISODES) if e.phase is Phase.CLOSED]
    assert ends
    assert not told.pipeline.episodes.assets  # what was planned does not hold its alert open


@pytest.mark.parametrize("fault", [None, 5.0])
@pytest.mark.parametrize("begin", [80, 95])
def test_what_leaks_into_other_sensors_by_another_model_is_part_of_it(
    fault: float | None, begin: int
) -> None:
    told = planned(rows((20, 0.0, 0.0), (begin - 20, 4.0, 0.0), (60, 4.0, fault or 0.0)))
    told.until(80)
    told.use(Leaking(SPEC.sensors, version="leaking", pace=0.0))
    found = opened(told.until(begin + 60))
    assert len(found) == (fault is not None)
    assert all(begin <= row <= begin + 1 for row in found)


def test_the_like_that_comes_once_more_on_top_of_it_is_another_fault() -> None:
    told = planned(rows((20, 0.0, 0.0), (80 + REACHES, 3.0, 0.0), (30, 6.0, 0.0)), QUIET, at=60)
    told.use(replace(OTHERS[0], threshold=100.0))
    assert not opened(told.until(100 + REACHES))
    assert len(opened(told.until(130 + REACHES))) == 1


def hourly(row: int, off: float) -> Reading:
    return wide(3600.0 * row, off + 0.1 * (row % 2), 0.1 * (row % 3))


HOURS = replace(
    SPEC,
    period_ns=3600 * 10**9,
    silent_after_ns=9 * 3600 * 10**9,
    allowed_lateness_ns=2 * 3600 * 10**9,
    max_gap_ns=20 * 3600 * 10**9,
)
LASTING = regime_rows(HOURS.window, HOURS.period_ns)


def hours(offs: Sequence[float], model: Levels, at: int = 80) -> tuple[list[int], Told]:
    """Hours at which alerts open that come after the first one, which is called planned in hour 40; a model takes over."""
    told = Told(numbered([hourly(i, off) for i, off in enumerate(offs)]), spec=HOURS)
    told.until(40)
    told.say(Verdict.PLANNED)
    told.until(at)
    told.use(model)
    told.until(len(offs))
    return [hour // 3600 for hour in opened(told.outputs)[1:]], told


@pytest.mark.parametrize("fault", [1.5, 3.0, 4.0, 5.5, -4.0])
def test_a_fault_on_top_of_what_the_model_has_learned_is_seen_as_by_a_stream_without_a_plan(
    fault: float,
) -> None:
    learned = replace(LEARNED, threshold=1.0)
    offs = [0.0] * 20 + [4.0] * (80 + LASTING) + [4.0 + fault] * 60 + [4.0] * 60
    found, told = hours(offs, learned)
    unplanned = make(HOURS, learned, scores=False)
    feed(unplanned, told.readings[:80])
    alone = feed(unplanned, told.readings[100:])
    assert found == [hour // 3600 for hour in opened(alone)]
    assert len(found) == 1


@pytest.mark.parametrize("back", [False, True])
def test_what_the_model_has_not_learned_stays_due_while_the_machine_is_elsewhere(back: bool) -> None:
    """It stands still, or people put it back for longer than a day."""
    elsewhere = 0.0 if back else -0.5
    offs = [0.0] * 20 + [4.0] * 55 + [elsewhere] * (2 * LASTING) + [4.0] * 60
    assert hours(offs, replace(OTHERS[0], threshold=3.0), at=75)[0] == []


def test_what_was_accepted_one_after_the_other_adds_up_and_what_is_learned_does_not() -> None:
    def level(side: int, size: float, left: float, rows: int = 0) -> AcceptedLevel:
        return AcceptedLevel("Pressure", side, size, side * size, True, left, rows)

    def bounds(*levels: AcceptedLevel) -> tuple[float, float] | None:
        acceptances = Acceptances(StreamSpec("pumps", SENSORS))
        acceptances.restore("p", [AcceptedState(f"f{i}", i, [one]) for i, one in enumerate(levels)])
        found = acceptances.bounds("p", 9)
        assert ("p" in acceptances.standing) is (found is not None)
        return None if found is None else (float(found.least[0]), float(found.most[0]))

    assert bounds(level(1, 4.0, 4.0), level(1, 2.0, 2.0), level(-1, 1.0, 1.0)) == (-1.0, 6.0)
    assert bounds(level(1, 4.0, 1.5, MEASURED)) == (0.0, 1.5)
    assert bounds(level(1, 4.0, 0.0, MEASURED)) is None


@pytest.mark.parametrize(
    ("first", "at"),
    [(FIRST, 135), (QUIET, 135), (QUIET, 152)]
    + [(replace(QUIET, pace=0.1), at) for at in (135, 150, 154, 156)],
)
def test_what_is_planned_of_one_sensor_leaves_the_alert_of_another_as_it_is(first: Levels, at: int) -> None:
    """Also where the one it is said of is just over, and the other one's error alone shows."""
    told = Told(rows((20, 0.0, 0.0), (100, 4.0, 0.0), (30, 4.0, -4.0), (100, 4.0, 0.0)), first)
    told.until(at)
    assert [list(one.sensors) for one in alerts(told.outputs)] == [["a"], ["b"]]
    assert told.say(Verdict.PLANNED) is Effect.ACCEPTING
    later = of_kind(told.until(250), *EPISODES)
    assert {one.fingerprint for one in later if one.phase is Phase.CLOSED} == {
        alerts(told.outputs)[1].fingerprint
    }
    assert not [one for one in later if one.phase is Phase.OPENED]
    levels = [
        one.sensor for state in told.pipeline.episodes.acceptances.snapshot("p1") for one in state.levels
    ]
    assert levels == ["b"]


def test_a_level_below_one_of_the_model_in_force_is_measured() -> None:
    acceptances = Acceptances(HOURS)
    states = [
        AcceptedState("f", 0, [AcceptedLevel("a", 1, 4.0, 4.0, True, 4.0)]),
        AcceptedState("g", 1, [AcceptedLevel("a", 1, 2.0, 6.0, True, 2.0, MEASURED)]),
    ]
    acceptances.restore("p", states)
    apart = np.array([2.0, 0.0])
    zero = np.zeros(2)
    for row in range(2, 2 + 3 * LASTING):
        acceptances.follow("p", SustainedRow(row, zero, zero, np.array([6.0, 0.0]), zero), apart)
    found = acceptances.bounds("p", 2 + 3 * LASTING)
    assert found is not None
    assert found.most.tolist() == [2.0, 0.0]
    assert acceptances.standing == {"p"}
    assert not acceptances.watched


@pytest.mark.parametrize("verdict", [Verdict.CONFIRMED, Verdict.FALSE_ALARM])
def test_a_verdict_that_takes_it_back_does_so_under_another_model(verdict: Verdict) -> None:
    told = planned(rows((20, 0.0, 0.0), (160, 4.0, 0.0)))
    told.until(60)
    told.use(OTHERS[0])
    assert not opened(told.until(100))
    told.say(verdict)
    found = opened(told.until(140))
    assert len(found) == (verdict is Verdict.CONFIRMED)  # the like of a false alarm is held back
    assert not told.pipeline.episodes.acceptances.assets
    told.use(FIRST)
    assert told.pipeline.episodes.acceptances.snapshot("p1") == []


def test_a_verdict_reaches_what_was_accepted_of_an_alert_that_is_forgotten() -> None:
    events = [(20, 0.0, 0.0), (60, 4.0, 0.0)] + [(10, 4.0, -4.0), (10, 4.0, 0.0)] * (REMEMBERED + 2)
    told = planned(rows(*events), at=50)
    told.until(len(told.readings))
    assert told.pipeline.episodes.dismissals.asset_of(told.outputs[0].fingerprint) is None  # type: ignore[union-attr]
    assert told.say(Verdict.PLANNED, 0) is Effect.NOTED
    assert told.say(Verdict.CONFIRMED, 0) is Effect.RESTORED
    assert told.say(Verdict.CONFIRMED, 0) is Effect.UNKNOWN


def test_what_the_settings_accept_outlives_a_change_of_model_too() -> None:
    spec = replace(SPEC, period_ns=3600 * 10**9)
    made = [wide(3600 * i, (4.0 if i >= 20 else 0.0) + 0.1 * (i % 2), 0.1 * (i % 3)) for i in range(200)]
    pipeline = make(
        replace(
            spec,
            silent_after_ns=spec.period_ns * 9,
            allowed_lateness_ns=2 * spec.period_ns,
            max_gap_ns=20 * spec.period_ns,
        ),
        FIRST,
        AlarmPolicy(accept_rows=40),
        scores=False,
    )
    outputs = feed(pipeline, numbered(made)[:120])
    phases = [e.phase for e in of_kind(outputs, *EPISODES)]
    assert (phases[0], phases[-1]) == (Phase.OPENED, Phase.CLOSED)
    pipeline.use(OTHERS[0])
    assert not of_kind(feed(pipeline, numbered(made)[120:]), *EPISODES)


def test_it_takes_in_what_other_sensors_showed_and_no_more() -> None:
    slow = replace(QUIET, pace=0.1)
    cause = (60, 4.0, 2.0)
    told = planned(rows((20, 0.0, 0.0), cause, (60, 4.0, 2.0)), slow, at=34)
    assert list(of_kind(told.outputs, *EPISODES)[0].sensors) == ["a"]
    assert not opened(told.until(140))
    for other in (-3.0, 4.5):
        told = planned(rows((20, 0.0, 0.0), cause, (60, 4.0, other)), slow, at=34)
        told.until(80)
        assert len(opened(told.until(140))) == 1


def test_the_oldest_are_forgotten_and_evicted_assets_forget() -> None:
    spans = [(30, 4.0 * (-1.9) ** i, 0.0) for i in range(MOST_ACCEPTED + 2)]
    told = Told(rows((20, 0.0, 0.0), *spans), max_assets=1)
    for i in range(MOST_ACCEPTED + 2):
        told.until(40 + 30 * i)
        told.say(Verdict.PLANNED)
    told.until(len(told.readings))
    assert len(told.pipeline.episodes.acceptances.snapshot("p1")) == MOST_ACCEPTED
    feed(told.pipeline, [wide(len(told.readings), 0.0, 0.0, asset="p2", offset=len(told.readings))])
    assert not told.pipeline.episodes.acceptances.assets


# ------------------------------------------------------------------ any sequence of models, polls and restarts
MODELS = [FIRST, *OTHERS, LEARNED]
CHANGES = st.lists(st.tuples(st.integers(45, 195), st.integers(0, len(MODELS) - 1)), max_size=4)
STOPS = st.lists(st.tuples(st.integers(45, 180), st.integers(1, 25)), max_size=3)


def history(stops: Sequence[tuple[int, int]], fault: tuple[int, float, float] | None = None) -> list[Reading]:
    """A change for good at row 20, with stops, and perhaps a fault from a row on."""
    made = []
    for row in range(200):
        off = 0.0 if row < 20 or any(first <= row < first + n for first, n in stops) else 4.0
        more = fault[1:] if fault is not None and fault[0] <= row else (0.0, 0.0)
        made.append(wide(row, off + 0.1 * (row % 2) + more[0], 0.1 * (row % 3) + more[1]))
    return numbered(made)


def events_of(
    readings: Sequence[Reading],
    changes: Sequence[tuple[int, int]],
    size: int,
) -> list[Any]:
    """The history in polls, with the verdict at row 40 and models that take over at rows."""
    told = Told(readings, FIRST)
    told.until(40)
    (alert,) = [e for e in of_kind(told.outputs, *EPISODES) if e.phase is Phase.OPENED]
    at: dict[int, list[Any]] = {40: [Feedback(alert.fingerprint, Verdict.PLANNED)], len(readings): []}
    for row, model in sorted(changes):
        at.setdefault(row, []).append(MODELS[model])
    found: list[Any] = []
    begin = 0
    for end in sorted(at):
        part = list(readings[begin:end])
        found += polls(part, [(size, 0)] * (len(part) // size))[: -(-len(part) // size)]
        found += at[end]
        begin = end
    return found


def published(events: Sequence[Any]) -> VerdictLog:
    log = VerdictLog(lambda **more: make(**more), events, FIRST)
    log.run(len(events))
    return log


@settings(max_examples=60, deadline=None)
@given(CHANGES, STOPS)
def test_under_any_sequence_of_models_it_opens_nothing(
    changes: list[tuple[int, int]], stops: list[tuple[int, int]]
) -> None:
    if stops:  # a model that has learned it alarms at stops
        changes = [(row, min(model, len(OTHERS))) for row, model in changes]
    log = published(events_of(history(stops), changes, 1_000))
    assert len(opened(log.published)) == 1


@settings(max_examples=60, deadline=None)
@given(CHANGES, st.integers(60, 180), st.sampled_from([(0.0, 5.0), (0.0, -5.0), (-9.0, 0.0), (9.0, 0.0)]))
def test_under_any_sequence_of_models_a_different_fault_opens(
    changes: list[tuple[int, int]], begin: int, fault: tuple[float, float]
) -> None:
    changes = [(row, min(model, len(OTHERS))) for row, model in changes]
    log = published(events_of(history([], (begin, *fault)), changes, 1_000))
    later = opened(log.published)[1:]
    assert later
    assert begin <= later[0] <= begin + 2


@settings(max_examples=25, deadline=None)
@given(
    CHANGES,
    STOPS,
    st.sampled_from([None, (120, 0.0, 5.0)]),
    st.sampled_from([3, 17]),
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=12),
    st.sampled_from([1, 1_000]),
)
def test_polls_and_crashes_never_show(
    changes: list[tuple[int, int]],
    stops: list[tuple[int, int]],
    fault: tuple[int, float, float] | None,
    size: int,
    fate: list[tuple[int, bool]],
    at_once: int,
) -> None:
    readings = history(stops, fault)
    whole = published(events_of(readings, changes, 1_000))
    events = events_of(readings, changes, size)
    with pytest.MonkeyPatch.context() as patch:
        snapshots_at_once(patch, at_once)
        crashing = VerdictLog(lambda **more: make(**more), events, FIRST)
        for further, commit in fate:
            crashing.run(min(crashing.done + further, len(events)), commit=commit)
        crashing.run(len(events))
    assert plain(crashing.published) == plain(whole.published)
    mine, its = (one.pipeline.episodes.acceptances.snapshot("p1") for one in (crashing, whole))
    assert mine == its
