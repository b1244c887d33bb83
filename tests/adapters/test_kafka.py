"""The source and the sink against a real Apache Kafka."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.client import CoordinationType
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import KafkaError, RequestTimedOutError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters import kafka
from daemon.adapters.kafka import (
    NO_PARTITION,
    KafkaSettings,
    KafkaSink,
    KafkaSource,
    Message,
    StateTopic,
    TopicSpec,
    TopicState,
    check_topics,
    ensure_topics,
    newest_records,
    probe,
    read_now,
    replay_from,
    stored_size,
    written_position,
)
from daemon.adapters.kafka.connecting import Entry, UnreachableError, quietly, started
from daemon.adapters.kafka.following import ENTRY_BYTES, Follower, Newest
from daemon.domain import (
    Assigned,
    DeadLetter,
    InputPartition,
    PartitionCommit,
    PolledRecords,
    Position,
    Reason,
    Record,
    Rejected,
    Revoked,
    ScoredRow,
    SourceEvent,
)
from daemon.errors import BrokerError, ConfigError, InputError
from daemon.stream import encoding, snapshot
from tests.broker import Broker, create_topic, produce, read_topic

ENCODE = partial(encoding.encode, now=datetime(2026, 1, 1, tzinfo=UTC))
Made = Callable[..., KafkaSource]


def fresh(what: str) -> str:
    return f"{what}-{uuid4().hex[:8]}"


@pytest.fixture
async def made(kafka_bootstrap: str) -> AsyncIterator[Made]:
    """Makes sources of one fresh group (unless told otherwise) and stops them."""
    settings = KafkaSettings(kafka_bootstrap, group_id=fresh("group"), commit_interval=timedelta(0))
    sources: list[KafkaSource] = []

    def make(*topics: str, **other: Any) -> KafkaSource:
        sources.append(KafkaSource(replace(settings, **other), topics))
        return sources[-1]

    yield make
    for source in sources:
        await source.stop()


async def until(source: KafkaSource, enough: Callable[[SourceEvent], bool]) -> list[SourceEvent]:
    """The events up to the first for which ``enough`` holds."""
    seen = []
    async with asyncio.timeout(60):
        async for event in source.events():
            seen.append(event)
            if enough(event):
                return seen
    raise AssertionError("the source ended")


async def records(source: KafkaSource, count: int) -> tuple[list[Assigned], list[Record]]:
    """What was assigned until so many records had come, and these."""
    assigned: list[Assigned] = []
    found: list[Record] = []

    def enough(event: SourceEvent) -> bool:
        if isinstance(event, Assigned):
            assigned.append(event)
        if isinstance(event, PolledRecords):
            found.extend(event.items)
        return len(found) >= count

    await until(source, enough)
    return assigned, found


@asynccontextmanager
async def followed(bootstrap: str, records: list[tuple[bytes, bytes]]) -> AsyncIterator[Follower]:
    """A follower of a fresh topic that holds these records."""
    topic = fresh("followed")
    await create_topic(bootstrap, topic, 1)
    await produce(bootstrap, topic, records)
    follower = Follower(KafkaSettings(bootstrap), topic)
    try:
        yield follower
    finally:
        await follower.stop()


async def eventually(condition: Callable[[], bool]) -> None:
    """Return when it holds; the caller bounds the wait."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in the broker
        await asyncio.sleep(0.01)


def numbers(count: int) -> list[tuple[bytes, bytes]]:
    return [(b"k%d" % (i % 37), b"%d" % i) for i in range(count)]


# ------------------------------------------------------------------ without a broker
@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_position_survives_its_metadata(offset: int, back: int) -> None:
    position = Position(offset, max(0, offset - back))
    text = written_position(position)
    assert len(text) < 100
    assert replay_from(text, offset) == position.replay_from


@pytest.mark.parametrize("text", ["", "1;", "1;-3", "1;x", "2;5", "5", "1;99", "1;²"])
def test_metadata_that_says_nothing_sensible_replays_nothing(text: str) -> None:
    assert replay_from(text, 10) == 10


