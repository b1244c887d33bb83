"""What people say of episodes: false alarms raise the bar for their like, planned changes become normal.

Of each asset the course of its last ``REMEMBERED`` episodes is remembered (``course``), so that a verdict finds what it is
about by the fingerprint. The last verdict on a fingerprint counts.

* ``false_alarm``: the episode is *dismissed*, and closed if it is open. A run of high rows that is like a dismissed
  episode opens an alert only where it comes higher than that did by ``MARGIN``: by its score, by the jump of a sensor.
  A sensor that deviated opens only where its sustained evidence goes as much beyond. What only belonged to an
  anomaly (its rows are in the sustained means of its sensors) is held back as long as the like of that is; so is what
  begins while a run of high rows is held back and is over with it. Whatever other sensors show
  besides, to other sides, in other states of the machine, by more or for longer, is judged as before.
* ``planned``: an open episode with evidence is accepted at the asset's next scored row, as a regime is after
  ``accept_after``, and closes there. Where the verdict is taken back, the asset's baseline begins anew.
* ``confirmed``: kept with the episode, and nothing else.

``Episodes`` tells this owner what happens to alerts and asks it how high a row must be; ``Parts.take_feedback`` gives it
verdicts. All of it is part of the asset's record of state.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from daemon.control import Feedback, Verdict
from daemon.detector import MARGIN, REACH
from daemon.domain import AlarmPolicy, AlertKind, Output, StreamSpec
from daemon.stream.alert_messages import ScoredEvidence
from daemon.stream.attribution import AS_FAR, extended
from daemon.stream.course import NONE, Course, Side, Sustained, sides
from daemon.stream.course_state import CourseState, MemoryState, QuietState
from daemon.stream.deviation import Deviation, SustainedRow
from daemon.stream.incident import ANOMALY, BY_EVIDENCE, JOINING, AssetEpisodes, Incident, Part

REMEMBERED = 20
"""Closed episodes of an asset that a verdict can be about."""
MOST_DISMISSED = 32
"""Of an asset; the oldest are forgotten."""
FADED = math.exp(-1.0 / REACH)
"""Share of its peak that sustained evidence has left half a window after its cause is over."""


class Effect(StrEnum):
    """What a verdict has done."""

    UNKNOWN = "unknown"
    """No asset of this partition has had such an episode of late."""
    NOTED = "noted"
    """Nothing but that it is remembered."""
    CLOSED = "closed"
    """The alert is closed; there is nothing by which its like could be recognised."""
    DISMISSED = "dismissed"
    ACCEPTING = "accepting"
    """The alert closes at the next scored row; what it shows is normal from then on."""
    RESTORED = "restored"
    """An earlier verdict has no effect any more."""
    TOO_LATE = "too_late"
    """Planned, but the alert is over: nothing is left to accept, and nothing changes."""


@dataclass(frozen=True, slots=True)
class FeedbackResult:
    """What became of a verdict in one partition."""

    outputs: list[Output]
    changed: set[str]  # assets whose records of state must go with the next commit
    effect: Effect


@dataclass(frozen=True, slots=True)
class Standing:
    """The last verdict on an episode that was taken in, and what it has done since."""

    feedback: Feedback
    dismissed: bool = False  # its like is held back
    accepting: bool = False  # what it shows is accepted at the asset's next scored row
    held_back: int = 0  # runs like it that have not opened an alert


@dataclass(frozen=True, slots=True)
class Taken:
    """What the caller has to do after a verdict was taken in."""

    effect: Effect
    closes: bool = False  # the alert
    rejudges: bool = False  # what was accepted is not normal any more


@dataclass(slots=True)
class _Quiet:
    """The newest run of rows of an asset, or of a sensor's deviation, that was held back."""

    like: list[str]  # fingerprints of the dismissed episodes
    since: int  # row
    last: int
    rows: int


