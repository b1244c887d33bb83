"""What follows from time alone: silent assets, clocks that are off, drift intervals that are over.

Rows that were released earlier are judged first: outputs of time come after theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

from daemon.domain import Output
from daemon.stream.evaluation import Evaluation
from daemon.stream.event_time import NO_CLOCK
from daemon.stream.parts import Parts
from daemon.stream.steps import Step


class Timekeeping:
    """Reads the fleet's clock of one input partition.

    Args:
        parts: of its pipeline.
        evaluation: of its chunks.
    """

    def __init__(self, parts: Parts, evaluation: Evaluation) -> None:
        self._parts = parts
        self._evaluation = evaluation

    def check_clock(self, offset: int) -> Iterator[Step]:
        """Update the fleet's clock after the record at ``offset`` if it is due, and emit what follows."""
        parts, replaying = self._parts, self._parts.ledger.replaying
        look = parts.silence.update_clock(parts.drift.due_row)
        if look is None:
            return
        if any(map(len, (look.fell_silent, look.skewed, look.righted, look.set_back))):
            model = parts.judge.model
            yield from self._evaluation.evaluate_all()
            yield from self._evaluation.in_steps(parts.silence.declare_silent(look.fell_silent, model))
            yield from self._evaluation.in_steps(
                parts.silence.update_clock_alerts(look.skewed, look.righted, model)
            )
            closed: list[Output] = []
            for name in sorted(parts.assets.names_of(look.set_back)):
                # All that it sends is late. It begins anew, as if it were another asset, and is judged again.
                closed += parts.forget(name, offset, refuse=not replaying)
            if closed and not replaying:
                yield self._evaluation.make_step(closed)
        fleet_row = parts.ingest.clock.row
        yield from self._end_planned_stops(fleet_row)
        if not replaying and NO_CLOCK < fleet_row >= parts.drift.due_row:
            yield from self._end_intervals(fleet_row)

    def _end_planned_stops(self, fleet_row: int) -> Iterator[Step]:
        """Say which assets are silent still after a planned stop; they send no row that could."""
        parts = self._parts
        planned, slots = parts.episodes.planned, parts.assets.slots
        if not planned.muted or fleet_row == NO_CLOCK:
            return
        over = [
            name
            for name in sorted(planned.muted)
            if parts.silence.silent[slots[name]] and not parts.episodes.maintenance.covers(name, fleet_row)
        ]
        if over:
            yield from self._evaluation.evaluate_all()
            parts.ledger.mark(over)  # it is the other assets' records that tell
            model = parts.judge.model
            yield from self._evaluation.in_steps(
                event for name in over for event in planned.end(name, fleet_row, model)
            )

    def _end_intervals(self, fleet_row: int) -> Iterator[Step]:
        """Emit the drift of the intervals that the fleet's clock has left behind.

        The sums of an interval must not depend on what else came in the same poll.
        """
        drift, chunker = self._parts.drift, self._parts.chunker
        known = drift.due_row != NO_CLOCK
        horizon_ns = drift.next_horizon(fleet_row)
        if not known:
            return
        if len(chunker):  # after the rows that came before
            chunker.set_boundary(horizon_ns)
        elif outputs := drift.records(horizon_ns):
            yield self._evaluation.make_step(outputs)

    def end_silence(self, slot: int) -> Iterator[Step]:
        """Close an asset's silence once it has caught up with the fleet."""
        parts = self._parts
        if not parts.silence.has_caught_up(slot):
            return
        yield from self._evaluation.evaluate_all()
        closed = parts.silence.end_silence(slot, parts.judge.model)
        if closed and not parts.ledger.replaying:
            yield self._evaluation.make_step(closed)

    def check_idle(self, idle_ns: int) -> Iterator[Step]:
        """No record came for ``idle_ns``: emit which assets are silent as the log stands."""
        slots = self._parts.silence.silent_when_idle(idle_ns)
        yield from self._evaluation.in_steps(
            self._parts.silence.declare_silent(slots, self._parts.judge.model)
        )
        if self._parts.ingest.clock.row != NO_CLOCK:
            # Where all is idle, elapsed wall time counts.
            yield from self._end_planned_stops(
                self._parts.ingest.clock.row + idle_ns // self._parts.spec.period_ns
            )
