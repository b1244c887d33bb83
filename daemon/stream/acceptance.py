"""What was accepted as normal of an asset, and is accepted again by a baseline that does not know it.

An alert that people called planned, and a regime after ``alerts.accept_after``, are *accepted*: the asset's baseline moves to
what it shows (``Detector.accept``). A baseline is of one model and one run of rows: with another model, also an earlier one,
and after a long gap it begins anew. Therefore the levels are remembered that were accepted: by how much each sensor was
off, and to which side, in its own unit, which models with other scalers share.

A level is *due* from the first row of a baseline on until it has been seen, however long that takes: the machine may stand
still meanwhile. A model that has learned it sees nothing unusual, and nothing happens. Where a row would open an alert,

* it does not, if all sensors that lead it are off to a side and by a size that were accepted (at most ``MARGIN`` times as
  much): the asset's baseline accepts them at this row, as it did the first time;
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
from dataclasses import dataclass, field, replace

import numpy as np

from daemon.domain import AlertKind, Floats, Mask, StreamSpec
from daemon.stream.alert_messages import ScoredEvidence
from daemon.stream.attribution import PeakEvidence, extended
from daemon.stream.course import MARGIN, MOST_SIDES, NONE, Side, Sustained
from daemon.stream.course_state import AcceptedState
from daemon.stream.deviation import Deviation, SustainedRow
from daemon.stream.incident import ANOMALY, AssetEpisodes, Incident, Part, regime_rows

MOST_ACCEPTED = 16
"""Accepted alerts that are remembered of an asset; the oldest are forgotten."""
ERRORS = 3.0
"""Widths of noise that are no chance. The mean of an anomaly's rows is off by so many of its standard errors, at least, where a
sensor does not lead it; and by one width at least, as the noise of neighbouring rows is alike."""
NORMAL = 2.0
"""A residual that is normal, in units of calibration: the model's explanations go by the same."""
STILL_NEAR = 1.0 - 1.0 / MARGIN
"""Share of a level by which a sensor differs from where it was, and may be there still."""
UNSEEN = -1


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
class _Level:
    """How far sensors were off in an alert that was accepted."""

    fingerprint: str
    sizes: dict[Side, float]  # in the sensor's unit
    began: int  # row from which on the present baseline may not know them
    seen: dict[Side, int] = field(default_factory=dict)  # rows at which it took them in


