"""What a stream's sensors and conditions must have in common with the messages that it reads.

A key that is accepted and does nothing is found months later, when somebody looks for the values that it should
have given. So names that lead nowhere are refused here, each with what would be right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from daemon.documents import shown
from daemon.domain import is_calendar
from daemon.mapping import InputMapping

_OTHER_PLACES = {
    "asset": "asset",
    "device": "asset",
    "timestamp": "time",
    "time": "time",
    "ts": "time",
    "sensor": "sensor",
    "value": "value",
    "values": "leaves",
    "quality": "quality",
    "condition": "condition",
}
"""Names in ``input.fields`` that are meant for another key of ``input``."""


def names_in_messages(sources: Mapping[str, str | None]) -> dict[str, str]:
    """The stream's sensors by the names that they have in messages.

    Args:
        sources: per sensor its ``source``.

    Raises:
        ValueError: two sensors have one name there.
    """
    sensors: dict[str, str] = {}
    for sensor, source in sources.items():
        name = source or sensor
        if name in sensors:
            raise ValueError(
                f"sensors {shown(sensors[name])} and {shown(sensor)} are both {shown(name)} in messages, and only one"
                " could have its values: give each a `source` of its own"
            )
        sensors[name] = sensor
    return sensors


def check_names(mapping: InputMapping, given: Mapping[str, Any], sensors: Mapping[str, str]) -> None:
    """Refuse what ``fields`` and ``rename`` of the configuration say of sensors that the stream does not list.

    A preset, and a table in a file, may know more sensors than a stream has.

    Args:
        mapping: of the stream.
        given: what the configuration has under ``input``.
        sensors: see ``names_in_messages``.
    """
    if given.get("fields") is not None:
        wave = mapping.wave.reduce if mapping.wave is not None else ()
        for name in mapping.fields:
            cells = [f"{name}.{feature}" for feature in wave] or [name]
            if not any(cell in sensors or cell in mapping.rename for cell in (name, *cells)):
                raise ValueError(f"input.fields.{name}: {_unlisted(name, sensors, of_fields=True)}")
    if given.get("rename") is not None:
        unlisted = [(old, new) for old, (_, new) in mapping.rename.items() if new not in sensors]
        from_file = isinstance(given["rename"], str)
        if unlisted and (not from_file or len(unlisted) == len(mapping.rename)):
            old, new = unlisted[0]
            raise ValueError(f"input.rename.{old}: {_unlisted(new, sensors)}")


def check_conditions(
    mapping: InputMapping,
    given: Mapping[str, Any],
    condition: Sequence[str],
    assets: Iterable[Mapping[str, str]],
) -> None:
    """Refuse fields of the stream's ``condition`` that nothing can give, and those that nothing asks for.

    Args:
        mapping, given: see ``check_names``.
        condition: of the stream.
        assets: the fields of each of its ``assets``.
    """
    of_assets = {field for fields in assets for field in fields}
    for field in condition:
        if not is_calendar(field) and field not in mapping.condition and field not in of_assets:
            raise ValueError(
                f"condition {shown(field)}: nothing says where it is in messages, and it would be unknown for ever;"
                f" write input.condition: {{{field}: PATH}}, or give it to each asset under `assets`"
            )
    for field in given.get("condition") or ():
        if str(field) not in condition:
            raise ValueError(
                f"input.condition.{field}: the stream's `condition` does not have {shown(field)}, so that it would"
                f" not be used; write condition: [{', '.join((*condition, str(field)))}] beside input"
            )


def check_units(mapping: InputMapping | None, format: str, units: Mapping[str, str | None]) -> None:
    """Refuse the ``unit`` of a sensor where nothing says which unit a value came in.

    Args:
        mapping: of the stream; None: its messages are json-wide or json-long.
        format: of the stream.
        units: per sensor its ``unit``.
    """
    sensor = next((sensor for sensor, unit in units.items() if unit is not None), None)
    if sensor is None or (mapping is not None and mapping.unit):
        return
    reason = (
        f"no value of {format} says its unit, so that this would do nothing; leave it out, or write how messages are"
        " read under `input`, with unit: PATH"
        if mapping is None
        else "nothing says where messages have the unit of a value, so that this would do nothing; write input.unit:"
        " PATH, or leave it out"
    )
    raise ValueError(f"sensors.{sensor}.unit: {reason}")


def _unlisted(name: str, sensors: Mapping[str, str], *, of_fields: bool = False) -> str:
    """What is wrong with a name that no sensor has in messages."""
    for called, sensor in sensors.items():
        if sensor == name:
            return (
                f"sensor {shown(name)} is {shown(called)} in messages, by its `source`; write {called} here, or leave"
                " `source` out"
            )
    if of_fields and (key := _OTHER_PLACES.get(name)):
        return f"fields has the places of sensors, and no sensor is called so; did you mean input.{key}?"
    close = get_close_matches(name, list(sensors), n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else "list it under `sensors`"
    return f"the stream has no sensor {shown(name)}; {hint}"
