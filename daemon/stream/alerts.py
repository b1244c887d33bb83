"""Episodes: when alert messages are emitted, and which alerts are open.

Detectors say when a part of an alert opens and closes: an anomaly (from scores), a deviation of a sensor (from
sustained evidence, see ``deviation``), or something without a score: a silent or stuck sensor, a silent asset, a skewed
clock, an unknown condition, drift. What belongs together is one alert (``incident``), which is opened, possibly
updated, and closed, with one message for each. This module owns the incidents of all assets of an input partition and
their alarm states; nothing outside it changes an alarm (the state machine itself is ``alarm.Alarm``).

Input: scored rows (``ScoredEvidence``), and the beginnings and ends that other parts detect, each asset's in the order
of its rows. Output: ``AlertEvent`` values in that order.

Invariants:

* The messages of an alert share a fingerprint, and the kind of the part that opened it. Ids and fingerprints are digests
  of what caused them (stream, asset, kind, sensor, row): a message that is emitted again, after a restart or by another
  process, has the same id, and a reader who remembers ids processes each message once.
* Updates are caused by rows, never by a timer: when a part joins, or a kind of parts is over; when the severity
  rises, or another sensor comes to be the first contributor (at most one of these a window); and when the alert has
  lasted 1, 2, 4, 8 ... windows, so that a long one stays visible with few messages.
* What an anomaly is blamed on is accumulated since its onset: see ``attribution``. Openings and updates ask the model what
  it expects without the sensors at fault; at its end the window is normal again, and there is nothing to explain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from daemon.alarm import State
from daemon.control import Feedback, Verdict
from daemon.detector import REACH
from daemon.domain import (
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Floats,
    InputPartition,
    PartScore,
    Phase,
    Severity,
    StreamSpec,
)
from daemon.maintenance import MaintenanceWindow
from daemon.stream.acceptance import Acceptances, Accepted
from daemon.stream.alert_messages import AlertWriter, Cause, ScoredEvidence
from daemon.stream.attribution import extended
from daemon.stream.deviation import Deviation, SustainedRow
from daemon.stream.dismissal import Dismissals, Effect, Taken
from daemon.stream.episode_state import AlarmState
from daemon.stream.incident import (
    ANOMALY,
    STREAM_DRIFT,
    AssetEpisodes,
    EpisodeStart,
    Incident,
    Part,
    UnscoredChange,
    regime_rows,
)
from daemon.stream.incidents import Incidents
from daemon.stream.maintenance import FADED, Maintenance
from daemon.stream.open_episodes import OpenEpisodes
from daemon.stream.planned_stops import PlannedStops
from daemon.stream.recurrence import leading_sides, quiet_sensors, steady_since
from daemon.stream.severity import SeverityRule


class Episodes(OpenEpisodes):
    """The episodes of all assets of one input partition.

    Args:
        spec: the stream.
        partition: where the rows come from, for the alert's origin.
        policy: the settings of the alarms.
        maintenance: the planned stops of the configuration.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        policy: AlarmPolicy,
        maintenance: Sequence[MaintenanceWindow] = (),
    ) -> None:
        super().__init__(spec)
        self.partition = partition
        self.policy = policy
        self.maintenance = Maintenance(spec, maintenance)
        self._regime_rows = regime_rows(spec.window, spec.period_ns)
        self.dismissals = Dismissals(spec, policy)
        self.acceptances = Acceptances(spec)
        self._writer = AlertWriter(spec, partition, self.assets, self.dismissals.said_of)
        self._incidents = Incidents(spec, partition, self._writer, self.dismissals)
        self._severity = SeverityRule(spec, policy)
        self.planned = PlannedStops(spec, partition, self.maintenance, self.assets, self._writer)

    def use_policy(self, policy: AlarmPolicy, maintenance: Sequence[MaintenanceWindow]) -> None:
        """The settings of the alarms, and the planned stops of the configuration, are these from the next row on."""
        self.policy = policy
        self._severity = SeverityRule(self.spec, policy)
        self.dismissals.policy = policy
        self.maintenance.configure(maintenance)

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
            threshold: of ``Detector``; a score above it opens, as a jump beyond its limit does.
            closing: of ``Detector``; a score up to it closes.
            model: its version.
            calibration: ``full`` or ``provisional``.

        Returns:
            Whether an anomaly episode is firing at this row, and the messages it caused.
        """
        was = self.assets.get(asset)
        fires = was is not None and was.alarm.state is State.FIRING
        if fires and self.maintenance.covers(asset, evidence.row):
            return True, []  # what was open before stays as it is
        if not fires and self.maintenance.within(asset, evidence.row, self.spec.window):
            opens = evidence.opens(threshold)
            held = opens or evidence.score > closing
            if not self.maintenance.count(asset, evidence.row, opens=opens, held=held):
                return False, []
            severity = self._severity.of(evidence.score, threshold, extended(None, evidence.sensors))
            return False, [
                self.planned.suppressed(Cause(asset, evidence, model, calibration), threshold, severity)
            ]
        self.maintenance.forget(asset)
        known = self.of(asset)
        if evidence.score > closing or evidence.jump > 1.0:
            if known.above_since < 0:
                known.above_since = evidence.row
        else:
            known.above_since = -1
        before = known.alarm.state
        bar, jump = self.dismissals.bar(asset, known, evidence, threshold, model)
        state = known.alarm.step(evidence.score, bar, closing, self.policy, jump)
        said = Cause(asset, evidence, model, calibration)
        events: list[AlertEvent] = []
        incident = known.with_part(ANOMALY)
        if known.follow(self.spec, evidence.row, evidence.sensors, before) and incident is not None:
            known.above_since = evidence.row
            events += self._incidents.hand_over(known, incident, said)
            incident = None
        blamed = known.peaks if incident is None else incident.evidence(known.peaks)
        severity = self._severity.of(evidence.score, threshold, blamed)
        height, before_it = evidence.height(threshold), incident
        firing = state is State.FIRING
        if firing and incident is not None and known.has_outgrown(self.spec, incident, height, evidence.row):
            incident = None
        if firing and incident is None:
            storm = self._writer.is_storm(known.above_since)
            leading = known.leading(self.spec, None, *([] if storm else [evidence.explained]))
            start = EpisodeStart(AlertKind.ANOMALY, known.above_since, severity=severity)
            sides = leading_sides(known, self.spec, leading)
            start = replace(start, sides=sides, explained_by=None if storm else evidence.explained_by)
            incident, phase = self._incidents.take_in(known, asset, start, leading, evidence.row, height)
            events += self._incidents.move_anomaly(known, incident, height, said, before_it)
            self._incidents.reached(known, incident, evidence, threshold)
            events.append(self._writer.message(incident, phase, said))
        elif firing and incident is not None:
            worse = severity is Severity.CRITICAL and incident.severity is Severity.WARNING
            if worse:
                incident.severity = severity
            self._incidents.reached(known, incident, evidence, threshold)
            due = incident.update_due(evidence.row)
            if due or worse or known.is_corrected(self.spec, incident, evidence.row):
                events.append(self._writer.message(incident, Phase.UPDATED, said))
        elif state is State.INACTIVE and incident is not None:
            events += self._incidents.end_or_wait(known, incident, [ANOMALY], said)
        self.dismissals.follow(asset, known, evidence, threshold, model)
        self._drop_if_inactive(asset, known)
        return firing, events

    def deviates(self, asset: str) -> bool:
        """Whether a sensor of the asset was beyond its closing limit at its last scored row, or is part of an incident that lasts."""
        known = self.assets.get(asset)
        if known is None or asset in self.dismissals.accepting:
            return known is not None
        return known.deviation is not None or any(one.lasts for one in known.incidents)

    @property
    def moved_by_any_score(self) -> set[str]:
        """The assets with an episode that the next scored row may change, however low its score is.

        What has no score, such as an unknown condition, is none of these.
        """
        return {
            asset
            for asset in self.assets
            if self.deviates(asset) or not self.cannot_change(asset, -math.inf, -math.inf)
        }

    def sustained(
        self,
        asset: str,
        row: SustainedRow,
        evidence: Callable[[], ScoredEvidence],
        model: str,
        calibration: str,
    ) -> tuple[bool, list[AlertEvent], Accepted | None]:
        """Process the sustained evidence of a scored row, after its score, and move the asset's deviations on.

        Args:
            asset: whose row it is.
            row: the evidence.
            evidence: makes what else a message says of the row.
            model: the version in force.
            calibration: of its limits.

        Returns:
            Whether an anomaly or a deviation is open after this row; the messages it caused; and of what the present level is
            normal from now on, None: of nothing.
        """
        if self.maintenance.covers(asset, row.row):
            if asset in self.assets:
                self.assets[asset].unsettle(row.row)
            return self.is_off(asset), [], None
        known = self.of(asset)
        told: dict[str, Phase] = {}  # by fingerprint
        events: list[AlertEvent] = []
        for c in self._incidents.higher(known, row):
            incident, phase = self._incidents.deviate(
                known, asset, c, known.rose_at(self.spec.sensors[c], row.row), row
            )
            told.setdefault(incident.fingerprint, phase)
            events += self._incidents.move(known, incident, [c], Cause(asset, evidence(), model, calibration))
        deviation = known.deviation or Deviation.none(len(row.closing))
        blamed = known.blamed(self.spec, deviation.since_or(row.row))
        deviation = deviation.grown(
            row, blamed, self.spec.window, self.spec.hop, quiet_sensors(known, self.spec)
        )
        lowered = self.dismissals.lowered(asset, known, row, deviation)
        accepted: Accepted | None = None
        opening, known.deviation = deviation.opening(row, lowered, self.spec.window), deviation
        if opening and self.maintenance.within(asset, row.row, FADED * self.spec.window):
            opening = []  # it may be of the stop
        for incident, phase in self._incidents.open_deviations(known, asset, opening, row):
            told.setdefault(incident.fingerprint, phase)
        deviation = known.deviation
        self.dismissals.follow_sustained(asset, known, row, deviation)
        known.last(self.spec, row.row, row.opening)
        calm, patience = deviation.calm(row.row), max(self.policy.refractory, 1)
        still_off = deviation.still_off & (
            patience >= REACH * self.spec.window
        )  # else its level tells too late
        back = deviation.back(row)
        for incident in list(known.incidents):
            mine = [
                c
                for c, name in enumerate(self.spec.sensors)
                if self._incidents.deviation_of(c) in incident.parts
            ]
            if self.dismissals.accepts(asset, incident):
                incident.accepted = incident.learned = True
            if incident.accepted or self._settled(incident, deviation, row):
                told.setdefault(incident.fingerprint, Phase.UPDATED)
            if incident.regime and not incident.quiet:
                self._incidents.unname(known, incident)  # what it had besides when it began is over
            if self._incidents.is_over(asset, incident, row) and not incident.accepted:
                said = Cause(asset, evidence(), model, calibration)
                events += self._incidents.end(known, incident, [], said)
                continue
            if not (mine or incident.fingerprint in told):
                continue
            largest = float(np.nanmax(row.opening[mine], initial=0.0))
            incident.reached(row.row * self.spec.period_ns, "sustained", largest, 1.0)
            lasting = self._regime_rows if not incident.regime else patience
            over = [
                self._incidents.deviation_of(c)
                for c in mine
                if calm[c] >= (lasting if still_off[c] else patience)
            ]
            if over and len(over) == len(mine):  # what else is open may end later
                incident.absorbed = bool(still_off[mine].all())
            # After as long as evidence reaches back without such a row it goes on, each row by little.
            lately = row.row - incident.bad_row < REACH * self.spec.window
            if (row.beyond & ~(back & lately))[mine].any() or still_off[mine].any():
                incident.bad(row.row)
            due = bool(mine) and incident.update_due(row.row)
            due &= incident.told_row < row.row  # else its score has said so
            if incident.severity is Severity.WARNING and self._severity.of_deviation(row.opening, mine):
                incident.severity, due = Severity.CRITICAL, True
            if over or due or incident.fingerprint in told:
                found = _with_extent(evidence(), largest) if mine else evidence()
                said = Cause(asset, found, model, calibration)
                if incident.accepted:
                    most = self.dismissals.sustained_of(asset, incident)
                    new = self.acceptances.accept(asset, known, incident, most, row, found)
                    accepted, said = new.joined(accepted), replace(said, accepted=new.changes)
                    over = list(incident.parts)
                ended = self._incidents.end_or_wait(known, incident, over, said)
                if not ended and (due or incident.fingerprint in told):
                    phase = told.get(incident.fingerprint, Phase.UPDATED)
                    ended = [self._writer.message(incident, phase, said)]
                events += ended
                if accepted is not None and incident.accepted:
                    known.begin_anew(accepted.sensors)
        if not row.beyond.any() and not any(
            AlertKind.DEVIATION in one.kinds and not one.slow for one in known.incidents
        ):
            known.deviation = None
        self._drop_if_inactive(asset, known)
        return self.is_off(asset), events, accepted

    def _settled(self, incident: Incident, deviation: Deviation, row: SustainedRow) -> bool:
        """Follow how long an incident is steady; whether it has come to be a regime, learned or normal."""
        if not incident.can_be_regime:
            incident.steady_row = incident.steady_row if incident.regime else -1
            return False
        names = set(incident.names)
        since = deviation.steady_since(row, [c for c, name in enumerate(self.spec.sensors) if name in names])
        if since is not None and self.policy.recurs_rows:
            since = steady_since(incident, deviation, row, since, self.spec)
        opened = incident.opened_ns // self.spec.period_ns
        return incident.settled(since, row.row, self._regime_rows, self.policy, opened)

    def follow_accepted(self, asset: str, row: SustainedRow, apart: Floats) -> None:
        """Let a scored row of a watched asset tell what is left of its levels; see ``Acceptances.follow``."""
        if asset not in self.assets and not self.maintenance.covers(asset, row.row):
            self.acceptances.follow(asset, row, apart)

    @property
    def changing(self) -> set[str] | None:
        """The assets of which something may become normal at a row, or not any more; None: any."""
        return None if self.policy.accept_rows else self.dismissals.accepting | self.acceptances.watched

    def changes_from(self, asset: str, row: int) -> int:
        """A row before which nothing of that happens with an asset, of the rows from this one on."""
        if asset in self.dismissals.accepting:
            return row
        known = self.assets.get(asset) or AssetEpisodes()
        accepts = known.accepts_from(row, self.spec.period_ns, self.policy.accept_rows, self._regime_rows)
        return min(accepts, self.acceptances.changes_from(asset, row))

    def _drop_if_inactive(self, asset: str, known: AssetEpisodes) -> None:
        """Drop an asset without state: ``assets`` has only those whose next row may change something."""
        alarm = known.alarm
        idle = alarm.state is State.INACTIVE and known.above_since < 0 and known.deviation is None
        if idle and not (alarm.recent or known.incidents):
            self.assets.pop(asset, None)

    def open_unscored(self, asset: str, start: EpisodeStart, row: int, model: str) -> list[AlertEvent]:
        """Open a part that has no score (silence, a stuck sensor ...) at a row, unless it is open."""
        known = self.of(asset)
        if known.with_part(start.part) is not None:
            return []
        start = replace(start, may_return=not self.maintenance.covers(asset, row))
        incident, phase = self._incidents.take_in(known, asset, start, start.names, row)
        window = self.planned.mute(incident, asset, row) if phase is Phase.OPENED else None
        if incident.muted and window is None:
            return []
        phase = phase if window is None else Phase.SUPPRESSED
        event = self._writer.draft(incident, phase, Cause(asset, ScoredEvidence.unscored(row), model, "full"))
        return [self._writer.with_summary(start.told_by(event, window))]

    def close_unscored(self, asset: str, part: Part, row: int, model: str) -> list[AlertEvent]:
        """Close such a part at a row, if it is open."""
        known = self.assets.get(asset)
        incident = None if known is None else known.with_part(part)
        if known is None or incident is None:
            return []
        said = Cause(asset, ScoredEvidence.unscored(row), model, "full")
        events = self._incidents.end_or_wait(known, incident, [part], said)
        self._drop_if_inactive(asset, known)
        return events

    def outdate_drift(self, asset: str, row: int, model: str, part: Part) -> list[AlertEvent]:
        """Close a drift at a row, but not before it opened, if it is open: another model is in force, which measures anew."""
        row = max(row, self.opened_row(asset, part))
        return [self._writer.outdated(one) for one in self.close_unscored(asset, part, row, model)]

    def take_in(self, changes: Sequence[UnscoredChange], model: str) -> list[AlertEvent]:
        """Open and close parts that have no score, at rows of a chunk."""
        events: list[AlertEvent] = []
        for one in changes:
            if one.part is None:
                events += self.planned.end(one.asset, one.row, model)
            elif one.start is None:
                events += self.close_unscored(one.asset, one.part, one.row, model)
            else:
                events += self.open_unscored(one.asset, one.start, one.row, model)
        return events

    def going_on(self, model: str) -> Iterator[AlertEvent]:
        """The open alerts as opening messages, to show them after a restart; they are not to be published."""
        for asset, known in list(self.assets.items()):
            for one in known.incidents:
                if one.muted:
                    continue
                opened = ScoredEvidence.unscored(self.spec.row(one.opened_ns))
                yield self._writer.message(
                    one, Phase.OPENED, Cause(asset, opened, model, "full"), telling=False
                )

    def dismiss(self, asset: str, row: int, model: str) -> list[AlertEvent]:
        """Remove an asset (eviction) and close its open alerts, which no later row could close."""
        self.maintenance.forget(asset)
        self.planned.muted.discard(asset)
        known = self.of(asset)
        # The stream's drift is kept under the stream's name, which the asset may have as well.
        mine = [one for one in known.incidents if STREAM_DRIFT not in one.parts]
        mine.sort(key=lambda one: (one.opened_ns, one.kind, one.sensor or ""))
        events: list[AlertEvent] = []
        for one in mine:
            events += self._incidents.end_at(known, asset, one, row, model)
        del self.assets[asset]
        if known.incidents:
            self.assets[asset] = AssetEpisodes(incidents=known.incidents)
        self.dismissals.forget(asset)
        self.acceptances.forget(asset)
        return events

    def asset_of(self, fingerprint: str) -> str | None:
        """Whose episode it is that people speak of; None: nobody's that is remembered."""
        return self.dismissals.asset_of(fingerprint) or self.acceptances.asset_of(fingerprint)

    def take(self, asset: str, feedback: Feedback, row: int, model: str) -> tuple[Taken, list[AlertEvent]]:
        """Take in a verdict on an episode that is remembered of an asset; what it does, and the end of its alert."""
        known = self.of(asset)
        mine = [one for one in known.incidents if one.fingerprint == feedback.fingerprint]
        accepted = self.acceptances.asset_of(feedback.fingerprint) == asset
        taken = self.dismissals.take(asset, feedback, mine[0] if mine else None, accepted=accepted)
        if feedback.verdict is not Verdict.PLANNED and self.acceptances.take_back(
            asset, feedback.fingerprint
        ):
            effect = Effect.RESTORED if taken.effect is Effect.NOTED else taken.effect
            taken = replace(taken, effect=effect, rejudges=True)
        events: list[AlertEvent] = []
        for incident in mine if taken.closes else ():
            events += self._incidents.end_at(known, asset, incident, row, model)
            known.begin_anew(np.zeros(len(self.spec.sensors), bool))
        self._drop_if_inactive(asset, known)
        return taken, events

    def restore(self, asset: str, state: AlarmState) -> None:
        """Continue with an asset's episodes as another process left them."""
        super().restore(asset, state)
        if any(one.muted for one in self.assets[asset].incidents):
            self.planned.muted.add(asset)


def _with_extent(evidence: ScoredEvidence, largest: float) -> ScoredEvidence:
    """With the largest share of an opening limit as one of the scores."""
    return replace(evidence, scores={**evidence.scores, "sustained": PartScore(largest, 1.0)})
