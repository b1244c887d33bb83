"""One pass of the loop of ``run`` over a file.

What it publishes for the lines of a file is what ``run`` publishes for the same lines of a topic with the
same model.

Three things differ from ``run``, so that the same file gives the same result on every machine: the input
waits while a model trains, the end of the file releases its rows at once, and no clock is read but for the
rule about times in the future.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from daemon.adapters.files import (
    KEPT_BYTES,
    LinesSource,
    Table,
    TableReading,
    TableSource,
    is_lines,
)
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.assembly import gathered
from daemon.commands.accounting import records_of
from daemon.commands.carry import TrainTailSource
from daemon.commands.file_history import newest_first
from daemon.commands.inputs import table_of
from daemon.commands.table_accounting import counts_of_replay, unknown_sensors
from daemon.domain import Output, Progress, Rejected, ScoredRow, Segment
from daemon.model.bundle import Bundle
from daemon.runtime.loop import Loop
from daemon.runtime.options import Hold, LoopOptions
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.stream.accounts import Counts
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import RowBlock, Step


@dataclass(frozen=True, slots=True, eq=False)
class FileToJudge:
    """The input of a pass: a file, and what it is judged by."""

    path: Path
    table: Table | None  # its rows; None: the file is JSON Lines
    plan: StreamPlan
    bundle: Bundle | None = None  # None: the first ``learn_rows`` rows are learned
    before: Sequence[Segment] = ()  # the last rows of TRAIN

    @staticmethod
    def read(
        path: Path,
        plan: StreamPlan,
        bundle: Bundle,
        exclude: Sequence[str],
        reading: TableReading | None = None,
    ) -> FileToJudge:
        """A file of the plan's stream; a table is read whole, JSON Lines while they are judged.

        Raises:
            InputError: the table cannot be read.
        """
        table = None
        if not is_lines(path):
            table = table_of(path, plan.spec, exclude, reading or TableReading())
        return FileToJudge(path, table, plan, bundle)


class FileSink(Protocol):
    """A ``ports.Sink`` for a pass over a file."""

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""

    def attach(self, source: TrainTailSource) -> None:
        """Called once, before the first output, with the source whose offsets the outputs carry."""


@dataclass(slots=True, eq=False)
class ReplayRun:
    """A pass that has ended: its stream, its source, the rows that were judged, and counts of them."""

    stream: StreamRun
    source: TrainTailSource
    table: Table | None = None
    blocks: list[RowBlock] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)  # rows, scored, filled, milliseconds

    @property
    def pipeline(self) -> Pipeline:
        """That of the file's only partition."""
        (pipeline,) = self.stream.pipelines.values()
        return pipeline

    @property
    def rejected(self) -> Sequence[Rejected]:
        """Rows of a table that its source rejected: they never reached the pipeline."""
        return self.source.inner.rejected if isinstance(self.source.inner, TableSource) else ()

    @property
    def counts(self) -> Counts:
        """What became of the file's records and cells."""
        counts = self.pipeline.accounts.counts()
        if self.table is None:
            return counts
        return counts_of_replay(counts, self.rejected, self.table, self.stream.spec)

    @property
    def unknown_sensors(self) -> Counter[str]:
        """Per name, values of sensors that the stream does not list."""
        if self.table is None:
            return self.stream.decoder.unknown_sensors
        return unknown_sensors(self.table, self.stream.spec)

    @property
    def records(self) -> dict[str, int]:
        """How many records of the file were accepted, duplicate, late and rejected, and skipped if any were."""
        return records_of(self.counts)


async def run_over_file(file: FileToJudge, sink: FileSink, progress: Progress) -> ReplayRun:
    """Run the loop over the file, to its end.

    Args:
        file: what is judged, and by what.
        sink: takes the outputs.
        progress: called with shares from 0.5 to 0.95.

    Raises:
        DaemonError: the file cannot be read, or the bundle does not fit its stream.
    """
    plan, start_ns = file.plan, time.time_ns()
    if file.table is not None and file.table.pivoted is not None:
        plan = replace(plan, spec=gathered(plan.spec))
    source = (
        LinesSource(
            file.path,
            start_ns,
            keep_bytes=max(KEPT_BYTES, plan.max_record_bytes + 1),
            newest_first=newest_first(file.path, plan),
        )
        if file.table is None
        else TableSource(file.table, plan.spec, start_ns)
    )
    stream = StreamRun(plan, scores=True, trace=file.table is not None)
    stream.bundle = None if file.bundle is None else file.bundle.to_bytes()
    carried = TrainTailSource(source, plan.spec, file.before)
    sink.attach(carried)
    done = ReplayRun(stream, carried, file.table)

    def watch(run: StreamRun, step: Step) -> None:
        if step.block is not None and not step.silent:
            done.blocks.append(step.block)
            done.totals["rows"] += len(step.block.rows)
            done.totals["filled"] += step.filled
            done.totals["scored"] += step.scored
        share = 0.5 + 0.45 * source.read / max(source.total, 1)
        if run.trainer.busy:
            progress(share, f"training: {run.trainer.doing}")
        else:
            progress(share, "scoring" if run.detector is not None else "learning")

    loop = Loop(
        carried,
        sink,
        [stream],
        Reporter(Metrics([plan.spec.name], [file.path.name]), Status([plan.spec.name]), at_the_end=True),
        options=LoopOptions(hold=Hold.ALWAYS, watch=watch),
    )
    began = time.monotonic()
    await loop.run()
    trained = sum(outcome.seconds for outcome in stream.outcomes)
    done.totals["milliseconds"] = int(1e3 * max(time.monotonic() - began - trained, 0.0))
    return done


class ScoreSink:
    """A ``FileSink`` that keeps the scores by asset and time, and nothing else."""

    def __init__(self) -> None:
        self.scored: dict[tuple[str, int], ScoredRow] = {}

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        for output in outputs:
            if isinstance(output, ScoredRow):
                self.scored[output.asset, output.row_ns] = output

    def attach(self, source: TrainTailSource) -> None:
        """See ``FileSink``. Scores carry no offsets."""
