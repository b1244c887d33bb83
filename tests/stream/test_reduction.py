"""Several values of a cell, all at once and one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reading
from daemon.mapping import Reduce
from daemon.stream.reduction import Reductions, reduced

VALUES = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from([0.1, 0.2, 0.7, -3.0, 1e308, -1.7e308])),
    min_size=1,
    max_size=8,
)


@given(st.sampled_from(Reduce), st.lists(VALUES, max_size=5))
def test_a_table_reduces_as_a_row_does_that_is_open(
    rule: Reduce, cells: list[list[tuple[int, float]]]
) -> None:
    one_by_one = []
    for cell in cells:
        reductions = Reductions([rule])
        row = reductions.opened(Reading(0, "a", 0))
        for time_ns, value in cell:
            if rule is not Reduce.FIRST:
                reductions.take(row, 0, value, time_ns)
        if rule is not Reduce.FIRST:
            reductions.close(row)
            assert row.counts is None
        one_by_one.append(cell[0][1] if rule is Reduce.FIRST else row.values[0])
    values = np.array([value for cell in cells for _, value in cell])
    times = np.array([time_ns for cell in cells for time_ns, _ in cell], np.int64)
    sizes = np.array([len(cell) for cell in cells], np.int64)
    begins = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)[: len(cells)]
    assert reduced(rule, values, begins, times).tolist() == one_by_one
