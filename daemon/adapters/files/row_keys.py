"""The asset and the event time of each row of a table, by the rules of the stream's decoder.

Plain columns (Arrow timestamps, integers) and dates as people write them (``event_dates``) are converted at
Arrow's speed. Every other value goes through ``stream.decoding.Decoder``, so that a file and a topic accept and
refuse the same times and names. A row without a usable asset or time is recorded with its reason, under its row
number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daemon.adapters.files.cells import plain_array, trimmed_texts
from daemon.adapters.files.event_dates import dates_of
from daemon.domain import EPOCH, Ints, Reading, Reason, Record, Rejected, StreamSpec, zone_of
from daemon.errors import InputError
from daemon.stream.decoding import Decoder
from daemon.stream.extract.times import UNIT_NS
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import INT64_MAX, exact_ns

ONLY_ASSET: Final = "asset-0"
"""The asset of a table without an asset column."""
NO_TIME: Final = int(np.iinfo(np.int64).min)
"""``Table.time_ns`` of a row without a usable time."""
_SURE: Final = 24
_CLOCK_ROW: Final = r"^[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?\s*([AaPp]\.?[Mm]\.?)?$"
_DATE_ROW: Final = r"^([0-9]{1,4}[-/. ]([0-9]{1,2}|\p{L}{3,9})[-/. ][0-9]{1,4})$"
_DAY_1970, _DAY_2000, _DAY_2100 = 25_569, 36_526, 73_051
"""Days since 1899-12-30."""
_DAY_0_MATLAB: Final = 693_960
"""1899-12-30, in MATLAB's days."""


@dataclass(frozen=True, slots=True, eq=False)
class RefusedRow:
    """Why a row of a table cannot be used, and its time as the file has it."""

    reason: Reason
    detail: str
    time: str | int | float | None


class _DecoderRules:
    """The stream's decoder, applied to single times and asset names."""

    def __init__(self, timezone: str | None = None) -> None:
        self._decoder = Decoder(StreamSpec("file", (), timezone=timezone))

    @property
    def zoneless(self) -> int:
        """Texts that named no time zone."""
        return self._decoder.zoneless

    def check(self, asset: str, time: str | int | float) -> Reading | Rejected:
        """The reading with this asset and time, or the reason why the decoder rejects it."""
        message = json.dumps({"asset": asset, "ts": time, "values": {}})
        return self._decoder.decode(Record(0, None, message.encode(), -1))


@dataclass(frozen=True, slots=True)
class TimeRules:
    """How the times of a table are read."""

    timezone: str | None = None  # of times that name no zone; None: UTC
    unit: str = "auto"  # of numbers; auto: by their size
    formats: tuple[str, ...] = ()  # of ``strptime``, tried first
    day_first: bool | None = None  # None: as the column shows
    european: bool = False  # whether the other columns are written as in Europe


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """The event times of a table of N rows."""

    time_ns: Ints  # (N,), NO_TIME where there is none
    zoneless: int = 0  # how many named no zone
    notes: tuple[str, ...] = ()  # what was assumed


