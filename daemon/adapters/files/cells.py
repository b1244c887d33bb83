"""What the cells of a column mean: numbers, missing values, texts of a condition.

Input is an Arrow column as ``columns`` decodes it, of a Parquet type or of CSV text; output is a float
array with NaN for missing cells, or texts. Which words count as missing and what a number looks like is
decided here (``MISSING_TEXTS``, ``NUMBER``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daemon.domain import Floats, Ints, Mask
from daemon.stream.extract.numbers import NotANumberError, number_of

MISSING_TEXTS: Final = ["", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "None", "-"]
"""Cells of a CSV that hold no value."""
_GROUP: Final = "[. '\u00a0\u202f]"
DECIMAL_COMMA: Final = (
    rf"^[+-]?(?:[0-9]{{1,3}}(?:{_GROUP}[0-9]{{3}})+|[0-9]*),[0-9]+(?:[eE][+-]?[0-9]{{1,4}})?$"
)
"""What a number with a decimal comma looks like."""
GROUPED: Final = r"^[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?$"
"""What a number with commas between thousands looks like."""
_EITHER: Final = r"^[+-]?[1-9][0-9]{0,2},[0-9]{3}$"
_POINTS_GROUP: Final = r"^[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+$"
_PEEK: Final = 500
_MOST_WORDS: Final = 8
NUMBER: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
"""What a number in a CSV looks like."""


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a sensor: numbers, booleans, or nothing but nulls."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def has_text_form(kind: pa.DataType) -> bool:
    """Whether each value has one text that stands for it: lists, structures, maps and bytes have none."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    bytes_of_any_kind = (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )
    return not (pa.types.is_nested(kind) or bytes_of_any_kind)


def plain_array(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, without dictionary encoding, texts of any kind as plain strings."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # an empty one in some versions
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def as_floats(column: pa.ChunkedArray) -> Floats:
    """(N,) the column as floats, NaN for null; the caller may write to the array."""
    array = plain_array(column)
    if pa.types.is_float32(array.type):
        return widened(array.to_numpy(zero_copy_only=False))
    return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.float64)


def widened(values: NDArray[np.float32]) -> Floats:
    """Single precision as the double that is written with the same digits: 0.4, not 0.4000000059604645.

    Observed values are published as they arrived. A float32 stands for the shortest decimal that rounds to
    it; nine digits are always enough to tell two of them apart.
    """
    single = np.asarray(values, np.float32)
    found = single.astype(np.float64)
    size = np.abs(found)
    usual = (size >= 1e-12) & (size < 1e12)  # powers of ten up to 22 are exact
    for i in np.flatnonzero(~usual & np.isfinite(found) & (found != 0)).tolist():
        found[i] = float(str(single[i]))
    left = np.flatnonzero(usual)
    for digits in (6, 7, 8, 9):
        if not len(left):
            break
        exact = found[left]
        places = digits - 1 - np.floor(np.log10(np.abs(exact))).astype(np.int64)
        up, down = 10.0 ** np.maximum(places, 0), 10.0 ** np.maximum(-places, 0)
        # A whole number over a power of ten is the double nearest to that decimal.
        decimal = np.rint(exact * up / down) / up * down
        same = decimal.astype(np.float32) == single[left]
        found[left[same]] = decimal[same]
        left = left[~same]
    return found


def trimmed_texts(column: pa.ChunkedArray) -> pa.Array:
    """A CSV column without white space around its cells, null where a cell holds a word for "missing"."""
    array = pc.utf8_trim_whitespace(plain_array(column))
    return pc.if_else(pc.is_in(array, pa.array(MISSING_TEXTS)), pa.scalar(None, pa.string()), array)


