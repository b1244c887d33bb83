"""Episodes: when alert messages are emitted, and which alerts are open.

An episode is opened, possibly updated, and closed, with one message for each. It is about an anomaly (from
scores), a deviation (from sustained evidence, see ``deviation``) or about something without a score: a silent or stuck sensor, a silent asset, a skewed clock, an
unknown condition, drift. This module owns the open episodes of all assets of an input partition and their
alarm states; nothing outside it changes an alarm (the state machine itself is ``alarm.Alarm``).

Input: scored rows (``ScoredEvidence``), and the beginnings and ends that other parts detect. Output:
``AlertEvent`` values in the order of their rows.

Invariants:

* The messages of an episode share a fingerprint. Ids and fingerprints are digests of what caused them
  (stream, asset, kind, sensor, row): a message that is emitted again, after a restart or by another
  process, has the same id, and a reader who remembers ids processes each message once.
* Updates are caused by rows, never by a timer: one when the severity rises or a sensor joins a deviation, and one
  when the episode has lasted 1, 2, 4, 8 ... windows, so that a long episode stays visible with few messages.
* What an anomaly is blamed on is accumulated since its onset: see ``attribution``. Openings and updates ask the model what
  it expects without the sensors at fault; at its end the window is normal again, and there is nothing to explain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace

import numpy as np

from daemon.alarm import Alarm, State
from daemon.detector import Explanation
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Contributor,
    Floats,
    InputPartition,
    Mask,
    PartScore,
    Phase,
    Severity,
    StreamSpec,
)
from daemon.stream.attribution import PeakEvidence, SensorEvidence
from daemon.stream.deviation import Deviation, SustainedRow
from daemon.stream.identity import digest
from daemon.stream.snapshot import AlarmState, EpisodeState, pack_floats, unpack_floats
from daemon.stream.summaries import summary

CONTRIBUTORS = 40
"""Sensors that an alert ranks, at most."""
ALIKE, STORM = 16, 200
"""Above so many anomalies that opened within a window of each other, or so many that are open at once, on a
partition, no verdicts are computed. Each takes some 3 ms, those that opened together are due together, and a
cause that affects so many assets at a time is no fault of one machine's process."""
CRITICAL_RATIO = 2.0
"""A score above this many thresholds is critical."""


@dataclass(slots=True)
class Episode:
    """One open episode."""

    kind: AlertKind
    sensor: str | None
    fingerprint: str
    opened_ns: int
    onset_ns: int
    severity: Severity
    next_update_row: int = 0

    def snapshot(self) -> EpisodeState:
        """The episode as part of a record of state."""
        return EpisodeState(
            self.kind,
            self.sensor,
            self.fingerprint,
            self.opened_ns,
            self.onset_ns,
            self.severity,
            self.next_update_row,
        )

    @staticmethod
    def restored(state: EpisodeState) -> Episode:
        """The episode of a record of state."""
        return Episode(
            state.kind,
            state.sensor,
            state.fingerprint,
            state.opened_ns,
            state.onset_ns,
            state.severity,
            state.next_update_row,
        )


