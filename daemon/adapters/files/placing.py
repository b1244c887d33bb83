"""Rows of a table on the grid of each asset, all at once: the assembly layer of tables.

Used for training (``segments``) and for batch imputation (``place``, which also returns where each input row
went). The live stream assembles the same grid row by row in ``stream.grid``; both floor an event time to the
period, and both keep the first observed value of a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.adapters.files.table import Table, check_sensors
from daemon.calendar import Calendar
from daemon.domain import Ints, Segment, StreamSpec
from daemon.errors import InputError

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

    An event time is floored to the period; of several values for a cell the first observed in
    file order counts. Grid rows without an input row are NaN within ``max_gap``; a longer gap
    ends a segment.

    Args:
        table: N rows, in any order.
        spec: the sensors (C; those the table lacks are NaN), period and ``max_gap``.
        compress_gaps: for batch work that reaches across every gap: one segment per asset,
            where a gap of more than two windows is cut to two windows. Rows after such a gap are
            then no longer ``first_row + index``.

    Returns:
        Segments by asset in order of first appearance, then by time; and for every input row
        its place in them.

    Raises:
        InputError: the file has none of the stream's sensors, or the grid would not fit into memory, as the
            period does not fit the file.
    """
    check_sensors(table, spec)
    period = spec.period_ns
    count = len(table)
    segment_of, row_of = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    used = np.flatnonzero(table.usable)
    if not len(used):
        return Placement([], segment_of, row_of)
    asset, row = table.asset_codes[used], table.time_ns[used] // period
    order = np.lexsort((used, row, asset))  # the file's order within a grid row
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
    if (int(at[-1]) + 1) * len(spec.sensors) > MAX_GRID_CELLS:
        raise InputError(
            f"{table.path}: {count} rows would fill {int(at[-1]) + 1} grid rows at period {period / 1e9:g} s "
            f"and max_gap {spec.max_gap_ns / 1e9:g} s: the period is too short for this file"
        )
    grid = np.full((int(at[-1]) + 1, len(spec.sensors)), np.nan)
    columns = {name: i for i, name in enumerate(table.sensors)}
    for c, name in enumerate(spec.sensors):
        if name not in columns:
            continue
        values = table.values[used, columns[name]]
        seen = np.flatnonzero(np.isfinite(values))
        earliest = seen[np.concatenate([[True], cell[seen[1:]] != cell[seen[:-1]]])] if len(seen) else seen
        grid[at[cell[earliest]], c] = values[earliest]

    begin = np.flatnonzero(starts)
    edges = [*at[begin].tolist(), len(grid)]
    labels = _row_labels(table, spec, _GridRows(used[first], at, row, len(grid)))
    found = [
        Segment(table.asset_names[asset[b]], int(row[b]), grid[lo:hi], labels[lo:hi])
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
    count: int


def _row_labels(table: Table, spec: StreamSpec, rows: _GridRows) -> tuple[str, ...]:
    """One condition label per grid row, of the grid row before where it has no input row; () without conditions."""
    if not spec.condition:
        return ()
    known = [table.label(i, spec) for i in rows.first_input.tolist()]
    every = np.arange(rows.count)
    latest = np.searchsorted(rows.at, every, side="right") - 1  # the last grid row with input up to each
    grid_rows = rows.row[latest] + every - rows.at[latest]
    return tuple(Calendar(spec).labels([known[i] for i in latest.tolist()], grid_rows))
