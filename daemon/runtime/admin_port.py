"""The admin port beside the loop: its server, and the measurement of the event loop's lateness.

This module starts the two tasks, and ends them when its context ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from daemon.adapters.admin import create_app, serve
from daemon.adapters.telemetry import LAG_EVERY_S, Reporter
from daemon.config import HttpSection
from daemon.runtime.process import allow_descriptors


async def watch_event_loop(reporter: Reporter) -> None:
    """Measure how late the event loop comes back to a timer, until cancelled."""
    while True:
        due = time.monotonic() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        reporter.loop_lag(time.monotonic() - due)


@contextlib.asynccontextmanager
async def admin_port(http: HttpSection, reporter: Reporter) -> AsyncIterator[str]:
    """Serve the admin port while inside; yields its address."""
    allow_descriptors()
    app = create_app(reporter.status, reporter.metrics, {http.host, *http.allowed_hosts})
    server = serve(app, http.host, http.port, reporter.http_refused)
    task = asyncio.create_task(server.run(), name="admin port")
    lag = asyncio.create_task(watch_event_loop(reporter), name="event loop lag")
    try:
        yield server.url
    finally:
        task.cancel()
        lag.cancel()
        await asyncio.wait({task, lag})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
