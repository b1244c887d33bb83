"""What a replay leaves: outputs in files, columns of scores.parquet, summary.json, traces of the report.

In: the outputs of a pass (``ReplaySink``) and the pass itself (``ReplayRun``). Out: values that ``replay``
writes. Messages carry the lines of the file instead of offsets, and event time instead of the wall clock: the
same file gives the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import msgspec
import numpy as np

from daemon.adapters.files import (
    ImputedFile,
    JsonLines,
    LinesSource,
    Table,
    dead_letter,
)
from daemon.adapters.report import AssetTrace, FoldedEpisode, folded
from daemon.commands.accounting import as_json
from daemon.commands.carry import TrainTailSource
from daemon.commands.one_pass import ReplayRun
from daemon.commands.realised import realised_of
from daemon.commands.train import about
from daemon.domain import (
    SECOND_NS,
    AlertEvent,
    DeadLetter,
    Disposition,
    DriftRecord,
    FilledRow,
    Floats,
    Output,
    Phase,
    Reason,
    Rejected,
    ScoredRow,
    StreamSpec,
    instant,
    iso,
)
from daemon.model import evaluation
from daemon.model.bundle import Bundle
from daemon.runtime.stream_run import StreamRun
from daemon.stream.encoding import encode
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import RowBlock
from daemon.stream.summaries import lasted_ns, lasting


class ReplaySink:
    """A ``FileSink`` that writes the outputs to files, and keeps those that the report shows.

    Offsets of the source become lines of the file in what is written.
    """

    def __init__(self, imputed: ImputedFile, alerts: JsonLines, drift: JsonLines, dead: JsonLines) -> None:
        self.scored: dict[tuple[str, int], ScoredRow] = {}
        self.alerts: list[AlertEvent] = []
        self.filled: list[FilledRow] = []
        self.drifts: list[DriftRecord] = []
        self.ahead: list[tuple[int, str]] = []  # lines rejected as ``future``, and their times
        self.refusal = ""  # the first reason, with what was found
        self._imputed_file, self._alerts_file, self._drift_file = imputed, alerts, drift
        self._dead_letter_file = dead
        self._oversized: Mapping[int, Any] = {}
        self._line_of: Callable[[int], int] = lambda offset: offset

    def attach(self, source: TrainTailSource) -> None:
        """See ``FileSink``."""
        self._line_of = source.line_of
        if isinstance(source.inner, LinesSource):
            self._oversized = source.inner.oversized

    def reject(self, rejected: Rejected) -> None:
        """Write a dead letter for a row that the source of a table rejected."""
        self.refusal = self.refusal or _said(rejected)
        self._dead_letter_file.write(dead_letter(rejected))
        if rejected.reason is Reason.FUTURE:
            self.ahead.append((rejected.record.offset, rejected.detail.split(" ")[0]))

    async def publish(self, outputs: Sequence[Output]) -> None:
        """See ``ports.Sink``."""
        for output in outputs:
            match output:
                case ScoredRow():
                    self.scored[output.asset, output.row_ns] = output
                case FilledRow():
                    self._imputed_file.add(output)
                    self.filled.append(output)
                case AlertEvent():
                    output = replace(
                        output,
                        first_offset=self._line_of(output.first_offset),
                        last_offset=self._line_of(output.last_offset),
                    )
                    # Published at event time, not by the wall clock: the same file gives the same bytes.
                    self._alerts_file.write(encode(output, instant(output.row_ns)).value)
                    self.alerts.append(output)
                case DriftRecord():
                    self._drift_file.write(encode(output, instant(output.end_ns)).value)
                    self.drifts.append(output)
                case DeadLetter():
                    record = output.rejected.record
                    line = msgspec.structs.replace(record, offset=self._line_of(record.offset))
                    self.refusal = self.refusal or _said(output.rejected)
                    if output.rejected.reason is Reason.FUTURE:
                        self.ahead.append((line.offset, output.rejected.detail.split(" ")[0].strip("'")))
                    self._dead_letter_file.write(
                        dead_letter(replace(output.rejected, record=line), self._oversized)
                    )


def _said(rejected: Rejected) -> str:
    return f"{rejected.reason.value}, {rejected.detail}"


def summary_of(
    done: ReplayRun,
    kept: ReplaySink,
    judged_by: Bundle | None,
    figures: Sequence[evaluation.Figures],
    seconds: float,
) -> dict[str, Any]:
    """What summary.json holds.

    Args:
        done: the pass.
        kept: its outputs.
        judged_by: the model at its end; None: the pass ended before one was trained.
        figures: the comparison with labels; empty without labels.
        seconds: of the whole command.
    """
    stream, pipeline = done.stream, done.pipeline
    opened = [alert for alert in kept.alerts if alert.phase is Phase.OPENED]
    detector = stream.detector
    return {
        **as_json(done.counts),
        "rows": done.totals["rows"],
        "scored": done.totals["scored"],
        "filled": done.totals["filled"],
        "episodes": len(opened),
        "alerts": [
            alert_entry(one, newest_ns(one.last, pipeline)) for one in folded(kept.alerts)[:ALERTS_LISTED]
        ],
        "episodes_budgeted": round(stream.budgeted, 3),
        "episodes_by_kind": dict(sorted(Counter(str(alert.kind) for alert in opened).items())),
        "episodes_suppressed": sum(alert.phase is Phase.SUPPRESSED for alert in kept.alerts),
        "episodes_of_several_kinds": len({a.fingerprint for a in kept.alerts if len({a.kind, *a.kinds}) > 1}),
        "budget": realised_of(kept.alerts, done.blocks, stream.plan, stream.calibrated_assets),
        "conflicts": pipeline.parts.ingest.grid.conflicts,
        "unknown_sensors": dict(sorted(done.unknown_sensors.items())),
        "dropped": dict(sorted(pipeline.dropped.items())),
        "models": stream.versions,
        "model": None if judged_by is None else {**about(judged_by), "concerns": list(judged_by.concerns)},
        "trainings": [
            {"version": o.version, "promoted": o.promoted, "reason": o.reason, "rows": o.rows}
            for o in stream.outcomes
        ],
        "threshold": None if detector is None else detector.threshold,
        "closing": None if detector is None else detector.closing,
        "calibration": None if detector is None else detector.calibration,
        "quality": {f.name: {"AP": f.average_precision, "F1": f.f1} for f in figures},
        "imputation_audit": audited_of(stream),
        "rows_per_second": round(done.totals["rows"] / max(done.totals["milliseconds"] / 1e3, 1e-9), 1),
        "seconds": round(seconds, 3),
    }


ALERTS_LISTED = 200
"""Alerts that summary.json has one by one, the first; alerts.jsonl has all of their messages."""


def newest_ns(event: AlertEvent, pipeline: Pipeline) -> int:
    """The newest row of an alert's asset, up to which it lasts if it is open; of one of no asset its last message's."""
    slot = pipeline.parts.assets.slots.get(event.asset)
    return (
        event.row_ns
        if slot is None
        else int(pipeline.parts.ingest.grid.newest[slot]) * pipeline.spec.period_ns
    )


def alert_entry(episode: FoldedEpisode, now_ns: int) -> dict[str, Any]:
    """What summary.json has of one alert: what it was, since when, how long and how bad, with the last sentence on it.

    One that is open lasts up to ``now_ns``.
    """
    last = episode.last
    lasted = lasted_ns(last, now_ns)
    blamed = [each.sensor for each in last.contributors or episode.worst.contributors]
    sensors = dict.fromkeys([*([last.sensor] if last.sensor else []), *blamed, *last.sensors])
    return {
        "fingerprint": last.fingerprint,
        "asset": last.asset,
        "kind": str(last.kind),
        "kinds": [str(kind) for kind in last.kinds],
        "severity": str(episode.severity),
        "onset": iso(last.onset_ns),
        "opened": iso(last.opened_ns),
        "closed": iso(last.row_ns) if last.phase is Phase.CLOSED else None,
        "quiet": last.quiet,
        "seconds": lasted / SECOND_NS,
        "lasted": lasting(lasted),
        "sensors": list(sensors),
        "summary": last.summary,
    }


def audited_of(stream: StreamRun) -> dict[str, Any] | None:
    """The error of the fills of readings that were hidden from the last model; None without any."""
    if stream.tallies is None:
        return None
    return {
        "one_in": stream.plan.audit,
        "sensors": [asdict(one) for one in stream.tallies.all(gaps=True)],
    }


def columns_of(
    table: Table | None, done: ReplayRun, scored: Mapping[tuple[str, int], ScoredRow], spec: StreamSpec
) -> dict[str, Any]:
    """The columns of ``scores.parquet``: a table's rows; of lines, the grid's rows by asset and time.

    Of a long table these are the rows that are put together of it, one for each asset and time.
    """
    period = spec.period_ns
    keys: list[tuple[str, int] | None]
    if table is not None:
        row_of = table.rows_of_lines
        keys = [None] * len(table)
        latest = {entry.offset: entry for entry in done.pipeline.parts.ingest.trace or ()}
        for offset, entry in latest.items():
            line = done.source.line_of(offset)
            if line >= 0 and entry.disposition is Disposition.ACCEPTED:
                keys[row_of[line]] = entry.asset, entry.row * period
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
"""Cells of the input that the report draws; of a larger input it draws the first assets."""


def traces_of(
    blocks: Sequence[RowBlock], kept: ReplaySink, spec: StreamSpec, threshold: float
) -> list[AssetTrace]:
    """What the report draws of each asset.

    Args:
        blocks: the released rows.
        kept: the outputs, of which the fills are drawn.
        spec: of the stream.
        threshold: of the model at the end; NaN if there was none.
    """
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
