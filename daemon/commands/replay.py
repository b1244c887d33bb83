"""``anomalyd replay``, ``train`` and ``impute``: the same core over files.

``replay`` is the loop of ``run`` with a file for a source: what it writes for a file is what
``run`` publishes for the same lines with the same model. Only three things differ, and all of
them so that the same file gives the same result on every machine: the input waits while a
model trains, a file that has ended closes its rows at once, and nothing depends on the clock
but the rule about the future.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from daemon.adapters import kafka
from daemon.adapters.files import (
    KEPT_BYTES,
    DrawsFile,
    ImputedCells,
    ImputedFile,
    JsonLines,
    LinesSource,
    Placement,
    ScoreColumns,
    Table,
    TableSource,
    check_place,
    check_table_name,
    dead_letter,
    is_lines,
    place,
    read_table,
    replacing,
    segments,
    write_filled_table,
    write_scores,
    write_summary,
)
from daemon.adapters.report import AssetTrace, Report, report_html
from daemon.adapters.sample import derive_spec, latents_for, names_in, span
from daemon.adapters.telemetry import Metrics, Reporter, Status
from daemon.config import Settings, load
from daemon.domain import (
    AlertEvent,
    Assigned,
    DeadLetter,
    Disposition,
    DriftRecord,
    FilledRow,
    Floats,
    InputPartition,
    Mask,
    Output,
    PartitionCommit,
    Phase,
    PolledRecords,
    Reading,
    Reason,
    Record,
    Rejected,
    ScoredRow,
    Segment,
    SourceEvent,
    StreamSpec,
    is_calendar,
)
from daemon.errors import BundleError, ConfigError, DaemonError, InputError, UsageError
from daemon.model import evaluation
from daemon.model.bundle import Bundle, check_room
from daemon.model.draws import DrawSettings, GappedSegment, draw
from daemon.model.imputation import Fill, ImputationParameters, fit, impute_segments
from daemon.model.scaler import Scaler
from daemon.runtime.compatibility import check_compatible, other_conditions
from daemon.runtime.history import TrainingHistory
from daemon.runtime.loop import Loop
from daemon.runtime.options import Hold, LoopOptions
from daemon.runtime.stream_run import StreamPlan, StreamRun
from daemon.runtime.topic_history import TopicHistory
from daemon.runtime.trainer import TrainingJob, learn
from daemon.stream.decoding import Decoder
from daemon.stream.encoding import encode
from daemon.stream.steps import RowBlock, Step, Traced

CONTINUES = 10
"""Periods by which TEST may follow TRAIN and still be the same run of rows."""
PLACEHOLDER = StreamSpec("stream", ("sensor",))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Progress = Callable[[float, str], None]


# ------------------------------------------------------------------ settings without a file
def document_of(spec: StreamSpec) -> dict[str, Any]:
    """A derived stream as the document that config.yaml would be."""

    def lasting(ns: int) -> timedelta:
        return timedelta(microseconds=ns / 1_000)

    return {
        "streams": [
            {
                "name": spec.name,
                "topics": list(spec.topics) or [spec.name],
                "format": spec.format.value,
                "fields": {name: getattr(spec.fields, name) for name in spec.fields.__slots__},
                "sensors": {
                    name: (
                        {}
                        if not spec.ranges or spec.ranges[i] is None
                        else {"range": list(spec.ranges[i] or ())}
                    )
                    for i, name in enumerate(spec.sensors)
                },
                "period": lasting(spec.period_ns),
                "window": spec.window,
                "hop": spec.hop,
                "allowed_lateness": lasting(spec.allowed_lateness_ns),
                "max_gap": lasting(spec.max_gap_ns),
                "silent_after": lasting(spec.silent_after_ns),
                "condition": list(spec.condition),
            }
        ],
        "model": {"latent": latents_for(len(spec.sensors))},
    }


def settings_for(
    config: Path | None,
    sets: Sequence[str],
    sample: Path,
    exclude: Sequence[str],
    bundle: Bundle | None,
    *,
    cold: bool = False,
) -> tuple[Settings, list[str]]:
    """The configuration of a command over files: the one given, or one derived from a sample.

    A bundle's sensors, period and window come before what the sample suggests. ``cold``: only
    the rows that will be learned count, the rest is not known yet.

    Returns:
        The settings, and notes on what was derived.
    """
    if config is not None:
        return load(config, sets), []
    rows = load(None, sets, document_of(PLACEHOLDER)).model.learn_rows if cold else None
    fields = list(bundle.facts.get("condition") or ()) if bundle is not None else []
    told = [name for name in fields if not is_calendar(name)]
    spec, notes = derive_spec(sample, exclude, rows=rows, decided=bundle is not None, conditions=told)
    document = document_of(spec)
    if bundle is not None:
        stream = document["streams"][0]
        period = timedelta(microseconds=bundle.period_ns / 1_000)
        if stream["period"] != period:
            long = max(timedelta(minutes=5), 20 * period)
            stream |= {
                "allowed_lateness": max(timedelta(seconds=10), period),
                "max_gap": long,
                "silent_after": long,
            }
        stream |= {
            "period": period,
            "window": bundle.window,
            "sensors": {name: {} for name in bundle.sensors},
        }
        if fields:
            stream |= {"condition": fields, "timezone": bundle.facts.get("timezone")}
        document["model"]["latent"] = latents_for(len(bundle.sensors))
    return load(None, sets, document), notes


def check_excluded(exclude: Sequence[str], files: Sequence[Path], option: str = "--exclude") -> None:
    """Refuse to leave out what is not there: a misspelt label would be learned as a sensor.

    Raises:
        UsageError: none of the files has such a column; with the nearest name.
    """
    if not exclude:
        return
    names = sorted(set().union(*(names_in(path) for path in files)))
    for name in exclude:
        if name not in names:
            near = get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names[:20])}"
            raise UsageError(f"{option} {name}: {files[-1]} has no such column; {hint}")


def plan_for(settings: Settings, name: str | None, topic: str) -> StreamPlan:
    """The plan of the one stream that a file holds; see ``plan_of``."""
    plan = plan_of(settings, name)
    return plan_at(plan, topic)


def plan_of(settings: Settings, name: str | None) -> StreamPlan:
    """The plan of the stream that is named, or of the only one.

    Raises:
        ConfigError: the configuration has several streams and none was named, or none of that name.
    """
    streams = {stream.name: stream for stream in settings.streams}
    if name is None and len(streams) > 1:
        raise ConfigError(
            f"the configuration has {len(streams)} streams: name one with --stream ({', '.join(streams)})"
        )
    if name is not None and name not in streams:
        raise ConfigError(f"the configuration has no stream {name!r}; it has {', '.join(streams)}")
    return StreamPlan.of(settings, streams[name] if name is not None else settings.streams[0])


def now_ns() -> int:
    """The run's start: what stands for a file's Kafka timestamps."""
    return time.time_ns()


# ------------------------------------------------------------------ history
async def history_of(path: Path, plan: StreamPlan, exclude: Sequence[str]) -> list[Segment]:
    """A file as training segments."""
    if not is_lines(path):
        return segments(read_table(path, exclude, plan.spec.condition, plan.spec.timezone), plan.spec)
    stream = StreamRun(plan_at(plan, path.name))
    recent = TrainingHistory(plan.spec, 1 << 62)
    source = LinesSource(path, now_ns())
    async for event in source.events():
        if isinstance(event, Assigned):
            stream.open(event)
        elif isinstance(event, PolledRecords):
            for step in stream.pipelines[event.partition].feed(event):
                if step.block is not None:
                    recent.add(step.block)
    return recent.segments()


def plan_at(plan: StreamPlan, topic: str) -> StreamPlan:
    """The same plan, read from another file."""
    return replace(plan, spec=replace(plan.spec, topics=(topic,)))


def order_for(plan: StreamPlan, history: Sequence[Segment]) -> TrainingJob:
    """A first training on all of a history."""
    return TrainingJob(
        plan.spec, plan.model, plan.policy, plan.budget, plan.drift_rows, history, strict=False
    )


def train_on(plan: StreamPlan, history: Sequence[Segment], progress: Progress | None) -> Bundle:
    """Train here and now.

    Raises:
        DaemonError: the reason that training came to nothing.
    """
    outcome = learn(order_for(plan, history), progress)
    if outcome.bundle is None:
        raise InputError(outcome.reason)
    return Bundle.from_bytes(outcome.bundle)


def tails(
    history: Sequence[Segment], first_rows: Mapping[str, int], window: int
) -> list[tuple[str, int, Floats]]:
    """The last rows of TRAIN that TEST's first windows reach back to.

    Returns:
        (asset, first row, values) for each asset whose TEST begins at most ``CONTINUES`` rows
        after its TRAIN ends. The rows between the two, which belong to neither, are among them,
        empty: as rows of TEST they would be counted and filled.
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
            kept = segment.values[-(window - 1) :]
            nothing = np.full((between, kept.shape[1]), np.nan)
            result.append((asset, end - len(kept), np.concatenate([kept, nothing])))
    return result


