"""One training in a spawned process, beside consuming.

A training takes seconds of a whole core; in the consuming process it would delay heartbeats and alerts. It
runs in a *spawned* process (never forked: threads and event loops do not survive a fork), niced, with one
thread, which ends when its parent does. Input is a ``TrainingJob``: segments, or how to read them (see
``history``), because reading and decoding tens of thousands of records would delay the parent as well. Output
is a ``TrainingResult``: the bundle as bytes, and the gate's decision, which the bundle holds as well. Nothing is shared.

The newest fifth of the rows (without those of a sample, see ``reservoir``) is held out from a candidate; the gate compares
it with the incumbent on them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import structlog

from daemon.budget import Budget
from daemon.domain import AlarmPolicy, ModelSettings, Progress, Segment, StreamSpec
from daemon.errors import INTERRUPTED, DaemonError
from daemon.model.decision import Decision
from daemon.model.golden_incidents import inherited
from daemon.runtime.compatibility import event_time_in
from daemon.runtime.history import FoundHistory, HistoryNotReady, Past, UnreadHistory
from daemon.runtime.segmenting import FOREVER, between, ends_at, part_of, span_of
from daemon.trigger import UNKNOWN, Cause, Trigger

HELD_OUT = 0.2
"""Of the newest rows the newest share: the gate compares on them, the candidate is not trained on them."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that numeric libraries read at import; unset ones count as 1 (see ``daemon``)."""


def hold_out(history: Sequence[Segment], share: float = HELD_OUT) -> tuple[list[Segment], list[Segment]]:
    """Split each asset's rows in time: (older rows to train on, the newest ``share`` to compare on)."""
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
    """Everything that a training needs; is pickled and sent to the training process."""

    spec: StreamSpec
    settings: ModelSettings
    policy: AlarmPolicy
    budget: Budget
    drift_rows: int
    history: Past
    incumbent: bytes | None = None  # None: a first training, on all of the history and without a gate
    strict: bool = True  # fail rather than calibrate a shorter window than the stream's
    until_ns: int | None = None  # event time that the history ends at; None: where its rows end
    deviation_budget: Budget | None = field(default_factory=Budget)  # None: deviations are not looked for
    trigger: Trigger = UNKNOWN  # what made it due


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """How a training ended; ``bundle`` is None if it failed before there was one."""

    promoted: bool
    reason: str
    version: str
    bundle: bytes | None
    seconds: float
    rows: int
    decision: Decision | None = None  # None: there is no candidate
    parent: str = ""  # the version that it was to replace; empty: none
    span_ns: tuple[int, int] | None = None  # event times of the oldest and newest row; None: there are none
    until_ns: int | None = None  # event time that it learned up to
    left_out: Mapping[str, int] = field(default_factory=dict)  # values, by why they were not learned
    concerns: tuple[str, ...] = ()  # what an operator should know of the model
    notes: tuple[str, ...] = ()  # ... and of the history
    later: bool = False  # the history could not be read: the same training is to be repeated
    postponed: bool = False  # ... because there is too little of it yet; nothing failed


