"""When a model in force is given up, and what for."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.errors import BundleError
from daemon.runtime.fallback import MOST_REFUSED, Fallback
from daemon.stream.asking import MOST_FAILURES
from daemon.stream.steps import Step

assert MOST_FAILURES == 10


def step(marks: str, model: str = "v1") -> Step:
    """One mark per window: x failed, . judged."""
    failed = np.array([mark == "x" for mark in marks], bool)
    return Step(scored=int((~failed).sum()), failed=failed if failed.any() else None, model=model)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (["." * 50, "....x...."], [False, False]),
        (["x" * 9, "." + "x" * 9, "." * 5, "x" * 9], [False] * 4),
        (["x" * 9, "x"], [False, True]),
        (["x" * 9, "x."], [False, True]),
        (["x" * 5, "", "x" * 5], [False, False, True]),
        (["." + "x" * 9, "x"], [False, True]),
        (["x" * 9 + "." + "x", "x" * 8, "x"], [False, False, True]),
        (["." + "x" * 10 + "."], [True]),
        (["x" * 3 + ".", "x" * 9], [False, False]),
    ],
)
def test_a_run_of_failures_gives_a_model_up(chunks: list[str], expected: list[bool]) -> None:
    fallback = Fallback()
    fallback.model_used(b"before")
    assert [fallback.judged(step(marks), "v1") for marks in chunks] == expected


def test_failures_of_the_model_before_do_not_count() -> None:
    fallback = Fallback()
    assert not fallback.judged(step("x" * 50, "v0"), "v1")
    assert not fallback.judged(step("x" * 9), "v1")
    assert not fallback.judged(step("." * 50, "v0"), "v1")
    assert fallback.judged(step("x"), "v1")


def test_a_model_in_use_starts_with_no_failures_and_falls_back_once() -> None:
    fallback = Fallback()
    fallback.model_used(b"first")
    assert not fallback.judged(step("x" * 9), "v1")
    fallback.model_used(b"second")
    assert not fallback.judged(step("x" * 9, "v2"), "v2")
    assert fallback.judged(step("x" * 4, "v2"), "v2")
    assert fallback.give_up("v2") == ("it failed on 13 windows in a row", b"second")
    assert fallback.give_up("v1") == ("it failed on 0 windows in a row", None)
    for version in ("v1", "v2"):
        with pytest.raises(BundleError, match=f"model {version} is not used again: it failed on"):
            fallback.check(version)
    fallback.check("v3")


def test_the_number_of_versions_given_up_is_bounded() -> None:
    fallback = Fallback()
    for i in range(MOST_REFUSED + 5):
        fallback.give_up(f"v{i}")
    fallback.check("v4")
    with pytest.raises(BundleError):
        fallback.check("v5")
