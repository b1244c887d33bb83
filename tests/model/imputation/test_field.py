"""The Gaussian field against the exact conditional mean."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import Segment
from daemon.model.imputation import (
    LEVELS,
    NUGGET,
    ImputationParameters,
    fit,
    impute_segments,
)
from tests.model.imputation.conftest import CLOCK, ONE, SPEC, ZERO, C, only, plant
from tests.naive import conditional_mean


@pytest.mark.parametrize(("member", "level"), [(1, LEVELS[0]), (2, LEVELS[1])])
def test_the_field_is_the_exact_conditional_where_all_cells_are_neighbours(
    parameters: ImputationParameters, member: int, level: float
) -> None:
    # Three rows and one hole: all other cells that count as neighbours, by the plain formula.
    x = plant(3, 5)
    x[1, 0] = np.nan
    fill = impute_segments(only(parameters, member), [Segment("a", 0, x)], CLOCK)[0]
    cells = [(r, c) for r in range(3) for c in range(C) if (r, c) != (1, 0)]
    zero = (len(parameters.covariance) - 1) // 2

    def covariance(a: tuple[int, int], b: tuple[int, int]) -> float:
        noise = (NUGGET if a == b else 0.0) + (level if a[1] == b[1] else 0.0)
        return float(parameters.covariance[b[0] - a[0] + zero, a[1], b[1]]) + noise

    expected = conditional_mean(covariance, cells, [float(x[cell]) for cell in cells], (1, 0))
    assert fill.value[1, 0] == pytest.approx(expected, abs=1e-9)


def test_covariances_are_those_of_the_data() -> None:
    x = plant(500, 3)
    x[np.random.default_rng(0).random(x.shape) < 0.1] = np.nan
    gamma = fit([Segment("a", 0, x[:200]), Segment("b", 0, x[200:])], ZERO, ONE, SPEC).covariance
    zero = (len(gamma) - 1) // 2
    for lag, i, j in [(0, 0, 1), (3, 0, 1), (3, 1, 0), (7, 2, 2)]:
        pairs = [x[t, i] * x[t + lag, j] for t in range(500 - lag) if (t < 200) == (t + lag < 200)]
        assert gamma[zero + lag, i, j] == pytest.approx(np.nanmean(pairs), rel=1e-5)
        assert gamma[zero - lag, j, i] == gamma[zero + lag, i, j]


def test_inconsistent_covariances_give_bounded_values() -> None:
    # Three sensors, each pair observed at its own time: every pair is anticorrelated, which is
    # impossible for three, and the plain solution is many times the readings.
    g = np.random.default_rng(0)
    x = np.full((900, 3), np.nan)
    for part, (a, b) in enumerate([(0, 1), (1, 2), (0, 2)]):
        state = g.standard_normal(300)
        x[part * 300 : (part + 1) * 300, a] = state
        x[part * 300 : (part + 1) * 300, b] = -state
    fitted = only(fit([Segment("a", 0, x)], np.zeros(3), np.ones(3), SPEC), 1)
    holed = np.full((200, 3), np.nan)
    holed[:, 1:] = g.standard_normal((200, 2))
    value = impute_segments(fitted, [Segment("a", 0, holed)], CLOCK)[0].value
    assert np.abs(value[:, 0]).max() < 1.5 * np.abs(holed[:, 1:]).sum(1).max()
