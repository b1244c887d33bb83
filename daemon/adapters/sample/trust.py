"""Which field says whether the values beside it are to be trusted, and what its codes mean.

A field is found by its name (``Role.QUALITY``). Where by every known convention none of its codes means that a value
is good, they are another convention's, of which the commonest code is the good one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from daemon.adapters.field_names import Role, bare
from daemon.adapters.sample.assets import Choice
from daemon.adapters.sample.places import Way, are_numbers, present
from daemon.adapters.sample.roles import hashable, ranked, source_text
from daemon.config.input_notation import parse_sources
from daemon.mapping import QualityRule
from daemon.stream.extract.quality import compile_verdict, is_known_code, is_known_word, usual_code

_MOST_CODES: Final = 12


def quality_choice(
    level: Mapping[Way, Sequence[Any]], up: int = 0, taken: Collection[Way] = (), *, of_row: bool = False
) -> Choice | None:
    """The quality of N items; None where none of their fields is one.

    Args:
        level: the places of the items, or of what is around them.
        up: how far out they are.
        taken: places that are sensors.
        of_row: it is about all values of the items, so that it stands beside them, and is called by no doubtful name.
    """
    for way in ranked(level, Role.QUALITY):
        values = level[way]
        there = present(values)
        if way in taken or not there or len(set(map(str, there))) > _MOST_CODES:
            continue
        if bare(way[-1]) in ("status", "state") and are_numbers(there):
            continue
        if of_row and (not _is_of_rows(bare(way[-1]), there) or _has_values_beside(way, level)):
            continue
        if (document := _document(source_text(up, way), there)) is not None:
            listed = type(document) is dict
            if listed and of_row and bare(way[-1]) == "q":
                continue  # of a row without a known code it may be a flow
            why = "a bad quality is a missing value"
            if listed:
                why += f"; {document['good'][0]!r} is said of most, and taken for good"
            return Choice(document, why, values)
    return None


_SURE: Final = frozenset({"quality", "qualitycode", "opcquality", "qc"})
_OF_MACHINES: Final = ("ok", "normal", "true", "false", "error", "fail", "fault", "not", "no")
"""Beginnings of words that a machine says of itself: what it reads in a fault is what is to be judged."""


def _is_of_rows(name: str, values: Sequence[Any]) -> bool:
    """Whether a field of this name says of all values beside it whether they are to be trusted."""
    if name in _SURE:
        return True
    if _all_words(values):
        return name == "validity" or not any(
            str(word).strip().lower().removeprefix("status").startswith(_OF_MACHINES) for word in set(values)
        )
    return name == "q" and all(str(value).strip() == "0" or is_known_code(value) for value in values)


def _has_values_beside(way: Way, level: Mapping[Way, Sequence[Any]]) -> bool:
    """Whether an object within the items holds numbers beside this field: it is about these alone."""
    return len(way) > 1 and any(
        other[:-1] == way[:-1] and other != way and are_numbers(values) for other, values in level.items()
    )


def _all_words(values: Sequence[Any]) -> bool:
    return all(
        type(value) is str and not value.strip().isdigit() and is_known_word(value) for value in values
    )


def _document(place: str, values: Sequence[Any]) -> Any:
    """The quality as the configuration says it; None where nothing shows which code is the good one."""
    verdict = compile_verdict(QualityRule(parse_sources(place, "quality")))
    if any(map(verdict, values)):
        return place
    if all(type(value) is str and is_known_word(value) and not value.strip().isdigit() for value in values):
        return place  # its words say that all are bad
    times = Counter(map(hashable, values))
    codes = list(times)
    usual = usual_code(codes, list(times.values()))
    if usual is None or type(codes[usual]) is bool:
        return None
    return {"from": place, "good": [codes[usual]]}
