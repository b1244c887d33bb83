"""What people tell the running daemon, by a changed configuration or a control message: said in the log."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from daemon.adapters.telemetry.logs import Throttle
from daemon.control import Received, described
from daemon.domain import InputPartition

log = structlog.get_logger()


class ToldReporter:
    """The part of ``Reporter`` that is about them.

    Args:
        throttle: of what is repeated.
    """

    def __init__(self, throttle: Throttle) -> None:
        self._throttle = throttle

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

    def controls_begun_anew(self, partition: InputPartition, position: int, end: int) -> None:
        """The topic of control messages is shorter than what a partition has taken of it: it was made anew."""
        log.warning(
            "controls_begun_anew",
            topic=partition.topic,
            partition=partition.number,
            position=position,
            end=end,
        )

    def control_received(self, received: Received) -> None:
        """A control message has come."""
        log.info("control_received", **described(received.control))
