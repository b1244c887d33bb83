"""``anomalyd demo``: the daemon on a simulated fleet, with no broker and no configuration.

The fleet's readings go into an in-memory log, the very loop of ``run`` reads it, and alerts
come out of its alerts topic. The fleet's clock stands while the first model trains, so that
what is found depends on the seed alone; then a simulated day passes in about a minute, with
faults injected, retrainings beside it, and a table of injected against found at the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from daemon.adapters.memory import MemoryLog, MemorySink, MemorySource
from daemon.adapters.simulator import Fleet, FleetScore, Tick, score
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.commands.wiring import encoder
from daemon.config import HttpSection, Settings, load
from daemon.domain import AlarmPolicy, AlertEvent, Output
from daemon.model.detector import BundleDetector
from daemon.runtime.admin_port import admin_port
from daemon.runtime.loop import Loop
from daemon.runtime.options import Hold, LoopOptions
from daemon.runtime.process import ended_by_signals
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.runtime.trainer import TrainingResult
from daemon.stream.steps import RowBlock, Step

START = datetime(2026, 1, 5, tzinfo=UTC)
LEARN = timedelta(hours=24)
"""Simulated time before the first model, without faults."""
LIVE = timedelta(hours=24)
RETRAIN = timedelta(hours=6)
DRILL_SHARE = 0.05
"""Of one CPU: five times the usual, so that there is something to see within a minute."""
KEPT_BLOCKS = 5_000
"""Blocks of rows that are kept to explain an episode by: the live day has about 1,500."""
KEPT_DETECTORS = 8
UNREAD_TICKS = 5
"""The fleet waits when the daemon is further behind than this."""


@dataclass(slots=True, eq=False)
class Demonstrated:
    """What a demo led to."""

    score: FleetScore
    asset_days: float
    budget: float  # episodes per asset and day
    rows: int
    filled: int
    outcomes: list[TrainingResult]
    seconds: float
    plan: StreamPlan
    events: list[AlertEvent] = field(default_factory=list)
    blocks: Sequence[RowBlock] = ()  # the rows that were judged or learned, the newest of them
    detectors: Mapping[str, BundleDetector] = field(default_factory=dict)  # those that judged, by version

    @property
    def allowed(self) -> float:
        """False episodes that the budget allows for the live stage."""
        return self.budget * self.asset_days


class Announcing:
    """A sink that also tells of every alert."""

    def __init__(self, inner: MemorySink, tell: Callable[[AlertEvent], None]) -> None:
        self.inner = inner
        self.tell = tell
        self.events: list[AlertEvent] = []

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        await self.inner.publish(outputs)
        for output in outputs:
            if isinstance(output, AlertEvent):
                self.events.append(output)
                self.tell(output)


AUDIT = 200
"""One in so many known readings is hidden: a day is short, and its table on the page is to fill."""


def demo_plan(fleet: Fleet, settings: Settings | None) -> StreamPlan:
    """The fleet's stream, with what a configuration says of everything else."""
    spec = fleet.spec()
    learn_rows = int(LEARN.total_seconds() * 1e9) // spec.period_ns * len(fleet.assets)
    plan = StreamPlan(
        spec,
        policy=AlarmPolicy(refractory=spec.window),
        learn_rows=learn_rows,
        retrain_every=RETRAIN,
        drift_interval=timedelta(hours=1),
        drill_share=DRILL_SHARE,
        audit=AUDIT,
    )
    if settings is None:
        return plan
    given = StreamPlan.of(settings, settings.streams[0])
    return replace(
        given,
        spec=spec,
        policy=replace(given.policy, refractory=spec.window),
        learn_rows=learn_rows,
        retrain_every=RETRAIN if given.retrain_every == timedelta(hours=24) else given.retrain_every,
    )


