"""The one loop: ``run``, ``replay`` and ``demo`` are this over three sources.

    pull -> feed the partition's pipeline, a chunk at a time -> publish -> commit

Order, backpressure and at-least-once follow from the order of these lines: nothing is pulled
before what was pulled is published, and nothing is committed before that either. Without a
sink the outputs wait for the commit and go with it, in one transaction with the position and
the state of the partition: then nothing of it happens, or all, and all of it once.

Models change between chunks: a new one is taken into every pipeline of its stream in one
step, after the old one's last chunk was published, so that no reading is left unscored and
none is scored by half of two models.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

import numpy as np
import structlog

from daemon.adapters.ports import Sink, Source
from daemon.adapters.telemetry import Lifecycle, Metrics, Promotion, Status, Throttle
from daemon.config import Settings, StreamSection, maintained
from daemon.detector import Detector
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Assigned,
    Budget,
    Dropped,
    InputPartition,
    ModelSettings,
    Output,
    PartitionCommit,
    Phase,
    PolledRecords,
    Position,
    Reading,
    Reason,
    Record,
    Records,
    Revoked,
    StateRecord,
    StreamSpec,
    instant,
    iso,
    to_ns,
)
from daemon.errors import BundleError, DaemonError
from daemon.model.bundle import Bundle
from daemon.model.calibration import DAY_NS
from daemon.runtime.fallback import Fallback
from daemon.runtime.fire_drill import FireDrill
from daemon.runtime.history import History, Released
from daemon.runtime.trainer import Trainer, TrainingJob, TrainingResult
from daemon.stream.audit import Audited, Tallies
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import Step
from daemon.stream.takeovers import NO_MODEL

log = structlog.get_logger()
T = TypeVar("T")

UNKNOWN_SENSORS_SAID = 20
LOOK_EVERY_S = 10.0
"""How often the history is asked how much of it there is, where this process's partitions do not tell."""
AGAIN_S = (10.0, 300.0)
"""From when on a training whose history could not be had is tried again, and at the longest."""
MOST_UNSENT = 10_000
"""Outputs that wait for a commit; more, and it comes before its time."""
SAVED_AT_ONCE = 500
"""Records of state that are made between two breaths: some 10 ms."""
LOOK_S = 0.25
"""How often the loop beats, and looks whether it is to end, while it waits."""
WITHDRAW_AGAIN_S = 30.0
"""Until the registry is asked again to withdraw a model, where it could not be."""


def timestamps_ns(items: Sequence[Record | Reading]) -> Sequence[int]:
    """The Kafka timestamps of what was polled; none where it is no records."""
    if isinstance(items, Records):
        return items.timestamps_ns
    return [item.timestamp_ns for item in items if isinstance(item, Record)]


class Hold(StrEnum):
    """Whether the input waits while a model trains."""

    NEVER = "never"  # run: consuming goes on
    FIRST = "first"  # demo: the fleet's clock waits for the first model
    ALWAYS = "always"  # replay: the same file gives the same result, however fast the machine is


