"""The records that topics contain now, read without a group: for ``train``, ``init`` and the retraining.

A ``Log`` is the topics as they are when it is opened: every partition from its first offset to its end at that
moment. Records that are appended later are not part of it. Nothing is committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    OffsetOutOfRangeError,
)

from daemon.adapters.kafka.connecting import close_consumer, start_client
from daemon.adapters.kafka.failures import UnreachableError, while_reading
from daemon.adapters.kafka.record_times import timestamps_ns
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import DEADLINE_S, MAX_RECORDS, WAIT_MS, KafkaSettings
from daemon.adapters.kafka.topics import administering, check_topics
from daemon.domain import InputPartition, Record

FETCH_BYTES = 256 << 10
"""Of one partition per fetch: reading a few records in many places then fetches little in vain."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one partition, in their order, and the share of the whole read so far."""

    partition: InputPartition
    records: list[Record]
    share: float


Offsets = Mapping[InputPartition, int]


class Log:
    """The records of topics as they were when it was opened.

    ``starts`` and ``ends`` are each partition's first offset and the one after its last, in the
    order of the topics' names and of their partitions. One reading at a time.
    """

    def __init__(self, settings: KafkaSettings, consumer: AIOKafkaConsumer, what: str) -> None:
        self._settings = settings
        self._consumer = consumer
        self._what = what
        self.starts: dict[InputPartition, int] = {}
        self.ends: dict[InputPartition, int] = {}

    @staticmethod
    @contextlib.asynccontextmanager
    async def opened(settings: KafkaSettings, topics: Sequence[str]) -> AsyncIterator[Log]:
        """Connect, and find where every partition starts and ends.

        Args:
            settings: the connection; its group is not used and nothing is committed.
            topics: all of them must exist.

        Raises:
            InputError: a topic does not exist.
            BrokerError: it cannot be read.
        """
        arguments = connection(settings)
        counts = await check_topics(settings, topics)
        consumer = await start_client(
            lambda: AIOKafkaConsumer(
                **arguments,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                max_partition_fetch_bytes=FETCH_BYTES,
            ),
            settings,
        )
        what = ", ".join(topics)
        log = Log(settings, consumer, what)
        try:
            with while_reading(what):
                async with asyncio.timeout(DEADLINE_S):
                    partitions = [
                        TopicPartition(name, n) for name, count in counts.items() for n in range(count)
                    ]
                    consumer.assign(partitions)
                    consumer.pause(*partitions)
                    ends = await consumer.end_offsets(partitions)
                    starts = await consumer.beginning_offsets(partitions)
            for tp in sorted(partitions):
                consumer.seek(tp, starts[tp])  # without a position a fetch fails, paused or not
                partition = InputPartition(tp.topic, tp.partition)
                log.starts[partition], log.ends[partition] = starts[tp], ends[tp]
            yield log
        finally:
            await close_consumer(consumer)

    async def pieces(self, begin: Offsets, end: Offsets) -> AsyncIterator[Piece]:
        """The records of these partitions from ``begin`` up to but without ``end``.

        Raises:
            BrokerError: they cannot be read, or Kafka stops answering.
        """
        consumer = self._consumer
        spans = {
            TopicPartition(p.topic, p.number): (max(first, self.starts[p]), min(end[p], self.ends[p]))
            for p, first in begin.items()
        }
        left = {tp for tp, (first, stop) in spans.items() if first < stop}
        at = {tp: first for tp, (first, _) in spans.items()}
        total = sum(stop - first for tp, (first, stop) in spans.items() if tp in left)
        for tp in left:
            consumer.seek(tp, at[tp])
        consumer.resume(*left)
        moved = time.monotonic()
        try:
            while left:
                with while_reading(self._what):
                    async with asyncio.timeout(DEADLINE_S):
                        try:
                            batches = await consumer.getmany(timeout_ms=WAIT_MS, max_records=MAX_RECORDS)
                        except OffsetOutOfRangeError:  # retention was quicker: the log begins later now
                            for tp, start in (await consumer.beginning_offsets(list(left))).items():
                                consumer.seek(tp, max(start, at[tp]))
                            continue
                        # Markers and compaction take up offsets: the position passes them, records do not.
                        reached = {tp: min(await consumer.position(tp), spans[tp][1]) for tp in left}
                if any(reached[tp] > at[tp] for tp in left):
                    moved = time.monotonic()
                elif time.monotonic() - moved > DEADLINE_S:
                    raise UnreachableError(
                        f"Kafka at {self._settings.bootstrap_servers} sent nothing of {self._what}"
                        f" for {DEADLINE_S:.0f} s"
                    )
                at |= reached
                share = sum(at[tp] - first for tp, (first, stop) in spans.items() if first < stop) / total
                for tp, found in batches.items():
                    stamps = timestamps_ns([r.timestamp for r in found]).tolist()
                    records = [
                        Record(r.offset, r.key, r.value or b"", stamp, r.headers, tp.topic, tp.partition)
                        for r, stamp in zip(found, stamps, strict=True)
                        if r.offset < spans[tp][1]
                    ]
                    if records:
                        yield Piece(InputPartition(tp.topic, tp.partition), records, share)
                over = {tp for tp in left if at[tp] >= spans[tp][1]}
                if over:
                    consumer.pause(*over)
                    left -= over
        finally:
            consumer.pause(*left)

    async def some(self, at: Offsets, count: int) -> dict[InputPartition, list[Record]]:
        """Up to ``count`` records of each partition from the offset in ``at`` on; none where the log ends before it.

        Raises:
            BrokerError: they cannot be read, or Kafka stops answering.
        """
        found: dict[InputPartition, list[Record]] = {partition: [] for partition in at}
        wanted = dict(at)
        while wanted:
            stops = {p: min(first + count, self.ends[p]) for p, first in wanted.items()}
            async for piece in self.pieces(wanted, stops):
                found[piece.partition] += piece.records
            # Where all of these offsets are markers, the next ones.
            wanted = {p: stops[p] for p in wanted if not found[p] and stops[p] < self.ends[p]}
        return found


