"""Fitting: short, long and empty histories; storage."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import Segment
from daemon.model.imputation import (
    ImputationParameters,
    fill_newest,
    fit,
    folds,
)
from tests.model.imputation.conftest import ONE, SPEC, ZERO, C, L, plant


@pytest.mark.parametrize("rows", [2, 20, 150])
def test_a_short_history_still_fits(rows: int) -> None:
    fitted = fit([Segment("a", 0, plant(rows, 0)), Segment("b", 0, plant(rows, 1))], ZERO, ONE, SPEC)
    x = np.full((1, L, C), np.nan)
    assert np.isfinite(fill_newest(fitted, x, None).value).all()


def test_a_history_of_gaps_alone_gives_no_value() -> None:
    fitted = fit([Segment("a", 0, np.full((300, C), np.nan))], ZERO, ONE, SPEC)
    assert np.isnan(fill_newest(fitted, np.full((1, L, C), np.nan), None).value).all()


def test_the_same_data_and_seed_give_the_same_parameters_and_they_survive_storage() -> None:
    history = [Segment("a", 0, plant(700, 0)), Segment("b", 5, plant(300, 1))]
    first, second = (fit(history, ZERO, ONE, SPEC, seed=3).arrays() for _ in range(2))
    again = ImputationParameters.of(first).arrays()
    assert first.keys() == second.keys() == again.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        np.testing.assert_array_equal(array, again[name])


def test_long_histories_are_thinned_to_pieces_that_do_not_join_what_was_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folds, "FIT_ROWS", 2000)
    series = np.arange(12_000.0)[:, None]
    pieces = folds.thinned([series[:7000], series[7000:]])
    assert sum(map(len, pieces)) <= 2000
    for piece in pieces:
        assert (np.diff(piece[:, 0]) == 1).all()
        assert not (piece[0, 0] < 7000 <= piece[-1, 0])
