"""Released rows wait here, between the grid and the model, until they are judged as one chunk.

A model call costs nearly the same for one window as for hundreds, so rows are judged in chunks: as soon
as a chunk is full, and at the latest at the end of each poll (``Pipeline`` also empties the queue before a
commit, a model change, an eviction and an alert that time causes). Where a chunk ends never shows in the
results: rows keep their order, and a window's evidence depends on its own values alone. Two things cut a
chunk short: the *training cut*, a count of observed rows at which the first training begins, so that its
model comes into force right after the last row that it was trained on; and a gap in one asset's rows,
because its baseline starts afresh between two chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import StreamSpec
from daemon.grouping import by_slot
from daemon.stream.assets import AssetTable
from daemon.stream.batches import RowBatch, RowQueue
from daemon.stream.grid import ReleasedRow

CHUNK_CELLS = 2_097_152
"""Cells of the windows that are judged at once, about: enough to make a call's own cost small."""
FEWEST_ROWS, MOST_ROWS = 256, 16_384
"""Rows that are taken through their windows at once. Half as many cost a tenth more per row: some hundred calls of
numpy are made per chunk."""
MOST_WINDOWS = 8_192
"""Windows that are judged at once, if all are full: some 50 ms at most between two yields."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Rows that are judged together."""

    rows: RowBatch
    boundaries: list[tuple[int, int]]  # (place, horizon in ns), see ``DriftMonitor.add``


class Chunker:
    """The rows that wait.

    Args:
        spec: the stream.
        assets: those of the partition.

    Attributes:
        training_cut: a chunk ends after this many observed rows, for the first model; None: nowhere.
        rows: rows that left here, in all.
        observed_rows: those among them that a record was received for.
    """

    def __init__(self, spec: StreamSpec, assets: AssetTable) -> None:
        self.training_cut: int | None = None
        self.rows = self.observed_rows = 0
        self._assets = assets
        self._waiting = RowQueue(len(spec.sensors))
        self._boundaries: deque[tuple[int, int]] = deque()
        cells = spec.window * len(spec.sensors)
        self._most = min(
            max(CHUNK_CELLS * spec.hop // cells, FEWEST_ROWS), MOST_WINDOWS * spec.hop, MOST_ROWS
        )

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether a chunk can be judged now."""
        return len(self._waiting) >= self._most or self._cut_waits

    @property
    def _cut_waits(self) -> bool:
        """Whether the row at which a chunk must end is among those that wait."""
        cut = self.training_cut
        return cut is not None and 0 < cut - self.observed_rows <= self._waiting.observed

    def add(self, released: Sequence[ReleasedRow]) -> None:
        """Append rows that were released one by one."""
        if released:
            self._waiting.add(released)

    def append(self, rows: RowBatch) -> None:
        """Append rows that were released as a batch."""
        self._waiting.append(rows, self._assets.slots)

    def set_boundary(self, horizon_ns: int) -> None:
        """Drift intervals up to this time end after the rows that wait now."""
        self._boundaries.append((self._waiting.end, horizon_ns))

    def next(self) -> Chunk:
        """Take the oldest rows, as many as may be judged together."""
        waiting = self._waiting
        waiting.gather(self._assets.slots)
        rows = waiting.first(self._most)
        size = self._size(rows)
        begin = waiting.begin
        rows = waiting.take(rows[:size] if size < len(rows) else rows)
        boundaries = []
        while self._boundaries and self._boundaries[0][0] <= waiting.begin:
            place, horizon_ns = self._boundaries.popleft()
            boundaries.append((place - begin, horizon_ns))
        self.rows += len(rows)
        self.observed_rows += len(rows) - int(rows.empty.sum())
        return Chunk(rows, boundaries)

    def _size(self, rows: RowBatch) -> int:
        """How many of the oldest rows may be judged together."""
        size = len(rows)
        if self.training_cut is not None and self._cut_waits:
            left = self.training_cut - self.observed_rows
            upto = np.flatnonzero(~rows.empty)[:left]
            if len(upto) == left:
                size = int(upto[-1]) + 1
        if rows.fresh.any():
            again = np.flatnonzero(rows.fresh & (by_slot(rows.slots).occurrence > 0))
            if len(again):
                size = min(size, int(again[0]))
        return size
