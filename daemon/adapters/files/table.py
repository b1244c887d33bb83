"""A table of readings: which column is the time, the asset, a condition or a sensor, and its values.

``read_table`` is the extraction layer of tables: it takes the columns that ``columns`` decoded, finds out what
each is (``roles``), and makes a ``Table``, rows in file order with one event time, one asset and one float per
sensor. Placing these rows on the grid of a stream is left to ``placing``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from shlex import quote
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daemon.adapters.field_names import Role, named
from daemon.adapters.files.cells import (
    Cells,
    as_floats,
    condition_texts,
    has_text_form,
    is_numeric,
    plain_array,
    trimmed_texts,
)
from daemon.adapters.files.columns import Columns, read_columns
from daemon.adapters.files.long_tables import Pivoted, SensorLines, pivot
from daemon.adapters.files.oddities import contradicting, likely_sentinels, same_keys, telling_apart
from daemon.adapters.files.roles import Roles, find_roles, listed, unit_in, zone_in
from daemon.adapters.files.row_keys import (
    NO_TIME,
    ONLY_ASSET,
    RefusedRow,
    TimeRules,
    Times,
    assets_of,
    event_times,
)
from daemon.adapters.files.sensor_columns import SensorColumns, Spelling
from daemon.adapters.files.table_reading import TableReading
from daemon.adapters.files.time_parts import are_parts, joined
from daemon.documents import shown
from daemon.domain import NO_CONDITION, SYNTHETIC, Floats, Ints, Mask, Reason, StreamSpec, is_calendar
from daemon.errors import InputError
from daemon.mapping import PLAIN, Reduce, SensorRule
from daemon.stream.extract.sensor_values import SensorValues

_MANY_REPEATED: Final = 20
"""One row in so many has the time of another: then something tells the two apart."""
_FEW_VALUES: Final = 1000
_LOOKED_AT: Final = 100
_EPOCH: Final = 1e8
"""Seconds since 1970: a smaller number is no epoch number."""
_MOST_ADDED: Final = 1e9
"""No number beyond it is added to a time."""
_LATEST_NS: Final = 8 * 10**18
_UNITS: Final = ("s", "ms", "us", "ns")
_TWO_DAYS_NS: Final = 2 * 86_400 * 10**9
_YEAR_NS: Final = 366 * 86_400 * 10**9


@dataclass(frozen=True, eq=False)
class Table:
    """A table of readings: N rows in file order, C sensors.

    ``values`` holds raw numbers, NaN where a cell is missing (infinities and, in a CSV, texts
    that are no numbers are missing too). A row in ``refused`` has no usable asset or time. The rows of a long
    table are those of its file put together (``pivoted`` says how).
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
    odd_numbers: Mapping[tuple[str, float], str] = field(default_factory=dict)  # (sensor, number) -> its note
    zoneless: int = 0  # times that named no zone
    faulty: Mapping[tuple[str, str], Ints] = field(default_factory=dict)
    """(sensor, fault) -> the rows of the file whose cell stands for no number."""
    unknown_quality: Mapping[str, int] = field(default_factory=dict)  # word -> values that are missing for it
    good_quality: Sequence[str] = ()  # the good ones beside these
    spelling: Mapping[str, Spelling] = field(default_factory=dict)  # sensor -> how the file writes it
    roles: Roles = field(default_factory=lambda: Roles(()))  # what the file's columns are
    reading: TableReading = field(default_factory=TableReading)  # how it was read
    pivoted: Pivoted | None = None  # of a long table

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
        """The first ``rows`` rows; of a long table without where they are in the file."""
        if rows >= len(self):
            return self
        seen = int(self.asset_codes[:rows].max(initial=-1)) + 1  # names are in order of appearance
        faulty = {key: self.rows_of_lines[found] for key, found in self.faulty.items()}
        return replace(
            self,
            asset_names=self.asset_names[:seen],
            asset_codes=self.asset_codes[:rows],
            time_ns=self.time_ns[:rows],
            values=self.values[:rows],
            conditions={name: texts[:rows] for name, texts in self.conditions.items()},
            refused={row: why for row, why in self.refused.items() if row < rows},
            faulty={key: of[of < rows] for key, of in faulty.items()},
            pivoted=None,
        )

    def notes_without(self, missing: Mapping[str, Collection[float]]) -> list[str]:
        """The notes, but for those on numbers that are known to stand for no value, by sensor."""
        known = {note for (name, number), note in self.odd_numbers.items() if number in missing.get(name, ())}
        return [note for note in self.notes if note not in known]

    def line_of(self, row: int) -> int:
        """The row of the file, from 0, that a row begins with."""
        return row if self.pivoted is None else int(self.pivoted.first[row])

    @property
    def lines(self) -> int:
        """The rows of the file: of a long table, more than it has rows."""
        return len(self) if self.pivoted is None else len(self.pivoted.row)

    @cached_property
    def rows_of_lines(self) -> Ints:
        """(``lines``,) the row that each row of the file is in."""
        return np.arange(len(self)) if self.pivoted is None else self.pivoted.row

    @property
    def corrupt(self) -> dict[tuple[str, str], int]:
        """Cells of usable rows that stand for no number, by sensor and fault."""
        usable = self.usable[self.rows_of_lines]
        found = {key: int(usable[rows].sum()) for key, rows in self.faulty.items()}
        return {key: count for key, count in found.items() if count}

    def label(self, row: int, spec: StreamSpec) -> str:
        """The row's condition as the decoder of a stream writes it: ``k=v,k2=v2``, ``?`` for an unknown value."""
        fields = spec.message_condition
        if not fields:
            return NO_CONDITION
        known: Mapping[str, str] = spec.assets.get(self.assets[row] or "", {})
        found = ((name, self.conditions[name][row] if name in self.conditions else None) for name in fields)
        return ",".join(f"{name}={known.get(name, '?') if text is None else text}" for name, text in found)


