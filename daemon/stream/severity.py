"""How urgent a score is, by the stream's ratio and by those of its sensors."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.domain import AlarmPolicy, Floats, Severity, StreamSpec
from daemon.stream.attribution import PeakEvidence


class SeverityRule:
    """Which scores are critical.

    Args:
        spec: the stream; a sensor's ``critical_ratio`` counts where that sensor is blamed most.
        policy: has the ratio of all others.
    """

    def __init__(self, spec: StreamSpec, policy: AlarmPolicy) -> None:
        self._ratio = policy.critical_ratio
        found = {c: rule.alert.critical_ratio for c, rule in enumerate(spec.rules)}
        self._of_sensor = {c: ratio for c, ratio in found.items() if ratio is not None}

    def of(self, score: float, threshold: float, peaks: PeakEvidence | None) -> Severity:
        """The severity of a score, with the evidence since the onset."""
        ratio = self._ratio
        if self._of_sensor and peaks is not None:
            ratio = self._of_sensor.get(int(peaks.shares().argmax()), ratio)
        return Severity.CRITICAL if score > ratio * threshold else Severity.WARNING

    def of_deviation(self, opening: Floats, which: Iterable[int]) -> bool:
        """Whether one of some sensors is so far beyond its opening limit, of which these are shares (C,), that it is critical."""
        return any(opening[c] > self._of_sensor.get(c, self._ratio) for c in which)
