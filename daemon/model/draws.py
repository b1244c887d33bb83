"""Several joint draws of every gap: what the missing readings may have been, together.

A draw of a cell is today's imputed value plus an error of the kind that this imputation really
makes, and the errors of neighbouring cells, in time and across sensors, belong together as the
machine's do. Two parts, joined by a Gaussian copula (Nelsen 2006; Schefzik, Thorarinsdottir &
Gneiting 2013 dress forecasts so):

**How large an error is.** Known cells of the very table are hidden in the shape of its own gaps (the
mask of what is missing, moved along by random offsets), filled, and compared: the errors over today's
margin, as quantiles per sensor and distance, each shrunk towards what is pooled over it. So the shape
comes from errors that were made (peaked, skewed, exactly zero where a sensor stands still), the scale
from the bundle's split-conformal margin, and a bundle of any age will do.

**Which errors go together.** The lagged covariances of ``impute`` as a Gaussian field, simulated cell
by cell in the order of time (sequential Gaussian simulation; Deutsch & Journel 1998): a cell is drawn
given the nearest of what was observed and of what was drawn before, on both of its sides. The
covariance of a Gaussian conditional does not depend on the values observed, so that the readings
count as zero here, and what comes out are paths of the *error*: zero at the readings, as far from zero
between them as the field knows nothing, and as rough as the sensor. Divided by its own spread, each
cell is standard normal, and so fit to be sent through its quantiles.

A long gap is a walk of the same kind: memory is bounded by the reach of the field, and there are no
blocks that would leave a seam. A sensor that takes few values, again and again, is drawn from these values,
and no draw leaves the range in which the sensor was ever seen, if it was seen often enough.
"""

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
from daemon.model import imputation
from daemon.model.imputation import BUCKETS, LEVELS, NEVER, REACH, Fill, ImputationParameters

AUXILIARY = 200
"""Paths that are simulated at least: their spread standardises a cell to within 5 %."""
LEVEL = LEVELS[-1]
"""Level variance tau of the simulated field: that of the two in batch filling for which only differences count.

A sensor's level in a long gap is what nobody knows, and an error there walks rather than returns."""
NUGGETS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Noise variances of a reading, in squared scaled units, tried until a cell's conditional makes sense.

The least is that of a reading with four digits: more would draw a smooth sensor as white noise."""
BACK, AHEAD = 4, 2
"""Of the sensor's own known cells so many before and after count: what its slope and curvature need."""
HIDDEN = 20_000
"""Known cells that are hidden to learn the errors' quantiles, about."""
MOST_SHIFTS = 32
PRIOR = 50.0
"""Hidden cells that the pooled quantiles count for: the 5 % quantile of fewer is a guess."""
DEVIATES = np.linspace(-3.0, 3.0, 49)
"""Where the quantiles stand, in standard deviations of a normal; beyond them a draw is never."""
FEW_VALUES = 24
"""A sensor that was seen to take no more values than this is drawn from them."""
REPEATED = 4
"""... and each of them so often, on average: a short table holds few values of any sensor."""
ENOUGH = 100
"""Readings from which on draws stay within their range: the next one leaves it with a chance of 2 in n + 1."""
ROWS_AT_ONCE = 512
_NINETY = 1.6448536269514722
_REMEMBERED = 4096  # conditionals of neighbourhoods that come again, as they do all through an outage

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


