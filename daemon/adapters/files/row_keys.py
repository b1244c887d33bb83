"""The asset and the event time of each row of a table, by the rules of the stream's decoder.

Plain columns (Arrow timestamps, integers) are converted at Arrow's speed. Every other value goes through
``stream.decoding.Decoder``, so that a file and a topic accept and refuse the same times and names. A row
without a usable asset or time is recorded with its reason, under its row number.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from daemon.adapters.files.cells import plain_array, trimmed_texts
from daemon.domain import EPOCH, Ints, Reading, Reason, Record, Rejected, StreamSpec, zone_of
from daemon.errors import InputError
from daemon.stream.decoding import Decoder

ONLY_ASSET: Final = "asset-0"
"""The asset of a table without an asset column."""
NO_TIME: Final = int(np.iinfo(np.int64).min)
"""``Table.time_ns`` of a row without a usable time."""
_UNIT_NS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_INT64_MAX: Final = 2**63 - 1


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


def event_times(
    path: Path, column: pa.ChunkedArray, refused: dict[int, RefusedRow], timezone: str | None
) -> tuple[Ints, int]:
    """(N,) nanoseconds since the epoch, and how many times named no zone.

    Rows without a usable time are added to ``refused``.
    """
    zoneless = 0
    array = plain_array(column)
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    if pa.types.is_string(array.type):
        array = _recognised(trimmed_texts(column))
    present = array.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(array.type):
        unit = _UNIT_NS[array.type.unit]
        number = array.cast(pa.int64()).fill_null(0).to_numpy()
        scale = np.full(len(number), unit, np.int64)
        if array.type.tz is None:
            zoneless = int(present.sum())
            if timezone is not None:
                number = number - utc_offsets(number // (10**9 // unit), timezone) * (10**9 // unit)
    elif pa.types.is_integer(array.type):
        if pa.types.is_uint64(array.type):
            array = pc.min_element_wise(array, pa.scalar(_INT64_MAX, pa.uint64()))
        number = array.cast(pa.int64()).fill_null(0).to_numpy()
        scale = _epoch_scale(number)
    elif pa.types.is_floating(array.type) or pa.types.is_string(array.type):
        return _times_one_by_one(path, array, refused, timezone)
    else:
        raise InputError(
            f"{path}: the time column, of type {array.type}, is neither a time, a text nor a number"
        )
    fits = present & (number >= 0) & (number <= _INT64_MAX // scale)
    for row in np.flatnonzero(~fits).tolist():
        if not present[row]:
            refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, "no time", None)
        else:
            rule = "before 1970" if number[row] < 0 else "beyond the year 2262"
            value = int(number[row])
            refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, f"{value} is {rule}", value)
    time_ns: Ints = np.where(fits, number * np.where(fits, scale, 0), NO_TIME)
    return time_ns, zoneless


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
    """A column of texts as integers or as times if all texts are one of these; else unchanged."""
    for kind in (pa.int64(), pa.timestamp("ns", "UTC"), pa.timestamp("ns")):
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            continue
    return array


def _times_one_by_one(
    path: Path, array: pa.Array, refused: dict[int, RefusedRow], timezone: str | None
) -> tuple[Ints, int]:
    """Event times of mixed texts and of epoch numbers with decimals, each by the decoder's rules."""
    rules = _DecoderRules(timezone)
    times = np.full(len(array), NO_TIME, np.int64)
    unread = ""
    for row, found in enumerate(array.to_pylist()):
        if found is None or found != found:
            refused[row] = RefusedRow(Reason.BAD_TIMESTAMP, "no time", None)
            continue
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        checked = rules.check(ONLY_ASSET, found)
        if isinstance(checked, Reading):
            times[row] = checked.time_ns
        else:
            refused[row] = RefusedRow(checked.reason, checked.detail, found)
            if isinstance(found, str):
                unread = unread or f"row {row} (the first is 0): {checked.detail}"
    if unread and (times == NO_TIME).all():
        raise InputError(f"{path}: no time can be read; {unread}")
    return times, rules.zoneless


def assets_of(
    columns: pa.Table, name: str | None, text: bool, refused: dict[int, RefusedRow]
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The asset of each row.

    Args:
        columns: all columns of the file.
        name: of the asset column; None where there is none.
        text: whether the columns are CSV text.
        refused: rows without a usable asset are added to it.

    Returns:
        Names in order of first appearance, and (N,) indices into them, -1 where there is none.
    """
    if name is None:
        return (ONLY_ASSET,), np.zeros(columns.num_rows, np.int32)
    column = columns[name]
    encoded = (trimmed_texts(column) if text else plain_array(column)).dictionary_encode()
    rules = _DecoderRules()
    known: dict[str, int] = {}
    codes: list[int] = []
    faults: dict[int, RefusedRow] = {}
    for code, found in enumerate(encoded.dictionary.to_pylist()):
        whole = isinstance(found, float) and found.is_integer()
        asset = str(int(found) if whole else found)
        checked = rules.check(asset, 0)
        if found is None or found != found:
            codes.append(-1)
            faults[code] = RefusedRow(Reason.NO_ASSET, "no asset", None)
        elif isinstance(checked, Rejected):
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
