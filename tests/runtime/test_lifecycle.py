"""The life of a model: trained, kept, promoted, followed, given up and withdrawn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from daemon.adapters.telemetry import Lifecycle, Status
from daemon.detector import Evidence, Verdicts, Windows
from daemon.domain import (
    Assigned,
    Floats,
    InputPartition,
    Ints,
    ModelSettings,
    PolledRecords,
    Progress,
    Segment,
    SourceEvent,
)
from daemon.errors import BrokerError
from daemon.model.bundle import Bundle
from daemon.runtime.history import FoundHistory, UnreadHistory
from daemon.runtime.options import Hold
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.runtime.trainer import TrainingJob, TrainingResult, learn
from tests.fakes import CentreDetector, PromptTrainer
from tests.runtime.scripted import (
    NO_PARTITION,
    PUMPS_0,
    SPEC,
    FailingRegistry,
    MeasuredHistory,
    Registry,
    Script,
    Ticking,
    assigned_then,
    learning_stream,
    loop_over,
    run_loop,
    steady,
    stream,
    trained_bundle,
    trained_rows,
    varied,
)


class Blind(CentreDetector):
    """Returns no score for windows that it could score."""

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        verdicts = super().judge(evidence, baseline, slots, static=static)
        return replace(verdicts, score=np.full(len(verdicts.score), np.nan))


class Raising(CentreDetector):
    def infer(self, windows: Windows) -> Evidence:
        raise FloatingPointError("always")


class Unjudging(CentreDetector):
    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        raise FloatingPointError("always")


async def test_a_candidate_that_the_registry_cannot_keep_is_not_used() -> None:
    run = stream()
    source = Script([PolledRecords(PUMPS_0, steady(20)), PolledRecords(PUMPS_0, (), ended=True)])
    shelf = FailingRegistry()
    loop, _, status = loop_over(source, run, shelf)
    outcome = TrainingResult(True, "better", "v2", b"a bundle", 1.0, 100)

    async def script() -> None:
        await loop.lifecycle.training_ended(run, outcome)
        await loop.run()

    with capture_logs() as logs:
        await script()
    assert run.detector == CentreDetector(SPEC.sensors)
    assert source.commits[-1].position.offset == 20
    (change,) = status.streams["pumps"].models
    assert (change.version, change.result) == ("v2", "failed")
    assert change.reason.startswith("it could not be kept: a message of 9 bytes is too large")
    assert shelf.polled
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"].count("registry_unread") == 1


@pytest.mark.parametrize("bad", [Blind, Raising, Unjudging])
@pytest.mark.parametrize("earlier", [True, False])
async def test_a_model_that_fails_is_replaced_by_the_one_before(
    bad: type[CentreDetector], earlier: bool
) -> None:
    run = StreamRun(StreamPlan(SPEC, learn_rows=10_000, retrain_every=None))
    sound = trained_bundle().to_bytes()
    if earlier:
        run.use(Bundle.from_bytes(sound), sound, committable=False)
        run.fallback.model_used(sound)
    run.detector = bad(SPEC.sensors, SPEC.window, "v2")
    polls = [PolledRecords(PUMPS_0, steady(30, 30 * i)) for i in range(6)]
    registry = Registry(fails=1)
    source = Script([*polls, PolledRecords(PUMPS_0, (), ended=True)])
    loop, metrics, status = loop_over(source, run, registry)
    loop.streams[0].bundle = None
    with capture_logs() as logs:
        await loop.run()
    events = [entry["event"] for entry in logs]
    assert events.count("model_given_up") == 1
    assert events.count("windows_unscored") == 1
    page = status.streams["pumps"]
    (change,) = [change for change in page.models if change.result == "rolled_back"]
    text = metrics.exposition().decode()
    assert 'anomalyd_model_promotions_total{result="rolled_back",stream="pumps"} 1.0' in text
    assert events.count("model_not_withdrawn") == 1
    if earlier:
        assert run.detector is not None
        assert run.detector.version == page.model == change.version == trained_bundle().version
        assert "model v2 is given up: it failed on" in change.reason
        assert run.scored > 100
        assert page.state is Lifecycle.LIVE
    else:
        assert run.detector is None
        assert run.scored == 0
        assert page.state is Lifecycle.LEARNING
        assert (page.model, change.version) == (None, "v2")
        assert "there is no model before it" in change.reason
        assert 'anomalyd_model_info{stream="pumps",version="none"} 1.0' in text
    assert source.commits[-1].position.offset == 180


async def test_a_model_that_always_fails_is_not_called_for_every_window() -> None:
    asked: list[int] = []

    class Counting(Raising):
        def infer(self, windows: Windows) -> Evidence:
            asked.append(len(windows))
            return super().infer(windows)

    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = Counting(SPEC.sensors, SPEC.window, "v2")
    loop, metrics, _ = loop_over(Script([PolledRecords(PUMPS_0, steady(4_000))]), run)
    await loop.run()
    assert len(asked) < 40
    assert sum(asked) < 4 * 4_000
    assert b'anomalyd_dropped_total{reason="model_failed",stream="pumps"} 3997.0' in metrics.exposition()


async def test_a_successor_restores_the_state_of_a_stream_without_a_model() -> None:
    run = StreamRun(StreamPlan(SPEC, learn_rows=10_000, retrain_every=None))
    run.detector = Raising(SPEC.sensors, SPEC.window, "v2")
    source = Script([PolledRecords(PUMPS_0, steady(30, 30 * i)) for i in range(4)])
    await loop_over(source, run)[0].run()
    assert run.detector is None
    saved = {record.key: record for work in source.commits for record in work.saved}
    position = source.commits[-1].position
    for bundle in (None, trained_bundle().to_bytes()):
        successor = StreamRun(StreamPlan(SPEC, learn_rows=10_000, retrain_every=None))
        successor.bundle = bundle
        replayed = steady(120 - position.replay_from, position.replay_from)
        polls = [PolledRecords(PUMPS_0, replayed), PolledRecords(PUMPS_0, steady(30, 120))]
        loop, metrics, _ = loop_over(
            Script(polls, tuple(saved.values()), position.offset, position.replay_from), successor
        )
        await loop.run()
        assert b'anomalyd_state_restores_total{result="ok"} 1.0' in metrics.exposition()
        assert successor.scored >= (30 if bundle is not None else 0)


async def test_a_model_that_is_given_up_is_withdrawn() -> None:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = Raising(SPEC.sensors, SPEC.window, "v2")
    registry = Registry()
    loop, _, _ = loop_over(
        Script([PolledRecords(PUMPS_0, steady(30)), PolledRecords(PUMPS_0, steady(30, 30))]), run, registry
    )
    await loop.run()
    ((stream_name, version, reason),) = registry.withdrawn
    assert (stream_name, version) == ("pumps", "v2")
    assert reason.startswith("it failed on")


async def test_a_promotion_by_hand_is_reported_with_its_reason() -> None:
    run, bundle = StreamRun(StreamPlan(SPEC, retrain_every=None)), trained_bundle()
    registry = Registry(
        news=[("pumps", bundle.to_bytes(), "rolled back from v2: it alarms all night, by kim")]
    )
    loop, _, status = loop_over(Script([PolledRecords(PUMPS_0, steady(30))]), run, registry)
    await loop.run()
    (change,) = status.streams["pumps"].models
    assert change.version == bundle.version
    assert change.reason == "promoted in the registry: rolled back from v2: it alarms all night, by kim"


async def test_a_version_that_was_given_up_is_refused_from_registry_and_training() -> None:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    bundle = trained_bundle()
    run.fallback.give_up(bundle.version)
    registry = Registry(pointers={"pumps": bundle.to_bytes()})
    registry.news = [("pumps", bundle.to_bytes(), "by hand")]
    loop, metrics, status = loop_over(Script([PolledRecords(PUMPS_0, steady(30))]), run, registry)
    with capture_logs() as logs:
        await loop.run()
        await loop.lifecycle.training_ended(
            run, TrainingResult(True, "better", bundle.version, bundle.to_bytes(), 1.0, 100)
        )
        await asyncio.sleep(0)  # the decision is published
        await loop.lifecycle.advance(run)
    assert run.detector is None
    refused = [entry for entry in logs if entry["event"] == "bundle_refused"]
    assert len(refused) == 1  # logged once a minute
    assert "is not used again: it failed on" in refused[0]["reason"]
    assert 'anomalyd_bundle_refused_total{source="registry"} 2.0' in metrics.exposition().decode()
    assert [change.result for change in status.streams["pumps"].models] == ["refused"]


async def test_at_the_start_an_unusable_promoted_bundle_is_replaced_by_the_one_before() -> None:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    registry = Registry(pointers={"pumps": b"rubbish"}, earlier={"pumps": trained_bundle().to_bytes()})
    loop, metrics, _ = loop_over(Script([]), run, registry)
    with capture_logs() as logs:
        await loop.run()
    assert run.detector is not None
    assert [entry["event"] for entry in logs].count("bundle_refused") == 1
    assert 'anomalyd_bundle_refused_total{source="registry"} 1.0' in metrics.exposition().decode()


async def test_a_trained_bundle_that_is_not_admitted_does_not_end_the_daemon() -> None:
    run = stream()
    loop, metrics, status = loop_over(Script([]), run)
    with capture_logs() as logs:
        await loop.lifecycle.training_ended(run, TrainingResult(True, "better", "v2", b"rubbish", 1.0, 100))
    assert run.detector == CentreDetector(SPEC.sensors)
    assert [entry["event"] for entry in logs][-2:] == ["bundle_refused", "model_refused"]
    assert [change.result for change in status.streams["pumps"].models] == ["failed"]
    assert 'anomalyd_bundle_refused_total{source="training"} 1.0' in metrics.exposition().decode()


async def test_the_history_of_a_stream_without_records_is_measured() -> None:
    history = MeasuredHistory()
    run = StreamRun(StreamPlan(SPEC, learn_rows=100), history=history)
    polls = [PolledRecords(PUMPS_0, ())] * 5
    await run_loop(run, assigned_then(*polls), clock=Ticking(20.0))
    assert history.measurements > 1


async def test_a_measurement_of_the_history_that_fails_is_logged_and_repeated() -> None:
    class Away(MeasuredHistory):
        async def measure(self) -> None:
            await super().measure()
            raise BrokerError("no broker")

    history = Away()
    run = StreamRun(StreamPlan(SPEC, learn_rows=100), history=history)
    with capture_logs() as logs:
        await run_loop(run, assigned_then(*[PolledRecords(PUMPS_0, ())] * 9), clock=Ticking(20.0))
    assert history.measurements > 1
    assert [(e["event"], e["reason"]) for e in logs if e["log_level"] == "warning"] == [
        ("history_unread", "no broker")
    ]


class Keeping(Registry):
    """A registry that others can read before ``promote`` has returned, as a topic is."""

    def __init__(self) -> None:
        super().__init__()
        self.may_return = asyncio.Event()

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        self.news.append((stream, bundle, reason))
        await self.may_return.wait()
        await super().promote(stream, bundle, version, reason)


@pytest.mark.parametrize("idle", [PUMPS_0, NO_PARTITION])
async def test_a_bundle_that_is_being_kept_is_not_taken_for_another_replica_s(idle: InputPartition) -> None:
    """Neither while it is being kept nor afterwards, whether or not anything more comes of its stream."""
    clock = Ticking()
    run, registry = learning_stream(clock=clock), Keeping()
    source = Script([])

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        yield PolledRecords(PUMPS_0, varied(420))
        for turn in range(20):
            if turn == 10:
                assert run.versions == []  # in force only once it is kept
                registry.may_return.set()
            await asyncio.sleep(0)  # whatever else there is to be done
            yield PolledRecords(idle, ())

    source.events = events  # type: ignore[method-assign]
    loop, metrics, status = loop_over(source, run, registry, clock=clock)
    with capture_logs() as logs:
        await loop.run()
    assert registry.news == []  # it was asked
    assert len(run.versions) == 1
    assert [(c.result, c.reason) for c in status.streams["pumps"].models] == [("promoted", "first model")]
    assert [entry["event"] for entry in logs].count("model_promoted") == 1
    assert 'promotions_total{result="promoted",stream="pumps"} 1.0' in metrics.exposition().decode()


class Slow(Registry):
    """A registry that takes a while to keep a bundle."""

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        await super().promote(stream, bundle, version, reason)


@pytest.mark.parametrize("kept", [True, False])
async def test_with_hold_always_the_first_model_judges_from_the_row_after_its_training_on(
    kept: bool,
) -> None:
    """However large the polls are, and also where a registry is to keep the model first."""
    for size in (1_000, 130):
        run, records = learning_stream(), varied(1_000)
        polls = [PolledRecords(PUMPS_0, records[i : i + size]) for i in range(0, 1_000, size)]
        ended = PolledRecords(PUMPS_0, (), ended=True)
        models = Slow() if kept else None
        await run_loop(run, assigned_then(*polls, ended), models, hold=Hold.ALWAYS, checkpoints=False)
        assert trained_rows(run) == [400]
        assert run.scored == 600
        assert run.detector is not None


async def test_with_hold_first_the_input_waits_for_the_first_model_only() -> None:
    run = learning_stream(retrain_every=timedelta(seconds=300), retrain_rows=400)
    run.trainer = PromptTrainer(polls=3)  # type: ignore[assignment]
    busy = []

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        for i in range(0, 800, 100):
            yield PolledRecords(PUMPS_0, varied(100, i))
            busy.append((i + 100, run.trainer.busy, status.streams["pumps"].training))

    status = Status(["pumps"])
    await run_loop(run, events(), hold=Hold.FIRST, status=status)
    assert [at for at, waits, _ in busy if waits] == [at for at, _, training in busy if training] != []
    assert min(at for at, waits, _ in busy if waits) > 400
    assert len(run.versions) == 2
    first, second, *_ = run.trainer.jobs
    assert first.incumbent is None
    assert second.incumbent is not None
    assert Bundle.from_bytes(second.incumbent).version == run.versions[0]
    assert second.drift_rows == 3_600


async def test_a_running_training_ends_with_the_loop() -> None:
    run = learning_stream()
    run.trainer = PromptTrainer(polls=1 << 62)  # type: ignore[assignment]
    await run_loop(run, assigned_then(PolledRecords(PUMPS_0, varied(420))))
    assert trained_rows(run) == [400]
    assert not run.trainer.busy


def no_bundle(order: TrainingJob) -> TrainingResult:
    return TrainingResult(True, "better", "v2", b"rubbish", 1.0, 100)


def given_up(order: TrainingJob) -> TrainingResult:
    return replace(learn(order), version="v1")


@pytest.mark.parametrize(
    ("taught", "models"),
    [(learn, FailingRegistry()), (no_bundle, None), (no_bundle, Registry()), (given_up, None)],
)
async def test_a_first_training_without_a_model_is_repeated_with_half_as_many_rows_more(
    taught: Callable[[TrainingJob], TrainingResult], models: Any
) -> None:
    """It could not be kept; or is none; or has failed here before."""
    run = learning_stream()
    run.trainer = PromptTrainer(taught)  # type: ignore[assignment]
    run.fallback.give_up("v1")
    polls = [PolledRecords(PUMPS_0, varied(100, i)) for i in range(0, 1_000, 100)]
    await run_loop(run, assigned_then(*polls), models, hold=Hold.ALWAYS)
    assert trained_rows(run) == [400, 600, 900]
    assert run.detector is None


async def test_a_first_training_that_is_repeated_takes_the_same_rows() -> None:
    clock = Ticking()
    run = StreamRun(StreamPlan(SPEC, learn_rows=100), history=MeasuredHistory(100), clock=clock)
    run.trainer = PromptTrainer(lambda order: TrainingResult(False, "away", "", None, 0.0, 0, later=True))  # type: ignore[assignment]

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        for _ in range(40):
            clock.now += 20.0
            yield PolledRecords(PUMPS_0, ())

    await run_loop(run, events(), hold=Hold.ALWAYS, clock=clock)
    wanted = {order.history[0].asset for order in run.trainer.jobs}  # type: ignore[attr-defined]
    assert wanted == {"first 100, at least 100"}
    assert len(run.trainer.jobs) > 3  # type: ignore[attr-defined]


async def test_notes_on_a_history_are_logged() -> None:
    class Noted:
        def read(self, progress: Progress) -> FoundHistory:
            rows = np.random.default_rng(0).standard_normal((600, 2))
            return FoundHistory([Segment("p1", 0, rows)], notes=["the alerts begin late"])

    class ReplicaHistory(MeasuredHistory):
        def first(self, rows: int, least: int) -> UnreadHistory:
            return Noted()

    run = StreamRun(StreamPlan(SPEC, model=ModelSettings(kind="ppca")), history=ReplicaHistory(10_000))
    run.trainer = PromptTrainer()  # type: ignore[assignment]
    with capture_logs() as logs:
        await run_loop(run, assigned_then(PolledRecords(PUMPS_0, ()), PolledRecords(PUMPS_0, ())))
    assert run.detector is not None
    assert [e["note"] for e in logs if e["event"] == "training_history"] == ["the alerts begin late"]


async def test_the_registry_s_model_comes_before_the_one_given_at_the_start() -> None:
    ours, theirs = trained_bundle(0.5), trained_bundle(0.7)
    for pointers, expected in (({"pumps": theirs.to_bytes()}, theirs), ({}, ours)):
        run = StreamRun(StreamPlan(SPEC, retrain_every=None))
        run.bundle = ours.to_bytes()
        await run_loop(run, assigned_then(), Registry(pointers=pointers))
        assert run.versions == [expected.version]


async def test_the_registry_is_polled_once_a_second() -> None:
    now = 100.0
    shelf = FailingRegistry()

    async def events() -> AsyncIterator[SourceEvent]:
        nonlocal now
        for i in range(40):
            now = 100.0 + i / 4
            yield PolledRecords(NO_PARTITION, ())

    await run_loop(stream(), events(), shelf, clock=lambda: now)
    assert shelf.polled == 10


async def test_a_withdrawal_that_fails_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.lifecycle.WITHDRAW_AGAIN_S", 0.0)
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = Raising(SPEC.sensors, SPEC.window, "v2")
    registry = Registry(fails=3)
    polls = [PolledRecords(PUMPS_0, steady(30)), *[PolledRecords(PUMPS_0, ())] * 20]
    with capture_logs() as logs:
        await run_loop(run, assigned_then(*polls), registry)
    assert [version for _, version, _ in registry.withdrawn] == ["v2"]
    assert [entry["event"] for entry in logs].count("model_withdrawn") == 1