class Acceptances:
    """The accepted levels of the assets of one input partition.

    Args:
        spec: the stream.

    Attributes:
        again: how often a level was accepted again.
        due: assets of which a level is due.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.again = 0
        self.due: set[str] = set()
        self._spec = spec
        self._lasting = regime_rows(spec.window, spec.period_ns)
        self._assets: dict[str, list[_Level]] = {}  # oldest first
        self._pending: dict[str, Accepted] = {}
        """What the score of the row that is being judged has shown; its sustained evidence comes next."""

    # -------------------------------------------------------------- what is accepted
    def levels(
        self, known: AssetEpisodes, incident: Incident, sustained: Mapping[Side, Sustained]
    ) -> dict[Side, float]:
        """How far sensors are off by an alert that is about to be accepted, without those of other alerts.

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
        self, asset: str, fingerprint: str, sizes: dict[Side, float], row: SustainedRow, deviation: Deviation
    ) -> None:
        """An alert is accepted at a row; levels that the row does not show are due."""
        known = [one for one in self._assets.get(asset, []) if one.fingerprint != fingerprint]
        level = _Level(fingerprint, sizes, row.row)
        off = np.where(deviation.rows > 0, deviation.level, np.nan_to_num(row.observed - row.expected))
        self._see(level, self._within(sizes, off), off, row.row)
        self._assets[asset] = [*known, level][-MOST_ACCEPTED:]
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
            one.began = row
            one.seen.clear()
            self.due.add(asset)

    def takes(self, asset: str) -> bool:
        """Whether the score of the asset's present row has shown a level that is due."""
        return asset in self._pending

    def holds_back(self, asset: str, known: AssetEpisodes, evidence: ScoredEvidence) -> bool:
        """Whether a row, which would open an anomaly, shows nothing but levels that are due.

        The baseline takes in what it shows of them (``lowered``), also where the anomaly opens or is open.
        """
        sizes = self._due(asset, evidence.row)
        row = evidence.sensors
        if not sizes or row is None:
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
            within = [side for side in within if self._is_full(side, sizes, off)]
        if within:
            self._pending[asset] = Accepted(self._mask(within), alone)
            if alone:
                self._note(asset, within, off, evidence.row)
        return alone and not is_open

    def lowered(
        self, asset: str, known: AssetEpisodes, row: SustainedRow, deviation: Deviation
    ) -> tuple[SustainedRow, Accepted | None]:
        """A row's sustained evidence without levels that are due, and what the baseline takes in at this row."""
        accepted = self._pending.pop(asset, None)
        sizes = self._due(asset, row.row)
        if not sizes or not (row.opening > 1.0).any():
            return row, accepted
        within = []
        for side in self._within(sizes, deviation.level):
            deviates = known.with_part(Part(AlertKind.DEVIATION, side[0])) is not None  # by more, before
            if row.opening[self._spec.sensors.index(side[0])] > 1.0 and (
                not deviates or self._is_full(side, sizes, deviation.level)
            ):
                within.append(side)
        if not within:
            return row, accepted
        mask = self._mask(within)
        alone = not ((row.opening > 1.0) & ~mask).any() and known.with_part(ANOMALY) is None
        if alone:
            self._note(asset, within, deviation.level, row.row)
        found = Accepted(mask, alone)
        return replace(row, opening=np.where(mask, 0.0, row.opening)), found.joined(accepted)

    def _is_all(
        self, names: set[str], within: Sequence[Side], peaks: PeakEvidence, evidence: ScoredEvidence
    ) -> bool:
        """Whether an anomaly is led by these sensors alone, or by others that are normal where the model looks at the row without those."""
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

    def _due(self, asset: str, row: int) -> dict[Side, float]:
        """The levels that are due at a row; of several of a side the largest."""
        sizes: dict[Side, float] = {}
        if asset not in self.due:
            return sizes
        for one in self._assets[asset]:
            for side, size in one.sizes.items():
                seen = one.seen.get(side, UNSEEN)
                if seen == UNSEEN or row - seen < self._lasting:
                    sizes[side] = max(sizes.get(side, 0.0), size)
        if not sizes:
            self.due.discard(asset)
        return sizes

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

    def _is_full(self, side: Side, sizes: Mapping[Side, float], off: Floats) -> bool:
        """Whether a sensor is off (C,) by as much as was accepted, about."""
        return MARGIN * abs(float(off[self._spec.sensors.index(side[0])])) >= sizes[side]

    def _note(self, asset: str, within: Sequence[Side], off: Floats, row: int) -> None:
        """The baseline takes in these levels, as far as the sensors are off (C,)."""
        new = False
        for one in self._assets[asset]:
            new |= self._see(one, within, off, row)
        self.again += new

    def _see(self, level: _Level, within: Sequence[Side], off: Floats, row: int) -> bool:
        """Note which of its sides are there in full; whether one is for the first time."""
        new = [
            side
            for side in within
            if side in level.sizes and side not in level.seen and self._is_full(side, level.sizes, off)
        ]
        level.seen.update(dict.fromkeys(new, row))
        return bool(new)

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
            AcceptedState(
                one.fingerprint,
                one.began,
                [(*side, size, one.seen.get(side, UNSEEN)) for side, size in one.sizes.items()],
            )
            for one in self._assets.get(asset, ())
        ]

    def restore(self, asset: str, states: Iterable[AcceptedState]) -> None:
        """Continue with an asset as another process left it."""
        levels = [
            _Level(
                state.fingerprint,
                {(name, side): size for name, side, size, _ in state.levels},
                state.began,
                {(name, side): seen for name, side, _, seen in state.levels if seen != UNSEEN},
            )
            for state in states
        ]
        if levels:
            self._assets[asset] = levels
            self.due.add(asset)
