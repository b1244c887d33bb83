"""Notes on a file that was replayed: its times, and why rows were late or not scored.

In: a pass (``ReplayRun``) and its stream's plan. Out: texts for the user, or an ``InputError`` where the
results would mislead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from daemon.adapters.files import (
    LinesSource,
    Table,
    TableSource,
)
from daemon.adapters.sample import span
from daemon.commands.one_pass import ReplayRun
from daemon.commands.results import ReplaySink
from daemon.documents import counted
from daemon.domain import (
    Disposition,
    StreamSpec,
)
from daemon.errors import InputError
from daemon.runtime.stream_run import StreamPlan


def time_notes(done: ReplayRun, table: Table | None, kept: ReplaySink, plan: StreamPlan) -> list[str]:
    """Notes on rows out of order, dated far ahead, or late, and on times without a zone."""
    notes = []
    source = done.source.inner
    if isinstance(source, TableSource) and (names := source.reordered):
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        notes.append(f"the rows of {shown} are in no order of time; they were taken by their time")
    if isinstance(source, LinesSource) and source.newest_first:
        notes.append("the lines are newest first; they were read from the last to the first")
    for asset, ahead in source.skewed.items() if isinstance(source, TableSource) else ():
        how = "ahead of" if ahead > 0 else "behind"
        notes.append(
            f"the times of {asset} are {span(abs(ahead))} {how} those of the other assets' rows around them:"
            " is its clock wrong?"
        )
    if kept.ahead:
        line, when = kept.ahead[0]
        what = "row" if isinstance(source, TableSource) else "line"
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
    if table is None and (parts := done.pipeline.parts.ingest.grid.parts):
        notes.append(
            f"{counted(parts, 'record')} {'has' if parts == 1 else 'have'} a part of a row whose first part came before,"
            f" and {'is' if parts == 1 else 'are'} not used: input: {{rows: gather}},"
            " with format: json-wide where the config names none, puts them together"
        )
    zoneless = done.stream.decoder.zoneless if table is None else table.zoneless
    return notes + zone_notes(zoneless, plan.spec)


def zone_notes(zoneless: int, spec: StreamSpec) -> list[str]:
    """A note on times that name no zone, unless the stream says which one they are in."""
    if not zoneless or spec.timezone is not None:
        return []
    return [f"times name no zone and are read as UTC; --tz or streams.{spec.name}.timezone says another"]


def refuse_late(test: Path, records: Mapping[str, int], plan: StreamPlan) -> None:
    """Fail if a file is mostly late: such a file was not judged, whatever its report shows.

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


def why_unscored(done: ReplayRun, plan: StreamPlan, refusal: str = "") -> str:
    """Why no row was scored, as far as the input shows it.

    Args:
        done: the pass.
        plan: of its stream.
        refusal: why the first refused record was, and what was found there; empty: none was.
    """
    records = done.records
    read = sum(records.values())
    unused = {d: records[d] for d in (Disposition.LATE, Disposition.DUPLICATE, Disposition.REJECTED)}
    counts = ", ".join(f"{count} {what}" for what, count in unused.items() if count)
    aside = f" ({counts} of {read} records)" if counts else ""
    if not records[Disposition.ACCEPTED]:
        first = f"; the first: {refusal}" if refusal else ""
        return f"no record could be used{aside}{first}; see anomalyd inspect -c CONFIG"
    if done.stream.detector is None:
        return (
            f"{done.pipeline.observed_rows} rows, and model.learn_rows is {plan.learn_rows};"
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
