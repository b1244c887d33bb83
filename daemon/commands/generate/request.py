"""What is to be made (``Request``), what was made (``Generated``), and texts of options read as values.

Each reader of a text raises ``UsageError`` with the name of its option.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

from daemon.errors import UsageError
from daemon.model.faults import FaultKind, FaultRecord

DEFAULT_ROWS = 1_000
"""Rows per asset where none of --rows, --duration and --count is given."""
FIXED_START_NS = 1_767_225_600_000_000_000
"""2026-01-01T00:00:00Z: the first row's time without --start; with a clock, no two runs would be equal."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be made. ``inject`` holds ``KIND`` or ``KIND:SENSOR`` each; shares are from 0 to 1."""

    assets: int = 1
    rows: int = DEFAULT_ROWS  # per asset
    count: int | None = None  # rows of all assets together, if that is less
    conditions: tuple[str, ...] = ()  # k=v each
    like: str | None = None
    inject: tuple[str, ...] = ()
    gaps: float = 0.0
    late: float = 0.0
    start_ns: int = FIXED_START_NS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Generated:
    """What was made: ``rows`` of all assets, the faults in them, seconds and rows a second."""

    rows: int
    faults: tuple[FaultRecord, ...]
    seconds: float
    rate: float
    notes: list[str] = field(default_factory=list)


def when_ns(text: str) -> int:
    """The instant of ``--start``: ISO 8601 (no zone: UTC), or ``now``.

    Raises:
        UsageError: it is neither, or before 1970.
    """
    if text.strip().lower() == "now":
        return time.time_ns()
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(f"--start {text}: write an instant as 2026-01-31T08:00:00Z, or now") from error
    when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    if not datetime(1970, 1, 1, tzinfo=UTC) <= when < datetime(2200, 1, 1, tzinfo=UTC):
        raise UsageError(f"--start {text}: between 1970 and 2200")
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1_000


def condition_of(known: Sequence[str], parts: Sequence[str]) -> str | None:
    """The only condition that has all of ``k=v`` among its parts; None without any.

    Raises:
        UsageError: no label, or several, have them; names those that there are.
    """
    if not parts:
        return None
    for part in parts:
        if "=" not in part:
            raise UsageError(f"--condition {part}: write name=value, as --condition mode=high")
    fitting = [label for label in known if set(parts) <= {label, *label.split(",")}]
    exact = [label for label in fitting if set(label.split(",")) == set(parts)]
    if len(exact or fitting) == 1:
        return (exact or fitting)[0]
    asked = ",".join(parts)
    if not known:
        raise UsageError(f"--condition {asked}: this model knows no conditions (its stream has none)")
    listed = ", ".join((fitting or list(known))[:12])
    raise UsageError(
        f"--condition {asked}: {'more than one condition fits' if fitting else 'the model knows no such condition'};"
        f" there are {listed}"
    )


def fault_of(text: str, sensors: Sequence[str], seen: Sequence[bool]) -> tuple[FaultKind, int | None]:
    """``KIND`` or ``KIND:SENSOR``.

    Raises:
        UsageError: no such kind, or no such sensor, with the nearest name.
    """
    kind, colon, sensor = text.partition(":")
    try:
        fault = FaultKind.of(kind)
    except ValueError as error:
        raise UsageError(f"--inject {error}") from error
    if not colon:
        return fault, None
    if sensor not in sensors:
        near = get_close_matches(sensor, sensors, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sensors[:20])}"
        raise UsageError(f"--inject {text}: the model has no sensor {sensor!r}; {hint}")
    index = list(sensors).index(sensor)
    if not seen[index]:
        raise UsageError(f"--inject {text}: training never saw {sensor!r}, it has no values")
    return fault, index


def total_rows(request: Request) -> int:
    """Rows of all assets together."""
    every = request.rows * request.assets
    return every if request.count is None else min(every, request.count)


def rate_of(text: str) -> float:
    """``5000/s`` or a bare number: rows a second.

    Raises:
        UsageError: it is neither.
    """
    head, slash, unit = text.strip().partition("/")
    try:
        found = float(head)
    except ValueError:
        found = 0.0
    per = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}.get(unit.strip())
    if not 0 < found < 1e9 or per is None or (slash and not unit):
        raise UsageError(f"--rate {text}: write rows a second, as 5000/s")
    return found / per
