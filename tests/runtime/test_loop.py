"""The loop over sources that do what Kafka does on its worst days."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from daemon.adapters.telemetry import Lifecycle, Metrics, Status
from daemon.detector import Evidence, Verdicts, Windows
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    Assigned,
    Budget,
    DriftRecord,
    FilledRow,
    Floats,
    InputPartition,
    Ints,
    ModelSettings,
    Output,
    PartitionCommit,
    PolledRecords,
    Record,
    Segment,
    SourceEvent,
    StateRecord,
    StreamSpec,
)
from daemon.errors import BrokerError, BundleError
from daemon.model.bundle import Bundle
from daemon.model.training import CalibrationTarget, train
from daemon.runtime.history import Found, History, Past, Progress
from daemon.runtime.loop import Hold, Loop, StreamPlan, StreamRun
from daemon.runtime.trainer import TrainingJob, TrainingResult, learn
from daemon.stream import pipeline as pipeline_module
from daemon.stream.steps import RowBlock
from tests.fakes import CentreDetector, PromptTrainer

BASE_S = 1_700_000_000
PUMPS_0 = InputPartition("sensors.pumps", 0)
SPEC = StreamSpec(
    "pumps",
    ("a", "b"),
    topics=("sensors.pumps",),
    window=4,
    max_gap_ns=3600 * SECOND_NS,
    silent_after_ns=8000 * SECOND_NS,
)


@dataclass
class Script:
    """A source that says what it is told to, and keeps what is committed."""

    polls: Sequence[PolledRecords]
    saved: Sequence[StateRecord] = ()
    publish_from: int = 0
    replay_from: int | None = None
    commits: list[PartitionCommit] = field(default_factory=list)

    async def events(self) -> AsyncIterator[SourceEvent]:
        first = self.publish_from if self.replay_from is None else self.replay_from
        yield Assigned(PUMPS_0, first, self.publish_from, self.saved)
        for poll in self.polls:
            if self.looked >= self.close_after:
                break
            yield poll

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> None:
        self.commits += work.values()

    close_after: int = 1 << 62  # looks at ``closing``, of which the loop takes one in each pause
    looked: int = 0

    def close(self) -> None: ...

    @property
    def closing(self) -> bool:
        self.looked += 1
        return self.looked > self.close_after


@dataclass
class Shelf:
    """Where models are kept; a broker that does not play along."""

    polled: int = 0

    async def promoted(self, stream: str) -> bytes | None:
        return None

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        raise BrokerError("a message of 9 bytes is too large for topic 'anomalyd.models'")

    async def poll(self) -> Sequence[tuple[str, bytes]]:
        self.polled += 1
        raise BrokerError("topic 'anomalyd.models' could not be read: request timed out")


def stream() -> StreamRun:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = CentreDetector(SPEC.sensors)
    return run


def made(
    source: Script, run: StreamRun, models: Shelf | Registry | None = None
) -> tuple[Loop, Metrics, Status]:
    metrics, status = Metrics(["pumps"], ["sensors.pumps"]), Status(["pumps"])
    loop = Loop(source, None, [run], metrics, status, models=models, checkpoints=True)
    return loop, metrics, status


def line(offset: int, asset: str, second: float, *values: float | None) -> Record:
    reading = dict(zip(SPEC.sensors, values, strict=True))
    value = json.dumps({"asset": asset, "ts": BASE_S + second, "values": reading}).encode()
    return Record(offset, asset.encode(), value, (BASE_S + 10**6) * SECOND_NS)


def steady(n: int, first: int = 0) -> list[Record]:
    return [line(first + i, "p1", float(first + i), 0.5, 0.5) for i in range(n)]


async def test_a_storm_of_gaps_is_committed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """200 records of one poll, each of which bridges 999 rows."""
    monkeypatch.setattr(pipeline_module, "MOST_AT_ONCE", 2_000)
    monkeypatch.setattr(pipeline_module, "MOST", 1_000)
    records = [line(i, f"p{i % 4}", 1_000.0 * (i // 4), 0.5, 0.5) for i in range(200)]
    source = Script([PolledRecords(PUMPS_0, records), PolledRecords(PUMPS_0, (), ended=True)])
    loop, _, _ = made(source, stream())
    await loop.run()
    offsets = [work.position.offset for work in source.commits]
    assert offsets == sorted(offsets)
    assert max(len(work.outputs) for work in source.commits) < 5_000
    filled = [o for work in source.commits for o in work.outputs if isinstance(o, FilledRow)]
    assert len(filled) == len({(o.asset, o.row_ns) for o in filled}) == 4 * 49 * 999


async def test_a_model_that_cannot_be_kept_is_a_failed_one_and_the_old_one_judges_on() -> None:
    run = stream()
    source = Script([PolledRecords(PUMPS_0, steady(20)), PolledRecords(PUMPS_0, (), ended=True)])
    shelf = Shelf()
    loop, _, status = made(source, run, shelf)
    outcome = TrainingResult(True, "better", "v2", b"a bundle", 1.0, 100)

    async def script() -> None:
        await loop._trained(run, outcome)
        await loop.run()

    with capture_logs() as logs:
        await script()
    assert run.shelving is None
    assert run.detector == CentreDetector(SPEC.sensors)
    assert source.commits[-1].position.offset == 20
    (change,) = status.streams["pumps"].models
    assert (change.version, change.result) == ("v2", "failed")
    assert change.reason.startswith("it could not be kept: a message of 9 bytes is too large")
    assert shelf.polled
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"].count("registry_unread") == 1


async def test_all_that_was_done_is_committed_before_a_partition_is_handed_over() -> None:
    source = Script([PolledRecords(PUMPS_0, steady(20)), PolledRecords(PUMPS_0, steady(5, 20))])
    loop, _, _ = made(source, stream())
    loop._commit_every_s = 3_600.0
    loop._committed_at = time.monotonic()
    found: list[int] = []

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        yield source.polls[0]
        assert not source.commits
        yield PolledRecords(InputPartition("", -1), (), handover=True)
        found.extend(work.position.offset for work in source.commits)
        yield source.polls[1]
        assert len(source.commits) == 1

    source.events = events  # type: ignore[method-assign]
    await loop.run()
    assert found == [20]


class Fragile(CentreDetector):
    def infer(self, windows: Windows) -> Evidence:
        if (windows.values[:, -1] == 13.0).any():
            raise FloatingPointError("thirteen")
        return super().infer(windows)


async def test_windows_that_a_model_fails_on_are_counted_and_said() -> None:
    run = stream()
    run.detector = Fragile(SPEC.sensors)
    records = [line(i, "p1", float(i), 13.0 if i in (8, 9) else 0.5, 0.5) for i in range(20)]
    loop, metrics, _ = made(Script([PolledRecords(PUMPS_0, records)]), run)
    with capture_logs() as logs:
        await loop.run()
    (entry,) = [entry for entry in logs if entry["event"] == "windows_unscored"]
    assert entry["windows"] == 2
    assert b'anomalyd_dropped_total{reason="model_failed",stream="pumps"} 2.0' in metrics.exposition()


# ------------------------------------------------------------------ a model that fails
class Blind(CentreDetector):
    """It says nothing of windows that it could score."""

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        verdicts = super().judge(evidence, baseline, slots, static=static)
        return replace(verdicts, score=np.full(len(verdicts.score), np.nan))


class Raising(CentreDetector):
    def infer(self, windows: Windows) -> Evidence:
        raise FloatingPointError("always")


class Unjudging(CentreDetector):
    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        raise FloatingPointError("always")


@dataclass
class Registry:
    """Where models are kept, of two streams or one; ``asked`` is what was withdrawn."""

    pointers: dict[str, bytes] = field(default_factory=dict)
    earlier: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    news: list[tuple[str, bytes]] = field(default_factory=list)
    fails: int = 0

    async def promoted(self, stream: str) -> bytes | None:
        return self.pointers.get(stream)

    async def before(self, stream: str) -> bytes | None:
        return self.earlier.get(stream)

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        self.pointers[stream] = bundle

    async def poll(self) -> Sequence[tuple[str, bytes]]:
        news, self.news = self.news, []
        return news

    async def withdraw(self, stream: str, version: str, reason: str) -> None:
        if self.fails:
            self.fails -= 1
            raise BrokerError("topic 'anomalyd.models' could not be read: request timed out")
        self.asked.append((stream, version, reason))


@cache
def admitted(centre: float = 0.5) -> Bundle:
    """A real bundle for ``SPEC``: what a rollback goes back to is read from bytes."""
    rng = np.random.default_rng(int(10 * centre))
    rows = centre + 0.1 * rng.standard_normal((600, len(SPEC.sensors)))
    model = ModelSettings(kind="ppca")
    return train([Segment("p1", 0, rows)], SPEC, model, CalibrationTarget(AlarmPolicy(), Budget(), 60))


@pytest.mark.parametrize("bad", [Blind, Raising, Unjudging])
@pytest.mark.parametrize("earlier", [True, False])
async def test_a_model_that_fails_gives_way_to_the_one_before(
    bad: type[CentreDetector], earlier: bool
) -> None:
    run = StreamRun(StreamPlan(SPEC, learn_rows=10_000, retrain_every=None))
    sound = admitted().to_bytes()
    if earlier:
        run.use(Bundle.from_bytes(sound), sound, committable=False)
        run.fallback.took_over(sound)
    run.detector = bad(SPEC.sensors, SPEC.window, "v2")
    polls = [PolledRecords(PUMPS_0, steady(30, 30 * i)) for i in range(6)]
    registry = Registry(fails=1)
    source = Script([*polls, PolledRecords(PUMPS_0, (), ended=True)])
    loop, metrics, status = made(source, run, registry)
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
        assert run.detector.version == page.model == change.version == admitted().version
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


async def test_a_model_that_fails_on_everything_is_not_asked_about_every_window() -> None:
    asked: list[int] = []

    class Counting(Raising):
        def infer(self, windows: Windows) -> Evidence:
            asked.append(len(windows))
            return super().infer(windows)

    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = Counting(SPEC.sensors, SPEC.window, "v2")
    loop, metrics, _ = made(Script([PolledRecords(PUMPS_0, steady(4_000))]), run)
    await loop.run()
    assert len(asked) < 40
    assert sum(asked) < 4 * 4_000
    assert b'anomalyd_dropped_total{reason="model_failed",stream="pumps"} 3997.0' in metrics.exposition()


async def test_a_successor_goes_on_where_no_model_was_left() -> None:
    run = StreamRun(StreamPlan(SPEC, learn_rows=10_000, retrain_every=None))
    run.detector = Raising(SPEC.sensors, SPEC.window, "v2")
    source = Script([PolledRecords(PUMPS_0, steady(30, 30 * i)) for i in range(4)])
    await made(source, run)[0].run()
    assert run.detector is None
    saved = {record.key: record for work in source.commits for record in work.saved}
    position = source.commits[-1].position
    for bundle in (None, admitted().to_bytes()):
        successor = StreamRun(StreamPlan(SPEC, learn_rows=10_000, retrain_every=None))
        successor.bundle = bundle
        replayed = steady(120 - position.replay_from, position.replay_from)
        polls = [PolledRecords(PUMPS_0, replayed), PolledRecords(PUMPS_0, steady(30, 120))]
        loop, metrics, _ = made(
            Script(polls, tuple(saved.values()), position.offset, position.replay_from), successor
        )
        await loop.run()
        assert b'anomalyd_state_restores_total{result="ok"} 1.0' in metrics.exposition()
        assert successor.scored >= (30 if bundle is not None else 0)


async def test_the_registry_is_told_to_point_back() -> None:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = Raising(SPEC.sensors, SPEC.window, "v2")
    registry = Registry()
    loop, _, _ = made(
        Script([PolledRecords(PUMPS_0, steady(30)), PolledRecords(PUMPS_0, steady(30, 30))]), run, registry
    )
    await loop.run()
    ((stream_name, version, reason),) = registry.asked
    assert (stream_name, version) == ("pumps", "v2")
    assert reason.startswith("it failed on")


async def test_a_version_that_failed_is_refused_by_whatever_way_it_comes_again() -> None:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    bundle = admitted()
    run.fallback.give_up(bundle.version)
    registry = Registry(pointers={"pumps": bundle.to_bytes()})
    registry.news = [("pumps", bundle.to_bytes())]
    loop, metrics, status = made(Script([PolledRecords(PUMPS_0, steady(30))]), run, registry)
    with capture_logs() as logs:
        await loop.run()
        await loop._trained(run, TrainingResult(True, "better", bundle.version, bundle.to_bytes(), 1.0, 100))
    assert run.detector is None
    refused = [entry for entry in logs if entry["event"] == "bundle_refused"]
    assert len(refused) == 1  # said once a minute
    assert "is not used again: it failed on" in refused[0]["reason"]
    assert 'anomalyd_bundle_refused_total{source="registry"} 2.0' in metrics.exposition().decode()
    assert [change.result for change in status.streams["pumps"].models] == ["refused"]


async def test_a_promoted_bundle_that_cannot_be_used_gives_way_to_the_one_before_it_at_the_start() -> None:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    registry = Registry(pointers={"pumps": b"rubbish"}, earlier={"pumps": admitted().to_bytes()})
    loop, metrics, _ = made(Script([]), run, registry)
    with capture_logs() as logs:
        await loop.run()
    assert run.detector is not None
    assert [entry["event"] for entry in logs].count("bundle_refused") == 1
    assert 'anomalyd_bundle_refused_total{source="registry"} 1.0' in metrics.exposition().decode()


async def test_a_trained_bundle_that_is_not_admitted_does_not_end_the_daemon() -> None:
    run = stream()
    loop, metrics, status = made(Script([]), run)
    with capture_logs() as logs:
        await loop._trained(run, TrainingResult(True, "better", "v2", b"rubbish", 1.0, 100))
    assert run.detector == CentreDetector(SPEC.sensors)
    assert [entry["event"] for entry in logs][-2:] == ["bundle_refused", "model_refused"]
    assert [change.result for change in status.streams["pumps"].models] == ["failed"]
    assert 'anomalyd_bundle_refused_total{source="training"} 1.0' in metrics.exposition().decode()


def after(source: Script, polls: Sequence[PolledRecords]) -> Script:
    """What whoever takes over from the source is given."""
    saved = {record.key: record for work in source.commits for record in work.saved}
    at = source.commits[-1].position
    return Script(polls, tuple(saved.values()), at.offset, at.replay_from)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(("last", "open_after"), [(12, 0), (20, 1)])
async def test_what_is_open_as_of_the_commit_is_on_the_page_after_a_restart(
    last: int, open_after: int, kept: bool
) -> None:
    """Whether it is known from the state, or only from the records that were replayed without one."""
    records = [line(i, "p1", float(i), 50.0 if 10 <= i < last else 0.5, 0.5) for i in range(20)]
    first = Script([PolledRecords(PUMPS_0, records[a:b]) for a, b in ((0, 9), (9, 12), (12, 18), (18, 20))])
    loop, _, before = made(first, stream())
    loop._commit_every_s = 0.0
    await loop.run()
    second = after(first, [])
    if not kept:
        second.saved, second.replay_from = (), 0
    second.polls = [PolledRecords(PUMPS_0, records[second.replay_from :])]
    loop, metrics, now = made(second, stream())
    await loop.run()
    assert len(before.open) == open_after
    assert now.open.keys() == before.open.keys()
    assert outputs_of(second) == []
    text = metrics.exposition().decode()
    assert f'episodes_active{{severity="critical"}} {open_after}.0' in text
    assert f'state_restores_total{{result="ok"}} {kept:d}.0' in text


async def test_the_drift_of_a_model_that_went_outlives_a_successor_that_did_nothing() -> None:
    def newer() -> StreamRun:
        run = stream()
        run.detector = replace(CentreDetector(SPEC.sensors), version="centre-2")
        return run

    first = Script([PolledRecords(PUMPS_0, steady(40))])
    await made(first, stream())[0].run()
    second = after(first, [])  # nothing comes before it ends
    second.replay_from = second.publish_from
    await made(second, newer())[0].run()
    third = after(second, [PolledRecords(PUMPS_0, steady(45)), PolledRecords(PUMPS_0, (), ended=True)])
    third.replay_from = 0  # no record of an asset was written
    await made(third, newer())[0].run()
    drift = [o for s in (first, second, third) for o in outputs_of(s) if isinstance(o, DriftRecord)]
    assert [(record.model, record.windows) for record in drift] == [("centre-1", 37), ("centre-2", 5)]


def outputs_of(source: Script) -> list[Output]:
    return [o for work in source.commits for o in work.outputs]


async def test_state_that_is_of_no_use_is_said_and_counted() -> None:
    source = Script([], [StateRecord(b"sensors.pumps\x1f", b"garbage")], 20)
    loop, metrics, _ = made(source, stream())
    with capture_logs() as logs:
        await loop.run()
    assert [entry["event"] for entry in logs].count("state_unusable") == 1
    assert b'anomalyd_state_restores_total{result="failed"} 1.0' in metrics.exposition()


async def test_records_of_state_that_cannot_be_used_are_said_once_and_counted() -> None:
    source = Script([PolledRecords(PUMPS_0, steady(30))])
    await made(source, stream())[0].run()
    saved = {record.key: record for work in source.commits for record in work.saved}
    saved |= {key: StateRecord(key, b"\xc1") for key in (b"sensors.pumps\x1fp8", b"sensors.pumps\x1fp9")}
    saved[b"sensors.pumps\x1f\xff"] = StateRecord(b"sensors.pumps\x1f\xff", b"")
    position = source.commits[-1].position
    replayed = [PolledRecords(PUMPS_0, steady(30 - position.replay_from, position.replay_from))]
    successor = Script(replayed, tuple(saved.values()), position.offset, position.replay_from)
    loop, metrics, _ = made(successor, stream())
    with capture_logs() as logs:
        await loop.run()
    (said,) = [entry for entry in logs if entry["event"] == "state_unusable"]
    assert said["records"] == 3
    text = metrics.exposition().decode()
    assert 'anomalyd_state_restores_total{result="unusable"} 3.0' in text
    assert 'anomalyd_state_restores_total{result="ok"} 1.0' in text


async def test_a_drain_that_takes_too_long_is_cut_short_without_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from daemon.commands import run as service

    class Stuck(Loop):
        async def run(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr(service, "DRAIN_S", 0.01)
    ending = asyncio.Event()
    ending.set()
    source = Script([])
    stuck = Stuck(source, None, [stream()], Metrics(["pumps"], ["sensors.pumps"]), Status(["pumps"]))
    await service._until_drained(stuck, ending, [])


async def test_times_without_a_zone_are_warned_of_once() -> None:
    def local(offset: int) -> Record:
        body = {"asset": "p1", "ts": f"2023-11-14T22:13:{20 + offset}", "values": {"a": 0.5, "b": 0.5}}
        return Record(offset, None, json.dumps(body).encode(), (BASE_S + 10**6) * SECOND_NS)

    async def warnings(zone: str | None) -> int:
        run = StreamRun(StreamPlan(replace(SPEC, timezone=zone)))
        polls = [PolledRecords(PUMPS_0, [local(i)]) for i in range(9)]
        with capture_logs() as logs:
            await made(Script([*polls, PolledRecords(PUMPS_0, (), ended=True)]), run)[0].run()
        return [entry["event"] for entry in logs].count("timestamps_without_zone")

    assert await warnings(None) == 1
    assert await warnings("UTC") == 0


# ------------------------------------------------------------------ when to train
EVERY_S = 600
GRID_S = BASE_S // EVERY_S * EVERY_S


class Shelved:
    """A history on topics that a test says everything of."""

    lasting = True

    def __init__(self, rows: int = 0, event_time_ns: int = -1) -> None:
        self.rows, self.event_time_ns = rows, event_time_ns
        self.looks = 0

    def add(self, block: RowBlock) -> None: ...

    def holds(self, rows: int) -> bool:
        return self.rows >= rows

    def first(self, rows: int, least: int) -> Sequence[Segment]:
        return [Segment(f"first {rows}, at least {least}", 0, np.zeros((0, 2)))]

    def newest(self, until_ns: int) -> Sequence[Segment]:
        return [Segment(f"until {until_ns // SECOND_NS - GRID_S}", 0, np.zeros((0, 2)))]

    async def look(self) -> None:
        self.looks += 1


@pytest.fixture(scope="module")
def trained() -> Bundle:
    rows = np.random.default_rng(0).standard_normal((200, 2))
    outcome = learn(
        TrainingJob(
            SPEC,
            ModelSettings(kind="ppca"),
            AlarmPolicy(),
            Budget(),
            60,
            [Segment("p1", 0, rows)],
            until_ns=GRID_S * SECOND_NS,
        )
    )
    assert outcome.bundle is not None
    return Bundle.from_bytes(outcome.bundle)


def led(history: History | None, bundle: Bundle | None = None, *, every_s: int | None = EVERY_S) -> StreamRun:
    """A stream whose partition 0 is here, with a model perhaps."""
    every = None if every_s is None else timedelta(seconds=every_s)
    run = StreamRun(StreamPlan(SPEC, learn_rows=100, retrain_every=every), history=history)
    if bundle is not None:
        run.use(bundle, bundle.to_bytes(), committable=False)
    run.open(Assigned(PUMPS_0, 0, 0))
    return run


def heard(run: StreamRun, second: float) -> StreamRun:
    """A reading so many seconds after the grid point was read here, and the next one, which confirms it."""
    pipeline = run.pipelines[PUMPS_0]
    for ahead in (-1, 0):
        record = line(max(pipeline.offset, 0), "p1", second + ahead + GRID_S - BASE_S, 0.5, 0.5)
        for _ in pipeline.feed(PolledRecords(PUMPS_0, [record])):
            pass
    return run


def ordered(run: StreamRun) -> str | None:
    """What the training that is due learns from."""
    order = run.order()
    if order is None:
        return None
    assert not isinstance(order.history, Past)
    return order.history[0].asset


def test_a_bundle_names_the_event_time_it_was_trained_up_to(trained: Bundle) -> None:
    assert trained.facts["trained_until"] == GRID_S * SECOND_NS


@pytest.mark.parametrize(
    ("second", "due"),
    [
        (EVERY_S - 1, None),
        (EVERY_S + 9, None),  # rows of before may come yet
        (EVERY_S + 11, f"until {EVERY_S}"),
        (3 * EVERY_S + 100, f"until {3 * EVERY_S}"),
    ],
)
def test_a_retraining_is_due_at_the_multiples_of_its_interval_since_the_model_was_trained(
    trained: Bundle, second: int, due: str | None
) -> None:
    """However often the daemon was started since: a process that has just begun knows it from the bundle."""
    run = heard(led(Shelved(), trained), second)
    assert ordered(run) == due
    assert ordered(run) is None  # whatever comes of it, once is enough


def test_a_model_that_is_in_force_again_is_not_retrained_on_what_replaced_it(trained: Bundle) -> None:
    newer = replace(trained, facts={**trained.facts, "trained_until": (GRID_S + EVERY_S) * SECOND_NS})
    run = led(Shelved(), newer)
    run.use(trained, trained.to_bytes(), committable=False)
    assert ordered(heard(run, EVERY_S + 100)) is None
    assert ordered(heard(run, 2 * EVERY_S + 100)) == f"until {2 * EVERY_S}"


@pytest.mark.parametrize(
    "facts", [{}, {"trained_until": None}, {"trained_until": "soon"}, {"trained_until": 1 << 80}]
)
def test_a_bundle_that_does_not_say_until_when_is_retrained_from_the_next_multiple_on(
    trained: Bundle, facts: dict[str, object]
) -> None:
    old = replace(trained, facts={k: v for k, v in trained.facts.items() if k != "trained_until"} | facts)
    run = led(Shelved(), old)
    assert ordered(heard(run, 5 * EVERY_S + 100)) is None
    assert ordered(heard(run, 6 * EVERY_S + 100)) == f"until {6 * EVERY_S}"


def test_rows_that_were_released_here_are_retrained_on_from_the_next_multiple_on(trained: Bundle) -> None:
    run = led(None, trained)
    assert run.order() is None
    heard(run, 5 * EVERY_S + 100)
    assert run.order() is None
    order = heard(run, 6 * EVERY_S + 100).order()
    assert order is not None
    assert order.until_ns == (GRID_S + 6 * EVERY_S) * SECOND_NS


def test_a_first_training_begins_when_the_rows_are_there_wherever_they_are() -> None:
    assert ordered(led(Shelved(99))) is None
    assert ordered(led(Shelved(100))) == "first 100, at least 100"
    run = led(Shelved(0))
    for _ in run.pipelines[PUMPS_0].feed(PolledRecords(PUMPS_0, steady(100))):
        pass
    assert ordered(run) == "first 100, at least 0"


def test_a_leader_of_an_empty_partition_retrains_by_the_event_time_of_the_topics(trained: Bundle) -> None:
    run = led(Shelved(event_time_ns=(GRID_S + EVERY_S + 11) * SECOND_NS), trained)
    assert run.curious
    assert ordered(run) == f"until {EVERY_S}"
    assert not led(Shelved(), trained, every_s=None).curious
    assert not heard(led(Shelved(), trained), 1).curious
    assert not led(None).curious


async def test_the_loop_looks_at_the_history_of_a_stream_that_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.loop.LOOK_EVERY_S", 0.0)
    history = Shelved()
    run = StreamRun(StreamPlan(SPEC, learn_rows=100), history=history)
    loop, _, _ = made(Script([PolledRecords(PUMPS_0, ())] * 5), run)

    async def breathe() -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(loop, "_follow", breathe)
    await loop.run()
    assert history.looks > 1
    assert run.looking is None or run.looking.done()


async def test_a_look_at_the_history_that_fails_is_said_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Away(Shelved):
        async def look(self) -> None:
            await super().look()
            raise BrokerError("no broker")

    monkeypatch.setattr("daemon.runtime.loop.LOOK_EVERY_S", 0.0)
    history = Away()
    loop, _, _ = made(
        Script([PolledRecords(PUMPS_0, ())] * 9), StreamRun(StreamPlan(SPEC, learn_rows=100), history=history)
    )

    async def breathe() -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(loop, "_follow", breathe)
    with capture_logs() as logs:
        await loop.run()
    assert history.looks > 1
    assert [(e["event"], e["reason"]) for e in logs if e["log_level"] == "warning"] == [
        ("history_unread", "no broker")
    ]


async def test_a_training_whose_history_cannot_be_read_is_counted_and_tried_again(
    trained: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = heard(led(Shelved(), trained), EVERY_S + 11)
    loop, metrics, status = made(Script([]), run)
    now = 0.0
    monkeypatch.setattr("daemon.runtime.loop.time.monotonic", lambda: now)
    waits = []
    for reason, postponed in (("the broker is away", False), ("not judged yet", True), ("again", False)):
        assert ordered(run) == f"until {EVERY_S}"
        await loop._trained(
            run, TrainingResult(False, reason, "", None, 1.0, 0, later=True, postponed=postponed)
        )
        assert ordered(run) is None
        waits.append(run._again_at - now)
        now = run._again_at
    assert waits == [10.0, 20.0, 40.0]
    failed = b'anomalyd_model_promotions_total{result="failed",stream="pumps"} 2.0'
    assert failed in metrics.exposition()
    assert [change.reason for change in status.streams["pumps"].models] == ["the broker is away", "again"]


async def test_a_first_training_that_was_too_early_asks_for_no_more_rows_than_before() -> None:
    run = led(Shelved(100))
    loop, _, _ = made(Script([]), run)
    await loop._trained(run, TrainingResult(False, "too few", "", None, 1.0, 0, later=True, postponed=True))
    run._again_at = 0.0
    assert ordered(run) == "first 100, at least 100"
    await loop._trained(run, TrainingResult(False, "calibrates nothing", "", None, 1.0, 100))
    assert ordered(run) is None
    run.history = Shelved(150)
    assert ordered(run) == "first 150, at least 150"


# ------------------------------------------------------------------ from a training to a model in force
NOBODY = InputPartition("", -1)


def lively(n: int, first: int = 0, level: float = 0.5) -> list[Record]:
    """Readings that a model can be learned from."""
    rows = level + 0.1 * np.random.default_rng(first).standard_normal((n, 2))
    return [line(first + i, "p1", float(first + i), *row.tolist()) for i, row in enumerate(rows)]


def learning(learn_rows: int = 400, **plan: Any) -> StreamRun:
    """A stream without a model, which learns at once when its rows are there."""
    plan = {"model": ModelSettings(kind="ppca"), "retrain_every": None} | plan
    run = StreamRun(StreamPlan(SPEC, learn_rows=learn_rows, **plan))
    run.trainer = PromptTrainer()  # type: ignore[assignment]
    return run


def asked_rows(run: StreamRun) -> list[int]:
    """How many rows each training was given."""
    trainer = run.trainer
    assert isinstance(trainer, PromptTrainer)
    return [sum(len(s.values) for s in order.history) for order in trainer.orders]  # type: ignore[union-attr]


async def ran(
    run: StreamRun, events: AsyncIterator[SourceEvent], models: Any = None, **more: Any
) -> tuple[Script, Status]:
    """A loop over these events, to its end."""
    source, status = Script([]), Status(["pumps"])
    source.events = lambda: events  # type: ignore[method-assign]
    more.setdefault("checkpoints", True)
    loop = Loop(source, None, [run], Metrics(["pumps"], ["sensors.pumps"]), status, models=models, **more)
    await loop.run()
    return source, status


async def following(*events: SourceEvent, pauses: int = 1) -> AsyncIterator[SourceEvent]:
    """Partition 0 and these events, with pauses in which whatever else there is to be done is done."""
    yield Assigned(PUMPS_0, 0, 0)
    for event in events:
        for _ in range(pauses):
            await asyncio.sleep(0)
        yield event


class Ticking:
    """A clock of which every look takes two seconds: whatever is done now and then is due each time."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        patch.setattr("daemon.runtime.loop.time.monotonic", self.look)

    def look(self) -> float:
        self.now += 2.0
        return self.now


