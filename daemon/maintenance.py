"""Maintenance windows: planned stops, once or recurring, of some assets or of all.

A window that recurs follows RFC 5545 (``RRULE``; python-dateutil implements it) from its first occurrence on, in the
wall clock of its time zone: *every Sunday at six* stays at six when the clocks change, and each occurrence lasts as long
as the first. Whether an instant lies in a window depends on that instant alone, never on the present.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import chain, islice, takewhile
from typing import Any

from dateutil.parser import parse
from dateutil.rrule import rrulestr

from daemon.control import Control, MaintenanceOrder, read_control
from daemon.domain import EPOCH, to_ns, zone_of

MOST_OCCURRENCES = 100_000
"""Occurrences of a recurring window that are looked at; after these it is over. Every day for 270 years."""
LAST = datetime(2261, 12, 31, tzinfo=UTC)
MOST_POSITIONS = 4
"""Of a rule's BYSETPOS: what they cost is multiplied by the days that are gone through."""
YEARS_AHEAD = 7_600
"""By which rules are worked out later. The library looks for an occurrence up to the year 9999 at any cost, eight thousand
years of days where none fits; from there it is a few hundred. The calendar, weekdays too, is the same every 400 years."""
_RULE = re.compile(r"(?:RRULE:)?([A-Za-z]+=[^;=\s]+(?:;[A-Za-z]+=[^;=\s]+)*)")


@dataclass(slots=True, eq=False)
class MaintenanceWindow:
    """One window, whose occurrences are half open: an instant at the end is outside.

    Args:
        name: what people call it; of a window without a name its first instant.
        start_ns, end_ns: the first occurrence.
        assets: whose; empty: all.
        rule: by which it recurs, RFC 5545; empty: it does not.
        timezone: whose wall clock the rule follows; empty: UTC.
        learn: whether its rows may be learned.

    Raises:
        ValueError: the rule or the time zone cannot be used; says why in one line.
    """

    name: str
    start_ns: int
    end_ns: int
    assets: frozenset[str] = frozenset()
    rule: str = ""
    timezone: str = ""
    learn: bool = False
    _later: Iterator[datetime] | None = field(default=None, init=False)
    _until_ns: float = field(
        default=math.inf, init=False
    )  # the last start that the rule allows, where it says one
    _starts: list[int] = field(default_factory=list, init=False)  # of the occurrences so far, in order

    def __post_init__(self) -> None:
        self._starts = [self.start_ns]
        zone = zone_of(self.timezone or None)
        if self.rule:
            self._later, self._until_ns = _rule(self.rule, self.start_ns, zone)
            self._starts = []
            self._extend(self.start_ns)

    def __reduce__(self) -> tuple[Any, ...]:
        """It is sent to the training process; what was found of its occurrences stays here."""
        of = self.name, self.start_ns, self.end_ns, self.assets, self.rule, self.timezone, self.learn
        return MaintenanceWindow, of

    @staticmethod
    def ordered(order: MaintenanceOrder) -> MaintenanceWindow:
        """The window of a control message."""
        return MaintenanceWindow(
            order.maintenance,
            ns_of(order.start),
            ns_of(order.end),
            frozenset(order.assets),
            order.rrule,
            order.timezone,
        )

    def at(self, time_ns: int) -> tuple[int, int] | None:
        """The occurrence, (start, end), that an instant lies in; None if it lies in none."""
        if time_ns < self.start_ns:
            return None
        if self._later is not None:
            self._extend(time_ns)
        place = bisect_right(self._starts, time_ns) - 1
        if place < 0:
            return None
        end_ns = self._starts[place] + self.end_ns - self.start_ns
        return (self._starts[place], end_ns) if time_ns < end_ns else None

    def after(self, time_ns: int) -> tuple[int, int] | None:
        """The next occurrence, (start, end), that begins after an instant; None if there is none."""
        if self._later is not None:
            self._extend(time_ns)
        place = bisect_right(self._starts, time_ns)
        if place == len(self._starts):
            return None
        return self._starts[place], self._starts[place] + self.end_ns - self.start_ns

    def between(self, first_ns: int, end_ns: int) -> list[tuple[int, int]]:
        """The occurrences, (start, end), of which a part lies from ``first_ns`` to before ``end_ns``."""
        lasts_ns = self.end_ns - self.start_ns
        if self._later is not None:
            self._extend(end_ns)
        begin = bisect_right(self._starts, first_ns - lasts_ns)
        end = bisect_right(self._starts, end_ns - 1)
        return (
            [(start, start + lasts_ns) for start in self._starts[begin:end]]
            if first_ns < end_ns and lasts_ns > 0
            else []
        )

    def concerns(self, asset: str) -> bool:
        """Whether it is of this asset."""
        return not self.assets or asset in self.assets

    def covers(self, asset: str, time_ns: int) -> bool:
        """Whether an asset is under this maintenance at an instant."""
        return self.concerns(asset) and self.at(time_ns) is not None

    def is_over(self, time_ns: int) -> bool:
        """Whether no occurrence lies at or after an instant."""
        if self._later is not None:
            self._extend(time_ns)
        lasts_ns = self.end_ns - self.start_ns
        return self._later is None and (not self._starts or self._starts[-1] + lasts_ns <= time_ns)

    @property
    def lasts_until_ns(self) -> float:
        """When it is over at the latest; infinite for a rule that names no end, until its last occurrence is known."""
        begins = self._until_ns if self._later is not None else self._starts[-1]
        return begins + self.end_ns - self.start_ns

    def _extend(self, time_ns: int) -> None:
        """Find the occurrences up to the first one after an instant."""
        while self._later is not None and (not self._starts or self._starts[-1] <= time_ns):
            try:
                following = next(self._later, None)
            except Exception:  # noqa: BLE001 - of the library, deep in a rule that it has accepted: it recurs no more
                following = None
            if following is None or len(self._starts) >= MOST_OCCURRENCES:
                self._later = None
            else:
                self._starts.append(ns_of(following))


