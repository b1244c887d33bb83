"""The records of the models topic: names, keys, pointer and manifest, each with its limits.

A bundle is larger than a Kafka message may be, so it is cut into chunks. Keys, all in one partition, so that the
order written is the order read:

    <stream>/<version>/<i>   one chunk, at most 512 kB
    <stream>/<version>       the manifest: size, number of chunks, SHA-256; after all chunks
    <stream>                 the pointer: the promoted version and why, and those promoted before; written last

A reader that sees a pointer has therefore seen the whole bundle, and checks its SHA-256. A version is removed by
deleting its keys (tombstones), the manifest first. Anybody with write access to the topic may write anything, so
every key and value is checked against the limits below; what exceeds them is a ``BundleError``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from daemon.errors import BundleError

CHUNK_BYTES = 512_000
"""Bytes of one chunk, at most."""
LARGEST_BUNDLE = 256 << 20
"""Bytes of a bundle in the topic, at most."""
MOST_CHUNKS = 2 * LARGEST_BUNDLE // CHUNK_BYTES
"""Chunks of a bundle, at most."""
KEY_BYTES, POINTER_BYTES, MANIFEST_BYTES = 256, 8_192, 1_024
REASON_CHARACTERS, PAST_CHARACTERS, BY_CHARACTERS = 1_000, 200, 100
"""Of the reason of the promotion in force, of an earlier one, and of the name of who did it."""
MOST_PAST = 20
"""Earlier promotions that a pointer names."""
POINTER = "promoted"
"""The name of the pointer's file in a model directory; no version may have it."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_T = TypeVar("_T")


def checked(what: str, name: str) -> str:
    """The name, if it can be that of a stream or version: it becomes a folder and a part of a key.

    Raises:
        BundleError: naming what is wrong.
    """
    if not NAME.fullmatch(name) or (what == "version" and name == POINTER):
        raise BundleError(
            f"{what} {name[:120]!r} cannot be kept: 1 to 100 letters, digits, '.', '_' and '-' only"
        )
    return name


def now_text() -> str:
    """The time of day, as a pointer has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Promoted(msgspec.Struct, frozen=True, omit_defaults=True):
    """A promotion: of which version, why, by whom and when (RFC 3339; empty: not known)."""

    version: str
    reason: str = ""
    by: str = ""
    at: str = ""

    def cut(self, reason: int) -> Promoted:
        """With at most so many characters of the reason."""
        return Promoted(self.version, self.reason[:reason], self.by[:BY_CHARACTERS], self.at[:BY_CHARACTERS])


class Pointer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which version of a stream is promoted, why, by whom and when, and what was promoted before it, newest first.

    ``before`` is the version of the newest of ``past``, for readers that know no more of them.
    """

    version: str
    reason: str = ""
    before: str = ""
    by: str = ""
    at: str = ""
    past: tuple[Promoted, ...] = ()

    @staticmethod
    def read(value: bytes) -> Pointer:
        """The pointer in these bytes; BundleError names what is wrong with it."""
        pointer = _decoded(value, POINTER_BYTES, Pointer)
        checked("version", pointer.version)
        if pointer.before:
            checked("version", pointer.before)
        for one in pointer.past:
            checked("version", one.version)
        return pointer

    @staticmethod
    def to(promoted: Promoted, past: Sequence[Promoted]) -> Pointer:
        """The pointer to a version that was promoted after the given ones; the oldest of too many are forgotten."""
        before = past[0].version if past else ""
        kept = tuple(past[:MOST_PAST])
        return Pointer(promoted.version, promoted.reason, before, promoted.by, promoted.at, kept)

    @property
    def promoted(self) -> Promoted:
        """The promotion that is in force."""
        return Promoted(self.version, self.reason, self.by, self.at)

    @property
    def history(self) -> tuple[Promoted, ...]:
        """What was promoted before, newest first; of a pointer without ``past`` the version before."""
        return self.past or ((Promoted(self.before),) if self.before else ())

    def needed(self, keep: int) -> list[str]:
        """The versions that retention spares: the promoted one, and of those before the newest ``keep``, at least one."""
        return [self.version, *(one.version for one in self.history[: max(keep, 1)])]

    def earlier(self, reason: str, by: str = "", at: str = "") -> Iterator[Pointer]:
        """The pointers that go back from here, the nearest first: one of them is a rollback.

        None of them leads back to the version that is in force now: who rolls back twice goes further back.
        """
        past = [one for one in self.history if one.version != self.version]
        for i, one in enumerate(past):
            yield Pointer.to(Promoted(one.version, reason, by, at), past[i + 1 :])

    def written(self) -> bytes:
        """The inverse of ``read``; long texts are cut, and the oldest promotions that find no room are forgotten."""
        promoted, past = self.promoted.cut(REASON_CHARACTERS), [one.cut(PAST_CHARACTERS) for one in self.past]
        while True:
            before = past[0].version if past else self.before
            written = msgspec.json.encode(
                Pointer(promoted.version, promoted.reason, before, promoted.by, promoted.at, tuple(past))
            )
            if len(written) <= POINTER_BYTES or not past:
                return written
            past.pop()


def following(now: Pointer | None, promoted: Promoted) -> Pointer:
    """The pointer after a promotion; the same version once more does not follow itself."""
    if now is None:
        return Pointer.to(promoted, ())
    same = now.version == promoted.version
    return Pointer.to(promoted, now.history if same else (now.promoted, *now.history))


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Size, number of chunks and SHA-256 of a bundle, and when its training ended (ns since 1970; 0: not known)."""

    size: int
    chunks: int
    sha256: str
    trained_ns: int = 0

    @staticmethod
    def read(value: bytes) -> Manifest:
        """The manifest in these bytes; BundleError names what is wrong with it."""
        manifest = _decoded(value, MANIFEST_BYTES, Manifest)
        if not 1 <= manifest.size <= LARGEST_BUNDLE:
            raise BundleError(f"a bundle of {manifest.size} bytes, where 1 to {LARGEST_BUNDLE} are allowed")
        if not 1 <= manifest.chunks <= min(manifest.size, MOST_CHUNKS):
            raise BundleError(f"{manifest.chunks} chunks of a bundle of {manifest.size} bytes")
        if _SHA256.fullmatch(manifest.sha256) is None:
            raise BundleError("its sha256 is none")
        return manifest


def _decoded(value: bytes, limit: int, kind: type[_T]) -> _T:
    """A JSON value of this kind; BundleError names what is wrong with it."""
    if len(value) > limit:
        raise BundleError(f"{len(value)} bytes, more than the {limit} allowed")
    try:
        return msgspec.json.decode(value, type=kind)
    except RecursionError as error:
        raise BundleError("it is nested too deeply") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise BundleError(str(error)) from error


def outdated(versions: Sequence[str], pointer: Pointer | None, keep: int) -> list[str]:
    """Of versions, oldest first, those that are neither among the newest ``keep`` nor needed by the pointer."""
    needed = set() if pointer is None else set(pointer.needed(keep))
    return [v for v in versions[: max(0, len(versions) - max(keep, 0))] if v not in needed]
