"""The columns of a Parquet or CSV file, gzipped or not, as an Arrow table: the decoding layer of tables.

CSV cells stay text exactly as they are written; what they mean is decided in ``cells`` and ``row_keys``. How the
file is written is found out by ``csv_form``. Input is a path, output ``Columns``. Arrow never holds memory that
Python owns (``arrow_memory``).
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from daemon.adapters.files.csv_form import CsvForm, csv_form, utf8_text
from daemon.adapters.files.opening import damage_as_input_error, only_member, open_regular, suffix_of
from daemon.documents import shown
from daemon.errors import InputError

_SHOWN_ROW: Final = 60
_ZIP: Final = b"PK\x03\x04"
_OLD_OFFICE: Final = b"\xd0\xcf\x11\xe0"
_NAMES_BYTES: Final = 1 << 17
"""Enough of a CSV for the names of its columns."""
_MOST_LEVELS: Final = 4
"""Structures within structures of a Parquet file that are made columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The columns of a file of N rows.

    A row of a CSV that has another number of cells than the header is a row of nulls, and ``odd`` says so.
    """

    table: pa.Table
    text: bool  # whether the cells are the text of a CSV
    form: CsvForm | None = None  # of a CSV
    odd: dict[int, str] = field(default_factory=dict)  # row -> what is wrong with it

    @property
    def names(self) -> list[str]:
        """Of the columns, in file order."""
        return list(self.table.column_names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of how the file is written."""
        return () if self.form is None else self.form.notes


def read_columns(path: Path, left_out: Sequence[str] = (), wanted: Sequence[str] = ()) -> Columns:
    """Decode a file.

    CSV columns stay text: a guessed type would lose what a cell really holds, and one ``error``
    among a million numbers would fail the file. Structures of a Parquet file become columns ``outer.inner``.

    Args:
        path: the file.
        left_out: columns of a Parquet file that need not be read.
        wanted: names that the header of a CSV must have, where some are known.

    Raises:
        InputError: the file is missing, empty or damaged.
    """
    data = _content(path)
    if isinstance(data, bytes):
        with damage_as_input_error(path, "not a readable CSV file"):
            return _csv_columns(path, data, wanted)
    with damage_as_input_error(path, "not a readable Parquet file"), pq.ParquetFile(data) as parquet:
        schema = parquet.schema_arrow
        _refuse_repeated(path, schema.names)
        skipped = frozenset(left_out)
        read = parquet.read(columns=[name for name in schema.names if name not in skipped])
        return Columns(_flattened(read), text=False)


def column_names(path: Path, wanted: Sequence[str] = ()) -> list[str]:
    """The columns of a Parquet or CSV file, without reading its rows where possible.

    Raises:
        InputError: the file is missing, empty, damaged or not readable for this user.
    """
    data = _content(path, _NAMES_BYTES)
    if isinstance(data, bytes):
        with damage_as_input_error(path, "not a readable CSV file"):
            return list(csv_form(path, *utf8_text(path, data), wanted).names)
    with damage_as_input_error(path, "not a readable Parquet file"):
        empty = pq.read_schema(data).empty_table()
        return list(_flattened(empty).column_names)


def csv_text(path: Path) -> bytes:
    """The text of a CSV file in UTF-8, without a byte order mark.

    Raises:
        InputError: the file is missing, empty, damaged or no text.
    """
    data = _content(path)
    assert isinstance(data, bytes)
    with damage_as_input_error(path, "not a readable CSV file"):
        return utf8_text(path, data)[0]


