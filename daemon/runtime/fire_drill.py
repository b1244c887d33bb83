"""The fire drill beside the stream: faults injected into copies of the newest normal rows, and judged.

Answers "why was there no alert?" for the model in force: which faults it would find now, how soon and
from which size on. What is injected and how it is judged is in ``model.drill``; here are the rows, the
time that it may take, and what is said of it.

**Rows.** Behind a chunk of the stream's rows a copy is taken of where one of its assets stands: the
window, the slow baseline, the alarm machine (``Pipeline.standing``). The asset's next two windows of rows
then make a *place*, if no episode fires in them. A few places are kept, the newest; faults are injected
into copies of them. The stream itself is only read: nothing of its state or outputs depends on this.

**Time.** It runs between the events of the loop, in slices of a few milliseconds, and never takes
more than its share of one CPU: the process's CPU time is measured around everything that is done
here and taken off what the share has granted so far.

**Reproducible.** What is injected at a place follows from the seed, the model's version, the asset and
the row; how many places there are, and which, depends on how the rows came and on how much time there was.
"""

from __future__ import annotations

import math
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog

from daemon.adapters.telemetry import Metrics
from daemon.detector import Detector
from daemon.domain import (
    AlarmPolicy,
    Floats,
    InputPartition,
    StreamSpec,
)
from daemon.model.drill import (
    DAY_NS,
    FOUND,
    WATCHED,
    DetectionChain,
    Found,
    Place,
    Rules,
    Rung,
    Tally,
    Trial,
    Verdict,
    alive,
    judging,
    ladder,
    seconds,
    trial,
    value_of,
)
from daemon.model.faults import FaultKind
from daemon.stream.pipeline import Pipeline
from daemon.stream.silence import STUCK_MARGIN
from daemon.stream.steps import Standing, Step

log = structlog.get_logger()

PLACES_KEPT = 8
ARMED = 4
"""Places that are being gathered at a time."""
TRIALS_EACH = 64
"""Faults that are injected at one place before it has served."""
TOGETHER = 8
"""Faults that are judged together: a model's own cost per call is then shared."""
CELLS = 65_536
"""Cells of the windows of a slice: a few milliseconds of inference."""
KEEP = 40
"""Newest verdicts by kind, sensor and size, as many as a drill on a file has."""
LEAST = 5
"""Faults of a size before anything is said of it."""
KIND_KEPT = 1_000
"""Newest verdicts of a kind, whatever the sensor and size, that its recall and delay are of."""
TABLE_EVERY_S = 5.0
MOST_SAVED_S = 0.25
"""CPU time that may be saved up while there is nothing to drill: no more is then spent at once."""

WORDS = {
    FaultKind.SPIKE: "a spike",
    FaultKind.SHIFT: "an offset",
    FaultKind.DRIFT: "a drift",
    FaultKind.STUCK: "a stuck sensor",
    FaultKind.NOISE: "noise",
    FaultKind.SWAP: "a swap of two sensors",
    FaultKind.LAG: "a lag",
    FaultKind.DROP_OUT: "a drop-out",
}