def least_needed(windows: Mapping[str, MaintenanceWindow], time_ns: int) -> str:
    """Which of these windows to do without where there are too many: one that is over, else that which is over first.

    One that recurs lasts until its rule ends, or for ever.
    """
    return min(windows, key=lambda name: (not windows[name].is_over(time_ns), windows[name].lasts_until_ns))


def read_checked(message: bytes) -> Control:
    """The control message in these bytes; of maintenance one whose rule and time zone can be used.

    Raises:
        ValueError: it is none; says why in one line.
    """
    control = read_control(message)
    if isinstance(control, MaintenanceOrder):
        try:
            MaintenanceWindow.ordered(control)
        except ValueError as error:
            raise ValueError(f"maintenance {control.maintenance[:100]!r}: {error}") from error
    return control


def ns_of(instant: datetime) -> int:
    """Nanoseconds since 1970 of an aware instant."""
    return to_ns(instant.astimezone(UTC) - EPOCH)


def _rule(text: str, start_ns: int, zone: tzinfo) -> tuple[Iterator[datetime], float]:
    """The occurrences of a window, from its first on, up to the end of all instants; and the last start allowed, in ns."""
    first = (EPOCH + timedelta(microseconds=start_ns // 1_000)).astimezone(zone)
    named = f"rrule {text[:200]!r}"
    found = _RULE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{named} cannot be understood: write it as FREQ=WEEKLY;BYDAY=SU (RFC 5545)")
    parts = dict(part.upper().split("=", 1) for part in found[1].split(";"))
    if parts.get("FREQ") in ("SECONDLY", "MINUTELY", "HOURLY"):
        raise ValueError(f"{named} recurs more often than daily: write FREQ=DAILY;BYHOUR=6,14,22")
    if "BYEASTER" in parts:  # of the library alone, and Easter has no cycle of 400 years
        raise ValueError(f"{named} cannot be understood: BYEASTER is not of RFC 5545")
    if "BYSETPOS" in parts:  # each is looked for in every day, also where no day has so many
        positions = dict.fromkeys(parts["BYSETPOS"].split(","))
        if len(positions) > MOST_POSITIONS:
            raise ValueError(f"{named} has more than {MOST_POSITIONS} positions in BYSETPOS")
        parts["BYSETPOS"] = ",".join(positions)
    count = parts.pop("COUNT", None)  # counted here: the library counts for ever where no day fits
    try:
        if int(parts.get("INTERVAL", "1")) < 1 or (count is not None and int(count) < 1):
            raise ValueError("below one")
        rule: Any = rrulestr(";".join(f"{key}={value}" for key, value in parts.items()), dtstart=first)
        until_ns = ns_of(parse(parts["UNTIL"])) if "UNTIL" in parts else math.inf
        ahead = rule.replace(dtstart=_moved(first, YEARS_AHEAD), until=None)
        last_ns = min(until_ns, ns_of(LAST))
        later: Iterator[datetime] = takewhile(
            lambda at: ns_of(at) <= last_ns, (_moved(at, -YEARS_AHEAD) for at in ahead)
        )
        if count is not None:
            later = islice(later, int(count))
        begins = next(later, None)
    except Exception as error:  # of any kind, by the library
        why = str(error) if "UNTIL" in str(error) else "write it as FREQ=WEEKLY;BYDAY=SU (RFC 5545)"
        raise ValueError(f"{named} cannot be understood: {why}") from error
    if begins is None and last_ns < start_ns:
        raise ValueError(f"{named} never occurs: it is over before its start")
    if begins is None:
        raise ValueError(f"{named} never occurs: none of its days and times fit together")
    return chain([begins], later), until_ns


def _moved(at: datetime, years: int) -> datetime:
    """The same day of a year that many cycles of the calendar away, at the same time by the clock."""
    return at.replace(year=at.year + years)
