"""Windows: the newest rows of every asset, and windows cut out of them.

Why: a window of L rows ends at nearly every new row. Rows are therefore stored once, scaled once (in the
units of the model that scores them, ``detector.Scaling``), and windows are slices of what is stored. NaN
stands where nothing was observed, never an imputed value; nothing is clipped, so that another model's units
can be computed from the stored ones.

**Units** have numbers, one more with each model. A new model does not convert the rows of all assets at
once, which takes seconds for a large fleet: an asset's rows stay in their units until its next row is
written, and ``convert_rows`` converts some of the others. Rows are converted through the units of every
model in between, so that the result is the same to the last bit, whenever it is done.

**Room.** Each asset has room for L rows and a number of spare ones: an eighth of L, or more if there are few
assets. Rows are written one after the other, so that the newest L are always one contiguous slice; when the
room is full, the newest L are moved to its front. A chunk of rows is written, and its windows are cut, in
*passes*: each takes every asset's rows as far as its room goes, and one pass nearly always suffices.

**Last seen.** Beside the windows is what each sensor reported last, however long ago, and since which row
its value has not changed.

Input: chunks of rows of many assets, each asset's in order. Output: windows (W, L, C), and ``LastSeen``. Shapes: N
slots, R rows of a chunk, L rows of a window, C sensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Scaling
from daemon.domain import Floats, Ints, Mask
from daemon.grouping import Groups, by_slot
from daemon.stream.snapshot import (
    WindowState,
    pack_floats,
    pack_ints,
    unpack_floats,
    unpack_ints,
    unpack_rows,
)

Rows = NDArray[Any]
"""Rows or windows in a model's units, in the number type that these are stored in."""
SLOTS_AT_ONCE = 4096
"""Slots whose rows are converted together: it takes several times the memory of the rows."""
SPARE_ROWS, MOST_SPARE = 16_384, 512
"""Spare rows that all assets have together, if they are few, and that one asset has, at most. As many as a chunk has
rows: a fleet that reports in turn takes one pass or two."""
NO_RECORD = np.iinfo(np.int64).max
"""The offset of a row without a record."""


@dataclass(frozen=True, slots=True, eq=False)
class LastSeen:
    """What each sensor reported last, as of each row of a chunk. All (R, C)."""

    value: Floats  # the last observed, NaN if never
    row: Ints  # its row; -1 if never
    still: Ints  # rows for which the value has not changed; 0 where not observed