async def demo(
    *,
    seed: int = 0,
    duration: timedelta = timedelta(seconds=60),
    forever: bool = False,
    http: HttpSection | None = None,
    settings: Settings | None = None,
    tell: Callable[[AlertEvent], None] = lambda event: None,
    watch: Callable[[str, float], None] = lambda doing, share: None,
    opened: Callable[[str], None] = lambda address: None,
    fleet: Fleet | None = None,
    live: timedelta = LIVE,
    poison_after: timedelta | None = None,
) -> Demonstrated:
    """Run the demo to its end.

    Args:
        seed: of the fleet; the same seed injects the same faults.
        duration: wall time for the live day to pass in, at least; a slow machine takes longer.
        forever: go on after the day, until SIGTERM or Ctrl-C.
        http: the admin port; None opens none.
        settings: a configuration, for everything but the stream itself.
        tell: called for every alert message.
        watch: called with what is going on and the share done.
        opened: called with the admin port's address.
        fleet: the fleet; by default 24 pumps.
        live: simulated length of the live stage.
        poison_after: live time after which the fleet's sensors begin to go bad unnoticed.

    Returns:
        Injected against found, over the live stage.
    """
    began = time.monotonic()
    fleet = fleet or Fleet(seed)
    plan = demo_plan(fleet, settings)
    stream = StreamRun(plan, drills=True)
    topic = plan.spec.topics[0]
    log = MemoryLog()
    log.create(topic)
    source = MemorySource(log, [topic])
    sink = Announcing(MemorySink(log, "anomalyd", encoder()), tell)
    status = Status({plan.spec.name: plan.learn_rows})
    reporter = Reporter(Metrics([plan.spec.name], [topic]), status)
    status.source, status.connected = "demo fleet", True
    ticks = int(live / timedelta(microseconds=plan.spec.period_ns / 1e3))
    progress = {"share": 0.0}
    blocks: deque[RowBlock] = deque(maxlen=KEPT_BLOCKS)
    detectors: dict[str, BundleDetector] = {}

    def look(run: StreamRun, step: Step) -> None:
        if step.block is not None:
            blocks.append(step.block)
        judge = run.detector
        if isinstance(judge, BundleDetector) and judge.version not in detectors:
            detectors[judge.version] = judge
            while len(detectors) > KEPT_DETECTORS:
                del detectors[next(iter(detectors))]
        if run.detector is None:
            learned = min(run.observed_rows / plan.learn_rows, 1.0)
            doing = (
                f"training ({run.trainer.doing})" if run.trainer.busy else "learning what normal looks like"
            )
            watch(doing, 0.2 * learned + 0.1 * run.trainer.share)
        else:
            watch("retraining beside it" if run.trainer.busy else "watching the fleet", progress["share"])

    def put(tick: Tick) -> None:
        for key, line in tick.lines:
            log.append(topic, line, key=key, timestamp_ns=tick.time_ns)

    backlog = UNREAD_TICKS * len(fleet.assets)

    async def simulate() -> None:
        """The fleet: history at once, then the live day at an even pace."""
        last_ns = 0
        for tick in fleet.records(START):
            put(tick)
            last_ns = tick.time_ns
            # The loop holds the input while it trains, and so the fleet's clock stands.
            await log.drained(topic, backlog)
            if stream.detector is not None:
                break
        started = time.monotonic()
        pace = duration.total_seconds() / ticks
        live_start = marks["live"] = datetime.fromtimestamp(last_ns / 1e9, UTC)
        if poison_after is not None:
            fleet.poison_from(live_start + poison_after)
        for i, tick in enumerate(fleet.records(live_start, None if forever else ticks, faults=True)):
            progress["share"] = 0.3 + 0.7 * min((i + 1) / ticks, 1.0)
            put(tick)
            await log.drained(topic, backlog)
            wait = started + (i + 1) * pace - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
        log.finish(topic)

    marks = {"live": START}
    loop = Loop(source, sink, [stream], reporter, options=LoopOptions(hold=Hold.FIRST, watch=look))

    def end() -> None:
        status.drain()
        source.close()

    async def play() -> None:
        with ended_by_signals(end):
            loop_task = asyncio.create_task(loop.run(), name="loop")
            fleet_task = asyncio.create_task(simulate(), name="fleet")
            try:
                done, _ = await asyncio.wait({loop_task, fleet_task}, return_when=asyncio.FIRST_COMPLETED)
                if fleet_task in done:
                    fleet_task.result()  # a failing fleet must not leave the loop waiting for ever
                await loop_task
            finally:
                for task in (fleet_task, loop_task):
                    task.cancel()
                await asyncio.wait({fleet_task, loop_task})

    if http is None:
        await play()
    else:
        async with admin_port(http, reporter) as address:
            opened(address)
            await play()
    ended_ns = stream.event_time_ns
    passed = datetime.fromtimestamp(max(ended_ns, 0) / 1e9, UTC) - marks["live"]
    state = status.streams[plan.spec.name]
    return Demonstrated(
        score(fleet.faults, sink.events),
        max(passed / timedelta(days=1), 0.0) * len(fleet.assets),
        plan.budget.episodes_per_day,
        state.rows,
        state.filled,
        stream.outcomes,
        time.monotonic() - began,
        plan,
        sink.events,
        blocks,
        detectors,
    )


def demo_settings(config: Path | None, sets: Sequence[str]) -> Settings | None:
    """A configuration for the demo, if one was asked for; its streams give way to the fleet.

    Raises:
        ConfigError: it cannot be used.
    """
    if config is None and not sets:
        return None
    spec = Fleet().spec()
    stream = {
        "name": spec.name,
        "topics": list(spec.topics),
        "sensors": {name: {} for name in spec.sensors},
        "period": timedelta(microseconds=spec.period_ns / 1e3),
    }
    return load(config, sets, {"streams": [stream]})
