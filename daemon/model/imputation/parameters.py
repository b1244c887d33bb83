"""The fitted parameters of imputation, as a bundle stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Floats,
    Ints,
    Mask,
)
from daemon.model.imputation.field import REACH, Field, mirrored
from daemon.model.imputation.mixture import Mixture


@dataclass(frozen=True, slots=True, eq=False)
class ImputationParameters:
    """All that filling needs besides the window model; plain arrays, part of a bundle.

    Scaled units throughout, D distance buckets.
    """

    mean: Floats  # (C,) of the scaler, raw units
    scale: Floats  # (C,)
    seen: Mask  # (C,) observed in training at all
    covariance: Floats  # (4 * REACH + 1, C, C) Gamma at lags -2 * REACH .. 2 * REACH
    partners: Ints  # (C, P) most correlated first
    rho: Floats  # (C,) autocorrelation of the window model's residual
    live: Mixture  # last value, field, window model; D buckets
    batch: Mixture  # line, field at either level; 2 * D buckets: readings on both sides, on one

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a bundle stores."""
        result = {name: getattr(self, name) for name in _PLAIN}
        # Negative lags are the transposes, and fitting has rounded to float32 already.
        result["covariance"] = self.covariance[2 * REACH :].astype(np.float32)
        for name in _MIXTURES:
            mixture = getattr(self, name)
            result |= {f"{name}_{f.name}": getattr(mixture, f.name) for f in fields(Mixture)}
        return result

    @property
    def field(self) -> Field:
        """The Gaussian field with these covariances."""
        return Field(self.covariance, self.partners)

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> ImputationParameters:
        """The inverse of ``arrays``."""
        mixtures = [
            Mixture(**{f.name: arrays[f"{name}_{f.name}"] for f in fields(Mixture)}) for name in _MIXTURES
        ]
        plain = {name: arrays[name] for name in _PLAIN} | {"covariance": mirrored(arrays["covariance"])}
        return ImputationParameters(*plain.values(), *mixtures)  # type: ignore[arg-type]  # in the order of the fields


_PLAIN = ("mean", "scale", "seen", "covariance", "partners", "rho")
_MIXTURES = ("live", "batch")
