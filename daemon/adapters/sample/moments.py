"""Where the event time of a sample's items is: a field, the record's own time, or fields that make one together.

A time is found by the names of fields, then by the look of their values; times further out come after the items'
own. Two fields may be one time: seconds and nanoseconds, or a date and a time of day. Of dates in which either of
two numbers may be the month, the sample decides (``day_comes_first``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from daemon.adapters.field_names import Role, bare
from daemon.adapters.files.event_dates import day_comes_first
from daemon.adapters.sample.assets import Choice
from daemon.adapters.sample.places import Items, Way, present
from daemon.adapters.sample.roles import look_like_times, may_be_times, ranked, source_text
from daemon.domain import RECORD_TIMESTAMP

_SECONDS: Final = frozenset({"s", "sec", "secs", "seconds", "epochsecond", "epochseconds", "tvsec"})
_NANOS: Final = frozenset({"ns", "nsec", "nanos", "nanoseconds", "nano", "tvnsec", "nanosecond"})
_CLOCK: Final = re.compile(r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?\s*(?:[AaPp]\.?[Mm]\.?)?")
_DATE: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,4}[./-](?:[0-9]{1,2}|[^\W\d_]{3,9})[./-][0-9]{1,4}"
)
_NEEDS_ORDER: Final = re.compile(r"[0-9]{1,2}[/-][0-9]{1,2}[/-](?:[0-9]{4}|[0-9]{2})(?![0-9]).*")


def time_choice(items: Items) -> Choice | None:
    """The time of N items: every place that is one, the item's own first, and the record's own last."""
    for up, level in enumerate(items.levels):
        if (made := _of_two(up, level)) is not None:
            return made
    sources: list[str] = []
    values: list[Any] = [None] * len(items)
    reason = ""
    for up, way, why in _places(items):
        if all(value is not None for value in values):
            break
        sources.append(source_text(up, way))
        reason = reason or why
        values = [new if old is None else old for old, new in zip(values, items.levels[up][way], strict=True)]
    stamped = all(record.timestamp_ns >= 0 for record in items.records)
    if stamped and (not sources or None in values):
        sources.append(RECORD_TIMESTAMP)
        reason = reason or "no field is a time: the record's own is taken"
        values = [
            record.timestamp_ns if old is None else old
            for old, record in zip(values, items.records, strict=True)
        ]
    if not sources:
        return None
    return _ordered(Choice(sources[0] if len(sources) == 1 else sources, reason, values))


def _places(items: Items) -> list[tuple[int, Way, str]]:
    found: list[tuple[int, Way, str]] = []
    for up, level in enumerate(items.levels):
        named_so = [way for way in ranked(level, Role.TIME) if may_be_times(level[way])]
        by_look = [w for w, v in level.items() if w not in named_so and look_like_times(w, v)]
        found += [(up, way, "named like a time") for way in named_so]
        found += [
            (up, way, "its values look like times") for way in sorted(by_look, key=lambda w: (len(w), w))
        ]
        if found:  # further out there are the times at which something was sent
            further = [
                (up + 1 + i, way, "named like a time")
                for i, outer in enumerate(items.levels[up + 1 :])
                for way in ranked(outer, Role.TIME)[:1]
                if may_be_times(outer[way])
            ]
            return found + further
    if not found:  # so that its own reason is heard
        for up, level in enumerate(items.levels):
            found += [(up, way, "named like a time") for way in ranked(level, Role.TIME)[:1]]
    return found


def _of_two(up: int, level: Mapping[Way, Sequence[Any]]) -> Choice | None:
    """A time in two fields beside each other: seconds and nanoseconds, or a date and a time of day."""
    for seconds in level:
        if bare(seconds[-1]) not in _SECONDS or not look_like_times(seconds, level[seconds]):
            continue
        for nanos in level:
            if nanos[:-1] == seconds[:-1] and bare(nanos[-1]) in _NANOS:
                return Choice(
                    {"seconds": source_text(up, seconds), "nanos": source_text(up, nanos)},
                    "seconds, and nanoseconds beside them",
                    [
                        None if s is None else f"{s} {n}"
                        for s, n in zip(level[seconds], level[nanos], strict=True)
                    ],
                )
    named_so = ranked(level, Role.TIME)
    dates = [way for way in named_so if _all_like(level[way], _DATE)]
    clocks = [way for way in level if _all_like(level[way], _CLOCK)]
    if any(way not in dates and look_like_times(way, level[way]) for way in named_so):
        return None  # a whole time, which may name its zone, says more
    clocks.sort(key=lambda way: (way not in named_so, -len(set(present(level[way])))))  # no begin of a shift
    for date in dates:
        for clock in clocks:
            if clock[:-1] == date[:-1]:
                both = zip(level[date], level[clock], strict=True)
                return _ordered(
                    Choice(
                        {"join": [source_text(up, date), source_text(up, clock)], "with": " "},
                        "a date, and a time of day beside it",
                        [None if d is None or c is None else f"{d} {c}" for d, c in both],
                    )
                )
    return None


def _all_like(values: Sequence[Any], pattern: re.Pattern[str]) -> bool:
    there = present(values)
    return bool(there) and all(
        type(value) is str and len(value) <= 64 and pattern.fullmatch(value.strip()) is not None
        for value in there
    )


def _ordered(choice: Choice) -> Choice:
    """The same with the order of day and month, where the texts have one."""
    texts = [
        value.strip()
        for value in choice.values
        if type(value) is str and len(value) <= 64 and _NEEDS_ORDER.fullmatch(value.strip())
    ]
    if not texts:
        return choice
    first, assumed = day_comes_first(texts)
    order = f"dates have the {'day' if first else 'month'} first"
    if assumed:
        order += ", which nothing in the sample decides: look at them"
    return Choice({"from": choice.document, "day_first": first}, f"{choice.reason}; {order}", choice.values)