class Models(Protocol):
    """Where promoted models are kept, for this process after a restart and for its replicas."""

    async def promoted(self, stream: str) -> bytes | None:
        """The bundle that is in force, if there is one."""
        ...

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        """Keep a bundle and put it in force."""
        ...

    async def poll(self) -> Sequence[tuple[str, bytes]]:
        """Bundles that others put in force since the last call."""
        ...

    async def before(self, stream: str) -> bytes | None:
        """The bundle that was in force before that, if there is one."""
        ...

    async def withdraw(self, stream: str, version: str, reason: str) -> None:
        """If this version is in force, put the one before in force, for all; or none."""
        ...


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What the configuration says of one stream."""

    spec: StreamSpec
    model: ModelSettings = field(default_factory=ModelSettings)
    policy: AlarmPolicy = field(default_factory=AlarmPolicy)
    budget: Budget = field(default_factory=Budget)
    learn_rows: int = 5000
    retrain_every: timedelta | None = timedelta(hours=24)
    retrain_rows: int = 50_000
    drift_interval: timedelta = timedelta(hours=1)
    maintenance: Sequence[tuple[int, int, frozenset[str]]] = ()
    max_record_bytes: int = 1 << 20
    max_asset_bytes: int = 256
    max_assets: int = 100_000
    drill_share: float = 0.0  # of one CPU
    audit: int = 0  # one in so many known readings is hidden from the model and compared; 0: none

    @staticmethod
    def of(settings: Settings, stream: StreamSection) -> StreamPlan:
        """What the settings say of one of their streams."""
        spec = stream.spec()
        return StreamPlan(
            spec,
            settings.model.settings(),
            settings.alerts.policy(spec),
            settings.calibration.budget,
            settings.model.learn_rows,
            settings.retrain.every,
            settings.retrain.rows,
            settings.drift_interval(stream),
            maintained(settings.alerts.maintenance),
            settings.limits.max_record_bytes,
            settings.limits.max_asset_bytes,
            settings.limits.max_assets,
            settings.drill.share,
            settings.audit.one_in or 0,
        )

    @property
    def drift_rows(self) -> int:
        """Rows of one asset in a drift interval."""
        return max(to_ns(self.drift_interval) // self.spec.period_ns, 1)


class StreamRun:
    """One stream in this process: its model, its partitions, its trainer.

    Args:
        plan: what the configuration says of it.
        scores: whether the scores of every row are put out.
        trace: see ``Pipeline``.
        history: what its trainings learn from; None: the rows that are released here.
        drills: whether fire drills are held beside it, if the configuration grants them any time.
    """

    def __init__(
        self,
        plan: StreamPlan,
        *,
        scores: bool = False,
        trace: bool = False,
        history: History | None = None,
        drills: bool = False,
    ) -> None:
        self.plan = plan
        self.spec = plan.spec
        self.pipelines: dict[InputPartition, Pipeline] = {}
        self.history = history or Released(plan.spec, max(plan.retrain_rows, plan.learn_rows))
        self.trainer = Trainer()
        self.fallback = Fallback()
        self.drill: FireDrill | None = None
        if drills and plan.drill_share > 0.0:
            self.drill = FireDrill(plan.spec, plan.policy, plan.drill_share, seed=plan.model.seed)
        self.detector: Detector | None = None
        self.bundle: bytes | None = None
        self.decoder = Decoder(plan.spec, plan.max_record_bytes, plan.max_asset_bytes, 2 * plan.max_assets)
        self.outcomes: list[TrainingResult] = []
        self.shelving: tuple[asyncio.Task[None], TrainingResult] | None = (
            None  # a candidate on its way to be kept
        )
        self.looking: asyncio.Task[None] | None = None  # at the history
        self.looked_at = -LOOK_EVERY_S
        self.versions: list[str] = []
        self.scored = 0  # windows that were judged, those of silent records left out
        self.episodes = 0  # anomaly episodes opened
        self.trained_ns: int | None = None  # event time of the newest row that the model learned from
        self.tallies: Tallies | None = None  # of the audits of the model in force; None: there are none yet
        self.measured: Callable[[int], AbstractContextManager[object]] = nullcontext  # see ``Pipeline``
        self._scores = scores
        self._trace = trace
        self._wanted_rows = plan.learn_rows
        self._trained_until_ns: int | None = None  # the last training's event time; None: of none yet
        self._before_ns: int | None = None  # ... before the training under way began
        self._again_at = 0.0  # no training before, on the monotonic clock
        self._again_s = AGAIN_S[0]

    def open(self, assigned: Assigned) -> Pipeline:
        """Start a partition's pipeline; it judges with the stream's model from its first row.

        What a predecessor saved of it is yet to be restored.
        """
        plan = self.plan
        settings = PipelineSettings(
            self.spec,
            plan.policy,
            to_ns(plan.drift_interval),
            maintenance=plan.maintenance,
            scores=self._scores,
            max_assets=plan.max_assets,
            trace=self._trace,
            audit=plan.audit,
        )
        pipeline = Pipeline(
            settings,
            assigned.partition,
            self.decoder,
            publish_from=assigned.publish_from,
            measured=self.measured,
        )
        pipeline.offset = assigned.replay_from
        pipeline.training_cut = self.plan.learn_rows if self.detector is None else None
        if self.detector is not None:
            pipeline.use(self.detector)
        self.pipelines[assigned.partition] = pipeline
        return pipeline

    @property
    def event_time_ns(self) -> int:
        """The stream's event time here: that of its furthest partition; -1 before any."""
        return max((p.event_time_ns for p in self.pipelines.values()), default=-1)

    @property
    def observed_rows(self) -> int:
        """Rows that were spoken of, in all partitions here."""
        return sum(p.observed_rows for p in self.pipelines.values())

    @property
    def budgeted(self) -> float:
        """Anomaly episodes that the budget allows for what was judged here so far."""
        days = self.scored * self.spec.hop * self.spec.period_ns / DAY_NS
        return self.plan.budget.episodes_per_day * days

    @property
    def budget_ratio(self) -> float:
        """Episodes opened over those budgeted; NaN before one is: less says nothing yet."""
        return self.episodes / self.budgeted if self.budgeted >= 1.0 else math.nan

    @property
    def leads(self) -> bool:
        """One replica trains: the one that reads partition 0 of the stream's first topic."""
        first = self.spec.topics[0] if self.spec.topics else None
        return any(
            p.number == 0 and p.topic in (first, p.topic if first is None else first) for p in self.pipelines
        )

    def use(self, loaded: Bundle, bundle: bytes, *, committable: bool) -> dict[InputPartition, list[Output]]:
        """Put a bundle in force, everywhere at once, or in each partition when it is next at rest.

        Args:
            loaded, bundle: the same, parsed and as bytes.

        Raises:
            BundleError: it was made for another stream, or has failed here.
        """
        check_compatible(loaded, self.spec)
        detector = loaded.detector()
        self.fallback.check(detector.version)
        outgoing = self.bundle if self.detector is not None else None
        if self.detector is None or self.detector.version != detector.version:
            self.fallback.took_over(outgoing)
        self.detector, self.bundle = detector, bundle
        self.trained_ns = trained_ns(loaded)
        self.versions.append(detector.version)
        known = event_time_in(loaded.facts, "trained_until")
        if not self.history.lasting or known is None:
            self._trained_until_ns = None  # the next one is due at the next multiple from now
        elif self._trained_until_ns is None or self._trained_until_ns < known:
            self._trained_until_ns = known  # never back: a model of before may be in force again for a reason
        return self._hand_over(committable)

    def give_up(self, *, committable: bool) -> tuple[str, bytes | None, dict[InputPartition, list[Output]]]:
        """Judge with the model in force no more, nor with any other until one is used.

        Returns:
            Why, the bundle that could take over, and what is left to be said.
        """
        assert self.detector is not None
        reason, before = self.fallback.give_up(self.detector.version)
        self.detector = self.bundle = None
        return reason, before, self._hand_over(committable)

    def _hand_over(self, committable: bool) -> dict[InputPartition, list[Output]]:
        """Let every partition judge with what is in force now."""
        if self.drill is not None:
            self.drill.use(self.detector)
        self.tallies = None
        outputs = {}
        for partition, pipeline in self.pipelines.items():
            if committable:
                pipeline.use_when_committable(self.detector)
            else:
                outputs[partition] = pipeline.use(self.detector)
            pipeline.training_cut = None
        return outputs

    def order(self) -> TrainingJob | None:
        """A training, if one is due now.

        A first one when there are ``learn_rows`` observed rows: here, or in the history. A retraining at
        the multiples of ``retrain.every`` in event time, so that replicas and restarts agree on them; it
        learns what lies before its multiple.
        """
        if self.trainer.busy or self.shelving is not None or not self.leads:
            return None
        if time.monotonic() < self._again_at:
            return None
        plan, until_ns = self.plan, None
        if self.detector is None:
            seen = self.observed_rows >= self._wanted_rows
            if not seen and not self.history.holds(self._wanted_rows):
                return None
            # What was seen here may be on the topics no more: then what is left will do.
            past = self.history.first(self._wanted_rows, 0 if seen else self._wanted_rows)
        else:
            until_ns = self._due_ns()
            if until_ns is None:
                return None
            past = self.history.newest(until_ns)
        return TrainingJob(
            self.spec,
            plan.model,
            plan.policy,
            plan.budget,
            plan.drift_rows,
            past,
            self.bundle,
            until_ns=until_ns,
        )

    def _due_ns(self) -> int | None:
        """The event time of the retraining that is due; None if none is."""
        now_ns = self.event_time_ns if self.event_time_ns >= 0 else self.history.event_time_ns
        every = self.plan.retrain_every
        if every is None or now_ns < 0:
            return None
        # A row is complete only when the allowed lateness has passed.
        until_ns = (now_ns - self.spec.allowed_lateness_ns) // to_ns(every) * to_ns(every)
        if self._trained_until_ns is None:
            self._trained_until_ns = until_ns
        if until_ns <= self._trained_until_ns:
            return None
        self._before_ns, self._trained_until_ns = self._trained_until_ns, until_ns
        return until_ns

    @property
    def curious(self) -> bool:
        """Whether the history should be looked at: what this process reads does not say whether a training is due."""
        if not (self.history.lasting and self.leads):
            return False
        return self.detector is None or (self.plan.retrain_every is not None and self.event_time_ns < 0)

    def failed(self) -> None:
        """A training came to nothing: a first one is tried again with half as many rows more."""
        if self.detector is None:
            self._wanted_rows += max(self._wanted_rows // 2, 1)

    def again(self) -> None:
        """A training's history could not be had: the same training after a while."""
        if self.detector is not None:
            self._trained_until_ns = self._before_ns
        self._again_at = time.monotonic() + self._again_s
        self._again_s = min(2 * self._again_s, AGAIN_S[1])

    def learned(self) -> None:
        """A training's history was had."""
        self._again_s = AGAIN_S[0]


def trained_ns(bundle: Bundle) -> int | None:
    """Event time of the newest row that a bundle was trained on; None where it does not say."""
    return event_time_in(bundle.facts, "newest_ns")


def event_time_in(facts: Mapping[str, object], name: str) -> int | None:
    """An event time that a bundle's facts hold; None where they do not, or what they hold is no date."""
    found = facts.get(name)
    # 9999-12-31: what a damaged or foreign bundle says must still be a date.
    return found if type(found) is int and 0 <= found < 253_402_300_800 * 10**9 else None


def check_compatible(bundle: Bundle, spec: StreamSpec) -> None:
    """Refuse a bundle that was made for another stream.

    Raises:
        BundleError: sensors, period or window differ.
    """
    for what, theirs, ours in (
        ("sensors", bundle.sensors, spec.sensors),
        ("period", f"{bundle.period_ns / 1e9:g} s", f"{spec.period_ns / 1e9:g} s"),
        ("window", bundle.window, spec.window),
    ):
        if theirs != ours:
            reason = f"its {what} {theirs}, the stream's {ours}"
            if what == "sensors" and sorted(bundle.sensors) == sorted(spec.sensors):
                reason = "it has the same sensors in another order; list them in the stream as the model does"
                reason += f": {', '.join(bundle.sensors)}"
            raise BundleError(f"model {bundle.version} does not fit stream {spec.name}: {reason}")


def other_conditions(bundle: Bundle, spec: StreamSpec) -> str:
    """What to say where a model learned other condition fields than the stream has now; empty if all is well.

    No reason to refuse it: all rows are scored as of an unknown condition until the next training.
    """
    theirs = bundle.facts.get("condition")
    if theirs is None or list(theirs) == list(spec.condition):
        return ""  # bundles of before do not say
    ours = f"[{', '.join(spec.condition)}]"
    return f"it learned condition [{', '.join(theirs)}], the stream has {ours}: rows are scored as unknown"


class Loop:
    """See the module.

    Args:
        source, sink: the ends. No sink: the source's commits carry the outputs.
        streams: what to do with which topic.
        metrics, status: what the admin port answers from.
        models: where promoted models are kept; None keeps them in this process only.
        hold: whether the input waits for a training.
        commit_every: positions are computed and committed at most this often.
        checkpoints: whether commits carry what a successor must know.
        watch: called after every chunk (progress bars).
        each_round: called for every event of the source (what only the service can tell the metrics).
    """

    def __init__(
        self,
        source: Source,
        sink: Sink | None,
        streams: Sequence[StreamRun],
        metrics: Metrics,
        status: Status,
        *,
        models: Models | None = None,
        hold: Hold = Hold.NEVER,
        commit_every: timedelta = timedelta(milliseconds=500),
        checkpoints: bool = False,
        watch: Callable[[StreamRun, Step], None] | None = None,
        each_round: Callable[[], None] | None = None,
    ) -> None:
        self.source = source
        self.sink = sink
        self.streams = list(streams)
        self.metrics = metrics
        self.status = status
        self.models = models
        self.hold = hold
        self.watch = watch
        self._each_round = each_round
        self._commit_every_s = commit_every.total_seconds()
        self._committed_at = 0.0
        self._commit_now = False
        self._checkpoints = checkpoints
        self._unsent: dict[InputPartition, list[Output]] = {}
        self._polled_models_at = 0.0
        self._committed: dict[InputPartition, Position] = {}
        self._topics = {topic: stream for stream in self.streams for topic in stream.spec.topics}
        self._said_unknown: Counter[str] = Counter()
        self._throttle = Throttle()
        self._withdrawing: set[asyncio.Task[None]] = set()  # models that failed, on their way out
        # Polls of which nothing is durable yet: when they arrived, and their records' timestamps in ns.
        self._arrived: dict[InputPartition, list[tuple[float, Sequence[int]]]] = {}
        self._newest_ns: dict[InputPartition, int] = {}  # Kafka timestamp of the newest record processed
        for stream in self.streams:
            stream.measured = metrics.inferring
            if stream.drill is not None:
                status.streams[stream.spec.name].drill = stream.drill.table
        metrics.lifecycle(lambda: status.lifecycle)

    async def run(self) -> None:
        """Until the source ends."""
        try:
            if not await self._beating(self._start()):
                return
            async for event in self.source.events():
                self.status.beat()
                if self._each_round is not None:
                    self._each_round()
                match event:
                    case Assigned():
                        await self._assigned(event)
                    case Revoked():
                        self._revoked(event.partition)
                    case PolledRecords():
                        self._commit_now |= event.handover
                        await self._polled(event)
                await self._follow()
                await self._look()
                await self._commit()
                await self._drill()
            await self._commit(last=True)
        finally:
            for stream in self.streams:
                stream.trainer.stop()
                if stream.looking is not None:
                    stream.looking.cancel()
                    await asyncio.wait({stream.looking}, timeout=1.0)  # without a broker it takes longer
                if stream.shelving is not None:
                    stream.shelving[0].cancel()
                    await asyncio.wait({stream.shelving[0]})
            for task in self._withdrawing:
                task.cancel()
            if self._withdrawing:
                await asyncio.wait(self._withdrawing)

    async def _start(self) -> bool:
        """Take what is in force; True when that is done, for ``_beating`` may give it up."""
        for stream in self.streams:
            # The registry's promoted version comes before the one given at the start.
            if not await self._restored(stream) and stream.bundle is not None:
                await self._use(stream, stream.bundle, Promotion.RESTORED, "given at the start")
        self._say_lifecycle()
        return True

    async def _restored(self, stream: StreamRun) -> bool:
        """Whether the registry had a model; where the promoted one cannot be used, the one before it."""
        models, name = self.models, stream.spec.name
        if models is None:
            return False
        try:
            held = await models.promoted(name)
            if held is not None:
                await self._use(stream, held, Promotion.RESTORED, "promoted in the registry")
            return held is not None
        except BundleError as error:
            self._bundle_refused(stream, "registry", error)
        try:
            held = await models.before(name)
            if held is not None:
                await self._use(stream, held, Promotion.RESTORED, "promoted before one that cannot be used")
            return held is not None
        except BundleError as error:
            self._bundle_refused(stream, "registry", error)
            return False

    async def _assigned(self, event: Assigned) -> None:
        stream = self._topics[event.partition.topic]
        pipeline = stream.open(event)
        for _ in pipeline.restoring(event.saved, exact=event.exact):
            await self._breathe()
            if self.source.closing:
                del stream.pipelines[event.partition]  # nothing was done here that a commit could tell
                return
        self._committed.pop(event.partition, None)
        self._unsent.pop(event.partition, None)
        self._arrived.pop(event.partition, None)
        self.metrics.assigned(event.partition)
        self.metrics.rebalance("assigned")
        if pipeline.unusable:
            self.metrics.restored("unusable", len(pipeline.unusable))
            log.warning(
                "state_unusable",
                topic=event.partition.topic,
                partition=event.partition.number,
                records=len(pipeline.unusable),
                reason=pipeline.unusable[0],
            )
        if event.saved:
            self.metrics.restored("ok" if pipeline.restored else "failed")
            if not pipeline.restored and not pipeline.unusable:
                log.warning(
                    "state_unusable",
                    topic=event.partition.topic,
                    partition=event.partition.number,
                    reason="of another position, or made for another period, window or sensors",
                )
        self.status.joined = True
        self._say_lifecycle()
        log.info(
            "partition_assigned",
            topic=event.partition.topic,
            partition=event.partition.number,
            replay_from=event.replay_from,
            resume_at=event.publish_from,
            model=pipeline.model,
        )
        await self._publish(event.partition, pipeline.predecessor_outputs())

    def _revoked(self, partition: InputPartition) -> None:
        stream = self._topics[partition.topic]
        stream.pipelines.pop(partition, None)
        if stream.drill is not None:
            stream.drill.leave(partition)
        self._committed.pop(partition, None)
        self._unsent.pop(partition, None)  # whoever has it now finds it uncommitted, and does it again
        self._arrived.pop(partition, None)
        self._newest_ns.pop(partition, None)
        self.metrics.revoked(partition)
        self.metrics.rebalance("revoked")
        self.status.revoked(partition)
        self._count_assets(stream)
        log.info("partition_revoked", topic=partition.topic, partition=partition.number)

    async def _polled(self, event: PolledRecords) -> None:
        stream = self._topics.get(event.partition.topic)
        pipeline = stream.pipelines.get(event.partition) if stream is not None else None
        if stream is None or pipeline is None:
            return
        counts, reasons = pipeline.counts.copy(), pipeline.reasons.copy()
        dropped, suppressed = pipeline.dropped.copy(), pipeline.episodes.suppressed
        replaying = pipeline.replaying
        began = time.perf_counter()
        for step in pipeline.feed(event):
            await self._publish(event.partition, step.outputs)
            self._account(stream, step)
            if stream.drill is not None:
                stream.drill.look(pipeline, step)
            if stream.detector is not None and stream.fallback.judged(step, stream.detector.version):
                await self._give_up(stream, stream.detector.version)
            await self._train(stream)
            if step.committable:
                self._commit_now = True
                await self._commit()
            await self._breathe()
            if self.source.closing:
                if pipeline.replaying:
                    del stream.pipelines[event.partition]  # the position is further than this
                    return
                if step.committable:
                    break  # what is left of the poll is read again
                pipeline.stop_soon()
        if replaying and not pipeline.replaying:
            going_on = []
            for episode in pipeline.episodes.going_on(pipeline.model):
                going_on.append(episode)
                if len(going_on) % SAVED_AT_ONCE == 0:
                    await self._breathe()
            self.metrics.restored_episodes(going_on)
            self.status.restored_episodes(going_on)
        topic = event.partition.topic
        name = stream.spec.name
        if event.items:
            self.metrics.consumed(topic, len(event.items))
            new = pipeline.counts - counts
            self.metrics.dispositions(name, new)
            self.status.dispositions(name, new)
            for reason, n in (pipeline.reasons - reasons).items():
                self.metrics.rejected(topic, Reason(reason), n)
            for reason, n in (pipeline.dropped - dropped).items():
                self.metrics.dropped(name, reason, n)
                if reason is Dropped.MODEL_FAILED and self._throttle.admit((name, reason)) is not None:
                    log.warning("windows_unscored", stream=name, windows=n, rule="the model failed on them")
            if pipeline.episodes.suppressed > suppressed:
                self.metrics.suppressed("maintenance", pipeline.episodes.suppressed - suppressed)
            stamps = timestamps_ns(event.items)
            if stamps:
                self._newest_ns[event.partition] = stamps[-1]
            if not replaying:  # what follows from a record that is read again was published long ago
                self._arrived.setdefault(event.partition, []).append((began, stamps))
            if self.sink is not None:
                self._durable(event.partition)
            self._say_unknown_sensors(stream)
            self._say_zoneless(stream)
        if event.end_offset is not None:
            behind = max(event.end_offset - pipeline.offset, 0)
            newest_ns = self._newest_ns.get(event.partition, 0)
            seconds = max(time.time() - newest_ns / 1e9, 0.0) if newest_ns > 0 else math.nan
            self.metrics.lag(topic, event.partition.number, behind, seconds if behind else 0.0)
        self._count_assets(stream)
        await self._train(stream)

    def _count_assets(self, stream: StreamRun) -> None:
        assets = sum(p.assets for p in stream.pipelines.values())
        self.metrics.assets(stream.spec.name, assets)
        self.status.streams[stream.spec.name].assets = assets

    def _durable(self, partition: InputPartition) -> None:
        """What follows from all that has been polled of a partition can be read by others now."""
        name = self._topics[partition.topic].spec.name
        now, wall = time.perf_counter(), time.time()
        for arrived, stamps in self._arrived.pop(partition, ()):
            self.metrics.processed(now - arrived)
            known = np.asarray(stamps, np.float64)
            self.metrics.latency(name, np.maximum(wall - known[known > 0] / 1e9, 0.0))

    def _account(self, stream: StreamRun, step: Step) -> None:
        """Tell history, metrics and the page of one chunk."""
        name = stream.spec.name
        stream.episodes += sum(
            isinstance(o, AlertEvent) and o.kind is AlertKind.ANOMALY and o.phase is Phase.OPENED
            for o in step.outputs
        )
        if step.block is not None:
            stream.history.add(step.block)
            self.status.streams[name].rows += len(step.block.rows)
            if step.scored:
                block, period_ns = step.block, stream.spec.period_ns
                self.status.streams[name].scored_rows(
                    block.assets, block.slots, block.rows * period_ns, block.scores, block.firing
                )
            if step.scored and not step.silent:
                stream.scored += step.scored
                self.metrics.budget(name, stream.budget_ratio)
                self.metrics.scored(name, step.scored, step.block.scores)
        if step.filled and not step.silent:
            self.metrics.filled(name, step.filled)
        if step.audited is not None:
            self._audited(stream, step.audited)
        if self.watch is not None:
            self.watch(stream, step)

    def _audited(self, stream: StreamRun, audited: Audited) -> None:
        """Tell metrics and the page how readings were filled in that had been hidden."""
        name, detector = stream.spec.name, stream.detector
        if detector is None or audited.model != detector.version:
            return  # of a model that is on its way out
        tallies = stream.tallies = stream.tallies or Tallies(stream.spec.sensors, detector.scaling)
        found = [tallies.of(c) for c in tallies.add(audited)]
        counts = np.bincount(audited.sensor, minlength=len(tallies.sensors)).tolist()
        self.metrics.audited(name, found, dict(zip(tallies.sensors, counts, strict=True)))
        self.status.streams[name].imputation.update({one.sensor: one for one in found})

    async def _publish(self, partition: InputPartition, outputs: Sequence[Output]) -> None:
        if not outputs:
            return
        if self.sink is None:
            unsent = self._unsent.setdefault(partition, [])
            unsent += outputs
            self._commit_now |= len(unsent) > MOST_UNSENT
        else:
            with self.status.waiting_for("kafka"):
                await self.sink.publish(outputs)
            self._published(outputs)

    def _published(self, outputs: Sequence[Output]) -> None:
        """Outputs are where others read them: now they count, and not again should they be done again."""
        self.status.published(outputs)
        self.metrics.published(outputs)

    def _say_zoneless(self, stream: StreamRun) -> None:
        """Once per stream: a producer that writes local time is an hour or more off, and nobody sees it."""
        key = f"{stream.spec.name}\x1fzone"
        if stream.decoder.zoneless and stream.spec.timezone is None and key not in self._said_unknown:
            self._said_unknown[key] = 1
            log.warning(
                "timestamps_without_zone",
                stream=stream.spec.name,
                rule="they are read as UTC; the stream's `timezone` in the config says which zone they are in",
            )

    def _say_unknown_sensors(self, stream: StreamRun) -> None:
        """Once per name: a sensor that is not in the config is most often a misspelt one."""
        for sensor in stream.decoder.unknown_sensors:
            key = f"{stream.spec.name}\x1f{sensor}"
            if key not in self._said_unknown and len(self._said_unknown) < UNKNOWN_SENSORS_SAID:
                self._said_unknown[key] = 1
                log.warning(
                    "unknown_sensor",
                    stream=stream.spec.name,
                    sensor=sensor,
                    rule="not among the stream's sensors in the config: its values are ignored",
                )

    # -------------------------------------------------------------- models
    async def _use(self, stream: StreamRun, bundle: bytes, result: Promotion, reason: str) -> None:
        # A large one takes seconds to parse.
        loaded = await self._beating(asyncio.to_thread(Bundle.from_bytes, bundle))
        if loaded is None:
            return
        outputs = stream.use(loaded, bundle, committable=self._checkpoints)
        detector = stream.detector
        assert detector is not None
        name = stream.spec.name
        for partition, left in outputs.items():
            await self._publish(partition, left)
        self._commit_now = True  # nobody may score again with the old model what the new one follows
        trained_at = None if stream.trained_ns is None else instant(stream.trained_ns)
        self.metrics.model(name, detector.version, trained_at)
        self.metrics.drift_reference(name, detector.version, detector.drift)
        self.metrics.thresholds(name, detector.threshold, detector.part_thresholds)
        self.metrics.audits_of(name, stream.spec.sensors if stream.plan.audit else ())
        self.metrics.promotion(name, result)
        self.status.model(
            name,
            detector.version,
            threshold=detector.threshold,
            part_thresholds=detector.part_thresholds,
            calibration=detector.calibration,
            trained_at=trained_at,
        )
        self.status.promotion(name, detector.version, result, reason)
        self._say_lifecycle()
        log.info("model_promoted", stream=name, version=detector.version, result=str(result), reason=reason)
        if said := other_conditions(loaded, stream.spec):
            log.warning("model_conditions_differ", stream=name, version=detector.version, reason=said)

    async def _give_up(self, stream: StreamRun, version: str) -> None:
        """The model in force fails: the one before it takes over, here and in the registry, or none does."""
        name = stream.spec.name
        reason, before, outputs = stream.give_up(committable=self._checkpoints)
        for partition, left in outputs.items():
            await self._publish(partition, left)
        self._commit_now = True
        log.warning(
            "model_given_up", stream=name, version=version, reason=reason, falls_back=before is not None
        )
        if before is not None:
            try:
                await self._use(
                    stream, before, Promotion.ROLLED_BACK, f"model {version} is given up: {reason}"
                )
            except BundleError as error:  # nothing here should make it so, and nothing may end the process
                self._bundle_refused(stream, "registry", error)
        if stream.detector is None:
            self.metrics.model(name, NO_MODEL, None)
            self.metrics.thresholds(name, math.nan, {})
            self.metrics.audits_of(name, ())
            self.metrics.drift_reference(name, NO_MODEL, None)
            self.metrics.promotion(name, Promotion.ROLLED_BACK)
            self.status.without_model(name)
            self.status.promotion(
                name, version, Promotion.ROLLED_BACK, f"{reason}; there is no model before it"
            )
            self._say_lifecycle()
        if self.models is not None:
            task = asyncio.create_task(
                self._withdraw(self.models, name, version, reason), name="withdraw a model"
            )
            self._withdrawing.add(task)
            task.add_done_callback(self._withdrawing.discard)

    async def _withdraw(self, models: Models, stream: str, version: str, reason: str) -> None:
        """Have the registry point back, so that no restart and no other replica begins with it again."""
        while True:
            try:
                await models.withdraw(stream, version, reason)
            except (DaemonError, OSError) as error:
                if self._throttle.admit("withdraw") is not None:
                    log.warning("model_not_withdrawn", stream=stream, version=version, reason=str(error))
                await asyncio.sleep(WITHDRAW_AGAIN_S)
            else:
                log.info("model_withdrawn", stream=stream, version=version)
                return

    def _bundle_refused(self, stream: StreamRun, source: str, error: BundleError) -> None:
        self.metrics.bundle_refused(source)
        kept_back = self._throttle.admit(("bundle", stream.spec.name, source))
        if kept_back is not None:
            log.warning(
                "bundle_refused", stream=stream.spec.name, source=source, reason=str(error), more=kept_back
            )

    async def _train(self, stream: StreamRun) -> None:
        """Start a training that is due; take in one that has ended."""
        if stream.shelving is not None and stream.shelving[0].done():
            (task, outcome), stream.shelving = stream.shelving, None
            await self._kept(stream, task, outcome)
        order = stream.order()
        first = stream.detector is None
        if order is not None:
            stream.trainer.start(order)
            self.status.streams[stream.spec.name].training = True
            log.info(
                "training_started",
                stream=stream.spec.name,
                first=first,
                until=None if order.until_ns is None else iso(order.until_ns),
            )
        if not stream.trainer.busy:
            return
        if self.hold is Hold.ALWAYS or (self.hold is Hold.FIRST and first):
            found: TrainingResult | None = await self._held(stream)
        else:
            found = stream.trainer.poll()
        if found is not None:
            await self._trained(stream, found)

    async def _look(self) -> None:
        """See to the trainings of streams of which nothing comes here, partition 0 being empty for instance."""
        now = time.monotonic()
        for stream in self.streams:
            if stream.looking is not None and stream.looking.done():
                task, stream.looking = stream.looking, None
                error = task.exception()
                if error is None:
                    await self._train(stream)
                elif self._throttle.admit(("history", stream.spec.name)) is not None:
                    # Whether the broker is there, the source finds out by itself.
                    log.warning("history_unread", stream=stream.spec.name, reason=str(error) or repr(error))
            elif stream.trainer.busy or stream.shelving is not None:
                await self._train(stream)
            elif stream.looking is None and stream.curious and now - stream.looked_at >= LOOK_EVERY_S:
                stream.looked_at = now
                look = stream.history.look()
                stream.looking = asyncio.get_running_loop().create_task(look, name="look at the history")

    async def _drill(self) -> None:
        """Hold the fire drills that their share of the CPU allows now, some milliseconds at a time."""
        for stream in self.streams:
            if stream.drill is None or self.source.closing:
                continue
            while stream.drill.slice():
                await self._breathe()
            stream.drill.report(self.metrics)

    async def _held(self, stream: StreamRun) -> TrainingResult:
        """Wait for the trainer; the probes must see that this is no standstill."""
        while True:
            self.status.beat()
            outcome = stream.trainer.poll()
            if outcome is not None:
                return outcome
            if self.watch is not None:
                self.watch(stream, Step())
            await asyncio.sleep(0.1)

    async def _trained(self, stream: StreamRun, outcome: TrainingResult) -> None:
        name = stream.spec.name
        self.status.streams[name].training = False
        self.metrics.retrain(outcome.seconds)
        stream.outcomes.append(replace(outcome, bundle=None))
        for note in outcome.notes:
            log.warning("training_history", stream=name, note=note)
        if outcome.later:
            stream.again()
        else:
            stream.learned()
        if outcome.postponed:
            log.info("training_postponed", stream=name, reason=outcome.reason)
            return
        log.info("training_ended", stream=name, rows=outcome.rows, seconds=round(outcome.seconds, 1))
        for concern in outcome.concerns:
            log.warning("model_concern", stream=name, version=outcome.version, concern=concern)
        if outcome.promoted and outcome.bundle is not None:
            try:
                stream.fallback.check(outcome.version)
            except BundleError as error:
                self._refused(stream, outcome.version, Promotion.REFUSED, str(error))
                stream.failed()
                return
            if self.models is not None:
                # It takes a broker a while to keep a bundle: meanwhile the old model judges on.
                keep = self.models.promote(name, outcome.bundle, outcome.version, outcome.reason)
                task = asyncio.get_running_loop().create_task(keep, name="keep a model")
                stream.shelving = task, outcome
                if self.hold is not Hold.NEVER:
                    await asyncio.wait({task})
                    await self._train(stream)
                return
            await self._take(stream, outcome)
            return
        result = Promotion.REFUSED if outcome.bundle is not None else Promotion.FAILED
        self._refused(stream, outcome.version, result, outcome.reason)
        if not outcome.later:
            stream.failed()

    async def _kept(self, stream: StreamRun, task: asyncio.Task[None], outcome: TrainingResult) -> None:
        """A candidate was kept, or could not be: then nobody else would have it, and we do not use it either."""
        assert outcome.bundle is not None
        try:
            await task
        except (DaemonError, OSError) as error:
            self._refused(stream, outcome.version, Promotion.FAILED, f"it could not be kept: {error}")
            stream.failed()
        else:
            await self._take(stream, outcome)

    async def _take(self, stream: StreamRun, outcome: TrainingResult) -> None:
        """Put a candidate in force, if it is admitted."""
        assert outcome.bundle is not None
        try:
            await self._use(stream, outcome.bundle, Promotion.PROMOTED, outcome.reason)
        except BundleError as error:
            self._bundle_refused(stream, "training", error)
            self._refused(stream, outcome.version, Promotion.FAILED, str(error))
            stream.failed()

    def _refused(self, stream: StreamRun, version: str, result: Promotion, reason: str) -> None:
        name = stream.spec.name
        self.metrics.promotion(name, result)
        self.status.promotion(name, version, result, reason)
        log.warning("model_refused", stream=name, version=version, result=str(result), reason=reason)

    async def _follow(self) -> None:
        """Take over what another replica, or an operator, has put in force."""
        now = time.monotonic()
        if self.models is None or now - self._polled_models_at < 1.0:
            return
        if any(stream.shelving is not None for stream in self.streams):
            return  # it would be met here as another's
        self._polled_models_at = now
        try:
            found = await self._beating(self.models.poll()) or ()
        except DaemonError as error:
            # What judges now judges on; whether the broker is there, the source finds out by itself.
            if self._throttle.admit("models") is not None:
                log.warning("registry_unread", reason=str(error))
            return
        for name, bundle in found:
            stream = next((s for s in self.streams if s.spec.name == name), None)
            if stream is None or bundle == stream.bundle:
                continue
            try:
                await self._use(stream, bundle, Promotion.PROMOTED, "promoted in the registry")
            except BundleError as error:
                self._bundle_refused(stream, "registry", error)

    def _say_lifecycle(self) -> None:
        for stream in self.streams:
            if stream.detector is None:
                status = self.status.streams[stream.spec.name]
                if status.state is not Lifecycle.LEARNING:
                    status.state = Lifecycle.LEARNING
                    log.info("learning", stream=stream.spec.name, rows_wanted=stream.plan.learn_rows)

    # -------------------------------------------------------------- positions
    async def _commit(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if not (last or self._commit_now) and now - self._committed_at < self._commit_every_s:
            return
        self._committed_at, self._commit_now = now, False
        work = {}
        for stream in self.streams:
            for partition, pipeline in stream.pipelines.items():
                if pipeline.offset < pipeline.publish_from:
                    continue  # still rebuilding: the committed position is further than ours
                known = self._committed.get(partition)
                outputs = self._unsent.pop(partition, [])
                moved = bool(outputs) or (self._checkpoints and pipeline.dirty)
                if not moved and known is not None and known.offset == pipeline.offset:
                    continue
                saved: list[StateRecord] = []
                for record in pipeline.saving() if self._checkpoints else ():
                    saved.append(record)
                    if len(saved) % SAVED_AT_ONCE == 0:
                        await self._breathe()
                position = self._committed[partition] = Position(pipeline.offset, pipeline.replay_from())
                work[partition] = PartitionCommit(position, outputs, saved)
        if work:
            with self.status.waiting_for("kafka"):
                failed = await self.source.commit(work) or ()
            for partition, done in work.items():
                if partition not in failed:
                    self._published(done.outputs)
                    self._durable(partition)

    async def _beating(self, work: Awaitable[T]) -> T | None:
        """Wait for something that may take long, and beat meanwhile; None once the source closes."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done() and not self.source.closing:
                self.status.beat()
                await asyncio.wait({task}, timeout=LOOK_S)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _breathe(self) -> None:
        """In the midst of long work: let heartbeats, the admin port and signals through."""
        self.status.beat()
        await asyncio.sleep(0)
