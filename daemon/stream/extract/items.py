"""The items of a message (``each``), and the messages and items that are no readings (``skip``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from daemon.mapping import Elements, Members, Path, PathStep, SkipRule
from daemon.stream.extract.paths import ABSENT, Scope, compile_path, compile_steps
from daemon.stream.rejection import SkippedError


def compile_each(paths: Sequence[Path]) -> Callable[[Any], list[Scope] | None]:
    """The function that gives the scopes of a message's items.

    The first path that yields an item counts. An empty list: the places are there, and empty; None: no path
    leads anywhere.
    """
    if not paths:
        return lambda tree: [(tree, None, None)]
    walks = [_walk(path.steps) for path in paths]

    def items(tree: Any) -> list[Scope] | None:
        root: Scope = (tree, None, None)
        empty = False
        for walk in walks:
            found: list[Scope] = []
            there = walk(root, found)
            if found:
                return found
            empty = empty or there
        return [] if empty else None

    return items


def _walk(steps: Sequence[PathStep]) -> Callable[[Scope, list[Scope]], bool]:
    """A function that appends the scopes of a path's items; it returns whether the first place exists."""
    at = next((i for i, step in enumerate(steps) if isinstance(step, Elements | Members)), None)
    if at is None:  # ``.``: the message itself

        def itself(scope: Scope, found: list[Scope]) -> bool:
            found.append(scope)
            return True

        return itself
    find, elements = compile_steps(steps[:at]), isinstance(steps[at], Elements)
    last = at + 1 == len(steps)
    inner = _rest(steps[at + 1 :])

    def explode(scope: Scope, found: list[Scope]) -> bool:
        place = find(scope[0])
        scopes: Iterator[Scope]
        if elements and type(place) is list:
            scopes = ((item, None, scope) for item in place)
        elif not elements and type(place) is dict:
            scopes = ((item, name, scope) for name, item in place.items())
        else:
            return False
        if last:
            found.extend(scopes)
        else:
            for each in scopes:
                inner(each, found)
        return True

    return explode


def _rest(steps: Sequence[PathStep]) -> Callable[[Scope, list[Scope]], bool]:
    """What follows an explosion: another one, or a plain path, whose end is the item."""
    if any(isinstance(step, Elements | Members) for step in steps):
        return _walk(steps)
    find = compile_steps(steps)

    def within(scope: Scope, found: list[Scope]) -> bool:
        item = find(scope[0])
        if item is ABSENT:
            return False
        found.append((item, scope[1], scope[2]))
        return True

    return within


def compile_skip(rules: Sequence[SkipRule]) -> Callable[[Any], None]:
    """The function that raises ``SkippedError`` for a message that one of the rules names."""
    tests = [(rule, compile_path(rule.path)) for rule in rules if rule.path is not None]

    def check(tree: Any) -> None:
        scope: Scope = (tree, None, None)
        for rule, find in tests:
            found = find(scope)
            if rule.values is None:
                hit = (found is ABSENT or found is None) is rule.negated
            elif isinstance(found, dict | list) or found is ABSENT:
                hit = False
            else:
                hit = (found in rule.values) is not rule.negated
            if hit:
                raise SkippedError(rule.name)

    return check
