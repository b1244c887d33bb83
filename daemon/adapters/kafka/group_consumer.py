"""The consumer of the group: connecting, polling, and when the broker last answered.

**Polling.** ``getmany`` blocks for as long as a rebalance takes, and cancelling it leaves aiokafka's idle counter
wrong. So a fetch is a task that outlives a poll: one is in flight at a time, and ``poll`` returns after about a
second whether it has ended or not. ``fetch_has_ended`` tells when nothing is in flight, which is needed before
a seek: a fetch from before would return records of after it.

**Positions.** ``auto_offset_reset`` is "none": where a partition begins is decided by ``takeover``.

**Silence.** Any answer counts, a heartbeat's or that of a fetch without records, so an idle topic is no silence.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from daemon.adapters.kafka.aiokafka_inside import (
    RecordColumns,
    check_group,
    newest_answer,
    request_metadata,
    return_columns,
)
from daemon.adapters.kafka.connecting import check_fetching, close_consumer, start_client
from daemon.adapters.kafka.failures import describe, group_failure
from daemon.adapters.kafka.security import connection
from daemon.adapters.kafka.settings import MAX_RECORDS, WAIT_MS, KafkaSettings
from daemon.adapters.kafka.stats import KafkaStats
from daemon.adapters.kafka.topics import check_topics
from daemon.adapters.kafka.wakeup import Wakeup

log = structlog.get_logger()

POLL_S = 1.0
"""How long a poll waits at most for the fetch in flight."""
ASK_AFTER_S = 5.0
"""Silence after which metadata is requested."""
FETCHED_BYTES = 32 << 20
"""Fetched records that wait, of all partitions together, as long as that is no less than the least of each."""
LEAST_FETCH_BYTES, MOST_FETCH_BYTES = 1 << 20, 4 << 20
"""Of one partition per fetch: a poll is no more than one fetch, and costs nearly the same for many records as for few."""
SESSION_MS, HEARTBEAT_MS, REBALANCE_MS = 45_000, 3_000, 60_000
SESSION_S = SESSION_MS / 1e3
"""So long a static member that is gone stays in its group."""


def fetch_bytes(partitions: int) -> int:
    """How much to fetch of a partition at once, where there are so many."""
    return min(max(FETCHED_BYTES // max(partitions, 1), LEAST_FETCH_BYTES), MOST_FETCH_BYTES)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Hands rebalances on; aiokafka calls it inside the coordinator's task, where an exception vanishes."""

    def __init__(
        self,
        on_revoked: Callable[[], Awaitable[None]],
        on_assigned: Callable[[Iterable[TopicPartition]], None],
    ) -> None:
        self._on_revoked = on_revoked
        self._on_assigned = on_assigned

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._on_revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._on_assigned(assigned)


