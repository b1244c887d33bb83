"""Synthetic series: hours of an asset that never was, from what a model learned of those that were.

The decoder draws windows; a series is more than windows. What is needed beyond ``z ~ N(0, I)``:

1. **Where the latents go.** The aggregate posterior is not N(0, I), and what follows what is in no
   prior. So training's windows, half a window (one *hop*) apart, become a path through *cells*:
   clusters of posterior means, seen through the decoder (what moves the window counts, not what
   moves the latents), together with two moving averages of the past, so that "has just been
   switched on" and "has long been on" are two cells. A series walks along the path, and now and
   then (on average every ``HOLD`` hops) goes on from another visit to the same cell; of a few such
   visits it takes the one that was used least. So what follows what, how long a state lasts and
   how often it is seen are those of training, and the order is new. Kept are the numbers of the
   cells, no reading.
2. **Where in the cell.** Latents = centre + spread * v, with v a vector autoregression over hops
   whose matrix differs between staying and moving.
3. **Windows overlap and agree.** Neighbours share half a window and fade into each other, with
   weights that add up to one. The same fading, of training's own windows, is what everything
   below is fitted against: there is no seam that the fit has not seen.
4. **What the decoder leaves.** A mean per cell and row of the hop (shrunk by the windows it is
   of); the share of the decoder's variation that the readings follow (a regression, so that what
   remains is not explained by it); and the noise: per regime (cells merged to ``REGIMES``) a
   Gaussian copula over the sensors, an autocorrelation and a distribution per sensor, and per
   cell a scale.
5. **Levels of its own.** Two stretches of real rows in the same state differ in level. Each series
   wanders by as much as windows in one state do at two times, slowly; without it synthetic windows
   lie closer to the training windows than held-out ones do.
6. **Marginals.** What comes out of 1 to 5 is mapped, per regime and sensor, monotonously onto the
   readings' distribution, with its atoms (a valve at 0, a constant) and its resolution (decimals,
   or the values themselves where there are few). Nothing leaves the range of training.

The bundle stores the tables of this, about a megabyte for 40 sensors. A bundle from before has
none: ``PriorSeries`` then draws from the prior, each window given its predecessor's last rows.

Sources: pseudo-Gibbs by encoder and decoder, Rezende, Mohamed & Wierstra (2014), Mattei & Frellsen
(2018); the aggregate posterior as the better prior, Tomczak & Welling (2018); resampling along
neighbours, Rajagopalan & Lall (1999); Gaussian copulas with free marginals, Cario & Nelson (1996).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from daemon.domain import (
    NO_CONDITION,
    Floats,
    Ints,
    Mask,
    Segment,
)
from daemon.errors import BundleError
from daemon.model.pca import WindowPCA
from daemon.model.reconstruction import Models
from daemon.model.segments import sliding

MOST_WINDOWS = 6_000
"""Windows of the path: enough for 512 cells of a dozen visits, and a second of fitting."""
MOST_PHASES = 4
"""The path is walked this often, each time a part of a hop later: more visits of each state."""
FEWEST_WINDOWS = 24
"""Fewer tell nothing of what follows what."""
RUN = 64
"""Hops that are taken in one piece where the history has to be thinned."""
VISITS = 10
"""Windows per cell, about. A cell of two would give back what was seen, one of a hundred would
mix states."""
MOST_CELLS = 512
MOST_TABLE = 131_072
"""Numbers in the largest table, cells x rows x sensors."""
REGIMES = 12
"""States with noise and marginals of their own: on, off, and how one gets there."""
SHARE = 0.95
"""Share of the decoded windows' variance that cells are told apart by."""
MOST_DIRECTIONS = 10
"""More would cluster noise: distances grow alike in many dimensions."""
MEMORIES = (2.0, 8.0)
"""Hops over which the two moving averages of the past forget: one window, and four."""
MEMORY_WEIGHT = 0.5
"""What has been counts half of what is."""
HOLD = 32
"""Hops from one change of visit to the next, on average: sixteen windows, long against the four over
which the autocorrelation is to be kept."""
CANDIDATES = 8
"""Visits to choose from at a change: taken is one from the time of training that was drawn from least."""
WAYS = 64
"""Clusters of what the last four windows were like, so that a change of visit keeps the phase of a cycle."""
PARTS = 64
"""Parts of training's time that this is counted by."""
SLOW = 32
"""Hops over which a series' own level forgets: slow against a window, so that it is a level."""
LASTING = 8
"""Hops after which a level that is still off counts as a level: four windows."""
AMPLE = 3.0
"""How much further a series' level wanders than the most alike window of another time is off: that one
was chosen for being alike. Measured on six data sets: with 1 or 2, synthetic windows lie nearer to the training
windows than held-out ones do on some; with 3 on none by more than 3 %, while KS and a discriminator's AUC change by
at most .006 and .05."""
PRIOR_ROWS = 16.0
PRIOR_VISITS = 2.0
PRIOR_LEVELS = 8.0
"""What a table's pooled value counts for, in rows, visits and levels."""
FARTHEST = 6.0
"""Standard deviations within a cell."""
GRID = np.linspace(-3.25, 3.25, 27)
"""Normal scores at which a noise's distribution is tabulated."""
KNOTS = 48
"""Points of each marginal map."""
ATOMS = 12
ATOM_SHARE = 0.005
"""A value that makes up this share of a sensor's readings is one that it stops at."""
REGIME_ROWS = 600
"""Rows for which there is a regime, on average, at least."""
FEW_ROWS = 100
"""Rows of a regime from which its sensors have a distribution and a map of their own."""
FEW_VALUES = 1_024
"""Up to so many different readings, each seen four times, are the only ones there are."""
CALIBRATION = (256, 12)
"""Series and hops of the run that the maps are fitted on."""
CHUNK_ROWS = 8_192
"""Rows that are made at once, all assets together."""
_FIELDS_INT = ("path", "follows", "past", "label", "asset", "strata", "ends", "bridges", "regime", "first")
_FIELDS_DOUBLE = ("source", "target", "step", "values")


