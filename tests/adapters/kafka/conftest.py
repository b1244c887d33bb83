"""Sources, sinks and topics of the Kafka tests, and the consumers that were made meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, KafkaSink, KafkaSource
from tests.adapters.kafka.setups import ENCODE, Filled, Made, fresh
from tests.broker import create_topic, produce


@pytest.fixture
async def made(kafka_bootstrap: str) -> AsyncIterator[Made]:
    """Makes sources of one fresh group (unless told otherwise) and stops them."""
    settings = KafkaSettings(kafka_bootstrap, group_id=fresh("group"), commit_interval=timedelta(0))
    sources: list[KafkaSource] = []

    def make(*topics: str, **other: Any) -> KafkaSource:
        sources.append(KafkaSource(replace(settings, **other), topics))
        return sources[-1]

    yield make
    for source in sources:
        await source.stop()


@pytest.fixture
def filled(kafka_bootstrap: str) -> Filled:
    """Creates fresh topics that hold these records."""

    async def fill(
        what: str, records: Sequence[tuple[bytes, bytes | None]] = (), *, partitions: int = 1
    ) -> str:
        topic = fresh(what)
        await create_topic(kafka_bootstrap, topic, partitions)
        if records:
            await produce(kafka_bootstrap, topic, records)
        return topic

    return fill


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> list[AIOKafkaProducer]:
    """Every transactional producer that was made, in order."""
    made: list[AIOKafkaProducer] = []

    class Recorded(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka has no types
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            made.append(self)

    monkeypatch.setattr(kafka.transactions, "AIOKafkaProducer", Recorded)
    return made


@pytest.fixture
async def sink(kafka_bootstrap: str) -> AsyncIterator[tuple[KafkaSink, str]]:
    prefix = fresh("out")
    sink = KafkaSink(KafkaSettings(kafka_bootstrap), prefix, ENCODE)
    yield sink, f"{prefix}.dead-letter"
    await sink.stop()
