"""Known faults of the simulated fleet: their kinds, when they occur, and what they do to the values.

Faults draw from a generator of their own, so that a fleet with faults sends, outside them, the same bytes as
without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from daemon.adapters.simulator.pumps import SENSORS, SPREAD
from daemon.domain import Floats, Mask

FAULTS_PER_ASSET_DAY: Final = 1.5
FAULT_GAP_ROWS: Final = 120
"""Rows between the end of a fault and the next one's start, on one asset."""
_MARGIN_ROWS: Final = 60  # at either end of a stage: a fault needs room to be found in
DAY_ROWS: Final = 1440
"""Rows of a day at the default period; an endless run schedules its faults so many rows at a time."""
_FAULTS_KEPT: Final = 2000  # an endless demo must not grow


class FaultKind(StrEnum):
    """A fault of a pump or of a sensor."""

    SPIKE = "spike"  # one to three rows, far out
    SHIFT = "shift"  # an offset, within the channel's own range
    DRIFT = "drift"  # an offset that grows for an hour
    STUCK = "stuck"  # the sensor repeats one value
    NOISE = "noise"  # additional noise
    CORRELATION = "correlation"  # values of another pump: plausible alone, not together
    SENSOR_SILENT = "sensor_silent"
    ASSET_SILENT = "asset_silent"


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """One fault: rows of ``asset`` from ``start_ns`` to before ``end_ns``."""

    kind: FaultKind
    asset: str
    sensor: str | None  # None: the whole asset
    start_ns: int
    end_ns: int


class _Recipe(NamedTuple):
    """How faults of one kind are drawn: sensors, number of rows, size (in ``SPREAD``); from, to."""

    sensors: tuple[int, ...]
    rows: tuple[int, int]
    size: tuple[float, float]


_ANY: Final = tuple(range(len(SENSORS)))
_RECIPES: Final = {
    FaultKind.SPIKE: _Recipe(_ANY, (1, 3), (5.0, 8.0)),
    FaultKind.SHIFT: _Recipe((1, 2, 3, 4, 5, 6, 7), (60, 120), (1.2, 2.0)),
    FaultKind.DRIFT: _Recipe((2, 3, 4, 5, 6, 7), (90, 120), (2.0, 3.0)),
    FaultKind.STUCK: _Recipe(_ANY, (75, 120), (0.0, 0.0)),
    FaultKind.NOISE: _Recipe((1, 2, 3, 4, 5), (45, 90), (0.8, 1.2)),
    FaultKind.CORRELATION: _Recipe((1, 2, 3), (60, 120), (0.0, 0.0)),
    FaultKind.SENSOR_SILENT: _Recipe(_ANY, (60, 120), (0.0, 0.0)),
    FaultKind.ASSET_SILENT: _Recipe((-1,), (45, 90), (0.0, 0.0)),
}
_RAMP_ROWS: Final = 60


@dataclass(slots=True, eq=False)
class _Planned:
    """A planned fault; ``donor`` and ``frozen`` are set at its first row."""

    fault: InjectedFault
    index: int
    sensor: int
    size: float
    donor: int = -1
    frozen: float = math.nan


@dataclass(frozen=True, slots=True, eq=False)
class FleetRow:
    """One row of A pumps on its way to the bus."""

    values: Floats  # (A, C) as measured
    clean: Floats  # (A, C) without noise
    sent: Mask  # (A, C) cells that are sent
    speed: Floats  # (A,) of the pumps


