"""Bytes to readings: the only place that knows what incoming messages look like.

A message is parsed by ``messages``, its fields are read by ``timestamps`` and ``fields``, its values here.
Decoding never raises: whatever bytes arrive become a ``Reading``, or a ``Rejected`` whose reason is from a
small fixed set.

Records can be decoded one by one (``decode``, ``decode_all``) or, in a wide stream, as columns
(``decode_batch``): there each rule is applied to a piece of some hundred records at a time, as long as all
of them are usual, for an object and a call per rule and record would cost more than the rules. Results and
counters are the same for both.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Sequence
from itertools import starmap
from typing import Any, Final, cast

import msgspec
import numpy as np

from daemon.domain import (
    NO_CONDITION,
    RECORD_KEY,
    RECORD_TIMESTAMP,
    SECOND_NS,
    Format,
    Reading,
    Reason,
    Record,
    Records,
    Rejected,
    StreamSpec,
    zone_of,
)
from daemon.stream.batches import ReadingBatch, ReadingBatchBuilder
from daemon.stream.fields import AssetIds, ConditionLabels, SensorNames
from daemon.stream.messages import MessageParser
from daemon.stream.rejection import RejectedError, json_kind, shown
from daemon.stream.timestamps import INT64_MAX, EventTimes, iso_or_number

FUTURE_NS: Final = 3600 * SECOND_NS
"""An event time further ahead of its record's timestamp than this is a broken clock."""
ASSETS_KEPT: Final = 200_000
"""Asset ids that are remembered as valid: some 30 MB, if ever so many come."""
_AT_ONCE: Final = 128  # records: few enough to stay in the cache
_NAN: Final = float("nan")


