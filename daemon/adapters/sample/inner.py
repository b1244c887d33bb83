"""Texts within a sample's messages that are messages themselves: JSON, as it is or in base64."""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from daemon.adapters.sample.places import Way
from daemon.adapters.sample.roles import opened
from daemon.adapters.sample.survey import path_text

_OFTEN: Final = 0.5
"""The share of the messages that must have such a text at a place."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")


def open_inner(trees: Sequence[Any]) -> list[Any]:
    """What ``inner`` of the mapping is for these messages; their trees get the trees of the texts in their place."""
    ways: Counter[tuple[Way, bool]] = Counter()
    for tree in trees:
        for found in _texts(tree, ()):
            ways[found] += 1
    often = sorted(found for found, count in ways.items() if count > _OFTEN * len(trees))
    for tree in trees:
        for way, _ in often:
            holder = tree
            for name in way[:-1]:
                holder = holder.get(name) if type(holder) is dict else None
            if type(holder) is dict and (inner := _opened(holder.get(way[-1]))) is not None:
                holder[way[-1]] = inner[0]
    return [
        {"path": path_text(way), "kind": "json", "unwrap": ["base64"]} if wrapped else path_text(way)
        for way, wrapped in often
    ]


def _texts(tree: Any, way: Way) -> Iterable[tuple[Way, bool]]:
    if type(tree) is dict and len(way) < 4:
        for name, value in tree.items():
            if type(value) is dict:
                yield from _texts(value, (*way, name))
            elif (inner := _opened(value)) is not None:
                yield (*way, name), inner[1]


def _opened(value: Any) -> tuple[Any, bool] | None:
    """The tree of a text, and whether that is in base64."""
    if (tree := opened(value)) is not None:
        return tree, False
    if type(value) is not str or _BASE64.fullmatch(value) is None:
        return None
    try:
        tree = opened(
            base64.b64decode(value, altchars=b"-_" if "-" in value or "_" in value else None).decode()
        )
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return None if tree is None else (tree, True)
