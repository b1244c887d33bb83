"""Where each asset of a fleet is beside the others: what is learned of one of them in steps too small for ``anchor.moved``.

``anchor.moved`` allows what a season moves, in spreads of all that a machine does, nights and days together. A ramp or an offset of one
sensor of one machine is far less, and hides there. The other assets tell it: they have the same seasons. So every model keeps of each
asset its sensors' means and spreads over ``FEWEST_DAYS`` or more, and the anchor of a line those that were first known of it. ``departed``
says how far an asset has moved since, less the median of what all assets have moved. Means are the medians of those of the days: a machine
that stands still for some of them has not moved.

* **In spreads of its own.** A larger machine moves by more in the same season, and its spread is larger, too.
* **Less what the other sensors imply.** A machine that is loaded otherwise than the others moves along the relations of its sensors
  (``trend.Relation``, of hourly means, each asset about its own). What all do at the same hours makes relations, too, which are not those
  that one machine moves along, and of machines that do the same it is all that makes any: so there are two, of the means and of
  these less the median of the assets. Of a sensor the least counts of its move, and of what either leaves of it.
* **Less chance.** Each of these three has an error: what it scatters from day to day within an asset, over the root of the days. And
  spreads are not known better than to ``SIZE``, so that of what all have moved as much may seem to be one's own.

A season that one machine has more of than the others and that none of its sensors shows (a pump outdoors, without a sensor of the weather) is
not told from wear: people decide. Days' scatter as the unit was tried: machines whose load wanders over weeks move by many of the scatters of the days before.

**What people let in.** A change of an asset that people called normal is no departure. An asset is compared with where it was in the first
model of the line whose rows of it are all newer than what was last let in of it; until there is one it is not compared. Rows
are the newest of a training, without the sample of older ones, in which a change would go on to grow for as long as the history.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daemon.domain import DAY_NS, Floats, Ints, Segment
from daemon.model.anchor import ANCHOR, LEAST_WITHIN, MOST_NUMBERS, with_a_day
from daemon.model.bundle import Bundle
from daemon.model.trend import HOUR_NS, Relation

APART = "apart"
"""Name of the fact, and of the anchor's entry."""
FEWEST_ASSETS = 3
"""Of two that move apart nobody knows which has."""
FEWEST_DAYS = 3
"""To know what a day scatters."""
HALF = 0.5
"""The share of its rows that makes an hour or a day of an asset."""
ROUNDING = 1e-9
"""A spread of so small a share of the mean is none: the sensor stands still."""
MEDIAN = float(np.sqrt(np.pi / 2.0))
"""The error of a median, in that of a mean."""
CHANCE = 2.0
"""Errors that a move may be by chance."""
SIZE = 0.05
"""What a spread of a few days is known to, as a share of it: two machines alike seem to differ by as much of what both have moved."""


@dataclass(frozen=True, slots=True)
class Departure:
    """The furthest move of a sensor of an asset away from the other assets."""

    sensor: str
    asset: str
    distance: float  # standard deviations within the asset, of the anchor's; beyond chance
    version: str  # the model that the anchor is of

    def __str__(self) -> str:
        return (
            f"{self.sensor} of {self.asset} has moved {self.distance:.2f} standard deviations away from the other assets"
            f" since the line of model {self.version}"
        )


