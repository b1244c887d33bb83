"""Which model was in force from which record on: what a successor must know to read records again.

Rows and snapshots are kept in the units of the model that was in force (``Scaling``), and units are
numbered by takeover. A pipeline that reads records again lets each model take over where it did
the first time, so that every row passes through the same conversions of units, to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from daemon.detector import Scaling
from daemon.stream.snapshot import Swap
from daemon.stream.windowing import WindowBuffer

NO_MODEL = "none"
"""The model version that outputs name while there is no model yet (silence needs none)."""


class Takeovers:
    """The takeovers that a row, a snapshot or a replay may still need, oldest first.

    Args:
        windows: the rows, whose units change with each takeover.
        sensors: C.

    Attributes:
        other_model: whether the predecessor's last model was another one than that in force here.
    """

    def __init__(self, windows: WindowBuffer, sensors: int) -> None:
        self.other_model = False
        self._windows = windows
        self._known = [Swap(0, 0, NO_MODEL, Scaling.raw_units(sensors))]
        self._ahead: deque[Swap] = deque()  # those that a replay has not come to yet

    def __iter__(self) -> Iterator[Swap]:
        return iter(self._known)

    @property
    def last(self) -> Swap:
        """The takeover of the model in force."""
        return self._known[-1]

    @property
    def ahead(self) -> bool:
        """Whether the replay is before a takeover: there is no more than the name of the models of then."""
        return bool(self._ahead)

    def add(self, offset: int, model: str, scaling: Scaling) -> None:
        """A model takes over at this offset; rows are kept in its units from now on."""
        self._known.append(Swap(self.last.number + 1, offset, model, scaling))
        self._windows.use_scaling(scaling)

    def restore(self, known: Sequence[Swap], offset: int) -> None:
        """Begin where the predecessor's oldest row may be, its later takeovers ahead.

        Args:
            known: the predecessor's.
            offset: its position; the model in force here takes over there if it is another one.
        """
        mine, self._known = self.last, list(known)
        self.other_model = self.last.model != mine.model
        if self.other_model:
            self._known.append(Swap(self.last.number + 1, offset, mine.model, mine.scaling))
        self._ahead = deque(self._known[1:])
        self._windows.restore_scalings(
            {swap.number: swap.scaling for swap in self._known}, self._known[0].number
        )

    def next_offset(self) -> int | None:
        """Where the replay meets the next takeover; None if there is none ahead."""
        return self._ahead[0].offset if self._ahead else None

    def pass_next(self) -> int:
        """Repeat the next takeover of the replay: rows are kept in its units; returns their number."""
        swap = self._ahead.popleft()
        self._windows.use_scaling(swap.scaling)
        return swap.number

    @property
    def droppable(self) -> bool:
        """Whether there may be takeovers that nothing needs any more."""
        return len(self._known) > 1 and not self._ahead

    def forget(self, units: int, replay_from: int, *, any_asset: bool) -> None:
        """Drop the takeovers that no row, no snapshot and no replay can need.

        Args:
            units: the lowest number of units that a row or a snapshot is in.
            replay_from: the first record that a successor reads.
            any_asset: whether there is any asset.
        """
        before = [swap.number for swap in self._known if swap.offset <= replay_from]
        if any_asset and before:
            units = min(units, before[-1])
        self._known = [swap for swap in self._known if swap.number >= units]
        self._windows.drop_scalings(units)
