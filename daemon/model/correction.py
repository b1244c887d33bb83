"""Windows without what was accepted of an asset's sensors.

A sensor that was set anew, moved or exchanged reads something else than the others imply: by as much at each of its
readings, or by less, as a machine that stands still may show nothing of it. So what it should read is asked of the others,
and each reading is moved towards that, by its accepted part. What the model makes of a window whose sensor is
missing is only a first guess: it is put into the window and the model asked again, as it is done to fill gaps by
autoencoders (Rezende, Mohamed and Wierstra 2014, appendix F), up to ``ROUNDS`` times, until the window agrees with itself.

An error leaks from the sensors that are off into what is expected of others. So of several sensors that were accepted as few
as possible are taken out: those without which alone a window is explained (a model may reproduce any reading of a sensor, at
the price of latents that are far from normal), then the one that is farthest off to a side that was accepted, on
average over the window, as long as one is off by a typical residual, or by ``SHOWN`` of what was accepted of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daemon.detector import CorrectedWindows, Offset, OwnedWindow, Windows, accepted_part
from daemon.domain import Floats, Ints, Mask
from daemon.model.explanation import MOST, NORMAL, explain

if TYPE_CHECKING:  # the detector imports this module
    from daemon.model.detector import BundleDetector

ROUNDS = 4
"""On machines with nightly stops the first round leaves up to a fifth of a level in the window, the fourth none that is seen."""
AGREES = 0.25
"""Largest distance of a window's readings from what the model expects of them, in units of calibration, that needs no other round."""
SHOWN = 0.5
"""Share of what was accepted of a sensor that is off by less than a typical residual, from which on it is taken out, too."""
EXPLAINED = 0.5
"""A sensor of whose distance less is left without others is off because the model reads these, if what is left is normal."""
ONE_SIDED = 0.5
"""A mean of distances of less than this share of their mean size has no direction."""


def corrected(
    detector: BundleDetector, windows: Windows, least: Floats, most: Floats, taken: Mask
) -> CorrectedWindows:
    """See ``daemon.detector.Detector.corrected``."""
    scale, scaled, levels = detector.models.scaler.scale, windows.scaled, detector.models.levels
    assert scaled is not None
    units = scaled if levels is None else scaled - levels.of(windows.asset, scaled)[:, None]
    below, above = (np.asarray(end / scale, np.float32) for end in (least, most))
    taken, removed = taken.copy(), np.zeros(units.shape, np.float32)
    expected = np.empty(units.shape, np.float32)
    todo = np.arange(len(units))
    while len(todo):
        labels = [windows.condition[i] for i in todo.tolist()]
        bounds = below[todo], above[todo]
        expected[todo], removed[todo] = _without(detector, units[todo], labels, taken[todo], bounds)
        left = units[todo] - removed[todo] - expected[todo]
        off = _off(left, below[todo], above[todo], detector.calibrated.residual_rms)
        off[taken[todo]] = 0.0
        worst = off.argmax(1)
        more = off[np.arange(len(todo)), worst] > 0.0
        todo = todo[more]
        taken[todo, worst[more]] = True
    newest, gone = windows.values.astype(np.float64), removed[:, -1] * scale
    newest[:, -1] -= gone
    apart = np.where(taken, (units[:, -1] - expected[:, -1]) * scale, np.nan)
    less = replace(windows, values=newest, scaled=(scaled - removed).astype(scaled.dtype))
    return CorrectedWindows(less, apart, gone)


def sensors_off(detector: BundleDetector, window: OwnedWindow, sensors: Mask) -> list[Offset]:
    """See ``daemon.detector.Detector.sensors_off``."""
    scaler = detector.models.scaler
    level = detector.level_of(window)
    less = window.values - level
    found = explain(
        detector, less, window.condition, sensors.astype(np.float64), candidates=int(sensors.sum())
    )
    if found is None:
        return []
    rest = sensors & ~found.blamed & (np.nan_to_num(found.residual) > NORMAL)
    off = found.blamed | rest
    free = np.where(off, np.float32(np.inf), np.float32(0.0))[None]
    expected, _ = _without(detector, less[None], [window.condition], off[None], (-free, free))
    seen = np.isfinite(less)
    rows = np.maximum(seen.sum(0), 1)
    apart = np.where(seen, less - expected[0], 0.0).sum(0) / rows
    observed = np.where(seen, window.values, 0.0).sum(0) / rows
    width = detector.calibrated.residual_rms
    far = np.where(seen, np.abs(less - expected[0]), 0.0).sum(0) / rows
    off &= np.abs(apart) > ONE_SIDED * far
    order = sorted(np.flatnonzero(off).tolist(), key=lambda c: (rest[c], -abs(apart[c]) / width[c], c))
    raw = scaler.raw(observed[None])[0]
    return [Offset(c, float(apart[c] * scaler.scale[c]), float(raw[c]), bool(found.blamed[c])) for c in order]


