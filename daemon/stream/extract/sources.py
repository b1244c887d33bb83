"""Sources compiled to functions: where an asset, a sensor, a time or a condition comes from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from daemon.domain import Record
from daemon.mapping import Bound, Key, Origin, Source, Sources
from daemon.stream.decode.json_text import json_tree
from daemon.stream.extract.headers import header_value
from daemon.stream.extract.paths import (
    ABSENT,
    Scope,
    bound_name,
    compile_path,
    compile_steps,
    where_they_end,
)
from daemon.stream.rejection import RejectedError
from daemon.stream.text_cache import remember

Read = Callable[[Scope, Record], Any]
"""What is at a source: a JSON value, or bytes of a key or header; ``ABSENT`` (or null) where there is nothing."""
TEXTS_KEPT: Final = 4096
"""Texts whose match of an expression is remembered: the ids of assets and sensors are few."""
LONGEST_MATCHED: Final = 1000
"""Characters of a text that an expression is tried on: a search may take the square of them."""


def compile_sources(sources: Sources) -> Read:
    """The function that reads the first source that has something; the empty text is nothing.

    Of several items in one place, what lies outside of them is looked for once.
    """
    outside = next((i for i in range(len(sources)) if all(map(_is_outside, sources[i:]))), len(sources))
    inside, beyond = sources[:outside], sources[outside:]
    rest = _once_per_place(_first([_compile(source) for source in beyond])) if beyond else None
    if not inside:
        assert rest is not None
        return rest
    reads = [_compile(source) for source in inside] + ([] if rest is None else [rest])
    if len(reads) == 1:
        return reads[0]
    names = [_own_field(source) for source in inside]
    plain = next((i for i, name in enumerate(names) if name is None), len(names))
    if plain and len(reads) > plain:  # fields of the item itself come first: no call for each
        return _first_field([str(name) for name in names[:plain]], _first(reads[plain:]))
    return _first(reads)


def _is_outside(source: Source) -> bool:
    """Whether a source is the same for all items of one place."""
    if source.origin is Origin.NAME:
        return source.up > 0
    if source.origin is Origin.JOIN:
        return all(map(_is_outside, source.parts))
    path = source.path if source.origin is Origin.PATH else None
    return path is None or (path.up > 0 and not any(isinstance(step, Bound) for step in path.steps))


def _once_per_place(read: Read) -> Read:
    """The same function, asked once for all items whose outer scope is one; for the message itself each time."""
    last: Scope | None = None
    found: Any = ABSENT

    def once(scope: Scope, record: Record) -> Any:
        nonlocal last, found
        outer = scope[2]
        if outer is None:
            return read(scope, record)
        if outer is not last:
            last, found = outer, read(scope, record)
        return found

    return once


def the_field(sources: Sources) -> str | None:
    """The one field of the item that all the sources are, or match; None: they are others."""
    fields = {_own_field(replace(source, match=None)) for source in sources}
    return fields.pop() if len(fields) == 1 else None


def first_field(sources: Sources) -> str | None:
    """The field of the item that is looked at first; None: something else is."""
    return _own_field(sources[0]) if sources else None


def _own_field(source: Source) -> str | None:
    """The name of the field that a source is, of the item itself."""
    path = source.path
    if source.origin is not Origin.PATH or source.match is not None or path is None or path.up:
        return None
    step = path.steps[0] if len(path.steps) == 1 else None
    return step.name if isinstance(step, Key) else None


def _first_field(fields: Sequence[str], rest: Read) -> Read:
    first_name, others = fields[0], tuple(fields[1:])

    def first(scope: Scope, record: Record) -> Any:
        item = scope[0]
        if type(item) is dict:
            found = item.get(first_name)
            if found is not None and found != "":
                return found
            for name in others:
                found = item.get(name)
                if found is not None and found != "":
                    return found
        return rest(scope, record)

    return first


def _first(reads: Sequence[Read]) -> Read:
    if len(reads) == 1:
        return reads[0]

    def first(scope: Scope, record: Record) -> Any:
        for read in reads:
            found = read(scope, record)
            if found is not ABSENT and found is not None and found != "":
                return found
        return ABSENT

    return first


def _compile(source: Source) -> Read:
    plain = _plain(source)
    if source.match is None:
        return plain
    search, group = source.match.search, source.group
    known: dict[str, Any] = {}
    field = _own_field(replace(source, match=None))

    def matched(scope: Scope, record: Record) -> Any:
        if field is not None and type(scope[0]) is dict:
            text = scope[0].get(field, ABSENT)
        else:
            text = plain(scope, record)
        if type(text) is not str:
            text = as_text(text)
            if text is ABSENT:
                return ABSENT
        found = known.get(text)
        if found is None:
            hit = search(text) if len(text) <= LONGEST_MATCHED else None
            found = ABSENT if hit is None or hit[group] is None else hit[group]
            remember(known, text, found, TEXTS_KEPT)
        return found

    return matched


def _plain(source: Source) -> Read:
    """The function that reads a source, without its expression."""
    match source.origin:
        case Origin.PATH:
            assert source.path is not None
            return compile_path(source.path)
        case Origin.KEY if source.path is not None:
            follow = compile_steps(source.path.steps)
            return lambda scope, record: _in_key(record, follow)
        case Origin.KEY:
            return lambda scope, record: ABSENT if record.key is None else record.key
        case Origin.TIMESTAMP:
            return lambda scope, record: record.timestamp_ns if record.timestamp_ns >= 0 else ABSENT
        case Origin.TOPIC:
            return lambda scope, record: record.topic or ABSENT
        case Origin.HEADER:
            name = source.name
            return lambda scope, record: _header(record, name)
        case Origin.NAME:
            up = source.up
            return lambda scope, record: _name(scope, up)
        case Origin.CONSTANT:
            text = source.name
            return lambda scope, record: text
        case Origin.JOIN:
            parts, separator = [_compile(part) for part in source.parts], source.name

            def joined(scope: Scope, record: Record) -> Any:
                texts = [as_text(part(scope, record)) for part in parts]
                return ABSENT if any(text is ABSENT for text in texts) else separator.join(texts)

            return joined


def _in_key(record: Record, follow: Callable[[Any], Any]) -> Any:
    if record.key is None:
        return ABSENT
    try:
        return follow(json_tree(record.key))
    except RejectedError:
        return ABSENT


def _header(record: Record, name: str) -> Any:
    """The newest header of a name: a producer appends to those that a record has already."""
    for key, value in reversed(record.headers):
        if key == name and value is not None:
            return header_value(value)
    return ABSENT


def _name(scope: Scope | None, up: int) -> Any:
    """The key that ``*`` bound, of the nearest item that has one, from ``up`` levels further out on."""
    while scope is not None and up:
        scope, up = scope[2], up - 1
    return bound_name(scope)


def as_text(found: Any) -> Any:
    """What was found as a text; ``ABSENT`` where it has none."""
    if type(found) is str:
        return found
    if type(found) is bytes:
        try:
            return found.decode()
        except UnicodeDecodeError:
            return ABSENT
    if type(found) is int or type(found) is float:
        return str(found)
    return ABSENT


def absence(sources: Sources, scope: Scope) -> str:
    """Why none of the sources has anything, in words."""
    paths = [source.path for source in sources if source.origin is Origin.PATH and source.match is None]
    reasons = [where_they_end([path for path in paths if path is not None], scope)] if paths else []
    matched = [source for source in sources if source.match is not None]
    for source in matched[:2]:
        assert source.match is not None
        text = ascii(source.match.pattern)[1:-1]
        reasons.append(f"{source.text} does not match {text if len(text) < 60 else text[:57] + '...'}")
    lacking = [s.text for s in sources if s.origin is not Origin.PATH and s.match is None]
    if lacking:
        reasons.append(f"the record has no {' or '.join(lacking)}")
    return "; ".join(reasons)