def read_table(
    path: Path,
    exclude: Sequence[str] = (),
    condition: Sequence[str] = (),
    timezone: str | None = None,
    reading: TableReading | None = None,
) -> Table:
    """Read a Parquet or CSV file, gzipped or not, as people have them.

    Time, asset, and in a long table sensor and value are found by their names (``roles``); every other column of
    numbers, of true and false or of their like is a sensor.

    Args:
        path: the file.
        exclude: columns that are not sensors though they hold numbers (labels).
        condition: columns that name the operating mode; they are kept as text.
        timezone: of times that name no zone; None: as ``reading`` says.
        reading: what is known of the table; None: nothing.

    Raises:
        UsageError: the file lacks a column that ``reading`` names.
        InputError: one line with the reason: the file is missing, empty or damaged, has
            no time column or no sensor, or no time in it can be read, with the first that cannot.
    """
    reading = TableReading() if reading is None else reading
    if timezone is not None:
        reading = replace(reading, timezone=timezone)
    marks = {SYNTHETIC} - reading.sensors.keys()
    left_out = frozenset({*exclude, *marks})
    columns = read_columns(path, sorted(set(exclude) - set(reading.named)), reading.named)
    labels = {name: reading.column_of(name, columns.names) for name in condition}
    added = [name for name in reading.plus if name in columns.names][:1]
    roles = find_roles(path, columns, reading, frozenset({*left_out, *labels.values(), *added}))
    if not columns.table.num_rows:
        raise InputError(f"{path}: has no rows")
    notes = [*columns.notes, *reading.notes]
    absent = [name for name in condition if not is_calendar(name) and labels[name] not in columns.names]
    notes += [
        f"condition {shown(name)} is no column: what the config says of an asset counts, else ?"
        for name in absent
    ]
    for name in filter(None, (roles.asset, roles.sensor, *labels.values())):
        kind = columns.table.schema.field(name).type if name in columns.names else pa.null()
        if not has_text_form(kind):
            raise InputError(f"{path}: column {shown(name)}, of type {kind}, is neither a text nor a number")
    notes += roles.notes
    notes += [
        f"{shown(name)} marks rows that were generated: left out" for name in marks & set(columns.names)
    ]
    lines = None if roles.sensor is None else _lines_of(columns, roles.sensor, reading)
    cells = SensorColumns(columns, roles, reading, lines)
    keys = {*roles.keys, *left_out, *labels.values(), *added}
    wanted = [name for name in columns.names if name not in keys and not reading.is_left_out(name)]
    if roles.value is not None:
        extra = [name for name in wanted if name != roles.value and cells.holds_numbers(name)]
        if extra:
            notes.append(f"a long table: beside {shown(roles.value)}, {listed(extra)} are left out")
        wanted = [roles.value]
    found = cells.read(wanted)
    notes += cells.notes
    if not found:
        raise InputError(
            f"{path}: no numeric column beside {', '.join(map(shown, roles.time))}; found: {listed(columns.names)}"
        )
    refused: dict[int, RefusedRow] = {}
    text = columns.text
    asset_names: tuple[str, ...] = (reading.asset_name or ONLY_ASSET,)
    asset_codes = np.zeros(columns.table.num_rows, np.int32)
    if roles.asset is not None:
        asset_names, asset_codes = assets_of(
            columns.table[roles.asset], text, refused, partial(reading.part_of, roles.asset)
        )
    rules = TimeRules(
        reading.timezone,
        unit_in(roles.time[0]) if reading.unit == "auto" else reading.unit,
        reading.formats,
        reading.day_first,
        cells.written_as_in_europe,
    )
    times = event_times(path, _times_of(columns, roles), asset_codes.astype(np.int64), rules, refused)
    times = _as_named(times, roles.time, reading)
    notes += times.notes
    if roles.millis is not None:
        _add(times.time_ns, columns, roles.millis, "ms")
    for name in added:
        _add(times.time_ns, columns, name, reading.plus_unit)
    again = [name for name in found if _is_time(name, found[name], times.time_ns)]
    if again and len(again) < len(found):
        notes.append(f"{listed(again)}: the time once more, left out")
        found = {name: values for name, values in found.items() if name not in again}
    refused |= {row: RefusedRow(Reason.BAD_ROW, why, None) for row, why in columns.odd.items()}
    if columns.odd:
        row, why = next(iter(columns.odd.items()))
        notes.append(
            f"{len(columns.odd)} rows have another number of cells than the header; row {row}: {why}"
        )
    table = Table(
        path=path,
        sensors=tuple(reading.sensor_of(name) for name in found),
        asset_names=asset_names,
        asset_codes=asset_codes,
        time_ns=times.time_ns,
        values=np.stack(list(found.values()), 1),
        conditions={
            name: condition_texts(columns.table[of]) for name, of in labels.items() if of in columns.names
        },
        refused=dict(sorted(refused.items())),
        zoneless=times.zoneless,
        faulty=cells.faulty,
        unknown_quality=cells.unknown_quality,
        good_quality=list(cells.good_quality),
        spelling=cells.spelling,
        roles=roles,
        reading=reading,
    )
    if lines is not None:
        table = _put_together(table, lines, notes, left_out)
    of_sensors = [reading.sensors.get(name, PLAIN) for name in table.sensors]
    SensorValues([_unscaled(rule) for rule in of_sensors]).apply(table.values)
    odd = _odd_values(table)  # of the numbers as they are written, as ``missing`` is
    scaled = SensorValues([replace(rule, missing=frozenset()) for rule in of_sensors])
    scaled.apply(table.values)
    if table.pivoted is not None:
        scaled.apply_each(table.pivoted.numbers, table.pivoted.sensor)
    odd_keys = _odd_keys(table, columns)
    misleading = tuple(f"column {shown(name)} holds texts; as a sensor" for name in odd_keys.telling)
    kept = [note for note in notes if not note.startswith(misleading)]
    return replace(
        table,
        notes=tuple(dict.fromkeys([*odd_keys.first, *kept, *odd.values(), *odd_keys.notes])),
        odd_numbers=odd,
    )


