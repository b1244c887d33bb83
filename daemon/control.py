"""Control messages: what people tell the running daemon, one JSON object each, in the topic ``<prefix>.feedback``.

    {"fingerprint": "8f2c...", "verdict": "false_alarm", "by": "kim", "note": "lid was open"}
    {"maintenance": "pump-01-overhaul", "assets": ["pump-01"], "start": "...", "end": "...", "reason": "overhaul"}
    {"retrain": "pumps", "reason": "new impeller"}

The first key says which it is. Times are RFC 3339 with a time zone. Of several verdicts on one episode, and of several
messages on one maintenance, the last one counts; the topic keeps all of them, so that it is also the record of who said
what. Keys that are not known are refused: a misspelt one would be a wish that nobody hears.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

LARGEST = 8_192
"""Bytes of a control message, at most: partitions keep those of maintenance in their records of state."""
INSTANTS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC))
"""Between which the times that people write lie: nanoseconds since 1970 are 64 bits."""
_TEXT = 1_000  # characters of a note or a reason


class Verdict(StrEnum):
    """What a person says of an episode."""

    CONFIRMED = "confirmed"
    """A real incident: it is never learned, and models to come must still find it."""
    FALSE_ALARM = "false_alarm"
    """Nothing was wrong: its rows may be learned, and its like must score higher to alert again."""
    PLANNED = "planned"
    """A wanted change: what it deviates to is normal from now on, and its alert closes."""


class Feedback(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A verdict on one episode, by its fingerprint."""

    fingerprint: str
    verdict: Verdict
    by: str = ""
    note: str = ""


class MaintenanceOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A planned stop, by its name: alerts of these assets (none: all) are suppressed from ``start`` to before ``end``.

    With ``rrule`` (RFC 5545) the span recurs, beginning with ``start``, in the wall clock of ``timezone``. The same name
    again replaces what it said before; an ``end`` that has passed ends it.
    """

    maintenance: str
    start: datetime
    end: datetime
    assets: tuple[str, ...] = ()
    stream: str = ""  # empty: all
    rrule: str = ""
    timezone: str = ""
    reason: str = ""
    by: str = ""


class RetrainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The wish to train a stream's model now."""

    retrain: str
    reason: str = ""
    by: str = ""


Control = Feedback | MaintenanceOrder | RetrainRequest
_C = TypeVar("_C", Feedback, MaintenanceOrder, RetrainRequest)
_BY_KEY: dict[str, type[Any]] = {
    "fingerprint": Feedback,
    "maintenance": MaintenanceOrder,
    "retrain": RetrainRequest,
}


@dataclass(frozen=True, slots=True)
class Received:
    """A control message as it lies in its topic."""

    position: int  # its offset; the order in which messages count
    time_ns: int  # when it was written, by the broker's or the producer's clock
    control: Control
    of_topic: int = (
        -1
    )  # the time of its topic's first record, ns: a topic that was made anew counts from 0 again


def read_control(message: bytes) -> Control:
    """The control message in these bytes.

    Raises:
        ValueError: it is none; says why in one line.
    """
    if len(message) > LARGEST:
        raise ValueError(f"{len(message)} bytes, more than the {LARGEST} allowed")
    try:
        keys = msgspec.json.decode(message, type=dict[str, msgspec.Raw])
        kinds = [kind for key, kind in _BY_KEY.items() if key in keys]
        if len(kinds) != 1:
            raise ValueError("a control message has one of the keys fingerprint, maintenance and retrain")
        control: Control = msgspec.json.decode(message, type=kinds[0])
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    fault = _fault(control)
    if fault is not None:
        raise ValueError(fault)
    return control


def checked(control: _C) -> _C:
    """The same message, as its readers will read it.

    Raises:
        ValueError: they will refuse it; says why in one line.
    """
    read = read_control(written(control))
    assert isinstance(read, type(control))
    return read


def written(control: Control) -> bytes:
    """The inverse of ``read_control``."""
    return msgspec.json.encode(control)


def _fault(control: Control) -> str | None:
    """What is wrong with a message that has the right keys; None if nothing."""
    for field in control.__struct_fields__:
        value = getattr(control, field)
        if isinstance(value, str) and len(value) > _TEXT:
            return f"{field} has {len(value)} characters, more than the {_TEXT} allowed"
    match control:
        case Feedback() if not control.fingerprint:
            return "fingerprint is empty"
        case MaintenanceOrder():
            if not control.maintenance:
                return "maintenance is empty: it names the maintenance"
            for name in ("start", "end"):
                if getattr(control, name).tzinfo is None:
                    return f"{name} needs a time zone, as 2026-01-31T08:00:00Z"
                if not INSTANTS[0] <= getattr(control, name) < INSTANTS[1]:
                    return f"{name} {getattr(control, name).isoformat()} is not from 1970 to 2261"
            if control.end < control.start:
                return "maintenance ends before it starts"
            if len(written(control)) > LARGEST:
                return f"more than {LARGEST} bytes"
        case RetrainRequest() if not control.retrain:
            return "retrain is empty: it names the stream"
    return None


def described(control: Control) -> dict[str, str]:
    """A control message as the log and the page show it: what is empty is left out."""
    found = {name: getattr(control, name) for name in control.__struct_fields__}
    return {
        name: ", ".join(value) if isinstance(value, tuple) else str(value)
        for name, value in found.items()
        if value
    }
