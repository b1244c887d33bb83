"""What a missing reading would have been, with an interval: live for one row, in batch for files.

**The field.** Scaled readings are taken as a stationary Gaussian field over sensors and time
with the lagged covariances of training, Gamma[h]_ij = E x_i(t) x_j(t + h). A missing cell is
then a linear problem of a dozen or two unknowns (simple cokriging): pick the observed cells
that tell most about it, which are the sensor's own nearest readings, its closest partners at
the same row, and the partners *at the rows of those own readings* (this last group is what
lets a residual be carried across the gap), and take the conditional mean given these. One
formula covers single drops, bursts, outages, trailing gaps and dead sensors, because only the
list of neighbours changes. Two numbers keep it honest: ``NUGGET``, a noise variance on every
reading, and a *level* variance tau per sensor, a common offset of all its readings. The normal
state drifts; with tau > 0 the sensor's own readings count for their differences rather than
for their distance from the training mean.

**The window model.** The detector's reconstruction xhat of the same window, plus the carried
residual of the last observation: xhat(t) + rho^d (x(t-d) - xhat(t-d)), rho per sensor from the
residuals' autocorrelation. Where sensors are a nonlinear function of each other it knows what
no covariance does; on noisy sensors it believes single readings too much.

**The last value.** A slow sensor is best left where it was.

No one of these wins everywhere, so a cell gets their convex mixture, with weights per sensor
and distance to its nearest reading: those that had the least absolute error on training cells
that were hidden on purpose. Cells are hidden in each third of training in turn, with the
field of the other two thirds, in the ways readings are really lost. Live, the mixture may not
stray further from the last value than the sensor itself did in 99 % of those cells: when a
fault throws the partners about, a temperature still creeps. The interval is the
split-conformal 90 % quantile of the mixture's error on these same cells, again per sensor and
distance, never narrowing as the distance grows.

Live filling sees only the past of one window; batch filling sees both sides, has linear
interpolation in the place of the last value, and needs no window model at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Segment,
)

REACH = 48
"""Rows to either side from which a neighbour is taken."""
NUGGET = 0.01
"""Noise variance of a reading, in squared scaled units."""
LEVELS = (0.0, 1.0)
"""Level variances tau of the two fields that batch filling mixes."""
LIVE_LEVEL = 0.1
"""Level variance tau of live filling: one solve per cell is all that a stream can pay."""
PARTNERS = 10
LIVE_PARTNERS = 8
FIT_ROWS = 20_000
"""Rows from which covariances are learned; more are thinned to evenly spaced blocks."""
FIT_WINDOWS = 4_000
"""Windows in which live cells are hidden."""
FIT_CELLS = 60_000
"""Cells hidden for the batch weights, about."""
COVERAGE = 0.90
BUCKETS = 12
"""Distances 1, 2, 3-4, 5-8, ... rows; the last but one is open, the last means never."""
NEVER = BUCKETS - 1
_OPEN = BUCKETS - 2
_FOLDS = 3
_PRIOR = 20.0  # hidden cells that a sensor's average over all distances counts for
_FEW = 20  # below this many errors a quantile is not one
_STRAY = 0.99  # quantile of |reading - member 0| beyond which no member is believed
_CAUTION = np.array([0.0, 0.02, 0.04])  # by so much better must a cleverer member be
_MARGINAL = 1.645  # 90 % of a standard normal
_CHUNK = 1024
_NOWHERE = -(10**9)

Reconstruct = Callable[[NDArray[np.float32]], Floats]
"""Scaled windows (B, L, C), NaN where missing, to the window model's mean (B, L, C), no NaN."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Per sensor and distance bucket: how to mix the members, and how far off that is.

    Member 0 is what the sensor's own readings say alone: the last one, or the line between two.
    """

    weights: Floats  # (C, D, 3) convex
    step: Floats  # (C, D) how far from member 0 a reading may be thought to lie
    margin: Floats  # (C, D) half width of the interval

    def estimate(self, members: Floats, channel: Ints, bucket: Ints) -> Floats:
        """(n,) mixtures of (n, 3) members."""
        mixed = (self.weights[channel, bucket] * members).sum(1)
        step = self.step[channel, bucket]
        result: Floats = np.clip(mixed, members[:, 0] - step, members[:, 0] + step)
        return result

    def half_width(self, channel: Ints, distance: Ints, bucket: Ints) -> Floats:
        """(n,) half the interval; in the open bucket it grows on, up to the spread of training."""
        margin = self.margin[channel, bucket]
        last = bucket // BUCKETS * BUCKETS + _OPEN
        growth = _growth(self.margin[channel, last], self.margin[channel, last - 1])
        doublings = np.log2(np.maximum(distance, 1)) - _OPEN
        grown = np.minimum(margin * growth ** np.maximum(doublings, 0.0), np.maximum(margin, _MARGINAL))
        result: Floats = np.where(bucket == last, grown, margin)
        return result


def _growth(now: Floats, before: Floats) -> Floats:
    """Growth per doubling of the distance: a random walk's sqrt 2 to a ramp's 2."""
    growth: Floats = np.clip(now / np.maximum(before, 1e-12), np.sqrt(2.0), 2.0)
    return growth


@dataclass(frozen=True, slots=True, eq=False)
class ImputationParameters:
    """All that filling needs besides the window model; plain arrays, part of a bundle.

    Scaled units throughout, D distance buckets.
    """

    mean: Floats  # (C,) of the scaler, raw units
    scale: Floats  # (C,)
    seen: Mask  # (C,) observed in training at all
    covariance: Floats  # (4 * REACH + 1, C, C) Gamma at lags -2 * REACH .. 2 * REACH
    partners: Ints  # (C, P) most correlated first
    rho: Floats  # (C,) autocorrelation of the window model's residual
    live: Mixture  # last value, field, window model; D buckets
    batch: Mixture  # line, field at either level; 2 * D buckets: readings on both sides, on one

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a bundle stores."""
        result = {name: getattr(self, name) for name in _PLAIN}
        # Negative lags are the transposes, and fitting has rounded to float32 already.
        result["covariance"] = self.covariance[2 * REACH :].astype(np.float32)
        for name in _MIXTURES:
            mixture = getattr(self, name)
            result |= {f"{name}_{f.name}": getattr(mixture, f.name) for f in fields(Mixture)}
        return result

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> ImputationParameters:
        """The inverse of ``arrays``."""
        mixtures = [
            Mixture(**{f.name: arrays[f"{name}_{f.name}"] for f in fields(Mixture)}) for name in _MIXTURES
        ]
        plain = {name: arrays[name] for name in _PLAIN} | {"covariance": _mirrored(arrays["covariance"])}
        return ImputationParameters(*plain.values(), *mixtures)  # type: ignore[arg-type]  # in the order of the fields


