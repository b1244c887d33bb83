"""Records that are taken batch by batch are those that aiokafka takes one by one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka.aiokafka_inside import return_parsed_records

TP = TopicPartition("in", 0)
CONTROL = 0x20
ABORT = b"\0\0\0\0"


@dataclass
class Position:
    """What a consumer knows of a partition."""

    position: int
    has_valid_position: bool = True
    paused: bool = False

    def consumed_to(self, offset: int) -> None:
        self.position = offset


@dataclass
class Assigned:
    state: Position
    active: bool = True

    def state_value(self, _: TopicPartition) -> Position:
        return self.state


@dataclass
class Fetcher:
    _records: dict[TopicPartition, Any] = field(default_factory=dict)


@dataclass
class Consumer:
    _fetcher: Fetcher


def waiting_results() -> dict[TopicPartition, Any]:
    """Where a consumer keeps the results of fetches, after ``return_parsed_records``."""
    fetcher = Fetcher()
    return_parsed_records(Consumer(fetcher))
    found: dict[TopicPartition, Any] = vars(fetcher)["_records"]
    assert isinstance(found, OrderedDict)
    return found


@dataclass(frozen=True)
class Written:
    """A batch of the log: so many records of a producer, -1 without transactions; or the marker that aborts it."""

    producer: int
    count: int
    abort: bool = False


def encoded(base: int, batch: Written) -> bytes:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=int(batch.producer >= 0),
        producer_id=batch.producer,
        producer_epoch=0,
        base_sequence=0,
        batch_size=1 << 16,
    )
    if batch.abort:
        builder.append(0, 1000, ABORT, b"\0\0\0\0\0\0", [])
    for i in range(batch.count):
        builder.append(i, 1000 + i, b"k", b"%d" % (base + i), [("h", b"x")])
    made = bytearray(builder.build())
    made[:8] = base.to_bytes(8, "big")
    made[22] |= CONTROL * batch.abort
    return bytes(made)


def fetched(log: list[Written], begin: int) -> tuple[FetchResult, Position]:
    """A fetch of the log, of which the batch that has the position is the first."""
    raw, base, aborted = b"", 0, []
    for at, batch in enumerate(log):
        if batch.abort:
            starts = [sum(max(b.count, b.abort) for b in log[:i]) for i in range(at)]
            mine = [
                s for s, b in zip(starts, log[:at], strict=True) if b.producer == batch.producer and b.count
            ]
            aborted += [(batch.producer, mine[0])] if mine else []
        raw += encoded(base, batch)
        base += max(batch.count, batch.abort)
    records = PartitionRecords(TP, MemoryRecords(raw), aborted, begin, None, None, False, READ_COMMITTED)
    position = Position(begin)
    return FetchResult(TP, assignment=Assigned(position), partition_records=records, backoff=0), position


batches = st.one_of(
    st.builds(Written, st.integers(-1, 1), st.integers(1, 5)),
    st.builds(Written, st.integers(0, 1), st.just(0), st.just(True)),
)


@given(st.lists(batches, min_size=1, max_size=8), st.integers(0, 6), st.integers(1, 7))
def test_records_in_batches_are_those_one_by_one(log: list[Written], begin: int, most: int) -> None:
    plain, position = fetched(log, begin)
    hooked, other = fetched(log, begin)
    waiting_results()[TP] = hooked
    while plain.has_more():
        expected = [(r.offset, r.key, r.value, r.timestamp) for r in plain.getall(most)]
        found = [(r.offset, r.key, r.value, r.timestamp) for r in hooked.getall(most)]
        assert found == expected
        assert hooked.has_more() == plain.has_more()
        assert other.position == position.position


def test_a_fetch_that_failed_stays_as_it_is() -> None:
    waiting, failure = waiting_results(), ValueError("no leader")
    waiting[TP] = failure
    assert waiting[TP] is failure
