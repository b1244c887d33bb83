"""The input topics, read by a consumer group.

**Consuming.** Four facts of aiokafka shape this. Records arrive while the rebalance listener
still runs; a rebalance is eager, so partitions that stay ours go back to the committed offset
too; the listener runs inside the coordinator's task, where an exception vanishes; and
``getmany`` blocks for as long as a rebalance takes. So the listener itself decides nothing. It
pauses what was assigned, raises the *generation*, and leaves the rest to the loop that pulls
``events``: read the committed offsets, seek, resume, and only then say ``Assigned``. A batch
that was fetched in an older generation is dropped, because its partition was rewound.

On a revocation the listener waits until the loop has finished the event in flight, whatever kind
it is (after any of them the loop may publish), and has committed all that it has published since
its last commit: ``events`` asks for that with a ``handover``, and says nothing further of the
partitions that go. So an orderly rebalance repeats nothing; it waits for seconds, never for ever.

aiokafka would make a ``ConsumerRecord`` of eleven fields of every record, about as dear as the rest
of its work. We read four fields, which the parsed record has by the same names, so it is handed on
as it is (``_Buffer``).

**Positions.** ``auto_offset_reset`` is "none": where to begin is decided here, counted and
said. Each commit carries in its metadata the offset from which a successor must replay to
rebuild its windows, so that the input topic is the windows' changelog.

**Producing.** Idempotent, acks=all, and every single send future is checked before ``write``
returns. A producer whose batch failed is never used again: its sequence numbers have a hole,
and every later batch would fail. What failed is sent again by a new one.

**Deadlines.** Nothing in aiokafka bounds a wait on an unreachable broker, so every await here
has a deadline, or is one that SIGTERM ends (``close``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import structlog
from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    OffsetAndMetadata,
    TopicPartition,
)
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from daemon.adapters.kafka.connecting import (
    DEADLINE_S,
    MAX_RECORDS,
    REFUSED,
    STOP_S,
    WAIT_MS,
    Backoff,
    KafkaSettings,
    UnreachableError,
    check_fetching,
    closed,
    connection,
    plain,
    replay_from,
    started,
    written_position,
)
from daemon.adapters.kafka.topics import administering, check_topics
from daemon.adapters.kafka.transactions import StateTopic, TransactionFailed, Transactions
from daemon.adapters.kafka.writing import Writer
from daemon.domain import (
    Assigned,
    InputPartition,
    PartitionCommit,
    PolledRecords,
    Position,
    Records,
    Revoked,
    SourceEvent,
    StateRecord,
)
from daemon.errors import BrokerError, ConfigError

log = structlog.get_logger(__name__)

NO_PARTITION = InputPartition("", -1)
"""What a ``PolledRecords`` speaks of when no partition is ours: a beat, and nothing else."""

BEAT_S = 1.0
COMMIT_S = 5.0
ASK_AFTER_S = 5.0
FINISH_S = 10.0  # how long a revocation waits for the event in flight; far below REBALANCE_MS
JOINING_S = 1.0
"""How long a consumer that has not joined its group yet may take to stop."""
LOG_APPEND_TIME = 1
"""The type of a timestamp that the broker has set when it appended the record."""
SESSION_MS, HEARTBEAT_MS, REBALANCE_MS = 45_000, 3_000, 60_000
IDLE_STEP_MS = 2_000  # an answer later than this after the one before does not prove idleness
CHURN_LIMIT, CHURN_WITHIN_S = 20, 120.0
"""So many rebalances of a static member in such a time: two live ones share an instance id. They come every
three to five seconds then; a fleet that is scaled up has no more of them than new members."""


@dataclass(slots=True)
class KafkaStats:
    """What a source has counted since it was made; read by telemetry."""

    rebalances: int = 0
    commits: int = 0
    stale_commits: int = 0  # of partitions that had gone: their records are read again by whoever has them
    delayed_commits: int = 0  # the broker did not answer in time; tried again
    dropped_records: int = 0  # fetched before the current assignment
    clamped: int = 0  # replay_from had fallen off the log: windows start shorter
    restarted: int = 0  # the position itself was off the log
    unreachable: int = 0
    rewinds: int = 0  # transactions that failed: everything since the last commit was done again
    lag: dict[InputPartition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Found:
    """What Kafka knows of partitions that are to be taken over."""

    committed: Mapping[TopicPartition, OffsetAndMetadata]
    starts: Mapping[TopicPartition, int]
    ends: Mapping[TopicPartition, int]
    saved: Mapping[InputPartition, Sequence[StateRecord]]


@dataclass(slots=True)
class _Live:
    """A partition that the loop was told of and that is still ours."""

    next_offset: int
    idle_ms: int = 0
    polled_ms: int | None = None  # aiokafka's stamp of the answer that idle was last counted at
    beaten: float = 0.0


class _Buffer(OrderedDict[TopicPartition, Any]):
    """What a consumer has fetched and not handed out yet, of which no objects are made but the parser's."""

    def __setitem__(self, tp: TopicPartition, result: Any) -> None:
        records = getattr(result, "_partition_records", None)  # none where the fetch failed
        if records is not None:
            records._consumer_record = self._as_parsed
        super().__setitem__(tp, result)

    @staticmethod
    def _as_parsed(_: TopicPartition, record: Any) -> Any:
        return record


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._source._on_revoked()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self._source._on_assigned(assigned)


