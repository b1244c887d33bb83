"""From records to rows: decode, check event times, put readings on their assets' grids.

The way of a record: the decoder makes it a reading or rejects it; ``EventTimeGuard`` decides
whether its event time can be believed, holds it until a second reading confirms it, or refuses
it; ``FleetClock`` takes note of it; ``Grid`` puts it into a row and releases the rows that nothing
can change any more. The disposition of every record is counted here, and its dead letter is kept
until the pipeline emits it.

A usual record is treated together with many of its kind on arrays (``batch_ingest``). Any other record goes alone
(``take``), through ``Grid.insert`` and ``ReleasedRow``. The results do not depend on which way a record went.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from copy import copy
from typing import Protocol

import numpy as np

from daemon.domain import (
    DeadLetter,
    Disposition,
    InputPartition,
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
from daemon.stream.accounts import Accounts, CountingDecoder, DecoderTotals
from daemon.stream.assets import AssetTable
from daemon.stream.batches import ReadingBatch
from daemon.stream.decode import Births
from daemon.stream.event_time import NO_CLOCK, EventTimeGuard, HeldReading
from daemon.stream.fleet_clock import FleetClock
from daemon.stream.grid import Grid, ReleasedRow
from daemon.stream.ledger import Ledger
from daemon.stream.steps import Traced
from daemon.stream.unread import UnreadCells


class Decode(CountingDecoder, Protocol):
    """What is needed of ``decoding.Decoder``."""

    @property
    def batches(self) -> bool: ...

    def new_births(self) -> Births | None: ...

    def decode_all(
        self, items: Sequence[Record | Reading], births: Births | None = None
    ) -> list[Reading | Rejected | Skipped]: ...

    def decode_batch(
        self, items: Sequence[Record | Reading]
    ) -> tuple[ReadingBatch, list[Rejected | Skipped]]: ...


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
        accounts: what became of records and cells.
        unread: notes cells that give no number.
        trace: the dispositions record by record; None if they are not kept.
        births: what earlier records say of later ones; None where each can be understood alone.
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
        self.accounts = Accounts(spec)
        self.unread = UnreadCells()
        self.trace: list[Traced] | None = [] if trace else None
        self.stamps: tuple[int, ...] = ()
        self.births = decoder.new_births()
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
        decoder, accounts, replaying = self._decoder, self.accounts, self._ledger.replaying
        before = DecoderTotals.of(decoder)
        batch: ReadingBatch | None = None
        readings: list[Reading] = []
        left_out: list[Rejected | Skipped] = []
        mapped = self.spec.input is not None
        if decoder.batches and (
            not (mapped or self.spec.gathers)
            or isinstance(items, Records)
            or not any(map(_is_reading, items))
        ):
            batch, left_out = decoder.decode_batch(items)
        else:
            for found in decoder.decode_all(items, self.births):
                if isinstance(found, Reading):
                    readings.append(found)
                else:
                    left_out.append(found)
            if len({reading.values is None for reading in readings}) == 1:
                batch, readings = ReadingBatch.of(readings, len(self.spec.sensors)), []
        if not replaying:
            accounts.decoded(before, DecoderTotals.of(decoder))
        self._decoded = items
        self._appended = isinstance(items, Records) and items.appended
        for each in left_out:
            if isinstance(each, Skipped):
                if not replaying:
                    accounts.skip(each.rule)
            elif not replaying:
                self._dead_letters.append((each.record.offset, self._rejected(each)))
            elif self.trace is not None:
                self.trace.append(Traced(each.record.offset, "", -1, Disposition.REJECTED))
        return batch, readings

    def _rejected(self, rejected: Rejected, *, counted: bool = True) -> DeadLetter:
        """Count a rejected record, unless it counts as what became of another of its readings; its dead letter."""
        self.accounts.reject(rejected.reason, counted=counted)
        if self.trace is not None:
            self.trace.append(Traced(rejected.record.offset, "", -1, Disposition.REJECTED))
        return DeadLetter(self.spec.name, self.partition, rejected)

    def dead_letters_before(self, offset: int) -> list[Output]:
        """Take the dead letters that were decided on before ``offset``."""
        upto = bisect_left(self._dead_letters, offset, key=lambda letter: letter[0])
        letters: list[Output] = [letter for _, letter in self._dead_letters[:upto]]
        del self._dead_letters[:upto]
        return letters

    # -------------------------------------------------------------- one reading
    def take(self, slot: int, reading: Reading, value_hash: int | None) -> list[ReleasedRow]:
        """Take one reading; the rows that it releases.

        Args:
            slot: its asset's.
            reading: it.
            value_hash: that of a wide reading's values, where it is known already.
        """
        self._ledger.note_one(slot, reading.offset)
        if (
            self._ledger.follows_snapshots
        ):  # a held reading would be in the asset's snapshot: this one was accepted
            self.guard.believe(slot, reading)
            released, _ = self._insert(slot, (reading,), reading, value_hash)
        else:
            self.stamps = (*self.stamps, reading.stamp_ns)[-3:]
            released = self.admit(slot, reading, value_hash)
        self.grid.make_idle_if_steady(slot)
        return released

    def admit(self, slot: int, reading: Reading, value_hash: int | None) -> list[ReleasedRow]:
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
            self.unread.clear(slot)
            for held in admission.rejected:
                if held.disposition is not None:
                    self.accounts.retract(held.reading, held.disposition, held.fates)
        released, disposition = self._insert(slot, admission.taken, reading, value_hash)
        if not self._ledger.replaying:
            new.disposition, new.fates = disposition, copy(self.grid.fates)
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
            if reading.corrupt and disposition is not Disposition.LATE:
                fates = grid.fates
                left_out = fates.late | fates.repeated | fates.conflicting
                self.unread.note(slot, self.spec.row(reading.time_ns), reading.corrupt, left_out)
            if not replaying:
                self.accounts.take(reading, disposition, grid.fates)
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
            self.accounts.refuse(each.reading)
            letter = self._rejected(refused, counted=each.reading.counted)
            insort(self._dead_letters, (offset, letter), key=lambda known: known[0])

    def _record_of(self, reading: Reading) -> Record:
        """The record that a reading came in; for one that came in none, a message with the same content."""
        items = self._decoded
        if isinstance(items, Records):
            return items[int(np.searchsorted(items.offsets, reading.offset))]
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


def _is_reading(item: Record | Reading) -> bool:
    return isinstance(item, Reading)


def as_record(reading: Reading, spec: StreamSpec) -> Record:
    """A reading that came in no record (a table's row) as the message that would have had its content."""
    message: dict[str, object] = {"asset": reading.asset, "ts": iso(reading.time_ns)}
    if reading.values is None:
        message |= {"sensor": spec.sensors[reading.sensor], "value": finite_or_none(reading.value)}
    else:
        message["values"] = dict(zip(spec.sensors, map(finite_or_none, reading.values), strict=True))
    return Record(reading.offset, None, json.dumps(message).encode(), reading.stamp_ns)
