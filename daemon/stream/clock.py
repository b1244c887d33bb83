"""What time it is: which event times can be believed, and how far the fleet as a whole has come.

Sensors' clocks are wrong now and then: one message is stamped an hour ahead, a gateway runs on local
time, a device restarts in 1999. Two rules keep one clock from harming its asset or the others.

**An asset's event time moves on at once only by a plausible step** (``EventTimeGuard``). A step is
plausible if it is no longer than what has passed meanwhile, by the records' own times or by the
fleet's clock, plus the allowed lateness and one period. A reading beyond that is *held* until a
second reading of another row confirms that time has moved on. If the asset goes on where it was
instead, the held reading is refused as ``future``, and the asset is judged as if it had never come.

**Silence is measured against the fleet's clock** (``FleetClock``): the median of the newest rows of
the assets that were heard lately, each corrected by how far its own clock is known to be off. "Lately"
counts readings, not time: an asset counts while it misses no more than a few of its turns. So neither
one clock far ahead nor many assets that stopped can move or hold the fleet's clock. An asset whose clock
differs from the fleet's by the same for as long as ``silent_after`` is *skewed*; one that sends nothing
but late readings for as long was set back, and begins anew.

Both depend on the order of the records alone, never on how they came in polls or on the wall clock.
Rows are whole numbers of periods since the epoch; ``NEVER`` stands for an asset that was never heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.domain import (
    Disposition,
    Format,
    Ints,
    Mask,
    Reading,
    Record,
    StreamSpec,
)
from daemon.grouping import Groups
from daemon.stream.snapshot import (
    AssetClockState,
    EventTimeState,
    FleetClockState,
    HeldState,
    pack_floats,
    unpack_floats,
)
from daemon.stream.windowing import grown

NEVER = -1
NO_CLOCK = -1 << 62
"""The fleet's row before any asset was heard."""
LIVELY_TURNS = 4
"""An asset counts for the fleet's clock until it has missed this many of its turns."""
LOOKS_PER_ROUND = 8
"""The fleet's clock is read at most so often while every asset has one turn: reading costs a walk over all."""
MOST_REPEATED = 8
"""Readings of one row that may be held, beyond one per sensor: a producer may send one again."""
SLOTS_PER_READING = 64
"""Slots that a look may walk over for each reading that was taken since the last one."""
BATCH, SMALL_BATCH = 1_024, 64
"""Readings that are taken at once, at most: what one of them brings about may not matter before they end.
In a small fleet so many take long to come."""
SMALL_FLEET = 16
LARGEST_HELD = 65_536
"""Bytes of a record that may be held; a larger one is refused at once, and only its time is kept."""
HELD_TOGETHER = 256 << 10
"""Bytes of all records of one asset that may be held, where ``held_together`` does not allow more."""
MOST_HELD = 16 << 20
"""Bytes of all records that are held in one partition."""
NUMBERS = (
    "skew",
    "born_at",
    "heard_at",
    "turn",
    "off_by",
    "off_since",
    "late_row",
    "late_first",
    "late_by",
    "late_since",
)
"""What the fleet's clock keeps of each asset, but for ``overdue``."""
NEIGHBOURS_NS = 3_600_000_000_000
"""At the end of a log a held reading may be this far from the one before it (or ``max_gap``, if longer)."""


def held_together(spec: StreamSpec) -> int:
    """Bytes of all records of one asset that may be held: they go into its record of state, as one message."""
    return max(HELD_TOGETHER, 512 * len(spec.sensors))


