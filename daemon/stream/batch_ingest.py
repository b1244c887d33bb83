"""Many readings at once, from the decoder to rows: those that lead to nothing but rows are taken on arrays.

A usual reading is the next row of an asset that waits for nothing: ``Grid`` only notes that it was appended. A newer
row after a gap, or of an asset that waits for the row before, is put on the grid by itself, and all else is done for it
with the others. Where rows are gathered, a usual reading reports something new for the row that its asset waits for:
``Gathering`` adds it. All other readings of a batch go one by one, through ``Ingest.admit``. The results, and their order, do not
depend on which way a reading went, nor on where batches begin and end.

Input: a ``ReadingBatch`` and the slots of its assets (``Placed``). Output: a ``RowBatch``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress

import numpy as np

from daemon.assembly import merges
from daemon.domain import NO_CONDITION, Disposition, Floats, Ints, Mask, StreamSpec
from daemon.grouping import by_slot
from daemon.stream.asset_grid import OpenRow, ValueHashes
from daemon.stream.assets import AssetTable
from daemon.stream.batches import ReadingBatch, RowBatch
from daemon.stream.fleet_clock import BATCH
from daemon.stream.grid import ReleasedRow
from daemon.stream.ingest import Ingest
from daemon.stream.ledger import Ledger
from daemon.stream.steps import Traced

MOST_BRIDGED = 10_000
"""Rows that a batch of readings may release, with those that are missing between: a gap bridges many."""


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Readings with what is computed of all of them at once."""

    readings: ReadingBatch
    value_hashes: ValueHashes | None  # (B,) where each reading is a row
    slots: Ints  # (B,) -1 where the asset has none; filled in on the way

    def value_hash(self, i: int) -> int | None:
        """That of one reading."""
        return None if self.value_hashes is None else int(self.value_hashes[i])


@dataclass(frozen=True, slots=True, eq=False)
class _Released:
    """Rows that readings of a batch released together."""

    rows: RowBatch
    causes: Ints  # (R,) which reading of the batch released each
    out: Ints  # the places of those among them that were not released together after all


@dataclass(frozen=True, slots=True, eq=False)
class _SingleRows:
    """Rows that readings of a batch released one by one."""

    rows: list[ReleasedRow]
    causes: list[int]  # which reading of the batch released each


