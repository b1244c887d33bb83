"""The charts of an explanation, as plotly.js takes them: ``{"data": [...], "layout": {...}}``.

A colour is written ``var:name`` and replaced by the page's script, which knows whether the page is light or
dark. Names are escaped, because plotly.js reads a little markup in its texts. Series are thinned to ``POINTS``
points that keep every peak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from daemon.adapters.pages import panel_names, panel_title
from daemon.adapters.report import extremes
from daemon.domain import Floats, Ints
from daemon.model.root_cause import RootCause

SENSORS_SHOWN: Final = 4
"""Sensors with a chart of their own."""
POINTS: Final = 2_000
WINDOW_SENSORS: Final = 8


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
        annotations=[panel_title("Score and alarm threshold", 1.0, bold=False)], shapes=[],
        **panel_names(gap),
        legend={"orientation": "h", "x": 0, "y": -0.02 - 0.18 / panels, "yanchor": "top", "font": {"color": "var:ink"}},
    )  # fmt: skip
    layout["yaxis"] = _axis(domain=[1 - tall, 1], rangemode="tozero")
    for i, c in enumerate(chosen):
        top = 1 - (i + 1) * (tall + gap)
        name = f"y{i + 2}"
        layout[f"yaxis{i + 2}"] = _axis(domain=[max(top - tall, 0), top])
        layout["annotations"].append(panel_title(found.sensors[c], top))
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
    gap = 0.3 / down
    layout = _layout(
        60 + 130 * down, annotations=[], showlegend=True, **panel_names(gap, 0.46),
        legend={"orientation": "h", "x": 0, "y": -0.06 - 0.1 / down, "yanchor": "top", "font": {"color": "var:ink"}},
    )  # fmt: skip
    tall = (1 - gap * (down - 1)) / down
    for i, c in enumerate(chosen.tolist()):
        n = "" if i == 0 else str(i + 1)
        left, top = (i % across) * 0.54, 1 - (i // across) * (tall + gap)
        layout[f"xaxis{n}"] = _axis(
            domain=[left, left + 0.46], anchor=f"y{n}", type="date", showticklabels=False
        )
        layout[f"yaxis{n}"] = _axis(domain=[max(top - tall, 0), top], anchor=f"x{n}", nticks=4)
        layout["annotations"].append(panel_title(found.sensors[c], top, left, bold=False))
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