def _content(path: Path, most: int | None = None) -> bytes | Path | pa.BufferReader:
    """The content of a CSV file as bytes (the lines in its first ``most``), of a Parquet file as what Arrow reads."""
    with open_regular(path) as file:
        head = file.peek(4)[:4]
        data: bytes | None = None
        if head[:2] == b"\x1f\x8b":
            with damage_as_input_error(path, "damaged gzip data"):
                data = gzip.decompress(file.read())
            head = data[:4]
            if not head:
                raise InputError(f"{path}: is empty")
        if head == _ZIP:
            data = only_member(path, file if data is None else BytesIO(data))
            head = data[:4]
            if not head:
                raise InputError(f"{path}: is empty")
        elif head == _OLD_OFFICE:
            raise InputError(f"{path}: is an Excel workbook: save the sheet as CSV, or as Parquet")
        if head == b"PAR1":
            return path if data is None else arrow_memory(data)
        if suffix_of(path) in (".parquet", ".pq"):
            raise InputError(f"{path}: not a readable Parquet file: it does not begin with PAR1")
        if data is not None:
            return data
        with damage_as_input_error(path, "cannot be read"):
            data = file.read(most)
            if most is not None and len(data) == most and b"\0" not in data and b"\n" in data:
                return data[: data.rfind(b"\n") + 1]
            return data + file.read()


def arrow_memory(data: bytes | memoryview) -> pa.BufferReader:
    """A copy of the bytes in memory that Arrow owns.

    After an error Arrow's reading threads may outlive the call. If such a thread holds the last reference to
    a Python object when the interpreter ends, it waits for the lock, is ended inside C++, and the process
    aborts. So Arrow gets a path or memory of its own, and never a Python object.
    """
    memory = pa.allocate_buffer(len(data))
    np.frombuffer(memory, np.uint8)[:] = np.frombuffer(data, np.uint8)
    return pa.BufferReader(memory)


def _csv_columns(path: Path, data: bytes, wanted: Sequence[str]) -> Columns:
    """The columns of a CSV file, every cell as the text that is written there."""
    text, encoding, mark = utf8_text(path, data)
    form = csv_form(path, text, encoding, mark, wanted)
    body = memoryview(text)[form.start :]
    if not bytes(body[:4096]).strip() and not bytes(body).strip():  # Arrow makes no table of nothing
        return Columns(pa.table({name: pa.array([], pa.string()) for name in form.names}), True, form)
    try:
        return Columns(_parsed(body, form), True, form)
    except pa.ArrowInvalid:
        odd: dict[int, str] = {}

        def skip(row: pacsv.InvalidRow) -> str:
            # Called in this thread alone, as Arrow reads without others, and in the order of the rows.
            text = "".join(c if c.isprintable() else "?" for c in row.text[:_SHOWN_ROW])
            odd[row.number - 1] = f"{row.actual_columns} cells, not {row.expected_columns}: {text}"
            return "skip"

        return _with_odd_rows(path, _parsed(body, form, skip), form, odd)


def _parsed(body: memoryview, form: CsvForm, skip: object = None) -> pa.Table:
    return pacsv.read_csv(
        arrow_memory(body),
        read_options=pacsv.ReadOptions(column_names=list(form.names), use_threads=skip is None),
        parse_options=pacsv.ParseOptions(
            delimiter=form.delimiter, newlines_in_values=skip is not None, invalid_row_handler=skip
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(form.names, pa.string()), strings_can_be_null=False
        ),
    )


def _with_odd_rows(path: Path, table: pa.Table, form: CsvForm, odd: dict[int, str]) -> Columns:
    """The table with rows of nulls where rows of the file have another number of cells."""
    if not table.num_rows:
        why = f"; row 0 has {odd[0]}" if 0 in odd else ""
        raise InputError(f"{path}: not a readable CSV file: no row has {len(form.names)} cells{why}")
    count = table.num_rows + len(odd)
    at = np.full(count, -1, np.int64)
    at[np.setdiff1d(np.arange(count), list(odd))] = np.arange(table.num_rows)
    return Columns(table.take(pa.array(at, mask=at < 0)), True, form, odd)


def _flattened(table: pa.Table) -> pa.Table:
    """The table with the fields of its structures as columns of their own, as far as their names are free."""
    for _ in range(_MOST_LEVELS):
        if not any(pa.types.is_struct(kind) for kind in table.schema.types):
            break
        flat = table.flatten()
        if len(set(flat.column_names)) < flat.num_columns:
            break
        table = flat
    return table


def _refuse_repeated(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"{path}: column {shown(twice)} appears twice")
