"""Files in and out: tables and JSON Lines as sources, their rows as histories, and what a run leaves behind.

A table (Parquet or CSV) says everything with its own types, so its rows become readings
without passing through JSON; but they are judged by the codec's rules: a time that the codec
would refuse is refused here, by the codec itself wherever a value is not plain. JSON Lines are
records like those of a topic, and nothing here looks inside them.

Two views of one table: ``TableSource`` gives its rows to the loop one by one, in file order,
as if they arrived; ``place`` lays them out on each asset's grid at once, for training and for
batch imputation, and keeps for every input row where it went.

Whatever is written appears under its name only when it is whole.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import gzip
import hashlib
import json
import os
import stat
import zlib
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from io import BufferedReader, StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from daemon.calendar import Calendar
from daemon.domain import (
    NO_CONDITION,
    Assigned,
    FilledRow,
    Floats,
    InputPartition,
    Ints,
    Mask,
    PartitionCommit,
    PolledRecords,
    Reading,
    Reason,
    Record,
    Rejected,
    Segment,
    SourceEvent,
    StreamSpec,
    is_calendar,
    iso,
    zone_of,
)
from daemon.errors import DaemonError, InputError
from daemon.stream.decoding import FUTURE_NS, Decoder
from daemon.stream.encoding import kept
from daemon.stream.timestamps import EPOCH
from daemon.writing import Beside

TIME_COLUMNS: Final = ("timestamp", "ts", "time", "datetime")
ASSET_COLUMN: Final = "asset"
ONLY_ASSET: Final = "asset-0"
"""The asset of a table without an asset column."""
NO_TIME: Final = int(np.iinfo(np.int64).min)
"""``Table.time_ns`` of a row without a usable time."""
KEPT_BYTES: Final = (1 << 20) + (1 << 16)
"""What is kept of a line: more than the decoder takes, so that a longer one is still too large."""
MAX_GRID_CELLS: Final = 250_000_000
"""2 GB of grid: beyond it the period does not fit the file."""

_MISSING_TEXTS: Final = ["", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "None", "-"]
_NUMBER: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
_UNIT_NS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_INT64_MAX: Final = 2**63 - 1
_BLOCK: Final = 1 << 20
_LINES_SUFFIXES: Final = frozenset({".jsonl", ".json", ".ndjson"})


# ------------------------------------------------------------------ opening
def is_lines(path: Path) -> bool:
    """Whether the name says JSON Lines (``.jsonl``, ``.ndjson``, ``.json``, each also ``.gz``)."""
    return _suffix(path) in _LINES_SUFFIXES


def _suffix(path: Path) -> str:
    """The extension in lower case, without a closing ``.gz``."""
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def _open(path: Path) -> BufferedReader:
    """The file for reading, not empty.

    Raises:
        InputError: it is missing, empty, a directory, a pipe, a device or not ours to read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe may never end, and its content is gone once read
            raise InputError(
                f"{path}: is a {'directory' if path.is_dir() else 'pipe or a device'}, not a file"
            )
        file = path.open("rb")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not file.peek(1):
        file.close()
        raise InputError(f"{path}: is empty")
    return file


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Whatever a damaged file makes the readers raise, as one line."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        shown = "".join(c if c.isprintable() else "?" for c in said[:200])  # it may quote the file
        raise InputError(f"{path}: {what}: {shown}") from error


def _columns(path: Path, wanted: Callable[[pa.Schema], list[str]] | None = None) -> tuple[pa.Table, bool]:
    """The file's columns (all, or those ``wanted`` of a Parquet file), and whether they are CSV text.

    CSV columns stay text: a guessed type would lose what a cell really says, and one ``error``
    among a million numbers would fail the file.
    """
    with _open(path) as file:
        head = file.peek(4)[:4]
        data: bytes | None = None
        if head[:2] == b"\x1f\x8b":
            with _reading(path, "damaged gzip data"):
                data = gzip.decompress(file.read())
            head = data[:4]
            if not head:
                raise InputError(f"{path}: is empty")
        if head != b"PAR1" and _suffix(path) in (".parquet", ".pq"):
            raise InputError(f"{path}: not a readable Parquet file: it does not begin with PAR1")
        if head != b"PAR1":
            with _reading(path, "not a readable CSV file"):
                return _csv_columns(path, file.read() if data is None else data), True
    with (
        _reading(path, "not a readable Parquet file"),
        pq.ParquetFile(path if data is None else _arrow_memory(data)) as parquet,
    ):
        schema = parquet.schema_arrow
        _refuse_repeated(path, schema.names)
        return parquet.read(columns=None if wanted is None else wanted(schema)), False


