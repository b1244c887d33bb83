"""The physics of the simulated pumps: hidden states, and the eight sensors that depend on them.

A pump is a handful of hidden states (speed, demand, ambient air, two thermal masses). Because its sensors share so
few causes, any one of them follows from the others to within its measuring noise, while the operating point moves
each of them over a range ten times as wide. That difference is what a joint model uses, and where most faults are
put: a shift of one and a half standard deviations is far inside the channel's own range, and fifteen times its noise.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from daemon.domain import SECOND_NS, Floats

SENSORS: Final = (
    "Speed",  # rpm
    "Flow",  # l/min
    "Pressure",  # bar
    "Current",  # A
    "VibrationDrive",  # mm/s
    "VibrationFan",  # mm/s
    "TemperatureMotor",  # degrees Celsius
    "TemperatureBearing",
)
NOISE: Final = np.array([4.0, 0.8, 0.03, 0.06, 0.04, 0.03, 0.15, 0.12])
"""Standard deviation of each sensor's measuring noise."""
SPREAD: Final = np.array([420.0, 20.0, 0.85, 1.9, 0.49, 0.41, 12.0, 3.9])
"""Standard deviation of each sensor over operating points; the unit of a fault's size."""


class Pumps:
    """A pumps that go through operating points, advanced one period at a time.

    Args:
        count: A, the number of pumps.
        period_ns: simulated time between two rows.
        random: the generator; shared with whatever else is drawn row by row.

    Attributes:
        speed: (A,) share of the nominal speed.
        phase_ns: (A,) by how much the clock of each pump is behind the grid, whole milliseconds.
    """

    def __init__(self, count: int, period_ns: int, random: np.random.Generator) -> None:
        sensors = len(SENSORS)
        self._random = random
        self._period_ns = period_ns
        self._minute = period_ns / (60 * SECOND_NS)
        self._gain = 1.0 + 0.003 * random.standard_normal((count, sensors))
        self._offset = 0.3 * NOISE * random.standard_normal((count, sensors))
        self.phase_ns = np.sort(random.integers(0, period_ns, count)) // 1_000_000 * 1_000_000
        self._setpoint = random.choice([0.6, 0.75, 0.9, 1.0], count)
        self._dwell = random.integers(1, 180, count).astype(np.float64)  # minutes
        self.speed = self._setpoint.copy()
        self._demand = 1.0 + 0.08 * random.standard_normal(count)
        self._ambient = 22.0 + random.standard_normal(count)
        clean = self._sense()
        self._motor = self._ambient + 0.45 * clean[:, 3] ** 2
        self._bearing = self._ambient + 14.0 * self.speed**2

    def advance(self, row: int) -> Floats:
        """Advance one period; the (A, C) values that perfect sensors would measure in this grid row."""
        random, minute, count = self._random, self._minute, len(self.speed)
        day = row * self._period_ns / (86_400 * SECOND_NS)
        daily = math.sin(2 * math.pi * (day - 0.375))  # highest at three in the afternoon
        self._dwell -= minute
        due = self._dwell <= 0
        busy = np.array([0.15, 0.3, 0.3, 0.25]) if daily > 0 else np.array([0.35, 0.35, 0.2, 0.1])
        level = random.choice([0.6, 0.75, 0.9, 1.0], count, p=busy) + 0.015 * random.standard_normal(count)
        dwell = random.uniform(45, 240, count)
        self._setpoint = np.where(due, level, self._setpoint)
        self._dwell = np.where(due, dwell, self._dwell)
        self.speed += (self._setpoint - self.speed) * -math.expm1(-minute / 2.5)
        self._demand = _wander(self._demand, 1.0 + 0.06 * daily, 0.08, minute / 90, random)
        self._ambient = _wander(self._ambient, 22.0 + 4.0 * daily, 0.8, minute / 240, random)
        sensed = self._sense()
        warm = self._ambient + 0.45 * sensed[:, 3] ** 2
        self._motor += (warm - self._motor) * -math.expm1(-minute / 40)
        self._bearing += (self._ambient + 14.0 * self.speed**2 - self._bearing) * -math.expm1(-minute / 25)
        return np.column_stack([sensed, self._motor, self._bearing]) * self._gain + self._offset

    def _sense(self) -> Floats:
        """(A, 6) the sensors from speed to the vibrations, from the operating point, without noise."""
        speed, demand = self.speed, self._demand
        through = speed * demand
        drive = 0.8 + 2.2 * speed**2 + 1.5 * (1.0 - demand) ** 2
        return np.stack(
            [
                3000.0 * speed,
                120.0 * through,
                6.0 * speed**2 - 2.2 * through**2,
                2.0 + 8.0 * speed**2 * demand,
                drive,
                0.4 + 1.3 * speed**2 + 0.25 * drive,
            ],
            axis=1,
        )


def _wander(state: Floats, mean: float, deviation: float, step: float, random: np.random.Generator) -> Floats:
    """One step of a process that strays about its mean; ``step`` in its own time constants."""
    keep = math.exp(-step)
    kick = deviation * math.sqrt(1.0 - keep * keep) * random.standard_normal(len(state))
    return mean + keep * (state - mean) + kick
