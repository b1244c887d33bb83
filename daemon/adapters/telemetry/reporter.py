"""The one place where events of the program are reported: each once, with a value.

``Reporter`` updates the metrics, the page's state and the log for each event, so that the loop, the models'
lifecycle, the admin server and the Kafka counters call one method per event, and none of these three. Events that
could repeat endlessly (an unreachable broker, windows without a score, a misspelt sensor) are logged at a
limited rate; metrics count each of them.

Nothing here awaits. All calls come from one event loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
from numpy.typing import ArrayLike

from daemon.adapters.telemetry.control_reporter import ControlReporter
from daemon.adapters.telemetry.input_log import InputLog
from daemon.adapters.telemetry.labels import NO_VERSION, HttpRefusal, Lifecycle, Promotion
from daemon.adapters.telemetry.logs import Throttle
from daemon.adapters.telemetry.metrics import Metrics
from daemon.adapters.telemetry.status import Status
from daemon.domain import (
    AlertEvent,
    Assigned,
    Dropped,
    InputPartition,
    Output,
    Reason,
    instant,
    iso,
)
from daemon.model.faults import FaultKind
from daemon.stream.accounts import Counts, Fault
from daemon.stream.audit import SensorAudit
from daemon.stream.dismissal import Effect
from daemon.trigger import Trigger

if TYPE_CHECKING:  # for annotations only: the command line imports this package at its start
    from daemon.detector import Detector
    from daemon.stream.steps import Step

log = structlog.get_logger()

TOO_LATE_RULE: Final = "planned, of an alert that is over: nothing is left to accept and nothing changes; it counts while the alert is open"
PARTS_RULE: Final = (
    "several records have parts of one row, and only the first counts: `input: {rows: gather}` in the config, with"
    " `format: json-wide` where it names none, puts them together"
)
"""What helps where each record is taken for a whole row."""


# ------------------------------------------------------------------ what is reported
@dataclass(frozen=True, slots=True)
class IngestedPoll:
    """What became of the records of one poll."""

    topic: str
    stream: str
    records: int
    counts: Counts = field(default_factory=Counts)
    dropped: Mapping[Dropped, int] = field(default_factory=dict)
    suppressed: int = 0  # episodes that began inside maintenance
    dismissed: int = 0  # episodes that did not open because they are like a dismissed one
    verdicts: Mapping[Effect, int] = field(default_factory=dict)  # of people, by what they did
    unknown_sensors: Iterable[str] = ()  # all names so far that are not in the configuration
    sensors: Sequence[str] = ()  # those that are
    corrupt_examples: Mapping[Fault, str] = field(
        default_factory=dict
    )  # a cell of each sensor and fault so far
    zoneless: bool = False  # timestamps came without a zone, and the configuration names none
    converted_units: Iterable[tuple[str, str]] = ()  # sensors so far with units that were converted
    in_parts: bool = False  # rows came in several records, of which only the first counts


@dataclass(frozen=True, slots=True)
class RestoredState:
    """How the restoration of a partition's state ended."""

    expected: bool  # a predecessor left records of state
    restored: bool  # they were of use
    unusable: Sequence[str]  # per record that could not be used, the reason


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """How a training ended."""

    reason: str
    version: str
    rows: int
    seconds: float
    notes: Sequence[str] = ()  # what an operator should know of the history
    concerns: Sequence[str] = ()  # ... and of the model
    postponed: bool = False  # there is too little history yet; nothing failed


@dataclass(frozen=True, slots=True, eq=False)
class ModelInUse:
    """A model that judges a stream from now on."""

    detector: Detector
    learned_until_ns: int | None  # event time of the newest row it was trained on, if known
    audited: Sequence[str]  # sensors of which readings are hidden from it and compared
    result: Promotion
    reason: str
    conditions_differ: str = ""  # why its condition fields are not the stream's; empty if they are
    budgets_differ: str = (
        ""  # what became of its thresholds as the stream's budgets are others; empty if they are not
    )


@dataclass(frozen=True, slots=True)
class KindFigures:
    """What the fire drill found of one kind of fault recently."""

    kind: FaultKind
    recall: float
    delay_s: float | None


