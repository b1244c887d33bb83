"""The page of a counterfactual: what the same stretch would have been under another condition.

It is one document that loads nothing: a chart, and the mean change of each sensor. Names are shown as text.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from daemon import __version__
from daemon.adapters.pages import Page, encoded


@functools.cache
def _page() -> Page:
    return Page.load("daemon.adapters.counterfactual_page", charts=True)


def page_html(document: Mapping[str, Any], figure: Mapping[str, Any]) -> str:
    """The whole page. About 5 MB of it is plotly.js.

    Args:
        document: ``asset``, ``condition``, ``was`` (a text), ``model``, ``begin`` and ``end`` (times), and
            ``changes``, sensor -> mean change in its own units.
        figure: the chart as plotly.js takes it.
    """
    texts = {name: str(document[name]) for name in ("asset", "condition", "was", "model", "begin", "end")}
    changes = {name: f"{change:+.4g}" for name, change in sorted(document["changes"].items())}
    json = {"data": encoded({"changes": changes}), "figure": encoded(figure)}
    return _page().document({**texts, "version": __version__}, json)
