"""Heights: how far a sensor of an open alert has been off, and whether it is suddenly far more than it ever was.

An alert that is open for something mild must not hide what comes later. A height is how many times a threshold a score
is, of the sensors that lead the anomaly, or sustained evidence its opening limit. Sustained evidence of a step rises for
about two windows; a height that is more than ``OUTGROWS`` times all that was up to two windows ago, of a sensor that
was part of the alert for two windows before, is something else. What grows slowly is not: what it is compared with
grows, too.

Heights are kept by quarters of windows, counted from row 0, so that neither polls nor restarts show.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OUTGROWS = 2.0
"""Noise about a limit, or a fault of one size, stays well within it: a mean over four windows that has risen for two is
at 63 % of where it goes."""
QUARTERS = 8
"""Of windows: a height counts as standing after so many, once the sensor was part of the alert for as many."""


@dataclass(slots=True, eq=False)
class Heights:
    """The heights of one sensor since it became part of an open alert."""

    first: int = -1  # the quarter of a window in which it became part; -1: no height is known
    block: int = -1  # the newest one
    since: int = (
        -1
    )  # first row of the present run of sustained evidence above ``standing``; -1: there is none
    largest: list[float] = field(default_factory=list)
    """Of the newest ``QUARTERS``, the newest last; the one more before them, if there is one, is of all that were before."""

    @property
    def standing(self) -> float:
        """The largest that has nothing to do with what begins now; 0: that cannot be said yet."""
        return self.largest[0] if self.block - self.first >= 2 * QUARTERS else 0.0

    def outgrown(self, height: float, row: int, window: int) -> bool:
        """Whether a height at a row is of something else; ``window`` is L."""
        self._go_on(row, window)
        return 0.0 < OUTGROWS * self.standing < height

    def reach(self, height: float, row: int, window: int) -> None:
        """Take in a height of a row, one of several or none."""
        self._go_on(row, window)
        self.largest[-1] = max(self.largest[-1], height)

    def last(self, height: float, row: int, window: int) -> None:
        """Take in the sustained evidence of a row."""
        self.reach(height, row, window)
        if not 0.0 < self.standing < height:
            self.since = -1
        elif self.since < 0:
            self.since = row

    def _go_on(self, row: int, window: int) -> None:
        """Begin the quarter of a window that a row is in."""
        block = 4 * row // window
        if self.block < 0:
            self.first, self.block, self.largest = block, block, [0.0]
        for _ in range(min(block - self.block, QUARTERS + 1)):
            self.largest.append(0.0)
            if len(self.largest) > QUARTERS + 1:
                self.largest[:2] = [max(self.largest[:2])]
        self.block = max(self.block, block)
