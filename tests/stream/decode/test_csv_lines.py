"""Lines of CSV in one record."""

from __future__ import annotations

import contextlib
import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain import Reason
from daemon.errors import ConfigError
from daemon.mapping import DecodeRule
from daemon.stream.decode import decode_with
from daemon.stream.rejection import RejectedError
from tests.stream.decode.arriving import arrival, refusal, tree_of


def test_columns_come_from_the_option_or_the_header_or_are_numbered() -> None:
    assert tree_of("csv", b"1,2\n3,4\n", columns=["a", "b"]) == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert tree_of("csv", b"a;b\r\n1;2,5\r\n", header=True, delimiter=";") == [{"a": "1", "b": "2,5"}]
    assert tree_of("csv", b"1\t2", delimiter="tab") == [["1", "2"]]
    assert tree_of("csv", b"x,y\n1,2", header=True, columns=["a", "b"]) == [{"a": "1", "b": "2"}]
    assert tree_of("csv", b'\xef\xbb\xbf1, "a, ""b"""\n', columns=["n", "t"]) == [{"n": "1", "t": 'a, "b"'}]


def test_a_line_of_another_length_is_refused_alone() -> None:
    arriving = arrival()
    assert tree_of("csv", b"1,2\n\n3\n4,5", arriving, columns=["a", "b"]) == [
        {"a": "1", "b": "2"},
        {"a": "4", "b": "5"},
    ]
    assert [error.detail for error in arriving.refused] == ["line 3: 1 values, where 2 columns are named"]


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        (b"", {}, (Reason.BLANK, "nothing in it")),
        (b"a,b\n", {"header": True}, (Reason.BLANK, "nothing in it")),
        (b"\xff", {}, (Reason.NOT_UTF8, "byte 0 is not UTF-8")),
        (
            b'{"a": 1}',
            {"columns": ["a", "b"]},
            (Reason.UNDECODABLE, "line 1: it looks like JSON: give decode: json"),
        ),
        (b'"' + b"x" * 200_000, {}, (Reason.UNDECODABLE, "line 1: field larger than field limit (131072)")),
    ],
)
def test_a_record_without_a_line_is_refused(
    value: bytes, options: dict[str, Any], expected: tuple[Reason, str]
) -> None:
    assert refusal("csv", value, **options) == expected


@pytest.mark.parametrize("options", [{"delimiter": ""}, {"delimiter": '"'}, {"header": 1}, {"columns": []}])
def test_options_that_cannot_be_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="decode: "):
        decode_with(DecodeRule("csv", (), options))


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4), st.sampled_from([",", ";", "\t", "|"]))
def test_what_is_written_is_read(rows: list[tuple[str, str]], delimiter: str) -> None:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    kept = [list(row) for row in rows if any(cell.strip() for cell in row)]
    try:
        assert tree_of("csv", text.getvalue().encode(), delimiter=delimiter) == kept
    except RejectedError:
        assert not kept


@given(st.binary(max_size=60) | st.text(alphabet='a,"\n\r\x00', max_size=60).map(str.encode))
def test_any_bytes_are_decoded_or_refused(value: bytes) -> None:
    for options in ({}, {"header": True}, {"columns": ["a", "b"]}):
        with contextlib.suppress(RejectedError):
            assert isinstance(tree_of("csv", value, **options), list)
