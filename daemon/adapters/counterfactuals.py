"""A counterfactual as a figure and as a page: what a stretch would have read under another condition.

In: ``model.counterfactual.Counterfactual``. Out: a plotly figure as plain values, or a page of HTML that carries its
JavaScript. Names are escaped in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from daemon.adapters.root_cause_page import figure_element, figure_page
from daemon.model.counterfactual import Counterfactual

MOST_SENSORS = 8
"""Panels of the figure: as many sensors as fit a screen, those that change most first."""
BLUE, ORANGE, GREY = "#1f77b4", "#d95f02", "#888888"


def counterfactual_figure(value: Counterfactual, sensors: Sequence[str] | None = None) -> dict[str, Any]:
    """One panel per sensor: observed, expected under the true condition, and under the other one, with its interval.

    Args:
        value: what is shown.
        sensors: which, in this order; None: those that change most against their interval.

    Returns:
        ``{"data": [...], "layout": {...}}``; names are escaped, as plotly.js interprets markup in texts.
    """
    told = value.as_dict()["sensors"]

    width = np.nanmean(value.high - value.low, axis=0)
    moved = np.abs(np.nanmean(value.value - value.expected, axis=0)) / np.maximum(width, 1e-12)
    by_change = [value.sensors[c] for c in np.argsort(-np.nan_to_num(moved), kind="stable").tolist()]
    chosen = list(sensors) if sensors is not None else by_change
    chosen = [name for name in chosen if any(v is not None for v in told[name]["value"])][:MOST_SENSORS]
    times = value.as_dict()["timestamps"]
    data: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "height": 120 + 170 * len(chosen),
        "legend": {"orientation": "h"},
        "hovermode": "x unified",
        "paper_bgcolor": "var:card",
        "plot_bgcolor": "var:card",
        "font": {"color": "var:ink"},
        "margin": {"l": 70, "r": 20, "t": 30, "b": 40},
    }
    for i, name in enumerate(chosen):
        axis = "" if i == 0 else str(i + 1)

        def line(of: str, label: str, colour: str, i: int = i, **more: Any) -> None:
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": times,
                    "y": told[chosen[i]][of],
                    "name": label,
                    "legendgroup": label,
                    "showlegend": i == 0,
                    "line": {
                        "color": colour,
                        "width": more.pop("width", 1.5),
                        "dash": more.pop("dash", "solid"),
                    },
                    "xaxis": "x",
                    "yaxis": f"y{'' if i == 0 else i + 1}",
                    **more,
                }
            )

        line("low", "90 % of what would have been", "rgba(0,0,0,0)", hoverinfo="skip", width=0)
        data[-1]["showlegend"] = False
        line(
            "high",
            "90 % of what would have been",
            "rgba(0,0,0,0)",
            hoverinfo="skip",
            width=0,
            fill="tonexty",
            fillcolor="rgba(217,95,2,.2)",
        )
        line("observed", "observed", GREY)
        line("expected", "expected, as it was", BLUE, dash="dot")
        line("value", "would have been", ORANGE, width=2)
        gap = 0.03
        height = (1.0 - gap * (len(chosen) - 1)) / len(chosen)
        top = 1.0 - i * (height + gap)
        layout[f"yaxis{axis}"] = {"domain": [max(top - height, 0.0), top], "title": {"text": escape(name)}}
    layout["xaxis"] = {"type": "date", "anchor": f"y{'' if len(chosen) < 2 else len(chosen)}"}
    return {"data": data, "layout": layout}


def counterfactual_html(value: Counterfactual) -> str:
    """A page about one counterfactual; about 5 MB of it is plotly.js."""
    told = value.as_dict()
    was = ", ".join(told["was"]) or "no condition"
    changes = {
        name: found["change"] for name, found in told["sensors"].items() if found["change"] is not None
    }
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{change:+.4g}</td></tr>"
        for name, change in sorted(changes.items(), key=lambda item: item[0])
    )
    body = (
        '<section class="rc"><p>The orange line is what the model expects of the same stretch, had the condition been'
        f" <b>{escape(value.condition)}</b> instead of <b>{escape(was)}</b>; the band holds 90 % of what could have been"
        " read. Compare it with the dotted line, which is what the model expects as it was. Only what the condition"
        " itself adds is changed: what the machine was doing (its latent state) is kept. Where modes"
        " differ in more than their levels, the change may be too small and the band too narrow.</p>"
        f'<div class="card rc-pad">{figure_element("counterfactual", counterfactual_figure(value))}</div>'
        "<h3>Mean change of each sensor, in its own units</h3>"
        f'<div class="card scroll"><table><thead><tr><th>sensor</th><th>change</th></tr></thead><tbody>{rows}</tbody></table></div>'
        "</section>"
    )
    title = f"{value.asset}, had it been {value.condition}"
    return figure_page(
        title, f"model {value.model}, {told['timestamps'][0]} to {told['timestamps'][-1]}", body
    )
