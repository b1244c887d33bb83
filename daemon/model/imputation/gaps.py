"""Long gaps, and whether a sensor's habit fills them better than a line: decided on gaps that are hidden on purpose.

Gaps of training are hidden for some or all sensors at once, as long as half of a third of training; by the fields
and the habit of the other thirds their cells are estimated twice, from the readings and from the readings less the
habit. Where the habit saves ``GAIN`` of the error, per sensor and distance to the nearest reading, it is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Mask,
)
from daemon.model.imputation.field import REACH
from daemon.model.imputation.filling import batch_members, batch_places
from daemon.model.imputation.folds import Fields, thirds
from daemon.model.imputation.habit import FEWEST_DAYS, DayTable, Habit, WeekClock, fit_habit
from daemon.model.imputation.mixture import BATCH_BUCKETS, BUCKETS, NEVER, HiddenCells, fit_mixture
from daemon.model.imputation.parameters import HabitFill

GAP_CELLS = 16_000
"""Cells of long gaps that are hidden, about."""
GAIN = 0.05
"""The share of the error that a habit must save to be worth it."""
SURE = 4.0
"""By so many of its standard errors it must save more than that: twice two, as cells of one gap are alike."""
_ROWS_OF_GAP, _SENSORS_OF_GAP = 24, 8  # of one gap so many are looked at: its cells are much alike
_FEWEST = 100  # hidden cells below which nothing is decided


def fit_gaps(
    blocks: Sequence[Floats],
    rows: Sequence[Ints],
    fields: Fields,
    clock: WeekClock,
    generator: np.random.Generator,
) -> tuple[HiddenCells, HabitFill | None]:
    """Hide long gaps: their cells, as estimated from readings, and the habits that fill them better, if any.

    Args:
        blocks: (T_i, C) scaled.
        rows: (T_i,) the numbers of their rows on the grid.
        fields: fitted to the blocks.
        clock: of the rows.
        generator: which gaps.
    """
    folds = thirds([len(block) for block in blocks])
    around = _Around.of(blocks, rows, clock, folds)
    plain: list[HiddenCells] = []
    habitual: list[HiddenCells] = []
    lengths: list[Ints] = []
    for f, fold in enumerate(folds):
        part = [blocks[i][piece] for i, piece in fold]
        usual = [] if around is None else [around.outside[f].at(rows[i][piece], clock) for i, piece in fold]
        for gap in _hidden_gaps(part, GAP_CELLS // len(folds), generator):
            block, first, hidden = gap.block, gap.first, gap.hidden
            piece = part[block][first : first + len(hidden)]
            row, channel = gap.row, gap.channel
            known = np.isfinite(piece[row, channel])
            row, channel = row[known], channel[known]
            truth, masked = piece[row, channel], np.where(hidden, np.nan, piece)
            places = batch_places(fields.outside[f], masked, row, channel)
            bucket = places.bucket
            lengths.append(places.gap)
            members = batch_members(fields.outside[f], masked, row, channel)
            plain.append(HiddenCells(members, truth, channel, bucket))
            if around is not None:
                base = usual[block][first : first + len(hidden)]
                members = batch_members(around.fields.outside[f], masked - base, row, channel)
                habitual.append(HiddenCells(members, truth - base[row, channel], channel, bucket))
    cells = HiddenCells.joined(plain)
    if around is None:
        return cells, None
    return cells, _chosen(cells, HiddenCells.joined(habitual), np.concatenate(lengths), around)


@dataclass(frozen=True, slots=True, eq=False)
class _Around:
    """The habit of training and of all but each fold, and the fields of the readings less the habit."""

    habit: Habit
    outside: list[Habit]
    fields: Fields

    @staticmethod
    def of(
        blocks: Sequence[Floats],
        rows: Sequence[Ints],
        clock: WeekClock,
        folds: Sequence[Sequence[tuple[int, slice]]],
    ) -> _Around | None:
        """None where training has too few days, or its rows are days apart."""
        if not clock.steps or len(folds) == 1:
            return None
        days = [clock.days(numbers) for numbers in rows]
        if len(np.unique(np.concatenate([np.floor(day) for day in days]))) < FEWEST_DAYS:
            return None

        def of(pieces: Sequence[tuple[int, slice]]) -> Habit:
            table = DayTable.of([blocks[i][p] for i, p in pieces], [days[i][p] for i, p in pieces], clock)
            return fit_habit(table)

        outside = [
            of([p for g, other in enumerate(folds) if g != f for p in other]) for f in range(len(folds))
        ]
        whole = of([(i, slice(None)) for i in range(len(blocks))])
        if not whole or not all(outside):
            return None
        less = [block - whole.at(numbers, clock) for block, numbers in zip(blocks, rows, strict=True)]
        return _Around(whole, outside, Fields.of(less))


@dataclass(frozen=True, slots=True, eq=False)
class _Gap:
    """A gap of some sensors in a block, with the rows around it, and the n cells that are looked at."""

    block: int
    first: int  # row of the block at which ``hidden`` begins
    hidden: Mask  # (T, C)
    row: Ints  # (n,) of ``hidden``
    channel: Ints  # (n,)


def _hidden_gaps(part: Sequence[Floats], budget: int, generator: np.random.Generator) -> Iterator[_Gap]:
    """Gaps of 1 row to half a block, of one, some or all sensors; a quarter have readings on one side or on none.

    Each doubling of the length has the same share of the cells. Of short gaps there are several, one after the other.
    """
    weight = np.array([len(block) for block in part], float)
    if weight.sum() < 4:
        return
    weight /= weight.sum()
    octaves = int(np.log2(max(map(len, part)) // 2)) + 1
    for octave in range(octaves):
        cells = tries = 0
        while cells < budget // octaves and tries < budget // octaves:
            tries += 1
            i = int(generator.choice(len(part), p=weight))
            rows, channels = part[i].shape
            length = int(np.exp2(octave) * generator.uniform(1.0, 2.0))
            every = max(4 * length, 8)
            times = max(2 * REACH // every, 1)
            extent = (times - 1) * every + length
            if 2 * extent > rows:
                continue
            start = int(generator.integers(0, rows - extent + 1))
            kind = generator.random()
            first = start if kind < 1 / 8 else max(start - 2 * REACH, 0)
            stop = start + extent if kind < 1 / 4 else min(start + extent + 2 * REACH, rows)
            share = (0.0, generator.uniform(0.05, 0.5), 1.0)[int(generator.integers(3))]
            lost: Mask = np.asarray(generator.random(channels) < share)
            lost[generator.integers(channels)] = True
            gone = start - first + np.arange(times)[:, None] * every + np.arange(length)
            hidden = np.zeros((stop - first, channels), bool)
            hidden[gone.reshape(-1)] = lost
            at = np.unique(generator.choice(gone.reshape(-1), min(gone.size, _ROWS_OF_GAP), replace=False))
            some = generator.permutation(np.flatnonzero(lost))[:_SENSORS_OF_GAP]
            row, channel = np.repeat(at, len(some)), np.tile(some, len(at))
            cells += len(row)
            yield _Gap(i, first, hidden, row, channel)


def _chosen(plain: HiddenCells, habitual: HiddenCells, lengths: Ints, around: _Around) -> HabitFill | None:
    """The habits, where they save ``GAIN`` of the error of hidden cells; None where they do for no sensor.

    Args:
        plain, habitual: the same cells, as estimated without and with habits.
        lengths: (n,) the buckets of their gaps' lengths.
        around: the habits.
    """
    channels = around.habit.level.shape[1]
    errors: list[Floats] = []
    for one in (plain, habitual):
        # Of gaps of one length each: at the edge of a long gap is another place than in a short one.
        cells = replace(one, bucket=lengths)
        mixture = fit_mixture(cells, channels, BATCH_BUCKETS, (0, 1, 2), bounded=False)
        errors.append(np.abs(mixture.estimate(cells.members, cells.channel, cells.bucket) - cells.truth))
    saved = (1.0 - GAIN) * errors[0] - errors[1]
    group = plain.channel * BATCH_BUCKETS + lengths
    count, total, squares = (
        np.bincount(group, of, minlength=channels * BATCH_BUCKETS).reshape(channels, BATCH_BUCKETS)
        for of in (np.ones(len(saved)), saved, saved**2)
    )
    used = np.zeros((channels, BATCH_BUCKETS), bool)
    for b in range(BATCH_BUCKETS):
        place = b % BUCKETS
        # With the neighbouring lengths, which are much alike; where that is too few cells, as half the length.
        near = [b] if place == NEVER else [b + k for k in (-1, 0, 1) if 0 <= place + k < NEVER]
        n, mean = count[:, near].sum(1), total[:, near].sum(1)
        spread = np.sqrt(np.maximum(squares[:, near].sum(1) - mean**2 / np.maximum(n, 1), 0.0))
        shorter = used[:, b - 1] if 0 < place < NEVER else np.zeros(channels, bool)
        used[:, b] = np.where(n >= _FEWEST, mean > SURE * spread, shorter)
    # The level of a sensor that shows nothing at all is known from the others alone, if they are there.
    used[:, [NEVER, BUCKETS + NEVER]] = False
    if not used.any():
        return None
    mine = habitual.take(np.flatnonzero(used[habitual.channel, lengths]))
    mixture = fit_mixture(mine, channels, BATCH_BUCKETS, (0, 1, 2), bounded=False)
    field = around.fields.whole
    return HabitFill(around.habit, field.covariance, field.partners, used, mixture)
