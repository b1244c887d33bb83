"""A document as a browser's parser sees it, and what must hold for every page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

WIDTHS = (390, 1024, 1400, 1920)
"""A phone, a small and a usual laptop, a large screen; in CSS pixels."""
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


class Markup(HTMLParser):
    """The elements of a document with their attributes, its scripts that run, its styles and its JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.json: list[str] = []
        self._texts: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        is_json = ("type", "application/json") in attrs
        self._texts = {"script": self.json if is_json else self.scripts, "style": self.styles}.get(tag)
        if self._texts is not None:
            self._texts.append("")

    def handle_data(self, data: str) -> None:
        if self._texts is not None:
            self._texts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._texts = None

    @property
    def policy(self) -> str:
        """The content security policy that stands in the document."""
        (found,) = (a["content"] for _, a in self.tags if a.get("http-equiv") == "Content-Security-Policy")
        assert found is not None
        return found


def hashes(policy: str, directive: str) -> list[str]:
    (sources,) = re.findall(rf"{directive} ([^;]*)", policy)
    return re.findall(r"'sha256-([^']+)'", sources)


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def check_self_contained(markup: Markup, policy: str, *, links: bool = False) -> None:
    """Nothing is loaded, and exactly the embedded scripts and styles may run and apply.

    ``links``: whether the page may link to others; a file has nothing to link to.
    """
    attributes: dict[str, Any] = {name: value for _, attrs in markup.tags for name, value in attrs.items()}
    assert not {"src", "srcset", "style"} & set(attributes)
    if not links:
        assert "href" not in attributes
        assert "link" not in {tag for tag, _ in markup.tags}
    assert not [name for name in attributes if name.startswith("on")]
    assert not {"img", "iframe", "object", "embed", "base"} & {tag for tag, _ in markup.tags}
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert hashes(policy, "script-src") == [digest(text) for text in markup.scripts]
    assert [h for h in hashes(policy, "style-src") if h != digest("")] == [
        digest(text) for text in markup.styles
    ]
    for text in markup.styles:
        assert not re.search(r"@import|url\(", text)
    ours = [text for text in markup.scripts if "plotly.js v" not in text[:200]]
    for text in ours:
        # No way to make markup of a name, or code of a text.
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", text
        )
        assert "https:" not in text
        assert "http:" not in text
