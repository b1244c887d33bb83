"""How histories are cut: into windows, into contiguous pieces, and into the blocks of cross-fitting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import Floats, Segment

BLOCKS = 5
"""Blocks of cross-fitting."""


def sliding(values: NDArray[Any], length: int) -> NDArray[Any]:
    """All windows of a series, as a view: (T, C) to (T - L + 1, L, C); empty if T < L."""
    if len(values) < length:
        return np.empty((0, length, values.shape[1]), values.dtype)
    return np.lib.stride_tricks.sliding_window_view(values, length, axis=0).transpose(0, 2, 1)


def bridged(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, C) with gaps bridged in time: linear inside, held at the edges, 0 if never observed.

    Only the starting point of the model's own filling in training; never used for scoring.
    """
    result = values.copy()
    index = np.arange(len(values))
    for channel in np.flatnonzero(~np.isfinite(values).all(0)):
        known = np.isfinite(values[:, channel])
        if known.any():
            result[:, channel] = np.interp(index, index[known], values[known, channel])
        else:
            result[:, channel] = 0.0
    return result


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows ``start .. stop - 1`` of one segment of a history."""

    segment: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def sample_windows(
    history: Sequence[Segment], pieces: Sequence[Piece], window: int, most: int
) -> tuple[Floats, list[str]]:
    """At most about ``most`` evenly spread windows of the pieces, with their condition labels."""
    total = sum(max(len(piece) - window + 1, 0) for piece in pieces)
    stride = max(total // most, 1)
    windows, labels = [], []
    for piece in pieces:
        segment = history[piece.segment]
        some = sliding(segment.values[piece.start : piece.stop], window)[::stride]
        windows.append(some)
        ends = np.arange(piece.start + window - 1, piece.start + window - 1 + stride * len(some), stride)
        labels += [segment.condition[i] if segment.condition else "" for i in ends]
    return np.concatenate(windows), labels


def rows_per_asset(history: Sequence[Segment]) -> dict[str, int]:
    """Rows of each asset, in order of first appearance."""
    rows: dict[str, int] = {}
    for segment in history:
        rows[segment.asset] = rows.get(segment.asset, 0) + len(segment.values)
    return rows


def by_asset(history: Sequence[Segment], length: int) -> bool:
    """Whether whole assets are the blocks: a fleet whose histories are short.

    Under 2 x 5 x L rows an asset's own blocks would be hardly longer than their context.
    """
    rows = [n for n in rows_per_asset(history).values() if n >= 2 * length]
    return len(rows) > 1 and float(np.median(rows)) < 2 * BLOCKS * length


def fitting_length(history: Sequence[Segment], wanted: int) -> int:
    """The longest window up to ``wanted`` that the rows can calibrate; 0 if none.

    Rule: the longest asset has 2 x 5 x L rows, or (whole assets as blocks) two assets have
    2 x L rows each. With less the window shrinks to a tenth of the rows, and below 40 rows
    (or ten times the wanted window, if that is less) nothing can be calibrated.
    """
    rows = sorted(rows_per_asset(history).values(), reverse=True) or [0]
    alone = rows[0] // (2 * BLOCKS)
    together = rows[1] // 2 if len(rows) > 1 else 0
    longest = max((len(s.values) for s in history), default=0) // 2
    length = min(wanted, max(alone, together), longest)
    return length if length >= min(4, wanted) else 0


def folds(history: Sequence[Segment], length: int) -> list[list[Piece]]:
    """The held-out pieces of each block of cross-fitting; together they are all rows.

    Time blocks: block j is the j-th fifth of every asset's rows. Asset blocks: assets in
    order of appearance, distributed round-robin.
    """
    blocks: list[list[Piece]] = [[] for _ in range(BLOCKS)]
    rows = rows_per_asset(history)
    if by_asset(history, length):
        turn = {asset: i % BLOCKS for i, asset in enumerate(rows)}
        for i, segment in enumerate(history):
            blocks[turn[segment.asset]].append(Piece(i, 0, len(segment.values)))
        return [block for block in blocks if block]
    done = dict.fromkeys(rows, 0)
    for i, segment in enumerate(history):
        before, total = done[segment.asset], rows[segment.asset]
        for j in range(BLOCKS):
            start = max(total * j // BLOCKS - before, 0)
            stop = min(total * (j + 1) // BLOCKS - before, len(segment.values))
            if stop > start:
                blocks[j].append(Piece(i, start, stop))
        done[segment.asset] += len(segment.values)
    return [block for block in blocks if block]


def complement(history: Sequence[Segment], held_out: Sequence[Piece]) -> list[Piece]:
    """The rows that are not held out, as contiguous pieces."""
    of: dict[int, list[Piece]] = {}
    for piece in held_out:
        of.setdefault(piece.segment, []).append(piece)
    rest: list[Piece] = []
    for i, segment in enumerate(history):
        at = 0
        for piece in sorted(of.get(i, ()), key=lambda p: p.start):
            if piece.start > at:
                rest.append(Piece(i, at, piece.start))
            at = piece.stop
        if at < len(segment.values):
            rest.append(Piece(i, at, len(segment.values)))
    return rest


def longest_constant(history: Sequence[Segment], never: int) -> NDArray[np.int64]:
    """(C,) the longest run of rows over which a sensor's observed values were exactly equal.

    Counted in rows from the first to the last equal value within a segment, so that missing
    cells in between lengthen a run rather than break it. ``never`` for a sensor that had one
    value throughout, or was never observed: it is constant by nature.
    """
    channels = history[0].values.shape[1]
    longest = np.zeros(channels, np.int64)
    for channel in range(channels):
        values: set[float] = set()
        for segment in history:
            column: Floats = segment.values[:, channel]
            at = np.flatnonzero(np.isfinite(column))
            if not len(at):
                continue
            seen = column[at]
            starts = np.flatnonzero(np.concatenate([[True], seen[1:] != seen[:-1]]))
            ends = np.concatenate([starts[1:], [len(seen)]]) - 1
            longest[channel] = max(longest[channel], int((at[ends] - at[starts] + 1).max()))
            values.update(seen[starts[:2]].tolist())
        if len(values) < 2:
            longest[channel] = never
    return longest
