"""Alerts that come back: what was not seen to be over, and what is the same again after a while, is one alert.

A machine that rests at night shows a sensor's offset by day alone; a sensor of a quiet line sticks for half an hour, forty
times a night. With an alert for each, people get one every morning, or forty in a night, and none lasts long enough to be
a regime. So an alert of which nothing is open any more may be *quiet* instead of over, and what is like it returns to it,
which an update says.

* **Evidence** (anomalies, deviations): an alert that lasted for as long as sustained evidence reaches back remembers
  between which values each sensor that makes it was expected to be while it was off. A row in which quite another value is
  expected, as while the machine rests, tells nothing of it. The alert is quiet until more rows, by half a window, have told that its
  sensors are back than that they are off by half as much as they were or more, or for ``alerts.recurs_within`` (four days
  unless set otherwise: a long weekend).
* **Stuck sensors**: one whose like was over for up to ``alerts.recurs_within`` before it began is quiet for ``PATIENCE``
  times the longest such pause.

What opens is *like* a quiet alert if one of the sensors that made it leads that, too, by the same kind of evidence and to the same
side, and no other does that was not off in it. What is not like it opens an alert of its own, so that nothing hides behind one that
is quiet. An alert that somebody has called normal is over for good (``dismissal``), and so is one of another kind: a
silence ends when a value comes, and trends and drift are of days.

An alert that has come back is a regime once it has been so for as long as one in all (``Incident.recurs``): a machine that
runs for eight hours a day shows it for no longer at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.detector import REACH
from daemon.domain import AlarmPolicy, AlertKind, Mask, StreamSpec
from daemon.stream.attribution import AS_FAR
from daemon.stream.course import Course, Side, sides
from daemon.stream.deviation import SustainedRow
from daemon.stream.incident import AssetEpisodes, EpisodeStart, Incident

EVIDENCE = frozenset({AlertKind.ANOMALY, AlertKind.DEVIATION, AlertKind.REGIME})
"""The kinds of alerts that rows tell to be over."""
PATIENCE = 1.5
"""Pauses of what recurs by itself differ by less."""
Trait = tuple[AlertKind | None, str, int]
"""A kind of parts (None: of none), a sensor that makes it, and to which side (0: it is stuck)."""


def leading_sides(known: AssetEpisodes, spec: StreamSpec) -> frozenset[Side]:
    """The sensors that lead the anomaly of the present run, with the sides to which they are off."""
    if known.peaks is None:
        return frozenset()
    return sides(spec, known.peaks, known.leading(spec, None))


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
    """Let a row tell whether the sensors that make an incident are back, or as far off as they were, by half."""
    places = [
        (spec.sensors.index(name), side, course.places[name])
        for name, side in course.made_by
        if name in course.places
    ]
    tells, back = bool(places), True
    for c, side, place in places:
        expected, off, half = row.expected[c], side * (row.observed[c] - row.expected[c]), AS_FAR * place.size
        tells &= bool(place.low - half <= expected <= place.high + half and np.isfinite(off))
        back &= bool(off < half)
    if tells and row.row > incident.bad_row:
        incident.back_rows = max(incident.back_rows + (spec.hop if back else -spec.hop), 0)
        incident.bad_rows += spec.hop * (incident.quiet and not back)


def waits(incident: Incident, row: int, policy: AlarmPolicy, spec: StreamSpec) -> bool:
    """Whether an incident of which nothing is open is quiet at a row, and not over."""
    calm, needed = row - incident.bad_row, min(spec.window // 2, max(policy.refractory - spec.hop, 1))
    if EVIDENCE.issuperset(incident.kinds):
        lasted = incident.bad_row - incident.onset_ns // spec.period_ns >= REACH * spec.window
        return lasted and incident.back_rows < needed and calm < policy.recurs_rows
    return calm < PATIENCE * incident.pause


def pause_before(incident: Incident, course: Course, earlier: Sequence[Course], spec: StreamSpec) -> int:
    """For how many rows the like of an incident of stuck sensors was over before that began; 0: there was none.

    Args:
        incident: which may be of other kinds.
        course: its own.
        earlier: those of alerts that are over.
        spec: the stream.
    """
    if AlertKind.SENSOR_STUCK not in incident.kinds or not EVIDENCE.issuperset(
        kind for kind in incident.kinds if kind is not AlertKind.SENSOR_STUCK
    ):
        return 0
    ends = [one.ended_ns for one in earlier if one.may_come_back and one.stuck == course.stuck]
    pauses = [spec.row(incident.onset_ns - end_ns) for end_ns in ends]
    return min((pause for pause in pauses if pause > 0), default=0)


def traits(course: Course) -> list[Trait]:
    """What the like of an alert that is over has of it: the sensors that make it, and the others that were off."""
    found: set[Trait] = {(AlertKind.SENSOR_STUCK, name, 0) for name in course.stuck}
    found |= {(AlertKind.ANOMALY, *side) for side in course.leading}
    found |= {(AlertKind.DEVIATION, *side) for side in course.made_by if side in course.deviations}
    found |= {(None, *side) for side in course.sides}
    return sorted(found, key=str)


def is_like(start: EpisodeStart, like: Sequence[Trait]) -> bool:
    """Whether what opens is the like of an alert that had these traits."""
    own = {(str(start.sensor), 0)} if start.kind is AlertKind.SENSOR_STUCK else start.sides
    makes = {(name, side) for kind, name, side in like if kind is start.kind}
    return not makes.isdisjoint(own) and own <= {(name, side) for _, name, side in like}
