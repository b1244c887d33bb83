"""The interface between the stream and a model: windows go in, evidence and verdicts come out.

Why: ``daemon.stream`` and ``daemon.model`` do not import each other. The stream knows a model only as a
``Detector``, which ``daemon.model.detector`` implements. Scoring has two steps: ``infer`` computes the
``Evidence`` of each window on its own (the costly step), and ``judge`` turns evidence into calibrated
``Verdicts``, in order, with a slow baseline per asset.

Invariant: a detector is immutable; weights, scaler, thresholds and version change together, by exchanging
the whole detector. Shape letters as in ``daemon.domain``: B windows, L steps, C sensors, Z latents, S window
lengths; N slots, P numbers of a baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from daemon.asset_drift import AssetDriftReference
from daemon.domain import Floats, Ints, Mask
from daemon.habit import SilenceHabit


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """``(x - mean) / scale`` per sensor: a detector's units, in which the stream stores its rows.

    Near a sensor's mean single precision suffices, and takes half the memory. Values are not clipped, so
    that another detector's units can be computed from these. Numbers that the detector's training showed to stand
    for no value become NaN.
    """

    mean: Floats  # (C,)
    scale: Floats  # (C,)
    kept: Any = np.float32  # the number type in which rows are stored
    sentinels: tuple[tuple[int, float], ...] = ()  # such numbers, each with its sensor

    @staticmethod
    def raw_units(sensors: int) -> Scaling:
        """The sensors' own units, in double precision: used while there is no model."""
        return Scaling(np.zeros(sensors), np.ones(sensors), np.float64)

    def same_as(self, other: Scaling) -> bool:
        """Whether rows in these units can be read as rows in the other units."""
        return (
            bool((self.mean == other.mean).all() and (self.scale == other.scale).all())
            and self.kept is other.kept
            and self.sentinels == other.sentinels
        )

    def readings(self, values: Floats) -> Floats:
        """(..., C) raw values without those that stand for no value; the same array where there are none."""
        found = values
        for sensor, number in self.sentinels:
            if (missing := values[..., sensor] == number).any():
                found = values.copy() if found is values else found
                found[..., sensor][missing] = np.nan
        return found

    def of(self, values: Floats) -> NDArray[Any]:
        """(..., C) raw values in these units; NaN stays NaN."""
        found = self.readings(values) - self.mean
        found /= self.scale
        with np.errstate(over="ignore"):
            return np.asarray(found.astype(self.kept, copy=False))

    def raw(self, rows: NDArray[Any]) -> Floats:
        """(..., C) values in these units as raw values."""
        return np.asarray(rows.astype(np.float64) * self.scale + self.mean)


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """A batch of windows: evidence is a pure function of these.

    ``values`` is (B, L, C) raw, NaN where not observed. A window with fewer than L rows (an asset's first
    ones) is padded with NaN at the front; ``full`` marks the windows without padding. If ``scaled`` has the
    windows in the detector's units, ``values`` may have the newest rows only: (B, 1, C).
    """

    values: Floats
    full: Mask  # (B,)
    condition: tuple[str, ...]  # B labels, of the newest row
    last_value: Floats | None = (
        None  # (B, C) last observed value, possibly older than the window; NaN if none
    )
    last_age: Floats | None = None  # (B, C) its age in rows, 0 = the newest row; both are for imputation only
    scaled: NDArray[Any] | None = None  # (B, L, C) in the detector's units
    asset: tuple[str, ...] | None = None  # B names; None: of no asset that training had

    def __len__(self) -> int:
        return len(self.full)

    def take(self, index: Ints) -> Windows:
        """The windows at these indices, in their order."""
        return Windows(
            self.values[index],
            self.full[index],
            tuple(self.condition[i] for i in index.tolist()),
            None if self.last_value is None else self.last_value[index],
            None if self.last_age is None else self.last_age[index],
            None if self.scaled is None else self.scaled[index],
            None if self.asset is None else tuple(self.asset[i] for i in index.tolist()),
        )


_BY_LENGTH = frozenset({"channel_error", "latent"})
"""The fields of ``Evidence`` whose windows come second, after the window lengths."""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a detector computes from each window on its own, before calibration and history.

    It does not depend on the other windows of the batch (to 1e-5).
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
    condition: Ints  # (B,) index of the window's label in the detector's conditions, -1 if unknown

    def take(self, index: Ints) -> Evidence:
        """The evidence of the windows at these indices, in their order."""
        return Evidence(
            **{
                name: getattr(self, name)[:, index] if name in _BY_LENGTH else getattr(self, name)[index]
                for name in self.__slots__
            }
        )

    def replaced(self, index: Ints, by: Evidence) -> Evidence:
        """With other evidence of the windows at these indices."""
        found: dict[str, Any] = {}
        for name in self.__slots__:
            found[name] = getattr(self, name).copy()
            place = (slice(None), index) if name in _BY_LENGTH else index
            found[name][place] = getattr(by, name)
        return Evidence(**found)

    @staticmethod
    def joined(parts: Sequence[Evidence]) -> Evidence:
        """The evidence of all these batches, in their order."""
        return Evidence(
            **{
                name: np.concatenate(
                    [getattr(part, name) for part in parts],
                    axis=1 if name in _BY_LENGTH else 0,
                )
                for name in Evidence.__slots__
            }
        )


