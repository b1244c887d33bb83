"""A model whose baseline takes in what is accepted, sensor by sensor."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from daemon.detector import Evidence, Scaling, Verdicts
from daemon.domain import Floats, Ints, Mask
from tests.fakes import CentreDetector


@dataclass(frozen=True)
class Levels(CentreDetector):
    """A centre with a baseline for each sensor: the error that was accepted of it is taken off."""

    pace: float = 0.3
    scale: float = 1.0
    """Of its scaler: how it is stored, and not how it is judged."""
    learned: float = 0.0
    """How much more it expects of the first sensor."""

    @property
    def _centres(self) -> Floats:
        return self.centre + self.learned * (np.arange(len(self.sensors)) == 0)

    @property
    def scaling(self) -> Any:
        return Scaling(self._centres, np.full(len(self.sensors), self.scale))

    def infer(self, windows: Any) -> Evidence:
        found = super().infer(windows)
        return replace(
            found,
            channel_error=found.channel_error * self.scale,
            residual=found.residual * self.scale,
            expected=np.broadcast_to(self._centres, found.expected.shape).copy(),
        )

    def fresh_baseline(self, asset: str) -> Floats:
        return np.zeros(3 * len(self.sensors))

    def accept(self, evidence: Evidence, baseline: Floats, slots: Ints, sensors: Mask) -> None:
        normal, mean, level = np.split(baseline[int(slots[0])], 3)  # views
        normal[sensors] = np.fmax(normal, evidence.channel_error[0, 0])[sensors]
        level[sensors] = np.nan_to_num(evidence.residual[0])[sensors]
        mean[sensors] = 0.0

    def begin_anew(self, baseline: Floats, slot: int, sensors: Mask) -> None:
        baseline[slot].reshape(3, -1)[:, sensors] = 0.0

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        C = len(self.sensors)
        error = evidence.channel_error[0] - baseline[slots, :C]
        less = replace(evidence, channel_error=error[None])
        plain_baseline = np.zeros((len(baseline), 1 + 2 * C))
        plain_baseline[:, 1:] = baseline[:, C:]
        verdicts = super().judge(less, plain_baseline, slots, static=static)
        baseline[:, C:] = plain_baseline[:, 1:]
        return verdicts
