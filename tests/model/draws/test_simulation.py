"""Error paths against the exact Gaussian conditional."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.model.draws import (
    ErrorPaths,
)
from daemon.model.imputation import REACH, ImputationParameters
from tests.model.draws.conftest import drawn, exact, holed, table, walk
from tests.naive import conditional_covariance

GAPS = {
    "one sensor": [(slice(10, 18), 0)],
    "all at once": [(slice(10, 16), slice(None))],
    "overlapping": [(slice(8, 14), 0), (slice(11, 18), 1)],
    "the end": [(slice(24, 30), slice(0, 2))],
    "adjacent": [(slice(8, 11), 0), (slice(12, 15), 0), (slice(8, 15), 2)],
}


@pytest.mark.parametrize("gap", GAPS)
def test_paths_have_the_exact_conditional_covariance(parameters: ImputationParameters, gap: str) -> None:
    known = replace(parameters, covariance=exact())
    _, missing = holed(np.zeros((30, 3)), *GAPS[gap])
    paths = ErrorPaths(known, ~missing, missing, 20_000, np.random.default_rng(0), level=0.0)
    found = list(paths.rows())
    cells = [(row, c) for row, channels, _ in found for c in channels.tolist()]
    simulated = np.cov(np.concatenate([path for _, _, path in found]))
    gamma = exact()

    def covariance(a: tuple[int, int], b: tuple[int, int]) -> float:
        return float(gamma[b[0] - a[0] + 2 * REACH, a[1], b[1]])

    observed = [(r, c) for r in range(30) for c in range(3) if not missing[r, c]]
    wanted = conditional_covariance(covariance, observed, cells)
    assert np.abs(simulated - wanted).max() < 0.06 * np.abs(wanted).max()


def test_path_spread_shrinks_towards_readings(parameters: ImputationParameters) -> None:
    """The further from a reading, the less is known; next to it, about one step's noise."""
    _, missing = holed(np.zeros((60, 3)), (slice(20, 40), slice(None)))
    paths = ErrorPaths(parameters, ~missing, missing, 4000, np.random.default_rng(0))
    spread = np.array([path.std(1) for _, _, path in paths.rows()])
    assert (spread[[0, -1]] < 0.65 * spread[9]).all()


def test_a_gap_longer_than_the_field_reaches_has_no_seam(parameters: ImputationParameters) -> None:
    x, _ = holed(walk(700, 3), (slice(100, 600), slice(None)))
    values = table(drawn(parameters, x, 60), x.shape, 60)[100:600]
    steps = np.abs(np.diff(values, axis=0)).mean((1, 2))
    truth = np.abs(np.diff(walk(700, 3), axis=0)).mean()
    assert 0.7 * truth < steps.mean() < 1.4 * truth
    assert steps[8:-8].max() < 1.5 * np.median(steps)  # nearer to its ends the readings still count
    edges = np.abs(values[0] - walk(700, 3)[99][:, None]).mean()
    assert edges < 2 * truth
