"""Reading a compacted topic whole, without a group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from aiokafka import (
    AIOKafkaConsumer,
    TopicPartition,
)
from aiokafka.errors import (
    OffsetOutOfRangeError,
)

from daemon.adapters.kafka.connecting import (
    DEADLINE_S,
    WAIT_MS,
    Entry,
    KafkaSettings,
    UnreachableError,
    check_fetching,
    connection,
    quietly,
    started,
    while_reading,
)
from daemon.adapters.kafka.topics import check_topics
from daemon.errors import BrokerError


class Follower:
    """Reads a whole topic from its start, without a group, and then what is added to it.

    Args:
        settings, topic: where.
        partitions: which of the topic's; None for all.
    """

    def __init__(self, settings: KafkaSettings, topic: str, partitions: Sequence[int] | None = None) -> None:
        self._numbers = partitions
        self._settings = settings
        self._arguments = connection(settings)
        self._topic = topic
        self._consumer: AIOKafkaConsumer | None = None

    async def catch_up(self) -> list[Entry]:
        """The newest of each key, up to the end that the log has now.

        Until the *position* is there: markers and compaction take up offsets, records cannot
        be counted. However long that takes, as long as it gets on.

        Raises:
            InputError: the topic does not exist.
            UnreachableError, BrokerError: it cannot be read, or Kafka stops answering.
        """
        consumer = await self._running()
        newest: dict[tuple[int, bytes], Entry] = {}
        with while_reading(repr(self._topic)):
            async with asyncio.timeout(DEADLINE_S):
                ends = await consumer.end_offsets(list(consumer.assignment()))
            at: dict[TopicPartition, int] = {}
            moved = time.monotonic()
            while True:
                async with asyncio.timeout(DEADLINE_S):
                    reached = {tp: await consumer.position(tp) for tp in ends}
                    if all(reached[tp] >= end for tp, end in ends.items()):
                        return list(newest.values())
                    if reached != at:
                        at, moved = reached, time.monotonic()
                    elif time.monotonic() - moved > DEADLINE_S:
                        raise TimeoutError(f"nothing came for {DEADLINE_S:.0f} s")
                    for entry in await self._read(WAIT_MS):
                        # In the order of the last writes, as compaction would leave them.
                        newest.pop((entry.partition, entry.key), None)
                        newest[entry.partition, entry.key] = entry

    async def poll(self) -> list[Entry]:
        """What came since, without a wait.

        Raises:
            UnreachableError, BrokerError: it cannot be read; the next call tries anew.
        """
        await self._running()
        with while_reading(repr(self._topic)):
            async with asyncio.timeout(DEADLINE_S):
                return await self._read(0)

    async def stop(self) -> None:
        """Close the connection. Safe to call twice; a later read begins anew."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await quietly(consumer.stop())

    async def _read(self, wait_ms: int) -> list[Entry]:
        assert self._consumer is not None
        await asyncio.sleep(
            0
        )  # getmany without a wait never yields: a loop around it would starve the fetcher
        try:
            batches = await self._consumer.getmany(timeout_ms=wait_ms)
        except OffsetOutOfRangeError:
            # Deleted and made again, or compacted away: what follows replaces what was.
            starts = await self._consumer.beginning_offsets(list(self._consumer.assignment()))
            for tp, start in starts.items():
                self._consumer.seek(tp, start)
            return []
        if not batches:
            try:
                check_fetching(self._consumer, repr(self._topic))
            except UnreachableError:
                await self.stop()
                raise
        return [
            Entry(record.key or b"", record.value, tp.partition)
            for tp, batch in batches.items()
            for record in batch
        ]

    async def _running(self) -> AIOKafkaConsumer:
        if self._consumer is not None:
            return self._consumer
        counts = await check_topics(self._settings, [self._topic])
        consumer = await started(
            lambda: AIOKafkaConsumer(
                **self._arguments,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
            ),
            self._settings,
        )
        numbers = range(counts[self._topic]) if self._numbers is None else self._numbers
        partitions = [TopicPartition(self._topic, n) for n in numbers if n < counts[self._topic]]
        try:
            with while_reading(repr(self._topic)):
                async with asyncio.timeout(DEADLINE_S):
                    consumer.assign(partitions)
                    for tp, start in (await consumer.beginning_offsets(partitions)).items():
                        consumer.seek(tp, start)
        except (BrokerError, asyncio.CancelledError):
            await quietly(consumer.stop())
            raise
        self._consumer = consumer
        return consumer
