"""Where models are kept: a directory for one machine, a compacted topic for all replicas.

A bundle is opaque here: bytes (or files) under a version, which is a hash of its manifest, so
that adding the same bundle twice is adding it once.

**The topic.** A bundle is larger than a Kafka message may be, so it is cut into chunks. Keys,
all in one partition, so that the order written is the order read:

    <stream>/<version>/<i>   one chunk, at most 512 kB
    <stream>/<version>       the manifest: size, number of chunks, SHA-256; after all chunks
    <stream>                 the promoted version and why; written last

A reader that sees a pointer has therefore seen the whole bundle, and checks its SHA-256. A
version is removed by deleting its keys (tombstones), the manifest first.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from daemon.adapters.kafka import Entry, Follower, KafkaSettings, Message, TopicSpec, Writer
from daemon.errors import BundleError
from daemon.writing import replacing, replacing_folder

log = structlog.get_logger(__name__)

CHUNK_BYTES = 512_000
LARGEST_BUNDLE = 256 << 20
MOST_CHUNKS = 2 * LARGEST_BUNDLE // CHUNK_BYTES
"""Bytes of a bundle in the topic, at most."""
MOST_STREAMS, MOST_VERSIONS = 1_000, 100
"""Streams in the topic that are told apart, and versions of each; beyond, the oldest are forgotten."""
KEY_BYTES, POINTER_BYTES, MANIFEST_BYTES = 256, 8_192, 1_024
REASON_CHARACTERS = 1_000
POINTER = "promoted"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def _checked(what: str, name: str) -> str:
    """A stream or version becomes a folder and a part of a key: neither may hold a slash."""
    if not NAME.fullmatch(name) or (what == "version" and name == POINTER):
        raise BundleError(
            f"{what} {name[:120]!r} cannot be kept: 1 to 100 letters, digits, '.', '_' and '-' only"
        )
    return name


@dataclass(frozen=True, slots=True)
class Promotion:
    """A version that is to be used from now on, with its bundle."""

    stream: str
    version: str
    reason: str
    data: bytes


class Pointer(msgspec.Struct, frozen=True):
    """Which version of a stream is promoted, why, and which one was before it (none where empty)."""

    version: str
    reason: str = ""
    before: str = ""


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle's chunks must make together."""

    size: int
    chunks: int
    sha256: str


_T = TypeVar("_T")


def _decoded(value: bytes, limit: int, kind: type[_T]) -> _T:
    """JSON that others wrote; BundleError says what is wrong with it."""
    if len(value) > limit:
        raise BundleError(f"{len(value)} bytes, more than the {limit} allowed")
    try:
        return msgspec.json.decode(value, type=kind)
    except RecursionError as error:
        raise BundleError("it is nested too deeply") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise BundleError(str(error)) from error


def _pointer(value: bytes) -> Pointer:
    pointer = _decoded(value, POINTER_BYTES, Pointer)
    _checked("version", pointer.version)
    if pointer.before:
        _checked("version", pointer.before)
    return pointer


def _manifest(value: bytes) -> Manifest:
    manifest = _decoded(value, MANIFEST_BYTES, Manifest)
    if not 1 <= manifest.size <= LARGEST_BUNDLE:
        raise BundleError(f"a bundle of {manifest.size} bytes, where 1 to {LARGEST_BUNDLE} are allowed")
    if not 1 <= manifest.chunks <= manifest.size:
        raise BundleError(f"{manifest.chunks} chunks of a bundle of {manifest.size} bytes")
    if manifest.chunks > MOST_CHUNKS:
        raise BundleError(f"{manifest.chunks} chunks, more than the {MOST_CHUNKS} allowed")
    if re.fullmatch(r"[0-9a-f]{64}", manifest.sha256) is None:
        raise BundleError("its sha256 is none")
    return manifest


def _outdated(versions: Sequence[str], pointer: Pointer | None, keep: int) -> list[str]:
    """Of versions, oldest first, those that neither count among the newest nor are pointed at."""
    needed = {pointer.version, pointer.before} if pointer is not None else set()
    return [v for v in versions[: max(0, len(versions) - max(keep, 0))] if v not in needed]


