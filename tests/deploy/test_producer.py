"""The compose file's simulated fleet, against a real Apache Kafka that comes up after it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from tests.broker import Broker, create_topic

PRODUCER = Path(__file__).parents[2] / "deploy/compose/producer.py"
TOPIC = "sensors.pumps"


@pytest.fixture
def waiting_producer(own_broker: Broker) -> Iterator[Broker]:
    """The script beside a broker that is not up; the script has already said that it waits."""
    command = [sys.executable, str(PRODUCER), "--topic", TOPIC, "--assets", "3"]
    command += ["--bootstrap-servers", own_broker.bootstrap]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            # Past what the client library says of its refused connection.
            assert any("broker_awaited" in line for line in process.stderr)
            yield own_broker
        finally:
            process.kill()


@pytest.mark.kafka
async def test_it_waits_for_the_broker_and_then_sends_a_row_per_pump_and_second(
    waiting_producer: Broker,
) -> None:
    broker = waiting_producer
    await asyncio.to_thread(broker.start)
    await create_topic(broker.bootstrap, TOPIC, partitions=2)
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    rows = []
    try:
        async with asyncio.timeout(60):
            while len(rows) < 12:
                record = await consumer.getone()
                message = json.loads(record.value)
                assert record.key.decode() == message["asset"]
                rows.append((message["asset"], message["ts"]))
    finally:
        await consumer.stop()
    assert len(set(rows)) == len(rows)
    assert {asset for asset, _ in rows} == {"pump-01", "pump-02", "pump-03"}
    assert all(ts.endswith(".000Z") for _, ts in rows)