def standing(history: Sequence[Segment], period_ns: int) -> dict[str, Any] | None:
    """Where assets are, and how their sensors depend on each other within one.

    Args:
        history: the newest rows of a training.
        period_ns: of a row.

    Returns:
        Per asset of the ``assets`` the event time of its oldest row, and means and spreads by sensor, raw units (None: not known); the
        ``weights`` of both relations, and the ``errors`` by sensor of a move and of what each relation leaves of it, in these spreads. None
        of fewer than ``FEWEST_ASSETS`` with ``FEWEST_DAYS``, or of too many sensors.
    """
    C = history[0].values.shape[1] if history else 0
    if not 0 < 2 * C * C <= MOST_NUMBERS:
        return None
    assets, hours, days = {}, [], []
    for asset, segments in with_a_day(history, period_ns, 2 * C).items():
        values = np.concatenate([one.values for one in segments])
        rows = np.concatenate([one.first_row + np.arange(len(one.values)) for one in segments])
        mean, spread = _mean_and_spread(values)
        with np.errstate(all="ignore"):
            off = (values - mean) / spread
        off = np.where(np.isfinite(off), off, 0.0)
        by_day = _means(off, rows, max(DAY_NS // period_ns, 1))
        if len(by_day[0]) < FEWEST_DAYS:
            continue
        days.append(by_day)
        hours.append(_means(off, rows, max(HOUR_NS // period_ns, 1)))
        oldest, usual = int(rows.min()) * period_ns, mean + spread * np.median(by_day[1], axis=0)
        assets[asset] = {"since_ns": oldest, "mean": _written(usual), "spread": _written(spread)}
    if len(assets) < FEWEST_ASSETS:
        return None
    weights = [
        _weights(np.concatenate([means for _, means in hours])),
        _weights(_beside(hours).reshape(-1, C)),
    ]
    errors = [_error(one) for one in _seen(_beside(days), weights)]
    return {
        "assets": assets,
        "weights": [[_written(row) for row in each] for each in weights],
        "errors": [_written(each) for each in errors],
    }


def anchored_apart(candidate: Bundle, incumbent: Bundle, let_in_ns: Mapping[str, int]) -> Bundle:
    """The candidate whose anchor has where assets were in its line, where it has an anchor and that is known.

    Args:
        candidate: as ``anchor.anchored`` leaves it.
        incumbent: the model in force.
        let_in_ns: per asset the newest row that alarmed and was let in all the same.
    """
    anchor, own = candidate.facts.get(ANCHOR), incumbent.facts.get(APART)
    kept = None if anchor is None else anchor.get(APART)
    sources = [one for one in (kept, own) if one is not None]
    if anchor is None or not sources:
        return candidate
    assets: dict[str, Any] = {}
    for asset, one in itertools.chain.from_iterable(source["assets"].items() for source in sources):
        if one["since_ns"] > let_in_ns.get(asset, -1):
            assets.setdefault(asset, one)
    room = MOST_NUMBERS // (2 * len(candidate.sensors))
    place = {**sources[0], "assets": dict(itertools.islice(assets.items(), room))}
    return dataclasses.replace(candidate, facts={**candidate.facts, ANCHOR: {**anchor, APART: place}})


def departed(candidate: Bundle) -> Departure | None:
    """How far an asset has moved away from the others since the candidate's anchor; None where too few are known of both."""
    anchor = candidate.facts[ANCHOR]
    then, now = anchor.get(APART), candidate.facts.get(APART)
    if then is None or now is None:
        return None
    names = [asset for asset in now["assets"] if asset in then["assets"]]
    if len(names) < FEWEST_ASSETS:
        return None
    away = distances(names, then, now)
    a, c = np.unravel_index(int(away.argmax()), away.shape)
    return Departure(candidate.sensors[int(c)], names[int(a)], float(away[a, c]), str(anchor["version"]))


def distances(names: Sequence[str], then: Mapping[str, Any], now: Mapping[str, Any]) -> Floats:
    """(A, C) of each of these assets, known to both; see the module."""
    before, after = (np.array([of["assets"][name]["mean"] for name in names], float) for of in (then, now))
    spread = np.nan_to_num(np.array([then["assets"][name]["spread"] for name in names], float))
    unit = np.maximum(spread, LEAST_WITHIN * np.median(spread, axis=0))
    with np.errstate(all="ignore"):
        moves = (after - before) / unit
    known = np.isfinite(moves)
    known &= known.sum(0) >= FEWEST_ASSETS
    moves = np.where(known, moves, np.nan)
    shared = np.zeros(moves.shape[1])
    some = known.any(0)
    shared[some] = np.nanmedian(moves[:, some], axis=0)
    seen = _seen(np.nan_to_num(moves - shared), np.array(then["weights"], float))
    error = np.hypot(np.array(then["errors"], float), np.array(now["errors"], float))
    chance = CHANCE * error + SIZE * np.abs(shared)  # (3, C)
    beyond = [np.abs(move) - of for move, of in zip(seen, chance, strict=True)]
    return np.asarray(np.maximum(np.min(beyond, axis=0), 0.0))


def _seen(moves: Floats, weights: Sequence[Floats] | Floats) -> list[Floats]:
    """Moves (..., C), and what each relation leaves of them."""
    return [moves, *(moves - moves @ each.T for each in weights)]


def _mean_and_spread(values: Floats) -> tuple[Floats, Floats]:
    """(C,) each of readings (T, C); NaN where there is none, or they are too large to be squared."""
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(0), 1)
    with np.errstate(all="ignore"):
        mean = np.where(seen, values, 0.0).sum(0) / count
        spread = np.sqrt((np.where(seen, values - mean, 0.0) ** 2).sum(0) / count)
    spread = np.where(spread > ROUNDING * np.abs(mean), spread, 0.0)
    known = seen.any(0) & np.isfinite(mean) & np.isfinite(spread)
    return np.where(known, mean, np.nan), np.where(known, spread, np.nan)


def _means(values: Floats, rows: Ints, length: int) -> tuple[Ints, Floats]:
    """The spans of so many rows that have half of them, ascending, and the means (N, C) of rows (T, C) by these."""
    numbers, place, count = np.unique(rows // length, return_inverse=True, return_counts=True)
    sums = np.zeros((len(numbers), values.shape[1]))
    np.add.at(sums, place, values)
    enough = count >= HALF * length
    return numbers[enough], (sums / count[:, None])[enough]


def _beside(spans: Sequence[tuple[Ints, Floats]]) -> Floats:
    """(N, A, C) the means of the assets' spans less the medians of the assets; NaN where an asset has none."""
    every = np.unique(np.concatenate([numbers for numbers, _ in spans]))
    table = np.full((len(every), len(spans), spans[0][1].shape[1]), np.nan)
    for a, (numbers, means) in enumerate(spans):
        table[np.searchsorted(every, numbers), a] = means
    return np.asarray(table - np.nanmedian(table, axis=1, keepdims=True)) if len(every) else table


def _weights(hours: Floats) -> Floats:
    """(C, C) what sensors imply of each other, by hourly means (N, C) in the spreads that these are in."""
    relation = Relation.fit(hours[np.isfinite(hours).all(1)], np.ones(hours.shape[1]))
    return relation.weights * relation.scale[:, None] / relation.scale


def _error(days: Floats) -> Floats:
    """(C,) of the median of an asset's days (D, A, C): what they scatter within an asset, over the root of the days."""
    there = np.isfinite(days)
    count = there.sum(0)  # (A, C)
    mean = np.where(there, days, 0.0).sum(0) / np.maximum(count, 1)
    squares = (np.where(there, days - mean, 0.0) ** 2).sum((0, 1))
    free = np.maximum((count - 1).clip(0).sum(0), 1)
    days_of = np.maximum(np.median(count, axis=0), 1.0)
    return np.asarray(MEDIAN * np.sqrt(squares / free / days_of))


def _written(numbers: Floats) -> list[float | None]:
    """Rounded to nine digits; None for what is not finite."""
    return [float(f"{x:.9g}") if np.isfinite(x) else None for x in numbers.tolist()]
