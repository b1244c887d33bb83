"""When the next training of a stream is due, and which part of its history it takes.

A first training is due when there are ``learn_rows`` observed rows, here or in the history. A retraining is
due at the multiples of ``retrain.every`` in event time, and learns the rows before its multiple: so replicas
and restarts agree on it. A training whose history could not be read is repeated, first after ten seconds and
then after twice the time before, up to five minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from daemon.domain import Segment, to_ns
from daemon.runtime.history import History, UnreadHistory

if TYPE_CHECKING:
    from daemon.runtime.stream_run import StreamPlan

REPEAT_S = (10.0, 300.0)
"""Until a training whose history could not be read is repeated: at first, and at most."""


class TrainingSchedule:
    """The schedule of one stream.

    Args:
        plan: of the stream.
        history: of the stream.
        clock: monotonic seconds.
    """

    def __init__(self, plan: StreamPlan, history: History, clock: Callable[[], float]) -> None:
        self.plan = plan
        self._history = history
        self._clock = clock
        self._wanted_rows = plan.learn_rows
        self._trained_until_ns: int | None = None  # event time that the last training ends at; None: none yet
        self._previous_until_ns: int | None = None  # ... and the one before it, if it has to be repeated
        self._not_before_s = 0.0  # on the clock
        self._repeat_s = REPEAT_S[0]

    @property
    def waiting(self) -> bool:
        """Whether a training that is to be repeated is not due yet."""
        return self._clock() < self._not_before_s

    def first_history(self, observed_rows: int) -> Sequence[Segment] | UnreadHistory | None:
        """The history of a first training; None while there are too few rows, here and on the topics."""
        enough_here = observed_rows >= self._wanted_rows
        if not enough_here and not self._history.holds(self._wanted_rows):
            return None
        # The topics may have deleted rows that were seen here: then a training takes what is left.
        return self._history.first(self._wanted_rows, 0 if enough_here else self._wanted_rows)

    def retraining_due(self, event_time_ns: int) -> int | None:
        """The event time that a retraining ends at which is due now; None if none is. Each is due once.

        Args:
            event_time_ns: of the stream in this process; negative if unknown.
        """
        now_ns = event_time_ns if event_time_ns >= 0 else self._history.event_time_ns
        every = self.plan.retrain_every
        if every is None or now_ns < 0:
            return None
        # A row is complete only when the allowed lateness has passed.
        until_ns = (now_ns - self.plan.spec.allowed_lateness_ns) // to_ns(every) * to_ns(every)
        if self._trained_until_ns is None:
            self._trained_until_ns = until_ns
        if until_ns <= self._trained_until_ns:
            return None
        self._previous_until_ns, self._trained_until_ns = self._trained_until_ns, until_ns
        return until_ns

    def model_used(self, trained_until_ns: int | None) -> None:
        """A model is in use that was trained up to this event time; None if that is unknown."""
        if not self._history.lasting or trained_until_ns is None:
            self._trained_until_ns = None  # the next one is due at the next multiple from now
        elif self._trained_until_ns is None or self._trained_until_ns < trained_until_ns:
            # Never back: an earlier model may be in use again after a later one was given up.
            self._trained_until_ns = trained_until_ns

    def take_more_rows(self) -> None:
        """A first training came to nothing: the next one takes half as many rows more."""
        self._wanted_rows += max(self._wanted_rows // 2, 1)

    def repeat_later(self, *, retraining: bool) -> None:
        """A training's history could not be read: the same training is due again after a while."""
        if retraining:
            self._trained_until_ns = self._previous_until_ns
        self._not_before_s = self._clock() + self._repeat_s
        self._repeat_s = min(2 * self._repeat_s, REPEAT_S[1])

    def history_read(self) -> None:
        """A training's history was read: the next failure to read is repeated soon again."""
        self._repeat_s = REPEAT_S[0]
