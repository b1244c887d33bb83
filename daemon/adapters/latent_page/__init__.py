"""The page of ``anomalyd explain``: what a model has learned, in one document that loads nothing.

What it shows is the very document that ``--json`` prints. Names of sensors and assets travel as JSON and become
text nodes; inside a chart they are escaped.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from daemon import __version__
from daemon.adapters.pages import Page, encoded


@functools.cache
def _page() -> Page:
    return Page.load("daemon.adapters.latent_page", own=["model.js", "directions.js", "map.js"], charts=True)


def page_html(document: Mapping[str, Any]) -> str:
    """The whole document. About 5 MB of it is plotly.js.

    Args:
        document: what ``commands.explain`` describes; plain values only.
    """
    title = f"anomalyd: what model {document['version']} has learned"
    return _page().document({"title": title, "version": __version__}, {"data": encoded(document)})
