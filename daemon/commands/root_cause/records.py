"""Files about past episodes: alerts as they were published, and verdicts of operators; both are JSON Lines.

In: a path. Out: ``Incident`` values, or verdict and note by fingerprint. A line that is not one is an
``InputError`` with its number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from daemon.domain import (
    AlertKind,
    Contributor,
)
from daemon.errors import InputError
from daemon.model.root_cause import Incident
from daemon.stream.timestamps import event_time_ns


def read_alerts(path: Path) -> list[Incident]:
    """The anomaly episodes of an ``alerts.jsonl``, or of the alerts topic written to a file.

    Raises:
        InputError: the file cannot be read, or a line of it is no alert.
    """
    by: dict[str, Incident] = {}
    for line, message in _lines(path):
        try:
            data = message["data"]
            if AlertKind.ANOMALY.value not in data.get("kinds", [data["kind"]]):
                continue
            if data["status"] == "suppressed":
                continue
            known = by.get(data["fingerprint"])
            contributors = [
                Contributor(c["sensor"], c["observed"], c["expected"], float(c["share"]))
                for c in data["contributors"]
            ]
            by[data["fingerprint"]] = Incident(
                message["subject"],
                data["fingerprint"],
                (*(known.ids if known else ()), message["id"]),
                event_time_ns(data["onset"]),
                event_time_ns(data["opened"]),
                event_time_ns(data["row"]),
                data["status"] == "resolved",
                event_time_ns(data["row"]),
                contributors or (known.contributors if known else ()),
            )
        except Exception as error:
            raise InputError(f"{path}: line {line} is no alert message: {type(error).__name__}") from error
    return list(by.values())


def read_feedback(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """By fingerprint, the verdict and the note of an operator. Of several lines the last one counts.

    Raises:
        InputError: the file cannot be read, or a line of it has no fingerprint.
    """
    found: dict[str, tuple[str | None, str | None]] = {}
    for line, message in _lines(path):
        if not isinstance(message.get("fingerprint"), str):
            raise InputError(f"{path}: line {line} has no fingerprint")
        verdict, note = message.get("verdict"), message.get("note")
        found[message["fingerprint"]] = (
            None if verdict is None else str(verdict),
            None if note is None else str(note),
        )
    return found


def _lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The lines of a JSON Lines file that hold something, with their numbers from 1 on.

    Raises:
        InputError: the file cannot be read, or a line is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read: it is no text in UTF-8") from error
    found = []
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            message = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}: line {i} is no JSON") from error
        if not isinstance(message, dict):
            raise InputError(f"{path}: line {i} is no JSON object")
        found.append((i, message))
    return found
