"""The history that a stream's trainings learn from: its interface, and the rows that this process released.

There are two histories. ``ReleasedHistory`` (here) keeps the rows that this process's pipelines released, for
``replay`` and ``demo``, where one process sees the whole stream. ``replica_history.ReplicaHistory`` reads the input
topics themselves, for ``run`` and ``train -c``: a replica sees some of the partitions only, and after a
restart nothing of the past, but the topics hold all of it. What is learned then depends on the topics'
contents and on the event time that the training ends at, and on nothing that one process happened to see.

Rows of an episode are not learned (but with ``train --with-alarms``), nor their neighbours two windows to either
side: a model that learned a fault would not alert on the next one of its kind. ``TrainingHistory`` knows which rows
were firing, and which are of a slow trend; for the topics, ``exclusion`` finds them in the alerts topic. The rows of a regime are learned once its alert
says so (``AlertEvent.regime``), but for those of another alert that is open then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from daemon.domain import (
    AlertEvent,
    AlertKind,
    DriftRecord,
    InputPartition,
    Ints,
    Mask,
    Phase,
    Progress,
    Segment,
    StreamSpec,
)
from daemon.errors import DaemonError
from daemon.maintenance import MaintenanceWindow
from daemon.model.golden_incidents import GoldenIncident
from daemon.runtime.drift_watch import DriftWatch
from daemon.runtime.exclusion import exclude_episodes, planned_stops
from daemon.runtime.segmenting import FOREVER, cut, near
from daemon.runtime.shadow import ShadowTally
from daemon.stream.accounts import Counts
from daemon.stream.decode import KnownBirth
from daemon.stream.steps import RowBlock


class HistoryNotReady(DaemonError):  # noqa: N818 - nothing has failed: it is read again later
    """The topics hold too few rows yet, or the group has not judged all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundHistory:
    """A history that was read."""

    segments: Sequence[Segment]
    until_ns: int | None = None  # its event time ends here; None: where its rows end
    notes: Sequence[str] = ()  # what an operator should know of it
    records: int = 0
    unused: Mapping[str, int] = field(default_factory=dict)  # records that gave no row, by disposition
    left_out: Mapping[str, int] = field(default_factory=dict)  # cells with a value, by why they were excluded
    counts: Counts = field(default_factory=Counts)  # what became of all records and cells
    sampled: int = 0  # rows that are not of the newest, but of a sample of all before them
    golden: Sequence[GoldenIncident] = ()  # confirmed incidents that the incumbent does not have
    dismissed: frozenset[str] = frozenset()  # episodes, by fingerprint, that are no confirmed incidents
    called_normal_ns: int = -1  # the newest row of an alert that people have called normal; -1: none
    newest_from_row: int = -FOREVER  # rows before are of the sample
    let_in_ns: Mapping[str, int] = field(
        default_factory=dict
    )  # per asset the newest row that alarmed and is learned


@runtime_checkable
class UnreadHistory(Protocol):
    """How to read a history; is sent to the training process (pickled), which reads it there."""

    def read(self, progress: Progress) -> FoundHistory:
        """Read the history; blocks.

        Raises:
            HistoryNotReady: there is not enough yet.
            DaemonError: it cannot be read.
        """
        ...


Past = Sequence[Segment] | FoundHistory | UnreadHistory
"""What a training learns from."""


@runtime_checkable
class RecordHistory(UnreadHistory, Protocol):
    """Such a history that is read from records, which may need what their partitions remember of earlier ones."""

    def knowing(
        self, births: Mapping[InputPartition, Sequence[KnownBirth]], golden: frozenset[str]
    ) -> RecordHistory:
        """The same with what is known of these partitions, and without the rows of these confirmed episodes."""
        ...