@dataclass(frozen=True, slots=True, eq=False)
class CorrectedWindows:
    """Windows without what was accepted of their sensors."""

    windows: Windows
    apart: Floats
    """(B, C) newest row of the sensors that were taken out less what the others imply, raw; NaN where not taken out, or missing"""
    removed: Floats  # (B, C) newest row less what it was corrected to, raw; 0 where missing


class Offset(NamedTuple):
    """How far a sensor is off, on average over a window, in its own unit."""

    sensor: int
    apart: float  # from what the other sensors imply
    observed: float
    explains: bool = True  # the other sensors are as expected only without it


MARGIN = 1.5
"""By how much the like of something may be larger than that was. What comes again differs by a quarter or so, and a fault of twice
the size is another one."""


def accepted_part(apart: NDArray[Any], least: NDArray[Any], most: NDArray[Any]) -> NDArray[Any]:
    """What is normal of readings that are this far off, where from ``least`` (below 0) to ``most`` is; 0 for NaN.

    All of it up to ``MARGIN`` times as far; of a reading twice as far off or more as much as was accepted, so that the rest, a
    fault, has its full size; in between it goes from the one to the other without a step.
    """
    size, limit = np.abs(apart), np.where(apart > 0, most, -least)
    beyond = np.clip((size - MARGIN * limit) / (2.0 - MARGIN), 0.0, np.maximum(size - limit, 0.0))
    return np.asarray(np.nan_to_num(np.sign(apart) * (size - beyond)))


REACH = 4
"""Windows that sustained evidence reaches back, about: an exponential mean of that span."""


@dataclass(frozen=True, slots=True, eq=False)
class SustainedVerdicts:
    """By how much each sensor has deviated of late, in shares of its limits: above 1 is beyond the limit.

    ``opening`` is NaN where the sensor is missing in the newest row. ``closing`` is never less than the other. Both
    are NaN where the window is not scorable.
    """

    opening: Floats  # (B, C) of the limits at which a deviation opens
    closing: Floats  # (B, C) of those below which it closes
    calibration: str  # of the limits: ``full`` or ``provisional``


@dataclass(frozen=True, slots=True, eq=False)
class SlowTrends:
    """How each sensor has moved from day to day against what the others imply. All (C,)."""

    ratio: Floats  # share of the limit: above 1 it is no habit and no chance
    per_day: Floats  # in the sensor's unit
    since: Ints  # number of the first day that shows it
    agrees: Mask  # whether its readings themselves move so; else it is rather the others that do


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
    offsets: Floats | None = (
        None  # (B, P) the baseline that each window was compared with, for ``Detector.verdict``
    )
    sustained: SustainedVerdicts | None = None  # None: the model does not look for deviations
    jump: Floats | None = None
    """(B, C) each sensor's change since the row before as a share of its limit, NaN where not known: above 1 it opens
    an anomaly, as a score above the threshold does. None: the model does not look for jumps."""

    @property
    def largest_jump(self) -> Floats:
        """(B,) the largest share of a sensor; 0 where none is known."""
        if self.jump is None:
            return np.zeros(len(self.score))
        return np.asarray(np.fmax.reduce(self.jump, axis=1, initial=0.0))


