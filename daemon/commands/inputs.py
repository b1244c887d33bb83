"""What every command over files is given: how its files are read, and where progress is reported.

The options of such a command are a frozen dataclass over ``FileOptions``; ``daemon.cli`` makes it from the
arguments. ``chosen_stream`` is the stream of the configuration that a file or topic holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from daemon.adapters.files import Table, TableReading, is_lines, read_table
from daemon.config import Settings, StreamSection
from daemon.domain import StreamSpec, zone_of
from daemon.errors import ConfigError, UsageError

__all__ = [
    "FileOptions",
    "TableReading",
    "check_reading",
    "chosen_stream",
    "no_progress",
    "reading_of",
    "table_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """How a command reads its files; the base of the options of every such command."""

    config: Path | None = None  # None: the configuration is derived from the file
    sets: Sequence[str] = ()  # ``key=value`` each, over the configuration
    exclude: Sequence[str] = ()  # columns that are no sensors
    stream_name: str | None = None  # a stream of the configuration; None: its only one
    reading: TableReading = field(default_factory=TableReading)  # how its tables are read


def reading_of(
    times: Sequence[str],
    asset: str | None,
    sensor: str | None,
    value: str | None,
    timezone: str | None,
    day_first: bool | None,
) -> TableReading:
    """How a table is read, from the options of a command.

    Args:
        times: the column of times, or those of the date and of the time of day; none: not said.
        asset: the column of assets; None: not said.
        sensor: of a long table, the column of sensors; None: not said.
        value: of a long table, the column of values; None: not said.
        timezone: of times that name no zone.
        day_first: whether 02/03/2026 is the second of March.

    Raises:
        UsageError: there is no such time zone.
    """
    try:
        zone_of(timezone)
    except ValueError as error:
        raise UsageError(f"--tz {error}") from error
    return TableReading(tuple(times), asset, sensor, value, timezone, day_first)


def check_reading(reading: TableReading, path: Path) -> None:
    """Refuse columns that are named for a file that has none.

    Raises:
        UsageError: the file is JSON.
    """
    if reading.names_columns and is_lines(path):
        raise UsageError(
            f"{path}: is JSON: --time, --asset, --sensor and --value name columns of a table; the fields of messages"
            " are named in the configuration"
        )


def table_of(path: Path, spec: StreamSpec, exclude: Sequence[str], reading: TableReading) -> Table:
    """A table of a stream, read as the options and the configuration say.

    Raises:
        DaemonError: it cannot be read.
    """
    return read_table(path, exclude, spec.condition, reading=reading.of(spec))


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
