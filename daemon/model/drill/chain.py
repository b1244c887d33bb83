"""What judges a fault: detector, alarm policy, the stream's own rules and its hop, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from daemon.domain import (
    Ints,
)

Progress = Callable[[float, str], None]
"""Called with the share done and what is being done."""


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """What the stream finds without a score; rows."""

    stuck_rows: (
        Ints  # (C,) rows for which a sensor stands still before ``sensor_stuck``; see ``sensor_stuck``
    )
    silent_rows: int  # rows without a value before ``sensor_silent``
    lasting_rows: int  # how long such a fault lasts
