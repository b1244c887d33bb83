"""What a training learns from: released rows, or the topics, without what the alerts name."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.kafka import KafkaSettings
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Budget,
    ModelSettings,
    Phase,
    Segment,
    Severity,
    StreamSpec,
)
from daemon.errors import BrokerError, InputError
from daemon.runtime.history import (
    Alerts,
    Found,
    NotYet,
    Released,
    TopicHistory,
    Topics,
    TrainingHistory,
    cut,
    ends_at,
    near,
    newest_rows,
    without,
)
from daemon.runtime.trainer import TrainingJob, learn
from daemon.stream.encoding import encode, read_alert
from daemon.stream.steps import RowBlock
from tests.broker import create_topic, produce, read_topic
from tests.running import unique

BASE_S = 1_700_000_400  # a multiple of the ten minutes that these streams retrain after
SPEC = StreamSpec(
    "pumps",
    ("a", "b"),
    topics=("sensors.pumps",),
    window=4,
    max_gap_ns=20 * SECOND_NS,
    silent_after_ns=60 * SECOND_NS,
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def alert(
    asset: str,
    onset_s: int,
    row_s: int,
    phase: Phase = Phase.OPENED,
    kind: AlertKind = AlertKind.ANOMALY,
    sensor: str | None = None,
    stream: str = "pumps",
) -> bytes:
    """An alert message whose episode began at a second of the test's time."""
    event = AlertEvent(
        stream=stream,
        asset=asset,
        kind=kind,
        phase=phase,
        severity=Severity.WARNING,
        fingerprint=f"{stream}-{asset}-{kind}-{sensor}-{onset_s}",
        id=f"{asset}-{onset_s}-{phase}",
        row_ns=(BASE_S + row_s) * SECOND_NS,
        onset_ns=(BASE_S + onset_s) * SECOND_NS,
        opened_ns=(BASE_S + onset_s) * SECOND_NS,
        model="m",
        calibration="full",
        summary="",
        sensor=sensor,
    )
    return encode(event, NOW).value


def segment(asset: str, rows: int, first_s: int = 0) -> Segment:
    values = np.stack([np.arange(rows, dtype=float), np.ones(rows)], 1)
    return Segment(asset, BASE_S + first_s, values)


def seconds_of(history: Sequence[Segment], asset: str) -> list[int]:
    return [s.first_row - BASE_S + i for s in history if s.asset == asset for i in range(len(s.values))]


def named(*messages: bytes) -> Alerts:
    alerts = Alerts("pumps")
    for message in messages:
        alerts.take(message)
    return alerts


# ------------------------------------------------------------------ what the alerts name
def test_a_closed_episode_is_left_out_from_its_onset_to_its_close_with_two_windows_to_either_side() -> None:
    alerts = named(alert("p1", 100, 105), alert("p1", 100, 120, Phase.CLOSED))
    history, cells = without([segment("p1", 300), segment("p2", 300)], alerts.named(), SPEC)
    margin = 2 * SPEC.window
    assert seconds_of(history, "p1") == [*range(100 - margin), *range(120 + margin + 1, 300)]
    assert seconds_of(history, "p2") == list(range(300))
    assert cells == 2 * (21 + 2 * margin)


def test_an_open_episode_is_left_out_up_to_the_end() -> None:
    alerts = named(alert("p1", 100, 105), alert("p1", 100, 150, Phase.UPDATED))
    history, _ = without([segment("p1", 300)], alerts.named(), SPEC)
    assert seconds_of(history, "p1") == list(range(100 - 2 * SPEC.window))


def test_an_episode_that_began_before_the_history_counts_by_its_close_alone() -> None:
    alerts = named(alert("p1", -5000, 50, Phase.CLOSED))
    history, _ = without([segment("p1", 300)], alerts.named(), SPEC)
    assert seconds_of(history, "p1") == list(range(50 + 2 * SPEC.window + 1, 300))


def test_an_episode_that_a_restart_opens_once_more_stays_closed() -> None:
    opened, closed = alert("p1", 100, 105), alert("p1", 100, 120, Phase.CLOSED)
    history, _ = without([segment("p1", 300)], named(opened, closed, opened).named(), SPEC)
    assert 299 in seconds_of(history, "p1")


def test_of_a_stuck_sensor_only_its_own_values_are_left_out() -> None:
    alerts = named(alert("p1", 100, 130, kind=AlertKind.SENSOR_STUCK, sensor="b"))
    given_history = [segment("p1", 300)]
    (left,), cells = without(given_history, alerts.named(), SPEC)
    first = 100 - 2 * SPEC.window
    assert np.isfinite(left.values[:, 0]).all()
    assert np.flatnonzero(np.isnan(left.values[:, 1])).tolist() == list(range(first, 300))
    assert cells == 300 - first
    assert np.isfinite(given_history[0].values).all()