class BatchIngest:
    """Takes in the readings of one input partition, batch by batch.

    Args:
        spec: the stream.
        ingest: takes what must be taken one by one, and owns the grid, the clock and the counts.
        assets, ledger: those of the partition.
    """

    def __init__(self, spec: StreamSpec, ingest: Ingest, assets: AssetTable, ledger: Ledger) -> None:
        self._spec = spec
        self._ingest = ingest
        self._grid, self._guard, self._clock = ingest.grid, ingest.guard, ingest.clock
        self._assets = assets
        self._ledger = ledger

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
        clock, batch = self._clock, slice(begin, min(end, begin + BATCH))
        times, slots = placed.readings.times[batch], placed.slots[batch]
        rows = times // self._spec.period_ns
        if clock.batch < len(rows) and self._may_be_late(times, rows, slots):
            times, rows, slots = times[: clock.batch], rows[: clock.batch], slots[: clock.batch]
        reached = rows.copy()
        for i in np.flatnonzero(self._guard.doubtful[slots]).tolist():
            # A reading may confirm one that is held, and with it a later row.
            reached[i] = max(reached[i], self._spec.row(self._guard.doubt(int(slots[i])).newest_ns))
        look = clock.first_check(reached - clock.skew[slots], drift_due_row) + 1
        if look < len(rows):
            rows, slots = rows[:look], slots[:look]
        return begin + self._within_most_bridged(rows, slots)

    def _may_be_late(self, times: Ints, rows: Ints, slots: Ints) -> bool:
        """Whether any of these readings may be late, by which a look at the fleet's clock may become due among them.

        None can where all are newer than their assets' rows, and no more apart than ``allowed_lateness``.
        """
        newer = (rows > self._grid.newest[slots]).all() and not self._guard.doubtful[slots].any()
        return not newer or int(times.max() - times.min()) > self._spec.allowed_lateness_ns

    def _within_most_bridged(self, rows: Ints, slots: Ints) -> int:
        """How many of these readings, one at least, may go together for the rows that they bridge."""
        newest = self._grid.newest[slots]
        if int((rows - newest).max()) * min(len(rows), len(self._assets)) <= MOST_BRIDGED:
            return len(rows)
        groups = by_slot(slots)
        inner = rows[groups.order]
        steps = np.diff(inner, prepend=0)
        steps[groups.begins] = (inner - newest[groups.order])[groups.begins]
        longest_gap = self._spec.max_gap_ns // self._spec.period_ns
        bridged = np.empty(len(rows), np.int64)
        bridged[groups.order] = np.where(steps > longest_gap, 1, np.maximum(steps, 1))
        return max(int(np.searchsorted(np.cumsum(bridged), MOST_BRIDGED)), 1)

    def take_batch(self, placed: Placed, begin: int, end: int) -> RowBatch:
        """Take readings that lead to nothing but rows, together or one by one.

        Returns:
            The rows that they release, in the order of the readings.
        """
        return (self._take_parts if self._spec.gathers else self._take_rows)(placed, begin, end)

    def _take_rows(self, placed: Placed, begin: int, end: int) -> RowBatch:
        """The same where each reading is a row."""
        assert placed.value_hashes is not None
        grid, clock, batch, part = self._grid, self._clock, placed.readings, slice(begin, end)
        slots, hashes = placed.slots[part], placed.value_hashes[part]
        times, offsets, stamps = batch.times[part], batch.offsets[part], batch.stamps[part]
        rows = times // self._spec.period_ns
        groups = by_slot(slots)
        occurrence = groups.occurrence
        counts = clock.count + 1 + np.arange(len(slots))
        self._ledger.note(slots, offsets, counts, np.flatnonzero(occurrence == 0))
        plain = grid.is_next_row(slots, occurrence, rows, times, batch.conditions[part])
        plain &= ~self._guard.doubtful[slots]
        newer = plain | self._are_newer(slots, rows, times, ~plain)
        together, taken = np.flatnonzero(newer), slice(None) if newer.all() else newer
        appended = slice(None) if plain.all() else plain
        conditions = batch.conditions[part]
        labels = conditions
        if self._spec.message_condition and not plain.all():
            labels = list(compress(conditions, plain.tolist()))
        grid.append_next(slots[appended], rows[appended], times[appended], hashes[appended], labels)
        mine, reached, values = slots[taken], rows[taken], batch.values[part]
        self._guard.advance(mine, times[taken], stamps[taken])
        if len(together):
            alike = groups if len(together) == len(slots) else by_slot(mine)
            clock.observe_many(alike, mine, counts[taken])
            clock.advance(int((reached - clock.skew[mine]).max()))
        self._count(batch, begin + together, values[taken], mine)
        if self._ingest.trace is not None:
            self._ingest.trace += [
                Traced(int(offsets[i]), batch.assets[begin + i], int(rows[i]), Disposition.ACCEPTED)
                for i in together.tolist()
            ]
        never = np.zeros(len(slots), bool)
        every = RowBatch(batch.assets[part], slots, rows, values, never, never, offsets, offsets, conditions)
        released = _Released(every, np.arange(len(every)), np.flatnonzero(~plain))
        single = self._insert_newer(placed, begin, np.flatnonzero(newer & ~plain))
        return self._with_others(released, single, placed, begin, np.flatnonzero(~newer), counts)

    def _are_newer(self, slots: Ints, rows: Ints, times: Ints, looked_at: Mask) -> Mask:
        """(B,) which of the readings that are ``looked_at`` are plausible, and newer than all of their assets' rows.

        Of an asset only the readings before the first one that is not: they stay in order. All readings of an asset
        are looked at, or none is.
        """
        newer, which = np.zeros(len(slots), bool), np.flatnonzero(looked_at)
        if len(which) and not merges(self._spec):  # else a row may have several readings
            mine, groups = slots[which], by_slot(slots[which])
            sound = rows[which] > groups.before(rows[which], self._grid.newest[mine])
            sound &= self._guard.are_next(groups, mine, times[which])
            newer[which] = groups.up_to_first(~sound)
        return newer

    def _insert_newer(self, placed: Placed, begin: int, which: Ints) -> _SingleRows:
        """Put readings that are newer than their assets' rows on the grid: after a gap, or where rows wait.

        All else that follows from them was done for them together.
        """
        released: list[ReleasedRow] = []
        causes: list[int] = []
        readings, every = placed.readings, (1 << len(self._spec.sensors)) - 1
        assert placed.value_hashes is not None
        at, period_ns = begin + which, self._spec.period_ns
        columns = (placed.slots, readings.times, readings.offsets, readings.values, placed.value_hashes)
        mine = [column[at].tolist() for column in columns]
        for i, slot, time_ns, offset, values, value_hash in zip(which.tolist(), *mine, strict=True):
            asset, condition = readings.assets[begin + i], readings.conditions[begin + i]
            # The collector does not look into a tuple of numbers.
            row = OpenRow(tuple(values), every, offset, offset, True, condition, value_hash)
            self._grid.insert_newer(asset, slot, time_ns // period_ns, time_ns, row, released)
            causes += [i] * (len(released) - len(causes))
        return _SingleRows(released, causes)

    def _take_parts(self, placed: Placed, begin: int, end: int) -> RowBatch:
        """The same where rows are gathered of several readings."""
        grid, guard, clock = self._grid, self._guard, self._clock
        batch, slots = placed.readings, placed.slots[begin:end]
        counts = clock.count + 1 + np.arange(len(slots))
        first = np.flatnonzero(by_slot(slots).occurrence == 0)
        self._ledger.note(slots, batch.offsets[begin:end], counts, first)
        parts = batch.parts(slots, begin, end, self._spec.period_ns)
        plain = grid.gathering.plain(parts, guard.doubtful)
        together = np.flatnonzero(plain)
        taken = parts if len(together) == len(slots) else parts.take(together)
        made = grid.gathering.append(taken, grid.newest)
        begun, rising = together[made.begun], together[made.ascending]
        rising = rising[parts.times[rising] >= guard.top_ns[slots[rising]]]
        guard.advance(slots[rising], parts.times[rising], batch.stamps[begin:end][rising])
        if len(begun):
            clock.observe_many(by_slot(slots[begun]), slots[begun], counts[begun])
            clock.advance(int((parts.rows[begun] - clock.skew[slots[begun]]).max()))
        self._count(batch, begin + together, taken.values, slots[together])
        if self._ingest.trace is not None:
            self._ingest.trace += [
                Traced(
                    int(parts.offsets[i]), batch.assets[begin + i], int(parts.rows[i]), Disposition.ACCEPTED
                )
                for i in together.tolist()
            ]
        causes = together[made.causes]
        never = np.zeros(len(causes), bool)
        released = RowBatch(
            [batch.assets[begin + i] for i in causes.tolist()],
            made.slots,
            made.rows,
            made.values,
            never,
            never,
            made.offsets,
            made.last_offsets,
            [NO_CONDITION] * len(causes),
        )
        return self._with_others(
            _Released(released, causes, np.empty(0, np.int64)),
            _SingleRows([], []),
            placed,
            begin,
            np.flatnonzero(~plain),
            counts,
        )

    def _count(self, batch: ReadingBatch, together: Ints, values: Floats, slots: Ints) -> None:
        """Account for these readings (of assets with these slots), which were taken together, and for their cells' values."""
        odd = np.flatnonzero(np.isin(together, list(batch.odd))) if batch.odd else np.empty(0, np.int64)
        rows = batch.times[together[odd]] // self._spec.period_ns
        for i, slot, row in zip(together[odd].tolist(), slots[odd].tolist(), rows.tolist(), strict=True):
            self._ingest.unread.note(slot, row, batch.odd[i][0])
        numbers = values.size - int(np.count_nonzero(np.isnan(values)))
        self._ingest.accounts.accept(
            batch.count(together), values.size, numbers, [batch.odd[i] for i in together[odd].tolist()]
        )

    def _with_others(
        self,
        together: _Released,
        single: _SingleRows,
        placed: Placed,
        begin: int,
        which: Ints,
        counts: Ints,
    ) -> RowBatch:
        """Take the other readings of a batch one by one: the rows that all of them release, in their order.

        Args:
            together: what readings of the batch released together.
            single: what some released one by one.
            placed, begin, which, counts: see ``_take_others``.
        """
        stamps = placed.readings.stamps[begin : begin + len(counts)]
        others = self._take_others(placed, begin, which, counts, stamps)
        self._clock.count = int(counts[-1])
        released, causes = single.rows + others.rows, np.array(single.causes + others.causes, np.int64)
        rows, out = together.rows, together.out
        if not released and not len(out):
            return rows
        # In the order of the readings: how they came in batches must not show.
        order = np.argsort(causes, kind="stable")
        released = [released[i] for i in order.tolist()]
        alone = RowBatch.of(released, self._assets.slots, len(self._spec.sensors))
        return rows.exchanged(out, alone, np.searchsorted(together.causes, causes[order]))

    def _take_others(
        self, placed: Placed, begin: int, which: Ints, counts: Ints, stamps: Ints
    ) -> _SingleRows:
        """Take readings of a batch one by one, with all that follows from each.

        Args:
            placed, begin: the batch is of the readings from ``begin`` on.
            which: these of the batch.
            counts, stamps: (B,) the clock's counts and the record times of the whole batch.
        """
        before, made = self._ingest.stamps, _SingleRows([], [])
        for i in which.tolist():
            self._ingest.stamps = (*before, *stamps[max(i - 2, 0) : i + 1].tolist())[-3:]
            self._clock.count = int(counts[i])
            reading = placed.readings.reading(begin + i)
            rows = self._ingest.admit(int(placed.slots[begin + i]), reading, placed.value_hash(begin + i))
            made.rows.extend(rows)
            made.causes.extend([i] * len(rows))
        self._ingest.stamps = (*before, *stamps[-3:].tolist())[-3:]
        for slot in np.unique(placed.slots[begin + which]).tolist():
            self._grid.make_idle_if_steady(slot)
        return made
