"""The history of a replica, read from topics."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from daemon.adapters.kafka import KafkaSettings
from daemon.adapters.schemas import RegistryError
from daemon.alert import ShadowCounts
from daemon.budget import Budget
from daemon.config.presets import CUSTOM, mapping_of
from daemon.control import Feedback, Verdict, written
from daemon.domain import SECOND_NS, AlarmPolicy, Format, InputPartition, ModelSettings, Phase, Segment
from daemon.errors import BrokerError, InputError
from daemon.mapping import RegistryAddress
from daemon.runtime.history import FoundHistory, HistoryNotReady
from daemon.runtime.published import NOTHING, OwnTopics
from daemon.runtime.replica_history import ReplicaHistory
from daemon.runtime.shadow import ShadowTally
from daemon.runtime.topic_history import TopicHistory
from daemon.runtime.trainer import TrainingJob, learn
from daemon.stream.drift import ALL_TIME
from daemon.stream.encoding import encode, read_alert
from daemon.stream.steps import RowBlock
from tests.broker import create_topic, produce, read_topic
from tests.registry import Registry
from tests.running import unique
from tests.runtime.histories import BASE_S, NOW, SPEC, alert, block, seconds_of
from tests.runtime.test_drift_watch import HERE, THERE, interval
from tests.stream.decode.framings import avro, confluent, text_of


def test_the_history_of_the_topics_keeps_no_rows_in_the_parent() -> None:
    topics = ReplicaHistory(KafkaSettings(), SPEC, 1_000, oldest=True, own=OwnTopics("alerts"))
    topics.add(block("a", range(1000)))
    assert all(not isinstance(value, RowBlock | list | dict) for value in vars(topics).values())


@pytest.mark.parametrize(("oldest", "rows"), [(True, 300), (False, 1_000)])
def test_a_group_that_starts_at_the_end_trains_on_the_newest_rows_first(oldest: bool, rows: int) -> None:
    topics = ReplicaHistory(KafkaSettings(), SPEC, 1_000, oldest=oldest, own=OwnTopics("alerts"))
    first = topics.first(300, 200)
    assert (first.oldest, first.rows, first.least, first.until_ns) == (oldest, rows, 200, None)
    newest = topics.newest(60 * SECOND_NS)
    assert (newest.oldest, newest.rows, newest.until_ns, newest.judged) == (
        False,
        1_000,
        60 * SECOND_NS,
        True,
    )


def line(asset: str, second: float, value: float = 0.5) -> tuple[bytes, bytes]:
    reading = {"asset": asset, "ts": BASE_S + second, "values": {"a": value, "b": round(value * second, 6)}}
    return asset.encode(), json.dumps(reading).encode()


def fleet(assets: int, seconds: range) -> list[tuple[bytes, bytes]]:
    """Readings as they come, each asset's second after second."""
    rng = np.random.default_rng(3)
    return [
        line(f"p{i}", second, round(float(np.sin(second / 9 + i) + 0.1 * rng.standard_normal()), 4))
        for second in seconds
        for i in range(assets)
    ]


class Topic:
    """A topic with a fleet's readings, and a topic of alerts."""

    def __init__(self, bootstrap: str) -> None:
        self.connection = KafkaSettings(bootstrap, group_id=unique("group"))
        self.name, self.alerts = unique("in"), unique("alerts")
        self.spec = replace(SPEC, topics=(self.name,))

    async def make(self, partitions: int, lines: Sequence[tuple[bytes | None, bytes]]) -> None:
        await create_topic(self.connection.bootstrap_servers, self.name, partitions)
        await create_topic(self.connection.bootstrap_servers, self.alerts, 2)
        await produce(self.connection.bootstrap_servers, self.name, lines)

    async def alarm(self, *messages: bytes, key: bytes = b"p1") -> None:
        await produce(
            self.connection.bootstrap_servers, self.alerts, [(key, message) for message in messages]
        )

    def history(self, rows: int = 100_000, **more: object) -> TopicHistory:
        made = TopicHistory(self.connection, self.spec, rows, own=OwnTopics(self.alerts))
        return replace(made, **more)  # type: ignore[arg-type]

    async def found(self, rows: int = 100_000, **more: object) -> FoundHistory:
        return await self.history(rows, **more).found(lambda share, doing: None)


