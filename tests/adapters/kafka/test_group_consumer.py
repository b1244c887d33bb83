"""The consumer of the group, and whether the broker answers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import PartitionRecords

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, KafkaSource
from daemon.adapters.kafka.aiokafka_inside import fetch_task
from daemon.adapters.kafka.group_consumer import fetch_bytes
from daemon.domain import Assigned, PolledRecords, SourceEvent
from daemon.errors import BrokerError, ConfigError
from tests.adapters.kafka.setups import (
    Filled,
    Made,
    eventually,
    fresh,
    numbers,
    pulled_until_assigned,
    records,
    until,
)
from tests.broker import Broker, create_topic


@pytest.mark.kafka
async def test_a_client_that_no_longer_fetches_ends_the_run(
    filled: Filled, made: Made, consumers: list[AIOKafkaConsumer]
) -> None:
    topic = await filled("deaf", numbers(3))

    def fetching_ends(event: SourceEvent) -> bool:
        if isinstance(event, PolledRecords) and event.items:
            fetch_task(consumers[0]).cancel()
        return False

    with pytest.raises(BrokerError, match=f"the client stopped asking for {topic}"):
        await until(made(topic), fetching_ends)


@pytest.mark.kafka
async def test_no_consumer_records_are_made(
    filled: Filled, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another aiokafka may ignore ``return_columns``."""
    topic = await filled("in", numbers(50))
    made_anyway: list[Any] = []
    monkeypatch.setattr(PartitionRecords, "_consumer_record", lambda *args: made_anyway.append(args))
    _, found = await records(made(topic), 50)
    assert [(r.key, r.value) for r in found] == numbers(50)
    assert not made_anyway


@pytest.mark.kafka
async def test_two_configurations_of_one_group_and_instance_are_told_apart(
    filled: Filled, kafka_bootstrap: str
) -> None:
    """A member that comes back under its instance id has the assignment of before, here of another topic."""
    topics = [await filled("one", numbers(3)), await filled("other", numbers(3))]
    settings = KafkaSettings(kafka_bootstrap, group_id=fresh("group"), instance_id="this-machine")
    first, second = (KafkaSource(settings, (topic,)) for topic in topics)
    events = await pulled_until_assigned(first)
    try:
        with pytest.raises(
            ConfigError, match=r"kafka\.group_id .* give each configuration a group_id of its own"
        ):
            await until(second, lambda event: isinstance(event, Assigned))
    finally:
        await events.aclose()  # type: ignore[attr-defined]


@pytest.mark.kafka
@pytest.mark.slow
async def test_silence_tells_a_frozen_broker_from_an_idle_topic(own_broker: Broker) -> None:
    """One source has the partition, the other none; both hear of an outage, and of its end."""
    own_broker.start()
    topic = fresh("quiet")
    await create_topic(own_broker.bootstrap, topic, 1)
    settings = KafkaSettings(own_broker.bootstrap, group_id=fresh("group"))
    sources = [KafkaSource(settings, (topic,)) for _ in range(2)]
    longest = 0.0
    beats = 0

    async def pull(source: KafkaSource) -> None:
        nonlocal beats, longest
        async for event in source.events():
            if isinstance(event, PolledRecords):
                beats += 1
                longest = max(longest, source.silence_s)

    try:
        async with asyncio.timeout(180), asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(pull(source))
            await eventually(lambda: all(source.stats.rebalances for source in sources))
            start = beats
            await eventually(lambda: beats > start + 15)
            usual = longest  # the two have waited for each other, too
            assert usual < 2 * kafka.group_consumer.ASK_AFTER_S

            async def silent() -> None:
                await eventually(lambda: all(source.silence_s > usual + 3 for source in sources))

            async def answered() -> None:
                await eventually(lambda: all(source.silence_s <= usual + 1 for source in sources))

            own_broker.freeze()
            await silent()
            own_broker.thaw()
            await answered()
            own_broker.kill()
            await silent()
            await asyncio.to_thread(own_broker.start)
            await answered()
            for source in sources:
                source.close()
    finally:
        for source in sources:
            await source.stop()


@pytest.mark.kafka
async def test_a_rebalance_that_waits_for_another_member_is_no_silence(
    filled: Filled, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its JoinGroup is answered only when the other has joined; only metadata is, meanwhile."""
    monkeypatch.setattr(kafka.group_consumer, "ASK_AFTER_S", 0.2)
    topic = await filled("waiting")
    busy, waiting = made(topic), made(topic)
    async with asyncio.timeout(60):
        events = await pulled_until_assigned(busy)  # and no further: the group waits for it
        answered: list[float] = []
        async for _ in waiting.events():
            last_answer = time.monotonic() - waiting.silence_s
            if busy.rebalancing and (not answered or last_answer - answered[-1] > 0.1):
                answered.append(last_answer)
            if len(answered) >= 4:
                break
        assert waiting.stats.rebalances == 0
        # Nor does whoever waits for the group keep its process from ending: the group may wait for a dead member.
        monkeypatch.setattr(kafka.source, "STOP_S", 3600.0)
        await waiting.stop()
        await busy.stop()
        await events.aclose()


@pytest.mark.parametrize(("partitions", "mebibytes"), [(0, 4), (1, 4), (8, 4), (16, 2), (32, 1), (1_000, 1)])
def test_few_partitions_are_fetched_in_large_pieces(partitions: int, mebibytes: int) -> None:
    assert fetch_bytes(partitions) == mebibytes << 20
