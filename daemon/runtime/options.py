"""How a loop runs, apart from its source, sink and streams."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daemon.runtime.controls import ControlSource
    from daemon.runtime.stream_run import StreamRun
    from daemon.stream.steps import Step


class Hold(StrEnum):
    """Whether the input waits while a model trains."""

    NEVER = "never"  # run: consuming goes on
    FIRST = "first"  # demo: the fleet's clock waits for the first model
    ALWAYS = "always"  # replay: the same file gives the same result, however fast the machine is


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """Options of a loop."""

    hold: Hold = Hold.NEVER
    commit_every: timedelta = timedelta(milliseconds=500)  # commits are at least this far apart
    checkpoints: bool = False  # commits carry the state that a successor needs
    watch: Callable[[StreamRun, Step], None] | None = (
        None  # after every chunk; empty step: it waits for a training
    )
    each_round: Callable[[], None] | None = None  # called for every event of the source
    clock: Callable[[], float] = time.monotonic  # seconds
    controls: ControlSource | None = None  # what people tell it; None: nobody does
