"""Drift of single assets: one that drifts is named, and not diluted in its fleet.

An asset's windows of one event-time interval are added up, those left out that an episode explains (``drift``), beside
those of earlier ones as far as they still count (``AssetDriftReference.memory``). Its interval is over with its last row,
or with the asset's first row after it where that one is missing: so what is known of an asset follows from its own rows alone,
in their order, and a successor that reads them again comes to the same. Sums take 8 (1 + 2 Z + 6 C)
bytes per asset, and 56 for the rest: of single precision they would lose the small spread of a latent beside its level.

What an interval is measured against, and the thresholds: ``daemon.asset_drift``. After ``EXCEEDANCES`` intervals in a row
beyond them a ``drift`` of *the asset* opens; it closes once none has been beyond for as long as sums hold, a day: within
one a machine is nearer to its training at some hours than at others. When another model comes into force it closes as well
(``Episodes.outdate_drift``): it cannot be judged any more. Readings that are corrected by what was accepted of the asset
(``acceptance``) are no evidence: its model has not learned that. An interval with too few windows says nothing and breaks no
row. An asset whose thresholds are infinite, as training had too few rows of it, is not judged, nor counted as such.

**One asset or the fleet.** Where more than half of the assets drift (or more than can be named), it is the fleet that
moves: then the drift is the stream's (``drift``), and no asset's alert opens. Else the windows of an asset whose last
interval was beyond count for the asset alone, and what the others do is the stream's.

**Repair or retrain** is not said. That residuals alone are beyond (the sensors fit each other no more) would mean a fault, and
latents alone something new to learn; but a cause that is not measured, as the weather of a pump with warm bearings, shows in
residuals as well, and wear of what is seldom the same, as a reactor's batches, in latents alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daemon.asset_drift import (
    LIMIT,
    AssetDriftReference,
    divergence,
    fewest_windows,
    moments,
    terms,
    totals,
    weights,
    width,
)
from daemon.detector import Detector, Scaling
from daemon.domain import AlertEvent, AlertKind, Contributor, Floats, Ints, Mask, StreamSpec
from daemon.drifting import DriftingAsset, FleetDrift
from daemon.stream.alerts import Episodes
from daemon.stream.assets import AssetTable, Column
from daemon.stream.carriers import Moved, excess, leading
from daemon.stream.incident import ASSET_DRIFT, EpisodeStart
from daemon.stream.snapshot import AssetDriftState, DriftingState
from daemon.stream.summands import Summands
from daemon.stream.windowing import grown

EXCEEDANCES = 3
"""Successive intervals above the threshold that make an alarm."""
MOST_NAMED = 100
"""Drifting assets that a record names; more are no matter of single assets."""
NONE = -(1 << 62)
"""In place of the number of an interval, where there is none."""


class AssetDrifts:
    """The drift of the assets of one input partition.

    Args:
        spec: the stream.
        interval_ns: of the drift records.
        assets: those of the partition.
        episodes: where alerts are raised.

    Attributes:
        found: of the intervals that ended since the last record, those beyond their thresholds; bounded.
        moves: see ``FleetDrift``, as of the last record.
        alone: whether that fleet is a single asset, whose own alert says so.
    """

    def __init__(self, spec: StreamSpec, interval_ns: int, assets: AssetTable, episodes: Episodes) -> None:
        self.spec = spec
        self.interval_ns = interval_ns
        self.found: list[DriftingAsset] = []
        self.moves = self.alone = False
        self._assets = assets
        self._episodes = episodes
        self._full = interval_ns // (spec.period_ns * spec.hop)  # windows of a whole interval
        self._reference: AssetDriftReference | None = None
        self._places: dict[str, int] = {}  # of the assets in the reference
        self._latents = 0
        self._span = 1  # intervals that are in the sums, about
        self._weights = np.ones(
            1
        )  # (L,) whole intervals in the sums from which on the thresholds of an age hold
        self._scaling = Scaling.raw_units(len(spec.sensors))
        self._model = ""
        self._interval = assets.column(np.int64, NONE)  # that its sums are of
        self._judged = assets.column(np.int64, NONE)  # the newest with enough windows
        self._exceeded = assets.column(np.int64, 0)  # successive ones beyond the thresholds
        self._first = assets.column(np.int64, NONE)  # of these
        self._beyond = assets.column(np.int64, NONE)  # the newest beyond them
        self._windows = assets.column(np.int64, 0)  # of the interval
        self._whole = assets.column(np.float64, 0.0)  # intervals in the sums, as far as they still count
        self._sums = np.empty((0, 0), np.float64)  # (N, K + C) ``terms``, and what was expected
        assets.register(self)

    # -------------------------------------------------------------- state
    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        self._sums = grown(self._sums, capacity)

    def clear(self, slot: int) -> None:
        """See ``PerAsset``."""
        self._sums[slot] = 0.0

    def use(self, detector: Detector | None) -> None:
        """Measure against this model's reference from now on; what was added up under another is void."""
        reference = None if detector is None else detector.drift.assets
        self._reference, self.found, self.moves, self.alone = reference, [], False, False
        for column in (self._interval, self._judged, self._first, self._beyond):
            column.values[:] = NONE
        self._exceeded.values[:] = self._windows.values[:] = 0
        self._whole.values[:] = 0.0
        numbers = 0
        if detector is not None and reference is not None:
            self._scaling, self._model = detector.scaling, detector.version
            self._latents = len(detector.drift.latent_mean)
            self._span = max(round(1.0 / (1.0 - reference.memory)), 1)
            self._weights = weights(reference.memory)
            self._places = {name: i for i, name in enumerate(reference.names)}
            numbers = width(self._latents, len(self.spec.sensors)) + len(self.spec.sensors)
        self._sums = np.zeros((self._assets.capacity, numbers), np.float64)

    def snapshot(self, slot: int) -> AssetDriftState | None:
        """The part of an asset's record; None where nothing is known."""
        interval, judged, exceeded, first, last, windows = (int(one.values[slot]) for one in self._columns)
        if interval == judged == NONE and not self._sums[slot].any():
            return None
        whole, sums = float(self._whole.values[slot]), self._sums[slot].astype("<f8").tobytes()
        return AssetDriftState(
            self.interval_ns, interval, judged, exceeded, first, last, windows, whole, sums
        )

    def restore(self, slot: int, state: AssetDriftState) -> None:
        """Continue with an asset under the same model; of intervals of another length nothing is of use."""
        sums = np.frombuffer(state.sums, "<f8")
        if state.interval_ns != self.interval_ns or len(sums) != self._sums.shape[1]:
            return
        numbers = (state.interval, state.judged, state.exceeded, state.first, state.beyond, state.windows)
        for column, number in zip(self._columns, numbers, strict=True):
            column.values[slot] = number
        self._whole.values[slot] = state.whole
        self._sums[slot] = sums

    def snapshot_partition(self) -> DriftingState:
        """The part of the partition's record."""
        return DriftingState(sorted(self.found), self.moves, self.alone)

    def restore_partition(self, state: DriftingState) -> None:
        """Continue with a partition under the same model."""
        self.found, self.moves, self.alone = list(state.drifting), state.fleet_moves, state.fleet_alone

    @property
    def _columns(self) -> Sequence[Column]:
        return self._interval, self._judged, self._exceeded, self._first, self._beyond, self._windows

    # -------------------------------------------------------------- windows
    def add(
        self, summands: Summands, *, silent: bool = False
    ) -> tuple[list[tuple[float, AlertEvent]], Summands]:
        """Add scored windows in their order, and judge the intervals that end.

        Args:
            summands: the windows.
            silent: a predecessor has published what follows: no alert moves, and nothing is found.

        Returns:
            The alerts, each with the place of its row; and the windows, with those marked that count for their
            asset alone.
        """
        if self._reference is None:
            return [], summands
        events: list[tuple[float, AlertEvent]] = []
        apart = np.zeros(len(summands.places), bool)
        intervals = summands.times // self.interval_ns
        next_one = (summands.times + self.spec.hop * self.spec.period_ns) // self.interval_ns
        for number in np.unique(intervals).tolist():
            mine = np.flatnonzero(intervals == number)
            slots = summands.slots[mine]
            begun = self._interval.values[slots]
            late = mine[(begun != number) & (begun != NONE)]
            if len(late):
                firsts = late[np.unique(summands.slots[late], return_index=True)[1]]
                events += self._end(summands, firsts, silent=silent)
            self._interval.values[slots] = number
            apart[mine] = self._exceeded.values[slots] > 0
            self._accumulate(summands, mine[~summands.explained[mine]])
            last = mine[next_one[mine] > number]
            if len(last):
                events += self._end(summands, last, silent=silent)
        return events, replace(summands, apart=apart & ~summands.explained)

    def _accumulate(self, summands: Summands, which: Ints) -> None:
        """Add windows to the sums of their assets, one after the other: how they came in chunks must not show."""
        added = terms(summands.posterior[which], summands.residual[which], summands.readings[which])
        expected = np.clip(np.nan_to_num(summands.expected[which]), -LIMIT, LIMIT)
        seen = np.isfinite(summands.residual[which])
        added = np.concatenate([added, np.where(seen, expected, 0.0)], axis=1)
        numbers = self._sums.shape[1]
        cells = (summands.slots[which] * numbers)[:, None] + np.arange(numbers)
        np.add.at(self._windows.values, summands.slots[which], 1)
        np.add.at(self._sums.reshape(-1), cells.reshape(-1), added.reshape(-1))  # of a view, in this order

    def _end(self, summands: Summands, at: Ints, *, silent: bool) -> list[tuple[float, AlertEvent]]:
        """The intervals of the assets of these windows, one each, are over."""
        assert self._reference is not None
        slots = summands.slots[at]
        ended, sums = self._interval.values[slots], self._sums[slots]
        enough = self._windows.values[slots] >= fewest_windows(self._full)
        self._interval.values[slots] = NONE
        self._windows.values[slots] = 0
        memory = self._reference.memory
        self._whole.values[slots[enough]] += 1.0
        names = [self._assets.name(slot) for slot in slots.tolist()]
        other = len(self._places)
        which = np.array([self._places.get(name, other) for name in names])
        age = np.searchsorted(self._weights, self._whole.values[slots], side="right") - 1
        edges = self._reference.threshold[np.maximum(age, 0), which]
        known = enough & (age >= 0) & np.isfinite(edges).any(1)
        self._sums[slots[enough]] *= memory
        self._whole.values[slots[enough]] *= memory
        at, slots, ended, sums = at[known], slots[known], ended[known], sums[known]
        if not len(slots):
            return []
        names = [names[i] for i in np.flatnonzero(known).tolist()]
        judged = _Judged.of(sums, self._latents, self._reference, which[known], edges[known])
        beyond = judged.beyond
        begins = beyond & (self._exceeded.values[slots] == 0)
        self._first.values[slots[begins]] = ended[begins]
        self._judged.values[slots] = ended
        self._beyond.values[slots[beyond]] = ended[beyond]
        self._exceeded.values[slots] = np.where(beyond, self._exceeded.values[slots] + 1, 0)
        if silent:
            return []
        self._note(names, ended, judged)
        events: list[tuple[float, AlertEvent]] = []
        rows = summands.times[at] // self.spec.period_ns
        openable = beyond & (self._exceeded.values[slots] >= EXCEEDANCES) & (self.alone or not self.moves)
        closable = ended - self._beyond.values[slots] >= self._span
        closable &= np.array([name in self._episodes.assets for name in names])
        for i in np.flatnonzero(openable | closable).tolist():
            row = int(rows[i])
            if closable[i]:
                found = self._episodes.close_unscored(names[i], ASSET_DRIFT, row, self._model)
            else:
                since = int(self._first.values[slots[i]]) * self.interval_ns
                start = EpisodeStart(
                    AlertKind.DRIFT,
                    self.spec.row(since),
                    contributors=self._carriers(judged, i),
                    of_asset=True,
                    drift=self._drifting(names[i], int(ended[i]), judged, i),
                )
                found = self._episodes.open_unscored(names[i], start, row, self._model)
            events += [(float(summands.places[at[i]]), event) for event in found]
        return events

    def _note(self, names: Sequence[str], ended: Ints, judged: _Judged) -> None:
        """Keep the drifting ones for the next record, those with the largest excess where there are many."""
        least = min((one.excess for one in self.found), default=0.0) if len(self.found) >= MOST_NAMED else 0.0
        for i in np.flatnonzero(judged.beyond & (judged.excess > least)).tolist():
            self.found.append(self._drifting(names[i], int(ended[i]), judged, i))
        if len(self.found) > MOST_NAMED:
            self.found = sorted(self.found, key=lambda one: (-one.excess, one.asset, one.start_ns))[
                :MOST_NAMED
            ]

    def _drifting(self, name: str, ended: int, judged: _Judged, i: int) -> DriftingAsset:
        latent, residual = judged.nats[i].tolist()
        latent_edge, residual_edge = judged.edges[i].tolist()
        return DriftingAsset(
            name,
            (ended + 1 - self._span) * self.interval_ns,
            (ended + 1) * self.interval_ns,
            int(judged.windows[i]),
            latent,
            latent_edge,
            residual,
            residual_edge,
            [one.sensor for one in self._carriers(judged, i)],
            leading(judged.kl[i, : self._latents]) if latent > latent_edge else [],
        )

    def _carriers(self, judged: _Judged, i: int) -> list[Contributor]:
        return judged.moved(i, self._latents, len(self.spec.sensors)).carriers(
            self.spec.sensors, self._scaling
        )

    # -------------------------------------------------------------- records
    def at_end_of(self, interval: int) -> FleetDrift:
        """The assets at the end of one of the stream's intervals; those found so far are told by its record."""
        if self._reference is None:
            return FleetDrift()
        lately = self._judged.values >= interval - 1
        judged = int(np.count_nonzero(lately))
        drifting = int(np.count_nonzero(lately & (self._exceeded.values > 0)))
        fleet = drifting > MOST_NAMED or 2 * drifting > judged
        self.moves, self.alone = fleet, judged == drifting == 1
        return FleetDrift(judged, drifting, fleet, _taken(self.found, (interval + 1) * self.interval_ns))


