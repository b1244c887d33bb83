"""``anomalyd feedback``: verdicts on alerts, told to the running daemon through its topic of control messages.

In: the settings, and a verdict on a fingerprint or on a prefix of one. The alerts topic says which alert that is. Out:
what was told with what it will do, or the verdicts so far, as entries that ``--json`` prints.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from daemon.adapters.kafka import read_now
from daemon.adapters.kafka.control_topic import ControlTopic, send
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import Feedback, Verdict, checked
from daemon.documents import counted
from daemon.domain import AlertKind, iso
from daemon.errors import InputError, UsageError
from daemon.stream.encoding import ALERTS

NEWEST = 5
"""Alerts that are named where a fingerprint is unknown or ambiguous."""
_ENDS_ALONE = {AlertKind.UNKNOWN_CONDITION, AlertKind.CLOCK_SKEW, AlertKind.DRIFT}
_SILENCES = {AlertKind.SENSOR_SILENT, AlertKind.SENSOR_STUCK, AlertKind.ASSET_SILENT}
"""By which no like can be known, unless something with a score has joined the alert."""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert as its newest message in the topic has it."""

    fingerprint: str
    asset: str
    kind: str
    opened: str
    open: bool
    summary: str


async def give(settings: Settings, feedback: Feedback, *, force: bool = False) -> dict[str, Any]:
    """Tell the daemon of a verdict; what it is on, and what it will do.

    Args:
        settings: where.
        feedback: the verdict; its fingerprint may be the beginning of one.
        force: tell it even if the alerts topic has no such alert.

    Raises:
        UsageError: no alert, or several, have such a fingerprint; or the verdict cannot be written as a message.
        DaemonError: a topic cannot be read or written.
    """
    try:
        checked(feedback)
    except ValueError as error:
        raise UsageError(str(error)) from error
    alerts = await _alerts(settings, missing_is_fine=force)
    alert = _named(alerts, feedback.fingerprint, force=force)
    if alert is not None:
        feedback = msgspec.structs.replace(feedback, fingerprint=alert.fingerprint)
    await send(kafka_settings(settings), settings.outputs.prefix, feedback)
    return {
        "fingerprint": feedback.fingerprint,
        "verdict": feedback.verdict.value,
        "asset": None if alert is None else alert.asset,
        "kind": None if alert is None else alert.kind,
        "summary": None if alert is None else alert.summary,
        "effect": effect_of(alert, feedback.verdict),
    }


async def verdicts(settings: Settings) -> list[dict[str, Any]]:
    """All verdicts so far, oldest first, with what they are on; ``counts`` says which are the last on their alert.

    Raises:
        DaemonError: a topic cannot be read.
    """
    topic = ControlTopic(kafka_settings(settings), settings.outputs.prefix)
    try:
        await topic.refresh()
    finally:
        await topic.stop()
    given = [(one.time_ns, one.control) for one in topic.received if isinstance(one.control, Feedback)]
    if not given:
        return []
    alerts = await _alerts(settings, missing_is_fine=True)
    last = {feedback.fingerprint: i for i, (_, feedback) in enumerate(given)}
    rows = []
    for i, (time_ns, feedback) in enumerate(given):
        alert = alerts.get(feedback.fingerprint)
        rows.append(
            {
                "time": iso(time_ns),
                "fingerprint": feedback.fingerprint,
                "verdict": feedback.verdict.value,
                "by": feedback.by or None,
                "note": feedback.note or None,
                "asset": None if alert is None else alert.asset,
                "kind": None if alert is None else alert.kind,
                "opened": None if alert is None else alert.opened,
                "counts": last[feedback.fingerprint] == i,
            }
        )
    return rows


async def _alerts(settings: Settings, *, missing_is_fine: bool) -> dict[str, Alert]:
    """The alerts that the topic holds, by fingerprint, in the order of their newest messages."""
    found: dict[str, Alert] = {}
    topic = f"{settings.outputs.prefix}.{ALERTS}"
    try:
        async for piece in read_now(kafka_settings(settings), [topic]):
            for record in piece.records:
                alert = _read(record.value)
                if alert is not None:
                    found.pop(alert.fingerprint, None)
                    found[alert.fingerprint] = alert
    except InputError:
        if not missing_is_fine:
            raise
    return found


def _read(value: bytes) -> Alert | None:
    """The alert of a message; None: it is no alert's."""
    try:
        message = json.loads(value)
        data = message["data"]
        return Alert(
            str(data["fingerprint"]),
            str(message["subject"]),
            str(data["kind"]),
            str(data["opened"]),
            data["status"] == "firing",
            str(data["annotations"]["summary"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _named(alerts: Mapping[str, Alert], fingerprint: str, *, force: bool) -> Alert | None:
    """The alert whose fingerprint is this, or begins so; None: there is none, and it is told all the same."""
    if (exact := alerts.get(fingerprint)) is not None:
        return exact
    alike = [one for name, one in alerts.items() if name.startswith(fingerprint)]
    if len(alike) == 1:
        return alike[0]
    if force:
        return None
    if alike:
        raise UsageError(f"{fingerprint} begins the fingerprints of {len(alike)} alerts: {_some(alike)}")
    if not alerts:
        raise UsageError(f"no alert {fingerprint}: the alerts topic is empty; --force tells it all the same")
    raise UsageError(
        f"no alert {fingerprint} among the {counted(len(alerts), 'alert')} of the topic, whose newest are"
        f" {_some(list(alerts.values()))}; --force tells it all the same"
    )


def _some(alerts: list[Alert]) -> str:
    """The newest of them by fingerprint, with asset, kind and time."""
    newest = alerts[: -NEWEST - 1 : -1]
    return ", ".join(f"{one.fingerprint} ({one.kind} of {one.asset} at {one.opened})" for one in newest)


def effect_of(alert: Alert | None, verdict: Verdict) -> str:
    """What the verdict will do."""
    if verdict is Verdict.CONFIRMED:
        return "it is kept as a real incident and never learned; if there was an earlier verdict on it, that is taken back"
    if alert is None:
        return "no alert of the topic has this fingerprint: it has an effect where the daemon remembers the episode"
    if alert.kind in _ENDS_ALONE:
        return f"it is noted; an alert of kind {alert.kind} closes when it is over"
    if verdict is Verdict.FALSE_ALARM and alert.kind in _SILENCES:
        return "the alert closes; the next silence opens one again" if alert.open else "it is noted"
    if verdict is Verdict.FALSE_ALARM:
        closes = "the alert closes, and its" if alert.open else "its"
        return f"{closes} like on {alert.asset} must come half as high again to alert"
    if alert.open:
        return f"what it shows is normal for {alert.asset} from the next row on, and the alert closes"
    return (
        "nothing is left to accept: the alert is over. If there was an earlier verdict on it, that is taken back. Say planned"
        f" while an alert is open; false_alarm holds back its like on {alert.asset}"
    )