# ------------------------------------------------------------------ one asset
@dataclass(slots=True, eq=False)
class HeldReading:
    """A reading that waits for a second one, with the record that it came in.

    ``refused``: there was no room for it, so that it was refused at once; its time is a witness all the
    same, or an asset of large records would be deaf behind its first gap.
    """

    reading: Reading
    record: Record
    refused: bool = False
    disposition: Disposition | None = None  # of one of the ``first`` row: as what it was counted

    @property
    def size(self) -> int:
        """Bytes that it keeps in memory, about."""
        return len(self.record.value) + len(self.record.key or b"") + 200

    def bare(self, *, refused: bool = False) -> HeldReading:
        """Without what it came in, for when there is no room for that."""
        record = Record(self.record.offset, None, b"", self.record.timestamp_ns)
        return HeldReading(self.reading, record, refused)

    def snapshot(self) -> HeldState:
        """The reading as part of a record of state."""
        record, reading = self.record, self.reading
        return HeldState(
            record.offset,
            record.key,
            record.value,
            record.timestamp_ns,
            reading.time_ns,
            None if reading.values is None else pack_floats(reading.values),
            reading.sensor,
            reading.value,
            reading.condition,
            self.refused,
            self.disposition,
        )

    @staticmethod
    def restored(asset: str, state: HeldState) -> HeldReading:
        """The reading of a record of state."""
        values = None if state.values is None else unpack_floats(state.values).tolist()
        reading = Reading(
            state.offset,
            asset,
            state.time_ns,
            values,
            state.sensor,
            state.value,
            state.condition,
            state.stamp_ns,
        )
        record = Record(state.offset, state.key, state.message, state.stamp_ns)
        return HeldReading(reading, record, state.refused, state.counted)


@dataclass(slots=True, eq=False)
class Doubt:
    """What is not decided of one asset's event time.

    ``ahead`` are readings of one row beyond a plausible step. ``first`` are the readings of an
    asset's first row where nothing supports their time, until a second row does; ``behind`` are
    readings of one row that contradict them from below.
    """

    ahead: list[HeldReading] = field(default_factory=list)
    first: list[HeldReading] = field(default_factory=list)
    behind: list[HeldReading] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.ahead or self.first or self.behind)

    @property
    def size(self) -> int:
        """Bytes of all that is kept, about."""
        return sum(held.size for held in (*self.ahead, *self.first, *self.behind))


@dataclass(slots=True, eq=False)
class Admission:
    """What follows from one reading: ``taken`` go to the grid, in order; ``refused`` are from the future.

    ``restart``: the grid must forget the asset's first row, which was not released, before it takes them.
    """

    taken: list[Reading]
    refused: list[HeldReading] = field(default_factory=list)
    restart: bool = False


