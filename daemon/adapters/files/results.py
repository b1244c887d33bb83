"""The Parquet results of a run: scores per row, imputed cells, and draws of imputed cells.

Each file has one fixed schema, declared here; column names and types are a published interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daemon.adapters.files.row_keys import NO_TIME
from daemon.adapters.files.writing import GrowingFile, replacing, unwritable
from daemon.domain import FilledRow, Floats, Ints, Mask

UTC_NS: Final = pa.timestamp("ns", "UTC")
_SCORES: Final = pa.schema(
    [
        ("asset", pa.string()),
        ("timestamp", UTC_NS),
        *((name, pa.float64()) for name in ("score", "reconstruction", "kl", "point", "elbo")),
        ("alarm", pa.bool_()),
        ("model", pa.string()),
    ]
)
_IMPUTED: Final = pa.schema(
    [
        ("asset", pa.string()),
        ("timestamp", UTC_NS),
        ("sensor", pa.string()),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        ("method", pa.string()),
        ("model", pa.string()),
    ]
)
_DRAWS: Final = pa.schema(
    [
        ("asset", pa.string()),
        ("timestamp", UTC_NS),
        ("sensor", pa.string()),
        ("draw", pa.int32()),
        ("value", pa.float64()),
    ]
)
_FLUSH_CELLS: Final = 65_536
"""Filled cells that are buffered until they are written as one row group."""
Texts = Sequence[str | None] | NDArray[np.object_]


def timestamps(time_ns: Ints) -> pa.Array:
    """(N,) nanoseconds since the epoch as an Arrow array in UTC; null where there is no time (``NO_TIME``)."""
    return pa.array(np.asarray(time_ns, np.int64), pa.int64(), mask=np.asarray(time_ns) == NO_TIME).cast(
        UTC_NS
    )


@dataclass(frozen=True, slots=True, eq=False)
class ScoreColumns:
    """The columns of ``scores.parquet``: N entries each, in the order of the input rows.

    NaN where a row was not scored; a row without a time (``NO_TIME``) gets a null timestamp.
    """

    asset: Texts
    time_ns: Ints
    score: Floats
    reconstruction: Floats
    kl: Floats
    point: Floats
    elbo: Floats
    alarm: Mask
    model: Texts


def write_scores(path: Path, columns: ScoreColumns) -> None:
    """Write ``scores.parquet``.

    Raises:
        DaemonError: it cannot be written.
    """
    numbers = (columns.score, columns.reconstruction, columns.kl, columns.point, columns.elbo)
    arrays = [
        pa.array(columns.asset, pa.string()),
        timestamps(columns.time_ns),
        *(pa.array(np.asarray(column, np.float64)) for column in numbers),
        pa.array(np.asarray(columns.alarm, bool)),
        pa.array(columns.model, pa.string()),
    ]
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=_SCORES), temporary)


@dataclass(frozen=True, slots=True, eq=False)
class ImputedCells:
    """Columns of ``imputed.parquet``, one entry per filled cell: where it is, its value and interval, who filled it."""

    asset: Texts
    time_ns: Ints
    sensor: Texts
    value: Floats
    low: Floats
    high: Floats
    method: Texts
    model: Texts


class _GrowingParquet(GrowingFile):
    """A Parquet file of one schema that is written in several row groups."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        super().__init__(path)
        self._schema = schema
        try:
            self._writer = pq.ParquetWriter(self._target.temporary, schema)
        except OSError as error:
            self._target.discard()
            raise unwritable(path, error) from error

    def _write(self, arrays: list[pa.Array]) -> None:
        try:
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        except OSError as error:
            raise unwritable(self._path, error) from error

    def finish(self, whole: bool) -> None:
        self._writer.close()


class ImputedFile(_GrowingParquet):
    """``imputed.parquet``: one row per filled cell, written as the rows come.

    A context: the file appears, even when empty, if the block ends without an error. ``cells`` counts what
    was written so far.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _IMPUTED)
        self.cells = 0
        self._pending: list[tuple[str, int, str, float, float, float, str, str]] = []

    def add(self, row: FilledRow) -> None:
        """Append the filled cells of one row."""
        for sensor, cell in row.cells.items():
            self._pending.append(
                (row.asset, row.row_ns, sensor, cell.value, cell.low, cell.high, row.method, row.model)
            )
        if len(self._pending) >= _FLUSH_CELLS:
            self._flush()

    def add_cells(self, cells: ImputedCells) -> None:
        """Append many cells at once, after those of the rows added before."""
        self._flush()
        self._append(
            [
                pa.array(cells.asset, pa.string()),
                timestamps(cells.time_ns),
                pa.array(cells.sensor, pa.string()),
                *(
                    pa.array(np.asarray(column, np.float64))
                    for column in (cells.value, cells.low, cells.high)
                ),
                pa.array(cells.method, pa.string()),
                pa.array(cells.model, pa.string()),
            ]
        )

    def _flush(self) -> None:
        if not self._pending:
            return
        columns = list(zip(*self._pending, strict=True))
        self._pending.clear()
        kinds = [pa.string(), pa.int64(), pa.string(), *[pa.float64()] * 3, pa.string(), pa.string()]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        arrays[1] = arrays[1].cast(UTC_NS)
        self._append(arrays)

    def _append(self, arrays: list[pa.Array]) -> None:
        self.cells += len(arrays[0])
        self._write(arrays)

    def finish(self, whole: bool) -> None:
        if whole:
            self._flush()
        super().finish(whole)


class DrawsFile(_GrowingParquet):
    """``<out>.draws.parquet``: one row per filled cell and draw, written as they come.

    A context: the file appears, even when empty, if the block ends without an error.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, _DRAWS)

    def add(self, *, asset: Texts, time_ns: Ints, sensor: Texts, values: Floats) -> None:
        """Append D draws of each of n cells: names and times (n,), values (n, D)."""
        cells, count = values.shape
        which = np.repeat(np.arange(cells), count)
        self._write(
            [
                pa.array(asset, pa.string()).take(pa.array(which)),
                timestamps(np.asarray(time_ns)[which]),
                pa.array(sensor, pa.string()).take(pa.array(which)),
                pa.array(np.tile(np.arange(count, dtype=np.int32), cells)),
                pa.array(np.ascontiguousarray(values).reshape(-1)),
            ]
        )
