"""Training beside consuming: what to learn from, and a process of its own to learn in.

A training takes seconds of a whole core; in this process it would stop the heartbeats and
the alerts. So it runs in a *spawned* process (never forked: threads and event loops do not
survive that), niced, with one thread, that ends when its parent does. It gets rows, or where to
read them (see ``history``), and hands back bundle bytes with the gate's decision; nothing is
shared. Reading and decoding tens of thousands of records would hold up the parent as well.

The newest fifth of what may be learned is kept from a candidate, for the gate to compare it with
the incumbent on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import structlog

from daemon.domain import (
    AlarmPolicy,
    Budget,
    ModelSettings,
    Segment,
    StreamSpec,
)
from daemon.errors import DaemonError
from daemon.runtime.history import Found, NotYet, Past
from daemon.runtime.segmenting import ends_at, part_of

Progress = Callable[[float, str], None]

HELD_OUT = 0.2
"""The newest share of the rows that the gate compares on and the candidate never sees."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What numeric libraries look at when they are imported; the package sets each to 1 where nobody did."""


def hold_out(history: Sequence[Segment], share: float = HELD_OUT) -> tuple[list[Segment], list[Segment]]:
    """Split each asset's rows in time: (older rows to learn from, newest ``share`` to compare on)."""
    total: dict[str, int] = {}
    for segment in history:
        total[segment.asset] = total.get(segment.asset, 0) + len(segment.values)
    left = {asset: n - int(n * share) for asset, n in total.items()}
    older: list[Segment] = []
    newer: list[Segment] = []
    for segment in history:
        n = len(segment.values)
        first = min(max(left[segment.asset], 0), n)
        left[segment.asset] -= n
        for target, a, b in ((older, 0, first), (newer, first, n)):
            if b > a:
                target.append(part_of(segment, a, b))
    return older, newer


@dataclass(frozen=True, slots=True, eq=False)
class TrainingJob:
    """Everything that a training needs; it crosses to another process."""

    spec: StreamSpec
    settings: ModelSettings
    policy: AlarmPolicy
    budget: Budget
    drift_rows: int
    history: Sequence[Segment] | Past
    incumbent: bytes | None = None  # None: a first training, on all of the history and without a gate
    strict: bool = True  # the stream's window, or nothing; else a shorter one will do
    until_ns: int | None = None  # the event time that the history ends at; None: where its rows end


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """How a training ended. ``bundle`` is None where it failed before there was one."""

    promoted: bool
    reason: str
    version: str
    bundle: bytes | None
    seconds: float
    rows: int
    figures: Mapping[str, float] = field(default_factory=dict)
    concerns: tuple[str, ...] = ()  # what an operator should know of the model, promoted or not
    notes: tuple[str, ...] = ()  # ... and of the history
    later: bool = False  # the history could not be had: the same training is to be tried again
    postponed: bool = False  # ... because there is too little of it yet; nothing has failed


def learn(order: TrainingJob, progress: Progress | None = None) -> TrainingResult:
    """Read the history if need be, and train; with an incumbent, put the candidate to the gate.

    The bundle names the event time that it was trained up to, ``trained_until`` in its facts (ns).
    All but ``seconds`` is deterministic.
    """
    began = time.monotonic()
    tell = progress or (lambda share, doing: None)
    rows = 0
    notes: tuple[str, ...] = ()

    def ended(reason: str, *, later: bool = False, postponed: bool = False) -> TrainingResult:
        seconds = time.monotonic() - began
        return TrainingResult(
            False, reason, "", None, seconds, rows, notes=notes, later=later, postponed=postponed
        )

    share_read = 0.3 if isinstance(order.history, Past) else 0.0
    try:
        found = order.history.read(tell) if isinstance(order.history, Past) else Found(order.history)
    except NotYet as error:
        return ended(str(error), later=True, postponed=True)
    except (DaemonError, OSError) as error:
        return ended(str(error), later=True)
    notes = tuple(found.notes)
    # torch is imported here, not above: a replica that never trains should not pay for it twice.
    from daemon.model.bundle import Bundle
    from daemon.model.promotion import anchored, gate
    from daemon.model.training import train

    history = found.segments
    rows = sum(len(segment.values) for segment in history)
    older, newer = (list(history), []) if order.incumbent is None else hold_out(history)
    try:
        bundle = train(
            older,
            order.spec,
            order.settings,
            order.policy,
            order.budget,
            order.drift_rows,
            lambda share, doing: tell(share_read + (1.0 - share_read) * share, doing),
        )
        if order.strict and bundle.window != order.spec.window:
            raise DaemonError(
                f"{rows} rows calibrate only windows of {bundle.window}, the stream's has {order.spec.window}"
            )
    except DaemonError as error:
        return ended(str(error))
    until_ns = order.until_ns or found.until_ns or ends_at(history, order.spec.period_ns)
    bundle = dataclasses.replace(bundle, facts={**bundle.facts, "trained_until": until_ns})
    promoted, reason, figures = True, "first model", {}
    if order.incumbent is not None:
        incumbent = Bundle.from_bytes(order.incumbent)
        bundle = anchored(bundle, incumbent)
        decision = gate(bundle, incumbent, newer, order.policy, order.budget, order.spec.hop)
        promoted, reason, figures = decision.promoted, decision.reason, dict(decision.figures)
    return TrainingResult(
        promoted,
        reason,
        bundle.version,
        bundle.to_bytes(),
        time.monotonic() - began,
        rows,
        figures,
        bundle.concerns,
        notes,
    )


