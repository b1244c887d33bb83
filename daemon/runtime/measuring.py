"""Measurements of the streams' histories, beside the loop: of what this process's partitions do not show."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from daemon.adapters.telemetry import Reporter
from daemon.runtime.stream_run import StreamRun

MEASURE_EVERY_S = 10.0
"""How often the extent of a history is measured, where this process's partitions do not show what is due."""
DRIFT_EVERY_S = 60.0
"""How often the drift of all partitions is measured; an interval takes an hour, or a window at least."""
SHADOW_EVERY_S = 10.0
"""How often the counts of a candidate in shadow are: they come with the intervals of drift, and only new ones are read."""


class Measurements:
    """At most one measurement of each stream at a time.

    Args:
        reporter: receives what fails.
        clock: monotonic seconds.
    """

    def __init__(self, reporter: Reporter, clock: Callable[[], float]) -> None:
        self._reporter = reporter
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._begun_at: dict[tuple[str, str], float] = {}  # stream and what is measured -> on the clock

    def ended(self, stream: StreamRun) -> bool:
        """Whether one has ended since the last call, and something is known now."""
        name = stream.spec.name
        running = self._running.get(name)
        if running is None or not running.done():
            return False
        del self._running[name]
        error = running.exception()
        if error is not None:  # the source detects an unreachable broker by itself
            self._reporter.history_unread(name, str(error) or repr(error))
        return error is None

    def start(self, stream: StreamRun) -> None:
        """Start the one that is due, if none runs."""
        name, history, now = stream.spec.name, stream.history, self._clock()
        if name in self._running:
            return
        for what, needed, every_s, measure in (
            ("extent", stream.needs_history_extent, MEASURE_EVERY_S, history.measure),
            ("shadow", stream.needs_shadow, SHADOW_EVERY_S, history.measure_shadow),
            ("drift", stream.needs_drift, DRIFT_EVERY_S, history.measure_drift),
        ):
            if needed and now - self._begun_at.get((name, what), -every_s) >= every_s:
                self._begun_at[name, what] = now
                task = asyncio.get_running_loop().create_task(measure(), name="measure the history")
                self._running[name] = task
                return

    async def stop(self) -> None:
        """End them, whatever they are doing."""
        tasks, self._running = list(self._running.values()), {}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)  # without a broker it takes longer
