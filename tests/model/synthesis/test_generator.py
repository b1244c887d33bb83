"""Synthetic series: like held-out rows, reproducible, within the range of training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain import Segment
from daemon.errors import BundleError
from daemon.model import fidelity
from daemon.model.bundle import Bundle
from tests.model.conftest import KINDS, QUICK, machine, trained
from tests.model.synthesis.conftest import rows_of

HIGHER = np.array([300.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize("kind", KINDS)
def test_series_are_like_rows_that_training_did_not_see(kind: str, bundles: Callable[[str], Bundle]) -> None:
    made = rows_of(bundles(kind), 8, 300)
    real = list(np.split(machine(2_400, seed=5, start=1_500), 8))
    assert fidelity.marginals(real, made)[:3].mean() < 0.1
    assert fidelity.correlation_error(real, made) < 0.1
    assert fidelity.autocorrelation_error(real, made, [1, 16, 64]).max() < 0.1
    assert 0.75 < fidelity.seam(made, 8) < 1.35


def test_a_sensor_that_stood_still_stands_still_and_none_leaves_its_range(bundle: Bundle) -> None:
    made = np.concatenate(rows_of(bundle, 4, 500))
    learned = machine(1_500)
    assert (made[:, 3] == 7.0).all()
    assert (made >= learned.min(0) - 1e-6).all()
    assert (made <= learned.max(0) + 1e-6).all()


def test_synthetic_windows_do_not_repeat_training_windows(bundle: Bundle) -> None:
    made = rows_of(bundle, 8, 300)
    found = fidelity.memorisation([machine(1_500)], [machine(1_500, 5, 1_500)], made, 16)
    assert found is not None
    assert found.made > 0.8 * found.held_out


def test_a_seed_is_a_series_and_a_saved_bundle_draws_the_same(bundle: Bundle) -> None:
    again = Bundle.from_bytes(bundle.to_bytes())
    one, other = (b.series(3, seed=4).rows()[0] for b in (bundle, again))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, bundle.series(3, seed=5).rows()[0])


def test_the_levels_of_two_assets_and_of_two_conditions_are_kept_apart() -> None:
    low, high = machine(400), machine(400, seed=1) + HIGHER
    modes = ("mode=low",) * 400, ("mode=high",) * 400
    made = trained([Segment("a", 0, low, modes[0]), Segment("b", 0, high, modes[1])], condition=("mode",))
    for which in ({"like": "a"}, {"condition": "mode=low"}):
        assert np.concatenate(rows_of(made, 3, 100, **which))[:, 0].max() <= low[:, 0].max() + 1e-6
    for which in ({"like": "b"}, {"condition": "mode=high"}):
        assert np.concatenate(rows_of(made, 3, 100, **which))[:, 0].min() >= high[:, 0].min() - 1e-6
    both = np.concatenate(rows_of(made, 40, 100))[:, 0]
    assert 0.35 < (both > 350.0).mean() < 0.65
    with pytest.raises(BundleError, match="no asset 'c'; it learned from a, b"):
        made.series(1, like="c")
    with pytest.raises(BundleError, match="knows no condition 'mode=off'; it knows mode=high, mode=low"):
        made.series(1, condition="mode=off")
    with pytest.raises(BundleError, match="training saw no window of this asset under this condition"):
        made.series(1, like="a", condition="mode=high")


def test_conditions_come_with_the_rows() -> None:
    low, high = machine(400), machine(400, seed=1) + HIGHER
    history = [Segment("a", 0, low, ("mode=low",) * 400), Segment("a", 500, high, ("mode=high",) * 400)]
    rows, labels = (part[:, :40] for part in trained(history, condition=("mode",)).series(30).rows())
    assert set(labels.reshape(-1).tolist()) == {0, 1}  # high and low, in order of the alphabet
    assert ((rows[:, :, 0] > 350.0) == (labels == 0)).mean() > 0.9


def test_a_sensor_that_training_never_saw_has_no_values() -> None:
    values = machine(600)
    values[:, 2] = np.nan
    made = np.concatenate(rows_of(trained([Segment("a", 0, values)]), 2, 50))
    assert np.isnan(made[:, 2]).all()
    assert np.isfinite(made[:, [0, 1, 3]]).all()


def test_windows_of_an_odd_length_and_of_few_rows() -> None:
    made = trained([Segment("a", 0, machine(1_000))], window=7)
    assert np.isfinite(np.concatenate(rows_of(made, 3, 100))).all()
    few = trained([Segment("a", 0, machine(45))])
    assert np.isfinite(np.concatenate(rows_of(few, 3, 100))).all()


def test_a_history_in_many_short_pieces() -> None:
    history = [Segment(f"a{i}", 0, machine(60, i, 40 * i)) for i in range(40)]
    made = rows_of(trained(history, replace(QUICK, kind="ppca")), 4, 200)
    assert np.isfinite(np.concatenate(made)).all()
