"""Sustained evidence per sensor."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.budget import Budget
from daemon.domain import DAY_NS, Floats
from daemon.model.crossfit import HeldOutPiece
from daemon.model.reconstruction import Measured
from daemon.model.sustained import SensorStatistics, SustainedLimits
from tests import naive

ROWS = 2_880  # a day
PERIOD = DAY_NS // ROWS


def noise(rows: int, sensors: int = 3, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, sensors))


def fitted() -> SensorStatistics:
    return SensorStatistics.fit(noise(10 * ROWS, seed=1), 16, PERIOD)


def run(statistics: SensorStatistics, residual: Floats) -> tuple[Floats, Floats]:
    state = statistics.fresh()[None].copy()
    return statistics.advance(residual, state, np.zeros(len(residual), np.int64))


def test_a_small_shift_that_lasts_shows_in_its_sensor_and_a_spike_does_not() -> None:
    usual, _ = run(fitted(), noise(5 * ROWS))
    leak = noise(5 * ROWS)
    leak[-240:, 1] += 1.5  # no row of it is unusual alone
    spike = noise(5 * ROWS)
    spike[-2, 1] = 1_000.0
    shift, _ = run(fitted(), leak)
    assert shift[-1, 1] > 1.3 * usual.max()
    assert shift[-1, [0, 2]].max() < usual.max()
    assert run(fitted(), spike)[0].max() < usual.max() + 0.2


def test_noise_that_grows_shows_in_the_spread() -> None:
    _, usual = run(fitted(), noise(5 * ROWS))
    wide = noise(5 * ROWS)
    wide[-240:, 2] *= 2.5
    _, spread = run(fitted(), wide)
    assert spread[-1, 2] > 1.2 * usual.max()


def test_what_moves_for_days_is_followed() -> None:
    residual = noise(10 * ROWS)
    usual, _ = run(fitted(), residual)
    drifting = residual + np.linspace(0, 4, len(residual))[:, None]
    assert run(fitted(), drifting)[0][-ROWS:].max() < 1.3 * usual.max()


def test_a_missing_value_leaves_its_sensor_as_it_is() -> None:
    statistics, residual = fitted(), noise(300)
    residual[96:144, 0] = np.nan  # whole blocks, so that levels move after the same rows without them
    shift, spread = run(statistics, residual)
    assert np.isfinite(shift).all()
    np.testing.assert_array_equal(shift[96:144, 0], shift[95, 0])
    np.testing.assert_array_equal(spread[96:144, 0], spread[95, 0])
    gap = np.delete(residual[:, :1], slice(96, 144), axis=0)
    alone = SensorStatistics(statistics.centre[:1], statistics.scale[:1], statistics.weight, statistics.step)
    np.testing.assert_array_equal(run(alone, gap)[0][:, 0], np.delete(shift[:, 0], slice(96, 144)))


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_many_assets_at_once_are_as_each_alone_by_the_book(share: float) -> None:
    statistics = SensorStatistics.fit(noise(10 * ROWS, seed=1), 16, PERIOD * 40)  # levels that move visibly
    rng = np.random.default_rng(5)
    rows = 2.0 * noise(900) + 1.0
    rows[rng.random(rows.shape) < share] = np.nan
    slots = rng.integers(0, 4, len(rows))  # not the same number of rows each, nor in turns
    state = np.tile(statistics.fresh(), (4, 1))
    shift, spread = statistics.advance(rows, state, slots)
    for slot in range(4):
        expected = naive.sustained(rows[slots == slot], statistics)
        np.testing.assert_allclose(shift[slots == slot], expected[0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(spread[slots == slot], expected[1], rtol=1e-9)
    assert np.abs(state[:, :3]).max() > 0.1


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_batches_and_other_assets_make_no_difference(cut: int) -> None:
    statistics, rows = fitted(), noise(192)
    slots = np.tile([0, 1, 2], 64)
    alone = [run(statistics, rows[slots == slot])[0] for slot in range(3)]
    state = np.tile(statistics.fresh(), (3, 1))
    parts = [
        statistics.advance(rows[i : i + cut], state, slots[i : i + cut])[0] for i in range(0, len(rows), cut)
    ]
    together = np.concatenate(parts)
    for slot in range(3):
        np.testing.assert_array_equal(together[slots == slot], alone[slot])


def test_a_sensor_that_never_moved_or_was_never_seen_is_no_trouble() -> None:
    residual = noise(1_000)
    residual[:, 0], residual[:, 1] = 0.0, np.nan
    statistics = SensorStatistics.fit(residual, 16, PERIOD)
    assert np.isfinite(statistics.centre).all()
    assert (statistics.scale > 0).all()
    shift, spread = run(statistics, residual)
    assert np.isfinite(shift).all()
    assert np.isfinite(spread).all()


def measured(residual: Floats, block: int, first: int) -> HeldOutPiece:
    """A piece of which only the residuals matter here."""
    rows, sensors = residual.shape
    nothing = np.zeros((rows, 0), np.float32)
    seen = np.ones(rows, bool)
    errors, latent = np.zeros((1, rows, sensors)), np.zeros((1, rows, 2))
    cells = [np.zeros((rows, sensors))] * 3
    values = Measured(errors, latent, residual, *cells, nothing, np.zeros(rows), seen, nothing, nothing)
    return HeldOutPiece(block, "a", first, first + rows, [""] * rows, values)


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_the_limits_keep_the_budget_in_both_replays(factor: float) -> None:
    held = [measured(noise(4 * ROWS, seed=10 + i), i, 4 * i * ROWS) for i in range(5)]
    deployed = [measured(factor * noise(20 * ROWS, seed=20), 0, 0)]
    statistics, one = fitted(), np.ones(3)
    limits = SustainedLimits.fit(held, deployed, statistics, one, PERIOD, Budget(0.5))
    assert not limits.provisional
    for pieces in (held, deployed):
        ratios = limits.ratios(*statistics.replay(pieces, one)[:2])
        ends = np.cumsum([len(piece.measured.residual) for piece in pieces])[:-1]
        opened = 0
        for opens, closes in zip(*(np.split(values.max(1), ends) for values in ratios), strict=True):
            is_open = False
            for beyond, near in zip((opens > 1.0).tolist(), (closes > 1.0).tolist(), strict=True):
                opened += beyond and not is_open
                is_open = near and (beyond or is_open)
        assert opened <= 10  # one in two days, of 20
    assert (limits.closes < limits.opens).all()
    leak = noise(5 * ROWS)
    leak[-400:, 1] += 2.5
    opens, _ = limits.ratios(*run(statistics, leak))
    assert opens[-1, 1] > 1.0
    assert opens[-1, [0, 2]].max() < 1.0


@pytest.mark.parametrize("far", [3.0, 50.0])
def test_a_level_that_is_accepted_is_usual_from_then_on_and_a_further_shift_shows(far: float) -> None:
    statistics, state = fitted(), fitted().fresh()[None].copy()
    slots = np.zeros(1, np.int64)
    residual = noise(8 * ROWS)
    residual[:, 1] += 2.0
    residual[:, 2] = far  # without noise
    usual, _ = run(fitted(), noise(5 * ROWS))
    for row in residual[:600]:
        shift, _ = statistics.advance(row[None], state, slots)
    assert shift[0, 1] > 1.3 * usual.max()
    before = state.copy()
    statistics.accept(residual[599], state[0], np.array([False, True, True]))
    for i in range(4):  # the other sensor's state is as it was
        assert state[0, 3 * i] == before[0, 3 * i]
    after = np.array([statistics.advance(row[None], state, slots)[0][0] for row in residual[600:900]])
    assert after[:, 1].max() < 1.3 * usual.max()
    assert after[:, 2].max() < 1e-9
    residual[900:, 1] += 2.0
    later = np.array([statistics.advance(row[None], state, slots)[0][0] for row in residual[900:1100]])
    assert later[-1, 1] > 1.3 * usual.max()


def test_a_sensor_that_never_moved_deviates_neither_by_a_jitter_nor_once_it_is_back_but_by_what_counts() -> (
    None
):
    def rows(day: int) -> Floats:
        residual = noise(4 * ROWS, seed=day)
        residual[:, 0] = 0.0
        return residual

    least, one = 0.02, np.ones(3)
    statistics = SensorStatistics.fit(np.concatenate([rows(i) for i in range(5)]), 16, PERIOD, least)
    held = [measured(rows(i), i, 4 * i * ROWS) for i in range(5)]
    limits = SustainedLimits.fit(held, [], statistics, one, PERIOD, Budget(0.5))

    def over(values: Floats) -> Floats:
        residual = noise(len(values), seed=9)
        residual[:, 0] = values
        return limits.ratios(*run(statistics, residual))[0][:, 0]

    hours = ROWS // 24
    jitter = 1e-3 * least * noise(24 * hours, 1, 3)[:, 0]
    assert over(jitter).max() < 1.0
    moved = np.zeros(24 * hours)
    moved[8 * hours : 12 * hours] = 2.0  # a set point of four hours; its level follows a little
    opens = over(moved)
    assert opens[8 * hours : 12 * hours].max() > 1.0
    assert opens[13 * hours :].max() < 1.0
    assert over(np.full(hours, 2 * least))[-1] > 1.0
    assert limits.for_budget(Budget(0.1)).opens[0, 0] > limits.opens[0, 0]
