"""A sensor's habit: its usual value at each time of the day, or of the week where weekdays differ.

Where many machines begin at six, a line across the night is no estimate of the morning. The habit is the median
over days of a sensor's mean in each quarter of an hour, of all days or of those with the same weekday, as it is or
smoothed: what predicts the weeks (the days, in less than two weeks) that it was not made from best, per sensor. Gaps
are filled by it as by the constant mean: the line and the field are those of the readings less the habit, so that
near a gap's edges the neighbours decide, and far from them the habit (``filling``). Whether it is used at all is
decided on hidden gaps, per sensor and distance (``fitting``).

Shapes: C sensors, H steps of the week, beginning on Monday at midnight, local time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Segment,
    StreamSpec,
    zone_of,
)

DAY_NS = 86_400_000_000_000
STEP_NS = 900_000_000_000
"""A quarter of an hour: nobody starts a machine more punctually."""
FEWEST_DAYS = 3
"""Days of readings below which nothing is known of habits."""
MOST_DAYS = 140
"""Of more days evenly many are looked at: their number and length bound the work."""
FOLDS = 5
WEEKDAYS = 7
MOST_STEPS = WEEKDAYS * (DAY_NS // STEP_NS)
"""Steps of a week, at most."""
_GAIN = 0.02  # relative gain that each less simple form must bring on days that it was not made from
_ROUNDING = 1e-6  # of a step: a time at its very beginning belongs to it
_HOUR_NS = 3_600_000_000_000
_THURSDAY = 3  # the weekday of the epoch


@dataclass(frozen=True, slots=True)
class WeekClock:
    """Where the rows of a stream's grid are in the local week."""

    period_ns: int
    timezone: str | None = None

    @staticmethod
    def of(spec: StreamSpec) -> WeekClock:
        """The clock of a stream."""
        return WeekClock(spec.period_ns, spec.timezone)

    @staticmethod
    def rows(segment: Segment) -> Ints:
        """(T,) the numbers of a segment's rows on the grid."""
        return (
            segment.first_row + np.arange(len(segment.values)) if segment.numbers is None else segment.numbers
        )

    def days(self, rows: Ints) -> Floats:
        """(T,) local days since the first Monday of the epoch, as fractions, of rows of the grid."""
        times = rows * self.period_ns
        hours, where = np.unique(times // _HOUR_NS, return_inverse=True)
        zone = zone_of(self.timezone)
        offset = [
            int(datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone).utcoffset().total_seconds())  # type: ignore[union-attr]
            for hour in hours.tolist()
        ]
        local = times + np.array(offset, np.int64)[where] * 1_000_000_000
        return np.asarray(local / DAY_NS + _THURSDAY)

    @property
    def steps(self) -> int:
        """Steps of a day; 0 if the rows are too far apart for a habit within days."""
        return max(DAY_NS // max(self.period_ns, STEP_NS), 0) if self.period_ns <= DAY_NS // 4 else 0

    @property
    def centre(self) -> float:
        """The mean place of a step's rows in it, in steps."""
        return max(0.0, (1.0 - self.period_ns * self.steps / DAY_NS) / 2.0) if self.steps else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Habit:
    """The usual values of C sensors in the course of a week."""

    level: Floats  # (H, C) scaled units; H = 0: there is none

    def __bool__(self) -> bool:
        return len(self.level) > 0

    def at(self, rows: Ints, clock: WeekClock) -> Floats:
        """(T, C) usual values at rows of the grid, on the line between the centres of steps."""
        count = len(self.level)
        place = np.mod(clock.days(rows), WEEKDAYS) / WEEKDAYS * count - clock.centre
        left = np.floor(place).astype(np.int64)
        share = (place - left)[:, None]
        before, after = self.level[left % count], self.level[(left + 1) % count]
        return np.asarray(before + share * (after - before))

    @staticmethod
    def none(sensors: int) -> Habit:
        """No habit of so many sensors."""
        return Habit(np.zeros((0, sensors)))


@dataclass(frozen=True, slots=True, eq=False)
class DayTable:
    """The means of D days in each of their steps."""

    means: Floats  # (D, N, C) NaN where nothing was observed
    weekday: Ints  # (D,)
    week: Ints  # (D,)

    @staticmethod
    def of(blocks: Sequence[Floats], days: Sequence[Floats], clock: WeekClock) -> DayTable:
        """The days of blocks (T_i, C), NaN where missing, whose rows are at ``days`` (T_i,)."""
        steps, sensors = clock.steps, blocks[0].shape[1]
        found: list[Floats] = []
        numbers: list[Ints] = []
        for block, when in zip(blocks, days, strict=True):
            place = np.floor(when * steps + _ROUNDING).astype(np.int64)
            day, step = place // steps, place % steps
            which, where = np.unique(day, return_inverse=True)
            cell = where * steps + step
            observed = np.isfinite(block)
            sums, counts = np.zeros((2, len(which) * steps, sensors))
            np.add.at(sums, cell, np.where(observed, block, 0.0))
            np.add.at(counts, cell, observed)
            mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
            found.append(mean.reshape(len(which), steps, sensors))
            numbers.append(which)
        means, number = np.concatenate(found), np.concatenate(numbers)
        if len(means) > MOST_DAYS:
            some = np.unique(np.linspace(0, len(means) - 1, MOST_DAYS).astype(int))
            means, number = means[some], number[some]
        return DayTable(means, number % WEEKDAYS, number // WEEKDAYS)

    def __len__(self) -> int:
        return len(self.means)

    def take(self, which: Ints) -> DayTable:
        """Some of the days."""
        return DayTable(self.means[which], self.weekday[which], self.week[which])


def fit_habit(table: DayTable) -> Habit:
    """The habit that the days show."""
    if len(table) < FEWEST_DAYS:
        return Habit.none(table.means.shape[2])
    weeks = np.unique(table.week)
    fold = np.searchsorted(weeks, table.week) % FOLDS if len(weeks) > 1 else np.arange(len(table)) % FOLDS
    forms = _forms(table)
    loss = np.zeros((len(forms), table.means.shape[2]))
    for f in np.unique(fold).tolist():
        made, kept = table.take(np.flatnonzero(fold != f)), table.take(np.flatnonzero(fold == f))
        truth = kept.means
        errors = [np.abs(truth - form[kept.weekday]) for form in _forms(made)]
        loss += np.stack([np.nansum(e, axis=(0, 1)) for e in errors])
    loss = loss * (1.0 + _GAIN * np.arange(len(forms)))[:, None]
    best = np.argmin(loss, axis=0)  # (C,)
    chosen = np.stack(forms)[best, :, :, np.arange(len(best))]  # (C, 7, N)
    return Habit(np.ascontiguousarray(chosen.reshape(len(best), -1).T))


def _forms(table: DayTable) -> list[Floats]:
    """(7, N, C) each: of every day alike and of each weekday, smoothed and as it is."""
    daily = _filled(_median(table.means), np.zeros(table.means.shape[1:]))
    every = np.broadcast_to(daily, (WEEKDAYS, *daily.shape))
    weekly = every.copy()
    for weekday in range(WEEKDAYS):
        mine = table.means[table.weekday == weekday]
        if len(mine):
            own = _median(mine)
            weekly[weekday] = np.where(np.isnan(own), daily, own)
    return [_smoothed(every), np.asarray(every), _smoothed(weekly), weekly]


def _median(means: Floats) -> Floats:
    """(N, C) the median over days; NaN where nothing was observed."""
    order = np.sort(means, axis=0)  # NaN last
    count = np.isfinite(means).sum(0)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    high = np.minimum(high, len(means) - 1)
    middle = [np.take_along_axis(order, at[None], 0)[0] for at in (low, high)]
    return np.asarray((middle[0] + middle[1]) / 2.0)


def _filled(level: Floats, default: Floats) -> Floats:
    """(N, C) with steps that were never observed on the line between those that were, around the day."""
    result = np.where(np.isnan(level), default, level)
    at = np.arange(len(level))
    for c in np.flatnonzero(np.isnan(level).any(0)).tolist():
        known = np.flatnonzero(np.isfinite(level[:, c]))
        if len(known):
            result[:, c] = np.interp(at, known, level[known, c], period=len(level))
    return np.asarray(result)


def _smoothed(level: Floats) -> Floats:
    """(7, N, C) around the week: a quarter of each neighbour and a half of its own."""
    flat = level.reshape(-1, level.shape[2])
    flat = 0.5 * flat + 0.25 * np.roll(flat, 1, 0) + 0.25 * np.roll(flat, -1, 0)
    return np.asarray(flat.reshape(level.shape))
