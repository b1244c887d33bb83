"""Incidents that grow, end, and hand over: what becomes of the open alerts of an asset as their parts open and close.

``Episodes`` (``alerts``) decides at which rows parts open and close; ``incident`` has the values and the rule of what
joins what; here both are put to work, with the messages that ends cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, replace

import numpy as np

from daemon.domain import AlertEvent, AlertKind, InputPartition, Mask, Phase, StreamSpec
from daemon.stream.alert_messages import AlertWriter, Cause, ScoredEvidence
from daemon.stream.attribution import AS_FAR
from daemon.stream.deviation import NEVER, Deviation, ExplainedBy, SustainedRow
from daemon.stream.dismissal import Dismissals
from daemon.stream.incident import (
    ANOMALY,
    BY_EVIDENCE,
    JOINING,
    AssetEpisodes,
    EpisodeStart,
    Incident,
    Part,
)
from daemon.stream.joining import is_echo, is_joinable, joined_by, opened_by
from daemon.stream.recurrence import EVIDENCE, NOT_BACK, is_like, pause_before, side_of, told, traits, waits


class Incidents:
    """The rules for the incidents of one input partition; the assets' incidents themselves are passed in.

    Args:
        spec: the stream.
        partition: where the rows come from.
        writer: of its messages.
        dismissals: remembers them.
    """

    def __init__(
        self, spec: StreamSpec, partition: InputPartition, writer: AlertWriter, dismissals: Dismissals
    ) -> None:
        self.spec = spec
        self.partition = partition
        self._writer = writer
        self._dismissals = dismissals

    def deviation_of(self, sensor: int) -> Part:
        """The part that a sensor's deviation is."""
        return Part(AlertKind.DEVIATION, self.spec.sensors[sensor])

    def deviate(
        self, known: AssetEpisodes, asset: str, sensor: int, onset_row: int, row: SustainedRow
    ) -> tuple[Incident, Phase]:
        """A sensor deviates from a row on; see ``take_in``."""
        name = self.spec.sensors[sensor]
        start = EpisodeStart(
            AlertKind.DEVIATION,
            onset_row,
            name,
            sides=side_of(known, self.spec, name),
            explained_by=row.explained_by,
        )
        return self.take_in(known, asset, start, [name], row.row, float(row.opening[sensor]))

    def open_deviations(
        self, known: AssetEpisodes, asset: str, sensors: Sequence[int], row: SustainedRow
    ) -> Iterator[tuple[Incident, Phase]]:
        """Sensors may begin to deviate at a row: those that do not yet, and that no open alert explains; see ``deviate``."""
        if sensors:
            row = replace(row, explained_by=self._asked_once(row))
        for c in sensors:
            name, deviation = self.spec.sensors[c], known.deviation
            if deviation is None or known.with_part(self.deviation_of(c)) is not None:
                continue
            if is_echo(known, name, row.explained_by, self.spec):
                known.deviation = deviation.explained_at(row.row, c)
                continue
            known.deviation = deviation.with_named([c], named=True).explained_at(NEVER, c)
            onset = int(max(deviation.since[c], deviation.explained[c] + 1.0))
            yield self.deviate(known, asset, c, onset, row)

    def _asked_once(self, row: SustainedRow) -> ExplainedBy | None:
        """The question of which sensors some explain, put to the model once for the same; in a storm not at all."""
        ask = row.explained_by
        if ask is None or self._writer.is_storm(row.row):
            return None
        answers: dict[bytes, Mask] = {}

        def asked(sensors: Mask) -> Mask:
            key = sensors.tobytes()
            if key not in answers:
                answers[key] = ask(sensors)
            return answers[key]

        return asked

    def higher(self, known: AssetEpisodes, row: SustainedRow) -> list[int]:
        """The sensors that deviate by far more than they ever did in their incident."""
        found = []
        for c, name in enumerate(self.spec.sensors) if known.heights else ():
            incident, height = known.with_part(self.deviation_of(c)), float(row.opening[c])
            if incident is None or not incident.by_evidence:
                continue
            if incident.is_outgrown(height) or known.outgrows([name], height, row.row, self.spec.window):
                found.append(c)
        return found

    def reached(
        self, known: AssetEpisodes, incident: Incident, evidence: ScoredEvidence, threshold: float
    ) -> None:
        """Follow how high the anomaly of an incident is."""
        row = evidence.row
        if not self._is_echo(known, incident, evidence):
            incident.bad(row)
        incident.reached(row * self.spec.period_ns, *evidence.leading(threshold))
        known.reach(incident.leading, evidence.height(threshold), row, self.spec.window)

    def _is_echo(self, known: AssetEpisodes, incident: Incident, evidence: ScoredEvidence) -> bool:
        """Whether what leads the anomaly is near what is expected again, and only rows before are still in the window.

        Not after a window without such a row: an anomaly that goes on, each row by little.
        """
        peaks, sensors = incident.evidence(known.peaks), evidence.sensors
        if peaks is None or sensors is None or evidence.row - incident.bad_row >= self.spec.window:
            return False
        which = peaks.leading()
        return bool((np.abs(sensors.residual[which]) < AS_FAR * peaks.residual[which]).all())

    def hand_over(self, known: AssetEpisodes, incident: Incident, said: Cause) -> list[AlertEvent]:
        """Another incident has the alarm from now on. What leads the anomaly of this one, and is beyond its limit, deviates instead."""
        if known.deviation is not None:
            beyond = np.isin(self.spec.sensors, incident.leading) & (known.deviation.since >= 0)
            self._add_deviations(known, said.asset, incident, known.deviation, beyond)
        return self.end_or_wait(known, incident, [ANOMALY], said)

    def move_anomaly(
        self, known: AssetEpisodes, to: Incident, height: float, said: Cause, had_it: Incident | None
    ) -> list[AlertEvent]:
        """Let an incident, which an anomaly has joined, have it alone, and the deviations of those of its sensors that have outgrown theirs."""
        row, window = said.evidence.row, self.spec.window
        sensors = [
            c
            for c, name in enumerate(self.spec.sensors)
            if name in to.leading and known.outgrows([name], height, row, window)
        ]
        return self.move(known, to, sensors, said, had_it)

    def move(
        self,
        known: AssetEpisodes,
        to: Incident,
        sensors: Sequence[int],
        said: Cause,
        had_anomaly: Incident | None = None,
    ) -> list[AlertEvent]:
        """Let an incident have what has outgrown others: the deviations of these sensors, and the anomaly it has."""
        events: list[AlertEvent] = []
        row, names = said.evidence.row, [self.spec.sensors[c] for c in sensors]
        since = [known.rose_at(name, row) for name in names]
        began = list(to.began)
        for one in list(known.incidents):
            moved = [self.deviation_of(c) for c in sensors if self.deviation_of(c) in one.parts]
            moved = [] if one is to or one.slow else moved
            for part in moved:
                onset = since[names.index(str(part.sensor))]
                to.join(part, onset, [str(part.sensor)], one.severity, self.spec.period_ns)
                self._dismissals.joined(said.asset, to, part)
            if one is had_anomaly and one is not to:
                moved.append(ANOMALY)
            if moved:
                events += self.end(known, one, moved, said, to)
        to.began = began  # what moved began before
        known.begin_higher(self.spec, names, since)
        return events

    def take_in(
        self,
        known: AssetEpisodes,
        asset: str,
        start: EpisodeStart,
        names: Sequence[str],
        row: int,
        height: float = 0.0,
    ) -> tuple[Incident, Phase]:
        """The incident that a part joins or opens, and the phase of the message that says so.

        Args:
            known: the asset's.
            asset: its name.
            start: the part.
            names: its sensors.
            row: the present one.
            height: of its evidence, in thresholds; 0: it has none.
        """
        kind, period = start.kind, self.spec.period_ns
        phase, incident = Phase.UPDATED, self._returned(known, start, height, row)
        incident = incident or joined_by(known, start, names, height, row, self.spec)
        if incident is None:
            phase, incident = Phase.OPENED, opened_by(self.spec, self.partition, asset, start, names, row)
            known.incidents.append(incident)
        elif kind in BY_EVIDENCE:
            incident.restart_updates(row, self.spec.window)
        if start.kind is AlertKind.DEVIATION and not start.part.slow:
            known.begin_anew_of_quiet(incident, names)
        if start.per_day is not None:
            incident.per_day = start.per_day
        incident.join(start.part, start.onset_row, names, start.severity, period)
        self._dismissals.joined(asset, incident, start.part)
        return incident, phase

    def _returned(
        self, known: AssetEpisodes, start: EpisodeStart, height: float, row: int
    ) -> Incident | None:
        """The quiet incident to which a part returns, as it is like it and not far more than it ever was."""
        policy = self._dismissals.policy
        for one in known.incidents if start.may_return and not start.part.slow else ():
            found = one.recurrence
            if not one.quiet or not is_like(start, found.like) or not waits(one, row, policy, self.spec):
                continue
            if not one.is_outgrown(height):
                found.pause = max(found.pause, row - one.bad_row)
                found.returned, found.returned_row = found.returned + 1, start.onset_row
                found.contributors = []
                return one
        return None

    def end_or_wait(
        self, known: AssetEpisodes, incident: Incident, parts: Sequence[Part], said: Cause
    ) -> list[AlertEvent]:
        """Close parts that are over; where nothing is left of an incident that may come back, it is quiet from now on.

        What it explained and is still off goes on as part of it: a model may get used to a fault and not to what that does to
        the others.
        """
        kept = self._keep_echoes(known, incident, parts, said)
        lasts = len(parts) < len(incident.parts) or incident.accepted or incident.absorbed
        if lasts or not parts or incident.muted or any(part.slow for part in parts):
            events = self.end(known, incident, parts, said)
            if kept and not events and not incident.muted:
                events = [self._writer.message(incident, Phase.UPDATED, said)]
            return events
        row, policy, found = said.evidence.row, self._dismissals.policy, incident.recurrence
        for part in parts:
            if part.kind not in BY_EVIDENCE:
                incident.bad(row)
        course, earlier = self._dismissals.courses(said.asset, incident)
        if course is not None:
            found.pause = max(found.pause, pause_before(incident, course, earlier, policy, self.spec))
        if course is None or not waits(incident, row, policy, self.spec):
            return self.end(known, incident, parts, said)
        incident.parts.clear()
        message = self._writer.message(incident, Phase.UPDATED, said)
        found.contributors = [astuple(one) for one in message.contributors]
        if not found.like:
            found.like, peak = traits(course), incident.peak
            found.height = 0.0 if peak is None or not peak.threshold > 0 else peak.value / peak.threshold
        return [message]

    def _keep_echoes(
        self, known: AssetEpisodes, incident: Incident, parts: Sequence[Part], said: Cause
    ) -> bool:
        """Sensors that are off, and were explained, deviate as part of an incident of which all else is over; whether there are any.

        Not if another incident may explain them.
        """
        deviation, row = known.deviation, said.evidence.row
        mine = incident.kind in JOINING and not incident.slow and not incident.accepted
        if deviation is None or not mine or len(parts) < len(incident.parts):
            return False
        if any(is_joinable(one) for one in known.incidents if one is not incident):
            return False
        echoes = (deviation.explained >= 0) & (deviation.last >= row - self.spec.hop)
        return self._add_deviations(known, said.asset, incident, deviation, echoes)

    def _add_deviations(
        self, known: AssetEpisodes, asset: str, incident: Incident, deviation: Deviation, which: Mask
    ) -> bool:
        """Sensors (C,) that are beyond their limits deviate as part of an incident, those that do not yet; whether there are any."""
        sensors = np.flatnonzero(which).tolist()
        added = [c for c in sensors if known.with_part(self.deviation_of(c)) is None]
        for c in added:
            part, onset = self.deviation_of(c), int(deviation.since[c])
            incident.join(part, onset, [self.spec.sensors[c]], incident.severity, self.spec.period_ns)
            self._dismissals.joined(asset, incident, part)
        known.deviation = deviation.with_named(added, named=True).explained_at(NEVER, *added)
        return bool(added)

    def is_over(self, asset: str, incident: Incident, row: SustainedRow) -> bool:
        """Let a row tell whether an incident is over; whether it was quiet, and is."""
        policy = self._dismissals.policy
        course, _ = self._dismissals.courses(asset, incident)
        if course is not None and policy.recurs_rows and EVIDENCE.issuperset(incident.kinds):
            told(incident, course, row, self.spec)
        over = incident.quiet and not waits(incident, row.row, policy, self.spec)
        incident.absorbed |= over and incident.recurrence.back_rows == NOT_BACK
        return over

    def end_at(
        self, known: AssetEpisodes, asset: str, incident: Incident, row: int, model: str
    ) -> list[AlertEvent]:
        """Close an alert at a row that is not the cause of it, and may be before those by which a silence opened."""
        end = ScoredEvidence.unscored(max(row, self.spec.row(incident.opened_ns)))
        return self.end(known, incident, list(incident.parts), Cause(asset, end, model, "full"))

    def end(
        self,
        known: AssetEpisodes,
        incident: Incident,
        parts: Sequence[Part],
        said: Cause,
        taken_by: Incident | None = None,
    ) -> list[AlertEvent]:
        """Close parts of an incident, or let another one have them; a message if it is over, or a kind of parts is."""
        for part in parts:
            del incident.parts[part]
            if part.kind not in BY_EVIDENCE or part.slow:
                incident.bad_row = said.evidence.row
        if incident.quiet:
            known.incidents.remove(incident)
            known.forget_heights()
            if incident.muted:
                self._dismissals.closed(said.asset, incident)
                return []
            message = self._writer.message(incident, Phase.CLOSED, said)
            self._dismissals.closed(said.asset, incident, continued=taken_by is not None)
            if taken_by is not None:
                message = self._writer.continued(message, taken_by)
            self.unname(known, incident)
            return [message]
        if incident.slow:
            self.unname(known, incident)
        if any(not incident.has(part.kind) for part in parts) and not incident.muted:
            return [self._writer.message(incident, Phase.UPDATED, said)]
        return []

    def unname(self, known: AssetEpisodes, incident: Incident) -> None:
        """Forget what sensors of an incident showed that do not deviate any more."""
        if known.deviation is None:
            return
        quiet = {name for one in known.incidents if one.quiet for name in one.sensors}
        mine = [
            c
            for c, name in enumerate(self.spec.sensors)
            if name in incident.sensors
            and name not in quiet
            and known.with_part(self.deviation_of(c)) is None
        ]
        known.deviation = known.deviation.with_named(mine, named=False)
