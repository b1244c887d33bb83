"""Alert messages read back whole, for a process that shows what others published (``encoding.encode`` made them)."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from daemon.alert import AcceptedChange, AlertKind, Contributor, Peak, Phase, Severity
from daemon.control import Feedback, Verdict
from daemon.domain import AlertEvent, iso
from daemon.stream.encoding import ALERT_BYTES
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import event_time_ns

LONGEST: Final = 1_000
"""Characters of an id, an asset, a fingerprint or a version."""


class _ContributorData(msgspec.Struct):
    sensor: str
    share: float | None = None
    observed: float | None = None
    expected: float | None = None
    unit: str | None = None


class _PeakData(msgspec.Struct):
    row: str
    score: str
    value: float | None = None
    threshold: float | None = None


class _ModelData(msgspec.Struct):
    version: str = ""
    calibration: str = ""


class _WindowData(msgspec.Struct):
    imputed_share: float | None = None


class _FeedbackData(msgspec.Struct):
    verdict: Verdict
    by: str = ""
    note: str = ""


class _AcceptedData(msgspec.Struct):
    sensor: str
    change: float | None = None
    unit: str | None = None


class _AlertData(msgspec.Struct):
    fingerprint: str
    row: str
    onset: str
    opened: str
    labels: dict[str, str]
    severity: Severity
    kind: AlertKind
    annotations: dict[str, str]
    sensor: str | None = None
    ended: str | None = None
    returned: int = 0  # not in messages of earlier versions
    kinds: list[AlertKind] = []
    sensors: list[str] = []
    contributors: list[_ContributorData] = []
    peak: _PeakData | None = None
    model: _ModelData = msgspec.field(default_factory=_ModelData)
    window: _WindowData = msgspec.field(default_factory=_WindowData)
    feedback: _FeedbackData | None = None
    accepted: list[_AcceptedData] = []  # none in messages of earlier versions


class _AlertMessage(msgspec.Struct):
    id: str
    type: str
    subject: str
    data: _AlertData


_decode = msgspec.json.Decoder(_AlertMessage).decode


def read_alert_event(message: bytes) -> AlertEvent:
    """The event of a message that ``encode`` made, as far as a table of alerts shows it.

    Without the scores of its row, its window and its place in the input.

    Raises:
        ValueError: it is no alert message, or one of a newer version.
    """
    if len(message) > ALERT_BYTES:
        raise ValueError(f"{len(message)} bytes are too many for an alert")
    try:
        event = _decode(message)
        data = event.data
        _check(event)
        return AlertEvent(
            data.labels["stream"],
            event.subject,
            data.kind,
            Phase(event.type.removeprefix("io.anomalyd.episode.").removesuffix(".v1")),
            data.severity,
            data.fingerprint,
            event.id,
            _time_ns(data.row),
            _time_ns(data.onset),
            _time_ns(data.opened),
            data.model.version,
            data.model.calibration,
            data.annotations.get("summary", ""),
            data.sensor,
            contributors=[
                Contributor(c.sensor, c.observed, c.expected, _number(c.share), unit=c.unit)
                for c in data.contributors
            ],
            imputed_share=data.window.imputed_share or 0.0,
            kinds=data.kinds,
            sensors=data.sensors,
            peak=None if data.peak is None else _peak(data.peak),
            feedback=None
            if data.feedback is None
            else Feedback(data.fingerprint, data.feedback.verdict, data.feedback.by, data.feedback.note),
            accepted=[AcceptedChange(one.sensor, one.change, one.unit) for one in data.accepted],
            ended_ns=None if data.ended is None else _time_ns(data.ended),
            returned=data.returned,
        )
    except (ValueError, OverflowError, OSError, KeyError, RecursionError, RejectedError) as error:
        raise ValueError(f"no alert message: {type(error).__name__}") from error


def _check(event: _AlertMessage) -> None:
    """Refuse what no message of ours has: all of these are shown as they are."""
    data = event.data
    texts = [event.id, event.subject, data.fingerprint, data.model.version, data.model.calibration]
    if max(map(len, texts)) > LONGEST or len(data.kinds) > len(AlertKind):
        raise ValueError("a text or a list is too long")


def _time_ns(text: str) -> int:
    """An instant that can be written again: not the years before 1 and after 9999 that a zone may reach."""
    time_ns = event_time_ns(text)
    iso(time_ns)
    return time_ns


def _peak(data: _PeakData) -> Peak:
    return Peak(_time_ns(data.row), data.score, _number(data.value), _number(data.threshold))


def _number(value: float | None) -> float:
    """What is not finite is null in a message."""
    return math.nan if value is None else value
