"""Exactly once: the outputs of a partition become readable together with its offset, or not at all.

**One producer per input partition**, with a transactional id of its own. Starting it fences the former producer
of that partition and ends the transaction that it may have left open. So it is started *before* the committed
offset is read, and what is read then can no longer change. (Fencing by consumer group, which needs only one
producer, is not available: aiokafka sends an old TxnOffsetCommit without a generation.)

**One transaction per commit**, opened only when all of its content is there: outputs, state, and the offset. So
none is ever left open and empty, and none waits for a timer.

``commit_transaction`` succeeds even if a batch in it has failed, and every later batch of that producer fails
too. So each batch's future is checked before the offset is sent, and after any failure the producer is closed:
a new producer starts, and the input is read again from the last commit on. Whether the broker accepted a commit
whose answer did not arrive is then seen from the committed offset.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import (
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    KafkaError,
    ProducerFenced,
    TopicAuthorizationFailedError,
)
from aiokafka.partitioner import murmur2

from daemon.adapters.kafka.aiokafka_inside import transaction_failure
from daemon.adapters.kafka.commit_metadata import written_position
from daemon.adapters.kafka.connecting import discard, start_client
from daemon.adapters.kafka.failures import REFUSED, UnreachableError, describe
from daemon.adapters.kafka.following import MOST_BYTES, Follower, LatestEntries
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.adapters.kafka.topics import topic_shapes
from daemon.adapters.kafka.values import Message, TopicShape
from daemon.adapters.kafka.writing import AT_ONCE, BATCH_BYTES, LARGEST_REQUEST, fitted, stored_size
from daemon.domain import (
    InputPartition,
    Output,
    PartitionCommit,
    Position,
    StateRecord,
)
from daemon.errors import BrokerError
from daemon.stream.encoding import Encoded
from daemon.stream.snapshot import topic_of

log = structlog.get_logger(__name__)

TRANSACTION_MS = 30_000
"""The outage that a transaction survives; below the session timeout, after which another member has the partition."""
COMMIT_WITHIN_S = 40.0
"""How long a commit may take; without a broker aiokafka would wait for ever."""
ABORT_WITHIN_S = 2.0
FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping)


class TransactionFailed(BrokerError):  # noqa: N818 - reads better where it is raised
    """Nothing of a transaction was written, or its outcome is unknown: begin again at the last commit.

    ``fenced``: another producer has the same transactional id, or the transaction took too long.
    ``refused``: the broker would refuse the same messages again.
    """

    def __init__(self, message: str, *, fenced: bool = False, refused: bool = False) -> None:
        super().__init__(message)
        self.fenced = fenced
        self.refused = refused


class StateTopic:
    """The compacted topic ``<prefix>.state``; the state of an input partition is in the partition of the same number."""

    def __init__(self, settings: KafkaSettings, prefix: str) -> None:
        self.name = f"{prefix}.state"
        self._settings = settings

    def message(self, partition: InputPartition, saved: StateRecord) -> Message:
        """The message for one record of state."""
        return Message(self.name, saved.key, saved.value, (), partition.number)

    async def read(
        self, partitions: Iterable[InputPartition]
    ) -> dict[InputPartition, tuple[StateRecord, ...]]:
        """The saved state of these partitions.

        At most ``MOST_BYTES`` are held, whatever was written to the topic: see ``following.LatestEntries``.

        Raises:
            UnreachableError, BrokerError: it cannot be read (now).
        """
        wanted = sorted(partitions)
        if not wanted:
            return {}
        follower = Follower(self._settings, self.name, sorted({p.number for p in wanted}))
        latest = LatestEntries()
        try:
            await follower.read(latest.add, to_the_end=True)
        finally:
            await follower.stop()
        if latest.dropped:
            log.warning(
                "state_unusable",
                topic=self.name,
                records=latest.dropped,
                reason=f"{self.name} holds more than {MOST_BYTES} bytes: what was written longest ago is left out",
            )
        kept: dict[tuple[bytes, int], list[StateRecord]] = {}
        for i, entry in enumerate(latest.entries, 1):
            if entry.value is not None:
                there = topic_of(entry.key), entry.partition
                kept.setdefault(there, []).append(StateRecord(entry.key, entry.value))
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
        return {p: tuple(kept.get((p.topic.encode(), p.number), ())) for p in wanted}


@lru_cache(maxsize=200_000)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition to which Kafka's default partitioner sends this key."""
    number: int = murmur2(key)
    return (number & 0x7FFFFFFF) % partitions


