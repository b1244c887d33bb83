"""Times whose parts stand in columns of their own: year, month, day, hour, minute, second; or year, day of year, HHMM.

In: the names of columns and their whole numbers. Out: which columns are parts (``find_parts``), and the times that
they make (``joined``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa

from daemon.adapters.field_names import bare
from daemon.domain import Floats, Ints

_NAMES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "year": ("year", "yr", "yyyy", "jahr", "année", "annee", "año", "anno"),
        "month": ("month", "mon", "mm", "monat", "mois", "mes", "mese"),
        "day": ("day", "dd", "dayofmonth", "tag", "jour", "dia", "día", "giorno"),
        "doy": ("doy", "dayofyear", "yday", "julianday", "jday"),
        "clock": ("hhmm", "hrmn", "hourmin", "hourminute", "time", "timehhmm"),
        "hour": ("hour", "hr", "hh", "hours", "stunde", "heure", "hora", "ora"),
        "minute": ("minute", "min", "mi", "mm", "minutes", "minuto", "minuti"),
        "second": ("second", "sec", "ss", "seconds", "sekunde", "seconde", "segundo", "secondi"),
    }
)
"""Bare names of columns, by the part of a time that they hold; ``mm`` before the hour is the month."""
_RANGES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "year": (1970, 2261),
        "month": (1, 12),
        "day": (1, 31),
        "doy": (1, 366),
        "clock": (0, 2400),
        "hour": (0, 24),
        "minute": (0, 59),
        "second": (0, 60),
    }
)
_SECOND_NS: Final = 10**9
_HOURS, _MINUTES = 24, 60


def find_parts(names: Sequence[str], numbers: Callable[[str], Floats | None]) -> tuple[str, ...]:
    """The columns that make a time together, from the year down; none where they do not name a day.

    Args:
        names: of the columns.
        numbers: gives the first numbers of a column; None where it holds anything else.
    """
    found: dict[str, str] = {}
    for part, known in _NAMES.items():
        for name in names:
            if bare(name) == "min" and any(bare(other) == "max" for other in names):
                continue  # the least of something
            free = part not in found and name not in found.values()
            if free and bare(name) in known and _fits(part, numbers(name)):
                found[part] = name
    if "day" not in found and "month" not in found and "doy" not in found:
        day = next((name for name in names if bare(name) in _NAMES["day"]), None)
        if day is not None and _fits("doy", numbers(day)):  # the day of the year is often called Day
            found["doy"] = day
    if "day" not in found and "doy" in found and bare(found.get("month", "")) == "mm":
        found["minute"] = found.pop("month")  # year, day of year, hh, mm
    if "month" not in found and "day" in found and "doy" not in found:
        found["doy"] = found.pop("day")
    if "year" not in found or not ("doy" in found or {"month", "day"} <= found.keys()):
        return ()
    if {"month", "day"} <= found.keys():
        found.pop("doy", None)
    if "clock" in found:
        for part in ("hour", "minute"):
            found.pop(part, None)
    elif "hour" not in found:
        found = {part: name for part, name in found.items() if part in ("year", "month", "day", "doy")}
    return tuple(found[part] for part in _NAMES if part in found)


def _fits(part: str, numbers: Floats | None) -> bool:
    low, high = _RANGES[part]
    if numbers is None or not len(numbers) or (part != "second" and (numbers != np.rint(numbers)).any()):
        return False
    return bool(numbers.min() >= low and numbers.max() <= high)


def joined(names: Sequence[str], columns: Sequence[Floats]) -> pa.Array:
    """(N,) the times that parts make, in the zone's own clock; null where one is missing or there is no such day.

    Args:
        names: of the columns, as ``find_parts`` has them.
        columns: their numbers, (N,) each, NaN where there is none.
    """
    held = dict(zip(_parts_of(names), names, strict=True))
    parts = dict(zip(held, columns, strict=True))
    if "month" not in parts and "day" in parts:
        parts["doy"] = parts.pop("day")
    if bare(held.get("clock", "")) == "time" and np.nanmax(parts["clock"], initial=0.0) <= _HOURS:
        parts["hour"] = parts.pop("clock")  # 5 is five o'clock, for no row is later than 00:24
    known = np.all(
        [(column >= _RANGES[part][0]) & (column <= _RANGES[part][1]) for part, column in parts.items()],
        axis=0,
    )

    def whole(part: str, otherwise: int) -> Ints:
        column = parts.get(part)
        found = otherwise if column is None else np.where(known, column, otherwise).astype(np.int64)
        return np.broadcast_to(np.asarray(found, np.int64), known.shape)

    year = whole("year", 1970)
    begin = (year - 1970).astype("M8[Y]")
    if "doy" in parts:
        first, following = begin.astype("M8[D]"), (begin + 1).astype("M8[D]")
        day = whole("doy", 1)
    else:
        month = begin.astype("M8[M]") + (whole("month", 1) - 1)
        first, following = month.astype("M8[D]"), (month + 1).astype("M8[D]")
        day = whole("day", 1)
    known &= day <= (following - first).astype(np.int64)
    clock = whole("clock", 0)
    known &= clock % 100 < _MINUTES
    minutes = (whole("hour", 0) + clock // 100) * 60 + whole("minute", 0) + clock % 100
    seconds = parts.get("second")
    rest = np.zeros(len(known)) if seconds is None else np.where(known, seconds, 0.0)
    ns = minutes * 60 * _SECOND_NS + np.rint(rest * _SECOND_NS).astype(np.int64)
    times = (first + (day - 1)).astype("M8[ns]") + ns.astype("m8[ns]")
    return pa.array(times, pa.timestamp("ns"), mask=~known)


def are_parts(names: Sequence[str]) -> bool:
    """Whether columns of a time are its parts, and not a date and a time of day."""
    return len(names) > 2 or (len(names) == 2 and bare(names[0]) in _NAMES["year"])


def _parts_of(names: Sequence[str]) -> list[str]:
    """Which part each of the columns holds, in the order of ``find_parts``."""
    parts, found = iter(_NAMES.items()), []
    for name in names:
        found.append(next(part for part, known in parts if bare(name) in known))
    return found
