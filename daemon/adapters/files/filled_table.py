"""A table's own file written again with its gaps filled, every other cell unchanged.

Used by ``impute``: same rows, order, columns and types; in a CSV, cells that are not filled keep every character.
"""

from __future__ import annotations

import csv
import gzip
from io import StringIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from daemon.adapters.files.cells import NUMBER, plain_array, trimmed_texts
from daemon.adapters.files.columns import read_columns
from daemon.adapters.files.opening import damage_as_input_error, suffix_of
from daemon.adapters.files.results import timestamps
from daemon.adapters.files.table import Table, time_column
from daemon.adapters.files.writing import replacing
from daemon.domain import Floats, Mask
from daemon.errors import InputError


def check_table_name(out: Path) -> None:
    """Refuse a name whose extension is not that of a table.

    Raises:
        InputError: it is not.
    """
    if suffix_of(out) not in (".parquet", ".pq", ".csv", ".tsv"):
        raise InputError(f"{out}: the name must end in .parquet or .csv (or either with .gz)")


def write_filled_table(table: Table, filled: Floats, out: Path) -> int:
    """Write a table's file again with its gaps filled: same rows, order, columns and types.

    A cell is replaced where the table has no number and ``filled`` has; all others stay as they
    are, to the bit (in a CSV: to the letter). A column of integers that gets a filled cell
    becomes one of floats. The extension of ``out`` decides the format.

    Args:
        table: as ``read_table`` returned it; its file is read again.
        filled: (N, C) raw units, NaN where there is nothing to fill in.
        out: ``.parquet``, ``.pq``, ``.csv`` or ``.tsv``, each also ``.gz``.

    Returns:
        How many cells were filled.

    Raises:
        InputError: the extension names no format, or the file has changed since.
        DaemonError: it cannot be written.
    """
    check_table_name(out)
    suffix = suffix_of(out)
    columns, text = read_columns(table.path)
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
        time_name = time_column(table.path, columns.column_names)
        columns = columns.set_column(
            columns.column_names.index(time_name), time_name, timestamps(table.time_ns)
        )
    with replacing(out) as temporary:
        if to_csv:
            with damage_as_input_error(table.path, "cannot be written as CSV (Parquet can hold it)"):
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
    """A column with its cells replaced by ``filled`` (N,) at ``where`` (N,)."""
    array = plain_array(column)
    if text and to_csv:
        texts = [repr(value) for value in filled[where].tolist()]
        return pc.replace_with_mask(array, pa.array(where), pa.array(texts, pa.string()))
    if text:
        cells = trimmed_texts(column)
        number = pc.match_substring_regex(cells, NUMBER)
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
            columns = columns.set_column(i, columns.column_names[i], plain_array(columns.column(i)))
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
    """The lines of the table, with quotes only around the cells that need them."""
    cells = []
    for column in columns.columns:
        array = plain_array(column)
        texts = pc.fill_null(array.cast(pa.string()), "")
        if pa.types.is_string(array.type):
            quoted = pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")
            texts = pc.if_else(pc.match_substring_regex(texts, f'["\r\n{delimiter}]'), quoted, texts)
        cells.append(texts)
    lines = pc.binary_join_element_wise(*cells, delimiter).to_pylist()
    return "".join(f"{line}\n" for line in lines).encode()