def _times_of(columns: Columns, roles: Roles) -> list[pa.ChunkedArray]:
    """The column of times, the two of dates and of times of day, or the one that parts make."""
    found = [columns.table[name] for name in roles.time]
    if not are_parts(roles.time):
        return found
    numbers = [_numbers_of(column) for column in found]
    return [pa.chunked_array([joined(roles.time, numbers)])]


def _numbers_of(column: pa.ChunkedArray) -> Floats:
    """(N,) the numbers of a column, NaN where a cell holds none."""
    if is_numeric(column.type):
        return as_floats(column)
    read = Cells.of(column).numbers({}, comma=False) if has_text_form(column.type) else None
    return np.full(len(column), np.nan) if read is None else read.values


def _as_named(times: Times, names: Sequence[str], reading: TableReading) -> Times:
    """The times in UTC where the name of their column says in which zone they are, and nothing else does."""
    ahead = next((minutes for name in names if (minutes := zone_in(name)) is not None), None)
    there = times.time_ns != NO_TIME
    if ahead is None or reading.timezone is not None or times.zoneless < there.sum():
        notes = times.notes
        if there.any() and int(times.time_ns[there].max()) < _YEAR_NS:
            notes = (
                *notes,
                f"{listed(names)} counts from 0: read as seconds since 1970, so that dates and hours say nothing",
            )
        return replace(times, notes=notes)
    shift = ahead * 60 * 10**9
    note = f"times are {ahead / 60:g} h ahead of UTC, as {shown(names[0])} says"
    return replace(
        times,
        time_ns=np.where(there, times.time_ns - shift, times.time_ns),
        zoneless=0,
        notes=(*times.notes, note) if ahead else times.notes,
    )


