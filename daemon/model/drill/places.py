"""Places: stretches of normal rows into which faults are injected, with the stream's state before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from daemon.alarm import Alarm, State
from daemon.detector import Windows
from daemon.domain import NO_CONDITION, Floats, Ints, Progress, Segment
from daemon.model.drill.chain import DetectionChain
from daemon.model.segments import sliding

WATCHED = 2
"""Windows for which a fault lasts, and its scores are watched."""
CANDIDATES = 4_096
"""Places of a file that faults are injected at are chosen from about so many."""
CHUNK = 1_024
NEAR = 64
"""Rows that are searched first for a sensor's last change."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Normal rows into which faults are injected, and the stream's state before them.

    The fault begins at ``values[lead]`` and lasts to the end; C sensors.
    """

    asset: str
    first_row: int  # the grid row of ``values[0]``
    values: Floats  # (lead + watched, C) raw, NaN where not observed
    lead: int  # at least one window
    condition: tuple[str, ...]  # a label per watched row, or none at all
    baseline: Floats  # (P,) before the fault
    alarm: tuple[State, int, int]  # an ``Alarm``'s fields, likewise
    still: Ints  # (C,) rows since each sensor last changed, the last one included
    age: Ints  # (C,) rows since each sensor was observed last; 0: in the row before the fault

    @property
    def row(self) -> int:
        """The grid row at which faults begin."""
        return self.first_row + self.lead


def places_in(
    chain: DetectionChain,
    history: Sequence[Segment],
    wanted: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Place]:
    """Places spread evenly over a history, where nothing fires without a fault.

    The history is judged from its beginning, as the stream would: segment by segment, each with a
    fresh baseline or the one that training left.

    Args:
        chain: what judges.
        history: normal rows.
        wanted: how many places, at most.
        seed: of the choice among candidates.
        progress: called with the share done and what is being done.

    Returns:
        At most ``wanted``, by segment and time; fewer or none where episodes and gaps leave no more.
    """
    L = chain.detector.window
    watched = WATCHED * L
    rows = sum(len(s.values) for s in history)
    stride = max(rows // CANDIDATES, 1)
    found: list[tuple[Segment, int, Floats, tuple[State, int, int]]] = []
    done = 0
    for segment in history:
        found += _candidates(chain, segment, stride, watched)
        done += len(segment.values)
        if progress is not None:
            progress(done / max(rows, 1), "judging the rows as they are")
    if not found:
        return []
    rng = np.random.default_rng([seed, len(found)])
    edges = np.linspace(0, len(found), min(wanted, len(found)) + 1)
    chosen = [int(rng.integers(int(a), max(int(b), int(a) + 1))) for a, b in pairwise(edges)]
    return [_place(*found[i], L, watched) for i in chosen]


def _candidates(
    chain: DetectionChain, segment: Segment, stride: int, watched: int
) -> list[tuple[Segment, int, Floats, tuple[State, int, int]]]:
    """Rows of a segment at which a fault may begin, each with baseline and alarm machine before it."""
    detector, policy, hop = chain.detector, chain.policy, chain.hop
    L, T = detector.window, len(segment.values)
    begins = list(range(L, T - watched + 1, stride))
    if not begins:
        return []
    scaling = detector.scaling.of(segment.values)
    labels = segment.condition or (NO_CONDITION,) * T
    baseline: Floats | None = None
    alarm = Alarm()
    quiet = np.ones(T, bool)
    before: list[tuple[int, Floats, tuple[State, int, int]]] = []
    scores, jumps = np.full((2, T), np.nan)
    for low in range(L - 1, T, CHUNK):
        due = np.arange(low, min(low + CHUNK, T))
        cuts = [b for b in begins if low <= b < low + CHUNK]
        ended = due[(segment.first_row + due) % hop == 0]
        windows = sliding(scaling[low - L + 1 : low + CHUNK], L)[ended - low]
        evidence = None
        if len(ended):
            batch = Windows(
                segment.values[ended][:, None],
                np.ones(len(ended), bool),
                tuple(labels[row] for row in ended.tolist()),
                scaled=np.ascontiguousarray(windows),
                asset=(segment.asset,) * len(ended),
            )
            evidence = detector.infer(batch)
            if baseline is None:
                row = segment.first_row + int(ended[0])
                carried = detector.carried_baseline(segment.asset, row)
                fresh = detector.fresh_baseline(segment.asset) if carried is None else carried
                baseline = fresh[None, :].copy()
        at = low
        for cut in [*cuts, low + len(due)]:
            some = np.flatnonzero((ended >= at) & (ended < cut))
            if len(some) and evidence is not None and baseline is not None:
                slots = np.zeros(len(some), np.int64)
                verdicts = detector.judge(evidence.take(some), baseline, slots, static=False)
                scores[ended[some]], jumps[ended[some]] = verdicts.score, verdicts.largest_jump
            for row in range(at, cut):
                score = float(scores[row])
                state = alarm.state
                if score == score:
                    state = alarm.step(score, detector.threshold, detector.closing, policy, float(jumps[row]))
                quiet[row] = state not in (State.FIRING, State.RECOVERING)
            if cut < low + len(due) and baseline is not None:
                before.append((cut, baseline[0].copy(), (alarm.state, alarm.recent, alarm.resting)))
            at = cut
    loud = np.concatenate([[0], np.cumsum(~quiet)])
    return [
        (segment, s, state, machine)
        for s, state, machine in before
        if loud[min(s + watched, T)] == loud[s - 1]
    ]


def _place(
    segment: Segment, start: int, baseline: Floats, alarm: tuple[State, int, int], L: int, watched: int
) -> Place:
    """The place that begins at a row of a segment."""
    stop = start + watched
    still, age = standing(segment.values[:start])
    return Place(
        segment.asset,
        segment.first_row + start - L,
        segment.values[start - L : stop],
        L,
        segment.condition[start:stop],
        baseline,
        alarm,
        still,
        age,
    )


def standing(values: Floats) -> tuple[Ints, Ints]:
    """For how long each sensor had not changed, and not been observed, at the end of (T, C) rows.

    Returns:
        (C,) rows since it moved, that row and the last one included; (C,) rows since it was observed,
        0 for the last row, T if never.
    """
    T, columns = values.shape
    still, age = np.full(columns, T), np.full(columns, T)
    for c in range(columns):
        back = min(NEAR, T)
        while True:  # nearly always it has moved lately
            seen = np.flatnonzero(np.isfinite(values[T - back :, c])) + T - back
            other = np.flatnonzero(values[seen, c] != values[seen[-1], c]) if len(seen) else seen
            if len(other) or back == T:
                break
            back = min(8 * back, T)
        if len(seen):
            age[c] = T - 1 - int(seen[-1])
        if len(other):
            still[c] = T - int(seen[other[-1] + 1])
    return still, age
