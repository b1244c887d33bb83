"""Count verdicts: recall, delay and the smallest size found, by sensor, kind of fault and size."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.domain import (
    AlertKind,
)
from daemon.model.drill.judging import Verdict
from daemon.model.drill.trials import LADDER, LAGS, Trial
from daemon.model.faults import FaultKind

FOUND = 0.8
"""The share of faults that must be found for a size to count as found."""
Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Rung:
    """Results of one size of a kind of fault in one sensor."""

    size: float  # standard deviations; of a lag rows
    faults: int
    found: int
    delay_rows: float | None  # median of those found
    within_rows: int | None  # the time within which 80 % of all of them were found; None if fewer were

    @property
    def recall(self) -> float:
        """The share that was found."""
        return self.found / self.faults if self.faults else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of ``recall`` (Wilson 1927)."""
        return wilson(self.found, self.faults)


@dataclass(frozen=True, slots=True)
class Smallest:
    """From which size on faults are found: the lowest rung, and the rungs between which it may lie."""

    rung: Rung
    low: float
    high: float | None  # None: no rung is surely found, of so few faults


@dataclass(frozen=True, slots=True)
class Found:
    """Results of one kind of fault in one sensor."""

    sensor: str
    kind: FaultKind
    faults: int
    found: int
    delay_rows: float | None  # median of those found
    alert: AlertKind | None  # what found most of them
    rungs: tuple[Rung, ...]  # by size; one of size 0 for a kind without sizes

    @property
    def recall(self) -> float:
        """The share that was found, over all sizes of the ladder."""
        return self.found / self.faults if self.faults else math.nan

    @property
    def smallest(self) -> Smallest | None:
        """The smallest size that is found; None where none is, or the kind has no sizes."""
        if not self.kind.sized:
            return None
        tried = [rung for rung in self.rungs if rung.faults]
        certain = _lowest(tried, lambda rung: rung.interval[0])
        at = _lowest(tried, lambda rung: rung.recall)
        maybe = _lowest(tried, lambda rung: rung.interval[1])
        if at is None or maybe is None:
            return None
        return Smallest(at, maybe.size, None if certain is None else certain.size)


def _lowest(rungs: Sequence[Rung], share: Callable[[Rung], float]) -> Rung | None:
    """The lowest rung from which on, up the ladder, the share is at least ``FOUND``."""
    lowest = None
    for rung in reversed(rungs):
        if not share(rung) >= FOUND:
            break
        lowest = rung
    return lowest


def wilson(found: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); 0 to 1 of none."""
    if not of:
        return 0.0, 1.0
    share, spread = found / of, Z95**2 / of
    middle = (share + spread / 2.0) / (1.0 + spread)
    half = Z95 * math.sqrt(share * (1.0 - share) / of + spread / (4.0 * of)) / (1.0 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


@dataclass(slots=True)
class Tally:
    """Verdicts by kind, sensor and size: all of them, or the newest ``keep`` of each.

    Memory is bounded by kinds x sensors x rungs x ``keep``.
    """

    sensors: Sequence[str]
    keep: int | None = None
    drilled: int = 0
    _verdicts: dict[tuple[FaultKind, int, float], deque[Verdict]] = field(default_factory=dict)

    def add(self, what: Trial, verdict: Verdict | None) -> None:
        """Count the verdict of a trial; None (the trial changed nothing) is not counted."""
        if verdict is None:
            return
        self.drilled += 1
        key = (what.kind, what.sensors[0], what.rung)
        known = self._verdicts.get(key)
        if known is None:
            known = self._verdicts[key] = deque(maxlen=self.keep)
        known.append(verdict)

    def recall(self, kind: FaultKind) -> float:
        """The share of a kind that was found, over sensors and sizes; NaN where none was tried."""
        mine = [v for (k, _, _), verdicts in self._verdicts.items() if k is kind for v in verdicts]
        return sum(v.found for v in mine) / len(mine) if mine else math.nan

    def delay_rows(self, kind: FaultKind) -> float | None:
        """The median delay of a kind, of those found."""
        return _median([v for (k, _, _), verdicts in self._verdicts.items() if k is kind for v in verdicts])

    def faults(self, kind: FaultKind) -> int:
        """How many of a kind there are."""
        return sum(len(v) for (k, _, _), v in self._verdicts.items() if k is kind)

    def results(self) -> list[Found]:
        """By sensor and kind, without those that were not tried."""
        tried = {(kind, c) for kind, c, _ in self._verdicts}
        return [
            self.result(kind, c) for c in range(len(self.sensors)) for kind in FaultKind if (kind, c) in tried
        ]

    def result(self, kind: FaultKind, c: int) -> Found:
        """Results of a kind of fault in a sensor; there is at least one trial of it."""
        sizes = sorted({0.0, *LADDER, *map(float, LAGS)})
        sizes = [size for size in sizes if (kind, c, size) in self._verdicts]
        of = [list(self._verdicts[kind, c, size]) for size in sizes]
        every = [v for verdicts in of for v in verdicts]
        alerts = Counter(v.alert for v in every if v.alert is not None)
        return Found(
            self.sensors[c],
            kind,
            len(every),
            sum(v.found for v in every),
            _median(every),
            alerts.most_common(1)[0][0] if alerts else None,
            tuple(
                Rung(size, len(v), sum(one.found for one in v), _median(v), _within(v))
                for size, v in zip(sizes, of, strict=True)
            ),
        )


def _median(verdicts: Sequence[Verdict]) -> float | None:
    rows = [v.rows for v in verdicts if v.rows is not None]
    return float(np.median(rows)) if rows else None


def _within(verdicts: Sequence[Verdict]) -> int | None:
    """The rows within which ``FOUND`` of these were found."""
    rows = sorted(v.rows for v in verdicts if v.rows is not None)
    needed = math.ceil(FOUND * len(verdicts))
    return rows[needed - 1] if 0 < needed <= len(rows) else None
