"""The fleet's clock: how far the assets of one input partition have come in event time, taken together.

Why: whether an asset is silent, and whether its clock is wrong, can only be decided against the others.

The rule (``FleetClock``): the fleet's clock is the median of the newest rows of the assets that were seen
recently, each corrected by the known skew of its own clock. "Recently" counts readings, not time: an asset
counts until it has missed a few of its turns. So neither one clock that is far ahead nor many assets that
stopped can move or stop the fleet's clock. From it follow:

* an asset is *silent* if its newest row is ``silent_after`` behind the fleet's clock, or further by the model's
  ``SilenceHabit``;
* a clock is *skewed* if it differs from the fleet's by about the same for as long as ``silent_after``;
* a clock was *set back* if its asset has sent nothing but late readings for as long; it then starts anew.

Input: the rows of the assets, observed one by one or in batches. Output: a ``ClockUpdate``, the assets whose
condition changed. Invariants: the result depends on the order of the records alone, not on how they came
in polls, nor on the wall clock; everything that is kept per asset is an array by slot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from daemon.domain import (
    Ints,
    Mask,
    StreamSpec,
)
from daemon.grouping import Groups
from daemon.stream.event_time import NEVER, NO_CLOCK, EventTimeGuard
from daemon.stream.snapshot import AssetClockState, FleetClockState
from daemon.stream.windowing import grown

LIVELY_TURNS = 4
"""An asset counts for the fleet's clock until it has missed this many of its turns."""
LOOKS_PER_ROUND = 8
"""The fleet's clock is read at most this often per round of all assets: one look costs a pass over all slots."""
SLOTS_PER_READING = 64
"""Slots that a look may process per reading since the last look."""
BATCH, SMALL_BATCH = 1_024, 64
"""Readings that are processed together, at most: what follows from one of them takes effect after all of them.
In a small fleet so many take long to arrive, hence the smaller number where any of them may be late."""
SMALL_FLEET = 16
"""Assets of a small fleet, at most."""
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
"""The integer arrays that the fleet's clock has per asset, in the order of the record of state."""


@dataclass(frozen=True, slots=True, eq=False)
class ClockUpdate:
    """What one look at the fleet's clock found; all are slots."""

    fell_silent: Ints  # ``silent_after`` behind now, and not before
    skewed: Ints  # their clocks are found to be off for good, by ``FleetClock.skew`` rows
    righted: Ints  # their clocks are right again
    set_back: Ints  # their clocks were set back for good: all their readings are late
    changed: Ints  # their state has changed, and a successor cannot derive it from their records


