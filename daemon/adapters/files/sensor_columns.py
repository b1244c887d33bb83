"""The columns of a table that are sensors, as numbers, and what is to be said about those that are not.

A column is read one way: its commas are decimal or group thousands, whatever a single cell would allow; where a
column leaves that open, the rest of the file decides. In: ``Columns``, their ``Roles`` and what the configuration
says of sensors. Out: an array per column, counts of corrupt cells, notes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daemon.adapters.files.cells import (
    Cells,
    Commas,
    Numbers,
    as_floats,
    condition_texts,
    has_text_form,
    is_numeric,
    plain_array,
    trimmed_texts,
)
from daemon.adapters.files.columns import Columns
from daemon.adapters.files.long_tables import SensorLines
from daemon.adapters.files.roles import Roles, listed
from daemon.adapters.files.table_reading import TableReading
from daemon.documents import shown
from daemon.domain import Floats, Ints, Mask, Record
from daemon.mapping import PLAIN, Key, Origin, QualityRule, SensorRule, Source
from daemon.mapping import Path as FieldPath
from daemon.stream.extract.numbers import FAULT_HINTS
from daemon.stream.extract.quality import compile_quality, is_known_word, usual_code

_MOST_STATES: Final = 12
"""Different texts of a column that may be states of a machine."""
_LONGEST_WORD: Final = 64
_GOOD_WORDS_SHOWN: Final = 32
_NO_RECORD: Final = Record(0, None, b"", 0)


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a file writes the numbers of a sensor."""

    column: str
    comma: bool = False  # with decimal commas
    rule: SensorRule = PLAIN  # what was done with the numbers as they were written


