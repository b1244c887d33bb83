"""From scores to alarms: one state machine, used by the stream and by calibration alike.

The threshold is only honest if it is found by replaying calibration scores through the very
machine that will run on the stream (count episodes, not quantiles). So the machine lives
below both ``stream`` and ``model``, once as a table with a step function for the stream and
once vectorised over a whole series for the threshold search; a test holds them together.

A score S against threshold T gives one of three cues:

    HIGH  S > T          (needed ``n of m``: the newest m scores hold at least n of these)
    LOW   S <= hysteresis * T
    HELD  in between: whatever the state is, it stays

A row without a score (nothing observed) gives no cue at all: the state is frozen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from daemon.domain import AlarmPolicy, Floats, Mask


class State(IntEnum):
    """Where an asset's episode stands."""

    INACTIVE = 0
    PENDING = 1  # above the threshold, not yet for long enough
    FIRING = 2
    RECOVERING = 3  # back below; within the refractory time it may fire again as the same episode


class Cue(IntEnum):
    """What one scored row says."""

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
    """One asset's place in the machine."""

    state: State = State.INACTIVE
    recent: int = 0  # bit i: the i-th newest scored row was above the threshold
    resting: int = 0  # scored rows since RECOVERING began

    def step(self, score: float, threshold: float, policy: AlarmPolicy) -> State:
        """Take one scored row (never NaN) and return the state after it."""
        high = score > threshold
        self.recent = ((self.recent << 1) | high) & ((1 << policy.of) - 1)
        if self.state is State.RECOVERING:
            self.resting += 1
        if high and self.recent.bit_count() >= policy.needed:
            cue = Cue.PERSISTENT
        elif high:
            cue = Cue.HIGH
        elif self.state is State.RECOVERING and self.resting >= policy.refractory:
            cue = Cue.EXPIRED
        elif score <= policy.hysteresis * threshold:
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


def firing(scores: Floats, threshold: float, policy: AlarmPolicy) -> Mask:
    """The rows of one asset's series at which an episode is firing.

    Args:
        scores: (N,) in time order; NaN where not scored (the state is frozen there).
        threshold: T.
        policy: persistence and hysteresis; the refractory time joins episodes but never
            makes a row fire, so it plays no part here.

    Returns:
        (N,) bool. A NaN row repeats the row before it.
    """
    scored = np.isfinite(scores)
    series = scores[scored]
    if not len(series):
        return np.zeros(len(scores), bool)
    high = series > threshold
    held = series > policy.hysteresis * threshold
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
    """How many runs of firing rows: what the budget is counted in."""
    return int((fires & ~np.concatenate([[False], fires[:-1]])).sum())
