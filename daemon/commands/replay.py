"""``anomalyd replay``: run the pipeline of ``run`` over a file, and write what it finds into a directory.

In: ``ReplayOptions`` (TEST, and optionally TRAIN, a bundle, labels). Out: ``Replayed``, and in the directory
scores.parquet, imputed.parquet, alerts.jsonl, drift.jsonl, dead-letter.jsonl, summary.json and report.html.
The steps: settings and bundle (``derive``, ``train``), TRAIN's last rows (``carry``), the loop over
the file (``one_pass``), its results (``results``, ``labels``, ``replay_notes``). The same file, settings and
model give the same bytes, but for the seconds in the summary.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from daemon.adapters.files import (
    ImputedFile,
    JsonLines,
    ScoreColumns,
    check_place,
    column_names,
    first_lines,
    is_lines,
    replacing,
    write_scores,
    write_summary,
)
from daemon.adapters.report import Report, report_html
from daemon.commands.accounting import account_lines, corrupt_lines, misspelt_lines
from daemon.commands.carry import carried_rows
from daemon.commands.derive import check_excluded, plan_for, settings_for
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions, no_progress, table_of
from daemon.commands.labels import compared, quality
from daemon.commands.one_pass import FileToJudge, ReplayRun, run_over_file
from daemon.commands.realised import realised_lines
from daemon.commands.replay_notes import refuse_late, time_notes, why_unscored
from daemon.commands.results import ReplaySink, columns_of, summary_of, traces_of
from daemon.commands.train import habit_notes, train_on
from daemon.domain import Progress, Segment
from daemon.errors import DaemonError, UsageError
from daemon.model import evaluation
from daemon.model.bundle import Bundle
from daemon.runtime.compatibility import check_compatible, other_budgets, other_conditions
from daemon.runtime.stream_run import StreamPlan

RESULTS = (
    "scores.parquet",
    "imputed.parquet",
    "alerts.jsonl",
    "drift.jsonl",
    "dead-letter.jsonl",
    "summary.json",
    "report.html",
)
"""The files that a replay writes into its directory."""


@dataclass(frozen=True, slots=True)
class ReplayOptions(FileOptions):
    """What ``replay`` is given. Without ``train`` and ``model``, the first ``learn_rows`` rows are learned."""

    test: Path  # Parquet, CSV or JSON Lines
    out: Path  # a directory, made if missing; its files are replaced
    train: Path | None = None  # a file to learn from first
    model: Path | None = None  # a bundle to judge with
    label: str | None = None  # a column of TEST, 1 where something was wrong; only compared with

    @property
    def hidden(self) -> list[str]:
        """Columns that are no sensors, the label among them."""
        return [*self.exclude, *([self.label] if self.label else [])]


@dataclass(slots=True, eq=False)
class Replayed:
    """The results of a replay: what summary.json holds, the comparison with the labels, and notes."""

    summary: dict[str, Any]
    figures: list[evaluation.Figures] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)  # what became of records and cells, a line each


async def replay(options: ReplayOptions, progress: Progress = no_progress) -> Replayed:
    """Run the pipeline over a file and write the results.

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit.
    """
    began = time.monotonic()
    _check_files(options)
    _check_columns(options)
    file, history, notes = await _prepared(options, progress)
    plan, table = file.plan, file.table
    kept, done = await _judged(options.out, file, progress)
    columns = columns_of(table, done, kept.scored, plan.spec)
    write_scores(options.out / "scores.parquet", ScoreColumns(**columns))
    judged_by = None if done.stream.bundle is None else Bundle.from_bytes(done.stream.bundle)
    if judged_by is not None:
        about = [*habit_notes(judged_by), *judged_by.concerns]
        notes += [f"model {done.stream.versions[-1]}: {line}" for line in about]
    figures = []
    if options.label is not None and table is not None:
        progress(0.95, "comparing with the labels")
        figures = await compared(file, options.label, history, columns)
    summary = summary_of(done, kept, judged_by, figures, time.monotonic() - began)
    seen = np.any(
        [np.zeros(len(plan.spec.sensors), bool), *(np.isfinite(b.values).any(0) for b in done.blocks)], axis=0
    )
    notes += misspelt_lines(plan.spec, seen, done.unknown_sensors)
    if table is None:  # a table's notes say it
        notes += corrupt_lines(done.counts.corrupt)
    notes += time_notes(done, table, kept, plan)
    if not done.totals["scored"]:
        notes.append(f"nothing was scored: {why_unscored(done, plan, kept.refusal)}")
    accounts = account_lines(done.counts, done.unknown_sensors)
    result = Replayed(summary, figures, list(dict.fromkeys(notes)), accounts)  # TEST may be the sample too
    write_summary(options.out / "summary.json", summary)
    progress(0.97, "drawing the report")
    _write_report(options, plan, done, kept, result)
    progress(1.0, "done")
    refuse_late(options.test, done.records, plan)
    return result


def _check_files(options: ReplayOptions) -> None:
    """Make the directory of the results, and look at TEST: a training may take minutes.

    Raises:
        DaemonError: TEST cannot be read, or a result cannot be written.
    """
    if is_lines(options.test):
        first_lines(options.test, 1)
    else:
        column_names(options.test)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DaemonError(f"{options.out}: cannot be made: {error.strerror}") from error
    for name in RESULTS:
        check_place(options.out / name)


def _check_columns(options: ReplayOptions) -> None:
    """Reject columns that do not exist, before anything is read whole.

    Raises:
        UsageError: no such column, or labels of a file that has no columns.
    """
    train, test, label = options.train, options.test, options.label
    check_excluded(options.exclude, [train, test] if train is not None else [test])
    if label is not None:
        if is_lines(test):
            raise UsageError(
                f"--label {label}: {test} is JSON Lines; labels are read from Parquet and CSV only"
            )
        check_excluded([label], [test], "--label")


async def _prepared(
    options: ReplayOptions, progress: Progress
) -> tuple[FileToJudge, Sequence[Segment], list[str]]:
    """Settings, directory, TRAIN, model and TEST: what is judged, by what, TRAIN's rows, and notes."""
    train, test, model, hidden = options.train, options.test, options.model, options.hidden
    bundle = Bundle.load(model) if model is not None else None
    cold = train is None and model is None
    settings, notes = settings_for(replace(options, exclude=hidden), train or test, bundle, cold=cold)
    plan = plan_for(settings, options.stream_name, test.name)
    if train is not None and model is not None:
        notes.append(
            f"{model.name} judges: of {train.name} only the last rows count, where {test.name} goes on"
        )
    if bundle is not None and (difference := other_conditions(bundle, plan.spec)):
        notes.append(f"model {bundle.version}: {difference}")
    if (train or model) and not any(text.partition("=")[0] == "retrain.every" for text in options.sets):
        plan = replace(plan, retrain_every=None)
    if bundle is not None:
        check_compatible(bundle, plan.spec)
        if difference := other_budgets(bundle, plan.budget, plan.deviation_budget):
            notes.append(f"model {bundle.version}: {difference}")
    # TEST is read before anything is learned: it may be damaged, or of another stream.
    table = None if is_lines(test) else table_of(test, plan.spec, hidden, options.reading)
    history: list[Segment] = []
    if train is not None:
        progress(0.0, f"reading {train.name}")
        history = await history_of(train, plan, hidden, options.reading)
    if bundle is None and train is not None:
        bundle = train_on(plan, history, lambda share, doing: progress(share * 0.5, f"training: {doing}"))
        if bundle.window != plan.spec.window:
            notes.append(f"{train.name} is short: windows of {bundle.window} rows, not {plan.spec.window}")
            plan = replace(plan, spec=replace(plan.spec, window=bundle.window))
    if table is not None:
        notes += list(table.notes)
    before = await carried_rows(test, table, plan, history)
    return FileToJudge(test, table, plan, bundle, before), history, notes


