"""What became of every training: one JSON message each in ``<prefix>.retrain``, for ever.

It is the record of why a stream has the model that it has, and how replicas know which control messages were answered.
A decision on a candidate that was promoted is written in one transaction with the pointer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from daemon.adapters.kafka import (
    Entry,
    FencedWriter,
    Follower,
    KafkaSettings,
    Message,
    TopicSpec,
    TransactionFailed,
    Writer,
)
from daemon.alert import ShadowCounts
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import event_time_ns

LARGEST = 1 << 20
"""Bytes of a record that is read."""


class TriggerFact(msgspec.Struct, frozen=True):
    """See ``trigger.Trigger``."""

    cause: str
    reason: str = ""
    position: int = -1
    requests: tuple[int, ...] = ()
    of_topic: int = -1


class Span(msgspec.Struct, frozen=True):
    """Event times of the oldest and of the newest row of a training; RFC 3339."""

    start: str
    end: str


class ShadowFact(msgspec.Struct, frozen=True):
    """A candidate judges beside the model in force before it takes over (``promotion.shadow``), or has done so."""

    since: str  # event time; RFC 3339
    until: str
    over: bool = False
    counts: ShadowCounts | None = None  # when it is over; None: they are not known
    void: bool = False  # it is over, and nothing was decided: another model was put in force meanwhile
    pointer: str | None = None  # the promoted version when it began; empty: none; None: the parent

    @property
    def since_ns(self) -> int:
        """``since`` in ns."""
        return event_time_ns(self.since)

    @property
    def until_ns(self) -> int:
        """``until`` in ns."""
        return event_time_ns(self.until)


class DecisionRecord(msgspec.Struct, frozen=True):
    """What became of a training: of one whose candidate goes into shadow a first record, and another when that is over."""

    stream: str
    trigger: TriggerFact
    promoted: bool
    reason: str
    time: str  # at which it was made; RFC 3339
    version: str = ""  # of the candidate; empty: there is none
    parent: str = ""  # the version in use when the training began; empty: none
    rules: tuple[dict[str, Any], ...] = ()  # of the gate, see ``decision.Rule``
    span: Span | None = None
    until: str = ""  # the event time that it learned up to; RFC 3339
    rows: int = 0
    left_out: dict[str, int] = {}  # cells with a value, not rows: by why they were not learned
    concerns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # of the history
    seconds: float = 0.0
    shadow: ShadowFact | None = None  # None: there is none

    @property
    def in_shadow(self) -> bool:
        """Whether the candidate goes into shadow with this record."""
        return self.shadow is not None and not self.shadow.over

    @property
    def until_ns(self) -> int | None:
        """``until`` in ns; None if it is none."""
        try:
            return event_time_ns(self.until)
        except RejectedError:
            return None

    @staticmethod
    def read(message: bytes) -> DecisionRecord:
        """The record in these bytes.

        Raises:
            ValueError: it is none.
        """
        if len(message) > LARGEST:
            raise ValueError(f"{len(message)} bytes, more than the {LARGEST} allowed")
        try:
            record = msgspec.json.decode(message, type=DecisionRecord)
            if record.shadow is not None and record.shadow.until_ns <= record.shadow.since_ns:
                raise ValueError("a shadow that ends when it begins, or before")
        except (msgspec.MsgspecError, RecursionError, RejectedError) as error:
            raise ValueError(str(error)) from error
        return record

    def written(self) -> bytes:
        """The inverse of ``read``."""
        return msgspec.json.encode(self)


def candidate_after(known: DecisionRecord | None, record: DecisionRecord) -> DecisionRecord | None:
    """Which candidate of a stream is in shadow after one more of its decisions.

    It is over with the next decision on that candidate, or with one that promotes another or puts it into shadow. Beside
    that, it is void where the model in force is not its parent.
    """
    if record.in_shadow:
        return record
    over = known is not None and (record.promoted or record.version == known.version)
    return None if over else known


def retrain_topic(prefix: str) -> TopicSpec:
    """The topic of the decisions, as ``topics --create`` creates it."""
    return TopicSpec(f"{prefix}.retrain", 1, {"cleanup.policy": "delete", "retention.ms": "-1"})


class Decisions:
    """The decisions on all streams in ``<prefix>.retrain``.

    Args:
        settings: the connection.
        prefix: of the topic.
        fenced: by transactions, so that of two processes that train one stream the one that began last decides; else
            both may.

    ``unreadable`` counts messages that are no decisions.
    """

    def __init__(self, settings: KafkaSettings, prefix: str, *, fenced: bool = True) -> None:
        self.topic = retrain_topic(prefix).name
        self.unreadable = 0
        self._settings = settings
        self._follower = Follower(settings, self.topic)
        self._plain = None if fenced else Writer(settings)
        self._fenced: dict[str, FencedWriter] = {}

    async def take_over(self, stream: str) -> None:
        """Decide on this stream from now on: whoever did before is fenced.

        Raises:
            UnreachableError, BrokerError: it cannot be done (now).
        """
        if self._plain is None:
            # As of an input partition, <group>-<topic>-<number>, so that one rule on a prefix covers both.
            writer = FencedWriter(self._settings, f"{self._settings.group_id}-{self.topic}-{stream}")
            await writer.start()
            await self._release(stream)
            self._fenced[stream] = writer

    async def write(self, record: DecisionRecord, *pointer: Message) -> None:
        """Write a decision, and the pointer to what it promotes, both or neither.

        Raises:
            TransactionFailed: nothing was written, or the outcome is unknown; ``fenced`` if another process has taken over.
            BrokerError: see ``Writer.write``.
        """
        messages = [*pointer, Message(self.topic, record.stream.encode(), record.written(), (), 0)]
        if self._plain is not None:
            await self._plain.write(messages)
            return
        writer = self._fenced.get(record.stream)
        if writer is None:
            raise TransactionFailed("this process does not decide", fenced=True)
        try:
            await writer.write(messages)
        finally:
            await self._release(record.stream)

    async def _release(self, stream: str) -> None:
        writer = self._fenced.pop(stream, None)
        if writer is not None:
            await writer.stop()

    async def new(self, *, to_the_end: bool = False) -> list[DecisionRecord]:
        """The decisions since the last call; after a reconnect all of them come again.

        Args:
            to_the_end: up to the present end of the topic; else only what is there without a wait.

        Raises:
            InputError: the topic does not exist.
            UnreachableError, BrokerError: it cannot be read (now).
        """
        found: list[DecisionRecord] = []

        def take(entries: Sequence[Entry]) -> None:
            for entry in entries:
                try:
                    found.append(DecisionRecord.read(entry.value or b""))
                except ValueError:
                    self.unreadable += 1

        await self._follower.read(take, to_the_end=to_the_end)
        return found

    async def stop(self) -> None:
        """Close the connections."""
        await self._follower.stop()
        for stream in list(self._fenced):
            await self._release(stream)
        if self._plain is not None:
            await self._plain.stop()

    def close(self) -> None:
        """End a write that waits for a broker (SIGTERM)."""
        if self._plain is not None:
            self._plain.close()
