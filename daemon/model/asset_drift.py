"""What the drift of single assets is measured against: each asset's own moments, and thresholds from held-out rows.

An asset's own level differs from the fleet's, so its reference is itself in training. **The null distribution** of its
drift is the KL at the end of each of its intervals in one block of the cross-fitting, sums fading from interval to interval as
on the stream, from its rows in the blocks that are neither this one nor the one before. For sums that are young, they are begun
at each interval, so at all hours of the day: each of the ``ages`` has a null distribution. An older one's thresholds are never the
higher ones. Residuals are of the models that
did not see their rows; latents are the deployed model's, since each fold has axes of its own.

**As many assets as there are** are looked at in each interval at once. An asset's threshold is its mean KL times one factor for
all: the ``QUANTILE`` over times of the largest ratio of KL to mean that any asset has at the time. So it is seldom that some
asset of the fleet is beyond, however many there are and however much they move together. Sums of a day stay high for about
a day when they are: one hour in a thousand is about one such day in three years, and three hours in a row make an alert. (It is
more in truth, for the means are of few days: at one in a hundred, a fleet of 25 had an alert in a fortnight.) Trainings are shorter than that: beyond the median the tail is taken as exponential, as that of a KL is (it is a sum of
squares of means, by the variance), and its slope is known from a few days only, however many intervals and assets they
have. So the quantile is that of the *predictive* distribution: of the next value, given so many exponential ones (a Pareto
distribution; Geisser, Predictive Inference, 1993). The shorter the training, the farther out is the threshold.

**An asset that did not train**, or beyond ``MOST_ASSETS``, is compared with all: the null distribution is that of each
asset of training against the others, so its thresholds hold how far assets lie apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.asset_drift import (
    VARIANCE_FLOOR,
    AssetDriftReference,
    ages,
    divergence,
    fewest_windows,
    moments,
    terms,
    totals,
    width,
)
from daemon.documents import counted
from daemon.domain import DAY_NS, Floats, Ints, Mask
from daemon.model.crossfit import HeldOutPiece

MOST_ASSETS = 1_000
"""Assets of which a bundle keeps moments, those with the most rows: 16 bytes per latent and 32 per sensor each."""
FEWEST_INTERVALS = 8
"""Held-out intervals below which an asset has no null distribution of its own; two blocks' worth of single ones."""
PER_INTERVAL = 4
"""Intervals that begin within the length of one."""
QUANTILE, BODY = 0.999, 0.5
FEWEST_DAYS = 5
"""Of rows of an asset, for sums that hold a day: fewer have no day in each block, and their intervals are judged one by one.

However long ago the rows are: a reservoir has few of many weeks."""


def _terms(
    piece: HeldOutPiece, deployed: Sequence[HeldOutPiece], residual_rms: Floats, hop: int
) -> Floats | None:
    """(B, K) what the windows of a held-out piece add; None if the deployed models have not measured it."""
    for whole in deployed:
        if whole.first_row <= piece.first_row and piece.end_row <= whole.end_row:
            first = (piece.first_row - whole.first_row) // hop
            seen = piece.measured.observed
            mine = whole.measured.part(first, first + len(seen))
            added = terms(mine.posterior, piece.measured.residual / residual_rms, mine.newest + mine.residual)
            return np.where(seen[:, None], added, 0.0)  # without a reading there is no score
    return None


def _by_asset(pieces: Sequence[HeldOutPiece]) -> dict[str, list[HeldOutPiece]]:
    found: dict[str, list[HeldOutPiece]] = {}
    for piece in pieces:
        found.setdefault(piece.asset, []).append(piece)
    return found


@dataclass(frozen=True, slots=True)
class _Length:
    """Of intervals."""

    windows: int
    hop: int
    memory: float  # see ``AssetDriftReference``


