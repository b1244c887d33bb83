"""The rules of a message's fields, one class per field: asset id, sensor name, condition.

Each takes the JSON value that a message has in the field (or the record's key, which is bytes) and
returns what the stream works with, or raises ``RejectedError`` with a reason of the fixed set. Event times
have a module of their own, ``timestamps``; values are so simple that ``decoding`` reads them itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from daemon.domain import (
    RECORD_KEY,
    Reason,
    StreamSpec,
    zone_of,
)
from daemon.stream.rejection import RejectedError, forbidden_character, json_kind, shown
from daemon.stream.text_cache import remember
from daemon.stream.timestamps import EventTimes

OTHER: Final = "(other)"
"""Under this name ``SensorNames.unknown`` counts the names that it has no room for."""
NAMES_KEPT: Final = 256
"""Names of unknown sensors that are counted and searched for one by one."""


class AssetIds:
    """Asset ids of one stream.

    Args:
        spec: the stream.
        max_bytes: longest id, in UTF-8.
        kept: ids that are remembered as valid.

    ``valid`` has the ids that passed every rule, by what messages (or keys) have in their place: a text, bytes
    or an integer, of just these types. It is read directly where it matters. It has one string per asset, which
    is hashed and compared once.
    """

    def __init__(self, spec: StreamSpec, max_bytes: int, kept: int) -> None:
        self.valid: dict[str | bytes | int, str] = {}
        self._kept = kept
        self._max_bytes = max_bytes
        self._field = spec.fields.asset
        self._in_key = spec.fields.asset == RECORD_KEY
        self._forget = spec.forget

    def read(self, found: object) -> str:
        """The id that a message, or the record's key, has; a whole number is its text."""
        if type(found) is not str and type(found) is not bytes and type(found) is not int:
            return self._checked(found)
        valid = self.valid.get(found)
        if valid is None:
            valid = self._checked(found)
            if type(found) is not str:  # one string per asset, however it is written
                valid = self.valid.get(valid, valid)
            remember(self.valid, found, valid, self._kept)
        return valid

    def _checked(self, found: object) -> str:
        if type(found) is bytes:
            try:
                found = found.decode()
            except UnicodeDecodeError:
                raise RejectedError(Reason.BAD_ASSET, "the record's key is not UTF-8") from None
        elif type(found) is int:
            found = str(found)
        if found is None:
            where = "no record key" if self._in_key else f"no field {shown(self._field)}"
            raise RejectedError(Reason.NO_ASSET, where)
        if type(found) is not str:
            raise RejectedError(Reason.BAD_ASSET, f"{json_kind(found)}, not a string")
        if not found or found.isspace():
            raise RejectedError(Reason.BAD_ASSET, "empty")
        if not found.isprintable() and (fault := forbidden_character(found)):
            raise RejectedError(Reason.BAD_ASSET, f"holds the control character {fault}")
        if len(found) * 4 > self._max_bytes and (size := len(found.encode())) > self._max_bytes:
            raise RejectedError(Reason.BAD_ASSET, f"{size} bytes; at most {self._max_bytes}")
        if found in self._forget:
            raise RejectedError(Reason.FORGOTTEN, f"{shown(found)} is among the stream's assets to forget")
        return found