class TrainTailSource:
    """A file's source with the last rows of TRAIN in front of it, as of a log that was read before.

    TRAIN's rows have the first offsets, the file's follow, and outputs begin at the file's first.
    TRAIN is over: so, before TEST begins, the log is idle for long enough to close all its rows. To
    keep that before the position at which outputs begin, one offset is left out between the two.
    """

    def __init__(
        self, inner: TableSource | LinesSource, spec: StreamSpec, before: Sequence[tuple[str, int, Floats]]
    ) -> None:
        self.inner = inner
        self.readings = [
            Reading(0, asset, (first + i) * spec.period_ns, row)
            for asset, first, values in before
            for i, row in enumerate(values.tolist())
        ]
        for offset, reading in enumerate(self.readings):
            reading.offset = offset
        self.first = len(self.readings) + 1 if self.readings else 0
        """The offset of the file's first record."""

    def line_of(self, offset: int) -> int:
        """The line or row of the file that has an offset here; -1 for one of TRAIN."""
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
        """Longer than any row waits."""
        times = [reading.time_ns for reading in self.readings]
        return timedelta(microseconds=(max(times) - min(times)) // 1_000)

    def _moved(self, item: Record | Reading) -> Record | Reading:
        """One record or reading of the file, at its offset here."""
        if isinstance(item, Record):
            return msgspec.structs.replace(item, offset=item.offset + self.first)
        item.offset += self.first
        return item

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> None:
        """A file remembers no position."""

    def close(self) -> None:
        """See ``ports.Source``."""
        self.inner.close()

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self.inner.closing


async def first_rows_of_lines(path: Path, plan: StreamPlan) -> dict[str, int]:
    """Each asset's smallest row in a JSON Lines file: whether it continues TRAIN."""
    decoder = Decoder(plan.spec, plan.max_record_bytes, plan.max_asset_bytes)
    source = LinesSource(path, now_ns())
    first: dict[str, int] = {}
    async for event in source.events():
        for item in event.items if isinstance(event, PolledRecords) else ():
            reading = decoder.decode(item) if isinstance(item, Record) else item
            if not isinstance(reading, Rejected):
                row = plan.spec.row(reading.time_ns)
                first[reading.asset] = min(first.get(reading.asset, row), row)
    return first


def first_rows_of_table(table: Table, spec: StreamSpec) -> dict[str, int]:
    """Each asset's smallest row in a table."""
    first: dict[str, int] = {}
    usable = np.flatnonzero(table.usable)
    for code in np.unique(table.asset_codes[usable]).tolist():
        times = table.time_ns[usable][table.asset_codes[usable] == code]
        first[table.asset_names[code]] = spec.row(int(times.min()))
    return first


# ------------------------------------------------------------------ what replay keeps
class ReplaySink:
    """A sink that keeps what the files and the report need."""

    def __init__(self, imputed: ImputedFile, alerts: JsonLines, drift: JsonLines, dead: JsonLines) -> None:
        self.scored: dict[tuple[str, int], ScoredRow] = {}
        self.alerts: list[AlertEvent] = []
        self.filled: list[FilledRow] = []
        self.drifts: list[DriftRecord] = []
        self.ahead: list[tuple[int, str]] = []  # lines that nothing confirmed, and their times
        self.oversized: Mapping[int, Any] = {}
        self.line_of: Callable[[int], int] = lambda offset: offset
        """Which line of the file has an offset of the source."""
        self._files = imputed, alerts, drift, dead

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        imputed, alerts, drift, dead = self._files
        for output in outputs:
            match output:
                case ScoredRow():
                    self.scored[output.asset, output.row_ns] = output
                case FilledRow():
                    imputed.add(output)
                    self.filled.append(output)
                case AlertEvent():
                    output = replace(
                        output,
                        first_offset=self.line_of(output.first_offset),
                        last_offset=self.line_of(output.last_offset),
                    )
                    # A replay's clock is the input's: the same file gives the same bytes.
                    alerts.write(encode(output, event_clock(output.row_ns)).value)
                    self.alerts.append(output)
                case DriftRecord():
                    drift.write(encode(output, event_clock(output.end_ns)).value)
                    self.drifts.append(output)
                case DeadLetter():
                    record = output.rejected.record
                    line = msgspec.structs.replace(record, offset=self.line_of(record.offset))
                    if output.rejected.reason is Reason.FUTURE:
                        self.ahead.append((line.offset, output.rejected.detail.split(" ")[0].strip("'")))
                    dead.write(dead_letter(replace(output.rejected, record=line), self.oversized))


def about(bundle: Bundle) -> dict[str, Any]:
    """What a training found out about its model: kind, latents, held-out likelihood beside pPCA's."""
    models = bundle.models
    found = {"kind": models.kind, "latents": models.latents}
    names = ("active_units", "active_path_units", "likelihood", "likelihood_ppca")
    return found | {name: bundle.facts[name] for name in names if name in bundle.facts}


def event_clock(time_ns: int) -> datetime:
    """An event time as the wall clock of a message."""
    return EPOCH + timedelta(microseconds=time_ns // 1_000)


@dataclass(slots=True, eq=False)
class Replayed:
    """What a replay found."""

    summary: dict[str, Any]
    figures: list[evaluation.Figures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class ReplayRun:
    """One run of the loop over a file."""

    stream: StreamRun
    source: TableSource | LinesSource
    line_of: Callable[[int], int]  # which line or row of the file has an offset of the log
    blocks: list[RowBlock] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)


async def replay(
    test: Path,
    out: Path,
    *,
    train: Path | None = None,
    model: Path | None = None,
    config: Path | None = None,
    sets: Sequence[str] = (),
    exclude: Sequence[str] = (),
    label: str | None = None,
    stream_name: str | None = None,
    progress: Progress | None = None,
) -> Replayed:
    """Run the pipeline over a file and write what it found into ``out``.

    Args:
        test: Parquet, CSV or JSON Lines.
        out: a directory, made if missing; its files are replaced.
        train: learn from this file first.
        model: judge with this bundle; with neither, the first ``learn_rows`` rows are learned.
        config, sets: the configuration; without a file one is derived.
        exclude: columns that are no sensors.
        label: a column of TEST with 1 where something was wrong; only compared with, never used.
        stream_name: which stream of the configuration.
        progress: told (share done, what is being done).

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit.
    """
    began = time.monotonic()
    tell = progress or (lambda share, doing: None)
    check_excluded(exclude, [train, test] if train is not None else [test])
    if label is not None:
        if is_lines(test):
            raise UsageError(
                f"--label {label}: {test} is JSON Lines; labels are read from Parquet and CSV only"
            )
        check_excluded([label], [test], "--label")
    hidden = [*exclude, *([label] if label else [])]
    bundle = Bundle.load(model) if model is not None else None
    cold = train is None and model is None
    settings, notes = settings_for(config, sets, train or test, hidden, bundle, cold=cold)
    plan = plan_for(settings, stream_name, test.name)
    if train is not None and model is not None:
        notes.append(
            f"{model.name} judges: of {train.name} only the last rows count, where {test.name} goes on"
        )
    if bundle is not None and (said := other_conditions(bundle, plan.spec)):
        notes.append(f"model {bundle.version}: {said}")
    if (train or model) and not any(text.partition("=")[0] == "retrain.every" for text in sets):
        plan = replace(plan, retrain_every=None)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DaemonError(f"{out}: cannot be made: {error.strerror}") from error
    history: list[Segment] = []
    if train is not None:
        tell(0.0, f"reading {train.name}")
        history = await history_of(train, plan, hidden)
    if bundle is None and train is not None:
        bundle = train_on(plan, history, lambda share, doing: tell(share * 0.5, f"training: {doing}"))
        if bundle.window != plan.spec.window:
            notes.append(f"{train.name} is short: windows of {bundle.window} rows, not {plan.spec.window}")
            plan = replace(plan, spec=replace(plan.spec, window=bundle.window))
    table = None if is_lines(test) else read_table(test, hidden, plan.spec.condition, plan.spec.timezone)
    if table is not None:
        notes += list(table.notes)
    before = await carried_rows(test, table, plan, history)
    with (
        ImputedFile(out / "imputed.parquet") as imputed,
        JsonLines(out / "alerts.jsonl") as alerts,
        JsonLines(out / "drift.jsonl") as drift,
        JsonLines(out / "dead-letter.jsonl") as dead,
    ):
        kept = ReplaySink(imputed, alerts, drift, dead)
        done = await once(test, table, plan, bundle, before, kept, tell)
        refused = done.source.rejected if isinstance(done.source, TableSource) else []
        for rejected in refused:
            dead.write(dead_letter(rejected))
            if rejected.reason is Reason.FUTURE:
                kept.ahead.append((rejected.record.offset, rejected.detail.split(" ")[0]))
    stream = done.stream
    (pipeline,) = stream.pipelines.values()
    records = {str(d): pipeline.counts[d] for d in Disposition}
    records[Disposition.REJECTED] += len(refused)
    columns = columns_of(table, done, kept.scored, plan.spec)
    write_scores(out / "scores.parquet", ScoreColumns(**columns))
    opened = [alert for alert in kept.alerts if alert.phase is Phase.OPENED]
    detector = stream.detector
    judged_by = None if stream.bundle is None else Bundle.from_bytes(stream.bundle)
    concerns = [] if judged_by is None else list(judged_by.concerns)
    notes += [f"model {stream.versions[-1]}: {concern}" for concern in concerns]
    figures = []
    if label is not None and table is not None:
        tell(0.95, "comparing with the labels")
        figures = await compared(test, label, table, plan, history, before, columns)
    seconds = time.monotonic() - began
    summary: dict[str, Any] = {
        "records": {"read": sum(records.values()), **records},
        "reasons": dict(
            sorted((pipeline.reasons + Counter(str(rejected.reason) for rejected in refused)).items())
        ),
        "rows": done.totals["rows"],
        "scored": done.totals["scored"],
        "filled": done.totals["filled"],
        "episodes": len(opened),
        "episodes_budgeted": round(stream.budgeted, 3),
        "episodes_by_kind": dict(sorted(Counter(str(alert.kind) for alert in opened).items())),
        "conflicts": pipeline.parts.ingest.grid.conflicts,
        "corrupt_cells": dict(sorted(stream.decoder.corrupt_cells.items())),
        "unknown_sensors": dict(sorted(stream.decoder.unknown_sensors.items())),
        "dropped": dict(sorted(pipeline.dropped.items())),
        "models": stream.versions,
        "model": None if judged_by is None else {**about(judged_by), "concerns": concerns},
        "trainings": [
            {"version": o.version, "promoted": o.promoted, "reason": o.reason, "rows": o.rows}
            for o in stream.outcomes
        ],
        "threshold": None if detector is None else detector.threshold,
        "calibration": None if detector is None else detector.calibration,
        "quality": {f.name: {"AP": f.average_precision, "F1": f.f1} for f in figures},
        "imputation_audit": audited_of(done.stream),
        "rows_per_second": round(done.totals["rows"] / max(done.totals["milliseconds"] / 1e3, 1e-9), 1),
        "seconds": round(seconds, 3),
    }
    notes += time_notes(done, table, kept, plan)
    if not done.totals["scored"]:
        notes.append(f"nothing was scored: {why_unscored(done, plan, records)}")
    notes = list(dict.fromkeys(notes))  # TEST may be the sample too
    write_summary(out / "summary.json", summary)
    tell(0.97, "drawing the report")
    report = Report(
        title=f"anomalyd: {test.name}",
        source=f"{test.name}" + (f", learned from {train.name}" if train else ""),
        summary=summary,
        traces=traces_of(done.blocks, kept, plan.spec, detector.threshold if detector else float("nan")),
        events=kept.alerts,
        drift=kept.drifts,
        quality={f.name: quality(f) for f in figures},
        notes=notes,
    )
    with replacing(out / "report.html") as temporary:
        temporary.write_text(report_html(report), encoding="utf-8")
    tell(1.0, "done")
    refuse_late(test, records, plan)
    return Replayed(summary, figures, notes)


def audited_of(stream: StreamRun) -> dict[str, Any] | None:
    """How readings were filled in that were hidden from the last model; None where none were."""
    if stream.tallies is None:
        return None
    return {
        "one_in": stream.plan.audit,
        "sensors": [asdict(one) for one in stream.tallies.all(gaps=True)],
    }


def time_notes(done: ReplayRun, table: Table | None, kept: ReplaySink, plan: StreamPlan) -> list[str]:
    """What an operator should know of the times in a file."""
    notes = []
    if isinstance(done.source, TableSource) and (names := done.source.reordered):
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        notes.append(f"the rows of {shown} are in no order of time; they were taken by their time")
    if kept.ahead:
        line, when = kept.ahead[0]
        what = "row" if isinstance(done.source, TableSource) else "line"
        notes.append(
            f"refused as `future`, for being dated far ahead: {len(kept.ahead)} {what}(s);"
            f" the first is {what} {line} (the first of all is 0), {when}"
        )
    late = sum(pipeline.counts[Disposition.LATE] for pipeline in done.stream.pipelines.values())
    if late:
        notes.append(
            f"{late:,} records came too late to be judged: more than {span(plan.spec.allowed_lateness_ns)}"
            " (allowed_lateness) behind a younger one of their asset"
        )
    zoneless = done.stream.decoder.zoneless if table is None else table.zoneless
    return notes + zone_notes(zoneless, plan.spec)


def zone_notes(zoneless: int, spec: StreamSpec) -> list[str]:
    """A note on times that name no zone, unless the stream says which one they are in."""
    if not zoneless or spec.timezone is not None:
        return []
    return [f"times name no zone and are read as UTC; streams.{spec.name}.timezone says another"]


def refuse_late(test: Path, records: Mapping[str, int], plan: StreamPlan) -> None:
    """A file that is mostly late was not judged, whatever its report shows.

    Raises:
        InputError: more than a third of its records came too late to be judged.
    """
    late, read = records[Disposition.LATE], sum(records.values())
    if 3 * late > read:
        raise InputError(
            f"{test}: {late:,} of {read:,} records are late: when they come, their asset has a record that is"
            f" more than {span(plan.spec.allowed_lateness_ns)} (allowed_lateness) younger. Sort the file by"
            f" time, or allow more with --set streams.{plan.spec.name}.allowed_lateness=..."
        )


def why_unscored(done: ReplayRun, plan: StreamPlan, records: Mapping[str, int]) -> str:
    """What kept every row from a score, as far as the input shows it."""
    (pipeline,) = done.stream.pipelines.values()
    read = sum(records.values())
    unused = {d: records[d] for d in (Disposition.LATE, Disposition.DUPLICATE, Disposition.REJECTED)}
    said = ", ".join(f"{count} {what}" for what, count in unused.items() if count)
    aside = f" ({said} of {read} records)" if said else ""
    if not records[Disposition.ACCEPTED]:
        return f"no record could be used{aside}"
    if done.stream.detector is None:
        return (
            f"{pipeline.observed_rows} rows, and model.learn_rows is {plan.learn_rows};"
            f" give --train, --model, or --set model.learn_rows=N{aside}"
        )
    spec = plan.spec
    observed: dict[str, list[int]] = {}
    for block in done.blocks:
        some = np.isfinite(block.values).any(axis=1)
        for i in np.flatnonzero(some).tolist():
            observed.setdefault(block.assets[i], []).append(int(block.rows[i]))
    if not observed:
        return f"no row holds a value of {', '.join(spec.sensors[:5])}{aside}"
    most = max(map(len, observed.values()))
    steps = np.concatenate([np.diff(rows) for rows in observed.values()])
    apart = int(np.median(steps)) if len(steps) else 1
    why = (
        f"the model judges windows of {spec.window} rows of {span(spec.period_ns)}, and no asset has enough of"
        f" them in a row (at most {most} in all)"
    )
    if apart > 1:
        why += f"; the readings are {span(apart * spec.period_ns)} apart"
    return why + aside


async def once(
    test: Path,
    table: Table | None,
    plan: StreamPlan,
    bundle: Bundle | None,
    before: Sequence[tuple[str, int, Floats]],
    sink: ReplaySink | Discarded,
    tell: Progress,
) -> ReplayRun:
    """Run the loop over the file."""
    start_ns = time.time_ns()
    source = (
        LinesSource(test, start_ns, keep_bytes=max(KEPT_BYTES, plan.max_record_bytes + 1))
        if table is None
        else TableSource(table, plan.spec, start_ns)
    )
    stream = StreamRun(plan, scores=True, trace=table is not None)
    stream.bundle = None if bundle is None else bundle.to_bytes()
    carried = TrainTailSource(source, plan.spec, before)
    done = ReplayRun(stream, source, carried.line_of)
    if isinstance(sink, ReplaySink):
        sink.line_of = carried.line_of
        if isinstance(source, LinesSource):
            sink.oversized = source.oversized

    def watch(run: StreamRun, step: Step) -> None:
        if step.block is not None and not step.silent:
            done.blocks.append(step.block)
            done.totals["rows"] += len(step.block.rows)
            done.totals["filled"] += step.filled
            done.totals["scored"] += step.scored
        share = 0.5 + 0.45 * source.read / max(source.total, 1)
        if run.trainer.busy:
            tell(share, f"training: {run.trainer.doing}")
        else:
            tell(share, "scoring" if run.detector is not None else "learning")

    loop = Loop(
        carried,
        sink,
        [stream],
        Reporter(Metrics([plan.spec.name], [test.name]), Status([plan.spec.name])),
        options=LoopOptions(hold=Hold.ALWAYS, watch=watch),
    )
    began = time.monotonic()
    await loop.run()
    trained = sum(outcome.seconds for outcome in stream.outcomes)
    done.totals["milliseconds"] = int(1e3 * max(time.monotonic() - began - trained, 0.0))
    return done


class Discarded:
    """A sink for a pass of which only the scores are wanted."""

    def __init__(self) -> None:
        self.scored: dict[tuple[str, int], ScoredRow] = {}

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        for output in outputs:
            if isinstance(output, ScoredRow):
                self.scored[output.asset, output.row_ns] = output


async def carried_rows(
    test: Path, table: Table | None, plan: StreamPlan, history: Sequence[Segment]
) -> list[tuple[str, int, Floats]]:
    """What TEST's first windows may reach back to: see ``tails``."""
    if not history:
        return []
    first = await first_rows_of_lines(test, plan) if table is None else first_rows_of_table(table, plan.spec)
    return tails(history, first, plan.spec.window)


# ------------------------------------------------------------------ what is written
def columns_of(
    table: Table | None, done: ReplayRun, scored: Mapping[tuple[str, int], ScoredRow], spec: StreamSpec
) -> dict[str, Any]:
    """The columns of ``scores.parquet``: a table's rows; of lines, the grid's rows by asset and time."""
    (pipeline,) = done.stream.pipelines.values()
    period = spec.period_ns
    keys: list[tuple[str, int] | None]
    if table is not None:
        traced: dict[int, Traced] = {done.line_of(t.offset): t for t in pipeline.parts.ingest.trace or ()}
        keys = []
        for i in range(len(table)):
            entry = traced.get(i)
            taken = entry is not None and entry.disposition is Disposition.ACCEPTED
            keys.append((entry.asset, entry.row * period) if taken and entry is not None else None)
        assets: Sequence[str] = table.assets.tolist()
        times = table.time_ns
    else:
        grid = sorted(
            (asset, row)
            for block in done.blocks
            for asset, row in zip(block.assets, block.rows.tolist(), strict=True)
        )
        keys = [(asset, row * period) for asset, row in grid]
        assets = [asset for asset, _ in grid]
        times = np.array([row * period for _, row in grid], dtype=np.int64)
    found = [scored.get(key) if key is not None else None for key in keys]

    def column(name: str) -> Floats:
        return np.array([np.nan if row is None else getattr(row, name) for row in found], dtype=np.float64)

    return {
        "asset": assets,
        "time_ns": times,
        **{name: column(name) for name in ("score", "reconstruction", "kl", "point", "elbo")},
        "alarm": np.array([row is not None and row.alarm for row in found], dtype=bool),
        "model": ["" if row is None else row.model for row in found],
    }


MOST_CELLS = 20_000_000
"""Cells of the input that the report's charts are drawn from; a larger input shows its first assets."""


def traces_of(
    blocks: Sequence[RowBlock], kept: ReplaySink, spec: StreamSpec, threshold: float
) -> list[AssetTrace]:
    """Per asset what the report draws."""
    index: dict[str, list[tuple[int, int]]] = {}
    for b, block in enumerate(blocks):
        for i, asset in enumerate(block.assets):
            index.setdefault(asset, []).append((b, i))
    fills: dict[str, list[FilledRow]] = {}
    for row in kept.filled:
        fills.setdefault(row.asset, []).append(row)
    sensors = {name: c for c, name in enumerate(spec.sensors)}
    traces: list[AssetTrace] = []
    cells = 0
    for asset, places in index.items():
        cells += len(places) * len(sensors)
        if cells > MOST_CELLS and traces:
            break
        rows = np.array([blocks[b].rows[i] for b, i in places])
        values = np.array([blocks[b].values[i] for b, i in places])
        filled, low, high = (np.full(values.shape, np.nan) for _ in range(3))
        at = {int(row): t for t, row in enumerate(rows)}
        for fill in fills.get(asset, ()):
            t = at.get(fill.row_ns // spec.period_ns)
            for name, cell in fill.cells.items() if t is not None else ():
                filled[t, sensors[name]] = cell.value
                low[t, sensors[name]] = cell.low
                high[t, sensors[name]] = cell.high
        traces.append(
            AssetTrace(
                stream=spec.name,
                asset=asset,
                times_ns=rows * spec.period_ns,
                scores=np.array([blocks[b].scores[i] for b, i in places]),
                alarms=np.array([blocks[b].firing[i] for b, i in places]),
                threshold=threshold,
                sensors=spec.sensors,
                values=values,
                filled=filled,
                low=low,
                high=high,
            )
        )
    return traces


# ------------------------------------------------------------------ labels
async def compared(
    test: Path,
    label: str,
    table: Table,
    plan: StreamPlan,
    history: Sequence[Segment],
    before: Sequence[tuple[str, int, Floats]],
    columns: Mapping[str, Any],
) -> list[evaluation.Figures]:
    """Ours beside pPCA on the same rows, random, all-ones and time-only.

    Raises:
        InputError: TEST has no such column.
    """
    marked = read_table(test, [])
    if label not in marked.sensors:
        raise InputError(f"{test}: has no numeric column {label!r} to compare with")
    labels = np.nan_to_num(marked.values[:, marked.sensors.index(label)]) > 0
    linear = replace(plan, model=replace(plan.model, kind="ppca"))
    bundle = train_on(linear, history, None) if history else None
    sink = Discarded()
    done = await once(test, table, linear, bundle, before, sink, lambda share, doing: None)
    other = columns_of(table, done, sink.scored, plan.spec)
    return evaluation.table(
        labels,
        columns["score"],
        columns["alarm"],
        plan.spec.period_ns,
        [("pPCA", other["score"], other["alarm"])],
    )


def quality(figures: evaluation.Figures) -> dict[str, float]:
    """A line of the table as the report shows it."""
    return {
        "AP": figures.average_precision,
        "F1": figures.f1,
        "precision": figures.precision,
        "recall": figures.recall,
        "false alarms %": 100 * figures.false_alarm_share,
        "false episodes / day": figures.false_per_day,
        "events found": float(figures.events_found),
        "events": float(figures.events),
    }


# ------------------------------------------------------------------ train, impute
async def train_files(
    files: Sequence[Path],
    out: Path,
    *,
    config: Path | None = None,
    sets: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stream_name: str | None = None,
    progress: Progress | None = None,
) -> tuple[Bundle, list[str]]:
    """Fit and calibrate on files, in the order given, and save the bundle as the directory ``out``.

    Raises:
        DaemonError: unreadable input, too little of it, or ``out`` cannot be written.
    """
    check_room(out)
    check_excluded(exclude, files)
    settings, notes = settings_for(config, sets, files[0], exclude, None)
    plan = plan_for(settings, stream_name, files[0].name)
    history = [segment for path in files for segment in await history_of(path, plan, exclude)]
    bundle = train_on(plan, history, progress)
    bundle.save(out)
    return bundle, [*dict.fromkeys(notes), *bundle.concerns]


async def train_topics(
    settings: Settings,
    connection: kafka.KafkaSettings,
    out: Path,
    *,
    stream_name: str | None = None,
    with_alarms: bool = False,
    progress: Progress | None = None,
) -> tuple[Bundle, list[str]]:
    """Fit and calibrate on what a stream's input topics hold now, and save the bundle.

    The newest rows matter: ``retrain.rows`` of them, or ``model.learn_rows`` if that is more, by
    event time over all partitions. No group is joined and nothing is committed.

    Args:
        with_alarms: learn what the alerts topic names as well: a new regime, for instance, that alarms
            since it began and is to be normal from now on.

    Raises:
        DaemonError: no broker, no topic, too few rows, or ``out`` cannot be written.
    """
    tell = progress or (lambda share, doing: None)
    check_room(out)
    plan = plan_of(settings, stream_name)
    history = TopicHistory(
        connection,
        plan.spec,
        max(plan.retrain_rows, plan.learn_rows),
        alerts=None if with_alarms else await alerts_topic(settings, connection),
        max_record_bytes=plan.max_record_bytes,
        max_asset_bytes=plan.max_asset_bytes,
        max_assets=plan.max_assets,
    )
    found = await history.found(tell)
    rows = sum(len(s.values) for s in found.segments)
    unused = ", ".join(f"{n} {what}" for what, n in found.unused.items())
    notes = [
        f"learned from {rows} rows of {', '.join(plan.spec.topics)}, {found.records} records read"
        + (f" ({unused})" if unused else "")
    ]
    if found.left_out:
        notes.append(f"{found.left_out} values of rows that {history.alerts} names were left out")
    notes += found.notes
    bundle = train_on(
        plan, found.segments, lambda share, doing: tell(0.3 + 0.7 * share, f"training: {doing}")
    )
    bundle.save(out)
    return bundle, [*notes, *bundle.concerns]


async def alerts_topic(settings: Settings, connection: kafka.KafkaSettings) -> str | None:
    """The topic that names what must not be learned; None while there is none yet."""
    name = f"{settings.outputs.prefix}.alerts"
    (state,) = await kafka.topic_states(connection, [kafka.TopicSpec(name)])
    return name if state.partitions else None


@dataclass(frozen=True, slots=True)
class Imputed:
    """What ``impute`` did."""

    rows: int
    cells: int
    model: str
    notes: list[str]
    draws: int = 0  # of every cell
    draws_file: str | None = None


async def impute_file(
    file: Path,
    out: Path,
    *,
    train: Path | None = None,
    model: Path | None = None,
    config: Path | None = None,
    sets: Sequence[str] = (),
    exclude: Sequence[str] = (),
    stream_name: str | None = None,
    draws: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Imputed:
    """Fill every gap of a table, from both of its sides, and mark what was filled.

    What relates the sensors to each other is learned from ``train``, taken from ``model``, or
    else learned from the file itself.

    Args:
        draws: if any, so many joint draws of every gap go to ``<out>.draws.parquet``, and the intervals
            are those of what is drawn from; see ``daemon.model.draws``.
        seed: of the draws.
        progress: told how far the draws are.

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit.
    """
    if is_lines(file):
        raise InputError(f"{file}: impute works on Parquet and CSV; replay fills JSON Lines")
    if out.resolve() in {file.resolve(), train.resolve() if train is not None else None}:
        raise InputError(f"{out}: --out would overwrite an input; name another file")
    check_table_name(out)
    check_place(out)
    check_excluded(exclude, [train, file] if train is not None else [file])
    bundle = Bundle.load(model) if model is not None else None
    settings, notes = settings_for(config, sets, train or file, exclude, bundle)
    plan = plan_for(settings, stream_name, file.name)
    spec = plan.spec
    table = read_table(file, exclude, spec.condition, spec.timezone)
    notes += [*table.notes, *zone_notes(table.zoneless, spec)]
    placed = place(table, spec, compress_gaps=True)
    history: Sequence[Segment] = ()
    if bundle is not None:
        check_compatible(bundle, spec)
        if bundle.imputation is None:
            raise BundleError(f"{model}: model {bundle.version} holds nothing to impute with")
        parameters = bundle.imputation
        version = bundle.version
    else:
        history = placed.segments if train is None else await history_of(train, plan, exclude)
        if not history:
            raise InputError(f"{train or file}: holds no usable rows to learn from")
        scaler = Scaler.fit([segment.values for segment in history], spec.ranges)
        parameters = fit(history, scaler.mean, scaler.scale, spec.window)
        version = "none"
    fills = impute_segments(parameters, placed.segments)
    usable = np.flatnonzero(placed.segment >= 0)
    columns = [spec.sensors.index(name) if name in spec.sensors else -1 for name in table.sensors]
    value, low, high = (np.full(table.values.shape, np.nan) for _ in range(3))
    for i in usable.tolist():
        fill, t = fills[placed.segment[i]], placed.row[i]
        for c, at in enumerate(columns):
            if at >= 0:
                value[i, c], low[i, c], high[i, c] = fill.value[t, at], fill.low[t, at], fill.high[t, at]
    gaps = np.isnan(table.values) & np.isfinite(value)
    drawn: Path | None = None
    if draws:
        drawn = out.with_name(out.name + ".draws.parquet")
        known = history if train is not None else ()
        write_draws(
            drawn, parameters, placed, fills, table, gaps, columns, (low, high), draws, seed, known, progress
        )
    write_filled_table(table, np.where(gaps, value, np.nan), out)
    where, which = np.nonzero(gaps)
    with ImputedFile(out.with_name(out.name + ".filled.parquet")) as filled:
        assets = table.assets
        cells = ImputedCells(
            asset=[str(assets[i]) for i in where],
            time_ns=table.time_ns[where],
            sensor=[table.sensors[c] for c in which],
            value=value[gaps],
            low=low[gaps],
            high=high[gaps],
            method=["field"] * len(where),
            model=[version] * len(where),
        )
        filled.add_cells(cells)
    left = int((np.isnan(table.values) & ~gaps).sum())
    if left:
        notes.append(
            f"{left} cells stay empty: their row has no usable time, or their sensor was never observed"
        )
    noted = list(dict.fromkeys(notes))
    return Imputed(len(table), len(where), version, noted, draws, None if drawn is None else str(drawn))


def write_draws(
    path: Path,
    parameters: ImputationParameters,
    placed: Placement,
    fills: Sequence[Fill],
    table: Table,
    gaps: Mask,
    columns: Sequence[int],
    interval: tuple[Floats, Floats],
    count: int,
    seed: int,
    known: Sequence[Segment],
    progress: Progress | None,
) -> None:
    """Draw the filled cells of a table, write the draws, and put their intervals in the place of the margins.

    Args:
        gaps: (N, S) the table's filled cells.
        columns: of the table's S sensors, their places among the stream's; -1 for who has none.
        interval: low and high (N, S), changed where there are draws.
    """
    wanted = [np.zeros(s.values.shape, bool) for s in placed.segments]
    line, column = np.nonzero(gaps)
    place = np.array(columns)[column]
    segment, row = placed.segment[line], placed.row[line]
    for s, mask in enumerate(wanted):
        mine = segment == s
        mask[row[mine], place[mine]] = True
    # Several lines of a file may speak of one cell: each is told its draws.
    order = np.lexsort((place, row, segment))
    widest = len(parameters.mean)
    offsets = np.cumsum([0, *(len(s.values) for s in placed.segments)])
    keys = ((offsets[segment] + row) * widest + place)[order]
    low, high = interval
    tell = progress or (lambda share, doing: None)
    names = np.array(table.sensors, dtype=object)
    with DrawsFile(path) as file:
        gapped = [GappedSegment(*one) for one in zip(placed.segments, fills, wanted, strict=True)]
        settings = DrawSettings(count, seed)
        for drawn in draw(parameters, gapped, settings, known, lambda share: tell(share, "drawing")):
            mine = (offsets[drawn.segment] + drawn.rows) * widest + drawn.channels
            first, last = np.searchsorted(keys, mine), np.searchsorted(keys, mine, side="right")
            which = np.repeat(np.arange(len(mine)), last - first)
            at = np.arange(len(which)) - np.repeat(np.cumsum(last - first) - last, last - first)
            cells = order[at]
            lines, sensors = line[cells], column[cells]
            low[lines, sensors], high[lines, sensors] = drawn.low[which], drawn.high[which]
            file.add(
                asset=table.assets[lines],
                time_ns=table.time_ns[lines],
                sensor=names[sensors],
                values=drawn.values[which],
            )
