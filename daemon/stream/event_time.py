"""Event time of each asset: whether the event time of a reading can be believed.

Why: the clocks of sensors are wrong now and then. One message is stamped an hour ahead, a gateway runs
on local time, a device restarts in 1999. If one such reading moved its asset's event time, everything
that the asset sends after it would be late.

The rule (``EventTimeGuard``): an asset's event time moves on at once only by a plausible step. A step is
plausible if it is no longer than the time that has passed meanwhile, by the records' own timestamps or by
the fleet's clock (``fleet_clock``), plus the allowed lateness and one period. A reading beyond that is
*held* until a second reading of another row confirms that time has moved on. If the asset continues where
it was instead, the held reading is rejected as ``future``, and the asset is judged as if that reading had
never come. The first row of an asset is treated alike: it is inserted, but two rows that contradict it
replace it, unless the fleet or the record's own timestamp supports it.

Input: readings one by one, with their records. Output: an ``Admission`` per reading, which says what goes
to the grid and what is rejected. Invariant: the result depends on the order of the records alone, not on
how they came in polls, nor on the wall clock. Rows are whole numbers of periods since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.assembly import reduces
from daemon.domain import (
    Disposition,
    Ints,
    Mask,
    Reading,
    Record,
    StreamSpec,
)
from daemon.grouping import Groups
from daemon.stream.accounts import CellFates
from daemon.stream.snapshot import (
    EventTimeState,
    HeldState,
    pack_bits,
    pack_floats,
    unpack_bits,
    unpack_floats,
)
from daemon.stream.windowing import grown

NEVER = -1
"""The event time of an asset before its first reading."""
NO_CLOCK = -1 << 62
"""The row of the fleet's clock before the first reading of any asset."""
MOST_REPEATED = 8
"""Readings of one row that may be held, beyond one per sensor: a producer may repeat a reading."""
LARGEST_HELD = 65_536
"""Bytes of a record that may be held; a larger one is rejected at once, and only its time is kept."""
HELD_TOGETHER = 256 << 10
"""Bytes of all records of one asset that may be held, where ``held_together`` does not allow more."""
MOST_REDUCED = 1_000
"""The same where several values of a sensor within one row are reduced to one, as far as the bytes go."""
MOST_HELD = 16 << 20
"""Bytes of all records that are held in one partition."""
NEIGHBOURS_NS = 3_600_000_000_000
"""At the end of a log a held reading is taken if it is at most this far (or ``max_gap``) from the one before."""


def held_together(spec: StreamSpec) -> int:
    """Bytes of all records of one asset that may be held; its record of state contains them, as one message."""
    return max(HELD_TOGETHER, 512 * len(spec.sensors))


@dataclass(slots=True, eq=False)
class HeldReading:
    """A reading that waits for a second one to confirm its time, with the record that it arrived in.

    ``rejected``: there was no room for it, so that it was rejected at once. Its time is kept all the same:
    otherwise no reading of an asset with large records could ever be confirmed after a gap.
    """

    reading: Reading
    record: Record
    rejected: bool = False
    disposition: Disposition | None = None  # of a reading of the ``first`` row: how it was counted
    fates: CellFates = field(default_factory=CellFates)  # and its cells

    @property
    def size(self) -> int:
        """Approximate bytes in memory."""
        return len(self.record.value) + len(self.record.key or b"") + 200

    def bare(self, *, rejected: bool = False) -> HeldReading:
        """Without its record's key and value, for which there is no room."""
        record = Record(self.record.offset, None, b"", self.record.timestamp_ns)
        return HeldReading(self.reading, record, rejected)

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
            self.rejected,
            self.disposition,
            pack_bits(reading.reported) if reading.reported >= 0 else b"",
            reading.counted,
            list(reading.corrupt),
            list(reading.displaced),
            pack_bits(self.fates.repeated),
            pack_bits(self.fates.conflicting),
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
            unpack_bits(state.reported) if state.reported else -1,
            state.of_record,
            state.corrupt,
            state.displaced,
        )
        fates = CellFates(0, unpack_bits(state.repeated), unpack_bits(state.conflicting))
        record = Record(state.offset, state.key, state.message, state.stamp_ns)
        return HeldReading(reading, record, state.rejected, state.counted, fates)


