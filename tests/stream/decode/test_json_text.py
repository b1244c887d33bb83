"""JSON texts, and 64-bit integers as JavaScript's libraries print them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.stream.decode.json_text import json_tree, long_of
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import tree_of


def printed(number: int, *, unsigned: bool) -> dict[str, object]:
    low, high = number & 0xFFFFFFFF, (number >> 32) & 0xFFFFFFFF
    if low >= 1 << 31:
        low -= 1 << 32  # both halves are signed there
    if high >= 1 << 31:
        high -= 1 << 32
    return {"low": low, "high": high, "unsigned": unsigned}


@given(st.integers(-(1 << 63), (1 << 63) - 1), st.integers(0, (1 << 64) - 1))
def test_they_are_numbers_again(signed: int, unsigned: int) -> None:
    assert long_of(printed(signed, unsigned=False)) == signed
    assert long_of(printed(unsigned, unsigned=True)) == unsigned


def test_they_are_looked_for_where_the_option_says_so() -> None:
    tree = {
        "a": [{"t": printed(5_000_000_000, unsigned=True)}],
        "b": {"low": 1, "high": 2, "mean": 3},
        "c": 1,
    }
    text = json.dumps(tree).encode()
    assert tree_of("json", text) == tree
    expected = {"a": [{"t": 5_000_000_000}], "b": {"low": 1, "high": 2, "mean": 3}, "c": 1}
    assert tree_of("json", text, longs=True) == expected
    assert tree_of("json", json.dumps(printed(7, unsigned=True)).encode(), longs=True) == 7


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (b"", Reason.BLANK, "empty"),
        (b" \n", Reason.BLANK, "nothing but white space"),
        (
            b"nope, no JSON at all",
            Reason.NOT_JSON,
            "Expecting value at character 0, where 'nope, no JSON at' is",
        ),
        (b'{"a": 1', Reason.NOT_JSON, "Expecting ',' delimiter at character 7, the end"),
    ],
)
def test_what_stands_where_json_ends_is_quoted(value: bytes, reason: Reason, detail: str) -> None:
    with pytest.raises(RejectedError) as error:
        json_tree(value)
    assert (error.value.reason, error.value.detail) == (reason, detail)
