"""The accounts of one partition: what became of every record, and of every cell.

**Records.** Read = accepted + duplicate + late + rejected + skipped; rejected ones by reason, skipped ones by
rule. Of a record with several readings the one of the newest time counts. Items of an accepted record that
could not be used are counted beside it, by reason, and so is a reading of it that was refused; and so are items
that a rule skips.

**Cells.** A cell is what a reading has for one sensor: of a whole record one per sensor of the stream, be it
absent; of a record that is a part of a row, one per sensor that it reports. A value of a sensor that the
stream does not list is a cell, too. A record that cannot be decoded, a refused item and a skipped record have
no readings and thus no cells, but for the values of unknown sensors found in them. Each cell has one state:

    unknown     the stream does not list its sensor, whatever became of its record
    rejected    the reading's event time was refused after it had waited for a second one
    late        its row was closed when it came
    duplicate   it repeats what is known
    corrupt     it stands for no number (``extract.numbers.FAULTS``); counted by sensor and fault
    conflict    it is a number, and another number for the same sensor and row came before it
    missing     there is none: absent, null, a word for it, a sentinel, or of bad quality
    observed    the rest: numbers that went into rows

so that read = observed + missing + corrupt + unknown + conflict + duplicate + late + rejected. Where each
record is a whole row its cells share its fate: of N accepted records of C sensors,
N * C = observed + missing + corrupt + conflict.

Records that are replayed after a restart were counted by the process that read them first, and are not
counted again. No count depends on how the records were polled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import eq
from typing import Protocol

import msgspec

from daemon.domain import BAD_QUALITY, Disposition, Reading, StreamSpec

Fault = tuple[str, str]
"""A sensor, and one of ``extract.numbers.FAULTS``."""
OddCells = tuple[Sequence[tuple[int, str]], Sequence[tuple[str, int, str]]]
"""``Reading.corrupt`` and ``Reading.displaced``."""


class CellState(StrEnum):
    """What became of a cell of a reading: exactly one of these (see above)."""

    OBSERVED = "observed"
    MISSING = "missing"  # absent, null, a word for no value, or of bad quality
    CORRUPT = "corrupt"  # it stands for no number
    UNKNOWN = "unknown"  # of a sensor that the stream does not list
    CONFLICT = "conflict"  # a number that another one for the same sensor and row forestalled
    DUPLICATE = "duplicate"
    LATE = "late"
    REJECTED = "rejected"


class CellFates(msgspec.Struct):
    """Which cells of a reading did not go into a row; bit c: that of sensor c."""

    late: int = 0
    repeated: int = 0
    conflicting: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """The accounts at one moment, or what was added to them between two."""

    records: Counter[Disposition] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # of rejected records
    skipped: Counter[str] = field(default_factory=Counter)  # records, by rule
    refused_items: Counter[str] = field(default_factory=Counter)  # of accepted records, by reason
    cells: Counter[CellState] = field(default_factory=Counter)
    corrupt: Counter[Fault] = field(default_factory=Counter)  # cells
    skipped_items: Counter[str] = field(default_factory=Counter)  # of records with others, by rule

    def __bool__(self) -> bool:
        """Whether anything was counted."""
        return any(getattr(self, name) for name in self.__slots__)

    def __sub__(self, before: Counts) -> Counts:
        return Counts(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


class CountingDecoder(Protocol):
    """What is counted while records are decoded; see ``decoding.Decoder``."""

    @property
    def unknown_cells(self) -> int: ...

    @property
    def refused_items(self) -> Counter[str]: ...

    @property
    def skipped_items(self) -> Counter[str]: ...


@dataclass(frozen=True, slots=True)
class DecoderTotals:
    """What a decoder has counted by now."""

    unknown: int
    refused_items: Counter[str]
    skipped_items: Counter[str]

    @staticmethod
    def of(decoder: CountingDecoder) -> DecoderTotals:
        """A copy of its totals."""
        return DecoderTotals(
            decoder.unknown_cells, decoder.refused_items.copy(), decoder.skipped_items.copy()
        )


class Accounts:
    """Counts what becomes of the records and cells of one partition.

    Args:
        spec: the stream.

    Attributes:
        records, reasons, skipped, refused_items, skipped_items: see ``Counts``.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self.records: Counter[Disposition] = Counter()
        self.reasons: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.refused_items: Counter[str] = Counter()
        self.skipped_items: Counter[str] = Counter()
        self._sensors = spec.sensors
        self._all = (1 << len(spec.sensors)) - 1
        self._gathers = spec.gathers
        # Plain numbers: a hash of an enumeration's member costs more than all else that is done for a cell.
        self._observed = self._missing = self._corrupt = self._unknown = 0
        self._conflict = self._duplicate = self._late = self._rejected = 0
        self._faults: Counter[Fault] = Counter()

    def counts(self) -> Counts:
        """A copy of all counts as they are now."""
        cells = {
            CellState.OBSERVED: self._observed,
            CellState.MISSING: self._missing,
            CellState.CORRUPT: self._corrupt,
            CellState.UNKNOWN: self._unknown,
            CellState.CONFLICT: self._conflict,
            CellState.DUPLICATE: self._duplicate,
            CellState.LATE: self._late,
            CellState.REJECTED: self._rejected,
        }
        return Counts(
            self.records.copy(),
            self.reasons.copy(),
            self.skipped.copy(),
            self.refused_items.copy(),
            Counter(cells),
            self._faults.copy(),
            self.skipped_items.copy(),
        )

    # -------------------------------------------------------------- records
    def skip(self, rule: str) -> None:
        """A rule of the stream's mapping skips a record."""
        self.records[Disposition.SKIPPED] += 1
        self.skipped[rule] += 1

    def reject(self, reason: str, *, counted: bool = True) -> None:
        """A record is rejected, or a reading that does not count as what became of its record."""
        if counted:
            self.records[Disposition.REJECTED] += 1
            self.reasons[reason] += 1
        else:
            self.refused_items[reason] += 1

    def decoded(self, before: DecoderTotals, after: DecoderTotals) -> None:
        """Records of this partition were decoded: the totals of the decoder, which all partitions share."""
        self._unknown += after.unknown - before.unknown
        self.refused_items += after.refused_items - before.refused_items
        self.skipped_items += after.skipped_items - before.skipped_items

    # -------------------------------------------------------------- cells
    def accept(self, readings: int, cells: int, numbers: int, odd: Iterable[OddCells]) -> None:
        """Readings were accepted together, and all of their cells are new.

        Args:
            readings: how many of them count as what became of their records.
            cells, numbers: of all of them, and how many of the cells are numbers.
            odd: of those that have any.
        """
        self.records[Disposition.ACCEPTED] += readings
        self._observed += numbers
        self._missing += cells - numbers
        for cells_without, displaced in odd:
            corrupt = [cell for cell in cells_without if cell[1] != BAD_QUALITY]
            self._missing -= len(corrupt)
            self._corrupt += len(corrupt)
            self._faults.update((self._sensors[c], fault) for c, fault in corrupt)
            self._count_displaced(displaced, 1)

    def take(self, reading: Reading, disposition: Disposition, fates: CellFates) -> None:
        """One reading was put on the grid, or could not be."""
        self.records[disposition] += reading.counted
        plain = not (
            fates.late or fates.repeated or fates.conflicting or reading.corrupt or reading.displaced
        )
        if (
            plain and reading.values is None and reading.value == reading.value
        ):  # nearly every one of json-long
            self._observed += 1
        elif plain and reading.values is not None and not self._gathers:
            numbers = sum(map(eq, reading.values, reading.values))  # NaN is not equal to itself
            self._observed += numbers
            self._missing += len(reading.values) - numbers
        else:
            self._count(reading, fates, 1)

    def refuse(self, reading: Reading) -> None:
        """A reading that waited was refused; its record is rejected by ``reject``."""
        self._rejected += sum(self._tally(reading, CellFates())) + len(reading.displaced)

    def retract(self, reading: Reading, disposition: Disposition, fates: CellFates) -> None:
        """A reading that was taken is removed from the grid again."""
        self.records[disposition] -= reading.counted
        self._count(reading, fates, -1)

    def _count(self, reading: Reading, fates: CellFates, sign: int) -> None:
        observed, missing, corrupt, conflict, duplicate, late = self._tally(reading, fates)
        self._observed += sign * observed
        self._missing += sign * missing
        self._corrupt += sign * corrupt
        self._conflict += sign * conflict
        self._duplicate += sign * duplicate
        self._late += sign * late
        for c, fault in reading.corrupt:
            if fault != BAD_QUALITY and not (fates.late | fates.repeated) >> c & 1:
                self._faults[self._sensors[c], fault] += sign
        self._count_displaced(reading.displaced, sign)

    def _count_displaced(self, displaced: Sequence[tuple[str, int, str]], sign: int) -> None:
        for state, c, fault in displaced:
            if state == CellState.CORRUPT:
                self._corrupt += sign
                self._faults[self._sensors[c], fault] += sign
            elif state == CellState.MISSING:
                self._missing += sign
            elif state == CellState.CONFLICT:
                self._conflict += sign
            else:
                self._duplicate += sign

    def _tally(self, reading: Reading, fates: CellFates) -> tuple[int, int, int, int, int, int]:
        """Its cells that are observed, missing, corrupt, in conflict, duplicate and late, without displaced ones."""
        numbers = corrupt = 0
        if reading.values is None:
            cells = 1 << reading.sensor
            numbers = cells if reading.value == reading.value else 0
        else:
            cells = reading.reported & self._all if self._gathers else self._all
            for c, value in enumerate(reading.values):
                if value == value:
                    numbers |= 1 << c
            numbers &= cells
        for c, fault in reading.corrupt:
            if fault != BAD_QUALITY:
                corrupt |= 1 << c
        repeated = fates.repeated & cells
        late = fates.late & cells & ~repeated
        taken = cells & ~repeated & ~late
        conflict = numbers & taken & fates.conflicting
        observed = numbers & taken & ~conflict
        missing = taken & ~numbers & ~corrupt
        return (
            observed.bit_count(),
            missing.bit_count(),
            (corrupt & taken).bit_count(),
            conflict.bit_count(),
            repeated.bit_count(),
            late.bit_count(),
        )


def displace(reading: Reading, sensor: int, number: float, fault: str = "") -> None:
    """Account for a cell that a record gives again, for a sensor that its reading reports already.

    The last number counts. One before it is a duplicate if it is equal, and else in conflict.

    Args:
        reading: with ``values``; changed.
        sensor: the place of the cell.
        number: NaN for none.
        fault: why there is none, if the cell is corrupt.
    """
    assert isinstance(reading.values, list)
    before = reading.values[sensor]
    if number != number:
        state = CellState.CORRUPT if fault else CellState.MISSING
    else:
        reading.values[sensor] = number
        if before == before:
            state = CellState.DUPLICATE if before == number else CellState.CONFLICT
        else:
            fault = next((known for c, known in reading.corrupt if c == sensor), "")
            state = CellState.CORRUPT if fault not in ("", BAD_QUALITY) else CellState.MISSING
            reading.corrupt = [cell for cell in reading.corrupt if cell[0] != sensor]
    reading.displaced = [*reading.displaced, (state, sensor, fault)]
