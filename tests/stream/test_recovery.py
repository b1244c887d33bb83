"""Crashes, restarts and takeovers of a model never show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.budget import Budget
from daemon.detector import Detector
from daemon.domain import (
    DAY_NS,
    SECOND_NS,
    AlarmPolicy,
    AlertKind,
    Output,
    Phase,
    PolledRecords,
    Reading,
    Record,
    ScoredRow,
    StateRecord,
    StreamSpec,
)
from daemon.habit import SLOTS, SilenceHabit
from daemon.stream import batch_ingest, snapshot
from daemon.stream import pipeline as pipeline_module
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import Step
from tests.fakes import CentreDetector
from tests.stream.pipelines import (
    ARRIVALS,
    CENTRE,
    MINUTE_NS,
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
    polls,
    snapshots,
    snapshots_at_once,
    steady,
    steps,
    take_over,
    told,
    wide,
)

OFTEN = Budget(0.3 * DAY_NS / SECOND_NS)
"""An episode in three rows: thresholds are corrected from row to row."""


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
        saved = snapshots(self.pipeline)
        self.most_saved = max(self.most_saved, len(saved))
        for record in saved:
            self.state[record.key] = record
        self.position = (self.pipeline.offset, self.pipeline.replay_from())
        in_force = self.pipeline.detector is self.wanted
        self.wanted = self.wanted_then = None if in_force else self.wanted
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
        assert take_over(self.pipeline, list(self.state.values())) == bool(self.state)
        assert not self.pipeline.unusable
        again = self.readings[replay_from:offset]
        self.replayed += len(again)
        for i in range(0, len(again), 7):
            assert feed(self.pipeline, again[i : i + 7]) == []
        if self.wanted is not None:
            self.pipeline.use_when_committable(self.wanted)


def test_a_successor_does_not_repeat_an_unknown_condition() -> None:
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


PATIENT = SilenceHabit(
    np.arange(SLOTS) < np.array([[0], [1], [0]]), np.full(3, MINUTE_NS), np.array([12, 0, 15]) * SECOND_NS
)
"""Sensor b may be silent as long as these tests last, the other and the assets a little longer than usual."""
MODELS = [
    QUICK,
    replace(QUICK, version="centre-2", centre=0.1, threshold=2.0, carried={}, silence=PATIENT),
    replace(
        QUICK,
        version="centre-3",
        centre=-3.7,
        threshold=6.0,
        hysteresis=0.5,
        memory=0.3,
        still=3,
        sentinels=((1, 8.0),),
    ),
]
CHANGES = st.lists(st.tuples(st.integers(0, 14), st.integers(0, 2)), max_size=4)
"""Before which event, and to which model; not one that is in force already."""


def with_model_changes(
    events: Sequence[PolledRecords], changes: Sequence[tuple[int, int]]
) -> list[PolledRecords | Detector]:
    """The events, and models that take over between them."""
    found: list[PolledRecords | Detector] = []
    for i, event in enumerate(events):
        found += [MODELS[model] for before, model in changes if before == i]
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
    CHANGES,
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
    changes: list[tuple[int, int]],
    at_once: int,
    stamp_ns: Callable[[int], int],
) -> None:
    spec = replace(spec, allowed_lateness_ns=lateness_ns)
    events = with_model_changes(polls(arrivals(drawn, spec.format, stamp_ns), sizes), changes)

    def one(**more: Any) -> Pipeline:
        more |= {"max_assets": max_assets, "drift_interval_ns": 7 * SECOND_NS, "online": OFTEN}
        return make(spec, policy=policy, **more)

    undisturbed, crashing = Log(one, events, QUICK), Log(one, events, QUICK)
    with pytest.MonkeyPatch.context() as patch:
        snapshots_at_once(patch, at_once)
        undisturbed.run(len(events))
        for further, commit in fate:
            crashing.run(min(crashing.done + further, len(events)), commit=commit)
        crashing.run(len(events))
    assert plain(crashing.published) == plain(undisturbed.published)


HELD_AND_CONFIRMED = [
    (asset, step, lag, 0.5, 0.5, 0, "run")
    for asset, step, lag in [
        ("p1", 2, 0),
        ("p1", -2, 0),
        ("p2", 0, 0),
        ("p3", 0, -7),
        ("p3", -1, 0),
        *[("p1", 0, 0)] * 3,
        ("p1", 0, 1),
        ("p2", 0, 9),
        ("p1", 0, 0),
        *[("p2", 0, 1)] * 2,
    ]
]
"""A reading that confirms an earlier one of a later row: the fleet's clock moves by more than its own row."""


