"""The level of each asset: where its sensors are, apart from where those of the other assets are.

One model knows all assets of a stream. Where machines run at different operating points (one pump at 5 bar, another at
8), their readings together are one wide distribution: a fault of one that lies within the spread of the fleet is
unusual in nothing. So every asset has a level l_a per sensor (random intercepts; Henderson 1975, Mundlak 1978),

    x = l_a + y        x, y (L, C), l_a (C,) over the fleet's mean,

and every model reads and explains y.

**Which sensors.** Only those whose readings differ from asset to asset by a shift. ``differing`` compares quantiles
(``QUANTILES``) in each fifth of an asset's rows with the mean of those of all assets at that place: a shift
moves all quantiles in all fifths alike. What differs from fifth to fifth (a change, a season of its own, chance) and from
quantile to quantile (another amplitude, a machine that is off more often) is the error of the level, and the levels'
variance must be ``certain`` times that of the error. Machines that are alike, one machine alone, and on/off sensors so have no levels.
A level is a mean over the fifths by weights that all sensors share (the spatial median, Brown 1983), shrunk by its error: an
incident, or an operating point of old, has no weight, and what a chance course of the load adds to the levels lies along
the relations of the sensors, as the load does. Medians of each sensor by itself were tried: their errors break relations.

**Assets that training did not have** have a level that is predicted from each window by itself: the best linear
unbiased prediction from its means m, with T the variance of levels (C,) and S the covariance of a window's means within
an asset (C, C),

    l = diag(T) (diag(T) + S)^-1 (m - mean).

What is left of the means, S (T + S)^-1 (m - mean), scatters less than the means of a known asset do: such an asset raises no
alarm for where it is as long as that is within the spread of the fleet. Nor does a fault that the spread covers; one
that breaks a relation, or begins within the window, does. With the next training it is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import Floats, Mask, Segment
from daemon.model.segments import BLOCKS, Piece

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
FEWEST = 10
"""Readings of a sensor in a fifth of an asset's rows that its quantiles need."""
MOST = 2_000
"""Rows of a fifth that quantiles are taken of, evenly spread."""
WEISZFELD = 20
"""Steps towards a spatial median; a tenth of a spread of fifths from one of them it is near enough."""
CELLS_AT_ONCE = 1 << 20
"""Of the products of a block of windows: 8 MiB."""
NUGGET = 1e-4
"""Least variance of a window's means, in scaled units: that of pPCA's noise."""