class SensorColumns:
    """Reads columns as sensors.

    Attributes:
        notes: what the user should know, after ``read``.
        faulty: rows whose cell stands for no number, by sensor and fault; of a long table, by the column of values.
        unknown_quality: words of quality that nobody knows, with how many values count as missing for them.
        good_quality: the words that are good, as the keys, where there are unknown ones.
        spelling: of each sensor that was read.
        written_as_in_europe: whether numbers have decimal commas, or semicolons stand between cells.
    """

    def __init__(
        self, columns: Columns, roles: Roles, reading: TableReading, lines: SensorLines | None = None
    ) -> None:
        self.notes: list[str] = []
        self._lost = _LostCells()
        self.faulty: dict[tuple[str, str], Ints] = {}
        self.unknown_quality: Counter[str] = Counter()
        self.good_quality: dict[str, None] = {}
        self.spelling: dict[str, Spelling] = {}
        self.written_as_in_europe = columns.form is not None and columns.form.delimiter == ";"
        self._columns, self._roles, self._reading, self._lines = columns, roles, reading, lines

    def holds_numbers(self, name: str) -> bool:
        """Whether most cells of a column are numbers, or words that stand for some."""
        if not self._columns.text:
            return is_numeric(self._columns.table.schema.field(name).type)
        return Cells.of(self._columns.table[name]).numbers({}, comma=False) is not None

    def read(self, names: Sequence[str]) -> dict[str, Floats]:
        """(N,) values of each column that is a sensor, in file order; NaN where there is none.

        A column of texts that are no numbers is no sensor, unless the configuration has its states; nor is an
        index that pandas wrote along, nor a column that a delimiter at the end of each line makes.
        """
        found: dict[str, Floats] = {}
        texts: list[str] = []
        cells = self._text_cells(name for name in names if not name.startswith("__index_level_"))
        commas = {name: one.commas for name, one in cells.items()}
        in_file = Commas.DECIMAL in commas.values()
        self.written_as_in_europe |= in_file
        delimiter = "," if self._columns.form is None else self._columns.form.delimiter
        switches: list[str] = []
        empty: list[str] = []
        for name in names:
            if name.startswith("__index_level_"):
                texts.append(name)
                continue
            sensor = self._reading.sensor_of(name)
            rule = self._rule(sensor)
            values: Floats | None
            if name in cells:
                comma = commas[name] is Commas.DECIMAL or (
                    commas[name] is Commas.EITHER and (in_file or delimiter != ",")
                )
                values = self._parsed(
                    name, cells[name], rule, comma or (in_file and commas[name] is Commas.NONE), switches
                )
                if values is None and name.startswith("column ") and not cells[name].filled:
                    continue
            else:
                values = self._typed(name, sensor)
            if values is None:
                texts.append(name)
                continue
            if name.startswith("column ") and np.isnan(values).all():
                continue  # nothing stands behind the delimiter at the end of the lines
            self._mask(name, sensor, values)
            if np.isnan(values).all():
                empty.append(name)
            found[name] = values
        self.notes += self._lost.notes()
        if empty:
            verb = "holds" if len(empty) == 1 else "hold"
            self.notes.append(f"{_sensors(empty)} {verb} no number at all")
        nameless = [name for name in found if re.fullmatch(r"column [0-9]+", name)]
        if nameless:
            self.notes.append(
                f"without a name in the header, and called by their places: {listed(nameless)}; to leave one out:"
                f" --exclude {shown(nameless[0])}"
            )
        if switches:
            self.notes.append(f"read as 1 and 0: {'; '.join(switches)}")
        if in_file:
            self.notes.append("numbers are read with decimal commas")
        if texts:
            self.notes.append(f"not numeric, left out: {listed(texts)}")
            self._note_states(texts)
        return found

    def _rule(self, sensor: str) -> SensorRule:
        """That of a sensor; of the values of a long table, one with the states of all of its sensors."""
        if self._lines is not None:
            return SensorRule(states=self._lines.states)
        return self._reading.sensors.get(sensor, PLAIN)

    def _text_cells(self, names: Iterable[str]) -> dict[str, Cells]:
        """The cells of the columns that hold texts."""
        table = self._columns.table
        found = {}
        for name in names:
            kind = table.schema.field(name).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            textual = (
                pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
            )
            if textual:
                found[name] = Cells.of(table[name])
        return found

    def _parsed(
        self, name: str, cells: Cells, rule: SensorRule, comma: bool, switches: list[str]
    ) -> Floats | None:
        sensor = self._reading.sensor_of(name)
        numbers = cells.numbers(rule.states, comma)
        if numbers is None or (not self._columns.text and not cells.filled):
            return None
        known = self._lines is not None or sensor in self._reading.sensors
        if numbers.corrupt and not self._columns.text and not known:
            return None  # Parquet has types: texts that are not all numbers are codes
        if self._lines is not None:
            numbers = self._of_each_sensor(cells, numbers, self._lines)
        wrong = {
            fault: count for fault, count in numbers.corrupt.items() if fault not in ("infinite", "too_large")
        }
        if wrong:
            hints = "; ".join(FAULT_HINTS[fault] for fault in sorted(wrong))
            self._lost.add(name, sum(wrong.values()), f"are no numbers and count as missing: {hints}")
        if endless := sum(numbers.corrupt.values()) - sum(wrong.values()):
            self._lost.add(name, endless, "are infinite and count as missing")
        words = [
            word for word in numbers.words if word not in rule.states and word.lower() not in rule.states
        ]
        if words:
            switches.append(f"{name} ({', '.join(word[:20] for word in words)})")
        missing = [text for text in self._reading.missing if isinstance(text, str)]
        values = numbers.values
        if missing:
            marked = pc.is_in(cells.texts, pa.array(missing, pa.string())).to_numpy(zero_copy_only=False)
            values[marked] = np.nan
            numbers = replace(
                numbers, faulty={fault: rows[~marked[rows]] for fault, rows in numbers.faulty.items()}
            )
        self._note_faulty(sensor, numbers.faulty)
        self._drop_missing(values)
        self.spelling[sensor] = Spelling(name, numbers.comma and comma, rule)
        return values

    def _of_each_sensor(self, cells: Cells, numbers: Numbers, lines: SensorLines) -> Numbers:
        """The numbers of a long table, its texts as the sensors of their rows read them."""
        filled = cells.texts.is_valid().to_numpy(zero_copy_only=False)
        worded = np.zeros(len(filled), bool) if numbers.worded is None else numbers.worded & filled
        rows = np.flatnonzero(worded)
        values = numbers.values
        texts = cells.texts.filter(pa.array(worded)).to_pylist()
        values[rows], faulty = lines.numbers(texts, rows)
        if "too_large" in numbers.faulty:
            beyond = numbers.faulty["too_large"]
            beyond = beyond[~worded[beyond]]
            faulty["too_large"] = np.sort(np.append(faulty.get("too_large", beyond[:0]), beyond))
        return replace(numbers, values=values, faulty=faulty)

    def _note_faulty(self, sensor: str, faulty: Mapping[str, Ints]) -> None:
        self.faulty |= {(sensor, fault): rows for fault, rows in faulty.items() if len(rows)}

    def _typed(self, name: str, sensor: str) -> Floats | None:
        column = self._columns.table[name]
        if not is_numeric(column.type):
            return None
        if pa.types.is_boolean(plain_array(column).type):
            column = pa.chunked_array([plain_array(column).cast(pa.int8())])
        values = as_floats(column)
        endless = np.isinf(values)
        if endless.any():
            self._note_faulty(sensor, {"infinite": np.flatnonzero(endless)})
            self._lost.add(name, int(endless.sum()), "are infinite and count as missing")
            values[endless] = np.nan
        self._drop_missing(values)
        self.spelling[sensor] = Spelling(name, rule=self._rule(sensor))
        return values

    def _drop_missing(self, values: Floats) -> None:
        numbers = [n for n in self._reading.missing if isinstance(n, int | float) and not isinstance(n, bool)]
        if numbers:
            values[np.isin(values, numbers)] = np.nan

    def _mask(self, name: str, sensor: str, values: Floats) -> None:
        """Make the values missing that a quality column does not trust, and say how many."""
        for quality, about in self._roles.quality.items():
            if about is not None and name not in about:
                continue
            trusted = self._trusted(quality)
            bad = ~trusted & np.isfinite(values)
            for key in [key for key in self.faulty if key[0] == sensor]:  # missing, whatever the cell holds
                self.faulty[key] = self.faulty[key][trusted[self.faulty[key]]]
            if bad.any():
                self._count_unknown(quality, trusted, bad)
                values[bad] = np.nan
                self._lost.add(sensor, int(bad.sum()), f"count as missing, as {shown(quality)} is not good")

    def _count_unknown(self, quality: str, trusted: Mask, bad: Mask) -> None:
        """Count the values that a word without a known meaning makes bad, unless the configuration lists its own."""
        rule = self._reading.quality
        column = self._columns.table[quality]
        if (rule is not None and (rule.good or rule.bad)) or not has_text_form(column.type):
            return
        texts = trimmed_texts(column) if self._columns.text else plain_array(column)
        for found in pc.value_counts(texts.filter(pa.array(bad))).to_pylist():
            word = found["values"]
            if isinstance(word, str) and not is_known_word(word):
                self.unknown_quality[word[:_LONGEST_WORD]] += found["counts"]
        if self.unknown_quality:
            good = [word for word in texts.filter(pa.array(trusted)).unique().to_pylist() if word]
            self.good_quality |= dict.fromkeys(good[:_GOOD_WORDS_SHOWN])

    def _trusted(self, name: str) -> Mask:
        """(N,) whether a quality column calls the rows good; an empty cell does."""
        column = self._columns.table[name]
        given = self._reading.quality
        source = Source(Origin.PATH, name, FieldPath(name, (Key(name),)))
        trusted = compile_quality(
            QualityRule((source,)) if given is None else replace(given, sources=(source,))
        )
        encoded = (trimmed_texts(column) if self._columns.text else plain_array(column)).dictionary_encode()
        known = [
            trusted(({name: _written(found)}, None, None), _NO_RECORD)
            for found in encoded.dictionary.to_pylist()
        ]
        codes = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        if given is None or not (given.good or given.bad or given.code):
            known = list(self._by_the_commonest(name, encoded.dictionary.to_pylist(), known, codes))
        mask: Mask = np.array([*known, True], bool)[codes]
        return mask

    def _by_the_commonest(
        self, name: str, found: Sequence[Any], known: Sequence[bool], codes: Ints
    ) -> Sequence[bool]:
        """Which codes are good where none is by the known conventions: they are of another, whose commonest is good."""
        if any(known) or any(isinstance(each, str) and not each.strip().isdigit() for each in found):
            return known  # a word says what it is
        times = np.bincount(codes, minlength=len(known) + 1)[: len(known)].tolist()
        commonest = usual_code([_written(each) for each in found], times)
        if commonest is None:
            return known
        note = f"{shown(name)}: {found[commonest]} is said of most rows, and taken for good"
        if note not in self.notes:
            self.notes.append(note)
        return [i == commonest for i in range(len(known))]

    def _note_states(self, texts: Iterable[str]) -> None:
        """How columns of few texts become sensors."""
        for name in texts:
            if not has_text_form(self._columns.table.schema.field(name).type) or name.startswith("__index"):
                continue
            column = self._columns.table[name]
            if pa.types.is_temporal(column.type):
                continue
            distinct = pa.chunked_array([plain_array(column).unique()])
            if len(distinct) > 2 * _MOST_STATES:
                continue
            found = [text for text in dict.fromkeys(condition_texts(distinct)) if text is not None]
            if 1 < len(found) <= _MOST_STATES and all(len(text) <= 30 for text in found):
                states = ", ".join(f"{_quoted(text)}: {i}" for i, text in enumerate(found))
                self.notes.append(
                    f"column {shown(name)} holds texts; as a sensor: sensors: {{{_quoted(name[:60])}: {{states: {{{states}}}}}}}"
                )


