"""Asking a model about a batch, of which some windows may make it fail.

A model is data and may raise anything on values it never saw. A batch that it fails on is halved until the windows at
fault are alone, so that they take no others with them. A model that fails on many in a row is not asked about the rest: it
is about to be given up.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np

from daemon.domain import Ints

MOST_FAILURES = 10
"""Windows in a row that a model may fail on; more than a few are not the windows' fault."""
Measured = Callable[[int], AbstractContextManager[object]]
"""Entered around the model's work on so many windows; a clock may not stand in the core."""
Answer = TypeVar("Answer")


def ask_in_parts(count: int, ask: Callable[[Ints], Answer], measured: Measured) -> tuple[Ints, list[Answer]]:
    """Which windows of a batch were answered, and the answers, each of some of these in this order.

    Args:
        count: of the windows.
        ask: about the windows of these numbers.
        measured: see ``Measured``.
    """
    pieces = [np.arange(count)]  # the next one last
    found: list[tuple[Ints, Answer]] = []
    failures = 0  # in a row
    while pieces and failures < MOST_FAILURES:
        some = pieces.pop()
        try:
            with measured(len(some)):
                answer = ask(some)
            found.append((some, answer))
            failures = 0
        except Exception:  # noqa: BLE001 - see the module
            if len(some) > 1:
                pieces += [some[len(some) // 2 :], some[: len(some) // 2]]
            else:
                failures += 1
    if not found:
        return np.empty(0, np.int64), []
    return np.concatenate([some for some, _ in found]), [answer for _, answer in found]
