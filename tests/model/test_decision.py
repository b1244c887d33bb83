"""A rule says what its figure counts, what that is, and what it must be."""

from __future__ import annotations

import math

import pytest

from daemon.domain import finite_or_none
from daemon.model.decision import rule_in_words


@pytest.mark.parametrize(
    ("name", "figure", "limit", "at_least", "says"),
    [
        (
            "likelihood",
            1.8262,
            3.262,
            True,
            "held-out likelihood in nats per cell: 1.826, must be at least 3.262",
        ),
        ("faults_lost", -3, 7.4, False, "injected faults lost, less those gained: -3, must be at most 7.4"),
        ("finite", 0, 0, False, "arrays with numbers that are not finite: 0, must be at most 0"),
        ("of_tomorrow", math.nan, math.inf, False, "of tomorrow: not finite, must be at most not finite"),
    ],
)
def test_a_rule_in_words(name: str, figure: float, limit: float, at_least: bool, says: str) -> None:
    assert rule_in_words(name, finite_or_none(figure), finite_or_none(limit), at_least=at_least) == says
