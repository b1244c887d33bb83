"""The form of a CSV file as it was written: its encoding, its delimiter, and where its header is.

People write tables with commas, semicolons, tabs or bars; in UTF-8, UTF-16 or Windows-1252; with titles, comments
and lines of units around the names of the columns. ``csv_form`` decides all of it on the first 64 KiB. In: the
bytes of the file. Out: its text in UTF-8 and a ``CsvForm``. Of a line it asks only how many cells it has and which
of them are numbers or times (*plain*): a header is a line of names above lines that are plain.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final

from daemon.adapters.field_names import Role, bare, named
from daemon.errors import InputError
from daemon.stream.extract.numbers import BOOLEAN_WORDS, MISSING_WORDS
from daemon.stream.extract.units import is_unit

DELIMITERS: Final = (",", ";", "\t", "|")
_HEAD_BYTES: Final = 1 << 16
_HEAD_ROWS: Final = 400
_SEPARATOR_LINE: Final = re.compile(r"sep=(.)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[+-]?[0-9.,' \u00a0\u202f]*[0-9][.,]?(?:[eE][+-]?[0-9]{1,4})?")
_TIME: Final = re.compile(
    r"(?:[0-9]{1,4}[-/. ](?:[0-9]{1,2}|[A-Za-z]{3,9})[-/. ][0-9]{1,4}|[0-9]{8}T[0-9]{4,6})(?:[^0-9].*)?"
)
_CLOCK: Final = re.compile(r"[0-9]{1,2}:[0-9]{2}(?:[: ].*)?[AaPp]?")
_UNIT_NUMBER: Final = re.compile(r"[+-]?[0-9][0-9.,]*\s*[^\W\d_%\u00b0]{0,4}[%\u00b0]?[^\W\d_]{0,4}")
_EPOCH: Final = 1e8
"""A number of this size in a line of names would be odd: it is a time."""


@dataclass(frozen=True, slots=True)
class CsvForm:
    """How a CSV file is written. Offsets are in its text in UTF-8."""

    delimiter: str
    names: tuple[str, ...]  # of the columns, each once
    start: int  # where the first row begins
    header_line: int  # from 1
    encoding: str = "utf-8"
    mark: bytes = b""  # the byte order mark that the file begins with
    repeated: frozenset[str] = frozenset()  # names that the header has several times
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the head of a file (several, where a quoted cell goes on)."""

    cells: list[str]
    number: int  # from 1
    begin: int  # its offset
    end: int  # the offset of the next

    @property
    def blank(self) -> bool:
        return not any(self.cells)

    @property
    def comment(self) -> bool:
        return self.cells[0].startswith("#") if self.cells else False


def utf8_text(path: Path, data: bytes) -> tuple[bytes, str, bytes]:
    """The text of a file in UTF-8 without a byte order mark, its encoding, and the mark.

    What is no UTF-8 is Windows-1252, in which nearly every sequence of bytes is a text.

    Raises:
        InputError: it is no text at all.
        UnicodeDecodeError: it says that it is UTF-16 and is not.
    """
    encoding, mark = "utf-8", b""
    if data.startswith(codecs.BOM_UTF8):
        mark = codecs.BOM_UTF8
    elif data.startswith(codecs.BOM_UTF16_LE) or _zeros_at(data, 1):
        encoding, mark = "utf-16-le", codecs.BOM_UTF16_LE if data.startswith(codecs.BOM_UTF16_LE) else b""
    elif data.startswith(codecs.BOM_UTF16_BE) or _zeros_at(data, 0):
        encoding, mark = "utf-16-be", codecs.BOM_UTF16_BE if data.startswith(codecs.BOM_UTF16_BE) else b""
    body = data[len(mark) :]
    if encoding != "utf-8":
        body = body.decode(encoding).encode()
    elif not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            try:
                body, encoding = body.decode("cp1252").encode(), "cp1252"
            except UnicodeDecodeError:
                body, encoding = body.decode("latin-1").encode(), "latin-1"
    if b"\0" in body:
        raise InputError(f"{path}: not a readable CSV file: it is no text, for it holds zero bytes")
    if b"\n" not in body and b"\r" in body:
        body = body.replace(b"\r", b"\n")
    return _with_tabs(body), encoding, mark


