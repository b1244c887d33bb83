"""The places of a sample's messages: every path to a value, seen from the items that hold readings.

A message is a tree. Its items may be the message itself, the elements of an array in it, or the members of an
object; ``explosions`` finds which there could be. ``Items`` has what lies at each place of the items, and of what
is around them, as one list per place, aligned with the items. Nothing here knows what a place means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final

from daemon.adapters.field_names import Role, named
from daemon.adapters.sample.survey import path_text
from daemon.config.input_notation import parse_each
from daemon.domain import Record
from daemon.mapping import Elements, Key, Members, Path
from daemon.stream.dates import LONGEST, date_ns, plain_iso
from daemon.stream.extract.items import compile_each
from daemon.stream.extract.numbers import NotANumberError, number_of
from daemon.stream.rejection import RejectedError
from daemon.stream.timestamps import event_time_ns

Way = tuple[str, ...]
"""The names of fields that lead to a place."""
MOST_PLACES: Final = 2000
MOST_ITEMS: Final = 3000
DEPTH: Final = 6
_EXPLOSIONS: Final = 12
_MEMBERS_LOOKED_AT: Final = 16
_USUAL: Final = 0.2
"""Of the messages, the share that must have an array or object for its parts to be items."""
_EARLIEST_NS: Final = 631_152_000 * 10**9
"""1990: a number that would be an earlier time is taken for one by name alone."""
_LATEST_NS: Final = 4_102_444_800 * 10**9
"""2100."""


def explosions(trees: Sequence[Any]) -> list[str]:
    """Paths for ``each``, ``.`` (the message itself) first, that lead to objects in many messages."""
    found: Counter[str] = Counter()
    for tree in trees:
        here: set[str] = set()
        _arrays(tree, "", here, 0)
        found.update(here)
    enough = max(_USUAL * len(trees), 1)
    often = [text for text, count in found.items() if count >= enough]
    return [".", *sorted(often, key=lambda text: (text.count("[]") + text.count("*"), text))][:_EXPLOSIONS]


def _arrays(tree: Any, way: str, found: set[str], depth: int) -> None:
    if depth > DEPTH or len(found) > 4 * _EXPLOSIONS:
        return
    if type(tree) is list:
        objects = [each for each in tree[:_MEMBERS_LOOKED_AT] if type(each) is dict]
        if objects:
            found.add(f"{way}[]")
            for each in objects:
                _arrays(each, f"{way}[]", found, depth + 1)
    elif type(tree) is dict:
        some = list(tree.items())[:64]
        alike = _alike([value for _, value in some])
        if not alike and _hold_readings([value for _, value in some]):
            found.add(f"{way}.*" if way else "*")
        if alike and (len(some) > 1 or not way):
            members = f"{way}.*" if way else "*"
            if type(some[0][1]) is dict:
                found.add(members)
            for _, value in some[:_MEMBERS_LOOKED_AT]:
                _arrays(value, members, found, depth + 1)
        for name, value in some:
            if type(value) is dict or type(value) is list:
                step = path_text([name])
                _arrays(value, f"{way}.{step}" if way else step, found, depth + 1)


def _alike(values: Sequence[Any]) -> bool:
    """Whether all members of an object are objects with a field in common, or all are arrays of objects."""
    if values and all(type(value) is dict for value in values):
        return bool(set.intersection(*(set(value) for value in values)))
    return bool(values) and all(type(v) is list and v and type(v[0]) is dict for v in values)


def _hold_readings(values: Sequence[Any]) -> bool:
    """Whether several members of an object are objects with a value of their own, beside members that are none."""
    inner = [value for value in values if type(value) is dict]
    return len(inner) > 1 and bool(named(set.intersection(*(set(value) for value in inner)), Role.VALUE))


@dataclass(frozen=True, eq=False)
class Items:
    """The items that ``each`` finds in a sample: N of them.

    ``levels[0]`` has the places within the items, ``levels[1]`` those around them, one explosion further out.
    Each place has N values, ``ABSENT`` (None here) where there is none.
    """

    each: str | Mapping[str, Any]
    records: Sequence[Record]  # (N,) the record of each item
    messages: int  # that have items
    levels: Sequence[Mapping[Way, Sequence[Any]]]
    names: Sequence[str | None]  # (N,) the key that ``*`` bound
    beside: bool = False  # whether ``each`` finds single values too

    def __len__(self) -> int:
        return len(self.records)

    def numbers_parts(self, way: Way) -> bool:
        """Whether whole numbers at a place are different ones within each message, and the same in most messages."""
        by_message: dict[int, list[Any]] = {}
        for record, value in zip(self.records, self.levels[0][way], strict=True):
            by_message.setdefault(id(record), []).append(value)
        found = [tuple(values) for values in by_message.values()]
        if not all(
            type(value) is int or (type(value) is str and value.isdigit()) for some in found for value in some
        ):
            return False
        distinct = all(len(set(map(str, some))) == len(some) for some in found)
        several = 2 * sum(len(some) > 1 for some in found) > len(found)
        return distinct and several and len(set(map(str, self.levels[0][way]))) <= 2 * max(map(len, found))


def items_of(each: str | Mapping[str, Any], records: Sequence[Record], trees: Sequence[Any]) -> Items:
    """The items of a sample, and their places."""
    (path,) = parse_each(each)
    find = compile_each((path,))
    scopes: list[Any] = []
    owners: list[Record] = []
    messages = 0
    beside = False
    for record, tree in zip(records, trees, strict=True):
        found = find(tree) or []
        messages += bool(found)
        for scope in found:
            if type(scope[0]) is dict:
                scopes.append(scope)
                owners.append(record)
            else:
                beside = beside or scope[1] is not None
        if len(scopes) >= MOST_ITEMS:
            break
    inner = _names_before_explosions(path)
    levels = [_places([scope[0] for scope in scopes], None)]
    around = [scope[2] for scope in scopes]
    for names in reversed(inner):
        outer = [None if scope is None else scope[0] for scope in around]
        levels.append(_places(outer, names))
        around = [None if scope is None else scope[2] for scope in around]
    bound = [
        next((s[1] for s in (scope, scope[2]) if s is not None and s[1] is not None), None)
        for scope in scopes
    ]
    return Items(each, owners, messages, levels, bound, beside)


def _names_before_explosions(path: Path) -> list[Way | None]:
    """Per explosion, the names that lead to it; None where it begins at once."""
    found: list[Way | None] = []
    names: list[str] = []
    for step in path.steps:
        if isinstance(step, Elements | Members):
            found.append(tuple(names) or None)
            names = []
        elif isinstance(step, Key):
            names.append(step.name)
    return found


def _places(items: Sequence[Any], without: Way | None) -> dict[Way, list[Any]]:
    """What is at each place of the items; ``without``: a branch that is left out, the one that is exploded."""
    places: dict[Way, list[Any]] = {}
    for at, item in enumerate(items):
        for way, value in _leaves(item, (), without) if type(item) is dict else ():
            column = places.get(way)
            if column is None:
                if len(places) >= MOST_PLACES:
                    continue
                column = places[way] = [None] * len(items)
            column[at] = value
    return places


def _leaves(tree: dict[str, Any], way: Way, without: Way | None) -> Iterator[tuple[Way, Any]]:
    """The places of a tree that hold values, or arrays of numbers."""
    for name, value in tree.items():
        here = (*way, name)
        if here == without:
            continue
        if type(value) is dict:
            if len(here) < DEPTH:
                yield from _leaves(value, here, without)
        elif type(value) is not list or (value and type(value[0]) in (int, float)):
            yield here, value


# ------------------------------------------------------------------ what the values of a place look like
def present(values: Sequence[Any]) -> list[Any]:
    """Those that are there."""
    return [value for value in values if value is not None and value != ""]


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether most of what is there is a number, or stands for one; times are none."""
    there = present(values)
    return 2 * sum(map(_is_number, there)) > len(there) and not are_times(there)


