"""The one loop: ``run``, ``replay`` and ``demo`` are this over three sources.

    pull -> feed the partition's pipeline, a chunk at a time -> publish -> commit

Order, backpressure and delivery follow from the order of these calls: nothing is pulled before the outputs of
the last pull were passed to ``Committer.publish``, and no offset is committed before its outputs are published.
Without a sink (Kafka's default, exactly once) ``publish`` only keeps them, and the next ``commit`` writes them
together with the offset. Models change between chunks (where state is saved, at committable steps): no row
stays unscored, none is scored by parts of two models. What happens is reported to the ``Reporter`` alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.adapters.ports import Sink, Source
from daemon.adapters.telemetry import IngestedPoll, Reporter, RestoredState
from daemon.domain import AlertEvent, Assigned, Dropped, InputPartition, PolledRecords, Revoked
from daemon.runtime.committing import STATES_PER_PAUSE, Committer
from daemon.runtime.controls import Controls
from daemon.runtime.lifecycle import ModelLifecycle
from daemon.runtime.models import Models
from daemon.runtime.options import LoopOptions
from daemon.runtime.pauses import Pauses
from daemon.runtime.schema_supply import SchemaSupply
from daemon.runtime.split_assets import SplitAssets
from daemon.runtime.stream_run import StreamRun
from daemon.stream.accounts import Counts
from daemon.stream.dismissal import Effect
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import Step


class Loop:
    """See the module.

    Args:
        source, sink: the ends. No sink: the source's commits carry the outputs.
        streams: the streams, each with its own topics.
        reporter: receives what happens.
        models: the registry of promoted models; None: they are used in this process only.
        options: how often it commits, whether the input waits for trainings, and callbacks.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink | None,
        streams: Sequence[StreamRun],
        reporter: Reporter,
        models: Models | None = None,
        options: LoopOptions | None = None,
    ) -> None:
        self.streams = list(streams)
        self._source = source
        self._reporter = reporter
        self._options = options or LoopOptions()
        self._pauses = Pauses(source, reporter)
        self._committer = Committer(source, sink, self.streams, reporter, self._pauses, self._options)
        self._schemas = SchemaSupply(
            {each.registry for stream in self.streams if (each := stream.decoder.schemas) and each.registry},
            reporter,
            self._committer,
            self._pauses,
            self._options.clock,
        )
        self.lifecycle = ModelLifecycle(
            self.streams, models, reporter, self._committer, self._pauses, self._options
        )
        self._controls = Controls(
            self._options.controls,
            self.streams,
            reporter,
            self._pauses,
            self._options.clock,
            self.lifecycle.received,
        )
        self._topics = {topic: stream for stream in self.streams for topic in stream.spec.topics}
        self._split = {stream.spec.name: SplitAssets() for stream in self.streams}
        for stream in self.streams:
            stream.measured = reporter.inferring
            reporter.controls.stream_opened(
                stream.spec.name, stream.standing, stream.planned_stops, stream.knows
            )
            if stream.drill is not None:
                reporter.drill_opened(stream.spec.name, stream.drill.table)

    async def run(self) -> None:
        """Until the source ends."""
        try:
            if not await self._pauses.unless_closing(self.lifecycle.start()):
                return
            await self._controls.start()
            async for event in self._source.events():
                self._reporter.beat()
                if self._options.each_round is not None:
                    self._options.each_round()
                match event:
                    case Assigned():
                        await self._assign(event)
                    case Revoked():
                        self._revoke(event.partition)
                    case PolledRecords():
                        if event.handover:
                            self._committer.request()
                        await self._feed(event)
                self._controls.poll()
                await self.lifecycle.poll_registry()
                await self.lifecycle.advance_idle()
                await self._committer.commit()
                await self._run_drills()
            await self._committer.commit(last=True)
        finally:
            await self._controls.stop()
            await self.lifecycle.stop()

    # -------------------------------------------------------------- partitions
    async def _assign(self, event: Assigned) -> None:
        """Open a partition's pipeline and restore what a predecessor saved of it."""
        partition = event.partition
        stream = self._topics[partition.topic]
        pipeline = stream.open(event)
        for _ in pipeline.restoring(event.saved, exact=event.exact):
            await self._pauses.pause()
            if self._pauses.closing:
                del stream.pipelines[partition]  # nothing was done here that a commit could carry
                return
        self._committer.assigned(partition)
        self._reporter.state_restored(
            partition, RestoredState(bool(event.saved), pipeline.restored, pipeline.unusable)
        )
        self._controls.assigned(pipeline)
        self.lifecycle.report_learning()
        self._reporter.partition_assigned(event, pipeline.model)
        await self._committer.publish(partition, pipeline.predecessor_outputs())

    def _revoke(self, partition: InputPartition) -> None:
        """Drop a partition; its next owner starts at the last commit."""
        stream = self._topics[partition.topic]
        stream.pipelines.pop(partition, None)
        if stream.drill is not None:
            stream.drill.revoked(partition)
        self._committer.revoked(partition)
        self._reporter.partition_revoked(partition)
        self._report_assets(stream)

    # -------------------------------------------------------------- records
    async def _feed(self, event: PolledRecords) -> None:
        """Feed a poll to its partition's pipeline, publish every chunk, and report what became of it."""
        partition = event.partition
        stream = self._topics.get(partition.topic)
        pipeline = stream.pipelines.get(partition) if stream is not None else None
        if stream is None or pipeline is None:
            return
        if not await self._schemas.provide(stream.decoder.schemas, event.items):
            return  # the source closes: these records are read again
        began, before, replaying = time.perf_counter(), _Counts.of(pipeline), pipeline.replaying
        if not await self._feed_steps(stream, pipeline, event):
            return
        if replaying and not pipeline.replaying:
            await self._report_restored_episodes(pipeline)
        poll = before.ingested(stream, pipeline, len(event.items))
        # Without records, time may decide on readings that were held, and a verdict may be taken.
        if event.items or poll.counts or poll.verdicts:
            self._reporter.poll_ingested(poll)
        if event.items:
            # The outputs of records that are read again were published by a predecessor.
            self._committer.polled(partition, event.items, began, replayed=replaying)
        if event.end_offset is not None:
            self._committer.lag(partition, pipeline.offset, event.end_offset)
        self._report_assets(stream)
        await self.lifecycle.advance(stream)

    async def _feed_steps(self, stream: StreamRun, pipeline: Pipeline, event: PolledRecords) -> bool:
        """Feed chunk by chunk; False if the source closes while the pipeline still replays.

        What ``publish`` keeps for the commit is committed here at committable steps, else by ``run``.
        """
        partition = event.partition
        for step in pipeline.feed(event):
            await self._committer.publish(partition, step.outputs)
            self._account(stream, step)
            if stream.drill is not None:
                stream.drill.look(pipeline, step)
            if stream.detector is not None and stream.fallback.judged(step, stream.detector.version):
                await self.lifecycle.give_up(stream)
            await self.lifecycle.advance(stream)
            if step.committable:
                self._committer.request()
                await self._committer.commit()
            await self._pauses.pause()
            if self._pauses.closing:
                if pipeline.replaying:
                    del stream.pipelines[partition]  # the committed position is further than this one
                    return False
                if step.committable:
                    break  # the rest of the poll is read again
                pipeline.stop_soon()
        return True

    def _account(self, stream: StreamRun, step: Step) -> None:
        """Count and report one chunk."""
        name = stream.spec.name
        stream.judged(step)
        self._reporter.step_judged(name, step, stream.spec.period_ns, stream.budget_ratio)
        if step.audited is not None:
            audit = stream.audited(step.audited)
            if audit is not None:
                self._reporter.readings_audited(name, *audit)
        if self._options.watch is not None:
            self._options.watch(stream, step)

    async def _report_restored_episodes(self, pipeline: Pipeline) -> None:
        """Report the episodes that were open when the predecessor committed."""
        going_on: list[AlertEvent] = []
        for episode in pipeline.episodes.going_on(pipeline.model):
            going_on.append(episode)
            if len(going_on) % STATES_PER_PAUSE == 0:
                await self._pauses.pause()
        self._reporter.episodes_restored(going_on)

    def _report_assets(self, stream: StreamRun) -> None:
        self._reporter.assets_counted(stream.spec.name, sum(p.assets for p in stream.pipelines.values()))
        split = self._split[stream.spec.name].look(stream.pipelines)
        if split is not None:
            self._reporter.assets_split(stream.spec.name, split)

    # -------------------------------------------------------------- fire drill
    async def _run_drills(self) -> None:
        """Run the fire drills for as long as their share of the CPU allows, some milliseconds at a time."""
        for stream in self.streams:
            if stream.drill is None or self._pauses.closing:
                continue
            while stream.drill.slice():
                await self._pauses.pause()
            figures = stream.drill.news()
            if figures is not None:
                self._reporter.drilled(stream.spec.name, figures)


