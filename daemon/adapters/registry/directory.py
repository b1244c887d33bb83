"""Models in a directory, for one machine.

A version's folder appears whole or not at all, and so does the pointer to the promoted version.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from daemon.adapters.registry.records import (
    NAME,
    POINTER,
    POINTER_BYTES,
    Pointer,
    Promoted,
    checked,
    following,
    outdated,
)
from daemon.errors import BundleError
from daemon.writing import replacing, replacing_folder


class ModelDirectory:
    """``<path>/<stream>/<version>/`` with a bundle's files, and ``<path>/<stream>/promoted``.

    Args:
        path: the directory; it is created with the first version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def streams(self) -> list[str]:
        """The streams that have a version, by name.

        Raises:
            BundleError: there is no such directory.
        """
        try:
            names = sorted(child.name for child in self._path.iterdir() if NAME.fullmatch(child.name))
        except OSError as error:
            raise BundleError(f"{self._path}: no directory of models: {error.strerror}") from error
        return [name for name in names if self.versions(name)]

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
        """The folder with the files of a version.

        Raises:
            BundleError: there is no such version; names those that exist.
        """
        folder = self._path / checked("stream", stream) / checked("version", version)
        if not folder.is_dir():
            known = ", ".join(self.versions(stream)) or "none"
            raise BundleError(f"{self._path} has no version {version!r} of stream {stream!r}; it has {known}")
        return folder

    def add(
        self, stream: str, version: str, write: Callable[[Path], object], trained_ns: int | None = None
    ) -> Path:
        """Store a version; ``write`` puts the files of the bundle into the folder it receives.

        A version that exists already is left unchanged. ``trained_ns`` is when it was trained; None: now.
        """
        place = self._path / checked("stream", stream) / checked("version", version)
        if place.is_dir():
            return place
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing_folder(place) as scratch:
                write(scratch)
                if trained_ns is not None:
                    for child in scratch.iterdir():
                        os.utime(child, ns=(trained_ns, trained_ns))
        except OSError as error:
            raise BundleError(f"{place} cannot be written: {error}") from error
        return place

    def trained_ns(self, stream: str, version: str) -> int:
        """When a version was trained, as the times of its files say; ns since 1970, 0 if it has no file."""
        files = self.folder(stream, version).iterdir()
        return max((child.stat().st_mtime_ns for child in files), default=0)

    def promote(self, stream: str, version: str, reason: str = "", by: str = "", at: str = "") -> None:
        """Promote a stored version, and remember what was promoted until now; a damaged pointer is replaced."""
        self.folder(stream, version)
        try:
            now = self.promoted(stream)
        except BundleError:
            now = None
        self._point(stream, following(now, Promoted(version, reason, by, at)))

    def rollback(self, stream: str, reason: str = "", by: str = "", at: str = "", to: str = "") -> str:
        """Promote again what was promoted before: the nearest that is stored, or ``to``.

        Returns:
            The version that is promoted now; empty if there is none to go back to: then nothing has changed.
        """
        now, stored = self.promoted(stream), set(self.versions(stream))
        for earlier in () if now is None else now.earlier(reason, by, at):
            if earlier.version in stored and to in ("", earlier.version):
                self._point(stream, earlier)
                return earlier.version
        return ""

    def _point(self, stream: str, pointer: Pointer) -> None:
        path = self._path / stream / POINTER
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(pointer.written())
        except OSError as error:
            raise BundleError(f"{path} cannot be written: {error}") from error

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
        """Promote no version any more."""
        (self._path / checked("stream", stream) / POINTER).unlink(missing_ok=True)

    def remove(self, stream: str, version: str) -> None:
        """Remove a version."""
        folder = self.folder(stream, version)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise BundleError(f"{folder} cannot be removed: {error}") from error

    def retire(self, stream: str, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` versions and those that the pointer needs; returns those removed."""
        try:
            pointer = self.promoted(stream)
        except BundleError:
            return []  # the pointer is unreadable: it is not known which version is in use
        gone = outdated(self.versions(stream), pointer, keep)
        for version in gone:
            shutil.rmtree(self._path / stream / version, ignore_errors=True)
        return gone
