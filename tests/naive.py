"""Slow and obvious versions of fast code, to check it against."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from daemon.domain import AlarmPolicy, Floats, Mask
from daemon.policy import Alarm, State


def conditional_mean(
    covariance: Callable[[tuple[int, int], tuple[int, int]], float],
    known: Sequence[tuple[int, int]],
    values: Sequence[float],
    wanted: tuple[int, int],
) -> float:
    """E[wanted | known = values] of a zero-mean Gaussian, from its covariance function."""
    among = np.array([[covariance(a, b) for b in known] for a in known])
    towards = np.array([covariance(a, wanted) for a in known])
    return float(towards @ np.linalg.inv(among) @ np.array(values))


def ppca_fill(x: Floats, gaps: Mask, mean: Floats, basis: Floats, variance: Floats, noise: float) -> Floats:
    """Fill the gaps of one window by conditioning the full pPCA covariance."""
    d = len(x)
    U = basis.astype(float)
    cov = U @ np.diag(variance.astype(float)) @ U.T + noise * (np.eye(d) - U @ U.T)
    o, filled = ~gaps, x.astype(float).copy()
    gain = cov[np.ix_(gaps, o)] @ np.linalg.inv(cov[np.ix_(o, o)])
    filled[gaps] = mean[gaps] + gain @ (x[o] - mean[o])
    return filled


def slow_baseline(excess: Floats, state: Floats, slots: list[int], step: float) -> Floats:
    """The slow baseline, window by window, cell by cell."""
    before = np.zeros_like(excess)
    for i, slot in enumerate(slots):
        for p in range(excess.shape[1]):
            before[i, p] = state[slot, p]
            if not math.isnan(excess[i, p]):
                pull = max(-1.0, min(1.0, (excess[i, p] - state[slot, p]) / 2.0))
                state[slot, p] = max(state[slot, p] + step * pull, 0.0)
    return before


def replayed_episodes(series: list[Floats], threshold: float, policy: AlarmPolicy) -> int:
    """Episodes that the alarm machine opens over separate series, step by step."""
    opened = 0
    for one in series:
        alarm = Alarm()
        for score in one:
            if math.isnan(score):
                continue
            was = alarm.state
            opened += alarm.step(float(score), threshold, policy) is State.FIRING and was is not State.FIRING
    return opened


def gridded(
    rows: Sequence[tuple[str, int | None, dict[str, float | None]]], sensors: Sequence[str], max_gap: int
) -> list[tuple[str, int, list[list[float]]]]:
    """Rows (asset, grid row, values) as segments (asset, first row, values), row by row."""
    grids: dict[str, dict[int, list[float]]] = {}
    for asset, row, values in rows:
        if row is None:
            continue
        cells = grids.setdefault(asset, {}).setdefault(row, [math.nan] * len(sensors))
        for c, name in enumerate(sensors):
            value = values.get(name)
            if value is not None and math.isnan(cells[c]):
                cells[c] = value
    assets = list(dict.fromkeys(asset for asset, _, _ in rows))
    found: list[tuple[str, int, list[list[float]]]] = []
    for asset in assets:
        grid = grids.get(asset, {})
        last: int | None = None
        for row in sorted(grid):
            if last is None or row - last > max_gap:
                found.append((asset, row, []))
            else:
                found[-1][2].extend([math.nan] * len(sensors) for _ in range(row - last - 1))
            found[-1][2].append(grid[row])
            last = row
    return found
