"""The alarm: a state machine from scores to anomaly episodes, used by the stream and by calibration.

Why here: a threshold keeps the accepted number of false episodes only if it is found with the same machine
that runs on the stream (by counting episodes, not by quantiles of scores). The machine is therefore below
both ``stream`` and ``model``. It exists twice: as a table with a step function for the stream (``Alarm``),
and vectorised over a whole series for the threshold search (``firing``); a test compares the two.

A score S against a threshold T and a closing level C <= T, and the largest jump J of a sensor as a share of its
limit, give one of three cues:

    HIGH  S > T or J > 1 (to open: at least n of the newest m rows, ``AlarmPolicy.needed`` and ``of``)
    LOW   S <= C
    HELD  in between: the state stays as it is

Both levels and the limits are a detector's, found together by calibration (``model.calibration``).

A row without a score (nothing observed) gives no cue: the state is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from daemon.domain import AlarmPolicy, Floats, Mask


class State(IntEnum):
    """The state of an asset's anomaly episode."""

    INACTIVE = 0
    PENDING = 1  # HIGH, not yet for long enough
    FIRING = 2
    RECOVERING = 3  # below again; within the refractory time it may fire again as the same episode


class Cue(IntEnum):
    """What one scored row means for the state."""

    LOW = 0
    HELD = 1
    HIGH = 2
    PERSISTENT = 3  # HIGH, and n of the last m were
    EXPIRED = 4  # LOW or HELD, and the refractory time is over


TRANSITIONS: dict[tuple[State, Cue], State] = {
    (State.INACTIVE, Cue.HIGH): State.PENDING,
    (State.INACTIVE, Cue.PERSISTENT): State.FIRING,
    (State.PENDING, Cue.PERSISTENT): State.FIRING,
    (State.PENDING, Cue.LOW): State.INACTIVE,
    (State.FIRING, Cue.LOW): State.RECOVERING,
    (State.RECOVERING, Cue.PERSISTENT): State.FIRING,
    (State.RECOVERING, Cue.EXPIRED): State.INACTIVE,
}
"""A pair that is not listed leaves the state as it is."""


@dataclass(slots=True)
class Alarm:
    """The alarm of one asset: the state, and what the next transition depends on."""

    state: State = State.INACTIVE
    recent: int = 0  # bit i: the i-th newest scored row was HIGH
    resting: int = 0  # rows since RECOVERING began, as many as the hop for each that was scored

    def step(
        self, score: float, threshold: float, closing: float, policy: AlarmPolicy, jump: float = 0.0
    ) -> State:
        """Process one scored row (its score is never NaN, its jump may be); returns the state after it."""
        high = score > threshold or jump > 1.0
        self.recent = ((self.recent << 1) | high) & ((1 << policy.of) - 1)
        if self.state is State.RECOVERING:
            self.resting += policy.hop
        if high and self.recent.bit_count() >= policy.needed:
            cue = Cue.PERSISTENT
        elif high:
            cue = Cue.HIGH
        elif self.state is State.RECOVERING and self.resting >= policy.refractory:
            cue = Cue.EXPIRED
        elif score <= closing:
            cue = Cue.LOW
        else:
            cue = Cue.HELD
        state = TRANSITIONS.get((self.state, cue), self.state)
        if state is State.RECOVERING and self.state is State.FIRING:
            self.resting = 0
            if policy.refractory == 0:
                state = State.INACTIVE
        self.state = state
        return state


def firing(
    scores: Floats, threshold: float, closing: float, policy: AlarmPolicy, jumps: Floats | None = None
) -> Mask:
    """The rows of one asset's series at which an episode is firing.

    Args:
        scores: (N,) in time order; NaN where not scored (the state is frozen there).
        threshold: T.
        closing: C, at most T.
        policy: persistence; the refractory time joins episodes but never
            makes a row fire, so it is not used here.
        jumps: (N,) J of each row, NaN where not known; None: no row jumps.

    Returns:
        (N,) bool. A NaN row repeats the row before it.
    """
    scored = np.isfinite(scores)
    series = scores[scored]
    if not len(series):
        return np.zeros(len(scores), bool)
    high = series > threshold
    if jumps is not None:
        high |= jumps[scored] > 1.0
    held = high | (series > closing)
    counts = np.cumsum(high)
    before = np.concatenate([np.zeros(policy.of, counts.dtype), counts])[: len(counts)]
    opens = high & (counts - before >= policy.needed)
    # A run of held rows fires from its first opening row on.
    run = np.cumsum(held & ~np.concatenate([[False], held[:-1]]))
    index = np.arange(len(series))
    first = np.full(int(run.max(initial=0)) + 1, len(series))
    np.minimum.at(first, run[opens], index[opens])
    fires = held & (index >= first[run])
    result = np.zeros(len(scores), bool)
    result[scored] = fires
    last = np.maximum.accumulate(np.where(scored, np.arange(len(scores)), -1))
    return np.where(last >= 0, result[np.maximum(last, 0)], False)


def episodes(fires: Mask) -> int:
    """The number of runs of firing rows, which the budget limits."""
    return int((fires & ~np.concatenate([[False], fires[:-1]])).sum())
