"""Texts within a message that are messages themselves (``inner``): decoded, and put in their place.

A rule leaves alone what is no text: some producers send an object in the place where others send its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from daemon.mapping import Elements, Index, InnerRule, Key, Members, PathStep, Where
from daemon.stream.decode import Arrival, TreeDecoder, decode_with, inner_bytes
from daemon.stream.rejection import RejectedError

Decode = Callable[[Any, Arrival], Any]


def compile_inner(rules: Sequence[InnerRule], most_bytes: int) -> Decode:
    """The function that applies the rules in order to a tree, which it changes in place, and returns the tree.

    It raises ``RejectedError`` with the path of what cannot be decoded.

    Args:
        rules: what is to be decoded, and how.
        most_bytes: of a decompressed text.

    Raises:
        ConfigError: see ``decode_with``.
    """
    applied = [_compile(rule, most_bytes) for rule in rules]

    def apply(tree: Any, arrival: Arrival) -> Any:
        for each in applied:
            tree = each(tree, arrival)
        return tree

    return apply


def _compile(rule: InnerRule, most_bytes: int) -> Decode:
    decode, steps, path = decode_with(rule.decode, most_bytes), rule.path.steps, rule.path.text

    def apply(tree: Any, arrival: Arrival) -> Any:
        around = Arrival(arrival.record, arrival.refused, arrival.births, tree)
        if not steps:
            return _decoded(tree, decode, path, around)
        for container, place in _places(tree, steps):
            container[place] = _decoded(container[place], decode, path, around)
        return tree

    return apply


def _decoded(found: Any, decode: TreeDecoder, path: str, around: Arrival) -> Any:
    if not isinstance(found, str | bytes):
        return found
    before = len(around.refused)
    try:
        tree = decode(inner_bytes(found, path), around)
    except RejectedError as error:
        raise RejectedError(error.reason, f"{path}: {error.detail}") from None
    around.refused[before:] = [
        RejectedError(each.reason, f"{path}: {each.detail}") for each in around.refused[before:]
    ]
    return tree


def _places(found: Any, steps: Sequence[PathStep]) -> Iterator[tuple[Any, Any]]:
    """The containers that have what the steps lead to, and the key or index of it there."""
    for place in list(_keys(found, steps[0])):
        if len(steps) == 1:
            yield found, place
        else:
            yield from _places(found[place], steps[1:])


def _keys(found: Any, step: PathStep) -> Iterator[Any]:
    if type(found) is dict:
        if isinstance(step, Key) and step.name in found:
            yield step.name
        elif isinstance(step, Members):
            yield from found
    elif type(found) is list:
        if isinstance(step, Elements):
            yield from range(len(found))
        elif isinstance(step, Index) and -len(found) <= step.at < len(found):
            yield step.at
        elif isinstance(step, Where):
            hits = (
                at
                for at, element in enumerate(found)
                if type(element) is dict and str(element.get(step.key)) == step.value
            )
            yield from list(hits)[:1]
