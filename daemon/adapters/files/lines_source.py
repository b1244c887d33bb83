"""The lines of a JSON Lines file as a finite source of records; their content is not looked at here.

Memory is bounded whatever the lines are: of a line longer than the limit only its beginning is kept, with
its true length and SHA-256. A ``.json`` file may be one document instead (``json_documents``): it is read whole, as
tables are, and its records stand for lines. So is a file that is emitted from its end.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from daemon.adapters.files.file_source import FileSource
from daemon.adapters.files.json_documents import document_records
from daemon.adapters.files.opening import damage_as_input_error, open_regular, suffix_of
from daemon.domain import Assigned, PolledRecords, Record, SourceEvent

KEPT_BYTES: Final = (1 << 20) + (1 << 16)
"""Bytes that are kept of a line: more than the decoder accepts, so that a cut line is still too large for it."""
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Oversized:
    """Length and hash of a line that was too long to keep whole."""

    length: int  # bytes, without the newline
    sha256: str


class LinesSource(FileSource):
    """The lines of a file as records, in file order: one finite partition.

    A line ends at ``\\n`` and nowhere else; the last one needs none; blank lines are records
    too. The offset is the line's number from 0. Of a line longer than ``keep_bytes`` only these are
    kept, and ``oversized`` has its true length and SHA-256.

    Args:
        path: JSON Lines, gzipped or not.
        run_start_ns: every record's timestamp.
        chunk_lines: lines per event, at most.
        keep_bytes: must be more than the decoder's ``max_bytes``.
        newest_first: the last line is the oldest: emit the lines from the last to the first.

    Attributes:
        read: bytes of the file read so far; ``total`` is its size (both as stored).
        lines: lines emitted so far.

    Raises:
        InputError: the file is missing, empty or not readable for this user; from ``events``: damaged.
    """

    unit = "bytes"

    def __init__(
        self,
        path: Path,
        run_start_ns: int,
        chunk_lines: int = 1024,
        keep_bytes: int = KEPT_BYTES,
        newest_first: bool = False,
    ) -> None:
        open_regular(path).close()
        super().__init__(path, path.stat().st_size)
        self.oversized: dict[int, Oversized] = {}
        self.lines = 0
        self.newest_first = newest_first
        self._count = 0  # of all lines, where they are emitted from the last
        self._path = path
        self._run_start_ns = run_start_ns
        self._chunk = chunk_lines
        self._keep = keep_bytes

    def line_of(self, offset: int) -> int:
        """The line that has this offset."""
        return self._count - 1 - offset if self.newest_first else offset

    async def events(self) -> AsyncIterator[SourceEvent]:
        """The assignment, the lines, and a last event that marks the end."""
        yield Assigned(self.partition, 0, 0)
        chunk: list[Record] = []
        size = 0
        found: Iterable[bytes] = self.split()
        if self.newest_first:
            found = list(found)[::-1]
            self._count = len(found)
        for line in found:
            if self._closed:
                return
            chunk.append(Record(self.lines, None, line, self._run_start_ns))
            self.lines += 1
            size += len(line)
            if len(chunk) >= self._chunk or size >= _BLOCK:
                yield PolledRecords(self.partition, chunk)
                await asyncio.sleep(0)  # lets signal handlers and the progress bar run
                chunk, size = [], 0
        if self._closed:
            return
        self.read = self.total
        if chunk:
            yield PolledRecords(self.partition, chunk)
        if not self._closed:
            yield PolledRecords(self.partition, (), timedelta(0), ended=True, end_offset=self.lines)

    def split(self) -> Generator[bytes, None, None]:
        """Each line of the file, cut to ``keep_bytes``; lengths and hashes of cut ones go to ``oversized``."""
        records = self._document()
        if records is not None:
            for number, record in enumerate(records):
                if len(record) > self._keep:
                    self.oversized[number] = Oversized(len(record), hashlib.sha256(record).hexdigest())
                yield record[: self._keep]
            return
        kept = bytearray()  # of the line that is being read
        length = 0
        digest = hashlib.sha256()  # of the whole line, once it is longer than ``kept`` may be
        number = 0

        def add(piece: bytes) -> None:
            nonlocal length, digest
            room = self._keep - len(kept)
            if length <= self._keep < length + len(piece):
                digest = hashlib.sha256(kept)
                digest.update(piece)
            elif length > self._keep:
                digest.update(piece)
            length += len(piece)
            kept.extend(piece[:room])

        def finish() -> bytes:
            nonlocal length, number
            if length > self._keep:
                self.oversized[number] = Oversized(length, digest.hexdigest())
            line = bytes(kept)
            kept.clear()
            length = 0
            number += 1
            return line

        open_line = False
        for block in self._blocks():
            pieces = block.split(b"\n")
            add(pieces[0])
            for piece in pieces[1:]:
                yield finish()
                add(piece)
            open_line = bool(pieces[-1]) or (open_line and len(pieces) == 1)
        if open_line:
            yield finish()

    def _document(self) -> list[bytes] | None:
        """The records of a ``.json`` file that is one document; None where its lines are its records."""
        if suffix_of(self._path) != ".json":
            return None
        blocks = self._blocks()
        first = next(blocks, b"")
        line, end, _ = first.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
        if line[:1] == b"{" and end and line.rstrip().endswith(b"}"):  # lines: no need to hold them all
            return None
        return document_records(self._path, first + b"".join(blocks))

    def _blocks(self) -> Iterator[bytes]:
        """The uncompressed content of the file, a megabyte at a time."""
        with open_regular(self._path) as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            content: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            while True:
                with damage_as_input_error(
                    self._path, f"damaged gzip data after line {self.lines}" if packed else "cannot be read"
                ):
                    block = content.read(_BLOCK)
                if not block:
                    return
                self.read = raw.tell()
                yield block


def first_lines(path: Path, lines: int) -> tuple[list[bytes], bool]:
    """The first lines of a JSON Lines file, and whether these are all it has.

    Raises:
        InputError: the file is missing, empty, damaged or not readable for this user.
    """
    found: list[bytes] = []
    with closing(LinesSource(path, 0).split()) as every:
        for line in every:
            if len(found) == lines:
                return found, False
            found.append(line)
    return found, True
