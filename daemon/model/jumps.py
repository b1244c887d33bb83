"""Jumps: by how much each sensor's residual changes from one row to the next, against limits of its own.

A spike of many noise widths on a slow sensor is silent in the pooled parts of the score, whose tails the sensors
with the wildest transitions set. So per sensor |r_t - r_(t-1)| of the newest rows' residuals is compared with a
limit of that sensor. An anomaly opens where the score is above its threshold or a sensor beyond its limit
(``alarm``); the score itself, which ranks rows, does not change.

**Limits.** The change of each sensor becomes -log p against calibration (``tails``), and the largest of a row is
replayed like the score, through the same alarm machine, by held-out and by deployed models. The budget is divided:
jumps may open ``SHARE`` of it, scores the rest, so that together they keep it. What is kept are the values at which
a sensor's -log p reaches the level found: comparing a row with them costs less than its p-values.

The state of an asset is (2C,): the residuals of its last row, 0 where missing, and which are known (1). Rows are
adjacent on the stream: a row that is not measured leaves nothing known, and after a gap every state begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from daemon.domain import Floats, Ints, Mask
from daemon.grouping import by_slot
from daemon.model.crossfit import HeldOutPiece
from daemon.model.tails import TAIL, Tail, TailTable
from daemon.model.thresholds import JumpLimits

SHARE = 0.2
"""Of the budget that jumps may spend. With a half, the score's share finds fewer of the faults that last, by measurement."""


def fresh(sensors: int) -> Floats:
    """(2C,) the state of an asset of which no row is known."""
    return np.zeros(2 * sensors)


def advance(residual: Floats, state: Floats, slots: Ints) -> Floats:
    """The changes since the row before.

    Args:
        residual: (B, C) each asset's rows in their order, NaN where missing.
        state: (N, 2C), moved on in place.
        slots: (B,) row of ``state`` of each row.

    Returns:
        (B, C) |change|, NaN where the sensor is missing in this row or the one before.
    """
    count, C = residual.shape
    if not count:
        return np.empty((0, C))
    changes = np.empty_like(residual)
    if (slots == slots[0]).all():
        held = state[slots[0]]
        changes[1:] = residual[:-1]
        changes[0] = np.where(held[C:] > 0, held[:C], np.nan)
        _keep(held, residual[-1])
    else:
        groups = by_slot(slots)
        order, first = groups.order, groups.begins
        rows, mine = residual[order], slots[order]
        held, before = state[mine[first]], np.empty_like(rows)
        before[1:] = rows[:-1]
        before[first] = np.where(held[:, C:] > 0, held[:, :C], np.nan)
        _keep(held, rows[np.append(first[1:], True)])
        state[mine[first]] = held
        changes[order] = before
    np.subtract(residual, changes, out=changes)
    return np.abs(changes, out=changes)


def _keep(state: Floats, newest: Floats) -> None:
    """Take rows (..., C) into states (..., 2C)."""
    C = newest.shape[-1]
    known = np.isfinite(newest)
    state[..., C:] = known
    state[..., :C] = newest if known.all() else np.where(known, newest, 0.0)


def changes_of(pieces: Sequence[HeldOutPiece], residual_rms: Floats) -> Floats:
    """(B, C) the changes in measured pieces, in their order; each begins with NaN."""
    parts = []
    for piece in pieces:
        residual = piece.measured.residual / residual_rms
        parts.append(np.abs(np.diff(residual, axis=0, prepend=np.full_like(residual[:1], np.nan))))
    return np.concatenate(parts)


class JumpTails:
    """-log p of each sensor's changes. ``scale`` (C,) makes the tails of sensors alike: where each begins."""

    def __init__(self, changes: Floats, least: Floats) -> None:
        """Fit on calibration changes (n, C), NaN where not known; ``least`` (C,) is a change too small to count."""
        self._known: Mask = np.asarray(np.isfinite(changes).any(0))
        values = np.where(self._known, changes, 0.0)
        self.least = least
        self.scale = np.maximum(np.nanquantile(values, 1.0 - TAIL, axis=0), least)
        self._tails = [Tail.fit(one) for one in (changes / self.scale).T]

    def strength(self, changes: Floats) -> Floats:
        """(B,) the largest -log p of each row's (B, C); 0 where no change is known."""
        strength = np.zeros(len(changes))
        for values, tail in zip((changes / self.scale).T, self._tails, strict=True):
            np.fmax(strength, tail(values), out=strength)
        return strength

    def limits(self, least_level: float) -> JumpLimits:
        """What gives the sensors' limits at levels from this one on."""
        return JumpLimits(TailTable.of(self._tails, least_level), self.scale, self.least, self._known)
