"""The course of an episode: what of it is remembered, so that its like can be recognised.

An alarm has *high* rows: those that open an anomaly, by their score or by the jump of a sensor. Of these, and of the
rows at which sensors deviate, a ``Course`` keeps

* which sensors lead it, and to which side they are off,
* how many thresholds high it came, by its score, by each sensor's jumps, and by each sensor's sustained evidence,
* where its windows lie in the model's latent space: a few points, so that each of its high rows is ``NEAR`` one of them.

An episode is *like* another one if the sensors that lead it led the other, too, to the same sides, and one of its high
windows, usually the first, is near one of the other's: the machine is in the same state. Later ones may go elsewhere, as
they do with the state in which the event meets it. What was dismissed in two states that are not near each other does not
depend on them. Latent positions are those of one model: of another model's episodes the sensors alone are compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from daemon.control import Feedback, Verdict
from daemon.detector import MARGIN, DriftReference
from daemon.domain import DAY_NS, AlertKind, Floats, StreamSpec
from daemon.stream.attribution import LEADS, PeakEvidence
from daemon.stream.course_state import CourseState

Side = tuple[str, int]
"""A sensor that is above (1) or below (-1) what is expected of it."""
NEAR = 1.0
"""Largest distance of latent positions that are near each other: root mean square over the dimensions, in the spread of
normal windows. Two of these that have nothing to do with each other are 1.4 apart on average. Far from what is normal, a
position is near if it is ``MARGIN`` times as far out, too."""
MOST_SIDES = 40
"""Sensors whose sustained evidence is kept of an episode that is over, those farthest beyond their limits."""
MOST_POINTS = 8
"""Latent positions of one episode."""
ACTIVE = 0.01
"""A latent dimension whose mean varies by less over training's windows says nothing."""
HOUR_NS = DAY_NS // 24
RECURS = 3
"""Days on which something has come within the same hour before it is taken to come at that hour: by chance, three random
times of day do so in one case of 200."""
MOST_ONSETS = 8


def standardised(posterior: Floats, reference: DriftReference) -> NDArray[np.float32]:
    """Posterior means (Z,) as distances from the mean of training's windows in their standard deviation, without dimensions that say nothing."""
    active = reference.latent_variance > ACTIVE
    apart = (posterior - reference.latent_mean)[active] / np.sqrt(reference.latent_variance[active])
    return np.asarray(apart, np.float32)


def sides(spec: StreamSpec, peaks: PeakEvidence, names: Iterable[str]) -> frozenset[Side]:
    """The sides to which sensors were off where they were farthest."""
    apart = np.nan_to_num(peaks.observed - peaks.expected)
    return frozenset((name, int(np.sign(apart[spec.sensors.index(name)]))) for name in names)


class Sustained(NamedTuple):
    """How far a sensor came on one side by its sustained evidence.

    What one row adds to that is bounded, so that the share tells rather how long it lasted, and the size how far it was off.
    """

    share: float  # of the limit at which a deviation opens
    size: float  # mean distance from what was expected, in the sensor's unit


NONE = Sustained(0.0, 0.0)


class Place(NamedTuple):
    """Between which values a sensor was expected to be where it was off, and by how much it was at most; in its unit."""

    low: float
    high: float
    size: float


