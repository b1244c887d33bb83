"""Alerts that come back: what was not seen to be over, and what is the same again after a while, is one alert.

A machine that rests at night shows a sensor's offset by day alone; a sensor of a quiet line sticks for half an hour, forty
times a night. With an alert for each, people get one every morning, or forty in a night, and none lasts long enough to be
a regime. So an alert of which nothing is open any more may be *quiet* instead of over, and what is like it returns to it,
which an update says.

* **Evidence** (anomalies, deviations): an alert that lasted for as long as sustained evidence reaches back remembers
  between which values each sensor that makes it was expected to be while it was off. A row in which quite another value is
  expected, as while the machine rests, tells nothing of it. The alert is quiet until more rows have told that its sensors are back
  than that they are off by half as much as they were or more, by half a window (or ``alerts.refractory``, if that is shorter); or for
  ``alerts.recurs_within`` (four days unless set otherwise: a long weekend).
* **Stuck sensors**: one whose like was over for up to ``alerts.recurs_within`` before it began is quiet for ``PATIENCE``
  times the longest such pause.

What opens is *like* a quiet alert if one of the sensors that made it leads that, too, by the same kind of evidence and to the same
side, and no other does that was not off in it. What is not like it opens an alert of its own, so that nothing hides behind one that
is quiet; what is far more than it ever was does so, too. How it was when it was first quiet decides, so that it does not grow to be
like everything. An alert that somebody has called normal is over for good (``dismissal``), and so is one of another kind: a
silence ends when a value comes, and trends and drift are of days.

An alert that has come back is a regime once it has been steady for as long as one in all (``steady_since``): a machine that runs for
eight hours a day shows it for no longer at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.detector import REACH
from daemon.domain import AlarmPolicy, AlertKind, Mask, StreamSpec
from daemon.stream.attribution import AS_FAR
from daemon.stream.course import Course, Side, sides
from daemon.stream.deviation import STEADY, Deviation, SustainedRow
from daemon.stream.incident import AssetEpisodes, EpisodeStart, Incident, regime_rows

EVIDENCE = frozenset({AlertKind.ANOMALY, AlertKind.DEVIATION, AlertKind.REGIME})
"""The kinds of alerts that rows tell to be over."""
PATIENCE = 1.5
"""Pauses of what recurs by itself differ by less."""
NOT_BACK = -1
"""The newest rows that tell something say that its sensors are not back."""
Trait = tuple[AlertKind | None, str, int]
"""A kind of parts (None: of none), a sensor that makes it, and to which side (0: it is stuck)."""


def leading_sides(known: AssetEpisodes, spec: StreamSpec, leading: Sequence[str]) -> frozenset[Side]:
    """The sensors that lead the anomaly of the present run, with the sides to which they are off."""
    return frozenset() if known.peaks is None else sides(spec, known.peaks, leading)


def side_of(known: AssetEpisodes, spec: StreamSpec, sensor: str) -> frozenset[Side]:
    """The side to which a sensor that deviates is off."""
    if known.deviation is None:
        return frozenset()
    return frozenset({(sensor, int(np.sign(known.deviation.level[spec.sensors.index(sensor)])))})


def quiet_sensors(known: AssetEpisodes, spec: StreamSpec) -> Mask | bool:
    """(C,) the sensors of quiet incidents that do not deviate; False: there are none."""
    quiet = {name for one in known.incidents if one.quiet for name in one.names}
    deviating = {part.sensor for one in known.incidents for part in one.parts}
    return np.isin(spec.sensors, sorted(quiet - deviating)) if quiet else False


def told(incident: Incident, course: Course, row: SustainedRow, spec: StreamSpec) -> None:
    """Let a row tell whether all sensors that make an incident are back, or one is as far off as they were, by half."""
    places = [
        (spec.sensors.index(name), side, course.places[name])
        for name, side in course.made_by
        if name in course.places
    ]
    tells, back, known = bool(places), True, incident.recurrence
    for c, side, place in places:
        expected, off, half = row.expected[c], side * (row.observed[c] - row.expected[c]), AS_FAR * place.size
        tells &= bool(place.low - half <= expected <= place.high + half and np.isfinite(off))
        back &= bool(off < half)
    if tells and row.row > incident.bad_row:
        if back:
            known.back_rows = max(known.back_rows, 0) + spec.hop
        else:
            known.back_rows = max(known.back_rows - spec.hop, NOT_BACK)


def waits(incident: Incident, row: int, policy: AlarmPolicy, spec: StreamSpec) -> bool:
    """Whether an incident of which nothing is open is quiet at a row, and not over."""
    calm, known = row - incident.bad_row, incident.recurrence
    if calm >= policy.recurs_rows:
        return False
    if EVIDENCE.issuperset(incident.kinds):
        lasted = incident.bad_row - incident.onset_ns // spec.period_ns >= REACH * spec.window
        return lasted and known.back_rows < min(spec.window // 2, max(policy.refractory - spec.hop, 1))
    return calm < PATIENCE * known.pause


def steady_since(
    incident: Incident, deviation: Deviation, row: SustainedRow, since: int, spec: StreamSpec
) -> int:
    """Since when an incident is steady, pauses included, if it has been so for as long as a regime in all.

    It is if its first sensor is off by the same at all rows that show it off, once it has been beyond its limits for as long as
    the mean that says so reaches back.

    Args:
        incident: whose deviations are steady at this row.
        deviation: of its asset.
        row: the present one's evidence.
        since: the row since when they are, without regard to pauses.
        spec: the stream.
    """
    if not incident.names:
        return since
    known, c = incident.recurrence, spec.sensors.index(incident.names[0])
    began, level = int(deviation.since[c]), float(deviation.level[c])
    if began >= 0 and row.row - began >= REACH * spec.window and row.beyond[c] and not deviation.back(row)[c]:
        if known.steady_row < 0 or abs(level - known.level) > STEADY * abs(known.level):
            known.level, known.steady_row, known.steady_rows, known.counted_row = level, since, 0, since - 1
        known.steady_rows += row.row - max(known.counted_row, began - 1)
        known.counted_row = row.row
    lasts = known.returned > 0 and known.steady_rows >= regime_rows(spec.window, spec.period_ns)
    return known.steady_row if lasts else since


def pause_before(
    incident: Incident, course: Course, earlier: Sequence[Course], policy: AlarmPolicy, spec: StreamSpec
) -> int:
    """For how many rows the like of an incident of stuck sensors was over before that opened; 0: there was none of late.

    Args:
        incident: which may be of other kinds.
        course: its own.
        earlier: those of alerts that are over.
        policy: how long it may have been over.
        spec: the stream.
    """
    others = {kind for kind in incident.kinds if kind is not AlertKind.SENSOR_STUCK}
    if len(others) == len(incident.kinds) or not others <= EVIDENCE:
        return 0
    onset, opened = (spec.row(time_ns) for time_ns in (incident.onset_ns, incident.opened_ns))
    ends = [spec.row(one.ended_ns) for one in earlier if one.may_come_back and one.stuck == course.stuck]
    # That it is stuck is known long after it began.
    return min((opened - end for end in ends if 0 < onset - end <= policy.recurs_rows), default=0)


def traits(course: Course) -> list[Trait]:
    """What the like of an alert that is over has of it: the sensors that make it, and the others that were off."""
    found: set[Trait] = {(AlertKind.SENSOR_STUCK, name, 0) for name in course.stuck}
    found |= {(AlertKind.ANOMALY, *side) for side in course.leading}
    found |= {(AlertKind.DEVIATION, *side) for side in course.made_by if side in course.deviations}
    found |= {(None, *side) for side in course.sides}
    return sorted(found, key=str)


def is_like(start: EpisodeStart, like: Sequence[Trait]) -> bool:
    """Whether what opens is the like of an alert that had these traits."""
    stuck = start.kind is AlertKind.SENSOR_STUCK
    if not stuck and any(kind is AlertKind.SENSOR_STUCK for kind, *_ in like):
        return False  # that one is about a sensor that is broken
    own = {(str(start.sensor), 0)} if stuck else start.sides
    makes = {(name, side) for kind, name, side in like if kind is start.kind}
    return not makes.isdisjoint(own) and own <= {(name, side) for _, name, side in like}
