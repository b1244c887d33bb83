"""A chunk of released rows with the windows that end at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.detector import Windows
from daemon.domain import Ints, Mask
from daemon.grouping import by_slot
from daemon.stream.batches import RowBatch
from daemon.stream.windowing import NO_RECORD, LastSeen, WindowBuffer


@dataclass(frozen=True, slots=True, eq=False)
class WindowedRows:
    """R rows of a chunk, and the W windows that the model is asked about."""

    rows: RowBatch
    seen: LastSeen  # what was known of each sensor at each row
    observed: Mask  # (R, C)
    complete: Mask  # (R,) every sensor was observed
    first_row: Ints  # (R,) the row at which the asset's windows started afresh
    restarted: list[int]  # slots whose windows started afresh within this chunk
    due: Mask  # (R,) a score is due: a full window, every hop
    wanted: Mask  # (R,) the windows are asked for: to be scored, or to fill a missing cell
    windows: Windows  # of the W wanted rows
    first_offsets: Ints  # (W,) smallest record offset in each window


def cut_windows(rows: RowBatch, buffer: WindowBuffer, hop: int, *, judging: bool) -> WindowedRows:
    """Push rows into their assets' windows, and cut out the windows that are wanted.

    Args:
        rows: a chunk.
        buffer: the newest rows of every asset.
        hop: rows between two scores of an asset.
        judging: whether there is a model to ask.
    """
    slots, index, values = rows.slots, rows.rows, rows.values
    observed = np.isfinite(values)
    complete: Mask = np.asarray(observed.all(1))
    groups = by_slot(slots)
    occurrence = groups.occurrence
    restarted = []
    for i in np.flatnonzero(rows.fresh | ((occurrence == 0) & (buffer.filled[slots] == 0))).tolist():
        buffer.restart(int(slots[i]), int(index[i]))
        restarted.append(int(slots[i]))
    seen = buffer.update_last_seen(groups, slots, index, values, observed)
    full = buffer.filled[slots] + occurrence + 1 >= buffer.window
    due = full & (index % hop == 0) & judging
    wanted = due | (~complete & judging)
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
        (index[:, None] - seen.row)[needed].astype(np.float64),
        cut,
    )
    return WindowedRows(
        rows,
        seen,
        observed,
        complete,
        buffer.fresh_row[slots],
        restarted,
        due,
        wanted,
        windows,
        first_offsets,
    )
