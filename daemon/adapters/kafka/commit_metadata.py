"""The metadata string of a committed offset: where a successor must begin to replay.

A commit carries, beside the offset from which outputs are published, the earlier offset from which the
windows have to be rebuilt. So the input topic itself serves as the changelog of the windows.
"""

from __future__ import annotations

from daemon.domain import Position

METADATA_VERSION = "1"


def written_position(position: Position) -> str:
    """The metadata string for a position; far below the 4 kB that a broker accepts."""
    return f"{METADATA_VERSION};{position.replay_from}"


def replay_from(metadata: str, offset: int) -> int:
    """The offset to replay from, read from a commit's metadata; the committed offset if the metadata is not ours."""
    version, _, number = metadata.partition(";")
    if version != METADATA_VERSION or not number.isdecimal():
        return offset
    return min(int(number), offset)