class FaultPlan:
    """The faults of a fleet: planned ahead, applied row by row.

    Args:
        assets: names of the A pumps.
        period_ns: simulated time between two rows.
        random: the generator of the faults.

    Attributes:
        injected: planned so far, by start; an endless run keeps the newest.
    """

    def __init__(self, assets: Sequence[str], period_ns: int, random: np.random.Generator) -> None:
        self.injected: list[InjectedFault] = []
        self._assets = tuple(assets)
        self._period_ns = period_ns
        self._random = random
        self._planned: list[_Planned] = []

    def schedule(self, first: int, rows: int) -> None:
        """Spread faults over rows and assets, every kind as often as the others."""
        random = self._random
        wanted = round(FAULTS_PER_ASSET_DAY * len(self._assets) * rows / DAY_ROWS)
        kinds = list(FaultKind)
        drawn = [kinds[i] for _ in range(wanted // len(kinds)) for i in range(len(kinds))]
        drawn += [kinds[i] for i in random.permutation(len(kinds))[: wanted % len(kinds)]]
        margin = min(_MARGIN_ROWS, rows // 8)
        taken: list[list[tuple[int, int]]] = [[] for _ in self._assets]
        for kind in (drawn[i] for i in random.permutation(len(drawn))):
            recipe = _RECIPES[kind]
            length = int(random.integers(recipe.rows[0], recipe.rows[1] + 1))
            sensor = int(random.choice(recipe.sensors))
            size = float(random.uniform(*recipe.size) * random.choice([-1.0, 1.0]))
            latest = first + rows - margin - length
            if latest < first + margin:
                continue  # a stage too short for it
            for _ in range(200):
                fewest = min(map(len, taken))
                index = int(random.choice([i for i, spans in enumerate(taken) if len(spans) <= fewest + 1]))
                begin = int(random.integers(first + margin, latest + 1))
                end = begin + length
                if all(end + FAULT_GAP_ROWS <= a or b + FAULT_GAP_ROWS <= begin for a, b in taken[index]):
                    taken[index].append((begin, end))
                    fault = InjectedFault(
                        kind,
                        self._assets[index],
                        SENSORS[sensor] if sensor >= 0 else None,
                        begin * self._period_ns,
                        end * self._period_ns,
                    )
                    self._planned.append(_Planned(fault, index, sensor, size))
                    self.injected.append(fault)
                    break
        self._planned.sort(key=lambda planned: (planned.fault.start_ns, planned.index))
        self.injected.sort(key=lambda fault: (fault.start_ns, fault.asset))
        del self.injected[:-_FAULTS_KEPT]

    def apply(self, row: int, fleet: FleetRow) -> Mask:
        """Let the faults of one row change what is measured and sent.

        Args:
            row: its number.
            fleet: the row; ``values`` and ``sent`` are changed in place.

        Returns:
            (A,) assets whose record must arrive, and in time, or the fault would not be seen.
        """
        random, values, clean, sent = self._random, fleet.values, fleet.clean, fleet.sent
        time_ns = row * self._period_ns
        needed = np.zeros(len(self._assets), bool)
        while self._planned and self._planned[0].fault.end_ns <= time_ns:
            self._planned.pop(0)
        for planned in self._planned:
            fault, a, c = planned.fault, planned.index, planned.sensor
            if fault.start_ns > time_ns:
                break
            if fault.end_ns <= time_ns:
                continue
            elapsed = (time_ns - fault.start_ns) // self._period_ns
            match fault.kind:
                case FaultKind.SPIKE:
                    values[a, c] += planned.size * SPREAD[c]
                    needed[a] = sent[a, c] = True
                case FaultKind.SHIFT:
                    values[a, c] += planned.size * SPREAD[c]
                case FaultKind.DRIFT:
                    values[a, c] += planned.size * SPREAD[c] * min(1.0, (elapsed + 1) / _RAMP_ROWS)
                case FaultKind.STUCK:
                    if elapsed == 0:
                        planned.frozen = float(values[a, c])
                    values[a, c] = planned.frozen
                case FaultKind.NOISE:
                    values[a, c] += planned.size * SPREAD[c] * random.standard_normal()
                case FaultKind.CORRELATION:
                    if elapsed == 0:
                        planned.donor = int(np.argmax(np.abs(fleet.speed - fleet.speed[a])))
                    values[a, c] += clean[planned.donor, c] - clean[a, c]
                case FaultKind.SENSOR_SILENT:
                    sent[a, c] = False
                case FaultKind.ASSET_SILENT:
                    sent[a] = False
        return needed


class Contamination:
    """Sensors of the whole fleet that lose their relation to each other, so slowly that a model is led astray.

    Args:
        period_ns: simulated time between two rows.
        duration_ns: from the start until the full effect.
        random: a generator of its own.
    """

    def __init__(self, period_ns: int, duration_ns: int, random: np.random.Generator) -> None:
        self.start_ns: int | None = None
        self._period_ns = period_ns
        self._duration_ns = duration_ns
        self._random = random

    def apply(self, row: int, values: Floats) -> None:
        """Change the (A, C) values of a row in place, once ``start_ns`` has passed."""
        if self.start_ns is None:
            return
        grown = (row * self._period_ns - self.start_ns) / self._duration_ns
        if grown <= 0:
            return
        grown = min(grown, 1.0)
        shake = 1.5 * self._random.standard_normal(values.shape)
        lean = np.where(np.arange(len(SENSORS)) % 2 == 0, 1.5, -1.5)
        values += grown * SPREAD * (shake + lean)
