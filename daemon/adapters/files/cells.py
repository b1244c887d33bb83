"""What the cells of a column mean: numbers, missing values, texts of a condition.

Input is an Arrow column as ``columns`` decodes it, of a Parquet type or of CSV text; output is a float
array with NaN for missing cells, or texts. Which words count as missing and what a number looks like is
decided here (``MISSING_TEXTS``, ``NUMBER``).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daemon.domain import Floats

MISSING_TEXTS: Final = ["", "nan", "NaN", "NAN", "NA", "N/A", "n/a", "#N/A", "null", "NULL", "None", "-"]
"""Cells of a CSV that hold no value."""
NUMBER: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$"
"""What a number in a CSV looks like."""


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a column of this type can be a sensor: numbers, or nothing but nulls; a boolean is no measurement."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
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


def parsed_numbers(column: pa.ChunkedArray) -> tuple[Floats | None, int]:
    """A CSV column as numbers.

    Returns:
        (N,) the numbers, NaN for missing and unreadable cells, or None if most cells that hold something hold
        no number; and how many cells hold something that is no number.
    """
    array = trimmed_texts(column)
    number = pc.match_substring_regex(array, NUMBER)
    found = pc.sum(number).as_py() or 0
    filled = len(array) - array.null_count
    if filled and 2 * found < filled:
        return None, 0
    bare = pc.replace_substring_regex(pc.if_else(number, array, pa.scalar(None, pa.string())), r"^\+", "")
    return as_floats(pa.chunked_array([pc.cast(bare, pa.float64())])), filled - found


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