class KafkaSource:
    """The input topics, read by a consumer group.

    ``events`` connects when it is first pulled, and keeps trying while the broker is down.
    ``commit`` takes positions at once and writes them every ``commit_interval``, on a
    revocation, and when the source closes; they are of published outputs, so a later write
    only repeats, never loses. Call ``stop`` when the loop is done with it.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Sequence[str],
        state: StateTopic | None = None,
        transactions: Transactions | None = None,
    ) -> None:
        if settings.start not in ("earliest", "latest"):
            raise ConfigError(f"kafka.start {settings.start!r} must be earliest or latest")
        self.stats = KafkaStats()
        self._settings = settings
        self._topics = tuple(topics)
        self._arguments = connection(settings)
        self._state = state
        self._transactions = transactions
        self._state_writer = Writer(settings)
        self._failures = 0  # rewinds since the last transaction that went through
        self._refused: set[InputPartition] = set()  # whose last transaction the broker would refuse again
        self._take_over_at = 0.0
        self._consumer: AIOKafkaConsumer | None = None
        self._closing = asyncio.Event()
        self._generation = 0
        self._rebalancing = True
        self._assigned: tuple[TopicPartition, ...] | None = None  # assigned, and not restored yet
        self._known: dict[str, int] = {}  # partitions per topic when this process started
        self._live: dict[InputPartition, _Live] = {}
        self._told: set[InputPartition] = set()  # Assigned was said, Revoked was not
        self._pending: dict[InputPartition, Position] = {}
        self._due = 0.0
        self._flushing = asyncio.Lock()
        self._breath_s = min(BEAT_S, settings.commit_interval.total_seconds())
        self._wait_ms = max(10, min(WAIT_MS, int(self._breath_s * 500)))
        self._pulled = False  # somebody pulls ``events``, or has and will call ``stop``
        self._handed_over = asyncio.Event()  # the loop has committed what it did before the revocation
        self._changed = asyncio.Event()
        self._answered = self._asked = time.monotonic()
        self._failing_since: float | None = None  # the first transaction or assignment that failed
        self._fetching: asyncio.Task[dict[TopicPartition, list[Any]]] | None = None
        self._finding: tuple[int, asyncio.Task[_Found]] | None = None  # ... and the generation it is for
        self._rebalanced: deque[float] = deque(maxlen=CHURN_LIMIT)

    # -------------------------------------------------------------- for the loop
    async def events(self) -> AsyncIterator[SourceEvent]:
        """See ``ports.Source``.

        Raises:
            InputError: an input topic does not exist.
            ConfigError, BrokerError: Kafka refuses us for good.
        """
        try:
            backoff = Backoff(self._count_unreachable)
            while self._consumer is None and not self._closing.is_set():
                try:
                    await self._connect()
                except UnreachableError as error:
                    wait = backoff.after(error)
                    until = time.monotonic() + wait
                    while not self._closing.is_set() and (left := until - time.monotonic()) > 0:
                        yield PolledRecords(NO_PARTITION, ())
                        await self._nap(min(left, BEAT_S))
            backoff.over()
            self._pulled = True
            beaten = time.monotonic()
            while not self._closing.is_set():
                await asyncio.sleep(0)  # a full buffer never yields by itself, and heartbeats share this loop
                self._check_churn()
                self._ask_when_silent()
                if self._rebalancing and self._live and not self._handed_over.is_set():
                    yield PolledRecords(NO_PARTITION, (), handover=True)
                    self._handed_over.set()
                for partition in sorted(self._told - self._live.keys()):
                    self._told.discard(partition)
                    yield Revoked(partition)
                if self._assigned is not None:
                    for event in await self._take_over():
                        # It may go again while the loop is busy with another.
                        if event.partition in self._live and not self._rebalancing:
                            self._told.add(event.partition)
                            yield event
                await self._flush_if_due()
                generation = self._generation
                for tp, records in (await self._poll()).items():
                    polled = await self._received(tp, records, generation)
                    if polled is not None:
                        yield polled
                now = time.monotonic()
                for partition, live in list(self._live.items()):
                    if now - live.beaten >= BEAT_S and partition in self._live and not self._rebalancing:
                        live.beaten = beaten = now
                        yield await self._beat(partition, live)
                if now - beaten >= (BEAT_S if not self._live else self._breath_s):
                    # What waits for a commit must not wait for the next record too.
                    beaten = now
                    yield PolledRecords(NO_PARTITION, ())
        except BaseException:
            self._no_longer_pulled()  # a revocation need not wait for a loop that has gone
            raise
        # The loop commits once more before it calls ``stop``: a revocation waits for that, too.
        await self._flush()

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> Collection[InputPartition]:
        """See ``ports.Source``; a partition that has gone is counted and left alone.

        Raises:
            BrokerError: Kafka refuses it, and would again.
        """
        mine = {partition: done for partition, done in work.items() if partition in self._live}
        gone = work.keys() - mine.keys()
        self.stats.stale_commits += len(gone)
        if self._transactions is not None:
            return gone | await self._transact(self._transactions, mine)
        if self._state is not None:
            # Before the positions: what a state covers is published, and a successor skips it.
            await self._state_writer.write(
                [self._state.message(p, saved) for p, done in mine.items() for saved in done.saved]
            )
        self._pending |= {p: done.position for p, done in mine.items() if p in self._live}
        if self._closing.is_set():
            await self._flush()
        else:
            await self._flush_if_due()
        return gone

    def close(self) -> None:
        """See ``ports.Source``."""
        self._closing.set()
        self._changed.set()

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self._closing.is_set()

    async def stop(self) -> None:
        """Write what is still to be committed and leave the group. Safe to call twice."""
        self.close()
        self._no_longer_pulled()
        consumer = self._consumer
        if consumer is None:
            return
        with contextlib.suppress(BrokerError):
            await self._flush()
        self._consumer = None
        await self._stop_finding()
        await self._state_writer.stop()
        if self._transactions is not None:
            await self._transactions.stop()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})
        # A consumer that waits to join would wait until the group has counted out its dead members.
        await closed(consumer, JOINING_S if self._rebalancing else STOP_S)
        self._live.clear()

    # -------------------------------------------------------------- connecting
    def _count_unreachable(self) -> None:
        self.stats.unreachable += 1

    async def _connect(self) -> None:
        self._known = await check_topics(self._settings, self._topics)
        self._answered = time.monotonic()
        consumer = await started(
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
            ),
            self._settings,
        )
        self._consumer = consumer
        consumer._fetcher._records = _Buffer()
        # Subscribed only now: a consumer that starts with a subscription waits for its first assignment.
        consumer.subscribe(self._topics, listener=_Listener(self))

    async def _nap(self, seconds: float) -> None:
        """Sleep, but not through a rebalance or a close."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        if not self._closing.is_set():
            self._changed.clear()

    async def _ended(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task has ended after a second; a rebalance or a close ends the wait at once."""
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait({task, changed}, timeout=BEAT_S, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if not self._closing.is_set():
            self._changed.clear()
        return task.done()

    # -------------------------------------------------------------- whether the broker answers
    @property
    def silence_s(self) -> float:
        """Seconds since Kafka last did what this source asked of it; cheap, and right while ``commit`` waits.

        Any answer counts, a heartbeat's or a fetch's that brought nothing, so an idle topic is no
        silence. Where Kafka answers, but transactions fail and the partitions cannot be taken over
        again, it is the time since the first failure.
        """
        now = time.monotonic()
        failing = 0.0 if self._failing_since is None else now - self._failing_since
        return max(now - self._last_answer(), failing)

    def _last_answer(self) -> float:
        if self._consumer is not None:
            # aiokafka keeps a connection only once it has been answered on it, and notes the time of
            # each answer. One that breaks is replaced, so the newest is remembered here.
            connections = self._consumer._client._conns.values()
            self._answered = max([self._answered, *(known._last_action for known in connections)])
        return self._answered

    def _ask_when_silent(self) -> None:
        """Ask for metadata where nothing else is asked: a rebalance may wait a minute for another member."""
        now = time.monotonic()
        if self._consumer is not None and now - max(self._last_answer(), self._asked) >= ASK_AFTER_S:
            self._asked = now
            self._consumer._client.force_metadata_update()

    # -------------------------------------------------------------- rebalancing
    async def _on_revoked(self) -> None:
        """In the coordinator's task: finish the event in flight, commit it, let go."""
        self._generation += 1  # what the loop still holds beyond that event is dropped
        self._handed_over.clear()
        self._rebalancing = True
        self._assigned = None
        self._changed.set()
        if self._finding is not None:
            self._finding[1].cancel()  # it would fence whoever has them next
        try:
            if self._pulled and self._live:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FINISH_S):
                        await self._handed_over.wait()
            await self._flush()
        except BrokerError as error:  # aiokafka would swallow it; the next commit meets it again
            log.warning("commit_failed", reason=str(error))
        finally:
            self._let_go()

    def _on_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """In the coordinator's task, without an await: records flow until ``pause``."""
        partitions = tuple(sorted(assigned))
        consumer = self._consumer
        if consumer is None:  # stopped meanwhile
            return
        consumer.pause(*partitions)
        self._generation += 1
        self._let_go()
        self._assigned = partitions
        self._rebalancing = False
        self.stats.rebalances += 1
        self._rebalanced.append(time.monotonic())
        self._changed.set()

    def _no_longer_pulled(self) -> None:
        self._pulled = False
        self._handed_over.set()

    def _let_go(self) -> None:
        self.stats.stale_commits += len(self._pending)
        self._pending.clear()
        self._live.clear()
        self.stats.lag.clear()

    def _check_churn(self) -> None:
        full = len(self._rebalanced) == CHURN_LIMIT
        if self._settings.instance_id and full and time.monotonic() - self._rebalanced[0] < CHURN_WITHIN_S:
            # Kafka fences neither of two such members: both would hold all partitions, for ever.
            raise BrokerError(
                f"the group {self._settings.group_id!r} rebalances without end: another live process has "
                f"kafka.instance_id {self._settings.instance_id!r}; give each its own, or none"
            )

    async def _take_over(self) -> list[Assigned]:
        """Decide where each newly assigned partition begins, seek there, and let records flow.

        Returns nothing when the broker did not answer or the assignment changed meanwhile: the
        loop comes back.
        """
        assigned, consumer, generation = self._assigned, self._consumer, self._generation
        assert assigned is not None
        assert consumer is not None
        if (wait_s := self._take_over_at - time.monotonic()) > 0:
            await self._nap(min(wait_s, BEAT_S))
            return []
        if self._fetching is not None:
            # A fetch of before may not return records of after the seek: they would be dropped
            # as stale, and nobody would read them again. It ends by its own time limit.
            done, _ = await asyncio.wait({self._fetching}, timeout=BEAT_S)
            if not done:
                return []
            self._drop_fetched()
        if self._finding is not None and self._finding[0] != generation:
            await self._stop_finding()
        if self._finding is None:
            # A task, because state may take longer to read than a loop may stand still.
            self._finding = generation, asyncio.create_task(self._find(consumer, assigned))
        _, task = self._finding
        await asyncio.wait({task}, timeout=BEAT_S)
        if generation != self._generation or not task.done():
            return []
        self._finding = None
        try:
            found = task.result()
        except (KafkaError, TimeoutError, UnreachableError) as error:
            if isinstance(error, REFUSED):
                raise BrokerError(f"Kafka refused the committed offsets: {plain(error)}") from error
            self._failed()
            log.warning("assignment_delayed", reason=str(error) or plain(error))
            await self._nap(0.5)
            return []
        events = []
        begun: dict[InputPartition, Position] = {}
        for tp in assigned:
            event, is_new = self._beginning(tp, found.committed[tp], found.starts[tp], found.ends[tp])
            exact = is_new or self._transactions is not None
            events.append(replace(event, saved=found.saved.get(event.partition, ()), exact=exact))
            if is_new:
                # Kept at once: "latest" would otherwise be a later place after a restart.
                begun[event.partition] = Position(event.publish_from, event.replay_from)
        if self._transactions is not None:
            try:
                for partition, position in begun.items():
                    await self._transactions.commit(partition, PartitionCommit(position))
            except TransactionFailed as error:
                self._refuse_for_good(partition, error)
                self._failed()
                log.warning("assignment_delayed", reason=str(error))
                await self._nap(0.5)
                return []
            if generation != self._generation:
                return []
        else:
            self._pending |= begun
        for tp, event in zip(assigned, events, strict=True):
            consumer.seek(tp, event.replay_from)
            self._live[event.partition] = _Live(event.replay_from)
        self._assigned = None
        self._failing_since = None
        consumer.resume(*assigned)
        log.info("partitions_assigned", count=len(events), rebalances=self.stats.rebalances)
        return events

    async def _find(self, consumer: AIOKafkaConsumer, assigned: Sequence[TopicPartition]) -> _Found:
        """Take the partitions from whoever had them, and see how far they came."""
        partitions = [InputPartition(tp.topic, tp.partition) for tp in assigned]
        if self._transactions is not None:
            # First of all: from here on nobody else's transaction can move the offsets.
            await self._transactions.take_over(partitions)
        async with asyncio.timeout(DEADLINE_S):
            committed = await self._committed(assigned)
            starts = await consumer.beginning_offsets(list(assigned))
            ends = await consumer.end_offsets(list(assigned))
        saved = await self._state.read(partitions) if self._state is not None else {}
        return _Found(committed, starts, ends, saved)

    async def _stop_finding(self) -> None:
        if self._finding is not None:
            (_, task), self._finding = self._finding, None
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                log.info("assignment_given_up", reason=str(error))

    async def _committed(self, assigned: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Offset (-1: none) and metadata; ``consumer.committed`` is stale and knows no metadata."""
        if not assigned:
            return {}
        async with administering(self._settings) as admin:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                self._settings.group_id, partitions=list(assigned)
            )
        missing = set(assigned) - found.keys()
        if missing:
            # The client drops the answer's own error code; an answer that lacks what was asked is one.
            raise UnreachableError("the group's coordinator gave no offsets yet")
        return found

    def _beginning(
        self, tp: TopicPartition, committed: OffsetAndMetadata, start: int, end: int
    ) -> tuple[Assigned, bool]:
        partition = InputPartition(tp.topic, tp.partition)
        offset = committed.offset
        if start <= offset <= end:
            first = replay_from(committed.metadata, offset)
            if first < start:
                self.stats.clamped += 1
                log.warning(
                    "replay_clamped", topic=tp.topic, partition=tp.partition, wanted=first, start=start
                )
            return Assigned(partition, max(first, start), offset), False
        if 0 <= offset < start:
            # Retention was quicker than we were. Nothing is decided by it: the rest follows.
            self.stats.restarted += 1
            log.error("records_expired", topic=tp.topic, partition=tp.partition, lost=start - offset)
            return Assigned(partition, start, start), True
        if offset > end:
            self.stats.restarted += 1
            log.error("offset_beyond_log", topic=tp.topic, partition=tp.partition, committed=offset, end=end)
        # A partition that was added while we ran is read whole: "latest" would skip its first records.
        added = tp.partition >= self._known.get(tp.topic, 0)
        place = end if self._settings.start == "latest" and not added else start
        return Assigned(partition, place, place), True

    # -------------------------------------------------------------- polling
    async def _poll(self) -> Mapping[TopicPartition, list[Any]]:
        """What came, at most MAX_RECORDS; nothing after about half a second."""
        consumer = self._consumer
        assert consumer is not None
        try:
            if self._fetching is None:
                if self._rebalancing or self._assigned is not None:
                    # getmany would say that the group cannot be joined, or that its task has died.
                    consumer._coordinator.check_errors()
                    await self._nap(BEAT_S / 2)
                    return {}
                # Without a time limit this only empties the buffer: it never waits, so no task is needed.
                ready = await consumer.getmany(timeout_ms=0)
                if ready:
                    return ready  # type: ignore[no-any-return]
                self._fetching = asyncio.create_task(consumer.getmany(timeout_ms=self._wait_ms))
            # A task, because getmany waits out a whole rebalance, and cancelling it would leave
            # aiokafka's idle counter wrong.
            if not await self._ended(self._fetching):
                return {}
            fetched, self._fetching = self._fetching.result(), None
            if not fetched:
                # Nobody would notice: this process would beat on, and no other would be given its partitions.
                check_fetching(consumer, ", ".join(self._topics))
            return fetched
        except NoOffsetForPartitionError:
            return {}  # met before our seek; the seek clears it
        except OffsetOutOfRangeError:
            await self._fell_off()
            return {}
        except ConsumerStoppedError:
            return {}
        except KafkaError as error:
            if getattr(error, "retriable", False):
                log.warning("poll_failed", reason=plain(error))
                await self._nap(BEAT_S)
                return {}
            raise BrokerError(f"Kafka at {self._settings.bootstrap_servers}: {plain(error)}") from error

    async def _fell_off(self) -> None:
        """The log's start has overtaken us, or its end was cut: begin again like a new assignment."""
        consumer = self._consumer
        assert consumer is not None
        if self._rebalancing or self._assigned is not None:
            return
        await self._flush()
        self._begin_again()

    def _begin_again(self) -> None:
        """Treat every partition that is ours like a new assignment: from its last commit on."""
        consumer = self._consumer
        if consumer is None or self._rebalancing or self._assigned is not None:
            return  # that is under way already
        partitions = tuple(sorted(consumer.assignment()))
        consumer.pause(*partitions)
        self._generation += 1
        self._let_go()
        self._assigned = partitions

    def _drop_fetched(self) -> None:
        fetching, self._fetching = self._fetching, None
        if fetching is not None and not fetching.cancelled() and fetching.exception() is None:
            self.stats.dropped_records += sum(map(len, fetching.result().values()))

    async def _received(
        self, tp: TopicPartition, records: Sequence[Any], generation: int
    ) -> PolledRecords | None:
        partition = InputPartition(tp.topic, tp.partition)
        live = self._live.get(partition)
        if generation != self._generation or live is None:
            self.stats.dropped_records += len(records)
            return None
        items = Records(
            [record.offset for record in records],
            [record.key for record in records],
            [record.value or b"" for record in records],
            [record.timestamp * 1_000_000 for record in records],
            records[0].timestamp_type == LOG_APPEND_TIME,
        )
        live.next_offset = items.offsets[-1] + 1
        live.idle_ms, live.polled_ms = 0, None
        live.beaten = time.monotonic()
        return PolledRecords(partition, items, end_offset=await self._end(tp, live))

    async def _beat(self, partition: InputPartition, live: _Live) -> PolledRecords:
        tp = TopicPartition(partition.topic, partition.number)
        end = await self._end(tp, live)
        return PolledRecords(partition, (), idle=timedelta(milliseconds=live.idle_ms), end_offset=end)

    async def _end(self, tp: TopicPartition, live: _Live) -> int | None:
        """Where the log's records end, as last seen; counts idle time and lag on the way.

        Idle is only the time over which the broker confirmed that nothing came: while it cannot
        be reached, nobody could have written, and no asset has fallen silent.
        """
        consumer = self._consumer
        assert consumer is not None
        if tp not in consumer.assignment():
            return None
        end: int | None = consumer.highwater(tp)
        stable: int | None = consumer.last_stable_offset(tp)
        stamp: int | None = consumer.last_poll_timestamp(tp)
        if end is None or stamp is None:
            return None
        # Markers and compacted records take up offsets: the position passes them, records do not.
        # A live partition was sought, so its position is set and this await never waits.
        readable = end if stable is None or stable < 0 else min(stable, end)
        position = max(live.next_offset, await consumer.position(tp))
        if position >= readable:
            if live.polled_ms is not None:
                live.idle_ms += max(0, min(stamp - live.polled_ms, IDLE_STEP_MS))
            live.polled_ms = stamp
        else:
            live.idle_ms, live.polled_ms = 0, None
        behind: int = max(0, end - position)
        self.stats.lag[InputPartition(tp.topic, tp.partition)] = behind
        return live.next_offset + behind  # offsets that hold no record are nothing to be behind of

    # -------------------------------------------------------------- transactions
    async def _transact(
        self, transactions: Transactions, work: Mapping[InputPartition, PartitionCommit]
    ) -> set[InputPartition]:
        """One transaction per partition, side by side; where one fails, all begin again.

        Returns:
            The partitions whose transaction failed.
        """
        outcomes = await asyncio.gather(
            *(transactions.commit(partition, done) for partition, done in work.items()),
            return_exceptions=True,
        )
        failures: dict[InputPartition, TransactionFailed] = {}
        for partition, outcome in zip(work, outcomes, strict=True):
            if isinstance(outcome, TransactionFailed):
                self._refuse_for_good(partition, outcome)
                failures[partition] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                self._refused.discard(partition)
        self.stats.commits += len(outcomes) - len(failures)
        if not failures:
            if work:
                self._failures, self._failing_since = 0, None
            return set()
        self._failed()
        self._failures += 1
        reasons = list(failures.values())
        worst = next((f for f in reasons if f.refused), reasons[0])
        self.stats.rewinds += 1
        log.warning("transaction_failed", reason=str(worst), partitions=len(failures), tries=self._failures)
        # A rival of the same id may only be met when it is known that the partition is still ours.
        wait_s = 2 * HEARTBEAT_MS / 1000 if any(f.fenced for f in reasons) else 0.0
        if self._failures > 1:
            wait_s = max(wait_s, min(30.0, 0.25 * 2.0 ** min(self._failures, 8)))
        self._take_over_at = time.monotonic() + wait_s
        self._begin_again()
        return set(failures)

    def _failed(self) -> None:
        self._failing_since = self._failing_since or time.monotonic()

    def _refuse_for_good(self, partition: InputPartition, failure: TransactionFailed) -> None:
        """End the run over what was refused twice: it would be refused for ever."""
        if failure.refused and partition in self._refused:
            raise BrokerError(f"Kafka at {self._settings.bootstrap_servers} refused outputs: {failure}")
        if failure.refused:
            self._refused.add(partition)

    # -------------------------------------------------------------- committing
    async def _flush_if_due(self) -> None:
        if self._pending and time.monotonic() >= self._due:
            await self._flush()

    async def _flush(self) -> None:
        """Write the pending positions; those that time out stay pending."""
        async with self._flushing:
            consumer = self._consumer
            pending = dict(self._pending)
            if consumer is None or not pending:
                return
            self._due = time.monotonic() + self._settings.commit_interval.total_seconds()
            offsets = {
                TopicPartition(p.topic, p.number): OffsetAndMetadata(at.offset, written_position(at))
                for p, at in pending.items()
            }
            try:
                async with asyncio.timeout(COMMIT_S):
                    await consumer.commit(offsets)
            except (CommitFailedError, IllegalStateError) as error:
                # The group has moved on. Whoever has the partitions now reads these records again.
                self.stats.stale_commits += len(pending)
                log.warning("commit_stale", partitions=len(pending), reason=plain(error.__cause__ or error))
            except TimeoutError:
                self.stats.delayed_commits += 1
                self._due = time.monotonic() + COMMIT_S
                log.warning("commit_delayed", partitions=len(pending))
                return
            except KafkaError as error:
                raise BrokerError(
                    f"Kafka at {self._settings.bootstrap_servers} refused a commit of group "
                    f"{self._settings.group_id!r}: {plain(error)}"
                ) from error
            else:
                self.stats.commits += 1
            for partition, position in pending.items():
                if self._pending.get(partition) == position:
                    del self._pending[partition]
