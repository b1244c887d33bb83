"""The items of a message (``each``), and the messages and items that are no readings (``skip``).

A path of ``each`` is walked in levels, and each level is a scope: the message; every element of ``[]`` and every
value of ``*``; and where the path ends. A path that ends at an array gives its elements, one that ends at an
object gives that object. Without ``each``, the message is the item, or its elements where it is an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from daemon.domain import Record
from daemon.mapping import Elements, Members, Path, PathStep, SkipRule, Table, Zip
from daemon.stream.extract.paths import ABSENT, Scope, compile_steps
from daemon.stream.extract.sources import compile_sources

Walk = Callable[[Scope, list[Scope], list[Scope]], bool]
"""Appends the scopes of items, and of elements that the rest of the path does not fit; returns whether the place is
there at all, though it may be empty."""


def compile_each(paths: Sequence[Path]) -> Callable[[Any], list[Scope] | None]:
    """The function that gives the scopes of a message's items.

    The first path that yields an item counts. An empty list: the places are there, and empty; None: no path
    leads anywhere.
    """
    items = compile_each_counted(paths)
    return lambda tree: items(tree, [])


def compile_each_counted(paths: Sequence[Path]) -> Callable[[Any, list[Scope]], list[Scope] | None]:
    """The same, of a function that also appends a scope for each element beside them that the path does not fit.

    Such a scope has nothing (``ABSENT``) for its item, within the scope of the element.
    """
    if not any(path.steps for path in paths):
        return lambda tree, misfits: _message(tree)
    walks = [_walk(path.steps) for path in paths]

    def items(tree: Any, misfits: list[Scope]) -> list[Scope] | None:
        root: Scope = (tree, None, None)
        empty = False
        for walk in walks:
            found: list[Scope] = []
            beside: list[Scope] = []
            there = walk(root, found, beside)
            if found:
                misfits += beside
                return found
            empty = empty or there
        return [] if empty else None

    return items


def _message(tree: Any) -> list[Scope]:
    """The message as the item, or its elements where it is an array."""
    root: Scope = (tree, None, None)
    return [(item, None, root) for item in tree] if type(tree) is list else [root]


def _end(scope: Scope, found: list[Scope], misfits: list[Scope]) -> bool:
    """The end of a path at this scope: its elements where it is an array, else itself."""
    if type(scope[0]) is list:
        found.extend([(item, None, scope) for item in scope[0]])
    else:
        found.append(scope)
    return True


def _walk(steps: Sequence[PathStep]) -> Walk:
    """The walk of a path from a scope on."""
    explodes = (Elements, Members, Zip, Table)
    at = next((i for i, step in enumerate(steps) if isinstance(step, explodes)), None)
    if at is None:
        return _plain(steps)
    find, step, last = compile_steps(steps[:at]), steps[at], at + 1 == len(steps)
    inner = _walk(steps[at + 1 :])
    within = _explosion(step)
    members = isinstance(step, Members)
    of_arrays = members and not last and isinstance(steps[at + 1], Elements)

    def explode(scope: Scope, found: list[Scope], misfits: list[Scope]) -> bool:
        scopes = within(find(scope[0]), scope)
        if scopes is None:
            return False
        if last:
            found.extend(scopes)
            return True
        if of_arrays and not all(type(each[0]) is list for each in scopes):
            return False  # fields of an item, of which one is an array
        fits, some = True, False
        for each in scopes:
            if inner(each, found, misfits):
                some = True
            elif members:  # of the fields of an object, one that fits is enough
                fits = False
            else:
                misfits.append((ABSENT, None, each))
        return fits or some

    return explode


def _plain(steps: Sequence[PathStep]) -> Walk:
    """A path without explosions, or what follows the last one: a level of its own, unless it is ``.``."""
    if not steps:
        return _end
    find = compile_steps(steps)

    def end(scope: Scope, found: list[Scope], misfits: list[Scope]) -> bool:
        item = find(scope[0])
        if type(item) is list:
            found.extend([(element, None, scope) for element in item])
        elif type(item) is dict or (item is not ABSENT and item is not None and scope[2] is not None):
            found.append((item, None, scope))
        else:  # null is an empty place, a single value in the message itself no place of items
            return item is None
        return True

    return end


def _explosion(step: PathStep) -> Callable[[Any, Scope], Iterable[Scope] | None]:
    """The function that gives the scopes of a place's items; None where it is of another kind."""
    if isinstance(step, Elements):
        return lambda place, scope: [(item, None, scope) for item in place] if type(place) is list else None
    if isinstance(step, Members):
        return lambda place, scope: (
            [(item, name, scope) for name, item in place.items()] if type(place) is dict else None
        )
    if isinstance(step, Zip):
        columns = step.columns
        return lambda place, scope: _zipped(place, columns, _level(place, scope))
    assert isinstance(step, Table)
    rows = compile_steps(step.rows)
    listed = [column for column in step.columns if isinstance(column, str)]
    names = compile_steps([column for column in step.columns if not isinstance(column, str)])
    return lambda place, scope: _rows(rows(place), listed or names(place), _level(place, scope))


def _level(place: Any, scope: Scope) -> Scope:
    """The scope of the object that holds arrays: what is around their items."""
    return scope if place is scope[0] else (place, None, scope)


def _zipped(place: Any, columns: Sequence[str], around: Scope) -> list[Scope] | None:
    """An item for each place in the arrays, of the elements that are there."""
    if type(place) is not dict:
        return None
    names = columns or [name for name, column in place.items() if type(column) is list]
    arrays = {name: place[name] for name in names if type(place.get(name)) is list}
    if len(arrays) < len(columns):
        return None
    items: list[dict[str, Any]] = [{} for _ in range(max(map(len, arrays.values()), default=0))]
    for name, column in arrays.items():
        for item, element in zip(items, column, strict=False):
            item[name] = element
    return [(item, None, around) for item in items]


def _rows(rows: Any, names: Any, around: Scope) -> list[Scope] | None:
    """An item for each row of a table."""
    if type(rows) is not list or type(names) is not list:
        return None
    keys = [name if type(name) is str else str(name) for name in names]
    return [(dict(zip(keys, row, strict=False)), None, around) for row in rows if type(row) is list]


def compile_skip(rules: Sequence[SkipRule], *, items: bool) -> Callable[[Scope, Record], str | None] | None:
    """The function that gives the name of the first rule that skips a message, or an item; None: there are none.

    Args:
        items: the rules of items; else those of messages.
    """
    tests = [
        (rule, compile_sources((rule.source,)))
        for rule in rules
        if rule.source is not None and rule.item is items
    ]
    if not tests:
        return None

    def skipped(scope: Scope, record: Record) -> str | None:
        for rule, read in tests:
            found = read(scope, record)
            if type(found) is bytes:
                found = found.decode(errors="replace")
            if rule.values is None:
                hit = (found is ABSENT or found is None) is rule.negated
            elif type(found) in (dict, list) or found is ABSENT:
                hit = False
            else:
                hit = (found in rule.values) is not rule.negated
            if hit:
                return rule.name
        return None

    return skipped
