"""The cells of an item, in each of the three ways to hold them: one value, named fields, all leaves.

A cell is the name of a sensor as the message has it, and its value as the tree has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from typing import Any, Final

from daemon.domain import Reason, Record
from daemon.mapping import Bound, InputMapping, Key, LeavesRule, Path, Source
from daemon.stream.extract.paths import ABSENT, Lookup, Scope, compile_path, where_they_end
from daemon.stream.extract.sources import absence, as_text, compile_sources
from daemon.stream.extract.wrapped import is_wrapped
from daemon.stream.rejection import RejectedError

Cell = tuple[str, Any]
"""A sensor's name as the message has it, and its value."""
Cells = Callable[[Scope, Record], Sequence[Cell]]
DEEPEST: Final = 32
"""Objects within one another that leaves are looked for in; a deeper one is a leaf that is no number."""


def compile_cells(mapping: InputMapping) -> Cells:
    """The function that gives the cells of an item, by the mapping's shape."""
    if mapping.sensor:
        return _one_cell(mapping)
    if mapping.leaves is not None:
        return Leaves(mapping).cells
    return _fields(mapping.fields)


def no_cells(mapping: InputMapping, scope: Scope) -> str:
    """Why an item has no cells, in words."""
    if mapping.sensor:
        return where_they_end(mapping.value, scope)
    if mapping.leaves is not None:
        return f"no number below: {where_they_end(mapping.leaves.under, scope)}"
    paths = [path for paths in mapping.fields.values() for path in paths]
    return f"none of the fields is there: {where_they_end(paths, scope)}"


def _fields(fields: Mapping[str, tuple[Path, ...]]) -> Cells:
    finds = [(name, compile_value(paths)) for name, paths in fields.items()]

    def cells(scope: Scope, record: Record) -> list[Cell]:
        found = [(name, find(scope)) for name, find in finds]
        return [cell for cell in found if cell[1] is not ABSENT]

    return cells


def compile_value(paths: Sequence[Path]) -> Lookup:
    """The function that finds the first of some places that has something that is no object."""
    finds = [compile_path(path) for path in paths]
    if len(finds) == 1:
        return finds[0]

    def first(scope: Scope) -> Any:
        found: Any = ABSENT
        for find in finds:
            value = find(scope)
            if value is not ABSENT and type(value) is not dict:
                return value
            found = value if found is ABSENT else found
        return found

    return first


def _one_cell(mapping: InputMapping) -> Cells:
    """One cell; ``ABSENT`` is its value where there is none, which is right for a bad one."""
    sensor, value = compile_sources(mapping.sensor), compile_value(mapping.value)

    def cell(scope: Scope, record: Record) -> tuple[Cell]:
        name, found = sensor(scope, record), value(scope)
        if type(name) is not str:
            name = name_of(name, mapping, scope)
        return ((name, found),)

    return cell


def name_of(found: Any, mapping: InputMapping, scope: Scope) -> str:
    """The name of a sensor that is no text.

    Raises:
        RejectedError: there is none.
    """
    name = as_text(found)
    if name is ABSENT:
        raise RejectedError(Reason.NO_SENSOR, lambda: absence(mapping.sensor, scope))
    return str(name)


