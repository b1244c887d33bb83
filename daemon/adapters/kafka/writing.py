"""Writing messages durably, at least once.

Idempotent, acks=all, and every single future is checked before ``write`` returns. A producer
whose batch failed is never used again: its sequence numbers have a hole, and every later batch
would fail. What failed is sent again by a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from aiokafka import (
    AIOKafkaProducer,
)
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
)

from daemon.adapters.kafka.connecting import (
    REFUSED,
    SAY_EVERY_S,
    STOP_S,
    Backoff,
    KafkaSettings,
    Message,
    UnreachableError,
    connection,
    plain,
    quietly,
    started,
)
from daemon.adapters.kafka.topics import administering, missing_topics, partitions_of
from daemon.domain import Output
from daemon.errors import BrokerError
from daemon.stream.codec import Encoded

log = structlog.get_logger(__name__)

BEAT_S = 1.0
DEFAULT_LIMIT = 1_048_588  # Kafka's default of max.message.bytes
BATCH_BYTES = 262_144
LARGEST_REQUEST = 64 * 1024 * 1024  # sizes are checked here, topic by topic, not by aiokafka


class Writer:
    """Writes messages durably: idempotent, acks=all, every future checked.

    ``write`` returns when every message is on the broker, in the order given per partition.
    While the broker is away it waits and tries again, until ``close``.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._arguments = connection(settings)
        self._producer: AIOKafkaProducer | None = None
        self._limits: dict[str, int] = {}
        self._closing = asyncio.Event()

    async def write(self, messages: Sequence[Message]) -> None:
        """Return when all are durable.

        Raises:
            BrokerError: a missing topic, a message that its topic does not take, a refusal, or
                ``close`` while the broker was away. Some messages may have been written.
        """
        for message in messages:
            await self._check(message)
        backoff = Backoff()
        remaining = list(messages)
        while remaining:
            try:
                failed = await self._attempt(remaining)
            except UnreachableError as error:
                await self._wait(backoff, error)
                continue
            remaining = [message for message, _ in failed]
            if failed:
                message, why = failed[0]
                await self._discard()
                if isinstance(why, REFUSED):
                    raise BrokerError(f"topic {message.topic!r} refused a message: {plain(why)}") from why
                await self._wait(backoff, why)
        backoff.over()

    def close(self) -> None:
        """End a ``write`` that waits for a broker. Safe to call twice."""
        self._closing.set()

    async def stop(self) -> None:
        """Close the connection. Safe to call twice; a later ``write`` opens a new one."""
        await self._discard(STOP_S)

    async def _attempt(self, messages: Sequence[Message]) -> list[tuple[Message, BaseException]]:
        """Send all once and check every future; what failed, in order, with its error."""
        producer = await self._running()
        sent: list[asyncio.Future[Any]] = []
        stuck: BaseException | None = None
        for message in messages:
            try:
                sent.append(
                    await producer.send(
                        message.topic,
                        message.value,
                        key=message.key,
                        partition=message.partition,
                        headers=list(message.headers),
                    )
                )
            except KafkaError as error:
                # Those behind it may go to the same partition: keep the order, send them again after it.
                stuck = error
                break
        await self._settled(sent)
        outcomes = [future.exception() for future in sent]
        failed = [(m, error) for m, error in zip(messages, outcomes, strict=False) if error is not None]
        if stuck is not None:
            failed += [(message, stuck) for message in messages[len(sent) :]]
        return failed

    async def _settled(self, sent: Sequence[asyncio.Future[Any]]) -> None:
        """Wait for every future; the producer itself tries again while the broker is away."""
        pending = set(sent)
        said = time.monotonic()
        while pending:
            _, pending = await asyncio.wait(pending, timeout=BEAT_S)
            if pending and self._closing.is_set():
                await self._discard()
                raise BrokerError(
                    f"stopped while Kafka at {self._settings.bootstrap_servers} did not take "
                    f"{len(pending)} message(s)"
                )
            if pending and time.monotonic() - said >= 10.0:
                said = time.monotonic() + SAY_EVERY_S
                log.warning("broker_unreachable", reason=f"{len(pending)} message(s) wait to be written")

    async def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            # A batch counts as a message against max.message.bytes: the smallest topic sets its size.
            size = min([BATCH_BYTES, *self._limits.values()])
            self._producer = await started(
                lambda: AIOKafkaProducer(
                    **self._arguments,
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=size,
                    max_request_size=LARGEST_REQUEST,
                ),
                self._settings,
            )
        return self._producer

    async def _discard(self, within_s: float = 1.0) -> None:
        """Never use a producer again after a failed batch: all that follow would fail too."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await quietly(producer.stop())
        # ``stop`` waits for what is unsent, so without a broker for ever: end its task by hand.
        sender = producer._sender.sender_task
        if sender is not None and not sender.done():
            sender.cancel()
            await quietly(producer.client.close())
            await asyncio.wait({sender}, timeout=STOP_S)

    async def _wait(self, backoff: Backoff, error: BaseException) -> None:
        seconds = backoff.after(error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        if self._closing.is_set():
            raise BrokerError(
                f"stopped while Kafka at {self._settings.bootstrap_servers} could not be written: {error}"
            ) from error

    # -------------------------------------------------------------- sizes
    async def _check(self, message: Message) -> None:
        backoff = Backoff()
        while message.topic not in self._limits:
            try:
                await self._learn(message.topic)
            except UnreachableError as error:
                await self._wait(backoff, error)
        size, limit = stored_size(message), self._limits[message.topic]
        if size > limit:
            raise BrokerError(
                f"a message of {size} bytes is too large for topic {message.topic!r}, "
                f"which takes {limit} (max.message.bytes)"
            )

    async def _learn(self, topic: str) -> None:
        """What the topic takes; a missing one is said now, not after the client's 40 s."""
        async with administering(self._settings) as admin:
            if topic not in await partitions_of(admin):
                raise BrokerError(missing_topics(self._settings, [topic]))
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": None})
            limit = DEFAULT_LIMIT
            for answer in await admin.describe_configs([resource]):
                for code, _, _, _, entries in answer.resources:
                    if code == 0:  # else: no right to see it; Kafka's default it is
                        limit = min([int(entry[1]) for entry in entries] or [limit])
        self._limits[topic] = limit
        if self._producer is not None and limit < BATCH_BYTES:
            await self.stop()


def stored_size(message: Message) -> int:
    """Bytes of a batch that holds only this message, from above (record format v2)."""
    size = 61 + 21 + 10 + len(message.key or b"") + len(message.value or b"")
    return size + sum(10 + len(name.encode()) + len(value or b"") for name, value in message.headers)


class KafkaSink:
    """Outputs to the topics ``<prefix>.<suffix>``, at least once.

    ``encode`` says what each output is as a message; ``codec.encode`` without its clock.
    """

    def __init__(self, settings: KafkaSettings, prefix: str, encode: Callable[[Output], Encoded]) -> None:
        self._writer = Writer(settings)
        self._prefix = prefix
        self._encode = encode

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``; waits while the broker is away."""
        if outputs:
            await self._writer.write([self._message(self._encode(output)) for output in outputs])

    def close(self) -> None:
        """End a ``publish`` that waits for a broker (SIGTERM)."""
        self._writer.close()

    async def stop(self) -> None:
        """Close the connection."""
        await self._writer.stop()

    def _message(self, encoded: Encoded) -> Message:
        return Message(f"{self._prefix}.{encoded.topic}", encoded.key, encoded.value, encoded.headers)
