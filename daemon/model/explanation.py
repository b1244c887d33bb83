"""What a window would have been without the sensors at fault: expected values that the fault has no part in.

A model that reads a faulty sensor expects something wrong of the others, too: the error leaks. So the sensors that
explain the window best are taken out (masked, as for the smallest repair, ``repair.search``), and what the model then
expects of the rest is what the rest implies. Of up to ``CANDIDATES`` most blamed sensors the one is taken out without which
the others fit together best, then the next one as long as that makes them fit clearly better. How well they fit is
the sum over sensors of log(1 + r^2), r the root mean square of a sensor's residual in units of calibration: the
-log density of a Student t with one degree of freedom up to constants, so that what a single sensor is off by counts less than
how many are off. Sensors that are ignored are out from the beginning, and never blamed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daemon.detector import Explanation
from daemon.domain import Floats

if TYPE_CHECKING:  # the detector imports this module
    from daemon.model.detector import BundleDetector

CANDIDATES = 5
"""As for live verdicts (``repair.verdict``): the repairing sensor is nearly always among so many."""
MOST = 3
"""Sensors that are taken out, at most; of three sensors or less in a stream fewer."""
NORMAL = 2.0
"""A residual that is normal, in units of calibration: beyond it a window is not explained yet."""
CLEARLY = 1.0
"""Nats by which the others must fit better for one more sensor to be taken out."""


def explain(
    detector: BundleDetector,
    window: NDArray[Any],
    condition: str,
    shares: Floats,
    candidates: int = CANDIDATES,
) -> Explanation | None:
    """What the model expects of a window's newest row without the sensors at fault; None if it needs no explanation.

    Args:
        detector: a bundle's.
        window: (L, C) in the detector's units.
        condition: its label.
        shares: (C,) of the blame.
        candidates: so many of the most blamed may be taken out.
    """
    if detector.models.rules is not None:
        window = np.where(detector.models.rules.ignored, np.nan, window)
    seen = np.isfinite(window).any(0) & detector.models.scaler.seen
    ranked = [c for c in np.argsort(-shares, kind="stable").tolist() if seen[c] and shares[c] > 0]
    unit = detector.calibrated.residual_rms
    taken: list[int] = []
    fit, residual, decoded = _fits(detector, window, condition, [[]], unit)
    best_fit, best, expected = float(fit[0]), residual[0], decoded[0]
    if not np.nanmax(np.where(seen, best, 0.0), initial=0.0) > NORMAL:
        return None
    while len(taken) < min(MOST, int(seen.sum()) - 2):
        sets = [[*taken, c] for c in ranked[:candidates] if c not in taken]
        if not sets:
            break
        fit, residual, decoded = _fits(detector, window, condition, sets, unit)
        at = int(fit.argmin())
        if best_fit - fit[at] < CLEARLY:
            break
        taken, best_fit, best, expected = sets[at], float(fit[at]), residual[at], decoded[at]
        rest = seen.copy()
        rest[taken] = False
        if not np.nanmax(np.where(rest, best, 0.0)) > NORMAL:
            break
    if not taken:
        return None
    blamed = np.zeros(len(seen), bool)
    blamed[taken] = True
    return Explanation(blamed, best, detector.models.scaler.raw(expected[None])[0])


def _fits(
    detector: BundleDetector, window: NDArray[Any], condition: str, sets: list[list[int]], unit: Floats
) -> tuple[Floats, Floats, Floats]:
    """Without each of S sets of sensors: (S,) how badly the others fit, (S, C) residuals, (S, C) the newest row."""
    windows = np.repeat(window[None].astype(np.float32), len(sets), 0)
    for i, sensors in enumerate(sets):
        windows[i][:, sensors] = np.nan
    found = detector.models.measure_scaled(windows, (condition,) * len(windows), keep=True)
    off = (detector.models.scaler.clipped(window[None].astype(np.float32)) - found.decoded) / unit
    squares = np.where(np.isfinite(off), off.astype(np.float64), 0.0) ** 2
    count = np.isfinite(off).sum(1)
    residual = np.where(count > 0, np.sqrt(squares.sum(1) / np.maximum(count, 1)), np.nan)
    fit = np.log1p(np.nan_to_num(residual) ** 2)
    for i, sensors in enumerate(sets):
        fit[i, sensors] = np.log(2.0)  # as a normal sensor
    return fit.sum(1), residual, np.asarray(found.decoded[:, -1], np.float64)
