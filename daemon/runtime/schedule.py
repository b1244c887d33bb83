"""When the next training of a stream is due, why, and which part of its history it takes.

A first training is due when there are ``learn_rows`` observed rows, here or in the history. With a model, a training
is due

* on request: at once, for as long as no decision has answered the request;
* by schedule: at the multiples of ``retrain.every`` in event time;
* on feedback: when an episode was judged a real incident or a false alarm since the last training, for the next
  scheduled training would learn something else. No more than one an hour of wall time: who judges a week's episodes
  gives many verdicts within minutes, and a training that begins later has all of them;
* by drift: when three drift intervals of a partition in a row were above the thresholds; no more than one in
  ``retrain.every`` of event time, for a candidate that did not help (or was refused) leaves the drift as it is, and
  the same rows would be trained on again and again.

Where ``retrain.every`` is null only requests train. A training learns the rows before an event time: a scheduled one
those before its multiple, one by drift those before the end of the third interval, so that replicas and restarts agree
on it; the others what is complete now. A training whose history could not be read is repeated, first after ten seconds
and then after twice the time before, up to five minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from daemon.control import Feedback, Received, RetrainRequest, Verdict
from daemon.documents import counted
from daemon.domain import Segment, to_ns
from daemon.runtime.history import History, UnreadHistory
from daemon.trigger import Cause, Trigger

if TYPE_CHECKING:
    from daemon.runtime.stream_run import StreamPlan

REPEAT_S = (10.0, 300.0)
"""Until a training whose history could not be read is repeated: at first, and at most."""
FEEDBACK_EVERY_S = 3600.0
"""Between two trainings that verdicts make due."""
TEACHING = frozenset({Verdict.CONFIRMED, Verdict.FALSE_ALARM})
"""Verdicts that change what is learned of rows that are over; what is planned will be learned when it is history."""


@dataclass(frozen=True, slots=True)
class Due:
    """A training that is due now."""

    until_ns: int  # event time that its rows end at
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class _Trained:
    """How far trainings have come."""

    until_ns: int | None = None  # event time that the last one ends at; None: none yet
    drift_ns: int | None = None  # ... that the last one by drift ends at
    feedback_s: float = -FEEDBACK_EVERY_S  # when the last one on feedback began, on the clock


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
        self._trained = _Trained(feedback_s=clock() - FEEDBACK_EVERY_S)
        self._before = self._trained  # before the last training, if that has to be repeated
        self._after = self._before  # ... as it left it, if nobody decided meanwhile
        self._not_before_s = 0.0  # on the clock
        self._repeat_s = REPEAT_S[0]
        self._asked: list[tuple[int, RetrainRequest]] = []  # requests without a decision, by position
        self._judged: list[int] = []  # positions of verdicts that no training has learned from
        self._newest = -1  # position of the newest control message
        self._of_topic = -1  # ... of which topic that is
        self._first_topic = -1  # the first that was heard of
        self._answered: dict[int, int] = {}  # by topic the position of the newest that a decision knew

    @property
    def waiting(self) -> bool:
        """Whether a training that is to be repeated is not due yet."""
        return self._clock() < self._not_before_s

    @property
    def requested(self) -> bool:
        """Whether a request waits for its training."""
        return bool(self._asked)

    # -------------------------------------------------------------- control messages
    def received(self, received: Received) -> None:
        """Take a control message, of any stream; in the order of their topic, and each may come again."""
        if received.of_topic != self._of_topic:  # it was made anew
            if self._first_topic < 0:
                self._first_topic = received.of_topic
                self.answered(self._answered.pop(-1, -1), received.of_topic)
            self._of_topic, self._newest = received.of_topic, -1
            self._asked, self._judged = [], []
        if received.position <= max(self._newest, self._answered.get(received.of_topic, -1)):
            return
        self._newest = received.position
        match received.control:
            case RetrainRequest() as request if request.retrain == self.plan.spec.name:
                self._asked.append((received.position, request))
            case Feedback(verdict=verdict) if verdict in TEACHING:
                self._judged.append(received.position)

    def answered(self, position: int, of_topic: int = -1) -> None:
        """A decision was made that knew all control messages up to this position of a topic.

        One that does not say of which (-1), as in earlier versions, knew those of the first topic that is heard of.
        """
        if of_topic < 0:
            of_topic = self._first_topic
        self._answered[of_topic] = max(self._answered.get(of_topic, -1), position)
        if of_topic != self._of_topic:
            return
        self._asked = [one for one in self._asked if one[0] > position]
        self._judged = [one for one in self._judged if one > position]

    def _trigger(self, cause: Cause, reason: str) -> Trigger:
        requests = tuple(position for position, _ in self._asked)
        return Trigger(cause, reason, self._newest, requests, self._of_topic)

    # -------------------------------------------------------------- what is due
    def first_history(self, observed_rows: int) -> Sequence[Segment] | UnreadHistory | None:
        """The history of a first training; None while there are too few rows, here and on the topics."""
        enough_here = observed_rows >= self._wanted_rows
        if not enough_here and not self._history.holds(self._wanted_rows):
            return None
        # The topics may have deleted rows that were seen here: then a training takes what is left.
        return self._history.first(self._wanted_rows, 0 if enough_here else self._wanted_rows)

    def first_trigger(self) -> Trigger:
        """Why a first training is due."""
        return self._trigger(Cause.FIRST, "no model is in use")

    def retraining_due(self, event_time_ns: int, model: str = "") -> Due | None:
        """The retraining that is due now; None if none is. Each is due once.

        Args:
            event_time_ns: of the stream in this process; negative if unknown.
            model: the version in use.
        """
        now_ns = event_time_ns if event_time_ns >= 0 else self._history.event_time_ns
        if now_ns < 0:
            return None
        # A row is complete only when the allowed lateness has passed.
        complete_ns = now_ns - self.plan.spec.allowed_lateness_ns
        due, trained = self._next(complete_ns, model)
        if due is None:
            self._trained = trained
            return None
        self._before = trained
        until_ns = due.until_ns if trained.until_ns is None else max(due.until_ns, trained.until_ns)
        self._trained = replace(trained, until_ns=until_ns)
        match due.trigger.cause:
            case Cause.DRIFT:
                self._trained = replace(self._trained, drift_ns=due.until_ns)
            case Cause.FEEDBACK:
                self._trained = replace(self._trained, feedback_s=self._clock())
        self._after = self._trained
        return due

    def _next(self, complete_ns: int, model: str) -> tuple[Due | None, _Trained]:
        """What is due, and how far trainings have come without it."""
        plan, trained = self.plan, self._trained
        whole_ns = complete_ns // plan.spec.period_ns * plan.spec.period_ns
        every_ns = None if plan.retrain_every is None else to_ns(plan.retrain_every)
        if every_ns is not None and trained.until_ns is None:
            trained = replace(trained, until_ns=complete_ns // every_ns * every_ns)
        if self._asked:
            request = self._asked[-1][1]
            reason = f"{request.by or 'somebody'} asked for it" + (
                f": {request.reason}" if request.reason else ""
            )
            return Due(whole_ns, self._trigger(Cause.REQUEST, reason)), trained
        if every_ns is None or trained.until_ns is None:
            return None, trained
        scheduled_ns = complete_ns // every_ns * every_ns
        if scheduled_ns > trained.until_ns:
            reason = f"every {plan.retrain_every}".removesuffix(", 0:00:00")
            return Due(scheduled_ns, self._trigger(Cause.SCHEDULE, reason)), trained
        if self._judged and self._clock() - trained.feedback_s >= FEEDBACK_EVERY_S:
            reason = f"{counted(len(self._judged), 'verdict')} since the last training"
            return Due(whole_ns, self._trigger(Cause.FEEDBACK, reason)), trained
        drift = self._history.drift.drifting(model)
        soonest_ns = -1 if trained.drift_ns is None else trained.drift_ns + every_ns
        if drift is not None and drift.end_ns > trained.until_ns and drift.end_ns >= soonest_ns:
            return Due(drift.end_ns, self._trigger(Cause.DRIFT, str(drift))), trained
        return None, trained

    # -------------------------------------------------------------- what became of trainings
    def model_used(self, trained_until_ns: int | None) -> None:
        """A model is in use that was trained up to this event time; None if that is unknown."""
        known_ns = self._trained.until_ns
        if not self._history.lasting or trained_until_ns is None:
            known_ns = None  # the next one is due at the next multiple from now
        elif known_ns is None or known_ns < trained_until_ns:
            # Never back: an earlier model may be in use again after a later one was given up.
            known_ns = trained_until_ns
        self._trained = replace(self._trained, until_ns=known_ns)

    def take_more_rows(self) -> None:
        """A first training came to nothing: the next one takes half as many rows more."""
        self._wanted_rows += max(self._wanted_rows // 2, 1)

    def repeat_later(self, *, retraining: bool) -> None:
        """A training's history could not be read: the same training is due again after a while."""
        if retraining and self._trained == self._after:  # else somebody has decided on it meanwhile
            self._trained = self._before
        self._not_before_s = self._clock() + self._repeat_s
        self._repeat_s = min(2 * self._repeat_s, REPEAT_S[1])

    def decided(self, until_ns: int, *, by_drift: bool) -> None:
        """A training that ended at this event time was decided on, perhaps elsewhere or before a restart: not again."""
        trained = self._trained
        if trained.until_ns is not None and until_ns > trained.until_ns:
            trained = replace(trained, until_ns=until_ns)
        if by_drift and (trained.drift_ns is None or until_ns > trained.drift_ns):
            trained = replace(trained, drift_ns=until_ns)
        self._trained = trained

    def hold_back(self) -> None:
        """Nothing is due for a while: a decision could not be published, and what it answered is still open."""
        self._not_before_s = self._clock() + REPEAT_S[1]

    def history_read(self) -> None:
        """A training's history was read: the next failure to read is repeated soon again."""
        self._repeat_s = REPEAT_S[0]
