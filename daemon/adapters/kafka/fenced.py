"""Writing under a name that one process at a time has: whoever takes it next fences the one before.

A process that was frozen, or cut off, may believe for a while that a task is still its own. With a transactional
producer the broker knows better: starting one under the same name ends what the former one had begun, and refuses
whatever it tries to write from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalOperation, KafkaError

from daemon.adapters.kafka.aiokafka_inside import transaction_failure
from daemon.adapters.kafka.connecting import discard, start_client
from daemon.adapters.kafka.failures import REFUSED, describe
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.adapters.kafka.transactions import (
    ABORT_WITHIN_S,
    COMMIT_WITHIN_S,
    FENCED,
    TRANSACTION_MS,
    TransactionFailed,
    retrieve_exception,
    root_of,
)
from daemon.adapters.kafka.values import Message


class FencedWriter:
    """Writes some messages, all of them or none, as long as nobody else has taken its name.

    Args:
        settings: the connection.
        name: the transactional id.
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._settings = settings
        self._arguments = connection(settings)
        self._name = name
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Take the name.

        Raises:
            UnreachableError, BrokerError: it cannot be taken (now).
        """
        await self.stop()
        self._producer = await start_client(
            lambda: AIOKafkaProducer(
                **self._arguments,
                transactional_id=self._name,
                transaction_timeout_ms=TRANSACTION_MS,
                acks="all",
            ),
            self._settings,
        )

    async def write(self, messages: Sequence[Message]) -> None:
        """Write all of them, and return when they are durable.

        Raises:
            TransactionFailed: none was written, or the outcome is unknown; ``fenced`` if another has the name now.
        """
        producer = self._producer
        if producer is None:
            raise TransactionFailed("its producer was given up")
        try:
            async with asyncio.timeout(COMMIT_WITHIN_S):
                await self._transact(producer, messages)
        except TimeoutError as error:
            await self.stop()
            raise TransactionFailed(f"no answer within {COMMIT_WITHIN_S:.0f} s") from error
        except (KafkaError, IllegalOperation, AssertionError) as error:
            why = root_of(error, producer)
            transaction_failure(producer)  # retrieved, or asyncio logs it
            fenced = isinstance(why, (*FENCED, AssertionError))
            if not fenced:
                with contextlib.suppress(KafkaError, AssertionError, TimeoutError):
                    async with asyncio.timeout(ABORT_WITHIN_S):
                        await producer.abort_transaction()
            await self.stop()
            raise TransactionFailed(
                describe(why, "WRITE"), fenced=fenced, refused=isinstance(why, REFUSED)
            ) from error

    @staticmethod
    async def _transact(producer: AIOKafkaProducer, messages: Sequence[Message]) -> None:
        await producer.begin_transaction()
        sent = []
        for message in messages:
            batch = producer.create_batch()
            batch.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers))
            future = await producer.send_batch(batch, message.topic, partition=message.partition)
            future.add_done_callback(retrieve_exception)
            sent.append(future)
        if sent:
            await asyncio.wait(sent)
        for future in sent:
            if future.exception() is not None:
                raise future.exception()
        await producer.commit_transaction()

    async def stop(self) -> None:
        """Close the connection. Safe to call twice."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await discard(producer)
