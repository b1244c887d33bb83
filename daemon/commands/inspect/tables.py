"""Tables: the roles of their columns, and what became of their rows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from daemon.adapters.files import Table, column_names, read_table
from daemon.adapters.sample import (
    derive,
)
from daemon.assembly import as_received
from daemon.commands.inputs import chosen_stream, table_of
from daemon.commands.inspect.inspection import (
    CELLS_SHOWN,
    EXAMPLES,
    WORDS_SHOWN,
    Cell,
    Example,
    Inspection,
    InspectOptions,
    Reject,
    settings_of,
)
from daemon.commands.reading_check import no_numbers
from daemon.commands.table_accounting import counts_of_table
from daemon.domain import Disposition, iso
from daemon.errors import UsageError
from daemon.stream.accounts import CellState


def of_table(path: Path, options: InspectOptions) -> Inspection:
    if options.format is not None:
        raise UsageError("--format is for messages: the columns of a table are found by their names")
    if options.config is not None:
        spec = chosen_stream(settings_of(options), options.stream).spec()
        wanted: frozenset[str] | None = frozenset(as_received(spec).sensors)
        table = table_of(path, spec, (), options.reading)
        notes = list(table.notes)
    else:
        wanted = None
        table = read_table(path, reading=options.reading)
        derived = derive(table)
        spec, notes = derived.spec, derived.notes
    counts = counts_of_table(table, spec)
    columns = {name: _role(name, table, wanted) for name in column_names(path)}
    rejects = [_reject_of_table(table, reason, count) for reason, count in sorted(counts.reasons.items())]
    totals = {
        "records": counts.records.total(),
        "accepted": counts.records[Disposition.ACCEPTED],
        "duplicate": counts.records[Disposition.DUPLICATE],
        "refused": dict(sorted(counts.reasons.items())),
        "skipped": dict(sorted(counts.skipped.items())),
        "readings": counts.cells[CellState.OBSERVED],
        "without_value": counts.cells[CellState.MISSING],
        "no_number": counts.cells[CellState.CORRUPT],
        "contradicting": counts.cells[CellState.CONFLICT],
        "assets": len(table.asset_names),
        "unknown_quality": dict(Counter(table.unknown_quality).most_common(WORDS_SHOWN)),
        "good_quality": list(table.good_quality),
        "sensors": len(table.sensors if wanted is None else wanted.intersection(table.sensors)),
        "unknown_sensors": [] if wanted is None else sorted(set(table.sensors) - wanted)[:50],
        "never_seen": [] if wanted is None else sorted(wanted - _with_numbers(table))[:50],
    }
    return Inspection(
        str(path),
        "the columns of a table, by their names"
        + (" and the options" if options.reading.names_columns else ""),
        {},
        {},
        totals,
        _table_examples(table),
        rejects,
        no_numbers({key: len(rows) for key, rows in table.faulty.items()}),
        columns,
        notes,
    )


def _with_numbers(table: Table) -> set[str]:
    """The sensors that have a number in some usable row."""
    filled = np.asarray(np.isfinite(table.values[table.usable]).any(axis=0), bool)
    return {name for name, found in zip(table.sensors, filled, strict=True) if found}


def _reject_of_table(table: Table, reason: str, count: int) -> Reject:
    """A kind of refusal, with the first row of the file that it is about."""
    first = next((row for row, why in table.refused.items() if why.reason.value == reason), None)
    if first is None:  # the rows are fine; it is their sensors that the stream does not list
        return Reject(reason, count, "sensors that the stream does not list", "", None)
    return Reject(reason, count, table.refused[first].detail, f"row {table.line_of(first)}", None)


def _role(name: str, table: Table, wanted: frozenset[str] | None) -> str:
    """What a column is, as the table was read."""
    roles = table.roles
    if name in roles.quality:
        about = roles.quality[name]
        return "quality" if about is None else f"quality of {about}"
    if name in table.conditions:
        return "condition"
    known = {roles.asset: "asset", roles.sensor: "names of sensors", roles.value: "values of sensors"}
    if name in (*roles.time, roles.millis) or name in known:
        return known.get(name, "time")
    sensor = table.reading.sensor_of(name)
    if roles.sensor is None and sensor in table.sensors:
        return "sensor" if wanted is None or sensor in wanted else "number, but no sensor of the stream"
    return "left out"


def _table_examples(table: Table) -> list[Example]:
    examples = []
    for row in np.flatnonzero(table.usable)[:EXAMPLES]:
        cells = [
            Cell(
                str(table.assets[row]),
                iso(int(table.time_ns[row])),
                "",
                sensor,
                "" if np.isnan(value) else f"{value:g}",
                "missing" if np.isnan(value) else "",
            )
            for sensor, value in zip(table.sensors, table.values[row], strict=True)
        ]
        examples.append(Example(int(row), cells[:CELLS_SHOWN], max(len(cells) - CELLS_SHOWN, 0)))
    return examples
