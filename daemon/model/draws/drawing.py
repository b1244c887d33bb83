"""Draw missing cells: standard normal error paths through the errors' quantiles, around the imputed values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Segment,
)
from daemon.model.draws.marginals import NINETY, Marginals, calibrate, margins
from daemon.model.draws.simulation import ErrorPaths
from daemon.model.imputation.field import last_observed, next_observed
from daemon.model.imputation.filling import Fill
from daemon.model.imputation.habit import WeekClock
from daemon.model.imputation.mixture import GapPlaces, gap_places
from daemon.model.imputation.parameters import ImputationParameters

AUXILIARY = 200
"""Paths that are simulated at least: their spread standardises a cell to within 5 %."""
ROWS_AT_ONCE = 512
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Draws of some cells of one segment, in the order of their rows. Raw units."""

    segment: int
    rows: Ints  # (n,)
    channels: Ints  # (n,)
    values: Floats  # (n, D)
    low: Floats  # (n,) 90 % interval of the distribution that is drawn from
    high: Floats


@dataclass(frozen=True, slots=True, eq=False)
class GappedSegment:
    """A segment whose gaps were filled, and which of its missing cells are to be drawn."""

    segment: Segment  # raw units, NaN where missing
    fill: Fill  # by ``impute_segments``
    wanted: Mask  # (T, C); a cell that has no imputed value has no draws either


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """How draws are made."""

    count: int  # D draws per cell
    seed: int = 0  # the same gives the same draws
    joint: bool = (
        True  # False draws every cell independently, from the same marginals: the reference for joint draws
    )


def draw(
    parameters: ImputationParameters,
    gapped: Sequence[GappedSegment],
    settings: DrawSettings,
    clock: WeekClock,
    progress: Progress | None = None,
) -> Iterator[Drawn]:
    """Draw the wanted cells of every segment, some rows at a time.

    Args:
        parameters: as fitted.
        gapped: the segments, all of the same sensors.
        settings: how many draws, and how.
        clock: of the segments' rows.
        progress: called with the share done.
    """
    count, seed = settings.count, settings.seed
    segments = [one.segment for one in gapped]
    marginals = calibrate(parameters, segments, clock, np.random.default_rng([seed, 0]))
    total = max(sum(int(one.wanted.sum()) for one in gapped), 1)
    done = 0
    for s, one in enumerate(gapped):
        observed = np.isfinite(one.segment.values)
        mask = one.wanted & ~observed & np.isfinite(one.fill.value)
        if not mask.any():
            continue
        generator = np.random.default_rng([seed, 1, s])
        rows = np.arange(len(observed))[:, None]
        alone: Mask = np.asarray(~observed[:, parameters.partners].any(2))
        places = gap_places(rows, last_observed(observed), next_observed(observed), len(observed), alone)
        paths = None
        if settings.joint:
            paths = ErrorPaths(parameters, observed, mask, max(count, AUXILIARY), generator).rows()
        wanted_rows = np.flatnonzero(mask.any(1))
        for begin in range(0, len(wanted_rows), ROWS_AT_ONCE):
            some = wanted_rows[begin : begin + ROWS_AT_ONCE]
            if paths is not None:
                found = [next(paths) for _ in some]
                row = np.concatenate([np.full(len(c), r) for r, c, _ in found])
                channel = np.concatenate([c for _, c, _ in found])
                path = np.concatenate([p for _, _, p in found])
                spread = np.sqrt((path * path).mean(1, keepdims=True))
                deviates = path[:, :count] / np.maximum(spread, 1e-12)
            else:
                at, channel = np.nonzero(mask[some])
                row = some[at]
                deviates = generator.standard_normal((len(row), count))
            cells = _Cells(s, row, channel, places.at(row, channel))
            yield _drawn(parameters, marginals, one.fill, cells, deviates)
            done += len(row)
            if progress is not None:
                progress(done / total)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """n missing cells of one segment."""

    segment: int
    row: Ints  # (n,)
    channel: Ints  # (n,)
    places: GapPlaces  # (n,)


def _drawn(
    parameters: ImputationParameters, marginals: Marginals, fill: Fill, cells: _Cells, deviates: Floats
) -> Drawn:
    """From standard normal deviates (n, D) to draws."""
    row, channel = cells.row, cells.channel
    margin = (margins(parameters, channel, cells.places) * parameters.scale[channel])[:, None]
    ends = np.broadcast_to(np.array([-NINETY, NINETY]), (len(row), 2))
    centre = fill.value[row, channel]
    values = centre[:, None] + margin * marginals.of(
        np.concatenate([deviates, ends], 1), channel, cells.places.bucket
    )
    for c in np.unique(channel).tolist():
        mine = channel == c
        values[mine] = marginals.plausible(values[mine], centre[mine], c)
    low, high = np.minimum(values[:, -2], centre), np.maximum(values[:, -1], centre)
    return Drawn(cells.segment, row, channel, values[:, :-2], low, high)
