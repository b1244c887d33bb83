"""What judges a fault: detector, alarm policy, the stream's own rules and its hop, as one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from daemon.detector import Detector
from daemon.domain import AlarmPolicy, Ints
from daemon.habit import SilenceHabit


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """The stream's rules that raise alerts without a score; in rows."""

    stuck_rows: Ints  # (C,) rows without a change after which ``sensor_stuck`` opens
    silent_rows: Ints  # (C,) rows without a value after which ``sensor_silent`` opens
    lasting_rows: int  # how long an injected fault of these kinds lasts
    ignored: frozenset[int] = frozenset()  # sensors that are no evidence: no fault of theirs is looked for
    habit: SilenceHabit | None = None  # the silences that are usual
    held_rows: tuple[int, ...] = ()  # by sensor, how long its last value stands for a missing one; of a habit
    period_ns: int = 1

    def silent_from(self, asset: str, c: int, last_row: int) -> int:
        """The grid row from which sensor ``c`` is silent, the last value of which was at ``last_row``."""
        silent = int(self.silent_rows[c])
        habit = self.habit
        if habit is None or not habit.has(which := habit.which(asset, c)):
            return last_row + silent
        held = self.held_rows[c]
        begin = np.array([max(last_row + held, 0) * self.period_ns])
        due = int(habit.due_ns(which, begin, max(silent - held, 1) * self.period_ns)[0])
        return max(last_row + silent, -(-due // self.period_ns))


@dataclass(frozen=True, slots=True, eq=False)
class DetectionChain:
    """All that decides whether a fault raises an alert."""

    detector: Detector
    policy: AlarmPolicy
    rules: Rules
    hop: int = 1  # windows end at the rows whose number in the grid is a multiple of it
