"""``anomalyd impute``: fill the gaps of a table from both of their sides and from the other sensors.

In: ``ImputeOptions``: a table, and what relates its sensors to each other: learned from TRAIN, taken from a
bundle, or else learned from the table itself. Out: the same table with its gaps filled,
``<out>.filled.parquet`` with the filled cells and their 90 % intervals, and with ``--draws`` joint draws in
``<out>.draws.parquet``. Observed cells stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from daemon.adapters.files import (
    DrawsFile,
    ImputedCells,
    ImputedFile,
    Placement,
    Table,
    check_place,
    check_table_name,
    is_lines,
    place,
    write_filled_table,
)
from daemon.assembly import as_received, assembled
from daemon.commands.accounting import lost_lines
from daemon.commands.derive import check_excluded, plan_for, settings_for
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions, no_progress, table_of
from daemon.commands.replay_notes import zone_notes
from daemon.commands.table_accounting import counts_of_table, unknown_sensors
from daemon.documents import counted
from daemon.domain import Floats, Mask, Progress, StreamSpec, zone_of
from daemon.errors import BundleError, InputError, UsageError
from daemon.mapping import Component
from daemon.model.bundle import Bundle
from daemon.model.draws import DrawSettings, GappedSegment, draw
from daemon.model.imputation import Fill, ImputationParameters, WeekClock, fill_counter, fit, impute_segments
from daemon.model.scaler import Scaler
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.stream_run import StreamPlan
from daemon.stream.holding import METHOD


@dataclass(frozen=True, slots=True)
class Imputed:
    """What ``impute`` filled; ``--json`` prints it."""

    rows: int
    cells: int
    model: str
    notes: list[str]
    draws: int = 0  # of every filled cell
    draws_file: str | None = None
    too_long: int = 0  # cells that stay missing, in gaps that are longer than wanted
    too_long_gaps: int = 0


@dataclass(frozen=True, slots=True)
class ImputeOptions(FileOptions):
    """What ``impute`` is given. With neither ``train`` nor ``model``, the table itself is learned from."""

    file: Path  # Parquet or CSV
    out: Path
    train: Path | None = None  # a file to learn from
    model: Path | None = None  # a bundle to take the parameters from
    draws: int = 0  # joint draws of every gap; with any, the intervals are those of the draws
    seed: int = 0  # of the draws
    max_gap: timedelta | None = None  # longer gaps stay missing; None: every gap is filled


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """What gaps are filled with."""

    parameters: ImputationParameters
    version: str  # of the bundle; ``none`` without one
    clock: WeekClock  # of its habit


@dataclass(frozen=True, slots=True, eq=False)
class _FilledTable:
    """A table of N rows and S columns of sensors, and its fills."""

    table: Table
    placed: Placement
    fills: Sequence[Fill]  # by segment of ``placed``
    columns: Sequence[int]  # (S,) place of each column among the stream's sensors; -1: none has its values
    value: Floats  # (N, S), NaN where a cell has no fill
    low: Floats  # (N, S), replaced in place by the interval of the draws
    high: Floats  # (N, S)
    held: Mask  # (N, S) the fill is the sensor's last value
    clock: WeekClock  # of the rows

    @staticmethod
    def of(
        table: Table, placed: Placement, fills: Sequence[Fill], spec: StreamSpec, learned: _Learned
    ) -> _FilledTable:
        """The fills of the segments, as cells of the table."""
        usable = np.flatnonzero(placed.segment >= 0)
        places = {name: i for i, name in enumerate(spec.sensors) if not spec.rules[i].counter}
        columns = [places.get(name, -1) for name in table.sensors]
        value, low, high = (np.full(table.values.shape, np.nan) for _ in range(3))
        for i in usable.tolist():
            fill, t = fills[placed.segment[i]], placed.row[i]
            for c, at in enumerate(columns):
                if at >= 0:
                    value[i, c], low[i, c], high[i, c] = fill.value[t, at], fill.low[t, at], fill.high[t, at]
        held = np.zeros(table.values.shape, bool)
        made = _FilledTable(table, placed, fills, columns, value, low, high, held, learned.clock)
        for c, name in enumerate(table.sensors):
            rule = assembled(spec).get(name, {})
            if "counter" in rule:
                made.fill_counter(c, spec.sensors.index(name), learned.parameters)
            elif "angle" in rule:
                made.fill_angle(c, spec.sensors.index(f"{name}.{Component.COS}"), spec)
            if "hold" in rule and "counter" not in rule:
                made.mark_held(c, as_received(spec).sensors.index(name), made.model_place(c, spec))
        return made

    def model_place(self, c: int, spec: StreamSpec) -> int:
        """The sensor of the stream that shows whether a column has a value; of an angle, its cosine."""
        name = self.table.sensors[c]
        return self.columns[c] if self.columns[c] >= 0 else spec.sensors.index(f"{name}.{Component.COS}")

    def mark_held(self, c: int, came: int, at: int) -> None:
        """Mark the cells of a column that have the last value: it did not come, and the rows have it."""
        for i in np.flatnonzero(self.placed.segment >= 0).tolist():
            segment, t = self.placed.segments[self.placed.segment[i]], self.placed.row[i]
            assert segment.received is not None
            self.held[i, c] = np.isnan(segment.received[t, came]) and np.isfinite(segment.values[t, at])

    def fill_counter(self, c: int, place: int, usual: ImputationParameters) -> None:
        """Fill a column of a counter's levels, where the fills have rates."""
        table = self.table
        for code in range(len(table.asset_names)):
            mine = np.flatnonzero(table.usable & (table.asset_codes == code))
            mine = mine[np.argsort(table.time_ns[mine], kind="stable")]
            known = np.isfinite(table.values[mine, c])
            gaps, read = mine[~known], mine[known]
            fill = fill_counter(
                table.time_ns[read],
                table.values[read, c],
                table.time_ns[gaps],
                float(usual.mean[place]),
                float(usual.scale[place]),
            )
            self.value[gaps, c], self.low[gaps, c], self.high[gaps, c] = fill.value, fill.low, fill.high

    def fill_angle(self, c: int, cos: int, spec: StreamSpec) -> None:
        """Fill a column of angles, where the fills have cosine and, next to it, sine."""
        wraps = spec.rules[cos].angle
        assert wraps is not None
        turn = wraps / (2.0 * np.pi)
        for i in np.flatnonzero(self.placed.segment >= 0).tolist():
            s, t = self.placed.segment[i], self.placed.row[i]
            fill = self.fills[s]
            (x, y), wide = fill.value[t, cos : cos + 2], (fill.high - fill.low)[t, cos : cos + 2] / 2.0
            length = np.hypot(x, y)
            angle = np.arctan2(y, x) * turn
            # How far the end of the arrow may be to its side, over its length.
            margin = min(np.hypot(wide[0] * y, wide[1] * x) / max(length, 1e-9) ** 2 * turn, wraps / 2.0)
            self.value[i, c] = angle % wraps
            self.low[i, c], self.high[i, c] = self.value[i, c] - margin, self.value[i, c] + margin

    def leave_long_gaps(self, longest: timedelta) -> tuple[int, int]:
        """Take the fills out of gaps in which a sensor is missing for longer; how many cells and gaps these are.

        A cell for which the sensor's last value stands is not missing.
        """
        table, period = self.table, self.clock.period_ns
        most = round(longest.total_seconds() * 1e9)
        cells = gaps = 0
        for code in range(len(table.asset_names)):
            mine = np.flatnonzero(table.usable & (table.asset_codes == code))
            mine = mine[np.argsort(table.time_ns[mine], kind="stable")]
            if not len(mine):
                continue
            time = table.time_ns[mine]
            ends = np.concatenate([[time[0] - period], time, [time[-1] + period]])
            for c in range(len(table.sensors)):
                missing = self.gaps[mine, c] & ~self.held[mine, c]
                shown = np.isfinite(table.values[mine, c]) | self.held[mine, c]
                known = np.concatenate([[0], 1 + np.flatnonzero(shown), [len(ends) - 1]])
                after = np.searchsorted(known, 1 + np.flatnonzero(missing))
                long = ends[known[after]] - ends[known[after - 1]] - period > most
                self.value[mine[missing][long], c] = np.nan
                cells, gaps = cells + int(long.sum()), gaps + len(np.unique(after[long]))
        return cells, gaps

    @property
    def gaps(self) -> Mask:
        """(N, S) the cells that are filled: not observed, and with a fill."""
        return np.isnan(self.table.values) & np.isfinite(self.value)

    @property
    def empty(self) -> int:
        """Cells of the file that stay empty; of a long table, its rows."""
        left = np.isnan(self.table.values) & np.isnan(self.value)
        if self.table.pivoted is None:
            return int(left.sum())
        row, sensor = self.table.pivoted.row, self.table.pivoted.sensor
        return int(((sensor >= 0) & left[row, sensor]).sum())


