"""One partition whose records flow: the next offset, how long it has been idle, and where its log ends.

Idle is only the time over which the broker confirmed that no record came: while it cannot be reached, nobody
could have written, and no asset has fallen silent.
"""

from __future__ import annotations

import time
from datetime import timedelta

import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from daemon.adapters.kafka.aiokafka_inside import RecordColumns
from daemon.adapters.kafka.record_times import timestamps_ns
from daemon.adapters.kafka.stats import KafkaStats
from daemon.domain import InputPartition, PolledRecords, Records

LOG_APPEND_TIME = 1
"""The type of a timestamp that the broker has set when it appended the record."""
IDLE_STEP_MS = 2_000
"""An answer that comes later than this after the one before does not prove idleness."""


class LivePartition:
    """Makes the events of one partition and keeps its lag up to date.

    Attributes:
        emitted_at: when its last event was made, as ``time.monotonic()``; 0 before the first.
    """

    def __init__(self, tp: TopicPartition, next_offset: int, stats: KafkaStats) -> None:
        self.emitted_at = 0.0
        self._tp = tp
        self._partition = InputPartition(tp.topic, tp.partition)
        self._next_offset = next_offset
        self._idle_ms = 0
        self._answered_ms: int | None = (
            None  # aiokafka's stamp of the answer up to which idle time was counted
        )
        self._stats = stats

    async def records(self, consumer: AIOKafkaConsumer, columns: RecordColumns) -> PolledRecords:
        """The event for records of one poll."""
        items = Records(
            np.array(columns.offsets, np.int64),
            columns.keys,
            columns.values,
            timestamps_ns(columns.timestamps_ms),
            columns.timestamp_type == LOG_APPEND_TIME,
            columns.headers,
            self._partition.topic,
        )
        self._next_offset = columns.offsets[-1] + 1
        self._idle_ms, self._answered_ms = 0, None
        self.emitted_at = time.monotonic()
        return PolledRecords(self._partition, items, end_offset=await self._end_offset(consumer))

    async def no_records(self, consumer: AIOKafkaConsumer) -> PolledRecords:
        """The event for a poll without records: idle time and end of the log."""
        end = await self._end_offset(consumer)
        return PolledRecords(self._partition, (), idle=timedelta(milliseconds=self._idle_ms), end_offset=end)

    async def _end_offset(self, consumer: AIOKafkaConsumer) -> int | None:
        """Where the records of the log end, as last seen; counts idle time and lag on the way."""
        tp = self._tp
        if tp not in consumer.assignment():
            return None
        end: int | None = consumer.highwater(tp)
        stable: int | None = consumer.last_stable_offset(tp)
        stamp: int | None = consumer.last_poll_timestamp(tp)
        if end is None or stamp is None:
            return None
        # Markers and compacted records take up offsets: the position passes them, records do not.
        # A live partition was sought, so its position is set and this await never waits.
        readable = end if stable is None or stable < 0 else min(stable, end)
        position = max(self._next_offset, await consumer.position(tp))
        if position >= readable:
            if self._answered_ms is not None:
                self._idle_ms += max(0, min(stamp - self._answered_ms, IDLE_STEP_MS))
            self._answered_ms = stamp
        else:
            self._idle_ms, self._answered_ms = 0, None
        behind: int = max(0, end - position)
        self._stats.lag[self._partition] = behind
        return self._next_offset + behind  # offsets that hold no record are no lag
