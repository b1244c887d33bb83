"""The page of an episode's cause: what is wrong, since when, with which sensor, and what it should be.

``section`` is a piece of HTML to put into any page that carries plotly.js and ``SCRIPT``;
``root_cause_html`` is a whole page of it, in the style of ``report.html``: one document that loads
nothing. It is read by people of the plant, so the first lines say in words what the figures show.
Names are data: they are escaped wherever they stand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

import msgspec
import numpy as np
from plotly.offline import get_plotlyjs

from daemon import __version__
from daemon.adapters.report import STYLE, extremes
from daemon.domain import (
    SECOND_NS,
    Floats,
    Ints,
    iso,
)
from daemon.model.repair import RIGHT, Cause
from daemon.model.root_cause import RootCause, listed

SENSORS_SHOWN: Final = 4
"""Sensors with a chart of their own."""
BARS: Final = 10
POINTS: Final = 2_000
WINDOW_SENSORS: Final = 8


# ------------------------------------------------------------------ words
def shown(value: float, like: Floats | None = None) -> str:
    """Four significant digits; no finer than a ten-thousandth of what ``like`` spans. A dash: not known."""
    if not math.isfinite(value):
        return "–"
    if like is not None and np.isfinite(like).any():
        step = float(np.nanmax(like) - np.nanmin(like)) / 1e4
        value = 0.0 if abs(value) < step else value
    return f"{value:.4g}"


def clock(time_ns: int) -> str:
    """``2026-03-10 14:02:00``, UTC."""
    return iso(time_ns)[:19].replace("T", " ")


def lasted(span_ns: int) -> str:
    """``40 s``, ``35 min``, ``3.5 h``, ``4 days``."""
    for unit, seconds in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if span_ns >= 2 * seconds * SECOND_NS:
            return f"{span_ns / (seconds * SECOND_NS):.3g} {unit}"
    return f"{span_ns / SECOND_NS:.3g} s"


def headline(found: RootCause) -> str:
    """What is wrong, in a few words."""
    names = listed([found.sensors[c] for c in found.blamed], 3)
    match found.verdict.cause:
        case None:
            return "Nothing is wrong here"
        case Cause.BROKEN_SENSOR:
            return f"{names} alone is off"
        case Cause.NEW_REGIME:
            return f"{names} have moved together" if len(found.blamed) > 1 else f"{names} has moved"
        case Cause.PROCESS_FAULT if found.repair.enough:
            return f"The process is off: {names} no longer fit together"
        case Cause.PROCESS_FAULT:
            return "The process is off: the sensors no longer fit together"


def consequence(found: RootCause) -> str:
    """What the most blamed sensor reads and should read, in one sentence."""
    if found.verdict.cause is None:
        return found.evidence()
    if not found.repair.sensors or not found.repair.enough:
        return "No set of sensors was found without which the window is normal."
    first = found.repair.sensors[0]
    like = found.observed[:, first]
    observed, twin, low, high = found.reading(first)
    reads = (
        f"{found.sensors[first]} reads {shown(observed, like)}"
        if math.isfinite(observed)
        else f"{found.sensors[first]} reads nothing"
    )
    more = len(found.repair.sensors) - 1
    others = "the other sensors say" if not more else f"the sensors beside these {more + 1} say"
    return f"{reads}; {others} {shown(twin, like)} (90 %: {shown(low, like)} to {shown(high, like)})."


def certainty(cause: Cause, certain: bool) -> str:
    """How far a verdict can be trusted."""
    often = f"Such verdicts were right in {100 * RIGHT[cause]:.0f} % of the labelled cases in which they were given"
    return f"{often}." if certain else f"{often}: take it for a hint. The alert does not carry it."


CAUSES: Final = {
    Cause.BROKEN_SENSOR: "broken sensor",
    Cause.PROCESS_FAULT: "process fault",
    Cause.NEW_REGIME: "new regime",
}


# ------------------------------------------------------------------ figures
def _plain(text: str) -> str:
    """plotly.js reads a little markup in its texts: a name stays a name."""
    return escape(text, quote=False)


def _list(values: Floats) -> list[float | None]:
    return [float(f"{v:.6g}") if math.isfinite(v) else None for v in values.tolist()]


def _when(times_ns: Ints) -> list[float]:
    return [float(t) for t in np.asarray(times_ns, np.float64) / 1e6]


def _axis(**more: Any) -> dict[str, Any]:
    return {"gridcolor": "var:line", "zeroline": False, "linecolor": "var:line", "automargin": True, **more}


def _layout(height: int, **more: Any) -> dict[str, Any]:
    return {
        "height": height,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12, "color": "var:dim"},
        "margin": {"l": 52, "r": 12, "t": 28, "b": 36},
        "hovermode": "x",
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"color": "var:ink"}},
        **more,
    }


def readings_figure(found: RootCause) -> dict[str, Any]:
    """The score, and below it each sensor of the repair: what it read and what it would have."""
    chosen = list(found.repair.sensors[:SENSORS_SHOWN]) or list(
        np.argsort(-found.shares, kind="stable")[:SENSORS_SHOWN].tolist()
    )
    panels = 1 + len(chosen)
    gap = 0.28 / panels
    tall = (1 - gap * (panels - 1)) / panels
    rows = extremes(found.scores, POINTS)
    at = _when(found.times_ns)
    data: list[dict[str, Any]] = [
        {
            "x": [at[i] for i in rows.tolist()],
            "y": _list(found.scores[rows]),
            "name": "score",
            "line": {"color": "var:spark", "width": 1.4},
            "showlegend": False,
            "hovertemplate": "score %{y:.3g}<extra></extra>",
        },
        {
            "x": [at[0], at[-1]],
            "y": [found.threshold, found.threshold],
            "name": "threshold",
            "mode": "lines",
            "line": {"color": "var:bad", "width": 1, "dash": "dot"},
            "showlegend": False,
            "hoverinfo": "skip",
        },
    ]
    layout = _layout(
        110 + 150 * panels, xaxis=_axis(type="date", anchor=f"y{panels}" if panels > 1 else "y"),
        annotations=[_title("Score and alarm threshold", 1.0)], shapes=[],
        legend={"orientation": "h", "x": 0, "y": -0.02 - 0.18 / panels, "yanchor": "top", "font": {"color": "var:ink"}},
    )  # fmt: skip
    layout["yaxis"] = _axis(domain=[1 - tall, 1], rangemode="tozero")
    for i, c in enumerate(chosen):
        top = 1 - (i + 1) * (tall + gap)
        name = f"y{i + 2}"
        layout[f"yaxis{i + 2}"] = _axis(domain=[max(top - tall, 0), top])
        layout["annotations"].append(_title(_plain(found.sensors[c]), top, bold=True))
        data += _sensor(found, c, name, at, first=i == 0)
    begin, end = _when(found.times_ns[found.window][[0, -1]])
    span = (
        [begin, end]
        if found.incident is None
        else _when(np.array([found.incident.onset_ns, found.incident.last_ns]))
    )
    for (x0, x1), colour, opacity in ((span, "var:bad", 0.1),):
        layout["shapes"].append(
            {
                "type": "rect", "xref": "x", "yref": "paper", "x0": max(x0, at[0]), "x1": min(max(x1, x0 + 1), at[-1]),
                "y0": 0, "y1": 1, "fillcolor": colour, "opacity": opacity, "line": {"width": 0}, "layer": "below",
            }
        )  # fmt: skip
    return {"data": data, "layout": layout}


def _title(text: str, y: float, bold: bool = False) -> dict[str, Any]:
    return {
        "text": f"<b>{text}</b>" if bold else text, "x": 0, "y": y, "xref": "paper", "yref": "paper", "xanchor": "left",
        "yanchor": "bottom", "showarrow": False, "font": {"color": "var:ink" if bold else "var:dim"},
    }  # fmt: skip


def _sensor(found: RootCause, c: int, axis: str, at: Sequence[float], first: bool) -> list[dict[str, Any]]:
    observed, twin = found.observed[:, c], found.twin
    rows = extremes(observed, POINTS).tolist()
    data: list[dict[str, Any]] = []
    known = np.flatnonzero(np.isfinite(twin.value[:, c]))
    if len(known):
        known = known[extremes(twin.value[known, c], POINTS)]
        along = [at[i] for i in known.tolist()]
        data.append(
            {
                "x": along + along[::-1], "y": _list(twin.high[known, c]) + _list(twin.low[known, c])[::-1],
                "fill": "toself", "fillcolor": "var:ok", "opacity": 0.22, "line": {"width": 0}, "yaxis": axis,
                "name": "90 % interval", "showlegend": first, "hoverinfo": "skip", "mode": "lines",
            }
        )  # fmt: skip
        data.append(
            {
                "x": along, "y": _list(twin.value[known, c]), "yaxis": axis, "name": "what it should have been", "mode": "lines",
                "line": {"color": "var:ok", "width": 1.8, "dash": "dash"}, "showlegend": first,
                "hovertemplate": "should be %{y:.4g}<extra></extra>",
            }
        )  # fmt: skip
    else:
        data.append(
            {
                "x": [at[i] for i in rows], "y": _list(found.expected[rows, c]), "yaxis": axis, "name": "as the model sees it",
                "mode": "lines", "line": {"color": "var:ok", "width": 1.6, "dash": "dash"}, "showlegend": first,
                "hovertemplate": "model %{y:.4g}<extra></extra>",
            }
        )  # fmt: skip
    data.append(
        {
            "x": [at[i] for i in rows], "y": _list(observed[rows]), "yaxis": axis, "name": "what it read", "mode": "lines",
            "line": {"color": "var:bad" if len(known) else "var:spark", "width": 1.6}, "showlegend": first,
            "hovertemplate": "read %{y:.4g}<extra></extra>",
        }
    )  # fmt: skip
    return data


def path_figure(found: RootCause) -> dict[str, Any]:
    """The latent dimensions that moved most, from before the onset to the peak."""
    at = _when(found.path_times_ns)
    colours = ("var:bad", "var:info", "var:fill", "var:label")
    data = [
        {
            "x": at, "y": _list(found.path.sd[:, i]), "name": f"dimension {d}", "mode": "lines",
            "line": {"color": colours[i % len(colours)], "width": 1.6}, "hovertemplate": f"dimension {d}: %{{y:.2f}} sd<extra></extra>",
        }
        for i, d in enumerate(found.path.dimensions)
    ]  # fmt: skip
    layout = _layout(
        300, xaxis=_axis(type="date"), yaxis=_axis(title={"text": "sd from training's mean"}), showlegend=True, shapes=[
            {"type": "rect", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": -2, "y1": 2, "fillcolor": "var:ok",
             "opacity": 0.1, "line": {"width": 0}, "layer": "below"},
            {"type": "line", "xref": "x", "yref": "paper", "x0": found.since_ns / 1e6, "x1": found.since_ns / 1e6, "y0": 0, "y1": 1,
             "line": {"color": "var:bad", "width": 1, "dash": "dot"}},
        ],
    )  # fmt: skip
    return {"data": data, "layout": layout}


def window_figure(found: RootCause) -> dict[str, Any]:
    """The most blamed sensors of the window: observed, and as the model reconstructs all of it."""
    chosen = np.argsort(-found.shares, kind="stable")[:WINDOW_SENSORS]
    chosen = chosen[found.shares[chosen] > 0]
    at = _when(found.times_ns[found.window])
    across = 2
    down = max(-(-len(chosen) // across), 1)
    data: list[dict[str, Any]] = []
    layout = _layout(
        60 + 130 * down, annotations=[], showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.06 - 0.1 / down, "yanchor": "top", "font": {"color": "var:ink"}},
    )  # fmt: skip
    gap = 0.3 / down
    tall = (1 - gap * (down - 1)) / down
    for i, c in enumerate(chosen.tolist()):
        n = "" if i == 0 else str(i + 1)
        left, top = (i % across) * 0.54, 1 - (i // across) * (tall + gap)
        layout[f"xaxis{n}"] = _axis(
            domain=[left, left + 0.46], anchor=f"y{n}", type="date", showticklabels=False
        )
        layout[f"yaxis{n}"] = _axis(domain=[max(top - tall, 0), top], anchor=f"x{n}", nticks=4)
        layout["annotations"].append({**_title(_plain(found.sensors[c]), top), "x": left})
        for values, name, line in (
            (
                found.reconstruction[:, c],
                "as the model sees it",
                {"color": "var:ok", "width": 1.6, "dash": "dash"},
            ),
            (found.observed[found.window, c], "what it read", {"color": "var:spark", "width": 1.6}),
        ):
            data.append(
                {
                    "x": at, "y": _list(values), "xaxis": f"x{n}", "yaxis": f"y{n}", "name": name, "mode": "lines",
                    "line": line, "showlegend": i == 0, "hovertemplate": "%{y:.4g}<extra></extra>",
                }
            )  # fmt: skip
    return {"data": data, "layout": layout}


# ------------------------------------------------------------------ the page
def figure_element(name: str, figure: dict[str, Any]) -> str:
    data = msgspec.json.encode(figure).decode().replace("<", "\\u003c")
    return f'<div class="figure" id="{name}"></div><script type="application/json" data-figure="{name}">{data}</script>'


def _tile(what: str, big: str, small: str, kind: str = "") -> str:
    return f'<div class="card tile {kind}"><div>{escape(what)}</div><b>{escape(big)}</b><small>{escape(small)}</small></div>'


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _bars(found: RootCause) -> str:
    ranked = [c for c in np.argsort(-found.shares, kind="stable")[:BARS].tolist() if found.shares[c] > 0]
    most = max([float(found.shares[c]) for c in ranked], default=1.0)
    lines = [
        f'<div class="rc-bar{" on" if c in found.repair.sensors else ""}"><span>{escape(found.sensors[c])}</span>'
        f'<i style="width:{100 * float(found.shares[c]) / most * 0.6:.1f}%"></i><em>{100 * float(found.shares[c]):.0f} %</em></div>'
        for c in ranked
    ]
    return '<div class="card rc-pad">' + "".join(lines) + "</div>"


def _readings(found: RootCause) -> str:
    rows = []
    for c in found.repair.sensors[:WINDOW_SENSORS]:
        like = found.observed[:, c]
        observed, twin, low, high = found.reading(c)
        rows.append(
            _row(
                f"<b>{escape(found.sensors[c])}</b>", shown(observed, like), f"<b>{shown(twin, like)}</b>",
                f"{shown(low, like)} to {shown(high, like)}", f"{100 * float(found.shares[c]):.0f} %",
            )
        )  # fmt: skip
    if not rows:
        return ""
    heads = "".join(
        f"<th>{h}</th>"
        for h in ("Sensor", "It read", "It should read", "90 % interval", "Share of the blame")
    )
    return f'<div class="card scroll"><table class="num"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _nearest(found: RootCause) -> str:
    if not found.nearest:
        return '<p class="dim">No earlier episode is known.</p>'
    heads = "".join(f"<th>{h}</th>" for h in ("When", "Asset", "Alike", "Most blamed", "What operators said"))
    rows = [
        _row(
            clock(n.onset_ns), escape(n.asset), f"{100 * max(n.likeness, 0.0):.0f} %", escape(", ".join(n.sensors)),
            escape(": ".join(part for part in (n.verdict, n.note) if part)) or '<span class="dim">nobody has said</span>',
        )
        for n in found.nearest
    ]  # fmt: skip
    return f'<div class="card scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _window_span(found: RootCause) -> str:
    at = found.times_ns[found.window]
    return f"{clock(int(at[0]))} to {clock(int(at[-1]))}"


def _repair_tile(found: RootCause) -> str:
    repair = found.repair
    if found.verdict.cause is None:
        return _tile(
            "Smallest repair", "none needed", f"score {repair.before:.2f}, normal up to {repair.level:.2f}"
        )
    count = f"{len(repair.sensors)} of {len(found.sensors)} sensors"
    if not repair.enough:
        return _tile("Smallest repair", "none", "no sensors were found without which it is normal", "bad")
    how = "no smaller set does" if repair.exact else f"at least {repair.fewest} are needed"
    return _tile(
        "Smallest repair",
        count,
        f"without {'it' if len(repair.sensors) == 1 else 'them'} the score falls from {repair.before:.2f} to {repair.after:.2f}; {how}",
    )


def section(found: RootCause) -> str:
    """The HTML of one explanation, for a page that has plotly.js, ``STYLE`` and ``SCRIPT``."""
    incident, cause = found.incident, found.verdict.cause
    since = clock(found.since_ns)
    if incident is None:
        until = f"the window of {len(found.reconstruction)} rows up to {clock(found.row_ns)}; in no episode"
    else:
        span = lasted(max(incident.last_ns - incident.onset_ns, found.period_ns))
        until = (
            f"for {span}, until {clock(incident.last_ns)}"
            if incident.closed
            else f"for {span} so far, still open"
        )
    kind = "" if cause is None else "bad"
    chip = (
        ""
        if cause is None
        else f'<span class="rc-chip {"" if found.certain else "rc-maybe"}">{CAUSES[cause] if found.certain else CAUSES[cause] + "?"}</span>'
    )
    why = escape(found.evidence()) if cause is None else (
        f"<b>Why:</b> {escape(found.evidence())} <span class=\"dim\">{escape(certainty(cause, found.certain))}</span>"
    )  # fmt: skip
    parts = [
        f'<section class="rc"><div class="card rc-head {kind}"><div class="rc-top"><span class="dim">{escape(found.asset)}</span>{chip}</div>'
        f'<h2>{escape(headline(found))}</h2><p class="rc-lead">{escape(consequence(found))}</p><p>{why}</p></div>',
        '<div class="tiles">',
        _tile("Since", since, until + " (UTC)", kind),
        _tile(
            "Score",
            f"{found.repair.before:.2f}",
            f"at its peak, {clock(found.row_ns)}; an alarm is above {found.threshold:.2f}",
        ),
        _repair_tile(found),
        "</div>",
    ]
    if found.repair.sensors:
        parts += ["<h2>What it read, and what it should have been</h2>", _readings(found)]
    parts += [
        '<div class="card rc-pad">', figure_element("rc-readings", readings_figure(found)), "</div>",
        '<div class="pair"><div><h2>Who is to blame <small>share of the evidence; those of the repair in red</small></h2>', _bars(found),
        "</div><div><h2>Like which earlier episodes</h2>", _nearest(found), "</div></div>",
        f"<h2>The whole window as the model sees it <small>{_window_span(found)}; most blamed sensors</small></h2>",
        '<div class="card rc-pad">', figure_element("rc-window", window_figure(found)), "</div>",
    ]  # fmt: skip
    if found.path.dimensions:
        parts += [
            "<h2>The way there in latent space <small>from before the onset (dotted) to the peak; green is where training was</small></h2>",
            '<div class="card rc-pad">', figure_element("rc-path", path_figure(found)), "</div>",
        ]  # fmt: skip
    if incident is not None:
        parts.append(
            f'<p class="dim rc-ids">Episode {escape(incident.fingerprint)}, alert {escape(incident.ids[0])}, model {escape(found.model)}.</p>'
        )
    parts += [f'<p class="dim">Note: {escape(note)}</p>' for note in found.notes]
    return "".join(parts) + "</section>"


SECTION_STYLE: Final = """
.rc h2 { overflow-wrap: anywhere; }
.rc-head { padding: 16px 20px; margin-bottom: 12px; border-left: 6px solid var(--ok); }
.rc-head.bad { border-left-color: var(--bad); }
.rc-head h2 { margin: 4px 0 6px; font-size: 26px; line-height: 1.2; }
.rc-head p { margin: 6px 0 0; max-width: 100ch; overflow-wrap: anywhere; }
.rc-head p.rc-lead { font-size: 18px; }
.rc-top { display: flex; gap: 10px; align-items: center; flex-wrap: wrap; font-size: 15px; }
.rc-chip { padding: 1px 10px; border-radius: 99px; background: var(--bad-soft); color: var(--bad); font-weight: 600; font-size: 13px; }
.rc-chip.rc-maybe { background: var(--warn-soft); color: var(--warn); }
.rc-pad { padding: 10px 14px; }
.rc .tile b { font-size: 20px; }
.rc .card.scroll { margin-bottom: 12px; }
.rc .figure { width: 100%; }
.rc-bar { display: flex; align-items: center; gap: 8px; padding: 3px 0; }
.rc-bar span { flex: 0 0 38%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: right; }
.rc-bar i { height: 13px; min-width: 2px; border-radius: 3px; background: var(--faint); }
.rc-bar em { white-space: nowrap; font-style: normal; color: var(--dim); font-variant-numeric: tabular-nums; }
.rc-bar.on i { background: var(--bad); }
.rc-bar.on span { font-weight: 650; }
.rc-ids { overflow-wrap: anywhere; }
@media (max-width: 600px) {
  header, main { padding: 0 12px; }
  .rc-head h2 { font-size: 21px; }
  .rc-head p.rc-lead { font-size: 16px; }
  .rc td, .rc th { padding: 6px 8px; white-space: normal; }
}
"""

SCRIPT: Final = """
"use strict";
(() => {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  function draw() {
    for (const one of document.querySelectorAll("script[data-figure]")) {
      const text = one.textContent.replace(/"var:([a-z-]+)"/g, (_, name) => JSON.stringify(colour(name)));
      const figure = JSON.parse(text);
      figure.layout.font.family = getComputedStyle(document.body).fontFamily;
      figure.layout.hoverlabel = { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } };
      Plotly.react(one.dataset.figure, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  }
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
"""


def root_cause_html(found: RootCause) -> str:
    """A whole page of one explanation. About 5 MB of it is plotly.js."""
    title = f"Why {found.asset} {'alarmed' if found.incident else 'looks so'}: {clock(found.since_ns)}"
    return figure_page(title, f"stream: {found.stream}, model: {found.model}", section(found))


def figure_page(title: str, about: str, body: str) -> str:
    """A self-contained page in which each ``figure_element`` of ``body`` is drawn by plotly.js.

    Args:
        title, about: plain texts.
        body: markup, escaped already.
    """
    library = get_plotlyjs().replace("</script", "<\\/script")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}{SECTION_STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(title)}</h1><p>{escape(about)}</p></header>\n"
        f"<main>{body}<footer>anomalyd {escape(__version__)}. Times are event time, UTC.</footer></main>\n"
        f"<script>{library}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
