"""Models in a compacted topic of a real Kafka."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer

from daemon.adapters.kafka import KafkaSettings, ensure_topics
from daemon.adapters.registry import KafkaModels, Pointer, Promoted, models_topic
from daemon.errors import BundleError, InputError
from tests.broker import produce, read_topic

BIG = random.Random(1).randbytes(3_000_000)
"""More than a Kafka message may hold, and nothing that compresses."""


class Replicas:
    """Registries on one topic, stopped at the end."""

    def __init__(self, bootstrap: str) -> None:
        self.prefix = f"registry-{uuid4().hex[:8]}"
        self.topic = f"{self.prefix}.models"
        self.settings = KafkaSettings(bootstrap)
        self.made: list[KafkaModels] = []

    def replica(self) -> KafkaModels:
        self.made.append(KafkaModels(self.settings, self.prefix))
        return self.made[-1]


@pytest.fixture
async def replicas(kafka_bootstrap: str) -> AsyncIterator[Replicas]:
    replicas = Replicas(kafka_bootstrap)
    await ensure_topics(replicas.settings, [models_topic(replicas.prefix)])
    yield replicas
    for models in replicas.made:
        await models.stop()


@pytest.mark.kafka
async def test_a_bundle_of_3_mb_is_read_back_unchanged_by_another_replica(replicas: Replicas) -> None:
    first, second = replicas.replica(), replicas.replica()
    await first.publish("pumps", "aaa", BIG)
    assert await second.promoted("pumps") is None
    await first.promote("pumps", "aaa", "first model")
    promotion = await second.promoted("pumps")
    assert promotion is not None
    assert (promotion.version, promotion.reason) == ("aaa", "first model")
    assert promotion.data == BIG
    assert await second.load("pumps", "aaa") == BIG


@pytest.mark.kafka
async def test_a_follower_sees_each_promotion_once_also_back_to_an_older_version(replicas: Replicas) -> None:
    trainer, follower = replicas.replica(), replicas.replica()
    await trainer.publish("pumps", "aaa", b"one")
    await trainer.promote("pumps", "aaa", "first")
    assert (await follower.promoted("pumps")).data == b"one"
    assert await follower.poll() == []
    await trainer.publish("pumps", "bbb", b"two")
    await trainer.publish("fans", "ccc", b"three")
    seen = []
    for version, reason in [("bbb", "better"), ("aaa", "rolled back")]:
        await trainer.promote("pumps", version, reason)
        while not (news := await follower.poll()):
            pass
        seen += news
    assert [(p.stream, p.version, p.reason, p.data) for p in seen] == [
        ("pumps", "bbb", "better", b"two"),
        ("pumps", "aaa", "rolled back", b"one"),
    ]
    assert await follower.poll() == []


async def test_a_bundle_that_readers_refuse_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.adapters.registry.kafka_models.LARGEST_BUNDLE", 10)
    models = KafkaModels(KafkaSettings("localhost:1"), "unused")
    for data in (b"", b"x" * 11):
        with pytest.raises(BundleError, match=f"a bundle of {len(data)} bytes, where 1 to 10 can be kept"):
            await models.publish("pumps", "aaa", data)


@pytest.mark.kafka
async def test_an_incomplete_bundle_is_not_promoted(replicas: Replicas) -> None:
    models = replicas.replica()
    await models.publish("pumps", "aaa", b"one")
    with pytest.raises(BundleError, match="version 'zzz' of stream 'pumps' cannot be promoted: its manifest"):
        await models.promote("pumps", "zzz")
    await produce(replicas.settings.bootstrap_servers, replicas.topic, [(b"pumps/aaa/0", b"oops")])
    with pytest.raises(BundleError, match="SHA-256"):
        await models.promote("pumps", "aaa")


@pytest.mark.kafka
async def test_a_damaged_promotion_is_logged_and_left_out(replicas: Replicas) -> None:
    models, follower = replicas.replica(), replicas.replica()
    assert await follower.promoted("pumps") is None
    await models.publish("pumps", "aaa", b"one")
    await models.promote("pumps", "aaa")
    damage = [(b"pumps/aaa/0", b"0ne"), (b"a/b/c/d", b"?"), (b"fans", b"{")]
    await produce(replicas.settings.bootstrap_servers, replicas.topic, damage)
    with pytest.raises(BundleError, match="promoted version 'aaa' of stream 'pumps' is damaged"):
        await follower.promoted("pumps")
    pointer = [(b"pumps", b'{"version": "zzz"}'), (b"fans/ok/0", b"1")]
    await produce(replicas.settings.bootstrap_servers, replicas.topic, pointer)
    await follower.refresh()
    assert follower.pointer("pumps") == Pointer("zzz")
    assert await follower.poll() == []


@pytest.mark.kafka
async def test_old_versions_are_removed_and_the_promoted_one_is_kept(replicas: Replicas) -> None:
    models = replicas.replica()
    half = [(b"pumps/half/0", b"no manifest")]  # whoever wrote it was killed
    await produce(replicas.settings.bootstrap_servers, replicas.topic, half)
    for version in ["aaa", "bbb", "ccc", "ddd"]:
        await models.publish("pumps", version, version.encode())
    await models.promote("pumps", "aaa")
    assert await models.retire("pumps", keep=1) == ["half", "bbb", "ccc"]
    assert models.known("pumps") == ["aaa", "bbb", "ccc", "ddd"]  # until it reads on
    assert await models.retire("pumps", keep=1) == []
    other = replicas.replica()
    assert (await other.promoted("pumps")).data == b"aaa"
    assert other.known("pumps") == ["aaa", "ddd"]
    tombs = [
        r.key for r in await read_topic(replicas.settings.bootstrap_servers, replicas.topic) if not r.value
    ]
    assert tombs == [
        key
        for version in (b"half", b"bbb", b"ccc")
        for key in (b"pumps/" + version, b"pumps/" + version + b"/0")
    ]


@pytest.mark.kafka
async def test_two_streams_that_promote_at_once_do_not_disturb_each_other(replicas: Replicas) -> None:
    """One follower and one writer serve both, while the loop polls."""
    models, other = replicas.replica(), replicas.replica()
    streams = [f"stream-{i}" for i in range(6)]
    seen: dict[str, bytes] = {}

    async def promote(stream: str) -> None:
        for version in ("aaa", "bbb"):
            data = f"{stream} {version}".encode() * 100_000
            await models.publish(stream, version, data)
            await models.promote(stream, version)
            await models.retire(stream, 1)

    async def poll() -> None:
        while len(seen) < len(streams):
            seen.update({p.stream: p.data for p in await models.poll() if p.version == "bbb"})

    async with asyncio.timeout(120):
        await asyncio.gather(poll(), *(promote(stream) for stream in streams))
    for stream in streams:
        promotion = await other.promoted(stream)
        assert promotion is not None
        assert (promotion.version, promotion.data) == ("bbb", seen[stream])
        assert other.pointer(stream) == Pointer("bbb", before="aaa", past=(Promoted("aaa"),))
        assert other.known(stream) == ["aaa", "bbb"]
    assert models.refused == other.refused == 0


@pytest.mark.kafka
async def test_a_withdrawn_version_is_replaced_by_the_one_before_for_all_replicas(replicas: Replicas) -> None:
    first, second = replicas.replica(), replicas.replica()
    for version in ["aaa", "bbb", "ccc"]:
        await first.publish("pumps", version, version.encode())
        await first.promote("pumps", version)
    await first.promote("pumps", "ccc", "once more: it does not follow itself")
    assert (await second.promoted("pumps")).version == "ccc"
    assert (await second.before("pumps")).data == b"bbb"
    assert await second.withdraw("pumps", "aaa", "is not promoted") == "ccc"
    assert await first.withdraw("pumps", "ccc", "failed on 10 windows in a row") == "bbb"
    assert await second.withdraw("pumps", "ccc", "failed here too") == "bbb"  # it has gone already
    while not (news := await second.poll()):
        pass
    assert [(p.version, p.reason, p.data) for p in news] == [("bbb", "failed on 10 windows in a row", b"bbb")]
    assert (await second.before("pumps")).data == b"aaa"
    assert await second.withdraw("pumps", "bbb", "fails as well") == "aaa"
    assert (await second.promoted("pumps")).data == b"aaa"
    assert await second.before("pumps") is None
    assert await second.withdraw("pumps", "aaa", "and so does this one") == ""
    assert await first.promoted("pumps") is None


@pytest.mark.kafka
async def test_a_rollback_reaches_a_follower_and_the_next_one_goes_further_back(replicas: Replicas) -> None:
    operator, follower = replicas.replica(), replicas.replica()
    for version in ["aaa", "bbb", "ccc", "ddd"]:
        await operator.publish("pumps", version, version.encode(), trained_ns=7)
        await operator.promote("pumps", version, "better", "anomalyd", "2026-01-31T08:00:00Z")
    assert (await follower.promoted("pumps")).version == "ddd"
    assert await follower.poll() == []
    await operator.remove("pumps", "ccc")
    assert await operator.rollback("pumps", "it alarms all night", "kim") == "bbb"
    while not (news := await follower.poll()):
        pass
    assert [(p.version, p.reason, p.data) for p in news] == [("bbb", "it alarms all night", b"bbb")]
    first = Promoted("aaa", "better", "anomalyd", "2026-01-31T08:00:00Z")
    assert follower.pointer("pumps") == Pointer("bbb", "it alarms all night", "aaa", "kim", past=(first,))
    assert await follower.rollback("pumps", "worse still", "kim") == "aaa"
    assert await operator.rollback("pumps", "nothing before") == ""
    assert operator.pointer("pumps") == Pointer("aaa", "worse still", by="kim")
    assert await operator.rollback("fans") == ""
    assert operator.streams() == ["pumps"]
    assert (operator.known("pumps"), operator.trained_ns("pumps", "bbb")) == (["aaa", "bbb", "ddd"], 7)


@pytest.mark.kafka
async def test_a_damaged_version_before_is_not_promoted_again(replicas: Replicas) -> None:
    models = replicas.replica()
    for version in ["aaa", "bbb"]:
        await models.publish("pumps", version, version.encode())
        await models.promote("pumps", version)
    await produce(replicas.settings.bootstrap_servers, replicas.topic, [(b"pumps/aaa/0", b"oops")])
    assert await models.withdraw("pumps", "bbb", "it failed") == ""
    assert await models.promoted("pumps") is None


@pytest.mark.kafka
async def test_released_chunks_are_read_again(replicas: Replicas, consumers: list[AIOKafkaConsumer]) -> None:
    models = replicas.replica()
    versions = ["aaa", "bbb", "ccc", "ddd", "eee"]
    for version in versions:
        await models.publish("pumps", version, version.encode() * 400_000)
        await models.promote("pumps", version)
    other = replicas.replica()
    await other.refresh()
    made = len(consumers)
    assert await other.load("pumps", "eee") == b"eee" * 400_000
    assert len(consumers) == made
    assert await other.load("pumps", "aaa") == b"aaa" * 400_000
    assert len(consumers) == made + 1  # its chunks were read again by a consumer of their own
    await other.promote("pumps", "bbb", "an older one")
    assert (await models.promoted("pumps")).data == b"bbb" * 400_000
    assert models.pointer("pumps").history[:2] == (Promoted("eee"), Promoted("ddd"))


@pytest.mark.kafka
async def test_hostile_records_do_not_keep_a_replica_from_starting(replicas: Replicas) -> None:
    models = replicas.replica()
    await models.publish("pumps", "aaa", b"one")
    await models.promote("pumps", "aaa")
    deep = b"[" * 100_000 + b"]" * 100_000
    hostile = [
        (b"pumps/aaa/" + b"9" * 5_000, b"x"),
        (b"pumps/bbb", deep),
        (b"pumps/ccc", b'{"size": 1, "chunks": 1e11, "sha256": ""}'),
        (b"pumps", deep),
        (b"\xff", b"x"),
    ]
    await produce(replicas.settings.bootstrap_servers, replicas.topic, hostile)
    late = replicas.replica()
    assert (await late.promoted("pumps")).data == b"one"  # the pointer before it still stands
    assert late.refused == len(hostile)
    await late.publish("pumps", "bbb", b"two")
    await late.promote("pumps", "bbb")
    assert (await models.promoted("pumps")).data == b"two"


@pytest.mark.kafka
async def test_a_missing_topic_is_named(kafka_bootstrap: str) -> None:
    models = KafkaModels(KafkaSettings(kafka_bootstrap), "nobody")
    with pytest.raises(InputError, match=r"topic 'nobody\.models' does not exist"):
        await models.promoted("pumps")
