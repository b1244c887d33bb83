"""What a reader of the models topic holds: the pointer of each stream, and versions with manifest and chunks.

A program that reads the topic at its start must not end, nor fill its memory, because of what others wrote there.
So a record that exceeds the limits of ``records`` is skipped, logged once a minute per kind, and counted.

**Memory.** The manifest of every version is held. Chunks are held of the promoted version and of those that
arrived last (a promotion follows its bundle); the chunks of all other versions are released, and read from the
topic again when such a version is needed.

Kafka is not known here: entries are applied in their order, and the newest of a key counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import structlog

from daemon.adapters.kafka import Entry
from daemon.adapters.registry.records import (
    CHUNK_BYTES,
    KEY_BYTES,
    MOST_CHUNKS,
    Manifest,
    Pointer,
    checked,
    outdated,
)
from daemon.adapters.telemetry import Throttle
from daemon.errors import BundleError

log = structlog.get_logger()

MOST_STREAMS, MOST_VERSIONS = 1_000, 100
"""Streams that are held, and versions of each; beyond these the oldest are removed."""
ARRIVING = 2
"""Of a program that follows promotions: a promotion follows its bundle."""
_CHUNK_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")


@dataclass(slots=True)
class StoredVersion:
    """One version as the topic has it."""

    chunks: dict[int, bytes] = field(default_factory=dict)
    manifest: Manifest | None = None
    numbers: set[int] = field(default_factory=set)  # of all chunks in the topic, held or released

    @property
    def incomplete(self) -> bool:
        """Whether the topic has chunks of it that are not held here."""
        return len(self.chunks) < len(self.numbers)

    def bundle(self) -> bytes:
        """The bundle; BundleError when chunks are missing or do not match the manifest."""
        if self.manifest is None:
            raise BundleError("its manifest is missing")
        missing = self.manifest.chunks - sum(i in self.chunks for i in range(self.manifest.chunks))
        if missing:
            raise BundleError(f"{missing} of its {self.manifest.chunks} chunks are missing")
        data = b"".join(self.chunks[i] for i in range(self.manifest.chunks))
        if len(data) != self.manifest.size or hashlib.sha256(data).hexdigest() != self.manifest.sha256:
            raise BundleError("its chunks do not have the manifest's SHA-256")
        return data


class TopicView:
    """The models of some streams, as their topic has them.

    Args:
        streams: those of interest; None for all that there are.
        version: hold only this one, and all of it; None for all.
        arriving: versions of a stream, beside the promoted one, whose chunks are held: those that were written last.

    ``pointers`` are the promoted versions; ``refused`` counts records that could not be used.
    """

    def __init__(
        self, streams: Collection[str] | None = None, version: str | None = None, *, arriving: int = ARRIVING
    ) -> None:
        self.pointers: dict[str, Pointer] = {}
        self.refused = 0
        self._streams = None if streams is None else frozenset(streams)
        self._version = version
        self._arriving = arriving
        self._versions: dict[str, dict[str, StoredVersion]] = {}  # per stream, the last written last
        self._throttle = Throttle()

    def apply(self, entries: Iterable[Entry]) -> None:
        """Apply records in the order of the topic; what cannot be used is skipped."""
        for entry in entries:
            try:
                self._apply(entry)
            except BundleError as error:
                if entry.value is None:
                    continue  # an unusable key that is being deleted
                self.refused += 1
                suppressed = self._throttle.admit("record")
                if suppressed is not None:
                    key = repr(entry.key[:100])[1:]
                    log.warning("bundle_refused", key=key, reason=str(error)[:300], more=suppressed)

    def streams(self) -> list[str]:
        """The streams that have a version or a pointer, by name."""
        return sorted({name for name, versions in self._versions.items() if versions} | self.pointers.keys())

    def version(self, stream: str, version: str) -> StoredVersion:
        """What is held of a version; an empty one if it is not known."""
        return self._versions.get(stream, {}).get(version) or StoredVersion()

    def known(self, stream: str, *, whole: bool = True) -> list[str]:
        """The versions of a stream, oldest first; with ``whole`` only those that have a manifest."""
        versions = self._versions.get(stream, {})
        return [name for name, stored in versions.items() if stored.manifest is not None or not whole]

    # -------------------------------------------------------------- one record
    def _apply(self, entry: Entry) -> None:
        stream, version, number = self._place(entry)
        if self._streams is not None and stream not in self._streams:
            return
        known = self._versions.keys() | self.pointers.keys()
        if entry.value is not None and stream not in known and len(known) >= MOST_STREAMS:
            raise BundleError(f"more than {MOST_STREAMS} streams")
        if version is None:
            if entry.value is None:
                self.pointers.pop(stream, None)
            else:
                self.pointers[stream] = Pointer.read(entry.value)
            self._release(stream)
        elif self._version is None or version == self._version:
            if number is None:
                self._apply_manifest(stream, version, entry.value)
            else:
                self._apply_chunk(stream, version, number, entry.value)

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
        if len(rest) > 2 or _CHUNK_NUMBER.fullmatch(rest[1]) is None or int(rest[1]) >= MOST_CHUNKS:
            raise BundleError("a key that names no pointer, manifest or chunk")
        return stream, version, int(rest[1])

    def _apply_manifest(self, stream: str, version: str, value: bytes | None) -> None:
        if value is None:
            self._versions.get(stream, {}).pop(version, None)
            return
        manifest = Manifest.read(value)
        self._written(stream, version).manifest = manifest

    def _apply_chunk(self, stream: str, version: str, number: int, value: bytes | None) -> None:
        if value is None:
            stored = self.version(stream, version)
            stored.chunks.pop(number, None)
            stored.numbers.discard(number)
            return
        if len(value) > CHUNK_BYTES:
            raise BundleError(f"a chunk of {len(value)} bytes, more than the {CHUNK_BYTES} allowed")
        stored = self._written(stream, version)
        stored.chunks[number] = value
        stored.numbers.add(number)

    def _written(self, stream: str, version: str) -> StoredVersion:
        """The version, which is the last written now."""
        versions = self._versions.setdefault(stream, {})
        stored = versions.pop(version) if version in versions else StoredVersion()
        versions[version] = stored  # the last one now
        self._release(stream)
        return stored

    def _release(self, stream: str) -> None:
        """Release the chunks of versions that are unlikely to be needed, and remove the oldest of too many versions."""
        if self._version is not None:
            return
        versions, pointer = self._versions.get(stream, {}), self.pointers.get(stream)
        promoted = pointer.version if pointer is not None else ""
        for version in [v for v in reversed(versions) if v != promoted][self._arriving :]:
            versions[version].chunks.clear()
        if len(versions) > MOST_VERSIONS:
            needed = 0 if pointer is None else len(set(pointer.needed(MOST_VERSIONS)))
            for version in outdated(list(versions), pointer, MOST_VERSIONS - needed):
                del versions[version]
            if self._throttle.admit(("versions", stream)) is not None:
                log.warning("model_versions_forgotten", stream=stream, rule=f"more than {MOST_VERSIONS}")
