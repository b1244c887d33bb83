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
from daemon.model.draws.marginals import NINETY, Marginals, calibrate, margins, value_ranges
from daemon.model.draws.simulation import ErrorPaths
from daemon.model.imputation.field import last_observed, next_observed
from daemon.model.imputation.filling import Fill
from daemon.model.imputation.mixture import gap_distances
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
    low: Floats  # (n,) 90 % interval of what the draws are drawn from
    high: Floats


def draw(
    parameters: ImputationParameters,
    segments: Sequence[Segment],
    fills: Sequence[Fill],
    wanted: Sequence[Mask],
    count: int,
    seed: int = 0,
    *,
    known: Sequence[Segment] = (),
    joint: bool = True,
    progress: Progress | None = None,
) -> Iterator[Drawn]:
    """Draw the wanted cells of every segment, some rows at a time.

    Args:
        parameters: as fitted.
        segments: raw units, NaN where missing.
        fills: what ``impute_segments`` makes of them.
        wanted: per segment (T, C): which of its missing cells; a cell without a value has no draws either.
        count: D draws.
        seed: the same gives the same draws.
        known: further history of the same sensors, that says what values they take.
        joint: False draws every cell by itself, from the same marginals: what draws that are joint are judged against.
        progress: told the share done.
    """
    marginals = calibrate(parameters, segments, np.random.default_rng([seed, 0]))
    if known:
        lowest, highest, values = value_ranges([*segments, *known], len(parameters.mean))
        marginals = Marginals(marginals.quantiles, lowest, highest, values)
    cells = max(sum(int(w.sum()) for w in wanted), 1)
    done = 0
    for s, (segment, fill, mask) in enumerate(zip(segments, fills, wanted, strict=True)):
        observed = np.isfinite(segment.values)
        mask = mask & ~observed & np.isfinite(fill.value)
        if not mask.any():
            continue
        generator = np.random.default_rng([seed, 1, s])
        rows = np.arange(len(observed))[:, None]
        distance, bucket = gap_distances(
            rows, last_observed(observed), next_observed(observed), len(observed)
        )
        paths = (
            ErrorPaths(parameters, observed, mask, max(count, AUXILIARY), generator).rows() if joint else None
        )
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
            yield _valued(parameters, marginals, s, fill, row, channel, distance, bucket, deviates)
            done += len(row)
            if progress is not None:
                progress(done / cells)


def _valued(
    parameters: ImputationParameters,
    marginals: Marginals,
    segment: int,
    fill: Fill,
    row: Ints,
    channel: Ints,
    distance: Ints,
    bucket: Ints,
    deviates: Floats,
) -> Drawn:
    """From standard normal deviates (n, D) to draws."""
    d, b = distance[row, channel], bucket[row, channel]
    margin = (margins(parameters, channel, d, b) * parameters.scale[channel])[:, None]
    ends = np.broadcast_to(np.array([-NINETY, NINETY]), (len(row), 2))
    centre = fill.value[row, channel]
    values = centre[:, None] + margin * marginals.of(np.concatenate([deviates, ends], 1), channel, b)
    for c in np.unique(channel).tolist():
        mine = channel == c
        values[mine] = marginals.plausible(values[mine], centre[mine], c)
    low, high = np.minimum(values[:, -2], centre), np.maximum(values[:, -1], centre)
    return Drawn(segment, row, channel, values[:, :-2], low, high)
