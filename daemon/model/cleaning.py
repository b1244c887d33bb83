"""What a training sets aside: cells of its history that are no measurements, and counters that are read as levels.

One sentinel of -999.9 makes a sensor's spread that of the sentinels, and a fault of many times the sensor's own spread
then stays below the threshold. So cells that ``nature`` calls sentinels or stray are treated as missing in training. A
sentinel is missing later, too (``Scaler.sentinels``): for each of them training has shown that the sensor had no value. A
stray value that comes later is evidence like any other: it may be a fault.

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
    counters: tuple[str, ...] = ()  # sensors that only rise, and are not learned

    @property
    def facts(self) -> dict[str, Any]:
        """Its entries in a bundle's manifest; none where nothing was set aside."""
        found: dict[str, Any] = {"stray_cells": dict(self.cells)} if self.cells else {}
        return found | ({"levels_of_counters": list(self.counters)} if self.counters else {})


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
    rising: list[int] = []
    for c, (name, rule) in enumerate(zip(spec.sensors, spec.rules, strict=True)):
        tracks = [block[:, c] for block in values]
        found = strays(tracks)
        derived = rule.counter or rule.component is not None
        # Rates and components are made of the numbers that were sent: no such number can be found in a row again.
        mine = () if derived else (*found.sentinels, *(number for sensor, number in known if sensor == c))
        sentinels.append(tuple(dict.fromkeys(mine))[:MOST_SENTINELS])
        if count := sum(int(mask.sum()) for mask in found.cells):
            cells[name] = count
        for track, mask in zip(tracks, found.cells, strict=True):
            track[mask] = np.nan
        if not derived and resets(name, tracks) is not None:
            rising.append(c)
    if not _observed(values, rising):
        rising = []  # there is nothing else to learn
    for block in values:
        block[:, rising] = np.nan
    pairs = tuple((c, number) for c, numbers in enumerate(sentinels) for number in numbers)
    shown = replace(units, sentinels=pairs)
    return Cleaned(
        [replace(segment, values=block) for segment, block in zip(history, values, strict=True)],
        [replace(segment, values=shown.readings(segment.values)) for segment in history],
        tuple(sentinels),
        cells,
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
    for name, count in sorted(dict(facts.get("stray_cells", {})).items()):
        numbers = ", ".join(f"{number:.10g}" for sensor, number in sentinels if sensor == name)
        kept = (
            f": {numbers} {'stand' if ',' in numbers else 'stands'} for no value, in training and later; {{missing: [{numbers}]}} says it for good"
            if numbers
            else ""
        )
        found.append(f"sensor {name}: {int(count)} values far outside of all others were not learned{kept}")
    found += [
        f"sensor {name} only rises: it is not watched; {{counter: true}} watches its rate"
        for name in facts.get("levels_of_counters", ())
    ]
    return found
