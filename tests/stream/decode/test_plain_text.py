"""A plain number, or several words."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode import decode_with
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import refusal, tree_of


@pytest.mark.parametrize(
    ("text", "options", "value", "values"),
    [
        ("21.5", {}, "21.5", ["21.5"]),
        (" 21,5\r\n", {}, "21,5", ["21,5"]),
        ("21.5 3.25\t7", {}, "21.5 3.25\t7", ["21.5", "3.25", "7"]),
        ("21.5,3.25, 7", {}, "21.5,3.25, 7", ["21.5", "3.25", "7"]),
        ("21,5 3,25", {}, "21,5 3,25", ["21,5", "3,25"]),
        ("21,5;3,25;", {}, "21,5;3,25;", ["21,5", "3,25"]),
        ("1,2,3", {}, "1,2,3", ["1", "2", "3"]),
        ("1,,3", {}, "1,,3", ["1", "", "3"]),
        ("1,2", {"separator": ","}, "1,2", ["1", "2"]),
        ("1 | 2", {"separator": "|"}, "1 | 2", ["1", "2"]),
        ("on", {}, "on", ["on"]),
    ],
)
def test_words(text: str, options: dict[str, Any], value: str, values: list[str]) -> None:
    assert tree_of("text", text.encode(), **options) == {"value": value, "values": values}


def test_a_record_without_any_is_refused() -> None:
    assert refusal("text", b" \n") == (Reason.BLANK, "nothing but white space")
    assert refusal("text", b"\xff\x00") == (Reason.NOT_UTF8, "byte 0 is not UTF-8")
    with pytest.raises(ConfigError, match="decode: separator 3 is no text"):
        decode_with(DecodeRule("text", (), {"separator": 3}))


@given(
    st.lists(st.floats(allow_nan=False), min_size=1, max_size=5), st.sampled_from([" ", ",", ", ", ";", "\t"])
)
def test_numbers_come_back(numbers: list[float], between: str) -> None:
    tree = tree_of("text", between.join(map(repr, numbers)).encode())
    assert [float(word) for word in tree["values"]] == numbers


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    with contextlib.suppress(RejectedError):
        assert tree_of("text", value)["values"]
