"""Synthetic rows as a file: a table (.parquet, .csv) or messages (.jsonl), and the truth about the faults.

In: ``SyntheticRows``. Out: ``Generated``, the file, and ``FILE.faults.json``. Rows are written a stretch at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from daemon.adapters.files import replacing
from daemon.commands.generate.messages import JSON_WIDE, MessageLayout, messages
from daemon.commands.generate.request import Generated, total_rows
from daemon.commands.generate.rows import SyntheticRows, condition_names, label_fields
from daemon.domain import SYNTHETIC
from daemon.errors import UsageError
from daemon.model.faults import FaultRecord

SUFFIXES = (".parquet", ".pq", ".csv", ".jsonl", ".ndjson")


class _Table(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


def write_file(made: SyntheticRows, path: Path, layout: MessageLayout = JSON_WIDE) -> Generated:
    """Write the rows to a file, and the truth beside it; ``layout`` is of the messages of a .jsonl file.

    The truth of a former file of this name is removed, as it is not that of this one.

    Raises:
        UsageError: an ending that is none of ours, or lateness where rows are sorted.
        DaemonError: the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"--out {path}: write .parquet, .csv or .jsonl")
    tabular = suffix in (".parquet", ".pq", ".csv")
    if tabular and made.request.late:
        raise UsageError(f"--late: a {suffix} file has no order of arrival; write .jsonl, or to a topic")
    begun = time.monotonic()
    total = total_rows(made.request)
    beside = path.with_name(path.name + ".faults.json")
    with replacing(path) as temporary:
        if tabular:
            _write_table(made, temporary, suffix, total)
        else:
            with temporary.open("wb") as out:
                for _, value in messages(made, layout, total):
                    out.write(value + b"\n")
        if not made.request.inject:
            beside.unlink(missing_ok=True)
    if made.request.inject:
        with replacing(beside) as temporary:
            temporary.write_text(truth_json(made.truth), encoding="utf-8")
    seconds = time.monotonic() - begun
    return Generated(total, made.truth, seconds, total / max(seconds, 1e-9), made.notes)


def truth_json(truth: Sequence[FaultRecord]) -> str:
    """The faults as JSON: ``[{kind, asset, sensor, start, end, size}]``."""
    return json.dumps([record.as_json() for record in truth], indent=1) + "\n"


def _write_table(made: SyntheticRows, path: Path, suffix: str, total: int) -> None:
    """Write the rows as a table, a stretch at a time.

    Raises:
        UsageError: a sensor has the name of another column.
    """
    bundle = made.bundle
    fields = condition_names(bundle.conditions)
    sensors = made.arriving.sensors
    taken = {"asset", "timestamp", SYNTHETIC, *fields}
    if taken & set(sensors):
        clash = sorted(taken & set(sensors))[0]
        raise UsageError(f"--out {path.name}: a sensor is called {clash!r} as a column is; write .jsonl")
    schema = pa.schema(
        [
            ("asset", pa.string()),
            ("timestamp", pa.timestamp("ns" if bundle.period_ns % 1_000 else "us", "UTC")),
            *((name, pa.string()) for name in fields),
            *((sensor, pa.float64()) for sensor in sensors),
            (SYNTHETIC, pa.bool_()),
        ]
    )
    labels = [label_fields(label) for label in bundle.conditions]
    with ExitStack() as stack:
        table: _Table
        if suffix == ".csv":
            table = stack.enter_context(pa_csv.CSVWriter(str(path), schema))
        else:
            table = stack.enter_context(pq.ParquetWriter(str(path), schema))
        left = total
        for stretch in made.stretches():
            A, T, S = stretch.values.shape
            rows = min(A * T, left)
            left -= rows
            flat = stretch.values.transpose(1, 0, 2).reshape(-1, S)[:rows]
            at = stretch.labels.T.reshape(-1)[:rows].tolist()
            times = np.repeat([made.time_ns(stretch.first + t) for t in range(T)], A)[:rows]
            columns: list[Any] = [
                pa.array((made.names * T)[:rows], pa.string()),
                pa.array(times, pa.timestamp("ns", "UTC")).cast(schema.field("timestamp").type),
                *(pa.array([labels[k].get(n) if k >= 0 else None for k in at], pa.string()) for n in fields),
                *(pa.array(flat[:, s], pa.float64(), from_pandas=True) for s in range(S)),
                pa.array(np.ones(rows, bool)),
            ]
            table.write_table(pa.Table.from_arrays(columns, schema=schema))
            if not left:
                break
