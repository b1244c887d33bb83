"""The texts of alerts."""

from __future__ import annotations

import pytest

from daemon.domain import (
    SECOND_NS,
)
from daemon.stream.summaries import lasting


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(119, "119 s"), (120, "2 min"), (5_400, "90 min"), (7_200, "2 h"), (172_799, "48 h"), (172_800, "2 d")],
)
def test_a_duration_is_in_the_largest_unit_of_which_it_has_two(seconds: int, said: str) -> None:
    assert lasting(seconds * SECOND_NS) == said
