"""What people tell the daemon while it runs: control messages, read from their topic and passed on.

All messages go to every pipeline of the streams, which take each once and at an offset that can be committed
(``stream.controls``). So does a request for a training, which is the ``hear``er's alone: the position in the partition's record of
state then tells whoever asked that a daemon runs and has it. The topic is read beside the loop: one that cannot be read is reported and tried again, and
detection never waits for it, but for some seconds at the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from daemon.adapters.telemetry import Reporter
from daemon.control import Received
from daemon.errors import DaemonError
from daemon.runtime.pauses import Pauses
from daemon.runtime.stream_run import StreamRun
from daemon.stream.pipeline import Pipeline

POLL_EVERY_S = 1.0
"""How often the topic is read."""
START_S = 15.0
"""How long the start waits for it."""


class ControlSource(Protocol):
    """The topic of control messages."""

    received: list[Received]
    end: int
    born_ns: int
    refused: int

    def refresh(self) -> Coroutine[Any, Any, Sequence[Received]]:
        """Read to the present end; the messages that are new."""
        ...

    def poll(self) -> Coroutine[Any, Any, Sequence[Received]]:
        """The messages that have come since, without a wait."""
        ...


class Controls:
    """The control messages of one loop.

    Args:
        source: the topic; None: there is none.
        streams: whom they are passed on to.
        reporter: receives what happens.
        pauses: for the wait at the start.
        clock: monotonic seconds.
        hear: is given each message once, in their order.
    """

    def __init__(
        self,
        source: ControlSource | None,
        streams: Sequence[StreamRun],
        reporter: Reporter,
        pauses: Pauses,
        clock: Callable[[], float],
        hear: Callable[[Received], None],
    ) -> None:
        self._source = source
        self._streams = streams
        self._reporter = reporter
        self._pauses = pauses
        self._clock = clock
        self._hear = hear
        self._read = False  # the topic was read to its end once
        self._read_at = 0.0  # on the clock
        self._refused = 0  # messages that were reported
        self._born_ns = -1  # of the topic when it was last read
        self._task: asyncio.Task[Sequence[Received]] | None = None

    async def start(self) -> None:
        """Read what the topic holds before the first record is judged; a topic that does not answer is left for later."""
        if self._source is not None:
            task = self._begin(self._source.refresh())
            await self._pauses.unless_closing(asyncio.wait({task}, timeout=START_S))
            self.poll()

    def poll(self) -> None:
        """Pass on what has come, and begin to read again if that is due; never waits."""
        if self._source is None:
            return
        if self._task is None:
            if self._clock() - self._read_at >= POLL_EVERY_S:
                self._begin(self._source.poll() if self._read else self._source.refresh())
            return
        if not self._task.done():
            return
        task, self._task = self._task, None
        error = task.exception()
        if error is not None:
            if not isinstance(error, DaemonError | OSError):
                raise error
            self._reporter.controls.controls_unread(str(error) or repr(error))
            return
        self._take(task.result())

    async def stop(self) -> None:
        """End a read that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def assigned(self, pipeline: Pipeline) -> None:
        """A partition was assigned here, and restored: it takes what its predecessor has not."""
        if self._source is not None and self._read:
            self._pass_on(pipeline, self._source.received)

    def _begin(self, reading: Coroutine[Any, Any, Sequence[Received]]) -> asyncio.Task[Sequence[Received]]:
        self._read_at = self._clock()
        self._task = asyncio.get_running_loop().create_task(reading, name="read control messages")
        return self._task

    def _take(self, fresh: Sequence[Received]) -> None:
        """Pass on messages; at the first read, and from a topic that was made anew, all that it holds."""
        assert self._source is not None
        first, self._read = not self._read, True
        anew = self._source.born_ns != self._born_ns
        self._born_ns = self._source.born_ns
        self._reporter.controls.controls_refused(self._source.refused - self._refused)
        self._refused = self._source.refused
        for each in self._source.received if first else fresh:
            self._hear(each)
        self._reporter.controls.controls_read(self._source.received if first or anew else fresh, anew=anew)
        for stream in self._streams:
            for pipeline in stream.pipelines.values():
                self._pass_on(pipeline, self._source.received if first or anew else fresh)
        if not first:
            for each in fresh:
                self._reporter.controls.control_received(each)

    def _pass_on(self, pipeline: Pipeline, messages: Sequence[Received]) -> None:
        assert self._source is not None
        if self._source.born_ns < 0:
            return
        controls = pipeline.parts.controls
        position = controls.position
        if controls.follow(self._source.born_ns):
            self._reporter.controls.controls_begun_anew(pipeline.partition, position, self._source.end)
        for message in messages:
            if message.position >= controls.position:
                pipeline.take_control(message)
