"""The verdict on an episode: broken sensor, process fault or new regime.

For a window that is not normal:

* one sensor repairs it: *broken sensor*. Everything else is normal, the latents of the repaired window too;
* else, if in the midst of the episode the model reconstructs what has changed since before the onset, and
  its latents are farther out than its residual: *new regime*. The sensors still fit together, but in a
  combination that training never had;
* else: *process fault*. Several sensors no longer fit together.

The first of the two conditions of a new regime is on the change, in scaled units: a model keeps ``SHARE``
(90 %) of the variance of training, and a change of which at most twice the rest is left counts as
reconstructed (``EXPLAINED``). The second compares the parts of the score in their own unit, nats of -log p
against calibration. The first alone would take an incident that all sensors share for a regime; the second
alone a large regime for a fault, because the little that is left of it is large on the residual's own
scale.

A broken sensor and a process fault that only one sensor shows give the same numbers: the first verdict
states no more than that one sensor explains everything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import Floats
from daemon.model.pca import SHARE
from daemon.model.scaler import CLIP

if TYPE_CHECKING:  # the detector imports this package
    from daemon.model.detector import BundleDetector

from daemon.model.repair.search import Repair, View, scored

CANDIDATES = 5
"""Sensors that are taken out one by one for a live verdict: a repairing sensor was among so many most
blamed ones in 365 of 366 cases, and in 339 the first; and the cost does not grow with the sensors."""
EXPLAINED = 1.0 - 2.0 * (1.0 - SHARE)
"""Share of a change that the model must reconstruct for a new regime; see the module."""


class Cause(StrEnum):
    """The cause of an episode."""

    BROKEN_SENSOR = "broken_sensor"
    PROCESS_FAULT = "process_fault"
    NEW_REGIME = "new_regime"


RIGHT = {Cause.BROKEN_SENSOR: 0.64, Cause.PROCESS_FAULT: 0.93, Cause.NEW_REGIME: 0.73}
"""How often a verdict was right, of the labelled cases in which it was given (``tests/bench/repair.py``:
404, 243 and 110 of them, on seven sets). One sensor is often all that shows of a real fault of the process
(a valve that closes, seen by the flow), and on servers an incident is often a change that the model can
make. A live verdict of a process fault was right in 89 % of 222 cases; per set in 63 % (skab, of 8)
to all."""
PUBLISHED = frozenset(cause for cause, right in RIGHT.items() if right >= 0.8)
"""Alerts carry only these; pages mark the others as doubtful."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A cause with its evidence; no cause for a window that is normal.

    Of the window in the midst of the episode, ``residual_nats`` and ``latent_nats`` are the root mean
    squares of the score's parts of that kind, comparable with the score and its threshold, and
    ``explained`` is the share of the change since before the onset that the model reconstructs.
    """

    cause: Cause | None
    residual_nats: float
    latent_nats: float
    explained: float


def verdict_of(detector: BundleDetector, repair: Repair, midst: View, explained: float) -> Verdict:
    """The verdict on an episode; see the module.

    Args:
        detector: a bundle's.
        repair: the smallest one of the window that scored highest.
        midst: a window in the midst of the episode.
        explained: of the change up to there, see ``explained_share``.
    """
    nats = scored(detector, midst, midst.values[None]).nats[:, 0]
    residual, latent = by_kind(nats, len(detector.models.lengths))
    if repair.before <= repair.level:
        cause = None
    elif (len(repair.sensors) == 1 and repair.enough) or len(midst.observed) == 1:
        cause = Cause.BROKEN_SENSOR
    else:
        regime = explained >= EXPLAINED and latent > residual
        cause = Cause.NEW_REGIME if regime else Cause.PROCESS_FAULT
    return Verdict(cause, residual, latent, explained)


def explained_share(
    detector: BundleDetector, window: Floats, condition: str, before: Floats, asset: str = ""
) -> float:
    """The share of a change that the model reconstructs: 1 - |change of the residual|^2 / |change|^2.

    Args:
        detector: a bundle's.
        window: (L, C) raw, in the midst of the change.
        condition: label of the windows.
        before: (B, L, C) raw windows from before; without any, the change is measured from
            training's mean.
        asset: that they are of; the default is of a name that training did not have.

    Returns:
        At most 1; below 0 where the reconstruction exceeds the change; 0 without a change.
    """
    windows = np.concatenate([before, window[None]])
    models = detector.models.at_level(asset, window)
    found = models.measure(windows, (condition,) * len(windows), keep=True)
    scaled = found.scaled.astype(np.float64)
    residual = scaled - found.decoded
    level, rest = np.zeros(scaled.shape[2]), np.zeros(scaled.shape[2])
    if len(before):
        level, rest = (_middle(values[:-1].reshape(-1, scaled.shape[2])) for values in (scaled, residual))
    change = float(np.nansum((scaled[-1] - level) ** 2))
    left = float(np.nansum((residual[-1] - rest) ** 2))
    return 1.0 - left / change if change > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class LiveWindow:
    """A window above its threshold, with the stream's state; see ``daemon.detector.Detector.verdict``."""

    window: NDArray[Any]  # (L, C) in the detector's units
    condition: str
    offsets: Floats  # (P,) of ``judge``
    before: Floats  # (C,) the sensors' levels before the onset, in the detector's units
    shares: Floats  # (C,) of the blame


