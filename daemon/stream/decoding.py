"""Bytes to readings: the only place that knows what incoming messages look like.

Decoding never raises: whatever bytes arrive become a ``Reading`` or a ``Rejected`` whose reason
is from a small fixed set. There are three ways through it. The fastest lets msgspec
decode straight into a struct made for the stream, with a field per sensor, and carries nearly
every record. What has other sensors too takes a struct with a dictionary of cells, for their
names. Both refuse what strict JSON refuses (``NaN``, ``1e999``, a string where a number belongs),
which real producers send all the same; those records take the slow way through Python's ``json``,
which is as lenient as producers are, and the offending cell alone becomes missing. All ways fill
such a struct and share every rule after that, so that they can only differ in speed.

Event times are integers all the way: an epoch number is scaled by its magnitude without
passing through a float, and the digits of an ISO instant that ``datetime`` cannot hold are
added by hand.
"""

from __future__ import annotations

import json
import math
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from difflib import get_close_matches
from itertools import starmap
from typing import Any, Final, TypeVar, cast

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
    iso,
    zone_of,
)
from daemon.errors import ConfigError
from daemon.stream.batches import ReadingBatch, ReadingBatchBuilder

FUTURE_NS: Final = 3600 * SECOND_NS
"""An event time further ahead of its record's timestamp than this is a broken clock."""
OTHER: Final = "(other)"
"""Under this name ``Decoder.unknown_sensors`` counts what it has no room to name."""

T = TypeVar("T")
_NAMES_KEPT: Final = 256
_KEPT: Final = 8192
_ASSETS_KEPT: Final = 200_000  # some 30 MB, if ever so many come
"""Asset ids and timestamps that are remembered as sound: most come again with the next record."""
_AT_ONCE: Final = 128  # lines: few enough to stay in the cache
_DETAIL_LENGTH: Final = 200
_INT64_MAX: Final = 2**63 - 1
_NAN: Final = float("nan")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_BEYOND_MICROS: Final = re.compile(r".{10}.[0-9]{2}:?[0-9]{2}:?[0-9]{2}[.,][0-9]{6}([0-9]{1,3})")
_ZONE: Final = re.compile(r"(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2}){0,2})$")
_BIDI_CONTROLS: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LONGEST_NUMBER: Final = 400  # digits; Python itself refuses integers of over 4300