async def read_now(
    settings: KafkaSettings, topics: Sequence[str], newest: int | None = None
) -> AsyncIterator[Piece]:
    """The records that the topics contain now, without a group: every partition up to its present end.

    Args:
        settings: the connection; its group is not used and nothing is committed.
        topics: all of them must exist.
        newest: of each partition only as many offsets at its end; None reads from its start.

    Raises:
        InputError: a topic does not exist.
        BrokerError: it cannot be read, or Kafka stops answering.
    """
    async with Log.opened(settings, topics) as log:
        begin = dict(log.starts)
        if newest is not None:
            begin = {p: max(start, log.ends[p] - newest) for p, start in begin.items()}
        async for piece in log.pieces(begin, log.ends):
            yield piece


async def newest_records(
    settings: KafkaSettings, topic: str, count: int, longest: float = math.inf
) -> tuple[list[Record], bool]:
    """The newest records of a topic by their timestamps, oldest first, and whether it has no others.

    Of what is read, hardly more than twice as many are held at a time, however many partitions there are.

    Args:
        settings: the connection.
        topic: its name.
        count: the most of them.
        longest: bytes of a value; records with longer ones are passed over.

    Raises:
        InputError: the topic does not exist.
        BrokerError: it cannot be read.
    """
    found: list[Record] = []
    read = 0
    async for piece in read_now(settings, [topic], count):
        read += len(piece.records)
        found += [record for record in piece.records if len(record.value) <= longest]
        if len(found) > 2 * count:
            found = _newest(found, count)
    return _newest(found, count), read < count


def _newest(records: list[Record], count: int) -> list[Record]:
    """The newest of them by their timestamps, oldest first; where these are alike, in their order."""
    return sorted(records, key=lambda record: record.timestamp_ns)[-count:]


async def committed(
    settings: KafkaSettings, partitions: Collection[InputPartition]
) -> dict[InputPartition, int]:
    """The offsets that the group has committed in these partitions; one without a commit is left out.

    Raises:
        BrokerError: the broker does not answer.
    """
    async with administering(settings) as admin:
        try:
            known = await admin.list_consumer_group_offsets(settings.group_id)
        except GroupCoordinatorNotAvailableError:
            return {}  # a young cluster has no coordinator until its first group exists
    return {
        partition: at.offset
        for partition in partitions
        if (at := known.get(TopicPartition(partition.topic, partition.number))) is not None and at.offset >= 0
    }
