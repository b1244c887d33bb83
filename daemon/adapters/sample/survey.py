"""What one way of reading finds in a sample of records: every value, what is refused and why, what is skipped.

In: records and a ``Candidate`` (a format with the keys of ``input`` over it). Out: a ``Survey``, its cells as
columns. The extraction is the decoder's own (``Decoder.survey``), so that what is found here is what the stream
will find; a time that the decoder would refuse is refused here too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from daemon.config.presets import CUSTOM, mapping_of
from daemon.domain import FieldNames, Floats, Format, Ints, Mask, Reason, Record, StreamSpec
from daemon.mapping import Assembly, InputMapping
from daemon.stream.decoding import Decoder
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.rejection import RejectedError, SkippedError, shown
from daemon.stream.time_range import check_time

MOST_CELLS: Final = 200_000
"""Cells that a survey keeps: of larger messages fewer records are looked at."""
TEXTS_KEPT: Final = 64
"""Distinct texts that are kept of a sensor."""
_DETAILS_KEPT: Final = 64


@dataclass(frozen=True, eq=False)
class Candidate:
    """A way to read messages, as the configuration would say it.

    ``format`` and ``fields`` stand for json-wide and json-long, which need no ``input``; else ``format`` is a preset
    or ``custom``, and ``input`` has the keys over it. ``reasons`` says of some keys of ``input`` why they are so.
    """

    format: str
    input: Mapping[str, Any] = field(default_factory=dict)
    fields: FieldNames | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def mapping(self) -> InputMapping:
        """The mapping; of json-wide and json-long the one that says the same.

        Raises:
            ValueError: it is wrong.
        """
        if self.fields is not None:
            return mapping_of(CUSTOM, mapping_of_fields(Format(self.format), self.fields))
        return mapping_of(self.format, self.input)

    @property
    def fitted(self) -> bool:
        """Whether it was made for a sample."""
        return self.format == CUSTOM or self.fields is not None

    @property
    def untold(self) -> bool:
        """Whether no format has its name: all of it is in ``input``."""
        return self.format == CUSTOM

    @cached_property
    def own(self) -> InputMapping:
        """The mapping with the preset's own places of asset and time, whatever is put over these."""
        if self.fitted:
            return self.mapping
        return mapping_of(self.format, {k: v for k, v in self.input.items() if k not in ("asset", "time")})

    @property
    def rank(self) -> int:
        """Which comes first of candidates that do the same: the fastest, then what is shortest to write."""
        if self.fields is not None:
            return 3
        return 0 if self.format == CUSTOM else 1 if self.input else 2

    @property
    def shown(self) -> str:
        """Its name for the operator."""
        return "a mapping of its own" if self.format == CUSTOM else f"format {self.format}"


def mapping_of_fields(format: Format, fields: FieldNames) -> dict[str, Any]:
    """The ``input`` that says what json-wide or json-long with these names of fields says."""
    document: dict[str, Any] = {"asset": _place(fields.asset), "time": _place(fields.timestamp)}
    if format is Format.JSON_WIDE:
        return document | {"leaves": {"under": path_text([fields.values])}, "rows": Assembly.WHOLE.value}
    return document | {
        "sensor": _place(fields.sensor),
        "value": path_text([fields.value]),
        "rows": Assembly.GATHER.value,
    }


def _place(name: str) -> str:
    return name if name.startswith("$") else path_text([name])


def path_text(names: Sequence[str]) -> str:
    """Names of fields as a path of the mapping language."""
    return ".".join(map(_segment, names)) or "."


def _segment(name: str) -> str:
    plain = name and name == name.strip() and not any(c in '.[]"*^\\' for c in name) and name[0] != "$"
    if plain:
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(slots=True)
class Refusal:
    """Records, or items of records, that cannot be used for one reason."""

    count: int
    details: Counter[str]
    example: bytes  # the first such record
    parts: int = 0  # of the count, items of records that have others

    @property
    def detail(self) -> str:
        """The commonest detail."""
        return self.details.most_common(1)[0][0]


