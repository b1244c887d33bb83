"""The rows of a table as a finite source of readings, as if they arrived in file order.

Table rows become readings without passing through JSON: each row of the file is one, of all sensors, or of a long
table of its sensor. The rows of a long table that have one asset and time come together, in the order of the first
of each. An asset whose rows are in no order of time (``out_of_order``) has its rows emitted by event time instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import msgspec
import numpy as np

from daemon.adapters.files.clocks import dated_ahead, skewed_clocks
from daemon.adapters.files.file_source import FileSource
from daemon.adapters.files.row_keys import NO_TIME, RefusedRow
from daemon.adapters.files.table import Table, check_sensors
from daemon.assembly import as_received
from daemon.documents import shown as quoted
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
from daemon.stream.time_range import FUTURE_NS


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
    record whose value is the row as a compact JSON message. The offset is the index of the row in the file,
    except where rows are emitted in another order: ``line_of`` maps an offset to its row. A row that is dated so far
    ahead that it would make the rows after it late is rejected too (``clocks``), and so is a row of a long table
    whose sensor the stream does not list. Rows of a long table that are of an excluded sensor are not emitted.

    Args:
        table: the file.
        spec: the stream; sensors it has and the file lacks are NaN, others are ignored.
        run_start_ns: stands for the records' timestamp; a time over 1 h ahead of it is rejected.
        chunk_rows: rows per event.

    Attributes:
        rejected: the rows of the file that cannot be used, in its order.
        read: rows emitted so far (or skipped); ``total`` is all of them.
        reordered: the assets whose rows are emitted by event time and not in file order.
        skewed: assets whose clock seems fast (or slow), by how many nanoseconds.

    Raises:
        InputError: if the file has none of the stream's sensors.
    """

    unit = "rows"

    def __init__(self, table: Table, spec: StreamSpec, run_start_ns: int, chunk_rows: int = 1024) -> None:
        spec = as_received(spec)
        check_sensors(table, spec)
        super().__init__(table.path, table.lines)
        self._table = table
        self._spec = spec
        self._chunk = chunk_rows
        self._columns = {name: i for i, name in enumerate(table.sensors)}
        early = table.time_ns <= run_start_ns + FUTURE_NS
        self._usable = table.usable & early
        order = np.arange(len(table))
        self.reordered: list[str] = []
        mixed = np.zeros(len(table), bool)
        for rows in out_of_order(table, self._usable):
            order[rows] = rows[np.argsort(table.time_ns[rows], kind="stable")]
            self.reordered.append(table.asset_names[table.asset_codes[rows[0]]])
            mixed[rows] = True
        self._ahead = self._dated_ahead(self._usable & ~mixed)
        self._usable[list(self._ahead)] = False
        self._order = order if table.pivoted is None else _lines_in_order(order, table.pivoted.row)
        self._sensor: Ints | None = None  # (lines,) the stream's sensor that each is of, -1 for none
        emitted, refused = self._usable, ~self._usable
        if table.pivoted is not None:
            places = {name: c for c, name in enumerate(spec.sensors)}
            self._sensor = np.array([*(places.get(name, -1) for name in table.sensors), -1])[
                table.pivoted.sensor
            ]
            usable = self._usable[table.pivoted.row]
            emitted = usable & (self._sensor >= 0)
            excluded = (table.pivoted.sensor < 0) & table.usable[table.pivoted.row]
            refused = ~emitted & ~excluded
        self._emitted = emitted  # (lines,)
        self._faults = _faults_of(table, spec)
        self.rejected = [self._rejected(line, run_start_ns) for line in np.flatnonzero(refused).tolist()]
        used = np.flatnonzero(self._usable & ~mixed)
        skewed = skewed_clocks(
            table.asset_codes[used].astype(np.int64),
            table.time_ns[used],
            max(spec.allowed_lateness_ns, 5 * spec.period_ns),
        )
        self.skewed = {table.asset_names[code]: ahead for code, ahead in skewed.items()}

    def line_of(self, offset: int) -> int:
        """The row of the file that was emitted with this offset."""
        return int(self._order[offset])

    def _dated_ahead(self, usable: Mask) -> dict[int, str]:
        """The rows whose wrong date would make the rows after them late, with what is wrong."""
        table, lateness = self._table, self._spec.allowed_lateness_ns
        used = np.flatnonzero(usable)
        used = used[np.argsort(table.asset_codes[used], kind="stable")]
        found: dict[int, str] = {}
        for rows in np.split(used, np.flatnonzero(np.diff(table.asset_codes[used])) + 1):
            times = table.time_ns[rows]
            for i in dated_ahead(times, lateness).tolist():
                shown = iso(int(times[i]))
                found[int(rows[i])] = (
                    f"{shown} is ahead of the rows after it, all of which it would make late"
                )
        return found

    def _rejected(self, line: int, run_start_ns: int) -> Rejected:
        table = self._table
        row = int(table.rows_of_lines[line])
        why = table.refused.get(row)
        time_ns = int(table.time_ns[row])
        shown = iso(time_ns) if time_ns != NO_TIME else why.time if why else None
        if why is None and row in self._ahead:
            why = RefusedRow(Reason.FUTURE, self._ahead[row], shown)
        message: dict[str, object] = {"asset": table.assets[row], "ts": shown}
        if table.pivoted is None:
            message["values"] = dict(zip(table.sensors, table.values[row].tolist(), strict=True))
        else:
            of = int(table.pivoted.sensor[line])
            sensor = table.sensors[of] if of >= 0 else None
            message |= {"sensor": sensor, "value": float(table.pivoted.numbers[line])}
            if why is None and self._usable[row]:
                why = RefusedRow(
                    Reason.UNKNOWN_SENSOR, f"the stream does not list sensor {quoted(str(sensor))}", shown
                )
        if why is None:
            why = RefusedRow(
                Reason.FUTURE, f"{shown} is over 1 h ahead of the run ({iso(run_start_ns)})", shown
            )
        return Rejected(
            Record(line, None, msgspec.json.encode(message), run_start_ns), why.reason, why.detail
        )

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
        if self._sensor is not None:
            return self._of_one_sensor(start, stop, self._sensor)
        rows = self._order[start:stop]
        chunk = np.full((stop - start, len(spec.sensors)), np.nan)
        for i, name in enumerate(spec.sensors):
            if name in self._columns:
                chunk[:, i] = table.values[rows, self._columns[name]]
        assets, times = table.assets[rows].tolist(), table.time_ns[rows].tolist()
        usable, labels = self._emitted[rows].tolist(), [table.label(row, spec) for row in rows.tolist()]
        corrupt = [self._faults.get(row, ()) for row in rows.tolist()]
        return [
            Reading(start + i, assets[i], times[i], values, condition=labels[i], corrupt=corrupt[i])
            for i, values in enumerate(chunk.tolist())
            if usable[i]
        ]

    def _of_one_sensor(self, start: int, stop: int, sensor: Ints) -> list[Reading]:
        """The readings of a long table."""
        table, spec = self._table, self._spec
        assert table.pivoted is not None
        lines = self._order[start:stop]
        emitted = self._emitted[lines]
        lines, offsets = lines[emitted], start + np.flatnonzero(emitted)
        rows = table.pivoted.row[lines]
        columns = (
            offsets,
            table.assets[rows],
            table.time_ns[rows],
            sensor[lines],
            table.pivoted.numbers[lines],
        )
        return [
            Reading(
                offset,
                asset,
                time_ns,
                sensor=c,
                value=value,
                condition=table.label(row, spec),
                corrupt=self._faults.get(line, ()),
            )
            for line, row, offset, asset, time_ns, c, value in zip(
                lines.tolist(), rows.tolist(), *(column.tolist() for column in columns), strict=True
            )
        ]


def _lines_in_order(rows: Ints, row_of: Ints) -> Ints:
    """(N,) the N rows of the file of a long table, those of each of its ``rows`` together."""
    rank = np.empty(len(rows), np.int64)
    rank[rows] = np.arange(len(rows))
    return np.argsort(rank[row_of], kind="stable")


def _faults_of(table: Table, spec: StreamSpec) -> dict[int, tuple[tuple[int, str], ...]]:
    """By row of the file, ``Reading.corrupt``."""
    places = {name: c for c, name in enumerate(spec.sensors)}
    found: dict[int, tuple[tuple[int, str], ...]] = {}
    for (sensor, fault), rows in table.faulty.items():
        for row in rows.tolist() if sensor in places else ():
            found[row] = (*found.get(row, ()), (places[sensor], fault))
    return found
