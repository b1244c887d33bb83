"""One line for what is wrong with a configuration, with the nearest known key where a key is unknown."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from daemon.config.sections import ENV_PREFIX, SensorSection, Settings
from daemon.documents import SHOWN, shown


def explain(error: ValidationError) -> str:
    """The first problem of a validation as one line: the key, the rule, and the value unless it is in the rule."""
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(part if len(part) <= SHOWN else f"{part[:SHOWN]} ..." for part in path) or "configuration"
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}{nearest(path)}"
    if first["type"] == "missing":
        return f"{key} is missing"
    message = first["msg"].removeprefix("Value error, ")
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
