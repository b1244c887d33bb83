"""Episodes: what is said of an anomaly, a silent sensor, a silent asset, and when.

An episode is opened, perhaps updated, and closed; its messages share a fingerprint. Ids and
fingerprints are digests of what caused them (stream, asset, kind, sensor, row), so that a
message that is sent again, by a restart or by another process, carries the same id, and a
reader who keeps ids sees each exactly once.

Updates are driven by rows, never by a timer: one when the severity rises, and one when the
episode has lasted 1, 2, 4, 8 ... windows, so that a long episode stays visible without
drowning anybody.

**Blame.** One row says little: an incident shows in one sensor now and in another later, and a
spike has left the window's newest row before the alarm is over. So an episode remembers, per
sensor, the most that each of four kinds of evidence reached since its onset, and blames by their
product (see ``PeakEvidence.shares``).

The anomaly machine itself is ``policy.Alarm``; nothing outside this file acts on its states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace

import numpy as np

from daemon.alarm import Alarm, State
from daemon.domain import (
    SECOND_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Contributor,
    Floats,
    InputPartition,
    PartScore,
    Phase,
    Severity,
    StreamSpec,
    iso,
)
from daemon.stream.identity import digest
from daemon.stream.snapshot import AlarmState, EpisodeState, pack_floats, unpack_floats

CONTRIBUTORS = 40
"""Sensors that an alert ranks, at most."""
ALIKE, STORM = 16, 200
"""Anomalies on a partition that opened within a window of each other, and anomalies open at once, above
which no verdicts are asked for: each takes some 3 ms, those that opened together are due together, and
what hits so many assets at a time is no fault of one machine's process."""
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


@dataclass(frozen=True, slots=True, eq=False)
class SensorEvidence:
    """What one scored row says of each sensor: all (C,), NaN where unknown."""

    error: Floats  # standardised, over the whole window
    residual: Floats  # of the newest row, standardised
    deviation: Floats  # of the newest row, signed, from the training mean in training sd
    before: Floats  # the same, median over the window
    observed: Floats
    expected: Floats

    @staticmethod
    def read(
        error: Floats, residual: Floats, deviation: Floats, observed: Floats, expected: Floats
    ) -> SensorEvidence:
        """Read off a window whose (L, C) rows deviate so; a sensor that nothing is expected of has no say.

        In double precision whatever the model works in, as peaks are written for a successor: it
        must go on with the very numbers.
        """
        error, residual, observed, expected = (
            np.asarray(values, np.float64) for values in (error, residual, observed, expected)
        )
        deviation = np.where(np.isnan(expected), np.nan, deviation.astype(np.float64))
        count = np.isfinite(deviation).sum(0)
        middle = (np.maximum(count, 1) - 1) // 2  # sorting puts NaN last
        before = np.take_along_axis(np.sort(deviation, axis=0), middle[None], 0)[0]
        return SensorEvidence(error, residual, deviation[-1], before, observed, expected)


@dataclass(frozen=True, slots=True, eq=False)
class PeakEvidence:
    """The farthest that each sensor went since an episode's onset: all (C,), NaN where unknown."""

    error: Floats
    residual: Floats
    change: Floats  # from ``before``, training sd
    deviation: Floats
    before: Floats  # where it stood when the scores began to rise
    observed: Floats  # with ``expected``, where the residual was largest
    expected: Floats

    @staticmethod
    def since(row: SensorEvidence) -> PeakEvidence:
        """The peaks of an episode that begins with this row."""
        nothing = np.full(len(row.error), np.nan)
        return PeakEvidence(nothing, nothing, nothing, nothing, row.before, nothing, nothing).grown(row)

    def grown(self, row: SensorEvidence) -> PeakEvidence:
        """Take one more row in; a sensor that is missing keeps its peak."""
        before = np.where(np.isnan(self.before), row.before, self.before)
        size = np.abs(row.residual)
        beyond = (size > self.residual) | np.isnan(self.residual)
        return PeakEvidence(
            np.fmax(self.error, row.error),
            np.fmax(self.residual, size),
            np.fmax(self.change, np.abs(row.deviation - before)),
            np.fmax(self.deviation, np.abs(row.deviation)),
            before,
            np.where(beyond, row.observed, self.observed),
            np.where(beyond, row.expected, self.expected),
        )

    def shares(self) -> Floats:
        """(C,) each sensor's share in an episode, summing to 1 (to 0 where nothing was observed).

        In proportion to the geometric mean of one plus each of: the window's error, the newest
        row's residual, the change since before the onset, the distance from the training mean,
        less one. Model and plain sight must agree: a model's error leaks from the culprit into
        sensors that move with it, and these look as ever, while many a sensor that is far from
        its mean is just where its neighbours say. A product of magnitudes names the culprits
        better than an average of ranks, which throws away by how much (measured in
        ``tests/bench/attribution.py``).
        """
        evidence = np.stack([self.error, self.residual, self.change, self.deviation])
        size = np.expm1(np.log1p(np.fmax(evidence, 0.0)).mean(0))
        total = size.sum()
        return np.asarray(size / total if total > 0 else size)