_PLAIN = ("mean", "scale", "seen", "covariance", "partners", "rho")
_MIXTURES = ("live", "batch")


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """Values with their 90 % intervals, three arrays of one shape.

    Observed cells repeat the reading in all three. NaN for a sensor without any evidence:
    never observed, neither in training nor in what is to be filled.
    """

    value: Floats
    low: Floats
    high: Floats


# ------------------------------------------------------------------ the field
@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    covariance: Floats  # (4 * REACH + 1, C, C)
    partners: Ints

    def conditional(
        self, x: Floats, channel: Ints, row: Ints, near: tuple[Ints, Ints, Mask], levels: Sequence[float]
    ) -> Floats:
        """(n, M) conditional means of cells (row, channel) given their neighbours, one per tau.

        Args:
            x: (T, C) scaled, NaN where missing.
            channel, row: (n,) the cells.
            near: channels, rows (n, K) of the neighbours, and which of them exist.
            levels: M level variances tau.
        """
        channels, rows, exists = near
        sensors = self.covariance.shape[1]
        lag = np.where(exists, rows - row[:, None], 0)
        # Gamma[row_j - row_i, channel_i, channel_j] by one flat index that is a sum of two.
        of_i = (2 * REACH - lag) * sensors**2 + channels * sensors
        of_j = lag * sensors**2 + channels
        flat = self.covariance.reshape(-1)
        between = flat[of_i[:, :, None] + of_j[:, None, :]]  # (n, K, K)
        towards = flat[of_i + channel[:, None]]  # (n, K)
        # A neighbour that does not exist becomes an unrelated unit: its weight is exactly zero.
        both = exists[:, :, None] & exists[:, None, :]
        between *= both
        known = np.where(exists, x[np.where(exists, rows, 0), channels], 0.0)
        own = exists & (channels == channel[:, None])
        same = both & (channels[:, :, None] == channels[:, None, :]) if any(levels) else both
        variance = flat[2 * REACH * sensors**2 + channel * (sensors + 1)]
        result = np.empty((len(row), len(levels)))
        for m, level in enumerate(levels):
            system = between + level * same if level else between
            right = towards * exists + level * own
            weights = _weights(system, right, exists, variance + level)
            result[:, m] = (weights * known).sum(1)
        return result