@dataclass(frozen=True, slots=True)
class _Counts:
    """What a pipeline had counted before a poll."""

    accounts: Counts
    dropped: Counter[Dropped]
    suppressed: int
    dismissed: int
    verdicts: Counter[Effect]

    @staticmethod
    def of(pipeline: Pipeline) -> _Counts:
        return _Counts(
            pipeline.accounts.counts(),
            pipeline.dropped.copy(),
            pipeline.episodes.maintenance.suppressed,
            pipeline.episodes.dismissals.suppressed,
            pipeline.episodes.dismissals.effects.copy(),
        )

    def ingested(self, stream: StreamRun, pipeline: Pipeline, records: int) -> IngestedPoll:
        """What became of the poll's records: the counts of now less those before."""
        decoder = stream.decoder
        return IngestedPoll(
            pipeline.partition.topic,
            stream.spec.name,
            records,
            pipeline.accounts.counts() - self.accounts,
            pipeline.dropped - self.dropped,
            pipeline.episodes.maintenance.suppressed - self.suppressed,
            pipeline.episodes.dismissals.suppressed - self.dismissed,
            pipeline.episodes.dismissals.effects - self.verdicts,
            decoder.unknown_sensors,
            stream.spec.sensors,
            decoder.corrupt_examples,
            bool(decoder.zoneless) and stream.spec.timezone is None,
            decoder.converted_units,
            pipeline.parts.ingest.grid.parts > 0,
        )