@dataclass(slots=True, eq=False)
class AssetEpisodes:
    """What is open for one asset, and where its anomaly machine stands."""

    alarm: Alarm = field(default_factory=Alarm)
    above_since: int = -1  # first row of the present run of scores above the closing level
    peaks: PeakEvidence | None = None  # since the onset
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
            [e.snapshot() for e in self.open.values() if e.kind is not AlertKind.DRIFT],
        )

    @staticmethod
    def restored(state: AlarmState) -> AssetEpisodes:
        """The episodes of an asset's record."""
        peaks = None
        if state.peaks is not None:
            peaks = PeakEvidence(*unpack_floats(state.peaks).reshape(len(fields(PeakEvidence)), -1))
        return AssetEpisodes(
            Alarm(State(state.state), state.recent, state.resting),
            state.above_since,
            peaks,
            {(e.kind, e.sensor): Episode.restored(e) for e in state.open},
        )


@dataclass(frozen=True, slots=True)
class ScoredEvidence:
    """One scored row, with what an alert would say of it. Built only for rows that matter."""

    row: int
    score: float
    scores: Mapping[str, PartScore]
    sensors: SensorEvidence | None
    imputed_share: float
    first_offset: int
    last_offset: int
    clock_offset_ns: int | None = None
    verdict: Callable[[Floats, Floats], str | None] | None = None
    """The kind of cause, given where the sensors stood before the onset and their shares, (C,) each."""

    @staticmethod
    def unscored(row: int) -> ScoredEvidence:
        """A row that an episode begins or ends at for another reason than its score."""
        return ScoredEvidence(row, math.nan, {}, None, 0.0, -1, -1)


