"""Fit imputation to training data: covariances, the residual's autocorrelation, mixtures and intervals.

Training is cut into thirds. In each third cells are hidden, and estimated with the field of the other two
thirds (``folds``); the members' errors on these cells give the mixtures' weights and intervals (``mixture``). The
patterns of hidden cells are those of real losses: single cells, bursts, trailing runs, silent sensors, outages of
all sensors (``gaps``). Deterministic under the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from daemon.domain import (
    Floats,
    Ints,
    Mask,
    Segment,
    StreamSpec,
)
from daemon.model.imputation.field import REACH, Field, last_observed
from daemon.model.imputation.filling import LiveWindows, batch_members, batch_places, live_members
from daemon.model.imputation.folds import Fields
from daemon.model.imputation.gaps import fit_gaps
from daemon.model.imputation.habit import WeekClock
from daemon.model.imputation.limits import ValueLimits
from daemon.model.imputation.mixture import (
    BATCH_BUCKETS,
    BUCKETS,
    NEVER,
    OPEN,
    HiddenCells,
    Mixture,
    distance_bucket,
    fit_mixture,
)
from daemon.model.imputation.parameters import ImputationParameters

FIT_WINDOWS = 4_000
"""Windows in which live cells are hidden."""
FIT_CELLS = 60_000
"""Cells hidden for the batch weights, about."""
Reconstruct = Callable[[NDArray[np.float32]], Floats]
"""Scaled windows (B, L, C), NaN where missing, to the window model's mean (B, L, C), no NaN."""


def fit(
    history: Sequence[Segment],
    mean: Floats,
    scale: Floats,
    spec: StreamSpec,
    reconstruct: Reconstruct | None = None,
    seed: int = 0,
) -> ImputationParameters:
    """Learn covariances, limits, habits, weights and margins from training data.

    Args:
        history: at least one segment, raw units.
        mean, scale: (C,) the scaler's; every training cell is seen through them.
        spec: its period, time zone and ranges, and its window as that of live windows.
        reconstruct: the window model; None leaves it out of the live mixture.
        seed: which cells are hidden; the same data and seed give the same parameters.
    """
    generator = np.random.default_rng(seed)
    used = [s for s in history if len(s.values)]
    blocks = [np.clip((s.values - mean) / scale, -10.0, 10.0) for s in used]
    seen = np.any([np.isfinite(b).any(0) for b in blocks], axis=0)
    window, channels = spec.window, len(mean)
    fields = Fields.of(blocks)
    rho = np.zeros(channels) if reconstruct is None else _residual_memory(fields.parts, window, reconstruct)
    even = Mixture(np.full((channels, BUCKETS, 3), 1 / 3), np.zeros(0), np.zeros(0))
    fitted = ImputationParameters(
        mean, scale, seen, fields.whole.covariance, fields.whole.partners, rho,
        even, even, ValueLimits.of(history, channels, spec.ranges),
    )  # fmt: skip
    live: list[HiddenCells] = []
    batch: list[HiddenCells] = []
    folds = len(fields.parts)
    for part, outside in zip(fields.parts, fields.outside, strict=True):
        trial = replace(fitted, covariance=outside.covariance, partners=outside.partners)
        live.append(_hide_live(trial, part, window, reconstruct, FIT_WINDOWS // folds, generator))
        batch.append(_hide_batch(outside, part, FIT_CELLS // folds, generator))
    clock = WeekClock.of(spec)
    gaps, habitual = fit_gaps(blocks, [clock.rows(s) for s in used], fields, clock, generator)
    # Near readings, with other sensors beside them, are what ``_hide_batch`` leaves.
    place = gaps.bucket % BUCKETS
    far = (place > distance_bucket(np.array(REACH))) & (place < NEVER)
    batch.append(gaps.take(np.flatnonzero(far | (gaps.bucket >= 2 * BUCKETS))))
    usable = (0, 1) if reconstruct is None else (0, 1, 2)
    return replace(
        fitted,
        live=fit_mixture(HiddenCells.joined(live), channels, BUCKETS, usable, bounded=True),
        batch=fit_mixture(HiddenCells.joined(batch), channels, BATCH_BUCKETS, (0, 1, 2), bounded=False),
        habitual=habitual,
    )


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
) -> HiddenCells:
    """Members' estimates, truths, channels and buckets of newest cells hidden in windows."""
    rows = sum(map(len, part))
    found: list[HiddenCells] = []
    channels = len(trial.mean)
    for block in part:
        quota = max(1, budget * len(block) // max(rows, 1))
        ends = np.unique(generator.integers(0, len(block), quota))
        truth = block[ends]
        x = _windows_at(block, ends, window)
        hidden, age = _live_gaps(len(ends), window, channels, generator)
        x[hidden] = np.nan
        # The reading from before the window: the latest one at least ``age`` rows old.
        at = ends[:, None] - age
        seen = np.take_along_axis(last_observed(np.isfinite(block)), np.maximum(at, 0), 0)
        known = (at >= 0) & (seen >= 0) & (age > 0)
        last_value = np.where(known, np.take_along_axis(block, np.maximum(seen, 0), 0), np.nan)
        last_age = np.where(known, ends[:, None] - seen, 0)
        cell = hidden[:, -1] & np.isfinite(truth)
        index, channel = np.nonzero(cell)
        if not len(index):
            continue
        expected = None if reconstruct is None else reconstruct(x.astype(np.float32))
        members, age = live_members(trial, LiveWindows(x, expected, last_value, last_age), index, channel)
        found.append(HiddenCells(members, truth[index, channel], channel, distance_bucket(age)))
    return HiddenCells.joined(found)


def _live_gaps(windows: int, window: int, channels: int, generator: np.random.Generator) -> tuple[Mask, Ints]:
    """Which cells (B, L, C) to hide, and (B, C) the age of the last reading before the window; 0 = none.

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
    age = np.exp2(generator.uniform(np.log2(window), OPEN, (windows, channels))).astype(np.int64)
    age = np.where(generator.random((windows, channels)) < 0.3, 0, np.maximum(age, window))
    return hidden, age


def _hide_batch(
    field: Field, part: Sequence[Floats], budget: int, generator: np.random.Generator
) -> HiddenCells:
    """Members' estimates, truths, channels and buckets of cells hidden in a part of training.

    The part is cut into pieces; each loses cells in one of five ways: a tenth or a third of all
    cells, runs of 5 to 50 rows, the ends of some sensors, whole sensors.
    """
    size = 4 * REACH
    pieces = [b[i : i + size] for b in part for i in range(0, len(b), size)]
    found: list[HiddenCells] = []
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
        bucket = batch_places(field, masked, row, channel).bucket
        members = batch_members(field, masked, row, channel)
        found.append(HiddenCells(members, piece[row, channel], channel, bucket))
        cells += len(row)
        if cells >= budget:
            break
    return HiddenCells.joined(found)
