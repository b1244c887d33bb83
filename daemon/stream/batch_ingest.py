"""Many readings at once, from the decoder to rows: those that lead to nothing but rows are taken on arrays.

A usual reading is the next row of an asset that waits for nothing: ``Grid`` only notes that it was appended. Where
rows are gathered, a usual reading reports something new for the row that its asset waits for: ``Gathering`` adds
it. All other readings of a batch go one by one, through ``Ingest.admit``. The results, and their order, do not
depend on which way a reading went, nor on where batches begin and end.

Input: a ``ReadingBatch`` and the slots of its assets (``Placed``). Output: a ``RowBatch``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.domain import NO_CONDITION, Disposition, Floats, Ints, StreamSpec
from daemon.grouping import by_slot
from daemon.stream.asset_grid import ValueHashes
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

    rows: RowBatch  # these and perhaps others
    places: Ints  # (R,) in ``rows``
    causes: Ints  # (R,) which reading of the batch released each


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
        first = np.flatnonzero(groups.occurrence == 0)
        counts = clock.count + 1 + np.arange(len(slots))
        self._ledger.note(slots, offsets, counts, first)
        plain = grid.is_next_row(slots, groups.occurrence, rows, times, batch.conditions[part])
        if self._guard.doubtful[slots].any():
            plain &= ~self._guard.doubtful[slots]
        together = np.flatnonzero(plain)
        some = slice(None) if len(together) == len(slots) else together
        conditions = batch.conditions[part]
        mine, newer, at = slots[some], rows[some], times[some]
        labels = [conditions[i] for i in together.tolist()] if self._spec.message_condition else ()
        grid.append_next(mine, newer, at, hashes[some], labels)
        self._guard.advance(mine, at, stamps[some])
        if len(together):
            alike = groups if len(together) == len(slots) else by_slot(mine)
            clock.observe_many(alike, mine, counts[some])
            clock.advance(int((newer - clock.skew[mine]).max()))
        values, never = batch.values[part], np.zeros(len(slots), bool)
        self._count(batch, begin + together, values[some], mine)
        if self._ingest.trace is not None:
            self._ingest.trace += [
                Traced(int(offsets[i]), batch.assets[begin + i], int(rows[i]), Disposition.ACCEPTED)
                for i in together.tolist()
            ]
        every = RowBatch(batch.assets[part], slots, rows, values, never, never, offsets, offsets, conditions)
        released = _Released(every, together, together)
        return self._with_others(released, placed, begin, np.flatnonzero(~plain), counts)

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
        made_of = _Released(released, np.arange(len(causes)), causes)
        return self._with_others(made_of, placed, begin, np.flatnonzero(~plain), counts)

    def _count(self, batch: ReadingBatch, together: Ints, values: Floats, slots: Ints) -> None:
        """Account for these readings (of assets with these slots), which were taken together, and for their cells' values."""
        if batch.odd:
            rows = batch.times[together] // self._spec.period_ns
            for i, slot, row in zip(together.tolist(), slots.tolist(), rows.tolist(), strict=True):
                if i in batch.odd:
                    self._ingest.unread.note(slot, row, batch.odd[i][0])
        numbers = values.size - int(np.count_nonzero(np.isnan(values)))
        self._ingest.accounts.accept(batch.count(together), values.size, numbers, batch.odd_among(together))

    def _with_others(
        self, released: _Released, placed: Placed, begin: int, which: Ints, counts: Ints
    ) -> RowBatch:
        """Take the other readings of a batch one by one: the rows that all of them release, in their order.

        Args:
            released: what readings of the batch released together.
            placed, begin, which, counts: see ``_take_others``.
        """
        stamps = placed.readings.stamps[begin : begin + len(counts)]
        others, other_causes = self._take_others(placed, begin, which, counts, stamps)
        self._clock.count = int(counts[-1])
        rows, places = released.rows, released.places
        if others:
            # In the order of the readings: how they came in batches must not show.
            alone = RowBatch.of(others, self._assets.slots, len(self._spec.sensors))
            order = np.argsort(np.append(released.causes, other_causes), kind="stable")
            places = np.append(places, len(rows) + np.arange(len(alone)))[order]
            rows = RowBatch.joined([rows, alone])
        return rows if len(places) == len(rows) and not others else rows.take(places)

    def _take_others(
        self, placed: Placed, begin: int, which: Ints, counts: Ints, stamps: Ints
    ) -> tuple[list[ReleasedRow], list[int]]:
        """Take readings of a batch one by one: the rows that they release, and which reading released each.

        Args:
            placed, begin: the batch is of the readings from ``begin`` on.
            which: these of the batch.
            counts, stamps: (B,) the clock's counts and the record times of the whole batch.
        """
        before, released, causes = self._ingest.stamps, [], []
        for i in which.tolist():
            self._ingest.stamps = (*before, *stamps[max(i - 2, 0) : i + 1].tolist())[-3:]
            self._clock.count = int(counts[i])
            reading = placed.readings.reading(begin + i)
            rows = self._ingest.admit(int(placed.slots[begin + i]), reading, placed.value_hash(begin + i))
            released += rows
            causes += [i] * len(rows)
        self._ingest.stamps = (*before, *stamps[-3:].tolist())[-3:]
        for slot in np.unique(placed.slots[begin + which]).tolist():
            self._grid.make_idle_if_steady(slot)
        return released, causes