def _sensors(names: Sequence[str]) -> str:
    """``sensor 'a'``, or ``sensors 'a', 'b' and 5 more``."""
    some = ", ".join(map(shown, names[:_SENSORS_NAMED]))
    more = f" and {len(names) - _SENSORS_NAMED} more" if len(names) > _SENSORS_NAMED else ""
    return f"sensor{'s' if len(names) > 1 else ''} {some}{more}"


class _LostCells:
    """Cells that count as missing, for one note per reason instead of one per sensor."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, int]] = {}  # reason -> sensor -> cells

    def add(self, sensor: str, cells: int, reason: str) -> None:
        """So many cells of a sensor are so."""
        of_reason = self._found.setdefault(reason, {})
        of_reason[sensor] = of_reason.get(sensor, 0) + cells

    def notes(self) -> list[str]:
        """One per reason, in the order in which they were found."""
        return [
            f"{_sensors(list(counts))}: {sum(counts.values())} cells {reason}"
            for reason, counts in self._found.items()
        ]


def _written(found: object) -> object:
    """A quality as the rules know it: a float of Parquet is a whole number, a text of digits a number."""
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, str) and found.lstrip("-").isdigit() and found.isascii():
        return int(found)
    return found


def _quoted(text: str) -> str:
    """A text as YAML takes it in one line."""
    plain = text.replace(" ", "").replace("_", "").isalnum() and text.lower() not in _YAML_WORDS
    return text if plain and not text[:1].isdigit() else '"' + text.replace('"', "'") + '"'


_SENSORS_NAMED: Final = 5
"""Of a note about several."""
_YAML_WORDS: Final[Mapping[str, None]] = dict.fromkeys(
    ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
)