def learn(job: TrainingJob, progress: Progress | None = None) -> TrainingResult:
    """Read the history if it is unread, train, and gate the candidate against the incumbent, if there is one.

    The bundle's facts hold ``trained_until``, the event time that it was trained up to (ns), ``trigger``, ``parent`` (the
    incumbent's version, if there is one) and ``decision``.
    All but ``seconds`` is deterministic.
    """
    began = time.monotonic()
    report = progress or (lambda share, doing: None)
    known = TrainingResult(False, "", "", None, 0.0, 0, until_ns=job.until_ns)

    def ended(reason: str, *, later: bool = False, postponed: bool = False) -> TrainingResult:
        seconds = time.monotonic() - began
        return dataclasses.replace(known, reason=reason, seconds=seconds, later=later, postponed=postponed)

    share_read = 0.3 if isinstance(job.history, UnreadHistory) else 0.0
    try:
        found = job.history.read(report) if isinstance(job.history, UnreadHistory) else job.history
    except HistoryNotReady as error:
        return ended(str(error), later=True, postponed=True)
    except (DaemonError, OSError) as error:
        return ended(str(error), later=True)
    if not isinstance(found, FoundHistory):
        found = FoundHistory(found)
    # torch is imported here and not above: only the training process needs these modules.
    from daemon.model.anchor import anchored
    from daemon.model.apart import APART, anchored_apart, standing
    from daemon.model.bundle import Bundle
    from daemon.model.promotion import CALLED_NORMAL, gate, recall_anchored
    from daemon.model.training import CalibrationTarget, train

    segments = found.segments
    rows = sum(len(segment.values) for segment in segments)
    share = HELD_OUT * (1.0 - found.sampled / max(rows, 1))
    older, newer = (list(segments), []) if job.incumbent is None else hold_out(segments, share)
    incumbent = None if job.incumbent is None else Bundle.from_bytes(job.incumbent)
    until_ns = job.until_ns or found.until_ns or ends_at(segments, job.spec.period_ns)
    known = dataclasses.replace(
        known,
        rows=rows,
        parent="" if incumbent is None else incumbent.version,
        span_ns=span_of(segments, job.spec.period_ns),
        until_ns=until_ns,
        left_out=dict(found.left_out),
        notes=tuple(found.notes),
    )
    try:
        bundle = train(
            older,
            job.spec,
            job.settings,
            CalibrationTarget(job.policy, job.budget, job.drift_rows, job.deviation_budget),
            lambda share, doing: report(share_read + (1.0 - share_read) * share, doing),
            () if incumbent is None else incumbent.models.scaler.scaling.sentinels,
        )
        if job.strict and bundle.window != job.spec.window:
            raise DaemonError(
                f"{rows} rows calibrate only windows of {bundle.window}, the stream's has {job.spec.window}"
            )
    except DaemonError as error:
        return ended(str(error))
    origin = {"trained_until": until_ns, "trigger": str(job.trigger.cause)}
    first = job.trigger.cause is Cause.FIRST
    decision = Decision(True, "first model" if first else "no model to compare with")
    before = () if incumbent is None else incumbent.golden
    bundle = bundle.with_golden(inherited(before, found.golden, found.dismissed))
    newest = between(segments, found.newest_from_row, FOREVER)
    if (places := standing(newest, job.spec.period_ns)) is not None:
        bundle = dataclasses.replace(bundle, facts={**bundle.facts, APART: places})
    if incumbent is not None:
        origin["parent"] = incumbent.version
        if found.called_normal_ns > (event_time_in(incumbent.facts, "trained_until") or 0):
            bundle = dataclasses.replace(bundle, facts={**bundle.facts, CALLED_NORMAL: True})
        bundle = anchored_apart(anchored(bundle, incumbent), incumbent, found.let_in_ns)
        # Both are compared at the budget of this training.
        at_budget = dataclasses.replace(incumbent, calibration=incumbent.calibration.for_budget(job.budget))
        decision = gate(bundle, at_budget, newer, job.policy, job.budget, job.spec.hop)
        bundle = recall_anchored(bundle, decision)
    facts = {**bundle.facts, **origin, "decision": decision.facts()}
    bundle = dataclasses.replace(bundle, facts=facts)
    return dataclasses.replace(
        ended(decision.reason),
        promoted=decision.promoted,
        version=bundle.version,
        bundle=bundle.to_bytes(),
        decision=decision,
        concerns=bundle.concerns,
    )


