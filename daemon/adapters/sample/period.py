"""The sampling period of event times that jitter and have gaps.

Real clocks jitter, readings are dropped, and times are rounded to milliseconds, so neither the smallest nor the mean
difference of successive times is the period. The most common difference is, as long as most readings arrive: the
densest tenth on the logarithmic scale is found first; then every difference up to a few periods is divided by the
whole number of periods it must be, which lets jitter cancel out; and a result within 1 % of a round period is that
period, unless the times are exact already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np

from daemon.adapters.files import NO_TIME
from daemon.domain import SECOND_NS, Ints

SNAP: Final = 0.01
_MICROSECOND_NS: Final = 1_000
_ROUND_NS: Final = np.array(
    sorted(
        {
            *(m * 10**e for e in range(3, 9) for m in (1, 2, 3, 4, 5, 6, 8)),
            *(round(m * 10**e) for e in range(4, 9) for m in (1.2, 1.5, 2.5, 7.5)),
            *(s * SECOND_NS for s in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30)),
            *(m * 60 * SECOND_NS for m in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)),
            *(h * 3600 * SECOND_NS for h in (1, 2, 3, 4, 6, 8, 12, 24, 168)),
        }
    ),
    np.int64,
)


def infer_period(tracks: Sequence[Ints]) -> int | None:
    """The period of these times in nanoseconds, a whole number of microseconds.

    Args:
        tracks: the event times (ns) of each reporter, in any order, repeated or not.

    Returns:
        None if no reporter has two different times.
    """
    steps = np.concatenate(
        [np.diff(np.unique(times[times != NO_TIME])) for times in tracks] or [np.empty(0, np.int64)]
    )
    if not len(steps):
        return None
    typical = _densest(steps)
    exact, often = max(Counter(steps.tolist()).items(), key=lambda item: (item[1], -item[0]))
    near = abs(exact / typical - 1) < 0.05
    if near and exact % _MICROSECOND_NS == 0 and np.mean(steps % exact == 0) > 0.99:
        return int(exact)  # a clock without jitter: its period is exact
    # Sum of differences over sum of periods: jitter cancels between successive differences.
    periods = np.rint(steps / typical)
    fits = (periods >= 1) & (periods <= 5) & (np.abs(steps / typical - periods) < 0.3)
    refined = float(steps[fits].sum() / periods[fits].sum()) if fits.any() else typical
    nearest = int(_ROUND_NS[np.argmin(np.abs(np.log(_ROUND_NS / refined)))])
    if abs(nearest / refined - 1) <= SNAP:
        return nearest
    if 2 * often > len(steps) and abs(refined / exact - 1) < 1e-3:  # else rounding: 33, 33, 34 ms
        refined = exact
    return max(round(refined / _MICROSECOND_NS), 1) * _MICROSECOND_NS


def _densest(steps: Ints) -> float:
    """The middle of the tenth (from x to 1.1 x) that most differences lie in."""
    ordered = np.sort(steps).astype(float)
    within = np.searchsorted(ordered, ordered * 1.1, side="right") - np.arange(len(ordered))
    start = int(np.argmax(within))
    middle = float(np.median(ordered[start : start + within[start]]))
    around = ordered[(ordered > 0.7 * middle) & (ordered < 1.3 * middle)]
    return float(np.median(around))