def _weights(system: Floats, right: Floats, exists: Mask, variance: Floats) -> Floats:
    """(n, K) solutions of (system + nugget) w = right, with the least nugget that makes sense.

    Where training has gaps each covariance comes from its own pairs of readings, and together
    they need not be those of anything: the system may be indefinite, its solution absurd. With
    a true covariance w explains no more than the whole variance, and no less than the noise
    that it lets through, nugget |w|^2. Where it does not, ten times the nugget; in the end none.
    """
    result = np.zeros(right.shape)
    open_ = np.arange(len(right))
    diagonal = np.arange(right.shape[1])
    for nugget in (NUGGET, 10 * NUGGET, 100 * NUGGET):
        lhs = system[open_]
        lhs[:, diagonal, diagonal] += np.where(exists[open_], nugget, 1.0)
        try:
            w = np.linalg.solve(lhs, right[open_, :, None])[:, :, 0]
        except np.linalg.LinAlgError:  # exactly singular, one of the batch
            continue
        explained = (w * right[open_]).sum(1)
        slack = 1e-6 + 1e-6 * variance[open_]
        sound = explained <= variance[open_] + slack
        sound &= nugget * (w * w).sum(1) <= explained + slack
        result[open_[sound]] = w[sound]
        open_ = open_[~sound]
        if not len(open_):
            break
    return result


