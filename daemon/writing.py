"""Atomic writes: files and folders that appear under their name only when they are whole.

Content is written beside the final path under a hidden name, synchronised to the disk, and then takes the final path
in one step. An error (a full disk, a block that raises) leaves the final path as it was and removes what was
written. A process that is killed leaves at most a hidden name behind, which is never read and which the next write
to the same path removes once it is a day old.

Everything here raises plain ``OSError``; callers turn it into an error of this program.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = ".tmp"
STALE_S = 86_400.0
"""Age at which a hidden name belongs to a process that was killed, not to one that still writes."""
_NAME_CHARACTERS = 40  # of the final name in the hidden one: file systems allow 255 bytes
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV}


class AtomicFile:
    """A file that is written beside its final path: write to ``temporary``, then ``commit`` or ``discard``.

    A link is followed, so that its target is replaced and not the link. A pipe or device (``/dev/stdout``) is
    written to directly: there is nothing to replace.

    Raises:
        OSError: the folder cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._place = Path(os.path.realpath(path))
        self._direct = self._place.exists() and not (self._place.is_file() or self._place.is_dir())
        self.temporary = self._place if self._direct else _hidden(self._place)
        if not self._direct:
            sweep(self._place)

    def commit(self) -> None:
        """Move the temporary file to the final path; it is on the disk when this returns."""
        if self._direct:
            return
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(self._place, self.temporary)
        sync(self.temporary)
        self.temporary.replace(self._place)
        sync(self._place.parent)

    def discard(self) -> None:
        """Remove what was written and not committed. Safe to call at any time."""
        if not self._direct:
            self.temporary.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside the file ``path`` that takes its place if the block ends without an error."""
    beside = AtomicFile(path)
    try:
        yield beside.temporary
        beside.commit()
    finally:
        beside.discard()


@contextmanager
def replacing_folder(path: Path, *, swap: Callable[[Path, Path], bool] | None = None) -> Iterator[Path]:
    """An empty folder beside the folder ``path`` that takes its place, with its files, if the block ends without an error.

    ``swap`` exchanges two names in one step, or returns False where that is impossible: see ``exchange``.
    """
    place = Path(os.path.realpath(path))
    sweep(place)
    fresh = _hidden(place)
    fresh.mkdir(0o755)
    try:
        yield fresh
        for child in sorted(fresh.rglob("*")):
            sync(child)
        sync(fresh)
        _take_place(fresh, place, swap or exchange)
        sync(place.parent)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)  # by now the former folder, or what failed


def current(path: Path) -> Path:
    """The present path of the folder that was written as ``path``.

    Where the system cannot exchange two names in one step, a process that is killed between the two
    steps leaves the former folder under a name of its own.
    """
    former = _former(Path(os.path.realpath(path)))
    return former if not path.exists() and former.is_dir() else path


def sync(path: Path) -> None:
    """Synchronise a file or a folder to the disk; not every file system supports that for a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (stat.S_ISDIR(os.fstat(handle).st_mode) and error.errno in (errno.EINVAL, errno.EBADF)):
            raise
    finally:
        os.close(handle)


def sweep(path: Path) -> None:
    """Remove the hidden names that killed processes left behind while they wrote ``path``."""
    pattern = re.compile(re.escape(f".{path.name[:_NAME_CHARACTERS]}.") + "[0-9a-f]{8}" + re.escape(SUFFIX))
    oldest = time.time() - STALE_S
    with contextlib.suppress(OSError):
        for child in path.parent.iterdir():
            if pattern.fullmatch(child.name) and child.lstat().st_mtime < oldest:
                if child.is_dir():
                    shutil.rmtree(child, ignore_errors=True)
                else:
                    child.unlink()


def exchange(one: Path, other: Path) -> bool:
    """Exchange two names on one file system in one step; False where the system does not support it."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # another system, or an old C library
        return False
    if renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _take_place(fresh: Path, place: Path, swap: Callable[[Path, Path], bool]) -> None:
    former = _former(place)
    if not place.exists():
        fresh.rename(place)
    elif not swap(fresh, place):
        shutil.rmtree(former, ignore_errors=True)
        place.rename(former)
        try:
            fresh.rename(place)
        except BaseException:
            former.rename(place)
            raise
    shutil.rmtree(former, ignore_errors=True)


def _hidden(place: Path) -> Path:
    return place.with_name(f".{place.name[:_NAME_CHARACTERS]}.{secrets.token_hex(4)}{SUFFIX}")


def _former(place: Path) -> Path:
    return place.with_name(f".{place.name}.former")
