"""What becomes of a training: a record of every one, which answers requests, by one process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from daemon.adapters.registry import DecisionRecord, Span, TriggerFact
from daemon.control import Received, RetrainRequest
from daemon.domain import SECOND_NS, iso
from daemon.errors import BrokerError, OvertakenError
from daemon.model.bundle import Bundle
from daemon.model.decision import Decision, Rule
from daemon.runtime.deciding import record_of
from daemon.runtime.stream_run import StreamRun
from daemon.runtime.trainer import TrainingResult
from daemon.trigger import Cause, Trigger
from tests.runtime.scripted import (
    EVERY_S,
    GRID_S,
    MeasuredHistory,
    Registry,
    Script,
    assigned_then,
    fed_until,
    leading_stream,
    loop_over,
    run_loop,
    trained_bundle,
)

HOUR_NS = 3600 * 10**9
RESULT = TrainingResult(
    False,
    "finds 80.0% of 210 injected faults, the incumbent 99.0%",
    "v2",
    b"bundle",
    12.34,
    100,
    Decision(False, "finds 80.0%", (Rule("faults_lost", 40.0, 12.5, passed=False),)),
    parent="v1",
    span_ns=(0, HOUR_NS),
    until_ns=HOUR_NS,
    left_out={"alerts": 12},
    concerns=("flat",),
    notes=("the alerts begin late",),
)


def test_a_record_says_what_was_learned_and_which_rule_refused() -> None:
    record = record_of(
        "pumps", RESULT, Trigger(Cause.REQUEST, "kim asked", 7, (3, 7)), "2026-01-01T00:00:00Z"
    )
    assert record == DecisionRecord(
        stream="pumps",
        trigger=TriggerFact("request", "kim asked", 7, (3, 7)),
        promoted=False,
        reason=RESULT.reason,
        time="2026-01-01T00:00:00Z",
        version="v2",
        parent="v1",
        rules=({"name": "faults_lost", "figure": 40.0, "limit": 12.5, "at_least": False, "passed": False},),
        span=Span("1970-01-01T00:00:00Z", "1970-01-01T01:00:00Z"),
        until="1970-01-01T01:00:00Z",
        rows=100,
        left_out={"alerts": 12},
        concerns=("flat",),
        notes=("the alerts begin late",),
        seconds=12.3,
    )
    assert DecisionRecord.read(record.written()) == record


class Refusing(Registry):
    """Somebody else decides meanwhile, or the broker is away."""

    error: Exception = OvertakenError("another process trains pumps now")

    async def decide(self, record: DecisionRecord, bundle: bytes | None) -> DecisionRecord:
        raise self.error


def asked(run: StreamRun, position: int = 4) -> Trigger:
    """A request is heard, and its training is taken up."""
    run.schedule.received(Received(position, 0, RetrainRequest("pumps")))
    job = run.next_job()
    assert job is not None
    run.trigger = job.trigger
    return job.trigger


def running(now: list[float]) -> tuple[StreamRun, Bundle]:
    bundle = trained_bundle()
    run = leading_stream(MeasuredHistory(), bundle, every_s=None, clock=lambda: now[0])
    return fed_until(run, EVERY_S), bundle


async def ended(run: StreamRun, registry: Registry, result: TrainingResult) -> list[str]:
    """Process a result, and all that follows from it; what the page says of it."""
    loop, _, status = loop_over(Script([]), run, registry)
    await loop.lifecycle.training_ended(run, result)
    for _ in range(5):  # what it began goes on between two looks
        await asyncio.sleep(0)
        await loop.lifecycle.advance(run)
    await loop.lifecycle.stop()
    return [f"{change.result}: {change.reason}" for change in status.streams["pumps"].models]


@pytest.mark.parametrize("bundle", [b"bundle", None])
async def test_a_refused_candidate_goes_to_the_registry_with_its_decision_and_answers_requests(
    bundle: bytes | None,
) -> None:
    run, _ = running([0.0])
    asked(run)
    registry = Registry()
    said = await ended(run, registry, replace(RESULT, bundle=bundle, parent=run.version))
    assert [(record.promoted, record.version, record.trigger.requests) for record in registry.decided] == [
        (False, "v2", (4,))
    ]
    assert registry.pointers == {}
    assert not run.schedule.requested
    assert said == [f"{'refused' if bundle else 'failed'}: {RESULT.reason}"]


async def test_a_candidate_that_was_overtaken_is_trained_again() -> None:
    now = [0.0]
    run, bundle = running(now)
    asked(run)
    said = await ended(run, Refusing(), replace(RESULT, promoted=True, parent=bundle.version))
    assert said == ["failed: another process trains pumps now"]
    assert run.versions == [bundle.version]
    assert run.schedule.requested
    assert run.next_job() is None
    now[0] = 11.0
    assert run.next_job() is not None


async def test_a_candidate_that_was_compared_with_another_model_is_not_published() -> None:
    run, bundle = running([0.0])
    asked(run)
    registry = Registry()
    said = await ended(run, registry, replace(RESULT, promoted=True, parent="another"))
    assert said == [f"failed: another model is in use since it was trained: {bundle.version}"]
    assert registry.decided == []
    assert run.schedule.requested


async def test_a_decision_that_cannot_be_published_answers_nothing_and_is_not_tried_without_end() -> None:
    now = [0.0]
    run, _ = running(now)
    asked(run)
    registry = Refusing()
    registry.error = BrokerError("no broker")
    await ended(run, registry, replace(RESULT, parent=run.version))
    assert run.schedule.requested
    now[0] = 299.0
    assert run.next_job() is None
    now[0] = 301.0
    assert run.next_job() is not None


async def test_a_training_that_was_refused_before_a_restart_is_not_repeated_by_schedule() -> None:
    for until, due in (("", True), (iso((GRID_S + EVERY_S) * SECOND_NS), False)):
        facts = {**trained_bundle().facts, "trained_until": GRID_S * SECOND_NS}
        bundle = replace(trained_bundle(), facts=facts)
        run = leading_stream(MeasuredHistory(), bundle)
        registry = Elsewhere(pointers={"pumps": bundle.to_bytes()})
        registry.records = [DecisionRecord("pumps", TriggerFact("schedule"), False, "", "", until=until)]
        await run_loop(run, assigned_then(), registry)
        assert (fed_until(run, EVERY_S + 100).next_job() is not None) is due
        assert fed_until(run, 2 * EVERY_S + 100).next_job() is not None


class Elsewhere(Registry):
    """Another replica has decided."""

    records: Sequence[DecisionRecord] = ()

    async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
        return self.records if to_the_end else []


async def test_a_request_that_was_answered_before_a_start_or_elsewhere_is_not_due_again() -> None:
    run, bundle = running([0.0])
    registry = Elsewhere(pointers={"pumps": bundle.to_bytes()})
    answer = TriggerFact("request", "", 4, (4,))
    drift = TriggerFact("drift", "", 3)
    registry.records = [
        DecisionRecord("pumps", drift, False, "", ""),
        DecisionRecord("pumps", answer, False, "", ""),
        DecisionRecord("fans", TriggerFact("request", "", 99), False, "", ""),
    ]
    _, status = await run_loop(run, assigned_then(), registry)
    assert list(status.streams["pumps"].decisions) == registry.records[:2]
    fed_until(run, EVERY_S)
    run.schedule.received(Received(4, 0, RetrainRequest("pumps")))
    assert run.next_job() is None
    run.schedule.received(Received(5, 0, RetrainRequest("pumps")))
    assert run.next_job() is not None
