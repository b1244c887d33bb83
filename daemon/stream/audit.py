"""Audited imputation: known readings are hidden from the model now and then and compared with its fills.

Training tells how well gaps could be filled then, and machines change. So one in N of the readings of
the stream is taken out of a *copy* of its window, the model fills the copy, and the reading itself
is the truth. The audit has no side effects: scores, state and outputs are the same without it.

**Selection.** A hash of asset and row selects the windows, and the sensor in each; a restart selects the
same ones, so that no state is kept. Every second time the sensor's newest reading is hidden, else its last
2, 4, 8 ... rows, up to half a window, each half as often as the one before: so errors are
known by the length of a gap. Values from before the window count as unknown then, and a
reading that is the window's only one of its sensor is left out: the model would have no past to go by.

**Exclusions.** Rows inside a firing episode, above the threshold, under maintenance, or of a stuck
sensor: the behaviour of a faulty machine does not tell how well its gaps are filled while it runs.

**Figures.** Per sensor, over its newest audits: the error in the sensor's units, what the last value
and the training mean would have been off by, and how often the 90 % interval held. A verdict needs
``FEWEST`` audits and must be all but certain (one-sided, 95 %): ``cannot`` where the error saves less than
``WORTH`` of what the training mean is off by, so that a filled value says no more than the sensor's
usual level; ``last_value`` where it saves less than that of what the last value is off by; else ``good``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Evidence, Scaling, Windows
from daemon.domain import Floats, Ints, Mask

Hashes = NDArray[np.uint64]

AT_ONCE, CELLS_AT_ONCE = 256, 32_768
"""Windows, and cells of them, that are filled together: one alone takes a model as long as a hundred."""
LEAST_AT_ONCE = 32
MOST_SHARE = 0.01
"""Share of the windows that are audited at most: a window with a gap costs several without, and with many
sensors one in N readings would be many windows."""
KEPT = 1_000
"""Newest audits that a sensor's figures are of."""
FEWEST = 30
"""Audits below which there is no verdict: a mean of fewer absolute errors is anything."""
WORTH = 0.1
"""To save less of a rival's error than this is as good as nothing: the interval is as wide as the rival's."""
_ONE_SIDED = 1.645  # 95 % of a standard normal
PRECISION = 2.0**-20
"""Of a reading's distance from the mean: a model works with it in single precision, of 24 bits. To be off by less
is to be right; a set point that stands still away from its mean would else be outside an interval without width."""


@dataclass(frozen=True, slots=True, eq=False)
class Audited:
    """Readings that were hidden, and what a model filled in. All (n,), raw units."""

    model: str
    sensor: Ints
    gap: Ints  # rows that were hidden, the newest included
    truth: Floats
    value: Floats  # NaN if the model has nothing to go by
    low: Floats
    high: Floats
    last: Floats  # the sensor's last reading before the gap

    def __len__(self) -> int:
        return len(self.sensor)


@dataclass(frozen=True, slots=True)
class _Hidden:
    """One window with its gap, as it waits for the model."""

    window: NDArray[np.generic]  # (L, C) scaled units
    newest: Floats  # (C,) raw
    condition: str
    last_value: Floats  # (C,)
    last_age: Floats  # (C,)
    sensor: int
    gap: int
    truth: float
    last: float
    asset: str


