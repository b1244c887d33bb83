"""The page of ``anomalyd explain``: one document that loads nothing.

What it shows is the very document that ``--json`` prints. Markup, style and script are files beside this
module; plotly.js comes with the plotly wheel. The content security policy names the hashes of the two
scripts, so that nothing else can run; names of sensors and assets travel as JSON and become text nodes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import msgspec
from plotly.offline import get_plotlyjs

from daemon import __version__


def page_html(document: Mapping[str, Any]) -> str:
    """The whole document. About 5 MB of it is plotly.js.

    Args:
        document: what ``commands.explain`` describes; plain values only.
    """
    folder = files("daemon.adapters.latent_page")
    style, body, script = (
        (folder / f"page.{ending}").read_text(encoding="utf-8") for ending in ("css", "html", "js")
    )
    data = msgspec.json.encode(document).decode().replace("<", "\\u003c")
    # An inline script ends at the first "</script", wherever that stands.
    library = get_plotlyjs().replace("</script", "<\\/script")
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in (library, script))
    title = escape(f"anomalyd: what model {document['version']} has learned")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n{body}"
        f"<footer>anomalyd {escape(__version__)}. Times are event time, UTC.</footer>\n</main>\n"
        f'<script type="application/json" id="data">{data}</script>\n'
        f"<script>{library}</script>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
