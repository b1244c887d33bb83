"""Standard scaling with a floor, fitted on training cells only.

The floor makes constant channels harmless: a sensor that did not change in training has no spread to divide
by, and the slightest jitter would become an alarm. So the divisor is never below 2 % of the channel's
engineering range (or of its observed range, when no range is configured), and for a channel without any
range 2 % of max(|mean|, 1): a move of 2 % of the range still shows, a jitter of 1e-6 does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Scaling
from daemon.domain import Floats, Ints, Mask

FLOOR = 0.02
"""Smallest divisor, as a share of the range."""
CLIP = 10.0
"""Scaled values are cut off here: one absurd reading may not dominate all others."""


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """``(x - mean) / scale`` per sensor, all (C,).

    A sensor that was never observed in training has ``seen`` False: its distribution is unknown,
    so its readings scale to NaN ("no evidence") and its fills are NaN. ``sentinels`` (K,) are numbers that
    stand for no value, ``sentinel_of`` (K,) their sensors.
    """

    mean: Floats
    scale: Floats
    seen: Mask
    sentinels: Floats
    sentinel_of: Ints

    @staticmethod
    def fit(
        blocks: Sequence[Floats],
        ranges: Sequence[tuple[float, float] | None] = (),
        sentinels: Sequence[Sequence[float]] = (),
    ) -> Scaler:
        """Fit on raw blocks (T_i, C), NaN where not observed.

        Args:
            blocks: at least one; no other cells are ever looked at.
            ranges: engineering range per sensor, or empty.
            sentinels: per sensor the numbers that stand for no value, none of which is in the blocks; or empty.
        """
        values = np.concatenate(blocks)
        observed = np.isfinite(values)
        count = observed.sum(0)
        seen = count > 0
        n = np.maximum(count, 1)
        clean = np.where(observed, values, 0.0)
        mean = clean.sum(0) / n
        # Two passes: sum of squares minus square of sums cancels all digits on pressures in Pa.
        std = np.sqrt((np.where(observed, values - mean, 0.0) ** 2).sum(0) / n)
        low = np.where(observed, values, np.inf).min(0)
        high = np.where(observed, values, -np.inf).max(0)
        span = np.where(seen, high - low, 0.0)
        for channel, limits in enumerate(ranges):
            if limits is not None:
                span[channel] = limits[1] - limits[0]
        constant = FLOOR * np.maximum(np.abs(mean), 1.0)
        scale = np.where(span > 0, np.maximum(std, FLOOR * span), constant)
        pairs = [(channel, number) for channel, numbers in enumerate(sentinels) for number in numbers]
        return Scaler(
            mean,
            np.where(seen, scale, 1.0),
            seen,
            np.array([number for _, number in pairs], np.float64),
            np.array([channel for channel, _ in pairs], np.int64),
        )

    @property
    def scaling(self) -> Scaling:
        """The same without the clip, for all sensors."""
        pairs = zip(self.sentinel_of.tolist(), self.sentinels.tolist(), strict=True)
        return Scaling(self.mean, self.scale, sentinels=tuple(pairs))

    def scaled(self, values: Floats) -> NDArray[np.float32]:
        """(..., C) raw to scaled float32, clipped to +-10; NaN where not finite or never seen."""
        scaling = self.scaling.of(values)
        if np.isinf(scaling).any():
            scaling[np.isinf(values)] = np.nan
        return self.clipped(scaling)

    def clipped(
        self, scaling: NDArray[np.float32], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """(..., C) values in ``scaling`` units, clipped to +-10 as models read them; NaN where never seen in training.

        ``out`` is the array that the result is written to, if given.
        """
        result: NDArray[np.float32] = np.clip(scaling, -CLIP, CLIP, out=out)
        if not self.seen.all():
            result[..., ~self.seen] = np.nan
        return result

    def raw(self, scaled: Floats | NDArray[np.float32]) -> Floats:
        """(..., C) scaled to raw units; NaN for a sensor that training never saw."""
        result: Floats = np.where(self.seen, scaled * self.scale + self.mean, np.nan)
        return result

    def arrays(self) -> dict[str, np.ndarray]:
        """What a bundle stores."""
        return {name: getattr(self, name) for name in Scaler.__slots__}

    @staticmethod
    def of(arrays: dict[str, np.ndarray]) -> Scaler:
        """The inverse of ``arrays``."""
        return Scaler(**{name: arrays[name] for name in Scaler.__slots__})
