"""The input topics, read by a consumer group: the source that the loop pulls.

``KafkaSource`` coordinates the parts that own state: ``group_consumer`` (the client and its fetch),
``assignment`` (which partitions are ours), ``takeover`` (where they begin), ``live_partition`` (their events),
``offset_commits`` or ``transactional_commits`` (how far they have come). ``commands.run.kafka_ends`` builds it;
the way of a record here is ``events``, ``GroupConsumer.poll``, ``LivePartition.records``, then ``Loop.run``.

**Rebalancing.** Four facts of aiokafka shape this. Records arrive while the rebalance listener still runs; a
rebalance is eager, so partitions that stay ours go back to the committed offset, too; the listener runs inside
the coordinator's task, where an exception vanishes; and ``getmany`` blocks for as long as a rebalance takes. So
the listener decides nothing. It pauses what was assigned, begins a new generation, and leaves the rest to the
loop that pulls ``events``: read the committed offsets, seek, resume, and only then emit ``Assigned``. A batch
that was fetched in an older generation is dropped, because its partition was rewound.

**Revocation.** The listener waits until the loop has finished the event in flight, whatever kind it is (after
any of them the loop may publish), and has committed all that it has published since its last commit: ``events``
requests that with a ``handover``, and emits nothing more of the partitions that go. So an orderly rebalance
repeats nothing; the wait is bounded by ``FINISH_S``.

**Deadlines.** Nothing in aiokafka bounds a wait on an unreachable broker, so every await here has a deadline, or
is ended by ``close``.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from daemon.adapters.kafka.aiokafka_inside import RecordColumns
from daemon.adapters.kafka.assignment import Assignment
from daemon.adapters.kafka.connecting import Backoff
from daemon.adapters.kafka.failures import REFUSED, UnreachableError, describe
from daemon.adapters.kafka.group_consumer import GroupConsumer
from daemon.adapters.kafka.live_partition import LivePartition
from daemon.adapters.kafka.offset_commits import OffsetCommits
from daemon.adapters.kafka.settings import STOP_S, KafkaSettings
from daemon.adapters.kafka.stats import KafkaStats
from daemon.adapters.kafka.takeover import BeginningRule, Found, TakeOver, beginning
from daemon.adapters.kafka.transactional_commits import TransactionalCommits
from daemon.adapters.kafka.transactions import StateTopic, TransactionFailed, Transactions
from daemon.adapters.kafka.wakeup import Wakeup
from daemon.adapters.kafka.writing import Writer
from daemon.domain import (
    Assigned,
    InputPartition,
    PartitionCommit,
    PolledRecords,
    Position,
    Revoked,
    SourceEvent,
)
from daemon.errors import BrokerError, ConfigError

log = structlog.get_logger(__name__)

NO_PARTITION = InputPartition("", -1)
"""The partition of an empty ``PolledRecords`` that is about no partition."""
EMPTY_EVENT_S = 1.0
"""A partition, and the source as a whole, emit an event at least this often, records or not."""
FINISH_S = 10.0
"""How long a revocation waits for the event in flight; far below the group's rebalance timeout."""
JOINING_S = 1.0
"""How long a consumer that has not joined its group yet may take to stop."""