def most_held(spec: StreamSpec) -> int:
    """Readings of one row of an asset that may be held."""
    return MOST_REPEATED + len(spec.sensors) * spec.gathers + MOST_REDUCED * reduces(spec)


@dataclass(slots=True, eq=False)
class Doubt:
    """The readings of one asset whose event times are not decided on yet.

    ``ahead`` are readings of one row beyond a plausible step. ``first`` are the readings of an asset's
    first row if nothing supports their time, until a second row does. ``behind`` are readings of one
    earlier row, which contradicts ``first``.
    """

    ahead: list[HeldReading] = field(default_factory=list)
    first: list[HeldReading] = field(default_factory=list)
    behind: list[HeldReading] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether any reading is held."""
        return bool(self.ahead or self.first or self.behind)

    @property
    def newest_ns(self) -> int:
        """The greatest event time among these readings; ``NEVER`` without any."""
        held = (*self.ahead, *self.first, *self.behind)
        return max((each.reading.time_ns for each in held), default=NEVER)

    @property
    def size(self) -> int:
        """Approximate bytes in memory."""
        return sum(held.size for held in (*self.ahead, *self.first, *self.behind))


@dataclass(slots=True, eq=False)
class Admission:
    """What follows from one reading: ``taken`` are inserted into the grid, in order; ``rejected`` are rejected.

    ``restart``: the asset's first row, which was not released, must be removed from the grid before.
    """

    taken: list[Reading]
    rejected: list[HeldReading] = field(default_factory=list)
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Support:
    """What can support the event time of a reading besides its asset's own readings."""

    arrival_ns: int  # the record time that can be trusted; NEVER if there is none
    fleet_row: int  # the fleet's clock, by the asset's own skewed clock; ``NO_CLOCK`` if there is none


