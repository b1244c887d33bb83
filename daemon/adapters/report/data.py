"""``Report``, what a run found, and the JSON document that the page's charts and tables are drawn from.

The document's size is bounded however long the run is and however many assets it has: the assets and sensors of
most interest are drawn, each with so many points that all together stay within ``POINTS_IN_ALL``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from daemon.adapters.pages import bounded
from daemon.adapters.report.episodes import Spans, episode_document, folded, shaded
from daemon.adapters.report.thinning import POINTS_PER_TRACE, SPANS_SHOWN
from daemon.adapters.report.traces import (
    AssetTrace,
    histogram,
    interest,
    ranked_sensors,
    trace_document,
)
from daemon.documents import short
from daemon.domain import AlertEvent, AlertKind, DriftRecord
from daemon.drifting import DriftingAsset

POINTS_IN_ALL: Final = 400_000
"""Points of all lines together: about 6 MB of the document."""
ASSETS_SHOWN: Final = 24
FILLED_SHOWN: Final = 800
FILLED_IN_ALL: Final = 60_000
"""Fewer than other points, because each comes with the outline of its interval."""
EPISODES_SHOWN: Final = 500
OUR_NAME: Final = "anomalyd"


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything that the report shows, as plain values.

    ``summary`` is what ``summary.json`` holds. ``quality`` has one entry per detector, ours
    under ``anomalyd``: measure -> value, for example ``{"AP": 0.61}``; empty without labels. ``assets`` is how many
    there were, of which ``traces`` may be some.
    """

    title: str
    source: str
    summary: Mapping[str, Any]
    traces: Sequence[AssetTrace] = ()
    events: Sequence[AlertEvent] = ()
    drift: Sequence[DriftRecord] = ()
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    assets: int = 0


DRIFTING_SHOWN = 10
"""Assets that drift alone, of each stream."""


def _drift(records: Sequence[DriftRecord]) -> list[dict[str, Any]]:
    """Per stream, the totals of each interval; the worst partition's where there are several."""
    streams: dict[str, dict[int, DriftRecord]] = {}
    for record in records:
        intervals = streams.setdefault(record.stream, {})
        known = intervals.get(record.start_ns)
        if known is None or sum(record.residual_kl) > sum(known.residual_kl):
            intervals[record.start_ns] = record
    shown = []
    for stream, intervals in streams.items():
        ordered = [intervals[start] for start in sorted(intervals)]
        shown.append(
            {
                "stream": bounded(stream),
                "t": [r.start_ns / 1e6 for r in ordered],
                "verdicts": [r.verdict for r in ordered],
                "latent": [short(sum(r.latent_kl)) for r in ordered],
                "residual": [short(sum(r.residual_kl)) for r in ordered],
                "latentEdge": [short(r.latent_threshold) for r in ordered],
                "residualEdge": [short(r.residual_threshold) for r in ordered],
                "assets": _drifting([r for r in records if r.stream == stream]),
            }
        )
    return shown


def _drifting(records: Sequence[DriftRecord]) -> list[dict[str, Any]]:
    """The assets that drifted alone, with the interval in which each was farthest out; the farthest first."""
    found: dict[str, list[DriftingAsset]] = {}
    for record in records:
        for one in record.fleet.assets:
            found.setdefault(one.asset, []).append(one)
    worst = {asset: max(mine, key=lambda one: one.excess) for asset, mine in found.items()}
    return [
        {
            "asset": bounded(asset),
            "intervals": len(found[asset]),
            "excess": short(worst[asset].excess),
            "sensors": [bounded(sensor) for sensor in worst[asset].sensors[:3]],
        }
        for asset in sorted(worst, key=lambda asset: (-worst[asset].excess, asset))[:DRIFTING_SHOWN]
    ]


def _shades(trace: AssetTrace, spans: Spans) -> dict[str, list[list[float]]]:
    """By shade, the stretches of an asset's chart in milliseconds; of many the longest."""
    end_ns = int(trace.times_ns[-1]) if len(trace.times_ns) else 0
    found = {}
    for shade, mine in sorted(spans.items()):
        whole = [(a, max(a, end_ns) if b is None else b) for a, b in mine]
        longest = sorted(whole, key=lambda span: span[0] - span[1])[:SPANS_SHOWN]
        found[shade] = [[a / 1e6, b / 1e6] for a, b in sorted(longest)]
    return found


def report_data(report: Report) -> dict[str, Any]:
    """The document's data: what the charts and the tables are drawn from."""
    episodes = folded(report.events)
    alarmed: dict[tuple[str, str], int] = {}
    blamed: dict[tuple[str, str, str], float] = {}
    for episode in episodes:
        worst = episode.worst
        key = (worst.stream, worst.asset)
        alarmed[key] = alarmed.get(key, 0) + (100 if worst.concerns(AlertKind.ANOMALY) else 1)
        if worst.sensor is not None:
            blamed[(*key, worst.sensor)] = blamed.get((*key, worst.sensor), 0.0) + 1.0
        for c in worst.contributors:
            blamed[(*key, c.sensor)] = blamed.get((*key, c.sensor), 0.0) + c.share
    shown = sorted(report.traces, key=lambda t: interest(t, alarmed))[:ASSETS_SHOWN]
    sensors = [ranked_sensors(trace, blamed) for trace in shown]
    lines = sum(1 + len(chosen) for chosen in sensors) or 1
    most = min(POINTS_PER_TRACE, max(200, POINTS_IN_ALL // lines))
    most_filled = min(FILLED_SHOWN, max(50, FILLED_IN_ALL // lines))
    summary, shades = dict(report.summary), shaded(report.events)
    newest = {(one.stream, one.asset): int(one.times_ns[-1]) for one in report.traces if len(one.times_ns)}
    return {
        "records": {str(k): int(v) for k, v in dict(summary.get("records") or {}).items()},
        "reasons": {str(k): int(v) for k, v in dict(summary.get("reasons") or {}).items() if v},
        "summary": {
            key: summary.get(key) for key in ("rows", "scored", "filled", "episodes", "models", "seconds")
        },
        "assets": max(report.assets, len(report.traces)),
        # The drift of a stream has its name for an asset.
        "alarmedAssets": len(
            {
                (e.first.stream, e.first.asset)
                for e in episodes
                if e.first.kind is not AlertKind.DRIFT or e.first.asset != e.first.stream
            }
        ),
        "traces": [
            trace_document(trace, chosen, most, most_filled)
            | {"shades": _shades(trace, shades.get((trace.stream, trace.asset), {}))}
            for trace, chosen in zip(shown, sensors, strict=True)
        ],
        "episodes": [
            episode_document(e, newest.get((e.last.stream, e.last.asset), 0))
            for e in episodes[:EPISODES_SHOWN]
        ],
        "episodeCount": len(episodes),
        "histogram": histogram(report.traces),
        "drift": _drift(report.drift),
        "quality": {
            bounded(name): {bounded(k): short(v) for k, v in measures.items()}
            for name, measures in report.quality.items()
        },
        "ours": OUR_NAME,
        "notes": [bounded(note, 500) for note in report.notes],
    }
