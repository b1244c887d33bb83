"""The messages of filled cells: what the model imputed, and where a last value was held."""

from __future__ import annotations

import numpy as np

from daemon.detector import Evidence
from daemon.domain import FilledCell, FilledRow, Ints, Mask, StreamSpec
from daemon.stream.batches import RowBatch
from daemon.stream.chunk_windows import WindowedRows
from daemon.stream.holding import METHOD


def imputed_rows(
    spec: StreamSpec, chunk: WindowedRows, which: Ints, evidence: Evidence, author: tuple[str, str]
) -> list[FilledRow]:
    """The incomplete rows among some of a chunk, filled by the model.

    Args:
        spec: the stream.
        chunk: its rows.
        which: (N,) the rows that the model has looked at.
        evidence: of these.
        author: the method and the version of the model.
    """
    missing = ~chunk.observed
    if chunk.held is not None:
        missing &= ~chunk.held
    found = []
    for j in np.flatnonzero(missing[which].any(1)).tolist():
        i = int(which[j])
        filled, low, high = evidence.filled[j], evidence.low[j], evidence.high[j]
        cells = {
            spec.sensors[c]: FilledCell(float(filled[c]), float(low[c]), float(high[c]))
            for c in np.flatnonzero(missing[i]).tolist()
        }
        row_ns = int(chunk.rows.rows[i]) * spec.period_ns
        found.append(FilledRow(spec.name, chunk.rows.assets[i], row_ns, cells, *author))
    return found


def held_rows(spec: StreamSpec, rows: RowBatch, held: Mask, version: str) -> list[FilledRow]:
    """The rows of which cells ``held`` (R, C) repeat the last value of their sensor."""
    found = []
    for i in np.flatnonzero(held.any(1)).tolist():
        values = {c: float(rows.values[i, c]) for c in np.flatnonzero(held[i]).tolist()}
        cells = {spec.sensors[c]: FilledCell(value, value, value) for c, value in values.items()}
        found.append(
            FilledRow(spec.name, rows.assets[i], int(rows.rows[i]) * spec.period_ns, cells, METHOD, version)
        )
    return found
