"""A sample of all of a history: the half of a retraining that is not its newest rows.

The history is divided into blocks of event time, and each block has a rank that depends on the seed and its number
alone. Of every hour of the week the block of the lowest rank comes first, in order of rank, then the second of every
hour, and so on: so nights and Sundays come as often as they are, whatever the history's length, and a block that was
taken once is taken again as long as it is there and no lower one has come. Where the stream has conditions twice as many
blocks are read as are wanted, and those are kept that hold the conditions of which there is least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from daemon.domain import NO_CONDITION, Ints, Segment, StreamSpec

HOUR_NS = 3600 * 10**9
WEEK_HOURS = 168
BLOCKS, FEWEST_BLOCKS = 24, 4
"""Blocks that a sample has about, and at least: fewer are a sample of nothing."""
SHORTEST = 4
"""Windows in a block, at least."""
MOST_BLOCKS = 200_000
"""Blocks of a history that are ranked; of a longer one every second, third, ... is."""


def block_length(spec: StreamSpec, wanted: int, rows_per_hour: float) -> int | None:
    """Rows of one asset in a block; None where blocks would be so large that they are too few.

    Args:
        spec: period and window.
        wanted: rows of the sample, of all assets together.
        rows_per_hour: of all assets together.
    """
    per_row = max(rows_per_hour * spec.period_ns / HOUR_NS, 1e-9)  # rows of all assets in one of the grid's
    longest = max(HOUR_NS // spec.period_ns, SHORTEST * spec.window)
    length = min(max(int(wanted / BLOCKS / per_row), SHORTEST * spec.window), longest)
    return length if FEWEST_BLOCKS * length * per_row <= wanted else None


def ranked_blocks(first: int, stop: int, length: int, period_ns: int, seed: int) -> list[int]:
    """The first grid rows of the blocks that lie wholly in rows ``first .. stop - 1``, in the order to take them."""
    numbers = np.arange(-(-first // length), stop // length, dtype=np.int64)
    numbers = numbers[:: -(-len(numbers) // MOST_BLOCKS) or 1]
    rank = _ranks(numbers, seed)
    hour = numbers * length * period_ns // HOUR_NS % WEEK_HOURS
    order = np.lexsort((rank, hour))
    begins = np.flatnonzero(np.append(True, np.diff(hour[order]) != 0)) if len(order) else np.empty(0, int)
    turn = np.empty(len(numbers), np.int64)
    turn[order] = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    return (numbers[np.lexsort((rank, turn))] * length).tolist()  # type: ignore[no-any-return]


def _ranks(numbers: Ints, seed: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """A number for each that looks random (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def spread_over_conditions(blocks: Sequence[Sequence[Segment]], wanted: int) -> list[Sequence[Segment]]:
    """So many blocks, in their order, that they have ``wanted`` rows: always one of the condition with fewest rows so far."""
    label_of = [_main_condition(block) for block in blocks]
    rows: dict[str, int] = dict.fromkeys(label_of, 0)
    left = list(range(len(blocks)))
    taken: list[int] = []
    while left and sum(rows.values()) < wanted:
        waiting = {label_of[i] for i in left}
        label = min(waiting, key=lambda one: (rows[one], one))
        i = next(i for i in left if label_of[i] == label)
        left.remove(i)
        taken.append(i)
        rows[label] += sum(len(segment.values) for segment in blocks[i])
    return [blocks[i] for i in sorted(taken)]


def _main_condition(block: Sequence[Segment]) -> str:
    labels = [label for segment in block for label in segment.condition]
    return max(sorted(set(labels)), key=labels.count) if labels else NO_CONDITION


def joined(parts: Sequence[Sequence[Segment]]) -> list[Segment]:
    """Parts of a history as one, by asset and time; what lies between two parts is no silence."""
    marked: list[Segment] = []
    for part in parts:
        seen: set[str] = set()
        for segment in part:
            marked.append(segment if segment.asset in seen else replace(segment, after_cut=True))
            seen.add(segment.asset)
    return sorted(marked, key=lambda segment: (segment.asset, segment.first_row))