class Episodes:
    """The episodes of all assets of one input partition.

    Args:
        spec: the stream.
        partition: where the rows come from, for the alert's origin.
        policy: the anomaly machine's settings.
        maintenance: (start_ns, end_ns, assets) in which no anomaly opens; no assets = all.

    ``suppressed`` counts the episodes that maintenance kept quiet: runs of rows above the threshold.
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
        self._quiet: dict[str, tuple[int, bool]] = {}
        """Under maintenance: an asset's newest row that was near its threshold or above, and whether its run was."""

    def of(self, asset: str) -> AssetEpisodes:
        """An asset's episodes, made on first use."""
        known = self.assets.get(asset)
        if known is None:
            known = self.assets[asset] = AssetEpisodes()
        return known

    def cannot_change(self, asset: str, score: float, threshold: float) -> bool:
        """True if a scored row can change nothing, so that no Finding need be built for it."""
        known = self.assets.get(asset)
        if known is None:
            return score <= self.policy.hysteresis * threshold
        return (
            score <= self.policy.hysteresis * threshold
            and known.alarm.state is State.INACTIVE
            and not known.alarm.recent
            and known.above_since < 0
        )

    def scored(
        self, asset: str, finding: ScoredEvidence, threshold: float, model: str, calibration: str
    ) -> tuple[bool, list[AlertEvent]]:
        """Take one scored row.

        Returns:
            Whether an anomaly episode is firing at this row, and the messages it caused.
        """
        if self.maintained(asset, finding.row):
            self._keep_quiet(asset, finding, threshold)
            frozen = self.assets.get(asset)  # what was open before stays as it is
            return frozen is not None and frozen.alarm.state is State.FIRING, []
        self._quiet.pop(asset, None)
        known = self.of(asset)
        if finding.score > self.policy.hysteresis * threshold:
            if known.above_since < 0:
                known.above_since = finding.row
        else:
            known.above_since = -1
        state = known.alarm.step(finding.score, threshold, self.policy)
        if known.above_since >= 0 or state is not State.INACTIVE:
            known.peaks = _grown(known.peaks, finding.sensors)
        key = (AlertKind.ANOMALY, None)
        episode = known.open.get(key)
        severity = Severity.CRITICAL if finding.score > CRITICAL_RATIO * threshold else Severity.WARNING
        events: list[AlertEvent] = []
        if state is State.FIRING and episode is None:
            onset = known.above_since if known.above_since >= 0 else finding.row
            events.append(
                self._open(
                    known, asset, AlertKind.ANOMALY, None, severity, finding, onset, model, calibration
                )
            )
        elif state is State.FIRING and episode is not None:
            worse = severity is Severity.CRITICAL and episode.severity is Severity.WARNING
            if worse or finding.row >= episode.next_update_row:
                if worse:
                    episode.severity = severity
                opened = self.spec.row(episode.opened_ns)
                while episode.next_update_row <= finding.row:
                    episode.next_update_row += episode.next_update_row - opened
                events.append(self._message(episode, asset, Phase.UPDATED, finding, model, calibration))
        elif state is State.INACTIVE and episode is not None:
            del known.open[key]
            events.append(self._message(episode, asset, Phase.CLOSED, finding, model, calibration))
        if known.above_since < 0 and state is State.INACTIVE:
            known.peaks = None
        self._let_go(asset, known)
        return state is State.FIRING, events

    def _keep_quiet(self, asset: str, finding: ScoredEvidence, threshold: float) -> None:
        """Count an episode that would have opened; rows that are far from the threshold may not come here."""
        if not finding.score > self.policy.hysteresis * threshold:
            self._quiet.pop(asset, None)
            return
        row, above = self._quiet.get(asset, (-1, False))
        above &= row >= 0 and finding.row - row <= self.spec.hop
        self.suppressed += finding.score > threshold and not above
        self._quiet[asset] = finding.row, above or finding.score > threshold

    def _let_go(self, asset: str, known: AssetEpisodes) -> None:
        """Forget an asset about which there is nothing to know: ``assets`` are those that are restless."""
        alarm = known.alarm
        if alarm.state is State.INACTIVE and not (alarm.recent or known.open) and known.above_since < 0:
            self.assets.pop(asset, None)

    def open_unscored(
        self,
        asset: str,
        kind: AlertKind,
        sensor: str | None,
        row: int,
        onset_row: int,
        severity: Severity,
        model: str,
        clock_offset_ns: int | None = None,
    ) -> list[AlertEvent]:
        """Open an episode that has no score (silence, a stuck sensor ...), unless it is open.

        ``clock_offset_ns``: of a skewed clock, how far it is ahead of the fleet's.
        """
        known = self.of(asset)
        if (kind, sensor) in known.open:
            return []
        finding = replace(ScoredEvidence.unscored(row), clock_offset_ns=clock_offset_ns)
        return [self._open(known, asset, kind, sensor, severity, finding, onset_row, model, "full")]

    def close_unscored(
        self, asset: str, kind: AlertKind, sensor: str | None, row: int, model: str
    ) -> list[AlertEvent]:
        """Close such an episode, if it is open."""
        known = self.assets.get(asset)
        episode = known.open.pop((kind, sensor), None) if known is not None else None
        if known is None or episode is None:
            return []
        finding = ScoredEvidence.unscored(row)
        message = self._message(episode, asset, Phase.CLOSED, finding, model, "full")
        self._let_go(asset, known)
        return [message]

    def is_open(self, asset: str, kind: AlertKind, sensor: str | None = None) -> bool:
        """Whether such an episode is open."""
        known = self.assets.get(asset)
        return known is not None and (kind, sensor) in known.open

    def going_on(self, model: str) -> Iterator[AlertEvent]:
        """What is open, as it was opened, for who takes over and was not there; never to be published."""
        for asset, known in list(self.assets.items()):
            for episode in known.open.values():
                opened = ScoredEvidence.unscored(self.spec.row(episode.opened_ns))
                yield self._message(episode, asset, Phase.OPENED, opened, model, "full")

    def dismiss(self, asset: str, row: int, model: str) -> list[AlertEvent]:
        """Forget an asset (eviction): nobody would ever close what is open of it, so that is done here."""
        self._quiet.pop(asset, None)
        known = self.assets.get(asset)
        if known is None:
            return []
        mine = [e for e in known.open.values() if e.kind is not AlertKind.DRIFT]  # the stream's, a namesake
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
        """The part of an asset's record; None where there is nothing to remember."""
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
    def _contributors(self, asset: str) -> list[Contributor]:
        """The sensors of an episode, most blamed first."""
        peaks = self.of(asset).peaks
        if peaks is None:
            return []
        share = peaks.shares()
        return [
            Contributor(
                self.spec.sensors[c],
                float(peaks.observed[c]) if np.isfinite(peaks.observed[c]) else None,
                float(peaks.expected[c]) if np.isfinite(peaks.expected[c]) else None,
                float(share[c]),
            )
            for c in np.argsort(-share, kind="stable")[:CONTRIBUTORS].tolist()
            if share[c] > 0
        ]

    def maintained(self, asset: str, row: int) -> bool:
        """Whether an asset is under maintenance at a row."""
        time_ns = row * self.spec.period_ns
        return any(
            start <= time_ns < end and (not assets or asset in assets)
            for start, end, assets in self.maintenance
        )

    def _open(
        self,
        known: AssetEpisodes,
        asset: str,
        kind: AlertKind,
        sensor: str | None,
        severity: Severity,
        finding: ScoredEvidence,
        onset_row: int,
        model: str,
        calibration: str,
    ) -> AlertEvent:
        period = self.spec.period_ns
        episode = Episode(
            kind,
            sensor,
            digest(self.spec.name, asset, kind, sensor, finding.row * period, *self._place_of(kind), size=16),
            finding.row * period,
            onset_row * period,
            severity,
            finding.row + self.spec.window,
        )
        known.open[(kind, sensor)] = episode
        return self._message(episode, asset, Phase.OPENED, finding, model, calibration)

    def _place_of(self, kind: AlertKind) -> tuple[object, ...]:
        """What else tells an episode: drift is of a partition, where others are of an asset."""
        return (self.partition.topic, self.partition.number) if kind is AlertKind.DRIFT else ()

    def _message(
        self,
        episode: Episode,
        asset: str,
        phase: Phase,
        finding: ScoredEvidence,
        model: str,
        calibration: str,
    ) -> AlertEvent:
        period = self.spec.period_ns
        row_ns = finding.row * period
        scored = episode.kind is AlertKind.ANOMALY
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
            scores=finding.scores,
            contributors=self._contributors(asset) if scored else (),
            window_start_ns=(finding.row - self.spec.window + 1) * period if scored else None,
            window_steps=self.spec.window if scored else 0,
            imputed_share=finding.imputed_share,
            partition=self.partition,
            first_offset=finding.first_offset,
            last_offset=finding.last_offset,
            clock_offset_ns=finding.clock_offset_ns,
            verdict=self._verdict(asset, episode, finding) if phase is Phase.UPDATED else None,
        )
        return replace(event, summary=summary(event))

    def _verdict(self, asset: str, episode: Episode, finding: ScoredEvidence) -> str | None:
        """The kind of cause, as soon as a whole window lies in the episode: a beginning looks like one sensor's."""
        peaks = self.of(asset).peaks
        lasted = finding.row - self.spec.row(episode.opened_ns)
        if finding.verdict is None or peaks is None or lasted < self.spec.window:
            return None
        if self._stormy(episode):
            return None
        return finding.verdict(np.nan_to_num(peaks.before), peaks.shares())

    def _stormy(self, episode: Episode) -> bool:
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


