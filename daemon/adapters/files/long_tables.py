"""Long tables, a row per reading: their rows put together, one for each asset and time.

In: which asset, time and sensor each of the N rows is of, and its value. Out: ``Pivoted``, R rows of C sensors, and
where each row of the file went. Of several values of one cell the first in file order counts; where the sensor has
another ``reduce``, each is kept in a row of its own, of the same time, for the grid to make one value of.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from daemon.domain import Floats, Ints
from daemon.errors import InputError
from daemon.mapping import Reduce, SensorRule
from daemon.stream.extract.numbers import NotANumberError, number_of

_MOST_CELLS: Final = 250_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Pivoted:
    """A long table of N rows as R rows of C sensors."""

    values: Floats  # (R, C), NaN where there is none
    first: Ints  # (R,) the first of the rows of the file that went into each
    row: Ints  # (N,) the row that each row of the file went into
    sensor: Ints  # (N,) the sensor that it is of; -1: none
    numbers: Floats  # (N,) the value of each, NaN where there is none
    repeated: Ints  # (C,) values of a cell that had the same value already
    contradicting: Ints  # (C,) values of a cell that had another value already

    def only(self, sensors: Sequence[int]) -> Pivoted:
        """The same rows with these sensors alone."""
        place = np.full(len(self.repeated) + 1, -1, np.int64)
        place[list(sensors)] = np.arange(len(sensors))
        return replace(
            self,
            values=self.values[:, sensors],
            sensor=place[self.sensor],
            repeated=self.repeated[sensors],
            contradicting=self.contradicting[sensors],
        )


@dataclass(frozen=True, slots=True, eq=False)
class SensorLines:
    """Which sensor each of the N rows of a long table is of."""

    names: tuple[str, ...]  # C sensors, as the file calls them, in order of first appearance
    sensor: Ints  # (N,) index into names, -1 where a row names none
    rules: tuple[SensorRule, ...]  # (C,)

    @property
    def states(self) -> dict[str, float]:
        """The texts that are numbers for some sensor."""
        return {text: number for rule in self.rules for text, number in rule.states.items()}

    def numbers(self, texts: Sequence[str], rows: Ints) -> tuple[Floats, dict[str, Ints]]:
        """(M,) the numbers of M rows whose cells hold other texts than plain numbers, each as its sensor reads it.

        Args:
            texts: (M,) what they hold.
            rows: (M,) which rows they are.

        Returns:
            NaN where there is none; and the rows where the text stands for no number, by fault.
        """
        read: dict[tuple[int, str], float | str] = {}
        found = np.full(len(rows), np.nan)
        faults: dict[str, list[int]] = {}
        for i, (text, row) in enumerate(zip(texts, rows.tolist(), strict=True)):
            key = int(self.sensor[row]), text
            if key not in read:
                try:
                    read[key] = number_of(text, self.rules[key[0]].states if key[0] >= 0 else {})
                except NotANumberError as error:
                    read[key] = error.fault
            known = read[key]
            if isinstance(known, str):
                faults.setdefault(known, []).append(row)
            else:
                found[i] = known
        return found, {fault: np.array(of, np.int64) for fault, of in faults.items()}


def pivot(
    path: Path,
    keys: Sequence[Ints],
    sensor: Ints,
    values: Floats,
    reductions: Sequence[Reduce],
    alone: Collection[int],
) -> Pivoted:
    """The rows of a long table put together.

    Args:
        path: named in errors.
        keys: asset and time, (N,) each.
        sensor: (N,) index of a sensor, -1 where a row names none.
        values: (N,) NaN where there is none.
        reductions: of each sensor, C.
        alone: rows that cannot be used: each stays a row of its own.

    Raises:
        InputError: the table has too many sensors to be a table of rows.
    """
    asset, time = keys
    total, count = len(values), len(reductions)
    by_itself = np.zeros(total, np.int64)
    single = np.array(sorted(alone), np.int64)
    by_itself[single] = single + 1
    nth = _nth_of_reduced(keys, sensor, values, reductions, by_itself)
    order = np.lexsort((np.arange(total), nth, by_itself, time, asset))
    begins = np.ones(total, bool)
    begins[1:] = np.any([np.diff(key[order]) != 0 for key in (asset, time, by_itself, nth)], axis=0)
    group = np.cumsum(begins) - 1
    leading = order[begins]  # the first row of the file in each group
    rank = np.empty(len(leading), np.int64)
    rank[np.argsort(leading)] = np.arange(len(leading))
    row = np.empty(total, np.int64)
    row[order] = rank[group]
    if len(leading) * count > _MOST_CELLS:
        raise InputError(f"{path}: {len(leading)} times of {count} sensors are too many for a table")
    cells = np.full((len(leading), count), np.nan)
    seen = np.flatnonzero((sensor >= 0) & np.isfinite(values))
    place = row[seen] * count + sensor[seen]
    _, first = np.unique(place, return_index=True)
    cells.flat[place[first]] = values[seen[first]]
    later = np.ones(len(seen), bool)
    later[first] = False
    same = cells.flat[place[later]] == values[seen[later]]
    again = sensor[seen[later]]
    return Pivoted(
        cells,
        np.sort(leading),
        row,
        sensor,
        values,
        np.bincount(again[same], minlength=count),
        np.bincount(again[~same], minlength=count),
    )


def _nth_of_reduced(
    keys: Sequence[Ints], sensor: Ints, values: Floats, reductions: Sequence[Reduce], by_itself: Ints
) -> Ints:
    """(N,) how many values of the same asset, time and sensor come before, where such values are reduced; else 0."""
    nth = np.zeros(len(values), np.int64)
    reduced = np.array([*(rule is not Reduce.FIRST for rule in reductions), False], bool)
    rows = np.flatnonzero(reduced[sensor] & np.isfinite(values) & (by_itself == 0))
    if not len(rows):
        return nth
    of = [key[rows] for key in (sensor, *keys)]
    order = np.lexsort((rows, *of))
    begins = np.ones(len(rows), bool)
    begins[1:] = np.any([np.diff(key[order]) != 0 for key in of], axis=0)
    starts = np.flatnonzero(begins)
    nth[rows[order]] = np.arange(len(rows)) - starts[np.cumsum(begins) - 1]
    return nth
