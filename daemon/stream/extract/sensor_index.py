"""Which sensor of a stream a cell is of, by the names that its messages have."""

from __future__ import annotations

from collections.abc import Mapping

from daemon.domain import StreamSpec

Renames = Mapping[str, tuple[str | None, str]]


def index_of(spec: StreamSpec, renames: Renames | None = None) -> dict[str, int]:
    """The place of each sensor, by every name that its cells have.

    Args:
        spec: the stream.
        renames: those that count; None: those of its mapping.
    """
    if renames is None:
        renames = {} if spec.input is None else spec.input.rename
    places = {
        rule.source or name: place
        for place, (name, rule) in enumerate(zip(spec.sensors, spec.rules, strict=True))
    }
    index = dict(places)
    for old, (_, new) in renames.items():
        index.pop(old, None)
        if new in places:
            index[old] = places[new]
    return index
