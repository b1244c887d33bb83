"""The slow baseline: levels that follow what is normal for an asset, so that drift raises no alarms.

In log space each channel's error (and each latent score) has a level that follows by at most 0.2 nats a day
and never falls below that of calibration:

    o <- max(o + rate * period * clip((x - o) / 2, -1, 1), 0),      x = log(e + .02) - median

(with .5 in the place of .02 for a latent score),
and errors are divided by exp(o). The state is the excess o rather than the level itself, so that a new
asset starts at zeros. o at row t uses the rows before t only. There is one state per channel, not one for
the combined score: an incident changes other channels than drift does, so drift does not absorb it.

**Own levels.** Assets and operating modes of one stream differ in how noisy they are. An asset or a
condition with at least ``OWN_ROWS`` held-out rows has its own medians, as offsets from the pooled ones,
shrunk towards these by ``SHRINK`` rows; any other is scored against the pooled medians. Windows whose
condition a fold's models did not know were measured under the unknown condition, and count as such. Some
rows of each fold are measured so on purpose besides; they give the level of a condition that the deployed
model does not know. The offsets o_asset + o_condition are the starting point of the slow baseline, in
calibration as on the stream, so that tails and threshold are fitted with them in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    NO_CONDITION,
    Floats,
    Ints,
)
from daemon.grouping import by_slot
from daemon.model.crossfit import HeldOutPiece

BASELINE_RATE = 0.2  # nats per day
BASELINE_WIDTH = 2.0  # nats, where the pull reaches its limit
CONTINUES = 10  # periods; after a longer gap the baseline starts afresh
OWN_ROWS = 320
"""Held-out rows from which an asset or a condition has levels of its own."""
SHRINK = 32
"""Shrinkage in rows: an own level counts n / (n + SHRINK). Two windows' worth, because neighbouring
windows share rows."""
OWN_LIMIT = 1.5
"""Own levels differ from the pooled ones by at most this, nats: a factor of 4.5."""


def follow(excess: Floats, state: Floats, slots: Ints, step: float) -> Floats:
    """Run the slow baseline over a batch, asset by asset in the order of the rows.

    Args:
        excess: (B, P) log level over the calibration median; NaN is no evidence.
        state: (N, P), moved on in place.
        slots: (B,) row of ``state`` of each window.
        step: largest move per row, nats.

    Returns:
        (B, P) the state *before* each window.
    """
    count = len(excess)
    offsets = np.empty_like(excess)
    if not count:
        return offsets
    finite = np.isfinite(excess)
    every = bool(finite.all())  # nearly always, and two passes less
    target = excess if every else np.where(finite, excess, 0.0)
    steps = np.broadcast_to(step, (count, 1)) if every else finite * step
    pull = 1.0 / BASELINE_WIDTH
    if (slots == slots[0]).all():
        level = state[slots[0]].copy()
        move = np.empty_like(level)
        for i in range(count):
            offsets[i] = level
            np.subtract(target[i], level, out=move)
            move *= pull
            np.minimum(move, 1.0, out=move)
            np.maximum(move, -1.0, out=move)
            move *= steps[i]
            level += move
            np.maximum(level, 0.0, out=level)
        state[slots[0]] = level
        return offsets
    # Rounds: the i-th window of every slot at once.
    rounds = by_slot(slots).occurrence
    order = np.argsort(rounds, kind="stable")
    ends = np.cumsum(np.bincount(rounds)).tolist()
    slots, target, steps, before = slots[order], target[order], steps[order], np.empty_like(excess)
    start = 0
    for stop in ends:
        some = slots[start:stop]
        levels = state[some]
        before[start:stop] = levels
        moves = target[start:stop]
        moves -= levels
        moves *= pull
        np.minimum(moves, 1.0, out=moves)
        np.maximum(moves, -1.0, out=moves)
        moves *= steps[start:stop]
        levels += moves
        np.maximum(levels, 0.0, out=levels)
        state[some] = levels
        start = stop
    offsets[order] = before
    return offsets


def own_offsets(
    asset_levels: Mapping[str, Floats],
    condition_levels: Mapping[str, Floats],
    assets: Iterable[str],
    conditions: Iterable[str] | None,
    states: int,
) -> Floats:
    """(B, P) what the own levels of an asset and of a condition add up to, per window.

    Args:
        asset_levels, condition_levels: (P,) nats over the pooled medians; a missing key counts as zero.
        assets: B names.
        conditions: B labels; None leaves the conditions out.
        states: P.
    """
    nothing = np.zeros(states)
    level = np.stack([asset_levels.get(asset, nothing) for asset in assets])
    if conditions is not None and condition_levels:
        level = level + np.stack([condition_levels.get(label, nothing) for label in conditions])
    return np.asarray(level)


def own_levels(
    pieces: Sequence[HeldOutPiece], excess: Sequence[Floats], unknown: Floats | None
) -> tuple[dict[str, Floats], dict[str, Floats], list[Floats]]:
    """Levels of those assets and conditions that have enough held-out rows.

    Args:
        pieces: all held-out pieces.
        excess: (B, P) of each piece, log levels over the pooled medians.
        unknown: (B, P) of windows that were measured as of an unknown condition, which
            determine the level of an unknown condition; None if there are none.

    Returns:
        The assets' levels (P,), the conditions' levels (P,), and each piece's own offsets (B, P).
    """
    states = excess[0].shape[1]
    labels = [np.array(piece.conditions, object) for piece in pieces]
    conditions = levels_by_key(np.concatenate(labels), np.concatenate(excess))
    if unknown is not None and len(unknown) >= OWN_ROWS:
        conditions[NO_CONDITION] = _level_of(unknown)
    conditions = dict(sorted(conditions.items()))
    names = [np.full(len(e), piece.asset, object) for piece, e in zip(pieces, excess, strict=True)]
    # Conditions first: where they are types of assets, a new asset finds the level of its type.
    left = list(excess)
    if conditions:
        left = [
            e - own_offsets({}, conditions, n, c, states)
            for e, n, c in zip(excess, names, labels, strict=True)
        ]
    assets = levels_by_key(np.concatenate(names), np.concatenate(left))
    offsets = [own_offsets(assets, conditions, n, c, states) for n, c in zip(names, labels, strict=True)]
    return assets, conditions, offsets


def levels_by_key(keys: NDArray[np.object_], excess: Floats) -> dict[str, Floats]:
    """Per key with enough rows the median excess (P,), shrunk and limited; none if there is one key."""
    rows: dict[str, list[int]] = {}
    for i, key in enumerate(keys.tolist()):
        rows.setdefault(key, []).append(i)
    levels: dict[str, Floats] = {}
    if len(rows) < 2:
        return levels
    for name in sorted(rows):
        if name == NO_CONDITION or len(rows[name]) < OWN_ROWS:
            continue
        mine = excess[rows[name]]
        if np.isfinite(mine).sum(0).max() >= OWN_ROWS:
            levels[name] = _level_of(mine)
    return levels


def _level_of(excess: Floats) -> Floats:
    """(P,) median of (B, P), shrunk and limited; 0 where there are too few."""
    count = np.isfinite(excess).sum(0)
    known = count >= OWN_ROWS
    level = np.zeros(excess.shape[1])
    level[known] = np.nanmedian(excess[:, known], axis=0)
    return np.asarray(np.clip(level * count / (count + SHRINK), -OWN_LIMIT, OWN_LIMIT))


def replay_baselines(
    pieces: Sequence[HeldOutPiece], excess: Sequence[Floats], own: Sequence[Floats], step: float
) -> tuple[Floats, dict[str, tuple[int, Floats]]]:
    """Run the baseline over every held-out piece, from zero in each block.

    Pieces run side by side (one slot each): a fleet costs no more rounds than one asset.

    Args:
        pieces: all held-out pieces.
        excess: (B, P) of each piece, log levels over the pooled medians.
        own: (B, P) of each piece, its own offsets.
        step: largest move of the baseline per row, nats.

    Returns:
        (B, P) what each window's errors are divided by, log; and per asset the row after its
        last, and its state (P,) there.
    """
    states: dict[tuple[int, str], int] = {}
    last_row: dict[tuple[int, str], int] = {}
    slots: list[Ints] = []
    for piece, one in zip(pieces, excess, strict=True):
        key = (piece.block, piece.asset)
        if key not in states or piece.first_row - last_row[key] > CONTINUES:
            states[key] = len(slots)
        slots.append(np.full(len(one), states[key], np.int64))
        last_row[key] = piece.end_row
    state = np.zeros((len(slots), excess[0].shape[1]))
    over = [e - level for e, level in zip(excess, own, strict=True)]
    offsets = follow(np.concatenate(over), state, np.concatenate(slots), step)
    carried: dict[str, tuple[int, Floats]] = {}
    for key, slot in states.items():
        asset, row = key[1], last_row[key]
        if asset not in carried or row > carried[asset][0]:
            carried[asset] = (row, state[slot].copy())
    return offsets + np.concatenate(own), carried