class FleetClock:
    """The clock of one input partition, from the rows of its assets.

    It is read (``update``) only when the rows show that an asset may have become silent: see ``due``. All
    state per asset is in arrays by slot. An asset's *turn* is the number of readings between two of its
    rows. It is counted in readings, because the offsets of a log have gaps where records were compacted or
    transactions ended.

    Args:
        spec: the stream.
        guard: marks the assets whose only row is unsupported; they do not count for the clock.

    ``habit`` says from which row on (R,) slots with these (R,) newest rows are silent, where that is usual at some hours;
    None: after ``silent_rows``. ``row`` is the fleet's clock as of the last look. ``front`` is the greatest row of any asset, corrected
    by its skew: the fleet's clock is never beyond it. ``count`` is the number of readings so far.
    """

    def __init__(self, spec: StreamSpec, guard: EventTimeGuard) -> None:
        self.spec = spec
        self.guard = guard
        self.row = NO_CLOCK
        self.front = NO_CLOCK
        self.count = 0
        self.due_row = NO_CLOCK  # once ``front`` is here, an asset may be silent
        self.look_at = 0  # the first count at which the next look may be
        self.round_readings = 0  # approximate number of readings in which each present asset has one turn
        # An asset has sent nothing but late readings for a while: a look is due from this count on.
        self.late_look_at = NEVER
        self.silent_rows = max(spec.silent_after_ns // spec.period_ns, 1)
        self.habit: Callable[[Ints, Ints], Ints] | None = None
        self.skew: Ints = np.empty(0, np.int64)  # rows by which an asset's clock is ahead; 0 if it is right
        self.overdue: Mask = np.empty(0, bool)  # silent unless it reports in its turn
        self.born_at: Ints = np.empty(0, np.int64)  # the count at an asset's first row
        self.heard_at: Ints = np.empty(0, np.int64)  # ... and at its newest
        self.turn: Ints = np.empty(0, np.int64)  # readings between its last two rows
        # A skew that differs from ``skew`` and is not confirmed yet, and since which row of the fleet; else NEVER.
        self.off_by: Ints = np.empty(0, np.int64)
        self.off_since: Ints = np.empty(0, np.int64)
        # The newest and the first of the rows that were late since the last one that was not; NEVER for none.
        self.late_row: Ints = np.empty(0, np.int64)
        self.late_first: Ints = np.empty(0, np.int64)
        # How many rows the late ones are behind, and since when (as for ``off_by``).
        self.late_by: Ints = np.empty(0, np.int64)
        self.late_since: Ints = np.empty(0, np.int64)
        self._records_per_row = 1 if not spec.gathers else len(spec.sensors)

    def grow(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; existing assets keep theirs."""
        new = slice(len(self.skew), capacity)
        for name in ("overdue", *NUMBERS):
            setattr(self, name, grown(getattr(self, name), capacity))
        self._begin(new)

    def clear(self, slot: int) -> None:
        """Prepare a slot for a new asset."""
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
            self.round_readings,
            self.late_look_at,
        )

    def restore_fleet(self, state: FleetClockState) -> None:
        """Continue with the fleet's clock as another process left it."""
        self.row, self.front = state.row, state.front
        self.due_row, self.look_at, self.count = state.due_row, state.look_at, state.count
        self.round_readings, self.late_look_at = state.round_readings, state.late_look_at

    def observe(self, slot: int) -> None:
        """The reading that was counted last is the newest row of an asset."""
        if self.heard_at[slot] >= 0:
            self.turn[slot] = self.count - self.heard_at[slot]
        else:
            self.born_at[slot] = self.count
        self.heard_at[slot] = self.count
        self.late_row[slot] = self.late_since[slot] = NEVER

    def observe_many(self, groups: Groups, slots: Ints, counts: Ints) -> None:
        """``observe`` for a batch of rows: (R,) slots and counts, and the batch by slot."""
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

    def observe_late(self, slot: int, row: int) -> None:
        """The reading that was counted last is late; ``row`` is its row."""
        if self.late_row[slot] < 0:
            self.late_first[slot] = row
        self.late_row[slot] = row
        if self.late_look_at < 0 and row - self.late_first[slot] >= self.silent_rows // 4:
            self.late_look_at = self.count + self.batch

    @property
    def batch(self) -> int:
        """How many readings may be processed together if any may be late; it changes only with a look."""
        return SMALL_BATCH if self.round_readings <= SMALL_FLEET * self._records_per_row else BATCH

    def advance(self, row: int) -> None:
        """An asset has reached this row, corrected by its skew."""
        self.front = max(self.front, row)

    def due(self, other_row: int) -> bool:
        """Whether a look is due now; one is also due when the fleet reaches ``other_row``."""
        late = 0 <= self.late_look_at <= self.count
        return (late or self.front >= min(self.due_row, other_row)) and self.count >= self.look_at

    def first_check(self, rows: Ints, other_row: int) -> int:
        """The index of the first of R readings after which a look may be due; R if there is none.

        Args:
            rows: (R,) theirs, corrected by their assets' skews.
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

    def _recently_seen(self, newest: Ints, appended_ns: int) -> Mask:
        """(N,) the assets that were seen recently."""
        missed = self.count - self.heard_at
        recent = (newest >= 0) & ~self.guard.unproven
        turn = np.maximum(self.turn, max(self.round_readings, 1))
        again = recent & (self.heard_at > self.born_at)
        if again.any():  # an id that was seen once expires sooner: its turn is taken to be the usual one
            turn[recent & ~again] = np.median(self.turn[again])
        recent &= missed <= LIVELY_TURNS * turn
        if appended_ns >= 0:  # where nearly all have stopped, the broker's clock shows it sooner
            arrived_ns = self.guard.arrived_ns
            recent &= (arrived_ns < 0) | (appended_ns - arrived_ns <= self.spec.silent_after_ns)
        return np.asarray(recent)

    def _established(self, recent: Mask) -> Mask:
        """(N,) those of them that were present for some turns; all of them if none was: one message makes no clock."""
        long = recent & (self.heard_at - self.born_at >= LIVELY_TURNS * max(self.round_readings, 1))
        return long if long.any() else recent

    def _median(self, newest: Ints, which: Mask) -> int:
        """The median of these assets' rows.

        Of two middle rows the lower one counts, unless the records' own times agree with the upper one:
        with two assets, this decides whose clock is wrong.
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
        """The fleet's row as of now, without a look; arguments as of ``update``."""
        return self._row_of(newest, self._recently_seen(newest, appended_ns))

    def _row_of(self, newest: Ints, recent: Mask) -> int:
        return self._median(newest, self._established(recent)) if recent.any() else self.row

    def silent_from(self, newest: Ints, row: int) -> Ints:
        """(N,) from which row of the fleet on assets are silent if no row comes after these (N,) newest ones.

        Where ``silent_rows`` after the newest row is beyond ``row``, a habit is left out: it could only be later.
        """
        corrected = newest - self.skew
        due = corrected + self.silent_rows
        if self.habit is not None:
            some = np.flatnonzero((newest >= 0) & (corrected >= 0) & (due <= row))
            due[some] = self.habit(some, corrected[some])
        return due

    def behind(self, newest: Ints, row: int) -> Mask:
        """(N,) the assets that are silent if this is the fleet's row."""
        return np.asarray((newest >= 0) & (self.silent_from(newest, row) <= row))

    def update(self, newest: Ints, silent: Mask, arrival_ns: int, appended_ns: int) -> ClockUpdate:
        """Read the clock after the reading that was counted last.

        Args:
            newest: (N,) each asset's greatest row, NEVER for none.
            silent: (N,) the assets that are silent already.
            arrival_ns: the time by the records' own timestamps, NEVER if they have none.
            appended_ns: the same where the broker stamps the records, which no device's clock can falsify.
        """
        if not self.round_readings:
            self.round_readings = int((newest >= 0).sum()) * self._records_per_row
        recent = self._recently_seen(newest, appended_ns)
        before, self.row = self.row, self._row_of(newest, recent)
        self.round_readings = max(int(recent.sum()) * self._records_per_row, 1)
        # A look processes all slots: per reading, it may cost no more than so many of them.
        self.look_at = self.count + max(
            self.round_readings // LOOKS_PER_ROUND, len(newest) // SLOTS_PER_READING, 1
        )
        if before == NO_CLOCK:
            before = self.row  # the first look
        skewed, righted, changed = self._skews(newest, recent)
        set_back = self._set_back(arrival_ns, changed)
        # Only an asset that was near the fleet's clock can fall silent; one with a clock of 1999 never was.
        was_there = ~self.behind(newest, before) | self.overdue
        behind = self.behind(newest, self.row)
        candidates = behind & was_there & ~silent
        # Where the clock has just moved by hours (a plant that starts), every asset has a turn before it is silent.
        turn = np.maximum(np.minimum(self.turn, self.round_readings * self.silent_rows), self.round_readings)
        has_turn = self.count - self.heard_at <= LIVELY_TURNS * turn
        fell, overdue = candidates & ~has_turn, candidates & has_turn
        changed |= overdue != self.overdue
        self.overdue = np.asarray(overdue)
        awaited = (newest >= 0) & ~silent & ~behind
        corrected = newest - self.skew
        # Not later than this, so that clocks that seem to be off are checked, too.
        self.due_row = self.row + max(self.silent_rows // 2, 1)
        if overdue.any() or self.row == NO_CLOCK:
            self.due_row = self.row
        elif awaited.any():
            self.due_row = min(self.due_row, int(self.silent_from(newest, self.row)[awaited].min()))
        self.front = int(corrected[recent].max(initial=self.row))
        return ClockUpdate(np.flatnonzero(fell), skewed, righted, set_back, np.flatnonzero(changed))

    def _skews(self, newest: Ints, recent: Mask) -> tuple[Ints, Ints, Mask]:
        """Update the skews of the assets' clocks.

        A clock is skewed if it differs from the fleet's by ``silent_after`` or more, and by about the same
        for as long as that. The difference of an asset that sends its backlog becomes smaller meanwhile.

        Returns:
            The slots that are found to be skewed, those whose clocks are right again, and (N,) whose
            state changed.
        """
        patience = self.silent_rows
        off_by = newest - self.row
        off_by[np.abs(off_by) < patience] = 0
        differs = recent & (np.abs(off_by - self.skew) > patience // 2)
        steady = differs & (self.off_since >= 0) & (np.abs(off_by - self.off_by) <= patience // 4)
        for_good = steady & (self.row - self.off_since >= patience)
        begins = differs & ~steady
        ends = for_good | (recent & ~differs & (self.off_since >= 0))
        self.off_by[begins] = off_by[begins]
        # An asset's last reading is up to one round old, while the fleet has moved on: the largest difference is best.
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
        """Find assets that send nothing but late readings, and mark in ``changed`` (N,) whose state changed.

        Late readings that stay equally far behind for as long as ``silent_after`` are no backlog, which
        would catch up: the asset's clock continues from an earlier time, and none of its readings would
        be judged for hours.

        Returns:
            The slots whose clocks were set back for good.
        """
        patience = self.silent_rows
        alone = self.round_readings <= self._records_per_row and arrival_ns >= 0
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