def _lagged_sums(blocks: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Sums of products and their counts at lags 0 .. 2 * REACH, (2 * REACH + 1, C, C) each."""
    channels = blocks[0].shape[1]
    lags = 2 * REACH + 1
    sums, counts = np.zeros((2, channels, lags * channels))
    for block in blocks:
        observed = np.isfinite(block)
        x = np.where(observed, block, 0.0)
        sums += _against_later(x, lags)
        if not observed.all():
            counts += _against_later(observed, lags)
        else:
            counts += np.repeat(np.maximum(len(block) - np.arange(lags), 0), channels)
    shape = (channels, lags, channels)
    return sums.reshape(shape).transpose(1, 0, 2), counts.reshape(shape).transpose(1, 0, 2)


def _against_later(x: Floats | Mask, lags: int) -> Floats:
    """(C, lags * C) sum over t of x(t) x(t + h)', for all h at once: one large product."""
    rows, channels = x.shape
    ahead = np.zeros((rows + lags, channels), np.float32)
    ahead[:rows] = x
    later = np.lib.stride_tricks.sliding_window_view(ahead.reshape(-1), lags * channels)[::channels]
    result = np.zeros((channels, lags * channels))
    for start in range(0, rows, 512):
        stop = min(start + 512, rows)
        result += ahead[start:stop].T @ later[start:stop]
    return result


def _field(sums: Floats, counts: Floats) -> _Field:
    gamma = (sums / np.maximum(counts, 1.0)).astype(np.float32).astype(np.float64)
    variance = np.maximum(np.diag(gamma[0]), NUGGET)
    likeness = np.abs(gamma[0]) / np.sqrt(np.outer(variance, variance))
    np.fill_diagonal(likeness, -1.0)
    partners = np.argsort(-likeness, axis=1, kind="stable")[:, : min(PARTNERS, len(variance) - 1)]
    return _Field(_mirrored(gamma), partners)


def _mirrored(gamma: NDArray[Any]) -> Floats:
    """Lags 0 .. 2 * REACH to -2 * REACH .. 2 * REACH: Gamma[-h] is Gamma[h] transposed."""
    both = np.concatenate([gamma[:0:-1].transpose(0, 2, 1), gamma]).astype(np.float64)
    return np.ascontiguousarray(both)


def _last_seen(observed: Mask) -> Ints:
    """(T, C) the latest observed row at or before each; far negative if none."""
    rows = np.arange(len(observed))[:, None]
    return np.maximum.accumulate(np.where(observed, rows, _NOWHERE), axis=0)


def _next_seen(observed: Mask) -> Ints:
    """(T, C) the earliest observed row at or after each; far positive if none."""
    result: Ints = len(observed) - 1 - _last_seen(observed[::-1])[::-1]
    return result


# ------------------------------------------------------------------ live
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
        members, age = _live_members(parameters, x, expected, last_value, last_age, window, channel)
        bucket = _bucket(age)
        estimate = parameters.live.estimate(members, channel, bucket)
        estimate[~parameters.seen[channel]] = np.nan
        margin = parameters.live.half_width(channel, age, bucket)
        value[window, channel] = estimate
        low[window, channel] = estimate - margin
        high[window, channel] = estimate + margin
    return Fill(value, low, high)


def _live_members(
    parameters: ImputationParameters,
    x: Floats,
    expected: NDArray[np.float32] | Floats | None,
    last_value: Floats | None,
    last_age: Ints | None,
    window: Ints,
    channel: Ints,
) -> tuple[Floats, Ints]:
    """(n, 3) the members' estimates of cells, and (n,) the age of what they carry, 0 = nothing."""
    length = x.shape[1]
    observed = np.isfinite(x)
    # Only what a neighbour can be needs looking at: the windows with a hole in the newest row.
    held, at = np.unique(window, return_inverse=True)
    seen = observed[held]  # (H, L, C)
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
    weights = parameters.live.weights[channel, _bucket(age)]
    members = np.zeros((len(window), 3))
    members[:, 0] = np.where(np.isfinite(carried), carried, 0.0)
    if expected is not None:
        mean = np.asarray(expected, dtype=np.float64)
        residual = np.where(shown, carried - mean[window, row, channel], 0.0)
        decay = parameters.rho[channel] ** age
        members[:, 2] = mean[window, length - 1, channel] + decay * residual
    # A solve per cell is the dear part: only where the mixture listens to it.
    for some in _chunks(np.flatnonzero(weights[:, 1] > 0)):
        channels, rows, exists = _live_neighbours(parameters, seen, newest, at[some], channel[some])
        first = window[some] * length  # of the window, in the windows laid end to end
        members[some, 1] = _field_of(parameters).conditional(
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
    # The partner as it stood at the sensor's own last reading, if that is another reading.
    beside = _latest(seen[at[:, None], :, partners] & (row <= own[:, :, None]), 2)
    beside = np.where(beside != latest, beside, _NOWHERE)
    channels = np.concatenate([channel[:, None], channel[:, None], partners, partners], 1)
    rows = np.concatenate([own, before, latest, beside], 1)
    return channels, rows, (rows >= 0) & (length - 1 - rows <= REACH)


def _latest(observed: Mask, axis: int) -> Ints:
    """The last True along an axis; far negative if there is none."""
    behind = np.flip(observed, axis).argmax(axis)
    return np.where(observed.any(axis), observed.shape[axis] - 1 - behind, _NOWHERE)


# ------------------------------------------------------------------ batch
def impute_segments(parameters: ImputationParameters, segments: Sequence[Segment]) -> list[Fill]:
    """Fill every gap of each segment from both of its sides; segments know nothing of each other.

    Args:
        parameters: as fitted.
        segments: raw units, NaN where missing, one row per grid step.

    Returns:
        One fill per segment, (T, C), raw units.
    """
    return [_fill_segment(parameters, segment.values) for segment in segments]


def _fill_segment(parameters: ImputationParameters, raw: Floats) -> Fill:
    x = (np.where(np.isfinite(raw), raw, np.nan) - parameters.mean) / parameters.scale
    row, channel = np.nonzero(np.isnan(x))
    value = np.where(np.isfinite(raw), raw, np.nan)
    low, high = value.copy(), value.copy()
    if len(row):
        members, distance, bucket = _batch_members(_field_of(parameters), x, row, channel)
        estimate = parameters.batch.estimate(members, channel, bucket)
        # Of a sensor that training never saw only its own readings can speak.
        unseen = ~parameters.seen[channel]
        alone = np.where(bucket % BUCKETS == NEVER, np.nan, members[:, 0])
        estimate = np.where(unseen, alone, estimate) * parameters.scale[channel] + parameters.mean[channel]
        margin = parameters.batch.half_width(channel, distance, bucket) * parameters.scale[channel]
        value[row, channel] = estimate
        low[row, channel] = estimate - margin
        high[row, channel] = estimate + margin
    return Fill(value, low, high)


def _batch_members(field: _Field, x: Floats, row: Ints, channel: Ints) -> tuple[Floats, Ints, Ints]:
    """(n, 3) the members' estimates of missing cells of x (T, C); (n,) distances, buckets."""
    observed = np.isfinite(x)
    left, right = _last_seen(observed), _next_seen(observed)
    before, after = left[row, channel], right[row, channel]
    has_before, has_after = before >= 0, after < len(x)
    a = np.where(has_before, before, np.where(has_after, after, 0))
    b = np.where(has_after, after, a)
    share = np.where(b > a, (row - a) / np.maximum(b - a, 1), 0.0)
    members = np.zeros((len(row), 3))
    line = (1.0 - share) * x[a, channel] + share * x[b, channel]
    members[:, 0] = np.where(has_before | has_after, line, 0.0)
    distance = np.minimum(np.where(has_before, row - before, 10**9), np.where(has_after, after - row, 10**9))
    distance = np.where(has_before | has_after, distance, 0)
    bucket = _bucket(distance) + BUCKETS * ~(has_before & has_after)
    for some in _chunks(np.arange(len(row))):
        near = _batch_neighbours(field, left, right, row[some], channel[some])
        members[some, 1:] = field.conditional(x, channel[some], row[some], near, LEVELS)
    return members, distance, bucket


def _batch_neighbours(
    field: _Field, left: Ints, right: Ints, row: Ints, channel: Ints
) -> tuple[Ints, Ints, Mask]:
    """Channels, rows (n, K) and existence of each cell's neighbours."""
    length = len(left)
    first, second = left[row, channel], right[row, channel]
    further = np.where(first > 0, left[np.maximum(first - 1, 0), channel], _NOWHERE)
    beyond = np.where(second < length - 1, right[np.clip(second + 1, 0, length - 1), channel], -_NOWHERE)
    partners = field.partners[channel]  # (n, P)
    before, after = left[row[:, None], partners], right[row[:, None], partners]
    after = np.where(after == before, _NOWHERE, after)
    columns = [np.stack([first, second, further, beyond], 1), before, after]
    for side in (first, second):
        inside = (side >= 0) & (side < length)
        at = np.where(inside, side, 0)[:, None]
        beside = np.where(inside[:, None] & (left[at, partners] == at), at, _NOWHERE)
        columns.append(np.where((beside == before) | (beside == after), _NOWHERE, beside))
    rows = np.concatenate(columns, 1)
    own = np.repeat(channel[:, None], 4, 1)
    channels = np.concatenate([own, partners, partners, partners, partners], 1)
    return channels, rows, (rows >= 0) & (rows < length) & (np.abs(rows - row[:, None]) <= REACH)


# ------------------------------------------------------------------ mixtures
def _field_of(parameters: ImputationParameters) -> _Field:
    return _Field(parameters.covariance, parameters.partners)


def _chunks(index: Ints) -> Iterator[Ints]:
    for start in range(0, len(index), _CHUNK):
        yield index[start : start + _CHUNK]


def _bucket(distance: Ints) -> Ints:
    """Distance in rows to its bucket; 0 means that there is no reading."""
    bits = np.ceil(np.log2(np.maximum(distance, 1))).astype(np.int64)
    return np.where(distance > 0, np.minimum(bits, _OPEN), NEVER)


def _simplex(members: int, steps: int = 10) -> Floats:
    """(G, members) all weights that are multiples of 1/steps and sum to 1."""
    grid = np.stack(np.meshgrid(*[np.arange(steps + 1)] * members, indexing="ij"), -1).reshape(-1, members)
    result: Floats = grid[grid.sum(1) == steps] / steps
    return result


def _mixture(
    hidden: tuple[Floats, Floats, Ints, Ints],
    channels: int,
    buckets: int,
    usable: tuple[int, ...],
    bounded: bool,
) -> Mixture:
    """The mixture with the least absolute error on hidden cells.

    Args:
        hidden: (n, 3) members' estimates; (n,) truths, channels, buckets.
        channels: C.
        buckets: a whole number of ``BUCKETS``.
        bounded: whether no estimate may lie further from member 0 than readings ever did.
        usable: members that may have weight; the first never where there is no reading.
    """
    members, truth, channel, bucket = hidden
    grid = _simplex(members.shape[1])
    group = channel * buckets + bucket
    losses = np.zeros((channels * buckets, len(grid)))
    for some in _chunks(np.arange(len(truth))):
        np.add.at(losses, group[some], np.abs(members[some] @ grid.T - truth[some, None]))
    losses = losses.reshape(channels, buckets, -1) * (1.0 + grid @ _CAUTION)
    count = np.bincount(group, minlength=channels * buckets).reshape(channels, buckets)
    weights = np.zeros((channels, buckets, members.shape[1]))
    for b in range(buckets):
        first = b // BUCKETS * BUCKETS
        never = b - first == NEVER
        alike = [b] if never else list(range(first, first + NEVER))
        excluded = [m for m in range(grid.shape[1]) if m not in usable or (never and m == 0)]
        barred = (grid[:, excluded] > 0).any(1)
        n = count[:, alike].sum(1)[:, None]
        everyone = losses[:, alike].sum((0, 1)) / max(n.sum(), 1)
        prior = np.where(n > 0, losses[:, alike].sum(1) / np.maximum(n, 1), everyone)  # (C, G)
        total = losses[:, b] + _PRIOR * prior
        weights[:, b] = grid[np.where(barred, np.inf, total).argmin(1)]
        if not never and b > first:  # too long for training to hide: as the longest that was not
            unknown = count[:, b] == 0
            weights[unknown, b] = weights[unknown, b - 1]
    stray = np.where(bucket % BUCKETS == NEVER, 0.0, np.abs(members[:, 0] - truth))
    step = np.full((channels, buckets), np.inf)
    if bounded:
        quantiles = _quantiles(stray, group, channels, buckets, _STRAY)
        step = np.where(np.arange(buckets) % BUCKETS == NEVER, np.inf, quantiles)
    mixture = Mixture(weights, step, np.zeros_like(step))
    error = np.abs(mixture.estimate(members, channel, bucket) - truth)
    return Mixture(weights, step, _quantiles(error, group, channels, buckets, COVERAGE))


def _quantiles(error: Floats, group: Ints, channels: int, buckets: int, share: float) -> Floats:
    """(C, D) conformal quantiles of the absolute errors, growing with the distance."""
    order = np.lexsort((error, group))
    error, group = error[order], group[order]
    edges = np.searchsorted(group, np.arange(channels * buckets + 1))
    flat = np.full(channels * buckets, np.nan)
    for g in range(len(flat)):
        n = int(edges[g + 1] - edges[g])
        if n >= _FEW:
            rank = min(int(np.ceil((n + 1) * share)), n)
            flat[g] = error[edges[g] + rank - 1]
    result = flat.reshape(channels, buckets // BUCKETS, BUCKETS)
    for half in result.reshape(-1, BUCKETS):
        if np.isnan(half[NEVER]):  # nothing to go by but the spread of training
            half[NEVER] = _MARGINAL
        known = np.flatnonzero(np.isfinite(half[:NEVER]))
        if not len(known):
            half[:NEVER] = half[NEVER]
            continue
        half[: known[0]] = half[known[0]]
        growth = float(np.sqrt(2.0))
        for b in range(int(known[0]) + 1, NEVER):
            if np.isnan(half[b]):
                half[b] = half[b - 1] * growth
            else:
                growth = float(_growth(half[b], half[b - 1]))
            half[b] = max(half[b], half[b - 1])
    return flat.reshape(channels, buckets)


# ------------------------------------------------------------------ fitting
def fit(
    history: Sequence[Segment],
    mean: Floats,
    scale: Floats,
    window: int,
    reconstruct: Reconstruct | None = None,
    seed: int = 0,
) -> ImputationParameters:
    """Learn covariances, weights and margins from training data.

    Args:
        history: at least one segment, raw units.
        mean, scale: (C,) the scaler's; every training cell is seen through them.
        window: L of live windows.
        reconstruct: the window model; without one the live mixture does without it.
        seed: which cells are hidden; the same data and seed give the same parameters.
    """
    generator = np.random.default_rng(seed)
    blocks = [np.clip((s.values - mean) / scale, -10.0, 10.0) for s in history if len(s.values)]
    seen = np.any([np.isfinite(b).any(0) for b in blocks], axis=0)
    blocks = _thinned(blocks)
    channels = len(mean)
    whole = _field(*_lagged_sums(blocks))
    parts = _thirds(blocks)
    sums = [_lagged_sums(part) for part in parts]
    rho = np.zeros(channels) if reconstruct is None else _residual_memory(parts, window, reconstruct)
    even = Mixture(np.full((channels, BUCKETS, 3), 1 / 3), np.zeros(0), np.zeros(0))
    live: list[tuple[Floats, Floats, Ints, Ints]] = []
    batch: list[tuple[Floats, Floats, Ints, Ints]] = []
    for i, part in enumerate(parts):
        others = [pair for j, pair in enumerate(sums) if j != i or len(parts) == 1]
        outside = _field(np.sum([s for s, _ in others], 0), np.sum([n for _, n in others], 0))
        trial = ImputationParameters(mean, scale, seen, outside.covariance, outside.partners, rho, even, even)
        live.append(_hide_live(trial, part, window, reconstruct, FIT_WINDOWS // len(parts), generator))
        batch.append(_hide_batch(outside, part, FIT_CELLS // len(parts), generator))
    usable = (0, 1) if reconstruct is None else (0, 1, 2)
    return ImputationParameters(
        mean, scale, seen, whole.covariance, whole.partners, rho,
        _mixture(_joined(live), channels, BUCKETS, usable, bounded=True),
        _mixture(_joined(batch), channels, 2 * BUCKETS, (0, 1, 2), bounded=False),
    )  # fmt: skip


def _joined(
    parts: Sequence[tuple[Floats, Floats, Ints, Ints]],
) -> tuple[Floats, Floats, Ints, Ints]:
    return (
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
        np.concatenate([p[3] for p in parts]),
    )


def _thinned(blocks: Sequence[Floats]) -> list[Floats]:
    """At most about ``FIT_ROWS`` rows, as long evenly spaced pieces."""
    rows = sum(map(len, blocks))
    if rows <= FIT_ROWS:
        return list(blocks)
    piece = 8 * REACH
    pieces = [b[i : i + piece] for b in blocks for i in range(0, len(b), piece)]
    keep = np.unique(np.linspace(0, len(pieces) - 1, FIT_ROWS // piece).astype(int))
    joined: list[Floats] = []
    previous = -2
    for i in keep:  # neighbours that are both kept stay one block
        adjacent = i == previous + 1 and pieces[i].base is pieces[previous].base
        if adjacent and len(pieces[previous]) == piece:
            joined[-1] = np.concatenate([joined[-1], pieces[i]])
        else:
            joined.append(pieces[i])
        previous = i
    return joined


def _thirds(blocks: Sequence[Floats]) -> list[list[Floats]]:
    """Three folds contiguous in time; fewer where the rows do not allow it."""
    rows = sum(map(len, blocks))
    if rows < _FOLDS * 2 * REACH:
        return [list(blocks)]
    folds: list[list[Floats]] = [[] for _ in range(_FOLDS)]
    longest = max(map(len, blocks))
    if longest < rows // (4 * _FOLDS):  # a fleet of short histories: whole segments take turns
        for i, block in enumerate(blocks):
            folds[i % _FOLDS].append(block)
        return folds
    for block in blocks:
        edges = [len(block) * f // _FOLDS for f in range(_FOLDS + 1)]
        for f in range(_FOLDS):
            if edges[f + 1] > edges[f]:
                folds[f].append(block[edges[f] : edges[f + 1]])
    return folds


def _windows_at(block: Floats, ends: Ints, window: int) -> Floats:
    """(n, L, C) the windows that end at rows ``ends``, NaN in front of the block."""
    rows = ends[:, None] - np.arange(window - 1, -1, -1)
    return np.where((rows >= 0)[:, :, None], block[np.maximum(rows, 0)], np.nan)


def _residual_memory(parts: Sequence[Sequence[Floats]], window: int, reconstruct: Reconstruct) -> Floats:
    """(C,) lag-1 autocorrelation of the window model's residuals, within 0 .. 1."""
    top: Floats | float = 0.0
    bottom: Floats | float = 1e-12
    for block in (b for part in parts for b in part if len(b) >= window):
        ends = np.unique(np.linspace(window - 1, len(block) - 1, min(300, len(block))).astype(np.int64))
        x = _windows_at(block, ends, window)
        r = x - np.asarray(reconstruct(x.astype(np.float32)), np.float64)
        both = np.isfinite(r[:, 1:]) & np.isfinite(r[:, :-1])
        top = top + np.where(both, r[:, 1:] * r[:, :-1], 0.0).sum((0, 1))
        bottom = bottom + np.where(both, (r[:, 1:] ** 2 + r[:, :-1] ** 2) / 2, 0.0).sum((0, 1))
    return np.clip(top / np.broadcast_to(bottom, np.shape(top) or (parts[0][0].shape[1],)), 0.0, 1.0)


def _hide_live(
    trial: ImputationParameters,
    part: Sequence[Floats],
    window: int,
    reconstruct: Reconstruct | None,
    budget: int,
    generator: np.random.Generator,
) -> tuple[Floats, Floats, Ints, Ints]:
    """Members' estimates, truths, channels and buckets of newest cells hidden in windows."""
    rows = sum(map(len, part))
    found: list[tuple[Floats, Floats, Ints, Ints]] = []
    channels = len(trial.mean)
    for block in part:
        quota = max(1, budget * len(block) // max(rows, 1))
        ends = np.unique(generator.integers(0, len(block), quota))
        truth = block[ends]
        x = _windows_at(block, ends, window)
        hidden, age = _live_gaps(len(ends), window, channels, generator)
        x[hidden] = np.nan
        # What lies before the window: the latest reading at least ``age`` rows old.
        at = ends[:, None] - age
        seen = np.take_along_axis(_last_seen(np.isfinite(block)), np.maximum(at, 0), 0)
        known = (at >= 0) & (seen >= 0) & (age > 0)
        last_value = np.where(known, np.take_along_axis(block, np.maximum(seen, 0), 0), np.nan)
        last_age = np.where(known, ends[:, None] - seen, 0)
        cell = hidden[:, -1] & np.isfinite(truth)
        index, channel = np.nonzero(cell)
        if not len(index):
            continue
        expected = None if reconstruct is None else reconstruct(x.astype(np.float32))
        members, age = _live_members(trial, x, expected, last_value, last_age, index, channel)
        found.append((members, truth[index, channel], channel, _bucket(age)))
    if not found:
        return np.empty((0, 3)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    return _joined(found)


def _live_gaps(windows: int, window: int, channels: int, generator: np.random.Generator) -> tuple[Mask, Ints]:
    """Which cells (B, L, C) to hide, and (B, C) the age of what is known from before; 0 = nothing.

    Of the windows 35 % lose single newest cells, 25 % trailing runs of some sensors, 15 %
    trailing runs of all of them, 25 % have sensors that are silent for longer than the window
    or for ever. A twentieth of the older cells is lost besides.
    """
    hidden = generator.random((windows, window, channels)) < 0.05
    kind = generator.random(windows)
    share = generator.uniform(0.05, 0.5, windows)[:, None]
    chosen = generator.random((windows, channels)) < share
    chosen[np.arange(windows), generator.integers(0, channels, windows)] = True
    run = np.minimum(np.exp2(generator.uniform(0, np.log2(window), windows)).astype(np.int64), window - 1)
    run = np.where(kind < 0.35, 1, run)
    silent = kind >= 0.75
    whole = (kind >= 0.6) & ~silent
    chosen |= whole[:, None]
    run = np.where(silent, window, np.maximum(run, 1))
    trailing = np.arange(window)[None, :] >= window - run[:, None]
    hidden[:, -1] = False
    hidden |= trailing[:, :, None] & chosen[:, None, :]
    age = np.exp2(generator.uniform(np.log2(window), _OPEN, (windows, channels))).astype(np.int64)
    age = np.where(generator.random((windows, channels)) < 0.3, 0, np.maximum(age, window))
    return hidden, age


def _hide_batch(
    field: _Field, part: Sequence[Floats], budget: int, generator: np.random.Generator
) -> tuple[Floats, Floats, Ints, Ints]:
    """Members' estimates, truths, channels and buckets of cells hidden in a part of training.

    The part is cut into pieces; each loses cells in one of five ways: a tenth or a third of all
    cells, runs of 5 to 50 rows, the ends of some sensors, whole sensors.
    """
    size = 4 * REACH
    pieces = [b[i : i + size] for b in part for i in range(0, len(b), size)]
    found: list[tuple[Floats, Floats, Ints, Ints]] = []
    cells = 0
    for turn, i in enumerate(generator.permutation(len(pieces))):
        piece = pieces[i]
        rows, channels = piece.shape
        hidden = np.zeros(piece.shape, bool)
        way = turn % 5
        if way < 2:
            hidden = generator.random(piece.shape) < (0.1, 0.3)[way]
        elif way == 2:
            while hidden.mean() < 0.1:
                start = generator.integers(0, rows)
                several = generator.integers(1, max(channels // 3, 1) + 1)
                hidden[
                    start : start + generator.integers(5, 51),
                    generator.choice(channels, several, replace=False),
                ] = True
        elif way == 3:
            some = generator.choice(channels, max(channels // 2, 1), replace=False)
            hidden[-int(generator.integers(1, REACH + 1)) :, some] = True
        else:
            hidden[:, turn // 5 % channels] = True
        row, channel = np.nonzero(hidden & np.isfinite(piece))
        if not len(row):
            continue
        masked = np.where(hidden, np.nan, piece)
        members, _, bucket = _batch_members(field, masked, row, channel)
        found.append((members, piece[row, channel], channel, bucket))
        cells += len(row)
        if cells >= budget:
            break
    if not found:
        return np.empty((0, 3)), np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64)
    return _joined(found)
