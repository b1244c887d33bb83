"""What the sources that read a file have in common: one finite partition that remembers no position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from daemon.domain import InputPartition, PartitionCommit


class FileSource:
    """One finite partition, named after the file; ``close`` ends ``events`` after the event in flight.

    Attributes:
        partition: partition 0 of the file's name.
        read: how far the file has been read, in the ``unit`` of the source; ``total`` is all of it.
    """

    unit: str

    def __init__(self, path: Path, total: int) -> None:
        self.partition = InputPartition(path.name, 0)
        self.read = 0
        self.total = total
        self._closed = False

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> None:
        """A file remembers no position."""

    def close(self) -> None:
        """Ask ``events`` to end after the event in flight."""
        self._closed = True

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self._closed