@dataclass(frozen=True, slots=True, eq=False)
class Synthesis:
    """The tables. n windows on the path, K cells, G regimes, h rows per hop, scaled units.

    ``names`` are the assets that ``asset`` counts; ``label`` counts the bundle's conditions.
    """

    path: Ints  # (n,) the cell of each window
    follows: Ints  # (n,) the window one hop later; -1 at an end
    past: Ints  # (n,) the cluster of the last four windows' way: visits alike in it are exchanged
    label: Ints  # (n,) condition, -1: none
    asset: Ints  # (n,)
    strata: Ints  # (n,) the windows in order of time
    ends: Ints  # (e,) windows that nothing follows, ascending
    bridges: Ints  # (e, CANDIDATES) from where a series may go on there
    mean: Floats  # (Z0,) of the posterior means
    turn: Floats  # (Z, Z0) whitened latents to latents
    centre: Floats  # (K, Z)
    spread: Floats  # (K,)
    carry: Floats  # (2, Z, Z) v to the next v: moving, staying
    push: Floats  # (2, Z, Z) Cholesky factors of what is new
    regime: Ints  # (K,)
    level: Floats  # (K, 2h, C) readings minus the decoder's cell means, faded as windows are
    slope: Floats  # (G, C)
    scale: Floats  # (K, C) of the noise
    noise: Floats  # (G, C, len(GRID)) quantiles of noise / scale
    rho: Floats  # (G, C) autocorrelation of the noise's normal scores
    mix: Floats  # (G, C, C) normal draws to innovations
    wander: Floats  # (G, C) standard deviation of a series' own level
    together: Floats  # (C, C) Cholesky factor of its correlation
    source: Floats  # (G, C, KNOTS) ascending
    target: Floats  # (G, C, KNOTS) raw units, ascending
    step: Floats  # (C,) resolution in raw units; 0: the values below, if any
    values: Floats  # ascending per sensor, one sensor after the other
    first: Ints  # (C + 1,) where in ``values`` a sensor's begin
    names: tuple[str, ...]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a bundle stores."""
        result: dict[str, NDArray[Any]] = {}
        for name in _ARRAYS:
            value = np.asarray(getattr(self, name))
            kind: type = np.float32
            if name in _FIELDS_INT:
                kind = np.int32
            elif name in _FIELDS_DOUBLE:
                kind = np.float64
            result[name] = np.ascontiguousarray(value.astype(kind))
        result["names"] = np.frombuffer("\x00".join(self.names).encode(), np.int8)
        return result

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Synthesis:
        """The inverse of ``arrays``."""
        whole: dict[str, Any] = {
            n: arrays[n].astype(np.int64 if n in _FIELDS_INT else np.float64) for n in _ARRAYS
        }
        return Synthesis(**whole, names=names_of(arrays["names"]))


_ARRAYS = tuple(f.name for f in dataclasses.fields(Synthesis) if f.name != "names")


def names_of(coded: NDArray[Any]) -> tuple[str, ...]:
    """The assets' names from the bytes that a bundle keeps them as; UnicodeDecodeError if damaged."""
    return tuple(coded.tobytes().decode().split("\x00"))


class Series(Protocol):
    """Assets that go on for ever."""

    def rows(self) -> tuple[Floats, Ints]:
        """The next rows of all assets: (A, T, C) raw, and (A, T) conditions, -1 for none."""
        ...


