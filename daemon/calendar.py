"""Condition fields from the calendar, such as the weekday: normal values may depend on it.

Why: a machine that stands still on Sundays is not anomalous on a Sunday. A stream's ``condition`` may name
calendar fields beside the fields of its messages. Their names begin with ``$``, as no field of a message
may.

Input: rows of the grid, and the labels that their messages have. Output: whole labels, with the messages'
fields first and then the calendar's, each in the order of the configuration:
``mode=low,$weekday=mon,$hour=08``. Invariant: a calendar field depends on the event time of the row and the
stream's ``timezone`` alone; it is the same for empty and observed rows, for files and topics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from daemon.domain import (
    Ints,
    StreamSpec,
    is_calendar,
    zone_of,
)

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FIELDS: Mapping[str, Callable[[datetime], str]] = MappingProxyType(
    {
        "$weekday": lambda t: DAYS[t.weekday()],
        "$weekend": lambda t: "yes" if t.weekday() >= 5 else "no",
        "$hour": lambda t: f"{t.hour:02d}",
        "$month": lambda t: f"{t.month:02d}",
    }
)
"""Field -> its text at a local time."""
VALUES: Mapping[str, int] = MappingProxyType({"$weekday": 7, "$weekend": 2, "$hour": 24, "$month": 12})
"""How many values each field has."""
MINUTE_NS = 60_000_000_000
"""Labels are computed per minute: since 1972 no time zone changes its day or hour within a minute."""
MANY_LABELS = 64
"""Number of labels above which there is a warning. Each needs training rows of its own (``OWN_ROWS`` of
calibration, at least 320), and 64 times that is four times the 5,000 rows of a stream's first training."""


def check_fields(condition: Sequence[str]) -> None:
    """Check that every field with a ``$`` is one of the calendar's.

    Raises:
        ValueError: one is not; the text names it and the fields that exist.
    """
    for name in condition:
        if is_calendar(name) and name not in FIELDS:
            raise ValueError(
                f"condition {name!r} is no field of the calendar, which are {', '.join(FIELDS)};"
                " a field of a message cannot begin with $"
            )


def labels_of(condition: Sequence[str]) -> int:
    """The number of labels that a stream's calendar fields can make; 1 without any."""
    return math.prod(VALUES.get(name, 1) for name in condition)


class Calendar:
    """The calendar's part of the condition labels of one stream."""

    def __init__(self, spec: StreamSpec) -> None:
        """Raises ValueError if a calendar field of the stream, or its time zone, does not exist."""
        self._fields = tuple(filter(is_calendar, spec.condition))
        check_fields(self._fields)
        self._has_messages = len(self._fields) < len(spec.condition)
        self._period_ns = spec.period_ns
        zone, fields = zone_of(spec.timezone), self._fields

        @lru_cache(maxsize=1 << 16)
        def at(minute: int) -> str:
            local = datetime.fromtimestamp(minute * 60, UTC).astimezone(zone)
            return ",".join(f"{name}={FIELDS[name](local)}" for name in fields)

        self._at = at

    def label(self, of_messages: str, row: int) -> str:
        """The whole label of a grid row whose messages have the label ``of_messages``."""
        if not self._fields:
            return of_messages
        own = self._at(row * self._period_ns // MINUTE_NS)
        return f"{of_messages},{own}" if self._has_messages else own

    def labels(self, of_messages: Sequence[str], rows: Ints) -> list[str]:
        """(R,) whole labels of grid rows, whose messages have the labels ``of_messages``."""
        if not self._fields:
            return list(of_messages)
        minutes = rows * self._period_ns // MINUTE_NS
        several, where = np.unique(minutes, return_inverse=True)
        texts = [self._at(minute) for minute in several.tolist()]
        if not self._has_messages:
            return [texts[i] for i in where.tolist()]
        return [f"{one},{texts[i]}" for one, i in zip(of_messages, where.tolist(), strict=True)]

    def message_part(self, label: str) -> str:
        """The messages' part of a whole label; empty if the stream has calendar fields only."""
        if not self._fields:
            return label
        return label.rsplit(",", len(self._fields))[0] if self._has_messages else ""
