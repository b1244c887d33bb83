"""Event times from messages: epoch numbers and ISO 8601 texts to nanoseconds since the epoch.

Event times are integers all the way. An epoch number is scaled by its magnitude (seconds, milliseconds,
microseconds or nanoseconds) without passing through a float, and the digits of an ISO instant that
``datetime`` cannot hold are added separately. A text without a time zone is in the stream's zone, and is
counted, so that the operator can be warned.

Input: whatever JSON value a message has as its event time. Output: an ``int``, or a ``RejectedError`` with
the reason ``bad_timestamp``. Whether the time lies too far ahead of the record is decided by ``decoding``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import Final

import numpy as np

from daemon.domain import EPOCH, Ints, Reason, iso
from daemon.stream.dates import LONGEST, date_ns, plain_iso
from daemon.stream.rejection import RejectedError, json_kind, shown
from daemon.stream.text_cache import remember

INT64_MAX: Final = 2**63 - 1
_COMPACT_FROM, _COMPACT_TO = 19_700_101_000_000, 22_620_412_000_000
"""Dates without signs, of 14 digits. Milliseconds of this size would be beyond what nanoseconds can hold."""
TIMES_KEPT: Final = 8192
"""Texts of event times that are remembered: many assets report at the same time."""
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_BEYOND_MICROS: Final = re.compile(r".{10}.[0-9]{2}:?[0-9]{2}:?[0-9]{2}[.,][0-9]{6}([0-9]{1,3})")
_ZONE: Final = re.compile(r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2}){0,2})$")


class EventTimes:
    """The event times of one stream's messages, remembered by their texts.

    Args:
        zone: of a text that names none.

    Attributes:
        known: texts with the event times that they mean; callers look here before they ``parse``.
        zone: of a text that names none.
        zoneless: texts that named no time zone, each counted once while it is remembered.
    """

    def __init__(self, zone: tzinfo) -> None:
        self.known: dict[str, int] = {}
        self.zoneless = 0
        self.zone = zone

    def parse(self, found: object) -> int:
        """The event time of a message whose text is not in ``known`` yet, nanoseconds.

        What ``event_time_ns`` reads, and dates as people write them (``dates``), if they can be read in one way alone.
        """
        if type(found) is not str:
            return event_time_ns(found, self.zone)
        try:
            time_ns, zoneless = event_time_ns(found, self.zone), names_no_zone(found)
        except RejectedError:
            written = date_ns(found, self.zone, None)
            if written is not None:
                time_ns, zoneless = written[0], not written[1]
            elif len(found) <= LONGEST and (plain := plain_iso(found)) != found:
                time_ns, zoneless = event_time_ns(plain, self.zone), names_no_zone(plain)
            else:
                raise
        self.zoneless += zoneless
        remember(self.known, found, time_ns, TIMES_KEPT)
        return time_ns


def names_no_zone(text: str) -> bool:
    """Whether the text of an instant names no time zone; an epoch number needs none."""
    text = text.strip()
    if len(text) == 14 and text.isascii() and text.isdigit() and _without_signs(int(text)) is not None:
        return True
    compact = text[8:9] in ("T", "t") and text[:8].isdigit()  # 20260131T080000
    return (text[4:5] == "-" and _ZONE.search(text, 10) is None) or (
        compact and _ZONE.search(text, 9) is None
    )


def event_time_ns(found: object, zone: tzinfo = UTC) -> int:
    """An event time as nanoseconds since the epoch, exactly.

    Args:
        found: ISO 8601 text (decimals count to the nanosecond), or an
            epoch number or its text, whose unit follows from its size: seconds below 1e11,
            milliseconds below 1e13, microseconds below 1e17, else nanoseconds. One of 14 digits is a date without
            signs, 20260302080000: as milliseconds it would be beyond the year 2262. Or an array of year, month, day,
            hour, minute (second, nanosecond), as Java's serializers write it.
        zone: of a text that names none.

    Raises:
        RejectedError: with the reason ``bad_timestamp``.
    """
    if type(found) is int:
        return _epoch_ns(found, found, zone)
    if type(found) is float:
        if not math.isfinite(found):
            raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)} is not a time")
        # The shortest text of a float is what the producer wrote: 0.1 s is 100 000 000 ns.
        return _epoch_ns(Decimal(repr(found)), found, zone)
    if type(found) is not str:
        if type(found) is list and (time := _of_array(found)) is not None:
            return _since_epoch(time.replace(tzinfo=zone)) + (found[6] if len(found) == 7 else 0)
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{json_kind(found)}, not a text or a number")
    text = found.strip() if len(found) <= 64 else ""
    if text[4:5] != "-" and _NUMBER.fullmatch(text):
        return _epoch_ns(Decimal(text), found, zone)
    if text[-1:] == "z":
        text = text[:-1] + "Z"
    try:
        if text[4:5] == "-" and text[10:11] not in ("T", " ", "t", ""):
            raise ValueError
        if not text.isprintable():  # fromisoformat overlooks a closing NUL
            raise ValueError
        time = datetime.fromisoformat(text)
    except ValueError:
        raise RejectedError(
            Reason.BAD_TIMESTAMP, f"{shown(found)} is neither ISO 8601 nor a number"
        ) from None
    time_ns = _since_epoch(time.replace(tzinfo=zone) if time.tzinfo is None else time)
    if len(text) > 22 and (rest := _BEYOND_MICROS.match(text)):
        time_ns += int(rest[1].ljust(3, "0"))
    return time_ns


def is_epoch_number(text: str) -> bool:
    """Whether a text is read as an epoch number."""
    text = text.strip()
    return len(text) <= 64 and text[4:5] != "-" and _NUMBER.fullmatch(text) is not None


def epoch_numbers_ns(found: Sequence[int] | Sequence[float]) -> Ints | None:
    """``event_time_ns`` of epoch numbers, all integers or all floats; None where one needs more care.

    A float is what its shortest text says. If it is the double nearest to a whole number of microseconds (of a
    time in seconds), and there are fewer than 2**52 of them, then no other decimal of as few digits is as near:
    its shortest text says just that. Milliseconds and microseconds alike.
    """
    try:
        numbers = np.array(found)
        if numbers.dtype.kind == "i":
            least, most = int(numbers.min()), int(numbers.max())
            if least < 0:
                return None
            scale: int | Ints = _scale(most)
            if _scale(least) != scale:
                scale = np.select(
                    [numbers < 10**11, numbers < 10**14, numbers < 10**17], [10**9, 10**6, 10**3], 1
                )
            return None if (numbers > INT64_MAX // scale).any() else np.asarray(numbers * scale)
        if numbers.dtype.kind != "f" or not numbers.min() >= 0.0 or not numbers.max() < 1e17:
            return None
    except (ValueError, OverflowError):
        return None
    per_unit = np.where(numbers < 1e11, 1e6, np.where(numbers < 1e14, 1e3, 1.0))
    micros = np.rint(numbers * per_unit)
    if micros.max() >= 2.0**52 or (micros / per_unit != numbers).any():
        return None
    return np.asarray(micros.astype(np.int64) * 1000)


def exact_ns(found: object, scale: int) -> int | None:
    """A number (or its text) of a unit of ``scale`` nanoseconds; None for what is no number."""
    if type(found) is int:
        number: int | Decimal = found
    elif type(found) is float and math.isfinite(found):
        number = Decimal(repr(found))
    elif type(found) is str and len(found) <= 64 and _NUMBER.fullmatch(found.strip()):
        number = Decimal(found.strip())
    else:
        return None
    if number < 0:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)} is negative")
    if number * scale > INT64_MAX:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)} is beyond the year 2262")
    return int(number * scale)


def _scale(number: int) -> int:
    """The nanoseconds of the unit that an epoch number of this size is in."""
    return 10**9 if number < 10**11 else 10**6 if number < 10**14 else 10**3 if number < 10**17 else 1


def _since_epoch(time: datetime) -> int:
    """Nanoseconds of an instant with a zone."""
    since = time - EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000


def _of_array(parts: list[object]) -> datetime | None:
    """The time that an array of its parts is, without zone and nanoseconds; None if it is none."""
    if not 5 <= len(parts) <= 7 or not all(type(part) is int for part in parts):
        return None
    try:
        if len(parts) == 7 and not 0 <= parts[6] < 10**9:  # type: ignore[operator] # an int, as all of them
            return None
        return datetime(*parts[:6])  # type: ignore[arg-type] # noqa: DTZ001 -- ints, and the zone is added by the caller
    except (ValueError, OverflowError):
        return None


def _without_signs(number: int | Decimal) -> datetime | None:
    """The time that a number of 14 digits is, year first; None if it is none."""
    if not _COMPACT_FROM <= number < _COMPACT_TO or number != int(number):
        return None
    try:
        return datetime.strptime(str(int(number)), "%Y%m%d%H%M%S")  # noqa: DTZ007 -- the caller adds the zone
    except ValueError:
        return None


def _epoch_ns(number: int | Decimal, found: object, zone: tzinfo) -> int:
    """An epoch number in nanoseconds; ``found`` is the value as the message has it."""
    if number < 0:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)} is negative")
    if number < 10**11:
        return int(number * 10**9)
    if number < 10**14:
        if number >= _COMPACT_FROM and (time := _without_signs(number)) is not None:
            return _since_epoch(time.replace(tzinfo=zone))
        return int(number * 10**6)
    if number < 10**17:
        return int(number * 10**3)
    if number > INT64_MAX:  # before int(): the text of a number may name a billion digits
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)} is too large in any unit")
    return int(number)


def iso_or_number(time_ns: int) -> str:
    """ISO 8601, or the number where an instant is beyond what nanoseconds in 64 bits can hold."""
    return iso(time_ns) if time_ns <= INT64_MAX else str(time_ns)