@dataclass(frozen=True, slots=True, eq=False)
class _Intervals:
    """The held-out intervals of one asset."""

    total: Floats  # (K,) the sums of all its rows
    sums: Floats  # (M, K) of its intervals, fading; one begin after the other
    others: Floats  # (M, K) of all its rows that are not of the interval's block
    times: Ints  # (M,) number of the interval among those of all assets
    whole: Ints  # (M,) how many intervals the sums are of
    comparable: Mask  # (M,) whether there are others to compare it with

    def of_age(self, age: int, memory: float, *, oldest: bool) -> _Intervals:
        """Those that there are for sums of so many intervals, or of the oldest age of at least so many."""
        at = np.flatnonzero(self.comparable & (self.whole >= age))
        sums = self.sums[at]
        if not oldest:
            longer = self.whole[at] > age
            sums[longer] -= memory**age * self.sums[at[longer] - age]
        return _Intervals(
            self.total, sums, self.others[at], self.times[at], self.whole[at], self.comparable[at]
        )


def asset_drift_reference(
    held: Sequence[HeldOutPiece],
    deployed: Sequence[HeldOutPiece],
    residual_rms: Floats,
    drift_rows: int,
    period_ns: int,
    hop: int = 1,
) -> AssetDriftReference:
    """Moments and thresholds of the assets of training.

    Args:
        held: every row as measured by models that did not see it.
        deployed: the same rows as measured by the deployed models; they may be in longer pieces.
        residual_rms: (C,) units of the residuals.
        drift_rows: grid rows of a drift interval; fewer where no piece has twice as many.
        period_ns: of grid rows.
        hop: only every hop-th grid row is measured.
    """
    Z = deployed[0].measured.posterior.shape[1]  # folds may have another number
    pieces = _by_asset(held)
    rows = {name: sum(len(p.measured.observed) for p in mine) for name, mine in pieces.items()}
    names = sorted(sorted(rows, key=lambda name: (-rows[name], name))[:MOST_ASSETS])
    longest = max(len(piece.measured.observed) for piece in held)
    size = max(min(drift_rows // hop, longest // 2), 1)
    wholes = _by_asset(deployed)

    def added(name: str) -> list[tuple[HeldOutPiece, Floats]]:
        found = ((piece, _terms(piece, wholes.get(name, []), residual_rms, hop)) for piece in pieces[name])
        return [(piece, some) for piece, some in found if some is not None]

    K = width(Z, len(residual_rms))
    usual = float(np.median([rows[name] for name in names])) * hop * period_ns
    memory = math.exp(-drift_rows * period_ns / DAY_NS) if usual >= FEWEST_DAYS * DAY_NS else 0.0
    known = {name: _intervals(added(name), _Length(size, hop, memory), K) for name in names}
    a_day = max(PER_INTERVAL * DAY_NS / (size * hop * period_ns), 1.0)
    *young, full = ages(memory)
    oldest = {name: one.of_age(full, memory, oldest=True) for name, one in known.items()}
    own = [name for name in names if len(oldest[name].sums) >= FEWEST_INTERVALS]
    fleet = np.sum([one.total for one in known.values()], axis=0)
    threshold = [_thresholds([oldest[name] for name in own], fleet, Z, a_day)]
    for age in reversed(young):
        some = [known[name].of_age(age, memory, oldest=False) for name in own]
        threshold.append(np.maximum(_thresholds(some, fleet, Z, a_day), threshold[-1]))
    count, mean, variance = moments(np.stack([*(known[name].total for name in own), fleet]), Z)
    return AssetDriftReference(
        tuple(own),
        mean,
        np.where(count > 1, np.maximum(variance, VARIANCE_FLOOR), 1.0),
        np.stack(threshold[::-1]),
        memory,
    )


def _thresholds(known: Sequence[_Intervals], fleet: Floats, latents: int, a_day: float) -> Floats:
    """(A + 1, 2) of sums of one age; ``fleet`` (K,) are all rows."""
    nulls = [_null(one.sums, one.others, latents) for one in known]
    means = [np.maximum(null.mean(0), 1e-9) for null in nulls]
    ratios, times = (
        [null / mean for null, mean in zip(nulls, means, strict=True)],
        [one.times for one in known],
    )
    factor = np.maximum(_worst(ratios, times, a_day), 1.0)
    limit = np.full(2, np.inf)
    if len(known) > 1:  # one asset says nothing of how far others would lie apart from it
        strange = [
            _null(one.sums, np.broadcast_to(fleet - one.total, one.sums.shape), latents) for one in known
        ]
        limit = np.maximum(_worst(strange, times, a_day), 1e-9)
    return np.stack([*(mean * factor for mean in means), limit])


def asset_drift_concerns(reference: AssetDriftReference | None, assets: int) -> list[str]:
    """That drift of assets, of so many, cannot be judged, and why; a line for the operator, or none."""
    if reference is None or np.isfinite(reference.threshold[:, -1]).any():
        return []
    left = assets - len(reference.names)
    why = "too few intervals (drift.interval) have rows enough to tell what is usual of them"
    return [f"drift is not judged of {left} of {counted(assets, 'asset')}: {why}"] if left > 0 else []


def _null(sums: Floats, others: Floats, latents: int) -> Floats:
    """(M, 2) the total KL of intervals from other rows."""
    _, mean0, variance0 = moments(others, latents)
    return totals(divergence(*moments(sums, latents), mean0, variance0), latents)


def _worst(values: Sequence[Floats], times: Sequence[Ints], a_day: float) -> Floats:
    """(2,) the quantile, over times, of the largest of all assets' values at the time; infinite without any.

    Args:
        values: per asset (M, 2).
        times: per asset (M,).
        a_day: how many times make a day.
    """
    if not values:
        return np.full(2, np.inf)
    at, which = np.unique(np.concatenate(times), return_inverse=True)
    largest = np.zeros((len(at), 2))
    np.maximum.at(largest, which, np.concatenate(values))
    body = np.quantile(largest, BODY, axis=0)
    beyond = largest > body
    slope = np.where(beyond, largest - body, 0.0).sum(0) / np.maximum(beyond.sum(0), 1)
    days = max(len(at) / a_day * (1.0 - BODY), 1.0)
    return np.asarray(body + slope * days * (((1.0 - BODY) / (1.0 - QUANTILE)) ** (1.0 / days) - 1.0))


def _intervals(added: Sequence[tuple[HeldOutPiece, Floats]], length: _Length, numbers: int) -> _Intervals:
    """The intervals of one asset that hold enough windows; of pieces, in their order, with their terms."""
    K, size = numbers, length.windows
    of_block: dict[int, Floats] = {}
    for piece, some in added:
        of_block[piece.block] = of_block.get(piece.block, np.zeros(K)) + some.sum(0)
    total = np.sum([np.zeros(K), *of_block.values()], axis=0)
    sums: list[Floats] = []
    others: list[Floats] = []
    times: list[int] = []
    wholes: list[int] = []
    comparable: list[bool] = []
    for quarter in range(PER_INTERVAL):
        fading, counted, whole = np.zeros(K), 0.0, 0
        for number, block, part, over in _parts(added, length, quarter):
            fading, counted = fading + part, counted + part[0]
            if not over:
                continue
            if counted >= fewest_windows(size):
                whole += 1
                rest = total - of_block[block] - of_block.get(block - 1, 0.0)
                sums.append(fading)
                others.append(rest)
                times.append(number * PER_INTERVAL + quarter)
                wholes.append(whole)
                comparable.append(bool(rest[0] >= fewest_windows(size)))
                fading = fading * length.memory
            counted = 0.0
    shape = (len(sums), K)
    return _Intervals(
        total,
        np.reshape(sums, shape),
        np.reshape(others, shape),
        np.array(times, np.int64),
        np.array(wholes, np.int64),
        np.array(comparable, bool),
    )


def _parts(
    added: Sequence[tuple[HeldOutPiece, Floats]], length: _Length, quarter: int
) -> Iterator[tuple[int, int, Floats, bool]]:
    """Per interval and piece: the interval's number, the block, the sums of its windows there, whether it is over."""
    size = length.windows
    found: list[tuple[int, int, Floats]] = []
    for piece, some in added:
        numbers = (
            piece.first_row // length.hop + np.arange(len(some)) + quarter * size // PER_INTERVAL
        ) // size
        begins = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1])
        parts = np.add.reduceat(some, begins, axis=0)
        found += [(n, piece.block, part) for n, part in zip(numbers[begins].tolist(), parts, strict=True)]
    for i, (number, block, part) in enumerate(found):
        yield number, block, part, i + 1 == len(found) or found[i + 1][0] != number
