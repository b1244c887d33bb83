"""The interfaces of the loop to its input and output: ``Source`` and ``Sink``.

``run`` (Kafka), ``replay`` (files) and ``demo`` (memory) are the same loop over three implementations.
Each of them passes ``tests/contract.py``.
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
    """An input log of partitions, with committed positions."""

    def events(self) -> AsyncIterator[SourceEvent]:
        """Yield assignments, revocations and polls.

        The loop pulls the next event when it has finished with the one before, which is all the backpressure
        there is. An event comes within about a second even when there are no records (``PolledRecords``
        without items), so that the loop can report its beats. Ends when the log has ended or ``close`` was
        called.
        """
        ...

    async def commit(
        self, work: Mapping[InputPartition, PartitionCommit]
    ) -> Collection[InputPartition] | None:
        """Make position, state and outputs of each partition durable: all of a partition, or nothing.

        With a sink, outputs were published before, and ``work`` has none. A partition whose commit failed and
        that is still assigned is revoked and assigned anew at its last commit.

        Returns:
            The partitions whose commit failed; None where a commit cannot fail for some.
        """
        ...

    def close(self) -> None:
        """End ``events`` after the event in flight (SIGTERM). Safe to call twice."""
        ...

    @property
    def closing(self) -> bool:
        """Whether ``close`` was called: long work on the event in flight is left to a successor."""
        ...


class Sink(Protocol):
    """Publishes outputs."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Publish outputs; returns only when every one is durable.

        Raises:
            DaemonError: it is not.
        """
        ...
