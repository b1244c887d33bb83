"""A table of readings: which column is the time, the asset, a condition or a sensor, and its values.

``read_table`` is the extraction layer of tables: it takes the columns that ``columns`` decoded and makes a
``Table``, rows in file order with one event time, one asset and one float per sensor. Placing these rows on
the grid of a stream is left to ``placing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from daemon.adapters.files.cells import as_floats, condition_texts, has_text_form, is_numeric, parsed_numbers
from daemon.adapters.files.columns import read_columns
from daemon.adapters.files.row_keys import RefusedRow, assets_of, event_times
from daemon.domain import NO_CONDITION, Floats, Ints, Mask, StreamSpec, is_calendar
from daemon.errors import InputError

TIME_COLUMNS: Final = ("timestamp", "ts", "time", "datetime")
ASSET_COLUMN: Final = "asset"


@dataclass(frozen=True, eq=False)
class Table:
    """A table of readings: N rows in file order, C sensors.

    ``values`` holds raw numbers, NaN where a cell is missing (infinities and, in a CSV, texts
    that are no numbers are missing too). A row in ``refused`` has no usable asset or time.
    """

    path: Path
    sensors: tuple[str, ...]
    asset_names: tuple[str, ...]  # in order of first appearance
    asset_codes: NDArray[np.int32]  # (N,) index into asset_names, -1 where there is none
    time_ns: Ints  # (N,), NO_TIME where there is none
    values: Floats  # (N, C)
    conditions: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)  # column -> N texts
    refused: Mapping[int, RefusedRow] = field(default_factory=dict)  # row -> why
    notes: tuple[str, ...] = ()  # for the operator: columns left out, corrupt cells
    zoneless: int = 0  # times that named no zone
    corrupt: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (sensor, fault) -> cells

    def __len__(self) -> int:
        return len(self.time_ns)

    @cached_property
    def assets(self) -> NDArray[np.object_]:
        """(N,) the asset of each row, None where there is none."""
        return np.array([*self.asset_names, None], object)[self.asset_codes]

    @cached_property
    def usable(self) -> Mask:
        """(N,) rows with an asset and a time."""
        mask = np.ones(len(self), bool)
        mask[list(self.refused)] = False
        return mask

    def head(self, rows: int) -> Table:
        """The first ``rows`` rows."""
        if rows >= len(self):
            return self
        seen = int(self.asset_codes[:rows].max(initial=-1)) + 1  # names are in order of appearance
        return replace(
            self,
            asset_names=self.asset_names[:seen],
            asset_codes=self.asset_codes[:rows],
            time_ns=self.time_ns[:rows],
            values=self.values[:rows],
            conditions={name: texts[:rows] for name, texts in self.conditions.items()},
            refused={row: why for row, why in self.refused.items() if row < rows},
        )

    def label(self, row: int, spec: StreamSpec) -> str:
        """The row's condition as the decoder of a stream writes it: ``k=v,k2=v2``, ``?`` for an unknown value."""
        fields = spec.message_condition
        if not fields:
            return NO_CONDITION
        known: Mapping[str, str] = spec.assets.get(self.assets[row] or "", {})
        found = ((name, self.conditions[name][row] if name in self.conditions else None) for name in fields)
        return ",".join(f"{name}={known.get(name, '?') if text is None else text}" for name, text in found)


