"""Promoted models of one process: in its directory alone, and beside a topic that all replicas read."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon.adapters.kafka import Message
from daemon.adapters.registry import DecisionRecord, Pointer, Promotion, TriggerFact
from daemon.errors import BrokerError, BundleError, PointerMovedError
from daemon.model.bundle import Bundle
from daemon.runtime.deciding import into_shadow, out_of_shadow, void_shadow
from daemon.runtime.model_store import ModelStore
from tests.runtime.scripted import trained_bundle

BUNDLES = [trained_bundle(centre) for centre in (0.5, 0.6, 0.7, 0.8)]


async def promote(store: ModelStore, *bundles: Bundle) -> None:
    for bundle in bundles:
        await store.promote("pumps", bundle.to_bytes(), bundle.version, "better")


async def in_force(store: ModelStore) -> list[str | None]:
    """The version that is promoted, and the one before it."""
    held = [await store.promoted("pumps"), await store.before("pumps")]
    return [None if data is None else Bundle.from_bytes(data).version for data in held]


def kept(folder: Path) -> set[str]:
    return {child.name for child in (folder / "pumps").iterdir() if child.is_dir()}


async def test_the_promoted_bundle_and_the_one_before_are_kept(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    a, b, c, _ = BUNDLES
    assert await in_force(store) == [None, None]
    await promote(store, a)
    assert await in_force(store) == [a.version, None]
    await promote(store, b, c)
    assert await in_force(store) == [c.version, b.version]
    await promote(store, c)  # once more: it does not follow itself
    assert await in_force(store) == [c.version, b.version]
    assert await in_force(ModelStore(tmp_path)) == [c.version, b.version]
    assert await store.poll() == []


async def test_after_a_withdrawal_the_version_before_is_in_force_and_then_none(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    a, b, c, _ = BUNDLES
    await promote(store, a, b)
    await store.withdraw("pumps", a.version, "it is not in force")
    await store.withdraw("pumps", c.version, "it is not there")
    assert await in_force(store) == [b.version, a.version]
    await store.withdraw("pumps", b.version, "it failed")
    assert await in_force(store) == [a.version, None]
    await store.withdraw("pumps", a.version, "it failed, too")
    assert await in_force(store) == [None, None]
    await store.withdraw("pumps", a.version, "nothing is in force")


async def test_a_withdrawal_does_not_point_to_a_deleted_version(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    a, b, _, _ = BUNDLES
    await promote(store, a, b)
    shutil.rmtree(tmp_path / "pumps" / a.version)
    await store.withdraw("pumps", b.version, "it failed")
    assert await in_force(store) == [None, None]


async def test_a_promotion_removes_old_versions(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, keep=1)
    await promote(store, *BUNDLES)
    assert kept(tmp_path) == {BUNDLES[3].version, BUNDLES[2].version}  # the one before is in use, too
    store = ModelStore(tmp_path, keep=3)
    await promote(store, BUNDLES[0])
    assert kept(tmp_path) == {BUNDLES[i].version for i in (0, 2, 3)}


async def test_versions_that_were_promoted_outlast_newer_ones_that_were_not(tmp_path: Path) -> None:
    """Candidates that the gate refused are newer than the promoted one, and not what anybody goes back to."""
    store = ModelStore(tmp_path, keep=2)
    a, b, c, d = BUNDLES
    await promote(store, a)
    for refused in (b, c):
        store.directory.add("pumps", refused.version, refused.write)
    await promote(store, d)
    assert kept(tmp_path) == {a.version, c.version, d.version}
    pointer = store.directory.promoted("pumps")
    assert pointer is not None
    assert (pointer.before, pointer.by) == (a.version, "anomalyd")
    assert datetime.fromisoformat(pointer.at).tzinfo is not None


async def test_a_folder_with_another_version_is_damaged(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    a, b, _, _ = BUNDLES
    await promote(store, a, b)
    shutil.rmtree(tmp_path / "pumps" / b.version)
    shutil.copytree(tmp_path / "pumps" / a.version, tmp_path / "pumps" / b.version)
    with pytest.raises(BundleError, match=f"holds model {a.version}: it is damaged"):
        await store.promoted("pumps")


async def test_a_pointer_that_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    a, b, _, _ = BUNDLES
    await promote(store, a)
    (tmp_path / "pumps" / "promoted").write_bytes(b"{")
    with pytest.raises(BundleError, match="promoted cannot be read"):
        await store.promoted("pumps")
    await promote(store, b)
    assert await in_force(store) == [b.version, None]


# ------------------------------------------------------------------ beside a topic
class Topic:
    """The shared models of all replicas, with the interface of ``KafkaModels``."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.promotions: list[str] = []
        self.retired: list[int] = []
        self.away = False
        self.published = 0

    async def promoted(self, stream: str) -> Promotion | None:
        return self._promotion(stream, -1)

    async def before(self, stream: str) -> Promotion | None:
        return self._promotion(stream, -2)

    def _promotion(self, stream: str, at: int) -> Promotion | None:
        if len(self.promotions) < -at:
            return None
        version = self.promotions[at]
        return Promotion(stream, version, "rolled back", self.held[version], "kim")

    async def publish(self, stream: str, version: str, data: bytes, trained_ns: int = 0) -> None:
        self.held[version] = data
        self.published += 1

    async def has(self, stream: str, version: str) -> bool:
        return version in self.held

    async def refresh(self) -> None: ...

    def pointer(self, stream: str) -> Pointer | None:
        return Pointer(self.promotions[-1]) if self.promotions else None

    async def promote(
        self,
        stream: str,
        version: str,
        reason: str = "",
        by: str = "",
        at: str = "",
        write: Callable[[Message], Awaitable[None]] | None = None,
    ) -> None:
        assert version in self.held  # nobody may read of a bundle that is not there
        if write is not None:
            await write(Message("models", stream.encode(), b"", (), 0))
        self.promotions.append(version)

    async def withdraw(self, stream: str, version: str, reason: str, by: str = "", at: str = "") -> str:
        if self.promotions[-1:] == [version]:
            self.promotions.pop()
        return self.promotions[-1] if self.promotions else ""

    async def retire(self, stream: str, keep: int) -> list[str]:
        if self.away:
            raise BrokerError("no broker")
        self.retired.append(keep)
        return []

    async def poll(self) -> list[Promotion]:
        found = self._promotion("pumps", -1)
        return [] if found is None else [found]


