"""The history of a replica: rows of the input topics, all partitions, without the rows that alerts name.

``ReplicaHistory`` stays in the consuming process and keeps no rows: it measures now and then how many records the
topics hold and how far event time has come, and describes what a training is to read. That description, a
``TopicHistory``, is sent to the training process, which reads the topics without joining the group and feeds
the records to pipelines without a model. The rows found do not depend on how the readings lie in partitions,
on how much is read at a time, or on which process reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, Log
from daemon.adapters.schemas import provide_schemas
from daemon.assembly import reduces
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    Disposition,
    InputPartition,
    Ints,
    PolledRecords,
    Progress,
    Reading,
    Record,
    Segment,
    StreamSpec,
    iso,
)
from daemon.errors import InputError
from daemon.maintenance import MaintenanceWindow
from daemon.runtime.exclusion import MOST_EPISODES, AlertedEpisodes, exclude_episodes, planned_stops
from daemon.runtime.history import FoundHistory, HistoryNotReady, TrainingHistory
from daemon.runtime.segmenting import FOREVER, between, newest_rows
from daemon.stream.accounts import Counts
from daemon.stream.decode import KnownBirth
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import RowBlock

SAMPLE = 64
"""Records that are read to determine the event time at an offset."""
FEW = 8
"""Records that ``measure`` reads for the same; it runs in the consuming process, which has other work to do."""
SAMPLES = 20
"""Such reads one after the other, where no record can be used."""
READ_PER_CELL = 1_000
"""Values of one sensor in one row that are read, where they are reduced to one; where there are more, fewer rows are."""
JUDGED_WITHIN_S = 60.0
"""How long a training waits for the group to judge the records that it is about to learn."""
NEWEST_ALERTS = 1_000_000
"""Alert messages that are read of one partition."""


@dataclass(frozen=True, slots=True)
class TopicHistory:
    """How to read the rows of a stream's input topics, all partitions, without joining a group.

    Holds no rows; it is pickled and sent to the training process.

    Args:
        connection: to Kafka; the commits of its group show which records are judged.
        spec: the stream.
        rows: how many rows are wanted.
        oldest: read the oldest observed rows that the topics hold, rather than the newest.
        least: fewer observed rows are too few.
        until_ns: only rows before this event time; None: up to the end.
        judged: wait until the group has judged the rows, because only then their alerts are published.
        alerts: the alerts topic, whose episodes are excluded; None: nothing is excluded.
        max_record_bytes, max_asset_bytes, max_assets: see the configuration's ``limits``.
        planned: stops whose rows are left out.
        births: of Sparkplug, what partitions have named before the records that will be read.
    """

    connection: KafkaSettings
    spec: StreamSpec
    rows: int
    oldest: bool = False
    least: int = 0
    until_ns: int | None = None
    judged: bool = False
    alerts: str | None = None
    max_record_bytes: int = 1 << 20
    max_asset_bytes: int = 256
    max_assets: int = 100_000
    planned: Sequence[MaintenanceWindow] = ()
    births: Mapping[InputPartition, Sequence[KnownBirth]] = field(default_factory=dict)

    def knowing(self, births: Mapping[InputPartition, Sequence[KnownBirth]]) -> TopicHistory:
        """See ``RecordHistory``."""
        return replace(self, births=births)

    def read(self, progress: Progress) -> FoundHistory:
        """See ``UnreadHistory``."""
        return asyncio.run(self.found(progress))

    async def found(self, progress: Progress) -> FoundHistory:
        """Read the history.

        Raises:
            HistoryNotReady: there are too few rows, or the group has not judged them yet.
            InputError: the topics hold nothing.
            DaemonError: they cannot be read, or their schemas not be fetched.
        """
        names = ", ".join(self.spec.topics)
        progress(0.0, "reading the input topics")
        async with Log.opened(self.connection, self.spec.topics) as log:
            ends = log.ends if self.until_ns is None else await self._ends_before(log, self.until_ns)
            if self.judged:
                await self._await_judged(log, ends)
            read = await self._read_rows(log, ends, progress)
        records = read.counts.records.total()
        if not records and not self.least:
            raise InputError(f"topic {names} holds no records to learn from")
        observed = _observed_rows(read.segments)
        if len(observed) < self.least:
            raise HistoryNotReady(f"topic {names} holds {len(observed)} rows yet, {self.least} are wanted")
        until_ns = self.until_ns
        if self.oldest:
            stop = _first_rows_end(observed, self.rows)
            segments = between(read.segments, -FOREVER, stop)
            until_ns = stop * self.spec.period_ns
        else:
            segments = newest_rows(read.segments, self.rows)
        notes: list[str] = []
        left_out = 0
        if self.alerts is not None and segments:
            alerts = AlertedEpisodes(self.spec.name)
            notes = await self._read_alerts(alerts, min(s.first_row for s in segments) * self.spec.period_ns)
            segments, left_out = exclude_episodes(segments, alerts.episodes(), self.spec)
        stops = planned_stops(segments, self.planned, self.spec)
        segments, in_stops = exclude_episodes(segments, stops, self.spec)
        left_out += in_stops
        unused = {str(d): n for d, n in read.counts.records.items() if n and d is not Disposition.ACCEPTED}
        return FoundHistory(segments, until_ns, tuple(notes), records, unused, left_out, read.counts)

    # -------------------------------------------------------------- how far
    @property
    def _settled_ns(self) -> int:
        """By how much event time must have passed a row for it to be complete."""
        return self.spec.allowed_lateness_ns + self.spec.period_ns

    def _decoder(self) -> Decoder:
        return Decoder(self.spec, self.max_record_bytes, self.max_asset_bytes)

    async def _ends_before(self, log: Log, until_ns: int) -> dict[InputPartition, int]:
        """Per partition an offset after all readings from before ``until_ns``, by bisection.

        Event times rise along a partition but for the allowed lateness. The median of a few readings gives the
        event time at an offset even if one of them is wrong. Record timestamps would not do: in a topic that
        was filled later they are the time of filling.
        """
        when_ns, decoder = until_ns + self._settled_ns, self._decoder()
        low, high = dict(log.starts), dict(log.ends)
        while places := {p: (low[p] + high[p]) // 2 for p in low if high[p] - low[p] > SAMPLE}:
            times = await _times_at(log, places, decoder)
            for p, middle in places.items():
                found_ns = times.get(p)
                if found_ns is None or found_ns >= when_ns:
                    high[p] = middle
                else:
                    low[p] = middle + 1
        return high

    async def _await_judged(self, log: Log, ends: Mapping[InputPartition, int]) -> None:
        """Wait until the group's commits have passed ``ends``; partitions without a commit are ignored.

        Raises:
            HistoryNotReady: they do not within a minute.
        """
        deadline = time.monotonic() + JUDGED_WITHIN_S
        while True:
            reached = await kafka.committed(self.connection, list(ends))
            behind = {p: at for p, at in reached.items() if at < ends[p]}
            # Transaction markers may follow the last record; they are never judged.
            ahead = await log.some(behind, 1) if behind else {}
            behind = {p: at for p, at in behind.items() if any(r.offset < ends[p] for r in ahead[p])}
            if not behind:
                return
            if time.monotonic() > deadline:
                p, at = next(iter(behind.items()))
                raise HistoryNotReady(
                    f"{p.topic}/{p.number} is judged up to offset {at} only, and {ends[p]} is wanted"
                )
            await asyncio.sleep(1.0)

    # -------------------------------------------------------------- rows
    async def _read_rows(self, log: Log, ends: Mapping[InputPartition, int], progress: Progress) -> _ReadRows:
        """The rows of pieces at the partitions' ends (or starts), which grow until they hold enough rows.

        The rows do not depend on how much is read: it is enough only when every partition was read from so
        long before the first wanted row that no pipeline state from before could change it.
        """
        spec = self.spec
        most = 4 * self.rows * (len(spec.sensors) if spec.gathers else 1)
        each = max(most // (2 * len(ends)), 1_000)
        most *= READ_PER_CELL if reduces(spec) else 1
        while True:
            if self.oldest:
                begin = dict(log.starts)
                stop = {p: min(end, begin[p] + each) for p, end in ends.items()}
            else:
                begin = {p: max(log.starts[p], end - each) for p, end in ends.items()}
                stop = dict(ends)
            read = await self._feed(log, begin, stop, progress)
            if each >= most or self._enough(log, ends, read):
                return read
            each = min(2 * each, most)

    def _enough(self, log: Log, ends: Mapping[InputPartition, int], read: _ReadRows) -> bool:
        """Whether no partition can hold further rows that belong to the wanted ones."""
        period = self.spec.period_ns
        if self.oldest:
            observed = _observed_rows(read.segments)
            wanted_ns = FOREVER
            if len(observed) >= self.rows:
                wanted_ns = _first_rows_end(observed, self.rows) * period + self._settled_ns
            return all(read.stop[p] >= end or read.last_ns.get(p, -1) >= wanted_ns for p, end in ends.items())
        wanted_ns = -FOREVER
        if sum(len(s.values) for s in read.segments) >= self.rows:
            first = min(s.first_row for s in newest_rows(read.segments, self.rows))
            # An asset's rows do not depend on earlier records once its gaps are bridged, its windows are full and
            # no value is held from before.
            reach_ns = self.spec.max_gap_ns + max(rule.hold_ns for rule in self.spec.rules)
            wanted_ns = (first - 2 * self.spec.window) * period - reach_ns - self._settled_ns
        return all(read.begin[p] <= log.starts[p] or read.first_ns.get(p, FOREVER) <= wanted_ns for p in ends)

    async def _feed(
        self,
        log: Log,
        begin: Mapping[InputPartition, int],
        stop: Mapping[InputPartition, int],
        progress: Progress,
    ) -> _ReadRows:
        """Feed records to pipelines without a model, and collect the rows that they release."""
        spec, decoder = self.spec, self._decoder()
        until_row = FOREVER if self.until_ns is None else spec.row(self.until_ns)
        settings = PipelineSettings(spec, AlarmPolicy(), FOREVER, max_assets=self.max_assets)
        pipelines = {p: Pipeline(settings, p, decoder) for p in begin}
        for p, pipeline in pipelines.items():
            if pipeline.births is not None:
                pipeline.births.know(self.births.get(p, ()))
        recent = {p: TrainingHistory(spec, FOREVER) for p in begin}
        ends_of: dict[InputPartition, tuple[list[Record], list[Record]]] = {}

        def take(partition: InputPartition, polled: PolledRecords) -> None:
            for step in pipelines[partition].feed(polled):
                if step.block is not None and (step.block.rows < until_row).any():
                    recent[partition].add(step.block)

        progress(0.0, "reading the input topics")
        async for piece in log.pieces(begin, stop):
            if piece.partition not in ends_of:
                pipelines[piece.partition].offset = piece.records[0].offset
                ends_of[piece.partition] = piece.records[:SAMPLE], []
            await provide_schemas(decoder.schemas, piece.records)
            first, last = ends_of[piece.partition]
            ends_of[piece.partition] = first, [*last, *piece.records[-SAMPLE:]][-SAMPLE:]
            take(piece.partition, PolledRecords(piece.partition, piece.records))
            progress(0.3 * piece.share, "reading the input topics")
        counts = Counts()
        found: list[tuple[str, int, int, Segment]] = []
        for i, p in enumerate(begin):
            take(p, PolledRecords(p, (), ended=True))
            counts += pipelines[p].accounts.counts()
            found += [(s.asset, s.first_row, i, s) for s in recent[p].segments(until_row)]
        # Sorted by asset and time, so that neither partitions nor the order of responses matter.
        found.sort(key=lambda one: one[:3])
        return _ReadRows(
            [one[3] for one in found],
            counts,
            begin,
            stop,
            {p: t for p, (first, _) in ends_of.items() if (t := _time_of(first, decoder)) is not None},
            {p: t for p, (_, last) in ends_of.items() if (t := _time_of(last, decoder)) is not None},
        )

    # -------------------------------------------------------------- alerts
    async def _read_alerts(self, alerts: AlertedEpisodes, since_ns: int) -> list[str]:
        """Read the alerts topic into ``alerts``; returns what an operator should know of it."""
        assert self.alerts is not None
        notes = []
        async with Log.opened(self.connection, [self.alerts]) as log:
            begin = {p: max(start, log.ends[p] - NEWEST_ALERTS) for p, start in log.starts.items()}
            async for piece in log.pieces(begin, log.ends):
                for record in piece.records:
                    alerts.add(record.value)
            shortened = any(begin.values())
        if alerts.unreadable:
            notes.append(f"{alerts.unreadable} messages of {self.alerts} are no alerts and were passed over")
        if alerts.beyond:
            notes.append(
                f"{self.alerts} names more than {MOST_EPISODES} episodes: {alerts.beyond} messages more"
            )
        if shortened and alerts.first_ns > since_ns:
            begins = "holds none" if alerts.first_ns == FOREVER else f"begins at {iso(alerts.first_ns)}"
            notes.append(
                f"{self.alerts} is kept for less than what is learned, from {iso(since_ns)}: it {begins},"
                " and what alarmed before is learned"
            )
        return notes


@dataclass(frozen=True, slots=True, eq=False)
class _ReadRows:
    """The rows of the records between two offsets per partition, and the event times at both ends."""

    segments: list[Segment]
    counts: Counts
    begin: Mapping[InputPartition, int]
    stop: Mapping[InputPartition, int]
    first_ns: Mapping[InputPartition, int]  # event time of the first readings
    last_ns: Mapping[InputPartition, int]


def _observed_rows(history: Sequence[Segment]) -> Ints:
    """The grid rows that hold a value, ascending; one entry per asset."""
    rows = [s.first_row + np.flatnonzero(s.observed.any(1)) for s in history]
    return np.sort(np.concatenate(rows)) if rows else np.empty(0, np.int64)


def _first_rows_end(observed: Ints, wanted: int) -> int:
    """The grid row after the ``wanted``-th of the observed ones, or after the last."""
    return int(observed[min(wanted, len(observed)) - 1]) + 1 if len(observed) else 0


def _time_of(records: Sequence[Record], decoder: Decoder) -> int | None:
    """The median event time of records; None if none can be used.

    Where records can only be understood with earlier ones, their own times do.
    """
    times = sorted(r.time_ns for r in decoder.decode_all(records) if isinstance(r, Reading))
    if not times and decoder.new_births() is not None:
        times = sorted(r.timestamp_ns for r in records if r.timestamp_ns >= 0)
    return times[len(times) // 2] if times else None


async def _times_at(
    log: Log, places: Mapping[InputPartition, int], decoder: Decoder
) -> dict[InputPartition, int]:
    """Per partition the event time at an offset, or at the next records that can be used."""
    times: dict[InputPartition, int] = {}
    left = dict(places)
    for _ in range(SAMPLES):
        if not left:
            break
        for p, records in (await log.some(left, SAMPLE)).items():
            await provide_schemas(decoder.schemas, records)
            found_ns = _time_of(records, decoder)
            if found_ns is not None:
                times[p] = found_ns
            if found_ns is not None or not records:
                del left[p]
            else:
                left[p] = records[-1].offset + 1
    return times


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
        alerts: the alerts topic.
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
        alerts: str,
        limits: tuple[int, int, int] = (1 << 20, 256, 100_000),
    ) -> None:
        self.event_time_ns = -1
        self._connection = connection
        self._spec = spec
        self._rows = rows
        self._oldest = oldest
        self._alerts = alerts
        self._limits = limits
        self._planned: Sequence[MaintenanceWindow] = ()
        self._records = 0

    def add(self, block: RowBlock) -> None:
        """See ``History``; the topics have these rows."""

    def alerted(self, events: Iterable[AlertEvent]) -> None:
        """See ``History``: the alerts topic has them."""

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
            self._alerts,
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
            self._alerts,
            *self._limits,
            self._planned,
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
            if (time_ns := _time_of(records, decoder)) is not None:
                times.append(time_ns)
            await asyncio.sleep(0)  # a topic may have thousands of partitions, and the loop must go on
        if times:
            self.event_time_ns = sorted(times)[(len(times) - 1) // 2]
