"""What a training learns from.

Two ways lead to it. ``Released``: the rows that this process's pipelines put out, for ``replay`` and
``demo``, where one process sees everything. ``TopicHistory``: the input topics themselves, for
``run`` and ``train -c``: a replica sees some of the partitions only, and after a restart none of the
past, but the topics hold all of it. What is learned then follows from the topics' contents and from
the event time that the training ends at, and from nothing that one process happened to see.

What may not be learned is left out: rows of an episode, together with their neighbours two windows
to either side, else the model learns the fault and the next one of its kind is silent. ``Released``
knows the rows that were firing; from the topics it is the alerts that name them, of whichever
process published them:

* ``anomaly`` (and ``deviation`` and ``regime``): the asset's rows from the onset to the row that
  closed the episode, or to the end while it is open;
* ``sensor_stuck``: the values of that sensor alone; the other sensors were well.

Other kinds say that there were no values, or that the model knows too little: a silence is a gap as
any other, and an unknown condition or a drift is there to be learned. Verdicts of people on episodes
belong into ``Alerts.named``: an episode that is confirmed to be none would go from there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from daemon.adapters import kafka
from daemon.adapters.kafka import KafkaSettings, Log
from daemon.domain import (
    AlarmPolicy,
    AlertKind,
    Disposition,
    Floats,
    Format,
    InputPartition,
    Ints,
    Mask,
    PolledRecords,
    Reading,
    Record,
    Segment,
    StreamSpec,
    iso,
)
from daemon.errors import DaemonError, InputError
from daemon.stream.decoding import Decoder
from daemon.stream.encoding import PublishedAlert, read_alert
from daemon.stream.parts import PipelineSettings
from daemon.stream.pipeline import Pipeline
from daemon.stream.steps import RowBlock

SAMPLE = 64
"""Records that are looked at to tell which event time a place in a partition is of."""
FEW = 8
"""... by the parent, which has other things to do."""
SAMPLES = 20
"""Such looks one after the other, where the records cannot be used."""
JUDGED_WITHIN_S = 60.0
"""How long a training waits for the group to judge what it is about to learn."""
MOST_EPISODES = 100_000
NEWEST_ALERTS = 1_000_000
"""Alert messages that are read of one partition."""
WHOLE_ASSET = frozenset({AlertKind.ANOMALY.value, AlertKind.REGIME.value, "deviation"})
ONE_SENSOR = frozenset({AlertKind.SENSOR_STUCK.value})
FOREVER = 1 << 62

Progress = Callable[[float, str], None]


class NotYet(DaemonError):  # noqa: N818 - nothing has failed: later there will be enough
    """The topics do not hold yet what a training needs, or not all of it is judged."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A history as it was found."""

    segments: Sequence[Segment]
    until_ns: int | None = None  # its event time ends here, if that was asked for or found
    notes: Sequence[str] = ()  # what an operator should know of it
    records: int = 0
    unused: Mapping[str, int] = field(default_factory=dict)  # records without a row, by what became of them
    left_out: int = 0  # cells of rows that alerts name


@runtime_checkable
class Past(Protocol):
    """A history that is yet to be read; it crosses to the training process."""

    def read(self, progress: Progress) -> Found:
        """Read it here and now; blocks.

        Raises:
            NotYet: later.
            DaemonError: it cannot be read.
        """
        ...


class History(Protocol):
    """Where a stream's trainings find what to learn."""

    lasting: bool
    """Whether it is still there after a restart."""
    event_time_ns: int
    """How far the stream has come, as far as this knows; -1 where it does not."""

    def add(self, block: RowBlock) -> None:
        """Take rows that a pipeline released."""
        ...

    def holds(self, rows: int) -> bool:
        """Whether there may be so many observed rows beyond those that were added."""
        ...

    def first(self, rows: int, least: int) -> Sequence[Segment] | Past:
        """For a first training: so many observed rows; fewer than ``least`` are too few."""
        ...

    def newest(self, until_ns: int) -> Sequence[Segment] | Past:
        """For a retraining: the newest rows before an event time."""
        ...

    async def look(self) -> None:
        """Find out anew what ``holds`` and ``event_time_ns`` say."""
        ...