def read_table(
    path: Path, exclude: Sequence[str] = (), condition: Sequence[str] = (), timezone: str | None = None
) -> Table:
    """Read a Parquet or CSV file, gzipped or not.

    The time column is the first that exists of ``timestamp``, ``ts``, ``time``, ``datetime``
    (any Arrow timestamp; no zone means UTC; ISO 8601 text; epoch numbers, whose unit follows
    from their size). ``asset`` is optional; every other numeric column is a sensor.

    Args:
        path: the file.
        exclude: columns that are not sensors though they hold numbers (labels).
        condition: columns that name the operating mode; they are kept as text.
        timezone: of times that name no zone; None: UTC.

    Raises:
        InputError: one line with the reason: the file is missing, empty or damaged, has
            no time column or no sensor, or no time in it can be read, with the first that cannot.
    """
    left_out = frozenset(exclude)

    def wanted(schema: pa.Schema) -> list[str]:
        numeric = [f.name for f in schema if is_numeric(f.type) and f.name not in left_out]
        named = {*numeric, *condition, asset_column(schema.names), time_column(path, schema.names)}
        others.extend(name for name in schema.names if name not in named and name not in left_out)
        return [name for name in schema.names if name in named]

    others: list[str] = []
    columns, text = read_columns(path, wanted)
    time_name = time_column(path, columns.column_names)
    asset_name = asset_column(columns.column_names)
    if not columns.num_rows:
        raise InputError(f"{path}: has no rows")
    absent = [name for name in condition if not is_calendar(name) and name not in columns.column_names]
    for name in filter(None, (asset_name, *condition)):
        kind = columns.schema.field(name).type if name in columns.column_names else pa.null()
        if not has_text_form(kind):
            raise InputError(f"{path}: column {name!r}, of type {kind}, is neither a text nor a number")
    notes = [
        f"condition {name!r} is no column: what the config says of an asset counts, else ?" for name in absent
    ]
    reserved = {time_name, asset_name, *left_out, *condition}
    numbers = _sensor_columns(
        columns.select([n for n in columns.column_names if n not in reserved]), text, notes
    )
    others.extend(name for name in columns.column_names if name not in reserved and name not in numbers)
    if others:
        notes.append(f"not numeric, left out: {', '.join(others)}")
    if not numbers:
        raise InputError(
            f"{path}: no numeric column beside {time_name!r}; found: {listed(columns.column_names, others)}"
        )
    refused: dict[int, RefusedRow] = {}
    time_ns, zoneless = event_times(path, columns[time_name], refused, timezone)
    asset_names, asset_codes = assets_of(columns, asset_name, text, refused)
    return Table(
        path=path,
        sensors=tuple(numbers),
        asset_names=asset_names,
        asset_codes=asset_codes,
        time_ns=time_ns,
        values=np.stack(list(numbers.values()), 1),
        conditions={
            name: condition_texts(columns[name]) for name in condition if name in columns.column_names
        },
        refused=dict(sorted(refused.items())),
        notes=tuple(notes),
        zoneless=zoneless,
    )


def _sensor_columns(columns: pa.Table, text: bool, notes: list[str]) -> dict[str, Floats]:
    """(N,) values of each column that is a sensor, in file order; what is odd about one is added to ``notes``.

    A column of texts that are no numbers is no sensor, nor is an index that pandas wrote along.
    """
    numbers: dict[str, Floats] = {}
    for name in columns.column_names:
        if name.startswith("__index_level_"):
            continue
        if text:
            cells, corrupt = parsed_numbers(columns[name])
            if cells is None:
                continue
            if corrupt:
                notes.append(f"sensor {name!r}: {corrupt} cells are no numbers and count as missing")
        else:
            cells = as_floats(columns[name])
        endless = np.isinf(cells)
        if endless.any():
            notes.append(f"sensor {name!r}: {int(endless.sum())} cells are infinite and count as missing")
            cells[endless] = np.nan
        if np.isnan(cells).all():
            notes.append(f"sensor {name!r} holds no number at all")
        numbers[name] = cells
    return numbers


def time_column(path: Path, names: Sequence[str]) -> str:
    """The first column that is named as a time is (``TIME_COLUMNS``); InputError where there is none."""
    for fold in (str, str.lower):  # capital letters do not matter
        folded = {fold(name): name for name in reversed(names)}
        for known in TIME_COLUMNS:
            if known in folded:
                return folded[known]
    raise InputError(f"{path}: no time column ({', '.join(TIME_COLUMNS)}); found: {listed(names)}")


def asset_column(names: Sequence[str]) -> str | None:
    """The name of the asset column as the file writes it; None where there is no such column."""
    if ASSET_COLUMN in names:
        return ASSET_COLUMN
    return next((name for name in names if name.lower() == ASSET_COLUMN), None)


def listed(names: Sequence[str], more: Sequence[str] = ()) -> str:
    """Up to 20 names for a message, each shortened."""
    every = list(dict.fromkeys([*names, *more]))
    shown = ", ".join(name[:60] for name in every[:20])
    return shown + (f" and {len(every) - 20} more" if len(every) > 20 else "")


def check_sensors(table: Table, spec: StreamSpec) -> None:
    """Refuse a table that has none of the stream's sensors (InputError)."""
    if not set(spec.sensors) & set(table.sensors):
        raise InputError(
            f"{table.path}: has none of the stream's sensors ({listed(spec.sensors)}); "
            f"found: {listed(table.sensors)}"
        )
