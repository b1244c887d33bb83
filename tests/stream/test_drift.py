"""Either half of the drift metric says drift by itself; sums do not tell how their rows came."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.detector import DriftReference
from daemon.domain import SECOND_NS, DriftRecord, InputPartition
from daemon.stream.drift import FEWEST_WINDOWS, Drift

HOUR = 3600 * SECOND_NS
Z, C = 3, 2
REFERENCE = DriftReference(np.zeros(Z), np.ones(Z), np.zeros(C), np.ones(C), 0.5, 0.5)


def drift() -> Drift:
    return Drift("s", InputPartition("t", 0), HOUR, REFERENCE, "v1")


def after(posterior_shift: float, residual_shift: float, windows: int = 400) -> DriftRecord:
    rng = np.random.default_rng(0)
    made = drift()
    made.add(
        np.arange(windows) * SECOND_NS,
        rng.standard_normal((windows, Z)) + posterior_shift,
        rng.standard_normal((windows, C)) + residual_shift,
        np.ones(windows),
    )
    (record,) = made.end_intervals(HOUR)
    return record


@pytest.mark.parametrize(
    ("posterior", "residual", "verdict"),
    [(0.0, 0.0, "ok"), (1.0, 0.0, "drift"), (0.0, 1.5, "drift"), (1.0, 1.5, "drift")],
)
def test_either_half_alone_says_drift(posterior: float, residual: float, verdict: str) -> None:
    assert after(posterior, residual).verdict == verdict


def test_too_few_windows_say_nothing() -> None:
    assert after(5.0, 5.0, FEWEST_WINDOWS - 1).verdict == "insufficient"
    assert after(5.0, 5.0, FEWEST_WINDOWS).verdict == "drift"


@given(st.integers(1, 120), st.sets(st.integers(0, 120)))
def test_the_last_bit_does_not_tell_how_rows_came_in_batches(count: int, cuts: set[int]) -> None:
    rng = np.random.default_rng(count)
    times = np.sort(rng.integers(0, 2 * HOUR, count))
    posterior, residual = rng.standard_normal((count, Z)) * 1e3, rng.standard_normal((count, C))
    kl = rng.random(count)
    whole, parts = drift(), drift()
    whole.add(times, posterior, residual, kl)
    edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
    for begin, end in itertools.pairwise(edges):
        some = slice(begin, end)
        parts.add(times[some], posterior[some], residual[some], kl[some])
    assert list(whole.end_intervals(2 * HOUR)) == list(parts.end_intervals(2 * HOUR))
