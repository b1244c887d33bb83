"""Texts of times that are not ISO 8601: dates with dots and slashes, months and zones by name, formats of one's own.

Which of 03/04/2026 is the month cannot be seen: such a date is refused until the mapping says it. A date with
dots has the day first everywhere, and one that begins with the year, or names its month, needs no rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final

from daemon.domain import EPOCH, Reason
from daemon.stream.rejection import RejectedError, shown

_DATE: Final = re.compile(
    r"""(?:(?P<year>[0-9]{4})(?P<slash>[/.])(?P<m>[0-9]{1,2})(?P=slash)(?P<d>[0-9]{1,2})
        | (?P<a>[0-9]{1,2})(?P<sign>[./-])(?P<b>[0-9]{1,2})(?P=sign)(?P<y>[0-9]{4}|[0-9]{2}))
        (?:[\ T,]+(?P<time>.+))?""",
    re.VERBOSE,
)
_WEEKDAY: Final = r"(?:[^\W\d_]{2,10}\.?,?\s+)?"
_WORDED_DATE: Final = re.compile(
    rf"""{_WEEKDAY}(?:(?P<d>[0-9]{{1,2}})\.?[\s/-]+(?P<month>[^\W\d_]{{3,10}})\.?,?[\s/-]+(?P<y>[0-9]{{4}}|[0-9]{{2}})
        | (?P<month2>[^\W\d_]{{3,10}})\.?[\s-]+(?P<d2>[0-9]{{1,2}}),?[\s-]+(?P<y2>[0-9]{{4}}|[0-9]{{2}}))
        (?:(?:[\sT,]+|(?<=[0-9]{{4}}):)(?P<time>.+))?""",
    re.VERBOSE,
)
_YEAR_LAST: Final = re.compile(
    rf"{_WEEKDAY}(?P<month>[^\W\d_]{{3,10}})\s+(?P<d>[0-9]{{1,2}})\s+(?P<time>[0-9]{{1,2}}:.+?)\s+(?P<y>[0-9]{{4}})"
)
"""As C's ctime and Java's Date write it: Mon Mar 02 08:00:00 UTC 2026."""
ZONES: Final = {
    **dict.fromkeys(("Z", "UTC", "GMT", "UT", "WET"), 0),
    **dict.fromkeys(("CET", "MEZ", "WEST"), 60),
    **dict.fromkeys(("CEST", "MESZ", "EET"), 120),
    **dict.fromkeys(("EEST", "MSK"), 180),
    "JST": 540,
    "EST": -300,
    "EDT": -240,
    "MST": -420,
    "MDT": -360,
    "PST": -480,
    "PDT": -420,
}
"""Names of zones, with the minutes that they are ahead of UTC; what names several zones (CST, IST, BST) is none."""
_ZONE_NAMES: Final = "|".join(sorted(ZONES, key=len, reverse=True))
_CLOCK: Final = re.compile(
    rf"""([0-9]{{1,2}}):([0-9]{{2}})(?::([0-9]{{2}})(?:[.,:]([0-9]{{1,12}}))?)?\s*([AaPp](?:\.?[Mm]\.?)?(?![A-Za-z]))?
        (?:\s*((?:UTC|GMT)?[+-][0-9]{{2}}:?[0-9]{{2}}|z|{_ZONE_NAMES})(?:\s*\([^()]*\))?)?""",
    re.VERBOSE,
)
_NAMED_ZONE: Final = re.compile(rf"\s*(?<![^\W\d_])({_ZONE_NAMES})$")
_DATE_CALL: Final = re.compile(r"\\?/Date\((-?[0-9]{1,16})(?:[+-][0-9]{4})?\)\\?/")
"""Milliseconds as older .NET services write them; the offset after them changes nothing."""
MONTHS: Final = {
    **{word: i for i, word in enumerate(("jan", "feb", "mar", "apr", "may", "jun"), 1)},
    **{word: i for i, word in enumerate(("jul", "aug", "sep", "oct", "nov", "dec"), 7)},
    "mär": 3,
    "mrz": 3,
    "mai": 5,
    "okt": 10,
    "dez": 12,
}
"""The first three letters of months, in English and German."""
_SPACED_ZONE: Final = re.compile(r"(?<=[0-9])\s+([+-][0-9]{2}:?[0-9]{2})$")
_FRACTION: Final = re.compile(r"(?<=[0-9][.,])([0-9]{6})([0-9]+)")
LONGEST: Final = 96
"""Characters of a text that is a time; a longer one is none."""


def plain_iso(text: str) -> str:
    """A text as ISO 8601 has it, where it differs in little: the first end of an interval, a zone by name, spaces."""
    if text[-1:] == "Z" and " " not in text and "/" not in text:
        return text
    text = text.strip()
    if "/" in text[10:]:
        text = text[: text.index("/", 10)].strip()
    if text[-1:].isalpha() and (named := _NAMED_ZONE.search(text, 10)) is not None:
        text = text[: named.start()] + offset_text(named[1])
    return _SPACED_ZONE.sub(r"\1", text)


def offset_text(zone: str) -> str:
    """A zone by its name (of ``ZONES``) as ISO 8601 has it: ``+01:00``."""
    minutes = ZONES[zone]
    return (
        f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}" if minutes else "Z"
    )


def date_ns(text: str, zone: tzinfo, day_first: bool | None) -> tuple[int, bool] | None:
    """A date with dots, slashes or words and a time of day, nanoseconds since the epoch, and whether it names its zone.

    Args:
        text: any text.
        zone: of one that names none.
        day_first: whether the day stands before the month; None: not said.

    Returns:
        None for a text of another kind.

    Raises:
        RejectedError: there is no such day, or day and month cannot be told apart.
    """
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if text[-1:] == "/" and (call := _DATE_CALL.fullmatch(text)) is not None:
        return int(call[1]) * 1_000_000, True
    date = _DATE.fullmatch(text)
    if date is None:
        return _worded_ns(text, zone)
    clock = _CLOCK.fullmatch((date["time"] or "0:00").strip())
    if clock is None:
        return None
    if date["year"] is not None:
        year, month, day = int(date["year"]), int(date["m"]), int(date["d"])
    else:
        if day_first is None and date["sign"] != ".":
            raise RejectedError(
                Reason.BAD_TIMESTAMP, f"{shown(text)}: is the day first? Set day_first: true or false in time"
            )
        first, second, year = int(date["a"]), int(date["b"]), _year(date["y"])
        day, month = (second, first) if day_first is False else (first, second)
    return _instant(text, (year, month, day), clock, zone)


def _worded_ns(text: str, zone: tzinfo) -> tuple[int, bool] | None:
    """``date_ns`` of a date whose month is a word."""
    if not any(c.isalpha() for c in text):
        return None
    date = _YEAR_LAST.fullmatch(text) or _WORDED_DATE.fullmatch(text)
    if date is None:
        return None
    parts = date.groupdict()
    month = MONTHS.get((parts["month"] or parts.get("month2") or "").lower()[:3])
    clock = _CLOCK.fullmatch((parts["time"] or "0:00").strip())
    if month is None or clock is None:
        return None
    day, year = parts["d"] or parts["d2"] or "", parts["y"] or parts["y2"] or ""
    return _instant(text, (_year(year), month, int(day)), clock, zone)


def _year(digits: str) -> int:
    return int(digits) + (2000 if len(digits) == 2 else 0)


def _instant(text: str, date: tuple[int, int, int], clock: re.Match[str], zone: tzinfo) -> tuple[int, bool]:
    """Nanoseconds since the epoch of a day and a time of day (groups of ``_CLOCK``), and whether a zone is named."""
    hour = int(clock[1])
    if clock[5] is not None:
        hour = hour % 12 + (12 if clock[5][0] in "Pp" else 0)
    offset = clock[6]
    try:
        time = datetime(*date, hour, int(clock[2]), int(clock[3] or 0), tzinfo=_zone(offset, zone))
    except ValueError as error:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(text)}: {error}") from None
    return _ns(time) + int((clock[4] or "")[:9].ljust(9, "0")), offset is not None


def _zone(offset: str | None, zone: tzinfo) -> tzinfo:
    if offset is None:
        return zone
    if offset[-1].isalpha():
        return timezone(timedelta(minutes=ZONES[offset.upper()]))
    signed = offset.removeprefix("UTC").removeprefix("GMT")
    minutes = int(signed[1:3]) * 60 + int(signed[-2:])
    return timezone(timedelta(minutes=-minutes if signed[0] == "-" else minutes))


def formatted_ns(text: str, formats: Sequence[str], zone: tzinfo) -> tuple[int, bool] | None:
    """A text in one of some formats of ``strptime``, nanoseconds since the epoch, and whether it names its zone.

    Decimals of the second (``%f``) may be any number; beyond nine they are cut off.
    """
    text = text.strip()
    if len(text) > LONGEST:
        return None
    beyond = _FRACTION.search(text)
    short = text if beyond is None else text[: beyond.start(2)] + text[beyond.end(2) :]
    for each in formats:
        try:
            time = datetime.strptime(short, each)  # noqa: DTZ007 -- the zone is added below
        except ValueError:
            continue
        named = time.tzinfo is not None
        rest = 0 if beyond is None else int(beyond[2][:3].ljust(3, "0"))
        return _ns(time if named else time.replace(tzinfo=zone)) + rest, named
    return None


def _ns(time: datetime) -> int:
    since = time - EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
