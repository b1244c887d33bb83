"""Waits of the source's loop that end early: at a rebalance, or when the source is closed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any


class Wakeup:
    """Bounded waits for one loop; ``notify`` ends the wait in progress or the next one, ``close`` every one."""

    def __init__(self) -> None:
        self._closing = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def closing(self) -> bool:
        """Whether ``close`` was called."""
        return self._closing.is_set()

    def notify(self) -> None:
        """Something changed that the loop has to look at."""
        self._changed.set()

    def close(self) -> None:
        """The source is to end."""
        self._closing.set()
        self._changed.set()

    async def sleep(self, seconds: float) -> None:
        """Wait at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._rearm()

    async def ended(self, task: asyncio.Task[Any], within_s: float) -> bool:
        """Wait at most so long for a task; whether it has ended."""
        changed = asyncio.create_task(self._changed.wait())
        await asyncio.wait({task, changed}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        self._rearm()
        return task.done()

    def _rearm(self) -> None:
        if not self._closing.is_set():
            self._changed.clear()