class Decoder:
    """Decodes the records of one stream. Pure, but for its counters.

    Args:
        spec: the stream; ``spec.fields`` names where a record keeps what.
        max_bytes: a longer record is rejected unread.
        max_asset_bytes: longest asset id, in UTF-8; also the longest condition value.
        assets_kept: asset ids that are remembered as valid. A record of any other asset is decoded alone,
            which costs twice as much: so they should be as many as there may be assets.

    Attributes:
        corrupt_cells: per sensor, cells that held something other than a finite number
            (``null`` is not counted: it is how a producer says that it has no value).

    Raises:
        ConfigError: if two fields have one name, or a field cannot come from the record.
    """

    def __init__(
        self,
        spec: StreamSpec,
        max_bytes: int = 1 << 20,
        max_asset_bytes: int = 256,
        assets_kept: int = ASSETS_KEPT,
    ) -> None:
        self.corrupt_cells: Counter[str] = Counter()
        self._spec = spec
        self._sensors = spec.sensors
        self._known = frozenset(spec.sensors)
        self._wide = spec.format is Format.JSON_WIDE
        self._max_bytes = max_bytes
        self._asset_in_key = spec.fields.asset == RECORD_KEY
        self._sensor_in_key = spec.fields.sensor == RECORD_KEY
        self._time_in_record = spec.fields.timestamp == RECORD_TIMESTAMP
        self._event_times = EventTimes(zone_of(spec.timezone))
        self._parser = MessageParser(spec)
        self._asset_ids = AssetIds(spec, max_asset_bytes, assets_kept)
        self._sensor_names = SensorNames(spec, max_asset_bytes)
        self._labels = ConditionLabels(spec, max_asset_bytes) if spec.message_condition else None
        # The type of the values where records can be decoded together: all fields are in the message.
        elsewhere = self._asset_in_key or self._time_in_record or self._labels is not None
        self._at_once = None if elsewhere else self._parser.cells
        self._pack = struct.Struct(f"{len(spec.sensors)}d").pack

    @property
    def unknown_sensors(self) -> Counter[str]:
        """Per name, values of sensors that the stream does not list; see ``SensorNames``."""
        return self._sensor_names.unknown

    @property
    def zoneless(self) -> int:
        """Texts of event times that named no time zone; see ``EventTimes``."""
        return self._event_times.zoneless

    def decode(self, record: Record) -> Reading | Rejected:
        """The record's reading, or why it has none. Never raises."""
        try:
            return self._decode(record)
        except RejectedError as rejected:
            return Rejected(record, rejected.reason, rejected.detail)

    def decode_all(self, items: Sequence[Record | Reading]) -> list[Reading | Rejected]:
        """``decode`` for each record; readings stay as they are."""
        return [item if isinstance(item, Reading) else self.decode(item) for item in items]

    def decode_batch(self, items: Sequence[Record | Reading]) -> tuple[ReadingBatch, list[Rejected]]:
        """``decode_all`` of a wide stream, with the readings as columns.

        A piece of ``_AT_ONCE`` records is decoded together if each of them is usual: of a known asset, in
        plain ASCII, with values of known sensors. Otherwise all of the piece go to ``decode``.
        """
        made = ReadingBatchBuilder(len(self._sensors))
        rejected: list[Rejected] = []
        for begin in range(0, len(items), _AT_ONCE):
            some = items[begin : begin + _AT_ONCE]
            if self._at_once is not None and self._decode_together(some, made):
                continue
            for found in self.decode_all(some):
                if isinstance(found, Reading):
                    made.add(found)
                else:
                    rejected.append(found)
        return made.build(), rejected

    def _decode_together(self, some: Sequence[Record | Reading], made: ReadingBatchBuilder) -> bool:
        """Append the readings of records that are all usual; False, with nothing appended, if one is not."""
        if isinstance(some, Records):
            lines, stamps, offsets = some.values, some.timestamps_ns, some.offsets
        elif set(map(type, some)) == {Record}:
            records = cast("Sequence[Record]", some)
            lines = [record.value for record in records]
            stamps = [record.timestamp_ns for record in records]
            offsets = [record.offset for record in records]
        else:
            return False
        if max(map(len, lines)) > self._max_bytes or not all(map(bytes.isascii, lines)):
            return False
        parse = self._parser.parse_cells
        try:
            messages = [parse(line) for line in lines]
        except ValueError:
            return False
        cells = [message.values for message in messages]
        if set(map(type, cells)) != {self._at_once}:
            return False
        try:
            valid = self._asset_ids.valid
            assets = [valid[message.asset] for message in messages]
        except (KeyError, TypeError):  # new, or no text at all
            return False
        texts = [message.ts for message in messages]
        known, parse_time = self._event_times.known, self._event_times.parse
        try:
            for text in set(texts).difference(known):
                parse_time(text)  # too long a text is not remembered
            times = [known[text] for text in texts]
        except (KeyError, TypeError, RejectedError):  # no time, no text, or too long a one
            return False
        if min(times) < 0 or max(times) > min(INT64_MAX, min(stamps) + FUTURE_NS):
            return False
        try:  # twice as fast as anything numpy has for it
            packed = b"".join(starmap(self._pack, map(msgspec.structs.astuple, cells)))
            values = np.frombuffer(packed, np.float64)
        except struct.error:  # a None, which stands for no value
            values = np.array([msgspec.structs.astuple(cell) for cell in cells], np.float64)
        made.extend(assets, times, offsets, values, stamps)
        return True

    def _decode(self, record: Record) -> Reading:
        value = record.value
        if len(value) > self._max_bytes:
            raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes; at most {self._max_bytes}")
        message, strict = self._parser.parse_any(value)
        asset = self._asset_ids.read(record.key if self._asset_in_key else message.asset)
        time_ns = self._time(record, message)
        if self._wide:
            return Reading(
                record.offset,
                asset,
                time_ns,
                self._cells(message.values, strict),
                condition=NO_CONDITION
                if self._labels is None
                else self._labels.label(message.condition, asset),
                stamp_ns=record.timestamp_ns,
            )
        sensor = self._sensor_names.index(record.key if self._sensor_in_key else message.sensor)
        if message.value is msgspec.UNSET:
            raise RejectedError(Reason.NO_VALUES, f"no field {shown(self._spec.fields.value)}")
        return Reading(
            record.offset,
            asset,
            time_ns,
            sensor=sensor,
            value=self._number(message.value, self._sensors[sensor]),
            condition=NO_CONDITION if self._labels is None else self._labels.label(message.condition, asset),
            stamp_ns=record.timestamp_ns,
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
        # A record that Kafka gave no timestamp (-1) says nothing about the producer's clock.
        if time_ns > record.timestamp_ns + FUTURE_NS and record.timestamp_ns >= 0:
            raise RejectedError(
                Reason.FUTURE,
                f"{shown(found)} is over 1 h ahead of the record ({iso_or_number(record.timestamp_ns)})",
            )
        if time_ns > INT64_MAX:
            raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)} is beyond the year 2262")
        if time_ns < 0:
            raise RejectedError(Reason.BAD_TIMESTAMP, f"{shown(found)} is before 1970")
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
            return [_NAN if (cell := get(name)) is None else cell for name in self._sensors]
        return [self._number(get(name), name) for name in self._sensors]

    def _number(self, cell: object, sensor: str) -> float:
        """A cell of any JSON type; NaN, and counted unless it is null, if it is no finite number."""
        if type(cell) is float:
            if math.isfinite(cell):
                return cell
        elif type(cell) is int:
            try:
                return float(cell)
            except OverflowError:
                pass
        elif cell is None:
            return _NAN
        self.corrupt_cells[sensor] += 1
        return _NAN