# ------------------------------------------------------------------ the field
class Paths:
    """Error paths of a segment's missing cells: jointly Gaussian, zero where a reading is.

    Args:
        parameters: whose covariances.
        observed: (T, C).
        wanted: (T, C) the missing cells whose paths are asked for.
        count: N paths.
        generator: their randomness; the same gives the same paths.
        level: tau.
    """

    def __init__(
        self,
        parameters: ImputationParameters,
        observed: Mask,
        wanted: Mask,
        count: int,
        generator: np.random.Generator,
        level: float = LEVEL,
    ) -> None:
        self._gamma = parameters.covariance.reshape(-1)
        self._sensors = parameters.covariance.shape[1]
        self._partners = parameters.partners
        self._observed, self._wanted, self._count = observed, wanted, count
        self._level, self._generator = level, generator
        self._next = imputation._next_seen(observed)
        self._known = observed.copy()
        self._memory: dict[bytes, tuple[Floats, float]] = {}
        # Paths of the last rows, by row modulo its length; what is older is out of the field's reach.
        self._ring = np.zeros((REACH + 1, self._sensors, count))

    def rows(self) -> Iterator[tuple[int, Ints, Floats]]:
        """Each row with wanted cells: its number, their channels (n,), and the paths (n, N) there."""
        length = len(self._observed)
        last: Ints = np.full(self._sensors, imputation._NOWHERE)  # the newest known row of each sensor
        for row in np.flatnonzero(self._wanted.any(1)).tolist():
            before = self._known[max(row - REACH, 0) : row]
            at = (
                len(before) - 1 - before[::-1].argmax(0) if len(before) else np.zeros(self._sensors, np.int64)
            )
            last = np.where(before.any(0), row - len(before) + at, imputation._NOWHERE)
            last[self._known[row]] = row
            channels = np.flatnonzero(self._wanted[row])
            noise = self._generator.standard_normal((len(channels), self._count))
            place = row % (REACH + 1)
            self._ring[place] = 0.0
            for i, channel in enumerate(channels.tolist()):
                where, rows = self._neighbours(row, channel, last, length)
                weights, variance = self._conditional(row, channel, where, rows)
                path = np.sqrt(variance) * noise[i]
                drawn = (rows <= row) & ~self._observed[rows, where]  # the readings count as zero
                if drawn.any():
                    path += weights[drawn] @ self._ring[rows[drawn] % (REACH + 1), where[drawn]]
                self._ring[place, channel] = path
                self._known[row, channel] = True
                last[channel] = row
            yield row, channels, self._ring[place, channels].copy()

    def _neighbours(self, row: int, channel: int, last: Ints, length: int) -> tuple[Ints, Ints]:
        """Channels and rows (K,) of the known cells that tell most of one."""
        own = np.flatnonzero(self._known[max(row - REACH, 0) : row, channel])[-BACK:] + max(row - REACH, 0)
        ahead = self._observed[row + 1 : row + 1 + REACH, channel]
        after = row + 1 + np.flatnonzero(ahead)[:AHEAD]
        partners = self._partners[channel]
        newest = last[partners]
        beside = self._next[row, partners]  # a reading of this row is both
        columns = [np.full(len(own) + len(after), channel), partners, partners[beside != newest]]
        rows = [own, after, newest, beside[beside != newest]]
        # The partners at the sensor's own nearest rows carry a residual across the gap.
        for side in (own[-1:], after[:1]):
            for at in side.tolist():
                some = partners[self._known[at, partners] & (newest != at) & (beside != at)]
                columns.append(some)
                rows.append(np.full(len(some), at))
        where, at_rows = np.concatenate(columns), np.concatenate(rows)
        near = (at_rows >= 0) & (at_rows < length) & (np.abs(at_rows - row) <= REACH)
        return where[near], at_rows[near]

    def _conditional(self, row: int, channel: int, where: Ints, rows: Ints) -> tuple[Floats, float]:
        """Weights (K,) of the neighbours and the variance given them."""
        lag = rows - row
        key = channel.to_bytes(4, "little") + where.tobytes() + lag.tobytes()
        known = self._memory.get(key)
        if known is None:
            if len(self._memory) >= _REMEMBERED:
                self._memory.clear()
            known = self._memory[key] = self._solve(channel, where, lag)
        return known

    def _solve(self, channel: int, where: Ints, lag: Ints) -> tuple[Floats, float]:
        C = self._sensors
        of_i, of_j = (2 * REACH - lag) * C**2 + where * C, lag * C**2 + where
        system = self._gamma[of_i[:, None] + of_j] + self._level * (where[:, None] == where)
        right = self._gamma[of_i + channel] + self._level * (where == channel)
        whole = float(self._gamma[2 * REACH * C**2 + channel * (C + 1)]) + self._level
        if not len(where):
            return np.empty(0), whole + NUGGETS[0]
        diagonal = np.arange(len(where))
        for nugget in NUGGETS:
            system[diagonal, diagonal] += nugget
            try:
                weights = np.linalg.solve(system, right)
            except np.linalg.LinAlgError:
                weights = None
            system[diagonal, diagonal] -= nugget
            if weights is None:
                continue
            # What ``impute`` asks of a conditional that covariances with gaps may not have.
            explained = float(weights @ right)
            if nugget * float(weights @ weights) <= explained + 1e-6 and explained <= whole + 1e-6:
                return weights, max(whole - explained, 0.0) + nugget
        return np.zeros(len(where)), whole + NUGGETS[-1]


