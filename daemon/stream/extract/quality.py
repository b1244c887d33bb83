"""Whether a value is to be trusted: a bad one is a missing cell, whatever the number says; no statement is good.

A verdict is 0 good, 1 uncertain, 2 bad. Four ways of saying it are known: the two top bits of an OPC UA status
code (a number, its text, an object with it, or the symbol's name), OPC DA's and Sparkplug's numbers (192 good,
64 uncertain, 0 bad, 500 stale), booleans, and words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from daemon.domain import Record
from daemon.mapping import Key, QualityRule, Source
from daemon.stream.extract.paths import ABSENT, Scope
from daemon.stream.extract.sources import compile_sources, first_field
from daemon.stream.text_cache import remember

GOOD_WORDS: Final = ("good", "ok", "valid", "true", "normal", "fresh")
UNCERTAIN_WORDS: Final = ("uncertain", "questionable", "suspect", "doubtful", "estimated", "substituted")
"""Beginnings of texts, in lower case, that say so; any other text is bad."""
_BAD_WORDS: Final = (
    "bad",
    "false",
    "invalid",
    "error",
    "fail",
    "fault",
    "stale",
    "not",
    "no",
    "missing",
    "unknown",
    "poor",
)
_CODE_NAMES: Final = (
    "Code",
    "code",
    "Value",
    "value",
    "StatusCode",
    "statusCode",
    "Symbol",
    "symbol",
    "Name",
)
_STALE: Final = 500
_WORD_CODE: Final = re.compile(r"\(?(0x[0-9a-f]{1,8}|[0-9]{1,10})\)?")
_CLOSING_CODE: Final = re.compile(r"\((0x[0-9a-f]{1,8})\)$")
_TEXTS_KEPT: Final = 1024


def compile_quality(rule: QualityRule) -> Callable[[Scope, Record], bool]:
    """The function that says whether the value of an item is to be trusted."""
    read, verdict = compile_sources(rule.sources), compile_verdict(rule)
    listed = bool(rule.good or rule.bad)
    field = first_field(rule.sources)  # often it is there
    alone = len(rule.sources) == 1 and field is not None

    def trusted(scope: Scope, record: Record) -> bool:
        item = scope[0]
        if field is None or type(item) is not dict or (found := item.get(field)) is None or found == "":
            found = ABSENT if alone else read(scope, record)
        if found is ABSENT or found is None or found == "":
            return True
        return (found is True and not listed) or verdict(found)

    return trusted


def compile_verdict(rule: QualityRule) -> Callable[[Any], bool]:
    """The function that says whether a statement, of whatever kind, is that a value is to be trusted."""
    grade = _grade_of(rule)
    bad_from = 2 if rule.uncertain == "keep" else 1
    known: dict[str, bool] = {}

    def verdict(found: Any) -> bool:
        if type(found) is bytes:
            found = found.decode(errors="replace")
        if type(found) is not str:
            return grade(found) < bad_from
        made = known.get(found)
        if made is None:
            made = grade(found) < bad_from
            remember(known, found, made, _TEXTS_KEPT)
        return made

    return verdict


def _grade_of(rule: QualityRule) -> Callable[[Any], int]:
    if rule.good or rule.bad:
        return _listed(rule.good, rule.bad)
    if rule.code == "opc-ua":
        return _opc_ua
    if rule.code is not None:
        return _opc_da
    names = [last_name(source).lower() for source in rule.sources]
    if all("status" in name for name in names):
        return _opc_ua
    if all(name.endswith(("valid", "good", "ok")) for name in names):
        return _truth
    return _plain


def last_name(source: Source) -> str:
    """The name of the field that a source ends in."""
    step = source.path.steps[-1] if source.path is not None and source.path.steps else None
    return step.name if isinstance(step, Key) else source.name or source.text


def _listed(good: frozenset[object], bad: frozenset[object]) -> Callable[[Any], int]:
    """As the mapping lists it; with ``good``, anything else is bad, and with ``bad`` alone anything else is good."""
    good, bad = frozenset(map(_comparable, good)), frozenset(map(_comparable, bad))

    def grade(found: Any) -> int:
        if type(found) is dict:
            found = _code_in(found)
        if type(found) in (dict, list):
            return 2
        found = _comparable(found)
        if found in bad:
            return 2
        return 0 if not good or found in good else 2

    return grade


def _comparable(found: Any) -> Any:
    """A text in lower case, or as the number that it is; anything else as it is."""
    if type(found) is not str:
        return found
    word = found.strip().lower()
    if (number := _WORD_CODE.fullmatch(word)) is None:
        return word
    return int(number[1], 0 if number[1].startswith("0x") else 10)


def _code_in(found: dict[Any, Any]) -> Any:
    """The code or the name in the object of a status; an object without is OPC UA's good, which is left out."""
    for name in _CODE_NAMES:
        if name in found:
            return found[name]
    return 0


