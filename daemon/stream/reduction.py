"""Several values of a sensor within one row become one, as the sensor's ``reduce`` says.

A value is taken in while its row is open, and a row is open until the watermark has passed its end, so that what
is released depends on the readings alone. Per cell an open row keeps one number, how many values it was made of
and the newest one's event time, however many values come:

* ``last``: the value with the greatest event time; of equal times the one that arrived last;
* ``mean``: of all values; until the row is closed the cell has their sum;
* ``max``, ``min``.

A reading without a value (null, bad quality) changes nothing. A sensor with ``reduce: first`` is not treated
here. ``reduced`` is the same for a table, whose values are all there at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from daemon.domain import Floats, Ints, Reading
from daemon.mapping import Reduce
from daemon.stream.asset_grid import OpenRow


class Reductions:
    """The reductions of one stream.

    Args:
        rules: one per sensor.

    Attributes:
        sensors: bit c: sensor c has one other than ``first``.
    """

    def __init__(self, rules: Sequence[Reduce]) -> None:
        self._rules = tuple(rules)
        self._means = [c for c, rule in enumerate(rules) if rule is Reduce.MEAN]
        self.sensors = sum(1 << c for c, rule in enumerate(rules) if rule is not Reduce.FIRST)

    def opened(self, reading: Reading) -> OpenRow:
        """A new row, that this reading is the first for; its values are not in it yet."""
        C = len(self._rules)
        row = OpenRow([math.nan] * C, 0, reading.offset, condition=reading.condition)
        if self.sensors:
            row.counts, row.times = [0] * C, [-1] * C
        return row

    def put(self, row: OpenRow, sensor: int, value: float, time_ns: int) -> None:
        """A sensor reports this value for an open row; without a reduction it is the first one that counts."""
        if self.sensors >> sensor & 1:
            self.take(row, sensor, value, time_ns)
        else:
            assert isinstance(row.values, list)
            row.values[sensor] = value
        row.reported |= 1 << sensor

    def take(self, row: OpenRow, sensor: int, value: float, time_ns: int) -> None:
        if value != value:
            return
        assert isinstance(row.values, list)
        assert row.counts is not None
        assert row.times is not None
        values, rule = row.values, self._rules[sensor]
        if not row.counts[sensor]:
            values[sensor] = value
        elif rule is Reduce.LAST:
            if time_ns >= row.times[sensor]:
                values[sensor] = value
        elif rule is Reduce.MEAN:
            total = values[sensor] + value
            if math.isinf(total):
                return  # numbers at the end of the range: the sum so far stands
            values[sensor] = total
        elif rule is Reduce.MAX:
            values[sensor] = max(values[sensor], value)
        else:
            values[sensor] = min(values[sensor], value)
        row.counts[sensor] += 1
        row.times[sensor] = max(row.times[sensor], time_ns)

    def close(self, row: OpenRow) -> None:
        """No value will come any more: sums become means."""
        assert isinstance(row.values, list)
        assert row.counts is not None
        for c in self._means:
            if row.counts[c]:
                row.values[c] /= row.counts[c]
        row.counts = row.times = None


def reduced(rule: Reduce, values: Floats, begins: Ints, times_ns: Ints) -> Floats:
    """(G,) one number of each of G cells that have values.

    Args:
        rule: of the sensor.
        values: (n,) finite, cell after cell, each cell's in the order of arrival.
        begins: (G,) where each cell's begin.
        times_ns: (n,) their event times.
    """
    if rule is Reduce.FIRST or not len(values):
        return values[begins]
    if rule is Reduce.MAX:
        return np.asarray(np.maximum.reduceat(values, begins))
    if rule is Reduce.MIN:
        return np.asarray(np.minimum.reduceat(values, begins))
    sizes = np.diff(np.append(begins, len(values)))
    cell = np.repeat(np.arange(len(begins)), sizes)
    if rule is Reduce.LAST:
        newest = np.maximum.reduceat(times_ns, begins)
        place = np.where(times_ns == newest[cell], np.arange(len(values)), -1)
        return values[np.maximum.reduceat(place, begins)]
    means = np.bincount(cell, values) / sizes  # one after the other, as they arrive
    for g in np.flatnonzero(~np.isfinite(means)).tolist():
        total, count = 0.0, 0
        for value in values[begins[g] : begins[g] + sizes[g]].tolist():
            if not math.isinf(total + value):
                total, count = total + value, count + 1
        means[g] = total / count
    return np.asarray(means)
