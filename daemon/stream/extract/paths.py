"""Paths compiled to functions, and what a path met where it found nothing.

Nearly every path is one or two names, asked once per item: these have functions of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from daemon.domain import Record
from daemon.mapping import Bound, Index, Key, Path, PathStep, Where
from daemon.stream.rejection import json_kind, shown


class Absent:
    """The type of ``ABSENT``."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT: Final = Absent()
"""What a path gives where there is nothing; null is a value."""
Scope = tuple[Any, Any, Any]
"""An item, the key that ``*`` bound to it (None: none), and the scope of the item around it (None: none)."""
Lookup = Callable[..., Any]
"""A function of a scope, and of a record that it does not look at, so that it is a source too."""


def compile_path(path: Path) -> Lookup:
    """The function that finds what is at a path, seen from a scope; ``ABSENT`` where there is nothing."""
    steps, up = path.steps, path.up
    if any(isinstance(step, Bound) for step in steps):
        return _compile_bound(path)
    if len(steps) == 1 and isinstance(steps[0], Key) and up < 2:
        return _one_key_out(steps[0].name) if up else _one_key(steps[0].name)
    find = compile_steps(steps)
    if not up:
        return lambda scope, record=None: find(scope[0])

    def further_out(scope: Scope, record: Record | None = None) -> Any:
        for _ in range(up):
            scope = scope[2]
            if scope is None:
                return ABSENT
        return find(scope[0])

    return further_out


def _one_key(name: str) -> Lookup:
    def one_key(scope: Scope, record: Record | None = None) -> Any:
        item = scope[0]
        return item.get(name, ABSENT) if type(item) is dict else ABSENT

    return one_key


def _one_key_out(name: str) -> Lookup:
    def one_key_out(scope: Scope, record: Record | None = None) -> Any:
        outer = scope[2]
        if outer is None or type(outer[0]) is not dict:
            return ABSENT
        return outer[0].get(name, ABSENT)

    return one_key_out


def _compile_bound(path: Path) -> Lookup:
    """A path with ``[$name]``: the name differs from item to item."""

    def find(scope: Scope, record: Record | None = None) -> Any:
        name, outer = bound_name(scope), scope
        for _ in range(path.up):
            outer = outer[2]
            if outer is None:
                return ABSENT
        found = outer[0]
        for step in path.steps:
            found = _named(found, name, step) if isinstance(step, Bound) else _step(found, step)
            if found is ABSENT:
                break
        return found

    return find


def _named(found: Any, name: Any, step: Bound) -> Any:
    """The field of a name; of a leaf's name, ``axis.x``, the field on the same way where there is no such one."""
    if type(found) is not dict or type(name) is not str:
        return ABSENT
    name = f"{step.prefix}{name}{step.suffix}"
    if name in found:
        return found[name]
    parts = name.split(".")
    if len(parts) == 1:
        return ABSENT
    for part in parts:
        found = found.get(part, ABSENT) if type(found) is dict else ABSENT
    return found


def bound_name(scope: Scope | None) -> Any:
    """The key that ``*`` bound, of the nearest item that has one, from this scope on outwards."""
    while scope is not None:
        if scope[1] is not None:
            return scope[1]
        scope = scope[2]
    return ABSENT


def compile_steps(steps: Sequence[PathStep]) -> Callable[[Any], Any]:
    """The function that follows steps from a value; ``ABSENT`` where they lead nowhere."""
    if not steps:
        return lambda found: found
    if all(isinstance(step, Key) for step in steps):
        return _keys([step.name for step in steps if isinstance(step, Key)])

    def follow(found: Any) -> Any:
        for step in steps:
            found = _step(found, step)
            if found is ABSENT:
                break
        return found

    return follow


def _keys(names: Sequence[str]) -> Callable[[Any], Any]:
    first, rest = names[0], tuple(names[1:])
    if not rest:
        return lambda found: found.get(first, ABSENT) if type(found) is dict else ABSENT

    def keys(found: Any) -> Any:
        if type(found) is not dict:
            return ABSENT
        found = found.get(first, ABSENT)
        for name in rest:
            if type(found) is not dict:
                return ABSENT
            found = found.get(name, ABSENT)
        return found

    return keys


def _step(found: Any, step: PathStep) -> Any:
    if isinstance(step, Key):
        return found.get(step.name, ABSENT) if type(found) is dict else ABSENT
    if type(found) is not list:
        return ABSENT
    if isinstance(step, Index):
        return found[step.at] if -len(found) <= step.at < len(found) else ABSENT
    if isinstance(step, Where):
        for element in found:
            if type(element) is dict and str(element.get(step.key)) == step.value:
                return element
    return ABSENT


def where_they_end(paths: Iterable[Path], scope: Scope) -> str:
    """Where paths that find nothing end, in words: ``no field 'host' in tags, which has asset, id``.

    Those that miss a field of the same object are said together.
    """
    missing: dict[tuple[str, str], list[str]] = {}
    others: list[str] = []
    beyond = ""
    for path in paths:
        way, has, said = _end(path, scope)
        if has is None and not way:
            beyond = said
        elif has is None:
            others.append(said)
        else:
            missing.setdefault((way, has), []).append(said)
    words = [
        f"no field {' or '.join(names[:4])}{' ...' if len(names) > 4 else ''} in {way}, which has {has}"
        for (way, has), names in missing.items()
    ]
    return "; ".join(dict.fromkeys(words + others)) or beyond


def _end(path: Path, scope: Scope) -> tuple[str, str | None, str]:
    """The place where a path ends, the fields there, and the field that is missing; or None, and words.

    The place is empty where it would lie beyond the message.
    """
    at = scope
    for _ in range(path.up):
        at = at[2]
        if at is None:
            return "", None, f"{path.text} reaches beyond the message"
    found, way = at[0], "the message" if at[2] is None else "the item"
    text = ascii(path.text)[1:-1]
    for step in path.steps:
        if isinstance(step, Bound):
            step = Key(f"{step.prefix}{bound_name(scope)}{step.suffix}")
        if type(found) is dict and isinstance(step, Key):
            if step.name not in found:
                has = ", ".join(ascii(str(name)[:24])[1:-1] for name in list(found)[:8]) or "nothing"
                return way, has + (", ..." if len(found) > 8 else ""), shown(step.name)
            found, way = found[step.name], ascii(step.name[:24])[1:-1]
            continue
        inner = _step(found, step)
        if inner is ABSENT:
            kind = f"an array of {len(found)}" if type(found) is list else json_kind(found)
            return way, None, f"{text}: {way} is {kind}"
        found = inner
    return way, None, f"{text} is {json_kind(found)}"