class SensorNames:
    """Sensor names of one stream.

    Args:
        spec: the stream.
        max_bytes: longer unknown names are counted together.

    ``unknown`` counts, per name, the values of sensors that the stream does not list; names beyond the
    first few hundred are counted together under ``OTHER``. ``unknown_cells`` is the sum of them. ``places`` has the
    place of each listed sensor by its name, as a text and as the bytes of a key; read only.
    """

    def __init__(self, spec: StreamSpec, max_bytes: int) -> None:
        self.unknown: Counter[str] = Counter()
        self.unknown_cells = 0
        self._max_bytes = max_bytes
        self._sensors = spec.sensors
        self._index = {
            rule.source or name: i
            for i, (name, rule) in enumerate(zip(spec.sensors, spec.rules, strict=True))
        }
        self.places: dict[str | bytes, int] = {}
        for name, place in self._index.items():
            self.places[name] = self.places[name.encode(errors="surrogatepass")] = place
        self._field = spec.fields.sensor
        self._in_key = spec.fields.sensor == RECORD_KEY
        self._nearest: dict[str, str] = {}

    def index(self, found: object) -> int:
        """The place of the sensor that a long message, or its record's key, names."""
        if type(found) is bytes:
            found = found.decode(errors="replace")
        elif type(found) is int:
            found = str(found)
        if found is None:
            where = "no record key" if self._in_key else f"no field {shown(self._field)}"
            raise RejectedError(Reason.NO_SENSOR, where)
        if type(found) is not str:
            raise RejectedError(Reason.UNKNOWN_SENSOR, f"{json_kind(found)}, not a string")
        sensor = self._index.get(found)
        if sensor is None:
            self._count(found)
            raise RejectedError(Reason.UNKNOWN_SENSOR, self.unknown_detail(found))
        return sensor

    def find(self, name: str) -> int | None:
        """The place of a sensor; None, and counted, where the stream has none of this name."""
        place = self._index.get(name)
        if place is None:
            self._count(name)
        return place

    def count_unknown(self, name: str, cells: int) -> None:
        """Count cells of a sensor that the stream does not list."""
        if cells:
            self._count(name, cells)

    def check_all(self, values: Mapping[str, object]) -> None:
        """Count the sensors of a wide message that the stream does not list.

        Raises:
            RejectedError: the message has no others.
        """
        unknown = [name for name in values if name not in self._index]
        for name in unknown:
            self._count(name)
        if len(unknown) == len(values):
            raise RejectedError(Reason.UNKNOWN_SENSOR, self.unknown_detail(unknown[0]))

    def _count(self, name: str, cells: int = 1) -> None:
        self.unknown_cells += cells
        named = name in self.unknown or len(self.unknown) < NAMES_KEPT
        self.unknown[name if named and len(name) <= self._max_bytes else OTHER] += cells

    def unknown_detail(self, name: str) -> str:
        """The detail of an unknown sensor: its name, and the nearest one that the stream has.

        The search costs far more than a record. It is done once per name, for a bounded number of names,
        so that a producer of ever new names cannot cause it with each record.
        """
        nearest = self._nearest.get(name)
        if nearest is None and len(self._nearest) < NAMES_KEPT and len(name) <= 64:
            close = get_close_matches(name, self._sensors, n=1, cutoff=0.5)
            nearest = self._nearest[name] = close[0] if close else ""
        hint = f"; the nearest known is {shown(nearest)}" if nearest else ""
        return f"unknown sensor {shown(name)}{hint}"


class ConditionLabels:
    """Condition labels from the fields of messages: ``k=v,k2=v2`` in the stream's order.

    A field that neither the message nor the asset's configuration has is ``?``. The calendar's part of a
    label is added to rows (see ``calendar``).

    Args:
        spec: the stream.
        max_bytes: longest value, in UTF-8.
    """

    def __init__(self, spec: StreamSpec, max_bytes: int) -> None:
        self._fields = spec.message_condition
        self._assets = spec.assets
        self._max_bytes = max_bytes

    def label(self, given: object, asset: str) -> str:
        """The label of a message whose condition field has ``given``."""
        if given is None:
            given = {}
        elif type(given) is not dict:
            raise RejectedError(Reason.BAD_CONDITION, f"{json_kind(given)}, not an object")
        known: Mapping[str, str] = self._assets.get(asset, {})
        parts = []
        for name in self._fields:
            value = given.get(name)
            if value is None:
                value = known.get(name, "?")
            parts.append(f"{name}={self._value(name, value)}")
        return ",".join(parts)

    def _value(self, name: str, value: object) -> str:
        if type(value) is bool:
            return "true" if value else "false"
        if type(value) is float and value.is_integer() and abs(value) < 2**53:
            return str(int(value))  # 3 and 3.0 are the same JSON number, and the same condition
        if type(value) is int or (type(value) is float and math.isfinite(value)):
            return str(value)
        if type(value) is not str:
            raise RejectedError(
                Reason.BAD_CONDITION, f"{shown(name)} is {json_kind(value)}, not a text or a number"
            )
        if not value.isprintable() and (fault := forbidden_character(value)):
            raise RejectedError(Reason.BAD_CONDITION, f"{shown(name)} holds the control character {fault}")
        if len(value.encode()) > self._max_bytes:
            raise RejectedError(Reason.BAD_CONDITION, f"{shown(name)} is over {self._max_bytes} bytes")
        return value


@dataclass(frozen=True, slots=True, eq=False)
class FieldRules:
    """The rules for the fields of one stream's messages."""

    spec: StreamSpec
    asset_ids: AssetIds
    sensor_names: SensorNames
    event_times: EventTimes
    labels: ConditionLabels | None  # None: no field of a message says a condition

    @staticmethod
    def of(spec: StreamSpec, max_bytes: int, assets_kept: int) -> FieldRules:
        """Those of a stream; see ``AssetIds`` for the numbers."""
        return FieldRules(
            spec,
            AssetIds(spec, max_bytes, assets_kept),
            SensorNames(spec, max_bytes),
            EventTimes(zone_of(spec.timezone)),
            ConditionLabels(spec, max_bytes) if spec.message_condition else None,
        )
