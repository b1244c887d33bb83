"""The columns of a Parquet or CSV file, gzipped or not, as an Arrow table: the decoding layer of tables.

CSV cells stay text exactly as they are written; what they mean is decided in ``cells`` and ``row_keys``.
Input is a path, output an Arrow table. Arrow never holds memory that Python owns (``arrow_memory``).
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from daemon.adapters.files.opening import damage_as_input_error, open_regular, suffix_of
from daemon.errors import InputError


def read_columns(path: Path, wanted: Callable[[pa.Schema], list[str]] | None = None) -> tuple[pa.Table, bool]:
    """Decode a file.

    CSV columns stay text: a guessed type would lose what a cell really holds, and one ``error``
    among a million numbers would fail the file.

    Args:
        path: the file.
        wanted: of a Parquet file's schema, the names of the columns to read; None for all.

    Returns:
        The columns, and whether they are CSV text.

    Raises:
        InputError: the file is missing, empty or damaged, or a column name is repeated.
    """
    with open_regular(path) as file:
        head = file.peek(4)[:4]
        data: bytes | None = None
        if head[:2] == b"\x1f\x8b":
            with damage_as_input_error(path, "damaged gzip data"):
                data = gzip.decompress(file.read())
            head = data[:4]
            if not head:
                raise InputError(f"{path}: is empty")
        if head != b"PAR1" and suffix_of(path) in (".parquet", ".pq"):
            raise InputError(f"{path}: not a readable Parquet file: it does not begin with PAR1")
        if head != b"PAR1":
            with damage_as_input_error(path, "not a readable CSV file"):
                return _csv_columns(path, file.read() if data is None else data), True
    with (
        damage_as_input_error(path, "not a readable Parquet file"),
        pq.ParquetFile(path if data is None else arrow_memory(data)) as parquet,
    ):
        schema = parquet.schema_arrow
        _refuse_repeated(path, schema.names)
        return parquet.read(columns=None if wanted is None else wanted(schema)), False


def arrow_memory(data: bytes) -> pa.BufferReader:
    """A copy of the bytes in memory that Arrow owns.

    After an error Arrow's reading threads may outlive the call. If such a thread holds the last reference to
    a Python object when the interpreter ends, it waits for the lock, is ended inside C++, and the process
    aborts. So Arrow gets a path or memory of its own, and never a Python object.
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
    """The columns of a CSV file, every cell as the text that is written there."""
    end = data.find(b"\n") + 1 or len(data)
    names, delimiter = _csv_header(data[:end])
    _refuse_repeated(path, names)
    if end == len(data):  # Arrow makes no table of a header that no line follows
        return pa.table({name: pa.array([], pa.string()) for name in names})
    columns = pacsv.read_csv(
        arrow_memory(data),
        parse_options=pacsv.ParseOptions(delimiter=delimiter),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )
    if columns.column_names != names:  # Arrow found another line, or ended it elsewhere, and guessed types
        raise InputError(f"{path}: not a readable CSV file: its first line is not the header")
    return columns


def column_names(path: Path) -> list[str]:
    """The columns of a Parquet or CSV file, without reading its rows where possible.

    Raises:
        InputError: the file is missing, empty, damaged or not readable for this user.
    """
    with open_regular(path) as file:
        head = file.peek(4)[:4]
        with damage_as_input_error(path, "not a readable file"):
            if head == b"PAR1":
                return list(pq.read_schema(path).names)
            content: Any = gzip.GzipFile(fileobj=file) if head[:2] == b"\x1f\x8b" else file
            line = content.readline()
            if line[:4] != b"PAR1":
                return _csv_header(line)[0]
    return list(read_columns(path)[0].column_names)


def _refuse_repeated(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"{path}: column {twice!r} appears twice")
