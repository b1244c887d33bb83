"""The log in memory behaves as Kafka does, where the loop can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from daemon.adapters.memory import MemoryControls, MemoryLog, MemorySink, MemorySource
from daemon.control import Feedback, Received, RetrainRequest, Verdict, read_control
from daemon.domain import (
    Assigned,
    DeadLetter,
    InputPartition,
    Output,
    PartitionCommit,
    PolledRecords,
    Position,
    Record,
    SourceEvent,
)
from daemon.errors import InputError
from daemon.stream.encoding import Encoded, encode
from tests import contract

A0, A1, B0 = InputPartition("a", 0), InputPartition("a", 1), InputPartition("b", 0)
BEAT = timedelta(milliseconds=5)


def keys_of(log: MemoryLog, partition: InputPartition) -> Iterator[bytes]:
    """Keys that the log puts into this partition."""
    probe = MemoryLog()
    probe.create(partition.topic, len(log.partitions(partition.topic)))
    for i in range(1000):
        key = f"k{i}".encode()
        if probe.append(partition.topic, b"", key)[0] == partition:
            yield key


@pytest.fixture
def log() -> MemoryLog:
    """Topic a with two partitions, topic b with one, a few records in each."""
    log = MemoryLog()
    log.create("a", 2)
    for partition, count in ((A0, 7), (A1, 4)):
        key = next(keys_of(log, partition))
        for i in range(count):
            log.append("a", f"{i}".encode(), key, 1_000 + i)
    for i in range(3):
        log.append("b", f"{i}".encode())
    return log


EXPECTED = {A0: range(7), A1: range(4), B0: range(3)}


def source(log: MemoryLog, **how: object) -> MemorySource:
    return MemorySource(log, ["a", "b"], max_records=3, beat=BEAT, **how)  # type: ignore[arg-type]


async def pull(source: MemorySource, count: int) -> list[SourceEvent]:
    events = source.events()
    return [event for event in [await contract.following(events) for _ in range(count)] if event is not None]


# ------------------------------------------------------------------ the contract
async def test_endless_contract(log: MemoryLog) -> None:
    await contract.check_endless(lambda: source(log), EXPECTED)


async def test_finite_contract(log: MemoryLog) -> None:
    log.finish("a")
    log.finish("b")
    await contract.check_finite(lambda: source(log), EXPECTED)


async def test_commit_contract(log: MemoryLog) -> None:
    at = {A0: Position(5, 2), A1: Position(1, 1), B0: Position(2, 0)}
    await contract.check_commit(lambda: source(log), at)


def encoded(output: Output) -> Encoded:
    return encode(output, datetime(2024, 1, 1, tzinfo=UTC))


async def test_sink_contract() -> None:
    log = MemoryLog()

    async def read(topic: str) -> Sequence[tuple[bytes | None, bytes, Mapping[str, bytes]]]:
        return [(m.record.key, m.record.value, dict(m.headers)) for m in log.messages(topic)]

    await contract.check_messages(MemorySink(log, "test", encoded), "test", encoded, read)


# ------------------------------------------------------------------ the log
def test_records_keep_everything_and_a_key_its_partition(log: MemoryLog) -> None:
    (first, *_) = log.read(A0, 0)
    assert (first.offset, first.value, first.timestamp_ns) == (0, b"0", 1_000)
    assert log.partitions("a") == (A0, A1)
    assert log.partitions("none") == ()
    assert log.messages("none") == []
    assert len(log.messages("a")) == 11
    assert {log.append("a", b"", b"key")[0] for _ in range(5)} in ({A0}, {A1})
    log.create("a", 9)
    assert log.partitions("a") == (A0, A1)


def test_reading_is_by_offset_and_bounded(log: MemoryLog) -> None:
    assert [record.offset for record in log.read(A0, 2, 3)] == [2, 3, 4]
    assert [record.offset for record in log.read(A0, 5)] == [5, 6]
    assert log.read(A0, 7) == []
    assert (log.first(A0), log.end(A0)) == (0, 7)


def test_retention_bounds_records_and_keeps_offsets() -> None:
    log = MemoryLog(max_records=10)
    for i in range(1000):
        _, offset = log.append("t", b"%d" % i)
        assert offset == i
        kept = log.read(InputPartition("t", 0), 0)
        assert [record.offset for record in kept] == list(range(max(0, i - 9), i + 1))
        assert all(record.value == b"%d" % record.offset for record in kept)
    assert len(log.messages("t")) == 10


def test_retention_bounds_bytes_but_leaves_the_newest() -> None:
    log = MemoryLog(max_bytes=1000)
    for _ in range(300):
        log.append("t", b"x" * 100)
    assert len(log.messages("t")) == 10
    log.append("t", b"x" * 5000)
    assert [len(message.record.value) for message in log.messages("t")] == [5000]
    log.append("t", b"x")
    assert [len(message.record.value) for message in log.messages("t")] == [1]


# ------------------------------------------------------------------ the source
async def test_topic_that_does_not_exist_is_refused(log: MemoryLog) -> None:
    with pytest.raises(InputError, match=r"^topic nowhere does not exist$"):
        await pull(MemorySource(log, ["nowhere"]), 1)


async def test_reader_is_woken_by_a_record_and_not_by_the_clock() -> None:
    log = MemoryLog()
    log.create("t")
    reader = MemorySource(log, ["t"], beat=timedelta(hours=1))
    events = reader.events()
    assert isinstance(await contract.following(events), Assigned)
    waiting = asyncio.ensure_future(contract.following(events))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    log.append("t", b"x")
    event = await waiting
    assert isinstance(event, PolledRecords)
    assert [item.offset for item in event.items] == [0]
    assert event.end_offset == 1

    waiting = asyncio.ensure_future(contract.following(events))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.close()
    assert await waiting is None


async def test_idle_time_grows_until_a_record_comes() -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1.0
        return now

    log = MemoryLog()
    log.create("t")
    reader = MemorySource(log, ["t"], beat=timedelta(microseconds=1), clock=clock)
    events = reader.events()
    await contract.following(events)

    async def idle() -> float:
        event = await contract.following(events)
        assert isinstance(event, PolledRecords)
        return event.idle.total_seconds()

    first, second = await idle(), await idle()
    assert 0 < first < second
    log.append("t", b"x")
    assert await idle() == 0
    assert 0 < await idle() < second


async def test_reader_that_fell_behind_retention_goes_on_at_the_oldest() -> None:
    log = MemoryLog(max_records=5)
    for i in range(20):
        log.append("t", b"%d" % i)
    partition = InputPartition("t", 0)
    log.committed["anomalyd", partition] = Position(17, 3)
    first, second = (await pull(MemorySource(log, ["t"]), 2))[:2]
    assert first == Assigned(partition, 15, 17)
    assert isinstance(second, PolledRecords)
    assert [item.offset for item in second.items] == [15, 16, 17, 18, 19]
    log.committed["anomalyd", partition] = Position(9, 3)
    assert (await pull(MemorySource(log, ["t"]), 1))[0] == Assigned(partition, 15, 15)


async def test_groups_are_apart_and_foreign_partitions_are_left_alone(log: MemoryLog) -> None:
    reader = source(log, group="one")
    await reader.commit({A0: PartitionCommit(Position(3, 1))})  # nothing is assigned yet
    assert log.committed == {}
    await pull(reader, 3)
    await reader.commit(
        {A0: PartitionCommit(Position(3, 1)), InputPartition("z", 0): PartitionCommit(Position(1, 1))}
    )
    assert log.committed == {("one", A0): Position(3, 1)}
    assert (await pull(source(log, group="two"), 1))[0] == Assigned(A0, 0, 0)


async def test_producer_waits_for_its_reader() -> None:
    log = MemoryLog()
    log.create("t")
    reader = MemorySource(log, ["t"], max_records=10)
    most = 0

    async def produce() -> None:
        for i in range(95):
            log.append("t", b"%d" % i)
            await log.drained("t", 20)
        log.finish("t")

    producer = asyncio.ensure_future(produce())
    seen = []
    async with asyncio.timeout(contract.DEADLINE_S):
        async for event in reader.events():
            most = max(most, log.unread("t"))
            if isinstance(event, PolledRecords):
                seen += [item.offset for item in event.items]
    await producer
    assert seen == list(range(95))
    assert 15 <= most <= 21
    assert log.unread("t") == 0


async def test_control_messages_lie_in_their_topic_and_come_once_in_their_order(log: MemoryLog) -> None:
    now = 5
    topic = MemoryControls(log, "told", lambda: now)
    assert await topic.refresh() == []
    assert (topic.end, topic.born_ns, topic.received) == (0, -1, [])
    first, second = RetrainRequest("pumps", by="kim"), Feedback("f", Verdict.PLANNED)
    await topic.send(first)
    now = 7
    await topic.send(second)
    assert await topic.poll() == [Received(0, 5, first, 5), Received(1, 7, second, 5)]
    assert await topic.poll() == []
    assert (topic.end, topic.born_ns) == (2, 5)
    await topic.send(first)
    assert await topic.poll() == [Received(2, 7, first, 5)]
    assert [received.position for received in topic.received] == [0, 1, 2]
    assert [read_control(each.record.value) for each in log.messages("told")] == [first, second, first]


async def test_finished_topic_takes_no_more() -> None:
    log = MemoryLog()
    log.finish("t")
    assert log.finished("t")
    with pytest.raises(AssertionError, match="finished"):
        log.append("t", b"x")


async def test_dead_letter_lies_in_its_topic_as_it_came() -> None:
    log = MemoryLog()
    letter = next(output for output in contract.one_of_each() if isinstance(output, DeadLetter))
    await MemorySink(log, "anomalyd", partial(encode, now=datetime.now(UTC))).publish([letter])
    (message,) = log.messages("anomalyd.dead-letter")
    assert isinstance(message.record, Record)
    assert message.record.value == letter.rejected.record.value
    assert message.record.key == b"\xffkey"
    assert dict(message.headers)["reason"] == b"not_utf8"
    assert message.record.timestamp_ns > 0
