"""The table of ``rename`` in a file: opaque ids of messages, each with the sensor, and the asset, that it is.

A CSV file with a header: ``id`` (or ``name``), ``sensor`` and, where ids tell it, ``asset``; commas or semicolons.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from daemon.documents import DocumentError, read_file, shown

Renamed = dict[str, tuple[str | None, str]]
"""Id -> (asset, or None where it is as the mapping says; sensor)."""
_IDS = ("id", "name", "tag", "old")


def read_rename_table(path: str) -> Renamed:
    """The table in a file.

    Raises:
        ValueError: there is no such file, or it is no such table; with the line.
    """
    try:
        text = read_file(Path(path)).decode("utf-8-sig")
    except DocumentError as error:
        raise ValueError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8") from error
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=";" if first.count(";") > first.count(",") else ",")
    columns = [name.strip().lower() for name in rows.fieldnames or ()]
    rows.fieldnames = columns
    ids = [name for name in _IDS if name in columns]
    if not ids or "sensor" not in columns:
        found = ", ".join(columns) or "nothing"
        raise ValueError(f"{path}: the header has {shown(found)}; it needs id and sensor, and may have asset")
    table: Renamed = {}
    try:
        for row in rows:
            old, sensor = (row[ids[0]] or "").strip(), (row["sensor"] or "").strip()
            if not old or not sensor:
                raise ValueError(f"{path}, line {rows.line_num}: the id or the sensor is empty")
            if old in table:
                raise ValueError(f"{path}, line {rows.line_num}: {shown(old)} is there twice")
            table[old] = ((row.get("asset") or "").strip() or None, sensor)
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num}: {error}") from error
    return table
