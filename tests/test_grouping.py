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