@dataclass(frozen=True, slots=True)
class SensorFigures:
    """The smallest size from which a kind of fault is found in a sensor; None if there is none yet."""

    sensor: str
    kind: FaultKind
    smallest: float | None


@dataclass(frozen=True, slots=True)
class DrillFailure:
    """A model version raised in the fire drill, which ends the drill of this version."""

    version: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class DrillFigures:
    """What the fire drill of a stream found since it was last reported."""

    new_model: bool  # the figures of the model before are void
    verdicts: Sequence[tuple[FaultKind, bool]]  # per injected fault: kind, found
    kinds: Sequence[KindFigures]
    sensors: Sequence[SensorFigures]
    cpu_s: float  # CPU time since then
    failure: DrillFailure | None = None


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """What the source and the models topic have counted since the start."""

    rebalances: int = 0
    commits: int = 0
    failed_commits: int = 0
    truncated_restores: int = 0
    refused_bundles: int = 0


class Reporter:
    """Updates metrics, page and log for each event of the program.

    Args:
        metrics: what /metrics renders.
        status: what the page and the probes read.
        at_the_end: whether a command says at its end which cells are no numbers and what is rejected, instead of the log.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        metrics: Metrics,
        status: Status,
        *,
        at_the_end: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at_the_end = at_the_end
        self.metrics = metrics
        self.status = status
        self._throttle = Throttle(clock=clock)
        self.controls = ControlReporter(self._throttle, metrics, status)
        self._input = InputLog(self._throttle)
        self._counted = SourceCounts()
        metrics.process.lifecycle(lambda: status.lifecycle)

    # -------------------------------------------------------------- the process
    def beat(self) -> None:
        """The loop makes progress."""
        self.status.beat()

    def waiting_for(self, dependency: str) -> AbstractContextManager[None]:
        """While inside, the loop waits for a dependency."""
        return self.status.waiting_for(dependency)

    def inferring(self, windows: int) -> AbstractContextManager[None]:
        """While inside, the model infers one batch of ``windows``."""
        return self.metrics.readings.inferring(windows)

    def reads_kafka(self, silence_s: Callable[[], float]) -> None:
        """The input is Kafka; ``silence_s`` returns the seconds since it last answered."""
        self.status.source = "kafka"
        self.status.silence_s = silence_s
        self.metrics.process.dependency("kafka", lambda: self.status.reached)

    def connected(self) -> None:
        """Kafka was reached, and the topics exist."""
        self.status.connected = True

    def draining(self) -> None:
        """The process ends: it finishes what is in flight."""
        self.status.drain()

    def loop_lag(self, seconds: float) -> None:
        """The event loop came back to a timer so late."""
        self.metrics.process.loop_lag(seconds)

    def http_refused(self, reason: HttpRefusal) -> None:
        """The admin port refused a request or closed a connection."""
        self.metrics.http_refused(reason)

    def source_counted(self, counts: SourceCounts) -> None:
        """Report what source and models topic have counted since they were last reported."""
        before, self._counted = self._counted, counts
        self.status.joined = self.status.joined or counts.rebalances > 0  # ready without a partition, too
        consumer = self.metrics.consumer
        consumer.commits("ok", counts.commits - before.commits)
        consumer.commits("failed", counts.failed_commits - before.failed_commits)
        consumer.restored("truncated", counts.truncated_restores - before.truncated_restores)
        self.metrics.models.bundle_refused("record", counts.refused_bundles - before.refused_bundles)

    def schema_fetched(self, *, usable: bool, tries: int) -> None:
        """The schema registry answered: with a schema, or that it has none that can be used; after so many failures."""
        self.metrics.consumer.schema_asked("found" if usable else "absent")
        if tries:
            log.info("schema_registry_reached", tries=tries)

    def registry_failed(self, reason: str, tries: int) -> None:
        """The schema registry does not answer, for the ``tries``-th time on end: logged at the first."""
        self.metrics.consumer.schema_asked("failed")
        if tries == 1:
            log.warning("schema_registry_unreachable", reason=reason)

    # -------------------------------------------------------------- partitions
    def state_restored(self, partition: InputPartition, state: RestoredState) -> None:
        """A partition was assigned, and what a predecessor saved of it was restored as far as possible."""
        consumer = self.metrics.consumer
        consumer.assigned(partition)
        consumer.rebalance("assigned")
        self.status.joined = True
        if state.unusable:
            consumer.restored("unusable", len(state.unusable))
            log.warning(
                "state_unusable",
                topic=partition.topic,
                partition=partition.number,
                records=len(state.unusable),
                reason=state.unusable[0],
            )
        if state.expected:
            consumer.restored("ok" if state.restored else "failed")
            if not state.restored and not state.unusable:
                log.warning(
                    "state_unusable",
                    topic=partition.topic,
                    partition=partition.number,
                    reason="of another position, or made for another period, window or sensors",
                )

    def partition_assigned(self, event: Assigned, model: str) -> None:
        """A partition is processed from now on, with this model version."""
        log.info(
            "partition_assigned",
            topic=event.partition.topic,
            partition=event.partition.number,
            replay_from=event.replay_from,
            resume_at=event.publish_from,
            model=model,
        )

    def partition_revoked(self, partition: InputPartition) -> None:
        """A partition is processed by another replica from now on."""
        self.metrics.revoked(partition)
        self.metrics.consumer.rebalance("revoked")
        self.status.revoked(partition)
        log.info("partition_revoked", topic=partition.topic, partition=partition.number)

    def assets_counted(self, stream: str, assets: int) -> None:
        """So many assets of the stream have state here."""
        self.metrics.readings.assets(stream, assets)
        self.status.streams[stream].assets = assets

    def assets_split(self, stream: str, rule: str) -> None:
        """Several partitions have the same asset; logged once per stream."""
        self._input.once(stream, "asset_in_several_partitions", rule)

    def episodes_restored(self, events: Sequence[AlertEvent]) -> None:
        """Episodes that were open before a restart or a rebalance continue here."""
        self.metrics.episodes.restored(events)
        self.status.restored_episodes(events)

    def lag_measured(self, partition: InputPartition, records: int, seconds: float) -> None:
        """A partition is so many records behind the end of its log, and so many seconds; NaN if unknown."""
        self.metrics.consumer.lag(partition.topic, partition.number, records, seconds)

    # -------------------------------------------------------------- records and scores
    def poll_ingested(self, poll: IngestedPoll) -> None:
        """The records of one poll were processed."""
        name = poll.stream
        self.metrics.consumer.consumed(poll.topic, poll.records)
        self.metrics.readings.dispositions(name, poll.counts.records)
        self.metrics.readings.cells(name, poll.counts)
        self.status.ingested(name, poll.counts)
        for reason, n in poll.counts.reasons.items():
            self.metrics.consumer.rejected(poll.topic, Reason(reason), n)
        for dropped, n in poll.dropped.items():
            self.metrics.readings.dropped(name, dropped, n)
            _log_dropped(self._throttle, name, dropped, n)
        if poll.suppressed > 0:
            self.metrics.episodes.suppressed("maintenance", poll.suppressed)
        if poll.dismissed > 0:
            self.metrics.episodes.suppressed("dismissed", poll.dismissed)
        for effect, n in poll.verdicts.items():
            self.metrics.episodes.verdicts(effect, n)
            _log_verdicts(name, poll.topic, effect, n)
        self._input.unknown_sensors(name, poll.unknown_sensors, poll.sensors)
        if not self._at_the_end:
            self._input.corrupt_cells(name, poll.counts.corrupt, poll.corrupt_examples)
        self._input.converted_units(name, poll.converted_units)
        if poll.in_parts:
            self._input.once(name, "rows_in_parts", PARTS_RULE)
        if poll.zoneless:
            self._input.once(
                name,
                "timestamps_without_zone",
                "they are read as UTC; the stream's `timezone` in the config says which zone they are in",
            )

    def step_judged(self, stream: str, step: Step, period_ns: int, budget_ratio: float) -> None:
        """A chunk of rows was released and judged."""
        block, readings, status = step.block, self.metrics.readings, self.status.streams[stream]
        if block is not None:
            status.rows += len(block.rows)
            if step.scored:
                status.scored_rows(
                    block.assets, block.slots, block.rows * period_ns, block.scores, block.firing
                )
            if step.scored and not step.silent:
                self.metrics.episodes.budget(stream, budget_ratio)
                readings.scored(stream, step.scored, block.scores)
        if step.filled and not step.silent:
            readings.filled(stream, step.filled)

    def readings_audited(
        self, stream: str, figures: Sequence[SensorAudit], hidden: Mapping[str, int]
    ) -> None:
        """Hidden readings were compared: the newest figures, and how many more were hidden per sensor."""
        self.metrics.readings.audited(stream, figures, hidden)
        self.status.streams[stream].imputation.update({one.sensor: one for one in figures})

    def outputs_published(self, outputs: Sequence[Output]) -> None:
        """Outputs can be read by others now; each is reported once."""
        self.status.published(outputs)
        self.metrics.published(outputs)
        self.controls.published(outputs)
        if not self._at_the_end:
            self._input.rejected(outputs)

    def poll_durable(self, stream: str, processing_s: float, latencies_s: ArrayLike) -> None:
        """All outputs of a poll can be read: the time since it arrived, and since its records' timestamps."""
        self.metrics.consumer.processed(processing_s)
        self.metrics.consumer.latency(stream, latencies_s)

    # -------------------------------------------------------------- models
    def learning(self, stream: str, rows_wanted: int) -> None:
        """The stream has no model and collects rows for one; logged when that begins."""
        status = self.status.streams[stream]
        if status.state is not Lifecycle.LEARNING:
            status.state = Lifecycle.LEARNING
            log.info("learning", stream=stream, rows_wanted=rows_wanted)

    def training_started(
        self, stream: str, trigger: Trigger, until_ns: int | None, progress: Callable[[], tuple[float, str]]
    ) -> None:
        """A training began, on rows before ``until_ns`` if that is given; ``progress`` says how far it is."""
        self.status.training(stream, trigger, progress)
        log.info(
            "training_started",
            stream=stream,
            trigger=str(trigger.cause),
            reason=trigger.reason,
            until=None if until_ns is None else iso(until_ns),
        )

    def training_ended(self, stream: str, training: TrainingReport) -> None:
        """A training ended, whether or not there is a candidate."""
        self.status.streams[stream].training = None
        self.metrics.models.retrain(training.seconds)
        for note in training.notes:
            log.warning("training_history", stream=stream, note=note)
        if training.postponed:
            log.info("training_postponed", stream=stream, reason=training.reason)
            return
        log.info("training_ended", stream=stream, rows=training.rows, seconds=round(training.seconds, 1))
        for concern in training.concerns:
            log.warning("model_concern", stream=stream, version=training.version, concern=concern)

    def candidate_refused(self, stream: str, version: str, result: Promotion, reason: str) -> None:
        """A candidate was refused by the gate, or failed on its way to be promoted."""
        self.metrics.models.promotion(stream, result)
        self.status.promotion(stream, version, result, reason)
        log.warning("model_refused", stream=stream, version=version, result=str(result), reason=reason)

    def decision_unpublished(self, stream: str, reason: str) -> None:
        """What became of a training could not be published; the model in use stays."""
        if self._throttle.admit(("decision", stream)) is not None:
            log.warning("decision_unpublished", stream=stream, reason=reason)

    def bundle_refused(self, stream: str, source: str, reason: str) -> None:
        """A bundle from ``registry`` or ``training`` cannot be used."""
        self.metrics.models.bundle_refused(source)
        held_back = self._throttle.admit(("bundle", stream, source))
        if held_back is not None:
            log.warning("bundle_refused", stream=stream, source=source, reason=reason, more=held_back)

    def model_in_use(self, stream: str, model: ModelInUse) -> None:
        """A model judges the stream from now on."""
        detector, version = model.detector, model.detector.version
        learned_until = None if model.learned_until_ns is None else instant(model.learned_until_ns)
        metrics = self.metrics.models
        metrics.model(stream, version, learned_until)
        metrics.drift_reference(stream, version, detector.drift)
        metrics.thresholds(stream, detector.threshold, detector.part_thresholds)
        metrics.promotion(stream, model.result)
        self.metrics.readings.audits_of(stream, model.audited)
        self.status.model(
            stream,
            version,
            threshold=detector.threshold,
            part_thresholds=detector.part_thresholds,
            calibration=detector.calibration,
            learned_until=learned_until,
        )
        self.status.promotion(stream, version, model.result, model.reason)
        log.info(
            "model_promoted", stream=stream, version=version, result=str(model.result), reason=model.reason
        )
        if model.budgets_differ:
            log.info("model_budgets_differ", stream=stream, version=version, reason=model.budgets_differ)
        if model.conditions_differ:
            log.warning(
                "model_conditions_differ", stream=stream, version=version, reason=model.conditions_differ
            )

    def model_given_up(self, stream: str, version: str, reason: str, *, falls_back: bool) -> None:
        """The model in use fails, and is not used again; ``falls_back`` if there is one before it."""
        log.warning("model_given_up", stream=stream, version=version, reason=reason, falls_back=falls_back)

    def no_model_in_use(self, stream: str, version: str, reason: str) -> None:
        """After ``version`` was given up, nothing judges the stream until the next model."""
        metrics = self.metrics.models
        metrics.model(stream, NO_VERSION, None)
        metrics.thresholds(stream, math.nan, {})
        metrics.drift_reference(stream, NO_VERSION, None)
        metrics.promotion(stream, Promotion.ROLLED_BACK)
        self.metrics.readings.audits_of(stream, ())
        self.status.without_model(stream)
        self.status.promotion(
            stream, version, Promotion.ROLLED_BACK, f"{reason}; there is no model before it"
        )

    def model_withdrawn(self, stream: str, version: str) -> None:
        """The registry no longer has the version in force."""
        log.info("model_withdrawn", stream=stream, version=version)

    def model_not_withdrawn(self, stream: str, version: str, reason: str) -> None:
        """The registry could not be written; it is tried again."""
        if self._throttle.admit("withdraw") is not None:
            log.warning("model_not_withdrawn", stream=stream, version=version, reason=reason)

    def registry_unread(self, reason: str) -> None:
        """The registry could not be read; the model in use stays, and it is tried again."""
        if self._throttle.admit("models") is not None:
            log.warning("registry_unread", reason=reason)

    def history_unread(self, stream: str, reason: str) -> None:
        """The extent of a stream's history could not be read; it is tried again."""
        if self._throttle.admit(("history", stream)) is not None:
            log.warning("history_unread", stream=stream, reason=reason)

    # -------------------------------------------------------------- fire drill
    def drill_opened(self, stream: str, table: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """A fire drill runs beside the stream; ``table`` returns what the page shows of it."""
        self.status.streams[stream].drill = table

    def drilled(self, stream: str, figures: DrillFigures) -> None:
        """The fire drill has new figures, or failed."""
        metrics = self.metrics.drill
        if figures.new_model:
            metrics.start_over(stream)
        for kind, found in figures.verdicts:
            metrics.drilled(stream, kind, found)
        for of_kind in figures.kinds:
            metrics.of_kind(stream, of_kind.kind, of_kind.recall, of_kind.delay_s)
        for one in figures.sensors:
            metrics.smallest(stream, one.sensor, one.kind, one.smallest)
        metrics.spent(stream, figures.cpu_s)
        if figures.failure is not None:
            failure = figures.failure
            log.warning("drill_failed", stream=stream, version=failure.version, reason=failure.reason)


def _log_verdicts(stream: str, topic: str, effect: Effect, n: int) -> None:
    """What verdicts did; unknown ones are left out: another partition may know the episode."""
    if effect is Effect.TOO_LATE:
        log.warning("verdict_too_late", stream=stream, topic=topic, verdicts=n, rule=TOO_LATE_RULE)
    elif effect is not Effect.UNKNOWN:
        log.info("verdict_taken", stream=stream, topic=topic, effect=effect.value, verdicts=n)


def _log_dropped(throttle: Throttle, stream: str, dropped: Dropped, n: int) -> None:
    """What operators would not want to be dropped; the rest is only counted."""
    if dropped is Dropped.MODEL_FAILED and throttle.admit((stream, dropped)) is not None:
        log.warning("windows_unscored", stream=stream, windows=n, rule="the model failed on them")
    elif dropped is Dropped.PLANNED_STOP:
        log.warning("planned_stops_dropped", stream=stream, stops=n, rule="too many: those that end first")