@dataclass(slots=True, eq=False)
class _Memory:
    """What is remembered of one asset."""

    run: Course | None = None  # the present run of high rows, until it opens an episode
    open: dict[str, Course] = field(default_factory=dict)  # by fingerprint
    closed: list[Course] = field(default_factory=list)  # oldest first
    dismissed: list[Course] = field(default_factory=list)  # likewise
    quiet: _Quiet | None = None
    deviating: dict[str, _Quiet] = field(default_factory=dict)  # by sensor
    accepting: list[str] = field(default_factory=list)  # fingerprints

    def course(self, fingerprint: str) -> Course | None:
        """Of an episode."""
        known = [*self.dismissed, *self.closed]
        return self.open.get(fingerprint) or next(
            (one for one in known if one.fingerprint == fingerprint), None
        )

    def dismiss(self, course: Course) -> None:
        """Let its like be higher from now on."""
        course.onsets = course.onsets or [course.onset_ns]
        self.dismissed = [*self.dismissed[1 - MOST_DISMISSED :], course]
        for one in self.dismissed[:-1]:
            earlier, later = sorted((one, course), key=lambda each: each.opened_ns)
            if later.is_elsewhere(earlier):
                one.anywhere = course.anywhere = True

    def restore_bar(self, course: Course) -> None:
        """Its like may be as low as before."""
        others = [one for one in self.dismissed if one is not course]
        self.dismissed, course.anywhere = [], False
        for one in others:
            one.anywhere = False
        for one in others:
            self.dismiss(one)
        self.deviating.clear()
        if self.quiet is not None and course.fingerprint in self.quiet.like:
            self.quiet = None

    def disturbing(
        self, sensor: str, spec: StreamSpec, row: SustainedRow, deviation: Deviation
    ) -> _Quiet | None:
        """The run that was held back of which a sensor's deviation may come: its rows disturb what is expected of all sensors.

        So it may if it began while windows held rows of that run, as long as they do, and later if it has faded
        since; what lasts does not fade. And no longer than sustained evidence reaches back.
        """
        quiet, window, c = self.quiet, spec.window, spec.sensors.index(sensor)
        since, reach = deviation.since[c], REACH * spec.window
        if quiet is None or not quiet.since <= since < quiet.last + window or row.row >= quiet.last + reach:
            return None
        within = row.row < quiet.last + window and row.row - since < reach
        return quiet if within or row.opening[c] < FADED * deviation.peak[c] else None


