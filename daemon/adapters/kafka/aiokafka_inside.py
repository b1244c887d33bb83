"""The only place that reaches into aiokafka: its private names, each with the reason.

aiokafka offers no public way to any of these. All were checked with aiokafka 0.14.0; pyproject.toml pins
``<0.15``. Whoever raises that pin reads this file against the new release and runs
``pytest -m kafka tests/adapters/kafka``, whose tests fail where a name has another meaning.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

Headers = Sequence[tuple[str, bytes | None]]
AT_ONCE = 500
"""Records that are parsed before their columns are taken, at most: few enough to stay in the cache."""


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


@dataclass(slots=True)
class RecordColumns:
    """Records of one partition as columns, as they were parsed."""

    offsets: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    headers: list[Headers] = field(default_factory=list)  # empty where no record has any
    timestamp_type: int = 0  # of the first of them

    def __len__(self) -> int:
        return len(self.offsets)

    def extend(self, records: Sequence[Any]) -> None:
        """Append some of aiokafka's records, one at least."""
        if not self.offsets:
            self.timestamp_type = records[0].timestamp_type
        headers: list[Headers] = [record.headers for record in records]
        if any(headers) or self.headers:
            self.headers = self.headers or [()] * len(self)
            self.headers += headers
        self.offsets += [record.offset for record in records]
        self.keys += [record.key for record in records]
        self.values += [record.value or b"" for record in records]
        self.timestamps_ms += [record.timestamp for record in records]


def return_columns(consumer: AIOKafkaConsumer) -> None:
    """Let ``getmany`` return ``RecordColumns`` instead of lists of ``ConsumerRecord`` objects.

    Reason: a ``ConsumerRecord`` has eleven fields of which five are used here, and aiokafka passes each record through
    two generators and four calls. With columns a record costs 0.5 us here, it was 0.8. Which batches are read, and
    which transactions were aborted, is still decided by aiokafka. ``max_records`` must be ``AT_ONCE`` or more.
    """
    consumer._fetcher._records = FetchedColumns()


class FetchedColumns(OrderedDict[TopicPartition, Any]):
    """The fetch results of a consumer that were not returned yet, set to return columns."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        records = getattr(result, "_partition_records", None)  # none where the fetch failed
        if records is not None:
            records._records = _Batches(records._records, records.next_fetch_offset)
            records._consumer_record = _as_parsed
            # A cycle of references would keep the bytes of the fetch until Python's collector comes.
            result.getall = partial(_columns_of, weakref.proxy(result))
        super().__setitem__(tp, result)


def _as_parsed(_: TopicPartition, records: _Records) -> _Records:
    return records


def _columns_of(result: Any, max_records: int | None = None) -> RecordColumns:
    """``FetchResult.getall`` of records that come many at once."""
    found = RecordColumns()
    if not result.check_assignment(result._topic_partition) or not result.has_more():
        return found
    while max_records is None or len(found) + AT_ONCE <= max_records:
        records = next(result._partition_records, None)
        if records is None:
            result._update_position()
            result._partition_records = None
            return found
        found.extend(records)
    result._update_position()
    return found


class _Records(list[Any]):
    """Some records of a batch, which stand for a single one in aiokafka's loop."""

    @property
    def offset(self) -> int:
        """That of the last one: aiokafka continues behind it."""
        last: int = self[-1].offset
        return last


class _Batch:
    """A record batch whose iterator returns many records at once, from an offset on."""

    def __init__(self, batch: Any, first: int) -> None:
        self._batch, self._first = batch, first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # of a control batch, which has one record

    def __iter__(self) -> Iterator[_Records]:
        records = chain(self._batch)  # the batch itself cannot be iterated in several goes
        while some := _Records(islice(records, AT_ONCE)):
            if some[0].offset < self._first:  # the fetch began within the batch
                some = _Records(record for record in some if record.offset >= self._first)
            if some:
                yield some


class _Batches:
    """The record batches of a fetch from an offset on."""

    def __init__(self, batches: Any, first: int) -> None:
        self._batches, self._first = batches, first

    def has_next(self) -> bool:
        more: bool = self._batches.has_next()
        return more

    def next_batch(self) -> _Batch:
        return _Batch(self._batches.next_batch(), self._first)


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
