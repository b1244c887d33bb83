"""``anomalyd demo``: the daemon on a simulated fleet, with no broker and no configuration.

The fleet's readings are appended to an in-memory log (``FleetFeed``), the loop of ``run`` reads it, and
alerts are published to its alerts topic. The fleet's clock stops while the first model trains, so that what
is found depends on the seed alone; then a simulated day passes in about a minute, with faults injected and
retrainings beside it.

In: ``DemoOptions``, and a ``DemoListener`` for what happens meanwhile. Out: ``Demonstrated``: injected
against found, and the rows and models by which an episode can be explained.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from daemon.adapters.files import check_place, replacing
from daemon.adapters.memory import MemoryControls, MemoryLog, MemorySink, MemorySource
from daemon.adapters.root_cause_page import consequence, headline, root_cause_html
from daemon.adapters.simulator import Fleet, FleetScore, Tick, score
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.commands.accounting import corrupt_lines
from daemon.commands.desk import ControlDesk
from daemon.commands.root_cause import worst_explained
from daemon.commands.wiring import encoder
from daemon.config import AlertsSection, HttpSection, Settings, load
from daemon.domain import AlertEvent, AlertKind, Output, instant
from daemon.model.detector import BundleDetector
from daemon.model.root_cause import RootCause
from daemon.runtime.admin_port import admin_port
from daemon.runtime.loop import Loop
from daemon.runtime.options import Hold, LoopOptions
from daemon.runtime.process import ended_by_signals
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.runtime.trainer import TrainingResult
from daemon.stream.steps import RowBlock, Step
from daemon.stream.summaries import lasted_ns, lasting

START = datetime(2026, 1, 5, tzinfo=UTC)
LEARN = timedelta(hours=24)
"""Simulated time before the first model, without faults."""
LIVE = timedelta(hours=24)
RETRAIN = timedelta(hours=6)
DRILL_SHARE = 0.05
"""Of one CPU, for the fire drill: five times the usual, so that it gives results within a minute."""
KEPT_BLOCKS = 5_000
"""Blocks of rows that are kept to explain an episode by: the live day has about 1,500."""
KEPT_DETECTORS = 8
AUDIT = 200
"""One in so many known readings is hidden: more than usual, so that one day fills the table of the page."""
UNREAD_TICKS = 5
"""The fleet's clock stops while the daemon is further behind than this."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What ``demo`` is given."""

    seed: int = 0  # of the fleet; the same seed injects the same faults
    duration: timedelta = timedelta(seconds=60)  # wall time of the live day, at least
    forever: bool = False  # go on after the day, until SIGTERM or Ctrl-C
    http: HttpSection | None = None  # the admin port; None opens none
    settings: Settings | None = None  # a configuration, for everything but the stream itself
    fleet: Fleet | None = None  # None: 24 pumps


@dataclass(frozen=True, slots=True)
class DemoListener:
    """Callbacks for what happens while a demo runs."""

    alert: Callable[[AlertEvent], None] = lambda event: None
    progress: Callable[[str, float], None] = lambda doing, share: None  # what is being done, share done
    opened: Callable[[str], None] = lambda address: None  # the admin port's address


SILENT = DemoListener()


