"""The elements of many messages of one shape, level by level, and what their fields have, as columns.

A column is of one level, one entry per element; ``spread`` makes it one of the items. A rule that finds entries odd
raises ``OddError`` with the places of their records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from types import NoneType
from typing import Any

import msgspec
import numpy as np

from daemon.domain import Ints, Mask
from daemon.mapping import Origin, SkipRule
from daemon.stream.extract.paths import ABSENT
from daemon.stream.extract.shape_plans import FieldSource
from daemon.stream.extract.shapes import Column, Shape
from daemon.stream.extract.sources import LONGEST_MATCHED, TEXTS_KEPT, as_text
from daemon.stream.rejection import RejectedError
from daemon.stream.text_cache import remember

_EMPTY = frozenset((NoneType, msgspec.UnsetType))


class OddError(Exception):
    """A rule found some of the records odd: their places."""

    def __init__(self, places: Sequence[int] | Ints) -> None:
        super().__init__()
        self.places = places


class Elements:
    """The elements of messages.

    Args:
        shape: of the messages.
        messages: as the shape decodes them.
        keys, lines: the keys and values of their records.

    Attributes:
        items: how many there are.
    """

    def __init__(
        self,
        shape: Shape,
        messages: list[Any],
        keys: Sequence[bytes | None],
        lines: Sequence[bytes] = (),
    ) -> None:
        self._item = shape.item
        self._keys, self._lines = keys, lines
        self._of: list[list[Any]] = [messages]
        self._names: list[list[str]] = [[]]  # of the members of objects
        # Per level the record of each element, and per level the element of each item; None: the same place.
        self._records: list[Ints | None] = [None]
        up: list[Ints | None] = []
        for level in shape.levels:
            parents = self._of[-1]
            found = list(map(level.get, parents))
            self._names.append([])
            if not level.explodes:
                self._of.append(found)
                up.append(None)
                self._records.append(self._records[-1])
                continue
            counts = np.fromiter(map(len, found), np.int64, len(found))
            if level.explodes == "members":
                self._names[-1] = list(chain.from_iterable(found))
                found = [each.values() for each in found]
            self._of.append(list(chain.from_iterable(found)))
            places: Ints = np.repeat(np.arange(len(counts)), counts)
            up.append(places)
            before = self._records[-1]
            self._records.append(places if before is None else before[places])
        self._to: list[Ints | None] = [None]
        for way in reversed(up):
            inner = self._to[0]
            self._to.insert(0, inner if way is None else way if inner is None else way[inner])
        self.items = len(self._of[-1])

    @property
    def item(self) -> int:
        """The level of the items."""
        return self._item

    @property
    def records(self) -> Ints:
        """(I,) the record of each item, ascending."""
        records = self._records[-1]
        return np.arange(self.items) if records is None else records

    @property
    def alone(self) -> bool:
        """Whether each record has one item, which is the message or within it."""
        return self._records[-1] is None

    def spread(self, column: list[Any], level: int) -> list[Any]:
        """A column of a level, as one of the items."""
        to = self._to[level]
        return column if to is None else [column[i] for i in to.tolist()]

    def spread_array(self, column: Any, level: int) -> Any:
        """The same of an array."""
        to = self._to[level]
        return column if to is None else column[to]

    def refuse(self, odd: Mask | Sequence[bool], level: int) -> None:
        """Raise ``OddError`` for the records of the elements of a level that are marked."""
        places = np.flatnonzero(odd)
        if len(places):
            records = self._records[level]
            raise OddError(places if records is None else np.unique(records[places]))

    def refuse_items(self, items: Ints) -> None:
        """Raise ``OddError`` for the records of these items."""
        raise OddError(np.unique(self.records[items]))

    def each(self, column: Sequence[Any], level: int, rule: Callable[[Any], Any]) -> list[Any]:
        """A rule applied to each entry of a column of a level.

        Raises:
            OddError: it refuses some of them.
        """
        made, odd = [], np.zeros(len(column), bool)
        for i, entry in enumerate(column):
            try:
                made.append(rule(entry))
            except (RejectedError, ValueError, OverflowError, RecursionError):
                odd[i] = True
        self.refuse(odd, level)
        return made

    def matches(self, expression: re.Pattern[bytes], places: Ints, level: int) -> list[bool]:
        """Whether an expression is in the records of the elements at these places of a level."""
        records = self._records[level]
        which = places if records is None else records[places]
        return [expression.search(self._lines[i]) is not None for i in which.tolist()]

    def stamps(self, stamps: Ints, level: int) -> Ints:
        """The times of records, one entry per element of a level."""
        records = self._records[level]
        return stamps if records is None else stamps[records]

    # -------------------------------------------------------------- columns
    def column(self, column: Column) -> list[Any]:
        """What a field has in each element of its level."""
        return list(map(column.get, self._of[column.level]))

    def refuse_present(self, column: Column) -> None:
        """Raise ``OddError`` for records that have a field."""
        found = self.column(column)
        if found.count(msgspec.UNSET) < len(found):
            self.refuse([each is not msgspec.UNSET for each in found], column.level)

    def read(self, source: FieldSource, matched: dict[Any, Any]) -> tuple[list[Any], int]:
        """What a source has, and the level of that column; ``matched``: texts by what an expression finds in them."""
        level = 0 if source.column is None else source.column.level
        if source.origin is Origin.KEY:
            found: list[Any] = list(self._keys)
        elif source.origin is Origin.NAME:
            found = self._names[level]
        elif source.origin is Origin.CONSTANT:
            found = [source.text] * len(self._of[0])
        else:
            assert source.column is not None
            found = self.column(source.column)
        if source.match is None:
            return found, level
        try:
            return [matched[each] for each in found], level
        except (KeyError, TypeError):
            return [_group(source, each, matched) for each in found], level

    def first(
        self, sources: Sequence[FieldSource], matched: Sequence[dict[Any, Any]]
    ) -> tuple[list[Any], int]:
        """The same of the first source that has something; what has nothing keeps that."""
        found, level = self.read(sources[0], matched[0])
        at = 1
        while at < len(sources) and _EMPTY.issuperset(map(type, found)):  # none of the elements has it
            found, level = self.read(sources[at], matched[at])
            at += 1
        if at == len(sources) or not lacks(found):
            return found, level
        made = list(self.spread(found, level))
        for source, known in zip(sources[at:], matched[at:], strict=True):
            lacking = [i for i, each in enumerate(made) if is_nothing(each)]
            if not lacking:
                break
            column, level = self.read(source, known)
            column = self.spread(column, level)
            for i in lacking:
                made[i] = column[i]
        return made, self._item

    def refuse_skipped(self, rule: SkipRule, source: FieldSource, matched: dict[Any, Any]) -> None:
        """Raise ``OddError`` for records that a rule skips, or skips items of."""
        found, level = self.read(source, matched)
        try:
            if not any(_is_hit(rule, each) for each in set(found)):
                return
        except TypeError:  # an object or an array
            pass
        self.refuse([_is_hit(rule, each) for each in found], level)


def is_nothing(found: Any) -> bool:
    """Whether a source has nothing; see ``sources``."""
    return found is None or found is msgspec.UNSET or (type(found) is str and not found)


def lacks(found: Sequence[Any]) -> bool:
    """Whether a source has nothing somewhere."""
    kinds = set(map(type, found))
    return not _EMPTY.isdisjoint(kinds) or (str in kinds and "" in found)


def _group(source: FieldSource, found: Any, matched: dict[Any, Any]) -> Any:
    """What an expression finds in a text, or in what can be written as one; ``UNSET``: nothing."""
    known = matched.get(found, ABSENT) if type(found) in (str, bytes) else ABSENT
    if known is not ABSENT:
        return known
    text = as_text(found)
    if text is ABSENT:
        return msgspec.UNSET
    assert source.match is not None
    hit = source.match.search(text) if len(text) <= LONGEST_MATCHED else None
    group = None if hit is None else hit[source.group]
    group = msgspec.UNSET if group is None else group
    if type(found) in (str, bytes):
        remember(matched, found, group, TEXTS_KEPT)
    return group


def _is_hit(rule: SkipRule, found: Any) -> bool:
    """Whether a rule skips what has this; see ``items.compile_skip``."""
    if type(found) is bytes:
        found = found.decode(errors="replace")
    if rule.values is None:
        return (found is None or found is msgspec.UNSET) is rule.negated
    if type(found) in (dict, list) or found is msgspec.UNSET:
        return False
    return (found in rule.values) is not rule.negated
