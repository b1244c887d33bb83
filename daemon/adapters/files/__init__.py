"""Files in and out: tables and JSON Lines as sources, their rows as histories, and the results of a run.

A table (Parquet or CSV) has types of its own, so its rows become readings without passing through JSON; but
they follow the rules of the decoder: a time that the decoder would refuse is refused here, by the decoder
itself wherever a value is not plain. The lines of JSON Lines are records like those of a topic.

The way of a table, module by module: ``opening``, ``csv_form`` and ``columns`` decode the file; ``roles`` says which
column is what, by ``table_reading`` and by names; ``row_keys`` (with ``event_dates``), ``sensor_columns`` (with
``cells``) and ``long_tables`` extract asset, event time and values; ``table`` puts these together, and then either
``table_source`` emits the rows one by one in file order, or ``placing`` lays them out on each asset's grid at once,
for training and for batch imputation. Results are written by ``results``, ``json_results`` and ``filled_table``
(with ``csv_filling``); each appears under its name only when it is whole (``writing``).
"""

from daemon.adapters.files.columns import column_names
from daemon.adapters.files.filled_table import check_table_name, write_filled_table
from daemon.adapters.files.json_results import JsonLines, dead_letter, write_summary
from daemon.adapters.files.lines_source import KEPT_BYTES, LinesSource, Oversized, first_lines
from daemon.adapters.files.long_tables import Pivoted
from daemon.adapters.files.opening import is_lines
from daemon.adapters.files.placing import Placement, place, segments
from daemon.adapters.files.results import (
    DrawsFile,
    ImputedCells,
    ImputedFile,
    ScoreColumns,
    write_scores,
)
from daemon.adapters.files.row_keys import NO_TIME, RefusedRow
from daemon.adapters.files.table import Table, read_table
from daemon.adapters.files.table_reading import TableReading
from daemon.adapters.files.table_source import TableSource
from daemon.adapters.files.writing import check_place, replacing

__all__ = [
    "KEPT_BYTES",
    "NO_TIME",
    "DrawsFile",
    "ImputedCells",
    "ImputedFile",
    "JsonLines",
    "LinesSource",
    "Oversized",
    "Pivoted",
    "Placement",
    "RefusedRow",
    "ScoreColumns",
    "Table",
    "TableReading",
    "TableSource",
    "check_place",
    "check_table_name",
    "column_names",
    "dead_letter",
    "first_lines",
    "is_lines",
    "place",
    "read_table",
    "replacing",
    "segments",
    "write_filled_table",
    "write_scores",
    "write_summary",
]
