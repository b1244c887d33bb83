"""What topics hold now, read once and without a group: for ``train`` and ``init``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from daemon.adapters.kafka.connecting import (
    DEADLINE_S,
    MAX_RECORDS,
    WAIT_MS,
    KafkaSettings,
    UnreachableError,
    closed,
    connection,
    started,
    while_reading,
)
from daemon.adapters.kafka.topics import check_topics
from daemon.domain import InputPartition, Record


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of one partition, in their order, and the share of the whole read so far."""

    partition: InputPartition
    records: list[Record]
    share: float


async def read_now(
    settings: KafkaSettings, topics: Sequence[str], newest: int | None = None
) -> AsyncIterator[Piece]:
    """What the topics hold now, without a group: every partition up to the end it has at the start.

    Args:
        settings: the connection; its group is not used and nothing is committed.
        topics: all of them must exist.
        newest: of each partition only as many offsets at its end; None reads from its start.

    Raises:
        InputError: a topic does not exist.
        BrokerError: it cannot be read, or Kafka stops answering.
    """
    arguments = connection(settings)
    counts = await check_topics(settings, topics)
    consumer = await started(
        lambda: AIOKafkaConsumer(
            **arguments, enable_auto_commit=False, auto_offset_reset="none", isolation_level="read_committed"
        ),
        settings,
    )
    what = ", ".join(topics)
    try:
        with while_reading(what):
            async with asyncio.timeout(DEADLINE_S):
                partitions = [TopicPartition(name, n) for name, count in counts.items() for n in range(count)]
                consumer.assign(partitions)
                ends = await consumer.end_offsets(partitions)
                starts = await consumer.beginning_offsets(partitions)
        if newest is not None:
            starts = {tp: max(start, ends[tp] - newest) for tp, start in starts.items()}
        for tp, start in starts.items():
            consumer.seek(tp, start)
        at = dict(starts)
        left = {tp for tp in partitions if starts[tp] < ends[tp]}
        consumer.pause(*(set(partitions) - left))
        total = sum(ends[tp] - starts[tp] for tp in left)
        moved = time.monotonic()
        while left:
            with while_reading(what):
                async with asyncio.timeout(DEADLINE_S):
                    try:
                        batches = await consumer.getmany(timeout_ms=WAIT_MS, max_records=MAX_RECORDS)
                    except OffsetOutOfRangeError:  # retention was quicker: what is left begins later
                        for tp, start in (await consumer.beginning_offsets(list(left))).items():
                            consumer.seek(tp, max(start, at[tp]))
                        continue
                    # Markers and compaction take up offsets: the position passes them, records do not.
                    reached = {tp: min(await consumer.position(tp), ends[tp]) for tp in left}
            if any(reached[tp] > at[tp] for tp in left):
                moved = time.monotonic()
            elif time.monotonic() - moved > DEADLINE_S:
                raise UnreachableError(
                    f"Kafka at {settings.bootstrap_servers} sent nothing of {what} for {DEADLINE_S:.0f} s"
                )
            at |= reached
            share = sum(at[tp] - starts[tp] for tp in partitions if starts[tp] < ends[tp]) / total
            for tp, found in batches.items():
                records = [
                    Record(r.offset, r.key, r.value or b"", r.timestamp * 1_000_000)
                    for r in found
                    if r.offset < ends[tp]
                ]
                if records:
                    yield Piece(InputPartition(tp.topic, tp.partition), records, share)
            over = {tp for tp in left if at[tp] >= ends[tp]}
            if over:
                consumer.pause(*over)
                left -= over
    finally:
        await closed(consumer)


async def newest_records(settings: KafkaSettings, topic: str, count: int) -> tuple[list[Record], bool]:
    """The newest records of a topic by their timestamps, oldest first, and whether it has no others.

    Raises:
        InputError: the topic does not exist.
        BrokerError: it cannot be read.
    """
    found = [record async for piece in read_now(settings, [topic], count) for record in piece.records]
    if len({record.timestamp_ns for record in found}) > 1:
        found.sort(key=lambda record: record.timestamp_ns)
    return found[-count:], len(found) < count
