"""Training beside consuming: what to learn from, and a process of its own to learn in.

A training takes seconds of a whole core; in this process it would stop the heartbeats and
the alerts. So it runs in a *spawned* process (never forked: threads and event loops do not
survive that), niced, with one thread, that ends when its parent does. It gets rows, and hands
back bundle bytes with the gate's decision; nothing is shared.

What a retraining may learn is decided here. Rows of an episode are left out together with
their neighbours two windows to either side: else the model learns the fault, and the next
one of its kind is silent. The newest fifth of what remains is kept from the candidate, for
the gate to compare it with the incumbent on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from daemon.domain import AlarmPolicy, Budget, Floats, Ints, Mask, ModelSettings, Segment, StreamSpec
from daemon.errors import DaemonError
from daemon.stream.pipeline import RowBlock

HELD_OUT = 0.2
"""The newest share of the rows that the gate compares on and the candidate never sees."""


class Recent:
    """The newest released rows of one stream, with their alarms: what training learns from.

    Args:
        spec: the stream.
        capacity: rows that are kept; beyond it the oldest go.
    """

    def __init__(self, spec: StreamSpec, capacity: int) -> None:
        self.spec = spec
        self.capacity = capacity
        self.rows = 0
        self._blocks: deque[RowBlock] = deque()

    def add(self, block: RowBlock) -> None:
        """Take released rows."""
        self._blocks.append(block)
        self.rows += len(block.rows)
        while self.rows - len(self._blocks[0].rows) >= self.capacity:
            self.rows -= len(self._blocks.popleft().rows)

    def segments(self) -> list[Segment]:
        """The rows as training segments: alarms and their neighbours cut out, gaps beyond max_gap split."""
        if not self._blocks:
            return []
        names = [name for block in self._blocks for name in block.assets]
        conditions = [label for block in self._blocks for label in block.condition]
        rows = np.concatenate([block.rows for block in self._blocks])
        values = np.concatenate([block.values for block in self._blocks])
        firing = np.concatenate([block.firing for block in self._blocks])
        order: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            order.setdefault(name, []).append(i)
        longest_gap = self.spec.max_gap_ns // self.spec.period_ns
        result = []
        for asset in sorted(order):
            which = np.array(order[asset])
            which = which[np.argsort(rows[which], kind="stable")]
            # Rows that were fed again, after a rewind or a rebalance, come twice: the newer stands, but
            # whoever was not judged the second time (in a silent replay) is no more normal by that.
            new = np.diff(rows[which]) > 0
            alarms = np.logical_or.reduceat(firing[which], np.flatnonzero(np.append(True, new)))
            which = which[np.append(new, True)]
            keep = which[~near(rows[which], alarms, 2 * self.spec.window)]
            result.extend(
                cut(asset, rows[keep], values[keep], [conditions[i] for i in keep.tolist()], int(longest_gap))
            )
        return result


def near(rows: Ints, firing: Mask, margin: int) -> Mask:
    """(R,) True for rows within ``margin`` rows of a firing one; ``rows`` ascending."""
    alarms = rows[firing]
    if not len(alarms):
        return np.zeros(len(rows), bool)
    at = np.searchsorted(alarms, rows)
    after = alarms[np.minimum(at, len(alarms) - 1)]
    before = alarms[np.maximum(at - 1, 0)]
    return np.asarray((np.abs(after - rows) <= margin) | (np.abs(rows - before) <= margin))


def cut(asset: str, rows: Ints, values: Floats, conditions: Sequence[str], longest_gap: int) -> list[Segment]:
    """Segments of consecutive rows; an absent row starts a new segment.

    The grid puts out empty rows for gaps it bridges, so that an absent row here is either a
    longer gap or an alarm that was cut out, and must not become a neighbour of what follows.
    """
    if not len(rows):
        return []
    bounds = np.flatnonzero(np.diff(rows) != 1) + 1
    conditioned = any(conditions)
    return [
        Segment(
            asset,
            int(rows[part[0]]),
            values[part],
            tuple(conditions[i] for i in part.tolist()) if conditioned else (),
        )
        for part in np.split(np.arange(len(rows)), bounds)
    ]


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
                target.append(
                    Segment(segment.asset, segment.first_row + a, segment.values[a:b], segment.condition[a:b])
                )
    return older, newer


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Everything that a training needs; it crosses to another process."""

    spec: StreamSpec
    settings: ModelSettings
    policy: AlarmPolicy
    budget: Budget
    drift_rows: int
    history: Sequence[Segment]
    incumbent: bytes | None = None  # None: a first training, on all of the history and without a gate
    strict: bool = True  # the stream's window, or nothing; else a shorter one will do


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """How a training ended. ``bundle`` is None where it failed before there was one."""

    promoted: bool
    reason: str
    version: str
    bundle: bytes | None
    seconds: float
    rows: int
    figures: Mapping[str, float] = field(default_factory=dict)
    concerns: tuple[str, ...] = ()  # what an operator should know of the model, promoted or not


