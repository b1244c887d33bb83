"""The rows of a table as a finite source of readings, as if they arrived in file order.

Table rows become readings without passing through JSON. An asset whose rows are in no order of time
(``out_of_order``) has its rows emitted by event time instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import numpy as np

from daemon.adapters.files.file_source import FileSource
from daemon.adapters.files.row_keys import NO_TIME, RefusedRow
from daemon.adapters.files.table import Table, check_sensors
from daemon.domain import (
    Assigned,
    Ints,
    Mask,
    PolledRecords,
    Reading,
    Reason,
    Record,
    Rejected,
    SourceEvent,
    StreamSpec,
    iso,
)
from daemon.stream.timestamps import FUTURE_NS


def out_of_order(table: Table, usable: Mask) -> list[Ints]:
    """The ``usable`` (N,) rows of each asset whose rows are in no order of time: newest first, or shuffled.

    In a stream some readings are late; where more than a third of an asset's rows have an earlier
    time than the row before, the file's order cannot be the order of arrival.

    Returns:
        For each such asset its usable rows, in the file's order.
    """
    used = np.flatnonzero(usable)
    used = used[np.argsort(table.asset_codes[used], kind="stable")]
    if len(used) < 2:
        return []
    codes, times = table.asset_codes[used], table.time_ns[used]
    begins = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    back = np.append(False, times[1:] < times[:-1])
    back[begins] = False
    ends = np.append(begins[1:], len(used))
    steps = np.maximum(ends - begins - 1, 1)
    mixed = np.flatnonzero(3 * np.add.reduceat(back.astype(np.int64), begins) > steps)
    return [used[begins[i] : ends[i]] for i in mixed.tolist()]


class TableSource(FileSource):
    """A table's rows as readings, in file order: one finite partition.

    Rows that cannot be used are not emitted: they are in ``rejected`` from the start, each with a
    record whose value is the row as a compact wide JSON message. The offset is the row's index,
    except for assets whose rows are in no order of time (``out_of_order``): their rows are emitted by
    event time, and ``line_of`` maps an offset to its row.

    Args:
        table: the file.
        spec: the stream; sensors it has and the file lacks are NaN, others are ignored.
        run_start_ns: stands for the records' timestamp; a time over 1 h ahead of it is rejected.
        chunk_rows: rows per event.

    Attributes:
        rejected: the rows that cannot be used, in file order.
        read: rows emitted so far (or skipped); ``total`` is all of them.
        reordered: the assets whose rows are emitted by event time and not in file order.

    Raises:
        InputError: if the file has none of the stream's sensors.
    """

    unit = "rows"

    def __init__(self, table: Table, spec: StreamSpec, run_start_ns: int, chunk_rows: int = 1024) -> None:
        check_sensors(table, spec)
        super().__init__(table.path, len(table))
        self._table = table
        self._spec = spec
        self._chunk = chunk_rows
        self._columns = {name: i for i, name in enumerate(table.sensors)}
        early = table.time_ns <= run_start_ns + FUTURE_NS
        self._usable = table.usable & early
        self.rejected = [self._rejected(row, run_start_ns) for row in np.flatnonzero(~self._usable).tolist()]
        self._order = np.arange(len(table))
        self.reordered: list[str] = []
        for rows in out_of_order(table, self._usable):
            self._order[rows] = rows[np.argsort(table.time_ns[rows], kind="stable")]
            self.reordered.append(table.asset_names[table.asset_codes[rows[0]]])

    def line_of(self, offset: int) -> int:
        """The row of the file that was emitted with this offset."""
        return int(self._order[offset])

    def _rejected(self, row: int, run_start_ns: int) -> Rejected:
        table = self._table
        why = table.refused.get(row)
        time_ns = int(table.time_ns[row])
        shown = iso(time_ns) if time_ns != NO_TIME else why.time if why else None
        if why is None:
            why = RefusedRow(
                Reason.FUTURE, f"{shown} is over 1 h ahead of the run ({iso(run_start_ns)})", shown
            )
        cells = zip(table.sensors, table.values[row].tolist(), strict=True)
        message = {"asset": table.assets[row], "ts": shown, "values": dict(cells)}
        return Rejected(Record(row, None, msgspec.json.encode(message), run_start_ns), why.reason, why.detail)

    async def events(self) -> AsyncIterator[SourceEvent]:
        """The assignment, the rows, and a last event that marks the end."""
        yield Assigned(self.partition, 0, 0)
        while self.read < self.total and not self._closed:
            start, stop = self.read, min(self.read + self._chunk, self.total)
            items = self._readings(start, stop)
            self.read = stop
            yield PolledRecords(self.partition, items, end_offset=self.total)
            await asyncio.sleep(0)  # lets signal handlers and the progress bar run
        if not self._closed:
            yield PolledRecords(self.partition, (), timedelta(0), ended=True, end_offset=self.total)

    def _readings(self, start: int, stop: int) -> list[Reading]:
        table, spec = self._table, self._spec
        rows = self._order[start:stop]
        chunk = np.full((stop - start, len(spec.sensors)), np.nan)
        for i, name in enumerate(spec.sensors):
            if name in self._columns:
                chunk[:, i] = table.values[rows, self._columns[name]]
        assets, times = table.assets[rows].tolist(), table.time_ns[rows].tolist()
        usable, labels = self._usable[rows].tolist(), [table.label(row, spec) for row in rows.tolist()]
        return [
            Reading(start + i, assets[i], times[i], values, condition=labels[i])
            for i, values in enumerate(chunk.tolist())
            if usable[i]
        ]
