"""The JSON results of a run: files with one message per line, dead letters, and the summary."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from daemon.adapters.files.lines_source import Oversized
from daemon.adapters.files.writing import GrowingFile, replacing, unwritable
from daemon.domain import Reason, Rejected
from daemon.stream.encoding import kept


class JsonLines(GrowingFile):
    """``alerts.jsonl``, ``drift.jsonl``, ``dead-letter.jsonl``: one JSON message per line.

    A context: the file appears, even when empty, if the block ends without an error. ``lines`` counts the
    messages written so far.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.lines = 0
        try:
            self._file = self._target.temporary.open("wb")
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, message: bytes | Mapping[str, Any]) -> None:
        """Append one message, encoded already or not; numbers that are not finite become null."""
        line = message if isinstance(message, bytes) else msgspec.json.encode(message)
        assert b"\n" not in line, "a message with a line break would be two lines"
        try:
            self._file.write(line + b"\n")
        except OSError as error:
            raise unwritable(self._path, error) from error
        self.lines += 1

    def finish(self, whole: bool) -> None:
        self._file.close()


def dead_letter(rejected: Rejected, oversized: Mapping[int, Oversized] | None = None) -> dict[str, Any]:
    """One line of ``dead-letter.jsonl``: where, why, and the original in base64.

    A long original is cut as in the message to the dead-letter topic, and its true length and SHA-256 are
    added.

    Args:
        rejected: the record and the reason.
        oversized: length and hash of lines that ``LinesSource`` did not keep whole, by line number.
    """
    value = rejected.record.value
    detail = rejected.detail
    whole = (oversized or {}).get(rejected.record.offset)
    if whole is not None and rejected.reason is Reason.TOO_LARGE:
        detail = detail.replace(
            str(len(value)), str(whole.length), 1
        )  # the decoder saw only the part that was kept
    line: dict[str, Any] = {
        "line": rejected.record.offset,
        "reason": rejected.reason.value,
        "detail": detail,
        "original": base64.b64encode(kept(value)).decode("ascii"),
    }
    if len(kept(value)) < len(value):
        if whole is None:
            whole = Oversized(len(value), hashlib.sha256(value).hexdigest())
        line |= {"length": whole.length, "sha256": whole.sha256}
    return line


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write ``summary.json``, indented; numbers that are not finite become null.

    Raises:
        DaemonError: it cannot be written.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        raise TypeError(f"summary: {type(value).__name__} has no JSON")

    text = msgspec.json.format(msgspec.json.encode(summary, enc_hook=plain), indent=2)
    with replacing(path) as temporary:
        temporary.write_bytes(text + b"\n")
