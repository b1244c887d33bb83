"""Condition fields that the calendar gives: a machine that rests on Sundays has a usual Sunday.

They stand in a stream's ``condition`` beside the fields of its messages, with a ``$`` that no field of a
message may begin with, and come from the event time of a row alone, in the stream's ``timezone``: of
rows that were bridged as of those that were observed, in a file as on a topic.

A label has the messages' fields first, then the calendar's, each in the order of the configuration:
``mode=low,$weekday=mon,$hour=08``.
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
"""Labels are found once a minute: no zone changes its day or hour within one (before 1972 some did)."""
MANY_LABELS = 64
"""Labels above which a stream is warned. Each wants rows of its own to be learned from (``OWN_ROWS`` of
calibration, 320, at least), and 64 times that is four times the 5,000 rows that a stream first learns from."""


def check_fields(condition: Sequence[str]) -> None:
    """Refuse a field with a ``$`` that is none of the calendar's.

    Raises:
        ValueError: naming the field and those that there are.
    """
    for name in condition:
        if is_calendar(name) and name not in FIELDS:
            raise ValueError(
                f"condition {name!r} is no field of the calendar, which are {', '.join(FIELDS)};"
                " a field of a message cannot begin with $"
            )


def labels_of(condition: Sequence[str]) -> int:
    """How many labels the calendar fields of a stream make; 1 without any."""
    return math.prod(VALUES.get(name, 1) for name in condition)


class Calendar:
    """The calendar's part in the condition labels of one stream."""

    def __init__(self, spec: StreamSpec) -> None:
        """Raises ValueError if the stream names a field that the calendar has not, or no time zone."""
        self._fields = tuple(filter(is_calendar, spec.condition))
        check_fields(self._fields)
        self._told = len(self._fields) < len(spec.condition)
        self._period_ns = spec.period_ns
        zone, fields = zone_of(spec.timezone), self._fields

        @lru_cache(maxsize=1 << 16)
        def at(minute: int) -> str:
            local = datetime.fromtimestamp(minute * 60, UTC).astimezone(zone)
            return ",".join(f"{name}={FIELDS[name](local)}" for name in fields)

        self._at = at

    def label(self, told: str, row: int) -> str:
        """The whole label of a grid row by what its messages said."""
        if not self._fields:
            return told
        own = self._at(row * self._period_ns // MINUTE_NS)
        return f"{told},{own}" if self._told else own

    def labels(self, told: Sequence[str], rows: Ints) -> list[str]:
        """(R,) whole labels of grid rows."""
        if not self._fields:
            return list(told)
        minutes = rows * self._period_ns // MINUTE_NS
        several, where = np.unique(minutes, return_inverse=True)
        texts = [self._at(minute) for minute in several.tolist()]
        if not self._told:
            return [texts[i] for i in where.tolist()]
        return [f"{one},{texts[i]}" for one, i in zip(told, where.tolist(), strict=True)]

    def told(self, label: str) -> str:
        """What the messages said, of a whole label; empty where only the calendar speaks."""
        if not self._fields:
            return label
        return label.rsplit(",", len(self._fields))[0] if self._told else ""