def event_times(
    path: Path,
    columns: Sequence[pa.ChunkedArray],
    tracks: Ints,
    rules: TimeRules,
    refused: dict[int, RefusedRow],
) -> Times:
    """The event times of the rows; rows without a usable one are added to ``refused``.

    Args:
        path: named in errors.
        columns: the column of times, or the columns of dates and of times of day.
        tracks: (N,) which asset a row is of.
        rules: how times are read.
        refused: row -> why it cannot be used.

    Raises:
        InputError: the column is of a type that holds no times, or none can be read.
    """
    array = plain_array(columns[0]) if len(columns) == 1 else _joined(*columns)
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64(), safe=False)
    notes: list[str] = []
    if pa.types.is_string(array.type):
        array = trimmed_texts(pa.chunked_array([array]))
        if rules.formats:
            return _times_one_by_one(path, array, tracks, rules, refused)
        array = _under_dates(array, refused, notes)
        array = _compact_dates(_recognised(array), notes)
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        array = _serial_days(array, rules, notes)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    zoneless = 0
    if pa.types.is_timestamp(array.type):
        unit = UNIT_NS[array.type.unit]
        number = array.cast(pa.int64()).fill_null(0).to_numpy()
        scale = np.full(len(number), unit, np.int64)
        if array.type.tz is None:
            zoneless = int(present.sum())
            if rules.timezone is not None:
                number = number - utc_offsets(number // (10**9 // unit), rules.timezone) * (10**9 // unit)
    elif pa.types.is_integer(array.type):
        if pa.types.is_uint64(array.type):
            array = pc.min_element_wise(array, pa.scalar(INT64_MAX, pa.uint64()))
        number = array.cast(pa.int64()).fill_null(0).to_numpy()
        scale = (
            _epoch_scale(number)
            if rules.unit == "auto"
            else np.full(len(number), UNIT_NS[rules.unit], np.int64)
        )
    elif pa.types.is_floating(array.type) or pa.types.is_string(array.type):
        found = _times_one_by_one(path, array, tracks, rules, refused)
        return Times(found.time_ns, found.zoneless, (*notes, *found.notes))
    else:
        raise InputError(
            f"{path}: the time column, of type {array.type}, is neither a time, a text nor a number"
        )
    fits = present & (number >= 0) & (number <= INT64_MAX // scale)
    for row in np.flatnonzero(~fits).tolist():
        if not present[row]:
            refused.setdefault(row, RefusedRow(Reason.BAD_TIMESTAMP, "no time", None))
        else:
            rule = "before 1970" if number[row] < 0 else "beyond the year 2262"
            value = int(number[row])
            refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, f"{value} is {rule}", value)
    time_ns: Ints = np.where(fits, number * np.where(fits, scale, 0), NO_TIME)
    return Times(time_ns, zoneless, tuple(notes))


def _under_dates(array: pa.Array, refused: dict[int, RefusedRow], notes: list[str]) -> pa.Array:
    """Times of day with the date of the row above them that holds a date alone; else unchanged.

    Rows of dates are no readings: they are refused.
    """
    clock = pc.fill_null(pc.match_substring_regex(array, _CLOCK_ROW), False)
    if 2 * (pc.sum(clock).as_py() or 0) <= len(array):
        return array
    date = pc.fill_null(pc.match_substring_regex(array, _DATE_ROW), False)
    if not pc.any(date).as_py():
        return array
    dates = pc.fill_null_forward(pc.if_else(date, array, pa.scalar(None, pa.string())))
    joined = _joined(pa.chunked_array([dates]), pa.chunked_array([array]))
    rows = np.flatnonzero(date.to_numpy(zero_copy_only=False)).tolist()
    for row, text in zip(rows, array.filter(date).to_pylist(), strict=True):
        refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, "names the day of the rows below it", text)
    notes.append(f"{len(rows)} rows hold the date of the rows below them, and no readings")
    return pc.if_else(clock, joined, pc.if_else(date, pa.scalar(None, pa.string()), array))


def _joined(date: pa.ChunkedArray, clock: pa.ChunkedArray) -> pa.Array:
    """A column of dates and one of times of day as one of texts."""
    day, hour = (plain_array(column).cast(pa.string()) for column in (date, clock))
    day = pc.replace_substring_regex(day, "[ T]0{1,2}:00(:00(\\.0*)?)?$", "")
    day = pc.replace_substring_regex(day, "^([0-9]{4})([0-9]{2})([0-9]{2})$", "\\1-\\2-\\3")
    hour = pc.replace_substring_regex(
        pc.utf8_trim_whitespace(hour), r"^([0-9]{1,2})\.([0-9]{2})\.([0-9]{2})$", r"\1:\2:\3"
    )
    digits = pc.fill_null(pc.match_substring_regex(hour, "^[0-9]{1,6}$"), False)
    if pc.any(digits).as_py():  # 930 is 09:30, and 93000 is 09:30:00
        longest = pc.max(pc.utf8_length(hour.filter(digits))).as_py()
        if longest <= 2:  # whole hours
            hour = pc.if_else(digits, pc.binary_join_element_wise(hour, "00", ":"), hour)
            digits = pc.and_(digits, False)
        padded = pc.utf8_lpad(hour, 4 if longest <= 4 else 6, "0")
        split = pc.replace_substring_regex(padded, "^([0-9]{2})([0-9]{2})([0-9]{2})?$", "\\1:\\2:\\3")
        hour = pc.if_else(digits, pc.replace_substring_regex(split, ":$", ""), hour)
    hour = pc.replace_substring_regex(hour, "^([0-9]):", "0\\1:")
    return pc.binary_join_element_wise(pc.utf8_trim_whitespace(day), hour, " ")