# ------------------------------------------------------------------ rows that were released here
class TrainingHistory:
    """The newest released rows of one stream, with their alarms.

    Args:
        spec: the stream.
        capacity: rows that are kept; beyond it the oldest go.
    """

    def __init__(self, spec: StreamSpec, capacity: int) -> None:
        self.spec = spec
        self.capacity = capacity
        self.rows = 0
        self._blocks: deque[RowBlock] = deque()

    def add(self, block: RowBlock) -> None:
        """Take released rows."""
        self._blocks.append(block)
        self.rows += len(block.rows)
        while self.rows - len(self._blocks[0].rows) >= self.capacity:
            self.rows -= len(self._blocks.popleft().rows)

    def segments(self, until_row: int = FOREVER) -> list[Segment]:
        """The rows before ``until_row`` as training segments; alarms are cut out, gaps beyond max_gap split."""
        if not self._blocks:
            return []
        names = [name for block in self._blocks for name in block.assets]
        conditions = [label for block in self._blocks for label in block.condition]
        rows = np.concatenate([block.rows for block in self._blocks])
        values = np.concatenate([block.values for block in self._blocks])
        firing = np.concatenate([block.firing for block in self._blocks])
        order: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            order.setdefault(name, []).append(i)
        result = []
        for asset in sorted(order):
            which = np.array(order[asset])
            which = which[rows[which] < until_row]
            if not len(which):
                continue
            which = which[np.argsort(rows[which], kind="stable")]
            # Rows that were fed again, after a rewind or a rebalance, come twice: the newer stands, but
            # whoever was not judged the second time (in a silent replay) is no more normal by that.
            new = np.diff(rows[which]) > 0
            alarms = np.logical_or.reduceat(firing[which], np.flatnonzero(np.append(True, new)))
            which = which[np.append(new, True)]
            keep = which[~near(rows[which], alarms, 2 * self.spec.window)]
            result.extend(cut(asset, rows[keep], values[keep], [conditions[i] for i in keep.tolist()]))
        return result


class Released:
    """The history of a process that sees the whole stream: the rows that it released itself."""

    lasting = False
    event_time_ns = -1

    def __init__(self, spec: StreamSpec, capacity: int) -> None:
        self._spec = spec
        self._recent = TrainingHistory(spec, capacity)

    def add(self, block: RowBlock) -> None:
        """See ``History``."""
        self._recent.add(block)

    def holds(self, rows: int) -> bool:
        """See ``History``."""
        return False

    def first(self, rows: int, least: int) -> Sequence[Segment]:
        """See ``History``; all that was released, which the loop's chunks cut at ``rows``."""
        return self._recent.segments()

    def newest(self, until_ns: int) -> Sequence[Segment]:
        """See ``History``."""
        return self._recent.segments(self._spec.row(until_ns))

    async def look(self) -> None:
        """See ``History``."""


def near(rows: Ints, firing: Mask, margin: int) -> Mask:
    """(R,) True for rows within ``margin`` rows of a firing one; ``rows`` ascending."""
    alarms = rows[firing]
    if not len(alarms):
        return np.zeros(len(rows), bool)
    at = np.searchsorted(alarms, rows)
    after = alarms[np.minimum(at, len(alarms) - 1)]
    before = alarms[np.maximum(at - 1, 0)]
    return np.asarray((np.abs(after - rows) <= margin) | (np.abs(rows - before) <= margin))


def cut(asset: str, rows: Ints, values: Floats, conditions: Sequence[str]) -> list[Segment]:
    """Segments of consecutive rows; an absent row starts a new segment.

    The grid puts out empty rows for gaps it bridges, so that an absent row here is either a
    longer gap or an alarm that was cut out, and must not become a neighbour of what follows.
    """
    if not len(rows):
        return []
    bounds = np.flatnonzero(np.diff(rows) != 1) + 1
    conditioned = any(conditions)
    return [
        Segment(
            asset,
            int(rows[part[0]]),
            values[part],
            tuple(conditions[i] for i in part.tolist()) if conditioned else (),
        )
        for part in np.split(np.arange(len(rows)), bounds)
    ]