# ------------------------------------------------------------------ the process
def _run(channel: Connection) -> None:
    """The spawned process: receive a job, train, send the result, end; end at once when the parent does."""
    with contextlib.suppress(OSError):
        os.nice(10)
    # Ctrl-C reaches every process of a terminal: this one ends without a traceback.
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        job: TrainingJob = channel.recv()
    except (EOFError, OSError):
        return
    threading.Thread(target=_exit_with_parent, args=(channel,), daemon=True).start()
    # Errors become the result's reason; only the parent writes to the log.
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    import torch

    torch.set_num_threads(1)

    def report(share: float, doing: str) -> None:
        with contextlib.suppress(OSError):
            channel.send(("progress", share, doing))

    try:
        result = learn(job, report)
    except Exception as error:  # noqa: BLE001 - the parent must receive a result in any case
        result = TrainingResult(False, f"training failed: {type(error).__name__}: {error}", "", None, 0.0, 0)
    with contextlib.suppress(OSError):
        channel.send(("outcome", result))


def _exit_with_parent(channel: Connection) -> None:
    """End with the parent: nothing follows the job on the pipe but its end of file."""
    with contextlib.suppress(EOFError, OSError):
        channel.recv()
    os._exit(1)


def _send(channel: Connection, job: TrainingJob) -> None:
    with contextlib.suppress(OSError):  # the process is gone: ``poll`` meets the end of file
        channel.send(job)


class Trainer:
    """At most one training at a time, in a spawned process.

    A job may hold a whole history, and the process reads it only after a second or two of imports, or never
    if it runs out of memory. So a thread sends the job, and ``start`` does not wait.

    ``share`` and ``doing`` are the progress of the training, in 0 .. 1 and in words.
    """

    def __init__(self) -> None:
        self.share = 0.0
        self.doing = ""
        self._process: BaseProcess | None = None
        self._channel: Connection | None = None
        self._sender: threading.Thread | None = None
        self._failed_start: TrainingResult | None = None

    @property
    def busy(self) -> bool:
        """Whether a training runs, or its result was not polled yet."""
        return self._process is not None or self._failed_start is not None

    def start(self, job: TrainingJob) -> None:
        """Start a training; ``poll`` returns its result, also if no process could be made."""
        assert not self.busy
        try:
            self._start(job)
        except (
            OSError,
            RuntimeError,
        ) as error:  # out of memory, files, processes or threads: the stream goes on
            self.stop()
            why = error.strerror if isinstance(error, OSError) else error
            reason = f"the training process could not be started: {why}"
            self._failed_start = TrainingResult(False, reason, "", None, 0.0, 0)

    def _start(self, job: TrainingJob) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        process = context.Process(target=_run, args=(theirs,), daemon=True, name="trainer")
        self.share, self.doing = 0.0, "starting"
        before = {name: os.environ.get(name, "1") for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))
        try:
            process.start()
        finally:
            theirs.close()
            os.environ.update(before)
        self._process = process
        sender = threading.Thread(target=_send, args=(self._channel, job), daemon=True)
        sender.start()
        self._sender = sender

    def poll(self) -> TrainingResult | None:
        """The result, once there is one; never blocks."""
        if self._failed_start is not None:
            failed, self._failed_start = self._failed_start, None
            return failed
        if self._channel is None or self._process is None:
            return None
        try:
            while self._channel.poll():
                message: tuple[Any, ...] = self._channel.recv()
                if message[0] == "outcome":
                    self.stop()
                    result: TrainingResult = message[1]
                    return result
                _, self.share, self.doing = message
        except (EOFError, OSError):
            self._process.join(timeout=5)
            code = self._process.exitcode
            self.stop()
            interrupted = code in (INTERRUPTED, -signal.SIGINT)
            reason = (
                "it was interrupted" if interrupted else f"the training process ended with exit code {code}"
            )
            return TrainingResult(False, reason, "", None, 0.0, 0)
        return None

    def stop(self) -> None:
        """End the process, whatever it does. Safe to call twice."""
        if self._process is not None:
            if self._process.is_alive():
                self._process.terminate()
            self._process.join(timeout=5)
        if self._sender is not None:
            self._sender.join(timeout=5)  # its reader is gone, or has read the job
        if self._channel is not None:
            self._channel.close()
        self._process = self._channel = self._sender = None
