"""Messages read by a mapping, and what is in them as values that can be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from daemon.config.sections import StreamSection
from daemon.domain import Reading, Record, Rejected, Skipped
from daemon.stream.decoding import Decoder

ARRIVED_NS = 1_798_800_000_000_000_000  # 2027-01-01T10:40:00Z: after every time in a test
Cell = tuple[str, str, int, float | None]
"""Asset, sensor, event time in nanoseconds, value; None: missing."""


def stream(sensors: Any, input: dict[str, Any] | None = None, **more: Any) -> StreamSection:
    """A stream whose messages are mapped."""
    return StreamSection(name="s", topics=("t",), sensors=sensors, input=input, **more)


def as_record(
    message: Any, key: bytes | None = None, headers: Sequence[tuple[str, bytes | None]] = (), topic: str = "t"
) -> Record:
    """A record with a message: bytes as they are, anything else as JSON."""
    value = message if isinstance(message, bytes) else json.dumps(message).encode()
    return Record(0, key, value, ARRIVED_NS, headers, topic)


def decoded(section: StreamSection, record: Record) -> list[Reading | Rejected | Skipped]:
    """What is in a record."""
    return Decoder(section.spec()).decode_all([record])


def cells(section: StreamSection, found: Sequence[Reading | Rejected | Skipped]) -> list[Cell]:
    """Every reported cell of the readings, in order; nothing may have been rejected or skipped."""
    names = tuple(section.sensors)
    made: list[Cell] = []
    for reading in found:
        assert isinstance(reading, Reading), reading
        assert reading.values is not None
        for place, name in enumerate(names):
            if reading.reported >> place & 1:
                value = reading.values[place]
                made.append((reading.asset, name, reading.time_ns, None if math.isnan(value) else value))
    return made


def read(section: StreamSection, message: Any, **record: Any) -> list[Cell]:
    """The cells of a message."""
    return cells(section, decoded(section, as_record(message, **record)))


def refusal(section: StreamSection, message: Any, **record: Any) -> tuple[str, str]:
    """The reason and the detail of a message that is rejected; ``skipped`` and the rule of one that is skipped."""
    (found,) = decoded(section, as_record(message, **record))
    if isinstance(found, Skipped):
        return "skipped", found.rule
    assert isinstance(found, Rejected), found
    return found.reason.value, found.detail
