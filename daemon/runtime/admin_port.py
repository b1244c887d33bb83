"""The admin port beside the loop: its server, and the measurement of the event loop's lateness.

This module starts the two tasks, and ends them when its context ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

from daemon.adapters.admin import MOST_BODY, Control, Desk, create_app, serve
from daemon.adapters.telemetry import LAG_EVERY_S, Reporter
from daemon.config import HttpSection
from daemon.documents import DocumentError, read_file
from daemon.errors import ConfigError
from daemon.runtime.process import allow_descriptors


async def watch_event_loop(reporter: Reporter) -> None:
    """Measure how late the event loop comes back to a timer, until cancelled."""
    while True:
        due = time.monotonic() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        reporter.loop_lag(time.monotonic() - due)


SHORTEST_TOKEN = 16
"""Characters: what nobody guesses over a network."""


def control_of(http: HttpSection, desk: Desk | None) -> Control | None:
    """What people may tell the daemon on the page; None: ``http.control`` does not allow it.

    Raises:
        ConfigError: the token's file cannot be used.
    """
    if desk is None or not http.control:
        return None
    path = http.control_token_file
    if path is None:
        return Control(desk)
    control_token(path)
    return Control(desk, lambda: control_token(path))  # read for each request, so that it may be replaced


def control_token(path: Path) -> str:
    """The token in a file.

    Raises:
        ConfigError: there is none.
    """
    try:
        token = read_file(path).decode("utf-8", "replace").strip()
    except DocumentError as error:
        raise ConfigError(f"http.control_token_file {path} {error}") from error
    if re.fullmatch(rf"[!-~]{{{SHORTEST_TOKEN},1000}}", token) is None:
        raise ConfigError(
            f"http.control_token_file {path} holds no token: one line of at least {SHORTEST_TOKEN} letters and digits,"
            " as of: openssl rand -hex 32"
        )
    return token


@contextlib.asynccontextmanager
async def admin_port(http: HttpSection, reporter: Reporter, desk: Desk | None = None) -> AsyncIterator[str]:
    """Serve the admin port while inside; yields its address.

    Args:
        http: where, and whether people may tell the daemon something.
        reporter: what is shown.
        desk: who passes on what people say; None: nobody does.

    Raises:
        ConfigError: the address, or the token's file, cannot be used.
    """
    allow_descriptors()
    control = control_of(http, desk)
    app = create_app(reporter.status, reporter.metrics, {http.host, *http.allowed_hosts}, control)
    most_body = 0 if control is None else MOST_BODY
    server = serve(app, http.host, http.port, reporter.http_refused, most_body)
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