async def impute_file(options: ImputeOptions, progress: Progress = no_progress) -> Imputed:
    """Fill every gap of a table, and mark what was filled.

    Args:
        options: what is filled, and from what.
        progress: reports how far the draws are.

    Raises:
        DaemonError: unreadable input, wrong configuration, a bundle that does not fit.
    """
    file, out, train = options.file, options.out, options.train
    _check_files(options)
    check_excluded(options.exclude, [train, file] if train is not None else [file])
    bundle = Bundle.load(options.model) if options.model is not None else None
    settings, notes = settings_for(options, train or file, bundle)
    plan = plan_for(settings, options.stream_name, file.name)
    spec = plan.spec
    table = table_of(file, spec, options.exclude, options.reading)
    notes += [*table.notes, *zone_notes(table.zoneless, spec)]
    notes += lost_lines(counts_of_table(table, spec), unknown_sensors(table, spec))
    if bundle is not None:
        table, emptied = _readings(table, bundle)
        notes += emptied
    placed = place(table, spec, compress_gaps=True)
    learned = await _learned(options, bundle, plan, placed)
    fills = impute_segments(learned.parameters, placed.segments, learned.clock)
    filled = _FilledTable.of(table, placed, fills, spec, learned)
    left, too_long, too_long_gaps = filled.empty, 0, 0
    if options.max_gap is not None:
        too_long, too_long_gaps = filled.leave_long_gaps(options.max_gap)
        if too_long:
            notes.append(
                f"{counted(too_long, 'cell')} in {counted(too_long_gaps, 'gap')} longer than {options.max_gap} stay missing (--max-gap)"
            )
    gaps = filled.gaps
    drawn: Path | None = None
    if options.draws:
        drawn = out.with_name(out.name + ".draws.parquet")
        _write_draws(drawn, filled, learned.parameters, options, progress)
    written = write_filled_table(table, np.where(gaps, filled.value, np.nan), out)
    _write_marks(out.with_name(out.name + ".filled.parquet"), filled, learned.version)
    if left:
        notes.append(
            f"{left} cells stay empty: their row has no usable time, or their sensor was never observed"
        )
    noted = list(dict.fromkeys(notes))
    return Imputed(
        table.lines,
        written,
        learned.version,
        noted,
        options.draws,
        None if drawn is None else str(drawn),
        too_long,
        too_long_gaps,
    )


