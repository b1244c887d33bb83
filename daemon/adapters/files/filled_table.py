"""A table's own file written again with its gaps filled, every other cell unchanged.

Used by ``impute``: same rows, order, columns and types; in a CSV, cells that are not filled keep every character.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from daemon.adapters.files.cells import Cells, plain_array
from daemon.adapters.files.columns import Columns, csv_text, read_columns
from daemon.adapters.files.csv_filling import cell_texts, filled_csv
from daemon.adapters.files.csv_form import CsvForm
from daemon.adapters.files.opening import damage_as_input_error, suffix_of
from daemon.adapters.files.results import timestamps
from daemon.adapters.files.sensor_columns import Spelling
from daemon.adapters.files.table import Table
from daemon.adapters.files.writing import replacing
from daemon.domain import Floats, Mask
from daemon.errors import InputError
from daemon.mapping import SensorRule

_TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".dat")


def check_table_name(out: Path) -> None:
    """Refuse a name whose extension is not that of a table.

    Raises:
        InputError: it is not.
    """
    if suffix_of(out) not in (".parquet", ".pq", *_TEXT_SUFFIXES):
        raise InputError(f"{out}: the name must end in .parquet or .csv (or either with .gz)")


@dataclass(frozen=True, slots=True, eq=False)
class _Fills:
    """The new numbers of one column of a file of F rows, as the file writes its numbers."""

    where: Mask  # (F,)
    values: Floats  # (F,)
    spelling: Spelling

    @property
    def texts(self) -> list[str]:
        """The new cells, in the order of their rows."""
        return cell_texts(self.values[self.where].tolist(), self.spelling.comma)


def write_filled_table(table: Table, filled: Floats, out: Path) -> int:
    """Write a table's file again with its gaps filled: same rows, order, columns and types.

    A cell is replaced where the table has no number and ``filled`` has; all others stay as they
    are, to the bit (in a CSV: to the letter, with its preamble, delimiter and decimal commas). A column of
    integers that gets a filled cell becomes one of floats. The extension of ``out`` decides the format. Of a long
    table only cells that have a row can be filled.

    Args:
        table: as ``read_table`` returned it; its file is read again.
        filled: (N, C) in the units of the table, NaN where there is nothing to fill in.
        out: ``.parquet``, ``.pq``, ``.csv``, ``.tsv``, ``.txt`` or ``.dat``, each also ``.gz``.

    Returns:
        How many cells were filled.

    Raises:
        InputError: the extension names no format, or the file has changed since.
        DaemonError: it cannot be written.
    """
    check_table_name(out)
    suffix = suffix_of(out)
    columns = read_columns(table.path, wanted=table.reading.named)
    rows = len(table) if table.pivoted is None else len(table.pivoted.row)
    if columns.table.num_rows != rows:
        raise InputError(
            f"{table.path}: has changed while it was read: {columns.table.num_rows} rows, not {rows}"
        )
    fills = _fills(table, filled)
    for each in fills:
        each.where[list(columns.odd)] = False  # such a row has no cell to fill
    data: bytes | None = None
    if columns.form is not None and suffix in _TEXT_SUFFIXES and _same_form(table.path, columns.form, suffix):
        data = _same_text(table.path, columns, fills)
    if data is None:
        data = _new_text(table, columns, fills, suffix)
    with replacing(out) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if out.name.lower().endswith(".gz") else data)
    return sum(int(each.where.sum()) for each in fills)


def _fills(table: Table, filled: Floats) -> list[_Fills]:
    """The new cells by column of the file; those of a long table are all of one column."""
    replace_cell = ~np.isfinite(table.values) & np.isfinite(filled)
    spellings = [table.spelling[name] for name in table.sensors]
    written = np.stack(
        [(filled[:, c] - each.rule.offset) / each.rule.scale for c, each in enumerate(spellings)], 1
    )
    if table.pivoted is None:
        return [_Fills(replace_cell[:, c], written[:, c], spelling) for c, spelling in enumerate(spellings)]
    row, sensor = table.pivoted.row, table.pivoted.sensor
    where = (sensor >= 0) & replace_cell[row, sensor]
    states = {text: number for each in spellings for text, number in each.rule.states.items()}
    return [
        _Fills(
            where,
            written[row, sensor],
            Spelling(spellings[0].column, spellings[0].comma, SensorRule(states=states)),
        )
    ]


def _same_form(path: Path, form: CsvForm, suffix: str) -> bool:
    """Whether a text file is written as the one that was read: one of tabs has its own suffix."""
    same = suffix_of(path) == suffix or form.delimiter not in (",", "\t")
    return same or (form.delimiter == "\t") == (suffix == ".tsv")


def _same_text(path: Path, columns: Columns, fills: Sequence[_Fills]) -> bytes | None:
    """The text of a CSV file with its new cells; None where they cannot be put in place."""
    form = columns.form
    assert form is not None
    cells: dict[int, dict[int, str]] = {}
    for each in fills:
        at = columns.names.index(each.spelling.column)
        for row, text in zip(np.flatnonzero(each.where).tolist(), each.texts, strict=True):
            cells.setdefault(row, {})[at] = text
    return filled_csv(csv_text(path), form, columns.table.num_rows, cells)


def _new_text(table: Table, columns: Columns, fills: Sequence[_Fills], suffix: str) -> bytes:
    """The table in another form than that of its file, or as Parquet."""
    to_csv = suffix in _TEXT_SUFFIXES
    arrow = columns.table
    for each in fills:
        name = each.spelling.column
        i = arrow.column_names.index(name)
        column = _filled_column(arrow[name], each, columns.text, to_csv)
        arrow = arrow.set_column(i, arrow.schema.field(i).with_type(column.type), column)
    if columns.text and not to_csv:
        time_name = table.roles.time[0]
        times = table.time_ns if table.pivoted is None else table.time_ns[table.pivoted.row]
        arrow = arrow.set_column(arrow.column_names.index(time_name), time_name, timestamps(times))
    if to_csv:
        with damage_as_input_error(table.path, "cannot be written as CSV (Parquet can hold it)"):
            return _csv_bytes(arrow, "\t" if suffix == ".tsv" else ",")
    content = pa.BufferOutputStream()
    pq.write_table(arrow, content)
    return bytes(content.getvalue().to_pybytes())


def _filled_column(column: pa.ChunkedArray, fills: _Fills, text: bool, to_csv: bool) -> pa.Array:
    """A column of F cells with its new ones in place."""
    array = plain_array(column)
    where, spelling = fills.where, fills.spelling
    if pa.types.is_string(array.type) and (to_csv or not text):
        return pc.replace_with_mask(array, pa.array(where), pa.array(fills.texts, pa.string()))
    if text:
        array = _as_numbers(column, spelling)
    if not where.any():
        return array if text else column
    if not pa.types.is_floating(array.type):
        array = array.cast(pa.float64(), safe=False)
    values = pa.array(fills.values[where]).cast(array.type, safe=False)
    return pc.replace_with_mask(array, pa.array(where), values)


def _as_numbers(column: pa.ChunkedArray, spelling: Spelling) -> pa.Array:
    """A column of a CSV as integers where all of it are, else as floats; null where a cell holds no number."""
    cells = Cells.of(column)
    numbers = cells.numbers(spelling.rule.states, spelling.comma)
    if numbers is None:
        return pa.nulls(len(cells.texts), pa.float64())
    bare = pc.if_else(cells.number, cells.texts, pa.scalar(None, pa.string()))
    if len(cells.rest) == 0 or not np.isfinite(numbers.values[pc.invert(cells.number).fill_null(True)]).any():
        try:
            return pc.replace_substring_regex(bare, r"^\+", "").cast(pa.int64())
        except pa.ArrowInvalid:
            pass
    return pa.array(numbers.values, mask=np.isnan(numbers.values))


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
