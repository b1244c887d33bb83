"""Charts of several panels above one another, each with its sensor's name on top.

The names are given plainly: the script ``charts.js`` breaks them into lines as wide as their panel, and makes
the chart taller where a name needs more lines than ``gap`` has room for.
"""

from __future__ import annotations

from typing import Any


def panel_title(name: str, top: float, left: float = 0.0, *, bold: bool = True) -> dict[str, Any]:
    """The annotation above a panel whose upper left corner is at (``left``, ``top``), in shares of the chart."""
    # By the font and not by <b>: for that plotly.js would set a style attribute, which the policy forbids.
    font = {"color": "var:ink", "weight": "bold"} if bold else {"color": "var:dim"}
    return {
        "name": name, "x": left, "y": top, "xref": "paper", "yref": "paper", "xanchor": "left",
        "yanchor": "bottom", "align": "left", "showarrow": False, "font": font,
    }  # fmt: skip


def panel_names(gap: float, width: float = 1.0) -> dict[str, Any]:
    """What the script needs to know to fit the names: the height above a panel and its width, as shares."""
    return {"meta": {"gap": gap, "width": width}}
