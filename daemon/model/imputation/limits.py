"""Which values a sensor can have: its range, and its states if it is discrete.

A filled value is a value that the sensor could have shown. A covariance knows nothing of that: its estimates of
a humidity exceed 100 %, and between on and off it says one half. So no filled value, and no end of its interval,
lies outside of what was observed together with the configured ``range``; and a sensor that takes few values, again
and again, is filled with one of these. A short record does not show a sensor's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Segment,
)

FEW_VALUES = 24
"""A sensor that was observed to take no more values than this is discrete: these are its states."""
REPEATED = 4
"""Readings per different value that this needs, on average: a short table has few values of any sensor."""
ENOUGH = 100
"""Readings from which on they show the range: the next one leaves it with a chance of 2 in n + 1."""
_ALIKE = 1e-4  # a reading this share of the range from a state is the state: models read in single precision


@dataclass(frozen=True, slots=True, eq=False)
class ValueLimits:
    """The range and the states of C sensors, raw units."""

    lowest: Floats  # (C,) -inf where unknown
    highest: Floats  # (C,) inf where unknown
    states: Floats  # (C, FEW_VALUES) ascending, inf behind the last; of a sensor that is not discrete inf

    @staticmethod
    def of(
        segments: Sequence[Segment], channels: int, ranges: Sequence[tuple[float, float] | None] = ()
    ) -> ValueLimits:
        """The limits that readings show.

        Args:
            segments: raw units, NaN where missing.
            channels: C.
            ranges: the configured range of each sensor, or empty.
        """
        lowest, highest = np.full(channels, -np.inf), np.full(channels, np.inf)
        states = np.full((channels, FEW_VALUES), np.inf)
        for c in range(channels):
            seen, readings, few = _values([segment.values[:, c] for segment in segments])
            discrete = few and 0 < len(seen) * REPEATED <= readings
            if discrete:
                states[c, : len(seen)] = seen
            if discrete or readings >= ENOUGH:
                lowest[c], highest[c] = seen[0], seen[-1]
            within = ranges[c] if ranges else None
            if within is not None and np.isfinite(lowest[c]):
                lowest[c], highest[c] = min(within[0], lowest[c]), max(within[1], highest[c])
            elif within is not None:
                lowest[c], highest[c] = within
        return ValueLimits(lowest, highest, states)

    def widened(self, segments: Sequence[Segment]) -> ValueLimits:
        """With the values of more readings; a sensor that shows too many others than its states has none."""
        lowest, highest, states = self.lowest.copy(), self.highest.copy(), self.states.copy()
        for c in range(len(lowest)):
            seen, readings, few = _values([segment.values[:, c] for segment in segments])
            if not readings:
                continue
            lowest[c], highest[c] = min(lowest[c], seen[0]), max(highest[c], seen[-1])
            mine = states[c][np.isfinite(states[c])]
            if len(mine):
                every = np.unique(np.concatenate([mine, seen]))
                states[c] = np.inf
                if few and len(every) <= FEW_VALUES:
                    states[c, : len(every)] = every
        return ValueLimits(lowest, highest, states)

    def of_sensor(self, channel: int) -> Floats | None:
        """The states of a sensor, ascending; None if it is not discrete."""
        mine = self.states[channel]
        return mine[np.isfinite(mine)] if np.isfinite(mine[0]) else None

    def applied(self, values: Floats, channel: Ints, shown: tuple[Floats, Floats] | None = None) -> Floats:
        """(n,) values of sensors as they can be: within the range, and of a discrete sensor its nearest state.

        Args:
            values: (n,) raw units; NaN stays.
            channel: (n,) of which sensor.
            shown: the smallest and the largest (n,) reading that the sensor has just shown, NaN if none. They
                are possible, too; and a sensor that shows no state now is not discrete now.
        """
        low, high = self.lowest[channel], self.highest[channel]
        discrete = np.isfinite(self.states[channel, 0])
        if shown is not None:
            low, high = np.fmin(low, shown[0]), np.fmax(high, shown[1])
            discrete &= self._is_state(shown[0], channel) & self._is_state(shown[1], channel)
        result = np.clip(values, low, high)
        some = np.flatnonzero(discrete & np.isfinite(values))
        if len(some):
            result[some] = self._nearest(result[some], channel[some])
        return np.asarray(result)

    def _nearest(self, values: Floats, channel: Ints) -> Floats:
        """(n,) the nearest state of discrete sensors; halfway the lower one."""
        near = np.abs(self.states[channel] - values[:, None]).argmin(1)
        return np.asarray(self.states[channel, near])

    def _is_state(self, values: Floats, channel: Ints) -> Mask:
        """(n,) whether these values are states; NaN is no evidence against it."""
        span = np.maximum(self.highest[channel] - self.lowest[channel], np.abs(values))
        gap = np.abs(self.states[channel] - values[:, None]).min(1)
        return np.asarray(np.isnan(values) | (gap <= _ALIKE * span))

    def arrays(self) -> dict[str, Floats]:
        """What a bundle stores."""
        return {"lowest": self.lowest, "highest": self.highest, "states": self.states}


def _values(columns: Sequence[Floats]) -> tuple[Floats, int, bool]:
    """A sensor's different readings, ascending, of many the ends alone; their count; and whether these are few."""
    seen: Floats = np.empty(0)
    few, readings = True, 0
    for column in columns:
        known = column[np.isfinite(column)]
        readings += len(known)
        if not few:
            known = np.array([known.min(), known.max()]) if len(known) else known
        seen = np.unique(np.concatenate([seen, known]))
        few = few and len(seen) <= FEW_VALUES
        seen = seen if few else seen[[0, -1]]
    return seen, readings, few
