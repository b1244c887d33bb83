"""A counterfactual as a figure and as a page: "this hour, had the mode been low"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from daemon.adapters.counterfactual_page import page_html
from daemon.adapters.pages import panel_names, panel_title
from daemon.model.counterfactual import Counterfactual

MOST_SENSORS = 8
"""Rows of the figure: as many sensors as fit a screen, those that change most first."""
BLUE, ORANGE, GREY = "#1f77b4", "#d95f02", "#888888"


def counterfactual_figure(value: Counterfactual, sensors: Sequence[str] | None = None) -> dict[str, Any]:
    """One panel per sensor: observed, expected as it was, and what would have been, with its interval.

    Args:
        value: what is to be shown.
        sensors: which, in this order; without, those that change most against their interval.

    Returns:
        ``{"data": [...], "layout": {...}}``; names are escaped, because plotly.js reads markup in texts.
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
        "margin": {"l": 70, "r": 20, "t": 60, "b": 40},
        "annotations": [],
        **panel_names(0.28 / max(len(chosen), 1)),
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
        gap = 0.28 / len(chosen)
        height = (1.0 - gap * (len(chosen) - 1)) / len(chosen)
        top = 1.0 - i * (height + gap)
        layout[f"yaxis{axis}"] = {"domain": [max(top - height, 0.0), top]}
        layout["annotations"].append(panel_title(name, top))
    layout["xaxis"] = {"type": "date", "anchor": f"y{'' if len(chosen) < 2 else len(chosen)}"}
    return {"data": data, "layout": layout}


def counterfactual_html(value: Counterfactual) -> str:
    """A whole page of one counterfactual. About 5 MB of it is plotly.js."""
    plain = value.as_dict()
    document = {
        "asset": value.asset,
        "condition": value.condition,
        "was": ", ".join(plain["was"]) or "no condition",
        "model": value.model,
        "begin": plain["timestamps"][0],
        "end": plain["timestamps"][-1],
        "changes": {
            name: found["change"] for name, found in plain["sensors"].items() if found["change"] is not None
        },
    }
    return page_html(document, counterfactual_figure(value))
