"""An admin port that serves a status from a thread of its own, and can be switched off and on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.adapters.admin import MOST_BODY, Control, create_app, serve
from daemon.adapters.telemetry import Metrics, Status


class ServedStatus:
    """``status``, served at ``url`` while it is on; always on the same port."""

    def __init__(self, status: Status, control: Control | None = None) -> None:
        self.status = status
        self._control = control
        self._port = 0
        self.turn_on()

    def turn_on(self) -> None:
        app = create_app(self.status, Metrics(list(self.status.streams), ["topic"]), (), self._control)
        self._server = serve(app, "127.0.0.1", self._port, most_body=MOST_BODY if self._control else 0)
        self._port, self.url = self._server.port, self._server.url
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self._server.run())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def turn_off(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.wait([self._task]))
        self._loop.close()


@contextmanager
def served(status: Status, control: Control | None = None) -> Iterator[ServedStatus]:
    port = ServedStatus(status, control)
    try:
        yield port
    finally:
        port.turn_off()