def _grown(peaks: PeakEvidence | None, row: SensorEvidence | None) -> PeakEvidence | None:
    if row is None:
        return peaks
    return PeakEvidence.since(row) if peaks is None else peaks.grown(row)


def number(value: float | None) -> str:
    """Four significant digits, or ``missing``."""
    return "missing" if value is None else f"{value:.4g}"


def lasting(span_ns: int) -> str:
    """A duration in the largest unit of which it has two: ``90 min``, ``3 h``."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if span_ns >= 2 * size * SECOND_NS:
            return f"{span_ns / (size * SECOND_NS):.3g} {unit}"
    return f"{span_ns / SECOND_NS:.3g} s"


def summary(event: AlertEvent) -> str:
    """One sentence that suffices on a phone at night."""
    when = iso(event.onset_ns)
    match event.kind:
        case AlertKind.SENSOR_SILENT:
            text = f"{event.asset}: {event.sensor} has sent no value since {when}"
        case AlertKind.SENSOR_STUCK:
            text = f"{event.asset}: {event.sensor} has not moved since {when}"
        case AlertKind.ASSET_SILENT:
            text = f"{event.asset} has sent nothing since {when}"
        case AlertKind.CLOCK_SKEW:
            off = event.clock_offset_ns
            how = (
                "off"
                if off is None
                else f"{lasting(abs(off))} {'ahead of' if off > 0 else 'behind'} the fleet's"
            )
            text = f"the clock of {event.asset} is {how}, noticed at {when} of its own time"
        case AlertKind.UNKNOWN_CONDITION:
            text = f"{event.asset} runs in a condition new to the model ({event.sensor}) since {when}"
        case AlertKind.DRIFT:
            text = f"the readings of {event.stream} have drifted from what the model learned, since {when}"
        case _:
            leading = ", ".join(
                f"{c.sensor} {number(c.observed)} (expected {number(c.expected)})"
                for c in event.contributors[:3]
            )
            combined = event.scores.get("combined")
            if event.phase is Phase.CLOSED:  # by a score that is no longer above the threshold
                text = f"{event.asset} was anomalous since {when}: {leading}".rstrip(" :")
            else:
                how = f" score {combined.value:.2f} over {combined.threshold:.2f};" if combined else ""
                text = f"{event.asset} is anomalous since {when}:{how} {leading}".rstrip(" ;")
    return f"{text} (over)" if event.phase is Phase.CLOSED else text
