"""A whole fire drill on a history: all kinds and sizes of faults, sensor by sensor, at places all over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.domain import SECOND_NS, Progress, Segment
from daemon.model.drill.chain import DetectionChain
from daemon.model.drill.judging import AT_ONCE, judge_all
from daemon.model.drill.places import WATCHED, Place, places_in
from daemon.model.drill.tally import Tally
from daemon.model.drill.trials import ladder, trial, varying_sensors
from daemon.model.faults import FaultKind, lag_rows

PLACES = 40
"""Faults of each kind, sensor and size. With fewer than 16, even finding all does not prove 80 %."""
PARTNERS = 3
"""Swap partners that are tried at each place: results depend much on the partner."""
POOL = 10
"""So many times more places are found than one sensor and kind uses: each takes every tenth, from its own start.
What the machine did at a place affects the result, and so all of them would share the same bias."""
MOST_WINDOWS = 4_000_000
"""Windows that a drill on a file judges at most, some minutes; with more sensors there are fewer places."""


@dataclass(frozen=True, slots=True)
class DrillPlan:
    """What a drill injects, and how often."""

    kinds: Sequence[FaultKind] = tuple(FaultKind)
    sensors: Sequence[int] | None = None  # None: all that moved in training
    places: int = PLACES  # faults of each kind, sensor and size, at most; fewer where sensors are many
    seed: int = 0  # of the places, signs, partners and noise


def drill(
    chain: DetectionChain, history: Sequence[Segment], plan: DrillPlan, progress: Progress | None = None
) -> tuple[Tally, list[Place]]:
    """Inject faults of the planned kinds and all sizes, at places all over a history.

    Args:
        chain: what judges.
        history: normal rows; those at which an alert fires without a fault are left out.
        plan: what is injected.
        progress: called with the share done and what is being done.

    Returns:
        The verdicts, and the places; both empty where there is no place.
    """
    detector = chain.detector
    able = [c for c in varying_sensors(detector) if c not in chain.rules.ignored]
    wanted = [c for c in able if plan.sensors is None or c in set(plan.sensors)]
    kinds = [k for k in plan.kinds if len(able) >= k.sensors]
    tally = Tally(detector.sensors)
    each = len(wanted) * sum(len(ladder(k, detector.window)) for k in kinds) * WATCHED * detector.window
    places = max(min(plan.places, MOST_WINDOWS // max(each, 1)), min(plan.places, 5))
    report = progress or (lambda share, doing: None)
    where = places_in(
        chain, history, POOL * places, plan.seed, lambda share, doing: report(0.1 * share, doing)
    )
    stride = max(len(where) // places, 1)
    cases = [
        (kind, sensor, rung, i, turn)
        for k, kind in enumerate(FaultKind)
        if kind in kinds
        for sensor in wanted
        for rung in ladder(kind, detector.window)
        for i in range((7 * sensor + 3 * k) % stride, len(where), stride)[:places]
        for turn in range(PARTNERS if kind is FaultKind.SWAP else 1)
    ]
    tried = (
        (where[i], trial(kind, sensor, rung, (plan.seed, where[i].row, i, turn), able))
        for kind, sensor, rung, i, turn in cases
    )
    for n, (what, verdict) in enumerate(judge_all(chain, tried)):
        tally.add(what, verdict)
        if n % AT_ONCE == 0:
            report(0.1 + 0.9 * n / max(len(cases), 1), f"injecting {what.kind.value}")
    return tally, where


def seconds(rows: float | None, period_ns: int) -> float | None:
    """A number of rows as seconds."""
    return None if rows is None else rows * period_ns / SECOND_NS


def value_of(kind: FaultKind, size: float, scale: float, period_ns: int) -> float:
    """A size in the sensor's own units; of a lag in seconds."""
    return lag_rows(size) * period_ns / SECOND_NS if kind is FaultKind.LAG else size * scale