class Leaves:
    """The leaves below a place, by the names on the way to them.

    What the mapping reads as an asset, a time, a quality, a unit or a condition is none. Arrays are cells too, so that
    one that stands where a number is due is counted, unless the mapping takes their elements.
    """

    def __init__(self, mapping: InputMapping) -> None:
        rule = mapping.leaves
        assert rule is not None
        self._separator, self._arrays = rule.separator, rule.arrays
        self._prefix = compile_sources(rule.prefix) if rule.prefix else None
        self._anywhere = frozenset(rule.leave_out)
        self._roots = [
            (compile_path(under), _own_places(mapping, rule, under) | self._anywhere) for under in rule.under
        ]
        globs = [translate(name) for name in rule.leave_out if "*" in name or "?" in name]
        globs += _beside(mapping)
        self._glob = re.compile("|".join(globs)) if globs else None

    def is_plain(self, sensors: Mapping[str, int]) -> bool:
        """Whether a name at the root is one of the sensors, or not, just as it stands."""
        if self._prefix is not None or self._glob is not None or self._arrays:
            return False
        return not any(left_out.intersection(sensors) for _, left_out in self._roots)

    def left_out(self, place: int) -> frozenset[str]:
        """The names at one of the places that are no leaves; some may be globs, or ways to fields within."""
        return self._roots[place][1]

    def root(self, scope: Scope) -> tuple[dict[str, Any] | None, frozenset[str]]:
        """The place whose leaves are looked for, and the names in it that are none; None: it is not there."""
        for find, left_out in self._roots:
            found = find(scope)
            if type(found) is dict:
                return found, left_out
        return None, frozenset()

    def cells(self, scope: Scope, record: Record) -> list[Cell]:
        """All of them."""
        found, left_out = self.root(scope)
        cells: list[Cell] = []
        prefix = as_text(self._prefix(scope, record)) if self._prefix is not None else ABSENT
        if found is not None:
            self._walk("", found, left_out, cells)
        if prefix is ABSENT:
            return cells
        return [(f"{prefix}{self._separator}{name}", value) for name, value in cells]

    def below(self, name: str, value: Any, left_out: frozenset[str]) -> list[Cell]:
        """The leaves in a field of the root: many where it is an object."""
        if type(value) is not dict:
            return [(name, value)]
        cells: list[Cell] = []
        self._value(name, value, left_out, cells, 1)
        return cells

    def _walk(
        self, prefix: str, found: Any, left_out: frozenset[str], cells: list[Cell], depth: int = 0
    ) -> None:
        for key, value in found.items():
            name = key if type(key) is str else str(key)
            full = prefix + name
            if full in left_out or (prefix and name in self._anywhere):
                continue
            if self._glob is not None and (self._glob.match(full) or self._glob.match(name)):
                continue
            if type(value) is dict or type(value) is list:
                self._value(full, value, left_out, cells, depth + 1)
            else:
                cells.append((full, value))

    def _value(self, name: str, value: Any, left_out: frozenset[str], cells: list[Cell], depth: int) -> None:
        """An object or an array."""
        if depth > DEEPEST or (type(value) is dict and is_wrapped(value)):
            cells.append((name, value))
        elif type(value) is dict:
            self._walk(name + self._separator, value, left_out, cells, depth)
        elif self._arrays:
            elements = {str(at): element for at, element in enumerate(value)}
            self._walk(name + self._separator, elements, left_out, cells, depth)
        else:
            cells.append((name, value))


def _sources(mapping: InputMapping) -> list[Source]:
    """Everything that the mapping reads as something else than a value."""
    sources = [*mapping.asset, *mapping.time.sources, *mapping.time.plus]
    sources += [] if mapping.quality is None else mapping.quality.sources
    sources += mapping.unit
    sources += [] if mapping.leaves is None else mapping.leaves.prefix
    sources += [] if mapping.wave is None else (*mapping.wave.rate, *mapping.wave.step)
    for each in mapping.condition.values():
        sources += each
    for source in tuple(sources):
        sources += source.parts
    return sources


def _beside(mapping: InputMapping) -> list[str]:
    """Expressions for names that stand beside a sensor's: ``temperature_qc`` where its quality is ``[$name_qc]``."""
    steps = [
        source.path.steps[-1] for source in _sources(mapping) if source.path is not None and source.path.steps
    ]
    return [
        f"(?s:{re.escape(step.prefix)}.+{re.escape(step.suffix)})\\Z"
        for step in steps
        if isinstance(step, Bound) and (step.prefix or step.suffix)
    ]


def _own_places(mapping: InputMapping, rule: LeavesRule, under: Path) -> frozenset[str]:
    """The names below a place of what the mapping reads as something else than a value."""
    names, depth = set(), len(under.steps)
    for source in _sources(mapping):
        path = source.path
        if path is None or path.up != under.up or path.steps[:depth] != under.steps:
            continue
        way = []
        for step in path.steps[depth:]:
            if not isinstance(step, Key):
                break
            way.append(step.name)
        if way:
            names.add(rule.separator.join(way))
    return frozenset(names)