# ------------------------------------------------------------------ the marginals
@dataclass(frozen=True, slots=True, eq=False)
class Marginals:
    """Per sensor and distance the quantiles of an error, as multiples of the margin, and what a sensor may say."""

    quantiles: Floats  # (C, 2 * BUCKETS, len(DEVIATES)) ascending
    lowest: Floats  # (C,) raw units, -inf where nothing is known
    highest: Floats
    values: tuple[Floats | None, ...]  # of C sensors, ascending: all that it says, where these are few

    def of(self, deviates: Floats, channel: Ints, bucket: Ints) -> Floats:
        """(n, D) errors over the margin, at standard normal deviates (n, D)."""
        table = self.quantiles[channel, bucket]  # (n, Q)
        step = DEVIATES[1] - DEVIATES[0]
        place = np.clip((deviates - DEVIATES[0]) / step, 0.0, len(DEVIATES) - 1)
        left = np.minimum(place.astype(np.int64), len(DEVIATES) - 2)
        share = place - left
        below = np.take_along_axis(table, left, 1)
        result: Floats = below + share * (np.take_along_axis(table, left + 1, 1) - below)
        return result

    def plausible(self, values: Floats, centre: Floats, channel: int) -> Floats:
        """Values (n, ...) of one sensor, within its range or, with ``centre`` (n,), beyond it; of few the nearest."""
        centre = centre.reshape(len(centre), *[1] * (values.ndim - 1))
        low, high = np.minimum(self.lowest[channel], centre), np.maximum(self.highest[channel], centre)
        result: Floats = np.clip(values, low, high)
        few = self.values[channel]
        if few is not None:
            middle = (few[1:] + few[:-1]) / 2
            result = few[np.searchsorted(middle, result)]
        return result