async def _judged(out: Path, file: FileToJudge, progress: Progress) -> tuple[ReplaySink, ReplayRun]:
    """Run the loop over TEST, and write its outputs as they come."""
    with (
        ImputedFile(out / "imputed.parquet") as imputed,
        JsonLines(out / "alerts.jsonl") as alerts,
        JsonLines(out / "drift.jsonl") as drift,
        JsonLines(out / "dead-letter.jsonl") as dead,
    ):
        kept = ReplaySink(imputed, alerts, drift, dead)
        done = await run_over_file(file, kept, progress)
        for rejected in done.rejected:
            kept.reject(rejected)
    return kept, done


def _write_report(
    options: ReplayOptions, plan: StreamPlan, done: ReplayRun, kept: ReplaySink, result: Replayed
) -> None:
    """Write report.html."""
    test, train, detector = options.test, options.train, done.stream.detector
    report = Report(
        title=f"anomalyd: {test.name}",
        source=f"{test.name}" + (f", learned from {train.name}" if train else ""),
        summary=result.summary,
        traces=traces_of(done.blocks, kept, plan.spec, detector.threshold if detector else float("nan")),
        events=kept.alerts,
        drift=kept.drifts,
        quality={f.name: quality(f) for f in result.figures},
        notes=[*result.notes, *realised_lines(result.summary["budget"])],
        assets=len({asset for block in done.blocks for asset in block.assets}),
    )
    with replacing(options.out / "report.html") as temporary:
        temporary.write_text(report_html(report), encoding="utf-8")
