"""Sensors that follow one Markov state, and draws of their gaps as tables."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import Floats, Mask, Segment, StreamSpec
from daemon.model.draws import (
    Drawn,
    DrawSettings,
    GappedSegment,
    draw,
)
from daemon.model.imputation import REACH, ImputationParameters, WeekClock, fit, impute_segments

PHI = 0.9
SPEC = StreamSpec("walks", ("a", "b", "c"), window=16)
CLOCK = WeekClock.of(SPEC)


def walk(rows: int, seed: int, sensors: int = 3) -> Floats:
    """Sensors that follow one AR(1) state, with a little AR(1) of their own: Markov, all together."""
    g = np.random.default_rng(seed)
    state, own = np.zeros(rows), np.zeros((rows, sensors))
    for t in range(1, rows):
        state[t] = PHI * state[t - 1] + np.sqrt(1 - PHI**2) * g.standard_normal()
        own[t] = PHI * own[t - 1] + np.sqrt(1 - PHI**2) * g.standard_normal(sensors)
    return state[:, None] + 0.5 * own


@pytest.fixture(scope="module")
def parameters() -> ImputationParameters:
    return fit([Segment("a", 0, walk(4000, 0))], np.zeros(3), np.ones(3), SPEC)


def exact(sensors: int = 3) -> Floats:
    """(4 * REACH + 1, C, C) the covariances of ``walk``."""
    lags = np.abs(np.arange(-2 * REACH, 2 * REACH + 1))
    return PHI ** lags[:, None, None] * (1.0 + 0.25 * np.eye(sensors))


def holed(x: Floats, *gaps: tuple[slice, int | slice]) -> tuple[Floats, Mask]:
    result = x.copy()
    for gap in gaps:
        result[gap] = np.nan
    return result, np.isnan(result)


def drawn(parameters: ImputationParameters, x: Floats, count: int = 20, **more) -> list[Drawn]:
    segments = [Segment("a", 0, x)]
    fills = impute_segments(parameters, segments, CLOCK)
    gapped = [GappedSegment(segments[0], fills[0], np.isnan(x))]
    return list(draw(parameters, gapped, DrawSettings(count, **more), CLOCK))


def table(found: list[Drawn], shape: tuple[int, int], count: int = 20) -> Floats:
    """(T, C, D)"""
    result = np.full((*shape, count), np.nan)
    for d in found:
        result[d.rows, d.channels] = d.values
    return result
