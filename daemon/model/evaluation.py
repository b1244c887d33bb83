"""Evaluation against labels: ranking and alarms of a detector, beside baselines.

Figures without baselines mislead: on a series with 50 % anomalous rows "all-ones" has an F1 of .67. So
every table has random scores, an alarm that is always on, and a score that is only the time. There is no
point adjustment. Rows that were not scored (NaN) count as the lowest score and no alarm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain import DAY_NS, Floats, Mask

TOLERANCE = 16
"""Rows by which a labelled segment is widened before an alarm run counts as false."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table; NaN where the labels leave it undefined."""

    name: str
    average_precision: float
    f1: float
    precision: float
    recall: float
    false_alarm_share: float  # of normal rows
    false_per_day: float  # episodes that touch no widened segment, per day of normal rows
    events: int
    events_found: int


def average_precision(labels: Mask, scores: Floats) -> float:
    """Area under the precision-recall steps; ties share one step. NaN without an anomaly."""
    positives = int(labels.sum())
    if not positives:
        return float("nan")
    known = np.isfinite(scores)
    lowest = scores[known].min() if known.any() else 0.0
    filled = np.where(known, scores, lowest)
    order = np.argsort(-filled, kind="stable")
    ranked = filled[order]
    hits = np.cumsum(labels[order])
    last = np.flatnonzero(np.concatenate([ranked[1:] != ranked[:-1], [True]]))
    recall = hits[last] / positives
    precision = hits[last] / (last + 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def figures(name: str, labels: Mask, scores: Floats, alarms: Mask, period_ns: int) -> Figures:
    """Judge one detector on one series.

    Args:
        name: for the table.
        labels: (N,) True where anomalous, rows in time order.
        scores: (N,), higher = more anomalous, NaN where not scored.
        alarms: (N,).
        period_ns: of a row.
    """
    hit, n_alarms, n_true = int((alarms & labels).sum()), int(alarms.sum()), int(labels.sum())
    precision = hit / n_alarms if n_alarms else 0.0
    recall = hit / n_true if n_true else float("nan")
    events = runs(labels)
    wide = np.zeros(len(labels), bool)
    for start, stop in events:
        wide[max(start - TOLERANCE, 0) : stop + TOLERANCE] = True
    false = sum(not wide[start:stop].any() for start, stop in runs(alarms))
    normal = len(labels) - n_true
    days = normal * period_ns / DAY_NS
    return Figures(
        name=name,
        average_precision=average_precision(labels, scores),
        f1=2.0 * hit / (n_alarms + n_true) if n_alarms + n_true else float("nan"),
        precision=precision,
        recall=recall,
        false_alarm_share=int((alarms & ~labels).sum()) / normal if normal else float("nan"),
        false_per_day=false / days if days else float("nan"),
        events=len(events),
        events_found=sum(bool(alarms[start:stop].any()) for start, stop in events),
    )


def table(
    labels: Mask,
    scores: Floats,
    alarms: Mask,
    period_ns: int,
    others: Sequence[tuple[str, Floats, Mask]] = (),
) -> list[Figures]:
    """The detector, then others (name, scores, alarms; pPCA for example), then the three baselines."""
    n = len(labels)
    rng = np.random.default_rng(0)
    chance = rng.random(n)
    as_many = np.zeros(n, bool)
    as_many[rng.permutation(n)[: int(alarms.sum())]] = True
    lines = [("anomalyd", scores, alarms), *others]
    lines.append(("random", chance, as_many))
    lines.append(("all-ones", np.ones(n), np.ones(n, bool)))
    lines.append(("time-only", np.arange(n, dtype=float), np.arange(n) >= n // 2))
    return [figures(name, labels, s, a, period_ns) for name, s, a in lines]


def runs(flags: Mask) -> list[tuple[int, int]]:
    """(start, end exclusive) of each contiguous True run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