class History(Protocol):
    """The history of one stream, as its trainings use it."""

    lasting: bool
    """Whether it survives a restart of the process."""
    event_time_ns: int
    """The stream's event time as last measured; -1 if unknown."""
    drift: DriftWatch
    """What is known of its drift."""
    shadow: ShadowTally | None
    """What is known of a candidate in shadow; None: there is none."""

    def add(self, block: RowBlock) -> None:
        """Take rows that a pipeline released."""
        ...

    def alerted(self, events: Iterable[AlertEvent]) -> None:
        """Take the alerts of a pipeline."""
        ...

    def drifted(self, records: Iterable[DriftRecord]) -> None:
        """Take the drift records of a pipeline."""
        ...

    def holds(self, rows: int) -> bool:
        """Whether it may hold so many observed rows, not counting those that were added."""
        ...

    def first(self, rows: int, least: int) -> Sequence[Segment] | UnreadHistory:
        """The history of a first training: ``rows`` observed rows, or at least ``least`` of them."""
        ...

    def newest(self, until_ns: int) -> FoundHistory | UnreadHistory:
        """The history of a retraining: the newest rows before an event time."""
        ...

    def plan_stops(self, planned: Sequence[MaintenanceWindow]) -> None:
        """Leave out the rows of these stops from now on, instead of others."""
        ...

    async def measure(self) -> None:
        """Renew the figures behind ``holds`` and ``event_time_ns``."""
        ...

    async def measure_drift(self) -> None:
        """Renew ``drift``, where it is not known from the records that pipelines here emit."""
        ...

    async def measure_shadow(self) -> None:
        """Renew ``shadow`` likewise."""
        ...


# ------------------------------------------------------------------ rows that were released here
@dataclass(slots=True)
class _Alerted:
    """The rows of an alert about an anomaly or deviations."""

    asset: str
    first: int
    last: int  # ``FOREVER`` while it is open
    slow: bool  # also about a slow trend, of whose rows none is firing
    learned: tuple[tuple[int, int], ...] = ()  # spans of rows of a regime; ``FOREVER`` while it lasts


