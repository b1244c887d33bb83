"""The faults that are injected: kinds, ladder of sizes, and what is drawn from a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.detector import Detector
from daemon.model.faults import FaultKind

LADDER = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
"""Sizes in standard deviations: from a tenth, which only sensors that follow closely from others show, to the
gate's largest; steps of about a half, finer than the interval of the smallest size found."""
LAGS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Lags in rows; those that fit in one window are drilled."""
NEVER_MOVED = 1 << 60
"""``Detector.longest_constant`` of a sensor that was constant throughout training, at least."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault to be injected."""

    kind: FaultKind
    sensors: tuple[int, ...]  # results are counted for the first
    size: float  # signed, in standard deviations; of a lag in rows; 0 where the kind has none
    rung: float  # the same on the ladder, without its sign
    seed: tuple[int, ...]  # of the noise


def ladder(kind: FaultKind, window: int) -> tuple[float, ...]:
    """The sizes of a kind; a single 0 for one without sizes."""
    if not kind.sized:
        return (0.0,)
    return tuple(float(k) for k in LAGS if k <= window) if kind is FaultKind.LAG else LADDER


def varying_sensors(detector: Detector) -> list[int]:
    """The sensors that changed in training: sizes are undefined for one that was constant."""
    return [c for c, rows in enumerate(detector.longest_constant.tolist()) if rows < NEVER_MOVED]


def trial(kind: FaultKind, sensor: int, rung: float, key: Sequence[int], sensors: Sequence[int]) -> Trial:
    """A fault whose sign, partner and noise follow from its key, for any size.

    Args:
        kind, sensor: what is injected into which.
        rung: the size without its sign.
        key: non-negative numbers that identify the place.
        sensors: possible swap partners, the sensor itself among them.
    """
    rng = np.random.default_rng([*key, list(FaultKind).index(kind), sensor])
    sign = float(rng.choice([-1.0, 1.0]))
    both: tuple[int, ...] = (sensor,)
    if kind is FaultKind.SWAP:
        both = (sensor, int(rng.choice([c for c in sensors if c != sensor])))
    return Trial(kind, both, sign * rung, rung, (*key, int(rng.integers(1 << 31))))
