"""Measuring windows."""

from __future__ import annotations

import numpy as np

from daemon.model.bundle import Bundle
from daemon.model.reconstruction import Measured
from daemon.model.segments import sliding
from tests.model.conftest import dropped, machine


def test_parts_that_are_measured_together_measure_as_each_alone(bundle: Bundle) -> None:
    window = bundle.window
    sizes = [1, 3, 0, 40, 2_500, 7, 7]
    values = dropped(machine(sum(sizes) + window), 0.1)
    windows = sliding(values, window)
    ends = np.cumsum(sizes)
    parts = [(windows[b - n : b], [""] * n) for n, b in zip(sizes, ends.tolist(), strict=True)]
    for (some, labels), together in zip(parts, bundle.models.measure_each(parts), strict=True):
        alone = bundle.models.measure(some, labels)
        for name in Measured.__slots__:
            np.testing.assert_array_equal(getattr(together, name), getattr(alone, name), err_msg=name)
