"""A desk that keeps what it is told in memory, on the real path: the demo's topic, checks and effects."""

from __future__ import annotations

from daemon.adapters.admin import Control as Allowed
from daemon.adapters.memory import MemoryControls, MemoryLog
from daemon.adapters.telemetry import Status
from daemon.commands.desk import ControlDesk
from daemon.control import Control

TOKEN = "0123456789abcdef-secret"


class Told:
    """The control messages that arrive; ``allowed`` is what the application is made with."""

    def __init__(self, status: Status, *, token: bool = False) -> None:
        self._log = MemoryLog()
        self.topic = MemoryControls(self._log, "anomalyd.feedback")
        self.desk = ControlDesk(status, self.topic)
        self.allowed = Allowed(self.desk, (lambda: TOKEN) if token else None)

    @property
    def messages(self) -> list[bytes]:
        """As they lie in the topic."""
        return [stored.record.value for stored in self._log.messages(self.topic.topic)]

    async def controls(self) -> list[Control]:
        """The same, as the loop reads them."""
        await self.topic.poll()
        return [received.control for received in self.topic.received]
