"""Alert messages: what an incident's message says at a row, apart from when there is one (``alerts``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from daemon.alert import AcceptedChange, AlertPart, Regime
from daemon.assembly import units
from daemon.control import Feedback
from daemon.detector import Explanation, Offset
from daemon.domain import (
    AlertEvent,
    AlertKind,
    Contributor,
    Floats,
    InputPartition,
    Mask,
    PartScore,
    Phase,
    StreamSpec,
)
from daemon.stream.attribution import PeakEvidence, SensorEvidence
from daemon.stream.deviation import ExplainedBy
from daemon.stream.identity import digest
from daemon.stream.incident import ANOMALY, BY_EVIDENCE, AssetEpisodes, Incident
from daemon.stream.summaries import summary

CONTRIBUTORS = 40
"""Sensors that an alert ranks, at most."""
ALIKE, STORM = 16, 200
"""Above so many anomalies that opened within a window of each other, or so many that are open at once, on a
partition, no verdicts are computed. Each takes some 3 ms, those that opened together are due together, and a
cause that affects so many assets at a time is no fault of one machine's process."""


@dataclass(frozen=True, slots=True)
class ScoredEvidence:
    """One scored row, with what an alert message needs of it; built only for rows that can change an episode."""

    row: int
    score: float
    scores: Mapping[str, PartScore]
    sensors: SensorEvidence | None
    imputed_share: float
    first_offset: int
    last_offset: int
    verdict: Callable[[Floats, Floats], str | None] | None = None
    """``Judge._cause``: the kind of cause, from the sensors' values before the onset and their shares, (C,) each."""
    jump: float = 0.0  # the largest share of a sensor's limit, of ``Verdicts``
    explain: Callable[[Floats], Explanation | None] | None = None
    """What the model expects without the sensors at fault, from the sensors' shares (C,): see ``Detector.explain``."""
    sensors_off: Callable[[Mask], list[Offset]] | None = None
    """Which of some sensors (C,) the window shows to be off: see ``Detector.sensors_off``."""
    explained_by: ExplainedBy | None = None
    """The sensors that some (C,) explain: see ``Detector.explained_by``."""
    jumps: Floats | None = None  # (C,) of ``Verdicts``
    explanations: dict[bytes, Explanation | None] = field(default_factory=dict, repr=False)
    """What has been asked of the model so far, by the shares."""
    latent: NDArray[np.float32] | None = None  # (Z,) where the window lies, see ``course.standardised``

    def explained(self, peaks: PeakEvidence) -> PeakEvidence:
        """An anomaly's peaks with what the row explains."""
        if self.explain is None or self.sensors is None:
            return peaks
        shares = peaks.shares()
        if shares.tobytes() not in self.explanations:
            self.explanations[shares.tobytes()] = self.explain(shares)
        found = self.explanations[shares.tobytes()]
        return peaks if found is None else peaks.explained(found, self.sensors)

    def opens(self, threshold: float) -> bool:
        """Whether the row is one that opens an episode."""
        return self.score > threshold or self.jump > 1.0

    def leading(self, threshold: float) -> tuple[str, float, float]:
        """The score that is the most thresholds high: its name, value and threshold."""
        if self.jump > 1.0 and self.jump * threshold > self.score:
            return "jump", self.jump, 1.0
        return "combined", self.score, threshold

    def height(self, threshold: float) -> float:
        """How many thresholds high that is."""
        _, value, limit = self.leading(threshold)
        return value / limit if limit > 0 else math.inf

    @staticmethod
    def unscored(row: int) -> ScoredEvidence:
        """A row at which an episode begins or ends for another reason than a score."""
        return ScoredEvidence(row, math.nan, {}, None, 0.0, -1, -1)


@dataclass(frozen=True, slots=True)
class Cause:
    """What causes a message: a row of an asset, judged by a model."""

    asset: str
    evidence: ScoredEvidence
    model: str
    calibration: str
    accepted: Sequence[AcceptedChange] = ()  # what becomes normal at that row