def _compact_dates(array: pa.Array, notes: list[str]) -> pa.Array:
    """Integers that are dates without marks, 20260302000000 or 20260302, as times; else unchanged."""
    if not pa.types.is_integer(array.type) or array.null_count == len(array):
        return array
    low, high = (pc.min_max(array)[name].as_py() for name in ("min", "max"))
    for digits, form in ((14, "%Y%m%d%H%M%S"), (12, "%Y%m%d%H%M"), (10, "%Y%m%d%H"), (8, "%Y%m%d")):
        if digits == 10 and len(array) < _SURE:  # few seconds since 1970 may look so too
            continue
        if not 19_700_101 <= low // 10 ** (digits - 8) <= high // 10 ** (digits - 8) <= 22_611_231:
            continue
        try:
            found = pc.strptime(array.cast(pa.string()), form, "s")
        except pa.ArrowInvalid:
            continue
        notes.append(f"times like {low} are read as dates, year first")
        return found
    return array


def _serial_days(array: pa.Array, rules: TimeRules, notes: list[str]) -> pa.Array:
    """Numbers that are days since 1899-12-30, as spreadsheets count them, or MATLAB's, as times; else unchanged.

    They are known by their size (years 2000 to 2099) and by fractions finer than a thousandth.
    """
    if rules.unit != "auto" or array.null_count == len(array) or not pa.types.is_floating(array.type):
        return array
    days = np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    known = days[np.isfinite(days)]
    since = "1899-12-30, as spreadsheets write them"
    if len(known) and known.min() >= _DAY_2000 + _DAY_0_MATLAB and known.max() <= _DAY_2100 + _DAY_0_MATLAB:
        days, known = days - _DAY_0_MATLAB, known - _DAY_0_MATLAB
        since = "the year 0, as MATLAB writes them"
    if not len(known) or known.min() < _DAY_2000 or known.max() > _DAY_2100:
        return array
    fine = np.abs(known * 1000 - np.rint(known * 1000)) > 1e-3
    if 2 * fine.sum() < len(known):
        return array
    notes.append(f"times are read as days since {since}")
    ms = np.rint((np.where(np.isfinite(days), days, 0.0) - _DAY_1970) * 86_400_000)
    return pa.array(ms.astype("M8[ms]"), mask=~np.isfinite(days))


