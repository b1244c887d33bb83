"""The records of the models topic: names, keys, pointer and manifest, each with its limits.

A bundle is larger than a Kafka message may be, so it is cut into chunks. Keys, all in one partition, so that the
order written is the order read:

    <stream>/<version>/<i>   one chunk, at most 512 kB
    <stream>/<version>       the manifest: size, number of chunks, SHA-256; after all chunks
    <stream>                 the pointer: the promoted version and why; written last

A reader that sees a pointer has therefore seen the whole bundle, and checks its SHA-256. A version is removed by
deleting its keys (tombstones), the manifest first. Anybody with write access to the topic may write anything, so
every key and value is checked against the limits below; what exceeds them is a ``BundleError``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
REASON_CHARACTERS = 1_000
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


class Pointer(msgspec.Struct, frozen=True):
    """Which version of a stream is promoted, why, and which one was promoted before it (empty: none)."""

    version: str
    reason: str = ""
    before: str = ""

    @staticmethod
    def read(value: bytes) -> Pointer:
        """The pointer in these bytes; BundleError names what is wrong with it."""
        pointer = _decoded(value, POINTER_BYTES, Pointer)
        checked("version", pointer.version)
        if pointer.before:
            checked("version", pointer.before)
        return pointer

    def written(self) -> bytes:
        """The inverse of ``read``; a long reason is cut."""
        return msgspec.json.encode(Pointer(self.version, self.reason[:REASON_CHARACTERS], self.before))


class Manifest(msgspec.Struct, frozen=True):
    """Size, number of chunks and SHA-256 of a bundle."""

    size: int
    chunks: int
    sha256: str

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
    """Of versions, oldest first, those that are neither among the newest ``keep`` nor named by the pointer."""
    needed = {pointer.version, pointer.before} if pointer is not None else set()
    return [v for v in versions[: max(0, len(versions) - max(keep, 0))] if v not in needed]