class AlertWriter:
    """Writes the messages of one input partition.

    Args:
        spec: the stream.
        partition: where the rows come from, for the alert's origin.
        assets: those with open incidents, which ``Episodes`` owns.
        said_of: the last verdict on an asset's alert, and the dismissed episode whose sensors it has.
    """

    def __init__(
        self,
        spec: StreamSpec,
        partition: InputPartition,
        assets: Mapping[str, AssetEpisodes],
        said_of: Callable[[str, Incident], tuple[Feedback | None, str | None]],
    ) -> None:
        self._spec = spec
        self._partition = partition
        self._assets = assets
        self._said_of = said_of
        self._units = units(spec)

    def message(self, incident: Incident, phase: Phase, said: Cause, *, telling: bool = True) -> AlertEvent:
        """The message of an incident that a row causes; see ``draft``."""
        return self.with_summary(self.draft(incident, phase, said, telling=telling))

    def draft(
        self,
        incident: Incident,
        phase: Phase,
        said: Cause,
        *,
        telling: bool = True,
        of: AssetEpisodes | None = None,
    ) -> AlertEvent:
        """The message without its summary, for what else is to be said in it.

        Args:
            incident, phase, said: what it says, and of which row.
            telling: whether it is to be published.
            of: the asset's episodes, where they are not those that are open.
        """
        period, evidence = self._spec.period_ns, said.evidence
        known = self._assets[said.asset] if of is None else of
        row_ns = evidence.row * period
        scored = not BY_EVIDENCE.isdisjoint(incident.kinds)
        # A window at the end is normal again, and in a storm none is looked at.
        begun = incident.parts.get(ANOMALY, self._spec.row(incident.opened_ns))
        lasts = scored and not incident.quiet and phase is not Phase.CLOSED
        storm = lasts and self.is_storm(begun)
        looked_at = lasts and not storm
        contributors = self._contributors(known, incident, evidence if looked_at else None) if scored else []
        began = tuple(incident.began)
        if telling:
            incident.began = []
            incident.told_row = evidence.row
            incident.first = self._first(known, incident, contributors)
            if lasts and incident.near(evidence.row, self._spec.window, period):
                self._lead(known, incident, evidence, storm=storm)
        # A row can cause an update by its score and another one as a regime, of the same parts.
        standing = (len(incident.kinds), incident.learned, incident.accepted, incident.severity)
        feedback, dismissed_like = self._said_of(said.asset, incident)
        return AlertEvent(
            stream=self._spec.name,
            asset=said.asset,
            kind=incident.kind,
            phase=phase,
            severity=incident.severity,
            fingerprint=incident.fingerprint,
            id=digest(incident.fingerprint, phase, row_ns, *incident.parts, *standing, size=32),
            row_ns=row_ns,
            onset_ns=incident.onset_ns,
            opened_ns=incident.opened_ns,
            model=said.model,
            calibration=said.calibration,
            summary="",
            sensor=incident.sensor,
            scores=evidence.scores,
            contributors=contributors,
            window_start_ns=(evidence.row - self._spec.window + 1) * period if scored else None,
            window_steps=self._spec.window if scored else 0,
            imputed_share=evidence.imputed_share,
            partition=self._partition,
            first_offset=evidence.first_offset,
            last_offset=evidence.last_offset,
            verdict=self._verdict(known, incident, evidence)
            if looked_at and phase is Phase.UPDATED
            else None,
            kinds=tuple(incident.kinds),
            sensors=tuple(incident.names),
            parts=tuple(
                AlertPart(part.kind, part.sensor, row * period) for part, row in incident.parts.items()
            ),
            peak=incident.peak,
            regime=Regime(incident.steady_row * period, incident.learned, incident.accepted)
            if incident.regime
            else None,
            per_day=incident.per_day,
            absorbed=incident.absorbed and phase is Phase.CLOSED,
            began=began,
            ended_ns=max(incident.bad_row * period, incident.onset_ns)
            if incident.quiet or phase is Phase.CLOSED
            else None,
            returned=incident.recurrence.returned,
            feedback=feedback,
            accepted=said.accepted if phase is Phase.CLOSED else (),
            dismissed_like=dismissed_like,
        )

    def continued(self, event: AlertEvent, by: Incident) -> AlertEvent:
        """The end of an alert, what it was about having become another one's."""
        return self.with_summary(replace(event, continued_by=by.fingerprint))

    def outdated(self, event: AlertEvent) -> AlertEvent:
        """The end of a drift whose model is not in force any more."""
        return self.with_summary(replace(event, model_changed=True))

    def with_summary(self, event: AlertEvent) -> AlertEvent:
        """An alert of this stream with its sentence."""
        return replace(event, summary=summary(event, others=len(self._spec.sensors) > 1))

    def _verdict(self, known: AssetEpisodes, incident: Incident, evidence: ScoredEvidence) -> str | None:
        """The kind of cause, once a whole window lies in the alert; at its beginning all causes look alike."""
        begun = incident.parts.get(ANOMALY)
        if begun is None or known.peaks is None or evidence.row - begun < self._spec.window:
            return None
        if evidence.verdict is None:
            return None
        return evidence.verdict(np.nan_to_num(known.peaks.before), known.peaks.shares())

    def is_storm(self, begun: int) -> bool:
        """Whether so many anomalies are open, or began at about this row, that it is a storm."""
        count = alike = 0
        for known in self._assets.values():
            other = known.with_part(ANOMALY)
            if other is not None:
                count += 1
                alike += abs(other.parts[ANOMALY] - begun) < self._spec.window
                if count > STORM or alike > ALIKE:
                    return True
        return False

    def _lead(
        self, known: AssetEpisodes, incident: Incident, evidence: ScoredEvidence, *, storm: bool
    ) -> None:
        """Let those who lead an anomaly be those whom the model, too, blames for it; in a storm it is not asked."""
        peaks = incident.evidence(known.peaks)
        if ANOMALY not in incident.parts or peaks is None or evidence.sensors is None:
            return
        explained = peaks if storm else evidence.explained(peaks)
        if storm or explained is not peaks:
            incident.leading = [self._spec.sensors[c] for c in explained.leading()]

    def _first(self, known: AssetEpisodes, incident: Incident, contributors: Sequence[Contributor]) -> str:
        """The first contributor; of an anomaly as the evidence alone has it, with which later rows are compared."""
        leading = known.leading(self._spec, incident) if ANOMALY in incident.parts else []
        return next(iter(leading or [each.sensor for each in contributors]), "")

    def _contributors(
        self, known: AssetEpisodes, incident: Incident, explains: ScoredEvidence | None
    ) -> list[Contributor]:
        """The sensors of an incident, largest share first: of its anomaly while that is open, else of its deviations.

        Those of a slow trend follow from days, and are given where it opens.
        """
        if incident.of_trend:
            return []
        if incident.quiet and incident.recurrence.contributors:
            return [Contributor(*one) for one in incident.recurrence.contributors]
        by_score = ANOMALY in incident.parts or not incident.has(AlertKind.DEVIATION)
        if by_score and ANOMALY not in incident.parts:  # nothing of the two is open
            by_score = incident.peak is not None and incident.peak.score != "sustained"
        peaks = incident.evidence(known.peaks if ANOMALY in incident.parts else None)
        if known.deviation is not None and not (by_score and peaks is not None):
            which = [
                c
                for c, name in enumerate(self._spec.sensors)
                if name in incident.sensors and known.deviation.named[c]
            ]
            return known.deviation.contributors(self._spec.sensors, self._units, which)[:CONTRIBUTORS]
        if peaks is None:
            return []
        if explains is not None:
            peaks = explains.explained(peaks)
        share = peaks.shares()
        return [
            Contributor(
                self._spec.sensors[c],
                float(peaks.observed[c]) if np.isfinite(peaks.observed[c]) else None,
                float(peaks.expected[c]) if np.isfinite(peaks.expected[c]) else None,
                float(share[c]),
                unit=self._units[c],
            )
            for c in np.argsort(-share, kind="stable")[:CONTRIBUTORS].tolist()
            if share[c] > 0
        ]
