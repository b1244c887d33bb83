"""Evidence beside a verdict: the normal twin of sensors, the latents' path, likeness to other episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from daemon.detector import Windows
from daemon.domain import Floats

if TYPE_CHECKING:  # the detector imports this package
    from daemon.model.detector import BundleDetector

from daemon.model.repair.search import AT_ONCE, View, measured, without

ACTIVE = 0.01
"""Variance of a posterior mean below which a latent dimension is idle (Burda et al. 2016): its sd is no unit."""


@dataclass(frozen=True, slots=True, eq=False)
class Twin:
    """Values that sensors would have had: (T, C) raw with 90 % intervals; NaN where none was taken out."""

    value: Floats
    low: Floats
    high: Floats


def normal_twin(
    detector: BundleDetector,
    values: Floats,
    condition: Sequence[str],
    sensors: Sequence[int],
    since: int,
    asset: str = "",
) -> Twin:
    """The rows as they would have been had some sensors fallen silent before they went wrong.

    The same values as the daemon imputes for a silent sensor (see ``imputation``), with its calibrated
    intervals: causal, and from the other sensors as they were.

    Args:
        detector: a bundle's.
        values: (T, C) raw rows without a long gap; windows that reach back before them are padded.
        condition: T labels.
        sensors: those to take out.
        since: the first row from which they are.
        asset: that they are of; the default is of a name that training did not have.
    """
    L, chosen = detector.window, np.array(sensors, np.int64)
    rows = np.arange(since, len(values))
    value, low, high = (np.full(values.shape, np.nan) for _ in range(3))
    if not len(chosen) or not len(rows):
        return Twin(value, low, high)
    masked = values.copy()
    masked[since:, chosen] = np.nan
    padded = np.concatenate([np.full((L - 1, values.shape[1]), np.nan), masked])
    seen = np.isfinite(padded)
    newest = np.maximum.accumulate(np.where(seen, np.arange(len(padded))[:, None], -1), axis=0)
    last = np.where(newest >= 0, np.take_along_axis(padded, np.maximum(newest, 0), 0), np.nan)
    age = np.where(newest >= 0, np.arange(len(padded))[:, None] - newest, len(padded))
    for at in range(0, len(rows), AT_ONCE):
        some = rows[at : at + AT_ONCE]
        windows = np.stack([padded[row : row + L] for row in some.tolist()])
        ends = some + L - 1
        evidence = detector.infer(
            Windows(
                windows,
                np.ones(len(some), bool),
                tuple(condition[row] for row in some.tolist()),
                last[ends],
                age[ends].astype(np.float64),
                asset=(asset,) * len(some),
            )
        )
        for into, found in ((value, evidence.filled), (low, evidence.low), (high, evidence.high)):
            into[some[:, None], chosen] = found[:, chosen]
    return Twin(value, low, high)


def reconstructed(detector: BundleDetector, view: View, sensors: Sequence[int] = ()) -> Floats:
    """(L, C) raw: the window reconstructed at its posterior's mean, some sensors taken out first."""
    whole = without(view.values, sensors)[None]
    models = detector.models.at_level(view.asset, view.values)
    return models.scaler.raw(measured(detector, view, whole, keep=True).decoded[0])


@dataclass(frozen=True, slots=True, eq=False)
class LatentPath:
    """Posterior means along some rows, in training's standard deviations from training's mean.

    ``dimensions`` are those that moved most, first; ``sd`` is (T, D).
    """

    dimensions: tuple[int, ...]
    sd: Floats


def latent_path(detector: BundleDetector, posterior: Floats, before: int, most: int = 4) -> LatentPath:
    """The path of the latents over rows, of which the first ``before`` are normal.

    Args:
        detector: a bundle's.
        posterior: (T, Z) posterior means, the last row being the end of the path.
        before: rows whose median is the start of the path; at least one.
        most: dimensions, at most. Idle ones (``ACTIVE``) are none.
    """
    spread = np.sqrt(np.maximum(detector.drift.latent_variance, ACTIVE))
    sd = (posterior - detector.drift.latent_mean) / spread
    if not sd.size:
        return LatentPath((), np.zeros((len(posterior), 0)))
    moved = np.abs(sd[-1] - np.median(sd[: max(before, 1)], axis=0))
    moved[detector.drift.latent_variance < ACTIVE] = 0.0
    chosen = [d for d in np.argsort(-moved, kind="stable")[:most].tolist() if moved[d] > 0]
    return LatentPath(tuple(chosen), sd[:, chosen])


def likeness(shares: Floats, moved: Floats, other_shares: Floats, other_moved: Floats | None) -> float:
    """How alike two episodes are, -1 to 1: mean of the cosines of their shares and of their latent moves.

    Args:
        shares, other_shares: (C,) of the blame.
        moved, other_moved: (Z,) latent displacement, sd; None where it is not known: then the
            shares alone count.
    """
    alike = _cosine(shares, other_shares)
    return alike if other_moved is None else 0.5 * (alike + _cosine(moved, other_moved))


def _cosine(a: Floats, b: Floats) -> float:
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else 0.0
