"""Rebalances: nothing is lost, and an orderly one repeats nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from daemon.adapters import kafka
from daemon.adapters.kafka import NO_PARTITION, KafkaSource
from daemon.domain import (
    Assigned,
    InputPartition,
    PartitionCommit,
    PolledRecords,
    Position,
    Revoked,
    SourceEvent,
)
from tests.adapters.kafka.setups import (
    Filled,
    Made,
    eventually,
    numbers,
    pulled_until_assigned,
    records,
    until,
)
from tests.broker import produce, read_topic


class Worker:
    """The shape of the one loop: what came, then its commit."""

    def __init__(self, source: KafkaSource, done: Callable[[], bool]) -> None:
        self.source, self._done = source, done
        self.handled: list[tuple[int, int]] = []  # partition, offset; past the replay
        self.owned: dict[InputPartition, int] = {}  # where output resumes
        self.mistakes: list[SourceEvent] = []

    async def run(self) -> None:
        async for event in self.source.events():
            here = event.partition
            match event:
                case Assigned():
                    if here in self.owned:
                        self.mistakes.append(event)
                    self.owned[here] = event.publish_from
                case Revoked():
                    del self.owned[here]
                case PolledRecords(items=items) if items:
                    if here not in self.owned:
                        self.mistakes.append(event)
                        continue
                    new = [record.offset for record in items if record.offset >= self.owned[here]]
                    await self._publish()
                    self.handled += [(here.number, offset) for offset in new]
                    after = items[-1].offset + 1
                    await self.source.commit({here: PartitionCommit(Position(after, max(0, after - 5)))})
            if self._done():
                self.source.close()

    async def _publish(self) -> None:
        await asyncio.sleep(0)


@pytest.mark.kafka
async def test_two_sources_share_a_topic_and_every_record_is_handled_once(
    kafka_bootstrap: str, filled: Filled, made: Made
) -> None:
    topic = await filled("shared", partitions=4)
    workers: list[Worker] = []
    expected = 0
    finished = False

    def done() -> bool:
        return finished and sum(len(worker.handled) for worker in workers) >= expected

    async def feed(count: int) -> None:
        nonlocal expected
        expected += count
        await produce(kafka_bootstrap, topic, numbers(count))

    async def settled(owners: list[Worker]) -> None:
        await eventually(lambda: all(len(worker.owned) == 4 // len(owners) for worker in owners))

    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        first = Worker(made(topic), done)
        workers.append(first)
        group.create_task(first.run())
        await feed(3000)
        await settled([first])
        second = Worker(made(topic), done)
        workers.append(second)
        joining = group.create_task(second.run())
        await feed(3000)
        await settled([first, second])
        await feed(3000)
        await eventually(lambda: bool(second.handled))
        second.source.close()
        await joining
        await second.source.stop()  # leaves the group: its partitions come back
        await feed(1000)
        await settled([first])
        finished = True
    assert [worker.mistakes for worker in workers] == [[], []]
    ends = [0] * 4
    for record in await read_topic(kafka_bootstrap, topic):
        ends[record.partition] = record.offset + 1
    every = sorted((number, offset) for number, end in enumerate(ends) for offset in range(end))
    assert len(every) == expected
    assert sorted(first.handled + second.handled) == every  # an orderly rebalance repeats nothing
    assert first.source.stats.rebalances >= 3


@pytest.mark.kafka
async def test_a_loop_too_slow_for_a_rebalance_loses_nothing(
    filled: Filled, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka.source, "FINISH_S", 0.0)
    topic = await filled("slow", numbers(50))
    slow, quick = made(topic), made(topic)
    events = slow.events()
    async with asyncio.timeout(60):
        async for event in events:
            if isinstance(event, PolledRecords) and event.items:
                break  # held: the loop is still busy with it
        joining = asyncio.create_task(until(quick, lambda e: isinstance(e, Assigned | PolledRecords)))
        before = slow.stats.rebalances
        await eventually(lambda: slow.stats.rebalances > before)
        await slow.commit({event.partition: PartitionCommit(Position(50, 50))})
        assert slow.stats.stale_commits == 1
        follow = await anext(events)
        while not isinstance(follow, Revoked):
            follow = await anext(events)
        await joining
        # Nothing was committed, so whoever has the partition now reads all of it.
        await slow.stop()
        await quick.stop()
        _, found = await records(made(topic), 50)
    assert [record.offset for record in found] == list(range(50))


def empty_event_of_a_partition(event: SourceEvent) -> bool:
    return isinstance(event, PolledRecords) and not event.items and event.partition != NO_PARTITION


IN_FLIGHT: dict[str, Callable[[SourceEvent], bool]] = {
    "records": lambda event: isinstance(event, PolledRecords) and bool(event.items),
    "a beat of a partition": empty_event_of_a_partition,
    "a beat": lambda event: isinstance(event, PolledRecords) and event.partition == NO_PARTITION,
    "an assignment": lambda event: isinstance(event, Assigned),
}


@pytest.mark.kafka
@pytest.mark.parametrize("held", IN_FLIGHT.values(), ids=IN_FLIGHT.keys())
async def test_a_revocation_waits_for_the_event_in_flight(
    filled: Filled, made: Made, held: Callable[[SourceEvent], bool]
) -> None:
    """After any event the loop may publish: a sink that blocks, in effect."""
    topic = await filled("held", numbers(50))
    first, second = made(topic), made(topic)
    here = InputPartition(topic, 0)
    events = first.events()
    async with asyncio.timeout(60):
        async for event in events:
            if held(event):
                break  # the loop is busy with it from here on
        taking = asyncio.create_task(until(second, lambda e: isinstance(e, Assigned)))
        await eventually(lambda: first.rebalancing)
        await first.commit({here: PartitionCommit(Position(30, 20))})
        assert first.stats.stale_commits == 0
        first.close()
        async for _ in events:
            pass
        await first.stop()
        (*_, assigned) = await taking
    assert isinstance(assigned, Assigned)
    assert (assigned.publish_from, assigned.replay_from) == (30, 20)


class Lazy(Worker):
    """Publishes at once and commits only when it is told that partitions go, or at its end."""

    def __init__(self, source: KafkaSource, done: Callable[[], bool]) -> None:
        super().__init__(source, done)
        self.positions: dict[InputPartition, int] = {}

    async def run(self) -> None:
        async for event in self.source.events():
            here = event.partition
            match event:
                case Assigned():
                    self.owned[here] = event.publish_from
                case Revoked():
                    del self.owned[here]
                    self.positions.pop(here, None)
                case PolledRecords(handover=True):
                    await self._commit()
                case PolledRecords(items=items) if items:
                    await self._publish()
                    self.handled += [(here.number, record.offset) for record in items]
                    self.positions[here] = items[-1].offset + 1
            if self._done():
                self.source.close()
        await self._commit()

    async def _commit(self) -> None:
        await self.source.commit({p: PartitionCommit(Position(at, at)) for p, at in self.positions.items()})


@pytest.mark.kafka
async def test_published_outputs_are_committed_before_partitions_are_revoked(
    kafka_bootstrap: str, filled: Filled, made: Made
) -> None:
    topic = await filled("lazy", partitions=4)
    finished = False
    workers: list[Lazy] = []
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:

        async def join() -> Lazy:
            workers.append(Lazy(made(topic), lambda: finished))
            group.create_task(workers[-1].run())
            share = 4 // len(workers)
            await eventually(lambda: all(len(worker.owned) == share for worker in workers))
            return workers[-1]

        first = await join()
        await produce(kafka_bootstrap, topic, numbers(2000))
        await eventually(lambda: len(first.handled) == 2000)
        await join()
        await produce(kafka_bootstrap, topic, numbers(1000))
        await eventually(lambda: sum(len(worker.handled) for worker in workers) >= 3000)
        finished = True
    handled = [record for worker in workers for record in worker.handled]
    assert len(handled) == len(set(handled)) == 3000
    assert all(worker.handled for worker in workers)


@pytest.mark.kafka
async def test_a_revocation_waits_for_the_last_commit_of_a_loop_that_ends(filled: Filled, made: Made) -> None:
    topic = await filled("ending", numbers(50))
    ending, second = made(topic), made(topic)
    async with asyncio.timeout(60):
        async for event in ending.events():
            if isinstance(event, PolledRecords) and event.items:
                ending.close()
        taking = asyncio.create_task(until(second, lambda e: isinstance(e, Assigned)))
        await eventually(lambda: ending.rebalancing)
        await ending.commit({InputPartition(topic, 0): PartitionCommit(Position(50, 40))})
        assert ending.stats.stale_commits == 0
        await ending.stop()
        (*_, assigned) = await taking
    assert isinstance(assigned, Assigned)
    assert (assigned.publish_from, assigned.replay_from) == (50, 40)


@pytest.mark.kafka
async def test_a_revocation_does_not_wait_for_a_failed_loop(
    filled: Filled, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka.source, "FINISH_S", 3_600.0)
    topic = await filled("failed")
    failed, second = made(topic), made(topic)
    async with asyncio.timeout(60):
        events = await pulled_until_assigned(failed)
        before = failed.stats.rebalances
        with pytest.raises(ZeroDivisionError):
            await events.athrow(ZeroDivisionError())  # type: ignore[attr-defined]  # it is a generator
        taking = asyncio.create_task(until(second, lambda e: isinstance(e, PolledRecords)))
        await eventually(lambda: failed.stats.rebalances > before)
        await failed.stop()
        await taking