class RefusedError(Exception):
    """Why the record at hand cannot be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail[:_DETAIL_LENGTH]


class Decoder:
    """Decodes the records of one stream. Pure, but for its counters.

    Args:
        spec: the stream; ``spec.fields`` names where a record keeps what.
        max_bytes: a longer record is refused unread.
        max_asset_bytes: longest asset id, in UTF-8; also the longest condition value.
        assets_kept: asset ids that are remembered as sound; a line of any other is looked at alone,
            which costs twice as much. So they should be as many as there may be.

    Attributes:
        corrupt_cells: per sensor, cells that held something other than a finite number
            (``null`` is not counted: it is how a producer says that it has no value).
        zoneless: texts of event times that named no time zone, each counted once while it is remembered.
        unknown_sensors: per name, values of sensors that the stream does not list; names
            beyond the first few hundred are counted together under ``OTHER``.

    Raises:
        ConfigError: if two fields have one name, or a field cannot come from the record.
    """

    def __init__(
        self,
        spec: StreamSpec,
        max_bytes: int = 1 << 20,
        max_asset_bytes: int = 256,
        assets_kept: int = _ASSETS_KEPT,
    ) -> None:
        self.corrupt_cells: Counter[str] = Counter()
        self.unknown_sensors: Counter[str] = Counter()
        self.zoneless = 0
        self._spec = spec
        self._zone = zone_of(spec.timezone)
        self._sensors = spec.sensors
        self._index = {name: i for i, name in enumerate(spec.sensors)}
        self._known = frozenset(spec.sensors)
        self._wide = spec.format is Format.JSON_WIDE
        self._max_bytes = max_bytes
        self._max_asset_bytes = max_asset_bytes
        self._asset_in_key = spec.fields.asset == RECORD_KEY
        self._sensor_in_key = spec.fields.sensor == RECORD_KEY
        self._time_in_record = spec.fields.timestamp == RECORD_TIMESTAMP
        self._nearest: dict[str, str] = {}
        self._names = _field_names(spec)
        self._message = _message_type(spec, self._names, dict[str, float | None])
        self._parse = msgspec.json.Decoder(self._message).decode
        cells = _cells_type(spec.sensors) if self._wide else None
        self._cells_type = cells
        self._parse_cells = (
            self._parse
            if cells is None
            else msgspec.json.Decoder(_message_type(spec, self._names, cells)).decode
        )
        # The type of the values where lines can be taken at once: nothing stands in the record itself.
        self._condition_fields = spec.message_condition
        elsewhere = self._asset_in_key or self._time_in_record or bool(self._condition_fields)
        self._at_once = None if elsewhere else cells
        self._pack = struct.Struct(f"{len(spec.sensors)}d").pack
        # Asset ids that passed every rule. One string per asset: it is hashed and compared once.
        self._sound: dict[str, str] = {}
        self._assets_kept = assets_kept
        self._times: dict[str, int] = {}  # texts of event times, and what they say

    def decode(self, record: Record) -> Reading | Rejected:
        """The record's reading, or why it has none. Never raises."""
        try:
            return self._decode(record)
        except RefusedError as refused:
            return Rejected(record, refused.reason, refused.detail)

    def decode_all(self, items: Sequence[Record | Reading]) -> list[Reading | Rejected]:
        """``decode`` for each record; readings stay as they are."""
        return [item if isinstance(item, Reading) else self.decode(item) for item in items]

    def decode_lines(self, items: Sequence[Record | Reading]) -> tuple[ReadingBatch, list[Rejected]]:
        """The same of a wide stream, as columns.

        A few lines at a time, rule by rule over all of them: an object and a call per rule and
        line would cost more than the rules. Where one line among them is not as usual, all of
        them go to ``decode``; nobody can tell which way a line went.
        """
        made = ReadingBatchBuilder(len(self._sensors))
        rejected: list[Rejected] = []
        for begin in range(0, len(items), _AT_ONCE):
            some = items[begin : begin + _AT_ONCE]
            if self._at_once is not None and self._take_at_once(some, made):
                continue
            for found in self.decode_all(some):
                if isinstance(found, Reading):
                    made.add(found)
                else:
                    rejected.append(found)
        return made.lines(), rejected

    def _take_at_once(self, some: Sequence[Record | Reading], made: ReadingBatchBuilder) -> bool:
        """Decode lines of which each is as usual; False, and nothing done, if one is not."""
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
        parse = self._parse_cells
        try:
            messages = [parse(line) for line in lines]
        except ValueError:
            return False
        cells = [message.values for message in messages]
        if set(map(type, cells)) != {self._at_once}:
            return False
        try:
            assets = [self._sound[message.asset] for message in messages]
        except (KeyError, TypeError):  # new, or no text at all
            return False
        texts = [message.ts for message in messages]
        known = self._times
        try:
            for text in set(texts).difference(known):
                _keep(known, text, self._event_time_ns(text))
            times = [known[text] for text in texts]
        except (KeyError, TypeError, RefusedError):  # of no use, no text, or too long to be kept
            return False
        if min(times) < 0 or max(times) > min(_INT64_MAX, min(stamps) + FUTURE_NS):
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
            raise RefusedError(Reason.TOO_LARGE, f"{len(value)} bytes; at most {self._max_bytes}")
        try:
            if not value.isascii():
                value.decode()  # msgspec does not look inside the strings that it skips
            try:
                message, strict = self._parse_cells(value), True
            except msgspec.ValidationError:
                message, strict = self._parse(value), True
        except (ValueError, RecursionError):
            message, strict = self._leniently(value), False
        asset = self._asset(record.key if self._asset_in_key else message.asset)
        time_ns = self._time(record, message)
        if self._wide:
            return Reading(
                record.offset,
                asset,
                time_ns,
                self._cells(message.values, strict),
                condition=self._condition(message, asset),
                stamp_ns=record.timestamp_ns,
            )
        sensor = self._sensor(record.key if self._sensor_in_key else message.sensor)
        if message.value is msgspec.UNSET:
            raise RefusedError(Reason.NO_VALUES, f"no field {_shown(self._spec.fields.value)}")
        return Reading(
            record.offset,
            asset,
            time_ns,
            sensor=sensor,
            value=self._number(message.value, self._sensors[sensor]),
            condition=self._condition(message, asset),
            stamp_ns=record.timestamp_ns,
        )

    # -------------------------------------------------------------- the message as a whole
    def _leniently(self, value: bytes) -> Any:
        """The message by Python's json, for what strict JSON refuses; same struct, any types."""
        try:
            text = value.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise RefusedError(Reason.NOT_UTF8, f"byte {error.start} is not UTF-8") from None
        if not text or text.isspace():
            raise RefusedError(Reason.BLANK, "nothing but white space")
        try:
            content = json.loads(text, parse_int=_integer)
        except RecursionError:
            raise RefusedError(Reason.TOO_DEEP, "nested too deeply") from None
        except json.JSONDecodeError as error:
            raise RefusedError(
                Reason.NOT_JSON, f"{error.msg.removesuffix(' at')} at character {error.pos}"
            ) from None
        if not isinstance(content, dict):
            raise RefusedError(Reason.NOT_AN_OBJECT, f"{_kind(content)}, not an object")
        return self._message(
            **{field: content[name] for field, name in self._names.items() if name in content}
        )

    def _asset(self, found: object) -> str:
        if type(found) is str and (sound := self._sound.get(found)) is not None:
            return sound
        text = self._checked_asset(found)
        if text == found:
            _keep(self._sound, text, text, self._assets_kept)
        return text

    def _checked_asset(self, found: object) -> str:
        if type(found) is bytes:
            try:
                found = found.decode()
            except UnicodeDecodeError:
                raise RefusedError(Reason.BAD_ASSET, "the record's key is not UTF-8") from None
        elif type(found) is int:
            found = str(found)
        if found is None:
            where = "no record key" if self._asset_in_key else f"no field {_shown(self._spec.fields.asset)}"
            raise RefusedError(Reason.NO_ASSET, where)
        if type(found) is not str:
            raise RefusedError(Reason.BAD_ASSET, f"{_kind(found)}, not a string")
        if not found or found.isspace():
            raise RefusedError(Reason.BAD_ASSET, "empty")
        if not found.isprintable() and (fault := _unsafe(found)):
            raise RefusedError(Reason.BAD_ASSET, f"holds the control character {fault}")
        if len(found) * 4 > self._max_asset_bytes and (size := len(found.encode())) > self._max_asset_bytes:
            raise RefusedError(Reason.BAD_ASSET, f"{size} bytes; at most {self._max_asset_bytes}")
        if found in self._spec.forget:
            raise RefusedError(Reason.FORGOTTEN, f"{_shown(found)} is among the stream's assets to forget")
        return found

    # -------------------------------------------------------------- time
    def _time(self, record: Record, message: Any) -> int:
        if self._time_in_record:
            if record.timestamp_ns < 0:
                raise RefusedError(Reason.NO_TIMESTAMP, "the record has no timestamp")
            found: object = record.timestamp_ns
            time_ns = record.timestamp_ns
        else:
            found = message.ts
            if found is None:
                raise RefusedError(Reason.NO_TIMESTAMP, f"no field {_shown(self._spec.fields.timestamp)}")
            known = self._times.get(found) if type(found) is str else None
            if known is None:
                time_ns = self._event_time_ns(found)
                if type(found) is str:
                    _keep(self._times, found, time_ns)
            else:
                time_ns = known
        # A record that Kafka gave no timestamp (-1) says nothing about the producer's clock.
        if time_ns > record.timestamp_ns + FUTURE_NS and record.timestamp_ns >= 0:
            raise RefusedError(
                Reason.FUTURE,
                f"{_shown(found)} is over 1 h ahead of the record ({iso_or_number(record.timestamp_ns)})",
            )
        if time_ns > _INT64_MAX:
            raise RefusedError(Reason.BAD_TIMESTAMP, f"{_shown(found)} is beyond the year 2262")
        if time_ns < 0:
            raise RefusedError(Reason.BAD_TIMESTAMP, f"{_shown(found)} is before 1970")
        return time_ns

    def _event_time_ns(self, found: object) -> int:
        if type(found) is str and names_no_zone(found):
            self.zoneless += 1
        return event_time_ns(found, self._zone)

    # -------------------------------------------------------------- values
    def _cells(self, values: object, strict: bool) -> Sequence[float]:
        """One number per sensor of the stream, NaN where there is none."""
        if isinstance(values, msgspec.Struct):
            cells: tuple[float | None, ...] = msgspec.structs.astuple(values)
            return [_NAN if cell is None else cell for cell in cells]
        if type(values) is not dict:
            name = _shown(self._spec.fields.values)
            said = f"no field {name}" if values is None else f"{name} is {_kind(values)}, not an object"
            raise RefusedError(Reason.NO_VALUES, said)
        if not self._known.issuperset(values):
            self._note_unknown(values)
        get = values.get
        if strict:  # msgspec let only finite numbers and null through
            return [_NAN if (cell := get(name)) is None else cell for name in self._sensors]
        return [self._number(get(name), name) for name in self._sensors]

    def _number(self, cell: object, sensor: str) -> float:
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

    def _note_unknown(self, values: dict[str, object]) -> None:
        """Count the sensors that the stream does not list; refuse a record with no others."""
        unknown = [name for name in values if name not in self._known]
        for name in unknown:
            self._count_unknown(name)
        if len(unknown) == len(values):
            raise RefusedError(Reason.UNKNOWN_SENSOR, self._unknown(unknown[0]))

    def _count_unknown(self, name: str) -> None:
        named = name in self.unknown_sensors or len(self.unknown_sensors) < _NAMES_KEPT
        self.unknown_sensors[name if named and len(name) <= self._max_asset_bytes else OTHER] += 1

    def _sensor(self, found: object) -> int:
        if type(found) is bytes:
            found = found.decode(errors="replace")
        elif type(found) is int:
            found = str(found)
        if found is None:
            where = "no record key" if self._sensor_in_key else f"no field {_shown(self._spec.fields.sensor)}"
            raise RefusedError(Reason.NO_SENSOR, where)
        if type(found) is not str:
            raise RefusedError(Reason.UNKNOWN_SENSOR, f"{_kind(found)}, not a string")
        sensor = self._index.get(found)
        if sensor is None:
            self._count_unknown(found)
            raise RefusedError(Reason.UNKNOWN_SENSOR, self._unknown(found))
        return sensor

    def _unknown(self, name: str) -> str:
        """Name the sensor and the nearest that the stream has.

        The search costs far more than a record; a producer of ever new names must not be
        able to buy it each time, so it is done once per name, for a bounded number of names.
        """
        nearest = self._nearest.get(name)
        if nearest is None and len(self._nearest) < _NAMES_KEPT and len(name) <= 64:
            close = get_close_matches(name, self._sensors, n=1, cutoff=0.5)
            nearest = self._nearest[name] = close[0] if close else ""
        hint = f"; the nearest known is {_shown(nearest)}" if nearest else ""
        return f"unknown sensor {_shown(name)}{hint}"

    # -------------------------------------------------------------- condition
    def _condition(self, message: Any, asset: str) -> str:
        """``k=v,k2=v2`` in the stream's order, ``?`` where neither message nor config says; the calendar's
        part is added to rows (see ``calendar``)."""
        if not self._condition_fields:
            return NO_CONDITION
        told = message.condition
        if told is None:
            told = {}
        elif type(told) is not dict:
            raise RefusedError(Reason.BAD_CONDITION, f"{_kind(told)}, not an object")
        known: Mapping[str, str] = self._spec.assets.get(asset, {})
        parts = []
        for name in self._condition_fields:
            value = told.get(name)
            if value is None:
                value = known.get(name, "?")
            parts.append(f"{name}={self._condition_value(name, value)}")
        return ",".join(parts)

    def _condition_value(self, name: str, value: object) -> str:
        if type(value) is bool:
            return "true" if value else "false"
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            return str(int(value))  # 3 and 3.0 are the same JSON number, and the same condition
        if type(value) is int or (type(value) is float and math.isfinite(value)):
            return str(value)
        if type(value) is not str:
            raise RefusedError(
                Reason.BAD_CONDITION, f"{_shown(name)} is {_kind(value)}, not a text or a number"
            )
        if not value.isprintable() and (fault := _unsafe(value)):
            raise RefusedError(Reason.BAD_CONDITION, f"{_shown(name)} holds the control character {fault}")
        if len(value.encode()) > self._max_asset_bytes:
            raise RefusedError(Reason.BAD_CONDITION, f"{_shown(name)} is over {self._max_asset_bytes} bytes")
        return value