class EventTimeGuard:
    """Decides for each reading whether its asset's event time may move on to it.

    Args:
        spec: the stream.

    ``doubtful`` (N,) are the assets of which something is held: each of their readings must be asked for;
    ``unproven`` those among them of which there is but one row, with nothing to support its time.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.top_ns: Ints = np.empty(0, np.int64)  # greatest believed event time, NEVER before any
        self.arrived_ns: Ints = np.empty(0, np.int64)  # the record time of the reading that had it
        self.doubtful: Mask = np.empty(0, bool)
        self.unproven: Mask = np.empty(0, bool)
        self._doubts: dict[int, Doubt] = {}
        self._held_bytes = 0
        self._most_held = MOST_REPEATED + (0 if spec.format is Format.JSON_WIDE else len(spec.sensors))
        self._most_together = held_together(spec)

    def grow(self, capacity: int) -> None:
        """Make room for more assets; those that are there keep their slots."""
        for name in ("top_ns", "arrived_ns", "doubtful", "unproven"):
            setattr(self, name, grown(getattr(self, name), capacity))

    def clear(self, slot: int) -> list[HeldReading]:
        """A slot for an asset that was never heard of; gives what was held of the one before."""
        self.top_ns[slot] = self.arrived_ns[slot] = NEVER
        if not self.doubtful[slot]:
            return []
        doubt = self.doubt(slot)
        self._keep(slot, Doubt(), doubt.size)
        return [held for held in (*doubt.ahead, *doubt.behind) if not held.refused]

    def advance(self, slots: Ints, times_ns: Ints, stamps_ns: Ints) -> None:
        """Take note of readings that are plausible by themselves: the next row of assets without doubt."""
        self.top_ns[slots] = times_ns  # of several of one asset the last one counts, and they ascend
        self.arrived_ns[slots] = stamps_ns

    def is_next(self, slot: int, time_ns: int) -> bool:
        """Whether a reading is plausible by itself, and nothing is held of its asset: nearly all are."""
        top_ns, period = int(self.top_ns[slot]), self.spec.period_ns
        plausible_row = (top_ns + self.spec.allowed_lateness_ns) // period + 1
        return top_ns >= 0 and not self.doubtful[slot] and time_ns // period <= plausible_row

    def is_begun(self, slot: int, time_ns: int, arrival_ns: int, fleet_row: int) -> bool:
        """Whether this is an asset's first reading, and something speaks for its time."""
        row = time_ns // self.spec.period_ns
        return bool(self.top_ns[slot] < 0) and self._supported(row, time_ns, arrival_ns, fleet_row)

    def believe(self, slot: int, reading: Reading) -> None:
        """Take note of a reading that was decided on before: a successor only follows."""
        if reading.time_ns >= self.top_ns[slot]:
            self.top_ns[slot] = reading.time_ns
            self.arrived_ns[slot] = reading.stamp_ns

    def admit(
        self, slot: int, new: HeldReading, arrival_ns: int, fleet_row: int, released: bool
    ) -> Admission:
        """What becomes of one reading and of what was held before it.

        Args:
            slot: its asset's.
            new: the reading, and what it came in.
            arrival_ns: the record time that can be believed here; NEVER if there is none.
            fleet_row: where the fleet's clock would be on this asset's own clock; ``NO_CLOCK`` if there is none.
            released: whether a row of this asset was released already, so that its first one stands.
        """
        doubt = self.doubt(slot)
        size, admission = doubt.size, Admission([])
        self._decide(slot, new, doubt, arrival_ns, fleet_row, released, admission)
        self._keep(slot, doubt, size)
        return admission

    def finish(self, slot: int, fleet_row: int) -> Admission:
        """The log has ended: what is held of an asset is taken, or refused if it is far from its neighbours."""
        spec, doubt = self.spec, self.doubt(slot)
        size, admission = doubt.size, Admission([])
        far_ns = max(spec.max_gap_ns, NEIGHBOURS_NS)
        limit = max(
            (int(self.top_ns[slot]) + far_ns) // spec.period_ns,
            self._fleet_limit(fleet_row),
        )
        for held in doubt.behind:
            self._take(slot, held.reading, admission)
        if doubt.ahead and doubt.ahead[0].reading.time_ns // spec.period_ns <= limit:
            self._take_all(slot, doubt.ahead, admission)
        else:
            self._refuse(doubt.ahead, admission)
        self._keep(slot, Doubt(), size)
        return admission

    def rest(self, slot: int) -> Admission:
        """The log is idle: readings are taken that are held for a gap, but are not ahead of their records."""
        spec, doubt = self.spec, self.doubt(slot)
        size, admission = doubt.size, Admission([])
        bound_ns = spec.allowed_lateness_ns + spec.period_ns
        if all(held.record.timestamp_ns >= max(held.reading.time_ns - bound_ns, 0) for held in doubt.ahead):
            self._take_all(slot, doubt.ahead, admission)
            doubt.ahead = []
        self._keep(slot, doubt, size)
        return admission

    def doubt(self, slot: int) -> Doubt:
        """What is not decided of an asset."""
        return self._doubts.get(slot) or Doubt()

    def snapshot(self, slot: int) -> EventTimeState:
        """The part of an asset's record of state."""
        doubt = self.doubt(slot)
        return EventTimeState(
            int(self.top_ns[slot]),
            int(self.arrived_ns[slot]),
            [held.snapshot() for held in doubt.ahead],
            [held.snapshot() for held in doubt.first],
            [held.snapshot() for held in doubt.behind],
        )

    def restore(self, slot: int, asset: str, state: EventTimeState) -> None:
        """Continue with an asset as another process left it."""
        self.top_ns[slot], self.arrived_ns[slot] = state.top_ns, state.arrived_ns
        doubt = Doubt(
            *(
                [HeldReading.restored(asset, each) for each in part]
                for part in (state.ahead, state.first, state.behind)
            )
        )
        self._keep(slot, doubt, self.doubt(slot).size)

    def _decide(
        self,
        slot: int,
        new: HeldReading,
        doubt: Doubt,
        arrival_ns: int,
        fleet_row: int,
        released: bool,
        admission: Admission,
    ) -> None:
        spec, reading = self.spec, new.reading
        time_ns, period = reading.time_ns, spec.period_ns
        row = time_ns // period
        if self.top_ns[slot] < 0:
            supported = self._supported(row, time_ns, arrival_ns, fleet_row)
            if not supported and not self._hold(doubt, doubt.first, new):
                doubt.first.append(new.bare())
            self._take(slot, reading, admission)
            return
        if doubt.first:
            first_row = doubt.first[0].reading.time_ns // period
            if row == first_row:
                self._hold(doubt, doubt.first, new)
                self._take(slot, reading, admission)
                return
            if time_ns < int(self.top_ns[slot]) - spec.allowed_lateness_ns and not released:
                if not doubt.behind or doubt.behind[0].reading.time_ns // period == row:
                    if not self._hold(doubt, doubt.behind, new):
                        admission.taken.append(reading)  # it is late
                    return
                # Two rows speak against the first one.
                admission.restart = True
                self._refuse(doubt.first, admission)
                self.top_ns[slot] = NEVER
                self._take_all(slot, doubt.behind, admission)
            else:
                admission.taken += [held.reading for held in doubt.behind]  # they are late
            doubt.first, doubt.behind = [], []
        if doubt.ahead and self._confirms(slot, reading, doubt.ahead[0].reading):
            self._take_all(slot, doubt.ahead, admission)
            doubt.ahead = []
        if row <= self._plausible_row(slot, arrival_ns, fleet_row):
            if doubt.ahead and row > int(self.top_ns[slot]) // period:
                self._refuse(doubt.ahead, admission)
                doubt.ahead = []
            self._take(slot, reading, admission)
            return
        if doubt.ahead and row != doubt.ahead[0].reading.time_ns // period:
            self._refuse(doubt.ahead, admission)
            doubt.ahead = []
        if not self._hold(doubt, doubt.ahead, new):
            admission.refused.append(new)
            if not doubt.ahead:
                doubt.ahead.append(new.bare(refused=True))

    def _supported(self, row: int, time_ns: int, arrival_ns: int, fleet_row: int) -> bool:
        """Whether something speaks for an asset's first event time: the fleet, or the record's own time."""
        spec = self.spec
        lateness = spec.allowed_lateness_ns
        if fleet_row != NO_CLOCK and row <= self._fleet_limit(fleet_row):
            return True
        near = arrival_ns - spec.silent_after_ns <= time_ns <= arrival_ns + lateness + spec.period_ns
        return arrival_ns >= 0 and near

    def _fleet_limit(self, fleet_row: int) -> int:
        """The greatest row that the fleet's clock speaks for."""
        return fleet_row + self.spec.allowed_lateness_ns // self.spec.period_ns + 1

    def _passed_ns(self, since_ns: int, arrival_ns: int) -> int:
        """How much time the records say has passed."""
        return max(arrival_ns - since_ns, 0) if since_ns >= 0 and arrival_ns >= 0 else 0

    def _plausible_row(self, slot: int, arrival_ns: int, fleet_row: int) -> int:
        """The greatest row that the asset's event time may move on to at once."""
        spec = self.spec
        passed_ns = self._passed_ns(int(self.arrived_ns[slot]), arrival_ns)
        own = (int(self.top_ns[slot]) + passed_ns + spec.allowed_lateness_ns) // spec.period_ns + 1
        return max(own, self._fleet_limit(fleet_row))

    def _confirms(self, slot: int, reading: Reading, held: Reading) -> bool:
        """Whether a second reading says, too, that time has moved on."""
        spec = self.spec
        bound_ns = spec.allowed_lateness_ns + spec.period_ns
        apart_ns = reading.time_ns - held.time_ns
        if reading.time_ns // spec.period_ns == held.time_ns // spec.period_ns or apart_ns < -bound_ns:
            return False
        live = abs(int(self.arrived_ns[slot]) - int(self.top_ns[slot])) <= spec.silent_after_ns
        if self.arrived_ns[slot] < 0 or not live:
            return True  # a file, or a log of the past: nothing tells how long the gap may have been
        return apart_ns <= self._passed_ns(held.stamp_ns, reading.stamp_ns) + bound_ns

    def _take(self, slot: int, reading: Reading, admission: Admission) -> None:
        admission.taken.append(reading)
        self.believe(slot, reading)

    def _take_all(self, slot: int, held: Sequence[HeldReading], admission: Admission) -> None:
        """Take readings that were held; of one that was refused already only the time counts."""
        for each in held:
            if each.refused:
                self.believe(slot, each.reading)
            else:
                self._take(slot, each.reading, admission)

    @staticmethod
    def _refuse(held: Sequence[HeldReading], admission: Admission) -> None:
        admission.refused += [each for each in held if not each.refused]

    def _hold(self, doubt: Doubt, kept: list[HeldReading], new: HeldReading) -> bool:
        """Keep a reading of what is not decided of its asset, if there is room for it."""
        fits = new.size <= LARGEST_HELD and doubt.size + new.size <= self._most_together
        fits &= self._held_bytes + new.size <= MOST_HELD
        if not fits or len(kept) >= self._most_held:
            return False
        kept.append(new)  # ``_held_bytes`` follows when the reading is decided on
        return True

    def _keep(self, slot: int, doubt: Doubt, size: int) -> None:
        """Remember what is not decided of an asset; ``size`` is how much that was before."""
        self._held_bytes += doubt.size - size
        self.doubtful[slot] = bool(doubt)
        self.unproven[slot] = bool(doubt.first)
        if doubt:
            self._doubts[slot] = doubt
        else:
            self._doubts.pop(slot, None)