def _add(time_ns: Ints, columns: Columns, name: str, unit: str) -> None:
    """Add a column of numbers to the times, in place; a cell that holds none adds nothing."""
    numbers = _numbers_of(columns.table[name])
    rows = np.flatnonzero(
        (np.abs(time_ns) < _LATEST_NS) & (time_ns != NO_TIME) & (np.abs(numbers) < _MOST_ADDED)
    )
    time_ns[rows] += np.rint(numbers[rows] * 10.0 ** (9 - 3 * _UNITS.index(unit))).astype(np.int64)


def _is_time(name: str, values: Floats, time_ns: Ints) -> bool:
    """Whether a column that is called a time has the event times as epoch numbers, of whatever zone."""
    if not named([name], Role.TIME):
        return False
    some = np.flatnonzero(np.isfinite(values) & (time_ns != NO_TIME))[:_LOOKED_AT]
    if not len(some) or not (values[some] >= _EPOCH).all():
        return False
    scale = 10.0 ** (9 - 3 * np.searchsorted([1e11, 1e14, 1e17], values[some], side="right"))
    return bool((np.abs(values[some] * scale - time_ns[some]) < _TWO_DAYS_NS).all())


def _lines_of(columns: Columns, sensor: str, reading: TableReading) -> SensorLines:
    """Which sensor each row of a long table is of."""
    column = columns.table[sensor]
    encoded = (trimmed_texts(column) if columns.text else plain_array(column)).dictionary_encode()
    names = [reading.part_of(sensor, _sensor_text(found)) or "" for found in encoded.dictionary.to_pylist()]
    known = {name: i for i, name in enumerate(dict.fromkeys(name for name in names if name))}
    codes = np.array([*(known.get(name, -1) for name in names), -1], np.int64)
    return SensorLines(
        tuple(known),
        codes[encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)],
        tuple(reading.sensors.get(reading.sensor_of(name), PLAIN) for name in known),
    )


def _put_together(
    table: Table,
    lines: SensorLines,
    notes: list[str],
    left_out: frozenset[str],
) -> Table:
    """A long table of one column of values as a table with a column per sensor, but for those left out.

    Sentinels are dropped first: what stands for no value is none of the values of a cell.
    """
    roles, reading = table.roles, table.reading
    taken = [i for i, name in enumerate(lines.names) if name not in left_out]
    if not taken:
        raise InputError(f"{table.path}: every sensor is excluded")
    refused = dict(table.refused)
    for row in np.flatnonzero(lines.sensor < 0).tolist():
        refused.setdefault(row, RefusedRow(Reason.NO_SENSOR, f"no {roles.sensor}", None))
    values = table.values[:, 0]
    SensorValues([_unscaled(rule) for rule in lines.rules]).apply_each(values, lines.sensor)
    keys = table.asset_codes.astype(np.int64), table.time_ns
    reductions = [rule.reduce for rule in lines.rules]
    pivoted = pivot(table.path, keys, lines.sensor, values, reductions, refused)
    first = pivoted.first.tolist()
    row_of = pivoted.row.tolist()
    notes.append(
        f"{len(values):,} rows of one sensor each ({roles.sensor}, {roles.value}) are {len(first):,} rows of"
        f" {len(lines.names):,} sensors"
    )
    repeated, contradicts = int(pivoted.repeated.sum()), int(pivoted.contradicting.sum())
    if repeated or contradicts:
        notes.append(
            f"of one sensor and time, {repeated:,} values came again and {contradicts:,}"
            " contradict the one before; the first counts"
        )
    pivoted = pivoted.only(taken)
    sensors = tuple(reading.sensor_of(lines.names[i]) for i in taken)
    faulty: dict[tuple[str, str], Ints] = {}
    for (_, fault), rows in table.faulty.items():
        of = pivoted.sensor[rows]
        faulty |= {(sensors[c], fault): rows[of == c] for c in np.unique(of[of >= 0]).tolist()}
    spelling = table.spelling[table.sensors[0]]
    return replace(
        table,
        sensors=sensors,
        asset_codes=table.asset_codes[pivoted.first],
        time_ns=table.time_ns[pivoted.first],
        values=pivoted.values,
        conditions={name: tuple(texts[i] for i in first) for name, texts in table.conditions.items()},
        refused=dict(sorted((row_of[row], why) for row, why in refused.items())),
        faulty=faulty,
        spelling={
            name: replace(spelling, rule=lines.rules[i]) for name, i in zip(sensors, taken, strict=True)
        },
        pivoted=pivoted,
    )