def _with_tabs(body: bytes) -> bytes:
    """The text with a tab for the spaces between its columns, where nothing else parts them."""
    head = [line.strip() for line in body[:_HEAD_BYTES].split(b"\n")[:_HEAD_ROWS] if line.strip()]
    if not head or 2 * sum(any(mark in line for mark in b",;\t|") for line in head) >= len(head):
        return body
    rows = [line.split() for line in head]
    width = Counter(map(len, rows)).most_common(1)[0][0]
    alike = [row for row in rows if len(row) == width]
    plain = sum(_is_plain(cell.decode(errors="replace")) for row in alike for cell in row)
    if width < 2 or 10 * len(alike) < 9 * len(rows) or 2 * plain < width * len(alike):
        return body
    return b"\n".join(b"\t".join(line.split()) for line in body.split(b"\n"))


def _zeros_at(data: bytes, odd: int) -> bool:
    """Whether the bytes at even (or odd) places are nearly all zero, and the others are not."""
    head = data[:1024]
    return (
        len(head) >= 4
        and 10 * head[odd::2].count(0) >= 9 * len(head[odd::2])
        and 10 * head[1 - odd :: 2].count(0) < len(head)
    )


def csv_form(path: Path, text: bytes, encoding: str, mark: bytes, wanted: Sequence[str] = ()) -> CsvForm:
    """The form of a CSV file.

    Args:
        path: named in errors.
        text: the file in UTF-8.
        encoding: of the file.
        mark: its byte order mark.
        wanted: names that the header must have, where some are known.

    Raises:
        InputError: it has no header, or its header is not of its rows.
        csv.Error: a cell is too long.
    """
    notes = []
    if encoding != "utf-8":
        notes.append(f"no UTF-8: read as {_SHOWN.get(encoding, encoding)}")
    whole = len(text) <= _HEAD_BYTES
    head = text if whole else text[: text.rfind(b"\n", 0, _HEAD_BYTES) + 1] or text[:_HEAD_BYTES]
    first = head[: head.find(b"\n") + 1 or len(head)].decode(errors="replace").strip()
    declared = _SEPARATOR_LINE.fullmatch(first)
    delimiter = declared[1] if declared else _delimiter(head)
    lines = _split(head, delimiter)
    if declared:
        lines = lines[1:]
    width = _width(lines)
    begins = next((i for i, line in enumerate(lines) if len(line.cells) == width and _is_data(line)), None)
    header = _header(lines if begins is None else lines[:begins], width, wanted)
    if header is None:
        if begins is not None and not any(not line.blank for line in lines[:begins]):
            raise InputError(
                f"{path}: has no header: its first line holds readings; put a line above it that names the columns"
            )
        header = next((i for i, line in enumerate(lines) if not line.blank and not line.comment), None)
        if header is None:
            raise InputError(f"{path}: not a readable CSV file: it has no line but comments")
    chosen = lines[header]
    if b"\r" in text[chosen.begin : chosen.end].rstrip(b"\r\n"):
        raise InputError(
            f"{path}: not a readable CSV file: a new-line character in line {chosen.number}, its header"
        )
    after = header + 1
    if begins is not None:
        while after < begins and _is_units(lines[after]):
            after += 1
    cells = [
        cell.lstrip("#").strip() if i == 0 and chosen.comment else cell for i, cell in enumerate(chosen.cells)
    ]
    joined = None if wanted and set(wanted) <= set(cells) else _two_levels(lines, header, after)
    units = [
        line
        for line in lines[header + 1 : after]
        if not line.blank and (joined is None or line.cells not in joined[1:])
    ]
    start = lines[after - 1].end
    if chosen.number > 1 and not (declared and chosen.number == 2):
        notes.append(f"the columns are named in line {chosen.number}")
    if units:
        what = "line below it holds" if len(units) == 1 else f"{len(units)} lines below it hold"
        notes.append(f"the {what} no readings but units or the like: {_shown(units[0].cells)}")
    if joined is not None:
        cells = joined[0]
        notes.append("the names of columns are in two lines, and read together")
    written = _fitted(path, cells, [line.cells for line in lines[after:]])
    names, about_names = _unique(written)
    repeated = frozenset(name for name, times in Counter(written).items() if name and times > 1)
    return CsvForm(
        delimiter,
        tuple(names),
        start,
        chosen.number,
        encoding,
        mark,
        repeated,
        (*notes, *about_names),
    )