@dataclass(frozen=True, slots=True, eq=False)
class OwnedWindow:
    """One window, with what a model needs to know beside its values."""

    values: NDArray[Any]  # (L, C) in the detector's units
    asset: str
    condition: str  # its label


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What a model expects of a window without the sensors that explain it: all (C,)."""

    blamed: Mask  # the sensors that were taken out
    residual: Floats  # root mean square over the window, in units of calibration; NaN where unknown
    expected: Floats  # the newest row, raw units; NaN for sensors that training never saw


class Detector(Protocol):
    """A trained model with its scaler, calibration and version; immutable."""

    @property
    def version(self) -> str: ...
    @property
    def kind(self) -> str:
        """The kind of model, which also fills gaps: ``mlp``, ``conv``, ``gru`` or ``ppca``."""
        ...

    @property
    def sensors(self) -> tuple[str, ...]: ...
    @property
    def window(self) -> int: ...
    @property
    def threshold(self) -> float:
        """An episode opens at score > threshold, or where a sensor jumps beyond its limit (``Verdicts.jump``)."""
        ...

    @property
    def closing(self) -> float:
        """An episode closes at score <= closing, which is at most the threshold: up to here a window is normal."""
        ...

    @property
    def part_thresholds(self) -> Mapping[str, float]:
        """Per part (reconstruction, kl, point): the value whose p-value alone equals that of the threshold."""
        ...

    @property
    def calibration(self) -> str:
        """``full`` or ``provisional``."""
        ...

    @property
    def calibrated_assets(self) -> int:
        """How many assets it was calibrated on, among which a budget of the stream is shared out."""
        ...

    @property
    def conditions(self) -> tuple[str, ...]:
        """The condition labels of the training rows."""
        ...

    @property
    def longest_constant(self) -> Ints:
        """(C,) the most rows for which each sensor's value did not change in training; see ``sensor_stuck``."""
        ...

    @property
    def silence(self) -> SilenceHabit | None:
        """At which hours sensors and assets were usually silent in training; None: at none."""
        ...

    @property
    def drift(self) -> DriftReference: ...

    @property
    def scaling(self) -> Scaling:
        """The units of the windows."""
        ...

    def infer(self, windows: Windows) -> Evidence:
        """The evidence of every window on its own. Pure; the costly step."""
        ...

    def corrected(self, windows: Windows, least: Floats, most: Floats, taken: Mask) -> CorrectedWindows:
        """Windows without what was accepted of their sensors: each reading less its part (``accepted_part``).

        Args:
            windows: with ``scaled``.
            least: (B, C) at most 0, raw: by how much a sensor may be below what the others imply.
            most: (B, C) at least 0: by how much it may be above.
            taken: (B, C) sensors of which nothing is asked in any case; of the others, where their part shows.
        """
        ...

    def sensors_off(self, window: OwnedWindow, sensors: Mask) -> list[Offset]:
        """Which of some sensors (C,) a window shows to be off, those that explain most of it first; none: it is normal.

        Args:
            window: in ``scaling`` units.
            sensors: (C,) that may be off.
        """
        ...

    def slow_trends(self, days: Ints, means: Floats) -> SlowTrends | None:
        """How sensors move from day to day; None: too few days, or the model does not tell.

        Args:
            days: (D,) their numbers since the epoch, ascending.
            means: (D, C) raw, of the rows that no episode explains; NaN where too few.
        """
        ...

    def fresh_baseline(self, asset: str) -> Floats:
        """(P,) the initial slow baseline of an asset."""
        ...

    def carried_baseline(self, asset: str, row: int) -> Floats | None:
        """(P,) the baseline at the end of training, for an asset whose rows continue there at ``row``; else None."""
        ...

    def judge(self, evidence: Evidence, baseline: Floats, slots: Ints, *, static: bool = True) -> Verdicts:
        """Calibrated scores of windows; updates ``baseline[slots]`` in place.

        Args:
            evidence: of B windows, each asset's in time order.
            baseline: (N, P) the slow baselines of all assets.
            slots: (B,) each window's asset.
            static: whether to compute the static score, too; it is NaN otherwise.
        """
        ...

    def accept(self, evidence: Evidence, baseline: Floats, slots: Ints, sensors: Mask) -> None:
        """Take what sensors of an asset and the latents show as normal from now on; moves ``baseline[slots]`` in place.

        Args:
            evidence: of one window, which ``judge`` has judged.
            baseline: (N, P) the slow baselines of all assets.
            slots: (1,) the window's asset.
            sensors: (C,) which of them.
        """
        ...

    def begin_anew(self, baseline: Floats, slot: int, sensors: Mask) -> None:
        """Forget what is known of sensors (C,) of an asset that are judged otherwise from now on, and of the latents.

        Args:
            baseline: (N, P) the slow baselines of all assets; the asset's is changed in place.
            slot: the asset's.
            sensors: (C,) which of them.
        """
        ...

    def verdict(
        self,
        window: OwnedWindow,
        offsets: Floats,
        before: Floats,
        shares: Floats,
    ) -> str | None:
        """The kind of cause of an episode, from one window that lies within it; None if it is not clear.

        Args:
            window: in ``scaling`` units.
            offsets: (P,) of its ``Verdicts``.
            before: (C,) the sensors' values before the onset, in ``scaling`` units.
            shares: (C,) each sensor's share in the episode.
        """
        ...

    def level_of(self, window: OwnedWindow) -> NDArray[np.float32]:
        """(C,) where the window's asset is, apart from the others, in ``scaling`` units; 0 where assets have no levels."""
        ...

    def explain(self, window: OwnedWindow, shares: Floats) -> Explanation | None:
        """What is expected of a window without the sensors at fault; None if nothing in it needs that.

        Args:
            window: in ``scaling`` units.
            shares: (C,) each sensor's share in the episode.
        """
        ...

    def explained_by(self, window: OwnedWindow, sensors: Mask) -> Mask:
        """(C,) the sensors that are off only because the model reads others: without these they are where the rest imply.

        None of them, if nothing could be expected of a sensor any more without so many.

        Args:
            window: in ``scaling`` units.
            sensors: (C,) these others.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DriftReference:
    """The moments of the training rows that drift is measured against, and the thresholds."""

    latent_mean: Floats  # (Z,)
    latent_variance: Floats  # (Z,)
    residual_mean: Floats  # (C,)
    residual_variance: Floats  # (C,)
    latent_threshold: float  # nats, total over dimensions
    residual_threshold: float  # nats, total over sensors
    assets: AssetDriftReference | None = None  # None: the drift of single assets is not measured