@dataclass(slots=True, eq=False)
class AssetEpisodes:
    """The open episodes of one asset, and the state of its alarm."""

    alarm: Alarm = field(default_factory=Alarm)
    above_since: int = -1  # first row of the present run of scores above the closing level
    peaks: PeakEvidence | None = None  # since the onset
    deviation: Deviation | None = None  # None: no sensor is beyond its closing limit
    open: dict[tuple[AlertKind, str | None], Episode] = field(default_factory=dict)

    def snapshot(self) -> AlarmState:
        """As part of the asset's record; without the stream's drift, which the partition's record holds."""
        alarm = self.alarm
        return AlarmState(
            int(alarm.state),
            alarm.recent,
            alarm.resting,
            self.above_since,
            None if self.peaks is None else pack_floats(np.stack(astuple(self.peaks))),
            None if self.deviation is None else pack_floats(np.stack(astuple(self.deviation))),
            [e.snapshot() for e in self.open.values() if e.kind is not AlertKind.DRIFT],
        )

    @staticmethod
    def restored(state: AlarmState) -> AssetEpisodes:
        """The episodes of an asset's record."""
        peaks = deviation = None
        if state.peaks is not None:
            peaks = PeakEvidence(*unpack_floats(state.peaks).reshape(len(fields(PeakEvidence)), -1))
        if state.deviation is not None:
            deviation = Deviation(*unpack_floats(state.deviation).reshape(len(fields(Deviation)), -1))
        return AssetEpisodes(
            Alarm(State(state.state), state.recent, state.resting),
            state.above_since,
            peaks,
            deviation,
            {(e.kind, e.sensor): Episode.restored(e) for e in state.open},
        )


@dataclass(frozen=True, slots=True)
class EpisodeStart:
    """What an episode that opens is about, and since when."""

    kind: AlertKind
    onset_row: int
    sensor: str | None = None  # of an unknown condition, its label
    severity: Severity = Severity.WARNING
    clock_offset_ns: int | None = None  # of a skewed clock, how far it is ahead of the fleet's
    unread: Mapping[str, int] = field(default_factory=dict)  # of a silent sensor, see ``AlertEvent``


@dataclass(frozen=True, slots=True)
class ScoredEvidence:
    """One scored row, with what an alert message needs of it; built only for rows that can change an episode."""

    row: int
    score: float
    scores: Mapping[str, PartScore]
    sensors: SensorEvidence | None
    imputed_share: float
    first_offset: int
    last_offset: int
    verdict: Callable[[Floats, Floats], str | None] | None = None
    """``Judge._cause``: the kind of cause, from the sensors' values before the onset and their shares, (C,) each."""
    explain: Callable[[Floats], Explanation | None] | None = None
    """``Judge._explain``: what is expected without the sensors at fault, from the sensors' shares (C,)."""

    def explained(self, peaks: PeakEvidence) -> PeakEvidence:
        """An episode's peaks with what the row explains."""
        found = None if self.explain is None or self.sensors is None else self.explain(peaks.shares())
        return peaks if found is None or self.sensors is None else peaks.explained(found, self.sensors)

    @staticmethod
    def unscored(row: int) -> ScoredEvidence:
        """A row at which an episode begins or ends for another reason than a score."""
        return ScoredEvidence(row, math.nan, {}, None, 0.0, -1, -1)


