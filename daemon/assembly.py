"""How the rows of a stream are made of its readings: what its sensors' rules mean for all who deal with rows.

Pure functions of a ``StreamSpec``. The rules are those of ``mapping.SensorRule``: ``reduce``, ``counter``, ``angle``
and ``hold``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from daemon.domain import SECOND_NS, Format, StreamSpec
from daemon.mapping import Assembly, Component, Reduce


def reduces(spec: StreamSpec) -> bool:
    """Whether a sensor may have several values in one row, of which one is made."""
    return any(rule.reduce is not Reduce.FIRST for rule in spec.sensor_rules)


def merges(spec: StreamSpec) -> bool:
    """Whether several records may make one row; else the first one is the whole of it."""
    return spec.gathers or reduces(spec)


def gathered(spec: StreamSpec) -> StreamSpec:
    """The stream with rows that are gathered from several readings, as a long table has them."""
    if spec.gathers:
        return spec
    if spec.input is None:
        return replace(spec, format=Format.JSON_LONG)
    return replace(spec, input=replace(spec.input, assembly=Assembly.GATHER))


def as_received(spec: StreamSpec) -> StreamSpec:
    """The stream as its messages and tables have it, where an angle is one sensor.

    Rows are like this until ``stream.derivation``; a stream without angles is received as it is.
    """
    if not any(rule.component for rule in spec.sensor_rules):
        return spec
    kept = [
        (name, rule)
        for name, rule in zip(spec.sensors, spec.sensor_rules, strict=True)
        if rule.component is not Component.SIN
    ]
    return replace(
        spec,
        sensors=tuple(rule.component_of or name for name, rule in kept),
        sensor_rules=tuple(replace(rule, component=None, component_of="") for _, rule in kept),
        ranges=(),
    )


def received_places(spec: StreamSpec) -> list[int]:
    """For each sensor of the stream, the place of the one as received that it is made of."""
    places = {name: c for c, name in enumerate(as_received(spec).sensors)}
    return [places[rule.component_of or name] for name, rule in zip(spec.sensors, spec.rules, strict=True)]


def assembled(spec: StreamSpec) -> dict[str, dict[str, Any]]:
    """By sensor as received, how its rows are made, in the keys of the configuration; only what is not plain.

    A model learns rows that were made so, and must be given such rows.
    """
    found: dict[str, dict[str, Any]] = {}
    plain = as_received(spec)
    for name, rule in zip(plain.sensors, plain.rules, strict=True):
        made: dict[str, Any] = {"reduce": rule.reduce.value} if rule.reduce is not Reduce.FIRST else {}
        made |= {"counter": True} if rule.counter else {}
        made |= {"angle": rule.angle} if rule.angle is not None else {}
        made |= {"hold": f"{rule.hold_ns / SECOND_NS:.9g}s"} if rule.hold_ns else {}
        if made:
            found[name] = made
    return found


def modelled(spec: StreamSpec) -> dict[str, str]:
    """By sensor of the stream, what the model has of it, in words; only where that is not its value."""
    found: dict[str, str] = {}
    for name, rule in zip(spec.sensors, spec.rules, strict=True):
        if rule.counter:
            found[name] = "rate per second"
        elif rule.component is not None:
            which = "cosine" if rule.component is Component.COS else "sine"
            found[name] = f"{which} of {rule.component_of}"
    return found


def units(spec: StreamSpec) -> tuple[str | None, ...]:
    """Per sensor of the stream, the unit of its values in the model; None where the configuration does not say it.

    Of a counter the model has the rate, whatever it counts.
    """
    found: list[str | None] = []
    for rule in spec.rules:
        known = rule.unit is not None and rule.scale == 1.0 and rule.component is None
        unit = rule.unit if known else None
        found.append(unit if not rule.counter else "per second" if unit is None else f"{unit}/s")
    return tuple(found)


def read_as(spec: StreamSpec) -> dict[str, dict[str, Any]]:
    """By sensor as received, what its values are made of, in the keys of the configuration; only what is not plain."""
    found: dict[str, dict[str, Any]] = {}
    plain = as_received(spec)
    for name, rule in zip(plain.sensors, plain.rules, strict=True):
        made: dict[str, Any] = {"source": rule.source} if rule.source not in (None, name) else {}
        made |= {"unit": rule.unit} if rule.unit is not None else {}
        made |= {"scale": rule.scale} if rule.scale != 1.0 else {}
        made |= {"offset": rule.offset} if rule.offset else {}
        made |= {"missing": sorted(rule.missing)} if rule.missing else {}
        made |= {"states": dict(rule.states)} if rule.states else {}
        if made:
            found[name] = made
    return found


def alert_rules(spec: StreamSpec) -> dict[str, dict[str, Any]]:
    """By sensor, what of it may raise no alert, in the keys of the configuration; only what is not plain.

    A model's thresholds are found with these rules, so it must judge with them.
    """
    return {
        name: dict(rule.alert.facts())
        for name, rule in zip(spec.sensors, spec.rules, strict=True)
        if rule.alert.excuses
    }


def hold_rows(spec: StreamSpec) -> tuple[int, ...]:
    """Per sensor, for how many rows its last value stands for a missing one."""
    return tuple(rule.hold_ns // spec.period_ns for rule in spec.rules)


def silent_rows(spec: StreamSpec) -> tuple[int, ...]:
    """Per sensor, after how many rows without a value it is silent: not while its last value is held."""
    silent = max(spec.silent_after_ns // spec.period_ns, 1)
    return tuple(max(silent, held) for held in hold_rows(spec))
