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
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from daemon.alarm import State
from daemon.calendar import Calendar
from daemon.detector import Detector, Evidence, Explanation, Verdicts, Windows
from daemon.domain import (
    AlertKind,
    Dropped,
    FilledCell,
    FilledRow,
    Floats,
    Ints,
    Mask,
    Output,
    PartScore,
    ScoredRow,
    StreamSpec,
)
from daemon.stream.alerts import Episodes, EpisodeStart, ScoredEvidence
from daemon.stream.assets import AssetTable
from daemon.stream.attribution import SensorEvidence
from daemon.stream.batches import RowBatch
from daemon.stream.chunk_windows import WindowedRows
from daemon.stream.deviation import SustainedRow
from daemon.stream.drift import Summands
from daemon.stream.holding import METHOD
from daemon.stream.model_changes import NO_MODEL
from daemon.stream.windowing import NO_RECORD, grown

MOST_FAILURES = 10
"""Windows in a row that a model may fail on; more than a few are not the windows' fault."""

Measured = Callable[[int], AbstractContextManager[object]]
"""Entered around the model's work on so many windows; a clock may not stand in the core."""


@dataclass(slots=True, eq=False)
class Judgement:
    """The verdicts on a chunk of R rows, of which W had a window that the model was asked about."""

    scores: Floats  # (R,) NaN where not scored
    firing: Mask  # (R,) whether the asset's anomaly episode is firing at the row
    deviating: Mask  # (R,) whether the asset's deviation is open at the row
    outputs: list[Output] = field(default_factory=list)
    summands: Summands | None = None  # what it adds to the drift
    failed: Mask | None = None  # (W,) which windows the model failed on; None: on none
    scored: int = 0
    filled: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Evaluated:
    """The windows that the model could look at, with its evidence; E of the W wanted ones."""

    chunk: WindowedRows
    windows: Ints  # (E,) which of the chunk's windows
    rows: Ints  # (E,) the rows that they end at
    evidence: Evidence


@dataclass(frozen=True, slots=True, eq=False)
class _Scored:
    """Those of them that a score was due for; V verdicts."""

    chunk: WindowedRows
    windows: Ints  # (V,)
    rows: Ints  # (V,)
    evidence: Evidence
    verdicts: Verdicts


