"""Thinning: which rows of a long series to draw, and runs of True as a bounded list of spans.

A run can have millions of rows and a chart a few thousand pixels. A series is thinned by keeping the least and
the greatest value of each bucket of rows: a peak of one row stays visible at its own time, which averaging or
striding would lose.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from daemon.domain import Floats, Ints, Mask

POINTS_PER_TRACE: Final = 4_000
SPANS_SHOWN: Final = 200


def extremes(values: Floats, most: int = POINTS_PER_TRACE) -> Ints:
    """Which rows to draw: the least and the greatest of each bucket of rows.

    Args:
        values: (N,), NaN where there is nothing.
        most: at most so many rows, at least 2.

    Returns:
        Ascending row numbers, at most ``most``. A bucket that is all NaN gives one of its
        rows, so that the line breaks there. All rows, if there are no more than ``most``.
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    step = -(-n // (most // 2))
    padded = np.concatenate([values, np.full(-n % step, np.nan)]).reshape(-1, step)
    start = np.arange(len(padded)) * step
    empty = np.isnan(padded).all(axis=1)
    greatest = np.where(np.isnan(padded), -np.inf, padded).argmax(axis=1)
    least = np.where(np.isnan(padded), np.inf, padded).argmin(axis=1)
    # Both are 0 in an empty bucket: its first row, which exists even where padding follows.
    rows = np.concatenate([start + greatest, (start + least)[~empty]])
    return np.unique(rows)


def spans(mask: Mask, times_ns: Ints, most: int = SPANS_SHOWN) -> list[tuple[int, int]]:
    """Runs of True as (first, last) instants; the nearest ones are joined beyond ``most``."""
    edges = np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))
    firsts, lasts = times_ns[np.flatnonzero(edges == 1)], times_ns[np.flatnonzero(edges == -1) - 1]
    if len(firsts) > most:
        gaps = firsts[1:] - lasts[:-1]
        apart = np.sort(np.argsort(gaps, kind="stable")[len(gaps) - (most - 1) :])
        firsts, lasts = firsts[np.concatenate([[0], apart + 1])], lasts[np.concatenate([apart, [-1]])]
    return [(int(a), int(b)) for a, b in zip(firsts, lasts, strict=True)]