def _sensor_text(found: object) -> str:
    if found is None or found != found:
        return ""
    return str(int(found)) if isinstance(found, float) and found.is_integer() else str(found)


def _unscaled(rule: SensorRule) -> SensorRule:
    """A rule that only drops sentinels."""
    return SensorRule(missing=rule.missing)


def _odd_values(table: Table) -> dict[tuple[str, float], str]:
    """Notes on numbers that look as if they stood for no value, by sensor and number."""
    notes = {}
    for c, name in enumerate(table.sensors):
        for number, times in likely_sentinels(table.values[:, c]):
            notes[name, number] = (
                f"sensor {name[:60]!r}: {number:g} stands {times} times far from all else; if it means that there is"
                f" no value: sensors: {{{name[:60]}: {{missing: [{number:g}]}}}}"
            )
    return notes


@dataclass(frozen=True, slots=True)
class _OddKeys:
    """Notes on rows of one asset and time, and the columns of texts or whole numbers that tell them apart.

    ``first`` is what is to be read before all else: without it the others are about rows taken for one another.
    """

    first: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    telling: tuple[str, ...] = ()


def _odd_keys(table: Table, columns: Columns) -> _OddKeys:
    """What is to be said of rows that share asset and time."""
    used = np.flatnonzero(table.usable)
    rules = [table.reading.sensors.get(name, PLAIN) for name in table.sensors]
    single = [c for c, rule in enumerate(rules) if rule.reduce is Reduce.FIRST]
    if len(single) < len(rules):  # several values of the others are made one: they are no contradiction
        used = used[np.isfinite(table.values[used][:, single]).any(axis=1)]
    asset, time = table.asset_codes[used].astype(np.int64), table.time_ns[used]
    again, before = same_keys(asset, time)
    if not len(again):
        return _OddKeys()
    notes = []
    against = contradicting(table.values[:, single], used[again], used[before])
    if against:
        notes.append(
            f"{len(again):,} rows have the asset and time of an earlier row; {against:,} of them contradict it"
            " (the first counts)"
        )
    if _MANY_REPEATED * len(again) <= len(used):
        return _OddKeys(notes=tuple(notes))
    lines = used if table.pivoted is None else table.pivoted.first[used]
    keys = {*table.roles.time, table.roles.asset, table.roles.sensor, table.roles.value}
    possible = [
        (name, codes[lines])
        for name in columns.names
        if name not in keys and (codes := _few_values(columns, name)) is not None
    ]
    names = telling_apart(possible, asset, time, len(again))
    if table.roles.sensor is None and len(table.sensors) == 1 and against:
        texts = [name for name in names if name not in table.sensors]
        if len(texts) == 1:  # one column of names and one of numbers are left
            value = table.spelling[table.sensors[0]].column
            first = f"looks long: --sensor {quote(texts[0])} --value {quote(value)}"
            if table.roles.asset is None:
                first += f"; if {texts[0]} names machines, --asset {quote(texts[0])}"
            return _OddKeys((first,), tuple(notes), tuple(texts))
    if table.roles.asset is not None:
        return _OddKeys(notes=tuple(notes))
    told = "times repeat, and no column is the asset"
    if not names:
        return _OddKeys((f"{told}: --asset COLUMN names one",), tuple(notes))
    first = f"{told}: {', '.join(names[:3])} tells the rows apart: --asset {quote(names[0])}"
    return _OddKeys((first,), tuple(notes), tuple(names))


def _few_values(columns: Columns, name: str) -> Ints | None:
    """(N,) codes of a column of texts or whole numbers with few different values; None for any other."""
    kind = columns.table.schema.field(name).type
    if not has_text_form(kind) or pa.types.is_floating(kind) or pa.types.is_temporal(kind):
        return None
    encoded = plain_array(columns.table[name]).dictionary_encode()
    count = len(encoded.dictionary)
    if not 1 < count <= min(_FEW_VALUES, len(encoded) // 2):
        return None
    texts = encoded.dictionary.cast(pa.string())
    if columns.text and pc.any(pc.match_substring_regex(texts, r"^[+-]?[0-9]*[.,][0-9]+$")).as_py():
        return None
    codes: Ints = encoded.indices.fill_null(count).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def check_sensors(table: Table, spec: StreamSpec) -> None:
    """Refuse a table that has none of the stream's sensors (InputError)."""
    if not set(spec.sensors) & set(table.sensors):
        raise InputError(
            f"{table.path}: has none of the stream's sensors ({listed(spec.sensors)}); "
            f"found: {listed(table.sensors)}"
        )
