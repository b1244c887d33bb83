"""Small stand-ins that keep their interface's promises, so that a test needs no torch and no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from daemon.asset_drift import AssetDriftReference
from daemon.detector import (
    CorrectedWindows,
    DriftReference,
    Evidence,
    Explanation,
    Offset,
    OwnedWindow,
    Scaling,
    SlowTrends,
    SustainedVerdicts,
    Verdicts,
    Windows,
    accepted_part,
)
from daemon.domain import Floats, Ints, Mask
from daemon.habit import SilenceHabit
from daemon.runtime.trainer import TrainingJob, TrainingResult, learn

NEVER_STILL = 1 << 62
"""``longest_constant`` of a sensor that may stand still for ever."""


@dataclass(frozen=True)
class CentreDetector:
    """A detector that expects every sensor at ``centre``: the score is the largest RMS distance from it.

    Gaps are filled with the sensor's mean over the window. ``memory`` is the pace of a slow
    baseline that is taken off the score; 0 makes the detector forget everything.
    """

    sensors: tuple[str, ...]
    window: int = 4
    version: str = "centre-1"
    centre: float = 0.0
    threshold: float = 3.0
    hysteresis: float = 0.9
    memory: float = 0.0
    kind: str = "ppca"
    calibration: str = "full"
    calibrated_assets: int = 1
    conditions: tuple[str, ...] = ("",)
    still: int = NEVER_STILL
    carried: Mapping[tuple[str, int], float] = field(default_factory=dict)
    """(asset, row) at which that asset's windows continue training's -> its baseline there."""
    drift_threshold: float = 0.5
    asset_drift: AssetDriftReference | None = None
    silence: SilenceHabit | None = None
    pace: float = 0.0
    """Of each sensor's mean distance from the centre: it deviates above 2, down to 1. 0: nothing deviates."""
    sentinels: tuple[tuple[int, float], ...] = ()
    """Sensors, each with a number that stands for no value."""
    trend: float = 0.0
    """A sensor's mean that moves by more a day has a slow trend; 0: none has."""

    @property
    def closing(self) -> float:
        return self.hysteresis * self.threshold

    @property
    def part_thresholds(self) -> Mapping[str, float]:
        return {"reconstruction": self.threshold, "kl": self.threshold**2, "point": 2 * self.threshold}

    @property
    def longest_constant(self) -> Ints:
        return np.full(len(self.sensors), self.still, np.int64)

    @property
    def drift(self) -> DriftReference:
        C = len(self.sensors)
        return DriftReference(
            latent_mean=np.zeros(1),
            latent_variance=np.ones(1),
            residual_mean=np.zeros(C),
            residual_variance=np.ones(C),
            latent_threshold=self.drift_threshold,
            residual_threshold=self.drift_threshold,
            assets=self.asset_drift,
        )

    @property
    def scaling(self) -> Scaling:
        C = len(self.sensors)
        return Scaling(np.full(C, self.centre), np.ones(C), sentinels=self.sentinels)

    def infer(self, windows: Windows) -> Evidence:
        residual = self.scaling.of(windows.values) if windows.scaled is None else windows.scaled
        seen = np.isfinite(residual)
        count = seen.sum(1)
        known = np.where(seen, residual, 0.0)
        rms = np.where(count > 0, np.sqrt((known**2).sum(1) / np.maximum(count, 1)), np.nan)  # (B, C)
        mean = known.sum(1) / np.maximum(count, 1)
        newest = windows.values[:, -1]
        filled = np.where(np.isfinite(newest), newest, self.centre + mean)
        z = known.sum((1, 2)) / np.maximum(seen.sum((1, 2)), 1)
        return Evidence(
            channel_error=rms[None],
            latent=np.stack([z**2 / 2, np.abs(z)], 1)[None],
            residual=residual[:, -1],
            elbo=-(known**2).sum((1, 2)),
            posterior=z[:, None],
            expected=np.full_like(newest, self.centre),
            filled=filled,
            low=filled - 1.0,
            high=filled + 1.0,
            scorable=windows.full & seen.any((1, 2)),
            condition=np.zeros(len(windows), np.int64),
        )

    def slow_trends(self, days: Ints, means: Floats) -> SlowTrends | None:
        """Beyond the limit from two days on, by as much as a sensor's mean moved in ``trend`` of its unit a day."""
        whole = np.isfinite(means).all(1)
        if not self.trend or whole.sum() < 2 or not whole[-1]:
            return None
        days, means = days[whole], means[whole]
        per_day = (means[-1] - means[0]) / (days[-1] - days[0])
        ratio = np.nan_to_num(np.abs(per_day) / self.trend)
        return SlowTrends(ratio, per_day, np.full(len(ratio), days[0]), np.ones(len(ratio), bool))

    def fresh_baseline(self, asset: str) -> Floats:
        return np.zeros(1 + 2 * len(self.sensors) if self.pace else 1)

    def carried_baseline(self, asset: str, row: int) -> Floats | None:
        held = self.carried.get((asset, row))
        if held is None:
            return None
        baseline = self.fresh_baseline(asset)
        baseline[0] = held
        return baseline

    def accept(self, evidence: Evidence, baseline: Floats, slots: Ints, sensors: Mask) -> None:
        C, slot = len(self.sensors), int(slots[0])
        baseline[slot, 0] = np.nanmax(evidence.channel_error[0])
        if self.pace:
            baseline[slot, 1 : 1 + C][sensors] = 0.0
            baseline[slot, 1 + C :][sensors] = np.nan_to_num(evidence.residual[0][sensors])

    def begin_anew(self, baseline: Floats, slot: int, sensors: Mask) -> None:
        baseline[slot, 0] = 0.0
        if self.pace:
            baseline[slot, 1:].reshape(2, -1)[:, sensors] = 0.0

    def corrected(self, windows: Windows, least: Floats, most: Floats, taken: Mask) -> CorrectedWindows:
        scale, units = self.scaling.scale, windows.scaled
        assert units is not None
        removed = accepted_part(units * scale, least[:, None], most[:, None])
        newest = windows.values.astype(float)
        newest[:, -1] -= removed[:, -1]
        less = replace(windows, values=newest, scaled=(units - removed / scale).astype(units.dtype))
        asked = taken | (least < 0) | (most > 0)
        return CorrectedWindows(less, np.where(asked, units[:, -1] * scale, np.nan), removed[:, -1])

    def sensors_off(self, window: OwnedWindow, sensors: Mask) -> list[Offset]:
        """Those that are farther from the centre than 1, on average."""
        seen = np.isfinite(window.values)
        apart = np.where(seen, window.values, 0.0).sum(0) / np.maximum(seen.sum(0), 1) * self.scaling.scale
        off = np.flatnonzero(sensors & (np.abs(apart) > 1.0)).tolist()
        off.sort(key=lambda c: -abs(apart[c]))
        return [Offset(c, float(apart[c]), float(apart[c] + self.scaling.mean[c])) for c in off]

    def verdict(
        self,
        window: OwnedWindow,
        offsets: Floats,
        before: Floats,
        shares: Floats,
    ) -> str | None:
        return None

    def level_of(self, window: OwnedWindow) -> NDArray[np.float32]:
        return np.zeros(len(self.sensors), np.float32)

    def explain(self, window: OwnedWindow, shares: Floats) -> Explanation | None:
        return None

    def explained_by(self, window: OwnedWindow, sensors: Mask) -> Mask:
        """Nothing that it expects of a sensor depends on another one."""
        return np.zeros_like(sensors)

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        B = len(evidence.residual)
        error = np.where(evidence.scorable[:, None], evidence.channel_error[0], np.nan)
        level = np.array([np.max(row[np.isfinite(row)], initial=-np.inf) for row in error])
        level = np.where(evidence.scorable, level, np.nan)
        score = np.full(B, np.nan)
        for i, slot in enumerate(slots.tolist()):
            if evidence.scorable[i]:
                score[i] = level[i] - baseline[slot, 0]
                baseline[slot, 0] += self.memory * (level[i] - baseline[slot, 0])
        point = np.abs(np.where(np.isfinite(evidence.residual), evidence.residual, 0.0)).max(1)
        kl = np.where(evidence.scorable, evidence.latent[0, :, 0], np.nan)
        return Verdicts(
            score=score,
            reconstruction=level,
            kl=kl,
            point=np.where(np.isfinite(evidence.residual).any(1) & evidence.scorable, point, np.nan),
            elbo=np.where(evidence.scorable, evidence.elbo, np.nan),
            p_reconstruction=np.exp(-level),
            p_kl=np.exp(-kl),
            p_point=np.exp(-point),
            static_score=level if static else np.full(B, np.nan),
            error=error,
            sustained=self._sustained(evidence, baseline, slots) if self.pace else None,
        )

    def _sustained(self, evidence: Evidence, baseline: Floats, slots: Ints) -> SustainedVerdicts:
        far = np.full(evidence.residual.shape, np.nan)
        for i, slot in enumerate(slots.tolist()):
            if evidence.scorable[i]:
                mean, normal = np.split(baseline[slot, 1:], 2)
                seen = np.isfinite(evidence.residual[i])
                mean[seen] += self.pace * (np.abs(evidence.residual[i] - normal)[seen] - mean[seen])
                far[i] = mean
        return SustainedVerdicts(np.where(np.isfinite(evidence.residual), far / 2.0, np.nan), far, "full")


class PromptTrainer:
    """A ``Trainer`` that trains in this process, at once: the result is there at the next poll.

    Args:
        train: the training itself.
        polls: so many calls of ``poll`` return None before the result.
    """

    def __init__(self, train: Callable[[TrainingJob], TrainingResult] = learn, polls: int = 0) -> None:
        self.share, self.doing = 0.0, ""
        self.jobs: list[TrainingJob] = []
        self._train, self._polls = train, polls
        self._left = 0
        self._result: TrainingResult | None = None

    @property
    def busy(self) -> bool:
        return self._result is not None

    def start(self, job: TrainingJob) -> None:
        assert not self.busy
        self.jobs.append(job)
        self._result, self._left = self._train(job), self._polls

    def poll(self) -> TrainingResult | None:
        if self._left:
            self._left -= 1
            return None
        result, self._result = self._result, None
        return result

    def stop(self) -> None:
        self._result = None
