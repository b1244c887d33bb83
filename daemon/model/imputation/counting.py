"""Fill the missing readings of counters: between two readings a counter is between their values.

A model knows a counter by its rate, so that its level is not filled by the model. Between two readings the level
is on the line that joins them, and certainly not outside of them. Before the first reading, after the last one and
where the counter was reset between two, it goes on at the sensor's usual rate.

Shapes: n readings of one counter of one asset, m missing ones.
"""

from __future__ import annotations

import numpy as np

from daemon.domain import SECOND_NS, Floats, Ints
from daemon.model.imputation.filling import Fill

FAST = 1.6448536269514722
"""Standard deviations above the usual rate that a rate is below in 95 % of all cases."""


def fill_counter(times_ns: Ints, values: Floats, wanted_ns: Ints, mean: float, spread: float) -> Fill:
    """(m,) levels of a counter with their 90 % intervals; NaN without any reading.

    Args:
        times_ns, values: (n,) its readings, finite, by event time.
        wanted_ns: (m,) event times at which it is missing.
        mean, spread: of its rate per second in training.
    """
    if not len(values):
        nothing = np.full(len(wanted_ns), np.nan)
        return Fill(nothing, nothing.copy(), nothing.copy())
    after = np.searchsorted(times_ns, wanted_ns)
    left, right = np.maximum(after - 1, 0), np.minimum(after, len(values) - 1)
    first = after == 0  # before the first reading: back from it
    between = ~first & (after < len(values)) & (values[right] >= values[left])
    lasted = (wanted_ns - times_ns[left]) / SECOND_NS
    share = lasted / np.maximum((times_ns[right] - times_ns[left]) / SECOND_NS, 1e-9)
    usual, fast = max(mean, 0.0), max(mean + FAST * spread, 0.0)
    onward, farthest = values[left] + usual * lasted, values[left] + fast * lasted
    line = values[left] + share * (values[right] - values[left])
    value = np.where(between, line, onward)
    low = np.where(first, farthest, values[left])
    high = np.where(between, values[right], np.where(first, values[left], farthest))
    return Fill(value, low, high)
