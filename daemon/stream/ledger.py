"""Which records each asset's newest snapshot covers, and therefore which must be read again after a restart.

Words: a partition's *next owner* (successor) is the process that has it after this one, be it after a
rebalance, a restart or a crash; the *previous owner* (predecessor) had it before. Kafka keeps one committed
position per partition, but every asset has a snapshot of its own age. The ledger knows, for each asset,
the first record that its newest snapshot does not cover. From this follow

* the offset from which the next owner must read (``replay_from``): the oldest such record;
* whose snapshot is due with the next commit (``plan_commit``): of assets that changed in a way that no
  record tells ("dirty": time has passed, a model took over ...), and of those whose oldest
  uncovered record is so old that reading it again would take long;
* while this pipeline itself reads again what a predecessor committed (``replaying``), which
  records an asset's snapshot covers already (``covers``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import Ints, StreamSpec
from daemon.stream.assets import AssetTable

NO_SNAPSHOT = -1
"""In place of the units of an asset's snapshot, where there is none."""
CHECKPOINTS_BACK = 20
"""A snapshot may be as old as the records of so many checkpoints: ten seconds, at two a second."""
SNAPSHOTS_AT_ONCE = 1_000
"""Snapshots that a commit writes without need: a large fleet's come one after the other."""
REPLAY_RECORDS = 200_000
"""A successor replays at most about this many records, or eight per asset if that is more: about a second. Only a backlog has so
many in the time of the checkpoints, and there snapshots of all assets, written more often, were a tenth of the work."""


@dataclass(frozen=True, slots=True)
class CommitPlan:
    """What the next commit must write, by name."""

    removed: list[str]  # evicted assets whose snapshots are to be deleted
    snapshots: list[str]


