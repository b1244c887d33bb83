"""Models in a directory, for one machine.

A version's folder appears whole or not at all, and so does the pointer to the promoted version.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from daemon.adapters.registry.records import NAME, POINTER, POINTER_BYTES, Pointer, checked, outdated
from daemon.errors import BundleError
from daemon.writing import replacing, replacing_folder


class ModelDirectory:
    """``<path>/<stream>/<version>/`` with a bundle's files, and ``<path>/<stream>/promoted``.

    Args:
        path: the directory; it is created with the first version.
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
        """The folder with the files of a version.

        Raises:
            BundleError: there is no such version; names those that exist.
        """
        folder = self._path / checked("stream", stream) / checked("version", version)
        if not folder.is_dir():
            known = ", ".join(self.versions(stream)) or "none"
            raise BundleError(f"{self._path} has no version {version!r} of stream {stream!r}; it has {known}")
        return folder

    def add(self, stream: str, version: str, write: Callable[[Path], object]) -> Path:
        """Store a version; ``write`` puts the files of the bundle into the folder it receives.

        A version that exists already is left unchanged.
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
        """Promote a stored version; ``before`` is the one that was promoted until now."""
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
        """Promote no version any more."""
        (self._path / checked("stream", stream) / POINTER).unlink(missing_ok=True)

    def retire(self, stream: str, keep: int) -> list[str]:
        """Remove all but the newest ``keep`` versions, the promoted one and the one before; returns those removed."""
        try:
            pointer = self.promoted(stream)
        except BundleError:
            return []  # the pointer is unreadable: it is not known which version is in use
        gone = outdated(self.versions(stream), pointer, keep)
        for version in gone:
            shutil.rmtree(self._path / stream / version, ignore_errors=True)
        return gone
