"""Transactions per input partition against a real Kafka: all of it, or nothing, and once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from daemon.adapters.kafka import KafkaSettings, KafkaSource, StateTopic, TransactionFailed, Transactions
from daemon.adapters.kafka.transactions import partition_of
from daemon.domain import (
    Assigned,
    DeadLetter,
    InputPartition,
    Output,
    PartitionCommit,
    PolledRecords,
    Position,
    Reason,
    Record,
    Rejected,
    Revoked,
    ScoredRow,
    SourceEvent,
    StateRecord,
)
from daemon.errors import BrokerError
from tests import contract
from tests.adapters.kafka.setups import ENCODE, administering
from tests.broker import create_topic, produce, read_topic

pytestmark = pytest.mark.kafka


def row(asset: str, second: int = 0) -> ScoredRow:
    return ScoredRow("pumps", asset, second * 10**9, 1.0, 0, 0, 0, 0, False, "m1")


def letter(key: bytes | None, value: bytes = b"x") -> DeadLetter:
    return DeadLetter(
        "pumps", InputPartition("in", 0), Rejected(Record(3, key, value, 0), Reason.BLANK, "no")
    )


@dataclass
class Place:
    """Topics of one test: input with two partitions, outputs, state."""

    bootstrap: str
    prefix: str
    topic: str
    settings: KafkaSettings

    @property
    def state(self) -> StateTopic:
        return StateTopic(self.settings, self.prefix)

    def transactions(self) -> Transactions:
        return Transactions(self.settings, self.prefix, ENCODE, self.state)

    def source(self) -> KafkaSource:
        return KafkaSource(self.settings, [self.topic], self.state, self.transactions())

    async def assets(self) -> list[str]:
        return [record.key.decode() for record in await read_topic(self.bootstrap, f"{self.prefix}.scores")]

    async def configure(self, topic: str, **config: str) -> None:
        async with administering(self.bootstrap) as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, f"{self.prefix}.{topic}", config)
            await admin.alter_configs([resource])


@pytest.fixture
async def place(kafka_bootstrap: str) -> Place:
    name = uuid4().hex[:8]
    settings = KafkaSettings(
        kafka_bootstrap, group_id=f"g-{name}", commit_interval=timedelta(milliseconds=20)
    )
    made = Place(kafka_bootstrap, f"out-{name}", f"in-{name}", settings)
    await create_topic(kafka_bootstrap, made.topic, 2)
    await create_topic(kafka_bootstrap, f"{made.prefix}.scores", 3)
    await create_topic(kafka_bootstrap, f"{made.prefix}.dead-letter", 1, {"cleanup.policy": "compact"})
    await create_topic(kafka_bootstrap, f"{made.prefix}.state", 2, {"cleanup.policy": "compact"})
    return made


async def until(source: KafkaSource, count: int) -> list[SourceEvent]:
    """Events up to the one that makes it this many assignments."""
    seen: list[SourceEvent] = []
    async with asyncio.timeout(60):
        async for event in source.events():
            seen.append(event)
            if sum(isinstance(e, Assigned) for e in seen) == count:
                return seen
    raise AssertionError("the source ended")


@pytest.mark.parametrize("key", [b"", b"a", b"pump-01", "ü€𝄞".encode(), bytes(range(256))])
async def test_a_key_has_the_partition_of_the_default_partitioner(kafka_bootstrap: str, key: bytes) -> None:
    topic = f"keys-{uuid4().hex[:8]}"
    await create_topic(kafka_bootstrap, topic, 7)
    await produce(kafka_bootstrap, topic, [(key, b"x")])
    (record,) = await read_topic(kafka_bootstrap, topic)
    assert record.partition == partition_of(key, 7)


async def test_commit_contract(place: Place) -> None:
    here = [InputPartition(place.topic, n) for n in (0, 1)]
    for partition in here:
        await produce(
            place.bootstrap, place.topic, [(b"k", b"%d" % i) for i in range(9)], partition=partition.number
        )
    await contract.check_commit(
        place.source, {here[0]: Position(5, 2), here[1]: Position(3, 3)}, stop=KafkaSource.stop
    )


async def test_outputs_state_and_offset_appear_together(place: Place) -> None:
    here = InputPartition(place.topic, 1)
    source = place.source()
    await until(source, 2)
    a, b = (f"{place.topic}\x1f{asset}".encode() for asset in "ab")
    saved = [StateRecord(a, b"1"), StateRecord(b, b"2"), StateRecord(a, b"3")]
    many: list[Output] = [row(f"a{i % 50}", i) for i in range(5000)]  # more than one batch per partition
    await source.commit({here: PartitionCommit(Position(0, 0), [*many, letter(b"k")], saved)})
    await source.commit({here: PartitionCommit(Position(0, 0), [], [StateRecord(b, None)])})
    await source.stop()
    records = await read_topic(place.bootstrap, f"{place.prefix}.scores")
    assert sorted((r.key, r.value) for r in records) == sorted(
        (ENCODE(each).key, ENCODE(each).value) for each in many
    )
    for asset in {r.key for r in records}:  # in order, whatever the batches were
        wanted = [ENCODE(each).value for each in many if ENCODE(each).key == asset]
        assert [r.value for r in records if r.key == asset] == wanted
    states = await read_topic(place.bootstrap, f"{place.prefix}.state")
    assert {record.partition for record in states} == {1}
    again = place.source()
    assigned = {e.partition: e for e in await until(again, 2) if isinstance(e, Assigned)}
    await again.stop()
    assert assigned[here].saved == (StateRecord(a, b"3"),)
    assert assigned[InputPartition(place.topic, 0)].saved == ()


async def test_a_refused_message_aborts_its_whole_transaction(place: Place) -> None:
    here, other = (InputPartition(place.topic, n) for n in (0, 1))
    transactions = place.transactions()
    await transactions.take_over([here, other])
    bad = PartitionCommit(
        Position(4, 4), [row("lost"), letter(None)], [StateRecord(b"k", b"lost")]
    )  # compacted: a key is needed
    with pytest.raises(TransactionFailed) as failed:
        await transactions.commit(here, bad)
    assert failed.value.refused
    await transactions.commit(
        other, PartitionCommit(Position(2, 2), [row("kept")])
    )  # its neighbour is not touched
    with pytest.raises(TransactionFailed, match="given up"):
        await transactions.commit(here, PartitionCommit(Position(4, 4), [row("never")]))
    await transactions.take_over([here, other])
    await transactions.commit(here, PartitionCommit(Position(5, 5), [row("later")]))
    await transactions.stop()
    assert sorted(await place.assets()) == ["kept", "later"]
    assert await read_topic(place.bootstrap, f"{place.prefix}.state") == []
    async with administering(place.bootstrap) as admin:
        found = await admin.list_consumer_group_offsets(place.settings.group_id)
    assert {tp.partition: at.offset for tp, at in found.items()} == {0: 5, 1: 2}


async def test_a_take_over_fences_the_former_owner(place: Place) -> None:
    here = InputPartition(place.topic, 0)
    old, new = place.transactions(), place.transactions()
    await old.take_over([here])
    await old.commit(here, PartitionCommit(Position(1, 1), [row("first")]))
    await new.take_over([here])
    with pytest.raises(TransactionFailed) as failed:
        await old.commit(here, PartitionCommit(Position(2, 2), [row("stale")]))
    assert failed.value.fenced
    await new.commit(here, PartitionCommit(Position(2, 2), [row("second")]))
    await old.stop()
    await new.stop()
    assert await place.assets() == ["first", "second"]


async def test_an_open_transaction_of_a_dead_owner_is_ended_by_its_successor(
    place: Place, producers: list[AIOKafkaProducer]
) -> None:
    here = InputPartition(place.topic, 0)
    dead, heir = place.transactions(), place.transactions()
    await dead.take_over([here])
    (producer,) = producers
    await producer.begin_transaction()
    await producer.send_and_wait(f"{place.prefix}.scores", b"half", key=b"half")
    await heir.take_over([here])
    await heir.commit(here, PartitionCommit(Position(1, 1), [row("whole")]))
    assert await place.assets() == ["whole"]
    await heir.stop()
    await dead.stop()


async def test_a_message_too_large_for_its_topic_is_refused_before_anything_is_written(place: Place) -> None:
    here = InputPartition(place.topic, 0)
    transactions = place.transactions()
    await transactions.take_over([here])
    with pytest.raises(BrokerError, match=r"too large for topic '.*scores', which takes 1048588"):
        await transactions.commit(here, PartitionCommit(Position(1, 1), [row("a"), row("b" * 1_100_000)]))
    # The limit of a topic that was looked up may be lowered: the broker refuses, and it is looked up again.
    await transactions.commit(here, PartitionCommit(Position(1, 1), [letter(b"k", b"x" * 5000)]))
    await place.configure("dead-letter", **{"max.message.bytes": "2000", "cleanup.policy": "compact"})
    work = PartitionCommit(Position(2, 2), [letter(b"cut", b"x" * 5000)])
    with pytest.raises(TransactionFailed) as failed:
        await transactions.commit(here, work)
    assert failed.value.refused
    await transactions.take_over([here])
    await transactions.commit(here, work)
    await transactions.stop()
    sizes = {r.key: len(r.value) for r in await read_topic(place.bootstrap, f"{place.prefix}.dead-letter")}
    assert sizes == {b"k": 5000, b"cut": 1000}


async def test_a_source_begins_again_where_a_transaction_failed(place: Place) -> None:
    here = InputPartition(place.topic, 0)
    await produce(place.bootstrap, place.topic, [(b"k", b"%d" % i) for i in range(6)], partition=0)
    source = place.source()
    seen: list[int] = []
    story: list[str] = []
    async with asyncio.timeout(60):
        async for event in source.events():
            if event.partition != here:
                continue
            match event:
                case Assigned():
                    story.append(f"assigned at {event.publish_from}")
                case Revoked():
                    story.append("revoked")
                case PolledRecords(items=items) if items:
                    seen += [record.offset for record in items]
                    first = "revoked" not in story
                    outputs: list[Output] = [row("a", seen[-1]), *([letter(None)] if first else [])]
                    await source.commit({here: PartitionCommit(Position(6, 6), outputs)})
                    if not first:
                        source.close()
    await source.stop()
    assert story == ["assigned at 0", "revoked", "assigned at 0"]
    assert seen == [*range(6), *range(6)]
    assert await place.assets() == ["a"]
    assert source.stats.rewinds == 1


async def test_a_message_refused_twice_ends_the_run_with_one_clear_line(place: Place) -> None:
    await produce(place.bootstrap, place.topic, [(b"k", b"x")], partition=0)
    source = place.source()

    async def work() -> None:
        async for event in source.events():
            if isinstance(event, PolledRecords) and event.items:
                await source.commit({event.partition: PartitionCommit(Position(1, 1), [letter(None)])})

    with pytest.raises(BrokerError, match="refused outputs: "):
        await asyncio.wait_for(work(), 60)
    await source.stop()


async def test_a_message_refused_twice_ends_the_run_although_another_partition_succeeds(place: Place) -> None:
    here, other = (InputPartition(place.topic, n) for n in (0, 1))
    await produce(place.bootstrap, place.topic, [(b"k", b"x")], partition=other.number)
    source = place.source()

    async def work() -> None:
        async for event in source.events():
            if isinstance(event, PolledRecords) and event.items:
                await source.commit(
                    {other: PartitionCommit(Position(0, 0), [row("fine")])}
                )  # to be read again
                await source.commit({here: PartitionCommit(Position(0, 0), [letter(None)])})

    with pytest.raises(BrokerError, match="refused outputs: "):
        await asyncio.wait_for(work(), 30)
    assert source.stats.rewinds == 1
    await source.stop()