class GroupConsumer:
    """A consumer that joins the group of the settings.

    Args:
        settings, topics: what to consume, and as whom.
        stats: records that are dropped are counted here.
        wakeup: ends a poll at a rebalance or a close.

    Attributes:
        client: the connected consumer; None before ``connect`` and after ``release``.
        partitions_at_start: of each topic, how many partitions it had when this consumer connected.

    Raises:
        ConfigError: the settings cannot be used.
    """

    def __init__(
        self, settings: KafkaSettings, topics: Sequence[str], stats: KafkaStats, wakeup: Wakeup
    ) -> None:
        self.client: AIOKafkaConsumer | None = None
        self.partitions_at_start: dict[str, int] = {}
        self._settings = settings
        self._topics = tuple(topics)
        self._arguments = connection(settings)
        self._stats = stats
        self._wakeup = wakeup
        self._wait_ms = max(
            10, min(WAIT_MS, int(min(POLL_S, settings.commit_interval.total_seconds()) * 500))
        )
        self._fetch: asyncio.Task[dict[TopicPartition, RecordColumns]] | None = None
        self._answered_at = self._asked_at = time.monotonic()

    @property
    def connected_client(self) -> AIOKafkaConsumer:
        """The client, where it is known to be connected."""
        assert self.client is not None
        return self.client

    # -------------------------------------------------------------- connecting
    async def connect(
        self,
        on_revoked: Callable[[], Awaitable[None]],
        on_assigned: Callable[[Iterable[TopicPartition]], None],
    ) -> None:
        """Connect and join the group; the callbacks run in the coordinator's task.

        Raises:
            InputError: an input topic does not exist.
            ConfigError, BrokerError: Kafka refuses the connection for good.
            UnreachableError: another attempt may succeed.
        """
        self.partitions_at_start = await check_topics(self._settings, self._topics)
        self._answered_at = time.monotonic()
        client = await start_client(
            lambda: AIOKafkaConsumer(
                **self._arguments,
                group_id=self._settings.group_id,
                group_instance_id=self._settings.instance_id,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                partition_assignment_strategy=(RoundRobinPartitionAssignor,),
                session_timeout_ms=SESSION_MS,
                heartbeat_interval_ms=HEARTBEAT_MS,
                rebalance_timeout_ms=REBALANCE_MS,
                max_poll_records=MAX_RECORDS,
                max_partition_fetch_bytes=fetch_bytes(sum(self.partitions_at_start.values())),
            ),
            self._settings,
        )
        self.client = client
        return_columns(client)
        # Subscribed only now: a consumer that starts with a subscription waits for its first assignment.
        client.subscribe(self._topics, listener=_Listener(on_revoked, on_assigned))

    def release(self) -> AIOKafkaConsumer | None:
        """Give the client away: nothing more is polled or committed, and no assignment is accepted."""
        client, self.client = self.client, None
        return client

    async def close(self, client: AIOKafkaConsumer, within_s: float) -> None:
        """Close a released client, and the fetch that is in flight."""
        if self._fetch is not None:
            self._fetch.cancel()
            await asyncio.wait({self._fetch})
        await close_consumer(client, within_s)

    # -------------------------------------------------------------- whether the broker answers
    def last_answer(self) -> float:
        """When a broker last answered, as ``time.monotonic()``."""
        if self.client is not None:
            # A connection that breaks is replaced by one without answers, so the newest is remembered here.
            newest = newest_answer(self.client)
            self._answered_at = self._answered_at if newest is None else max(self._answered_at, newest)
        return self._answered_at

    def ask_when_silent(self) -> None:
        """Request metadata where nothing else is requested: a rebalance may wait a minute for another member."""
        now = time.monotonic()
        if self.client is not None and now - max(self.last_answer(), self._asked_at) >= ASK_AFTER_S:
            self._asked_at = now
            request_metadata(self.client)

    # -------------------------------------------------------------- polling
    async def poll(self, *, joining: bool) -> Mapping[TopicPartition, RecordColumns]:
        """The records that came, at most MAX_RECORDS; nothing after about half a second without any.

        Args:
            joining: a rebalance is under way, or assigned partitions are not taken over yet; then nothing is
                fetched.

        Raises:
            OffsetOutOfRangeError: a position is no longer in the log.
            ConfigError: the group gives this process a topic that it does not read.
            BrokerError: Kafka refuses the fetch, or the client has died.
        """
        client = self.connected_client
        try:
            if self._fetch is None:
                if joining:
                    # getmany would raise that the group cannot be joined, or that its task has died.
                    check_group(client)
                    await self._wakeup.sleep(POLL_S / 2)
                    return {}
                # Without a time limit this only empties the buffer: it never waits, so no task is needed.
                ready = await client.getmany(timeout_ms=0)
                if ready:
                    return ready  # type: ignore[no-any-return]
                self._fetch = asyncio.create_task(client.getmany(timeout_ms=self._wait_ms))
            if not await self._wakeup.ended(self._fetch, POLL_S):
                return {}
            fetch, self._fetch = self._fetch, None  # also if it ended with an error
            fetched = fetch.result()
            if not fetched:
                # A client that no longer fetches reports nothing; its partitions would stay with this process.
                check_fetching(client, ", ".join(self._topics))
            return fetched
        except NoOffsetForPartitionError:
            return {}  # raised before our seek; the seek clears it
        except OffsetOutOfRangeError:
            raise
        except ConsumerStoppedError:
            return {}
        except KafkaError as error:
            if getattr(error, "retriable", False):
                log.warning("poll_failed", reason=describe(error))
                await self._wakeup.sleep(POLL_S)
                return {}
            raise group_failure(error, self._settings) from error

    async def fetch_has_ended(self) -> bool:
        """Wait up to a second for the fetch in flight and drop what it brought; whether none is in flight now."""
        if self._fetch is None:
            return True
        done, _ = await asyncio.wait({self._fetch}, timeout=POLL_S)
        if not done:
            return False
        fetch, self._fetch = self._fetch, None
        if not fetch.cancelled() and fetch.exception() is None:
            self._stats.dropped_records += sum(map(len, fetch.result().values()))
        return True