class Audit:
    """Picks readings of one partition, hides them, and compares.

    Args:
        one_in: N; one in so many known readings, about.
        sensors: C.
        window: L.
    """

    def __init__(self, one_in: int, sensors: int, window: int) -> None:
        assert one_in >= 1
        self._share = min(sensors / one_in, MOST_SHARE)
        self._sensors = sensors
        self._together = max(min(AT_ONCE, CELLS_AT_ONCE // (window * sensors)), LEAST_AT_ONCE)
        self._longest = max(int(math.log2(max(window // 2, 1))), 0)  # a power of two
        self._waiting: list[_Hidden] = []

    def forget(self) -> None:
        """Another model comes into force: windows that wait were hidden from the previous one."""
        self._waiting.clear()

    def picked(self, assets: Hashes, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Which of the rows (R,) are audited, the sensor of each and how many rows it hides: (P,) each.

        ``assets`` (R,) are hashes of the rows' assets.
        """
        mixed = _mixed(assets + rows.astype(np.uint64) * _ODD)
        which = np.flatnonzero(mixed < np.uint64(int(self._share * 2.0**64)))
        more = _mixed(mixed[which] + _ODD)
        sensor = (more % np.uint64(self._sensors)).astype(np.int64)
        more = _mixed(more + _ODD)
        doublings = np.zeros(len(which), np.int64)
        for bit in range(self._longest):  # the zeros at the end of a hash: each one more half as often
            doublings += (doublings == bit) & ((more >> np.uint64(bit)) & np.uint64(1) == 0)
        return which, sensor, 1 << doublings

    def hide(self, windows: Windows, scaling: Scaling, at: Ints, sensor: Ints, gap: Ints) -> None:
        """Take readings out of copies of their windows.

        Args:
            windows: with the windows in scaled units; ``values`` has the newest rows.
            scaling: these units.
            at, sensor, gap: which windows, which sensor of each, and the rows to hide.

        A reading that is missing, or the only one of its sensor in the window, is left out.
        """
        assert windows.scaled is not None
        assert windows.last_value is not None
        assert windows.last_age is not None
        for i, c, k in zip(at.tolist(), sensor.tolist(), gap.tolist(), strict=True):
            newest = windows.values[i, -1]
            before = windows.scaled[i, :-k, c]
            known = np.flatnonzero(np.isfinite(before))
            if not math.isfinite(newest[c]) or not len(known):
                continue
            window, holed = windows.scaled[i].copy(), newest.copy()
            window[-k:, c] = holed[c] = np.nan
            value, age = windows.last_value[i].copy(), windows.last_age[i].copy()
            value[c], age[c] = np.nan, 0.0
            last = float(before[known[-1]]) * float(scaling.scale[c]) + float(scaling.mean[c])
            self._waiting.append(
                _Hidden(
                    window,
                    holed,
                    windows.condition[i],
                    value,
                    age,
                    c,
                    k,
                    float(newest[c]),
                    last,
                    "" if windows.asset is None else windows.asset[i],
                )
            )

    def compared(
        self, model: str, infer: Callable[[Windows], Evidence], *, everything: bool = False
    ) -> Audited | None:
        """Fill the windows that wait and compare; None if nothing comes of it, as where the model fails on them.

        Unless it is ``everything``, what makes no whole batch goes on to wait for company.
        """
        whole = len(self._waiting) // self._together * self._together
        count = len(self._waiting) if everything else whole
        some, self._waiting = self._waiting[:count], self._waiting[count:]
        if not some:
            return None
        batch = Windows(
            np.stack([h.newest for h in some])[:, None],
            np.ones(len(some), bool),
            tuple(h.condition for h in some),
            np.stack([h.last_value for h in some]),
            np.stack([h.last_age for h in some]),
            np.stack([h.window for h in some]),
            tuple(h.asset for h in some),
        )
        try:
            evidence = infer(batch)
        except Exception:  # noqa: BLE001 - a model is data: that it fails on windows is found out where it judges
            return None
        each, sensor = np.arange(len(some)), np.array([h.sensor for h in some])
        return Audited(
            model,
            sensor,
            np.array([h.gap for h in some]),
            np.array([h.truth for h in some]),
            evidence.filled[each, sensor],
            evidence.low[each, sensor],
            evidence.high[each, sensor],
            np.array([h.last for h in some]),
        )


_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: rows that follow each other come far apart


def _mixed(x: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele, Lea & Flood 2014): every bit of the result hangs on every bit of x."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


# ------------------------------------------------------------------ figures
class Imputable(StrEnum):
    """Whether a sensor's gaps can be filled, by its audits."""

    TOO_FEW = "too_few"
    GOOD = "good"
    LAST_VALUE = "last_value"
    CANNOT = "cannot"


@dataclass(frozen=True, slots=True)
class GapError:
    """A sensor's figures for gaps of one length."""

    rows: int
    audits: int
    error: float
    coverage: float


@dataclass(frozen=True, slots=True)
class SensorAudit:
    """One sensor's figures over its newest audits; NaN where there is none."""

    sensor: str
    audits: int  # since the model took over
    error: float  # mean absolute, raw units
    relative: float  # to the sensor's spread in training
    last_value_error: float  # of the last value carried on
    skill: float  # 1 - error over that of the training mean; <= 0: no better
    coverage: float  # of the 90 % interval
    verdict: Imputable
    gaps: tuple[GapError, ...] = ()


class Tallies:
    """The audits of one stream under one model, per sensor.

    Args:
        sensors: their names.
        scaling: the model's units: training's mean and spread.
    """

    def __init__(self, sensors: Sequence[str], scaling: Scaling) -> None:
        self.sensors = tuple(sensors)
        self._scaling = scaling
        self._counts: Ints = np.zeros(len(self.sensors), np.int64)
        # By sensor the newest: error, that of the last value, of the mean, inside, gap.
        self._kept: list[Floats] = [np.empty((0, 5)) for _ in self.sensors]

    def add(self, audited: Audited) -> list[int]:
        """Take audits in; returns the sensors they are of."""
        mean = self._scaling.mean[audited.sensor]
        off_mean = np.abs(audited.truth - mean)
        blur = PRECISION * (off_mean + self._scaling.scale[audited.sensor])
        inside = (audited.low - blur <= audited.truth) & (audited.truth <= audited.high + blur)
        # Where nothing can be filled in, nothing is better than the usual level.
        error = np.where(np.isfinite(audited.value), np.abs(audited.value - audited.truth), off_mean)
        last = np.abs(audited.last - audited.truth)
        error, last = (np.where(off <= blur, 0.0, off) for off in (error, last))
        rows = np.stack([error, last, off_mean, inside, audited.gap], 1)
        touched = np.unique(audited.sensor).tolist()
        for c in touched:
            mine = rows[audited.sensor == c]
            self._counts[c] += len(mine)
            self._kept[c] = np.concatenate([self._kept[c], mine])[-KEPT:]
        return list(touched)

    def of(self, sensor: int, *, gaps: bool = False) -> SensorAudit:
        """The figures of a sensor, with those by the gap's length if wanted."""
        kept = self._kept[sensor]
        name, count = self.sensors[sensor], int(self._counts[sensor])
        if not len(kept):
            nan = math.nan
            return SensorAudit(name, count, nan, nan, nan, nan, nan, Imputable.TOO_FEW)
        error, last, mean, inside, gap = kept.T
        by_gap = tuple(
            GapError(int(k), int(which.sum()), float(error[which].mean()), float(inside[which].mean()))
            for k in (np.unique(gap).tolist() if gaps else ())
            for which in [gap == k]
        )
        off_mean = float(mean.mean())
        return SensorAudit(
            name,
            count,
            float(error.mean()),
            float(error.mean() / self._scaling.scale[sensor]),
            float(last.mean()),
            1.0 - float(error.mean()) / off_mean if off_mean > 0 else math.nan,
            float(inside.mean()),
            _verdict(error, last, mean),
            by_gap,
        )

    def all(self, *, gaps: bool = False) -> list[SensorAudit]:
        """The figures of every sensor."""
        return [self.of(c, gaps=gaps) for c in range(len(self.sensors))]


def _verdict(error: Floats, last: Floats, mean: Floats) -> Imputable:
    if len(error) < FEWEST:
        return Imputable.TOO_FEW
    if not error.any():
        return Imputable.GOOD
    if _saves_too_little(error, mean):
        return Imputable.CANNOT
    return Imputable.LAST_VALUE if _saves_too_little(error, last) else Imputable.GOOD


def _saves_too_little(error: Floats, rival: Floats) -> bool:
    """Whether it is all but certain that less than ``WORTH`` of the rival's error is saved."""
    saved = (1.0 - WORTH) * rival - error
    return bool(saved.mean() + _ONE_SIDED * _standard_error(saved) < 0)


def _standard_error(x: Floats) -> float:
    return float(x.std(ddof=1)) / math.sqrt(len(x))


def auditable(scores: Floats, threshold: float, firing: Mask) -> Mask:
    """(R,) the scored rows that no fault is in."""
    with np.errstate(invalid="ignore"):
        return np.asarray((scores <= threshold) & ~firing)
