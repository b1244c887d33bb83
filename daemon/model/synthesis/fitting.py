"""Fit the tables of the generator to the history that the models were trained on.

The order of the random draws is part of the result: the same history, models and seed give the same tables,
to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from daemon.domain import (
    NO_CONDITION,
    Segment,
)
from daemon.model.reconstruction import Models
from daemon.model.segments import sliding
from daemon.model.synthesis.generator import HOLD, Walk
from daemon.model.synthesis.marginals import marginal_maps, resolutions
from daemon.model.synthesis.noise import faded, fit_noise, fit_wander, mean_levels, slopes
from daemon.model.synthesis.tables import (
    CANDIDATES,
    GRID,
    KNOTS,
    Synthesis,
    decode_latents,
    fade_weights,
    label_of,
)
from daemon.model.synthesis.transitions import (
    AssetTimes,
    Run,
    directions,
    group_sums,
    kmeans,
    usable_runs,
    way_here,
    whitened,
    with_past,
    within_cells,
)

FEWEST_WINDOWS = 24
"""Fewer tell nothing of what follows what."""
VISITS = 10
"""Windows per cell, about. A cell of two would give back what was seen, one of a hundred would
mix states."""
MOST_CELLS = 512
MOST_TABLE = 131_072
"""Numbers in the largest table, cells x rows x sensors."""
REGIMES = 12
"""States with noise and marginals of their own: on, off, and how one gets there."""
WAYS = 64
"""Clusters of what the last four windows were like, so that a change of visit keeps the phase of a cycle."""
REGIME_ROWS = 600
"""Rows for which there is a regime, on average, at least."""
CALIBRATION = (256, 12)
"""Series and hops of the run that the maps are fitted on."""


def fit(history: Sequence[Segment], models: Models, conditions: Sequence[str], seed: int) -> Synthesis | None:
    """``_fit``, if anything finite comes of it: readings may be odd beyond measure."""
    with np.errstate(all="ignore"):
        try:
            made = _fit(history, models, conditions, seed)
        except (np.linalg.LinAlgError, FloatingPointError):
            return None
    if made is None or not all(np.isfinite(array).all() for array in made.arrays().values()):
        return None
    return made


def _fit(
    history: Sequence[Segment], models: Models, conditions: Sequence[str], seed: int
) -> Synthesis | None:
    """Learn how series of these assets go. Deterministic.

    Args:
        history: what the models were trained on.
        models: scaler and models of it.
        conditions: the labels that the bundle knows.
        seed: of the clusters' starts and the run that the maps are fitted on.

    Returns:
        None if there are too few windows, or a window has a single row.
    """
    L, C = models.window, len(models.sigma)
    h = L // 2
    if h < 1:
        return None
    runs = usable_runs(history, models, L, h)
    n = sum(run.count for run in runs)
    if n < FEWEST_WINDOWS:
        return None
    rng = np.random.default_rng(seed)
    scaled = {i: models.scaler.scaled(history[i].values) for i in sorted({r.segment for r in runs})}
    windows = np.concatenate(
        [sliding(scaled[r.segment], L)[r.start : r.start + r.count * h : h] for r in runs]
    )
    told = [_labels(history[r.segment], r, L, h) for r in runs]
    labels = [label for some in told for label in some]
    known = {label: i for i, label in enumerate(conditions)}
    label = np.array([known.get(x, -1) for x in labels])
    mu = models.measure_standard(windows, labels).posterior
    mean, turn, y = whitened(mu)
    decoded = decode_latents(models, mu, labels).reshape(n, L, C)

    starts = np.cumsum([0, *(r.count for r in runs)])
    follows = np.arange(1, n + 1)
    follows[starts[1:] - 1] = -1
    axes = directions(decoded.reshape(n, -1), rng)
    seen = (decoded.reshape(n, -1) - decoded.reshape(n, -1).mean(0)) @ axes
    table = max(min(MOST_CELLS, MOST_TABLE // max(2 * h * C, 1), n // VISITS), 1)
    state = with_past(seen, starts)
    cluster = kmeans(state, table, rng)
    # Windows under two conditions are never one state, however alike they look.
    path = np.unique(np.stack([cluster, label]), axis=1, return_inverse=True)[1].reshape(-1)
    K = int(path.max()) + 1
    visits = np.bincount(path, minlength=K).astype(float)
    centre = group_sums(path, y, K) / visits[:, None]
    of_cell = np.zeros(K, np.int64)
    of_cell[path] = label
    spread, carry, push = within_cells(y - centre[path], path, follows, K)
    cells = decode_latents(models, centre @ turn + mean, [label_of(conditions, i) for i in of_cell.tolist()])
    regime = kmeans((cells - cells.mean(0)) @ axes, min(REGIMES, K, max(n * h // REGIME_ROWS, 1)), rng)
    G = int(regime.max()) + 1

    # The readings beside the faded windows, row by row.
    fade = fade_weights(h)
    d0 = cells.reshape(K, L, C)
    off, dev, raw, cell, before, starts_of_rows = [], [], [], [], [], [0]
    for r, at in zip(runs, starts[:-1].tolist(), strict=True):
        mine = path[at : at + r.count]
        rows = slice(r.start + h, r.start + r.count * h)
        base = faded(d0[mine], fade, h)
        off.append(scaled[r.segment][rows] - base)
        dev.append(faded(decoded[at : at + r.count], fade, h) - base)
        raw.append(history[r.segment].values[rows])
        cell.append(np.repeat(mine[1:], h))
        before.append(np.repeat(mine[:-1], h))
        starts_of_rows.append(starts_of_rows[-1] + (r.count - 1) * h)
    D, V, x = np.concatenate(off).astype(float), np.concatenate(dev), np.concatenate(raw)
    at_cell, at_before = np.concatenate(cell), np.concatenate(before)
    row = np.tile(np.arange(h), len(D) // h)
    level, surplus = mean_levels(D, at_cell, at_before, row, K, h)
    D = D - fade[row] * level[at_cell, row] - fade[h + row] * level[at_before, h + row]
    at_regime = regime[at_cell]
    slope = slopes(D, V, at_regime, G)
    fresh = np.zeros(len(D), bool)
    fresh[starts_of_rows[:-1]] = True
    noise = fit_noise(D - slope[at_regime] * V, at_cell, regime, surplus, fresh, G, K)
    names = tuple(dict.fromkeys(history[r.segment].asset for r in runs))
    number = {name: i for i, name in enumerate(names)}
    time = np.concatenate([history[r.segment].first_row + r.start + h * np.arange(r.count) for r in runs])
    asset = np.repeat([number[history[r.segment].asset] for r in runs], [r.count for r in runs])
    when = AssetTimes(time, asset, 2 * HOLD * h)
    wander, together = fit_wander(when, seen, decoded.mean(1), regime[path], follows, G, rng)
    ends = starts[1:] - 1
    going_on = np.flatnonzero(follows >= 0)
    way = way_here(seen, starts)
    bridges = going_on[when.alike(way[ends], ends, way[going_on], going_on, CANDIDATES)[0]]
    step, values, first = resolutions(x)
    made = Synthesis(
        path=path,
        follows=follows,
        past=kmeans(way, min(WAYS, table), rng),
        label=label,
        asset=asset,
        strata=np.argsort(time, kind="stable"),
        ends=ends,
        bridges=bridges,
        mean=mean,
        turn=turn,
        centre=centre,
        spread=spread,
        carry=carry,
        push=push,
        regime=regime,
        level=level,
        slope=slope,
        scale=noise.scale,
        noise=noise.quantiles,
        rho=noise.rho,
        mix=noise.mix,
        wander=wander,
        together=together,
        source=np.broadcast_to(GRID[0] + np.arange(KNOTS) * 1.0, (G, C, KNOTS)),
        target=np.zeros((G, C, KNOTS)),
        step=step,
        values=values,
        first=first,
        names=names,
    )
    made = Synthesis.of(made.arrays())  # as it will be read back
    count, hops = CALIBRATION
    walk = Walk(made, models, conditions, count, np.random.default_rng([seed, 1]))
    out, regimes, _ = walk.unmapped(hops)
    source, target = marginal_maps(out.reshape(-1, C), regimes.reshape(-1), x, at_regime, G)
    return Synthesis.of(dataclasses.replace(made, source=source, target=target).arrays())


def _labels(segment: Segment, run: Run, L: int, h: int) -> list[str]:
    if not segment.condition:
        return [NO_CONDITION] * run.count
    return [segment.condition[run.start + k * h + L - 1] for k in range(run.count)]
