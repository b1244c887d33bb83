"""Wide machines with faults of several kinds, and their tracks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from daemon.domain import (
    SECOND_NS,
    Floats,
    Segment,
    StreamSpec,
)
from daemon.model.detector import BundleDetector
from daemon.model.repair import (
    Repair,
    Verdict,
    explained_share,
    verdict_of,
)
from daemon.model.track import Track
from daemon.model.training import train
from tests.model.conftest import QUICK, TARGET, machine

ROWS = 400
FAULT = 300
"""The row at which faults begin in the tests' tracks."""
WIDE = 9


def many(rows: int, seed: int = 0) -> Floats:
    """(rows, 9) raw: three causes, each seen by three sensors."""
    rng = np.random.default_rng(seed)
    t = np.arange(rows)
    causes = np.stack([np.sin(t / 9.0), np.sin(t / 31.0 + 1.0), np.sin(t / 17.0 + 2.0)], 1)
    return np.repeat(causes, 3, axis=1) * np.arange(1, WIDE + 1) + 0.1 * rng.standard_normal((rows, WIDE))


@cache
def wide() -> BundleDetector:
    spec = StreamSpec("wide", tuple(f"s{i}" for i in range(WIDE)), period_ns=60 * SECOND_NS)
    history = [Segment("a", 0, many(1_500))]
    return train(history, spec, replace(QUICK, kind="ppca"), TARGET).detector()


def track_of(detector: BundleDetector, spoil: Callable[[Floats], None], clean: Floats | None = None) -> Track:
    """A machine's rows, unseen by training, with a fault from ``FAULT`` on."""
    values = machine(ROWS, seed=7) if clean is None else clean.copy()
    spoil(values[FAULT:])
    return Track.of(detector, "pump-1", 5_000, values)


def verdict(detector: BundleDetector, track: Track, index: int, found: Repair) -> Verdict:
    """The verdict on a window, what came before its fault being windows of a hundred rows earlier."""
    before = np.stack([track.window(FAULT - 100 + i) for i in range(0, 60, 4)])
    view = track.view(index)
    return verdict_of(detector, found, view, explained_share(detector, view.values, view.condition, before))


def shift(sensors: tuple[int, ...], size: float) -> Callable[[Floats], None]:
    """A fault that moves sensors by so many of the spreads that they had in ``clean``, this way and that."""

    def spoil(rows: Floats) -> None:
        for i, c in enumerate(sensors):
            rows[:, c] += (-1) ** i * size * max(float(rows[:, c].std()), 0.1)

    return spoil
