"""Readings of some sensors of a row: how they make the row together.

The first value of each cell counts; where several values of a sensor are reduced to one (``reduction``), all of
them do. A row is complete when every sensor that is not silent has reported. With a reduction it never is, as
another value may come until the watermark has passed the row's end.

Input: readings whose time is not late, with the ``AssetGrid`` of their asset. Output: a ``Disposition`` per reading;
``CellFates`` says which of its cells did not go into the row.
"""

from __future__ import annotations

from daemon.domain import Disposition, Reading, StreamSpec
from daemon.stream.accounts import CellFates
from daemon.stream.asset_grid import AssetGrid, OpenRow
from daemon.stream.reduction import Reductions


class Merging:
    """Puts readings into the rows of one stream.

    Args:
        spec: the stream.
        fates: takes the cells of a reading that did not go into its row.

    ``conflicts`` counts readings that contradicted a cell that had its value already.
    """

    def __init__(self, spec: StreamSpec, fates: CellFates) -> None:
        self.fates = fates
        self.conflicts = 0
        self._sensors = len(spec.sensors)
        self._all = (1 << self._sensors) - 1
        self._reductions = Reductions([rule.reduce for rule in spec.rules])
        self._reduced = self._reductions.sensors

    def is_complete(self, grid: AssetGrid, row: OpenRow) -> bool:
        """Whether nothing can change the row any more, whatever comes."""
        return not self._reduced and (row.reported | grid.silent) & self._all == self._all

    def close(self, row: OpenRow) -> None:
        """The row is released."""
        if self._reduced:
            self._reductions.close(row)

    def insert_cell(self, grid: AssetGrid, row: int, reading: Reading) -> Disposition:
        """Insert a reading of one sensor: the first value of a cell counts."""
        bit = 1 << reading.sensor
        value = reading.value
        if value == value:
            grid.silent &= ~bit  # it reports again: rows wait for it from now on
        open_row = grid.rows.get(row)
        if open_row is None:
            released = grid.recent.get(row)
            if released is not None and released.reported & bit & ~self._reduced:
                return self._meet(released.values[reading.sensor], value, bit)
            if row < grid.head:
                self.fates.late = bit
                return Disposition.LATE
            open_row = grid.rows[row] = self._reductions.opened(reading)
        elif open_row.reported & bit & ~self._reduced:
            first = open_row.values[reading.sensor]
            if first == first or value != value:
                return self._meet(first, value, bit)
        self._reductions.put(open_row, reading.sensor, value, reading.time_ns)
        open_row.last_offset = reading.offset
        if reading.condition:
            open_row.condition = reading.condition
        return Disposition.ACCEPTED

    def _meet(self, first: float, value: float, bit: int) -> Disposition:
        """A cell has its value already: whether this one repeats or contradicts it."""
        if first == value or (first != first and value != value):
            self.fates.repeated |= bit
            return Disposition.DUPLICATE
        self.conflicts += 1
        self.fates.conflicting |= bit
        return Disposition.ACCEPTED

    def insert_part(self, grid: AssetGrid, row: int, reading: Reading) -> Disposition:
        """Insert a reading of some sensors: the first value of each cell counts.

        It is a duplicate where it says nothing new, and accepted where one of its values is.
        """
        assert reading.values is not None
        reported = reading.reported & self._all
        open_row, late = grid.rows.get(row), False
        known = open_row
        if open_row is None:
            known = grid.recent.get(row)
            if row < grid.head:
                late = True  # released: whatever is new in it comes too late
            elif reported:
                open_row = known = grid.rows[row] = self._reductions.opened(reading)
        disposition = Disposition.DUPLICATE
        for c in range(self._sensors):
            if not reported >> c & 1:
                continue
            bit, value = 1 << c, reading.values[c]
            if value == value:
                grid.silent &= ~bit
            if known is not None and known.reported & bit & ~self._reduced:
                first = known.values[c]
                if first == first or value != value or late:
                    if self._meet(first, value, bit) is Disposition.ACCEPTED:
                        disposition = Disposition.ACCEPTED
                    continue
            if late or open_row is None:
                self.fates.late |= bit
                if disposition is Disposition.DUPLICATE:
                    disposition = Disposition.LATE
                continue
            self._reductions.put(open_row, c, value, reading.time_ns)
            disposition = Disposition.ACCEPTED
        if open_row is not None and disposition is Disposition.ACCEPTED:
            open_row.last_offset = reading.offset
            if reading.condition:
                open_row.condition = reading.condition
        return disposition
