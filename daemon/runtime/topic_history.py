"""A history read from topics: rows of a stream's inputs, all partitions, without the rows that alerts name.

A ``TopicHistory`` describes what a training is to read. It is sent to the training process, which reads the topics
without joining the group and feeds the records to pipelines without a model. The rows found do not depend on how the
readings lie in partitions, on how much is read at a time, or on which process reads.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, Log
from daemon.adapters.schemas import provide_schemas
from daemon.assembly import reduces
from daemon.control import Verdict
from daemon.domain import (
    AlarmPolicy,
    Disposition,
    InputPartition,
    Ints,
    PolledRecords,
    Progress,
    Record,
    Segment,
    StreamSpec,
    iso,
)
from daemon.errors import InputError
from daemon.maintenance import MaintenanceWindow
from daemon.model.golden_incidents import LEAD, MOST_INCIDENTS, MOST_ROWS, GoldenIncident, incident_of
from daemon.runtime.exclusion import beyond_share, exclude_episodes, planned_stops
from daemon.runtime.history import FoundHistory, HistoryNotReady, TrainingHistory
from daemon.runtime.places import SAMPLE, Places, time_of
from daemon.runtime.published import NOTHING, OwnTopics, Published, read_published
from daemon.runtime.reservoir import (
    BLOCKS,
    HOUR_NS,
    block_length,
    joined,
    ranked_blocks,
    spread_over_conditions,
)
from daemon.runtime.segmenting import FOREVER, between, newest_rows
from daemon.stream.accounts import Counts
from daemon.stream.decode import KnownBirth
from daemon.stream.decoding import Decoder
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline

READ_PER_CELL = 1_000
"""Values of one sensor in one row that are read, where they are reduced to one; where there are more, fewer rows are."""
JUDGED_WITHIN_S = 60.0
"""How long a training waits for the group to judge the records that it is about to learn."""


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
        own: the topics of alerts, drift and verdicts, by which rows are excluded; without them nothing is.
        max_record_bytes, max_asset_bytes, max_assets: see the configuration's ``limits``.
        planned: stops whose rows are left out.
        births: of Sparkplug, what partitions have named before the records that will be read.
        golden: confirmed episodes, by fingerprint, whose rows are kept already.
        sample_seed: of a sample, of as many rows, of all that the topics hold from before the newest (see ``reservoir``);
            None: without one.
    """

    connection: KafkaSettings
    spec: StreamSpec
    rows: int
    oldest: bool = False
    least: int = 0
    until_ns: int | None = None
    judged: bool = False
    own: OwnTopics = NOTHING
    max_record_bytes: int = 1 << 20
    max_asset_bytes: int = 256
    max_assets: int = 100_000
    planned: Sequence[MaintenanceWindow] = ()
    births: Mapping[InputPartition, Sequence[KnownBirth]] = field(default_factory=dict)
    golden: frozenset[str] = frozenset()
    sample_seed: int | None = None

    def knowing(
        self, births: Mapping[InputPartition, Sequence[KnownBirth]], golden: frozenset[str]
    ) -> TopicHistory:
        """See ``RecordHistory``."""
        return replace(self, births=births, golden=golden)

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
            places = Places(log, self._decoder())
            ends: Mapping[InputPartition, int] = log.ends
            if self.until_ns is not None:
                ends = (await places.around(self.until_ns + self._settled_ns))[1]
            if self.judged:
                await self._await_judged(log, ends)
            read = await self._read_rows(log, ends, progress)
            records = read.counts.records.total()
            if not records and not self.least:
                raise InputError(f"topic {names} holds no records to learn from")
            observed = _observed_rows(read.segments)
            if len(observed) < self.least:
                raise HistoryNotReady(
                    f"topic {names} holds {len(observed)} rows yet, {self.least} are wanted"
                )
            until_ns = self.until_ns
            if self.oldest:
                stop = _first_rows_end(observed, self.rows)
                segments = between(read.segments, -FOREVER, stop)
                until_ns = stop * self.spec.period_ns
            else:
                segments = newest_rows(read.segments, self.rows)
            found = FoundHistory(segments, until_ns, (), records, read.unused, counts=read.counts)
            if not segments:
                return found
            published = await read_published(self.connection, self.own, self.spec.name)
            sampled: list[str] = []
            recent_row = -FOREVER
            if self.sample_seed is not None and not self.oldest and not self.births:
                recent_row = min(s.first_row for s in segments)
                segments, sampled = await self._with_sample(log, places, segments, published)
            golden, missing = await self._golden(log, places, published, read)
        notes = published.notes(
            self.own.alerts or "", min(s.first_row for s in segments) * self.spec.period_ns
        )
        kept, left_out, more = self._without_excluded(segments, published, read.partitions_of)
        if missing:
            notes.append(
                f"{missing} confirmed incidents are not in the topics any more, or are too short to be kept"
            )
        return replace(
            found,
            segments=kept,
            sampled=_rows(between(kept, -FOREVER, recent_row)),
            notes=(*sampled, *notes, *more),
            left_out=left_out,
            golden=golden,
            called_normal_ns=published.alerts.called_normal_ns(published.verdicts),
            newest_from_row=recent_row,
            let_in_ns=published.alerts.let_in_ns(published.verdicts),
            dismissed=frozenset(f for f, v in published.verdicts.items() if v is not Verdict.CONFIRMED),
        )

    async def _with_sample(
        self, log: Log, places: Places, newest: Sequence[Segment], published: Published
    ) -> tuple[list[Segment], list[str]]:
        """The newest rows and a sample of as many from before them, and what share each has.

        The sample is smaller where the topics hold less, or reading more would be too much.
        """
        spec, wanted, seed = self.spec, self.rows, self.sample_seed or 0
        first = min(s.first_row for s in newest)
        span = max(s.first_row + len(s.values) for s in newest) - first
        length = block_length(spec, wanted, _rows(newest) / span * HOUR_NS / spec.period_ns)
        begin_ns = await places.first_ns()
        if length is None or begin_ns is None:
            return list(newest), []
        if published.alerts_shortened:  # nobody knows what alarmed before
            begin_ns = max(begin_ns, published.alerts.first_ns)
        enough, left = wanted * (2 if spec.condition else 1), 2 * self._most_records
        blocks: list[Sequence[Segment]] = []
        for at in ranked_blocks(spec.row(begin_ns), first, length, spec.period_ns, seed)[: 4 * BLOCKS]:
            if left <= 0 or sum(map(_rows, blocks)) >= enough:
                break
            found, records = await self._span(log, places, at, at + length)
            left -= records
            blocks += [found] if found else []
        chosen = spread_over_conditions(blocks, wanted) if spec.condition else blocks
        total = sum(map(_rows, chosen))
        if not total:
            return list(newest), []
        note = (
            f"{total} rows are a sample of all from {iso(begin_ns)} on, in {len(chosen)} pieces, and"
            f" {_rows(newest)} the newest, from {iso(first * spec.period_ns)} on"
        )
        return joined([*chosen, newest]), [note]

    async def _golden(
        self, log: Log, places: Places, published: Published, read: _ReadRows
    ) -> tuple[list[GoldenIncident], int]:
        """The confirmed incidents that the incumbent does not have yet, and how many could not be found."""
        found: list[GoldenIncident] = []
        spec, missing = self.spec, 0
        for one in published.alerts.confirmed(published.verdicts)[-MOST_INCIDENTS:]:
            if one.fingerprint in self.golden:
                continue
            onset, last = spec.row(one.onset_ns), spec.row(one.row_ns)
            rows = [segment for segment in read.segments if segment.asset == one.asset]
            made = incident_of(one.fingerprint, rows, onset, last, spec.window)
            if made is None:
                stop = min(last + 1, onset + MOST_ROWS)
                far, _ = await self._span(log, places, onset - LEAD * spec.window, stop)
                rows = [segment for segment in far if segment.asset == one.asset]
                made = incident_of(one.fingerprint, rows, onset, last, spec.window)
            if made is None:
                missing += 1
            else:
                found.append(made)
        return found, missing

    def _without_excluded(
        self,
        segments: Sequence[Segment],
        published: Published,
        partitions_of: Mapping[str, frozenset[InputPartition]],
    ) -> tuple[list[Segment], Counter[str], list[str]]:
        """What may be learned, how many values were left out by cause, and what an operator should know."""
        notes: list[str] = []
        spec = self.spec
        kept, left_out = exclude_episodes(segments, published.left_out(), spec)
        steady, of_drift = exclude_episodes(kept, published.drifted(partitions_of), spec)
        if of_drift and 2 * _rows(steady) < _rows(kept):
            # What has lasted for most of a history is no passing state: there is little else to learn. The gate
            # decides, and the anchor of the model's line.
            notes.append("drift has lasted for most of the history: its rows are learned, too")
        else:
            kept, left_out = steady, left_out + of_drift
        repeated = beyond_share(kept, published.alerts.let_in(published.verdicts), spec)
        kept, of_share = exclude_episodes(kept, repeated, spec)
        stops = planned_stops(kept, [*self.planned, *published.planned(spec.name)], spec)
        kept, of_stops = exclude_episodes(kept, stops, spec)
        return kept, left_out + of_share + of_stops, notes

    # -------------------------------------------------------------- how far
    @property
    def _settled_ns(self) -> int:
        """By how much event time must have passed a row for it to be complete."""
        return self.spec.allowed_lateness_ns + self.spec.period_ns

    def _read_from_ns(self, row: int) -> int:
        """The event time from which on records must be read for a row.

        An asset's rows do not depend on earlier records once its gaps are bridged, its windows are full and no value is
        held from before.
        """
        spec = self.spec
        reach_ns = spec.max_gap_ns + max(rule.hold_ns for rule in spec.rules)
        return (row - 2 * spec.window) * spec.period_ns - reach_ns - self._settled_ns

    @property
    def _most_records(self) -> int:
        """Of what is read at once, where no values are reduced."""
        return 4 * self.rows * (len(self.spec.sensors) if self.spec.gathers else 1)

    def _decoder(self) -> Decoder:
        return Decoder(self.spec, self.max_record_bytes, self.max_asset_bytes)

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
        until_row = FOREVER if self.until_ns is None else spec.row(self.until_ns)
        most = self._most_records
        each = max(most // (2 * len(ends)), 1_000)
        most *= READ_PER_CELL if reduces(spec) else 1
        while True:
            if self.oldest:
                begin = dict(log.starts)
                stop = {p: min(end, begin[p] + each) for p, end in ends.items()}
            else:
                begin = {p: max(log.starts[p], end - each) for p, end in ends.items()}
                stop = dict(ends)
            read = await self._feed(log, begin, stop, progress, until_row)
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
            wanted_ns = self._read_from_ns(first)
        return all(read.begin[p] <= log.starts[p] or read.first_ns.get(p, FOREVER) <= wanted_ns for p in ends)

    async def _span(self, log: Log, places: Places, first: int, stop: int) -> tuple[list[Segment], int]:
        """Rows ``first .. stop - 1`` of all assets, wherever they are, and how many records were read for them.

        None where that is too much to read.
        """
        begin, _ = await places.around(self._read_from_ns(first))
        _, end = await places.around(stop * self.spec.period_ns + self._settled_ns)
        most = self._most_records * (READ_PER_CELL if reduces(self.spec) else 1)
        records = sum(end[p] - at for p, at in begin.items())
        if records > most:
            return [], 0
        read = await self._feed(log, begin, end, lambda share, doing: None, stop)
        return between(read.segments, first, stop), records

    async def _feed(
        self,
        log: Log,
        begin: Mapping[InputPartition, int],
        stop: Mapping[InputPartition, int],
        progress: Progress,
        until_row: int,
    ) -> _ReadRows:
        """Feed records to pipelines without a model, and collect the rows before ``until_row`` that they release."""
        spec, decoder = self.spec, self._decoder()
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
        partitions_of: dict[str, frozenset[InputPartition]] = {}
        for i, p in enumerate(begin):
            take(p, PolledRecords(p, (), ended=True))
            counts += pipelines[p].accounts.counts()
            mine = recent[p].segments(until_row)
            found += [(s.asset, s.first_row, i, s) for s in mine]
            for segment in mine:
                partitions_of[segment.asset] = partitions_of.get(segment.asset, frozenset()) | {p}
        # Sorted by asset and time, so that neither partitions nor the order of responses matter.
        found.sort(key=lambda one: one[:3])
        return _ReadRows(
            [one[3] for one in found],
            counts,
            begin,
            stop,
            {p: t for p, (first, _) in ends_of.items() if (t := time_of(first, decoder)) is not None},
            {p: t for p, (_, last) in ends_of.items() if (t := time_of(last, decoder)) is not None},
            partitions_of,
        )


@dataclass(frozen=True, slots=True, eq=False)
class _ReadRows:
    """The rows of the records between two offsets per partition, and the event times at both ends."""

    segments: list[Segment]
    counts: Counts
    begin: Mapping[InputPartition, int]
    stop: Mapping[InputPartition, int]
    first_ns: Mapping[InputPartition, int]  # event time of the first readings
    last_ns: Mapping[InputPartition, int]
    partitions_of: Mapping[str, frozenset[InputPartition]]  # per asset

    @property
    def unused(self) -> dict[str, int]:
        """Records that gave no row, by disposition."""
        return {str(d): n for d, n in self.counts.records.items() if n and d is not Disposition.ACCEPTED}


def _rows(history: Sequence[Segment]) -> int:
    return sum(len(segment.values) for segment in history)


def _observed_rows(history: Sequence[Segment]) -> Ints:
    """The grid rows that hold a value, ascending; one entry per asset."""
    rows = [s.first_row + np.flatnonzero(s.observed.any(1)) for s in history]
    return np.sort(np.concatenate(rows)) if rows else np.empty(0, np.int64)


def _first_rows_end(observed: Ints, wanted: int) -> int:
    """The grid row after the ``wanted``-th of the observed ones, or after the last."""
    return int(observed[min(wanted, len(observed)) - 1]) + 1 if len(observed) else 0