def _check_files(options: ImputeOptions) -> None:
    """Reject inputs that are no tables, and outputs that cannot be written or would overwrite an input.

    Raises:
        DaemonError: one of these.
    """
    file, out, train = options.file, options.out, options.train
    if is_lines(file):
        raise InputError(f"{file}: impute works on Parquet and CSV; replay fills JSON Lines")
    if options.max_gap is not None and options.max_gap <= timedelta(0):
        raise UsageError(f"--max-gap {options.max_gap}: no gap is so short; write for example 6h")
    if out.resolve() in {file.resolve(), train.resolve() if train is not None else None}:
        raise InputError(f"{out}: --out would overwrite an input; name another file")
    check_table_name(out)
    check_place(out)


async def _learned(
    options: ImputeOptions, bundle: Bundle | None, plan: StreamPlan, placed: Placement
) -> _Learned:
    """The parameters of the bundle, or those that are learned from TRAIN or from the table itself."""
    file, train, spec = options.file, options.train, plan.spec
    if bundle is not None:
        check_compatible(bundle, spec)
        if bundle.imputation is None:
            raise BundleError(f"{options.model}: model {bundle.version} holds nothing to impute with")
        return _Learned(bundle.imputation, bundle.version, _clock_of(bundle))
    history = (
        placed.segments if train is None else await history_of(train, plan, options.exclude, options.reading)
    )
    if not history:
        raise InputError(f"{train or file}: holds no usable rows to learn from")
    scaler = Scaler.fit([segment.values for segment in history], spec.ranges)
    return _Learned(fit(history, scaler.mean, scaler.scale, spec), "none", WeekClock.of(spec))


