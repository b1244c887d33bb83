"""What comes into force between two readings, at an offset that can be committed: settings, a model, a control message.

A successor does not repeat such a change where it replays records of before: it cannot find out which episodes the
earlier model opened or closed, nor when a message came. So the assets that it concerns have records of state of that very
offset; where they are many, most are written in commits that go before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from daemon.budget import Budget
from daemon.detector import Detector
from daemon.domain import AlarmPolicy, Output
from daemon.maintenance import MaintenanceWindow
from daemon.stream.evaluation import Evaluation
from daemon.stream.ledger import SNAPSHOTS_AT_ONCE
from daemon.stream.parts import Parts
from daemon.stream.steps import Step


class Changes:
    """The changes that wait in one input partition.

    Args:
        parts: of its pipeline.
        evaluation: of its chunks; no row may wait when ``take`` is called.
    """

    def __init__(self, parts: Parts, evaluation: Evaluation) -> None:
        self._model_due = False
        self._parts = parts
        self._evaluation = evaluation
        self._next_detector: Detector | None = None
        self._next_policy: tuple[AlarmPolicy, Sequence[MaintenanceWindow], Budget | None] | None = None

    @property
    def due(self) -> bool:
        """Whether anything waits."""
        return self._model_due or self._next_policy is not None or self._parts.controls.due

    def use_policy(
        self, policy: AlarmPolicy, maintenance: Sequence[MaintenanceWindow], online: Budget | None
    ) -> None:
        """Settings of the alarms are to come into force, with the planned stops of the configuration."""
        self._next_policy = policy, maintenance, online

    def use_next(self, detector: Detector | None) -> None:
        """A model is to come into force."""
        self._next_detector, self._model_due = detector, True

    def use(self, detector: Detector | None, offset: int) -> list[Output]:
        """Let a model come into force at once; the records of the outgoing model's unfinished drift intervals."""
        self._evaluation.forget_hidden()
        return self._parts.use(detector, offset)

    def take(self, offset: int) -> Iterator[Step]:
        """Let everything that waits come into force at an offset: settings, the model, what people say."""
        parts, outputs = self._parts, list[Output]()
        if self._next_policy is not None:
            yield from self._save(parts.names, offset)
            parts.use_policy(*self._next_policy)
            self._next_policy = None
        if self._model_due:
            yield from self._save(parts.judged_assets, offset)
            detector, self._next_detector, self._model_due = self._next_detector, None, False
            outputs += self.use(detector, offset)
        while parts.controls.due:
            yield from self._save(parts.controls.concerned, offset)
            outputs += parts.take_control()
        yield Step(outputs=parts.ingest.dead_letters_before(offset) + outputs, committable=True)

    def _save(self, assets: Callable[[], set[str]], offset: int) -> Iterator[Step]:
        """Let the records of these assets be written, but for the last ones, which go with the change."""
        parts = self._parts
        while len(stale := parts.stale(assets())) > SNAPSHOTS_AT_ONCE:
            parts.ledger.mark(sorted(stale)[:SNAPSHOTS_AT_ONCE])
            yield Step(outputs=parts.ingest.dead_letters_before(offset), committable=True)
            if parts.ledger.dirty:
                break  # nobody writes snapshots here