def calibrate(
    parameters: ImputationParameters, segments: Sequence[Segment], generator: np.random.Generator
) -> Marginals:
    """Hide known cells in the shape of the segments' own gaps, and learn how far off their filling is.

    Args:
        parameters: that fill.
        segments: raw units, NaN where missing.
        generator: which cells are hidden.
    """
    C = len(parameters.mean)
    scaled = [
        (np.where(np.isfinite(s.values), s.values, np.nan) - parameters.mean) / parameters.scale
        for s in segments
    ]
    ratios: list[Floats] = []
    groups: list[Ints] = []
    missing = [np.isnan(x) for x in scaled]
    budget = HIDDEN
    for turn in range(MOST_SHIFTS if any(m.any() for m in missing) else 0):
        moved = _moved(missing, generator, by_segment=turn % 2 == 1 and len(missing) > 1)
        hidden = [h & ~m for h, m in zip(moved, missing, strict=True)]
        share = budget / max(sum(int(h.sum()) for h in hidden), 1)
        for x, mine in zip(scaled, hidden, strict=True):
            if share < 1.0:  # whole runs of rows: a gap is hidden as a whole, or not at all
                piece = np.arange(len(mine)) // (2 * REACH)
                mine &= (generator.random(len(mine) // (2 * REACH) + 1) < share)[piece][:, None]
            row, channel = np.nonzero(mine)
            if not len(row):
                continue
            members, distance, bucket = imputation._batch_members(
                imputation._field_of(parameters), np.where(mine, np.nan, x), row, channel
            )
            some = parameters.seen[channel]
            estimate = parameters.batch.estimate(members, channel, bucket)
            margin = margins(parameters, channel, distance, bucket)
            error = x[row, channel] - estimate
            ratios.append((error / np.maximum(margin, 1e-12))[some])
            groups.append((channel * 2 * BUCKETS + bucket)[some])
            budget -= len(row)
        if budget <= 0:
            break
    ratio = np.concatenate(ratios) if ratios else np.empty(0)
    group = np.concatenate(groups) if groups else np.empty(0, np.int64)
    return Marginals(_quantiles(np.clip(ratio, -1e3, 1e3), group, C), *_ranges(segments, C))


def _moved(missing: Sequence[Mask], generator: np.random.Generator, *, by_segment: bool) -> list[Mask]:
    """The masks of what is missing, put elsewhere: all rows along by one offset, or each segment's to another.

    The latter keeps what the former cannot: gaps at a segment's end, and sensors that are silent throughout.
    """
    if by_segment:
        offset = int(generator.integers(1, len(missing)))
        result = []
        for s, mask in enumerate(missing):
            other = missing[(s + offset) % len(missing)]
            rows = np.arange(len(mask)) - len(mask) + len(other)  # aligned at their ends
            result.append(other[np.maximum(rows, 0)].copy() if len(other) else np.zeros_like(mask))
        return result
    every = np.concatenate(list(missing))
    moved = np.roll(every, int(generator.integers(1, max(len(every), 2))), axis=0)
    return np.split(moved, np.cumsum([len(m) for m in missing])[:-1])


def margins(parameters: ImputationParameters, channel: Ints, distance: Ints, bucket: Ints) -> Floats:
    """(n,) the 90 % margins, scaled, growing smoothly with the distance rather than from bucket to bucket.

    They grow no further than that of a sensor without any reading, or the spread of training if that is
    more: readings far off tell no less than none. (Training hides no gap as long as some are, and what
    it makes of these grows on and on.)
    """
    margin = parameters.batch.half_width(channel, distance, bucket)
    place = bucket % BUCKETS
    before = parameters.batch.margin[channel, np.maximum(bucket - 1, bucket // BUCKETS * BUCKETS)]
    # Bucket b holds the distances above 2^(b-1) up to 2^b; its margin is that of its far end, about.
    share = np.where((place > 0) & (place < NEVER - 1), np.log2(np.maximum(distance, 1)) - (place - 1), 1.0)
    share = np.clip(share, 0.0, 1.0)
    smooth = np.where(before > 0, before, margin) ** (1.0 - share) * np.maximum(margin, 1e-300) ** share
    most = np.maximum(parameters.batch.margin[channel, bucket // BUCKETS * BUCKETS + NEVER], _NINETY)
    result: Floats = np.where(margin > 0, np.minimum(smooth, most), 0.0)
    return result


def _quantiles(ratio: Floats, group: Ints, channels: int) -> Floats:
    """(C, 2 * BUCKETS, Q): those of a group's own errors, shrunk to its sensor's, and these to everyone's."""
    levels = _normal_cdf(DEVIATES)
    shape = DEVIATES / _NINETY  # a normal error of which the margin is the 90 % half width

    def blend(errors: Floats, prior: Floats) -> Floats:
        if not len(errors):
            return prior
        own = np.quantile(errors, levels, method="weibull")
        result: Floats = (len(errors) * own + PRIOR * prior) / (len(errors) + PRIOR)
        return result

    everyone = blend(ratio, shape)
    result = np.empty((channels, 2 * BUCKETS, len(DEVIATES)))
    order = np.argsort(group, kind="stable")
    ratio, group = ratio[order], group[order]
    edges = np.searchsorted(group, np.arange(channels * 2 * BUCKETS + 1))
    for c in range(channels):
        first = c * 2 * BUCKETS
        sensor = blend(ratio[edges[first] : edges[first + 2 * BUCKETS]], everyone)
        for b in range(2 * BUCKETS):
            result[c, b] = blend(ratio[edges[first + b] : edges[first + b + 1]], sensor)
    return result


def _normal_cdf(deviates: Floats) -> Floats:
    from math import erf

    return np.array([0.5 * (1.0 + erf(z / np.sqrt(2.0))) for z in deviates.tolist()])


def _ranges(segments: Sequence[Segment], channels: int) -> tuple[Floats, Floats, tuple[Floats | None, ...]]:
    lowest, highest = np.full(channels, -np.inf), np.full(channels, np.inf)
    values: list[Floats | None] = [None] * channels
    for c in range(channels):
        said: Floats = np.empty(0)
        few, readings = True, 0
        for segment in segments:
            known = segment.values[:, c]
            known = known[np.isfinite(known)]
            readings += len(known)
            if not few:
                known = np.array([known.min(), known.max()]) if len(known) else known
            said = np.unique(np.concatenate([said, known]))
            if len(said) > FEW_VALUES:
                few, said = False, said[[0, -1]]
        few &= 0 < len(said) * REPEATED <= readings
        if few:
            values[c] = said
        if few or readings >= ENOUGH:
            lowest[c], highest[c] = said[0], said[-1]
    return lowest, highest, tuple(values)


# ------------------------------------------------------------------ draws
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
        lowest, highest, values = _ranges([*segments, *known], len(parameters.mean))
        marginals = Marginals(marginals.quantiles, lowest, highest, values)
    cells = max(sum(int(w.sum()) for w in wanted), 1)
    done = 0
    for s, (segment, fill, mask) in enumerate(zip(segments, fills, wanted, strict=True)):
        observed = np.isfinite(segment.values)
        mask = mask & ~observed & np.isfinite(fill.value)
        if not mask.any():
            continue
        generator = np.random.default_rng([seed, 1, s])
        distance, bucket = _distances(observed)
        paths = Paths(parameters, observed, mask, max(count, AUXILIARY), generator).rows() if joint else None
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
    ends = np.broadcast_to(np.array([-_NINETY, _NINETY]), (len(row), 2))
    centre = fill.value[row, channel]
    values = centre[:, None] + margin * marginals.of(np.concatenate([deviates, ends], 1), channel, b)
    for c in np.unique(channel).tolist():
        mine = channel == c
        values[mine] = marginals.plausible(values[mine], centre[mine], c)
    low, high = np.minimum(values[:, -2], centre), np.maximum(values[:, -1], centre)
    return Drawn(segment, row, channel, values[:, :-2], low, high)


def _distances(observed: Mask) -> tuple[Ints, Ints]:
    """(T, C) rows to the nearest reading of the same sensor, and the bucket that ``impute`` puts it into."""
    row = np.arange(len(observed))[:, None]
    before, after = imputation._last_seen(observed), imputation._next_seen(observed)
    has_before, has_after = before >= 0, after < len(observed)
    distance = np.minimum(np.where(has_before, row - before, 10**9), np.where(has_after, after - row, 10**9))
    distance = np.where(has_before | has_after, distance, 0)
    return distance, imputation._bucket(distance) + BUCKETS * ~(has_before & has_after)
