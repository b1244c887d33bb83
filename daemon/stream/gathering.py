"""Rows that are gathered from several readings, for many assets at once: the idle assets of such a stream as arrays.

An asset is *idle* here while at most one row of it waits: the one at ``head``, with the cells that were reported so
far. Nearly every reading of such an asset is *plain*: it reports cells of that row that had not been reported, or,
as soon as the row is complete, of the next one. So the readings of a batch are grouped into *runs*, one per asset
and row, and a run completes its row or leaves it open.

A reading is not plain if it repeats a cell, leaves a gap or comes out of order, is late, is of a sensor that is
silent, or might make a sensor silent. From there on the asset's readings of the batch go one by one, and ``Grid``
makes the asset active (an ``AssetGrid``) until its readings are steady again. Released rows above the watermark are
kept, in a ring per asset, for the comparison with repetitions.

Invariant: ``as_object`` gives the ``AssetGrid`` that the same readings, taken one by one, would have left.

Shapes: N slots, C sensors, K rows of a ring, B readings, M cells, R runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from daemon.assembly import reduces, silent_rows
from daemon.domain import Floats, Ints, Mask, StreamSpec
from daemon.grouping import by_slot
from daemon.stream.asset_grid import AssetGrid, OpenRow
from daemon.stream.windowing import grown

MOST_KEPT: Final = 4096
"""Cells of the rows of an asset that may be kept as arrays; with more, assets are never idle."""
STEADY: Final = 8
"""Readings that an asset must have in order before it is idle again: what changes to and fro costs most."""
_NAN: Final = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class PartBatch:
    """Readings of some sensors each, as columns."""

    slots: Ints  # (B,)
    rows: Ints
    times: Ints
    offsets: Ints
    places: Ints  # (M,) the reading of each cell, ascending
    sensors: Ints  # (M,)
    values: Floats  # (M,)
    width: int = 0  # cells of each reading, of all sensors in their order; 0: they differ

    def take(self, which: Ints) -> PartBatch:
        """The readings at these places, in this order (B',)."""
        if self.width:
            places = np.repeat(np.arange(len(which)), self.width)
            cells = (which[:, None] * self.width + np.arange(self.width)).reshape(-1)
        elif len(which) == len(self.slots) and len(self.places) == len(self.slots):  # one cell each
            cells, places = which, np.arange(len(which))
        else:
            begins = np.searchsorted(self.places, which)
            counts = np.searchsorted(self.places, which, side="right") - begins
            places = np.repeat(np.arange(len(which)), counts)
            cells = np.arange(len(places)) + np.repeat(begins - np.cumsum(counts) + counts, counts)
        return PartBatch(
            self.slots[which],
            self.rows[which],
            self.times[which],
            self.offsets[which],
            places,
            self.sensors[cells],
            self.values[cells],
            self.width,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """PartBatch in the order of their assets, and which of them are of one row."""

    parts: PartBatch  # sorted
    order: Ints  # (B,) their places in the batch
    begins: Mask  # (B,) where an asset begins
    first: Ints  # (R,) the first part of each run
    last: Ints  # (R,) the last one
    of: Ints  # (B,) the run of each part
    opens: Mask  # (R,) the first run of its asset
    keys: Ints  # (M,) run * C + sensor
    latest: Ints  # (B,) the greatest time of the asset's parts so far, without those of before the batch


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """What became of plain readings."""

    begun: Ints  # the readings that are their rows' first, by their places in the batch
    ascending: Ints  # those with no later time of their asset before them, in the order of assets
    causes: Ints  # (R,) of each released row the reading that completed it, ascending
    slots: Ints
    rows: Ints
    offsets: Ints
    last_offsets: Ints
    values: Floats  # (R, C)


class Gathering:
    """The idle assets of a stream whose rows are gathered.

    Args:
        spec: the stream.

    Attributes:
        possible: whether assets may be idle in this stream at all.
        idle: (N,) which assets are.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._sensors = sensors = len(spec.sensors)
        kept = spec.allowed_lateness_ns // spec.period_ns + 3
        self.possible = (
            spec.gathers
            and not spec.message_condition
            and spec.max_gap_ns >= spec.period_ns  # else every row begins windows afresh
            and kept * sensors <= MOST_KEPT
            and not reduces(spec)
        )
        self._kept = kept = kept if self.possible else 0
        self._runs_of: tuple[PartBatch, Runs] | None = None  # the last ones that were looked at
        sensors = sensors if self.possible else 0
        self._lateness_ns, self._period_ns = spec.allowed_lateness_ns, spec.period_ns
        self._silent_rows = silent_rows(spec)  # per sensor
        self.idle: Mask = np.empty(0, bool)
        self._names: list[str] = []
        self._head: Ints = np.empty(0, np.int64)
        self._max_time: Ints = np.empty(0, np.int64)
        self._watermark: Ints = np.empty(0, np.int64)
        self._began: Ints = np.empty(0, np.int64)
        self._silent: Mask = np.empty((0, sensors), bool)
        self._last_valued: Ints = np.empty((0, sensors), np.int64)
        # The row at head; without a reading its offset is -1.
        self._open_values: Floats = np.empty((0, sensors))
        self._open_reported: Mask = np.empty((0, sensors), bool)
        self._open_offset: Ints = np.empty(0, np.int64)
        self._open_last: Ints = np.empty(0, np.int64)
        # Released row r is at r modulo K.
        self._rows: Ints = np.empty((0, kept), np.int64)
        self._values: Floats = np.empty((0, kept, sensors))
        self._reported: Mask = np.empty((0, kept, sensors), bool)
        self._offsets: Ints = np.empty((0, kept), np.int64)
        self._last_offsets: Ints = np.empty((0, kept), np.int64)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; existing assets keep theirs."""
        self._names += [""] * (capacity - len(self.idle))
        for name, column in vars(self).items():
            if isinstance(column, np.ndarray):
                setattr(self, name, grown(column, capacity))

    def clear(self, slot: int) -> None:
        """The asset of this slot is not idle any more, or another one has it."""
        self.idle[slot] = False

    @property
    def waiting(self) -> list[int]:
        """The slots of idle assets with a row that is not released."""
        return np.flatnonzero(self.idle & (self._open_offset >= 0)).tolist() if self.possible else []

    @property
    def waiting_names(self) -> list[str]:
        """The assets of these slots."""
        return [self._names[slot] for slot in self.waiting]

    # -------------------------------------------------------------- one asset
    def may_keep(self, grid: AssetGrid) -> bool:
        """``keep``, if the asset's readings have been in order for long enough."""
        return grid.steady >= STEADY and self.keep(grid)

    def leave(self, slot: int) -> AssetGrid:
        """An idle asset becomes active."""
        grid = self.as_object(slot)
        self.clear(slot)
        return grid

    def keep(self, grid: AssetGrid) -> bool:
        """Make an active asset idle, if it can be."""
        open_row = grid.rows.get(grid.head)
        shown = [*grid.rows.values(), *grid.recent.values()]
        if (
            not self.possible
            or grid.last_observed < 0
            or grid.head != grid.last_observed + 1
            or len(grid.rows) != (open_row is not None)
            or (open_row is not None and self._may_change_silent(grid, open_row))
            or len(grid.last_valued) != self._silent.shape[1]
            or any(row <= grid.head - 1 - self._kept for row in grid.recent)
            or grid.condition
            or any(row.complete or row.condition or row.value_hash for row in shown)
        ):
            return False
        slot, sensors = grid.slot, range(self._silent.shape[1])
        self.idle[slot], self._names[slot] = True, grid.asset
        self._head[slot], self._began[slot] = grid.head, grid.began
        self._max_time[slot], self._watermark[slot] = grid.max_time_ns, grid.watermark_ns
        self._silent[slot] = [grid.silent >> c & 1 for c in sensors]
        self._last_valued[slot] = grid.last_valued
        self._clear_open(slot)
        if open_row is not None:
            self._open_values[slot] = open_row.values
            self._open_reported[slot] = [open_row.reported >> c & 1 for c in sensors]
            self._open_offset[slot], self._open_last[slot] = open_row.offset, open_row.last_offset
        self._rows[slot] = -1
        for index, row in grid.recent.items():
            at = index % self._kept
            self._rows[slot, at], self._values[slot, at] = index, row.values
            self._reported[slot, at] = [row.reported >> c & 1 for c in sensors]
            self._offsets[slot, at], self._last_offsets[slot, at] = row.offset, row.last_offset
        return True

    def _may_change_silent(self, grid: AssetGrid, row: OpenRow) -> bool:
        """Whether the release of the row at head makes a sensor silent, or one that is silent not so."""
        return any(
            row.reported >> c & 1
            and (
                grid.silent >> c & 1
                if value == value
                else grid.head - max(grid.last_valued[c], grid.began) >= self._silent_rows[c]
            )
            for c, value in enumerate(row.values)
        )

    def as_object(self, slot: int) -> AssetGrid:
        """An idle asset as an object; it stays idle until ``clear``."""
        head, watermark = int(self._head[slot]), int(self._watermark[slot])
        recent = {}
        for index in range(max(head - self._kept, watermark // self._period_ns), head):
            at = index % self._kept
            if self._rows[slot, at] == index:
                recent[index] = OpenRow(
                    self._values[slot, at].tolist(),
                    _bits(self._reported[slot, at]),
                    int(self._offsets[slot, at]),
                    int(self._last_offsets[slot, at]),
                )
        rows = {}
        if self._open_offset[slot] >= 0:
            rows[head] = OpenRow(
                self._open_values[slot].tolist(),
                _bits(self._open_reported[slot]),
                int(self._open_offset[slot]),
                int(self._open_last[slot]),
            )
        return AssetGrid(
            self._names[slot],
            slot,
            int(self._max_time[slot]),
            watermark,
            head,
            head - 1,
            rows,
            recent,
            _bits(self._silent[slot]),
            int(self._began[slot]),
            self._last_valued[slot].tolist(),
        )

    def _clear_open(self, slots: int | Ints) -> None:
        self._open_values[slots] = _NAN
        self._open_reported[slots] = False
        self._open_offset[slots] = self._open_last[slots] = -1

    # -------------------------------------------------------------- many readings at once
    def plain(self, parts: PartBatch, doubtful: Mask) -> Mask:
        """(B,) which readings are plain; of each asset the first ones, up to one that is not.

        Args:
            parts: the readings.
            doubtful: (N,) assets whose event time is in doubt: none of their readings is plain.
        """
        if not self.idle[parts.slots].any():
            return np.zeros(len(parts.slots), bool)
        runs = self._runs(parts)
        self._runs_of = parts, runs
        odd = self._odd(runs, doubtful)
        before: Ints = np.cumsum(odd) - odd
        plain = np.empty(len(odd), bool)
        begin = np.maximum.accumulate(np.where(runs.begins, np.arange(len(odd)), 0))
        plain[runs.order] = ~odd & (before == before[begin])
        return plain

    def _runs(self, parts: PartBatch) -> Runs:
        """The readings by asset and row."""
        groups = by_slot(parts.slots)
        ordered, begins = parts.take(groups.order), groups.begins
        new = begins.copy()
        new[1:] |= ordered.rows[1:] != ordered.rows[:-1]
        first, of = np.flatnonzero(new), np.cumsum(new) - 1
        return Runs(
            ordered,
            groups.order,
            begins,
            first,
            np.append(first[1:], len(new)) - 1,
            of,
            begins[first],
            of[ordered.places] * self._silent.shape[1] + ordered.sensors,
            _latest(ordered.times, begins),
        )

    def _odd(self, runs: Runs, doubtful: Mask) -> Mask:
        """(B,) which of the sorted readings are not plain, provided that those before them are."""
        parts, slots, rows = runs.parts, runs.parts.slots, runs.parts.rows
        odd = ~self.idle[slots] | doubtful[slots]
        # In order, from the head on, without a gap.
        expected = np.where(runs.opens, self._head[slots[runs.first]], rows[runs.first - 1] + 1)
        odd[runs.first] |= rows[runs.first] != expected
        before = np.where(runs.begins, -1, np.roll(runs.latest, 1))
        watermark = np.maximum(before, self._max_time[slots]) - self._lateness_ns
        odd |= parts.times < np.maximum(watermark, self._watermark[slots])
        # Cells that are new, of sensors that are not silent, nor may become so.
        of, sensors = slots[parts.places], parts.sensors
        number = np.arange(len(runs.keys))
        seen = np.full(len(runs.first) * self._silent.shape[1], -1)
        seen[runs.keys[::-1]] = number[::-1]
        faults = (seen[runs.keys] != number) | self._silent[of, sensors]
        faults |= runs.opens[runs.of[parts.places]] & self._open_reported[of, sensors]
        missing = np.isnan(parts.values)
        if missing.any():
            heard = np.maximum(self._last_valued[of, sensors], self._began[of])
            faults |= missing & (rows[parts.places] - heard >= np.array(self._silent_rows)[sensors])
        odd[parts.places[faults]] = True
        odd |= np.bincount(parts.places, minlength=len(odd)) == 0
        # The row before the next one must be complete.
        complete = self._complete(runs, seen >= 0)
        odd[runs.first[1:]] |= ~complete[:-1] & ~runs.opens[1:]
        return np.asarray(odd)

    def _complete(self, runs: Runs, reported: Mask) -> Mask:
        """(R,) whether every sensor that is not silent has reported; ``reported`` (R * C,) in these runs."""
        slots = runs.parts.slots[runs.first]
        got = reported.reshape(len(slots), -1) | self._silent[slots]
        got[runs.opens] |= self._open_reported[slots[runs.opens]]
        return np.asarray(got.all(1))

    def append(self, parts: PartBatch, newest: Ints) -> Gathered:
        """Take readings that are all plain; ``newest`` (N,) is kept up to date."""
        if not len(parts.slots):
            none = np.empty(0, np.int64)
            return Gathered(none, none, none, none, none, none, none, np.empty((0, self._sensors)))
        looked_at = self._runs_of
        runs = looked_at[1] if looked_at is not None and looked_at[0] is parts else self._runs(parts)
        parts, slots = runs.parts, runs.parts.slots[runs.first]
        rows, sensors = parts.rows[runs.first], self._silent.shape[1]
        begun = runs.order[runs.first[rows > newest[slots]]]
        values, reported = np.full((len(slots), sensors), _NAN), np.zeros((len(slots), sensors), bool)
        values.reshape(-1)[runs.keys], reported.reshape(-1)[runs.keys] = parts.values, True
        opens = runs.opens
        known = self._open_reported[slots[opens]]
        values[opens] = np.where(known, self._open_values[slots[opens]], values[opens])
        reported[opens] |= known
        offsets, last_offsets = parts.offsets[runs.first], parts.offsets[runs.last]
        offsets[opens] = np.where(
            self._open_offset[slots[opens]] >= 0, self._open_offset[slots[opens]], offsets[opens]
        )
        complete = np.asarray((reported | self._silent[slots]).all(1))
        # Of several runs of an asset the last one counts.
        ends = np.append(opens[1:], True)
        mine, after = slots[ends], runs.latest[runs.last[ends]]
        newest[mine] = rows[ends]
        self._head[mine] = rows[ends] + complete[ends]
        self._max_time[mine] = np.maximum(self._max_time[mine], after)
        self._watermark[mine] = np.maximum(self._watermark[mine], self._max_time[mine] - self._lateness_ns)
        self._clear_open(mine)
        rest = ends & ~complete
        self._open_values[slots[rest]], self._open_reported[slots[rest]] = values[rest], reported[rest]
        self._open_offset[slots[rest]], self._open_last[slots[rest]] = offsets[rest], last_offsets[rest]
        self._release(slots[complete], rows[complete], values[complete], reported[complete])
        at = rows[complete] % self._kept
        self._offsets[slots[complete], at] = offsets[complete]
        self._last_offsets[slots[complete], at] = last_offsets[complete]
        causes = runs.order[runs.last[complete]]
        order = np.argsort(causes)
        which = np.flatnonzero(complete)[order]
        before = np.where(runs.begins, -1, np.roll(runs.latest, 1))
        return Gathered(
            begun,
            runs.order[parts.times >= before],
            causes[order],
            slots[which],
            rows[which],
            offsets[which],
            last_offsets[which],
            values[which],
        )

    def _release(self, slots: Ints, rows: Ints, values: Floats, reported: Mask) -> None:
        """Note the rows that are complete, in the order of each asset's rows."""
        at = rows % self._kept
        self._rows[slots, at] = rows
        self._values[slots, at], self._reported[slots, at] = values, reported
        run, sensor = np.nonzero(~np.isnan(values))
        self._last_valued[slots[run], sensor] = rows[run]


def _latest(times: Ints, begins: Mask) -> Ints:
    """(B,) the greatest time so far within each group; groups begin at ``begins``."""
    if bool((begins[1:] | (times[1:] >= times[:-1])).all()):
        return times
    least = int(times.min())
    span, groups = int(times.max()) - least + 1, int(begins.sum())
    if span < (1 << 62) // groups:  # lift every group above the one before
        lift = (np.cumsum(begins) - 1) * span - least
        return np.asarray(np.maximum.accumulate(times + lift) - lift)
    bounds = [*np.flatnonzero(begins).tolist(), len(times)]
    return np.concatenate([np.maximum.accumulate(times[begin:end]) for begin, end in pairwise(bounds)])


def _bits(mask: Mask) -> int:
    """A mask as a set of bits."""
    return int.from_bytes(np.packbits(mask, bitorder="little").tobytes(), "little")
