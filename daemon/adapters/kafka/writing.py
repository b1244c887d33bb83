"""Writing messages durably, at least once; with the default delivery, outputs go through ``transactions`` instead.

The producer is idempotent with acks=all, and every single future is checked before ``write`` returns. A producer
whose batch failed is never used again: its sequence numbers have a hole, and every later batch would fail. The
failed messages are sent again by a new producer.
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
from aiokafka.errors import (
    KafkaError,
)

from daemon.adapters.kafka.connecting import Backoff, discard, start_client
from daemon.adapters.kafka.failures import REFUSED, UnreachableError, describe
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import LOG_EVERY_S, STOP_S, KafkaSettings
from daemon.adapters.kafka.topics import DEFAULT_LIMIT, topic_shapes
from daemon.adapters.kafka.values import Message
from daemon.domain import DeadLetter, Output
from daemon.errors import BrokerError
from daemon.stream.encoding import DEAD_LETTER_BYTES, Encoded, encode_dead_letter

log = structlog.get_logger(__name__)

CHECK_S = 1.0
"""How often a wait for the broker checks whether it was closed."""
AT_ONCE = 500
"""Messages that are made without a pause, some 20 ms: heartbeats and probes share this thread."""
BATCH_BYTES = 262_144
"""Of the messages for one partition."""
LARGEST_REQUEST = 64 * 1024 * 1024
"""Large enough that aiokafka refuses nothing: sizes are checked here, topic by topic."""


class Writer:
    """Writes messages durably: idempotent, acks=all, every future checked.

    ``write`` returns when every message is on the broker, in the order given per partition.
    While the broker is away it waits and tries again, until ``close``. Several tasks may write: each waits for
    the other, because a failure ends the one producer that all of them use.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._arguments = connection(settings)
        self._producer: AIOKafkaProducer | None = None
        self._limits: dict[str, int] = {}
        self._closing = asyncio.Event()
        self._writing = asyncio.Lock()

    async def write(self, messages: Sequence[Message]) -> None:
        """Return when all are durable.

        Raises:
            BrokerError: a missing topic, a message that its topic does not take, a refusal, or
                ``close`` while the broker was away. Some messages may have been written.
        """
        async with self._writing:
            await self._write(messages)

    async def _write(self, messages: Sequence[Message]) -> None:
        for i, message in enumerate(messages, 1):
            await self._check(message)
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
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
                    raise BrokerError(
                        f"topic {message.topic!r} refused a message: {describe(why, 'WRITE')}"
                    ) from why
                await self._wait(backoff, why)
        backoff.over()

    def close(self) -> None:
        """End a ``write`` that waits for the broker. Safe to call twice."""
        self._closing.set()

    async def stop(self) -> None:
        """Close the connection. Safe to call twice; a later ``write`` opens a new one."""
        await self._discard(STOP_S)

    async def _attempt(self, messages: Sequence[Message]) -> list[tuple[Message, BaseException]]:
        """Send all once and check every future; the messages that failed, in order, each with its error."""
        producer = await self._running()
        sent: list[asyncio.Future[Any]] = []
        stuck: BaseException | None = None
        for i, message in enumerate(messages, 1):
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
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
                # Later messages may be for the same partition: to keep the order, they are sent again after it.
                stuck = error
                break
        await self._wait_for(sent)
        outcomes = [future.exception() for future in sent]
        failed = [(m, error) for m, error in zip(messages, outcomes, strict=False) if error is not None]
        if stuck is not None:
            failed += [(message, stuck) for message in messages[len(sent) :]]
        return failed

    async def _wait_for(self, sent: Sequence[asyncio.Future[Any]]) -> None:
        """Wait for every future; the producer itself retries while the broker is away."""
        pending = set(sent)
        logged_at = time.monotonic()
        while pending:
            _, pending = await asyncio.wait(pending, timeout=CHECK_S)
            if pending and self._closing.is_set():
                await self._discard()
                raise BrokerError(
                    f"stopped while Kafka at {self._settings.bootstrap_servers} did not take "
                    f"{len(pending)} message(s)"
                )
            if pending and time.monotonic() - logged_at >= 10.0:
                logged_at = time.monotonic() + LOG_EVERY_S
                log.warning("broker_unreachable", reason=f"{len(pending)} message(s) wait to be written")

    async def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            # A batch counts as a message against max.message.bytes: the smallest topic sets its size.
            size = min([BATCH_BYTES, *self._limits.values()])
            self._producer = await start_client(
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
        """Close the producer for good: after a failed batch all that follow would fail, too."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        await discard(producer, within_s)

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
    async def limit(self, topic: str) -> int:
        """The largest message that the topic accepts, bytes."""
        backoff = Backoff()
        while topic not in self._limits:
            try:
                await self._fetch_limit(topic)
            except UnreachableError as error:
                await self._wait(backoff, error)
        return self._limits[topic]

    async def _check(self, message: Message) -> None:
        size, limit = stored_size(message), await self.limit(message.topic)
        if size > limit:
            raise BrokerError(
                f"a message of {size} bytes is too large for topic {message.topic!r}, "
                f"which takes {limit} (max.message.bytes)"
            )

    async def _fetch_limit(self, topic: str) -> None:
        """Look up the limit of the topic; a missing topic is reported at once, not after the client's 40 s."""
        limit = self._limits[topic] = (await topic_shapes(self._settings, [topic]))[topic].limit
        if self._producer is not None and limit < BATCH_BYTES:
            await self.stop()


def stored_size(message: Message) -> int:
    """An upper bound of the bytes of a batch with only this message (record format v2)."""
    size = 61 + 21 + 10 + len(message.key or b"") + len(message.value or b"")
    return size + sum(10 + len(name.encode()) + len(value or b"") for name, value in message.headers)


def fitted(topic: str, encoded: Encoded, output: Output, limit: int) -> Message:
    """The message for an output; a dead letter is cut to the limit of its topic.

    Its content was written by others, so its size must not stop the stream.
    """
    message = Message(topic, encoded.key, encoded.value, encoded.headers)
    if not isinstance(output, DeadLetter) or stored_size(message) <= limit:
        return message
    for most in (limit // 2, limit // 4, 0):
        cut = encode_dead_letter(output, min(most, DEAD_LETTER_BYTES))
        message = Message(topic, cut.key, cut.value, cut.headers)
        if stored_size(message) <= limit:
            break
    return message


class KafkaSink:
    """Outputs to the topics ``<prefix>.<suffix>``, at least once.

    ``encode`` makes the message of an output: ``encoding.encode`` with its clock bound.
    """

    def __init__(self, settings: KafkaSettings, prefix: str, encode: Callable[[Output], Encoded]) -> None:
        self._writer = Writer(settings)
        self._prefix = prefix
        self._encode = encode

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``; waits while the broker is away."""
        if not outputs:
            return
        messages = []
        for i, output in enumerate(outputs, 1):
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
            encoded = self._encode(output)
            topic = f"{self._prefix}.{encoded.topic}"
            limit = await self._writer.limit(topic) if isinstance(output, DeadLetter) else DEFAULT_LIMIT
            messages.append(fitted(topic, encoded, output, limit))
        await self._writer.write(messages)

    def close(self) -> None:
        """End a ``publish`` that waits for a broker (SIGTERM)."""
        self._writer.close()

    async def stop(self) -> None:
        """Close the connection."""
        await self._writer.stop()
