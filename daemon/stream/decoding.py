"""Bytes to readings: the front of the first two layers, decode and extract.

There are two ways. A message of the formats json-wide and json-long is parsed by ``messages`` into a struct, its
fields are read by ``timestamps`` and ``fields``, its values here. Any other message goes through ``decode`` (bytes
to a tree) and ``extract`` (a tree to readings), as the stream's mapping says. Decoding never raises: whatever
bytes arrive become readings, a ``Skipped``, or a ``Rejected`` whose reason is from a small fixed set.

Records can be decoded one by one (``decode``, ``decode_all``) or as columns (``decode_batch``, by
``piece_decoding``), which is what a stream does. Results and counters are the same for both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from daemon.assembly import as_received
from daemon.domain import (
    NO_CONDITION,
    RECORD_KEY,
    RECORD_TIMESTAMP,
    Format,
    Reading,
    Reason,
    Record,
    Records,
    Rejected,
    Skipped,
    StreamSpec,
)
from daemon.stream.batches import ReadingBatch, ReadingBatchBuilder
from daemon.stream.decode import Arrival, Births, MessageSchemas, compile_inner, decode_with, has_memory
from daemon.stream.extract import (
    ExtractedCell,
    Extractor,
    MappedColumns,
    may_have_columns,
    most_readings,
)
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.sensor_values import SensorValues
from daemon.stream.fields import FieldRules
from daemon.stream.messages import MessageParser
from daemon.stream.piece_decoding import PieceDecoder
from daemon.stream.rejection import RejectedError, SkippedError, json_kind, shown
from daemon.stream.time_range import check_time

Decoded = Reading | Rejected | Skipped
ASSETS_KEPT: Final = 200_000
"""Asset ids that are remembered as valid: some 30 MB, if ever so many come."""
_AT_ONCE: Final = 256  # records: few enough to stay in the cache
_NAN: Final = float("nan")


class Decoder:
    """Decodes the records of one stream. Pure, but for its counters.

    Args:
        spec: the stream; ``spec.fields`` names where a record keeps what.
        max_bytes: a longer record is rejected unread.
        max_asset_bytes: longest asset id, in UTF-8; also the longest condition value.
        assets_kept: asset ids that are remembered as valid. A record of any other asset is decoded alone,
            which costs twice as much: so they should be as many as there may be assets.
        schemas: those of another decoder of the same messages, which need not be fetched again.

    Attributes:
        corrupt_by_fault: cells that stand for no number, per sensor and fault (``numbers.FAULTS``); null and
            its like are not counted: they are how a producer says that it has no value.
        corrupt_examples: the first such cell of each sensor and fault, as text.
        schemas: of a mapped stream, those that its messages name; the shell fetches them before it decodes.
        batches: whether records can be decoded together.

    Raises:
        ConfigError: if two fields have one name, or a field cannot come from the record.
    """

    def __init__(
        self,
        spec: StreamSpec,
        max_bytes: int = 1 << 20,
        max_asset_bytes: int = 256,
        assets_kept: int = ASSETS_KEPT,
        schemas: MessageSchemas | None = None,
    ) -> None:
        spec = as_received(spec)
        self.corrupt_by_fault: Counter[tuple[str, str]] = Counter()
        self.corrupt_examples: dict[tuple[str, str], str] = {}
        self._corrupt: list[tuple[int, str]] = []  # of the message at hand
        self._spec = spec
        self._sensors = spec.sensors
        self._names = tuple(rule.source or name for name, rule in zip(spec.sensors, spec.rules, strict=True))
        self._known = frozenset(self._names)
        self._states = [rule.states for rule in spec.rules]
        self._values = SensorValues(spec.rules)
        self._wide = spec.format is Format.JSON_WIDE
        self._long = spec.format is Format.JSON_LONG
        self._max_bytes = max_bytes
        self._asset_in_key = spec.fields.asset == RECORD_KEY
        self._sensor_in_key = spec.fields.sensor == RECORD_KEY
        self._time_in_record = spec.fields.timestamp == RECORD_TIMESTAMP
        self._parser = MessageParser(spec)
        self._rules = rules = FieldRules.of(spec, max_asset_bytes, assets_kept)
        self._event_times, self._asset_ids = rules.event_times, rules.asset_ids
        self._sensor_names, self._labels = rules.sensor_names, rules.labels
        self._pieces = PieceDecoder(rules, self._parser) if self._parser.parse_piece is not None else None
        self._refused_items: Counter[str] = Counter()  # none: a typed message has no items
        self._extractor: Extractor | None = None
        self.schemas: MessageSchemas | None = None
        if spec.input is not None:
            inner = spec.input.inner
            self.schemas = schemas or MessageSchemas(spec.input.decode, max_bytes, inner)
            self._tree = decode_with(spec.input.decode, max_bytes, self.schemas.known)
            self._inner = compile_inner(inner, max_bytes, self.schemas.known) if inner else None
            self._extractor = Extractor(rules, self._note_corrupt)
        self._births = self.new_births()
        self.columns: MappedColumns | None = None
        self.batches = self._extractor is None or may_have_columns(spec)

    @property
    def corrupt_cells(self) -> Counter[str]:
        """Cells that stand for no number, per sensor."""
        found: Counter[str] = Counter()
        for (sensor, _), count in self.corrupt_by_fault.items():
            found[sensor] += count
        return found

    @property
    def unknown_sensors(self) -> Counter[str]:
        """Per name, values of sensors that the stream does not list; see ``SensorNames``."""
        return self._sensor_names.unknown

    @property
    def unknown_cells(self) -> int:
        """Values of sensors that the stream does not list."""
        return self._sensor_names.unknown_cells

    @property
    def refused_items(self) -> Counter[str]:
        """Items that could not be used in records that could, by reason."""
        return self._refused_items if self._extractor is None else self._extractor.refused_items

    @property
    def skipped_items(self) -> Counter[str]:
        """Items that a rule has skipped in records with others, by the rule's name."""
        return Counter() if self._extractor is None else self._extractor.skipped_items

    @property
    def converted_units(self) -> dict[tuple[str, str], int]:
        """Numbers that came in another unit than their sensor's and were converted, by sensor and that unit."""
        counts = {} if self._extractor is None else self._extractor.converted
        return {(self._sensors[place], unit): count for (place, unit), count in counts.items()}

    @property
    def zoneless(self) -> int:
        """Texts of event times that named no time zone; see ``EventTimes``."""
        return self._event_times.zoneless

    def decode(self, record: Record) -> Reading | Rejected:
        """The reading of a record of json-wide or json-long, or why it has none. Never raises."""
        found = self._decode_raw(record)
        if isinstance(found, Reading) and not self._values.plain:
            if found.values is None:
                found.value = self._values.apply_one(found.value, found.sensor)
            else:
                values = np.array([found.values], np.float64)
                self._values.apply(values)
                found.values = values[0].tolist()
        return found

    def _decode_raw(self, record: Record) -> Reading | Rejected:
        """The same, with the raw numbers of the message."""
        try:
            return self._decode(record)
        except RejectedError as rejected:
            return Rejected(record, rejected.reason, rejected.detail)

    def new_births(self) -> Births | None:
        """The memory of one partition, for ``decode_all``; None where each record can be understood alone."""
        return Births() if self._spec.input is not None and has_memory(self._spec.input) else None

    def decode_all(self, items: Sequence[Record | Reading], births: Births | None = None) -> list[Decoded]:
        """What is in each record, in order: readings, a rejection or that it is skipped; readings stay as they are.

        Args:
            items: of one partition.
            births: what ``new_births`` gave for the partition; None: what this decoder itself remembers.
        """
        if self._extractor is None:
            return [item if isinstance(item, Reading) else self.decode(item) for item in items]
        found: list[Decoded] = []
        for item in items:
            if isinstance(item, Reading):
                found.append(item)
                continue
            try:
                found += self._extract(self._extractor, item, births or self._births)
            except RejectedError as rejected:
                found.append(Rejected(item, rejected.reason, rejected.detail))
            except SkippedError as skipped:
                found.append(Skipped(item, skipped.rule))
        return found

    def survey(self, record: Record) -> tuple[list[ExtractedCell], list[RejectedError]]:
        """Every cell of a record of a mapped stream, of whatever sensor, and why parts of it cannot be used.

        Raises:
            SkippedError: a rule of the mapping skips the record.
            RejectedError: nothing of it can be used.
        """
        assert self._extractor is not None
        arrival = Arrival(record, [], self._births)
        cells, faults = self._extractor.survey(self._decode_tree(self._extractor, arrival), record)
        return cells, arrival.refused + faults

    def _decode_tree(self, extractor: Extractor, arrival: Arrival) -> Any:
        """The tree of a record, with what is decoded within it."""
        value = arrival.record.value
        if len(value) > self._max_bytes:
            raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes; at most {self._max_bytes}")
        extractor.check_value(value)
        tree = self._tree(value, arrival)
        if self._inner is None:
            return tree
        try:
            return self._inner(tree, arrival)
        except RejectedError:
            extractor.check_skip(tree, arrival.record)  # a message that is skipped may hold whatever it likes
            raise

    def _extract(self, extractor: Extractor, record: Record, births: Births | None) -> list[Reading]:
        """The readings of a record by the stream's mapping, in the order of their times."""
        arrival = Arrival(record, [], births)
        readings = extractor.readings(self._decode_tree(extractor, arrival), record)
        if arrival.refused:
            extractor.refused_items.update(error.reason for error in arrival.refused)
        return readings

    def decode_batch(
        self, items: Sequence[Record | Reading]
    ) -> tuple[ReadingBatch, list[Rejected | Skipped]]:
        """``decode_all`` with the readings as columns: of all sensors, or each of one sensor.

        The usual ones of each piece of ``_AT_ONCE`` records are decoded together, the others alone.
        """
        if self._extractor is not None:
            return self._decode_mapped(items)
        made = ReadingBatchBuilder(len(self._sensors), long=self._long)
        rejected: list[Rejected | Skipped] = []
        at = 0  # the next one of them
        records = columns_of(items) if self._pieces is not None else None
        if self._pieces is not None and records is not None:
            offsets, stamps = records.offsets, records.timestamps_ns
            for begin in range(0, len(items), _AT_ONCE):
                some = slice(begin, begin + _AT_ONCE)
                keys, lines = records.keys[some], records.values[some]
                piece = self._pieces.decode(keys, lines, stamps[some], self._max_bytes)
                for first, end in piece.runs():
                    place = begin + piece.which[first]
                    self._decode_alone(items, at, place, made, rejected)
                    at = place + end - first
                    made.extend(piece, first, end, offsets[place:at], stamps[place:at])
        self._decode_alone(items, at, len(items), made, rejected)
        batch = made.build()
        if batch.sensors is None:
            self._values.apply(batch.values)
        else:
            self._values.apply_each(batch.values, batch.sensors)
        return batch, rejected

    def _decode_mapped(
        self, items: Sequence[Record | Reading]
    ) -> tuple[ReadingBatch, list[Rejected | Skipped]]:
        """``decode_batch`` of a mapped stream."""
        made = ReadingBatchBuilder(len(self._sensors), mapped=True)
        left_out: list[Rejected | Skipped] = []
        records = columns_of(items) if self.batches else None
        if records is None:
            self._read_alone(items, made, left_out)
            return made.build(), left_out
        if self.columns is None:
            self.columns = MappedColumns(self._rules, most_readings(len(self._sensors)))
        offsets, stamps = records.offsets, records.timestamps_ns
        for begin in range(0, len(items), _AT_ONCE):
            some = slice(begin, begin + _AT_ONCE)
            keys, lines = records.keys[some], records.values[some]
            piece = self.columns.decode(keys, lines, stamps[some], self._max_bytes)
            if piece is None:
                self._read_alone(items[some], made, left_out)
                continue
            first = 0
            for record in (*piece.odd(len(lines)), len(lines)):
                end = int(np.searchsorted(piece.records, record))
                if end > first:
                    places = begin + piece.records[first:end]
                    made.extend_mapped(piece, first, end, offsets[places], stamps[places])
                self._read_alone(items[begin + record : begin + min(record + 1, len(lines))], made, left_out)
                first = end
        return made.build(), left_out

    def _read_alone(
        self,
        items: Sequence[Record | Reading],
        made: ReadingBatchBuilder,
        left_out: list[Rejected | Skipped],
    ) -> None:
        """Append the readings of items of a mapped stream to the batch, each read by itself."""
        for found in self.decode_all(items):
            if isinstance(found, Reading):
                made.add(found)
            else:
                left_out.append(found)

    def _decode_alone(
        self,
        items: Sequence[Record | Reading],
        begin: int,
        end: int,
        made: ReadingBatchBuilder,
        rejected: list[Rejected | Skipped],
    ) -> None:
        """Append the raw readings of some of the records to the batch, or to what is rejected."""
        for i in range(begin, end):
            item = items[i]
            found = item if isinstance(item, Reading) else self._decode_raw(item)
            if isinstance(found, Reading):
                made.add(found)
            else:
                rejected.append(found)

    def _decode(self, record: Record) -> Reading:
        value = record.value
        if len(value) > self._max_bytes:
            raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes; at most {self._max_bytes}")
        message, strict = self._parser.parse_any(value)
        asset = self._asset_ids.read(record.key if self._asset_in_key else message.asset)
        time_ns = self._time(record, message)
        self._corrupt.clear()
        if self._wide:
            cells = self._cells(message.values, strict)
            return Reading(
                record.offset,
                asset,
                time_ns,
                cells,
                condition=NO_CONDITION
                if self._labels is None
                else self._labels.label(message.condition, asset),
                stamp_ns=record.timestamp_ns,
                corrupt=tuple(self._corrupt),
            )
        sensor = self._sensor_names.index(record.key if self._sensor_in_key else message.sensor)
        if message.value is msgspec.UNSET:
            raise RejectedError(Reason.NO_VALUES, f"no field {shown(self._spec.fields.value)}")
        return Reading(
            record.offset,
            asset,
            time_ns,
            sensor=sensor,
            value=self._number(message.value, sensor),
            condition=NO_CONDITION if self._labels is None else self._labels.label(message.condition, asset),
            stamp_ns=record.timestamp_ns,
            corrupt=tuple(self._corrupt),
        )

    def _time(self, record: Record, message: Any) -> int:
        """The event time of a message, or of its record; checked against the record's timestamp."""
        if self._time_in_record:
            if record.timestamp_ns < 0:
                raise RejectedError(Reason.NO_TIMESTAMP, "the record has no timestamp")
            found: object = record.timestamp_ns
            time_ns = record.timestamp_ns
        else:
            found = message.ts
            if found is None:
                raise RejectedError(Reason.NO_TIMESTAMP, f"no field {shown(self._spec.fields.timestamp)}")
            known = self._event_times.known.get(found) if type(found) is str else None
            time_ns = self._event_times.parse(found) if known is None else known
        check_time(time_ns, record, found)
        return time_ns

    def _cells(self, values: object, strict: bool) -> Sequence[float]:
        """One number per sensor of the stream, NaN where there is none."""
        if isinstance(values, msgspec.Struct):
            cells: tuple[float | None, ...] = msgspec.structs.astuple(values)
            return [_NAN if cell is None else cell for cell in cells]
        if type(values) is not dict:
            name = shown(self._spec.fields.values)
            detail = f"no field {name}" if values is None else f"{name} is {json_kind(values)}, not an object"
            raise RejectedError(Reason.NO_VALUES, detail)
        if not self._known.issuperset(values):
            self._sensor_names.check_all(values)
        get = values.get
        if strict:  # msgspec let only finite numbers and null through
            return [_NAN if (cell := get(name)) is None else cell for name in self._names]
        return [self._number(get(name), c) for c, name in enumerate(self._names)]

    def _note_corrupt(self, sensor: int, fault: str, value: object) -> None:
        """Count a cell that stands for no number, and keep the first one as an example."""
        key = self._sensors[sensor], fault
        self.corrupt_by_fault[key] += 1
        if key not in self.corrupt_examples:
            self.corrupt_examples[key] = shown(value)

    def _number(self, cell: object, sensor: int) -> float:
        """The raw number of a cell of any JSON type; NaN, and counted, if it stands for none."""
        try:
            return number_of(cell, self._states[sensor])
        except NotANumberError as error:
            self._note_corrupt(sensor, error.fault, cell)
            self._corrupt.append((sensor, error.fault))
            return _NAN


def columns_of(items: Sequence[Record | Reading]) -> Records | None:
    """Records as columns; None where some are readings already."""
    if isinstance(items, Records):
        return items
    records = [item for item in items if isinstance(item, Record)]
    if not records or len(records) < len(items):
        return None
    return Records(
        np.array([record.offset for record in records], np.int64),
        [record.key for record in records],
        [record.value for record in records],
        np.array([record.timestamp_ns for record in records], np.int64),
    )
