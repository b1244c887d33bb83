"""From windows to verdicts: the model's evidence becomes scores, filled cells and anomaly episodes.

The evidence of a window depends on its own values alone. What has memory takes the rows in
order: each asset's baseline (the slow level of its errors), and its episode. The judge owns the
baselines; ``Episodes`` owns the episodes. The model is a ``daemon.detector.Detector``, implemented by
``daemon.model.detector.BundleDetector``.

A model is data and may raise anything on values it never saw. A window that it fails on stays
unscored and is counted; it must not take others with it, nor end the process, which would meet
the same window again after a restart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from daemon.alarm import State
from daemon.calendar import Calendar
from daemon.detector import Detector, Evidence, Windows
from daemon.domain import (
    AlertKind,
    Dropped,
    Floats,
    Ints,
    Mask,
    Output,
    StreamSpec,
)
from daemon.stream.acceptance import Accepted
from daemon.stream.alerts import Episodes
from daemon.stream.asking import Measured, ask_in_parts
from daemon.stream.assets import AssetTable
from daemon.stream.batches import RowBatch
from daemon.stream.chunk_windows import WindowedRows
from daemon.stream.correction import Asked, corrected
from daemon.stream.fills import held_rows, imputed_rows
from daemon.stream.incident import EpisodeStart, Part, UnscoredChange
from daemon.stream.model_changes import NO_MODEL
from daemon.stream.scored import ScoredWindows
from daemon.stream.summands import Summands
from daemon.stream.thresholds import Thresholds
from daemon.stream.windowing import grown


@dataclass(slots=True, eq=False)
class Judgement:
    """The verdicts on a chunk of R rows, of which W had a window that the model was asked about."""

    scores: Floats  # (R,) NaN where not scored
    firing: Mask  # (R,) whether the asset's anomaly episode is firing at the row
    deviating: Mask  # (R,) whether its anomaly, at rest or not, or a deviation of it is open at the row
    outputs: list[Output] = field(default_factory=list)
    changes: Sequence[UnscoredChange] = ()  # that are not taken in yet
    summands: Summands | None = None  # what it adds to the drift
    failed: Mask | None = None  # (W,) which windows the model failed on; None: on none
    scored: int = 0
    filled: int = 0

    def changes_before(self, place: int) -> Sequence[UnscoredChange]:
        """Take out the changes at earlier rows than the one at a place."""
        count = 0
        while count < len(self.changes) and self.changes[count].place < place:
            count += 1
        taken, self.changes = self.changes[:count], self.changes[count:]
        return taken


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluated:
    """The windows that the model could look at, with its evidence; E of the W wanted ones."""

    chunk: WindowedRows
    windows: Ints  # (E,) which of the chunk's windows
    rows: Ints  # (E,) the rows that they end at
    evidence: Evidence


class Judge:
    """Judges the rows of one input partition, with one model at a time.

    Args:
        spec: the stream.
        assets: those of the partition.
        episodes: moved on by the scores.
        thresholds: of the assets, moved on by their episodes.
        scores: whether a ``ScoredRow`` is emitted for every scored row.
        measured: see ``Measured``.

    Attributes:
        detector: the model in force; None: nothing is scored.
        dropped: windows that a model failed on, so far; no entry before a model was asked.
    """

    def __init__(
        self,
        spec: StreamSpec,
        assets: AssetTable,
        episodes: Episodes,
        thresholds: Thresholds,
        measured: Measured,
        *,
        scores: bool,
    ) -> None:
        self.spec = spec
        self.detector: Detector | None = None
        self.dropped: Counter[Dropped] = Counter()
        self._assets = assets
        self._episodes = episodes
        self._thresholds = thresholds
        self._measured = measured
        self._emit_scores = scores
        self._calendar = Calendar(spec)
        self._baseline: Floats = np.empty((assets.capacity, 0))  # (N, P) by slot
        self._begun = assets.column(bool, False)
        self._ignored: Mask = np.array([rule.alert.ignore for rule in spec.rules], bool)
        assets.register(self)

    # -------------------------------------------------------------- state
    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        self._baseline = grown(self._baseline, capacity)

    def clear(self, slot: int) -> None:
        """See ``PerAsset``: a baseline is of no use before it is begun."""

    def leave(self) -> None:
        """The last call: nothing per asset is held any more."""
        self._assets.release(self, self._begun)

    @property
    def model(self) -> str:
        """The version that outputs name."""
        return self.detector.version if self.detector is not None else NO_MODEL

    @property
    def baseline_states(self) -> int:
        """P, the numbers of one asset's baseline."""
        return int(self._baseline.shape[1])

    def use(self, detector: Detector | None) -> None:
        """Judge with this detector from the next row on; every baseline begins anew."""
        assert detector is None or detector.window == self.spec.window
        self.detector = detector
        states = 0 if detector is None else len(detector.fresh_baseline(""))
        self._baseline = np.zeros((self._assets.capacity, states))
        self._begun.values[:] = False
        for asset in self._episodes.acceptances.assets:
            self._episodes.acceptances.begin(asset)

    def exchange(self, detector: Detector) -> None:
        """Judge with the same model with other thresholds; every baseline goes on."""
        self.detector = detector

    def keep_begun(self, which: Mask) -> None:
        """Baselines of other assets than these (N,) begin anew."""
        self._begun.values &= which

    def begin_anew(self, slot: int) -> None:
        """The asset's baseline begins anew with its next score."""
        self._begun.values[slot] = False

    def baseline(self, slot: int) -> Floats | None:
        """(P,) the asset's baseline; None if it was not begun under this model."""
        return self._baseline[slot].copy() if self._begun.values[slot] else None

    def restore_baseline(self, slot: int, baseline: Floats) -> None:
        """Continue from a predecessor's baseline, of the same model."""
        self._baseline[slot] = baseline
        self._begun.values[slot] = True

    # -------------------------------------------------------------- a chunk
    def judge(
        self, chunk: WindowedRows, changes: Sequence[UnscoredChange], model: str, *, judging: bool
    ) -> Judgement:
        """The verdicts on a chunk.

        Args:
            chunk: rows with their windows.
            changes: parts of alerts that open and close without a score, by place.
            model: that alerts of these name.
            judging: whether there is a model to ask, as for ``cut_windows``.
        """
        for slot in chunk.restarted:
            self.begin_anew(slot)
        rows = chunk.rows
        nothing = np.zeros(len(rows), bool)
        judgement = Judgement(np.full(len(rows), np.nan), nothing, nothing.copy(), changes=changes)
        known = chunk.assets & self._episodes.assets.keys()
        fired = {asset: self._is_firing(asset) for asset in known}
        deviated = {asset: self._episodes.is_off(asset) for asset in known}
        if judging and chunk.held is not None:
            self._mark_held(chunk, chunk.held, judgement)
        if judging and len(chunk.windows):
            self._ask(chunk, judgement)
        judgement.outputs += self._episodes.take_in(judgement.changes_before(len(rows)), model)
        for which, before in ((judgement.firing, fired), (judgement.deviating, deviated)):
            if any(before.values()) or which.any():
                # Where an asset's episode stands is carried on to its rows without a score.
                scored = np.isfinite(judgement.scores).tolist()
                for i, asset in enumerate(rows.assets):
                    if scored[i]:
                        before[asset] = bool(which[i])
                    which[i] = before.get(asset, False)
        return judgement

    def _ask(self, chunk: WindowedRows, judgement: Judgement) -> None:
        """Fill and score what the model can look at."""
        if chunk.sentinels:
            self.dropped[Dropped.SENTINEL] += chunk.sentinels
        which, evidence = self._infer(chunk.windows)
        failed = np.ones(len(chunk.windows), bool)
        failed[which] = False
        if evidence is not None:
            rows = np.flatnonzero(chunk.wanted)[which]
            evaluated = _Evaluated(chunk, which, rows, evidence)
            self._fill(evaluated, judgement)
            self._score(evaluated, judgement)
            # A model that gives no score where one was due has failed too.
            blind = chunk.due[rows] & evidence.scorable & ~np.isfinite(judgement.scores[rows])
            failed[which] = blind
            self.dropped[Dropped.MODEL_FAILED] += int(blind.sum())
        judgement.failed = failed if failed.any() else None

    def _infer(self, batch: Windows) -> tuple[Ints, Evidence | None]:
        """Which of the windows the model can look at, and their evidence."""
        detector = self.detector
        assert detector is not None
        which, found = ask_in_parts(
            len(batch),
            lambda some: detector.infer(batch.take(some) if len(some) < len(batch) else batch),
            self._measured,
        )
        self.dropped[Dropped.MODEL_FAILED] += len(batch) - len(which)
        if not found:
            return which, None
        return which, found[0] if len(found) == 1 else Evidence.joined(found)

    def _fill(self, evaluated: _Evaluated, judgement: Judgement) -> None:
        """Emit the imputed cells of every incomplete row."""
        assert self.detector is not None
        author = self.detector.kind, self.detector.version
        filled = imputed_rows(self.spec, evaluated.chunk, evaluated.rows, evaluated.evidence, author)
        judgement.filled += sum(len(row.cells) for row in filled)
        judgement.outputs += filled

    def _mark_held(self, chunk: WindowedRows, held: Mask, judgement: Judgement) -> None:
        """Emit the cells in which a last value stands for a missing one."""
        assert self.detector is not None
        filled = held_rows(self.spec, chunk.rows, held, self.detector.version)
        judgement.filled += sum(len(row.cells) for row in filled)
        judgement.outputs += filled

    def _score(self, evaluated: _Evaluated, judgement: Judgement) -> None:
        """Score the windows that are due, in row order, and move their episodes on.

        What becomes normal at a row, or does not any more, counts from the next one on, so that the rows up to it are
        scored first.
        """
        chosen = np.flatnonzero(evaluated.chunk.due[evaluated.rows])
        self._begin_baselines(evaluated.chunk.rows, evaluated.rows[chosen])
        while len(chosen):
            count = self._until_change(evaluated.chunk.rows, evaluated.rows[chosen])
            self._score_some(evaluated, chosen[:count], judgement)
            chosen = chosen[count:]

    def _until_change(self, rows: RowBatch, which: Ints) -> int:
        """How many of the rows ``which`` come up to the first at which what is normal may change."""
        assets = self._episodes.changing
        places = np.arange(len(which))
        if assets is not None:
            if not assets:
                return len(which)
            places = np.flatnonzero(np.isin(rows.slots[which], self._assets.slots_of(sorted(assets))))
        first: dict[str, int] = {}
        for place in places.tolist():
            i = int(which[place])
            asset, row = rows.assets[i], int(rows.rows[i])
            if asset not in first:
                first[asset] = self._episodes.changes_from(asset, row)
            if row >= first[asset]:
                return place + 1
        return len(which)

    def _score_some(self, evaluated: _Evaluated, chosen: Ints, judgement: Judgement) -> None:
        """Score some of them, which are in row order."""
        detector, chunk = self.detector, evaluated.chunk
        assert detector is not None
        which, evidence = evaluated.rows[chosen], evaluated.evidence
        some = evidence if len(chosen) == len(evaluated.rows) else evidence.take(chosen)
        slots = chunk.rows.slots[which]
        acceptances, windows = self._episodes.acceptances, evaluated.windows[chosen]
        some, corrections = corrected(
            Asked(detector, acceptances, self._measured), chunk, windows, which, some
        )
        try:
            verdicts = detector.judge(some, self._baseline, slots, static=self._emit_scores)
        except Exception:  # noqa: BLE001 - see the module
            return  # without a score they count as failed
        scored = ScoredWindows(
            chunk, windows, which, some, verdicts, self.spec, detector, self._ignored, corrections
        )
        assert chunk.windows.scaled is not None
        has_score = np.isfinite(verdicts.score)
        judgement.scored += int(has_score.sum())
        judgement.scores[which] = verdicts.score
        self._move_episodes(scored, judgement)
        times = chunk.rows.rows[which] * self.spec.period_ns
        if self._emit_scores:
            judgement.outputs += scored.scored_rows(times, judgement.firing[which])
        summands = scored.summands()
        earlier = judgement.summands
        judgement.summands = summands if earlier is None else earlier.followed_by(summands)

    def _begin_baselines(self, rows: RowBatch, which: Ints) -> None:
        """Begin the baselines of assets that are scored for the first time under this model."""
        detector = self.detector
        assert detector is not None
        for i in which[~self._begun.values[rows.slots[which]]].tolist():
            slot, asset = rows.slots[i], rows.assets[i]
            if not self._begun.values[slot]:
                # The baseline that training left carries on where these rows continue training's.
                self._begun.values[slot] = True
                carried = detector.carried_baseline(asset, int(rows.rows[i]))
                self._baseline[slot] = detector.fresh_baseline(asset) if carried is None else carried

    # -------------------------------------------------------------- episodes
    def _is_firing(self, asset: str) -> bool:
        known = self._episodes.assets.get(asset)
        return known is not None and known.alarm.state is State.FIRING

    def _move_episodes(self, scored: ScoredWindows, judgement: Judgement) -> None:
        """Let scores and sustained evidence open, update and close anomalies and deviations, row by row."""
        detector, verdicts, assets = self.detector, scored.verdicts, scored.chunk.rows.assets
        assert detector is not None
        thresholds = self._thresholds
        # An asset that is not near an alarm, and was not before, has no episode that could change.
        jump = verdicts.largest_jump
        high = (verdicts.score > thresholds.lowest_closing) | (jump > 1.0)
        sustained = verdicts.sustained
        beyond = np.zeros(len(verdicts.score), bool)
        if sustained is not None:
            np.any(sustained.closing > 1.0, axis=1, out=beyond)
        slots, active = scored.chunk.rows.slots[scored.rows], np.zeros(self._assets.capacity, bool)
        active[slots[high | beyond]] = True
        watched = self._episodes.acceptances.watched
        changing = {change.asset for change in judgement.changes}
        known = self._assets.slots_of(self._episodes.moved_by_any_score | watched | changing)
        active[known[known >= 0]] = True  # drift is an episode of the stream, which has no slot
        for j in np.flatnonzero(active[slots]).tolist():
            i, score = int(scored.rows[j]), float(verdicts.score[j])
            asset = assets[i]
            judgement.outputs += self._episodes.take_in(judgement.changes_before(i), detector.version)
            if not np.isfinite(score):
                judgement.firing[i] = self._is_firing(asset)
                continue
            threshold, closing = thresholds.levels(int(slots[j]))
            engaged = thresholds.corrected and self._episodes.is_engaged(asset)
            if not self._episodes.cannot_change(asset, score, closing, float(jump[j])):
                judgement.firing[i], events = self._episodes.scored(
                    asset,
                    scored.evidence_of(j, threshold),
                    threshold,
                    closing,
                    detector.version,
                    detector.calibration,
                )
                judgement.outputs += events
            if beyond[j] or self._episodes.deviates(asset):
                judgement.deviating[i], events, accepted = self._episodes.sustained(
                    asset,
                    scored.sustained_row(j),
                    partial(scored.evidence_of, j, threshold),
                    detector.version,
                    "full" if sustained is None else sustained.calibration,
                )
                judgement.outputs += events
                if accepted is not None:
                    judgement.firing[i] = self._is_firing(asset)
                    self._accept(scored, j, accepted)
            if asset in watched:
                self._episodes.follow_accepted(asset, scored.sustained_row(j), scored.apart(j))
            if thresholds.corrected:
                self._correct(scored.chunk.rows, i, engaged)
        if thresholds.corrected:
            calm = ~active[slots] & np.isfinite(verdicts.score)
            self._pass_rows(scored.chunk.rows, scored.rows[calm])

    def _accept(self, scored: ScoredWindows, j: int, accepted: Accepted) -> None:
        """Let the baseline of a scored row's asset know what is normal from now on."""
        i = int(scored.rows[j])
        slots = scored.chunk.rows.slots[[i]]
        if accepted.corrected.any():
            scored.detector.begin_anew(self._baseline, int(slots[0]), accepted.corrected)
        if accepted.baseline.any():
            evidence = scored.evidence.take(np.array([j]))
            scored.detector.accept(evidence, self._baseline, slots, accepted.baseline)

    def _correct(self, rows: RowBatch, i: int, engaged: bool) -> None:
        """Let the threshold of a scored row's asset follow; ``engaged``: before this row its episode was not over."""
        if self._episodes.is_engaged(rows.assets[i]):
            return
        if engaged:
            self._thresholds.closed(int(rows.slots[i]))
        else:
            self._pass_rows(rows, np.array([i]))

    def _pass_rows(self, rows: RowBatch, which: Ints) -> None:
        """Let thresholds follow scored rows outside of episodes, but for those under maintenance."""
        maintenance = self._episodes.maintenance
        if maintenance:
            free = [not maintenance.covers(rows.assets[i], int(rows.rows[i])) for i in which.tolist()]
            which = which[np.array(free, bool)]
        self._thresholds.passed(rows.slots[which])

    # -------------------------------------------------------------- conditions
    def unknown_conditions(self, rows: RowBatch) -> list[Output]:
        """Rows whose condition the model has never seen: scored as ``unknown``, with one alert.

        Only labels from messages and assets count. A weekday that training had no part of is scored
        as unknown too, but nobody at the machine can do anything about it: that is a concern of the model.
        """
        assert self.detector is not None
        outputs: list[Output] = []
        if not self.spec.message_condition:
            return outputs
        label_of, kind, episodes = self._calendar.message_part, AlertKind.UNKNOWN_CONDITION, self._episodes
        known = {label_of(label) for label in self.detector.conditions}
        unknown = {label for label in set(rows.conditions) if label_of(label) not in known}
        if not unknown and not any(episodes.has(asset, kind) for asset in episodes.assets):
            return outputs
        last: dict[str, str] = {}  # an asset's label, which has been seen to
        for asset, row, label in zip(rows.assets, rows.rows.tolist(), rows.conditions, strict=True):
            if last.get(asset) == label:
                continue
            last[asset] = label
            condition = label_of(label)
            opened = episodes.subjects(asset, kind)
            for other in opened:
                if other != condition or other in known:  # over, or learned meanwhile
                    outputs += episodes.close_unscored(asset, Part(kind, other), row, self.model)
            if label in unknown and condition not in opened:
                outputs += episodes.open_unscored(asset, EpisodeStart(kind, row, condition), row, self.model)
        return outputs
