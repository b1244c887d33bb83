"""Incidents: what overlaps in time on one asset and belongs together is one alert, which grows.

Detectors open and close *parts*: an anomaly of the asset, a deviation of a sensor, a sensor that is silent or stuck.
A stuck sensor has all of them at once, and an operator one problem. A part that opens joins an open incident

* that has a sensor of it already, unless the evidence is far more than it ever was (``heights``), or
* whose onset is within ``TOGETHER`` windows of the part's own: one cause shows in other sensors, and as a sustained
  deviation, with that delay at most, or
* whose sensors are off only because the model reads its own (``joining``). What it explains in turn is an *echo*: no part.

Any other part is an incident of its own: nothing hides behind an alert that is open. A sensor whose evidence outgrows its
incident, of deviations and anomalies alone, leaves it for one of its own. Of an anomaly only the *leading*
sensors count (see ``attribution``): nearly every sensor has some share in it. The incident is over when all parts
are. An asset that is silent, a clock, a condition and drift are about no sensor; each is always an incident of its own. So
is a slow trend, but for a deviation of the same sensor to the same side: wear that has come to be seen in single rows.
The drift of an asset joins a slow trend of one of the sensors that carry it, and nothing else: what another episode
explains is no drift.

**Regimes.** An incident whose sensors that are farthest off have been steady, and off to one side, for ``regime_rows`` is
a new regime: a set point that was changed for good, or a fault that nobody has repaired. It is said by an update, and
``REGIME`` is one of its kinds from then on. The settings may say that it is learned, or normal, after a while.

``Episodes`` (``alerts``) owns the incidents of its assets, and is given changes in the order of an asset's rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import astuple, dataclass, field, fields, replace
from typing import NamedTuple

import numpy as np

from daemon.alarm import Alarm, State
from daemon.alert import Peak
from daemon.detector import REACH
from daemon.domain import (
    DAY_NS,
    AlarmPolicy,
    AlertEvent,
    AlertKind,
    Contributor,
    Floats,
    Mask,
    Severity,
    StreamSpec,
)
from daemon.drifting import DriftingAsset
from daemon.stream.attribution import PeakEvidence, SensorEvidence, extended
from daemon.stream.course import Side
from daemon.stream.deviation import Deviation, ExplainedBy
from daemon.stream.episode_state import AlarmState, IncidentState, Recurrence
from daemon.stream.heights import OUTGROWS, Heights
from daemon.stream.snapshot import pack_floats, unpack_floats

JOINING = frozenset({AlertKind.ANOMALY, AlertKind.DEVIATION, AlertKind.SENSOR_SILENT, AlertKind.SENSOR_STUCK})
"""The kinds of parts that can be of one incident."""
NEVER_ACCEPTED = 1 << 62
"""A row that no asset comes to."""
BY_EVIDENCE = frozenset({AlertKind.ANOMALY, AlertKind.DEVIATION})
TOGETHER = 1 + REACH
"""Windows between the onsets of what has one cause, at most: rows of that many are in a window or in a sustained mean."""


def regime_rows(window: int, period_ns: int) -> int:
    """For how many rows an incident is steady before it is a regime.

    A day, because machines have daily rhythms; and where rows are long, twice as many as sustained evidence reaches
    back, so that its beginning is out of it.
    """
    return max(DAY_NS // period_ns, 2 * REACH * window)


class Part(NamedTuple):
    """What a detector opens and closes; its identity on one asset."""

    kind: AlertKind
    sensor: str | None = None  # of an unknown condition, its label
    slow: bool = False  # a sensor's deviation from day to day (``trend``) beside its sustained one, or an asset's drift


ANOMALY = Part(AlertKind.ANOMALY)
STREAM_DRIFT, ASSET_DRIFT = Part(AlertKind.DRIFT), Part(AlertKind.DRIFT, slow=True)
"""Of a whole input partition, and of one asset."""


@dataclass(slots=True, eq=False)
class Incident:
    """One alert that is open."""

    kind: AlertKind  # of the part that opened it
    sensor: str | None  # likewise
    fingerprint: str
    opened_ns: int
    onset_ns: int  # the earliest of its parts'
    severity: Severity  # the worst so far
    next_update_row: int
    updates_row: (
        int  # updates are due so many windows after this row: when it opened, or evidence last joined
    )
    parts: dict[Part, int] = field(default_factory=dict)  # those that are open, with their onset rows
    kinds: list[AlertKind] = field(default_factory=list)  # all that joined it so far, in their order
    sensors: list[str] = field(default_factory=list)  # likewise; those of an anomaly are ``leading``
    leading: list[str] = field(default_factory=list)
    first: str = ""  # the first contributor, as the last message has it
    told_row: int = 0  # of the last message
    bad_row: int = (
        -1
    )  # the newest at which something of it was beyond a closing level, or open without evidence
    peak: Peak | None = None
    peaks: PeakEvidence | None = None  # of its anomaly, without the present run of high scores
    steady_row: int = -1  # since when it is steady; -1: it is not
    learned: bool = False  # whether its rows may be learned
    per_day: float | None = None  # of its slow trend
    accepted: bool = False  # whether it is over because it is normal from now on
    muted: bool = False  # whether it opened under maintenance, and nothing is said of it until that is over
    absorbed: bool = False  # see ``AlertEvent``, of its last deviations
    began: list[AlertKind] = field(default_factory=list)  # see ``AlertEvent``: since the last message
    recurrence: Recurrence = field(default_factory=Recurrence)

    @property
    def quiet(self) -> bool:
        """Whether nothing of it is open, and it may come back: see ``recurrence``."""
        return not self.parts

    @property
    def names(self) -> list[str]:
        """All its sensors, in the order in which they joined."""
        return [*self.sensors, *(name for name in self.leading if name not in self.sensors)]

    def has(self, kind: AlertKind) -> bool:
        """Whether a part of this kind is open."""
        return any(part.kind is kind for part in self.parts)

    @property
    def lasts(self) -> bool:
        """Whether rows tell something of it, however low their evidence is."""
        return self.quiet or self.regime or self.by_evidence

    def is_outgrown(self, height: float) -> bool:
        """Whether evidence of so many thresholds is far more than it ever was before it came back."""
        return 0.0 < OUTGROWS * self.recurrence.height < height

    @property
    def open_kinds(self) -> set[AlertKind]:
        """The kinds of its open parts; of all that it had, while it is quiet."""
        return {part.kind for part in self.parts} or set(self.kinds)

    @property
    def open_sensors(self) -> list[str]:
        """Those of its open parts."""
        leading = self.leading if ANOMALY in self.parts else []
        return [*(part.sensor for part in self.parts if part.sensor is not None), *leading]

    @property
    def joinable(self) -> list[str]:
        """The sensors with which a part joins it. What a regime had besides, when it began, is over for long."""
        return self.open_sensors if self.regime else self.names

    @property
    def by_evidence(self) -> bool:
        """Whether it has open parts with evidence, and none that says that a sensor is broken."""
        kinds = {part.kind for part in self.parts}
        return bool(kinds & BY_EVIDENCE) and kinds <= BY_EVIDENCE

    @property
    def slow(self) -> bool:
        """Whether only a slow trend or a drift is open, which lasts for weeks: nothing else joins it, and nothing hides behind it."""
        return bool(self.parts) and all(part.slow for part in self.parts)

    @property
    def of_trend(self) -> bool:
        """Whether a slow trend opened it, and no evidence of single rows is open."""
        opened = self.kind is AlertKind.DEVIATION and self.sensor is not None
        return opened and all(part.slow for part in self.parts)

    @property
    def regime(self) -> bool:
        """Whether it has been called a new regime."""
        return AlertKind.REGIME in self.kinds

    @property
    def can_be_regime(self) -> bool:
        """Whether it can come to be called so."""
        return self.by_evidence and not self.slow

    def settled(
        self, since: int | None, row: int, regime_rows: int, policy: AlarmPolicy, opened_row: int
    ) -> bool:
        """Follow how long it is steady; whether it has come to be a regime, learned or normal at this row.

        Args:
            since: the row since when its sensors are steady, or since when it recurs; None: at this row, that cannot be said.
            row: the present one.
            regime_rows: see the function of this name.
            policy: after how long a regime may be learned, or is normal.
            opened_row: that of its opening. Nothing is normal before it has been told for as long.
        """
        if since is None:
            self.steady_row = self.steady_row if self.regime else -1
            return False
        onset = self.parts.get(ANOMALY, -1)
        joined = self.regime and AlertKind.ANOMALY not in self.kinds[: self.kinds.index(AlertKind.REGIME)]
        if joined and onset >= 0 and row - onset < regime_rows:
            since = row  # a fault of what is a regime: its rows are none of it
        elif self.recurrence.returned and since == self.recurrence.steady_row:
            onset = -1  # that of the last time
            self.steady_row = self.steady_row if self.regime else -1
        self.steady_row = max(self.steady_row, since, onset)
        lasted, told = row - self.steady_row, False
        if not self.regime and lasted >= regime_rows:
            self.kinds.append(AlertKind.REGIME)
            told = True
        learned = self.regime and 0 < policy.learn_rows <= lasted
        self.learned, told = learned, told or learned is not self.learned
        if self.regime and 0 < policy.accept_rows <= min(lasted, row - opened_row):
            self.accepted = self.learned = told = True
        return told

    def evidence(self, peaks: PeakEvidence | None) -> PeakEvidence | None:
        """What its anomaly is blamed on, with the peaks of a run that goes on."""
        return self.peaks if peaks is None else peaks.joined(self.peaks)

    def apart(self, onset_row: int, period_ns: int) -> int:
        """How many rows a part's onset is from its own, or from when it last came back."""
        apart = abs(onset_row - self.onset_ns // period_ns)
        back = self.recurrence.returned_row
        return apart if back < 0 else min(apart, abs(onset_row - back))

    def near(self, onset_row: int, window: int, period_ns: int) -> bool:
        """Whether a part with this onset can have the same cause; ``window`` is L."""
        return self.apart(onset_row, period_ns) <= TOGETHER * window

    def bad(self, row: int) -> None:
        """Something of it is beyond a closing level at a row."""
        self.bad_row, self.recurrence.back_rows = row, 0

    def join(
        self, part: Part, onset_row: int, names: Iterable[str], severity: Severity, period_ns: int
    ) -> None:
        """Take in a part that has opened; ``names`` are its sensors."""
        if not self.has(part.kind):
            self.began.append(part.kind)
        self.parts[part] = onset_row
        self.onset_ns = min(self.onset_ns, onset_row * period_ns)
        if part.kind not in self.kinds:
            self.kinds.append(part.kind)
        if part.kind is AlertKind.ANOMALY:
            self.sensors += [name for name in self.leading if name not in self.sensors]
            self.learned &= onset_row == self.recurrence.returned_row  # the like of it
            self.leading = list(names)
        else:
            self.sensors += [name for name in names if name not in self.sensors]
            self.absorbed = self.absorbed and part.kind is not AlertKind.DEVIATION
        if severity is Severity.CRITICAL:
            self.severity = severity

    def reached(self, row_ns: int, score: str, value: float, threshold: float) -> None:
        """Keep the row at which one of its scores was the most thresholds high."""
        if self.peak is None or value * self.peak.threshold > self.peak.value * threshold:
            self.peak = Peak(row_ns, score, value, threshold)

    def update_due(self, row: int) -> bool:
        """Whether 1, 2, 4 ... windows are over at a row since it opened, or evidence joined it; the next is due at twice that."""
        due = row >= self.next_update_row
        while self.next_update_row <= row:
            self.next_update_row += self.next_update_row - self.updates_row
        return due

    def restart_updates(self, row: int, window: int) -> None:
        """Evidence has joined it at a row: updates come as often as when it opened."""
        self.updates_row, self.next_update_row = row, row + window

    def snapshot(self) -> IncidentState:
        """The incident as part of a record of state."""
        return IncidentState(
            self.kind,
            self.sensor,
            self.fingerprint,
            self.opened_ns,
            self.onset_ns,
            self.severity,
            self.next_update_row,
            self.updates_row,
            [(*part, row) for part, row in self.parts.items()],
            list(self.kinds),
            list(self.sensors),
            list(self.leading),
            self.first,
            self.told_row,
            self.bad_row,
            None
            if self.peak is None
            else (self.peak.row_ns, self.peak.score, self.peak.value, self.peak.threshold),
            None if self.peaks is None else pack_floats(self.peaks.stacked()),
            self.steady_row,
            self.learned,
            self.per_day,
            self.muted,
            self.absorbed,
            list(self.began),
            copy(self.recurrence),
        )

    @staticmethod
    def restored(state: IncidentState) -> Incident:
        """The incident of a record of state."""
        return Incident(
            state.kind,
            state.sensor,
            state.fingerprint,
            state.opened_ns,
            state.onset_ns,
            state.severity,
            state.next_update_row,
            state.updates_row,
            {Part(kind, sensor, slow): row for kind, sensor, slow, row in state.parts},
            list(state.kinds),
            list(state.sensors),
            list(state.leading),
            state.first,
            state.told_row,
            state.bad_row,
            None if state.peak is None else Peak(*state.peak),
            None if state.peaks is None else PeakEvidence.unstacked(unpack_floats(state.peaks)),
            state.steady_row,
            state.learned,
            state.per_day,
            muted=state.muted,
            absorbed=state.absorbed,
            began=list(state.began),
            recurrence=copy(state.recurrence),
        )


@dataclass(slots=True, eq=False)
class AssetEpisodes:
    """The open incidents of one asset, and the state of its alarm."""

    alarm: Alarm = field(default_factory=Alarm)
    above_since: int = -1  # first row of the present run of rows above the closing level, or with a jump
    peaks: PeakEvidence | None = None  # of the present run
    deviation: Deviation | None = None  # None: no sensor is beyond its closing limit
    incidents: list[Incident] = field(default_factory=list)  # oldest first
    heights: dict[str, Heights] = field(
        default_factory=dict
    )  # of the sensors of incidents, since they joined

    def with_part(self, part: Part) -> Incident | None:
        """The incident that has this part open."""
        return next((one for one in self.incidents if part in one.parts), None)

    def has(self, kind: AlertKind) -> bool:
        """Whether a part of this kind is open, slow trends aside."""
        return any(part.kind is kind and not part.slow for one in self.incidents for part in one.parts)

    def follow(self, spec: StreamSpec, row: int, sensors: SensorEvidence | None, before: State) -> bool:
        """Take a scored row into the evidence of the anomaly; whether another incident has taken the alarm over.

        Once the time is over in which one cause shows, what other sensors show than it is blamed on is something
        else. The alarm is another incident's when a row that others lead is so high that they would come to lead this
        one (at most once a window), or when it fires again, led by others. Before this row, its state was ``before``.
        """
        incident = self.with_part(ANOMALY)
        if self.above_since < 0:  # a run of high scores is over
            if incident is not None and self.peaks is not None:
                incident.peaks = self.peaks.joined(incident.peaks)
            self.peaks = None
            return False
        earlier, self.peaks = self.peaks, extended(self.peaks, sensors)
        if incident is None or self.peaks is None:
            return False
        if incident.near(row, spec.window, spec.period_ns):
            return False  # its messages say who leads it
        if self.alarm.state is not State.FIRING:
            return False
        mine = np.isin(spec.sensors, incident.names)
        blamed = incident.evidence(earlier)
        if before is not State.FIRING:
            led = [] if blamed is None else blamed.leading()
            return not any(mine[c] or c in led for c in self.peaks.leading())
        if blamed is None:
            return False
        alone, known = extended(None, sensors), mine | blamed.blamed()
        if (
            alone is not None
            and row - incident.parts[ANOMALY] >= spec.window
            and not all(known[c] for c in self.peaks.joined(blamed).leading())
            and not any(known[c] for c in alone.leading())
        ):
            self.peaks, incident.peaks = alone, blamed
            return True
        self.peaks = self.peaks if earlier is None else self.peaks.only(mine, earlier)
        return False

    def reach(self, names: Iterable[str], height: float, row: int, window: int) -> None:
        """An anomaly that these sensors lead is so many thresholds high at a row."""
        for name in names:
            self.heights.setdefault(name, Heights()).reach(height, row, window)

    def last(self, spec: StreamSpec, row: int, opening: Floats) -> None:
        """The sustained evidence (C,) of a row, in shares of its opening limits, for the sensors of open incidents."""
        names = {name for one in self.incidents if not one.slow for name in one.names}
        for c, name in enumerate(spec.sensors):
            if name in names:
                height = float(np.nan_to_num(opening[c]))
                self.heights.setdefault(name, Heights()).last(height, row, spec.window)

    def begin_anew_of_quiet(self, incident: Incident, names: Iterable[str]) -> None:
        """How high sensors came in incidents that are quiet says nothing of the one that they open or join."""
        quiet = {name for one in self.incidents if one.quiet and one is not incident for name in one.names}
        for name in quiet.intersection(names):
            self.heights.pop(name, None)

    def forget_heights(self) -> None:
        """An incident is over; only the sensors of those that are open have heights."""
        names = {name for one in self.incidents for name in one.names}
        self.heights = {name: one for name, one in self.heights.items() if name in names}

    def moving_alike(self, start: EpisodeStart, spec: StreamSpec) -> Incident | None:
        """The incident with the slow trend of a sensor that deviates, or the other way round, if both are to one side."""
        if start.kind is not AlertKind.DEVIATION or start.sensor is None or self.deviation is None:
            return None
        one = self.with_part(Part(start.kind, start.sensor, not start.part.slow))
        per_day = start.per_day if one is None or start.part.slow else one.per_day
        c = spec.sensors.index(start.sensor)
        off = float(self.deviation.observed[c] - self.deviation.expected[c])
        return one if per_day is not None and per_day * off > 0 else None

    def with_trend_of(self, names: Iterable[str], row_ns: int) -> Incident | None:
        """The incident, opened up to this row, in which the slow trend of one of these sensors is open."""
        trends = {Part(AlertKind.DEVIATION, name, slow=True) for name in names}
        return next(
            (one for one in self.incidents if trends & one.parts.keys() and one.opened_ns <= row_ns), None
        )

    def outgrows(self, names: Iterable[str], height: float, row: int, window: int) -> bool:
        """Whether evidence of so many thresholds is far more than any of these sensors ever showed in its incident."""
        found = [self.heights.get(name) for name in names]
        return bool(found) and all(one is not None and one.outgrown(height, row, window) for one in found)

    def rose_at(self, name: str, row: int) -> int:
        """Since when a sensor's sustained evidence is more than it ever was in its incident; else this row."""
        known = self.heights.get(name)
        return row if known is None or known.since < 0 else known.since

    def begin_higher(self, spec: StreamSpec, names: Sequence[str], since: Sequence[int]) -> None:
        """These sensors are part of another incident from now on, with what they show since so many rows."""
        for name in names:
            self.heights.pop(name, None)
        if self.deviation is not None and names:
            at = dict(zip(names, since, strict=True))
            self.deviation = self.deviation.risen({spec.sensors.index(name): row for name, row in at.items()})

    def has_outgrown(self, spec: StreamSpec, incident: Incident, height: float, row: int) -> bool:
        """Whether the anomaly of an incident, which has joined it lately, is something else than the rest of it."""
        if not incident.by_evidence or row - incident.parts[ANOMALY] > TOGETHER * spec.window:
            return False
        shared = set(self.leading(spec, None)).intersection(incident.names)
        return incident.is_outgrown(height) or self.outgrows(shared, height, row, spec.window)

    def leading(
        self,
        spec: StreamSpec,
        incident: Incident | None,
        explained: Callable[[PeakEvidence], PeakEvidence] = lambda peaks: peaks,
    ) -> list[str]:
        """The sensors that lead the anomaly: that of the present run alone, or of an incident as well; see ``ScoredEvidence.explained``."""
        peaks = self.peaks if incident is None else incident.evidence(self.peaks)
        return [] if peaks is None else [spec.sensors[c] for c in explained(peaks).leading()]

    def is_corrected(self, spec: StreamSpec, incident: Incident, row: int) -> bool:
        """Whether another sensor is first than was told, and the last message is a window ago."""
        if row < incident.told_row + spec.window:
            return False
        return self.leading(spec, incident)[:1] not in ([], [incident.first])

    def blamed(self, spec: StreamSpec, since: Floats) -> Mask | bool:
        """(C,) the sensors that a firing anomaly is blamed on.

        Args:
            spec: the stream.
            since: (C,) since when each is beyond its closing limit. What began later than one cause shows is no part
                of the anomaly, unless the sensor leads it.
        """
        incident = self.with_part(ANOMALY)
        peaks = None if incident is None else incident.evidence(self.peaks)
        if incident is None or peaks is None or self.alarm.state is not State.FIRING:
            return False
        leads = np.isin(spec.sensors, incident.leading)
        near = np.abs(since - spec.row(incident.onset_ns)) <= TOGETHER * spec.window
        return np.asarray(peaks.blamed() & (leads | near))

    def accepted_with(self, spec: StreamSpec, incident: Incident) -> Mask:
        """(C,) the sensors that become normal with an incident: its own, of an anomaly all that are of no other one.

        A slow trend is no other one: what it names is its own concern.
        """
        if ANOMALY not in incident.parts:
            return np.isin(spec.sensors, incident.names)
        others = [
            name for one in self.incidents if one is not incident and not one.slow for name in one.names
        ]
        return np.isin(spec.sensors, incident.names) | ~np.isin(spec.sensors, others)

    def accepts_from(self, row: int, period_ns: int, accept_rows: int, regime_rows: int) -> int:
        """A row before which nothing becomes normal, of the rows from this one on; see ``Incident.settled``.

        An incident that does not exist yet may open at this row, of sensors that have been steady for long.
        """
        if not accept_rows:
            return NEVER_ACCEPTED
        incidents = [one for one in self.incidents if not one.slow]
        opened = min([row, *(one.opened_ns // period_ns for one in incidents)])
        since = [row for one in incidents for row in (one.steady_row, one.recurrence.steady_row)]
        steady = [row, *(one for one in since if one >= 0)]
        if self.deviation is not None:
            steady += self.deviation.steady[self.deviation.steady >= 0].astype(np.int64).tolist()
        return max(row, opened + accept_rows, min(steady) + max(accept_rows, regime_rows))

    def unsettle(self, row: int) -> None:
        """The asset is under maintenance at a row."""
        if self.deviation is not None:
            self.deviation = self.deviation.unsettled(row)

    def begin_anew(self, accepted: Mask) -> None:
        """What was known of sensors (C,) that are normal from now on is of no use any more."""
        if self.deviation is not None:
            self.deviation = self.deviation.without(accepted)
        if self.with_part(ANOMALY) is None:
            self.alarm, self.above_since, self.peaks = Alarm(), -1, None

    def snapshot(self) -> AlarmState:
        """As part of the asset's record; without the stream's drift, which the partition's record holds."""
        alarm = self.alarm
        return AlarmState(
            int(alarm.state),
            alarm.recent,
            alarm.resting,
            self.above_since,
            None if self.peaks is None else pack_floats(self.peaks.stacked()),
            None if self.deviation is None else pack_floats(np.stack(astuple(self.deviation))),
            [one.snapshot() for one in self.incidents if STREAM_DRIFT not in one.parts],
            [(name, *astuple(one)) for name, one in self.heights.items()],
        )

    @staticmethod
    def restored(state: AlarmState) -> AssetEpisodes:
        """The episodes of an asset's record."""
        peaks = deviation = None
        if state.peaks is not None:
            peaks = PeakEvidence.unstacked(unpack_floats(state.peaks))
        if state.deviation is not None:
            deviation = Deviation(*unpack_floats(state.deviation).reshape(len(fields(Deviation)), -1))
        return AssetEpisodes(
            Alarm(State(state.state), state.recent, state.resting),
            state.above_since,
            peaks,
            deviation,
            [Incident.restored(one) for one in state.open],
            {name: Heights(*numbers) for name, *numbers in state.heights},  # type: ignore[arg-type]
        )


@dataclass(frozen=True, slots=True)
class EpisodeStart:
    """What an episode that opens is about, and since when."""

    kind: AlertKind
    onset_row: int
    sensor: str | None = None  # of an unknown condition, its label
    severity: Severity = Severity.WARNING
    clock_offset_ns: int | None = None  # of a skewed clock, how far it is ahead of the fleet's
    per_day: float | None = None  # of a slow trend, see ``AlertEvent``
    unread: Mapping[str, int] = field(default_factory=dict)  # of a silent sensor, see ``AlertEvent``
    contributors: Sequence[Contributor] = ()  # of a drift or trend; others follow from evidence
    of_asset: bool = False  # of a drift, whether it is that of one asset
    drift: DriftingAsset | None = None  # of a drift, how far
    sides: frozenset[Side] = frozenset()  # of an anomaly or deviation: which sensors lead it, to which sides
    may_return: bool = True  # to an alert that is quiet
    explained_by: ExplainedBy | None = None  # see ``SustainedRow``; None: it has no window

    @property
    def part(self) -> Part:
        """What opens."""
        return Part(self.kind, self.sensor, self.per_day is not None or self.of_asset)

    @property
    def names(self) -> list[str]:
        """The sensors that it leads with."""
        if self.of_asset:
            return [each.sensor for each in self.contributors]
        return [self.sensor] if self.kind in JOINING and self.sensor is not None else []

    def told_by(self, event: AlertEvent, maintenance: str | None) -> AlertEvent:
        """The first message, with what no evidence says, and the planned stop that it is of."""
        return replace(
            event,
            maintenance=maintenance,
            clock_offset_ns=self.clock_offset_ns,
            unread=dict(self.unread),
            drift=self.drift,
            contributors=self.contributors or event.contributors,
            sensors=event.sensors or tuple(each.sensor for each in self.contributors),
        )


@dataclass(frozen=True, slots=True)
class UnscoredChange:
    """A part without a score that opens or closes at a row of a chunk, to be taken in among the chunk's scores.

    Without a part, it is the first row after a planned stop: what opened in it and is still open is said.
    """

    place: int  # of the row in the chunk
    asset: str
    row: int
    part: Part | None
    start: EpisodeStart | None = None  # None: it is over
