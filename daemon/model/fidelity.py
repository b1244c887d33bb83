"""How similar synthetic series are to real ones: pure measures over several stretches of rows.

A stretch is (T, C) raw rows of one asset, NaN where missing; no measure spans two stretches. ``real`` are
rows that training has not used. Good values are relative: real rows of two periods differ too, so each
measure is best compared with that of training against held-out rows.

* ``marginals``: per sensor the Kolmogorov-Smirnov distance of the readings. Good: .1 at most.
* ``correlation_error``: mean distance of the sensors' correlations. Good: .1.
* ``autocorrelation_error``: mean distance of the autocorrelations at a lag. Good: .05 at each lag.
* ``spectrum_error``: mean distance of the cumulative normalised spectra. Good: .05.
* ``seam``: how much larger the usual steps between rows are where two windows join. Good: .8 to 1.25.
* ``memorisation``: whether synthetic windows are nearer to training windows than held-out ones are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import Floats, Ints, Mask
from daemon.model.segments import bridged, sliding

SPECTRUM_ROWS = 64
"""Rows of a stretch that one periodogram is of."""
MOST_WINDOWS = 800
MOST_TRAINING = 20_000


def marginals(real: Sequence[Floats], made: Sequence[Floats]) -> Floats:
    """(C,) largest distance of the two empirical distribution functions; NaN where either is empty."""
    one, other = np.concatenate(real), np.concatenate(made)
    result = np.full(one.shape[1], np.nan)
    for c in range(one.shape[1]):
        a, b = (np.sort(x[np.isfinite(x[:, c]), c]) for x in (one, other))
        if len(a) and len(b):
            every = np.concatenate([a, b])
            shares = [np.searchsorted(x, every, side="right") / len(x) for x in (a, b)]
            result[c] = np.abs(shares[0] - shares[1]).max()
    return result


def correlation_error(real: Sequence[Floats], made: Sequence[Floats]) -> float:
    """Mean |difference| over pairs of sensors that vary in both; NaN with fewer than two of them."""
    one, other = np.concatenate(real), np.concatenate(made)
    alive = _varies(one) & _varies(other)
    if alive.sum() < 2:
        return float("nan")
    distance = np.abs(_correlation(one[:, alive]) - _correlation(other[:, alive]))
    return float(distance[np.triu_indices(int(alive.sum()), 1)].mean())


def _varies(x: Floats) -> Mask:
    with np.errstate(all="ignore"):
        spread = np.nanmax(np.where(np.isfinite(x), x, -np.inf), 0) - np.nanmin(
            np.where(np.isfinite(x), x, np.inf), 0
        )
    return np.asarray(np.isfinite(spread) & (spread > 0))


def _correlation(x: Floats) -> Floats:
    """Over the rows on which both of a pair were seen."""
    seen = np.isfinite(x)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, x, 0.0).sum(0) / count
    off = np.where(seen, x - mean, 0.0)
    sd = np.sqrt((off**2).sum(0) / count)
    unit = off / np.maximum(sd, 1e-300)
    return np.asarray(unit.T @ unit / np.maximum(seen.T.astype(float) @ seen, 1.0))


def autocorrelation(stretches: Sequence[Floats], lags: Sequence[int]) -> Floats:
    """(lags, C) about the mean of all stretches; NaN for a constant sensor, or no such pair."""
    every = np.concatenate(stretches)
    seen = np.isfinite(every)
    count = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, every, 0.0).sum(0) / count
    variance = (np.where(seen, every - mean, 0.0) ** 2).sum(0) / count
    still = variance <= 1e-18 * np.maximum(mean**2, 1e-300)
    result = np.full((len(lags), every.shape[1]), np.nan)
    for i, lag in enumerate(lags):
        total, pairs = np.zeros(every.shape[1]), np.zeros(every.shape[1])
        for rows in stretches:
            if len(rows) > lag:
                product = (rows[lag:] - mean) * (rows[: len(rows) - lag] - mean)
                both = np.isfinite(product)
                total += np.where(both, product, 0.0).sum(0)
                pairs += both.sum(0)
        fine = ~still & (pairs > 0)
        result[i, fine] = total[fine] / pairs[fine] / variance[fine]
    return result


def autocorrelation_error(real: Sequence[Floats], made: Sequence[Floats], lags: Sequence[int]) -> Floats:
    """(lags,) mean |difference| over the sensors that move in both; NaN if none does."""
    distance = np.abs(autocorrelation(real, lags) - autocorrelation(made, lags))
    count = np.isfinite(distance).sum(1)
    total = np.where(np.isfinite(distance), distance, 0.0).sum(1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def spectrum(stretches: Sequence[Floats], rows: int = SPECTRUM_ROWS) -> Floats:
    """(rows // 2, C) share of the variance up to each frequency: mean periodograms, summed up and normalised.

    Gaps are bridged by lines; a piece with less than 80 % of its readings is left out. NaN for a sensor
    without variance, or without a piece.
    """
    C = stretches[0].shape[1]
    taper = np.hanning(rows)[:, None]
    power, pieces = np.zeros((rows // 2, C)), np.zeros(C)
    for stretch in stretches:
        for at in range(0, len(stretch) - rows + 1, rows // 2):
            piece = stretch[at : at + rows]
            whole = np.isfinite(piece).mean(0) >= 0.8
            line = bridged(np.where(whole, piece, 0.0))
            off = np.where(whole, line - line.mean(0), 0.0)
            power += np.abs(np.fft.rfft(off * taper, axis=0)[1 : rows // 2 + 1]) ** 2
            pieces += whole
    total = power.sum(0)
    good = (pieces > 0) & (total > 0)
    return np.asarray(np.where(good, np.cumsum(power, 0) / np.where(good, total, 1.0), np.nan))


def spectrum_error(real: Sequence[Floats], made: Sequence[Floats]) -> float:
    """Mean |difference| of ``spectrum`` over frequencies and sensors; NaN if there is none to compare."""
    distance = np.abs(spectrum(real) - spectrum(made))
    fine = np.isfinite(distance)
    return float(distance[fine].mean()) if fine.any() else float("nan")


def seam(made: Sequence[Floats], hop: int) -> float:
    """Mean step onto rows 0, hop, 2 hop ... of a stretch over that onto the others, median over sensors.

    Steps are absolute values, capped at their 90 % quantile: a start or a stop of the machine is no seam,
    wherever it is. 1: windows join without a visible seam. NaN with a hop of one, or if no sensor moves.
    """
    steps = np.abs(np.concatenate([np.diff(rows, axis=0) for rows in made]))
    meets = np.concatenate([np.arange(1, len(rows)) % hop == 0 for rows in made])
    ratios = []
    for column in steps.T:
        seen = np.isfinite(column)
        if not (seen & meets).any() or not (seen & ~meets).any():
            continue
        usual = np.minimum(column, np.quantile(column[seen], 0.9))
        elsewhere = float(usual[seen & ~meets].mean())
        if elsewhere > 0.0:
            ratios.append(float(usual[seen & meets].mean()) / elsewhere)
    return float(np.median(ratios)) if ratios else float("nan")


def windows(stretches: Sequence[Floats], length: int, stride: int) -> tuple[Floats, Ints]:
    """(B, L, C) whole windows every ``stride`` rows, and (B,) the stretch that each is of.

    Sensors that no stretch ever shows do not count as gaps.
    """
    some = [sliding(rows, length)[::stride] for rows in stretches]
    every = np.concatenate(some)
    of = np.repeat(np.arange(len(some)), [len(x) for x in some])
    shown = np.isfinite(every).any((0, 1)) if len(every) else np.zeros(every.shape[2], bool)
    whole = np.isfinite(every[:, :, shown]).all((1, 2)) & shown.any()
    return every[whole], of[whole]


@dataclass(frozen=True, slots=True)
class Memorisation:
    """RMS distances, in standard deviations of training, to the nearest training window.

    ``nearer`` is the share of synthetic windows that are nearer than 5 % of the held-out ones are.
    Passed: the synthetic windows' median is no less than 90 % of the held-out windows', and no more
    than one in ten is nearer than one in twenty of those.
    """

    held_out: float  # medians
    made: float
    nearer: float

    @property
    def passed(self) -> bool:
        return self.made >= 0.9 * self.held_out and self.nearer <= 0.1


def memorisation(
    train: Sequence[Floats], held_out: Sequence[Floats], made: Sequence[Floats], length: int
) -> Memorisation | None:
    """See ``Memorisation``; None where one of the three has no whole window."""
    known = windows(train, length, 1)[0]
    two = [windows(x, length, max(length // 2, 1))[0] for x in (held_out, made)]
    if not len(known) or not all(len(x) for x in two):
        return None
    known = _even(known, MOST_TRAINING)
    shown = np.isfinite(known).all((0, 1))
    flat = known[:, :, shown].reshape(-1, int(shown.sum()))
    mean, sd = flat.mean(0), flat.std(0)
    sd = np.where(sd > 0, sd, 1.0)
    base = ((known[:, :, shown] - mean) / sd).reshape(len(known), -1)
    square = (base**2).sum(1)
    distances = []
    for some in two:
        mine = ((_even(some, MOST_WINDOWS)[:, :, shown] - mean) / sd).reshape(-1, base.shape[1])
        nearest = [
            ((x**2).sum(1)[:, None] + square - 2.0 * x @ base.T).min(1)
            for x in np.array_split(mine, max(len(mine) // 128, 1))
        ]
        distances.append(np.sqrt(np.maximum(np.concatenate(nearest), 0.0) / base.shape[1]))
    held, own = distances
    return Memorisation(
        float(np.median(held)), float(np.median(own)), float((own < np.quantile(held, 0.05)).mean())
    )


def _even(x: Floats, most: int) -> Floats:
    return x if len(x) <= most else x[np.linspace(0, len(x) - 1, most).astype(int)]
