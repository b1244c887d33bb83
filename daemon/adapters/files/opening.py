"""Opening input files: their format by name, regular files only, one clear line for damage.

Every reader of this package opens its file with ``open_regular`` and reads it within
``damage_as_input_error``, so that a missing, empty, foreign or damaged file is an ``InputError`` of one line.
"""

from __future__ import annotations

import csv
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, Final

import pyarrow as pa

from daemon.errors import InputError

_LINES_SUFFIXES: Final = frozenset({".jsonl", ".json", ".ndjson"})


def is_lines(path: Path) -> bool:
    """Whether the name says JSON Lines (``.jsonl``, ``.ndjson``, ``.json``, each also ``.gz``)."""
    return suffix_of(path) in _LINES_SUFFIXES


def suffix_of(path: Path) -> str:
    """The extension in lower case, without a closing ``.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file that is not empty.

    Raises:
        InputError: it is missing, empty, a directory, a pipe, a device or not readable for this user.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe may never end, and its content is gone once read
            raise InputError(
                f"{path}: is a {'directory' if path.is_dir() else 'pipe or a device'}, not a file"
            )
        file = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not file.peek(1):
        file.close()
        raise InputError(f"{path}: is empty")
    return file


@contextmanager
def damage_as_input_error(path: Path, what: str) -> Iterator[None]:
    """Turn what the readers raise over a damaged file into an ``InputError`` of one line that begins with ``what``."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        shown = "".join(c if c.isprintable() else "?" for c in reason[:200])  # it may quote the file
        raise InputError(f"{path}: {what}: {shown}") from error


def only_member(path: Path, file: IO[bytes]) -> bytes:
    """The content of the only file in a zip archive.

    Raises:
        InputError: the archive is damaged, locked or an Excel workbook, or holds no file or several.
    """
    with damage_as_input_error(path, "damaged zip data"):
        try:
            with zipfile.ZipFile(file) as archive:
                names = [each.filename for each in archive.infolist() if not each.is_dir()]
                if "[Content_Types].xml" in names:
                    raise InputError(f"{path}: is an Excel workbook: save the sheet as CSV, or as Parquet")
                if len(names) != 1:
                    listed = ", ".join(name[:60] for name in names[:5]) + (" ..." if len(names) > 5 else "")
                    raise InputError(
                        f"{path}: is a zip archive of {len(names)} files: unpack the one to read ({listed})"
                    )
                return archive.read(names[0])
        except (
            zipfile.BadZipFile,
            RuntimeError,
            NotImplementedError,
        ) as error:  # damage, a password, a method
            raise OSError(str(error)) from error