class Episodes:
    """The episodes of all assets of one input partition.

    Args:
        spec: the stream.
        partition: where the rows come from, for the alert's origin.
        policy: the settings of the alarms.
        maintenance: (start_ns, end_ns, assets) in which no anomaly opens; no assets means all.

    ``suppressed`` counts the episodes that maintenance suppressed: runs of rows above the threshold.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        policy: AlarmPolicy,
        maintenance: Sequence[tuple[int, int, frozenset[str]]] = (),
    ) -> None:
        self.spec = spec
        self.partition = partition
        self.policy = policy
        self.maintenance = tuple(maintenance)
        self.assets: dict[str, AssetEpisodes] = {}
        self.suppressed = 0
        self._suppressed_runs: dict[str, tuple[int, bool]] = {}
        """Under maintenance, per asset: its newest row near or above the threshold, and whether its run was above."""

    def of(self, asset: str) -> AssetEpisodes:
        """An asset's episodes, created on first use."""
        known = self.assets.get(asset)
        if known is None:
            known = self.assets[asset] = AssetEpisodes()
        return known

    def cannot_change(self, asset: str, score: float, closing: float) -> bool:
        """True if a scored row cannot change an episode, so that no ``ScoredEvidence`` is needed for it."""
        known = self.assets.get(asset)
        if known is None:
            return score <= closing
        return (
            score <= closing
            and known.alarm.state is State.INACTIVE
            and not known.alarm.recent
            and known.above_since < 0
        )

    def scored(
        self,
        asset: str,
        evidence: ScoredEvidence,
        threshold: float,
        closing: float,
        model: str,
        calibration: str,
    ) -> tuple[bool, list[AlertEvent]]:
        """Process one scored row of an asset, and move its alarm and its anomaly episode on.

        Args:
            asset: whose row it is.
            evidence: of the row.
            threshold: of ``Detector``; a score above it opens.
            closing: of ``Detector``; a score up to it closes.
            model: its version.
            calibration: ``full`` or ``provisional``.

        Returns:
            Whether an anomaly episode is firing at this row, and the messages it caused.
        """
        if self.under_maintenance(asset, evidence.row):
            self._count_suppressed(asset, evidence, threshold, closing)
            frozen = self.assets.get(asset)  # what was open before stays as it is
            return frozen is not None and frozen.alarm.state is State.FIRING, []
        self._suppressed_runs.pop(asset, None)
        known = self.of(asset)
        if evidence.score > closing:
            if known.above_since < 0:
                known.above_since = evidence.row
        else:
            known.above_since = -1
        state = known.alarm.step(evidence.score, threshold, closing, self.policy)
        if known.above_since >= 0 or state is not State.INACTIVE:
            known.peaks = _extended(known.peaks, evidence.sensors)
        key = (AlertKind.ANOMALY, None)
        episode = known.open.get(key)
        severity = Severity.CRITICAL if evidence.score > CRITICAL_RATIO * threshold else Severity.WARNING
        events: list[AlertEvent] = []
        if state is State.FIRING and episode is None:
            onset = known.above_since if known.above_since >= 0 else evidence.row
            start = EpisodeStart(AlertKind.ANOMALY, onset, severity=severity)
            events.append(self._open(known, asset, start, evidence, model, calibration))
        elif state is State.FIRING and episode is not None:
            worse = severity is Severity.CRITICAL and episode.severity is Severity.WARNING
            if worse:
                episode.severity = severity
            if self._update_due(episode, evidence.row) or worse:
                events.append(self._message(episode, asset, Phase.UPDATED, evidence, model, calibration))
        elif state is State.INACTIVE and episode is not None:
            del known.open[key]
            events.append(self._message(episode, asset, Phase.CLOSED, evidence, model, calibration))
        if known.above_since < 0 and state is State.INACTIVE:
            known.peaks = None
        self._drop_if_inactive(asset, known)
        return state is State.FIRING, events

    def _update_due(self, episode: Episode, row: int) -> bool:
        """Whether the episode has lasted 1, 2, 4 ... windows at a row; the next one is due at twice that."""
        due, opened = row >= episode.next_update_row, self.spec.row(episode.opened_ns)
        while episode.next_update_row <= row:
            episode.next_update_row += episode.next_update_row - opened
        return due

    def deviates(self, asset: str) -> bool:
        """Whether a sensor of the asset was beyond its closing limit at its last scored row."""
        known = self.assets.get(asset)
        return known is not None and known.deviation is not None

    def sustained(
        self,
        asset: str,
        row: SustainedRow,
        evidence: Callable[[], ScoredEvidence],
        model: str,
        calibration: str,
    ) -> tuple[bool, list[AlertEvent]]:
        """Process the sustained evidence of a scored row, after its score, and move the asset's deviation on.

        Args:
            asset: whose row it is.
            row: the evidence.
            evidence: makes what else a message says of the row.
            model: the version in force.
            calibration: of its limits.

        Returns:
            Whether a deviation is open and a sensor beyond its closing limit at this row, and the messages it caused.
        """
        key = (AlertKind.DEVIATION, None)
        if self.under_maintenance(asset, row.row):
            return self.is_open(asset, *key), []
        known = self.of(asset)
        known.deviation = (known.deviation or Deviation.none(len(row.closing))).grown(row, _blamed(known))
        joining = known.deviation.joining(row, self.spec.window)
        known.deviation = known.deviation.with_named(joining)
        episode, phase = known.open.get(key), None
        events: list[AlertEvent] = []
        if episode is None and joining.any():
            onset = int(known.deviation.since[joining].min())
            start = EpisodeStart(AlertKind.DEVIATION, onset)
            events.append(self._open(known, asset, start, _with_extent(evidence(), row), model, calibration))
        elif episode is not None:
            if known.deviation.calm(row.row) >= max(self.policy.refractory, 1):
                phase = Phase.CLOSED
                del known.open[key]
            elif self._update_due(episode, row.row) or joining.any():
                phase = Phase.UPDATED
            if phase is not None:
                found = _with_extent(evidence(), row)
                events.append(self._message(episode, asset, phase, found, model, calibration))
        beyond = bool(row.beyond.any())
        if not (beyond or key in known.open):
            known.deviation = None
        self._drop_if_inactive(asset, known)
        return beyond and key in known.open, events

    def under_maintenance(self, asset: str, row: int) -> bool:
        """Whether an asset is under maintenance at a row."""
        time_ns = row * self.spec.period_ns
        return any(
            start <= time_ns < end and (not assets or asset in assets)
            for start, end, assets in self.maintenance
        )

    def _count_suppressed(
        self, asset: str, evidence: ScoredEvidence, threshold: float, closing: float
    ) -> None:
        """Count an episode that would have opened; rows far from the threshold need not be passed."""
        if not evidence.score > closing:
            self._suppressed_runs.pop(asset, None)
            return
        row, above = self._suppressed_runs.get(asset, (-1, False))
        above &= row >= 0 and evidence.row - row <= self.spec.hop
        self.suppressed += evidence.score > threshold and not above
        self._suppressed_runs[asset] = evidence.row, above or evidence.score > threshold

    def _drop_if_inactive(self, asset: str, known: AssetEpisodes) -> None:
        """Drop an asset without state: ``assets`` has only those whose next row may change something."""
        alarm = known.alarm
        idle = alarm.state is State.INACTIVE and known.above_since < 0 and known.deviation is None
        if idle and not (alarm.recent or known.open):
            self.assets.pop(asset, None)

    def open_unscored(self, asset: str, start: EpisodeStart, row: int, model: str) -> list[AlertEvent]:
        """Open an episode that has no score (silence, a stuck sensor ...) at a row, unless it is open."""
        known = self.of(asset)
        if (start.kind, start.sensor) in known.open:
            return []
        return [self._open(known, asset, start, ScoredEvidence.unscored(row), model, "full")]

    def close_unscored(
        self, asset: str, kind: AlertKind, sensor: str | None, row: int, model: str
    ) -> list[AlertEvent]:
        """Close such an episode at a row, if it is open."""
        known = self.assets.get(asset)
        episode = known.open.pop((kind, sensor), None) if known is not None else None
        if known is None or episode is None:
            return []
        evidence = ScoredEvidence.unscored(row)
        message = self._message(episode, asset, Phase.CLOSED, evidence, model, "full")
        self._drop_if_inactive(asset, known)
        return [message]

    def is_open(self, asset: str, kind: AlertKind, sensor: str | None = None) -> bool:
        """Whether such an episode is open."""
        known = self.assets.get(asset)
        return known is not None and (kind, sensor) in known.open

    def going_on(self, model: str) -> Iterator[AlertEvent]:
        """The open episodes as opening messages, to show them after a restart; they are not to be published."""
        for asset, known in list(self.assets.items()):
            for episode in known.open.values():
                opened = ScoredEvidence.unscored(self.spec.row(episode.opened_ns))
                yield self._message(episode, asset, Phase.OPENED, opened, model, "full")

    def dismiss(self, asset: str, row: int, model: str) -> list[AlertEvent]:
        """Remove an asset (eviction) and close its open episodes, which no later row could close."""
        self._suppressed_runs.pop(asset, None)
        known = self.assets.get(asset)
        if known is None:
            return []
        # The stream's drift is kept under the stream's name, which the asset may have as well.
        mine = [e for e in known.open.values() if e.kind is not AlertKind.DRIFT]
        mine.sort(key=lambda e: (e.opened_ns, e.kind, e.sensor or ""))
        events = [
            self._message(
                e,
                asset,
                Phase.CLOSED,
                # A silence was opened at a row that the asset never reached.
                ScoredEvidence.unscored(max(row, self.spec.row(e.opened_ns))),
                model,
                "full",
            )
            for e in mine
        ]
        del self.assets[asset]
        if drift := {key: e for key, e in known.open.items() if e.kind is AlertKind.DRIFT}:
            self.assets[asset] = AssetEpisodes(open=drift)
        return events

    # -------------------------------------------------------------- state of a successor
    def snapshot(self, asset: str) -> AlarmState | None:
        """The part of an asset's record of state; None if it has no episode and its alarm is inactive."""
        known = self.assets.get(asset)
        return None if known is None else known.snapshot()

    def restore(self, asset: str, state: AlarmState) -> None:
        """Continue with an asset's episodes as another process left them."""
        restored, present = AssetEpisodes.restored(state), self.assets.get(asset)
        if present is not None:  # the stream's drift, where an asset has the stream's name
            restored.open |= present.open
        self.assets[asset] = restored

    def snapshot_drift(self) -> EpisodeState | None:
        """The open episode of drift, part of the partition's record."""
        known = self.assets.get(self.spec.name)
        episode = None if known is None else known.open.get((AlertKind.DRIFT, None))
        return None if episode is None else episode.snapshot()

    def restore_drift(self, state: EpisodeState) -> None:
        """Continue with an open episode of drift; before the assets are restored."""
        self.of(self.spec.name).open[state.kind, state.sensor] = Episode.restored(state)

    # -------------------------------------------------------------- messages
    def _contributors(
        self, asset: str, kind: AlertKind, evidence: ScoredEvidence | None
    ) -> list[Contributor]:
        """The sensors of an anomaly or deviation, largest share first."""
        known = self.of(asset)
        if kind is AlertKind.DEVIATION:
            return [] if known.deviation is None else known.deviation.contributors(self.spec.sensors)
        peaks = known.peaks
        if peaks is None:
            return []
        if evidence is not None:
            peaks = evidence.explained(peaks)
        return _ranked(peaks, self.spec.sensors)

    def _open(
        self,
        known: AssetEpisodes,
        asset: str,
        start: EpisodeStart,
        evidence: ScoredEvidence,
        model: str,
        calibration: str,
    ) -> AlertEvent:
        """Open an episode at the row of ``evidence``; returns its first message."""
        kind, sensor, period = start.kind, start.sensor, self.spec.period_ns
        opened_ns = evidence.row * period
        episode = Episode(
            kind,
            sensor,
            digest(self.spec.name, asset, kind, sensor, opened_ns, *self._place_of(kind), size=16),
            opened_ns,
            start.onset_row * period,
            start.severity,
            evidence.row + self.spec.window,
        )
        known.open[(kind, sensor)] = episode
        event = self._message(episode, asset, Phase.OPENED, evidence, model, calibration)
        if start.clock_offset_ns is None and not start.unread:
            return event
        event = replace(event, clock_offset_ns=start.clock_offset_ns, unread=dict(start.unread))
        return replace(event, summary=summary(event))

    def _place_of(self, kind: AlertKind) -> tuple[object, ...]:
        """What else identifies an episode: drift belongs to a partition, the others to an asset."""
        return (self.partition.topic, self.partition.number) if kind is AlertKind.DRIFT else ()

    def _message(
        self,
        episode: Episode,
        asset: str,
        phase: Phase,
        evidence: ScoredEvidence,
        model: str,
        calibration: str,
    ) -> AlertEvent:
        """The message of an episode that the row of ``evidence`` causes."""
        period = self.spec.period_ns
        row_ns = evidence.row * period
        scored = episode.kind in (AlertKind.ANOMALY, AlertKind.DEVIATION)
        explains = None if phase is Phase.CLOSED or self._is_storm(episode) else evidence
        event = AlertEvent(
            stream=self.spec.name,
            asset=asset,
            kind=episode.kind,
            phase=phase,
            severity=episode.severity,
            fingerprint=episode.fingerprint,
            id=digest(episode.fingerprint, phase, row_ns, size=32),
            row_ns=row_ns,
            onset_ns=episode.onset_ns,
            opened_ns=episode.opened_ns,
            model=model,
            calibration=calibration,
            summary="",
            sensor=episode.sensor,
            scores=evidence.scores,
            contributors=self._contributors(asset, episode.kind, explains) if scored else (),
            window_start_ns=(evidence.row - self.spec.window + 1) * period if scored else None,
            window_steps=self.spec.window if scored else 0,
            imputed_share=evidence.imputed_share,
            partition=self.partition,
            first_offset=evidence.first_offset,
            last_offset=evidence.last_offset,
            verdict=self._verdict(asset, episode, evidence) if phase is Phase.UPDATED else None,
        )
        return replace(event, summary=summary(event))

    def _verdict(self, asset: str, episode: Episode, evidence: ScoredEvidence) -> str | None:
        """The kind of cause, once a whole window lies in the episode; at its beginning all causes look alike."""
        peaks = self.of(asset).peaks
        lasted = evidence.row - self.spec.row(episode.opened_ns)
        if episode.kind is not AlertKind.ANOMALY or peaks is None or lasted < self.spec.window:
            return None
        if evidence.verdict is None:
            return None
        if self._is_storm(episode):
            return None
        return evidence.verdict(np.nan_to_num(peaks.before), peaks.shares())

    def _is_storm(self, episode: Episode) -> bool:
        """Whether so many other anomalies are open, or opened about when this one did, that it is a storm."""
        count = alike = 0
        for known in self.assets.values():
            other = known.open.get((AlertKind.ANOMALY, None))
            if other is not None:
                count += 1
                alike += abs(other.opened_ns - episode.opened_ns) < self.spec.window * self.spec.period_ns
                if count > STORM or alike > ALIKE:
                    return True
        return False


