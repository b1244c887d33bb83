"""Where models are kept: a directory for one machine, a compacted topic for all replicas.

A bundle is opaque here: bytes (or files) under a version, which is a hash of its manifest, so
that adding the same bundle twice is adding it once.

**The topic.** A bundle is larger than a Kafka message may be, so it is cut into chunks. Keys,
all in one partition, so that the order written is the order read:

    <stream>/<version>/<i>   one chunk, at most 512 kB
    <stream>/<version>       the manifest: size, number of chunks, SHA-256; after all chunks
    <stream>                 the promoted version and why; written last

A reader that sees a pointer has therefore seen the whole bundle, and checks its SHA-256. A
version is removed by deleting its keys (tombstones), the manifest first. What is in the topic is read
with limits: see ``shelves``.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from daemon.adapters.kafka import Follower, KafkaSettings, Message, TopicSpec, Writer
from daemon.adapters.shelves import (
    CHUNK_BYTES,
    LARGEST_BUNDLE,
    NAME,
    POINTER,
    POINTER_BYTES,
    Manifest,
    Pointer,
    Shelf,
    Shelves,
    checked,
    outdated,
)
from daemon.errors import BundleError
from daemon.writing import replacing, replacing_folder

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version that is to be used from now on, with its bundle."""

    stream: str
    version: str
    reason: str
    data: bytes


# ------------------------------------------------------------------ a directory
class ModelDirectory:
    """``<path>/<stream>/<version>/`` with a bundle's files, and ``<path>/<stream>/promoted``.

    A version's folder appears whole or not at all, and so does the pointer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def versions(self, stream: str) -> list[str]:
        """Every version of a stream, oldest first."""
        folder = self._path / checked("stream", stream)
        try:
            # A dot marks a folder that is still being written.
            kept = [child for child in folder.iterdir() if NAME.fullmatch(child.name) and child.is_dir()]
            return [c.name for c in sorted(kept, key=lambda child: (child.stat().st_mtime_ns, child.name))]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def folder(self, stream: str, version: str) -> Path:
        """Where a version's files are.

        Raises:
            BundleError: naming the versions that there are.
        """
        folder = self._path / checked("stream", stream) / checked("version", version)
        if not folder.is_dir():
            known = ", ".join(self.versions(stream)) or "none"
            raise BundleError(f"{self._path} has no version {version!r} of stream {stream!r}; it has {known}")
        return folder

    def add(self, stream: str, version: str, write: Callable[[Path], object]) -> Path:
        """Keep a version; ``write`` puts the bundle's files into the folder it is given.

        A version that is there already is left as it is.
        """
        place = self._path / checked("stream", stream) / checked("version", version)
        if place.is_dir():
            return place
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing_folder(place) as scratch:
                write(scratch)
        except OSError as error:
            raise BundleError(f"{place} cannot be written: {error}") from error
        return place

    def promote(self, stream: str, version: str, reason: str = "", before: str = "") -> None:
        """Point at a version that is here; ``before`` is the one that it follows."""
        folder = self.folder(stream, version)
        with replacing(folder.parent / POINTER) as temporary:
            temporary.write_bytes(Pointer(version, reason, before).written())

    def promoted(self, stream: str) -> Pointer | None:
        """The promoted version, or None when there is none yet."""
        path = self._path / checked("stream", stream) / POINTER
        try:
            with path.open("rb") as file:
                return Pointer.read(file.read(POINTER_BYTES + 1))
        except FileNotFoundError:
            return None
        except (OSError, BundleError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error

    def withdraw(self, stream: str) -> None:
        """Point at no version any more."""
        (self._path / checked("stream", stream) / POINTER).unlink(missing_ok=True)

    def retire(self, stream: str, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` versions, the promoted one and the one before; returns what went."""
        try:
            pointer = self.promoted(stream)
        except BundleError:
            return []  # which one is needed is not known
        gone = outdated(self.versions(stream), pointer, keep)
        for version in gone:
            shutil.rmtree(self._path / stream / version, ignore_errors=True)
        return gone


# ------------------------------------------------------------------ a topic
def models_topic(prefix: str) -> TopicSpec:
    """The topic that models are kept in, as ``topics --create`` makes it."""
    config = {"cleanup.policy": "compact", "max.message.bytes": "1048588"}
    return TopicSpec(f"{prefix}.models", 1, config)


