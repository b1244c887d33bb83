"""Starting and closing clients."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import CoordinationType
from aiokafka.errors import KafkaError

from daemon.adapters.kafka import KafkaSettings
from daemon.adapters.kafka.connecting import quietly, start_client
from daemon.adapters.kafka.failures import UnreachableError


async def test_a_broker_whose_metadata_is_empty_is_waited_for() -> None:
    """Met once in six freezes: a producer that looks for its coordinator then, and aiokafka asserts."""
    client = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="t")
    client.start = partial(client.client.coordinator_lookup, CoordinationType.TRANSACTION, "t")
    with pytest.raises(UnreachableError, match="names no brokers yet"):
        await start_client(lambda: client, KafkaSettings("127.0.0.1:1"))


async def test_a_client_that_cancels_its_closing_task_does_not_cancel_the_caller() -> None:
    """aiokafka's consumer does so where its broker goes at the same time."""
    done = []

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def refused() -> None:
        raise KafkaError

    async def broken() -> None:
        raise ZeroDivisionError

    for closing in (cancelled, refused):
        await quietly(closing())
        done.append(closing)
    assert done == [cancelled, refused]
    with pytest.raises(ZeroDivisionError):
        await quietly(broken())
