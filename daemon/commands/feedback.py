"""``anomalyd feedback``: verdicts on alerts, told to the running daemon through its topic of control messages.

In: the settings, and a verdict on a fingerprint or on a prefix of one. The alerts topic says which alert that is. Out:
what was told with what it will do, or the verdicts so far with what became of them, as entries that ``--json`` prints. What
a ``planned`` verdict has accepted is known when its alert closes by it, at the asset's next scored row: that is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from daemon.adapters.kafka import Entry, Follower
from daemon.adapters.kafka.control_topic import ControlTopic, send
from daemon.alert import AcceptedChange
from daemon.commands.wiring import kafka_settings
from daemon.config import Settings
from daemon.control import Feedback, Verdict, checked
from daemon.documents import counted
from daemon.domain import AlertEvent, AlertKind, iso
from daemon.errors import DaemonError, InputError, UsageError
from daemon.stream.alert_decoding import read_alert_event
from daemon.stream.encoding import ALERTS, accepted_json
from daemon.stream.summaries import accepted, after, was_planned

NEWEST = 5
"""Alerts that are named where a fingerprint is unknown or ambiguous."""
WAIT_S = 6.0
"""For the message that closes an alert because it was planned: control messages are read each second, and rows committed each half."""
_LOOK_S = 0.2
"""Between two looks for it."""
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
    planned: bool = False  # it closed because it was called planned ...
    accepted: Sequence[AcceptedChange] = ()  # ... with which this has become normal
    event: AlertEvent | None = None  # that newest message
    slow: bool = False  # a sensor's wear from day to day opened it, and no evidence of rows has joined

    @staticmethod
    def of(event: AlertEvent) -> Alert:
        """The alert of a message."""
        return Alert(
            event.fingerprint,
            event.asset,
            event.kind.value,
            iso(event.opened_ns),
            not event.over,
            event.summary,
            event.over and was_planned(event),
            event.accepted,
            event,
            event.kind is AlertKind.DEVIATION
            and event.sensor is not None
            and not event.concerns(AlertKind.ANOMALY),
        )


class Alerts:
    """The alerts that their topic holds.

    Args:
        topic: reads it.

    Attributes:
        known: by fingerprint, in the order of their newest messages.
    """

    def __init__(self, topic: Follower) -> None:
        self.known: dict[str, Alert] = {}
        self._topic = topic

    @staticmethod
    @contextlib.asynccontextmanager
    async def opened(settings: Settings, *, missing_is_fine: bool) -> AsyncIterator[Alerts]:
        """Read to the present end of the topic.

        Raises:
            InputError: the topic does not exist, where that is not fine.
            DaemonError: it cannot be read.
        """
        topic = Follower(kafka_settings(settings), f"{settings.outputs.prefix}.{ALERTS}")
        try:
            alerts = Alerts(topic)
            try:
                await topic.read(alerts.take, to_the_end=True)
            except InputError:
                if not missing_is_fine:
                    raise
            yield alerts
        finally:
            await topic.stop()

    def take(self, entries: Iterable[Entry]) -> None:
        """Take in messages in their order; what is no alert's is passed over."""
        for entry in entries:
            try:
                alert = Alert.of(read_alert_event(entry.value or b""))
            except ValueError:
                continue
            self.known.pop(alert.fingerprint, None)
            self.known[alert.fingerprint] = alert

    async def closed(self, fingerprint: str) -> Alert:
        """One of them as it is when it has closed, or after ``WAIT_S``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while self.known[fingerprint].open:
                    await asyncio.sleep(_LOOK_S)
                    await self._topic.read(self.take, to_the_end=False)
        return self.known[fingerprint]


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
    async with Alerts.opened(settings, missing_is_fine=force) as alerts:
        alert = _named(alerts.known, feedback.fingerprint, force=force)
        if alert is not None:
            feedback = msgspec.structs.replace(feedback, fingerprint=alert.fingerprint)
        await send(kafka_settings(settings), settings.outputs.prefix, feedback)
        effect = effect_of(alert, feedback.verdict)
        changes: Sequence[AcceptedChange] = ()
        if alert is not None and alert.open and is_accepting(alert, feedback.verdict):
            with contextlib.suppress(DaemonError):  # the verdict is told: that is no failure
                now = await alerts.closed(alert.fingerprint)
                effect, changes = became_of(now), now.accepted
    return {
        "fingerprint": feedback.fingerprint,
        "verdict": feedback.verdict.value,
        "asset": None if alert is None else alert.asset,
        "kind": None if alert is None else alert.kind,
        "summary": None if alert is None or alert.event is None else after(alert.event, feedback),
        "effect": effect,
        "accepted": accepted_json(changes),
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
    async with Alerts.opened(settings, missing_is_fine=True) as topic_of_alerts:
        alerts = topic_of_alerts.known
    return [
        {
            "time": iso(one.time_ns),
            "fingerprint": one.feedback.fingerprint,
            "verdict": one.feedback.verdict.value,
            "by": one.feedback.by or None,
            "note": one.feedback.note or None,
            "asset": None if one.alert is None else one.alert.asset,
            "kind": None if one.alert is None else one.alert.kind,
            "opened": None if one.alert is None else one.alert.opened,
            "counts": one.counts,
            "did": one.did,
            "accepted": accepted_json(one.alert.accepted)
            if one.alert is not None and one.has_accepted
            else [],
        }
        for one in given_verdicts(given, alerts)
    ]


@dataclass(frozen=True, slots=True)
class GivenVerdict:
    """One of the verdicts so far."""

    time_ns: int
    feedback: Feedback
    alert: Alert | None  # None: the topic does not have it
    counts: bool  # it is the last one on its alert
    again: bool  # others came between it and an earlier one of its kind

    @property
    def has_accepted(self) -> bool:
        """Whether the alert has closed by it. One that was taken back meanwhile says nothing: it may have been too late then."""
        planned = self.counts and self.feedback.verdict is Verdict.PLANNED and not self.again
        return planned and self.alert is not None and self.alert.planned

    @property
    def did(self) -> str | None:
        """What a planned one has done; None: it is another one, or that is not known."""
        alert = self.alert
        if alert is None or not (self.counts and is_accepting(alert, self.feedback.verdict)) or self.again:
            return None
        return became_of(alert)


def given_verdicts(given: Sequence[tuple[int, Feedback]], alerts: Mapping[str, Alert]) -> list[GivenVerdict]:
    """The verdicts with what they are on.

    Args:
        given: each with its time, ns, oldest first.
        alerts: by fingerprint.
    """
    found: list[GivenVerdict] = []
    of_alert: dict[str, list[Verdict]] = {}
    last = {feedback.fingerprint: i for i, (_, feedback) in enumerate(given)}
    for i, (time_ns, feedback) in enumerate(given):
        name, before = feedback.fingerprint, of_alert.setdefault(feedback.fingerprint, [])
        again = feedback.verdict in before and before[-1] is not feedback.verdict
        found.append(GivenVerdict(time_ns, feedback, alerts.get(name), last[name] == i, again))
        before.append(feedback.verdict)
    return found


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
    if alert.slow:
        return "it is noted; an alert of slow wear closes when it is over"
    if verdict is Verdict.FALSE_ALARM and alert.kind in _SILENCES:
        return "the alert closes; the next silence opens one again" if alert.open else "it is noted"
    if verdict is Verdict.FALSE_ALARM:
        closes = "the alert closes, and its" if alert.open else "its"
        return f"{closes} like on {alert.asset} must come half as high again to alert"
    if alert.open:
        return f"what it shows is normal for {alert.asset} from the next row on, and the alert closes"
    if alert.planned:
        return f"it was called planned while it was open: {became_of(alert)}. Nothing more is left to accept"
    return (
        "nothing is left to accept: the alert is over. If there was an earlier verdict on it, that is taken back. Say planned"
        f" while an alert is open; false_alarm holds back its like on {alert.asset}"
    )


def is_accepting(alert: Alert, verdict: Verdict) -> bool:
    """Whether a verdict makes normal what an alert shows, if it is open."""
    return verdict is Verdict.PLANNED and alert.kind not in _ENDS_ALONE and not alert.slow


def became_of(alert: Alert) -> str:
    """What a planned verdict on an alert has done, by the alert's newest message."""
    if alert.open:
        return (
            f"what it shows is normal for {alert.asset} from its next scored row on, and the alert closes:"
            " feedback --list says what was accepted"
        )
    if not alert.planned:
        return "too late: the alert was over, and nothing was left to accept"
    return accepted(alert.accepted) or "the alert closed with it"
