"""What Sparkplug's births have named survives restarts, exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.config.presets import CUSTOM, mapping_of
from daemon.domain import SECOND_NS, Disposition, Dropped, Format, Output, Record, StateRecord
from daemon.stream import snapshot
from daemon.stream.pipeline import Pipeline
from tests.stream.decode.arriving import NOW_NS
from tests.stream.decode.payloads import message
from tests.stream.pipelines import (
    PUMPS_0,
    SPARKPLUG,
    SPARKPLUG_MAPPING,
    SPEC,
    feed,
    make,
    plain,
    snapshots,
    snapshots_at_once,
    take_over,
)

NODES = (("e", None), ("e", "d"), ("e", "x"), ("f", "d"))
BIRTHS = ([("a", 1), ("b", 2)], [("b", 1), ("a", 2)], [("a", 7), ("other", 2)])
MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(NODES),
        st.sampled_from(["BIRTH", "DATA", "DATA", "DATA", "DATA", "DEATH"]),
        st.integers(0, 2),  # which birth, or which alias
        st.sampled_from([0, 1, 1, 1, 3]),  # by how much the sequence number rises
        st.sampled_from([0.5, 0.6, 9.0]),
    ),
    min_size=1,
    max_size=60,
)
Message = tuple[tuple[str, str | None], str, int, int, float]


def records(kind: str, messages: Sequence[Message]) -> list[Record]:
    """Messages of one partition, one a second."""
    made, numbers = [], dict[str, int]()
    for offset, ((edge, device), what, which, step, value) in enumerate(messages):
        time_ns = NOW_NS + offset * SECOND_NS
        topic = f"g/{'N' if device is None else 'D'}{what}/{edge}" + (f"/{device}" if device else "")
        metrics = []
        if what == "BIRTH":
            metrics = [{"name": name, "alias": alias, "value": value} for name, alias in BIRTHS[which]]
        elif what == "DATA":
            metrics = [{"alias": alias, "value": value} for alias in (1, 2, 7)[which:]]
        numbers[edge] = (numbers.get(edge, 0) + step) % 256
        made.append(
            message(kind, offset, topic, metrics, numbers[edge], timestamp=time_ns // 10**6, now_ns=time_ns)
        )
    return made


class Process:
    """Processes of one partition, one after the other: each commits now and then, and may die behind it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.state: dict[bytes, bytes] = {}
        self.published: list[Output] = []
        self.replay_from = self.lost = 0
        self.counts = dict[str, int]()
        self.pipeline: Pipeline = make(SPARKPLUG[kind])

    def commit(self, outputs: list[Output]) -> None:
        self.published += outputs
        for record in snapshots(self.pipeline):
            if record.value is None:
                self.state.pop(record.key, None)
            else:
                self.state[record.key] = record.value
        self.replay_from = self.pipeline.replay_from()

    def end(self) -> None:
        self.lost += self.pipeline.dropped[Dropped.MESSAGE_LOST]
        for disposition, n in self.pipeline.counts.items():
            self.counts[disposition] = self.counts.get(disposition, 0) + n

    def restart(self, log: Sequence[Record]) -> None:
        position = self.pipeline.offset
        self.end()
        self.pipeline = make(SPARKPLUG[self.kind], publish_from=position)
        saved = [StateRecord(key, value) for key, value in self.state.items()]
        assert take_over(self.pipeline, saved)
        assert self.pipeline.unusable == []
        self.pipeline.offset = self.replay_from
        assert not feed(self.pipeline, log[self.replay_from : position])


def run(kind: str, log: Sequence[Record], sizes: Sequence[tuple[int, bool]]) -> Process:
    """Feed a log in polls of these sizes, each committed, and restart behind some of them."""
    process, at = Process(kind), 0
    for size, restarts in sizes:
        process.commit(feed(process.pipeline, log[at : at + size]))
        at += size
        if restarts and at < len(log):
            process.restart(log)
    process.commit(feed(process.pipeline, log[at:]) + feed(process.pipeline, [], ended=True))
    process.end()
    return process