def part_of(segment: Segment, start: int, stop: int) -> Segment:
    """Rows ``start .. stop - 1`` of a segment, counted from its first."""
    return Segment(
        segment.asset, segment.first_row + start, segment.values[start:stop], segment.condition[start:stop]
    )


def newest_rows(history: Sequence[Segment], wanted: int) -> list[Segment]:
    """The segments from the first event time on behind which at most ``wanted`` rows lie."""
    if sum(len(s.values) for s in history) <= wanted:
        return list(history)
    rows = np.sort(np.concatenate([s.first_row + np.arange(len(s.values)) for s in history]))
    first = int(rows[-wanted])
    if rows[-wanted - 1] == first:
        first += 1  # all of an instant's rows, or none
    return _between(history, first, FOREVER)


def _between(history: Sequence[Segment], first: int, stop: int) -> list[Segment]:
    """What of the segments lies in grid rows ``first .. stop - 1``."""
    kept = []
    for s in history:
        a = min(max(first - s.first_row, 0), len(s.values))
        b = min(max(stop - s.first_row, 0), len(s.values))
        if a < b:
            kept.append(part_of(s, a, b))
    return kept


def ends_at(history: Sequence[Segment], period_ns: int) -> int | None:
    """The event time at which a history ends; None without rows.

    A thousandth of the rows may lie beyond it: a few readings of a clock that is ahead are no history.
    """
    if not history:
        return None
    rows = np.sort(np.concatenate([s.first_row + np.arange(len(s.values)) for s in history]))
    return int(rows[-1 - len(rows) // 1000] + 1) * period_ns


# ------------------------------------------------------------------ the alerts
class Alerts:
    """What the alerts topic says of one stream's episodes, message by message.

    Messages that cannot be read are counted in ``unreadable``, episodes beyond ``MOST_EPISODES`` in
    ``beyond``. Only episodes that keep rows from being learned are kept.
    """

    def __init__(self, stream: str) -> None:
        self.unreadable = 0
        self.beyond = 0
        self.first_ns = FOREVER  # the oldest row that any message speaks of
        self._stream = stream
        self._episodes: dict[str, PublishedAlert] = {}

    def take(self, message: bytes) -> None:
        """Take one message of the topic, of whichever stream; each partition's in their order."""
        try:
            said = read_alert(message)
        except ValueError:
            self.unreadable += 1
            return
        if said.stream != self._stream:
            return
        self.first_ns = min(self.first_ns, said.row_ns)
        if said.kind not in WHOLE_ASSET | ONE_SENSOR:
            return
        known = self._episodes.get(said.fingerprint)
        if known is None and len(self._episodes) >= MOST_EPISODES:
            self.beyond += 1
        elif known is None or not known.over:  # closed once is closed, though a restart says it all again
            self._episodes[said.fingerprint] = said

    def named(self) -> list[PublishedAlert]:
        """The episodes whose rows may not be learned."""
        return list(self._episodes.values())


def without(
    history: Sequence[Segment], episodes: Iterable[PublishedAlert], spec: StreamSpec
) -> tuple[list[Segment], int]:
    """A history without the rows of these episodes, and their neighbours two windows to either side.

    Returns:
        The segments that remain, and how many cells with a value were taken out.
    """
    margin = 2 * spec.window
    spans: dict[str, list[tuple[int, int, int | None]]] = {}
    for e in episodes:
        first = spec.row(e.onset_ns) - margin
        stop = spec.row(e.row_ns) + margin + 1 if e.over else FOREVER
        if e.kind in ONE_SENSOR:
            if e.sensor in spec.sensors:
                spans.setdefault(e.asset, []).append((first, stop, spec.sensors.index(e.sensor)))
        else:
            spans.setdefault(e.asset, []).append((first, stop, None))
    kept: list[Segment] = []
    taken = 0
    for segment in history:
        rows, values = segment.first_row + np.arange(len(segment.values)), segment.values
        keep = np.ones(len(rows), bool)
        for first, stop, sensor in spans.get(segment.asset, ()):
            a, b = np.searchsorted(rows, [first, stop]).tolist()
            if a == b:
                continue
            if sensor is None:
                keep[a:b] = False
                continue
            if values is segment.values:
                values = values.copy()
            taken += int(np.isfinite(values[a:b, sensor]).sum())
            values[a:b, sensor] = np.nan
        if keep.all() and values is segment.values:
            kept.append(segment)
            continue
        taken += int(np.isfinite(values[~keep]).sum())
        labels = segment.condition or ("",) * len(rows)
        kept += cut(
            segment.asset, rows[keep], values[keep], [labels[i] for i in np.flatnonzero(keep).tolist()]
        )
    return kept, taken


# ------------------------------------------------------------------ the topics
@dataclass(frozen=True, slots=True)
class TopicHistory:
    """Rows of a stream's input topics, all partitions, to be read without a group.

    It holds how to read them and no rows: that is what crosses to the training process.

    Args:
        connection: how to reach Kafka; its group's commits tell what has been judged.
        spec: the stream.
        rows: how many rows are wanted.
        oldest: the first observed rows that the topics hold, rather than the newest ones.
        least: fewer observed rows are too few.
        until_ns: the event time before which the rows lie; None: up to the end.
        judged: wait until the group has judged what is about to be learned, as only then its alerts
            are there.
        alerts: the topic that names what may not be learned; None learns everything.
        max_record_bytes, max_asset_bytes, max_assets: see the configuration's ``limits``.
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

    def read(self, progress: Progress) -> Found:
        """See ``Past``."""
        return asyncio.run(self.found(progress))

    async def found(self, progress: Progress) -> Found:
        """Read it.

        Raises:
            NotYet: there are too few rows, or the group has not come far enough.
            InputError: the topics hold nothing.
            DaemonError: they cannot be read.
        """
        names = ", ".join(self.spec.topics)
        progress(0.0, "reading the input topics")
        async with Log.opened(self.connection, self.spec.topics) as log:
            ends = log.ends if self.until_ns is None else await self._ends(log, self.until_ns)
            if self.judged:
                await self._judged(log, ends)
            taken = await self._taken(log, ends, progress)
        read = sum(taken.counts.values())
        if not read and not self.least:
            raise InputError(f"topic {names} holds no records to learn from")
        observed = _observed_rows(taken.segments)
        if len(observed) < self.least:
            raise NotYet(f"topic {names} holds {len(observed)} rows yet, {self.least} are wanted")
        until_ns = self.until_ns
        if self.oldest:
            stop = _first_rows_end(observed, self.rows)
            segments = _between(taken.segments, -FOREVER, stop)
            until_ns = stop * self.spec.period_ns
        else:
            segments = newest_rows(taken.segments, self.rows)
        notes: list[str] = []
        left_out = 0
        if self.alerts is not None and segments:
            alerts = Alerts(self.spec.name)
            notes = await self._alerts(alerts, min(s.first_row for s in segments) * self.spec.period_ns)
            segments, left_out = without(segments, alerts.named(), self.spec)
        unused = {name: n for name, n in taken.counts.items() if n and name != Disposition.ACCEPTED}
        return Found(segments, until_ns, tuple(notes), read, unused, left_out)

    # -------------------------------------------------------------- how far
    @property
    def _settled_ns(self) -> int:
        """Event time after which a row is complete."""
        return self.spec.allowed_lateness_ns + self.spec.period_ns

    def _decoder(self) -> Decoder:
        return Decoder(self.spec, self.max_record_bytes, self.max_asset_bytes)

    async def _ends(self, log: Log, until_ns: int) -> dict[InputPartition, int]:
        """Per partition an offset behind all readings of before ``until_ns``, by bisection.

        Event times go up along a partition but for the allowed lateness; the median of a few readings
        tells which time a place is of, whatever one of them says. Record timestamps would not do:
        those of a topic that was filled later say when that was.
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

    async def _judged(self, log: Log, ends: Mapping[InputPartition, int]) -> None:
        """Wait until the group's commits have passed ``ends``; a partition that it never read is not waited for.

        Raises:
            NotYet: they do not within a minute.
        """
        deadline = time.monotonic() + JUDGED_WITHIN_S
        while True:
            reached = await kafka.committed(self.connection, list(ends))
            behind = {p: at for p, at in reached.items() if at < ends[p]}
            # Behind the last record there may be markers of transactions, which nobody judges.
            ahead = await log.some(behind, 1) if behind else {}
            behind = {p: at for p, at in behind.items() if any(r.offset < ends[p] for r in ahead[p])}
            if not behind:
                return
            if time.monotonic() > deadline:
                p, at = next(iter(behind.items()))
                raise NotYet(
                    f"{p.topic}/{p.number} is judged up to offset {at} only, and {ends[p]} is wanted"
                )
            await asyncio.sleep(1.0)

    # -------------------------------------------------------------- rows
    async def _taken(self, log: Log, ends: Mapping[InputPartition, int], progress: Progress) -> _Taken:
        """The rows of pieces at the partitions' ends (or starts) that grow until they hold what is wanted.

        How much is read does not show in the rows that are wanted: it is enough only when every
        partition was read from ``_warm_ns`` before the first of them on.
        """
        spec = self.spec
        most = 4 * self.rows * (len(spec.sensors) if spec.format is Format.JSON_LONG else 1)
        each = max(most // (2 * len(ends)), 1_000)
        while True:
            if self.oldest:
                begin = dict(log.starts)
                stop = {p: min(end, begin[p] + each) for p, end in ends.items()}
            else:
                begin = {p: max(log.starts[p], end - each) for p, end in ends.items()}
                stop = dict(ends)
            taken = await self._fed(log, begin, stop, progress)
            if each >= most or self._enough(log, ends, taken):
                return taken
            each = min(2 * each, most)

    def _enough(self, log: Log, ends: Mapping[InputPartition, int], taken: _Taken) -> bool:
        """Whether no partition can hold more of the rows that are wanted."""
        period = self.spec.period_ns
        if self.oldest:
            observed = _observed_rows(taken.segments)
            wanted_ns = FOREVER
            if len(observed) >= self.rows:
                wanted_ns = _first_rows_end(observed, self.rows) * period + self._settled_ns
            return all(
                taken.stop[p] >= end or taken.last_ns.get(p, -1) >= wanted_ns for p, end in ends.items()
            )
        wanted_ns = -FOREVER
        if sum(len(s.values) for s in taken.segments) >= self.rows:
            first = min(s.first_row for s in newest_rows(taken.segments, self.rows))
            # An asset's rows are as ever once its gaps are bridged and its windows are over.
            wanted_ns = (first - 2 * self.spec.window) * period - self.spec.max_gap_ns - self._settled_ns
        return all(
            taken.begin[p] <= log.starts[p] or taken.first_ns.get(p, FOREVER) <= wanted_ns for p in ends
        )

    async def _fed(
        self,
        log: Log,
        begin: Mapping[InputPartition, int],
        stop: Mapping[InputPartition, int],
        progress: Progress,
    ) -> _Taken:
        """What a pipeline without a model makes of these records."""
        spec, decoder = self.spec, self._decoder()
        until_row = FOREVER if self.until_ns is None else spec.row(self.until_ns)
        settings = PipelineSettings(spec, AlarmPolicy(), FOREVER, max_assets=self.max_assets)
        pipelines = {p: Pipeline(settings, p, decoder) for p in begin}
        recent = {p: TrainingHistory(spec, FOREVER) for p in begin}
        ends_of: dict[InputPartition, tuple[list[Record], list[Record]]] = {}

        def take(partition: InputPartition, polled: PolledRecords) -> None:
            for step in pipelines[partition].feed(polled):
                if step.block is not None and (step.block.rows < until_row).any():
                    recent[partition].add(step.block)

        async for piece in log.pieces(begin, stop):
            if piece.partition not in ends_of:
                pipelines[piece.partition].offset = piece.records[0].offset
                ends_of[piece.partition] = piece.records[:SAMPLE], []
            first, last = ends_of[piece.partition]
            ends_of[piece.partition] = first, [*last, *piece.records[-SAMPLE:]][-SAMPLE:]
            take(piece.partition, PolledRecords(piece.partition, piece.records))
            progress(0.3 * piece.share, "reading the input topics")
        counts: Counter[str] = Counter()
        found: list[tuple[str, int, int, Segment]] = []
        for i, p in enumerate(begin):
            take(p, PolledRecords(p, (), ended=True))
            counts.update({str(d): n for d, n in pipelines[p].counts.items()})
            found += [(s.asset, s.first_row, i, s) for s in recent[p].segments(until_row)]
        # By asset and time, so that neither the partitions nor the order of the answers show.
        found.sort(key=lambda one: one[:3])
        return _Taken(
            [one[3] for one in found],
            counts,
            begin,
            stop,
            {p: t for p, (first, _) in ends_of.items() if (t := _time_of(first, decoder)) is not None},
            {p: t for p, (_, last) in ends_of.items() if (t := _time_of(last, decoder)) is not None},
        )

    # -------------------------------------------------------------- alerts
    async def _alerts(self, alerts: Alerts, since_ns: int) -> list[str]:
        """Read the alerts topic, and say what is wrong with it."""
        assert self.alerts is not None
        notes = []
        async with Log.opened(self.connection, [self.alerts]) as log:
            begin = {p: max(start, log.ends[p] - NEWEST_ALERTS) for p, start in log.starts.items()}
            async for piece in log.pieces(begin, log.ends):
                for record in piece.records:
                    alerts.take(record.value)
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
class _Taken:
    """The rows of some records: segments by asset and time, and where in the partitions they came from."""

    segments: list[Segment]
    counts: Counter[str]
    begin: Mapping[InputPartition, int]
    stop: Mapping[InputPartition, int]
    first_ns: Mapping[InputPartition, int]  # the event time of the first readings
    last_ns: Mapping[InputPartition, int]


def _observed_rows(history: Sequence[Segment]) -> Ints:
    """The grid rows that hold a value, ascending; one entry per asset that has it."""
    rows = [s.first_row + np.flatnonzero(s.observed.any(1)) for s in history]
    return np.sort(np.concatenate(rows)) if rows else np.empty(0, np.int64)


def _first_rows_end(observed: Ints, wanted: int) -> int:
    """The grid row after the ``wanted``-th of the observed ones, or after the last."""
    return int(observed[min(wanted, len(observed)) - 1]) + 1 if len(observed) else 0


def _time_of(records: Sequence[Record], decoder: Decoder) -> int | None:
    """The median event time of records; None where none can be used."""
    times = sorted(r.time_ns for r in decoder.decode_all(records) if isinstance(r, Reading))
    return times[len(times) // 2] if times else None


async def _times_at(
    log: Log, places: Mapping[InputPartition, int], decoder: Decoder
) -> dict[InputPartition, int]:
    """Per partition the event time of an offset, or of what can be used behind it."""
    times: dict[InputPartition, int] = {}
    left = dict(places)
    for _ in range(SAMPLES):
        if not left:
            break
        for p, records in (await log.some(left, SAMPLE)).items():
            found_ns = _time_of(records, decoder)
            if found_ns is not None:
                times[p] = found_ns
            if found_ns is not None or not records:
                del left[p]
            else:
                left[p] = records[-1].offset + 1
    return times


class Topics:
    """The history of a replica: whatever the stream's input topics hold, of all partitions.

    It keeps no rows. What the parent knows of the topics (how many records they hold, how far event
    time has come) it asks for now and then, for a stream whose own partitions here say nothing.

    Args:
        connection: how to reach Kafka.
        spec: the stream.
        rows: of a retraining.
        oldest: a first training takes the first rows of the topics (where the group begins there),
            rather than the newest.
        alerts: the topic of the alerts.
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
        self._records = 0

    def add(self, block: RowBlock) -> None:
        """See ``History``; the topics have these rows."""

    def holds(self, rows: int) -> bool:
        """See ``History``."""
        per_row = len(self._spec.sensors) if self._spec.format is Format.JSON_LONG else 1
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
        )

    async def look(self) -> None:
        """See ``History``. The event time is the median of the partitions' last readings.

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
            if (time_ns := _time_of(records, decoder)) is not None:
                times.append(time_ns)
            await asyncio.sleep(0)  # this is the parent, and a topic may have thousands of partitions
        if times:
            self.event_time_ns = sorted(times)[(len(times) - 1) // 2]
