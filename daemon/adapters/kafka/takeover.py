"""Taking partitions over: what Kafka knows of them, and where each begins.

The committed offset, its metadata, both ends of the log and the saved state are read in a task (``TakeOver``),
because state may take longer to read than the source's loop may stand still. Which offset to publish from, and
which to replay from, is then decided by ``beginning``, from these values alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition

from daemon.adapters.kafka.commit_metadata import replay_from
from daemon.adapters.kafka.failures import UnreachableError
from daemon.adapters.kafka.settings import DEADLINE_S, KafkaSettings
from daemon.adapters.kafka.stats import KafkaStats
from daemon.adapters.kafka.topics import administering
from daemon.adapters.kafka.transactional_commits import TransactionalCommits
from daemon.adapters.kafka.transactions import StateTopic
from daemon.domain import Assigned, InputPartition, StateRecord

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Found:
    """What Kafka knows of partitions that are to be taken over."""

    committed: Mapping[TopicPartition, OffsetAndMetadata]  # offset -1: none
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    saved: Mapping[InputPartition, Sequence[StateRecord]]


class TakeOver:
    """Finds what Kafka knows of assigned partitions, one assignment at a time.

    Args:
        settings: the connection and the group.
        state: where state is saved; None if it is not.
        transactions: whose producers fence the former owners; None with delivery ``at_least_once``.
    """

    def __init__(
        self, settings: KafkaSettings, state: StateTopic | None, transactions: TransactionalCommits | None
    ) -> None:
        self._settings = settings
        self._state = state
        self._transactions = transactions
        self._search: tuple[int, asyncio.Task[Found]] | None = None  # ... and the generation it is for

    async def found(
        self, consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition], generation: int, within_s: float
    ) -> asyncio.Task[Found] | None:
        """The search for this generation, if it has ended within so long; it is started by the first call."""
        if self._search is not None and self._search[0] != generation:
            await self.stop()
        if self._search is None:
            self._search = generation, asyncio.create_task(self._find(consumer, assigned))
        _, task = self._search
        await asyncio.wait({task}, timeout=within_s)
        return task if task.done() else None

    def finish(self) -> None:
        """The result of the search has been taken."""
        self._search = None

    def cancel(self) -> None:
        """End the search, which would fence the next owner; without a wait."""
        if self._search is not None:
            self._search[1].cancel()

    async def stop(self) -> None:
        """End the search and wait for its end. Safe to call twice."""
        if self._search is not None:
            (_, task), self._search = self._search, None
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                log.info("assignment_given_up", reason=str(error))

    async def _find(self, consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition]) -> Found:
        partitions = [InputPartition(tp.topic, tp.partition) for tp in assigned]
        if self._transactions is not None:
            # First of all: from here on nobody else's transaction can move the offsets.
            await self._transactions.take_over(partitions)
        async with asyncio.timeout(DEADLINE_S):
            committed = await self._committed(assigned)
            starts = await consumer.beginning_offsets(list(assigned))
            ends = await consumer.end_offsets(list(assigned))
        saved = await self._state.read(partitions) if self._state is not None else {}
        return Found(committed, starts, ends, saved)

    async def _committed(self, assigned: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Committed offset (-1: none) and metadata; ``consumer.committed`` is stale and has no metadata."""
        if not assigned:
            return {}
        async with administering(self._settings) as admin:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                self._settings.group_id, partitions=list(assigned)
            )
        missing = set(assigned) - found.keys()
        if missing:
            # The client drops the error code of the answer; an incomplete answer is an error.
            raise UnreachableError("the group's coordinator gave no offsets yet")
        return found


@dataclass(frozen=True, slots=True)
class BeginningRule:
    """Where a partition begins that has no usable commit.

    ``latest``: at the end of its log, unless the partition was added after ``partitions_at_start``; such a
    partition is read whole, because "latest" would skip its first records.
    """

    latest: bool
    partitions_at_start: Mapping[str, int]  # by topic

    def offset(self, tp: TopicPartition, start: int, end: int) -> int:
        """The first offset to read."""
        added = tp.partition >= self.partitions_at_start.get(tp.topic, 0)
        return end if self.latest and not added else start


def beginning(
    tp: TopicPartition, found: Found, rule: BeginningRule, stats: KafkaStats
) -> tuple[Assigned, bool]:
    """Where to publish and to replay from, and whether that is a new beginning, which has to be committed.

    What is no longer in the log is counted in ``stats`` and logged.
    """
    partition = InputPartition(tp.topic, tp.partition)
    committed, start, end = found.committed[tp], found.starts[tp], found.ends[tp]
    offset = committed.offset
    if start <= offset <= end:
        first = replay_from(committed.metadata, offset)
        if first < start:
            stats.clamped += 1
            log.warning("replay_clamped", topic=tp.topic, partition=tp.partition, wanted=first, start=start)
        return Assigned(partition, max(first, start), offset), False
    if 0 <= offset < start:
        # Retention was quicker than we were: all records that are left are read.
        stats.restarted += 1
        log.error("records_expired", topic=tp.topic, partition=tp.partition, lost=start - offset)
        return Assigned(partition, start, start), True
    if offset > end:
        stats.restarted += 1
        log.error("offset_beyond_log", topic=tp.topic, partition=tp.partition, committed=offset, end=end)
    place = rule.offset(tp, start, end)
    return Assigned(partition, place, place), True
