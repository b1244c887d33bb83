"""Fill missing cells with fitted parameters: live the newest row of each window, in batch whole segments.

Live filling uses only the past within one window, and each sensor's last reading before it. Batch filling
uses both sides of a gap and needs no window model. Both choose the neighbours that the field conditions on:
the sensor's own nearest readings, its most correlated partners at the same row, and these partners *at the
rows of those own readings*, which carry a residual across the gap. Windows and segments are filled
independently of one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Segment,
)
from daemon.model.imputation.field import NO_ROW, REACH, Field, chunks, last_observed, next_observed
from daemon.model.imputation.habit import WeekClock
from daemon.model.imputation.limits import ValueLimits
from daemon.model.imputation.mixture import BUCKETS, NEVER, GapPlaces, distance_bucket, gap_places
from daemon.model.imputation.parameters import ImputationParameters

LEVELS = (0.0, 1.0)
"""Level variances tau of the two fields that batch filling mixes."""
LIVE_LEVEL = 0.1
"""Level variance tau of live filling: one solve per cell is all that a stream can pay."""
LIVE_PARTNERS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """Values with their 90 % intervals, three arrays of one shape.

    Observed cells repeat the reading in all three. NaN for a sensor without any evidence:
    never observed, neither in training nor in what is to be filled.
    """

    value: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, eq=False)
class LiveWindows:
    """B windows whose newest row is filled; see ``fill_newest``. Scaled units."""

    values: Floats  # (B, L, C) NaN where missing
    expected: NDArray[np.float32] | Floats | None  # (B, L, C) the window model's mean
    last_value: Floats | None  # (B, C) each sensor's latest reading
    last_age: Ints | None  # (B, C) its age in rows


def fill_newest(
    parameters: ImputationParameters,
    values: NDArray[np.float32] | Floats,
    expected: NDArray[np.float32] | Floats | None,
    last_value: Floats | None = None,
    last_age: Ints | None = None,
) -> Fill:
    """Fill the newest row of each window from its past. Each window on its own.

    Args:
        parameters: fitted with the same scaler and window model.
        values: (B, L, C) scaled, NaN where missing (also in front of a young asset's rows).
        expected: (B, L, C) the window model's mean of ``values``; None if there is no model.
        last_value: (B, C) scaled, each sensor's latest reading before or in the window, NaN if
            none. Only needed for what the window does not show.
        last_age: (B, C) its age in rows at the newest row, 1 = the row before.

    Returns:
        (B, C), scaled.
    """
    x = np.asarray(values, dtype=np.float64)
    value = x[:, -1].copy()
    window, channel = np.nonzero(np.isnan(value))
    low, high = value.copy(), value.copy()
    if len(window):
        members, age = live_members(
            parameters, LiveWindows(x, expected, last_value, last_age), window, channel
        )
        bucket = distance_bucket(age)
        estimate = parameters.live.estimate(members, channel, bucket)
        estimate[~parameters.seen[channel]] = np.nan
        margin = parameters.live.half_width(channel, age, bucket)
        value[window, channel] = estimate
        low[window, channel] = estimate - margin
        high[window, channel] = estimate + margin
    return Fill(value, low, high)


def live_members(
    parameters: ImputationParameters, windows: LiveWindows, window: Ints, channel: Ints
) -> tuple[Floats, Ints]:
    """The members' estimates of missing newest cells.

    Args:
        parameters: as fitted.
        windows: B windows.
        window, channel: (n,) which of their newest cells.

    Returns:
        (n, 3) estimates, scaled; and (n,) the age in rows of the reading that they carry forward, 0 = none.
    """
    x, expected = windows.values, windows.expected
    last_value, last_age = windows.last_value, windows.last_age
    length = x.shape[1]
    observed = np.isfinite(x)
    # Only the windows with a missing cell in the newest row have neighbours to look for.
    some_windows, at = np.unique(window, return_inverse=True)
    seen = observed[some_windows]  # (H, L, C)
    newest = _latest(seen, 1)  # (H, C)
    last = newest[at, channel]
    shown = last >= 0
    row = np.maximum(last, 0)
    age = np.where(shown, length - 1 - last, 0)
    carried = np.where(shown, x[window, row, channel], np.nan)
    if last_value is not None and last_age is not None:
        earlier = np.isfinite(last_value[window, channel]) & ~shown
        carried = np.where(earlier, last_value[window, channel], carried)
        age = np.where(earlier, np.maximum(last_age[window, channel], length), age)
    weights = parameters.live.weights[channel, distance_bucket(age)]
    members = np.zeros((len(window), 3))
    members[:, 0] = np.where(np.isfinite(carried), carried, 0.0)
    if expected is not None:
        mean = np.asarray(expected, dtype=np.float64)
        residual = np.where(shown, carried - mean[window, row, channel], 0.0)
        decay = parameters.rho[channel] ** age
        members[:, 2] = mean[window, length - 1, channel] + decay * residual
    # The solve per cell is the expensive part: only where the mixture gives it weight.
    for some in chunks(np.flatnonzero(weights[:, 1] > 0)):
        channels, rows, exists = _live_neighbours(parameters, seen, newest, at[some], channel[some])
        first = window[some] * length  # of the window, in the windows laid end to end
        members[some, 1] = parameters.field.conditional(
            x.reshape(-1, x.shape[2]), channel[some], first + length - 1,
            (channels, rows + first[:, None], exists), (LIVE_LEVEL,),
        )[:, 0]  # fmt: skip
    return members, age


def _live_neighbours(
    parameters: ImputationParameters, seen: Mask, newest: Ints, at: Ints, channel: Ints
) -> tuple[Ints, Ints, Mask]:
    """Channels, rows in the window (n, K) and existence of each cell's neighbours."""
    length = seen.shape[1]
    row = np.arange(length)
    own = newest[at, channel][:, None]
    before = _latest(seen[at, :, channel] & (row < own), 1)[:, None]
    partners = parameters.partners[channel, :LIVE_PARTNERS]  # (n, P)
    latest = newest[at[:, None], partners]
    # The partner's reading at the sensor's own last reading, if that is not its latest.
    beside = _latest(seen[at[:, None], :, partners] & (row <= own[:, :, None]), 2)
    beside = np.where(beside != latest, beside, NO_ROW)
    channels = np.concatenate([channel[:, None], channel[:, None], partners, partners], 1)
    rows = np.concatenate([own, before, latest, beside], 1)
    return channels, rows, (rows >= 0) & (length - 1 - rows <= REACH)


def _latest(observed: Mask, axis: int) -> Ints:
    """The last True along an axis; far negative if there is none."""
    behind = np.flip(observed, axis).argmax(axis)
    return np.where(observed.any(axis), observed.shape[axis] - 1 - behind, NO_ROW)


def impute_segments(
    parameters: ImputationParameters, segments: Sequence[Segment], clock: WeekClock
) -> list[Fill]:
    """Fill every gap of each segment from both of its sides; segments are independent, but for their limits.

    Args:
        parameters: as fitted.
        segments: raw units, NaN where missing, one row per grid step.
        clock: of the rows, for habits.

    Returns:
        One fill per segment, (T, C), raw units, within the limits of training and of what the segments show.
    """
    limits = parameters.limits.widened(segments)
    return [
        _fill_segment(parameters.of_asset(segment.asset, segment.values), segment, clock, limits)
        for segment in segments
    ]


def _fill_segment(
    parameters: ImputationParameters, segment: Segment, clock: WeekClock, limits: ValueLimits
) -> Fill:
    raw = segment.values
    value = np.where(np.isfinite(raw), raw, np.nan)
    low, high = value.copy(), value.copy()
    row, channel = np.nonzero(np.isnan(value))
    if len(row):
        rows = BatchRows.of(parameters, segment, clock)
        estimate, places = batch_estimate(parameters, rows, row, channel)
        estimate = estimate * parameters.scale[channel] + parameters.mean[channel]
        margin = parameters.batch_margin(channel, places) * parameters.scale[channel]
        for ends, of in ((value, estimate), (low, estimate - margin), (high, estimate + margin)):
            ends[row, channel] = limits.applied(of, channel)
    return Fill(value, low, high)


@dataclass(frozen=True, slots=True, eq=False)
class BatchRows:
    """The rows of a segment, in whose gaps cells are estimated: (T, C) scaled, NaN where missing."""

    values: Floats
    usual: Floats | None  # the sensors' habit; None: there is none

    @staticmethod
    def of(parameters: ImputationParameters, segment: Segment, clock: WeekClock) -> BatchRows:
        """The rows of a segment, raw units, in scaled units."""
        raw = np.where(np.isfinite(segment.values), segment.values, np.nan)
        around = parameters.habitual
        usual = None if around is None else around.habit.at(clock.rows(segment), clock)
        return BatchRows((raw - parameters.mean) / parameters.scale, usual)

    def hidden(self, cells: Mask) -> BatchRows:
        """Without these cells."""
        return BatchRows(np.where(cells, np.nan, self.values), self.usual)


def batch_estimate(
    parameters: ImputationParameters, rows: BatchRows, row: Ints, channel: Ints
) -> tuple[Floats, GapPlaces]:
    """(n,) estimates of missing cells, scaled, and where the cells are in their gaps."""
    places = batch_places(parameters.field, rows.values, row, channel)
    around, usual = parameters.habitual, rows.usual
    by_habit = np.zeros(len(row), bool)
    estimate = np.empty(len(row))
    if around is not None and usual is not None:
        by_habit = around.used[channel, places.gap]
        r, c, b = row[by_habit], channel[by_habit], places.bucket[by_habit]
        members = batch_members(around.field, rows.values - usual, r, c)
        estimate[by_habit] = around.mixture.estimate(members, c, b) + usual[r, c]
    r, c, b = row[~by_habit], channel[~by_habit], places.bucket[~by_habit]
    members = batch_members(parameters.field, rows.values, r, c)
    # For a sensor that training never observed only its own readings count.
    alone = np.where(b % BUCKETS == NEVER, np.nan, members[:, 0])
    estimate[~by_habit] = np.where(parameters.seen[c], parameters.batch.estimate(members, c, b), alone)
    return estimate, places


def batch_places(field: Field, x: Floats, row: Ints, channel: Ints) -> GapPlaces:
    """Where missing cells (n,) of x (T, C) are in their gaps; ``field`` knows the sensors' partners."""
    observed = np.isfinite(x)
    left, right = last_observed(observed), next_observed(observed)
    alone: Mask = np.asarray(~observed[row[:, None], field.partners[channel]].any(1))
    return gap_places(row, left[row, channel], right[row, channel], len(x), alone)


def batch_members(field: Field, x: Floats, row: Ints, channel: Ints) -> Floats:
    """(n, 3) the members' estimates of missing cells of x (T, C)."""
    observed = np.isfinite(x)
    left, right = last_observed(observed), next_observed(observed)
    before, after = left[row, channel], right[row, channel]
    has_before, has_after = before >= 0, after < len(x)
    a = np.where(has_before, before, np.where(has_after, after, 0))
    b = np.where(has_after, after, a)
    share = np.where(b > a, (row - a) / np.maximum(b - a, 1), 0.0)
    members = np.zeros((len(row), 3))
    line = (1.0 - share) * x[a, channel] + share * x[b, channel]
    members[:, 0] = np.where(has_before | has_after, line, 0.0)
    for some in chunks(np.arange(len(row))):
        near = _batch_neighbours(field, left, right, row[some], channel[some])
        members[some, 1:] = field.conditional(x, channel[some], row[some], near, LEVELS)
    return members


def _batch_neighbours(
    field: Field, left: Ints, right: Ints, row: Ints, channel: Ints
) -> tuple[Ints, Ints, Mask]:
    """Channels, rows (n, K) and existence of each cell's neighbours."""
    length = len(left)
    first, second = left[row, channel], right[row, channel]
    further = np.where(first > 0, left[np.maximum(first - 1, 0), channel], NO_ROW)
    beyond = np.where(second < length - 1, right[np.clip(second + 1, 0, length - 1), channel], -NO_ROW)
    partners = field.partners[channel]  # (n, P)
    before, after = left[row[:, None], partners], right[row[:, None], partners]
    after = np.where(after == before, NO_ROW, after)
    columns = [np.stack([first, second, further, beyond], 1), before, after]
    for side in (first, second):
        inside = (side >= 0) & (side < length)
        at = np.where(inside, side, 0)[:, None]
        beside = np.where(inside[:, None] & (left[at, partners] == at), at, NO_ROW)
        columns.append(np.where((beside == before) | (beside == after), NO_ROW, beside))
    rows = np.concatenate(columns, 1)
    own = np.repeat(channel[:, None], 4, 1)
    channels = np.concatenate([own, partners, partners, partners, partners], 1)
    return channels, rows, (rows >= 0) & (rows < length) & (np.abs(rows - row[:, None]) <= REACH)
