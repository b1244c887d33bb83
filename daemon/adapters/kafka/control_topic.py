"""The topic of control messages: all that were ever written to it, and what is added.

People and scripts write to it, with keys or without, so it is not compacted and nothing of it is deleted: it is also the
record of who said what. One partition, so that all readers see one order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from aiokafka import (
    ConsumerRecord,
)

from daemon.adapters.kafka.failures import UnreachableError
from daemon.adapters.kafka.following import Follower
from daemon.adapters.kafka.settings import KafkaSettings
from daemon.adapters.kafka.topics import topic_shapes
from daemon.adapters.kafka.values import Entry, Message, TopicSpec
from daemon.adapters.kafka.writing import Writer
from daemon.adapters.telemetry import Throttle
from daemon.control import Control, Feedback, MaintenanceOrder, Received, written
from daemon.maintenance import read_checked

log = structlog.get_logger(__name__)

MOST = 20_000
"""Messages that are held, the newest."""
SEND_S = 15.0
"""For a message to be written, as for one attempt to connect; the writer itself would try for ever."""
_MS = 1_000_000


class _Placed(Entry, frozen=True, gc=False):
    """A record with its place in the topic, and its time."""

    offset: int = 0
    time_ns: int = 0


class _Records(Follower):
    """Reads records with their offsets."""

    def entry(self, record: ConsumerRecord, partition: int) -> Entry:
        """See ``Follower``."""
        return _Placed(record.key or b"", record.value, partition, record.offset, record.timestamp * _MS)


def feedback_topic(prefix: str) -> TopicSpec:
    """The topic of the control messages, as ``topics --create`` creates it."""
    return TopicSpec(f"{prefix}.feedback", 1, {"cleanup.policy": "delete", "retention.ms": "-1"})


class ControlTopic:
    """The control messages of all streams.

    Args:
        settings: the connection.
        prefix: of the topic.

    Attributes:
        received: all that could be read so far, oldest first.
        end: the position after the last record; 0 before any.
        born_ns: the time of its first record, by which it is told from one that was made anew; -1: it has none.
        refused: records that are no control messages, or of maintenance that cannot be used.
    """

    def __init__(self, settings: KafkaSettings, prefix: str) -> None:
        self.received: list[Received] = []
        self.end = 0
        self.born_ns = -1
        self.refused = 0
        self._begin = 0  # the position of the first record
        self._settings = settings
        self._prefix = prefix
        self.topic = feedback_topic(prefix).name
        self._follower = _Records(settings, self.topic)
        self._throttle = Throttle()
        self._fresh: list[Received] = []

    async def refresh(self) -> Sequence[Received]:
        """Read to the present end of the topic; the messages that are new.

        Raises:
            InputError: the topic does not exist.
            UnreachableError, BrokerError: it cannot be read.
        """
        return await self._read(to_the_end=True)

    async def poll(self) -> Sequence[Received]:
        """The messages that have come since, without a wait."""
        return await self._read(to_the_end=False)

    async def send(self, control: Control) -> None:
        """See ``send``; a reader gets it with its next poll."""
        await send(self._settings, self._prefix, control)

    async def stop(self) -> None:
        """Close the connection."""
        await self._follower.stop()

    async def _read(self, *, to_the_end: bool) -> Sequence[Received]:
        await self._follower.read(self._take, to_the_end=to_the_end)
        fresh, self._fresh = self._fresh, []
        return fresh

    def _take(self, entries: Sequence[Entry]) -> None:
        """Take records; after a reconnect those that were taken before come again, and are left out."""
        for entry in entries:
            assert isinstance(entry, _Placed)
            if self.born_ns < 0 or (entry.offset <= self._begin and entry.time_ns != self.born_ns):
                self.born_ns, self._begin, self.end = entry.time_ns, entry.offset, entry.offset
                self.received.clear()
                self._fresh.clear()
            if entry.offset < self.end:
                continue
            self.end = entry.offset + 1
            try:
                control = read_checked(entry.value or b"")
            except ValueError as error:
                self.refused += 1
                suppressed = self._throttle.admit("refused")
                if suppressed is not None:
                    reason = str(error)[:300]
                    log.warning("control_refused", offset=entry.offset, reason=reason, more=suppressed)
                continue
            received = Received(entry.offset, entry.time_ns, control, self.born_ns)
            self._fresh.append(received)
            self.received.append(received)
        del self.received[:-MOST]
        del self._fresh[:-MOST]


async def send(settings: KafkaSettings, prefix: str, control: Control) -> None:
    """Write a control message, or give up: a person waits for it.

    Raises:
        BrokerError, UnreachableError: it could not be written.
    """
    match control:
        case Feedback():
            key = control.fingerprint
        case MaintenanceOrder():
            key = f"maintenance/{control.maintenance}"
        case _:
            key = f"retrain/{control.retrain}"
    topic = feedback_topic(prefix).name
    await topic_shapes(settings, [topic])  # says at once what the writer would wait for
    writer = Writer(settings)
    try:
        async with asyncio.timeout(SEND_S):
            await writer.write([Message(topic, key.encode(), written(control))])
    except TimeoutError as error:
        raise UnreachableError(
            f"Kafka at {settings.bootstrap_servers} did not confirm the message within {SEND_S:.0f} s;"
            " it may have been written all the same"
        ) from error
    finally:
        await writer.stop()
