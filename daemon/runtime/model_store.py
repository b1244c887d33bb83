"""Promoted models of one process: in its directory, and in the compacted topic that all replicas read.

Implements ``models.Models``. With a topic, the topic decides which model is in force and the directory
holds copies; without one the directory decides. The directory is written in a thread, one change at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from daemon.adapters.kafka import Message, TransactionFailed
from daemon.adapters.registry import DecisionRecord, Decisions, KafkaModels, ModelDirectory, now_text
from daemon.errors import BundleError, DaemonError, OvertakenError, PointerMovedError
from daemon.model.bundle import Bundle

log = structlog.get_logger()

DAEMON = "anomalyd"
"""Who promotes and withdraws models here, as pointers name it."""


class ModelStore:
    """Promoted models in a directory, and in the compacted topic that all replicas follow.

    Args:
        directory: of this process.
        topic: shared by all replicas; None: the directory decides.
        keep: versions of a stream that are kept in either, and as many that were in force.
        decisions: the topic of the decisions on trainings; only with the topic of the models.
    """

    def __init__(
        self,
        directory: Path,
        topic: KafkaModels | None = None,
        keep: int = 10,
        decisions: Decisions | None = None,
    ) -> None:
        self.directory = ModelDirectory(directory)
        self.topic = topic
        self._keep = keep
        self._decisions = decisions
        self._promoted_at_start: dict[str, str] = {}  # per stream, when the training began; empty: nothing
        self._turn = asyncio.Lock()  # one task at a time changes the directory

    async def promoted(self, stream: str) -> bytes | None:
        """See ``models.Models``."""
        if self.topic is not None:
            promotion = await self.topic.promoted(stream)
            return None if promotion is None else promotion.data
        pointer = self.directory.promoted(stream)
        return None if pointer is None else self._bundle(stream, pointer.version)

    async def before(self, stream: str) -> bytes | None:
        """See ``models.Models``."""
        if self.topic is not None:
            promotion = await self.topic.before(stream)
            return None if promotion is None else promotion.data
        pointer = self.directory.promoted(stream)
        return None if pointer is None or not pointer.before else self._bundle(stream, pointer.before)

    async def kept(self, stream: str, version: str) -> bytes:
        """See ``models.Models``."""
        if self.topic is not None:
            return await self.topic.load(stream, version)
        return self._bundle(stream, version)

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        """See ``models.Models``. Versions beyond ``keep`` are removed."""
        await self._copy(stream, bundle, version, reason)
        if self.topic is not None:
            await self.topic.publish(stream, version, bundle, time.time_ns())
            await self.topic.promote(stream, version, reason, DAEMON, now_text())
            await self._retire(self.topic, stream)

    async def _copy(self, stream: str, bundle: bytes, version: str, reason: str | None) -> None:
        """Keep a version in the directory, and promote it there if there is a reason for it."""
        try:
            async with self._turn:
                await asyncio.to_thread(self._put, stream, bundle, version, reason)
        except (BundleError, OSError) as error:
            if self.topic is None:
                raise
            log.warning("model_directory_unwritable", stream=stream, reason=str(error))

    async def _retire(self, topic: KafkaModels, stream: str) -> None:
        try:
            gone = await topic.retire(stream, self._keep)
        except DaemonError as error:  # the next promotion does it
            log.warning("models_not_retired", stream=stream, reason=str(error))
        else:
            if gone:
                log.info("models_retired", stream=stream, versions=gone)

    async def lead(self, stream: str) -> None:
        """See ``models.Models``."""
        if self.topic is None or self._decisions is None:
            return
        await self._decisions.take_over(stream)
        await self.topic.refresh()
        pointer = self.topic.pointer(stream)
        self._promoted_at_start[stream] = "" if pointer is None else pointer.version

    async def decide(self, record: DecisionRecord, bundle: bytes | None) -> DecisionRecord:
        """See ``models.Models``.

        The bundle is stored first, unless the topic has it: it is not used before there is a pointer to it. The pointer and
        the decision are one transaction, and last comes the copy in the directory.
        """
        stream, version, topic = record.stream, record.version, self.topic
        if topic is None or self._decisions is None:
            if record.promoted and bundle is not None:
                await self.promote(stream, bundle, version, record.reason)
            elif bundle is not None:
                await self._copy(stream, bundle, version, None)
            return record
        if record.promoted or record.in_shadow:
            await topic.refresh()
            self._check_pointer(topic, record)
        if record.shadow is not None and record.in_shadow:
            pointer = self._promoted_at_start.get(stream, "")
            record = msgspec.structs.replace(
                record, shadow=msgspec.structs.replace(record.shadow, pointer=pointer)
            )
        if bundle is not None and not await topic.has(stream, version):
            await topic.publish(stream, version, bundle, time.time_ns())
        if record.promoted:
            await topic.promote(
                stream,
                version,
                record.reason,
                DAEMON,
                record.time,
                lambda pointer: self._decide(topic, record, pointer),
            )
        else:
            await self._decide(topic, record)
        if bundle is not None:
            await self._copy(stream, bundle, version, record.reason if record.promoted else None)
            await self._retire(topic, stream)
        return record

    def _check_pointer(self, topic: KafkaModels, record: DecisionRecord) -> None:
        """Check that what is promoted now, as read so far, was so when the candidate was compared with the model in use."""
        now = topic.pointer(record.stream)
        before, meanwhile = self._promoted_at_start.get(record.stream, ""), "it was trained"
        if record.shadow is not None and record.shadow.over:  # it began long before this process led
            pointer = record.shadow.pointer
            before, meanwhile = record.parent if pointer is None else pointer, "it was in shadow"
        if ("" if now is None else now.version) != before:
            raise PointerMovedError(
                f"another model was promoted while {meanwhile}: {'none' if now is None else now.version}"
            )

    async def _decide(self, topic: KafkaModels, record: DecisionRecord, *pointer: Message) -> None:
        """Write a decision, with the pointer to what it promotes if there is one."""
        assert self._decisions is not None
        if pointer:
            self._check_pointer(topic, record)
        try:
            await self._decisions.write(record, *pointer)
        except TransactionFailed as error:
            if error.fenced:
                raise OvertakenError(f"another process trains {record.stream} now") from error
            raise

    async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
        """See ``models.Models``."""
        return [] if self._decisions is None else await self._decisions.new(to_the_end=to_the_end)

    async def withdraw(self, stream: str, version: str, reason: str) -> None:
        """See ``models.Models``."""
        now = None
        if self.topic is not None:
            now = await self.topic.withdraw(stream, version, reason, DAEMON, now_text())
        try:
            async with self._turn:
                await asyncio.to_thread(self._point_back, stream, version, reason, now)
        except (BundleError, OSError) as error:
            if self.topic is None:
                raise
            log.warning("model_directory_unwritable", stream=stream, reason=str(error))

    async def poll(self) -> Sequence[tuple[str, bytes, str]]:
        """See ``models.Models``."""
        if self.topic is None:
            return []
        return [
            (one.stream, one.data, one.reason + (f", by {one.by}" if one.by else ""))
            for one in await self.topic.poll()
        ]

    def _bundle(self, stream: str, version: str) -> bytes:
        """A bundle of the directory, checked against its version."""
        folder = self.directory.folder(stream, version)
        bundle = Bundle.load(folder)
        if bundle.version != version:  # the version hashes the manifest, and with it all parts
            raise BundleError(f"{folder}: holds model {bundle.version}: it is damaged")
        return bundle.to_bytes()

    def _put(self, stream: str, bundle: bytes, version: str, reason: str | None) -> None:
        self.directory.add(stream, version, Bundle.from_bytes(bundle).write)
        if reason is not None:
            self.directory.promote(stream, version, reason, DAEMON, now_text())
        self.directory.retire(stream, self._keep)

    def _point_back(self, stream: str, version: str, reason: str, now: str | None) -> None:
        """Move the directory's pointer from ``version`` to the topic's, or else to the one before."""
        pointer = self.directory.promoted(stream)
        if pointer is None or pointer.version != version:
            return
        back = now != "" and self.directory.rollback(stream, reason, DAEMON, now_text(), now or "")
        if not back:
            self.directory.withdraw(stream)
