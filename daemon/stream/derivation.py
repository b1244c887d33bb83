"""What the model is given of a released row: counters become rates, angles become two numbers.

Why: a meter reading only rises, so that every value is beyond all that training saw; its rate is a level like
any other. An angle jumps where it wraps, though nothing has moved; its cosine and sine do not.

**Counters.** The rate of a row is the increase since the sensor's last value of the same asset, per second. It is
missing for a sensor's first value, after more than ``max_gap`` without a value, and where the value fell: a
counter that falls was reset, replaced or corrected, and how much was counted in between is then unknown. It is
not guessed, as a meter that was replaced by another one would show an enormous rate for one row.

**Angles.** A sensor that wraps at A has two in the stream, ``NAME.cos`` and ``NAME.sin``, of 2 pi value / A.

Rows come here once, each asset's in order, when they leave the grid (``Evaluation``), and those of a table all at
once (``adapters.files.placing``). Nothing here looks ahead. A stream without counters and angles passes by.

Shapes: R rows, C sensors as received, D sensors of the stream (more than C where there are angles), K counters.
"""

from __future__ import annotations

import math

import numpy as np

from daemon.assembly import as_received, received_places
from daemon.domain import SECOND_NS, Floats, Ints, StreamSpec
from daemon.grouping import by_slot
from daemon.mapping import Component
from daemon.stream.snapshot import CounterState, pack_floats, pack_ints, unpack_floats, unpack_ints
from daemon.stream.windowing import grown

NEVER = -1


class Derivation:
    """Derives the rows of one input partition, or of one table.

    Args:
        spec: the stream.

    Attributes:
        changes: whether any row is changed at all.
    """

    def __init__(self, spec: StreamSpec) -> None:
        received = as_received(spec)
        self._period_s = spec.period_ns / SECOND_NS
        self._max_gap_rows = spec.max_gap_ns // spec.period_ns
        self._counters = [c for c, rule in enumerate(received.rules) if rule.counter]
        self._from = received_places(spec)
        self._angles = [(d, rule) for d, rule in enumerate(spec.rules) if rule.component is not None]
        self.changes = bool(self._counters or self._angles)
        # (N, K) by slot: each counter's last value and its row.
        self._values: Floats = np.empty((0, len(self._counters)))
        self._rows: Ints = np.empty((0, len(self._counters)), np.int64)

    # -------------------------------------------------------------- state
    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        self._values, self._rows = grown(self._values, capacity), grown(self._rows, capacity)

    def clear(self, slot: int) -> None:
        """See ``PerAsset``."""
        self._rows[slot] = NEVER

    def snapshot(self, slot: int) -> CounterState:
        """The part of an asset's record of state."""
        return CounterState(pack_floats(self._values[slot]), pack_ints(self._rows[slot]))

    def restore(self, slot: int, state: CounterState) -> None:
        """Continue with an asset as another process left it."""
        self._values[slot] = unpack_floats(state.counter_values)
        self._rows[slot] = unpack_ints(state.counter_rows)

    # -------------------------------------------------------------- rows
    def derived(self, slots: Ints, rows: Ints, values: Floats) -> Floats:
        """(R, D) the rows as the model is given them.

        Args:
            slots, rows: (R,) each row's asset, and its number on the grid; each asset's in order.
            values: (R, C) as received, NaN where missing.
        """
        if not self.changes:
            return values
        found = values[:, self._from]
        if self._counters:
            rates = self._rates(slots, rows, values[:, self._counters])
            found[:, [self._from.index(c) for c in self._counters]] = rates
        for d, rule in self._angles:
            assert rule.angle is not None
            turns = found[:, d] / rule.angle
            radians = 2.0 * math.pi * (turns - np.floor(turns))
            # One by one: numpy's may differ in the last digit with a number's place in the array.
            component = math.cos if rule.component is Component.COS else math.sin
            found[:, d] = np.fromiter(map(component, radians.tolist()), np.float64, len(radians))
        return found

    def _rates(self, slots: Ints, rows: Ints, values: Floats) -> Floats:
        """(R, K) the counters' rates per second; moves their state on."""
        order = by_slot(slots).order
        slots, rows, sorted_values = slots[order], rows[order], values[order]
        rates = np.full_like(values, np.nan)
        for k in range(values.shape[1]):
            seen = np.flatnonzero(np.isfinite(sorted_values[:, k]))
            if not len(seen):
                continue
            now, row, slot = sorted_values[seen, k], rows[seen], slots[seen]
            begins = np.append(True, slot[1:] != slot[:-1])
            before = np.where(begins, self._values[slot, k], np.roll(now, 1))
            row_before = np.where(begins, self._rows[slot, k], np.roll(row, 1))
            steps = row - row_before
            with np.errstate(over="ignore", invalid="ignore"):
                rate = (now - before) / (steps * self._period_s)
            known = (
                (row_before != NEVER) & (steps <= self._max_gap_rows) & (now >= before) & np.isfinite(rate)
            )
            rates[order[seen], k] = np.where(known, rate, np.nan)
            ends = np.append(begins[1:], True)
            self._values[slot[ends], k], self._rows[slot[ends], k] = now[ends], row[ends]
        return rates
