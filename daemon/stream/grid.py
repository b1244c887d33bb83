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

**At rest.** Nearly every wide line is the next row of an asset that waits for nothing, and
closes at once. Of such an asset five numbers say everything; they stand in arrays, and
``is_next_row`` and ``append_next`` take whole batches of such lines. Any other line wakes its asset
(``AssetGrid``), which then goes by the rules one by one until nothing waits any more. What was
released above the watermark is known by a fingerprint of its values: a repetition is told from a
contradiction by it.

Nothing here knows Kafka, batches or the wall clock: the same lines in the same order give
the same rows, whatever the batches were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Disposition,
    Floats,
    Format,
    Ints,
    Mask,
    Reading,
    StreamSpec,
)
from daemon.stream.snapshot import (
    GridState,
    RowState,
    pack_bits,
    pack_floats,
    pack_ints,
    unpack_bits,
    unpack_floats,
    unpack_ints,
)
from daemon.stream.windowing import grown

ValueHashes = NDArray[np.uint64]
NAN = float("nan")
NEVER = -1


class OpenRow(msgspec.Struct, gc=False):
    """A grid row that readings have come for."""

    values: Sequence[float]  # (C,), NaN where missing
    reported: int = 0  # bit c: sensor c has reported, be it a value or a corrupt cell
    offset: int = -1  # of the first record for this row
    last_offset: int = -1
    complete: bool = False
    condition: str = ""
    value_hash: int = 0  # of a wide line's values

    def snapshot(self, row: int) -> RowState:
        """The row of this number as part of a record of state."""
        return RowState(
            row,
            pack_floats(self.values),
            pack_bits(self.reported),
            self.offset,
            self.last_offset,
            self.complete,
            self.condition,
            self.value_hash,
        )

    @staticmethod
    def restored(state: RowState) -> OpenRow:
        """The row of a record of state."""
        return OpenRow(
            unpack_floats(state.values).tolist(),
            unpack_bits(state.reported),
            state.offset,
            state.last_offset,
            state.complete,
            state.condition,
            state.fingerprint,
        )


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
    slot: int
    max_time_ns: int
    watermark_ns: int
    head: int  # the next row to release
    last_observed: int = NEVER  # greatest released row that was spoken of
    rows: dict[int, OpenRow] = field(default_factory=dict)  # not released
    recent: dict[int, OpenRow] = field(default_factory=dict)  # long: released, above the watermark
    silent: int = 0  # bit c: sensor c is declared silent; rows do not wait for it
    began: int = -1  # the row at which the windows last started afresh
    last_valued: list[int] = field(default_factory=list)  # per sensor, newest released row with a value
    condition: str = ""


