"""Rows of a table on the grid of each asset, all at once: the assembly layer of tables.

Used for training (``segments``) and for batch imputation (``place``, which also returns where each input row
went). The live stream assembles the same grid row by row in ``stream.grid``; both floor an event time to the
period, both make one value of several for a cell (the first, or as the sensor's ``reduce`` says), and both then
take the rows through ``stream.derivation`` and ``stream.holding``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.adapters.files.table import Table, check_sensors
from daemon.adapters.files.table_source import out_of_order
from daemon.assembly import as_received, hold_rows
from daemon.calendar import Calendar
from daemon.domain import Floats, Ints, Segment, StreamSpec
from daemon.errors import InputError
from daemon.stream.derivation import Derivation
from daemon.stream.holding import held_rows
from daemon.stream.reduction import reduced

MAX_GRID_CELLS: Final = 250_000_000
"""2 GB of grid: beyond it the period does not fit the file."""


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """The rows of a table on each asset's grid, and the place of each input row there."""

    segments: list[Segment]
    segment: Ints  # (N,) index into ``segments``, -1 for a row that cannot be used
    row: Ints  # (N,) row within that segment's values


def segments(table: Table, spec: StreamSpec) -> list[Segment]:
    """The table as history for training: the segments of ``place``."""
    return place(table, spec).segments


def place(table: Table, spec: StreamSpec, compress_gaps: bool = False) -> Placement:
    """Lay the rows of a table out on each asset's grid.

    An event time is floored to the period; of several values for a cell the first observed counts, in
    file order, or by event time where the asset's rows are in no order of time, as ``TableSource`` emits them. Grid rows without an input row are NaN within ``max_gap``; a longer gap
    ends a segment.

    Args:
        table: N rows, in any order.
        spec: the sensors (C; those the table lacks are NaN), period and ``max_gap``.
        compress_gaps: for batch work that reaches across every gap: one segment per asset,
            where a gap of more than two windows is cut to two windows. Rows after such a gap are
            then no longer ``first_row + index``: their ``numbers`` say where they are.

    Returns:
        Segments by asset in order of first appearance, then by time; and for every input row
        its place in them.

    Raises:
        InputError: the file has none of the stream's sensors, or the grid would not fit into memory, as the
            period does not fit the file.
    """
    received = as_received(spec)
    check_sensors(table, received)
    period = spec.period_ns
    count = len(table)
    segment_of, row_of = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    used = np.flatnonzero(table.usable)
    if not len(used):
        return Placement([], segment_of, row_of)
    asset, row = table.asset_codes[used], table.time_ns[used] // period
    arrival = np.zeros(count, np.int64)
    for rows in out_of_order(table, table.usable):
        arrival[rows] = table.time_ns[rows]
    order = np.lexsort((used, arrival[used], row, asset))  # within a grid row as the rows arrive
    used, asset, row = used[order], asset[order], row[order]

    # One entry per grid row that has input rows: ``cell`` is the entry that each input row belongs to.
    new_asset = np.concatenate([[True], asset[1:] != asset[:-1]])
    step = np.concatenate([[0], np.diff(row)])
    begins = new_asset | (step > 0)
    cell = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    new_asset, step, asset, row = new_asset[first], step[first], asset[first], row[first]
    step[new_asset] = 0

    max_step = spec.max_gap_ns // period
    if compress_gaps:
        starts = new_asset
        step = np.minimum(step, 2 * spec.window + 1)
    else:
        starts = new_asset | (step > max_step)
        step[starts] = 0
    # The rows of all segments one below the other: a segment begins where the one before ends.
    at = np.cumsum(np.where(starts, 1, step)) - 1
    if (int(at[-1]) + 1) * len(received.sensors) > MAX_GRID_CELLS:
        raise InputError(
            f"{table.path}: {count} rows would fill {int(at[-1]) + 1} grid rows at period {period / 1e9:g} s "
            f"and max_gap {spec.max_gap_ns / 1e9:g} s: the period is too short for this file"
        )
    grid = np.full((int(at[-1]) + 1, len(received.sensors)), np.nan)
    columns = {name: i for i, name in enumerate(table.sensors)}
    time_ns = table.time_ns[used]
    for c, (name, rule) in enumerate(zip(received.sensors, received.rules, strict=True)):
        if name not in columns:
            continue
        values = table.values[used, columns[name]]
        seen = np.flatnonzero(np.isfinite(values))
        of_cell = np.flatnonzero(np.diff(cell[seen], prepend=-1))
        grid[at[cell[seen[of_cell]]], c] = reduced(rule.reduce, values[seen], of_cell, time_ns[seen])

    begin = np.flatnonzero(starts)
    edges = [*at[begin].tolist(), len(grid)]
    laid = _GridRows(used[first], at, row, asset.astype(np.int64), len(grid))
    labels, values = _row_labels(table, spec, laid), _assembled(grid, spec, laid)
    came = None if values is grid else grid
    numbers = laid.numbers(laid.latest) if compress_gaps else None
    found = [
        Segment(
            table.asset_names[asset[b]],
            int(row[b]),
            values[lo:hi],
            labels[lo:hi],
            None if came is None else came[lo:hi],
            numbers=None if numbers is None else numbers[lo:hi],
        )
        for b, lo, hi in zip(begin.tolist(), edges[:-1], edges[1:], strict=True)
    ]
    number = np.cumsum(starts) - 1
    segment_of[used] = number[cell]
    row_of[used] = (at - np.array(edges[:-1])[number])[cell]
    return Placement(found, segment_of, row_of)


@dataclass(frozen=True, slots=True, eq=False)
class _GridRows:
    """The R grid rows that have input rows, among the ``count`` rows of all segments."""

    first_input: Ints  # (R,) the first input row of each
    at: Ints  # (R,) index among the rows of all segments
    row: Ints  # (R,) event time over period
    asset: Ints  # (R,)
    count: int

    @property
    def latest(self) -> Ints:
        """(count,) for each row of all segments, the last grid row with input up to it."""
        return np.searchsorted(self.at, np.arange(self.count), side="right") - 1

    def numbers(self, latest: Ints) -> Ints:
        """(count,) the number of each row of all segments on the grid."""
        return np.asarray(self.row[latest] + np.arange(self.count) - self.at[latest])


def _assembled(grid: Floats, spec: StreamSpec, rows: _GridRows) -> Floats:
    """The rows of all segments as the model is given them; the same array in a stream that changes none."""
    derivation = Derivation(spec)
    if not derivation.changes and not any(hold_rows(spec)):
        return grid
    latest = rows.latest
    slots, numbers = rows.asset[latest], rows.numbers(latest)
    derivation.grow(int(slots.max()) + 1)
    for slot in np.unique(slots).tolist():
        derivation.clear(slot)
    return held_rows(slots, numbers, derivation.derived(slots, numbers, grid), spec)


def _row_labels(table: Table, spec: StreamSpec, rows: _GridRows) -> tuple[str, ...]:
    """One condition label per grid row, of the grid row before where it has no input row; () without conditions."""
    if not spec.condition:
        return ()
    known = [table.label(i, spec) for i in rows.first_input.tolist()]
    latest = rows.latest
    return tuple(Calendar(spec).labels([known[i] for i in latest.tolist()], rows.numbers(latest)))
