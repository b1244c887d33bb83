"""What became of the rows and cells of a table, counted as a stream counts its records (``stream.accounts``).

A record is a row of the file: of a long table a row of one sensor, whatever rows are put together of it. In: a
table and its stream; of a replay also what the pipeline counted. Out: ``Counts``.

A table that is placed on its grid at once (``adapters.files.placing``) has no late rows. Of several values of a cell
the first counts, in the order of the file. A row of the file that says nothing that rows before it have not said is
a duplicate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from daemon.adapters.files import Pivoted, Table
from daemon.assembly import as_received
from daemon.domain import Disposition, Floats, Ints, Mask, Reason, Rejected, StreamSpec
from daemon.mapping import Reduce
from daemon.stream.accounts import CellState, Counts

EXCLUDED: Final = "excluded"
"""The rule by which rows of a long table are skipped whose sensor the user has excluded."""
_OBSERVED, _EMPTY, _DUPLICATE, _CONFLICT = range(4)
"""What became of a cell; an empty one is missing or corrupt."""


def counts_of_table(table: Table, spec: StreamSpec) -> Counts:
    """The counts of a table whose rows are placed on the grid at once; cells are those of its usable rows."""
    pivoted = table.pivoted
    counts = _counts_of_wide(table, spec) if pivoted is None else _counts_of_long(table, pivoted, spec)
    return counts + _unread(table) + _unknown(table, spec)


def counts_of_replay(counts: Counts, rejected: Sequence[Rejected], table: Table, spec: StreamSpec) -> Counts:
    """The counts of a pipeline, with what its source did not emit of the table.

    Args:
        counts: of the pipeline.
        rejected: rows of the file that the source rejected.
        table, spec: of the source.
    """
    records = Counter({Disposition.REJECTED: len(rejected)})
    reasons = Counter(str(each.reason) for each in rejected)
    return counts + Counts(records, reasons) + _skipped(table) + _unknown(table, spec)


def unknown_sensors(table: Table, spec: StreamSpec) -> Counter[str]:
    """Per name, values of usable rows of sensors that the stream does not list."""
    listed = set(as_received(spec).sensors)
    found: Counter[str] = Counter()
    pivoted, usable = table.pivoted, table.usable
    for c, name in enumerate(table.sensors):
        if name in listed:
            continue
        found[name] = (
            int(np.isfinite(table.values[usable, c]).sum())
            if pivoted is None
            else int((usable[pivoted.row] & (pivoted.sensor == c)).sum())
        )
    return +found


# ------------------------------------------------------------------ rows that are no readings
def _unread(table: Table) -> Counts:
    """The rows that cannot be used, or are left out."""
    reasons = Counter(str(why.reason) for why in table.refused.values())
    return Counts(Counter({Disposition.REJECTED: reasons.total()}), reasons) + _skipped(table)


def _skipped(table: Table) -> Counts:
    """The rows of a long table that are of an excluded sensor."""
    if table.pivoted is None:
        return Counts()
    left_out = int((table.usable[table.pivoted.row] & (table.pivoted.sensor < 0)).sum())
    return Counts(+Counter({Disposition.SKIPPED: left_out}), skipped=+Counter({EXCLUDED: left_out}))


def _unknown(table: Table, spec: StreamSpec) -> Counts:
    """The values of sensors that the stream does not list."""
    return Counts(cells=+Counter({CellState.UNKNOWN: unknown_sensors(table, spec).total()}))


# ------------------------------------------------------------------ rows that are placed
def _counts_of_long(table: Table, pivoted: Pivoted, spec: StreamSpec) -> Counts:
    received = as_received(spec)
    places = {name: c for c, name in enumerate(received.sensors)}
    sensor = np.array([*(places.get(name, -1) for name in table.sensors), -1])[pivoted.sensor]
    usable = table.usable[pivoted.row]
    lines = np.flatnonzero(usable & (sensor >= 0))
    lines = lines[np.argsort(pivoted.row[lines], kind="stable")]  # row by row, as they are placed
    rows, of = pivoted.row[lines], sensor[lines]
    reduced = np.array([rule.reduce is not Reduce.FIRST for rule in received.rules], bool)[of]
    keys = table.asset_codes[rows].astype(np.int64), table.time_ns[rows] // spec.period_ns, of
    fates = np.full(len(sensor), -1)
    fates[lines] = _fates(keys, pivoted.numbers[lines], reduced)
    counts = _cells(table, spec, fates[:, None], one_sensor=True)
    duplicates = int((fates == _DUPLICATE).sum())
    unlisted = int((usable & (sensor < 0) & (pivoted.sensor >= 0)).sum())
    counts.records[Disposition.ACCEPTED] = len(lines) - duplicates
    counts.records[Disposition.DUPLICATE] = duplicates
    if unlisted:
        counts.records[Disposition.REJECTED] = unlisted
        counts.reasons[str(Reason.UNKNOWN_SENSOR)] = unlisted
    return counts


def _counts_of_wide(table: Table, spec: StreamSpec) -> Counts:
    received = as_received(spec)
    used = np.flatnonzero(table.usable)
    asset, row = table.asset_codes[used].astype(np.int64), table.time_ns[used] // spec.period_ns
    several, first = _several(asset, row)
    fates = np.full((len(table), len(received.sensors)), -1)
    says_more = np.zeros(len(several), bool)
    for c, (name, rule) in enumerate(zip(received.sensors, received.rules, strict=True)):
        if name not in table.sensors:
            fates[used, c] = _EMPTY
            continue
        values = table.values[used, table.sensors.index(name)]
        of_sensor = np.where(np.isfinite(values), _OBSERVED, _EMPTY)
        reduced = np.full(len(several), rule.reduce is not Reduce.FIRST)
        of_sensor[several] = _fates((asset[several], row[several]), values[several], reduced)
        # An empty cell beside others is missing, though another row of the same time has none there, too.
        of_sensor[np.isnan(values)] = _EMPTY
        says_more |= np.isin(of_sensor[several], (_OBSERVED, _CONFLICT))
        fates[used, c] = of_sensor
    duplicates = several[~(says_more | first)]
    fates[used[duplicates]] = _DUPLICATE
    counts = _cells(table, spec, fates, one_sensor=False)
    counts.records[Disposition.ACCEPTED] = len(used) - len(duplicates)
    counts.records[Disposition.DUPLICATE] = len(duplicates)
    return counts


def _several(asset: Ints, row: Ints) -> tuple[Ints, Mask]:
    """Which of the rows of a file share a row of the grid, and which of these are the first there."""
    order = np.lexsort((np.arange(len(row)), row, asset))
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(asset[order]) != 0) | (np.diff(row[order]) != 0)
    alone = begins & np.append(begins[1:], True)[: len(begins)]
    first = np.zeros(len(order), bool)
    first[order[begins]] = True
    several = np.sort(order[~alone])
    return several, first[several]


def _fates(keys: Sequence[Ints], values: Floats, reduced: Mask) -> Ints:
    """(n,) what became of each cell of n, as the grid of a stream that gathers its rows decides it.

    Args:
        keys: (n,) each; cells with the same keys are one cell of the grid.
        values: (n,) in the order of the file, NaN where there is none.
        reduced: (n,) whether one value is made of all values of the cell.
    """
    count = len(values)
    order = np.lexsort((np.arange(count), *keys))
    begins = np.ones(count, bool)
    begins[1:] = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    group = np.cumsum(begins) - 1
    value = values[order]
    there = np.isfinite(value)
    # The place of the first number of each cell; behind the last one where it has none.
    first = np.full(int(begins.sum()), count)
    numbers = np.flatnonzero(there)
    np.minimum.at(first, group[numbers], numbers)
    at, place = first[group], np.arange(count)
    same = value == value[np.minimum(at, count - 1)]
    fate = np.where(there, np.where(same, _DUPLICATE, _CONFLICT), _EMPTY)
    fate[place == at] = _OBSERVED
    fate[~there & (place < at) & ~begins] = _DUPLICATE  # nothing once more
    found = np.empty(count, np.int64)
    found[order] = fate
    return np.where(reduced, np.where(np.isfinite(values), _OBSERVED, _EMPTY), found)


def _cells(table: Table, spec: StreamSpec, fates: Ints, *, one_sensor: bool) -> Counts:
    """The cells of the rows of a file, (n, C) or (n, 1), -1 where there is none; corrupt ones by sensor and fault."""
    places = {name: c for c, name in enumerate(as_received(spec).sensors)}
    corrupt: Counter[tuple[str, str]] = Counter()
    for (sensor, fault), rows in table.faulty.items():
        if sensor in places:
            corrupt[sensor, fault] = int((fates[rows, 0 if one_sensor else places[sensor]] == _EMPTY).sum())
    empty = int((fates == _EMPTY).sum())
    cells = Counter(
        {
            CellState.OBSERVED: int((fates == _OBSERVED).sum()),
            CellState.MISSING: empty - corrupt.total(),
            CellState.CORRUPT: corrupt.total(),
            CellState.DUPLICATE: int((fates == _DUPLICATE).sum()),
            CellState.CONFLICT: int((fates == _CONFLICT).sum()),
        }
    )
    return Counts(cells=cells, corrupt=+corrupt)
