"""Where partitions begin that are taken over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import RecordsToDelete

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, KafkaSource, KafkaStats, StateTopic
from daemon.adapters.kafka.takeover import BeginningRule, Found, beginning
from daemon.domain import Assigned, InputPartition, PartitionCommit, PolledRecords, Position, SourceEvent
from daemon.stream import snapshot
from tests.adapters.kafka.setups import (
    Filled,
    Made,
    administering,
    eventually,
    fresh,
    numbers,
    records,
    until,
)
from tests.broker import create_topic, produce


@pytest.mark.parametrize(
    ("committed", "metadata", "latest", "expected", "is_new"),
    [
        (7, "1;3", False, (3, 7), False),
        (7, "1;0", False, (2, 7), False),  # the log begins at 2
        (7, "", False, (7, 7), False),
        (1, "1;0", False, (2, 2), True),  # expired
        (99, "1;9", False, (2, 2), True),  # beyond the log, which ends at 9
        (-1, "", False, (2, 2), True),
        (-1, "", True, (9, 9), True),
    ],
)
def test_where_a_partition_begins(
    committed: int, metadata: str, latest: bool, expected: tuple[int, int], is_new: bool
) -> None:
    tp, stats = TopicPartition("in", 0), KafkaStats()
    found = Found({tp: OffsetAndMetadata(committed, metadata)}, {tp: 2}, {tp: 9}, {})
    event, new = beginning(tp, found, BeginningRule(latest, {"in": 1}), stats)
    assert (event.replay_from, event.publish_from, new) == (*expected, is_new)
    assert stats.clamped == (committed == 7 and metadata == "1;0")
    assert stats.restarted == (committed in (1, 99))


def test_a_partition_that_was_added_later_is_read_whole() -> None:
    assert BeginningRule(True, {"in": 1}).offset(TopicPartition("in", 1), 2, 9) == 2


@pytest.mark.kafka
async def test_events_go_on_while_state_is_read_slowly(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic, prefix = fresh("in"), fresh("out")
    await create_topic(kafka_bootstrap, topic, 1)
    await create_topic(kafka_bootstrap, f"{prefix}.state", 1)
    await produce(
        kafka_bootstrap,
        f"{prefix}.state",
        [(snapshot.key(topic, f"k{i}"), b"x" * 1_000) for i in range(5_000)],
    )
    beats = 0

    class Slow(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
        async def getmany(self, *partitions: TopicPartition, **limits: int) -> Any:
            seen = beats
            await eventually(lambda: beats > seen)
            return await super().getmany(*partitions, **limits)

    monkeypatch.setattr(kafka.following, "AIOKafkaConsumer", Slow)
    monkeypatch.setattr(kafka.takeover, "DEADLINE_S", 1.0)
    settings = KafkaSettings(kafka_bootstrap, group_id=fresh("group"))
    source = KafkaSource(settings, [topic], StateTopic(settings, prefix))

    def assigned(event: SourceEvent) -> bool:
        nonlocal beats
        beats += isinstance(event, PolledRecords)
        return isinstance(event, Assigned)

    try:
        *_, event = await until(source, assigned)
    finally:
        await source.stop()
    assert isinstance(event, Assigned)
    assert len(event.saved) == 5_000
    assert beats >= 2


@pytest.mark.kafka
async def test_a_restart_resumes_at_the_commit_and_replays_for_the_windows(
    filled: Filled, made: Made
) -> None:
    topic = await filled("resumed", numbers(10))
    there = InputPartition(topic, 0)
    first = made(topic, commit_interval=timedelta(hours=1))
    await records(first, 10)
    await first.commit({there: PartitionCommit(Position(6, 2))})
    await first.commit({there: PartitionCommit(Position(7, 3))})
    await first.stop()  # an interval that is not over does not keep a position from being written
    assigned, found = await records(made(topic), 7)
    assert assigned == [Assigned(there, 3, 7)]
    assert [record.offset for record in found] == [3, 4, 5, 6, 7, 8, 9]


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("log_start", "expected", "clamped", "restarted"),
    [(2, (3, 7), 0, 0), (5, (5, 7), 1, 0), (7, (7, 7), 1, 0), (9, (9, 9), 0, 1)],
)
async def test_a_commit_that_is_no_longer_in_the_log_is_counted(
    kafka_bootstrap: str,
    filled: Filled,
    made: Made,
    log_start: int,
    expected: tuple[int, int],
    clamped: int,
    restarted: int,
) -> None:
    topic = await filled("expired", numbers(10))
    there = InputPartition(topic, 0)
    first = made(topic)
    await records(first, 10)
    await first.commit({there: PartitionCommit(Position(7, 3))})
    await first.stop()
    async with administering(kafka_bootstrap) as admin:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(log_start)})
    second = made(topic)
    assigned, found = await records(second, 1)
    assert assigned == [Assigned(there, *expected)]
    assert found[0].offset == expected[0]
    assert (second.stats.clamped, second.stats.restarted) == (clamped, restarted)


@pytest.mark.kafka
async def test_a_recreated_topic_is_read_from_its_start(
    kafka_bootstrap: str, filled: Filled, made: Made
) -> None:
    topic = await filled("anew", numbers(10))
    first = made(topic)
    await records(first, 10)
    await first.commit({InputPartition(topic, 0): PartitionCommit(Position(10, 10))})
    async with administering(kafka_bootstrap) as admin:
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            pass
    await first.stop()
    await create_topic(kafka_bootstrap, topic)
    await produce(kafka_bootstrap, topic, numbers(3))
    second = made(topic)
    _, found = await records(second, 3)
    assert [record.offset for record in found] == [0, 1, 2]


@pytest.mark.kafka
async def test_latest_begins_at_the_end_and_stays_there_over_a_restart(
    kafka_bootstrap: str, filled: Filled, made: Made
) -> None:
    topic = await filled("latest", numbers(5))
    there = InputPartition(topic, 0)
    first = made(topic, start="latest")
    seen = await until(first, lambda event: isinstance(event, PolledRecords) and event.partition == there)
    assert Assigned(there, 5, 5) in seen
    await first.stop()
    await produce(kafka_bootstrap, topic, numbers(2))  # nobody reads; they are not to be skipped
    assigned, found = await records(made(topic, start="latest"), 2)
    assert assigned == [Assigned(there, 5, 5)]
    assert [record.offset for record in found] == [5, 6]
