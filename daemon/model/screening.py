"""Incidents in the training history: short spells unlike all other rows, which are not learned as normal.

An unlabelled incident in the rows that a model learns from widens the spread of its sensors, bends the models, and sets the
threshold: the next one like it, and any smaller one, stays silent. So the history is measured first by linear models that
were not fitted on the rows they measure (cross-fitting, ``crossfit``), and each row gets

    r = the largest error over window lengths and sensors, each over the error that 90 % of the rows stay below

**Singular, not rare.** A start each morning, a step of a set point, a Monday are unlike most rows as well, but they come
again. Episodes (rows with r above ``STANDS_OUT``) are ranked by their peaks; the first few are incidents if their peaks are
``SINGULAR`` times the next one's, if they are no more than one and one a week, if no two of them are alike (at the same
hour of the day, or of the same sensor and about as high: a habit), if they are short (``LONGEST``) and if the sensor is seen
to come back to where it was: what lasts is a regime, a step to another level is how one begins, and what stands at the end of
a history, or is all of an asset, may be either. Nor is a condition an incident that is labelled and comes at no other time.
Of a history under ``LEAST_DAYS`` nothing is set aside: what comes once a day has come too seldom to be told from what came
once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from daemon.domain import DAY_NS, NO_CONDITION, Floats, Segment, StreamSpec, iso
from daemon.model.calibration import ERROR_OFFSET
from daemon.model.crossfit import measured_pieces
from daemon.model.reconstruction import Models
from daemon.model.segments import Piece, complement, folds

USUAL = 0.9
"""Share of a sensor's rows whose errors are called usual."""
STANDS_OUT = 3.0
"""Of r: where an episode begins."""
SINGULAR = 3.0
"""A smaller incident raises a threshold by less than this factor."""
LONGEST = 0.05
"""Share of the history that incidents may be."""
LEAST_DAYS = 3.0
WEEK = 7.0
SAME_HOUR = 1.0 / 24.0
"""Episodes that begin within so many days of the same time of the day may be one habit."""
ALIKE = 1.5
"""So may those of one sensor whose peaks differ by less than this factor."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A spell of one asset's rows that is unlike all others."""

    asset: str
    first_row: int
    end_row: int  # after the last
    sensor: int  # whose error is largest, in units of its spread
    peak: float  # of r


def incidents(
    history: Sequence[Segment], window: int, period_ns: int, fit: Callable[[Sequence[Piece]], Models]
) -> list[Incident]:
    """The incidents in a history, by their peaks.

    Args:
        history: segments (T, C).
        window: L.
        period_ns: of the grid.
        fit: linear models of the given pieces.
    """
    days = sum(len(segment.values) for segment in history) * period_ns / DAY_NS
    if days < LEAST_DAYS:
        return []
    found, rest = _episodes(history, window, fit)
    found.sort(key=lambda each: -each.peak)
    most = int(1 + days / WEEK)
    peaks = [each.peak for each in found[: most + 1]] + [rest]
    singular = [j for j in range(1, min(most, len(found)) + 1) if peaks[j - 1] >= SINGULAR * peaks[j]]
    for count in reversed(singular):
        some = found[:count]
        rows = sum(each.end_row - each.first_row for each in some) * period_ns / DAY_NS
        passing = all(_comes_back(history, each, window) and not _own_label(history, each) for each in some)
        if rows <= LONGEST * days and passing and not _alike(some, period_ns):
            return some
    return []


def _alike(some: Sequence[Incident], period_ns: int) -> bool:
    """Whether two of them may be one habit."""
    for one, other in combinations(some, 2):
        apart = abs(one.first_row - other.first_row) * period_ns / DAY_NS % 1.0
        same = one.sensor == other.sensor and max(one.peak, other.peak) < ALIKE * min(one.peak, other.peak)
        if same or min(apart, 1.0 - apart) < SAME_HOUR:
            return True
    return False


def _comes_back(history: Sequence[Segment], incident: Incident, window: int) -> bool:
    """Whether its sensor is nearer to where it was before, within a window of values after, than to where it went."""
    mine = [segment for segment in history if segment.asset == incident.asset]
    rows = np.concatenate([segment.first_row + np.arange(len(segment.values)) for segment in mine])
    values = np.concatenate([segment.values[:, incident.sensor] for segment in mine])
    seen = np.isfinite(values)
    rows, values = rows[seen], values[seen]
    first, end = np.searchsorted(rows, [incident.first_row, incident.end_row])
    before, spell, after = (
        values[max(first - window, 0) : first],
        values[first:end],
        values[end : end + window],
    )
    if not len(after):
        return False
    if not (len(before) and len(spell)):
        return True
    level = float(np.median(before))
    return abs(float(np.median(after)) - level) <= 0.5 * float(np.abs(spell - level).max())