def explained_by(detector: BundleDetector, window: OwnedWindow, sensors: Mask) -> Mask:
    """See ``daemon.detector.Detector.explained_by``; distances are root mean squares over the window, as in ``explanation``.

    A model follows the readings of a sensor that nothing else implies, wherever they are. So a sensor that seems to be explained is
    taken out as well: what the rest imply of it must be nearer to it than what the model made of all of them.
    """
    rules, less = detector.models.rules, window.values - detector.level_of(window)
    if rules is not None:
        less = np.where(rules.ignored, np.float32(np.nan), less)
    seen = np.isfinite(less).any(0) & detector.models.scaler.seen
    out = sensors & seen
    found = np.zeros_like(seen)
    if not 0 < out.sum() <= min(MOST, int(seen.sum()) - 2):
        return found

    def distances(expected: NDArray[Any]) -> Floats:
        off = np.square((less - expected) / detector.calibrated.residual_rms, dtype=np.float64)
        return np.asarray(np.sqrt(np.nanmean(np.where(seen, off, 0.0), axis=-2)))

    def without(taken: Mask) -> Floats:
        free = np.where(taken, np.float32(np.inf), np.float32(0.0))
        windows, labels = np.repeat(less[None], len(taken), 0), [window.condition] * len(taken)
        return distances(_without(detector, windows, labels, taken, (-free, free))[0])

    whole = detector.models.measure_scaled(less[None], (window.condition,), keep=True)
    before, left = distances(np.asarray(whole.decoded))[0], without(out[None])[0]
    which = np.flatnonzero(seen & ~sensors & (left < EXPLAINED * before) & (left < NORMAL))
    if len(which):
        implied = without(out | (np.arange(len(seen)) == which[:, None]))
        found[which] = implied[np.arange(len(which)), which] < before[which]
    return found


def _without(
    detector: BundleDetector,
    units: NDArray[Any],
    conditions: Sequence[str],
    taken: Mask,
    bounds: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(B, L, C) what is expected where some sensors (B, C) are taken out, and what is removed of these; in the detector's units.

    ``units`` (B, L, C) are windows less the levels of their assets.
    """
    below, above = (end[:, None] for end in bounds)
    tolerance = AGREES * detector.calibrated.residual_rms

    def decoded(shown: NDArray[Any], which: Ints) -> NDArray[Any]:
        labels = [conditions[i] for i in which.tolist()]
        return np.asarray(detector.models.measure_scaled(shown, labels, keep=True).decoded)

    todo = np.arange(len(units))
    out = taken[:, None]
    expected = np.array(decoded(np.where(out, np.float32(np.nan), units), todo))
    removed = np.zeros(units.shape, np.float32)
    for _ in range(ROUNDS):
        apart = np.where(out[todo], units[todo] - expected[todo], 0.0)
        removed[todo] = accepted_part(apart, below[todo], above[todo])
        less = units[todo] - removed[todo]
        expected[todo] = decoded(less, todo)
        moves = np.abs(np.nan_to_num(less - expected[todo])) > tolerance
        todo = todo[(moves & out[todo]).any((1, 2))]
        if not len(todo):
            break
    return expected, removed


def _off(left: NDArray[Any], below: NDArray[np.float32], above: NDArray[np.float32], unit: Floats) -> Floats:
    """(B, C) how far the sensors of windows (B, L, C) are off what is expected of them, in ``unit`` (C,); 0 where too little.

    ``left`` is the distance; only that to a side that was accepted counts.
    """
    seen = np.isfinite(left)
    mean = np.where(seen, left, 0.0).sum(1, dtype=np.float64) / np.maximum(seen.sum(1), 1)
    size = np.where(mean > 0, above, -below).astype(np.float64)
    enough = (size > 0) & ((np.abs(mean) > unit) | (np.abs(mean) > SHOWN * size))
    return np.where(enough, np.abs(mean) / unit, 0.0)
