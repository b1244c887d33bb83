"""A chunk of released rows with the windows that end at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.detector import Windows
from daemon.domain import Ints, Mask
from daemon.grouping import Groups, by_slot
from daemon.stream.batches import RowBatch
from daemon.stream.holding import Holding
from daemon.stream.windowing import NO_RECORD, LastSeen, WindowBuffer


@dataclass(frozen=True, slots=True, eq=False)
class WindowedRows:
    """R rows of a chunk, and the W windows that the model is asked about."""

    rows: RowBatch
    groups: Groups  # the rows by slot
    seen: LastSeen  # what was known of each sensor at each row
    observed: Mask  # (R, C) a held cell is not
    held: Mask | None  # (R, C) cells of ``rows`` that have the last value; None in a stream that holds none
    held_in_window: Ints | None  # (R,) such cells of the window that ends at each row
    complete: Mask  # (R,) every sensor was observed
    first_row: Ints  # (R,) the row at which the asset's windows started afresh
    restarted: list[int]  # slots whose windows started afresh within this chunk
    due: Mask  # (R,) a score is due: a full window, every hop
    wanted: Mask  # (R,) the windows are asked for: to be scored, or to fill a missing cell
    windows: Windows  # of the W wanted rows
    first_offsets: Ints  # (W,) smallest record offset in each window
    sentinels: int = 0  # cells that had a number which stands for no value

    @property
    def assets(self) -> set[str]:
        """The assets that have rows in the chunk."""
        return {self.rows.assets[i] for i in self.groups.order[self.groups.begins_at].tolist()}


def cut_windows(
    rows: RowBatch, buffer: WindowBuffer, holding: Holding, hop: int, *, judging: bool
) -> WindowedRows:
    """Push rows into their assets' windows, and cut out the windows that are wanted.

    Args:
        rows: a chunk.
        buffer: the newest rows of every asset.
        holding: which missing cells the sensor's last value stands in for.
        hop: rows between two scores of an asset.
        judging: whether there is a model to ask.
    """
    slots, index = rows.slots, rows.rows
    values, sentinels = buffer.scaling.readings(rows.values), 0
    if values is not rows.values:
        sentinels = int((np.isfinite(rows.values) & ~np.isfinite(values)).sum())
        rows = rows.with_values(values)
    observed = np.isfinite(values)
    complete: Mask = np.asarray(observed.all(1))
    groups = by_slot(slots)
    occurrence = groups.occurrence
    restarted = []
    for i in np.flatnonzero(rows.fresh | ((occurrence == 0) & (buffer.filled[slots] == 0))).tolist():
        buffer.restart(int(slots[i]), int(index[i]))
        restarted.append(int(slots[i]))
    seen = buffer.update_last_seen(groups, slots, index, values, observed)
    held: Mask | None = None
    held_in_window: Ints | None = None
    known = complete
    if holding.any:
        held = holding.held(index, observed, seen.row)
        held_in_window = holding.count(slots, occurrence, index, held)
        values = np.where(held, seen.value, values)
        rows, known = rows.with_values(values), np.asarray((observed | held).all(1))
    full = buffer.filled[slots] + occurrence + 1 >= buffer.window
    due = full & (index % hop == 0) & judging
    wanted = due | (~known & judging)
    cut, first_offsets = buffer.push(
        slots, occurrence, values, np.where(rows.empty, NO_RECORD, rows.offsets), wanted
    )
    needed = np.flatnonzero(wanted)
    windows = Windows(
        values[needed][:, None],
        full[needed],
        tuple(rows.conditions)
        if len(needed) == len(rows)
        else tuple([rows.conditions[i] for i in needed.tolist()]),
        seen.value[needed],
        (index[needed, None] - seen.row[needed]).astype(np.float64),
        cut,
        tuple(rows.assets) if len(needed) == len(rows) else tuple([rows.assets[i] for i in needed.tolist()]),
    )
    return WindowedRows(
        rows,
        groups,
        seen,
        observed,
        held,
        held_in_window,
        complete,
        buffer.fresh_row[slots],
        restarted,
        due,
        wanted,
        windows,
        first_offsets,
        sentinels,
    )