def beside(folder: Path, keep: int = 10) -> tuple[ModelStore, Topic]:
    topic = Topic()
    return ModelStore(folder, topic, keep), topic  # type: ignore[arg-type]


async def test_the_topic_decides_and_the_directory_has_copies(tmp_path: Path) -> None:
    store, topic = beside(tmp_path, keep=7)
    a, b, c, _ = BUNDLES
    await promote(store, a, b)
    assert topic.promotions == [a.version, b.version]
    assert topic.retired == [7, 7]
    assert await in_force(store) == [b.version, a.version]
    assert await in_force(ModelStore(tmp_path)) == [b.version, a.version]
    assert await store.poll() == [("pumps", b.to_bytes(), "rolled back, by kim")]
    await ModelStore(tmp_path).promote("pumps", c.to_bytes(), c.version, "by hand")
    assert await in_force(store) == [b.version, a.version]


async def test_after_a_withdrawal_directory_and_topic_agree(tmp_path: Path) -> None:
    """Another replica may have promoted something else in between, which this directory never had."""
    store, topic = beside(tmp_path)
    a, b, c, d = BUNDLES
    await promote(store, a, b, c)
    topic.promotions.remove(b.version)
    await store.withdraw("pumps", c.version, "it failed")
    assert await in_force(ModelStore(tmp_path)) == [a.version, None]
    topic.held[d.version] = d.to_bytes()
    topic.promotions = [d.version, a.version]
    await store.withdraw("pumps", a.version, "it failed")
    assert topic.promotions == [d.version]
    assert await in_force(ModelStore(tmp_path)) == [None, None]


