"""The state behind the admin page and the probes: what the process is doing, in memory.

The reporter writes it (and ``demo`` sets its source), the admin server reads it; both run on one event loop, so
nothing is locked.
Asset names come from the data, so every collection here is bounded: a number of assets with their newest
scores, of events and of model changes.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from daemon.adapters.telemetry.labels import Lifecycle
from daemon.adapters.telemetry.people import People
from daemon.alert import ShadowCounts
from daemon.domain import (
    AlertEvent,
    Disposition,
    DriftRecord,
    FilledRow,
    Floats,
    InputPartition,
    Ints,
    Mask,
    Output,
    Phase,
)
from daemon.grouping import by_slot
from daemon.stream.accounts import CellState, Counts, Fault
from daemon.stream.audit import SensorAudit
from daemon.stream.dismissal import Standing
from daemon.trigger import Trigger

if TYPE_CHECKING:  # for annotations only: the registry imports this package
    from daemon.adapters.registry import DecisionRecord

SCORES_KEPT: Final = 300
ASSETS_KEPT: Final = 50
EVENTS_KEPT: Final = 200
WAIT_NOTICED: Final = 3.0
"""Seconds; every publish waits a little, which is not worth reporting."""
UNREADY_AFTER: Final = 30.0
"""Seconds without Kafka; a shorter outage leaves the process ready."""
INTEREST_DECAY: Final = 0.99
"""Per scored row: an asset that was near its threshold keeps its place for a few hundred rows."""


@dataclass(slots=True)
class AssetScores:
    """One asset's newest scores."""

    rows_ns: deque[int] = field(default_factory=lambda: deque(maxlen=SCORES_KEPT))
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=SCORES_KEPT))
    alarm: bool = False
    interest: float = 0.0  # decaying maximum of score / threshold


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What became of one candidate, or of a model given on the command line."""

    at: datetime  # wall clock
    version: str
    result: str  # a Promotion
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TrainingNow:
    """A training that runs."""

    trigger: Trigger
    since: datetime  # wall clock
    progress: Callable[[], tuple[float, str]]  # the share done, and what is being done


@dataclass(frozen=True, slots=True, eq=False)
class ShadowNow:
    """A candidate that judges beside the model in force."""

    version: str
    parent: str  # the model in force
    since_ns: int  # event time
    until_ns: int
    counts: Callable[[], ShadowCounts]  # so far, of all partitions as far as is known here


@dataclass(slots=True)
class StreamStatus:
    """The state of one stream; the reporter assigns the plain fields as they change."""

    name: str
    learn_rows: int = 0
    state: Lifecycle = Lifecycle.STARTING
    model: str | None = None
    calibration: str = ""
    learned_until: datetime | None = None  # event time of the newest row that the model learned
    threshold: float = math.nan
    part_thresholds: Mapping[str, float] = field(default_factory=dict)
    training: TrainingNow | None = None  # the training that runs
    shadow: ShadowNow | None = None  # the candidate in shadow
    assets: int = 0
    rows: int = 0  # grid rows released, scored or not
    scored: int = 0
    filled: int = 0  # cells
    records: dict[str, int] = field(
        default_factory=lambda: {str(d): 0 for d in Disposition if d is not Disposition.SKIPPED}
    )  # skipped ones where any are
    cells: dict[str, int] = field(default_factory=lambda: {str(s): 0 for s in CellState})
    corrupt: Counter[Fault] = field(default_factory=Counter)  # cells
    newest_ns: int = 0  # event time of the newest row
    drift: deque[DriftRecord] = field(default_factory=lambda: deque(maxlen=100))
    imputation: dict[str, SensorAudit] = field(default_factory=dict)  # by sensor, under this model
    models: deque[ModelChange] = field(default_factory=lambda: deque(maxlen=30))
    decisions: deque[DecisionRecord] = field(default_factory=lambda: deque(maxlen=10))  # on trainings
    drill: Callable[[], Sequence[Mapping[str, Any]]] = tuple  # the fire drill's table
    standing: Callable[[AlertEvent], Standing | None] = lambda _: None  # of the last verdict on an alert
    knows: Callable[[str], bool] = lambda _: False  # whether an asset of the stream is read here
    tracks: dict[str, AssetScores] = field(default_factory=dict)
    _floor: float = 0.0  # the least interesting track's interest, once all places are taken

    def scored_rows(
        self, assets: Sequence[str], slots: Ints, times_ns: Ints, scores: Floats, alarms: Mask
    ) -> None:
        """Append rows, in order, to the tracks of the assets that are nearest to their threshold.

        Several rows of one asset become one point with their highest score: a page cannot show each
        row of a stream that is so fast.

        Args:
            assets, slots, times_ns, scores, alarms: (R,); ``slots`` has one number per asset, and a
                score is NaN where the row was not scored.
        """
        which = np.flatnonzero(np.isfinite(scores))
        if not len(which):
            return
        self.newest_ns = max(self.newest_ns, int(times_ns[which].max()))
        self.scored += len(which)
        groups = by_slot(slots[which])
        order, begins = which[groups.order], np.flatnonzero(groups.begins)
        highest = np.maximum.reduceat(scores[order], begins)
        last = order[np.append(begins[1:], len(order)) - 1]
        ratios = highest / self.threshold if self.threshold > 0 else np.zeros(len(highest))
        tracks = self.tracks
        for i, score, ratio, time_ns, alarm in zip(
            last.tolist(),
            highest.tolist(),
            ratios.tolist(),
            times_ns[last].tolist(),
            alarms[last].tolist(),
            strict=True,
        ):
            track = tracks.get(assets[i])
            if track is None:
                if len(tracks) >= ASSETS_KEPT:
                    if ratio <= self._floor:
                        continue
                    least = min(tracks, key=lambda name: tracks[name].interest)
                    del tracks[least]
                    self._floor = min(t.interest for t in tracks.values())
                track = tracks[assets[i]] = AssetScores()
            track.rows_ns.append(time_ns)
            track.scores.append(score)
            track.alarm = alarm
            track.interest = max(track.interest * INTEREST_DECAY, ratio, 1.0 if alarm else 0.0)


class Status:
    """The state that the admin page and the probes are answered from.

    Args:
        streams: the names of the streams, or names -> rows that a first training takes.
        stall_after: without a beat of the loop for so long, the process is not alive.
        clock: monotonic seconds.
        now: the wall clock.
    """

    def __init__(
        self,
        streams: Mapping[str, int] | Sequence[str],
        *,
        stall_after: timedelta = timedelta(seconds=60),
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        learn_rows = streams if isinstance(streams, Mapping) else dict.fromkeys(streams, 0)
        self.streams = {name: StreamStatus(name, rows) for name, rows in learn_rows.items()}
        self.source = ""  # what is read: "kafka", "demo fleet", a file's name
        self.joined = False  # the first assignment has come; zero partitions count
        self.connected = False  # Kafka was reached once, and our topics are there
        self.silence_s: Callable[[], float] = lambda: 0.0  # since Kafka last answered
        self.open: dict[str, AlertEvent] = {}  # fingerprint -> newest message
        self.events: deque[tuple[int, AlertEvent]] = deque(maxlen=EVENTS_KEPT)
        self.closed_before: Sequence[
            AlertEvent
        ] = ()  # alerts that had closed when the process began, oldest first
        self.sequence = 0  # of the newest event
        self.opened = 0
        self.people = People()
        self.started_at = now()
        self._clock, self._now = clock, now
        self._stall_after = stall_after.total_seconds()
        self._beat: float | None = None
        self._waiting: list[tuple[str, float]] = []  # dependency, since
        self._draining = False
        self._started = False

    # -------------------------------------------------------------- written by the reporter
    def beat(self) -> None:
        """The loop makes progress. Called for every event of the source, empty ones too."""
        self._beat = self._clock()

    @contextmanager
    def waiting_for(self, dependency: str) -> Iterator[None]:
        """While inside, the loop waits for a dependency, and the process counts as alive.

        Otherwise a broker outage would fail the liveness probe and restart every replica.
        """
        wait = (dependency, self._clock())
        self._waiting.append(wait)
        try:
            yield
        finally:
            self._waiting.remove(wait)
            self.beat()

    def drain(self) -> None:
        """The process ends: it is not ready from here on."""
        self._draining = True

    def ingested(self, stream: str, counts: Counts) -> None:
        """Count what became of a batch's records and cells."""
        status = self.streams[stream]
        for disposition, n in counts.records.items():
            status.records[str(disposition)] = status.records.get(str(disposition), 0) + n
        for state, n in counts.cells.items():
            status.cells[str(state)] += n
        status.corrupt.update(counts.corrupt)

    def model(
        self,
        stream: str,
        version: str,
        *,
        threshold: float,
        part_thresholds: Mapping[str, float],
        calibration: str = "",
        learned_until: datetime | None = None,
    ) -> None:
        """``version`` is in use from now on: the stream is live."""
        status = self.streams[stream]
        if version != status.model:
            status.imputation = {}
        status.model, status.calibration, status.learned_until = version, calibration, learned_until
        status.threshold, status.part_thresholds = threshold, part_thresholds
        status.state = Lifecycle.LIVE

    def without_model(self, stream: str) -> None:
        """No model is in use until the next one is promoted."""
        status = self.streams[stream]
        status.model, status.calibration, status.learned_until = None, "", None
        status.imputation = {}
        status.threshold, status.part_thresholds = math.nan, {}

    def training(self, stream: str, trigger: Trigger, progress: Callable[[], tuple[float, str]]) -> None:
        """A training runs from now on."""
        self.streams[stream].training = TrainingNow(trigger, self._now(), progress)

    def thresholds(self, stream: str, threshold: float, parts: Mapping[str, float]) -> None:
        """The model in use has other thresholds."""
        status = self.streams[stream]
        status.threshold, status.part_thresholds = threshold, dict(parts)

    def promotion(self, stream: str, version: str, result: str, reason: str = "") -> None:
        """Add what became of a candidate, with the gate's reason."""
        self.streams[stream].models.append(ModelChange(self._now(), version, str(result), reason))

    def published(self, outputs: Iterable[Output]) -> None:
        """Take in alerts, drift and filled rows; each output must come once."""
        for output in outputs:
            if isinstance(output, FilledRow):
                self.streams[output.stream].filled += len(output.cells)
            elif isinstance(output, AlertEvent):
                self.sequence += 1
                self.events.append((self.sequence, output))
                self.opened += output.phase is Phase.OPENED
                if output.over:
                    self.open.pop(output.fingerprint, None)
                else:
                    self.open[output.fingerprint] = output
            elif isinstance(output, DriftRecord):
                self.streams[output.stream].drift.append(output)

    def restored_episodes(self, events: Iterable[AlertEvent]) -> None:
        """Episodes that were open before a restart or a rebalance continue here."""
        for event in events:
            self.open.setdefault(event.fingerprint, event)  # a message published here is newer

    def closed_alerts(self, events: Sequence[AlertEvent]) -> None:
        """Alerts that had closed before a restart, oldest first; as many as of events are kept."""
        self.closed_before = events[-EVENTS_KEPT:]

    def revoked(self, partition: InputPartition) -> None:
        """A partition went to another replica, and its open episodes with it."""
        for key in [key for key, event in self.open.items() if event.partition == partition]:
            del self.open[key]

    # -------------------------------------------------------------- read by the page and the probes
    def closed(self) -> Iterator[AlertEvent]:
        """The alerts that have closed, the newest first; those from before the start as far as they are not open again."""
        here = set(self.open)
        for _, event in reversed(self.events):
            here.add(event.fingerprint)
            if event.phase is Phase.CLOSED:
                yield event
        yield from (event for event in reversed(self.closed_before) if event.fingerprint not in here)

    def alert(self, fingerprint: str) -> AlertEvent | None:
        """The newest message of an alert that is shown; None: it is not, or not any more."""
        here = self.open.get(fingerprint)
        shown = chain((event for _, event in reversed(self.events)), self.closed_before)
        return here or next((event for event in shown if event.fingerprint == fingerprint), None)

    @property
    def lifecycle(self) -> Lifecycle:
        """The state of the process: live once every stream is."""
        if self._draining:
            return Lifecycle.DRAINING
        if not self.started:
            return Lifecycle.STARTING
        live = all(stream.state is Lifecycle.LIVE for stream in self.streams.values())
        return Lifecycle.LIVE if live else Lifecycle.LEARNING

    @property
    def started(self) -> bool:
        """Whether the group was joined once; stays true."""
        self._started = self._started or self.joined
        return self._started

    @property
    def obstacles(self) -> list[str]:
        """The reasons why this process is not ready; empty when it is."""
        found = []
        if not self.joined:
            found.append("the consumer group is not joined")
        if not self.connected:
            found.append("Kafka has not been reached yet")
        elif not self.reached:
            found.append(f"Kafka has not answered for {UNREADY_AFTER:.0f} s")
        if self._draining:
            found.append("draining")
        return found

    @property
    def reached(self) -> bool:
        """Whether Kafka answers: it did recently, and nothing has waited long for it."""
        waited = max((self._clock() - since for _, since in self._waiting), default=0.0)
        return self.connected and max(self.silence_s(), waited) < UNREADY_AFTER

    @property
    def beat_age(self) -> float:
        """Seconds since the last beat; 0 before the first."""
        return 0.0 if self._beat is None else self._clock() - self._beat

    @property
    def waiting(self) -> str | None:
        """The dependency that the loop has waited for longer than an answer usually takes."""
        now = self._clock()
        return next((name for name, since in self._waiting if now - since >= WAIT_NOTICED), None)

    @property
    def alive(self) -> bool:
        """False when the loop makes no progress and does not wait for a dependency."""
        return bool(self._waiting) or self.beat_age < self._stall_after

    @property
    def uptime(self) -> timedelta:
        """Since the process began."""
        return self._now() - self.started_at
