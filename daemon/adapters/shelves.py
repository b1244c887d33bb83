"""What the models topic holds, record by record, as far as it can be used.

Anybody who may write to the topic may write anything, and a program that reads it at its start must not
end because of it, nor fill the memory. So every key and value has limits (see the constants); what is
beyond them is passed over, said once a minute per kind, and counted.

**Memory.** Of every version its manifest is kept. Chunks are kept of the promoted version and of those
that arrived last (a promotion follows its bundle); of all others they are let go, and read from the topic
again by whoever asks for that version.

Nothing here knows Kafka: entries come in, in their order, and the newest of a key stands.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import structlog

from daemon.adapters.kafka import Entry
from daemon.adapters.telemetry import Throttle
from daemon.errors import BundleError

log = structlog.get_logger(__name__)

CHUNK_BYTES = 512_000
LARGEST_BUNDLE = 256 << 20
"""Bytes of a bundle in the topic, at most."""
MOST_CHUNKS = 2 * LARGEST_BUNDLE // CHUNK_BYTES
MOST_STREAMS, MOST_VERSIONS = 1_000, 100
"""Streams in the topic that are told apart, and versions of each; beyond, the oldest are forgotten."""
ARRIVING = 2
"""Versions of a stream, beside the promoted one, whose chunks are held: those that were written to last."""
KEY_BYTES, POINTER_BYTES, MANIFEST_BYTES = 256, 8_192, 1_024
REASON_CHARACTERS = 1_000
POINTER = "promoted"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


def checked(what: str, name: str) -> str:
    """A stream or version becomes a folder and a part of a key: neither may hold a slash."""
    if not NAME.fullmatch(name) or (what == "version" and name == POINTER):
        raise BundleError(
            f"{what} {name[:120]!r} cannot be kept: 1 to 100 letters, digits, '.', '_' and '-' only"
        )
    return name


class Pointer(msgspec.Struct, frozen=True):
    """Which version of a stream is promoted, why, and which one was before it (none where empty)."""

    version: str
    reason: str = ""
    before: str = ""

    @staticmethod
    def read(value: bytes) -> Pointer:
        """The pointer in these bytes; BundleError says what is wrong with it."""
        pointer = _decoded(value, POINTER_BYTES, Pointer)
        checked("version", pointer.version)
        if pointer.before:
            checked("version", pointer.before)
        return pointer

    def written(self) -> bytes:
        """The inverse of ``read``; a long reason is cut."""
        return msgspec.json.encode(Pointer(self.version, self.reason[:REASON_CHARACTERS], self.before))


class Manifest(msgspec.Struct, frozen=True):
    """What a bundle's chunks must make together."""

    size: int
    chunks: int
    sha256: str

    @staticmethod
    def read(value: bytes) -> Manifest:
        """The manifest in these bytes; BundleError says what is wrong with it."""
        manifest = _decoded(value, MANIFEST_BYTES, Manifest)
        if not 1 <= manifest.size <= LARGEST_BUNDLE:
            raise BundleError(f"a bundle of {manifest.size} bytes, where 1 to {LARGEST_BUNDLE} are allowed")
        if not 1 <= manifest.chunks <= min(manifest.size, MOST_CHUNKS):
            raise BundleError(f"{manifest.chunks} chunks of a bundle of {manifest.size} bytes")
        if _SHA256.fullmatch(manifest.sha256) is None:
            raise BundleError("its sha256 is none")
        return manifest


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


def outdated(versions: Sequence[str], pointer: Pointer | None, keep: int) -> list[str]:
    """Of versions, oldest first, those that neither count among the newest ``keep`` nor are pointed at."""
    needed = {pointer.version, pointer.before} if pointer is not None else set()
    return [v for v in versions[: max(0, len(versions) - max(keep, 0))] if v not in needed]


@dataclass(slots=True)
class Shelf:
    """What the topic holds of one version."""

    chunks: dict[int, bytes] = field(default_factory=dict)
    manifest: Manifest | None = None
    numbers: set[int] = field(default_factory=set)  # of all chunks in the topic, held or let go

    @property
    def let_go(self) -> bool:
        """Whether the topic has chunks of it that are not held here."""
        return len(self.chunks) < len(self.numbers)

    def bundle(self) -> bytes:
        """The whole bundle; BundleError when it is not whole or not what the manifest says."""
        if self.manifest is None:
            raise BundleError("its manifest is missing")
        missing = self.manifest.chunks - sum(i in self.chunks for i in range(self.manifest.chunks))
        if missing:
            raise BundleError(f"{missing} of its {self.manifest.chunks} chunks are missing")
        data = b"".join(self.chunks[i] for i in range(self.manifest.chunks))
        if len(data) != self.manifest.size or hashlib.sha256(data).hexdigest() != self.manifest.sha256:
            raise BundleError("its chunks do not have the manifest's SHA-256")
        return data


