"""What was accepted as normal of an asset, and is accepted again by a baseline that does not know it.

An alert that people called planned, and a regime after ``alerts.accept_after``, are *accepted*: the asset's baseline moves to
what it shows (``Detector.accept``). A baseline is of one model and one run of rows: with another model, also an earlier one,
and after a long gap it begins anew. Therefore the levels are remembered that were accepted: by how much each sensor was off,
to which side, and what was expected of it then, in its own unit, which models with other scalers share. So a level is a
*place* of the machine, and not an offset from whatever a model expects: what is left of it under a model is the distance
from what that model expects to that place, at most the size that was accepted.
The load moves what is expected from row to row; ``NORMAL`` spreads of training's readings are allowed for that.

A level is *due* from the first row of a baseline on until it has been seen, however long that takes: the machine may stand
still meanwhile. A model that has learned it never sees it. That it has learned it, is found on rows at which nothing of the
asset is open: if on average of a day of them (``regime_rows``), because machines have daily rhythms, the sensor is at the
place that was accepted, and by less than half of the size off what the model expects, the level is not due any more under
this model: the same size on top of it is a fault. Where a row would open an alert,

* it does not, if all sensors that lead it are off to a side and by a size that were accepted (at most ``MARGIN`` times
  what is left of it): the asset's baseline accepts them at this row, as it did the first time;
* else the alert opens. The sensors that are where they were accepted to be are accepted nonetheless, but nothing of what the
  latents show, so that the baseline hides no more than it did under the model before.

An error leaks from the sensors that are off into others, and by another model into other ones: where others lead the row, the
model is asked what is left of them without the sensors that are within what was accepted (``Detector.explain``).

A sensor that comes to deviate is judged likewise. The first rows may show less than the whole level: a window and a mean
fill up only slowly, and a level differs with the hour. So what was seen stays due for as long as a regime lasts, at least
(``regime_rows``: a day).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from daemon.domain import AlertKind, Floats, Mask, StreamSpec
from daemon.stream.alert_messages import ScoredEvidence
from daemon.stream.attribution import PeakEvidence, extended
from daemon.stream.course import MARGIN, MOST_SIDES, NONE, Side, Sustained
from daemon.stream.course_state import UNSEEN, AcceptedLevel, AcceptedState
from daemon.stream.deviation import Deviation, SustainedRow
from daemon.stream.incident import ANOMALY, AssetEpisodes, Incident, Part, regime_rows

MOST_ACCEPTED = 16
"""Accepted alerts that are remembered of an asset; the oldest are forgotten."""
ERRORS = 3.0
"""Widths of noise that are no chance. The mean of an anomaly's rows is off by so many of its standard errors, at least, where a
sensor does not lead it; and by one width at least, as the noise of neighbouring rows is alike."""
NORMAL = 2.0
"""A residual that is normal, in units of calibration: the model's explanations go by the same. Likewise a reading, in spreads of
training's."""
STILL_NEAR = 1.0 - 1.0 / MARGIN
"""Share of a level by which a sensor differs from where it was, and may be there still."""


@dataclass(frozen=True, slots=True, eq=False)
class Accepted:
    """What a baseline has to take as normal at a row."""

    sensors: Mask  # (C,)
    latents: bool = True  # whether what the latents show is normal, too

    def joined(self, other: Accepted | None) -> Accepted:
        """With what else is."""
        if other is None:
            return self
        return Accepted(self.sensors | other.sensors, self.latents or other.latents)


@dataclass(slots=True, eq=False)
class _AcceptedAlert:
    """Where sensors were in an alert that was accepted."""

    fingerprint: str
    levels: dict[Side, AcceptedLevel]
    began: int  # row from which on the present baseline may not know them


