from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import SECOND_NS, Floats
from daemon.model.faults import FaultKind, FaultRecord, Injection, inject, moments, moving, touched
from tests.model.conftest import dropped, machine

SCALE = np.array([20.0, 0.8, 600.0, 0.0])
MOVING = [0, 1, 2]


def naive(
    kind: FaultKind, values: Floats, start: int, stop: int, c: int, size: float, other: int, mean: Floats
) -> Floats:
    """Cell by cell; noise aside."""
    result = values.copy()
    for i in range(start, stop):
        if kind is FaultKind.SPIKE:
            result[i, c] = values[i, c] + (size * SCALE[c] if i == start else 0.0)
        elif kind is FaultKind.SHIFT:
            result[i, c] = values[i, c] + size * SCALE[c]
        elif kind is FaultKind.DRIFT:
            result[i, c] = values[i, c] + size * SCALE[c] * (i - start) / max(stop - start - 1, 1)
        elif kind is FaultKind.STUCK:
            before = [values[j, c] for j in range(start) if np.isfinite(values[j, c])]
            if before and np.isfinite(values[i, c]):
                result[i, c] = before[-1]
        elif kind is FaultKind.SWAP:
            result[i, c] = (values[i, other] - mean[other]) / SCALE[other] * SCALE[c] + mean[c]
            result[i, other] = (values[i, c] - mean[c]) / SCALE[c] * SCALE[other] + mean[other]
        elif kind is FaultKind.LAG:
            k = max(round(abs(size)), 1)
            if i >= k:
                result[i, c] = values[i - k, c]
        else:
            result[i, c] = np.nan
    return result


@given(
    kind=st.sampled_from([kind for kind in FaultKind if kind is not FaultKind.NOISE]),
    holed=st.booleans(),
    span=st.tuples(st.integers(0, 58), st.integers(1, 60)),
    c=st.sampled_from(MOVING),
    step=st.integers(1, 2),
    size=st.floats(-8.0, 8.0),
)
def test_each_kind_of_fault_equals_the_naive_version(
    kind: FaultKind, holed: bool, span: tuple[int, int], c: int, step: int, size: float
) -> None:
    values = dropped(machine(60), 0.2) if holed else machine(60)
    kept = values.copy()
    start, stop = span[0], min(span[0] + span[1], 60)
    other = (c + step) % 3
    sensors = [c, other] if kind is FaultKind.SWAP else [c]
    mean = np.array([200.0, 5.0, 1e4, 7.0])
    found = inject(values, Injection(kind, sensors, start, stop, size), SCALE, np.random.default_rng(0), mean)
    np.testing.assert_array_equal(values, kept)
    np.testing.assert_allclose(found, naive(kind, values, start, stop, c, size, other, mean))
    assert set(touched(values, found)) <= set(sensors)
    if kind is not FaultKind.DROP_OUT and not (kind is FaultKind.LAG or kind is FaultKind.SWAP):
        np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


def test_two_standard_deviations_of_the_noise_are_its_size() -> None:
    values = np.zeros((40_000, 4))
    found = inject(values, Injection(FaultKind.NOISE, [2], 10, 40_000, 3.0), SCALE, np.random.default_rng(1))
    assert touched(values, found) == (2,)
    assert found[10:, 2].std() == pytest.approx(3.0 * 600.0 / 2.0, rel=0.02)


def test_several_sensors_take_the_same_fault() -> None:
    values = machine(40)
    found = inject(values, Injection(FaultKind.SHIFT, [0, 2], 20, 40, -2.0), SCALE, np.random.default_rng(0))
    assert touched(values, found) == (0, 2)
    np.testing.assert_allclose(found[20:, 2] - values[20:, 2], -1_200.0)


@pytest.mark.parametrize(
    ("kind", "start", "stop", "sensors", "said"),
    [
        (FaultKind.SHIFT, -1, 5, [0], "rows -1 to 5 of 40"),
        (FaultKind.SHIFT, 5, 5, [0], "rows 5 to 5 of 40"),
        (FaultKind.SHIFT, 5, 41, [0], "rows 5 to 41 of 40"),
        (FaultKind.SWAP, 5, 9, [0], "two sensors, not of 1"),
        (FaultKind.SWAP, 5, 9, [1, 1], "two sensors, not of 1"),
        (FaultKind.SWAP, 5, 9, [1, 3], "stands still"),
    ],
)
def test_what_cannot_be_injected_is_refused(
    kind: FaultKind, start: int, stop: int, sensors: list[int], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        inject(machine(40), Injection(kind, sensors, start, stop, 1.0), SCALE, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((kind.value, kind) for kind in FaultKind),
        ("Correlation-Swap", FaultKind.SWAP),
        ("correlation swap", FaultKind.SWAP),
        (" SWAP", FaultKind.SWAP),
        ("drop-out", FaultKind.DROP_OUT),
        ("DropOut", FaultKind.DROP_OUT),
    ],
)
def test_kinds_are_named_as_people_write_them(text: str, kind: FaultKind) -> None:
    assert FaultKind.of(text) is kind


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'jump' is no kind of fault: known are spike, shift, .*drop_out"):
        FaultKind.of("jump")


def test_moments_are_of_observed_cells_and_moving_sensors_follow() -> None:
    values = dropped(machine(500), 0.3)
    values[:, 2] = np.nan
    mean, scale = moments(values)
    np.testing.assert_allclose(mean[:2], np.nanmean(values[:, :2], axis=0))
    np.testing.assert_allclose(scale[:2], np.nanstd(values[:, :2], axis=0))
    assert moving(values, mean, scale) == (0, 1)  # one never seen, one that stands still


def test_the_truth_as_json() -> None:
    record = FaultRecord(FaultKind.SWAP, "a", "Flow", 60 * SECOND_NS, 120 * SECOND_NS)
    assert json.loads(json.dumps(record.as_json())) == {
        "kind": "correlation_swap",
        "asset": "a",
        "sensor": "Flow",
        "start": "1970-01-01T00:01:00Z",
        "end": "1970-01-01T00:02:00Z",
        "size": None,
    }