# ------------------------------------------------------------------ the process
def _work(channel: Connection) -> None:
    """The spawned process: be told what to do, learn, answer, end; end at once when the parent does."""
    with contextlib.suppress(OSError):
        os.nice(10)
    try:
        order: TrainingJob = channel.recv()
    except (EOFError, OSError):
        return
    threading.Thread(target=_watch, args=(channel,), daemon=True).start()
    # What goes wrong is the outcome's reason; the log is the parent's alone, line by line.
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    import torch

    torch.set_num_threads(1)

    def tell(share: float, doing: str) -> None:
        with contextlib.suppress(OSError):
            channel.send(("progress", share, doing))

    try:
        outcome = learn(order, tell)
    except Exception as error:  # noqa: BLE001 - the parent must hear of it, whatever it was
        outcome = TrainingResult(False, f"training failed: {type(error).__name__}: {error}", "", None, 0.0, 0)
    with contextlib.suppress(OSError):
        channel.send(("outcome", outcome))


def _watch(channel: Connection) -> None:
    """The parent has no more to say: the pipe's end of file means that it is gone."""
    with contextlib.suppress(EOFError, OSError):
        channel.recv()
    os._exit(1)


def _tell(channel: Connection, order: TrainingJob) -> None:
    with contextlib.suppress(OSError):  # nobody there to read it: ``poll`` meets the end of file
        channel.send(order)


class Trainer:
    """At most one training at a time, in a spawned process.

    An order holds the whole history. The process reads it when it is up, after a second or two of
    imports, or never, if there was no memory for it; so a thread of its own sends it, and whoever
    starts a training waits for neither.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self.doing = ""
        self._process: BaseProcess | None = None
        self._channel: Connection | None = None
        self._teller: threading.Thread | None = None
        self._stillborn: TrainingResult | None = None

    @property
    def busy(self) -> bool:
        """Whether a training is under way."""
        return self._process is not None or self._stillborn is not None

    def start(self, order: TrainingJob) -> None:
        """Begin; ``poll`` brings the outcome, also where no process could be made."""
        assert not self.busy
        try:
            self._start(order)
        except (OSError, RuntimeError) as error:  # no memory, file, process or thread: the stream goes on
            self.stop()
            why = error.strerror if isinstance(error, OSError) else error
            reason = f"the training process could not be started: {why}"
            self._stillborn = TrainingResult(False, reason, "", None, 0.0, 0)

    def _start(self, order: TrainingJob) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True, name="trainer")
        self.share, self.doing = 0.0, "starting"
        before = {name: os.environ.get(name, "1") for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))
        try:
            process.start()
        finally:
            theirs.close()
            os.environ.update(before)
        self._process = process
        teller = threading.Thread(target=_tell, args=(self._channel, order), daemon=True)
        teller.start()
        self._teller = teller

    def poll(self) -> TrainingResult | None:
        """The outcome, once there is one; never blocks."""
        if self._stillborn is not None:
            stillborn, self._stillborn = self._stillborn, None
            return stillborn
        if self._channel is None or self._process is None:
            return None
        try:
            while self._channel.poll():
                message: tuple[Any, ...] = self._channel.recv()
                if message[0] == "outcome":
                    self.stop()
                    outcome: TrainingResult = message[1]
                    return outcome
                _, self.share, self.doing = message
        except (EOFError, OSError):
            self._process.join(timeout=5)
            code = self._process.exitcode
            self.stop()
            return TrainingResult(
                False, f"the training process ended with exit code {code}", "", None, 0.0, 0
            )
        return None

    def stop(self) -> None:
        """End the process, whatever it is doing. Safe to call twice."""
        if self._process is not None:
            if self._process.is_alive():
                self._process.terminate()
            self._process.join(timeout=5)
        if self._teller is not None:
            self._teller.join(timeout=5)  # its reader is gone, or has read all
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = self._teller = None
