"""The shapes that the messages of a mapping may have, as types that msgspec decodes into.

Why: a tree of dicts costs more to make and to ask than structs with just the fields that a mapping looks at. One
mapping may fit messages of several shapes: a path of ``each`` may end at an object or at an array, ``values`` may be
at one of several places. Each combination is a ``Shape``. Bytes that a shape's ``parse`` takes, and whose fields that
must not be there are not, have their items, their values and their keys where the shape says; of any other message
the shape says nothing.

Input: a mapping. Output: its shapes, in the order in which the mapping tries the places.

A shape has levels, as the scopes of ``items`` have: the message, the elements of each ``[]`` and ``*``, and the item.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from operator import attrgetter
from types import GenericAlias
from typing import Any, Final

import msgspec

from daemon.mapping import Elements, InputMapping, Key, Members, Path, PathStep

MOST_SHAPES: Final = 64
"""Combinations that are looked at; a mapping with more has them all the same, one message at a time."""
NOT_GIVEN: Final = struct.unpack("d", struct.pack("Q", 0x7FF8_0000_0000_0A11))[0]
"""Stands for a cell that is not there: a NaN of its own bits, which no text or number of JSON becomes."""
BAD: Final = struct.unpack("d", struct.pack("Q", 0x7FF8_0000_0000_0BAD))[0]
"""Stands for the value of a cell of bad quality, while columns are made."""
NUMBER: Final = float | bool | None


class UnfitError(Exception):
    """There is no such shape."""


class Kind(Enum):
    """What is decoded of a field."""

    ANY = "any"  # whatever it is
    VALUE = "value"  # a number, a boolean or null: of an item with one value
    CELL = "cell"  # the same, of an item with many: ``NOT_GIVEN`` where the field is not there
    ABSENT = "absent"  # it must not be there


@dataclass(frozen=True, slots=True)
class Column:
    """Where a value is: a function of the elements of a level."""

    level: int
    get: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Level:
    """How the elements of a level come from those of the level before."""

    get: Callable[[Any], Any]
    explodes: str  # "elements", "members", or "" where each has one


@dataclass(eq=False)
class _Node:
    """A field, or a whole level."""

    attribute: str = ""
    kind: Kind | None = None
    children: dict[str, _Node] = field(default_factory=dict)
    inner: tuple[str, _Node] | None = None  # of an explosion: which, and of what
    closed: bool = False  # another field is not allowed
    required: bool = False

    def child(self, name: str) -> _Node:
        if self.kind is not None or self.inner is not None:
            raise UnfitError
        if name not in self.children:
            self.children[name] = _Node(f"f{len(self.children)}")
        return self.children[name]


class Shape:
    """One shape: fields are placed in it one after the other, then ``compile`` makes its type.

    Args:
        each: the path to the items; (): the message is the item.
        ends_in_array: whether the path ends at an array, whose elements are the items.
        texts: whether a sensor has states, so that its values may be texts.

    Attributes:
        levels: after the message.
        absent: fields that must not be there.

    Raises:
        UnfitError: a path cannot end so, or two fields cannot be in one message.
    """

    def __init__(self, each: Sequence[PathStep], *, ends_in_array: bool, texts: bool) -> None:
        self.levels: list[Level] = []
        self.absent: list[Column] = []
        self._value: Any = NUMBER | str if texts else NUMBER
        self._tries = [_Node()]
        way: list[str] = []
        for step in each:
            if isinstance(step, Key):
                way.append(step.name)
            elif isinstance(step, Elements | Members):
                self._explode(way, "elements" if isinstance(step, Elements) else "members")
                way = []
            else:
                raise UnfitError
        if ends_in_array:
            if self.levels and not way:
                raise UnfitError
            self._explode(way, "elements")
        elif way:
            node, get = self._node(self._tries[-1], way)
            node.required = True
            self._tries.append(node)
            self.levels.append(Level(get, ""))

    @property
    def item(self) -> int:
        """The level of the items."""
        return len(self.levels)

    def _explode(self, way: Sequence[str], explodes: str) -> None:
        node, get = self._node(self._tries[-1], way)
        if node.children or node.kind is not None or node.inner is not None:
            raise UnfitError
        node.inner, node.required = (explodes, _Node()), True
        self._tries.append(node.inner[1])
        self.levels.append(Level(get, explodes))

    @staticmethod
    def _node(node: _Node, way: Sequence[str]) -> tuple[_Node, Callable[[Any], Any]]:
        attributes = []
        for name in way:
            node = node.child(name)
            attributes.append(node.attribute)
        return node, attrgetter(".".join(attributes)) if attributes else _itself

    def place(self, path: Path, kind: Kind, base: int | None = None) -> Column | None:
        """Place the field at a path; None: it cannot be there in this shape.

        Args:
            path: it.
            kind: what is decoded of the field.
            base: the level from which the path is seen; None: the item's.
        """
        level = (self.item if base is None else base) - path.up
        if level < 0:
            return None
        trie = self._tries[level]
        names = names_of(path)
        if not self._may_have(trie, names):
            return None
        node, get = self._node(trie, names)
        if node.children or node.inner is not None or node.kind not in (None, kind):
            raise UnfitError
        node.kind = kind
        column = Column(level, get)
        if kind is Kind.ABSENT:
            self.absent.append(column)
        return column

    @staticmethod
    def _may_have(node: _Node, names: Sequence[str]) -> bool:
        """Whether a field can be there at all: below a number, or in what must not be there, there is none."""
        for name in names:
            if node.kind in (Kind.VALUE, Kind.ABSENT) or node.inner is not None:
                return False
            if name not in node.children:
                return True
            node = node.children[name]
        return True

    def binding(self, level: int) -> int | None:
        """The level whose elements have the keys that ``$name`` means, seen from a level; None: none."""
        return next((i for i in range(level, 0, -1) if self.levels[i - 1].explodes == "members"), None)

    def exclude(self, earlier: Sequence[PathStep], each: Sequence[PathStep], *, ends_in_array: bool) -> None:
        """See to it that an earlier path of ``each`` yields no item in this shape, which is made for ``each``.

        Raises:
            UnfitError: it would.
        """
        same = next((i for i, (a, b) in enumerate(zip(earlier, each, strict=False)) if a != b), None)
        at = min(len(earlier), len(each)) if same is None else same
        if at == len(earlier):
            raise UnfitError
        step, here = earlier[at], each[at] if at < len(each) else None
        of_array = isinstance(step, Elements)
        if isinstance(here, Elements) or (here is None and ends_in_array):
            if not of_array:
                return  # it looks for an object where this shape has an array
        elif of_array:
            return
        if not isinstance(step, Key) or isinstance(here, Members):
            raise UnfitError
        begin = max((i + 1 for i in range(at) if not isinstance(each[i], Key)), default=0)
        level = sum(not isinstance(one, Key) for one in each[:at])
        way = [one.name for one in (*each[begin:at], step) if isinstance(one, Key)]
        node, get = self._node(self._tries[level], way)
        if node.children or node.inner is not None or node.kind not in (None, Kind.ABSENT):
            raise UnfitError
        node.kind = Kind.ABSENT
        self.absent.append(Column(level, get))

    def place_cells(self, path: Path, names: Sequence[str], others: Sequence[str]) -> Column:
        """Place a struct whose first fields are these cells; of other fields it may have these only."""
        level = self.item - path.up
        if level < 0:
            raise UnfitError
        node, get = self._node(self._tries[level], names_of(path))
        if node.children or node.inner is not None or node.kind is not None:
            raise UnfitError
        for name in names:
            node.child(name).kind = Kind.CELL
        for name in others:
            node.child(name)  # of any kind, if no other
        node.closed = node.required = True
        return Column(level, get)

    def place_presence(self, path: Path, base: int) -> Column | None:
        """Place a field of which only matters whether it is there; None: in this shape it always is.

        Raises:
            UnfitError: it is never there, or that cannot be said.
        """
        level = base - path.up
        if level < 0 or not self._may_have(self._tries[level], names := names_of(path)):
            raise UnfitError
        node, get = self._node(self._tries[level], names)
        if node.required or node.inner is not None:
            return None
        if node.kind is Kind.VALUE:
            return Column(level, get)
        return self.place(path, Kind.ANY, base)

    def getters(self, path: Path, names: Sequence[str]) -> dict[str, Callable[[Any], Any]]:
        """The functions that get these fields of the struct at a path."""
        node, _ = self._node(self._tries[self.item - path.up], names_of(path))
        return {name: attrgetter(node.children[name].attribute) for name in names}

    def compile(self) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
        """The functions from bytes to the message: strictly, and with texts that are plain numbers as numbers.

        Raises:
            UnfitError: msgspec cannot look for one of the names.
        """
        try:
            made, _ = self._type(self._tries[0])
            return msgspec.json.Decoder(made).decode, msgspec.json.Decoder(made, strict=False).decode
        except (ValueError, TypeError) as error:
            raise UnfitError from error

    def _type(self, node: _Node, *, closed: bool = False) -> tuple[Any, Any]:
        """The type of a field, and its default; what is below leaves is ``closed``, for there may be others."""
        closed = closed or node.closed
        if node.kind is Kind.VALUE:
            return self._value | msgspec.UnsetType, msgspec.UNSET
        if node.kind is Kind.CELL:
            return self._value, NOT_GIVEN
        if node.inner is not None:
            inner, _ = self._type(node.inner[1])
            many = (
                GenericAlias(list, inner) if node.inner[0] == "elements" else GenericAlias(dict, (str, inner))
            )
            return many, msgspec.NODEFAULT
        nothing_below = bool(node.attribute) and not (node.children or node.required)
        if node.kind is not None or nothing_below:
            return Any, msgspec.UNSET
        fields = [(child.attribute, *self._type(child, closed=closed)) for child in node.children.values()]
        made = msgspec.defstruct(
            "Fields",
            fields,
            rename={child.attribute: name for name, child in node.children.items()},
            forbid_unknown_fields=closed,
            frozen=True,
            gc=False,
            kw_only=True,
            module=__name__,
        )
        if node.required or any(default is msgspec.NODEFAULT for _, _, default in fields):
            return made, msgspec.NODEFAULT
        return made, made()


def names_of(path: Path) -> list[str]:
    """The names that a path consists of.

    Raises:
        UnfitError: it has other steps.
    """
    if not all(isinstance(step, Key) for step in path.steps):
        raise UnfitError
    return [step.name for step in path.steps if isinstance(step, Key)]


def ways_of(mapping: InputMapping) -> Iterator[tuple[tuple[int, bool], int]]:
    """The combinations of a mapping: which path of ``each``, whether it ends at an array, and which place of values."""
    each = range(max(1, len(mapping.each)))
    places = range(
        len(mapping.value) if mapping.sensor else len(mapping.leaves.under) if mapping.leaves else 1
    )
    found = product(product(each, (False, True)), places)
    return (way for way, _ in zip(found, range(MOST_SHAPES), strict=False))


def each_of(mapping: InputMapping, which: int) -> Sequence[PathStep]:
    """The steps of one of the paths of ``each``."""
    return mapping.each[which].steps if mapping.each else ()


def _itself(element: Any) -> Any:
    return element
