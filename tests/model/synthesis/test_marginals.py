"""Resolution and atoms of synthetic readings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Segment
from daemon.model.synthesis import decimal_step, rounded
from tests.model.conftest import machine, trained
from tests.model.synthesis.conftest import rows_of


def test_readings_keep_their_resolution_and_the_values_they_stop_at() -> None:
    values = machine(1_500)
    values[:, 0] = np.round(values[:, 0], 1)
    values[:, 1] = np.maximum(values[:, 1], 5.0)  # half the time at its stop
    values[:, 3] = np.round(values[:, 0] / 20.0)  # a dozen set points
    made = np.concatenate(rows_of(trained([Segment("a", 0, values)]), 6, 400))
    np.testing.assert_array_equal(made[:, 0], np.round(made[:, 0], 1))
    assert (made[:, 1] == 5.0).mean() == pytest.approx((values[:, 1] == 5.0).mean(), abs=0.05)
    assert set(made[:, 3]) <= set(values[:, 3])


@given(st.integers(0, 6), st.lists(st.integers(-10_000, 10_000), min_size=3, unique=True))
def test_the_step_of_decimals_is_found_and_kept(digits: int, counts: list[int]) -> None:
    values = np.sort(np.array([round(n * 10.0**-digits, digits) for n in counts]))
    step = decimal_step(values)
    assert step >= 10.0**-digits * 0.999
    np.testing.assert_array_equal(rounded(values, step), values)
