"""The tail of a score part."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.model.tails import TAIL, Tail


def test_the_tail_is_the_empirical_rank_and_then_exponential() -> None:
    v = np.random.default_rng(0).exponential(2.0, 5_000)
    tail = Tail.fit(v)
    u = np.sort(v)[int(0.98 * len(v))]
    for x in np.quantile(v, [0.1, 0.5, 0.9, 0.97]):
        exact = (len(v) - np.searchsorted(np.sort(v), x) + 0.5) / (len(v) + 1)
        assert math.exp(-tail(np.array([x]))[0]) == pytest.approx(exact, rel=0.03)
    assert tail(np.array([u]))[0] == pytest.approx(-math.log(TAIL), rel=0.02)
    # beyond, an exponential sample's tail is -log p = x / 2
    assert tail(np.array([30.0]))[0] == pytest.approx(15.0, rel=0.15)


@given(
    st.lists(st.integers(-400, 400).map(lambda i: i / 8.0), min_size=1, max_size=200),
    st.lists(st.floats(-100, 100), min_size=2, max_size=20),
)
def test_the_tail_rises_and_inverts(values: list[float], points: list[float]) -> None:
    tail = Tail.fit(np.array(values))
    x = np.sort(points)
    g = tail(x)
    assert (np.diff(g) >= -1e-12).all()  # interpolation rounds
    assert (g >= 0).all()
    for nats in (0.7, 3.0, 8.0):
        if nats > tail.nats[0]:
            assert tail(np.array([tail.inverse(nats)]))[0] >= nats - 1e-6


def test_nan_stays_nan_and_a_tail_of_nan_gives_zero() -> None:
    assert np.isnan(Tail.fit(np.array([1.0, np.nan, 2.0]))(np.array([np.nan]))[0])
    assert Tail.fit(np.array([np.nan]))(np.array([5.0]))[0] == 0.0
