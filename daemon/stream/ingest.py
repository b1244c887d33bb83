"""From records to rows: decode, check event times, put readings on their assets' grids.

The way of a record: the decoder makes it a reading or rejects it; ``EventTimeGuard`` decides
whether its event time can be believed, holds it until a second reading confirms it, or refuses
it; ``FleetClock`` takes note of it; ``Grid`` puts it into a row and releases the rows that nothing
can change any more. The disposition of every record is counted here, and its dead letter is kept
until the pipeline emits it.

A usual record, the next row of an asset that waits for nothing, is treated together with many of
its kind on arrays (``take_batch``): such readings are rows as they are, and ``Grid`` only notes that they
were appended. Any other record goes alone (``take``), through ``Grid.insert`` and ``ReleasedRow``. The results
do not depend on which way a record went.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from daemon.domain import (
    DeadLetter,
    Disposition,
    InputPartition,
    Ints,
    Output,
    Reading,
    Reason,
    Record,
    Records,
    Rejected,
    Skipped,
    StreamSpec,
    finite_or_none,
    iso,
)
from daemon.grouping import by_slot
from daemon.stream.asset_grid import ValueHashes
from daemon.stream.assets import AssetTable
from daemon.stream.batches import ReadingBatch, RowBatch
from daemon.stream.event_time import NO_CLOCK, EventTimeGuard, HeldReading
from daemon.stream.fleet_clock import FleetClock
from daemon.stream.grid import Grid, ReleasedRow
from daemon.stream.ledger import Ledger
from daemon.stream.steps import Traced

MOST_BRIDGED = 10_000
"""Rows that a batch of readings may release, with those that are missing between: a gap bridges many."""


class Decode(Protocol):
    """What is needed of ``decoding.Decoder``."""

    def decode_all(self, items: Sequence[Record | Reading]) -> list[Reading | Rejected | Skipped]: ...

    def decode_batch(
        self, items: Sequence[Record | Reading]
    ) -> tuple[ReadingBatch, list[Rejected | Skipped]]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Wide readings with what is computed of all of them at once."""

    readings: ReadingBatch
    value_hashes: ValueHashes  # (B,)
    slots: Ints  # (B,) -1 where the asset has none; filled in on the way


