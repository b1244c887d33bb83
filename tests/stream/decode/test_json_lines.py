"""Several JSON texts in one record."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import arrival, refusal, tree_of


def holding(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)


def is_some(value: object) -> bool:
    return value is not None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.text(max_size=5), holding, max_leaves=5
)


@given(
    st.lists(VALUES.filter(is_some), min_size=1, max_size=5),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_lines_come_back(values: list[object], newline: str) -> None:
    arriving = arrival()
    assert tree_of("json-lines", newline.join(map(json.dumps, values)).encode(), arriving) == values
    assert arriving.refused == []


@given(
    st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), min_size=1, max_size=4),
    st.sampled_from(["", " ", "\x1e"]),
)
def test_texts_one_after_the_other_come_back_also_over_several_lines(
    values: list[object], between: str
) -> None:
    text = between.join(json.dumps(value, indent=1) for value in values)
    assert tree_of("json-lines", b"\xef\xbb\xbf" + text.encode()) == values


def test_a_line_that_is_wrong_is_refused_alone() -> None:
    arriving = arrival()
    assert tree_of("json-lines", b'{"a": 1}\n\n{"a": \n{"a": NaN}\n', arriving)[0] == {"a": 1}
    assert [(e.reason, e.detail) for e in arriving.refused] == [
        (Reason.NOT_JSON, "line 3: Expecting value at character 5, the end")
    ]


def test_a_record_without_any_is_refused() -> None:
    assert refusal("json-lines", b" \n ") == (Reason.BLANK, "nothing in it")
    assert refusal("json-lines", b"{\n[")[1].startswith("line 1: ")
    assert refusal("json-lines", b"\xff\xfe")[0] is Reason.NOT_UTF8


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:1 \n\\', max_size=60).map(str.encode))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    with contextlib.suppress(RejectedError):
        assert isinstance(tree_of("json-lines", value), list)


@pytest.mark.parametrize("line", [b"[" * 200, b'{"a":' * 100, b'"', b"[1,"])
def test_hostile_lines_cost_no_more_than_they_have_bytes(line: bytes) -> None:
    """Each line begins what never ends: read on from every one of them, this would take minutes."""
    reason, _ = refusal("json-lines", b"\n".join([line] * (1_000_000 // len(line))))
    assert reason in (Reason.NOT_JSON, Reason.TOO_DEEP)