@dataclass(eq=False)
class Survey:
    """What a candidate finds. N cells, in the order of the records.

    ``numbers`` is NaN where a cell has no number, ``corrupt`` marks those that hold something all the same.
    """

    candidate: Candidate
    records: int  # looked at
    read: int  # with at least one number or missing value
    skipped: Counter[str]
    refused: dict[Reason, Refusal]
    assets: tuple[str, ...]
    sensors: tuple[str, ...]
    record: Ints  # (N,) index of the record
    asset: Ints  # (N,) index into assets
    sensor: Ints  # (N,)
    time_ns: Ints  # (N,)
    numbers: Floats  # (N,)
    corrupt: Mask  # (N,)
    untrusted: int  # cells whose quality is bad
    zoneless: int  # texts of times that named no zone
    kinds: Mapping[str, Counter[str]]  # sensor -> JSON kinds of its cells
    texts: Mapping[str, Counter[str]]  # sensor -> its texts that are no numbers
    faults: Mapping[str, Counter[str]] = field(default_factory=dict)  # sensor -> why cells are no numbers
    examples: Mapping[tuple[str, str], str] = field(default_factory=dict)  # a cell of each sensor and fault
    units: Mapping[str, Counter[str]] = field(default_factory=dict)  # sensor -> the units of its cells

    @cached_property
    def share(self) -> float:
        """Of the records that are not skipped, the share that is read."""
        counted = self.records - sum(self.skipped.values())
        return self.read / counted if counted else 0.0

    @cached_property
    def found(self) -> int:
        """Cells with a number."""
        return int(np.isfinite(self.numbers).sum())

    @cached_property
    def repeated(self) -> float:
        """The share of numbers whose asset, sensor and time an earlier one of another record had."""
        there = np.isfinite(self.numbers)
        if not there.any():
            return 0.0
        keys = np.stack([self.asset[there], self.sensor[there], self.time_ns[there], self.record[there]])
        keys = np.unique(keys, axis=1)
        return 1 - float(np.unique(keys[:3], axis=1).shape[1] / keys.shape[1])

    @cached_property
    def contradicting(self) -> int:
        """Numbers that differ from the first of their asset, sensor and time."""
        there = np.flatnonzero(np.isfinite(self.numbers))
        order = there[np.lexsort((there, self.time_ns[there], self.sensor[there], self.asset[there]))]
        keys = np.stack([self.asset[order], self.sensor[order], self.time_ns[order]])
        begins = np.ones(len(order), bool)
        begins[1:] = (np.diff(keys, axis=1) != 0).any(axis=0)
        first = order[np.flatnonzero(begins)[np.cumsum(begins) - 1]]
        return int((self.numbers[order] != self.numbers[first]).sum())

    @cached_property
    def varies(self) -> bool:
        """Whether any sensor has two different numbers, or few numbers at all."""
        there = np.isfinite(self.numbers)
        pairs = np.unique(np.stack([self.sensor[there], self.numbers[there]]), axis=1)
        return bool(pairs.shape[1] > len(np.unique(self.sensor[there])) or there.sum() < 20)

    @cached_property
    def in_parts(self) -> bool:
        """Whether rows come in several records: they share asset and time, or have a part of the sensors each."""
        there = np.isfinite(self.numbers)
        if not there.any():
            return False
        keys = np.stack([self.asset[there], self.time_ns[there], self.record[there]])
        sent, rows = np.unique(keys, axis=1).shape[1], np.unique(keys[:2], axis=1).shape[1]
        cells = np.unique(np.stack([self.sensor[there], *keys]), axis=1)
        counts = Counter(cells[0].tolist())
        return rows < 0.95 * sent or comes_in_parts(counts, sent)

    @cached_property
    def split_rows(self) -> bool:
        """Whether records bring sensors for an asset and time that the first record of these did not have."""
        there = np.flatnonzero(np.isfinite(self.numbers))
        order = there[np.lexsort((self.record[there], self.time_ns[there], self.asset[there]))]
        keys = np.stack([self.asset[order], self.time_ns[order]])
        begins = np.ones(len(order), bool)
        begins[1:] = (np.diff(keys, axis=1) != 0).any(axis=0)
        row = np.cumsum(begins) - 1
        first = self.record[order] == self.record[order][np.flatnonzero(begins)[row]]
        cells = np.stack([row, self.sensor[order]])
        return bool(np.unique(cells, axis=1).shape[1] > np.unique(cells[:, first], axis=1).shape[1])

    @cached_property
    def scattered(self) -> bool:
        """Whether hardly an asset comes twice, as where the number of a message was taken for an asset."""
        pairs = np.unique(np.stack([self.asset, self.time_ns]), axis=1).shape[1]
        return pairs >= 10 and 2 * len(self.assets) > pairs and len(np.unique(self.time_ns)) > 2


def comes_in_parts(counts: Mapping[int, int], sent: int) -> bool:
    """Whether messages have a part of the sensors each; sensors that come hardly ever say nothing of that.

    Args:
        counts: of each sensor, the messages that have it.
        sent: messages.
    """
    usual = [count for count in counts.values() if count >= 0.1 * sent]
    return not usual or sum(usual) < 0.7 * sent * len(usual)


