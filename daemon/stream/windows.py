"""Event time: from readings in arrival order to rows on each asset's grid, in row order.

Every asset has its own regular grid (row = event time // period) and its own watermark, its
greatest accepted event time minus the allowed lateness. A row is *closed*, and released to
the windows, in order, as soon as nothing may change it any more:

* it is complete: its first wide line came, or every sensor that is not silent has reported;
* or the watermark has passed its end, and what is absent then is missing.

What comes for a time below the watermark is late. So a complete row waits only for earlier
rows that may still come, which is also why an asset's first row waits for the watermark: the
row before it may be in flight. A row nobody spoke of exists, empty, only when a later row
within ``max_gap`` of the last observed one has come; over a longer gap windows start afresh.

At the end of an idle log the wall clock may close rows, but never beyond the last observed
one: the calendar must not make last year's data late.

Nothing here knows Kafka, batches or the wall clock: the same lines in the same order give
the same rows, whatever the batches were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from daemon.domain import Disposition, Format, Reading, StreamSpec

NAN = float("nan")


class OpenRow(msgspec.Struct, gc=False):
    """A grid row that readings have come for."""

    values: Sequence[float]  # (C,), NaN where missing
    reported: int = 0  # bit c: sensor c has reported, be it a value or a corrupt cell
    offset: int = -1  # of the first record for this row
    last_offset: int = -1
    complete: bool = False
    condition: str = ""


class ReleasedRow(msgspec.Struct, frozen=True, gc=False):
    """A closed row: nothing will change it any more."""

    asset: str
    row: int
    values: Sequence[float]  # (C,), NaN where missing
    empty: bool  # nobody spoke of it
    fresh: bool  # first row, or after a gap beyond max_gap: windows start here
    offset: int  # of its first record; of the record that proved it for an empty row
    last_offset: int
    condition: str


@dataclass(slots=True, eq=False)
class AssetGrid:
    """One asset's rows between the newest reading and the windows."""

    asset: str
    first_time_ns: int
    max_time_ns: int
    watermark_ns: int
    head: int  # the next row to release
    last_observed: int = -1  # greatest released row that was spoken of; -1 before any
    newest: int = -1  # greatest row that was spoken of, released or not
    rows: dict[int, OpenRow] = field(default_factory=dict)  # not released
    recent: dict[int, OpenRow] = field(default_factory=dict)  # released, above the watermark
    silent: int = 0  # bit c: sensor c is declared silent; rows do not wait for it
    began: int = -1  # the row at which the windows last started afresh
    heard: list[int] = field(default_factory=list)  # per sensor, newest released row with a value
    condition: str = ""


