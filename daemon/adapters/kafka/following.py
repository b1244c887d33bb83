"""Reading a compacted topic whole, without a group."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

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
    check_fetching,
    closed,
    connection,
    started,
    while_reading,
)
from daemon.adapters.kafka.topics import check_topics

MOST_BYTES = 2 << 30
"""Keys and values that are held of a compacted topic, at most: the state of a million assets, and more."""
ENTRY_BYTES = 200
"""What an entry takes up beside its key and value, about."""
READ_AT_ONCE = 1_000
"""Records that are parsed between two pauses, some 10 ms: the whole process shares this thread."""


class Newest:
    """The newest entry of each key, in the order of the last writes, as compaction would leave them.

    Beyond ``most_bytes`` those that were written longest ago are dropped, and counted.
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

    def take(self, entries: Sequence[Entry]) -> None:
        """Take entries, in their order."""
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
        """Hand over the records that have not been told yet, piece by piece and in their order.

        A client that begins anew tells all that ever was, up to the end that the log has then: whoever
        takes it lets the newest of a key stand, and looks at the whole only when this returns.

        Args:
            take: gets each piece; what it keeps is all that is held in memory.
            to_the_end: go on to the end that the log has now; else take what is there without a wait.

        Raises:
            InputError: the topic does not exist.
            UnreachableError, BrokerError: it cannot be read, or Kafka stops answering; the next
                call begins anew.
        """
        with while_reading(repr(self._topic)):
            try:
                if to_the_end or self._consumer is None:
                    await self._to_the_end(take)
                else:
                    async with (
                        self._given_up_if_it_fails(self._consumer) as consumer,
                        asyncio.timeout(DEADLINE_S),
                    ):
                        take(await self._read(consumer, 0))
            except OffsetOutOfRangeError:
                # Deleted and made again, or compacted away: what follows replaces what was.
                await self._to_the_end(take)

    async def catch_up(self) -> list[Entry]:
        """The newest of each key that has not been told yet, up to the end that the log has now.

        Until the *position* is there: markers and compaction take up offsets, records cannot
        be counted. However long that takes, as long as it gets on.

        Raises:
            InputError, UnreachableError, BrokerError: see ``read``.
        """
        newest = Newest()
        await self.read(newest.take, to_the_end=True)
        return newest.entries

    async def poll(self) -> list[Entry]:
        """What came since, without a wait.

        A client that begins anew would meet all that ever was, and each old value as the newest: so
        the end is gone to first.

        Raises:
            UnreachableError, BrokerError: it cannot be read; the next call begins anew.
        """
        if self._consumer is None:
            return await self.catch_up()
        found: list[Entry] = []
        await self.read(found.extend, to_the_end=False)
        return found

    async def stop(self) -> None:
        """Close the connection. Safe to call twice; a later read begins anew."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await closed(consumer)

    @contextlib.asynccontextmanager
    async def _given_up_if_it_fails(self, consumer: AIOKafkaConsumer) -> AsyncIterator[AIOKafkaConsumer]:
        """Its position may have passed records that nobody was told of: never read on with it."""
        try:
            yield consumer
        except BaseException:
            await self.stop()
            raise

    async def _to_the_end(self, take: Callable[[Sequence[Entry]], None]) -> None:
        async with self._given_up_if_it_fails(await self._running()) as consumer:
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
            async with asyncio.timeout(DEADLINE_S):
                consumer.assign(partitions)
                for tp, start in (await consumer.beginning_offsets(partitions)).items():
                    consumer.seek(tp, start)
        except BaseException:
            await closed(consumer)
            raise
        self._consumer = consumer
        return consumer
