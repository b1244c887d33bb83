"""Deviations: what is known of an asset whose sensors are off, each row by too little for an anomaly, but for long.

A detector says per row and sensor how far its sustained evidence is beyond the limits (``SustainedVerdicts``). A
sensor that is beyond its opening limit opens its asset's deviation, or joins the open one; the deviation closes when
no sensor has been beyond its closing limit for the refractory time. ``Deviation`` is what that, and the message, depend on: since when each sensor
is beyond its closing limit, what was observed and expected on average then, and how far it went.

**One incident, one alert.** While an anomaly is open, the sensors that it is blamed on open no deviation, nor for as
long afterwards as sustained evidence reaches back: what it shows may be the anomaly's rows. Other sensors do.

``Episodes`` (``alerts``) owns the values; all arrays are (C,).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from daemon.detector import REACH
from daemon.domain import Contributor, Floats, Mask

NEVER = -1.0


@dataclass(frozen=True, slots=True, eq=False)
class SustainedRow:
    """The sustained evidence of one scored row."""

    row: int
    opening: Floats  # share of the opening limit; NaN where the sensor is missing in this row
    closing: Floats  # share of the closing limit
    observed: Floats  # raw
    expected: Floats

    @property
    def beyond(self) -> Mask:
        """The sensors that keep a deviation open."""
        return np.asarray(self.closing > 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Deviation:
    """The sensors beyond their closing limits, and those named by the open episode."""

    since: Floats  # first row of the present run beyond the closing limit; ``NEVER``: not beyond
    last: Floats  # newest row beyond it
    rows: Floats  # rows with a value while it was beyond it
    observed: Floats  # sums over these rows
    expected: Floats
    peak: Floats  # greatest share of the opening limit in that run
    blamed: Floats  # newest row of an open anomaly that was blamed on the sensor; ``NEVER``: of none
    named: Floats  # 1: part of the open episode

    @staticmethod
    def none(sensors: int) -> Deviation:
        """No sensor is beyond."""
        zero, never = np.zeros(sensors), np.full(sensors, NEVER)
        return Deviation(never, never, zero, zero, zero, zero, never, zero)

    def grown(self, row: SustainedRow, blamed: Mask | bool) -> Deviation:
        """With one more row; ``blamed`` (C,) are the sensors of an anomaly that is open; False: none."""
        kept = row.beyond | (self.named > 0)
        valued = row.beyond & np.isfinite(row.observed) & np.isfinite(row.expected)
        peak = np.fmax(self.peak, row.opening)
        return Deviation(
            since=np.where(kept, np.where(self.since < 0, row.row, self.since), NEVER),
            last=np.where(kept, np.where(row.beyond, row.row, self.last), NEVER),
            rows=np.where(kept, self.rows + valued, 0.0),
            observed=np.where(kept, self.observed + np.where(valued, row.observed, 0.0), 0.0),
            expected=np.where(kept, self.expected + np.where(valued, row.expected, 0.0), 0.0),
            peak=np.where(kept, peak, 0.0),
            blamed=np.where(kept, np.where(blamed, row.row, self.blamed), NEVER),
            named=self.named,
        )

    def calm(self, row: int) -> int:
        """For how many rows no sensor has been beyond its closing limit."""
        return row - int(self.last.max())

    def joining(self, row: SustainedRow, window: int) -> Mask:
        """The sensors that open the deviation at a row, or join it; ``window`` is L."""
        explained = (self.blamed >= 0) & (row.row - self.blamed <= REACH * window)
        return np.asarray((row.opening > 1.0) & (self.named == 0) & ~explained)

    def with_named(self, sensors: Mask) -> Deviation:
        """With these sensors as part of the episode."""
        return replace(self, named=np.where(sensors, 1.0, self.named))

    def contributors(self, sensors: tuple[str, ...]) -> list[Contributor]:
        """The named sensors, the one that went farthest beyond its limit first, with averages while it was."""
        share = np.where(self.named > 0, self.peak, 0.0)
        rows = np.maximum(self.rows, 1.0)
        observed, expected = self.observed / rows, self.expected / rows
        return [
            Contributor(
                sensors[c],
                float(observed[c]) if self.rows[c] else None,
                float(expected[c]) if self.rows[c] else None,
                float(share[c] / share.sum()),
            )
            for c in np.argsort(-share, kind="stable").tolist()
            if share[c] > 0
        ]
