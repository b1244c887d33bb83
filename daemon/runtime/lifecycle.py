"""The life cycle of each stream's model, from training to withdrawal.

A training that is due runs in a spawned process (``trainer``), which also gates the candidate. A candidate that passes is
first stored in the registry, while the current model stays in use, and then put in use, or into shadow where that is wanted
(``shadowing``): one that cannot be stored is not used, because other replicas could not load it. The registry is polled for
models that other replicas or an operator put in force. A model that fails on many windows in a row is given up: the
one before it takes over here and, through a withdrawal, in the registry.

The loop calls ``advance`` after every chunk of a stream, and ``poll_registry`` and ``advance_idle`` once per
event of its source. This module starts tasks (promotions, withdrawals, measurements of a history); ``stop``
ends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from daemon.adapters.registry import DecisionRecord, now_text
from daemon.adapters.telemetry import ModelInUse, Promotion, Reporter, TrainingReport
from daemon.control import Received
from daemon.domain import InputPartition, Output, to_ns
from daemon.errors import BundleError, DaemonError, OvertakenError, PointerMovedError
from daemon.model.bundle import Bundle
from daemon.runtime.committing import Committer
from daemon.runtime.compatibility import other_budgets, other_conditions
from daemon.runtime.deciding import into_shadow, record_of
from daemon.runtime.measuring import Measurements
from daemon.runtime.models import Models
from daemon.runtime.options import Hold, LoopOptions
from daemon.runtime.pauses import Pauses
from daemon.runtime.shadowing import ShadowEnd, Shadowing
from daemon.runtime.stream_run import StreamRun
from daemon.runtime.trainer import TrainingResult
from daemon.stream.steps import Step
from daemon.trigger import Cause

POLL_EVERY_S = 1.0
"""How often the registry is polled."""
WITHDRAW_AGAIN_S = 30.0
"""Until a withdrawal that failed is repeated."""


class ModelLifecycle:
    """The models of all streams of one loop.

    Args:
        streams: whose models.
        models: the registry; None: promoted models are used in this process only.
        reporter: receives what happens to models.
        committer: publishes the outputs that a model leaves when it is exchanged.
        pauses: for long work and long waits.
        options: whether the input waits for trainings, and the clock.
    """

    def __init__(
        self,
        streams: Sequence[StreamRun],
        models: Models | None,
        reporter: Reporter,
        committer: Committer,
        pauses: Pauses,
        options: LoopOptions,
    ) -> None:
        self._models = models
        self._streams = streams
        self._reporter = reporter
        self._committer = committer
        self._pauses = pauses
        self._options = options
        self._polled_at = 0.0  # the registry, on the clock
        # By stream: decisions on their way into the registry, and the right to decide.
        self._promotions: dict[str, tuple[asyncio.Task[DecisionRecord], TrainingResult, DecisionRecord]] = {}
        self._leading: dict[str, asyncio.Task[None]] = {}
        self._measurements = Measurements(reporter, options.clock)
        self._shadowing = Shadowing(streams, models, reporter, pauses, options.clock)
        self._withdrawals: set[asyncio.Task[None]] = set()

    # -------------------------------------------------------------- start and end
    async def start(self) -> bool:
        """Put in use what the registry has in force, or the model given at the start; True when done."""
        for stream in self._streams:
            # The registry's promoted version comes before the one given at the start.
            if not await self._restore(stream) and stream.bundle is not None:
                await self._use(stream, stream.bundle, Promotion.RESTORED, "given at the start")
        if self._models is not None:
            self._learn_decisions(await self._models.decisions(to_the_end=True))
            await self._shadowing.follow()
        self.report_learning()
        return True

    async def stop(self) -> None:
        """End trainings and tasks, whatever they are doing."""
        await self._measurements.stop()
        for stream in self._streams:
            stream.trainer.stop()
            promotion = self._promotions.pop(stream.spec.name, None)
            leading = self._leading.pop(stream.spec.name, None)
            for task in (promotion[0] if promotion is not None else None, leading):
                if task is not None:
                    task.cancel()
                    await asyncio.wait({task})
        for task in self._withdrawals:
            task.cancel()
        if self._withdrawals:
            await asyncio.wait(self._withdrawals)

    def report_learning(self) -> None:
        """Report every stream that has no model."""
        for stream in self._streams:
            if stream.detector is None:
                self._reporter.learning(stream.spec.name, stream.plan.learn_rows)

    async def _restore(self, stream: StreamRun) -> bool:
        """Whether the registry has a model; the one before, where the promoted one cannot be used."""
        models, name = self._models, stream.spec.name
        if models is None:
            return False
        try:
            bundle = await models.promoted(name)
            if bundle is not None:
                await self._use(stream, bundle, Promotion.RESTORED, "promoted in the registry")
            return bundle is not None
        except BundleError as error:
            self._reporter.bundle_refused(name, "registry", str(error))
        try:
            bundle = await models.before(name)
            if bundle is not None:
                await self._use(stream, bundle, Promotion.RESTORED, "promoted before one that cannot be used")
            return bundle is not None
        except BundleError as error:
            self._reporter.bundle_refused(name, "registry", str(error))
            return False

    # -------------------------------------------------------------- training
    async def advance(self, stream: StreamRun) -> None:
        """Start the training that is due; process a training or a promotion that has ended."""
        name = stream.spec.name
        promotion = self._promotions.get(name)
        if promotion is not None and promotion[0].done():
            del self._promotions[name]
            await self._promotion_done(stream, *promotion)
        if name not in self._promotions and (due := self._shadowing.due(stream)) is not None:
            await self._end_shadow(stream, due)
        job = None if name in self._promotions else stream.next_job()
        first = stream.detector is None
        if job is not None:
            stream.trigger = job.trigger
            stream.trainer.start(job)
            self._lead(name)
            self._reporter.training_started(name, job.trigger, job.until_ns, stream.progress)
        if not stream.trainer.busy:
            return
        hold = self._options.hold
        if hold is Hold.ALWAYS or (hold is Hold.FIRST and first):
            result: TrainingResult | None = await self._await_training(stream)
        else:
            result = stream.trainer.poll()
        if result is not None:
            await self.training_ended(stream, result)

    async def advance_idle(self) -> None:
        """Advance streams whose partitions in this process have no records, for instance an empty partition 0."""
        for stream in self._streams:
            ended = self._measurements.ended(stream)
            if ended or stream.trainer.busy or stream.spec.name in self._promotions:
                await self.advance(stream)
            else:
                self._measurements.start(stream)

    def _lead(self, name: str) -> None:
        """Take the right to decide on this stream, while the training runs."""
        if self._models is not None:
            if name in self._leading:
                self._leading.pop(name).cancel()
            lead = self._models.lead(name)
            self._leading[name] = asyncio.get_running_loop().create_task(lead, name="lead a training")

    def _learn_decisions(self, records: Sequence[DecisionRecord]) -> None:
        """What was answered, here or elsewhere, is not due again; which candidate is in shadow."""
        for record in records:
            stream = next((s for s in self._streams if s.spec.name == record.stream), None)
            if stream is not None:
                self._reporter.controls.training_decided(record)
                stream.schedule.answered(record.trigger.position, record.trigger.of_topic)
                until_ns = record.until_ns
                if until_ns is not None:
                    stream.schedule.decided(until_ns, by_drift=record.trigger.cause == Cause.DRIFT)
                self._shadowing.learn(record)

    def received(self, received: Received) -> None:
        """A control message arrived, for whichever stream: each process hears all of them, in their order."""
        for stream in self._streams:
            stream.schedule.received(received)

    async def training_ended(self, stream: StreamRun, result: TrainingResult) -> None:
        """Process the result of a training: promote the candidate, or report why there is none."""
        name = stream.spec.name
        stream.outcomes.append(replace(result, bundle=None))
        self._reporter.training_ended(
            name,
            TrainingReport(
                result.reason,
                result.version,
                result.rows,
                result.seconds,
                result.notes,
                result.concerns,
                result.postponed,
            ),
        )
        if result.later:
            stream.repeat_training()
            if not result.postponed:
                self._reporter.candidate_refused(name, "", Promotion.FAILED, result.reason)
            return
        stream.schedule.history_read()
        result = _as_used(stream, result)
        record, lasts = record_of(name, result, stream.trigger, now_text()), stream.plan.shadow
        if result.promoted and lasts is not None and stream.detector is not None:
            record = into_shadow(record, stream.newest_ns(result.until_ns), to_ns(lasts))
        overtaken = result.promoted and result.parent and result.parent != stream.version
        if overtaken and self._models is not None:
            self._leading.pop(name, None)
            self._overtaken(
                stream, result, f"another model is in use since it was trained: {stream.version or 'none'}"
            )
            return
        await self._decide(stream, result, record, result.bundle)

    async def _decide(
        self, stream: StreamRun, result: TrainingResult, record: DecisionRecord, bundle: bytes | None
    ) -> None:
        """Publish a decision, and then act on it."""
        models, name = self._models, stream.spec.name
        if models is None:
            self._reporter.controls.training_decided(record)
            await self._decided(stream, result, record)
            return
        # A broker takes a while to keep a bundle; the model before judges on meanwhile.
        decide = _publish_decision(models, self._leading.pop(name, None), record, bundle)
        task = asyncio.get_running_loop().create_task(decide, name="keep a model")
        self._promotions[name] = task, result, record
        if self._options.hold is not Hold.NEVER:
            await asyncio.wait({task})
            await self.advance(stream)

    async def _end_shadow(self, stream: StreamRun, due: ShadowEnd) -> None:
        """Decide on a candidate that was in shadow."""
        record = due.record
        result = TrainingResult(
            record.promoted, record.reason, record.version, due.bundle, 0.0, record.rows, parent=record.parent
        )
        self._lead(stream.spec.name)
        await self._decide(stream, result, record, due.bundle if record.promoted else None)

    async def _await_training(self, stream: StreamRun) -> TrainingResult:
        """Wait for the trainer, with beats: the process is alive meanwhile."""
        while True:
            self._reporter.beat()
            result = stream.trainer.poll()
            if result is not None:
                return result
            if self._options.watch is not None:
                self._options.watch(stream, Step())
            await asyncio.sleep(0.1)

    # -------------------------------------------------------------- promotion
    async def _promotion_done(
        self,
        stream: StreamRun,
        promotion_task: asyncio.Task[DecisionRecord],
        result: TrainingResult,
        record: DecisionRecord,
    ) -> None:
        """Use a candidate that is in the registry now; one that could not be kept is not used here either."""
        name = stream.spec.name
        try:
            record = await promotion_task
        except (DaemonError, OSError) as error:
            if record.shadow is not None and record.shadow.over:
                self._reporter.decision_unpublished(name, str(error))
                if isinstance(error, PointerMovedError):
                    self._shadowing.void(stream, str(error))
                else:
                    self._shadowing.hold_back(stream)
                return
            if isinstance(error, OvertakenError):
                self._overtaken(stream, result, str(error))
                return
            if result.promoted:
                reason = f"it could not be kept: {error}"
                self._reporter.candidate_refused(name, result.version, Promotion.FAILED, reason)
                stream.training_failed()
            else:
                self._reporter.decision_unpublished(name, str(error))
                self._refused(stream, result)
            if stream.schedule.requested:
                stream.schedule.hold_back()
        else:
            await self._decided(stream, result, record)

    async def _decided(self, stream: StreamRun, result: TrainingResult, record: DecisionRecord) -> None:
        """The decision on a training stands: use its candidate, or report why it is not used."""
        stream.schedule.answered(record.trigger.position, record.trigger.of_topic)
        self._shadowing.learn(record, own=True)
        self._shadowing.end_void(stream)
        if record.shadow is not None:
            stream.note_shadow(result, record.in_shadow, record.shadow.until)
        if result.promoted:
            await self._promote(stream, result, record)
        elif record.shadow is None or not record.shadow.void:
            self._refused(stream, result)

    def _refused(self, stream: StreamRun, result: TrainingResult) -> None:
        outcome = Promotion.REFUSED if result.bundle is not None else Promotion.FAILED
        self._reporter.candidate_refused(stream.spec.name, result.version, outcome, result.reason)
        stream.training_failed()

    def _overtaken(self, stream: StreamRun, result: TrainingResult, reason: str) -> None:
        """A candidate was compared with a model that is not in force any more: the same training is repeated."""
        self._reporter.candidate_refused(stream.spec.name, result.version, Promotion.FAILED, reason)
        stream.repeat_training()

    async def _promote(self, stream: StreamRun, result: TrainingResult, record: DecisionRecord) -> None:
        """Put a candidate in use, or into shadow, if its bundle is admitted."""
        assert result.bundle is not None
        name = stream.spec.name
        try:
            if record.in_shadow:
                await self._shadowing.begin(stream, record, result.bundle)
                return
            await self._use(stream, result.bundle, Promotion.PROMOTED, result.reason)
        except BundleError as error:
            self._reporter.bundle_refused(name, "training", str(error))
            self._reporter.candidate_refused(name, result.version, Promotion.FAILED, str(error))
            stream.training_failed()

    async def poll_registry(self) -> None:
        """Use what another replica, or an operator, has put in force."""
        now = self._options.clock()
        if self._models is None or now - self._polled_at < POLL_EVERY_S:
            return
        if self._promotions:
            return  # the poll would return this process's own candidate as another's
        self._polled_at = now
        try:
            promotions = await self._pauses.unless_closing(self._models.poll()) or ()
        except DaemonError as error:  # the source detects an unreachable broker by itself
            self._reporter.registry_unread(str(error))
            return
        await self._use_promoted(promotions)  # whatever can be read after that: a poll gives each but once
        try:
            self._learn_decisions(await self._pauses.unless_closing(self._models.decisions()) or ())
            await self._shadowing.follow()
        except DaemonError as error:
            self._reporter.registry_unread(str(error))

    async def _use_promoted(self, promotions: Sequence[tuple[str, bytes, str]]) -> None:
        """Use what was put in force; of each stream, bundle and reason."""
        for name, bundle, why in promotions:
            stream = next((s for s in self._streams if s.spec.name == name), None)
            if stream is None or bundle == stream.bundle:
                continue
            try:
                reason = "promoted in the registry" + (f": {why}" if why else "")
                await self._use(stream, bundle, Promotion.PROMOTED, reason)
            except BundleError as error:
                self._reporter.bundle_refused(name, "registry", str(error))

    async def _use(self, stream: StreamRun, bundle: bytes, result: Promotion, reason: str) -> None:
        """Put a bundle in use, and publish the outputs of the model before.

        Raises:
            BundleError: it is damaged, not compatible with the stream, or was given up here.
        """
        # Parsing a large bundle takes seconds.
        loaded = await self._pauses.unless_closing(asyncio.to_thread(Bundle.from_bytes, bundle))
        if loaded is None:
            return
        await self._publish(stream.use(loaded, bundle, committable=self._options.checkpoints))
        assert stream.detector is not None
        self.report_learning()
        self._reporter.model_in_use(
            stream.spec.name,
            ModelInUse(
                stream.detector,
                stream.learned_until_ns,
                stream.spec.sensors if stream.plan.audit else (),
                result,
                reason,
                other_conditions(loaded, stream.spec),
                other_budgets(loaded, stream.plan.budget, stream.plan.deviation_budget),
            ),
        )

    async def _publish(self, outputs: Mapping[InputPartition, Sequence[Output]]) -> None:
        """Publish a model's last outputs, and commit soon: no successor may score rows with the old model again."""
        for partition, left in outputs.items():
            await self._committer.publish(partition, left)
        self._committer.request()

    # -------------------------------------------------------------- giving up
    async def give_up(self, stream: StreamRun) -> None:
        """The model in use fails: the one before it takes over, here and in the registry, or none does."""
        assert stream.detector is not None
        name, version = stream.spec.name, stream.detector.version
        reason, before, outputs = stream.give_up(committable=self._options.checkpoints)
        await self._publish(outputs)
        self._reporter.model_given_up(name, version, reason, falls_back=before is not None)
        if before is not None:
            why = f"model {version} is given up: {reason}"
            try:
                await self._use(stream, before, Promotion.ROLLED_BACK, why)
            except BundleError as error:  # not expected, as it was in use before; it must not end the process
                self._reporter.bundle_refused(name, "registry", str(error))
        if stream.detector is None:
            self._reporter.no_model_in_use(name, version, reason)
            self.report_learning()
        if self._models is not None:
            task = asyncio.create_task(
                _withdraw(self._models, self._reporter, name, version, reason), name="withdraw a model"
            )
            self._withdrawals.add(task)
            task.add_done_callback(self._withdrawals.discard)


def _as_used(stream: StreamRun, result: TrainingResult) -> TrainingResult:
    """The result, refused if the version has failed here before."""
    try:
        stream.fallback.check(result.version)
    except BundleError as error:
        return replace(result, promoted=False, reason=str(error))
    return result if result.bundle is not None else replace(result, promoted=False)


async def _withdraw(models: Models, reporter: Reporter, stream: str, version: str, reason: str) -> None:
    """Withdraw a version from the registry, so that no restart and no other replica starts with it."""
    while True:
        try:
            await models.withdraw(stream, version, reason)
        except (DaemonError, OSError) as error:
            reporter.model_not_withdrawn(stream, version, str(error))
            await asyncio.sleep(WITHDRAW_AGAIN_S)
        else:
            reporter.model_withdrawn(stream, version)
            return


async def _publish_decision(
    models: Models, leading: asyncio.Task[None] | None, record: DecisionRecord, bundle: bytes | None
) -> DecisionRecord:
    if leading is not None:
        await leading
    return await models.decide(record, bundle)