def _ranked(peaks: PeakEvidence, sensors: tuple[str, ...]) -> list[Contributor]:
    """The sensors of an anomaly, largest share first."""
    share = peaks.shares()
    return [
        Contributor(
            sensors[c],
            float(peaks.observed[c]) if np.isfinite(peaks.observed[c]) else None,
            float(peaks.expected[c]) if np.isfinite(peaks.expected[c]) else None,
            float(share[c]),
        )
        for c in np.argsort(-share, kind="stable")[:CONTRIBUTORS].tolist()
        if share[c] > 0
    ]


def _blamed(known: AssetEpisodes) -> Mask | bool:
    """(C,) the sensors that an open anomaly of the asset is blamed on."""
    if known.peaks is None or (AlertKind.ANOMALY, None) not in known.open:
        return False
    return known.peaks.blamed()


def _with_extent(evidence: ScoredEvidence, row: SustainedRow) -> ScoredEvidence:
    """With the largest share of a sensor's opening limit as one of the scores."""
    largest = float(np.nanmax(row.opening, initial=0.0))
    return replace(evidence, scores={**evidence.scores, "sustained": PartScore(largest, 1.0)})


def _extended(peaks: PeakEvidence | None, row: SensorEvidence | None) -> PeakEvidence | None:
    """The peaks with one more row; a row without evidence changes nothing."""
    if row is None:
        return peaks
    return PeakEvidence.since(row) if peaks is None else peaks.grown(row)
