"""Models in a compacted topic, for all replicas: publishing, promoting, following promotions.

The records are those of ``records``; what is held of the topic is a ``TopicView``. Chunks that are not held are read
again from the start of the topic.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass

import msgspec
import structlog

from daemon.adapters.kafka import Follower, KafkaSettings, Message, TopicSpec, Writer
from daemon.adapters.registry.records import (
    CHUNK_BYTES,
    LARGEST_BUNDLE,
    Manifest,
    Pointer,
    Promoted,
    checked,
    following,
    outdated,
)
from daemon.adapters.registry.topic_view import ARRIVING, StoredVersion, TopicView
from daemon.errors import BundleError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Promotion:
    """A promoted version with its bundle, to be used from now on."""

    stream: str
    version: str
    reason: str
    data: bytes
    by: str = ""


def models_topic(prefix: str) -> TopicSpec:
    """The topic of the models, as ``topics --create`` creates it."""
    config = {"cleanup.policy": "compact", "max.message.bytes": "1048588"}
    return TopicSpec(f"{prefix}.models", 1, config)


class KafkaModels:
    """The models of all streams in ``<prefix>.models``.

    Several tasks may use it at once: one reads at a time, and one writes.

    Args:
        settings: the connection.
        prefix: of the topic.
        streams: those of interest; None for all that the topic has.
        arriving: see ``TopicView``.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        prefix: str,
        streams: Collection[str] | None = None,
        *,
        arriving: int = ARRIVING,
    ) -> None:
        self._settings = settings
        self._topic = models_topic(prefix).name
        self._writer = Writer(settings)
        self._follower = Follower(settings, self._topic)
        self._view = TopicView(streams, arriving=arriving)
        self._moved: dict[
            str, None
        ] = {}  # streams whose pointer has changed since the last ``poll``, in order
        self._damaged = Counter[str]()
        self._reading = asyncio.Lock()

    @property
    def refused(self) -> int:
        """Records that could not be used, and promotions of bundles that are damaged."""
        return self._view.refused + self._damaged.total()

    # -------------------------------------------------------------- writing
    async def publish(self, stream: str, version: str, data: bytes, trained_ns: int = 0) -> None:
        """Store a bundle: chunks, then the manifest. It is not used before it is promoted.

        ``trained_ns`` is when it was trained (ns since 1970); 0: not known.

        Raises:
            BundleError: it is empty, or larger than a reader accepts.
        """
        name = f"{checked('stream', stream)}/{checked('version', version)}"
        if not 1 <= len(data) <= LARGEST_BUNDLE:
            raise BundleError(f"a bundle of {len(data)} bytes, where 1 to {LARGEST_BUNDLE} can be kept")
        chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        await self._write((f"{name}/{i}", chunk) for i, chunk in enumerate(chunks))
        manifest = Manifest(len(data), len(chunks), hashlib.sha256(data).hexdigest(), trained_ns)
        await self._write([(name, msgspec.json.encode(manifest))])

    async def promote(
        self,
        stream: str,
        version: str,
        reason: str = "",
        by: str = "",
        at: str = "",
        write: Callable[[Message], Awaitable[None]] | None = None,
    ) -> None:
        """Let every replica use this version, which may be an older one.

        ``write`` writes the pointer, where it is to be written together with something else; the topic was read to its
        end before.

        Raises:
            BundleError: the topic does not have it whole.
        """
        try:
            await self._bundle(checked("stream", stream), checked("version", version))
        except BundleError as error:
            raise BundleError(
                f"version {version!r} of stream {stream!r} cannot be promoted: {error}"
            ) from error
        pointer = following(self._view.pointers.get(stream), Promoted(version, reason, by, at))
        if write is None:
            await self._point(stream, pointer)
        else:
            await write(Message(self._topic, stream.encode(), pointer.written(), (), 0))

    async def rollback(self, stream: str, reason: str = "", by: str = "", at: str = "", to: str = "") -> str:
        """Promote again what was promoted before: the nearest that the topic has whole, or ``to``.

        Returns:
            The version that is promoted now; empty if there is none to go back to: then nothing has changed.
        """
        await self.refresh()
        now = self._view.pointers.get(checked("stream", stream))
        for earlier in () if now is None else now.earlier(reason, by, at):
            if to not in ("", earlier.version):
                continue
            try:
                await self._whole(stream, earlier.version)
            except BundleError:
                continue
            await self._point(stream, earlier)
            return earlier.version
        return ""

    async def withdraw(self, stream: str, version: str, reason: str, by: str = "", at: str = "") -> str:
        """If this version is the promoted one, promote the one before it, or none.

        A version that was promoted by another process meanwhile stays.

        Returns:
            The version that is promoted now; empty for none.
        """
        await self.refresh()
        now = self._view.pointers.get(checked("stream", stream))
        if now is None or now.version != version:
            return "" if now is None else now.version
        before = await self.rollback(stream, reason, by, at)
        if not before:
            await self._point(stream, None)
        return before

    async def remove(self, stream: str, version: str) -> None:
        """Remove a version: its keys are deleted, the manifest's first."""
        name, stored = f"{stream}/{version}", self._view.version(stream, version)
        chunks = stored.numbers | set(range(stored.manifest.chunks if stored.manifest is not None else 0))
        await self._write([(name, None)])
        await self._write((f"{name}/{i}", None) for i in sorted(chunks))

    async def retire(self, stream: str, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` versions and those that the pointer needs; returns those removed."""
        await self.refresh()
        # A version without a manifest is being written now, or was never finished.
        versions = self._view.known(checked("stream", stream), whole=False)
        gone = outdated(versions, self._view.pointers.get(stream), keep)
        for version in gone:
            await self.remove(stream, version)
        return gone

    async def _point(self, stream: str, pointer: Pointer | None) -> None:
        await self._write([(stream, None if pointer is None else pointer.written())])

    async def _write(self, records: Iterable[tuple[str, bytes | None]]) -> None:
        await self._writer.write([Message(self._topic, key.encode(), value, (), 0) for key, value in records])

    # -------------------------------------------------------------- reading
    async def promoted(self, stream: str) -> Promotion | None:
        """What is promoted now, after reading the topic to its end; None for nothing.

        Raises:
            InputError: the topic does not exist.
            BundleError: the promoted bundle is damaged.
        """
        await self.refresh()
        self._moved.pop(stream, None)  # returned here, not again by ``poll``
        return await self._promotion(stream)

    async def before(self, stream: str) -> Promotion | None:
        """What was promoted before that, as read so far; None for nothing.

        Raises:
            BundleError: it is damaged.
        """
        pointer = self._view.pointers.get(stream)
        if pointer is None or not pointer.before:
            return None
        data = await self._bundle(stream, pointer.before)
        return Promotion(stream, pointer.before, "promoted before", data)

    async def poll(self) -> list[Promotion]:
        """The newest promotion of each stream that was promoted since the last call.

        A damaged bundle is logged and left out: the model in use stays. While another task reads, nothing is
        returned yet.
        """
        if self._reading.locked():
            return []
        async with self._reading:
            await self._follow(to_the_end=False)
        moved, self._moved = self._moved, {}
        found = []
        for stream in moved:
            try:
                promotion = await self._promotion(stream)
            except BundleError as error:
                self._damaged[stream] += 1
                log.warning("bundle_refused", stream=stream, reason=str(error))
            else:
                found += [promotion] if promotion is not None else []
        return found

    async def refresh(self) -> None:
        """Read the topic to its present end."""
        async with self._reading:
            await self._follow(to_the_end=True)

    def known(self, stream: str) -> list[str]:
        """The versions read so far that have a manifest, oldest first."""
        return self._view.known(stream)

    def streams(self) -> list[str]:
        """The streams read so far."""
        return self._view.streams()

    def pointer(self, stream: str) -> Pointer | None:
        """The promoted version as read so far."""
        return self._view.pointers.get(stream)

    def trained_ns(self, stream: str, version: str) -> int:
        """When a version was trained, as read so far; ns since 1970, 0 if that is not known."""
        manifest = self._view.version(stream, version).manifest
        return 0 if manifest is None else manifest.trained_ns

    async def load(self, stream: str, version: str) -> bytes:
        """One bundle.

        Raises:
            BundleError: it is not there, or damaged.
        """
        try:
            return await self._bundle(stream, version)
        except BundleError as error:
            raise BundleError(
                f"version {version!r} of stream {stream!r} cannot be loaded: {error}"
            ) from error

    async def has(self, stream: str, version: str) -> bool:
        """Whether the topic has a bundle whole."""
        try:
            await self._bundle(stream, version)
        except BundleError:
            return False
        return True

    def close(self) -> None:
        """End a write that waits for a broker (SIGTERM)."""
        self._writer.close()

    async def stop(self) -> None:
        """Close the connections."""
        await self._writer.stop()
        await self._follower.stop()

    async def _follow(self, *, to_the_end: bool) -> None:
        """Read on. After a reconnect the whole topic is read again: only the pointers at the end of it count."""
        before = dict(self._view.pointers)
        try:
            await self._follower.read(self._view.apply, to_the_end=to_the_end)
        finally:
            for stream, pointer in self._view.pointers.items():
                if pointer != before.get(stream):
                    self._moved[stream] = None

    async def _promotion(self, stream: str) -> Promotion | None:
        pointer = self._view.pointers.get(stream)
        if pointer is None:
            return None
        try:
            data = await self._whole(stream, pointer.version)
        except BundleError as error:
            raise BundleError(
                f"the promoted version {pointer.version!r} of stream {stream!r} is damaged: {error}"
            ) from error
        return Promotion(stream, pointer.version, pointer.reason, data, pointer.by)

    async def _bundle(self, stream: str, version: str) -> bytes:
        """A bundle as the topic has it now."""
        await self.refresh()
        return await self._whole(stream, version)

    async def _whole(self, stream: str, version: str) -> bytes:
        """A bundle; chunks that are not held are read again, from the start of the topic."""
        stored = self._view.version(stream, version)
        if stored.incomplete:
            stored = await self._read_again(stream, version)
        return stored.bundle()

    async def _read_again(self, stream: str, version: str) -> StoredVersion:
        view, follower = TopicView([stream], version), Follower(self._settings, self._topic)
        try:
            await follower.read(view.apply, to_the_end=True)
        finally:
            await follower.stop()
        return view.version(stream, version)
