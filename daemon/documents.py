"""YAML and JSON that people write for settings, read with limits, and values as messages quote them.

YAML is a notation for mappings, lists, texts, numbers and times here, and for nothing more: anything else is
refused in one line with its position. Two rules make it safe to read a text of unknown origin:

* the parser is stopped at ``MAX_DEPTH``, before its recursion could end the process;
* anchors are counted as often as they are used, because a mapping that is merged nine times into one that is
  merged nine times ... is small as a text and does not fit into memory once it is read.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml

from daemon.errors import ConfigError

MAX_BYTES: Final = 4 << 20
"""The longest configuration file."""
MAX_DEPTH: Final = 64
"""The most mappings and lists within one another."""
MAX_NODES: Final = 200_000
"""The most texts, numbers, lists and mappings in one document, aliases counted as often as they are used."""
MAX_BITS: Final = 1024
"""The largest integer, in bits: a larger one does not fit into a float either."""
MAX_DIGITS: Final = 400
"""The longest number, in characters; the time to read one grows with their square."""
SHOWN: Final = 80
"""The most characters of a value that a message quotes."""

_PREFIX: Final = "tag:yaml.org,2002:"
_TEXT: Final = _PREFIX + "str"
_MERGE: Final = _PREFIX + "merge"
_NUMBERS: Final = frozenset({_PREFIX + "int", _PREFIX + "float"})
_EQUALS: Final = _PREFIX + "value"  # what YAML 1.1 makes of a bare `=`
_TAGS: Final = frozenset(
    _PREFIX + name for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge")
)


class DocumentError(ConfigError):
    """A text or a file that cannot be used; the message is one line."""


def shown(value: object) -> str:
    """A value as a message quotes it: short, printable, on one line."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > MAX_BITS:
        return "an integer of more than 300 digits"  # Python refuses to write some of them
    text = value if isinstance(value, str) else repr(value)
    quoted = repr(text[:SHOWN]) if isinstance(value, str) else text[:SHOWN]
    return quoted + (" ..." if len(text) > SHOWN else "")


def counted(number: int, noun: str) -> str:
    """A number of things in words: ``1 record``, ``2,000 records``; the noun's plural ends in s."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def nearest_of(name: str, names: Iterable[str]) -> str | None:
    """The name that a misspelt one is nearest to, whatever the case; None if none is near."""
    lowered = {one.lower(): one for one in names}
    found = get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[found[0]] if found else None


def one_line(text: str) -> str:
    """A message on one line, without control characters and without what an encoding would refuse."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split()))


