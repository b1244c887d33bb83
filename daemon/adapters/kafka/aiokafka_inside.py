"""The only place that reaches into aiokafka: its private names, each with the reason.

aiokafka offers no public way to any of these. All were checked with aiokafka 0.14.0; pyproject.toml pins
``<0.15``. Whoever raises that pin reads this file against the new release and runs
``pytest -m kafka tests/adapters/kafka``, whose tests fail where a name has another meaning.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


def brokers_of(client: Any) -> list[Any]:
    """The brokers in the metadata of a started client (consumer, producer or admin client).

    Reason: aiokafka reports no failure where a token was refused or a broker advertises another machine; both
    are seen only in this metadata. Consumers and admin clients keep their connection in ``_client``, producers
    in ``client``.
    """
    return list((getattr(client, "_client", None) or client.client).cluster.brokers())


# ------------------------------------------------------------------ consumers
def fetch_task(consumer: AIOKafkaConsumer) -> asyncio.Task[None]:
    """The task that fetches records.

    Reason: when it dies (a bug, a cancellation), ``getmany`` returns nothing for ever and raises nothing.
    """
    task: asyncio.Task[None] = consumer._fetcher.error_future
    return task


async def close_connections(consumer: AIOKafkaConsumer) -> None:
    """Close the connections of a consumer.

    Reason: where the fetch task has died, ``stop`` raises before it closes them.
    """
    await consumer._client.close()


def check_group(consumer: AIOKafkaConsumer) -> None:
    """Raise what keeps the consumer from joining its group.

    Reason: only ``getmany`` raises it, and ``getmany`` is not called during a rebalance, because it blocks.

    Raises:
        KafkaError: the group cannot be joined, or the coordinator's task has died.
    """
    consumer._coordinator.check_errors()


def newest_answer(consumer: AIOKafkaConsumer) -> float | None:
    """When a broker last answered on an open connection, as ``time.monotonic()``; None without connections.

    Reason: no public call tells an idle topic from a broker that does not answer. aiokafka keeps a connection
    only once it has been answered on it, and notes the time of each answer.
    """
    return max((known._last_action for known in consumer._client._conns.values()), default=None)


def request_metadata(consumer: AIOKafkaConsumer) -> None:
    """Send a metadata request, without a wait for its answer.

    Reason: during a long rebalance nothing else is requested, so nothing else can be answered.
    """
    consumer._client.force_metadata_update()


def return_parsed_records(consumer: AIOKafkaConsumer) -> None:
    """Let ``getmany`` return the parser's records instead of ``ConsumerRecord`` objects.

    Reason: a ``ConsumerRecord`` has eleven fields and costs about as much as the rest of aiokafka's work for a
    record. Only four fields are used here, and the parsed record has them under the same names. A release that
    ignores this returns the same records, only slower.
    """
    consumer._fetcher._records = _FetchedRecords()


class _FetchedRecords(OrderedDict[TopicPartition, Any]):
    """The fetch results of a consumer that were not returned yet, set to return records as they were parsed."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        records = getattr(result, "_partition_records", None)  # none where the fetch failed
        if records is not None:
            records._consumer_record = self._as_parsed
        super().__setitem__(tp, result)

    @staticmethod
    def _as_parsed(_: TopicPartition, record: Any) -> Any:
        return record


# ------------------------------------------------------------------ producers
def send_task(producer: AIOKafkaProducer) -> asyncio.Task[None] | None:
    """The task that sends batches; None before the producer was started.

    Reason: ``stop`` waits until all batches are sent, so without a broker it waits for ever.
    """
    task: asyncio.Task[None] | None = producer._sender.sender_task
    return task


def transaction_failure(producer: AIOKafkaProducer) -> BaseException | None:
    """Why the open transaction of a producer has failed; None where it has not.

    Reason: a call that follows the failure raises ``IllegalOperation``, which does not name it.
    """
    ended = producer._txn_manager.wait_for_transaction_end()
    if ended.done() and not ended.cancelled():
        failure: BaseException | None = ended.exception()
        return failure
    return None