_SHOWN: Final = {"cp1252": "Windows-1252", "latin-1": "Latin-1", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16"}


def _shown(cells: Sequence[str]) -> str:
    return ", ".join(cell[:20] for cell in cells[:6] if cell)


def _split(head: bytes, delimiter: str, rows: int = _HEAD_ROWS) -> list[_Line]:
    """The first lines, their cells without white space around them."""
    raw = [line + b"\n" for line in head.split(b"\n")]
    ends = [0, *accumulate(map(len, raw))]
    ends[-1] = len(head)
    texts = (line.decode(errors="replace").rstrip("\r\n").replace("\r", " ") + "\n" for line in raw)
    reader = csv.reader(texts, delimiter=delimiter)
    found: list[_Line] = []
    before = 0
    for cells in reader:
        found.append(_Line([cell.strip() for cell in cells], before + 1, ends[before], ends[reader.line_num]))
        before = reader.line_num
        if len(found) >= rows:
            break
    if found and found[-1].blank and found[-1].begin == len(head):  # what follows the last line end
        found.pop()
    return found


def _delimiter(head: bytes) -> str:
    """The delimiter by which most cells of the lines are numbers or times."""

    def fit(delimiter: str) -> tuple[int, int]:
        try:
            lines = [line.cells for line in _split(head, delimiter, 100) if not line.blank]
        except csv.Error:
            return (0, 0)
        counts = Counter(len(cells) for cells in lines if len(cells) > 1)
        if not counts:
            return (0, 0)
        width, often = max(counts.items(), key=lambda item: (item[1], item[0]))
        plain = sum(_is_plain(cell) for cells in lines if len(cells) == width for cell in cells)
        return plain, often * width

    return max(DELIMITERS, key=fit)


def _is_time(cell: str) -> bool:
    return len(cell) <= 64 and _TIME.fullmatch(cell) is not None


def _is_number(cell: str) -> bool:
    return len(cell) <= 64 and (
        _NUMBER.fullmatch(cell) is not None or _UNIT_NUMBER.fullmatch(cell) is not None
    )


def _is_plain(cell: str) -> bool:
    """Whether a cell is what cells of rows are and names are not: a number, a time, or no value."""
    word = cell.lower()
    return (
        word in MISSING_WORDS
        or word in BOOLEAN_WORDS
        or _is_number(cell)
        or _is_time(cell)
        or _CLOCK.fullmatch(cell[:64]) is not None
    )


def _is_data(line: _Line) -> bool:
    """Whether a line holds readings."""
    cells = line.cells
    if line.comment or line.blank:
        return False
    if any(map(_is_time, cells)):
        return True
    numbers = [cell for cell in cells if _is_number(cell)]
    if not numbers or 2 * sum(map(_is_plain, cells)) < len(cells):
        return False
    epoch = any(_large(cell) for cell in numbers)
    return epoch or not any(len(bare(name)) > 1 for name in named(cells, Role.TIME))


def _large(cell: str) -> bool:
    try:
        return float(cell) >= _EPOCH
    except ValueError:
        return False


def _is_units(line: _Line) -> bool:
    """Whether a line between names and readings holds neither."""
    return not any(_is_time(cell) or _is_number(cell) for cell in line.cells) and (
        any(line.cells) or len(line.cells) <= 1
    )


def _width(lines: Sequence[_Line]) -> int:
    """How many cells the rows have."""
    data = Counter(len(line.cells) for line in lines if _is_data(line))
    every = data or Counter(len(line.cells) for line in lines if not line.blank and not line.comment)
    if not every:
        return 0
    return max(every.items(), key=lambda item: (item[1], item[0]))[0]


def _header(lines: Sequence[_Line], width: int, wanted: Sequence[str]) -> int | None:
    """The index of the line that names the columns: the one with most names, a time among them; of equals the first."""

    def rank(i: int) -> tuple[bool, int, bool, int]:
        cells = [cell.lstrip("# ") for cell in lines[i].cells if cell]
        whole = bool(wanted) and set(wanted) <= set(cells)
        return whole, len(set(cells)), bool(named(cells, Role.TIME)), -i

    possible = [
        i
        for i, line in enumerate(lines)
        if not line.blank
        and len(line.cells) in (width - 1, width, width + 1)
        and not any(map(_is_time, line.cells))
        and not _is_data(line)
    ]
    exact = [i for i in possible if len(lines[i].cells) == width]
    return max(exact or possible, key=rank, default=None)


def _two_levels(
    lines: Sequence[_Line], header: int, after: int
) -> tuple[list[str], list[str], list[str]] | None:
    """The names that two lines make together, and the cells of both; None where one line names the columns alone.

    The upper line may name several columns at once, the machine of some sensors for instance, and stand over the
    first of them alone; the lower line names them within it.
    """
    cells = lines[header].cells
    told = [cell for cell in cells if cell]
    width = max(  # behind it the rows hold nothing: their lines end in delimiters
        (i + 1 for line in lines[after:] for i, cell in enumerate(line.cells) if cell), default=len(cells)
    )
    if all(cells[1:width]) and len(told) == len(set(told)):
        return None
    for upper, lower in ((header - 1, header), (header, header + 1)):
        if upper < 0 or lower >= max(after, header + 1) or len(lines[upper].cells) != len(lines[lower].cells):
            continue
        other = lines[upper if lower == header else lower]
        names = [cell for cell in other.cells if cell]
        if other.comment or len(names) < 2 or 2 * sum(map(_is_unit, names)) >= len(names) or _is_data(other):
            continue
        above, carried = [], ""
        for cell in lines[upper].cells:
            carried = cell or carried
            above.append(carried)
        made = [
            " ".join(dict.fromkeys(filter(None, pair)))
            for pair in zip(above, lines[lower].cells, strict=True)
        ]
        if (
            all(made)
            and len(set(made)) == len(made)
            and len(set(made)) > max(len(set(told)), len(set(names)))
        ):
            return made, lines[upper].cells, lines[lower].cells
    return None


def _is_unit(cell: str) -> bool:
    """Whether a cell below a name is a unit, or says what kind of figure the column holds."""
    return bool(re.fullmatch(r"[\[(].*[\])]|-+|%.*", cell)) or is_unit(cell) or cell.lower() in _FIGURES


_FIGURES: Final = frozenset(
    {"avg", "smp", "tot", "min", "max", "std", "ts", "rn", "sample", "average", "total"}
)
"""What loggers write below names: which figure of a period a column holds."""


def _fitted(path: Path, names: list[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The names, as many as the rows have cells: a delimiter at the end of lines makes the two differ by one."""
    widths = Counter(map(len, rows[:_HEAD_ROWS]))
    if not widths or len(names) in widths:
        return names
    width = max(widths.items(), key=lambda item: (item[1], item[0]))[0]
    if width == len(names) + 1 and all(not row[-1] for row in rows if len(row) == width):
        return [*names, ""]
    if width == len(names) - 1 and (not names[-1] or bare(names[-1]) in _REMARKS):
        return names[:-1]
    raise InputError(
        f"{path}: not a readable CSV file: its header names {len(names)} columns, its rows have {width} cells"
    )


_REMARKS: Final = frozenset(
    {"comment", "comments", "remark", "remarks", "note", "notes", "kommentar", "bemerkung"}
)
"""Names of a last column of which rows without a remark have no cell."""


def _unique(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The names, each once, and what was changed: the second ``x`` is ``x.2``, an empty one ``column 3``."""
    found: list[str] = []
    notes: list[str] = []
    taken = set(names)
    for i, name in enumerate(names):
        name = "".join(c if c.isprintable() else "?" for c in " ".join(name.split()))
        new = name or f"column {i + 1}"
        again = 1
        while new in found or (new != name and new in taken):
            again += 1
            new = f"{name or f'column {i + 1}'}.{again}"
        if name and new != name:
            notes.append(f"column {name[:60]!r} appears twice: the second is called {new[:64]!r}")
        found.append(new)
    return found, notes
