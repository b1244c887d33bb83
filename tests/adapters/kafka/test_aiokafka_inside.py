"""What is changed inside aiokafka: columns have what its own records would have had, and its position is the same."""

from __future__ import annotations

import asyncio
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka import aiokafka_inside
from daemon.adapters.kafka.aiokafka_inside import FetchedColumns, RecordColumns

TP = TopicPartition("in", 0)
PRODUCER = 7
ABORTED = 8
Header = tuple[str, bytes | None]


@dataclass(frozen=True)
class Batch:
    """A record batch of a log: of no transaction, or of a producer's; ``control``: that transaction's end."""

    records: int
    skipped: int = 0  # offsets before it that a compaction has removed
    producer: int = -1
    control: bool = False
    headers: bool = False
    compressed: bool = False


def written(log: Sequence[Batch]) -> tuple[bytes, int]:
    """The log as a broker sends it, and its end."""
    made, offset = b"", 0
    for batch in log:
        offset += batch.skipped
        transactional = batch.producer >= 0
        builder = DefaultRecordBatchBuilder(
            2, int(batch.compressed), transactional, batch.producer, 0, 0, 1 << 20
        )
        for i in range(batch.records):
            n = offset + i
            headers: list[Header] = [("n", b"%d" % n)] if batch.headers else []
            key = struct.pack(">hh", 0, 0) if batch.control else None if n % 5 == 0 else b"key"
            builder.append(i, 1_000 + n, key, None if n % 7 == 3 else b"value %d" % n, headers)
        raw = bytearray(builder.build())
        struct.pack_into(">q", raw, 0, offset)
        if batch.control:  # no builder makes one: the bit is set here, and no checksum is checked
            struct.pack_into(">h", raw, 21, struct.unpack_from(">h", raw, 21)[0] | 0x20)
        made += bytes(raw)
        offset += batch.records
    return made, offset


def result_of(log: Sequence[Batch], begin: int) -> tuple[FetchResult, SubscriptionState]:
    """What a consumer at ``begin`` holds of the log after a fetch; the producer ``ABORTED`` aborts from the start."""
    state = SubscriptionState()
    state.assign_from_user([TP])
    state.seek(TP, begin)
    records = PartitionRecords(
        TP, MemoryRecords(written(log)[0]), [(ABORTED, 0)], begin, None, None, False, READ_COMMITTED
    )
    assignment = state.subscription.assignment
    return FetchResult(TP, assignment=assignment, partition_records=records, backoff=0), state


async def both(log: Sequence[Batch], begin: int, most: int) -> tuple[list[Any], list[Any]]:
    """All records of aiokafka and of columns, each with the position that a poll of at most ``most`` leads to."""
    theirs, ours = [], []
    result, state = result_of(log, begin)
    while result.has_more():
        for r in result.getall(most):
            stamped = (r.timestamp, r.timestamp_type)
            theirs.append((r.offset, r.key, r.value or b"", *stamped, list(r.headers)))
    theirs.append(state.subscription.assignment.state_value(TP).position)
    result, state = result_of(log, begin)
    FetchedColumns()[TP] = result
    while result.has_more():
        found = result.getall(most)
        assert isinstance(found, RecordColumns)
        assert len(found) <= most
        headers = found.headers or [()] * len(found)
        columns = (found.offsets, found.keys, found.values, found.timestamps_ms, headers)
        for offset, key, value, ms, some in zip(*columns, strict=True):
            ours.append((offset, key, value, ms, found.timestamp_type, list(some)))
        if len(found):
            position = state.subscription.assignment.state_value(TP).position
            assert position > found.offsets[-1]
    ours.append(state.subscription.assignment.state_value(TP).position)
    return theirs, ours


batches = st.builds(
    Batch,
    st.integers(1, 9),
    st.integers(0, 3),
    st.sampled_from([-1, PRODUCER, ABORTED]),
    st.just(value=False),
    st.booleans(),
    st.booleans(),
)
ends = st.builds(
    Batch, st.just(1), producer=st.sampled_from([PRODUCER, ABORTED]), control=st.just(value=True)
)


@given(st.lists(batches | ends, max_size=8), st.integers(0, 11), st.integers(4, 30))
def test_columns_have_what_aiokafka_would_have_returned(log: list[Batch], begin: int, most: int) -> None:
    if log:  # a broker's first batch has the offset that was asked for, or a later one
        begin = min(begin, log[0].skipped + log[0].records - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiokafka_inside, "AT_ONCE", 4)
        theirs, ours = asyncio.run(both(log, begin, most))
    assert ours == theirs


async def test_where_there_is_no_room_for_more_nothing_is_taken_and_nothing_lost() -> None:
    """``getmany`` passes on what other partitions have left of its limit."""
    result, state = result_of([Batch(900)], 0)
    FetchedColumns()[TP] = result
    assert len(result.getall(aiokafka_inside.AT_ONCE - 1)) == 0
    assert result.has_more()
    assert result.getall(aiokafka_inside.AT_ONCE).offsets == list(range(500))
    assert state.subscription.assignment.state_value(TP).position == 500
    assert result.getall(None).offsets == list(range(500, 900))
    assert not result.has_more()


async def test_records_of_a_partition_that_has_gone_are_not_returned() -> None:
    result, state = result_of([Batch(3)], 0)
    FetchedColumns()[TP] = result
    state.unsubscribe()
    assert len(result.getall(1_000)) == 0
    assert not result.has_more()


async def test_a_fetch_that_is_dropped_is_freed_at_once() -> None:
    """Its bytes are megabytes; Python's collector comes seldom."""
    result, _ = result_of([Batch(3)], 0)
    held = FetchedColumns()
    held[TP] = result
    gone = weakref.ref(result)
    del held[TP], result
    assert gone() is None
