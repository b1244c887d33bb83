"""Control messages, reloads of the configuration, decisions on trainings, and candidates in shadow: for page and log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from daemon.adapters.telemetry.logs import Throttle
from daemon.adapters.telemetry.metrics import Metrics
from daemon.adapters.telemetry.status import ShadowNow, Status
from daemon.control import Received, described
from daemon.domain import AlertEvent, InputPartition, Output, iso
from daemon.maintenance import MaintenanceWindow
from daemon.stream.dismissal import Standing
from daemon.stream.encoding import accepted_json
from daemon.stream.summaries import was_planned

if TYPE_CHECKING:  # for annotations only: the command line imports this package at its start
    from daemon.adapters.registry import DecisionRecord
    from daemon.detector import Detector

log = structlog.get_logger()


class ControlReporter:
    """The part of ``Reporter`` that is about them.

    Args:
        throttle: of what is repeated.
        metrics, status: of the reporter.
    """

    def __init__(self, throttle: Throttle, metrics: Metrics, status: Status) -> None:
        self._throttle = throttle
        self._metrics = metrics
        self._status = status

    def stream_opened(
        self,
        stream: str,
        standing: Callable[[AlertEvent], Standing | None],
        stops: Callable[[], Sequence[MaintenanceWindow]],
        knows: Callable[[str], bool],
    ) -> None:
        """A stream runs here: what became of the verdicts on its alerts, the stops of its configuration, and its assets."""
        self._status.streams[stream].knows = knows
        self._status.streams[stream].standing = standing
        self._status.people.configured = stops

    def training_decided(self, record: DecisionRecord) -> None:
        """A training was decided on, here or elsewhere; a record may come again."""
        decisions = self._status.streams[record.stream].decisions
        if record not in decisions:
            decisions.append(record)

    def thresholds_found(self, stream: str, detector: Detector) -> None:
        """The model in use has other thresholds: those of another budget."""
        self._metrics.models.thresholds(stream, detector.threshold, detector.part_thresholds)
        self._status.thresholds(stream, detector.threshold, detector.part_thresholds)

    def config_refused(self, reason: str) -> None:
        """The configuration has a fault: that in force stays."""
        log.error("config_refused", reason=reason)

    def config_reloaded(
        self, at_once: Sequence[str], next_training: Sequence[str], restart: Sequence[str]
    ) -> None:
        """The configuration was read anew; the keys that differ, by when they count."""
        log.info("config_reloaded", at_once=list(at_once), with_the_next_training=list(next_training))
        if restart:
            log.warning("config_needs_a_restart", keys=list(restart))

    def controls_unread(self, reason: str) -> None:
        """The topic of control messages could not be read; it is tried again."""
        if self._throttle.admit("controls") is not None:
            log.warning("controls_unread", reason=reason)

    def controls_refused(self, n: int) -> None:
        """So many more messages of that topic cannot be used; the reader of the topic has logged why."""
        self._metrics.episodes.controls_refused(n)

    def controls_begun_anew(self, partition: InputPartition, position: int, end: int) -> None:
        """The topic of control messages is shorter than what a partition has taken of it: it was made anew."""
        log.warning(
            "controls_begun_anew",
            topic=partition.topic,
            partition=partition.number,
            position=position,
            end=end,
        )

    def controls_read(self, messages: Sequence[Received], *, anew: bool) -> None:
        """Control messages were read; with ``anew`` all that the topic holds."""
        people = self._status.people
        before = people.left_out
        people.received(messages, anew=anew)
        if people.left_out > before:
            log.warning(
                "planned_stops_not_shown",
                stops=people.left_out - before,
                rule="too many: those that end first",
            )

    def control_received(self, received: Received) -> None:
        """A control message has come."""
        log.info("control_received", **described(received.control))

    def published(self, outputs: Sequence[Output]) -> None:
        """Outputs can be read by others now: what they say of verdicts, and of ``alerts.accept_after``."""
        for each in outputs:
            if isinstance(each, AlertEvent) and each.accepted:
                log.info(
                    "change_accepted",
                    stream=each.stream,
                    asset=each.asset,
                    fingerprint=each.fingerprint,
                    by=each.feedback.by if each.feedback and was_planned(each) else "alerts.accept_after",
                    accepted=accepted_json(each.accepted),
                )

    def shadow_begun(self, stream: str, shadow: ShadowNow) -> None:
        """A candidate judges beside the model in force from now on."""
        self._status.streams[stream].shadow = shadow
        log.info(
            "shadow_begun",
            stream=stream,
            version=shadow.version,
            model=shadow.parent,
            since=iso(shadow.since_ns),
            until=iso(shadow.until_ns),
        )

    def shadow_over(self, stream: str) -> None:
        """No candidate does."""
        before, self._status.streams[stream].shadow = self._status.streams[stream].shadow, None
        if before is not None:
            log.info("shadow_over", stream=stream, **asdict(before.counts()))
