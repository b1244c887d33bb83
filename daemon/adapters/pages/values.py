"""Values on their way into a page: bounded names, the sensors to blame, and JSON that cannot end its element."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from daemon.documents import short
from daemon.domain import Contributor

NAME_SHOWN: Final = 200
"""Characters of a name that go to a page; an asset name may be as long as a record."""


def bounded(text: str, most: int = NAME_SHOWN) -> str:
    """``text`` in at most ``most`` characters, all of which can be encoded."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    # A lone surrogate cannot be encoded, and one bad name must not make the page fail.
    return text.encode("utf-8", "replace").decode()


def encoded(value: object, plain: Callable[[object], object] | None = None) -> bytes:
    """``value`` as JSON that may stand inside a ``script`` element; NaN and infinity become null.

    Args:
        value: plain values.
        plain: what makes a plain value of one that msgspec does not know.
    """
    # An escaped "<" is the same JSON string, and cannot end the element that it stands in.
    return msgspec.json.encode(value, enc_hook=plain).replace(b"<", b"\\u003c")


def contributor_rows(contributors: Iterable[Contributor]) -> list[dict[str, Any]]:
    """The sensors to blame as the tables of episodes show them; ``observed`` is None where nothing was read."""
    return [
        {
            "sensor": bounded(c.sensor),
            "observed": None if c.observed is None else short(c.observed, 6),
            "expected": None if c.expected is None else short(c.expected, 6),
            "share": short(c.share),
        }
        for c in contributors
    ]
