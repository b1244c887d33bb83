"""The last rows of TRAIN, to which the first windows of TEST reach back.

When TEST begins where TRAIN ended, the first rows of TEST are scored with a full window. ``carried_rows``
finds the rows; ``TrainTailSource`` puts them in front of the file's own records, as a log whose older offsets
were read before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np

from daemon.adapters.files import (
    LinesSource,
    Table,
    TableSource,
)
from daemon.assembly import hold_rows
from daemon.domain import (
    Assigned,
    InputPartition,
    PartitionCommit,
    PolledRecords,
    Reading,
    Record,
    Segment,
    SourceEvent,
    StreamSpec,
)
from daemon.model.baseline import CONTINUES
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.decoding import Decoder


def reach(spec: StreamSpec) -> int:
    """How many rows before an asset's next one may have a part in its window, in a rate or as a held value."""
    gap = spec.max_gap_ns // spec.period_ns if any(rule.counter for rule in spec.rules) else 0
    return spec.window - 1 + max(gap, *hold_rows(spec))


def tails(history: Sequence[Segment], first_rows: Mapping[str, int], reach: int) -> list[Segment]:
    """The last rows of TRAIN that TEST's first windows reach back to, as they were received.

    Args:
        history: TRAIN.
        first_rows: by asset, the first row of TEST.
        reach: the rows before TEST's first one that have a part in its window.

    Returns:
        One segment for each asset whose TEST begins at most ``CONTINUES`` rows after its TRAIN ends. The rows
        between the two, which belong to neither, are part of it, empty: as rows of TEST they would be
        counted and filled.
    """
    last: dict[str, Segment] = {}
    for segment in history:
        if segment.asset not in last or segment.first_row > last[segment.asset].first_row:
            last[segment.asset] = segment
    result = []
    for asset, segment in last.items():
        end = segment.first_row + len(segment.values)  # the row after
        between = first_rows.get(asset, -1) - end
        if 0 <= between < CONTINUES:
            kept = (segment.values if segment.received is None else segment.received)[-reach:]
            nothing = np.full((between, kept.shape[1]), np.nan)
            result.append(Segment(asset, end - len(kept), np.concatenate([kept, nothing])))
    return result


class TrainTailSource:
    """A ``ports.Source``: a file's source with the last rows of TRAIN in front of its records.

    TRAIN's rows have the first offsets, the file's records follow, and outputs begin at the file's first
    record. TRAIN has ended: before TEST begins, the source reports an idle time that is long enough to
    release all of TRAIN's rows. One offset is left out between the two, so that this time lies before the
    position at which outputs begin.

    Args:
        inner: of the file; its offsets begin at 0.
        spec: of the stream.
        before: TRAIN's last rows; empty: this source is the file's.
    """

    def __init__(self, inner: TableSource | LinesSource, spec: StreamSpec, before: Sequence[Segment]) -> None:
        self.inner = inner
        self.readings = [
            Reading(0, segment.asset, (segment.first_row + i) * spec.period_ns, row)
            for segment in before
            for i, row in enumerate(segment.values.tolist())
        ]
        for offset, reading in enumerate(self.readings):
            reading.offset = offset
        self.first = len(self.readings) + 1 if self.readings else 0
        """The offset of the file's first record."""

    def line_of(self, offset: int) -> int:
        """The line or row of the file that has this offset; -1 for a row of TRAIN."""
        return self.inner.line_of(offset - self.first) if offset >= self.first else -1

    async def events(self) -> AsyncIterator[SourceEvent]:
        """See ``ports.Source``."""
        async for event in self.inner.events():
            if not self.readings or self.closing:
                yield event
            elif isinstance(event, Assigned):
                yield Assigned(event.partition, 0, self.first)
                yield PolledRecords(event.partition, self.readings)
                yield PolledRecords(event.partition, (), idle=timedelta(days=1) + self._longest)
            else:
                assert isinstance(event, PolledRecords)
                end = None if event.end_offset is None else event.end_offset + self.first
                yield replace(event, items=[self._moved(item) for item in event.items], end_offset=end)

    @property
    def _longest(self) -> timedelta:
        """A time that is longer than any row of TRAIN waits to be released."""
        times = [reading.time_ns for reading in self.readings]
        return timedelta(microseconds=(max(times) - min(times)) // 1_000)

    def _moved(self, item: Record | Reading) -> Record | Reading:
        """One record or reading of the file, with its offset in this source."""
        if isinstance(item, Record):
            return msgspec.structs.replace(item, offset=item.offset + self.first)
        item.offset += self.first
        return item

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> None:
        """See ``ports.Source``. A file keeps no position."""

    def close(self) -> None:
        """See ``ports.Source``."""
        self.inner.close()

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self.inner.closing


async def first_rows_of_lines(path: Path, plan: StreamPlan) -> dict[str, int]:
    """The smallest row of each asset in a JSON Lines file."""
    decoder = Decoder(plan.spec, plan.max_record_bytes, plan.max_asset_bytes)
    source = LinesSource(path, time.time_ns())
    first: dict[str, int] = {}
    async for event in source.events():
        for reading in decoder.decode_all(event.items) if isinstance(event, PolledRecords) else ():
            if isinstance(reading, Reading):
                row = plan.spec.row(reading.time_ns)
                first[reading.asset] = min(first.get(reading.asset, row), row)
    return first


def first_rows_of_table(table: Table, spec: StreamSpec) -> dict[str, int]:
    """The smallest row of each asset in a table."""
    first: dict[str, int] = {}
    usable = np.flatnonzero(table.usable)
    for code in np.unique(table.asset_codes[usable]).tolist():
        times = table.time_ns[usable][table.asset_codes[usable] == code]
        first[table.asset_names[code]] = spec.row(int(times.min()))
    return first


async def carried_rows(
    test: Path, table: Table | None, plan: StreamPlan, history: Sequence[Segment]
) -> list[Segment]:
    """The rows of TRAIN that TEST's first windows reach back to; see ``tails``.

    Args:
        test: the file.
        table: its rows; None: the file is JSON Lines.
        plan: of its stream.
        history: TRAIN; empty if nothing was learned from a file.
    """
    if not history:
        return []
    first = await first_rows_of_lines(test, plan) if table is None else first_rows_of_table(table, plan.spec)
    return tails(history, first, reach(plan.spec))
