"""``report.html``: what one run over a file found, in one document that loads nothing.

The document holds its data, its style, its scripts and plotly.js itself (the plotly wheel carries it), and a
content security policy that permits exactly these, so that it can be mailed, archived and opened where there is
no network. Names are data: they travel as JSON, and are shown as text nodes or, inside a chart, escaped
(plotly.js reads a little markup in its texts).

* ``data``: ``Report`` -> the JSON document.
* ``traces``: one asset's rows -> what its chart is drawn from.
* ``episodes``: messages -> episodes.
* ``thinning``: long series -> the points that keep every peak.
* ``html``, ``page.html``, ``page.css``, ``page.js``: the document around the data.
"""

from daemon.adapters.report.data import Report, report_data
from daemon.adapters.report.episodes import FoldedEpisode, folded
from daemon.adapters.report.html import report_html
from daemon.adapters.report.thinning import POINTS_PER_TRACE, extremes, spans
from daemon.adapters.report.traces import AssetTrace

__all__ = [
    "POINTS_PER_TRACE",
    "AssetTrace",
    "FoldedEpisode",
    "Report",
    "extremes",
    "folded",
    "report_data",
    "report_html",
    "spans",
]