@dataclass(slots=True, eq=False)
class Demonstrated:
    """The result of a demo: injected against found over the live stage, and what explains an episode."""

    score: FleetScore
    asset_days: float
    assets: int
    rows: int
    filled: int
    outcomes: list[TrainingResult]
    seconds: float
    plan: StreamPlan
    events: list[AlertEvent] = field(default_factory=list)
    blocks: Sequence[RowBlock] = ()  # the rows that were judged or learned, the newest of them
    detectors: Mapping[str, BundleDetector] = field(default_factory=dict)  # those that judged, by version
    lost: Sequence[str] = ()  # what of the fleet's messages could not be read
    interrupted: bool = False  # ended by SIGTERM or Ctrl-C before the live stage was over

    @property
    def allowed(self) -> Mapping[AlertKind, float]:
        """By kind, the false episodes that its budget allows for the live stage of the whole fleet."""
        budgets = {AlertKind.ANOMALY: self.plan.budget, AlertKind.DEVIATION: self.plan.deviation_budget}
        return {
            kind: budget.allowed(self.asset_days, self.assets)
            for kind, budget in budgets.items()
            if budget is not None
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an episode was one, and the two sentences that sum it up."""

    why: RootCause
    headline: str
    consequence: str


class AlertingSink:
    """A ``ports.Sink`` that passes everything on to another one, and keeps and reports the alerts."""

    def __init__(self, inner: MemorySink, report: Callable[[AlertEvent], None]) -> None:
        self.inner = inner
        self.report = report
        self.events: list[AlertEvent] = []

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        await self.inner.publish(outputs)
        for output in outputs:
            if isinstance(output, AlertEvent):
                self.events.append(output)
                self.report(output)


def demo_plan(fleet: Fleet, settings: Settings | None) -> StreamPlan:
    """The plan of the fleet's stream, by the configuration in everything but the stream itself."""
    spec = fleet.spec()
    learn_rows = int(LEARN.total_seconds() * 1e9) // spec.period_ns * len(fleet.assets)
    plan = StreamPlan(
        spec,
        policy=AlertsSection().policy(spec),
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
        policy=settings.alerts.policy(spec, settings.retrain.accept_regimes_after),
        learn_rows=learn_rows,
        retrain_every=RETRAIN if given.retrain_every == timedelta(hours=24) else given.retrain_every,
    )


class FleetFeed:
    """The fleet's side of the demo: one day of readings at once, then the live day at an even pace.

    Args:
        fleet: is simulated.
        log: takes the readings, in ``topic``.
        topic: of the fleet's stream.
        options: duration, and whether the live stage ends.
    """

    def __init__(self, fleet: Fleet, log: MemoryLog, topic: str, options: DemoOptions) -> None:
        self.fleet, self.log, self.topic, self.options = fleet, log, topic, options
        self.live_since = START
        self.share = 0.0
        """Of the whole demo; 0 before the live stage."""

    async def run(self, model_ready: Callable[[], bool]) -> None:
        """Feed the log until the day has passed; the live stage begins once there is a model."""
        ticks = int(LIVE / timedelta(microseconds=self.fleet.spec().period_ns / 1e3))
        backlog = UNREAD_TICKS * len(self.fleet.assets)
        last_ns = 0
        for tick in self.fleet.records(START):
            self._put(tick)
            last_ns = tick.time_ns
            # The loop reads nothing while it trains: the log is not drained, and the fleet's clock stops.
            await self.log.drained(self.topic, backlog)
            if model_ready():
                break
        started = time.monotonic()
        pace = self.options.duration.total_seconds() / ticks
        self.live_since = datetime.fromtimestamp(last_ns / 1e9, UTC)
        count = None if self.options.forever else ticks
        for i, tick in enumerate(self.fleet.records(self.live_since, count, faults=True)):
            self.share = 0.3 + 0.7 * min((i + 1) / ticks, 1.0)
            self._put(tick)
            await self.log.drained(self.topic, backlog)
            wait = started + (i + 1) * pace - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
        self.log.finish(self.topic)

    def _put(self, tick: Tick) -> None:
        for key, line in tick.lines:
            self.log.append(self.topic, line, key=key, timestamp_ns=tick.time_ns)


class DemoWatch:
    """Called by the loop after each step: keeps rows and models for the explanation, and reports progress."""

    def __init__(self, feed: FleetFeed, listener: DemoListener) -> None:
        self.feed, self.listener = feed, listener
        self.blocks: deque[RowBlock] = deque(maxlen=KEPT_BLOCKS)
        self.detectors: dict[str, BundleDetector] = {}  # by version, the newest ones

    def __call__(self, run: StreamRun, step: Step) -> None:
        """See ``LoopOptions.watch``."""
        if step.block is not None:
            self.blocks.append(step.block)
        detector, detectors = run.detector, self.detectors
        if isinstance(detector, BundleDetector) and detector.version not in detectors:
            detectors[detector.version] = detector
            while len(detectors) > KEPT_DETECTORS:
                del detectors[next(iter(detectors))]
        if detector is None:
            learned = min(run.observed_rows / run.plan.learn_rows, 1.0)
            doing = (
                f"training ({run.trainer.doing})" if run.trainer.busy else "learning what normal looks like"
            )
            self.listener.progress(doing, 0.2 * learned + 0.1 * run.trainer.share)
        else:
            doing = "retraining beside it" if run.trainer.busy else "watching the fleet"
            self.listener.progress(doing, self.feed.share)


async def demo(options: DemoOptions, listener: DemoListener = SILENT) -> Demonstrated:
    """Run the demo to its end.

    Raises:
        DaemonError: the admin port is taken.
    """
    began = time.monotonic()
    fleet = options.fleet or Fleet(options.seed)
    plan = demo_plan(fleet, options.settings)
    stream = StreamRun(plan, drills=True)
    topic = plan.spec.topics[0]
    log = MemoryLog()
    log.create(topic)
    source = MemorySource(log, [topic])
    sink = AlertingSink(MemorySink(log, "anomalyd", encoder()), listener.alert)
    status = Status({plan.spec.name: plan.learn_rows})
    reporter = Reporter(Metrics([plan.spec.name], [topic]), status, at_the_end=True)
    status.source, status.connected = "demo fleet", True
    feed = FleetFeed(fleet, log, topic, options)
    watch = DemoWatch(feed, listener)
    controls = MemoryControls(log, "anomalyd.feedback")
    loop = Loop(
        source, sink, [stream], reporter, options=LoopOptions(hold=Hold.FIRST, watch=watch, controls=controls)
    )
    status.people.now_ns = lambda: max(stream.event_time_ns, 0)  # a stop lasts by the fleet's clock
    desk = ControlDesk(status, controls, lambda: instant(status.people.now_ns()))

    interrupted = False

    def end() -> None:
        nonlocal interrupted
        interrupted = not options.forever or stream.detector is None
        status.drain()
        source.close()

    async def play() -> None:
        await _beside(loop, feed.run(lambda: stream.detector is not None), end)

    if options.http is None:
        await play()
    else:
        async with admin_port(options.http, reporter, desk) as address:
            listener.opened(address)
            await play()
    passed = datetime.fromtimestamp(max(stream.event_time_ns, 0) / 1e9, UTC) - feed.live_since
    state = status.streams[plan.spec.name]
    return Demonstrated(
        score(fleet.faults, sink.events),
        max(passed / timedelta(days=1), 0.0) * len(fleet.assets),
        len(fleet.assets),
        state.rows,
        state.filled,
        stream.outcomes,
        time.monotonic() - began,
        plan,
        sink.events,
        watch.blocks,
        watch.detectors,
        corrupt_lines(state.corrupt),
        interrupted,
    )


async def _beside(loop: Loop, feeding: Coroutine[None, None, None], end: Callable[[], None]) -> None:
    """Run the loop and the fleet beside each other until the loop ends; signals call ``end``."""
    with ended_by_signals(end):
        loop_task = asyncio.create_task(loop.run(), name="loop")
        fleet_task = asyncio.create_task(feeding, name="fleet")
        try:
            done, _ = await asyncio.wait({loop_task, fleet_task}, return_when=asyncio.FIRST_COMPLETED)
            if fleet_task in done:
                fleet_task.result()  # if the fleet failed, the loop would wait for readings without end
            await loop_task
        finally:
            for task in (fleet_task, loop_task):
                task.cancel()
            await asyncio.wait({fleet_task, loop_task})


def demonstrated_as_json(result: Demonstrated, seed: int, worst: Explanation | None) -> dict[str, Any]:
    """What ``demo --json`` prints"""
    found = result.score
    return {
        "seed": seed,
        "injected": found.injected,
        "found": found.found,
        "kinds": [
            {
                "kind": str(k.kind),
                "injected": k.injected,
                "found": k.found,
                "median_delay_s": None if k.median_delay is None else k.median_delay.total_seconds(),
            }
            for k in found.kinds
        ],
        "false_episodes": len(found.false),
        "budgeted_false_episodes": sum(result.allowed.values()),
        "asset_days": result.asset_days,
        "rows": result.rows,
        "filled_cells": result.filled,
        "trainings": [
            {"version": o.version, "promoted": o.promoted, "reason": o.reason} for o in result.outcomes
        ],
        "seconds": result.seconds,
        "explained": None if worst is None else worst.why.as_dict(),
    }


def check_page(page: Path) -> None:
    """Check, before a minute has passed, that the page of the explanation can be written.

    Raises:
        DaemonError: it cannot.
    """
    check_place(page)


def worst_episode(result: Demonstrated, page: Path | None = None) -> Explanation | None:
    """The worst episode of a demo, explained, and written as a page if one is given; None without any.

    Raises:
        DaemonError: the page cannot be written.
    """
    plan = result.plan
    why = worst_explained(result.events, result.blocks, result.detectors, plan.spec)
    if why is None:
        return None
    if page is not None:
        with replacing(page) as temporary:
            temporary.write_text(root_cause_html(why), encoding="utf-8")
    return Explanation(why, headline(why), consequence(why))


def demo_settings(config: Path | None, sets: Sequence[str]) -> Settings | None:
    """The configuration of a demo, with the fleet's stream in the place of its own; None if none was given.

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


def lasted(event: AlertEvent) -> str:
    """How long an alert has lasted, in words."""
    return lasting(lasted_ns(event))
