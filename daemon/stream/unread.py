"""Cells that came and gave no number, since the last number of each sensor: why a silent sensor is silent.

A sensor that sends texts, or values of bad quality, is as silent to the model as one that sends nothing, and quite
another matter to whoever has to see to it. A cell is noted when its reading is put on the grid, by its row, and
counted when that row comes to be judged; a number of the sensor in that row, or a later one, ends the count. So the
counts at a row depend on the readings alone, and not on how they were polled.

Only assets with such cells have an entry. Rows wait no longer than the allowed lateness: there are never more rows
noted than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from daemon.domain import Mask
from daemon.stream.snapshot import UnreadState

NONE: Final[Mapping[str, int]] = MappingProxyType({})
Noted = tuple[int, int, str]
"""A row, a sensor as received, and why its cell gave no number."""


class UnreadCells:
    """The unread cells of one input partition; sensors are as received."""

    def __init__(self) -> None:
        self._capacity = 0
        self._noted: dict[int, Counter[Noted]] = {}  # by slot, of rows that are not judged yet
        self._counts: dict[int, dict[int, Counter[str]]] = {}  # by slot and sensor as received, by fault

    # -------------------------------------------------------------- state
    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        self._capacity = capacity

    def clear(self, slot: int) -> None:
        """See ``PerAsset``."""
        self._noted.pop(slot, None)
        self._counts.pop(slot, None)

    def snapshot(self, slot: int) -> UnreadState:
        """The part of an asset's record of state."""
        noted: Mapping[Noted, int] = self._noted.get(slot, {})
        counts = self._counts.get(slot, {})
        return UnreadState(
            [(row, c, fault, count) for (row, c, fault), count in sorted(noted.items())],
            [(c, fault, n) for c, faults in sorted(counts.items()) for fault, n in sorted(faults.items())],
        )

    def restore(self, slot: int, state: UnreadState) -> None:
        """Continue with an asset as another process left it."""
        self.clear(slot)
        for row, c, fault, count in state.noted:
            self._noted.setdefault(slot, Counter())[row, c, fault] += count
        for c, fault, count in state.counts:
            self._counts.setdefault(slot, {}).setdefault(c, Counter())[fault] += count

    # -------------------------------------------------------------- cells
    def note(self, slot: int, row: int, cells: Iterable[tuple[int, str]], left_out: int = 0) -> None:
        """A reading for a row has these cells (sensor as received, fault); ``left_out``: bits of those not in the row."""
        for c, fault in cells:
            if not left_out >> c & 1:
                self._noted.setdefault(slot, Counter())[row, c, fault] += 1

    def __bool__(self) -> bool:
        """Whether anything is noted or counted of any asset."""
        return bool(self._noted or self._counts)

    @property
    def known(self) -> Mask:
        """(N,) whether anything is noted or counted of each asset."""
        known = np.zeros(self._capacity, bool)
        known[[*self._noted, *self._counts]] = True
        return known

    def advance(self, slot: int, row: int, observed: Iterable[int]) -> None:
        """A row of an asset is judged; rows come in their order.

        Args:
            slot: the asset's.
            row: of the grid.
            observed: sensors that have a number in it.
        """
        noted = self._noted.get(slot)
        if noted:
            counts = self._counts.setdefault(slot, {})
            for key in [key for key in noted if key[0] <= row]:
                counts.setdefault(key[1], Counter())[key[2]] += noted.pop(key)
            if not noted:
                del self._noted[slot]
        known = self._counts.get(slot)
        if known is not None:
            for c in observed:
                known.pop(c, None)
            if not known:
                del self._counts[slot]

    def of(self, slot: int, sensor: int) -> Mapping[str, int]:
        """By fault, the cells of a sensor since its last number, up to the last row that was judged."""
        return self._counts.get(slot, {}).get(sensor, NONE)
