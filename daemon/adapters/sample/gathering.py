"""The readings of a sample, whatever they came in: per sensor a series, per asset the times, rows that sensors share.

``of_survey`` takes the cells of messages, ``of_table`` the rows of a table. Both leave out what has no number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from daemon.adapters.files import Table
from daemon.adapters.sample.facts import Series, is_event_time
from daemon.adapters.sample.roles import is_bookkeeping
from daemon.adapters.sample.survey import Survey
from daemon.domain import Floats, Ints, Mask
from daemon.stream.extract.numbers import FAULT_HINTS

MOST_ROW_CELLS: Final = 20_000_000
"""Rows times sensors that are laid out to find duplicates."""


@dataclass(frozen=True, eq=False)
class Readings:
    """What a sample holds of C sensors.

    ``reporters`` are the event times of whatever sends at one period: an asset, or an asset's sensor. ``columns``
    (N, C) has the numbers on common rows, NaN where there is none; it is empty where there would be too many.
    """

    sensors: tuple[str, ...]
    series: Mapping[str, Series]
    reporters: Sequence[Ints]
    assets: Sequence[Ints]  # the event times of each asset
    columns: Floats
    gathered: bool  # rows come in parts: a missing number was not sent
    left_out: Mapping[str, str] = field(default_factory=dict)  # what is no sensor, and why


def of_survey(found: Survey, exclude: Collection[str], *, gathered: bool) -> Readings:
    """The readings of messages; sensors by name."""
    there = np.isfinite(found.numbers)
    order = np.lexsort((found.record, found.time_ns, found.asset, found.sensor))
    order = order[there[order]]
    bounds = np.flatnonzero(np.diff(found.sensor[order])) + 1
    series: dict[str, Series] = {}
    left_out: dict[str, str] = {}
    for part in np.split(order, bounds):
        if not len(part):
            continue
        name = found.sensors[found.sensor[part[0]]]
        if name in exclude:
            continue
        if not name.strip() or not name.isprintable():
            left_out[ascii(name)] = "no name for a sensor"
        elif is_event_time(found.numbers[part], found.time_ns[part]):
            left_out[name] = "a time"
        elif found.candidate.fields is None and is_bookkeeping(name):
            left_out[name] = "numbers messages or their parts; list it below sensors to take it in"
        else:
            cuts = np.flatnonzero(np.diff(found.asset[part])) + 1
            series[name] = Series(
                name, np.split(found.time_ns[part], cuts), np.split(found.numbers[part], cuts)
            )
    for name in found.sensors:
        if name not in series and name not in exclude and name not in left_out and name in found.kinds:
            left_out[name] = _no_number(found, name)
    sensors = tuple(sorted(series))
    by_asset = np.argsort(found.asset, kind="stable")
    assets = np.split(found.time_ns[by_asset], np.flatnonzero(np.diff(found.asset[by_asset])) + 1)
    reporters = [times for name in sensors for times in series[name].times] if gathered else assets
    return Readings(sensors, series, reporters, assets, _rows(found, order, sensors), gathered, left_out)


def _no_number(found: Survey, name: str) -> str:
    """Why a sensor has no number: what its cells are most, and what helps."""
    faults = found.faults.get(name)
    if not faults:
        return "no number"
    fault = max(faults, key=lambda fault: (faults[fault], fault))
    return f"no number, as {found.examples[name, fault]}: {FAULT_HINTS[fault]}"


def _rows(found: Survey, order: Ints, sensors: Sequence[str]) -> Floats:
    """(N, C) the numbers of the sensors by asset and event time."""
    place = {name: c for c, name in enumerate(sensors)}
    column = np.array([place.get(name, -1) for name in found.sensors], np.int64)[found.sensor[order]]
    keys = np.stack([found.asset[order], found.time_ns[order]])
    _, row = np.unique(keys, axis=1, return_inverse=True)
    rows = int(row.max(initial=-1)) + 1
    if rows * len(sensors) > MOST_ROW_CELLS:
        return np.empty((0, len(sensors)))
    values = np.full((rows, len(sensors)), np.nan)
    kept = column >= 0
    values[row.reshape(-1)[kept], column[kept]] = found.numbers[order][kept]
    return values


def of_table(table: Table, exclude: Collection[str]) -> Readings:
    """The readings of a table's usable rows; sensors in file order, without those that hold no number."""
    usable = np.flatnonzero(table.usable)
    usable = usable[np.lexsort((table.time_ns[usable], table.asset_codes[usable]))]
    cuts = np.flatnonzero(np.diff(table.asset_codes[usable])) + 1
    tracks = np.split(table.time_ns[usable], cuts)
    filled: Mask = np.asarray(np.isfinite(table.values[usable]).any(axis=0), bool)
    wanted = [c for c, name in enumerate(table.sensors) if name not in exclude]
    places = [c for c in wanted if filled[c]]
    sensors = tuple(table.sensors[c] for c in places)
    left_out = {
        table.sensors[c]: "holds no number; list it below sensors to take it in"
        for c in wanted
        if not filled[c]
    }
    columns = table.values[usable][:, places]
    series = {}
    for c, name in enumerate(sensors):
        numbers = np.split(columns[:, c], cuts)
        kept = [np.isfinite(each) for each in numbers]
        series[name] = Series(
            name,
            [times[k] for times, k in zip(tracks, kept, strict=True) if k.any()],
            [each[k] for each, k in zip(numbers, kept, strict=True) if k.any()],
        )
    return Readings(sensors, series, tracks, tracks, columns, gathered=False, left_out=left_out)
