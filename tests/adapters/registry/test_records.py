"""The records of the models topic."""

from __future__ import annotations

import pytest

from daemon.adapters.registry.records import Pointer, outdated


@pytest.mark.parametrize(
    ("pointer", "keep", "gone"),
    [
        (None, 2, ["a", "b", "c"]),
        (Pointer("a", before="c"), 2, ["b"]),
        (Pointer("e", before="d"), 1, ["a", "b", "c"]),
        (Pointer("e"), 5, []),
        (Pointer("e"), 99, []),
        (None, 0, ["a", "b", "c", "d", "e"]),
    ],
)
def test_the_newest_versions_and_those_in_use_are_kept(
    pointer: Pointer | None, keep: int, gone: list[str]
) -> None:
    assert outdated(["a", "b", "c", "d", "e"], pointer, keep) == gone
