from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.grouping import by_slot


@given(st.lists(st.integers(0, 4)))
def test_each_asset_keeps_its_order_and_its_rows_are_counted(drawn: list[int]) -> None:
    slots = np.array(drawn, np.int64)
    groups = by_slot(slots)
    assert groups.order.tolist() == [
        i for slot in sorted(set(drawn)) for i, s in enumerate(drawn) if s == slot
    ]
    assert groups.occurrence.tolist() == [drawn[:i].count(slot) for i, slot in enumerate(drawn)]
    ascending = slots[groups.order].tolist()
    assert groups.first.tolist() == [ascending.index(slot) for slot in ascending]
    assert groups.begins.tolist() == [ascending.index(slot) == i for i, slot in enumerate(ascending)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.booleans())))
def test_rows_know_the_row_before_and_the_first_bad_one_of_their_asset(
    drawn: list[tuple[int, int, bool]],
) -> None:
    slots, numbers = (
        np.array([s for s, _, _ in drawn], np.int64),
        np.array([n for _, n, _ in drawn], np.int64),
    )
    bad = np.array([b for _, _, b in drawn], bool)
    last: dict[int, int] = {}
    spoilt: set[int] = set()
    before, good = [], []
    for slot, number, is_bad in drawn:
        before.append(last.get(slot, -slot))
        last[slot] = number
        if is_bad:
            spoilt.add(slot)
        good.append(slot not in spoilt)
    groups = by_slot(slots)
    assert groups.before(numbers, -slots).tolist() == before
    assert groups.up_to_first(bad).tolist() == good