def read_file(path: Path, most: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file.

    Raises:
        DocumentError: there is no such file, it is longer than ``most`` bytes or not readable, or it
            is something that may never end (a pipe, a device).
    """
    try:
        # Opening a pipe would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "a directory" if path.is_dir() else "a pipe or a device"
            raise DocumentError(f"cannot be read: is {kind}, not a file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DocumentError("cannot be read: the name holds a NUL character") from error
    if len(data) > most:
        raise DocumentError(f"is longer than {most:,} bytes")
    return data


class _Loader(yaml.SafeLoader):
    """YAML with limits, in which a repeated key is an error: the parser would keep the last one."""

    def __init__(self, text: str | bytes) -> None:
        super().__init__(text)
        self._depth = 0

    # -------------------------------------------------------------- text to nodes
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _fault(f"more than {MAX_DEPTH} mappings and lists within one another", self.peek_event())  # type: ignore[no-untyped-call]  # its stubs lack it
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault("a key must be a text, not a mapping or a list", key)
            if key.tag == _MERGE:
                continue
            if key.tag == _EQUALS:
                key.tag = _TEXT
            if key.tag != _TEXT:
                raise _fault(f"key {shown(key.value)} is not read as a text: put it in quotes", key)
            if key.value in seen:
                raise _fault(f"key {shown(key.value)} appears twice", key)
            seen.add(key.value)
        return node

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _measure(node)
        return node

    # -------------------------------------------------------------- nodes to values
    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return super().construct_object(node, deep)
        if node.tag in _NUMBERS and len(node.value) > MAX_DIGITS:
            raise _fault(f"a number of {len(node.value)} characters is too long", node)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, OverflowError) as error:
            # PyYAML matches the pattern of a number or a time and leaves the rest to Python's own errors.
            what = {"int": "a number", "float": "a number", "bool": "true or false"}.get(
                _name(node), "a time"
            )
            raise _fault(f"{shown(node.value)} cannot be read as {what}", node) from error
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise _fault(f"{shown(node.value)} is too large a number", node)
        return value

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings of ``<<`` into a mapping: its own keys count first, then the earlier of the mappings.

        PyYAML's own method (6.0.4) takes the value of the innermost mapping, even where a mapping that merges it has
        changed the value.
        """
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        own = [pair for pair in node.value if pair[0].tag != _MERGE]
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if not isinstance(source, yaml.MappingNode):
                    raise _fault("only a mapping, or a list of mappings, can be merged", source)
                self.flatten_mapping(source)
                for pair in source.value:
                    merged.setdefault(pair[0].value, pair)
        mine = {key.value for key, _ in own}
        node.value = [pair for name, pair in merged.items() if name not in mine] + own


def _name(node: yaml.Node) -> str:
    return str(node.tag).removeprefix(_PREFIX)


def _fault(what: str, at: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, at.start_mark)


def _measure(root: yaml.Node) -> None:
    """Refuse a document whose values would not end, would not fit, or are of kinds that no setting has.

    Raises:
        yaml.YAMLError: with the position.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of a finished node: nodes within, levels
    open_nodes: set[int] = set()

    def visit(node: yaml.Node) -> tuple[int, int]:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            raise _fault("an alias refers to the mapping or list that it stands in", node)
        if node.tag == _EQUALS:
            node.tag = _TEXT
        if node.tag not in _TAGS:
            raise _fault(f"the tag {shown(node.tag)} is not used in a configuration", node)
        if isinstance(node, yaml.ScalarNode):
            return 1, 0
        open_nodes.add(id(node))
        inner = (
            [part for pair in node.value for part in pair]
            if isinstance(node, yaml.MappingNode)
            else node.value
        )
        nodes, levels = 1, 0
        for part in inner:
            more, below = visit(part)
            nodes, levels = nodes + more, max(levels, below)
        levels += 1
        if nodes > MAX_NODES:
            raise _fault(f"more than {MAX_NODES:,} values, aliases counted as often as they are used", node)
        if levels > MAX_DEPTH:
            raise _fault(f"more than {MAX_DEPTH} mappings and lists within one another", node)
        open_nodes.remove(id(node))
        sizes[id(node)] = nodes, levels
        return sizes[id(node)]

    visit(root)


def from_yaml(text: str | bytes) -> Any:
    """The value of a YAML document: mappings with texts as keys, lists, texts, numbers, times, null.

    Raises:
        DocumentError: one line that says what cannot be used, and where.
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        problem = ": ".join(filter(None, (error.context, error.problem)))
        mark = error.problem_mark or error.context_mark
        at = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise DocumentError(one_line(problem + at)) from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise DocumentError(one_line(str(error))) from error
    finally:
        if loader is not None:
            loader.dispose()


def from_json(text: str) -> Any:
    """The value of a JSON text, with the same limits.

    Raises:
        ValueError: it is no JSON.
        DocumentError: it is, but cannot be used.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise DocumentError(f"more than {MAX_DEPTH} objects and arrays within one another") from None
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise DocumentError(f"more than {MAX_DEPTH} objects and arrays within one another")
        for each in level:
            if isinstance(each, int) and each.bit_length() > MAX_BITS:
                raise DocumentError("a number is too large")
        level = [
            part
            for each in level
            if isinstance(each, (dict, list))
            for part in (each.values() if isinstance(each, Mapping) else each)
        ]
    return value


def short(value: float, digits: int = 4) -> float | None:
    """A number with so many significant digits, for a page or ``--json``; None for one that is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