@dataclass(frozen=True, slots=True, eq=False)
class AssetLevels:
    """The levels of A assets, in scaled units, and what is known of those of others."""

    names: tuple[str, ...]  # of the assets
    level: Floats  # (A, C) over the scaler's mean; 0 for sensors that have none
    variance: Floats  # (C,) of an asset's level; 0 for sensors that have none
    within: Floats  # (C, C) covariance of a window's means within an asset
    _places: Mapping[str, int] = field(init=False, repr=False)
    _table: NDArray[np.float32] = field(init=False, repr=False)
    _gain: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {name: i for i, name in enumerate(self.names)})
        object.__setattr__(self, "_table", self.level.astype(np.float32))
        object.__setattr__(self, "_gain", self._gain_of(np.ones(len(self.variance), bool)))

    def _gain_of(self, observed: Mask) -> Floats:
        """(C, C) from the means of the observed sensors to levels; zero in the columns of the others."""
        gain = np.zeros_like(self.within)
        some = np.flatnonzero(observed)
        total = self.within[np.ix_(some, some)] + np.diag(self.variance[some] + NUGGET)
        gain[np.ix_(some, some)] = np.linalg.solve(total, np.diag(self.variance[some])).T
        return gain

    def known(self, names: Sequence[str]) -> Floats:
        """(N, C) the levels of assets, 0 for those that training did not have."""
        table = np.concatenate([self.level, np.zeros((1, self.level.shape[1]))])
        return np.asarray(table[[self._places.get(name, -1) for name in names]])

    def knows(self, asset: str) -> bool:
        """Whether training had the asset."""
        return asset in self._places

    def of(self, assets: Sequence[str] | None, windows: NDArray[Any]) -> NDArray[np.float32]:
        """(B, C) the levels in windows (B, L, C), scaled units and NaN where missing, of B assets; None: of none known."""
        unknown = len(self.names)
        names: Iterable[str] = repeat("", len(windows)) if assets is None else assets
        places = np.fromiter(map(self._places.get, names, repeat(unknown)), np.int64, len(windows))
        other = np.flatnonzero(places == unknown)
        if not len(other):
            return np.asarray(self._table[places])
        levels = np.empty((len(windows), windows.shape[2]), np.float32)
        known = np.flatnonzero(places != unknown)
        levels[known] = self._table[places[known]]
        levels[other] = self._predicted(windows[other])
        return levels

    def _predicted(self, windows: NDArray[Any]) -> Floats:
        """(B, C) levels predicted from windows (B, L, C); the same for a window in any batch."""
        seen = np.isfinite(windows)
        count = seen.sum(1)
        with np.errstate(over="ignore"):
            means = np.where(seen, windows, 0.0).sum(1, dtype=float) / np.maximum(count, 1)  # (B, C)
        means = np.clip(means, -1e9, 1e9)  # else the product overflows
        observed = count > 0
        if observed.all():
            return _products(means, self._gain)
        levels = np.empty_like(means)
        patterns, of = np.unique(observed, axis=0, return_inverse=True)
        for k, pattern in enumerate(patterns):
            mine = np.flatnonzero(of.reshape(-1) == k)
            levels[mine] = _products(means[mine], self._gain_of(pattern))
        return np.asarray(levels)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a bundle stores beside the names."""
        return {"level": self.level, "variance": self.variance, "within": self.within}


def _products(means: Floats, gain: Floats) -> Floats:
    """(B, C) the products of (B, C) means with a gain (C, C), each row by itself: a matrix product differs with the batch."""
    found = np.empty_like(means)
    block = max(CELLS_AT_ONCE // gain.size, 1)
    for at in range(0, len(means), block):
        found[at : at + block] = (means[at : at + block, None, :] * gain).sum(2)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class RawLevels:
    """The levels of A assets in raw units, before there is a scaler."""

    names: tuple[str, ...]
    level: Floats  # (A, C)
    variance: Floats  # (C,)

    def scaled(self, scale: Floats, means: Floats) -> AssetLevels:
        """In the units of a scaler fitted on readings without their levels; ``means`` (n, C) of windows of these."""
        off = means - means.mean(0)
        within = off.T @ off / max(len(off), 1)
        return AssetLevels(self.names, self.level / scale, self.variance / scale**2, within)

    def without(self, values: Floats, asset: str) -> Floats:
        """(T, C) readings of an asset without its level."""
        return np.asarray(values - self.level[self.names.index(asset)])


def certain(assets: int) -> float:
    """The variance of the levels over that of their errors that 1 in 1,000 sensors of as many like assets has.

    The 99.9 % quantile of F with A - 1 and 4 (A - 1) degrees of freedom; of more assets than four it is less.
    """
    return {2: 74.1, 3: 18.5}.get(assets, 10.8)


def differing(history: Sequence[Segment]) -> Mask:
    """(C,) the sensors that have levels; see the module."""
    whole = [Piece(i, 0, len(segment.values)) for i, segment in enumerate(history)]
    names, table = _quantiles(history, whole)
    if len(names) < 2:
        return np.zeros(history[0].values.shape[1], bool)
    levels, noise = _levels(table)
    between = _variance(levels)
    with np.errstate(invalid="ignore"):
        return np.asarray((between > certain(len(names)) * noise) & (between > 0.0))


def asset_levels(history: Sequence[Segment], pieces: Sequence[Piece], which: Mask) -> RawLevels | None:
    """The levels of the assets in these pieces; None if there are fewer than two assets.

    Args:
        history: the segments that ``pieces`` index.
        pieces: rows to learn from.
        which: (C,) the sensors that have levels.
    """
    names, table = _quantiles(history, pieces)
    if len(names) < 2:
        return None
    _, noise = _levels(table)
    levels = _weighted(_fifth_means(history, pieces))
    variance = np.where(which, np.nan_to_num(np.maximum(_variance(levels) - noise, 0.0)), 0.0)
    rows = dict.fromkeys(names, 0)
    for piece in pieces:
        rows[history[piece.segment].asset] += len(piece)
    # Of few rows a level is less certain.
    few = np.median(list(rows.values())) / np.array([max(n, 1) for n in rows.values()])
    error = np.nan_to_num(noise) * np.maximum(few, 1.0)[:, None]
    with np.errstate(invalid="ignore"):
        shrunk = np.nan_to_num(levels * variance / (variance + error))
    return RawLevels(names, np.where(which, shrunk, 0.0), variance)


def _fifths(history: Sequence[Segment], pieces: Sequence[Piece]) -> dict[str, list[Floats]]:
    """The rows (T, C) of each fifth of an asset's rows in some pieces."""
    parts: dict[str, list[Floats]] = {}
    for piece in pieces:
        segment = history[piece.segment]
        parts.setdefault(segment.asset, []).append(segment.values[piece.start : piece.stop])
    fifths: dict[str, list[Floats]] = {}
    for asset, mine in parts.items():
        values = np.concatenate(mine)
        edges = [len(values) * f // BLOCKS for f in range(BLOCKS + 1)]
        fifths[asset] = [values[a:b] for a, b in pairwise(edges)]
    return fifths


def _quantiles(history: Sequence[Segment], pieces: Sequence[Piece]) -> tuple[tuple[str, ...], Floats]:
    """The A assets of some pieces, and (A, F, Q, C) the quantiles of their fifths; NaN where too few readings."""
    of = _fifths(history, pieces)
    table = np.full((len(of), BLOCKS, len(QUANTILES), history[0].values.shape[1]), np.nan)
    for a, fifths in enumerate(of.values()):
        for f, fifth in enumerate(fifths):
            ranked = np.sort(fifth[:: max(-(-len(fifth) // MOST), 1)], axis=0)  # NaN last
            count = np.isfinite(ranked).sum(0)
            enough = np.flatnonzero(count >= FEWEST)
            for q, share in enumerate(QUANTILES):
                at = np.round(share * (count[enough] - 1)).astype(np.int64)
                table[a, f, q, enough] = ranked[at, enough]
    return tuple(of), table


def _fifth_means(history: Sequence[Segment], pieces: Sequence[Piece]) -> Floats:
    """(A, F, C) the means of each asset's fifths; NaN without a reading."""
    return np.stack([[_mean(fifth, 0) for fifth in fifths] for fifths in _fifths(history, pieces).values()])


def _weighted(means: Floats) -> Floats:
    """(A, C) the spatial medians of (A, F, C) fifths, over the mean of the fleet; see the module."""
    spread = np.sqrt(np.nan_to_num(_mean(_variance(means, 1), 0)))  # (C,)
    seen = np.isfinite(means)
    filled = np.where(seen, means, _mean(means, 1)[:, None])
    units = np.nan_to_num(np.where(spread > 0.0, filled / np.where(spread > 0.0, spread, 1.0), 0.0))
    weights = np.ones(means.shape[:2])
    for _ in range(WEISZFELD):
        centre = (weights[:, :, None] * units).sum(1) / weights.sum(1)[:, None]
        weights = 1.0 / np.maximum(np.linalg.norm(units - centre[:, None], axis=2), 0.1)
    shared = np.where(seen, weights[:, :, None], 0.0)
    total = shared.sum(1)
    levels = np.where(
        total > 0.0, np.where(seen, shared * means, 0.0).sum(1) / np.maximum(total, 1e-12), np.nan
    )
    return np.asarray(levels - _mean(levels, 0))


def _levels(table: Floats) -> tuple[Floats, Floats]:
    """From (A, F, Q, C) quantiles: levels (A, C) over the fleet's mean, and the variance of their errors (C,)."""
    with np.errstate(invalid="ignore", over="ignore"):
        off = table - _mean(table, 0)
        by_fifth, by_quantile = _mean(off, 2), _mean(off, 1)  # (A, F, C), (A, Q, C)
        levels = _median(by_fifth)
        levels = levels - _mean(levels, 0)
        # A median of five scatters half as much again as their mean does.
        # Of the assets the median counts: one that has changed is no reason to doubt the others.
        chance = 1.5 * _median(_variance(by_fifth, 1)[None])[0] / BLOCKS
        shape = _median(_variance(by_quantile, 1)[None])[0]
    return levels, np.nan_to_num(chance, nan=np.inf) + np.nan_to_num(shape, nan=np.inf)


def _mean(values: Floats, axis: int) -> Floats:
    """The mean of the finite values; NaN without any."""
    seen = np.isfinite(values)
    count = seen.sum(axis)
    total = np.where(seen, values, 0.0).sum(axis) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, total, np.nan))


def _variance(values: Floats, axis: int = 0) -> Floats:
    """The variance of the finite values, of a sample; NaN of fewer than two."""
    seen = np.isfinite(values)
    count = seen.sum(axis)
    off = np.where(seen, values - np.expand_dims(_mean(values, axis), axis), 0.0)
    return np.asarray(np.where(count > 1, (off**2).sum(axis) / np.maximum(count - 1, 1), np.nan))


def _median(by_fifth: Floats) -> Floats:
    """(A, F, C) to (A, C), of the finite values; NaN without any."""
    seen: Mask = np.asarray(np.isfinite(by_fifth).any(1))
    known = np.where(seen[:, None], by_fifth, 0.0)
    return np.asarray(np.where(seen, np.nanmedian(known, axis=1), np.nan))


def levelled(history: Sequence[Segment], levels: AssetLevels, scale: Floats) -> list[Segment]:
    """A history of known assets without their levels."""
    raw = RawLevels(levels.names, levels.level * scale, levels.variance)
    return [
        replace(s, values=raw.without(s.values, s.asset)) if levels.knows(s.asset) else s for s in history
    ]
