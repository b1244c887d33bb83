"""Event times of items: a number in some unit, a text in some format, or seconds with nanoseconds beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from daemon.domain import Reason, Record
from daemon.mapping import Origin, TimeRule
from daemon.stream.extract.paths import ABSENT, Scope
from daemon.stream.extract.sources import absence, compile_sources
from daemon.stream.rejection import RejectedError, json_kind, shown
from daemon.stream.timestamps import EventTimes, exact_ns

UNIT_NS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def compile_time(rule: TimeRule, event_times: EventTimes) -> Callable[[Scope, Record], int]:
    """The function that gives an item's event time in nanoseconds, not yet compared with the record's.

    It raises ``RejectedError`` where there is none or it cannot be read.
    """
    read = compile_sources(rule.sources)
    nanos = compile_sources(rule.nanos) if rule.nanos else None
    scale = UNIT_NS.get(rule.unit)
    known, parse = event_times.known, event_times.parse
    record_time = rule.sources[0].origin is Origin.TIMESTAMP

    def time_of(scope: Scope, record: Record) -> int:
        found = read(scope, record)
        if type(found) is str and scale is None and (ns := known.get(found)) is not None:
            return ns
        if found is ABSENT or found is None or found == "":
            raise RejectedError(Reason.NO_TIMESTAMP, absence(rule.sources, scope))
        if record_time and found is not None and type(found) is int:
            return found
        if type(found) is bytes:
            found = found.decode(errors="replace")
        if type(found) is dict:
            found = _long(found)
        if scale is None:
            ns = parse(found)
        else:
            exact = exact_ns(found, scale)
            ns = parse(found) if exact is None else exact
        if nanos is not None:
            ns += _nanos(nanos(scope, record))
        return ns

    return time_of


def _nanos(found: object) -> int:
    if found is ABSENT or found is None:
        return 0
    if type(found) is int or (isinstance(found, str) and found.isdigit()):
        return int(found)
    raise RejectedError(Reason.BAD_TIMESTAMP, f"nanoseconds {shown(found)} are {json_kind(found)}")


def _long(found: dict[object, object]) -> object:
    """A 64-bit integer as some JavaScript libraries print it: ``{"low": ..., "high": ...}``."""
    low, high = found.get("low"), found.get("high")
    if type(low) is int and type(high) is int:
        return (high << 32) | (low & 0xFFFFFFFF)
    return found
