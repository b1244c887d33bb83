"""Whether a value is to be trusted: a bad one is a missing cell, whatever the number says; no statement is good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from daemon.domain import Record
from daemon.mapping import QualityRule
from daemon.stream.extract.paths import ABSENT, Scope
from daemon.stream.extract.sources import compile_sources

GOOD_WORDS: Final = ("good", "ok", "valid", "true", "normal")
UNCERTAIN_WORDS: Final = ("uncertain", "questionable", "suspect", "doubtful")
"""Beginnings of texts, in lower case, that say so; any other text is bad."""


def compile_quality(rule: QualityRule) -> Callable[[Scope, Record], bool]:
    """The function that says whether the value of an item is to be trusted."""
    read = compile_sources(rule.sources)
    code = rule.code or ("opc-ua" if "status" in rule.sources[0].text.lower() else None)
    grade = {"opc-ua": _opc_ua, "opc-da": _opc_da, "sparkplug": _opc_da, None: _plain}[code]
    keep_uncertain, good, bad = rule.uncertain == "keep", rule.good, rule.bad

    def trusted(scope: Scope, record: Record) -> bool:
        found = read(scope, record)
        if found is ABSENT or found is None:
            return True
        if type(found) is bytes:
            found = found.decode(errors="replace")
        if good or bad:
            if type(found) in (dict, list):
                return False
            return found in good if good else found not in bad
        verdict = grade(found)
        return verdict == 0 or (verdict == 1 and keep_uncertain)

    return trusted


def _opc_ua(found: Any) -> int:
    """0 good, 1 uncertain, 2 bad: the two top bits of a status code, or the beginning of its symbol."""
    if type(found) is dict:
        for name in ("Code", "code", "Symbol", "symbol", "StatusCode"):
            if name in found:
                return _opc_ua(found[name])
        return 0
    if type(found) is int:
        return min((found & 0xFFFFFFFF) >> 30, 2)
    return _words(found)


def _opc_da(found: Any) -> int:
    """0 good, 1 uncertain, 2 bad: 192 and above, 64 to 191, below (OPC DA); Sparkplug's stale, 500, is bad."""
    if type(found) is int:
        return 2 if found < 64 or found == 500 else 1 if found < 192 else 0
    return _words(found)


def _plain(found: Any) -> int:
    if type(found) is bool:
        return 0 if found else 2
    if type(found) is int:
        return _opc_da(found) if found <= 255 or found == 500 else _opc_ua(found)
    return _opc_ua(found) if type(found) is dict else _words(found)


def _words(found: Any) -> int:
    if type(found) is bool:
        return 0 if found else 2
    if type(found) is str:
        word = found.strip().lower()
        if word.lstrip("0x").isdigit() or word.isdigit():
            return _plain(int(word, 0) if word.startswith("0x") else int(word))
        if word.startswith(GOOD_WORDS):
            return 0
        return 1 if word.startswith(UNCERTAIN_WORDS) else 2
    return 2