@settings(max_examples=200, deadline=None)
@given(
    SPECS,
    st.sampled_from([0, 3 * SECOND_NS]),
    ARRIVALS,
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 0, 9])), max_size=4),
    st.lists(st.booleans(), max_size=12),
    st.sampled_from([2, 100]),
    CHANGES,
)
@example(
    replace(SPEC, silent_after_ns=4 * SECOND_NS),
    3 * SECOND_NS,
    HELD_AND_CONFIRMED,
    [],
    [],
    100,
    [],
)
def test_a_crash_on_the_way_through_a_poll_never_shows(
    spec: StreamSpec,
    lateness_ns: int,
    drawn: list[tuple[Any, ...]],
    sizes: list[tuple[int, int]],
    crashes: list[bool],
    max_assets: int,
    changes: list[tuple[int, int]],
) -> None:
    spec = replace(spec, allowed_lateness_ns=lateness_ns)
    events = with_model_changes(polls(arrivals(drawn, spec.format), sizes), changes)

    def one(**more: Any) -> Pipeline:
        return make(spec, max_assets=max_assets, drift_interval_ns=7 * SECOND_NS, **more)

    undisturbed, crashing = Log(one, events, QUICK), Log(one, events, QUICK)
    undisturbed.run(len(events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_module, "MOST_EMITTED", 3)
        patch.setattr(batch_ingest, "MOST_BRIDGED", 3)
        snapshots_at_once(patch, 1)
        crashing.run_and_rest(iter(crashes))
    assert plain(crashing.published) == plain(undisturbed.published)
    assert in_order(crashing.published) == in_order(undisturbed.published)


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


def test_a_corrected_threshold_outlives_a_crash_and_a_model_change() -> None:
    """The correction of all rows since the model, which no replay reaches; the one of the model before is of no use."""
    readings = [wide(s, 2.8 if s % 60 > 57 else 0.5, 0.01 * (s % 3)) for s in range(300)]
    cuts = polls(numbered(readings), [(4, 0)] * 75)
    events = [*cuts[:30], replace(CENTRE, version="centre-2", threshold=3.2), *cuts[30:]]

    def one(**more: Any) -> Pipeline:
        return make(replace(SPEC, window=2), online=replace(OFTEN, episodes_per_day=4_000.0), **more)

    first = replace(CENTRE, window=2)
    events = [replace(e, window=2) if isinstance(e, CentreDetector) else e for e in events]
    undisturbed, crashing = Log(one, events, first), Log(one, events, first)
    undisturbed.run(len(events))
    for until in range(1, len(events) + 1):
        crashing.run(until, commit=until % 3 > 0)
        crashing.run(until)
        crashing.restart()
    assert plain(crashing.published) == plain(undisturbed.published)
    opened = [e for e in of_kind(crashing.published, AlertKind.ANOMALY) if e.phase is Phase.OPENED]
    assert len(opened) >= 3
    assert all(e.scores["combined"].threshold < 3.0 for e in opened)


def test_a_deviation_outlives_a_crash_to_the_last_digit() -> None:
    detector = replace(CENTRE, pace=0.1, threshold=100.0)
    readings = [wide(s, 2.6 + 0.1 * (s % 7) if 20 <= s < 70 else 0.0, 0.001 * s) for s in range(120)]
    events = polls(numbered(readings), [(3, 0)] * 40)
    undisturbed, crashing = Log(make, events, detector), Log(make, events, detector)
    undisturbed.run(len(events))
    for until in range(1, len(events) + 1):
        crashing.run(until)
        crashing.restart()
    assert plain(crashing.published) == plain(undisturbed.published)
    phases = [e.phase for e in of_kind(crashing.published, AlertKind.DEVIATION)]
    assert phases == [Phase.OPENED, *[Phase.UPDATED] * 4, Phase.CLOSED]


def test_quiet_assets_do_not_lengthen_a_replay() -> None:
    pipeline = make()
    feed(pipeline, numbered([*steady(5, "gone"), *steady(100, "here")]))
    snapshots(pipeline)
    assert pipeline.replay_from() >= 90


def test_a_state_is_as_small_as_the_rows_it_stands_for() -> None:
    pipeline = make(SPEC)
    written = 0
    readings = numbered([r for s in range(64) for i in range(50) for r in steady(1, f"p{i}", s)])
    for i in range(0, len(readings), 10):
        feed(pipeline, readings[i : i + 10])
        written += sum(len(saved.key) > len(PUMPS_0.topic) + 1 for saved in snapshots(pipeline))
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
    saved = snapshots(first)
    second = make(spec, None, publish_from=publish_from)
    second.offset = publish_from
    assert not take_over(second, saved, exact=exact)
    assert StateRecord(snapshot.key(PUMPS_0.topic, "p1"), None) in snapshots(second)
    assert take_over(second, [StateRecord(snapshot.key(PUMPS_0.topic), b"garbage")]) is False


def test_a_state_written_before_its_position_repeats_no_output() -> None:
    readings = numbered(steady(40))
    first = make()
    feed(first, readings[:30])
    second = make(publish_from=20)
    second.offset = 10
    assert take_over(second, snapshots(first), exact=False)
    assert feed(second, readings[10:30]) == []
    assert plain(feed(second, readings[30:])) == plain(feed(first, readings[30:]))


def test_a_model_that_took_over_meanwhile_judges_no_earlier_row() -> None:
    readings = numbered([*steady(10), *(wide(10 + i, 9.0, 0.0) for i in range(40))])
    first = make()
    feed(first, readings[:30])
    saved = snapshots(first)
    other = make(detector=replace(CENTRE, version="centre-2", threshold=100.0), publish_from=30)
    other.offset = 10
    assert take_over(other, saved)
    assert other.predecessor_outputs() == first.use(
        replace(CENTRE, version="centre-3")
    )  # the sums that nobody else can go on with
    assert feed(other, readings[10:30]) == other.predecessor_outputs() == []
    outputs = feed(other, readings[30:32])
    assert told(outputs, AlertKind.ANOMALY) == [(30, "closed", "p1")]
    assert len([o for o in outputs if isinstance(o, ScoredRow)]) == 2  # the window was carried over
    assert len(snapshots(other)) == 2  # a model change writes all state


def test_an_episode_that_opened_since_the_state_is_closed_by_another_model_too() -> None:
    readings = numbered([*steady(30), *(wide(30 + i, 50.0, 0.5) for i in range(3)), *steady(20, start=33)])
    first = make()
    feed(first, readings[:30])
    kept = {saved.key: saved for saved in snapshots(first)}
    outputs = feed(first, readings[30:33])
    kept |= {saved.key: saved for saved in snapshots(first)}
    other = make(detector=replace(CENTRE, version="centre-2"), publish_from=33)
    other.offset = first.replay_from()
    assert take_over(other, list(kept.values()))
    outputs += feed(other, readings[other.offset : 33]) + feed(other, readings[33:])
    opened, *_, closed = of_kind(outputs, AlertKind.ANOMALY)
    assert (opened.phase, closed.phase) == (Phase.OPENED, Phase.CLOSED)
    assert opened.fingerprint == closed.fingerprint


def fleet(assets: int, second: int, first: int) -> list[Reading]:
    return numbered([r for i in range(assets) for r in steady(1, f"p{i:03}", second)], first)


def test_a_takeover_writes_the_state_of_a_large_fleet_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """No commit grows with the fleet, and the units that records are in are named once, not in each."""
    snapshots_at_once(monkeypatch, 10)
    pipeline = make()
    feed(pipeline, [r for t in range(6) for r in fleet(200, t, 200 * t)])
    kept = {saved.key: saved for _ in range(40) for saved in snapshots(pipeline)}
    assert len(kept) == 201
    pipeline.use_when_committable(MODELS[1])
    assert pipeline.model == "centre-1"
    (step,) = steps(pipeline, [])
    assert (step.committable, pipeline.model) == (True, "centre-2")
    pieces = [snapshots(pipeline) for _ in range(40)]
    assert max(map(len, pieces)) == 11
    assert {saved.key for piece in pieces for saved in piece} == kept.keys()
    assert [len(piece) for piece in pieces[-3:]] == [1, 1, 1]
    changes = [
        snapshot.decode_partition(piece[-1].value, snapshot.layout(SPEC)).model_changes for piece in pieces
    ]  # type: ignore[union-attr]
    assert [len(one) for one in changes[:2]] == [2, 2]
    assert [change.model for change in changes[-1]] == ["centre-2"]


def test_state_that_only_judging_knows_is_written_before_a_takeover_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshots_at_once(monkeypatch, 10)
    pipeline = make(policy=AlarmPolicy(3, 5, refractory=4))
    feed(pipeline, [r for t in range(6) for r in fleet(200, t, 200 * t)])
    while len(snapshots(pipeline)) > 1:
        pass
    loud = numbered([wide(6, 50.0, 0.5, asset=f"p{i:03}") for i in range(200)], 1200)
    feed(pipeline, loud)
    assert len(pipeline.episodes.assets) == 200  # pending, so that nothing was said of them
    pipeline.use_when_committable(MODELS[1])
    sizes = []
    for step in pipeline.feed(PolledRecords(PUMPS_0, ())):
        assert step.committable
        sizes.append(len(snapshots(pipeline)))
    assert pipeline.model == "centre-2"
    assert max(sizes) <= 21
    assert sum(sizes) >= 200


def test_replayed_records_are_not_counted() -> None:
    readings = numbered(steady(20))
    bad: list[Record | Reading] = [Record(i, None, b"{", 0) for i in range(3)]
    pipeline = make(publish_from=23)
    pipeline.offset = 0
    assert feed(pipeline, [*bad, *numbered(steady(20), 3)]) == []
    assert pipeline.counts.total() == 0
    assert len(feed(pipeline, [readings[0], *numbered(steady(3, start=20), 23)])) == 3


def test_an_episode_opened_while_replaying_closes_once() -> None:
    readings = numbered([*steady(5, "p2"), *steady(30), *steady(1, "p2", 30), *steady(2, start=31)])
    pipeline = make(publish_from=35)
    assert feed(pipeline, readings[:35]) == []
    outputs = feed(pipeline, readings[35:], ended=True)
    assert told(outputs, AlertKind.ASSET_SILENT) == [(30, "closed", "p2")]


def test_the_end_of_the_log_while_replaying_emits_nothing() -> None:
    pipeline = make(publish_from=50)
    assert feed(pipeline, numbered(steady(20)), ended=True) == []


def test_nothing_fed_needs_nothing_replayed() -> None:
    assert make().replay_from() == 0