def rules_of(detector: Detector, spec: StreamSpec) -> Rules:
    """What a stream finds without a score, see ``Pipeline``; a fault lasts a day, or two windows if longer."""
    longest = np.minimum(detector.longest_constant, 1 << 60)
    return Rules(
        STUCK_MARGIN * np.maximum(longest, spec.window),
        max(spec.silent_after_ns // spec.period_ns, 1),
        max(DAY_NS // spec.period_ns, WATCHED * spec.window),
    )


# ------------------------------------------------------------------ beside the stream
@dataclass(slots=True, eq=False)
class Armed:
    """A place that is being gathered."""

    partition: InputPartition
    asset: str
    slot: int
    standing: Standing
    next_row: int
    rows: list[Floats] = field(default_factory=list)
    condition: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Served:
    """A place, and how many faults were injected there."""

    place: Place
    key: tuple[int, ...]
    done: int = 0


class FireDrill:
    """The drill of one stream.

    Args:
        spec, policy: of the stream.
        share: of one CPU's time that may be taken.
        seed: of what is injected.
        cpu, clock: seconds of CPU time of the process, and monotonic ones.

    ``results`` holds the newest verdict of each sensor and kind, ``spent_s`` the CPU time taken so far.
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
        self.share = share
        self.spent_s = 0.0
        self.tally = Tally(spec.sensors, KEEP)
        self.results: dict[tuple[str, FaultKind], Found] = {}
        self.version: str | None = None
        self._policy = policy
        self._seed = seed
        self._cpu, self._clock = cpu, clock
        self._granted_s = 0.0  # less what was taken
        self._seen_at = clock()
        self._slice_s = 0.0  # what a slice took, about
        self._detector: Detector | None = None
        self._rules: Rules | None = None
        self._cells: list[tuple[FaultKind, float]] = []
        self._alive: list[int] = []
        self._armed: list[Armed] = []
        self._places: deque[Served] = deque(maxlen=PLACES_KEPT)
        self._running: tuple[list[Trial], Generator[None, None, list[Verdict | None]]] | None = None
        self._fresh: list[tuple[Trial, Verdict]] = []
        self._recent: dict[FaultKind, deque[Verdict]] = {}
        self._reported: tuple[str | None, float] = None, 0.0  # version, CPU time
        self._table: tuple[float, int, list[dict[str, Any]]] = -math.inf, 0, []

    def use(self, detector: Detector | None) -> None:
        """Another model judges from now on, or none does: what was found of the one before is forgotten."""
        if detector is not None and detector.version == self.version:
            return
        self._detector = detector
        self.version = None if detector is None else detector.version
        self.tally = Tally(self.spec.sensors, KEEP)
        self.results = {}
        self._armed, self._running, self._fresh, self._recent = [], None, [], {}
        self._table = -math.inf, 0, []
        self._places.clear()
        if detector is not None:
            # Time that went by while there was nothing to drill is not made up for.
            self._seen_at, self._granted_s = self._clock(), min(self._granted_s, 0.0)
            self._rules = rules_of(detector, self.spec)
            self._alive = alive(detector)
            kinds = [kind for kind in FaultKind if len(self._alive) >= kind.sensors]
            self._cells = [(kind, rung) for kind in kinds for rung in ladder(kind, self.spec.window)]

    # -------------------------------------------------------------- rows
    def look(self, pipeline: Pipeline, step: Step) -> None:
        """Take what is needed of a chunk that was just judged; the pipeline stands behind it."""
        if self._detector is None or not self._cells or not (self._armed or self._wanting):
            return
        if step.block is None or step.silent or step.model != self.version or not self._may(0.0):
            return
        with self._counted():
            self._extend(pipeline, step)
            if self._wanting and len(self._armed) < ARMED:
                self._arm(pipeline, step)

    def leave(self, partition: InputPartition) -> None:
        """A partition is another replica's now: what is being gathered there would never be whole."""
        self._armed = [armed for armed in self._armed if armed.partition != partition]

    @property
    def _wanting(self) -> bool:
        """Whether there are fewer places than are kept, those being gathered among them."""
        return sum(p.done < TRIALS_EACH for p in self._places) + len(self._armed) < PLACES_KEPT

    def _extend(self, pipeline: Pipeline, step: Step) -> None:
        """Give the places that are being gathered the rows of their assets."""
        block = step.block
        assert block is not None
        watched = WATCHED * self.spec.window
        newest = int(block.rows.max()) if len(block.rows) else 0
        for armed in list(self._armed):
            here = armed.partition == pipeline.partition
            mine = np.flatnonzero(here & (block.slots == armed.slot))[: watched - len(armed.rows)]
            if not len(mine):
                if newest > armed.next_row + 4 * watched:
                    self._armed.remove(armed)  # its asset has fallen silent
                continue
            expected = armed.next_row + np.arange(len(mine))
            # A row that is not the next one, or of another asset in the slot, or of an episode.
            if (
                (block.rows[mine] != expected).any()
                or block.firing[mine].any()
                or block.assets[int(mine[0])] != armed.asset
            ):
                self._armed.remove(armed)
                continue
            armed.rows += list(block.values[mine])
            armed.condition += [block.condition[i] for i in mine.tolist()]
            armed.next_row += len(mine)
            if len(armed.rows) == watched:
                self._armed.remove(armed)
                self._places.append(self._served(armed))

    def _arm(self, pipeline: Pipeline, step: Step) -> None:
        """Begin to gather a place behind the newest row of one of the chunk's assets."""
        block = step.block
        assert block is not None
        assert self.version is not None
        if not len(block.rows):
            return
        rng = np.random.default_rng([self._seed, _number(self.version), int(block.rows[-1])])
        i = int(rng.integers(len(block.rows)))
        asset, slot = block.assets[i], int(block.slots[i])
        last = int(np.flatnonzero(block.slots == slot)[-1])
        if block.firing[last] or any(a.asset == asset for a in self._armed):
            return
        row = int(block.rows[last])
        standing = pipeline.parts.standing(asset, row)
        if standing is not None:
            self._armed.append(Armed(pipeline.partition, asset, slot, standing, row + 1))

    def _served(self, armed: Armed) -> Served:
        """A place whose rows have all come."""
        assert self.version is not None
        s, L = armed.standing, self.spec.window
        first = armed.next_row - len(armed.rows) - L
        place = Place(
            armed.asset,
            first,
            np.concatenate([s.window, np.stack(armed.rows)]),
            L,
            tuple(armed.condition),
            s.baseline,
            s.alarm,
            s.still,
            s.age,
        )
        key = (
            self._seed,
            _number(self.version),
            zlib.crc32(armed.asset.encode("utf-8", "replace")),
            place.row,
        )
        return Served(place, key)

    # -------------------------------------------------------------- time
    def _may(self, seconds_: float) -> bool:
        """Whether the share has granted so much CPU time by now."""
        now = self._clock()
        most = max(MOST_SAVED_S, 2.0 * self._slice_s)
        self._granted_s = min(self._granted_s + self.share * (now - self._seen_at), most)
        self._seen_at = now
        return self._granted_s > seconds_

    def _counted(self) -> _Counted:
        """While inside, CPU time is taken off what was granted."""
        return _Counted(self)

    def slice(self) -> bool:
        """Do one slice of work, if the share allows one; False if it does not, or there is nothing to do."""
        if self._running is None and not any(p.done < TRIALS_EACH for p in self._places):
            return False
        if not self._may(max(self._slice_s, 0.005)):
            return False
        with self._counted() as counted:
            try:
                self._advance()
            except Exception as error:  # noqa: BLE001 - a model is data, see ``Pipeline``; the stream must go on
                log.warning(
                    "drill_failed", stream=self.spec.name, version=self.version, reason=repr(error)[:200]
                )
                self._detector, self._running, self._fresh = None, None, []
                self._places.clear()
        self._slice_s = max(counted.took_s, 0.9 * self._slice_s)
        return True

    def _advance(self) -> None:
        """Judge some rows of some faults; take in the verdicts where those are the last."""
        assert self._detector is not None
        assert self._rules is not None
        if self._running is None:
            served = next(p for p in self._places if p.done < TRIALS_EACH)
            self._places.remove(served)
            cells = self._detector.window * len(self.spec.sensors)
            trials = self._trials(served, max(1, min(TOGETHER, CELLS // cells)))
            if served.done < TRIALS_EACH:
                self._places.append(served)  # the next one's turn
            steps = judging(
                DetectionChain(self._detector, self._policy, self._rules, self.spec.hop),
                [(served.place, t) for t in trials],
                max(1, CELLS // (cells * len(trials))),
            )
            self._running = trials, steps
        trials, steps = self._running
        try:
            next(steps)
        except StopIteration as ended:
            self._running = None
            self._take(trials, ended.value)

    def _trials(self, served: Served, count: int) -> list[Trial]:
        """The next faults of a place."""
        trials = []
        for n in range(served.done, min(served.done + count, TRIALS_EACH)):
            key = (*served.key, n)
            rng = np.random.default_rng(key)
            kind, rung = self._cells[int(rng.integers(len(self._cells)))]
            sensor = self._alive[int(rng.integers(len(self._alive)))]
            trials.append(trial(kind, sensor, rung, key, self._alive))
        served.done += count
        return trials

    def _take(self, trials: list[Trial], verdicts: list[Verdict | None]) -> None:
        """Count verdicts, and have anew what they say."""
        for what, verdict in zip(trials, verdicts, strict=True):
            self.tally.add(what, verdict)
            if verdict is not None:
                self._fresh.append((what, verdict))
        for kind, c in {
            (t.kind, t.sensors[0]) for t, v in zip(trials, verdicts, strict=True) if v is not None
        }:
            self.results[self.spec.sensors[c], kind] = self.tally.result(kind, c)

    def report(self, metrics: Metrics) -> None:
        """Tell the metrics what is new."""
        version, spent_s = self._reported
        if not self._fresh and version == self.version:
            return
        name, period = self.spec.name, self.spec.period_ns
        with self._counted():
            if version != self.version:
                metrics.drill_begins_anew(name)
            fresh, self._fresh = self._fresh, []
            for what, verdict in fresh:
                metrics.drilled(name, what.kind, verdict.found)
                self._recent.setdefault(what.kind, deque(maxlen=KIND_KEPT)).append(verdict)
            for kind in {what.kind for what, _ in fresh}:
                verdicts = self._recent[kind]
                rows = [v.rows for v in verdicts if v.rows is not None]
                delay = float(np.median(rows)) if rows else None
                metrics.drill_of_kind(name, kind, len(rows) / len(verdicts), seconds(delay, period))
            for kind, c in {(what.kind, what.sensors[0]) for what, _ in fresh}:
                found = self.results[self.spec.sensors[c], kind]
                size = None
                if self._detector is not None and settled(found) and found.smallest is not None:
                    scale = float(self._detector.scaling.scale[c])
                    size = value_of(kind, found.smallest.rung.size, scale, period)
                metrics.drill_smallest(name, self.spec.sensors[c], kind, size)
            metrics.drill_spent(name, self.spent_s - spent_s)
        self._reported = self.version, self.spent_s

    def table(self) -> list[dict[str, Any]]:
        """One entry per sensor and kind of which enough was tried, as ``entry``; by sensor and kind.

        It is at most ``TABLE_EVERY_S`` old, as a page asks for it every second.
        """
        if self._detector is None:
            return []
        made_at, drilled, table = self._table
        now = self._clock()
        if drilled != self.tally.drilled and now - made_at >= TABLE_EVERY_S:
            scale, period = self._detector.scaling.scale, self.spec.period_ns
            table = [
                entry(found, float(scale[c]), period)
                for c, sensor in enumerate(self.spec.sensors)
                for kind in FaultKind
                if (found := self.results.get((sensor, kind))) is not None and settled(found)
            ]
            self._table = now, self.tally.drilled, table
        return table


class _Counted:
    """Takes the CPU time of what is done inside off what a drill was granted."""

    __slots__ = ("_began", "_drill", "took_s")

    def __init__(self, drill: FireDrill) -> None:
        self._drill = drill
        self._began = 0.0
        self.took_s = 0.0

    def __enter__(self) -> _Counted:
        self._began = self._drill._cpu()
        return self

    def __exit__(self, *_: object) -> None:
        self.took_s = max(self._drill._cpu() - self._began, 0.0)
        self._drill.spent_s += self.took_s
        self._drill._granted_s -= self.took_s


def _number(text: str) -> int:
    """A version, or any text, as a seed."""
    return zlib.crc32(text.encode())


def settled(found: Found) -> bool:
    """Whether so many faults of each size were tried that something can be said of them."""
    return all(rung.faults >= LEAST for rung in found.rungs) and (
        not found.kind.sized or len(found.rungs) > 1
    )


# ------------------------------------------------------------------ what is said of it
def finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def entry(found: Found, scale: float, period_ns: int) -> dict[str, Any]:
    """One sensor and kind; see ``Drilled``."""

    def value(size: float) -> float:
        return value_of(found.kind, size, scale, period_ns)

    def sd(size: float) -> float | None:
        return None if found.kind is FaultKind.LAG else size

    def rung(one: Rung) -> dict[str, Any]:
        return {
            "sd": sd(one.size),
            "value": value(one.size),
            "faults": one.faults,
            "found": one.found,
            "recall": finite(one.recall),
            "delay_s": seconds(one.delay_rows, period_ns),
        }

    smallest = found.smallest
    return {
        "sensor": found.sensor,
        "kind": found.kind.value,
        "recall": finite(found.recall),
        "faults": found.faults,
        "delay_s": seconds(found.delay_rows, period_ns),
        "smallest": None
        if smallest is None
        else {
            "sd": sd(smallest.rung.size),
            "value": value(smallest.rung.size),
            "low": value(smallest.low),
            "high": None if smallest.high is None else value(smallest.high),
            "within_s": seconds(smallest.rung.within_rows, period_ns),
        },
        "by_size": [rung(one) for one in found.rungs] if found.kind.sized else [],
        "alert": None if found.alert is None else found.alert.value,
        "says": sentence(found, scale, period_ns),
    }


def sentence(found: Found, scale: float, period_ns: int) -> str:
    """What an operator would say: ``Pressure: an offset above 0.4 is found within 3 min``."""
    what = f"{found.sensor}: {WORDS[found.kind]}"
    if not found.found:
        return f"{what} is not found"
    smallest = found.smallest
    if smallest is None and found.kind.sized:
        return f"{what} is found in {found.recall:.0%} of the cases, and on no size reliably"
    if smallest is not None:
        size = value_of(found.kind, smallest.rung.size, scale, period_ns)
        amount = span(size) if found.kind is FaultKind.LAG else sized(size)
        within = seconds(smallest.rung.within_rows, period_ns)
        return f"{what} above {amount} is found {soon(within)}"
    if found.recall < FOUND:
        return f"{what} is found in {found.recall:.0%} of the cases"
    within = seconds(found.rungs[0].within_rows, period_ns)
    return f"{what} is found {soon(within)}"


def soon(within_s: float | None) -> str:
    """How soon: ``within 3 min``, or ``at once`` where the fault's first row tells."""
    return f"within {span(within_s)}" if within_s else "at once"


def sized(value: float) -> str:
    """A size that people read, three digits: ``0.762``, ``1,210`` and no ``1.21e+03``."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1e3 <= abs(rounded) < 1e9 else f"{value:.3g}"


def span(of_seconds: float) -> str:
    """A duration that people read: ``40 s``, ``3 min``, ``2.5 h``."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if of_seconds >= 2 * size:
            return f"{of_seconds / size:.3g} {unit}"
    return f"{of_seconds:.3g} s"
