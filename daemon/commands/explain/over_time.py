"""The KL of each dimension over time, on an axis of columns that all assets share."""

from __future__ import annotations

from typing import Any

import numpy as np

from daemon.commands.explain.analysis import LatentAnalysis, milliseconds, rounded
from daemon.documents import short
from daemon.domain import (
    Ints,
)

TIME_BINS = 300
"""Columns of what is shown over time: a screen has about two pixels for each."""


def bins(analysis: LatentAnalysis) -> tuple[Ints, int, int]:
    """(N,) the column of each window on a common axis of time, its first row, and rows per column."""
    assert analysis.survey is not None
    row = analysis.survey.row
    first, last = int(row.min()), int(row.max())
    width = max(-(-(last - first + 1) // TIME_BINS), 1)
    return (row - first) // width, first, width


def kl_over_time(analysis: LatentAnalysis) -> dict[str, Any] | None:
    """The greatest KL of each dimension in each column of time; None without readings."""
    survey = analysis.survey
    if survey is None:
        return None
    column, first, width = bins(analysis)
    count = int(column.max()) + 1
    order = [d.dimension for d in analysis.directions]
    peak = np.full((len(order), count), -np.inf)
    for i, d in enumerate(order):
        np.maximum.at(peak[i], column, survey.seen.kl[:, d])
    peak = np.where(np.isfinite(peak), peak, np.nan)
    starts = first + width * np.arange(count)
    fires = np.zeros(count, bool)
    fires[column[survey.firing]] = True
    return {
        "time": milliseconds(starts, analysis.bundle.period_ns),
        "bin_seconds": short(width * analysis.bundle.period_ns / 1e9, 6),
        "what": "the greatest of each bin, nats",
        "dimensions": order,
        "values": rounded(peak, 3),
        "usual": rounded(np.median(survey.seen.kl[:, order], axis=0), 3),
        "episode": fires.tolist(),
    }