# ------------------------------------------------------------------ a directory
class ModelDirectory:
    """``<path>/<stream>/<version>/`` with a bundle's files, and ``<path>/<stream>/promoted``.

    A version's folder appears whole or not at all, and so does the pointer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def versions(self, stream: str) -> list[str]:
        """Every version of a stream, oldest first."""
        folder = self._path / _checked("stream", stream)
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
        folder = self._path / _checked("stream", stream) / _checked("version", version)
        if not folder.is_dir():
            known = ", ".join(self.versions(stream)) or "none"
            raise BundleError(f"{self._path} has no version {version!r} of stream {stream!r}; it has {known}")
        return folder

    def add(self, stream: str, version: str, write: Callable[[Path], object]) -> Path:
        """Keep a version; ``write`` puts the bundle's files into the folder it is given.

        A version that is there already is left as it is.
        """
        place = self._path / _checked("stream", stream) / _checked("version", version)
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
            temporary.write_bytes(msgspec.json.encode(Pointer(version, reason[:REASON_CHARACTERS], before)))

    def promoted(self, stream: str) -> Pointer | None:
        """The promoted version, or None when there is none yet."""
        path = self._path / _checked("stream", stream) / POINTER
        try:
            with path.open("rb") as file:
                return _pointer(file.read(POINTER_BYTES + 1))
        except FileNotFoundError:
            return None
        except (OSError, BundleError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from error

    def withdraw(self, stream: str) -> None:
        """Point at no version any more."""
        (self._path / _checked("stream", stream) / POINTER).unlink(missing_ok=True)

    def retire(self, stream: str, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` versions, the promoted one and the one before; returns what went."""
        try:
            pointer = self.promoted(stream)
        except BundleError:
            return []  # which one is needed is not known
        gone = _outdated(self.versions(stream), pointer, keep)
        for version in gone:
            shutil.rmtree(self._path / stream / version, ignore_errors=True)
        return gone


# ------------------------------------------------------------------ a topic
def models_topic(prefix: str) -> TopicSpec:
    """The topic that models are kept in, as ``topics --create`` makes it."""
    config = {"cleanup.policy": "compact", "max.message.bytes": "1048588"}
    return TopicSpec(f"{prefix}.models", 1, config)


@dataclass(slots=True)
class _Shelf:
    """What the topic holds of one version."""

    chunks: dict[int, bytes] = field(default_factory=dict)
    manifest: Manifest | None = None

    def bundle(self) -> bytes:
        """The whole bundle; BundleError when it is not whole or not what the manifest says."""
        if self.manifest is None:
            raise BundleError("its manifest is missing")
        missing = [i for i in range(self.manifest.chunks) if i not in self.chunks]
        if missing:
            raise BundleError(f"{len(missing)} of its {self.manifest.chunks} chunks are missing")
        data = b"".join(self.chunks[i] for i in range(self.manifest.chunks))
        if len(data) != self.manifest.size or hashlib.sha256(data).hexdigest() != self.manifest.sha256:
            raise BundleError("its chunks do not have the manifest's SHA-256")
        return data


