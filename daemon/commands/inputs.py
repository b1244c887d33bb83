"""What every command over files is given: how its files are read, and where progress is reported.

The options of such a command are a frozen dataclass over ``FileOptions``; ``daemon.cli`` makes it from the
arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """How a command reads its files; the base of the options of every such command."""

    config: Path | None = None  # None: the configuration is derived from the file
    sets: Sequence[str] = ()  # ``key=value`` each, over the configuration
    exclude: Sequence[str] = ()  # columns that are no sensors
    stream_name: str | None = None  # a stream of the configuration; None: its only one


def no_progress(share: float, doing: str) -> None:
    """Progress that is reported nowhere."""
