"""What people tell the daemon while it runs: control messages, read from their topic and passed on.

All messages go to every pipeline of the streams, which take each once and at an offset that can be committed
(``stream.controls``). A topic that cannot be read is reported, and tried again: detection never waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from daemon.adapters.telemetry import Reporter
from daemon.control import Received, RetrainRequest
from daemon.errors import DaemonError
from daemon.runtime.pauses import Pauses
from daemon.runtime.stream_run import StreamRun
from daemon.stream.pipeline import Pipeline

POLL_EVERY_S = 1.0
"""How often the topic is read."""


class ControlSource(Protocol):
    """The topic of control messages."""

    received: list[Received]
    end: int

    async def refresh(self) -> Sequence[Received]:
        """Read to the present end; the messages that are new."""
        ...

    async def poll(self) -> Sequence[Received]:
        """The messages that have come since, without a wait."""
        ...


class Controls:
    """The control messages of one loop.

    Args:
        source: the topic; None: there is none.
        streams: whom they are passed on to.
        reporter: receives what happens.
        pauses: for long waits.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        source: ControlSource | None,
        streams: Sequence[StreamRun],
        reporter: Reporter,
        pauses: Pauses,
        clock: Callable[[], float],
    ) -> None:
        self._source = source
        self._streams = streams
        self._reporter = reporter
        self._pauses = pauses
        self._clock = clock
        self._read = False  # the topic was read to its end once
        self._polled_at = -POLL_EVERY_S

    async def poll(self) -> None:
        """Pass on what has come; at the first call all that the topic holds."""
        now = self._clock()
        if self._source is None or now - self._polled_at < POLL_EVERY_S:
            return
        self._polled_at = now
        first = not self._read
        try:
            fresh = await self._pauses.unless_closing(
                self._source.refresh() if first else self._source.poll()
            )
        except DaemonError as error:
            self._reporter.told.controls_unread(str(error))
            return
        if fresh is None:
            return
        self._read = True
        for stream in self._streams:
            for pipeline in stream.pipelines.values():
                self._pass_on(pipeline, self._source.received if first else fresh)
        if not first:
            for each in fresh:
                self._reporter.told.control_received(each)

    def assigned(self, pipeline: Pipeline) -> None:
        """A partition was assigned here, and restored: it takes what its predecessor has not."""
        if self._source is not None and self._read:
            self._pass_on(pipeline, self._source.received)

    def _pass_on(self, pipeline: Pipeline, messages: Sequence[Received]) -> None:
        controls = pipeline.parts.controls
        assert self._source is not None
        if controls.position > self._source.end:
            # Positions of another topic: what this one says is not known here.
            self._reporter.told.controls_begun_anew(pipeline.partition, controls.position, self._source.end)
            controls.begin_anew()
        for message in messages:
            if message.position >= controls.position and not isinstance(message.control, RetrainRequest):
                pipeline.take_control(message)