class Ingest:
    """Takes in the records of one input partition. ``decode`` comes first, then its readings.

    Args:
        spec: the stream.
        partition: where the records come from.
        decoder: bytes to readings.
        assets: those of the partition.
        ledger: which records snapshots cover.
        trace: whether to keep the disposition of each record.

    Attributes:
        grid, guard, clock: see the module; each owns its state.
        counts, reasons, skipped: records by disposition, rejected ones by reason, skipped ones by rule.
        trace: the dispositions record by record; None if they are not kept.
        stamps: record times of the last three readings, in ns.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        decoder: Decode,
        assets: AssetTable,
        ledger: Ledger,
        *,
        trace: bool,
    ) -> None:
        self.spec = spec
        self.partition = partition
        self.grid = Grid(spec)
        self.guard = EventTimeGuard(spec)
        self.clock = FleetClock(spec, self.guard)
        self.counts: Counter[Disposition] = Counter()
        self.reasons: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.trace: list[Traced] | None = [] if trace else None
        self.stamps: tuple[int, ...] = ()
        self._decoder = decoder
        self._assets = assets
        self._ledger = ledger
        self._decoded: Sequence[
            Record | Reading
        ] = ()  # of the last ``decode``: held readings need their record
        self._appended = False  # whether the broker itself stamps the records
        # By the offset of the record that decided on each.
        self._dead_letters: list[tuple[int, DeadLetter]] = []
        self._event_row = (0, NO_CLOCK)  # the offset at which the fleet's clock was measured, and its row
        for owner in (self.grid, self.guard, self.clock):
            assets.register(owner)

    # -------------------------------------------------------------- decoding
    def decode(self, items: Sequence[Record | Reading]) -> tuple[ReadingBatch | None, list[Reading]]:
        """Make readings of records: as one batch, or one by one where they are of several kinds."""
        batch: ReadingBatch | None = None
        readings: list[Reading] = []
        left_out: list[Rejected | Skipped] = []
        if not self.spec.gathers and self.spec.input is None:
            batch, left_out = self._decoder.decode_batch(items)
        else:
            for found in self._decoder.decode_all(items):
                if isinstance(found, Reading):
                    readings.append(found)
                else:
                    left_out.append(found)
        self._decoded = items
        self._appended = isinstance(items, Records) and items.appended
        for each in left_out:
            if isinstance(each, Skipped):
                if not self._ledger.replaying:
                    self.counts[Disposition.SKIPPED] += 1
                    self.skipped[each.rule] += 1
            elif not self._ledger.replaying:
                self._dead_letters.append((each.record.offset, self._rejected(each)))
            elif self.trace is not None:
                self.trace.append(Traced(each.record.offset, "", -1, Disposition.REJECTED))
        return batch, readings

    def _rejected(self, rejected: Rejected, *, counted: bool = True) -> DeadLetter:
        """Count a rejected record, unless it counts as what became of another of its readings; its dead letter."""
        self.counts[Disposition.REJECTED] += counted
        self.reasons[rejected.reason] += 1
        if self.trace is not None:
            self.trace.append(Traced(rejected.record.offset, "", -1, Disposition.REJECTED))
        return DeadLetter(self.spec.name, self.partition, rejected)

    def dead_letters_before(self, offset: int) -> list[Output]:
        """Take the dead letters that were decided on before ``offset``."""
        upto = bisect_left(self._dead_letters, offset, key=lambda letter: letter[0])
        letters: list[Output] = [letter for _, letter in self._dead_letters[:upto]]
        del self._dead_letters[:upto]
        return letters

    # -------------------------------------------------------------- many readings at once
    def assign_slots(self, placed: Placed, begin: int, end: int) -> int:
        """Give new assets a slot; stops before a reading whose asset needs another one to be evicted."""
        assets, slots = placed.readings.assets, placed.slots
        for i in (begin + np.flatnonzero(slots[begin:end] < 0)).tolist():
            if assets[i] not in self._assets and self._assets.full:
                return int(i)
            slots[i] = self._assets.add(assets[i])
        return end

    def batch_end(self, placed: Placed, begin: int, end: int, drift_due_row: int) -> int:
        """Up to where readings from ``begin`` on may be taken together, one at least.

        After a reading by which an asset may turn out to be silent the fleet's clock is updated, so the batch ends
        there; and a batch releases at most ``MOST_BRIDGED`` rows, about.
        """
        clock = self.clock
        end = min(end, begin + clock.batch)
        times, slots = placed.readings.times[begin:end], placed.slots[begin:end]
        rows = times // self.spec.period_ns
        reached = rows.copy()
        for i in np.flatnonzero(self.guard.doubtful[slots]).tolist():
            # A reading may confirm one that is held, and with it a later row.
            reached[i] = max(reached[i], self.spec.row(self.guard.doubt(int(slots[i])).newest_ns))
        look = clock.first_check(reached - clock.skew[slots], drift_due_row) + 1
        if look < len(rows):
            rows, slots = rows[:look], slots[:look]
        return begin + self._within_most_bridged(rows, slots)

    def _within_most_bridged(self, rows: Ints, slots: Ints) -> int:
        """How many of these readings, one at least, may go together for the rows that they bridge."""
        newest = self.grid.newest[slots]
        if int((rows - newest).max()) * min(len(rows), len(self._assets)) <= MOST_BRIDGED:
            return len(rows)
        groups = by_slot(slots)
        inner = rows[groups.order]
        steps = np.diff(inner, prepend=0)
        steps[groups.begins] = (inner - newest[groups.order])[groups.begins]
        longest_gap = self.spec.max_gap_ns // self.spec.period_ns
        bridged = np.empty(len(rows), np.int64)
        bridged[groups.order] = np.where(steps > longest_gap, 1, np.maximum(steps, 1))
        return max(int(np.searchsorted(np.cumsum(bridged), MOST_BRIDGED)), 1)

    def take_batch(self, placed: Placed, begin: int, end: int) -> RowBatch:
        """Take readings that lead to nothing but rows; of each asset all at once or one by one.

        Returns:
            The rows that they release, in the order of the readings.
        """
        grid, clock, batch, part = self.grid, self.clock, placed.readings, slice(begin, end)
        slots, hashes = placed.slots[part], placed.value_hashes[part]
        times, offsets, stamps = batch.times[part], batch.offsets[part], batch.stamps[part]
        rows = times // self.spec.period_ns
        groups = by_slot(slots)
        first = np.flatnonzero(groups.occurrence == 0)
        counts = clock.count + 1 + np.arange(len(slots))
        self._ledger.note(slots[first], offsets[first], counts[first])
        plain = grid.is_next_row(slots, groups.occurrence, rows, times, batch.conditions[part])
        if self.guard.doubtful[slots].any():
            plain &= ~self.guard.doubtful[slots]
        together = np.flatnonzero(plain)
        never = np.zeros(len(slots), bool)
        released = RowBatch(
            batch.assets[part],
            slots,
            rows,
            batch.values[part],
            never,
            never,
            offsets,
            offsets,
            batch.conditions[part],
        )
        if len(together) < len(slots):
            released = released.take(together)
        grid.append_next(
            released.slots, released.rows, times[together], hashes[together], released.conditions
        )
        self.guard.advance(released.slots, times[together], stamps[together])
        if len(together):
            alike = groups if len(together) == len(slots) else by_slot(released.slots)
            clock.observe_many(alike, released.slots, counts[together])
            clock.advance(int((released.rows - clock.skew[released.slots]).max()))
        self.counts[Disposition.ACCEPTED] += len(together)
        if self.trace is not None:
            self.trace += [
                Traced(int(offsets[i]), batch.assets[begin + i], int(rows[i]), Disposition.ACCEPTED)
                for i in together.tolist()
            ]
        others, causes = self._take_others(placed, begin, np.flatnonzero(~plain), counts, stamps)
        clock.count = int(counts[-1])
        if others:
            # In the order of the readings: how they came in batches must not show.
            joined = RowBatch.joined(
                [released, RowBatch.of(others, self._assets.slots, len(self.spec.sensors))]
            )
            order = np.argsort(np.concatenate([together, np.array(causes, np.int64)]), kind="stable")
            released = joined.take(order)
        return released

    def _take_others(
        self, placed: Placed, begin: int, which: Ints, counts: Ints, stamps: Ints
    ) -> tuple[list[ReleasedRow], list[int]]:
        """Take readings of a batch one by one: the rows that they release, and which reading released each.

        Args:
            placed, begin: the batch is of the readings from ``begin`` on.
            which: these of the batch.
            counts, stamps: (B,) the clock's counts and the record times of the whole batch.
        """
        before, released, causes = self.stamps, [], []
        for i in which.tolist():
            self.stamps = (*before, *stamps[max(i - 2, 0) : i + 1].tolist())[-3:]
            self.clock.count = int(counts[i])
            reading, value_hash = placed.readings.reading(begin + i), int(placed.value_hashes[begin + i])
            rows = self._admit(int(placed.slots[begin + i]), reading, value_hash)
            released += rows
            causes += [i] * len(rows)
        self.stamps = (*before, *stamps[-3:].tolist())[-3:]
        return released, causes

    # -------------------------------------------------------------- one reading
    def take(self, slot: int, reading: Reading, value_hash: int | None) -> list[ReleasedRow]:
        """Take one reading; the rows that it releases.

        Args:
            slot: its asset's.
            reading: it.
            value_hash: that of a wide reading's values, where it is known already.
        """
        self._ledger.note_one(slot, reading.offset, self.clock.count)
        if (
            self._ledger.follows_snapshots
        ):  # a held reading would be in the asset's snapshot: this one was accepted
            self.guard.believe(slot, reading)
            return self._insert(slot, (reading,), reading, value_hash)[0]
        self.stamps = (*self.stamps, reading.stamp_ns)[-3:]
        return self._admit(slot, reading, value_hash)

    def _admit(self, slot: int, reading: Reading, value_hash: int | None) -> list[ReleasedRow]:
        """Insert one reading, if its time can be believed, with those that it confirms."""
        arrival_ns, fleet_row, guard = self._arrival_ns(reading), self._fleet_row(slot), self.guard
        if guard.is_next(slot, reading.time_ns) or guard.is_begun(
            slot, reading.time_ns, arrival_ns, fleet_row
        ):
            guard.believe(slot, reading)
            return self._insert(slot, (reading,), reading, value_hash)[0]
        before = bool(guard.doubtful[slot])
        new = HeldReading(reading, self._record_of(reading))
        admission = guard.admit(slot, new, arrival_ns, fleet_row, self.grid.released(slot))
        if before or guard.doubtful[slot] or admission.rejected:
            self._ledger.mark([reading.asset])  # the next owner must not decide again
        if admission.restart:
            self.grid.clear(slot)
            self.clock.clear(slot)
            for held in admission.rejected:
                if held.disposition is not None:
                    self.counts[held.disposition] -= held.reading.counted
        released, disposition = self._insert(slot, admission.taken, reading, value_hash)
        if not self._ledger.replaying:
            new.disposition = disposition
            self._refuse(admission.rejected, reading.offset)
        return released

    def _insert(
        self,
        slot: int,
        readings: Sequence[Reading],
        new: Reading | None = None,
        value_hash: int | None = None,
    ) -> tuple[list[ReleasedRow], Disposition | None]:
        """Put readings whose time is believed on the grid: the rows released, and the last one's disposition.

        ``value_hash`` is that of the ``new`` one.
        """
        released: list[ReleasedRow] = []
        grid, clock, replaying = self.grid, self.clock, self._ledger.replaying
        before, disposition = grid.newest[slot], None
        for reading in readings:
            disposition = grid.insert(slot, reading, released, value_hash if reading is new else None)
            if disposition is Disposition.LATE:
                clock.observe_late(slot, self.spec.row(reading.time_ns))
            if not replaying:
                self.counts[disposition] += reading.counted
            if self.trace is not None:
                row = self.spec.row(reading.time_ns)
                self.trace.append(Traced(reading.offset, reading.asset, row, disposition))
        newest = int(grid.newest[slot])
        if newest > before:
            clock.observe(slot)
            if not self._ledger.follows_snapshots:  # the fleet's clock is as of the position
                clock.advance(newest - int(clock.skew[slot]))
        return released, disposition

    def _refuse(self, held: Sequence[HeldReading], offset: int) -> None:
        """Reject readings that nothing has confirmed by the record at ``offset``, which decided on them."""
        for each in held:
            when = iso(each.reading.time_ns)
            detail = f"{when} is ahead of the asset's other readings, and no second reading confirms it"
            refused = Rejected(each.record, Reason.FUTURE, detail)
            letter = self._rejected(refused, counted=each.reading.counted)
            insort(self._dead_letters, (offset, letter), key=lambda known: known[0])

    def _record_of(self, reading: Reading) -> Record:
        """The record that a reading came in; for one that came in none, a message with the same content."""
        items = self._decoded
        if isinstance(items, Records):
            return items[bisect_left(items.offsets, reading.offset)]
        at = bisect_left(items, reading.offset, key=lambda item: item.offset)
        item = items[at] if at < len(items) else reading
        return item if isinstance(item, Record) else as_record(reading, self.spec)

    # -------------------------------------------------------------- the end of the log
    def decide_held(self, *, ended: bool, offset: int) -> Iterator[list[ReleasedRow] | None]:
        """No record follows now: decide on what is held, at the end of a log on all of it.

        Yields one item per asset with something held: the rows released, or None where nothing changed.

        Args:
            ended: whether no record will ever follow.
            offset: the position.
        """
        open_ = self.guard.doubtful if ended else self.guard.doubtful & ~self.guard.unproven
        for slot in sorted(np.flatnonzero(open_).tolist(), key=self._assets.name):
            admission = (
                self.guard.finish(slot, self._fleet_row(slot)) if ended else self.guard.decide_idle(slot)
            )
            if not (ended or admission.taken or admission.rejected):
                yield None
                continue
            self._ledger.mark([self._assets.name(slot)])
            released, _ = self._insert(slot, admission.taken)
            if not self._ledger.replaying:
                self._refuse(admission.rejected, offset - 1)
            yield released

    def release_idle(self, idle_ns: int, *, ended: bool) -> list[ReleasedRow]:
        """Rows that time alone releases: the log is idle, or has ended.

        Args:
            idle_ns: for how long no record came.
            ended: whether no record will ever follow.
        """
        unproven = self.guard.unproven  # their rows wait on
        slots = self._assets.slots
        self._ledger.mark(name for name in self.grid.waiting if not unproven[slots[name]])
        return self.grid.finish() if ended else self.grid.elapse(idle_ns, unproven)

    # -------------------------------------------------------------- eviction
    def longest_unheard(self, few: int) -> list[str]:
        """The assets that have been without a reading longest.

        By when their readings arrived and not by their rows: wrong times must not evict an active asset.
        """
        slots = np.flatnonzero(self._assets.occupied)
        heard_at = np.where(self.guard.unproven[slots], -1, self.clock.heard_at[slots])
        edge = int(np.partition(heard_at, few - 1)[few - 1])
        names = sorted(map(self._assets.name, slots[heard_at < edge].tolist()))
        equal = map(self._assets.name, slots[heard_at == edge].tolist())
        return names + heapq.nsmallest(few - len(names), equal)

    def refuse_held(self, slot: int, offset: int) -> None:
        """The asset is evicted at this offset: its held readings are refused."""
        self._refuse(self.guard.clear(slot), offset)

    # -------------------------------------------------------------- clocks
    def event_time_ns(self, offset: int) -> int:
        """The fleet's event time, as of at most one reading of each asset before ``offset``; -1 before any."""
        at, row = self._event_row
        if row == NO_CLOCK or offset - at > len(self._assets):
            row = self.clock.measure(self.grid.newest, self.appended_ns)
            self._event_row = offset, row
        return row * self.spec.period_ns if row >= 0 else -1

    @property
    def middle_stamp_ns(self) -> int:
        """The middle one of the last three record times: one producer's clock cannot move it."""
        return sorted(self.stamps)[len(self.stamps) // 2] if self.stamps else -1

    @property
    def appended_ns(self) -> int:
        """The broker's time at the last record, if it stamps them; else -1."""
        return self.middle_stamp_ns if self._appended else -1

    def _arrival_ns(self, reading: Reading) -> int:
        """The record time that can be believed: the broker's own, or one that its neighbours confirm.

        A producer's is as wrong as its clock, and often but a copy of the event time.
        """
        return reading.stamp_ns if self._appended else self.middle_stamp_ns

    def _fleet_row(self, slot: int) -> int:
        """Where the fleet's clock stands on this asset's own clock."""
        row = self.clock.row
        return row + int(self.clock.skew[slot]) if row != NO_CLOCK else NO_CLOCK


def as_record(reading: Reading, spec: StreamSpec) -> Record:
    """A reading that came in no record (a table's row) as the message that would have had its content."""
    message: dict[str, object] = {"asset": reading.asset, "ts": iso(reading.time_ns)}
    if reading.values is None:
        message |= {"sensor": spec.sensors[reading.sensor], "value": finite_or_none(reading.value)}
    else:
        message["values"] = dict(zip(spec.sensors, map(finite_or_none, reading.values), strict=True))
    return Record(reading.offset, None, json.dumps(message).encode(), reading.stamp_ns)
