"""The fire drill beside a stream: faults are injected into copies of its newest normal rows, and judged.

It shows which faults the model in use would find now, how soon and from which size on. What is injected and
how it is judged is in ``model.drill``; the rows come from ``drill_places``; what is found is put into words in
``drill_report``. Nothing of the stream's state or outputs depends on the drill.

**Time.** It runs between the events of the loop, in slices of a few milliseconds, and never takes more than
its share of one CPU (``cpu_share``).

**Reproducible.** The faults at a place follow from the seed, the model's version, the asset and the row. How
many places there are, and which, depends on how the rows arrived and on how much time there was.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from daemon.adapters.telemetry import DrillFailure, DrillFigures, KindFigures, SensorFigures
from daemon.assembly import hold_rows, modelled, silent_rows
from daemon.detector import Detector
from daemon.domain import DAY_NS, AlarmPolicy, InputPartition, StreamSpec
from daemon.model.drill import (
    WATCHED,
    DetectionChain,
    Found,
    Place,
    Rules,
    Tally,
    Trial,
    Verdict,
    judge_in_slices,
    ladder,
    seconds,
    trial,
    value_of,
    varying_sensors,
)
from daemon.model.faults import FaultKind
from daemon.runtime.cpu_share import CpuShare
from daemon.runtime.drill_places import TRIALS_EACH, PlaceCollector, QueuedPlace
from daemon.runtime.drill_report import entry, settled
from daemon.stream.pipeline import Pipeline
from daemon.stream.silence import STUCK_MARGIN
from daemon.stream.steps import Step

TOGETHER = 8
"""Faults that are judged together: they share a model's own cost per call."""
CELLS = 65_536
"""Cells of the windows of a slice: a few milliseconds of inference."""
KEEP = 40
"""Newest verdicts by kind, sensor and size, as many as a drill on a file has."""
KIND_KEPT = 1_000
"""Newest verdicts of a kind, whatever the sensor and size, for its recall and delay."""
TABLE_EVERY_S = 5.0


