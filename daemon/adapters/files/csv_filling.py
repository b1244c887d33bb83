"""A CSV file written again, to the letter but for some cells: its preamble, delimiter, quotes, line ends and encoding.

In: the file's text and form, and for some columns new texts of some rows. Out: bytes. Lines without a new cell are
copied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from daemon.adapters.files.csv_form import CsvForm


def filled_csv(text: bytes, form: CsvForm, rows: int, cells: Mapping[int, Mapping[int, str]]) -> bytes | None:
    """The file with some cells replaced.

    Args:
        text: of the file in UTF-8, without a byte order mark.
        form: how it is written.
        rows: how many it has.
        cells: row -> index of a column -> its new text.

    Returns:
        The bytes of the new file; None where the rows cannot be told apart without parsing them all.
    """
    pieces = _records(text[form.start :])
    places = [i for i, piece in enumerate(pieces) if piece.strip(b"\r\n")]
    if len(places) != rows:
        return None
    for row, new in cells.items():
        i = places[row]
        body = pieces[i].rstrip(b"\r\n")
        end = pieces[i][len(body) :]
        parts = _cells(body, form.delimiter.encode())
        for column, cell in new.items():
            if column >= len(parts):
                return None
            quoted = form.delimiter in cell
            parts[column] = (f'"{cell}"' if quoted else cell).encode()
        pieces[i] = form.delimiter.encode().join(parts) + end
    whole = text[: form.start] + b"".join(pieces)
    return form.mark + (whole if form.encoding == "utf-8" else whole.decode().encode(form.encoding))


def _records(body: bytes) -> list[bytes]:
    """The lines, each with its end; a quoted cell may hold line ends."""
    lines = body.split(b"\n")
    pieces = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    if b'"' not in body:
        return pieces
    found: list[bytes] = []
    open_record: list[bytes] = []
    odd = False
    for piece in pieces:
        odd ^= piece.count(b'"') % 2 == 1
        open_record.append(piece)
        if not odd:
            found.append(b"".join(open_record))
            open_record = []
    return [*found, *open_record]


def _cells(line: bytes, delimiter: bytes) -> list[bytes]:
    """The cells of a line as they are written, quotes included."""
    if b'"' not in line:
        return line.split(delimiter)
    cell = re.compile(rb'"(?:[^"]|"")*"|[^' + re.escape(delimiter) + rb"]*")
    found: list[bytes] = []
    at = 0
    while True:
        match = cell.match(line, at)
        assert match is not None  # the empty cell always matches
        end = line.find(delimiter, match.end())
        if end < 0:
            return [*found, line[at:]]
        found.append(line[at:end])
        at = end + len(delimiter)


def cell_texts(values: Sequence[float], comma: bool) -> list[str]:
    """Numbers as a file writes them."""
    return [repr(value).replace(".", ",") if comma else repr(value) for value in values]
