"""The records of the models topic."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.registry.records import (
    MOST_PAST,
    POINTER_BYTES,
    Pointer,
    Promoted,
    following,
    outdated,
)


@pytest.mark.parametrize(
    ("pointer", "keep", "gone"),
    [
        (None, 2, ["a", "b", "c"]),
        (Pointer("a", before="c"), 2, ["b"]),
        (Pointer("e", before="d"), 1, ["a", "b", "c"]),
        (Pointer("e", before="a", past=(Promoted("a"), Promoted("b"))), 1, ["b", "c", "d"]),
        (Pointer("e", before="a", past=(Promoted("a"), Promoted("b"), Promoted("c"))), 2, ["c"]),
        (Pointer("e"), 5, []),
        (Pointer("e"), 99, []),
        (None, 0, ["a", "b", "c", "d", "e"]),
    ],
)
def test_the_newest_versions_and_those_in_use_are_kept(
    pointer: Pointer | None, keep: int, gone: list[str]
) -> None:
    assert outdated(["a", "b", "c", "d", "e"], pointer, keep) == gone


def promotions(versions: str) -> Pointer:
    """The pointer after promotions of these versions, one letter each."""
    pointer: Pointer | None = None
    for version in versions:
        pointer = Pointer.read(following(pointer, Promoted(version, f"why {version}", "kim")).written())
    assert pointer is not None
    return pointer


@given(st.text("abcd", min_size=1, max_size=12))
def test_rolling_back_again_and_again_walks_down_the_promotions_and_never_returns(versions: str) -> None:
    expected: list[str] = []  # the last promotion of each version, the newest first
    for version in reversed(versions):
        if version not in expected:
            expected.append(version)
    pointer: Pointer | None = promotions(versions)
    walked = []
    while pointer is not None:
        walked.append(pointer.version)
        assert pointer.before == (pointer.past[0].version if pointer.past else "")
        pointer = next(pointer.earlier("worse", "kim"), None)
    assert walked == expected


def test_a_promotion_remembers_those_before_with_who_and_why() -> None:
    pointer = promotions("abb")
    assert pointer == Pointer("b", "why b", "a", "kim", past=(Promoted("a", "why a", "kim"),))
    (back,) = pointer.earlier("it alarms all night", "robin", "2026-01-31T08:00:00Z")
    assert back == Pointer("a", "it alarms all night", "", "robin", "2026-01-31T08:00:00Z")


def test_a_pointer_of_an_earlier_version_of_this_program_can_be_rolled_back() -> None:
    pointer = Pointer.read(b'{"version": "b", "reason": "better", "before": "a"}')
    assert pointer.history == (Promoted("a"),)
    assert [back.version for back in pointer.earlier("worse")] == ["a"]
    assert following(pointer, Promoted("c")).past == (Promoted("b", "better"), Promoted("a"))


@pytest.mark.parametrize("letter", ["x", "\u00e4", "\U0001f600", "\x01"])
def test_a_pointer_stays_within_what_every_reader_accepts(letter: str) -> None:
    pointer: Pointer | None = None
    for i in range(2 * MOST_PAST):
        pointer = following(pointer, Promoted(f"v{i}", letter * 5_000, letter * 5_000, letter * 5_000))
        written = pointer.written()
        assert len(written) <= POINTER_BYTES
        again = Pointer.read(written)
        assert (again.version, again.before) == (f"v{i}", f"v{i - 1}" if i else "")
        assert len(again.past) <= MOST_PAST
    short = msgspec.structs.replace(promotions("abcd"), reason="better")
    assert Pointer.read(short.written()) == short
