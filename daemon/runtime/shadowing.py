"""Which candidate of each stream is in shadow, by the decisions that all replicas read, and what is decided on it.

A candidate that has passed the gate goes into shadow with a decision that says so; its bundle is in the registry by then.
Every replica that reads the decision lets it judge in its partitions, and after a restart again. The shadow is over with the
next decision on that candidate, or with one that promotes another or puts it into shadow; and it is void as soon as the model
in force is another than the one that it was compared with: then somebody has promoted one, this candidate perhaps, or rolled
back. What is decided when its time is over, and that a void one is over, is published by the replica that trains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.adapters.registry import DecisionRecord, candidate_after, now_text
from daemon.adapters.telemetry import Reporter, ShadowNow
from daemon.errors import BundleError
from daemon.model.bundle import Bundle
from daemon.runtime.deciding import out_of_shadow, void_shadow
from daemon.runtime.models import Models
from daemon.runtime.pauses import Pauses
from daemon.runtime.stream_run import StreamRun

AGAIN_S = 30.0
"""Until a decision that could not be published is tried again."""


@dataclass(frozen=True, slots=True, eq=False)
class ShadowEnd:
    """A decision on a candidate in shadow that is to be published."""

    record: DecisionRecord
    bundle: bytes | None  # of the candidate; None: it does not judge here any more


class Shadowing:
    """The candidates in shadow of all streams of one loop.

    Args:
        streams: whose candidates.
        models: the registry; None: decisions are made in this process only.
        reporter: receives what happens.
        pauses: for long work.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        streams: Sequence[StreamRun],
        models: Models | None,
        reporter: Reporter,
        pauses: Pauses,
        clock: Callable[[], float],
    ) -> None:
        self._streams = streams
        self._models = models
        self._reporter = reporter
        self._pauses = pauses
        self._clock = clock
        self._records: dict[str, DecisionRecord | None] = {}  # by stream: the candidate that is in shadow
        self._over: set[tuple[str, str, str]] = set()  # shadows that were ended here, see ``_begin_of``
        self._unusable: dict[str, str] = {}  # by stream: why that candidate cannot be used here
        self._void: dict[str, str] = {}  # by stream: why its shadow is over without a decision
        self._not_before_s: dict[str, float] = {}  # by stream, on the clock

    def learn(self, record: DecisionRecord, *, own: bool = False) -> None:
        """A decision was made: here (``own``), or it was read, in the order of all; after a reconnect all come again.

        One that was made here is read after it was heard, and perhaps after others that are older: it counts again when it
        is read. Only a shadow that one that was made here has ended does not begin again.
        """
        known = self._records.get(record.stream)
        if record.in_shadow and (record == known or _begin_of(record) in self._over):
            return
        now = candidate_after(known, record)
        if now is not known:
            self._unusable.pop(record.stream, None)
            self._void.pop(record.stream, None)
            if own and known is not None:
                self._over.add(_begin_of(known))
        self._records[record.stream] = now

    def _valid(self, stream: StreamRun) -> DecisionRecord | None:
        """The decision by which a candidate of the stream is to judge now."""
        record = self._records.get(stream.spec.name)
        return record if record is not None and record.parent == stream.version else None

    def end_void(self, stream: StreamRun) -> None:
        """Let no candidate judge that is not in shadow any more."""
        now = self._valid(stream)
        if stream.shadow is not None and stream.shadow.record != now:
            stream.end_shadow()
        if stream.shadow is None:
            self._reporter.controls.shadow_over(stream.spec.name)

    async def follow(self) -> None:
        """Let those candidates judge that are in shadow, and no others.

        Raises:
            DaemonError: the registry cannot be read.
        """
        for stream in self._streams:
            self.end_void(stream)
            record, name = self._valid(stream), stream.spec.name
            if record is None or stream.shadow is not None or name in self._unusable or self._models is None:
                continue
            try:
                bundle = await self._pauses.unless_closing(self._models.kept(name, record.version))
                if bundle is not None:
                    await self.begin(stream, record, bundle)
            except BundleError as error:
                self._unusable[name] = str(error)
                self._reporter.bundle_refused(name, "registry", str(error))

    async def begin(self, stream: StreamRun, record: DecisionRecord, bundle: bytes) -> None:
        """Let a candidate judge beside the model in force.

        Raises:
            BundleError: it cannot be used.
        """
        loaded = await self._pauses.unless_closing(asyncio.to_thread(Bundle.from_bytes, bundle))
        if loaded is None:
            return
        stream.begin_shadow(record, bundle, loaded)
        shadow = stream.shadow
        assert shadow is not None
        tally = shadow.tally
        self._reporter.controls.shadow_begun(
            stream.spec.name,
            ShadowNow(record.version, record.parent, shadow.since_ns, shadow.until_ns, lambda: tally.counts),
        )

    def due(self, stream: StreamRun) -> ShadowEnd | None:
        """What is to be decided now, by this process; None: nothing."""
        name, shadow = stream.spec.name, stream.shadow
        record = self._records.get(name)
        if record is None or not stream.leads or stream.trainer.busy:
            return None
        if self._clock() < self._not_before_s.get(name, 0.0):
            return None
        if record.parent != stream.version:
            reason = f"another model is in use since: {stream.version or 'none'}"
            if record.version == stream.version:
                reason = "it was put in use before its time in shadow was over"
            return ShadowEnd(void_shadow(record, now_text(), reason), None)
        if name in self._void:
            return ShadowEnd(void_shadow(record, now_text(), self._void[name]), None)
        if name in self._unusable:
            return ShadowEnd(out_of_shadow(record, now_text(), reason=self._unusable[name]), None)
        found = stream.shadow_decision()
        if found is None or shadow is None:
            return None
        decided = out_of_shadow(
            record,
            now_text(),
            reason=found.reason,
            promoted=found.promoted,
            rule=found.rule,
            counts=found.counts,
        )
        return ShadowEnd(decided, shadow.bundle)

    def void(self, stream: StreamRun, reason: str) -> None:
        """The candidate cannot be decided on any more: that it is over is due."""
        self._void[stream.spec.name] = reason

    def hold_back(self, stream: StreamRun) -> None:
        """A decision could not be published: nothing is due for a while."""
        self._not_before_s[stream.spec.name] = self._clock() + AGAIN_S


def _begin_of(record: DecisionRecord) -> tuple[str, str, str]:
    """What a shadow is known by: stream, candidate and when it began; the last is empty where there is none."""
    return record.stream, record.version, "" if record.shadow is None else record.shadow.since
