"""The presets: mappings of formats that people send, each a YAML file here whose name is the preset's.

A preset is listed, and named in the documentation, because a test reads a message of that format with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from daemon.config.input_notation import over, parse_mapping
from daemon.documents import from_yaml
from daemon.mapping import InputMapping

CUSTOM = "custom"
"""In place of a preset's name: a mapping that the configuration has written whole."""


@cache
def preset_names() -> tuple[str, ...]:
    """The presets, by name."""
    entries = files(__name__).iterdir()
    return tuple(sorted(e.name.removesuffix(".yaml") for e in entries if e.name.endswith(".yaml")))


@cache
def preset_document(name: str) -> Mapping[str, Any]:
    """A preset as the document that ``input:`` would hold.

    Raises:
        ValueError: there is no such preset; with the nearest.
    """
    if name not in preset_names():
        close = get_close_matches(name, ("json-wide", "json-long", *preset_names()), n=1, cutoff=0.5)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"there are json-wide, json-long, {', '.join(preset_names())}"
        )
        raise ValueError(f"there is no format {name!r}; {hint}")
    document: Mapping[str, Any] = from_yaml((files(__name__) / f"{name}.yaml").read_text(encoding="utf-8"))
    return document


def mapping_of(name: str, given: Mapping[str, Any]) -> InputMapping:
    """A preset with what the configuration puts over it; ``custom``: what the configuration has alone.

    Raises:
        ValueError: there is no such preset, or the mapping is wrong.
    """
    base: Mapping[str, Any] = {} if name == CUSTOM else preset_document(name)
    return parse_mapping(over(base, given), name)