class Grid:
    """The grids of all assets of one input partition, in ``capacity`` slots.

    Args:
        spec: the stream.

    ``conflicts`` counts readings that contradicted a cell that had its value already: they
    are accepted, and the first value stands. ``newest`` (N,) is each asset's greatest row that
    was spoken of, released or not.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.conflicts = 0
        self.newest: Ints = np.empty(0, np.int64)
        self._active: dict[int, AssetGrid] = {}  # by slot; of a long stream all
        self._all = (1 << len(spec.sensors)) - 1
        self._wide = spec.format is Format.JSON_WIDE
        self._max_gap_rows = spec.max_gap_ns // spec.period_ns
        self._silent_rows = max(spec.silent_after_ns // spec.period_ns, 1)
        # An asset at rest: its last row, which is its newest, and all else that there is to know.
        self._idle: Mask = np.empty(0, bool)
        self._max_time: Ints = np.empty(0, np.int64)
        self._watermark: Ints = np.empty(0, np.int64)
        self._began: Ints = np.empty(0, np.int64)
        self._conditions: list[str] = []
        self._message_conditions = bool(spec.message_condition)
        # Fingerprint of row r at r modulo the rows above any watermark; 0: nobody spoke of it.
        kept = spec.allowed_lateness_ns // spec.period_ns + 3 if self._wide else 0
        self._value_hashes: ValueHashes = np.empty((0, kept), np.uint64)

    def grow(self, capacity: int) -> None:
        """Make room for more assets; those that are there keep their slots."""
        more = capacity - len(self.newest)
        for name in ("newest", "_idle", "_max_time", "_watermark", "_began", "_value_hashes"):
            setattr(self, name, grown(getattr(self, name), capacity))
        self.newest[capacity - more :] = NEVER
        self._conditions += [""] * more

    def clear(self, slot: int) -> None:
        """A slot for an asset that was never seen."""
        self._active.pop(slot, None)
        self._idle[slot] = False
        self._value_hashes[slot] = 0
        self.newest[slot] = NEVER

    def released(self, slot: int) -> bool:
        """Whether a row of this asset was released, so that what came before it cannot be undone."""
        grid = self._active.get(slot)
        return bool(self._idle[slot]) if grid is None else grid.last_observed >= 0

    # -------------------------------------------------------------- many lines at once
    def is_next_row(
        self, slots: Ints, occurrence: Ints, rows: Ints, times_ns: Ints, conditions: Sequence[str]
    ) -> Mask:
        """(B,) which lines are their asset's next row, of an asset that rests, one after the other.

        Args:
            slots, turns: each line's asset, and how many lines of it come before.
            rows, times_ns, conditions: of each line.

        An asset of which one line is not has none: the lines of an asset stay in order.
        """
        plain = self._idle[slots] & (rows == self.newest[slots] + 1 + occurrence)
        plain &= times_ns >= self._watermark[slots]
        if self._max_gap_rows < 1:
            plain[:] = False  # every row starts windows afresh
        if self._message_conditions:
            plain &= [bool(condition) for condition in conditions]  # who says none has the one before
        if not plain.all():
            others = np.zeros(len(self.newest), bool)
            others[slots[~plain]] = True
            plain = ~others[slots]
        return np.asarray(plain)

    def append_next(
        self, slots: Ints, rows: Ints, times_ns: Ints, value_hashes: ValueHashes, conditions: Sequence[str]
    ) -> None:
        """Close the rows of lines that ``is_next_row``, in their order."""
        if not len(slots):
            return
        self._value_hashes[slots, rows % self._value_hashes.shape[1]] = value_hashes
        self.newest[slots] = rows  # of several lines of an asset the last one counts
        self._max_time[slots] = times_ns  # they ascend, as the rows do
        self._watermark[slots] = np.maximum(self._watermark[slots], times_ns - self.spec.allowed_lateness_ns)
        if self._message_conditions:
            for slot, condition in zip(slots.tolist(), conditions, strict=True):
                self._conditions[slot] = condition

    # -------------------------------------------------------------- one by one
    def insert(
        self, slot: int, reading: Reading, closed: list[ReleasedRow], value_hash: int | None = None
    ) -> Disposition:
        """Take one reading; rows of its asset that it closed are appended to ``closed``, in order.

        ``value_hash`` is that of a wide line's values, where it is known already.
        """
        time_ns = reading.time_ns
        spec = self.spec
        row = time_ns // spec.period_ns
        grid = self._active.get(slot)
        if grid is None:
            grid = self._activate(slot, reading)
        if time_ns < grid.watermark_ns:
            disposition = Disposition.LATE
        elif reading.values is None:
            disposition = self._long_cell(grid, row, reading)
        else:
            if value_hash is None:
                value_hash = int(value_hashes(np.array([reading.values], np.float64))[0])
            disposition = self._wide_line(grid, row, reading, value_hash)
        if disposition is Disposition.ACCEPTED:
            if row > self.newest[slot]:
                self.newest[slot] = row
            if time_ns > grid.max_time_ns:
                grid.max_time_ns = time_ns
                grid.watermark_ns = max(grid.watermark_ns, time_ns - spec.allowed_lateness_ns)
        self._release_and_prune(grid, closed)
        return disposition

    def _activate(self, slot: int, reading: Reading) -> AssetGrid:
        """The asset as an object: as it rested, or new with this reading."""
        if self._idle[slot]:
            grid = self._idle_grid(slot, reading.asset)
            self._idle[slot] = False
        else:
            watermark = reading.time_ns - self.spec.allowed_lateness_ns
            head = watermark // self.spec.period_ns
            grid = AssetGrid(reading.asset, slot, reading.time_ns, watermark, head)
        self._active[slot] = grid
        return grid

    def _idle_grid(self, slot: int, asset: str) -> AssetGrid:
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
        slot = grid.slot
        del self._active[slot]
        self._idle[slot] = True
        self._max_time[slot] = grid.max_time_ns
        self._watermark[slot] = grid.watermark_ns
        self._began[slot] = grid.began
        self._conditions[slot] = grid.condition

    def _wide_line(self, grid: AssetGrid, row: int, reading: Reading, value_hash: int) -> Disposition:
        assert reading.values is not None
        known = grid.rows.get(row)
        if known is not None or row < grid.head:
            known_hash = (
                known.value_hash
                if known is not None
                else int(self._value_hashes[grid.slot, self._place(row)])
            )
            if known_hash == value_hash:
                return Disposition.DUPLICATE
            self.conflicts += 1
            return Disposition.ACCEPTED
        grid.rows[row] = OpenRow(
            reading.values, self._all, reading.offset, reading.offset, True, reading.condition, value_hash
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

    def _release_and_prune(self, grid: AssetGrid, closed: list[ReleasedRow]) -> None:
        """After something has moved: close what can be closed, and let go of what has passed."""
        self._release(grid, closed)
        self._prune(grid)
        if self._wide and not grid.rows:
            self._set_idle(grid)

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
                closed.append(self._close(grid, head, row))
                continue
            nearest = min(rows)
            if grid.last_observed >= 0 and nearest - grid.last_observed <= self._max_gap_rows:
                if watermark < (head + 1) * period:
                    return
                grid.head = head + 1
                self._note_hash(grid.slot, head, 0)
                proof = rows[nearest].offset
                empty = [NAN] * len(spec.sensors)
                closed.append(ReleasedRow(grid.asset, head, empty, True, False, proof, proof, grid.condition))
                continue
            # Before the first row, or a gap beyond max_gap: skip to the nearest row once no
            # earlier one can come any more.
            if watermark < nearest * period:
                return
            grid.head = nearest

    def _close(self, grid: AssetGrid, index: int, row: OpenRow) -> ReleasedRow:
        """A row that nothing will change any more; the next one is awaited from now on."""
        fresh = grid.last_observed < 0 or index - grid.last_observed > self._max_gap_rows
        del grid.rows[index]
        grid.last_observed = index
        grid.head = index + 1
        if fresh:
            grid.began = index
        if self._wide:
            self._note_hash(grid.slot, index, row.value_hash)
        else:
            grid.recent[index] = row
            self._update_silent(grid, index, row.values)
        if row.condition:
            grid.condition = row.condition
        last = row.last_offset if row.last_offset >= 0 else row.offset
        return ReleasedRow(grid.asset, index, row.values, False, fresh, row.offset, last, grid.condition)

    def _place(self, row: int) -> int:
        return int(row % self._value_hashes.shape[1])

    def _note_hash(self, slot: int, row: int, value_hash: int) -> None:
        if self._wide:
            self._value_hashes[slot, self._place(row)] = value_hash

    def _prune(self, grid: AssetGrid) -> None:
        """Let go of released rows that the watermark has passed: what repeats them is late."""
        recent = grid.recent
        closed = grid.watermark_ns // self.spec.period_ns
        while recent and (first := next(iter(recent))) < closed:  # they were released in ascending order
            del recent[first]

    def _update_silent(self, grid: AssetGrid, index: int, values: Sequence[float]) -> None:
        """Declare sensors silent that had no value for ``silent_after`` while their asset has rows.

        It is done here, at a row's release, so that what later rows wait for depends on the
        order of the lines alone.
        """
        grid.last_valued = grid.last_valued or [-1] * len(values)
        for c, value in enumerate(values):
            if value == value:
                grid.last_valued[c] = index
                grid.silent &= ~(1 << c)
            elif index - max(grid.last_valued[c], grid.began) >= self._silent_rows:
                grid.silent |= 1 << c

    # -------------------------------------------------------------- the end of the log
    @property
    def waiting(self) -> list[str]:
        """The assets with rows that wait."""
        return [grid.asset for grid in self._waiting()]

    def _waiting(self) -> list[AssetGrid]:
        """Those with rows; by name: a successor may have met them in another order."""
        return sorted((grid for grid in self._active.values() if grid.rows), key=lambda grid: grid.asset)

    def elapse(self, idle_ns: int, unproven: Mask | None = None) -> list[ReleasedRow]:
        """Close rows at the end of a log that has been idle for ``idle_ns`` of wall time.

        The rows of assets that are ``unproven`` (N,) go on to wait: what is released cannot be undone.

        The watermark of each asset moves to its greatest event time minus the lateness plus
        the idle time, at most to the end of its last observed row.
        """
        lateness = self.spec.allowed_lateness_ns
        closed: list[ReleasedRow] = []
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
        grid = self._active.get(slot) or self._idle_grid(slot, asset)
        return GridState(
            grid.max_time_ns,
            grid.watermark_ns,
            grid.head,
            grid.last_observed,
            int(self.newest[slot]),
            grid.began,
            pack_bits(grid.silent),
            pack_ints(grid.last_valued),
            grid.condition,
            [row.snapshot(index) for index, row in grid.rows.items()],
            [row.snapshot(index) for index, row in grid.recent.items()],
            self._value_hashes[slot, self._last_places(grid.head)].astype("<u8").tobytes(),
        )

    def restore(self, slot: int, asset: str, state: GridState) -> None:
        """Continue with an asset as another process left it."""
        grid = AssetGrid(
            asset,
            slot,
            state.max_time_ns,
            state.watermark_ns,
            state.head,
            state.last_observed,
            {row.row: OpenRow.restored(row) for row in state.rows},
            {row.row: OpenRow.restored(row) for row in state.recent},
            unpack_bits(state.silent),
            state.began,
            unpack_ints(state.heard).tolist(),
            state.condition,
        )
        self.newest[slot] = state.newest
        self._value_hashes[slot, self._last_places(grid.head)] = np.frombuffer(state.value_hashes, "<u8")
        self._active[slot] = grid
        if self._wide and not grid.rows:
            self._set_idle(grid)

    def _last_places(self, head: int) -> Ints:
        """(K,) where the hashes of the K rows before ``head`` are, oldest first."""
        kept = self._value_hashes.shape[1]
        return np.asarray((head - np.arange(kept, 0, -1)) % max(kept, 1))


def value_hashes(values: Floats) -> ValueHashes:
    """(B,) what tells rows of values (B, C) apart, never 0: equal for equal rows, missing equal to missing."""
    bits = np.ascontiguousarray(values + 0.0).view(np.uint64)  # -0.0 is 0.0
    bits = np.where(np.isnan(values), np.uint64(0x9E3779B97F4A7C15), bits)
    bits = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(32)
    weights = (2 * np.arange(1, values.shape[1] + 1, dtype=np.uint64) + np.uint64(1)) * np.uint64(
        0x94D049BB133111EB
    )
    return np.asarray((bits * weights).sum(1, dtype=np.uint64) | np.uint64(1))
