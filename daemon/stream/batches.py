"""Batches: many readings or rows as columns, and the queue of rows between the grid and the windows.

Why: an object per row costs more than everything that is computed with it; as columns, a chunk of rows is a
few arrays. ``ReadingBatch`` has decoded readings on their way to the grid, ``RowBatch`` has rows that the
grid has released, and ``RowQueue`` keeps released rows, in order, until there are enough for one chunk.

Shapes: B readings or R rows, C sensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Reading,
)
from daemon.stream.accounts import OddCells
from daemon.stream.extract import MappedPiece
from daemon.stream.gathering import PartBatch
from daemon.stream.grid import NAN, ReleasedRow
from daemon.stream.piece_decoding import Piece

FEW = 0.05
"""Share of the rows of a batch up to which some change places one by one; of more all are taken anew."""


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """Released rows as columns; see ``grid.ReleasedRow`` for their meaning."""

    assets: list[str]
    slots: Ints
    rows: Ints
    values: Floats  # (R, C)
    empty: Mask
    fresh: Mask
    offsets: Ints
    last_offsets: Ints
    conditions: list[str]

    def __len__(self) -> int:
        return len(self.assets)

    def __getitem__(self, some: slice) -> RowBatch:
        """The rows of a slice."""
        columns: dict[str, Any] = {name: getattr(self, name)[some] for name in self.__slots__}
        return RowBatch(**columns)

    def with_conditions(self, conditions: list[str]) -> RowBatch:
        """The same rows with these condition labels."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return RowBatch(**{**columns, "conditions": conditions})

    def with_values(self, values: Floats) -> RowBatch:
        """The same rows with these values (R, D), perhaps of other sensors."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return RowBatch(**{**columns, "values": values})

    def take(self, index: Ints) -> RowBatch:
        """The rows at these indices, in their order."""
        places = index.tolist()
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name, column in columns.items():
            columns[name] = (
                list(map(column.__getitem__, places)) if isinstance(column, list) else column[index]
            )
        return RowBatch(**columns)

    def exchanged(self, out: Ints, few: RowBatch, before: Ints) -> RowBatch:
        """These rows without a few (O,), and with a few others between them.

        Args:
            out: the places of those that go, ascending.
            few, before: each of these rows (F,) comes before the row at its place here, ascending.
        """
        at = before - np.searchsorted(out, before)  # once those are gone
        gone, inserted = out[::-1].tolist(), at[::-1].tolist()
        places = np.arange(len(self) + len(few))
        taken = np.insert(np.delete(places[: len(self)], out), at, places[len(self) :])
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name, column in columns.items():
            added = getattr(few, name)
            if isinstance(column, list) and len(gone) + len(inserted) > FEW * len(self):
                columns[name] = list(map([*column, *added].__getitem__, taken.tolist()))
            elif isinstance(column, list):  # few places move: faster than to take all
                columns[name] = column = column.copy()
                for place in gone:
                    del column[place]
                for place, each in zip(inserted, reversed(added), strict=True):
                    column.insert(place, each)
            else:
                columns[name] = np.concatenate([column, added])[taken]
        return RowBatch(**columns)

    @staticmethod
    def of(released: Sequence[ReleasedRow], slots: Mapping[str, int], sensors: int) -> RowBatch:
        """The columns of rows that were released one by one; ``slots`` has their assets' slots."""
        n = len(released)
        assets = [row.asset for row in released]
        return RowBatch(
            assets,
            np.fromiter(map(slots.__getitem__, assets), np.int64, n),
            np.fromiter([row.row for row in released], np.int64, n),
            np.array([row.values for row in released], np.float64).reshape(n, sensors),
            np.fromiter([row.empty for row in released], bool, n),
            np.fromiter([row.fresh for row in released], bool, n),
            np.fromiter([row.offset for row in released], np.int64, n),
            np.fromiter([row.last_offset for row in released], np.int64, n),
            [row.condition for row in released],
        )

    @staticmethod
    def joined(parts: Sequence[RowBatch]) -> RowBatch:
        """The batches one after the other, as one."""
        if len(parts) == 1:
            return parts[0]
        columns: dict[str, Any] = {
            name: [getattr(part, name) for part in parts] for name in RowBatch.__slots__
        }
        for name, column in columns.items():
            listed = isinstance(column[0], list)
            columns[name] = list(chain.from_iterable(column)) if listed else np.concatenate(column)
        return RowBatch(**columns)