class Ledger:
    """Records and snapshots of one partition.

    Args:
        spec: the stream.
        assets: those of the partition.
        publish_from: outputs of records before this offset were published already.

    Attributes:
        replaying: whether records before ``publish_from`` may still come: their outputs are left out.
        restored: whether the snapshots of the previous owner were taken over.
        follows_snapshots: both: event times, silence and the clock were decided by the previous owner.
        forgotten_before: an asset seen before this offset, and without a snapshot, was evicted.
    """

    def __init__(self, spec: StreamSpec, assets: AssetTable, publish_from: int) -> None:
        self.spec = spec
        self.publish_from = publish_from
        self.replaying = publish_from > 0
        self.restored = False
        self.follows_snapshots = False
        self.forgotten_before = 0
        self._assets = assets
        self._covered: dict[str, int] = {}  # asset -> its predecessor's snapshot covers records before this
        self._first_unsaved = assets.column(np.int64, -1)  # offset of the first record no snapshot covers
        self._unsaved_count = assets.column(np.int64, 0)  # readings the clock had counted there
        self._units = assets.column(np.int64, NO_SNAPSHOT)  # number of the units of the newest snapshot
        self._dirty: set[str] = set()
        self._persisted: set[str] = set()  # assets that have a snapshot
        self._evicted: set[str] = set()  # since the last commit
        self._active: set[str] = set()  # their snapshot holds an open episode or a stuck sensor
        self._record = (-1, 0)  # offset of the newest record, and the clock's count at its first reading
        self._checkpoints: deque[int] = deque(maxlen=CHECKPOINTS_BACK)  # offsets of the last ones

    # -------------------------------------------------------------- reading again
    def covers(self, asset: str, offset: int) -> bool:
        """Whether the asset's restored snapshot includes the record at ``offset``; for ``follows_snapshots``."""
        return offset < self._covered.get(asset, self.forgotten_before)

    def restore_position(self, offset: int, forgotten_before: int) -> None:
        """The previous owner's snapshots are taken over: records before ``offset`` are replayed over them."""
        self.publish_from = offset
        self.forgotten_before = forgotten_before
        self.replaying = self.restored = self.follows_snapshots = True

    def replayed(self) -> None:
        """The position is reached: records from here on are new."""
        self.replaying = self.follows_snapshots = False
        self._covered.clear()

    def restore(self, asset: str, slot: int, offset: int, units: int) -> None:
        """A predecessor's snapshot of the asset was taken over: it covers records before ``offset``."""
        self._units.values[slot] = units
        self._covered[asset] = offset
        self._persisted.add(asset)

    def discard(self, assets: Iterable[str]) -> None:
        """Snapshots of these exist but are of no use: the next commit deletes or replaces them."""
        names = set(assets)
        self._evicted |= names
        self._persisted |= names

    # -------------------------------------------------------------- what a successor must read
    def begin(self, offset: int, count: int) -> None:
        """A reading of the record at ``offset`` is next; ``count`` is the clock's at this reading."""
        if offset != self._record[0]:
            self._record = offset, count

    def note(self, slots: Ints, offsets: Ints, counts: Ints, first: Ints) -> None:
        """Readings were taken in.

        A successor reads whole records again and counts each of their readings: what is kept of an asset is
        therefore the clock's count at the first reading of the record that its reading came in.

        Args:
            slots, offsets, counts: (B,) of each reading its asset, its record and the clock's count; offsets ascend.
            first: the first reading of each asset.
        """
        first = first[self._first_unsaved.values[slots[first]] < 0]
        begun = counts[np.searchsorted(offsets, offsets[first])]
        begun[offsets[first] == self._record[0]] = self._record[1]  # it had readings before
        self._first_unsaved.values[slots[first]] = offsets[first]
        self._unsaved_count.values[slots[first]] = begun
        self.begin(int(offsets[-1]), int(counts[np.searchsorted(offsets, offsets[-1])]))

    def note_one(self, slot: int, offset: int) -> None:
        """The same for a single reading, after ``begin``."""
        if self._first_unsaved.values[slot] < 0:
            self._first_unsaved.values[slot] = offset
            self._unsaved_count.values[slot] = self._record[1]

    def replay_from(self, position: int) -> int:
        """The oldest record that no snapshot covers; ``position`` if there is none."""
        unsaved = self._first_unsaved.values[self._first_unsaved.values >= 0]
        return int(unsaved.min()) if len(unsaved) else max(position, 0)

    def replay_count(self, count: int) -> int:
        """Readings that the clock had counted before the record at ``replay_from``; ``count`` is that of now."""
        unsaved = np.flatnonzero(self._first_unsaved.values >= 0)
        if not len(unsaved):
            return count
        oldest = unsaved[np.argmin(self._first_unsaved.values[unsaved])]
        return int(self._unsaved_count.values[oldest]) - 1

    # -------------------------------------------------------------- what a commit must write
    @property
    def dirty(self) -> bool:
        """Whether something changed that no record tells a successor."""
        return bool(self._dirty)

    def mark(self, assets: Iterable[str]) -> None:
        """These changed in a way that no record tells: they go with the next commit."""
        self._dirty.update(assets)

    def forget(self, asset: str) -> None:
        """The asset is evicted: a successor need not replay what nobody remembers."""
        self._dirty.discard(asset)
        self._evicted.add(asset)

    def note_open_episode(self, asset: str, active: bool) -> None:
        """Whether the asset's snapshot holds an open episode or a stuck sensor, which judging moves on."""
        if active:
            self._active.add(asset)
        else:
            self._active.discard(asset)

    @property
    def with_open_episode(self) -> set[str]:
        """The assets of which that is so; read only."""
        return self._active

    def stale(self, slots: Ints) -> Ints:
        """Those of the slots whose newest snapshot is older than their newest record, or missing."""
        unsaved = self._first_unsaved.values[slots] >= 0
        return slots[unsaved | (self._units.values[slots] < 0)]

    def oldest_units(self, otherwise: int) -> int:
        """The lowest number of units that a snapshot is in; ``otherwise`` if there is no snapshot."""
        units = self._units.values[self._assets.occupied]
        return int(units[units >= 0].min(initial=otherwise))

    def plan_commit(self, position: int, units: int) -> CommitPlan:
        """What must be written at this position, and what is written beside it to keep replays short.

        Dirty assets go. Of those that were not written for so long that each asset had about a window of
        rows meanwhile, or for some seconds where more comes in them, the oldest go: so little is written
        beside what is read, and a replay is short. With them go some whose snapshots are in the units of an
        earlier model.

        Args:
            position: the offset that is committed.
            units: the number of the units in force.
        """
        spec, assets = self.spec, self._assets
        per_row = 1 if not spec.gathers else len(spec.sensors)
        self._checkpoints.append(position)
        lately = position - self._checkpoints[0]
        span = min(max(spec.window * len(assets) * per_row, lately), max(REPLAY_RECORDS, 8 * len(assets)))
        removed = (self._evicted & self._persisted) - assets.slots.keys()
        if self._evicted:
            # From here on an asset without a snapshot is unknown: so every known one must have one.
            self._persisted -= self._evicted
            missing = assets.occupied & (self._units.values == NO_SNAPSHOT)
            self._dirty.update(assets.names_of(np.flatnonzero(missing)))
            self.forgotten_before = position
            self._evicted.clear()
        chosen = self._dirty & assets.slots.keys()
        first = self._first_unsaved.values
        old = np.flatnonzero((first >= 0) & (first <= position - span))
        old = old[np.argsort(first[old], kind="stable")]
        behind = np.flatnonzero((self._units.values >= 0) & (self._units.values < units))
        chosen.update(assets.names_of(np.concatenate([old, behind])[:SNAPSHOTS_AT_ONCE]))
        self._persisted |= chosen
        self._dirty.clear()
        return CommitPlan(sorted(removed), sorted(chosen))

    def saved(self, assets: Sequence[str], units: int) -> None:
        """Snapshots of these are written, in units of this number."""
        slots = self._assets.slots_of(assets)
        self._first_unsaved.values[slots] = -1
        self._units.values[slots] = units
