"""``AssetTrace``, one asset's rows in a run, and what of them goes into the report.

A trace is thinned to what a chart can show and written as a JSON object whose number series are base64 of
little-endian arrays, a third of their size as text: times as float64 milliseconds since the epoch, values as
float32, NaN where there is nothing. ``interest`` and ``ranked_sensors`` choose which assets and sensors are
drawn where there are too many; ``histogram`` counts the scores of all.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from daemon.adapters.pages import bounded
from daemon.adapters.report.thinning import extremes, spans
from daemon.documents import short
from daemon.domain import Floats, Ints, Mask

SENSORS_SHOWN: Final = 12
BINS: Final = 80


@dataclass(frozen=True, slots=True, eq=False)
class AssetTrace:
    """One asset's grid rows in time order: T rows, C sensors.

    ``values`` is NaN where nothing was observed; ``filled``, ``low`` and ``high`` are NaN where
    nothing was filled in. ``threshold`` is one number, or one per row where the model changed.
    ``labels`` is True on rows known to be anomalous, None where nothing is known.
    """

    stream: str
    asset: str
    times_ns: Ints  # (T,)
    scores: Floats  # (T,) NaN where not scored
    alarms: Mask  # (T,)
    threshold: float | Floats
    sensors: tuple[str, ...]
    values: Floats  # (T, C)
    filled: Floats  # (T, C)
    low: Floats  # (T, C)
    high: Floats  # (T, C)
    labels: Mask | None = None


def interest(trace: AssetTrace, alarmed: Mapping[tuple[str, str], int]) -> tuple[int, float]:
    """The sort key of a trace, most interesting first: by its episodes, then by its highest score.

    Args:
        trace: one asset's rows.
        alarmed: (stream, asset) -> weight of its episodes.
    """
    finite = trace.scores[np.isfinite(trace.scores)]
    return (-alarmed.get((trace.stream, trace.asset), 0), -float(finite.max(initial=0.0)))


def ranked_sensors(trace: AssetTrace, blamed: Mapping[tuple[str, str, str], float]) -> list[int]:
    """The columns of at most ``SENSORS_SHOWN`` sensors to draw, in configured order.

    Args:
        trace: one asset's rows.
        blamed: (stream, asset, sensor) -> its share in the episodes; the most blamed are chosen first.
    """
    order = sorted(
        range(len(trace.sensors)),
        key=lambda c: (-blamed.get((trace.stream, trace.asset, trace.sensors[c]), 0.0), c),
    )
    return sorted(order[:SENSORS_SHOWN])


def trace_document(trace: AssetTrace, sensors: Sequence[int], most: int, most_filled: int) -> dict[str, Any]:
    """What one asset's chart is drawn from.

    Args:
        trace: one asset's rows.
        sensors: the columns to draw.
        most: points of each line, at most.
        most_filled: cells drawn as filled in, at most, per sensor.
    """
    rows = extremes(trace.scores, most)
    threshold = np.broadcast_to(np.asarray(trace.threshold, np.float64), trace.scores.shape)
    # A level's first and last row are enough to draw it; no threshold is a level too.
    levels = np.where(np.isfinite(threshold), threshold, -np.inf)
    changed = np.concatenate([[True], levels[1:] != levels[:-1], [True]])
    turns = np.flatnonzero((changed[:-1] | changed[1:])[: len(levels)])
    turns = turns[:: -(-len(turns) // most) or 1]
    return {
        "stream": bounded(trace.stream),
        "asset": bounded(trace.asset),
        "t": _times(trace.times_ns[rows]),
        "score": _floats(trace.scores[rows]),
        "alarm": _floats(np.where(trace.alarms[rows], trace.scores[rows], np.nan)),
        "thresholdT": _times(trace.times_ns[turns]),
        "threshold": _floats(threshold[turns]),
        "alarms": [[a / 1e6, b / 1e6] for a, b in spans(trace.alarms, trace.times_ns)],
        "labels": []
        if trace.labels is None
        else [[a / 1e6, b / 1e6] for a, b in spans(trace.labels, trace.times_ns)],
        "of": len(trace.sensors),
        "sensors": [_sensor(trace, c, most, most_filled) for c in sensors],
    }


def _sensor(trace: AssetTrace, c: int, most: int, most_filled: int) -> dict[str, Any]:
    values, filled = trace.values[:, c], trace.filled[:, c]
    rows = extremes(values, most)
    cells = np.flatnonzero(np.isfinite(filled))
    cells = cells[extremes(filled[cells], most_filled)]
    band_t, band_y = _band(trace, c, cells)
    return {
        "name": bounded(trace.sensors[c]),
        "t": _times(trace.times_ns[rows]),
        "y": _floats(values[rows]),
        "filledT": _times(trace.times_ns[cells]),
        "filled": _floats(filled[cells]),
        "low": _floats(trace.low[cells, c]),
        "high": _floats(trace.high[cells, c]),
        "bandT": _times(band_t),
        "band": _floats(band_y),
    }


def _band(trace: AssetTrace, c: int, cells: Ints) -> tuple[Ints, Floats]:
    """The 90 % interval as closed outlines, one per run of filled cells, NaN between them."""
    times, levels = [np.zeros(0, np.int64)], [np.zeros(0)]
    if not len(cells):
        return times[0], levels[0]
    period = int(np.median(np.diff(trace.times_ns))) if len(trace.times_ns) > 1 else 0
    observed_before = np.cumsum(np.isfinite(trace.values[:, c]))[cells]
    for run in np.split(cells, np.flatnonzero(np.diff(observed_before)) + 1):
        at = trace.times_ns[run].astype(np.int64)
        low, high = trace.low[run, c], trace.high[run, c]
        # Half a period on each side: a single cell has no width of its own.
        along = np.concatenate([[at[0] - period // 2], at, [at[-1] + period // 2]])
        low, high = np.pad(low, 1, "edge"), np.pad(high, 1, "edge")
        times += [along, along[::-1], along[:1]]
        levels += [high, low[::-1], np.array([np.nan])]
    return np.concatenate(times), np.concatenate(levels)


def histogram(traces: Sequence[AssetTrace]) -> dict[str, Any] | None:
    """How many rows have which score, in ``BINS`` bins; None where no row was scored.

    Rows are counted apart, normal and anomalous, where the labels of all traces are known.
    """
    scores = [t.scores[np.isfinite(t.scores)] for t in traces]
    every = np.concatenate(scores) if scores else np.zeros(0)
    if not len(every):
        return None
    thresholds = np.concatenate([np.atleast_1d(np.asarray(t.threshold, np.float64))[-1:] for t in traces])
    threshold = float(np.nanmedian(thresholds)) if np.isfinite(thresholds).any() else math.nan
    # Scores have a long tail: everything beyond the last edge goes into the last bin.
    top = float(np.quantile(every, 0.999))
    top = max(top, 2 * threshold) if math.isfinite(threshold) else top
    low = float(min(every.min(), 0.0))
    top = min(float(every.max()), top) if every.max() > low else low + 1.0
    edges = np.linspace(low, max(top, low + 1e-9), BINS + 1)
    known = bool(traces) and all(t.labels is not None for t in traces)
    groups: dict[str, NDArray[np.int64]] = {}
    for trace in traces:
        finite = np.isfinite(trace.scores)
        marks = trace.labels if known and trace.labels is not None else np.zeros(len(finite), bool)
        for name, chosen in (("normal" if known else "rows", ~marks), ("anomalous", marks)):
            if name == "anomalous" and not known:
                continue
            counts, _ = np.histogram(np.minimum(trace.scores[finite & chosen], edges[-1]), edges)
            groups[name] = groups.get(name, np.zeros(BINS, np.int64)) + counts
    return {
        "x": _floats((edges[1:] + edges[:-1]) / 2),
        "width": float(edges[1] - edges[0]),
        "groups": {name: counts.tolist() for name, counts in groups.items()},
        "threshold": short(threshold),
    }


def _times(times_ns: Ints) -> str:
    return _packed(np.asarray(times_ns, np.float64) / 1e6, "<f8")  # ms since the epoch


def _floats(values: Floats) -> str:
    return _packed(values, "<f4")


def _packed(values: Floats, kind: str) -> str:
    with np.errstate(over="ignore"):  # beyond single precision there is nothing to see
        return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()
