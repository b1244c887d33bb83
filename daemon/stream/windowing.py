"""The newest rows of every asset, and windows of them without copying what is old.

Rows are kept once, in the units of whoever judges them (``domain.Scaling``), so that a row is
scaled once and not with every window that it is in. NaN stands where nothing was observed, never an
imputed value, and nothing is cut off: another model's units can be had from these, and what was
imputed can never count as observed.

Units have numbers, which grow by one with each model. A new model does not convert the rows of every
asset at once, which takes seconds for a large fleet: an asset's rows stay in their units until its
next row is written, and ``convert_rows`` sees to a few of those that wait. They go through the units of every
model between, so that the result does not depend on when it is done, to the last bit.

The rows of an asset have room for L and some more: an eighth, or a lot where the assets are
few. They are written one behind the other, so that the newest L are always one contiguous slice;
where the room ends, they move to its front. So whole chunks are written and cut out at once,
whoever's rows they are: a *lap* takes each asset as far as its room goes, and there is rarely more
than one.

Beside them is what each sensor said last, be it older than the window, and since when it has not
moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Scaling
from daemon.domain import Floats, Ints, Mask
from daemon.grouping import Groups
from daemon.stream.snapshot import (
    WindowState,
    pack_floats,
    pack_ints,
    unpack_floats,
    unpack_ints,
    unpack_rows,
)

Rows = NDArray[Any]
"""Rows or windows in standard units, of their type."""
SLOTS_AT_ONCE = 4096
SPARE_ROWS, MOST_SPARE = 8192, 512
"""Rows beyond their windows that all assets have together, if they have few; and one, at most."""
NO_RECORD = np.iinfo(np.int64).max
"""Offset of a row that no record spoke of."""


@dataclass(frozen=True, slots=True, eq=False)
class LastSeen:
    """What was known of each sensor at each row of a chunk. All (R, C)."""

    value: Floats  # the last observed, NaN if never
    row: Ints  # its row; -1 if never
    still: Ints  # rows for which the sensor has stood still; 0 where not observed


class WindowBuffer:
    """The rows of the assets in ``capacity`` slots.

    Args:
        window: L.
        sensors: C.
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
        self._place: Ints = np.empty(0, np.int64)  # (N,) where the next row goes; >= L
        self.units: Ints = np.empty(0, np.int64)  # (N,) the number of the units that the slot's rows are in
        self.number = 0  # of the units in force
        self.scalings: dict[int, Scaling] = {0: Scaling.raw_units(C)}  # all that rows or records may be in
        # By type of number: of two models' units one may be kept whole and the other in single precision.
        self._kept: dict[Any, Rows] = {np.float64: np.empty((0, self.room, C), np.float64)}
        self._offsets: Ints = np.empty((0, self.room), np.int64)

    def grow(self, capacity: int) -> None:
        """Make room for more assets; those that are there keep their slots."""
        old = len(self.units)
        self.resize_room(self.window + max(self.window // 8, 1, min(SPARE_ROWS // capacity, MOST_SPARE)))
        for name in (
            "filled",
            "fresh_row",
            "last_row",
            "last_value",
            "still_since",
            "_place",
            "_offsets",
            "units",
        ):
            setattr(self, name, grown(getattr(self, name), capacity))
        self._kept = {kept: grown(rows, capacity) for kept, rows in self._kept.items()}
        self.units[old:] = self.number

    def resize_room(self, room: int) -> None:
        """Give each asset a room of ``room`` rows, which begins with its newest L."""
        if room == self.room:
            return
        L, some = self.window, np.arange(len(self._place))[:, None]
        newest = np.maximum(self._place[:, None], L) + np.arange(-L, 0)

        def moved(array: NDArray[Any]) -> NDArray[Any]:
            made = np.zeros((len(array), room, *array.shape[2:]), array.dtype)
            made[:, :L] = array[some, newest]
            return made

        self._kept = {kept: moved(rows) for kept, rows in self._kept.items()}
        self._offsets = moved(self._offsets)
        self._place[:] = L
        self.room = room

    def clear(self, slot: int) -> None:
        """A slot for an asset that was never heard of."""
        self.restart(slot, 0)
        self.last_value[slot] = np.nan
        self.last_row[slot] = -1

    def restart(self, slot: int, row: int) -> None:
        """Windows start afresh at ``row``; what the sensors said last stays known."""
        self.units[slot] = self.number
        self._rows[slot, : self.window] = np.nan
        self._offsets[slot, : self.window] = NO_RECORD
        self._place[slot] = self.window
        self.filled[slot] = 0
        self.fresh_row[slot] = row
        self.still_since[slot] = row

    @property
    def scaling(self) -> Scaling:
        """The units in force."""
        return self.scalings[self.number]

    @property
    def _rows(self) -> Rows:
        """(N, room, C) where rows in the units in force are."""
        return self._kept[self.scaling.kept]

    def restore_scalings(self, scalings: Mapping[int, Scaling], number: int) -> None:
        """Go on where another process stood; before there is any asset."""
        self.scalings, self.number = dict(scalings), number
        self.units[:] = number
        self._kept = {scaling.kept: self._made(scaling.kept) for scaling in scalings.values()}

    def _made(self, kept: Any) -> Rows:
        """Zeros, which take up no memory before they are written to."""
        return np.zeros((len(self.units), self.room, len(self.scaling.mean)), kept)

    def use_scaling(self, scaling: Scaling) -> None:
        """Keep new rows in these units from now on, and those that are there from their next row on."""
        self.number += 1
        self.scalings[self.number] = scaling
        if scaling.kept not in self._kept:
            self._kept[scaling.kept] = self._made(scaling.kept)

    def convert_rows(self, slots: Ints) -> None:
        """Convert the rows of these slots, each named once, to the units in force."""
        L = self.window
        for begin in range(0, len(slots), SLOTS_AT_ONCE):  # it takes several times their memory
            some = slots[begin : begin + SLOTS_AT_ONCE]
            assert (self.units[some] <= self.number).all()  # no row comes before its asset's record
            some = some[self.units[some] < self.number]
            for number in np.unique(self.units[some]).tolist():
                mine = some[self.units[some] == number]
                newest = np.maximum(self._place[mine][:, None], L) + np.arange(-L, 0)
                rows = self._kept[self.scalings[number].kept][mine[:, None], newest]
                for later in range(number + 1, self.number + 1):
                    rows = self.scalings[later].of(self.scalings[later - 1].raw(rows))
                self._rows[mine[:, None], newest] = rows
                self.units[mine] = self.number

    def drop_scalings(self, before: int) -> None:
        """Let go of units below this number; no row may be in them."""
        for number in [n for n in self.scalings if n < before]:
            del self.scalings[number]
        used = {scaling.kept for scaling in self.scalings.values()}
        self._kept = {kept: rows for kept, rows in self._kept.items() if kept in used}

    def push(
        self, slots: Ints, occurrence: Ints, values: Floats, offsets: Ints, wanted: Mask
    ) -> tuple[Rows, Ints]:
        """Write a chunk's rows, each asset's in order.

        Args:
            slots, turns: (R,).
            values: (R, C) raw, NaN where missing.
            offsets: (R,) of each row's first record; ``NO_RECORD`` if it has none.
            wanted: (R,) the rows whose windows are asked for.

        Returns:
            (W, L, C) the windows that end at the wanted rows, in standard units, padded with NaN in
            front, and (W,) the smallest offset of each one's records.
        """
        L = self.window
        behind = self.units[slots] != self.number
        if behind.any():
            self.convert_rows(np.unique(slots[behind]))
        scaling, held = self.scaling.of(values), self._rows
        windows = np.empty((int(wanted.sum()), L * values.shape[1]), held.dtype)
        smallest = np.empty(len(windows), np.int64)
        into = np.cumsum(wanted) - 1
        place = self._place[slots] + occurrence
        passes = np.maximum(place - self.room, -1) // (self.room - L) + 1
        for lap in range(int(passes.max(initial=0)) + 1):
            these = np.flatnonzero(passes == lap)
            mine = slots[these]
            if lap:
                full = np.unique(mine)
                held[full, :L] = held[full, -L:]
                self._offsets[full, :L] = self._offsets[full, -L:]
            at = place[these] - lap * (self.room - L)
            held[mine, at] = scaling[these]
            self._offsets[mine, at] = offsets[these]
            self._place[mine] = at + 1  # of several rows of one asset the last one counts
            cut = wanted[these]
            which, begin = into[these[cut]], mine[cut] * self.room + at[cut] - L + 1
            if len(which) == len(windows):  # the only lap, nearly always: in order, and copied once
                windows, smallest = (
                    self._slices(held)[begin],
                    self._slices(self._offsets)[begin].min(1),
                )
            else:
                windows[which] = self._slices(held)[begin]
                smallest[which] = self._slices(self._offsets)[begin].min(1)
        self.filled[slots] = np.minimum(self.filled[slots] + occurrence + 1, L)
        return windows.reshape(-1, L, values.shape[1]), smallest

    def _slices(self, array: np.ndarray) -> np.ndarray:
        """(N, room, ...) as (N * room - L + 1, L * ...): every L rows that follow each other, nothing copied.

        Whole rows of numbers, rather than L times a row, are copied as one.
        """
        flat = array.reshape(len(array) * self.room, -1)
        row, number = flat.strides
        shape = (max(len(flat) - self.window + 1, 0), self.window * flat.shape[1])
        return np.lib.stride_tricks.as_strided(flat, shape, (row, number), writeable=False)

    def update_last_seen(
        self, groups: Groups, slots: Ints, rows: Ints, values: Floats, observed: Mask
    ) -> LastSeen:
        """Take note of what the sensors say, row by row of a chunk.

        Args:
            groups: the rows by slot.
            slots, rows: (R,).
            values, observed: (R, C).
        """
        order, begins = groups.order, groups.begins
        count, columns = values.shape
        ends = np.append(begins[1:], True)
        of, sorted_values = slots[order], values[order]
        last = of[ends]
        before = np.empty_like(values)
        before[1:] = sorted_values[:-1]
        before[begins] = self.last_value[of[begins]]
        if observed.all():
            newest = order[ends]
            self.last_value[last] = values[newest]
            self.last_row[last] = rows[newest][:, None]
            still = self._still_rows(groups, of, rows, sorted_values != before, last, ends)
            return LastSeen(values, np.broadcast_to(rows[:, None], values.shape), still)
        slots, rows, values, observed = of, rows[order], sorted_values, observed[order]
        every = np.arange(count)[:, None]
        channel = np.arange(columns)
        first = groups.first[:, None]
        # The newest observed row at or before each row, among the chunk's own rows of the asset.
        at = np.maximum.accumulate(np.where(observed, every, -1), axis=0)
        own = at >= first
        value = np.where(own, values[at, channel], self.last_value[slots])
        row = np.where(own, rows[at], self.last_row[slots])
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
        """(R, C) for how many rows each sensor has stood still, where none is missing.

        Args:
            groups, rows: as for ``update_last_seen``.
            of, moved: the slots, and what differs from the row before, asset by asset.
            last, ends: the slots, each once, and where its rows end in that order.
        """
        order = groups.order
        still = np.broadcast_to(np.ones((1, 1), np.int64), moved.shape)
        some = np.flatnonzero(~moved.all(0))  # sensors; nearly all of them move all the time
        since_last = np.broadcast_to(rows[order[ends]][:, None], (len(last), moved.shape[1]))
        if len(some):
            every, sorted_rows = np.arange(len(rows))[:, None], rows[order]
            since_then = np.maximum.accumulate(np.where(moved[:, some], every, -1), axis=0)
            before = self.still_since[of[:, None], some]
            since = np.where(since_then >= groups.first[:, None], sorted_rows[since_then], before)
            since_last, still = since_last.copy(), still.copy()
            since_last[:, some] = since[ends]
            still[order[:, None], some] = sorted_rows[:, None] - since + 1
        self.still_since[last] = since_last
        return still

    # -------------------------------------------------------------- state of a successor
    def rows_of(self, slot: int) -> tuple[Rows, Ints]:
        """The rows in an asset's window (T, C), T <= L, oldest first, in its ``units``, and their offsets (T,)."""
        newest = slice(self._place[slot] - self.filled[slot], self._place[slot])
        rows = self._kept[self.scalings[int(self.units[slot])].kept]
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
        kept = self._kept[self.scalings[state.units].kept]
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