class EventTimeGuard:
    """Decides for each reading whether its asset's event time may move on to it.

    Args:
        spec: the stream.

    ``doubtful`` (N,) marks the assets with held readings: each of their readings must go through
    ``admit``. ``unproven`` (N,) marks those among them that have a single row, whose time nothing supports.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.top_ns: Ints = np.empty(0, np.int64)  # greatest believed event time, NEVER before any
        self.arrived_ns: Ints = np.empty(0, np.int64)  # the record time of the reading that had it
        self.doubtful: Mask = np.empty(0, bool)
        self.unproven: Mask = np.empty(0, bool)
        self._doubts: dict[int, Doubt] = {}
        self._held_bytes = 0
        self._most_held = most_held(spec)
        self._most_together = held_together(spec)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; existing assets keep theirs."""
        for name in ("top_ns", "arrived_ns", "doubtful", "unproven"):
            setattr(self, name, grown(getattr(self, name), capacity))

    def clear(self, slot: int) -> list[HeldReading]:
        """Prepare a slot for a new asset; returns the held readings of the one that had it."""
        self.top_ns[slot] = self.arrived_ns[slot] = NEVER
        if not self.doubtful[slot]:
            return []
        doubt = self.doubt(slot)
        self._keep(slot, Doubt(), doubt.size)
        return [held for held in (*doubt.ahead, *doubt.behind) if not held.rejected]

    def advance(self, slots: Ints, times_ns: Ints, stamps_ns: Ints) -> None:
        """Move event time on to readings that are plausible by themselves: the next rows of assets not in doubt."""
        self.top_ns[slots] = times_ns  # of several of one asset the last one counts, and they ascend
        self.arrived_ns[slots] = stamps_ns

    def are_next(self, groups: Groups, slots: Ints, times_ns: Ints) -> Mask:
        """(B,) ``is_next`` for a batch of readings, where those of its asset before it are believed.

        Args:
            groups: the batch by slot.
            slots, times_ns: (B,) of each reading.
        """
        before = groups.before(times_ns, self.top_ns[slots])
        plausible_row = (before + self.spec.allowed_lateness_ns) // self.spec.period_ns + 1
        plausible = times_ns // self.spec.period_ns <= plausible_row
        return np.asarray(plausible & (before >= 0) & ~self.doubtful[slots])

    def is_next(self, slot: int, time_ns: int) -> bool:
        """Whether a reading is plausible by itself and its asset is not in doubt, as for nearly all readings."""
        top_ns, period = int(self.top_ns[slot]), self.spec.period_ns
        plausible_row = (top_ns + self.spec.allowed_lateness_ns) // period + 1
        return top_ns >= 0 and not self.doubtful[slot] and time_ns // period <= plausible_row

    def is_begun(self, slot: int, time_ns: int, arrival_ns: int, fleet_row: int) -> bool:
        """Whether this is an asset's first reading and its time is supported; see ``Support``."""
        return bool(self.top_ns[slot] < 0) and self._supported(time_ns, Support(arrival_ns, fleet_row))

    def believe(self, slot: int, reading: Reading) -> None:
        """Move event time on to a reading whose time was decided on, here or by a predecessor."""
        if reading.time_ns >= self.top_ns[slot]:
            self.top_ns[slot] = reading.time_ns
            self.arrived_ns[slot] = reading.stamp_ns

    def admit(
        self, slot: int, new: HeldReading, arrival_ns: int, fleet_row: int, released: bool
    ) -> Admission:
        """Decide on one reading, and on the readings that were held before it.

        Args:
            slot: its asset's.
            new: the reading, with its record.
            arrival_ns, fleet_row: see ``Support``.
            released: whether a row of this asset was released already, so that its first row cannot be replaced.
        """
        doubt = self.doubt(slot)
        size, admission = doubt.size, Admission([])
        if self.top_ns[slot] >= 0:
            self._decide(slot, new, doubt, Support(arrival_ns, fleet_row), admission, released=released)
        else:
            supported = self._supported(new.reading.time_ns, Support(arrival_ns, fleet_row))
            if not supported and not self._hold(doubt, doubt.first, new):
                doubt.first.append(new.bare())
            self._take(slot, new.reading, admission)
        self._keep(slot, doubt, size)
        return admission

    def finish(self, slot: int, fleet_row: int) -> Admission:
        """Decide on an asset's held readings at the end of the log: those far from the reading before are rejected."""
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
            self._reject(doubt.ahead, admission)
        self._keep(slot, Doubt(), size)
        return admission

    def decide_idle(self, slot: int) -> Admission:
        """Decide on held readings while the log is idle: take those after a gap that are not ahead of their records."""
        spec, doubt = self.spec, self.doubt(slot)
        size, admission = doubt.size, Admission([])
        bound_ns = spec.allowed_lateness_ns + spec.period_ns
        if all(held.record.timestamp_ns >= max(held.reading.time_ns - bound_ns, 0) for held in doubt.ahead):
            self._take_all(slot, doubt.ahead, admission)
            doubt.ahead = []
        self._keep(slot, doubt, size)
        return admission

    def doubt(self, slot: int) -> Doubt:
        """The readings of an asset that are not decided on."""
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
        support: Support,
        admission: Admission,
        *,
        released: bool,
    ) -> None:
        """Decide on a reading that is not its asset's first; changes ``doubt`` and ``admission``."""
        reading, period = new.reading, self.spec.period_ns
        row = reading.time_ns // period
        if doubt.first and self._decide_first(slot, new, doubt, admission, released=released):
            return
        if doubt.ahead and self._confirms(slot, reading, doubt.ahead[0].reading):
            self._take_all(slot, doubt.ahead, admission)
            doubt.ahead = []
        if row <= self._plausible_row(slot, support):
            if doubt.ahead and row == doubt.ahead[0].reading.time_ns // period:
                self._take_all(slot, doubt.ahead, admission)  # what supports the reading supports its row
                doubt.ahead = []
            elif doubt.ahead and row > int(self.top_ns[slot]) // period:
                self._reject(doubt.ahead, admission)
                doubt.ahead = []
            self._take(slot, reading, admission)
            return
        if doubt.ahead and row != doubt.ahead[0].reading.time_ns // period:
            self._reject(doubt.ahead, admission)
            doubt.ahead = []
        if not self._hold(doubt, doubt.ahead, new):
            admission.rejected.append(new)
            if not doubt.ahead:
                doubt.ahead.append(new.bare(rejected=True))

    def _decide_first(
        self, slot: int, new: HeldReading, doubt: Doubt, admission: Admission, *, released: bool
    ) -> bool:
        """Decide whether an asset's unsupported first row is kept; True if the new reading is decided on, too."""
        spec, reading = self.spec, new.reading
        row = reading.time_ns // spec.period_ns
        if row == doubt.first[0].reading.time_ns // spec.period_ns:
            self._hold(doubt, doubt.first, new)
            self._take(slot, reading, admission)
            return True
        if reading.time_ns < int(self.top_ns[slot]) - spec.allowed_lateness_ns and not released:
            if not doubt.behind or doubt.behind[0].reading.time_ns // spec.period_ns == row:
                if not self._hold(doubt, doubt.behind, new):
                    admission.taken.append(reading)  # it is late
                return True
            # Two rows contradict the first one.
            admission.restart = True
            self._reject(doubt.first, admission)
            self.top_ns[slot] = NEVER
            self._take_all(slot, doubt.behind, admission)
        else:
            admission.taken += [held.reading for held in doubt.behind]  # they are late
        doubt.first, doubt.behind = [], []
        return False

    def _supported(self, time_ns: int, support: Support) -> bool:
        """Whether the fleet, or the record's own time, supports an asset's first event time."""
        spec, arrival_ns = self.spec, support.arrival_ns
        if support.fleet_row != NO_CLOCK and time_ns // spec.period_ns <= self._fleet_limit(
            support.fleet_row
        ):
            return True
        latest_ns = arrival_ns + spec.allowed_lateness_ns + spec.period_ns
        return arrival_ns >= 0 and arrival_ns - spec.silent_after_ns <= time_ns <= latest_ns

    def _fleet_limit(self, fleet_row: int) -> int:
        """The greatest row that the fleet's clock supports."""
        return fleet_row + self.spec.allowed_lateness_ns // self.spec.period_ns + 1

    def _passed_ns(self, since_ns: int, arrival_ns: int) -> int:
        """How much time has passed by the records' own times."""
        return max(arrival_ns - since_ns, 0) if since_ns >= 0 and arrival_ns >= 0 else 0

    def _plausible_row(self, slot: int, support: Support) -> int:
        """The greatest row that the asset's event time may move on to at once."""
        spec = self.spec
        passed_ns = self._passed_ns(int(self.arrived_ns[slot]), support.arrival_ns)
        own = (int(self.top_ns[slot]) + passed_ns + spec.allowed_lateness_ns) // spec.period_ns + 1
        return max(own, self._fleet_limit(support.fleet_row))

    def _confirms(self, slot: int, reading: Reading, held: Reading) -> bool:
        """Whether a second reading confirms the time of a held one."""
        spec = self.spec
        bound_ns = spec.allowed_lateness_ns + spec.period_ns
        apart_ns = reading.time_ns - held.time_ns
        if reading.time_ns // spec.period_ns == held.time_ns // spec.period_ns or apart_ns < -bound_ns:
            return False
        live = abs(int(self.arrived_ns[slot]) - int(self.top_ns[slot])) <= spec.silent_after_ns
        if self.arrived_ns[slot] < 0 or not live:
            return True  # a file, or a log of the past: the gap may have been of any length
        return apart_ns <= self._passed_ns(held.stamp_ns, reading.stamp_ns) + bound_ns

    def _take(self, slot: int, reading: Reading, admission: Admission) -> None:
        """Accept a reading, and move event time on to it."""
        admission.taken.append(reading)
        self.believe(slot, reading)

    def _take_all(self, slot: int, held: Sequence[HeldReading], admission: Admission) -> None:
        """Accept held readings; of one that was rejected already, only the time counts."""
        for each in held:
            if each.rejected:
                self.believe(slot, each.reading)
            else:
                self._take(slot, each.reading, admission)

    @staticmethod
    def _reject(held: Sequence[HeldReading], admission: Admission) -> None:
        admission.rejected += [each for each in held if not each.rejected]

    def _hold(self, doubt: Doubt, kept: list[HeldReading], new: HeldReading) -> bool:
        """Hold a reading, if there is room for it."""
        fits = new.size <= LARGEST_HELD and doubt.size + new.size <= self._most_together
        fits &= self._held_bytes + new.size <= MOST_HELD
        if not fits or len(kept) >= self._most_held:
            return False
        kept.append(new)  # ``_held_bytes`` follows when the reading is decided on
        return True

    def _keep(self, slot: int, doubt: Doubt, size: int) -> None:
        """Store what is not decided of an asset; ``size`` is how many bytes that was before."""
        self._held_bytes += doubt.size - size
        self.doubtful[slot] = bool(doubt)
        self.unproven[slot] = bool(doubt.first)
        if doubt:
            self._doubts[slot] = doubt
        else:
            self._doubts.pop(slot, None)