def survey(candidate: Candidate, records: Sequence[Record], timezone: str | None = None) -> Survey:
    """Read the records as the candidate says.

    Raises:
        ValueError, ConfigError: the mapping is wrong, or its decoder is not there.
    """
    spec = StreamSpec("sample", ("sensor",), format=Format.MAPPED, input=candidate.mapping, timezone=timezone)
    return survey_with(Decoder(spec), candidate, records)


def survey_with(decoder: Decoder, candidate: Candidate, records: Sequence[Record]) -> Survey:
    """``survey`` by a decoder that exists."""
    assets: dict[str, int] = {}
    sensors: dict[str, int] = {}
    rows: list[int] = []  # record, asset, sensor and time of each cell
    numbers: list[float] = []
    corrupt: list[bool] = []
    kinds: dict[str, Counter[str]] = {}
    plain: dict[str, int] = {}  # finite numbers, which need no look
    odd = _OddCells()
    units: dict[str, Counter[str]] = {}
    skipped: Counter[str] = Counter()
    refused: dict[Reason, Refusal] = {}
    read = untrusted = looked = 0
    for at, record in enumerate(records):
        if len(numbers) > MOST_CELLS:
            break
        looked += 1
        try:
            cells, faults = decoder.survey(record)
        except SkippedError as error:
            skipped[error.rule] += 1
            continue
        except RejectedError as error:
            _refuse(refused, error, record)
            continue
        for fault in faults:
            _refuse(refused, fault, record)
            refused[fault.reason].parts += bool(cells)
        usable = False
        for cell in cells:
            try:
                check_time(cell.time_ns, record)
            except RejectedError as error:
                _refuse(refused, error, record)
                continue
            asset, time_ns, sensor, found, trusted, unit = cell
            if type(unit) is str and unit:
                units.setdefault(sensor, Counter())[unit[:64]] += 1
            rows += (
                at,
                assets.setdefault(asset, len(assets)),
                sensors.setdefault(sensor, len(sensors)),
                time_ns,
            )
            if type(found) is float and found - found == 0.0:
                plain[sensor] = plain.get(sensor, 0) + 1
                value, wrong = found, False
            else:
                value, wrong = _number(found, sensor, kinds, odd)
            untrusted += not trusted
            numbers.append(value if trusted else float("nan"))
            corrupt.append(wrong)
            usable = usable or not wrong
        read += usable
    for sensor, count in plain.items():
        kinds.setdefault(sensor, Counter())["number"] += count
    columns = np.array(rows, np.int64).reshape(-1, 4)
    return Survey(
        candidate,
        looked,
        read,
        skipped,
        refused,
        tuple(assets),
        tuple(sensors),
        columns[:, 0],
        columns[:, 1],
        columns[:, 2],
        columns[:, 3],
        np.array(numbers, np.float64),
        np.array(corrupt, bool),
        untrusted,
        decoder.zoneless,
        kinds,
        odd.texts,
        odd.faults,
        odd.examples,
        units,
    )


_KINDS: Final = {bool: "boolean", int: "number", float: "number", str: "text", list: "array", dict: "object"}


class _OddCells:
    """Cells that are no numbers, by sensor."""

    def __init__(self) -> None:
        self.texts: dict[str, Counter[str]] = {}
        self.faults: dict[str, Counter[str]] = {}
        self.examples: dict[tuple[str, str], str] = {}

    def add(self, sensor: str, fault: str, value: Any) -> None:
        self.faults.setdefault(sensor, Counter())[fault] += 1
        if (sensor, fault) not in self.examples:
            self.examples[sensor, fault] = shown(value)
        if isinstance(value, str):
            known = self.texts.setdefault(sensor, Counter())
            if value in known or len(known) < TEXTS_KEPT:
                known[value[:64]] += 1


def _number(value: Any, sensor: str, kinds: dict[str, Counter[str]], odd: _OddCells) -> tuple[float, bool]:
    """The number of a cell, NaN where there is none; and whether the cell is corrupt."""
    kind = _KINDS.get(type(value), "null")
    if (seen := kinds.get(sensor)) is None:
        seen = kinds[sensor] = Counter()
    seen[kind] += 1
    try:
        return number_of(value), False
    except NotANumberError as error:
        odd.add(sensor, error.fault, value)
        return float("nan"), True


def _refuse(refused: dict[Reason, Refusal], error: RejectedError, record: Record) -> None:
    found = refused.get(error.reason)
    if found is None:
        found = refused[error.reason] = Refusal(0, Counter(), record.value[:4096])
    found.count += 1
    if error.detail in found.details or len(found.details) < _DETAILS_KEPT:
        found.details[error.detail] += 1
