"""The one interface between the stream and a model: windows go in, evidence and verdicts come out.

``daemon.stream`` knows a model as a ``Detector`` only, and ``daemon.model.detector`` implements one.
Shape letters as in ``daemon.domain``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.domain import Floats, Ints, Mask


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """``(x - mean) / scale`` per sensor: a detector's units, in which the stream keeps its rows.

    Near a sensor's mean single precision is plenty, and half as much to keep and to cut windows
    from. Nothing is cut off, so that another detector's units can be had from these.
    """

    mean: Floats  # (C,)
    scale: Floats  # (C,)
    kept: Any = np.float32  # the type that rows are kept in

    @staticmethod
    def raw_units(sensors: int) -> Scaling:
        """No units but the sensors' own, kept whole: what there is before there is a model."""
        return Scaling(np.zeros(sensors), np.ones(sensors), np.float64)

    def same_as(self, other: Scaling) -> bool:
        """Whether rows of these units can be read in those."""
        return (
            bool((self.mean == other.mean).all() and (self.scale == other.scale).all())
            and self.kept is other.kept
        )

    def of(self, values: Floats) -> NDArray[Any]:
        """(..., C) raw to standard; NaN stays NaN."""
        found = values - self.mean
        found /= self.scale
        with np.errstate(over="ignore"):
            return np.asarray(found.astype(self.kept, copy=False))

    def raw(self, rows: NDArray[Any]) -> Floats:
        """(..., C) standard to raw."""
        return np.asarray(rows.astype(np.float64) * self.scale + self.mean)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A batch of windows: a pure function of these is all that a detector may compute.

    ``values`` is (B, L, C) raw, NaN where not observed. A window shorter than L (an asset's
    first rows) is padded with NaN at the front; ``full`` says which windows are whole. Where
    ``scaling`` has the windows in the detector's units, only the newest rows need be there
    raw: (B, 1, C).
    """

    values: Floats
    full: Mask  # (B,)
    condition: tuple[str, ...]  # B labels, of the newest row
    last_value: Floats | None = None  # (B, C) newest observed value, be it older than the window; NaN if none
    last_age: Floats | None = None  # (B, C) its age in rows, 0 = the newest row. Both serve imputation only
    scaling: NDArray[Any] | None = None  # (B, L, C)

    def __len__(self) -> int:
        return len(self.full)

    def take(self, index: Ints) -> Windows:
        """Some of the windows, in the order asked for."""
        return Windows(
            self.values[index],
            self.full[index],
            tuple(self.condition[i] for i in index.tolist()),
            None if self.last_value is None else self.last_value[index],
            None if self.last_age is None else self.last_age[index],
            None if self.scaling is None else self.scaling[index],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a detector says of each window on its own, before calibration and history.

    Independent of the batch (to 1e-5) and of every other window.
    """

    channel_error: Floats  # (S, B, C) RMS residual over the window, NaN where nothing observed
    latent: Floats  # (S, B, 2) KL in nats (squared norm for a linear model) and largest |z|
    residual: Floats  # (B, C) newest row, standardised, NaN where missing
    elbo: Floats  # (B,) nats
    posterior: Floats  # (B, Z) posterior means
    expected: Floats  # (B, C) decoded newest row, raw units
    filled: Floats  # (B, C) newest row as imputed from this window alone, raw units
    low: Floats  # (B, C) 90 % interval of ``filled``
    high: Floats
    scorable: Mask  # (B,) full, and at least one cell observed
    condition: Ints  # (B,) place of the window's label among the detector's conditions, -1 unknown

    def take(self, index: Ints) -> Evidence:
        """The evidence of some of the windows, in the order asked for."""
        return Evidence(
            **{
                name: getattr(self, name)[:, index]
                if name in {"channel_error", "latent"}
                else getattr(self, name)[index]
                for name in self.__slots__
            }
        )

    @staticmethod
    def joined(parts: Sequence[Evidence]) -> Evidence:
        """The evidence of all the windows of these, in their order."""
        return Evidence(
            **{
                name: np.concatenate(
                    [getattr(part, name) for part in parts],
                    axis=1 if name in {"channel_error", "latent"} else 0,
                )
                for name in Evidence.__slots__
            }
        )


@dataclass(frozen=True, slots=True, eq=False)
class Verdicts:
    """Calibrated scores of each window, NaN where ``scorable`` is False. All (B,) unless said."""

    score: Floats
    reconstruction: Floats
    kl: Floats
    point: Floats
    elbo: Floats
    p_reconstruction: Floats
    p_kl: Floats
    p_point: Floats
    static_score: Floats  # without the slow baseline
    error: Floats  # (B, C) standardised error over the whole window; NaN if unknown
    offsets: Floats | None = None  # (B, P) the baseline that each window met, for ``Detector.verdict``


class Detector(Protocol):
    """One immutable (weights, scaler, calibration, version): it changes as a whole or not at all."""

    @property
    def version(self) -> str: ...
    @property
    def kind(self) -> str:
        """What fills gaps, by name: ``mlp``, ``conv``, ``gru`` or ``ppca``."""
        ...

    @property
    def sensors(self) -> tuple[str, ...]: ...
    @property
    def window(self) -> int: ...
    @property
    def threshold(self) -> float:
        """An episode opens at score > threshold."""
        ...

    @property
    def part_thresholds(self) -> Mapping[str, float]:
        """Per part (reconstruction, kl, point): the value whose p alone equals the threshold's."""
        ...

    @property
    def calibration(self) -> str:
        """``full`` or ``provisional``."""
        ...

    @property
    def conditions(self) -> tuple[str, ...]:
        """Condition labels seen in training."""
        ...

    @property
    def longest_constant(self) -> Ints:
        """(C,) rows for which a sensor stood still in training, at most; see ``sensor_stuck``."""
        ...

    @property
    def drift(self) -> DriftReference: ...

    @property
    def scaling(self) -> Scaling:
        """The units that windows are made of."""
        ...

    def infer(self, windows: Windows) -> Evidence:
        """Score every window on its own. Pure; the costly half."""
        ...

    def fresh_baseline(self, asset: str) -> Floats:
        """(P,) the slow baseline's starting point for an asset."""
        ...

    def carried_baseline(self, asset: str, row: int) -> Floats | None:
        """(P,) the baseline that training left for an asset whose rows continue at ``row``."""
        ...

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        """Calibrate, in order; moves ``baseline[slots]`` (N, P) on in place.

        ``slots`` (B,) names each window's asset; an asset's windows appear in time order.
        ``static`` asks for the static score, too; without it there is NaN in its place.
        """
        ...

    def verdict(
        self,
        window: NDArray[Any],
        condition: str,
        offsets: Floats,
        before: Floats,
        shares: Floats,
        level: float,
    ) -> str | None:
        """What kind of cause an episode has, judged by one window in its midst; None where that is doubtful.

        Args:
            window: (L, C) in ``scaling`` units.
            condition: its label.
            offsets: (P,) of its ``Verdicts``.
            before: (C,) where the sensors stood before the onset, in ``scaling`` units.
            shares: (C,) of the blame.
            level: the score up to which a window is normal.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DriftReference:
    """Training's moments of what drift is measured against, and the null distribution's edge."""

    latent_mean: Floats  # (Z,)
    latent_variance: Floats  # (Z,)
    residual_mean: Floats  # (C,)
    residual_variance: Floats  # (C,)
    latent_threshold: float  # nats, total over dimensions
    residual_threshold: float  # nats, total over sensors