def _opc_ua(found: Any) -> int:
    if type(found) is dict:
        found = _code_in(found)
    if type(found) is int:
        return min((found & 0xFFFFFFFF) >> 30, 2)
    return _words(found, _opc_ua)


def _opc_da(found: Any) -> int:
    if type(found) is dict:
        found = _code_in(found)
    if type(found) is int:
        if found > 0xFFFF:  # a gateway passes OPC UA's on
            return _opc_ua(found)
        return 2 if found < 64 or found == _STALE else 1 if found < 192 else 0
    return _words(found, _opc_da)


def _truth(found: Any) -> int:
    if type(found) is int:
        return 2 if found == 0 else 0
    return _words(found, _plain)


def _plain(found: Any) -> int:
    if type(found) is int:
        return _opc_da(found) if found <= 255 or found == _STALE else _opc_ua(found)
    return _opc_ua(found) if type(found) is dict else _words(found, _plain)


def is_known_code(code: object) -> bool:
    """Whether a number, or its text, is a code that OPC DA or OPC UA has; 0 is another thing in each."""
    number = _comparable(code) if type(code) is str else code
    return type(number) is int and (number in _OPC_DA_CODES or number & 0xFFFFFFFF >= 1 << 30)


_OPC_DA_CODES: Final = frozenset((*range(4, 33, 4), 64, 68, 80, 84, 88, 192, 216, _STALE))
"""The bad, the uncertain and the good ones, without the bits of limits; and Sparkplug's stale."""


ENOUGH: Final = 20
"""Values, at least, by which a code without a known meaning is taken for the good one."""


def usual_code(codes: Sequence[object], times: Sequence[int]) -> int | None:
    """Of codes none of which is good by a known convention, the place of the commonest, which is good by another one.

    Args:
        codes: each once.
        times: how many values have each.

    Returns:
        None where too few values have it, or where, zeros aside, all codes are known: these are bad.
    """
    total, most = sum(times), max(times, default=0)
    others = [code for code in codes if str(code).strip() != "0"]
    if total < ENOUGH or 2 * most <= total or (others and all(map(is_known_code, others))):
        return None
    return times.index(most)


def is_known_word(word: str) -> bool:
    """Whether a text of quality says something; any other counts as bad for want of a meaning."""
    word = word.strip().lower()
    if _WORD_CODE.fullmatch(word) or _CLOSING_CODE.search(word):
        return True
    return word.removeprefix("status").startswith((*GOOD_WORDS, *UNCERTAIN_WORDS, *_BAD_WORDS))


def _words(found: Any, grade: Callable[[int], int]) -> int:
    """The verdict of a text or a boolean; a text of a number is graded as the number."""
    if type(found) is bool:
        return 0 if found else 2
    if type(found) is float and found.is_integer():
        return grade(int(found))
    if type(found) is not str:
        return 0 if found is None else 2
    word = found.strip().lower()
    if number := _WORD_CODE.fullmatch(word):
        if not number[1].startswith("0x"):
            return grade(int(number[1]))
        return (grade if grade is _opc_da else _opc_ua)(int(number[1], 0))
    if code := _CLOSING_CODE.search(word):  # "... StatusBadNodeIDUnknown (0x80340000)"
        return _opc_ua(int(code[1], 0))
    word = word.removeprefix("status")
    if word.startswith(GOOD_WORDS):
        return 0
    return 1 if word.startswith(UNCERTAIN_WORDS) else 2