class Acceptances:
    """The accepted levels of the assets of one input partition.

    Args:
        spec: the stream.

    Attributes:
        accepted_again: how often a level was accepted again.
        due: assets of which a level is due.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.accepted_again = 0
        self.due: set[str] = set()
        self._spec = spec
        self._lasting = regime_rows(spec.window, spec.period_ns)
        self._assets: dict[str, list[_AcceptedAlert]] = {}  # oldest first
        self._pending: dict[str, Accepted] = {}
        """What the score of the row that is being judged has shown; its sustained evidence comes next."""

    # -------------------------------------------------------------- what is accepted
    def levels(
        self, known: AssetEpisodes, incident: Incident, sustained: Mapping[Side, Sustained]
    ) -> dict[Side, float]:
        """How far sensors are off by an alert that is about to be accepted, without those of other alerts; in their units.

        Args:
            known: the asset's episodes.
            incident: the alert.
            sustained: how far sensors have come while it was open.
        """
        others = {
            name for one in known.incidents if one is not incident and not one.slow for name in one.names
        }
        others -= set(incident.names)
        sizes = {side: most.size for side, most in sustained.items()}
        peaks = incident.evidence(known.peaks if ANOMALY in incident.parts else None)
        if peaks is not None:
            off, width = peaks.mean, peaks.width
            least = width * np.maximum(1.0, ERRORS / np.sqrt(np.maximum(peaks.rows, 1.0)))
            leads = np.isin(self._spec.sensors, incident.leading)
            for c in np.flatnonzero(leads | (np.abs(off) >= least)).tolist():
                side = self._side(c, float(off[c]))
                sizes[side] = max(sizes.get(side, 0.0), abs(float(off[c])))
        mine = [(side, size) for side, size in sizes.items() if side[1] and side[0] not in others]
        mine.sort(
            key=lambda one: (one[0][0] not in incident.names, -sustained.get(one[0], NONE).share, one[0])
        )
        return dict(mine[:MOST_SIDES])

    def remember(
        self,
        asset: str,
        incident: Incident,
        sizes: dict[Side, float],
        row: SustainedRow,
        deviation: Deviation,
    ) -> None:
        """An alert is accepted at a row; levels that the row does not show are due.

        Args:
            asset: whose alert it is.
            incident: the alert, with the peaks of its anomaly.
            sizes: from ``levels``.
            row: at which it is accepted.
            deviation: of the asset's sensors.
        """
        known = [one for one in self._assets.get(asset, []) if one.fingerprint != incident.fingerprint]
        expected = deviation.expected / np.maximum(deviation.rows, 1.0)
        unknown = deviation.rows == 0
        if incident.peaks is not None:
            expected = np.where(unknown, incident.peaks.expected, expected)
            unknown &= ~np.isfinite(incident.peaks.expected)
        expected = np.nan_to_num(np.where(unknown, row.expected, expected))
        spread = np.zeros(len(expected)) if row.spread is None else row.spread
        levels: dict[Side, AcceptedLevel] = {}
        for (name, side), size in sizes.items():
            c = self._spec.sensors.index(name)
            levels[name, side] = AcceptedLevel(name, side, size, float(expected[c]), float(spread[c]))
        alert = _AcceptedAlert(incident.fingerprint, levels, row.row)
        off = np.where(deviation.rows > 0, deviation.level, np.nan_to_num(row.observed - row.expected))
        for one in self._within(sizes, off):
            if self._is_full(one, sizes[one], off):
                levels[one].seen = row.row
        self._assets[asset] = [*known, alert][-MOST_ACCEPTED:]
        self.due.add(asset)

    def fingerprints(self, asset: str) -> set[str]:
        """The accepted alerts of an asset."""
        return {one.fingerprint for one in self._assets.get(asset, ())}

    def learn(self, asset: str, states: Iterable[AcceptedState]) -> None:
        """Take over what was accepted under another model; what this one knows already, and has seen, stays."""
        known = self.fingerprints(asset)
        new = [_restored(state) for state in states if state.fingerprint not in known]
        for one in new:
            for level in one.levels.values():
                level.begin_anew()
        if new:
            self._assets[asset] = [*self._assets.get(asset, []), *new][-MOST_ACCEPTED:]
            self.due.add(asset)

    def take_back(self, asset: str, fingerprint: str) -> bool:
        """What was accepted of an alert is not normal any more; False: nothing was."""
        known = self._assets.get(asset, [])
        left = [one for one in known if one.fingerprint != fingerprint]
        if len(left) == len(known):
            return False
        self._assets[asset] = left
        if not left:
            self.forget(asset)
        return True

    def asset_of(self, fingerprint: str) -> str | None:
        """Whose accepted alert it is; None: nobody's that is remembered."""
        for asset, known in self._assets.items():
            if any(one.fingerprint == fingerprint for one in known):
                return asset
        return None

    # -------------------------------------------------------------- what is accepted again
    def begin(self, asset: str, row: int) -> None:
        """The asset's baseline begins at a row: all that was accepted is due."""
        for one in self._assets.get(asset, ()):
            one.began = max(one.began, row)
            for level in one.levels.values():
                level.begin_anew()
            self.due.add(asset)

    def follow(self, asset: str, row: SustainedRow) -> None:
        """Take in a scored row at which nothing of the asset is open: the model may have learned a level."""
        for one in self._begun(asset, row.row):
            for (name, _), level in one.levels.items():
                c = self._spec.sensors.index(name)
                if level.seen != UNSEEN or not row.present[c]:
                    continue
                level.add(float(row.observed[c]), float(row.expected[c]))
                if level.rows >= self._lasting:
                    if self._is_learned(level):
                        level.seen = (
                            one.began - 1
                        )  # not by this baseline, and longer ago than a level stays due
                    level.forget_rows()

    def _is_learned(self, level: AcceptedLevel) -> bool:
        """Whether the sensor was on average where it was accepted to be, and the model expected it there."""
        observed, expected = level.observed_sum / level.rows, level.expected_sum / level.rows
        apart = abs(observed - level.place)
        if apart > max(level.size / 2.0, NORMAL * level.spread) or apart > abs(observed - level.expected):
            return False
        return level.side * (observed - expected) < level.size / 2.0

    def taken_in(self, asset: str, row: int) -> bool:
        """Whether the asset's baseline has taken in a level up to a row: its model has not learned that one."""
        return any(
            one.began <= level.seen <= row
            for one in self._assets.get(asset, ())
            for level in one.levels.values()
        )

    def is_accepting(self, asset: str) -> bool:
        """Whether the score of the asset's present row has shown a level that is due."""
        return asset in self._pending

    def holds_back(self, asset: str, known: AssetEpisodes, evidence: ScoredEvidence) -> bool:
        """Whether a row, which would open an anomaly, shows nothing but levels that are due.

        The baseline takes in what it shows of them (``lowered``), also where the anomaly opens or is open.
        """
        row = evidence.sensors
        if row is None:
            return False
        sizes = self._due(asset, evidence.row, row.expected)
        if not sizes:
            return False
        is_open = known.with_part(ANOMALY) is not None
        peaks = PeakEvidence.since(row) if is_open else extended(known.peaks, row)
        assert peaks is not None
        off = peaks.mean
        # The mean of a long run knows little of what has just begun.
        noise, now = (
            ERRORS * np.nan_to_num(peaks.width, posinf=0.0),
            np.nan_to_num(row.observed - row.expected),
        )
        sizes = {
            (name, side): size
            for (name, side), size in sizes.items()
            if -noise[c := self._spec.sensors.index(name)] <= side * now[c] <= MARGIN * size + noise[c]
        }
        within = self._within(sizes, off)
        # A window may show what is over in its newest row.
        began = self._assets[asset][0].began
        least = STILL_NEAR if evidence.row - began < self._spec.window else 0.0
        names = {name for name, _ in self._within(sizes, off, least)}
        alone = self._is_all(names, within, peaks, evidence)
        if not alone:  # another cause may add to what the row shows: only what is there in full
            within = [side for side in within if self._is_full(side, sizes[side], off)]
        if within:
            self._pending[asset] = Accepted(self._mask(within), alone)
            if alone:
                self._note(asset, within, off, evidence.row, row.expected)
        return alone and not is_open

    def lowered(
        self, asset: str, known: AssetEpisodes, row: SustainedRow, deviation: Deviation
    ) -> tuple[SustainedRow, Accepted | None]:
        """A row's sustained evidence without levels that are due, and what the baseline takes in at this row."""
        accepted = self._pending.pop(asset, None)
        sizes = self._due(asset, row.row, row.expected)
        if not sizes or not (row.opening > 1.0).any():
            return row, accepted
        within = []
        for side in self._within(sizes, deviation.level):
            deviates = known.with_part(Part(AlertKind.DEVIATION, side[0])) is not None  # by more, before
            if row.opening[self._spec.sensors.index(side[0])] > 1.0 and (
                not deviates or self._is_full(side, sizes[side], deviation.level)
            ):
                within.append(side)
        if not within:
            return row, accepted
        mask = self._mask(within)
        alone = not ((row.opening > 1.0) & ~mask).any() and known.with_part(ANOMALY) is None
        if alone:
            self._note(asset, within, deviation.level, row.row, row.expected)
        found = Accepted(mask, alone)
        return replace(row, opening=np.where(mask, 0.0, row.opening)), found.joined(accepted)

    def _is_all(
        self, names: set[str], within: Sequence[Side], peaks: PeakEvidence, evidence: ScoredEvidence
    ) -> bool:
        """Whether an anomaly is led by these sensors alone.

        Others that lead it do not count, if they are normal where the model looks at the row without these.
        """
        others = [c for c in peaks.leading() if self._spec.sensors[c] not in names]
        if not others:
            return True
        if not within or evidence.explain is None or evidence.sensors is None:
            return False
        found = evidence.explain(np.where(self._mask(within), peaks.shares(), 0.0))
        if found is None:
            return False
        # The window knows little of what has just begun.
        apart = np.abs(evidence.sensors.observed - found.expected) <= ERRORS * peaks.width
        return bool(((found.residual <= NORMAL) & apart)[others].all())

    def _due(self, asset: str, row: int, expected: Floats) -> dict[Side, float]:
        """What is left of the levels that are due at a row, whose sensors are expected at (C,); of several of a side the largest."""
        sizes: dict[Side, float] = {}
        if asset not in self.due:
            return sizes
        for one in self._begun(asset, row):
            for side, level in one.levels.items():
                if level.seen == UNSEEN or row - level.seen < self._lasting:
                    sizes[side] = max(sizes.get(side, 0.0), self._left(level, expected))
        if not sizes and all(row >= one.began for one in self._assets[asset]):
            self.due.discard(asset)
        return sizes

    def _begun(self, asset: str, row: int) -> list[_AcceptedAlert]:
        """The alerts that were accepted at a row or earlier; a shadow knows of them as soon as its chunk begins."""
        return [one for one in self._assets[asset] if row >= one.began]

    def _left(self, level: AcceptedLevel, expected: Floats) -> float:
        """What a model that expects this (C,) at a row has not learned of a level, in the sensor's unit."""
        apart = level.side * (level.place - float(expected[self._spec.sensors.index(level.sensor)]))
        return min(max(apart + NORMAL * level.spread, 0.0), level.size)

    def _within(self, sizes: Mapping[Side, float], off: Floats, least: float = 0.0) -> list[Side]:
        """The sides to which sensors are off (C,), and by no more than was accepted; or hardly to the other one.

        Args:
            sizes: that were accepted.
            off: (C,) how far the sensors are off.
            least: up to this share of the size to the other side.
        """
        found = []
        for (name, side), size in sizes.items():
            apart = side * float(off[self._spec.sensors.index(name)])
            if -least * size < apart <= MARGIN * size:
                found.append((name, side))
        return found

    def _is_full(self, side: Side, size: float, off: Floats) -> bool:
        """Whether a sensor is off (C,) by as much as was accepted, about."""
        return MARGIN * abs(float(off[self._spec.sensors.index(side[0])])) >= size

    def _note(self, asset: str, within: Sequence[Side], off: Floats, row: int, expected: Floats) -> None:
        """The baseline takes in these levels, as far as the sensors are off (C,) what is expected of them (C,)."""
        new = False
        for one in self._begun(asset, row):
            for side in within:
                level = one.levels.get(side)
                if level is None or level.seen != UNSEEN:
                    continue
                if self._is_full(side, self._left(level, expected), off):
                    level.seen, new = row, True
        self.accepted_again += new

    def _side(self, sensor: int, off: float) -> Side:
        return self._spec.sensors[sensor], int(np.sign(off))

    def _mask(self, within: Iterable[Side]) -> Mask:
        return np.isin(self._spec.sensors, [name for name, _ in within])

    # -------------------------------------------------------------- state
    @property
    def assets(self) -> set[str]:
        """Those of which something was accepted."""
        return set(self._assets)

    def forget(self, asset: str) -> None:
        """The asset is evicted."""
        self._assets.pop(asset, None)
        self.due.discard(asset)

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
            self.due.add(asset)


def _restored(state: AcceptedState) -> _AcceptedAlert:
    levels = {(level.sensor, level.side): copy(level) for level in state.levels}
    return _AcceptedAlert(state.fingerprint, levels, state.began)