def _taken(found: list[DriftingAsset], end_ns: int) -> tuple[DriftingAsset, ...]:
    """Take out those of intervals that ended up to this time."""
    told = sorted(one for one in found if one.end_ns <= end_ns)
    found[:] = [one for one in found if one.end_ns > end_ns]
    return tuple(told)


def fleet_left(state: DriftingState, interval_ns: int) -> Callable[[int], FleetDrift]:
    """What a predecessor with another model knew of its assets at the end of an interval."""
    found = list(state.drifting)

    def at_end_of(interval: int) -> FleetDrift:
        told = _taken(found, (interval + 1) * interval_ns)
        return FleetDrift(0, len(told), state.fleet_moves, told)

    return at_end_of


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """M intervals of an asset each, measured."""

    windows: Floats  # (M,)
    kl: Floats  # (M, Z + 2 C)
    nats: Floats  # (M, 2) of latents and residuals, in total
    edges: Floats  # (M, 2)
    mean: Floats  # (M, Z + 2 C)
    usual: Floats  # (M, Z + 2 C)
    expected: Floats  # (M, C)

    @staticmethod
    def of(sums: Floats, latents: int, reference: AssetDriftReference, which: Ints, edges: Floats) -> _Judged:
        """Sums (M, K + C) against rows of the reference (M,), and thresholds (M, 2)."""
        C = reference.mean.shape[1] - latents >> 1
        count, mean, variance = moments(sums[:, :-C], latents)
        usual = reference.mean[which]
        kl = divergence(count, mean, variance, usual, reference.variance[which])
        expected = sums[:, -C:] / np.maximum(count[:, -C:], 1.0)
        return _Judged(sums[:, 0], kl, totals(kl, latents), edges, mean, usual, expected)

    @property
    def beyond(self) -> Mask:
        """(M,) whether one of the two is above its threshold."""
        return np.asarray((self.nats > self.edges).any(1))

    @property
    def excess(self) -> Floats:
        """(M,) how many thresholds high they are."""
        return np.asarray((self.nats / np.maximum(self.edges, 1e-9)).max(1))

    def moved(self, i: int, latents: int, sensors: int) -> Moved:
        """How far the sensors have moved in the i-th."""
        stop = latents + sensors
        return Moved(
            self.kl[i, latents:stop],
            self.kl[i, stop:],
            excess(float(self.nats[i, 1]), float(self.edges[i, 1])),
            excess(float(self.nats[i, 0]), float(self.edges[i, 0])),
            self.mean[i, stop:],
            self.expected[i],
            self.usual[i, stop:],
        )
