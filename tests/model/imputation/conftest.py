"""A plant of four sensors, and imputation parameters fitted to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import Floats, Segment, StreamSpec
from daemon.model.imputation import (
    ImputationParameters,
    Mixture,
    WeekClock,
    fit,
)

L, C = 16, 4
SPEC = StreamSpec("plant", ("a", "b", "c", "d"), window=L)
CLOCK = WeekClock.of(SPEC)
ZERO, ONE = np.zeros(C), np.ones(C)


def plant(rows: int, seed: int) -> Floats:
    """Four sensors: two noisy readings of one slow state, one slow of its own, one only noise."""
    g = np.random.default_rng(seed)
    state, own = np.zeros(rows), np.zeros(rows)
    for t in range(1, rows):
        state[t] = 0.95 * state[t - 1] + 0.3 * g.standard_normal()
        own[t] = 0.999 * own[t - 1] + 0.04 * g.standard_normal()
    noise = g.standard_normal((rows, C))
    return np.stack(
        [state + 0.2 * noise[:, 0], -state + 0.2 * noise[:, 1], own + 1e-3 * noise[:, 2], noise[:, 3]], 1
    )


@pytest.fixture(scope="module")
def parameters() -> ImputationParameters:
    return fit([Segment("pump-1", 0, plant(3000, 1))], ZERO, ONE, SPEC)


@pytest.fixture(scope="module")
def future() -> Floats:
    return plant(2000, 2)


def windows(series: Floats, ends: np.ndarray) -> Floats:
    return np.stack([series[e - L + 1 : e + 1] for e in ends])


def only(parameters: ImputationParameters, member: int) -> ImputationParameters:
    """The same parameters with all weight on one member."""

    def pure(mixture: Mixture) -> Mixture:
        weights = np.zeros_like(mixture.weights)
        weights[..., member] = 1.0
        return replace(mixture, weights=weights, step=np.full_like(mixture.step, np.inf))

    return replace(parameters, live=pure(parameters.live), batch=pure(parameters.batch))
