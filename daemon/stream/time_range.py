"""Which event times are possible at all: none before 1970, none after 2262, none far ahead of the record's own."""

from __future__ import annotations

from typing import Final

from daemon.domain import SECOND_NS, Reason, Record
from daemon.stream.rejection import RejectedError, shown
from daemon.stream.timestamps import INT64_MAX, iso_or_number

FUTURE_NS: Final = 3600 * SECOND_NS
"""An event time further ahead of its record's timestamp than this is a broken clock."""


def check_time(time_ns: int, record: Record, found: object = None) -> None:
    """Refuse (RejectedError) an event time that lies too far ahead of its record's, or beyond what is possible.

    Args:
        time_ns: the event time.
        record: the one that it came in.
        found: what the message has there, if it is to be quoted; None: the time is said.
    """
    # A record that Kafka gave no timestamp (-1) says nothing about the producer's clock.
    if time_ns > record.timestamp_ns + FUTURE_NS and record.timestamp_ns >= 0:
        raise RejectedError(
            Reason.FUTURE,
            f"{_said(time_ns, found)} is over 1 h ahead of the record ({iso_or_number(record.timestamp_ns)})",
        )
    if time_ns > INT64_MAX:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{_said(time_ns, found)} is beyond the year 2262")
    if time_ns < 0:
        raise RejectedError(Reason.BAD_TIMESTAMP, f"{_said(time_ns, found)} is before 1970")


def _said(time_ns: int, found: object) -> str:
    """An event time in words."""
    if time_ns < 0:
        return str(time_ns) if found is None else shown(found)
    text = iso_or_number(time_ns)
    return text if found is None or shown(found).strip("'") == text else f"{text} ({shown(found)})"
