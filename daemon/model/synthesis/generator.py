"""Generate synthetic series from the tables: all assets at once, hop by hop, without end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
)
from daemon.errors import BundleError
from daemon.model.reconstruction import Models
from daemon.model.synthesis.tables import CANDIDATES, GRID, Synthesis, decode_latents, fade_weights, label_of

HOLD = 32
"""Hops from one change of visit to the next, on average: sixteen windows, long against the four over
which the autocorrelation is to be kept."""
PARTS = 64
"""Equal parts of training's time; a change of visit takes a candidate from the part that was used least."""
SLOW = 32
"""Hops over which a series' own level forgets: slow against a window, so that it is a level."""
FARTHEST = 6.0
"""Standard deviations within a cell."""
CHUNK_ROWS = 8_192
"""Rows that are made at once, all assets together."""


class Series(Protocol):
    """Series of several assets, without end."""

    def rows(self) -> tuple[Floats, Ints]:
        """The next rows of all assets: (A, T, C) raw, and (A, T) conditions, -1 for none."""
        ...


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of training's windows a series may visit; None: any."""

    asset: int | None = None  # a number of ``Synthesis.names``
    condition: int | None = None  # a number of the bundle's conditions


EVERYTHING = Selection()


class Walk:
    """Series of a number of assets, all at once; see the package.

    Args:
        synthesis: the tables.
        models: of the same bundle.
        conditions: the bundle's labels.
        assets: A.
        random: of all draws.
        selection: restricts the visited windows to those of an asset or under a condition.

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
        selection: Selection = EVERYTHING,
    ) -> None:
        s, A = synthesis, assets
        self._s, self._models, self._random = s, models, random
        self._L, self._C = models.window, len(models.sigma)
        self._h = self._L // 2
        self._fade = fade_weights(self._h)
        K = len(s.centre)
        of_cell = np.zeros(K, np.int64)
        of_cell[s.path] = s.label
        self._named = [label_of(conditions, label) for label in of_cell.tolist()]
        self._cells = decode_latents(models, s.centre @ s.turn + s.mean, self._named).reshape(
            K, self._L, self._C
        )
        allowed = np.ones(len(s.path), bool)
        if selection.asset is not None:
            allowed &= s.asset == selection.asset
        if selection.condition is not None:
            allowed &= s.label == selection.condition
        members = np.flatnonzero(allowed)
        if not len(members):
            raise BundleError("training saw no window of this asset under this condition")
        # The next window: along the path, and at an end (of a run, or of the selection) the next selected one.
        next_there = members[np.searchsorted(members, np.arange(len(s.path)), side="right") % len(members)]
        goes_on = (s.follows >= 0) & allowed[np.maximum(s.follows, 0)]
        self._next = np.where(goes_on, s.follows, next_there)
        self._ends = ~goes_on
        groups, self._group = np.unique(np.stack([s.path, s.past]), axis=1, return_inverse=True)
        self._group = self._group.reshape(-1)
        self._visits = members[np.argsort(self._group[members], kind="stable")]
        self._count = np.bincount(self._group[members], minlength=groups.shape[1])
        # At an end, from a similar window of another time; without one, from the next window.
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
        levels = models.levels
        names = [s.names[a] for a in s.asset[self._at].tolist()]
        # (A, 1, C) each series has the level of one asset, whoever's windows it visits.
        self._level = None if levels is None else (levels.known(names) * models.scaler.scale)[:, None]
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
        decoded = decode_latents(self._models, latents, named).reshape(len(cells), L, self._C)
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
        if self._level is not None:
            raw = (raw.reshape(out.shape) + self._level).reshape(raw.shape)
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