def live_verdict(detector: BundleDetector, live: LiveWindow) -> Cause | None:
    """The verdict that an alert carries while its episode lasts; None where it is not ``PUBLISHED``.

    As ``verdict_of``, but from what a stream has available, and conservative: only the ``CANDIDATES`` most
    blamed sensors are taken out, the change is that from the sensors' levels before the onset, and a
    change that the model reconstructs is never called a fault.
    """
    window, condition, shares, level = live.window, live.condition, live.shares, detector.closing
    blamed = np.argsort(-shares, kind="stable")[:CANDIDATES]
    windows = np.repeat(window[None], 1 + len(blamed), 0)
    for i, c in enumerate(blamed.tolist(), 1):
        windows[i, :, c] = np.nan
    found = detector.models.measure_scaled(windows, (condition,) * len(windows), keep=True)
    calibrated = detector.calibrated
    nats = calibrated.nats(detector.parts(found, live.offsets))
    score = calibrated.combined(nats)
    if not score[0] > level or np.isfinite(found.channel_error[-1, 0]).sum() < 2:
        return None
    if (score[1:] <= level).any():
        return _published(Cause.BROKEN_SENSOR)
    scaled = found.scaled[0].astype(np.float64)
    change = float(np.nansum((scaled - np.clip(live.before, -CLIP, CLIP)) ** 2))
    left = float(np.nansum((scaled - found.decoded[0]) ** 2))
    if left > (1.0 - EXPLAINED) * change:
        return _published(Cause.PROCESS_FAULT)
    residual, latent = by_kind(nats[:, 0], len(detector.models.lengths))
    return _published(Cause.NEW_REGIME) if latent > residual else None


def _published(cause: Cause) -> Cause | None:
    return cause if cause in PUBLISHED else None


def _middle(values: Floats) -> Floats:
    """(N, C) to (C,) medians over observed cells; 0 without any."""
    seen = np.isfinite(values)
    known = np.where(seen.any(0), values, 0.0)
    return np.asarray(np.nanmedian(known, axis=0))


def by_kind(nats: Floats, lengths: int) -> tuple[float, float]:
    """Of the parts' nats: root mean square of the residual's parts, and of the latents'; 0 without evidence."""
    squares = nats * nats
    errors = squares[: lengths + 1]
    latents = (squares[lengths + 1 :: 2] + squares[lengths + 2 :: 2]) / 2.0
    residual, latent = (
        math.sqrt(float(np.mean(part[np.isfinite(part)]))) if np.isfinite(part).any() else 0.0
        for part in (errors, latents)
    )
    return residual, latent
