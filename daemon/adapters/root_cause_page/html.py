"""The page of one explanation: its files around the document and the charts."""

from __future__ import annotations

import functools

from daemon import __version__
from daemon.adapters.pages import Page, encoded
from daemon.adapters.root_cause_page.document import root_cause_document
from daemon.adapters.root_cause_page.figures import path_figure, readings_figure, window_figure
from daemon.adapters.root_cause_page.wording import clock
from daemon.model.root_cause import RootCause


@functools.cache
def _page() -> Page:
    return Page.load("daemon.adapters.root_cause_page", charts=True)


def root_cause_html(found: RootCause) -> str:
    """A whole page of one explanation. About 5 MB of it is plotly.js."""
    texts = {
        "title": f"Why {found.asset} {'alarmed' if found.incident else 'looks so'}: {clock(found.since_ns)}",
        "about": f"stream: {found.stream}, model: {found.model}",
        "version": __version__,
    }
    json = {
        "data": encoded(root_cause_document(found)),
        "readings": encoded(readings_figure(found)),
        "window": encoded(window_figure(found)),
        "path": encoded(path_figure(found) if found.path.dimensions else None),
    }
    return _page().document(texts, json)