async def test_an_unwritable_directory_is_an_error_only_without_a_topic(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no directory")
    a = BUNDLES[0]
    with pytest.raises(BundleError, match="cannot be written"):
        await promote(ModelStore(file), a)
    store, topic = beside(file)
    with capture_logs() as logs:
        await promote(store, a)
        await store.withdraw("pumps", a.version, "it failed")
    assert topic.promotions == []
    assert a.version in topic.held
    events = [entry["event"] for entry in logs if entry["log_level"] == "warning"]
    assert events == ["model_directory_unwritable", "model_directory_unwritable"]


async def test_a_removal_that_fails_is_repeated_at_the_next_promotion(tmp_path: Path) -> None:
    store, topic = beside(tmp_path)
    topic.away = True
    with capture_logs() as logs:
        await promote(store, BUNDLES[0])
    assert topic.promotions == [BUNDLES[0].version]
    assert [entry["event"] for entry in logs] == ["models_not_retired"]


async def test_concurrent_promotions_run_one_after_the_other(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    streams = [f"stream-{i}" for i in range(8)]
    await asyncio.gather(
        *(store.promote(name, b.to_bytes(), b.version, "better") for name in streams for b in BUNDLES)
    )
    for name in streams:
        held = await store.promoted(name), await store.before(name)
        assert held == (BUNDLES[3].to_bytes(), BUNDLES[2].to_bytes())


# ------------------------------------------------------------------ a shadow
class Written:
    """The topic of the decisions, with the interface of ``Decisions``."""

    def __init__(self) -> None:
        self.records: list[DecisionRecord] = []

    async def take_over(self, stream: str) -> None: ...

    async def write(self, record: DecisionRecord, *pointer: Message) -> None:
        self.records.append(record)


def deciding(folder: Path, *promoted: Bundle) -> tuple[ModelStore, Topic]:
    topic = Topic()
    for bundle in promoted:
        topic.held[bundle.version] = bundle.to_bytes()
        topic.promotions.append(bundle.version)
    return ModelStore(folder, topic, 10, Written()), topic  # type: ignore[arg-type]


def of_candidate(bundle: Bundle, parent: Bundle) -> DecisionRecord:
    return DecisionRecord("pumps", TriggerFact("schedule"), True, "", "", bundle.version, parent.version)


@pytest.mark.parametrize("promoted", [[], BUNDLES[2:3]])
async def test_a_shadow_ends_over_the_pointer_that_it_began_with_whatever_model_it_was_compared_with(
    tmp_path: Path, promoted: list[Bundle]
) -> None:
    """The model in use may be one given at the start, or the one before a promoted one that is damaged."""
    store, topic = deciding(tmp_path, *promoted)
    one, two, *_ = BUNDLES
    await store.lead("pumps")
    begun = await store.decide(into_shadow(of_candidate(two, one), 0, 10**9), two.to_bytes())
    assert begun.shadow is not None
    assert begun.shadow.pointer == (promoted[0].version if promoted else "")
    await store.lead("pumps")
    await store.decide(out_of_shadow(begun, "", reason="", promoted=True), two.to_bytes())
    assert topic.promotions[-1] == two.version
    assert topic.published == 1


@pytest.mark.parametrize("shadow", [True, False])
async def test_nothing_is_published_of_a_candidate_where_the_pointer_has_moved(
    tmp_path: Path, shadow: bool
) -> None:
    store, topic = deciding(tmp_path, BUNDLES[0])
    one, two, three, _ = BUNDLES
    await store.lead("pumps")
    topic.promotions.append(three.version)
    record = of_candidate(two, one)
    with pytest.raises(PointerMovedError, match=f"while it was trained: {three.version}"):
        await store.decide(into_shadow(record, 0, 10**9) if shadow else record, two.to_bytes())
    over = out_of_shadow(into_shadow(record, 0, 10**9), "", reason="", promoted=True)
    with pytest.raises(PointerMovedError, match=f"while it was in shadow: {three.version}"):
        await store.decide(over, two.to_bytes())
    assert topic.published == 0
    void = void_shadow(into_shadow(record, 0, 10**9), "", "")
    assert await store.decide(void, None) == void