class WindowBuffer:
    """The newest rows of all assets, by slot.

    Args:
        window: L.
        sensors: C.

    Public arrays: ``filled`` (N,) rows in each window, ``fresh_row`` (N,) first row since the windows
    started afresh, ``last_value`` and ``last_row`` (N, C) what each sensor reported last and when,
    ``still_since`` (N, C) the row since which its value has not changed, ``units`` (N,) the number of the
    units that the slot's rows are in. ``number`` is that of the units in force, ``scalings`` has all units
    that rows or records of state may be in.
    """

    def __init__(self, window: int, sensors: int) -> None:
        L, C = window, sensors
        self.window = L
        self.room = L + MOST_SPARE
        self.filled: Ints = np.empty(0, np.int64)  # (N,) rows in the window, <= L
        self.fresh_row: Ints = np.empty(0, np.int64)  # (N,) first row since the windows started afresh
        self.last_row: Ints = np.empty((0, C), np.int64)
        self.last_value: Floats = np.empty((0, C))
        self.still_since: Ints = np.empty((0, C), np.int64)
        self._next_index: Ints = np.empty(0, np.int64)  # (N,) where the next row goes; >= L
        self.units: Ints = np.empty(0, np.int64)  # (N,) the number of the units that the slot's rows are in
        self.number = 0  # of the units in force
        self.scalings: dict[int, Scaling] = {0: Scaling.raw_units(C)}  # all that rows or records may be in
        # By number type: the rows of one model may be stored in double and those of another in single precision.
        self._stored: dict[Any, Rows] = {np.float64: np.empty((0, self.room, C), np.float64)}
        self._offsets: Ints = np.empty((0, self.room), np.int64)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; existing assets keep theirs."""
        old = len(self.units)
        self.resize_room(self.window + max(self.window // 8, 1, min(SPARE_ROWS // capacity, MOST_SPARE)))
        for name in (
            "filled",
            "fresh_row",
            "last_row",
            "last_value",
            "still_since",
            "_next_index",
            "_offsets",
            "units",
        ):
            setattr(self, name, grown(getattr(self, name), capacity))
        self._stored = {kept: grown(rows, capacity) for kept, rows in self._stored.items()}
        self.units[old:] = self.number

    def resize_room(self, room: int) -> None:
        """Give each asset a room of ``room`` rows, which begins with its newest L."""
        if room == self.room:
            return
        L, some = self.window, np.arange(len(self._next_index))[:, None]
        newest = np.maximum(self._next_index[:, None], L) + np.arange(-L, 0)

        def moved(array: NDArray[Any]) -> NDArray[Any]:
            made = np.zeros((len(array), room, *array.shape[2:]), array.dtype)
            made[:, :L] = array[some, newest]
            return made

        self._stored = {kept: moved(rows) for kept, rows in self._stored.items()}
        self._offsets = moved(self._offsets)
        self._next_index[:] = L
        self.room = room

    def clear(self, slot: int) -> None:
        """Prepare a slot for a new asset."""
        self.restart(slot, 0)
        self.last_value[slot] = np.nan
        self.last_row[slot] = -1

    def restart(self, slot: int, row: int) -> None:
        """Windows start afresh at ``row``; what the sensors reported last is kept."""
        self.units[slot] = self.number
        self._rows[slot, : self.window] = np.nan
        self._offsets[slot, : self.window] = NO_RECORD
        self._next_index[slot] = self.window
        self.filled[slot] = 0
        self.fresh_row[slot] = row
        self.still_since[slot] = row

    @property
    def scaling(self) -> Scaling:
        """The units in force."""
        return self.scalings[self.number]

    @property
    def _rows(self) -> Rows:
        """(N, room, C) where rows in the units in force are stored."""
        return self._stored[self.scaling.kept]

    def restore_scalings(self, scalings: Mapping[int, Scaling], number: int) -> None:
        """Continue with the units of another process; before there is any asset."""
        self.scalings, self.number = dict(scalings), number
        self.units[:] = number
        self._stored = {scaling.kept: self._zeros(scaling.kept) for scaling in scalings.values()}

    def _zeros(self, kept: Any) -> Rows:
        """(N, room, C) zeros, which take no memory before they are written to."""
        return np.zeros((len(self.units), self.room, len(self.scaling.mean)), kept)

    def use_scaling(self, scaling: Scaling) -> None:
        """Store new rows in these units; an asset's stored rows are converted with its next row."""
        self.number += 1
        self.scalings[self.number] = scaling
        if scaling.kept not in self._stored:
            self._stored[scaling.kept] = self._zeros(scaling.kept)

    def convert_rows(self, slots: Ints) -> None:
        """Convert the rows of these slots, each named once, to the units in force."""
        L = self.window
        for begin in range(0, len(slots), SLOTS_AT_ONCE):
            some = slots[begin : begin + SLOTS_AT_ONCE]
            # An asset whose record is in later units has no row before the replay reaches these.
            assert (self.units[some] <= self.number).all()
            some = some[self.units[some] < self.number]
            for number in np.unique(self.units[some]).tolist():
                mine = some[self.units[some] == number]
                newest = np.maximum(self._next_index[mine][:, None], L) + np.arange(-L, 0)
                rows = self._stored[self.scalings[number].kept][mine[:, None], newest]
                for later in range(number + 1, self.number + 1):
                    rows = self.scalings[later].of(self.scalings[later - 1].raw(rows))
                self._rows[mine[:, None], newest] = rows
                self.units[mine] = self.number

    def drop_scalings(self, before: int) -> None:
        """Drop units below this number; no row may be in them."""
        for number in [n for n in self.scalings if n < before]:
            del self.scalings[number]
        used = {scaling.kept for scaling in self.scalings.values()}
        self._stored = {kept: rows for kept, rows in self._stored.items() if kept in used}

    def push(
        self, slots: Ints, occurrence: Ints, values: Floats, offsets: Ints, wanted: Mask
    ) -> tuple[Rows, Ints]:
        """Write a chunk's rows, each asset's in order, and cut the windows that end at some of them.

        Args:
            slots, occurrence: (R,) each row's asset, and how many rows of it come before in the chunk.
            values: (R, C) raw, NaN where missing.
            offsets: (R,) of each row's first record; ``NO_RECORD`` if it has none.
            wanted: (R,) the rows at which windows are to end.

        Returns:
            (W, L, C) these windows in the units in force, padded with NaN in front, and (W,) the
            smallest offset of each one's records.
        """
        L = self.window
        behind = self.units[slots] != self.number
        if behind.any():
            self.convert_rows(np.unique(slots[behind]))
        scaled, stored = self.scaling.of(values), self._rows
        windows = np.empty((int(wanted.sum()), L * values.shape[1]), stored.dtype)
        smallest = np.empty(len(windows), np.int64)
        into = np.cumsum(wanted) - 1
        place = self._next_index[slots] + occurrence
        passes = np.maximum(place - self.room, -1) // (self.room - L) + 1
        last = int(passes.max(initial=0))
        for turn in range(last + 1):
            these: Any = np.flatnonzero(passes == turn) if last else slice(None)
            mine = slots[these]
            if turn:  # the room of these assets is full
                full = np.unique(mine)
                stored[full, :L] = stored[full, -L:]
                self._offsets[full, :L] = self._offsets[full, -L:]
            at = place[these] - turn * (self.room - L)
            stored[mine, at] = scaled[these]
            self._offsets[mine, at] = offsets[these]
            self._next_index[mine] = at + 1  # of several rows of one asset the last one counts
            cut = wanted[these]
            which, begin = into[these][cut], mine[cut] * self.room + at[cut] - L + 1
            if len(which) == len(windows):  # the only pass: the windows are in order, and copied once
                windows, smallest = (
                    self._slices(stored)[begin],
                    self._slices(self._offsets)[begin].min(1),
                )
            else:
                windows[which] = self._slices(stored)[begin]
                smallest[which] = self._slices(self._offsets)[begin].min(1)
        self.filled[slots] = np.minimum(self.filled[slots] + occurrence + 1, L)
        return windows.reshape(-1, L, values.shape[1]), smallest

    def _slices(self, array: np.ndarray) -> np.ndarray:
        """(N, room, ...) as (N * room - L + 1, L * ...): every L consecutive rows as one row, without a copy.

        As one row of numbers, because numpy then copies a window at once and not row by row.
        """
        flat = array.reshape(len(array) * self.room, -1)
        row, number = flat.strides
        shape = (max(len(flat) - self.window + 1, 0), self.window * flat.shape[1])
        return np.lib.stride_tricks.as_strided(flat, shape, (row, number), writeable=False)

    def update_last_seen(
        self, groups: Groups, slots: Ints, rows: Ints, values: Floats, observed: Mask
    ) -> LastSeen:
        """Update what each sensor reported last, row by row of a chunk, each asset's rows in order.

        Where an asset misses no value, which is usual, no search for the last observed row of each cell is needed:
        its rows take a shorter way with the same result (the tests compare both with a list per asset).

        Args:
            groups: the rows by slot.
            slots, rows: (R,).
            values, observed: (R, C).

        Returns:
            What was known at each row, that row's own values included.
        """
        if observed.all():
            return self._update_whole(groups, slots, rows, values)
        missing = np.zeros(len(self.units), bool)  # assets that miss a value
        missing[slots[~observed.all(1)]] = True
        long_way = np.flatnonzero(missing[slots])
        if len(long_way) == len(slots):
            return self._update_missing(groups, slots, rows, values, observed)
        # All rows as if none missed a value; then again the few of which that is not true, from where they were.
        state, some = (self.last_value, self.last_row, self.still_since), np.flatnonzero(missing)
        before = [each[some] for each in state]
        whole = self._update_whole(groups, slots, rows, values)
        for each, old in zip(state, before, strict=True):
            each[some] = old
        mine = slots[long_way]
        part = self._update_missing(by_slot(mine), mine, rows[long_way], values[long_way], observed[long_way])
        seen = LastSeen(whole.value.copy(), whole.row.copy(), whole.still)
        seen.value[long_way], seen.row[long_way], seen.still[long_way] = part.value, part.row, part.still
        return seen

    def _update_whole(self, groups: Groups, slots: Ints, rows: Ints, values: Floats) -> LastSeen:
        """``update_last_seen`` of rows that miss no value."""
        order, begins = groups.order, groups.begins
        ends = np.append(begins[1:], True)
        of, sorted_values = slots[order], values[order]
        last, newest = of[ends], order[ends]
        before = np.empty_like(values)
        before[1:] = sorted_values[:-1]
        before[begins] = self.last_value[of[begins]]
        self.last_value[last] = values[newest]
        self.last_row[last] = rows[newest][:, None]
        still = self._still_rows(groups, of, rows, sorted_values != before, last, ends)
        return LastSeen(values, np.broadcast_to(rows[:, None], values.shape), still)

    def _update_missing(
        self, groups: Groups, slots: Ints, rows: Ints, values: Floats, observed: Mask
    ) -> LastSeen:
        """``update_last_seen`` of rows of which any may miss values."""
        order, begins, first = groups.order, groups.begins, groups.first[:, None]
        ends = np.append(begins[1:], True)
        slots, rows, values, observed = slots[order], rows[order], values[order], observed[order]
        last = slots[ends]
        every = np.arange(len(values))[:, None]
        channel = np.arange(values.shape[1])
        # The newest observed row at or before each row, among the chunk's own rows of the asset.
        at = np.maximum.accumulate(np.where(observed, every, -1), axis=0)
        own = at >= first
        value = np.where(own, values[at, channel], self.last_value[slots])
        row = np.where(own, rows[at], self.last_row[slots])
        before = np.empty_like(values)
        before[1:] = value[:-1]
        before[begins] = self.last_value[slots[begins]]
        moved = np.maximum.accumulate(np.where(observed & (values != before), every, -1), axis=0)
        since = np.where(moved >= first, rows[moved], self.still_since[slots])
        still = np.where(observed, rows[:, None] - since + 1, 0)
        self.last_value[last], self.last_row[last], self.still_since[last] = (
            value[ends],
            row[ends],
            since[ends],
        )
        seen = LastSeen(np.empty_like(value), np.empty_like(row), np.empty_like(still))
        seen.value[order], seen.row[order], seen.still[order] = value, row, still
        return seen

    def _still_rows(self, groups: Groups, of: Ints, rows: Ints, moved: Mask, last: Ints, ends: Mask) -> Ints:
        """(R, C) for how many rows each sensor's value has not changed, where none is missing.

        Args:
            groups, rows: as for ``update_last_seen``.
            of, moved: (R,) the slots and (R, C) which values differ from the row before, asset by asset.
            last, ends: the slots, each once, and (R,) where its rows end in that order.
        """
        sorted_rows, begins = rows[groups.order], groups.begins
        still = np.ones(moved.shape, np.int64)
        since_last = np.repeat(sorted_rows[ends][:, None], moved.shape[1], 1)
        # The cells that did not move, nearly always few, sensor by sensor: they form runs of rows of one asset.
        place, sensor = np.divmod(np.flatnonzero(~moved), moved.shape[1])
        by_sensor = np.argsort(sensor, kind="stable")
        place, sensor = place[by_sensor], sensor[by_sensor]
        if len(place):
            starts = begins[place]
            starts[0] = True
            starts[1:] |= (place[1:] != place[:-1] + 1) | (sensor[1:] != sensor[:-1])
            first, of_run = place[starts], np.cumsum(starts) - 1
            before = self.still_since[of[first], sensor[starts]]
            since = np.where(begins[first], before, sorted_rows[first - 1])[of_run]
            still[groups.order[place], sensor] = sorted_rows[place] - since + 1
            at_end = ends[place]
            since_last[(np.cumsum(ends) - 1)[place[at_end]], sensor[at_end]] = since[at_end]
        self.still_since[last] = since_last
        return still

    # -------------------------------------------------------------- state of a successor
    def rows_of(self, slot: int) -> tuple[Rows, Ints]:
        """The rows in an asset's window (T, C), T <= L, oldest first, in its ``units``, and their offsets (T,)."""
        newest = slice(self._next_index[slot] - self.filled[slot], self._next_index[slot])
        rows = self._stored[self.scalings[int(self.units[slot])].kept]
        return rows[slot, newest], self._offsets[slot, newest]

    def raw_rows(self, slot: int) -> Floats:
        """(T, C) a copy of the rows in an asset's window in the sensors' own units."""
        return self.scalings[int(self.units[slot])].raw(self.rows_of(slot)[0])

    def snapshot(self, slot: int) -> WindowState:
        """The part of an asset's record of state."""
        rows, offsets = self.rows_of(slot)
        return WindowState(
            int(self.units[slot]),
            rows.tobytes(),
            pack_ints(offsets),
            pack_floats(self.last_value[slot]),
            pack_ints(self.last_row[slot]),
            pack_ints(self.still_since[slot]),
            int(self.fresh_row[slot]),
        )

    def restore(self, slot: int, state: WindowState) -> None:
        """Continue with an asset as another process left it.

        Its rows may be in units that come into force later in the replay.
        """
        kept = self._stored[self.scalings[state.units].kept]
        rows = unpack_rows(state.window, self.scalings[state.units])
        self.restart(slot, state.fresh_row)
        begin = self.window - len(rows)
        self.units[slot] = state.units
        kept[slot, :begin] = np.nan
        kept[slot, begin : self.window] = rows
        self._offsets[slot, begin : self.window] = unpack_ints(state.window_offsets)
        self.filled[slot] = len(rows)
        self.last_value[slot] = unpack_floats(state.last_value)
        self.last_row[slot] = unpack_ints(state.last_row)
        self.still_since[slot] = unpack_ints(state.still_since)


def grown(array: NDArray[Any], capacity: int) -> NDArray[Any]:
    """A copy with zeros behind it, which take up no memory before they are written to."""
    result = np.zeros((capacity, *array.shape[1:]), array.dtype)
    result[: len(array)] = array
    return result
