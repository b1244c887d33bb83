"""The only place that reaches into aiokafka: its private names, each with the reason.

aiokafka offers no public way to any of these. All were checked with aiokafka 0.14.0; pyproject.toml pins
``<0.15``. Whoever raises that pin reads this file against the new release and runs
``pytest -m kafka tests/adapters/kafka``, whose tests fail where a name has another meaning.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
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
    """Let ``getmany`` return the parser's records instead of ``ConsumerRecord`` objects, and take them batch by batch.

    Reason: a ``ConsumerRecord`` has eleven fields, and each passes through a generator, an iterator and a loop;
    together that costs several times what parsing does. Only five fields are used here, and the parsed record has
    them under the same names. What is aborted, a marker or before the position is left out by aiokafka itself.
    """
    consumer._fetcher._records = _FetchedRecords()


class _FetchedRecords(OrderedDict[TopicPartition, Any]):
    """The fetch results of a consumer that were not returned yet, set to return records as they were parsed."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        if getattr(result, "_partition_records", None) is not None:  # the fetch has not failed
            result.getall = _WholeBatches(result).getall
        super().__setitem__(tp, result)


class _WholeBatches:
    """Stands for ``FetchResult.getall``: the same records, where the iterator goes from batch to batch."""

    def __init__(self, result: Any) -> None:
        self._result = result
        self._left: list[Any] = []  # of the last batch
        records = result._partition_records
        records._records = _Batches(records, records._records)
        records._consumer_record = self._as_parsed

    @staticmethod
    def _as_parsed(_: TopicPartition, batch: _Batch) -> list[Any]:
        return batch.records

    def getall(self, max_records: int | None = None) -> list[Any]:
        """At most ``max_records`` of the records that are left; the position is after the last of them."""
        result = self._result
        if not result.check_assignment(result._topic_partition) or not result.has_more():
            return []
        records, found = result._partition_records, self._left
        while max_records is None or len(found) < max_records:
            batch = next(records, None)
            if batch is None:
                result._update_position()
                result._partition_records = None
                return found
            found.extend(batch)
        found, self._left = found[:max_records], found[max_records:]
        records.next_fetch_offset = found[-1].offset + 1
        result._update_position()
        return found


class _Batches:
    """The batches of a fetch, each with all of its records as one."""

    def __init__(self, partition: Any, batches: Any) -> None:
        self.has_next = batches.has_next
        self._partition, self._batches = partition, batches

    def next_batch(self) -> _Batch:
        return _Batch(self._partition, self._batches.next_batch())


class _Batch:
    """A batch whose only record has all of its records.

    Attributes:
        records: from the partition's position on.
        offset: of the last one.
    """

    def __init__(self, partition: Any, batch: Any) -> None:
        self.records: list[Any] = []
        self.offset = -1
        self._partition, self._batch = partition, batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # the marker of a control batch

    def __iter__(self) -> Iterator[_Batch]:
        records, first = list(self._batch), self._partition.next_fetch_offset
        if records and records[0].offset < first:  # a batch is compressed, and fetched, as a whole
            records = [record for record in records if record.offset >= first]
        if records:
            self.records, self.offset = records, records[-1].offset
            yield self


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
