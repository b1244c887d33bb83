"""Jumps of single sensors: what they are, and the limits that open an anomaly."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain import Floats
from daemon.model import jumps

NAN = float("nan")
ROWS = 20_000


def by_asset(rows: Floats, slots: list[int]) -> Floats:
    """The changes of every row, found one by one."""
    last: dict[int, Floats] = {}
    found = []
    for row, slot in zip(rows, slots, strict=True):
        found.append(np.abs(row - last.get(slot, np.full(len(row), NAN))))
        last[slot] = row
    return np.array(found)


@pytest.mark.parametrize("cut", [1, 7, 200])
@pytest.mark.parametrize("assets", [1, 3])
def test_changes_are_between_an_assets_adjacent_rows_however_they_come(cut: int, assets: int) -> None:
    rng = np.random.default_rng(3)
    rows, slots = rng.standard_normal((200, 4)), rng.integers(0, assets, 200)
    rows[rng.random(rows.shape) < 0.2] = NAN
    state = np.tile(jumps.fresh(4), (assets, 1))
    found = [jumps.advance(rows[i : i + cut], state, slots[i : i + cut]) for i in range(0, len(rows), cut)]
    np.testing.assert_array_equal(np.concatenate(found), by_asset(rows, slots.tolist()))
    assert np.isfinite(state).all()  # as a snapshot wants it


def test_each_sensor_has_a_limit_of_its_own_and_one_that_never_moved_has_one_too() -> None:
    rng = np.random.default_rng(1)
    values = np.abs(rng.standard_normal((ROWS, 4))) * [1.0, 0.01, 0.0, 1.0]
    values[:, 3] = NAN
    tails = jumps.JumpTails(values, np.full(4, 1e-3))
    level = float(tails.strength(values).max())
    wild, calm, constant, unseen = tails.limits(level).at(level)
    assert 80 < wild / calm < 125
    assert wild == pytest.approx(values[:, 0].max(), rel=0.3)
    assert 1e-3 <= constant < 1e-2
    assert unseen == np.inf
    again = values[:100].copy()
    again[50, 1] = 0.2  # small for the first sensor
    assert np.flatnonzero(tails.strength(again) > level).tolist() == [50]


def test_rows_that_were_never_adjacent_give_no_limit() -> None:
    nothing = np.full((50, 2), NAN)
    tails = jumps.JumpTails(nothing, np.full(2, 1e-3))
    level = float(tails.strength(nothing).max())
    assert (tails.limits(level).at(level) == np.inf).all()
