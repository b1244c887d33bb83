"""Paths compiled to functions, and what a path met where it found nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from daemon.mapping import Index, Key, Path, PathStep, Where
from daemon.stream.rejection import json_kind, shown


class Absent:
    """The type of ``ABSENT``."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = Absent()
"""What a path gives where there is nothing; null is a value."""
Scope = tuple[Any, Any, Any]
"""An item, the key that ``*`` bound to it (None: none), and the scope of the item around it (None: none)."""
Lookup = Callable[[Scope], Any]


def compile_path(path: Path) -> Lookup:
    """The function that finds what is at a path, seen from a scope; ``ABSENT`` where there is nothing."""
    find, up = compile_steps(path.steps), path.up
    if not up:
        return lambda scope: find(scope[0])

    def further_out(scope: Scope) -> Any:
        for _ in range(up):
            scope = scope[2]
            if scope is None:
                return ABSENT
        return find(scope[0])

    return further_out


def compile_steps(steps: Sequence[PathStep]) -> Callable[[Any], Any]:
    """The function that follows steps from a value; ``ABSENT`` where they lead nowhere."""
    if not steps:
        return lambda found: found
    if len(steps) == 1 and isinstance(steps[0], Key):
        name = steps[0].name

        def one_key(found: Any) -> Any:
            return found.get(name, ABSENT) if type(found) is dict else ABSENT

        return one_key

    def follow(found: Any) -> Any:
        for step in steps:
            found = _step(found, step)
            if found is ABSENT:
                break
        return found

    return follow


def _step(found: Any, step: PathStep) -> Any:
    if isinstance(step, Key):
        return found.get(step.name, ABSENT) if type(found) is dict else ABSENT
    if type(found) is not list:
        return ABSENT
    if isinstance(step, Index):
        return found[step.at] if -len(found) <= step.at < len(found) else ABSENT
    if not isinstance(step, Where):  # [] and * lead to many places, and to none of their own
        return ABSENT
    for element in found:
        if type(element) is dict and str(element.get(step.key)) == step.value:
            return element
    return ABSENT


def where_it_ends(path: Path, scope: Scope) -> str:
    """Where a path that finds nothing ends, in words: ``no field 'host' in tags, which has asset, id``."""
    for _ in range(path.up):
        scope = scope[2]
        if scope is None:
            return f"{path.text} reaches beyond the message"
    found, way = scope[0], "the message" if scope[2] is None and not path.up else "the item"
    for step in path.steps:
        if type(found) is dict and isinstance(step, Key):
            if step.name not in found:
                names = ", ".join(ascii(str(name)[:24])[1:-1] for name in list(found)[:8]) or "nothing"
                return f"no field {shown(step.name)} in {way}, which has {names}"
            found, way = found[step.name], step.name
            continue
        found_next = _step(found, step)
        if found_next is ABSENT:
            kind = f"an array of {len(found)}" if type(found) is list else json_kind(found)
            return f"{path.text}: {way} is {kind}"
        found = found_next
    return f"{path.text} is {json_kind(found)}"