def rules_of(detector: Detector, spec: StreamSpec) -> Rules:
    """The rules that find faults without a score, see ``stream.silence``; a fault lasts a day, at least two windows."""
    longest = np.minimum(detector.longest_constant, 1 << 60)
    return Rules(
        STUCK_MARGIN * np.maximum(longest, spec.window),
        np.array(silent_rows(spec), np.int64),
        max(DAY_NS // spec.period_ns, WATCHED * spec.window),
        frozenset(c for c, rule in enumerate(spec.rules) if rule.alert.ignore),
        detector.silence,
        hold_rows(spec),
        spec.period_ns,
    )


class FireDrill:
    """The drill of one stream.

    Args:
        spec, policy: of the stream.
        share: of one CPU's time that may be taken.
        seed: of what is injected.
        cpu, clock: seconds of CPU time of the process, and monotonic ones.

    ``results`` holds the newest finding of each sensor and kind.
    """

    def __init__(
        self,
        spec: StreamSpec,
        policy: AlarmPolicy,
        share: float,
        *,
        seed: int = 0,
        cpu: Callable[[], float] = time.process_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.tally = Tally(spec.sensors, KEEP)
        self.results: dict[tuple[str, FaultKind], Found] = {}
        self.version: str | None = None
        self.policy = policy
        self._clock = clock
        self._share = CpuShare(share, cpu, clock)
        self._collector = PlaceCollector(spec, seed)
        self._detector: Detector | None = None
        self._rules: Rules | None = None
        self._cells: list[tuple[FaultKind, float]] = []
        self._alive: list[int] = []
        self._running: tuple[list[Trial], Generator[None, None, list[Verdict | None]]] | None = None
        self._fresh: list[tuple[Trial, Verdict]] = []
        self._failure: DrillFailure | None = None  # not reported yet
        self._recent: dict[FaultKind, deque[Verdict]] = {}
        self._reported: tuple[str | None, float] = None, 0.0  # version, CPU time
        self._table: tuple[float, int, list[dict[str, Any]]] = -math.inf, 0, []

    @property
    def spent_s(self) -> float:
        """CPU time taken so far."""
        return self._share.spent_s

    @property
    def places(self) -> list[Place]:
        """The places that faults are injected at."""
        return self._collector.places

    @property
    def gathering(self) -> int:
        """The number of places that are still being gathered."""
        return self._collector.gathering

    def use(self, detector: Detector | None) -> None:
        """Drill another model from now on, or none; the findings of the one before are forgotten."""
        if detector is not None and detector.version == self.version:
            return
        self._detector = detector
        self.version = None if detector is None else detector.version
        self.tally = Tally(self.spec.sensors, KEEP)
        self.results = {}
        self._running, self._fresh, self._recent = None, [], {}
        self._table = -math.inf, 0, []
        self._collector.start_over(self.version)
        if detector is not None:
            self._share.forfeit()
            self._rules = rules_of(detector, self.spec)
            self._alive = [c for c in varying_sensors(detector) if c not in self._rules.ignored]
            kinds = [kind for kind in FaultKind if len(self._alive) >= kind.sensors]
            self._cells = [(kind, rung) for kind in kinds for rung in ladder(kind, self.spec.window)]

    def look(self, pipeline: Pipeline, step: Step) -> None:
        """Copy rows of a chunk that ``pipeline`` has just judged; its state is that after the chunk."""
        if self._detector is None or not self._cells or not (self.gathering or self._collector.wanted):
            return
        if step.block is None or step.silent or step.model != self.version or not self._share.allows(0.0):
            return
        with self._share.spending():
            self._collector.look(pipeline, step)

    def revoked(self, partition: InputPartition) -> None:
        """A partition was revoked."""
        self._collector.revoked(partition)

    # -------------------------------------------------------------- slices
    def slice(self) -> bool:
        """Do one slice of work, if the share allows one; False if it does not, or there is no work."""
        if self._running is None and not self._collector.ready:
            return False
        if not self._share.allows_slice():
            return False
        with self._share.slicing():
            try:
                self._advance()
            except Exception as error:  # noqa: BLE001 - a model may raise anything, see ``Judge``; the stream goes on
                self._failure = DrillFailure(self.version, repr(error)[:200])
                self._detector, self._running, self._fresh = None, None, []
                self._collector.clear()
        return True

    def _advance(self) -> None:
        """Judge some rows of some faults; take in the verdicts with the last ones."""
        assert self._detector is not None
        assert self._rules is not None
        if self._running is None:
            serving = self._collector.take()
            cells = self._detector.window * len(self.spec.sensors)
            trials = self._trials(serving, max(1, min(TOGETHER, CELLS // cells)))
            if serving.done < TRIALS_EACH:
                self._collector.put_back(serving)
            steps = judge_in_slices(
                DetectionChain(self._detector, self.policy, self._rules, self.spec.hop),
                [(serving.place, t) for t in trials],
                max(1, CELLS // (cells * len(trials))),
            )
            self._running = trials, steps
        trials, steps = self._running
        try:
            next(steps)
        except StopIteration as ended:
            self._running = None
            self._take(trials, ended.value)

    def _trials(self, serving: QueuedPlace, count: int) -> list[Trial]:
        """Draw the next faults of a place."""
        trials = []
        for n in range(serving.done, min(serving.done + count, TRIALS_EACH)):
            key = (*serving.key, n)
            rng = np.random.default_rng(key)
            kind, rung = self._cells[int(rng.integers(len(self._cells)))]
            sensor = self._alive[int(rng.integers(len(self._alive)))]
            trials.append(trial(kind, sensor, rung, key, self._alive))
        serving.done += count
        return trials

    def _take(self, trials: list[Trial], verdicts: list[Verdict | None]) -> None:
        """Count verdicts, and renew the results of their sensors and kinds."""
        for what, verdict in zip(trials, verdicts, strict=True):
            self.tally.add(what, verdict)
            if verdict is not None:
                self._fresh.append((what, verdict))
        for kind, c in {
            (t.kind, t.sensors[0]) for t, v in zip(trials, verdicts, strict=True) if v is not None
        }:
            self.results[self.spec.sensors[c], kind] = self.tally.result(kind, c)

    # -------------------------------------------------------------- findings
    def news(self) -> DrillFigures | None:
        """What was found, or failed, since the last call; None if there is nothing new."""
        version, spent_s = self._reported
        if not self._fresh and version == self.version:
            failure, self._failure = self._failure, None
            return None if failure is None else DrillFigures(False, [], [], [], 0.0, failure)
        period = self.spec.period_ns
        with self._share.spending():
            fresh, self._fresh = self._fresh, []
            failure, self._failure = self._failure, None
            for what, verdict in fresh:
                self._recent.setdefault(what.kind, deque(maxlen=KIND_KEPT)).append(verdict)
            kinds = []
            for kind in {what.kind for what, _ in fresh}:
                verdicts = self._recent[kind]
                rows = [v.rows for v in verdicts if v.rows is not None]
                delay = float(np.median(rows)) if rows else None
                kinds.append(KindFigures(kind, len(rows) / len(verdicts), seconds(delay, period)))
            sensors = []
            for kind, c in {(what.kind, what.sensors[0]) for what, _ in fresh}:
                found = self.results[self.spec.sensors[c], kind]
                size = None
                if self._detector is not None and settled(found) and found.smallest is not None:
                    scale = float(self._detector.scaling.scale[c])
                    size = value_of(kind, found.smallest.rung.size, scale, period)
                sensors.append(SensorFigures(self.spec.sensors[c], kind, size))
            figures = DrillFigures(
                version != self.version,
                [(what.kind, verdict.found) for what, verdict in fresh],
                kinds,
                sensors,
                self.spent_s - spent_s,
                failure,
            )
        self._reported = self.version, self.spent_s
        return figures

    def table(self) -> list[dict[str, Any]]:
        """One ``drill_report.entry`` per sensor and kind of which enough faults were tried.

        At most ``TABLE_EVERY_S`` old: the page reads it every second.
        """
        if self._detector is None:
            return []
        made_at, drilled, table = self._table
        now = self._clock()
        if drilled != self.tally.drilled and now - made_at >= TABLE_EVERY_S:
            scale, period = self._detector.scaling.scale, self.spec.period_ns
            what = modelled(self.spec)
            table = [
                entry(found, float(scale[c]), period, what.get(sensor, ""))
                for c, sensor in enumerate(self.spec.sensors)
                for kind in FaultKind
                if (found := self.results.get((sensor, kind))) is not None and settled(found)
            ]
            self._table = now, self.tally.drilled, table
        return table
