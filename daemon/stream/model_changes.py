"""Which model was in force from which record on; the next owner of the partition needs it to replay records.

Rows and snapshots are kept in the units of the model in force (``Scaling``), and each model change
gives the units a new number. A pipeline that replays records repeats each change at the same
offset as the first time, so that every row passes through the same conversions of units, to the last bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from daemon.detector import Scaling
from daemon.stream.snapshot import ModelChange
from daemon.stream.windowing import WindowBuffer

NO_MODEL = "none"
"""The model version that outputs name while there is no model yet (silence needs none)."""


class ModelChanges:
    """The model changes that a row, a snapshot or a replay may still need, oldest first.

    Args:
        windows: the rows, whose units change with each change.
        sensors: C.

    Attributes:
        other_model: whether the previous owner's last model was another one than that in force here.
    """

    def __init__(self, windows: WindowBuffer, sensors: int) -> None:
        self.other_model = False
        self._windows = windows
        self._known = [ModelChange(0, 0, NO_MODEL, Scaling.raw_units(sensors))]
        self._ahead: deque[ModelChange] = deque()  # those that a replay has not come to yet

    def __iter__(self) -> Iterator[ModelChange]:
        return iter(self._known)

    @property
    def last(self) -> ModelChange:
        """The change to the model in force."""
        return self._known[-1]

    @property
    def ahead(self) -> bool:
        """Whether the replay has not reached the last change: of the earlier models only the names are known."""
        return bool(self._ahead)

    def add(self, offset: int, model: str, scaling: Scaling) -> None:
        """A model comes into force at this offset; rows are kept in its units from now on."""
        self._known.append(ModelChange(self.last.number + 1, offset, model, scaling))
        self._windows.use_scaling(scaling)

    def restore(self, known: Sequence[ModelChange], offset: int) -> None:
        """Begin with the units of the previous owner's oldest row; the later changes are ahead.

        Args:
            known: the previous owner's changes.
            offset: its position; if the model in force here is another one, it comes into force there.
        """
        mine, self._known = self.last, list(known)
        self.other_model = self.last.model != mine.model
        if self.other_model:
            self._known.append(ModelChange(self.last.number + 1, offset, mine.model, mine.scaling))
        self._ahead = deque(self._known[1:])
        self._windows.restore_scalings(
            {change.number: change.scaling for change in self._known}, self._known[0].number
        )

    def next_offset(self) -> int | None:
        """Where the replay meets the next change; None if there is none ahead."""
        return self._ahead[0].offset if self._ahead else None

    def pass_next(self) -> int:
        """Repeat the next change of the replay: rows are kept in its units; returns their number."""
        change = self._ahead.popleft()
        self._windows.use_scaling(change.scaling)
        return change.number

    @property
    def droppable(self) -> bool:
        """Whether there may be changes that nothing needs any more."""
        return len(self._known) > 1 and not self._ahead

    def forget(self, units: int, replay_from: int, *, any_asset: bool) -> None:
        """Drop the changes that no row, no snapshot and no replay can need.

        Args:
            units: the lowest number of units that a row or a snapshot is in.
            replay_from: the first record that the next owner reads.
            any_asset: whether there is any asset.
        """
        before = [change.number for change in self._known if change.offset <= replay_from]
        if any_asset and before:
            units = min(units, before[-1])
        self._known = [change for change in self._known if change.number >= units]
        self._windows.drop_scalings(units)