# ------------------------------------------------------------------ fitting
@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Consecutive windows, one hop apart: ``count`` of them, the first at ``start`` of a segment."""

    segment: int
    start: int
    count: int


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
    runs = _runs(history, models, L, h)
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
    mean, turn, y = _whitened(mu)
    decoded = _decode(models, mu, labels).reshape(n, L, C)

    starts = np.cumsum([0, *(r.count for r in runs)])
    follows = np.arange(1, n + 1)
    follows[starts[1:] - 1] = -1
    axes = _directions(decoded.reshape(n, -1), rng)
    seen = (decoded.reshape(n, -1) - decoded.reshape(n, -1).mean(0)) @ axes
    table = max(min(MOST_CELLS, MOST_TABLE // max(2 * h * C, 1), n // VISITS), 1)
    state = _with_past(seen, starts)
    cluster = _kmeans(state, table, rng)
    # Windows under two conditions are never one state, however alike they look.
    path = np.unique(np.stack([cluster, label]), axis=1, return_inverse=True)[1].reshape(-1)
    K = int(path.max()) + 1
    visits = np.bincount(path, minlength=K).astype(float)
    centre = _sums(path, y, K) / visits[:, None]
    of_cell = np.zeros(K, np.int64)
    of_cell[path] = label
    spread, carry, push = _within(y - centre[path], path, follows, K)
    cells = _decode(models, centre @ turn + mean, [_named(conditions, i) for i in of_cell.tolist()])
    regime = _kmeans((cells - cells.mean(0)) @ axes, min(REGIMES, K, max(n * h // REGIME_ROWS, 1)), rng)
    G = int(regime.max()) + 1

    # The readings beside the faded windows, row by row.
    fade = _fade(h)
    d0 = cells.reshape(K, L, C)
    off, dev, raw, cell, before, starts_of_rows = [], [], [], [], [], [0]
    for r, at in zip(runs, starts[:-1].tolist(), strict=True):
        mine = path[at : at + r.count]
        rows = slice(r.start + h, r.start + r.count * h)
        base = _faded(d0[mine], fade, h)
        off.append(scaled[r.segment][rows] - base)
        dev.append(_faded(decoded[at : at + r.count], fade, h) - base)
        raw.append(history[r.segment].values[rows])
        cell.append(np.repeat(mine[1:], h))
        before.append(np.repeat(mine[:-1], h))
        starts_of_rows.append(starts_of_rows[-1] + (r.count - 1) * h)
    D, V, x = np.concatenate(off).astype(float), np.concatenate(dev), np.concatenate(raw)
    at_cell, at_before = np.concatenate(cell), np.concatenate(before)
    row = np.tile(np.arange(h), len(D) // h)
    level, surplus = _levels(D, at_cell, at_before, row, K, h)
    D = D - fade[row] * level[at_cell, row] - fade[h + row] * level[at_before, h + row]
    at_regime = regime[at_cell]
    slope = _slopes(D, V, at_regime, G)
    fresh = np.zeros(len(D), bool)
    fresh[starts_of_rows[:-1]] = True
    noise = _noise(D - slope[at_regime] * V, at_cell, regime, surplus, fresh, G, K)
    names = tuple(dict.fromkeys(history[r.segment].asset for r in runs))
    number = {name: i for i, name in enumerate(names)}
    time = np.concatenate([history[r.segment].first_row + r.start + h * np.arange(r.count) for r in runs])
    asset = np.repeat([number[history[r.segment].asset] for r in runs], [r.count for r in runs])
    when = _Moments(time, asset, 2 * HOLD * h)
    wander, together = _wander(when, seen, decoded.mean(1), regime[path], follows, G, rng)
    ends = starts[1:] - 1
    going_on = np.flatnonzero(follows >= 0)
    way = _way(seen, starts)
    bridges = going_on[when.alike(way[ends], ends, way[going_on], going_on, CANDIDATES)[0]]
    step, values, first = _resolutions(x)
    made = Synthesis(
        path=path,
        follows=follows,
        past=_kmeans(way, min(WAYS, table), rng),
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
    source, target = _maps(out.reshape(-1, C), regimes.reshape(-1), x, at_regime, G)
    return Synthesis.of(dataclasses.replace(made, source=source, target=target).arrays())


def _runs(history: Sequence[Segment], models: Models, L: int, h: int) -> list[_Run]:
    """Stretches of usable windows (half of their cells observed), phase by phase, thinned evenly if too many."""
    seen = models.scaler.seen
    good = []
    for segment in history:
        share = np.isfinite(segment.values[:, seen]).mean(1)
        sums = np.concatenate([[0.0], np.cumsum(share)])
        good.append((sums[L:] - sums[:-L]) / L >= 0.5 if len(share) >= L else np.zeros(0, bool))
    total = sum(len(usable) // h for usable in good)
    longest = RUN if total > MOST_WINDOWS else total + 1
    phases = int(np.clip(MOST_WINDOWS // max(total, 1), 1, min(MOST_PHASES, h)))
    runs = []
    for phase in range(phases):
        begin = phase * h // phases
        for i, usable in enumerate(good):
            picked = np.concatenate([[0], usable[begin::h].astype(int), [0]])
            edges = np.flatnonzero(np.diff(picked)).tolist()
            for a, b in zip(edges[::2], edges[1::2], strict=True):
                pieces = [(at, min(longest, b - at)) for at in range(a, b, longest)]
                runs += [_Run(i, begin + at * h, count) for at, count in pieces if count > 1]
    every = sum(run.count for run in runs)
    if every > MOST_WINDOWS:
        wanted = max(len(runs) * MOST_WINDOWS // every, 1)
        runs = [runs[k] for k in np.unique(np.linspace(0, len(runs) - 1, wanted).astype(int)).tolist()]
    return runs


def _labels(segment: Segment, run: _Run, L: int, h: int) -> list[str]:
    if not segment.condition:
        return [NO_CONDITION] * run.count
    return [segment.condition[run.start + k * h + L - 1] for k in range(run.count)]


def _named(conditions: Sequence[str], label: int) -> str:
    return conditions[label] if label >= 0 else NO_CONDITION


def _decode(models: Models, latents: Floats, labels: Sequence[str]) -> Floats:
    """(B, Z) latents as the bundle's model orders them to (B, L*C) scaled windows."""
    z = torch.from_numpy(np.ascontiguousarray(latents, dtype=np.float32))
    decoded = models.decode(z, labels)
    return np.asarray(decoded.double().numpy())