@pytest.fixture
async def topic(kafka_bootstrap: str) -> Topic:
    return Topic(kafka_bootstrap)


def same(one: Sequence[Segment], other: Sequence[Segment]) -> bool:
    return [(s.asset, s.first_row, s.condition) for s in one] == [
        (s.asset, s.first_row, s.condition) for s in other
    ] and all(np.array_equal(a.values, b.values, equal_nan=True) for a, b in zip(one, other, strict=True))


@pytest.mark.kafka
async def test_the_same_rows_are_found_however_the_readings_lie_in_partitions(kafka_bootstrap: str) -> None:
    lines = fleet(7, range(1200))
    found = []
    for partitions in (1, 3):
        topic = Topic(kafka_bootstrap)
        await topic.make(partitions, lines)
        for history in (
            {"rows": 2_000},
            {"rows": 2_000, "until_ns": (BASE_S + 600) * SECOND_NS},
            {"rows": 2_000, "oldest": True},
        ):
            found.append(await topic.found(**history))  # type: ignore[arg-type]
    for one, three in zip(found[:3], found[3:], strict=True):
        assert same(one.segments, three.segments)
        assert one.until_ns == three.until_ns
    newest, before, oldest = found[:3]
    assert set(seconds_of(newest.segments, "p3")) == set(range(1200 - 2_000 // 7, 1200))
    assert set(seconds_of(before.segments, "p3")) == set(range(600 - 2_000 // 7, 600))
    assert set(seconds_of(oldest.segments, "p3")) == set(range(2_000 // 7 + 1))
    assert oldest.until_ns == (BASE_S + 2_000 // 7 + 1) * SECOND_NS


@pytest.mark.kafka
@pytest.mark.parametrize("oldest", [True, False])
async def test_the_rows_found_do_not_depend_on_how_much_is_read_at_once(topic: Topic, oldest: bool) -> None:
    """A quarter of the assets reports a hundredth as often: their partition is read much further back."""
    lines = [one for one in fleet(4, range(6000)) if one[0] != b"p3" or b'0, "values"' in one[1]]
    await topic.make(4, lines)
    shares: list[float] = []
    history = topic.history(3_000, oldest=oldest)
    few = await history.found(lambda share, doing: shares.append(share))
    assert any(b < a for a, b in itertools.pairwise(shares))  # more was read, from the start
    assert few.records < len(lines)
    whole = await topic.found(1_000_000)
    everything = [
        second for asset in ("p0", "p1", "p2", "p3") for second in seconds_of(whole.segments, asset)
    ]
    assert len(everything) >= len(lines)
    kept = [s for s in few.segments if s.asset == "p3"]
    assert kept
    for s in few.segments:
        (of,) = [w for w in whole.segments if w.asset == s.asset and w.first_row <= s.first_row][-1:]
        start = s.first_row - of.first_row
        assert np.array_equal(of.values[start : start + len(s.values)], s.values, equal_nan=True)


@pytest.mark.kafka
async def test_alerts_of_earlier_processes_exclude_rows_and_garbage_is_one_note(
    topic: Topic,
) -> None:
    await topic.make(2, [*fleet(3, range(600)), *((b"x", bad) for bad in (b"{", b"\xff", b"[" * 5000))])
    await topic.alarm(alert("p1", 100, 105), alert("p1", 100, 120, Phase.CLOSED), b"no alert", b"[" * 9999)
    await topic.alarm(alert("p2", 500, 510), key=b"p2")
    found = await topic.found()
    margin = 2 * SPEC.window
    assert seconds_of(found.segments, "p0") == list(range(600))
    assert seconds_of(found.segments, "p1") == [*range(100 - margin), *range(120 + margin + 1, 600)]
    assert seconds_of(found.segments, "p2") == list(range(500 - margin))
    assert found.notes == (f"2 messages of {topic.alerts} are no alerts and were passed over",)
    assert found.unused == {"rejected": 3}
    everything = await topic.found(own=OwnTopics())
    assert seconds_of(everything.segments, "p2") == list(range(600))


@pytest.mark.kafka
async def test_unreadable_records_do_not_mislead_the_bisection(topic: Topic) -> None:
    """Half of the topic is garbage, in the middle, where bisection looks first."""
    half = fleet(2, range(400))
    garbage = [(b"p0", b"not json at all")] * 900
    await topic.make(1, [*half, *garbage, *fleet(2, range(400, 800))])
    found = await topic.found(until_ns=(BASE_S + 700) * SECOND_NS)
    assert seconds_of(found.segments, "p1") == list(range(700))


@pytest.mark.kafka
async def test_too_few_rows_are_waited_for_and_none_is_an_error(topic: Topic) -> None:
    await topic.make(3, fleet(2, range(50)))
    with pytest.raises(HistoryNotReady, match="holds 100 rows yet, 101 are wanted"):
        await topic.found(least=101)
    assert (await topic.found(least=100)).records == 100
    empty = Topic(topic.connection.bootstrap_servers)
    await empty.make(2, [])
    with pytest.raises(InputError, match="holds no records to learn from"):
        await empty.found()
    with pytest.raises(HistoryNotReady):
        await empty.found(least=1)


@pytest.mark.kafka
async def test_a_retraining_waits_until_what_it_learns_is_judged(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    await topic.make(1, fleet(2, range(400)))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=topic.connection.bootstrap_servers,
        group_id=topic.connection.group_id,
        enable_auto_commit=False,
    )
    partition = TopicPartition(topic.name, 0)
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.commit({partition: 300})
        monkeypatch.setattr("daemon.runtime.topic_history.JUDGED_WITHIN_S", 0.0)
        until_ns = (BASE_S + 200) * SECOND_NS
        with pytest.raises(HistoryNotReady, match="judged up to offset 300 only"):
            await topic.found(until_ns=until_ns, judged=True)
        monkeypatch.setattr("daemon.runtime.topic_history.JUDGED_WITHIN_S", 60.0)
        waiting = asyncio.create_task(topic.found(until_ns=until_ns, judged=True))
        await consumer.commit({partition: 800})
        found = await waiting
    finally:
        await consumer.stop()
    assert seconds_of(found.segments, "p1") == list(range(200))


@pytest.mark.kafka
async def test_an_alerts_topic_that_reaches_back_less_than_the_inputs_is_a_note(topic: Topic) -> None:
    await topic.make(1, fleet(2, range(400)))
    await topic.alarm(alert("p1", 10, 20, Phase.CLOSED), alert("p1", 300, 310, Phase.CLOSED))
    assert (await topic.found()).notes == ()
    (where, _) = await read_topic(topic.connection.bootstrap_servers, topic.alerts)
    admin = AIOKafkaAdminClient(bootstrap_servers=topic.connection.bootstrap_servers)
    for kept_from, expected in ((1, "it begins at"), (2, "it holds none")):
        await admin.start()
        try:
            gone = {TopicPartition(topic.alerts, where.partition): RecordsToDelete(before_offset=kept_from)}
            await admin.delete_records(gone)
        finally:
            await admin.close()
        (note,) = (await topic.found()).notes
        assert note.startswith(f"{topic.alerts} is kept for less than what is learned, from 2023-11-14")
        assert expected in note


@pytest.mark.kafka
async def test_the_event_time_of_the_topics_is_measured(topic: Topic) -> None:
    await topic.make(4, fleet(2, range(400)))
    topics = ReplicaHistory(topic.connection, topic.spec, 1_000, oldest=True, own=OwnTopics(topic.alerts))
    assert not topics.holds(800)
    await topics.measure()
    assert topics.holds(800)
    assert not topics.holds(801)
    assert topics.event_time_ns > (BASE_S + 350) * SECOND_NS


def test_a_history_that_cannot_be_read_is_a_result_and_to_be_repeated() -> None:
    history = TopicHistory(KafkaSettings("127.0.0.1:1"), SPEC, 100)
    outcome = learn(TrainingJob(SPEC, ModelSettings(), AlarmPolicy(), Budget(1.0), 60, history))
    assert outcome.later
    assert not outcome.postponed
    assert "cannot be reached" in outcome.reason
    with pytest.raises(BrokerError):
        history.read(lambda share, doing: None)


@pytest.mark.kafka
async def test_a_history_of_avro_is_that_of_the_same_readings_in_json(kafka_bootstrap: str) -> None:
    """Every reading of the topics fetches the schemas: the rows, the search for an instant, and the measurement."""
    lines = fleet(3, range(400))
    plain, framed = Topic(kafka_bootstrap), Topic(kafka_bootstrap)
    fields = [{"name": name, "type": "double"} for name in ("a", "b")]
    time = {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}}
    schema = {"type": "record", "name": "R", "fields": [{"name": "asset", "type": "string"}, time, *fields]}
    with Registry() as registry:
        id = registry.register("readings", text_of(schema))
        avro_lines = []
        for key, value in lines:
            reading = json.loads(value)
            tree = {"asset": reading["asset"], "ts": int(reading["ts"] * 1000), **reading["values"]}
            avro_lines.append((key, confluent(id, avro(schema, tree))))
        await plain.make(2, lines)
        await framed.make(2, avro_lines)
        document = {"decode": "avro", "asset": "asset", "time": "ts", "leaves": "."}
        mapping = mapping_of(CUSTOM, document)
        address = RegistryAddress((registry.url,), timeout_s=5.0)
        mapping = replace(mapping, decode=replace(mapping.decode, registry=address))
        framed.spec = replace(framed.spec, format=Format.MAPPED, input=mapping)
        for more in ({"rows": 500}, {"rows": 500, "until_ns": (BASE_S + 300) * SECOND_NS}):
            one, other = await plain.found(**more), await framed.found(**more)  # type: ignore[arg-type]
            assert sum(len(segment.values) for segment in one.segments) >= 490
            assert same(one.segments, other.segments)
        measured = ReplicaHistory(
            framed.connection, framed.spec, 500, oldest=False, own=OwnTopics(framed.alerts)
        )
        await measured.measure()
        assert measured.event_time_ns >= (BASE_S + 390) * SECOND_NS
    with pytest.raises(RegistryError, match="Connection refused"):
        await framed.found(rows=500)
    with pytest.raises(RegistryError, match="Connection refused"):
        await measured.measure()


@pytest.mark.kafka
async def test_the_drift_of_all_partitions_is_read_from_its_topic(topic: Topic) -> None:
    await topic.make(2, [])
    drift = unique("drift")
    await create_topic(topic.connection.bootstrap_servers, drift)
    own = OwnTopics(drift=drift)
    topics = ReplicaHistory(topic.connection, topic.spec, 1_000, oldest=True, own=own)
    records = [encode(interval(hour, where=THERE), NOW).value for hour in range(3)]
    other = replace(interval(3, "ok", THERE), stream="fans")
    messages = [records[0], b"no record", records[1], encode(other, NOW).value, records[2]]
    for count, drifts in ((4, False), (5, True)):
        lines = [(b"pumps", message) for message in (messages[:4] if count == 4 else messages[4:])]
        await produce(topic.connection.bootstrap_servers, drift, lines)
        await topics.measure_drift()
        assert (topics.drift.drifting("m1") is not None) is drifts
    known = topics.drift
    await topics.measure_drift()
    assert topics.drift is known  # nothing came: nothing is read


@pytest.mark.kafka
async def test_the_counts_of_a_candidate_in_shadow_are_read_of_all_partitions_each_once(topic: Topic) -> None:
    drift = unique("drift")
    await create_topic(topic.connection.bootstrap_servers, drift)
    topics = ReplicaHistory(topic.connection, topic.spec, 1_000, oldest=True, own=OwnTopics(drift=drift))
    topics.shadow = tally = ShadowTally("m1", "m2", 0)
    counts = ShadowCounts("m2", 90, episodes=2, both=1)
    records = [
        replace(interval(hour, "ok", where), shadow=counts) for hour in range(2) for where in (HERE, THERE)
    ]
    others = [replace(records[0], stream="fans"), replace(records[0], model="m0")]
    judged = 0
    for some in (records[:3], others, records[3:], ()):
        lines = [(b"pumps", encode(one, NOW).value) for one in some] + [(b"pumps", b"no record of m1")]
        await produce(topic.connection.bootstrap_servers, drift, lines)
        await topics.measure_shadow()
        judged += sum(one.windows + one.explained for one in some if one in records)
        assert tally.before(ALL_TIME)[1] == judged
    assert tally.counts == ShadowCounts("m2", 360, episodes=8, both=4)
    assert tally.reached == {HERE: records[-1].end_ns, THERE: records[-1].end_ns}
    topics.shadow = ShadowTally("m1", "m2", 0)
    await topics.measure_shadow()
    assert topics.shadow.counts == tally.counts  # as after a restart


@pytest.mark.kafka
async def test_verdicts_and_drift_intervals_of_the_topics_say_what_is_learned(topic: Topic) -> None:
    await topic.make(2, fleet(2, range(600)))
    spans = [(50, 60), (200, 210), (350, 360)]
    alarms = [[alert("p1", *span), alert("p1", *span, Phase.CLOSED)] for span in spans]
    await topic.alarm(*(message for each in alarms for message in each))
    prints = [read_alert(each[0]).fingerprint for each in alarms]
    own = OwnTopics(topic.alerts, unique("drift"), unique("feedback"))
    assert await own.existing(topic.connection) == OwnTopics(topic.alerts)
    for name in (own.drift, own.feedback):
        assert name is not None
        await create_topic(topic.connection.bootstrap_servers, name)
    said = [
        (prints[0], Verdict.CONFIRMED),
        (prints[0], Verdict.FALSE_ALARM),  # the last one counts
        (prints[1], Verdict.CONFIRMED),
    ]
    lines = [(None, written(Feedback(*each))) for each in said]
    await produce(topic.connection.bootstrap_servers, str(own.feedback), [(None, b"{"), *lines])
    where = {name: number for number in (0, 1) for name in await assets_in(topic, number)}
    at = InputPartition(topic.name, where[b"p0"])
    flagged = replace(
        interval(0, where=at), start_ns=(BASE_S + 400) * SECOND_NS, end_ns=(BASE_S + 450) * SECOND_NS
    )
    await produce(
        topic.connection.bootstrap_servers, str(own.drift), [(b"pumps", encode(flagged, NOW).value)]
    )
    found = await topic.found(own=own)
    margin = 2 * SPEC.window
    left = {second for first, last in spans[1:] for second in range(first - margin, last + margin + 1)}
    drifting = set(range(400, 450))
    same_partition = where[b"p0"] == where[b"p1"]
    assert seconds_of(found.segments, "p0") == sorted(set(range(600)) - drifting)
    assert seconds_of(found.segments, "p1") == sorted(
        set(range(600)) - left - (drifting if same_partition else set())
    )
    assert found.notes == (f"1 messages of {own.feedback} say nothing and were passed over",)
    assert found.left_out["alerts"] == 2 * len(left)
    assert found.left_out["drift"] == 2 * 50 * (2 if same_partition else 1)


@pytest.mark.kafka
async def test_drift_that_lasts_for_most_of_a_history_is_learned_and_named(topic: Topic) -> None:
    await topic.make(1, fleet(2, range(400)))
    own = OwnTopics(drift=unique("drift"))
    await create_topic(topic.connection.bootstrap_servers, str(own.drift))
    at = InputPartition(topic.name, 0)
    flagged = [
        replace(
            interval(0, where=at), start_ns=(BASE_S + s) * SECOND_NS, end_ns=(BASE_S + s + 100) * SECOND_NS
        )
        for s in (100, 200, 300)
    ]
    lines = [(b"pumps", encode(each, NOW).value) for each in flagged]
    await produce(topic.connection.bootstrap_servers, str(own.drift), lines)
    found = await topic.found(own=own)
    assert seconds_of(found.segments, "p1") == list(range(400))
    assert found.notes == ("drift has lasted for most of the history: its rows are learned, too",)


async def assets_in(topic: Topic, number: int) -> set[bytes]:
    records = await read_topic(topic.connection.bootstrap_servers, topic.name)
    return {record.key for record in records if record.partition == number}


@pytest.mark.kafka
async def test_confirmed_incidents_are_found_however_long_ago_they_were(topic: Topic) -> None:
    await topic.make(2, fleet(2, range(3_000)))
    spans = [(100, 130), (2_900, 2_920), (1_500, 1_530)]
    messages = [[alert("p1", *span), alert("p1", *span, Phase.CLOSED)] for span in spans]
    await topic.alarm(*(message for each in messages for message in each))
    prints = [read_alert(each[0]).fingerprint for each in messages]
    own = OwnTopics(topic.alerts, feedback=unique("feedback"))
    await create_topic(topic.connection.bootstrap_servers, str(own.feedback))
    verdicts = [Verdict.CONFIRMED, Verdict.CONFIRMED, Verdict.FALSE_ALARM]
    said = [(None, written(Feedback(name, verdict))) for name, verdict in zip(prints, verdicts, strict=True)]
    await produce(topic.connection.bootstrap_servers, str(own.feedback), said)
    found = await topic.found(400, own=own)
    assert min(seconds_of(found.segments, "p1")) > 2_700
    everything = (await topic.found(own=NOTHING)).segments
    (whole,) = [s for s in everything if s.asset == "p1"]
    assert [one.fingerprint for one in found.golden] == [prints[0], prints[1]]
    for incident, (onset, last) in zip(found.golden, spans, strict=False):
        first = BASE_S + onset - 2 * SPEC.window
        assert (incident.first_row, incident.onset) == (first, 2 * SPEC.window)
        rows = whole.values[first - whole.first_row : BASE_S + last + 1 - whole.first_row]
        np.testing.assert_array_equal(incident.values, rows)
    assert found.dismissed == {prints[2]}
    again = (
        await topic.history(400, own=own).knowing({}, frozenset(prints[:1])).found(lambda share, doing: None)
    )
    assert [one.fingerprint for one in again.golden] == [prints[1]]


@pytest.mark.kafka
async def test_beside_the_newest_rows_a_retraining_has_a_sample_of_as_many_from_before(
    kafka_bootstrap: str,
) -> None:
    """The same however the readings lie in partitions; without rows that an alert names."""
    lines = fleet(2, range(6_000))
    found = []
    for partitions in (1, 3):
        topic = Topic(kafka_bootstrap)
        await topic.make(partitions, lines)
        await topic.alarm(alert("p1", 5_900, 5_950), alert("p1", 5_900, 5_950, Phase.CLOSED))
        found.append(await topic.found(1_000, sample_seed=0))
    one, three = found
    assert same(one.segments, three.segments)
    assert one.notes == three.notes
    assert one.notes[0].startswith("1000 rows are a sample of all from 2023-11-14T")
    seconds = seconds_of(one.segments, "p0")
    assert len(seconds) == len(set(seconds)) == 1_000  # 25 pieces of 20 seconds, and the newest 500
    assert seconds[-500:] == list(range(5_500, 6_000))
    assert (one.sampled, one.newest_from_row) == (1_000, BASE_S + 5_500)
    early = [second for second in seconds if second < 5_500]
    assert min(early) < 1_000 < 4_500 < max(early)
    margin = 2 * SPEC.window
    gone = set(range(5_900 - margin, 5_950 + margin + 1))
    assert seconds_of(one.segments, "p1") == sorted(set(seconds) - gone)
    everything = (await topic.found(100_000, own=NOTHING)).segments
    for s in one.segments:
        (of,) = [w for w in everything if w.asset == s.asset]
        rows = of.values[s.first_row - of.first_row :][: len(s.values)]
        assert np.array_equal(rows, s.values, equal_nan=True)
    whole = await topic.found(100_000, sample_seed=0)
    assert seconds_of(whole.segments, "p0") == list(range(6_000))
    assert whole.notes == ()


@pytest.mark.kafka
async def test_of_a_slow_stream_no_row_before_the_end_is_missed(topic: Topic) -> None:
    """A sample of its records lasts longer than event time needs to settle."""
    await topic.make(1, fleet(1, range(600)))
    found = await topic.found(until_ns=(BASE_S + 500) * SECOND_NS)
    assert seconds_of(found.segments, "p0") == list(range(500))