class KafkaModels:
    """The models of all streams in ``<prefix>.models``.

    Reading keeps the bundles that the topic holds in memory: a few megabytes per version.
    """

    def __init__(self, settings: KafkaSettings, prefix: str) -> None:
        self._topic = models_topic(prefix).name
        self._writer = Writer(settings)
        self._follower = Follower(settings, self._topic)
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        self._pointers: dict[str, Pointer] = {}
        self._moved: dict[str, None] = {}  # streams whose pointer was seen anew, in order

    # -------------------------------------------------------------- writing
    async def publish(self, stream: str, version: str, data: bytes) -> None:
        """Keep a bundle: chunks, then the manifest. Nobody uses it before it is promoted."""
        name = f"{_checked('stream', stream)}/{_checked('version', version)}"
        chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        await self._write((f"{name}/{i}", chunk) for i, chunk in enumerate(chunks))
        manifest = Manifest(len(data), len(chunks), hashlib.sha256(data).hexdigest())
        await self._write([(name, msgspec.json.encode(manifest))])

    async def promote(self, stream: str, version: str, reason: str = "") -> None:
        """Let every replica use a version; also how one goes back to an older one.

        Raises:
            BundleError: the topic does not hold it whole.
        """
        await self.refresh()
        try:
            self._shelf(stream, version).bundle()
        except BundleError as error:
            raise BundleError(
                f"version {version!r} of stream {stream!r} cannot be promoted: {error}"
            ) from error
        await self._write([(_checked("stream", stream), msgspec.json.encode(Pointer(version, reason)))])

    async def retire(self, stream: str, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` versions and the promoted one; returns what went."""
        await self.refresh()
        pointer = self._pointers.get(stream)
        versions = self.known(stream)
        gone = [
            v for v in versions[: max(0, len(versions) - keep)] if pointer is None or v != pointer.version
        ]
        for version in gone:
            name, shelf = f"{stream}/{version}", self._shelf(stream, version)
            await self._write([(name, None)])
            await self._write((f"{name}/{i}", None) for i in sorted(shelf.chunks))
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
        return self._promotion(stream)

    async def poll(self) -> list[Promotion]:
        """The newest promotion of each stream that was promoted since the last call.

        A damaged bundle is logged and left out: the model in use stays.
        """
        self._take(await self._follower.poll())
        moved, self._moved = self._moved, {}
        found = []
        for stream in moved:
            try:
                promotion = self._promotion(stream)
            except BundleError as error:
                log.error("model_damaged", stream=stream, reason=str(error))
            else:
                found += [promotion] if promotion is not None else []
        return found

    async def refresh(self) -> None:
        """Read the topic to its present end."""
        self._take(await self._follower.catch_up())

    def known(self, stream: str) -> list[str]:
        """The versions read so far that have a manifest, oldest first."""
        return [v for (s, v), shelf in self._shelves.items() if s == stream and shelf.manifest is not None]

    def pointer(self, stream: str) -> Pointer | None:
        """The promoted version as read so far."""
        return self._pointers.get(stream)

    async def load(self, stream: str, version: str) -> bytes:
        """One bundle.

        Raises:
            BundleError: it is not there, or damaged.
        """
        await self.refresh()
        try:
            return self._shelf(stream, version).bundle()
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

    def _promotion(self, stream: str) -> Promotion | None:
        pointer = self._pointers.get(stream)
        if pointer is None:
            return None
        try:
            data = self._shelf(stream, pointer.version).bundle()
        except BundleError as error:
            raise BundleError(
                f"the promoted version {pointer.version!r} of stream {stream!r} is damaged: {error}"
            ) from error
        return Promotion(stream, pointer.version, pointer.reason, data)

    def _shelf(self, stream: str, version: str) -> _Shelf:
        return self._shelves.get((stream, version), _Shelf())

    def _take(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            parts = entry.key.decode(errors="replace").split("/")
            try:
                if len(parts) == 1:
                    self._take_pointer(parts[0], entry.value)
                elif len(parts) == 2:
                    self._take_manifest((parts[0], parts[1]), entry.value)
                elif len(parts) == 3 and parts[2].isdecimal():
                    self._take_chunk((parts[0], parts[1]), int(parts[2]), entry.value)
                else:
                    log.error("model_record_ignored", key=repr(entry.key)[:200])
            except msgspec.MsgspecError as error:
                log.error("model_record_ignored", key=repr(entry.key)[:200], reason=str(error))

    def _take_pointer(self, stream: str, value: bytes | None) -> None:
        if value is None:
            self._pointers.pop(stream, None)
            return
        pointer = msgspec.json.decode(value, type=Pointer)
        if pointer != self._pointers.get(stream):
            self._pointers[stream] = pointer
            self._moved[stream] = None

    def _take_manifest(self, name: tuple[str, str], value: bytes | None) -> None:
        if value is None:
            self._shelves.pop(name, None)
        else:
            self._shelves.setdefault(name, _Shelf()).manifest = msgspec.json.decode(value, type=Manifest)

    def _take_chunk(self, name: tuple[str, str], number: int, value: bytes | None) -> None:
        if value is None:
            if name in self._shelves:
                self._shelves[name].chunks.pop(number, None)
        else:
            self._shelves.setdefault(name, _Shelf()).chunks[number] = value
