"""``anomalyd impute``: fill the gaps of a table from both of their sides and from the other sensors.

In: ``ImputeOptions``: a table, and what relates its sensors to each other: learned from TRAIN, taken from a
bundle, or else learned from the table itself. Out: the same table with its gaps filled,
``<out>.filled.parquet`` with the filled cells and their 90 % intervals, and with ``--draws`` joint draws in
``<out>.draws.parquet``. Observed cells stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    read_table,
    write_filled_table,
)
from daemon.commands.accounting import counts_of_table, lost_lines
from daemon.commands.derive import check_excluded, plan_for, settings_for
from daemon.commands.file_history import history_of
from daemon.commands.inputs import FileOptions, no_progress
from daemon.commands.replay_notes import zone_notes
from daemon.domain import Floats, Mask, Progress, Segment
from daemon.errors import BundleError, InputError
from daemon.model.bundle import Bundle
from daemon.model.draws import DrawSettings, GappedSegment, draw
from daemon.model.imputation import Fill, ImputationParameters, fit, impute_segments
from daemon.model.scaler import Scaler
from daemon.runtime.compatibility import check_compatible
from daemon.runtime.stream_run import StreamPlan


@dataclass(frozen=True, slots=True)
class Imputed:
    """What ``impute`` filled; ``--json`` prints it."""

    rows: int
    cells: int
    model: str
    notes: list[str]
    draws: int = 0  # of every filled cell
    draws_file: str | None = None


@dataclass(frozen=True, slots=True)
class ImputeOptions(FileOptions):
    """What ``impute`` is given. With neither ``train`` nor ``model``, the table itself is learned from."""

    file: Path  # Parquet or CSV
    out: Path
    train: Path | None = None  # a file to learn from
    model: Path | None = None  # a bundle to take the parameters from
    draws: int = 0  # joint draws of every gap; with any, the intervals are those of the draws
    seed: int = 0  # of the draws


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """What gaps are filled with."""

    parameters: ImputationParameters
    version: str  # of the bundle; ``none`` without one
    history: Sequence[Segment]  # what was learned from; empty with a bundle


@dataclass(frozen=True, slots=True, eq=False)
class _FilledTable:
    """A table of N rows and S columns of sensors, and its fills."""

    table: Table
    placed: Placement
    fills: Sequence[Fill]  # by segment of ``placed``
    columns: Sequence[int]  # (S,) place of each column among the stream's sensors; -1: it is none of them
    value: Floats  # (N, S), NaN where a cell has no fill
    low: Floats  # (N, S), replaced in place by the interval of the draws
    high: Floats  # (N, S)

    @staticmethod
    def of(table: Table, placed: Placement, fills: Sequence[Fill], sensors: Sequence[str]) -> _FilledTable:
        """The fills of the segments, as cells of the table."""
        usable = np.flatnonzero(placed.segment >= 0)
        columns = [sensors.index(name) if name in sensors else -1 for name in table.sensors]
        value, low, high = (np.full(table.values.shape, np.nan) for _ in range(3))
        for i in usable.tolist():
            fill, t = fills[placed.segment[i]], placed.row[i]
            for c, at in enumerate(columns):
                if at >= 0:
                    value[i, c], low[i, c], high[i, c] = fill.value[t, at], fill.low[t, at], fill.high[t, at]
        return _FilledTable(table, placed, fills, columns, value, low, high)

    @property
    def gaps(self) -> Mask:
        """(N, S) the cells that are filled: not observed, and with a fill."""
        return np.isnan(self.table.values) & np.isfinite(self.value)


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
    table = read_table(file, options.exclude, spec.condition, spec.timezone)
    notes += [*table.notes, *zone_notes(table.zoneless, spec)]
    notes += lost_lines(counts_of_table(table, spec), {})
    placed = place(table, spec, compress_gaps=True)
    learned = await _learned(options, bundle, plan, placed)
    fills = impute_segments(learned.parameters, placed.segments)
    filled = _FilledTable.of(table, placed, fills, spec.sensors)
    gaps = filled.gaps
    drawn: Path | None = None
    if options.draws:
        drawn = out.with_name(out.name + ".draws.parquet")
        _write_draws(drawn, filled, learned, options, progress)
    write_filled_table(table, np.where(gaps, filled.value, np.nan), out)
    _write_marks(out.with_name(out.name + ".filled.parquet"), filled, learned.version)
    left = int((np.isnan(table.values) & ~gaps).sum())
    if left:
        notes.append(
            f"{left} cells stay empty: their row has no usable time, or their sensor was never observed"
        )
    noted = list(dict.fromkeys(notes))
    return Imputed(
        len(table),
        int(gaps.sum()),
        learned.version,
        noted,
        options.draws,
        None if drawn is None else str(drawn),
    )


def _check_files(options: ImputeOptions) -> None:
    """Reject inputs that are no tables, and outputs that cannot be written or would overwrite an input.

    Raises:
        DaemonError: one of these.
    """
    file, out, train = options.file, options.out, options.train
    if is_lines(file):
        raise InputError(f"{file}: impute works on Parquet and CSV; replay fills JSON Lines")
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
        return _Learned(bundle.imputation, bundle.version, ())
    history = placed.segments if train is None else await history_of(train, plan, options.exclude)
    if not history:
        raise InputError(f"{train or file}: holds no usable rows to learn from")
    scaler = Scaler.fit([segment.values for segment in history], spec.ranges)
    return _Learned(fit(history, scaler.mean, scaler.scale, spec.window), "none", history)


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
            method=["field"] * len(where),
            model=[version] * len(where),
        )
        marks.add_cells(cells)


def _write_draws(
    path: Path, filled: _FilledTable, learned: _Learned, options: ImputeOptions, progress: Progress
) -> None:
    """Draw the filled cells, write the draws, and replace the intervals of the cells by those of the draws.

    TRAIN's rows are known to the draws; rows of the table itself, or of a bundle's training, are not.
    """
    table, placed = filled.table, filled.placed
    known = learned.history if options.train is not None else ()
    wanted = [np.zeros(s.values.shape, bool) for s in placed.segments]
    line, column = np.nonzero(filled.gaps)
    place = np.array(filled.columns)[column]
    segment, row = placed.segment[line], placed.row[line]
    for s, mask in enumerate(wanted):
        mine = segment == s
        mask[row[mine], place[mine]] = True
    # Several lines of a file may hold one cell: the draws of the cell are written for each of them.
    order = np.lexsort((place, row, segment))
    widest = len(learned.parameters.mean)
    offsets = np.cumsum([0, *(len(s.values) for s in placed.segments)])
    keys = ((offsets[segment] + row) * widest + place)[order]
    names = np.array(table.sensors, dtype=object)
    with DrawsFile(path) as file:
        gapped = [GappedSegment(*one) for one in zip(placed.segments, filled.fills, wanted, strict=True)]
        settings = DrawSettings(options.draws, options.seed)
        for drawn in draw(
            learned.parameters, gapped, settings, known, lambda share: progress(share, "drawing")
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
