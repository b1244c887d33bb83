"""Rows of a table whose clock is wrong: single rows dated far ahead, and assets whose clock is fast or slow.

A stream waits for no reading that is older than ``allowed_lateness`` behind the newest of its asset. So one row with
a wrong date makes all that follow late. In a file one can see what comes after, and refuse that row instead.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np

from daemon.domain import Ints

_PLACES: Final = 40
"""Stretches of a file at which clocks are compared."""


def dated_ahead(times: Ints, lateness_ns: int) -> Ints:
    """The rows of one asset that make others late, where refusing them loses fewer rows than half of these.

    Args:
        times: (M,) event times in file order.
        lateness_ns: how far a row may be behind the newest.

    Returns:
        Indices, ascending; none where the file has no such rows.
    """
    nothing = np.empty(0, np.int64)
    late = _late(times, lateness_ns)
    if late < 3:
        return nothing
    kept = _longest_rising(times)
    others = np.setdiff1d(np.arange(len(times)), kept)
    after = np.searchsorted(kept, others)  # the next row that is kept
    ahead = others[
        (after < len(kept)) & (times[others] > times[kept[np.minimum(after, len(kept) - 1)]] + lateness_ns)
    ]
    left = np.delete(times, ahead)
    return ahead if 2 * (len(ahead) + _late(left, lateness_ns)) < late else nothing


def _late(times: Ints, lateness_ns: int) -> int:
    """How many rows are too far behind the newest before them."""
    return int((times < np.maximum.accumulate(times) - lateness_ns).sum())


def _longest_rising(times: Ints) -> Ints:
    """The indices of a longest run of rows, others left out, whose times never fall."""
    ends: list[int] = []  # the smallest time that a run of this length can end with
    at: list[int] = []  # its row
    before = np.full(len(times), -1, np.int64)
    for i, time in enumerate(times.tolist()):
        length = bisect_right(ends, time)
        if length:
            before[i] = at[length - 1]
        if length == len(ends):
            ends.append(time)
            at.append(i)
        else:
            ends[length], at[length] = time, i
    run: list[int] = []
    i = at[-1] if at else -1
    while i >= 0:
        run.append(i)
        i = int(before[i])
    return np.array(run[::-1], np.int64)


def skewed_clocks(assets: Ints, times: Ints, least_ns: int) -> dict[int, int]:
    """Assets whose times are always apart from those of the other assets' rows around them.

    Args:
        assets: (M,) codes, in the order of the file.
        times: (M,) event times.
        least_ns: a smaller difference is none.

    Returns:
        Asset -> by how much its clock is ahead, in nanoseconds; negative: behind. Nothing is known of fewer than
        three assets, or where the rows of one asset stand together.
    """
    count = len(np.unique(assets))
    reach = 3 * count
    if count < 3 or len(assets) < 2 * reach:
        return {}
    offsets: dict[int, list[int]] = {}
    for start in np.linspace(0, len(assets) - reach, _PLACES).astype(np.int64).tolist():
        here, then = assets[start : start + reach], times[start : start + reach]
        present = np.unique(here)
        if len(present) < 3:
            continue
        middles = [int(np.median(then[here == asset])) for asset in present]
        middle = int(np.median(middles))
        for asset, own in zip(present.tolist(), middles, strict=True):
            offsets.setdefault(asset, []).append(own - middle)
    found = {}
    for asset, seen in offsets.items():
        typical = int(np.median(seen))
        steady = np.mean(np.abs(np.array(seen) - typical) < abs(typical) / 4)
        if abs(typical) > least_ns and len(seen) > 2 and steady > 0.8:
            found[asset] = typical
    return found