class Grid:
    """The grids of all assets of one input partition.

    Args:
        spec: the stream.

    ``conflicts`` counts readings that contradicted a cell that had its value already: they
    are accepted, and the first value stands.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.assets: dict[str, AssetGrid] = {}
        self.event_time_ns = -1  # greatest accepted event time of the partition
        self.conflicts = 0
        self._all = (1 << len(spec.sensors)) - 1
        self._wide = spec.format is Format.JSON_WIDE
        self._max_gap_rows = spec.max_gap_ns // spec.period_ns
        self._silent_rows = max(spec.silent_after_ns // spec.period_ns, 1)

    def offer(self, reading: Reading, closed: list[ReleasedRow]) -> Disposition:
        """Take one reading; rows of its asset that it closed are appended to ``closed``, in order."""
        time_ns = reading.time_ns
        spec = self.spec
        grid = self.assets.get(reading.asset)
        row = time_ns // spec.period_ns
        if grid is None:
            watermark = time_ns - spec.allowed_lateness_ns
            grid = self.assets[reading.asset] = AssetGrid(
                reading.asset, time_ns, time_ns, watermark, head=watermark // spec.period_ns
            )
        elif time_ns < grid.watermark_ns:
            return Disposition.LATE
        if reading.values is None:
            disposition = self._long_cell(grid, row, reading)
        elif row == grid.head and not grid.rows and grid.last_observed >= 0:
            # Nearly every line: the next row of an asset that waits for nothing. It closes at once.
            complete = OpenRow(
                reading.values, self._all, reading.offset, reading.offset, True, reading.condition
            )
            closed.append(self._close(grid, row, complete))
            disposition = Disposition.ACCEPTED
        else:
            disposition = self._wide_line(grid, row, reading)
        if disposition is Disposition.ACCEPTED:
            if row > grid.newest:
                grid.newest = row
            if time_ns > grid.max_time_ns:
                grid.max_time_ns = time_ns
                watermark = time_ns - spec.allowed_lateness_ns
                if watermark > grid.watermark_ns:
                    grid.watermark_ns = watermark
            if time_ns > self.event_time_ns:
                self.event_time_ns = time_ns
            if grid.rows:
                self._release(grid, closed)
            self._forget(grid)
        return disposition

    def _wide_line(self, grid: AssetGrid, row: int, reading: Reading) -> Disposition:
        assert reading.values is not None
        known = grid.rows.get(row) or grid.recent.get(row)
        if known is not None:
            if same(known.values, reading.values):
                return Disposition.DUPLICATE
            self.conflicts += 1
            return Disposition.ACCEPTED
        assert row >= grid.head  # what was released is in ``recent``, or below the watermark
        grid.rows[row] = OpenRow(
            reading.values, self._all, reading.offset, reading.offset, True, reading.condition
        )
        return Disposition.ACCEPTED

    def _long_cell(self, grid: AssetGrid, row: int, reading: Reading) -> Disposition:
        bit = 1 << reading.sensor
        value = reading.value
        if value == value:
            grid.silent &= ~bit  # it speaks again: rows wait for it from now on
        open_row = grid.rows.get(row)
        if open_row is None:
            released = grid.recent.get(row)
            if released is not None and released.reported & bit:
                first = released.values[reading.sensor]
                if first == value or (first != first and value != value):
                    return Disposition.DUPLICATE
                self.conflicts += 1
                return Disposition.ACCEPTED
            if row < grid.head:
                return Disposition.LATE
            open_row = OpenRow([NAN] * len(self.spec.sensors), 0, reading.offset, condition=reading.condition)
            grid.rows[row] = open_row
        elif open_row.reported & bit:
            first = open_row.values[reading.sensor]
            if first == value or (first != first and value != value):
                return Disposition.DUPLICATE
            if first == first:
                self.conflicts += 1
                return Disposition.ACCEPTED
        assert isinstance(open_row.values, list)
        open_row.values[reading.sensor] = value
        open_row.reported |= bit
        open_row.last_offset = reading.offset
        if reading.condition:
            open_row.condition = reading.condition
        return Disposition.ACCEPTED

    def _release(self, grid: AssetGrid, closed: list[ReleasedRow]) -> None:
        """Append the rows of an asset that are closed by now, in order."""
        spec = self.spec
        period = spec.period_ns
        watermark = grid.watermark_ns
        rows = grid.rows
        while rows:
            head = grid.head
            row = rows.get(head)
            if row is not None:
                if not (
                    row.complete
                    or (row.reported | grid.silent) & self._all == self._all
                    or watermark >= (head + 1) * period
                ):
                    return
                del rows[head]
                closed.append(self._close(grid, head, row))
                continue
            nearest = min(rows)
            if grid.last_observed >= 0 and nearest - grid.last_observed <= self._max_gap_rows:
                if watermark < (head + 1) * period:
                    return
                grid.head = head + 1
                proof = rows[nearest].offset
                empty = [NAN] * len(spec.sensors)
                closed.append(ReleasedRow(grid.asset, head, empty, True, False, proof, proof, grid.condition))
                continue
            # Before the first row, or a gap beyond max_gap: skip to the nearest row once no
            # earlier one can come any more.
            if watermark < nearest * period:
                return
            grid.head = nearest

    def _forget(self, grid: AssetGrid) -> None:
        """Let go of released rows that the watermark has passed: what repeats them is late."""
        recent = grid.recent
        closed = grid.watermark_ns // self.spec.period_ns
        while recent and (first := next(iter(recent))) < closed:  # they were released in ascending order
            del recent[first]

    def _close(self, grid: AssetGrid, index: int, row: OpenRow) -> ReleasedRow:
        """A row that nothing will change any more; the next one is awaited from now on."""
        fresh = grid.last_observed < 0 or index - grid.last_observed > self._max_gap_rows
        grid.recent[index] = row
        grid.last_observed = index
        grid.head = index + 1
        if fresh:
            grid.began = index
        if not self._wide:
            self._listen(grid, index, row.values)
        if row.condition:
            grid.condition = row.condition
        last = row.last_offset if row.last_offset >= 0 else row.offset
        return ReleasedRow(grid.asset, index, row.values, False, fresh, row.offset, last, grid.condition)

    def _listen(self, grid: AssetGrid, index: int, values: Sequence[float]) -> None:
        """Declare sensors silent that had no value for ``silent_after`` while their asset has rows.

        It is done here, at a row's release, so that what later rows wait for depends on the
        order of the lines alone.
        """
        grid.heard = grid.heard or [-1] * len(values)
        for c, value in enumerate(values):
            if value == value:
                grid.heard[c] = index
                grid.silent &= ~(1 << c)
            elif index - max(grid.heard[c], grid.began) >= self._silent_rows:
                grid.silent |= 1 << c

    def elapse(self, idle_ns: int) -> list[ReleasedRow]:
        """Close rows at the end of a log that has been idle for ``idle_ns`` of wall time.

        The watermark of each asset moves to its greatest event time minus the lateness plus
        the idle time, at most to the end of its last observed row.
        """
        lateness = self.spec.allowed_lateness_ns
        closed: list[ReleasedRow] = []
        # By name: a successor may have met the assets in another order.
        for asset in sorted(asset for asset, grid in self.assets.items() if grid.rows):
            grid = self.assets[asset]
            end = (grid.newest + 1) * self.spec.period_ns
            grid.watermark_ns = max(grid.watermark_ns, min(end, grid.max_time_ns - lateness + idle_ns))
            self._release(grid, closed)
            self._forget(grid)
        return closed

    def finish(self) -> list[ReleasedRow]:
        """Close every row up to each asset's last observed one: the log has ended."""
        return self.elapse(1 << 62)

    def drop(self, asset: str) -> None:
        """Forget an asset (eviction)."""
        self.assets.pop(asset, None)


def same(a: Sequence[float], b: Sequence[float]) -> bool:
    """Equal cell by cell, missing equal to missing."""
    return all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))