def _is_number(value: Any) -> bool:
    if type(value) is list:
        return False
    try:
        return number_of(value) == number_of(value)
    except NotANumberError:
        return False


def are_times(values: Sequence[Any]) -> bool:
    """Whether nearly all of what is there is a time from 1990 to 2100, by its look alone."""
    there = present(values)
    good = sum(_EARLIEST_NS <= ns < _LATEST_NS for ns in map(time_of, there) if ns is not None)
    return bool(there) and good >= 0.9 * len(there)


def time_of(value: Any) -> int | None:
    """The event time that a value would be, in nanoseconds; None if it is none."""
    if type(value) is bool:
        return None
    try:
        if type(value) is str:
            return _text_time(value)
        return event_time_ns(value)
    except RejectedError:
        return None


def _text_time(text: str) -> int:
    """The time that a text is; of dates in which either of two numbers may be the month, in one of the orders."""
    if len(text) <= LONGEST and text[4:5] != "-":
        for day_first in (False, True):
            try:
                if (written := date_ns(text, UTC, day_first)) is not None:
                    return written[0]
                break
            except RejectedError:
                if day_first:
                    raise
    return event_time_ns(plain_iso(text) if len(text) <= LONGEST else text)


def may_be_time_texts(values: Sequence[Any]) -> bool:
    """Whether what is there are texts, or arrays of numbers, that may be meant as times: with digits, and different."""
    there = present(values)
    return bool(there) and all(
        (type(value) is str and any(c.isdigit() for c in value)) or type(value) is list for value in there
    )


def are_texts(values: Sequence[Any]) -> bool:
    """Whether what is there are names: short texts, or whole numbers."""
    there = present(values)
    return bool(there) and all(
        type(value) is int or (type(value) is str and len(value) <= 200) for value in there
    )


def are_blocks(values: Sequence[Any]) -> bool:
    """Whether what is there are arrays of numbers, of two samples at least."""
    there = present(values)
    return bool(there) and all(type(value) is list and len(value) > 1 for value in there)


def are_short(values: Sequence[Any]) -> bool:
    """Whether arrays of numbers are a few values of one moment, phases or registers, and no samples of a signal."""
    lengths = {len(value) for value in present(values)}
    return len(lengths) == 1 and lengths.pop() <= MOST_PHASES


MOST_PHASES: Final = 16
"""Elements of an array that are sensors each; a longer one is a block of samples."""
