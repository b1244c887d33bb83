"""``replay --label``: the scores compared with labels, beside pPCA's and those of trivial detectors.

In: TEST with a column of labels, and the columns of scores.parquet. Out: ``evaluation.Figures`` per detector.
Labels are read again from the file; they never reach the pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from daemon.adapters.files import (
    read_table,
)
from daemon.commands.inputs import no_progress
from daemon.commands.one_pass import FileToJudge, ScoreSink, run_over_file
from daemon.commands.results import columns_of
from daemon.commands.train import train_on
from daemon.domain import (
    Segment,
)
from daemon.errors import InputError
from daemon.model import evaluation


async def compared(
    file: FileToJudge, label: str, history: Sequence[Segment], columns: Mapping[str, Any]
) -> list[evaluation.Figures]:
    """Figures of our scores, of pPCA on the same rows, and of the random, all-ones and time-only detectors.

    Args:
        file: TEST, a table.
        label: its column of labels: above 0 where something was wrong.
        history: TRAIN, from which pPCA learns; empty: it learns the first ``learn_rows`` rows.
        columns: of scores.parquet, a row per row of TEST.

    Raises:
        InputError: TEST has no such column.
    """
    plan = file.plan
    assert file.table is not None
    marked = read_table(file.path, reading=file.table.reading)
    if label not in marked.sensors:
        raise InputError(f"{file.path}: has no numeric column {label!r} to compare with")
    labels = np.nan_to_num(marked.values[:, marked.sensors.index(label)]) > 0
    linear = replace(plan, model=replace(plan.model, kind="ppca"))
    bundle = train_on(linear, history, None) if history else None
    sink = ScoreSink()
    done = await run_over_file(replace(file, plan=linear, bundle=bundle), sink, no_progress)
    other = columns_of(file.table, done, sink.scored, plan.spec)
    return evaluation.table(
        labels,
        columns["score"],
        columns["alarm"],
        plan.spec.period_ns,
        [("pPCA", other["score"], other["alarm"])],
    )


def quality(figures: evaluation.Figures) -> dict[str, float]:
    """The figures of one detector as the report names and shows them."""
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
