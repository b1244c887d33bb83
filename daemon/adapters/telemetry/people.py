"""What people told the daemon, as far as the page shows it: verdicts on alerts, and planned stops.

Everything is bounded: of verdicts the newest are kept, of stops that are not over those that end last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from daemon.control import Feedback, MaintenanceOrder, Received
from daemon.maintenance import MaintenanceWindow, least_needed

MOST_VERDICTS: Final = 1_000
MOST_STOPS: Final = 100


@dataclass(frozen=True, slots=True)
class PlannedStop:
    """One planned stop: of a control message, or (without one) of the configuration."""

    window: MaintenanceWindow
    order: MaintenanceOrder | None = None


@dataclass(frozen=True, slots=True)
class Occurrence:
    """When a stop is next, or is now."""

    stop: PlannedStop
    start_ns: int
    end_ns: int
    active: bool


class People:
    """What they told, by control messages and by the configuration.

    Attributes:
        verdicts: by fingerprint the last one, as it lies in its topic.
        configured: returns the planned stops of the configuration in force.
        now_ns: the present, by which a stop is over; another one where a simulation has its own.
        left_out: stops that were not over, and are not kept here for want of room.
    """

    def __init__(self) -> None:
        self.verdicts: dict[str, Received] = {}
        self.configured: Callable[[], Sequence[MaintenanceWindow]] = tuple
        self.now_ns: Callable[[], int] = time.time_ns
        self.left_out = 0
        self._ordered: dict[str, PlannedStop] = {}

    def received(self, messages: Iterable[Received], *, anew: bool) -> None:
        """Take in control messages in their order; with ``anew`` they are all that there are."""
        if anew:
            self.verdicts.clear()
            self._ordered.clear()
        for each in messages:
            control = each.control
            if isinstance(control, Feedback):
                self.verdicts.pop(control.fingerprint, None)
                self.verdicts[control.fingerprint] = each
                if len(self.verdicts) > MOST_VERDICTS:
                    del self.verdicts[next(iter(self.verdicts))]
            elif isinstance(control, MaintenanceOrder):
                self._order(control)

    def _order(self, order: MaintenanceOrder) -> None:
        now_ns, window = self.now_ns(), MaintenanceWindow.ordered(order)
        self._ordered.pop(order.maintenance, None)
        if window.is_over(now_ns):  # or is ended by this
            return
        self._ordered[order.maintenance] = PlannedStop(window, order)
        if len(self._ordered) > MOST_STOPS:
            least = least_needed({name: stop.window for name, stop in self._ordered.items()}, now_ns)
            self.left_out += not self._ordered.pop(least).window.is_over(now_ns)

    def stops(self) -> list[Occurrence]:
        """The stops that are not over: those that are active first, then by their next beginning."""
        now_ns = self.now_ns()
        known = [*(PlannedStop(window) for window in self.configured()), *self._ordered.values()]
        found = []
        for stop in known:
            span, active = stop.window.at(now_ns), True
            if span is None:
                span, active = stop.window.after(now_ns), False
            if span is not None:
                found.append(Occurrence(stop, *span, active))
        return sorted(found, key=lambda one: (not one.active, one.start_ns, one.stop.window.name))
