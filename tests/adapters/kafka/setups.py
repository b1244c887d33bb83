"""What the Kafka tests share: fresh names, records, and waiting for events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient

from daemon.adapters.kafka import KafkaSettings, KafkaSource
from daemon.adapters.kafka.following import Follower
from daemon.domain import (
    Assigned,
    DeadLetter,
    InputPartition,
    PolledRecords,
    Reason,
    Record,
    Rejected,
    SourceEvent,
)
from daemon.stream import encoding
from tests.broker import create_topic, produce

ENCODE = partial(encoding.encode, now=datetime(2026, 1, 1, tzinfo=UTC))
Made = Callable[..., KafkaSource]
"""Makes a source of one fresh group for these topics."""
Filled = Callable[..., Awaitable[str]]
"""Creates a fresh topic with records, and returns its name."""


def fresh(what: str) -> str:
    return f"{what}-{uuid4().hex[:8]}"


async def until(source: KafkaSource, enough: Callable[[SourceEvent], bool]) -> list[SourceEvent]:
    """The events up to the first for which ``enough`` holds."""
    seen = []
    async with asyncio.timeout(60):
        async for event in source.events():
            seen.append(event)
            if enough(event):
                return seen
    raise AssertionError("the source ended")


async def pulled_until_assigned(source: KafkaSource) -> AsyncIterator[SourceEvent]:
    """The events of a source after its first ``Assigned``: the group waits for whoever does not pull on."""
    events = source.events()
    while not isinstance(await anext(events), Assigned):
        pass
    return events


async def records(source: KafkaSource, count: int) -> tuple[list[Assigned], list[Record]]:
    """What was assigned until so many records had come, and these."""
    assigned: list[Assigned] = []
    found: list[Record] = []

    def enough(event: SourceEvent) -> bool:
        if isinstance(event, Assigned):
            assigned.append(event)
        if isinstance(event, PolledRecords):
            found.extend(event.items)
        return len(found) >= count

    await until(source, enough)
    return assigned, found


@asynccontextmanager
async def followed(bootstrap: str, records: list[tuple[bytes, bytes]]) -> AsyncIterator[Follower]:
    """A follower of a fresh topic that holds these records."""
    topic = fresh("followed")
    await create_topic(bootstrap, topic, 1)
    await produce(bootstrap, topic, records)
    follower = Follower(KafkaSettings(bootstrap), topic)
    try:
        yield follower
    finally:
        await follower.stop()


def open_sockets() -> set[str]:
    """The sockets that this process has open now."""
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(handle.readlink()))
    return {name for name in found if name.startswith("socket:")}


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when it holds; the caller bounds the wait."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in the broker
        await asyncio.sleep(0.01)


def numbers(count: int) -> list[tuple[bytes, bytes]]:
    return [(b"k%d" % (i % 37), b"%d" % i) for i in range(count)]


@asynccontextmanager
async def administering(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


def letter(value: bytes, key: bytes | None = b"pump-1") -> DeadLetter:
    record = Record(3, key, value, 1_700_000_000_000_000_000)
    return DeadLetter("pumps", InputPartition("in", 0), Rejected(record, Reason.NOT_JSON, "no"))