class RowQueue:
    """Released rows on their way to the windows, oldest first.

    An operation costs as much as the rows that it returns, never as much as all rows in the queue: it is
    used after every reading, and one poll may release very many rows.

    Args:
        sensors: C.

    Rows are numbered from the first that was ever added: ``begin`` is the number of the oldest row in the
    queue, ``end`` that of the next one to be added. ``observed`` counts the rows in the queue that have
    readings.
    """

    def __init__(self, sensors: int) -> None:
        self._sensors = sensors
        self._row_batches: deque[RowBatch] = deque()
        self._taken = 0  # rows of the first batch that were taken
        self._single_rows: list[ReleasedRow] = []  # after the batches
        self.begin = self.end = 0
        self.observed = 0

    def __len__(self) -> int:
        return self.end - self.begin

    def add(self, released: Sequence[ReleasedRow]) -> None:
        """Append rows that were released one by one."""
        self._single_rows += released
        self.end += len(released)
        self.observed += sum(not row.empty for row in released)

    def append(self, rows: RowBatch, slots: Mapping[str, int]) -> None:
        """Append a batch of rows; ``slots`` are those of the assets of rows that were added before."""
        self.gather(slots)
        if len(rows):
            self._row_batches.append(rows)
            self.end += len(rows)
            self.observed += len(rows) - int(rows.empty.sum())

    def gather(self, slots: Mapping[str, int]) -> None:
        """Turn the rows that were added one by one into a batch; their assets have these slots."""
        if self._single_rows:
            self._row_batches.append(RowBatch.of(self._single_rows, slots, self._sensors))
            self._single_rows.clear()

    def first(self, most: int) -> RowBatch:
        """The oldest rows, at most ``most``; they stay in the queue until ``take``. ``gather`` must come before."""
        parts, wanted, skipped = [], min(most, len(self)), self._taken
        for batch in self._row_batches:
            if wanted <= 0:
                break
            part = batch[skipped : skipped + wanted] if skipped or wanted < len(batch) else batch
            parts.append(part)
            wanted, skipped = wanted - len(part), 0
        return RowBatch.joined(parts)

    def take(self, rows: RowBatch) -> RowBatch:
        """Remove the oldest rows, which ``first`` returned (or some of them), from the queue."""
        self.begin += len(rows)
        self.observed -= len(rows) - int(rows.empty.sum())
        self._taken += len(rows)
        while self._row_batches and self._taken >= len(self._row_batches[0]):
            self._taken -= len(self._row_batches.popleft())
        return rows


