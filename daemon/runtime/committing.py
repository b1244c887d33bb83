"""Publishing outputs and committing positions, with the state that belongs to a position.

Nothing is committed before the outputs of the records up to it are published. With a sink (at least once) outputs
are published at once, and a commit has position and state. Without one (exactly once, the default) they wait for
the commit, which writes outputs, state and position in one transaction: all of it, or nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from daemon.adapters.ports import Sink, Source
from daemon.adapters.telemetry import Reporter
from daemon.domain import (
    InputPartition,
    Ints,
    Output,
    PartitionCommit,
    Position,
    Reading,
    Record,
    Records,
    StateRecord,
)
from daemon.runtime.options import LoopOptions
from daemon.runtime.pauses import Pauses
from daemon.runtime.stream_run import StreamRun

MOST_UNSENT = 10_000
"""Outputs that wait for a commit; beyond that it comes before its time."""
STATES_PER_PAUSE = 500
"""Records of state that are made between two pauses: some 10 ms."""


def timestamps_ns(items: Sequence[Record | Reading]) -> Ints:
    """The Kafka timestamps of polled records; empty for readings, which have none."""
    if isinstance(items, Records):
        return items.timestamps_ns
    return np.array([item.timestamp_ns for item in items if isinstance(item, Record)], np.int64)


class Committer:
    """Publishes and commits for all partitions of a loop.

    Args:
        source: commits positions.
        sink: publishes outputs; None: they go with the commits.
        streams: whose partitions are committed.
        reporter: receives published outputs, latencies and lag.
        pauses: between records of state.
        options: how often, and with state or without.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink | None,
        streams: Sequence[StreamRun],
        reporter: Reporter,
        pauses: Pauses,
        options: LoopOptions,
    ) -> None:
        self._source = source
        self._sink = sink
        self._streams = streams
        self._names = {topic: stream.spec.name for stream in streams for topic in stream.spec.topics}
        self._reporter = reporter
        self._pauses = pauses
        self._clock = options.clock
        self._every_s = options.commit_every.total_seconds()
        self._checkpoints = options.checkpoints
        self._committed_at = -math.inf  # on the clock
        self._requested = False
        self._committed: dict[InputPartition, Position] = {}
        self._unsent: dict[InputPartition, list[Output]] = {}
        # Polls whose outputs cannot be read yet: when they arrived, and their records' timestamps in ns.
        self._arrived: dict[InputPartition, list[tuple[float, Ints]]] = {}
        self._newest_ns: dict[InputPartition, int] = {}  # Kafka timestamp of the newest record processed

    def assigned(self, partition: InputPartition) -> None:
        """A partition starts at the position that its source names; earlier work on it is void."""
        self._committed.pop(partition, None)
        self._unsent.pop(partition, None)
        self._arrived.pop(partition, None)

    def revoked(self, partition: InputPartition) -> None:
        """A partition is another replica's, which starts at the last commit and repeats what came after it."""
        self.assigned(partition)
        self._newest_ns.pop(partition, None)

    def request(self) -> None:
        """Commit at the next call of ``commit``, whenever the last one was."""
        self._requested = True

    # -------------------------------------------------------------- outputs
    async def publish(self, partition: InputPartition, outputs: Sequence[Output]) -> None:
        """Publish outputs; without a sink, keep them for the next ``commit``, which ``Loop`` calls."""
        if not outputs:
            return
        if self._sink is None:
            unsent = self._unsent.setdefault(partition, [])
            unsent += outputs
            if len(unsent) > MOST_UNSENT:
                self._requested = True
        else:
            with self._reporter.waiting_for("kafka"):
                await self._sink.publish(outputs)
            self._reporter.outputs_published(outputs)

    def polled(
        self, partition: InputPartition, items: Sequence[Record | Reading], began: float, *, replayed: bool
    ) -> None:
        """All records of a poll were fed, and its outputs passed to ``publish``.

        Args:
            partition, items: of the poll.
            began: when it arrived, as ``time.perf_counter``.
            replayed: its outputs were published by a predecessor.
        """
        stamps = timestamps_ns(items)
        if len(stamps):
            self._newest_ns[partition] = int(stamps[-1])
        if not replayed:
            self._arrived.setdefault(partition, []).append((began, stamps))
        if self._sink is not None:
            self._durable(partition)

    def lag(self, partition: InputPartition, offset: int, end_offset: int) -> None:
        """Report how far a partition at ``offset`` is behind the end of its log."""
        behind = max(end_offset - offset, 0)
        newest_ns = self._newest_ns.get(partition, 0)
        seconds = max(time.time() - newest_ns / 1e9, 0.0) if newest_ns > 0 else math.nan
        self._reporter.lag_measured(partition, behind, seconds if behind else 0.0)

    def _durable(self, partition: InputPartition) -> None:
        """Report the latency of a partition's polls: all their outputs can be read now."""
        name = self._names[partition.topic]
        now, wall = time.perf_counter(), time.time()
        for arrived, stamps in self._arrived.pop(partition, ()):
            latencies = np.maximum(wall - stamps[stamps > 0] / 1e9, 0.0)
            self._reporter.poll_durable(name, now - arrived, latencies)

    # -------------------------------------------------------------- positions
    async def commit(self, *, last: bool = False) -> None:
        """Commit all partitions that moved, if a commit is due, requested, or the ``last`` one."""
        now = self._clock()
        if not (last or self._requested) and now - self._committed_at < self._every_s:
            return
        self._committed_at, self._requested = now, False
        work = {}
        for stream in self._streams:
            for partition, pipeline in stream.pipelines.items():
                if pipeline.offset < pipeline.publish_from:
                    continue  # still replaying: the committed position is further than this one
                known = self._committed.get(partition)
                outputs = self._unsent.pop(partition, [])
                moved = bool(outputs) or (self._checkpoints and pipeline.dirty)
                if not moved and known is not None and known.offset == pipeline.offset:
                    continue
                saved: list[StateRecord] = []
                for record in pipeline.saving() if self._checkpoints else ():
                    saved.append(record)
                    if len(saved) % STATES_PER_PAUSE == 0:
                        await self._pauses.pause()
                position = self._committed[partition] = Position(pipeline.offset, pipeline.replay_from())
                work[partition] = PartitionCommit(position, outputs, saved)
        if work:
            with self._reporter.waiting_for("kafka"):
                failed = await self._source.commit(work) or ()
            for partition, done in work.items():
                if partition not in failed:
                    self._reporter.outputs_published(done.outputs)
                    self._durable(partition)