@pytest.mark.parametrize("kind", SPARKPLUG)
@settings(deadline=None, max_examples=60)
@given(
    MESSAGES,
    st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=5),
    st.sampled_from([1, 2, 1000]),
)
def test_restarts_never_show(
    kind: str, messages: list[Message], sizes: list[tuple[int, bool]], at_once: int
) -> None:
    log = records(kind, messages)
    with pytest.MonkeyPatch.context() as patch:
        snapshots_at_once(patch, at_once)
        expected = run(kind, log, [(size, False) for size, _ in sizes])
        found = run(kind, log, sizes)
    assert plain(found.published) == plain(expected.published)
    assert found.lost == expected.lost
    assert found.counts == expected.counts
    assert sum(found.counts.values()) == len(log)


def test_most_of_it_is_accepted() -> None:
    """Of messages as they should be: what is drawn above is not all refused for another reason."""
    nodes = [("e", "d"), ("e", "x"), ("f", "d")]
    births: list[Message] = [(node, "BIRTH", 0, 1, 0.5) for node in nodes]
    data: list[Message] = [(node, "DATA", which, 1, 0.5) for node in nodes for which in (0, 1)] * 5
    process = run("sparkplug", records("sparkplug", births + data), [(10, True), (10, True)])
    assert process.counts == {Disposition.ACCEPTED: 33}


def test_a_birth_is_a_record_of_its_own_as_long_as_it_is_needed() -> None:
    process = Process("sparkplug")
    prefix = snapshot.key(PUMPS_0.topic, "\x1f")

    def born() -> list[bytes]:
        return sorted(key.removeprefix(prefix) for key in process.state if key.startswith(prefix))

    node = ("e", "d")
    log = records("sparkplug", [(node, "BIRTH", 0, 1, 0.5), *[(node, "DATA", 0, 1, 0.5)] * 30, (node, "BIRTH", 1, 1, 0.5), *[(node, "DATA", 0, 1, 0.5)] * 30, (node, "DEATH", 0, 1, 0.0)])  # fmt: skip
    for i in range(len(log)):
        process.commit(feed(process.pipeline, log[i : i + 1]))
        until = {0: 31, 31: 62, 62: 10**6}  # a birth counts until the record of the next has been read
        needed = [at for at, end in until.items() if at <= i and process.replay_from <= end]
        assert born() == [f"g/e/d\x1f{at}".encode() for at in needed]
    process.commit(feed(process.pipeline, [], ended=True))
    process.commit([])
    assert process.replay_from == len(log)
    assert born() == []


def committed() -> tuple[Process, list[Record]]:
    """A process with two births and data, and what comes next."""
    log = records("sparkplug", [(("e", "d"), "BIRTH", 0, 1, 0.5), (("f", "d"), "BIRTH", 0, 1, 0.5), *[(("e", "d"), "DATA", 0, 1, 0.5), (("f", "d"), "DATA", 0, 1, 0.5)] * 4])  # fmt: skip
    process = Process("sparkplug")
    outputs = feed(process.pipeline, log[:6])
    process.pipeline.parts.ledger.mark(process.pipeline.names)  # with their snapshots nothing is read again
    process.commit(outputs)
    assert process.replay_from == 6
    return process, log


def test_without_its_births_a_successor_refuses_aliases_until_the_next() -> None:
    process, log = committed()
    successor = make(SPARKPLUG["sparkplug"], publish_from=6)
    take_over(successor, [])
    feed(successor, log[process.replay_from :])
    assert successor.counts == {Disposition.REJECTED: 4}
    assert successor.reasons == {"unknown_alias": 4}


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("at", "value", "fault"),
    [
        (1, "g", "'g' is no node"),
        (1, "g/e/d/x", "'g/e/d/x' is no node"),
        (1, "g//d", "'g//d' is no node"),
        (1, "g/" + "e" * 300, "is no node"),
        (1, "g/e/x", "its key is another's"),
        (2, 7, "its key is another's"),
        (2, -1, "offset -1, session -1"),
        (3, [[-2, "a", 10]], "alias -2, datatype 10, of a name of 1 characters"),
        (3, [[1, "a" * 70_000, 10]], "of a name of 70000 characters"),
        (3, [[1, "a", -1]], "datatype -1"),
        (3, [[1, "a"]], "Expected `array` of length 3"),
        (4, -2, "session -2"),
        (4, 1 << 63, "session 9223372036854775808"),
    ],
)
def test_a_hostile_birth_costs_that_node_alone(at: int, value: object, fault: str) -> None:
    process, log = committed()
    key = snapshot.key(PUMPS_0.topic, snapshot.birth_name("g/e/d", 0))
    record = msgspec.msgpack.decode(process.state[key])
    record[at] = value
    process.state[key] = msgspec.msgpack.encode(record)
    successor = make(SPARKPLUG["sparkplug"], publish_from=6)
    assert take_over(successor, [StateRecord(k, v) for k, v in process.state.items()])
    assert len(successor.unusable) == 1
    assert fault in successor.unusable[0]
    successor.offset = process.replay_from
    feed(successor, log[process.replay_from :])
    assert successor.reasons == {"unknown_alias": 2}
    assert any(record.key == key and record.value is None for record in snapshots(successor))


