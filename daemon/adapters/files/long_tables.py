"""Long tables, a row per reading: their rows put together, one for each asset and time.

In: which asset, time and sensor each of the N rows is of, and its value. Out: ``Pivoted``, R rows of C sensors, and
where each row of the file went. Of several values of one cell the first in file order counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from daemon.domain import Floats, Ints
from daemon.errors import InputError

_MOST_CELLS: Final = 250_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Pivoted:
    """A long table of N rows as R rows of C sensors."""

    values: Floats  # (R, C), NaN where there is none
    first: Ints  # (R,) the first of the rows of the file that went into each
    row: Ints  # (N,) the row that each row of the file went into
    sensor: Ints  # (N,) the sensor that it is of; -1: none
    repeated: int  # values of a cell that had the same value already
    contradicting: int  # values of a cell that had another value already


def pivot(
    path: Path, keys: Sequence[Ints], sensor: Ints, values: Floats, count: int, alone: Collection[int]
) -> Pivoted:
    """The rows of a long table put together.

    Args:
        path: named in errors.
        keys: asset and time, (N,) each.
        sensor: (N,) index of a sensor, -1 where a row names none.
        values: (N,) NaN where there is none.
        count: of sensors.
        alone: rows that cannot be used: each stays a row of its own.

    Raises:
        InputError: the table has too many sensors to be a table of rows.
    """
    asset, time = keys
    total = len(values)
    by_itself = np.zeros(total, np.int64)
    single = np.array(sorted(alone), np.int64)
    by_itself[single] = single + 1
    order = np.lexsort((np.arange(total), by_itself, time, asset))
    begins = np.ones(total, bool)
    begins[1:] = (np.diff(asset[order]) != 0) | (np.diff(time[order]) != 0) | (np.diff(by_itself[order]) != 0)
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
    return Pivoted(cells, np.sort(leading), row, sensor, int(same.sum()), int((~same).sum()))
