"""Fit the tables of the generator to the history that the models were trained on.

The order of the random draws is part of the result: the same history, models and seed give the same tables,
to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    NO_CONDITION,
    Floats,
    Ints,
    Mask,
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
"""Fewer windows say too little about transitions."""
VISITS = 10
"""Windows per cell, about. A cell of two would repeat the training windows, one of a hundred would
mix states."""
MOST_CELLS = 512
MOST_TABLE = 131_072
"""Numbers in the largest table, cells x rows x sensors."""
REGIMES = 12
"""States with noise and marginals of their own, at most: for example on, off, and the transitions between them."""
WAYS = 64
"""Clusters of the last four windows, so that a change of visit keeps the phase of a cycle."""
REGIME_ROWS = 600
"""Rows per regime, on average, at least: fewer rows give fewer regimes."""
CALIBRATION = (256, 12)
"""Series and hops of the run that the maps are fitted on."""


def fit(history: Sequence[Segment], models: Models, conditions: Sequence[str], seed: int) -> Synthesis | None:
    """``_fit``; None where extreme readings lead to no finite result."""
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
    """Learn the transitions, the noise and the marginals of these assets. Deterministic.

    Args:
        history: what the models were trained on, without the levels of its assets.
        models: scaler and models of it.
        conditions: the labels of the bundle.
        seed: of the clusters' starts and the run that the maps are fitted on.

    Returns:
        None if there are too few windows, or a window has a single row.
    """
    h = models.window // 2
    if h < 1:
        return None
    runs = usable_runs(history, models, models.window, h)
    if sum(run.count for run in runs) < FEWEST_WINDOWS:
        return None
    rng = np.random.default_rng(seed)
    windows = _Windows.of(history, models, conditions, runs)
    cells = _Cells.of(windows, models, conditions, rng)
    rows = _Rows.of(history, windows, cells, models)
    K, G = len(cells.regime), int(cells.regime.max()) + 1
    fade = fade_weights(h)
    level, surplus = mean_levels(rows.off, rows.cell, rows.before, rows.row, K, h)
    D = rows.off
    D = D - fade[rows.row] * level[rows.cell, rows.row]
    D = D - fade[h + rows.row] * level[rows.before, h + rows.row]
    at_regime = cells.regime[rows.cell]
    slope = slopes(D, rows.varies, at_regime, G)
    noise = fit_noise(D - slope[at_regime] * rows.varies, rows.cell, cells.regime, surplus, rows.fresh)
    names, asset, time = _owners(history, runs, h)
    when = AssetTimes(time, asset, 2 * HOLD * h)
    wander, together = fit_wander(
        when, cells.seen, windows.decoded.mean(1), cells.regime[cells.path], windows.follows, rng
    )
    ends = windows.starts[1:] - 1
    going_on = np.flatnonzero(windows.follows >= 0)
    way = way_here(cells.seen, windows.starts)
    bridges = going_on[when.alike(way[ends], ends, way[going_on], going_on, CANDIDATES)[0]]
    step, values, first = resolutions(rows.raw if models.levels is None else rows.raw + rows.level)
    C = rows.raw.shape[1]
    made = Synthesis(
        path=cells.path,
        follows=windows.follows,
        past=kmeans(way, min(WAYS, cells.table), rng),
        label=windows.label,
        asset=asset,
        strata=np.argsort(time, kind="stable"),
        ends=ends,
        bridges=bridges,
        mean=windows.mean,
        turn=windows.turn,
        centre=cells.centre,
        spread=cells.spread,
        carry=cells.carry,
        push=cells.push,
        regime=cells.regime,
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
    source, target = marginal_maps(out.reshape(-1, C), regimes.reshape(-1), rows.raw, at_regime, G)
    return Synthesis.of(dataclasses.replace(made, source=source, target=target).arrays())


@dataclass(frozen=True, slots=True, eq=False)
class _Windows:
    """Training's n windows, one hop apart within each run, and what the models make of them."""

    runs: Sequence[Run]
    scaled: Mapping[int, NDArray[np.float32]]  # segment -> (T, C)
    label: Ints  # (n,) number of the condition, -1: none
    starts: Ints  # (runs + 1,) where each run's windows begin
    follows: Ints  # (n,) the window one hop later, -1 at an end
    mean: Floats  # (Z0,) of the posterior means
    turn: Floats  # (Z, Z0) whitened latents to latents
    whitened: Floats  # (n, Z)
    decoded: Floats  # (n, L, C) scaled units

    @staticmethod
    def of(
        history: Sequence[Segment], models: Models, conditions: Sequence[str], runs: Sequence[Run]
    ) -> _Windows:
        """Measure and decode the windows of the runs."""
        L = models.window
        h = L // 2
        scaled = {i: models.scaler.scaled(history[i].values) for i in sorted({r.segment for r in runs})}
        windows = np.concatenate(
            [sliding(scaled[r.segment], L)[r.start : r.start + r.count * h : h] for r in runs]
        )
        labels = [label for r in runs for label in _labels(history[r.segment], r, L, h)]
        known = {label: i for i, label in enumerate(conditions)}
        posterior = models.measure_scaled(windows, labels).posterior
        mean, turn, y = whitened(posterior)
        starts = np.cumsum([0, *(r.count for r in runs)])
        follows = np.arange(1, len(windows) + 1)
        follows[starts[1:] - 1] = -1
        return _Windows(
            runs=runs,
            scaled=scaled,
            label=np.array([known.get(x, -1) for x in labels]),
            starts=starts,
            follows=follows,
            mean=mean,
            turn=turn,
            whitened=y,
            decoded=decode_latents(models, posterior, labels).reshape(windows.shape),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The clusters that the windows' path goes through: K cells, merged to G regimes."""

    seen: Floats  # (n, d) leading directions of the decoded windows
    table: int  # cells that were aimed at
    path: Ints  # (n,) the cell of each window
    centre: Floats  # (K, Z) whitened
    spread: Floats  # (K,)
    carry: Floats  # (2, Z, Z) see ``Synthesis``
    push: Floats  # (2, Z, Z)
    decoded: Floats  # (K, L, C) the cells' centres, scaled units
    regime: Ints  # (K,)

    @staticmethod
    def of(windows: _Windows, models: Models, conditions: Sequence[str], rng: np.random.Generator) -> _Cells:
        """Cluster the windows."""
        n, L, C = windows.decoded.shape
        h = L // 2
        flat = windows.decoded.reshape(n, -1)
        axes = directions(flat, rng)
        seen = (flat - flat.mean(0)) @ axes
        table = max(min(MOST_CELLS, MOST_TABLE // max(2 * h * C, 1), n // VISITS), 1)
        cluster = kmeans(with_past(seen, windows.starts), table, rng)
        # Windows under two conditions are never one state, however alike they look.
        path = np.unique(np.stack([cluster, windows.label]), axis=1, return_inverse=True)[1].reshape(-1)
        K = int(path.max()) + 1
        visits = np.bincount(path, minlength=K).astype(float)
        centre = group_sums(path, windows.whitened, K) / visits[:, None]
        of_cell = np.zeros(K, np.int64)
        of_cell[path] = windows.label
        spread, carry, push = within_cells(windows.whitened - centre[path], path, windows.follows, K)
        named = [label_of(conditions, i) for i in of_cell.tolist()]
        decoded = decode_latents(models, centre @ windows.turn + windows.mean, named)
        count = min(REGIMES, K, max(n * h // REGIME_ROWS, 1))
        regime = kmeans((decoded - decoded.mean(0)) @ axes, count, rng)
        return _Cells(seen, table, path, centre, spread, carry, push, decoded.reshape(K, L, C), regime)


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """N rows on which one window fades into the next: the readings beside the decoder's output."""

    off: Floats  # (N, C) readings minus the faded cell centres, scaled units; NaN where not observed
    varies: Floats  # (N, C) the faded decoded windows minus the faded cell centres
    raw: Floats  # (N, C) the readings without their assets' levels, raw units
    level: Floats  # (N, C) these levels; (1, 1) zero if there are none
    cell: Ints  # (N,) the later window's cell
    before: Ints  # (N,) the earlier window's cell
    row: Ints  # (N,) which row of the hop
    fresh: Mask  # (N,) rows that do not follow the one before

    @staticmethod
    def of(history: Sequence[Segment], windows: _Windows, cells: _Cells, models: Models) -> _Rows:
        """The rows of all runs, one run after the other."""
        h = cells.decoded.shape[1] // 2
        fade = fade_weights(h)
        off, varies, raw, cell, before, begins = [], [], [], [], [], [0]
        assets: list[str] = []
        for run, at in zip(windows.runs, windows.starts[:-1].tolist(), strict=True):
            mine = cells.path[at : at + run.count]
            rows = slice(run.start + h, run.start + run.count * h)
            base = faded(cells.decoded[mine], fade, h)
            off.append(windows.scaled[run.segment][rows] - base)
            varies.append(faded(windows.decoded[at : at + run.count], fade, h) - base)
            raw.append(history[run.segment].values[rows])
            cell.append(np.repeat(mine[1:], h))
            before.append(np.repeat(mine[:-1], h))
            assets += [history[run.segment].asset] * ((run.count - 1) * h)
            begins.append(begins[-1] + (run.count - 1) * h)
        levels = models.levels
        fresh = np.zeros(begins[-1], bool)
        fresh[begins[:-1]] = True
        return _Rows(
            off=np.concatenate(off).astype(float),
            varies=np.concatenate(varies),
            raw=np.concatenate(raw),
            level=np.zeros((1, 1)) if levels is None else levels.known(assets) * models.scaler.scale,
            cell=np.concatenate(cell),
            before=np.concatenate(before),
            row=np.tile(np.arange(h), begins[-1] // h),
            fresh=fresh,
        )


def _owners(history: Sequence[Segment], runs: Sequence[Run], h: int) -> tuple[tuple[str, ...], Ints, Ints]:
    """The assets' names, and each window's asset (a number among them) and first row."""
    names = tuple(dict.fromkeys(history[r.segment].asset for r in runs))
    number = {name: i for i, name in enumerate(names)}
    time = np.concatenate([history[r.segment].first_row + r.start + h * np.arange(r.count) for r in runs])
    asset = np.repeat([number[history[r.segment].asset] for r in runs], [r.count for r in runs])
    return names, asset, time


def _labels(segment: Segment, run: Run, L: int, h: int) -> list[str]:
    if not segment.condition:
        return [NO_CONDITION] * run.count
    return [segment.condition[run.start + k * h + L - 1] for k in range(run.count)]
