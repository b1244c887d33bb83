"""A compacted topic, read from its start without a group, and then what is appended to it.

``Follower`` reads; ``LatestEntries`` keeps the newest value of each key within a bound of memory. Used for the
state of partitions and for the topic of models.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.errors import (
    OffsetOutOfRangeError,
)

from daemon.adapters.kafka.connecting import check_fetching, close_consumer, start_client
from daemon.adapters.kafka.failures import while_reading
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import DEADLINE_S, WAIT_MS, KafkaSettings
from daemon.adapters.kafka.topics import check_topics
from daemon.adapters.kafka.values import Entry

MOST_BYTES = 2 << 30
"""Bytes of keys and values that are held at most: the state of a million assets, and more."""
ENTRY_BYTES = 200
"""What an entry takes up beside its key and value, roughly."""
READ_AT_ONCE = 1_000
"""Records that are parsed between two pauses, some 10 ms: the whole process shares this thread."""


class LatestEntries:
    """The newest entry of each key, in the order of the last writes, as compaction would leave them.

    Beyond ``most_bytes`` the entries that were written longest ago are removed, and counted in ``dropped``.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.dropped = 0
        self._most_bytes = most_bytes
        self._bytes = 0
        self._entries: dict[tuple[int, bytes], Entry] = {}

    @property
    def entries(self) -> list[Entry]:
        """All of them."""
        return list(self._entries.values())

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries in the order of the topic."""
        for entry in entries:
            key = entry.partition, entry.key
            known = self._entries.pop(key, None)
            self._bytes += _size(entry) - (0 if known is None else _size(known))
            self._entries[key] = entry
            while self._bytes > self._most_bytes:
                self._bytes -= _size(self._entries.pop(next(iter(self._entries))))
                self.dropped += 1


def _size(entry: Entry) -> int:
    return ENTRY_BYTES + len(entry.key) + len(entry.value or b"")


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

    async def read(self, take: Callable[[Sequence[Entry]], None], *, to_the_end: bool) -> None:
        """Pass on the records that were not passed on yet, piece by piece and in order.

        After a reconnect all records are passed on again, up to the present end of the log: the receiver keeps
        the newest of each key, and uses the result only when this returns.

        Args:
            take: receives each piece; what it keeps is all that is held in memory.
            to_the_end: read up to the present end of the log; else only what is there without a wait.

        Raises:
            InputError: the topic does not exist.
            UnreachableError, BrokerError: it cannot be read, or Kafka stops answering; the next
                call starts again at the first record.
        """
        with while_reading(repr(self._topic)):
            try:
                if to_the_end or self._consumer is None:
                    await self._to_the_end(take)
                else:
                    async with (
                        self._stopped_on_error(self._consumer) as consumer,
                        asyncio.timeout(DEADLINE_S),
                    ):
                        take(await self._read(consumer, 0))
            except OffsetOutOfRangeError:
                # The topic was deleted and created again, or compacted: what follows replaces what was read.
                await self._to_the_end(take)

    async def catch_up(self) -> list[Entry]:
        """The newest new entry of each key, up to the present end of the log.

        The end is reached when the *position* is there: markers and compaction take up offsets, so records cannot
        be counted. It may take any time as long as the position advances.

        Raises:
            InputError, UnreachableError, BrokerError: see ``read``.
        """
        latest = LatestEntries()
        await self.read(latest.add, to_the_end=True)
        return latest.entries

    async def poll(self) -> list[Entry]:
        """The entries that came since, without a wait.

        After a reconnect the whole topic is read first, so that no old value is taken for the newest.

        Raises:
            UnreachableError, BrokerError: it cannot be read; the next call reads the topic again.
        """
        if self._consumer is None:
            return await self.catch_up()
        found: list[Entry] = []
        await self.read(found.extend, to_the_end=False)
        return found

    async def stop(self) -> None:
        """Close the connection. Safe to call twice; a later read starts again at the first record."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await close_consumer(consumer)

    @contextlib.asynccontextmanager
    async def _stopped_on_error(self, consumer: AIOKafkaConsumer) -> AsyncIterator[AIOKafkaConsumer]:
        """After an error the position may have passed records that were not passed on: never read on with it."""
        try:
            yield consumer
        except BaseException:
            await self.stop()
            raise

    async def _to_the_end(self, take: Callable[[Sequence[Entry]], None]) -> None:
        async with self._stopped_on_error(await self._running()) as consumer:
            async with asyncio.timeout(DEADLINE_S):
                ends = await consumer.end_offsets(list(consumer.assignment()))
            at: dict[TopicPartition, int] = {}
            moved = time.monotonic()
            while True:
                async with asyncio.timeout(DEADLINE_S):
                    reached = {tp: await consumer.position(tp) for tp in ends}
                    if all(reached[tp] >= end for tp, end in ends.items()):
                        return
                    if reached != at:
                        at, moved = reached, time.monotonic()
                    elif time.monotonic() - moved > DEADLINE_S:
                        raise TimeoutError(f"nothing came for {DEADLINE_S:.0f} s")
                    take(await self._read(consumer, WAIT_MS))

    async def _read(self, consumer: AIOKafkaConsumer, wait_ms: int) -> list[Entry]:
        # getmany without a wait never yields: a loop around it would starve the fetcher.
        await asyncio.sleep(0)
        batches = await consumer.getmany(timeout_ms=wait_ms, max_records=READ_AT_ONCE)
        if not batches:
            check_fetching(consumer, repr(self._topic))
        return [self.entry(record, tp.partition) for tp, batch in batches.items() for record in batch]

    def entry(self, record: ConsumerRecord, partition: int) -> Entry:
        """What is passed on of a record."""
        return Entry(record.key or b"", record.value, partition)

    async def _running(self) -> AIOKafkaConsumer:
        if self._consumer is not None:
            return self._consumer
        counts = await check_topics(self._settings, [self._topic])
        consumer = await start_client(
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
            async with asyncio.timeout(DEADLINE_S):
                consumer.assign(partitions)
                for tp, start in (await consumer.beginning_offsets(partitions)).items():
                    consumer.seek(tp, start)
        except BaseException:
            await close_consumer(consumer)
            raise
        self._consumer = consumer
        return consumer
