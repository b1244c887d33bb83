"""A file as training history: the segments of consecutive grid rows that a model learns from.

A table's rows are placed on the grid at once. JSON Lines go through the stream's own pipeline, without a
model, so that lateness, duplicates and refusals are decided as they are for a topic.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from daemon.adapters.files import (
    LinesSource,
    TableReading,
    is_lines,
    segments,
)
from daemon.commands.derive import plan_at
from daemon.commands.inputs import table_of
from daemon.domain import (
    Assigned,
    PolledRecords,
    Segment,
)
from daemon.runtime.history import TrainingHistory
from daemon.runtime.stream_run import StreamPlan, StreamRun


async def history_of(
    path: Path, plan: StreamPlan, exclude: Sequence[str], reading: TableReading | None = None
) -> list[Segment]:
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
        return segments(table_of(path, plan.spec, exclude, reading or TableReading()), plan.spec)
    stream = StreamRun(plan_at(plan, path.name))
    recent = TrainingHistory(plan.spec, 1 << 62)
    source = LinesSource(path, time.time_ns())  # stands for the Kafka timestamps of the lines
    async for event in source.events():
        if isinstance(event, Assigned):
            stream.open(event)
        elif isinstance(event, PolledRecords):
            for step in stream.pipelines[event.partition].feed(event):
                if step.block is not None:
                    recent.add(step.block)
    return recent.segments()