class KafkaModels:
    """The models of all streams in ``<prefix>.models``; see ``shelves`` for what is held of them.

    Several tasks may use it at once: one reads at a time, and one writes.

    Args:
        settings, prefix: where.
        streams: those of interest; None for all that the topic has.
    """

    def __init__(self, settings: KafkaSettings, prefix: str, streams: Collection[str] | None = None) -> None:
        self._settings = settings
        self._topic = models_topic(prefix).name
        self._writer = Writer(settings)
        self._follower = Follower(settings, self._topic)
        self._shelves = Shelves(streams)
        self._moved: dict[str, None] = {}  # streams whose pointer was seen anew, in order
        self._damaged = Counter[str]()
        self._reading = asyncio.Lock()

    @property
    def refused(self) -> int:
        """Records that could not be used, and promotions of bundles that are damaged."""
        return self._shelves.refused + self._damaged.total()

    # -------------------------------------------------------------- writing
    async def publish(self, stream: str, version: str, data: bytes) -> None:
        """Keep a bundle: chunks, then the manifest. Nobody uses it before it is promoted.

        Raises:
            BundleError: it is larger than anybody would read.
        """
        name = f"{checked('stream', stream)}/{checked('version', version)}"
        if not 1 <= len(data) <= LARGEST_BUNDLE:
            raise BundleError(f"a bundle of {len(data)} bytes, where 1 to {LARGEST_BUNDLE} can be kept")
        chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        await self._write((f"{name}/{i}", chunk) for i, chunk in enumerate(chunks))
        manifest = Manifest(len(data), len(chunks), hashlib.sha256(data).hexdigest())
        await self._write([(name, msgspec.json.encode(manifest))])

    async def promote(self, stream: str, version: str, reason: str = "") -> None:
        """Let every replica use a version; also how one goes back to an older one.

        Raises:
            BundleError: the topic does not hold it whole.
        """
        try:
            await self._bundle(checked("stream", stream), checked("version", version))
        except BundleError as error:
            raise BundleError(
                f"version {version!r} of stream {stream!r} cannot be promoted: {error}"
            ) from error
        now = self._shelves.pointers.get(stream)
        before = "" if now is None else now.before if now.version == version else now.version
        await self._write([(stream, Pointer(version, reason, before).written())])

    async def withdraw(self, stream: str, version: str, reason: str) -> str:
        """If this version is the promoted one, promote the one before it, or none.

        A version that somebody else has promoted meanwhile stays.

        Returns:
            The version that is promoted now; empty if none is.
        """
        await self.refresh()
        now = self._shelves.pointers.get(checked("stream", stream))
        if now is None or now.version != version:
            return "" if now is None else now.version
        before = now.before
        if before:
            try:
                await self._bundle(stream, before)
            except BundleError:
                before = ""
        await self._write([(stream, Pointer(before, reason).written() if before else None)])
        return before

    async def retire(self, stream: str, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` versions, the promoted one and the one before; returns what went."""
        await self.refresh()
        # What has no manifest is being written now, or never was written to its end.
        versions = self._shelves.known(checked("stream", stream), whole=False)
        gone = outdated(versions, self._shelves.pointers.get(stream), keep)
        for version in gone:
            name, shelf = f"{stream}/{version}", self._shelves.shelf(stream, version)
            chunks = shelf.numbers | set(range(shelf.manifest.chunks if shelf.manifest is not None else 0))
            await self._write([(name, None)])
            await self._write((f"{name}/{i}", None) for i in sorted(chunks))
        return gone

    async def _write(self, records: Iterable[tuple[str, bytes | None]]) -> None:
        await self._writer.write([Message(self._topic, key.encode(), value, (), 0) for key, value in records])

    # -------------------------------------------------------------- reading
    async def promoted(self, stream: str) -> Promotion | None:
        """What is promoted now: reads the topic to its end first. None when nothing is.

        Raises:
            InputError: the topic does not exist.
            BundleError: the promoted bundle is damaged.
        """
        await self.refresh()
        self._moved.pop(stream, None)  # said here, not again by ``poll``
        return await self._promotion(stream)

    async def before(self, stream: str) -> Promotion | None:
        """What was promoted before that, as read so far; None when nothing was.

        Raises:
            BundleError: it is damaged.
        """
        pointer = self._shelves.pointers.get(stream)
        if pointer is None or not pointer.before:
            return None
        data = await self._bundle(stream, pointer.before)
        return Promotion(stream, pointer.before, "promoted before", data)

    async def poll(self) -> list[Promotion]:
        """The newest promotion of each stream that was promoted since the last call.

        A damaged bundle is logged and left out: the model in use stays. While another task reads,
        there is nothing to say yet.
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
        return self._shelves.known(stream)

    def pointer(self, stream: str) -> Pointer | None:
        """The promoted version as read so far."""
        return self._shelves.pointers.get(stream)

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

    def close(self) -> None:
        """End a write that waits for a broker (SIGTERM)."""
        self._writer.close()

    async def stop(self) -> None:
        """Close the connections."""
        await self._writer.stop()
        await self._follower.stop()

    async def _follow(self, *, to_the_end: bool) -> None:
        """Read on. A client that began anew tells all that ever was: only where it leads to counts."""
        before = dict(self._shelves.pointers)
        try:
            await self._follower.read(self._shelves.take, to_the_end=to_the_end)
        finally:
            for stream, pointer in self._shelves.pointers.items():
                if pointer != before.get(stream):
                    self._moved[stream] = None

    async def _promotion(self, stream: str) -> Promotion | None:
        pointer = self._shelves.pointers.get(stream)
        if pointer is None:
            return None
        try:
            data = await self._whole(stream, pointer.version)
        except BundleError as error:
            raise BundleError(
                f"the promoted version {pointer.version!r} of stream {stream!r} is damaged: {error}"
            ) from error
        return Promotion(stream, pointer.version, pointer.reason, data)

    async def _bundle(self, stream: str, version: str) -> bytes:
        """A bundle as the topic has it now."""
        await self.refresh()
        return await self._whole(stream, version)

    async def _whole(self, stream: str, version: str) -> bytes:
        """A bundle; chunks that were let go are read again, from the topic's start."""
        shelf = self._shelves.shelf(stream, version)
        if shelf.let_go:
            shelf = await self._read_again(stream, version)
        return shelf.bundle()

    async def _read_again(self, stream: str, version: str) -> Shelf:
        some, follower = Shelves([stream], version), Follower(self._settings, self._topic)
        try:
            await follower.read(some.take, to_the_end=True)
        finally:
            await follower.stop()
        return some.shelf(stream, version)
