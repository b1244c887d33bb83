"""Texts of times that are not ISO 8601: dates with dots and slashes, AM and PM, named UTC, formats of one's own.

Which of 03/04/2026 is the month cannot be seen: such a date is refused until the mapping says it. A date with
dots has the day first everywhere, and one that begins with the year needs no rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from daemon.domain import EPOCH, Reason
from daemon.stream.rejection import RejectedError, shown

_DATE: Final = re.compile(
    r"""(?:(?P<year>[0-9]{4})(?P<slash>[/.])(?P<m>[0-9]{1,2})(?P=slash)(?P<d>[0-9]{1,2})
        | (?P<a>[0-9]{1,2})(?P<sign>[./-])(?P<b>[0-9]{1,2})(?P=sign)(?P<y>[0-9]{4}|[0-9]{2}))
        (?:[\ T,]+(?P<time>.+))?""",
    re.VERBOSE,
)
_CLOCK: Final = re.compile(
    r"""([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,:]([0-9]{1,12}))?)?\s*([AaPp]\.?[Mm]\.?)?
        \s*(Z|z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?""",
    re.VERBOSE,
)
_NAMED_UTC: Final = re.compile(r"\s*(?:UTC|GMT)$")
_SPACED_ZONE: Final = re.compile(r"(?<=[0-9])\s+([+-][0-9]{2}:?[0-9]{2})$")
_FRACTION: Final = re.compile(r"(?<=[0-9][.,])([0-9]{6})([0-9]+)")
LONGEST: Final = 64
"""Characters of a text that is a time; a longer one is none."""


def plain_iso(text: str) -> str:
    """A text as ISO 8601 has it, where it differs in little: the first end of an interval, a zone by name, spaces."""
    if text[-1:] == "Z" and " " not in text and "/" not in text:
        return text
    text = text.strip()
    if "/" in text[10:]:
        text = text[: text.index("/", 10)].strip()
    text = _NAMED_UTC.sub("Z", text)
    return _SPACED_ZONE.sub(r"\1", text)


def date_ns(text: str, zone: tzinfo, day_first: bool | None) -> tuple[int, bool] | None:
    """A date with dots or slashes and a time of day, nanoseconds since the epoch, and whether it names its zone.

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
    date = _DATE.fullmatch(text) if len(text) <= LONGEST else None
    if date is None:
        return None
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
        first, second, year = int(date["a"]), int(date["b"]), int(date["y"])
        day, month = (second, first) if day_first is False else (first, second)
        year += 2000 if len(date["y"]) == 2 else 0
    hour = int(clock[1])
    if clock[5] is not None:
        hour = hour % 12 + (12 if clock[5][0] in "Pp" else 0)
    offset = clock[6]
    try:
        time = datetime(year, month, day, hour, int(clock[2]), int(clock[3] or 0), tzinfo=_zone(offset, zone))
    except ValueError as error:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(text)}: {error}") from None
    return _ns(time) + int((clock[4] or "")[:9].ljust(9, "0")), offset is not None


def _zone(offset: str | None, zone: tzinfo) -> tzinfo:
    if offset is None:
        return zone
    if offset[0] not in "+-":
        return UTC
    minutes = int(offset[1:3]) * 60 + int(offset[-2:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


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