def _clock_of(bundle: Bundle) -> WeekClock:
    """The clock by which a bundle's habit was learned, whatever the zone of the file's times is."""
    timezone = bundle.facts.get("timezone")
    try:
        zone_of(timezone)
    except ValueError as error:
        raise BundleError(f"model {bundle.version}: {error}") from error
    return WeekClock(bundle.period_ns, timezone)


def _readings(table: Table, bundle: Bundle) -> tuple[Table, list[str]]:
    """A table without numbers that training showed to stand for no value, and a note on how many they are."""
    values, notes = table.values.copy(), list[str]()
    for c, number in bundle.models.scaler.scaling.sentinels:
        name = bundle.sensors[c]
        if name not in table.sensors:
            continue
        column = values[:, table.sensors.index(name)]
        if count := int((column == number).sum()):
            column[column == number] = np.nan
            notes.append(f"{name}: {count} cells of {number:.10g} stand for no value, and are filled")
    return (replace(table, values=values) if notes else table), notes


def _write_marks(path: Path, filled: _FilledTable, version: str) -> None:
    """Write which cells were filled, with their intervals."""
    table, gaps = filled.table, filled.gaps
    where, which = np.nonzero(gaps)
    with ImputedFile(path) as marks:
        assets = table.assets
        cells = ImputedCells(
            asset=[str(assets[i]) for i in where],
            time_ns=table.time_ns[where],
            sensor=[table.sensors[c] for c in which],
            value=filled.value[gaps],
            low=filled.low[gaps],
            high=filled.high[gaps],
            method=np.where(filled.held[gaps], METHOD, "field").tolist(),
            model=[version] * len(where),
        )
        marks.add_cells(cells)


def _write_draws(
    path: Path,
    filled: _FilledTable,
    parameters: ImputationParameters,
    options: ImputeOptions,
    progress: Progress,
) -> None:
    """Draw the filled cells, write the draws, and replace the intervals of the cells by those of the draws."""
    table, placed = filled.table, filled.placed
    wanted = [np.zeros(s.values.shape, bool) for s in placed.segments]
    drawable = filled.gaps & ~filled.held & (np.array(filled.columns) >= 0)
    line, column = np.nonzero(drawable)
    place = np.array(filled.columns)[column]
    segment, row = placed.segment[line], placed.row[line]
    for s, mask in enumerate(wanted):
        mine = segment == s
        mask[row[mine], place[mine]] = True
    # Several lines of a file may hold one cell: the draws of the cell are written for each of them.
    order = np.lexsort((place, row, segment))
    widest = len(parameters.mean)
    offsets = np.cumsum([0, *(len(s.values) for s in placed.segments)])
    keys = ((offsets[segment] + row) * widest + place)[order]
    names = np.array(table.sensors, dtype=object)
    with DrawsFile(path) as file:
        gapped = [GappedSegment(*one) for one in zip(placed.segments, filled.fills, wanted, strict=True)]
        settings = DrawSettings(options.draws, options.seed)
        for drawn in draw(
            parameters, gapped, settings, filled.clock, lambda share: progress(share, "drawing")
        ):
            mine = (offsets[drawn.segment] + drawn.rows) * widest + drawn.channels
            first, last = np.searchsorted(keys, mine), np.searchsorted(keys, mine, side="right")
            which = np.repeat(np.arange(len(mine)), last - first)
            at = np.arange(len(which)) - np.repeat(np.cumsum(last - first) - last, last - first)
            cells = order[at]
            lines, sensors = line[cells], column[cells]
            filled.low[lines, sensors], filled.high[lines, sensors] = drawn.low[which], drawn.high[which]
            file.add(
                asset=table.assets[lines],
                time_ns=table.time_ns[lines],
                sensor=names[sensors],
                values=drawn.values[which],
            )