@given(
    st.binary(max_size=300) | st.none(),
    st.binary(max_size=3000),
    st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=50)), max_size=5),
)
def test_a_message_is_never_larger_than_estimated(key: Any, value: bytes, headers: Any) -> None:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10_000_000)
    builder.append(0, timestamp=None, key=key, value=value, headers=headers)
    real = len(builder.build())
    assert real <= stored_size(Message("t", key, value, headers)) <= real + 60 + 12 * len(headers)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "GSSAPI is not supported"),
        (
            {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"},
            "sends the password in the clear",
        ),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}, "needs kafka.username"),
        ({"security_protocol": "SSL", "ca_file": "/no/ca.pem"}, "ca_file /no/ca.pem cannot be read: No such"),
        ({"security_protocol": "SSL", "cert_file": "/no/c.pem"}, "come together"),
        ({"start": "middle"}, "'middle' must be earliest or latest"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(given_settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KafkaSource(KafkaSettings(**given_settings), ["t"])


def test_a_password_is_not_shown() -> None:
    assert "hush" not in repr(KafkaSettings(password="hush"))


@pytest.mark.parametrize(
    ("servers", "message"),
    [
        ("127.0.0.1:1", r"Kafka at 127\.0\.0\.1:1 cannot be reached: .*Connect call failed"),
        ("a:b:c", "bootstrap_servers 'a:b:c' cannot be used"),
    ],
)
async def test_a_probe_says_why_there_is_no_broker(servers: str, message: str) -> None:
    (finding,) = await probe(KafkaSettings(servers), ["t"])
    assert not finding.ok
    assert re.search(message, finding.detail), finding.detail
    assert "\n" not in finding.detail


async def test_a_broker_that_names_none_yet_is_waited_for() -> None:
    """Met once in six freezes: a producer that looks for its coordinator then, and aiokafka asserts."""
    client = AIOKafkaProducer(bootstrap_servers="127.0.0.1:1", transactional_id="t")
    client.start = partial(client.client.coordinator_lookup, CoordinationType.TRANSACTION, "t")
    with pytest.raises(UnreachableError, match="names no brokers yet"):
        await started(lambda: client, KafkaSettings("127.0.0.1:1"))


async def test_a_source_without_a_broker_beats_and_ends_when_asked() -> None:
    source = KafkaSource(KafkaSettings("127.0.0.1:1"), ["t"])
    async with asyncio.timeout(30):
        async for event in source.events():
            assert event.partition == NO_PARTITION
            source.close()
    assert source.stats.unreachable == 1


async def test_a_sink_without_a_broker_waits_until_it_is_closed() -> None:
    sink = KafkaSink(KafkaSettings("127.0.0.1:1"), "none", ENCODE)
    publishing = asyncio.create_task(sink.publish([letter(b"x")]))
    done, _ = await asyncio.wait({publishing}, timeout=0.05)
    assert not done
    sink.close()
    with pytest.raises(BrokerError, match="stopped while Kafka"):
        await publishing
    await sink.stop()


def test_aiokafka_repeats_itself_three_times_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    kafka.quieten()
    kafka.quieten()
    for _ in range(50):
        logging.getLogger("aiokafka.conn").warning("again and %s", uuid4())
    assert len(caplog.records) == 3


# ------------------------------------------------------------------ topics
@pytest.mark.kafka
async def test_topics_are_made_once_with_their_settings(kafka_bootstrap: str) -> None:
    settings, first, second = KafkaSettings(kafka_bootstrap), fresh("made"), fresh("made")
    await create_topic(kafka_bootstrap, first, 2)
    wanted = [TopicSpec(first, 7), TopicSpec(second, 3, {"cleanup.policy": "compact"})]
    assert await ensure_topics(settings, wanted) == [TopicState(first, 2), TopicState(second, 3, True)]
    assert await ensure_topics(settings, wanted) == [TopicState(first, 2), TopicState(second, 3)]
    assert await check_topics(settings, [second, first]) == {first: 2, second: 3}


@pytest.mark.kafka
async def test_a_topic_that_the_broker_refuses_is_said(kafka_bootstrap: str) -> None:
    bad = TopicSpec(fresh("bad"), 1, {"cleanup.policy": "hoard"})
    with pytest.raises(BrokerError, match=f"topic '{bad.name}' could not be created: .*hoard"):
        await ensure_topics(KafkaSettings(kafka_bootstrap), [bad])


@pytest.mark.kafka
async def test_a_missing_input_topic_is_named(kafka_bootstrap: str, made: Made) -> None:
    with pytest.raises(InputError, match=r"topic 'sensors\.nowhere' does not exist on Kafka at"):
        await until(made("sensors.nowhere"), lambda event: False)


@pytest.mark.kafka
async def test_a_probe_lists_what_run_needs(kafka_bootstrap: str) -> None:
    topic = fresh("probed")
    await create_topic(kafka_bootstrap, topic, 2)
    found = await probe(KafkaSettings(kafka_bootstrap), [topic, "nowhere"], [TopicSpec("missing.alerts")])
    assert [(f.what, f.ok) for f in found] == [
        ("broker", True),
        (f"input topic {topic}", True),
        ("input topic nowhere", False),
        ("topic missing.alerts", False),
        ("group anomalyd", True),
    ]


@pytest.mark.kafka
async def test_a_probe_warns_of_state_that_would_expire_and_of_clocks_that_nobody_checks(
    kafka_bootstrap: str,
) -> None:
    settings, topic, state = KafkaSettings(kafka_bootstrap), fresh("probed"), fresh("state")
    await ensure_topics(settings, [TopicSpec(topic, 1, {"message.timestamp.type": "CreateTime"})])
    for policy, sound in (("delete", False), ("compact", True), ("compact,delete", False)):
        spec = TopicSpec(f"{state}.{policy.replace(',', '.')}", 1, {"cleanup.policy": policy})
        await ensure_topics(settings, [spec])
        _, clock, kept, _ = await probe(
            settings, [topic], [TopicSpec(spec.name, 1, {"cleanup.policy": "compact"})]
        )
        assert "LogAppendTime would refuse" in clock.detail
        assert kept.ok is sound
        assert sound or f"its cleanup.policy is {policy}" in kept.detail


@pytest.mark.kafka
async def test_a_client_that_stopped_asking_for_records_ends_the_run(
    kafka_bootstrap: str, made: Made
) -> None:
    topic = fresh("deaf")
    await create_topic(kafka_bootstrap, topic, 1)
    await produce(kafka_bootstrap, topic, numbers(3))
    source = made(topic)

    def deafened(event: SourceEvent) -> bool:
        if isinstance(event, PolledRecords) and event.items:
            assert source._consumer is not None
            source._consumer._fetcher.error_future.cancel()
        return False

    with pytest.raises(BrokerError, match=f"the client stopped asking for {topic}"):
        await until(source, deafened)


@pytest.mark.kafka
async def test_a_follower_keeps_the_newest_of_each_key_and_goes_on_after_its_client_died(
    kafka_bootstrap: str,
) -> None:
    async with followed(kafka_bootstrap, [(b"k%d" % (i % 3), b"%d" % i) for i in range(3_001)]) as follower:
        expected = [Entry(b"k1", b"2998"), Entry(b"k2", b"2999"), Entry(b"k0", b"3000")]
        assert await follower.catch_up() == expected
        assert await follower.poll() == []
        assert follower._consumer is not None
        follower._consumer._fetcher.error_future.cancel()
        await asyncio.wait({follower._consumer._fetcher.error_future})
        with pytest.raises(UnreachableError, match="stopped asking"):
            await follower.poll()
        assert await follower.poll() == expected  # and not, piece by piece, all that ever was


@pytest.mark.kafka
async def test_a_read_that_breaks_off_is_begun_anew(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had been read when the broker fell silent was told to nobody."""
    sound, reads = Follower._read, 0

    async def broken(self: Follower, *arguments: Any) -> list[Entry]:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise RequestTimedOutError
        return await sound(self, *arguments)

    async with followed(kafka_bootstrap, [(b"%d" % i, b"x" * 900_000) for i in range(5)]) as follower:
        with monkeypatch.context() as patch:
            patch.setattr(Follower, "_read", broken)
            with pytest.raises(UnreachableError, match="request timed out"):
                await follower.catch_up()
        assert [entry.key for entry in await follower.catch_up()] == [b"%d" % i for i in range(5)]


def test_what_is_held_of_a_compacted_topic_has_a_bound() -> None:
    def entry(i: int, size: int = 100) -> Entry:
        return Entry(b"k%d" % i, bytes(size))

    newest = Newest(most_bytes=10 * (100 + ENTRY_BYTES + 2) + 5)
    newest.take([entry(i) for i in range(10)])
    newest.take([entry(0)])  # written last now
    assert (len(newest.entries), newest.dropped) == (10, 0)
    newest.take([entry(3, 50), entry(3), Entry(b"k4", None)])
    assert (len(newest.entries), newest.dropped) == (10, 0)
    newest.take([entry(4), entry(10)])
    assert newest.dropped == 1
    assert newest.entries[0].key == b"k2"
    assert newest.entries[-1].key == b"k10"
    newest.take([entry(i) for i in range(1_000)])
    assert len(newest.entries) <= 10


@pytest.mark.kafka
async def test_state_that_takes_long_to_read_lets_the_loop_beat_and_is_read_to_its_end(
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
    sound = Follower._read
    beats = 0

    async def slow(self: Follower, *arguments: Any) -> list[Entry]:
        seen = beats
        await eventually(lambda: beats > seen)
        return await sound(self, *arguments)

    monkeypatch.setattr(Follower, "_read", slow)
    monkeypatch.setattr(kafka.source, "DEADLINE_S", 1.0)
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


async def test_a_client_that_cancels_itself_while_it_is_closed_cancels_nobody_else() -> None:
    """aiokafka's consumer does so where its broker goes at the same time."""
    done = []

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def refused() -> None:
        raise KafkaError

    async def broken() -> None:
        raise ZeroDivisionError

    for closing in (cancelled, refused):
        await quietly(closing())
        done.append(closing)
    assert done == [cancelled, refused]
    with pytest.raises(ZeroDivisionError):
        await quietly(broken())


@pytest.mark.kafka
async def test_a_dead_client_leaves_nothing_behind(kafka_bootstrap: str) -> None:
    async with followed(kafka_bootstrap, []) as follower:
        await follower.catch_up()
        consumer = follower._consumer
        assert consumer is not None
        consumer._fetcher._get_actions_per_node = None  # calling it is a bug, as aiokafka's own would be
        consumer._fetcher._notify(consumer._fetcher._wait_consume_future)
        await asyncio.wait({consumer._fetcher.error_future})
        with pytest.raises(UnreachableError, match="not callable"):
            await follower.poll()
        assert consumer._client._sync_task is None or consumer._client._sync_task.done()
        assert not any(connected.connected() for connected in consumer._client._conns.values())


# ------------------------------------------------------------------ reading
@pytest.mark.kafka
async def test_records_come_in_order_as_they_are(kafka_bootstrap: str, made: Made) -> None:
    topic = fresh("poison")
    await create_topic(kafka_bootstrap, topic)
    values = [b"{}", b"\xff\xfe\x00", b"", b"{" * 10_000, bytes(range(256)), b"x" * 900_000, b"last"]
    await produce(kafka_bootstrap, topic, [(b"\xffkey", value) for value in values] + [(b"tomb", None)])
    assigned, found = await records(made(topic), len(values) + 1)
    assert assigned == [Assigned(InputPartition(topic, 0), 0, 0)]
    assert [record.value for record in found] == [*values, b""]
    assert {record.key for record in found} == {b"\xffkey", b"tomb"}
    assert [record.offset for record in found] == list(range(len(values) + 1))
    assert all(abs(record.timestamp_ns - time.time_ns()) < 600e9 for record in found)


@pytest.mark.kafka
async def test_nothing_is_made_of_a_record_beyond_what_the_parser_makes(
    kafka_bootstrap: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may not be seen otherwise when another aiokafka goes past ``source._Buffer``: only slower."""
    topic = fresh("in")
    await create_topic(kafka_bootstrap, topic, 1)
    await produce(kafka_bootstrap, topic, numbers(50))
    made_anyway: list[Any] = []
    monkeypatch.setattr(PartitionRecords, "_consumer_record", lambda *args: made_anyway.append(args))
    _, found = await records(made(topic), 50)
    assert [(r.key, r.value) for r in found] == numbers(50)
    assert not made_anyway


@pytest.mark.kafka
async def test_a_restart_resumes_at_the_commit_and_replays_for_the_windows(
    kafka_bootstrap: str, made: Made
) -> None:
    topic = fresh("resumed")
    there = InputPartition(topic, 0)
    await create_topic(kafka_bootstrap, topic)
    await produce(kafka_bootstrap, topic, numbers(10))
    first = made(topic, commit_interval=timedelta(hours=1))
    await records(first, 10)
    await first.commit({there: PartitionCommit(Position(6, 2))})
    await first.commit({there: PartitionCommit(Position(7, 3))})
    await first.stop()  # an interval that is not over does not keep a position from being written
    assigned, found = await records(made(topic), 7)
    assert assigned == [Assigned(there, 3, 7)]
    assert [record.offset for record in found] == [3, 4, 5, 6, 7, 8, 9]


@asynccontextmanager
async def administering(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("log_start", "expected", "clamped", "restarted"),
    [(2, (3, 7), 0, 0), (5, (5, 7), 1, 0), (7, (7, 7), 1, 0), (9, (9, 9), 0, 1)],
)
async def test_what_fell_off_the_log_is_counted(
    kafka_bootstrap: str,
    made: Made,
    log_start: int,
    expected: tuple[int, int],
    clamped: int,
    restarted: int,
) -> None:
    topic = fresh("expired")
    there = InputPartition(topic, 0)
    await create_topic(kafka_bootstrap, topic)
    await produce(kafka_bootstrap, topic, numbers(10))
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
async def test_a_topic_made_anew_is_read_from_its_start(kafka_bootstrap: str, made: Made) -> None:
    topic = fresh("anew")
    await create_topic(kafka_bootstrap, topic)
    await produce(kafka_bootstrap, topic, numbers(10))
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
    kafka_bootstrap: str, made: Made
) -> None:
    topic = fresh("latest")
    there = InputPartition(topic, 0)
    await create_topic(kafka_bootstrap, topic)
    await produce(kafka_bootstrap, topic, numbers(5))
    first = made(topic, start="latest")
    seen = await until(first, lambda event: isinstance(event, PolledRecords) and event.partition == there)
    assert Assigned(there, 5, 5) in seen
    await first.stop()
    await produce(kafka_bootstrap, topic, numbers(2))  # nobody reads; they are not to be skipped
    assigned, found = await records(made(topic, start="latest"), 2)
    assert assigned == [Assigned(there, 5, 5)]
    assert [record.offset for record in found] == [5, 6]


@pytest.mark.kafka
async def test_an_idle_log_says_since_when_and_where_its_end_is(kafka_bootstrap: str, made: Made) -> None:
    topic = fresh("idle")
    await create_topic(kafka_bootstrap, topic)
    await produce(kafka_bootstrap, topic, numbers(4))
    source = made(topic)
    seen = await until(source, lambda event: isinstance(event, PolledRecords) and event.idle > timedelta(0))
    assert isinstance(seen[-1], PolledRecords)
    assert seen[-1].items == ()
    assert seen[-1].end_offset == 4
    assert source.stats.lag == {InputPartition(topic, 0): 0}
    assert not any(isinstance(event, PolledRecords) and event.items and event.idle for event in seen)


@pytest.mark.kafka
async def test_a_commit_of_a_partition_that_is_not_ours_is_counted(kafka_bootstrap: str, made: Made) -> None:
    topic = fresh("stale")
    await create_topic(kafka_bootstrap, topic)
    source = made(topic)
    await until(source, lambda event: isinstance(event, Assigned))
    await source.commit({InputPartition(topic, 5): PartitionCommit(Position(1, 1))})
    assert source.stats.stale_commits == 1


# ------------------------------------------------------------------ rebalances
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
    kafka_bootstrap: str, made: Made
) -> None:
    topic = fresh("shared")
    await create_topic(kafka_bootstrap, topic, 4)
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
    kafka_bootstrap: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka.source, "FINISH_S", 0.0)
    topic = fresh("slow")
    await create_topic(kafka_bootstrap, topic, 1)
    await produce(kafka_bootstrap, topic, numbers(50))
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


def beat_of_a_partition(event: SourceEvent) -> bool:
    return isinstance(event, PolledRecords) and not event.items and event.partition != NO_PARTITION


HELD: dict[str, Callable[[SourceEvent], bool]] = {
    "records": lambda event: isinstance(event, PolledRecords) and bool(event.items),
    "a beat of a partition": beat_of_a_partition,
    "a beat": lambda event: isinstance(event, PolledRecords) and event.partition == NO_PARTITION,
    "an assignment": lambda event: isinstance(event, Assigned),
}


@pytest.mark.kafka
@pytest.mark.parametrize("held", HELD.values(), ids=HELD.keys())
async def test_a_revocation_waits_for_whatever_the_loop_is_busy_with(
    kafka_bootstrap: str, made: Made, held: Callable[[SourceEvent], bool]
) -> None:
    """After any event the loop may publish: a sink that blocks, in effect."""
    topic = fresh("held")
    await create_topic(kafka_bootstrap, topic, 1)
    await produce(kafka_bootstrap, topic, numbers(50))
    first, second = made(topic), made(topic)
    here = InputPartition(topic, 0)
    events = first.events()
    async with asyncio.timeout(60):
        async for event in events:
            if held(event):
                break  # the loop is busy with it from here on
        taking = asyncio.create_task(until(second, lambda e: isinstance(e, Assigned)))
        await eventually(lambda: first._rebalancing)
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
async def test_what_was_published_since_the_last_commit_is_committed_before_partitions_go(
    kafka_bootstrap: str, made: Made
) -> None:
    topic = fresh("lazy")
    await create_topic(kafka_bootstrap, topic, 4)
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
async def test_a_revocation_waits_for_the_last_commit_of_a_loop_that_ends(
    kafka_bootstrap: str, made: Made
) -> None:
    topic = fresh("ending")
    await create_topic(kafka_bootstrap, topic, 1)
    await produce(kafka_bootstrap, topic, numbers(50))
    ending, second = made(topic), made(topic)
    async with asyncio.timeout(60):
        async for event in ending.events():
            if isinstance(event, PolledRecords) and event.items:
                ending.close()
        taking = asyncio.create_task(until(second, lambda e: isinstance(e, Assigned)))
        await eventually(lambda: ending._rebalancing)
        await ending.commit({InputPartition(topic, 0): PartitionCommit(Position(50, 40))})
        assert ending.stats.stale_commits == 0
        await ending.stop()
        (*_, assigned) = await taking
    assert isinstance(assigned, Assigned)
    assert (assigned.publish_from, assigned.replay_from) == (50, 40)


@pytest.mark.kafka
async def test_a_loop_that_failed_holds_no_revocation(
    kafka_bootstrap: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka.source, "FINISH_S", 3_600.0)
    topic = fresh("failed")
    await create_topic(kafka_bootstrap, topic, 1)
    failed, second = made(topic), made(topic)
    events = failed.events()
    async with asyncio.timeout(60):
        while not isinstance(await anext(events), Assigned):
            pass
        with pytest.raises(ZeroDivisionError):
            await events.athrow(ZeroDivisionError())  # type: ignore[attr-defined]  # it is a generator
        taking = asyncio.create_task(until(second, lambda e: isinstance(e, PolledRecords)))
        await eventually(lambda: not failed._live)
        await failed.stop()
        await taking


# ------------------------------------------------------------------ silence
@pytest.mark.kafka
@pytest.mark.slow
async def test_silence_is_the_brokers_and_not_an_idle_topics(own_broker: Broker) -> None:
    """One source has the partition, the other none; both hear of an outage, and of its end."""
    own_broker.start()
    topic = fresh("quiet")
    await create_topic(own_broker.bootstrap, topic, 1)
    settings = KafkaSettings(own_broker.bootstrap, group_id=fresh("group"))
    sources = [KafkaSource(settings, (topic,)) for _ in range(2)]
    longest = 0.0
    beats = 0

    async def pull(source: KafkaSource) -> None:
        nonlocal beats, longest
        async for event in source.events():
            if isinstance(event, PolledRecords):
                beats += 1
                longest = max(longest, source.silence_s)

    try:
        async with asyncio.timeout(180), asyncio.TaskGroup() as group:
            for source in sources:
                group.create_task(pull(source))
            await eventually(lambda: all(source.stats.rebalances for source in sources))
            start = beats
            await eventually(lambda: beats > start + 15)
            usual = longest  # the two have waited for each other, too
            assert usual < 2 * kafka.source.ASK_AFTER_S

            async def silent() -> None:
                await eventually(lambda: all(source.silence_s > usual + 3 for source in sources))

            async def answered() -> None:
                await eventually(lambda: all(source.silence_s <= usual + 1 for source in sources))

            own_broker.freeze()
            await silent()
            own_broker.thaw()
            await answered()
            own_broker.kill()
            await silent()
            await asyncio.to_thread(own_broker.start)
            await answered()
            for source in sources:
                source.close()
    finally:
        for source in sources:
            await source.stop()


@pytest.mark.kafka
async def test_a_rebalance_that_waits_for_another_member_is_no_silence(
    kafka_bootstrap: str, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its JoinGroup is answered only when the other has joined; only metadata is, meanwhile."""
    monkeypatch.setattr(kafka.source, "ASK_AFTER_S", 0.2)
    topic = fresh("waiting")
    await create_topic(kafka_bootstrap, topic, 1)
    busy, waiting = made(topic), made(topic)
    events = busy.events()
    async with asyncio.timeout(60):
        while not isinstance(await anext(events), Assigned):
            pass  # held: the group waits for it
        answered: list[float] = []
        async for _ in waiting.events():
            if busy._rebalancing:
                answered.append(waiting._last_answer())
            if len(set(answered)) >= 4:
                break
        assert waiting.stats.rebalances == 0
        # Nor does whoever waits for the group keep its process from ending: the group may wait for a dead member.
        monkeypatch.setattr(kafka.source, "STOP_S", 3600.0)
        await waiting.stop()
        await busy.stop()


# ------------------------------------------------------------------ writing
def letter(value: bytes, key: bytes | None = b"pump-1") -> DeadLetter:
    record = Record(3, key, value, 1_700_000_000_000_000_000)
    return DeadLetter("pumps", InputPartition("in", 0), Rejected(record, Reason.NOT_JSON, "no"))


@pytest.fixture
async def sink(kafka_bootstrap: str) -> AsyncIterator[tuple[KafkaSink, str]]:
    prefix = fresh("out")
    sink = KafkaSink(KafkaSettings(kafka_bootstrap), prefix, ENCODE)
    yield sink, f"{prefix}.dead-letter"
    await sink.stop()


@pytest.mark.kafka
async def test_what_is_published_is_there_in_order_by_key(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, topic = sink
    await create_topic(kafka_bootstrap, topic, 3)
    letters = [letter(b"\xff%d" % i, b"k%d" % (i % 5)) for i in range(3000)]
    await out.publish(letters)
    await out.publish([])
    await out.publish([letter(b"the last", b"k0")])
    found = await read_topic(kafka_bootstrap, topic)
    for key in {record.key for record in found}:
        mine = [record for record in found if record.key == key]
        assert len({record.partition for record in mine}) == 1
        expected = [each.rejected.record.value for each in letters if each.rejected.record.key == key]
        assert [record.value for record in mine] == expected + ([b"the last"] if key == b"k0" else [])
    assert dict(found[0].headers)["reason"] == b"not_json"


@pytest.mark.kafka
async def test_a_message_that_its_topic_does_not_take_is_refused_before_anything_is_sent(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, letters = sink
    topic = letters.replace("dead-letter", "scores")
    await create_topic(kafka_bootstrap, topic, 1, {"max.message.bytes": "2000"})
    small, large = (ScoredRow("pumps", "a" * n, 0, 1.0, 0, 0, 0, 0, True, "m1") for n in (300, 1500))
    with pytest.raises(BrokerError, match=rf"message of 3\d\d\d bytes is too large for topic '{topic}'"):
        await out.publish([small, large])
    assert await read_topic(kafka_bootstrap, topic) == []
    # Many small ones do not make one batch that is too large.
    await out.publish([small] * 100)
    assert len(await read_topic(kafka_bootstrap, topic)) == 100


@pytest.mark.kafka
async def test_a_dead_letter_is_cut_down_to_what_its_topic_takes(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, topic = sink
    await create_topic(kafka_bootstrap, topic, 1, {"max.message.bytes": "2000"})
    await out.publish([letter(b"small"), letter(b"x" * 3000), letter(b"y", b"k" * 3000)])
    small, cut, long_key = await read_topic(kafka_bootstrap, topic)
    assert small.value == b"small"
    assert cut.value == b"x" * 1000
    headers = dict(cut.headers)
    assert headers["length"] == b"3000"
    assert headers["sha256"] == hashlib.sha256(b"x" * 3000).hexdigest().encode()
    assert dict(long_key.headers)["key-length"] == b"3000"


@pytest.mark.kafka
async def test_a_missing_output_topic_is_named_at_once(sink: tuple[KafkaSink, str]) -> None:
    out, topic = sink
    async with asyncio.timeout(20):
        with pytest.raises(BrokerError, match=f"topic '{topic}' does not exist"):
            await out.publish([letter(b"x")])


@pytest.mark.kafka
async def test_a_refused_send_is_an_error_and_the_next_one_works(
    kafka_bootstrap: str, sink: tuple[KafkaSink, str]
) -> None:
    out, topic = sink
    await create_topic(kafka_bootstrap, topic, 1, {"cleanup.policy": "compact"})
    with pytest.raises(BrokerError, match=f"topic '{topic}' refused a message"):
        await out.publish([letter(b"x", None)])  # compacted: a key is needed
    await out.publish([letter(b"y", b"key")])
    assert [record.value for record in await read_topic(kafka_bootstrap, topic)] == [b"y"]


# ------------------------------------------------------------------ outages
@pytest.mark.kafka
@pytest.mark.slow
async def test_a_broker_that_goes_and_comes_back_costs_nothing(own_broker: Broker) -> None:
    """Down at the start, killed while running, frozen while writing."""
    await asyncio.to_thread(own_broker.start)
    settings = KafkaSettings(own_broker.bootstrap, commit_interval=timedelta(milliseconds=50))
    topic, out = "in", "o.dead-letter"
    await create_topic(own_broker.bootstrap, topic)
    await create_topic(own_broker.bootstrap, out)
    await produce(own_broker.bootstrap, topic, numbers(10))
    own_broker.kill()

    source, sink = KafkaSource(settings, [topic]), KafkaSink(settings, "o", ENCODE)
    seen: list[int] = []
    beats = 0

    async def work() -> None:
        nonlocal beats
        async for event in source.events():
            beats += isinstance(event, PolledRecords) and not event.items
            if isinstance(event, PolledRecords) and event.items:
                await sink.publish([letter(record.value, record.key) for record in event.items])
                seen.extend(record.offset for record in event.items)
                after = seen[-1] + 1
                await source.commit({event.partition: PartitionCommit(Position(after, after))})

    async def reached(count: int) -> None:
        await eventually(lambda: len(set(seen)) >= count)

    async def beaten() -> None:
        before = beats
        await eventually(lambda: beats >= before + 2)

    async with asyncio.timeout(150):
        working = asyncio.create_task(work())
        await beaten()
        await asyncio.to_thread(own_broker.start)
        await reached(10)
        own_broker.kill()
        await beaten()
        await asyncio.to_thread(own_broker.start)
        await produce(own_broker.bootstrap, topic, numbers(10))
        await reached(20)
        own_broker.freeze()
        await beaten()
        own_broker.thaw()
        await produce(own_broker.bootstrap, topic, numbers(10))
        await reached(30)
        source.close()
        await working
        await source.stop()
        await sink.stop()
        written = [int(record.value) for record in await read_topic(own_broker.bootstrap, out)]
        again = KafkaSource(settings, [topic])
        resumed = await until(again, lambda event: isinstance(event, Assigned))
        await again.stop()
    assert written == [*range(10)] * 3
    assert seen == list(range(30))
    assert resumed[-1] == Assigned(InputPartition(topic, 0), 30, 30)


# ------------------------------------------------------------------ what is there now
@pytest.mark.kafka
async def test_what_is_there_now_is_read_without_a_group(kafka_bootstrap: str) -> None:
    topic, empty = fresh("now"), fresh("empty")
    await create_topic(kafka_bootstrap, topic, 3)
    await create_topic(kafka_bootstrap, empty)
    for partition, count in ((0, 2500), (2, 10)):
        await produce(kafka_bootstrap, topic, numbers(count), partition=partition)
    settings = KafkaSettings(kafka_bootstrap, group_id=fresh("unused"))
    found: dict[int, list[Record]] = {}
    shares = []
    async for piece in read_now(settings, [topic, empty]):
        found.setdefault(piece.partition.number, []).extend(piece.records)
        shares.append(piece.share)
        if len(shares) == 1:  # what comes now is not part of it
            await produce(kafka_bootstrap, topic, [(None, b"later")], partition=2)
    assert {n: [r.value for r in records] for n, records in found.items()} == {
        0: [value for _, value in numbers(2500)],
        2: [value for _, value in numbers(10)],
    }
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    few: dict[int, list[int]] = {}
    async for piece in read_now(settings, [topic], newest=4):
        few.setdefault(piece.partition.number, []).extend(r.offset for r in piece.records)
    assert few == {0: [2496, 2497, 2498, 2499], 2: [7, 8, 9, 10]}


@pytest.mark.kafka
async def test_the_newest_records_of_a_topic(kafka_bootstrap: str) -> None:
    topic = fresh("newest")
    await create_topic(kafka_bootstrap, topic, 2)
    settings = KafkaSettings(kafka_bootstrap)
    assert await newest_records(settings, topic, 5) == ([], True)
    await produce(kafka_bootstrap, topic, [(None, b"old%d" % i) for i in range(4)], partition=0)
    await asyncio.sleep(0.01)  # the timestamps' resolution
    await produce(kafka_bootstrap, topic, [(None, b"new%d" % i) for i in range(3)], partition=1)
    found, whole = await newest_records(settings, topic, 5)
    assert ([r.value for r in found], whole) == ([b"old2", b"old3", b"new0", b"new1", b"new2"], False)
    assert (await newest_records(settings, topic, 8))[1]


@pytest.mark.kafka
async def test_a_read_of_what_is_not_there_is_one_line(kafka_bootstrap: str) -> None:
    with pytest.raises(InputError, match="topic 'absent-topic' does not exist"):
        await newest_records(KafkaSettings(kafka_bootstrap), "absent-topic", 5)
    with pytest.raises(BrokerError, match="cannot be reached"):
        await newest_records(KafkaSettings("127.0.0.1:1"), "any", 5)
