"""A log in memory, with its source and sink: ``anomalyd demo`` runs on it, without a broker.

It behaves like Kafka as far as the loop can observe: topics of partitions, a key always in the same partition,
offsets that only grow, positions committed per group, and retention that deletes the oldest records whether
or not they were read, so that an endless demo does not grow. A producer that must not outrun its reader awaits
``drained``.

All of it runs in one event loop, and nothing awaits between a read and the change that depends on it, so that
no lock is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from daemon.control import Control, Received, read_control, written
from daemon.domain import (
    Assigned,
    InputPartition,
    Output,
    PartitionCommit,
    PolledRecords,
    Position,
    Record,
    SourceEvent,
    StateRecord,
)
from daemon.errors import InputError
from daemon.stream.encoding import Encoded

MAX_RECORDS: Final = 2_000  # per poll
BEAT: Final = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Stored:
    """A record with its headers."""

    record: Record
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        return len(self.record.value) + len(self.record.key or b"")


@dataclass(slots=True, eq=False)
class _Partition:
    """Records of one partition: ``kept[0]`` has offset ``begin``, and the first ``stale`` entries are deleted.

    Deleted entries leave the list in bulk, because each removal at the front moves the whole list.
    """

    kept: list[Stored] = field(default_factory=list)
    begin: int = 0
    size: int = 0  # bytes, without deleted entries
    stale: int = 0
    read_to: int = 0

    @property
    def first(self) -> int:
        """The oldest offset that can be read."""
        return self.begin + self.stale

    @property
    def end(self) -> int:
        """The offset that the next record will have."""
        return self.begin + len(self.kept)


class MemoryLog:
    """Topics of partitions of records.

    Args:
        max_records, max_bytes: what one partition keeps at most; its newest record always stays.
    """

    def __init__(self, max_records: int = 100_000, max_bytes: int = 64 << 20) -> None:
        self.committed: dict[tuple[str, InputPartition], Position] = {}
        """Per group and partition."""
        self.saved: dict[tuple[str, InputPartition], dict[bytes, StateRecord]] = {}
        """Per group and partition, the state that was committed with the position."""
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._topics: dict[str, list[_Partition]] = {}
        self._finished: set[str] = set()
        self._waiting: set[asyncio.Event] = set()

    def create(self, topic: str, partitions: int = 1) -> None:
        """Add a topic; one that exists stays as it is."""
        self._topics.setdefault(topic, [_Partition() for _ in range(partitions)])

    def partitions(self, topic: str) -> tuple[InputPartition, ...]:
        """The topic's partitions; none if it does not exist."""
        return tuple(InputPartition(topic, i) for i in range(len(self._topics.get(topic, ()))))

    def append(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        timestamp_ns: int = -1,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> tuple[InputPartition, int]:
        """Write one record at the end of its key's partition; a missing topic is created with one partition.

        Returns:
            The partition and the offset of the record.
        """
        assert topic not in self._finished, f"{topic} has been finished"
        self.create(topic)
        parts = self._topics[topic]
        number = zlib.crc32(key) % len(parts) if key is not None else 0
        part = parts[number]
        offset = part.end
        stored = Stored(Record(offset, key, value, timestamp_ns), tuple(headers))
        part.kept.append(stored)
        part.size += stored.size
        self._retain(part)
        self.wake()
        return InputPartition(topic, number), offset

    def _retain(self, part: _Partition) -> None:
        while len(part.kept) - part.stale > 1 and (
            len(part.kept) - part.stale > self._max_records or part.size > self._max_bytes
        ):
            part.size -= part.kept[part.stale].size
            # The bytes are freed now, the list's entries when half of them are deleted.
            part.kept[part.stale] = _GONE
            part.stale += 1
        if part.stale > 64 and part.stale * 2 > len(part.kept):
            del part.kept[: part.stale]
            part.begin += part.stale
            part.stale = 0

    def finish(self, topic: str) -> None:
        """No record follows in this topic: its readers end behind the last one."""
        self._finished.add(topic)
        self.wake()

    def finished(self, topic: str) -> bool:
        return topic in self._finished

    def first(self, partition: InputPartition) -> int:
        """The oldest offset that was not deleted."""
        return self._topics[partition.topic][partition.number].first

    def end(self, partition: InputPartition) -> int:
        """The offset that the next record will have."""
        return self._topics[partition.topic][partition.number].end

    def read(self, partition: InputPartition, offset: int, limit: int = MAX_RECORDS) -> list[Record]:
        """Up to ``limit`` records from ``offset`` on, or from the oldest one if that was deleted."""
        part = self._topics[partition.topic][partition.number]
        start = max(offset, part.first) - part.begin
        return [stored.record for stored in part.kept[start : start + limit]]

    def messages(self, topic: str) -> list[Stored]:
        """All records of a topic that were not deleted, partition by partition."""
        return [stored for part in self._topics.get(topic, ()) for stored in part.kept[part.stale :]]

    def mark_read(self, partition: InputPartition, offset: int) -> None:
        """A reader has processed everything before ``offset``."""
        self._topics[partition.topic][partition.number].read_to = offset
        self.wake()

    def unread(self, topic: str) -> int:
        """Records that the topic's reader has not processed."""
        return sum(part.end - part.read_to for part in self._topics.get(topic, ()))

    async def drained(self, topic: str, unread: int = 0) -> None:
        """Wait until at most ``unread`` records are unprocessed: a producer's backpressure."""
        while self.unread(topic) > unread:
            await self.changed(None)

    async def changed(self, timeout_s: float | None) -> bool:
        """Wait for the next change of the log; False if there was none within ``timeout_s``."""
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await event.wait()
        finally:
            self._waiting.discard(event)
        return event.is_set()

    def wake(self) -> None:
        """Wake all that wait in ``changed``."""
        for event in self._waiting:
            event.set()


_GONE: Final = Stored(Record(-1, None, b"", -1))


class MemorySource:
    """Reads topics of a ``MemoryLog`` as one member of a group. See ``ports.Source``.

    Args:
        log: the log.
        topics: the topics to read; they must exist when ``events`` is first pulled.
        group: its committed positions are where reading starts.
        max_records: per poll.
        beat: an idle source yields an empty poll this often.
        clock: monotonic seconds; measures idleness.
    """

    def __init__(
        self,
        log: MemoryLog,
        topics: Sequence[str],
        group: str = "anomalyd",
        max_records: int = MAX_RECORDS,
        beat: timedelta = BEAT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._topics = tuple(topics)
        self._group = group
        self._max_records = max_records
        self._beat_s = beat.total_seconds()
        self._clock = clock
        self._closed = False
        self._assigned: set[InputPartition] = set()

    async def events(self) -> AsyncIterator[SourceEvent]:
        """See ``ports.Source``.

        Raises:
            InputError: a topic does not exist.
        """
        positions: dict[InputPartition, int] = {}
        for topic in self._topics:
            partitions = self._log.partitions(topic)
            if not partitions:
                raise InputError(f"topic {topic} does not exist")
            for partition in partitions:
                assigned = self._assignment(partition)
                positions[partition] = assigned.replay_from
                self._assigned.add(partition)
                if self._closed:
                    return
                yield assigned
        idle_since = dict.fromkeys(positions, self._clock())
        beat_at = self._clock()
        while positions and not self._closed:
            # A log that always has more records never waits, and other tasks share this event loop.
            await asyncio.sleep(0)
            came = False
            for partition in list(positions):
                if self._closed:
                    return
                records = self._log.read(partition, positions[partition], self._max_records)
                if records:
                    came = True
                    yield PolledRecords(partition, records, end_offset=self._log.end(partition))
                    positions[partition] = records[-1].offset + 1
                    idle_since[partition] = self._clock()
                    self._log.mark_read(partition, positions[partition])
                elif self._log.finished(partition.topic):
                    came = True
                    del positions[partition]
                    yield PolledRecords(partition, (), ended=True, end_offset=self._log.end(partition))
            if came or self._closed:
                continue
            left = self._beat_s - (self._clock() - beat_at)
            if left > 0 and await self._log.changed(left):
                continue
            beat_at = self._clock()
            for partition in list(positions):
                if self._closed:
                    return
                end = self._log.end(partition)
                if end == positions[partition]:
                    idle = timedelta(seconds=max(self._clock() - idle_since[partition], 0.0))
                    yield PolledRecords(partition, (), idle=idle, end_offset=end)

    def _assignment(self, partition: InputPartition) -> Assigned:
        first = self._log.first(partition)
        position = self._log.committed.get((self._group, partition), Position(first, first))
        # Deleted records can neither be processed nor replayed.
        publish_from = max(position.offset, first)
        saved = self._log.saved.get((self._group, partition), {})
        return Assigned(
            partition,
            min(max(position.replay_from, first), publish_from),
            publish_from,
            tuple(saved.values()),
        )

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> None:
        """See ``ports.Source``; a partition that is not assigned here is ignored."""
        for partition, done in work.items():
            if partition in self._assigned:
                self._log.committed[self._group, partition] = done.position
                if done.saved:
                    kept = self._log.saved.setdefault((self._group, partition), {})
                    kept |= {record.key: record for record in done.saved}

    def close(self) -> None:
        """See ``ports.Source``."""
        self._closed = True
        self._log.wake()

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self._closed


class MemoryControls:
    """The control messages in a topic of a ``MemoryLog``, as ``kafka.control_topic.ControlTopic`` has them of Kafka.

    Args:
        log: the log.
        topic: the topic, which is written here alone.
        now_ns: when a message is written.
    """

    def __init__(self, log: MemoryLog, topic: str, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.received: list[Received] = []
        self.end = 0
        self.born_ns = -1
        self.refused = 0  # what is written here has been checked
        self.topic = topic
        self._log = log
        self._now_ns = now_ns
        log.create(topic)

    async def send(self, control: Control) -> None:
        """Write a message."""
        self._log.append(self.topic, written(control), timestamp_ns=self._now_ns())

    async def refresh(self) -> Sequence[Received]:
        """The messages that are new."""
        (partition,) = self._log.partitions(self.topic)
        records = self._log.read(partition, self.end)
        if records and not self.received:
            self.born_ns = records[0].timestamp_ns
        fresh = [
            Received(record.offset, record.timestamp_ns, read_control(record.value), self.born_ns)
            for record in records
        ]
        if fresh:
            self.end = fresh[-1].position + 1
            self.received += fresh
        return fresh

    async def poll(self) -> Sequence[Received]:
        """The messages that are new."""
        return await self.refresh()


class MemorySink:
    """Writes outputs to ``<prefix>.<topic>`` of a ``MemoryLog``. See ``ports.Sink``.

    Args:
        log: the log.
        prefix: of the topics' names.
        encode: encodes an output as a message, with the wall clock.
    """

    def __init__(self, log: MemoryLog, prefix: str, encode: Callable[[Output], Encoded]) -> None:
        self._log = log
        self._prefix = prefix
        self._encode = encode

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        for message in [self._encode(output) for output in outputs]:
            self._log.append(
                f"{self._prefix}.{message.topic}",
                message.value,
                message.key,
                time.time_ns(),
                message.headers,
            )
