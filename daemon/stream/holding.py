"""A sensor's last value stands in for a missing one, for as long as the sensor's ``hold`` says.

Why: a sensor that reports on change, or every minute on a grid of seconds, says nothing in most rows, and its value
is known all the same. To the model a held value is a value. To everything that asks whether a sensor reports it
is none: silent and stuck sensors, the audit, the share of an alert's window that was not observed; and it is
published as imputed, with the method ``hold``.

The last value is the last *good* one, scaled, and a rate where the sensor is a counter: a reading of bad quality
is missing, and the value before it is held for as long as it is young enough. Its age is event time on the grid. A
held value never becomes the last value, so that a hold ends.

Rows are held when they go into their windows (``chunk_windows``), by what ``WindowBuffer`` knows of each sensor's
last value; those of a table all at once (``held_rows``). What has state here is only how many cells of each row
in a window are held.

Shapes: N slots, R rows, C sensors, L rows of a window.
"""

from __future__ import annotations

import numpy as np

from daemon.assembly import hold_rows
from daemon.domain import Floats, Ints, Mask, StreamSpec
from daemon.stream.windowing import grown

METHOD = "hold"
"""How a held cell was filled, in ``FilledRow`` and imputed.parquet."""


class Holding:
    """The held cells of one input partition.

    Args:
        spec: the stream.

    Attributes:
        any: whether any sensor's value is held.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._limit: Ints = np.array(hold_rows(spec), np.int64)  # (C,) rows
        self.any = bool(self._limit.any())
        # (N, L) held cells of the row with number r at r modulo L.
        self._counts: Ints = np.empty((0, spec.window if self.any else 0), np.int64)

    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        self._counts = grown(self._counts, capacity)

    def clear(self, slot: int) -> None:
        """See ``PerAsset``: a score, which they are read for, comes after a whole window of rows."""

    def snapshot(self, slot: int) -> bytes:
        """The part of an asset's record of state: four bytes for each row of a window."""
        return bytes(self._counts[slot].astype("<u4").data)

    def restore(self, slot: int, state: bytes) -> None:
        """Continue with an asset as another process left it."""
        self._counts[slot] = np.frombuffer(state, "<u4")

    def held(self, rows: Ints, observed: Mask, last_row: Ints) -> Mask:
        """(R, C) which cells have the last value instead of none.

        Args:
            rows: (R,) their numbers on the grid.
            observed: (R, C).
            last_row: (R, C) the row of each sensor's last value, -1 if there was none.
        """
        return np.asarray(~observed & (last_row >= 0) & (rows[:, None] - last_row <= self._limit))

    def count(self, slots: Ints, occurrence: Ints, rows: Ints, held: Mask) -> Ints:
        """(R,) the held cells of the window that ends at each row.

        Args:
            slots, occurrence: (R,) each row's asset, and how many rows of it come before.
            rows: (R,) their numbers on the grid.
            held: (R, C).
        """
        window = self._counts.shape[1]
        counts, place = held.sum(1), rows % window
        found = np.empty(len(rows), np.int64)
        for turn in range(int(occurrence.max(initial=-1)) + 1):
            these = np.flatnonzero(occurrence == turn)
            self._counts[slots[these], place[these]] = counts[these]
            found[these] = self._counts[slots[these]].sum(1)
        return found


def held_rows(slots: Ints, rows: Ints, values: Floats, spec: StreamSpec) -> Floats:
    """(R, C) rows of a table with held values in them.

    Args:
        slots, rows: (R,) each row's asset, and its number on the grid; asset after asset, each one's in order.
        values: (R, C) NaN where missing.
        spec: the stream.
    """
    holding = Holding(spec)
    if not holding.any or not len(values):
        return values
    every, observed = np.arange(len(rows))[:, None], np.isfinite(values)
    begins = np.append(True, slots[1:] != slots[:-1])
    first = np.maximum.accumulate(np.where(begins, every[:, 0], 0))[:, None]
    at = np.maximum.accumulate(np.where(observed, every, -1), axis=0)
    last_row = np.where(at >= first, rows[at], -1)
    return np.where(holding.held(rows, observed, last_row), values[at, np.arange(values.shape[1])], values)