def _whitened(mu: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, what leads from whitened latents back, and the (n, Z) whitened latents."""
    mean = mu.mean(0)
    variance, basis = np.linalg.eigh(np.cov(mu.T).reshape(mu.shape[1], -1))
    kept = variance > 1e-6 * max(float(variance[-1]), 1e-12)
    kept[-1] = True  # the last direction of a stream that never moves
    sd = np.sqrt(np.maximum(variance[kept], 1e-12))
    return mean, (basis[:, kept] * sd).T, (mu - mean) @ basis[:, kept] / sd


def _directions(decoded: Floats, rng: np.random.Generator) -> Floats:
    """(L*C, d) orthonormal: the leading directions of what the decoder makes of the latents."""
    some = decoded[rng.permutation(len(decoded))[:1_500]]
    _, size, basis = np.linalg.svd(some - some.mean(0), full_matrices=False)
    share = np.cumsum(size**2) / max(float((size**2).sum()), 1e-12)
    return np.asarray(basis[: min(MOST_DIRECTIONS, int((share < SHARE).sum()) + 1)].T)


def _with_past(seen: Floats, starts: Ints) -> Floats:
    """What is, beside moving averages of what has been on the same run."""
    parts = [seen]
    first = np.zeros(len(seen), bool)
    first[starts[:-1]] = True
    for memory in MEMORIES:
        average, now = np.empty_like(seen), seen[0]
        for t in range(len(seen)):
            now = seen[t] if first[t] else now
            average[t] = now
            now = now + (seen[t] - now) / memory
        parts.append(MEMORY_WEIGHT * average)
    return np.concatenate(parts, 1)


def _way(seen: Floats, starts: Ints) -> Floats:
    """What is, beside what was at each of the last hops on the same run: alike in all of it is alike in phase."""
    first = np.repeat(starts[:-1], np.diff(starts))
    at = np.arange(len(seen))
    return np.concatenate([seen[np.maximum(at - back, first)] for back in range(LASTING)], 1)


def _kmeans(points: Floats, count: int, rng: np.random.Generator, rounds: int = 12) -> Ints:
    """(n,) clusters 0, 1, ... without empty ones; k-means++ starts (Arthur & Vassilvitskii 2007)."""
    x = points.astype(np.float32)
    centres = [x[int(rng.integers(len(x)))]]
    far = ((x - centres[0]) ** 2).sum(1)
    for _ in range(min(count, len(x)) - 1):
        total = np.cumsum(far.astype(float))
        if total[-1] <= 0:
            break
        at = min(int(np.searchsorted(total, rng.random() * total[-1])), len(x) - 1)
        centres.append(x[at])
        far = np.minimum(far, ((x - x[at]) ** 2).sum(1))
    c = np.stack(centres)
    nearest = np.zeros(len(x), np.int64)
    for _ in range(rounds):
        nearest = ((c**2).sum(1) - 2.0 * (x @ c.T)).argmin(1)
        count_of = np.bincount(nearest, minlength=len(c))
        c = np.where(count_of[:, None] > 0, _sums(nearest, x, len(c)) / np.maximum(count_of, 1)[:, None], c)
        c = c.astype(np.float32)
    return np.unique(nearest, return_inverse=True)[1].reshape(-1)


def _sums(group: Ints, values: NDArray[Any], groups: int) -> Floats:
    """Sums of values (n, ...) over each group, (groups, ...)."""
    order = np.argsort(group, kind="stable")
    edges = np.searchsorted(group[order], np.arange(groups))
    padded = np.concatenate([values[order], np.zeros((1, *values.shape[1:]), values.dtype)])
    sums = np.add.reduceat(padded, edges).astype(float)
    sums[np.bincount(group, minlength=groups) == 0] = 0.0
    return sums


def _within(u: Floats, path: Ints, follows: Ints, K: int) -> tuple[Floats, Floats, Floats]:
    """Spread of each cell, and how the place in it goes on: a vector autoregression, ridge fitted."""
    Z = u.shape[1]
    visits = np.bincount(path, minlength=K)
    pooled = max(float((u**2).mean()), 1e-12)
    # A cell's own mean was taken off its visits: k of them have k - 1 degrees of freedom.
    own = _sums(path, (u**2).sum(1), K) / Z
    spread = np.sqrt((own + 4 * pooled) / (np.maximum(visits - 1, 0) + 4))
    v = u / spread[path][:, None]
    a = np.flatnonzero(follows >= 0)
    b = follows[a]
    stays = path[a] == path[b]
    carry, push = np.zeros((2, Z, Z)), np.zeros((2, Z, Z))
    for which, some in enumerate((~stays, stays)):
        if some.sum() < 2:
            some = np.ones(len(a), bool)
        x, target = v[a[some]], v[b[some]]
        carry[which] = np.linalg.solve(x.T @ x + 0.3 * Z * np.eye(Z), x.T @ target)
        new = target - x @ carry[which]
        cov = new.T @ new / len(new)
        shrink = Z / (Z + len(new))
        cov = (1 - shrink) * cov + shrink * np.diag(np.diag(cov)) + 1e-6 * np.eye(Z)
        push[which] = np.linalg.cholesky(cov)
    return spread, carry, push


def _fade(h: int) -> Floats:
    """(2h, 1) weights by which windows one hop apart add up to one; an odd window's last row has none."""
    up = (np.arange(h) + 0.5) / h
    return np.concatenate([up, up[::-1]])[:, None]


def _faded(windows: Floats, fade: Floats, h: int) -> Floats:
    """((m - 1) * h, C) the rows on which each of m windows (m, L, C) fades into the next."""
    weighted = windows[:, : 2 * h] * fade
    both = weighted[:-1, h:] + weighted[1:, :h]
    return np.asarray(both.reshape(-1, windows.shape[2]))


def _levels(D: Floats, cell: Ints, before: Ints, row: Ints, K: int, h: int) -> tuple[Floats, Floats]:
    """Mean of D per cell and row of its window, shrunk; and by how much its own fit flatters the noise.

    Each row is in the first half of one window and in the second half of the one before. The mean of
    N visits, shrunk by w = N / (N + prior), leaves (1 - 2w/N + w^2/N) of the variance in training
    and 1 + w^2/N in what is new: the ratio is the second result, (K, C).
    """
    seen = np.isfinite(D)
    filled = np.where(seen, D, 0.0)
    count, total = np.zeros((K, 2 * h, D.shape[1])), np.zeros((K, 2 * h, D.shape[1]))
    for part, of in ((0, cell), (h, before)):
        count[:, part : part + h] = _sums(of * h + row, seen.astype(float), K * h).reshape(K, h, -1)
        total[:, part : part + h] = _sums(of * h + row, filled, K * h).reshape(K, h, -1)
    w = count / (count + PRIOR_VISITS)
    each = 1.0 / np.maximum(count, 1.0)
    ratio = (1.0 + w * w * each) / np.maximum(1.0 - 2.0 * w * each + w * w * each, 0.3)
    surplus = (ratio * count).sum(1) / np.maximum(count.sum(1), 1.0)
    level = np.clip(w * total / np.maximum(count, 1.0), -1e4, 1e4)
    return level, np.where(surplus > 0, surplus, 1.0)


def _slopes(D: Floats, V: Floats, regime: Ints, G: int) -> Floats:
    """(G, C) how much of the decoder's variation about its cell the readings follow."""
    seen = np.isfinite(D)
    up = _sums(regime, np.where(seen, D * V, 0.0), G)
    down = _sums(regime, np.where(seen, V * V, 0.0), G)
    return np.clip(up / np.maximum(down, 1e-12), 0.0, 1.2)


@dataclass(frozen=True, slots=True, eq=False)
class _Noise:
    scale: Floats
    quantiles: Floats
    rho: Floats
    mix: Floats


def _noise(R: Floats, cell: Ints, regime: Ints, surplus: Floats, fresh: Mask, G: int, K: int) -> _Noise:
    """Distribution, autocorrelation and correlation of what is left."""
    C = R.shape[1]
    seen = np.isfinite(R)
    squares = np.where(seen, R, 0.0) ** 2
    at = regime[cell]
    pooled = _sums(at, squares, G) / np.maximum(_sums(at, seen.astype(float), G), 1.0)
    count = _sums(cell, seen.astype(float), K)
    scale = np.sqrt((_sums(cell, squares, K) + PRIOR_ROWS * pooled[regime]) / (count + PRIOR_ROWS)) + 1e-9
    R = R / scale[cell]
    shares = torch.special.ndtr(torch.from_numpy(GRID)).numpy()
    quantiles, scores = np.zeros((G, C, len(GRID))), np.zeros(R.shape)
    for c in range(C):
        mine = np.flatnonzero(seen[:, c])
        if not len(mine):
            continue
        every = np.quantile(R[mine, c], shares)
        for g in range(G):
            rows = mine[at[mine] == g]
            quantiles[g, c] = np.quantile(R[rows, c], shares) if len(rows) >= FEW_ROWS else every
            scores[rows, c] = _normal_scores(R[rows, c])
    pairs = np.flatnonzero(~fresh[1:])
    whole, rho_whole = _moments(scores, pairs)
    rho, mix = np.zeros((G, C)), np.zeros((G, C, C))
    for g in range(G):
        mine = pairs[at[pairs + 1] == g]
        trust = len(mine) / (len(mine) + C + 50.0)
        correlation, r = _moments(scores, mine)
        correlation = trust * correlation + (1 - trust) * whole
        r = np.clip(trust * r + (1 - trust) * rho_whole, -0.95, 0.98)
        # Innovations whose stationary correlation that is.
        innovation = correlation * (1 - np.outer(r, r)) / np.sqrt(np.outer(1 - r * r, 1 - r * r))
        variance, basis = np.linalg.eigh(innovation)
        half = basis * np.sqrt(np.maximum(variance, 1e-6))
        rho[g], mix[g] = r, half / np.sqrt((half**2).sum(1, keepdims=True))
    return _Noise(scale * np.sqrt(surplus), quantiles, rho, mix)


def _normal_scores(values: Floats) -> Floats:
    """Ranks as standard normal quantiles; ties in their order of time."""
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return np.asarray(torch.special.ndtri(torch.from_numpy((rank + 0.5) / max(len(values), 1))).numpy())


def _moments(scores: Floats, pairs: Ints) -> tuple[Floats, Floats]:
    """Correlation (C, C) at the later rows of the pairs, and lag-one autocorrelation (C,)."""
    before, now = scores[pairs], scores[pairs + 1]
    cov = now.T @ now / max(len(pairs), 1)
    sd = np.sqrt(np.maximum(np.diag(cov), 1e-6))
    correlation = cov / np.outer(sd, sd)
    np.fill_diagonal(correlation, 1.0)
    both = np.sqrt((before**2).sum(0) * (now**2).sum(0))
    return correlation, (before * now).sum(0) / np.maximum(both, 1e-6)


@dataclass(frozen=True, slots=True, eq=False)
class _Moments:
    """When windows were: first row and asset. Two are of different times if ``apart`` rows lie between."""

    time: Ints  # (n,)
    asset: Ints  # (n,)
    apart: int

    def alike(self, a: Floats, of: Ints, b: Floats, among: Ints, count: int) -> tuple[Ints, Mask]:
        """For each point of ``a`` (windows ``of``) the nearest points of ``b`` of different times.

        Returns:
            (len(a), count) places in ``b``, nearest first; and which of these really are of a
            different time (where there are too few, others stand in).
        """
        square = (b**2).sum(1)
        count_there = min(count, len(b))
        nearest, apart = np.zeros((len(a), count), np.int64), np.zeros((len(a), count), bool)
        for at in range(0, len(a), 256):
            p = of[at : at + 256]
            distance = square - 2.0 * a[at : at + 256] @ b.T
            near = np.abs(self.time[p][:, None] - self.time[among]) < self.apart
            near &= self.asset[p][:, None] == self.asset[among]
            distance[near] += 1e18
            some = np.argpartition(distance, count_there - 1, 1)[:, :count_there]
            order = np.take_along_axis(distance, some, 1).argsort(1, kind="stable")
            some = np.take_along_axis(some, order, 1)[:, np.arange(count) % count_there]
            nearest[at : at + 256] = some
            apart[at : at + 256] = ~np.take_along_axis(near, some, 1)
        return nearest, apart


def _wander(
    when: _Moments,
    seen: Floats,
    levels: Floats,
    regime: Ints,
    follows: Ints,
    G: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """How far windows' levels lie, lastingly, from those of the most alike windows of another time or asset.

    Another time: as far away as a stretch that is walked in one piece, twice over. Lastingly: the
    covariance of what is off now with what is off ``LASTING`` hops later, each by its own like window.
    """
    n, C = levels.shape
    later = np.arange(n)
    for _ in range(LASTING):
        later = np.where(later >= 0, follows[later], -1)
    begin = np.flatnonzero(later >= 0)
    pick = begin[rng.permutation(len(begin))[:1_500]]
    if not len(pick):
        return np.zeros((G, C)), np.eye(C)
    off, found = [], np.ones(len(pick), bool)
    for some in (pick, later[pick]):
        nearest, apart = when.alike(seen[some], some, seen, np.arange(n), 1)
        off.append(levels[some] - levels[nearest[:, 0]])
        found &= apart[:, 0]
    if not found.any():
        return np.zeros((G, C)), np.eye(C)
    now, then, of = off[0][found], off[1][found], regime[pick[found]]
    count = np.bincount(of, minlength=G)[:, None]
    both = _sums(of, now * then, G) + PRIOR_LEVELS * (now * then).mean(0)
    wander = np.sqrt(np.maximum(both / (count + PRIOR_LEVELS), 0.0))
    cov = (now.T @ then + then.T @ now) / (2.0 * len(now))
    variance, basis = np.linalg.eigh(cov)
    cov = (basis * np.maximum(variance, 0.0)) @ basis.T + 1e-9 * np.eye(C)
    sd = np.sqrt(np.diag(cov))
    wander = AMPLE * wander
    return wander, np.linalg.cholesky(0.9 * cov / np.outer(sd, sd) + 0.1 * np.eye(C) + 1e-6 * np.eye(C))


# ------------------------------------------------------------------ marginals
def _resolutions(x: Floats) -> tuple[Floats, Floats, Ints]:
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


def _maps(made: Floats, at: Ints, x: Floats, real_at: Ints, G: int) -> tuple[Floats, Floats]:
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


# ------------------------------------------------------------------ drawing
class Walk:
    """Series of a number of assets, all at once; see the module.

    Args:
        synthesis: the tables.
        models: of the same bundle.
        conditions: the bundle's labels.
        assets: A.
        random: draws everything.
        like: only what this asset (a number) did.
        condition: only under this label (a number).

    Raises:
        BundleError: training saw no window of this asset under this condition.
    """

    def __init__(
        self,
        synthesis: Synthesis,
        models: Models,
        conditions: Sequence[str],
        assets: int,
        random: np.random.Generator,
        like: int | None = None,
        condition: int | None = None,
    ) -> None:
        s, A = synthesis, assets
        self._s, self._models, self._random = s, models, random
        self._L, self._C = models.window, len(models.sigma)
        self._h = self._L // 2
        self._fade = _fade(self._h)
        K = len(s.centre)
        of_cell = np.zeros(K, np.int64)
        of_cell[s.path] = s.label
        self._named = [_named(conditions, label) for label in of_cell.tolist()]
        self._cells = _decode(models, s.centre @ s.turn + s.mean, self._named).reshape(K, self._L, self._C)
        allowed = np.ones(len(s.path), bool)
        if like is not None:
            allowed &= s.asset == like
        if condition is not None:
            allowed &= s.label == condition
        members = np.flatnonzero(allowed)
        if not len(members):
            raise BundleError("training saw no window of this asset under this condition")
        # What follows: along the path, and at an end (of a run, of what is allowed) the next that is there.
        next_there = members[np.searchsorted(members, np.arange(len(s.path)), side="right") % len(members)]
        goes_on = (s.follows >= 0) & allowed[np.maximum(s.follows, 0)]
        self._next = np.where(goes_on, s.follows, next_there)
        self._ends = ~goes_on
        groups, self._group = np.unique(np.stack([s.path, s.past]), axis=1, return_inverse=True)
        self._group = self._group.reshape(-1)
        self._visits = members[np.argsort(self._group[members], kind="stable")]
        self._count = np.bincount(self._group[members], minlength=groups.shape[1])
        # Where nothing follows, from a like window of another time; where there is none, from what is next.
        self._over = np.repeat(np.arange(len(s.path))[:, None], CANDIDATES, 1)
        there = allowed[s.bridges] & goes_on[s.bridges]
        self._over[s.ends] = np.where(there, s.bridges, s.ends[:, None])
        self._first = np.concatenate([[0], np.cumsum(self._count)[:-1]])
        part = np.empty(len(s.path), np.int64)
        part[s.strata] = np.arange(len(s.path)) * PARTS // len(s.path)
        self._part, self._used = part, np.zeros(PARTS)
        strata = s.strata[allowed[s.strata]]
        place = (random.permutation(A) + random.random(A)) / A
        self._at = strata[np.minimum((place * len(strata)).astype(int), len(strata) - 1)]
        self._v = random.standard_normal((A, s.centre.shape[1]))
        self._own = random.standard_normal((A, self._C)) @ s.together.T
        self._u = random.standard_normal((A, self._C))
        self._late: tuple[Floats, Floats, Floats] | None = None  # second half of the window before
        self._hops = max(CHUNK_ROWS // (A * self._h), 1)
        self.unmapped(1)

    def rows(self) -> tuple[Floats, Ints]:
        """See ``Series``."""
        out, regimes, labels = self.unmapped(self._hops)
        return self._mapped(out, regimes), labels

    def unmapped(self, hops: int) -> tuple[Floats, Ints, Ints]:
        """(A, T, C) in scaled units before the marginal maps, (A, T) regimes, (A, T) conditions."""
        s, h, A = self._s, self._h, len(self._at)
        out = np.empty((A, hops, h, self._C))
        cells = np.empty((A, hops), np.int64)
        labels = np.empty((A, hops), np.int64)
        noise = np.empty((A, hops, h, self._C))
        for t in range(hops):
            cells[:, t], labels[:, t] = self._step()
            out[:, t] = self._hop(cells[:, t])
            g = s.regime[cells[:, t]]
            new = self._random.standard_normal((A, h, self._C)) @ s.mix[g].transpose(0, 2, 1)
            rho = s.rho[g]
            new *= np.sqrt(1.0 - rho * rho)[:, None]
            for j in range(h):
                self._u = rho * self._u + new[:, j]
                noise[:, t, j] = self._u
        regimes = s.regime[cells]
        # Normal scores to the noise's own distribution: the grid is even, so that its places can be computed.
        place = np.clip((noise - GRID[0]) / (GRID[1] - GRID[0]), 0.0, len(GRID) - 1.000001)
        below = place.astype(np.int64)
        flat = s.noise.reshape(-1)
        at = (regimes[:, :, None, None] * self._C + np.arange(self._C)) * len(GRID) + below
        low = flat[at]
        out += s.scale[cells][:, :, None] * (low + (place - below) * (flat[at + 1] - low))
        shape = (A, hops * h)
        return (
            out.reshape(*shape, self._C),
            np.repeat(regimes, h, 1),
            np.repeat(labels, h, 1),
        )

    def _step(self) -> tuple[Ints, Ints]:
        """One hop along the path; cells and conditions now."""
        s, random, A = self._s, self._random, len(self._at)
        before = s.path[self._at]
        change = (random.random(A) < 1.0 / HOLD) | self._ends[self._at]
        group = self._group[self._at]
        draw = (random.random((A, CANDIDATES)) * self._count[group][:, None]).astype(np.int64)
        places = np.minimum(self._first[group][:, None] + draw, len(self._visits) - 1)
        visits = self._visits[places]
        visits[:, 0] = self._at
        over = self._ends[self._at]
        visits[over, 1:] = self._over[self._at[over], 1:]
        used = self._used[self._part[self._next[visits]]] + random.random(visits.shape)
        least = used.argmin(1)
        self._at = self._next[np.where(change, visits[np.arange(A), least], self._at)]
        self._used += np.bincount(self._part[self._at], minlength=PARTS)
        now = s.path[self._at]
        stays = (now == before)[:, None]
        new = random.standard_normal(self._v.shape)
        moved, stayed = (self._v @ s.carry[i] + new @ s.push[i].T for i in (0, 1))
        self._v = np.clip(np.where(stays, stayed, moved), -FARTHEST, FARTHEST)
        keep = np.exp(-1.0 / SLOW)
        own = random.standard_normal(self._own.shape) @ s.together.T
        self._own = keep * self._own + np.sqrt(1.0 - keep * keep) * own
        return now, s.label[self._at]

    def _hop(self, cells: Ints) -> Floats:
        """(A, h, C) the rows on which the window before fades into this one, without their noise."""
        s, h, L = self._s, self._h, self._L
        latents = (s.centre[cells] + self._v * s.spread[cells][:, None]) @ s.turn + s.mean
        named = [self._named[k] for k in cells.tolist()]
        decoded = _decode(self._models, latents, named).reshape(len(cells), L, self._C)
        base = self._cells[cells]
        off = ((decoded - base)[:, : 2 * h]) * self._fade
        base = (base[:, : 2 * h] + s.level[cells]) * self._fade
        own = (s.wander[s.regime[cells]] * self._own)[:, None]
        late = self._late or (off[:, h:], base[:, h:], own)
        ramp = ((np.arange(h) + 0.5) / h)[:, None]
        rows = base[:, :h] + late[1]
        rows += s.slope[s.regime[cells]][:, None] * (off[:, :h] + late[0])
        rows += late[2] * (1.0 - ramp) + own * ramp
        self._late = off[:, h:], base[:, h:], own
        return np.asarray(rows)

    def _mapped(self, out: Floats, regimes: Ints) -> Floats:
        """Raw readings from (A, T, C), by the marginal maps and resolutions."""
        s = self._s
        flat, at = out.reshape(-1, self._C), regimes.reshape(-1)
        order = np.argsort(at, kind="stable")
        edges = np.searchsorted(at[order], np.arange(len(s.source) + 1)).tolist()
        raw = np.empty_like(flat)
        for g, (a, b) in enumerate(itertools.pairwise(edges)):
            if a == b:
                continue
            rows = order[a:b]
            some = flat[rows]
            for c in range(self._C):
                some[:, c] = np.interp(some[:, c], s.source[g, c], s.target[g, c])
            raw[rows] = some
        for c in range(self._C):
            values = s.values[s.first[c] : s.first[c + 1]]
            if len(values) > 1:
                raw[:, c] = values[np.searchsorted((values[1:] + values[:-1]) / 2.0, raw[:, c])]
            elif s.step[c] > 0:
                raw[:, c] = rounded(raw[:, c], float(s.step[c]))
        raw[:, ~self._models.scaler.seen] = np.nan
        return raw.reshape(out.shape)


def rounded(values: Floats, step: float) -> Floats:
    """To whole numbers of a power of ten, as a decimal point would write it: 0.3 and not 0.30000000000000004."""
    digits = round(-np.log10(step))
    return np.asarray(np.round(values, digits))


class PriorSeries:
    """Series of a bundle without tables: from the prior, windows that agree on their overlap.

    The next window's first half is the last one's second half; its other half is drawn from pPCA's
    exact conditional (mean and covariance), goes through encoder and decoder once (one step of
    pseudo-Gibbs: z ~ q, decode), and gets the decoder's noise. No state, no level, no daily
    round: what lasts longer than a window is not in the prior.
    """

    def __init__(self, models: Models, assets: int, random: np.random.Generator, condition: str = "") -> None:
        self._models, self._random, self._label = models, random, condition
        self._L, self._C = models.window, len(models.sigma)
        self._h = max(self._L // 2, 1)
        pca = models.pcas[-1]
        self._gain, self._root = _conditional(pca, (self._L - self._h) * self._C)
        self._mean = (pca.mean + models.usual([condition], self._L * self._C)).double().numpy().reshape(-1)
        z = random.standard_normal((assets, models.latents))
        decoded = _decode(models, z, [condition] * assets).reshape(assets, self._L, self._C)
        self._last = decoded + models.sigma * random.standard_normal(decoded.shape)

    def rows(self) -> tuple[Floats, Ints]:
        """See ``Series``."""
        A = len(self._last)
        parts = [self._hop() for _ in range(max(CHUNK_ROWS // (A * self._h), 1))]
        scaled = np.clip(np.concatenate(parts, 1), -10.0, 10.0)
        return self._models.scaler.raw(scaled), np.full(scaled.shape[:2], -1)

    def _hop(self) -> Floats:
        models, A, shared = self._models, len(self._last), (self._L - self._h) * self._C
        mean = self._mean
        known = self._last[:, self._h :].reshape(A, -1)
        drawn = (known - mean[:shared]) @ self._gain.T + mean[shared:]
        drawn += self._random.standard_normal(drawn.shape) @ self._root.T
        x = np.concatenate([known, drawn], 1)
        vae = models.vae
        if vae is not None:
            with torch.inference_mode():
                codes = vae.codes([self._label] * A)
                posterior = vae.encode(torch.from_numpy(x.astype(np.float32)), None, codes)
                sd = (0.5 * posterior.log_variance).exp().double().numpy()
                z = posterior.mean.double().numpy() + sd * self._random.standard_normal(sd.shape)
            again = _decode(models, z, [self._label] * A)
            noise = np.tile(models.sigma, self._h) * self._random.standard_normal((A, x.shape[1] - shared))
            x[:, shared:] = again[:, shared:] + noise
        self._last = np.clip(x, -10.0, 10.0).reshape(A, self._L, self._C)
        return self._last[:, self._L - self._h :]


def _conditional(pca: WindowPCA, shared: int) -> tuple[Floats, Floats]:
    """Gain and root of the covariance of a window's last cells given its first ``shared``.

    With x = W z + e: z given the first is N(M^-1 W_o' r, s2 M^-1), M = W_o' W_o + s2 I.
    """
    variance = pca.variance.double().numpy()
    W = pca.basis.double().numpy() * np.sqrt(np.maximum(variance - pca.noise, 0.0))
    first, last = W[:shared], W[shared:]
    inverse = np.linalg.inv(first.T @ first + pca.noise * np.eye(W.shape[1]))
    covariance = pca.noise * (last @ inverse @ last.T + np.eye(len(last)))
    return last @ inverse @ first.T, np.linalg.cholesky(covariance)