def names_no_zone(text: str) -> bool:
    """Whether the text of an instant leaves its zone open; an epoch number has none to name."""
    text = text.strip()
    compact = text[8:9] in ("T", "t") and text[:8].isdigit()  # 20260131T080000
    return (text[4:5] == "-" and _ZONE.search(text, 10) is None) or (
        compact and _ZONE.search(text, 9) is None
    )


def event_time_ns(found: object, zone: tzinfo = UTC) -> int:
    """An event time as nanoseconds since the epoch, exactly.

    Args:
        zone: of a text that names none.
        found: ISO 8601 text (decimals count to the nanosecond), or an
            epoch number or its text, whose unit follows from its size: seconds below 1e11,
            milliseconds below 1e14, microseconds below 1e17, else nanoseconds.

    Raises:
        An internal refusal (``bad_timestamp``) that ``Decoder.decode`` turns into a ``Rejected``.
    """
    if type(found) is int:
        return _epoch_ns(found, found)
    if type(found) is float:
        if not math.isfinite(found):
            raise RefusedError(Reason.BAD_TIMESTAMP, f"{_shown(found)} is not a time")
        # The shortest text of a float is what the producer wrote: 0.1 s is 100 000 000 ns.
        return _epoch_ns(Decimal(repr(found)), found)
    if type(found) is not str:
        raise RefusedError(Reason.BAD_TIMESTAMP, f"{_kind(found)}, not a text or a number")
    text = found.strip() if len(found) <= 64 else ""
    if text[4:5] != "-" and _NUMBER.fullmatch(text):
        return _epoch_ns(Decimal(text), found)
    if text[-1:] == "z":
        text = text[:-1] + "Z"
    try:
        if text[4:5] == "-" and text[10:11] not in ("T", " ", "t", ""):
            raise ValueError
        if not text.isprintable():  # fromisoformat overlooks a closing NUL
            raise ValueError
        time = datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError(
            Reason.BAD_TIMESTAMP, f"{_shown(found)} is neither ISO 8601 nor a number"
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=zone)
    since = time - EPOCH
    time_ns = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    if len(text) > 22 and (rest := _BEYOND_MICROS.match(text)):
        time_ns += int(rest[1].ljust(3, "0"))
    return time_ns


