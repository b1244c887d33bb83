"""Decisions on trainings: their records, and who may publish them when two processes believe that they train."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from daemon.adapters.kafka import FencedWriter, KafkaSettings, Message, TransactionFailed
from daemon.adapters.registry import (
    DecisionRecord,
    Decisions,
    KafkaModels,
    ShadowFact,
    Span,
    TriggerFact,
    candidate_after,
    models_topic,
    retrain_topic,
)
from daemon.errors import OvertakenError
from daemon.runtime.deciding import into_shadow, out_of_shadow
from daemon.runtime.model_store import ModelStore
from tests.broker import create_topic, read_topic
from tests.running import unique
from tests.runtime.scripted import trained_bundle


def record(version: str = "", *, promoted: bool = False, reason: str = "it finds less") -> DecisionRecord:
    return DecisionRecord(
        "pumps",
        TriggerFact("request", "kim asked for it", 7, (3, 7)),
        promoted,
        reason,
        "2026-01-01T00:00:00Z",
        version,
        rules=({"name": "finite", "figure": 0.0, "limit": 0.0, "passed": True},),
        span=Span("2025-12-01T00:00:00Z", "2025-12-31T00:00:00Z"),
        until="2026-01-01T00:00:00Z",
        left_out={"alerts": 12},
    )


def test_a_record_is_read_back_and_garbage_is_none() -> None:
    assert DecisionRecord.read(record().written()) == record()
    assert record().until_ns == 1_767_225_600 * 10**9
    assert DecisionRecord("s", TriggerFact("first"), False, "", "").until_ns is None
    for bad in (b"", b"null", b"[" * 100_000, b'{"stream": "s"}', b" " * (1 << 20) + record().written()):
        with pytest.raises(ValueError, match=r"."):
            DecisionRecord.read(bad)


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("yesterday", "2026-01-02T00:00:00Z"),
        ("2026-01-01T00:00:00Z", ""),
        ("2026-01-02T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
    ],
)
def test_a_record_of_a_shadow_without_times_is_none(since: str, until: str) -> None:
    """People can write to the topic."""
    with pytest.raises(ValueError, match=r"."):
        DecisionRecord.read(replace(record("v2"), shadow=ShadowFact(since, until)).written())


class Replica:
    """What one replica has of the models and the decisions."""

    def __init__(self, bootstrap: str, prefix: str, folder: Path) -> None:
        connection = KafkaSettings(bootstrap, group_id="plant")
        self.models = KafkaModels(connection, prefix)
        self.decisions = Decisions(connection, prefix)
        self.store = ModelStore(folder, self.models, 10, self.decisions)

    async def promoted(self) -> str:
        await self.models.refresh()
        pointer = self.models.pointer("pumps")
        return "" if pointer is None else pointer.version

    async def stop(self) -> None:
        await self.models.stop()
        await self.decisions.stop()


@pytest.mark.kafka
async def test_of_two_processes_that_train_one_stream_the_one_that_began_last_decides(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    prefix = unique("out")
    for topic in (models_topic(prefix), retrain_topic(prefix)):
        await create_topic(kafka_bootstrap, topic.name)
    zombie, leader = (Replica(kafka_bootstrap, prefix, tmp_path / name) for name in "zl")
    one, other, third = (trained_bundle(centre) for centre in (0.5, 0.7, 0.9))
    try:
        with pytest.raises(OvertakenError, match="another process trains pumps now"):
            await zombie.store.decide(record(one.version, promoted=True), one.to_bytes())  # it never led
        await zombie.store.lead("pumps")
        await leader.store.lead("pumps")
        for promoted in (True, False):
            with pytest.raises(OvertakenError, match="another process trains pumps now"):
                await zombie.store.decide(record(one.version, promoted=promoted), one.to_bytes())
        assert await leader.promoted() == ""
        assert await read_topic(kafka_bootstrap, f"{prefix}.retrain") == []
        assert not (tmp_path / "z").exists()
        good = record(other.version, promoted=True, reason="first model")
        await leader.store.decide(good, other.to_bytes())
        assert await zombie.promoted() == await leader.promoted() == other.version
        assert list(await zombie.store.decisions(to_the_end=True)) == [good]
        assert list(await zombie.store.decisions()) == []

        # A refused candidate is kept for inspection, and not in force.
        await leader.store.lead("pumps")
        await leader.store.decide(record(third.version), third.to_bytes())
        assert await zombie.promoted() == other.version
        assert await zombie.models.load("pumps", third.version) == third.to_bytes()
        assert leader.store.directory.versions("pumps") == [other.version, third.version]

        # Somebody promotes another version while a training runs: it was compared with the wrong one.
        await zombie.store.lead("pumps")
        await leader.models.promote("pumps", third.version, "by hand", "kim")
        with pytest.raises(OvertakenError, match=f"was promoted while it was trained: {third.version}"):
            await zombie.store.decide(record(one.version, promoted=True), one.to_bytes())
        assert await leader.promoted() == third.version
        assert len(await read_topic(kafka_bootstrap, f"{prefix}.retrain")) == 2
    finally:
        await asyncio.gather(zombie.stop(), leader.stop())


def test_a_candidate_is_in_shadow_until_the_next_decision_on_it_or_another_promotion() -> None:
    begun = into_shadow(record("v2", promoted=True), 0, 10**9)
    over = out_of_shadow(begun, "2026-01-02T00:00:00Z", reason="r")
    other = into_shadow(record("v3", promoted=True), 0, 10**9)
    for known, decision, now in (
        (None, begun, begun),
        (None, record("v2"), None),
        (begun, record("v3"), begun),  # another training came to nothing
        (begun, record(""), begun),
        (begun, record("v3", promoted=True), None),
        (begun, over, None),
        (begun, other, other),
        (other, over, other),
    ):
        assert candidate_after(known, decision) == now


@pytest.mark.kafka
async def test_a_candidate_in_shadow_is_read_by_other_replicas_and_promoted_only_over_its_parent(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    prefix = unique("out")
    for topic in (models_topic(prefix), retrain_topic(prefix)):
        await create_topic(kafka_bootstrap, topic.name)
    leader, other = (Replica(kafka_bootstrap, prefix, tmp_path / name) for name in "lo")
    one, two, three = (trained_bundle(centre) for centre in (0.5, 0.7, 0.9))
    begun = into_shadow(replace(record(two.version, promoted=True), parent=one.version), 0, 6 * 3600 * 10**9)
    after = out_of_shadow(begun, "2026-01-02T00:00:00Z", reason="in shadow", promoted=True)
    try:
        for decision, bundle in ((record(one.version, promoted=True), one), (begun, two)):
            await leader.store.lead("pumps")
            await leader.store.decide(decision, bundle.to_bytes())
        assert begun.shadow is not None
        published = replace(begun, shadow=replace(begun.shadow, pointer=one.version))
        assert list(await other.store.decisions(to_the_end=True))[-1] == published
        assert await other.store.kept("pumps", two.version) == two.to_bytes()
        assert await other.promoted() == one.version

        # Somebody puts another version in force before the leader knows of it.
        await other.models.publish("pumps", three.version, three.to_bytes())
        await other.models.promote("pumps", three.version, "by hand", "kim")
        await leader.store.lead("pumps")
        with pytest.raises(OvertakenError, match=three.version):
            await leader.store.decide(after, two.to_bytes())
        assert await other.promoted() == three.version

        await other.models.promote("pumps", one.version, "back", "kim")
        await leader.store.lead("pumps")
        await leader.store.decide(after, two.to_bytes())
        assert await other.promoted() == two.version
        assert list(await other.store.decisions(to_the_end=True)) == [after]
    finally:
        await asyncio.gather(leader.stop(), other.stop())


@pytest.mark.kafka
async def test_messages_under_one_name_are_written_all_or_none(kafka_bootstrap: str) -> None:
    topic, name = unique("topic"), unique("name")
    await create_topic(kafka_bootstrap, topic)
    writers = [FencedWriter(KafkaSettings(kafka_bootstrap), name) for _ in range(2)]
    try:
        for writer in writers:
            await writer.start()
        with pytest.raises(TransactionFailed) as failed:
            await writers[0].write([Message(topic, b"k", b"old", (), 0)])
        assert failed.value.fenced
        for _ in range(2):
            await writers[1].write([Message(topic, b"k", b"a", (), 0), Message(topic, b"k", b"b", (), 0)])
        with pytest.raises(TransactionFailed, match="given up"):
            await writers[0].write([])
        with pytest.raises(TransactionFailed) as failed:
            await writers[1].write(
                [Message(topic, b"k", b"a", (), 0), Message(topic, b"k", bytes(2_000_000), (), 0)]
            )
        assert not failed.value.fenced
    finally:
        for writer in writers:
            await writer.stop()
    assert [record.value for record in await read_topic(kafka_bootstrap, topic)] == [b"a", b"b"] * 2