class Keeping(Registry):
    """A registry that others can read before ``promote`` has returned, as a topic is."""

    def __init__(self) -> None:
        super().__init__()
        self.may_return = asyncio.Event()

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        self.news.append((stream, bundle))
        await self.may_return.wait()
        await super().promote(stream, bundle, version, reason)


@pytest.mark.parametrize("idle", [PUMPS_0, NOBODY])
async def test_a_bundle_on_its_way_to_be_kept_is_not_met_as_another_s(
    idle: InputPartition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while it is being kept nor afterwards, whether or not anything more comes of its stream."""
    Ticking(monkeypatch)
    run, registry = learning(), Keeping()
    source = Script([])

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        yield PolledRecords(PUMPS_0, lively(420))
        for turn in range(20):
            if turn == 10:
                assert run.versions == []  # in force only once it is kept
                registry.may_return.set()
            await asyncio.sleep(0)  # whatever else there is to be done
            yield PolledRecords(idle, ())

    source.events = events  # type: ignore[method-assign]
    loop, metrics, status = made(source, run, registry)
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
async def test_where_the_input_waits_the_first_model_judges_from_the_row_after_those_it_learned(
    kept: bool,
) -> None:
    """However large the polls are, and also where a registry is to keep the model first."""
    for size in (1_000, 130):
        run, records = learning(), lively(1_000)
        polls = [PolledRecords(PUMPS_0, records[i : i + size]) for i in range(0, 1_000, size)]
        ended = PolledRecords(PUMPS_0, (), ended=True)
        models = Slow() if kept else None
        await ran(run, following(*polls, ended), models, hold=Hold.ALWAYS, checkpoints=False)
        assert asked_rows(run) == [400]
        assert run.scored == 600
        assert run.detector is not None


async def test_the_input_waits_for_the_first_model_only_where_that_is_wanted() -> None:
    run = learning(retrain_every=timedelta(seconds=300), retrain_rows=400)
    run.trainer = PromptTrainer(looks=3)  # type: ignore[assignment]
    busy = []

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        for i in range(0, 800, 100):
            yield PolledRecords(PUMPS_0, lively(100, i))
            busy.append((i + 100, run.trainer.busy, status.streams["pumps"].training))

    source, status = Script([]), Status(["pumps"])
    source.events = events  # type: ignore[method-assign]
    metrics = Metrics(["pumps"], ["sensors.pumps"])
    await Loop(source, None, [run], metrics, status, hold=Hold.FIRST, checkpoints=True).run()
    assert [at for at, waits, _ in busy if waits] == [at for at, _, training in busy if training] != []
    assert min(at for at, waits, _ in busy if waits) > 400
    assert len(run.versions) == 2
    first, second, *_ = run.trainer.orders
    assert first.incumbent is None
    assert second.incumbent is not None
    assert Bundle.from_bytes(second.incumbent).version == run.versions[0]
    assert second.drift_rows == 3_600


async def test_a_training_under_way_ends_with_the_loop() -> None:
    run = learning()
    run.trainer = PromptTrainer(looks=1 << 62)  # type: ignore[assignment]
    await ran(run, following(PolledRecords(PUMPS_0, lively(420))))
    assert asked_rows(run) == [400]
    assert not run.trainer.busy


def no_bundle(order: TrainingJob) -> TrainingResult:
    return TrainingResult(True, "better", "v2", b"rubbish", 1.0, 100)


def given_up(order: TrainingJob) -> TrainingResult:
    return replace(learn(order), version="v1")


@pytest.mark.parametrize(
    ("taught", "models"), [(learn, Shelf()), (no_bundle, None), (no_bundle, Registry()), (given_up, None)]
)
async def test_a_first_model_that_comes_to_nothing_is_tried_again_with_half_as_many_rows_more(
    taught: Callable[[TrainingJob], TrainingResult], models: Any
) -> None:
    """It could not be kept; or is none; or has failed here before."""
    run = learning()
    run.trainer = PromptTrainer(taught)  # type: ignore[assignment]
    run.fallback.give_up("v1")
    polls = [PolledRecords(PUMPS_0, lively(100, i)) for i in range(0, 1_000, 100)]
    await ran(run, following(*polls), models, hold=Hold.ALWAYS)
    assert asked_rows(run) == [400, 600, 900]
    assert run.detector is None


async def test_a_first_training_that_is_put_off_asks_for_the_same_rows_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Ticking(monkeypatch)
    run = StreamRun(StreamPlan(SPEC, learn_rows=100), history=Shelved(100))
    run.trainer = PromptTrainer(lambda order: TrainingResult(False, "away", "", None, 0.0, 0, later=True))  # type: ignore[assignment]

    async def events() -> AsyncIterator[SourceEvent]:
        yield Assigned(PUMPS_0, 0, 0)
        for _ in range(40):
            clock.now += 20.0
            yield PolledRecords(PUMPS_0, ())

    await ran(run, events(), hold=Hold.ALWAYS)
    wanted = {order.history[0].asset for order in run.trainer.orders}  # type: ignore[attr-defined]
    assert wanted == {"first 100, at least 100"}
    assert len(run.trainer.orders) > 3  # type: ignore[attr-defined]


async def test_what_is_to_be_known_of_a_history_is_said() -> None:
    class Noted:
        def read(self, progress: Progress) -> Found:
            rows = np.random.default_rng(0).standard_normal((600, 2))
            return Found([Segment("p1", 0, rows)], notes=["the alerts begin late"])

    class Topics(Shelved):
        def first(self, rows: int, least: int) -> Past:
            return Noted()

    run = StreamRun(StreamPlan(SPEC, model=ModelSettings(kind="ppca")), history=Topics(10_000))
    run.trainer = PromptTrainer()  # type: ignore[assignment]
    with capture_logs() as logs:
        await ran(run, following(PolledRecords(PUMPS_0, ()), PolledRecords(PUMPS_0, ())))
    assert run.detector is not None
    assert [e["note"] for e in logs if e["event"] == "training_history"] == ["the alerts begin late"]


# ------------------------------------------------------------------ which model is in force
def test_a_model_that_fails_goes_back_to_the_one_before_and_never_to_itself() -> None:
    first, second = admitted(0.5), admitted(0.7)
    a, b = first.to_bytes(), second.to_bytes()
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.bundle = a  # given at the start
    run.use(first, a, committable=False)
    run.use(second, b, committable=False)
    run.use(second, b, committable=False)  # met again in the registry
    _, before, _ = run.give_up(committable=False)
    assert (before, run.bundle, run.detector) == (a, None, None)
    run.use(first, a, committable=False)
    _, before, _ = run.give_up(committable=False)
    assert before is None
    with pytest.raises(BundleError, match="is not used again"):
        run.use(second, b, committable=False)


async def test_the_registry_s_model_comes_before_the_one_given_at_the_start() -> None:
    ours, theirs = admitted(0.5), admitted(0.7)
    for pointers, expected in (({"pumps": theirs.to_bytes()}, theirs), ({}, ours)):
        run = StreamRun(StreamPlan(SPEC, retrain_every=None))
        run.bundle = ours.to_bytes()
        await ran(run, following(), Registry(pointers=pointers))
        assert run.versions == [expected.version]


def test_a_model_given_at_the_start_that_fails_leaves_none() -> None:
    run, bundle = StreamRun(StreamPlan(SPEC, retrain_every=None)), admitted()
    run.bundle = bundle.to_bytes()
    run.use(bundle, run.bundle, committable=False)
    assert run.give_up(committable=False)[1] is None


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"window": 5}, "its window 4, the stream's 5"),
        ({"period_ns": 2 * SECOND_NS}, "its period 1 s, the stream's 2 s"),
        ({"sensors": ("b", "a")}, "list them in the stream as the model does: a, b"),
        ({"sensors": ("a", "c")}, "its sensors"),
    ],
)
def test_a_model_of_another_stream_is_refused(changes: dict[str, Any], what: str) -> None:
    run, bundle = StreamRun(StreamPlan(replace(SPEC, **changes))), admitted()
    with pytest.raises(BundleError, match=what):
        run.use(bundle, bundle.to_bytes(), committable=False)
    assert run.detector is None
    assert run.bundle is None


@pytest.mark.parametrize(
    ("partition", "leads"),
    [
        (InputPartition("one", 0), True),
        (InputPartition("one", 1), False),
        (InputPartition("two", 0), False),
    ],
)
def test_the_replica_that_reads_partition_0_of_the_first_topic_trains(
    partition: InputPartition, leads: bool
) -> None:
    run = StreamRun(StreamPlan(replace(SPEC, topics=("one", "two"))), history=Shelved(1 << 40))
    run.open(Assigned(partition, 0, 0))
    assert (run.order() is not None) is leads
    assert run.curious is leads


def test_a_training_that_is_put_off_comes_later_each_time_and_soon_again_once_a_history_was_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("daemon.runtime.loop.time.monotonic", lambda: now)
    run = led(Shelved(1_000))
    for wait in (10, 20, 40, 80, 160, 300, 300, None, 10):
        if wait is None:
            run.learned()
            continue
        run.again()
        now += wait - 1
        assert run.order() is None
        now += 1
        assert run.order() is not None


async def test_what_others_promote_is_asked_for_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("daemon.runtime.loop.time.monotonic", lambda: now)
    shelf = Shelf()

    async def events() -> AsyncIterator[SourceEvent]:
        nonlocal now
        for i in range(40):
            now = 100.0 + i / 4
            yield PolledRecords(NOBODY, ())

    await ran(stream(), events(), shelf)
    assert shelf.polled == 10


async def test_a_registry_that_could_not_be_told_to_point_back_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.loop.WITHDRAW_AGAIN_S", 0.0)
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = Raising(SPEC.sensors, SPEC.window, "v2")
    registry = Registry(fails=3)
    polls = [PolledRecords(PUMPS_0, steady(30)), *[PolledRecords(PUMPS_0, ())] * 20]
    with capture_logs() as logs:
        await ran(run, following(*polls), registry)
    assert [version for _, version, _ in registry.asked] == ["v2"]
    assert [entry["event"] for entry in logs].count("model_withdrawn") == 1


# ------------------------------------------------------------------ ends and pauses
async def test_a_poll_in_flight_is_committed_as_far_as_it_came_when_the_source_closes() -> None:
    """Of 20,000 records; a successor that goes on from there says what is missing, once."""
    records = steady(20_000)
    whole = Script([PolledRecords(PUMPS_0, records)])
    await made(whole, stream())[0].run()
    cut = Script([PolledRecords(PUMPS_0, records)], close_after=2)
    await made(cut, stream())[0].run()
    offset = cut.commits[-1].position.offset
    assert 0 < offset < 10_000
    rest = after(cut, [PolledRecords(PUMPS_0, records[cut.commits[-1].position.replay_from :])])
    await made(rest, stream())[0].run()
    assert rest.commits[-1].position.offset == 20_000
    assert list(map(repr, outputs_of(cut) + outputs_of(rest))) == list(map(repr, outputs_of(whole)))


@pytest.mark.parametrize("polls", [[], [PolledRecords(PUMPS_0, steady(20_000))]])
async def test_a_recovery_is_given_up_when_the_source_closes(polls: list[PolledRecords]) -> None:
    """While state is restored, or while records are replayed: nothing of it may be committed."""
    first = Script([PolledRecords(PUMPS_0, steady(20_000))])
    await made(first, stream())[0].run()
    second = after(first, polls)
    second.replay_from, second.close_after = (0, 3) if polls else (second.publish_from, 0)
    loop, _, _ = made(second, stream())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_module, "RESTORED_AT_ONCE", 1)
        await loop.run()
    assert second.commits == []
    assert second.looked <= 5


async def test_a_fleet_s_state_is_restored_and_saved_with_pauses() -> None:
    """The most that is done between two beats does not grow with the fleet."""

    class Counting(Status):
        beats = 0

        def beat(self) -> None:
            self.beats += 1

    async def recovered(assets: int) -> int:
        records = [line(i, f"p{i:05}", float(i // assets), 0.5, 0.5) for i in range(assets)]
        first = Script([PolledRecords(PUMPS_0, records)])
        await made(first, stream())[0].run()
        pipeline = stream().open(Assigned(PUMPS_0, 0, 0))
        for _ in pipeline.feed(PolledRecords(PUMPS_0, records)):
            pass
        pipeline._forced |= pipeline.names
        second = Script([], list(pipeline.saving()), assets)
        run, status = stream(), Counting(["pumps"])
        loop = Loop(second, None, [run], Metrics(["pumps"], ["sensors.pumps"]), status, checkpoints=True)
        await loop.run()
        assert len(run.pipelines[PUMPS_0].names) == assets
        return status.beats

    assert await recovered(4_000) > await recovered(400) + 15


async def test_a_start_that_waits_for_the_registry_beats_and_can_be_ended() -> None:
    class Away(Shelf):
        async def promoted(self, stream: str) -> bytes | None:
            await asyncio.Event().wait()
            raise AssertionError

    source = Script([], close_after=3)
    loop, _, status = made(source, stream(), Away())
    await loop.run()
    assert status._beat is not None
    assert source.commits == []
