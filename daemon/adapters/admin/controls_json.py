"""Verdicts, planned stops and decisions on trainings as the plain JSON values of ``/api/status``; all of it bounded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from daemon.adapters.pages import bounded
from daemon.adapters.telemetry import Occurrence, Status
from daemon.control import Feedback, Received, Verdict
from daemon.documents import counted, short
from daemon.domain import AlertEvent, iso
from daemon.model.decision import rule_in_words
from daemon.stream.dismissal import Standing
from daemon.stream.encoding import accepted_json
from daemon.stream.summaries import accepted, was_planned
from daemon.trigger import in_words

if TYPE_CHECKING:  # for annotations only: the registry needs Kafka's client, the demo does not
    from daemon.adapters.registry import DecisionRecord

STOPS_SHOWN: Final = 20
ASSETS_SHOWN: Final = 5
"""Of one planned stop."""
CHANGES_SHOWN: Final = 20
"""Of what was accepted with one verdict."""
NOTE_SHOWN: Final = 500
"""Characters of a note or a reason."""


def verdict_json(status: Status, event: AlertEvent) -> dict[str, Any] | None:
    """The last verdict on an alert: who, when, why, and what it has done; None: there is none."""
    feedback, standing = counting(status, event), _standing(status, event)
    if feedback is None:
        return None
    received = status.people.verdicts.get(event.fingerprint)
    return {
        "verdict": str(feedback.verdict),
        "by": bounded(feedback.by),
        "note": bounded(feedback.note, NOTE_SHOWN),
        "at": _time(received),
        "did": "" if standing is None else _done(event, feedback, standing),
    }


def accepted_of(event: AlertEvent) -> dict[str, Any] | None:
    """What became normal with the end of an alert: as data, and as a sentence; None: nothing."""
    if not event.accepted:
        return None
    changes = accepted_json(event.accepted[:CHANGES_SHOWN])
    shown = [
        {key: bounded(value) if isinstance(value, str) else value for key, value in one.items()}
        for one in changes
    ]
    return {"changes": shown, "says": says_accepted(event)}


def says_accepted(event: AlertEvent) -> str:
    """``accepted: pressure +1.29 bar, flow -0.8``."""
    return bounded(accepted(event.accepted), NOTE_SHOWN)


def counting(status: Status, event: AlertEvent) -> Feedback | None:
    """The verdict on an alert that counts: the last one that was told; None: there is none."""
    received, standing = status.people.verdicts.get(event.fingerprint), _standing(status, event)
    if received is not None and isinstance(received.control, Feedback):
        return received.control
    return event.feedback if standing is None else standing.feedback


def _standing(status: Status, event: AlertEvent) -> Standing | None:
    return status.streams[event.stream].standing(event) if event.stream in status.streams else None


def _time(received: Received | None) -> str | None:
    """When a message was written, by a clock that may be anybody's."""
    return iso(received.time_ns) if received is not None and 0 <= received.time_ns < 1 << 63 else None


def _done(event: AlertEvent, feedback: Feedback, standing: Standing) -> str:
    """What a verdict has done so far."""
    if feedback != standing.feedback:
        return "it counts from the next reading on"
    match feedback.verdict:
        case Verdict.CONFIRMED:
            return "kept as a real incident"
        case Verdict.FALSE_ALARM if standing.dismissed:
            times = counted(standing.held_back, "time")
            return f"its like was held back {times} since" if standing.held_back else "its like is held back"
        case Verdict.PLANNED if standing.accepting:
            return "it becomes normal with the next reading"
        case Verdict.PLANNED if event.over and was_planned(event):
            return says_accepted(event) or "the alert closed with it"
        case Verdict.PLANNED if event.over:
            return "the alert was over, and nothing was left to accept"
    return "the alert closed with it" if event.over and event.feedback is not None else "noted"


def active_stop(stops: Iterable[Occurrence], stream: str, asset: str) -> str | None:
    """The name of the planned stop that an asset of a stream is in; None: it is in none."""
    for one in stops:
        order = one.stop.order
        of_stream = order is None or order.stream in ("", stream)
        if one.active and of_stream and one.stop.window.concerns(asset):
            return bounded(one.stop.window.name)
    return None


def stops_json(stops: Sequence[Occurrence]) -> list[dict[str, Any]]:
    """The first of the planned stops that are not over."""
    return [_stop(one) for one in stops[:STOPS_SHOWN]]


def _stop(found: Occurrence) -> dict[str, Any]:
    window, order = found.stop.window, found.stop.order
    assets = sorted(window.assets)
    return {
        "name": bounded(window.name),
        "state": "active" if found.active else "planned",
        "assets": [bounded(asset) for asset in assets[:ASSETS_SHOWN]],  # none: all
        "more_assets": max(len(assets) - ASSETS_SHOWN, 0),
        "stream": bounded(order.stream) or None if order is not None else None,
        "start": iso(found.start_ns),
        "end": iso(found.end_ns),
        "rrule": bounded(window.rule) or None,
        "reason": bounded(order.reason, NOTE_SHOWN) if order is not None else "",
        "by": bounded(order.by) if order is not None else "",
        "source": "config" if order is None else "message",
    }


def decisions_json(records: Iterable[DecisionRecord]) -> list[dict[str, Any]]:
    """The decisions on the trainings of a stream, newest first.

    Args:
        records: oldest first.
    """
    found: list[dict[str, Any]] = []
    later: set[str] = set()  # candidates that a later record is about
    replaced = False  # whether a later record puts another one in force, or into shadow
    for record in reversed(list(records)):
        found.append(_decision(record, shadow_over=replaced or record.version in later))
        later.add(record.version)
        replaced |= record.promoted or record.in_shadow
    return found


def _decision(record: DecisionRecord, *, shadow_over: bool) -> dict[str, Any]:
    """What made a training due, and what became of its candidate: also the rule that refused it, with its figure."""
    failed = next((rule for rule in record.rules if rule.get("passed") is False), None)
    return {
        "at": bounded(record.time),
        "version": bounded(record.version),
        "trigger": bounded(record.trigger.cause),
        "trained": bounded(in_words(record.trigger.cause)),
        "trigger_reason": bounded(record.trigger.reason, NOTE_SHOWN),
        "promoted": record.promoted,
        "reason": bounded(record.reason, NOTE_SHOWN),
        "shadow": {"until": bounded(record.shadow.until), "over": shadow_over}
        if record.shadow is not None and record.in_shadow
        else None,
        "refused_by": None if failed is None else _rule(failed),
    }


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The rule that refused a candidate: its name, its figure with what that must be, and both in words."""
    name, at_least = bounded(str(rule.get("name", ""))), rule.get("at_least") is True
    figure, limit = _number(rule.get("figure")), _number(rule.get("limit"))
    return {
        "rule": name,
        "figure": figure,
        "limit": limit,
        "at_least": at_least,
        "says": rule_in_words(name, figure, limit, at_least=at_least),
    }


def _number(value: object) -> float | None:
    """A figure of a record, which anybody who may write to its topic may have written."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value) if abs(value) < 1e300 else math.inf
    return short(number)
