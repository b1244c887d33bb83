"""Training segments: runs of consecutive grid rows of one asset, cut, counted and selected.

Pure functions over ``Segment``; rows are grid rows (event time over the stream's period).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.domain import Floats, Ints, Mask, Segment

FOREVER = 1 << 62
"""A grid row, offset or event time beyond all others."""


def near(rows: Ints, firing: Mask, margin: int) -> Mask:
    """(R,) True for rows within ``margin`` rows of a firing one; ``rows`` ascending."""
    alarms = rows[firing]
    if not len(alarms):
        return np.zeros(len(rows), bool)
    at = np.searchsorted(alarms, rows)
    after = alarms[np.minimum(at, len(alarms) - 1)]
    before = alarms[np.maximum(at - 1, 0)]
    return np.asarray((np.abs(after - rows) <= margin) | (np.abs(rows - before) <= margin))


def cut(
    asset: str, rows: Ints, values: Floats, conditions: Sequence[str], received: Floats | None, taken: Ints
) -> list[Segment]:
    """Segments of consecutive rows; an absent row starts a new segment.

    The grid releases empty rows for gaps that it bridges. An absent row is thus a longer gap, or an alarm
    that was cut out, and the rows to either side are no neighbours. Arguments as of ``Segment``; ``taken`` are
    the rows that were cut out.
    """
    if not len(rows):
        return []
    before = np.searchsorted(np.sort(taken), rows)  # rows that were cut out before each
    bounds = np.flatnonzero(np.diff(rows) != 1) + 1
    conditioned = any(conditions)
    return [
        Segment(
            asset,
            int(rows[part[0]]),
            values[part],
            tuple(conditions[i] for i in part.tolist()) if conditioned else (),
            None if received is None else received[part],
            bool(before[part[0]] > (before[part[0] - 1] if part[0] else 0)),
        )
        for part in np.split(np.arange(len(rows)), bounds)
    ]


def part_of(segment: Segment, start: int, stop: int) -> Segment:
    """Rows ``start .. stop - 1`` of a segment, counted from its first."""
    return Segment(
        segment.asset,
        segment.first_row + start,
        segment.values[start:stop],
        segment.condition[start:stop],
        None if segment.received is None else segment.received[start:stop],
        segment.after_cut and start == 0,
        None if segment.numbers is None else segment.numbers[start:stop],
    )


def newest_rows(history: Sequence[Segment], wanted: int) -> list[Segment]:
    """The newest rows of all assets: from the first event time after which at most ``wanted`` rows lie."""
    if sum(len(s.values) for s in history) <= wanted:
        return list(history)
    rows = np.sort(np.concatenate([s.first_row + np.arange(len(s.values)) for s in history]))
    first = int(rows[-wanted])
    if rows[-wanted - 1] == first:
        first += 1  # all rows of one instant, or none
    return between(history, first, FOREVER)


def between(history: Sequence[Segment], first: int, stop: int) -> list[Segment]:
    """The parts of the segments in grid rows ``first .. stop - 1``."""
    kept = []
    for s in history:
        a = min(max(first - s.first_row, 0), len(s.values))
        b = min(max(stop - s.first_row, 0), len(s.values))
        if a < b:
            kept.append(part_of(s, a, b))
    return kept


def ends_at(history: Sequence[Segment], period_ns: int) -> int | None:
    """The event time at which a history ends; None without rows.

    A thousandth of the rows may lie beyond it: they come from clocks that are ahead.
    """
    if not history:
        return None
    rows = np.sort(np.concatenate([s.first_row + np.arange(len(s.values)) for s in history]))
    return int(rows[-1 - len(rows) // 1000] + 1) * period_ns


def span_of(history: Sequence[Segment], period_ns: int) -> tuple[int, int] | None:
    """The event times of the oldest and of the newest row; None without rows."""
    if not history:
        return None
    last = max(s.first_row + len(s.values) - 1 for s in history)
    return min(s.first_row for s in history) * period_ns, last * period_ns
