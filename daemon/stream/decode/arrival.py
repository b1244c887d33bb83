"""The record at hand, for decoders that need more of it than its bytes, and the parts that it may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from daemon.domain import Reason, Record
from daemon.stream.decode.births import Births
from daemon.stream.rejection import RejectedError


class Arrival(NamedTuple):
    """A record on its way through decoding."""

    record: Record
    refused: list[RejectedError]  # parts of it that cannot be decoded, where others can: decoders append here
    births: Births | None = None  # what its partition remembers, for decoders with a memory; None: nothing
    around: Any = None  # the tree that contains what is decoded now (``inner``); None: nothing does


TreeDecoder = Callable[[bytes, Arrival], Any]
"""Bytes to a tree; raises ``RejectedError``, or ``SkippedError`` for what is no reading and no fault."""

MOST_REFUSED: Final = 1_000
"""Parts of a record that are refused alone; a record with more of them is refused whole."""


class Parts:
    """The parts of a record (lines, say), each decoded alone.

    Attributes:
        found: the trees of those that could be decoded.
        refused: why the others could not.
    """

    def __init__(self) -> None:
        self.found: list[Any] = []
        self.refused: list[RejectedError] = []

    def refuse(self, part: str, error: RejectedError) -> None:
        """This part cannot be decoded; raises RejectedError where that is true of too many."""
        self.refused.append(RejectedError(error.reason, f"{part}: {error.detail}"))
        if len(self.refused) > MOST_REFUSED:
            raise self.refused[0]

    def taken(self, arrival: Arrival, *, may_be_none: bool = False) -> list[Any]:
        """The trees; why others are refused goes to the record.

        Args:
            arrival: the record.
            may_be_none: whether a record without parts is in order.

        Raises:
            RejectedError: there is none.
        """
        if not self.found and (self.refused or not may_be_none):
            raise self.refused[0] if self.refused else RejectedError(Reason.BLANK, "nothing in it")
        arrival.refused.extend(self.refused)
        return self.found
