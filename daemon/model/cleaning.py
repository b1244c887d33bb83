"""What a training sets aside: cells of its history that are no measurements, and counters that are read as levels.

One sentinel of -999.9 makes a sensor's spread that of the sentinels, and a fault of many times the sensor's own spread
then stays below the threshold. So cells that ``nature`` calls sentinels or stray are treated as missing in training. A
sentinel is missing later, too (``Scaler.sentinels``): people choose it for no value. A stray value that comes later is
evidence like any other, also one that is repeated: it may be a fault, and a concern says how it is read as missing.

A counter whose settings do not say that it is one has no level that could be learned: each of its values is beyond all
that came before. It is not learned, as a sensor without values is not, so that it raises no alarm, and a concern of the
bundle says how its rate is watched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from daemon.detector import Scaling
from daemon.domain import Floats, Segment, StreamSpec
from daemon.nature import MOST_SENTINELS, resets, strays


@dataclass(frozen=True, slots=True, eq=False)
class Cleaned:
    """A history without what is not to be learned, and what that was."""

    history: list[Segment]
    shown: list[Segment]  # the history without its sentinels alone: when a sensor had no value
    sentinels: tuple[tuple[float, ...], ...]  # per sensor, numbers that stand for no value
    cells: Mapping[str, int] = field(default_factory=dict)  # by sensor, how many are treated as missing
    repeated: Mapping[str, tuple[float, ...]] = field(
        default_factory=dict
    )  # by sensor, those that come often
    counters: tuple[str, ...] = ()  # sensors that only rise, and are not learned

    @property
    def facts(self) -> dict[str, Any]:
        """Its entries in a bundle's manifest; none where nothing was set aside."""
        found = {
            "stray_cells": dict(self.cells),
            "stray_repeated": {name: list(numbers) for name, numbers in self.repeated.items()},
            "levels_of_counters": list(self.counters),
        }
        return {name: value for name, value in found.items() if value}


def cleaned(history: Sequence[Segment], spec: StreamSpec, known: Sequence[tuple[int, float]] = ()) -> Cleaned:
    """The history without sentinels, stray cells and levels of counters.

    Args:
        history: segments (T, C), C the spec's sensors.
        spec: for the names of the sensors, and what is known of them.
        known: sensors, each with a number that stands for no value, from an earlier training: they are missing in
            what that model's stream released, so that they cannot be found there again.
    """
    units = Scaling(np.zeros(len(spec.sensors)), np.ones(len(spec.sensors)), sentinels=tuple(known))
    values = [units.readings(segment.values).copy() for segment in history]
    sentinels: list[tuple[float, ...]] = []
    cells: dict[str, int] = {}
    repeated: dict[str, tuple[float, ...]] = {}
    rising: list[int] = []
    for c, (name, rule) in enumerate(zip(spec.sensors, spec.rules, strict=True)):
        tracks = [block[:, c] for block in values]
        found = strays(tracks)
        derived = rule.counter or rule.component is not None
        # Rates and components are made of the numbers that were sent: no such number can be found in a row again.
        mine = () if derived else (*(number for sensor, number in known if sensor == c), *found.sentinels)
        sentinels.append(tuple(dict.fromkeys(mine))[:MOST_SENTINELS])
        if count := sum(int(mask.sum()) for mask in found.cells):
            cells[name] = count
        if found.repeated and not derived:
            repeated[name] = found.repeated
        for track, mask in zip(tracks, found.cells, strict=True):
            track[mask] = np.nan
        if not derived and resets(name, tracks) is not None:
            rising.append(c)
    ignored = [c for c, rule in enumerate(spec.rules) if rule.alert.ignore]
    if not _observed(values, [*rising, *ignored]):
        rising = []  # there is nothing else to learn from
    for block in values:
        block[:, rising] = np.nan
    pairs = tuple((c, number) for c, numbers in enumerate(sentinels) for number in numbers)
    shown = replace(units, sentinels=pairs)
    return Cleaned(
        [replace(segment, values=block) for segment, block in zip(history, values, strict=True)],
        [replace(segment, values=shown.readings(segment.values)) for segment in history],
        tuple(sentinels),
        cells,
        repeated,
        tuple(spec.sensors[c] for c in rising),
    )


def _observed(values: Sequence[Floats], without: Sequence[int]) -> bool:
    """Whether anything is left without these sensors."""
    return any(bool(np.isfinite(np.delete(block, without, axis=1)).any()) for block in values)


def cleaning_concerns(facts: Mapping[str, Any], sentinels: Sequence[tuple[str, float]]) -> list[str]:
    """What was set aside, each in one line for the operator.

    Args:
        facts: the bundle's.
        sentinels: sensors, each with a number that stands for no value.
    """
    found = []
    cells, repeated = dict(facts.get("stray_cells", {})), dict(facts.get("stray_repeated", {}))
    for name in sorted({*cells, *(sensor for sensor, _ in sentinels)}):
        said = []
        if name in cells:
            said.append(f"{int(cells[name])} values far outside of all others were not learned")
        if numbers := [number for sensor, number in sentinels if sensor == name]:
            verb = "stands" if len(numbers) == 1 else "stand"
            said.append(
                f"{_listed(numbers)} {verb} for no value, in training and later;"
                f" {{missing: [{_listed(numbers)}]}} says it for good"
            )
        if often := repeated.get(name):
            verb = "comes" if len(often) == 1 else "come"
            said.append(
                f"{_listed(often)} {verb} often and alone: if it stands for no value, {{missing: [{_listed(often)}]}} says so"
            )
        found.append(f"sensor {name}: {': '.join(said[:2])}{''.join('; ' + more for more in said[2:])}")
    found += [
        f"sensor {name} only rises: it is not watched; {{counter: true}} watches its rate"
        for name in facts.get("levels_of_counters", ())
    ]
    return found


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.10g}" for number in numbers)
