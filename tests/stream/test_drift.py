"""Either half of the drift metric says drift by itself; sums do not tell how their rows came."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.asset_drift import FEWEST_WINDOWS
from daemon.detector import DriftReference, Scaling
from daemon.domain import SECOND_NS, DriftRecord, Floats, InputPartition, Ints
from daemon.stream.drift import Drift, carriers
from daemon.stream.summands import Summands

HOUR = 3600 * SECOND_NS
Z, C = 3, 2
REFERENCE = DriftReference(np.zeros(Z), np.ones(Z), np.zeros(C), np.ones(C), 0.5, 0.5)


def drift() -> Drift:
    return Drift("s", InputPartition("t", 0), HOUR, REFERENCE, "v1")


def summands(times: Ints, posterior: Floats, residual: Floats, kl: Floats, explained: int = 0) -> Summands:
    """Windows of which the first ``explained`` are of an open episode; what was read is the residual, 0 was expected."""
    return Summands(
        np.arange(len(times)),
        np.zeros(len(times), np.int64),
        times,
        posterior,
        residual,
        kl,
        residual,
        np.zeros_like(residual),
        np.arange(len(times)) < explained,
        np.zeros(len(times), bool),
    )


def after(posterior_shift: float, residual_shift: float, windows: int = 400) -> DriftRecord:
    rng = np.random.default_rng(0)
    made = drift()
    made.add(
        summands(
            np.arange(windows) * SECOND_NS,
            rng.standard_normal((windows, Z)) + posterior_shift,
            rng.standard_normal((windows, C)) + residual_shift,
            np.ones(windows),
        )
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
    whole.add(summands(times, posterior, residual, kl))
    edges = sorted({0, count, *(cut for cut in cuts if cut < count)})
    for begin, end in itertools.pairwise(edges):
        some = slice(begin, end)
        parts.add(summands(times[some], posterior[some], residual[some], kl[some]))
    assert list(whole.end_intervals(2 * HOUR)) == list(parts.end_intervals(2 * HOUR))


@given(st.integers(0, 90))
def test_windows_that_an_episode_explains_are_counted_and_in_no_sum(explained: int) -> None:
    rng = np.random.default_rng(explained)
    times = np.arange(90) * SECOND_NS
    posterior, residual, kl = rng.standard_normal((90, Z)), rng.standard_normal((90, C)), rng.random(90)
    some, rest = drift(), drift()
    some.add(summands(times, posterior, residual, kl, explained))
    (found,) = some.end_intervals(HOUR)
    assert (found.windows, found.explained) == (90 - explained, explained)
    left = slice(explained, None)
    rest.add(summands(times[left], posterior[left], residual[left], kl[left]))
    assert [replace(found, explained=0)] == (list(rest.end_intervals(HOUR)) or [replace(found, explained=0)])
    if explained == 90:
        assert not np.any([*found.latent_kl, *found.residual_kl])
        assert found.verdict == "insufficient"


def named(posterior_shift: float, residual: Floats, read: Floats) -> list[tuple[str, float, float]]:
    rng, count = np.random.default_rng(0), 400
    made = drift()
    made.add(
        replace(
            summands(
                np.arange(count) * SECOND_NS,
                rng.standard_normal((count, Z)) + posterior_shift,
                rng.standard_normal((count, C)) + residual,
                np.ones(count),
            ),
            readings=rng.standard_normal((count, C)) + read,
            expected=np.full((count, C), 0.25),
        )
    )
    (record,) = made.end_intervals(HOUR)
    found = carriers(record, REFERENCE, Scaling(np.full(C, 50.0), np.full(C, 2.0)), ("oil", "bearing"))
    return [(one.sensor, round(one.observed or 0.0), round(one.expected or 0.0, 1)) for one in found]


def test_a_drift_of_residuals_names_their_sensors_with_what_the_model_expected() -> None:
    assert named(0.0, np.array([0.0, 2.0]), np.array([0.0, 2.0])) == [("bearing", 54, 50.5)]


def test_a_drift_of_latents_names_the_sensors_whose_readings_moved_from_training() -> None:
    assert named(2.0, np.zeros(C), np.array([3.0, 0.0])) == [("oil", 56, 50.0)]


def test_no_drift_names_no_sensor() -> None:
    assert named(0.0, np.zeros(C), np.zeros(C)) == []
