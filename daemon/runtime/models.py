"""The registry of models, as what runs asks for it; ``model_store.ModelStore`` is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from daemon.adapters.registry import DecisionRecord


class Models(Protocol):
    """The registry of promoted models, for this process after a restart and for its replicas."""

    async def promoted(self, stream: str) -> bytes | None:
        """The bundle that is in force, if there is one."""
        ...

    async def kept(self, stream: str, version: str) -> bytes:
        """A bundle that the registry has, promoted or not.

        Raises:
            BundleError: it has none, or a damaged one.
            DaemonError: it cannot be read.
        """
        ...

    async def lead(self, stream: str) -> None:
        """A training of this stream begins here: what another process trains for it is void from now on."""
        ...

    async def decide(self, record: DecisionRecord, bundle: bytes | None) -> DecisionRecord:
        """Keep the candidate, if there is one, put it in force if it is promoted, and publish the decision.

        Returns:
            The decision as it was published: of a shadow that begins with what is in force.

        Raises:
            PointerMovedError: another model was put in force: nothing was decided.
            OvertakenError: another process has led since, likewise.
            DaemonError, OSError: it cannot be kept or published.
        """
        ...

    async def decisions(self, *, to_the_end: bool = False) -> Sequence[DecisionRecord]:
        """The decisions of all processes since the last call; some may come again."""
        ...

    async def poll(self) -> Sequence[tuple[str, bytes, str]]:
        """Stream, bundle and reason of each promotion by others since the last call."""
        ...

    async def before(self, stream: str) -> bytes | None:
        """The bundle that was in force before the promoted one, if there is one."""
        ...

    async def withdraw(self, stream: str, version: str, reason: str) -> None:
        """If this version is in force, put the one before in force for all replicas; or none."""
        ...