@pytest.mark.parametrize(
    ("kind", "learned"),
    [
        (AlertKind.ANOMALY, False),
        (AlertKind.REGIME, False),
        (AlertKind.SENSOR_SILENT, True),
        (AlertKind.ASSET_SILENT, True),
        (AlertKind.UNKNOWN_CONDITION, True),
        (AlertKind.DRIFT, True),
    ],
)
def test_silences_drift_and_new_conditions_are_learned_and_faults_are_not(
    kind: AlertKind, learned: bool
) -> None:
    history, _ = without([segment("p1", 300)], named(alert("p1", 100, 110, kind=kind)).named(), SPEC)
    assert (seconds_of(history, "p1") == list(range(300))) is learned


def test_deviations_are_not_learned_either() -> None:
    message = alert("p1", 100, 110).replace(b'"anomaly"', b'"deviation"')
    history, _ = without([segment("p1", 300)], named(message).named(), SPEC)
    assert seconds_of(history, "p1") == list(range(100 - 2 * SPEC.window))


def test_a_stuck_sensor_that_the_stream_no_longer_has_takes_nothing_out() -> None:
    alerts = named(alert("p1", 100, 130, kind=AlertKind.SENSOR_STUCK, sensor="z"))
    history, cells = without([segment("p1", 300)], alerts.named(), SPEC)
    assert (seconds_of(history, "p1"), cells) == (list(range(300)), 0)


def test_how_far_back_the_alerts_go_is_told_by_the_rows_that_they_are_of() -> None:
    """Whatever they are about; an onset may lie long before."""
    alerts = named(alert("p1", 100, 150), alert("p1", 10, 130, kind=AlertKind.DRIFT), alert("p1", 200, 210))
    assert alerts.first_ns == (BASE_S + 130) * SECOND_NS


def test_an_episode_of_another_stream_with_the_same_asset_plays_no_part() -> None:
    assert named(alert("p1", 100, 105, stream="fans")).named() == []


def test_an_alert_is_read_as_it_was_written() -> None:
    said = read_alert(alert("p1", 100, 120, Phase.CLOSED, AlertKind.SENSOR_STUCK, "a"))
    assert (said.stream, said.asset, said.kind, said.sensor) == ("pumps", "p1", "sensor_stuck", "a")
    assert said.onset_ns == (BASE_S + 100) * SECOND_NS
    assert said.row_ns == (BASE_S + 120) * SECOND_NS
    assert said.over


