"""Where the JSON objects of a sample have asset, time, sensors and values: by name first, by content second."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from daemon.domain import FieldNames, Format
from daemon.errors import InputError

_ASSET_FIELDS: Final = (
    "asset",
    "asset_id",
    "device",
    "device_id",
    "machine",
    "machine_id",
    "unit",
    "id",
    "source",
)
_TIME_FIELDS: Final = ("ts", "timestamp", "time", "datetime", "event_time", "date")
_VALUES_FIELDS: Final = ("values", "readings", "measurements", "sensors", "data", "fields", "metrics")
SENSOR_FIELDS: Final = (
    "sensor",
    "sensor_id",
    "channel",
    "metric",
    "tag",
    "signal",
    "name",
    "parameter",
    "variable",
)
_VALUE_FIELDS: Final = ("value", "reading", "measurement", "val", "v")


@dataclass(frozen=True, slots=True)
class Layout:
    """The format of the sample's objects, the names of their fields, and their sensors."""

    format: Format
    fields: FieldNames
    sensors: tuple[str, ...]


def json_object(line: bytes) -> Any:
    """The JSON value of a line; None where it is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def find_layout(objects: Sequence[dict[str, Any]], exclude: frozenset[str], where: str) -> Layout:
    """The layout of JSON objects: fields by name first, by content second.

    Raises:
        InputError: no field looks like the time, the asset or values.
    """
    count = Counter(key for found in objects for key in found)
    common = [key for key, times in count.items() if 2 * times > len(objects)]

    def named(candidates: Sequence[str]) -> str | None:
        lowered = {key.lower(): key for key in reversed(common)}
        return next((lowered[each] for each in candidates if each in lowered), None)

    def mostly(key: str, kind: type) -> bool:
        present = [found[key] for found in objects if found.get(key) is not None]
        return 2 * sum(isinstance(value, kind) for value in present) > len(present)

    shown = ", ".join(common[:12]) or "nothing in common"
    time, asset = named(_TIME_FIELDS), named(_ASSET_FIELDS)
    if time is None:
        raise InputError(f"{where}: no field for the time ({', '.join(_TIME_FIELDS)}); found: {shown}")
    if asset is None:
        raise InputError(f"{where}: no field for the asset ({', '.join(_ASSET_FIELDS)}); found: {shown}")
    objects_in = [key for key in common if mostly(key, dict) and _numbers(objects, key)]
    by_name = named(_VALUES_FIELDS)
    values = by_name if by_name in objects_in else next(iter(objects_in), None)
    if values is not None:
        sensors = _numbers(objects, values) - exclude
        fields = FieldNames(asset=asset, timestamp=time, values=values)
        layout = Layout(Format.JSON_WIDE, fields, tuple(sorted(sensors)))
    else:
        sensor, value = named(SENSOR_FIELDS), named(_VALUE_FIELDS)
        if sensor is None or value is None:
            raise InputError(
                f"{where}: neither wide (an object of numbers in a field) nor long"
                f" (a sensor and a value field); found: {shown}"
            )
        fields = FieldNames(asset=asset, timestamp=time, sensor=sensor, value=value)
        found = {
            str(each[sensor])
            for each in objects
            if _is_number(each.get(value)) and _is_name(each.get(sensor))
        }
        layout = Layout(Format.JSON_LONG, fields, tuple(sorted(found - exclude)))
    if not layout.sensors:
        raise InputError(f"{where}: no sensor ever has a number")
    return layout


def _numbers(objects: Iterable[dict[str, Any]], key: str) -> set[str]:
    """The names in an object field that held a number at least once."""
    found: set[str] = set()
    for each in objects:
        cells = each.get(key)
        if isinstance(cells, dict):
            found.update(name for name, value in cells.items() if name not in found and _is_number(value))
    return found


def _is_number(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _is_name(value: object) -> bool:
    return (isinstance(value, str) and value != "") or type(value) is int
