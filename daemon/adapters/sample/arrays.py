"""Readings that are arrays in a sample's messages: ``[[time, value, quality], ...]``, or rows below names of columns.

In: the trees of messages. Out: what ``each`` of the mapping is for them. Columns without names are called by what is in
them; without a time among them they are no readings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from daemon.adapters.sample.places import DEPTH, are_numbers, are_texts, are_times, present
from daemon.adapters.sample.survey import path_text

_MOST_COLUMNS: Final = 64
_LOOKED_AT: Final = 200
_USUAL: Final = 0.2
"""The share of the messages that must have such arrays."""
_MEMBERS: Final = 16
_MOST_CODES: Final = 12


def tables_of(trees: Sequence[Any]) -> list[dict[str, Any]]:
    """The ``each`` of arrays of arrays that many messages have."""
    found: dict[tuple[str, str], list[Any]] = {}
    counts: Counter[tuple[str, str]] = Counter()
    headers: dict[tuple[str, str], set[str]] = {}
    for tree in trees:
        here: dict[tuple[str, str], list[Any]] = {}
        _walk(tree, "", here, headers, 0)
        counts.update(here.keys())
        for place, rows in here.items():
            known = found.setdefault(place, [])
            known += rows[: max(_LOOKED_AT - len(known), 0)]
    made = []
    for place, rows in found.items():
        if counts[place] < max(_USUAL * len(trees), 1):
            continue
        under, name = place
        columns = _columns(rows, sorted(headers.get(place, ())))
        if columns is not None:
            made.append(({"under": under} if under else {}) | {"rows": name, "columns": columns})
    return made


def _walk(
    tree: Any,
    way: str,
    found: dict[tuple[str, str], list[Any]],
    headers: dict[tuple[str, str], set[str]],
    depth: int,
) -> None:
    """Collect the rows of arrays of arrays, by the path to what holds them and their place there."""
    if depth > DEPTH:
        return
    if _are_rows(tree):
        found.setdefault((way, "."), []).extend(tree)
    elif type(tree) is list:
        for each in tree[:_MEMBERS]:
            if type(each) is dict:
                _walk(each, f"{way}[]", found, headers, depth + 1)
    elif type(tree) is dict:
        members = list(tree.items())[:_MEMBERS]
        if len(members) > 1 and all(_are_rows(value) for _, value in members):
            for _, value in members:
                found.setdefault((f"{way}.*" if way else "*", "."), []).extend(value)
            return
        for name, value in members:
            step = path_text([name])
            if _are_rows(value):
                place = (way, step)
                found.setdefault(place, []).extend(value)
                width = len(value[0])
                headers.setdefault(place, set()).update(
                    path_text([other]) for other, names in members if _are_names(names, width)
                )
            else:
                _walk(value, f"{way}.{step}" if way else step, found, headers, depth + 1)


def _are_rows(value: Any) -> bool:
    """Whether this is an array of arrays of single values, all of one length."""
    if type(value) is not list or not value or type(value[0]) is not list:
        return False
    width = len(value[0])
    return 2 <= width <= _MOST_COLUMNS and all(
        type(row) is list and len(row) == width and not any(type(each) in (list, dict) for each in row)
        for row in value[:_MEMBERS]
    )


def _are_names(value: Any, width: int) -> bool:
    return type(value) is list and len(value) == width and all(type(name) is str and name for name in value)


def _are_codes(column: Sequence[Any]) -> bool:
    """Whether these may say whether the values beside them are to be trusted."""
    return len(set(map(str, present(column)))) <= _MOST_CODES and (are_texts(column) or not present(column))


def _columns(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> Any:
    """Where the names of the columns are, or the names by what is in them; None where they are no readings."""
    width = len(rows[0])
    columns = [[row[i] for row in rows if len(row) == width] for i in range(width)]
    timed = [are_times(column) for column in columns]
    if headers:
        return headers[0] if any(timed) else None
    if sum(timed) != 1 or width > 3:
        return None
    names = ["time" if is_time else "" for is_time in timed]
    for i, column in enumerate(columns):
        few = len(set(map(str, present(column)))) <= 4 and are_texts(column)
        if names[i] == "":
            free = "value" not in names
            names[i] = (
                "value"
                if free and are_numbers(column) and not (few and i and width == 3 and names[i - 1] == "value")
                else "quality"
            )
    return names if names.count("value") == 1 and names.count("quality") <= 1 else None
