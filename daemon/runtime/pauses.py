"""Pauses in long work, so that probes, the admin port and signals are served meanwhile.

The loop, the commits and the models' lifecycle share one event loop with the admin port. Work that takes
longer than some ten milliseconds pauses between its pieces, and a wait of unknown length ends when the source
closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from daemon.adapters.ports import Source
from daemon.adapters.telemetry import Reporter

T = TypeVar("T")

LOOK_S = 0.25
"""How often a wait reports a beat, and looks whether the source closes."""


class Pauses:
    """Pauses of one loop.

    Args:
        source: ends waits when it closes.
        reporter: receives the beats.
    """

    def __init__(self, source: Source, reporter: Reporter) -> None:
        self._source = source
        self._reporter = reporter

    @property
    def closing(self) -> bool:
        """Whether the source closes: long work is left to a successor."""
        return self._source.closing

    async def pause(self) -> None:
        """Let other tasks run once, between two pieces of long work."""
        self._reporter.beat()
        await asyncio.sleep(0)

    async def unless_closing(self, work: Awaitable[T]) -> T | None:
        """Await work that may take long; None if the source closes before it is done."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done() and not self._source.closing:
                self._reporter.beat()
                await asyncio.wait({task}, timeout=LOOK_S)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            await asyncio.wait({task})
