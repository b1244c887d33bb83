"""Takes a chunk of released rows through windows, judge, silence and drift, and makes a ``Step`` of it.

The outputs of a row are emitted in this order: silent sensors, filled cells, anomaly episodes and
scores, stuck sensors, unknown conditions, slow trends; between two rows comes the drift of intervals that end there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from daemon.calendar import Calendar
from daemon.domain import AlertEvent, FilledRow, Mask, Output, ScoredRow
from daemon.stream.audit import Audit, Audited, auditable
from daemon.stream.chunk_windows import WindowedRows, cut_windows
from daemon.stream.chunker import Chunk
from daemon.stream.judge import Judgement
from daemon.stream.parts import Parts
from daemon.stream.steps import RowBlock, Step
from daemon.stream.summands import Summands

OUTPUTS_AT_ONCE = 500
"""Outputs of one step, where very many assets have one at the same record."""


class Evaluation:
    """Evaluates the chunks of one input partition.

    Args:
        parts: of its pipeline.
        audit: hides readings from the model to see how well they are filled; None: no audit.

    Attributes:
        emitted: outputs of chunks and of whole fleets since the last committable step, drift left out; the
            pipeline resets it.
    """

    def __init__(self, parts: Parts, audit: Audit | None) -> None:
        self._parts = parts
        self._audit = audit
        self._calendar = Calendar(parts.spec)
        self.emitted = 0

    # -------------------------------------------------------------- steps
    def evaluate_full(self) -> Iterator[Step]:
        """Judge the chunks that are full; called after every reading, and nearly always there is none."""
        while self._parts.chunker.full:
            yield self._evaluate(self._parts.chunker.next())

    def evaluate_all(self) -> Iterator[Step]:
        """Judge all rows that wait: at the end of a poll, and before anything that must come after them."""
        while len(self._parts.chunker):
            yield self._evaluate(self._parts.chunker.next())

    def in_steps(self, outputs: Iterator[Output]) -> Iterator[Step]:
        """The steps of outputs of very many assets, some at a time."""
        while some := list(islice(outputs, OUTPUTS_AT_ONCE)):
            step = self.make_step(some)
            self.emitted += len(step.outputs)
            yield step

    def make_step(self, outputs: Sequence[Output] = ()) -> Step:
        """Outputs that are due now; while the pipeline replays, they were published before."""
        replaying = self._parts.ledger.replaying
        return Step(outputs=[] if replaying else list(outputs), silent=replaying)

    # -------------------------------------------------------------- a chunk
    def _evaluate(self, chunk: Chunk) -> Step:
        """Push a chunk's rows into their windows, judge them, and put the outputs in order.

        While the pipeline replays, the outputs were published before and are left out.
        """
        parts, rows, model = self._parts, chunk.rows, self._parts.judge.model
        replaying, detector = parts.ledger.replaying, parts.judge.detector
        if parts.spec.condition:
            rows = rows.with_conditions(self._calendar.labels(rows.conditions, rows.rows))
        # Before the last model change of a replay only the names of the earlier models are known.
        judging = detector is not None and not parts.model_changes.ahead
        if parts.derivation.changes:
            rows = rows.with_values(parts.derivation.derived(rows.slots, rows.rows, rows.values))
        windows = cut_windows(rows, parts.windows, parts.holding, parts.spec.hop, judging=judging)
        changes, explained = parts.silence.silent_sensors(windows)
        if judging and detector is not None:
            stuck, with_stuck = parts.silence.stuck_sensors(windows, detector.longest_constant)
            changes += stuck
            explained |= with_stuck
        changes += parts.episodes.planned.ends(rows.assets, rows.rows, changes)
        changes.sort(key=lambda change: (change.place, change.part is not None))
        judgement = parts.judge.judge(windows, changes, model, judging=judging)
        explained |= judgement.firing | judgement.deviating
        outputs = judgement.outputs
        if judging:
            outputs += parts.judge.unknown_conditions(rows)
        trends, trending = parts.trend.add(windows, explained, detector if judging else None)
        outputs += trends
        # After a model change nobody could tell from the records what this model opened or closed.
        parts.ledger.mark(output.asset for output in outputs if type(output) is AlertEvent)
        step = Step(
            block=RowBlock(
                rows.assets,
                rows.slots,
                rows.rows,
                windows.rows.values,
                judgement.scores,
                judgement.firing,
                rows.conditions,
                chunk.rows.values if parts.derivation.changes or parts.holding.any else None,
                judgement.deviating,
                windows.held,
            ),
            scored=judgement.scored,
            filled=judgement.filled,
            failed=judgement.failed,
            model=model,
            silent=replaying,
        )
        explained |= parts.episodes.maintenance.reached(rows.assets, rows.rows)
        summands = _counted(judgement.summands, explained, trending)
        if replaying and summands is not None:
            parts.drift.assets.add(summands, silent=True)
        if not replaying:
            if judging:
                self._hide(windows, judgement)
                step.audited = self.compared()
            self.emitted += len(outputs)
            if judging and detector is not None and parts.shadow.on:
                shadow = parts.shadow.judge(windows, judgement, detector.scaling)
                summands = None if summands is None else replace(summands, shadow=shadow)
            drifted = parts.drift.add(chunk.boundaries, summands)
            # Whether one asset drifts or the fleet does its own records do not tell.
            parts.ledger.mark(output.asset for _, output in drifted if type(output) is AlertEvent)
            step.outputs = self._in_row_order(windows, outputs, drifted)
        return step

    def _in_row_order(
        self, chunk: WindowedRows, outputs: list[Output], drifted: list[tuple[float, Output]]
    ) -> list[Output]:
        """Order outputs row by row, not kind by kind: where a chunk ends must not show in the alerts' order."""
        if not drifted and chunk.held is None and sum(type(output) is AlertEvent for output in outputs) <= 1:
            return outputs
        times = (chunk.rows.rows * self._parts.spec.period_ns).tolist()
        place = {key: i for i, key in enumerate(zip(chunk.rows.assets, times, strict=True))}
        placed = [(float(place[_row_of(output)]), output) for output in outputs] + drifted
        placed.sort(key=lambda one: one[0])
        return [output for _, output in placed]

    # -------------------------------------------------------------- the audit
    def forget_hidden(self) -> None:
        """Another model comes into force: the readings hidden so far were hidden from the previous one."""
        if self._audit is not None:
            self._audit.forget()

    def compared(self, *, everything: bool = False) -> Audited | None:
        """The comparison of readings that were hidden, if there are enough of them or of ``everything``."""
        detector = self._parts.judge.detector
        if self._audit is None or detector is None:
            return None
        return self._audit.compared(detector.version, detector.infer, everything=everything)

    def _hide(self, chunk: WindowedRows, judgement: Judgement) -> None:
        """Take known readings out of copies of the windows, to see how well they are filled."""
        parts, detector = self._parts, self._parts.judge.detector
        if self._audit is None or detector is None or not len(chunk.windows):
            return
        rows = chunk.rows
        which, sensor, gap = self._audit.picked(parts.assets.hashes[rows.slots], rows.rows)
        if not len(which):
            return
        in_episode = judgement.firing[which] | judgement.deviating[which]
        clean = auditable(judgement.scores[which], detector.threshold, in_episode)
        for j in np.flatnonzero(clean).tolist():
            asset = rows.assets[which[j]]
            stuck = sensor[j] in parts.silence.stuck(asset)
            known = chunk.observed[which[j], sensor[j]]  # a held value is no reading
            clean[j] = (
                known and not stuck and not parts.episodes.maintenance.covers(asset, int(rows.rows[which[j]]))
            )
        if clean.any():
            places = np.cumsum(chunk.wanted) - 1
            self._audit.hide(
                chunk.windows, parts.windows.scaling, places[which[clean]], sensor[clean], gap[clean]
            )


def _counted(summands: Summands | None, explained: Mask, trending: Mask) -> Summands | None:
    """With the windows marked that end at explained rows (R,), and without the cells of a slow trend (R, C)."""
    if summands is None:
        return None
    residual = summands.residual
    if trending.any():  # for weeks: the asset's other sensors go on
        residual = np.where(trending[summands.places], np.nan, residual)
    return replace(summands, residual=residual, explained=explained[summands.places])


def _row_of(output: Output) -> tuple[str, int]:
    """The row that an output of a chunk is of."""
    assert isinstance(output, AlertEvent | FilledRow | ScoredRow)
    return output.asset, output.row_ns
