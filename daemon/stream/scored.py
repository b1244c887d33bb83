"""What was made of windows that a model scored: the evidence behind alerts, and the rows of the scores topic."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Detector, Evidence, Explanation, Offset, OwnedWindow, Verdicts
from daemon.domain import (
    Floats,
    Ints,
    Mask,
    PartScore,
    ScoredRow,
    StreamSpec,
)
from daemon.stream.alert_messages import ScoredEvidence
from daemon.stream.attribution import SensorEvidence
from daemon.stream.chunk_windows import WindowedRows
from daemon.stream.correction import Corrections
from daemon.stream.course import standardised
from daemon.stream.deviation import SustainedRow
from daemon.stream.summands import Summands
from daemon.stream.windowing import NO_RECORD


@dataclass(frozen=True, slots=True, eq=False)
class ScoredWindows:
    """The windows of a chunk that a score was due for; V verdicts."""

    chunk: WindowedRows
    windows: Ints  # (V,)
    rows: Ints  # (V,)
    evidence: Evidence
    verdicts: Verdicts
    spec: StreamSpec
    detector: Detector
    ignored: Mask  # (C,) the sensors that are no evidence
    corrections: Corrections | None = None  # None: none of them is corrected

    def window(self, j: int) -> NDArray[Any]:
        """(L, C) the ``j``-th window as it was judged, in the detector's units."""
        if self.corrections is not None and j in self.corrections.places:
            return np.asarray(self.corrections.windows[self.corrections.places[j]])
        assert self.chunk.windows.scaled is not None
        return np.asarray(self.chunk.windows.scaled[int(self.windows[j])])

    def _owned(self, j: int) -> OwnedWindow:
        i, rows = int(self.rows[j]), self.chunk.rows
        return OwnedWindow(self.window(j), rows.assets[i], rows.conditions[i])

    def removed(self, j: int) -> Floats:
        """(C,) what was taken off its newest row, raw."""
        if self.corrections is None or j not in self.corrections.places:
            return np.zeros(len(self.ignored))
        return np.asarray(self.corrections.removed[self.corrections.places[j]])

    def apart(self, j: int) -> Floats:
        """(C,) how far the sensors of its newest row are from what the others imply; NaN where that was not asked."""
        if self.corrections is None or j not in self.corrections.places:
            return np.full(len(self.ignored), np.nan)
        return np.asarray(self.corrections.apart[self.corrections.places[j]])

    def sustained_row(self, j: int) -> SustainedRow:
        """The sustained evidence of the ``j``-th scored row; none of a model that does not look for deviations."""
        i, sustained = int(self.rows[j]), self.verdicts.sustained
        nothing = np.zeros(len(self.evidence.residual[j]))
        return SustainedRow(
            int(self.chunk.rows.rows[i]),
            nothing if sustained is None else sustained.opening[j],
            nothing if sustained is None else sustained.closing[j],
            np.where(np.isfinite(self.evidence.residual[j]), self.chunk.rows.values[i], np.nan),
            self.evidence.expected[j],
            partial(self._explained_by, j),
        )

    def evidence_of(self, j: int, threshold: float) -> ScoredEvidence:
        """What an alert would say of the ``j``-th scored row, of an asset with this threshold."""
        detector, chunk, verdicts = self.detector, self.chunk, self.verdicts
        i, w = int(self.rows[j]), int(self.windows[j])
        owned, rows = self._owned(j), chunk.rows
        window = owned.values
        scores: dict[str, PartScore] = {}
        for name in ("reconstruction", "kl", "point"):
            value = float(getattr(verdicts, name)[j])
            if value == value:
                scores[name] = PartScore(
                    value, detector.part_thresholds[name], float(getattr(verdicts, f"p_{name}")[j])
                )
        score = float(verdicts.score[j])
        scores["combined"] = PartScore(score, threshold)
        jump, largest = verdicts.jump, 0.0
        if jump is not None:
            largest = float(np.fmax.reduce(jump[j], initial=0.0))
            scores["jump"] = PartScore(largest, 1.0)
        first_offset = int(chunk.first_offsets[w])
        return ScoredEvidence(
            int(rows.rows[i]),
            score,
            scores,
            SensorEvidence.read(
                verdicts.error[j],
                self.evidence.residual[j],
                window - detector.level_of(owned),
                rows.values[i],
                np.where(self.ignored, np.nan, self.evidence.expected[j]),
                None if jump is None or score > threshold else jump[j],
            ),
            _unobserved_share(window, 0 if chunk.held_in_window is None else int(chunk.held_in_window[i])),
            first_offset if first_offset < NO_RECORD else int(rows.offsets[i]),
            int(rows.last_offsets[i]),
            verdict=partial(self._cause, owned, verdicts, j),
            explain=partial(self._explain, owned, j),
            sensors_off=partial(self._sensors_off, owned, j),
            explained_by=partial(self._explained_by, j),
            jump=largest,
            jumps=None if jump is None else jump[j],
            latent=standardised(self.evidence.posterior[j], detector.drift),
        )

    def _cause(
        self, window: OwnedWindow, verdicts: Verdicts, j: int, before: Floats, shares: Floats
    ) -> str | None:
        """What kind of cause the model sees in the ``j``-th window; see ``Detector.verdict``."""
        offsets = verdicts.offsets
        if offsets is None:
            return None
        try:
            return self.detector.verdict(window, offsets[j], before, shares)
        except Exception:  # noqa: BLE001 - an alert is due all the same
            return None

    def _explain(self, window: OwnedWindow, j: int, shares: Floats) -> Explanation | None:
        """What the model expects of the ``j``-th window without the sensors at fault; see ``Detector.explain``."""
        try:
            found = self.detector.explain(window, shares)
        except Exception:  # noqa: BLE001 - an alert is due all the same
            return None
        return None if found is None else replace(found, expected=found.expected + self.removed(j))

    def _sensors_off(self, window: OwnedWindow, j: int, sensors: Mask) -> list[Offset]:
        """Which of some sensors the ``j``-th window shows to be off; see ``Detector.sensors_off``."""
        try:
            found = self.detector.sensors_off(window, sensors & ~self.ignored)
        except Exception:  # noqa: BLE001 - what is accepted is known without it, less well
            return []
        removed = self.removed(j)
        return [
            Offset(c, apart, observed + float(removed[c]), explains) for c, apart, observed, explains in found
        ]

    def _explained_by(self, j: int, sensors: Mask) -> Mask:
        """The sensors of the ``j``-th window that some explain; see ``Detector.explained_by``."""
        try:
            return self.detector.explained_by(self._owned(j), sensors)
        except Exception:  # noqa: BLE001 - an alert is due all the same
            return np.zeros_like(sensors)

    def summands(self) -> Summands:
        """What those of them that have a score add to the drift."""
        which = np.flatnonzero(np.isfinite(self.verdicts.score))
        rows, windows = self.rows[which], self.chunk.windows.scaled
        assert windows is not None
        residual, readings = self.evidence.residual[which], windows[self.windows[which], -1]
        if self.corrections is not None:  # what was corrected is as expected, more than any reading is
            taken = self.corrections.taken(len(self.rows))[which]
            residual, readings = np.where(taken, np.nan, residual), np.where(taken, np.nan, readings)
        none = np.zeros(len(which), bool)
        return Summands(
            rows,
            self.chunk.rows.slots[rows],
            self.chunk.rows.rows[rows] * self.spec.period_ns,
            self.evidence.posterior[which],
            residual,
            self.verdicts.kl[which],
            readings.astype(np.float64),
            self.detector.scaling.of(self.evidence.expected[which]).astype(np.float64),
            none,  # what episodes explain is known once they have moved on
            none,
        )

    def scored_rows(self, times: Ints, firing: Mask) -> list[ScoredRow]:
        """The scores of every row that was judged."""
        verdicts, assets = self.verdicts, self.chunk.rows.assets
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
                self.detector.version,
                static,
            )
            for i, time_ns, score, reconstruction, kl, point, elbo, alarm, static in zip(
                self.rows.tolist(), *(column.tolist() for column in columns), strict=True
            )
        ]


def _unobserved_share(window: Floats, held: int) -> float:
    """The share of a window's cells (L, C) that are missing or held."""
    observed = int(np.count_nonzero(np.isfinite(window)))
    return 1.0 - observed / window.size + held / window.size
