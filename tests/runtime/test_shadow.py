"""A candidate in shadow: when that is over, what is decided, and how it lives through other decisions and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace as replace_struct
from structlog.testing import capture_logs

from daemon.adapters.registry import DecisionRecord, TriggerFact
from daemon.adapters.telemetry import Status
from daemon.alert import ShadowCounts
from daemon.budget import Budget
from daemon.control import Received, RetrainRequest
from daemon.domain import DAY_NS, SECOND_NS, Assigned, InputPartition, PolledRecords, Record, SourceEvent
from daemon.errors import BrokerError, OvertakenError, PointerMovedError
from daemon.model.bundle import Bundle
from daemon.model.decision import Decision, Rule
from daemon.runtime.deciding import into_shadow, out_of_shadow
from daemon.runtime.shadow import InShadow, decision_on
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.runtime.trainer import TrainingResult
from daemon.stream.encoding import PublishedDrift
from tests.fakes import CentreDetector, PromptTrainer
from tests.runtime.scripted import (
    PUMPS_0,
    SPEC,
    Registry,
    Script,
    Ticking,
    line,
    loop_over,
    trained_bundle,
)

MINUTE_NS, HOUR_NS = 60 * SECOND_NS, 3600 * SECOND_NS
THERE = InputPartition("sensors.pumps", 1)
RECORD = DecisionRecord(
    "pumps", TriggerFact("schedule", "every day"), True, "not worse", "2026-01-01T00:00:00Z", "v2", "v1"
)


# ------------------------------------------------------------------ when, and what
def hours(
    *windows: int, counts: ShadowCounts | None = None, where: InputPartition = PUMPS_0, first: int = 10
) -> list[PublishedDrift]:
    """Intervals of an hour from the ``first`` on, with so many windows of both models; the rest in the last."""
    made = []
    for i, n in enumerate(windows):
        shadow = ShadowCounts("v2", n)
        if counts is not None and i == len(windows) - 1:
            shadow += replace(counts, windows=0)
        begin = (first + i) * HOUR_NS
        made.append(PublishedDrift("pumps", where, begin, begin + HOUR_NS, "v1", "ok", n, 0, shadow))
    return made


def shadow_of(records: Sequence[PublishedDrift]) -> InShadow:
    """Of six hours from the tenth on."""
    record = into_shadow(RECORD, 10 * HOUR_NS, 6 * HOUR_NS)
    shadow = InShadow.of(record, b"", CentreDetector(SPEC.sensors, version="v2"), 1)
    for one in records:
        shadow.tally.add(one)
    return shadow


def decided(records: Sequence[PublishedDrift]) -> tuple[bool, Rule] | None:
    found = decision_on(shadow_of(records), SPEC, HOUR_NS, [Budget(1.0)])
    return None if found is None else (found.promoted, found.rule)


def test_it_is_over_when_every_partition_is_or_one_is_further() -> None:
    assert decided([]) is None
    assert decided(hours(*[3600] * 5)) is None
    assert decided(hours(*[3600] * 6)) is not None
    assert decided(hours(*[3600] * 6) + hours(*[3600] * 2, where=THERE)) is None
    assert decided(hours(*[3600] * 7) + hours(*[3600] * 2, where=THERE)) is not None


def test_records_of_before_of_other_models_and_candidates_do_not_count() -> None:
    others = [replace(one, model="v0") for one in hours(*[9] * 6)]
    tally = shadow_of([*hours(5, 6, 7, first=7), *others, *hours(40, 2)]).tally
    assert (tally.before(DAY_NS)[1], tally.counts.windows) == (42, 42)
    other = [replace(one, shadow=ShadowCounts("v9", 8)) for one in hours(8)]
    tally = shadow_of([*other, *(replace(one, shadow=None) for one in hours(4)), *hours(1)]).tally
    assert (tally.before(DAY_NS)[1], tally.counts.windows) == (13, 1)


@pytest.mark.parametrize(
    ("counts", "promoted", "limit"),
    [
        (
            ShadowCounts("v2", 0, 0, 0, 0, 0, 0),
            True,
            2.25,
        ),  # .25 allowed in six hours, .5 ** .5 * 2 for chance
        (ShadowCounts("v2", 0, 2, 1, 5, 3, 3), True, 2.25),
        (ShadowCounts("v2", 0, 3, 0, 3, 0, 0), False, 2.25),
        (ShadowCounts("v2", 0, 3, 0, 3, 5, 0), True, 5.0),  # the model in force has shown more alone
        (ShadowCounts("v2", 0, 3, 0, 3, 5, 3), True, 2.25),
    ],
)
def test_it_may_show_alone_what_the_budget_and_chance_allow_or_the_model_in_force_shows_alone(
    counts: ShadowCounts, promoted: bool, limit: float
) -> None:
    found = decided(hours(*[3600] * 6, counts=counts))
    assert found == (promoted, Rule("shadow", counts.episodes - counts.both, limit, promoted))


def test_the_reason_says_what_both_have_shown() -> None:
    found = decision_on(
        shadow_of(hours(*[3600] * 6, counts=ShadowCounts("v2", 0, 3, 1, 4, 3, 1))),
        SPEC,
        HOUR_NS,
        [Budget(1.0)],
    )
    assert found is not None
    assert found.reason == (
        "3 episodes in shadow that the model in force did not have: 4 episodes in 21,600 windows"
        " (anomaly 3, deviation 1), 1 of them with the model in force, which had 2 more"
    )


def test_one_that_always_has_an_episode_is_refused() -> None:
    found = decided(hours(*[100] * 6, counts=ShadowCounts("v2", 0, 1, 0, 1, 0, 0, 301)))
    assert found == (False, Rule("shadow", 301, 300.0, False))
    assert decided(hours(*[100] * 6, counts=ShadowCounts("v2", 0, 1, 0, 1, 0, 0, 300))) is not None


def test_one_that_has_judged_too_little_is_given_as_much_time_again() -> None:
    lost = [replace(one, shadow=ShadowCounts("v2", 40)) for one in hours(*[100] * 12)]
    assert decided(lost[:6]) is None
    assert decided(lost[:11]) is None
    assert decided(lost) == (False, Rule("shadow", 480, 600.0, False, at_least=True))
    assert decided([*lost[:6], *hours(*[300] * 6, first=16)]) is not None


@pytest.mark.parametrize(("each", "times"), [(5, 2), (2, 3), (1, 6)])
def test_a_slow_stream_is_given_time_until_there_are_enough_windows(each: int, times: int) -> None:
    """30 windows say nothing."""
    slow = hours(*[each] * 6 * times)
    assert decided(slow[:-1]) is None
    found = decision_on(shadow_of(slow), SPEC, HOUR_NS, [Budget(1.0)])
    assert found is not None
    assert found.promoted
    assert found.reason.startswith(f"in shadow, in {times} times the time: ")
    assert found.counts.windows == 6 * each * times
    gap = hours(*[each] * 6) + hours(40, first=10 + 600)
    assert decided(gap) is None
    assert decided([*gap, *hours(*[0] * 5, first=11 + 600)]) is not None


def test_the_decision_does_not_depend_on_when_the_counts_are_read() -> None:
    first = hours(*[3600] * 6)
    late = hours(3600, counts=ShadowCounts("v2", 0, 9, 0, 9, 0, 0, 40), first=16)
    for records in (first, [*first, *late], [*late, *first[:5], *hours(3600, first=15)]):
        found = decision_on(shadow_of(records), SPEC, HOUR_NS, [Budget(1.0)])
        assert found is not None
        assert (found.promoted, found.counts) == (True, ShadowCounts("v2", 6 * 3600))


def test_windows_of_planned_stops_were_not_to_be_judged() -> None:
    stop = [replace(one, shadow=ShadowCounts("v2", 0, planned=3600)) for one in hours(*[3600] * 4)]
    assert decided([*stop, *hours(3600, 3600, first=14)]) is not None
    lost = [replace(one, shadow=ShadowCounts("v2", 0)) for one in hours(*[3600] * 4)]
    assert decided([*lost, *hours(3600, 3600, first=14)]) is None


def test_the_records_of_before_and_after() -> None:
    before = into_shadow(RECORD, 10 * HOUR_NS, 6 * HOUR_NS)
    assert before.shadow is not None
    assert (before.promoted, before.in_shadow) == (False, True)
    assert (before.shadow.since, before.shadow.until) == ("1970-01-01T10:00:00Z", "1970-01-01T16:00:00Z")
    assert DecisionRecord.read(before.written()) == before
    counts = ShadowCounts("v2", 7, 1, 2, 3, 4, 1, 5)
    after = out_of_shadow(
        before,
        "2026-01-01T07:00:00Z",
        reason="r",
        promoted=True,
        rule=Rule("shadow", 1, 2, True),
        counts=counts,
    )
    assert (after.promoted, after.in_shadow, after.reason) == (True, False, "r")
    assert after.rules[-1]["name"] == "shadow"
    assert DecisionRecord.read(after.written()) == after


# ------------------------------------------------------------------ the life of it
@cache
def candidate(threshold: float | None = None, name: str = "a") -> Bundle:
    """A twin of the model in force, or one with another threshold."""
    bundle = replace(trained_bundle(), facts={**trained_bundle().facts, "name": name})
    if threshold is not None:
        calibration = replace(bundle.calibration, threshold=threshold, closing=0.9 * threshold)
        bundle = replace(bundle, calibration=calibration)
    return bundle


def result_of(bundle: Bundle, parent: str = "") -> TrainingResult:
    gate = Decision(True, "not worse than the incumbent", (Rule("faults", 40.0, 1.0, passed=True),))
    return TrainingResult(
        True,
        gate.reason,
        bundle.version,
        bundle.to_bytes(),
        1.0,
        100,
        gate,
        parent or trained_bundle().version,
    )


def judging(**plan: Any) -> StreamRun:
    """A stream with a model, whose candidates go into shadow for five minutes."""
    plan = {"retrain_every": None, "shadow": timedelta(minutes=5), "budget": Budget(1.0)} | plan
    run = StreamRun(StreamPlan(SPEC, drift_interval=timedelta(minutes=1), **plan), clock=lambda: 0.0)
    bundle = trained_bundle()
    run.use(bundle, bundle.to_bytes(), committable=False)
    return run


def minutes(first: int, last: int, bumps: Sequence[int] = (), size: float = 1.0) -> PolledRecords:
    """Usual readings, but in the tenth to the twentieth second of these minutes, off by so much."""
    records: list[Record] = []
    for second in range(60 * first, 60 * last):
        off = size if second // 60 in bumps and 10 <= second % 60 < 20 else 0.0
        a, b = 0.5 + 0.05 * (second % 3 - 1) + off, 0.5 + 0.05 * (second % 5 - 2)
        records.append(line(second, "p1", float(second), a, b))
    return PolledRecords(PUMPS_0, records)


END = PolledRecords(PUMPS_0, (), ended=True)


class Shelf(Registry):
    """A registry whose decisions another process reads, too; ``error`` is raised by the next decision."""

    error: Exception | None = None

    async def decide(self, record: DecisionRecord, bundle: bytes | None) -> DecisionRecord:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return await super().decide(record, bundle)

    async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
        return self.decided if to_the_end else ()


async def lived(
    run: StreamRun,
    registry: Shelf | None,
    result: TrainingResult | None,
    *polls: PolledRecords | str,
    clock: Callable[[], float] | None = None,
) -> tuple[Status, list[dict[str, Any]]]:
    """The life of a stream whose training ends after the first poll; a text promotes a version after a poll."""
    loops: list[Any] = []

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        for i, poll in enumerate((*polls, END)):
            if isinstance(poll, str):
                assert registry is not None
                registry.pointers["pumps"] = registry.bundles[poll]
                registry.news = [("pumps", registry.bundles[poll], "kim, by hand")]
                continue
            yield poll
            if i == 0 and result is not None:
                await loops[0].lifecycle.training_ended(run, result)
            for _ in range(20):
                await asyncio.sleep(0)
            yield PolledRecords(PUMPS_0, ())

    source = Script([])
    source.events = events  # type: ignore[method-assign]
    loop, _, status = loop_over(source, run, registry, clock=clock or Ticking())
    loops.append(loop)
    with capture_logs() as logs:
        await loop.run()
    return status, logs  # type: ignore[return-value]


def shelf() -> Shelf:
    bundle = trained_bundle()
    return Shelf(pointers={"pumps": bundle.to_bytes()}, bundles={bundle.version: bundle.to_bytes()})


def decisions(registry: Registry) -> list[tuple[str, bool, bool]]:
    """Version, promoted, in shadow."""
    return [(one.version, one.promoted, one.in_shadow) for one in registry.decided]


@pytest.mark.parametrize("kept", [True, False])
async def test_a_candidate_judges_for_its_time_and_then_takes_over(kept: bool) -> None:
    run, mine, registry = judging(), candidate(), shelf() if kept else None
    polls = [minutes(0, 1), *(minutes(i, i + 1, [3, 4]) for i in range(1, 10))]
    status, logs = await lived(run, registry, result_of(mine), *polls)
    assert list(dict.fromkeys(run.versions)) == [trained_bundle().version, mine.version]
    assert run.shadow is None
    assert [(one.version, one.promoted) for one in run.outcomes] == [(mine.version, True)]
    assert run.outcomes[0].reason.startswith("in shadow: 2 episodes in ")
    events = [entry for entry in logs if entry["event"].startswith("shadow")]
    assert [entry["event"] for entry in events] == ["shadow_begun", "shadow_over"]
    assert events[0]["since"] == "2023-11-14T22:14:19Z"
    assert events[0]["until"] == "2023-11-14T22:19:19Z"
    assert (events[1]["episodes"], events[1]["both"]) == (2, 2)
    assert status.streams["pumps"].shadow is None
    if registry is not None:
        assert decisions(registry) == [(mine.version, False, True), (mine.version, True, False)]
        assert registry.pointers["pumps"] == mine.to_bytes()
        last = registry.decided[-1]
        assert [rule["name"] for rule in last.rules] == ["faults", "shadow"]
        assert last.shadow is not None
        assert last.shadow.counts is not None
        assert last.shadow.counts.windows > 250


async def test_one_with_too_many_episodes_is_refused_by_the_rule_shadow() -> None:
    run, mine, registry = judging(), candidate(2.0), shelf()
    polls = [minutes(i, i + 1, range(1, 9), 0.15) for i in range(10)]
    status, _ = await lived(run, registry, result_of(mine), *polls)
    assert list(dict.fromkeys(run.versions)) == [trained_bundle().version]
    assert decisions(registry) == [(mine.version, False, True), (mine.version, False, False)]
    rule = registry.decided[-1].rules[-1]
    assert (rule["name"], rule["passed"]) == ("shadow", False)
    (change,) = [one for one in status.streams["pumps"].models if one.version == mine.version]
    assert change.result == "refused"
    assert [(one.version, one.promoted) for one in run.outcomes] == [(mine.version, False)]


async def test_without_the_setting_and_for_a_first_model_there_is_no_shadow() -> None:
    run, mine, registry = judging(shadow=None), candidate(), shelf()
    await lived(run, registry, result_of(mine), minutes(0, 1), minutes(1, 2))
    assert decisions(registry) == [(mine.version, True, False)]


async def test_another_promotion_ends_it_and_is_published() -> None:
    run, mine, registry = judging(), candidate(), shelf()
    other = candidate(name="other")
    registry.bundles[other.version] = other.to_bytes()
    polls = [minutes(i, i + 1) for i in range(10)]
    await lived(run, registry, result_of(mine), *polls[:3], other.version, *polls[3:])
    assert list(dict.fromkeys(run.versions)) == [trained_bundle().version, other.version]
    assert decisions(registry) == [(mine.version, False, True), (mine.version, False, False)]
    assert registry.decided[-1].reason == f"another model is in use since: {other.version}"
    assert registry.decided[-1].shadow is not None
    assert registry.decided[-1].shadow.void


async def test_people_may_put_it_in_use_at_once() -> None:
    run, mine, registry = judging(), candidate(), shelf()
    polls = [minutes(i, i + 1) for i in range(10)]
    status, _ = await lived(run, registry, result_of(mine), *polls[:3], mine.version, *polls[3:])
    assert list(dict.fromkeys(run.versions)) == [trained_bundle().version, mine.version]
    models = [(one.version, one.result) for one in status.streams["pumps"].models]
    assert models == [(trained_bundle().version, "restored"), (mine.version, "promoted")]
    assert decisions(registry) == [(mine.version, False, True), (mine.version, False, False)]
    assert registry.decided[-1].reason == "it was put in use before its time in shadow was over"
    assert registry.pointers["pumps"] == mine.to_bytes()


async def test_a_new_candidate_takes_its_place() -> None:
    run, mine, registry = judging(), candidate(), shelf()
    other = candidate(name="other")
    polls = [minutes(i, i + 1) for i in range(12)]
    await lived(run, registry, result_of(mine), *polls[:3])
    assert run.shadow is not None
    assert run.shadow.record.version == mine.version
    await lived(run, registry, result_of(other), *polls[3:])
    assert run.versions[-1] == other.version
    assert [one[0] for one in decisions(registry)] == [mine.version, other.version, other.version]


async def test_after_a_restart_it_goes_on_as_the_decisions_say() -> None:
    first, mine, registry = judging(), candidate(), shelf()
    polls = [minutes(i, i + 1) for i in range(12)]
    await lived(first, registry, result_of(mine), *polls[:3])
    second = judging()
    _, logs = await lived(second, registry, None, *polls[3:])
    assert [entry["until"] for entry in logs if entry["event"] == "shadow_begun"] == ["2023-11-14T22:19:19Z"]
    assert second.versions == [trained_bundle().version] * 2 + [mine.version]
    assert decisions(registry)[-1] == (mine.version, True, False)


async def test_decisions_that_come_again_begin_no_shadow_that_is_over() -> None:
    run, mine, registry = judging(), candidate(), shelf()
    polls = [minutes(i, i + 1) for i in range(12)]

    class Again(Shelf):
        async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
            return self.decided[:1]  # as after a reconnect, some of them at first

    again = Again(pointers=registry.pointers, bundles=registry.bundles)
    _, logs = await lived(run, again, result_of(mine), *polls)
    assert decisions(again) == [(mine.version, False, True), (mine.version, True, False)]
    assert [one["event"] for one in logs].count("shadow_begun") == 1


async def test_a_bundle_that_cannot_be_read_ends_it() -> None:
    first, mine, registry = judging(), candidate(), shelf()
    polls = [minutes(i, i + 1) for i in range(8)]
    await lived(first, registry, result_of(mine), *polls[:3])
    registry.bundles[mine.version] = b"damaged"
    second = judging()
    await lived(second, registry, None, *polls[3:])
    assert mine.version not in second.versions
    assert decisions(registry)[-1] == (mine.version, False, False)


@pytest.mark.parametrize("error", [OvertakenError("another process trains pumps now"), BrokerError("away")])
async def test_a_decision_that_cannot_be_published_is_made_again(error: Exception) -> None:
    run, mine, registry = judging(), candidate(), shelf()
    polls = [minutes(i, i + 1) for i in range(8)]
    await lived(run, registry, result_of(mine), *polls[:3])
    registry.error = error
    await lived(run, registry, None, *polls[3:], *([PolledRecords(PUMPS_0, ())] * 20))
    assert registry.error is None
    assert run.versions[-1] == mine.version


async def test_one_that_cannot_take_over_as_the_pointer_has_moved_is_over() -> None:
    """Also where what it points to is not in use: a bundle that is damaged, perhaps."""
    run, mine, registry = judging(), candidate(), shelf()
    polls = [minutes(i, i + 1) for i in range(8)]
    await lived(run, registry, result_of(mine), *polls[:3])
    registry.error = PointerMovedError("another model was promoted while it was in shadow: v9")
    status, _ = await lived(run, registry, None, *polls[3:], clock=lambda: 0.0)
    assert run.shadow is None
    assert mine.version not in run.versions
    assert decisions(registry) == [(mine.version, False, True), (mine.version, False, False)]
    assert registry.decided[-1].reason == "another model was promoted while it was in shadow: v9"
    assert registry.decided[-1].shadow is not None
    assert registry.decided[-1].shadow.void
    assert mine.version not in [one.version for one in status.streams["pumps"].models]


async def test_decisions_that_come_again_after_a_reconnect_leave_it_in_shadow() -> None:
    """Also where an older one of them has promoted another model."""
    run, mine, registry = judging(), candidate(), shelf()
    first = replace_struct(replace_record(trained_bundle()), parent="", promoted=True)

    class Again(Shelf):
        calls = 0

        async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
            self.calls += 1
            return list(self.decided) if to_the_end or self.calls == 4 else ()

    again = Again(pointers=registry.pointers, bundles=registry.bundles, decided=[first])
    _, logs = await lived(run, again, result_of(mine), *(minutes(i, i + 1) for i in range(10)))
    assert decisions(again)[1:] == [(mine.version, False, True), (mine.version, True, False)]
    assert [one["event"] for one in logs].count("shadow_begun") == 1


async def test_what_is_promoted_is_used_though_the_candidate_in_shadow_cannot_be_read_now() -> None:
    run, mine, other, registry = judging(), candidate(), candidate(name="other"), shelf()

    class Away(Shelf):
        tries = 0

        async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
            return () if to_the_end else [into_shadow(replace_record(mine), 0, DAY_NS)]

        async def kept(self, stream: str, version: str) -> bytes:
            self.tries += 1
            raise BrokerError("Kafka sent nothing for 30 s")

    away = Away(pointers=registry.pointers, bundles={other.version: other.to_bytes()})
    run.trainer = Busy()  # type: ignore[assignment] - nothing is decided here
    polls = [minutes(i, i + 1) for i in range(6)]
    await lived(run, away, None, *polls[:3], other.version, *polls[3:])
    assert away.tries > 0
    assert run.version == other.version


@pytest.mark.parametrize("shadowed", [True, False])
def test_no_training_is_due_but_on_request_while_one_is_in_shadow(shadowed: bool) -> None:
    run = judging(retrain_every=timedelta(minutes=1))
    pipeline = run.open(Assigned(PUMPS_0, 0, 0))
    mine = candidate()
    if shadowed:
        run.begin_shadow(into_shadow(replace_record(mine), 0, DAY_NS), mine.to_bytes(), mine)
    due = []
    for minute in range(4):
        for _ in pipeline.feed(minutes(minute, minute + 1)):
            due.append(run.next_job() is not None)
    assert any(due) is not shadowed
    run.schedule.received(Received(4, 0, RetrainRequest("pumps")))
    assert run.next_job() is not None


async def test_a_decision_that_cannot_be_published_is_not_tried_without_end() -> None:
    run, mine, registry = judging(), candidate(), shelf()
    polls = [minutes(i, i + 1) for i in range(8)]
    await lived(run, registry, result_of(mine), *polls[:3])

    class Away(Shelf):
        tries = 0

        async def decide(self, record: DecisionRecord, bundle: bytes | None) -> DecisionRecord:
            self.tries += 1
            raise BrokerError("away")

    away = Away(pointers=registry.pointers, bundles=registry.bundles, decided=registry.decided)
    await lived(run, away, None, *polls[3:], *([PolledRecords(PUMPS_0, ())] * 20), clock=lambda: 0.0)
    assert away.tries == 1
    assert run.shadow is not None


def test_another_model_ends_it_at_once() -> None:
    run, mine, other = judging(), candidate(), candidate(name="other")
    pipeline = run.open(Assigned(PUMPS_0, 0, 0))
    run.begin_shadow(into_shadow(replace_record(mine), 0, DAY_NS), mine.to_bytes(), mine)
    assert run.open(Assigned(THERE, 0, 0)).parts.shadow.model == mine.version
    run.use(other, other.to_bytes(), committable=True)
    assert run.shadow is run.history.shadow is None
    assert not pipeline.parts.shadow.on


async def test_one_whose_parent_is_not_in_force_does_not_judge() -> None:
    run, mine, registry = judging(), candidate(), shelf()
    registry.bundles[mine.version] = mine.to_bytes()
    record = replace_record(mine)
    registry.decided = [into_shadow(replace_struct(record, parent="another"), 0, DAY_NS)]
    run.trainer = Busy()  # type: ignore[assignment] - nothing is decided here
    _, logs = await lived(run, registry, None, minutes(0, 1), minutes(1, 2))
    assert "shadow_begun" not in [one["event"] for one in logs]
    assert len(registry.decided) == 1


class Busy(PromptTrainer):
    """A training that does not end."""

    busy = True  # type: ignore[assignment]


def replace_record(bundle: Bundle) -> DecisionRecord:
    return DecisionRecord(
        "pumps", TriggerFact("schedule"), True, "", "", bundle.version, trained_bundle().version
    )


def test_another_budget_goes_on_with_the_same_candidate() -> None:
    run, mine = judging(), candidate()
    pipeline = run.open(Assigned(PUMPS_0, 0, 0))
    run.begin_shadow(into_shadow(replace_record(mine), 0, DAY_NS), mine.to_bytes(), mine)
    before = run.shadow
    assert before is not None
    run.reconfigure(replace(run.plan, budget=Budget(24.0)))
    assert run.shadow is not None
    assert run.shadow.tally is before.tally
    assert run.shadow.detector.threshold < before.detector.threshold
    assert pipeline.parts.shadow.model == mine.version
