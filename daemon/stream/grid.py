"""Event time: from readings in the order of arrival to rows on each asset's grid, in the order of rows.

Every asset has its own regular grid (row = event time // period) and its own watermark, its greatest
accepted event time minus the allowed lateness. A row is *closed* as soon as nothing can change it any
more, and is then released to the windows, in order. It is closed when

* it is complete: its first wide reading came, or every sensor that is not silent has reported; or
* the watermark has passed its end: values that are absent then are missing.

Where several values of a sensor within one row are reduced to one (``reduction``), no row is complete before
the watermark: another value may come. With ``allowed_lateness: 0s`` that is the first reading of a later row.

A reading with a time below the watermark is late. A complete row therefore waits only for earlier rows
that may still come; an asset's first row waits for the watermark, because the row before it may be in
flight. A row without any reading is released, empty, only when a later row within ``max_gap`` of the last
observed one has come; after a longer gap the windows start afresh.

At the end of an idle log the wall clock may close rows, but never beyond the last observed one: otherwise
the calendar would make last year's data late.

**Idle and active assets.** Nearly every wide reading is the next row of an asset without waiting rows, and
is closed at once. Such an asset is *idle*: a few numbers describe it completely. They are in arrays by
slot, and ``is_next_row`` and ``append_next`` process whole batches of such readings. Any other reading
makes its asset *active* (an ``AssetGrid``), and is processed alone, until no row waits. Of rows above the
watermark that were released a hash of the values is kept, so that a repetition of a row can be
distinguished from a contradiction.

Inputs: readings, alone (``insert``) or in batches. Outputs: a ``Disposition`` per reading, and
``ReleasedRow`` values. Invariant: the same readings in the same order give the same rows, in whatever
batches they come; nothing here knows Kafka or the wall clock.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from daemon.assembly import merges, silent_rows
from daemon.domain import (
    Disposition,
    Ints,
    Mask,
    Reading,
    StreamSpec,
)
from daemon.stream.accounts import CellFates
from daemon.stream.asset_grid import NEVER, AssetGrid, OpenRow, ValueHashes, is_part, value_hashes
from daemon.stream.gathering import Gathering
from daemon.stream.merging import Merging
from daemon.stream.snapshot import (
    GridState,
)
from daemon.stream.windowing import grown

NAN = float("nan")


class ReleasedRow(msgspec.Struct, frozen=True, gc=False):
    """A closed row: nothing will change it any more."""

    asset: str
    row: int
    values: Sequence[float]  # (C,), NaN where missing
    empty: bool  # without any reading
    fresh: bool  # first row, or after a gap beyond max_gap: windows start here
    offset: int  # of its first record; of an empty row, of the record that caused its release
    last_offset: int
    condition: str


class Grid:
    """The grids of all assets of one input partition, by slot.

    Args:
        spec: the stream.

    ``conflicts`` counts readings that contradicted a cell that had its value already: they are accepted,
    and the first value stands. ``parts`` counts those that lack sensors where readings are whole rows: they are
    lost. ``fates`` says which cells of the last inserted reading did not go into its row, until the next one.
    ``newest`` (N,) is each asset's greatest row with a reading, released or not; ``NEVER`` for a slot without one.
    ``gathering`` has the idle assets where rows are gathered.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.parts = self._wide_conflicts = 0
        self.fates = CellFates()
        self.newest: Ints = np.empty(0, np.int64)
        self.gathering = Gathering(spec)
        self._active: dict[int, AssetGrid] = {}  # by slot
        self._all = (1 << len(spec.sensors)) - 1
        self._whole = not merges(spec)
        self._merging = Merging(spec, self.fates)
        self._max_gap_rows = spec.max_gap_ns // spec.period_ns
        self._silent_rows = silent_rows(spec)
        # An idle asset: its last row is ``newest``, and these arrays have the rest.
        self._idle: Mask = np.empty(0, bool)
        self._max_time: Ints = np.empty(0, np.int64)
        self._watermark: Ints = np.empty(0, np.int64)
        self._began: Ints = np.empty(0, np.int64)
        self._conditions: list[str] = []
        self._message_conditions = bool(spec.message_condition)
        # The hash of row r is at r modulo the number of rows above any watermark; 0: an empty row.
        kept = spec.allowed_lateness_ns // spec.period_ns + 3 if self._whole else 0
        self._value_hashes: ValueHashes = np.empty((0, kept), np.uint64)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; existing assets keep theirs."""
        more = capacity - len(self.newest)
        for name in ("newest", "_idle", "_max_time", "_watermark", "_began", "_value_hashes"):
            setattr(self, name, grown(getattr(self, name), capacity))
        self.gathering.grow(capacity)
        self.newest[capacity - more :] = NEVER
        self._conditions += [""] * more

    def clear(self, slot: int) -> None:
        """Prepare a slot for a new asset."""
        self._active.pop(slot, None)
        self.gathering.clear(slot)
        self._idle[slot] = False
        self._value_hashes[slot] = 0
        self.newest[slot] = NEVER

    @property
    def conflicts(self) -> int:
        """See the class."""
        return self._wide_conflicts + self._merging.conflicts

    def released(self, slot: int) -> bool:
        """Whether a row of this asset was released, which cannot be undone."""
        grid = self._active.get(slot)
        idle = self._idle[slot] or self.gathering.idle[slot]
        return bool(idle) if grid is None else grid.last_observed >= 0

    # -------------------------------------------------------------- many readings at once
    def is_next_row(
        self, slots: Ints, occurrence: Ints, rows: Ints, times_ns: Ints, conditions: Sequence[str]
    ) -> Mask:
        """(B,) which readings are the next rows of their assets, without a gap, while the assets are idle.

        Args:
            slots, occurrence: each reading's asset, and how many readings of it come before in the batch.
            rows, times_ns, conditions: of each reading.

        If one reading of an asset is not, none of its readings in the batch is: they stay in order.
        """
        plain = self._idle[slots] & (rows == self.newest[slots] + 1 + occurrence)
        plain &= times_ns >= self._watermark[slots]
        if self._max_gap_rows < 1:
            plain[:] = False  # every row starts windows afresh
        if self._message_conditions and not all(conditions):
            plain &= [bool(condition) for condition in conditions]  # a message without one has the one before
        if not plain.all():
            others = np.zeros(len(self.newest), bool)
            others[slots[~plain]] = True
            plain = ~others[slots]
        return np.asarray(plain)

    def append_next(
        self, slots: Ints, rows: Ints, times_ns: Ints, value_hashes: ValueHashes, conditions: Sequence[str]
    ) -> None:
        """Close the rows of readings for which ``is_next_row`` holds, in their order.

        Arguments as of ``is_next_row``; ``value_hashes`` (B,) are those of the readings' values.
        """
        if not len(slots):
            return
        self._value_hashes[slots, rows % self._value_hashes.shape[1]] = value_hashes
        self.newest[slots] = rows  # of several readings of an asset the last one counts
        self._max_time[slots] = times_ns  # they ascend, as the rows do
        self._watermark[slots] = np.maximum(self._watermark[slots], times_ns - self.spec.allowed_lateness_ns)
        if self._message_conditions:
            for slot, condition in zip(slots.tolist(), conditions, strict=True):
                self._conditions[slot] = condition

    # -------------------------------------------------------------- one by one
    def insert(
        self, slot: int, reading: Reading, closed: list[ReleasedRow], value_hash: int | None = None
    ) -> Disposition:
        """Insert one reading; rows of its asset that it closes are appended to ``closed``, in order.

        ``value_hash`` is that of a wide reading's values, where it is known already.
        """
        time_ns, spec = reading.time_ns, self.spec
        row = time_ns // spec.period_ns
        fates = self.fates
        fates.late = fates.repeated = fates.conflicting = 0
        grid = self._active.get(slot)
        if grid is None:
            grid = self._activate(slot, reading)
        if time_ns < grid.watermark_ns:
            disposition = Disposition.LATE
            fates.late = self._all
        elif reading.values is None:
            disposition = self._merging.insert_cell(grid, row, reading)
        elif not self._whole:
            disposition = self._merging.insert_part(grid, row, reading)
        else:
            if value_hash is None:
                value_hash = int(value_hashes(np.array([reading.values], np.float64))[0])
            disposition = self._insert_wide(grid, row, reading, value_hash)
        if disposition is Disposition.ACCEPTED:
            self._advance(grid, row, time_ns)
        self._release_and_prune(grid, closed)
        grid.steady = grid.steady + 1 if disposition is Disposition.ACCEPTED and len(grid.rows) < 2 else 0
        return disposition

    def insert_newer(
        self, asset: str, slot: int, row: int, time_ns: int, reading: OpenRow, closed: list[ReleasedRow]
    ) -> None:
        """``insert`` a wide reading of a row that is newer than all rows of its asset; it is accepted."""
        grid = self._active.get(slot)
        if grid is None:
            grid = self._active[slot] = self._idle_grid(slot, asset)
            self._idle[slot] = False
        grid.rows[row] = reading
        self._advance(grid, row, time_ns)
        self._release_and_prune(grid, closed)

    def _advance(self, grid: AssetGrid, row: int, time_ns: int) -> None:
        """A reading of this row and time was accepted."""
        if row > self.newest[grid.slot]:
            self.newest[grid.slot] = row
        if time_ns > grid.max_time_ns:
            grid.max_time_ns = time_ns
            grid.watermark_ns = max(grid.watermark_ns, time_ns - self.spec.allowed_lateness_ns)

    def make_idle_if_steady(self, slot: int) -> None:
        """Make an active asset idle, if it can be: after the last one of readings that go one by one."""
        if (grid := self._active.get(slot)) is not None and self.gathering.may_keep(grid):
            del self._active[slot]

    def _activate(self, slot: int, reading: Reading) -> AssetGrid:
        """Make an asset active: an idle one, or a new one that this reading is the first of."""
        if self.gathering.idle[slot]:
            grid = self.gathering.leave(slot)
        elif self._idle[slot]:
            grid = self._idle_grid(slot, reading.asset)
            self._idle[slot] = False
        else:
            watermark = reading.time_ns - self.spec.allowed_lateness_ns
            head = watermark // self.spec.period_ns
            grid = AssetGrid(reading.asset, slot, reading.time_ns, watermark, head)
        self._active[slot] = grid
        return grid

    def _idle_grid(self, slot: int, asset: str) -> AssetGrid:
        """An idle asset as an object."""
        last = int(self.newest[slot])
        return AssetGrid(
            asset,
            slot,
            int(self._max_time[slot]),
            int(self._watermark[slot]),
            last + 1,
            last,
            began=int(self._began[slot]),
            condition=self._conditions[slot],
        )

    def _set_idle(self, grid: AssetGrid) -> None:
        """Make an active asset idle: no row waits."""
        slot = grid.slot
        del self._active[slot]
        self._idle[slot] = True
        self._max_time[slot] = grid.max_time_ns
        self._watermark[slot] = grid.watermark_ns
        self._began[slot] = grid.began
        self._conditions[slot] = grid.condition

    def _insert_wide(self, grid: AssetGrid, row: int, reading: Reading, value_hash: int) -> Disposition:
        """Insert a reading of all sensors: the first one of a row counts."""
        assert reading.values is not None
        known = grid.rows.get(row)
        if known is not None or row < grid.head:
            known_hash = (
                known.value_hash
                if known is not None
                else int(self._value_hashes[grid.slot, row % self._value_hashes.shape[1]])
            )
            if known_hash == value_hash:
                self.fates.repeated = self._all
                return Disposition.DUPLICATE
            self._wide_conflicts += 1
            self.parts += is_part(self.spec, reading, None if known is None else known.values)
            self.fates.conflicting = self._all
            return Disposition.ACCEPTED
        grid.rows[row] = OpenRow(
            reading.values, self._all, reading.offset, reading.offset, True, reading.condition, value_hash
        )
        return Disposition.ACCEPTED

    def _release_and_prune(self, grid: AssetGrid, closed: list[ReleasedRow]) -> None:
        """After a change: release the rows that are closed, and drop what the watermark has passed."""
        self._release(grid, closed)
        grid.prune(grid.watermark_ns // self.spec.period_ns)
        if self._whole and not grid.rows:
            self._set_idle(grid)

    def _release(self, grid: AssetGrid, closed: list[ReleasedRow]) -> None:
        """Append the rows of an asset that are closed now, in order."""
        period, watermark, rows = self.spec.period_ns, grid.watermark_ns, grid.rows
        while rows:
            head = grid.head
            row = rows.get(head)
            if row is not None:
                complete = row.complete or self._merging.is_complete(grid, row)
                if not complete and watermark < (head + 1) * period:
                    return
                closed.append(self._close(grid, head, row))
                continue
            nearest = min(rows)
            if grid.last_observed >= 0 and nearest - grid.last_observed <= self._max_gap_rows:
                if watermark < (head + 1) * period:
                    return
                grid.head = head + 1
                self._note_hash(grid.slot, head, 0)
                cause = rows[nearest].offset
                empty = [NAN] * len(self.spec.sensors)
                closed.append(ReleasedRow(grid.asset, head, empty, True, False, cause, cause, grid.condition))
                continue
            # Before the first row, or a gap beyond max_gap: skip to the nearest row once no
            # earlier one can come any more.
            if watermark < nearest * period:
                return
            grid.head = nearest

    def _close(self, grid: AssetGrid, index: int, row: OpenRow) -> ReleasedRow:
        """Release a row; the next one is awaited from now on."""
        fresh = grid.last_observed < 0 or index - grid.last_observed > self._max_gap_rows
        del grid.rows[index]
        grid.last_observed = index
        grid.head = index + 1
        if fresh:
            grid.began = index
        self._merging.close(row)
        self._note_hash(grid.slot, index, row.value_hash)
        if not self._whole:
            grid.recent[index] = row
            grid.update_silent(index, row.values, self._silent_rows)
        if row.condition:
            grid.condition = row.condition
        last = row.last_offset if row.last_offset >= 0 else row.offset
        return ReleasedRow(grid.asset, index, row.values, False, fresh, row.offset, last, grid.condition)

    def _note_hash(self, slot: int, row: int, value_hash: int) -> None:
        """Keep the hash of a released row; 0 for an empty one."""
        if self._whole:
            self._value_hashes[slot, row % self._value_hashes.shape[1]] = value_hash

    # -------------------------------------------------------------- the end of the log
    @property
    def waiting(self) -> list[str]:
        """The assets with rows that are not released."""
        return sorted([grid.asset for grid in self._waiting()] + self.gathering.waiting_names)

    def _waiting(self) -> list[AssetGrid]:
        """Active assets with rows, by name: a successor may have created them in another order."""
        return sorted((grid for grid in self._active.values() if grid.rows), key=lambda grid: grid.asset)

    def elapse(self, idle_ns: int, unproven: Mask | None = None) -> list[ReleasedRow]:
        """Close rows at the end of a log that has been idle for ``idle_ns`` of wall time.

        The watermark of each asset moves to its greatest event time minus the lateness plus the idle
        time, at most to the end of its last observed row. The rows of assets that are ``unproven`` (N,)
        keep waiting, because a release cannot be undone.
        """
        lateness = self.spec.allowed_lateness_ns
        closed: list[ReleasedRow] = []
        for slot in self.gathering.waiting:
            self._active[slot] = self.gathering.leave(slot)
        for grid in self._waiting():
            if unproven is not None and unproven[grid.slot]:
                continue
            end = (int(self.newest[grid.slot]) + 1) * self.spec.period_ns
            grid.watermark_ns = max(grid.watermark_ns, min(end, grid.max_time_ns - lateness + idle_ns))
            self._release_and_prune(grid, closed)
        return closed

    def finish(self) -> list[ReleasedRow]:
        """Close every row up to each asset's last observed one: the log has ended."""
        return self.elapse(1 << 62)

    # -------------------------------------------------------------- state of a successor
    def snapshot(self, slot: int, asset: str) -> GridState:
        """The part of an asset's record of state."""
        if self.gathering.idle[slot]:
            grid = self.gathering.as_object(slot)
        else:
            grid = self._active.get(slot) or self._idle_grid(slot, asset)
        hashes = self._value_hashes[slot, last_places(grid.head, self._value_hashes.shape[1])]
        return grid.snapshot(int(self.newest[slot]), hashes)

    def restore(self, slot: int, asset: str, state: GridState) -> None:
        """Continue with an asset as another process left it."""
        grid = AssetGrid.restored(asset, slot, state)
        self.newest[slot] = state.newest
        places = last_places(grid.head, self._value_hashes.shape[1])
        self._value_hashes[slot, places] = np.frombuffer(state.value_hashes, "<u8")
        self._active[slot] = grid
        if self._whole and not grid.rows:
            self._set_idle(grid)
        elif self.gathering.keep(grid):
            del self._active[slot]


def last_places(head: int, kept: int) -> Ints:
    """(``kept``,) where the hashes of so many rows before ``head`` are, oldest first."""
    return np.asarray((head - np.arange(kept, 0, -1)) % max(kept, 1))
