"""A file as training history: the segments of consecutive grid rows that a model learns from.

A table's rows are placed on the grid at once. JSON Lines go through the stream's own pipeline, without a
model, so that lateness, duplicates and refusals are decided as they are for a topic.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from daemon.adapters.files import (
    LinesSource,
    TableReading,
    first_lines,
    is_lines,
    segments,
)
from daemon.commands.accounting import lost_lines
from daemon.commands.derive import plan_at
from daemon.commands.inputs import table_of
from daemon.commands.table_accounting import counts_of_table, unknown_sensors
from daemon.domain import (
    Assigned,
    PolledRecords,
    Reading,
    Record,
    Segment,
)
from daemon.runtime.exclusion import exclude_episodes, planned_stops
from daemon.runtime.history import TrainingHistory
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.stream.accounts import Counts
from daemon.stream.decoding import Decoder

LINES_LOOKED_AT: Final = 2000
"""First lines of a file by which its order is known."""


@dataclass(frozen=True, slots=True, eq=False)
class FileHistory:
    """A file as training history, and what became of its records and cells."""

    segments: list[Segment]
    counts: Counts
    unknown: Mapping[str, int] = field(
        default_factory=dict
    )  # values of sensors that the stream does not list

    def lost(self, path: Path) -> list[str]:
        """Notes on what was lost of the file."""
        return [f"{path.name}: {line}" for line in lost_lines(self.counts, self.unknown)]


async def history_of(
    path: Path, plan: StreamPlan, exclude: Sequence[str], reading: TableReading | None = None
) -> list[Segment]:
    """The segments of ``read_history``."""
    return (await read_history(path, plan, exclude, reading)).segments


async def read_history(
    path: Path, plan: StreamPlan, exclude: Sequence[str], reading: TableReading | None = None
) -> FileHistory:
    """A file as training segments.

    Args:
        path: Parquet, CSV or JSON Lines (.gz too).
        plan: of the stream that the file holds.
        exclude: columns of a table that are no sensors.
        reading: what the user has said of tables; None: nothing.

    Raises:
        DaemonError: the file cannot be read.
    """
    if not is_lines(path):
        table = table_of(path, plan.spec, exclude, reading or TableReading())
        rows = segments(table, plan.spec)
        return FileHistory(
            exclude_episodes(rows, planned_stops(rows, plan.maintenance, plan.spec), plan.spec)[0],
            counts_of_table(table, plan.spec),
            unknown_sensors(table, plan.spec),
        )
    stream = StreamRun(plan_at(plan, path.name))
    recent = TrainingHistory(plan.spec, 1 << 62, plan.maintenance)
    # The time of the run stands for the Kafka timestamps of the lines.
    source = LinesSource(path, time.time_ns(), newest_first=newest_first(path, plan))
    async for event in source.events():
        if isinstance(event, Assigned):
            stream.open(event)
        elif isinstance(event, PolledRecords):
            for step in stream.pipelines[event.partition].feed(event):
                if step.block is not None:
                    recent.add(step.block)
    counts = sum((pipeline.accounts.counts() for pipeline in stream.pipelines.values()), Counts())
    return FileHistory(recent.segments(), counts, stream.decoder.unknown_sensors)


def newest_first(path: Path, plan: StreamPlan) -> bool:
    """Whether the lines of a file go back in time: more than two thirds of the steps of each asset's first lines.

    Raises:
        InputError: the file cannot be read.
    """
    decoder = Decoder(plan.spec, plan.max_record_bytes, plan.max_asset_bytes)
    latest: dict[str, int] = {}
    back = onwards = 0
    lines = first_lines(path, LINES_LOOKED_AT)[0]
    for reading in decoder.decode_all([Record(i, None, line, -1) for i, line in enumerate(lines)]):
        if not isinstance(reading, Reading):
            continue
        before = latest.get(reading.asset, reading.time_ns)
        back += reading.time_ns < before
        onwards += reading.time_ns > before
        latest[reading.asset] = reading.time_ns
    return back > 2 * onwards
