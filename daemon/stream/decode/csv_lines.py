"""Lines of CSV in one record: the tree is an array with an object (or, without names, an array) per line.

Options: ``columns``, the names in order; ``header: true``, where the first line of every record has them; and
``delimiter``, a comma where it is not given. Values stay texts: what a number is has one rule, in ``extract``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.stream.decode.arrival import Arrival, Parts, TreeDecoder
from daemon.stream.decode.wrappings import looks_like
from daemon.stream.rejection import RejectedError


def csv_lines(options: Mapping[str, object]) -> TreeDecoder:
    """The decoder of these options.

    Raises:
        ConfigError: one of them is wrong.
    """
    columns, header = options.get("columns"), options.get("header", False)
    delimiter = options.get("delimiter", ",")
    if delimiter in ("tab", "\\t"):
        delimiter = "\t"
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n\x00':
        raise ConfigError(f"decode: delimiter {delimiter!r} is no single character")
    if not isinstance(header, bool):
        raise ConfigError(f"decode: header {header!r} is neither true nor false")
    if columns is not None and (not isinstance(columns, list) or not columns):
        raise ConfigError("decode: columns is no list of names")
    names = None if columns is None else [str(name) for name in columns]

    def lines(value: bytes, arrival: Arrival) -> list[Any]:
        """Raises RejectedError: there is no line, or none that fits the columns."""
        rows = _rows(value, delimiter)
        if header and rows:
            first = rows.pop(0)[1]
            known = names or [cell.strip() for cell in first]
        else:
            known = names or []
        parts = Parts()
        for number, cells in rows:
            if not known:
                parts.found.append(cells)
            elif len(cells) == len(known):
                parts.found.append(dict(zip(known, cells, strict=True)))
            else:
                detail = looks_like(value) or f"{len(cells)} values, where {len(known)} columns are named"
                parts.refuse(f"line {number}", RejectedError(Reason.UNDECODABLE, detail))
        return parts.taken(arrival)

    return lines


def _rows(value: bytes, delimiter: str) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers."""
    try:
        text = value.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        detail = looks_like(value) or f"byte {error.start} is not UTF-8"
        raise RejectedError(Reason.NOT_UTF8, detail) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise RejectedError(Reason.UNDECODABLE, f"line {reader.line_num}: {error}") from None