class Shelves:
    """The models of some streams, as their topic tells of them.

    Args:
        streams: those of interest; None for all that there are.
        version: hold only this one, and all of it; None for all.

    ``refused`` counts records that could not be used.
    """

    def __init__(self, streams: Collection[str] | None = None, version: str | None = None) -> None:
        self.pointers: dict[str, Pointer] = {}
        self.refused = 0
        self._streams = None if streams is None else frozenset(streams)
        self._version = version
        self._shelves: dict[str, dict[str, Shelf]] = {}  # per stream, last written to last
        self._throttle = Throttle()

    def take(self, entries: Iterable[Entry]) -> None:
        """Take records in, in their order; what cannot be used is passed over."""
        for entry in entries:
            try:
                self._take(entry)
            except BundleError as error:
                if entry.value is None:
                    continue  # somebody cleans up
                self.refused += 1
                kept_back = self._throttle.admit("record")
                if kept_back is not None:
                    key = repr(entry.key[:100])[1:]
                    log.warning("bundle_refused", key=key, reason=str(error)[:300], more=kept_back)

    def shelf(self, stream: str, version: str) -> Shelf:
        """What is held of a version; nothing, if it is not known."""
        return self._shelves.get(stream, {}).get(version) or Shelf()

    def known(self, stream: str, *, whole: bool = True) -> list[str]:
        """The versions of a stream, oldest first; with ``whole`` only those that have a manifest."""
        shelves = self._shelves.get(stream, {})
        return [v for v, shelf in shelves.items() if shelf.manifest is not None or not whole]

    @property
    def held_bytes(self) -> int:
        """Bytes of all chunks that are held."""
        shelves = (shelf for versions in self._shelves.values() for shelf in versions.values())
        return sum(len(chunk) for shelf in shelves for chunk in shelf.chunks.values())

    # -------------------------------------------------------------- one record
    def _take(self, entry: Entry) -> None:
        stream, version, number = self._place(entry)
        if self._streams is not None and stream not in self._streams:
            return
        known = self._shelves.keys() | self.pointers.keys()
        if entry.value is not None and stream not in known and len(known) >= MOST_STREAMS:
            raise BundleError(f"more than {MOST_STREAMS} streams")
        if version is None:
            if entry.value is None:
                self.pointers.pop(stream, None)
            else:
                self.pointers[stream] = Pointer.read(entry.value)
            self._let_go(stream)
        elif self._version is None or version == self._version:
            if number is None:
                self._take_manifest(stream, version, entry.value)
            else:
                self._take_chunk(stream, version, number, entry.value)

    @staticmethod
    def _place(entry: Entry) -> tuple[str, str | None, int | None]:
        """Stream, version and number of the chunk, from the key."""
        if len(entry.key) > KEY_BYTES:
            raise BundleError(f"a key of {len(entry.key)} bytes, more than the {KEY_BYTES} allowed")
        try:
            stream, *rest = entry.key.decode("ascii").split("/")
        except UnicodeDecodeError as error:
            raise BundleError("a key that is no ASCII") from error
        checked("stream", stream)
        if not rest:
            return stream, None, None
        version = checked("version", rest[0])
        if len(rest) == 1:
            return stream, version, None
        if len(rest) > 2 or _NUMBER.fullmatch(rest[1]) is None or int(rest[1]) >= MOST_CHUNKS:
            raise BundleError("a key that names no pointer, manifest or chunk")
        return stream, version, int(rest[1])

    def _take_manifest(self, stream: str, version: str, value: bytes | None) -> None:
        if value is None:
            self._shelves.get(stream, {}).pop(version, None)
            return
        manifest = Manifest.read(value)
        self._written_to(stream, version).manifest = manifest

    def _take_chunk(self, stream: str, version: str, number: int, value: bytes | None) -> None:
        if value is None:
            shelf = self.shelf(stream, version)
            shelf.chunks.pop(number, None)
            shelf.numbers.discard(number)
            return
        if len(value) > CHUNK_BYTES:
            raise BundleError(f"a chunk of {len(value)} bytes, more than the {CHUNK_BYTES} allowed")
        shelf = self._written_to(stream, version)
        shelf.chunks[number] = value
        shelf.numbers.add(number)

    def _written_to(self, stream: str, version: str) -> Shelf:
        versions = self._shelves.setdefault(stream, {})
        shelf = versions.pop(version) if version in versions else Shelf()
        versions[version] = shelf  # the last one now
        self._let_go(stream)
        return shelf

    def _let_go(self, stream: str) -> None:
        """Chunks of versions that nobody is likely to ask for, and the oldest versions of too many."""
        if self._version is not None:
            return
        versions, pointer = self._shelves.get(stream, {}), self.pointers.get(stream)
        needed = {pointer.version, pointer.before} if pointer is not None else set()
        promoted = pointer.version if pointer is not None else ""
        for version in [v for v in reversed(versions) if v != promoted][ARRIVING:]:
            versions[version].chunks.clear()
        if len(versions) > MOST_VERSIONS:
            for version in outdated(list(versions), pointer, MOST_VERSIONS - len(needed)):
                del versions[version]
            if self._throttle.admit(("versions", stream)) is not None:
                log.warning("model_versions_forgotten", stream=stream, rule=f"more than {MOST_VERSIONS}")
