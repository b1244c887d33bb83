"""Maintenance: time in which nothing opens on the assets that are worked on, and what that suppressed.

Windows come from the configuration, and from control messages while the daemon runs; what the latter say is part of the
partition's record of state. Of each asset is known whether its present run of high scores has been suppressed, so that
one that goes on for hours is one suppressed episode.

What a stop leaves behind is suppressed with it: a score, until its window holds no row of the stop (L rows); sustained
evidence, an exponential mean, until what the stop added has faded to a fiftieth (``FADED``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from daemon.control import MaintenanceOrder
from daemon.detector import REACH
from daemon.domain import DAY_NS, Ints, Mask, StreamSpec
from daemon.maintenance import MaintenanceWindow, least_needed

FADED = 2 * REACH
"""Windows of rows in which an exponential mean over ``REACH`` windows forgets all but exp(-4) of what it was."""
MOST_ORDERS = 100
"""Windows of control messages that are kept; beyond it those that are over are dropped, and then those that end first. All
of them are in each record of the partition, which Kafka takes up to a megabyte of."""
KEPT_DAYS = 7
"""Days of event time for which a window that is over is kept: rows may come late, and are judged in a replay."""


class Maintenance:
    """The maintenance of a stream's assets.

    Args:
        spec: the stream.
        windows: of the configuration.

    ``suppressed`` counts the episodes that it suppressed: runs of rows that would open one; ``dropped`` the windows that
    were dropped for want of room and were not over.
    """

    def __init__(self, spec: StreamSpec, windows: Sequence[MaintenanceWindow] = ()) -> None:
        self.suppressed = 0
        self.dropped = 0
        self._spec = spec
        self._configured = tuple(windows)
        self._ordered: dict[str, tuple[MaintenanceOrder, MaintenanceWindow]] = {}
        self._all = self._configured
        self._runs: dict[str, tuple[int, bool]] = {}
        """Per asset: the newest row that would hold an episode open, and whether its run would open one."""

    def __bool__(self) -> bool:
        """Whether there is any window."""
        return bool(self._all)

    def window(self, asset: str, row: int) -> MaintenanceWindow | None:
        """The window that an asset is in at a row; None if it is in none."""
        return self.within(asset, row, 1)

    def covers(self, asset: str, row: int) -> bool:
        """Whether an asset is under maintenance at a row."""
        return self.window(asset, row) is not None

    def within(self, asset: str, row: int, rows: int) -> MaintenanceWindow | None:
        """A window that an asset was in at any of the newest ``rows`` rows up to this one; None if it was in none."""
        if not self._all:
            return None
        period_ns = self._spec.period_ns
        first_ns, end_ns = (row - rows + 1) * period_ns, row * period_ns + 1
        return next((one for one in self._all if one.concerns(asset) and one.between(first_ns, end_ns)), None)

    def reached(self, assets: Sequence[str], rows: Ints) -> Mask:
        """(R,) whether the window that ends at a row, of these assets (R,), has a row under maintenance."""
        found = np.zeros(len(rows), bool)
        if not (self._all and len(rows)):
            return found
        period, firsts = self._spec.period_ns, rows - self._spec.window + 1
        span_ns = int(firsts.min()) * period, (int(rows.max()) + 1) * period
        for window in self._all:
            if stops := window.between(*span_ns):
                theirs = not window.assets or np.array([asset in window.assets for asset in assets], bool)
                for start_ns, end_ns in stops:
                    first, stop = -(start_ns // -period), -(end_ns // -period)
                    found |= theirs & (rows >= first) & (firsts < stop) & (first < stop)
        return found

    def configure(self, windows: Sequence[MaintenanceWindow]) -> None:
        """The windows of the configuration are these from now on."""
        self._configured = tuple(windows)
        self._gather()

    def _gather(self) -> None:
        self._all = (*self._configured, *(window for _, window in self._ordered.values()))

    # -------------------------------------------------------------- control messages
    def order(self, order: MaintenanceOrder, time_ns: int) -> None:
        """Take in a control message; it replaces an earlier one of the same name, also one that is of another stream now.

        What was over long before ``time_ns``, an event time, is dropped: no row of it will come any more.

        Raises:
            ValueError: its rule or time zone cannot be used.
        """
        window = MaintenanceWindow.ordered(order)
        kept = self._ordered.items()
        long_over_ns = time_ns - KEPT_DAYS * DAY_NS
        self._ordered = {name: one for name, one in kept if not one[1].is_over(long_over_ns)}
        self._ordered.pop(order.maintenance, None)
        if order.stream in ("", self._spec.name):
            self._ordered[order.maintenance] = order, window
        if len(self._ordered) > MOST_ORDERS:
            least = least_needed({name: one for name, (_, one) in self._ordered.items()}, time_ns)
            _, window = self._ordered.pop(least)
            self.dropped += not window.is_over(time_ns)
        self._gather()

    def concerned(self, order: MaintenanceOrder) -> tuple[str, ...] | None:
        """The assets whose rows an order judges otherwise than before; None: all, also where it may displace another."""
        if len(self._ordered) >= MOST_ORDERS and order.maintenance not in self._ordered:
            return None
        known = self._ordered.get(order.maintenance)
        replaced = () if known is None else known[0].assets or None
        mine: tuple[str, ...] | None = ()
        if order.stream in ("", self._spec.name):
            mine = order.assets or None
        return None if replaced is None or mine is None else (*replaced, *mine)

    def orders(self) -> list[MaintenanceOrder]:
        """The control messages in force, part of the partition's record of state."""
        return [order for order, _ in self._ordered.values()]

    def restore_orders(self, orders: Iterable[MaintenanceOrder]) -> None:
        """Continue with the control messages of another process."""
        for order in orders:
            self._ordered[order.maintenance] = order, MaintenanceWindow.ordered(order)
        self._gather()

    # -------------------------------------------------------------- what is suppressed
    def count(self, asset: str, row: int, *, opens: bool, held: bool) -> bool:
        """Whether an episode would have opened at a row; rows that would neither open one nor hold one need not be passed."""
        if not held:
            self.forget(asset)
            return False
        last, above = self._runs.get(asset, (-1, False))
        above &= last >= 0 and row - last <= self._spec.hop
        begins = opens and not above
        self.suppressed += begins
        self._runs[asset] = row, above or opens
        return begins

    @property
    def assets(self) -> set[str]:
        """The assets with a run."""
        return set(self._runs)

    def forget(self, asset: str) -> None:
        """The asset's run is over."""
        self._runs.pop(asset, None)

    def snapshot(self, asset: str) -> list[int]:
        """An asset's run, part of its record of state; empty if there is none."""
        run = self._runs.get(asset)
        return [] if run is None else [run[0], int(run[1])]

    def restore(self, asset: str, state: Sequence[int]) -> None:
        """Continue with an asset's run as another process left it."""
        if state:
            self._runs[asset] = state[0], bool(state[1])