class Dismissals:
    """Remembered episodes and verdicts of the assets of one input partition.

    Args:
        spec: the stream.
        policy: of the alarms.

    Attributes:
        suppressed: episodes that would have opened but for a verdict.
        effects: verdicts so far, by what they did.
        accepting: assets with an alert that is to be accepted at their next scored row.
    """

    def __init__(self, spec: StreamSpec, policy: AlarmPolicy) -> None:
        self.suppressed = 0
        self.effects: Counter[Effect] = Counter()
        self._spec = spec
        self.policy = policy
        self.accepting: set[str] = set()
        self._assets: dict[str, _Memory] = {}
        self._resembling: dict[str, str] = {}
        """Of the row that is being judged: sensors that deviate as they did in a dismissed episode, which that is."""

    def _of(self, asset: str) -> _Memory:
        known = self._assets.get(asset)
        if known is None:
            known = self._assets[asset] = _Memory()
        return known

    # -------------------------------------------------------------- what happens to alerts
    def joined(self, asset: str, incident: Incident, part: Part) -> None:
        """A part has opened an alert, or joined it."""
        if part.kind is AlertKind.DRIFT:
            return  # of the partition, and of no asset
        memory = self._of(asset)
        course = memory.open.get(incident.fingerprint)
        if course is None:
            course = Course(incident.fingerprint, opened_ns=incident.opened_ns)
            memory.open[incident.fingerprint] = course
        if part.kind is AlertKind.ANOMALY and memory.run is not None:
            course.join(memory.run)
            memory.run = None
        if part.kind is AlertKind.DEVIATION and part.sensor is not None and not part.slow:
            course.deviated.add(part.sensor)
            memory.deviating.pop(part.sensor, None)
            course.like = course.like or self._resembling.get(part.sensor, "")
        if part.kind is AlertKind.SENSOR_STUCK and part.sensor is not None:
            course.stuck.add(part.sensor)

    def closed(self, asset: str, incident: Incident, *, continued: bool = False) -> None:
        """An alert is over, or another one has taken over what was open of it."""
        memory = self._assets.get(asset)
        course = None if memory is None else memory.open.pop(incident.fingerprint, None)
        if memory is None or course is None:
            return
        course.kinds, course.onset_ns = list(incident.kinds), incident.onset_ns
        course.ended_ns = -1 if continued else incident.bad_row * self._spec.period_ns
        course.shorten()
        if incident.fingerprint in memory.accepting:
            memory.accepting.remove(incident.fingerprint)
            self._note_accepting(asset, memory)
        memory.closed = [*memory.closed[1 - REMEMBERED :], course]

    def said_of(self, asset: str, incident: Incident) -> tuple[Feedback | None, str | None]:
        """The last verdict on an open alert, and the dismissed episode whose sensors it has, though higher or elsewhere."""
        memory = self._assets.get(asset)
        course = None if memory is None else memory.open.get(incident.fingerprint)
        return (None, None) if course is None else (course.feedback, course.like or None)

    def courses(self, asset: str, incident: Incident) -> tuple[Course | None, Sequence[Course]]:
        """Of an open alert, and of those that are over, oldest first."""
        memory = self._assets.get(asset)
        return (None, ()) if memory is None else (memory.open.get(incident.fingerprint), memory.closed)

    # -------------------------------------------------------------- scores and jumps
    def bar(
        self, asset: str, known: AssetEpisodes, evidence: ScoredEvidence, threshold: float, model: str
    ) -> tuple[float, float]:
        """What a scored row is compared with before it moves the alarm on.

        Args:
            asset: whose row it is.
            known: its episodes, before the row.
            evidence: of the row.
            threshold: of the detector.
            model: its version.

        Returns:
            The threshold of the score, and the row's largest jump in limits.
        """
        plain, memory = (threshold, evidence.jump), self._assets.get(asset)
        if known.above_since < 0 and memory is not None:
            self._end_run(memory)
        if known.with_part(ANOMALY) is not None or not evidence.opens(threshold):
            return plain
        peaks = extended(known.peaks, evidence.sensors)
        if peaks is None:
            return plain
        memory = self._of(asset)
        sensors = self._spec.sensors
        leading = sides(self._spec, peaks, [sensors[c] for c in peaks.leading()])
        if memory.run is None:
            memory.run = Course(onset_ns=known.above_since * self._spec.period_ns)
        run, jumps = memory.run, self._jumps(evidence)
        run.grow(evidence.score / threshold, jumps, leading, evidence.latent, model)
        quiet = memory.quiet
        before = None  # what was held back so lately that an alert would go on
        if quiet is not None and evidence.row - quiet.last <= self.policy.refractory:
            before = quiet
        resembling = [
            one
            for one in memory.dismissed
            if one.is_led_by(leading)
            or (before is not None and one.fingerprint in before.like and one.has_sensors(leading))
        ]
        run.like = resembling[-1].fingerprint if resembling else ""
        run.near |= before is not None or any(
            one.anywhere or one.is_near(evidence.latent, model) for one in resembling
        )
        alike = [one for one in resembling if one.is_due(run.onset_ns) and (run.near or one.model != model)]
        if not alike:
            return plain
        raised = threshold * max(1.0, MARGIN * max(one.score for one in alike))
        largest = max(
            (
                jump / max(1.0, MARGIN * max(one.jumps.get(name, 0.0) for one in alike))
                for name, jump in jumps.items()
            ),
            default=0.0,
        )
        if not (evidence.score > raised or largest > 1.0):
            like = [one.fingerprint for one in alike]
            since = known.above_since if before is None else before.since
            memory.quiet = self._held_back(quiet, like, evidence.row, since)
        return raised, largest

    def follow(
        self, asset: str, known: AssetEpisodes, evidence: ScoredEvidence, threshold: float, model: str
    ) -> None:
        """Take a scored row, which has moved the alarm on, into the course of the anomaly that is open."""
        incident, memory = known.with_part(ANOMALY), self._assets.get(asset)
        course = None if memory is None or incident is None else memory.open.get(incident.fingerprint)
        if course is None or incident is None or not evidence.opens(threshold):
            return
        peaks = incident.evidence(known.peaks)
        leading = frozenset[Side]() if peaks is None else sides(self._spec, peaks, incident.leading)
        height = evidence.score / threshold
        course.grow(height, self._jumps(evidence), leading, evidence.latent, model)
        if peaks is not None and evidence.sensors is not None:
            expected, sizes = evidence.sensors.expected, np.abs(peaks.observed - peaks.expected)
            off = np.abs(evidence.sensors.residual) >= AS_FAR * peaks.residual
            off &= np.isfinite(expected) & np.isfinite(sizes)
            for name in incident.leading:
                c = self._spec.sensors.index(name)
                if off[c]:
                    course.see(name, float(expected[c]), float(sizes[c]))

    def _end_run(self, memory: _Memory) -> None:
        """A run of high rows is over; it may have been held back as a whole."""
        run, quiet = memory.run, memory.quiet
        memory.run = None
        if run is None or quiet is None or quiet.since != self._spec.row(run.onset_ns):
            return
        if quiet.rows >= self.policy.needed:
            self.suppressed += 1
            for one in memory.dismissed:
                if one.fingerprint in quiet.like:
                    one.came(run)
                    one.held_back += 1

    def _jumps(self, evidence: ScoredEvidence) -> dict[str, float]:
        """The sensors that jump beyond their limits at a row."""
        if evidence.jumps is None:
            return {}
        return {
            self._spec.sensors[c]: float(evidence.jumps[c])
            for c in np.flatnonzero(evidence.jumps > 1.0).tolist()
        }

    @staticmethod
    def _held_back(quiet: _Quiet | None, like: list[str], row: int, since: int) -> _Quiet:
        """With one more row that was held back, of a run since a row."""
        rows = quiet.rows + 1 if quiet is not None and quiet.since == since else 1
        return _Quiet(like, since, row, rows)

    # -------------------------------------------------------------- sustained evidence
    def lowered(
        self, asset: str, known: AssetEpisodes, row: SustainedRow, deviation: Deviation
    ) -> SustainedRow:
        """A row's sustained evidence in shares of what opens a deviation after all verdicts."""
        memory = self._assets.get(asset)
        self._resembling.clear()
        if memory is None or not memory.dismissed:
            return row
        for name in [name for name in memory.deviating if not row.beyond[self._spec.sensors.index(name)]]:
            quiet = memory.deviating.pop(name)  # it is over, and none of it has opened
            self.suppressed += 1
            for one in memory.dismissed:
                one.held_back += one.fingerprint in quiet.like
        now = self._sides(row, deviation) if (row.opening > 1.0).any() else {}
        opening = row.opening.copy()
        within = [one for one in memory.dismissed if not one.is_exceeded(now)]
        present = [one for one in within if self._is_present(memory, one, now, row.row)]
        for side, most in now.items():
            name, c = side[0], self._spec.sensors.index(side[0])
            if not most.share > 1.0 or known.with_part(Part(AlertKind.DEVIATION, name)) is not None:
                continue
            # What is seen beside the sensors that make it differs in size with the state of the machine.
            alike = [
                one
                for one in within
                if (one in present and side in one.sustained)
                or (side in one.deviations and most.size <= MARGIN * one.sustained[side].size)
            ]
            for one in memory.dismissed:
                if side in one.deviations:
                    self._resembling[name] = one.fingerprint
            before, like = memory.deviating.pop(name, None), [one.fingerprint for one in alike]
            if alike:
                opening[c] /= max(1.0, MARGIN * max(one.sustained[side].share for one in alike))
            if opening[c] > 1.0 and (run := memory.disturbing(name, self._spec, row, deviation)) is not None:
                opening[c], like = 1.0, like or run.like
            if like:
                since = row.row if before is None else before.since
                memory.deviating[name] = self._held_back(before, like, row.row, since)
        return replace(row, opening=opening)

    def follow_sustained(
        self, asset: str, known: AssetEpisodes, row: SustainedRow, deviation: Deviation
    ) -> None:
        """Take a row's sustained evidence into the courses of the alerts that are open.

        Of all sensors, as others show the same cause: the next time one of them may be the first to be beyond its limit.
        """
        memory = self._assets.get(asset)
        if memory is None or not memory.open:
            return
        off = np.flatnonzero((row.closing > 1.0) & row.present & ~deviation.back(row))
        for side, most in self._sides(row, deviation).items():
            c = self._spec.sensors.index(side[0])
            owners = [one for one in known.incidents if side[0] in one.names and not one.slow]
            for incident in owners or known.incidents:
                course = memory.open.get(incident.fingerprint)
                if course is not None and not incident.slow:
                    course.grow_sustained(side, *most)
                    if c in off:
                        course.see(side[0], float(row.expected[c]), most.size)

    def _sides(self, row: SustainedRow, deviation: Deviation) -> dict[Side, Sustained]:
        """The sensors that are so far off on average that it may matter."""
        found = {}
        for c in np.flatnonzero((row.opening > 1.0 / MARGIN) & (deviation.rows > 0)).tolist():
            off = float(deviation.level[c])
            found[self._spec.sensors[c], int(np.sign(off))] = Sustained(float(row.opening[c]), abs(off))
        return found

    def _is_present(self, memory: _Memory, dismissed: Course, now: dict[Side, Sustained], row: int) -> bool:
        """Whether the like of a dismissed episode is seen in sensors as they are now, or was held back so lately that it is in their means."""
        for side, most in dismissed.deviations.items():
            if MARGIN * now.get(side, NONE).share >= most.share:
                return True
        quiet = memory.quiet
        if quiet is None or dismissed.fingerprint not in quiet.like:
            return False
        return row - quiet.last < REACH * self._spec.window

    # -------------------------------------------------------------- what becomes normal
    def sustained_of(self, asset: str, incident: Incident) -> Mapping[Side, Sustained]:
        """How far sensors have come by their sustained evidence while an alert was open."""
        memory = self._assets.get(asset)
        course = None if memory is None else memory.open.get(incident.fingerprint)
        return {} if course is None else course.sustained

    def accepts(self, asset: str, incident: Incident) -> bool:
        """Whether an alert is to be accepted at its asset's next scored row."""
        memory = self._assets.get(asset)
        return memory is not None and incident.fingerprint in memory.accepting

    # -------------------------------------------------------------- verdicts
    def standing(self, asset: str, fingerprint: str) -> Standing | None:
        """What was said of an episode of an asset; None: nothing, or it is not remembered."""
        memory = self._assets.get(asset)
        course = None if memory is None else memory.course(fingerprint)
        if memory is None or course is None or course.feedback is None:
            return None
        dismissed = any(one is course for one in memory.dismissed)
        return Standing(course.feedback, dismissed, fingerprint in memory.accepting, course.held_back)

    def asset_of(self, fingerprint: str) -> str | None:
        """Whose episode it is; None: nobody's that is remembered."""
        for asset, memory in self._assets.items():
            if memory.course(fingerprint) is not None:
                return asset
        return None

    def take(
        self, asset: str, feedback: Feedback, incident: Incident | None, *, accepted: bool = False
    ) -> Taken:
        """Take in a verdict on an episode of an asset.

        Args:
            asset: of ``Episodes.asset_of``.
            feedback: the verdict.
            incident: the episode, if it is open.
            accepted: whether what it showed is accepted already.
        """
        memory = self._of(asset)
        course = memory.course(feedback.fingerprint)
        if course is None:  # forgotten, but for what was accepted of it
            return Taken(Effect.NOTED if feedback.verdict is Verdict.PLANNED else Effect.RESTORED)
        before = None if course.feedback is None else course.feedback.verdict
        course.feedback = feedback
        memory.accepting = [one for one in memory.accepting if one != feedback.fingerprint]
        withdrawn = before not in (None, Verdict.CONFIRMED, feedback.verdict)
        if withdrawn:
            memory.restore_bar(course)
        closes = incident is not None and _can_close(incident)
        effect = Effect.RESTORED if withdrawn else Effect.NOTED
        if feedback.verdict is Verdict.FALSE_ALARM:
            if course.has_evidence and all(one is not course for one in memory.dismissed):
                if incident is not None:
                    course.onset_ns = incident.onset_ns
                course.held_back = 0
                memory.dismiss(course)
                effect = Effect.DISMISSED
            elif closes:
                effect = Effect.CLOSED
        elif feedback.verdict is Verdict.PLANNED and incident is not None and closes:
            effect, closes = Effect.CLOSED, BY_EVIDENCE.isdisjoint(incident.open_kinds)
            if not closes:
                memory.accepting.append(feedback.fingerprint)
                effect = Effect.ACCEPTING
        else:
            closes = False
            if feedback.verdict is Verdict.PLANNED and incident is None and not withdrawn and not accepted:
                effect = Effect.TOO_LATE
        self._note_accepting(asset, memory)
        return Taken(effect, closes)

    def _note_accepting(self, asset: str, memory: _Memory) -> None:
        if memory.accepting:
            self.accepting.add(asset)
        else:
            self.accepting.discard(asset)

    # -------------------------------------------------------------- state
    @property
    def with_verdicts(self) -> set[str]:
        """The assets of which rows may be held back."""
        return {asset for asset, memory in self._assets.items() if memory.dismissed}

    def forget(self, asset: str) -> None:
        """The asset is evicted."""
        self._assets.pop(asset, None)
        self.accepting.discard(asset)

    def snapshot(self, asset: str) -> MemoryState | None:
        """The part of an asset's record of state; None: nothing is remembered."""
        memory = self._assets.get(asset)
        if memory is None:
            return None
        return MemoryState(
            None if memory.run is None else memory.run.snapshot(),
            [one.snapshot() for one in memory.open.values()],
            [one.snapshot() for one in memory.closed],
            [one.snapshot() for one in memory.dismissed],
            None if memory.quiet is None else _quiet_state(memory.quiet),
            [(name, _quiet_state(one)) for name, one in memory.deviating.items()],
            list(memory.accepting),
        )

    def restore(self, asset: str, state: MemoryState) -> None:
        """Continue with an asset as another process left it."""
        dismissed = {one.fingerprint: Course.restored(one) for one in state.dismissed}

        def restored(one: CourseState) -> Course:
            return dismissed.get(one.fingerprint) or Course.restored(one)

        self._assets[asset] = memory = _Memory(
            None if state.run is None else Course.restored(state.run),
            {one.fingerprint: restored(one) for one in state.open},
            [restored(one) for one in state.closed],
            list(dismissed.values()),
            None if state.quiet is None else _quiet(state.quiet),
            {name: _quiet(one) for name, one in state.deviating},
            list(state.accepting),
        )
        self._note_accepting(asset, memory)


def _can_close(incident: Incident) -> bool:
    """Whether a verdict can close an alert: what is opened anew with the next row or day cannot be closed."""
    return not incident.slow and incident.open_kinds <= JOINING | {AlertKind.ASSET_SILENT, AlertKind.REGIME}


def _quiet_state(quiet: _Quiet) -> QuietState:
    return QuietState(list(quiet.like), quiet.since, quiet.last, quiet.rows)


def _quiet(state: QuietState) -> _Quiet:
    return _Quiet(list(state.like), state.since, state.last, state.rows)