def test_more_births_than_there_is_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    process, _ = committed()
    monkeypatch.setattr("daemon.stream.decode.births.MOST_METRICS", 4)
    successor = make(SPARKPLUG["sparkplug"], publish_from=6)
    assert take_over(successor, [StateRecord(k, v) for k, v in process.state.items()])
    (fault,) = successor.unusable
    assert fault.endswith("over 4 metrics of births are known in this partition")


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_birth_or_sequence_is_used_or_refused(data: st.DataObject) -> None:
    process, log = committed()
    of_birth = data.draw(st.booleans())
    name = snapshot.birth_name("g/e/d", 0) if of_birth else ""
    key = snapshot.key(PUMPS_0.topic, name)
    record = msgspec.msgpack.decode(process.state[key])
    record[data.draw(st.integers(1, len(record) - 1)) if of_birth else -1] = data.draw(ANY)
    process.state[key] = msgspec.msgpack.encode(record)
    others = data.draw(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=2))
    saved = [StateRecord(k, v) for k, v in process.state.items()]
    saved += [StateRecord(snapshot.key(PUMPS_0.topic, "\x1f") + k, v) for k, v in others]
    successor = make(SPARKPLUG["sparkplug"], publish_from=6)
    take_over(successor, saved)
    successor.offset = process.replay_from
    feed(successor, log[process.replay_from :])
    snapshots(successor)


@pytest.mark.parametrize(
    ("sequences", "fault"),
    [
        ([["g", 1, 0]], "'g' is no node"),
        ([["g/e", 256, 0]], "sequence number 256 at offset 0"),
        ([["g/e", 1, -1]], "sequence number 1 at offset -1"),
        ([["g/e", 1, 0]] * 2, "2 sequences, or one twice"),
        ([[f"g/{i}", 1, 0] for i in range(3_000)], "3000 sequences, or one twice"),
    ],
)
def test_hostile_sequences_cost_the_partition_its_state(sequences: list[object], fault: str) -> None:
    process, _ = committed()
    key = snapshot.key(PUMPS_0.topic)
    record = msgspec.msgpack.decode(process.state[key])
    record[list(snapshot.PartitionState.__struct_fields__).index("sequences")] = sequences
    process.state[key] = msgspec.msgpack.encode(record)
    successor = make(SPARKPLUG["sparkplug"], publish_from=6)
    assert not take_over(successor, [StateRecord(k, v) for k, v in process.state.items()])
    assert successor.unusable == [f"of the partition: {fault}"]


def test_births_of_a_stream_that_no_longer_is_of_sparkplug_are_deleted() -> None:
    process, _ = committed()
    plain_spec = replace(SPEC, format=Format.MAPPED, input=mapping_of(CUSTOM, SPARKPLUG_MAPPING))
    successor = make(plain_spec, publish_from=6)
    assert take_over(successor, [StateRecord(k, v) for k, v in process.state.items()])
    deleted = {record.key for record in snapshots(successor) if record.value is None}
    expected = {snapshot.birth_name(f"g/{edge}/d", offset) for edge, offset in (("e", 0), ("f", 1))}
    assert deleted == {snapshot.key(PUMPS_0.topic, name) for name in expected}