GARBAGE = [
    b"",
    b"null",
    b"[" * 100_000,
    b'{"subject": "p1", "data": ' + b'{"a":' * 50_000,
    b'{"subject": "p1"}',
    alert("p1", 100, 105).replace(b"2023-", b"9999999-"),
    alert("p1", 100, 105).replace(b'"onset":"', b'"onset":"not '),
    b" " * (1 << 20) + alert("p1", 100, 105),
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("message", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_alert_is_counted_and_passed_over(message: bytes) -> None:
    alerts = named(message, alert("p2", 100, 105))
    assert alerts.unreadable == 1
    assert [e.asset for e in alerts.named()] == ["p2"]


@given(st.data())
def test_no_mutation_of_an_alert_is_more_than_unreadable(data: st.DataObject) -> None:
    alerts = Alerts("pumps")
    random_ = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(100):
        message = bytearray(alert("p1", 100, 105, sensor="a"))
        for _ in range(random_.randint(1, 4)):
            at = random_.randrange(len(message))
            message[at : at + random_.randint(0, 3)] = random_.randbytes(random_.randint(0, 3))
        alerts.take(bytes(message))
    assert alerts.unreadable + len(alerts.named()) <= 100


def test_episodes_are_held_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.runtime.history.MOST_EPISODES", 3)
    alerts = named(*(alert(f"p{i}", 100, 105) for i in range(5)), alert("p0", 100, 120, Phase.CLOSED))
    assert alerts.beyond == 2
    assert [(e.asset, e.over) for e in alerts.named()] == [("p0", True), ("p1", False), ("p2", False)]


# ------------------------------------------------------------------ rows
def block(asset: str, rows: range) -> RowBlock:
    index = np.array(rows)
    return RowBlock(
        [asset] * len(index),
        np.zeros(len(index), np.int64),
        index,
        np.ones((len(index), 2)),
        np.full(len(index), np.nan),
        np.zeros(len(index), bool),
        [""] * len(index),
    )


def test_rows_from_the_end_of_a_history_on_are_no_part_of_it() -> None:
    recent = TrainingHistory(SPEC, 1_000)
    recent.add(block("a", range(60)))
    recent.add(block("b", range(50, 60)))
    (learned,) = recent.segments(until_row=50)
    assert (learned.asset, len(learned.values)) == ("a", 50)
    released = Released(SPEC, 1_000)
    released.add(block("a", range(60)))
    assert [len(s.values) for s in released.newest(40 * SECOND_NS)] == [40]
    assert [len(s.values) for s in released.first(60, 60)] == [60]


def test_of_more_rows_than_are_kept_the_oldest_blocks_go() -> None:
    recent = TrainingHistory(SPEC, 35)
    for first in range(0, 100, 10):
        recent.add(block("a", range(first, first + 10)))
    (kept,) = recent.segments()
    assert (kept.first_row, len(kept.values)) == (60, 40)


@given(st.sets(st.integers(0, 60), min_size=1), st.data(), st.integers(0, 6))
def test_near_is_within_the_margin_of_an_alarm(rows: set[int], data: st.DataObject, margin: int) -> None:
    index = np.array(sorted(rows))
    firing = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    expected = [any(abs(row - alarm) <= margin for alarm in index[firing]) for row in index]
    assert near(index, firing, margin).tolist() == expected


@given(st.sets(st.integers(0, 30)))
def test_a_segment_has_every_row_between_its_first_and_its_last(rows: set[int]) -> None:
    index = np.array(sorted(rows), np.int64)
    segments = cut("a", index, index[:, None] * 1.0, [f"c{row}" for row in index])
    found = [range(s.first_row, s.first_row + len(s.values)) for s in segments]
    assert [row for part in found for row in part] == index.tolist()
    assert all(b.start > a.stop for a, b in itertools.pairwise(found))
    for s, part in zip(segments, found, strict=True):
        assert s.values[:, 0].tolist() == list(part)
        assert s.condition == tuple(f"c{row}" for row in part)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(1, 30)), max_size=5),
    st.integers(1, 80),
)
def test_the_newest_rows_are_all_of_some_instant_on(pieces: list[tuple[str, int, int]], wanted: int) -> None:
    history = [segment(asset, rows, first) for asset, first, rows in pieces]
    every = sorted((row, asset) for asset in "ab" for row in seconds_of(history, asset))
    kept = sorted((row, asset) for asset in "ab" for row in seconds_of(newest_rows(history, wanted), asset))
    assert len(kept) <= wanted
    first = kept[0][0] if kept else 1_000
    assert kept == [one for one in every if one[0] >= first]
    if len(kept) < len(every):  # with the instant before there would be too many
        before = max(row for row, _ in every if row < first)
        assert sum(row >= before for row, _ in every) > wanted


def test_a_clock_that_is_ahead_does_not_end_a_history_later() -> None:
    history = [segment("a", 5000), segment("b", 3, first_s=90_000)]
    assert ends_at(history, SECOND_NS) == (BASE_S + 4998) * SECOND_NS
    assert ends_at([], SECOND_NS) is None


def test_the_history_of_the_topics_keeps_no_rows_in_the_parent() -> None:
    topics = Topics(KafkaSettings(), SPEC, 1_000, oldest=True, alerts="alerts")
    topics.add(block("a", range(1000)))
    assert all(not isinstance(value, RowBlock | list | dict) for value in vars(topics).values())


@pytest.mark.parametrize(("oldest", "rows"), [(True, 300), (False, 1_000)])
def test_a_group_that_begins_at_the_end_learns_the_newest_rows_first(oldest: bool, rows: int) -> None:
    topics = Topics(KafkaSettings(), SPEC, 1_000, oldest=oldest, alerts="alerts")
    first = topics.first(300, 200)
    assert (first.oldest, first.rows, first.least, first.until_ns) == (oldest, rows, 200, None)
    newest = topics.newest(60 * SECOND_NS)
    assert (newest.oldest, newest.rows, newest.until_ns, newest.judged) == (
        False,
        1_000,
        60 * SECOND_NS,
        True,
    )