class Judge:
    """Judges the rows of one input partition, with one model at a time.

    Args:
        spec: the stream.
        assets: those of the partition.
        episodes: moved on by the scores.
        scores: whether a ``ScoredRow`` is emitted for every scored row.
        measured: see ``Measured``.

    Attributes:
        detector: the model in force; None: nothing is scored.
        dropped: windows that a model failed on, so far; no entry before a model was asked.
    """

    def __init__(
        self, spec: StreamSpec, assets: AssetTable, episodes: Episodes, measured: Measured, *, scores: bool
    ) -> None:
        self.spec = spec
        self.detector: Detector | None = None
        self.dropped: Counter[Dropped] = Counter()
        self._assets = assets
        self._episodes = episodes
        self._measured = measured
        self._emit_scores = scores
        self._calendar = Calendar(spec)
        self._baseline: Floats = np.empty((assets.capacity, 0))  # (N, P) by slot
        self._begun = assets.column(bool, False)
        assets.register(self)

    # -------------------------------------------------------------- state
    def grow(self, capacity: int) -> None:
        """See ``PerAsset``."""
        self._baseline = grown(self._baseline, capacity)

    def clear(self, slot: int) -> None:
        """See ``PerAsset``: a baseline is of no use before it is begun."""

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

    def keep_begun(self, which: Mask) -> None:
        """Baselines of other assets than these (N,) begin anew."""
        self._begun.values &= which

    def baseline(self, slot: int) -> Floats | None:
        """(P,) the asset's baseline; None if it was not begun under this model."""
        return self._baseline[slot].copy() if self._begun.values[slot] else None

    def restore_baseline(self, slot: int, baseline: Floats) -> None:
        """Continue from a predecessor's baseline, of the same model."""
        self._baseline[slot] = baseline
        self._begun.values[slot] = True

    # -------------------------------------------------------------- a chunk
    def judge(self, chunk: WindowedRows, *, judging: bool) -> Judgement:
        """The verdicts on a chunk.

        Args:
            chunk: rows with their windows.
            judging: whether there is a model to ask, as for ``cut_windows``.
        """
        for slot in chunk.restarted:
            self._begun.values[slot] = False  # the baseline begins anew with the next score
        rows = chunk.rows
        nothing = np.zeros(len(rows), bool)
        judgement = Judgement(np.full(len(rows), np.nan), nothing, nothing.copy())
        known = set(rows.assets) & self._episodes.assets.keys()
        fired = {asset: self._is_firing(asset) for asset in known}
        deviated = {asset: self._episodes.is_open(asset, AlertKind.DEVIATION) for asset in known}
        if judging and chunk.held is not None:
            self._mark_held(chunk, chunk.held, judgement)
        if judging and len(chunk.windows):
            self._ask(chunk, judgement)
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
        """Which of the windows the model can look at, and their evidence.

        A batch that it fails on is halved until the windows at fault are alone. A model that fails on
        many in a row is not asked about the rest: it is about to be given up.
        """
        assert self.detector is not None
        pieces = [np.arange(len(batch))]  # the next one last
        found: list[tuple[Ints, Evidence]] = []
        failures = 0  # in a row
        while pieces and failures < MOST_FAILURES:
            some = pieces.pop()
            try:
                with self._measured(len(some)):
                    evidence = self.detector.infer(batch.take(some) if len(some) < len(batch) else batch)
                found.append((some, evidence))
                failures = 0
            except Exception:  # noqa: BLE001 - see the module
                if len(some) > 1:
                    pieces += [some[len(some) // 2 :], some[: len(some) // 2]]
                else:
                    failures += 1
        if not found:
            self.dropped[Dropped.MODEL_FAILED] += len(batch)
            return np.empty(0, np.int64), None
        which = np.concatenate([some for some, _ in found])
        self.dropped[Dropped.MODEL_FAILED] += len(batch) - len(which)
        return which, found[0][1] if len(found) == 1 else Evidence.joined([e for _, e in found])

    def _fill(self, evaluated: _Evaluated, judgement: Judgement) -> None:
        """Emit the imputed cells of every incomplete row."""
        assert self.detector is not None
        sensors, rows, evidence = self.spec.sensors, evaluated.chunk.rows, evaluated.evidence
        missing = ~evaluated.chunk.observed
        if evaluated.chunk.held is not None:
            missing &= ~evaluated.chunk.held
        for j in np.flatnonzero(missing[evaluated.rows].any(1)).tolist():
            i = int(evaluated.rows[j])
            filled, low, high = evidence.filled[j], evidence.low[j], evidence.high[j]
            cells = {
                sensors[c]: FilledCell(float(filled[c]), float(low[c]), float(high[c]))
                for c in np.flatnonzero(missing[i]).tolist()
            }
            judgement.filled += len(cells)
            judgement.outputs.append(
                FilledRow(
                    self.spec.name,
                    rows.assets[i],
                    int(rows.rows[i]) * self.spec.period_ns,
                    cells,
                    self.detector.kind,
                    self.detector.version,
                )
            )

    def _mark_held(self, chunk: WindowedRows, held: Mask, judgement: Judgement) -> None:
        """Emit the cells in which a last value stands for a missing one."""
        assert self.detector is not None
        sensors, rows = self.spec.sensors, chunk.rows
        for i in np.flatnonzero(held.any(1)).tolist():
            which = np.flatnonzero(held[i]).tolist()
            last = {c: float(rows.values[i, c]) for c in which}
            cells = {sensors[c]: FilledCell(value, value, value) for c, value in last.items()}
            row_ns = int(rows.rows[i]) * self.spec.period_ns
            judgement.filled += len(cells)
            judgement.outputs.append(
                FilledRow(self.spec.name, rows.assets[i], row_ns, cells, METHOD, self.detector.version)
            )

    def _score(self, evaluated: _Evaluated, judgement: Judgement) -> None:
        """Score the windows that are due, in row order, and move their episodes on."""
        detector, chunk = self.detector, evaluated.chunk
        assert detector is not None
        chosen = np.flatnonzero(chunk.due[evaluated.rows])
        if not len(chosen):
            return
        which, evidence = evaluated.rows[chosen], evaluated.evidence
        some = evidence if len(chosen) == len(evaluated.rows) else evidence.take(chosen)
        self._begin_baselines(chunk.rows, which)
        try:
            verdicts = detector.judge(some, self._baseline, chunk.rows.slots[which], static=self._emit_scores)
        except Exception:  # noqa: BLE001 - see the module
            return  # without a score they count as failed
        scored = _Scored(chunk, evaluated.windows[chosen], which, some, verdicts)
        has_score = np.isfinite(verdicts.score)
        judgement.scored = int(has_score.sum())
        judgement.scores[which] = verdicts.score
        self._move_episodes(scored, judgement)
        times = chunk.rows.rows[which] * self.spec.period_ns
        if self._emit_scores:
            judgement.outputs += self._scored_rows(scored, times, judgement.firing[which])
        judgement.summands = Summands(
            which[has_score],
            times[has_score],
            some.posterior[has_score],
            some.residual[has_score],
            verdicts.kl[has_score],
        )

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

    def _move_episodes(self, scored: _Scored, judgement: Judgement) -> None:
        """Let scores and sustained evidence open, update and close anomalies and deviations, row by row."""
        detector, verdicts, assets = self.detector, scored.verdicts, scored.chunk.rows.assets
        assert detector is not None
        closing = detector.closing
        # An asset that is not near an alarm, and was not before, has no episode that could change.
        high = verdicts.score > closing
        sustained = verdicts.sustained
        beyond = np.zeros(len(verdicts.score), bool)
        if sustained is not None:
            np.any(sustained.closing > 1.0, axis=1, out=beyond)
        active = {assets[i] for i in scored.rows[high | beyond].tolist()} | self._episodes.assets.keys()
        for j, i in enumerate(scored.rows.tolist()) if active else ():
            asset, score = assets[i], float(verdicts.score[j])
            if asset not in active:
                continue
            if not np.isfinite(score):
                judgement.firing[i] = self._is_firing(asset)
                continue
            if not self._episodes.cannot_change(asset, score, closing):
                judgement.firing[i], events = self._episodes.scored(
                    asset,
                    self._evidence_of(scored, j),
                    detector.threshold,
                    closing,
                    detector.version,
                    detector.calibration,
                )
                judgement.outputs += events
            if beyond[j] or self._episodes.deviates(asset):
                judgement.deviating[i], events = self._episodes.sustained(
                    asset,
                    self._sustained_row(scored, j),
                    partial(self._evidence_of, scored, j),
                    detector.version,
                    "full" if sustained is None else sustained.calibration,
                )
                judgement.outputs += events

    def _sustained_row(self, scored: _Scored, j: int) -> SustainedRow:
        """The sustained evidence of the ``j``-th scored row; none of a model that does not look for deviations."""
        i, sustained = int(scored.rows[j]), scored.verdicts.sustained
        nothing = np.zeros(len(self.spec.sensors))
        return SustainedRow(
            int(scored.chunk.rows.rows[i]),
            nothing if sustained is None else sustained.opening[j],
            nothing if sustained is None else sustained.closing[j],
            np.where(np.isfinite(scored.evidence.residual[j]), scored.chunk.rows.values[i], np.nan),
            scored.evidence.expected[j],
        )

    def _evidence_of(self, scored: _Scored, j: int) -> ScoredEvidence:
        """What an alert would say of the ``j``-th scored row."""
        detector, chunk, verdicts = self.detector, scored.chunk, scored.verdicts
        assert detector is not None
        assert chunk.windows.scaled is not None
        i, w = int(scored.rows[j]), int(scored.windows[j])
        window, rows = chunk.windows.scaled[w], chunk.rows
        scores: dict[str, PartScore] = {}
        for name in ("reconstruction", "kl", "point"):
            value = float(getattr(verdicts, name)[j])
            if value == value:
                scores[name] = PartScore(
                    value, detector.part_thresholds[name], float(getattr(verdicts, f"p_{name}")[j])
                )
        scores["combined"] = PartScore(float(verdicts.score[j]), detector.threshold)
        first_offset = int(chunk.first_offsets[w])
        return ScoredEvidence(
            int(rows.rows[i]),
            float(verdicts.score[j]),
            scores,
            SensorEvidence.read(
                verdicts.error[j],
                scored.evidence.residual[j],
                window,
                rows.values[i],
                scored.evidence.expected[j],
            ),
            _unobserved_share(window, 0 if chunk.held_in_window is None else int(chunk.held_in_window[i])),
            first_offset if first_offset < NO_RECORD else int(rows.offsets[i]),
            int(rows.last_offsets[i]),
            verdict=partial(self._cause, window, rows.conditions[i], verdicts, j),
            explain=partial(self._explain, window, rows.conditions[i]),
        )

    def _cause(
        self, window: Floats, condition: str, verdicts: Verdicts, j: int, before: Floats, shares: Floats
    ) -> str | None:
        """What kind of cause the model sees in the ``j``-th window; see ``Detector.verdict``."""
        detector, offsets = self.detector, verdicts.offsets
        if detector is None or offsets is None:
            return None
        try:
            return detector.verdict(window, condition, offsets[j], before, shares)
        except Exception:  # noqa: BLE001 - see the module; an alert is due all the same
            return None

    def _explain(self, window: Floats, condition: str, shares: Floats) -> Explanation | None:
        """What the model expects of a window without the sensors at fault; see ``Detector.explain``."""
        try:
            return None if self.detector is None else self.detector.explain(window, condition, shares)
        except Exception:  # noqa: BLE001 - see the module; an alert is due all the same
            return None

    def _scored_rows(self, scored: _Scored, times: Ints, firing: Mask) -> list[ScoredRow]:
        """The scores of every row that was judged."""
        verdicts, assets = scored.verdicts, scored.chunk.rows.assets
        columns = [
            times,
            verdicts.score,
            verdicts.reconstruction,
            verdicts.kl,
            verdicts.point,
            verdicts.elbo,
            firing,
            verdicts.static_score,
        ]
        return [
            ScoredRow(
                self.spec.name,
                assets[i],
                time_ns,
                score,
                reconstruction,
                kl,
                point,
                elbo,
                alarm,
                self.model,
                static,
            )
            for i, time_ns, score, reconstruction, kl, point, elbo, alarm, static in zip(
                scored.rows.tolist(), *(column.tolist() for column in columns), strict=True
            )
        ]

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
        for asset, row, label in zip(rows.assets, rows.rows.tolist(), rows.conditions, strict=True):
            condition = label_of(label)
            mine = episodes.assets.get(asset)
            opened = [subject for k, subject in mine.open if k is kind] if mine is not None else []
            for other in opened:
                if other != condition or other in known:  # over, or learned meanwhile
                    outputs += episodes.close_unscored(asset, kind, other, row, self.model)
            if condition not in known and condition not in opened:
                outputs += episodes.open_unscored(asset, EpisodeStart(kind, row, condition), row, self.model)
        return outputs


def _unobserved_share(window: Floats, held: int) -> float:
    """The share of a window's cells (L, C) that are missing or held."""
    return float(1.0 - np.isfinite(window).mean()) + held / window.size
