"""What recurs in training, by name: unusual scores at the same hour on most days.

Why: a pump that starts each morning has a high score each morning. Calibration puts the threshold above it, so that it is
no alarm; an operator should see what that was, and that it costs sensitivity.

An *event* is a run of held-out rows whose scores are near the threshold or above it, runs that are less than a window
apart joined: such events are why the threshold is not lower. Events recur at an hour when they begin within half an hour
of it on ``OFTEN`` of the days of all assets, or on ``NEARLY`` of one weekday, and on ``DAYS`` days at least. This is a
report: nothing is decided by it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import DAY_NS, Ints, StreamSpec
from daemon.habit import DAY_NAMES, DAY_SLOTS, SLOT_NS, clock_time
from daemon.model.calibration import Calibration, replayed_scores
from daemon.model.crossfit import HeldOutPiece

NEAR = 0.8
"""Share of the threshold; fits differ by about so much in what they make of the same event."""
DAYS = 3
OFTEN, NEARLY = 2 / 3, 0.8
"""Shares of the days: a habit of working days, five of seven, is one, and half of the days may be chance."""
AROUND = 2
"""Quarters of an hour to either side of an hour."""
MOST = 10
"""Recurring events that are named."""
NAMED = 3
"""Sensors that an event names: those with at least half of the largest residual."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one asset."""

    asset: str
    begin_ns: int  # event time
    sensors: tuple[str, ...]  # the one that was off most first

    @property
    def day(self) -> tuple[str, int]:
        """The asset's day that it is of."""
        return self.asset, self.begin_ns // DAY_NS

    @property
    def quarter(self) -> int:
        """Of its day, UTC."""
        return self.begin_ns % DAY_NS // SLOT_NS


def recurring(pieces: Sequence[HeldOutPiece], calibration: Calibration, spec: StreamSpec) -> list[str]:
    """What recurs in measured rows, a line each.

    Args:
        pieces: held-out rows, of all assets.
        calibration: gives their scores.
        spec: for the sensors, the period, the window and the hop.
    """
    row_ns, period_ns, apart = spec.period_ns, spec.period_ns * spec.hop, -(-spec.window // spec.hop)
    level = max(NEAR * calibration.threshold, calibration.closing)
    scores = replayed_scores(calibration, pieces)
    events: list[Event] = []
    days: set[tuple[str, int]] = set()
    for piece, series in zip(pieces, scores, strict=True):
        times = piece.first_row * row_ns + np.arange(len(series)) * period_ns
        days |= {(piece.asset, day) for day in np.unique(times // DAY_NS).tolist()}
        residual = np.abs(piece.measured.residual) / calibration.residual_rms
        for begin, end in _runs(np.flatnonzero(series > level), apart):
            rows = residual[begin:end]
            mean = np.where(np.isfinite(rows), rows, 0.0).mean(0)
            order = np.argsort(-mean, kind="stable")[:NAMED].tolist()
            named = tuple(spec.sensors[c] for c in order if mean[c] >= mean.max() / 2)
            events.append(Event(piece.asset, int(times[begin]), named))
    return described(events, days)


def _runs(rows: Ints, apart: int) -> Iterator[tuple[int, int]]:
    """The first row of each run of (n,) rows less than ``apart`` apart, and the row after its last."""
    if len(rows):
        for part in np.split(rows, np.flatnonzero(np.diff(rows) >= apart) + 1):
            yield int(part[0]), int(part[-1]) + 1


def described(events: Sequence[Event], days: set[tuple[str, int]]) -> list[str]:
    """What recurs among events, the most frequent first; ``days`` are all days of all assets."""
    left, lines = list(events), list[str]()
    for weekday in (None, *range(7)):
        mine = {day for day in days if weekday is None or day[1] % 7 == weekday}
        least = (OFTEN if weekday is None else NEARLY) * len(mine)
        while len(lines) < MOST:
            found = [one for one in left if one.day in mine]
            quarter, these = _most_frequent_hour(found)
            when = {one.day for one in these}
            if len(when) < least or len({day for _, day in when}) < DAYS:
                break
            every = "each day" if weekday is None else f"each {DAY_NAMES[weekday]}"
            lines.append(
                f"about {clock_time(quarter)} UTC {every} ({len(when)} of {len(mine)}): {_names(these)}"
            )
            taken = set(these)
            left = [one for one in left if one not in taken]
    return lines


def _most_frequent_hour(events: Sequence[Event]) -> tuple[int, list[Event]]:
    """The quarter of the day around which events begin on the most days, their median, and those events."""
    days: list[set[tuple[str, int]]] = [set() for _ in range(DAY_SLOTS)]
    exact = Counter(one.quarter for one in events)
    for one in events:
        for by in range(-AROUND, AROUND + 1):
            days[(one.quarter + by) % DAY_SLOTS].add(one.day)
    best = max(range(DAY_SLOTS), key=lambda quarter: (len(days[quarter]), exact[quarter], -quarter))
    these = [one for one in events if abs(_apart(one.quarter, best)) <= AROUND]
    middle = sorted(_apart(one.quarter, best) for one in these)[len(these) // 2] if these else 0
    return (best + middle) % DAY_SLOTS, these


def _apart(quarter: int, other: int) -> int:
    """Quarters from the other to this one, the shorter way round."""
    return (quarter - other + DAY_SLOTS // 2) % DAY_SLOTS - DAY_SLOTS // 2


def _names(events: Sequence[Event]) -> str:
    """The sensors that most of the events name, the most frequent first."""
    counts = Counter(name for one in events for name in one.sensors)
    often = [name for name, count in counts.most_common(NAMED) if 2 * count >= len(events)]
    return ", ".join(often or [counts.most_common(1)[0][0]])
