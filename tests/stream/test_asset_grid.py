"""The hashes that tell a repeated row from a contradiction."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.stream.asset_grid import value_hashes

NAN = float("nan")


@given(st.lists(st.tuples(st.sampled_from([0.0, -0.0, 1.0, 2.0, NAN]), st.sampled_from([1.0, 2.0, NAN]))))
def test_rows_have_the_same_hash_if_and_only_if_they_are_equal(
    drawn_rows: list[tuple[float, float]],
) -> None:
    hashes = value_hashes(np.array(drawn_rows).reshape(-1, 2)).tolist()
    for one, a in zip(drawn_rows, hashes, strict=True):
        for other, b in zip(drawn_rows, hashes, strict=True):
            equal = all(x == y or (x != x and y != y) for x, y in zip(one, other, strict=True))
            assert (a == b) is equal
    assert 0 not in hashes
