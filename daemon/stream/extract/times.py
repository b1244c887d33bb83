"""Event times of items: a number in some unit, a text in some format, and what is added to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from daemon.domain import Ints, Reason, Record
from daemon.mapping import Origin, TimeRule
from daemon.stream.dates import LONGEST, date_ns, formatted_ns, plain_iso
from daemon.stream.extract.paths import ABSENT, Scope
from daemon.stream.extract.sources import absence, compile_sources, first_field
from daemon.stream.extract.wrapped import unwrapped
from daemon.stream.rejection import RejectedError, json_kind, shown
from daemon.stream.text_cache import remember
from daemon.stream.timestamps import (
    INT64_MAX,
    TIMES_KEPT,
    EventTimes,
    epoch_numbers_ns,
    event_time_ns,
    exact_ns,
    is_epoch_number,
)

UNIT_NS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
EARLIEST_NS: Final = 10**8 * 10**9
"""1973: a number without a unit that would be earlier in seconds is zero, a date without signs or a spreadsheet's day."""
_TOO_SMALL: Final = -(2**63)  # for such a number: before all times, so that another place counts


def compile_time(
    rule: TimeRule, event_times: EventTimes, *, any_epoch: bool = False
) -> Callable[[Scope, Record], int]:
    """The function that gives an item's event time in nanoseconds, not yet compared with the record's.

    A time before 1970 is how many producers say that they have none (0001-01-01, 1601-01-01, the number 0): where
    others of the rule's places have one, that counts. The function raises ``RejectedError`` where there is none or it
    cannot be read.

    Args:
        any_epoch: whether numbers without a unit are times however small; else those below ``EARLIEST_NS`` are none.
    """
    origins = [source.origin for source in rule.sources]
    from_record = Origin.TIMESTAMP in origins  # nothing after it is ever asked
    sources = rule.sources[: origins.index(Origin.TIMESTAMP)] if from_record else rule.sources
    read = compile_sources(sources) if sources else None
    reads = [compile_sources((source,)) for source in sources] if from_record or len(sources) > 1 else []
    plus = compile_sources(rule.plus) if rule.plus else None
    scale, plus_ns = UNIT_NS.get(rule.unit), UNIT_NS[rule.plus_unit]
    known, written = event_times.known, compile_written(rule, event_times, any_epoch=any_epoch)
    field = first_field(sources)  # nearly always it is there
    plain = scale is None and plus is None and not rule.formats

    def time_of(scope: Scope, record: Record) -> int:
        item = scope[0]
        if field is None or type(item) is not dict or (found := item.get(field)) is None or found == "":
            found = ABSENT if read is None else read(scope, record)
        if type(found) is int and plain and 10**11 <= found < 10**13:  # milliseconds
            return found * 1_000_000
        if type(found) is str and plus is None and (ns := known.get(found)) is not None and ns >= 0:
            return ns
        if found is ABSENT or found is None or found == "":
            if from_record and record.timestamp_ns >= 0:
                return record.timestamp_ns
            raise RejectedError(Reason.NO_TIMESTAMP, lambda: absence(rule.sources, scope))
        ns = written(found)
        if ns < 0 and reads:
            ns = from_others(ns, scope, record)
        if ns == _TOO_SMALL:
            raise RejectedError(
                Reason.BAD_TIMESTAMP,
                f"{shown(found)} is no time in seconds since 1970: give unit, or format, in time",
            )
        return ns if plus is None else ns + _added(plus(scope, record), plus_ns)

    def from_others(unset: int, scope: Scope, record: Record) -> int:
        for each in reads:
            found = each(scope, record)
            if found is not ABSENT and found is not None and found != "" and (ns := written(found)) >= 0:
                return ns
        return record.timestamp_ns if from_record and record.timestamp_ns >= 0 else unset

    return time_of


def compile_written(
    rule: TimeRule, event_times: EventTimes, *, any_epoch: bool = False
) -> Callable[[object], int]:
    """The function that reads one event time as it is written; below 0 where it is before 1970, or none.

    It raises ``RejectedError`` where what is written is no time.
    """
    scale = UNIT_NS.get(rule.unit)
    parse = _parser(rule, event_times, 0 if any_epoch else EARLIEST_NS)

    def written(found: object) -> int:
        if type(found) is bytes:
            found = found.decode(errors="replace")
        elif type(found) is dict:
            found = unwrapped(found)
        ns = None if scale is None else exact_ns(found, scale)
        return parse(found) if ns is None else ns

    return written


def compile_times(
    rule: TimeRule, event_times: EventTimes, *, any_epoch: bool = False
) -> Callable[[list[Any]], Ints]:
    """The function that reads many event times; below 0 those that need a closer look."""
    known, written = event_times.known, compile_written(rule, event_times, any_epoch=any_epoch)
    scale, earliest_ns = UNIT_NS.get(rule.unit), 0 if any_epoch else EARLIEST_NS

    def one(found: Any) -> int:
        ns = known.get(found) if type(found) is str else None
        try:
            ns = written(found) if ns is None else ns
        except RejectedError:
            return -1
        return ns if 0 <= ns <= INT64_MAX else -1

    def times(found: list[Any]) -> Ints:
        kinds = set(map(type, found))
        if kinds == {str}:
            try:
                return np.array([known[text] for text in found], np.int64)
            except (KeyError, OverflowError):
                pass
        elif not rule.formats and scale is None and kinds in ({int}, {float}):
            numbers = epoch_numbers_ns(found)
            if numbers is not None:
                return np.asarray(np.where(numbers < earliest_ns, -1, numbers))
        elif scale is not None and kinds == {int} and min(found) >= 0 and max(found) <= INT64_MAX // scale:
            return np.array(found, np.int64) * scale
        return np.array([one(each) for each in found], np.int64)

    return times


def _parser(rule: TimeRule, event_times: EventTimes, earliest_ns: int) -> Callable[[object], int]:
    """The function that reads a time of any kind but numbers of a unit."""
    formats, day_first, known, zone = rule.formats, rule.day_first, event_times.known, event_times.zone

    def parse(found: object) -> int:
        text = str(found) if formats and type(found) is int else found
        if type(text) is not str:
            time_ns = event_times.parse(found)
            return time_ns if time_ns >= earliest_ns else _TOO_SMALL
        special = formatted_ns(text, formats, zone) if formats else None
        if special is None and text[4:5] != "-":
            special = date_ns(text, zone, day_first)
        if special is not None:
            time_ns, named = special
            event_times.zoneless += not named
        elif is_epoch_number(text):
            time_ns = event_time_ns(text, zone)
            if time_ns < earliest_ns:
                return _TOO_SMALL
        else:
            try:
                time_ns = event_times.parse(plain_iso(text) if len(text) <= LONGEST else text)
            except RejectedError:
                if not formats:
                    raise
                raise RejectedError(
                    Reason.BAD_TIMESTAMP, f"{shown(text)} is neither ISO 8601 nor {' or '.join(formats)}"
                ) from None
        remember(known, text, time_ns, TIMES_KEPT)
        return time_ns

    return parse


def _added(found: object, scale: int) -> int:
    if found is ABSENT or found is None:
        return 0
    added = exact_ns(found, scale)
    if added is None:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)}, added to a time, is {json_kind(found)}")
    return added
