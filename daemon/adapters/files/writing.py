"""Result files that appear under their name only when they are whole, with the errors of this program.

``replacing`` is for content that is there at once, ``GrowingFile`` for content that is written piece by piece.
Both write beside the final path (see ``daemon.writing``) and turn an ``OSError`` into a ``DaemonError``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from daemon.errors import DaemonError
from daemon.writing import AtomicFile


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place if the block ends without an error.

    Raises:
        DaemonError: it cannot be written.
    """
    check_place(path)
    target = AtomicFile(path)
    try:
        yield target.temporary
        target.commit()
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        target.discard()


def check_place(path: Path) -> None:
    """Refuse a path that no file can be written to, before the long work whose result it is for.

    Raises:
        DaemonError: the folder does not exist or cannot be written to, or the path is a folder.
    """
    if not path.parent.is_dir():
        raise DaemonError(f"{path}: cannot be written: there is no directory {path.parent}")
    if path.is_dir():
        raise DaemonError(f"{path}: cannot be written: it is a directory")
    if path.exists() and not path.is_file():
        return  # a pipe or a device is written to directly
    try:
        tempfile.TemporaryFile(dir=Path(os.path.realpath(path)).parent).close()
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> DaemonError:
    """The one-line error for a path that could not be written."""
    return DaemonError(f"{path}: cannot be written: {error.strerror or error}")


class GrowingFile:
    """A file that is written piece by piece; as a context it appears if the block ends without an error.

    Args:
        path: the final path.

    Raises:
        DaemonError: there is no place for the file.
    """

    def __init__(self, path: Path) -> None:
        check_place(path)
        self._path = path
        self._target = AtomicFile(path)

    def finish(self, whole: bool) -> None:
        """Close the temporary file; if it is to become the ``whole`` result, write what is buffered first.

        Raises:
            OSError: that failed.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.finish(whole=kind is None)
            if kind is None:
                self._target.commit()
        except OSError as failure:
            if kind is None:  # else the error of the block itself is the one to report
                raise unwritable(self._path, failure) from failure
        finally:
            self._target.discard()
