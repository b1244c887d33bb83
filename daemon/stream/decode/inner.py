"""Texts within a message that are messages themselves (``inner``): decoded, and put in their place.

A rule leaves alone what is no text: some producers send an object in the place where others send its text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from daemon.domain import Record
from daemon.mapping import DecodeRule, Elements, Index, InnerRule, Key, Members, PathStep, Where
from daemon.stream.decode.arrival import Arrival, TreeDecoder
from daemon.stream.decode.decoders import decode_with, inner_bytes, unwrapping
from daemon.stream.decode.framed import given_ids, needs_schemas
from daemon.stream.decode.framing import SchemaId, confluent_id
from daemon.stream.decode.schemas import Schemas
from daemon.stream.rejection import RejectedError, SkippedError

Decode = Callable[[Any, Arrival], Any]


def compile_inner(rules: Sequence[InnerRule], most_bytes: int, schemas: Schemas | None = None) -> Decode:
    """The function that applies the rules in order to a tree, which it changes in place, and returns the tree.

    It raises ``RejectedError`` with the path of what cannot be decoded.

    Args:
        rules: what is to be decoded, and how.
        most_bytes: of a decompressed text.
        schemas: that the texts name; see ``MessageSchemas``.

    Raises:
        ConfigError: see ``decode_with``.
    """
    applied = [_compile(rule, most_bytes, schemas) for rule in rules]

    def apply(tree: Any, arrival: Arrival) -> Any:
        for each in applied:
            tree = each(tree, arrival)
        return tree

    return apply


def _compile(rule: InnerRule, most_bytes: int, schemas: Schemas | None) -> Decode:
    decode, steps, path = decode_with(rule.decode, most_bytes, schemas), rule.path.steps, rule.path.text

    def apply(tree: Any, arrival: Arrival) -> Any:
        around = Arrival(arrival.record, arrival.refused, arrival.births, tree)
        if not steps:
            return _decoded(tree, decode, path, around)
        for container, place in _places(tree, steps):
            container[place] = _decoded(container[place], decode, path, around)
        return tree

    return apply


class InnerSchemas:
    """Finds the schemas that texts within messages name, by decoding the messages as far as they can be by now.

    Args:
        rule: how the messages are decoded.
        inner: the texts within them; one at least names schemas.
        schemas: what is known.
        most_bytes: of a record, and of what is decompressed.

    Raises:
        ConfigError: see ``decode_with``.
    """

    def __init__(
        self, rule: DecodeRule, inner: Sequence[InnerRule], schemas: Schemas, most_bytes: int
    ) -> None:
        self._decode, self._most_bytes = decode_with(rule, most_bytes, schemas), most_bytes
        last = max(at for at, each in enumerate(inner) if needs_schemas(each.decode))
        decoded = [_compile(each, most_bytes, schemas) for each in inner[:last]]
        self._inner = [  # what the last texts hold names nothing more: they are not decoded here
            (_named_by(each, schemas, most_bytes), apply)
            for each, apply in zip(inner[: last + 1], [*decoded, None], strict=True)
        ]

    def wanted(self, records: Iterable[Record]) -> Counter[SchemaId]:
        """The schemas that must be known before more of these records can be decoded, with how many texts name each."""
        found: Counter[SchemaId] = Counter()
        for record in records:
            if not record.value or len(record.value) > self._most_bytes:
                continue
            arrival = Arrival(record, [])
            try:
                tree = self._decode(record.value, arrival)
                for named, apply in self._inner:
                    if ids := named(tree):
                        found.update(ids)
                        break
                    if apply is not None:
                        tree = apply(tree, arrival)
            except (RejectedError, SkippedError):
                continue
        return found


def _named_by(rule: InnerRule, schemas: Schemas, most_bytes: int) -> Callable[[Any], list[SchemaId]]:
    """The function that finds the unknown schemas of the texts of a rule in a tree."""
    if not needs_schemas(rule.decode):
        return lambda tree: []
    steps, path = rule.path.steps, rule.path.text
    unwrap = unwrapping(rule.decode.unwrap, most_bytes)
    given = given_ids(rule.decode)

    def named(tree: Any) -> list[SchemaId]:
        texts = [container[place] for container, place in _places(tree, steps)] if steps else [tree]
        ids = []
        for text in texts:
            if isinstance(text, str | bytes):
                with suppress(RejectedError):
                    ids.append(confluent_id(unwrap(inner_bytes(text, path)))[0])
        return [id for id in ids if str(id) not in given and not schemas.has_answer(id)]

    return named


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