class KafkaSource:
    """The input topics, read by a consumer group.

    ``events`` connects when it is first pulled, and keeps trying while the broker is down.
    ``commit`` takes positions at once and writes them every ``commit_interval``, on a revocation, and when the
    source closes; with ``transactions`` it writes outputs, state and positions at once. Call ``stop`` when the
    loop has ended.

    Args:
        settings: the connection, the group, and where a partition without a commit begins.
        topics: all of them must exist.
        state: where the state of the partitions is saved; None if it is not.
        transactions: the producers of delivery ``exactly_once``; None for ``at_least_once``.

    Attributes:
        stats: what has happened since the source was made.

    Raises:
        ConfigError: the settings cannot be used.
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
        self._wakeup = Wakeup()
        self._consumer = GroupConsumer(settings, topics, self.stats, self._wakeup)
        self._assignment = Assignment(self.stats)
        self._commits = OffsetCommits(settings, self._consumer, self.stats)
        self._transactions = (
            None if transactions is None else TransactionalCommits(settings, transactions, self.stats)
        )
        self._take_over = TakeOver(settings, state, self._transactions)
        self._state = state
        self._state_writer = Writer(settings)
        # A commit that is due must not wait for the next record.
        self._tick_s = min(EMPTY_EVENT_S, settings.commit_interval.total_seconds())
        self._pulled = False  # ``events`` is being pulled, or has ended and ``stop`` will be called
        self._handed_over = asyncio.Event()  # the loop has committed its work from before the revocation
        self._failing_since: float | None = None  # the first transaction or takeover that failed

    # -------------------------------------------------------------- for the loop
    async def events(self) -> AsyncIterator[SourceEvent]:
        """See ``ports.Source``.

        Raises:
            InputError: an input topic does not exist.
            ConfigError, BrokerError: Kafka refuses us for good.
        """
        assignment = self._assignment
        try:
            async for event in self._connected():
                yield event
            self._pulled = True
            emitted_at = time.monotonic()
            while not self.closing:
                await asyncio.sleep(0)  # a full buffer never yields by itself, and heartbeats share this loop
                assignment.check_churn(self._settings)
                self._consumer.ask_when_silent()
                if assignment.rebalancing and assignment.live and not self._handed_over.is_set():
                    yield PolledRecords(NO_PARTITION, (), handover=True)
                    self._handed_over.set()
                for partition in assignment.gone():
                    assignment.announced.discard(partition)
                    yield Revoked(partition)
                if assignment.to_take_over is not None:
                    for taken in await self._taken_over(assignment.to_take_over):
                        # It may go again while the loop is busy with another.
                        if taken.partition in assignment.live and not assignment.rebalancing:
                            assignment.announced.add(taken.partition)
                            yield taken
                await self._commits.flush_if_due()
                generation = assignment.generation
                for tp, records in (await self._poll()).items():
                    polled = await self._polled(tp, records, generation)
                    if polled is not None:
                        yield polled
                now = time.monotonic()
                for partition, live in list(assignment.live.items()):
                    due = now - live.emitted_at >= EMPTY_EVENT_S
                    if due and partition in assignment.live and not assignment.rebalancing:
                        live.emitted_at = emitted_at = now
                        yield await live.no_records(self._consumer.connected_client)
                if now - emitted_at >= (EMPTY_EVENT_S if not assignment.live else self._tick_s):
                    emitted_at = now
                    yield PolledRecords(NO_PARTITION, ())
        except BaseException:
            self._no_longer_pulled()  # a revocation need not wait for a loop that has failed
            raise
        # The loop commits once more before it calls ``stop``: a revocation waits for that, too.
        await self._commits.flush()

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> Collection[InputPartition]:
        """See ``ports.Source``; a partition that has gone is counted and left out.

        Raises:
            BrokerError: Kafka refuses it, and would again.
        """
        mine = {partition: done for partition, done in work.items() if partition in self._assignment.live}
        gone = work.keys() - mine.keys()
        self.stats.stale_commits += len(gone)
        if self._transactions is not None:
            return gone | await self._transact(self._transactions, mine)
        if self._state is not None:
            # Before the positions: what a state covers is published, and a successor skips it.
            await self._state_writer.write(
                [self._state.message(p, saved) for p, done in mine.items() for saved in done.saved]
            )
        self._commits.add({p: done.position for p, done in mine.items() if p in self._assignment.live})
        if self.closing:
            await self._commits.flush()
        else:
            await self._commits.flush_if_due()
        return gone

    def close(self) -> None:
        """See ``ports.Source``."""
        self._wakeup.close()

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self._wakeup.closing

    @property
    def rebalancing(self) -> bool:
        """Whether the group is distributing its partitions anew, or has not done so yet."""
        return self._assignment.rebalancing

    @property
    def silence_s(self) -> float:
        """Seconds since Kafka last did what this source requested of it; cheap, and right while ``commit`` waits.

        Where Kafka answers, but transactions fail and the partitions cannot be taken over again, it is the time
        since the first failure.
        """
        now = time.monotonic()
        failing = 0.0 if self._failing_since is None else now - self._failing_since
        return max(now - self._consumer.last_answer(), failing)

    async def stop(self) -> None:
        """Write what is still to be committed and leave the group. Safe to call twice."""
        self.close()
        self._no_longer_pulled()
        if self._consumer.client is None:
            return
        with contextlib.suppress(BrokerError):
            await self._commits.flush()
        client = self._consumer.release()
        await self._take_over.stop()
        await self._state_writer.stop()
        if self._transactions is not None:
            await self._transactions.stop()
        if client is not None:
            # A consumer that waits to join would wait until the group has counted out its dead members.
            await self._consumer.close(client, JOINING_S if self._assignment.rebalancing else STOP_S)
        self._assignment.live.clear()

    # -------------------------------------------------------------- connecting
    async def _connected(self) -> AsyncIterator[SourceEvent]:
        """Empty events until the consumer is connected or the source is closed."""
        backoff = Backoff(self._count_unreachable)
        while self._consumer.client is None and not self.closing:
            try:
                await self._consumer.connect(self._on_revoked, self._on_assigned)
            except UnreachableError as error:
                wait = backoff.after(error)
                until = time.monotonic() + wait
                while not self.closing and (left := until - time.monotonic()) > 0:
                    yield PolledRecords(NO_PARTITION, ())
                    await self._wakeup.sleep(min(left, EMPTY_EVENT_S))
        backoff.over()

    def _count_unreachable(self) -> None:
        self.stats.unreachable += 1

    # -------------------------------------------------------------- rebalancing, in the coordinator's task
    async def _on_revoked(self) -> None:
        """Finish the event in flight, commit it, and release the partitions."""
        self._handed_over.clear()
        self._assignment.revoke()  # what the loop still holds beyond that event is dropped
        self._wakeup.notify()
        self._take_over.cancel()
        try:
            if self._pulled and self._assignment.live:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(FINISH_S):
                        await self._handed_over.wait()
            await self._commits.flush()
        except BrokerError as error:  # aiokafka would swallow it; the next commit meets it again
            log.warning("commit_failed", reason=str(error))
        finally:
            self._commits.drop()
            self._assignment.release()

    def _on_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Keep records from flowing until the partitions are taken over; without an await, so that none slips by."""
        partitions = tuple(sorted(assigned))
        client = self._consumer.client
        if client is None:  # stopped meanwhile
            return
        client.pause(*partitions)
        self._commits.drop()
        self._assignment.assign(partitions)
        self._wakeup.notify()

    def _no_longer_pulled(self) -> None:
        self._pulled = False
        self._handed_over.set()

    def _begin_again(self) -> None:
        """Treat every partition that is ours like a new assignment: from its last commit on."""
        client = self._consumer.client
        if client is None or self._assignment.joining:
            return  # that is under way already
        partitions = tuple(sorted(client.assignment()))
        client.pause(*partitions)
        self._commits.drop()
        self._assignment.restart(partitions)

    # -------------------------------------------------------------- taking over
    async def _taken_over(self, assigned: tuple[TopicPartition, ...]) -> list[Assigned]:
        """Decide where each assigned partition begins, seek there, and let records flow.

        Returns nothing when the broker did not answer or the assignment changed meanwhile: the loop comes back.
        """
        client, generation = self._consumer.connected_client, self._assignment.generation
        retry_at = 0.0 if self._transactions is None else self._transactions.retry_at
        if (wait_s := retry_at - time.monotonic()) > 0:
            await self._wakeup.sleep(min(wait_s, EMPTY_EVENT_S))
            return []
        # A fetch of before may not return records of after the seek: they would be dropped as stale, and nobody
        # would read them again. It ends by its own time limit.
        if not await self._consumer.fetch_has_ended():
            return []
        search = await self._take_over.found(client, assigned, generation, EMPTY_EVENT_S)
        if generation != self._assignment.generation or search is None:
            return []
        self._take_over.finish()
        try:
            found = search.result()
        except (KafkaError, TimeoutError, UnreachableError) as error:
            if isinstance(error, REFUSED):
                raise BrokerError(f"Kafka refused the committed offsets: {describe(error)}") from error
            await self._delay_assignment(str(error) or describe(error))
            return []
        events, begun = self._beginnings(assigned, found)
        # New beginnings are committed at once: "latest" would otherwise be a later place after a restart.
        if self._transactions is not None:
            try:
                await self._transactions.commit_beginnings(begun)
            except TransactionFailed as error:
                await self._delay_assignment(str(error))
                return []
            if generation != self._assignment.generation:
                return []
        else:
            self._commits.add(begun)
        self._resume(client, assigned, events)
        return events

    def _beginnings(
        self, assigned: Sequence[TopicPartition], found: Found
    ) -> tuple[list[Assigned], dict[InputPartition, Position]]:
        """The event for each partition, and the positions of those without a usable commit."""
        rule = BeginningRule(self._settings.start == "latest", self._consumer.partitions_at_start)
        events = []
        begun: dict[InputPartition, Position] = {}
        for tp in assigned:
            event, is_new = beginning(tp, found, rule, self.stats)
            exact = is_new or self._transactions is not None
            events.append(replace(event, saved=found.saved.get(event.partition, ()), exact=exact))
            if is_new:
                begun[event.partition] = Position(event.publish_from, event.replay_from)
        return events, begun

    def _resume(
        self, client: AIOKafkaConsumer, assigned: Sequence[TopicPartition], events: Sequence[Assigned]
    ) -> None:
        for tp, event in zip(assigned, events, strict=True):
            client.seek(tp, event.replay_from)
            self._assignment.live[event.partition] = LivePartition(tp, event.replay_from, self.stats)
        self._assignment.to_take_over = None
        self._failing_since = None
        client.resume(*assigned)
        log.info("partitions_assigned", count=len(events), rebalances=self.stats.rebalances)

    async def _delay_assignment(self, reason: str) -> None:
        self._failing_since = self._failing_since or time.monotonic()
        log.warning("assignment_delayed", reason=reason)
        await self._wakeup.sleep(0.5)

    # -------------------------------------------------------------- polling
    async def _poll(self) -> Mapping[TopicPartition, RecordColumns]:
        try:
            return await self._consumer.poll(joining=self._assignment.joining)
        except OffsetOutOfRangeError:
            # The log's start has overtaken us, or its end was cut.
            if not self._assignment.joining:
                await self._commits.flush()
                self._begin_again()
            return {}

    async def _polled(
        self, tp: TopicPartition, records: RecordColumns, generation: int
    ) -> PolledRecords | None:
        """The event for polled records; None where their partition has gone or was rewound since the poll."""
        live = self._assignment.live.get(InputPartition(tp.topic, tp.partition))
        if generation != self._assignment.generation or live is None:
            self.stats.dropped_records += len(records)
            return None
        return await live.records(self._consumer.connected_client, records)

    # -------------------------------------------------------------- transactions
    async def _transact(
        self, transactions: TransactionalCommits, work: Mapping[InputPartition, PartitionCommit]
    ) -> set[InputPartition]:
        """Commit in transactions; where one fails, all partitions begin again. Returns those that failed."""
        failed = await transactions.commit(work)
        if failed:
            self._failing_since = self._failing_since or time.monotonic()
            self._begin_again()
        elif work:
            self._failing_since = None
        return failed