@dataclass(slots=True, eq=False)
class Course:
    """One episode, or a run of high rows that may become one."""

    fingerprint: str = ""
    model: str = ""  # of the latent positions
    opened_ns: int = -1
    onset_ns: int = -1
    kinds: list[AlertKind] = field(default_factory=list)
    score: float = 0.0  # the highest, in thresholds; 0: none was high
    leading: set[Side] = field(default_factory=set)
    jumps: dict[str, float] = field(default_factory=dict)  # the largest of each sensor, in limits
    sustained: dict[Side, Sustained] = field(default_factory=dict)  # likewise, of all sensors
    deviated: set[str] = field(default_factory=set)  # the sensors whose deviation is part of it
    latents: list[NDArray[np.float32]] = field(default_factory=list)
    anywhere: bool = False  # of a dismissed one: whether it was dismissed in several states of the machine
    near: bool = False  # of a run: whether one of its windows was near a dismissed episode's
    like: str = ""  # the dismissed episode whose sensors it has, though it is higher or elsewhere
    feedback: Feedback | None = None  # the last one
    onsets: list[int] = field(default_factory=list)  # ns; of a dismissed episode: when it and its like came
    held_back: int = 0  # of a dismissed episode: runs like it that have not opened an alert since
    stuck: set[str] = field(default_factory=set)  # the sensors of it that were
    ended_ns: int = -1  # its last bad row, once it is over
    places: dict[str, Place] = field(default_factory=dict)  # of sensors that make it

    @property
    def has_evidence(self) -> bool:
        """Whether there is anything by which its like could be recognised."""
        return bool(self.leading or self.deviations)

    @property
    def deviations(self) -> dict[Side, Sustained]:
        """How far the sensors came whose deviation is part of it."""
        return {side: most for side, most in self.sustained.items() if side[0] in self.deviated}

    @property
    def made_by(self) -> set[Side]:
        """The sensors that make it, with their sides: those that led its anomaly, and those that deviated the farthest."""
        deviations = self.deviations
        farthest = max((most.share for most in deviations.values()), default=0.0)
        return self.leading | {side for side, most in deviations.items() if most.share >= LEADS * farthest}

    # -------------------------------------------------------------- growing
    def grow(
        self,
        height: float,
        jumps: dict[str, float],
        leading: Iterable[Side],
        latent: NDArray[np.float32] | None,
        model: str,
    ) -> None:
        """Take in a high row.

        Args:
            height: its score in thresholds.
            jumps: the sensors that jumped, by how many limits.
            leading: those that lead the episode at this row.
            latent: (Z,) its window's position; None: unknown.
            model: that judged it.
        """
        if height > 1.0:
            self.score = max(self.score, height)
        for name, jump in jumps.items():
            self.jumps[name] = max(self.jumps.get(name, 0.0), jump)
        self.leading.update(leading)
        if model != self.model:
            self.model, self.latents = model, []
        if latent is not None and len(self.latents) < MOST_POINTS and not self.is_near(latent, model):
            self.latents.append(latent)

    def grow_sustained(self, side: Side, share: float, size: float) -> None:
        """Take in a row up to which a sensor is off by ``size`` on average, which is this share of its limit."""
        before = self.sustained.get(side, NONE)
        self.sustained[side] = Sustained(max(before.share, share), max(before.size, size))

    def see(self, name: str, expected: float, size: float) -> None:
        """A sensor is off where this is expected of it; ``size`` is by how much it is in this episode."""
        low, high, most = self.places.get(name, (expected, expected, size))
        self.places[name] = Place(min(low, expected), max(high, expected), max(most, size))

    def join(self, run: Course) -> None:
        """Take in the high rows of the run that has opened it."""
        self.grow(run.score, run.jumps, run.leading, None, run.model)
        for latent in run.latents:
            self.grow(0.0, {}, (), latent, run.model)
        self.like = self.like or run.like

    def shorten(self) -> None:
        """Keep what matters, now that it is over: a record of state has room for many of them."""
        ordered = sorted(self.sustained.items(), key=lambda item: (-item[1].share, item[0]))
        self.sustained = dict(ordered[:MOST_SIDES])

    # -------------------------------------------------------------- likeness
    def is_led_by(self, leading: frozenset[Side]) -> bool:
        """Whether these sensors and sides are its own: one of them led it, and the others did or were off as well."""
        return not leading.isdisjoint(self.leading) and leading <= self.sides

    def has_sensors(self, leading: frozenset[Side]) -> bool:
        """The same, to whatever sides: as at the end of an event, when its sensors return to what the window does not expect."""
        mine = {name for name, _ in self.sides}
        return mine.issuperset(name for name, _ in leading)

    @property
    def may_come_back(self) -> bool:
        """Whether it is over, and nobody has called it normal: its like is one more of it."""
        return self.ended_ns >= 0 and (self.feedback is None or self.feedback.verdict is Verdict.CONFIRMED)

    @property
    def sides(self) -> set[Side]:
        """All sensors that are known to have been off, with their sides."""
        return self.leading | self.sustained.keys()

    def is_near(self, latent: NDArray[np.float32] | None, model: str) -> bool:
        """Whether a window is near one of the episode's own; True where it has no position.

        Args:
            latent: (Z,) its position; None: unknown.
            model: that judged it. Of another one no position is known.
        """
        if latent is None or not len(latent):
            return True
        return model == self.model and any(
            _far(latent - one) <= max(NEAR, (MARGIN - 1.0) * _far(one))
            for one in self.latents
            if len(one) == len(latent)
        )

    def is_elsewhere(self, earlier: Course) -> bool:
        """Whether it began in another state of the machine than an earlier episode that its sensors led, too, was in."""
        known = self.model == earlier.model and self.latents and earlier.latents
        if not known or self.leading.isdisjoint(earlier.leading):
            return False
        return not earlier.is_near(self.latents[0], self.model)

    def is_exceeded(self, now: Mapping[Side, Sustained]) -> bool:
        """Whether one of the sensors that make it is farther off, by its sustained evidence, than its like may be.

        Of those that deviated, the farthest beyond their limits make it, as those with the largest shares lead an anomaly.
        """
        mine = {name for name, _ in self.made_by}
        return any(
            now[side].size > MARGIN * most.size
            for side, most in self.sustained.items()
            if side in now and side[0] in mine
        )

    def is_due(self, time_ns: int) -> bool:
        """Whether something may come at a time that came at these times of day; True where they are not alike.

        Three or more that came within an hour of the day come from an hour before the first to an hour after the last.
        """
        if len({onset // DAY_NS for onset in self.onsets}) < RECURS:
            return True
        first, span = _arc([onset % DAY_NS for onset in self.onsets])
        if span > HOUR_NS:
            return True
        return (time_ns - first + HOUR_NS) % DAY_NS <= span + 2 * HOUR_NS

    def came(self, run: Course) -> None:
        """A run like it has come; where another model has judged that, its positions are those that are known now."""
        self.onsets = [*self.onsets[1 - MOST_ONSETS :], run.onset_ns]
        if run.model != self.model:
            self.model, self.latents = run.model, list(run.latents)

    # -------------------------------------------------------------- state
    def snapshot(self) -> CourseState:
        """As part of a record of state."""
        return CourseState(
            self.fingerprint,
            self.model,
            self.opened_ns,
            self.onset_ns,
            list(self.kinds),
            self.score,
            sorted(self.leading),
            sorted(self.jumps.items()),
            [(*side, *most) for side, most in sorted(self.sustained.items())],
            sorted(self.deviated),
            [one.astype("<f4").tobytes() for one in self.latents],
            self.anywhere,
            self.near,
            self.like,
            self.feedback,
            list(self.onsets),
            self.held_back,
            sorted(self.stuck),
            self.ended_ns,
            [(name, *place) for name, place in sorted(self.places.items())],
        )

    @staticmethod
    def restored(state: CourseState) -> Course:
        """The course of a record of state."""
        return Course(
            state.fingerprint,
            state.model,
            state.opened_ns,
            state.onset_ns,
            list(state.kinds),
            state.score,
            set(state.leading),
            dict(state.jumps),
            {(name, side): Sustained(share, size) for name, side, share, size in state.sustained},
            set(state.deviated),
            [np.frombuffer(one, "<f4").astype(np.float32) for one in state.latents],
            state.anywhere,
            state.near,
            state.like,
            state.feedback,
            list(state.onsets),
            state.held_back,
            set(state.stuck),
            state.ended_ns,
            {name: Place(*place) for name, *place in state.places},
        )


def _far(position: NDArray[np.float32]) -> float:
    """Root mean square of a position (Z,)."""
    return float(np.sqrt(np.mean(position**2, dtype=np.float64)))


def _arc(times: list[int]) -> tuple[int, int]:
    """The shortest arc of the day that has all these times: its beginning and its length."""
    ordered = sorted(times)
    gaps = [(b - a) % DAY_NS for a, b in zip(ordered, [*ordered[1:], ordered[0]], strict=True)]
    widest = max(range(len(gaps)), key=gaps.__getitem__)
    if len(ordered) > 1 and gaps[widest] == 0:
        return ordered[0], 0
    return ordered[(widest + 1) % len(ordered)], DAY_NS - gaps[widest]
