"""Texts that people write: what is odd is refused in one line with its position, however it is odd."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from daemon.documents import MAX_DEPTH, DocumentError, from_json, from_yaml, one_line, read_file, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: " + "9" * 5000, "a number of 5000 characters is too long (line 1, column 4)"),
        ("a: 0x" + "f" * 300, "is too large a number"),
        ("a: 1" + ":59" * 1000, "a number of 3001 characters is too long"),
        ("a: 2026-13-45", "'2026-13-45' cannot be read as a time (line 1, column 4)"),
        ("a: 2026-01-01T25:00:00Z", "cannot be read as a time"),
        ("a: !!int x", "'x' cannot be read as a number"),
        ("a: !!float x", "'x' cannot be read as a number"),
        ("a: !!bool x", "'x' cannot be read as true or false"),
        ("a: !!timestamp x", "'x' cannot be read as a time"),
        ("a: " + "[" * 10_000, "more than 64 mappings and lists within one another"),
        ("a: " + "{a: " * 10_000, "more than 64 mappings"),
        ("- " * 10_000, "more than 64 mappings"),
        ("\n".join(" " * i + "a:" for i in range(1000)), "more than 64 mappings"),
        ("a: !!python/object/apply:os.system [ls]", "tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("a: !!binary aGk=", "tag 'tag:yaml.org,2002:binary'"),
        ("a: !!set {b}", "tag 'tag:yaml.org,2002:set'"),
        ("a: !own b", "tag '!own'"),
        ("&a [*a]", "an alias refers to the mapping or list that it stands in"),
        ("a: &a {<<: *a}", "an alias refers to"),
        ("a: *b", "undefined alias 'b'"),
        ("1: a", "key '1' is not read as a text: put it in quotes"),
        ("no: a", "key 'no' is not read as a text"),
        ("null: a", "key 'null' is not read as a text"),
        ("[a]: b", "a key must be a text, not a mapping or a list"),
        ("{a: b}: c", "a key must be a text"),
        ("a: 1\na: 2", "key 'a' appears twice (line 2, column 1)"),
        ("a: {<<: {b: 1}, c: 1, c: 2}", "key 'c' appears twice"),
        ("a: {<<: 1}", "only a mapping, or a list of mappings, can be merged"),
        ("a: \0", "special characters are not allowed"),
        ("a: 1\n---\nb: 2", "found another document"),
        ("a: [", "expected the node content"),
    ],
)
def test_odd_yaml_is_one_line_with_its_position(text: str, expected: str) -> None:
    with pytest.raises(DocumentError) as raised:
        from_yaml(text)
    assert expected in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("part", ["[{}]", "{{<<: [{}]}}"])
def test_anchors_are_counted_as_often_as_they_are_used(part: str) -> None:
    text = "a: &a {x: 1, y: 2}\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True):
        text += f"{after}: &{after} {part.format(', '.join([f'*{before}'] * 9))}\n"
    with pytest.raises(DocumentError, match="more than 200,000 values, aliases counted as often"):
        from_yaml(text)


def test_a_chain_of_anchors_has_as_many_levels_as_it_has_links() -> None:
    links = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 1000))
    with pytest.raises(DocumentError, match="more than 64"):
        from_yaml("a0: &a0 []\n" + links)


def test_merged_keys_may_be_given_anew_and_merged_on() -> None:
    """Which PyYAML 6.0.4 gets wrong: there, y is 2 wherever the mapping that changes it is merged in turn."""
    assert from_yaml("{a: &a {x: 1}, b: &b {x: 2, y: 2}, c: {<<: [*a, *b]}}")["c"] == {"x": 1, "y": 2}
    text = "a: &a {x: 1, y: 2}\nb: {c: {<<: &b {<<: *a, y: 3}}, d: {<<: *b, x: 4}}"
    assert from_yaml(text)["b"] == {"c": {"x": 1, "y": 3}, "d": {"x": 4, "y": 3}}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_yaml_knows(encoding: str) -> None:
    assert from_yaml("a: °C".encode(encoding)) == {"a": "°C"}


def test_bytes_that_are_no_text() -> None:
    for data in (b"a: \xff", b"\xff\xfea", b"\x80"):
        with pytest.raises(DocumentError):
            from_yaml(data)


YAML = st.text(st.sampled_from("ab01.:-~!&*<>|%@`'\"#?{}[],= \n\t\\x\0é\ud800\ufeff"), max_size=60)


@given(YAML | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = from_yaml(text)
    except DocumentError as error:
        expected = str(error)
    else:
        expected = shown(value)
    assert "\n" not in expected


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        from_yaml(data)
    except DocumentError as error:
        expected = str(error)
    else:
        expected = ""
    assert "\n" not in expected


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_what_is_plain_is_read_as_yaml_reads_it(value: object) -> None:
    text = yaml.safe_dump(value)
    assert from_yaml(text) == yaml.safe_load(text)


def test_json_is_held_to_the_same_limits() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert from_json(f"[{deep[2:-2]}]")
    for text in (f"[{deep}]", "[" * 100_000 + "]" * 100_000, '{"a":' * 10_000 + "1" + "}" * 10_000):
        with pytest.raises(DocumentError, match="more than 64 objects and arrays"):
            from_json(text)
    with pytest.raises(DocumentError, match="too large"):
        from_json("[" + "9" * 400 + "]")
    for text in ("", "a", "9" * 5000):
        with pytest.raises(ValueError, match=r"Expecting value|Exceeds the limit"):
            from_json(text)


def test_only_a_file_of_bounded_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(DocumentError, match="is longer than 4 bytes"):
        read_file(path, 4)
    os.mkfifo(tmp_path / "pipe")
    for odd, expected in (
        (tmp_path, "is a directory, not a file"),
        (tmp_path / "pipe", "is a pipe or a device, not a file"),
        (Path("/dev/zero"), "is a pipe or a device, not a file"),
        (tmp_path / "absent", "No such file"),
        (path / "below", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (Path("\0"), "NUL"),
    ):
        with pytest.raises(DocumentError, match=expected):
            read_file(odd)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\nb", r"'a\nb'"),
        ("x" * 81, "'" + "x" * 80 + "' ..."),
        ([10] * 100, str([10] * 100)[:80] + " ..."),
        ([1, "\x1b"], r"[1, '\x1b']"),
    ],
)
def test_a_value_is_quoted_short_and_printable(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_an_integer_that_python_will_not_write_is_described() -> None:
    assert shown(10**5000) == "an integer of more than 300 digits"


def test_a_message_is_one_line_that_no_terminal_obeys() -> None:
    assert one_line("a\n b\x1b[31m\ud800") == r"a b\x1b[31m\ud800"
