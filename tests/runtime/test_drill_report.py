"""How findings of a fire drill are written for people."""

from __future__ import annotations

import pytest

from daemon.runtime.drill_report import sized, soon, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (40.0, "40 s"), (119.0, "119 s"), (180.0, "3 min"), (9_000.0, "2.5 h")],
)
def test_durations_are_written_in_their_largest_unit(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.7621, "0.762"), (48.2, "48.2"), (1_213.0, "1,210"), (999.7, "1,000"), (-2_345.0, "-2,340")],
)
def test_a_size_is_three_digits_without_powers_of_ten(value: float, text: str) -> None:
    assert sized(value) == text


def test_a_fault_that_its_first_row_shows_is_found_at_once() -> None:
    assert (soon(0.0), soon(None), soon(180.0)) == ("at once", "at once", "within 3 min")
