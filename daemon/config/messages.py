"""One line for what is wrong with a configuration, with the nearest known key where a key is unknown."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from daemon.config.sections import ENV_PREFIX, SensorSection, Settings
from daemon.documents import SHOWN, shown

_RULES = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number that is less long",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be a text",
    "string_pattern_mismatch": "must be written as {pattern}",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys",
    "model_type": "must be a mapping of keys",
    "path_type": "must be a path",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must have at least {min_length} of it, not {actual_length}",
    "too_long": "must have at most {max_length} of it, not {actual_length}",
}
"""The rules of pydantic in the words of the other messages, by the type of its errors."""
_TIMES = ("datetime_", "timezone_")
"""How the types of errors in times begin."""


def place_of(error: ValidationError) -> list[str]:
    """The keys to the first problem of a validation; of a key that is missing, those to where it belongs."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    return path[:-1] if first["type"] == "missing" else path


def _rule(first: ErrorDetails) -> str:
    """The rule that was broken, in plain words."""
    kind = first["type"]
    if kind.startswith(_TIMES):
        return "must be a time, as 2026-01-31T08:00:00Z"
    if kind in _RULES:
        limits = first.get("ctx", {}).items()
        return _RULES[kind].format(
            **{k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in limits}
        )
    return first["msg"].removeprefix("Value error, ")


def explain(error: ValidationError) -> str:
    """The first problem of a validation as one line: the key, the rule, and the value unless it is in the rule."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(part if len(part) <= SHOWN else f"{part[:SHOWN]} ..." for part in path) or "configuration"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(path)}"
    if first["type"] == "missing":
        few = f"{'.'.join(path[:-1])}: must have more than {path[-1]} entries"
        return few if path[-1].isdigit() else f"{key} is missing"
    message = _rule(first)
    given = first.get("input")
    quoted = isinstance(given, (dict, list, BaseModel)) or shown(given) in message
    return f"{key}: {message}" + ("" if quoted else f" (got {shown(given)})")


def known_keys(path: Sequence[str]) -> list[str]:
    """The keys that exist beside the last part of ``path``."""
    model: Any = Settings
    for part in path[:-1]:
        if part.isdigit():
            continue
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return []
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if model is None:
            return []
        if model is SensorSection and path[-1] not in SensorSection.model_fields:
            return list(SensorSection.model_fields)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def nearest(path: Sequence[str]) -> str:
    """``; did you mean ...?`` for a misspelt key."""
    keys = known_keys(path)
    close = difflib.get_close_matches(path[-1], keys, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(keys)}" if keys else ""


def unknown_environment() -> list[str]:
    """ANOMALYD_ variables that name no key: pydantic-settings ignores those at the top level."""
    known = {name.upper() for name in Settings.model_fields}
    full = [
        f"{name.upper()}__{key.upper()}"
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        for key in field.annotation.model_fields
    ]
    problems = []
    for name in sorted(os.environ):
        if not name.startswith(ENV_PREFIX):
            continue
        head = name.removeprefix(ENV_PREFIX).split("__")[0]
        if head not in known and head not in {"REQUIRE_KAFKA", "REQUIRE_BROWSER", "REQUIRE_ALL"}:
            rest = name.removeprefix(ENV_PREFIX)
            close = difflib.get_close_matches(rest, [*full, *sorted(known)], n=1, cutoff=0.5)
            hint = f"; did you mean {ENV_PREFIX}{close[0]}?" if close else ""
            problems.append(f"environment variable {name} names no key{hint}")
    return problems
