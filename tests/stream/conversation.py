"""A pipeline that is fed row by row, and whose alerts are given verdicts in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daemon.control import Feedback, Verdict
from daemon.detector import Detector
from daemon.domain import AlertEvent, AlertKind, Output, Phase, Reading
from daemon.stream.dismissal import FeedbackResult
from tests.stream.pipelines import feed, make, of_kind

EPISODES = set(AlertKind) - {AlertKind.DRIFT}


def alerts(outputs: Sequence[Output]) -> list[AlertEvent]:
    """The messages by which alerts opened."""
    return [e for e in of_kind(outputs, *EPISODES) if e.phase is Phase.OPENED]


def opened(outputs: Sequence[Output]) -> list[int]:
    """The seconds at which alerts opened."""
    return [e.row_ns // 10**9 for e in alerts(outputs)]


class Conversation:
    """A pipeline, its readings, and what has come of them."""

    def __init__(self, readings: Sequence[Reading], detector: Detector, **more: Any) -> None:
        self.pipeline = make(detector=detector, scores=False, **more)
        self.readings = list(readings)
        self.outputs: list[Output] = []
        self.done = 0

    def until(self, row: int) -> list[Output]:
        """What the rows up to this one lead to."""
        found = feed(self.pipeline, self.readings[self.done : row])
        self.done = row
        self.outputs += found
        return found

    def judged(self, verdict: Verdict, number: int = -1, **more: str) -> FeedbackResult:
        """Give a verdict on one of the alerts so far; the newest, unless said."""
        about = alerts(self.outputs)[number].fingerprint
        result = self.pipeline.parts.take_feedback(Feedback(about, verdict, **more))
        self.outputs += result.outputs
        return result
