"""Topics as they are now, without a group."""

from __future__ import annotations

import asyncio

import pytest

from daemon.adapters.kafka import KafkaSettings, newest_records, read_now
from daemon.domain import Record
from daemon.errors import BrokerError, InputError
from tests.adapters.kafka.setups import Filled, fresh, numbers
from tests.broker import create_topic, produce


@pytest.mark.kafka
async def test_present_records_are_read_without_a_group(kafka_bootstrap: str) -> None:
    topic, empty = fresh("now"), fresh("empty")
    await create_topic(kafka_bootstrap, topic, 3)
    await create_topic(kafka_bootstrap, empty)
    for partition, count in ((0, 2500), (2, 10)):
        await produce(kafka_bootstrap, topic, numbers(count), partition=partition)
    settings = KafkaSettings(kafka_bootstrap, group_id=fresh("unused"))
    found: dict[int, list[Record]] = {}
    shares = []
    async for piece in read_now(settings, [topic, empty]):
        found.setdefault(piece.partition.number, []).extend(piece.records)
        shares.append(piece.share)
        if len(shares) == 1:  # what comes now is not part of it
            await produce(kafka_bootstrap, topic, [(None, b"later")], partition=2)
    assert {n: [r.value for r in records] for n, records in found.items()} == {
        0: [value for _, value in numbers(2500)],
        2: [value for _, value in numbers(10)],
    }
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    few: dict[int, list[int]] = {}
    async for piece in read_now(settings, [topic], newest=4):
        few.setdefault(piece.partition.number, []).extend(r.offset for r in piece.records)
    assert few == {0: [2496, 2497, 2498, 2499], 2: [7, 8, 9, 10]}


@pytest.mark.kafka
async def test_the_newest_records_of_a_topic(kafka_bootstrap: str, filled: Filled) -> None:
    topic = await filled("newest", partitions=2)
    settings = KafkaSettings(kafka_bootstrap)
    assert await newest_records(settings, topic, 5) == ([], True)
    await produce(kafka_bootstrap, topic, [(None, b"old%d" % i) for i in range(4)], partition=0)
    await asyncio.sleep(0.01)  # the timestamps' resolution
    await produce(kafka_bootstrap, topic, [(None, b"new%d" % i) for i in range(3)], partition=1)
    found, whole = await newest_records(settings, topic, 5)
    assert ([r.value for r in found], whole) == ([b"old2", b"old3", b"new0", b"new1", b"new2"], False)
    assert (await newest_records(settings, topic, 8))[1]


@pytest.mark.kafka
async def test_a_missing_topic_and_a_missing_broker_are_one_line_each(kafka_bootstrap: str) -> None:
    with pytest.raises(InputError, match="topic 'absent-topic' does not exist"):
        await newest_records(KafkaSettings(kafka_bootstrap), "absent-topic", 5)
    with pytest.raises(BrokerError, match="cannot be reached"):
        await newest_records(KafkaSettings("127.0.0.1:1"), "any", 5)
