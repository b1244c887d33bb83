"""Thirds of training, and the fields that are fitted without each: cells of a third are estimated by the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import Floats
from daemon.model.imputation.field import REACH, Field, fit_field, lagged_sums

FIT_ROWS = 20_000
"""Rows from which covariances are learned; more are thinned to evenly spaced blocks."""
FOLDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """Training in folds, and the fields fitted to all of it and outside of each fold."""

    parts: list[list[Floats]]  # per fold, its blocks (T_i, C)
    outside: list[Field]  # per fold
    whole: Field

    @staticmethod
    def of(blocks: Sequence[Floats]) -> Fields:
        """The folds of blocks, which are thinned if they are many rows, and their fields."""
        some = thinned(blocks)
        parts = [[some[i][piece] for i, piece in fold] for fold in thirds([len(block) for block in some])]
        sums = [lagged_sums(part) for part in parts]
        outside: list[Field] = []
        for i in range(len(parts)):
            others = [pair for j, pair in enumerate(sums) if j != i or len(parts) == 1]
            outside.append(fit_field(np.sum([s for s, _ in others], 0), np.sum([n for _, n in others], 0)))
        return Fields(parts, outside, fit_field(*lagged_sums(some)))


def thinned(blocks: Sequence[Floats]) -> list[Floats]:
    """At most about ``FIT_ROWS`` rows, as long evenly spaced pieces."""
    rows = sum(map(len, blocks))
    if rows <= FIT_ROWS:
        return list(blocks)
    piece = 8 * REACH
    pieces = [b[i : i + piece] for b in blocks for i in range(0, len(b), piece)]
    keep = np.unique(np.linspace(0, len(pieces) - 1, FIT_ROWS // piece).astype(int))
    joined: list[Floats] = []
    previous = -2
    for i in keep:  # neighbours that are both kept stay one block
        adjacent = i == previous + 1 and pieces[i].base is pieces[previous].base
        if adjacent and len(pieces[previous]) == piece:
            joined[-1] = np.concatenate([joined[-1], pieces[i]])
        else:
            joined.append(pieces[i])
        previous = i
    return joined


def thirds(lengths: Sequence[int]) -> list[list[tuple[int, slice]]]:
    """Three folds contiguous in time of blocks that are so long: pieces of blocks; fewer where rows do not allow it."""
    rows = sum(lengths)
    if rows < FOLDS * 2 * REACH:
        return [[(i, slice(0, length)) for i, length in enumerate(lengths)]]
    folds: list[list[tuple[int, slice]]] = [[] for _ in range(FOLDS)]
    if max(lengths) < rows // (4 * FOLDS):  # a fleet of short histories: whole segments, one after the other
        for i, length in enumerate(lengths):
            folds[i % FOLDS].append((i, slice(0, length)))
        return folds
    for i, length in enumerate(lengths):
        edges = [length * f // FOLDS for f in range(FOLDS + 1)]
        for f in range(FOLDS):
            if edges[f + 1] > edges[f]:
                folds[f].append((i, slice(edges[f], edges[f + 1])))
    return folds
