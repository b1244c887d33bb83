"""What is odd about the values of a table and about its times: for notes, nothing is changed here.

Likely sentinels (a number that stands for "no value": -999.9, 65535), rows that contradict each other, and the
column that might tell apart rows of one time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from daemon.domain import Floats, Ints

SENTINELS: Final = frozenset(
    {
        *(float(sign * number) for number in (99, 999, 9999, 99999, 99.9, 999.9, 9999.9) for sign in (-1, 1)),
        *(-7999.0, 7999.0, -6999.0, -32768.0, 32767.0, 65535.0, -2147483648.0, 2147483647.0, 4294967295.0),
        *(-1e20, 1e20, -1e30, 1e30, -1e10, 1e10),
    }
)
"""Numbers that are in use for "no value"."""
_SAMPLE: Final = 4096
_FAR: Final = 3.0
"""Ranges of all other values that a sentinel lies beyond them."""
_MOST: Final = 4


def likely_sentinels(values: Floats) -> list[tuple[float, int]]:
    """Numbers that lie far from all others of a sensor and look like a mark, with how often they occur.

    One is the smallest or greatest value, at least ``_FAR`` times the range of the others away from them, and
    either in use as a mark or there several times to the last digit.
    """
    found: list[tuple[float, int]] = []
    if not _far_extremes(values):
        return found
    left = values[np.isfinite(values)]
    while len(left) > 2 and len(found) < _MOST:
        for extreme in (left.max(), left.min()):
            times = int((left == extreme).sum())
            others = left[left != extreme]
            if len(others) < 2 or times > len(others) or not (extreme in SENTINELS or times > 2):
                continue
            spread = max(float(others.max() - others.min()), 1e-9 * abs(float(extreme)))
            if min(abs(extreme - others.max()), abs(extreme - others.min())) > _FAR * spread:
                found.append((float(extreme), times))
                left = others
                break
        else:
            # Marks at both ends hide each other: the range without all of them counts.
            marks = [mark for mark in (left.max(), left.min()) if float(mark) in SENTINELS]
            others = left[~np.isin(left, marks)]
            if len(marks) < 2 or len(others) < 2 or others.max() == others.min():
                break
            spread = float(others.max() - others.min())
            far = [m for m in marks if min(abs(m - others.max()), abs(m - others.min())) > _FAR * spread]
            if not far:
                break
            found.extend((float(mark), int((left == mark).sum())) for mark in far)
            left = left[~np.isin(left, far)]
    return found


def _far_extremes(values: Floats) -> bool:
    """Whether the greatest or smallest value lies far from the middle of a sample: cheap, and mostly False."""
    sample = values[:: max(len(values) // _SAMPLE, 1)]
    sample = sample[np.isfinite(sample)]
    if len(sample) < 3:
        return False
    low, high = np.quantile(sample, (0.25, 0.75)).tolist()
    spread = max(high - low, 1e-9 * max(abs(low), abs(high)))
    with np.errstate(invalid="ignore"):
        top, bottom = np.fmax.reduce(values), np.fmin.reduce(values)
    return bool(top > high + _FAR * spread or bottom < low - _FAR * spread)


def same_keys(asset: Ints, time_ns: Ints) -> tuple[Ints, Ints]:
    """Rows that have asset and time of an earlier row, and for each of them that row.

    Args:
        asset: (M,) codes.
        time_ns: (M,) event times.

    Returns:
        (K,) indices of such rows, and (K,) of the first row with the same asset and time.
    """
    order = np.argsort(asset, kind="stable")
    new = np.diff(asset[order], prepend=-1) != 0
    if bool(np.all((np.diff(time_ns[order], prepend=0) > 0) | new)):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    order = np.lexsort((np.arange(len(asset)), time_ns, asset))
    begins = np.ones(len(order), bool)
    begins[1:] = (np.diff(asset[order]) != 0) | (np.diff(time_ns[order]) != 0)
    leading = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
    return order[~begins], leading[~begins]


def contradicting(values: Floats, again: Ints, before: Ints) -> int:
    """How many of the rows ``again`` have another value than the row ``before`` in some cell that both have."""
    here, there = values[again], values[before]
    return int((np.isfinite(here) & np.isfinite(there) & (here != there)).any(axis=1).sum())


def telling_apart(
    columns: Sequence[tuple[str, Ints]], asset: Ints, time_ns: Ints, repeated: int
) -> list[str]:
    """The columns that tell apart most of the rows that have the time of another row.

    Args:
        columns: names with (M,) codes of their values.
        asset: (M,) codes.
        time_ns: (M,) event times.
        repeated: how many rows share asset and time with an earlier one.
    """
    found = []
    for name, codes in columns:
        together = asset * (int(codes.max(initial=0)) + 1) + codes
        if 10 * len(same_keys(together, time_ns)[0]) <= repeated:
            found.append(name)
    return found