def _epoch_ns(number: int | Decimal, found: object) -> int:
    if number < 0:
        raise RefusedError(Reason.BAD_TIMESTAMP, f"{_shown(found)} is negative")
    if number < 10**11:
        return int(number * 10**9)
    if number < 10**14:
        return int(number * 10**6)
    if number < 10**17:
        return int(number * 10**3)
    if number > _INT64_MAX:  # before int(): the text of a number may name a billion digits
        raise RefusedError(Reason.BAD_TIMESTAMP, f"{_shown(found)} is too large in any unit")
    return int(number)


def _field_names(spec: StreamSpec) -> dict[str, str]:
    """The struct's fields with their names in a message; those of the record itself left out."""
    try:
        names = spec.fields.used(spec.format, bool(spec.message_condition))
    except ValueError as error:
        raise ConfigError(f"stream {spec.name}: {error}") from error
    return {"ts" if field == "timestamp" else field: name for field, name in names.items()}


def _keep(known: dict[str, T], text: str, value: T, most: int = _KEPT) -> None:
    """Remember; a producer of ever new texts only makes it forget."""
    if len(known) >= most:
        known.clear()
    if len(text) <= _DETAIL_LENGTH:
        known[text] = value


def _cells_type(sensors: Sequence[str]) -> Any:
    """A struct with one field per sensor, missing ones None; it takes no other sensors.

    None where a sensor has a name that msgspec cannot look for.
    """
    fields = [f"s{i}" for i in range(len(sensors))]
    try:
        return msgspec.defstruct(
            "Cells",
            [(field, float | None, None) for field in fields],
            rename=dict(zip(fields, sensors, strict=True)),
            forbid_unknown_fields=True,
            gc=False,
            module=__name__,
        )
    except ValueError:
        return None