def retrieve_exception(future: asyncio.Future[Any]) -> None:
    """Keep asyncio from logging an exception that nobody retrieves because an earlier batch failed."""
    if not future.cancelled():
        future.exception()


class _OffsetRefusedError(TopicAuthorizationFailedError):  # type: ignore[misc]  # aiokafka has no types
    """The offset could not be written; that needs READ on the input topic."""


def root_of(error: BaseException, producer: AIOKafkaProducer) -> BaseException:
    """The reason of a failed transaction, where aiokafka raised another error."""
    # IllegalOperation: the transaction had failed before this call.
    if isinstance(error, IllegalOperation) and (failure := transaction_failure(producer)) is not None:
        return failure
    cause = error.__cause__  # the error that ended the send task is wrapped into a bare KafkaError
    return cause if type(error) is KafkaError and isinstance(cause, KafkaError) else error


class Transactions:
    """The transactional producers of the input partitions that are ours.

    Args:
        settings: the connection; the transactional ids begin with the name of the group.
        prefix: of the output topics.
        encode: makes the message of an output: ``stream.encoding.encode`` with its clock bound.
        state: the topic of the state.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        prefix: str,
        encode: Callable[[Output], Encoded],
        state: StateTopic,
    ) -> None:
        self._settings = settings
        self._arguments = connection(settings)
        self._prefix = prefix
        self._encode = encode
        self._state = state
        self._producers: dict[InputPartition, AIOKafkaProducer] = {}
        self._shapes: dict[str, TopicShape] = {}

    # -------------------------------------------------------------- producers
    async def take_over(self, partitions: Sequence[InputPartition]) -> None:
        """Start a producer for each partition, which fences the former one, and close all others.

        Raises:
            UnreachableError, BrokerError: it cannot be done (now).
        """
        await self.stop()
        outcomes = await asyncio.gather(*map(self._start, partitions), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self.stop()
                raise outcome

    async def _start(self, partition: InputPartition) -> None:
        name = f"{self._settings.group_id}-{partition.topic}-{partition.number}"
        self._producers[partition] = await start_client(
            lambda: AIOKafkaProducer(
                **self._arguments,
                transactional_id=name,
                transaction_timeout_ms=TRANSACTION_MS,
                acks="all",
                max_batch_size=BATCH_BYTES,
                max_request_size=LARGEST_REQUEST,
            ),
            self._settings,
        )

    async def stop(self) -> None:
        """Close all producers. Safe to call twice."""
        producers, self._producers = self._producers, {}
        await asyncio.gather(*(discard(producer) for producer in producers.values()))

    # -------------------------------------------------------------- one transaction
    async def commit(self, partition: InputPartition, work: PartitionCommit) -> None:
        """Write outputs, state and position, and return when all are durable.

        Raises:
            TransactionFailed: nothing was written, or the outcome is unknown; the producer is closed.
            BrokerError: a topic is missing, or does not take a message of this size.
        """
        producer = self._producers.get(partition)
        if producer is None:
            raise TransactionFailed("its producer was given up")
        try:
            batches = await self._batches(producer, partition, work)
        except UnreachableError as error:
            raise TransactionFailed(str(error)) from error
        try:
            async with asyncio.timeout(COMMIT_WITHIN_S):
                await self._transact(producer, partition, work.position, batches)
        except TimeoutError as error:
            await self._close_producer(partition)
            raise TransactionFailed(f"no answer within {COMMIT_WITHIN_S:.0f} s") from error
        except (KafkaError, IllegalOperation, AssertionError) as error:
            why = root_of(error, producer)
            # AssertionError: aiokafka raises it for any call on a producer that was fenced before.
            fenced = isinstance(why, (*FENCED, AssertionError))
            self._shapes.clear()  # a topic's limit may have been lowered since it was looked up
            await self._close_producer(partition, abort=not fenced)
            right = "READ" if isinstance(why, _OffsetRefusedError) else "WRITE"
            raise TransactionFailed(
                describe(why, right), fenced=fenced, refused=isinstance(why, REFUSED)
            ) from error
        except asyncio.CancelledError:
            await self._close_producer(partition)
            raise

    async def _transact(
        self,
        producer: AIOKafkaProducer,
        partition: InputPartition,
        position: Position,
        batches: Sequence[tuple[str, int, Any]],
    ) -> None:
        await producer.begin_transaction()
        sent = []
        for topic, number, batch in batches:
            future = await producer.send_batch(batch, topic, partition=number)
            future.add_done_callback(retrieve_exception)
            sent.append(future)
        if sent:
            await asyncio.wait(sent)
        failures = [future.exception() for future in sent]
        for failure in failures:
            if failure is not None:
                raise failure
        try:
            await producer.send_offsets_to_transaction(
                {
                    TopicPartition(partition.topic, partition.number): OffsetAndMetadata(
                        position.offset, written_position(position)
                    )
                },
                self._settings.group_id,
            )
        except KafkaError as error:
            if isinstance(root_of(error, producer), TopicAuthorizationFailedError):  # it does not say which
                raise _OffsetRefusedError(partition.topic) from error
            raise
        await producer.commit_transaction()

    async def _close_producer(self, partition: InputPartition, *, abort: bool = False) -> None:
        producer = self._producers.pop(partition, None)
        if producer is None:
            return
        if abort:
            with contextlib.suppress(KafkaError, AssertionError, TimeoutError):
                async with asyncio.timeout(ABORT_WITHIN_S):
                    await producer.abort_transaction()
        await discard(producer)

    # -------------------------------------------------------------- batches
    async def _batches(
        self, producer: AIOKafkaProducer, partition: InputPartition, work: PartitionCommit
    ) -> list[tuple[str, int, Any]]:
        """The messages as (topic, partition, batch), one batch of each partition in turn.

        A batch builder costs a seventh of what ``send`` does, but accepts a first record of any size: sizes are
        checked here.
        """
        queues: dict[tuple[str, int], list[Any]] = {}
        sizes: dict[tuple[str, int], int] = {}
        for i, message in enumerate(await self._messages(partition, work), 1):
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
            shape = self._shapes[message.topic]
            number = message.partition
            if number is None:
                key = message.key
                number = (
                    partition.number % shape.partitions
                    if key is None
                    else partition_of(key, shape.partitions)
                )
            there, size = (message.topic, number), stored_size(message)
            most = min(BATCH_BYTES, shape.limit)
            queue = queues.setdefault(there, [])
            if not queue or sizes[there] + size > most:
                queue.append(producer.create_batch())
                sizes[there] = 0
            sizes[there] += size
            added = queue[-1].append(
                timestamp=None, key=message.key, value=message.value, headers=list(message.headers)
            )
            assert added is not None  # ``stored_size`` is never less than the builder counts
        rounds = max(map(len, queues.values()), default=0)
        return [
            (topic, number, queue[i])
            for i in range(rounds)
            for (topic, number), queue in queues.items()
            if i < len(queue)
        ]

    async def _messages(self, partition: InputPartition, work: PartitionCommit) -> list[Message]:
        messages = []
        for i, saved in enumerate(work.saved, 1):
            messages.append(self._state.message(partition, saved))
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)  # a fleet's state may be a hundred thousand messages
        encoded = []
        for i, output in enumerate(work.outputs, 1):
            encoded.append((self._encode(output), output))
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
        await self._fetch_shapes(
            {message.topic for message in messages} | {f"{self._prefix}.{e.topic}" for e, _ in encoded}
        )
        if messages and partition.number >= self._shapes[self._state.name].partitions:
            raise BrokerError(
                f"topic {self._state.name!r} has {self._shapes[self._state.name].partitions} partitions,"
                f" too few for partition {partition.number} of {partition.topic!r}: add some"
            )
        for each, output in encoded:
            topic = f"{self._prefix}.{each.topic}"
            messages.append(fitted(topic, each, output, self._shapes[topic].limit))
        for i, message in enumerate(messages, 1):
            if i % AT_ONCE == 0:
                await asyncio.sleep(0)
            size, limit = stored_size(message), self._shapes[message.topic].limit
            if size > limit:
                raise BrokerError(
                    f"a message of {size} bytes is too large for topic {message.topic!r}, "
                    f"which takes {limit} (max.message.bytes)"
                )
        return messages

    async def _fetch_shapes(self, topics: set[str]) -> None:
        unknown: Mapping[str, TopicShape] = {}
        if topics - self._shapes.keys():
            unknown = await topic_shapes(self._settings, sorted(topics - self._shapes.keys()))
        self._shapes |= unknown
