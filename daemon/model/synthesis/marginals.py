"""Monotone maps from generated values to the distribution and the resolution of the readings.

Part 6 of the generator (see the package): per regime and sensor a quantile-to-quantile map, with atoms.
"""

from __future__ import annotations

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
)
from daemon.model.synthesis.noise import FEW_ROWS
from daemon.model.synthesis.tables import KNOTS

ATOMS = 12
ATOM_SHARE = 0.005
"""A value that makes up this share of a sensor's readings is one that it stops at."""
FEW_VALUES = 1_024
"""Up to so many different readings, each seen four times, are the only ones there are."""


def resolutions(x: Floats) -> tuple[Floats, Floats, Ints]:
    """Per sensor: its decimal step, or all the values there are, or neither."""
    step, values = np.zeros(x.shape[1]), []
    for c in range(x.shape[1]):
        column = x[np.isfinite(x[:, c]), c]
        different = np.unique(column)
        few = len(different) <= FEW_VALUES and 4 * len(different) <= len(column)
        values.append(different if few else np.zeros(0))
        step[c] = 0.0 if few else decimal_step(different)
    return step, np.concatenate(values), np.cumsum([0, *(len(v) for v in values)])


def decimal_step(different: Floats) -> float:
    """The largest power of ten that ascending, different values are multiples of; else a millionth of their spread.

    Values that went through single precision are multiples but for its rounding.
    """
    if len(different) < 3:
        return 0.0
    top = float(np.abs(different).max())
    gaps = np.diff(different)
    gaps = gaps[gaps > 2.4e-7 * top]
    for exponent in range(3, -10, -1):
        step = 10.0**exponent
        blur = 2.4e-7 * top / step
        if blur > 0.1 or not len(gaps) or step > 1.001 * float(gaps.min()):
            continue
        if float(np.abs(different / step - np.round(different / step)).max()) <= max(1e-6, blur):
            return step
    spread = float(different[-1] - different[0])
    return float(10.0 ** np.floor(np.log10(spread) - 6.0)) if spread > 0 else 0.0


def marginal_maps(made: Floats, at: Ints, x: Floats, real_at: Ints, G: int) -> tuple[Floats, Floats]:
    """Quantile to quantile, (G, C, KNOTS) each; a sensor that was never seen maps to 0."""
    C = made.shape[1]
    source, target = np.zeros((G, C, KNOTS)), np.zeros((G, C, KNOTS))
    ramp = np.arange(KNOTS) * 1e-9
    for c in range(C):
        seen = np.isfinite(x[:, c])
        if not seen.any():
            source[:, c] = ramp
            continue
        pooled = _knots(made[:, c], x[seen, c])
        for g in range(G):
            mine, real = made[at == g, c], x[seen & (real_at == g), c]
            own = min(len(mine), len(real)) >= FEW_ROWS
            source[g, c], target[g, c] = _knots(mine, real) if own else pooled
    return np.maximum.accumulate(source, 2) + ramp, target


def _knots(made: Floats, real: Floats) -> tuple[Floats, Floats]:
    """KNOTS points of the monotone map from one sample to the other, with the atoms of the second."""
    n = len(real)
    ordered = np.sort(real)
    values, begin, count = np.unique(ordered, return_index=True, return_counts=True)
    heavy = np.flatnonzero(count >= max(ATOM_SHARE * n, 3.0))
    heavy = np.sort(heavy[np.argsort(-count[heavy], kind="stable")[:ATOMS]])
    low, high = begin[heavy] / n, (begin[heavy] + count[heavy]) / n
    plain = KNOTS - 2 * len(heavy)
    tails = np.array([0.0, 0.002, 0.01, 0.99, 0.998, 1.0])
    shares = np.sort(np.concatenate([tails, np.linspace(0.025, 0.975, plain - len(tails))]))
    within = (low[:, None] < shares) & (shares < high[:, None])
    at = np.concatenate([shares, low + 1e-9, high - 1e-9])
    to = np.concatenate([np.quantile(ordered, shares, method="inverted_cdf"), values[heavy], values[heavy]])
    if len(heavy):
        to[: len(shares)][within.any(0)] = values[heavy][within.argmax(0)][within.any(0)]
    order = np.lexsort((to, at))
    at, to = np.clip(at[order], 0.0, 1.0), np.maximum.accumulate(to[order])
    return np.quantile(made, at), to
