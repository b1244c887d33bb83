"""The history of a replica, in the consuming process: it keeps no rows, and knows what trainings are to read.

It measures now and then how many records the topics hold, how far event time has come, and whether the stream drifts:
a replica sees some of the partitions only, and after a restart nothing of the past.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, Log
from daemon.adapters.schemas import provide_schemas
from daemon.domain import AlertEvent, DriftRecord, InputPartition, StreamSpec
from daemon.maintenance import MaintenanceWindow
from daemon.runtime.drift_watch import DriftWatch
from daemon.runtime.places import time_of
from daemon.runtime.published import NEWEST_DRIFT, OwnTopics
from daemon.runtime.shadow import ShadowTally
from daemon.runtime.topic_history import TopicHistory
from daemon.stream.decoding import Decoder
from daemon.stream.encoding import PublishedDrift, read_drift
from daemon.stream.steps import RowBlock

FEW = 8
"""Records that ``measure`` reads for the same; it runs in the consuming process, which has other work to do."""
SAMPLE_SEED = 0
"""Of the sample that half of a retraining is. Always the same: what is learned depends on the topics alone."""
DRIFT_READ, MOST_DRIFT_READ = 8, 5_000
"""Newest messages of the drift topic that are read, for each input partition and at most: three of each are wanted,
between those of other streams."""


class ReplicaHistory:
    """The history of a replica: all records that the stream's input topics hold, in all partitions.

    Keeps no rows. ``measure`` reads how many records the topics hold and how far event time has come, for a
    stream whose partitions in this process show neither.

    Args:
        connection: to Kafka.
        spec: the stream.
        rows: that a retraining takes.
        oldest: a first training takes the oldest rows of the topics (if the group starts there), rather than
            the newest.
        own: the topics of alerts, drift and feedback.
        limits: ``max_record_bytes``, ``max_asset_bytes`` and ``max_assets``.
    """

    lasting = True

    def __init__(
        self,
        connection: KafkaSettings,
        spec: StreamSpec,
        rows: int,
        *,
        oldest: bool,
        own: OwnTopics,
        limits: tuple[int, int, int] = (1 << 20, 256, 100_000),
    ) -> None:
        self.event_time_ns = -1
        self._connection = connection
        self._spec = spec
        self._rows = rows
        self._oldest = oldest
        self._own = own
        self.drift = DriftWatch()
        self.shadow: ShadowTally | None = None
        self._tallied: tuple[ShadowTally, Mapping[InputPartition, int]] | None = None  # up to these offsets
        self._drift_ends: tuple[tuple[InputPartition, int], ...] = ()  # of the drift topic when it was read
        self._limits = limits
        self._planned: Sequence[MaintenanceWindow] = ()
        self._records = 0

    def add(self, block: RowBlock) -> None:
        """See ``History``; the topics have these rows."""

    def alerted(self, events: Iterable[AlertEvent]) -> None:
        """See ``History``: the alerts topic has them."""

    def drifted(self, records: Iterable[DriftRecord]) -> None:
        """See ``History``: the drift topic has them, and those of all other partitions."""

    def holds(self, rows: int) -> bool:
        """See ``History``."""
        per_row = len(self._spec.sensors) if self._spec.gathers else 1
        return self._records >= rows * per_row

    def first(self, rows: int, least: int) -> TopicHistory:
        """See ``History``."""
        wanted = rows if self._oldest else max(rows, self._rows)
        return TopicHistory(
            self._connection,
            self._spec,
            wanted,
            self._oldest,
            least,
            None,
            False,
            self._own,
            *self._limits,
            self._planned,
        )

    def newest(self, until_ns: int) -> TopicHistory:
        """See ``History``."""
        return TopicHistory(
            self._connection,
            self._spec,
            self._rows,
            False,
            0,
            until_ns,
            True,
            self._own,
            *self._limits,
            self._planned,
            sample_seed=SAMPLE_SEED,
        )

    def plan_stops(self, planned: Sequence[MaintenanceWindow]) -> None:
        """See ``History``."""
        self._planned = planned

    async def measure(self) -> None:
        """See ``History``. The event time is the median over the partitions' last readings.

        Raises:
            DaemonError: the topics cannot be read now.
        """
        decoder = Decoder(self._spec, *self._limits[:2])
        async with Log.opened(self._connection, self._spec.topics) as log:
            self._records = sum(log.ends[p] - start for p, start in log.starts.items())
            last = {p: max(start, log.ends[p] - FEW) for p, start in log.starts.items()}
            tails = await log.some(last, FEW)
        times = []
        for records in tails.values():
            await provide_schemas(decoder.schemas, records)
            if (time_ns := time_of(records, decoder)) is not None:
                times.append(time_ns)
            await asyncio.sleep(0)  # a topic may have thousands of partitions, and the loop must go on
        if times:
            self.event_time_ns = sorted(times)[(len(times) - 1) // 2]

    async def measure_drift(self) -> None:
        """See ``History``. Reads the newest messages of the drift topic, some of each input partition.

        Raises:
            DaemonError: the topic cannot be read now.
        """
        if self._own.drift is None:
            return
        inputs = sum((await kafka.check_topics(self._connection, self._spec.topics)).values())
        newest = min(DRIFT_READ * (inputs + FEW), MOST_DRIFT_READ)
        async with Log.opened(self._connection, [self._own.drift]) as log:
            ends = tuple(log.ends.items())
            if ends == self._drift_ends:
                return
            begin = {p: max(start, log.ends[p] - newest) for p, start in log.starts.items()}
            watch = DriftWatch()
            async for piece in log.pieces(begin, log.ends):
                for record in piece.records:
                    try:
                        found = read_drift(record.value)
                    except ValueError:
                        continue
                    if found.stream == self._spec.name:
                        watch.add(found)
            self.drift, self._drift_ends = watch, ends

    async def measure_shadow(self) -> None:
        """See ``History``. Reads on in the drift topic; for a new candidate, the newest ``NEWEST_DRIFT`` messages first.

        Raises:
            DaemonError: the topic cannot be read now.
        """
        tally = self.shadow
        if self._own.drift is None or tally is None:
            return
        read = self._tallied[1] if self._tallied is not None and self._tallied[0] is tally else {}
        parent, found = tally.parent.encode(), list[PublishedDrift]()
        async with Log.opened(self._connection, [self._own.drift]) as log:
            begin = {
                p: max(start, read.get(p, log.ends[p] - NEWEST_DRIFT)) for p, start in log.starts.items()
            }
            async for piece in log.pieces(begin, log.ends):
                for record in piece.records:
                    if parent in record.value:
                        try:
                            found.append(read_drift(record.value))
                        except ValueError:
                            continue
                await asyncio.sleep(0)
            for one in found:
                if one.stream == self._spec.name:
                    tally.add(one)
            self._tallied = tally, dict(log.ends)
