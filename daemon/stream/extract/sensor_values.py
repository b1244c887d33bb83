"""From raw numbers to engineering values: sentinels, scale and offset, the same for every format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.domain import Floats, Ints
from daemon.mapping import SensorRule

_NAN = float("nan")


class SensorValues:
    """Applies the ``SensorRule`` of each sensor to its numbers.

    Args:
        rules: one per sensor.

    ``plain`` says that no rule changes any number.
    """

    def __init__(self, rules: Sequence[SensorRule]) -> None:
        self._rules = rules
        self._changed = [c for c, r in enumerate(rules) if r.missing or r.scale != 1.0 or r.offset != 0.0]
        self.plain = not self._changed

    def apply_one(self, value: float, sensor: int) -> float:
        """The value of one raw number."""
        rule = self._rules[sensor]
        if sensor not in self._changed:
            return value
        if value in rule.missing:
            return _NAN
        return value * rule.scale + rule.offset

    def apply(self, values: Floats) -> None:
        """The values of raw numbers (B, C), in place."""
        for c in self._changed:
            _apply(self._rules[c], values[:, c])

    def apply_each(self, values: Floats, sensors: Ints) -> None:
        """The values of raw numbers (B,), each of one of the sensors (B,), in place."""
        for c in self._changed:
            of = np.flatnonzero(sensors == c)
            column = values[of]
            _apply(self._rules[c], column)
            values[of] = column


def _apply(rule: SensorRule, column: Floats) -> None:
    if rule.missing:
        column[np.isin(column, list(rule.missing))] = np.nan
    column *= rule.scale
    column += rule.offset