def _message_type(spec: StreamSpec, names: Mapping[str, str], cells: Any) -> Any:
    """The struct that one message of the stream decodes into; ``cells`` is the type of its values."""
    types: dict[str, tuple[Any, Any]] = {
        "asset": (str | int | None, None),
        "ts": (str | int | float | None, None),
        "values": (cells | None, None),
        "sensor": (str | int | None, None),
        "value": (float | None | msgspec.UnsetType, msgspec.UNSET),
        "condition": (Any, None),
    }
    return msgspec.defstruct(
        "Message",
        [(field, *types[field]) for field in names],
        rename=dict(names),
        gc=False,
        module=__name__,
    )


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _LONGEST_NUMBER else math.copysign(math.inf, float(digits[:2]))


def _kind(value: object) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return kinds.get(type(value), "an object")


def _shown(value: object) -> str:
    """A found value, short and in plain ASCII, so that no record can forge a log line."""
    text = ascii(value[:48] if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def iso_or_number(time_ns: int) -> str:
    return iso(time_ns) if time_ns <= _INT64_MAX else str(time_ns)


def _unsafe(text: str) -> str | None:
    """The first character that could forge a log line or cannot be encoded; space is fine."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI_CONTROLS:
            return f"U+{ord(character):04X}"
    return None