class Commas(Enum):
    """What the commas within the numbers of a column are."""

    NONE = "there are none"
    DECIMAL = "decimal"
    GROUPING = "between thousands"
    EITHER = "one or the other"


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A column as numbers."""

    values: Floats  # (N,), NaN for missing and corrupt cells
    faulty: Mapping[str, Ints]  # rows whose cell stands for no number, by fault (``numbers.FAULTS``)
    words: tuple[str, ...] = ()  # texts that are read as a number, as true, on, and those of ``states``
    comma: bool = False  # whether the numbers are written with decimal commas
    worded: Mask | None = None  # (N,) cells that hold another text than a number; None: none does

    @property
    def corrupt(self) -> dict[str, int]:
        """Cells that stand for no number, by fault."""
        return {fault: len(rows) for fault, rows in self.faulty.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The cells of a text column, looked at and not yet read as numbers."""

    texts: pa.Array  # (N,) trimmed, null where a word says that there is no value
    number: pa.Array  # (N,) whether the text is a number with a decimal point, or without decimals
    rest: pa.Array  # the distinct texts that are not

    @staticmethod
    def of(column: pa.ChunkedArray) -> Cells:
        """Those of a column."""
        texts = trimmed_texts(column)
        number = pc.match_substring_regex(texts, NUMBER)
        if (pc.sum(number).as_py() or 0) == len(texts) - texts.null_count:
            return Cells(texts, number, pa.array([], pa.string()))
        others = texts.filter(pc.invert(pc.fill_null(number, True)))
        return Cells(texts, number, others.unique())

    @property
    def filled(self) -> int:
        """Cells that hold something."""
        return int(len(self.texts) - self.texts.null_count)

    def _matching(self, pattern: str) -> int:
        return int(pc.sum(pc.match_substring_regex(self.rest, pattern)).as_py() or 0)

    @property
    def commas(self) -> Commas:
        """What the commas in this column are, as far as the column shows it."""
        if not len(self.rest) or not self._matching(","):
            return Commas.NONE
        either = self._matching(_EITHER)
        decimal, grouping = self._matching(DECIMAL_COMMA) - either, self._matching(GROUPED) - either
        if decimal or grouping:
            return Commas.DECIMAL if decimal >= grouping else Commas.GROUPING
        return Commas.EITHER if either else Commas.NONE

    def numbers(self, states: Mapping[str, float], comma: bool) -> Numbers | None:
        """The column as numbers; None if most cells that hold something hold no number, nor a state.

        Args:
            states: texts that are numbers in this column.
            comma: whether commas are decimal, and points between thousands.
        """
        texts, number = self.texts, self.number
        if comma:
            texts, number = _with_points(texts, number)
        elif len(self.rest) and self._matching(GROUPED):
            grouped = pc.match_substring_regex(texts, GROUPED)
            texts = pc.if_else(grouped, pc.replace_substring(texts, ",", ""), texts)
            number = pc.match_substring_regex(texts, NUMBER)
        found = pc.sum(number).as_py() or 0
        faults: dict[str, str] = {}
        words: list[str] = []
        others: Floats | None = None
        faulty: dict[str, Ints] = {}
        worded: Mask | None = None
        if found < self.filled:
            rest = texts.filter(pc.invert(pc.fill_null(number, True))).value_counts()
            pairs = list(zip(rest.field(0).to_pylist(), rest.field(1).to_pylist(), strict=True))
            if not states and 2 * found < self.filled and not _mostly_numbers(pairs[:_PEEK]):
                return None
            read: dict[str, float] = {}
            for text, times in pairs:
                try:
                    read[text] = number_of(text, states)
                    found += times
                except NotANumberError as error:
                    faults[text] = error.fault
                    continue
                if (
                    not any(c.isdigit() for c in text)
                    and read[text] == read[text]
                    and len(words) < _MOST_WORDS
                ):
                    words.append(text)
            if not states and 2 * found < self.filled:
                return None
            others, faulty = _mapped(texts, number, read, faults)
            worded = pc.invert(pc.fill_null(number, True)).to_numpy(zero_copy_only=False)
        bare = texts if others is None else pc.if_else(number, texts, pa.scalar(None, pa.string()))
        if pc.any(pc.starts_with(bare, "+")).as_py():
            bare = pc.replace_substring_regex(bare, r"^\+", "")
        values = as_floats(pa.chunked_array([pc.cast(bare, pa.float64())]))
        if others is not None:
            values = np.where(np.isnan(values), others, values)
        endless = np.isinf(values)
        if endless.any():
            beyond = np.flatnonzero(endless)
            faulty["too_large"] = np.sort(np.append(faulty.get("too_large", beyond[:0]), beyond))
            values[endless] = np.nan
        return Numbers(values, faulty, tuple(words), comma, worded)


def _mostly_numbers(pairs: Sequence[tuple[str, int]]) -> bool:
    """Whether most of these texts, each as often as it occurs, stand for numbers or for no value."""
    fine = 0
    for text, times in pairs:
        with suppress(NotANumberError):
            number_of(text)
            fine += times
    return 2 * fine >= sum(times for _, times in pairs)


def _mapped(
    texts: pa.Array, number: pa.Array, read: Mapping[str, float], faults: Mapping[str, str]
) -> tuple[Floats, dict[str, Ints]]:
    """(N,) the numbers that the texts stand for which are not written as ``number`` says; NaN for all others.

    And the rows of the texts that have a fault, by fault.
    """
    encoded = pc.if_else(number, pa.scalar(None, pa.string()), texts).dictionary_encode()
    distinct = encoded.dictionary.to_pylist()
    known = np.array([*(read.get(text, np.nan) for text in distinct), np.nan])
    codes = encoded.indices.fill_null(len(distinct)).to_numpy(zero_copy_only=False)
    found: Floats = known[codes]
    faulty = {}
    for fault in dict.fromkeys(faults.values()):
        of = np.array([*(faults.get(text) == fault for text in distinct), False], bool)
        faulty[fault] = np.flatnonzero(of[codes])
    return found, faulty


def _with_points(texts: pa.Array, number: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Texts with decimal commas as texts with decimal points, and which of them are numbers then.

    In such a column a point groups thousands, unless a cell shows that it cannot: ``12.5`` beside ``12,5``.
    """
    dotted = pc.and_(pc.fill_null(number, False), pc.match_substring(pc.fill_null(texts, ""), "."))
    grouping = pc.match_substring_regex(pc.fill_null(texts, ""), _POINTS_GROUP)
    points_group = not (pc.any(pc.and_not(dotted, grouping)).as_py() or False)
    comma = pc.fill_null(pc.match_substring_regex(texts, DECIMAL_COMMA), False)
    plain = pc.replace_substring(pc.replace_substring_regex(texts, "[. \u00a0\u202f']", ""), ",", ".")
    texts = pc.if_else(comma, plain, texts)
    if points_group:
        texts = pc.if_else(grouping, pc.replace_substring(texts, ".", ""), texts)
    return texts, pc.match_substring_regex(texts, NUMBER)


def condition_texts(column: pa.ChunkedArray) -> tuple[str | None, ...]:
    """(N,) the values of a condition column as the decoder of a stream writes them; None for a missing one."""

    def shown(value: Any) -> str | None:
        if value is None or value != value or value == "":
            return None
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value)

    encoded = plain_array(column).dictionary_encode()
    texts = [*(shown(value) for value in encoded.dictionary.to_pylist()), None]
    codes = encoded.indices.fill_null(len(texts) - 1).to_pylist()
    return tuple(texts[code] for code in codes)
