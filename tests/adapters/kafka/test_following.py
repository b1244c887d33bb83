"""A compacted topic and what is appended to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.errors import RequestTimedOutError

from daemon.adapters import kafka
from daemon.adapters.kafka.aiokafka_inside import fetch_task
from daemon.adapters.kafka.failures import UnreachableError
from daemon.adapters.kafka.following import ENTRY_BYTES, LatestEntries
from daemon.adapters.kafka.values import Entry
from tests.adapters.kafka.setups import eventually, followed, open_sockets


@pytest.mark.kafka
async def test_a_follower_returns_the_newest_of_each_key_and_survives_its_client(
    kafka_bootstrap: str, consumers: list[AIOKafkaConsumer]
) -> None:
    async with followed(kafka_bootstrap, [(b"k%d" % (i % 3), b"%d" % i) for i in range(3_001)]) as follower:
        expected = [Entry(b"k1", b"2998"), Entry(b"k2", b"2999"), Entry(b"k0", b"3000")]
        assert await follower.catch_up() == expected
        assert await follower.poll() == []
        task = fetch_task(consumers[0])
        task.cancel()
        await asyncio.wait({task})
        with pytest.raises(UnreachableError, match="stopped asking"):
            await follower.poll()
        assert await follower.poll() == expected  # and not, piece by piece, all that ever was


@pytest.mark.kafka
async def test_an_interrupted_read_starts_again_at_the_first_record(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been read before the failure was not returned, so it is read again."""
    reads = 0

    class Breaking(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
        async def getmany(self, *partitions: TopicPartition, **limits: int) -> Any:
            nonlocal reads
            reads += 1
            if reads == 2:
                raise RequestTimedOutError
            return await super().getmany(*partitions, **limits)

    monkeypatch.setattr(kafka.following, "AIOKafkaConsumer", Breaking)
    async with followed(kafka_bootstrap, [(b"%d" % i, b"x" * 900_000) for i in range(5)]) as follower:
        with pytest.raises(UnreachableError, match="request timed out"):
            await follower.catch_up()
        assert [entry.key for entry in await follower.catch_up()] == [b"%d" % i for i in range(5)]


def test_the_entries_of_a_compacted_topic_are_bounded() -> None:
    def entry(i: int, size: int = 100) -> Entry:
        return Entry(b"k%d" % i, bytes(size))

    latest = LatestEntries(most_bytes=10 * (100 + ENTRY_BYTES + 2) + 5)
    latest.add([entry(i) for i in range(10)])
    latest.add([entry(0)])  # written last now
    assert (len(latest.entries), latest.dropped) == (10, 0)
    latest.add([entry(3, 50), entry(3), Entry(b"k4", None)])
    assert (len(latest.entries), latest.dropped) == (10, 0)
    latest.add([entry(4), entry(10)])
    assert latest.dropped == 1
    assert latest.entries[0].key == b"k2"
    assert latest.entries[-1].key == b"k10"
    latest.add([entry(i) for i in range(1_000)])
    assert len(latest.entries) <= 10


@pytest.mark.kafka
async def test_a_dead_client_leaves_no_task_and_no_connection(
    kafka_bootstrap: str, consumers: list[AIOKafkaConsumer], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(kafka_bootstrap, []) as follower:
        tasks, sockets = asyncio.all_tasks(), open_sockets()
        await follower.catch_up()
        # Calling this is a bug in the fetch task, as one of aiokafka's own would be.
        monkeypatch.setattr(Fetcher, "_get_actions_per_node", None)
        await asyncio.wait({fetch_task(consumers[0])})
        with pytest.raises(UnreachableError, match="not callable"):
            await follower.poll()
        async with asyncio.timeout(10):
            await eventually(lambda: not asyncio.all_tasks() - tasks)
            await eventually(lambda: not open_sockets() - sockets)
