"""Sources compiled to functions: where an asset, a sensor, a time or a condition comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from daemon.domain import Record
from daemon.mapping import Origin, Source, Sources
from daemon.stream.decode.json_text import json_tree
from daemon.stream.extract.paths import ABSENT, Scope, compile_path, compile_steps, where_it_ends
from daemon.stream.rejection import RejectedError

Read = Callable[[Scope, Record], Any]
"""What is at a source: a JSON value, or bytes of a key or header; ``ABSENT`` (or null) where there is nothing."""


def compile_sources(sources: Sources) -> Read:
    """The function that reads the first source that has something."""
    reads = [_compile(source) for source in sources]
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
    known: dict[str, Any] = {}  # texts that came before: a topic's or a key's are few

    def matched(scope: Scope, record: Record) -> Any:
        text = as_text(plain(scope, record))
        if text is ABSENT:
            return ABSENT
        if text in known:
            return known[text]
        hit = search(text)
        found = ABSENT if hit is None or hit[group] is None else hit[group]
        if len(known) >= 4096:
            known.clear()
        known[text] = found
        return found

    return matched


def _plain(source: Source) -> Read:
    """The function that reads a source, without its expression."""
    match source.origin:
        case Origin.PATH:
            assert source.path is not None
            find = compile_path(source.path)
            return lambda scope, record: find(scope)
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
    for key, value in record.headers:
        if key == name and value is not None:
            return value
    return ABSENT


def _name(scope: Scope | None, up: int) -> Any:
    """The key that ``*`` bound, of the nearest item that has one, from ``up`` items further out on."""
    while scope is not None and up:
        scope, up = scope[2], up - 1
    while scope is not None:
        if scope[1] is not None:
            return scope[1]
        scope = scope[2]
    return ABSENT


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
    reasons = []
    for source in sources:
        if source.origin is Origin.PATH and source.path is not None and source.match is None:
            reasons.append(where_it_ends(source.path, scope))
        elif source.match is not None:
            reasons.append(f"{source.text} does not match {ascii(source.match.pattern)[1:-1][:60]}")
        else:
            reasons.append(f"the record has no {source.text}")
    return "; ".join(reasons)
