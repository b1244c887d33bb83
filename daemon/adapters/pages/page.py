"""``Page``: one HTML document made of files, which loads nothing and runs nothing but these files.

Input are ``page.html``, ``page.css`` and ``page.js`` of a page's package and the shared files of this one;
output is the text of the document and its content security policy. What is shown comes as JSON documents and
plain texts, which ``document`` puts into the slots of the markup.

Invariants:

* Every style and every script stands in an element of its own, byte for byte as in its file, and the policy
  names its hash. There is no ``'unsafe-inline'``: even if a name became markup, it could run nothing.
* A text is escaped. A JSON document has no ``<``, so nothing in it can end its ``script`` element.
* Slots are filled in one pass: a text that looks like a slot stays a text.

plotly.js needs three concessions, all of them constant texts. It adds an empty ``style`` element and fills it
through the object model, and it sets empty ``style`` attributes; the hash of the empty text permits both. It
adds the style sheet of its map library unless an element with a certain id exists, so the page has one.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Final

SHARED: Final = "daemon.adapters.pages"
_SLOT: Final = re.compile(r"\{\{(\w+)\}\}")
_MAP_STYLE: Final = re.compile(r'getElementById\("([0-9a-f]{64})"\)')
"""How plotly.js looks whether the style sheet of its map library is there already."""


@dataclass(frozen=True, slots=True)
class Page:
    """The files of one page.

    ``markup`` has slots ``{{name}}``: ``styles``, ``scripts`` and ``policy`` are filled by the page itself,
    all others by the caller of ``document``. ``styles`` and ``scripts`` are embedded in this order.
    ``charts`` says whether plotly.js comes before the scripts.
    """

    markup: str
    styles: tuple[str, ...]
    scripts: tuple[str, ...]
    charts: bool = False

    @classmethod
    def load(
        cls, package: str, shared: Sequence[str] = (), own: Sequence[str] = (), *, charts: bool = False
    ) -> Page:
        """The page whose files stand in ``package``.

        Args:
            package: dotted name of the package with ``page.html``, ``page.css`` and ``page.js``.
            shared: scripts of ``adapters.pages`` that the page builds on, in order, beside ``dom.js``.
            own: scripts of ``package`` that ``page.js`` builds on, in order.
            charts: embed plotly.js, and ``charts.js``.
        """
        folder, common = files(package), files(SHARED)
        shared = ["dom.js", *shared, *(["charts.js"] if charts else [])]
        styles = (common / "base.css", folder / "page.css")
        scripts = [*(common / name for name in shared), *(folder / name for name in (*own, "page.js"))]
        return cls(
            (folder / "page.html").read_text("utf-8"),
            tuple(file.read_text("utf-8") for file in styles),
            tuple(file.read_text("utf-8") for file in scripts),
            charts,
        )

    def policy(self, *directives: str) -> str:
        """The content security policy: these styles and scripts, images that are data, and nothing else.

        Args:
            directives: what is permitted, or forbidden, beyond that.
        """
        library = (_plotly(),) if self.charts else ()
        empty = ("'unsafe-hashes'", _source("")) if self.charts else ()
        return "; ".join(
            [
                "default-src 'none'",
                f"script-src {' '.join(_source(text) for text in (*library, *self.scripts))}",
                f"style-src {' '.join((*empty, *(_source(text) for text in self.styles)))}",
                "img-src data:",
                "base-uri 'none'",
                "form-action 'none'",
                *directives,
            ]
        )

    def document(self, texts: Mapping[str, str], json: Mapping[str, bytes] | None = None) -> str:
        """The whole document; with charts about 5 MB of it are plotly.js.

        Args:
            texts: what stands in the slots of these names, as plain text.
            json: what stands in the slots of these names, as ``encoded`` made it.

        Raises:
            KeyError: the markup has a slot that is not filled.
        """
        slots = {name: escape(text) for name, text in texts.items()}
        slots |= {name: value.decode() for name, value in (json or {}).items()}
        slots["styles"] = "\n".join(f"<style>{text}</style>" for text in self.styles)
        slots["scripts"] = "\n".join(f"<script>{text}</script>" for text in self.scripts)
        if self.charts:
            present = "".join(
                f'<template id="{name}"></template>\n' for name in _MAP_STYLE.findall(_plotly())
            )
            slots["scripts"] = f"{present}<script>{_plotly()}</script>\n{slots['scripts']}"
        slots["policy"] = self.policy()  # of hashes and keywords: an attribute may hold it as it is
        return _SLOT.sub(lambda slot: slots[slot[1]], self.markup)


@functools.cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # late: only pages with charts pay for it

    text: str = get_plotlyjs()
    # An inline script ends at the first "</script", wherever that stands.
    return text.replace("</script", "<\\/script")


@functools.cache
def _source(text: str) -> str:
    """The policy's name of one style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