@dataclass(frozen=True, slots=True, eq=False)
class ReadingBatch:
    """Readings as columns: each of all sensors, of some of them (``reported``), or of a single one (``sensors``)."""

    assets: list[str]
    times: Ints  # (B,)
    offsets: Ints
    values: Floats  # (B, C); with ``sensors`` (B,)
    conditions: list[str]
    stamps: Ints  # (B,) the records' own times, -1 for none
    sensors: Ints | None = None  # (B,) the sensor of each
    reported: list[int] | None = None  # see ``Reading``; None: each is of all sensors
    counted: Mask | None = None  # (B,) see ``Reading``; None: each counts
    odd: Mapping[int, OddCells] = field(default_factory=dict)
    """By index, ``Reading.corrupt`` and ``Reading.displaced`` of those that have any."""
    every: int = -1  # the set of all sensors, as ``Reading.reported`` has it

    def __len__(self) -> int:
        return len(self.assets)

    def count(self, which: Ints) -> int:
        """How many of these readings are counted as what became of their records."""
        return len(which) if self.counted is None else int(self.counted[which].sum())

    def reading(self, i: int) -> Reading:
        """The reading at one index, as an object."""
        single = self.sensors is not None
        return Reading(
            int(self.offsets[i]),
            self.assets[i],
            int(self.times[i]),
            # The collector does not look into a tuple of numbers.
            None if single else tuple(self.values[i].tolist()),
            -1 if self.sensors is None else int(self.sensors[i]),
            float(self.values[i]) if single else NAN,
            self.conditions[i],
            int(self.stamps[i]),
            self.every if self.reported is None else self.reported[i],
            True if self.counted is None else bool(self.counted[i]),
            *self.odd.get(i, ()),
        )

    def parts(self, slots: Ints, begin: int, end: int, period_ns: int) -> PartBatch:
        """The cells of the readings from ``begin`` to ``end``, whose assets have these slots."""
        times, values = self.times[begin:end], self.values[begin:end]
        if self.sensors is not None:
            places, sensors = np.arange(end - begin), self.sensors[begin:end]
        elif self.reported is None:
            width = values.shape[1]
            places, sensors = np.divmod(np.arange(values.size), width)
            return PartBatch(
                slots,
                times // period_ns,
                times,
                self.offsets[begin:end],
                places,
                sensors,
                values.reshape(-1),
                width,
            )
        else:
            mask = bit_rows(self.reported[begin:end], values.shape[1])
            places, sensors = np.nonzero(mask)
            values = values[mask]
        return PartBatch(slots, times // period_ns, times, self.offsets[begin:end], places, sensors, values)

    @staticmethod
    def of(readings: Sequence[Reading], sensors: int) -> ReadingBatch:
        """The columns of readings that all have ``values``, or all a ``sensor``."""
        n = len(readings)
        single = n > 0 and readings[0].values is None
        values = [reading.value if single else reading.values for reading in readings]
        reported = [reading.reported for reading in readings]
        counted = [reading.counted for reading in readings]
        return ReadingBatch(
            [reading.asset for reading in readings],
            np.fromiter([reading.time_ns for reading in readings], np.int64, n),
            np.fromiter([reading.offset for reading in readings], np.int64, n),
            np.array(values, np.float64).reshape((n,) if single else (n, sensors)),
            [reading.condition for reading in readings],
            np.fromiter([reading.stamp_ns for reading in readings], np.int64, n),
            np.fromiter([reading.sensor for reading in readings], np.int64, n) if single else None,
            None if reported.count(-1) == n else reported,
            None if all(counted) else np.array(counted),
            {
                i: (each.corrupt, each.displaced)
                for i, each in enumerate(readings)
                if each.corrupt or each.displaced
            },
        )


def bit_rows(sets: Sequence[int], width: int) -> Mask:
    """(B, ``width``) sets of bits as rows of a mask; -1 is the set of all."""
    every, size = (1 << width) - 1, (width + 7) // 8
    packed = b"".join([(bits & every).to_bytes(size, "little") for bits in sets])
    rows = np.unpackbits(np.frombuffer(packed, np.uint8).reshape(len(sets), size), 1, width, "little")
    return rows.astype(bool)


class ReadingBatchBuilder:
    """Collects decoded readings into a ``ReadingBatch``.

    Args:
        sensors: C.
        long: whether each reading is of a single sensor.
        mapped: whether readings may be of some sensors, and a record have several.
    """

    def __init__(self, sensors: int, *, long: bool = False, mapped: bool = False) -> None:
        self._shape = (-1,) if long else (-1, sensors)
        self._long, self._mapped = long, mapped
        self._reported: list[int] = []
        self._counted: list[bool] = []
        self._assets: list[str] = []
        self._conditions: list[str] = []
        self._sensors: list[int] = []
        self._columns: list[tuple[Ints, Ints, Ints, Floats]] = []  # times, offsets, stamps, values
        self._single: list[tuple[int, int, int, Any]] = []  # after these
        self._odd: dict[int, OddCells] = {}

    def add(self, reading: Reading) -> None:
        """Append one reading."""
        assert (reading.values is None) is self._long
        if reading.corrupt or reading.displaced:
            self._odd[len(self._assets)] = reading.corrupt, reading.displaced
        self._assets.append(reading.asset)
        self._conditions.append(reading.condition)
        if self._long:
            self._sensors.append(reading.sensor)
        if self._mapped:
            self._reported.append(reading.reported)
            self._counted.append(reading.counted)
        value = reading.value if self._long else reading.values
        self._single.append((reading.time_ns, reading.offset, reading.stamp_ns, value))

    def extend(self, piece: Piece, first: int, end: int, offsets: Ints, stamps: Ints) -> None:
        """Append a run of a piece's readings, which came in records with these offsets and times."""
        self._gather()
        self._assets += piece.assets[first:end]
        self._conditions += piece.conditions[first:end]
        self._sensors += piece.sensors[first:end]
        self._columns.append((piece.times[first:end], offsets, stamps, piece.values[first:end]))

    def extend_mapped(self, piece: MappedPiece, first: int, end: int, offsets: Ints, stamps: Ints) -> None:
        """The same of a piece of mapped messages; ``offsets`` and ``stamps``: of the readings' records."""
        self._gather()
        self._assets += piece.assets[first:end]
        self._conditions += piece.conditions[first:end]
        self._reported += piece.reported[first:end]
        self._counted += piece.counted[first:end].tolist()
        if piece.corrupt:
            begin = len(self._counted) - end
            self._odd |= {begin + i: (cells, ()) for i, cells in piece.corrupt.items() if first <= i < end}
        self._columns.append((piece.times[first:end], offsets, stamps, piece.values[first:end]))

    def build(self) -> ReadingBatch:
        """The batch of all readings so far."""
        self._gather()
        none = np.empty(0, np.int64)
        columns = self._columns or [(none, none, none, np.empty((0, *self._shape[1:])))]
        times, offsets, stamps, values = map(np.concatenate, zip(*columns, strict=True))
        sensors = np.array(self._sensors, np.int64) if self._long else None
        batch = ReadingBatch(
            self._assets, times, offsets, values, self._conditions, stamps, sensors, odd=self._odd
        )
        if not self._mapped:
            return batch
        every = (1 << values.shape[1]) - 1
        some = self._reported.count(every) < len(times)
        counted = None if all(self._counted) else np.array(self._counted)
        return replace(batch, reported=self._reported if some else None, counted=counted, every=every)

    def _gather(self) -> None:
        if self._single:
            times, offsets, stamps, values = zip(*self._single, strict=True)
            made = np.array(values, np.float64).reshape(self._shape)
            self._columns.append((np.array(times), np.array(offsets), np.array(stamps), made))
            self._single.clear()
