"""Set-ups of the loop's tests: a scripted source, registries and histories in memory, small streams."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np

from daemon.adapters.registry import DecisionRecord
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.budget import Budget
from daemon.detector import Evidence, Windows
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    Assigned,
    DriftRecord,
    InputPartition,
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
from daemon.runtime.drift_watch import DriftWatch
from daemon.runtime.history import History, UnreadHistory
from daemon.runtime.loop import Loop
from daemon.runtime.options import LoopOptions
from daemon.runtime.shadow import ShadowTally
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.stream.steps import RowBlock
from tests.fakes import CentreDetector, PromptTrainer

BASE_S = 1_700_000_000

PUMPS_0 = InputPartition("sensors.pumps", 0)

NO_PARTITION = InputPartition("", -1)

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
    """A source of scripted polls, which keeps what is committed."""

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


class Deciding:
    """Decisions of a registry that has ``promote``; ``decided`` are those that it took."""

    def __init__(self) -> None:
        self.decided: list[DecisionRecord] = []

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        raise NotImplementedError

    async def lead(self, stream: str) -> None: ...

    async def decide(self, record: DecisionRecord, bundle: bytes | None) -> DecisionRecord:
        if record.promoted:
            assert bundle is not None
            await self.promote(record.stream, bundle, record.version, record.reason)
        self.decided.append(record)
        return record

    async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
        return []


@dataclass
class FailingRegistry(Deciding):
    """A registry whose broker fails at every call."""

    polled: int = 0
    decided: list[DecisionRecord] = field(default_factory=list)

    async def promoted(self, stream: str) -> bytes | None:
        return None

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        raise BrokerError("a message of 9 bytes is too large for topic 'anomalyd.models'")

    async def poll(self) -> Sequence[tuple[str, bytes, str]]:
        self.polled += 1
        raise BrokerError("topic 'anomalyd.models' could not be read: request timed out")


@dataclass
class Registry(Deciding):
    """A registry in memory; ``withdrawn`` is what was withdrawn."""

    pointers: dict[str, bytes] = field(default_factory=dict)
    earlier: dict[str, bytes] = field(default_factory=dict)
    withdrawn: list[tuple[str, str, str]] = field(default_factory=list)
    news: list[tuple[str, bytes, str]] = field(default_factory=list)
    fails: int = 0
    decided: list[DecisionRecord] = field(default_factory=list)
    bundles: dict[str, bytes] = field(default_factory=dict)

    async def decide(self, record: DecisionRecord, bundle: bytes | None) -> DecisionRecord:
        if bundle is not None:
            self.bundles[record.version] = bundle
        return await super().decide(record, bundle)

    async def kept(self, stream: str, version: str) -> bytes:
        try:
            return self.bundles[version]
        except KeyError:
            raise BundleError(f"there is no version {version}") from None

    async def promoted(self, stream: str) -> bytes | None:
        return self.pointers.get(stream)

    async def before(self, stream: str) -> bytes | None:
        return self.earlier.get(stream)

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        self.pointers[stream] = bundle

    async def poll(self) -> Sequence[tuple[str, bytes, str]]:
        news, self.news = self.news, []
        return news

    async def withdraw(self, stream: str, version: str, reason: str) -> None:
        if self.fails:
            self.fails -= 1
            raise BrokerError("topic 'anomalyd.models' could not be read: request timed out")
        self.withdrawn.append((stream, version, reason))


def stream() -> StreamRun:
    run = StreamRun(StreamPlan(SPEC, retrain_every=None))
    run.detector = CentreDetector(SPEC.sensors)
    return run


def loop_over(
    source: Script, run: StreamRun, models: Any = None, status: Status | None = None, **options: Any
) -> tuple[Loop, Metrics, Status]:
    """A loop over one stream, whose commits carry outputs and state; ``options`` as in ``LoopOptions``."""
    metrics, status = Metrics(["pumps"], ["sensors.pumps"]), status or Status(["pumps"])
    options.setdefault("checkpoints", True)
    loop = Loop(source, None, [run], Reporter(metrics, status), models, LoopOptions(**options))
    return loop, metrics, status


def line(offset: int, asset: str, second: float, *values: float | None) -> Record:
    reading = dict(zip(SPEC.sensors, values, strict=True))
    value = json.dumps({"asset": asset, "ts": BASE_S + second, "values": reading}).encode()
    return Record(offset, asset.encode(), value, (BASE_S + 10**6) * SECOND_NS)


def steady(n: int, first: int = 0) -> list[Record]:
    return [line(first + i, "p1", float(first + i), 0.5, 0.5) for i in range(n)]


def varied(n: int, first: int = 0, level: float = 0.5) -> list[Record]:
    """Readings that a model can be learned from."""
    rows = level + 0.1 * np.random.default_rng(first).standard_normal((n, 2))
    return [line(first + i, "p1", float(first + i), *row.tolist()) for i, row in enumerate(rows)]


@cache
def trained_bundle(centre: float = 0.5) -> Bundle:
    """A real bundle for ``SPEC``: a fallback is read from its bytes."""
    rng = np.random.default_rng(int(10 * centre))
    rows = centre + 0.1 * rng.standard_normal((600, len(SPEC.sensors)))
    model = ModelSettings(kind="ppca")
    return train([Segment("p1", 0, rows)], SPEC, model, CalibrationTarget(AlarmPolicy(), Budget(1.0), 60))


class Fragile(CentreDetector):
    def infer(self, windows: Windows) -> Evidence:
        if (windows.values[:, -1] == 13.0).any():
            raise FloatingPointError("thirteen")
        return super().infer(windows)


def successor_of(source: Script, polls: Sequence[PolledRecords]) -> Script:
    """The source of a successor: with the position and state of the last commit."""
    saved = {record.key: record for work in source.commits for record in work.saved}
    at = source.commits[-1].position
    return Script(polls, tuple(saved.values()), at.offset, at.replay_from)


def outputs_of(source: Script) -> list[Output]:
    return [o for work in source.commits for o in work.outputs]


EVERY_S = 600

GRID_S = BASE_S // EVERY_S * EVERY_S


class MeasuredHistory:
    """A history on topics, whose extent a test sets; its segments name how they were asked for."""

    lasting = True

    def __init__(self, rows: int = 0, event_time_ns: int = -1) -> None:
        self.rows, self.event_time_ns = rows, event_time_ns
        self.measurements = 0
        self.drift = DriftWatch()
        self.shadow: ShadowTally | None = None

    def add(self, block: RowBlock) -> None: ...

    def alerted(self, events: Iterable[AlertEvent]) -> None: ...

    def drifted(self, records: Iterable[DriftRecord]) -> None: ...

    def holds(self, rows: int) -> bool:
        return self.rows >= rows

    def first(self, rows: int, least: int) -> Sequence[Segment]:
        return [Segment(f"first {rows}, at least {least}", 0, np.zeros((0, 2)))]

    def newest(self, until_ns: int) -> Sequence[Segment]:
        return [Segment(f"until {until_ns // SECOND_NS - GRID_S}", 0, np.zeros((0, 2)))]

    async def measure(self) -> None:
        self.measurements += 1

    async def measure_drift(self) -> None: ...

    async def measure_shadow(self) -> None: ...


def leading_stream(
    history: History | None,
    bundle: Bundle | None = None,
    *,
    every_s: int | None = EVERY_S,
    clock: Callable[[], float] = time.monotonic,
) -> StreamRun:
    """A stream whose partition 0 is here, with a model perhaps."""
    every = None if every_s is None else timedelta(seconds=every_s)
    run = StreamRun(StreamPlan(SPEC, learn_rows=100, retrain_every=every), history=history, clock=clock)
    if bundle is not None:
        run.use(bundle, bundle.to_bytes(), committable=False)
    run.open(Assigned(PUMPS_0, 0, 0))
    return run


def fed_until(run: StreamRun, second: float) -> StreamRun:
    """Feed a reading so many seconds after the grid point, and the one before it, which confirms it."""
    pipeline = run.pipelines[PUMPS_0]
    for ahead in (-1, 0):
        record = line(max(pipeline.offset, 0), "p1", second + ahead + GRID_S - BASE_S, 0.5, 0.5)
        for _ in pipeline.feed(PolledRecords(PUMPS_0, [record])):
            pass
    return run


def due_history(run: StreamRun) -> str | None:
    """The history of the training that is due; None if none is."""
    order = run.next_job()
    if order is None:
        return None
    assert not isinstance(order.history, UnreadHistory)
    return order.history[0].asset


def learning_stream(
    learn_rows: int = 400, clock: Callable[[], float] = time.monotonic, **plan: Any
) -> StreamRun:
    """A stream without a model, which learns at once when its rows are there."""
    plan = {"model": ModelSettings(kind="ppca"), "retrain_every": None} | plan
    run = StreamRun(StreamPlan(SPEC, learn_rows=learn_rows, **plan), clock=clock)
    run.trainer = PromptTrainer()  # type: ignore[assignment]
    return run


def trained_rows(run: StreamRun) -> list[int]:
    """How many rows each training was given."""
    trainer = run.trainer
    assert isinstance(trainer, PromptTrainer)
    return [sum(len(s.values) for s in order.history) for order in trainer.jobs]  # type: ignore[union-attr]


async def run_loop(
    run: StreamRun, events: AsyncIterator[SourceEvent], models: Any = None, **options: Any
) -> tuple[Script, Status]:
    """A loop over these events, to its end."""
    source = Script([])
    source.events = lambda: events  # type: ignore[method-assign]
    loop, _, status = loop_over(source, run, models, **options)
    await loop.run()
    return source, status


async def assigned_then(*events: SourceEvent, pauses: int = 1) -> AsyncIterator[SourceEvent]:
    """Partition 0 and these events; other tasks run in the pauses before each."""
    yield Assigned(PUMPS_0, 0, 0)
    for event in events:
        for _ in range(pauses):
            await asyncio.sleep(0)
        yield event


class Ticking:
    """A clock that moves on by two seconds per look: whatever happens at intervals is due each time."""

    def __init__(self, step_s: float = 2.0) -> None:
        self.now = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


class CountingStatus(Status):
    """Counts the beats of the loop."""

    beats = 0

    def beat(self) -> None:
        self.beats += 1
        super().beat()