def utc_offsets(local_s: Ints, timezone: str) -> Ints:
    """(N,) seconds by which local times, in seconds since 1970 of the zone's own clock, are ahead of UTC.

    A local time that occurs twice, when the clocks go back, is the first of the two.
    """
    zone = zone_of(timezone)
    quarters, places = np.unique(local_s // 900, return_inverse=True)  # no zone changes within a quarter
    offsets = np.zeros(len(quarters), np.int64)
    for i, quarter in enumerate(quarters.tolist()):
        with suppress(ValueError, OverflowError):  # beyond the years of a datetime: refused by itself
            offset = (EPOCH + timedelta(seconds=quarter * 900)).replace(tzinfo=zone).utcoffset()
            offsets[i] = 0 if offset is None else round(offset.total_seconds())
    return offsets[places]


def _epoch_scale(number: Ints) -> Ints:
    """(N,) nanoseconds per unit of an epoch number, by its size."""
    bounds = np.array([10**11, 10**14, 10**17], np.int64)
    return np.array([10**9, 10**6, 10**3, 1], np.int64)[np.searchsorted(bounds, number, side="right")]


def _recognised(array: pa.Array) -> pa.Array:
    """A column of texts as integers, as decimals or as times if all texts are one of these; else unchanged."""
    for kind in (pa.int64(), pa.timestamp("ns", "UTC"), pa.timestamp("ns")):
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            continue
    if pc.all(pc.match_substring_regex(array, r"^[0-9]{5,6}[.,][0-9]+$")).as_py():  # days
        return pc.replace_substring(array, ",", ".").cast(pa.float64())
    return array


def _times_one_by_one(
    path: Path, array: pa.Array, tracks: Ints, rules: TimeRules, refused: dict[int, RefusedRow]
) -> Times:
    """Event times of mixed texts and of epoch numbers with decimals: dates at once, all others by the decoder."""
    decoder = _DecoderRules(rules.timezone)
    times = np.full(len(array), NO_TIME, np.int64)
    left = np.arange(len(array))
    zoneless, note, unread = 0, None, ""
    if pa.types.is_string(array.type) and not rules.formats:
        dates = dates_of(array, tracks, rules.day_first, rules.european)
        zoneless, note = int((dates.read & dates.zoneless).sum()), dates.note
        local = dates.time_ns
        if rules.timezone is not None:
            local = np.where(
                dates.zoneless, local - utc_offsets(local // 10**9, rules.timezone) * 10**9, local
            )
        fine = dates.read & (local >= 0)
        times[fine] = local[fine]
        left = np.flatnonzero(~fine)
    texts = array.take(pa.array(left)).to_pylist()
    for row, found in zip(left.tolist(), texts, strict=True):
        if found is None or found != found:
            refused.setdefault(row, RefusedRow(Reason.BAD_TIMESTAMP, "no time", None))
            continue
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        checked = decoder.check(ONLY_ASSET, _in_format(found, rules))
        if isinstance(checked, Reading):
            times[row] = checked.time_ns
        else:
            refused[row] = RefusedRow(checked.reason, checked.detail, found)
            if isinstance(found, str):
                unread = unread or f"row {row} (the first is 0): {checked.detail}"
    if unread and (times == NO_TIME).all():
        clocks = all(re.match(_CLOCK_ROW, text) for text in texts[:_SURE] if isinstance(text, str))
        hint = "; these are times of day: a column (--time DATE,TIME) or a row above them must have the date"
        raise InputError(f"{path}: no time can be read; {unread}{hint if clocks else ''}")
    return Times(times, zoneless + decoder.zoneless, (note,) if note is not None else ())


def _in_format(found: str | float, rules: TimeRules) -> str | float:
    """A time as ISO 8601 or as an epoch number in seconds, where the configuration says how it is written."""
    if isinstance(found, str):
        for form in rules.formats:
            with suppress(ValueError):
                return datetime.strptime(found, form).isoformat()  # noqa: DTZ007 - the rules of zones come after
    if rules.unit != "auto":
        with suppress(RejectedError):
            exact = exact_ns(found, UNIT_NS[rules.unit])
            return found if exact is None else f"{exact // 10**9}.{exact % 10**9:09d}"
    return found


def assets_of(
    column: pa.ChunkedArray,
    text: bool,
    refused: dict[int, RefusedRow],
    part: Callable[[str], str | None] = str,
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The asset of each row.

    Args:
        column: the asset column.
        text: whether it is CSV text.
        refused: rows without a usable asset are added to it.
        part: the part of a text that is the asset; None for none.

    Returns:
        Names in order of first appearance, and (N,) indices into them, -1 where there is none.
    """
    encoded = (trimmed_texts(column) if text else plain_array(column)).dictionary_encode()
    rules = _DecoderRules()
    known: dict[str, int] = {}
    codes: list[int] = []
    faults: dict[int, RefusedRow] = {}
    for code, found in enumerate(encoded.dictionary.to_pylist()):
        whole = isinstance(found, float) and found.is_integer()
        asset = part(str(int(found) if whole else found))
        if found is None or found != found or asset is None:
            codes.append(-1)
            faults[code] = RefusedRow(Reason.NO_ASSET, "no asset", None)
        elif isinstance(checked := rules.check(asset, 0), Rejected):
            codes.append(-1)
            faults[code] = RefusedRow(checked.reason, checked.detail, None)
        else:
            codes.append(known.setdefault(asset, len(known)))
    absent = len(codes)
    codes.append(-1)
    faults[absent] = RefusedRow(Reason.NO_ASSET, "no asset", None)
    indices = encoded.indices.fill_null(absent).to_numpy(zero_copy_only=False)
    result = np.array(codes, np.int32)[indices]
    for row in np.flatnonzero(result < 0).tolist():
        refused[row] = faults[int(indices[row])]
    return tuple(known), result