def _own_label(history: Sequence[Segment], incident: Incident) -> bool:
    """Whether most of its rows have a label of the condition that hardly any other row of the history has."""
    inside: Counter[str] = Counter()
    everywhere: Counter[str] = Counter()
    for segment in history:
        everywhere.update(segment.condition)
        if segment.asset == incident.asset:
            first, end = incident.first_row - segment.first_row, incident.end_row - segment.first_row
            inside.update(segment.condition[max(first, 0) : max(end, 0)])
    label, rows = max(inside.items(), key=lambda item: item[1], default=(NO_CONDITION, 0))
    mostly = 2 * rows > sum(inside.values()) and 2 * rows > everywhere[label]
    return label != NO_CONDITION and mostly


def _episodes(
    history: Sequence[Segment], window: int, fit: Callable[[Sequence[Piece]], Models]
) -> tuple[list[Incident], float]:
    """The spells of rows that stand out, and the largest r of all other rows."""
    held = []
    for j, block in enumerate(folds(history, window)):
        rest = complement(history, block)
        if max((len(piece) for piece in rest), default=0) >= 2 * window:
            models = fit(rest)
            held += measured_pieces(models.levelled(history), block, models, window, j)
    if not held:
        return [], STANDS_OUT
    errors = np.concatenate([piece.measured.channel_error for piece in held], axis=1)  # (S, B, C)
    ratio = np.where(np.isfinite(errors), errors, 0.0) + ERROR_OFFSET
    ratio /= np.quantile(ratio, USUAL, axis=1, keepdims=True)
    height: Floats = ratio.max((0, 2))  # (B,)
    far: Floats = np.nan_to_num(errors[-1])  # (B, C)
    rows = np.concatenate([np.arange(p.first_row, p.first_row + len(p.measured.observed)) for p in held])
    names = list(dict.fromkeys(piece.asset for piece in held))
    asset = np.concatenate([np.full(len(p.measured.observed), names.index(p.asset)) for p in held])
    out = np.flatnonzero(height > STANDS_OUT)
    out = out[np.lexsort((rows[out], asset[out]))]
    usual = float(np.max(height[height <= STANDS_OUT], initial=1.0))
    if not len(out):
        return [], usual
    begins = np.flatnonzero((np.diff(rows[out]) > window) | (np.diff(asset[out]) != 0)) + 1
    spells = []
    for spell in np.split(out, begins):
        peak = spell[height[spell].argmax()]
        spells.append(
            Incident(
                names[int(asset[peak])],
                int(rows[spell[0]]),
                int(rows[spell[-1]]) + 1,
                int(far[peak].argmax()),
                float(height[peak]),
            )
        )
    return spells, usual


def without(history: Sequence[Segment], found: Sequence[Incident], margin: int) -> list[Segment]:
    """The history without these incidents, nor ``margin`` rows to either side of them."""
    left = list(history)
    for incident in found:
        first, end = incident.first_row - margin, incident.end_row + margin
        left = [part for segment in left for part in _around(segment, incident.asset, first, end)]
    return left


def _around(segment: Segment, asset: str, first: int, end: int) -> list[Segment]:
    """The parts of a segment before the row ``first`` and from the row ``end`` on."""
    stop = segment.first_row + len(segment.values)
    if segment.asset != asset or first >= stop or end <= segment.first_row:
        return [segment]
    edges = (0, first - segment.first_row), (end - segment.first_row, len(segment.values))
    return [
        Segment(
            asset,
            segment.first_row + a,
            segment.values[a:b],
            segment.condition[a:b],
            None if segment.received is None else segment.received[a:b],
            after_cut=segment.after_cut if a == 0 else True,
            numbers=None if segment.numbers is None else segment.numbers[a:b],
        )
        for a, b in edges
        if a < b
    ]


def screening_facts(found: Sequence[Incident], spec: StreamSpec) -> dict[str, Any]:
    """Their entries in a bundle's manifest: asset, first and last row's event times (ns), sensor, peak of r."""
    period = spec.period_ns
    rows = [
        [
            each.asset,
            each.first_row * period,
            (each.end_row - 1) * period,
            spec.sensors[each.sensor],
            round(each.peak, 1),
        ]
        for each in found
    ]
    return {"incidents": rows} if rows else {}


def screening_concerns(facts: Mapping[str, Any]) -> list[str]:
    """The incidents that were not learned, each in one line for the operator."""
    return [
        f"{asset}, {iso(int(first))} to {iso(int(last))}: unlike all other rows ({sensor}, {peak:g} times its usual error);"
        " not learned as normal"
        for asset, first, last, sensor, peak in facts.get("incidents", ())
    ]