# ------------------------------------------------------------------ the topics
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
        made = TopicHistory(self.connection, self.spec, rows, alerts=self.alerts)
        return replace(made, **more)  # type: ignore[arg-type]

    async def found(self, rows: int = 100_000, **more: object) -> Found:
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
async def test_what_is_found_does_not_show_how_much_was_read_at_once(
    topic: Topic, oldest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of the assets reports a hundredth as often: their partition is read much further back."""
    lines = [one for one in fleet(4, range(6000)) if one[0] != b"p3" or b'0, "values"' in one[1]]
    await topic.make(4, lines)
    read: list[int] = []
    fed = TopicHistory._fed

    async def counted(self: TopicHistory, *arguments: object) -> object:
        taken = await fed(self, *arguments)  # type: ignore[arg-type]
        read.append(sum(taken.counts.values()))
        return taken

    monkeypatch.setattr(TopicHistory, "_fed", counted)
    few = await topic.found(3_000, oldest=oldest)
    assert len(read) > 1
    assert max(read) < len(lines)
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
async def test_alarms_are_left_out_those_of_an_earlier_process_too_and_garbage_is_one_note(
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
    everything = await topic.found(alerts=None)
    assert seconds_of(everything.segments, "p2") == list(range(600))


@pytest.mark.kafka
async def test_unreadable_records_at_a_place_that_is_looked_at_lead_nowhere(topic: Topic) -> None:
    """Half of the topic is garbage, in the middle, where bisection looks first."""
    half = fleet(2, range(400))
    garbage = [(b"p0", b"not json at all")] * 900
    await topic.make(1, [*half, *garbage, *fleet(2, range(400, 800))])
    found = await topic.found(until_ns=(BASE_S + 700) * SECOND_NS)
    assert seconds_of(found.segments, "p1") == list(range(700))


@pytest.mark.kafka
async def test_too_few_rows_are_waited_for_and_none_is_an_error(topic: Topic) -> None:
    await topic.make(3, fleet(2, range(50)))
    with pytest.raises(NotYet, match="holds 100 rows yet, 101 are wanted"):
        await topic.found(least=101)
    assert (await topic.found(least=100)).records == 100
    empty = Topic(topic.connection.bootstrap_servers)
    await empty.make(2, [])
    with pytest.raises(InputError, match="holds no records to learn from"):
        await empty.found()
    with pytest.raises(NotYet):
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
        monkeypatch.setattr("daemon.runtime.history.JUDGED_WITHIN_S", 0.0)
        until_ns = (BASE_S + 200) * SECOND_NS
        with pytest.raises(NotYet, match="judged up to offset 300 only"):
            await topic.found(until_ns=until_ns, judged=True)
        monkeypatch.setattr("daemon.runtime.history.JUDGED_WITHIN_S", 60.0)
        waiting = asyncio.create_task(topic.found(until_ns=until_ns, judged=True))
        await consumer.commit({partition: 800})
        found = await waiting
    finally:
        await consumer.stop()
    assert seconds_of(found.segments, "p1") == list(range(200))


@pytest.mark.kafka
async def test_alerts_that_are_kept_for_less_than_the_inputs_are_said(topic: Topic) -> None:
    await topic.make(1, fleet(2, range(400)))
    await topic.alarm(alert("p1", 10, 20, Phase.CLOSED), alert("p1", 300, 310, Phase.CLOSED))
    assert (await topic.found()).notes == ()
    (where, _) = await read_topic(topic.connection.bootstrap_servers, topic.alerts)
    admin = AIOKafkaAdminClient(bootstrap_servers=topic.connection.bootstrap_servers)
    for kept_from, says in ((1, "it begins at"), (2, "it holds none")):
        await admin.start()
        try:
            gone = {TopicPartition(topic.alerts, where.partition): RecordsToDelete(before_offset=kept_from)}
            await admin.delete_records(gone)
        finally:
            await admin.close()
        (note,) = (await topic.found()).notes
        assert note.startswith(f"{topic.alerts} is kept for less than what is learned, from 2023-11-14")
        assert says in note


@pytest.mark.kafka
async def test_a_leader_without_readings_is_told_how_far_the_topics_are(topic: Topic) -> None:
    await topic.make(4, fleet(2, range(400)))
    topics = Topics(topic.connection, topic.spec, 1_000, oldest=True, alerts=topic.alerts)
    assert not topics.holds(800)
    await topics.look()
    assert topics.holds(800)
    assert not topics.holds(801)
    assert topics.event_time_ns > (BASE_S + 350) * SECOND_NS


def test_a_history_that_cannot_be_read_is_an_outcome_and_to_be_tried_again() -> None:
    history = TopicHistory(KafkaSettings("127.0.0.1:1"), SPEC, 100)
    outcome = learn(TrainingJob(SPEC, ModelSettings(), AlarmPolicy(), Budget(), 60, history))
    assert outcome.later
    assert not outcome.postponed
    assert "cannot be reached" in outcome.reason
    with pytest.raises(BrokerError):
        history.read(lambda share, doing: None)
