"""What was accepted as normal of an asset: by how much which of its sensors may be off.

An alert that people called planned, and a regime after ``alerts.accept_after``, are *accepted*. What is accepted are
*levels*: the sensors that are off, to which side, by how much, and what they read then, in their own units, which models
with other scalers share. From then on the asset's windows are *corrected*: each of these readings is moved towards what
the other sensors imply, by what was accepted at most (``correction``), and what is left of the window is judged like
any other. So nothing else becomes normal: a fault of another size, to the other side or of another sensor shows as it would
have before, also while the machine stands still and nothing of the level shows. An alert without levels (its sensors are off to
both sides, or by no more than chance) moves the asset's baseline to what the row shows (``Detector.accept``).

**Which sensors.** An error leaks from the sensors that are off into what is expected of others, which an alert may name as well. So the
model tells which sensors explain the newest window, and by how much they are off (``Detector.sensors_off``). Of these those count
that the alert names or that were off while it was open; if there are none, and its sensors are still off, those of another alert, whose error has come to show in them.
Where that window shows nothing of it, those count that were off by no chance while the alert was open, those that it
names first, and a window is corrected by the first one, and by as many others as it needs.

**Under another model** the levels hold from its first row on. It may have learned one: of a day of rows (``regime_rows``,
because machines have daily rhythms) at which the sensor reads what it read then, and nothing of the asset is open, the mean
distance from what the others imply is what is *left* of it; less than ``LEARNED`` of the size is nothing. That is found out at
the first scored row of a day of the epoch, so that other assets' rows are cut there alone. The model under which it was accepted has not
learned it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from daemon.alert import AcceptedChange
from daemon.assembly import units
from daemon.detector import MARGIN, Offset
from daemon.domain import Floats, Mask, StreamSpec
from daemon.stream.alert_messages import ScoredEvidence
from daemon.stream.course import MOST_SIDES, NONE, Side, Sustained
from daemon.stream.course_state import MEASURED, AcceptedLevel, AcceptedState
from daemon.stream.deviation import BOTH_WAYS, Deviation, SustainedRow
from daemon.stream.incident import ANOMALY, AssetEpisodes, Incident, regime_rows

MOST_ACCEPTED = 16
"""Accepted alerts that are remembered of an asset; the oldest are forgotten."""
ERRORS = 3.0
"""Widths of noise that are no chance. The mean of an anomaly's rows is off by so many of its standard errors, at least; and by one
width at least, as the noise of neighbouring rows is alike."""
NEVER = 1 << 62
"""Row at which nothing changes."""
LEARNED = 1.0 - 1.0 / MARGIN
"""Share of a level up to which a model has learned it: what comes again differs by as much."""


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """What becomes normal at a row."""

    corrected: Mask  # (C,) sensors that are judged less what was accepted: what is known of them of late is of no use any more
    baseline: Mask  # (C,) sensors whose baseline takes in what the row shows
    changes: Sequence[AcceptedChange] = ()  # the same for people, those that explain the most first

    @property
    def sensors(self) -> Mask:
        """(C,) those that are normal from now on."""
        return self.corrected | self.baseline

    def joined(self, other: Accepted | None) -> Accepted:
        """With what else does."""
        if other is None:
            return self
        return Accepted(self.corrected | other.corrected, self.baseline | other.baseline)


class Bounds(NamedTuple):
    """By how much the sensors of an asset may be off at a row; (C,) each."""

    least: Floats  # at most 0
    most: Floats  # at least 0
    taken: Mask  # those that a window is corrected by in any case


@dataclass(slots=True, eq=False)
class _AcceptedAlert:
    """How far sensors were off in an alert that was accepted."""

    fingerprint: str
    levels: dict[Side, AcceptedLevel]  # those that explain the most first
    began: int  # row of it: later ones are corrected


class Acceptances:
    """The accepted levels of the assets of one input partition.

    Args:
        spec: the stream.

    Attributes:
        standing: assets with a level that the model in force has not learned ...
        watched: ... those of them with one of which that is not measured yet.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.standing: set[str] = set()
        self.watched: set[str] = set()
        self._spec = spec
        self._place = {name: c for c, name in enumerate(spec.sensors)}
        self._units = units(spec)
        self._day = regime_rows(spec.window, spec.period_ns)
        self._lasting = -(-self._day // spec.hop)  # scored rows of it
        self._assets: dict[str, list[_AcceptedAlert]] = {}  # oldest first
        self._bounds: dict[str, Bounds | None] = {}  # after the newest of these

    # -------------------------------------------------------------- what is accepted
    def accept(
        self,
        asset: str,
        known: AssetEpisodes,
        incident: Incident,
        sustained: Mapping[Side, Sustained],
        row: SustainedRow,
        evidence: ScoredEvidence,
    ) -> Accepted:
        """An alert is accepted at a row: what becomes normal with it; its levels are remembered.

        Args:
            asset: whose alert it is.
            known: its episodes.
            incident: the alert, which gets the peaks of its anomaly.
            sustained: how far sensors have come while it was open.
            row: at which it is accepted.
            evidence: of the same row.
        """
        incident.peaks = incident.evidence(known.peaks if ANOMALY in incident.parts else None)
        deviation = known.deviation or Deviation.none(len(row.closing))
        sizes = self._sizes(known, incident, sustained, deviation)
        found = [] if evidence.sensors_off is None else evidence.sensors_off(np.ones(len(self._place), bool))
        others = _others(known, incident)
        mine = {*incident.names, *(name for name, _ in sizes)} - others
        own = self._of(found, mine)
        # The error of another alert's sensor may have come to show in those of this one.
        if not own and self._is_off(sizes, row):
            own = self._of(found, others)
        levels = self._levels(sizes, own, self._expected(incident, row, deviation))
        before = [one for one in self._assets.get(asset, []) if one.fingerprint != incident.fingerprint]
        before.append(_AcceptedAlert(incident.fingerprint, levels, row.row))
        self._assets[asset] = before[-MOST_ACCEPTED:]
        self._changed(asset)
        sensors = known.accepted_with(self._spec, incident) | self._mask(name for name, _ in levels)
        none = np.zeros(len(sensors), bool)
        if not levels:
            which = np.flatnonzero(sensors).tolist()
            return Accepted(none, sensors, [self._change(self._spec.sensors[c]) for c in which])
        return Accepted(sensors, none, [self._change(*side, one.size) for side, one in levels.items()])

    def _change(self, sensor: str, side: int = 0, size: float = 0.0) -> AcceptedChange:
        """For people; without a side, that its baseline has taken in what it reads."""
        return AcceptedChange(sensor, side * size if side else None, self._units[self._place[sensor]])

    def _is_off(self, sizes: Mapping[Side, float], row: SustainedRow) -> bool:
        """Whether one of the sensors is as far off at a row as it was, by half."""
        off = np.nan_to_num(row.observed - row.expected)
        return any(side * off[self._place[name]] >= size / 2.0 for (name, side), size in sizes.items())

    def _of(self, found: Iterable[Offset], names: set[str]) -> list[Offset]:
        return [one for one in found if self._spec.sensors[one.sensor] in names]

    def _sizes(
        self,
        known: AssetEpisodes,
        incident: Incident,
        sustained: Mapping[Side, Sustained],
        deviation: Deviation,
    ) -> dict[Side, float]:
        """How far sensors are off to one side by an alert, without those of other alerts; in their units. See ``accept``."""
        others = _others(known, incident)
        sizes: dict[Side, float] = {}
        mean = (deviation.observed - deviation.expected) / np.maximum(deviation.rows, 1.0)
        for name, _ in sustained:
            c = self._place[name]
            if np.abs(mean[c]) * deviation.rows[c] > BOTH_WAYS * deviation.apart[c]:
                sizes[self._side(c, float(mean[c]))] = abs(float(mean[c]))
        if incident.peaks is not None:
            off, width, rows = incident.peaks.mean, incident.peaks.width, incident.peaks.rows
            least = width * np.maximum(1.0, ERRORS / np.sqrt(np.maximum(rows, 1.0)))
            for c in np.flatnonzero(np.abs(off) >= least).tolist():
                side = self._side(c, float(off[c]))
                sizes[side] = max(sizes.get(side, 0.0), abs(float(off[c])))
        mine = [(side, size) for side, size in sizes.items() if side[1] and side[0] not in others]
        mine.sort(
            key=lambda one: (one[0][0] not in incident.names, -sustained.get(one[0], NONE).share, one[0])
        )
        return dict(mine[:MOST_SIDES])

    def _levels(
        self, sizes: Mapping[Side, float], found: Sequence[Offset], expected: Floats
    ) -> dict[Side, AcceptedLevel]:
        """The levels of an alert.

        Args:
            sizes: how far sensors are off by it.
            found: which of them the newest window shows to be off; none: it shows nothing of it.
            expected: (C,) what was expected of them.
        """
        levels: dict[Side, AcceptedLevel] = {}

        def add(c: int, off: float, place: float, explains: bool) -> None:
            side = self._side(c, off)
            size = max(abs(off), sizes.get(side, 0.0))
            if side[1] and np.isfinite([size, place]).all():
                levels[side] = AcceptedLevel(*side, size, place, explains, size, MEASURED)

        for offset in found:
            add(*offset)
        if not levels:
            for (name, side), size in sizes.items():
                c = self._place[name]
                add(c, side * size, float(expected[c]) + side * size, explains=not levels)
        return levels

    def _expected(self, incident: Incident, row: SustainedRow, deviation: Deviation) -> Floats:
        """(C,) what was expected of the sensors while an alert was open; of the row, where that is not known."""
        expected = deviation.expected / np.maximum(deviation.rows, 1.0)
        unknown = deviation.rows == 0
        if incident.peaks is not None:
            expected = np.where(unknown, incident.peaks.expected, expected)
            unknown &= ~np.isfinite(incident.peaks.expected)
        return np.asarray(np.nan_to_num(np.where(unknown, row.expected, expected)))

    def fingerprints(self, asset: str) -> set[str]:
        """The accepted alerts of an asset."""
        return {one.fingerprint for one in self._assets.get(asset, ())}

    def learn(self, asset: str, states: Iterable[AcceptedState]) -> None:
        """Take over what was accepted under another model; what this one knows already stays as it is."""
        known = self.fingerprints(asset)
        new = [_restored(state) for state in states if state.fingerprint not in known]
        for one in new:
            for level in one.levels.values():
                level.begin_anew()
        if new:
            self._assets[asset] = [*self._assets.get(asset, []), *new][-MOST_ACCEPTED:]
            self._changed(asset)

    def take_back(self, asset: str, fingerprint: str) -> bool:
        """What was accepted of an alert is not normal any more; False: nothing was."""
        known = self._assets.get(asset, [])
        left = [one for one in known if one.fingerprint != fingerprint]
        if len(left) == len(known):
            return False
        if not left:
            self.forget(asset)
        else:
            self._assets[asset] = left
            self._changed(asset)
        return True

    def asset_of(self, fingerprint: str) -> str | None:
        """Whose accepted alert it is; None: nobody's that is remembered."""
        for asset, known in self._assets.items():
            if any(one.fingerprint == fingerprint for one in known):
                return asset
        return None

    # -------------------------------------------------------------- what is left of it
    def begin(self, asset: str) -> None:
        """Another model comes into force, which may have learned what was accepted of the asset."""
        for one in self._assets.get(asset, ()):
            for level in one.levels.values():
                level.begin_anew()
        self._changed(asset)

    def bounds(self, asset: str, row: int) -> Bounds | None:
        """By how much sensors may be off at a row; None: by nothing."""
        known = self._assets[asset]
        if row <= max(one.began for one in known):  # a shadow knows of an alert as soon as its chunk begins
            return self._bounds_of(one for one in known if row > one.began)
        if asset not in self._bounds:
            self._bounds[asset] = self._bounds_of(known)
        return self._bounds[asset]

    def _bounds_of(self, alerts: Iterable[_AcceptedAlert]) -> Bounds | None:
        least, most = np.zeros(len(self._place)), np.zeros(len(self._place))
        taken = np.zeros(len(self._place), bool)
        for level in (level for one in alerts for level in one.levels.values() if level.left > 0):
            c = self._place[level.sensor]
            (most if level.side > 0 else least)[c] += level.side * level.left
            taken[c] |= level.explains
        return Bounds(least, most, taken) if least.any() or most.any() else None

    def follow(self, asset: str, row: SustainedRow, apart: Floats) -> None:
        """Take in a scored row at which nothing of the asset is open.

        Args:
            asset: one of ``watched``.
            row: its evidence.
            apart: (C,) how far sensors are from what the others imply; NaN: not asked for, as expected.
        """
        for each in self._unmeasured(asset, row.row):
            newest, count = each[0], next(one for one in each if one.rows != MEASURED)
            c = self._place[newest.sensor]
            if row.present[c] and abs(float(row.observed[c]) - newest.place) <= newest.size / 2.0:
                count.rows += 1
                count.apart_sum += newest.side * float(np.nan_to_num(apart[c]))
        if row.row % self._day >= self._spec.hop:
            return
        for each in self._unmeasured(asset, row.row):
            unknown = [one for one in each if one.rows != MEASURED]
            if unknown[0].rows < self._lasting:
                continue
            left, known = (sum(one.left for one in some) for some in (unknown, each))
            known -= left
            found = min(max(unknown[0].apart_sum / unknown[0].rows - known, 0.0), left)
            if found < LEARNED * sum(one.size for one in unknown):
                found = 0.0
            for one in unknown:
                one.left *= found / left if left > 0 else 0.0
                one.rows, one.apart_sum = MEASURED, 0.0
            self._changed(asset)

    def changes_from(self, asset: str, row: int) -> int:
        """A row before which ``follow`` changes no bounds of an asset, of the rows from this one on."""
        if asset not in self.watched:
            return NEVER
        return row if row % self._day < self._spec.hop else row + self._day - row % self._day

    def _unmeasured(self, asset: str, row: int) -> list[list[AcceptedLevel]]:
        """The levels of each sensor and side that were accepted before a row, the newest first, where one is not measured."""
        found: dict[Side, list[AcceptedLevel]] = {}
        for one in reversed(self._assets[asset]):
            if row > one.began:
                for side, level in one.levels.items():
                    found.setdefault(side, []).append(level)
        return [each for each in found.values() if any(one.rows != MEASURED for one in each)]

    def _changed(self, asset: str) -> None:
        """What stands of an asset has changed."""
        self._bounds.pop(asset, None)
        levels = [level for one in self._assets.get(asset, ()) for level in one.levels.values()]
        stands = any(level.left > 0 for level in levels)
        watched = stands and any(level.rows != MEASURED for level in levels)
        (self.standing.add if stands else self.standing.discard)(asset)
        (self.watched.add if watched else self.watched.discard)(asset)

    def _side(self, sensor: int, off: float) -> Side:
        return self._spec.sensors[sensor], int(np.sign(off))

    def _mask(self, names: Iterable[str]) -> Mask:
        """(C,) which sensors these are."""
        return np.isin(self._spec.sensors, list(names))

    # -------------------------------------------------------------- state
    @property
    def assets(self) -> set[str]:
        """Those of which something was accepted."""
        return set(self._assets)

    def forget(self, asset: str) -> None:
        """The asset is evicted."""
        self._assets.pop(asset, None)
        self._changed(asset)

    def snapshot(self, asset: str) -> list[AcceptedState]:
        """The part of an asset's record of state; empty: nothing was accepted."""
        return [
            AcceptedState(one.fingerprint, one.began, [copy(level) for level in one.levels.values()])
            for one in self._assets.get(asset, ())
        ]

    def restore(self, asset: str, states: Iterable[AcceptedState]) -> None:
        """Continue with an asset as another process left it."""
        alerts = [_restored(state) for state in states]
        if alerts:
            self._assets[asset] = alerts
            self._changed(asset)


def _others(known: AssetEpisodes, incident: Incident) -> set[str]:
    """The sensors of other alerts than this one."""
    others = [one for one in known.incidents if one is not incident and not one.slow]
    return {name for one in others for name in one.names}.difference(incident.names)


def _restored(state: AcceptedState) -> _AcceptedAlert:
    levels = {(level.sensor, level.side): copy(level) for level in state.levels}
    return _AcceptedAlert(state.fingerprint, levels, state.began)
