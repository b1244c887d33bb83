"""The report's document: the page's files around the data of one run."""

from __future__ import annotations

import functools

import numpy as np

from daemon import __version__
from daemon.adapters.pages import Page, bounded, encoded
from daemon.adapters.report.data import Report, report_data
from daemon.adapters.report.thinning import POINTS_PER_TRACE


@functools.cache
def _page() -> Page:
    return Page.load("daemon.adapters.report", ["episodes.js"], charts=True)


def report_html(report: Report) -> str:
    """The whole document. About 5 MB of it is plotly.js."""
    texts = {
        "title": bounded(report.title),
        "source": bounded(report.source, 500),
        "version": __version__,
        "most": f"{POINTS_PER_TRACE:,}",
    }
    return _page().document(texts, {"data": encoded(report_data(report), _plain)})


def _plain(value: object) -> object:
    """numpy's numbers in a caller's summary."""
    return value.item() if isinstance(value, np.generic) else str(value)
