"""Dates and times as people write them, a column at a time: 02.03.2026 00:10, 3/2/26 5:04 PM, 2-Mar-2026.

The decoder of a stream reads ISO 8601 and epoch numbers. Tables also have dates in which day and month stand in
either order: one text cannot tell, but a column can. A number above 12 decides; else the order in which the times
go on in equal steps; else the conventions (points and dashes: the day first; AM and PM: the month first).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from daemon.domain import Ints, Mask
from daemon.stream.dates import MONTHS

_CLOCK: Final = (
    r"(?:(?:[T ,]|\s)\s*(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<part>[0-9]{1,9}))?)?"
    r"\s*(?P<half>[AaPp](?:\.?[Mm]\.?)?)?)?\s*(?P<zone>Z|z|UTC|utc|GMT|[+-][0-9]{2}:?[0-9]{2})?$"
)
_DATE: Final = (
    r"^(?P<a>[0-9]{1,4})(?P<mark>[-/. ])\s?(?P<b>[0-9]{1,2}|\p{L}{3,9})\.?,?[-/. ]\s?(?P<c>[0-9]{4}|[0-9]{1,2})"
    + _CLOCK
)
_MONTH_DATE: Final = r"^(?P<b>\p{L}{3,9})\.? (?P<mark>)(?P<a>[0-9]{1,2}),? (?P<c>[0-9]{4})" + _CLOCK
_DAY_NS: Final = 86_400 * 10**9
_FIELDS: Final = ("a", "mark", "b", "c", "hour", "minute", "second", "part", "half", "zone")


@dataclass(frozen=True, slots=True, eq=False)
class Dates:
    """The dates of a column of N texts."""

    time_ns: Ints  # (N,) nanoseconds since the epoch, of the zone's own clock where no zone is named
    read: Mask  # (N,) which texts are dates; of the others ``time_ns`` says nothing
    zoneless: Mask  # (N,) which of them name no zone
    note: str | None = None  # what was assumed of the order of day and month


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """The numbers of dates, (N,) each; -1 where there is none."""

    a: Ints
    b: Ints
    c: Ints
    year_first: Mask
    short_year: Mask  # of one or two digits: the century is left out
    swappable: Mask  # two numbers of which either may be the month
    clock_ns: Ints
    marks: frozenset[str]
    halves: bool  # whether hours are of AM and PM


def dates_of(texts: pa.Array, tracks: Ints, day_first: bool | None, european: bool) -> Dates:
    """The dates of a column of texts, as far as they are dates.

    Args:
        texts: (N,) trimmed, null where there is none.
        tracks: (N,) which asset a row is of: the steps of time are those of one asset.
        day_first: whether the day comes before the month; None: as the column shows.
        european: whether other columns are written as in Europe, which decides what the column leaves open.
    """
    count = len(texts)
    fields = pc.extract_regex(texts, _DATE)
    named_months = pc.extract_regex(texts, _MONTH_DATE)
    matched = fields.is_valid().to_numpy(zero_copy_only=False)
    worded = ~matched & named_months.is_valid().to_numpy(zero_copy_only=False)
    read = matched | worded
    if not read.any():
        nothing = np.zeros(count, bool)
        return Dates(np.zeros(count, np.int64), nothing, nothing)
    texts_of = {
        name: pc.if_else(pa.array(worded), pc.struct_field(named_months, name), pc.struct_field(fields, name))
        for name in _FIELDS
    }
    parts, fits, offset_ns, zoneless = _parts(texts_of, read)
    first, note = _order(parts, read & fits, tracks, day_first, european)
    time_ns, valid = _instants(parts, first)
    return Dates(time_ns - offset_ns, read & fits & valid, read & zoneless, note)


def day_comes_first(texts: Sequence[str]) -> tuple[bool, bool]:
    """Whether the day comes before the month in these dates, and whether that is only assumed."""
    array = pa.array(texts, pa.string())
    fields = pc.extract_regex(array, _DATE)
    read = fields.is_valid().to_numpy(zero_copy_only=False)
    parts, fits, _, _ = _parts({name: pc.struct_field(fields, name) for name in _FIELDS}, read)
    first, note = _order(parts, read & fits, np.zeros(len(array), np.int64), None, european=False)
    return first, note is not None


def _number(texts: pa.Array) -> Ints:
    """(N,) the numbers of texts of digits; -1 where there is none."""
    digits = pc.match_substring_regex(texts, "^[0-9]+$")
    bare = pc.if_else(pc.fill_null(digits, False), texts, pa.scalar(None, pa.string()))
    found: Ints = pc.cast(bare, pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return found


def _months(texts: pa.Array) -> Ints:
    """(N,) the months that words name; -1 where a text is none."""
    encoded = pc.fill_null(texts, "").dictionary_encode()
    known = [_month(word) for word in encoded.dictionary.to_pylist()]
    found: Ints = np.array(known, np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
    return found


def _month(word: str) -> int:
    return MONTHS.get(word.lower()[:3], -1)


def _parts(fields: dict[str, pa.Array], read: Mask) -> tuple[_Parts, Mask, Ints, Mask]:
    """The numbers of the dates; which are possible at all; (N,) what zones are ahead of UTC, ns; which name none."""
    a, b, c = (_number(fields[name]) for name in "abc")
    word = _months(fields["b"])
    worded = word > 0
    b = np.where(worded, word, b)
    year_first = pc.equal(pc.utf8_length(fields["a"]), 4).fill_null(False).to_numpy(zero_copy_only=False)
    short_year = pc.less_equal(pc.utf8_length(fields["c"]), 2).fill_null(False).to_numpy(zero_copy_only=False)
    hour, minute, second = (np.maximum(_number(fields[name]), 0) for name in ("hour", "minute", "second"))
    part = np.maximum(_number(pc.utf8_rpad(fields["part"], 9, "0")), 0)
    half = pc.fill_null(pc.utf8_lower(pc.utf8_slice_codeunits(fields["half"], 0, 1)), "")
    am, pm = (pc.equal(half, text).to_numpy(zero_copy_only=False) for text in "ap")
    noon = hour == 12
    hour24 = np.where(am & noon, 0, np.where(pm & ~noon, hour + 12, hour))
    midnight = (hour24 == 24) & (minute == 0) & (second == 0) & (part == 0)
    fits = ((hour24 < 24) | midnight) & (minute < 60) & (second < 60) & ~((am | pm) & (hour > 12)) & (b > 0)
    clock_ns = ((hour24 * 60 + minute) * 60 + second) * 10**9 + part
    offsets = pc.fill_null(fields["zone"], "").dictionary_encode()
    known = [_offset_ns(zone) for zone in offsets.dictionary.to_pylist()]
    offset_ns = np.array(known, np.int64)[offsets.indices.to_numpy(zero_copy_only=False)]
    zoneless = pc.equal(pc.fill_null(fields["zone"], ""), "").to_numpy(zero_copy_only=False)
    marks = frozenset(text for text in pc.unique(fields["mark"].filter(pa.array(read))).to_pylist() if text)
    swappable, halves = ~year_first & ~worded, bool((am | pm).any())
    parts = _Parts(a, b, c, year_first, short_year & ~year_first, swappable, clock_ns, marks, halves)
    return parts, fits, offset_ns, zoneless


def _offset_ns(zone: str) -> int:
    if zone[:1] not in ("+", "-"):
        return 0
    digits = zone[1:].replace(":", "")
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return (seconds if zone[0] == "+" else -seconds) * 10**9


def _instants(parts: _Parts, day_first: bool) -> tuple[Ints, Mask]:
    """(N,) nanoseconds since the epoch with day and month in this order, and which dates exist."""
    swap = parts.swappable & (not day_first)
    day = np.where(parts.year_first, parts.c, np.where(swap, parts.b, parts.a))
    month = np.where(swap, parts.a, parts.b)
    year = np.where(parts.year_first, parts.a, parts.c)
    year = np.where(parts.short_year, year + np.where(year < 70, 2000, 1900), year)
    valid = (month >= 1) & (month <= 12) & (year >= 1678) & (year <= 2261) & (day >= 1)
    months = ((np.where(valid, year, 1970) - 1970) * 12 + np.where(valid, month, 1) - 1).astype("M8[M]")
    begin = months.astype("M8[D]").astype(np.int64)
    length = (months + 1).astype("M8[D]").astype(np.int64) - begin
    valid &= day <= length
    return (begin + np.where(valid, day, 1) - 1) * _DAY_NS + parts.clock_ns, valid


def _order(
    parts: _Parts, read: Mask, tracks: Ints, day_first: bool | None, european: bool
) -> tuple[bool, str | None]:
    """Whether the day comes before the month, and a note where that is an assumption."""
    open_ = read & parts.swappable
    if not open_.any():
        return True, None
    if day_first is not None:
        return day_first, None
    first, second = parts.a[open_], parts.b[open_]
    days, months = int((first > 12).sum()), int((second > 12).sum())
    if days or months:
        return days >= months, None
    if (first == second).all():
        return True, None
    steady = [_steadiness(_instants(parts, order)[0][open_], tracks[open_]) for order in (True, False)]
    if steady[0] != steady[1]:
        return steady[0] > steady[1], None
    if parts.marks == {"."}:  # nobody writes the month first with points
        return True, None
    by_custom = not parts.halves and (european or "/" not in parts.marks)
    order = "the day" if by_custom else "the month"
    return by_custom, (
        f"dates are read with {order} first, which nothing in the file decides:"
        f" {'--month-first' if by_custom else '--day-first'} reads them the other way"
    )


def _steadiness(time_ns: Ints, tracks: Ints) -> tuple[float, float]:
    """How far the times of each asset go on in one direction, and in equal steps: shares of the steps."""
    order = np.argsort(tracks, kind="stable")
    steps = np.diff(time_ns[order])[np.diff(tracks[order]) == 0]
    steps = steps[steps != 0]
    if not len(steps):
        return 0.0, 0.0
    onwards = int((steps > 0).sum())
    common = np.unique(steps, return_counts=True)[1].max()
    return max(onwards, len(steps) - onwards) / len(steps), float(common / len(steps))
