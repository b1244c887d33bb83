"""What the loop needs from the outside: three sources and their sinks are this, and no more.

``run`` (Kafka), ``replay`` (files) and ``demo`` (memory) are one loop over three of these.
Every implementation passes ``tests/contract.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from daemon.domain import (
    InputPartition,
    Output,
    PartitionCommit,
    SourceEvent,
)


class Source(Protocol):
    """An input log.

    ``events`` yields what happened since the last pull and is only pulled when the loop has
    finished with the event before (backpressure is not pulling). It ends when the log has
    ended or ``close`` was called; it yields within about a second even when nothing came
    (``Polled`` with no items), so that the loop can beat.
    """

    def events(self) -> AsyncIterator[SourceEvent]: ...

    async def commit(
        self, work: Mapping[InputPartition, PartitionCommit]
    ) -> Collection[InputPartition] | None:
        """Make what each partition has done durable, all of it or nothing.

        Where a sink publishes, it has done so before, and no outputs come here. A partition for
        which it failed, and that is still ours, is revoked and assigned anew at its last commit.

        Returns:
            The partitions of which nothing was made durable; None where that cannot be.
        """
        ...

    def close(self) -> None:
        """Ask ``events`` to end after the event in flight (SIGTERM). Safe to call twice."""
        ...

    @property
    def closing(self) -> bool:
        """Whether ``close`` was called: long work on the event in flight is better left to a successor."""
        ...


class Sink(Protocol):
    """Where outputs go."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Return only when every output is durable; raise a DaemonError otherwise."""
        ...
