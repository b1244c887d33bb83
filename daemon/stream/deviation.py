"""Deviations: what is known of an asset whose sensors are off, each row by too little for an anomaly, but for long.

A detector says per row and sensor how far its sustained evidence is beyond the limits (``SustainedVerdicts``). A
sensor that is beyond its opening limit deviates, until it has not been beyond its closing limit for the refractory
time. ``Deviation`` is what that, and the message, depend on: since when each sensor is beyond its closing limit, what
was observed and expected on average then, and how far it went. A sensor that is part of an open incident keeps that
until the incident is over.

While an anomaly is firing, the sensors that it is blamed on do not deviate besides, nor for as long afterwards as
sustained evidence reaches back: what it shows may be the anomaly's rows. Others do.

Nor does an *echo*: a sensor that is off only because the model reads one of an open alert (``joining``). It is asked about
when it would begin to deviate, and again once sustained evidence has moved on and is more than it ever was, or has moved on twice:
what fades when the alert is over is none.

``Episodes`` (``alerts``) owns the values; all arrays are (C,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from daemon.detector import REACH
from daemon.domain import Contributor, Floats, Ints, Mask
from daemon.stream.attribution import AS_FAR, LEADS

ExplainedBy = Callable[[Mask], Mask]
NEVER = -1.0
STEADY = 0.25
"""A sensor is steady as long as it has not moved by more than this share of how far off it was."""
BOTH_WAYS = 0.5
"""A mean of differences of less than this share of their mean size has no direction."""


@dataclass(frozen=True, slots=True, eq=False)
class SustainedRow:
    """The sustained evidence of one scored row."""

    row: int
    opening: Floats  # share of the opening limit; NaN where the sensor is missing in this row
    closing: Floats  # share of the closing limit
    observed: Floats  # raw
    expected: Floats
    explained_by: ExplainedBy | None = None
    """The sensors that some (C,) explain: see ``Detector.explained_by``."""

    @property
    def beyond(self) -> Mask:
        """The sensors that keep a deviation open."""
        return np.asarray(self.closing > 1.0)

    @property
    def present(self) -> Mask:
        """The sensors with a value in this row."""
        return np.isfinite(self.observed) & np.isfinite(self.expected)


@dataclass(frozen=True, slots=True, eq=False)
class Deviation:
    """The sensors beyond their closing limits, and those of open incidents."""

    since: Floats  # first row of the present run beyond the closing limit; ``NEVER``: not beyond
    last: Floats  # newest row beyond it
    rows: Floats  # rows with a value while it was beyond it
    observed: Floats  # sums over these rows
    expected: Floats
    apart: Floats  # of the distances between the two
    peak: Floats  # greatest share of the opening limit in that run
    blamed: Floats  # newest row of a firing anomaly that was blamed on the sensor; ``NEVER``: of none
    named: Floats  # 1: part of an open incident
    level: Floats  # exponential mean of observed less expected, as far back as sustained evidence reaches, of all rows
    anchor: Floats  # where that was when it began to be steady
    steady: Floats  # row of that, later by the rows in which nothing was seen; ``NEVER``: not beyond
    seen: Floats  # newest row with a value; ``NEVER``: none
    explained: Floats  # newest row at which an open alert explained it, in that run; ``NEVER``: at none

    @staticmethod
    def none(sensors: int) -> Deviation:
        """No sensor is beyond."""
        zero, never = np.zeros(sensors), np.full(sensors, NEVER)
        return Deviation(
            never, never, zero, zero, zero, zero, zero, never, zero, zero, zero, never, never, never
        )

    def grown(
        self,
        row: SustainedRow,
        blamed: Mask | bool,
        window: int,
        hop: int = 1,
        quiet: Mask | bool = False,
    ) -> Deviation:
        """With one more row.

        A sensor without values is not steady meanwhile: time in which nothing was seen does not count, and of what
        was before a gap of a window nothing is in the next one.

        Args:
            row: its evidence.
            blamed: (C,) the sensors of an anomaly that is firing; False: none.
            window: L.
            hop: rows from one scored row to the next.
            quiet: (C,) the sensors of alerts of which nothing is open: what they show is kept until they are beyond the limit again.
        """
        fresh = quiet & row.beyond & (self.since < 0)
        if fresh.any():
            anew = self.risen(dict.fromkeys(np.flatnonzero(fresh).tolist(), row.row))
            return anew.grown(row, blamed, window, hop, quiet)
        kept = row.beyond | (self.named > 0)
        valued = row.beyond & row.present
        unseen = np.where(row.present & (self.seen >= 0), np.maximum(row.row - self.seen - hop, 0.0), 0.0)
        peak = np.fmax(self.peak, row.opening)
        weight = np.fmax(2.0 / (REACH * window + 1.0), 1.0 / (self.rows + 1.0))
        apart = np.where(kept & row.present, row.observed - row.expected, self.level)
        level = self.level + weight * (apart - self.level)
        moved = (self.steady < 0) | (np.abs(level - self.anchor) > STEADY * np.abs(self.anchor))
        moved |= unseen >= window
        begun = kept & (row.beyond | ~np.asarray(quiet))
        return Deviation(
            since=np.where(begun, np.where(self.since < 0, row.row, self.since), NEVER),
            last=np.where(kept, np.where(row.beyond, row.row, self.last), NEVER),
            rows=np.where(kept, self.rows + valued, 0.0),
            observed=np.where(kept, self.observed + np.where(valued, row.observed, 0.0), 0.0),
            expected=np.where(kept, self.expected + np.where(valued, row.expected, 0.0), 0.0),
            apart=np.where(
                kept, self.apart + np.where(valued, np.abs(row.observed - row.expected), 0.0), 0.0
            ),
            peak=np.where(kept, peak, 0.0),
            blamed=np.where(kept, np.where(blamed, row.row, self.blamed), NEVER),
            named=self.named,
            level=np.where(kept, level, 0.0),
            anchor=np.where(kept, np.where(moved, level, self.anchor), 0.0),
            steady=np.where(kept, np.where(moved, row.row, self.steady + unseen), NEVER),
            seen=np.where(kept, np.where(row.present, row.row, self.seen), NEVER),
            explained=np.where(row.beyond, self.explained, NEVER),
        )

    def unsettled(self, row: int) -> Deviation:
        """Begin to be steady at a row, if at all: what was before it, somebody is changing."""
        steady, seen = (np.where(one < 0, NEVER, float(row)) for one in (self.steady, self.seen))
        return replace(self, anchor=self.level, steady=steady, seen=seen)

    def steady_since(self, row: SustainedRow, which: Sequence[int]) -> int | None:
        """Since when those of some sensors that are farthest beyond are steady; None: that cannot be said.

        None of them is beyond or still off, or the row has no value of one. One that is off to both sides is not steady.
        """
        still_off = self.still_off
        beyond = [c for c in which if row.closing[c] > 1.0 or still_off[c]]
        if not beyond:
            return None
        leading = [c for c in beyond if row.closing[c] >= LEADS * row.closing[beyond].max()]
        if not row.present[leading].all():
            return None
        if not self._one_sided[leading].all():
            return row.row
        return int(self.steady[leading].max())

    @property
    def still_off(self) -> Mask:
        """The sensors that are as far off as they were, by half, and to the same side, whatever the detector has come to expect.

        Its slow levels follow what lasts for days; a sensor that they have caught up with is not back.
        """
        mean = self._mean
        return np.asarray((self.named > 0) & self._one_sided & (self.level * mean > AS_FAR * mean * mean))

    @property
    def _mean(self) -> Floats:
        """How far each sensor was off on average."""
        return np.asarray((self.observed - self.expected) / np.maximum(self.rows, 1.0))

    @property
    def _one_sided(self) -> Mask:
        """The sensors that were off to one side."""
        return np.asarray(np.abs(self.observed - self.expected) >= BOTH_WAYS * self.apart)

    def back(self, row: SustainedRow) -> Mask:
        """The sensors that a row shows near what is expected, where it was to one side: what is beyond still are rows before."""
        mean = self._mean
        near = (row.observed - row.expected) * mean < AS_FAR * mean * mean
        return np.asarray(self._one_sided & near)

    def without(self, sensors: Mask) -> Deviation:
        """Without what is known of these sensors (C,)."""
        nothing = Deviation.none(len(self.since))
        pairs = zip(astuple(nothing), astuple(self), strict=True)
        return Deviation(*(np.where(sensors, none, mine) for none, mine in pairs))

    def risen(self, since: Mapping[int, int]) -> Deviation:
        """With some sensors, by their numbers, as they are since a row: what was before is another deviation."""
        which = np.array([c in since for c in range(len(self.since))])
        rows = np.array([since.get(c, NEVER) for c in range(len(self.since))], float)
        return replace(
            self.without(which),
            since=np.where(which, rows, self.since),
            last=self.last,
            blamed=self.blamed,
            named=np.where(which, 1.0, self.named),
            seen=self.seen,
        )

    def since_or(self, row: int) -> Floats:
        """(C,) since when each sensor is beyond; the row, where it is not."""
        return np.where(self.since < 0, float(row), self.since)

    def calm(self, row: int) -> Ints:
        """(C,) for how many rows each sensor has not been beyond its closing limit."""
        return (row - self.last).astype(np.int64)

    def opening(self, row: SustainedRow, lowered: SustainedRow, window: int) -> list[int]:
        """The sensors that deviate at a row, the farthest beyond first.

        Args:
            row: its evidence, which has been taken in.
            lowered: the same after all verdicts.
            window: L.
        """
        reach = REACH * window
        blamed = (self.blamed >= 0) & (row.row - self.blamed < reach)
        # What an alert explained opens if there is more of it, or if it lasts, and that is not explained.
        since, higher = row.row - self.explained, row.opening >= self.peak
        explained = (self.explained >= 0) & (since < np.where(higher, reach, 2 * reach))
        opening = (lowered.opening > 1.0) & ~blamed & ~explained
        order = np.argsort(-np.where(opening, lowered.opening, 0.0), kind="stable")
        return [c for c in order.tolist() if opening[c]]

    def explained_at(self, row: float, *sensors: int) -> Deviation:
        """With sensors as off because of those of an open alert; ``NEVER``: not any more."""
        explained = self.explained.copy()
        explained[list(sensors)] = row
        return replace(self, explained=explained)

    def with_named(self, sensors: Sequence[int], *, named: bool) -> Deviation:
        """With these sensors as part of an open incident, or not any more."""
        marks = self.named.copy()
        marks[list(sensors)] = float(named)
        return replace(self, named=marks)

    def contributors(
        self, sensors: Sequence[str], units: Sequence[str | None], which: Sequence[int]
    ) -> list[Contributor]:
        """Some of its sensors, the one that went farthest beyond its limit first, with averages while it was."""
        share = np.zeros(len(self.peak))
        share[list(which)] = np.where(self.explained < 0, self.peak, 0.0)[list(which)]
        rows = np.maximum(self.rows, 1.0)
        observed, expected, apart = self.observed / rows, self.expected / rows, self.apart / rows
        return [
            Contributor(
                sensors[c],
                float(observed[c]) if self.rows[c] else None,
                float(expected[c]) if self.rows[c] else None,
                float(share[c] / share.sum()),
                float(apart[c]) if self.rows[c] else None,
                units[c],
            )
            for c in np.argsort(-share, kind="stable").tolist()
            if share[c] > 0
        ]
