"""Beta is compared on held-out windows, by measures that are tested on constructed cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Segment
from daemon.errors import NotEnoughData
from daemon.model.sweep import factors_of, mutual_information, mutual_information_gap, sweep
from tests import naive
from tests.model.conftest import QUICK, SPEC, machine


def test_a_larger_beta_gives_a_smaller_kl_and_sweeps_are_reproducible() -> None:
    history = [Segment("pump-1", 0, machine(1_200))]
    told: list[tuple[float, str]] = []
    found = sweep(history, SPEC, QUICK, (0.25, 8.0), lambda share, doing: told.append((share, doing)))
    low, high = found.points
    assert (low.beta, high.beta) == (0.25, 8.0)
    assert high.kl < low.kl
    assert found.factors == "sensors"
    assert [(p.beta, p.seed) for p in found.again] == [(1.0, 1), (1.0, 2)]
    assert len({p.elbo for p in found.again}) == 2
    assert 0.0 <= low.purity <= 1.0
    assert low.active_units <= found.latents
    assert found == sweep(history, SPEC, QUICK, (0.25, 8.0))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1][0] <= 1.0


def test_a_worse_model_shows_on_rows_that_were_held_back() -> None:
    """The middle of the history differs from the rest: a model trained on it would not show that."""
    values = machine(1_200)
    odd = values.copy()
    odd[480:720] = np.random.default_rng(0).permuted(odd[480:720], axis=0)
    plain, strange = (
        sweep([Segment("pump-1", 0, rows)], SPEC, QUICK, (1.0,)).points[0] for rows in (values, odd)
    )
    assert strange.reconstruction > 1.5 * plain.reconstruction
    assert strange.elbo < plain.elbo


def test_conditions_are_the_factors_and_not_inputs_of_the_models() -> None:
    modes = tuple("high" if i // 100 % 2 else "low" for i in range(1_200))
    values = machine(1_200)
    values[:, 0] += np.where(np.array(modes) == "high", 200.0, 0.0)
    history = [Segment("pump-1", 0, values, modes)]
    found = sweep(history, replace(SPEC, condition=("mode",)), QUICK, (1.0,))
    assert found.factors == "condition"
    assert found.points[0].purity > 0.1  # one dimension says it
    blind = sweep([Segment("pump-1", 0, values)], SPEC, QUICK, (1.0,))
    assert found.points[0].kl == blind.points[0].kl
    assert found.points[0].elbo == blind.points[0].elbo


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(NotEnoughData):
        sweep([Segment("pump-1", 0, machine(30))], SPEC, QUICK, (1.0,))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40))
def test_mutual_information_follows_from_the_entropies(pairs: list[tuple[int, int]]) -> None:
    a, b = (np.array(column) for column in zip(*pairs, strict=True))
    assert mutual_information(a, b) == pytest.approx(naive.mutual_information(a, b), abs=1e-9)


def test_purity_is_one_where_each_factor_has_a_latent_and_zero_where_two_share_it() -> None:
    rng = np.random.default_rng(0)
    factor = rng.integers(0, 4, 4_000)
    noise = rng.standard_normal(4_000)
    alone = np.stack([factor.astype(float), noise], 1)
    assert mutual_information_gap(alone, [factor]) == pytest.approx(1.0, abs=0.03)
    shared = np.stack([factor.astype(float), -factor.astype(float), noise], 1)
    assert mutual_information_gap(shared, [factor]) == pytest.approx(0.0, abs=0.01)
    assert np.isnan(mutual_information_gap(alone, []))


def test_a_sensor_that_stands_still_is_no_factor() -> None:
    level = np.stack([np.arange(50.0), np.full(50, 3.0)], 1)
    level[4, 0] = np.nan
    assert len(factors_of(level, [""] * 50, "sensors")) == 1
