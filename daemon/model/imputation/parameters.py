"""The fitted parameters of imputation, as a bundle stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Floats,
    Ints,
    Mask,
)
from daemon.model.imputation.field import REACH, Field, mirrored
from daemon.model.imputation.habit import Habit
from daemon.model.imputation.limits import ValueLimits
from daemon.model.imputation.mixture import OPEN, GapPlaces, Mixture
from daemon.model.levels import AssetLevels


@dataclass(frozen=True, slots=True, eq=False)
class HabitFill:
    """What fills gaps around the sensors' habits: line and field of the readings less the habit."""

    habit: Habit
    covariance: Floats  # (4 * REACH + 1, C, C) of readings less the habit
    partners: Ints  # (C, P)
    used: Mask  # (C, BATCH_BUCKETS) the gaps, by their length, that it fills better than the constant mean
    mixture: Mixture  # BATCH_BUCKETS

    @property
    def field(self) -> Field:
        """The Gaussian field around the habit."""
        return Field(self.covariance, self.partners)


@dataclass(frozen=True, slots=True, eq=False)
class ImputationParameters:
    """All that filling needs besides the window model; plain arrays, part of a bundle.

    Scaled units but for the limits, D distance buckets.
    """

    mean: Floats  # (C,) of the scaler, raw units
    scale: Floats  # (C,)
    seen: Mask  # (C,) observed in training at all
    covariance: Floats  # (4 * REACH + 1, C, C) Gamma at lags -2 * REACH .. 2 * REACH
    partners: Ints  # (C, P) most correlated first
    rho: Floats  # (C,) autocorrelation of the window model's residual
    live: Mixture  # last value, field, window model; D buckets
    batch: Mixture  # line, field at either level; ``BATCH_BUCKETS``
    limits: ValueLimits
    habitual: HabitFill | None = None  # None: no sensor has a habit that helps
    levels: AssetLevels | None = None  # of the assets; not stored with the others

    def of_asset(self, asset: str, values: Floats) -> ImputationParameters:
        """For readings of one asset, of which ``values`` (T, C) raw are what the level of an unknown one is predicted from."""
        if self.levels is None:
            return self
        level = self.levels.of([asset], (values[None] - self.mean) / self.scale)[0]
        return replace(self, mean=self.mean + level * self.scale, levels=None)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a bundle stores."""
        result = {name: getattr(self, name) for name in _PLAIN} | self.limits.arrays()
        result["covariance"] = _half(self.covariance)
        mixtures = {name: getattr(self, name) for name in _MIXTURES}
        if self.habitual is not None:
            of = self.habitual
            result |= {"habit_level": of.habit.level, "habit_covariance": _half(of.covariance)}
            result |= {"habit_partners": of.partners, "habit_used": of.used}
            mixtures["habit"] = of.mixture
        for name, mixture in mixtures.items():
            result |= {f"{name}_{f.name}": getattr(mixture, f.name) for f in fields(Mixture)}
        return result

    @property
    def field(self) -> Field:
        """The Gaussian field with these covariances."""
        return Field(self.covariance, self.partners)

    def batch_margin(self, channel: Ints, places: GapPlaces) -> Floats:
        """(n,) half the interval of cells in batch; around a habit it does not grow with the distance for ever."""
        margin = self.batch.half_width(channel, places.distance, places.bucket)
        if self.habitual is None:
            return margin
        near = np.minimum(places.distance, 2**OPEN)
        around = self.habitual.mixture.half_width(channel, near, places.bucket)
        return np.where(self.habitual.used[channel, places.gap], around, margin)

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> ImputationParameters:
        """The inverse of ``arrays``."""
        plain: dict[str, Any] = {name: arrays[name] for name in _PLAIN}
        habitual = None
        if "habit_level" in arrays:
            habitual = HabitFill(
                Habit(arrays["habit_level"]),
                mirrored(arrays["habit_covariance"]),
                arrays["habit_partners"],
                arrays["habit_used"],
                _mixture(arrays, "habit"),
            )
        return ImputationParameters(
            **plain,
            covariance=mirrored(arrays["covariance"]),
            live=_mixture(arrays, "live"),
            batch=_mixture(arrays, "batch"),
            limits=ValueLimits(arrays["lowest"], arrays["highest"], arrays["states"]),
            habitual=habitual,
        )


def _half(covariance: Floats) -> NDArray[np.float32]:
    """Lags 0 .. 2 * REACH: negative lags are the transposes, and fitting has rounded to float32 already."""
    return covariance[2 * REACH :].astype(np.float32)


def _mixture(arrays: Mapping[str, NDArray[Any]], name: str) -> Mixture:
    return Mixture(**{f.name: arrays[f"{name}_{f.name}"] for f in fields(Mixture)})


_PLAIN = ("mean", "scale", "seen", "partners", "rho")
_MIXTURES = ("live", "batch")
