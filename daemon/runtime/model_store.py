"""Promoted models of one process: in its directory, and in the compacted topic that all replicas read.

Implements ``lifecycle.Models``. With a topic, the topic decides which model is in force and the directory
holds copies; without one the directory decides. The directory is written in a thread, one change at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from daemon.adapters.registry import KafkaModels, ModelDirectory, now_text
from daemon.errors import BundleError, DaemonError
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
    """

    def __init__(self, directory: Path, topic: KafkaModels | None = None, keep: int = 10) -> None:
        self.directory = ModelDirectory(directory)
        self.topic = topic
        self._keep = keep
        self._turn = asyncio.Lock()  # one task at a time changes the directory

    async def promoted(self, stream: str) -> bytes | None:
        """See ``lifecycle.Models``."""
        if self.topic is not None:
            promotion = await self.topic.promoted(stream)
            return None if promotion is None else promotion.data
        pointer = self.directory.promoted(stream)
        return None if pointer is None else self._bundle(stream, pointer.version)

    async def before(self, stream: str) -> bytes | None:
        """See ``lifecycle.Models``."""
        if self.topic is not None:
            promotion = await self.topic.before(stream)
            return None if promotion is None else promotion.data
        pointer = self.directory.promoted(stream)
        return None if pointer is None or not pointer.before else self._bundle(stream, pointer.before)

    async def promote(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        """See ``lifecycle.Models``. Versions beyond ``keep`` are removed."""
        try:
            async with self._turn:
                await asyncio.to_thread(self._put, stream, bundle, version, reason)
        except (BundleError, OSError) as error:
            if self.topic is None:
                raise
            log.warning("model_directory_unwritable", stream=stream, reason=str(error))
        if self.topic is not None:
            await self.topic.publish(stream, version, bundle, time.time_ns())
            await self.topic.promote(stream, version, reason, DAEMON, now_text())
            try:
                gone = await self.topic.retire(stream, self._keep)
            except DaemonError as error:  # the next promotion does it
                log.warning("models_not_retired", stream=stream, reason=str(error))
            else:
                if gone:
                    log.info("models_retired", stream=stream, versions=gone)

    async def withdraw(self, stream: str, version: str, reason: str) -> None:
        """See ``lifecycle.Models``."""
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
        """See ``lifecycle.Models``."""
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

    def _put(self, stream: str, bundle: bytes, version: str, reason: str) -> None:
        self.directory.add(stream, version, Bundle.from_bytes(bundle).write)
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
