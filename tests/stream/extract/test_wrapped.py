"""Single values that a library has wrapped into an object."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.extract.wrapped import is_wrapped, unwrapped


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"double": 81.5}, 81.5),
        ({"string": "a"}, "a"),
        ({"intValue": "7"}, "7"),
        ({"$date": {"$numberLong": "5"}}, "5"),
        ({"low": 2, "high": 0, "unsigned": True}, 2),
        ({"low": -1, "high": 0, "unsigned": False}, 2**32 - 1),
        ({"low": 5, "high": -1, "unsigned": False}, 5 - 2**32),
        ({"low": 5, "high": -1, "unsigned": True}, 2**64 - 2**32 + 5),
    ],
)
def test_the_value_is_taken_out(found: Any, expected: Any) -> None:
    assert unwrapped(found) == expected
    assert is_wrapped(found)


@pytest.mark.parametrize(
    "found",
    [{}, {"a": 1}, {"low": 18, "high": 25}, {"low": 1, "high": 2.5}, {"low": 1, "high": 2, "unsigned": 1}, {"low": 1, "high": 2, "a": 3, "b": 4}, {"low": 1, "high": 2**40}, {"double": {"double": {"a": 1}}}],
)  # fmt: skip
def test_other_objects_stay(found: Any) -> None:
    assert type(unwrapped(found)) is dict
    assert not is_wrapped(found)


def test_a_number_is_one_in_its_wrapping_too() -> None:
    assert number_of({"double": "81,5"}) == 81.5
    assert number_of({"boolean": True}) == 1.0
    for found in ({"a": 1}, {"double": [1]}, {"string": "x"}):
        with pytest.raises(NotANumberError):
            number_of(found)
