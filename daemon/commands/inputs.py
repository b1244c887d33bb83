"""What every command over files is given: how its files are read, and where progress is reported.

The options of such a command are a frozen dataclass over ``FileOptions``; ``daemon.cli`` makes it from the
arguments. ``chosen_stream`` is the stream of the configuration that a file or topic holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from daemon.config import Settings, StreamSection
from daemon.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """How a command reads its files; the base of the options of every such command."""

    config: Path | None = None  # None: the configuration is derived from the file
    sets: Sequence[str] = ()  # ``key=value`` each, over the configuration
    exclude: Sequence[str] = ()  # columns that are no sensors
    stream_name: str | None = None  # a stream of the configuration; None: its only one


def chosen_stream(settings: Settings, name: str | None) -> StreamSection:
    """The stream of the configuration that is named, or the only one.

    Raises:
        ConfigError: the configuration has several streams and none was named, or none of that name.
    """
    streams = {stream.name: stream for stream in settings.streams}
    if name is None and len(streams) > 1:
        raise ConfigError(
            f"the configuration has {len(streams)} streams: name one with --stream ({', '.join(streams)})"
        )
    if name is not None and name not in streams:
        raise ConfigError(f"the configuration has no stream {name!r}; it has {', '.join(streams)}")
    return streams[name] if name is not None else settings.streams[0]


def no_progress(share: float, doing: str) -> None:
    """Progress that is reported nowhere."""