def _arrow_memory(data: bytes) -> pa.BufferReader:
    """The bytes in memory that Arrow owns.

    After an error Arrow's reading threads may outlive the call. If one is the last to hold a
    Python object when the interpreter ends, it asks for the lock, is ended inside C++, and the
    process aborts. So Arrow gets a path or memory of its own, and never anything of Python's.
    """
    memory = pa.allocate_buffer(len(data))
    np.frombuffer(memory, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return pa.BufferReader(memory)


def _csv_header(head: bytes) -> tuple[list[str], str]:
    """The column names in a CSV file's first line, and the delimiter."""
    header = head.decode("utf-8-sig").rstrip("\r\n")
    delimiter = max(",;\t", key=header.count)
    return next(csv.reader([header], delimiter=delimiter), []), delimiter


def _csv_columns(path: Path, data: bytes) -> pa.Table:
    """Every cell as text, as it is written."""
    end = data.find(b"\n") + 1 or len(data)
    names, delimiter = _csv_header(data[:end])
    _refuse_repeated(path, names)
    if end == len(data):  # Arrow makes no table of a header that no line follows
        return pa.table({name: pa.array([], pa.string()) for name in names})
    columns = pacsv.read_csv(
        _arrow_memory(data),
        parse_options=pacsv.ParseOptions(delimiter=delimiter),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    if columns.column_names != names:  # Arrow found another line, or ended it elsewhere, and guessed types
        raise InputError(f"{path}: not a readable CSV file: its first line is not the header")
    return columns


def column_names(path: Path) -> list[str]:
    """The columns of a Parquet or CSV file, without reading its rows where that can be helped.

    Raises:
        InputError: the file is missing, empty, damaged or not ours to read.
    """
    with _open(path) as file:
        head = file.peek(4)[:4]
        with _reading(path, "not a readable file"):
            if head == b"PAR1":
                return list(pq.read_schema(path).names)
            content: Any = gzip.GzipFile(fileobj=file) if head[:2] == b"\x1f\x8b" else file
            line = content.readline()
            if line[:4] != b"PAR1":
                return _csv_header(line)[0]
    return list(_columns(path)[0].column_names)


def _refuse_repeated(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"{path}: column {twice!r} appears twice")


# ------------------------------------------------------------------ tables
@dataclass(frozen=True, slots=True, eq=False)
class RefusedRow:
    """Why a row of a table cannot be used, and the time it gave."""

    reason: Reason
    detail: str
    time: str | int | float | None


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
    notes: tuple[str, ...] = ()  # what an operator should know: columns left out, corrupt cells
    zoneless: int = 0  # times that named no zone

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
        """The first rows alone."""
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
        """The row's condition as the codec writes it: ``k=v,k2=v2``, ``?`` where nobody says."""
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
        InputError: one line that says what the file lacks: it is missing, empty or damaged, has
            no time column or no sensor, or no time in it can be read, with the first that cannot.
    """
    left_out = frozenset(exclude)

    def wanted(schema: pa.Schema) -> list[str]:
        numeric = [f.name for f in schema if _numeric(f.type) and f.name not in left_out]
        named = {*numeric, *condition, _asset_column(schema.names), _time_column(path, schema.names)}
        others.extend(name for name in schema.names if name not in named and name not in left_out)
        return [name for name in schema.names if name in named]

    others: list[str] = []
    columns, text = _columns(path, wanted)
    time_name = _time_column(path, columns.column_names)
    asset_name = _asset_column(columns.column_names)
    if not columns.num_rows:
        raise InputError(f"{path}: has no rows")
    absent = [name for name in condition if not is_calendar(name) and name not in columns.column_names]
    for name in filter(None, (asset_name, *condition)):
        kind = columns.schema.field(name).type if name in columns.column_names else pa.null()
        if not _sayable(kind):
            raise InputError(f"{path}: column {name!r}, of type {kind}, is neither a text nor a number")
    notes = [
        f"condition {name!r} is no column: what the config says of an asset counts, else ?" for name in absent
    ]
    reserved = {time_name, asset_name, *left_out, *condition}
    sensors: list[str] = []
    numbers: list[Floats] = []
    for name in columns.column_names:
        if name in reserved:
            continue
        if name.startswith("__index_level_"):
            others.append(name)  # a pandas index that was written along: a row number, no sensor
            continue
        if text:
            cells, corrupt = _parsed(columns[name])
            if cells is None:
                others.append(name)
                continue
            if corrupt:
                notes.append(f"sensor {name!r}: {corrupt} cells are no numbers and count as missing")
        else:
            cells = _floats(columns[name])
        endless = np.isinf(cells)
        if endless.any():
            notes.append(f"sensor {name!r}: {int(endless.sum())} cells are infinite and count as missing")
            cells[endless] = np.nan
        if np.isnan(cells).all():
            notes.append(f"sensor {name!r} holds no number at all")
        sensors.append(name)
        numbers.append(cells)
    if others:
        notes.append(f"not numeric, left out: {', '.join(others)}")
    if not sensors:
        raise InputError(
            f"{path}: no numeric column beside {time_name!r}; found: {_listed(columns.column_names, others)}"
        )
    refused: dict[int, RefusedRow] = {}
    time_ns, zoneless = _times(path, columns[time_name], refused, timezone)
    asset_names, asset_codes = _assets(columns, asset_name, text, refused)
    return Table(
        path=path,
        sensors=tuple(sensors),
        asset_names=asset_names,
        asset_codes=asset_codes,
        time_ns=time_ns,
        values=np.stack(numbers, 1),
        conditions={name: _texts(columns[name]) for name in condition if name in columns.column_names},
        refused=dict(sorted(refused.items())),
        notes=tuple(notes),
        zoneless=zoneless,
    )


def _time_column(path: Path, names: Sequence[str]) -> str:
    for fold in (str, str.lower):  # a capital letter is no reason to refuse a file
        folded = {fold(name): name for name in reversed(names)}
        for known in TIME_COLUMNS:
            if known in folded:
                return folded[known]
    raise InputError(f"{path}: no time column ({', '.join(TIME_COLUMNS)}); found: {_listed(names)}")


def _asset_column(names: Sequence[str]) -> str | None:
    """``asset`` as the file writes it; None where there is no such column."""
    if ASSET_COLUMN in names:
        return ASSET_COLUMN
    return next((name for name in names if name.lower() == ASSET_COLUMN), None)


def _listed(names: Sequence[str], more: Sequence[str] = ()) -> str:
    every = list(dict.fromkeys([*names, *more]))
    shown = ", ".join(name[:60] for name in every[:20])
    return shown + (f" and {len(every) - 20} more" if len(every) > 20 else "")


def _numeric(kind: pa.DataType) -> bool:
    """Numbers, and columns that hold nothing but nulls; a boolean is no measurement."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def _sayable(kind: pa.DataType) -> bool:
    """Whether one text can say each value: lists, structures, maps and bytes have none."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    bytes_of_any_kind = (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
    return not (pa.types.is_nested(kind) or bytes_of_any_kind)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One array, without dictionary encoding; texts of any kind as plain strings."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty one in some versions
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _floats(column: pa.ChunkedArray) -> Floats:
    """(N,) with NaN for null; the caller may write to it."""
    array = _plain(column)
    if pa.types.is_float32(array.type):
        return widened(array.to_numpy(zero_copy_only=False))
    return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def widened(values: NDArray[np.float32]) -> Floats:
    """Single precision as the double that is written with the same digits: 0.4, not 0.4000000059604645.

    A value that was observed is published as it came. Of the decimals that a float32 may have been, the
    shortest is meant: at most nine digits tell any two apart.
    """
    single = np.asarray(values, np.float32)
    found = single.astype(np.float64)
    size = np.abs(found)
    usual = (size >= 1e-12) & (size < 1e12)  # powers of ten up to 22 are exact
    for i in np.flatnonzero(~usual & np.isfinite(found) & (found != 0)).tolist():
        found[i] = float(str(single[i]))
    left = np.flatnonzero(usual)
    for digits in (6, 7, 8, 9):
        if not len(left):
            break
        exact = found[left]
        places = digits - 1 - np.floor(np.log10(np.abs(exact))).astype(np.int64)
        up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
        # A whole number over a power of ten is the double nearest to that decimal.
        decimal = np.rint(exact * up / down) / up * down
        same = decimal.astype(np.float32) == single[left]
        found[left[same]] = decimal[same]
        left = left[~same]
    return found


def _trimmed(column: pa.ChunkedArray) -> pa.Array:
    """A CSV column without white space around its cells, null where a cell says that it is empty."""
    array = pc.utf8_trim_whitespace(_plain(column))
    return pc.if_else(pc.is_in(array, pa.array(_MISSING_TEXTS)), pa.scalar(None, pa.string()), array)


def _parsed(column: pa.ChunkedArray) -> tuple[Floats | None, int]:
    """A CSV column as numbers with how many cells are something else; None if most are."""
    array = _trimmed(column)
    number = pc.match_substring_regex(array, _NUMBER)
    found = pc.sum(number).as_py() or 0
    told = len(array) - array.null_count
    if told and 2 * found < told:
        return None, 0
    bare = pc.replace_substring_regex(pc.if_else(number, array, pa.scalar(None, pa.string())), r"^\+", "")
    return _floats(pa.chunked_array([pc.cast(bare, pa.float64())])), told - found


def _texts(column: pa.ChunkedArray) -> tuple[str | None, ...]:
    """A condition column as the codec would write its values."""

    def shown(value: Any) -> str | None:
        if value is None or value != value or value == "":
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value)

    encoded = _plain(column).dictionary_encode()
    texts = [*(shown(value) for value in encoded.dictionary.to_pylist()), None]
    codes = encoded.indices.fill_null(len(texts) - 1).to_pylist()
    return tuple(texts[code] for code in codes)


class _Judge:
    """The codec's word on a time or an asset that is not plain."""

    def __init__(self, timezone: str | None = None) -> None:
        self._decoder = Decoder(StreamSpec("file", (), timezone=timezone))

    @property
    def zoneless(self) -> int:
        """Texts that named no time zone."""
        return self._decoder.zoneless

    def ask(self, asset: str, time: str | int | float) -> Reading | Rejected:
        message = json.dumps({"asset": asset, "ts": time, "values": {}})
        return self._decoder.decode(Record(0, None, message.encode(), -1))


def _times(
    path: Path, column: pa.ChunkedArray, refused: dict[int, RefusedRow], timezone: str | None
) -> tuple[Ints, int]:
    """(N,) nanoseconds since the epoch, and how many of them named no zone.

    Rows without a usable time are added to ``refused``.
    """
    zoneless = 0
    array = _plain(column)
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    if pa.types.is_string(array.type):
        array = _recognised(_trimmed(column))
    present = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(array.type):
        unit = _UNIT_NS[array.type.unit]
        number = array.cast(pa.int64()).fill_null(0).to_numpy()
        scale = np.full(len(number), unit, np.int64)
        if array.type.tz is None:
            zoneless = int(present.sum())
            if timezone is not None:
                number = number - utc_offsets(number // (10**9 // unit), timezone) * (10**9 // unit)
    elif pa.types.is_integer(array.type):
        if pa.types.is_uint64(array.type):
            array = pc.min_element_wise(array, pa.scalar(_INT64_MAX, pa.uint64()))
        number = array.cast(pa.int64()).fill_null(0).to_numpy()
        scale = _epoch_scale(number)
    elif pa.types.is_floating(array.type) or pa.types.is_string(array.type):
        return _times_one_by_one(path, array, refused, timezone)
    else:
        raise InputError(
            f"{path}: the time column, of type {array.type}, is neither a time, a text nor a number"
        )
    fits = present & (number >= 0) & (number <= _INT64_MAX // scale)
    for row in np.flatnonzero(~fits).tolist():
        if not present[row]:
            refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, "no time", None)
        else:
            rule = "before 1970" if number[row] < 0 else "beyond the year 2262"
            told = int(number[row])
            refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, f"{told} is {rule}", told)
    time_ns: Ints = np.where(fits, number * np.where(fits, scale, 0), NO_TIME)
    return time_ns, zoneless


def utc_offsets(local_s: Ints, timezone: str) -> Ints:
    """(N,) seconds by which local times, in seconds since 1970 of the zone's own clock, are ahead of UTC.

    A time that comes twice, in autumn, is the first of the two.
    """
    zone = zone_of(timezone)
    quarters, places = np.unique(local_s // 900, return_inverse=True)  # no zone changes within a quarter
    offsets = np.zeros(len(quarters), np.int64)
    for i, quarter in enumerate(quarters.tolist()):
        with suppress(ValueError, OverflowError):  # beyond the years of a datetime: refused by itself
            offset = (EPOCH + timedelta(seconds=quarter * 900)).replace(tzinfo=zone).utcoffset()
            offsets[i] = 0 if offset is None else round(offset.total_seconds())
    return offsets[places]


def _epoch_scale(number: Ints) -> Ints:
    """(N,) nanoseconds per unit of an epoch number, by its size."""
    bounds = np.array([10**11, 10**14, 10**17], np.int64)
    return np.array([10**9, 10**6, 10**3, 1], np.int64)[np.searchsorted(bounds, number, side="right")]


def _recognised(array: pa.Array) -> pa.Array:
    """Text as integers or as times where all of it is one of these, at Arrow's speed; else as it is."""
    for kind in (pa.int64(), pa.timestamp("ns", "UTC"), pa.timestamp("ns")):
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            continue
    return array


def _times_one_by_one(
    path: Path, array: pa.Array, refused: dict[int, RefusedRow], timezone: str | None
) -> tuple[Ints, int]:
    """Times that need care: mixed texts, and epoch numbers with decimals."""
    judge = _Judge(timezone)
    times = np.full(len(array), NO_TIME, np.int64)
    unread = ""
    for row, found in enumerate(array.to_pylist()):
        if found is None or found != found:
            refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, "no time", None)
            continue
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        said = judge.ask(ONLY_ASSET, found)
        if isinstance(said, Reading):
            times[row] = said.time_ns
        else:
            refused[row] = RefusedRow(said.reason, said.detail, found)
            if isinstance(found, str):
                unread = unread or f"row {row} (the first is 0): {said.detail}"
    if unread and (times == NO_TIME).all():
        raise InputError(f"{path}: no time can be read; {unread}")
    return times, judge.zoneless


def _assets(
    columns: pa.Table, name: str | None, text: bool, refused: dict[int, RefusedRow]
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Names in order of first appearance and (N,) codes; unusable ones are added to ``refused``."""
    if name is None:
        return (ONLY_ASSET,), np.zeros(columns.num_rows, np.int32)
    column = columns[name]
    encoded = (_trimmed(column) if text else _plain(column)).dictionary_encode()
    judge = _Judge()
    known: dict[str, int] = {}
    codes: list[int] = []
    faults: dict[int, RefusedRow] = {}
    for code, found in enumerate(encoded.dictionary.to_pylist()):
        whole = isinstance(found, float) and found.is_integer()
        asset = str(int(found) if whole else found)
        said = judge.ask(asset, 0)
        if found is None or found != found:
            codes.append(-1)
            faults[code] = RefusedRow(Reason.NO_ASSET, "no asset", None)
        elif isinstance(said, Rejected):
            codes.append(-1)
            faults[code] = RefusedRow(said.reason, said.detail, None)
        else:
            codes.append(known.setdefault(asset, len(known)))
    absent = len(codes)
    codes.append(-1)
    faults[absent] = RefusedRow(Reason.NO_ASSET, "no asset", None)
    indices = encoded.indices.fill_null(absent).to_numpy(zero_copy_only=False)
    result = np.array(codes, np.int32)[indices]
    for row in np.flatnonzero(result < 0).tolist():
        refused[row] = faults[int(indices[row])]
    return tuple(known), result


# ------------------------------------------------------------------ sources
def out_of_order(table: Table, usable: Mask) -> list[Ints]:
    """The ``usable`` (N,) rows of each asset whose rows are in no order of time: newest first, or shuffled.

    In a stream some readings are late; where more than a third of an asset's rows are of an earlier
    time than the row before, the file's order is no order of arrival.

    Returns:
        For each such asset its usable rows, in the file's order.
    """
    used = np.flatnonzero(usable)
    used = used[np.argsort(table.asset_codes[used], kind="stable")]
    if len(used) < 2:
        return []
    codes, times = table.asset_codes[used], table.time_ns[used]
    begins = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    back = np.append(False, times[1:] < times[:-1])
    back[begins] = False
    ends = np.append(begins[1:], len(used))
    steps = np.maximum(ends - begins - 1, 1)
    mixed = np.flatnonzero(3 * np.add.reduceat(back.astype(np.int64), begins) > steps)
    return [used[begins[i] : ends[i]] for i in mixed.tolist()]


def _check_sensors(table: Table, spec: StreamSpec) -> None:
    if not set(spec.sensors) & set(table.sensors):
        raise InputError(
            f"{table.path}: has none of the stream's sensors ({_listed(spec.sensors)}); "
            f"found: {_listed(table.sensors)}"
        )


class TableSource:
    """A table's rows as readings, in file order: one finite partition.

    Rows that cannot be used are no events: they are in ``rejected`` from the start, each with a
    record whose value is the row as a compact wide JSON message. The offset is the row's index,
    but for assets whose rows are in no order of time (``out_of_order``): theirs come by time, and
    ``line_of`` says which row an offset is of.

    Args:
        table: the file.
        spec: the stream; sensors it has and the file lacks are NaN, others are ignored.
        run_start_ns: stands for the records' timestamp; a time over 1 h ahead of it is refused.
        chunk_rows: rows per event.

    Attributes:
        rejected: what cannot be used, in file order.
        read: rows handed out so far (or skipped); ``total`` is all of them.
        reordered: the assets whose rows come by their time and not as the file has them.

    Raises:
        InputError: if the file has none of the stream's sensors.
    """

    unit = "rows"

    def __init__(self, table: Table, spec: StreamSpec, run_start_ns: int, chunk_rows: int = 1024) -> None:
        _check_sensors(table, spec)
        self.partition = InputPartition(table.path.name, 0)
        self.read = 0
        self.total = len(table)
        self._table = table
        self._spec = spec
        self._chunk = chunk_rows
        self._closed = False
        self._columns = {name: i for i, name in enumerate(table.sensors)}
        early = table.time_ns <= run_start_ns + FUTURE_NS
        self._usable = table.usable & early
        self.rejected = [self._rejected(row, run_start_ns) for row in np.flatnonzero(~self._usable).tolist()]
        self._order = np.arange(len(table))
        self.reordered: list[str] = []
        for rows in out_of_order(table, self._usable):
            self._order[rows] = rows[np.argsort(table.time_ns[rows], kind="stable")]
            self.reordered.append(table.asset_names[table.asset_codes[rows[0]]])

    def line_of(self, offset: int) -> int:
        """The row of the file that has this offset."""
        return int(self._order[offset])

    def _rejected(self, row: int, run_start_ns: int) -> Rejected:
        table = self._table
        why = table.refused.get(row)
        time_ns = int(table.time_ns[row])
        shown = iso(time_ns) if time_ns != NO_TIME else why.time if why else None
        if why is None:
            why = RefusedRow(
                Reason.FUTURE, f"{shown} is over 1 h ahead of the run ({iso(run_start_ns)})", shown
            )
        cells = zip(table.sensors, table.values[row].tolist(), strict=True)
        message = {"asset": table.assets[row], "ts": shown, "values": dict(cells)}
        return Rejected(Record(row, None, msgspec.json.encode(message), run_start_ns), why.reason, why.detail)

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Assigned, the rows, and word that nothing follows."""
        yield Assigned(self.partition, 0, 0)
        while self.read < self.total and not self._closed:
            start, stop = self.read, min(self.read + self._chunk, self.total)
            items = self._readings(start, stop)
            self.read = stop
            yield PolledRecords(self.partition, items, end_offset=self.total)
            await asyncio.sleep(0)  # signals and the progress bar get their turn
        if not self._closed:
            yield PolledRecords(self.partition, (), timedelta(0), ended=True, end_offset=self.total)

    def _readings(self, start: int, stop: int) -> list[Reading]:
        table, spec = self._table, self._spec
        rows = self._order[start:stop]
        chunk = np.full((stop - start, len(spec.sensors)), np.nan)
        for i, name in enumerate(spec.sensors):
            if name in self._columns:
                chunk[:, i] = table.values[rows, self._columns[name]]
        assets, times = table.assets[rows].tolist(), table.time_ns[rows].tolist()
        usable, labels = self._usable[rows].tolist(), [table.label(row, spec) for row in rows.tolist()]
        return [
            Reading(start + i, assets[i], times[i], values, condition=labels[i])
            for i, values in enumerate(chunk.tolist())
            if usable[i]
        ]

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> None:
        """A file remembers no position."""

    def close(self) -> None:
        """Ask ``events`` to end after the event in flight."""
        self._closed = True

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self._closed


@dataclass(frozen=True, slots=True)
class Oversized:
    """What is known of a line that was too long to keep."""

    length: int  # bytes, without the newline
    sha256: str


class LinesSource:
    """The lines of a file as records, in file order: one finite partition.

    A line ends at ``\\n`` and nowhere else; the last one needs none; blank lines are records
    too. The offset is the line's number from 0. Memory is bounded whatever the lines: of a
    longer one ``keep_bytes`` are kept, and ``oversized`` has its true length and SHA-256.

    Args:
        path: JSON Lines, gzipped or not.
        run_start_ns: every record's timestamp.
        chunk_lines: lines per event, at most.
        keep_bytes: must be more than the decoder's ``max_bytes``.

    Attributes:
        read: bytes of the file read so far; ``total`` is its size (both as stored).
        lines: lines handed out so far.

    Raises:
        InputError: the file is missing, empty or not ours to read; from ``events``: damaged.
    """

    unit = "bytes"

    def __init__(
        self, path: Path, run_start_ns: int, chunk_lines: int = 1024, keep_bytes: int = KEPT_BYTES
    ) -> None:
        _open(path).close()
        self.partition = InputPartition(path.name, 0)
        self.oversized: dict[int, Oversized] = {}
        self.read = 0
        self.total = path.stat().st_size
        self.lines = 0
        self._path = path
        self._run_start_ns = run_start_ns
        self._chunk = chunk_lines
        self._keep = keep_bytes
        self._closed = False

    def line_of(self, offset: int) -> int:
        """The line that has this offset."""
        return offset

    async def events(self) -> AsyncIterator[SourceEvent]:
        """Assigned, the lines, and word that nothing follows."""
        yield Assigned(self.partition, 0, 0)
        chunk: list[Record] = []
        size = 0
        for line in self._split():
            if self._closed:
                return
            chunk.append(Record(self.lines, None, line, self._run_start_ns))
            self.lines += 1
            size += len(line)
            if len(chunk) >= self._chunk or size >= _BLOCK:
                yield PolledRecords(self.partition, chunk)
                await asyncio.sleep(0)  # signals and the progress bar get their turn
                chunk, size = [], 0
        if self._closed:
            return
        self.read = self.total
        if chunk:
            yield PolledRecords(self.partition, chunk)
        if not self._closed:
            yield PolledRecords(self.partition, (), timedelta(0), ended=True, end_offset=self.lines)

    def _split(self) -> Generator[bytes, None, None]:
        """Each line, cut to what is kept of it."""
        kept = bytearray()  # of the line that is not finished
        length = 0
        digest = hashlib.sha256()  # of what goes beyond ``kept``, and then of all
        number = 0

        def add(piece: bytes) -> None:
            nonlocal length, digest
            room = self._keep - len(kept)
            if length <= self._keep < length + len(piece):
                digest = hashlib.sha256(kept)
                digest.update(piece)
            elif length > self._keep:
                digest.update(piece)
            length += len(piece)
            kept.extend(piece[:room])

        def finish() -> bytes:
            nonlocal length, number
            if length > self._keep:
                self.oversized[number] = Oversized(length, digest.hexdigest())
            line = bytes(kept)
            kept.clear()
            length = 0
            number += 1
            return line

        open_line = False
        for block in self._blocks():
            pieces = block.split(b"\n")
            add(pieces[0])
            for piece in pieces[1:]:
                yield finish()
                add(piece)
            open_line = bool(pieces[-1]) or (open_line and len(pieces) == 1)
        if open_line:
            yield finish()

    def _blocks(self) -> Iterator[bytes]:
        """The file's content, unpacked, a megabyte at a time."""
        with _open(self._path) as raw:
            packed = raw.peek(2)[:2] == b"\x1f\x8b"
            content: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            while True:
                with _reading(
                    self._path, f"damaged gzip data after line {self.lines}" if packed else "cannot be read"
                ):
                    block = content.read(_BLOCK)
                if not block:
                    return
                self.read = raw.tell()
                yield block

    async def commit(self, work: Mapping[InputPartition, PartitionCommit]) -> None:
        """A file remembers no position."""

    def close(self) -> None:
        """Ask ``events`` to end after the event in flight."""
        self._closed = True

    @property
    def closing(self) -> bool:
        """See ``ports.Source``."""
        return self._closed


def first_lines(path: Path, lines: int) -> tuple[list[bytes], bool]:
    """The first lines of a JSON Lines file, and whether these are all it has.

    Raises:
        InputError: the file is missing, empty, damaged or not ours to read.
    """
    found: list[bytes] = []
    with closing(LinesSource(path, 0)._split()) as every:
        for line in every:
            if len(found) == lines:
                return found, False
            found.append(line)
    return found, True


# ------------------------------------------------------------------ a table on the grid
@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """A table's rows on each asset's grid, and where each of them went."""

    segments: list[Segment]
    segment: Ints  # (N,) index into ``segments``, -1 for a row that cannot be used
    row: Ints  # (N,) row within that segment's values


def segments(table: Table, spec: StreamSpec) -> list[Segment]:
    """The table as history: see ``place``."""
    return place(table, spec).segments


def place(table: Table, spec: StreamSpec, compress_gaps: bool = False) -> Placement:
    """Lay the rows of a table out on each asset's grid.

    An event time is floored to the period; of several values for a cell the first observed in
    file order stands. Rows nobody spoke of are NaN within ``max_gap``; over a longer gap a
    segment ends and the next begins.

    Args:
        table: N rows, in any order.
        spec: the sensors (C; those the table lacks are NaN), period and ``max_gap``.
        compress_gaps: for batch work that reaches across every gap: one segment per asset,
            where a gap of more than two windows is as long as two windows. Rows behind such a
            gap are then no longer ``first_row + index``.

    Returns:
        Segments by asset in order of first appearance, then by time; and for every input row
        its place in them.

    Raises:
        InputError: the file has none of the stream's sensors, or the grid would not fit into memory, as the
            period does not fit the file.
    """
    _check_sensors(table, spec)
    period = spec.period_ns
    count = len(table)
    segment_of, row_of = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    used = np.flatnonzero(table.usable)
    if not len(used):
        return Placement([], segment_of, row_of)
    asset, row = table.asset_codes[used], table.time_ns[used] // period
    order = np.lexsort((used, row, asset))  # the file's order within a grid row
    used, asset, row = used[order], asset[order], row[order]

    # One entry per grid row that was spoken of: ``cell`` says which one each input row belongs to.
    new_asset = np.concatenate([[True], asset[1:] != asset[:-1]])
    step = np.concatenate([[0], np.diff(row)])
    begins = new_asset | (step > 0)
    cell = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    new_asset, step, asset, row = new_asset[first], step[first], asset[first], row[first]
    step[new_asset] = 0

    max_step = spec.max_gap_ns // period
    if compress_gaps:
        starts = new_asset
        step = np.minimum(step, 2 * spec.window + 1)
    else:
        starts = new_asset | (step > max_step)
        step[starts] = 0
    # Rows of all segments one below the other: a segment's first row follows the last one's end.
    at = np.cumsum(np.where(starts, 1, step)) - 1
    if (int(at[-1]) + 1) * len(spec.sensors) > MAX_GRID_CELLS:
        raise InputError(
            f"{table.path}: {count} rows would fill {int(at[-1]) + 1} grid rows at period {period / 1e9:g} s "
            f"and max_gap {spec.max_gap_ns / 1e9:g} s: the period is too short for this file"
        )
    grid = np.full((int(at[-1]) + 1, len(spec.sensors)), np.nan)
    columns = {name: i for i, name in enumerate(table.sensors)}
    for c, name in enumerate(spec.sensors):
        if name not in columns:
            continue
        values = table.values[used, columns[name]]
        seen = np.flatnonzero(np.isfinite(values))
        earliest = seen[np.concatenate([[True], cell[seen[1:]] != cell[seen[:-1]]])] if len(seen) else seen
        grid[at[cell[earliest]], c] = values[earliest]

    begin = np.flatnonzero(starts)
    edges = [*at[begin].tolist(), len(grid)]
    labels = _row_labels(table, spec, used, first, at, row, len(grid))
    found = [
        Segment(table.asset_names[asset[b]], int(row[b]), grid[lo:hi], labels[lo:hi])
        for b, lo, hi in zip(begin.tolist(), edges[:-1], edges[1:], strict=True)
    ]
    number = np.cumsum(starts) - 1
    segment_of[used] = number[cell]
    row_of[used] = (at - np.array(edges[:-1])[number])[cell]
    return Placement(found, segment_of, row_of)


def _row_labels(
    table: Table, spec: StreamSpec, used: Ints, first: Ints, at: Ints, row: Ints, rows: int
) -> tuple[str, ...]:
    """One condition label per grid row, where nobody spoke that of the row before; () without conditions."""
    if not spec.condition:
        return ()
    told = [table.label(int(used[i]), spec) for i in first.tolist()]
    spoken = np.searchsorted(at, np.arange(rows), side="right") - 1
    grid_rows = row[spoken] + np.arange(rows) - at[spoken]
    return tuple(Calendar(spec).labels([told[i] for i in spoken.tolist()], grid_rows))


# ------------------------------------------------------------------ writing
@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that takes its place if the block ends well; see ``writing``.

    Raises:
        DaemonError: it cannot be written.
    """
    beside = _beside(path)
    try:
        yield beside.temporary
        beside.commit()
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        beside.discard()


def check_place(path: Path) -> None:
    """Say before long work, and not after it, that its result has no place.

    Raises:
        DaemonError: the folder is not there, or the name is that of a folder.
    """
    if not path.parent.is_dir():
        raise DaemonError(f"{path}: cannot be written: there is no directory {path.parent}")
    if path.is_dir():
        raise DaemonError(f"{path}: cannot be written: it is a directory")


def _beside(path: Path) -> Beside:
    check_place(path)
    return Beside(path)


def _unwritable(path: Path, error: OSError) -> DaemonError:
    return DaemonError(f"{path}: cannot be written: {error.strerror or error}")


_UTC_NS: Final = pa.timestamp("ns", "UTC")
_SCORES: Final = pa.schema(
    [
        ("asset", pa.string()),
        ("timestamp", _UTC_NS),
        *((name, pa.float64()) for name in ("score", "reconstruction", "kl", "point", "elbo")),
        ("alarm", pa.bool_()),
        ("model", pa.string()),
    ]
)
_IMPUTED: Final = pa.schema(
    [
        ("asset", pa.string()),
        ("timestamp", _UTC_NS),
        ("sensor", pa.string()),
        *((name, pa.float64()) for name in ("value", "low", "high")),
        ("method", pa.string()),
        ("model", pa.string()),
    ]
)
_DRAWS: Final = pa.schema(
    [
        ("asset", pa.string()),
        ("timestamp", _UTC_NS),
        ("sensor", pa.string()),
        ("draw", pa.int32()),
        ("value", pa.float64()),
    ]
)
_FLUSH_CELLS: Final = 65_536

Texts = Sequence[str | None] | NDArray[np.object_]


def _timestamps(time_ns: Ints) -> pa.Array:
    return pa.array(np.asarray(time_ns, np.int64), pa.int64(), mask=np.asarray(time_ns) == NO_TIME).cast(
        _UTC_NS
    )


def write_scores(
    path: Path,
    *,
    asset: Texts,
    time_ns: Ints,
    score: Floats,
    reconstruction: Floats,
    kl: Floats,
    point: Floats,
    elbo: Floats,
    alarm: Mask,
    model: Texts,
) -> None:
    """Write ``scores.parquet``; all arguments have N entries, in the order of the input rows.

    NaN where a row was not scored; a row without a time (``NO_TIME``) has a null timestamp.

    Raises:
        DaemonError: it cannot be written.
    """
    numbers = (score, reconstruction, kl, point, elbo)
    arrays = [
        pa.array(asset, pa.string()),
        _timestamps(time_ns),
        *(pa.array(np.asarray(column, np.float64)) for column in numbers),
        pa.array(np.asarray(alarm, bool)),
        pa.array(model, pa.string()),
    ]
    with replacing(path) as temporary:
        pq.write_table(pa.Table.from_arrays(arrays, schema=_SCORES), temporary)


class _Growing:
    """A file that is written piece by piece beside its place, as a context: it appears if the block ends well."""

    _path: Path
    _beside: Beside

    def _close(self, whole: bool) -> None:
        """Write what is still held, if the file is to be ``whole``, and close it; OSError if that fails."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._close(whole=kind is None)
            if kind is None:
                self._beside.commit()
        except OSError as failure:
            if kind is None:  # else the block's own error is the one to tell
                raise _unwritable(self._path, failure) from failure
        finally:
            self._beside.discard()


class ImputedFile(_Growing):
    """``imputed.parquet``, one row per filled cell, written as the rows come.

    A context: the file appears, even when empty, if the block ends well.
    """

    def __init__(self, path: Path) -> None:
        self.cells = 0
        self._path = path
        self._beside = _beside(path)
        try:
            self._writer = pq.ParquetWriter(self._beside.temporary, _IMPUTED)
        except OSError as error:
            self._beside.discard()
            raise _unwritable(path, error) from error
        self._pending: list[tuple[str, int, str, float, float, float, str, str]] = []

    def add(self, row: FilledRow) -> None:
        """Take one filled row."""
        for sensor, cell in row.cells.items():
            self._pending.append(
                (row.asset, row.row_ns, sensor, cell.value, cell.low, cell.high, row.method, row.model)
            )
        if len(self._pending) >= _FLUSH_CELLS:
            self._flush()

    def add_cells(
        self,
        *,
        asset: Texts,
        time_ns: Ints,
        sensor: Texts,
        value: Floats,
        low: Floats,
        high: Floats,
        method: Texts,
        model: Texts,
    ) -> None:
        """Take many cells at once; all arguments have one entry per cell."""
        self._flush()
        self._write(
            [
                pa.array(asset, pa.string()),
                _timestamps(time_ns),
                pa.array(sensor, pa.string()),
                *(pa.array(np.asarray(column, np.float64)) for column in (value, low, high)),
                pa.array(method, pa.string()),
                pa.array(model, pa.string()),
            ]
        )

    def _flush(self) -> None:
        if not self._pending:
            return
        columns = list(zip(*self._pending, strict=True))
        self._pending.clear()
        kinds = [pa.string(), pa.int64(), pa.string(), *[pa.float64()] * 3, pa.string(), pa.string()]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        arrays[1] = arrays[1].cast(_UTC_NS)
        self._write(arrays)

    def _write(self, arrays: list[pa.Array]) -> None:
        self.cells += len(arrays[0])
        try:
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=_IMPUTED))
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def _close(self, whole: bool) -> None:
        if whole:
            self._flush()
        self._writer.close()


class DrawsFile(_Growing):
    """``<out>.draws.parquet``: one row per filled cell and draw, written as they come.

    A context: the file appears, even when empty, if the block ends well.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._beside = _beside(path)
        try:
            self._writer = pq.ParquetWriter(self._beside.temporary, _DRAWS)
        except OSError as error:
            self._beside.discard()
            raise _unwritable(path, error) from error

    def add(self, *, asset: Texts, time_ns: Ints, sensor: Texts, values: Floats) -> None:
        """Take the draws of n cells: names and times (n,), values (n, D)."""
        cells, count = values.shape
        which = np.repeat(np.arange(cells), count)
        columns = [
            pa.array(asset, pa.string()).take(pa.array(which)),
            _timestamps(np.asarray(time_ns)[which]),
            pa.array(sensor, pa.string()).take(pa.array(which)),
            pa.array(np.tile(np.arange(count, dtype=np.int32), cells)),
            pa.array(np.ascontiguousarray(values).reshape(-1)),
        ]
        try:
            self._writer.write_table(pa.Table.from_arrays(columns, schema=_DRAWS))
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def _close(self, whole: bool) -> None:
        self._writer.close()


def write_imputed(path: Path, rows: Iterable[FilledRow]) -> int:
    """Write ``imputed.parquet`` and return how many cells it holds.

    Raises:
        DaemonError: it cannot be written.
    """
    with ImputedFile(path) as file:
        for row in rows:
            file.add(row)
    return file.cells


class JsonLines(_Growing):
    """``alerts.jsonl``, ``drift.jsonl``, ``dead-letter.jsonl``: one JSON message per line.

    A context: the file appears, even when empty, if the block ends well.
    """

    def __init__(self, path: Path) -> None:
        self.lines = 0
        self._path = path
        self._beside = _beside(path)
        try:
            self._file = self._beside.temporary.open("wb")
        except OSError as error:
            raise _unwritable(path, error) from error

    def write(self, message: bytes | Mapping[str, Any]) -> None:
        """Take one message, encoded already or not; numbers that are not finite become null."""
        line = message if isinstance(message, bytes) else msgspec.json.encode(message)
        assert b"\n" not in line, "a message with a line break would be two lines"
        try:
            self._file.write(line + b"\n")
        except OSError as error:
            raise _unwritable(self._path, error) from error
        self.lines += 1

    def _close(self, whole: bool) -> None:
        self._file.close()


def dead_letter(rejected: Rejected, oversized: Mapping[int, Oversized] | None = None) -> dict[str, Any]:
    """One line of ``dead-letter.jsonl``: where, why, and the original in base64.

    Of a long original it holds as much as the topic's message does, with its whole length and
    SHA-256 beside it; ``oversized`` knows these for lines that were not kept whole.
    """
    value = rejected.record.value
    detail = rejected.detail
    whole = (oversized or {}).get(rejected.record.offset)
    if whole is not None and rejected.reason is Reason.TOO_LARGE:
        detail = detail.replace(str(len(value)), str(whole.length), 1)  # the decoder saw what was kept
    line: dict[str, Any] = {
        "line": rejected.record.offset,
        "reason": rejected.reason.value,
        "detail": detail,
        "original": base64.b64encode(kept(value)).decode("ascii"),
    }
    if len(kept(value)) < len(value):
        if whole is None:
            whole = Oversized(len(value), hashlib.sha256(value).hexdigest())
        line |= {"length": whole.length, "sha256": whole.sha256}
    return line


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``, indented; numbers that are not finite become null.

    Raises:
        DaemonError: it cannot be written.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        raise TypeError(f"summary: {type(value).__name__} has no JSON")

    text = msgspec.json.format(msgspec.json.encode(summary, enc_hook=plain), indent=2)
    with replacing(path) as temporary:
        temporary.write_bytes(text + b"\n")


def check_table_name(out: Path) -> None:
    """Refuse a name whose ending says no table.

    Raises:
        InputError: it does.
    """
    if _suffix(out) not in (".parquet", ".pq", ".csv", ".tsv"):
        raise InputError(f"{out}: the name must end in .parquet or .csv (or either with .gz)")


def write_filled_table(table: Table, filled: Floats, out: Path) -> int:
    """Write a table's file again with its gaps filled: same rows, order, columns and types.

    A cell is replaced where the table has no number and ``filled`` has; all others stay as they
    are, to the bit (in a CSV: to the letter). A column of integers that gets a filled cell
    becomes one of floats. The extension of ``out`` decides the format.

    Args:
        table: what ``read_table`` gave; its file is read again.
        filled: (N, C) raw units, NaN where there is nothing to fill in.
        out: ``.parquet``, ``.pq``, ``.csv`` or ``.tsv``, each also ``.gz``.

    Returns:
        How many cells were filled.

    Raises:
        InputError: the extension says no format, or the file has changed since.
        DaemonError: it cannot be written.
    """
    check_table_name(out)
    suffix = _suffix(out)
    columns, text = _columns(table.path)
    if columns.num_rows != len(table):
        raise InputError(
            f"{table.path}: has changed while it was read: {columns.num_rows} rows, not {len(table)}"
        )
    replace_cell = ~np.isfinite(table.values) & np.isfinite(filled)
    to_csv = suffix in (".csv", ".tsv")
    for c, name in enumerate(table.sensors):
        i = columns.column_names.index(name)
        column = _filled_column(columns[name], replace_cell[:, c], filled[:, c], text, to_csv)
        columns = columns.set_column(i, columns.schema.field(i).with_type(column.type), column)
    if text and not to_csv:
        time_name = _time_column(table.path, columns.column_names)
        columns = columns.set_column(
            columns.column_names.index(time_name), time_name, _timestamps(table.time_ns)
        )
    with replacing(out) as temporary:
        if to_csv:
            with _reading(table.path, "cannot be written as CSV (Parquet can hold it)"):
                data = _csv_bytes(columns, "\t" if suffix == ".tsv" else ",")
        else:
            content = pa.BufferOutputStream()
            pq.write_table(columns, content)
            data = content.getvalue()
        temporary.write_bytes(gzip.compress(data, mtime=0) if out.name.lower().endswith(".gz") else data)
    return int(replace_cell.sum())


def _filled_column(
    column: pa.ChunkedArray, where: Mask, filled: Floats, text: bool, to_csv: bool
) -> pa.Array:
    """A column with its cells replaced where said."""
    array = _plain(column)
    if text and to_csv:
        texts = [repr(value) for value in filled[where].tolist()]
        return pc.replace_with_mask(array, pa.array(where), pa.array(texts, pa.string()))
    if text:
        cells = _trimmed(column)
        number = pc.match_substring_regex(cells, _NUMBER)
        cells = pc.replace_substring_regex(
            pc.if_else(number, cells, pa.scalar(None, pa.string())), r"^\+", ""
        )
        try:
            array = cells.cast(pa.int64())
        except pa.ArrowInvalid:
            array = cells.cast(pa.float64())
    if not where.any():
        return array if text else column
    if not pa.types.is_floating(array.type):
        array = array.cast(pa.float64(), safe=False)
    values = pa.array(filled[where]).cast(array.type, safe=False)
    return pc.replace_with_mask(array, pa.array(where), values)


def _csv_bytes(columns: pa.Table, delimiter: str) -> bytes:
    """The table as CSV, with quotes only where a cell needs them."""
    for i, kind in enumerate(columns.schema.types):
        if pa.types.is_dictionary(kind):
            columns = columns.set_column(i, columns.column_names[i], _plain(columns.column(i)))
    header = StringIO()
    csv.writer(header, delimiter=delimiter, lineterminator="\n").writerow(columns.column_names)

    try:
        content = pa.BufferOutputStream()
        options = pacsv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="none")
        pacsv.write_csv(columns, content, options)
        body: bytes = content.getvalue().to_pybytes()
    except pa.ArrowInvalid:  # a text holds a delimiter; Arrow's "needed" quotes every text
        body = _quoted_lines(columns, delimiter)
    return header.getvalue().encode() + body


def _quoted_lines(columns: pa.Table, delimiter: str) -> bytes:
    """The table's lines with quotes around those cells alone that need them."""
    cells = []
    for column in columns.columns:
        array = _plain(column)
        texts = pc.fill_null(array.cast(pa.string()), "")
        if pa.types.is_string(array.type):
            quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
            texts = pc.if_else(pc.match_substring_regex(texts, f'["\r\n{delimiter}]'), quoted, texts)
        cells.append(texts)
    lines = pc.binary_join_element_wise(*cells, delimiter).to_pylist()
    return "".join(f"{line}\n" for line in lines).encode()