class TrainingHistory:
    """The newest released rows of one stream, with their alarms.

    Args:
        spec: the stream.
        capacity: rows that are kept; beyond it the oldest blocks are dropped.
        planned: stops whose rows are left out, too.
    """

    def __init__(self, spec: StreamSpec, capacity: int, planned: Sequence[MaintenanceWindow] = ()) -> None:
        self.spec = spec
        self.planned = planned
        self.capacity = capacity
        self.rows = 0
        self._blocks: deque[RowBlock] = deque()
        self._alerted: dict[str, _Alerted] = {}  # by fingerprint
        self.let_in_ns: dict[str, int] = {}
        """Per asset the newest row of a regime that is learned, or is normal from there on."""

    def alerted(self, events: Iterable[AlertEvent]) -> None:
        """Take alerts, of which those of regimes may say that their rows are to be learned."""
        for event in events:
            if event.phase is Phase.SUPPRESSED:
                continue  # its rows are those of a planned stop
            if event.concerns(AlertKind.ANOMALY) or event.concerns(AlertKind.DEVIATION):
                known, row = self._alerted.get(event.fingerprint), self.spec.row(event.row_ns)
                learned = () if known is None else known.learned
                if event.regime is not None and (event.regime.learned or event.regime.accepted):
                    self.let_in_ns[event.asset] = max(event.row_ns, self.let_in_ns.get(event.asset, -1))
                lasts = bool(learned) and learned[-1][1] == FOREVER
                if event.regime is not None and event.regime.learned:
                    if not lasts:
                        learned += ((self.spec.row(event.regime.since_ns), FOREVER),)
                elif lasts:  # it is not steady any more
                    learned = (*learned[:-1], (learned[-1][0], row - 1))
                self._alerted[event.fingerprint] = _Alerted(
                    event.asset,
                    self.spec.row(event.onset_ns),
                    row if event.phase is Phase.CLOSED else FOREVER,
                    event.per_day is not None,
                    learned,
                )

    def _slow(self, asset: str, rows: Ints) -> Mask:
        """Which of an asset's rows are of a slow trend."""
        found = np.zeros(len(rows), bool)
        for alert in self._alerted.values():
            if alert.slow and alert.asset == asset:
                found |= (rows >= alert.first) & (rows <= alert.last)
        return found

    def _learned(self, asset: str, rows: Ints) -> Mask:
        """Which of an asset's rows are of a regime that is to be learned, and of no other alert."""
        found, other = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        for alert in self._alerted.values():
            if alert.asset == asset:
                inside = (rows >= alert.first) & (rows <= alert.last)
                mine = np.zeros(len(rows), bool)
                for first, last in alert.learned:
                    mine |= inside & (rows >= first) & (rows <= last)
                found |= mine
                other |= inside & ~mine
        return np.asarray(found & ~other)

    def add(self, block: RowBlock) -> None:
        """Take released rows."""
        self._blocks.append(block)
        self.rows += len(block.rows)
        while self.rows - len(self._blocks[0].rows) >= self.capacity:
            self.rows -= len(self._blocks.popleft().rows)

    def segments(self, until_row: int = FOREVER) -> list[Segment]:
        """The rows before ``until_row`` as training segments, without alarms; split at gaps beyond max_gap."""
        if not self._blocks:
            return []
        names = [name for block in self._blocks for name in block.assets]
        conditions = [label for block in self._blocks for label in block.condition]
        rows = np.concatenate([block.rows for block in self._blocks])
        values = np.concatenate([block.values for block in self._blocks])
        firing = np.concatenate(
            [b.firing if b.deviating is None else b.firing | b.deviating for b in self._blocks]
        )
        parts = [block.received for block in self._blocks if block.received is not None]
        received = np.concatenate(parts) if parts else None  # of all blocks of a stream, or of none
        oldest = int(rows.min())
        self._alerted = {key: one for key, one in self._alerted.items() if one.last >= oldest}
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
            # Rows that were fed again, after a rewind or a rebalance, come twice. The newer values count, but
            # an alarm of either: rows are not judged in a silent replay.
            new = np.diff(rows[which]) > 0
            alarms = np.logical_or.reduceat(firing[which], np.flatnonzero(np.append(True, new)))
            which = which[np.append(new, True)]
            alarms &= ~self._learned(asset, rows[which])
            alarms |= self._slow(asset, rows[which])
            alarmed = near(rows[which], alarms, 2 * self.spec.window)
            keep = which[~alarmed]
            labels = [conditions[i] for i in keep.tolist()]
            came = None if received is None else received[keep]
            result.extend(cut(asset, rows[keep], values[keep], labels, came, rows[which[alarmed]]))
        return exclude_episodes(result, planned_stops(result, self.planned, self.spec), self.spec)[0]


class ReleasedHistory:
    """The history of a process that reads the whole stream: the rows that it released itself."""

    lasting = False
    event_time_ns = -1

    def __init__(self, spec: StreamSpec, capacity: int, planned: Sequence[MaintenanceWindow] = ()) -> None:
        self._spec = spec
        self._recent = TrainingHistory(spec, capacity, planned)
        self.drift = DriftWatch()
        self.shadow: ShadowTally | None = None

    def add(self, block: RowBlock) -> None:
        """See ``History``."""
        self._recent.add(block)

    def alerted(self, events: Iterable[AlertEvent]) -> None:
        """See ``History``."""
        self._recent.alerted(events)

    def drifted(self, records: Iterable[DriftRecord]) -> None:
        """See ``History``."""
        for record in records:
            self.drift.add(record)
            if self.shadow is not None:
                self.shadow.add(record)

    def holds(self, rows: int) -> bool:
        """See ``History``."""
        return False

    def first(self, rows: int, least: int) -> Sequence[Segment]:
        """See ``History``; all released rows: the pipeline's training cut ends a chunk at ``rows``."""
        return self._recent.segments()

    def newest(self, until_ns: int) -> FoundHistory:
        """See ``History``."""
        recent = self._recent
        return FoundHistory(recent.segments(self._spec.row(until_ns)), let_in_ns=dict(recent.let_in_ns))

    def plan_stops(self, planned: Sequence[MaintenanceWindow]) -> None:
        """See ``History``."""
        self._recent.planned = planned

    async def measure(self) -> None:
        """See ``History``."""

    async def measure_drift(self) -> None:
        """See ``History``."""

    async def measure_shadow(self) -> None:
        """See ``History``."""
