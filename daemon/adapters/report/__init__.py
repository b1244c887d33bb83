"""``report.html``: what one run over a file found, in one document that loads nothing.

The document holds its data, its style, its script and plotly.js itself (the plotly wheel
carries it), and a content security policy that forbids every load, so that it can be mailed,
archived and opened where there is no network. Names are data: they travel as JSON, and are
shown as text nodes or, inside a chart, escaped (plotly.js reads a little markup in its texts).

A run can have millions of rows and a chart a few thousand pixels. Each trace is thinned to at
most 4000 points by keeping the least and the greatest value of each bucket of rows: a peak of
one row stays visible at its own time, which averaging or striding would lose. Numbers travel
as base64 of little-endian arrays, a third of their size as text.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from daemon import __version__
from daemon.documents import short
from daemon.domain import (
    AlertEvent,
    AlertKind,
    DriftRecord,
    Floats,
    Ints,
    Mask,
    Phase,
    Severity,
    iso,
)

POINTS_PER_TRACE: Final = 4_000
POINTS_IN_ALL: Final = 400_000
"""About 6 MB of the document."""
ASSETS_SHOWN: Final = 24
SENSORS_SHOWN: Final = 12
FILLED_SHOWN: Final = 800
FILLED_IN_ALL: Final = 60_000
"""Each with its interval's outline, so they cost more than other points."""
SPANS_SHOWN: Final = 200
EPISODES_SHOWN: Final = 500
BINS: Final = 80
OUR_NAME: Final = "anomalyd"


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


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Everything that the report shows, as plain values.

    ``summary`` is what ``summary.json`` holds. ``quality`` has one entry per detector, ours
    under ``anomalyd``: measure -> value, for example ``{"AP": 0.61}``; empty without labels.
    """

    title: str
    source: str
    summary: Mapping[str, Any]
    traces: Sequence[AssetTrace] = ()
    events: Sequence[AlertEvent] = ()
    drift: Sequence[DriftRecord] = ()
    quality: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: Sequence[str] = ()


# ------------------------------------------------------------------ thinning
def extremes(values: Floats, most: int = POINTS_PER_TRACE) -> Ints:
    """Which rows to draw: the least and the greatest of each bucket of rows.

    Args:
        values: (N,), NaN where there is nothing.
        most: at most so many rows, at least 2.

    Returns:
        Ascending row numbers, at most ``most``. A bucket that is all NaN gives one of its
        rows, so that the line breaks there. All rows, if there are no more than ``most``.
    """
    n = len(values)
    if n <= most:
        return np.arange(n)
    step = -(-n // (most // 2))
    padded = np.concatenate([values, np.full(-n % step, np.nan)]).reshape(-1, step)
    start = np.arange(len(padded)) * step
    empty = np.isnan(padded).all(axis=1)
    greatest = np.where(np.isnan(padded), -np.inf, padded).argmax(axis=1)
    least = np.where(np.isnan(padded), np.inf, padded).argmin(axis=1)
    # Both are 0 in an empty bucket: its first row, which exists even where padding follows.
    rows = np.concatenate([start + greatest, (start + least)[~empty]])
    return np.unique(rows)


def spans(mask: Mask, times_ns: Ints, most: int = SPANS_SHOWN) -> list[tuple[int, int]]:
    """Runs of True as (first, last) instants; the nearest ones are joined beyond ``most``."""
    edges = np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8))
    firsts, lasts = times_ns[np.flatnonzero(edges == 1)], times_ns[np.flatnonzero(edges == -1) - 1]
    if len(firsts) > most:
        gaps = firsts[1:] - lasts[:-1]
        apart = np.sort(np.argsort(gaps, kind="stable")[len(gaps) - (most - 1) :])
        firsts, lasts = firsts[np.concatenate([[0], apart + 1])], lasts[np.concatenate([apart, [-1]])]
    return [(int(a), int(b)) for a, b in zip(firsts, lasts, strict=True)]


# ------------------------------------------------------------------ the data
@dataclass(slots=True)
class _Episode:
    """The messages of one episode, folded."""

    first: AlertEvent
    worst: AlertEvent
    last: AlertEvent

    def take(self, event: AlertEvent) -> None:
        self.last = event
        if _combined(event) > _combined(self.worst):
            self.worst = event


def _combined(event: AlertEvent) -> float:
    score = event.scores.get("combined")
    return score.value if score else -math.inf


def _fold(events: Iterable[AlertEvent]) -> list[_Episode]:
    found: dict[str, _Episode] = {}
    for event in events:
        if event.fingerprint in found:
            found[event.fingerprint].take(event)
        else:
            found[event.fingerprint] = _Episode(event, event, event)
    return sorted(found.values(), key=lambda e: (e.first.opened_ns, e.first.fingerprint))


def _episode(episode: _Episode) -> dict[str, Any]:
    worst, last = episode.worst, episode.last
    score = worst.scores.get("combined")
    return {
        "stream": _text(worst.stream),
        "asset": _text(worst.asset),
        "sensor": None if worst.sensor is None else _text(worst.sensor),
        "kind": str(worst.kind),
        "severity": str(
            Severity.CRITICAL if Severity.CRITICAL in (worst.severity, last.severity) else worst.severity
        ),
        "onset": iso(episode.first.onset_ns),
        "opened": iso(episode.first.opened_ns),
        "closed": iso(last.row_ns) if last.phase is Phase.CLOSED else None,
        "from": episode.first.onset_ns / 1e6,
        "to": last.row_ns / 1e6,
        "score": None if score is None else short(score.value),
        "threshold": None if score is None else short(score.threshold),
        "imputed": short(worst.imputed_share),
        "model": _text(worst.model),
        "summary": _text(worst.summary, 300),
        "contributors": [
            {
                "sensor": _text(c.sensor),
                "observed": None if c.observed is None else short(c.observed, 6),
                "expected": None if c.expected is None else short(c.expected, 6),
                "share": short(c.share),
            }
            for c in worst.contributors[:5]
        ],
    }


def _interest(trace: AssetTrace, alarmed: Mapping[tuple[str, str], int]) -> tuple[int, float]:
    finite = trace.scores[np.isfinite(trace.scores)]
    return (-alarmed.get((trace.stream, trace.asset), 0), -float(finite.max(initial=0.0)))


def _ranked_sensors(trace: AssetTrace, blamed: Mapping[tuple[str, str, str], float]) -> list[int]:
    """The sensors to draw: most blamed first, then as configured; drawn in configured order."""
    order = sorted(
        range(len(trace.sensors)),
        key=lambda c: (-blamed.get((trace.stream, trace.asset, trace.sensors[c]), 0.0), c),
    )
    return sorted(order[:SENSORS_SHOWN])


def _trace(trace: AssetTrace, sensors: Sequence[int], most: int, most_filled: int) -> dict[str, Any]:
    rows = extremes(trace.scores, most)
    threshold = np.broadcast_to(np.asarray(trace.threshold, np.float64), trace.scores.shape)
    # A level's first and last row are enough to draw it; no threshold is a level too.
    levels = np.where(np.isfinite(threshold), threshold, -np.inf)
    changed = np.concatenate([[True], levels[1:] != levels[:-1], [True]])
    turns = np.flatnonzero((changed[:-1] | changed[1:])[: len(levels)])
    turns = turns[:: -(-len(turns) // most) or 1]
    return {
        "stream": _text(trace.stream),
        "asset": _text(trace.asset),
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
        "name": _text(trace.sensors[c]),
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


def _histogram(traces: Sequence[AssetTrace]) -> dict[str, Any] | None:
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
                "stream": _text(stream),
                "t": [r.start_ns / 1e6 for r in ordered],
                "verdicts": [r.verdict for r in ordered],
                "latent": [short(sum(r.latent_kl)) for r in ordered],
                "residual": [short(sum(r.residual_kl)) for r in ordered],
                "latentEdge": [short(r.latent_threshold) for r in ordered],
                "residualEdge": [short(r.residual_threshold) for r in ordered],
            }
        )
    return shown


def report_data(report: Report) -> dict[str, Any]:
    """The document's data: what the charts and the tables are drawn from."""
    episodes = _fold(report.events)
    alarmed: dict[tuple[str, str], int] = {}
    blamed: dict[tuple[str, str, str], float] = {}
    for episode in episodes:
        worst = episode.worst
        key = (worst.stream, worst.asset)
        alarmed[key] = alarmed.get(key, 0) + (100 if worst.kind is AlertKind.ANOMALY else 1)
        if worst.sensor is not None:
            blamed[(*key, worst.sensor)] = blamed.get((*key, worst.sensor), 0.0) + 1.0
        for c in worst.contributors:
            blamed[(*key, c.sensor)] = blamed.get((*key, c.sensor), 0.0) + c.share
    shown = sorted(report.traces, key=lambda t: _interest(t, alarmed))[:ASSETS_SHOWN]
    sensors = [_ranked_sensors(trace, blamed) for trace in shown]
    lines = sum(1 + len(chosen) for chosen in sensors) or 1
    most = min(POINTS_PER_TRACE, max(200, POINTS_IN_ALL // lines))
    most_filled = min(FILLED_SHOWN, max(50, FILLED_IN_ALL // lines))
    summary = dict(report.summary)
    return {
        "records": {str(k): int(v) for k, v in dict(summary.get("records") or {}).items()},
        "reasons": {str(k): int(v) for k, v in dict(summary.get("reasons") or {}).items() if v},
        "summary": {
            key: summary.get(key) for key in ("rows", "scored", "filled", "episodes", "models", "seconds")
        },
        "assets": len(report.traces),
        "traces": [
            _trace(trace, chosen, most, most_filled) for trace, chosen in zip(shown, sensors, strict=True)
        ],
        "episodes": [_episode(e) for e in episodes[:EPISODES_SHOWN]],
        "episodeCount": len(episodes),
        "histogram": _histogram(report.traces),
        "drift": _drift(report.drift),
        "quality": {
            _text(name): {_text(k): short(v) for k, v in measures.items()}
            for name, measures in report.quality.items()
        },
        "ours": OUR_NAME,
        "notes": [_text(note, 500) for note in report.notes],
    }


def report_html(report: Report) -> str:
    """The whole document. About 5 MB of it is plotly.js."""
    data = msgspec.json.encode(report_data(report), enc_hook=_plain).decode().replace("<", "\\u003c")
    title = escape(_text(report.title))
    # An inline script ends at the first "</script", wherever that stands.
    library = get_plotlyjs().replace("</script", "<\\/script")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{title}</h1><p>{escape(_text(report.source, 500))}</p></header>\n"
        f"{_BODY}"
        f"<footer>anomalyd {escape(__version__)}. Times are event time, UTC. Each line is thinned to at "
        f"most {POINTS_PER_TRACE:,} points that keep every peak.</footer>\n</main>\n"
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>{library}</script>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _plain(value: object) -> object:
    """numpy's numbers in a caller's summary."""
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


def _times(times_ns: Ints) -> str:
    return _packed(np.asarray(times_ns, np.float64) / 1e6, "<f8")  # ms since the epoch


def _floats(values: Floats) -> str:
    return _packed(values, "<f4")


def _packed(values: Floats, kind: str) -> str:
    with np.errstate(over="ignore"):  # beyond single precision there is nothing to see
        return base64.b64encode(np.asarray(values).astype(kind).tobytes()).decode()


def _text(text: str, most: int = 200) -> str:
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.encode("utf-8", "replace").decode()


# ------------------------------------------------------------------ the document
STYLE: Final = """
:root {
  color-scheme: light dark;
  --ground: #f4f6f8;
  --card: #ffffff;
  --line: #dfe4ea;
  --ink: #17202b;
  --dim: #5d6b7a;
  --faint: #8c98a6;
  --ok: #1c8a55;
  --warn: #a86400;
  --warn-soft: #fdf1dc;
  --bad: #c62a3b;
  --bad-soft: #fde8ea;
  --info: #2b62c4;
  --info-soft: #e6eefb;
  --spark: #3d6db3;
  --fill: #b3661a;
  --label: #7a4fc9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0e1318;
    --card: #161d25;
    --line: #27313c;
    --ink: #e4eaf0;
    --dim: #98a6b5;
    --faint: #6b7988;
    --ok: #45c48a;
    --warn: #edac4a;
    --warn-soft: #37290f;
    --bad: #ff6b78;
    --bad-soft: #3d1a21;
    --info: #7caaf7;
    --info-soft: #182a47;
    --spark: #7ba3dd;
    --fill: #f0a35a;
    --label: #b79bf2;
  }
}
* {
  box-sizing: border-box;
}
body {
  margin: 0;
  background: var(--ground);
  color: var(--ink);
  font:
    14px/1.45 system-ui,
    -apple-system,
    "Segoe UI",
    Roboto,
    "Helvetica Neue",
    sans-serif;
}
header,
main {
  max-width: 1440px;
  margin: 0 auto;
  padding: 0 24px;
}
header {
  padding-top: 26px;
}
header p {
  margin: 2px 0 18px;
  color: var(--dim);
  overflow-wrap: anywhere;
}
h1 {
  margin: 0;
  font-size: 22px;
  letter-spacing: -0.015em;
  overflow-wrap: anywhere;
}
h2 {
  margin: 28px 0 10px;
  font-size: 16px;
  letter-spacing: -0.01em;
}
h2 small {
  margin-left: 8px;
  font-size: 13px;
  font-weight: 400;
  color: var(--dim);
}
.dim {
  color: var(--dim);
}
.num {
  font-variant-numeric: tabular-nums;
}
.tiles {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(170px, 1fr));
  gap: 12px;
  margin-bottom: 12px;
}
.card {
  background: var(--card);
  border: 1px solid var(--line);
  border-radius: 10px;
}
.tile {
  padding: 12px 16px;
  min-width: 0;
}
.tile div {
  color: var(--dim);
  font-weight: 550;
}
.tile b {
  display: block;
  font-size: 24px;
  line-height: 1.25;
  letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere;
}
.tile small {
  color: var(--dim);
  font-size: 12.5px;
}
.tile.bad b {
  color: var(--bad);
}
.pair {
  display: grid;
  grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr));
  gap: 0 24px;
}
.bar {
  display: flex;
  gap: 8px;
  align-items: center;
  flex-wrap: wrap;
  padding: 10px 14px;
  border-bottom: 1px solid var(--line);
}
.bar .dim {
  margin-left: auto;
}
select,
button {
  font: inherit;
  padding: 5px 10px;
  border: 1px solid var(--line);
  border-radius: 7px;
  background: var(--ground);
  color: var(--ink);
  max-width: 420px;
}
button {
  cursor: pointer;
}
button:hover {
  border-color: var(--faint);
}
.scroll {
  overflow: auto;
  max-height: 560px;
}
table {
  width: 100%;
  border-collapse: collapse;
}
th {
  position: sticky;
  top: 0;
  padding: 8px 12px;
  background: var(--card);
  text-align: left;
  color: var(--dim);
  font-weight: 550;
  font-size: 12.5px;
  white-space: nowrap;
}
td {
  padding: 8px 12px;
  border-top: 1px solid var(--line);
  vertical-align: top;
}
td.name {
  font-weight: 600;
  max-width: 240px;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
td.when {
  white-space: nowrap;
  font-variant-numeric: tabular-nums;
}
tr.go {
  cursor: pointer;
}
tr.go:hover td {
  background: var(--ground);
}
tr.ours td {
  font-weight: 650;
  background: var(--info-soft);
}
.why {
  display: grid;
  grid-template-columns: fit-content(220px) max-content max-content;
  gap: 1px 14px;
}
.why > span {
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
.chip {
  padding: 2px 10px;
  border-radius: 99px;
  font-weight: 600;
  font-size: 12.5px;
}
.chip.warning {
  background: var(--warn-soft);
  color: var(--warn);
}
.chip.critical {
  background: var(--bad-soft);
  color: var(--bad);
}
.meter {
  display: block;
  margin-top: 7px;
  width: 180px;
  max-width: 100%;
  height: 7px;
  border-radius: 4px;
  background: var(--line);
}
.meter i {
  display: block;
  height: 100%;
  border-radius: 4px;
  background: var(--faint);
}
.ours .meter i {
  background: var(--info);
}
.empty {
  padding: 18px;
  color: var(--dim);
  text-align: center;
}
.notes {
  margin: 14px 0 0;
  padding: 10px 14px 10px 30px;
}
footer {
  margin: 30px 0 40px;
  color: var(--faint);
  font-size: 12.5px;
}
"""

_BODY: Final = """<main>
<div id="records" class="tiles"></div>
<div id="found" class="tiles"></div>
<ul id="notes" class="card notes" hidden></ul>
<div id="qualitybox" hidden>
<h2>Detection <small>against the known labels; random, all-ones and time-only are the floor</small></h2>
<div id="quality" class="card scroll"></div>
</div>
<h2>Episodes <small id="episodecount"></small></h2>
<div id="episodes" class="card scroll"></div>
<h2>Scores and sensors <small>drag to zoom, double-click to see all</small></h2>
<div class="card">
<div class="bar"><button id="before" title="the asset before">&#8592;</button>
<select id="asset" aria-label="asset"></select>
<button id="after" title="the next asset">&#8594;</button><span id="assetnote" class="dim"></span></div>
<div id="chart"></div>
</div>
<div class="pair">
<div><h2>Drift <small>KL of each interval against training, nats</small></h2>
<div id="drift" class="card"></div></div>
<div><h2>Scores <small>how many rows, logarithmic</small></h2><div id="histogram" class="card"></div></div>
</div>
<div id="reasonbox" hidden><h2>Rejected records</h2><div id="reasons" class="card scroll"></div></div>
"""

_SCRIPT: Final = r"""
"use strict";
const $ = (id) => document.getElementById(id);
const D = JSON.parse($("data").textContent);
function h(tag, cls, ...kids) {
  const node = document.createElement(tag);
  if (cls) node.className = cls;
  for (const kid of kids)
    if (kid !== null && kid !== undefined)
      node.append(kid instanceof Node ? kid : document.createTextNode(String(kid)));
  return node;
}
function titled(node, text) {
  node.title = text;
  return node;
}
const count = (n) => (n === null || n === undefined ? "–" : n.toLocaleString("en-US"));
const value = (v, digits = 3) =>
  v === null || v === undefined
    ? "–"
    : Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 1e-3)
      ? v.toExponential(1)
      : Math.abs(v) >= 1000
        ? Math.round(v).toLocaleString("en-US")
        : String(+v.toPrecision(digits));
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
const times = (text) => Array.from(new Float64Array(bytes(text)));
const floats = (text) => Array.from(new Float32Array(bytes(text)), (v) => (Number.isFinite(v) ? v : null));
const KINDS = {
  anomaly: "anomaly",
  sensor_silent: "sensor silent",
  sensor_stuck: "sensor stuck",
  asset_silent: "asset silent",
  clock_skew: "clock is off",
  drift: "drift",
  regime: "new regime",
  unknown_condition: "unknown condition",
};
const stamp = (text) => text.slice(0, 10) + " " + text.slice(11, 19);
// plotly.js reads <b>, <i>, <a> and entities in its texts: a name must stay a name
const plainly = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) =>
  getComputedStyle(document.documentElement)
    .getPropertyValue("--" + name)
    .trim();
const CONFIG = { responsive: true, displaylogo: false, displayModeBar: false };

function layout(more) {
  return Object.assign(
    {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("dim") },
      margin: { l: 62, r: 20, t: 26, b: 46 },
      showlegend: false,
      hovermode: "closest",
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
    },
    more,
  );
}
const axis = (more) =>
  Object.assign(
    { gridcolor: colour("line"), zeroline: false, linecolor: colour("line"), tickcolor: colour("line") },
    more,
  );

function tiles() {
  const r = D.records,
    s = D.summary,
    odd = ["duplicate", "late", "rejected"];
  const tile = (what, big, small, cls) =>
    h("div", "card tile " + (cls || ""), h("div", "", what), h("b", "", big), h("small", "", small));
  const share = (k) =>
    r.read
      ? String(+((100 * (r[k] || 0)) / r.read).toPrecision(r[k] > r.read / 2 ? 4 : 2)) + " % of read"
      : "";
  const models = s.models || [];
  const firing = new Set(D.episodes.map((e) => e.asset)).size;
  $("records").append(
    tile("Records read", count(r.read), s.seconds ? "in " + value(s.seconds) + " s" : ""),
    tile("Accepted", count(r.accepted), r.read === r.accepted ? "all of them" : share("accepted")),
    ...odd.map((k) => tile(k[0].toUpperCase() + k.slice(1), count(r[k] || 0), r[k] ? share(k) : "none")),
  );
  $("found").append(
    tile("Rows scored", count(s.scored), s.rows ? "of " + count(s.rows) + " rows" : ""),
    tile("Cells filled in", count(s.filled), s.filled ? "with a 90 % interval" : "none were missing"),
    tile(
      "Episodes",
      count(D.episodeCount),
      D.episodeCount
        ? "on " + firing + " of " + D.assets + (D.assets === 1 ? " asset" : " assets")
        : "nothing to report",
      D.episodeCount ? "bad" : "",
    ),
    tile(
      models.length > 1 ? "Models" : "Model",
      models.length ? models[models.length - 1] : "–",
      models.length > 1
        ? models.length + " versions: " + models.join(", ")
        : models.length
          ? "one version"
          : "none",
    ),
  );
  if (D.notes.length) {
    $("notes").hidden = false;
    $("notes").append(...D.notes.map((n) => h("li", "", n)));
  }
}

function quality() {
  const names = Object.keys(D.quality);
  if (!names.length) return;
  $("qualitybox").hidden = false;
  const measures = [...new Set(names.flatMap((n) => Object.keys(D.quality[n])))];
  const rows = names.map((n) => {
    const fill = h("i"),
      first = D.quality[n][measures[0]];
    fill.style.width = 100 * Math.min(1, Math.max(0, first || 0)) + "%";
    return h(
      "tr",
      n === D.ours ? "ours" : "",
      h("td", "name", n),
      ...measures.map((m) =>
        h(
          "td",
          "num",
          D.quality[n][m] === null || D.quality[n][m] === undefined ? "–" : D.quality[n][m].toFixed(3),
        ),
      ),
      h("td", "", h("span", "meter", fill)),
    );
  });
  $("quality").append(
    h(
      "table",
      "",
      h(
        "thead",
        "",
        h(
          "tr",
          "",
          h("th", "", "Detector"),
          ...measures.map((m) => h("th", "", m === "AP" ? "Average precision (AP)" : m)),
          h("th", "", measures[0]),
        ),
      ),
      h("tbody", "", ...rows),
    ),
  );
}

function span(ms) {
  const s = ms / 1000;
  if (s < 90) return Math.round(s) + " s";
  if (s < 5400) return Math.round(s / 60) + " min";
  return s < 129600 ? (s / 3600).toFixed(1) + " h" : (s / 86400).toFixed(1) + " days";
}

function episodes() {
  const shown = D.episodes.length;
  if (!shown) {
    $("episodes").append(h("div", "empty", "No episode was opened."));
    return;
  }
  $("episodecount").textContent =
    (shown < D.episodeCount ? "the first " + shown + " of " + count(D.episodeCount) + "; " : "") +
    "choose one to see it in the chart";
  const rows = D.episodes.map((e) => {
    const why = h("div", "why");
    for (const c of e.contributors)
      why.append(
        titled(h("span", "", c.sensor), c.sensor),
        h(
          "span",
          "num",
          c.observed === null ? "missing" : value(c.observed, 4),
          c.expected === null ? null : h("span", "dim", ", expected " + value(c.expected, 4)),
        ),
        h("span", "dim num", c.share === null ? "" : Math.round(100 * c.share) + " %"),
      );
    const row = h(
      "tr",
      "",
      h("td", "", h("span", "chip " + e.severity, e.severity)),
      titled(h("td", "name", e.asset), e.asset),
      h("td", "", KINDS[e.kind] || e.kind, e.sensor ? h("div", "dim", e.sensor) : null),
      titled(h("td", "when", stamp(e.opened)), "onset " + e.onset + ", model " + e.model),
      h("td", "when", e.closed ? span(e.to - Date.parse(e.opened)) : "still open"),
      h(
        "td",
        "num",
        e.score === null ? "–" : value(e.score),
        e.threshold === null ? null : h("span", "dim", " of " + value(e.threshold)),
      ),
      h("td", "", e.contributors.length ? why : h("span", "dim", e.summary)),
    );
    const at = D.traces.findIndex((t) => t.asset === e.asset && t.stream === e.stream);
    if (at >= 0) {
      row.className = "go";
      row.tabIndex = 0;
      const go = () => {
        const all = times(D.traces[at].t);
        const wide = Math.max(e.to - e.from, (all[all.length - 1] - all[0]) / 60, 20000);
        draw(at, [e.from - wide, e.to + wide]);
        $("chart").scrollIntoView({ behavior: "smooth", block: "center" });
      };
      row.addEventListener("click", go);
      row.addEventListener("keydown", (k) => {
        if (k.key === "Enter") go();
      });
    }
    return row;
  });
  $("episodes").append(
    h(
      "table",
      "",
      h(
        "thead",
        "",
        h(
          "tr",
          "",
          ...[
            "",
            "Asset",
            "What",
            "Opened",
            "Lasted",
            "Peak score",
            "Most to blame: observed, expected, share",
          ].map((t) => h("th", "", t)),
        ),
      ),
      h("tbody", "", ...rows),
    ),
  );
}

let now = 0;
function draw(place, range) {
  if (!D.traces.length) {
    $("chart").replaceChildren(h("div", "empty", "No rows."));
    return;
  }
  now = (place + D.traces.length) % D.traces.length;
  $("asset").value = String(now);
  const T = D.traces[now],
    n = T.sensors.length,
    score = 230,
    each = Math.max(64, Math.min(120, 900 / Math.max(n, 1))),
    gap = 24; // holds the sensor's name
  const tall = score + n * (each + gap) + 80,
    inner = tall - 80;
  const from = (i) => Math.max(0, 1 - (score + (i + 1) * (each + gap)) / inner);
  const shapes = [],
    data = [],
    marks = [];
  for (const [a, b] of T.alarms)
    shapes.push({
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: a,
      x1: Math.max(b, a + 1),
      y0: 0,
      y1: 1,
      fillcolor: colour("bad"),
      opacity: 0.13,
      line: { width: 0 },
      layer: "below",
    });
  for (const [a, b] of T.labels)
    shapes.push({
      type: "rect",
      xref: "x",
      yref: "paper",
      x0: a,
      x1: Math.max(b, a + 1),
      y0: 1.002,
      y1: 1.002 + 9 / inner,
      fillcolor: colour("label"),
      line: { width: 1, color: colour("label") },
    });
  const at = times(T.t);
  data.push({
    x: at,
    y: floats(T.score),
    name: "score",
    mode: "lines",
    line: { color: colour("spark"), width: 1.3 },
    hovertemplate: "%{x|%Y-%m-%d %H:%M:%S}<br>score %{y:.3g}<extra></extra>",
  });
  data.push({
    x: at,
    y: floats(T.alarm),
    name: "firing",
    mode: "lines+markers",
    marker: { size: 2.5, color: colour("bad") },
    line: { color: colour("bad"), width: 1.8 },
    hovertemplate: "%{x|%Y-%m-%d %H:%M:%S}<br>score %{y:.3g}, firing<extra></extra>",
  });
  data.push({
    x: times(T.thresholdT),
    y: floats(T.threshold),
    name: "threshold",
    mode: "lines",
    hoverinfo: "skip",
    line: { color: colour("ink"), width: 1.2, dash: "dash", shape: "hv" },
  });
  const axes = {
    yaxis: axis({
      domain: [1 - score / inner, 1],
      title: { text: "score", font: { color: colour("ink") } },
      rangemode: "tozero",
      fixedrange: true,
    }),
  };
  T.sensors.forEach((s, i) => {
    const y = "y" + (i + 2),
      bottom = from(i);
    axes["yaxis" + (i + 2)] = axis({
      domain: [bottom, Math.min(1, bottom + each / inner)],
      nticks: 4,
      fixedrange: true,
    });
    marks.push({
      xref: "paper",
      yref: "paper",
      x: 0,
      y: bottom + each / inner,
      xanchor: "left",
      yanchor: "bottom",
      showarrow: false,
      text: plainly(s.name.length > 60 ? s.name.slice(0, 59) + "…" : s.name),
      font: { size: 12, color: colour("ink") },
    });
    const name = plainly(s.name).replace(/%/g, "&#37;");
    if (s.bandT)
      data.push({
        x: times(s.bandT),
        y: floats(s.band),
        yaxis: y,
        mode: "lines",
        fill: "toself",
        line: { width: 0 },
        fillcolor: colour("fill") + "44",
        hoverinfo: "skip",
        connectgaps: false,
      });
    data.push({
      x: times(s.t),
      y: floats(s.y),
      yaxis: y,
      mode: "lines",
      line: { color: colour("spark"), width: 1.1 },
      hovertemplate: "%{x|%Y-%m-%d %H:%M:%S}<br>" + name + " %{y:.4g}<extra></extra>",
    });
    if (s.filledT) {
      const low = floats(s.low),
        high = floats(s.high);
      data.push({
        x: times(s.filledT),
        y: floats(s.filled),
        yaxis: y,
        mode: "markers",
        marker: { size: 3.2, color: colour("fill") },
        customdata: low.map((v, k) => [v, high[k]]),
        hovertemplate:
          "%{x|%Y-%m-%d %H:%M:%S}<br>" +
          name +
          " filled in: %{y:.4g}" +
          "<br>90 % within %{customdata[0]:.4g} to %{customdata[1]:.4g}<extra></extra>",
      });
    }
  });
  marks.push({
    xref: "paper",
    yref: "paper",
    x: 1,
    y: 1,
    xanchor: "right",
    yanchor: "bottom",
    yshift: T.labels.length ? 10 : 2,
    showarrow: false,
    text:
      "- - threshold&nbsp;&nbsp; <span style='color:" +
      colour("bad") +
      "'>■</span> firing&nbsp;&nbsp; <span style='color:" +
      colour("fill") +
      "'>●</span> filled in, 90 % interval" +
      (T.labels.length ? "&nbsp;&nbsp; <span style='color:" + colour("label") + "'>■</span> labelled" : ""),
    font: { size: 12 },
  });
  $("assetnote").textContent = [
    D.traces.length < D.assets
      ? "the " + D.traces.length + " of most interest among " + D.assets + " assets"
      : "",
    n < T.of ? n + " of " + T.of + " sensors, the most blamed" : "",
  ]
    .filter(Boolean)
    .join("; ");
  const every = at.length ? [at[0], at[at.length - 1]] : undefined;
  Plotly.react(
    "chart",
    data,
    layout({
      height: tall,
      shapes,
      annotations: marks,
      margin: { l: 62, r: 20, t: 34, b: 46 },
      xaxis: axis({ type: "date", range: range || every, anchor: n ? "y" + (n + 1) : "y" }),
      ...axes,
    }),
    CONFIG,
  );
}

function drift() {
  if (!D.drift.length) {
    $("drift").append(h("div", "empty", "No interval has ended."));
    return;
  }
  const data = [],
    many = D.drift.length > 1;
  for (const d of D.drift)
    for (const [key, label, tint, dash] of [
      ["latent", "latent", "info", "solid"],
      ["residual", "residual", "fill", "solid"],
    ]) {
      const name = label + (many ? " · " + plainly(d.stream) : "");
      data.push({
        x: d.t,
        y: d[key],
        name,
        mode: d.t.length < 60 ? "lines+markers" : "lines",
        line: { color: colour(tint), width: 1.7, dash },
        text: d.verdicts,
        hovertemplate:
          "%{x|%Y-%m-%d %H:%M}<br>" +
          name.replace(/%/g, "&#37;") +
          " %{y:.3g} nats, %{text}<extra></extra>",
      });
      data.push({
        x: d.t,
        y: d[key + "Edge"],
        name: label + " threshold",
        showlegend: !many,
        mode: "lines",
        hoverinfo: "skip",
        line: { color: colour(tint), width: 1, dash: "dash", shape: "hv" },
      });
    }
  Plotly.react(
    "drift",
    data,
    layout({
      height: 320,
      showlegend: true,
      legend: { orientation: "h", y: 1.16, x: 0 },
      xaxis: axis({ type: "date" }),
      yaxis: axis({ rangemode: "tozero", title: { text: "nats" } }),
    }),
    CONFIG,
  );
}

function histogram() {
  const H = D.histogram;
  if (!H) {
    $("histogram").append(h("div", "empty", "No row was scored."));
    return;
  }
  const tint = { rows: "spark", normal: "spark", anomalous: "label" },
    x = floats(H.x);
  const data = Object.entries(H.groups).map(([name, y]) => ({
    type: "bar",
    x,
    y,
    width: x.map(() => H.width),
    name,
    marker: { color: colour(tint[name]), opacity: name === "anomalous" ? 0.65 : 0.85, line: { width: 0 } },
    hovertemplate: "score about %{x:.3g}<br>%{y} " + name + "<extra></extra>",
  }));
  const edge =
    H.threshold === null
      ? []
      : [
          {
            type: "line",
            x0: H.threshold,
            x1: H.threshold,
            yref: "paper",
            y0: 0,
            y1: 1,
            line: { color: colour("ink"), width: 1.3, dash: "dash" },
          },
        ];
  const words =
    H.threshold === null
      ? []
      : [
          {
            x: H.threshold,
            xref: "x",
            y: 1,
            yref: "paper",
            yanchor: "bottom",
            showarrow: false,
            text: "threshold " + value(H.threshold),
          },
        ];
  Plotly.react(
    "histogram",
    data,
    layout({
      height: 320,
      barmode: "overlay",
      bargap: 0,
      shapes: edge,
      annotations: words,
      showlegend: data.length > 1,
      legend: { orientation: "h", y: 1.16, x: 0 },
      xaxis: axis({ title: { text: "score" } }),
      yaxis: axis({ type: "log", dtick: 1, title: { text: "rows" } }),
    }),
    CONFIG,
  );
}

function reasons() {
  const list = Object.entries(D.reasons).sort((a, b) => b[1] - a[1]);
  if (!list.length) return;
  $("reasonbox").hidden = false;
  $("reasons").append(
    h(
      "table",
      "",
      h("thead", "", h("tr", "", h("th", "", "Reason"), h("th", "", "Records"))),
      h(
        "tbody",
        "",
        ...list.map(([k, v]) => h("tr", "", h("td", "", k.replace(/_/g, " ")), h("td", "num", count(v)))),
      ),
    ),
  );
}

tiles();
quality();
episodes();
reasons();
D.traces.forEach((t, i) => {
  const found = D.episodes.filter((e) => e.asset === t.asset && e.stream === t.stream).length;
  const option = h(
    "option",
    "",
    t.asset + (found ? " (" + found + (found === 1 ? " episode)" : " episodes)") : ""),
  );
  option.value = String(i);
  $("asset").append(option);
});
$("asset").addEventListener("change", () => draw(+$("asset").value));
$("before").addEventListener("click", () => draw(now - 1));
$("after").addEventListener("click", () => draw(now + 1));
const paint = () => {
  draw(now);
  drift();
  histogram();
};
dark.addEventListener("change", paint);
paint();
"""
