"""The source against a real Apache Kafka."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from daemon.adapters.kafka import NO_PARTITION, KafkaSettings, KafkaSink, KafkaSource
from daemon.domain import Assigned, InputPartition, PartitionCommit, PolledRecords, Position
from daemon.errors import ConfigError, InputError
from tests.adapters.kafka.setups import ENCODE, Filled, Made, eventually, letter, numbers, records, until
from tests.broker import Broker, create_topic, produce, read_topic


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "GSSAPI is not supported"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"},
            "sends the password in the clear",
        ),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "needs kafka.username"),
        ({"security_protocol": "SSL", "ca_file": "/no/ca.pem"}, "ca_file /no/ca.pem cannot be read: No such"),
        ({"security_protocol": "SSL", "cert_file": "/no/c.pem"}, "come together"),
        ({"start": "middle"}, "'middle' must be earliest or latest"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(given_settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KafkaSource(KafkaSettings(**given_settings), ["t"])


async def test_a_source_without_a_broker_emits_empty_events_until_it_is_closed() -> None:
    source = KafkaSource(KafkaSettings("127.0.0.1:1"), ["t"])
    async with asyncio.timeout(30):
        async for event in source.events():
            assert event.partition == NO_PARTITION
            source.close()
    assert source.stats.unreachable == 1


@pytest.mark.kafka
async def test_a_missing_input_topic_is_named(made: Made) -> None:
    with pytest.raises(InputError, match=r"topic 'sensors\.nowhere' does not exist on Kafka at"):
        await until(made("sensors.nowhere"), lambda event: False)


@pytest.mark.kafka
async def test_records_arrive_in_order_and_unchanged(
    kafka_bootstrap: str, filled: Filled, made: Made
) -> None:
    topic = await filled("poison")
    values = [b"{}", b"\xff\xfe\x00", b"", b"{" * 10_000, bytes(range(256)), b"x" * 900_000, b"last"]
    await produce(kafka_bootstrap, topic, [(b"\xffkey", value) for value in values] + [(b"tomb", None)])
    assigned, found = await records(made(topic), len(values) + 1)
    assert assigned == [Assigned(InputPartition(topic, 0), 0, 0)]
    assert [record.value for record in found] == [*values, b""]
    assert {record.key for record in found} == {b"\xffkey", b"tomb"}
    assert [record.offset for record in found] == list(range(len(values) + 1))
    assert all(abs(record.timestamp_ns - time.time_ns()) < 600e9 for record in found)


@pytest.mark.kafka
async def test_an_idle_partition_reports_idle_time_and_its_end(filled: Filled, made: Made) -> None:
    topic = await filled("idle", numbers(4))
    source = made(topic)
    seen = await until(source, lambda event: isinstance(event, PolledRecords) and event.idle > timedelta(0))
    assert isinstance(seen[-1], PolledRecords)
    assert seen[-1].items == ()
    assert seen[-1].end_offset == 4
    assert source.stats.lag == {InputPartition(topic, 0): 0}
    assert not any(isinstance(event, PolledRecords) and event.items and event.idle for event in seen)


@pytest.mark.kafka
async def test_a_commit_of_a_foreign_partition_is_counted_as_stale(filled: Filled, made: Made) -> None:
    topic = await filled("stale")
    source = made(topic)
    await until(source, lambda event: isinstance(event, Assigned))
    await source.commit({InputPartition(topic, 5): PartitionCommit(Position(1, 1))})
    assert source.stats.stale_commits == 1


@pytest.mark.kafka
@pytest.mark.slow
async def test_outages_of_the_broker_lose_and_repeat_nothing(own_broker: Broker) -> None:
    """Down at the start, killed while running, frozen while writing."""
    await asyncio.to_thread(own_broker.start)
    settings = KafkaSettings(own_broker.bootstrap, commit_interval=timedelta(milliseconds=50))
    topic, out = "in", "o.dead-letter"
    await create_topic(own_broker.bootstrap, topic)
    await create_topic(own_broker.bootstrap, out)
    await produce(own_broker.bootstrap, topic, numbers(10))
    own_broker.kill()

    source, sink = KafkaSource(settings, [topic]), KafkaSink(settings, "o", ENCODE)
    seen: list[int] = []
    beats = 0

    async def work() -> None:
        nonlocal beats
        async for event in source.events():
            beats += isinstance(event, PolledRecords) and not event.items
            if isinstance(event, PolledRecords) and event.items:
                await sink.publish([letter(record.value, record.key) for record in event.items])
                seen.extend(record.offset for record in event.items)
                after = seen[-1] + 1
                await source.commit({event.partition: PartitionCommit(Position(after, after))})

    async def reached(count: int) -> None:
        await eventually(lambda: len(set(seen)) >= count)

    async def beaten() -> None:
        before = beats
        await eventually(lambda: beats >= before + 2)

    async with asyncio.timeout(150):
        working = asyncio.create_task(work())
        await beaten()
        await asyncio.to_thread(own_broker.start)
        await reached(10)
        own_broker.kill()
        await beaten()
        await asyncio.to_thread(own_broker.start)
        await produce(own_broker.bootstrap, topic, numbers(10))
        await reached(20)
        own_broker.freeze()
        await beaten()
        own_broker.thaw()
        await produce(own_broker.bootstrap, topic, numbers(10))
        await reached(30)
        source.close()
        await working
        await source.stop()
        await sink.stop()
        written = [int(record.value) for record in await read_topic(own_broker.bootstrap, out)]
        again = KafkaSource(settings, [topic])
        resumed = await until(again, lambda event: isinstance(event, Assigned))
        await again.stop()
    assert written == [*range(10)] * 3
    assert seen == list(range(30))
    assert resumed[-1] == Assigned(InputPartition(topic, 0), 30, 30)