# ------------------------------------------------------------------ the fleet
@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one look at the fleet's clock found; all are slots."""

    fell_silent: Ints  # beyond ``silent_after``, and were not before
    skewed: Ints  # their clocks turned out to be off for good, by ``FleetClock.skew`` rows
    righted: Ints  # their clocks are right again
    set_back: Ints  # their clocks were set back for good: all that they send is late
    changed: Ints  # what is known of these is different now, and no record tells a successor


class FleetClock:
    """The clock of one input partition, from the rows of its assets.

    It is read (``look``) when an asset's row says that somebody may have become silent, and rarely:
    see ``due``. All that it keeps per asset are arrays by slot. Turns are counted in readings: offsets
    of a log have gaps where records were compacted or transactions ended.

    Args:
        spec: the stream.
        guard: knows whose only row is not to be believed yet: such an asset has no say.

    ``row`` is the fleet's clock when last read. ``front`` is the greatest row of any asset, corrected
    by its skew: the fleet's clock is never beyond it. ``count`` is how many readings were taken.
    """

    def __init__(self, spec: StreamSpec, guard: EventTimeGuard) -> None:
        self.spec = spec
        self.guard = guard
        self.row = NO_CLOCK
        self.front = NO_CLOCK
        self.count = 0
        self.due_row = NO_CLOCK  # somebody may be silent once ``front`` is here
        self.look_at = 0  # the first count at which it may be read again
        self.everybody = 0  # readings until each asset that is there has had its turn, about
        # An asset has sent nothing but late readings for a while: from this count on it is looked at.
        self.late_look_at = NEVER
        self.silent_rows = max(spec.silent_after_ns // spec.period_ns, 1)
        self.skew: Ints = np.empty(0, np.int64)  # rows by which an asset's clock is ahead, 0 if it is right
        self.overdue: Mask = np.empty(0, bool)  # silent, unless it speaks when it has its turn
        self.born_at: Ints = np.empty(0, np.int64)  # the count at an asset's first row
        self.heard_at: Ints = np.empty(0, np.int64)  # ... and at its newest
        self.turn: Ints = np.empty(0, np.int64)  # readings between its last two rows
        # What the skew seems to be now, and since which row of the fleet; NEVER if it is as it was.
        self.off_by: Ints = np.empty(0, np.int64)
        self.off_since: Ints = np.empty(0, np.int64)
        # The newest row that came late since the last one that did not, and the first; NEVER for none.
        self.late_row: Ints = np.empty(0, np.int64)
        self.late_first: Ints = np.empty(0, np.int64)
        # How far behind the late ones are, and since when (as for ``off_by``).
        self.late_by: Ints = np.empty(0, np.int64)
        self.late_since: Ints = np.empty(0, np.int64)
        self._records_per_row = 1 if spec.format is Format.JSON_WIDE else len(spec.sensors)

    def grow(self, capacity: int) -> None:
        """Make room for more assets; those that are there keep their slots."""
        new = slice(len(self.skew), capacity)
        for name in ("overdue", *NUMBERS):
            setattr(self, name, grown(getattr(self, name), capacity))
        self._begin(new)

    def clear(self, slot: int) -> None:
        """A slot for an asset that was never heard of."""
        self._begin(slice(slot, slot + 1))

    def _begin(self, slots: slice) -> None:
        self.overdue[slots] = False
        for name in NUMBERS:
            getattr(self, name)[slots] = 0 if name in ("skew", "turn", "off_by", "late_by") else NEVER

    def snapshot(self, slot: int) -> AssetClockState:
        """The part of an asset's record of state."""
        return AssetClockState([int(getattr(self, name)[slot]) for name in NUMBERS], bool(self.overdue[slot]))

    def restore(self, slot: int, state: AssetClockState) -> None:
        """Continue with an asset as another process left it."""
        self.overdue[slot] = state.overdue
        for name, number in zip(NUMBERS, state.numbers, strict=True):
            getattr(self, name)[slot] = number

    def snapshot_fleet(self) -> FleetClockState:
        """The part of the partition's record of state."""
        return FleetClockState(
            self.row,
            self.front,
            self.due_row,
            self.look_at,
            self.count,
            self.everybody,
            self.late_look_at,
        )

    def restore_fleet(self, state: FleetClockState) -> None:
        """Continue with the fleet's clock as another process left it."""
        self.row, self.front = state.row, state.front
        self.due_row, self.look_at, self.count = state.due_row, state.look_at, state.count
        self.everybody, self.late_look_at = state.everybody, state.late_look_at

    def hear(self, slot: int) -> None:
        """An asset's newest row has come, with the reading that was counted last."""
        if self.heard_at[slot] >= 0:
            self.turn[slot] = self.count - self.heard_at[slot]
        else:
            self.born_at[slot] = self.count
        self.heard_at[slot] = self.count
        self.late_row[slot] = self.late_since[slot] = NEVER

    def hear_many(self, groups: Groups, slots: Ints, counts: Ints) -> None:
        """The same for a batch of rows: (R,) slots and counts, and the batch by slot."""
        order, begins = groups.order, groups.begins
        of, ordered = slots[order], counts[order]
        before = np.empty_like(ordered)
        before[1:] = ordered[:-1]
        before[begins] = self.heard_at[of[begins]]
        last = np.append(begins[1:], True)
        mine, known = of[last], before[last] >= 0
        self.turn[mine[known]] = (ordered - before)[last][known]
        self.heard_at[mine] = ordered[last]
        self.late_row[mine] = self.late_since[mine] = NEVER

    def hear_late(self, slot: int, row: int) -> None:
        """An asset has sent a reading of a row that is late."""
        if self.late_row[slot] < 0:
            self.late_first[slot] = row
        self.late_row[slot] = row
        if self.late_look_at < 0 and row - self.late_first[slot] >= self.silent_rows // 4:
            self.late_look_at = self.count + self.batch

    @property
    def batch(self) -> int:
        """How many readings may be taken at once; it changes with a look only."""
        return SMALL_BATCH if self.everybody <= SMALL_FLEET * self._records_per_row else BATCH

    def advance(self, row: int) -> None:
        """An asset has come to this row, corrected by its skew."""
        self.front = max(self.front, row)

    def due(self, other_row: int) -> bool:
        """Whether to read the clock now; ``other_row`` is awaited, too."""
        late = 0 <= self.late_look_at <= self.count
        return (late or self.front >= min(self.due_row, other_row)) and self.count >= self.look_at

    def place_of_look(self, rows: Ints, other_row: int) -> int:
        """The place of the first of (R,) readings behind which the clock may have to be read; R if of none.

        Args:
            rows: theirs, corrected by their assets' skews.
            other_row: see ``due``.
        """
        due = min(self.due_row, other_row)
        if self.late_look_at < 0 and max(self.front, int(rows.max())) < due:
            return len(rows)
        counts = self.count + 1 + np.arange(len(rows))
        may = np.maximum(np.maximum.accumulate(rows), self.front) >= due
        if self.late_look_at >= 0:
            may |= counts >= self.late_look_at
        first = np.flatnonzero(may & (counts >= self.look_at))
        return int(first[0]) if len(first) else len(rows)

    def _lately(self, newest: Ints, appended_ns: int) -> Mask:
        """(N,) the assets that were heard lately."""
        missed = self.count - self.heard_at
        lately = (newest >= 0) & ~self.guard.unproven
        turn = np.maximum(self.turn, max(self.everybody, 1))
        again = lately & (self.heard_at > self.born_at)
        if again.any():  # an id that is used once is forgotten sooner: its turn may be as usual
            turn[lately & ~again] = np.median(self.turn[again])
        lately &= missed <= LIVELY_TURNS * turn
        if appended_ns >= 0:  # the broker's clock says it sooner, where nearly all have stopped
            arrived_ns = self.guard.arrived_ns
            lately &= (arrived_ns < 0) | (appended_ns - arrived_ns <= self.spec.silent_after_ns)
        return np.asarray(lately)

    def _established(self, lately: Mask) -> Mask:
        """(N,) of these, those that were there for some turns; all, if none was: one message makes no clock."""
        long = lately & (self.heard_at - self.born_at >= LIVELY_TURNS * max(self.everybody, 1))
        return long if long.any() else lately

    def _median(self, newest: Ints, which: Mask) -> int:
        """The median of these assets' rows. Of two middle ones the lower counts, unless the records' times
        are with the upper one: with two assets it then says whose clock is wrong.
        """
        slots = np.flatnonzero(which)
        rows = newest[slots] - self.skew[slots]
        lower, upper = (len(rows) - 1) // 2, len(rows) // 2
        middle = np.partition(rows, [lower, upper])
        low, high = int(middle[lower]), int(middle[upper])
        if high - low >= self.silent_rows:
            top_ns, arrived_ns = self.guard.top_ns[slots], self.guard.arrived_ns[slots]
            apart = np.where(arrived_ns >= 0, np.abs(arrived_ns - top_ns), 0).astype(np.float64)
            with_low, with_high = np.median(apart[rows <= low]), np.median(apart[rows >= high])
            if with_high < self.spec.silent_after_ns <= with_low:
                return high
        return low

    def measure(self, newest: Ints, appended_ns: int) -> int:
        """The fleet's row as it is now; changes nothing. Arguments as of ``look``."""
        return self._row_of(newest, self._lately(newest, appended_ns))

    def _row_of(self, newest: Ints, lately: Mask) -> int:
        return self._median(newest, self._established(lately)) if lately.any() else self.row

    def behind(self, newest: Ints, row: int) -> Mask:
        """(N,) the assets whose last row is ``silent_after`` behind this row of the fleet."""
        return np.asarray((newest >= 0) & (newest - self.skew + self.silent_rows <= row))

    def look(self, newest: Ints, silent: Mask, arrival_ns: int, appended_ns: int) -> Look:
        """Read the clock behind the reading that was counted last.

        Args:
            newest: (N,) each asset's greatest row, NEVER for none.
            silent: (N,) who is silent already.
            arrival_ns: what the records' own time says, NEVER if nothing.
            appended_ns: the same where it is the broker's, which none of the fleet can get wrong.
        """
        if not self.everybody:
            self.everybody = int((newest >= 0).sum()) * self._records_per_row
        lately = self._lately(newest, appended_ns)
        before, self.row = self.row, self._row_of(newest, lately)
        self.everybody = max(int(lately.sum()) * self._records_per_row, 1)
        # A look walks over all slots: that may cost a reading no more than so many of them.
        self.look_at = self.count + max(
            self.everybody // LOOKS_PER_ROUND, len(newest) // SLOTS_PER_READING, 1
        )
        if before == NO_CLOCK:
            before = self.row  # nobody was anywhere yet
        skewed, righted, changed = self._skews(newest, lately)
        set_back = self._set_back(arrival_ns, changed)
        # Only who was near the fleet's clock can fall silent; a clock of 1999 never was.
        was_there = ~self.behind(newest, before) | self.overdue
        behind = self.behind(newest, self.row)
        candidates = behind & was_there & ~silent
        # Where the clock has just moved by hours (a plant that starts), everybody may speak first.
        turn = np.maximum(np.minimum(self.turn, self.everybody * self.silent_rows), self.everybody)
        has_turn = self.count - self.heard_at <= LIVELY_TURNS * turn
        fell, overdue = candidates & ~has_turn, candidates & has_turn
        changed |= overdue != self.overdue
        self.overdue = np.asarray(overdue)
        awaited = (newest >= 0) & ~silent & ~behind
        corrected = newest - self.skew
        # Clocks that seem to be off are looked at, too.
        self.due_row = self.row + max(self.silent_rows // 2, 1)
        if overdue.any() or self.row == NO_CLOCK:
            self.due_row = self.row
        elif awaited.any():
            self.due_row = min(self.due_row, int(corrected[awaited].min()) + self.silent_rows)
        self.front = int(corrected[lately].max(initial=self.row))
        return Look(np.flatnonzero(fell), skewed, righted, set_back, np.flatnonzero(changed))

    def _skews(self, newest: Ints, lately: Mask) -> tuple[Ints, Ints, Mask]:
        """Follow whose clock is off: slots that are found to be, or to be right again, and (N,) what changed.

        A clock is off if it is ``silent_after`` or more from the fleet's, and by about the same
        for as long as that: an asset that works off what it could not send comes nearer meanwhile.
        """
        patience = self.silent_rows
        off_by = newest - self.row
        off_by[np.abs(off_by) < patience] = 0
        differs = lately & (np.abs(off_by - self.skew) > patience // 2)
        steady = differs & (self.off_since >= 0) & (np.abs(off_by - self.off_by) <= patience // 4)
        for_good = steady & (self.row - self.off_since >= patience)
        begins = differs & ~steady
        ends = for_good | (lately & ~differs & (self.off_since >= 0))
        self.off_by[begins] = off_by[begins]
        # An asset's last reading is up to one round old, and the fleet has moved on: the largest is nearest.
        nearer = steady & (off_by > self.off_by)
        self.off_by[nearer] = off_by[nearer]
        self.off_since[begins] = self.row
        self.off_since[ends] = NEVER
        was_right = self.skew == 0
        self.skew[for_good] = np.where(off_by[for_good] == 0, 0, self.off_by[for_good])
        skewed = np.flatnonzero(for_good & was_right)
        righted = np.flatnonzero(for_good & (self.skew == 0))
        return skewed, righted, np.asarray(begins | ends | nearer)

    def _set_back(self, arrival_ns: int, changed: Mask) -> Ints:
        """Follow who sends nothing but late readings: slots whose clocks were set back; marks what ``changed``.

        Late readings that stay as far behind for as long as ``silent_after`` are no backlog, which would come
        nearer: the asset's clock goes on from an earlier time, and nothing of it would be judged for hours.
        """
        patience = self.silent_rows
        alone = self.everybody <= self._records_per_row and arrival_ns >= 0
        now = arrival_ns // self.spec.period_ns if alone else self.row
        running = (self.late_row >= 0) & (self.late_row - self.late_first >= patience // 4)
        late_by = now - self.late_row
        steady = running & (self.late_since >= 0) & (np.abs(late_by - self.late_by) <= patience // 4)
        for_good = steady & (now - self.late_since >= patience)
        begins = running & ~steady
        self.late_by[begins] = late_by[begins]
        self.late_since[begins] = now
        changed |= begins
        self.late_look_at = self.count + self.batch if running.any() else NEVER
        return np.flatnonzero(for_good)
