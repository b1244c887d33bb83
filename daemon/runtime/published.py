"""What a training reads beside the input topics: the alerts, drift records and verdicts on one stream.

In: the topics (``OwnTopics``) as they are now, without a group. Out: ``Published``, which knows what of a history may not
be learned, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, Log
from daemon.control import Feedback, MaintenanceOrder, Verdict
from daemon.domain import InputPartition, iso
from daemon.maintenance import MaintenanceWindow, read_checked
from daemon.runtime.exclusion import MOST_EPISODES, AlertedEpisodes, LeftOut, drifted
from daemon.runtime.segmenting import FOREVER
from daemon.stream.encoding import PublishedDrift, read_drift

NEWEST_ALERTS = 1_000_000
"""Alert messages that are read of one partition."""
NEWEST_DRIFT = 20_000
"""Drift records that are read of one partition, at least two years of hours."""
MOST_VERDICTS = 1_000_000
"""Control messages that are read, the newest."""


@dataclass(frozen=True, slots=True)
class OwnTopics:
    """What replicas publish and people write that trainings read; None: not there, or not to be read."""

    alerts: str | None = None
    drift: str | None = None
    feedback: str | None = None

    @staticmethod
    def of(prefix: str) -> OwnTopics:
        """Those of the outputs with this prefix."""
        return OwnTopics(f"{prefix}.alerts", f"{prefix}.drift", f"{prefix}.feedback")

    async def existing(self, connection: KafkaSettings) -> OwnTopics:
        """Those of them that exist.

        Raises:
            BrokerError: the broker does not answer.
        """
        names = [name for name in (self.alerts, self.drift, self.feedback) if name is not None]
        states = await kafka.topic_states(connection, [kafka.TopicSpec(name) for name in names])
        there = {state.name for state in states if state.partitions}
        return OwnTopics(
            *(name if name in there else None for name in (self.alerts, self.drift, self.feedback))
        )


NOTHING = OwnTopics()


@dataclass(slots=True)
class Published:
    """What was read of them, for one stream."""

    alerts: AlertedEpisodes
    alerts_shortened: bool = False  # not all of the alerts topic was read, or there
    drift: list[PublishedDrift] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)  # by fingerprint, the last one of each
    orders: dict[str, MaintenanceOrder] = field(default_factory=dict)  # by name, the last one of each
    unreadable: dict[str, int] = field(default_factory=dict)  # messages that say nothing, by topic

    def left_out(self) -> list[LeftOut]:
        """The rows that alerts and verdicts take out of a history."""
        return self.alerts.episodes(self.verdicts)

    def drifted(self, partitions_of: Mapping[str, frozenset[InputPartition]]) -> list[LeftOut]:
        """The rows of drift intervals, of assets whose rows came from these partitions."""
        return drifted(self.drift, partitions_of, self.alerts.accepted)

    def planned(self, stream: str) -> list[MaintenanceWindow]:
        """The planned stops that were told, of a stream."""
        return [
            MaintenanceWindow.ordered(order) for order in self.orders.values() if order.stream in ("", stream)
        ]

    def notes(self, topic: str, since_ns: int) -> list[str]:
        """What an operator should know of it, where rows from ``since_ns`` on are learned."""
        notes = [
            f"{n} messages of {name} say nothing and were passed over" for name, n in self.unreadable.items()
        ]
        if self.alerts.unreadable:
            notes.append(f"{self.alerts.unreadable} messages of {topic} are no alerts and were passed over")
        if self.alerts.beyond:
            notes.append(
                f"{topic} names more than {MOST_EPISODES} episodes: {self.alerts.beyond} messages more"
            )
        first_ns = self.alerts.first_ns
        if self.alerts_shortened and first_ns > since_ns:
            begins = "holds none" if first_ns == FOREVER else f"begins at {iso(first_ns)}"
            notes.append(
                f"{topic} is kept for less than what is learned, from {iso(since_ns)}: it {begins},"
                " and what alarmed before is learned"
            )
        return notes


async def read_published(connection: KafkaSettings, own: OwnTopics, stream: str) -> Published:
    """Read all of it; no message is kept.

    Raises:
        DaemonError: a topic cannot be read, or does not exist.
    """
    found = Published(AlertedEpisodes(stream))

    def take_drift(message: bytes) -> None:
        record = read_drift(message)
        if record.stream == stream:
            found.drift.append(record)

    def take_control(message: bytes) -> None:
        control = read_checked(message)
        if isinstance(control, Feedback):
            found.verdicts[control.fingerprint] = control.verdict
        elif isinstance(control, MaintenanceOrder):
            found.orders[control.maintenance] = control

    for topic, newest, take in (
        (own.alerts, NEWEST_ALERTS, found.alerts.add),
        (own.drift, NEWEST_DRIFT, take_drift),
        (own.feedback, MOST_VERDICTS, take_control),
    ):
        if topic is None:
            continue
        async with Log.opened(connection, [topic]) as log:
            begin = {p: max(start, log.ends[p] - newest) for p, start in log.starts.items()}
            async for piece in log.pieces(begin, log.ends):
                for record in piece.records:
                    try:
                        take(record.value)
                    except ValueError:
                        found.unreadable[topic] = found.unreadable.get(topic, 0) + 1
            if topic == own.alerts:
                found.alerts_shortened = any(begin.values())
    return found