def learn(order: Order, progress: Callable[[float, str], None] | None = None) -> Outcome:
    """Train; with an incumbent, put the candidate to the gate. All but ``seconds`` is deterministic."""
    # torch is imported here, not above: a replica that never trains should not pay for it twice.
    from daemon.model.bundle import Bundle
    from daemon.model.promotion import anchored, gate
    from daemon.model.training import train

    began = time.monotonic()
    rows = sum(len(segment.values) for segment in order.history)
    older, newer = (list(order.history), []) if order.incumbent is None else hold_out(order.history)
    try:
        bundle = train(
            older, order.spec, order.settings, order.policy, order.budget, order.drift_rows, progress
        )
        if order.strict and bundle.window != order.spec.window:
            raise DaemonError(
                f"{rows} rows calibrate only windows of {bundle.window}, the stream's has {order.spec.window}"
            )
    except DaemonError as error:
        return Outcome(False, str(error), "", None, time.monotonic() - began, rows)
    promoted, reason, figures = True, "first model", {}
    if order.incumbent is not None:
        incumbent = Bundle.from_bytes(order.incumbent)
        bundle = anchored(bundle, incumbent)
        decision = gate(bundle, incumbent, newer, order.policy, order.budget, order.spec.hop)
        promoted, reason, figures = decision.promoted, decision.reason, dict(decision.figures)
    return Outcome(
        promoted,
        reason,
        bundle.version,
        bundle.to_bytes(),
        time.monotonic() - began,
        rows,
        figures,
        bundle.concerns,
    )


# ------------------------------------------------------------------ the process
def _work(channel: Connection) -> None:
    """The spawned process: be told what to do, learn, answer, end; end at once when the parent does."""
    with contextlib.suppress(OSError):
        os.nice(10)
    try:
        order: Order = channel.recv()
    except (EOFError, OSError):
        return
    threading.Thread(target=_watch, args=(channel,), daemon=True).start()
    import torch

    torch.set_num_threads(1)

    def tell(share: float, doing: str) -> None:
        with contextlib.suppress(OSError):
            channel.send(("progress", share, doing))

    try:
        outcome = learn(order, tell)
    except Exception as error:  # noqa: BLE001 - the parent must hear of it, whatever it was
        outcome = Outcome(False, f"training failed: {type(error).__name__}: {error}", "", None, 0.0, 0)
    with contextlib.suppress(OSError):
        channel.send(("outcome", outcome))


def _watch(channel: Connection) -> None:
    """The parent has no more to say: the pipe's end of file means that it is gone."""
    with contextlib.suppress(EOFError, OSError):
        channel.recv()
    os._exit(1)


def _tell(channel: Connection, order: Order) -> None:
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
        self._stillborn: Outcome | None = None

    @property
    def busy(self) -> bool:
        """Whether a training is under way."""
        return self._process is not None or self._stillborn is not None

    def start(self, order: Order) -> None:
        """Begin; ``poll`` brings the outcome, also where no process could be made."""
        assert not self.busy
        try:
            self._start(order)
        except (OSError, RuntimeError) as error:  # no memory, file, process or thread: the stream goes on
            self.stop()
            why = error.strerror if isinstance(error, OSError) else error
            reason = f"the training process could not be started: {why}"
            self._stillborn = Outcome(False, reason, "", None, 0.0, 0)

    def _start(self, order: Order) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True, name="trainer")
        self.share, self.doing = 0.0, "starting"
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        before = {name: os.environ.get(name) for name in threads}
        os.environ.update(threads)
        try:
            process.start()
        finally:
            theirs.close()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        self._process = process
        teller = threading.Thread(target=_tell, args=(self._channel, order), daemon=True)
        teller.start()
        self._teller = teller

    def poll(self) -> Outcome | None:
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
                    outcome: Outcome = message[1]
                    return outcome
                _, self.share, self.doing = message
        except (EOFError, OSError):
            self._process.join(timeout=5)
            code = self._process.exitcode
            self.stop()
            return Outcome(False, f"the training process ended with exit code {code}", "", None, 0.0, 0)
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
